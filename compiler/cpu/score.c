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
 * A task is the work of one thread and the blocks follow from the extents: equal bits for any number of threads. */
#include "cpu/contract.h"
#include "tic.h"

enum { MOST_SUMS = 8, BLOCK_BYTES = 256 << 10 };

/* A PRODUCT or a RESULT, and its places in scratch, in elements. */
typedef struct Sum {
    int member, own;                   /* own: the axis of terms or features */
    bool product, over_m;
    ScoreSum s;
    int score;                         /* RESULT: the member whose scores it sums */
    int64_t n_own;
    int64_t slices;                    /* of b, packed */
    int64_t rows;                      /* PRODUCT: rows of a as f32; -1: a is read in place */
    int64_t out;                       /* PRODUCT: its scores. RESULT: sums of a block's rows, or of all columns */
} Sum;

typedef struct Attention {
    Low *l;
    Gen *g;
    Sum sum[MOST_SUMS];
    int n_sum, m, n;                   /* m, n: axes */
    int64_t n_m, n_n, width, block;    /* extents; elements from row to row of scores; rows of a block */
    int64_t *at;                       /* by member: where its scores are, -1: nowhere */
    int64_t used;                      /* elements of scratch */
    RowPlan rows;
} Attention;

/* ---- what is taken */

static int64_t up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

static int64_t slice_elements(int64_t terms, int lanes)
{
    return (up(terms, lanes) + 2 * lanes) * NV * lanes;        /* a transposing pack ends with a whole square */
}

static int64_t panel_elements(int64_t terms, int64_t columns, int lanes)
{
    return (columns + NV * lanes - 1) / (NV * lanes) * slice_elements(terms, lanes);
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
    for (int i = 0; i < n_sum; i++) {
        const Sum *s = &sum[i];
        int64_t terms = s->product ? s->n_own : s->over_m ? block : n_n, columns = s->product ? n_n : s->n_own;
        int64_t slices = used, rows = used + panel_elements(terms, columns, lanes);
        int64_t out = rows + (s->product ? block * up(s->n_own, lanes) : 0);
        used = out + (s->product ? block * width : (s->over_m ? up(n_n, 16) : block) * up(s->n_own, lanes));
        if (x) {
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
        x->used = used;
    }
    return used;
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
    Arena scratch = {0};
    Sum sum[MOST_SUMS];
    int n_sum;
    bool *kept = NEWN(&scratch, bool, k->n_comp);
    bool takes = find_sums(g, k, sum, &n_sum, kept);
    takes = takes && 4 * layout(k, sum, n_sum, kept, rows_of_block(k, kept, WIDEST), WIDEST, NULL) <= TIC_SCRATCH_BYTES;
    arena_free(&scratch);
    return takes;
}

/* ---- products: c[rows][vectors of columns] (+)= scale * sum over terms of a * slices */

/* One tile of MR rows and nv vectors. By rows: term k of row r is a[r * stride + k], rows past `rows` are computed from the
 * last one again; else a[k * stride + r]. All MR rows of c are stored. */
static V tile_product(Low *l, bool by_rows, int nv)
{
    const char *name = arena_printf(l->arena, "score_tile_%s_%d", by_rows ? "rows" : "columns", nv);
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, p = g->t->ptr, f32 = g->t->f32, t[] = {i, i, p, i, p, p, i, i, f32};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    int w = g->t->lanes, mr = tile_rows(g->t), nr = tile_columns(g->t), n_acc = mr * nv;
    V len = LLVMGetParam(fn, 0), rows = LLVMGetParam(fn, 1), a = LLVMGetParam(fn, 2), stride = LLVMGetParam(fn, 3);
    V b = LLVMGetParam(fn, 4), c = LLVMGetParam(fn, 5), cs = LLVMGetParam(fn, 6), more = LLVMGetParam(fn, 7);
    V scale = splat(g, LLVMGetParam(fn, 8)), last = i_sub(g, rows, ic(g, 1)), row[8], carry[MAX_CARRY];
    for (int r = 0; r < mr; r++)
        row[r] = gep(g, f32, a, by_rows ? i_mul(g, i_min(g, ic(g, r), last), stride) : ic(g, r));
    for (int k = 0; k < n_acc; k++)
        carry[k] = fc(g, 0);
    V from = ic(g, 0), to = LLVMBuildAnd(g->b, len, ic(g, -4), "");
    for (int unroll = 4; unroll; unroll = unroll == 4 ? 1 : 0) {
        Loop loop;
        loop_begin(g, &loop, from, to, unroll, carry, n_acc);
        for (int u = 0; u < unroll; u++) {
            V k = i_add(g, loop.i, ic(g, u)), pb = gep(g, f32, b, i_mul(g, k, ic(g, nr))), x[NV];
            V at = by_rows ? k : i_mul(g, k, stride);
            for (int v = 0; v < nv; v++)
                x[v] = load(g, g->t->vf, gep(g, f32, pb, ic(g, v * w)), 4);
            for (int r = 0; r < mr; r++) {
                V y = splat(g, load(g, f32, gep(g, f32, row[r], at), 4));
                for (int v = 0; v < nv; v++)
                    carry[r * nv + v] = f_fma(g, y, x[v], carry[r * nv + v]);
            }
        }
        loop_end(g, &loop, carry);
        from = to;
        to = len;
    }
    Branch f;
    for (int k = 0; k < n_acc; k++)
        carry[k] = f_mul(g, carry[k], scale);
    if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, more, ic(g, 0), ""), carry, n_acc);
    for (int k = 0; k < n_acc; k++)
        carry[k] = f_add(g, carry[k], load(g, g->t->vf, gep(g, f32, gep(g, f32, c, i_mul(g, ic(g, k / nv), cs)), ic(g, k % nv * w)), 4));
    if_end(g, &f, carry);
    for (int k = 0; k < n_acc; k++)
        store(g, carry[k], gep(g, f32, gep(g, f32, c, i_mul(g, ic(g, k / nv), cs)), ic(g, k % nv * w)), 4);
    return aside_end(l, &aside, NULL);
}

/* void (terms, rows, a, stride, slices, elements of a slice, vectors, c, cs, more, scale) */
static V whole_product(Low *l, bool by_rows)
{
    const char *name = by_rows ? "score_product_rows" : "score_product_columns";
    V fn = part_helper(l->part, name), tile[NV + 1];
    if (fn)
        return fn;
    for (int nv = 1; nv <= NV; nv++)
        tile[nv] = tile_product(l, by_rows, nv);
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, p = g->t->ptr, f32 = g->t->f32, t[] = {i, i, p, i, p, i, i, p, i, i, f32};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    int w = g->t->lanes, mr = tile_rows(g->t);
    V terms = LLVMGetParam(fn, 0), rows = LLVMGetParam(fn, 1), a = LLVMGetParam(fn, 2), stride = LLVMGetParam(fn, 3);
    V slices = LLVMGetParam(fn, 4), slice = LLVMGetParam(fn, 5), vectors = LLVMGetParam(fn, 6), c = LLVMGetParam(fn, 7);
    V cs = LLVMGetParam(fn, 8), more = LLVMGetParam(fn, 9), scale = LLVMGetParam(fn, 10);
    V whole = i_div(g, vectors, ic(g, NV)), rest = i_sub(g, vectors, i_mul(g, whole, ic(g, NV)));
    Loop r, s;
    loop_begin(g, &r, ic(g, 0), rows, mr, NULL, 0);
    V from = gep(g, f32, a, by_rows ? i_mul(g, r.i, stride) : r.i), to = gep(g, f32, c, i_mul(g, r.i, cs)), left = i_sub(g, rows, r.i);
    loop_begin(g, &s, ic(g, 0), whole, 1, NULL, 0);
    V full[] = {terms, i_min(g, left, ic(g, mr)), from, stride, gep(g, f32, slices, i_mul(g, s.i, slice)),
                gep(g, f32, to, i_mul(g, s.i, ic(g, NV * w))), cs, more, scale};
    call(g, tile[NV], full, (int)LEN(full));
    loop_end(g, &s, NULL);
    for (int nv = 1; nv < NV; nv++) {
        Branch f;
        if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntEQ, rest, ic(g, nv), ""), NULL, 0);
        V part[] = {terms, i_min(g, left, ic(g, mr)), from, stride, gep(g, f32, slices, i_mul(g, whole, slice)),
                    gep(g, f32, to, i_mul(g, whole, ic(g, NV * w))), cs, more, scale};
        call(g, tile[nv], part, (int)LEN(part));
        if_end(g, &f, NULL);
    }
    loop_end(g, &r, NULL);
    return aside_end(l, &aside, NULL);
}

static V place(const Attention *x, int64_t at)
{
    return gep(x->g, x->g->t->f32, x->g->scratch, ic(x->g, at));
}

static void multiply(Attention *x, bool by_rows, V terms, V rows, V a, V stride, const Sum *s, int64_t most_terms, int64_t columns,
                     V c, int64_t cs, V more, double scale)
{
    Gen *g = x->g;
    V number = LLVMConstReal(g->t->f32, scale), fn = whole_product(x->l, by_rows);
    V arg[] = {terms, rows, a, stride, place(x, s->slices), ic(g, slice_elements(most_terms, g->t->lanes)),
               ic(g, up(columns, g->t->lanes) / g->t->lanes), c, ic(g, cs), more, number};
    call(g, fn, arg, (int)LEN(arg));
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
static void pack_slowly(Attention *x, Scope *dom, const Sum *s, int term, int column, int64_t columns, V first, V n0, V len, V to)
{
    Gen *g = x->g;
    int w = g->t->lanes, nr = tile_columns(g->t);
    Loop k, part;
    Scope one, in, lanes;
    loop_begin(g, &k, ic(g, 0), len, 1, NULL, 0);
    scope_in(&one, dom, k.branch);
    scope_bind(&one, term, i_add(g, first, k.i));
    loop_begin(g, &part, ic(g, 0), i_min(g, ic(g, nr), i_sub(g, ic(g, columns), n0)), w, NULL, 0);
    scope_in(&in, &one, part.branch);
    scope_in(&lanes, &in, NULL);
    lanes.lanes = column;
    lanes.mask = mask_first(g, i_sub(g, i_sub(g, ic(g, columns), n0), part.i));
    scope_bind(&lanes, column, i_add(g, n0, part.i));
    V at = i_add(g, i_mul(g, k.i, ic(g, nr)), part.i);
    store(g, to_f(&lanes, eval(&lanes, s->s.b)), gep(g, g->t->f32, to, at), 4);
    loop_end(g, &part, NULL);
    loop_end(g, &k, NULL);
}

/* b: terms first .. first + len - 1 by all columns, into slices. */
static void pack_slices(Attention *x, Scope *dom, const Sum *s, int term, int column, int64_t columns, int64_t most_terms, V first, V len)
{
    Low *l = x->l;
    Gen *g = x->g;
    Lin lin = tensor_linear(&l->places, s->s.b->tensor, s->s.b->idx);
    Form form = l->graph->tensor[s->s.b->tensor].dtype == DT_BF16 ? WIDEN : PLAIN;
    bool straight = poly_is(lin.axis[column], 1), transposed = !straight && poly_is(lin.axis[term], 1);
    V fn = straight ? part_pack_straight(l, form) : transposed ? part_pack_transposed(l, form) : NULL;
    int nr = tile_columns(g->t);
    Loop loop;
    Scope in, at;
    loop_begin(g, &loop, ic(g, 0), ic(g, (columns + nr - 1) / nr), 1, NULL, 0);
    scope_in(&in, dom, loop.branch);
    V n0 = i_mul(g, loop.i, ic(g, nr)), to = gep(g, g->t->f32, place(x, s->slices), i_mul(g, loop.i, ic(g, slice_elements(most_terms, g->t->lanes))));
    if (fn) {
        scope_in(&at, &in, NULL);
        scope_bind(&at, column, n0);
        scope_bind(&at, term, first);
        Mem mem = tensor_mem(l, s->s.b->tensor);
        V arg[] = {address(&at, &mem, s->s.b->idx, s), gen_poly(g, lin.axis[straight ? term : column]),
                   i_sub(g, ic(g, columns), n0), len, to, ic(g, 1), ic(g, 0)};
        call(g, fn, arg, straight ? 7 : 5);
    } else {
        pack_slowly(x, &in, s, term, column, columns, first, n0, len, to);
    }
    loop_end(g, &loop, NULL);
}

/* ---- results */

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

/* Sums of rows from .. to - 1 of an axis, the first at `sums`. */
static void finish(Attention *x, Scope *dom, const Sum *s, int axis, V from, V to)
{
    Gen *g = x->g;
    Loop loop;
    Scope row;
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

static void product_of_block(Attention *x, Scope *dom, const Sum *s, V m0, V m1)
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
    multiply(x, true, ic(g, s->n_own), i_sub(g, m1, m0), a, stride, s, s->n_own, x->n_n, place(x, s->out), x->width, ic(g, 0), s->s.scale);
}

typedef struct Write { const Comp *c; V row; } Write;

static void write_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Write *w = ctx;
    Gen *g = s->l->g;
    s->l->comp = w->c;
    store_member(s, w->c, (Val){VAL_F, load(g, g->t->vf, gep(g, g->t->f32, w->row, scope_axis(s, s->lanes)), 4)});
}

/* A product that somebody outside reads as well, one row of it. */
static void write_product(Attention *x, Scope *row, const Sum *s, V m0)
{
    Gen *g = x->g;
    V at = i_mul(g, i_sub(g, scope_axis(row, x->m), m0), ic(g, x->width));
    Write w = {x->l->member[s->member].c, gep(g, g->t->f32, place(x, s->out), at)};
    lane_loop(row, x->n, ic(g, 0), ic(g, x->n_n), 1, write_lanes, &w, NULL, 0);
}

static V make_block(Attention *x)
{
    Low *l = x->l;
    Gen *g = x->g;
    Aside aside;
    Scope root, dom, row;
    Loop loop;
    whole_product(l, true);            /* what is called is built before the caller */
    whole_product(l, false);
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
            product_of_block(x, &dom, &x->sum[i], m0, m1);
    rows_plan(&x->rows, l, l->k->n_dom + 1, apart);
    loop_begin(g, &loop, m0, m1, 1, NULL, 0);
    scope_in(&row, &dom, loop.branch);
    scope_bind(&row, x->m, loop.i);
    rows_run(&x->rows, &row);
    for (int i = 0; i < x->n_sum; i++)
        if (x->sum[i].product && kernel_writes(l->k, l->member[x->sum[i].member].c->out))
            write_product(x, &row, &x->sum[i], m0);
    loop_end(g, &loop, NULL);
    for (int i = 0; i < x->n_sum; i++) {
        const Sum *s = &x->sum[i];
        int64_t cs = up(s->n_own, g->t->lanes);
        if (s->product)
            continue;
        V scores = place(x, x->at[s->score]);
        if (s->over_m) {
            V more = LLVMBuildZExt(g->b, LLVMBuildICmp(g->b, LLVMIntNE, m0, ic(g, 0), ""), g->t->i64, "");
            pack_slices(x, &dom, s, x->m, s->own, s->n_own, x->block, m0, rows);
            multiply(x, false, rows, ic(g, x->n_n), scores, ic(g, x->width), s, x->block, s->n_own, place(x, s->out), cs, more, 1);
        } else {
            multiply(x, true, ic(g, x->n_n), rows, scores, ic(g, x->width), s, x->n_n, s->n_own, place(x, s->out), cs, ic(g, 0), 1);
            finish(x, &dom, s, x->m, m0, m1);
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
    V block = make_block(&x);
    launch_begin(l, "score");
    Scope root, dom;
    Loop loop;
    begin(&x, &root, &dom, g->task);
    for (int i = 0; i < x.n_sum; i++) {
        const Sum *s = &x.sum[i];
        if (s->product)
            pack_slices(&x, &dom, s, s->own, x.n, x.n_n, s->n_own, ic(g, 0), ic(g, s->n_own));
        else if (!s->over_m)
            pack_slices(&x, &dom, s, x.n, s->own, s->n_own, x.n_n, ic(g, 0), ic(g, x.n_n));
    }
    loop_begin(g, &loop, ic(g, 0), ic(g, x.n_m), x.block, NULL, 0);
    V arg[] = {g->bufs, g->batch, g->task, g->scratch, loop.i, i_min(g, i_add(g, loop.i, ic(g, x.block)), ic(g, x.n_m))};
    call(g, block, arg, (int)LEN(arg));
    loop_end(g, &loop, NULL);
    for (int i = 0; i < x.n_sum; i++)
        if (!x.sum[i].product && x.sum[i].over_m)
            finish(&x, &dom, &x.sum[i], x.n, ic(g, 0), ic(g, x.n_n));
    launch_tasks(l);
    Poly tasks = poly_const(1);
    for (int a = 0; a < l->k->n_dom; a++)
        tasks = poly_mul(&l->places, tasks, poly_ext(l->k->dom[a]));
    launch_end(l, gen_poly(g, tasks));
    return !l->failed;
}
