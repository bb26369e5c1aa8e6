/* contract.c -- CONTRACT kernels: a packed matrix product with whatever follows it element by element.
 *
 * The output is cut into tasks: (batch indices) x (block of rows) x (block of columns), independent of each other; what a
 * task does is product.c's. Here is what a contraction adds to it: which axes are rows, columns and terms, how its
 * operands get into panels (any layout is absorbed by packing, because affine addresses are separable into a part of the
 * rows, of the columns and of the terms), and the epilogue, which reads a finished tile, applies the scale and the other
 * members, and stores. A sum of a side over the terms is taken from its panels, by the tasks of the first block of the other
 * side.
 *
 * Sides may be exchanged: lanes run along columns, and columns are the side whose stores are unit-stride. */
#include "cpu/contract.h"
#include <string.h>

typedef enum { A_ROWS, A_COLUMNS, A_OTHER } AMode;    /* terms unit-stride: read in place; rows unit-stride; neither */

typedef struct Contraction {
    Low *l;
    Gen *g;
    int mr, nr;
    const Expr *a, *b;
    Group *outer, *m, n, *k;
    int n_outer, n_m, n_k;
    uint32_t zero;
    AMode mode;
    bool half;                         /* both operands bf16, and pairs of them are multiplied */
    Form a_form, b_form;
    enum { B_STRAIGHT, B_TRANSPOSED, B_OTHER } b_mode;    /* columns unit-stride; terms unit-stride; neither, or several loops */
    Poly a_row, a_term, b_column, b_term;
    Poly rows, terms, batches;
    V pack_a, pack_b, finish;
    V panels_a;                        /* pack_a, or what finds its panels ready */
    const Comp *sum;                   /* the member that sums a side; NULL: none */
    bool sums_a;                       /* else b */
    int n_folded;                      /* of the outer groups, the innermost that are columns */
    bool once;                         /* A may lie ready */
    V block_sums, pack_sum;            /* sums that side's panels; gives them, and adds up their sums */
} Contraction;

/* ---- shapes */

static bool analyse(Contraction *c)
{
    Low *l = c->l;
    const Contract *s = &l->k->split;
    Accesses acc = {0};
    ContractAxes x;
    c->sum = s->sum ? l->member[l->n_member - 1].c : NULL;
    for (int i = 0; i < l->n_member && l->member[i].c != c->sum; i++) {
        access_loads(l, l->member[i].c, &acc);
        if (kernel_writes(l->k, l->member[i].c->out))
            access_store(l, l->member[i].c, &acc);
    }
    int unit = unit_axis(l->member[0].c, &acc);
    if (c->sum)
        access_store(l, c->sum, &acc);
    if (!contract_axes(&l->places, &acc, unit, &x))
        return false;
    /* short runs of columns would leave most of a tile empty: then rather columns whose stores are not unit-stride */
    bool turn = x.n_n > 1 && x.n_m == 1 && poly_guess(x.n[x.n_n - 1].n) < tile_columns(l->g->t) && poly_guess(x.m[0].n) >= tile_columns(l->g->t);
    const Group *columns = turn ? x.m : x.n;
    int n_columns = turn ? x.n_m : x.n_n;
    c->a = turn ? x.b : x.a;
    c->b = turn ? x.a : x.b;
    c->outer = x.outer;
    c->n_outer = x.n_outer;
    c->m = turn ? x.n : x.m;
    c->n_m = turn ? x.n_n : x.n_m;
    c->k = x.k;
    c->n_k = x.n_k;
    c->zero = x.zero;
    for (int i = 0; i + 1 < n_columns; i++)    /* columns that do not run together: all but the innermost are batches */
        c->outer[c->n_outer++] = columns[i];
    c->n_folded = n_columns - 1;
    c->n = columns[n_columns - 1];

    Lin a = tensor_linear(&l->places, c->a->tensor, c->a->idx), b = tensor_linear(&l->places, c->b->tensor, c->b->idx);
    int ma = c->m[c->n_m - 1].axis, ka = c->k[c->n_k - 1].axis;
    DType a_type = l->graph->tensor[c->a->tensor].dtype, b_type = l->graph->tensor[c->b->tensor].dtype;
    bool simple_a = c->n_m == 1 && c->n_k == 1;
    c->half = l->g->t->pairs && a_type == DT_BF16 && b_type == DT_BF16;
    c->a_form = c->half ? PAIRS : a_type == DT_BF16 ? WIDEN : PLAIN;
    c->b_form = c->half ? PAIRS : b_type == DT_BF16 ? WIDEN : PLAIN;
    c->mode = simple_a && poly_is(a.axis[ka], 1) ? A_ROWS : simple_a && poly_is(a.axis[ma], 1) ? A_COLUMNS : A_OTHER;
    c->sums_a = s->sum == c->a;
    if (c->sum && c->sums_a && c->mode == A_ROWS && c->a_form != WIDEN)
        c->mode = A_OTHER;             /* to have panels */
    bool simple_b = c->n_k == 1;
    c->b_mode = simple_b && poly_is(b.axis[c->n.axis], 1) ? B_STRAIGHT : simple_b && poly_is(b.axis[ka], 1) ? B_TRANSPOSED : B_OTHER;
    c->a_row = a.axis[ma];
    c->a_term = a.axis[ka];
    c->b_column = b.axis[c->n.axis];
    c->b_term = b.axis[ka];
    c->rows = group_points(&l->places, c->m, c->n_m, -1);
    c->terms = group_points(&l->places, c->k, c->n_k, -1);
    c->batches = group_points(&l->places, c->outer, c->n_outer, -1);
    return !l->failed;
}

/* ---- functions of the kernel's own: (bufs, batch, outer, panel or tile, three to five i64) */

/* Begins one, with the batch indices bound to the digits of `outer`. */
static void own_begin(Contraction *c, Aside *aside, Scope *root, Scope *outer, const char *what, Ty result, int n)
{
    Low *l = c->l;
    Gen *g = c->g;
    Ty i = g->t->i64, t[] = {g->t->ptr, i, i, g->t->ptr, i, i, i, i, i};
    aside_begin(l, aside, arena_printf(l->m->arena, "k%d_%s", l->m->kernels.n, what), result, t, n);
    g->bufs = LLVMGetParam(g->fn, 0);
    g->batch = LLVMGetParam(g->fn, 1);
    scope_root(root, l);
    scope_zero(root, c->zero);
    scope_in(outer, root, NULL);
    scope_digits(outer, c->outer, c->n_outer, -1, LLVMGetParam(g->fn, 2));
}

static void bind(Scope *s, const Group *grp, int n, V flat)
{
    scope_digits(s, grp, n, -1, flat);
}

static V operand(Contraction *c, Scope *s, const Expr *e)
{
    Mem mem = tensor_mem(c->l, e->tensor);
    return address(s, &mem, e->idx, e);
}

/* Are all vectors of columns whole? Then no code is made for others. */
static bool whole_vectors(const Contraction *c)
{
    int64_t n;
    return poly_fixed(c->n.n, &n) && n % c->g->t->lanes == 0;
}

/* One 16-bit element of a panel of pairs: term k, column or row i of n. */
static void put_half(Gen *g, V panel, V k, int n, V i, V x)
{
    V pair = LLVMBuildLShr(g->b, k, ic(g, 1), ""), at = i_add(g, i_mul(g, pair, ic(g, n)), i);
    V p = gep(g, g->t->i16, gep(g, g->t->i32, panel, at), LLVMBuildAnd(g->b, k, ic(g, 1), ""));
    store(g, x, p, 2);
}

/* One slice, columns n0 on, when neither columns nor terms are side by side: element by element along the columns. */
static void pack_other(Contraction *c, Scope *outer, V panel, V n0, V k0, V len)
{
    Gen *g = c->g;
    int w = g->t->lanes, nr = tile_columns(g->t);
    V columns = gen_poly(g, c->n.n), left = i_sub(g, columns, n0);
    Loop loop, part;
    Scope s, in, lanes;
    loop_begin(g, &loop, ic(g, 0), len, 1, NULL, 0);
    scope_in(&s, outer, loop.branch);
    bind(&s, c->k, c->n_k, i_add(g, k0, loop.i));
    loop_begin(g, &part, ic(g, 0), i_min(g, ic(g, nr), left), w, NULL, 0);
    scope_in(&in, &s, part.branch);
    scope_in(&lanes, &in, NULL);
    lanes.lanes = c->n.axis;
    lanes.mask = whole_vectors(c) ? NULL : mask_first(g, i_sub(g, left, part.i));
    scope_bind(&lanes, c->n.axis, i_add(g, n0, part.i));
    V x = to_f(&lanes, eval(&lanes, c->b));
    if (c->half)
        for (int i = 0; i < w; i++)
            put_half(g, panel, loop.i, nr, i_add(g, part.i, ic(g, i)), lane(g, f_to_bf16(g, x), i));
    else
        store(g, x, gep(g, g->t->f32, panel, i_add(g, i_mul(g, loop.i, ic(g, nr)), part.i)), 4);
    loop_end(g, &part, NULL);
    loop_end(g, &loop, NULL);
    if (c->half) {
        Loop zero, column;
        loop_begin(g, &zero, len, LLVMBuildAnd(g->b, i_add(g, len, ic(g, 1)), ic(g, -2), ""), 1, NULL, 0);
        loop_begin(g, &column, ic(g, 0), ic(g, nr), 1, NULL, 0);
        put_half(g, panel, zero.i, nr, column.i, LLVMConstNull(g->t->i16));
        loop_end(g, &column, NULL);
        loop_end(g, &zero, NULL);
    }
}

static V first_of_slice(Contraction *c, Scope *outer, V n0, V k0)
{
    Scope s;
    scope_in(&s, outer, NULL);
    scope_bind(&s, c->n.axis, n0);
    scope_bind(&s, c->k[0].axis, k0);
    return operand(c, &s, c->b);
}

static V make_pack_b(Contraction *c)
{
    Gen *g = c->g;
    Aside aside;
    Scope root, outer, s;
    V shared = c->b_mode == B_STRAIGHT ? part_pack_straight(c->l, c->b_form) :
               c->b_mode == B_TRANSPOSED ? part_pack_transposed(c->l, c->b_form) : NULL;
    own_begin(c, &aside, &root, &outer, "pack_b", g->t->ptr, 9);
    V panel = LLVMGetParam(g->fn, 3), n0 = LLVMGetParam(g->fn, 4), k0 = LLVMGetParam(g->fn, 5), len = LLVMGetParam(g->fn, 6);
    V slices = LLVMGetParam(g->fn, 7), room = LLVMGetParam(g->fn, 8), columns = gen_poly(g, c->n.n);
    int nr = tile_columns(g->t);
    if (c->b_mode == B_STRAIGHT) {
        V arg[] = {first_of_slice(c, &outer, n0, k0), gen_poly(g, c->b_term), i_sub(g, columns, n0), len, panel, slices, room};
        call(g, shared, arg, 7);
        return aside_end(c->l, &aside, panel);
    }
    Loop slice;
    loop_begin(g, &slice, ic(g, 0), slices, 1, NULL, 0);
    scope_in(&s, &outer, slice.branch);
    V at = i_add(g, n0, i_mul(g, slice.i, ic(g, nr))), to = gep(g, g->t->f32, panel, i_mul(g, slice.i, i_mul(g, room, ic(g, nr))));
    if (shared) {
        V arg[] = {first_of_slice(c, &s, at, k0), gen_poly(g, c->b_column), i_sub(g, columns, at), len, to};
        call(g, shared, arg, 5);
    } else {
        pack_other(c, &s, to, at, k0, len);
    }
    loop_end(g, &slice, NULL);
    return aside_end(c->l, &aside, panel);
}

/* Rows m0 .. m1 - 1 in tiles of MR, each [k][MR], element by element; rows past m1 repeat the last one. */
static void pack_tiles(Contraction *c, Scope *outer, V panel, V m0, V m1, V k0, V len, V room)
{
    Gen *g = c->g;
    int mr = tile_rows(g->t);
    V last = i_sub(g, m1, ic(g, 1));
    Scope in, row[8], s[8];
    Loop tile, loop;
    loop_begin(g, &tile, m0, m1, mr, NULL, 0);
    scope_in(&in, outer, tile.branch);
    V to = gep(g, g->t->f32, panel, i_mul(g, i_sub(g, tile.i, m0), room));
    for (int r = 0; r < mr; r++) {
        scope_in(&row[r], &in, NULL);
        bind(&row[r], c->m, c->n_m, i_min(g, i_add(g, tile.i, ic(g, r)), last));
    }
    loop_begin(g, &loop, ic(g, 0), len, 1, NULL, 0);
    for (int r = 0; r < mr; r++) {
        scope_in(&s[r], &row[r], loop.branch);
        if (r == 0)
            bind(&s[r], c->k, c->n_k, i_add(g, k0, loop.i));
        else
            for (int i = 0; i < c->n_k; i++)
                scope_bind(&s[r], c->k[i].axis, scope_axis(&s[0], c->k[i].axis));
        V x = to_f(&s[r], eval(&s[r], c->a));
        if (c->half)
            put_half(g, to, loop.i, mr, ic(g, r), lane(g, f_to_bf16(g, x), 0));
        else
            store(g, lane(g, x, 0), gep(g, g->t->f32, to, i_add(g, i_mul(g, loop.i, ic(g, mr)), ic(g, r))), 4);
    }
    loop_end(g, &loop, NULL);
    loop_end(g, &tile, NULL);
}

static V make_pack_a(Contraction *c)
{
    Gen *g = c->g;
    Aside aside;
    Scope root, outer, s;
    bool terms = c->mode == A_ROWS;    /* in place but for their width */
    V shared = c->mode == A_COLUMNS ? part_pack_rows(c->l, c->a_form) : terms ? part_pack_terms(c->l) : NULL;
    own_begin(c, &aside, &root, &outer, "pack_a", g->t->ptr, 9);
    V panel = LLVMGetParam(g->fn, 3), m0 = LLVMGetParam(g->fn, 4), m1 = LLVMGetParam(g->fn, 5);
    V k0 = LLVMGetParam(g->fn, 6), len = LLVMGetParam(g->fn, 7), room = LLVMGetParam(g->fn, 8);
    if (shared) {
        scope_in(&s, &outer, NULL);
        scope_bind(&s, c->m[0].axis, m0);
        scope_bind(&s, c->k[0].axis, k0);
        V arg[] = {operand(c, &s, c->a), gen_poly(g, terms ? c->a_row : c->a_term), i_sub(g, m1, m0), len, panel, room};
        call(g, shared, arg, 6);
    } else {
        pack_tiles(c, &outer, panel, m0, m1, k0, len, room);
    }
    return aside_end(c->l, &aside, panel);
}

/* ---- the epilogue of one tile */

static void finish_vector(Contraction *c, Scope *row, V tile, V r, V n, V column, V mask)
{
    Low *l = c->l;
    Gen *g = c->g;
    Scope s;
    scope_in(&s, row, NULL);
    s.lanes = c->n.axis;
    s.mask = mask;
    scope_bind(&s, c->n.axis, n);
    V at = i_add(g, i_mul(g, r, ic(g, tile_columns(g->t))), column);
    V x = load(g, g->t->vf, gep(g, g->t->f32, tile, at), 4);
    if (l->k->split.scale != 1)
        x = f_mul(g, x, fc(g, l->k->split.scale));
    for (int i = 0; i < l->n_member && l->member[i].c != c->sum; i++) {
        const Comp *m = l->member[i].c;
        Val v = i ? eval_member(&s, m) : member_value(&s, m, (Val){VAL_F, x});
        member_is(&s, m, v);
        l->comp = m;
        if (kernel_writes(l->k, m->out))
            store_member(&s, m, v);
    }
}

static void finish_rows(Contraction *c, Scope *in, V tile, V m0, V rows, V n0, V to, bool masked)
{
    Gen *g = c->g;
    int w = g->t->lanes;
    Loop r, v;
    Scope row, inner;
    loop_begin(g, &r, ic(g, 0), rows, 1, NULL, 0);
    scope_in(&row, in, r.branch);
    bind(&row, c->m, c->n_m, i_add(g, m0, r.i));
    loop_begin(g, &v, ic(g, 0), to, w, NULL, 0);
    scope_in(&inner, &row, v.branch);
    finish_vector(c, &inner, tile, r.i, i_add(g, n0, v.i), v.i, masked ? mask_first(g, i_sub(g, to, v.i)) : NULL);
    loop_end(g, &v, NULL);
    loop_end(g, &r, NULL);
}

static V make_finish(Contraction *c)
{
    Gen *g = c->g;
    Aside aside;
    Scope root, outer;
    own_begin(c, &aside, &root, &outer, "finish", g->t->none, 7);
    V tile = LLVMGetParam(g->fn, 3), m0 = LLVMGetParam(g->fn, 4), rows = LLVMGetParam(g->fn, 5), n0 = LLVMGetParam(g->fn, 6);
    V nr = ic(g, tile_columns(g->t)), left = i_sub(g, gen_poly(g, c->n.n), n0), to = i_min(g, nr, left);
    if (whole_vectors(c) || g->t->avx512) {    /* a full mask costs nothing there */
        finish_rows(c, &outer, tile, m0, rows, n0, to, !whole_vectors(c));
    } else {
        Branch f;
        if_begin(g, &f, i_less(g, left, nr), NULL, 0);
        for (int full = 0; full < 2; full++) {
            Scope in;
            if (full)
                if_else(g, &f, NULL);
            scope_in(&in, &outer, f.branch);
            finish_rows(c, &in, tile, m0, rows, n0, full ? nr : left, !full);
        }
        if_end(g, &f, NULL);
    }
    return aside_end(c->l, &aside, NULL);
}

/* ---- how the output is cut, and where panels lie ready */

typedef struct Cut { V rows, slices, mb, nb, row_blocks, column_blocks; } Cut;

static Cut cut(Contraction *c)
{
    Gen *g = c->g;
    Cut x = {.rows = gen_poly(g, c->rows), .slices = i_ceil_div(g, gen_poly(g, c->n.n), ic(g, tile_columns(g->t)))};
    V arg[] = {x.rows, x.slices, gen_poly(g, c->batches)}, both = call(g, part_blocks(c->l), arg, 3);
    x.mb = LLVMBuildLShr(g->b, both, ic(g, 32), "");
    x.nb = LLVMBuildAnd(g->b, both, ic(g, 0xffffffff), "");
    x.row_blocks = i_ceil_div(g, x.rows, x.mb);
    x.column_blocks = i_ceil_div(g, x.slices, x.nb);
    return x;
}

/* Columns of A that every block of columns would pack again are packed once, by a launch of its own, into the workspace: for
 * each block of terms its tiles. (B so, for blocks of rows, measured no gain: what is packed in place stays in the
 * second-level cache.) */
typedef struct Ready { Cut cut; KBlocks k; V use, tiles, tasks; } Ready;

static Ready ready(Contraction *c)
{
    Gen *g = c->g;
    Ready r = {.cut = cut(c)};
    V mr = ic(g, tile_rows(g->t));
    block_of_terms(g, gen_poly(g, c->terms), c->half, &r.k);
    r.use = i_less(g, ic(g, 1), r.cut.column_blocks);
    r.tiles = i_mul(g, r.k.room, i_mul(g, i_ceil_div(g, r.cut.rows, mr), mr));
    r.tasks = i_ceil_div(g, r.cut.rows, ic(g, MC));
    return r;
}

/* The tile of row m of a block of terms, by its number. */
static V ready_tile(Contraction *c, const Ready *r, V block, V m)
{
    Gen *g = c->g;
    return gep(g, g->t->f32, gen_buffer(g, c->l->k->n_args), i_add(g, i_mul(g, block, r->tiles), i_mul(g, m, r->k.room)));
}

/* The panels of A: in the workspace, or packed now. */
static V make_panels_a(Contraction *c)
{
    Gen *g = c->g;
    Aside aside;
    Scope root, outer;
    V arg[MAX_POINTER_ARGS], panel[1];
    own_begin(c, &aside, &root, &outer, "panels_a", g->t->ptr, MAX_POINTER_ARGS);
    for (int i = 0; i < MAX_POINTER_ARGS; i++)
        arg[i] = LLVMGetParam(g->fn, (unsigned)i);
    Ready r = ready(c);
    panel[0] = ready_tile(c, &r, i_div(g, arg[6], r.k.terms), arg[4]);
    Branch f;
    if_begin(g, &f, LLVMBuildNot(g->b, r.use, ""), panel, 1);
    panel[0] = call(g, c->pack_a, arg, MAX_POINTER_ARGS);
    if_end(g, &f, panel);
    return aside_end(c->l, &aside, panel[0]);
}

/* The most a size can be: a coefficient of one power of the batch, which is at least 1. */
static int64_t most(Poly p, int *power)
{
    int64_t sum = 0;
    *power = 0;
    for (int i = 0; i < 3; i++)
        if (p.c[i] > 0) {
            sum += p.c[i];
            *power = i;
        }
    return sum;
}

/* Whether A may lie ready; then the workspace holds what ready() finds, and maybe a little more. */
static bool find_ready(Contraction *c)
{
    Target *t = c->g->t;
    int k_power, m_power;
    int64_t k = most(c->terms, &k_power), m = most(c->rows, &m_power), units = c->half ? (k + 1) / 2 : k;
    if (c->l->m->lean || !poly_is(c->batches, 1) || k_power + m_power > 2 || poly_guess(c->n.n) <= NB_MOST * tile_columns(t))
        return false;
    /* of one power of the batch: where rows or terms are few times the batch, what is to spare would be many times the panels */
    int64_t room = (m + tile_rows(t)) * (units + (units / KC + 1) * (K_SPARE + 8));
    if (room > 2 * m * units)
        return false;
    c->l->out->workspace.c[k_power + m_power] = room;
    return true;
}

static void build_packing(Contraction *c)
{
    Low *l = c->l;
    Gen *g = c->g;
    launch_begin(l, "pack");
    Ready r = ready(c);
    V block = i_div(g, g->task, r.tasks), m0 = i_mul(g, i_sub(g, g->task, i_mul(g, block, r.tasks)), ic(g, MC));
    V m1 = i_min(g, i_add(g, m0, ic(g, MC)), r.cut.rows), k0 = i_mul(g, block, r.k.terms);
    V len = i_max(g, i_min(g, r.k.terms, i_sub(g, gen_poly(g, c->terms), k0)), ic(g, 0));
    V arg[] = {g->bufs, g->batch, ic(g, 0), ready_tile(c, &r, block, m0), m0, m1, k0, len, r.k.room};
    call(g, c->pack_a, arg, MAX_POINTER_ARGS);
    if (c->sum && c->sums_a) {
        V sum_arg[] = {arg[3], len, i_ceil_div(g, i_sub(g, m1, m0), ic(g, tile_rows(g->t))), r.k.room};
        call(g, c->block_sums, sum_arg, (int)LEN(sum_arg));
    }
    launch_tasks(l);
    r = ready(c);
    launch_end(l, select_(g, r.use, i_mul(g, r.k.n, r.tasks), ic(g, 0)));
    l->out->main = 1;
}

/* The panels of a block of the summed side, which is added to the sums; they are stored after the last term. */
static V make_pack_sum(Contraction *c)
{
    Low *l = c->l;
    Gen *g = c->g;
    Aside aside;
    Scope root, outer, s;
    V sum = part_side_sum(l, c->sums_a);
    own_begin(c, &aside, &root, &outer, "pack_sum", g->t->ptr, MAX_POINTER_ARGS);
    V arg[MAX_POINTER_ARGS];
    for (int i = 0; i < MAX_POINTER_ARGS; i++)
        arg[i] = LLVMGetParam(g->fn, (unsigned)i);
    V panel = call(g, c->sums_a ? c->panels_a : c->pack_b, arg, MAX_POINTER_ARGS);
    V first = arg[4], k0 = arg[c->sums_a ? 6 : 5], len = arg[c->sums_a ? 7 : 6], room = arg[8], side, tiles;
    int tile = c->sums_a ? tile_rows(g->t) : tile_columns(g->t);
    V sums = gep(g, g->t->f32, arg[3], ic(g, scratch_sums(g->t) - (c->sums_a ? scratch_a(g->t) : 0)));
    if (c->sums_a) {
        side = i_sub(g, arg[5], first);
        tiles = i_ceil_div(g, side, ic(g, tile));
    } else {
        tiles = arg[7];
        side = i_min(g, i_mul(g, tiles, ic(g, tile)), i_sub(g, gen_poly(g, c->n.n), first));
    }
    V base = c->sums_a ? first : ic(g, 0), block_arg[] = {panel, len, tiles, room}, sum_arg[] = {panel, tiles, room, sums, base, k0};
    Branch f;
    Loop loop;
    if_begin(g, &f, c->sums_a && c->once ? LLVMBuildNot(g->b, ready(c).use, "") : LLVMConstInt(g->t->i1, 1, 0), NULL, 0);
    call(g, c->block_sums, block_arg, (int)LEN(block_arg));
    if_end(g, &f, NULL);
    call(g, sum, sum_arg, (int)LEN(sum_arg));
    if_begin(g, &f, i_less(g, i_add(g, k0, len), gen_poly(g, c->terms)), NULL, 0);
    if_else(g, &f, NULL);
    loop_begin(g, &loop, ic(g, 0), side, 1, NULL, 0);
    scope_in(&s, &outer, loop.branch);
    bind(&s, c->sums_a ? c->m : &c->n, c->sums_a ? c->n_m : 1, i_add(g, first, loop.i));
    V x = f_mul(g, side_sum_of(g, sums, i_add(g, base, loop.i)), fc(g, l->k->split.sum_scale));
    l->comp = c->sum;
    store_member(&s, c->sum, member_value(&s, c->sum, (Val){VAL_F, x}));
    loop_end(g, &loop, NULL);
    if_end(g, &f, NULL);
    return aside_end(l, &aside, panel);
}

/* ---- a task */

/* Tensors that the epilogue reads or writes, element by element, where rows lie one after the other: what part_product wants of
 * them to fetch their lines (contract.h). */
typedef struct Beside { V at; int n; } Beside;

static void beside_add(Contraction *c, Beside *x, int tensor, const Affine *const *idx, const void *which, Scope *first)
{
    Low *l = c->l;
    Gen *g = c->g;
    Lin lin = tensor_linear(&l->places, tensor, idx);
    if (x->n == MOST_BESIDE || lin.n_atoms || !poly_is(lin.axis[c->n.axis], 1) || poly_is(lin.axis[c->m[0].axis], 0))
        return;
    Mem mem = tensor_mem(l, tensor);
    int64_t size = mem.dtype == DT_BF16 ? 2 : 4;
    V at = LLVMBuildPtrToInt(g->b, address(first, &mem, idx, which), g->t->i64, "");
    V three[] = {at, i_mul(g, gen_poly(g, lin.axis[c->m[0].axis]), ic(g, size)), ic(g, size * tile_columns(g->t))};
    for (int i = 0; i < 3; i++)
        store(g, three[i], gep(g, g->t->i64, x->at, ic(g, 3 * x->n + i)), 8);
    x->n++;
}

static Beside find_beside(Contraction *c, V outer)
{
    Low *l = c->l;
    Gen *g = c->g;
    Beside x = {LLVMBuildAlloca(g->b, LLVMArrayType(g->t->i64, 3 * MOST_BESIDE), ""), 0};
    Scope root, s, first;
    scope_root(&root, l);
    scope_zero(&root, c->zero);
    scope_in(&s, &root, NULL);
    bind(&s, c->outer, c->n_outer, outer);
    scope_in(&first, &s, NULL);
    scope_bind(&first, c->m[0].axis, ic(g, 0));
    scope_bind(&first, c->n.axis, ic(g, 0));
    for (int i = 0; c->n_m == 1 && i < l->n_member && l->member[i].c != c->sum; i++) {
        const Comp *m = l->member[i].c;
        int n;
        const Expr **load = loads_of(&l->places, m->body, &n);
        for (int k = 0; i && k < n; k++)                       /* the first member's are the operands */
            if (kernel_member(l->k, load[k]->tensor) < 0)
                beside_add(c, &x, load[k]->tensor, load[k]->idx, load[k], &first);
        if (kernel_writes(l->k, m->out))
            beside_add(c, &x, m->out, m->store, m, &first);
    }
    return x;
}

/* Where a task is: its batch, its block of rows, its block of columns. Those of the same columns come one after the other where
 * B's slices hold all terms, so that a thread finds them packed by its last task. */
static void task_place(Contraction *c, const Cut *x, V *outer, V *i, V *j)
{
    Gen *g = c->g;
    KBlocks k;
    block_of_terms(g, gen_poly(g, c->terms), c->half, &k);
    V whole = LLVMBuildICmp(g->b, LLVMIntEQ, k.n, ic(g, 1), ""), inner = select_(g, whole, x->row_blocks, x->column_blocks);
    V blocks = i_mul(g, x->row_blocks, x->column_blocks);
    *outer = i_div(g, g->task, blocks);
    V in = i_sub(g, g->task, i_mul(g, *outer, blocks)), high = i_div(g, in, inner), low = i_sub(g, in, i_mul(g, high, inner));
    *i = select_(g, whole, low, high);
    *j = select_(g, whole, high, low);
}

static void build_task(Contraction *c)
{
    Gen *g = c->g;
    Cut x = cut(c);
    V outer, i, j;
    task_place(c, &x, &outer, &i, &j);
    V m_from = i_mul(g, i, x.mb), m_to = i_min(g, i_add(g, m_from, x.mb), x.rows);
    V s_from = i_mul(g, j, x.nb), s_to = i_min(g, i_add(g, s_from, x.nb), x.slices);
    V a = c->panels_a;
    if (!a) {
        Scope root, s, in;
        scope_root(&root, c->l);
        scope_zero(&root, c->zero);
        scope_in(&s, &root, NULL);
        bind(&s, c->outer, c->n_outer, outer);
        scope_in(&in, &s, NULL);
        scope_bind(&in, c->m[0].axis, ic(g, 0));
        scope_bind(&in, c->k[0].axis, ic(g, 0));
        a = operand(c, &in, c->a);
    }
    V b = c->pack_b;
    if (c->sum && c->sums_a) {
        V folded = gen_poly(g, group_points(&c->l->places, c->outer + c->n_outer - c->n_folded, c->n_folded, -1));
        V first = LLVMBuildICmp(g->b, LLVMIntEQ, i_add(g, j, i_rem(g, outer, folded)), ic(g, 0), "");
        a = select_(g, first, c->pack_sum, a);
    } else if (c->sum) {
        V first = LLVMBuildICmp(g->b, LLVMIntEQ, i, ic(g, 0), ""), note = gep(g, g->t->i8, g->scratch, ic(g, TIC_NOTE));
        b = select_(g, first, c->pack_sum, b);
        store(g, ic(g, -1), note, 8);      /* what has no slices to pack has no sums either */
    }
    Beside e = find_beside(c, outer);
    V arg[] = {g->bufs, g->batch, outer, g->scratch, gen_poly(g, c->terms), m_from, m_to, s_from, s_to, a,
               gen_poly(g, c->a_row), b, c->finish, e.at, ic(g, e.n)};
    call(g, part_product(c->l, c->pack_a != NULL, c->half), arg, (int)LEN(arg));
}

bool lower_contract(Low *l)
{
    Contraction c = {.l = l, .g = l->g};
    if (!analyse(&c))
        return false;
    part_blocks(l);                    /* what is called is built before the caller */
    bool packed = c.mode != A_ROWS || c.a_form == WIDEN;
    part_product(l, packed, c.half);
    c.pack_a = packed ? make_pack_a(&c) : NULL;
    c.pack_b = make_pack_b(&c);
    c.once = packed && find_ready(&c);
    c.panels_a = c.once ? make_panels_a(&c) : c.pack_a;
    c.block_sums = c.sum ? part_block_sums(l, c.sums_a, c.half) : NULL;
    c.pack_sum = c.sum ? make_pack_sum(&c) : NULL;
    c.finish = make_finish(&c);
    if (c.once)
        build_packing(&c);
    launch_begin(l, "contract");
    build_task(&c);
    launch_tasks(l);
    V all = gen_poly(l->g, c.batches);
    Cut x = cut(&c);
    launch_end(l, i_mul(l->g, all, i_mul(l->g, x.row_blocks, x.column_blocks)));
    return !l->failed;
}
