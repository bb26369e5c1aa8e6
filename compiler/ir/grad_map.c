/* grad_map.c -- from shares to equations: T[L(x)] += e(x), added up for every use of T.
 *
 * Each share takes the first form that fits:
 *
 *   store    L's image is a dense box inside T: the equation stores through L; axes that are not in L are summed
 *   gather   L is solved for its axes: the equation runs over T's own axes t, reads e at x(t), and is 0 where no x
 *            exists. Axes that cannot be solved (overlapping windows, mixed signs) stay and are summed.
 *   scatter  L depends on data and nothing else pins it: one scatter over all points
 *
 * An axis that e does not use is not summed but becomes a factor, its extent. A share that needs no sum stays an
 * expression; others get a tensor of their own. Where one such expression covers all of T and only one other share does
 * not, one equation does: this one is added where it is. Else T is cut into cells on which the set of boxes that cover it is constant (thirds of one
 * projection, pieces), as few as there can be, and each cell is one equation: the sum of what covers it. A guard that a cell
 * decides is gone.
 *
 * New axes are numbered as follows until grad_emit closes the gaps: 0 .. rank-1 are T's dimensions, rank + j is the
 * axis j of the share; at most 24. */
#include "ir/grad.h"
#include <string.h>

enum { WIDE = MAX_RANK + MAX_AXES };

static const int64_t HUGE_BATCH = (int64_t)1 << 40;            /* in between 1 and this, ranges are monotone */

int grad_tensor(Grad *d, const char *suffix, int of, int rank, const Ext *shape, DType dtype)
{
    const char *name = arena_printf(&d->scratch, "d_%s%s", d->g->tensor[of].name, suffix);
    int t = graph_tensor(d->g, name, rank, shape, T_TEMP, dtype);
    d->g->tensor[t].span = d->g->tensor[of].span;
    return t;
}

bool grad_emit(Grad *d, int out, uint32_t axes, const Ext *ext, uint32_t red, Reducer r, const Expr *body,
               const Affine *const *store, const Comp *from)
{
    Graph *g = d->g;
    const Affine *number[WIDE] = {0}, *own_store[MAX_RANK];
    Ext own_ext[MAX_AXES];
    uint32_t own_red = 0;
    int n = 0;
    for (int k = 0; k < WIDE; k++) {
        if (!(axes >> k & 1))
            continue;
        if (n == MAX_AXES) {
            text_printf(d->why, "a gradient needs more than 16 axes");
            if (from) {
                text_printf(d->why, ": ");
                comp_print(g, from, d->why);
            }
            return false;
        }
        own_red |= (red >> k & 1) << n;
        own_ext[n] = ext[k];
        number[k] = aff_axis(g, n++);
    }
    for (int i = 0; i < g->tensor[out].rank; i++)
        own_store[i] = aff_subst(g, store[i], number, WIDE);
    const char *tag = from && *from->tag ? arena_printf(&d->scratch, "%s'", from->tag) : "";
    graph_comp(g, out, n, own_ext, own_red, r, expr_subst(g, body, number, WIDE), own_store,
               from ? from->span : (Span){0}, tag);
    return true;
}

/* ---- gather form */

typedef struct Inverse {
    const Affine *at[MAX_AXES];          /* every axis of the share over the new axes: solved, or itself */
    uint32_t solved, summed;             /* axes of the share */
    Ext ext[WIDE];                       /* of the new axes */
    const Expr *guard;                   /* NULL: holds everywhere */
    const Expr *read;                    /* the conditions that load something, which they may do where `guard` holds; or NULL */
} Inverse;

static void add_guard(Graph *g, Inverse *v, const Expr *condition)
{
    double holds;
    if (expr_is_const(condition, &holds) && holds != 0)
        return;
    const Expr **to = expr_has_load(condition) ? &v->read : &v->guard;
    *to = *to ? expr_op(g, OP_AND, *to, condition, NULL) : condition;
}

static void guard_zero(Graph *g, Inverse *v, const Affine *a)
{
    add_guard(g, v, expr_op(g, OP_EQ, expr_index(g, a), expr_const(g, 0), NULL));
}

/* 0 <= a < n, as far as it does not hold anyway */
static void guard_range(Graph *g, Inverse *v, const Affine *a, Ext n)
{
    int64_t lo, hi;
    bool least = true, most = true;
    for (int i = 0; i < 2; i++) {
        int64_t batch = i ? HUGE_BATCH : 1;
        bool known = aff_range(a, v->ext, batch, &lo, &hi);
        least &= known && lo >= 0;
        most &= known && hi < (n == EXT_BATCH ? batch : n);
    }
    if (n == 1 && !(least && most)) {
        guard_zero(g, v, a);
        return;
    }
    if (!least)
        add_guard(g, v, expr_op(g, OP_GE, expr_index(g, a), expr_const(g, 0), NULL));
    if (!most)
        add_guard(g, v, expr_op(g, OP_LT, expr_index(g, a), expr_extent(g, n), NULL));
}

/* What an index map loads may be there for some points alone, where the share had a guard of its own: the points where it is. */
static void guard_loads(Graph *g, Inverse *v, const Affine *a)
{
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        if (t->kind == AT_DIV || t->kind == AT_MOD)
            guard_loads(g, v, t->arg);
        for (int k = 0; t->kind == AT_LOAD && k < t->load->n; k++) {
            guard_loads(g, v, t->load->idx[k]);
            if (!expr_has_load(expr_index(g, t->load->idx[k])))
                guard_range(g, v, t->load->idx[k], g->tensor[t->load->tensor].shape[k]);
        }
    }
}

/* How many values the low part of a sum of terms takes, from 0; with positive coefficients. -1: not known */
static int64_t span_of(const Term *low, int n, const Ext *ext)
{
    int64_t span = 1;
    for (int i = 0; i < n; i++) {
        Ext e = ext[low[i].axis];
        if (e == EXT_BATCH)
            return -1;
        span = sat_add(span, sat_mul(low[i].coef, e > 0 ? e - 1 : 0));
    }
    return span;
}

static int64_t size_of(int64_t coef)
{
    return coef == INT64_MIN ? INT64_MAX : coef < 0 ? -coef : coef;
}

/* Terms of unsolved axes, the largest coefficient first; takes the others, now known, off *rest. False: an atom
 * depends on an axis that is not known. */
static bool split_terms(Graph *g, const Affine *map, Inverse *v, const Affine **rest, Term *unsolved, int *n)
{
    *n = 0;
    for (int i = 0; i < map->n; i++) {
        const Term *t = &map->term[i];
        uint32_t known = v->solved | v->summed;
        const Affine *alone = aff_only(g, t);
        if (!(aff_axes(alone) & ~known)) {
            *rest = aff_add(g, *rest, aff_scale(g, aff_subst(g, alone, v->at, MAX_AXES), -1));
            continue;
        }
        if (t->kind != AT_AXIS)
            return false;
        int k = (*n)++;
        while (k > 0 && size_of(unsolved[k - 1].coef) < size_of(t->coef)) {
            unsolved[k] = unsolved[k - 1];
            k--;
        }
        unsolved[k] = *t;
    }
    return true;
}

static void sum_over(Graph *g, Inverse *v, const Affine **rest, const Term *low, int n)
{
    for (int i = 0; i < n; i++) {
        v->summed |= 1u << low[i].axis;
        *rest = aff_add(g, *rest, aff_scale(g, v->at[low[i].axis], -low[i].coef));
    }
}

/* Solves t = map for its unsolved axes:
 *
 *     c*a + low = rest,  low fits under c     a = rest div c, go on with  low = rest mod c
 *     otherwise                               low is summed,  a = (rest - low) div c  where that is exact
 *
 * and every a has to lie in its extent. Nothing left to solve: a condition on t. */
static bool solve(Graph *g, Inverse *v, int dim, const Affine *map, const Ext *ext)
{
    Term todo[MAX_AXES];
    int n, at = 0;
    bool mixed = false;
    const Affine *rest = aff_term(g, dim, 1, -map->c);
    if (!split_terms(g, map, v, &rest, todo, &n))
        return false;
    if (n == 0)
        guard_zero(g, v, rest);
    for (int i = 0; i < n; i++)
        mixed |= todo[i].coef < 0;
    while (at < n) {
        Term top = todo[at++];
        int64_t span = span_of(&todo[at], n - at, ext);
        bool splits = !mixed && at < n && span >= 0 && span <= top.coef;
        if (!splits) {
            sum_over(g, v, &rest, &todo[at], n - at);
            at = n;
            if (top.coef < 0) {
                rest = aff_scale(g, rest, -1);
                top.coef = size_of(top.coef);
            }
            guard_zero(g, v, aff_mod(g, rest, top.coef));
        }
        v->at[top.axis] = aff_div(g, rest, top.coef);
        v->solved |= 1u << top.axis;
        guard_range(g, v, v->at[top.axis], ext[top.axis]);
        if (splits)
            rest = aff_mod(g, rest, top.coef);
    }
    return true;
}

/* Dimensions with the fewest unknowns first, those that hold atoms last. */
static int difficulty(const Affine *map)
{
    return map->n + (aff_has_atoms(map) ? 1000 : 0);
}

static bool invert(Graph *g, const Affine *const *map, int rank, const Ext *shape, const Ext *ext, Inverse *v)
{
    int order[MAX_RANK];
    memset(v, 0, sizeof *v);
    for (int j = 0; j < MAX_AXES; j++) {
        v->at[j] = aff_axis(g, rank + j);
        v->ext[rank + j] = ext[j];
    }
    for (int i = 0; i < rank; i++) {
        v->ext[i] = shape[i];
        int k = i;
        while (k > 0 && difficulty(map[order[k - 1]]) > difficulty(map[i])) {
            order[k] = order[k - 1];
            k--;
        }
        order[k] = i;
    }
    for (int i = 0; i < rank; i++)
        if (!solve(g, v, order[i], map[order[i]], ext))
            return false;
    for (int i = 0; i < rank; i++)
        guard_loads(g, v, aff_subst(g, map[i], v->at, MAX_AXES));
    return true;
}

/* ---- one share */

typedef struct Item {
    uint32_t axes, red;                  /* of the new equation, new numbers */
    Ext ext[WIDE];
    const Expr *e;
    const Affine *map[MAX_RANK];         /* where it stores in T */
    Box box[MAX_RANK];
    bool scatter;
    const Comp *from;
} Item;

static bool inside(const Box *box, int rank, const Ext *shape)
{
    for (int i = 0; i < rank; i++) {
        bool fits = shape[i] == EXT_BATCH ? box[i].n == EXT_BATCH && box[i].lo == 0
                                          : box[i].n != EXT_BATCH && box[i].lo >= 0 &&
                                                sat_add(box[i].lo, box[i].n) <= shape[i];
        if (!fits)
            return false;
    }
    return true;
}

static const Expr *times(Graph *g, const Expr *e, Ext n)
{
    return expr_op(g, OP_MUL, e, expr_extent(g, n), NULL);
}

/* Sums over axes that e does not use are products with their extents. */
static void drop_unused(Graph *g, Item *it)
{
    for (int k = 0; k < WIDE; k++) {
        if (!((it->red & ~it->e->axes) >> k & 1))
            continue;
        it->e = times(g, it->e, it->ext[k]);
        it->red &= ~(1u << k);
        it->axes &= ~(1u << k);
    }
}

static uint32_t axes_of_maps(const Affine *const *map, int rank)
{
    uint32_t axes = 0;
    for (int i = 0; i < rank; i++)
        axes |= aff_axes(map[i]);
    return axes;
}

/* Sums out what the maps do not use, into a tensor over the axes they use: before a map is inverted or scattered. */
static bool sum_first(Grad *d, int tensor, Item *it)
{
    int rank = 0, n = __builtin_popcount(it->axes & ~it->red);
    Ext shape[MAX_RANK];
    const Affine *at[MAX_RANK];
    drop_unused(d->g, it);
    if (!it->red || n > MAX_RANK)                              /* more dimensions than a tensor has: summed later */
        return true;
    for (int k = 0; k < WIDE; k++) {
        if (!((it->axes & ~it->red) >> k & 1))
            continue;
        shape[rank] = it->ext[k];
        at[rank++] = aff_axis(d->g, k);
    }
    int t = grad_tensor(d, ".sum", tensor, rank, shape, DT_F32);
    if (!grad_emit(d, t, it->axes, it->ext, it->red, RED_SUM, it->e, at, it->from))
        return false;
    it->e = expr_load(d->g, t, at);
    it->axes &= ~it->red;
    it->red = 0;
    return true;
}

static void to_gather(Graph *g, Item *it, const Inverse *v, int rank, const Ext *shape)
{
    const Expr *e = expr_subst(g, it->e, v->at, MAX_AXES);
    if (v->read)
        e = expr_op(g, OP_WHERE, v->read, e, expr_const(g, 0));
    it->e = v->guard ? expr_op(g, OP_WHERE, v->guard, e, expr_const(g, 0)) : e;
    it->red = (it->axes & ~v->solved) << rank;
    it->axes = it->red | ((1u << rank) - 1);
    memcpy(it->ext, v->ext, sizeof it->ext);
    for (int i = 0; i < rank; i++) {
        it->map[i] = aff_axis(g, i);
        it->box[i] = (Box){ 0, shape[i] };
    }
}

/* A scatter has no guard beside its value: an index that reads what is not there for all points becomes a tensor. */
static bool safe_index(Grad *d, int tensor, Item *it, const Affine **map)
{
    Graph *g = d->g;
    Inverse v = { .guard = NULL };
    Ext shape[MAX_RANK];
    const Affine *at[MAX_RANK];
    int rank = 0;
    memcpy(v.ext, it->ext, sizeof v.ext);
    guard_loads(g, &v, *map);
    if (!v.guard)
        return true;
    for (int k = 0; k < WIDE; k++) {
        if (!(aff_axes(*map) >> k & 1))
            continue;
        if (rank == MAX_RANK) {
            text_printf(d->why, "a gradient is scattered by an index of more than %d axes", MAX_RANK);
            return false;
        }
        shape[rank] = it->ext[k];
        at[rank++] = aff_axis(g, k);
    }
    int t = grad_tensor(d, ".at", tensor, rank, shape, DT_I32);
    const Expr *index = expr_op(g, OP_WHERE, v.guard, expr_index(g, *map), expr_const(g, 0));
    if (!grad_emit(d, t, aff_axes(*map), it->ext, 0, RED_NONE, index, at, it->from))
        return false;
    *map = aff_load(g, expr_load(g, t, at));
    return true;
}

static bool make_item(Grad *d, int tensor, const Share *s, Item *it)
{
    Graph *g = d->g;
    int rank = g->tensor[tensor].rank;
    Ext shape[MAX_RANK];
    Inverse v;
    memcpy(shape, g->tensor[tensor].shape, sizeof shape);
    *it = (Item){ .axes = (1u << s->from->n_axes) - 1, .e = s->e, .from = s->from };
    memcpy(it->ext, s->from->ext, sizeof s->from->ext);
    for (int i = 0; i < rank; i++)
        it->map[i] = s->load->idx[i];
    it->red = it->axes & ~axes_of_maps(it->map, rank);
    if (store_box(it->map, rank, it->ext, it->box) && inside(it->box, rank, shape)) {
        drop_unused(g, it);
        return true;
    }
    if (!sum_first(d, tensor, it))
        return false;
    if (invert(g, it->map, rank, shape, it->ext, &v)) {
        to_gather(g, it, &v, rank, shape);
        drop_unused(g, it);
        return true;
    }
    it->scatter = true;
    it->red = 0;
    for (int i = 0; i < rank; i++) {
        it->box[i] = (Box){ 0, shape[i] };
        if (!safe_index(d, tensor, it, &it->map[i]))
            return false;
    }
    return true;
}

static bool emit_item(Grad *d, const Item *it, int out, const int64_t *shift)
{
    const Affine *store[MAX_RANK];
    for (int i = 0; i < d->g->tensor[out].rank; i++)
        store[i] = aff_add(d->g, it->map[i], aff_const(d->g, -shift[i]));
    Reducer r = it->scatter ? RED_SCATTER : it->red ? RED_SUM : RED_NONE;
    return grad_emit(d, out, it->axes, it->ext, it->red, r, it->e, store, it->from);
}

/* ---- adding up */

static bool is_whole(const Item *it, int rank, const Ext *shape)
{
    for (int i = 0; i < rank; i++)
        if (it->box[i].lo != 0 || it->box[i].n != shape[i])
            return false;
    return true;
}

/* Every dimension one axis plus a constant, or a constant: the equation can be read at any point of T. (The image is a box, so an axis
 * has the step 1 or one point.) */
static bool is_map(const Item *it, int rank)
{
    if (it->scatter || it->red)
        return false;
    for (int i = 0; i < rank; i++)
        if (it->map[i]->n > 1)
            return false;
    return true;
}

/* The value of an item at T's point (axis i + lo_i) of a cell. part: the tensor that holds it, -1 for an expression. */
static const Expr *value_in(Graph *g, const Item *it, int part, int rank, const Box *cell)
{
    const Affine *at[MAX_RANK], *axis[WIDE] = {0};
    for (int i = 0; i < rank; i++) {
        at[i] = aff_term(g, i, 1, cell[i].lo - it->box[i].lo);
        if (it->map[i]->n)
            axis[it->map[i]->term[0].axis] = at[i];
    }
    return part >= 0 ? expr_load(g, part, at) : expr_subst(g, it->e, axis, WIDE);
}

static bool covers(const Item *it, const Box *cell, int rank)
{
    for (int i = 0; i < rank; i++) {
        const Box *b = &it->box[i];
        if (cell[i].n != EXT_BATCH && (cell[i].lo < b->lo || cell[i].lo + cell[i].n > b->lo + b->n))
            return false;
    }
    return true;
}

/* Comparisons of indices that hold at all points, or at none. */
static const Expr *decided(Graph *g, Memo *done, const Expr *e, const Ext *ext)
{
    const Expr *arg[3] = { NULL, NULL, NULL }, *new = memo_get(done, e);
    if (e->kind != E_OP || new)
        return e->kind == E_OP ? new : e;
    for (int i = 0; i < e->n; i++)
        arg[i] = decided(g, done, e->arg[i], ext);
    bool compares = e->op == OP_GE || e->op == OP_LT || e->op == OP_EQ;
    double limit;
    if (compares && arg[0]->kind == E_INDEX && expr_is_const(arg[1], &limit)) {
        int64_t lo, hi, far_lo, far_hi;
        bool known = aff_range(arg[0]->aff, ext, 1, &lo, &hi) && aff_range(arg[0]->aff, ext, HUGE_BATCH, &far_lo, &far_hi);
        double least = (double)(lo < far_lo ? lo : far_lo), most = (double)(hi > far_hi ? hi : far_hi);
        bool always = e->op == OP_GE ? least >= limit : e->op == OP_LT ? most < limit : least == limit && most == limit;
        bool never = e->op == OP_GE ? most < limit : e->op == OP_LT ? least >= limit : most < limit || least > limit;
        if (known && (always || never))
            new = expr_const(g, always);
    }
    new = new ? new : expr_op(g, e->op, arg[0], arg[1], arg[2]);
    memo_put(done, e, new);
    return new;
}

/* An item's value at T's point (axis i), 0 where the item is not. */
static const Expr *guarded(Graph *g, const Item *it, int part, int rank, const Box *whole)
{
    Inverse v = { .guard = NULL };
    for (int i = 0; i < rank; i++)
        v.ext[i] = whole[i].n;
    for (int i = 0; i < rank; i++)
        if (it->box[i].n != EXT_BATCH)
            guard_range(g, &v, aff_term(g, i, 1, -it->box[i].lo), it->box[i].n);
    const Expr *e = value_in(g, it, part, rank, whole);
    return v.guard ? expr_op(g, OP_WHERE, v.guard, e, expr_const(g, 0)) : e;
}

/* The cuts of dimension `dim`: where a box begins or ends. Returns how many intervals; at least one. */
static int cut(Grad *d, const Item *it, int n, int dim, Ext extent, Box **out)
{
    int64_t *at = NEWN(&d->scratch, int64_t, 2 * n + 2);
    int n_at = 0;
    Box *cell = *out = NEWN(&d->scratch, Box, 2 * n + 2);
    cell[0] = (Box){ 0, extent };
    if (extent == EXT_BATCH || extent == 0)
        return 1;
    for (int i = -1; i < n; i++) {
        int64_t ends[2] = { i < 0 ? 0 : it[i].box[dim].lo, i < 0 ? extent : it[i].box[dim].lo + it[i].box[dim].n };
        for (int e = 0; e < 2; e++) {
            int k = 0;
            while (k < n_at && at[k] < ends[e])
                k++;
            if (k < n_at && at[k] == ends[e])
                continue;
            memmove(&at[k + 1], &at[k], (size_t)(n_at - k) * sizeof *at);
            at[k] = ends[e];
            n_at++;
        }
    }
    for (int k = 0; k + 1 < n_at; k++)
        cell[k] = (Box){ at[k], at[k + 1] - at[k] };
    return n_at - 1;
}

static bool emit_cell(Grad *d, int out, const Item *it, const int *part, int n, const Box *cell, bool guards, const Comp *from)
{
    Graph *g = d->g;
    Memo done;
    int rank = g->tensor[out].rank;
    Ext ext[WIDE] = {0};
    const Affine *store[MAX_RANK], *fixed[WIDE] = {0};
    const Expr *e = expr_const(g, 0);
    uint32_t axes = 0;
    for (int i = 0; i < n; i++)
        if (guards || covers(&it[i], cell, rank))
            e = expr_op(g, OP_ADD, e, (guards ? guarded : value_in)(g, &it[i], part[i], rank, cell), NULL);
    for (int k = 0; k < rank; k++) {
        bool one = cell[k].n == 1 && g->tensor[out].shape[k] != 1;         /* a row of its own needs no axis */
        ext[k] = cell[k].n;
        axes |= one ? 0 : 1u << k;
        fixed[k] = one ? aff_const(g, 0) : NULL;
        store[k] = one ? aff_const(g, cell[k].lo) : aff_term(g, k, 1, cell[k].lo);
    }
    memo_init(&done);
    e = decided(g, &done, expr_subst(g, e, fixed, WIDE), ext);
    memo_free(&done);
    return grad_emit(d, out, axes, ext, 0, RED_NONE, e, store, from);
}

typedef struct Cell { Box box[MAX_RANK]; bool gone; } Cell;

/* Do the same items cover both cells, which are side by side in dimension `dim` and alike in all others, a before b? */
static bool continues(const Cell *a, const Cell *b, int dim, const Item *it, int n, int rank)
{
    for (int k = 0; k < rank; k++)
        if (k == dim ? a->box[k].lo + a->box[k].n != b->box[k].lo
                     : a->box[k].lo != b->box[k].lo || a->box[k].n != b->box[k].n)
            return false;
    for (int i = 0; i < n; i++)
        if (covers(&it[i], a->box, rank) != covers(&it[i], b->box, rank))
            return false;
    return true;
}

static bool emit_cells(Grad *d, int out, const Item *it, const int *part, int n, const Comp *from)
{
    int rank = d->g->tensor[out].rank, count[MAX_RANK], at[MAX_RANK] = {0};
    Box *interval[MAX_RANK];
    ARRAY(Cell) cell = { 0 };
    for (int k = 0; k < rank; k++)
        count[k] = cut(d, it, n, k, d->g->tensor[out].shape[k], &interval[k]);
    for (int k = 0; k >= 0;) {
        Cell c = { .gone = false };
        for (int i = 0; i < rank; i++)
            c.box[i] = interval[i][at[i]];
        PUSH(&d->scratch, cell, c);
        for (k = rank - 1; k >= 0 && ++at[k] == count[k]; k--)             /* the next cell, the last one fastest */
            at[k] = 0;
    }
    for (int k = rank - 1; k >= 0; k--)
        for (int i = 0; i < cell.n; i++)
            for (int j = i + 1; j < cell.n && !cell.at[i].gone; j++)
                if (!cell.at[j].gone && continues(&cell.at[i], &cell.at[j], k, it, n, rank)) {
                    cell.at[i].box[k].n += cell.at[j].box[k].n;
                    cell.at[j].gone = true;
                }
    for (int i = 0; i < cell.n; i++)
        if (!cell.at[i].gone && !emit_cell(d, out, it, part, n, cell.at[i].box, false, from))
            return false;
    return true;
}

int grad_combine(Grad *d, int tensor, const Shares *shares, const Comp *producer)
{
    Graph *g = d->g;
    int n = shares->n, rank = g->tensor[tensor].rank;
    Item *it = NEWN(&d->scratch, Item, n);
    int *part = NEWN(&d->scratch, int, n);
    const int64_t origin[MAX_RANK] = {0};
    Ext shape[MAX_RANK];
    memcpy(shape, g->tensor[tensor].shape, sizeof shape);
    for (int i = 0; i < n; i++)
        if (!make_item(d, tensor, &shares->at[i], &it[i]))
            return -1;
    if (n == 1 && is_whole(&it[0], rank, shape)) {
        int out = grad_tensor(d, "", tensor, rank, shape, DT_F32);
        return emit_item(d, &it[0], out, origin) ? out : -1;
    }
    for (int i = 0; i < n; i++) {
        part[i] = -1;
        if (is_map(&it[i], rank))
            continue;
        Ext own[MAX_RANK];
        int64_t shift[MAX_RANK];
        for (int k = 0; k < rank; k++) {
            own[k] = it[i].box[k].n;
            shift[k] = it[i].box[k].lo;
        }
        part[i] = grad_tensor(d, ".part", tensor, rank, own, DT_F32);
        if (!emit_item(d, &it[i], part[i], shift))
            return -1;
    }
    int out = grad_tensor(d, "", tensor, rank, shape, DT_F32);
    const Comp *from = producer ? producer : it[0].from;
    Box whole[MAX_RANK];
    bool guards = false;
    int boxes = 0;
    for (int k = 0; k < rank; k++)
        whole[k] = (Box){ 0, shape[k] };
    for (int i = 0; i < n; i++) {
        guards |= part[i] < 0 && is_whole(&it[i], rank, shape);
        boxes += !is_whole(&it[i], rank, shape);
    }
    guards &= boxes <= 1;
    return (guards ? emit_cell(d, out, it, part, n, whole, true, from) : emit_cells(d, out, it, part, n, from)) ? out : -1;
}
