/* reach.c -- how far scores reach: causal attention, and whatever else has nothing beyond a diagonal.
 *
 * The scores of row m beyond column m + reach are nothing to whoever sums them up: 0 to a result or a sum, -infinity to a
 * maximum or a logsumexp. Found by what is known of the members' expressions there, whatever the way a mask is written. */
#include "pass/kernel.h"
#include <math.h>

typedef enum { ANY, ZERO, LESS_INF, NO, YES } Known;
typedef struct Beyond { Graph *g; const Kernel *k; int64_t reach; int steps; } Beyond;

static const Comp *member(const Beyond *b, const Expr *load)
{
    for (int i = 0; load->kind == E_LOAD && i < b->k->n_comp; i++)
        if (b->k->comp[i].out == load->tensor)
            return &b->k->comp[i];
    return NULL;
}

/* The difference of two indices, when it is n - m + c (sign 1) or m - n + c (sign -1). */
static bool difference(const Beyond *b, const Expr *x, const Expr *y, int *sign, int64_t *c)
{
    if (x->kind != E_INDEX || y->kind != E_INDEX)
        return false;
    const Affine *d = aff_add(b->g, x->aff, aff_scale(b->g, y->aff, -1)), *n_m;
    *c = d->c;
    d = aff_add(b->g, d, aff_const(b->g, -d->c));
    n_m = aff_add(b->g, aff_axis(b->g, score_n(b->k)), aff_term(b->g, score_m(b->k), -1, 0));
    *sign = d == n_m ? 1 : -1;
    return d == n_m || d == aff_scale(b->g, n_m, -1);
}

static Known compared(const Beyond *b, const Expr *e)
{
    int sign;
    int64_t c;
    if (!difference(b, e->arg[0], e->arg[1], &sign, &c))
        return ANY;
    int64_t end = sign * (b->reach + 1) + c;                   /* it is that, or further from 0 on this side */
    bool greater = sign > 0 && end > 0, less = sign < 0 && end < 0, equal_too = sign > 0 ? end >= 0 : end <= 0;
    switch (e->op) {
    case OP_GT: return greater ? YES : sign < 0 && equal_too ? NO : ANY;
    case OP_GE: return sign > 0 && equal_too ? YES : less ? NO : ANY;
    case OP_LT: return less ? YES : sign > 0 && equal_too ? NO : ANY;
    case OP_LE: return sign < 0 && equal_too ? YES : greater ? NO : ANY;
    default: return ANY;
    }
}

/* Numbers are taken for finite where nothing is known of them. */
static Known known(Beyond *b, const Expr *e)
{
    enum { MOST_STEPS = 1000 };
    const Comp *made = member(b, e);
    if (++b->steps > MOST_STEPS)
        return ANY;
    if (made)
        return made->reducer == RED_NONE ? known(b, made->body) : ANY;
    if (e->kind == E_CONST)
        return e->c == 0 ? ZERO : e->c == -INFINITY ? LESS_INF : ANY;
    if (e->kind != E_OP)
        return ANY;
    if (op_info[e->op].compares && e->n == 2)
        return compared(b, e);
    Known x = known(b, e->arg[0]), y = e->n > 1 ? known(b, e->arg[1]) : ANY, z = e->n > 2 ? known(b, e->arg[2]) : ANY;
    switch (e->op) {
    case OP_WHERE: return x == YES ? y : x == NO ? z : y == z ? y : ANY;
    case OP_EXP: return x == LESS_INF ? ZERO : ANY;
    case OP_NEG: return x == ZERO ? ZERO : ANY;
    case OP_MUL: return x == ZERO || y == ZERO ? ZERO : (x == LESS_INF && e->arg[1]->kind == E_CONST && e->arg[1]->c > 0) ? LESS_INF : ANY;
    case OP_ADD: return x == LESS_INF || y == LESS_INF ? LESS_INF : x == ZERO ? y : y == ZERO ? x : ANY;
    case OP_SUB: return x == LESS_INF && y != LESS_INF ? LESS_INF : y == ZERO ? x : ANY;
    default: return ANY;
    }
}

static bool nothing_beyond(Graph *g, const Kernel *k, int64_t reach)
{
    Beyond b = { .g = g, .k = k, .reach = reach };
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        ScoreRole role = score_role(k, c);
        if (role == SCORE_RESULT && known(&b, score_sum(g, k, c).a) != ZERO)
            return false;
        Known empty = c->reducer == RED_LOGSUMEXP || c->reducer == RED_MAX ? LESS_INF : ZERO;
        if (role == SCORE_STAT && (c->reducer == RED_MIN || known(&b, c->body) != empty))
            return false;
    }
    return true;
}

/* The least is looked for: a larger one is right if a smaller one is. */
int64_t score_reach(Graph *g, const Kernel *k, int64_t columns)
{
    int64_t low = 0, high = columns - 1;
    for (int i = 0; i < k->n_comp; i++)
        for (int w = 0; w < k->n_writes; w++) {
            ScoreRole role = score_role(k, &k->comp[i]);
            if (k->writes[w] == k->comp[i].out && (role == SCORE_PRODUCT || role == SCORE_POINT))
                return high;
        }
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (nothing_beyond(g, k, middle))
            high = middle;
        else
            low = middle + 1;
    }
    return high;
}
