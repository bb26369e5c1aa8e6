/* sets.c -- many maps of one form: one launch, whose tasks are pieces of all of them, of equal size but for the last of each.
 *
 * The form is lowered as the MAP it is, into a function of a set's arguments and its number of points. Around it stands the
 * kernel: which set and which piece a task is, it finds in a table of the first tasks of all sets. */
#include "cpu/lower.h"

/* A constant table of 64-bit integers, as a pointer to its first. */
static V table(Low *l, const char *name, const int64_t *at, int n)
{
    Gen *g = l->g;
    V *value = NEWN(l->arena, V, n);
    for (int i = 0; i < n; i++)
        value[i] = ic(g, at[i]);
    V global = LLVMAddGlobal(g->t->module, LLVMArrayType2(g->t->i64, (uint64_t)n), name);
    LLVMSetInitializer(global, LLVMConstArray2(g->t->i64, value, (uint64_t)n));
    LLVMSetGlobalConstant(global, 1);
    LLVMSetLinkage(global, LLVMInternalLinkage);
    LLVMSetAlignment(global, 64);
    return global;
}

/* The last of n entries (sorted, the first 0) that is at most `task`: halves of a power of two, without a branch. */
static V find(Gen *g, V first, int n, V task)
{
    V set = ic(g, 0);
    int step = 1;
    while (step * 2 < n)
        step *= 2;
    for (; n > 1 && step; step /= 2) {
        V next = i_add(g, set, ic(g, step)), at = i_min(g, next, ic(g, n - 1));
        V from = load(g, g->t->i64, gep(g, g->t->i64, first, at), 8);
        V beyond = LLVMBuildOr(g->b, i_less(g, task, from), i_less(g, at, next), "");
        set = select_(g, beyond, set, next);
    }
    return set;
}

bool lower_sets(Low *l)
{
    Gen *g = l->g;
    CpuModule *m = l->m;
    const Sets *sets = l->sets;
    if (!lower_map(l))
        return false;
    struct KernelFn *fn = &m->kernels.at[l->out->kernel[0]];       /* the table gets what stands around it */
    V map = fn->run;
    LLVMDeleteFunction(fn->tasks);
    int64_t *first = NEWN(l->arena, int64_t, sets->n), tasks = 0;
    for (int i = 0; i < sets->n; i++) {
        first[i] = tasks;
        tasks += (sets->size[i] + MAP_TASK_POINTS - 1) / MAP_TASK_POINTS;
    }
    gen_kernel(g, arena_printf(l->arena, "%s_sets", l->name));
    V firsts = table(l, arena_printf(l->arena, "%s_first", l->name), first, sets->n);
    V sizes = table(l, arena_printf(l->arena, "%s_size", l->name), sets->size, sets->n);
    V set = find(g, firsts, sets->n, g->task);
    V from = load(g, g->t->i64, gep(g, g->t->i64, firsts, set), 8);
    V arg[] = {gep(g, g->t->ptr, g->bufs, i_mul(g, set, ic(g, l->k->n_args))), load(g, g->t->i64, gep(g, g->t->i64, sizes, set), 8),
               i_sub(g, g->task, from), g->scratch};
    LLVMBuildCall2(g->b, LLVMGlobalGetValueType(map), map, arg, 4, "");
    fn->run = g->fn;
    l->name = arena_printf(l->arena, "%s_sets", l->name);
    launch_tasks(l);
    launch_end(l, ic(g, tasks));
    return !l->failed;
}
