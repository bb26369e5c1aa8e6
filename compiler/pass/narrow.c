/* narrow.c -- computes only what is read.
 *
 *     z[b, o] = sum[d](h[b, 0, d] * proj[d, o])        only row 0 of h is read: h'[b, d] replaces h[b, t, d]
 *     y[b, d] = h[b, at[b], d]                         only row at[b]
 *
 * When every load of a tensor names the same row of a dimension -- a constant, or an integer tensor looked up at the
 * load's own other dimensions -- the dimension goes, and the tensor's equation is evaluated at that row. Its own
 * operands are then read at that row too, so the walk goes backwards: after the last attention of a tower only the
 * class token's row (image) or the end-of-text row (text) goes on, and of the last attention only that query.
 *
 * A sum of products that would look up a row becomes a copy of the row and a plain sum: contractions have no gathers.
 * Runs before the gradient, so that the backward pass is narrow as well. */
#include "pass/pass.h"
#include <string.h>

typedef struct {
    Graph *g;
    const bool *root;
    int tensor, to, dim;             /* being replaced */
    int n;
} Narrow;

/* The row that a load names in dimension d, as a map over the tensor's dimensions; NULL: no single row. */
static const Affine *row_of(Graph *g, const Expr *load, int d)
{
    const Affine *a = load->idx[d], *map[MAX_RANK];
    int64_t c;
    if (aff_is_const(a, &c))
        return a;
    if (a->n != 1 || a->c || a->term[0].kind != AT_LOAD || a->term[0].coef != 1)
        return NULL;
    const Expr *at = a->term[0].load;
    if (at->kind != E_LOAD)
        return NULL;
    for (int k = 0; k < at->n; k++) {
        int axis = aff_plain(at->idx[k]), e = 0;
        while (axis >= 0 && e < load->n && aff_plain(load->idx[e]) != axis)
            e++;
        if (axis < 0 || e == load->n)
            return NULL;
        map[k] = aff_axis(g, e);
    }
    return aff_load(g, expr_load(g, at->tensor, map));
}

/* Every load of tensor t in c names `row` of dimension d (*row NULL: not known yet). */
static bool agrees(Graph *g, const Comp *c, int t, int d, const Affine **row)
{
    enum { CAP = 256 };
    const Expr *load[CAP];
    int n = comp_loads(c, load, CAP);
    for (int i = 0; i < n && n <= CAP; i++) {
        if (load[i]->tensor != t)
            continue;
        const Affine *r = row_of(g, load[i], d);
        if (!r || (*row && *row != r))
            return false;
        *row = r;
    }
    return n <= CAP;
}

/* ---- the equations of the tensor */

/* What becomes of a piece: the axis to replace (-1: none), whether the piece holds the row at all. */
typedef struct { int axis; bool holds, known; } PieceRow;

static PieceRow piece_row(const Graph *g, const Comp *c, int d, const Affine *row)
{
    PieceRow p = { -1, false, false };
    const Affine *s = c->store[d];
    int64_t at = 0;
    bool constant = aff_is_const(row, &at);
    if (!s->n) {
        p.known = constant;
        p.holds = constant && s->c == at;
        return p;
    }
    Box box;
    int order[MAX_AXES];
    if (store_radix(s, c->ext, order, &box) < 0)
        return p;
    if (constant && (at < box.lo || (box.n != EXT_BATCH && at >= box.lo + box.n))) {
        p.known = true;
        return p;
    }
    if (s->n != 1 || s->term[0].kind != AT_AXIS || s->term[0].coef != 1)
        return p;
    p.axis = s->term[0].axis;
    p.known = constant || (s->c == 0 && box.n == g->tensor[c->out].shape[d]);
    p.holds = p.known;
    return p;
}

static bool makes_sums(const Comp *c)
{
    return c->reducer == RED_SUM;
}

/* A load with a looked-up row, inside a sum: a copy of that row over the axes the load uses. */
static const Expr *copy_row(Graph *g, const Expr *load, void *ctx)
{
    const Comp *c = ctx;
    const Affine *map[MAX_AXES] = { NULL }, *plain[MAX_RANK], *store[MAX_RANK];
    Ext ext[MAX_AXES];
    bool atoms = false;
    int n = 0;
    for (int d = 0; d < load->n; d++)
        atoms |= aff_has_atoms(load->idx[d]);
    if (!atoms || g->tensor[load->tensor].dtype != DT_F32 || __builtin_popcount(load->axes) > MAX_RANK)
        return load;
    for (int k = 0; k < c->n_axes; k++) {
        if (!(load->axes >> k & 1))
            continue;
        ext[n] = c->ext[k];
        plain[n] = aff_axis(g, k);
        store[n] = map[k] = aff_axis(g, n);
        n++;
    }
    int t = graph_tensor(g, g->tensor[load->tensor].name, n, ext, T_TEMP, DT_F32);
    g->tensor[t].span = c->span;
    graph_comp(g, t, n, ext, 0, RED_NONE, expr_subst(g, load, map, c->n_axes), store, c->span, c->tag);
    return expr_load(g, t, plain);
}

static void rewrite_piece(Narrow *s, Comp *c, PieceRow p, const Affine *row)
{
    Graph *g = s->g;
    const Affine *map[MAX_AXES] = { NULL }, *store[MAX_RANK], *at = row;
    int rank = g->tensor[c->out].rank, n = 0, left = 0;
    if (p.axis >= 0) {
        const Affine *dims[MAX_RANK];
        int64_t constant;
        for (int d = 0; d < rank; d++)
            dims[d] = c->store[d];
        at = aff_is_const(row, &constant) ? row : aff_subst(g, row, dims, rank);
        at = aff_add(g, at, aff_const(g, -c->store[s->dim]->c));
        Ext ext[MAX_AXES];
        uint32_t red = 0;
        for (int k = 0; k < c->n_axes; k++) {
            if (k == p.axis)
                continue;
            ext[n] = c->ext[k];
            red |= (c->red >> k & 1) << n;
            map[k] = aff_axis(g, n++);
        }
        map[p.axis] = aff_subst(g, at, map, c->n_axes);
        memcpy(c->ext, ext, sizeof *ext * (size_t)n);
        c->red = red;
        c->body = expr_subst(g, c->body, map, c->n_axes);
        for (int d = 0; d < rank; d++)
            c->store[d] = d == s->dim ? NULL : aff_subst(g, c->store[d], map, c->n_axes);
        c->n_axes = n;
    }
    for (int d = 0; d < rank; d++) {
        if (d != s->dim)
            store[left++] = c->store[d];
    }
    for (int d = 0; d < rank; d++)
        c->store[d] = d < left ? store[d] : NULL;
    c->out = s->to;
    if (p.axis >= 0 && makes_sums(c)) {
        Comp copy = *c;              /* graph_comp may move the list, not the Comps; axes stay those of c */
        c->body = expr_map_loads(g, c->body, copy_row, &copy);
    }
}

/* ---- its readers */

static const Expr *drop_dim(Graph *g, const Expr *load, void *ctx)
{
    const Narrow *s = ctx;
    const Affine *idx[MAX_RANK];
    if (load->tensor != s->tensor)
        return load;
    for (int d = 0, k = 0; d < load->n; d++) {
        if (d != s->dim)
            idx[k++] = load->idx[d];
    }
    return expr_load(g, s->to, idx);
}

static void rewrite_reader(Narrow *s, Comp *c)
{
    c->body = expr_map_loads(s->g, c->body, drop_dim, s);
    for (int d = 0; d < s->g->tensor[c->out].rank; d++)
        c->store[d] = aff_map_loads(s->g, c->store[d], drop_dim, s);
}

/* One dimension of one tensor, when all its readers agree. */
static bool narrow_dim(Narrow *s, const GraphIndex *x, int t, int d)
{
    Graph *g = s->g;
    const Affine *row = NULL;
    const CompList *pieces = &x->pieces[t], *users = &x->users[t];
    PieceRow p[8];
    bool held = false;
    if (g->tensor[t].shape[d] < 2 || pieces->n > (int)LEN(p))
        return false;
    for (int i = 0; i < users->n; i++) {
        if (!agrees(g, users->at[i], t, d, &row))
            return false;
    }
    if (!row)
        return false;
    for (int i = 0; i < pieces->n; i++) {
        p[i] = piece_row(g, pieces->at[i], d, row);
        if (!p[i].known)
            return false;
        held |= p[i].holds;
    }
    int64_t constant;
    if (!held || (!aff_is_const(row, &constant) && pieces->n != 1))
        return false;
    Tensor old = g->tensor[t];
    Ext shape[MAX_RANK];
    for (int e = 0, k = 0; e < old.rank; e++) {
        if (e != d)
            shape[k++] = old.shape[e];
    }
    s->tensor = t;
    s->dim = d;
    s->to = graph_tensor(g, old.name, old.rank - 1, shape, T_TEMP, old.dtype);
    g->tensor[s->to].span = old.span;
    for (int i = 0; i < pieces->n; i++) {
        if (p[i].holds)
            rewrite_piece(s, pieces->at[i], p[i], row);        /* the others have no readers left: dce */
    }
    for (int i = 0; i < users->n; i++)
        rewrite_reader(s, users->at[i]);
    s->n++;
    return true;
}

int pass_narrow(Graph *g)
{
    Arena a = { 0 };
    Narrow s = { .g = g };
    bool again = true;
    while (again) {                  /* a round a tensor: users change with every step, and only a few tensors do */
        again = false;
        s.root = roots_of(g, &a);
        GraphIndex x = graph_index(g, &a);
        for (int i = g->n_comp - 1; i >= 0 && !again; i--) {
            int t = g->comp[i]->out;
            if (g->tensor[t].kind != T_TEMP || s.root[t] || !x.users[t].n)
                continue;
            for (int d = 0; d < g->tensor[t].rank && !again; d++)
                again = narrow_dim(&s, &x, t, d);
        }
        graph_toposort(g);
        graph_dce(g);
    }
    arena_free(&a);
    return s.n;
}
