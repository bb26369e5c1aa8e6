/* product.c -- see contract.h: micro-kernel, packing and the loops of a task, shared by the contractions of a part.
 *
 * A task takes at most NB_MOST slices of B for a block of terms, then goes down its rows: a tile of A, in the first-level
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
    Ty type[MAX_POINTER_ARGS];
    for (int i = 0; i < n; i++)
        type[i] = LLVMTypeOf(arg[i]);
    return LLVMBuildCall2(g->b, LLVMFunctionType(result, type, (unsigned)n, 0), fn, arg, (unsigned)n, "");
}

/* ---- the micro-kernel: tile[MR][NR] (+)= sum over k of a[row * rs + k * ks] * b[k][NR]; ks = 1, or MR and rs = 1.
 *
 * In place, rows is 1 .. MR: rows past it are computed from the last one again and never stored; in a panel neither it nor rs
 * is wanted. ahead: a part of the next tile, which may lie far away, MR / NB_MOST elements for each term. beside: n_beside pairs
 * of an address and bytes from row to row: what is wanted next, rows of NR elements, fetched a row at each eighth of the terms:
 * all at once, its misses would hold up the slices. What is only written is fetched too: 1 to 3 % of a product's time went into
 * waiting until stores found their lines. */
typedef struct Micro {
    Gen *g;
    int mr, nr;
    bool packed, half;
    V *carry;
    V row[8], b, ahead;                /* the tile's rows of a; the slice; what to fetch */
} Micro;

/* carry += a * b for one term or pair: a one element of A, b its row of a slice. */
static void multiply(const Micro *m, int r, V a, V const *b)
{
    Gen *g = m->g;
    V x = splat(g, a);
    if (m->half)
        x = LLVMBuildBitCast(g->b, x, g->t->vpair, "");
    for (int v = 0; v < NV; v++) {
        V *c = &m->carry[r * NV + v];
        *c = m->half ? llvm_dot_pairs(g->t, g->b, *c, x, b[v]) : f_fma(g, x, b[v], *c);
    }
}

static void load_slice(const Micro *m, V p, V *b)
{
    Gen *g = m->g;
    for (int v = 0; v < NV; v++)
        b[v] = load(g, m->half ? g->t->vpair : g->t->vf, gep(g, g->t->f32, p, ic(g, v * g->t->lanes)), 4);
}

static void fetch_ahead(Gen *g, V p)
{
    Ty over[] = {g->t->ptr};
    V arg[] = {p, LLVMConstInt(g->t->i32, 0, 0), LLVMConstInt(g->t->i32, 2, 0), LLVMConstInt(g->t->i32, 1, 0)};
    llvm_call(g->t, g->b, "llvm.prefetch", over, 1, arg, 4);   /* to read; into the second-level cache; data */
}

/* Terms (or pairs) from .. to - 1, `unroll` at a time. */
static void multiply_terms(const Micro *m, V from, V to, int unroll)
{
    Gen *g = m->g;
    int mr = m->mr, nr = m->nr, stride = m->packed ? mr : 1;
    Ty unit = m->half ? g->t->i32 : g->t->f32;
    V bv[NV];
    Loop loop;
    loop_begin(g, &loop, from, to, unroll, m->carry, mr * NV);
    loop.aligned = unroll > 1;
    V at = i_mul(g, loop.i, ic(g, stride)), pb = gep(g, unit, m->b, i_mul(g, loop.i, ic(g, nr)));
    if (unroll > 1)
        fetch_ahead(g, gep(g, unit, m->ahead, i_mul(g, loop.i, ic(g, mr / NB_MOST))));
    for (int u = 0; u < unroll; u++) {
        load_slice(m, gep(g, unit, pb, ic(g, u * nr)), bv);
        for (int r = 0; r < mr; r++) {
            V pa = gep(g, unit, gep(g, unit, m->row[r], at), ic(g, u * stride));
            multiply(m, r, load(g, unit, pa, m->half && !m->packed ? 2 : 4), bv);
        }
    }
    loop_end(g, &loop, m->carry);
}

static V micro_kernel(Low *l, bool packed, bool half)
{
    enum { UNROLL = 4 };
    const char *name = packed ? half ? "micro_packed_bf16" : "micro_packed" : half ? "micro_rows_bf16" : "micro_rows";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty word = g->t->i64, p = g->t->ptr, t[] = {word, word, p, word, p, p, word, p, word, p}, unit = half ? g->t->i32 : g->t->f32;
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    int w = g->t->lanes, mr = tile_rows(g->t), nr = tile_columns(g->t), n_acc = mr * NV;
    V len = LLVMGetParam(fn, 0), rows = LLVMGetParam(fn, 1), a = LLVMGetParam(fn, 2), rs = LLVMGetParam(fn, 3);
    V b = LLVMGetParam(fn, 4), tile = LLVMGetParam(fn, 5), more = LLVMGetParam(fn, 6), beside = LLVMGetParam(fn, 7);
    V n_beside = LLVMGetParam(fn, 8), carry[MAX_CARRY], bv[NV];
    V last = i_sub(g, rows, ic(g, 1)), units = half ? LLVMBuildLShr(g->b, len, ic(g, 1), "") : len;
    Micro m = {.g = g, .mr = mr, .nr = nr, .packed = packed, .half = half, .carry = carry, .b = b,
               .ahead = LLVMGetParam(fn, 9)};
    for (int r = 0; r < mr; r++)
        m.row[r] = packed ? gep(g, unit, a, ic(g, r)) : gep(g, half ? g->t->i16 : unit, a, i_mul(g, i_min(g, ic(g, r), last), rs));
    for (int i = 0; i < n_acc; i++)
        carry[i] = fc(g, 0);
    V whole = LLVMBuildAnd(g->b, units, ic(g, -UNROLL), ""), part = LLVMBuildAnd(g->b, i_div(g, whole, ic(g, mr)), ic(g, -UNROLL), "");
    Loop loop, each;
    loop_begin(g, &loop, ic(g, 0), ic(g, mr), 1, carry, n_acc);
    V next = i_add(g, loop.i, ic(g, 1));
    loop_begin(g, &each, ic(g, 0), n_beside, 1, NULL, 0);
    V pair = gep(g, word, beside, i_mul(g, each.i, ic(g, 2))), row = i_mul(g, loop.i, load(g, word, gep(g, word, pair, ic(g, 1)), 8));
    V at = gep(g, g->t->i8, load(g, p, pair, 8), row);
    for (int v = 0; v < NV; v++)
        fetch_ahead(g, gep(g, g->t->f32, at, ic(g, v * w)));
    loop_end(g, &each, NULL);
    V end = select_(g, LLVMBuildICmp(g->b, LLVMIntEQ, next, ic(g, mr), ""), whole, i_mul(g, next, part));
    multiply_terms(&m, i_mul(g, loop.i, part), end, UNROLL);
    loop_end(g, &loop, carry);
    multiply_terms(&m, whole, units, 1);
    Branch f;
    if (half) {                        /* one term is left: its partner, in A past the end, counts as zero */
        if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, LLVMBuildAnd(g->b, len, ic(g, 1), ""), ic(g, 0), ""), carry, n_acc);
        load_slice(&m, gep(g, unit, b, i_mul(g, units, ic(g, nr))), bv);
        for (int r = 0; r < mr; r++) {
            V pa = gep(g, unit, m.row[r], i_mul(g, units, ic(g, packed ? mr : 1)));
            multiply(&m, r, LLVMBuildZExt(g->b, load(g, g->t->i16, pa, 2), unit, ""), bv);
        }
        if_end(g, &f, carry);
    }
    if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, more, ic(g, 0), ""), carry, n_acc);
    for (int i = 0; i < n_acc; i++)
        carry[i] = f_add(g, carry[i], load(g, g->t->vf, gep(g, g->t->f32, tile, ic(g, i * w)), 4));
    if_end(g, &f, carry);
    for (int i = 0; i < n_acc; i++)
        store(g, carry[i], gep(g, g->t->f32, tile, ic(g, i * w)), 4);
    return aside_end(l, &aside, NULL);
}

/* ---- packing */

/* a0 b0 a1 b1 ...: pairs of 16-bit elements; b NULL: zeros */
static V interleave(Gen *g, V a, V b, int n)
{
    V order[32];
    for (int i = 0; i < 2 * n; i++)
        order[i] = LLVMConstInt(g->t->i32, (unsigned)(i / 2 + (i & 1 ? n : 0)), 0);
    return LLVMBuildShuffleVector(g->b, a, b ? b : LLVMConstNull(LLVMTypeOf(a)), LLVMConstVector(order, (unsigned)(2 * n)), "");
}

/* Row by row over all slices, so that what is read of a row lies in one piece: rows are far apart, and nobody else fetches
 * them ahead. */
static void straight_rows(Gen *g, Form form, V p, V stride, V len, V panel, V slices, V room, V const *mask)
{
    bool half = form == PAIRS, narrow = form != PLAIN;
    Ty type = narrow ? g->t->i16 : g->t->f32, vector = narrow ? g->t->vs : g->t->vf, unit = half ? g->t->i32 : g->t->f32;
    int w = g->t->lanes, nr = tile_columns(g->t), step = half ? 2 : 1;
    V whole = LLVMBuildAnd(g->b, len, ic(g, -step), "");
    for (int odd = 0; odd < step; odd++) {           /* whole pairs; then the last term alone */
        Loop loop, slice;
        loop_begin(g, &loop, odd ? whole : ic(g, 0), odd ? len : whole, step, NULL, 0);
        V row = half ? LLVMBuildLShr(g->b, loop.i, ic(g, 1), "") : loop.i;
        V first = gep(g, type, p, i_mul(g, loop.i, stride)), place = gep(g, unit, panel, i_mul(g, row, ic(g, nr)));
        loop_begin(g, &slice, ic(g, 0), slices, 1, NULL, 0);
        V source = gep(g, type, first, i_mul(g, slice.i, ic(g, nr)));
        V target = gep(g, g->t->f32, place, i_mul(g, slice.i, i_mul(g, room, ic(g, nr))));
        for (int v = 0; v < NV; v++) {
            V x[2] = {NULL, NULL};
            for (int i = 0; i < step - odd; i++) {
                V at = gep(g, type, gep(g, type, source, i ? stride : ic(g, 0)), ic(g, v * w));
                x[i] = mask ? llvm_masked_load(g->t, g->b, vector, at, mask[v]) : load(g, vector, at, narrow ? 2 : 4);
            }
            V y = half ? interleave(g, x[0], x[1], w) : narrow ? f_from_bf16(g, x[0]) : x[0];
            store(g, y, gep(g, g->t->f32, target, ic(g, v * w)), 4);
        }
        loop_end(g, &slice, NULL);
        loop_end(g, &loop, NULL);
    }
}

V part_pack_straight(Low *l, Form form)
{
    static const char *const names[] = {"pack_straight", "pack_straight_widen", "pack_straight_pairs"}, *name;
    name = names[form];
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr, g->t->i64, g->t->i64};
    aside_begin(l, &aside, name, g->t->none, t, 7);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), slices = LLVMGetParam(fn, 5), room = LLVMGetParam(fn, 6), mask[NV];
    int w = g->t->lanes, nr = tile_columns(g->t);
    V whole = i_min(g, slices, i_div(g, left, ic(g, nr))), done = i_mul(g, whole, ic(g, nr));
    straight_rows(g, form, p, stride, len, panel, whole, room, NULL);
    Branch f;
    if_begin(g, &f, i_less(g, whole, slices), NULL, 0);
    for (int v = 0; v < NV; v++)
        mask[v] = mask_first(g, i_max(g, i_sub(g, i_sub(g, left, done), ic(g, v * w)), ic(g, 0)));
    straight_rows(g, form, gep(g, form == PLAIN ? g->t->f32 : g->t->i16, p, done), stride, len,
                  gep(g, g->t->f32, panel, i_mul(g, whole, i_mul(g, room, ic(g, nr)))), ic(g, 1), room, mask);
    if_end(g, &f, NULL);
    return aside_end(l, &aside, NULL);
}

/* The transpose of a square of vectors, by exchanging halves, quarters, ... */
static void transpose(Gen *g, V *row, int w)
{
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

/* The first n of 2 * lanes elements of 16 bits, n > 0. */
static V mask_pairs(Gen *g, V n)
{
    V iota[32], one[32];
    int w = 2 * g->t->lanes;
    V most = LLVMBuildTrunc(g->b, i_min(g, n, ic(g, w)), g->t->i16, ""), v = LLVMGetPoison(LLVMVectorType(g->t->i16, (unsigned)w));
    for (int i = 0; i < w; i++) {
        iota[i] = LLVMConstInt(g->t->i16, (unsigned)i, 0);
        one[i] = LLVMConstInt(g->t->i32, 0, 0);
    }
    v = LLVMBuildInsertElement(g->b, v, most, one[0], "");
    v = LLVMBuildShuffleVector(g->b, v, v, LLVMConstVector(one, (unsigned)w), "");
    return LLVMBuildICmp(g->b, LLVMIntSLT, LLVMConstVector(iota, (unsigned)w), v, "");
}

/* Squares of `lanes` columns by `lanes` terms (or pairs), transposed in registers. Columns past the end repeat the last one; terms
 * past len come out as zeros behind the slice's end, where there is room. */
V part_pack_transposed(Low *l, Form form)
{
    static const char *const names[] = {"pack_transposed", "pack_transposed_widen", "pack_transposed_pairs"}, *name;
    name = names[form];
    bool half = form == PAIRS, narrow = form != PLAIN;
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr}, type = narrow ? g->t->i16 : g->t->f32;
    Ty unit = half ? g->t->i32 : g->t->f32, square = half ? g->t->vi : g->t->vf;
    Ty run = LLVMVectorType(type, (unsigned)(half ? 2 * g->t->lanes : g->t->lanes));
    aside_begin(l, &aside, name, g->t->none, t, 5);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), last = i_sub(g, left, ic(g, 1)), column[16];
    int w = g->t->lanes, nr = tile_columns(g->t), step = half ? 2 * w : w;
    Loop part, loop;
    loop_begin(g, &part, ic(g, 0), ic(g, nr), w, NULL, 0);
    for (int i = 0; i < w; i++)
        column[i] = gep(g, type, p, i_mul(g, i_min(g, i_add(g, part.i, ic(g, i)), last), stride));
    V whole = LLVMBuildAnd(g->b, len, ic(g, -step), "");
    for (int tail = 0; tail < 2; tail++) {
        V row[16], k = whole, mask = NULL;
        Branch f;
        if (tail) {
            if_begin(g, &f, i_less(g, whole, len), NULL, 0);
            mask = half ? mask_pairs(g, i_sub(g, len, whole)) : mask_first(g, i_sub(g, len, whole));
        } else {
            loop_begin(g, &loop, ic(g, 0), whole, step, NULL, 0);
            k = loop.i;
        }
        for (int i = 0; i < w; i++) {
            V at = gep(g, type, column[i], k);
            row[i] = tail ? llvm_masked_load(g->t, g->b, run, at, mask) : load(g, run, at, narrow ? 2 : 4);
            row[i] = form == WIDEN ? f_from_bf16(g, row[i]) : LLVMBuildBitCast(g->b, row[i], square, "");
        }
        transpose(g, row, w);
        V units = half ? LLVMBuildLShr(g->b, k, ic(g, 1), "") : k;
        V to = gep(g, unit, panel, i_add(g, i_mul(g, units, ic(g, nr)), part.i));
        for (int i = 0; i < w; i++)
            store(g, row[i], gep(g, unit, to, ic(g, i * nr)), 4);
        if (tail)
            if_end(g, &f, NULL);
        else
            loop_end(g, &loop, NULL);
    }
    loop_end(g, &part, NULL);
    return aside_end(l, &aside, NULL);
}

/* The element of A at `from`, of one term, or of two that are `stride` apart; the second may be missing. */
static V pick(Gen *g, V from, V stride, Form form, bool second)
{
    if (form == PLAIN)
        return load(g, g->t->f32, from, 4);
    if (form == WIDEN)
        return f_from_bf16(g, load(g, g->t->i16, from, 2));
    V x = LLVMBuildZExt(g->b, load(g, g->t->i16, from, 2), g->t->i32, "");
    if (!second)
        return x;
    V y = LLVMBuildZExt(g->b, load(g, g->t->i16, gep(g, g->t->i16, from, stride), 2), g->t->i32, "");
    return LLVMBuildOr(g->b, x, LLVMBuildShl(g->b, y, LLVMConstInt(g->t->i32, 16, 0), ""), "");
}

/* Term by term, so that the rows of a term, one or two cache lines a tile, are read in one go. */
V part_pack_rows(Low *l, Form form)
{
    static const char *const names[] = {"pack_rows", "pack_rows_widen", "pack_rows_pairs"}, *name;
    name = names[form];
    bool half = form == PAIRS, narrow = form != PLAIN;
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty unit = half ? g->t->i32 : g->t->f32, type = narrow ? g->t->i16 : g->t->f32;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr, g->t->i64};
    aside_begin(l, &aside, name, g->t->none, t, 6);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), room = LLVMGetParam(fn, 5), last = i_sub(g, left, ic(g, 1));
    int mr = tile_rows(g->t), step = half ? 2 : 1;
    Ty rows = LLVMVectorType(type, (unsigned)mr);
    V whole = LLVMBuildAnd(g->b, left, ic(g, -mr), ""), even = LLVMBuildAnd(g->b, len, ic(g, -step), "");
    for (int odd = 0; odd < step; odd++) {
        Loop k, tile;
        loop_begin(g, &k, odd ? even : ic(g, 0), odd ? len : even, step, NULL, 0);
        V row = half ? LLVMBuildLShr(g->b, k.i, ic(g, 1), "") : k.i;
        V from = gep(g, type, p, i_mul(g, k.i, stride)), to = gep(g, unit, panel, i_mul(g, row, ic(g, mr)));
        loop_begin(g, &tile, ic(g, 0), whole, mr, NULL, 0);
        V at = gep(g, type, from, tile.i), x = load(g, rows, at, narrow ? 2 : 4);
        if (half)
            x = interleave(g, x, odd ? NULL : load(g, rows, gep(g, type, at, stride), 2), mr);
        else if (narrow)
            x = f_from_bf16(g, x);
        store(g, x, gep(g, unit, to, i_mul(g, tile.i, room)), 4);
        loop_end(g, &tile, NULL);
        Branch f;
        if_begin(g, &f, i_less(g, whole, left), NULL, 0);
        V end = gep(g, unit, to, i_mul(g, whole, room));
        for (int r = 0; r < mr; r++) {
            V one = gep(g, type, from, i_min(g, i_add(g, whole, ic(g, r)), last));
            store(g, pick(g, one, stride, form, !odd), gep(g, unit, end, ic(g, r)), 4);
        }
        if_end(g, &f, NULL);
        loop_end(g, &k, NULL);
    }
    return aside_end(l, &aside, NULL);
}

/* Squares of MR rows by MR terms, widened and transposed; then the last terms one by one. */
V part_pack_terms(Low *l)
{
    V fn = part_helper(l->part, "pack_terms_widen");
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty t[] = {g->t->ptr, g->t->i64, g->t->i64, g->t->i64, g->t->ptr, g->t->i64};
    aside_begin(l, &aside, "pack_terms_widen", g->t->none, t, 6);
    fn = g->fn;
    V p = LLVMGetParam(fn, 0), stride = LLVMGetParam(fn, 1), left = LLVMGetParam(fn, 2), len = LLVMGetParam(fn, 3);
    V panel = LLVMGetParam(fn, 4), room = LLVMGetParam(fn, 5), last = i_sub(g, left, ic(g, 1)), from[8];
    int mr = tile_rows(g->t);
    Ty run = LLVMVectorType(g->t->i16, (unsigned)mr), f32 = g->t->f32;
    V whole = LLVMBuildAnd(g->b, len, ic(g, -mr), "");
    Loop tile;
    loop_begin(g, &tile, ic(g, 0), left, mr, NULL, 0);
    for (int r = 0; r < mr; r++)
        from[r] = gep(g, g->t->i16, p, i_mul(g, i_min(g, i_add(g, tile.i, ic(g, r)), last), stride));
    V to = gep(g, f32, panel, i_mul(g, tile.i, room));
    Loop k;
    V row[8];
    loop_begin(g, &k, ic(g, 0), whole, mr, NULL, 0);
    for (int r = 0; r < mr; r++)
        row[r] = f_from_bf16(g, load(g, run, gep(g, g->t->i16, from[r], k.i), 2));
    transpose(g, row, mr);
    for (int i = 0; i < mr; i++)
        store(g, row[i], gep(g, f32, to, i_mul(g, i_add(g, k.i, ic(g, i)), ic(g, mr))), 4);
    loop_end(g, &k, NULL);
    loop_begin(g, &k, whole, len, 1, NULL, 0);
    for (int r = 0; r < mr; r++) {
        V x = f_from_bf16(g, load(g, g->t->i16, gep(g, g->t->i16, from[r], k.i), 2));
        store(g, x, gep(g, f32, to, i_add(g, i_mul(g, k.i, ic(g, mr)), ic(g, r))), 4);
    }
    loop_end(g, &k, NULL);
    loop_end(g, &tile, NULL);
    return aside_end(l, &aside, NULL);
}

/* ---- tasks */

V part_blocks(Low *l)
{
    enum { ENOUGH_TASKS = 16 };
    static const struct { int rows, slices; } size[] = {
        {MB_MOST, NB_MOST}, {768, 4}, {384, 4}, {192, 4}, {96, 4}, {96, 2},
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

void block_of_terms(Gen *g, V terms, bool half, KBlocks *k)
{
    V most = ic(g, half ? 2 * KC : KC);
    k->n = i_max(g, i_ceil_div(g, terms, most), ic(g, 1));
    k->terms = i_mul(g, i_ceil_div(g, i_ceil_div(g, terms, k->n), ic(g, 8)), ic(g, 8));
    k->room = i_add(g, half ? LLVMBuildLShr(g->b, k->terms, ic(g, 1), "") : k->terms, ic(g, K_SPARE));
}

V part_product(Low *l, bool packed, bool half)
{
    const char *name = packed ? half ? "product_packed_bf16" : "product_packed" : half ? "product_rows_bf16" : "product_rows";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    V micro = micro_kernel(l, packed, half);
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, p = g->t->ptr, f32 = g->t->f32, t[] = {p, i, i, p, i, i, i, i, i, p, i, p, p, p, i};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    int mr = tile_rows(g->t), nr = tile_columns(g->t);
    V bufs = LLVMGetParam(fn, 0), batch = LLVMGetParam(fn, 1), outer = LLVMGetParam(fn, 2), scratch = LLVMGetParam(fn, 3);
    V terms = LLVMGetParam(fn, 4), m_from = LLVMGetParam(fn, 5), m_to = LLVMGetParam(fn, 6), s_from = LLVMGetParam(fn, 7);
    V s_to = LLVMGetParam(fn, 8), a0 = LLVMGetParam(fn, 9), a_row = LLVMGetParam(fn, 10);
    V pack_b = LLVMGetParam(fn, 11), finish = LLVMGetParam(fn, 12), s_count = i_sub(g, s_to, s_from);
    V beside = LLVMGetParam(fn, 13), n_beside = LLVMGetParam(fn, 14);
    V places = LLVMBuildAlloca(g->b, LLVMArrayType(i, 2 * MOST_BESIDE), "");
    V a_panel = gep(g, f32, scratch, ic(g, (int64_t)NB_MOST * K_ROOM * nr));
    V tiles = gep(g, f32, a_panel, ic(g, packed ? MC * K_ROOM : 0));
    KBlocks k;
    block_of_terms(g, terms, half, &k);
    V one_block = LLVMBuildICmp(g->b, LLVMIntEQ, k.n, ic(g, 1), ""), slice = i_mul(g, k.room, ic(g, nr));

    Loop kb, mc, panel, tile, each;
    loop_begin(g, &kb, ic(g, 0), k.n, 1, NULL, 0);
    V k0 = i_mul(g, kb.i, k.terms), len = i_max(g, i_min(g, k.terms, i_sub(g, terms, k0)), ic(g, 0));
    V last_block = LLVMBuildICmp(g->b, LLVMIntEQ, kb.i, i_sub(g, k.n, ic(g, 1)), "");
    V b_arg[] = {bufs, batch, outer, scratch, i_mul(g, s_from, ic(g, nr)), k0, len, s_count, k.room};
    /* the thread's last task may have left the same slices */
    V note = gep(g, g->t->i8, scratch, ic(g, TIC_NOTE)), name_b = i_add(g, LLVMBuildShl(g->b, outer, ic(g, 32), ""), s_from);
    V slices[] = {scratch}, there = LLVMBuildICmp(g->b, LLVMIntEQ, load(g, i, note, 8), name_b, "");
    Branch f;
    if_begin(g, &f, LLVMBuildNot(g->b, LLVMBuildAnd(g->b, one_block, there, ""), ""), slices, 1);
    slices[0] = call_pointer(g, p, pack_b, b_arg, 9);
    if_end(g, &f, slices);
    store(g, name_b, note, 8);
    loop_begin(g, &mc, m_from, m_to, MC, NULL, 0);
    V c_to = i_min(g, i_add(g, mc.i, ic(g, MC)), m_to), block = NULL;
    if (packed) {
        V a_arg[] = {bufs, batch, outer, a_panel, mc.i, c_to, k0, len, k.room};
        block = call_pointer(g, p, a0, a_arg, 9);
    }
    loop_begin(g, &tile, mc.i, c_to, mr, NULL, 0);
    V rows = i_min(g, i_sub(g, c_to, tile.i), ic(g, mr));
    V a = packed ? gep(g, f32, block, i_mul(g, i_sub(g, tile.i, mc.i), k.room))
                 : gep(g, half ? g->t->i16 : f32, a0, i_add(g, i_mul(g, tile.i, a_row), k0));
    V first = i_mul(g, i_div(g, i_sub(g, tile.i, m_from), ic(g, mr)), s_count);
    loop_begin(g, &panel, s_from, s_to, 1, NULL, 0);
    V in = i_sub(g, panel.i, s_from), number = select_(g, one_block, ic(g, 0), i_add(g, first, in));
    V b = gep(g, f32, slices[0], i_mul(g, in, slice)), at = gep(g, f32, tiles, i_mul(g, number, ic(g, mr * nr)));
    /* each slice fetches its share of the next tile; rows with gaps are left to the machine, which gained more there */
    V units = half ? LLVMBuildLShr(g->b, len, ic(g, 1), "") : len, share = i_mul(g, in, i_mul(g, units, ic(g, mr / NB_MOST)));
    V ahead = gep(g, half ? g->t->i32 : f32, a, i_add(g, i_mul(g, packed ? k.room : units, ic(g, mr)), share));
    if (!packed)
        ahead = select_(g, LLVMBuildICmp(g->b, LLVMIntEQ, a_row, len, ""), ahead, a);
    if_begin(g, &f, last_block, NULL, 0);
    loop_begin(g, &each, ic(g, 0), n_beside, 1, NULL, 0);
    V three = gep(g, i, beside, i_mul(g, each.i, ic(g, 3))), place = gep(g, i, places, i_mul(g, each.i, ic(g, 2)));
    V row = load(g, i, gep(g, i, three, ic(g, 1)), 8), column = load(g, i, gep(g, i, three, ic(g, 2)), 8);
    store(g, i_add(g, load(g, i, three, 8), i_add(g, i_mul(g, tile.i, row), i_mul(g, panel.i, column))), place, 8);
    store(g, row, gep(g, i, place, ic(g, 1)), 8);
    loop_end(g, &each, NULL);
    if_else(g, &f, NULL);
    store(g, at, places, 8);
    store(g, ic(g, 4 * nr), gep(g, i, places, ic(g, 1)), 8);
    if_end(g, &f, NULL);
    V arg[] = {len, rows, a, a_row, b, at, kb.i, places, select_(g, last_block, n_beside, ic(g, 1)), ahead};
    call(g, micro, arg, (int)LEN(arg));
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
