/* random_layers.h -- steps of random programs that look at several axes at once: layers, attention, convolutions, gathers.
 *
 * Their text is written with `$` for the number of the tensor that is being made and `X` for the one before, whose axes are a$, b$, c$. */
#ifndef RANDOM_LAYERS_H
#define RANDOM_LAYERS_H
#include "random_steps.h"
#include <stdarg.h>

static inline void rp_say(RpGen *g, const char *form, ...) __attribute__((format(printf, 2, 3)));
static inline void rp_say(RpGen *g, const char *form, ...)
{
    char line[1024];
    va_list args;
    va_start(args, form);
    vsnprintf(line, sizeof line, form, args);
    va_end(args);
    for (const char *c = line; *c; c++)
        *c == '$' ? text_printf(g->out, "%d", g->n) : *c == 'X' ? text_printf(g->out, "h%d", g->n - 1) : text_printf(g->out, "%c", *c);
}

static inline bool rp_fits(RpGen *g, RpShape s) { return rp_elements(&s) <= g->most; }

static inline RpShape rp_shape(int rank, int a, int b, int c)
{
    return (RpShape){ rank, { a, rank > 1 ? b : 0, rank > 2 ? c : 0 } };
}

static inline const char *rp_name(RpGen *g, int v) { return arena_printf(g->out->arena, "h%d", v); }

/* An earlier tensor of this rank and, where ext[i] is not 0, these extents, before the last one; -1: there is none. */
static inline int rp_earlier(RpGen *g, int rank, int a, int b)
{
    for (int tries = 0, v = rp_below(g, g->n); tries < g->n - 1; tries++, v = (v + 1) % g->n)
        if (v != g->n - 1 && g->value[v].rank == rank && (!a || g->value[v].ext[0] == a) && (!b || g->value[v].ext[1] == b))
            return v;
    return -1;
}

/* ---- the library's layers, along the last axis */

static inline void rp_library(RpGen *g)
{
    RpShape s = *rp_top(g);
    int form = rp_below(g, 3), heads = 1 + rp_below(g, 3), d = s.ext[s.rank - 1];
    if (form == 2 && (s.rank != 2 || d % heads || s.ext[0] * s.ext[0] * heads > 4 * g->most))
        form = rp_below(g, 2);
    if (form == 0)
        rp_say(g, "    let r$ = layer_norm(X) as ln$\n");
    else if (form == 1)
        rp_say(g, "    let r$ = mlp(X, %d, w_fc = normal(0, 0.4), w_proj = normal(0, 0.3)%s) as mlp$\n", 1 + rp_below(g, 20),
               rp_below(g, 2) ? ", activation = quick_gelu" : "");
    else
        rp_say(g, "    let r$ = resblock(X, %d, causal = %s, w_in = normal(0, 0.3), w_out = normal(0, 0.3), w_fc = normal(0, 0.3), "
                  "w_proj = normal(0, 0.3)) as block$\n", heads, rp_below(g, 2) ? "true" : "false");
    text_printf(g->out, "    h%d[%s] = 0.7 * r%d[%s]\n", g->n, rp_axes(g, &s, -1), g->n, rp_axes(g, &s, -1));
    rp_cover(g, form == 0 ? "layer_norm" : form == 1 ? "mlp" : "resblock");
    rp_push(g, s);
}

/* ---- attention of heads: groups of them share keys and values, other numbers of features for both */

static inline void rp_mask(RpGen *g, int t, int groups, int share, bool queries)
{
    static const char *const mask[] = {
        "s$[n, g, r, t, u]", "if u > t then -inf else s$[n, g, r, t, u]", "if u > t + 1 or u + 2 < t then -inf else s$[n, g, r, t, u]",
        "if u > 0 and X[n, u, 0] > 0.3 then -inf else s$[n, g, r, t, u]", NULL,
        "2 * tanh(s$[n, g, r, t, u]) - 0.1 * (g + r) * abs(t - u)", "s$[n, g, r, t, u] + (if mod(u, 2) == 0 then 0.3 else -0.2)",
        "if u > 0 and tokens[n, u] < 8 then -inf else s$[n, g, r, t, u]",
    };
    static const char *const name[] = { "mask: none", "mask: causal", "mask: band", "mask: by value", "bias by distance", "slope of heads",
                                        "mask: parity", "mask: tokens" };
    int m = rp_below(g, (int)LEN(mask));
    if (queries || (m == 7 && !(g->text && t == RP_TOKENS)))
        m = queries && m % 2 ? 6 : 0;
    if (m == 4)                                   /* how far apart they are */
        rp_say(g, "    param rel$[g: %d, r: %d, w: %d] ~ normal(0, 1)\n", groups, share, 2 * t - 1);
    rp_cover(g, name[m]);
    const char *score = m == 4 ? arena_printf(g->out->arena, "s$[n, g, r, t, u] + rel$[g, r, u - t + %d]", t - 1) : mask[m];
    rp_say(g, "    m$[n, g, r, t, u] = %s\n", score);
}

static inline void rp_weights(RpGen *g)           /* p$, the softmax of m$, by hand or not */
{
    int form = rp_below(g, 4);
    if (form == 0) {
        rp_say(g, "    top$[n, g, r, t] = max[u](m$[n, g, r, t, u])\n    e$[n, g, r, t, u] = exp(m$[n, g, r, t, u] - top$[n, g, r, t])\n"
                  "    all$[n, g, r, t] = sum[u](e$[n, g, r, t, u])\n    p$[n, g, r, t, u] = e$[n, g, r, t, u] / all$[n, g, r, t]\n");
        rp_cover(g, "softmax by hand");
    } else if (form == 1) {
        rp_say(g, "    all$[n, g, r, t] = logsumexp[u](m$[n, g, r, t, u])\n    p$[n, g, r, t, u] = exp(m$[n, g, r, t, u] - all$[n, g, r, t])\n");
        rp_cover(g, "softmax by logsumexp");
    } else {
        rp_say(g, "    p$[n, g, r, t, u] = softmax[u](m$[n, g, r, t, u])\n");
    }
}

static inline void rp_heads(RpGen *g)
{
    RpShape s = *rp_top(g);
    int t = s.ext[0], d = s.ext[1], groups = 1 + rp_below(g, 2), share = 1 + rp_below(g, 3), c = 1 + rp_below(g, 9), cv = 1 + rp_below(g, 9);
    int queries = rp_below(g, 2) ? 0 : 1 + rp_below(g, 4), out = rp_below(g, 2) ? d : rp_extent(g);
    int rows = queries ? queries : t, more = rp_below(g, 5);
    if (s.rank != 2 || rows * t * groups * share > 3 * g->most || rows * out > g->most)
        return;
    rp_say(g, "    param wk$[g: %d, i: %d, d: %d] ~ normal(0, 0.5)\n    param wv$[g: %d, j: %d, d: %d] ~ normal(0, 0.5)\n", groups, c, d, groups, cv, d);
    rp_say(g, "    k$[n, g, u: %d, i] = sum[d](X[n, u, d] * wk$[g, i, d])\n    v$[n, g, u: %d, j] = sum[d](X[n, u, d] * wv$[g, j, d])\n", t, t);
    if (queries)
        rp_say(g, "    param q$[h: %d, t: %d, i: %d] ~ normal(0, 1)\n    s$[n, g: %d, r: %d, t, u: %d] = sum[i](q$[g*%d + r, t, i] * k$[n, g, u, i]) "
                  "* %d^-0.5\n", groups * share, queries, c, groups, share, t, share, c);
    else
        rp_say(g, "    param wq$[h: %d, i: %d, d: %d] ~ normal(0, 0.5)\n    q$[n, h, t: %d, i] = sum[d](X[n, t, d] * wq$[h, i, d])\n"
                  "    s$[n, g: %d, r: %d, t, u: %d] = sum[i](q$[n, g*%d + r, t, i] * k$[n, g, u, i]) * %d^-0.5\n",
               groups * share, c, d, t, groups, share, t, share, c);
    rp_mask(g, t, groups, share, queries);
    rp_weights(g);
    if (more == 0)
        rp_say(g, "    more$[n, t] = max[g, r, u](p$[n, g, r, t, u])\n");
    else if (more == 1)
        rp_say(g, "    spread$[n, g, r, t] = sum[u](p$[n, g, r, t, u] * ln(p$[n, g, r, t, u] + 0.05))\n"
                  "    more$[n, t] = mean[g, r](spread$[n, g, r, t])\n");
    rp_say(g, "    z$[n, g, r, t, j] = sum[u](p$[n, g, r, t, u] * v$[n, g, u, j])\n    param wo$[o: %d, e: %d] ~ normal(0, 0.5)\n"
              "    h$[n, t, o] = sum[g, r, j](z$[n, g, r, t, j] * wo$[o, (g*%d + r)*%d + j])%s%s\n", out, groups * share * cv, share, cv,
           out == d && !queries && rp_below(g, 2) ? arena_printf(g->out->arena, " + h%d[n, t, o]", g->n - 1) : "", more < 2 ? " + 0.3 * more$[n, t]" : "");
    rp_cover(g, queries ? "learnt queries" : "heads");
    if (share > 1)
        rp_cover(g, "heads that share keys");
    if (more < 2)
        rp_cover(g, "attention weights read again");
    rp_push(g, rp_shape(2, rows, out, 0));
}

/* ---- convolutions */

static inline void rp_conv(RpGen *g)              /* of a picture with channels in front or behind, with padding */
{
    RpShape s = *rp_top(g);
    int front = rp_below(g, 2), c = s.ext[front ? 0 : 2], y = s.ext[front ? 1 : 0], x = s.ext[front ? 2 : 1], o = 1 + rp_below(g, 9);
    int stride = 1 + rp_below(g, 2), oy = (y + stride - 1) / stride, ox = (x + stride - 1) / stride;
    if (s.rank != 3 || o * oy * ox > g->most)
        return;
    rp_say(g, "    param k$[o: %d, c: %d, i: 3, j: 3] ~ normal(0, 0.3)\n    h$[n, %s] = sum[c, i, j](if %d*y + i >= 1 and %d*y + i < %d and %d*x + j >= 1 "
              "and %d*x + j < %d then ", o, c, front ? arena_printf(g->out->arena, "o, y: %d, x: %d", oy, ox) : arena_printf(g->out->arena,
              "y: %d, x: %d, o", oy, ox), stride, stride, y + 1, stride, stride, x + 1);
    rp_say(g, front ? "X[n, c, %d*y + i - 1, %d*x + j - 1] * k$[o, c, i, j] else 0)\n" : "X[n, %d*y + i - 1, %d*x + j - 1, c] * k$[o, c, i, j] else 0)\n",
           stride, stride);
    rp_cover(g, stride > 1 ? "convolution with padding and a stride" : "convolution with padding");
    rp_push(g, front ? rp_shape(3, o, oy, ox) : rp_shape(3, oy, ox, o));
}

static inline void rp_dilated(RpGen *g)           /* each channel of its own, along the first axis; the past alone, or both sides */
{
    RpShape s = *rp_top(g);
    int by = 1 + rp_below(g, 3), shift = rp_below(g, 2) ? 2 * by : by;
    if (s.rank != 2)
        return;
    rp_say(g, "    param taps$[k: 3, b: %d] ~ uniform(-1, 1)\n    h$[n, a: %d, b] = sum[k](if a + %d*k >= %d and a + %d*k < %d then X[n, a + %d*k - %d, b] "
              "* taps$[k, b] else 0)\n", s.ext[1], s.ext[0], by, shift, by, s.ext[0] + shift, by, shift);
    rp_cover(g, "depthwise, dilated");
    rp_push(g, s);
}

static inline void rp_toeplitz(RpGen *g)
{
    RpShape s = *rp_top(g);
    int n = s.ext[0];
    if (s.rank > 2)
        return;
    rp_say(g, "    param lag$[w: %d] ~ normal(0, 1)\n", 2 * n - 1);
    rp_say(g, s.rank == 2 ? "    h$[n, t: %d, b$] = sum[u](X[n, u, b$] * lag$[t - u + %d]) * %d^-0.5\n"
                          : "    h$[n, t: %d] = sum[u](X[n, u] * lag$[t - u + %d]) * %d^-0.5\n", n, n - 1, n);
    rp_cover(g, "toeplitz");
    rp_push(g, s);
}

/* ---- reductions of several axes, normalisation over them, totals along an axis */

static inline void rp_several(RpGen *g)
{
    static const char *const reducer[] = { "sum", "mean", "max", "min", "logsumexp" };
    static const char *const of[] = { "a$, b$", "b$, c$", "c$, a$" };
    static const char *const left[] = { "c$", "a$", "b$" };
    RpShape s = *rp_top(g);
    int pair = rp_below(g, 3), r = rp_below(g, (int)LEN(reducer));
    if (s.rank != 3)
        return;
    rp_say(g, "    h$[n, %s] = 0.5 * ", left[pair]);
    rp_say(g, "%s[%s]", reducer[r], of[pair]);
    rp_say(g, "(X[n, a$, b$, c$]%s)\n", r ? "" : " / 9");
    rp_cover(g, "reduction of two axes");
    rp_push(g, rp_shape(1, s.ext[(pair + 2) % 3], 0, 0));
}

static inline void rp_whiten(RpGen *g)            /* a whole sample */
{
    RpShape s = *rp_top(g);
    const char *all = rp_axes(g, &s, -1);
    if (s.rank < 2)
        return;
    const char *axes = s.rank == 2 ? "a$, b$" : "a$, b$, c$";
    rp_say(g, "    mu$[n] = mean[%s](", axes);
    text_printf(g->out, "h%d[%s])\n", g->n - 1, all);
    rp_say(g, "    var$[n] = mean[%s](", axes);
    text_printf(g->out, "(h%d[%s] - mu%d[n])^2)\n    h%d[%s] = (h%d[%s] - mu%d[n]) / sqrt(var%d[n] + 0.1)\n", g->n - 1, all, g->n, g->n, all,
                g->n - 1, all, g->n, g->n);
    rp_cover(g, "normalised sample");
    rp_push(g, s);
}

static inline void rp_running(RpGen *g)           /* logsumexp or max of what stands before */
{
    RpShape s = *rp_top(g);
    if (s.rank > 2)
        return;
    const char *rest = s.rank == 2 ? ", b$" : "";
    rp_say(g, "    h$[n, t: %d%s] = %s[u](if u <= t then X[n, u%s] else -inf)\n", s.ext[0], rest, rp_below(g, 2) ? "logsumexp" : "max", rest);
    rp_cover(g, "running maximum");
    rp_push(g, s);
}

static inline void rp_ranks(RpGen *g)             /* weighed by how many are larger */
{
    RpShape s = *rp_top(g);
    if (s.rank != 2)
        return;
    rp_say(g, "    over$[n, t: %d, b$] = sum[u](if X[n, u, b$] > X[n, t, b$] then 1 else 0)\n", s.ext[0]);
    rp_say(g, "    h$[n, t, b$] = X[n, t, b$] * (0.9 + over$[n, t, b$]) / %d\n", 1 + s.ext[0] / 2);
    rp_cover(g, "counts of comparisons");
    rp_push(g, s);
}

/* ---- products of tensors */

static inline void rp_gram(RpGen *g)
{
    RpShape s = *rp_top(g);
    if (s.rank != 2 || s.ext[0] * s.ext[0] > g->most)
        return;
    rp_say(g, "    h$[n, a: %d, b: %d] = sum[d](X[n, a, d] * X[n, b, d]) * %d^-0.5\n", s.ext[0], s.ext[0], s.ext[1]);
    rp_cover(g, "gram matrix");
    rp_push(g, rp_shape(2, s.ext[0], s.ext[0], 0));
}

static inline void rp_diagonal(RpGen *g)
{
    RpShape s = *rp_top(g);
    if (s.rank != 2 || s.ext[0] != s.ext[1])
        return;
    rp_say(g, "    trace$[n] = sum[a$](X[n, a$, a$])\n    h$[n, a$] = X[n, a$, a$] + 0.1 * trace$[n]\n");
    rp_cover(g, "diagonal");
    rp_push(g, rp_shape(1, s.ext[0], 0, 0));
}

static inline void rp_outer(RpGen *g)
{
    RpShape s = *rp_top(g);
    int v = rp_earlier(g, 1, 0, 0);
    if (s.rank != 1 || v < 0 || s.ext[0] * g->value[v].ext[0] > g->most)
        return;
    rp_say(g, "    h$[n, a$, q] = X[n, a$] * h%d[n, q]\n", v);
    rp_cover(g, "outer product");
    rp_push(g, rp_shape(2, s.ext[0], g->value[v].ext[0], 0));
}

static inline void rp_both(RpGen *g)              /* a product of two tensors of a sample */
{
    RpShape s = *rp_top(g);
    int v = s.rank == 2 ? rp_earlier(g, 2, 0, s.ext[1]) : -1;
    if (v < 0 || s.ext[0] * g->value[v].ext[0] > g->most)
        return;
    rp_say(g, "    h$[n, a$, q] = sum[b$](X[n, a$, b$] * h%d[n, q, b$]) * %d^-0.5\n", v, s.ext[1]);
    rp_cover(g, "product of two tensors");
    rp_push(g, rp_shape(2, s.ext[0], g->value[v].ext[0], 0));
}

static inline void rp_behind(RpGen *g)            /* two tensors, one behind the other */
{
    RpShape s = *rp_top(g);
    int v = s.rank == 2 ? rp_earlier(g, 2, 0, s.ext[1]) : -1;
    if (v < 0 || (s.ext[0] + g->value[v].ext[0]) * s.ext[1] > g->most)
        return;
    rp_say(g, "    h$[n, a$, b$] = X[n, a$, b$]\n    h$[n, %d + q, b$] = h%d[n, q, b$]\n", s.ext[0], v);
    rp_cover(g, "one behind the other");
    rp_push(g, rp_shape(2, s.ext[0] + g->value[v].ext[0], s.ext[1], 0));
}

static inline void rp_tied(RpGen *g)              /* down and up again by the same parameter */
{
    RpShape s = *rp_top(g);
    int d = s.ext[s.rank - 1], w = rp_extent(g);
    if (s.rank != 2 || s.ext[0] * w > g->most)
        return;
    rp_say(g, "    param tied$[f: %d, b$: %d] ~ normal(0, 0.5)\n    down$[n, a$, f] = tanh(sum[b$](X[n, a$, b$] * tied$[f, b$]) * %d^-0.5)\n"
              "    h$[n, a$, b$] = sum[f](down$[n, a$, f] * tied$[f, b$]) * %d^-0.5\n", w, d, d, w);
    rp_cover(g, "a parameter used twice");
    rp_push(g, s);
}

/* ---- gathers */

static inline void rp_pick(RpGen *g)              /* rows of the tensor, some of them several times */
{
    RpShape s = *rp_top(g);
    if (s.rank != 2)
        return;
    rp_say(g, "    at$[n, b$] = argmax[a$](X[n, a$, b$])\n    h$[n, b$, q: %d] = X[n, at$[n, b$], q] + 0.5 * X[n, 0, b$]\n", s.ext[1]);
    if (s.ext[1] * s.ext[1] > g->most)
        text_printf(g->out, "    h%d[n, a] = h%d[n, 0, a]\n", g->n + 1, g->n);
    rp_cover(g, "rows picked repeatedly");
    rp_push(g, rp_shape(2, s.ext[1], s.ext[1], 0));
    if (s.ext[1] * s.ext[1] > g->most)
        rp_push(g, rp_shape(1, s.ext[1], 0, 0));
}

static inline void rp_lookup(RpGen *g)            /* a row of a table by the place of the largest */
{
    RpShape s = *rp_top(g);
    int w = rp_extent(g);
    if (s.rank != 2 || s.ext[0] * w > g->most)
        return;
    rp_say(g, "    param rows$[v: %d, w: %d] ~ normal(0, 1)\n    at$[n, a$] = argmax[b$](X[n, a$, b$])\n"
              "    h$[n, a$, w] = rows$[at$[n, a$], w] + X[n, a$, 0]\n", s.ext[1], w);
    rp_cover(g, "table by argmax");
    rp_push(g, rp_shape(2, s.ext[0], w, 0));
}

static inline void rp_words(RpGen *g)             /* the tokens once more: a table, or the row of the largest token */
{
    RpShape s = *rp_top(g);
    if (!g->text || s.rank != 2 || s.ext[0] != RP_TOKENS)
        return;
    if (rp_below(g, 2)) {
        rp_say(g, "    param more$[v: %d, b$: %d] ~ normal(0, 1)\n    h$[n, a$, b$] = X[n, a$, b$] * more$[tokens[n, a$], b$]\n", RP_VOCAB, s.ext[1]);
        rp_cover(g, "tokens read again");
        rp_push(g, s);
        return;
    }
    rp_say(g, "    eot$[n] = argmax[t](tokens[n, t])\n    h$[n, b$] = X[n, eot$[n], b$]\n");
    rp_cover(g, "row of the largest token");
    rp_push(g, rp_shape(1, s.ext[1], 0, 0));
}

/* ---- others */

static inline void rp_row(RpGen *g)               /* the first or the last */
{
    RpShape s = *rp_top(g);
    if (s.rank < 2)
        return;
    rp_say(g, s.rank == 2 ? "    h$[n, b$] = X[n, %d, b$]\n" : "    h$[n, b$, c$] = X[n, %d, b$, c$]\n", rp_below(g, 2) ? 0 : s.ext[0] - 1);
    rp_cover(g, "one row");
    rp_push(g, rp_shape(s.rank - 1, s.ext[1], s.ext[2], 0));
}

static inline void rp_single(RpGen *g)            /* an axis of one */
{
    RpShape s = *rp_top(g);
    int last = rp_below(g, 2);
    if (s.rank != 2)
        return;
    rp_say(g, last ? "    h$[n, a$, b$, e: 1] = X[n, a$, b$]\n" : "    h$[n, a$, e: 1, b$] = X[n, a$, b$]\n");
    rp_cover(g, "an axis of one");
    rp_push(g, rp_shape(3, s.ext[0], last ? s.ext[1] : 1, last ? 1 : s.ext[1]));
}

static inline void rp_numbers(RpGen *g)           /* indices as numbers */
{
    static const char *const form[] = { "@ * cos(A / 3) + 0.1 * (A + 1) / E", "if mod(A, 2) == 0 then sin(@) else @ / 2",
            "@ * (A + 1) / E + floor(2 * @) / 8", "if A < E / 2 then @ else 0.5 * @^2" };
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank);
    const char *x = rp_element(g, g->n - 1);
    text_printf(g->out, "    h%d[%s] = ", g->n, rp_axes(g, &s, -1));
    for (const char *f = form[rp_below(g, (int)LEN(form))]; *f; f++)
        *f == '@' ? text_printf(g->out, "%s", x) : *f == 'A' ? text_printf(g->out, "%s", rp_axis(g, axis))
        : *f == 'E' ? text_printf(g->out, "%d", s.ext[axis]) : text_printf(g->out, "%c", *f);
    text_printf(g->out, "\n");
    rp_cover(g, "indices as numbers");
    rp_push(g, s);
}
#endif
