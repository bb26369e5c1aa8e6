/* square.c -- tensors that grow with the square of the batch: as few of them as there can be.
 *
 * Where every pair of samples meets (the loss), a tensor [batch, batch] outgrows all others with the batch, so one that can be
 * done without is done without:
 *
 *   diagonal   x[i, i] is read from a tensor of its own, which is [batch] and has a kernel of its own: whoever else reads x
 *              then reads it point by point, and what is made from x may be written over it            (inplace.c)
 *   cheap      scale * x[i, j] + bias is computed in each of its readers, when x itself has others. A contraction takes
 *              only factors: they move out of its sum                                                  (sides.c)
 *   totals     sum[i, j](..) is sum[i](sum[j](..)): the kernel that goes along the rows of an operand makes the inner sums,
 *              and the operand need not be read once more
 *
 * So of the logits of a contrastive loss, their scaled form, their gradient and its scaled form the first is left, and the
 * gradient takes its place. */
#include "pass/kernel.h"
#include "pass/pass.h"
#include <string.h>

enum { MOST_OPS = 12 };                                        /* of what is cheap */

bool grows_squarely(const Graph *g, int tensor)
{
    return tensor_bytes(g, tensor).c[2] > 0;
}

/* Every index is a bare axis; distinct ones if `apart`. */
static bool plain_load(const Expr *l, bool apart)
{
    uint32_t seen = 0;
    for (int d = 0; d < l->n; d++) {
        int axis = aff_plain(l->idx[d]);
        if (axis < 0 || (apart && seen >> axis & 1))
            return false;
        seen |= 1u << axis;
    }
    return true;
}

typedef struct Swap { const Expr *from, *to; } Swap;

static const Expr *swap_load(Graph *g, const Expr *load, void *ctx)
{
    const Swap *s = ctx;
    return load == s->from ? s->to : load;
}

/* ---- diagonals */

static bool diagonal(const Graph *g, const Comp *c, const Expr *l)
{
    int batches = 0;
    for (int a = 0; a < c->n_axes; a++)
        batches += (l->axes >> a & 1) && c->ext[a] == EXT_BATCH;
    return batches < 2 && grows_squarely(g, l->tensor) && plain_load(l, false);
}

bool makes_diagonal(const Graph *g, const Comp *c)
{
    enum { CAP = 8 };
    const Expr *load[CAP];
    int n = comp_loads(c, load, CAP), found = 0;
    for (int i = 0; i < n && i < CAP; i++) {
        bool own = diagonal(g, c, load[i]);
        if (load[i]->n && !own)
            return false;
        found += own;
    }
    return found == 1 && n <= CAP && c->reducer == RED_NONE;
}

/* A tensor of the points that load l of c reads, and the load of it that says the same. */
static const Expr *own_tensor(Graph *g, const Comp *c, const Expr *l)
{
    const Affine *map[MAX_AXES] = { NULL }, *store[MAX_RANK] = { NULL }, *idx[MAX_RANK] = { NULL };
    Ext ext[MAX_AXES];
    int n = 0;
    for (int a = 0; a < c->n_axes; a++)
        if (l->axes >> a & 1) {
            map[a] = store[n] = aff_axis(g, n);
            idx[n] = aff_axis(g, a);
            ext[n++] = c->ext[a];
        }
    const Tensor of = g->tensor[l->tensor];
    int t = graph_tensor(g, arena_printf(g->arena, "%s.diagonal", of.name), n, ext, T_TEMP, of.dtype);
    g->tensor[t].span = of.span;
    graph_comp(g, t, n, ext, 0, RED_NONE, expr_subst(g, l, map, c->n_axes), store, c->span, c->tag);
    return expr_load(g, t, idx);
}

static int part_diagonals(Graph *g, Arena *a)
{
    int n = 0, n_comp = g->n_comp;
    for (int i = 0; i < n_comp; i++) {
        Comp *c = g->comp[i];
        int n_load;
        const Expr **load = comp_all_loads(c, a, &n_load);
        for (int k = 0; k < n_load && !makes_diagonal(g, c); k++)
            if (diagonal(g, c, load[k])) {
                Swap s = { load[k], own_tensor(g, c, load[k]) };
                c->body = expr_map_loads(g, c->body, swap_load, &s);
                n++;
            }
    }
    return n;
}

/* ---- cheap maps */

/* Counts operations and finds the one load that is no scalar; false: there are others, or something takes long. */
static bool cheap(const Expr *e, const Expr **load, int *ops)
{
    if (e->kind == E_LOAD && e->n) {
        bool other = *load && *load != e;
        *load = e;
        return !other;
    }
    if (e->kind != E_OP)
        return true;
    bool quick = op_info[e->op].compares || e->op == OP_ADD || e->op == OP_SUB || e->op == OP_MUL || e->op == OP_NEG ||
                 e->op == OP_ABS || e->op == OP_MAX || e->op == OP_MIN || e->op == OP_WHERE;
    ++*ops;
    for (int i = 0; i < e->n && quick && *ops <= MOST_OPS; i++)
        quick = cheap(e->arg[i], load, ops);
    return quick && *ops <= MOST_OPS;
}

/* The load that Comp c is a cheap map of, or NULL. */
static const Expr *cheap_source(const Graph *g, const Comp *c)
{
    const Tensor *t = &g->tensor[c->out];
    const Expr *load = NULL;
    int ops = 0;
    if (c->reducer != RED_NONE || t->kind != T_TEMP || t->again || !grows_squarely(g, c->out) || !store_plain(c, t->rank, NULL))
        return NULL;
    if (!cheap(c->body, &load, &ops) || !ops || !load || !plain_load(load, true) || load->axes != axes_mask(c->n_axes))
        return NULL;
    const Tensor *from = &g->tensor[load->tensor];
    return from->kind == T_TEMP && from->dtype == t->dtype && !from->again ? load : NULL;
}

/* load times numbers without an axis */
static bool only_factors(Graph *g, const Expr *body, const Expr *load)
{
    Product p;
    int n = 0;
    if (!product_of(g, body, &p) || p.n_guard)
        return false;
    for (int i = 0; i < p.n; i++) {
        n += p.factor[i] == load;
        if (p.factor[i] != load && p.factor[i]->axes)
            return false;
    }
    return n == 1;
}

/* Can every load of c's result be c's body? */
static bool all_take(const Comp *c, bool factors, const GraphIndex *ix, Arena *a)
{
    for (int i = 0; i < ix->users[c->out].n; i++) {
        const Comp *u = ix->users[c->out].at[i];
        int n;
        const Expr **load = comp_all_loads(u, a, &n);
        bool reads = false;
        for (int k = 0; k < n; k++) {
            bool own = load[k]->tensor == c->out;
            reads |= own;
            if (own && (!plain_load(load[k], false) || (u->reducer == RED_SUM && u->n_axes > c->n_axes && !factors)))
                return false;
            for (int d = 0; d < load[k]->n && !own; d++)
                if (aff_has_atoms(load[k]->idx[d]))
                    return false;
        }
        if (!reads || u->reducer == RED_SCATTER)
            return false;
    }
    return true;
}

typedef struct { const Comp *c; int axis[MAX_RANK]; } Inline;

static const Expr *body_instead(Graph *g, const Expr *load, void *ctx)
{
    const Inline *in = ctx;
    const Affine *map[MAX_AXES] = { NULL };
    if (load->tensor != in->c->out)
        return load;
    for (int d = 0; d < load->n; d++)
        map[in->axis[d]] = load->idx[d];
    return expr_subst(g, in->c->body, map, in->c->n_axes);
}

static int inline_cheap(Graph *g, Arena *a)
{
    bool *root = roots_of(g, a);
    int n = 0;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        const Expr *load = cheap_source(g, c);
        if (!load || root[c->out])
            continue;
        GraphIndex ix = graph_index(g, a);                                /* what went before has changed who reads what */
        if (ix.pieces[c->out].n != 1 || ix.users[load->tensor].n < 2 || !ix.users[c->out].n ||
            !all_take(c, only_factors(g, c->body, load), &ix, a))
            continue;
        Inline in = { .c = c };
        store_plain(c, g->tensor[c->out].rank, in.axis);
        for (int k = 0; k < ix.users[c->out].n; k++) {
            Comp *u = ix.users[c->out].at[k];
            u->body = expr_map_loads(g, u->body, body_instead, &in);
        }
        n++;
    }
    return n;
}

/* ---- totals */

static bool sum_by_rows(Graph *g, Comp *c, Arena *a)
{
    const Expr *big = NULL;
    if (c->reducer != RED_SUM || free_axes(c) || c->n_axes < 2 || g->tensor[c->out].dtype != DT_F32)
        return false;
    int n_load;
    const Expr **load = comp_all_loads(c, a, &n_load);
    for (int k = 0; k < n_load; k++)
        if (grows_squarely(g, load[k]->tensor) && plain_load(load[k], true) && load[k]->axes == axes_mask(c->n_axes))
            big = big ? big : load[k];
    if (!big)
        return false;
    const Affine *map[MAX_AXES] = { NULL }, *store[MAX_RANK] = { NULL };
    Ext ext[MAX_AXES];
    int n = big->n - 1;
    for (int d = 0; d < big->n; d++) {                         /* rows first, the axis along a row behind them */
        int axis = aff_plain(big->idx[d]);
        map[axis] = aff_axis(g, d);
        ext[d] = c->ext[axis];
        store[d] = d < n ? map[axis] : NULL;
    }
    int t = graph_tensor(g, arena_printf(g->arena, "%s.rows", g->tensor[c->out].name), n, ext, T_TEMP, DT_F32);
    g->tensor[t].span = c->span;
    graph_comp(g, t, n + 1, ext, 1u << n, RED_SUM, expr_subst(g, c->body, map, c->n_axes), store, c->span, c->tag);
    c->n_axes = n;
    c->red = axes_mask(n);
    memcpy(c->ext, ext, (size_t)n * sizeof *ext);
    c->body = expr_load(g, t, store);
    return true;
}

int pass_square(Graph *g)
{
    Arena a = { 0 };
    int n = part_diagonals(g, &a), n_comp = g->n_comp;
    n += inline_cheap(g, &a);
    for (int i = 0; i < n_comp; i++)
        n += sum_by_rows(g, g->comp[i], &a);
    arena_free(&a);
    if (n)
        graph_toposort(g);
    return n;
}
