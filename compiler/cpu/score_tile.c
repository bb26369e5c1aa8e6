/* score_tile.c -- see score.h: tiles of a SCORE kernel's products. They are short: heads are 64 wide, a few times the depth of
 * the machine's arithmetic, so what stands around a tile's loop counts. */
#include "cpu/score.h"

static int64_t up(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

Cut cut_columns(int64_t columns, int lanes)
{
    int64_t vectors = up(columns, lanes) / lanes, slices = (vectors + NV - 1) / NV;
    int64_t wide = slices ? (vectors + slices - 1) / slices : 1;
    return (Cut){slices, wide, vectors - slices * (wide - 1)};
}

int64_t cut_slice(int64_t terms, int lanes)
{
    return (up(terms, lanes) + 2 * lanes) * NV * lanes;        /* a transposing pack ends with a whole square */
}

static V vectors_before(Gen *g, V wide, V first, V slice)
{
    return i_sub(g, i_mul(g, slice, wide), i_max(g, i_sub(g, slice, first), ic(g, 0)));
}

static V vectors_in(Gen *g, V wide, V first, V slice)
{
    return select_(g, i_less(g, slice, first), wide, i_sub(g, wide, ic(g, 1)));
}

V cut_before(Gen *g, const Cut *c, V slice)
{
    return vectors_before(g, ic(g, c->wide), ic(g, c->first), slice);
}

V cut_width(Gen *g, const Cut *c, V slice)
{
    return vectors_in(g, ic(g, c->wide), ic(g, c->first), slice);
}

static V round_up(Gen *g, V n, int64_t to)             /* to: a power of two */
{
    return LLVMBuildAnd(g->b, i_add(g, n, ic(g, to - 1)), ic(g, -to), "");
}

V reach_columns(Gen *g, V row, V reach)
{
    int mr = tile_rows(g->t);
    V tile = LLVMBuildAnd(g->b, row, ic(g, -mr), "");
    return round_up(g, i_add(g, i_add(g, tile, ic(g, mr)), reach), mr);
}

/* One tile of MR rows and nv vectors: void (terms, rows, a, stride, b, c, cs, more, scale). Rows past `rows` are computed from
 * the last one again (by_rows) or from whatever lies there, and not stored. */
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
    V scale = LLVMGetParam(fn, 8), last = i_sub(g, rows, ic(g, 1)), row[8], to[8], carry[MAX_CARRY];
    for (int r = 0; r < mr; r++)
        row[r] = gep(g, f32, a, by_rows ? i_mul(g, i_min(g, ic(g, r), last), stride) : ic(g, r));
    for (int k = 0; k < n_acc; k++)
        carry[k] = fc(g, 0);
    V from = ic(g, 0), end = LLVMBuildAnd(g->b, len, ic(g, -4), "");
    for (int unroll = 4; unroll; unroll = unroll == 4 ? 1 : 0) {
        Loop loop;
        loop_begin(g, &loop, from, end, unroll, carry, n_acc);
        loop.aligned = unroll > 1;
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
        from = end;
        end = len;
    }
    Branch f;
    if_begin(g, &f, LLVMBuildFCmp(g->b, LLVMRealUNE, scale, LLVMConstReal(f32, 1), ""), carry, n_acc);
    for (int k = 0; k < n_acc; k++)
        carry[k] = f_mul(g, carry[k], splat(g, scale));
    if_end(g, &f, carry);
    for (int r = 0; r < mr; r++)
        to[r] = gep(g, f32, c, i_mul(g, i_min(g, ic(g, r), last), cs));
    if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntNE, more, ic(g, 0), ""), carry, n_acc);
    for (int k = 0; k < n_acc; k++)
        carry[k] = f_add(g, carry[k], load(g, g->t->vf, gep(g, f32, to[k / nv], ic(g, k % nv * w)), 4));
    if_end(g, &f, carry);
    for (int r = mr - 1; r >= 0; r--)                          /* the last row overwrites what was computed from it again */
        for (int v = 0; v < nv; v++)
            store(g, carry[r * nv + v], gep(g, f32, to[r], ic(g, v * w)), 4);
    return aside_end(l, &aside, NULL);
}

typedef struct Product {
    ScoreProduct kind;
    V tile[NV + 1], terms, rows, a, stride, slices, slice, wide, first, c, cs, more, scale, reach;
} Product;

/* The tile at a row and a slice. */
static void one_tile(Gen *g, const Product *p, V row, V slice)
{
    Ty f32 = g->t->f32;
    int w = g->t->lanes, mr = tile_rows(g->t), nr = tile_columns(g->t);
    V before = vectors_before(g, p->wide, p->first, slice), count = vectors_in(g, p->wide, p->first, slice), terms = p->terms;
    V reach = reach_columns(g, row, p->reach), b = gep(g, f32, p->slices, i_mul(g, slice, p->slice));
    V a = gep(g, f32, p->a, p->kind == ALONG_M ? row : i_mul(g, row, p->stride));
    if (p->kind == SCORES) {
        count = i_min(g, count, i_sub(g, i_div(g, round_up(g, reach, w), ic(g, w)), before));
    } else if (p->kind == ALONG_N) {
        terms = i_min(g, terms, reach);
    } else {
        V none = LLVMBuildAnd(g->b, i_max(g, i_sub(g, row, p->reach), ic(g, 0)), ic(g, -mr), "");
        none = i_min(g, none, terms);
        terms = i_sub(g, terms, none);
        a = gep(g, f32, a, i_mul(g, none, p->stride));
        b = gep(g, f32, b, i_mul(g, none, ic(g, nr)));
    }
    V c = gep(g, f32, gep(g, f32, p->c, i_mul(g, row, p->cs)), i_mul(g, before, ic(g, w)));
    V arg[] = {terms, i_min(g, i_sub(g, p->rows, row), ic(g, mr)), a, p->stride, b, c, p->cs, p->more, p->scale};
    for (int nv = NV; nv; nv--) {
        Branch f;
        if_begin(g, &f, LLVMBuildICmp(g->b, LLVMIntEQ, count, ic(g, nv), ""), NULL, 0);
        call(g, p->tile[nv], arg, (int)LEN(arg));
        if_end(g, &f, NULL);
    }
}

/* A slice stays in the first-level cache while tiles of rows pass, except where all slices do and a tile of a does too. */
V part_score_product(Low *l, ScoreProduct kind)
{
    static const char *const names[] = {"score_product", "score_product_along_n", "score_product_along_m"};
    V fn = part_helper(l->part, names[kind]);
    if (fn)
        return fn;
    Product x = {.kind = kind};
    for (int nv = 1; nv <= NV; nv++)
        x.tile[nv] = tile_product(l, kind != ALONG_M, nv);
    Gen *g = l->g;
    Aside aside;
    Ty i = g->t->i64, p = g->t->ptr, t[] = {i, i, p, i, p, i, i, i, i, p, i, i, g->t->f32, i};
    aside_begin(l, &aside, names[kind], g->t->none, t, (int)LEN(t));
    fn = g->fn;
    V n = LLVMGetParam(fn, 6), *to[] = {&x.terms, &x.rows, &x.a, &x.stride, &x.slices, &x.slice, &n, &x.wide, &x.first, &x.c, &x.cs,
                                        &x.more, &x.scale, &x.reach};
    for (int k = 0; k < (int)LEN(to); k++)
        *to[k] = LLVMGetParam(fn, (unsigned)k);
    Loop r, s;
    if (kind == ALONG_M)
        loop_begin(g, &r, ic(g, 0), x.rows, tile_rows(g->t), NULL, 0);
    loop_begin(g, &s, ic(g, 0), n, 1, NULL, 0);
    if (kind != ALONG_M)
        loop_begin(g, &r, ic(g, 0), x.rows, tile_rows(g->t), NULL, 0);
    one_tile(g, &x, r.i, s.i);
    loop_end(g, kind == ALONG_M ? &s : &r, NULL);
    loop_end(g, kind == ALONG_M ? &r : &s, NULL);
    return aside_end(l, &aside, NULL);
}
