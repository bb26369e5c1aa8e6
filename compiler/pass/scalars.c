/* scalars.c -- numbers that are made from numbers have no kernels of their own.
 *
 * exp(logit_scale), 1 / batch: a map without axes, of a few operations, is computed in each of its readers. There it stands in
 * front of the loops, where it costs nothing beside a launch. A contraction takes only factors (sides.c has moved numbers out of
 * its sum), so a number that one reads stays, and so does what a scatter reads. One that is an output is stored by whom greedy.c
 * finds, but read by nobody. */
#include "pass/fuse.h"

enum { MOST_OPS = 4 };

static void count_ops(const Expr *e, int *ops)
{
    *ops += e->kind == E_OP;
    for (int i = 0; e->kind == E_OP && i < e->n && *ops <= MOST_OPS; i++)
        count_ops(e->arg[i], ops);
}

static bool cheap(const Graph *g, const Comp *c)
{
    const Tensor *t = &g->tensor[c->out];
    int ops = 0;
    count_ops(c->body, &ops);
    return c->reducer == RED_NONE && !c->n_axes && !t->rank && t->kind == T_TEMP && t->dtype == DT_F32 && !t->again && ops <= MOST_OPS;
}

static const Expr *body_instead(Graph *g, const Expr *load, void *ctx)
{
    const Comp *c = ctx;
    return load->tensor == c->out ? c->body : load;
}

/* Do all readers take a number? */
static bool all_take(Graph *g, const GraphIndex *ix, int tensor)
{
    bool take = ix->users[tensor].n > 0;
    for (int i = 0; i < ix->users[tensor].n && take; i++) {
        const Comp *u = ix->users[tensor].at[i];
        Sides s;
        take = u->reducer != RED_SCATTER && !comp_sides(g, u, &s);
    }
    return take;
}

int pass_scalars(Graph *g)
{
    Arena a = { 0 };
    int n = 0;
    for (int i = 0; i < g->n_comp; i++) {
        Comp *c = g->comp[i];
        if (!cheap(g, c))
            continue;
        GraphIndex ix = graph_index(g, &a);                    /* what went before has changed who reads what */
        if (ix.pieces[c->out].n != 1 || !all_take(g, &ix, c->out))
            continue;
        for (int k = 0; k < ix.users[c->out].n; k++) {
            Comp *u = ix.users[c->out].at[k];
            u->body = expr_map_loads(g, u->body, body_instead, c);
        }
        n++;
    }
    arena_free(&a);
    return n;
}
