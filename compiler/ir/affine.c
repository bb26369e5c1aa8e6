/* affine.c -- index maps: c + sum coef * atom.
 *
 * A map is built once and shared: aff_make puts its terms in order, drops zero coefficients and looks the result
 * up in the graph's table, so equal maps are the same pointer. The order of terms is structural (axes by number,
 * then loads, then div and mod), hence the same after printing and parsing.
 *
 * div and mod take out of the bracket what is a multiple of the divisor, with floor semantics:
 *
 *     (k*A + R) div k = A + R div k         (k*A + R) mod k = R mod k         0 <= constant of R < k
 *
 * so a map has one form whichever way the gradient arrived at it. */
#include "ir/pool.h"
#include <string.h>

static int three_way(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int atom_compare(const Term *a, const Term *b)
{
    if (a->kind != b->kind)
        return three_way(a->kind, b->kind);
    switch (a->kind) {
    case AT_AXIS:
        return three_way(a->axis, b->axis);
    case AT_LOAD:
        return expr_load_compare(a->load, b->load);
    case AT_DIV:
    case AT_MOD:
        return a->by != b->by ? three_way(a->by, b->by) : aff_compare(a->arg, b->arg);
    }
    return 0;
}

int aff_compare(const Affine *a, const Affine *b)
{
    if (a == b)
        return 0;
    if (a->n != b->n)
        return three_way(a->n, b->n);
    for (int i = 0; i < a->n; i++) {
        int d = atom_compare(&a->term[i], &b->term[i]);
        if (d)
            return d;
        if (a->term[i].coef != b->term[i].coef)
            return three_way(a->term[i].coef, b->term[i].coef);
    }
    return three_way(a->c, b->c);
}

static bool same_term(const Term *a, const Term *b)
{
    return a->kind == b->kind && a->axis == b->axis && a->by == b->by && a->arg == b->arg && a->load == b->load &&
           a->coef == b->coef;
}

static uint64_t term_hash(uint64_t h, const Term *t)
{
    h = hash_mix(h, (uint64_t)t->kind * 64 + (uint64_t)t->axis);
    h = hash_mix(h, (uint64_t)t->by);
    h = hash_mix(h, t->arg ? t->arg->id + 1 : 0);
    h = hash_mix(h, t->load ? t->load->id + 1 : 0);
    return hash_mix(h, (uint64_t)t->coef);
}

static uint64_t aff_hash(int64_t c, int n, const Term *term)
{
    uint64_t h = hash_mix(17, (uint64_t)c);
    for (int i = 0; i < n; i++)
        h = term_hash(h, &term[i]);
    return h;
}

static void aff_table_grow(Graph *g)
{
    Pool *p = g->pool;
    uint32_t cap = p->cap_aff ? 2 * p->cap_aff : 256;
    const Affine **table = NEWN(g->arena, const Affine *, cap);
    for (uint32_t i = 0; i < p->cap_aff; i++) {
        const Affine *a = p->aff[i];
        if (!a)
            continue;
        uint32_t at = (uint32_t)aff_hash(a->c, a->n, a->term) & (cap - 1);
        while (table[at])
            at = (at + 1) & (cap - 1);
        table[at] = a;
    }
    p->aff = table;
    p->cap_aff = cap;
}

/* Terms sorted, distinct, coefficients not 0. */
static const Affine *aff_make(Graph *g, int64_t c, int n, const Term *term)
{
    Pool *p = g->pool;
    if (2 * p->n_aff >= p->cap_aff)
        aff_table_grow(g);
    uint32_t at = (uint32_t)aff_hash(c, n, term) & (p->cap_aff - 1);
    for (; p->aff[at]; at = (at + 1) & (p->cap_aff - 1)) {
        const Affine *a = p->aff[at];
        bool same = a->c == c && a->n == n;
        for (int i = 0; same && i < n; i++)
            same = same_term(&a->term[i], &term[i]);
        if (same)
            return a;
    }
    Affine *a = arena_alloc(g->arena, sizeof *a + (size_t)n * sizeof *term);
    a->id = p->n_aff++;
    a->c = c;
    a->n = n;
    if (n)
        memcpy(a->term, term, (size_t)n * sizeof *term);
    return p->aff[at] = a;
}

static const Affine *aff_atom(Graph *g, Term t)
{
    t.coef = 1;
    return aff_make(g, 0, 1, &t);
}

const Affine *aff_only(Graph *g, const Term *t)
{
    return aff_make(g, 0, 1, t);
}

const Affine *aff_const(Graph *g, int64_t c)
{
    return aff_make(g, c, 0, NULL);
}

const Affine *aff_axis(Graph *g, int axis)
{
    return aff_atom(g, (Term){ .kind = AT_AXIS, .axis = axis });
}

const Affine *aff_term(Graph *g, int axis, int64_t coef, int64_t c)
{
    Term t = { .kind = AT_AXIS, .axis = axis, .coef = coef };
    return aff_make(g, c, coef != 0, &t);
}

const Affine *aff_load(Graph *g, const Expr *load)
{
    if (load->kind == E_INDEX)
        return load->aff;
    if (load->kind == E_CONST)
        return aff_const(g, (int64_t)load->c);
    return aff_atom(g, (Term){ .kind = AT_LOAD, .load = load });
}

enum { FEW_TERMS = 32 };                                       /* room on the stack before the arena is asked */

const Affine *aff_add(Graph *g, const Affine *a, const Affine *b)
{
    if (!b->n && !b->c)
        return a;
    if (!a->n && !a->c)
        return b;
    Term few[FEW_TERMS], *t = a->n + b->n <= FEW_TERMS ? few : NEWN(g->arena, Term, a->n + b->n);
    int n = 0, i = 0, j = 0;
    while (i < a->n || j < b->n) {
        int d = i == a->n ? 1 : j == b->n ? -1 : atom_compare(&a->term[i], &b->term[j]);
        Term sum = d <= 0 ? a->term[i] : b->term[j];
        if (d == 0)
            sum.coef = sat_add(sum.coef, b->term[j].coef);
        if (sum.coef)
            t[n++] = sum;
        i += d <= 0;
        j += d >= 0;
    }
    return aff_make(g, sat_add(a->c, b->c), n, t);
}

const Affine *aff_scale(Graph *g, const Affine *a, int64_t k)
{
    if (k == 1)
        return a;
    if (k == 0)
        return aff_const(g, 0);
    Term few[FEW_TERMS], *t = a->n <= FEW_TERMS ? few : NEWN(g->arena, Term, a->n);
    for (int i = 0; i < a->n; i++) {
        t[i] = a->term[i];
        t[i].coef = sat_mul(t[i].coef, k);
    }
    return aff_make(g, sat_mul(a->c, k), a->n, t);
}

/* a = k * *multiple + *rest with the constant of *rest in 0 .. k-1 */
static void aff_split(Graph *g, const Affine *a, int64_t k, const Affine **multiple, const Affine **rest)
{
    Term few_m[FEW_TERMS], few_r[FEW_TERMS];
    Term *m = a->n <= FEW_TERMS ? few_m : NEWN(g->arena, Term, a->n);
    Term *r = a->n <= FEW_TERMS ? few_r : NEWN(g->arena, Term, a->n);
    int n_m = 0, n_r = 0;
    for (int i = 0; i < a->n; i++) {
        if (a->term[i].coef % k) {
            r[n_r++] = a->term[i];
        } else {
            m[n_m] = a->term[i];
            m[n_m++].coef /= k;
        }
    }
    *multiple = aff_make(g, floor_div(a->c, k), n_m, m);
    *rest = aff_make(g, floor_mod(a->c, k), n_r, r);
}

const Affine *aff_div(Graph *g, const Affine *a, int64_t k)
{
    const Affine *multiple, *rest;
    aff_split(g, a, k, &multiple, &rest);
    if (!rest->n)
        return multiple;
    return aff_add(g, multiple, aff_atom(g, (Term){ .kind = AT_DIV, .by = k, .arg = rest }));
}

const Affine *aff_mod(Graph *g, const Affine *a, int64_t k)
{
    const Affine *multiple, *rest;
    aff_split(g, a, k, &multiple, &rest);
    return rest->n ? aff_atom(g, (Term){ .kind = AT_MOD, .by = k, .arg = rest }) : rest;
}

int aff_plain(const Affine *a)
{
    bool plain = a->c == 0 && a->n == 1 && a->term[0].kind == AT_AXIS && a->term[0].coef == 1;
    return plain ? a->term[0].axis : -1;
}

uint32_t aff_axes(const Affine *a)
{
    uint32_t axes = 0;
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        axes |= t->kind == AT_AXIS ? 1u << t->axis : t->kind == AT_LOAD ? t->load->axes : aff_axes(t->arg);
    }
    return axes;
}

bool aff_is_const(const Affine *a, int64_t *c)
{
    if (!a->n && c)
        *c = a->c;
    return !a->n;
}

bool aff_has_atoms(const Affine *a)
{
    return a->n && a->term[a->n - 1].kind != AT_AXIS;          /* atoms come after axes */
}

static bool term_range(const Term *t, const Ext *ext, int64_t batch, int64_t *lo, int64_t *hi)
{
    if (t->kind == AT_LOAD)
        return false;
    if (t->kind == AT_AXIS) {
        int64_t n = ext[t->axis] == EXT_BATCH ? batch : ext[t->axis];
        *lo = 0;
        *hi = n > 0 ? n - 1 : 0;
        return true;
    }
    bool known = aff_range(t->arg, ext, batch, lo, hi);
    if (t->kind == AT_DIV) {
        *lo = floor_div(*lo, t->by);
        *hi = floor_div(*hi, t->by);
        return known;
    }
    if (known && floor_div(*lo, t->by) == floor_div(*hi, t->by)) {
        *lo = floor_mod(*lo, t->by);
        *hi = floor_mod(*hi, t->by);
    } else {
        *lo = 0;
        *hi = t->by - 1;
    }
    return true;
}

bool aff_range(const Affine *a, const Ext *ext, int64_t batch, int64_t *lo, int64_t *hi)
{
    int64_t least = a->c, most = a->c;
    bool known = true;
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        int64_t l = 0, h = 0;
        known &= term_range(t, ext, batch, &l, &h);
        least = sat_add(least, sat_mul(t->coef, t->coef > 0 ? l : h));
        most = sat_add(most, sat_mul(t->coef, t->coef > 0 ? h : l));
    }
    *lo = least;
    *hi = most;
    return known;
}

static const Affine *term_rebuild(Graph *g, const Term *t, const Affine *const *map, int n)
{
    switch (t->kind) {
    case AT_AXIS:
        return t->axis < n && map[t->axis] ? map[t->axis] : aff_axis(g, t->axis);
    case AT_LOAD:
        return aff_load(g, expr_subst(g, t->load, map, n));
    case AT_DIV:
        return aff_div(g, aff_subst(g, t->arg, map, n), t->by);
    case AT_MOD:
        return aff_mod(g, aff_subst(g, t->arg, map, n), t->by);
    }
    return NULL;
}

const Affine *aff_subst(Graph *g, const Affine *a, const Affine *const *map, int n)
{
    const Affine *sum = aff_const(g, a->c);
    for (int i = 0; i < a->n; i++)
        sum = aff_add(g, sum, aff_scale(g, term_rebuild(g, &a->term[i], map, n), a->term[i].coef));
    return sum;
}

const Affine *aff_map_loads(Graph *g, const Affine *a, LoadFn f, void *ctx)
{
    if (!aff_has_atoms(a))
        return a;
    const Affine *sum = aff_const(g, a->c);
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        const Affine *value = NULL;
        if (t->kind == AT_AXIS)
            value = aff_axis(g, t->axis);
        else if (t->kind == AT_LOAD)
            value = aff_load(g, expr_map_loads(g, t->load, f, ctx));
        else if (t->kind == AT_DIV)
            value = aff_div(g, aff_map_loads(g, t->arg, f, ctx), t->by);
        else
            value = aff_mod(g, aff_map_loads(g, t->arg, f, ctx), t->by);
        sum = aff_add(g, sum, aff_scale(g, value, t->coef));
    }
    return sum;
}

/* ---- store images */

int store_radix(const Affine *a, const Ext *ext, int *order, Box *box)
{
    const Term *left[MAX_AXES];
    int n_left = 0, n = 0;
    for (int i = 0; i < a->n; i++) {
        if (a->term[i].kind != AT_AXIS)
            return -1;
        if (ext[a->term[i].axis] != 1)                         /* an axis of extent 1 is always 0 */
            left[n_left++] = &a->term[i];
    }
    int64_t next = 1;                                          /* the coefficient the next axis must have */
    bool batch = false;
    while (n < n_left) {
        int at = 0;
        while (at < n_left && (!left[at] || left[at]->coef != next))
            at++;
        if (at == n_left || batch)
            return -1;
        Ext e = ext[left[at]->axis];
        batch = e == EXT_BATCH;
        if (batch && next != 1)                                /* batch*3+c: an extent of 3*batch cannot be said */
            return -1;
        order[n++] = left[at]->axis;
        left[at] = NULL;
        next = batch ? 1 : sat_mul(next, e);
    }
    if (box)
        *box = (Box){ a->c, batch ? EXT_BATCH : next };
    return n;
}

bool store_box(const Affine *const *store, int rank, const Ext *ext, Box *box)
{
    uint32_t seen = 0;
    for (int k = 0; k < rank; k++) {
        int order[MAX_AXES];
        int n = store_radix(store[k], ext, order, &box[k]);
        if (n < 0)
            return false;
        for (int i = 0; i < n; i++) {
            if (seen >> order[i] & 1)
                return false;
            seen |= 1u << order[i];
        }
    }
    return true;
}
