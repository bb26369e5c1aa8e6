/* reassoc.c -- change the order of two nested sums when that needs less and the other inner sum is there already.
 *
 *     D[b,t] = sum_u dp[b,t,u] * p[b,t,u]             dp[b,t,u] = sum_i dz[b,t,i] * v[b,u,i]
 *            = sum_i dz[b,t,i] * (sum_u p[b,t,u] * v[b,u,i])
 *            = sum_i dz[b,t,i] * z[b,t,i]             z is what the forward pass has computed
 *
 * In general sum_u A * (sum_i B * C) = sum_i B * (sum_u A * C) when B does not depend on u. The inner sum on the
 * right is looked up among the graph's sums, its axes numbered by appearance in the body, so a match is a match in
 * any layout. Done only when the new sum visits fewer points than the old one. */
#include "pass/pass.h"

/* A sum that can be pointed to. number[d]: the canonical axis of dimension d of its tensor. */
typedef struct Sum {
    Canon canon;
    int out, at, number[MAX_RANK];
} Sum;

typedef struct {
    Graph *g;
    Arena *a;
    HashMap table;                                             /* canonical hash -> index into sum */
    ARRAY(Sum) sum;
    Comp **single;                                             /* by tensor: its one Comp, or NULL */
} Sums;

/* The sum with a canonical product as its body. Key: the store map left out. */
static Canon sum_key(Graph *g, const Comp *shape, const Expr *const *factor, int n)
{
    Comp c = *shape;
    c.body = product_expr(g, 1, factor, n);
    return comp_canon(g, &c, false);
}

static void remember(Sums *s, int i)
{
    Graph *g = s->g;
    const Comp *c = g->comp[i];
    int axis[MAX_RANK];
    Product p;
    if (c->reducer != RED_SUM || s->single[c->out] != c || !store_plain(c, g->tensor[c->out].rank, axis) ||
        !product_of(g, c->body, &p) || p.scale != 1 || p.n_guard || c->body->axes != axes_mask(c->n_axes))
        return;
    Canon k = sum_key(g, c, p.factor, p.n);
    hash_put(s->a, &s->table, k.hash, s->sum.n);
    PUSH(s->a, s->sum, (Sum){ k, c->out, i, { 0 } });
    for (int d = 0; d < g->tensor[c->out].rank; d++)           /* now: an exchange may renumber c's axes */
        s->sum.at[s->sum.n - 1].number[d] = k.number[axis[d]];
}

/* A load of the tensor that holds sum over `red` of the product, in any order of its factors, made before position
 * `before`; NULL: there is none. */
static const Expr *find_sum(Sums *s, const Ext *ext, int n_axes, uint32_t red, const Expr *const *factor, int n, int before)
{
    Graph *g = s->g;
    uint32_t used = 0;
    for (int i = 0; i < n; i++)
        used |= factor[i]->axes;
    if ((red & ~used) || n > 4)
        return NULL;
    /* only the axes that occur, renumbered to be dense */
    Comp shape = { .reducer = RED_SUM };
    int old[MAX_AXES];
    const Affine *map[MAX_AXES] = { NULL };
    for (int i = 0; i < n_axes; i++)
        if (used >> i & 1) {
            map[i] = aff_axis(g, shape.n_axes);
            old[shape.n_axes] = i;
            shape.ext[shape.n_axes] = ext[i];
            shape.red |= (red >> i & 1) << shape.n_axes;
            shape.n_axes++;
        }
    for (int order = 0; order < 2; order++) {
        const Expr *f[4];
        for (int i = 0; i < n; i++)
            f[i] = expr_subst(g, factor[order ? n - 1 - i : i], map, n_axes);
        Canon k = sum_key(g, &shape, f, n);
        int at = -1, j;
        while (hash_next(&s->table, k.hash, &at, &j)) {
            int z = s->sum.at[j].out;
            if (s->sum.at[j].at >= before || !canon_equal(&k, &s->sum.at[j].canon))
                continue;
            const Affine *idx[MAX_RANK];
            for (int d = 0; d < g->tensor[z].rank; d++)
                for (int i = 0; i < shape.n_axes; i++)
                    if (k.number[i] == s->sum.at[j].number[d])
                        idx[d] = aff_axis(g, old[i]);
            return expr_load(g, z, idx);
        }
    }
    return NULL;
}

/* The nested form of c around its factor number `which`, a load of another sum q; true when c was changed. */
static bool exchange(Sums *s, int position, const Product *outer, int which)
{
    Graph *g = s->g;
    Comp *c = g->comp[position];
    const Expr *load = outer->factor[which];
    const Comp *q = s->single[load->tensor];
    int q_axis[MAX_RANK], n = c->n_axes;
    Product inner;
    if (!q || q->reducer != RED_SUM || !store_plain(q, load->n, q_axis) || outer->n < 2)
        return false;
    if (c->n_axes + q->n_axes > MAX_AXES)
        return false;
    /* q's body over c's axes, q's reduced axes behind them */
    Ext ext[MAX_AXES];
    const Affine *map[MAX_AXES] = { NULL };
    uint32_t q_red = 0;
    for (int i = 0; i < n; i++)
        ext[i] = c->ext[i];
    for (int d = 0; d < load->n; d++)
        map[q_axis[d]] = load->idx[d];
    for (int i = 0; i < q->n_axes; i++)
        if (q->red >> i & 1) {
            map[i] = aff_axis(g, n);
            ext[n] = q->ext[i];
            q_red |= 1u << n++;
        }
    if (!product_of(g, expr_subst(g, q->body, map, q->n_axes), &inner) || inner.n_guard || inner.n < 2)
        return false;
    if (points(ext, free_axes(c) | q_red, TYPICAL_BATCH) >= points(c->ext, axes_mask(c->n_axes), TYPICAL_BATCH))
        return false;
    for (int i = 0; i < inner.n; i++) {
        if (inner.factor[i]->axes & c->red)
            continue;
        const Expr *rest[2 * MAX_FACTORS];
        int n_rest = 0;
        for (int j = 0; j < outer->n; j++)
            if (j != which)
                rest[n_rest++] = outer->factor[j];
        for (int j = 0; j < inner.n; j++)
            if (j != i)
                rest[n_rest++] = inner.factor[j];
        const Expr *z = find_sum(s, ext, n, c->red, rest, n_rest, position);
        if (!z)
            continue;
        const Expr *pair[2] = { inner.factor[i], z };
        const Expr *body = product_expr(g, outer->scale * inner.scale, pair, 2);
        if (q_red & ~body->axes)
            continue;
        /* drop c's reduced axes, keep the numbers dense */
        Comp old = *c;
        const Affine *to[MAX_AXES] = { NULL };
        c->n_axes = 0;
        c->red = 0;
        for (int k = 0; k < n; k++)
            if (!(old.red >> k & 1)) {
                to[k] = aff_axis(g, c->n_axes);
                c->ext[c->n_axes] = ext[k];
                c->red |= (q_red >> k & 1) << c->n_axes;
                c->n_axes++;
            }
        c->body = expr_subst(g, body, to, n);
        for (int d = 0; d < g->tensor[c->out].rank; d++)
            c->store[d] = aff_subst(g, old.store[d], to, n);
        return true;
    }
    return false;
}

int pass_reassoc(Graph *g)
{
    Arena a = { 0 };
    Sums s = { .g = g, .a = &a, .single = NEWN(&a, Comp *, g->n_tensor) };
    int n = 0;
    bool *several = NEWN(&a, bool, g->n_tensor);
    for (int i = 0; i < g->n_comp; i++) {
        int t = g->comp[i]->out;
        several[t] |= s.single[t] != NULL;
        s.single[t] = several[t] ? NULL : g->comp[i];
    }
    for (int i = 0; i < g->n_comp; i++)
        remember(&s, i);
    for (int i = 0; i < g->n_comp; i++) {
        Product p;
        if (g->comp[i]->reducer != RED_SUM || !product_of(g, g->comp[i]->body, &p) || p.n_guard)
            continue;
        for (int k = 0; k < p.n; k++)
            if (p.factor[k]->kind == E_LOAD && exchange(&s, i, &p, k)) {
                n++;
                break;
            }
    }
    arena_free(&a);
    if (n)
        graph_toposort(g);
    return n;
}
