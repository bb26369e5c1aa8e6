/* run.c -- kernel by kernel in the interpreter: the proof of what kernels declare.
 *
 * Each kernel sees only the tensors it says it reads, in the buffers that storage says, and only what it says it
 * writes survives it, again in those buffers. So a read or a write that is not declared, an order that is not legal,
 * or an update that destroys something still wanted, shows as a wrong number or an error. A tensor of several pieces
 * is put together from the boxes its kernels write. */
#include "pass/fuse.h"
#include <string.h>

typedef struct {
    const Graph *g;
    int64_t batch;
    double *to;
    const double *from;
    int rank;
    Ext extent[MAX_RANK];
    Box box[MAX_RANK];
} BoxCopy;

static int64_t number(Ext n, int64_t batch)
{
    return n == EXT_BATCH ? batch : n;
}

static void copy_box(const BoxCopy *b, int d, int64_t at)
{
    if (d == b->rank) {
        b->to[at] = b->from[at];
        return;
    }
    int64_t n = number(b->box[d].n, b->batch);
    for (int64_t i = 0; i < n; i++)
        copy_box(b, d + 1, at * number(b->extent[d], b->batch) + b->box[d].lo + i);
}

/* What members of k wrote of tensor t, into its lasting buffer. */
static void keep(const Fused *f, const Kernel *k, int t, int64_t batch, double *to, const double *from)
{
    const Tensor *x = &f->graph->tensor[t];
    for (int i = 0; i < k->n_comp; i++) {
        BoxCopy b = { .g = f->graph, .batch = batch, .to = to, .from = from, .rank = x->rank };
        if (k->comp[i].out != t)
            continue;
        memcpy(b.extent, x->shape, sizeof b.extent);
        if (k->comp[i].reducer == RED_SCATTER)
            memcpy(to, from, (size_t)tensor_count(f->graph, t, batch) * sizeof *to);
        else if (store_box(k->comp[i].store, x->rank, k->comp[i].ext, b.box))
            copy_box(&b, 0, 0);
    }
}

/* Many maps: the form on the tensors of each, with as many points as it has. */
static bool run_sets(const Fused *f, const Kernel *k, double *const *buffer, const Env *env, Text *why)
{
    Fused *form = k->sets->form;
    const Kernel *one = &form->kernel[0];
    bool good = true;
    for (int s = 0; s < k->sets->n && good; s++) {
        Arena scratch = { 0 };
        Graph part = *form->graph;
        const int *args = k->args + s * one->n_args;
        Env seen = { NEWN(&scratch, double *, part.n_tensor), k->sets->size[s] };
        part.comp = NEWN(&scratch, Comp *, one->n_comp);
        part.n_comp = part.cap_comp = one->n_comp;
        for (int i = 0; i < one->n_comp; i++)
            part.comp[i] = &one->comp[i];
        for (int i = 0; i < one->n_args; i++)
            if (part.tensor[one->args[i]].kind == T_INPUT)
                seen.value[one->args[i]] = buffer[f->storage[args[i]]];
        good = interp_run(&part, &seen, &scratch, why);
        for (int i = 0; i < one->n_args && good; i++)
            if (part.tensor[one->args[i]].kind == T_TEMP) {
                double *to = buffer[f->storage[args[i]]];
                memcpy(to + k->sets->at[s], seen.value[one->args[i]],
                       (size_t)tensor_count(&part, one->args[i], seen.batch) * sizeof *to);
                env->value[args[i]] = to;
            }
        arena_free(&scratch);
    }
    return good;
}

bool kernel_run(Fused *f, int at, double **buffer, Env *env, Arena *a, Text *why)
{
    Graph *g = f->graph;
    Kernel *k = &f->kernel[at];
    Arena scratch = { 0 };
    Graph part = *g;                                           /* the same tables, the kernel's Comps; what it reads is an input to it */
    Env seen = { NEWN(&scratch, double *, g->n_tensor), env->batch };
    bool good = true;
    part.tensor = NEWN(&scratch, Tensor, g->n_tensor);
    memcpy(part.tensor, g->tensor, (size_t)g->n_tensor * sizeof *part.tensor);
    part.comp = NEWN(&scratch, Comp *, k->n_comp);
    part.n_comp = part.cap_comp = k->n_comp;
    part.n_output = part.n_update = 0;
    for (int j = 0; j < k->n_comp; j++)
        part.comp[j] = &k->comp[j];
    for (int j = 0; j < k->n_reads && good; j++) {
        int t = k->reads[j];
        seen.value[t] = buffer[f->storage[t]];
        part.tensor[t].kind = T_INPUT;
        good = seen.value[t] != NULL;
        if (!good)
            text_printf(why, "kernel %d (%s, %s) reads `%s`, which nobody has written", at, kernel_class_name[k->cls], k->label,
                        g->tensor[t].name);
    }
    for (int j = 0; j < k->n_writes && good; j++) {
        int t = k->writes[j], s = f->storage[t];
        if (!buffer[s])
            buffer[s] = NEWN(a, double, tensor_count(g, t, env->batch));
    }
    good = good && (k->sets ? run_sets(f, k, buffer, env, why) : interp_run(&part, &seen, &scratch, why));
    for (int j = 0; j < k->n_writes && good && !k->sets; j++) {
        int t = k->writes[j];
        keep(f, k, t, env->batch, buffer[f->storage[t]], seen.value[t]);
        env->value[t] = buffer[f->storage[t]];
    }
    arena_free(&scratch);
    return good;
}

bool fused_run(Fused *f, Env *env, Arena *a, Text *why)
{
    Graph *g = f->graph;
    double **buffer = NEWN(a, double *, g->n_tensor);          /* by storage */
    bool good = true;
    for (int t = 0; t < g->n_tensor; t++)
        if (env->value[t]) {
            int64_t n = tensor_count(g, t, env->batch);
            buffer[t] = NEWN(a, double, n);
            memcpy(buffer[t], env->value[t], (size_t)n * sizeof *buffer[t]);
        }
    for (int i = 0; i < f->n_kernel && good; i++)
        good = kernel_run(f, i, buffer, env, a, why);
    return good;
}
