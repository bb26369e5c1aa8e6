/* grad.c -- reverse-mode differentiation: Comps in, Comps out.
 *
 * Tensors are visited from the last to the first. When tensor T is reached, all that uses it has been visited, so
 * its shares are complete and grad_combine makes dT. Then each Comp that defines T is differentiated:
 *
 *     out[store] = reducer of body        seed = dOut[store]
 *
 *     none, sum      the seed itself (a sum passes it to every point)
 *     logsumexp      seed * exp(body - out[store])
 *     max, min       seed at the first extremum, else 0; the position is an argmax of its own
 *     argmax         nothing
 *
 * and the scalar body once, backwards, with one rule per row of ops.def. The adjoint of each load T[L] is a share of
 * dT. Index maps have no gradient, nor have i32 and f64 tensors. */
#include "ir/grad.h"
#include <math.h>
#include <string.h>

/* ---- one rule per op: given e = op(x, y, z) and its adjoint s, the adjoints of the arguments. NULL: none. */

#define ADD(a, b) expr_op(g, OP_ADD, a, b, NULL)
#define SUB(a, b) expr_op(g, OP_SUB, a, b, NULL)
#define MUL(a, b) expr_op(g, OP_MUL, a, b, NULL)
#define DIV(a, b) expr_op(g, OP_DIV, a, b, NULL)
#define NEG(a) expr_op(g, OP_NEG, a, NULL, NULL)
#define CALL(op, a) expr_op(g, OP_##op, a, NULL, NULL)
#define TEST(op, a, b) expr_op(g, OP_##op, a, b, NULL)
#define WHERE(c, a, b) expr_op(g, OP_WHERE, c, a, b)
#define NUM(c) expr_const(g, c)
#define VJP(name) static void vjp_##name(Graph *g, const Expr *e, const Expr *s, const Expr **d)

VJP(add)
{
    (void)g, (void)e;
    d[0] = s;
    d[1] = s;
}

VJP(sub)
{
    (void)e;
    d[0] = s;
    d[1] = NEG(s);
}

VJP(mul)
{
    d[0] = MUL(s, e->arg[1]);
    d[1] = MUL(s, e->arg[0]);
}

VJP(div)
{
    d[0] = DIV(s, e->arg[1]);
    d[1] = NEG(MUL(s, DIV(e, e->arg[1])));
}

VJP(neg)
{
    (void)e;
    d[0] = NEG(s);
}

VJP(pow)
{
    const Expr *x = e->arg[0], *y = e->arg[1];
    d[0] = MUL(s, MUL(expr_op(g, OP_POW, x, SUB(y, NUM(1)), NULL), y));
    d[1] = MUL(s, MUL(e, CALL(LN, x)));
}

VJP(exp)
{
    d[0] = MUL(s, e);
}

VJP(ln)
{
    d[0] = DIV(s, e->arg[0]);
}

VJP(sqrt)
{
    d[0] = DIV(MUL(s, NUM(0.5)), e);
}

VJP(rsqrt)
{
    d[0] = MUL(MUL(s, NUM(-0.5)), MUL(e, MUL(e, e)));
}

VJP(erf)
{
    d[0] = MUL(MUL(s, NUM(M_2_SQRTPI)), CALL(EXP, NEG(MUL(e->arg[0], e->arg[0]))));
}

VJP(tanh)
{
    d[0] = MUL(s, SUB(NUM(1), MUL(e, e)));
}

VJP(sin)
{
    d[0] = MUL(s, CALL(COS, e->arg[0]));
}

VJP(cos)
{
    d[0] = NEG(MUL(s, CALL(SIN, e->arg[0])));
}

VJP(abs)                                                       /* 0 at 0 */
{
    const Expr *x = e->arg[0], *zero = NUM(0);
    d[0] = WHERE(TEST(GT, x, zero), s, WHERE(TEST(LT, x, zero), NEG(s), zero));
}

VJP(max)                                                       /* all to x when both are equal */
{
    const Expr *first = TEST(GE, e->arg[0], e->arg[1]);
    d[0] = WHERE(first, s, NUM(0));
    d[1] = WHERE(first, NUM(0), s);
}

VJP(min)
{
    const Expr *first = TEST(LE, e->arg[0], e->arg[1]);
    d[0] = WHERE(first, s, NUM(0));
    d[1] = WHERE(first, NUM(0), s);
}

VJP(where)
{
    d[1] = WHERE(e->arg[0], s, NUM(0));
    d[2] = WHERE(e->arg[0], NUM(0), s);
}

typedef void Vjp(Graph *g, const Expr *e, const Expr *s, const Expr **d);
#define vjp_none NULL
static Vjp *const vjp_of[N_OPS] = {
#define OP(id, name, n, cls, eval, vjp, doc) [OP_##id] = vjp_##vjp,
#include "ir/ops.def"
};

bool op_has_gradient(Op op)
{
    return vjp_of[op] != NULL;
}

/* ---- one body */

typedef struct Walk {
    Grad *d;
    const bool *need;                    /* by tensor */
    Memo wanted;                         /* node -> does it lead to a needed load? yes or no */
    ARRAY(const Expr *) order;           /* the nodes that do, arguments first */
    Memo at;                             /* node -> its place in `order`, from 1 */
} Walk;

static const char yes, no;

static bool leads_somewhere(Walk *w, const Expr *e)
{
    const void *known = memo_get(&w->wanted, e);
    if (known)
        return known == &yes;
    bool leads = e->kind == E_LOAD && w->need[e->tensor];
    for (int i = 0; e->kind == E_OP && vjp_of[e->op] && i < e->n; i++)
        leads |= leads_somewhere(w, e->arg[i]);
    memo_put(&w->wanted, e, leads ? &yes : &no);
    if (leads) {
        PUSH(&w->d->scratch, w->order, e);
        memo_put(&w->at, e, (const void *)(intptr_t)w->order.n);
    }
    return leads;
}

/* Reverse mode inside one expression: the adjoint of each node is complete before it is passed on, because the
 * nodes come in an order with arguments first, walked from its end. */
static void differentiate(Grad *d, const Comp *c, const Expr *seed, const bool *need, Shares *shares)
{
    Graph *g = d->g;
    Walk w = { .d = d, .need = need };
    memo_init(&w.wanted);
    memo_init(&w.at);
    if (leads_somewhere(&w, c->body)) {
        const Expr **adjoint = NEWN(&d->scratch, const Expr *, w.order.n);
        adjoint[w.order.n - 1] = seed;
        for (int i = w.order.n - 1; i >= 0; i--) {
            const Expr *e = w.order.at[i], *part[3] = { NULL, NULL, NULL };
            double zero;
            if (!adjoint[i] || (expr_is_const(adjoint[i], &zero) && zero == 0))
                continue;
            if (e->kind == E_LOAD) {
                PUSH(&d->scratch, shares[e->tensor], (Share){ c, e, adjoint[i] });
                continue;
            }
            vjp_of[e->op](g, e, adjoint[i], part);
            for (int k = 0; k < e->n; k++) {
                const Expr **sum = part[k] && memo_get(&w.wanted, e->arg[k]) == &yes
                                       ? &adjoint[(intptr_t)memo_get(&w.at, e->arg[k]) - 1]
                                       : NULL;
                if (sum)
                    *sum = *sum ? ADD(*sum, part[k]) : part[k];
            }
        }
    }
    memo_free(&w.wanted);
    memo_free(&w.at);
}

/* where(this point is the first largest one, seed, 0). With several reduced axes the innermost is reduced first:
 *
 *     at_b[free, a] = argmax{b} body      m[free, a] = max{b} body      at_a[free] = argmax{a} m
 *
 * and the point is (a, b) with a == at_a and b == at_b[.., a]: the first in row-major order. */
static const Expr *at_extremum(Grad *d, const Comp *c, const Expr *seed)
{
    Graph *g = d->g;
    uint32_t axes = (1u << c->n_axes) - 1;
    const Expr *body = c->reducer == RED_MAX ? c->body : NEG(c->body), *here = NULL;
    for (int r = c->n_axes - 1; r >= 0; r--) {
        if (!(c->red >> r & 1))
            continue;
        axes &= ~(1u << r);
        Ext shape[MAX_RANK];
        const Affine *store[MAX_RANK];
        int rank = 0;
        for (int k = 0; k < c->n_axes; k++) {
            if (!(axes >> k & 1))
                continue;
            if (rank == MAX_RANK) {
                text_printf(d->why, "the gradient of this %s needs a tensor of more than 8 dimensions: ",
                            reducer_name[c->reducer]);
                comp_print(g, c, d->why);
                return NULL;
            }
            shape[rank] = c->ext[k];
            store[rank++] = aff_axis(g, k);
        }
        uint32_t here_axes = axes | 1u << r;
        int at = grad_tensor(d, ".argmax", c->out, rank, shape, DT_I32);
        if (!grad_emit(d, at, here_axes, c->ext, 1u << r, RED_ARGMAX, body, store, c))
            return NULL;
        const Expr *equal = TEST(EQ, expr_index(g, aff_axis(g, r)), expr_load(g, at, store));
        here = here ? TEST(AND, equal, here) : equal;
        if (axes & c->red) {
            int m = grad_tensor(d, ".max", c->out, rank, shape, DT_F32);
            if (!grad_emit(d, m, here_axes, c->ext, 1u << r, RED_MAX, body, store, c))
                return NULL;
            body = expr_load(g, m, store);
        }
    }
    return WHERE(here, seed, NUM(0));
}

static const Expr *seed_of(Grad *d, const Comp *c, const Expr *seed)       /* NULL after `why` */
{
    Graph *g = d->g;
    switch (c->reducer) {
    case RED_NONE:
    case RED_SUM:
        return seed;
    case RED_LOGSUMEXP:
        return MUL(seed, CALL(EXP, SUB(c->body, expr_load(g, c->out, c->store))));
    case RED_MAX:
    case RED_MIN:
        return at_extremum(d, c, seed);
    case RED_ARGMAX:
    case RED_SCATTER:
    case N_REDUCERS:
        break;
    }
    text_printf(d->why, "a scatter has no gradient: ");
    comp_print(g, c, d->why);
    return NULL;
}

/* ---- the graph */

static bool loads_needed(const Expr *body, const bool *need, Arena *scratch)
{
    int n = expr_loads(body, NULL, 0);
    const Expr **load = NEWN(scratch, const Expr *, n);
    expr_loads(body, load, n);
    for (int i = 0; i < n; i++)
        if (need[load[i]->tensor])
            return true;
    return false;
}

/* Tensors through which the loss may depend on what is asked for. */
static bool *find_need(Grad *d, const int *wrt, int n)
{
    Graph *g = d->g;
    bool *need = NEWN(&d->scratch, bool, g->n_tensor);
    for (int i = 0; i < n; i++)
        need[wrt[i]] = g->tensor[wrt[i]].dtype == DT_F32;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        if (g->tensor[c->out].dtype == DT_F32 && loads_needed(c->body, need, &d->scratch))
            need[c->out] = true;
    }
    return need;
}

static int ones(Grad *d, int loss, const Comp *from)
{
    int t = grad_tensor(d, "", loss, 0, NULL, DT_F32);
    return grad_emit(d, t, 0, NULL, 0, RED_NONE, expr_const(d->g, 1), NULL, from) ? t : -1;
}

typedef struct Tape {
    Shares *shares;                      /* by tensor */
    int *grad;                           /* by tensor, -1 */
    const bool *need;
    GraphIndex ix;                       /* of the forward graph */
} Tape;

static bool close_tensor(Grad *d, Tape *t, int tensor)
{
    if (!t->shares[tensor].n || t->grad[tensor] >= 0)
        return true;
    CompList *p = &t->ix.pieces[tensor];
    t->grad[tensor] = grad_combine(d, tensor, &t->shares[tensor], p->n ? p->at[0] : NULL);
    return t->grad[tensor] >= 0;
}

static bool pull_back(Grad *d, Tape *t, int tensor, const Expr *constant)
{
    for (int i = 0; i < t->ix.pieces[tensor].n; i++) {
        const Comp *c = t->ix.pieces[tensor].at[i];
        if (!loads_needed(c->body, t->need, &d->scratch))
            continue;
        const Expr *seed = seed_of(d, c, constant ? constant : expr_load(d->g, t->grad[tensor], c->store));
        if (!seed)
            return false;
        differentiate(d, c, seed, t->need, t->shares);
    }
    return true;
}

static bool append(Grad *d, int loss, const int *wrt, int n, int *grads)
{
    Graph *g = d->g;
    if (g->tensor[loss].rank) {
        text_printf(d->why, "the loss %%%d has rank %d, a number is wanted", loss, g->tensor[loss].rank);
        return false;
    }
    graph_toposort(g);
    int n_forward = g->n_comp, n_tensor = g->n_tensor;
    Tape t = { NEWN(&d->scratch, Shares, n_tensor), NEWN(&d->scratch, int, n_tensor), find_need(d, wrt, n),
               graph_index(g, &d->scratch) };
    memset(t.grad, -1, (size_t)n_tensor * sizeof *t.grad);
    if (t.need[loss] && !pull_back(d, &t, loss, expr_const(g, 1)))
        return false;
    for (int i = n_forward - 1; i >= 0; i--) {
        int tensor = g->comp[i]->out;
        bool last_piece = i + 1 == n_forward || g->comp[i + 1]->out != tensor;
        if (!last_piece || tensor == loss || !t.need[tensor])
            continue;
        if (!close_tensor(d, &t, tensor) || (t.grad[tensor] >= 0 && !pull_back(d, &t, tensor, NULL)))
            return false;
    }
    for (int i = 0; i < n; i++) {
        CompList *p = &t.ix.pieces[loss];
        if (wrt[i] == loss && t.grad[loss] < 0)
            t.grad[loss] = ones(d, loss, p->n ? p->at[0] : NULL);
        if (!close_tensor(d, &t, wrt[i]))
            return false;
        grads[i] = t.grad[wrt[i]];
    }
    return true;
}

bool grad_append(Graph *g, int loss, const int *wrt, int n, int *grads, Text *why)
{
    Grad d = { .g = g, .why = why };
    bool fine = append(&d, loss, wrt, n, grads);
    arena_free(&d.scratch);
    return fine;
}
