/* print.c -- a graph as text; syntax.h has the grammar. Two graphs that hold the same print the same. */
#include "ir/syntax.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const dtype_name[N_DTYPES] = { "f32", "f64", "i32", "bf16", "u8" };
const char *const kind_name[4] = { "temp", "input", "param", "state" };
const char *const init_name[3] = { "const", "normal", "uniform" };

static void put(Text *out, const char *s)
{
    text_bytes(out, s, strlen(s));
}

static void put_number(Text *out, double x)                    /* the shortest that reads back as x */
{
    char s[40];
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(s, sizeof s, "%.*g", digits, x);
        if (strtod(s, NULL) == x)
            break;
    }
    put(out, isnan(x) ? "nan" : s);
}

static void put_string(Text *out, const char *s)
{
    text_char(out, '"');
    for (; *s; s++) {
        if (*s == '"' || *s == '\\')
            text_printf(out, "\\%c", *s);
        else if ((unsigned char)*s < ' ' || *s == 127)
            text_printf(out, "\\x%02x", (unsigned char)*s);
        else
            text_char(out, *s);
    }
    text_char(out, '"');
}

static void put_extent(Text *out, Ext e)
{
    if (e == EXT_BATCH)
        text_char(out, 'B');
    else
        text_printf(out, "%" PRId64, e);
}

static uint64_t magnitude(int64_t x)
{
    return x < 0 ? 0 - (uint64_t)x : (uint64_t)x;
}

static void put_sign(Text *out, bool first, bool negative)
{
    if (!first)
        put(out, negative ? " - " : " + ");
    else if (negative)
        text_char(out, '-');
}

static void put_aff(const Graph *g, const Affine *a, Text *out)
{
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        put_sign(out, i == 0, t->coef < 0);
        if (t->kind == AT_AXIS) {
            text_printf(out, "a%d", t->axis);
        } else if (t->kind == AT_LOAD) {
            expr_print(g, t->load, out);
        } else {
            text_char(out, '(');
            put_aff(g, t->arg, out);
            text_printf(out, " %s %" PRId64 ")", t->kind == AT_DIV ? "div" : "mod", t->by);
        }
        if (magnitude(t->coef) != 1)
            text_printf(out, "*%" PRIu64, magnitude(t->coef));
    }
    if (a->c || !a->n) {
        put_sign(out, a->n == 0, a->c < 0);
        text_printf(out, "%" PRIu64, magnitude(a->c));
    }
}

static void put_maps(const Graph *g, const Affine *const *map, int n, Text *out)
{
    if (!n)
        return;
    text_char(out, '[');
    for (int i = 0; i < n; i++) {
        put(out, i ? ", " : "");
        put_aff(g, map[i], out);
    }
    text_char(out, ']');
}

static int precedence(const Expr *e)
{
    if (e->kind == E_CONST)
        return signbit(e->c) && !isnan(e->c) ? PREC_SIGN : PREC_ATOM;
    if (e->kind != E_OP || op_precedence(e->op) == PREC_CALL)
        return PREC_ATOM;
    return op_precedence(e->op);
}

static void put_expr(const Graph *g, const Expr *e, int least, Text *out);

static void put_op(const Graph *g, const Expr *e, Text *out)
{
    const char *name = op_info[e->op].name;
    int p = op_precedence(e->op);
    if (p == PREC_CALL) {
        text_printf(out, "%s(", name);
        for (int i = 0; i < e->n; i++) {
            put(out, i ? ", " : "");
            put_expr(g, e->arg[i], PREC_CALL, out);
        }
        text_char(out, ')');
    } else if (e->n == 1) {
        text_char(out, '-');
        put_expr(g, e->arg[0], p, out);
    } else {
        put_expr(g, e->arg[0], op_chains(p) ? p : p + 1, out);
        text_printf(out, p == PREC_POWER ? "%s" : " %s ", name);
        put_expr(g, e->arg[1], p + 1, out);
    }
}

static void put_expr(const Graph *g, const Expr *e, int least, Text *out)
{
    bool brackets = precedence(e) < least;
    if (brackets)
        text_char(out, '(');
    switch (e->kind) {
    case E_CONST:
        put_number(out, e->c);
        break;
    case E_EXTENT:
        put_extent(out, e->ext);
        break;
    case E_INDEX:
        put_maps(g, &e->aff, 1, out);
        break;
    case E_LOAD:
        text_printf(out, "%%%d", e->tensor);
        put_maps(g, e->idx, e->n, out);
        break;
    case E_OP:
        put_op(g, e, out);
        break;
    }
    if (brackets)
        text_char(out, ')');
}

void expr_print(const Graph *g, const Expr *e, Text *out)
{
    put_expr(g, e, PREC_CALL, out);
}

static void put_axes(const Comp *c, bool reduced, Text *out)
{
    const char *between = "";
    text_char(out, '{');
    for (int k = 0; k < c->n_axes; k++) {
        if ((c->red >> k & 1) != reduced)
            continue;
        text_printf(out, "%sa%d:", between, k);
        put_extent(out, c->ext[k]);
        between = ", ";
    }
    text_char(out, '}');
}

void comp_print(const Graph *g, const Comp *c, Text *out)
{
    uint32_t all = (1u << c->n_axes) - 1;
    text_printf(out, "%%%d", c->out);
    put_maps(g, c->store, g->tensor[c->out].rank, out);
    put(out, " = ");
    if (c->reducer != RED_NONE || c->red) {
        put(out, c->reducer == RED_NONE ? "none" : reducer_name[c->reducer]);
        if (c->reducer != RED_SCATTER || c->red)
            put_axes(c, true, out);
        text_char(out, '(');
        expr_print(g, c->body, out);
        text_char(out, ')');
    } else {
        expr_print(g, c->body, out);
    }
    if (all & ~c->red) {
        put(out, "  ");
        put_axes(c, false, out);
    }
    if (c->tag && *c->tag) {
        put(out, "  @ ");
        put_string(out, c->tag);
    }
    if (g->sources && c->span.lo) {
        Place p = source_place(g->sources, c->span.lo);
        if (p.source)
            text_printf(out, "  # %s:%d", p.source->path, p.line);
    }
}

static void put_tensor(const Graph *g, int i, Text *out)
{
    const Tensor *t = &g->tensor[i];
    text_printf(out, "tensor %%%d %s %s[", i, kind_name[t->kind], dtype_name[t->dtype]);
    for (int k = 0; k < t->rank; k++) {
        put(out, k ? ", " : "");
        put_extent(out, t->shape[k]);
    }
    put(out, "] ");
    if (t->kind == T_PARAM || t->kind == T_STATE) {
        text_printf(out, "%s(", init_name[t->init.kind]);
        put_number(out, t->init.a);
        if (t->init.kind != INIT_CONST) {
            put(out, ", ");
            put_number(out, t->init.b);
        }
        put(out, ") ");
    }
    put_string(out, t->name);
    text_char(out, '\n');
}

static void mark_read(bool *used, const Comp *c, Arena *scratch)
{
    int n;
    const Expr **load = comp_all_loads(c, scratch, &n);
    for (int i = 0; i < n; i++)
        used[load[i]->tensor] = true;
}

void graph_print(const Graph *g, Text *out)
{
    Arena scratch = {0};
    bool *used = NEWN(&scratch, bool, g->n_tensor);
    for (int i = 0; i < g->n_comp; i++) {
        used[g->comp[i]->out] = true;
        mark_read(used, g->comp[i], &scratch);
    }
    for (int i = 0; i < g->n_tensor; i++)
        if (used[i] || g->tensor[i].kind != T_TEMP || graph_is_root(g, i))
            put_tensor(g, i, out);
    for (int i = 0; i < g->n_comp; i++) {
        comp_print(g, g->comp[i], out);
        text_char(out, '\n');
    }
    for (int i = 0; i < g->n_output; i++) {
        put(out, "output ");
        put_string(out, g->output[i].name);
        text_printf(out, " = %%%d\n", g->output[i].tensor);
    }
    for (int i = 0; i < g->n_update; i++)
        text_printf(out, "update %%%d = %%%d\n", g->update[i].target, g->update[i].value);
    arena_free(&scratch);
}
