/* cse.c -- Comps that are equal up to the numbers of their axes become one.
 *
 * Only tensors of one piece. A named output may stand for an equal tensor but is never dropped itself; the value of
 * an update does neither, since it will live in the target's memory. Readers are redirected in the same walk, so a
 * chain of equal Comps collapses from its beginning. */
#include "pass/pass.h"

typedef struct {
    int *to;                                                   /* by tensor: what to read instead */
    bool any;
} Renames;

static const Expr *redirect(Graph *g, const Expr *load, void *ctx)
{
    const Renames *r = ctx;
    return r->to[load->tensor] == load->tensor ? load : expr_load(g, r->to[load->tensor], load->idx);
}

int pass_cse(Graph *g)
{
    Arena a = { 0 };
    bool *root = roots_of(g, &a), *update = NEWN(&a, bool, g->n_tensor);
    Renames r = { .to = NEWN(&a, int, g->n_tensor) };
    int *n_pieces = NEWN(&a, int, g->n_tensor), kept = 0, n = 0;
    Canon *canon = NEWN(&a, Canon, g->n_comp);
    HashMap seen = { 0 };
    enum { CAP = 256 };
    const Expr **load = NEWN(&a, const Expr *, CAP);
    for (int i = 0; i < g->n_tensor; i++)
        r.to[i] = i;
    for (int i = 0; i < g->n_comp; i++)
        n_pieces[g->comp[i]->out]++;
    for (int i = 0; i < g->n_update; i++)
        update[g->update[i].value] = true;
    for (int i = 0; i < g->n_comp; i++) {
        Comp *c = g->comp[i];
        bool touched = false;
        int n_load = r.any ? comp_loads(c, load, CAP) : 0;
        for (int j = 0; j < n_load && !touched; j++)
            touched = j >= CAP || r.to[load[j]->tensor] != load[j]->tensor;
        if (touched) {
            c->body = expr_map_loads(g, c->body, redirect, &r);
            for (int d = 0; d < g->tensor[c->out].rank; d++)
                c->store[d] = aff_map_loads(g, c->store[d], redirect, &r);
        }
        g->comp[kept++] = c;
        if (n_pieces[c->out] > 1 || update[c->out] || g->tensor[c->out].again)
            continue;
        canon[kept - 1] = comp_canon(g, c, true);
        int at = -1, other, found = -1;
        while (found < 0 && hash_next(&seen, canon[kept - 1].hash, &at, &other))
            if (canon_equal(&canon[other], &canon[kept - 1]) &&
                same_form(&g->tensor[g->comp[other]->out], &g->tensor[c->out]))
                found = other;
        if (found < 0) {
            hash_put(&a, &seen, canon[kept - 1].hash, kept - 1);
        } else if (!root[c->out]) {
            r.to[c->out] = g->comp[found]->out;
            r.any = true;
            kept--;
            n++;
        }
    }
    g->n_comp = kept;
    arena_free(&a);
    return n;
}
