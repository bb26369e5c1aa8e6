/* whole.c -- a tensor in pieces that is read point by point becomes whole where it is read.
 *
 *     x[b, 0, d] = class[d]       x[b, 1 + t, d] = sum[i](...)        y[b, t, d] = x[b, t, d] + pos[t, d]
 *
 * A piece that is a copy or a constant need not be in memory: the place in x says which piece a reader means, so
 *
 *     x'[b, t, d] = sum[i](...)       y[b, t, d] = where(t == 0, class[d], x'[b, t - 1, d]) + pos[t, d]
 *
 * and what was a copy or a fill is no kernel any more. One reader takes all that into its own body. Several take one map: it is
 * part of the kernel that reads it, and where it is not, it costs a copy; hence there must be little to copy beside the constant,
 * as in a gradient of which one row is not 0. Not for operands of contractions, which have to be loads. */
#include "pass/pass.h"

enum { MOST_PIECES = 4, MOST_LOADS = 4, FILLED = 8 };          /* FILLED: a fill is so many times what lies in it */

typedef struct Piece {
    Comp *comp;
    Box box[MAX_RANK];
    bool copies;                                               /* a copy or a constant; its axes by dimension */
    int axis[MAX_RANK];                                        /* or -1: a constant position */
    double points;
} Piece;

typedef struct Whole {
    Graph *g;
    int tensor, n;
    Piece piece[MOST_PIECES];
    const Expr *value;                                         /* of a point: axis d is its place in dimension d */
} Whole;

static bool copies(const Graph *g, Piece *p)
{
    const Comp *c = p->comp;
    const Expr *e = c->body;
    uint32_t seen = 0;
    if (c->reducer != RED_NONE || (e->kind != E_CONST && e->kind != E_LOAD) || (e->kind == E_LOAD && !dtype_real(g->tensor[e->tensor].dtype)))
        return false;
    for (int d = 0; e->kind == E_LOAD && d < e->n; d++)
        if (aff_has_atoms(e->idx[d]))
            return false;
    for (int d = 0; d < g->tensor[c->out].rank; d++) {
        const Affine *s = c->store[d];
        if (s->n > 1 || (s->n && (s->term[0].kind != AT_AXIS || s->term[0].coef != 1)))
            return false;
        p->axis[d] = s->n ? s->term[0].axis : -1;
        seen |= s->n ? 1u << s->term[0].axis : 0;
    }
    return !(e->axes & ~seen);
}

/* Is every load of the tensor in c at a place without gathers, and how many are there? */
static bool reads_plainly(const Whole *w, const Comp *c, int *n_load)
{
    enum { CAP = 64 };
    const Expr *load[CAP];
    int n = comp_loads(c, load, CAP);
    *n_load = 0;
    for (int i = 0; i < n && n <= CAP; i++)
        for (int d = 0; load[i]->tensor == w->tensor && d < load[i]->n; d++) {
            if (aff_has_atoms(load[i]->idx[d]))
                return false;
            *n_load += d == 0;
        }
    return n <= CAP;
}

static const Expr *and_also(Graph *g, const Expr *a, const Expr *b) { return a ? expr_op(g, OP_AND, a, b, NULL) : b; }

/* Is the point in the piece? NULL: always. */
static const Expr *in_piece(Graph *g, const Tensor *t, const Piece *p)
{
    const Expr *in = NULL;
    for (int d = 0; d < t->rank; d++) {
        Box b = p->box[d];
        const Expr *at = expr_index(g, aff_axis(g, d));
        if (b.n == t->shape[d] && !b.lo)
            continue;
        if (b.n == 1) {
            in = and_also(g, in, expr_op(g, OP_EQ, at, expr_const(g, (double)b.lo), NULL));
            continue;
        }
        if (b.lo)
            in = and_also(g, in, expr_op(g, OP_GE, at, expr_const(g, (double)b.lo), NULL));
        if (b.lo + b.n < t->shape[d])
            in = and_also(g, in, expr_op(g, OP_LT, at, expr_const(g, (double)(b.lo + b.n)), NULL));
    }
    return in;
}

/* A point's value when it is in the piece. One that is computed gets a tensor of its own, its box. */
static const Expr *value_in(Graph *g, const Tensor *t, Piece *p)
{
    const Affine *at[MAX_RANK], *map[MAX_AXES] = { NULL };
    for (int d = 0; d < t->rank; d++) {
        at[d] = p->box[d].n == 1 ? aff_const(g, 0) : aff_add(g, aff_axis(g, d), aff_const(g, -p->box[d].lo));
        if (p->copies && p->axis[d] >= 0)
            map[p->axis[d]] = at[d];
    }
    if (p->copies)
        return expr_subst(g, p->comp->body, map, p->comp->n_axes);
    Ext shape[MAX_RANK];
    for (int d = 0; d < t->rank; d++) {
        shape[d] = p->box[d].n;
        p->comp->store[d] = aff_add(g, p->comp->store[d], aff_const(g, -p->box[d].lo));
    }
    p->comp->out = graph_tensor(g, t->name, t->rank, shape, T_TEMP, t->dtype);
    g->tensor[p->comp->out].span = t->span;
    return expr_load(g, p->comp->out, at);
}

/* The last piece is for whatever is in no other: a constant, else the largest. */
static void order_pieces(Whole *w)
{
    int last = 0;
    for (int i = 1; i < w->n; i++) {
        bool constant = w->piece[i].comp->body->kind == E_CONST, before = w->piece[last].comp->body->kind == E_CONST;
        if (constant != before ? constant : w->piece[i].points > w->piece[last].points)
            last = i;
    }
    Piece p = w->piece[last];
    w->piece[last] = w->piece[w->n - 1];
    w->piece[w->n - 1] = p;
}

static void make_value(Whole *w)
{
    Graph *g = w->g;
    const Tensor t = g->tensor[w->tensor];
    w->value = value_in(g, &t, &w->piece[w->n - 1]);
    for (int i = w->n - 2; i >= 0; i--) {
        const Expr *x = value_in(g, &t, &w->piece[i]);
        w->value = expr_op(g, OP_WHERE, in_piece(g, &t, &w->piece[i]), x, w->value);
    }
}

static const Expr *see_whole(Graph *g, const Expr *load, void *ctx)
{
    const Whole *w = ctx;
    return load->tensor == w->tensor ? expr_subst(g, w->value, load->idx, load->n) : load;
}

/* The pieces of a tensor and whether it can be read like that. *one: its only reader, or NULL. */
static bool find_whole(Whole *w, const GraphIndex *x, Comp **one)
{
    Graph *g = w->g;
    const Tensor *t = &g->tensor[w->tensor];
    const CompList *pieces = &x->pieces[w->tensor], *users = &x->users[w->tensor];
    double filled = 0, other = 0;
    bool any = false;
    if (pieces->n < 2 || pieces->n > MOST_PIECES || !users->n || t->kind != T_TEMP || t->again || !dtype_real(t->dtype))
        return false;
    w->n = pieces->n;
    for (int i = 0; i < w->n; i++) {
        Piece *p = &w->piece[i];
        *p = (Piece){ .comp = pieces->at[i], .points = points(pieces->at[i]->ext, free_axes(pieces->at[i]), TYPICAL_BATCH) };
        if (!store_box(p->comp->store, t->rank, p->comp->ext, p->box))
            return false;
        p->copies = copies(g, p);
        any |= p->copies;
        *(p->comp->body->kind == E_CONST ? &filled : &other) += p->points;
    }
    int n_load = 0;
    for (int i = 0; i < users->n; i++) {
        Sides s;
        if (users->at[i]->reducer == RED_SCATTER || comp_sides(g, users->at[i], &s) || !reads_plainly(w, users->at[i], &n_load))
            return false;
    }
    *one = users->n == 1 ? users->at[0] : NULL;
    return any && (*one ? n_load <= MOST_LOADS : filled >= FILLED * other);
}

static void drop_copies(Whole *w)
{
    Graph *g = w->g;
    int kept = 0;
    for (int i = 0; i < g->n_comp; i++) {
        bool gone = false;
        for (int p = 0; p < w->n; p++)
            gone |= g->comp[i] == w->piece[p].comp && w->piece[p].copies;
        if (!gone)
            g->comp[kept++] = g->comp[i];
    }
    g->n_comp = kept;
}

int pass_whole(Graph *g)
{
    Arena a = { 0 };
    bool *root = roots_of(g, &a);
    GraphIndex x = graph_index(g, &a);
    int n = 0, n_tensor = g->n_tensor;
    for (int t = 0; t < n_tensor; t++) {
        Whole w = { .g = g, .tensor = t };
        Comp *one;
        if (root[t] || !find_whole(&w, &x, &one))
            continue;
        order_pieces(&w);
        make_value(&w);
        drop_copies(&w);
        const Tensor made = g->tensor[t];
        const Affine *store[MAX_RANK];
        for (int d = 0; d < made.rank; d++)
            store[d] = aff_axis(g, d);
        if (one)
            one->body = expr_map_loads(g, one->body, see_whole, &w);
        else
            graph_comp(g, t, made.rank, made.shape, 0, RED_NONE, w.value, store, made.span, w.piece[w.n - 1].comp->tag);
        x = graph_index(g, &a);                                /* what copies read, their reader reads now */
        n++;
    }
    if (n)
        graph_toposort(g);
    arena_free(&a);
    return n;
}
