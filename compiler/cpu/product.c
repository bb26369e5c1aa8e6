/* product.c -- see contract.h: micro-kernel, packing and the loops of a task, shared by the contractions of a part.
 *
 * A task packs at most NB_MOST slices of B for a block of terms, then goes down its rows: a tile of A, in the first-level
 * cache, meets each slice, which streams from the second. Rows of A in place are never packed; columns of A are, since
 * each of their terms is a cache line and a page of its own. With several blocks of terms the tiles stay in scratch. */
#include "cpu/contract.h"

void aside_begin(Low *l, Aside *a, const char *name, Ty result, Ty *param, int n)
{
    *a = (Aside){*l->g, LLVMGetInsertBlock(l->g->b), name};
    gen_helper(l->g, name, result, param, n);
}

V aside_end(Low *l, Aside *a, V result)
{
    V fn = l->g->fn;
    gen_end(l->g, result);
    *l->g = a->saved;
    if (a->back)
        LLVMPositionBuilderAtEnd(l->g->b, a->back);
    part_helper_is(l, a->name, fn);
    return fn;
}

V call(Gen *g, V fn, V *arg, int n)
{
    return LLVMBuildCall2(g->b, LLVMGlobalGetValueType(fn), fn, arg, (unsigned)n, "");
}

V call_pointer(Gen *g, Ty result, V fn, V *arg, int n)
{
    Ty type[8];
    for (int i = 0; i < n; i++)
        type[i] = LLVMTypeOf(arg[i]);
    return LLVMBuildCall2(g->b, LLVMFunctionType(result, type, (unsigned)n, 0), fn, arg, (unsigned)n, "");
}

/* ---- the micro-kernel: tile[MR][NR] (+)= sum over k of a[row * rs + k * ks] * b[k][NR]; ks = 1, or MR and rs = 1.
 *
 * In place, rows is 1 .. MR: rows past it are computed from the last one again and never stored. */
static V micro_kernel(Low *l, bool packed)
{
    const char *name = packed ? "micro_packed" : "micro_rows";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->i64, g->t->i64, g->t->ptr, g->t->i64, g->t->ptr, g->t->ptr, g->t->i64};
    aside_begin(l, &aside, name, g->t->none, t, 7);
    fn = g->fn;
    int w = g->t->lanes, mr = tile_rows(g->t), nr = tile_columns(g->t), n_acc = mr * NV, stride = packed ? mr : 1;
    V terms = LLVMGetParam(fn, 0), rows = LLVMGetParam(fn, 1), a = LLVMGetParam(fn, 2), rs = LLVMGetParam(fn, 3);
    V b = LLVMGetParam(fn, 4), tile = LLVMGetParam(fn, 5), more = LLVMGetParam(fn, 6), row[8], carry[MAX_CARRY];
    V last = i_sub(g, rows, ic(g, 1));
    for (int r = 0; r < mr; r++)
        row[r] = gep(g, g->t->f32, a, packed ? ic(g, r) : i_mul(g, i_min(g, ic(g, r), last), rs));
    for (int i = 0; i < n_acc; i++)
        carry[i] = fc(g, 0);
    V whole = LLVMBuildAnd(g->b, terms, ic(g, -4), ""), from = ic(g, 0), to = whole;
    for (int unroll = 4; unroll; unroll = unroll == 4 ? 1 : 0) {
        Loop loop;
        loop_begin(g, &loop, from, to, unroll, carry, n_acc);
        V at = i_mul(g, loop.i, ic(g, stride)), pb = gep(g, g->t->f32, b, i_mul(g, loop.i, ic(g, nr)));
        for (int u = 0; u < unroll; u++) {
            V bv[NV];
            for (int v = 0; v < NV; v++)
                bv[v] = load(g, g->t->vf, gep(g, g->t->f32, pb, ic(g, u * nr + v * w)), 4);
            for (int r = 0; r < mr; r++) {
                V pa = gep(g, g->t->f32, gep(g, g->t->f32, row[r], at), ic(g, u * stride));
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
    return aside_end(l, &aside, NULL);
}

/* ---- packing */

V part_pack_straight(Low *l)
{
    V fn = part_helper(l->part, "pack_straight");
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr};
    aside_begin(l, &aside, "pack_straight", g->t->none, t, 5);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), mask[NV];
    int w = g->t->lanes, nr = tile_columns(g->t);
    Branch f;
    for (int v = 0; v < NV; v++)
        mask[v] = mask_first(g, i_max(g, i_sub(g, left, ic(g, v * w)), ic(g, 0)));
    if_begin(g, &f, i_less(g, left, ic(g, nr)), NULL, 0);
    for (int full = 0; full < 2; full++) {
        Loop loop;
        if (full)
            if_else(g, &f, NULL);
        loop_begin(g, &loop, ic(g, 0), len, 1, NULL, 0);
        V from = gep(g, g->t->f32, p, i_mul(g, loop.i, stride)), to = gep(g, g->t->f32, panel, i_mul(g, loop.i, ic(g, nr)));
        for (int v = 0; v < NV; v++) {
            V at = gep(g, g->t->f32, from, ic(g, v * w));
            V x = full ? load(g, g->t->vf, at, 4) : llvm_masked_load(g->t, g->b, g->t->vf, at, mask[v]);
            store(g, x, gep(g, g->t->f32, to, ic(g, v * w)), 4);
        }
        loop_end(g, &loop, NULL);
    }
    if_end(g, &f, NULL);
    return aside_end(l, &aside, NULL);
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
            for (int k = 0; k < w; k++) {
                lo[k] = LLVMConstInt(g->t->i32, (unsigned)(k & d ? w + (k ^ d) : k), 0);
                hi[k] = LLVMConstInt(g->t->i32, (unsigned)(k & d ? w + k : k ^ d), 0);
            }
            V x = row[i], y = row[i | d];
            row[i] = LLVMBuildShuffleVector(g->b, x, y, LLVMConstVector(lo, (unsigned)w), "");
            row[i | d] = LLVMBuildShuffleVector(g->b, x, y, LLVMConstVector(hi, (unsigned)w), "");
        }
}

/* Squares of `lanes` columns by `lanes` terms, transposed in registers. Columns past the end repeat the last one; terms
 * past len come out as zeros behind the slice's end, where there is room. */
V part_pack_transposed(Low *l)
{
    V fn = part_helper(l->part, "pack_transposed");
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr};
    aside_begin(l, &aside, "pack_transposed", g->t->none, t, 5);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), last = i_sub(g, left, ic(g, 1)), column[16];
    int w = g->t->lanes, nr = tile_columns(g->t);
    Loop part, loop;
    loop_begin(g, &part, ic(g, 0), ic(g, nr), w, NULL, 0);
    for (int i = 0; i < w; i++)
        column[i] = gep(g, g->t->f32, p, i_mul(g, i_min(g, i_add(g, part.i, ic(g, i)), last), stride));
    V whole = LLVMBuildAnd(g->b, len, ic(g, -w), "");
    for (int tail = 0; tail < 2; tail++) {
        V row[16], k = whole;
        Branch f;
        if (tail) {
            if_begin(g, &f, i_less(g, whole, len), NULL, 0);
        } else {
            loop_begin(g, &loop, ic(g, 0), whole, w, NULL, 0);
            k = loop.i;
        }
        V mask = tail ? mask_first(g, i_sub(g, len, whole)) : NULL;
        for (int i = 0; i < w; i++) {
            V at = gep(g, g->t->f32, column[i], k);
            row[i] = tail ? llvm_masked_load(g->t, g->b, g->t->vf, at, mask) : load(g, g->t->vf, at, 4);
        }
        transpose(g, row);
        V to = gep(g, g->t->f32, panel, i_add(g, i_mul(g, k, ic(g, nr)), part.i));
        for (int i = 0; i < w; i++)
            store(g, row[i], gep(g, g->t->f32, to, ic(g, i * nr)), 4);
        if (tail)
            if_end(g, &f, NULL);
        else
            loop_end(g, &loop, NULL);
    }
    loop_end(g, &part, NULL);
    return aside_end(l, &aside, NULL);
}

/* Term by term, so that the rows of a term, one or two cache lines a tile, are read in one go. */
V part_pack_rows(Low *l)
{
    V fn = part_helper(l->part, "pack_rows");
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty f32 = g->t->f32, t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr};
    aside_begin(l, &aside, "pack_rows", g->t->none, t, 5);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), last = i_sub(g, left, ic(g, 1));
    int mr = tile_rows(g->t);
    Ty rows = LLVMVectorType(f32, (unsigned)mr);
    V whole = LLVMBuildAnd(g->b, left, ic(g, -mr), "");
    Loop k, tile;
    loop_begin(g, &k, ic(g, 0), len, 1, NULL, 0);
    V from = gep(g, f32, p, i_mul(g, k.i, stride)), to = gep(g, f32, panel, i_mul(g, k.i, ic(g, mr)));
    loop_begin(g, &tile, ic(g, 0), whole, mr, NULL, 0);
    store(g, load(g, rows, gep(g, f32, from, tile.i), 4), gep(g, f32, to, i_mul(g, tile.i, ic(g, K_ROOM))), 4);
    loop_end(g, &tile, NULL);
    Branch f;
    if_begin(g, &f, i_less(g, whole, left), NULL, 0);
    V end = gep(g, f32, to, i_mul(g, whole, ic(g, K_ROOM)));
    for (int r = 0; r < mr; r++) {
        V at = gep(g, f32, from, i_min(g, i_add(g, whole, ic(g, r)), last));
        store(g, load(g, f32, at, 4), gep(g, f32, end, ic(g, r)), 4);
    }
    if_end(g, &f, NULL);
    loop_end(g, &k, NULL);
    return aside_end(l, &aside, NULL);
}

/* ---- tasks */

V part_blocks(Low *l)
{
    enum { ENOUGH_TASKS = 16 };
    static const struct { int rows, slices; } size[] = {
        {MB_MOST, NB_MOST}, {768, 8}, {768, 4}, {384, 4}, {192, 4}, {96, 4}, {96, 2},
    };
    V fn = part_helper(l->part, "blocks");
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->i64, g->t->i64, g->t->i64};
    aside_begin(l, &aside, "blocks", g->t->i64, t, 3);
    fn = g->fn;
    V n_rows = LLVMGetParam(fn, 0), slices = LLVMGetParam(fn, 1), batches = LLVMGetParam(fn, 2), mb = NULL, nb = NULL;
    for (int i = (int)LEN(size) - 1; i >= 0; i--) {
        V r = ic(g, size[i].rows), s = ic(g, size[i].slices);
        V tasks = i_mul(g, batches, i_mul(g, i_ceil_div(g, n_rows, r), i_ceil_div(g, slices, s)));
        V enough = i_less(g, ic(g, ENOUGH_TASKS - 1), tasks);
        mb = mb ? select_(g, enough, r, mb) : r;
        nb = nb ? select_(g, enough, s, nb) : s;
    }
    V row_blocks = i_max(g, i_ceil_div(g, n_rows, mb), ic(g, 1)), mr = ic(g, tile_rows(g->t));
    mb = i_mul(g, i_ceil_div(g, i_max(g, i_ceil_div(g, n_rows, row_blocks), ic(g, 1)), mr), mr);
    V column_blocks = i_max(g, i_ceil_div(g, slices, nb), ic(g, 1));
    nb = i_max(g, i_ceil_div(g, slices, column_blocks), ic(g, 1));
    return aside_end(l, &aside, LLVMBuildOr(g->b, LLVMBuildShl(g->b, mb, ic(g, 32), ""), nb, ""));
}

V part_product(Low *l, bool packed)
{
    const char *name = packed ? "product_packed" : "product_rows";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    V micro = micro_kernel(l, packed);
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, p = g->t->ptr, f32 = g->t->f32, t[] = {p, i, i, p, i, i, i, i, i, p, i, p, p};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    int mr = tile_rows(g->t), nr = tile_columns(g->t);
    V bufs = LLVMGetParam(fn, 0), batch = LLVMGetParam(fn, 1), outer = LLVMGetParam(fn, 2), scratch = LLVMGetParam(fn, 3);
    V terms = LLVMGetParam(fn, 4), m_from = LLVMGetParam(fn, 5), m_to = LLVMGetParam(fn, 6), s_from = LLVMGetParam(fn, 7);
    V s_to = LLVMGetParam(fn, 8), a0 = LLVMGetParam(fn, 9), a_row = LLVMGetParam(fn, 10);
    V pack_b = LLVMGetParam(fn, 11), finish = LLVMGetParam(fn, 12), s_count = i_sub(g, s_to, s_from);
    int64_t slice = (int64_t)K_ROOM * nr;
    V a_panel = gep(g, f32, scratch, ic(g, NB_MOST * slice)), tiles = gep(g, f32, a_panel, ic(g, packed ? MC * K_ROOM : 0));
    V k_blocks = i_max(g, i_ceil_div(g, terms, ic(g, KC)), ic(g, 1));
    V kc = i_mul(g, i_ceil_div(g, i_ceil_div(g, terms, k_blocks), ic(g, 8)), ic(g, 8));
    V one_block = LLVMBuildICmp(g->b, LLVMIntEQ, k_blocks, ic(g, 1), "");

    Loop kb, sl, mc, panel, tile;
    loop_begin(g, &kb, ic(g, 0), k_blocks, 1, NULL, 0);
    V k0 = i_mul(g, kb.i, kc), len = i_max(g, i_min(g, kc, i_sub(g, terms, k0)), ic(g, 0));
    V last_block = LLVMBuildICmp(g->b, LLVMIntEQ, kb.i, i_sub(g, k_blocks, ic(g, 1)), "");
    loop_begin(g, &sl, s_from, s_to, 1, NULL, 0);
    V place = gep(g, f32, scratch, i_mul(g, i_sub(g, sl.i, s_from), ic(g, slice)));
    V b_arg[] = {bufs, batch, outer, place, i_mul(g, sl.i, ic(g, nr)), k0, len};
    call_pointer(g, g->t->none, pack_b, b_arg, 7);
    loop_end(g, &sl, NULL);
    loop_begin(g, &mc, m_from, m_to, MC, NULL, 0);
    V c_to = i_min(g, i_add(g, mc.i, ic(g, MC)), m_to);
    if (packed) {
        V a_arg[] = {bufs, batch, outer, a_panel, mc.i, c_to, k0, len};
        call_pointer(g, g->t->none, a0, a_arg, 8);
    }
    loop_begin(g, &tile, mc.i, c_to, mr, NULL, 0);
    V rows = i_min(g, i_sub(g, c_to, tile.i), ic(g, mr));
    V a = packed ? gep(g, f32, a_panel, i_mul(g, i_sub(g, tile.i, mc.i), ic(g, K_ROOM)))
                 : gep(g, f32, a0, i_add(g, i_mul(g, tile.i, a_row), k0));
    V first = i_mul(g, i_div(g, i_sub(g, tile.i, m_from), ic(g, mr)), s_count);
    loop_begin(g, &panel, s_from, s_to, 1, NULL, 0);
    V in = i_sub(g, panel.i, s_from), number = select_(g, one_block, ic(g, 0), i_add(g, first, in));
    V b = gep(g, f32, scratch, i_mul(g, in, ic(g, slice))), at = gep(g, f32, tiles, i_mul(g, number, ic(g, mr * nr)));
    V arg[] = {len, rows, a, a_row, b, at, kb.i};
    call(g, micro, arg, 7);
    Branch f;
    if_begin(g, &f, last_block, NULL, 0);
    V done[] = {bufs, batch, outer, at, tile.i, rows, i_mul(g, panel.i, ic(g, nr))};
    call_pointer(g, g->t->none, finish, done, 7);
    if_end(g, &f, NULL);
    loop_end(g, &panel, NULL);
    loop_end(g, &tile, NULL);
    loop_end(g, &mc, NULL);
    loop_end(g, &kb, NULL);
    return aside_end(l, &aside, NULL);
}
