/* known.c -- a sub-expression that some map already computes becomes a load of it.
 *
 * The gradient of exp(s[b,t,u] - l[b,t]) contains that expression again; the forward pass has it as a tensor p. So
 * exp(s - l) anywhere becomes p[b,t,u]. Patterns are whole bodies of maps with one piece and bare axes on the left;
 * a match binds each axis of the pattern to an axis of the same extent. Only maps that come before the reader in
 * topological order are used, so no cycle arises, and the largest match wins (the walk is from the top).
 *
 * So does a reduction that is another one at certain places: the gradient of a token's embedding is the first row of the
 * gradient of the positions,
 *
 *     c[d] = sum[b](g[b, 0, d])       p[t, d] = sum[b](g[b, t, d])        c[d] = p[0, d]
 *
 * whichever comes first: they read the same, so neither needs the other.
 *
 * Candidates are found by a hash of the expression that leaves index maps out. */
#include "pass/pass.h"

typedef struct Shape { const Expr *e; uint64_t h; } Shape;
typedef struct Rewrite { const Expr *from, *to; } Rewrite;

typedef struct {
    Graph *g;
    Arena *a;
    HashMap shape_of;                                          /* expression id -> index into shape */
    ARRAY(Shape) shape;
    HashMap pattern, sums;                                     /* shape hash -> Comp number */
    HashMap rebuilt;                                           /* within one body: expression id -> index into done */
    ARRAY(Rewrite) done;
    const Comp *reader;
    int n;
} Known;

static uint64_t shape_hash(Known *s, const Expr *e)
{
    int at = -1, i;
    while (hash_next(&s->shape_of, hash2(1, e->id), &at, &i))
        if (s->shape.at[i].e == e)
            return s->shape.at[i].h;
    uint64_t h = hash2(e->kind * 64 + 1, e->op);
    if (e->kind == E_CONST) {
        union { double d; uint64_t u; } bits = { .d = e->c };
        h = hash2(h, bits.u);
    } else if (e->kind == E_LOAD) {
        h = hash2(h, (uint64_t)e->tensor);
    } else if (e->kind == E_OP) {
        for (i = 0; i < e->n; i++)
            h = hash2(h, shape_hash(s, e->arg[i]));
    }
    hash_put(s->a, &s->shape_of, hash2(1, e->id), s->shape.n);
    PUSH(s->a, s->shape, (Shape){ e, h });
    return h;
}

/* A pattern's axes bound to axes of the reader. */
typedef struct {
    Graph *g;
    const Comp *p, *reader;
    const Affine *axis[MAX_AXES];
    uint32_t bound;
    bool places;                                               /* a free axis may be bound to a constant too */
} Match;

static bool is_place(const Match *m, int a, const Affine *y)
{
    int64_t at;
    return m->places && !(m->p->red >> a & 1) && aff_is_const(y, &at) && at >= 0 && at < m->p->ext[a];
}

static bool match_aff(Match *m, const Affine *x, const Affine *y)
{
    int a = aff_plain(x);
    if (a >= 0) {
        if (m->bound >> a & 1)
            return m->axis[a] == y;
        int b = aff_plain(y);
        if ((b < 0 || m->p->ext[a] != m->reader->ext[b]) && !is_place(m, a, y))
            return false;
        m->axis[a] = y;
        m->bound |= 1u << a;
        return true;
    }
    return !(aff_axes(x) & ~m->bound) && aff_subst(m->g, x, m->axis, m->p->n_axes) == y;
}

static bool match(Match *m, const Expr *p, const Expr *e)
{
    if (p->kind != e->kind || p->op != e->op || p->n != e->n || p->tensor != e->tensor || p->c != e->c || p->ext != e->ext)
        return false;
    if (p->kind == E_INDEX)
        return match_aff(m, p->aff, e->aff);
    if (p->kind == E_LOAD) {
        for (int d = 0; d < p->n; d++)                         /* bare axes first: they bind the others */
            if (aff_plain(p->idx[d]) >= 0 && !match_aff(m, p->idx[d], e->idx[d]))
                return false;
        for (int d = 0; d < p->n; d++)
            if (aff_plain(p->idx[d]) < 0 && !match_aff(m, p->idx[d], e->idx[d]))
                return false;
        return true;
    }
    for (int i = 0; i < p->n; i++)
        if (!match(m, p->arg[i], e->arg[i]))
            return false;
    return true;
}

static const Expr *load_of(Known *s, const Expr *e)
{
    int at = -1, i;
    uint64_t h = shape_hash(s, e);
    while (hash_next(&s->pattern, h, &at, &i)) {
        const Comp *p = s->g->comp[i];
        Match m = { .g = s->g, .p = p, .reader = s->reader };
        if (s->g->tensor[p->out].dtype != DT_F64 && s->g->tensor[s->reader->out].dtype == DT_F64)
            continue;                                          /* it would lose digits */
        if (!match(&m, p->body, e) || m.bound != axes_mask(p->n_axes))
            continue;
        const Affine *idx[MAX_RANK];
        for (int d = 0; d < s->g->tensor[p->out].rank; d++)
            idx[d] = m.axis[aff_plain(p->store[d])];
        s->n++;
        return expr_load(s->g, p->out, idx);
    }
    return NULL;
}

static const Expr *rewrite(Known *s, const Expr *e)
{
    if (e->kind != E_OP)
        return e;
    int at = -1, i;
    while (hash_next(&s->rebuilt, hash2(2, e->id), &at, &i))
        if (s->done.at[i].from == e)
            return s->done.at[i].to;
    const Expr *to = load_of(s, e);
    if (!to) {
        const Expr *arg[3] = { NULL, NULL, NULL };
        bool same = true;
        for (i = 0; i < e->n; i++) {
            arg[i] = rewrite(s, e->arg[i]);
            same &= arg[i] == e->arg[i];
        }
        to = same ? e : expr_op(s->g, e->op, arg[0], arg[1], arg[2]);
    }
    hash_put(s->a, &s->rebuilt, hash2(2, e->id), s->done.n);
    PUSH(s->a, s->done, (Rewrite){ e, to });
    return to;
}

/* Do the axes that the match bound make c the reduction p at certain places, each axis of c being one of p? */
static bool same_sum(const Match *m)
{
    const Comp *p = m->p, *c = m->reader;
    uint32_t seen = 0;
    for (int a = 0; a < p->n_axes; a++) {
        int b = aff_plain(m->axis[a]);
        if (b >= 0 && (seen >> b & 1 || (p->red >> a & 1) != (c->red >> b & 1)))
            return false;
        seen |= b < 0 ? 0 : 1u << b;
    }
    return seen == axes_mask(c->n_axes);
}

/* Reduction c becomes a load of the larger one that holds it, when there is one. */
static bool read_sum(Known *s, Comp *c)
{
    Graph *g = s->g;
    int at = -1, i;
    while (hash_next(&s->sums, shape_hash(s, c->body), &at, &i)) {
        const Comp *p = g->comp[i];
        Match m = { .g = g, .p = p, .reader = c, .places = true };
        if (p->n_axes <= c->n_axes || p->reducer != c->reducer || g->tensor[p->out].dtype != g->tensor[c->out].dtype ||
            !match(&m, p->body, c->body) || m.bound != axes_mask(p->n_axes) || !same_sum(&m))
            continue;
        const Affine *idx[MAX_RANK];
        for (int d = 0; d < g->tensor[p->out].rank; d++)
            idx[d] = m.axis[aff_plain(p->store[d])];
        comp_replace_body(g, c, expr_load(g, p->out, idx));
        s->n++;
        return true;
    }
    return false;
}

static bool keeps_a_value(const Comp *c)
{
    return c->reducer == RED_SUM || c->reducer == RED_MAX || c->reducer == RED_MIN || c->reducer == RED_LOGSUMEXP;
}

int pass_known(Graph *g)
{
    Arena a = { 0 };
    Known s = { .g = g, .a = &a };
    bool *update = NEWN(&a, bool, g->n_tensor);
    int *n_pieces = NEWN(&a, int, g->n_tensor);
    for (int i = 0; i < g->n_update; i++)
        update[g->update[i].value] = true;
    for (int i = 0; i < g->n_comp; i++)
        n_pieces[g->comp[i]->out]++;
    for (int i = 0; i < g->n_comp; i++) {
        Comp *c = g->comp[i];
        if (s.pattern.n && expr_size(c->body) > 1) {
            s.reader = c;
            for (int k = 0; k < s.rebuilt.cap; k++)
                s.rebuilt.value[k] = -1;
            s.rebuilt.n = s.done.n = 0;
            c->body = rewrite(&s, c->body);
        }
        if (c->reducer == RED_NONE && n_pieces[c->out] == 1 && !update[c->out] && expr_size(c->body) > 1 &&
            g->tensor[c->out].dtype != DT_I32 && store_plain(c, g->tensor[c->out].rank, NULL))
            hash_put(&a, &s.pattern, shape_hash(&s, c->body), i);
    }
    bool moved = false;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        if (keeps_a_value(c) && n_pieces[c->out] == 1 && !update[c->out] && !g->tensor[c->out].again &&
            store_plain(c, g->tensor[c->out].rank, NULL))
            hash_put(&a, &s.sums, shape_hash(&s, c->body), i);
    }
    for (int i = 0; i < g->n_comp; i++)
        if (keeps_a_value(g->comp[i]) && n_pieces[g->comp[i]->out] == 1 && !g->tensor[g->comp[i]->out].again)
            moved |= read_sum(&s, g->comp[i]);
    if (moved)
        graph_toposort(g);
    arena_free(&a);
    return s.n;
}
