/* parse.c -- a graph from its text; syntax.h has the grammar.
 *
 * Recursive descent over the text itself, without a token list. The first mistake is kept as the message with its
 * line; afterwards every function returns at once with a harmless value, and graph_parse returns NULL. The text may
 * be anything: nesting, numbers and ranks are bounded. Expressions are built with the simplifying constructors,
 * which leave what the printer wrote as it is. What the graph means is checked by the verifier, not here. */
#include "ir/syntax.h"
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DEEPEST = 1000, MOST_TENSORS = 1 << 18 };

typedef struct Parser {
    Graph *g;
    const char *text, *at;
    ARRAY(bool) declared;                                      /* by tensor number */
    int depth;
    bool failed;
    char *error;
    size_t error_size;
} Parser;

static void skip_blanks(Parser *p)
{
    while (isspace((unsigned char)*p->at) || *p->at == '#') {
        if (*p->at == '#')
            p->at += strcspn(p->at, "\n");
        else
            p->at++;
    }
}

static void fail(Parser *p, const char *wanted)
{
    if (p->failed)
        return;
    p->failed = true;
    skip_blanks(p);
    int line = 1;
    for (const char *s = p->text; s < p->at; s++)
        line += *s == '\n';
    int n = (int)strcspn(p->at, "\n");
    if (*p->at)
        snprintf(p->error, p->error_size, "line %d: found `%.*s`, wanted %s", line, n < 20 ? n : 20, p->at, wanted);
    else
        snprintf(p->error, p->error_size, "line %d: the text ends, wanted %s", line, wanted);
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Takes `s` when it comes next; a word only as a whole. */
static bool accept(Parser *p, const char *s)
{
    size_t n = strlen(s);
    skip_blanks(p);
    if (p->failed || strncmp(p->at, s, n) || (is_word(s[n - 1]) && is_word(p->at[n])))
        return false;
    p->at += n;
    return true;
}

static void expect(Parser *p, const char *s)
{
    char wanted[32];
    if (accept(p, s))
        return;
    snprintf(wanted, sizeof wanted, "`%s`", s);
    fail(p, wanted);
}

static uint64_t digits(Parser *p, uint64_t most, const char *wanted)
{
    skip_blanks(p);
    uint64_t n = 0;
    if (!isdigit((unsigned char)*p->at))
        fail(p, wanted);
    while (!p->failed && isdigit((unsigned char)*p->at)) {
        uint64_t d = (uint64_t)(*p->at - '0');
        if (n > (most - d) / 10) {
            fail(p, "a smaller number");
            return 0;
        }
        n = 10 * n + d;
        p->at++;
    }
    return p->failed ? 0 : n;
}

static Ext extent(Parser *p)
{
    return accept(p, "B") ? EXT_BATCH : (Ext)digits(p, INT64_MAX, "an extent");
}

static const char *string(Parser *p)
{
    Text t = { .arena = p->g->arena };
    expect(p, "\"");
    while (!p->failed && *p->at != '"') {
        unsigned byte;
        if (!*p->at) {
            fail(p, "the end of the string");
        } else if (p->at[0] == '\\' && p->at[1] == 'x' && isxdigit((unsigned char)p->at[2]) &&
                   isxdigit((unsigned char)p->at[3]) && sscanf(p->at + 2, "%2x", &byte) == 1 && byte) {
            text_char(&t, (char)byte);
            p->at += 4;
        } else {
            p->at += p->at[0] == '\\' && p->at[1] && p->at[1] != 'x';
            text_char(&t, *p->at++);
        }
    }
    expect(p, "\"");
    return text_data(&t);
}

static int tensor(Parser *p, bool must_exist)
{
    expect(p, "%");
    int t = (int)digits(p, MOST_TENSORS - 1, "a tensor number");
    if (must_exist && !p->failed && (t >= p->declared.n || !p->declared.at[t]))
        fail(p, "a declared tensor before this place");
    return p->failed ? 0 : t;
}

static double number(Parser *p)
{
    skip_blanks(p);
    bool negative = accept(p, "-");
    double x = 0;
    if (accept(p, "inf")) {
        x = INFINITY;
    } else if (accept(p, "nan")) {
        x = NAN;
    } else {
        skip_blanks(p);
        char *end = (char *)p->at;
        if (isdigit((unsigned char)*p->at) || *p->at == '.')
            x = strtod(p->at, &end);
        if (end == p->at)
            fail(p, "a number");
        p->at = end;
    }
    return negative ? -x : x;
}

/* ---- index maps */

static const Expr *load(Parser *p);

static bool enter(Parser *p)
{
    if (++p->depth > DEEPEST)
        fail(p, "fewer nested brackets");
    return !p->failed;
}

static int axis(Parser *p)
{
    skip_blanks(p);
    if (*p->at != 'a' || !isdigit((unsigned char)p->at[1])) {
        fail(p, "an axis");
        return 0;
    }
    p->at++;
    return (int)digits(p, MAX_AXES - 1, "an axis number");
}

static const Affine *map(Parser *p);

static const Affine *map_atom(Parser *p)
{
    skip_blanks(p);
    if (*p->at == '%') {
        const Expr *e = load(p);
        return p->failed ? aff_const(p->g, 0) : aff_load(p->g, e);
    }
    if (!accept(p, "("))
        return aff_axis(p->g, axis(p));
    const Affine *a = enter(p) ? map(p) : aff_const(p->g, 0);
    p->depth--;
    bool div = accept(p, "div");
    if (!div)
        expect(p, "mod");
    int64_t k = (int64_t)digits(p, INT64_MAX, "a divisor");
    if (k == 0)
        fail(p, "a divisor above 0 before this place");
    expect(p, ")");
    return p->failed ? a : div ? aff_div(p->g, a, k) : aff_mod(p->g, a, k);
}

static int64_t signed_digits(Parser *p, bool negative)
{
    uint64_t m = digits(p, (uint64_t)INT64_MAX + negative, "an integer");
    return (int64_t)(negative ? 0 - m : m);
}

static const Affine *map(Parser *p)
{
    const Affine *sum = aff_const(p->g, 0);
    bool negative = accept(p, "-");
    do {
        skip_blanks(p);
        const Affine *term;
        if (isdigit((unsigned char)*p->at)) {
            term = aff_const(p->g, signed_digits(p, negative));
        } else {
            term = map_atom(p);
            int64_t coef = accept(p, "*") ? signed_digits(p, negative) : negative ? -1 : 1;
            term = aff_scale(p->g, term, coef);
        }
        sum = aff_add(p->g, sum, term);
        negative = accept(p, "-");
    } while (!p->failed && (negative || accept(p, "+")));
    return sum;
}

static int maps(Parser *p, const Affine **out)                 /* [map, ..]; at most MAX_RANK */
{
    int n = 0;
    do {
        if (n == MAX_RANK)
            fail(p, "at most 8 maps");
        else
            out[n++] = map(p);
    } while (!p->failed && accept(p, ","));
    expect(p, "]");
    return n;
}

static const Expr *load(Parser *p)
{
    const Affine *idx[MAX_RANK];
    int t = tensor(p, true), n = 0;
    if (enter(p) && accept(p, "["))
        n = maps(p, idx);
    p->depth--;
    if (!p->failed && n != p->g->tensor[t].rank)
        fail(p, "as many maps as the tensor has dimensions before this place");
    return p->failed ? expr_const(p->g, 0) : expr_load(p->g, t, idx);
}

/* ---- bodies */

static const Expr *expression(Parser *p, int least);

static bool word_next(Parser *p, const char *s)
{
    const char *before = p->at;
    bool yes = accept(p, s);
    p->at = before;
    return yes;
}

static const Expr *call(Parser *p)
{
    for (int op = 0; op < N_OPS; op++) {
        if (op_precedence(op) != PREC_CALL || !accept(p, op_info[op].name))
            continue;
        const Expr *arg[3] = { NULL, NULL, NULL };
        expect(p, "(");
        for (int i = 0; i < op_info[op].arity; i++) {
            if (i)
                expect(p, ",");
            arg[i] = expression(p, PREC_OR);
        }
        expect(p, ")");
        return p->failed ? expr_const(p->g, 0) : expr_op(p->g, op, arg[0], arg[1], arg[2]);
    }
    fail(p, "a value");
    return expr_const(p->g, 0);
}

static const Expr *atom(Parser *p)
{
    skip_blanks(p);
    const Expr *e = expr_const(p->g, 0);
    if (*p->at == '%')
        return load(p);
    if (isdigit((unsigned char)*p->at) || *p->at == '.' || word_next(p, "inf") || word_next(p, "nan"))
        return expr_const(p->g, number(p));
    if (accept(p, "B"))
        return expr_extent(p->g, EXT_BATCH);
    if (!enter(p)) {
        p->depth--;
        return e;
    }
    if (accept(p, "[")) {
        e = expr_index(p->g, map(p));
        expect(p, "]");
    } else if (accept(p, "(")) {
        e = expression(p, PREC_OR);
        expect(p, ")");
    } else if (accept(p, "-")) {
        e = expr_op(p->g, OP_NEG, expression(p, PREC_SIGN), NULL, NULL);
    } else {
        e = call(p);
    }
    p->depth--;
    return e;
}

static int infix_next(Parser *p, int least)                    /* the longest spelling that fits, or N_OPS */
{
    int best = N_OPS;
    for (int op = 0; op < N_OPS; op++) {
        bool fits = op_info[op].arity == 2 && op_precedence(op) >= least && word_next(p, op_info[op].name);
        if (fits && (best == N_OPS || strlen(op_info[op].name) > strlen(op_info[best].name)))
            best = op;
    }
    return best;
}

static const Expr *expression(Parser *p, int least)
{
    const Expr *left = atom(p);
    while (!p->failed) {
        int op = infix_next(p, least);
        if (op == N_OPS)
            break;
        accept(p, op_info[op].name);
        int tight = op_precedence(op);
        const Expr *right = expression(p, tight + 1);
        if (!p->failed)
            left = expr_op(p->g, op, left, right, NULL);
        if (!op_chains(tight) && infix_next(p, tight) != N_OPS && op_precedence(infix_next(p, tight)) == tight)
            fail(p, "brackets around the left side");
    }
    return left;
}

/* ---- statements */

static int one_of(Parser *p, const char *const *name, int n, const char *wanted)
{
    for (int i = 0; i < n; i++)
        if (accept(p, name[i]))
            return i;
    fail(p, wanted);
    return 0;
}

static void declaration(Parser *p)
{
    int t = tensor(p, false);
    if (!p->failed && t < p->declared.n && p->declared.at[t])
        fail(p, "a tensor number that is not in use before this place");
    TensorKind kind = one_of(p, kind_name, LEN(kind_name), "temp, input, param or state");
    DType dtype = one_of(p, dtype_name, LEN(dtype_name), "f32, f64, i32, bf16 or u8");
    Ext shape[MAX_RANK];
    int rank = 0;
    expect(p, "[");
    while (!p->failed && !accept(p, "]")) {
        if (rank)
            expect(p, ",");
        if (rank == MAX_RANK)
            fail(p, "at most 8 dimensions");
        else
            shape[rank++] = extent(p);
    }
    Init init = {0};
    skip_blanks(p);
    if (*p->at != '"') {
        init.kind = one_of(p, init_name, LEN(init_name), "const, normal, uniform or the name");
        expect(p, "(");
        init.a = number(p);
        if (init.kind != INIT_CONST) {
            expect(p, ",");
            init.b = number(p);
        }
        expect(p, ")");
    }
    const char *name = string(p);
    if (p->failed)
        return;
    while (p->g->n_tensor <= t) {                              /* numbers left out stay free */
        graph_tensor(p->g, "", 0, NULL, T_TEMP, DT_F32);
        PUSH(p->g->arena, p->declared, false);
    }
    p->declared.at[t] = true;
    Tensor *own = &p->g->tensor[t];
    *own = (Tensor){ .name = name, .rank = rank, .kind = kind, .dtype = dtype, .init = init };
    if (rank)
        memcpy(own->shape, shape, (size_t)rank * sizeof *shape);
}

static uint32_t axes(Parser *p, Ext *ext, uint32_t known)      /* after the brace; which axes it names */
{
    uint32_t here = 0;
    while (!p->failed && !accept(p, "}")) {
        if (here)
            expect(p, ",");
        int k = axis(p);
        if ((known | here) >> k & 1)
            fail(p, "each axis once before this place");
        expect(p, ":");
        ext[k] = extent(p);
        here |= 1u << k;
    }
    return here;
}

static int reducer_next(Parser *p)                             /* or -1: `max` is also a function */
{
    const char *before = p->at;
    for (int r = 0; r < N_REDUCERS; r++) {
        if (!accept(p, r == RED_NONE ? "none" : reducer_name[r]))
            continue;
        skip_blanks(p);
        if (*p->at == '{' || (r == RED_SCATTER && *p->at == '('))
            return r;
        p->at = before;
    }
    return -1;
}

static void equation(Parser *p)
{
    const Affine *store[MAX_RANK];
    Ext ext[MAX_AXES] = {0};
    int out = tensor(p, true), n = 0;
    uint32_t red = 0, known = 0;
    if (accept(p, "["))
        n = maps(p, store);
    if (!p->failed && n != p->g->tensor[out].rank)
        fail(p, "as many maps as the tensor has dimensions before this place");
    expect(p, "=");
    int r = reducer_next(p);
    if (r >= 0) {
        if (accept(p, "{"))
            red = known = axes(p, ext, 0);
        expect(p, "(");
    }
    const Expr *body = expression(p, PREC_OR);
    if (r >= 0)
        expect(p, ")");
    if (accept(p, "{"))
        known |= axes(p, ext, known);
    const char *tag = accept(p, "@") ? string(p) : "";
    int n_axes = 0;
    while (known >> n_axes & 1)
        n_axes++;
    if (known >> n_axes)
        fail(p, "extents of all axes below the highest before this place");
    if (!p->failed)
        graph_comp(p->g, out, n_axes, ext, red, r < 0 ? RED_NONE : r, body, store, (Span){0}, tag);
}

static void statement(Parser *p)
{
    if (accept(p, "tensor")) {
        declaration(p);
    } else if (accept(p, "output")) {
        const char *name = string(p);
        expect(p, "=");
        int t = tensor(p, true);
        if (!p->failed)
            graph_output(p->g, name, t);
    } else if (accept(p, "update")) {
        int target = tensor(p, true);
        expect(p, "=");
        int value = tensor(p, true);
        if (!p->failed)
            graph_update(p->g, target, value);
    } else if (*p->at == '%') {
        equation(p);
    } else {
        fail(p, "tensor, output, update or an equation");
    }
}

Graph *graph_parse(Arena *a, const char *text, char *error, size_t error_size)
{
    Parser p = { .g = graph_new(a, NULL), .text = text, .at = text, .error = error, .error_size = error_size };
    skip_blanks(&p);
    while (!p.failed && *p.at) {
        statement(&p);
        skip_blanks(&p);
    }
    return p.failed ? NULL : p.g;
}
