/* random_edges.h -- steps of random programs that stand at an edge: ties, windows that leave gaps or overlap, indices shifted and
 * multiplied, functions that are cut off before they leave the numbers, a parameter in several roles. Written as in random_layers.h. */
#ifndef RANDOM_EDGES_H
#define RANDOM_EDGES_H
#include "random_layers.h"

/* ---- windows and shifts along the first axis */

static inline void rp_pool(RpGen *g)              /* of 1 to 4, which overlap, touch, or leave gaps */
{
    static const char *const reducer[] = { "max", "min", "mean", "logsumexp", "sum" };
    RpShape s = *rp_top(g);
    int size = 1 + rp_below(g, 4), stride = 1 + rp_below(g, 4), r = rp_below(g, (int)LEN(reducer)), n = (s.ext[0] - size) / stride + 1;
    if (s.rank < 2 || s.ext[0] < size)
        return;
    rp_say(g, s.rank == 2 ? "    param lift$[k: %d] = 0.1\n    h$[n, a: %d, b$] = " : "    param lift$[k: %d] = 0.1\n    h$[n, a: %d, b$, c$] = ", size, n);
    rp_say(g, s.rank == 2 ? "%s[k](X[n, %d*a + k, b$] + lift$[k])%s\n" : "%s[k](X[n, %d*a + k, b$, c$] + lift$[k])%s\n", reducer[r], stride,
           r == 4 ? " / 4" : "");
    rp_cover(g, stride > size ? "pooling with gaps" : stride < size ? "pooling that overlaps" : "pooling");
    s.ext[0] = n;
    rp_push(g, s);
}

static inline void rp_stride(RpGen *g)            /* every second, third, fourth element, from somewhere, also backwards */
{
    RpShape s = *rp_top(g);
    int by = 2 + rp_below(g, 3), from = rp_below(g, by), n = (s.ext[0] - from + by - 1) / by, back = rp_below(g, 2);
    if (s.rank != 2 || n < 1 || s.ext[0] <= from)
        return;
    if (back)
        rp_say(g, "    h$[n, a: %d, b$] = X[n, %d - %d*a, b$]\n", n, s.ext[0] - 1 - from, by);
    else
        rp_say(g, "    h$[n, a: %d, b$] = X[n, %d*a + %d, b$]\n", n, by, from);
    rp_cover(g, back ? "strided backwards" : "strided with an offset");
    s.ext[0] = n;
    rp_push(g, s);
}

static inline void rp_neighbours(RpGen *g)
{
    RpShape s = *rp_top(g);
    int n = s.ext[0], by = 1 + rp_below(g, 3);
    if (s.rank != 2)
        return;
    switch (rp_below(g, 4)) {
    case 0:
        rp_say(g, "    h$[n, a: %d, b$] = 0.5 * X[n, a, b$] + (if a >= %d then X[n, a - %d, b$] else 0) - (if a < %d then X[n, a + %d, b$] else 0.1)\n", n,
               by, by, n - by, by);
        break;
    case 1:
        rp_say(g, "    h$[n, a: %d, b$] = (if a >= %d then X[n, a - %d, b$] else 1) * tanh(X[n, a, b$])\n", n, by, by);
        break;
    case 2:                                       /* both directions of one tensor in a product */
        rp_say(g, "    h$[n, a: %d, b$] = X[n, a, b$] * cos(X[n, %d - a, b$])\n", n, n - 1);
        break;
    default:                                      /* pairs: axes that are folded over one another */
        if (n < 2)
            return;
        rp_say(g, "    h$[n, a: %d, b$] = X[n, 2*a, b$] - 0.5 * X[n, 2*a + 1, b$]^2\n", n / 2);
        s.ext[0] = n / 2;
    }
    rp_cover(g, "neighbours");
    rp_push(g, s);
}

static inline void rp_upsample(RpGen *g)          /* a transposed convolution: each element is spread over `by` places */
{
    RpShape s = *rp_top(g);
    int by = 2 + rp_below(g, 3), gap = rp_below(g, 2);
    if (s.rank != 2 || s.ext[0] * by * s.ext[1] > g->most)
        return;
    if (gap) {
        rp_say(g, "    param spread$[k: %d, b$: %d] ~ normal(0, 1)\n    up$[n, a: %d, k: %d, b$] = X[n, a, b$] * spread$[k, b$]\n    h$[n, %d*a + k, b$] = "
                  "up$[n, a, k, b$]\n", by, s.ext[1], s.ext[0], by, by);
    } else {
        rp_say(g, "    param spread$[k: %d, b$: %d] ~ normal(0, 1)\n    h$[n, t: %d, b$] = sum[a, k](if %d*a + k == t then X[n, a, b$] * spread$[k, b$] else 0)\n",
               by, s.ext[1], s.ext[0] * by, by);
    }
    rp_cover(g, "upsampling");
    s.ext[0] *= by;
    rp_push(g, s);
}

/* ---- ties: equal elements of one origin, so that any choice among them has the same gradient */

static inline void rp_ties(RpGen *g)
{
    static const char *const reducer[] = { "max", "min" };
    RpShape s = *rp_top(g);
    int form = rp_below(g, 4), n = s.ext[0];
    if (s.rank != 2)
        return;
    const char *r = reducer[rp_below(g, 2)];
    if (form == 0) {                              /* a tensor twice */
        rp_say(g, "    two$[n, a$, b$] = X[n, a$, b$]\n    two$[n, %d + a$, b$] = X[n, a$, b$]\n    h$[n, b$] = ", n);
        rp_say(g, "%s[q](two$[n, q, b$])\n", r);
        rp_push(g, rp_shape(1, s.ext[1], 0, 0));
    } else if (form == 1) {                       /* a row and itself backwards */
        rp_say(g, "    h$[n, a: %d, b$] = %s(X[n, a, b$], X[n, %d - a, b$])\n", n, r, n - 1);
        rp_push(g, s);
    } else if (form == 2) {                       /* what is cut off is equal, and has no gradient */
        rp_say(g, "    cut$[n, a$, b$] = min(max(X[n, a$, b$], -0.3), 0.2)\n    h$[n, a$] = %s[b$](cut$[n, a$, b$]) + 0.1 * X[n, a$, 0]\n", r);
        rp_push(g, rp_shape(1, n, 0, 0));
    } else {                                      /* the first of equal ones */
        rp_say(g, "    mark$[n, a: %d, b$] = if mod(a, 3) == 1 or a == %d then 1 else floor(X[n, a, b$] / 100)\n    at$[n, b$] = argmax[a](mark$[n, a, b$])\n"
                  "    h$[n, b$] = X[n, at$[n, b$], b$] + 0.2 * X[n, 0, b$]\n", n, n - 1);
        rp_push(g, rp_shape(1, s.ext[1], 0, 0));
    }
    rp_cover(g, "ties");
}

/* ---- functions near where they end */

static inline void rp_edge(RpGen *g)
{
    static const char *const form[] = {
        "if @ > 0.2 then sqrt(@ - 0.19) else 0.1 * @", "if @ > -0.8 then ln(@ + 1) else @", "if abs(@) > 1e-3 then sin(@) / @ else 1", "max(@, 0)^1.5",
        "(@^2 + 1e-4)^0.3", "exp(min(40 * @, 2))", "ln(max(@, 1e-6) + 0.1)", "1 / (1 + exp(min(60 * @, 40))) + 0.2 * @", "rsqrt(max(@, 0.05))",
        "(if @ == 0 then 1 else @) / (abs(@) + 1e-2)", "tanh(50 * @) + 0.3 * @", "erf(20 * @) * 0.5 + @", "ln(1 + exp(-abs(@))) + max(@, 0)",
        "if @ >= 0 then 1 / (1 + exp(-@)) else exp(@) / (1 + exp(@))", "(if @ > 0 then @ else 0) * (if @ < 0 then 1 else @)", "@ * 1e-30 * 1e30",
        "if not (@ > 0.5 or @ < -0.5) then @ else if @ > 0 then 0.5 else -0.5 + 0.1 * @", "abs(@ - 0.1) - abs(@ + 0.13)", "-@ * (-@) * -0.5",
        "floor(@ * 4) / 4 + @", "mod(@ * 3, 1) * 0 + @", "min(@, -0.0) - max(-@, 0) / 3", "@^3 - @^-2 * 0 + 0.1 * @^4",
    };
    rp_same(g, form[rp_below(g, (int)LEN(form))]);
}

static inline void rp_past(RpGen *g)              /* what stands before: nothing does before the first */
{
    static const char *const reducer[] = { "max", "min", "logsumexp" };
    RpShape s = *rp_top(g);
    int r = rp_below(g, 3);
    if (s.rank != 2)
        return;
    rp_say(g, "    top$[n, t: %d, b$] = %s[u](if u < t then X[n, u, b$] else %sinf)\n", s.ext[0], reducer[r], r == 1 ? "" : "-");
    rp_say(g, "    h$[n, t, b$] = if t > 0 then 0.6 * top$[n, t, b$] else X[n, t, b$]\n");
    rp_cover(g, "nothing before the first");
    rp_push(g, s);
}

static inline void rp_zero_rows(RpGen *g)
{
    RpShape s = *rp_top(g);
    if (s.rank != 2)
        return;
    rp_say(g, "    zero$[n, a$, b$] = X[n, a$, b$] * (if mod(a$, 3) == 1 then floor(X[n, a$, b$]^2 / 1000000) else 1)\n    let r$ = l2_normalize(zero$, eps = 1e-2)\n"
              "    h$[n, a$, b$] = r$[n, a$, b$] * 1.5\n");
    rp_cover(g, "rows of zeros");
    rp_push(g, s);
}

/* ---- a parameter in several roles, and along every axis */

static inline void rp_broadcast(RpGen *g)
{
    RpShape s = *rp_top(g);
    int which = 1 + rp_below(g, (1 << s.rank) - 1), form = rp_below(g, 3), first = 1;
    rp_say(g, "    param cast$[");
    for (int i = 0; i < s.rank; i++)
        if (which >> i & 1) {
            rp_say(g, "%s%c$: %d", first ? "" : ", ", 'a' + i, s.ext[i]);
            first = 0;
        }
    rp_say(g, "] ~ normal(0, 1)\n    param scalar$ = 0.7\n");
    Text at = { .arena = g->out->arena };
    for (int i = 0; i < s.rank; i++)
        if (which >> i & 1)
            text_printf(&at, "%s%c%d", at.n ? ", " : "", 'a' + i, g->n);
    const char *all = rp_axes(g, &s, -1), *p = text_data(&at);
    int k = g->n;
    if (form == 0)
        text_printf(g->out, "    h%d[%s] = h%d[%s] * (scalar%d + 0.3 * cast%d[%s])\n", k, all, k - 1, all, k, k, p);
    else if (form == 1)
        text_printf(g->out, "    h%d[%s] = tanh(h%d[%s] + cast%d[%s]) * cast%d[%s] - scalar%d^2\n", k, all, k - 1, all, k, p, k, p, k);
    else
        text_printf(g->out, "    h%d[%s] = h%d[%s] / (1 + exp(scalar%d) + cast%d[%s]^2)\n", k, all, k - 1, all, k, k, p);
    rp_cover(g, "broadcast");
    rp_push(g, s);
}

static inline void rp_sample_mean(RpGen *g)       /* a number of the sample, and reductions inside an equation */
{
    RpShape s = *rp_top(g);
    if (s.rank != 2)
        return;
    if (rp_below(g, 2))
        rp_say(g, "    one$[n] = mean[a$, b$](X[n, a$, b$]^2)\n    h$[n, a$, b$] = X[n, a$, b$] / sqrt(one$[n] + 0.1) + 0.1 * one$[n]\n");
    else
        rp_say(g, "    h$[n, a$, b$] = X[n, a$, b$] - mean[q](X[n, q, b$]) + 0.2 * max[r](X[n, a$, r])\n");
    rp_cover(g, "numbers of a sample");
    rp_push(g, s);
}

static inline void rp_square(RpGen *g)            /* a matrix and its transpose, twice in one equation */
{
    RpShape s = *rp_top(g);
    int d = s.ext[s.rank - 1];
    if (s.rank != 2)
        return;
    rp_say(g, "    param both$[o: %d, b$: %d] ~ normal(0, 0.6)\n", d, d);
    rp_say(g, "    h$[n, a$, o] = sum[b$](X[n, a$, b$] * (both$[o, b$] - 0.5 * both$[b$, o])) * %d^-0.5\n", d);
    rp_cover(g, "a matrix and its transpose");
    rp_push(g, s);
}

static inline void rp_grouped(RpGen *g)           /* products that have an axis of the parameter in front, in the middle, or two to sum */
{
    RpShape s = *rp_top(g);
    int out = 1 + rp_below(g, 9), form = rp_below(g, 3);
    if (s.rank != 3 || out * s.ext[0] * s.ext[2] > g->most || out * s.ext[0] * s.ext[1] > g->most)
        return;
    if (form == 0) {
        rp_say(g, "    param w$[c: %d, o: %d, b: %d] ~ normal(0, 0.6)\n    h$[n, a$, o, c] = sum[b](X[n, a$, b, c] * w$[c, o, b]) * %d^-0.5\n", s.ext[2], out,
               s.ext[1], s.ext[1]);
        rp_push(g, rp_shape(3, s.ext[0], out, s.ext[2]));
    } else if (form == 1) {
        rp_say(g, "    param w$[a: %d, c: %d, o: %d] ~ normal(0, 0.6)\n    h$[n, a, b$, o] = sum[c](X[n, a, b$, c] * w$[a, c, o]) * %d^-0.5\n", s.ext[0], s.ext[2],
               out, s.ext[2]);
        rp_push(g, rp_shape(3, s.ext[0], s.ext[1], out));
    } else {
        rp_say(g, "    param w$[o: %d, c: %d, a: %d] ~ normal(0, 0.6)\n    h$[n, b$, o] = sum[a, c](X[n, a, b$, c] * w$[o, c, a]) * %d^-0.5\n", out, s.ext[2],
               s.ext[0], s.ext[0] * s.ext[2]);
        rp_push(g, rp_shape(2, s.ext[1], out, 0));
    }
    rp_cover(g, "grouped products");
}

static inline void rp_taps(RpGen *g)              /* a convolution of any size and stride, without padding */
{
    RpShape s = *rp_top(g);
    int i = 1 + rp_below(g, 5), j = 1 + rp_below(g, 3), si = 1 + rp_below(g, 4), sj = 1 + rp_below(g, 3), o = 1 + rp_below(g, 9);
    int y = (s.ext[0] - i) / si + 1, x = (s.ext[1] - j) / sj + 1;
    if (s.rank != 3 || s.ext[0] < i || s.ext[1] < j || y * x * o > g->most)
        return;
    rp_say(g, "    param k$[i: %d, j: %d, c: %d, o: %d] ~ normal(0, 0.5)\n    h$[n, y: %d, x: %d, o] = sum[i, j, c](X[n, %d*y + i, %d*x + j, c] * k$[i, j, c, o]) "
              "* %d^-0.5\n", i, j, s.ext[2], o, y, x, si, sj, i * j * s.ext[2]);
    rp_cover(g, "convolution of any stride");
    rp_push(g, rp_shape(3, y, x, o));
}

/* ---- gathers by tokens */

static inline void rp_index(RpGen *g)
{
    RpShape s = *rp_top(g);
    int form = rp_below(g, 5), last = RP_TOKENS - 1;
    if (!g->text || s.rank != 2 || s.ext[0] != RP_TOKENS)
        return;
    if (form == 0)
        rp_say(g, "    param odd$[v: %d, b$: %d] ~ normal(0, 1)\n    h$[n, a: %d, b$] = X[n, a, b$] + odd$[2*tokens[n, a] + 1, b$]\n", 2 * RP_VOCAB, s.ext[1], RP_TOKENS);
    else if (form == 1)
        rp_say(g, "    param pair$[v: %d, w: %d] ~ normal(0, 1)\n    h$[n, a: %d, b$] = X[n, a, b$] * pair$[tokens[n, a], tokens[n, %d - a]]\n", RP_VOCAB, RP_VOCAB,
               RP_TOKENS, last);
    else if (form == 2)
        rp_say(g, "    param few$[v: %d, b$: %d] ~ normal(0, 1)\n    h$[n, a: %d, b$] = if tokens[n, a] >= 9 and tokens[n, a] < 19 then few$[tokens[n, a] - 9, b$] else X[n, a, b$]\n",
               10, s.ext[1], RP_TOKENS);
    else if (form == 3)                           /* the word before */
        rp_say(g, "    param old$[v: %d, b$: %d] ~ normal(0, 1)\n    h$[n, a: %d, b$] = X[n, a, b$] - (if a > 0 then old$[tokens[n, a - 1], b$] else 0.2)\n", RP_VOCAB,
               s.ext[1], RP_TOKENS);
    else {                                        /* a loss of the next word */
        rp_say(g, "    param words$[v: %d, b$: %d] ~ normal(0, 0.3)\n    guess$[n, a: %d, v] = sum[b$](X[n, a, b$] * words$[v, b$])\n    all$[n, a] = "
                  "logsumexp[v](guess$[n, a, v])\n", RP_VOCAB, s.ext[1], RP_TOKENS);
        rp_say(g, "    h$[n, a, b$] = X[n, a, b$] + 0.2 * (all$[n, a] - guess$[n, a, tokens[n, %d - a]])\n", last);
    }
    rp_cover(g, form == 4 ? "a loss of words" : "indices by tokens");
    rp_push(g, s);
}
#endif
