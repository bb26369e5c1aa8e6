/* acc.c -- loops over lanes, and reducers as accumulators in registers.
 *
 * An accumulator is one vector (sum, max, min) or two (argmax: value and position; logsumexp: running maximum and sum
 * of exponentials relative to it). Lanes accumulate apart; acc_across combines them as a balanced tree in a fixed
 * order, so a result depends on the extents only. An excluded lane keeps its accumulator as it was. */
#include "cpu/lower.h"
#include <math.h>
#include <string.h>

/* The scope of one round: the axis starts at i, mask says which lanes count. */
static void round_scope(Scope *in, Scope *outer, V hoist, int axis, V i, V mask)
{
    scope_in(in, outer, hoist);
    scope_bind(in, axis, i);
    in->lanes = axis;
    in->mask = mask;
}

void lane_loop(Scope *s, int axis, V lo, V hi, int unroll, LaneBody body, void *ctx, V *carry, int n)
{
    Gen *g = s->l->g;
    int w = g->t->lanes;
    int64_t from, to;
    bool fixed = ic_value(lo, &from) && ic_value(hi, &to);
    if (fixed && (to - from) / w < unroll)
        unroll = 1;
    V start = lo;
    Scope in;
    for (int parts = unroll; parts; parts = parts > 1 ? 1 : 0) {
        /* whole rounds of `parts` vectors; what is left goes on with one at a time */
        int64_t step = (int64_t)w * parts;
        V count = i_sub(g, hi, start), end;
        int64_t c;
        if (ic_value(count, &c))
            end = i_add(g, start, ic(g, c > 0 ? c / step * step : 0));
        else
            end = i_add(g, start, LLVMBuildAnd(g->b, i_max(g, count, ic(g, 0)), ic(g, -step), ""));
        bool none = ic_value(count, &c) && c < step;
        bool pow2 = !(step & (step - 1));
        if (!pow2 && !ic_value(count, &c))
            low_fail(s->l, "a loop is unrolled by %d, not a power of two", parts);
        if (!none) {
            Loop l;
            loop_begin(g, &l, start, end, step, carry, n * parts);
            for (int p = 0; p < parts; p++) {
                round_scope(&in, s, l.branch, axis, i_add(g, l.i, ic(g, (int64_t)p * w)), NULL);
                body(ctx, &in, p, carry + n * p);
            }
            loop_end(g, &l, carry);
        }
        start = end;
    }
    V rest = i_sub(g, hi, start);
    int64_t c;
    if (ic_value(rest, &c)) {
        if (c <= 0)
            return;
        round_scope(&in, s, NULL, axis, start, mask_first(g, rest));
        body(ctx, &in, 0, carry);
        return;
    }
    Branch f;
    if_begin(g, &f, i_less(g, start, hi), carry, n);
    round_scope(&in, s, f.branch, axis, start, mask_first(g, rest));
    body(ctx, &in, 0, carry);
    if_end(g, &f, carry);
}

/* ---- accumulators */

int acc_width(Reducer r)
{
    return r == RED_ARGMAX || r == RED_LOGSUMEXP ? 2 : 1;
}

Acc acc_empty(Gen *g, Reducer r)
{
    switch (r) {
    case RED_MAX: return (Acc){{fc(g, -INFINITY)}};
    case RED_MIN: return (Acc){{fc(g, INFINITY)}};
    case RED_ARGMAX: return (Acc){{fc(g, -INFINITY), vic(g, INT32_MAX)}};
    case RED_LOGSUMEXP: return (Acc){{fc(g, -INFINITY), fc(g, 0)}};
    default: return (Acc){{fc(g, 0)}};
    }
}

/* (m, s) stands for s e^m. While m is -infinity nothing was added; +infinity and NaN come out of the sum as they do
 * in the formula with the maximum taken first. */
static Acc lse_join(Gen *g, Acc a, Acc b)
{
    V m = f_max(g, a.v[0], b.v[0]);
    V empty = f_cmp(g, LLVMRealOEQ, m, fc(g, -INFINITY));
    V base = select_(g, empty, fc(g, 0), m);
    V x = f_mul(g, a.v[1], m_exp(g, f_sub(g, a.v[0], base)));
    V y = f_mul(g, b.v[1], m_exp(g, f_sub(g, b.v[0], base)));
    return (Acc){{m, f_add(g, x, y)}};
}

Acc acc_join(Gen *g, Reducer r, Acc a, Acc b)
{
    switch (r) {
    case RED_MAX: return (Acc){{f_max(g, a.v[0], b.v[0])}};
    case RED_MIN: return (Acc){{f_min(g, a.v[0], b.v[0])}};
    case RED_LOGSUMEXP: return lse_join(g, a, b);
    case RED_ARGMAX: {
        V greater = f_cmp(g, LLVMRealOGT, b.v[0], a.v[0]);
        V same = f_cmp(g, LLVMRealOEQ, b.v[0], a.v[0]);
        V first = LLVMBuildICmp(g->b, LLVMIntSLT, b.v[1], a.v[1], "");
        V take = LLVMBuildOr(g->b, greater, LLVMBuildAnd(g->b, same, first, ""), "");
        return (Acc){{select_(g, take, b.v[0], a.v[0]), select_(g, take, b.v[1], a.v[1])}};
    }
    default: return (Acc){{f_add(g, a.v[0], b.v[0])}};
    }
}

Acc acc_take(Gen *g, Reducer r, Acc a, V x, V index, V mask)
{
    Acc next;
    if (r == RED_LOGSUMEXP) {
        /* one of the two differences is zero, so one exponential does */
        V m = f_max(g, a.v[0], x);
        V grows = f_cmp(g, LLVMRealOGT, x, a.v[0]);
        V empty = f_cmp(g, LLVMRealOEQ, m, fc(g, -INFINITY));
        V e = m_exp(g, f_sub(g, select_(g, grows, a.v[0], x), select_(g, empty, fc(g, 0), m)));
        V kept = f_fma(g, select_(g, grows, a.v[1], e), select_(g, grows, e, fc(g, 1)),
                       select_(g, grows, fc(g, 1), a.v[1]));
        next = (Acc){{m, kept}};
    } else {
        next = acc_join(g, r, a, (Acc){{x, index}});
    }
    if (mask)
        for (int i = 0; i < acc_width(r); i++)
            next.v[i] = select_(g, mask, next.v[i], a.v[i]);
    return next;
}

Acc acc_across(Gen *g, Reducer r, Acc a)
{
    for (int by = g->t->lanes / 2; by; by /= 2) {
        Acc b = a;
        for (int i = 0; i < acc_width(r); i++)
            b.v[i] = rotate_lanes(g, a.v[i], by);
        a = acc_join(g, r, a, b);
    }
    return a;
}

Val acc_value(Gen *g, Reducer r, Acc a)
{
    if (r == RED_ARGMAX) {
        /* nothing compared greater than -infinity: the first position */
        V none = LLVMBuildICmp(g->b, LLVMIntEQ, a.v[1], vic(g, INT32_MAX), "");
        return (Val){VAL_INTS, select_(g, none, vic(g, 0), a.v[1])};
    }
    if (r == RED_LOGSUMEXP)
        return (Val){VAL_F, f_add(g, a.v[0], m_ln(g, a.v[1]))};
    return (Val){VAL_F, a.v[0]};
}
