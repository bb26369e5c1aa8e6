/* sides.c -- what is a contraction, and how every one becomes constant * load * load.
 *
 * A sum of a product splits into two sides when its factors can be dealt to A and B so that
 *
 *     M = free axes of A alone    N = free axes of B alone    K = reduced axes, all in both    batch = free, in both
 *
 * and M and N have more than one point. The split with the fewest batch axes is taken. What stands in the way of a
 * plain pair of loads is moved out, each into a Comp of its own:
 *
 *     out[m, n] = sum[k](s * f[m] * a[m, k] * exp(b[k, n]))
 *
 *     B[k, n]   = exp(b[k, n])                       a side that is no plain load becomes a tensor
 *     t[m, n]   = sum[k](a[m, k] * B[k, n])
 *     out[m, n] = s * f[m] * t[m, n]                 factors without a reduced axis are an epilogue
 *
 * A reduced axis that only one side has is summed there first. A guard, where(g, product, 0), goes to a side that
 * knows its axes, and to every side with a load that only the guard keeps in range. */
#include "pass/pass.h"
#include <stdio.h>

static bool may_leave(const Graph *g, const Expr *load, const Ext *ext)
{
    for (int d = 0; d < load->n; d++) {
        Ext n = g->tensor[load->tensor].shape[d];
        for (int64_t batch = 1; batch <= 1 << 20; batch <<= 20) {
            int64_t lo, hi;
            bool known = aff_range(load->idx[d], ext, batch, &lo, &hi);
            if (!known || lo < 0 || hi >= (n == EXT_BATCH ? batch : n))
                return true;
        }
    }
    return false;
}

/* Might a load of e be out of range without a guard? */
static bool needs_guard(const Graph *g, const Expr *e, const Ext *ext)
{
    enum { CAP = 64 };
    const Expr *load[CAP];
    int n = expr_loads(e, load, CAP);
    bool needs = n > CAP;
    for (int i = 0; i < n && !needs; i++)
        needs = may_leave(g, load[i], ext);
    return needs;
}

static bool plain_side(const Graph *g, const Expr *e)
{
    if (e->kind != E_LOAD || !dtype_real(g->tensor[e->tensor].dtype))
        return false;
    for (int d = 0; d < e->n; d++)
        if (aff_has_atoms(e->idx[d]))
            return false;
    return true;
}

/* The free axis that varies fastest in memory among those in `of`, or -1. */
static int fastest(const Graph *g, const Comp *c, uint32_t of)
{
    for (int d = g->tensor[c->out].rank - 1; d >= 0; d--) {
        int order[MAX_AXES], n = store_radix(c->store[d], c->ext, order, NULL);
        for (int i = 0; i < n; i++)
            if (of >> order[i] & 1)
                return order[i];
    }
    return -1;
}

static bool roles(const Comp *c, uint32_t a, uint32_t b, Sides *s)
{
    uint32_t free = free_axes(c);
    s->batch = a & b & free;
    s->m = a & ~b & free;
    s->n = b & ~a & free;
    s->k = a & b & c->red;
    return s->k && points(c->ext, s->m, TYPICAL_BATCH) > 1 && points(c->ext, s->n, TYPICAL_BATCH) > 1;
}

bool comp_pair(Graph *g, const Comp *c, Sides *s)
{
    Product p;
    *s = (Sides){ 0 };
    if ((c->reducer != RED_SUM && c->reducer != RED_NONE) || !dtype_real(g->tensor[c->out].dtype) || !product_of(g, c->body, &p) || p.n != 2 ||
        p.n_guard || !plain_side(g, p.factor[0]) || !plain_side(g, p.factor[1]))
        return false;
    s->a = p.factor[0];
    s->b = p.factor[1];
    s->scale = p.scale;
    return true;
}

static bool has_all_axes(const Comp *c, const Sides *s)
{
    return !(free_axes(c) & ~(s->a->axes | s->b->axes));
}

/* Names the sides of a pair the other way round. */
static void turn_sides(Sides *s)
{
    const Expr *a = s->a;
    uint32_t m = s->m;
    s->a = s->b;
    s->b = a;
    s->m = s->n;
    s->n = m;
}

bool comp_sides(Graph *g, const Comp *c, Sides *s)
{
    if (c->reducer != RED_SUM || !comp_pair(g, c, s) || !roles(c, s->a->axes, s->b->axes, s) || s->k != c->red || !has_all_axes(c, s))
        return false;
    int f = fastest(g, c, s->m | s->n);
    if (f >= 0 && s->m >> f & 1)                               /* N holds the fastest axis of the result */
        turn_sides(s);
    return true;
}

bool comp_row(Graph *g, const Comp *c, Sides *s)
{
    if (!comp_pair(g, c, s) || roles(c, s->a->axes, s->b->axes, s) || s->k != c->red || !has_all_axes(c, s))
        return false;
    bool batch = false;
    for (int i = 0; i < c->n_axes; i++)
        batch |= s->batch >> i & 1 && c->ext[i] == EXT_BATCH;
    if (points(c->ext, s->n, TYPICAL_BATCH) < points(c->ext, s->m, TYPICAL_BATCH))
        turn_sides(s);
    return batch && points(c->ext, s->n, TYPICAL_BATCH) > 1 && (points(c->ext, s->m, TYPICAL_BATCH) > 1) == (c->reducer == RED_NONE);
}

/* ---- making one */

typedef struct {
    Graph *g;
    Comp *c;
    Product in;                                                /* factors that hold a reduced axis, and guards */
    uint32_t axis_of[2];                                       /* of the chosen sides */
    uint32_t side;                                             /* bit i: factor i is in side B */
} Split;

static const Expr *side_product(const Split *s, int side)
{
    const Expr *f[MAX_FACTORS];
    int n = 0;
    for (int i = 0; i < s->in.n; i++)
        if ((int)(s->side >> i & 1) == side)
            f[n++] = s->in.factor[i];
    return product_expr(s->g, 1, f, n);
}

/* Guards by side: bit i of at[side]. False when a side needs one whose axes it has not got. */
static bool deal_guards(const Split *s, const uint32_t axes[2], uint32_t at[2])
{
    bool need[2];
    for (int side = 0; side < 2; side++) {
        at[side] = 0;
        need[side] = s->in.n_guard && needs_guard(s->g, side_product(s, side), s->c->ext);
    }
    for (int i = 0; i < s->in.n_guard; i++) {
        bool placed = false;
        for (int side = 0; side < 2; side++) {
            bool fits = !(s->in.guard[i]->axes & ~axes[side]);
            if (need[side] && !fits)
                return false;
            if (need[side]) {
                at[side] |= 1u << i;
                placed = true;
            }
        }
        for (int side = 0; side < 2 && !placed; side++)
            if (!(s->in.guard[i]->axes & ~axes[side])) {
                at[side] |= 1u << i;
                placed = true;
            }
        if (!placed)
            return false;
    }
    return true;
}

static bool side_is_load(const Split *s, int side, uint32_t guards, uint32_t other)
{
    const Expr *e = side_product(s, side);
    return !guards && plain_side(s->g, e) && !(e->axes & s->c->red & ~other);
}

/* The best way to deal the factors; false: there is none. */
static bool choose(Split *s)
{
    const Comp *c = s->c;
    double best = -1;
    uint32_t best_side = 0;
    if (s->in.n < 2 || s->in.n > 8)
        return false;
    for (uint32_t bits = 1; bits < 1u << (s->in.n - 1); bits++) {
        uint32_t axes[2] = { 0, 0 }, at[2];
        Sides r;
        for (int i = 0; i < s->in.n; i++)
            axes[bits >> i & 1] |= s->in.factor[i]->axes;
        s->side = bits;
        if (!roles(c, axes[0], axes[1], &r) || !deal_guards(s, axes, at))
            continue;
        double cost = 0;
        for (int side = 0; side < 2; side++)
            if (!side_is_load(s, side, at[side], axes[!side]))
                cost += points(c->ext, axes[side], TYPICAL_BATCH);
        cost = cost / 1e18 + __builtin_popcount(r.batch) * 4;  /* the number of batch axes counts first */
        if (best < 0 || cost < best) {
            best = cost;
            best_side = bits;
            s->axis_of[0] = axes[0];
            s->axis_of[1] = axes[1];
        }
    }
    s->side = best_side;
    return best >= 0;
}

/* Axes of `of` in memory order of the load of e that has the most of them; the others stand outside. */
static int memory_order(const Expr *e, uint32_t of, int *out)
{
    enum { CAP = 64 };
    const Expr *load[CAP], *best = NULL;
    int n_load = expr_loads(e, load, CAP), n = 0, inner[MAX_AXES], n_inner = 0;
    for (int i = 0; i < n_load && i < CAP; i++)
        if (!best || __builtin_popcount(load[i]->axes & of) > __builtin_popcount(best->axes & of))
            best = load[i];
    uint32_t seen = 0;
    for (int d = 0; best && d < best->n; d++) {
        int axis[MAX_AXES], m = aff_order(best->idx[d], axis); /* the largest coefficient is outermost */
        for (int i = 0; i < m; i++) {
            if (of >> axis[i] & 1 & ~(seen >> axis[i]))
                inner[n_inner++] = axis[i];
            seen |= 1u << axis[i];
        }
    }
    for (int k = 0; k < MAX_AXES; k++)
        if (of >> k & 1 & ~(seen >> k))
            out[n++] = k;
    for (int i = 0; i < n_inner; i++)
        out[n++] = inner[i];
    return n;
}

/* A new tensor over `axes` (in this order) of the Comp c, defined by reducer over `red` of body; returns a load of it
 * at c's axes. */
static const Expr *new_tensor(Graph *g, const Comp *c, const char *suffix, const int *axes, int n, uint32_t red,
                              const Expr *body)
{
    Ext shape[MAX_RANK], ext[MAX_AXES];
    const Affine *map[MAX_AXES] = { NULL }, *store[MAX_RANK] = { NULL }, *idx[MAX_RANK] = { NULL };
    int n_axes = 0;
    for (int i = 0; i < n; i++) {
        map[axes[i]] = store[i] = aff_axis(g, n_axes);
        idx[i] = aff_axis(g, axes[i]);
        shape[i] = ext[n_axes++] = c->ext[axes[i]];
    }
    uint32_t own_red = 0;
    for (int k = 0; k < c->n_axes; k++)
        if (red >> k & 1) {
            map[k] = aff_axis(g, n_axes);
            own_red |= 1u << n_axes;
            ext[n_axes++] = c->ext[k];
        }
    char name[256];
    snprintf(name, sizeof name, "%.200s.%s", g->tensor[c->out].name, suffix);
    int t = graph_tensor(g, name, n, shape, T_TEMP, DT_F32);
    g->tensor[t].span = c->span;
    graph_comp(g, t, n_axes, ext, own_red, red ? RED_SUM : RED_NONE, expr_subst(g, body, map, c->n_axes), store, c->span, c->tag);
    return expr_load(g, t, idx);
}

/* e where all those guards hold that the bits name, else 0 */
static const Expr *guarded(Graph *g, const Expr *const *guard, int n, uint32_t bits, const Expr *e)
{
    for (int i = 0; i < n; i++)
        if (bits >> i & 1)
            e = expr_op(g, OP_WHERE, guard[i], e, expr_const(g, 0));
    return e;
}

/* A side as a load: of a new tensor, unless it is one already. What is reduced and of this side alone is summed there. NULL: the
 * tensor would have too many dimensions. */
static const Expr *side_load(const Split *s, int side, uint32_t guards)
{
    const Expr *e = side_product(s, side);
    uint32_t own = s->axis_of[side] & s->c->red & ~s->axis_of[!side];
    int order[MAX_AXES];
    if (side_is_load(s, side, guards, s->axis_of[!side]))
        return e;
    e = guarded(s->g, s->in.guard, s->in.n_guard, guards, e);
    int n = memory_order(e, s->axis_of[side] & ~own, order);
    return n > MAX_RANK ? NULL : new_tensor(s->g, s->c, side ? "b" : "a", order, n, own, e);
}

/* Rewrites one sum; true when something changed. */
static bool split_comp(Graph *g, Comp *c)
{
    Sides already;
    Product all;
    if (c->reducer != RED_SUM || !dtype_real(g->tensor[c->out].dtype) || comp_sides(g, c, &already) || !product_of(g, c->body, &all))
        return false;
    Split s = { .g = g, .c = c, .in = { .scale = all.scale } };
    const Expr *epilogue[MAX_FACTORS + 1], *guard[MAX_FACTORS];
    int n_epilogue = 0, n_guard = 0, axes[MAX_AXES], n;
    uint32_t used = 0;
    for (int i = 0; i < all.n; i++) {
        if (all.factor[i]->axes & c->red)
            s.in.factor[s.in.n++] = all.factor[i];
        else
            epilogue[n_epilogue++] = all.factor[i];
    }
    const Expr *inner = product_expr(g, 1, s.in.factor, s.in.n);
    bool needs = all.n_guard && needs_guard(g, inner, c->ext);
    for (int i = 0; i < all.n_guard; i++) {
        if (!needs && !(all.guard[i]->axes & c->red))
            guard[n_guard++] = all.guard[i];
        else
            s.in.guard[s.in.n_guard++] = all.guard[i];
    }
    for (int i = 0; i < s.in.n_guard; i++)
        used |= s.in.guard[i]->axes;
    used = (used | inner->axes) & free_axes(c);
    bool contracts = choose(&s), outside = n_epilogue || n_guard || used != free_axes(c);
    if (!contracts && !(outside && points(c->ext, used, TYPICAL_BATCH) < points(c->ext, free_axes(c), TYPICAL_BATCH)))
        return false;
    if ((c->red & ~inner->axes) || (n = store_order(g, c, used, axes)) > MAX_RANK)
        return false;

    const Expr *body;
    if (contracts) {
        const Expr *side[2];
        uint32_t at[2];
        deal_guards(&s, s.axis_of, at);
        for (int i = 0; i < 2; i++)
            if (!(side[i] = side_load(&s, i, at[i])))
                return false;
        body = product_expr(g, all.scale, side, 2);
    } else {
        body = expr_op(g, OP_MUL, inner, expr_const(g, all.scale), NULL);
        body = guarded(g, s.in.guard, s.in.n_guard, ~0u, body);
    }
    if (!outside) {
        comp_replace_body(g, c, body);                         /* axes of one side alone have been summed there */
        return true;
    }
    const Expr *sum = new_tensor(g, c, "sum", axes, n, body->axes & c->red, body);
    epilogue[n_epilogue++] = sum;
    body = product_expr(g, 1, epilogue, n_epilogue);
    comp_replace_body(g, c, guarded(g, guard, n_guard, ~0u, body));
    return true;
}

int pass_sides(Graph *g)
{
    int n = 0, n_comp = g->n_comp;
    for (int i = 0; i < n_comp; i++)                           /* what is appended needs no second look */
        n += split_comp(g, g->comp[i]);
    if (n)
        graph_toposort(g);
    return n;
}
