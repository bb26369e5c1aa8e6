/* derivative.c -- what the backward pass takes of a saved value is saved instead of the value.
 *
 *     y[m, n] = x W + b             bf16, saved for the backward pass
 *     g[m, n] = gelu(y)             where y is made
 *     dy[m, n] = dg * gelu'(y)      long after
 * becomes
 *     g[m, n] = gelu(y)
 *     f[m, n] = gelu'(y)            there too: it shares its exponentials with g, and y is no longer stored
 *     dy[m, n] = dg * f             one product in the epilogue of the contraction that makes dg
 *
 * For a y of bf16 that two maps read, of which one is linear in another tensor and knows nothing else. y stays in registers
 * and so is f32 again; f is bf16, as y was. */
#include "pass/pass.h"

typedef struct { int linear, value; } Roles;                   /* dg and y */

/* e holds nothing but y and constants */
static bool is_function(const Expr *e, Roles r)
{
    if (e->kind == E_LOAD)
        return e->tensor == r.value;
    if (e->kind != E_OP)
        return e->kind == E_CONST;
    for (int i = 0; i < e->n; i++)
        if (!is_function(e->arg[i], r))
            return false;
    return true;
}

/* e is dg times such a thing */
static bool is_linear(const Expr *e, Roles r)
{
    if (e->kind == E_LOAD)
        return e->tensor == r.linear;
    if (e->kind != E_OP)
        return false;
    switch (e->op) {
    case OP_MUL: return (is_linear(e->arg[0], r) && is_function(e->arg[1], r)) || (is_function(e->arg[0], r) && is_linear(e->arg[1], r));
    case OP_DIV: return is_linear(e->arg[0], r) && is_function(e->arg[1], r);
    case OP_ADD:
    case OP_SUB: return is_linear(e->arg[0], r) && is_linear(e->arg[1], r);
    case OP_NEG: return is_linear(e->arg[0], r);
    default: return false;
    }
}

typedef struct { Roles r; const Affine *const *idx; } Factor;

/* dg becomes 1, y is read at the point that `idx` names */
static const Expr *to_factor(Graph *g, const Expr *load, void *ctx)
{
    const Factor *f = ctx;
    return load->tensor == f->r.linear ? expr_const(g, 1) : expr_load(g, f->r.value, f->idx);
}

/* The loads of map c: one of each tensor, y's at bare axes that run through all of it. */
static bool find_roles(const Graph *g, const Comp *c, int y, const Expr **linear, const Expr **value)
{
    const Expr *load[2];
    uint32_t seen = 0;
    if (c->red || comp_loads(c, load, 2) != 2 || load[0]->tensor == load[1]->tensor)
        return false;
    *value = load[load[1]->tensor == y];
    *linear = load[load[0]->tensor == y];
    if ((*value)->tensor != y)
        return false;
    for (int d = 0; d < g->tensor[y].rank; d++) {
        int a = aff_plain((*value)->idx[d]);
        if (a < 0 || (seen >> a & 1) || c->ext[a] != g->tensor[y].shape[d])
            return false;
        seen |= 1u << a;
    }
    return true;
}

static bool save_derivative(Graph *g, int y, Comp *c)
{
    const Expr *linear, *value;
    const Affine *idx[MAX_RANK];
    Ext shape[MAX_RANK];
    int rank = g->tensor[y].rank;
    if (!find_roles(g, c, y, &linear, &value))
        return false;
    Factor f = { { linear->tensor, y }, idx };
    if (!is_linear(c->body, f.r) || expr_size(c->body) < 4)
        return false;
    for (int d = 0; d < rank; d++) {
        idx[d] = aff_axis(g, d);
        shape[d] = g->tensor[y].shape[d];
    }
    const char *name = arena_printf(g->arena, "%s.slope", g->tensor[y].name);
    int t = graph_tensor(g, name, rank, shape, T_TEMP, DT_BF16);
    g->tensor[t].span = c->span;
    g->tensor[y].dtype = DT_F32;
    graph_comp(g, t, rank, shape, 0, RED_NONE, expr_map_loads(g, c->body, to_factor, &f), idx, c->span, c->tag);
    c->body = expr_op(g, OP_MUL, linear, expr_load(g, t, value->idx), NULL);
    return true;
}

int pass_derivative(Graph *g)
{
    Arena a = { 0 };
    GraphIndex index = graph_index(g, &a);
    int n = g->n_tensor, changed = 0;
    for (int y = 0; y < n; y++) {
        const CompList *users = &index.users[y];
        if (g->tensor[y].kind != T_TEMP || g->tensor[y].dtype != DT_BF16 || graph_is_root(g, y) || users->n != 2
            || index.pieces[y].n != 1 || users->at[0]->red || users->at[1]->red)
            continue;
        /* the later of the two readers, in the order of definitions */
        if (save_derivative(g, y, users->at[1]))
            changed++;
    }
    arena_free(&a);
    graph_toposort(g);
    return changed;
}
