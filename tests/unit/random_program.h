/* random_program.h -- a small well-typed program from a number: two towers of random equations, a random loss, an optimiser. */
#ifndef RANDOM_PROGRAM_H
#define RANDOM_PROGRAM_H
#include "random_edges.h"

enum { RP_FEATURES = 6 };

static inline void rp_body(RpGen *g, int steps)
{
    static const struct { void (*make)(RpGen *); const char *name; } step[] = {
        { rp_function, "function" }, { rp_function, "function" }, { rp_linear, "linear" }, { rp_linear, "linear" }, { rp_permute, "permuted axes" },
        { rp_split, "split axis" }, { rp_split, "split axis" }, { rp_join, "joined axes" }, { rp_reduce, "reduction" }, { rp_softmax, "softmax" },
        { rp_norm, "normalisation" }, { rp_move, "moved axis" }, { rp_move, "moved axis" }, { rp_window, "window" }, { rp_extend, "extended axis" },
        { rp_together, "two tensors" }, { rp_together, "two tensors" }, { rp_attend, "attention of itself" }, { rp_prefix, "prefix sums" },
        { rp_gather, "gather" }, { rp_library, NULL }, { rp_library, NULL }, { rp_heads, NULL }, { rp_heads, NULL }, { rp_conv, NULL }, { rp_conv, NULL }, { rp_conv, NULL },
        { rp_dilated, NULL }, { rp_toeplitz, NULL }, { rp_several, NULL }, { rp_whiten, NULL }, { rp_running, NULL }, { rp_ranks, NULL },
        { rp_gram, NULL }, { rp_diagonal, NULL }, { rp_outer, NULL }, { rp_both, NULL }, { rp_behind, NULL }, { rp_tied, NULL },
        { rp_pick, NULL }, { rp_lookup, NULL }, { rp_words, NULL }, { rp_row, NULL }, { rp_single, NULL }, { rp_numbers, NULL },
        { rp_pool, NULL }, { rp_pool, NULL }, { rp_stride, NULL }, { rp_neighbours, NULL }, { rp_neighbours, NULL }, { rp_upsample, NULL }, { rp_ties, NULL },
        { rp_ties, NULL }, { rp_edge, "edge" }, { rp_edge, "edge" }, { rp_past, NULL }, { rp_zero_rows, NULL }, { rp_broadcast, NULL }, { rp_broadcast, NULL },
        { rp_sample_mean, NULL }, { rp_square, NULL }, { rp_grouped, NULL }, { rp_grouped, NULL }, { rp_taps, NULL }, { rp_index, NULL }, { rp_index, NULL },
    };
    for (int made = 0, tries = 0; made < steps && tries < 4 * steps && g->n < RP_VALUES - 12; tries++) {
        int before = g->n, k = rp_below(g, (int)LEN(step));
        step[k].make(g);
        made += g->n > before;
        if (g->n > before && step[k].name)
            rp_cover(g, step[k].name);
    }
    while (rp_top(g)->rank > 1)
        rp_join(g);
    rp_same(g, "tanh(@)");
    rp_linear_to(g, 0, RP_FEATURES);
    text_printf(g->out, rp_below(g, 2) ? "    return l2_normalize(h%d)\n}\n\n" : "    return h%d\n}\n\n", g->n - 1);
}

static inline void rp_image(RpGen *g)
{
    text_printf(g->out, "fn image_tower(img[n, ch, row, col]) {\n");
    g->n = 0;
    g->text = false;
    if (rp_below(g, 2)) {
        int width = g->wide ? 17 + rp_below(g, 60) : 10;
        text_printf(g->out, "    param conv[d: %d, ch, i: 4, j: 4] ~ normal(0, 0.2)\n"
                    "    em[n, r: 2, s: 2, d] = sum[ch, i, j](img[n, ch, 4*r + i, 4*s + j] * conv[d, ch, i, j]) / 4\n"
                    "    h0[n, 2*r + s, d] = em[n, r, s, d]\n", width);
        rp_push(g, rp_shape(2, 4, width, 0));
    } else {
        text_printf(g->out, "    param mix[ch] ~ normal(0, 1)\n    h0[n, row, col] = sum[ch](img[n, ch, row, col] * mix[ch])\n");
        rp_push(g, rp_shape(2, RP_IMAGE, RP_IMAGE, 0));
    }
    rp_body(g, 4 + rp_below(g, 7));
}

static inline void rp_text(RpGen *g)
{
    int width = g->wide ? 20 + rp_below(g, 80) : 4 + rp_below(g, 8);
    text_printf(g->out, "fn text_tower(tokens[n, word]) {\n    param table[v: %d, d: %d] ~ normal(0, 1)\n"
                "    h0[n, word, d] = table[tokens[n, word], d]\n", RP_VOCAB, width);
    g->n = 0;
    g->text = true;
    rp_push(g, rp_shape(2, RP_TOKENS, width, 0));
    rp_body(g, 3 + rp_below(g, 6));
}

/* S: the products of all pairs, s[i, j]. */
static inline void rp_loss(RpGen *g)
{
    static const struct { const char *text, *name; } loss[] = {
        { "    return clip_loss(u, v, scale)\n", "loss: clip" },
        { "    param offset = -1\n    return sigmoid_loss(u, v, scale, offset)\n", "loss: sigmoid" },
        { "    return scale * mean[n](sum[o]((u[n, o] - v[n, o])^2))\n", "loss: distance" },
        { "S    r[i] = sum[j](max(0, 0.3 + s[i, j] - s[i, i]))\n    return mean[i](r[i]) + 0.1 * mean[i, j](s[i, j]^2)\n", "loss: margin" },
        { "S    p[i, j] = softmax[j](s[i, j])\n    return mean[i](-ln(p[i, i] + 0.01))\n", "loss: diagonal of a softmax" },
        { "S    return mean[i, j](tanh(s[i, j] - 0.5 * s[j, i]) * (if i == j then -1 else 0.3))\n", "loss: transposed pairs" },
        { "S    hard[i] = max[j](if j == i then -9 else s[i, j])\n    back[j] = max[i](if j == i then -9 else s[i, j])\n"
          "    return mean[i](max(0, 0.3 + hard[i] - s[i, i]) + ln(1 + exp(back[i] - s[i, i])))\n", "loss: hard negatives" },
        { "S    all[i] = logsumexp[j](s[i, j])\n    even[i] = mean[j](s[i, j])\n    return mean[i](all[i] - 0.9 * s[i, i] - 0.1 * even[i])\n",
          "loss: smoothed" },
        { "    c[o, q: size(o)] = mean[n](u[n, o] * v[n, q])\n    return scale * sum[o, q]((c[o, q] - (if o == q then 1 else 0))^2)\n",
          "loss: correlations of features" },
        { "    ut[o, n] = tanh(u[n, o])\n    s[i: size(n), j: size(n)] = scale * sum[o](ut[o, i] * v[j, o])\n    a[i] = logsumexp[j](s[i, j])\n"
          "    return mean[i](a[i] - s[i, i])\n", "loss: features transposed" },
        { "S    w[i: size(n), j: size(n)] = sum[o](u[i, o] * u[j, o])\n    a[i] = logsumexp[j](s[i, j])\n"
          "    b[i] = logsumexp[j](if i == j then -inf else w[i, j])\n    return mean[i](a[i] + ln(1 + exp(b[i] - 1)) - s[i, i])\n", "loss: pairs of one side" },
        { "    mu[o] = mean[n](u[n, o])\n    var[o] = mean[n]((u[n, o] - mu[o])^2)\n    z[n, o] = (u[n, o] - mu[o]) * rsqrt(var[o] + 0.1)\n"
          "    return scale * mean[n](sum[o](z[n, o] * v[n, o])) + mean[n, o](z[n, o]^4)\n", "loss: normalised over the batch" },
        { "S    best[i] = argmax[j](s[i, j])\n    return mean[i](-s[i, i]) + 0.1 * mean[i](sum[o](u[i, o] * v[best[i], o]))\n", "loss: gather of the batch" },
        { "S    all[n] = logsumexp[o](u[n, o])\n    return logsumexp[i, j](s[i, j]) - mean[i](s[i, i]) + 0.1 * mean[n](all[n])\n", "loss: softmax over all pairs" },
        { "S    p[i, j] = softmax[i](s[i, j])\n    q[i, j] = softmax[j](s[j, i])\n    return mean[i, j]((p[i, j] - q[i, j])^2) + mean[i](-ln(p[i, i] + 0.02))\n",
          "loss: softmax of columns" },
        { "S    d[i, j] = s[i, j] - s[i, i] - s[j, j]\n    r[i] = sum[j](1 / (1 + exp(-d[i, j])))\n    return mean[i](ln(1 + r[i]))\n", "loss: both diagonals" },
        { "S    g[i, j] = exp(-abs(s[i, j])) * (if i < j then 1 else 0.5)\n    return mean[i, j](g[i, j]) + 0.2 * mean[n, o](max(u[n, o], v[n, o]))\n",
          "loss: half of the pairs" },
    };
    int k = rp_below(g, (int)LEN(loss));
    text_printf(g->out, "fn pair_loss(u[n, o], v[n, o], scale) {\n");
    for (const char *c = loss[k].text; *c; c++)
        if (*c == 'S' && (c == loss[k].text || c[-1] == '\n'))
            text_printf(g->out, "    s[i: size(n), j: size(n)] = scale * sum[o](u[i, o] * v[j, o])\n");
        else
            text_printf(g->out, "%c", *c);
    text_printf(g->out, "}\n\n");
    rp_cover(g, loss[k].name);
}

static const char *const rp_optimizer[] = {
    "adamw(lr = constant(peak = 1e-3, warmup = 2), eps = 1e-4, weight_decay(p) = 0.1)",
    "adamw(lr = cosine(peak = 1e-2, warmup = 4), beta1 = 0.9, beta2 = 0.98, eps = 1e-4, weight_decay(p) = if rank(p) < 2 then 0 else 0.2)",
    "sgd(lr = cosine(peak = 1e-1, warmup = 0))",
    "sgd(lr = constant_cooldown(peak = 1e-1, warmup = 2, cooldown = 30, power = 2), momentum = 0.5)",
    "lion(lr = constant(peak = 1e-2, warmup = 0), weight_decay(p) = if rank(p) == 1 then 0.1 else 0)",
    "scaled(lr = 0.02)",
    "nesterov(lr = constant(peak = 1e-2, warmup = if t == 0 then 3 else 0), momentum = 0.7, weight_decay(p) = if rank(p) == 1 then 0 else 0.1)",
    "amsgrad(lr = cosine(peak = 1e-2, warmup = 1))",
    "averaged(lr = 0.05)",
};

static inline void rp_train(RpGen *g, bool scale)
{
    int o = rp_below(g, (int)LEN(rp_optimizer)), clip = rp_below(g, 3);
    text_printf(g->out, "train {\n    batch     = 4\n    samples   = 4 * 40\n    optimizer = %s\n", rp_optimizer[o]);
    if (clip < 2)
        text_printf(g->out, "    clip_norm = %s\n", clip ? "0.1" : "50");
    if (scale && rp_below(g, 2))
        text_printf(g->out, "    after { logit_scale = clamp(logit_scale, 0, 0.5) }\n");
    text_printf(g->out, "}\n");
    rp_cover(g, rp_optimizer[o]);
    if (clip < 2)
        rp_cover(g, "clip_norm");
}

/* What the program's parts were is added to `cover`. */
static inline void random_program(uint64_t seed, Text *out, RpCover *cover)
{
    RpGen g = { .out = out, .seed = seed, .most = 600, .cover = cover };
    g.wide = rp_below(&g, 4) == 0;
    g.most = g.wide ? 3000 : 600;
    bool shared = rp_below(&g, 3) == 0, scale = rp_below(&g, 2);
    text_printf(out, "# program %llu\nuse clip\nuse nn\nuse optim\n\n", (unsigned long long)seed);
    text_printf(out, "optimizer lion(w[..], g[..], lr, beta = 0.9, weight_decay(p) = 0) {\n    state exp_avg[..] = 0\n"
                "    blend[..] = beta * exp_avg[..] + (1 - beta) * g[..]\n"
                "    w[..] = w[..] * (1 - lr * weight_decay(w)) - lr * blend[..] / (abs(blend[..]) + 1e-3)\n"
                "    exp_avg[..] = 0.99 * exp_avg[..] + 0.01 * g[..]\n}\n\n"
                "optimizer scaled(w[..], g[..], lr) {\n    state seen[..] = 0\n    seen[..] = max(seen[..], abs(g[..]))\n"
                "    w[..] = w[..] - lr / (step + 1) * g[..] / (seen[..] + 0.1)\n}\n\n");
    text_printf(out, "optimizer nesterov(w[..], g[..], lr, momentum = 0.9, weight_decay(p) = 0) {\n    state buffer[..] = 0\n"
                "    d[..] = g[..] + weight_decay(w) * w[..]\n    buffer[..] = momentum * buffer[..] + d[..]\n"
                "    w[..] = w[..] - lr * (d[..] + momentum * buffer[..])\n}\n\n"
                "optimizer amsgrad(w[..], g[..], lr) {\n    let n = updates + 1\n    state exp_avg[..] = 0\n    state exp_avg_sq[..] = 0\n    state most[..] = 0\n"
                "    exp_avg[..] = 0.9 * exp_avg[..] + 0.1 * g[..]\n    exp_avg_sq[..] = 0.99 * exp_avg_sq[..] + 0.01 * g[..]^2\n"
                "    most[..] = max(most[..], exp_avg_sq[..])\n    let rate = if step < total / 2 then lr else lr / 2\n"
                "    w[..] = w[..] - rate / (1 - 0.9^n) * exp_avg[..] / (sqrt(most[..]) + 1e-2)\n}\n\n"
                "optimizer averaged(w[..], g[..], lr) {\n    state slow[..] = 0\n    old[..] = w[..]\n    w[..] = w[..] - lr * g[..] / (abs(g[..]) + 0.1)\n"
                "    slow[..] = 0.9 * slow[..] + 0.1 * w[..]\n    w[..] = w[..] + 0.05 * (slow[..] - old[..])\n}\n\n");
    text_printf(out, "fn alike(x[n, f], both[o, f]) {\n    y[n, o] = sum[f](x[n, f] * both[o, f])\n    return y\n}\n\n");
    rp_image(&g);
    rp_text(&g);
    rp_loss(&g);
    text_printf(out, "model random_%llu {\n", (unsigned long long)seed);
    if (shared)
        text_printf(out, "    param both[o: %d, f: %d] ~ normal(0, 0.5)\n", RP_FEATURES, RP_FEATURES);
    text_printf(out, shared ? "    fn encode_image(pixels[n, ch: 3, y: %d, x: %d]) = alike(image_tower(pixels) as visual, both)\n"
                              "    fn encode_text(tokens[n, t: %d]) = alike(text_tower(tokens) as text, both)\n"
                            : "    fn encode_image(pixels[n, ch: 3, y: %d, x: %d]) = image_tower(pixels) as visual\n"
                              "    fn encode_text(tokens[n, t: %d]) = text_tower(tokens) as text\n", RP_IMAGE, RP_IMAGE, RP_TOKENS);
    if (scale)
        text_printf(out, "    param logit_scale = 0.6\n");
    text_printf(out, "    fn loss(pixels, tokens) = pair_loss(encode_image(pixels), encode_text(tokens), %s)\n}\n\n",
                scale ? "exp(logit_scale)" : "2");
    text_printf(out, "data d {\n    shards = \"{data}/train/{year}/**/*.tar\"\n    image  = center_crop(%d)\n}\n\n", RP_IMAGE);
    rp_train(&g, scale);
    if (shared)
        rp_cover(&g, "a parameter of both towers");
    if (scale)
        rp_cover(&g, "logit_scale");
    if (g.wide)
        rp_cover(&g, "long axes");
}
#endif
