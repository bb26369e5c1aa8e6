/* common.c -- what several passes need: a hash map, roots, canonical axis numbers, products. */
#include "pass/pass.h"
#include <string.h>

/* ---- hash map */

static void place(HashMap *m, uint64_t key, int value)
{
    int at = (int)(key & (uint64_t)(m->cap - 1));
    while (m->value[at] >= 0)
        at = (at + 1) & (m->cap - 1);
    m->key[at] = key;
    m->value[at] = value;
}

void hash_put(Arena *a, HashMap *m, uint64_t key, int value)
{
    if (2 * (m->n + 1) > m->cap) {
        HashMap old = *m;
        m->cap = old.cap ? 2 * old.cap : 64;
        m->key = NEWN(a, uint64_t, m->cap);
        m->value = NEWN(a, int, m->cap);
        memset(m->value, -1, (size_t)m->cap * sizeof *m->value);
        /* equal keys must come out in the order they went in: start at a gap, so that no run of slots is cut */
        int gap = 0;
        while (gap < old.cap && old.value[gap] >= 0)
            gap++;
        for (int i = 0; i < old.cap; i++) {
            int at = (gap + i) % old.cap;
            if (old.value[at] >= 0)
                place(m, old.key[at], old.value[at]);
        }
    }
    place(m, key, value);
    m->n++;
}

bool hash_next(const HashMap *m, uint64_t key, int *at, int *value)
{
    if (!m->cap)
        return false;
    int i = *at < 0 ? (int)(key & (uint64_t)(m->cap - 1)) : (*at + 1) & (m->cap - 1);
    for (; m->value[i] >= 0; i = (i + 1) & (m->cap - 1))
        if (m->key[i] == key) {
            *at = i;
            *value = m->value[i];
            return true;
        }
    return false;
}

/* ---- graphs and Comps */

bool *roots_of(const Graph *g, Arena *a)
{
    bool *root = NEWN(a, bool, g->n_tensor);
    for (int i = 0; i < g->n_output; i++)
        root[g->output[i].tensor] = true;
    for (int i = 0; i < g->n_update; i++)
        root[g->update[i].value] = true;
    return root;
}

bool same_form(const Tensor *a, const Tensor *b)
{
    return a->rank == b->rank && a->dtype == b->dtype && !memcmp(a->shape, b->shape, (size_t)a->rank * sizeof *a->shape);
}

bool store_plain(const Comp *c, int rank, int *axis)
{
    uint32_t seen = 0;
    for (int d = 0; d < rank; d++) {
        int a = aff_plain(c->store[d]);
        if (a < 0 || seen >> a & 1)
            return false;
        seen |= 1u << a;
        if (axis)
            axis[d] = a;
    }
    return true;
}

int aff_order(const Affine *a, int *axis)
{
    int64_t coef[MAX_AXES];
    int n = 0;
    for (int i = 0; i < a->n && a->term[i].kind == AT_AXIS; i++) {      /* axes come first */
        int at = n++;
        for (; at > 0 && coef[at - 1] < a->term[i].coef; at--) {
            coef[at] = coef[at - 1];
            axis[at] = axis[at - 1];
        }
        coef[at] = a->term[i].coef;
        axis[at] = a->term[i].axis;
    }
    return n;
}

void comp_replace_body(Graph *g, Comp *c, const Expr *body)
{
    const Comp old = *c;
    const Affine *map[MAX_AXES] = { NULL };
    c->n_axes = 0;
    c->red = 0;
    for (int k = 0; k < old.n_axes; k++)
        if (!(old.red >> k & 1) || body->axes >> k & 1) {
            map[k] = aff_axis(g, c->n_axes);
            c->red |= (old.red >> k & 1) << c->n_axes;
            c->ext[c->n_axes++] = old.ext[k];
        }
    c->body = expr_subst(g, body, map, old.n_axes);
    for (int d = 0; d < g->tensor[c->out].rank; d++)
        c->store[d] = aff_subst(g, old.store[d], map, old.n_axes);
    if (!c->red)
        c->reducer = RED_NONE;
}

double points(const Ext *ext, uint32_t axes, double batch)
{
    double n = 1;
    for (int k = 0; axes >> k; k++)
        if (axes >> k & 1)
            n *= ext[k] == EXT_BATCH ? batch : (double)ext[k];
    return n < 1e18 ? n : 1e18;
}

int store_order(const Graph *g, const Comp *c, uint32_t of, int *out)
{
    int n = 0;
    uint32_t seen = 0;
    for (int d = 0; d < g->tensor[c->out].rank; d++) {
        int order[MAX_AXES], m = store_radix(c->store[d], c->ext, order, NULL);
        for (int i = m - 1; i >= 0; i--)
            if (of >> order[i] & 1) {
                out[n++] = order[i];
                seen |= 1u << order[i];
            }
    }
    for (int k = 0; k < c->n_axes; k++)                        /* axes of extent 1 stand nowhere */
        if (of >> k & 1 & ~(seen >> k))
            out[n++] = k;
    return n;
}

/* ---- canonical numbers */

typedef struct {
    int *number, n;
} Numbering;

static void number_expr(Numbering *s, const Expr *e);

static void number_aff(Numbering *s, const Affine *a)
{
    int axis[MAX_AXES], n = aff_order(a, axis);
    for (int i = 0; i < n; i++)
        if (s->number[axis[i]] < 0)
            s->number[axis[i]] = s->n++;
    for (int i = 0; i < a->n; i++) {
        if (a->term[i].kind == AT_LOAD)
            number_expr(s, a->term[i].load);
        else if (a->term[i].kind != AT_AXIS)
            number_aff(s, a->term[i].arg);
    }
}

static void number_expr(Numbering *s, const Expr *e)
{
    bool more = false;                                         /* does e hold an axis without a number */
    for (int k = 0; e->axes >> k; k++)
        more |= (e->axes >> k & 1) && s->number[k] < 0;
    if (!more)
        return;
    if (e->kind == E_INDEX)
        number_aff(s, e->aff);
    for (int i = 0; i < e->n; i++) {
        if (e->kind == E_LOAD)
            number_aff(s, e->idx[i]);
        else
            number_expr(s, e->arg[i]);
    }
}

Canon comp_canon(Graph *g, const Comp *c, bool store)
{
    Canon k = { .reducer = c->reducer, .n_axes = c->n_axes, .rank = store ? g->tensor[c->out].rank : 0 };
    Numbering s = { k.number, 0 };
    for (int i = 0; i < MAX_AXES; i++)
        k.number[i] = -1;
    for (int d = 0; d < k.rank; d++)
        number_aff(&s, c->store[d]);
    number_expr(&s, c->body);
    for (int i = 0; i < c->n_axes; i++)
        if (k.number[i] < 0)
            k.number[i] = s.n++;
    const Affine *map[MAX_AXES] = { NULL };
    for (int i = 0; i < c->n_axes; i++) {
        map[i] = aff_axis(g, k.number[i]);
        k.ext[k.number[i]] = c->ext[i];
        k.red |= (c->red >> i & 1) << k.number[i];
    }
    k.body = expr_subst(g, c->body, map, c->n_axes);
    k.hash = hash2(hash2(k.body->id, k.red), k.reducer);
    for (int i = 0; i < c->n_axes; i++)
        k.hash = hash2(k.hash, (uint64_t)k.ext[i]);
    for (int d = 0; d < k.rank; d++) {
        k.store[d] = aff_subst(g, c->store[d], map, c->n_axes);
        k.hash = hash2(k.hash, k.store[d]->id);
    }
    return k;
}

bool canon_equal(const Canon *a, const Canon *b)
{
    if (a->reducer != b->reducer || a->n_axes != b->n_axes || a->rank != b->rank || a->red != b->red || a->body != b->body)
        return false;
    return !memcmp(a->ext, b->ext, sizeof a->ext) && !memcmp(a->store, b->store, sizeof a->store);
}

/* ---- products */

static bool is_number(const Expr *e, double value)
{
    return e->kind == E_CONST && e->c == value;
}

static bool product_add(Graph *g, const Expr *e, Product *p)
{
    if (e->kind == E_CONST) {
        p->scale *= e->c;
        return true;
    }
    if (e->kind == E_OP && e->op == OP_NEG) {
        p->scale = -p->scale;
        return product_add(g, e->arg[0], p);
    }
    if (e->kind == E_OP && e->op == OP_MUL)
        return product_add(g, e->arg[0], p) && product_add(g, e->arg[1], p);
    if (e->kind == E_OP && e->op == OP_DIV && !is_number(e->arg[0], 1)) {
        const Expr *inverse = expr_op(g, OP_DIV, expr_const(g, 1), e->arg[1], NULL);
        return product_add(g, e->arg[0], p) && product_add(g, inverse, p);
    }
    if (e->kind == E_OP && e->op == OP_WHERE && is_number(e->arg[2], 0) && !is_number(e->arg[1], 1)) {
        if (p->n_guard == MAX_FACTORS)
            return false;
        p->guard[p->n_guard++] = e->arg[0];
        return product_add(g, e->arg[1], p);
    }
    if (p->n == MAX_FACTORS)
        return false;
    p->factor[p->n++] = e;
    return true;
}

bool product_of(Graph *g, const Expr *e, Product *p)
{
    *p = (Product){ .scale = 1 };
    return product_add(g, e, p);
}

const Expr *product_expr(Graph *g, double scale, const Expr *const *factor, int n)
{
    const Expr *e = n ? factor[0] : expr_const(g, scale);
    for (int i = 1; i < n; i++)
        e = expr_op(g, OP_MUL, e, factor[i], NULL);
    return n ? expr_op(g, OP_MUL, e, expr_const(g, scale), NULL) : e;
}
