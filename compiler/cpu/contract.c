/* contract.c -- CONTRACT kernels: a packed matrix product with whatever follows it element by element.
 *
 * The output is cut into tasks: (batch indices) x (block of rows) x (block of columns). A task is independent of all
 * others: for each block of at most KC terms it packs its part of the B side into slices of NR columns, and runs the
 * micro-kernel, MR x NR accumulators in registers, over its rows. Any layout is absorbed by packing, because affine
 * addresses are separable into a part of the rows, of the columns and of the terms. The A side is read in place where
 * its terms or its rows are unit-stride, else it is packed too.
 *
 * A finished tile lies in scratch (in the first-level cache); the epilogue reads it, applies the scale and the other
 * members, and stores. With several blocks of terms the tiles of the task stay in scratch between them. Block sizes
 * depend on shapes and batch alone, so the thread count cannot change a result.
 *
 * Sides may be exchanged: lanes run along columns, and columns are the side whose stores are unit-stride. */
#include "cpu/lower.h"
#include <string.h>

enum { NV = 3, KC = 768, MC = 144, NB_MOST = 16, MB_MOST = 1536, ENOUGH_TASKS = 16 };

typedef enum { A_ROWS, A_COLUMNS, A_PACKED } AMode;   /* terms unit-stride; rows unit-stride; neither */

typedef struct Contraction {
    Low *l;
    Gen *g;
    int mr, nr;
    const Expr *a, *b;
    Group outer[MAX_AXES], m[MAX_AXES], n, k[MAX_AXES];
    int n_outer, n_m, n_k;
    uint32_t zero;
    AMode mode;
    Poly a_row, a_term;                /* strides of A in place */
    bool b_transposed;                 /* B's terms are unit-stride, its columns are not */
    Poly b_column;
    Poly rows, terms, batches;
    /* values of the function being built */
    V n_rows, n_columns, n_terms, mb, nb;      /* rows and slices of a block */
    V b_panel, a_panel, tiles;                 /* places in scratch */
} Contraction;

/* ---- shapes */

static bool has_axis(const int *axis, int n, int a)
{
    for (int i = 0; i < n; i++)
        if (axis[i] == a)
            return true;
    return false;
}

/* The axis along which the first result is stored without gaps; -1 when there is none. */
static int unit_axis(const Low *l, const Accesses *acc)
{
    const Comp *c = l->member[0].c;
    for (int i = 0; i < acc->a.n; i++) {
        if (!acc->a.at[i].store)
            continue;
        for (int a = 0; a < c->n_axes; a++)
            if (c->ext[a] != 1 && poly_is(acc->a.at[i].lin.axis[a], 1))
                return a;
    }
    return -1;
}

static Lin load_lin(Low *l, const Expr *e)
{
    Mem p = tensor_mem(l, e->tensor);
    return linear(l, &p, e->idx);
}

/* The groups of one role: at least one, if only of a single point. */
static int merge_role(Contraction *c, const Accesses *acc, const int *axis, int n, Group *out)
{
    int count = merge_axes(c->l, acc, c->l->member[0].c->ext, axis, n, out, &c->zero);
    if (!count && n)
        out[count++] = (Group){axis[n - 1], poly_const(1)};
    return count;
}

static bool analyse(Contraction *c)
{
    Low *l = c->l;
    const Contract *s = &l->k->split;
    const Comp *main = l->member[0].c;
    Accesses acc = {0};
    access_loads(l, main->body, &acc);
    for (int i = 0; i < l->n_member; i++) {
        if (i)
            access_loads(l, l->member[i].c->body, &acc);
        if (is_written(l, l->member[i].c->out))
            access_store(l, l->member[i].c, &acc);
    }
    int m[MAX_AXES], n[MAX_AXES], k[MAX_AXES], outer[MAX_AXES], n_m = s->n_m, n_n = s->n_n, n_outer = s->n_batch;
    memcpy(m, s->m, sizeof m);
    memcpy(n, s->n, sizeof n);
    memcpy(k, s->k, sizeof k);
    memcpy(outer, s->batch, sizeof outer);
    c->a = s->a;
    c->b = s->b;
    int unit = unit_axis(l, &acc);
    if (unit >= 0 && has_axis(m, n_m, unit)) {
        memcpy(m, s->n, sizeof m);
        memcpy(n, s->m, sizeof n);
        n_m = s->n_n;
        n_n = s->n_m;
        c->a = s->b;
        c->b = s->a;
    }
    for (int i = 0; i < acc.a.n; i++)
        if (acc.a.at[i].store) {
            sort_axes(&acc.a.at[i], m, n_m);
            sort_axes(&acc.a.at[i], n, n_n);
            break;
        }
    Group columns[MAX_AXES];
    c->n_outer = merge_axes(l, &acc, main->ext, outer, n_outer, c->outer, &c->zero);
    c->n_m = merge_role(c, &acc, m, n_m, c->m);
    c->n_k = merge_role(c, &acc, k, s->n_k, c->k);
    int n_columns = merge_role(c, &acc, n, n_n, columns);
    if (!n_columns || !c->n_m || !c->n_k) {
        low_fail(l, "a contraction without rows, columns or terms");
        return false;
    }
    for (int i = 0; i + 1 < n_columns; i++)    /* columns that do not run together: all but the innermost are batches */
        c->outer[c->n_outer++] = columns[i];
    c->n = columns[n_columns - 1];

    Lin a = load_lin(l, c->a), b = load_lin(l, c->b);
    int ma = c->m[c->n_m - 1].axis, ka = c->k[c->n_k - 1].axis;
    c->mode = A_PACKED;
    if (c->n_m == 1 && c->n_k == 1 && poly_is(a.axis[ka], 1))
        c->mode = A_ROWS;
    else if (c->n_m == 1 && c->n_k == 1 && poly_is(a.axis[ma], 1))
        c->mode = A_COLUMNS;
    c->a_row = c->mode == A_PACKED ? poly_const(1) : a.axis[ma];
    c->a_term = c->mode == A_PACKED ? poly_const(c->mr) : a.axis[ka];
    c->b_transposed = c->n_k == 1 && poly_is(b.axis[ka], 1) && !poly_is(b.axis[c->n.axis], 1);
    c->b_column = b.axis[c->n.axis];
    c->rows = group_points(l, c->m, c->n_m, -1);
    c->terms = group_points(l, c->k, c->n_k, -1);
    c->batches = group_points(l, c->outer, c->n_outer, -1);
    return !l->failed;
}

/* Rows (mb) and slices (nb) of a block: the largest of a few sizes that gives enough tasks, then made even. */
static void block_sizes(Contraction *c)
{
    static const struct { int rows, slices; } size[] = {
        {MB_MOST, NB_MOST}, {768, 16}, {384, 16}, {384, 8}, {192, 8}, {192, 4}, {96, 4},
    };
    Gen *g = c->g;
    c->n_rows = gen_poly(g, c->rows);
    c->n_columns = gen_poly(g, c->n.n);
    c->n_terms = gen_poly(g, c->terms);
    V batches = gen_poly(g, c->batches), slices = i_ceil_div(g, c->n_columns, ic(g, c->nr));
    V mb = NULL, nb = NULL;
    for (int i = (int)LEN(size) - 1; i >= 0; i--) {
        V r = ic(g, size[i].rows), s = ic(g, size[i].slices);
        V tasks = i_mul(g, batches, i_mul(g, i_ceil_div(g, c->n_rows, r), i_ceil_div(g, slices, s)));
        V enough = i_less(g, ic(g, ENOUGH_TASKS - 1), tasks);
        mb = mb ? select_(g, enough, r, mb) : r;
        nb = nb ? select_(g, enough, s, nb) : s;
    }
    V row_blocks = i_max(g, i_ceil_div(g, c->n_rows, mb), ic(g, 1));
    V even = i_max(g, i_ceil_div(g, c->n_rows, row_blocks), ic(g, 1));
    c->mb = i_mul(g, i_ceil_div(g, even, ic(g, c->mr)), ic(g, c->mr));
    V column_blocks = i_max(g, i_ceil_div(g, slices, nb), ic(g, 1));
    c->nb = i_max(g, i_ceil_div(g, slices, column_blocks), ic(g, 1));
}

static V count_tasks(Contraction *c)
{
    Gen *g = c->g;
    V slices = i_ceil_div(g, c->n_columns, ic(g, c->nr));
    return i_mul(g, gen_poly(g, c->batches), i_mul(g, i_ceil_div(g, c->n_rows, c->mb), i_ceil_div(g, slices, c->nb)));
}

/* ---- the micro-kernel: tile[MR][NR] (+)= sum over k of a[row * rs + k * ks] * b[k][NR]
 *
 * rows is 1 .. MR: rows past it are computed from the last one again and never stored. `unit`: ks is 1 or MR, known. */
static V micro_kernel(Contraction *c, int64_t term_stride)
{
    CpuModule *mod = c->l->m;
    const char *name = arena_printf(mod->arena, "micro_%dx%d_%d", c->mr, c->nr, (int)term_stride);
    for (int i = 0; i < mod->helpers.n; i++)
        if (!strcmp(mod->helpers.at[i].name, name))
            return mod->helpers.at[i].fn;
    Gen saved = *c->g, *g = c->g;
    Block back = LLVMGetInsertBlock(g->b);
    Ty t[] = {g->t->i64, g->t->i64, g->t->ptr, g->t->i64, g->t->i64, g->t->ptr, g->t->ptr, g->t->i64};
    gen_helper(g, name, g->t->none, t, 8);
    V fn = g->fn, terms = LLVMGetParam(fn, 0), rows = LLVMGetParam(fn, 1), a = LLVMGetParam(fn, 2);
    V rs = LLVMGetParam(fn, 3), ks = LLVMGetParam(fn, 4), b = LLVMGetParam(fn, 5), tile = LLVMGetParam(fn, 6);
    V more = LLVMGetParam(fn, 7), row[8], carry[MAX_CARRY];
    int w = g->t->lanes, n_acc = c->mr * NV;
    V last = i_sub(g, rows, ic(g, 1));
    for (int r = 0; r < c->mr; r++)
        row[r] = gep(g, g->t->f32, a, i_mul(g, i_min(g, ic(g, r), last), rs));
    for (int i = 0; i < n_acc; i++)
        carry[i] = fc(g, 0);
    V whole = LLVMBuildAnd(g->b, terms, ic(g, -4), ""), from = ic(g, 0), to = whole;
    for (int unroll = 4; unroll; unroll = unroll == 4 ? 1 : 0) {
        Loop loop;
        loop_begin(g, &loop, from, to, unroll, carry, n_acc);
        for (int u = 0; u < unroll; u++) {
            V k = i_add(g, loop.i, ic(g, u)), at, bv[NV];
            if (term_stride)
                at = i_mul(g, loop.i, ic(g, term_stride));
            else
                at = i_mul(g, k, ks);
            V pb = gep(g, g->t->f32, b, i_mul(g, loop.i, ic(g, c->nr)));
            for (int v = 0; v < NV; v++)
                bv[v] = load(g, g->t->vf, gep(g, g->t->f32, pb, ic(g, u * c->nr + v * w)), 4);
            for (int r = 0; r < c->mr; r++) {
                V pa = gep(g, g->t->f32, row[r], at);
                if (term_stride)
                    pa = gep(g, g->t->f32, pa, ic(g, u * term_stride));
                V x = splat(g, load(g, g->t->f32, pa, 4));
                for (int v = 0; v < NV; v++)
                    carry[r * NV + v] = f_fma(g, x, bv[v], carry[r * NV + v]);
            }
        }
        loop_end(g, &loop, carry);
        from = to;
        to = terms;
    }
    Branch f;
    if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, more, ic(g, 0), ""), carry, n_acc);
    for (int i = 0; i < n_acc; i++)
        carry[i] = f_add(g, carry[i], load(g, g->t->vf, gep(g, g->t->f32, tile, ic(g, i * w)), 4));
    if_end(g, &f, carry);
    for (int i = 0; i < n_acc; i++)
        store(g, carry[i], gep(g, g->t->f32, tile, ic(g, i * w)), 4);
    gen_end(g, NULL);
    *g = saved;
    LLVMPositionBuilderAtEnd(g->b, back);
    PUSH(mod->arena, mod->helpers, (struct Helper){name, fn});
    return fn;
}

/* ---- packing */

/* Binds the groups of one role to the digits of a flat index. */
static void bind(Scope *s, const Group *grp, int n, V flat)
{
    scope_digits(s, grp, n, -1, flat);
}

/* Slice `slice` (first column n0) of terms k0 .. k0 + len - 1, by rows of terms: each term's columns as vectors. */
static void pack_straight(Contraction *c, Scope *outer, V panel, V n0, V k0, V len)
{
    Gen *g = c->g;
    int w = g->t->lanes;
    V left = i_sub(g, c->n_columns, n0);
    Branch f;
    if_begin(g, &f, i_less(g, left, ic(g, c->nr)), NULL, 0);
    for (int full = 0; full < 2; full++) {
        Loop loop;
        Scope in, s;
        if (full)
            if_else(g, &f, NULL);
        scope_in(&in, outer, f.branch);
        loop_begin(g, &loop, ic(g, 0), len, 1, NULL, 0);
        scope_in(&s, &in, loop.branch);
        bind(&s, c->k, c->n_k, i_add(g, k0, loop.i));
        for (int v = 0; v < NV; v++) {
            Scope lanes;
            scope_in(&lanes, &s, NULL);
            lanes.lanes = c->n.axis;
            V n = i_add(g, n0, ic(g, v * w)), rest = i_sub(g, left, ic(g, v * w));
            if (!full) {
                rest = i_max(g, rest, ic(g, 0));
                lanes.mask = mask_first(g, rest);
                n = i_min(g, n, i_sub(g, c->n_columns, ic(g, 1)));   /* an empty vector still has an address */
            }
            scope_bind(&lanes, c->n.axis, n);
            V x = to_f(&lanes, eval(&lanes, c->b));
            V at = i_add(g, i_mul(g, loop.i, ic(g, c->nr)), ic(g, v * w));
            store(g, x, gep(g, g->t->f32, panel, at), 4);
        }
        loop_end(g, &loop, NULL);
    }
    if_end(g, &f, NULL);
}

/* The transpose of a square of vectors, by exchanging halves, quarters, ... */
static void transpose(Gen *g, V *row)
{
    int w = g->t->lanes;
    for (int d = w / 2; d; d /= 2)
        for (int i = 0; i < w; i++) {
            if (i & d)
                continue;
            V lo[16], hi[16];
            for (int l = 0; l < w; l++) {
                lo[l] = LLVMConstInt(g->t->i32, (unsigned)(l & d ? w + (l ^ d) : l), 0);
                hi[l] = LLVMConstInt(g->t->i32, (unsigned)(l & d ? w + l : l ^ d), 0);
            }
            V x = row[i], y = row[i | d];
            row[i] = LLVMBuildShuffleVector(g->b, x, y, LLVMConstVector(lo, (unsigned)w), "");
            row[i | d] = LLVMBuildShuffleVector(g->b, x, y, LLVMConstVector(hi, (unsigned)w), "");
        }
}

/* Slice n0 when the terms of a column are unit-stride: squares of `lanes` columns by `lanes` terms, transposed in
 * registers. Columns past the end repeat the last one; terms past len come out as zeros behind the slice's end, where
 * there is room. */
static void pack_transposed(Contraction *c, Scope *outer, V panel, V n0, V k0, V len)
{
    Gen *g = c->g;
    int w = g->t->lanes;
    Scope s;
    Mem mem = tensor_mem(c->l, c->b->tensor);
    scope_in(&s, outer, NULL);
    scope_bind(&s, c->n.axis, ic(g, 0));
    scope_bind(&s, c->k[0].axis, k0);
    V base = address(&s, &mem, c->b->idx, c->b), stride = gen_poly(g, c->b_column);
    V last = i_sub(g, c->n_columns, ic(g, 1));
    Loop part, loop;
    loop_begin(g, &part, ic(g, 0), ic(g, c->nr), w, NULL, 0);
    V column[16];
    for (int i = 0; i < w; i++) {
        V n = i_min(g, i_add(g, n0, i_add(g, part.i, ic(g, i))), last);
        column[i] = gep(g, g->t->f32, base, i_mul(g, n, stride));
    }
    V whole = LLVMBuildAnd(g->b, len, ic(g, -w), "");
    for (int tail = 0; tail < 2; tail++) {
        V row[16];
        Branch f;
        V k = whole;
        if (tail) {
            if_begin(g, &f, i_less(g, whole, len), NULL, 0);
        } else {
            loop_begin(g, &loop, ic(g, 0), whole, w, NULL, 0);
            k = loop.i;
        }
        V mask = tail ? mask_first(g, i_sub(g, len, whole)) : NULL;
        for (int i = 0; i < w; i++) {
            V p = gep(g, g->t->f32, column[i], k);
            row[i] = tail ? llvm_masked_load(g->t, g->b, g->t->vf, p, mask) : load(g, g->t->vf, p, 4);
        }
        transpose(g, row);
        for (int i = 0; i < w; i++) {
            V at = i_add(g, i_mul(g, i_add(g, k, ic(g, i)), ic(g, c->nr)), part.i);
            store(g, row[i], gep(g, g->t->f32, panel, at), 4);
        }
        if (tail)
            if_end(g, &f, NULL);
        else
            loop_end(g, &loop, NULL);
    }
    loop_end(g, &part, NULL);
}

/* A tile of rows m0 .. of A as [k][MR]; rows past the end repeat the last one. */
static void pack_rows(Contraction *c, Scope *outer, V panel, V m0, V k0, V len)
{
    Gen *g = c->g;
    Scope row[8], s[8];
    V last = i_sub(g, c->n_rows, ic(g, 1));
    for (int r = 0; r < c->mr; r++) {
        scope_in(&row[r], outer, NULL);
        bind(&row[r], c->m, c->n_m, i_min(g, i_add(g, m0, ic(g, r)), last));
    }
    Loop loop;
    loop_begin(g, &loop, ic(g, 0), len, 1, NULL, 0);
    V k = i_add(g, k0, loop.i);
    for (int r = 0; r < c->mr; r++) {
        scope_in(&s[r], &row[r], loop.branch);
        if (r == 0)
            bind(&s[r], c->k, c->n_k, k);
        else
            for (int i = 0; i < c->n_k; i++)
                scope_bind(&s[r], c->k[i].axis, scope_axis(&s[0], c->k[i].axis));
        V x = lane(g, to_f(&s[r], eval(&s[r], c->a)), 0);
        V at = i_add(g, i_mul(g, loop.i, ic(g, c->mr)), ic(g, r));
        store(g, x, gep(g, g->t->f32, panel, at), 4);
    }
    loop_end(g, &loop, NULL);
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
    V at = i_add(g, i_mul(g, r, ic(g, c->nr)), column);
    V x = load(g, g->t->vf, gep(g, g->t->f32, tile, at), 4);
    if (l->k->split.scale != 1)
        x = f_mul(g, x, fc(g, l->k->split.scale));
    for (int i = 0; i < l->n_member; i++) {
        const Comp *m = l->member[i].c;
        Val v = i ? eval_member(&s, m) : (Val){VAL_F, x};
        member_is(&s, m, v);
        l->comp = m;
        if (is_written(l, m->out))
            store_member(&s, m, v);
    }
}

static void finish_tile(Contraction *c, Scope *outer, V tile, V m0, V rows, V n0)
{
    Gen *g = c->g;
    int w = g->t->lanes;
    V left = i_sub(g, c->n_columns, n0);
    Branch f;
    if_begin(g, &f, i_less(g, left, ic(g, c->nr)), NULL, 0);
    for (int full = 0; full < 2; full++) {
        Loop r;
        Scope in, row;
        if (full)
            if_else(g, &f, NULL);
        scope_in(&in, outer, f.branch);
        loop_begin(g, &r, ic(g, 0), rows, 1, NULL, 0);
        scope_in(&row, &in, r.branch);
        bind(&row, c->m, c->n_m, i_add(g, m0, r.i));
        if (full) {
            for (int v = 0; v < NV; v++)
                finish_vector(c, &row, tile, r.i, i_add(g, n0, ic(g, v * w)), ic(g, v * w), NULL);
        } else {
            Loop v;
            Scope inner;
            loop_begin(g, &v, ic(g, 0), left, w, NULL, 0);
            scope_in(&inner, &row, v.branch);
            finish_vector(c, &inner, tile, r.i, i_add(g, n0, v.i), v.i, mask_first(g, i_sub(g, left, v.i)));
            loop_end(g, &v, NULL);
        }
        loop_end(g, &r, NULL);
    }
    if_end(g, &f, NULL);
}

/* ---- a task */

static void build_task(Contraction *c)
{
    Gen *g = c->g;
    Low *l = c->l;
    Scope root, outer;
    Ty f32 = g->t->f32;
    block_sizes(c);
    int64_t slice = (int64_t)(KC + 16) * c->nr;      /* floats of a packed slice; room for a whole last square */
    c->b_panel = g->scratch;
    c->a_panel = gep(g, f32, g->scratch, ic(g, NB_MOST * slice));
    c->tiles = gep(g, f32, c->a_panel, ic(g, c->mode == A_PACKED ? (int64_t)MC * KC : 0));

    V slices = i_ceil_div(g, c->n_columns, ic(g, c->nr)), column_blocks = i_ceil_div(g, slices, c->nb);
    V row_blocks = i_ceil_div(g, c->n_rows, c->mb);
    V rest = i_div(g, g->task, column_blocks), j = i_sub(g, g->task, i_mul(g, rest, column_blocks));
    V batch = i_div(g, rest, row_blocks), i = i_sub(g, rest, i_mul(g, batch, row_blocks));
    V m_from = i_mul(g, i, c->mb), m_to = i_min(g, i_add(g, m_from, c->mb), c->n_rows);
    V s_from = i_mul(g, j, c->nb), s_to = i_min(g, i_add(g, s_from, c->nb), slices), s_count = i_sub(g, s_to, s_from);
    scope_root(&root, l);
    scope_zero(&root, c->zero);
    scope_in(&outer, &root, NULL);
    bind(&outer, c->outer, c->n_outer, batch);

    V k_blocks = i_max(g, i_ceil_div(g, c->n_terms, ic(g, KC)), ic(g, 1));
    V kc = i_mul(g, i_ceil_div(g, i_ceil_div(g, c->n_terms, k_blocks), ic(g, 8)), ic(g, 8));
    V one_block = LLVMBuildICmp(g->b, LLVMIntEQ, k_blocks, ic(g, 1), "");

    Loop kb, sl, mc, panel, tile;
    Scope sk, sp, sm, st;
    loop_begin(g, &kb, ic(g, 0), k_blocks, 1, NULL, 0);
    scope_in(&sk, &outer, kb.branch);
    V k0 = i_mul(g, kb.i, kc), len = i_max(g, i_min(g, kc, i_sub(g, c->n_terms, k0)), ic(g, 0));
    V last_block = LLVMBuildICmp(g->b, LLVMIntEQ, kb.i, i_sub(g, k_blocks, ic(g, 1)), "");

    loop_begin(g, &sl, s_from, s_to, 1, NULL, 0);
    scope_in(&sp, &sk, sl.branch);
    V place = gep(g, f32, c->b_panel, i_mul(g, i_sub(g, sl.i, s_from), ic(g, slice)));
    (c->b_transposed ? pack_transposed : pack_straight)(c, &sp, place, i_mul(g, sl.i, ic(g, c->nr)), k0, len);
    loop_end(g, &sl, NULL);

    loop_begin(g, &mc, m_from, m_to, MC, NULL, 0);
    scope_in(&sm, &sk, mc.branch);
    V c_to = i_min(g, i_add(g, mc.i, ic(g, MC)), m_to);
    if (c->mode == A_PACKED) {
        Loop pack;
        Scope s;
        loop_begin(g, &pack, mc.i, c_to, c->mr, NULL, 0);
        scope_in(&s, &sm, pack.branch);
        pack_rows(c, &s, gep(g, f32, c->a_panel, i_mul(g, i_sub(g, pack.i, mc.i), ic(g, KC))), pack.i, k0, len);
        loop_end(g, &pack, NULL);
    }
    loop_begin(g, &panel, s_from, s_to, 1, NULL, 0);
    scope_in(&sp, &sm, panel.branch);
    V b = gep(g, f32, c->b_panel, i_mul(g, i_sub(g, panel.i, s_from), ic(g, slice)));
    loop_begin(g, &tile, mc.i, c_to, c->mr, NULL, 0);
    scope_in(&st, &sp, tile.branch);
    V rows = i_min(g, i_sub(g, c_to, tile.i), ic(g, c->mr)), a;
    if (c->mode == A_PACKED) {
        a = gep(g, f32, c->a_panel, i_mul(g, i_sub(g, tile.i, mc.i), ic(g, KC)));
    } else {
        Scope in;
        Mem mem = tensor_mem(l, c->a->tensor);
        scope_in(&in, &st, NULL);
        scope_bind(&in, c->m[0].axis, tile.i);
        scope_bind(&in, c->k[0].axis, k0);
        a = address(&in, &mem, c->a->idx, c->a);
    }
    V number = i_add(g, i_mul(g, i_div(g, i_sub(g, tile.i, m_from), ic(g, c->mr)), s_count), i_sub(g, panel.i, s_from));
    number = select_(g, one_block, ic(g, 0), number);
    V at = gep(g, f32, c->tiles, i_mul(g, number, ic(g, c->mr * c->nr)));
    int64_t term_stride = c->mode == A_COLUMNS ? 0 : c->mode == A_ROWS ? 1 : c->mr;
    V fn = micro_kernel(c, term_stride);
    V arg[] = {len, rows, a, gen_poly(g, c->a_row), gen_poly(g, c->a_term), b, at, kb.i};
    LLVMBuildCall2(g->b, LLVMGlobalGetValueType(fn), fn, arg, 8, "");
    Branch f;
    if_begin(g, &f, last_block, NULL, 0);
    Scope fin;
    scope_in(&fin, &st, f.branch);
    finish_tile(c, &fin, at, tile.i, rows, i_mul(g, panel.i, ic(g, c->nr)));
    if_end(g, &f, NULL);
    loop_end(g, &tile, NULL);
    loop_end(g, &panel, NULL);
    loop_end(g, &mc, NULL);
    loop_end(g, &kb, NULL);
}

bool lower_contract(Low *l)
{
    Contraction c = {.l = l, .g = l->g};
    c.mr = l->g->t->registers >= 32 ? 8 : 4;
    c.nr = NV * l->g->t->lanes;
    launch_begin(l, "contract");
    if (!analyse(&c))
        return false;
    build_task(&c);
    launch_tasks(l);
    block_sizes(&c);
    launch_end(l, count_tasks(&c));
    return !l->failed;
}
