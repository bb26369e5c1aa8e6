/* reduce.c -- REDUCE kernels: column sums, totals, statistics by column.
 *
 * A block is ACROSS threads along columns that lie side by side in memory, times DOWN threads along the reduced terms;
 * when what is reduced lies side by side instead, all of its threads run along the terms of one column. With few columns
 * the terms are cut into chunks, one block each: it leaves a partial result in a workspace, and a second launch joins
 * them, a warp a column, in a fixed order. The cut depends on shapes alone, never on the machine. Maps over what stays are
 * computed with the final values. */
#include "cuda/lower.h"
#include "pass/pass.h"
#include <string.h>

enum { RED_THREADS = 256, RED_ACROSS = 32, ENOUGH_BLOCKS = 512, MOST_CHUNKS = 256, FEW_TERMS = 16 };

typedef struct Reduction {
    Cu *l;
    Group dom[MAX_AXES], red[MAX_AXES];
    int n_dom, n_red, lanes, width;    /* lanes: a group of dom (across), or the last of red; -1: none */
    bool across;
    uint32_t zero;
    Poly rows, length, runs;           /* other points of dom; of the dom lane group (or 1); of red, in runs of `width` */
    int64_t columns;                   /* rows * length, when chunked */
    int chunks, carried;
} Reduction;

static bool is_reduced(const Reduction *r, int member) { return r->l->k->comp[member].reducer != RED_NONE; }

static void analyse(Reduction *r)
{
    Cu *l = r->l;
    const Comp *c = NULL;              /* all reductions have the same axes */
    Accesses acc = {0}, both = {0};    /* of reductions, which decide about lanes; of all members */
    bool positions = false;
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *m = &l->k->comp[i];
        if (!is_reduced(r, i))
            continue;
        c = c ? c : m;
        cu_access_loads(l, m, &acc);
        cu_access_store(l, m, &acc);
        cu_access_loads(l, m, &both);
        cu_access_store(l, m, &both);
        positions = positions || m->reducer == RED_ARGMAX;
        r->carried += cu_acc_width(m->reducer);
    }
    for (int i = 0; i < l->k->n_comp; i++)
        if (!is_reduced(r, i)) {
            cu_access_loads(l, &l->k->comp[i], &both);
            if (kernel_writes(l->k, l->k->comp[i].out))
                cu_access_store(l, &l->k->comp[i], &both);
        }
    split_axes(&l->places, c, &both, positions, r->dom, &r->n_dom, r->red, &r->n_red, &r->zero);
    int best_dom = cu_best_lanes(&acc, r->dom, r->n_dom), best_red = cu_best_lanes(&acc, r->red, r->n_red);
    r->lanes = best_dom;
    r->across = best_dom >= 0;
    if (best_dom >= 0 && best_red >= 0) {
        Group two[2] = {r->dom[best_dom], r->red[best_red]};
        r->across = cu_best_lanes(&acc, two, 2) == 0;
    }
    if (!r->across && best_red >= 0) { /* the lane group runs fastest */
        Group g = r->red[best_red];
        memmove(r->red + best_red, r->red + best_red + 1, (size_t)(r->n_red - 1 - best_red) * sizeof g);
        r->lanes = r->n_red - 1;
        r->red[r->lanes] = g;
    } else if (!r->across) {
        r->lanes = -1;
    }
    r->width = r->lanes < 0 ? 1 : cu_width(&acc, r->across ? r->dom[r->lanes] : r->red[r->lanes]);
    r->rows = group_points(&l->places, r->dom, r->n_dom, r->across ? r->lanes : -1);
    r->length = r->across ? r->dom[r->lanes].n : poly_const(1);
    r->runs = group_points(&l->places, r->red, r->n_red, -1);
    if (!r->across)
        for (int i = 0; i < 3; i++)
            r->runs.c[i] /= r->width;
    int64_t rows, length, runs = r->runs.c[0] + TYPICAL_BATCH / 8 * r->runs.c[1] + r->runs.c[2] * TYPICAL_BATCH / 8;
    r->chunks = 1;
    if (!poly_fixed(r->rows, &rows) || !poly_fixed(r->length, &length) || rows * length < 1)
        return;
    int64_t per = r->across ? RED_ACROSS * r->width : 1, down = r->across ? RED_THREADS / RED_ACROSS : RED_THREADS;
    int64_t blocks = rows * ((length + per - 1) / per), most = MOST_CHUNKS;
    most = runs / (down * FEW_TERMS) < most ? runs / (down * FEW_TERMS) : most;
    int64_t want = (ENOUGH_BLOCKS + blocks - 1) / blocks;
    want = want < most ? want : most;
    r->chunks = want > 1 ? (int)want : 1;
    r->columns = rows * length;
}

/* Component c of member i's place in the list of accumulators. */
static CuAcc *acc_of(CuAcc *acc, const Reduction *r, int i, int c)
{
    return &acc[i * (r->across ? r->width : 1) + c];
}

static void take(Reduction *r, CuScope *s, CuAcc *acc)
{
    Cu *l = r->l;
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (!is_reduced(r, i))
            continue;
        CuVal v = cu_eval_member(s, c);
        int axis = __builtin_ctz(c->red);
        for (int j = 0; j < s->width; j++) {
            const char *position = "0";
            if (c->reducer == RED_ARGMAX)
                position = arena_printf(l->arena, "(i32)(%s + %d)", s->at[axis] ? s->at[axis] : "0", axis == s->lane ? j : 0);
            cu_acc_take(s, *acc_of(acc, r, i, r->across ? j : 0), cu_f(s, v, j), position);
        }
    }
}

/* A scope in which the thread's columns exist. */
static void on_columns(const Reduction *r, CuScope *s)
{
    if (!r->across)
        return;
    s->lane = r->dom[r->lanes].axis;
    s->width = r->width;
    cu_bind(s, s->lane, "column", false);
}

/* Joins what the DOWN threads of a column have: through shared memory, one after the other. */
static void join_down(Reduction *r, CuScope *s, CuAcc a, int down)
{
    Cu *l = r->l;
    const char *o[2] = {NULL};
    int w = cu_acc_width(a.r);
    for (int k = 0; k < w; k++)
        cu_line(s, "((%s *)shared)[(%d * %d + ty) * %d + tx] = %s;", a.r == RED_ARGMAX && k ? "i32" : "float", k, down, RED_ACROSS, a.v[k]);
    cu_line(s, "tc_syncthreads();");
    CuScope in;
    cu_scope_in(&in, s);
    for (int k = 0; k < w; k++)
        o[k] = arena_printf(l->arena, "((const %s *)shared)[(%d * %d + j) * %d + tx]", a.r == RED_ARGMAX && k ? "i32" : "float", k, down,
                            RED_ACROSS);
    cu_acc_join(&in, a, o);
    cu_scope_close(&in, arena_printf(l->arena, "for (int j = 1; j < %d && ty == 0; j++) {", down), "}");
    cu_line(s, "tc_syncthreads();");
}

/* What is computed from final values (value[i] of reduction i), and all of them to their tensors. */
static void keep_values(const Reduction *r, CuScope *s, CuVal *value)
{
    Cu *l = r->l;
    for (int i = 0; i < l->k->n_comp; i++)
        if (is_reduced(r, i)) {
            value[i] = cu_round(s, &l->k->comp[i], value[i]);
            cu_member_is(s, &l->k->comp[i], value[i]);
        }
    for (int i = 0; i < l->k->n_comp; i++)
        if (!is_reduced(r, i)) {
            value[i] = cu_eval_member(s, &l->k->comp[i]);
            cu_member_is(s, &l->k->comp[i], value[i]);
        }
    for (int i = 0; i < l->k->n_comp; i++)
        if (kernel_writes(l->k, l->k->comp[i].out))
            cu_store(s, &l->k->comp[i], value[i]);
}

static bool second_launch(Reduction *r)
{
    Cu *l = r->l;
    CuScope root, s;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, r->zero);
    cu_line(&root, "const i32 lane = (i32)threadIdx.x %% %d;", CU_WARP);
    cu_line(&root, "const i32 column = (i32)(blockIdx.x * %d + threadIdx.x / %d);", RED_THREADS / CU_WARP, CU_WARP);
    cu_line(&root, "if (column >= %lld)", (long long)r->columns);
    cu_line(&root, "    return;");
    cu_scope_in(&s, &root);
    Group grp[MAX_AXES];
    int n = 0;
    for (int i = 0; i < r->n_dom; i++) /* columns are numbered rows first, then the lanes */
        if (!r->across || i != r->lanes)
            grp[n++] = r->dom[i];
    if (r->across)
        grp[n++] = r->dom[r->lanes];
    cu_bind_digits(&s, grp, n, -1, "column", false);
    int at = 0;
    CuVal *value = NEWN(l->arena, CuVal, l->k->n_comp);
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (!is_reduced(r, i))
            continue;
        CuAcc a = cu_acc_new(&s, c->reducer);
        int w = cu_acc_width(c->reducer);
        const char *o[2] = {NULL};
        CuScope in;
        cu_scope_in(&in, &s);
        for (int k = 0; k < w; k++, at++)
            o[k] = arena_printf(l->arena, a.r == RED_ARGMAX && k ? "(i32)tc_bits(ws[(j * %d + %d) * %lld + column])"
                                                                : "ws[(j * %d + %d) * %lld + column]",
                                r->carried, at, (long long)r->columns);
        cu_acc_join(&in, a, o);
        cu_scope_close(&in, arena_printf(l->arena, "for (i32 j = lane; j < %d; j += %d) {", r->chunks, CU_WARP), "}");
        cu_acc_warp(&s, a, CU_WARP);
        value[i] = cu_acc_value(&s, a);
    }
    CuScope once;
    cu_scope_in(&once, &s);
    keep_values(r, &once, value);
    cu_scope_close(&once, "if (lane == 0) {", "}");
    cu_scope_close(&s, "{", "}");
    cu_launch(l, "join", &root, cu_grid(poly_const(r->columns), RED_THREADS / CU_WARP), RED_THREADS, 1, 0);
    return !l->failed;
}

/* Keeps the results of the threads that have them: in the workspace, or in the tensors. */
static void finish(Reduction *r, CuScope *s, CuAcc *acc)
{
    Cu *l = r->l;
    int width = r->across ? r->width : 1, at = 0;
    CuScope once;
    cu_scope_in(&once, s);
    on_columns(r, &once);
    CuVal *value = NEWN(l->arena, CuVal, l->k->n_comp);
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (!is_reduced(r, i))
            continue;
        int w = cu_acc_width(c->reducer);
        if (r->chunks > 1) {
            for (int k = 0; k < w; k++, at++) {
                const char *x[CU_WIDTH], *to = cu_name(l, "q");
                for (int j = 0; j < width; j++) {
                    const char *v = acc_of(acc, r, i, j)->v[k];
                    x[j] = c->reducer == RED_ARGMAX && k ? arena_printf(l->arena, "tc_float((u32)%s)", v) : v;
                }
                cu_line(&once, "float *%s = ws + ((i64)blockIdx.y * %d + %d) * %lld + row * %s + column;", to, r->carried, at,
                        (long long)r->columns, cu_poly(l, r->length));
                cu_store_floats(&once, to, width, x);
            }
            continue;
        }
        CuVal v = {.kind = CV_F, .uniform = width == 1};
        for (int j = 0; j < width; j++) {
            CuVal one = cu_acc_value(&once, *acc_of(acc, r, i, j));
            v.kind = one.kind;
            v.v[j] = one.v[0];
        }
        value[i] = v;
    }
    if (r->chunks == 1)
        keep_values(r, &once, value);
    cu_scope_close(&once, r->across ? arena_printf(l->arena, "if (ty == 0 && column < %s) {", cu_poly(l, r->length)) : "if (ty == 0) {", "}");
}

bool cu_reduce(Cu *l)
{
    Reduction r = {.l = l};
    analyse(&r);
    if (r.chunks > 1)
        l->out->workspace = poly_const((int64_t)r.chunks * r.carried * r.columns);
    int across = r.across ? RED_ACROSS : 1, down = RED_THREADS / across, width = r.across ? r.width : 1, per = across * width;
    bool wide = !poly_small(r.runs), wide_rows = !poly_small(r.rows);
    const char *type = wide ? "i64" : "i32";
    CuScope root, s, loop;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, r.zero);
    cu_line(&root, "const i32 tx = (i32)threadIdx.x %% %d, ty = (i32)threadIdx.x / %d;", across, across);
    if (r.across) {
        cu_line(&root, "const u32 strips = (u32)((%s + %d) / %d);", cu_poly(l, r.length), per - 1, per);
        cu_line(&root, "const %s row = blockIdx.x / strips;", wide_rows ? "i64" : "i32");
        cu_line(&root, "const i32 column = (i32)(blockIdx.x - (u32)row * strips) * %d + tx * %d;", per, width);
    } else {
        cu_line(&root, "const %s row = blockIdx.x;", wide_rows ? "i64" : "i32");
        if (r.chunks > 1)
            cu_line(&root, "const i32 column = 0;");
    }
    cu_line(&root, "const %s terms = %s;", type, cu_poly(l, r.runs));
    cu_line(&root, "const %s size = (terms + %d) / %d, from = blockIdx.y * size;", type, r.chunks - 1, r.chunks);
    cu_line(&root, "const %s to = from + size < terms ? from + size : terms;", type);
    cu_scope_in(&s, &root);
    cu_bind_digits(&s, r.dom, r.n_dom, r.across ? r.lanes : -1, "row", wide_rows);
    CuAcc *acc = NEWN(l->arena, CuAcc, l->k->n_comp * CU_WIDTH);
    for (int i = 0; i < l->k->n_comp; i++)
        for (int j = 0; j < width && is_reduced(&r, i); j++)
            *acc_of(acc, &r, i, j) = cu_acc_new(&s, l->k->comp[i].reducer);

    CuScope guard;                     /* columns past the end take nothing */
    cu_scope_in(&guard, &s);
    on_columns(&r, &guard);
    cu_scope_in(&loop, &guard);
    Group grp[MAX_AXES];
    memcpy(grp, r.red, sizeof grp);
    if (!r.across && r.lanes >= 0)
        for (int i = 0; i < 3; i++)
            grp[r.lanes].n.c[i] /= r.width;
    cu_bind_digits(&loop, grp, r.n_red, -1, "t", wide);
    if (!r.across && r.lanes >= 0) {
        loop.lane = grp[r.lanes].axis;
        loop.width = r.width;
        if (r.width > 1)
            cu_bind(&loop, loop.lane, arena_printf(l->arena, "(%s * %d)", loop.at[loop.lane], r.width), loop.wide[loop.lane]);
    }
    take(&r, &loop, acc);
    cu_scope_close(&loop, arena_printf(l->arena, "for (%s t = from + ty; t < to; t += %d) {", type, down), "}");
    cu_scope_close(&guard, r.across ? arena_printf(l->arena, "if (column < %s) {", cu_poly(l, r.length)) : "{", "}");
    int shared = 0;
    for (int i = 0; i < l->k->n_comp; i++)
        for (int j = 0; j < width && is_reduced(&r, i); j++) {
            CuAcc a = *acc_of(acc, &r, i, j);
            int bytes = (r.across ? RED_THREADS : RED_THREADS / CU_WARP) * cu_acc_width(a.r) * 4;
            shared = bytes > shared ? bytes : shared;
            if (r.across)
                join_down(&r, &s, a, down);
            else
                cu_acc_block(&s, a, RED_THREADS, "shared", "ty");
        }
    finish(&r, &s, acc);
    cu_scope_close(&s, "{", "}");
    TicGrid grid = cu_grid(r.rows, 1);
    if (r.across)
        cu_grid_times(&grid, r.length, per);
    grid.y = r.chunks;
    cu_launch(l, "reduce", &root, grid, RED_THREADS, 1, shared);
    return r.chunks > 1 ? second_launch(&r) : !l->failed;
}
