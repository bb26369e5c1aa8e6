/* sets.c -- many maps, or totals, of one form: one launch, whose tasks are pieces of all of them, of equal size but for the last of
 * each.
 *
 * The form of maps is lowered as the MAP it is, into a function of a set's arguments and its number of points; that of totals into
 * one that leaves the total of a piece in the workspace. Around it stands the kernel: which set and which piece a task is, it finds
 * in a table of the first tasks of all sets. A second launch joins the pieces of each total. What a piece is depends on sizes alone,
 * so the result does not depend on the number of threads. */
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

/* First tasks of all sets, and behind them how many tasks there are. */
static int64_t *cut(Low *l)
{
    const Sets *sets = l->sets;
    int64_t *first = NEWN(l->arena, int64_t, sets->n + 1);
    for (int i = 0; i < sets->n; i++)
        first[i + 1] = first[i] + (sets->size[i] + MAP_TASK_POINTS - 1) / MAP_TASK_POINTS;
    return first;
}

/* Piece `task` of a set, by `run`, a function as kernels are; `at`, where a task's own result goes, is its scratch (NULL: the task's). */
static void run_piece(Low *l, V run, const int64_t *first, V at)
{
    Gen *g = l->g;
    const Sets *sets = l->sets;
    V firsts = table(l, arena_printf(l->arena, "%s_first", l->name), first, sets->n);
    V sizes = table(l, arena_printf(l->arena, "%s_size", l->name), sets->size, sets->n);
    V set = find(g, firsts, sets->n, g->task);
    V from = load(g, g->t->i64, gep(g, g->t->i64, firsts, set), 8);
    V arg[] = {gep(g, g->t->ptr, g->bufs, i_mul(g, set, ic(g, l->k->n_args))), load(g, g->t->i64, gep(g, g->t->i64, sizes, set), 8),
               i_sub(g, g->task, from), at ? at : g->scratch};
    LLVMBuildCall2(g->b, LLVMGlobalGetValueType(run), run, arg, 4, "");
}

/* ---- totals */

enum { ACROSS = 4 };                   /* vectors of accumulators */

static void take_point(void *ctx, Scope *s, int part, V *carry)
{
    Low *l = s->l;
    V x = to_f(s, eval_member(s, l->member[0].c));
    *carry = acc_take(l->g, l->member[0].c->reducer, (Acc){{*carry}}, x, NULL, s->mask).v[0];
}

static void take_partial(void *ctx, Scope *s, int part, V *carry)
{
    Gen *g = s->l->g;
    V from = gep(g, g->t->f32, ctx, scope_axis(s, 0));
    V x = s->mask ? llvm_masked_load(g->t, g->b, g->t->vf, from, s->mask) : load(g, g->t->vf, from, 4);
    *carry = acc_take(g, s->l->member[0].c->reducer, (Acc){{*carry}}, x, NULL, s->mask).v[0];
}

/* All that `body` takes from lo to hi, in every lane. */
static V total(Low *l, V lo, V hi, LaneBody body, void *ctx)
{
    Gen *g = l->g;
    Reducer r = l->member[0].c->reducer;
    Scope root;
    V carry[ACROSS];
    scope_root(&root, l);
    for (int p = 0; p < ACROSS; p++)
        carry[p] = acc_empty(g, r).v[0];
    lane_loop(&root, 0, lo, hi, ACROSS, body, ctx, carry, 1);
    Acc all = {{carry[0]}};
    for (int p = 1; p < ACROSS; p++)
        all = acc_join(g, r, all, (Acc){{carry[p]}});
    return lane(g, acc_across(g, r, all).v[0], 0);
}

static bool lower_totals(Low *l)
{
    Gen *g = l->g;
    const Sets *sets = l->sets;
    const int64_t *first = cut(l);
    int64_t tasks = first[sets->n];
    int out = 0, n_args = l->k->n_args, all_args = n_args * sets->n;
    while (l->k->args[out] != l->k->comp[0].out)
        out++;
    l->out->workspace = poly_const(tasks);
    gen_kernel(g, arena_printf(l->arena, "k%d_total", l->m->kernels.n));
    V piece = g->fn, from = i_mul(g, g->task, ic(g, MAP_TASK_POINTS)), to = i_min(g, g->batch, i_add(g, from, ic(g, MAP_TASK_POINTS)));
    store(g, total(l, from, to, take_point, NULL), g->scratch, 4);
    gen_end(g, NULL);

    launch_begin(l, "sets");
    run_piece(l, piece, first, gep(g, g->t->f32, gen_buffer(g, all_args), g->task));
    launch_tasks(l);
    launch_end(l, ic(g, tasks));

    launch_begin(l, "join");
    V firsts = table(l, arena_printf(l->arena, "%s_first", l->name), first, sets->n + 1);
    V at = table(l, arena_printf(l->arena, "%s_at", l->name), sets->at, sets->n), set = g->task;
    from = load(g, g->t->i64, gep(g, g->t->i64, firsts, set), 8);
    to = load(g, g->t->i64, gep(g, g->t->i64, firsts, i_add(g, set, ic(g, 1))), 8);
    V sum = total(l, from, to, take_partial, gen_buffer(g, all_args));
    V result = load(g, g->t->ptr, gep(g, g->t->ptr, g->bufs, i_add(g, i_mul(g, set, ic(g, n_args)), ic(g, out))), 8);
    store(g, sum, gep(g, g->t->f32, result, load(g, g->t->i64, gep(g, g->t->i64, at, set), 8)), 4);
    launch_tasks(l);
    launch_end(l, ic(g, sets->n));
    return !l->failed;
}

bool lower_sets(Low *l)
{
    Gen *g = l->g;
    CpuModule *m = l->m;
    const int64_t *first = cut(l);
    if (l->k->cls == K_REDUCE)
        return lower_totals(l);
    if (!lower_map(l))
        return false;
    struct KernelFn *fn = &m->kernels.at[l->out->kernel[0]];       /* the table gets what stands around it */
    V map = fn->run;
    LLVMDeleteFunction(fn->tasks);
    l->name = arena_printf(l->arena, "%s_sets", l->name);
    gen_kernel(g, l->name);
    run_piece(l, map, first, NULL);
    fn->run = g->fn;
    launch_tasks(l);
    launch_end(l, ic(g, first[l->sets->n]));
    return !l->failed;
}
