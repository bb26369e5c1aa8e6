/* score.c -- SCORE kernels: attention forward or backward for one point of the domain (an image's head) a task.
 *
 * Rows of M are taken in blocks, each over the whole of N, so that the scores of a block stay in the second-level cache:
 *
 *     once a task    what products and results along N multiply by is packed into slices (contract.h)
 *     a block        products: scores = rows of A times slices            [rows][N], f32, in scratch
 *                    points, statistics and values of rows, row by row, as in a ROW kernel; a point that a result reads is kept
 *                    results along N: kept scores times slices, finished and stored
 *                    results along M: added to sums [N][features] in scratch
 *     at the end     results along M are finished and stored
 *
 * Where a row has nothing beyond some column (a causal mask), tiles end there: what lies behind is neither computed nor read.
 *
 * A task is the work of one thread and the blocks follow from the extents: equal bits for any number of threads. */
#include "cpu/score.h"
#include "tic.h"

enum { MOST_SUMS = 8, BLOCK_BYTES = 256 << 10 };

/* A PRODUCT or a RESULT, and its places in scratch, in elements. */
typedef struct Sum {
    int member, own;                   /* own: the axis of terms or features */
    bool product, over_m;
    ScoreSum s;
    int score;                         /* RESULT: the member whose scores it sums */
    int64_t n_own;
    Cut cut;                           /* of b, packed */
    int64_t slices, slice;
    int64_t rows;                      /* PRODUCT: rows of a as f32; -1: a is read in place */
    int64_t out;                       /* PRODUCT: its scores. RESULT: sums of a block's rows, or of all columns */
} Sum;

typedef struct Attention {
    Low *l;
    Gen *g;
    Sum sum[MOST_SUMS];
    int n_sum, m, n;                   /* m, n: axes */
    int64_t n_m, n_n, width, block;    /* extents; elements from row to row of scores; rows of a block */
    int64_t reach;                     /* how far beyond its own number a row of scores has something */
    int64_t *at;                       /* by member: where its scores are, -1: nowhere */
    int64_t of_rows;                   /* where phases leave what they know of rows */
    RowPlan rows;
} Attention;

/* ---- what is taken */

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* The extent of M or N: that of any member but a row's sum. */
static int64_t extent(const Kernel *k, int axis)
{
    int i = 0;
    while (score_role(k, &k->comp[i]) == SCORE_ROW)
        i++;
    return k->comp[i].ext[axis];
}

/* Scratch of a block of `block` rows. Sets the places in *x when it is not NULL. */
static int64_t layout(const Kernel *k, const Sum *sum, int n_sum, const bool *kept, int64_t block, int lanes, Attention *x)
{
    int64_t n_m = extent(k, score_m(k)), n_n = extent(k, score_n(k)), width = up(n_n, lanes), used = 0;
    int64_t of_rows = rows_scratch(lanes, k->n_comp);
    for (int i = 0; i < n_sum; i++) {
        const Sum *s = &sum[i];
        int64_t terms = s->product ? s->n_own : s->over_m ? block : n_n, columns = s->product ? n_n : s->n_own;
        Cut cut = cut_columns(columns, lanes);
        int64_t slices = used, rows = used + cut.slices * cut_slice(terms, lanes);
        int64_t out = rows + (s->product ? block * up(s->n_own, lanes) : 0);
        used = out + (s->product ? block * width : (s->over_m ? up(n_n, 16) : block) * up(s->n_own, lanes));
        if (x) {
            x->sum[i].cut = cut;
            x->sum[i].slice = cut_slice(terms, lanes);
            x->sum[i].slices = slices;
            x->sum[i].rows = rows;
            x->sum[i].out = out;
            if (s->product)
                x->at[s->member] = out;
        }
    }
    for (int i = 0; i < k->n_comp; i++)
        if (kept[i]) {
            if (x)
                x->at[i] = used;
            used += block * width;
        }
    if (x) {
        x->n_m = n_m;
        x->n_n = n_n;
        x->width = width;
        x->block = block;
        x->of_rows = used;
    }
    return used + of_rows;
}

static int64_t rows_of_block(const Kernel *k, const bool *kept, int lanes)
{
    int64_t n_m = extent(k, score_m(k)), width = up(extent(k, score_n(k)), lanes), n = 0;
    for (int i = 0; i < k->n_comp; i++)
        n += kept[i] || score_role(k, &k->comp[i]) == SCORE_PRODUCT;
    int64_t most = BLOCK_BYTES / (4 * width * n) / 8 * 8;
    most = most < 8 ? 8 : most;
    int64_t blocks = (n_m + most - 1) / most;
    return up((n_m + blocks - 1) / blocks, 8);
}

/* Finds the sums and which points they read; false: something about them is not as it has to be here. */
static bool find_sums(Graph *g, const Kernel *k, Sum *sum, int *n_sum, bool *kept)
{
    *n_sum = 0;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        ScoreRole role = score_role(k, c);
        kept[i] = false;
        if (role == SCORE_STAT && score_over_m(k, c))
            return false;
        if (role == SCORE_POINT || role == SCORE_STAT || role == SCORE_ROW)
            continue;
        Sum s = {.member = i, .own = k->n_dom + 2, .product = role == SCORE_PRODUCT, .over_m = score_over_m(k, c),
                 .s = score_sum(g, k, c), .score = -1};
        if (*n_sum == MOST_SUMS || c->n_axes != k->n_dom + 3 || !s.s.a || (s.product && g->tensor[c->out].dtype != DT_F32))
            return false;
        s.n_own = c->ext[s.own];
        for (int j = 0; j < i && !s.product; j++)
            if (k->comp[j].out == s.s.a->tensor)
                s.score = j;
        if (s.n_own == EXT_BATCH || (!s.product && s.score < 0))
            return false;
        if (s.score >= 0 && score_role(k, &k->comp[s.score]) == SCORE_POINT)
            kept[s.score] = true;
        sum[(*n_sum)++] = s;
    }
    return *n_sum > 0;
}

bool cpu_takes_score(Graph *g, const Kernel *k)
{
    enum { WIDEST = 16 };
    if (score_meets(k))
        return meet_taken(g, k);
    Arena scratch = {0};
    Sum sum[MOST_SUMS];
    int n_sum;
    bool *kept = NEWN(&scratch, bool, k->n_comp);
    bool takes = find_sums(g, k, sum, &n_sum, kept);
    takes = takes && 4 * layout(k, sum, n_sum, kept, rows_of_block(k, kept, WIDEST), WIDEST, NULL) <= TIC_SCRATCH_BYTES;
    arena_free(&scratch);
    return takes;
}

/* ---- products */

static V place(const Attention *x, int64_t at)
{
    return gep(x->g, x->g->t->f32, x->g->scratch, ic(x->g, at));
}

/* Rows that lie cs elements apart from c on (+)= a * b. */
static void multiply(Attention *x, ScoreProduct kind, V terms, V rows, V a, V stride, const Sum *s, V c, V cs, V more, double scale,
                     V reach)
{
    Gen *g = x->g;
    V arg[] = {terms, rows, a, stride, place(x, s->slices), ic(g, s->slice), ic(g, s->cut.slices), ic(g, s->cut.wide), ic(g, s->cut.first),
               c, cs, more, LLVMConstReal(g->t->f32, scale), reach};
    call(g, part_score_product(x->l, kind), arg, (int)LEN(arg));
}

/* ---- packing */

typedef struct Copy { const Expr *load; V to; } Copy;

static void copy_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Copy *c = ctx;
    Gen *g = s->l->g;
    store(g, to_f(s, eval(s, c->load)), gep(g, g->t->f32, c->to, scope_axis(s, s->lanes)), 4);
}

/* Rows from .. of a load along an axis, as f32: [row][own]. */
static void pack_rows(Attention *x, Scope *dom, const Sum *s, V from, V to)
{
    Gen *g = x->g;
    Loop loop;
    Scope row;
    loop_begin(g, &loop, from, to, 1, NULL, 0);
    scope_in(&row, dom, loop.branch);
    scope_bind(&row, x->m, loop.i);
    V at = gep(g, g->t->f32, place(x, s->rows), i_mul(g, i_sub(g, loop.i, from), ic(g, up(s->n_own, g->t->lanes))));
    Copy c = {s->s.a, at};
    lane_loop(&row, s->own, ic(g, 0), ic(g, s->n_own), 1, copy_lanes, &c, NULL, 0);
    loop_end(g, &loop, NULL);
}

/* One slice, element by element: for layouts without a unit stride on either side. */
static void pack_slowly(Attention *x, Scope *dom, const Sum *s, int term, int column, V first, V n0, V left, V len, V to)
{
    Gen *g = x->g;
    int w = g->t->lanes, nr = tile_columns(g->t);
    Loop k, part;
    Scope one, in, lanes;
    loop_begin(g, &k, ic(g, 0), len, 1, NULL, 0);
    scope_in(&one, dom, k.branch);
    scope_bind(&one, term, i_add(g, first, k.i));
    loop_begin(g, &part, ic(g, 0), left, w, NULL, 0);
    scope_in(&in, &one, part.branch);
    scope_in(&lanes, &in, NULL);
    lanes.lanes = column;
    lanes.mask = mask_first(g, i_sub(g, left, part.i));
    scope_bind(&lanes, column, i_add(g, n0, part.i));
    V at = i_add(g, i_mul(g, k.i, ic(g, nr)), part.i);
    store(g, to_f(&lanes, eval(&lanes, s->s.b)), gep(g, g->t->f32, to, at), 4);
    loop_end(g, &part, NULL);
    loop_end(g, &k, NULL);
}

/* b: terms first .. first + len - 1 by all columns, into slices. */
static void pack_slices(Attention *x, Scope *dom, const Sum *s, int term, int column, V first, V len)
{
    Low *l = x->l;
    Gen *g = x->g;
    Lin lin = tensor_linear(&l->places, s->s.b->tensor, s->s.b->idx);
    Form form = l->graph->tensor[s->s.b->tensor].dtype == DT_BF16 ? WIDEN : PLAIN;
    bool straight = poly_is(lin.axis[column], 1), transposed = !straight && poly_is(lin.axis[term], 1);
    V fn = straight ? part_pack_straight(l, form) : transposed ? part_pack_transposed(l, form) : NULL;
    V lanes = ic(g, g->t->lanes), columns = ic(g, s->product ? x->n_n : s->n_own);
    Loop loop;
    Scope in, at;
    loop_begin(g, &loop, ic(g, 0), ic(g, s->cut.slices), 1, NULL, 0);
    scope_in(&in, dom, loop.branch);
    V n0 = i_mul(g, cut_before(g, &s->cut, loop.i), lanes), to = gep(g, g->t->f32, place(x, s->slices), i_mul(g, loop.i, ic(g, s->slice)));
    V left = i_min(g, i_mul(g, cut_width(g, &s->cut, loop.i), lanes), i_sub(g, columns, n0));
    if (fn) {
        scope_in(&at, &in, NULL);
        scope_bind(&at, column, n0);
        scope_bind(&at, term, first);
        Mem mem = tensor_mem(l, s->s.b->tensor);
        V arg[] = {address(&at, &mem, s->s.b->idx, s), gen_poly(g, lin.axis[straight ? term : column]),
                   left, len, to, ic(g, 1), ic(g, 0)};
        call(g, fn, arg, straight ? 7 : 5);
    } else {
        pack_slowly(x, &in, s, term, column, first, n0, left, len, to);
    }
    loop_end(g, &loop, NULL);
}

/* ---- results: summed where they belong, if that takes whole vectors of f32; else in scratch, and copied at the end */

static bool is_direct(const Attention *x, const Sum *s)
{
    const Low *l = x->l;
    const Comp *c = l->member[s->member].c;
    Lin lin = tensor_linear(&x->l->places, c->out, c->store);
    return l->graph->tensor[c->out].dtype == DT_F32 && s->n_own % x->g->t->lanes == 0 && !lin.n_atoms && poly_is(lin.axis[s->own], 1);
}

/* Where the sums of row (or column) `first` and those after it are; true: where they belong. */
static bool result_place(Attention *x, Scope *dom, const Sum *s, V first, V *c, V *cs)
{
    Low *l = x->l;
    Gen *g = x->g;
    *c = place(x, s->out);
    *cs = ic(g, up(s->n_own, g->t->lanes));
    if (!is_direct(x, s))
        return false;
    const Comp *made = l->member[s->member].c;
    int axis = s->over_m ? x->n : x->m;
    Mem mem = tensor_mem(l, made->out);
    Scope at;
    scope_in(&at, dom, NULL);
    scope_bind(&at, axis, first);
    scope_bind(&at, s->own, ic(g, 0));
    *c = address(&at, &mem, made->store, &s->out);
    *cs = gen_poly(g, tensor_linear(&l->places, made->out, made->store).axis[axis]);
    return true;
}

typedef struct Finish { Attention *x; const Sum *s; V row; } Finish;

static void finish_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Finish *f = ctx;
    Low *l = s->l;
    Gen *g = l->g;
    const Comp *c = l->member[f->s->member].c;
    V x = load(g, g->t->vf, gep(g, g->t->f32, f->row, scope_axis(s, s->lanes)), 4);
    if (f->s->s.scale != 1)
        x = f_mul(g, x, fc(g, f->s->s.scale));
    l->comp = c;
    store_member(s, c, member_value(s, c, (Val){VAL_F, x}));
}

/* Sums of rows (or columns) from .. to - 1 go where they belong. */
static void finish(Attention *x, Scope *dom, const Sum *s, V from, V to)
{
    Gen *g = x->g;
    int axis = s->over_m ? x->n : x->m;
    Loop loop;
    Scope row;
    if (is_direct(x, s))
        return;
    loop_begin(g, &loop, from, to, 1, NULL, 0);
    scope_in(&row, dom, loop.branch);
    scope_bind(&row, axis, loop.i);
    V at = i_mul(g, i_sub(g, loop.i, from), ic(g, up(s->n_own, g->t->lanes)));
    Finish f = {x, s, gep(g, g->t->f32, place(x, s->out), at)};
    lane_loop(&row, s->own, ic(g, 0), ic(g, s->n_own), 1, finish_lanes, &f, NULL, 0);
    loop_end(g, &loop, NULL);
}

/* ---- a block of rows: void (bufs, batch, task, scratch, m0, m1) */

static void begin(Attention *x, Scope *root, Scope *dom, V task)
{
    Low *l = x->l;
    Group grp[MAX_AXES];
    int n = l->k->n_dom;
    for (int a = 0; a < n; a++)
        grp[a] = (Group){a, poly_ext(l->k->dom[a])};
    scope_root(root, l);
    scope_in(dom, root, NULL);
    scope_digits(dom, grp, n, -1, task);
}

/* Scores of member i as other members read them: row m0 of the block is at the member's place. */
static void place_scores(Attention *x, int i, V m0)
{
    Low *l = x->l;
    Gen *g = x->g;
    const Comp *c = l->member[i].c;
    Mem mem = {.base = gep(g, g->t->f32, place(x, x->at[i]), i_sub(g, ic(g, 0), i_mul(g, m0, ic(g, x->width)))), .dtype = DT_F32,
               .at.rank = l->graph->tensor[c->out].rank};
    for (int d = 0; d < mem.at.rank; d++) {
        int axis = aff_plain(c->store[d]);
        mem.at.stride[d] = poly_const(axis == x->m ? x->width : axis == x->n ? 1 : 0);
    }
    l->member[i].mem = mem;
}

static void product_of_block(Attention *x, Scope *dom, const Sum *s, V m0, V m1, V reach)
{
    Low *l = x->l;
    Gen *g = x->g;
    Lin lin = tensor_linear(&l->places, s->s.a->tensor, s->s.a->idx);
    bool in_place = l->graph->tensor[s->s.a->tensor].dtype == DT_F32 && poly_is(lin.axis[s->own], 1);
    V a = place(x, s->rows), stride = ic(g, up(s->n_own, g->t->lanes));
    if (in_place) {
        Scope at;
        Mem mem = tensor_mem(l, s->s.a->tensor);
        scope_in(&at, dom, NULL);
        scope_bind(&at, x->m, m0);
        scope_bind(&at, s->own, ic(g, 0));
        a = address(&at, &mem, s->s.a->idx, &s->s);
        stride = gen_poly(g, lin.axis[x->m]);
    } else {
        pack_rows(x, dom, s, m0, m1);
    }
    multiply(x, SCORES, ic(g, s->n_own), i_sub(g, m1, m0), a, stride, s, place(x, s->out), ic(g, x->width), ic(g, 0), s->s.scale, reach);
}

typedef struct Write { const Comp *c; V row; } Write;

static void write_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Write *w = ctx;
    Gen *g = s->l->g;
    s->l->comp = w->c;
    store_member(s, w->c, (Val){VAL_F, load(g, g->t->vf, gep(g, g->t->f32, w->row, scope_axis(s, s->lanes)), 4)});
}

/* A product that somebody outside reads as well. */
static void write_product(Attention *x, Scope *dom, const Sum *s, V m0, V m1)
{
    Gen *g = x->g;
    Loop loop;
    Scope row;
    loop_begin(g, &loop, m0, m1, 1, NULL, 0);
    scope_in(&row, dom, loop.branch);
    scope_bind(&row, x->m, loop.i);
    V at = i_mul(g, i_sub(g, loop.i, m0), ic(g, x->width));
    Write w = {x->l->member[s->member].c, gep(g, g->t->f32, place(x, s->out), at)};
    lane_loop(&row, x->n, ic(g, 0), ic(g, x->n_n), 1, write_lanes, &w, NULL, 0);
    loop_end(g, &loop, NULL);
}

/* Where a row of scores ends: at its reach, in whole vectors. */
typedef struct RowReach { const Attention *x; V m0, reach; } RowReach;

static V row_end(void *ctx, V row)
{
    const RowReach *r = ctx;
    Gen *g = r->x->g;
    int64_t reach;
    if (ic_value(r->reach, &reach) && reach >= r->x->n_n)
        return ic(g, r->x->n_n);
    return i_min(g, reach_columns(g, i_sub(g, row, r->m0), r->reach), ic(g, r->x->n_n));
}

static V make_block(Attention *x)
{
    Low *l = x->l;
    Gen *g = x->g;
    Aside aside;
    Scope root, dom;
    for (int kind = SCORES; kind <= ALONG_M; kind++)           /* what is called is built before the caller */
        part_score_product(l, (ScoreProduct)kind);
    for (int i = 0; i < x->n_sum; i++) {
        Form form = l->graph->tensor[x->sum[i].s.b->tensor].dtype == DT_BF16 ? WIDEN : PLAIN;
        part_pack_straight(l, form);
        part_pack_transposed(l, form);
    }
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->ptr, g->t->i64, g->t->i64};
    aside_begin(l, &aside, arena_printf(l->m->arena, "k%d_block", l->m->kernels.n), g->t->none, t, (int)LEN(t));
    g->bufs = LLVMGetParam(g->fn, 0);
    g->batch = LLVMGetParam(g->fn, 1);
    g->scratch = LLVMGetParam(g->fn, 3);
    V m0 = LLVMGetParam(g->fn, 4), m1 = LLVMGetParam(g->fn, 5), rows = i_sub(g, m1, m0);
    V reach = x->reach < x->n_n - 1 ? i_add(g, m0, ic(g, x->reach)) : ic(g, x->n_n);
    begin(x, &root, &dom, LLVMGetParam(g->fn, 2));
    bool *apart = NEWN(l->arena, bool, l->n_member);
    for (int i = 0; i < l->n_member; i++) {
        ScoreRole role = score_role(l->k, l->member[i].c);
        apart[i] = role == SCORE_PRODUCT || role == SCORE_RESULT;
        if (x->at[i] >= 0)
            place_scores(x, i, m0);
        l->places.placed[i] = role == SCORE_PRODUCT;
        l->member[i].kept = role == SCORE_POINT && x->at[i] >= 0;
    }
    for (int i = 0; i < x->n_sum; i++)
        if (x->sum[i].product)
            product_of_block(x, &dom, &x->sum[i], m0, m1, reach);
    RowReach until = {x, m0, reach};
    rows_plan(&x->rows, l, l->k->n_dom + 1, apart);
    x->rows.along = x->n;
    rows_run_together(&x->rows, &dom, x->m, m0, m1, place(x, x->of_rows), row_end, &until);
    for (int i = 0; i < x->n_sum; i++)
        if (x->sum[i].product && kernel_writes(l->k, l->member[x->sum[i].member].c->out))
            write_product(x, &dom, &x->sum[i], m0, m1);
    for (int i = 0; i < x->n_sum; i++) {
        const Sum *s = &x->sum[i];
        if (s->product)
            continue;
        V scores = place(x, x->at[s->score]), width = ic(g, x->width), none = ic(g, 0), c, cs;
        double scale = result_place(x, &dom, s, s->over_m ? none : m0, &c, &cs) ? s->s.scale : 1;
        if (s->over_m) {
            V more = LLVMBuildZExt(g->b, LLVMBuildICmp(g->b, LLVMIntNE, m0, none, ""), g->t->i64, "");
            pack_slices(x, &dom, s, x->m, s->own, m0, rows);
            multiply(x, ALONG_M, rows, ic(g, x->n_n), scores, width, s, c, cs, more, scale, reach);
        } else {
            multiply(x, ALONG_N, ic(g, x->n_n), rows, scores, width, s, c, cs, none, scale, reach);
            finish(x, &dom, s, m0, m1);
        }
    }
    return aside_end(l, &aside, NULL);
}

bool lower_score(Low *l)
{
    Gen *g = l->g;
    Attention x = {.l = l, .g = g, .m = score_m(l->k), .n = score_n(l->k), .at = NEWN(l->arena, int64_t, l->n_member)};
    bool *kept = NEWN(l->arena, bool, l->n_member);
    for (int i = 0; i < l->n_member; i++)
        x.at[i] = -1;
    if (!find_sums((Graph *)l->graph, l->k, x.sum, &x.n_sum, kept)) {
        low_fail(l, "sums that have no code");
        return false;
    }
    layout(l->k, x.sum, x.n_sum, kept, rows_of_block(l->k, kept, g->t->lanes), g->t->lanes, &x);
    x.reach = score_reach((Graph *)l->graph, l->k, x.n_n);
    V block = make_block(&x);
    launch_begin(l, "score");
    Scope root, dom;
    Loop loop;
    begin(&x, &root, &dom, g->task);
    for (int i = 0; i < x.n_sum; i++) {
        const Sum *s = &x.sum[i];
        if (s->product)
            pack_slices(&x, &dom, s, s->own, x.n, ic(g, 0), ic(g, s->n_own));
        else if (!s->over_m)
            pack_slices(&x, &dom, s, x.n, s->own, ic(g, 0), ic(g, x.n_n));
    }
    loop_begin(g, &loop, ic(g, 0), ic(g, x.n_m), x.block, NULL, 0);
    V arg[] = {g->bufs, g->batch, g->task, g->scratch, loop.i, i_min(g, i_add(g, loop.i, ic(g, x.block)), ic(g, x.n_m))};
    call(g, block, arg, (int)LEN(arg));
    loop_end(g, &loop, NULL);
    for (int i = 0; i < x.n_sum; i++)
        if (!x.sum[i].product && x.sum[i].over_m)
            finish(&x, &dom, &x.sum[i], ic(g, 0), ic(g, x.n_n));
    launch_tasks(l);
    Poly tasks = poly_const(1);
    for (int a = 0; a < l->k->n_dom; a++)
        tasks = poly_mul(&l->places, tasks, poly_ext(l->k->dom[a]));
    launch_end(l, gen_poly(g, tasks));
    return !l->failed;
}
