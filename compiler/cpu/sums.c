/* sums.c -- see contract.h: the sum of a contraction's side over its terms, from the panels that its products read.
 *
 * A block of terms is summed in four parts of its own; blocks are added up with what rounding takes from them kept beside the
 * sum (Knuth's exact difference), so that a sum over millions of terms is as good as one over a block. */
#include "cpu/contract.h"

typedef struct Strip { Gen *g; int width, stride; bool half; } Strip;

/* carry + the element (or the pair of them) at p, of each of the strip's rows; first: of a pair only that */
static V take(const Strip *s, V p, V carry, bool first)
{
    Gen *g = s->g;
    unsigned n = (unsigned)s->width;
    Ty f = LLVMVectorType(g->t->f32, n), i = LLVMVectorType(g->t->i32, n);
    if (!s->half)
        return f_add(g, carry, load(g, f, p, 4));
    V x = load(g, i, p, 4), bits[16];
    for (unsigned k = 0; k < n; k++)
        bits[k] = LLVMConstInt(g->t->i32, 16, 0);
    V up = LLVMConstVector(bits, n), low = LLVMBuildShl(g->b, x, up, "");
    carry = f_add(g, carry, LLVMBuildBitCast(g->b, low, f, ""));
    if (first)
        return carry;
    V high = LLVMBuildShl(g->b, LLVMBuildLShr(g->b, x, up, ""), up, "");
    return f_add(g, carry, LLVMBuildBitCast(g->b, high, f, ""));
}

/* The sum of len terms of the rows that lie side by side from p on, one vector. */
static V strip_sum(const Strip *s, V p, V len)
{
    enum { PARTS = 4 };
    Gen *g = s->g;
    Ty unit = s->half ? g->t->i32 : g->t->f32;
    V part[PARTS], units = s->half ? LLVMBuildLShr(g->b, len, ic(g, 1), "") : len, whole = LLVMBuildAnd(g->b, units, ic(g, -PARTS), "");
    for (int u = 0; u < PARTS; u++)
        part[u] = LLVMConstNull(LLVMVectorType(g->t->f32, (unsigned)s->width));
    for (int round = 0; round < 2; round++) {          /* a part takes every fourth term; the first also the last few */
        int step = round ? 1 : PARTS;
        Loop loop;
        loop_begin(g, &loop, round ? whole : ic(g, 0), round ? units : whole, step, part, PARTS);
        V at = gep(g, unit, p, i_mul(g, loop.i, ic(g, s->stride)));
        for (int u = 0; u < step; u++)
            part[u] = take(s, gep(g, unit, at, ic(g, u * s->stride)), part[u], false);
        loop_end(g, &loop, part);
    }
    if (s->half) {
        Branch f;
        if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, LLVMBuildAnd(g->b, len, ic(g, 1), ""), ic(g, 0), ""), part, PARTS);
        part[0] = take(s, gep(g, unit, p, i_mul(g, units, ic(g, s->stride))), part[0], true);
        if_end(g, &f, part);
    }
    return f_add(g, f_add(g, part[0], part[1]), f_add(g, part[2], part[3]));
}

/* *p += x, what is lost of it to *lost; first: both begin at zero */
static void add_exactly(Gen *g, V x, V p, V lost, V first)
{
    Ty f = LLVMTypeOf(x);
    V zero = LLVMConstNull(f), s = select_(g, first, zero, load(g, f, p, 4)), e = select_(g, first, zero, load(g, f, lost, 4));
    V t = f_add(g, s, x), z = f_sub(g, t, s);
    e = f_add(g, e, f_add(g, f_sub(g, s, f_sub(g, t, z)), f_sub(g, x, z)));
    store(g, t, p, 4);
    store(g, e, lost, 4);
}

V part_side_sum(Low *l, bool of_a, bool half)
{
    const char *name = of_a ? half ? "sum_a_pairs" : "sum_a" : half ? "sum_b_pairs" : "sum_b";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, t[] = {g->t->ptr, i, i, i, g->t->ptr, i, i};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    V panel = LLVMGetParam(fn, 0), len = LLVMGetParam(fn, 1), tiles = LLVMGetParam(fn, 2), room = LLVMGetParam(fn, 3);
    V sums = LLVMGetParam(fn, 4), at = LLVMGetParam(fn, 5), first = LLVMBuildICmp(g->b, LLVMIntEQ, LLVMGetParam(fn, 6), ic(g, 0), "");
    int side = of_a ? tile_rows(g->t) : tile_columns(g->t), strips = of_a ? 1 : NV;
    Strip s = {g, side / strips, side, half};
    Loop tile;
    loop_begin(g, &tile, ic(g, 0), tiles, 1, NULL, 0);
    V from = gep(g, g->t->f32, panel, i_mul(g, tile.i, i_mul(g, room, ic(g, side))));
    V to = gep(g, g->t->f32, sums, i_rem(g, i_add(g, at, i_mul(g, tile.i, ic(g, side))), ic(g, MB_MOST)));
    for (int v = 0; v < strips; v++) {
        V part = ic(g, v * s.width), p = gep(g, g->t->f32, to, part);
        add_exactly(g, strip_sum(&s, gep(g, g->t->f32, from, part), len), p, gep(g, g->t->f32, p, ic(g, MB_MOST)), first);
    }
    loop_end(g, &tile, NULL);
    return aside_end(l, &aside, NULL);
}

V side_sum_of(Gen *g, V sums, V at)
{
    V p = gep(g, g->t->f32, sums, i_rem(g, at, ic(g, MB_MOST)));
    V s = splat(g, load(g, g->t->f32, p, 4)), e = splat(g, load(g, g->t->f32, gep(g, g->t->f32, p, ic(g, MB_MOST)), 4));
    return select_(g, f_cmp(g, LLVMRealORD, e, e), f_add(g, s, e), s);      /* of infinity nothing is lost */
}
