/* sema_builtin.c -- the functions that the language itself has, and words of other languages that stand for them.
 *
 * Scalar functions are rows of ops.def; the others look at index names, shapes or names (size, rank, name), make
 * distributions (uniform, normal) or are written with scalar functions (mod). */
#include "front/sema.h"
#include <string.h>

/* ---- built-in functions */

static bool count_arguments(Sema *s, const Node *n, int want)
{
    int n_args = tree_count(n->b);
    for (const Node *a = n->b; a; a = a->next) {
        if (a->kind == AST_NAMED) {
            Text t = { .arena = s->arena };
            for (const Node *b = n->b; b; b = b->next)
                text_printf(&t, "%s%s", b == n->b ? "" : ", ", sema_text(s, b->kind == AST_NAMED ? b->b : b));
            sema_error(s, a->span, "the arguments of `%s` have no names", n->a->text);
            sema_help(s, "write `%s(%s)`", n->a->text, text_data(&t));
            return false;
        }
    }
    if (n_args == want)
        return true;
    sema_error(s, n->span, "`%s` takes %d argument%s, and here %s %d", n->a->text, want, want == 1 ? "" : "s",
               n_args == 1 ? "is" : "are", n_args);
    return false;
}

static Value builtin_size(Sema *s, Eq *q, const Node *n)
{
    Ext e = index_size(s, q, n->b);
    if (e == EXT_OPEN || e == EXT_ANY)
        return value_error();
    return value_expr(expr_extent(s->g, e), n->span);
}

static Value builtin_of_tensor(Sema *s, Eq *q, const Node *n)  /* rank, name */
{
    Value v = value_of(s, q, n->b);
    bool rank = n->a->text[0] == 'r';
    if (v.kind == V_ERROR || s->dry)
        return value_error();
    if (v.kind == V_TENSOR && rank)
        return value_num(v.def->rank, n->span);
    if (v.kind == V_TENSOR)
        return (Value){ .kind = V_STR, .text = s->g->tensor[v.def->tensor].name, .at = n->span };
    if (rank && (v.kind == V_NUM || v.kind == V_EXPR))
        return value_num(0, n->span);
    sema_error(s, n->b->span, "`%s` takes a tensor, and this is %s", n->a->text, value_text(s, &v));
    return value_error();
}

/* begins(text, start): does a string begin so? It is how a rule is said for all parameters of a scope. */
static Value builtin_begins(Sema *s, Eq *q, const Node *n)
{
    const char *text[2];
    int k = 0;
    for (const Node *a = n->b; a; a = a->next) {
        Value v = value_of(s, q, a);
        if (v.kind == V_ERROR)
            return v;
        if (v.kind != V_STR) {
            sema_error(s, a->span, "`begins` takes two strings, and this is %s", value_text(s, &v));
            if (v.kind == V_TENSOR)
                sema_help(s, "a parameter's name is `name(%s)`", sema_text(s, a));
            return value_error();
        }
        text[k++] = v.text;
    }
    return value_bool(!strncmp(text[0], text[1], strlen(text[1])), n->span);
}

static Value builtin_distribution(Sema *s, Eq *q, const Node *n)
{
    bool normal = n->a->text[0] == 'n';
    double x[2];
    int k = 0;
    for (const Node *a = n->b; a; a = a->next, k++) {
        Value v = value_of(s, q, a);
        if (v.kind == V_ERROR)
            return v;
        if (v.kind != V_NUM || !(v.num - v.num == 0)) {
            sema_error(s, a->span, "`%s` takes numbers known when the program is compiled, and this is %s", n->a->text,
                       value_text(s, &v));
            return value_error();
        }
        x[k] = v.num;
    }
    if (normal && x[1] < 0) {
        sema_error(s, n->b->next->span, "a standard deviation is not negative, and this is %s", number_text(s, x[1]));
        return value_error();
    }
    if (!normal && x[0] > x[1]) {
        sema_error(s, n->span, "`uniform` goes from a lower to a higher number, and this from %s to %s",
                   number_text(s, x[0]), number_text(s, x[1]));
        return value_error();
    }
    return (Value){ .kind = V_DIST, .dist = { normal ? INIT_NORMAL : INIT_UNIFORM, x[0], x[1] }, .at = n->span };
}

static Value builtin_extreme(Sema *s, Eq *q, const Node *n)    /* max(a, b, ...), min(a, b, ...) */
{
    Op op = n->a->text[1] == 'a' ? OP_MAX : OP_MIN;
    const Expr *e = NULL;
    for (const Node *a = n->b; a; a = a->next) {
        if (a->kind == AST_NAMED) {
            sema_error(s, a->span, "the arguments of `%s` have no names", n->a->text);
            sema_help(s, "along an axis: `%s[d](...)`", n->a->text);
            return value_error();
        }
    }
    for (const Node *a = n->b; a; a = a->next) {
        Value v = value_of(s, q, a);
        const Expr *x = value_scalar(s, &v, a->span);
        if (!x)
            return value_error();
        e = e ? sema_op(s, op, e, x, NULL) : x;
    }
    return value_expr(e, n->span);
}

/* mod(a, b): what is left of a after whole multiples of b; of b's sign. */
static Value builtin_mod(Sema *s, Eq *q, const Node *n)
{
    Value a = value_of(s, q, n->b), b = value_of(s, q, n->b->next);
    const Expr *x = value_scalar(s, &a, n->b->span), *y = x ? value_scalar(s, &b, n->b->next->span) : NULL;
    if (!x || !y)
        return value_error();
    if (b.kind == V_NUM && b.num == 0) {
        sema_error(s, n->span, "division by zero");
        return value_error();
    }
    const Expr *whole = sema_op(s, OP_FLOOR, sema_op(s, OP_DIV, x, y, NULL), NULL, NULL);
    return value_expr(sema_op(s, OP_SUB, x, sema_op(s, OP_MUL, y, whole, NULL), NULL), n->span);
}

static Value builtin_op(Sema *s, Eq *q, const Node *n)
{
    int op = 0;
    while (op_info[op].arity != 1 || strcmp(op_info[op].name, n->a->text))
        op++;
    Value v = value_of(s, q, n->b);
    const Expr *x = value_scalar(s, &v, n->b->span);
    if (!x)
        return value_error();
    Value r = value_expr(sema_op(s, (Op)op, x, NULL, NULL), n->span);
    if (r.kind == V_NUM && r.num != r.num && v.num == v.num) {
        sema_error(s, n->span, "`%s(%s)` is not a number", n->a->text, number_text(s, v.num));
        return value_error();
    }
    return r;
}

Value builtin_call(Sema *s, Eq *q, const Node *n, Module *module)
{
    const char *word = n->a->text;
    if (module) {
        sema_error(s, n->a->span, "`%s` has no parameters that `as` could name", word);
        return value_error();
    }
    if (!strcmp(word, "max") || !strcmp(word, "min"))
        return builtin_extreme(s, q, n);
    bool pair = !strcmp(word, "uniform") || !strcmp(word, "normal");
    bool mod = !strcmp(word, "mod"), begins = !strcmp(word, "begins");
    if (!count_arguments(s, n, pair || mod || begins ? 2 : 1))
        return value_error();
    if (begins)
        return builtin_begins(s, q, n);
    if (mod)
        return builtin_mod(s, q, n);
    if (!strcmp(word, "size"))
        return builtin_size(s, q, n);
    if (!strcmp(word, "rank") || !strcmp(word, "name"))
        return builtin_of_tensor(s, q, n);
    return pair ? builtin_distribution(s, q, n) : builtin_op(s, q, n);
}

/* ---- unknown functions */

static const struct { const char *word, *ours; } foreign[] = {
    { "gaussian", "write `normal(mean, deviation)`" },
    { "randn", "write `normal(0, 1)`" },
    { "sigmoid", "write `1 / (1 + exp(-x))`" },
    { "log", "the natural logarithm is `ln(x)`" },
    { "relu", "write `max(x, 0)`" },
    { "pow", "power is written `x^2`" },
    { "where", "write `if condition then a else b`" },
    { "matmul", "name what is summed: `sum[k](a[i, k] * b[k, j])`" },
    { "dot", "name what is summed: `sum[k](a[k] * b[k])`" },
    { "einsum", "write the equation: `y[i, j] = sum[k](a[i, k] * b[k, j])`" },
    { "len", "the extent of the axis that `i` runs over is `size(i)`" },
    { "shape", "the extent of the axis that `i` runs over is `size(i)`" },
    { "dim", "the number of axes is `rank(x)`" },
    { "ndim", "the number of axes is `rank(x)`" },
    { "transpose", "write the indices in another order: `y[j, i] = x[i, j]`" },
    { "reshape", "write the equation: `y[r*16 + i] = x[r, i]`" },
    { "range", "a range is `0..<n`" },
    { "zeros", "a tensor of zeros is an equation: `z[i: 4] = 0`" },
    { "ones", "a tensor of ones is an equation: `z[i: 4] = 1`" },
    { "T", "write the indices in another order: `y[j, i] = x[i, j]`" },
    { "permute", "write the indices in another order: `y[j, i] = x[i, j]`" },
    { "view", "write the equation: `y[r*16 + i] = x[r, i]`" },
    { "cat", "define the parts: `y[b, 0, d] = c[d]` and `y[b, 1 + t, d] = x[b, t, d]`" },
    { "concat", "define the parts: `y[b, 0, d] = c[d]` and `y[b, 1 + t, d] = x[b, t, d]`" },
    { "silu", "write `x / (1 + exp(-x))`" },
    { "mse", "write the equation: `mean[i, j]((a[i, j] - b[i, j])^2)`" },
    { "cross_entropy", "write the equation: `logsumexp[j](z[i, j]) - z[i, i]`" },
    { "normalize", "the library has `l2_normalize(x)`: `use nn`" },
    { "dropout", "there is none: a step draws nothing but its data" },
    { "print", "`--emit=graph` shows every tensor; a run shows the loss" },
};

/* The last part is what counts: np.log, torch.relu, x.mean. */
bool foreign_help(Sema *s, const char *name)
{
    static const char *const reducers[] = { "sum", "mean", "max", "min", "argmax", "softmax", "logsumexp" };
    const char *dot = strrchr(name, '.'), *last = dot ? dot + 1 : name;
    for (size_t i = 0; i < LEN(foreign); i++) {
        if (!strcmp(foreign[i].word, last)) {
            sema_help(s, "%s", foreign[i].ours);
            return true;
        }
    }
    for (size_t i = 0; dot && i < LEN(reducers); i++) {
        if (!strcmp(reducers[i], last)) {
            sema_help(s, "write `%s[i](...)` with the index that it goes over", last);
            return true;
        }
    }
    return false;
}

void unknown_function(Sema *s, const Node *callee)
{
    static const char *const modules[] = { "nn", "clip", "optim", "init", NULL };
    const char *name = callee->text;
    sema_error(s, callee->span, "there is no function `%s`", name);
    if (foreign_help(s, name))
        return;
    const char *line = arena_printf(s->arena, "\nfn %s(", name);
    for (const char *const *m = modules; *m && s->module; m++) {
        const char *path, *text = NULL;
        bool loaded = false;
        for (int i = 0; i < s->loaded.n; i++)
            loaded |= !strcmp(s->loaded.at[i], *m);
        if (!loaded)
            text = s->module(s->module_ctx, *m, &path);
        if (text && strstr(text, line)) {
            sema_help(s, "it is in the library: `use %s`", *m);
            return;
        }
    }
    Words w = { { 0 } };
    fn_words(s, &w);
    sema_suggest(s, name, words_list(s, &w));
}
