/* clip_graph.h -- a CLIP training step as a graph, written down by hand: for tests of what comes after the front end.
 *
 * The builder keeps one extent per letter; an equation is a store map over letters, the reduced letters, and a body:
 *
 *     set(b, "t", 17);
 *     mu = eq(b, "mu", "b,t", "d", RED_SUM, mul(b, ld(b, x, "b,t,d"), num(b, 1. / 16)));
 *
 * Index maps are sums of letters, letter*number and numbers. Everything lives in the graph's arena. */
#ifndef CLIP_GRAPH_H
#define CLIP_GRAPH_H
#include "ir/graph.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    Graph *g;
    Ext ext[26];
    const char *tag;
    ARRAY(int) param;
} Build;

static void set(Build *b, const char *letters, Ext n)
{
    for (; *letters; letters++)
        b->ext[*letters - 'a'] = n;
}

/* one index map; advances past a comma */
static const Affine *map_of(Build *b, const char **s)
{
    const Affine *a = aff_const(b->g, 0);
    int64_t sign = 1;
    while (**s && **s != ',') {
        char *end;
        if (**s == '+' || **s == '-') {
            sign = **s == '-' ? -1 : 1;
            (*s)++;
        } else if (**s >= 'a' && **s <= 'z') {
            int axis = *(*s)++ - 'a';
            int64_t k = 1;
            if (**s == '*') {
                k = strtoll(*s + 1, &end, 10);
                *s = end;
            }
            a = aff_add(b->g, a, aff_term(b->g, axis, sign * k, 0));
        } else {
            a = aff_add(b->g, a, aff_const(b->g, sign * strtoll(*s, &end, 10)));
            *s = end;
        }
    }
    *s += **s == ',';
    return a;
}

static const Expr *ld(Build *b, int tensor, const char *index)
{
    const Affine *idx[MAX_RANK] = { NULL };
    for (int d = 0; *index; d++)
        idx[d] = map_of(b, &index);
    return expr_load(b->g, tensor, idx);
}

static const Expr *num(Build *b, double x) { return expr_const(b->g, x); }
static const Expr *add(Build *b, const Expr *x, const Expr *y) { return expr_op(b->g, OP_ADD, x, y, NULL); }
static const Expr *sub(Build *b, const Expr *x, const Expr *y) { return expr_op(b->g, OP_SUB, x, y, NULL); }
static const Expr *mul(Build *b, const Expr *x, const Expr *y) { return expr_op(b->g, OP_MUL, x, y, NULL); }
static const Expr *divide(Build *b, const Expr *x, const Expr *y) { return expr_op(b->g, OP_DIV, x, y, NULL); }
static const Expr *fn(Build *b, Op op, const Expr *x) { return expr_op(b->g, op, x, NULL, NULL); }

/* out[store] = reducer over the letters of red of body, into an existing tensor */
static void piece(Build *b, int out, const char *store, const char *red, Reducer r, const Expr *body)
{
    const Affine *map[26] = { NULL }, *to[MAX_RANK] = { NULL };
    Ext ext[MAX_AXES];
    int n = 0, rank = 0;
    uint32_t mask = 0;
    for (const char *s = store; *s; rank++)
        to[rank] = map_of(b, &s);
    for (const char *s = store; *s; s++)
        if (*s >= 'a' && *s <= 'z' && !map[*s - 'a']) {
            ext[n] = b->ext[*s - 'a'];
            map[*s - 'a'] = aff_axis(b->g, n++);
        }
    for (const char *s = red; *s; s++) {
        ext[n] = b->ext[*s - 'a'];
        mask |= 1u << n;
        map[*s - 'a'] = aff_axis(b->g, n++);
    }
    for (int d = 0; d < rank; d++)
        to[d] = aff_subst(b->g, to[d], map, 26);
    graph_comp(b->g, out, n, ext, mask, r, expr_subst(b->g, body, map, 26), to, (Span){ 0, 0 }, b->tag);
}

static int tensor_typed(Build *b, const char *name, const char *store, TensorKind kind, DType type)
{
    Ext shape[MAX_RANK];
    int rank = 0;
    for (const char *s = store; *s; rank++) {
        const Affine *a = map_of(b, &s);
        Box box;
        store_box(&a, 1, b->ext, &box);
        shape[rank] = box.n == EXT_BATCH ? EXT_BATCH : box.lo + box.n;
    }
    return graph_tensor(b->g, name, rank, shape, kind, type);
}

static int eq(Build *b, const char *name, const char *store, const char *red, Reducer r, const Expr *body)
{
    int t = tensor_typed(b, name, store, T_TEMP, r == RED_ARGMAX ? DT_I32 : DT_F32);
    piece(b, t, store, red, r, body);
    return t;
}

static int param(Build *b, const char *scope, const char *name, const char *shape)
{
    int t = tensor_typed(b, arena_printf(b->g->arena, "%s%s", scope, name), shape, T_PARAM, DT_F32);
    PUSH(b->g->arena, b->param, t);
    return t;
}

/* ---- CLIP */

typedef struct { int image, patch, v_width, v_layers, v_heads, context, vocab, t_width, t_layers, t_heads, out; } Clip;
static const Clip clip_tiny = { 16, 4, 16, 2, 2, 7, 20, 16, 2, 2, 8 };
static const Clip clip_vit_b16 = { 224, 16, 768, 12, 12, 77, 49408, 512, 12, 8, 512 };

static int linear(Build *b, int x, const char *scope, const char *name, char from, char to)
{
    char wi[] = { to, ',', from, 0 }, bi[] = { to, 0 }, xi[] = { 'b', ',', 't', ',', from, 0 };
    char yi[] = { 'b', ',', 't', ',', to, 0 }, red[] = { from, 0 };
    const char *full = arena_printf(b->g->arena, "%s%s", scope, name);
    int w = param(b, full, ".weight", wi), bias = param(b, full, ".bias", bi);
    int s = eq(b, "y", yi, red, RED_SUM, mul(b, ld(b, x, xi), ld(b, w, wi)));
    return eq(b, "y", yi, "", RED_NONE, add(b, ld(b, s, yi), ld(b, bias, bi)));
}

static int layer_norm(Build *b, int x, const char *scope, const char *name)
{
    const char *full = arena_printf(b->g->arena, "%s%s", scope, name), *tag = b->tag;
    b->tag = full;
    int w = param(b, full, ".weight", "d"), bias = param(b, full, ".bias", "d");
    double n = 1. / (double)b->ext['d' - 'a'];
    int s = eq(b, "mu", "b,t", "d", RED_SUM, ld(b, x, "b,t,d"));
    int mu = eq(b, "mu", "b,t", "", RED_NONE, mul(b, ld(b, s, "b,t"), num(b, n)));
    const Expr *c = sub(b, ld(b, x, "b,t,d"), ld(b, mu, "b,t"));
    int q = eq(b, "var", "b,t", "d", RED_SUM, mul(b, c, c));
    int var = eq(b, "var", "b,t", "", RED_NONE, mul(b, ld(b, q, "b,t"), num(b, n)));
    const Expr *r = fn(b, OP_RSQRT, add(b, ld(b, var, "b,t"), num(b, 1e-5)));
    int y = eq(b, "y", "b,t,d", "", RED_NONE, add(b, mul(b, mul(b, c, r), ld(b, w, "d")), ld(b, bias, "d")));
    b->tag = tag;
    return y;
}

static int attention(Build *b, int x, const char *scope, int width, int heads, bool causal)
{
    int c = width / heads;
    Arena *a = b->g->arena;
    set(b, "h", heads);
    set(b, "i", c);
    set(b, "f", 3 * width);
    int w = param(b, scope, "attn.in_proj_weight", "f,d"), bias = param(b, scope, "attn.in_proj_bias", "f"), head[3];
    int s = eq(b, "qkv", "b,t,f", "d", RED_SUM, mul(b, ld(b, x, "b,t,d"), ld(b, w, "f,d")));
    int qkv = eq(b, "qkv", "b,t,f", "", RED_NONE, add(b, ld(b, s, "b,t,f"), ld(b, bias, "f")));
    for (int k = 0; k < 3; k++)
        head[k] = eq(b, k == 0 ? "q" : k == 1 ? "k" : "v", "b,h,t,i", "", RED_NONE,
                     ld(b, qkv, arena_printf(a, "b,t,%d+h*%d+i", k * width, c)));
    s = eq(b, "s", "b,h,t,u", "i", RED_SUM, mul(b, ld(b, head[0], "b,h,t,i"), ld(b, head[1], "b,h,u,i")));
    s = eq(b, "s", "b,h,t,u", "", RED_NONE, mul(b, ld(b, s, "b,h,t,u"), num(b, 1 / sqrt(c))));
    if (causal) {
        const Expr *later = expr_op(b->g, OP_GT, expr_index(b->g, aff_axis(b->g, 'u' - 'a')),
                                    expr_index(b->g, aff_axis(b->g, 't' - 'a')), NULL);
        s = eq(b, "m", "b,h,t,u", "", RED_NONE, expr_op(b->g, OP_WHERE, later, num(b, -INFINITY), ld(b, s, "b,h,t,u")));
    }
    int l = eq(b, "lse", "b,h,t", "u", RED_LOGSUMEXP, ld(b, s, "b,h,t,u"));
    int p = eq(b, "p", "b,h,t,u", "", RED_NONE, fn(b, OP_EXP, sub(b, ld(b, s, "b,h,t,u"), ld(b, l, "b,h,t"))));
    int z = eq(b, "z", "b,t,h,i", "u", RED_SUM, mul(b, ld(b, p, "b,h,t,u"), ld(b, head[2], "b,h,u,i")));
    int ow = param(b, scope, "attn.out_proj.weight", "e,d"), ob = param(b, scope, "attn.out_proj.bias", "e");
    int y = eq(b, "y", "b,t,e", "hi", RED_SUM, mul(b, ld(b, z, "b,t,h,i"), ld(b, ow, arena_printf(a, "e,h*%d+i", c))));
    return eq(b, "y", "b,t,e", "", RED_NONE, add(b, ld(b, y, "b,t,e"), ld(b, ob, "e")));
}

static int block(Build *b, int x, const char *scope, int width, int heads, bool causal)
{
    const char *tag = b->tag;
    set(b, "de", width);
    set(b, "m", 4 * width);
    int n = layer_norm(b, x, scope, "ln_1");
    b->tag = arena_printf(b->g->arena, "%sattn", scope);
    n = attention(b, n, scope, width, heads, causal);
    x = eq(b, "x", "b,t,d", "", RED_NONE, add(b, ld(b, x, "b,t,d"), ld(b, n, "b,t,d")));
    n = layer_norm(b, x, scope, "ln_2");
    b->tag = arena_printf(b->g->arena, "%smlp", scope);
    n = linear(b, n, scope, "mlp.c_fc", 'd', 'm');
    const Expr *h = ld(b, n, "b,t,m");
    n = eq(b, "a", "b,t,m", "", RED_NONE,
           mul(b, mul(b, h, num(b, .5)), add(b, num(b, 1), fn(b, OP_ERF, mul(b, h, num(b, sqrt(.5)))))));
    n = linear(b, n, scope, "mlp.c_proj", 'm', 'd');
    x = eq(b, "x", "b,t,d", "", RED_NONE, add(b, ld(b, x, "b,t,d"), ld(b, n, "b,t,d")));
    b->tag = tag;
    return x;
}

static int normalize(Build *b, int x)
{
    const Expr *e = ld(b, x, "b,o");
    int s = eq(b, "n", "b", "o", RED_SUM, mul(b, e, e));
    int n = eq(b, "n", "b", "", RED_NONE, fn(b, OP_SQRT, ld(b, s, "b")));
    return eq(b, "y", "b,o", "", RED_NONE, divide(b, e, expr_op(b->g, OP_MAX, ld(b, n, "b"), num(b, 1e-12), NULL)));
}

static int transformer(Build *b, int x, const char *scope, int layers, int width, int heads, bool causal)
{
    for (int i = 0; i < layers; i++)
        x = block(b, x, arena_printf(b->g->arena, "%stransformer.resblocks.%d.", scope, i), width, heads, causal);
    return x;
}

static int image_tower(Build *b, int pixels, Clip c)
{
    int grid = c.image / c.patch;
    Arena *a = b->g->arena;
    b->tag = "visual";
    set(b, "rc", grid);
    set(b, "jk", c.patch);
    set(b, "q", 3);
    set(b, "de", c.v_width);
    set(b, "p", grid * grid);
    set(b, "t", grid * grid + 1);
    set(b, "u", grid * grid + 1);
    set(b, "o", c.out);
    int cls = param(b, "visual.", "class_embedding", "d"), pos = param(b, "visual.", "positional_embedding", "t,d");
    int proj = param(b, "visual.", "proj", "d,o"), w = param(b, "visual.", "conv1.weight", "d,q,j,k");
    int e = eq(b, "e", "b,r,c,d", "qjk", RED_SUM,
               mul(b, ld(b, pixels, arena_printf(a, "b,q,r*%d+j,c*%d+k", c.patch, c.patch)), ld(b, w, "d,q,j,k")));
    int z = eq(b, "z", arena_printf(a, "b,r*%d+c,d", grid), "", RED_NONE, ld(b, e, "b,r,c,d"));
    int x = tensor_typed(b, "x", "b,t,d", T_TEMP, DT_F32);
    piece(b, x, "b,0,d", "", RED_NONE, ld(b, cls, "d"));
    piece(b, x, "b,1+p,d", "", RED_NONE, ld(b, z, "b,p,d"));
    x = eq(b, "x", "b,t,d", "", RED_NONE, add(b, ld(b, x, "b,t,d"), ld(b, pos, "t,d")));
    x = layer_norm(b, x, "visual.", "ln_pre");
    x = transformer(b, x, "visual.", c.v_layers, c.v_width, c.v_heads, false);
    x = layer_norm(b, x, "visual.", "ln_post");
    x = eq(b, "pool", "b,d", "", RED_NONE, ld(b, x, "b,0,d"));
    return normalize(b, eq(b, "f", "b,o", "d", RED_SUM, mul(b, ld(b, x, "b,d"), ld(b, proj, "d,o"))));
}

static int text_tower(Build *b, int tokens, Clip c)
{
    b->tag = "text";
    set(b, "de", c.t_width);
    set(b, "tu", c.context);
    set(b, "v", c.vocab);
    set(b, "o", c.out);
    int pos = param(b, "", "positional_embedding", "t,d"), proj = param(b, "", "text_projection", "d,o");
    int table = param(b, "", "token_embedding.weight", "v,d");
    const Affine *row[2] = { aff_load(b->g, ld(b, tokens, "b,t")), aff_axis(b->g, 'd' - 'a') };
    int x = eq(b, "x", "b,t,d", "", RED_NONE, add(b, expr_load(b->g, table, row), ld(b, pos, "t,d")));
    x = transformer(b, x, "", c.t_layers, c.t_width, c.t_heads, true);
    x = layer_norm(b, x, "", "ln_final");
    int at = eq(b, "at", "b", "t", RED_ARGMAX, ld(b, tokens, "b,t"));
    const Affine *pick[3] = { aff_axis(b->g, 'b' - 'a'), aff_load(b->g, ld(b, at, "b")), aff_axis(b->g, 'd' - 'a') };
    x = eq(b, "pool", "b,d", "", RED_NONE, expr_load(b->g, x, pick));
    return normalize(b, eq(b, "f", "b,o", "d", RED_SUM, mul(b, ld(b, x, "b,d"), ld(b, proj, "d,o"))));
}

static int clip_loss(Build *b, int u, int v, int logit_scale)
{
    b->tag = "loss";
    set(b, "xy", EXT_BATCH);
    int scale = eq(b, "scale", "", "", RED_NONE, fn(b, OP_EXP, ld(b, logit_scale, "")));
    int s = eq(b, "logits", "x,y", "o", RED_SUM, mul(b, ld(b, u, "x,o"), ld(b, v, "y,o")));
    s = eq(b, "logits", "x,y", "", RED_NONE, mul(b, ld(b, scale, ""), ld(b, s, "x,y")));
    int l = eq(b, "lse", "x", "y", RED_LOGSUMEXP, ld(b, s, "x,y"));
    int rows = eq(b, "rows", "x", "", RED_NONE, sub(b, ld(b, l, "x"), ld(b, s, "x,x")));
    l = eq(b, "lse", "y", "x", RED_LOGSUMEXP, ld(b, s, "x,y"));
    int cols = eq(b, "cols", "y", "", RED_NONE, sub(b, ld(b, l, "y"), ld(b, s, "y,y")));
    rows = eq(b, "rows", "", "x", RED_SUM, ld(b, rows, "x"));
    cols = eq(b, "cols", "", "y", RED_SUM, ld(b, cols, "y"));
    const Expr *sum = add(b, ld(b, rows, ""), ld(b, cols, ""));
    graph_output(b->g, "logit_scale", scale);
    return eq(b, "loss", "", "", RED_NONE, divide(b, sum, mul(b, expr_extent(b->g, EXT_BATCH), num(b, 2))));
}

/* The forward graph; the loss is its first output. */
static int clip_forward(Build *b, Arena *a, Clip c)
{
    *b = (Build){ .g = graph_new(a, NULL), .tag = "" };
    set(b, "b", EXT_BATCH);
    Ext pixels[] = { EXT_BATCH, 3, c.image, c.image }, tokens[] = { EXT_BATCH, c.context };
    int p = graph_tensor(b->g, "pixels", 4, pixels, T_INPUT, DT_F32);
    int t = graph_tensor(b->g, "tokens", 2, tokens, T_INPUT, DT_I32);
    int u = image_tower(b, p, c), v = text_tower(b, t, c);
    int loss = clip_loss(b, u, v, param(b, "", "logit_scale", ""));
    graph_output(b->g, "loss", loss);
    return loss;
}

/* AdamW with host scalars, and the clamp of logit_scale. */
static void adamw(Build *b, const int *grads)
{
    Graph *g = b->g;
    b->tag = "adamw";
    int step = graph_tensor(g, "step", 0, NULL, T_INPUT, DT_F64), scalar[3];
    const Expr *n = ld(b, step, ""), *value[3] = { divide(b, num(b, 1e-2), add(b, n, num(b, 1))),
        sub(b, num(b, 1), expr_op(g, OP_POW, num(b, .9), n, NULL)),
        sub(b, num(b, 1), expr_op(g, OP_POW, num(b, .98), n, NULL)) };
    for (int i = 0; i < 3; i++) {
        scalar[i] = graph_tensor(g, i == 0 ? "lr" : i == 1 ? "c1" : "c2", 0, NULL, T_TEMP, DT_F64);
        piece(b, scalar[i], "", "", RED_NONE, value[i]);
    }
    graph_output(g, "lr", scalar[0]);
    for (int i = 0; i < b->param.n; i++) {
        int p = b->param.at[i], rank = g->tensor[p].rank;
        const char *ix = (const char *[]){ "", "a", "a,b", "a,b,c", "a,b,c,d" }[rank];
        for (int d = 0; d < rank; d++)
            b->ext[d] = g->tensor[p].shape[d];
        const char *name = g->tensor[p].name;
        int m = tensor_typed(b, arena_printf(g->arena, "exp_avg:%s", name), ix, T_STATE, DT_F32);
        int v = tensor_typed(b, arena_printf(g->arena, "exp_avg_sq:%s", name), ix, T_STATE, DT_F32);
        const Expr *d = ld(b, grads[i], ix), *lr = ld(b, scalar[0], "");
        int new_m = eq(b, "m", ix, "", RED_NONE, add(b, mul(b, ld(b, m, ix), num(b, .9)), mul(b, d, num(b, .1))));
        int new_v = eq(b, "v", ix, "", RED_NONE, add(b, mul(b, ld(b, v, ix), num(b, .98)), mul(b, mul(b, d, d), num(b, .02))));
        const Expr *root = fn(b, OP_SQRT, divide(b, ld(b, new_v, ix), ld(b, scalar[2], "")));
        const Expr *move = divide(b, divide(b, ld(b, new_m, ix), ld(b, scalar[1], "")), add(b, root, num(b, 1e-6)));
        const Expr *decayed = mul(b, ld(b, p, ix), sub(b, num(b, 1), mul(b, lr, num(b, rank < 2 ? 0 : .2))));
        int new_p = eq(b, "w", ix, "", RED_NONE, sub(b, decayed, mul(b, lr, move)));
        if (!strcmp(name, "logit_scale"))
            new_p = eq(b, "w", ix, "", RED_NONE, expr_op(g, OP_MIN, expr_op(g, OP_MAX, ld(b, new_p, ix), num(b, 0), NULL),
                                                         num(b, log(100)), NULL));
        graph_update(g, p, new_p);
        graph_update(g, m, new_m);
        graph_update(g, v, new_v);
    }
}
#endif
