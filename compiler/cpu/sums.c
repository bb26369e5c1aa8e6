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

/* The tiles of a side's panel, its strips and the place of its sums: both functions go through them in the same way. */
typedef struct Panel { Strip strip; int side, strips; V tile, sums; } Panel;

static Panel panel_of(Gen *g, bool of_a, bool half)
{
    int side = of_a ? tile_rows(g->t) : tile_columns(g->t), strips = of_a ? 1 : NV;
    return (Panel){.strip = {g, side / strips, side, half}, .side = side, .strips = strips};
}

static void panel_tile(Panel *p, V panel, V room, V tile)
{
    Gen *g = p->strip.g;
    V side = ic(g, p->side);
    p->tile = gep(g, g->t->f32, panel, i_mul(g, tile, i_mul(g, room, side)));
    p->sums = gep(g, g->t->f32, p->tile, i_mul(g, i_sub(g, room, ic(g, 1)), side));
}

V part_block_sums(Low *l, bool of_a, bool half)
{
    const char *name = of_a ? half ? "block_sums_a_pairs" : "block_sums_a" : half ? "block_sums_b_pairs" : "block_sums_b";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, t[] = {g->t->ptr, i, i, i};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    Panel p = panel_of(g, of_a, half);
    Loop tile;
    loop_begin(g, &tile, ic(g, 0), LLVMGetParam(fn, 2), 1, NULL, 0);
    panel_tile(&p, LLVMGetParam(fn, 0), LLVMGetParam(fn, 3), tile.i);
    for (int v = 0; v < p.strips; v++) {
        V part = ic(g, v * p.strip.width);
        store(g, strip_sum(&p.strip, gep(g, g->t->f32, p.tile, part), LLVMGetParam(fn, 1)), gep(g, g->t->f32, p.sums, part), 4);
    }
    loop_end(g, &tile, NULL);
    return aside_end(l, &aside, NULL);
}

V part_side_sum(Low *l, bool of_a)
{
    const char *name = of_a ? "sum_a" : "sum_b";
    V fn = part_helper(l->part, name);
    if (fn)
        return fn;
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, t[] = {g->t->ptr, i, i, g->t->ptr, i, i};
    aside_begin(l, &aside, name, g->t->none, t, (int)LEN(t));
    fn = g->fn;
    V sums = LLVMGetParam(fn, 3), at = LLVMGetParam(fn, 4), first = LLVMBuildICmp(g->b, LLVMIntEQ, LLVMGetParam(fn, 5), ic(g, 0), "");
    Panel p = panel_of(g, of_a, false);
    Ty strip = LLVMVectorType(g->t->f32, (unsigned)p.strip.width);
    Loop tile;
    loop_begin(g, &tile, ic(g, 0), LLVMGetParam(fn, 1), 1, NULL, 0);
    panel_tile(&p, LLVMGetParam(fn, 0), LLVMGetParam(fn, 2), tile.i);
    V to = gep(g, g->t->f32, sums, i_rem(g, i_add(g, at, i_mul(g, tile.i, ic(g, p.side))), ic(g, MB_MOST)));
    for (int v = 0; v < p.strips; v++) {
        V part = ic(g, v * p.strip.width), sum = gep(g, g->t->f32, to, part);
        add_exactly(g, load(g, strip, gep(g, g->t->f32, p.sums, part), 4), sum, gep(g, g->t->f32, sum, ic(g, MB_MOST)), first);
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
