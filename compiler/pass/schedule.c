/* schedule.c -- the order of kernels, chosen for memory.
 *
 * Among the kernels that are ready, one that frees at least what it allocates goes first, the one that frees most
 * before the others; if there is none, the next in the given order. So a weight gradient runs as soon as its operands
 * exist and lets go of an activation. Updates keep their place at the end, behind whatever an output needs, so that a
 * step can be stopped before them; a graph without outputs has nothing to wait for, and its updates run as soon as what
 * they write over has been read.
 * Parameters, states and what is written over them count for nothing; sizes are taken at a typical batch.
 *
 * A kernel that computes something again (pass/remat.c) is never chosen for itself: it runs right before the first kernel that
 * needs it, and that kernel's cost is that of both. */
#include "pass/fuse.h"

typedef struct {
    const Fused *f;
    KernelDeps deps;
    double *bytes;                   /* by tensor; 0 for what is not a temporary */
    int *readers;                    /* by tensor: kernels that read it and have not run */
    int *here;                       /* by tensor: of those, kernels of the turn */
    bool *alive, *keep;              /* keep: outputs stay */
    bool *done;                      /* by kernel */
    int *turn, n_turn;               /* kernels to run next, the last of them for itself */
} Memory;

/* Adds kernel k to the turn, and before it what it needs computed again. False: something else must run first. */
static bool take_turn(Memory *m, int k)
{
    for (int i = 0; i < m->n_turn; i++)
        if (m->turn[i] == k)
            return true;
    for (int i = 0; i < m->deps.pred[k].n; i++) {
        int p = m->deps.pred[k].at[i];
        if (!m->done[p] && (!m->f->kernel[p].again || !take_turn(m, p)))
            return false;
    }
    m->turn[m->n_turn++] = k;
    return true;
}

/* What the turn allocates less what it frees. */
static double cost(const Memory *m)
{
    double c = 0;
    for (int x = 0; x < m->n_turn; x++) {
        const Kernel *k = &m->f->kernel[m->turn[x]];
        for (int i = 0; i < k->n_writes; i++)
            if (!m->alive[k->writes[i]])
                c += m->bytes[k->writes[i]];
        for (int i = 0; i < k->n_reads; i++) {
            int t = k->reads[i];
            if (++m->here[t] == m->readers[t] && !m->keep[t])
                c -= m->bytes[t];
        }
    }
    for (int x = 0; x < m->n_turn; x++) {
        const Kernel *k = &m->f->kernel[m->turn[x]];
        for (int i = 0; i < k->n_reads; i++)
            m->here[k->reads[i]] = 0;
    }
    return c;
}

static bool updates(const Fused *f, const Kernel *k)
{
    for (int i = 0; i < k->n_writes; i++)
        if (f->graph->tensor[f->storage[k->writes[i]]].kind != T_TEMP)
            return true;
    return false;
}

/* The next turn among kernels from .. to - 1; false: there is none. */
static bool choose(Memory *m, const int *waits, int from, int to, bool in_order)
{
    int best = -1;
    double best_cost = 0;
    for (int i = from; i < to; i++) {
        if (m->done[i] || m->f->kernel[i].again || waits[i])
            continue;
        m->n_turn = 0;
        if (!take_turn(m, i))
            continue;
        if (in_order)
            return true;
        double c = cost(m);
        if (best < 0 || (c <= 0 && (best_cost > 0 || c < best_cost))) {
            best = i;
            best_cost = c;
        }
    }
    m->n_turn = 0;
    return best >= 0 && take_turn(m, best);
}

void schedule(Fused *f)
{
    enum { SIZED_FOR = 64 };
    Arena a = { 0 };
    const Graph *g = f->graph;
    int n = f->n_kernel, t_all = g->n_tensor, first_update = n, at = 0;
    Memory m = { .f = f, .deps = kernel_deps(f, &a), .bytes = NEWN(&a, double, t_all), .readers = NEWN(&a, int, t_all),
                 .here = NEWN(&a, int, t_all), .alive = NEWN(&a, bool, t_all), .keep = NEWN(&a, bool, t_all),
                 .done = NEWN(&a, bool, n), .turn = NEWN(&a, int, n) };
    Ints *next = NEWN(&a, Ints, n);
    int *waits = NEWN(&a, int, n);                             /* for kernels that are not computed again */
    Kernel *out = NEWN(&a, Kernel, n);
    for (int t = 0; t < t_all; t++)
        if (g->tensor[f->storage[t]].kind == T_TEMP)
            m.bytes[t] = (double)poly_at(tensor_bytes(g, t), SIZED_FOR);
    for (int i = 0; i < g->n_output; i++)
        m.keep[g->output[i].tensor] = true;
    for (int i = n - 1; i >= 0; i--) {
        for (int j = 0; j < m.deps.pred[i].n; j++) {
            int p = m.deps.pred[i].at[j];
            PUSH(&a, next[p], i);
            waits[i] += !f->kernel[p].again;
        }
        for (int j = 0; j < f->kernel[i].n_reads; j++)
            m.readers[f->kernel[i].reads[j]]++;
        if (g->n_output && updates(f, &f->kernel[i]))
            first_update = i;
    }
    while (at < n) {                                           /* the optimiser keeps its order */
        bool late = at >= first_update;
        if (!choose(&m, waits, late ? first_update : 0, late ? n : first_update, late))
            break;                                             /* a kernel of the first part needs an update: keep the order */
        for (int x = 0; x < m.n_turn; x++) {
            const Kernel *k = &f->kernel[m.turn[x]];
            m.done[m.turn[x]] = true;
            out[at++] = *k;
            for (int j = 0; j < next[m.turn[x]].n; j++)
                waits[next[m.turn[x]].at[j]] -= !k->again;
            for (int j = 0; j < k->n_writes; j++)
                m.alive[k->writes[j]] = true;
            for (int j = 0; j < k->n_reads; j++)
                m.readers[k->reads[j]]--;
        }
    }
    for (int i = 0; i < n && at == n; i++)
        f->kernel[i] = out[i];
    arena_free(&a);
}

/* Is tensor t, which `reader` wants, what its buffer holds? holds: by storage, the tensor that was written last, -1 for none. */
static bool found(const Fused *f, const int *holds, int t, const char *reader, Text *why)
{
    const Tensor *tensor = f->graph->tensor;
    int is = holds[f->storage[t]];
    if (is == t)
        return true;
    text_printf(why, "after scheduling: %s wants tensor %d (`%s`), ", reader, t, tensor[t].name);
    if (is < 0)
        text_printf(why, "which nobody has written");
    else
        text_printf(why, "over which tensor %d (`%s`) was written", is, tensor[is].name);
    return false;
}

bool schedule_verify(const Fused *f, Text *why)
{
    Arena a = { 0 };
    const Graph *g = f->graph;
    int *holds = NEWN(&a, int, g->n_tensor);
    bool good = true;
    for (int t = 0; t < g->n_tensor; t++)
        holds[t] = g->tensor[t].kind == T_TEMP ? -1 : t;
    for (int i = 0; i < f->n_kernel && good; i++) {
        const Kernel *k = &f->kernel[i];
        const char *reader = arena_printf(&a, "kernel %d (%s, %s)", i, kernel_class_name[k->cls], k->label);
        for (int j = 0; j < k->n_reads && good; j++)
            good = found(f, holds, k->reads[j], reader, why);
        for (int j = 0; j < k->n_writes; j++)
            holds[f->storage[k->writes[j]]] = k->writes[j];
    }
    for (int i = 0; i < g->n_output && good; i++)
        good = found(f, holds, g->output[i].tensor, arena_printf(&a, "output `%s`", g->output[i].name), why);
    arena_free(&a);
    return good;
}
