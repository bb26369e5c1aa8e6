/* views.c -- a load of a copy reads what was copied.
 *
 *     q[b, h, t, i] = qkv[b, t, h*c + i]        s = sum[i](q[b, h, t, i] * ...)
 *
 * The load of q becomes a load of qkv and q is left without readers. The same for a tensor that is a constant, and
 * for one piece of a tensor when the load stays inside the piece's box. In topological order the source itself has
 * been rewritten before, so one walk follows chains of copies to the end.
 *
 * Not through gathers: a gather read at several places would become several gathers, and its gradient several
 * scatters. Not out of named outputs: they exist anyway, and reading them keeps the source's life short. */
#include "pass/pass.h"
#include <string.h>

typedef struct {
    const Comp *comp;
    Box box[MAX_RANK];
    int axis[MAX_RANK];                                        /* of comp, or -1: a constant position */
} View;

typedef struct {
    const Graph *g;
    View **first;                                              /* by tensor: its pieces that are views */
    int *n_first, *n_pieces;
    const Comp *reader;
    int n;
} Views;

static bool is_copy(const Graph *g, const Comp *c)
{
    const Expr *e = c->body;
    if (c->reducer != RED_NONE)
        return false;
    if (e->kind == E_CONST || e->kind == E_EXTENT)
        return g->tensor[c->out].dtype != DT_I32;
    if (e->kind != E_LOAD || g->tensor[e->tensor].dtype != g->tensor[c->out].dtype)
        return false;
    for (int d = 0; d < e->n; d++)
        if (aff_has_atoms(e->idx[d]))
            return false;
    return true;
}

static bool make_view(const Graph *g, const Comp *c, View *v)
{
    int rank = g->tensor[c->out].rank;
    uint32_t seen = 0;
    if (!is_copy(g, c) || !store_box(c->store, rank, c->ext, v->box))
        return false;
    v->comp = c;
    for (int d = 0; d < rank; d++) {
        const Affine *s = c->store[d];
        if (s->n > 1 || (s->n == 1 && (s->term[0].kind != AT_AXIS || s->term[0].coef != 1)))
            return false;
        v->axis[d] = s->n ? s->term[0].axis : -1;
        seen |= s->n ? 1u << s->term[0].axis : 0;
    }
    return !(c->body->axes & ~seen);
}

/* Does the load stay in the piece? Judged at two batch sizes: an affine map over batch axes is in range of a
 * constant box for all batches only if it does not grow. */
static bool inside(const Views *s, const Affine *x, const Box *box, Ext extent)
{
    if (box->n == extent)
        return true;                                           /* the whole dimension: in range already */
    for (int64_t batch = 1; batch <= 1 << 20; batch <<= 20) {
        int64_t lo, hi;
        if (!aff_range(x, s->reader->ext, batch, &lo, &hi) || lo < box->lo || hi >= box->lo + box->n)
            return false;
    }
    return true;
}

static const Expr *see_through(Graph *g, const Expr *load, void *ctx)
{
    Views *s = ctx;
    int t = load->tensor;
    for (int i = 0; i < s->n_first[t]; i++) {
        const View *v = &s->first[t][i];
        const Affine *map[MAX_AXES] = { NULL };
        bool all = true;
        for (int d = 0; d < load->n && all; d++) {
            all = s->n_pieces[t] == 1 || inside(s, load->idx[d], &v->box[d], g->tensor[t].shape[d]);
            if (all && v->axis[d] >= 0)
                map[v->axis[d]] = aff_add(g, load->idx[d], aff_const(g, -v->comp->store[d]->c));
        }
        if (!all)
            continue;
        s->n++;
        return expr_subst(g, v->comp->body, map, v->comp->n_axes);
    }
    return load;
}

/* any load of c that reads a view */
static bool reads_view(const Views *s, const Comp *c, const Expr **load, int cap)
{
    int n = comp_loads(c, load, cap);
    for (int i = 0; i < (n < cap ? n : cap); i++)
        if (s->n_first[load[i]->tensor])
            return true;
    return n > cap;
}

int pass_views(Graph *g)
{
    Arena a = { 0 };
    bool *root = roots_of(g, &a);
    Views s = { .g = g, .first = NEWN(&a, View *, g->n_tensor), .n_first = NEWN(&a, int, g->n_tensor),
                .n_pieces = NEWN(&a, int, g->n_tensor) };
    enum { CAP = 256 };
    const Expr **load = NEWN(&a, const Expr *, CAP);
    for (int i = 0; i < g->n_comp; i++)
        s.n_pieces[g->comp[i]->out]++;
    for (int i = 0; i < g->n_comp; i++) {
        Comp *c = g->comp[i];
        if (reads_view(&s, c, load, CAP)) {
            s.reader = c;
            c->body = expr_map_loads(g, c->body, see_through, &s);
            for (int d = 0; d < g->tensor[c->out].rank; d++)
                c->store[d] = aff_map_loads(g, c->store[d], see_through, &s);
        }
        View v;
        if (root[c->out] || g->tensor[c->out].kind != T_TEMP || !make_view(g, c, &v))
            continue;
        int t = c->out;
        if (!s.first[t])
            s.first[t] = NEWN(&a, View, s.n_pieces[t]);
        s.first[t][s.n_first[t]++] = v;
    }
    arena_free(&a);
    return s.n;
}

int pass_dce(Graph *g)
{
    graph_toposort(g);
    return graph_dce(g);
}
