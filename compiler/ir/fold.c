/* fold.c -- expr_op: the constructor of operations, which simplifies.
 *
 * Rules, applied until none fits, so that building a finished expression again gives the same pointer:
 *
 *   all arguments constant            folded with op_eval
 *   constants of commutative ops      to the right:  2*x -> x*2,  1 + x -> x + 1
 *   x + 0, x - 0, x*1, x/1, x^1       x;   x*0, 0/x: 0;  x^0: 1;  x^2: x*x
 *   (x*c)*d                           x*(c*d);   x/c -> x*(1/c) for finite c != 0
 *   signs float outwards              (-x)*y -> -(x*y),  x + (-y) -> x - y,  -(-x) -> x,  x*(-1) -> -x
 *   guards float outwards             where(g, x, 0)*y -> where(g, x*y, 0), the same for / and the sign
 *   nested guards                     where(g, where(h, x, z), z) -> where(g and h, x, z), h without loads
 *   where with equal branches, or with a constant condition, goes away
 *
 * A product with the constant 0 is 0, also where the other factor is not finite: that is what makes a guarded
 * gradient 0 outside its guard. */
#include "ir/pool.h"
#include <math.h>

static bool is_const(const Expr *e, double c)
{
    return e->kind == E_CONST && e->c == c;
}

static bool is_op(const Expr *e, Op op)
{
    return e->kind == E_OP && e->op == op;
}

static bool is_guarded(const Expr *e)                          /* where(g, x, 0) */
{
    return is_op(e, OP_WHERE) && is_const(e->arg[2], 0);
}

static bool is_truth(const Expr *e)                            /* 0 or 1 by construction */
{
    return (e->kind == E_OP && op_info[e->op].compares) || is_const(e, 0) || is_const(e, 1);
}

static const Expr *make(Graph *g, Op op, const Expr *a, const Expr *b)
{
    return expr_op(g, op, a, b, NULL);
}

static const Expr *negate(Graph *g, const Expr *a)
{
    return make(g, OP_NEG, a, NULL);
}

static const Expr *guard(Graph *g, const Expr *condition, const Expr *value)
{
    return expr_op(g, OP_WHERE, condition, value, expr_const(g, 0));
}

static const Expr *fold_add(Graph *g, const Expr *a, const Expr *b)
{
    if (is_const(b, 0))
        return a;
    if (is_op(b, OP_NEG))
        return make(g, OP_SUB, a, b->arg[0]);
    if (is_op(a, OP_NEG))
        return make(g, OP_SUB, b, a->arg[0]);
    return NULL;
}

static const Expr *fold_sub(Graph *g, const Expr *a, const Expr *b)
{
    if (is_const(b, 0))
        return a;
    if (is_const(a, 0))
        return negate(g, b);
    if (is_op(b, OP_NEG))
        return make(g, OP_ADD, a, b->arg[0]);
    return NULL;
}

static const Expr *fold_mul(Graph *g, const Expr *a, const Expr *b)
{
    if (is_const(b, 0))
        return b;
    if (is_const(b, 1))
        return a;
    if (is_const(b, -1))
        return negate(g, a);
    if (is_op(a, OP_NEG))
        return negate(g, make(g, OP_MUL, a->arg[0], b));
    if (is_op(b, OP_NEG))
        return negate(g, make(g, OP_MUL, a, b->arg[0]));
    if (is_guarded(a))
        return guard(g, a->arg[0], make(g, OP_MUL, a->arg[1], b));
    if (is_guarded(b))
        return guard(g, b->arg[0], make(g, OP_MUL, a, b->arg[1]));
    if (b->kind == E_CONST && is_op(a, OP_MUL) && a->arg[1]->kind == E_CONST)
        return make(g, OP_MUL, a->arg[0], expr_const(g, a->arg[1]->c * b->c));
    return NULL;
}

static const Expr *fold_div(Graph *g, const Expr *a, const Expr *b)
{
    if (is_const(a, 0))
        return a;
    if (b->kind == E_CONST && b->c != 0 && isfinite(b->c) && isfinite(1 / b->c))
        return make(g, OP_MUL, a, expr_const(g, 1 / b->c));
    if (is_op(a, OP_NEG))
        return negate(g, make(g, OP_DIV, a->arg[0], b));
    if (is_op(b, OP_NEG))
        return negate(g, make(g, OP_DIV, a, b->arg[0]));
    if (is_guarded(a))
        return guard(g, a->arg[0], make(g, OP_DIV, a->arg[1], b));
    return NULL;
}

static const Expr *fold_neg(Graph *g, const Expr *a)
{
    if (is_op(a, OP_NEG))
        return a->arg[0];
    if (is_guarded(a))
        return guard(g, a->arg[0], negate(g, a->arg[1]));
    if (is_op(a, OP_MUL) && a->arg[1]->kind == E_CONST)
        return make(g, OP_MUL, a->arg[0], expr_const(g, -a->arg[1]->c));
    return NULL;
}

static const Expr *fold_pow(Graph *g, const Expr *a, const Expr *b)
{
    if (is_const(b, 0))
        return expr_const(g, 1);
    if (is_const(b, 1))
        return a;
    if (is_const(b, 2))
        return make(g, OP_MUL, a, a);
    return NULL;
}

static bool among(const Expr *e, const Expr *conjunction)
{
    return e == conjunction ||
           (is_op(conjunction, OP_AND) && (among(e, conjunction->arg[0]) || among(e, conjunction->arg[1])));
}

static const Expr *fold_and(Graph *g, const Expr *a, const Expr *b)
{
    (void)g;
    if (is_const(b, 0))
        return b;
    if (b->kind == E_CONST && is_truth(a))
        return a;
    return is_truth(a) && is_truth(b) && among(b, a) ? a : NULL;
}

static const Expr *fold_or(Graph *g, const Expr *a, const Expr *b)
{
    if (b->kind == E_CONST && b->c != 0)
        return expr_const(g, 1);
    if (is_const(b, 0) && is_truth(a))
        return a;
    return a == b && is_truth(a) ? a : NULL;
}

static const Expr *fold_where(Graph *g, const Expr *c, const Expr *a, const Expr *b)
{
    if (a == b)
        return a;
    if (c->kind == E_CONST)
        return c->c != 0 ? a : b;
    if (is_op(c, OP_NOT))
        return expr_op(g, OP_WHERE, c->arg[0], b, a);
    if (is_op(a, OP_WHERE) && a->arg[0] == c)
        return expr_op(g, OP_WHERE, c, a->arg[1], b);
    if (is_op(b, OP_WHERE) && b->arg[0] == c)
        return expr_op(g, OP_WHERE, c, a, b->arg[2]);
    if (is_op(a, OP_WHERE) && a->arg[2] == b && is_truth(c) && is_truth(a->arg[0]) && !expr_has_load(a->arg[0]))
        return expr_op(g, OP_WHERE, make(g, OP_AND, c, a->arg[0]), a->arg[1], b);
    return NULL;
}

/* The simpler expression, or NULL when no rule fits. */
static const Expr *fold(Graph *g, Op op, const Expr *a, const Expr *b, const Expr *c)
{
    switch (op) {
    case OP_ADD:
        return fold_add(g, a, b);
    case OP_SUB:
        return fold_sub(g, a, b);
    case OP_MUL:
        return fold_mul(g, a, b);
    case OP_DIV:
        return fold_div(g, a, b);
    case OP_NEG:
        return fold_neg(g, a);
    case OP_POW:
        return fold_pow(g, a, b);
    case OP_MAX:
    case OP_MIN:
        return a == b ? a : NULL;
    case OP_WHERE:
        return fold_where(g, a, b, c);
    case OP_AND:
        return fold_and(g, a, b);
    case OP_OR:
        return fold_or(g, a, b);
    case OP_NOT:
        return is_op(a, OP_NOT) && is_truth(a->arg[0]) ? a->arg[0] : NULL;
    default:
        return NULL;
    }
}

static bool constants_go_right(Op op)
{
    return op == OP_ADD || op == OP_MUL || op == OP_EQ || op == OP_NE || op == OP_AND || op == OP_OR;
}

const Expr *expr_op(Graph *g, Op op, const Expr *a, const Expr *b, const Expr *c)
{
    int n = op_info[op].arity;
    bool constant = a->kind == E_CONST && (n < 2 || b->kind == E_CONST) && (n < 3 || c->kind == E_CONST);
    if (constant)
        return expr_const(g, op_eval(op, a->c, n > 1 ? b->c : 0, n > 2 ? c->c : 0));
    if (constants_go_right(op) && a->kind == E_CONST) {
        const Expr *swap = a;
        a = b;
        b = swap;
    }
    const Expr *simpler = fold(g, op, a, b, c);
    return simpler ? simpler : expr_raw(g, op, a, b, c);
}
