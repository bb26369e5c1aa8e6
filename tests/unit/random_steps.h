/* random_steps.h -- steps of random programs (random_program.h): those that look at one axis or element.
 *
 * Each makes a tensor of at most three axes (beside the batch) from earlier ones, or nothing where the last tensor does not lend itself
 * to it. Values stay near 1, so that f32 and f64 can be compared; argmax and comparisons are of values that seldom tie. */
#ifndef RANDOM_STEPS_H
#define RANDOM_STEPS_H
#include "base.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { RP_VALUES = 64, RP_IMAGE = 8, RP_TOKENS = 7, RP_VOCAB = 40, RP_FORMS = 192 };

/* What programs have shown so far: the forms that they were made of. */
typedef struct RpCover { const char *name[RP_FORMS]; int times[RP_FORMS], n; } RpCover;

typedef struct RpShape { int rank, ext[3]; } RpShape;
typedef struct RpGen {
    Text *out;
    uint64_t seed, drawn;
    RpShape value[RP_VALUES];              /* of h0, h1, ... */
    int n;
    int most;                              /* elements of a tensor, for one sample */
    bool wide, text;                       /* axes may be long; in the text tower, which has `tokens` */
    RpCover *cover;
} RpGen;

static inline void rp_cover(RpGen *g, const char *form)
{
    RpCover *c = g->cover;
    int k = 0;
    while (k < c->n && strcmp(c->name[k], form))
        k++;
    if (k == c->n && k < RP_FORMS)
        c->name[c->n++] = form;
    c->times[k < RP_FORMS ? k : RP_FORMS - 1]++;
}

static inline int rp_below(RpGen *g, int n)
{
    return (int)(tic_philox(g->seed, g->drawn++, 0).v[0] % (uint32_t)n);
}

/* The length of a new axis: seldom a multiple of what a vector or a tile holds, sometimes 1. */
static inline int rp_extent(RpGen *g)
{
    static const int odd[] = { 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 65, 95, 96, 97, 127, 130 };
    return g->wide && rp_below(g, 2) ? odd[rp_below(g, (int)LEN(odd))] : 1 + rp_below(g, 24);
}

static inline RpShape *rp_top(RpGen *g) { return &g->value[g->n - 1]; }

static inline int rp_elements(const RpShape *s)
{
    int n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= s->ext[i];
    return n;
}

/* Axis i of the tensor that is being made is called a7, b7 or c7; `others` leaves one axis out. */
static inline const char *rp_axis(RpGen *g, int i) { return arena_printf(g->out->arena, "%c%d", 'a' + i, g->n); }

static inline const char *rp_axes(RpGen *g, const RpShape *s, int without)
{
    Text t = { .arena = g->out->arena };
    text_printf(&t, "n");
    for (int i = 0; i < s->rank; i++)
        if (i != without)
            text_printf(&t, ", %s", rp_axis(g, i));
    return text_data(&t);
}

/* An element of value v, axis `at` indexed by `index` instead of its name. */
static inline const char *rp_load(RpGen *g, int v, int at, const char *index)
{
    Text t = { .arena = g->out->arena };
    text_printf(&t, "h%d[n", v);
    for (int i = 0; i < g->value[v].rank; i++)
        text_printf(&t, ", %s", i == at ? index : rp_axis(g, i));
    text_printf(&t, "]");
    return text_data(&t);
}

static inline const char *rp_element(RpGen *g, int v) { return rp_load(g, v, -1, NULL); }

static inline void rp_push(RpGen *g, RpShape s) { g->value[g->n++] = s; }

static inline void rp_same(RpGen *g, const char *form)               /* @ stands for the element */
{
    const char *x = rp_element(g, g->n - 1);
    text_printf(g->out, "    h%d[%s] = ", g->n, rp_axes(g, rp_top(g), -1));
    for (; *form; form++)
        *form == '@' ? text_printf(g->out, "%s", x) : text_printf(g->out, "%c", *form);
    text_printf(g->out, "\n");
    rp_push(g, *rp_top(g));
}

static inline void rp_function(RpGen *g)
{
    static const char *const form[] = {
        "tanh(@)", "sin(2 * @)", "@ / (1 + exp(-@))", "max(@, 0) - 0.1 * min(@, 0)", "@ / 2 * (1 + erf(@ / sqrt(2)))", "exp(-abs(@))",
        "sqrt(@^2 + 0.3)", "ln(1 + exp(@ / 2))", "1 / (1 + @^2)", "rsqrt(@^2 + 1) * @", "if @ > 0.1 then @ else @^3 / 4", "cos(@) - 0.5",
        "min(max(@, -0.7), 0.8) + 0.2 * @", "(if @ * @ < 0.2 and not @ > 5 then 0.3 else @) * 0.9", "@^2 * 0.7 - @",
        "max(@, 0.3 - @, -0.2)",
        "@ * -0.5 + 1 - (@^2 + 0.4)^-2 / 4",
    };
    rp_same(g, form[rp_below(g, (int)LEN(form))]);
}

static inline void rp_linear_to(RpGen *g, int axis, int out)
{
    RpShape s = *rp_top(g);
    int k = g->n, bias = rp_below(g, 2);
    const char *x = rp_element(g, k - 1), *o = arena_printf(g->out->arena, "o%d", k);
    text_printf(g->out, "    param w%d[%s: %d, %s] ~ uniform(-0.5, 0.5)\n", k, o, out, arena_printf(g->out->arena, "%s: %d", rp_axis(g,
            axis), s.ext[axis]));
    if (bias)
        text_printf(g->out, "    param bias%d[%s: %d] = 0\n", k, o, out);
    text_printf(g->out, "    h%d[n", k);
    for (int i = 0; i < s.rank; i++)
        text_printf(g->out, ", %s", i == axis ? o : rp_axis(g, i));
    text_printf(g->out, "] = sum[%s](%s * w%d[%s, %s]) * %d^-0.5", rp_axis(g, axis), x, k, o, rp_axis(g, axis), s.ext[axis]);
    if (bias)
        text_printf(g->out, " + bias%d[%s]", k, o);
    text_printf(g->out, "\n");
    s.ext[axis] = out;
    rp_push(g, s);
}

static inline void rp_linear(RpGen *g)
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), out = rp_extent(g);
    s.ext[axis] = out;
    if (rp_elements(&s) <= g->most)
        rp_linear_to(g, axis, out);
}

static inline void rp_permute(RpGen *g)
{
    RpShape s = *rp_top(g), p = s;
    int by = 1 + rp_below(g, 2);
    text_printf(g->out, "    h%d[n", g->n);
    for (int i = 0; i < s.rank; i++) {
        p.ext[i] = s.ext[(i + by) % s.rank];
        text_printf(g->out, ", %s", rp_axis(g, (i + by) % s.rank));
    }
    text_printf(g->out, "] = %s\n", rp_element(g, g->n - 1));
    rp_push(g, p);
}

static inline void rp_split(RpGen *g)
{
    RpShape s = *rp_top(g), p = { s.rank + 1, { 0 } };
    int axis = rp_below(g, s.rank), inner = 2 + rp_below(g, 3);
    if (s.rank == 3 || s.ext[axis] % inner)
        return;
    text_printf(g->out, "    h%d[n", g->n);
    for (int i = 0, k = 0; i < s.rank; i++) {
        if (i != axis) {
            p.ext[k++] = s.ext[i];
            text_printf(g->out, ", %s", rp_axis(g, i));
            continue;
        }
        p.ext[k++] = s.ext[i] / inner;
        p.ext[k++] = inner;
        text_printf(g->out, ", r%d: %d, s%d: %d", g->n, s.ext[i] / inner, g->n, inner);
    }
    text_printf(g->out, "] = %s\n", rp_load(g, g->n - 1, axis, arena_printf(g->out->arena, "r%d*%d + s%d", g->n, inner, g->n)));
    rp_push(g, p);
}

static inline void rp_join(RpGen *g)
{
    RpShape s = *rp_top(g), p = { s.rank - 1, { 0 } };
    if (s.rank < 2)
        return;
    int axis = rp_below(g, s.rank - 1);
    text_printf(g->out, "    h%d[n", g->n);
    for (int i = 0, k = 0; i < s.rank; i++) {
        if (i == axis) {
            p.ext[k++] = s.ext[i] * s.ext[i + 1];
            text_printf(g->out, ", %s*%d + %s", rp_axis(g, i), s.ext[i + 1], rp_axis(g, i + 1));
            i++;
        } else {
            p.ext[k++] = s.ext[i];
            text_printf(g->out, ", %s", rp_axis(g, i));
        }
    }
    text_printf(g->out, "] = %s\n", rp_element(g, g->n - 1));
    rp_push(g, p);
}

static inline void rp_reduce(RpGen *g)
{
    static const char *const reducer[] = { "mean", "max", "min", "logsumexp", "sum" };
    RpShape s = *rp_top(g), p = { s.rank - 1, { 0 } };
    if (s.rank < 2)
        return;
    int axis = rp_below(g, s.rank), r = rp_below(g, (int)LEN(reducer));
    for (int i = 0, k = 0; i < s.rank; i++)
        if (i != axis)
            p.ext[k++] = s.ext[i];
    text_printf(g->out, "    h%d[%s] = %s[%s](%s)%s\n", g->n, rp_axes(g, &s, axis), reducer[r], rp_axis(g, axis), rp_element(g, g->n - 1),
                r == 4 ? " / 8" : "");
    rp_push(g, p);
}

static inline void rp_softmax(RpGen *g)
{
    RpShape s = *rp_top(g);
    const char *axis = rp_axis(g, rp_below(g, s.rank));
    text_printf(g->out, "    h%d[%s] = 3 * softmax[%s](2 * %s)\n", g->n, rp_axes(g, &s, -1), axis, rp_element(g, g->n - 1));
    rp_push(g, s);
}

static inline void rp_norm(RpGen *g)
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), k = g->n;
    const char *x = rp_element(g, k - 1), *all = rp_axes(g, &s, -1), *rest = rp_axes(g, &s, axis), *a = rp_axis(g, axis);
    text_printf(g->out, "    param gain%d[%s: %d] = 1\n", k, a, s.ext[axis]);
    text_printf(g->out, "    mu%d[%s] = mean[%s](%s)\n", k, rest, a, x);
    text_printf(g->out, "    var%d[%s] = mean[%s]((%s - mu%d[%s])^2)\n", k, rest, a, x, k, rest);
    text_printf(g->out, "    h%d[%s] = (%s - mu%d[%s]) * rsqrt(var%d[%s] + 0.05) * gain%d[%s]\n", k, all, x, k, rest, k, rest, k, a);
    rp_push(g, s);
}

/* Axis `axis` of the new tensor has `extent` elements and reads the old one at `index`, where %s is its own name. */
static inline void rp_moved(RpGen *g, int axis, int extent, const char *index, const char *guard)
{
    RpShape s = *rp_top(g);
    const char *a = rp_axis(g, axis);
    text_printf(g->out, "    h%d[n", g->n);
    for (int i = 0; i < s.rank; i++)
        i == axis ? text_printf(g->out, ", %s: %d", a, extent) : text_printf(g->out, ", %s", rp_axis(g, i));
    text_printf(g->out, "] = %s%s%s\n", guard, rp_load(g, g->n - 1, axis, index), *guard ? " else 0.25" : "");
    s.ext[axis] = extent;
    rp_push(g, s);
}

static inline void rp_move(RpGen *g)
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), n = s.ext[axis], pad = 1 + rp_below(g, 2);
    const char *a = rp_axis(g, axis);
    Arena *m = g->out->arena;
    switch (rp_below(g, 4)) {
    case 0: rp_moved(g, axis, n, arena_printf(m, "%d - %s", n - 1, a), ""); break;
    case 1:
        if (n > 2)
            rp_moved(g, axis, n - 1, arena_printf(m, "%s + 1", a), "");
        break;
    case 2:
        if (n > 3)
            rp_moved(g, axis, n / 2, arena_printf(m, "2*%s", a), "");
        break;
    default:
        if (rp_elements(&s) / n * (n + 2 * pad) <= g->most)
            rp_moved(g, axis, n + 2 * pad, arena_printf(m, "%s - %d", a, pad),
                     arena_printf(m, "if %s >= %d and %s < %d then ", a, pad, a, n + pad));
    }
}

static inline void rp_window(RpGen *g)
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), n = s.ext[axis], width = 2 + rp_below(g, 2), stride = 1 + rp_below(g, 2), k = g->n;
    int extent = (n - width) / stride + 1;
    if (n < width + stride)
        return;
    const char *a = rp_axis(g, axis);
    text_printf(g->out, "    param taps%d[k%d: %d] ~ uniform(-1, 1)\n    h%d[n", k, k, width, k);
    for (int i = 0; i < s.rank; i++)
        i == axis ? text_printf(g->out, ", %s: %d", a, extent) : text_printf(g->out, ", %s", rp_axis(g, i));
    text_printf(g->out, "] = sum[k%d](%s * taps%d[k%d])\n", k, rp_load(g, k - 1, axis, arena_printf(g->out->arena, "%d*%s + k%d",
            stride, a, k)), k, k);
    s.ext[axis] = extent;
    rp_push(g, s);
}

static inline void rp_extend(RpGen *g)            /* one more row, of a parameter, before or behind */
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), k = g->n, front = rp_below(g, 2);
    if (rp_elements(&s) / s.ext[axis] * (s.ext[axis] + 1) > g->most)
        return;
    text_printf(g->out, "    param row%d = 0.5\n", k);
    for (int piece = 0; piece < 2; piece++) {
        text_printf(g->out, "    h%d[n", k);
        for (int i = 0; i < s.rank; i++) {
            const char *a = rp_axis(g, i);
            i != axis ? text_printf(g->out, piece ? ", %s" : ", %s: %d", a, s.ext[i])
            : piece ? text_printf(g->out, front ? ", %s + 1" : ", %s", a) : text_printf(g->out, ", %d", front ? 0 : s.ext[i]);
        }
        piece ? text_printf(g->out, "] = %s - 0.1 * row%d\n", rp_element(g, k - 1), k) : text_printf(g->out, "] = row%d\n", k);
    }
    s.ext[axis]++;
    rp_push(g, s);
}

static inline void rp_together(RpGen *g)          /* with an earlier tensor of this shape, or with a parameter along one axis */
{
    static const char *const form[] = { "%s + %s", "%s * %s", "%s - 0.5 * %s", "max(%s, %s)", "if %s > %s then 0.7 else 0.2",
            "%s / (1 + (%s)^2)" };
    RpShape s = *rp_top(g);
    int k = g->n, axis = rp_below(g, s.rank), f = rp_below(g, (int)LEN(form));
    const char *x = rp_element(g, k - 1), *y = NULL;
    for (int v = rp_below(g, k); v < k - 1 && !y; v++)
        if (!memcmp(&g->value[v], &s, sizeof s))
            y = rp_element(g, v);
    if (!y) {
        text_printf(g->out, "    param along%d[%s: %d] ~ normal(0, 1)\n", k, rp_axis(g, axis), s.ext[axis]);
        y = arena_printf(g->out->arena, "along%d[%s]", k, rp_axis(g, axis));
    }
    if (f == 4)                                   /* a choice alone would leave both without a gradient */
        text_printf(g->out, "    h%d[%s] = (if %s > %s then 0.7 else 0.2) * (%s + %s)\n", k, rp_axes(g, &s, -1), x, y, x, y);
    else {
        text_printf(g->out, "    h%d[%s] = ", k, rp_axes(g, &s, -1));
        const char *const part[2] = { x, y };
        int used = 0;
        for (const char *c = form[f]; *c; c++)
            *c == '%' ? (void)(text_printf(g->out, "%s", part[used++]), c++) : (void)text_printf(g->out, "%c", *c);
        text_printf(g->out, "\n");
    }
    rp_push(g, s);
}

static inline void rp_attend(RpGen *g)            /* the first axis is time, the last one the features */
{
    RpShape s = *rp_top(g);
    int k = g->n, causal = rp_below(g, 2), own = rp_below(g, 2);
    if (s.rank < 2)
        return;
    const char *mid = s.rank == 3 ? arena_printf(g->out->arena, ", %s", rp_axis(g, 1)) : "", *a = rp_axis(g, 0), *d = rp_axis(g,
            s.rank - 1);
    const char *u = arena_printf(g->out->arena, "u%d", k);
    text_printf(g->out, "    s%d[n%s, %s, %s: %d] = sum[%s](%s * %s) * %d^-0.5\n", k, mid, a, u, s.ext[0], d, rp_element(g, k - 1),
            rp_load(g, k - 1, 0, u),
                s.ext[s.rank - 1]);
    text_printf(g->out, "    m%d[n%s, %s, %s] = %ss%d[n%s, %s, %s]\n", k, mid, a, u, causal ? arena_printf(g->out->arena,
            "if %s > %s then -inf else ", u, a) : "", k,
                mid, a, u);
    text_printf(g->out, "    p%d[n%s, %s, %s] = softmax[%s](m%d[n%s, %s, %s])\n", k, mid, a, u, u, k, mid, a, u);
    text_printf(g->out, "    h%d[%s] = sum[%s](p%d[n%s, %s, %s] * %s)", k, rp_axes(g, &s, -1), u, k, mid, a, u, rp_load(g, k - 1, 0, u));
    text_printf(g->out, own ? " + %s\n" : "\n", rp_element(g, k - 1));
    rp_push(g, s);
}

static inline void rp_prefix(RpGen *g)
{
    RpShape s = *rp_top(g);
    int axis = rp_below(g, s.rank), k = g->n;
    const char *u = arena_printf(g->out->arena, "u%d", k), *a = rp_axis(g, axis);
    text_printf(g->out, "    h%d[n", k);
    for (int i = 0; i < s.rank; i++)
        i == axis ? text_printf(g->out, ", %s: %d", a, s.ext[i]) : text_printf(g->out, ", %s", rp_axis(g, i));
    text_printf(g->out, "] = sum[%s](if %s <= %s then %s else 0) * %d^-0.5\n", u, u, a, rp_load(g, k - 1, axis, u), s.ext[axis]);
    rp_push(g, s);
}

static inline void rp_gather(RpGen *g)            /* what stands where the last axis's first feature is largest */
{
    RpShape s = *rp_top(g), p = { s.rank - 1, { s.ext[1], s.ext[2], 0 } };
    int k = g->n;
    if (s.rank < 2)
        return;
    text_printf(g->out, "    at%d[%s] = argmax[%s](%s)\n", k, rp_axes(g, &s, 0), rp_axis(g, 0), rp_element(g, k - 1));
    text_printf(g->out, "    h%d[%s] = %s\n", k, rp_axes(g, &s, 0), rp_load(g, k - 1, 0, arena_printf(g->out->arena, "at%d[%s]", k,
            rp_axes(g, &s, 0))));
    rp_push(g, p);
}
#endif
