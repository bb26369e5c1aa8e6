/* meet.c -- SCORE kernels of the pairs of a batch (pass/meet.c): a block of samples of one side a task.
 *
 * The other side is gone through in tiles, so that scratch does not grow with the batch:
 *
 *     a tile         products: scores = rows of A times slices of B (contract.h)         [rows][TILE], f32, in scratch
 *                    row by row: points and statistics; a point that a result reads is kept, statistics go on from what the
 *                    tiles before left, in lanes
 *                    results: += kept scores times slices
 *     at the end     statistics are joined across lanes, results scaled, both stored
 *
 * A logsumexp is two numbers a lane, as in acc.c. A tile finds its peak first and then adds exponentials below it, because in
 * one loop each would wait for the one before. Blocks and tiles have fixed sizes: equal bits for any number of threads. */
#include "cpu/score.h"
#include "tic.h"
#include <math.h>

/* TILE: whole slices for any number of lanes. EVERYTHING: a row's reach (score.h) that is beyond any batch. */
enum { ROWS = 128, TILE = 96, MOST_MEMBERS = 32 };
static const int64_t EVERYTHING = 1ll << 40;

typedef struct Sum {
    int member;
    bool product;
    ScoreSum s;
    int score;                         /* RESULT: the member whose scores it sums */
    int64_t n_own;                     /* terms or features */
    bool straight;                     /* b: what become columns of slices lie side by side; else its terms do */
    bool in_place;                     /* PRODUCT: a is read where it is */
    int64_t slices, rows, out;         /* places in scratch, in elements: b, packed; a as f32; scores, or sums */
} Sum;

/* at: its numbers, [rows][width][lanes]. A tile goes on with those from `first` on. */
typedef struct Stat { int member, width, first; Reducer reducer; int64_t at; } Stat;

typedef struct Meet {
    Low *l;
    Gen *g;
    const Kernel *k;
    int lanes, n_sum, n_stat;
    Sum sum[MOST_MEMBERS];
    Stat stat[MOST_MEMBERS];
    int64_t kept[MOST_MEMBERS];        /* by member: where its scores are, -1: nowhere */
    int64_t used;                      /* elements of scratch */
    V base[MOST_MEMBERS];              /* by statistic: what a row's exponentials of a logsumexp are below */
} Meet;

enum { M, N, OWN };                    /* axes */

/* ---- what is taken, and where it is in scratch */

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t panel(int64_t terms, int64_t columns, int lanes)
{
    return cut_columns(columns, lanes).slices * cut_slice(terms, lanes);
}

static int64_t place(Meet *x, int64_t elements)
{
    int64_t at = x->used;
    x->used += up(elements, 16);
    return at;
}

static bool find_sum(Meet *x, Graph *g, Places *p, int member)
{
    const Comp *c = &x->k->comp[member];
    Sum s = {.member = member, .product = score_role(x->k, c) == SCORE_PRODUCT, .s = score_sum(g, x->k, c), .score = -1};
    if (c->n_axes != OWN + 1 || !s.s.a || c->ext[OWN] == EXT_BATCH)
        return false;
    for (int j = 0; j < member && !s.product; j++)
        if (x->k->comp[j].out == s.s.a->tensor)
            s.score = j;
    if (!s.product && s.score < 0)
        return false;
    s.n_own = c->ext[OWN];
    Lin a = tensor_linear(p, s.s.a->tensor, s.s.a->idx), b = tensor_linear(p, s.s.b->tensor, s.s.b->idx);
    int column = s.product ? N : OWN, term = s.product ? OWN : N;
    s.straight = poly_is(b.axis[column], 1);
    s.in_place = s.product && g->tensor[s.s.a->tensor].dtype == DT_F32 && poly_is(a.axis[OWN], 1);
    x->sum[x->n_sum++] = s;
    return s.straight || poly_is(b.axis[term], 1);
}

/* False: some member has no code here. */
static bool find_members(Meet *x, Graph *g, Places *p)
{
    if (x->k->n_comp > MOST_MEMBERS)
        return false;
    for (int i = 0; i < x->k->n_comp; i++) {
        const Comp *c = &x->k->comp[i];
        ScoreRole role = score_role(x->k, c);
        x->kept[i] = -1;
        if (role == SCORE_ROW || ((role == SCORE_STAT || role == SCORE_RESULT) && score_over_m(x->k, c)))
            return false;
        if (role == SCORE_STAT)
            x->stat[x->n_stat++] = (Stat){i, acc_width(c->reducer), c->reducer == RED_LOGSUMEXP, c->reducer, 0};
        else if (role != SCORE_POINT && !find_sum(x, g, p, i))
            return false;
    }
    return true;
}

static void lay_out(Meet *x)
{
    int w = x->lanes;
    for (int i = 0; i < x->n_sum; i++) {
        Sum *s = &x->sum[i];
        s->slices = place(x, s->product ? panel(s->n_own, TILE, w) : panel(TILE, s->n_own, w));
        s->rows = s->product && !s->in_place ? place(x, ROWS * up(s->n_own, w)) : 0;
        s->out = place(x, ROWS * (s->product ? TILE : up(s->n_own, w)));
        if (s->product)
            x->kept[s->member] = s->out;
    }
    for (int i = 0; i < x->n_sum; i++)
        if (!x->sum[i].product && x->kept[x->sum[i].score] < 0)
            x->kept[x->sum[i].score] = place(x, ROWS * TILE);
    for (int i = 0; i < x->n_stat; i++)
        x->stat[i].at = place(x, ROWS * x->stat[i].width * w);
}

bool meet_taken(Graph *g, const Kernel *k)
{
    enum { WIDEST = 16 };
    Places p = {.arena = g->arena, .graph = g, .k = k};
    Meet x = {.k = k, .lanes = WIDEST};
    if (!find_members(&x, g, &p) || p.fault)
        return false;
    lay_out(&x);
    return 4 * x.used <= TIC_SCRATCH_BYTES;
}

/* ---- a tile: void (bufs, batch, scratch, m0, m1, n0, n1) */

static V at(const Meet *x, int64_t offset)
{
    return gep(x->g, x->g->t->f32, x->g->scratch, ic(x->g, offset));
}

/* b at `count` samples of the other side from `first` on, into n slices `room` elements apart. */
static void pack(Meet *x, Scope *root, const Sum *s, const Cut *cut, V first, V count, V n, int64_t room)
{
    Low *l = x->l;
    Gen *g = x->g;
    Lin lin = tensor_linear(&l->places, s->s.b->tensor, s->s.b->idx);
    Form form = l->graph->tensor[s->s.b->tensor].dtype == DT_BF16 ? WIDEN : PLAIN;
    V fn = s->straight ? part_pack_straight(l, form) : part_pack_transposed(l, form);
    V columns = s->product ? count : ic(g, s->n_own), terms = s->product ? ic(g, s->n_own) : count;
    Mem mem = tensor_mem(l, s->s.b->tensor);
    Loop loop;
    Scope in, to;
    loop_begin(g, &loop, ic(g, 0), n, 1, NULL, 0);
    scope_in(&in, root, loop.branch);
    scope_in(&to, &in, NULL);
    V column = i_mul(g, cut_before(g, cut, loop.i), ic(g, x->lanes));
    scope_bind(&to, N, s->product ? i_add(g, first, column) : first);
    scope_bind(&to, OWN, s->product ? ic(g, 0) : column);
    V arg[] = {address(&to, &mem, s->s.b->idx, s), gen_poly(g, lin.axis[(s->straight == s->product) ? OWN : N]), i_sub(g, columns, column), terms,
               gep(g, g->t->f32, at(x, s->slices), i_mul(g, loop.i, ic(g, room))), ic(g, 1), ic(g, 0)};
    call(g, fn, arg, s->straight ? 7 : 5);
    loop_end(g, &loop, NULL);
}

/* Columns past the last sample are computed from whatever packing leaves there, and read by nobody. */
static void multiply(Meet *x, Scope *root, const Sum *s, V m0, V rows, V n0, V count)
{
    Low *l = x->l;
    Gen *g = x->g;
    int w = x->lanes;
    const Cut cut = cut_columns(s->product ? TILE : s->n_own, w);          /* TILE: slices are all of NV vectors */
    int64_t room = cut_slice(s->product ? s->n_own : TILE, w);
    V a = at(x, s->product ? s->rows : x->kept[s->score]), stride = ic(g, s->product ? up(s->n_own, w) : TILE);
    if (s->in_place) {
        Mem mem = tensor_mem(l, s->s.a->tensor);
        Scope here;
        scope_in(&here, root, NULL);
        scope_bind(&here, M, m0);
        scope_bind(&here, OWN, ic(g, 0));
        a = address(&here, &mem, s->s.a->idx, &s->s);
        stride = gen_poly(g, tensor_linear(&l->places, s->s.a->tensor, s->s.a->idx).axis[M]);
    }
    V n = s->product ? i_ceil_div(g, count, ic(g, tile_columns(g->t))) : ic(g, cut.slices);
    pack(x, root, s, &cut, n0, count, n, room);
    V more = s->product ? ic(g, 0) : LLVMBuildZExt(g->b, LLVMBuildICmp(g->b, LLVMIntNE, n0, ic(g, 0), ""), g->t->i64, "");
    V arg[] = {s->product ? ic(g, s->n_own) : count, rows, a, stride, at(x, s->slices), ic(g, room), n, ic(g, cut.wide),
               s->product ? n : ic(g, cut.first), at(x, s->out), ic(g, s->product ? TILE : up(s->n_own, w)), more,
               LLVMConstReal(g->t->f32, s->product ? s->s.scale : 1), ic(g, EVERYTHING)};
    call(g, part_score_product(l, s->product ? SCORES : ALONG_N), arg, (int)LEN(arg));
}

/* Scores of a member as others read them: those of pair (m0, n0) are at the member's place. */
static void place_scores(Meet *x, int i, V m0, V n0)
{
    Gen *g = x->g;
    const Comp *c = x->l->member[i].c;
    V back = i_add(g, i_mul(g, m0, ic(g, TILE)), n0);
    Mem mem = {.base = gep(g, g->t->f32, at(x, x->kept[i]), i_sub(g, ic(g, 0), back)), .dtype = DT_F32, .at.rank = 2};
    for (int d = 0; d < 2; d++)
        mem.at.stride[d] = poly_const(aff_plain(c->store[d]) == M ? TILE : 1);
    x->l->member[i].mem = mem;
}

/* Number i of a statistic's state of row r of the block. */
static V state(const Meet *x, const Stat *s, V r, int i)
{
    Gen *g = x->g;
    return gep(g, g->t->f32, at(x, s->at), i_add(g, i_mul(g, r, ic(g, s->width * x->lanes)), ic(g, i * x->lanes)));
}

static V load_state(const Meet *x, const Stat *s, V r, int i)
{
    const Target *t = x->g->t;
    return load(x->g, s->reducer == RED_ARGMAX && i ? t->vi : t->vf, state(x, s, r, i), 4);
}

static void peaks(void *ctx, Scope *s, int part, V *carry)
{
    Meet *x = ctx;
    for (int i = 0; i < x->n_stat; i++)
        if (x->stat[i].reducer == RED_LOGSUMEXP) {
            V v = to_f(s, eval_member(s, x->l->member[x->stat[i].member].c));
            *carry = acc_take(x->g, RED_MAX, (Acc){{*carry}}, v, NULL, s->mask).v[0];
            carry++;
        }
}

static void pairs(void *ctx, Scope *s, int part, V *carry)
{
    Meet *x = ctx;
    Low *l = x->l;
    Gen *g = x->g;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (score_role(x->k, c) == SCORE_POINT && x->kept[i] >= 0)
            store_at(s, &l->member[i].mem, c->store, &l->member[i], eval_member(s, c));
    }
    for (int i = 0; i < x->n_stat; i++) {
        const Stat *t = &x->stat[i];
        V v = to_f(s, eval_member(s, l->member[t->member].c)), index = NULL;
        if (t->reducer == RED_LOGSUMEXP)
            v = m_exp(g, f_sub(g, v, x->base[i]));
        if (t->reducer == RED_ARGMAX)
            index = LLVMBuildAdd(g->b, splat(g, LLVMBuildTrunc(g->b, scope_axis(s, N), g->t->i32, "")), lanes_iota(g, g->t->vi), "");
        Acc a = {{carry[0], t->width - t->first > 1 ? carry[1] : NULL}};
        a = acc_take(g, t->reducer == RED_LOGSUMEXP ? RED_SUM : t->reducer, a, v, index, s->mask);
        for (int j = t->first; j < t->width; j++)
            *carry++ = a.v[j - t->first];
    }
}

/* The peaks of a row's exponentials with this tile, and sums so far below them. */
static void raise_peaks(Meet *x, Scope *row, V r, V n0, V n1)
{
    Gen *g = x->g;
    V peak[MAX_CARRY];
    int n = 0;
    for (int i = 0; i < x->n_stat; i++)
        if (x->stat[i].reducer == RED_LOGSUMEXP)
            peak[n++] = load_state(x, &x->stat[i], r, 0);
    if (n)
        lane_loop(row, N, n0, n1, 1, peaks, x, peak, n);
    for (int i = x->n_stat - 1; i >= 0; i--) {
        const Stat *s = &x->stat[i];
        if (s->reducer != RED_LOGSUMEXP)
            continue;
        V before = load_state(x, s, r, 0), top = peak[--n];
        x->base[i] = select_(g, f_cmp(g, LLVMRealOEQ, top, fc(g, -INFINITY)), fc(g, 0), top);
        store(g, top, state(x, s, r, 0), 4);
        store(g, f_mul(g, load_state(x, s, r, 1), m_exp(g, f_sub(g, before, x->base[i]))), state(x, s, r, 1), 4);
    }
}

static void row_of_tile(Meet *x, Scope *row, V r, V n0, V n1)
{
    V carry[MAX_CARRY];
    int n = 0;
    bool keeps = false;
    raise_peaks(x, row, r, n0, n1);
    for (int i = 0; i < x->k->n_comp; i++)
        keeps = keeps || (x->kept[i] >= 0 && score_role(x->k, &x->k->comp[i]) == SCORE_POINT);
    for (int i = 0; i < x->n_stat; i++)
        for (int j = x->stat[i].first; j < x->stat[i].width; j++)
            carry[n++] = load_state(x, &x->stat[i], r, j);
    if (n || keeps)
        lane_loop(row, N, n0, n1, 1, pairs, x, carry, n);
    n = 0;
    for (int i = 0; i < x->n_stat; i++)
        for (int j = x->stat[i].first; j < x->stat[i].width; j++)
            store(x->g, carry[n++], state(x, &x->stat[i], r, j), 4);
}

static V make_tile(Meet *x)
{
    Low *l = x->l;
    Gen *g = x->g;
    Aside aside;
    Scope root, row;
    Loop loop;
    part_score_product(l, SCORES);     /* what is called is built before the caller */
    part_score_product(l, ALONG_N);
    for (int i = 0; i < x->n_sum; i++) {
        Form form = l->graph->tensor[x->sum[i].s.b->tensor].dtype == DT_BF16 ? WIDEN : PLAIN;
        part_pack_straight(l, form);
        part_pack_transposed(l, form);
    }
    Ty i = g->t->i64, t[] = {g->t->ptr, i, g->t->ptr, i, i, i, i};
    aside_begin(l, &aside, arena_printf(l->m->arena, "k%d_tile", l->m->kernels.n), g->t->none, t, (int)LEN(t));
    g->bufs = LLVMGetParam(g->fn, 0);
    g->batch = LLVMGetParam(g->fn, 1);
    g->scratch = LLVMGetParam(g->fn, 2);
    V m0 = LLVMGetParam(g->fn, 3), m1 = LLVMGetParam(g->fn, 4), n0 = LLVMGetParam(g->fn, 5), n1 = LLVMGetParam(g->fn, 6);
    V rows = i_sub(g, m1, m0), count = i_sub(g, n1, n0);
    scope_root(&root, l);
    for (int j = 0; j < l->n_member; j++) {
        l->places.placed[j] = score_role(x->k, l->member[j].c) == SCORE_PRODUCT;
        l->places.again[j] = score_role(x->k, l->member[j].c) == SCORE_POINT;
        if (x->kept[j] >= 0)
            place_scores(x, j, m0, n0);
    }
    for (int j = 0; j < x->n_sum; j++)
        if (x->sum[j].product)
            multiply(x, &root, &x->sum[j], m0, rows, n0, count);
    loop_begin(g, &loop, m0, m1, 1, NULL, 0);
    scope_in(&row, &root, loop.branch);
    scope_bind(&row, M, loop.i);
    l->places.row_depth = row.level.depth;
    row_of_tile(x, &row, i_sub(g, loop.i, m0), n0, n1);
    loop_end(g, &loop, NULL);
    for (int j = 0; j < x->n_sum; j++)
        if (!x->sum[j].product)
            multiply(x, &root, &x->sum[j], m0, rows, n0, count);
    return aside_end(l, &aside, NULL);
}

/* ---- a task */

typedef struct Copy { const Expr *load; V to; } Copy;

static void copy_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Copy *c = ctx;
    Gen *g = s->l->g;
    store(g, to_f(s, eval(s, c->load)), gep(g, g->t->f32, c->to, scope_axis(s, s->lanes)), 4);
}

/* Rows of a as f32, and statistics of nothing. */
static void begin_rows(Meet *x, Scope *row, V r)
{
    Gen *g = x->g;
    for (int i = 0; i < x->n_sum; i++) {
        const Sum *s = &x->sum[i];
        if (!s->product || s->in_place)
            continue;
        Copy c = {s->s.a, gep(g, g->t->f32, at(x, s->rows), i_mul(g, r, ic(g, up(s->n_own, x->lanes))))};
        lane_loop(row, OWN, ic(g, 0), ic(g, s->n_own), 1, copy_lanes, &c, NULL, 0);
    }
    for (int i = 0; i < x->n_stat; i++) {
        Acc a = acc_empty(g, x->stat[i].reducer);
        for (int j = 0; j < x->stat[i].width; j++)
            store(g, a.v[j], state(x, &x->stat[i], r, j), 4);
    }
}

typedef struct Finish { const Meet *x; const Sum *s; V row; } Finish;

static void finish_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Finish *f = ctx;
    Gen *g = s->l->g;
    const Comp *c = s->l->member[f->s->member].c;
    V v = load(g, g->t->vf, gep(g, g->t->f32, f->row, scope_axis(s, s->lanes)), 4);
    if (f->s->s.scale != 1)
        v = f_mul(g, v, fc(g, f->s->s.scale));
    s->l->comp = c;
    store_member(s, c, member_value(s, c, (Val){VAL_F, v}));
}

static void finish_rows(Meet *x, Scope *row, V r)
{
    Low *l = x->l;
    Gen *g = x->g;
    for (int i = 0; i < x->n_stat; i++) {
        const Comp *c = l->member[x->stat[i].member].c;
        Acc a = {{NULL}};
        for (int j = 0; j < x->stat[i].width; j++)
            a.v[j] = load_state(x, &x->stat[i], r, j);
        l->comp = c;
        store_member(row, c, member_value(row, c, acc_value(g, c->reducer, acc_across(g, c->reducer, a))));
    }
    for (int i = 0; i < x->n_sum; i++) {
        const Sum *s = &x->sum[i];
        Finish f = {x, s, gep(g, g->t->f32, at(x, s->out), i_mul(g, r, ic(g, up(s->n_own, x->lanes))))};
        if (!s->product)
            lane_loop(row, OWN, ic(g, 0), ic(g, s->n_own), 1, finish_lanes, &f, NULL, 0);
    }
}

static void all_rows(Meet *x, Scope *root, V m0, V m1, void (*each)(Meet *x, Scope *row, V r))
{
    Gen *g = x->g;
    Loop loop;
    Scope row;
    loop_begin(g, &loop, m0, m1, 1, NULL, 0);
    scope_in(&row, root, loop.branch);
    scope_bind(&row, M, loop.i);
    each(x, &row, i_sub(g, loop.i, m0));
    loop_end(g, &loop, NULL);
}

bool lower_meet(Low *l)
{
    Gen *g = l->g;
    Meet x = {.l = l, .g = g, .k = l->k, .lanes = g->t->lanes};
    if (!find_members(&x, (Graph *)l->graph, &l->places)) {
        low_fail(l, "members that have no code");
        return false;
    }
    lay_out(&x);
    V tile = make_tile(&x);
    launch_begin(l, "meet");
    Scope root;
    Loop loop;
    scope_root(&root, l);
    V m0 = i_mul(g, g->task, ic(g, ROWS)), m1 = i_min(g, i_add(g, m0, ic(g, ROWS)), g->batch);
    all_rows(&x, &root, m0, m1, begin_rows);
    loop_begin(g, &loop, ic(g, 0), g->batch, TILE, NULL, 0);
    V arg[] = {g->bufs, g->batch, g->scratch, m0, m1, loop.i, i_min(g, i_add(g, loop.i, ic(g, TILE)), g->batch)};
    call(g, tile, arg, (int)LEN(arg));
    loop_end(g, &loop, NULL);
    all_rows(&x, &root, m0, m1, finish_rows);
    launch_tasks(l);
    launch_end(l, i_ceil_div(g, g->batch, ic(g, ROWS)));
    return !l->failed;
}
