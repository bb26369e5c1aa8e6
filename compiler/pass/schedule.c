/* schedule.c -- the order of kernels, chosen for memory.
 *
 * Among the kernels that are ready, one that frees at least what it allocates goes first, the one that frees most
 * before the others; if there is none, the next in the given order. So a weight gradient runs as soon as its operands
 * exist and lets go of an activation. Updates keep their place at the end, behind whatever an output needs, so that a
 * step can be stopped before them; a graph without outputs has nothing to wait for, and its updates run as soon as what
 * they write over has been read.
 * Parameters, states and what is written over them count for nothing; sizes are taken at a typical batch. */
#include "pass/fuse.h"

typedef struct {
    const Fused *f;
    double *bytes;                   /* by tensor; 0 for what is not a temporary */
    int *readers;                    /* by tensor: kernels that read it and have not run */
    bool *alive, *keep;              /* keep: outputs stay */
} Memory;

static double cost(const Memory *m, const Kernel *k)
{
    double c = 0;
    for (int i = 0; i < k->n_writes; i++)
        if (!m->alive[k->writes[i]])
            c += m->bytes[k->writes[i]];
    for (int i = 0; i < k->n_reads; i++)
        if (m->alive[k->reads[i]] && !m->keep[k->reads[i]] && m->readers[k->reads[i]] == 1)
            c -= m->bytes[k->reads[i]];
    return c;
}

static bool updates(const Fused *f, const Kernel *k)
{
    for (int i = 0; i < k->n_writes; i++)
        if (f->storage[k->writes[i]] != k->writes[i])
            return true;
    return false;
}

void schedule(Fused *f)
{
    enum { SIZED_FOR = 64 };
    Arena a = { 0 };
    const Graph *g = f->graph;
    int n = f->n_kernel;
    Memory m = { f, NEWN(&a, double, g->n_tensor), NEWN(&a, int, g->n_tensor), NEWN(&a, bool, g->n_tensor),
                 NEWN(&a, bool, g->n_tensor) };
    KernelDeps deps = kernel_deps(f, &a);
    Ints *next = NEWN(&a, Ints, n);
    int *waits = NEWN(&a, int, n), first_update = n;
    Kernel *out = NEWN(&a, Kernel, n);
    bool *done = NEWN(&a, bool, n);
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind == T_TEMP && f->storage[t] == t)
            m.bytes[t] = (double)poly_at(tensor_bytes(g, t), SIZED_FOR);
    for (int i = 0; i < g->n_output; i++)
        m.keep[g->output[i].tensor] = true;
    for (int i = n - 1; i >= 0; i--) {
        waits[i] = deps.pred[i].n;
        for (int j = 0; j < deps.pred[i].n; j++)
            PUSH(&a, next[deps.pred[i].at[j]], i);
        for (int j = 0; j < f->kernel[i].n_reads; j++)
            m.readers[f->kernel[i].reads[j]]++;
        if (g->n_output && updates(f, &f->kernel[i]))
            first_update = i;
    }
    for (int at = 0; at < n; at++) {
        int best = -1;
        double best_cost = 0;
        int from = at < first_update ? 0 : first_update, to = at < first_update ? first_update : n;
        for (int i = from; i < to; i++) {
            if (done[i] || waits[i])
                continue;
            if (from) {                                        /* the optimiser keeps its order */
                best = i;
                break;
            }
            double c = cost(&m, &f->kernel[i]);
            if (best < 0 || (c <= 0 && (best_cost > 0 || c < best_cost))) {
                best = i;
                best_cost = c;
            }
        }
        if (best < 0)
            break;                                             /* a kernel of the first part needs an update: keep the order */
        const Kernel *k = &f->kernel[best];
        done[best] = true;
        out[at] = *k;
        for (int j = 0; j < next[best].n; j++)
            waits[next[best].at[j]]--;
        for (int j = 0; j < k->n_writes; j++)
            m.alive[k->writes[j]] = true;
        for (int j = 0; j < k->n_reads; j++)
            m.readers[k->reads[j]]--;
    }
    bool all = true;
    for (int i = 0; i < n; i++)
        all &= done[i];
    for (int i = 0; i < n && all; i++)
        f->kernel[i] = out[i];
    arena_free(&a);
}
