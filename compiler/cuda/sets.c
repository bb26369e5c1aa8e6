/* sets.c -- many maps, or totals, of one form: one launch, whose blocks are pieces of all of them.
 *
 * The kernel has one argument, a table in the device's memory with the pointers of the first set, then of the second, ..., and of the
 * workspace; sizes and first blocks of the sets are constants of the text. A block finds its set, and goes on as a MAP does: four
 * neighbouring points a thread, 16 bytes at once, and one by one what is left at the end of a set. Of totals a block takes ROUNDS times
 * as many points and leaves one partial result; a second launch, a block a set, joins them in a fixed order. */
#include "cuda/lower.h"

enum { SET_THREADS = 256, ROUNDS = 8 };

static void table(Cu *l, const char *name, const char *what, const int64_t *at, int n)
{
    text_printf(&l->file, "TC_TABLE i32 %s_%s[%d] = {", name, what, n);
    for (int i = 0; i < n; i++)
        text_printf(&l->file, "%s%lld", i ? "," : "", (long long)at[i]);
    text_printf(&l->file, "};\n");
}

/* Tables of the sets; the first blocks of all, and behind them how many there are, of `per` points each. */
static int64_t tables(Cu *l, const char *name, int per)
{
    const Sets *sets = l->sets;
    int64_t *first = NEWN(l->arena, int64_t, sets->n + 1);
    for (int i = 0; i < sets->n; i++)
        first[i + 1] = first[i] + (sets->size[i] + per - 1) / per;
    table(l, name, "first", first, sets->n + 1);
    table(l, name, "size", sets->size, sets->n);
    return first[sets->n];
}

/* Which set the block belongs to, and the number of its points. */
static void find_set(Cu *l, CuScope *s, const char *name)
{
    int step = 1;
    while (step * 2 < l->sets->n)
        step *= 2;
    cu_line(s, "const i32 block = (i32)blockIdx.x;");
    cu_line(s, "i32 set = 0;");
    cu_line(s, "for (i32 step = %d; step; step /= 2)", step);
    cu_line(s, "    if (set + step < %d && %s_first[set + step] <= block)", l->sets->n, name);
    cu_line(s, "        set += step;");
    cu_line(s, "const i32 B = %s_size[set];", name);
}

/* The arguments of the set; of a total only what it reads. */
static void pointers(Cu *l, CuScope *s)
{
    for (int i = 0; i < l->k->n_args; i++)
        if (l->k->cls == K_MAP || !kernel_writes(l->k, l->k->args[i]))
            cu_line(s, "%sp%d = (%s)table[set * %d + %d];", cu_arg_type(l, i, true), i, cu_arg_type(l, i, false), l->k->n_args, i);
}

/* ---- totals */

static void take(CuScope *s, CuAcc a)
{
    Cu *l = s->l;
    CuVal v = cu_eval_member(s, &l->k->comp[0]);
    for (int j = 0; j < s->width; j++)
        cu_acc_take(s, a, cu_f(s, v, j), "0");
}

static void partials(Cu *l)
{
    const char *name = cu_kernel_name(l, "totals");
    int per = SET_THREADS * CU_WIDTH * ROUNDS;
    int64_t blocks = tables(l, name, per);
    CuScope root, wide, one;
    l->out->workspace = poly_const(blocks);
    cu_scope_root(&root, l);
    find_set(l, &root, name);
    cu_line(&root, "const i32 tid = (i32)threadIdx.x, from = (block - %s_first[set]) * %d;", name, per);
    cu_line(&root, "const i32 to = B - from < %d ? B : from + %d, end = from + (to - from) / %d * %d;", per, per, CU_WIDTH, CU_WIDTH);
    pointers(l, &root);
    CuAcc a = cu_acc_new(&root, l->k->comp[0].reducer);
    cu_scope_in(&wide, &root);
    cu_bind(&wide, 0, "lane", false);
    wide.lane = 0;
    wide.width = CU_WIDTH;
    take(&wide, a);
    cu_scope_close(&wide, arena_printf(l->arena, "for (i32 lane = from + tid * %d; lane < end; lane += %d) {", CU_WIDTH,
                                       SET_THREADS * CU_WIDTH), "}");
    cu_scope_in(&one, &root);
    cu_bind(&one, 0, "at", false);
    one.lane = 0;
    one.width = 1;
    take(&one, a);
    cu_line(&root, "const i32 at = end + tid;");
    cu_scope_close(&one, "if (at < to) {", "}");
    cu_acc_block(&root, a, SET_THREADS, "shared", "tid");
    cu_line(&root, "if (tid == 0)");
    cu_line(&root, "    ((float *)table[%d])[block] = %s;", l->k->n_args * l->sets->n, a.v[0]);
    cu_launch(l, "totals", &root, cu_grid(poly_const(blocks), 1), SET_THREADS, 1, SET_THREADS / CU_WARP * 4);
}

static void join(Cu *l, const char *first)
{
    const Sets *sets = l->sets;
    const char *name = cu_kernel_name(l, "join");
    CuScope root, s;
    int out = 0;
    while (l->k->args[out] != l->k->comp[0].out)
        out++;
    table(l, name, "at", sets->at, sets->n);
    cu_scope_root(&root, l);
    cu_line(&root, "const i32 set = (i32)blockIdx.x, tid = (i32)threadIdx.x, end = %s_first[set + 1];", first);
    cu_line(&root, "const float *TC_RESTRICT ws = (const float *)table[%d];", l->k->n_args * sets->n);
    CuAcc a = cu_acc_new(&root, l->k->comp[0].reducer);
    cu_scope_in(&s, &root);
    cu_acc_join(&s, a, (const char *[]){"ws[at]"});
    cu_scope_close(&s, arena_printf(l->arena, "for (i32 at = %s_first[set] + tid; at < end; at += %d) {", first, SET_THREADS), "}");
    cu_acc_block(&root, a, SET_THREADS, "shared", "tid");
    cu_line(&root, "if (tid == 0)");
    cu_line(&root, "    ((float *)table[set * %d + %d])[%s_at[set]] = %s;", l->k->n_args, out, name, a.v[0]);
    cu_launch(l, "join", &root, cu_grid(poly_const(sets->n), 1), SET_THREADS, 1, SET_THREADS / CU_WARP * 4);
}

/* ---- maps */

static void maps(Cu *l)
{
    const char *name = cu_kernel_name(l, "sets");
    int per = SET_THREADS * CU_WIDTH;
    int64_t blocks = tables(l, name, per);
    CuScope root, wide, one;
    cu_scope_root(&root, l);
    find_set(l, &root, name);
    cu_line(&root, "const i32 lane = ((block - %s_first[set]) * %d + (i32)threadIdx.x) * %d;", name, SET_THREADS, CU_WIDTH);
    cu_line(&root, "if (lane >= B)");
    cu_line(&root, "    return;");
    pointers(l, &root);
    cu_scope_in(&wide, &root);
    cu_bind(&wide, 0, "lane", false);
    wide.lane = 0;
    wide.width = CU_WIDTH;
    cu_map_body(&wide);
    cu_line(&wide, "return;");
    cu_scope_in(&one, &root);
    cu_bind(&one, 0, "at", false);
    one.lane = 0;
    one.width = 1;
    cu_map_body(&one);
    cu_scope_close(&wide, arena_printf(l->arena, "if (lane + %d <= B) {", CU_WIDTH), "}");
    cu_scope_close(&one, "for (i32 at = lane; at < B; at++) {", "}");
    cu_launch(l, "sets", &root, cu_grid(poly_const(blocks), 1), SET_THREADS, 1, 0);
}

bool cu_sets(Cu *l)
{
    if (l->k->cls == K_MAP) {
        maps(l);
        return !l->failed;
    }
    const char *first = cu_kernel_name(l, "totals");
    partials(l);
    join(l, first);
    return !l->failed;
}
