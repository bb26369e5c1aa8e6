/* sink.c -- a copy moves into its producer.
 *
 *     y[b, t, e] = sum[i](...)      v[b, 1 + t, e] = y[b, t, e]      becomes      v[b, 1 + t, e] = sum[i](...)
 *
 * when the copy takes all of y, y has one piece, and nobody else reads y. The copy's store map, applied to the
 * producer's, is the new store map; so head splits, paddings and concatenations cost nothing. */
#include "pass/pass.h"

/* Is v a copy of a whole tensor, element by element? axis[d]: the axis of v that runs along dimension d, or -1: the one point
 * there is. */
static bool copies_whole(const Graph *g, const Comp *v, int *axis)
{
    const Expr *e = v->body;
    if (v->reducer != RED_NONE || e->kind != E_LOAD)
        return false;
    const Tensor *t = &g->tensor[e->tensor];
    uint32_t seen = 0;
    for (int d = 0; d < e->n; d++) {
        axis[d] = aff_plain(e->idx[d]);
        if (axis[d] < 0 && t->shape[d] == 1 && !e->idx[d]->n)
            continue;
        if (axis[d] < 0 || seen >> axis[d] & 1 || v->ext[axis[d]] != t->shape[d])
            return false;
        seen |= 1u << axis[d];
    }
    return seen == axes_mask(v->n_axes) && t->kind == T_TEMP && t->dtype == g->tensor[v->out].dtype;
}

int pass_sink(Graph *g)
{
    Arena a = { 0 };
    bool *root = roots_of(g, &a);
    GraphIndex ix = graph_index(g, &a);
    int n = 0, kept = 0;
    /* by tensor: the Comp that now makes it, when sinks follow each other */
    Comp **producer = NEWN(&a, Comp *, g->n_tensor);
    for (int i = 0; i < g->n_comp; i++) {
        Comp *v = g->comp[i];
        int axis[MAX_RANK], t = v->body->kind == E_LOAD ? v->body->tensor : -1;
        g->comp[kept++] = v;
        if (t < 0 || !copies_whole(g, v, axis) || root[t] || ix.pieces[t].n != 1 || ix.users[t].n != 1)
            continue;
        Comp *q = producer[t] ? producer[t] : ix.pieces[t].at[0];
        if (q->reducer == RED_SCATTER)
            continue;
        const Affine *map[MAX_AXES] = { NULL };
        for (int d = 0; d < v->body->n; d++)
            if (axis[d] >= 0)
                map[axis[d]] = q->store[d];
        const Affine *store[MAX_RANK] = { NULL };
        for (int d = 0; d < g->tensor[v->out].rank; d++)
            store[d] = aff_subst(g, v->store[d], map, v->n_axes);
        for (int d = 0; d < MAX_RANK; d++)
            q->store[d] = store[d];
        q->out = v->out;
        producer[v->out] = q;                                  /* only asked for when v->out has one piece */
        kept--;
        n++;
    }
    g->n_comp = kept;
    arena_free(&a);
    if (n)
        graph_toposort(g);
    return n;
}
