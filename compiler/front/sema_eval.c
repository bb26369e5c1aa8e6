/* sema_eval.c -- an expression to a value.
 *
 * Numbers fold on the way, so `if causal and u > t then ...` with a false `causal` never looks at the rest. What
 * depends on tensors, on the batch or on index names becomes an expression of the graph over the axes of the
 * equation `q` it stands in. Names are looked for in this order: the function's own, index names, the model's and
 * the file's, constants, functions. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

const char *const reducer_words[] = { "sum", "mean", "max", "min", "argmax", "logsumexp", "softmax", NULL };
const char *const builtin_words[] = { "exp", "ln", "sqrt", "rsqrt", "erf", "tanh", "sin", "cos", "abs", "floor", "mod",
                                      "max", "min", "size", "rank", "name", "begins", "uniform", "normal", NULL };

/* ---- names */

static const struct { const char *word, *ours; } foreign_names[] = {
    { "True", "true" }, { "False", "false" }, { "TRUE", "true" }, { "FALSE", "false" }, { "infinity", "inf" },
    { "Inf", "inf" }, { "PI", "pi" }, { "Pi", "pi" },
};
static const char *const nothing_words[] = { "None", "none", "null", "nil", "NULL", "nullptr", "undefined", NULL };

static bool among(const char *word, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(word, *list))
            return true;
    }
    return false;
}

static void unknown_name(Sema *s, const Eq *q, const Node *n)
{
    for (size_t i = 0; i < LEN(foreign_names); i++) {
        if (!strcmp(n->text, foreign_names[i].word)) {
            sema_error(s, n->span, "`%s` is written `%s`", n->text, foreign_names[i].ours);
            return;
        }
    }
    if (among(n->text, nothing_words)) {
        sema_error(s, n->span, "there is no `%s`", n->text);
        sema_help(s, "an argument that is left out has its default");
        return;
    }
    const Index *index = frame_index(s->frame, n->text);
    if (index) {
        if (q->first_value) {
            sema_error(s, n->span, "`%s` is an index, and a parameter has one first value for all of its elements", n->text);
            sema_help(s, "write a number, `= 1`, or a distribution, `~ normal(0, 0.02)`");
        } else if (q->mode != EQ_PLAIN || q->base) {
            index_lost(s, q, n, NULL);
        } else {
            sema_error(s, n->span, "`%s` is an index, and nothing runs over it here", n->text);
            sema_note(s, index->at, "it is introduced here");
            sema_help(s, "an equation has indices: `y[%s] = ...`; its extent is `size(%s)`", n->text, n->text);
        }
        return;
    }
    if (s->frame->lost)             /* what did not run may have defined it */
        return;
    sema_error(s, n->span, "there is no `%s` here", n->text);
    if (foreign_help(s, n->text))
        return;
    Words w = { { 0 } }, parts = { { 0 } };
    scope_words(s, q, &w);
    const char *dot = strchr(n->text, '.');
    for (int i = 0; dot && i < w.list.n; i++) {                /* student.logits: what else there is of it */
        if (!strncmp(w.list.at[i], n->text, (size_t)(dot + 1 - n->text)))
            words_add(s, &parts, w.list.at[i]);
    }
    for (int i = 0; i < s->frame->index.n; i++)
        words_add(s, &w, s->frame->index.at[i].name);
    if (parts.list.n)
        suggest_or_list(s, n->text, words_list(s, &parts), "known");
    else
        sema_suggest(s, n->text, words_list(s, &w));
}

/* A let, const or param of the file or the model is executed when it is first asked for, in its own surroundings. */
static void force(Sema *s, Name *name, Span at)
{
    const Node *item = name->lazy;
    if (name->busy) {
        sema_error(s, at, "`%s` is defined by itself", name->name);
        sema_note(s, name->at, "here");
        name->lazy = NULL;
        name->value = value_error();
        return;
    }
    name->busy = true;
    Frame *frame = s->frame;
    Scope *scope = s->scope;
    s->frame = name->scope->frame;
    s->scope = name->scope;
    if (item->kind == AST_PARAM) {
        exec_param(s, item, name);
    } else {
        Value v = item->kind == AST_CONST ? eval_const(s, item) : eval_plain(s, item->a, name->name);
        if (name->lazy)             /* else it was found to need itself */
            name->value = v;
    }
    name->lazy = NULL;
    name->busy = false;
    s->frame = frame;
    s->scope = scope;
}

Value name_value(Sema *s, Name *name, Span at)
{
    if (name->lazy)
        force(s, name, at);
    Value v = name->value;
    if (v.kind == V_TENSOR && !def_use(s, v.def, at))
        return value_error();
    return v;
}

static Value eval_name(Sema *s, Eq *q, const Node *n)
{
    Name *name = scope_local(s, n->text);
    if (name)
        return name_value(s, name, n->span);
    int axis = eq_find(q, n->text);
    if (axis >= 0)
        return value_expr(expr_index(s->g, aff_axis(s->g, axis)), n->span);
    name = scope_outer(s, n->text);
    if (name)
        return name_value(s, name, n->span);
    if (!strcmp(n->text, "true") || !strcmp(n->text, "false"))
        return value_bool(n->text[0] == 't', n->span);
    if (!strcmp(n->text, "pi"))
        return value_num(3.14159265358979323846, n->span);
    if (!strcmp(n->text, "inf"))
        return value_num(INFINITY, n->span);
    if (!strcmp(n->text, "e") && !frame_index(s->frame, "e"))
        return value_num(2.71828182845904523536, n->span);
    Closure *fn = fn_find(s, n->text);
    if (fn)
        return (Value){ .kind = V_FN, .fn = fn, .at = n->span };
    unknown_name(s, q, n);
    return value_error();
}

/* ---- strings */

static bool hole_text(Sema *s, Eq *q, const Node *n, const char *hole, size_t length, Text *out)
{
    int lo = n->word.lo + (int)(hole - n->text);               /* parentheses belong to the span, not to the word */
    Span at = { lo, lo + (int)length };
    Node name = { .kind = AST_NAME, .span = at, .word = at, .text = arena_strndup(s->arena, hole, length) };
    Value v = eval_name(s, q, &name);
    int64_t whole;
    if (v.kind == V_ERROR)
        return false;
    if (v.kind == V_STR) {
        text_printf(out, "%s", v.text);
    } else if (value_whole(&v, &whole)) {
        text_printf(out, "%lld", (long long)whole);
    } else {
        sema_error(s, at, "`{%s}` is neither a string nor a whole number but %s", name.text, value_text(s, &v));
        return false;
    }
    return true;
}

/* Holes are filled: "yearly/{year}" with year = 2016 is "yearly/2016"; {{ and }} are braces. */
static Value eval_string(Sema *s, Eq *q, const Node *n)
{
    Text out = { .arena = s->arena };
    const char *c = n->text + 1, *end = n->text + strlen(n->text) - 1;
    for (; c < end; c++) {
        if ((*c == '{' || *c == '}') && c + 1 < end && c[1] == *c) {
            text_char(&out, *c++);
        } else if (*c == '{') {
            const char *close = memchr(c, '}', (size_t)(end - c));
            if (!close) {
                sema_error(s, n->span, "this string has a `{` without a `}`");
                sema_help(s, "a brace itself is written twice: `{{`");
                return value_error();
            }
            if (!hole_text(s, q, n, c + 1, (size_t)(close - c - 1), &out))
                return value_error();
            c = close;
        } else {
            text_char(&out, *c);
        }
    }
    return (Value){ .kind = V_STR, .text = text_data(&out), .at = n->span };
}

/* ---- operators */

const Expr *sema_op(Sema *s, Op op, const Expr *a, const Expr *b, const Expr *c)
{
    return expr_op(s->g, op, a, b, c);
}

static bool is_truth(const Value *v)
{
    return v->kind == V_BOOL || (v->kind == V_EXPR && v->truth);
}

static Value truth_expr(const Expr *e, Span at)
{
    double c;
    if (expr_is_const(e, &c))
        return value_bool(c != 0, at);
    Value v = value_expr(e, at);
    v.truth = true;
    return v;
}

/* What stands where true or false is wanted. */
static bool want_truth(Sema *s, const Value *v, const Node *n)
{
    if (v->kind == V_ERROR)
        return false;
    if (is_truth(v))
        return true;
    sema_error(s, n->span, "true or false is wanted here, and this is %s", value_text(s, v));
    if (v->kind == V_NUM || v->kind == V_EXPR || (v->kind == V_TENSOR && !v->def->rank))
        sema_help(s, "compare it: `%s != 0`", sema_text(s, n));
    return false;
}

static Value eval_logic(Sema *s, Eq *q, const Node *n)
{
    bool is_and = n->text[0] == 'a';
    Value a = value_of(s, q, n->a);
    if (!want_truth(s, &a, n->a))
        return value_error();
    if (a.kind == V_BOOL && (a.num != 0) != is_and)
        return value_bool(!is_and, n->span);                   /* decided: the right side is not looked at */
    Value b = value_of(s, q, n->b);
    if (!want_truth(s, &b, n->b))
        return value_error();
    if (a.kind == V_BOOL)
        return b;
    const Expr *x = value_scalar(s, &a, n->a->span), *y = value_scalar(s, &b, n->b->span);
    return truth_expr(sema_op(s, is_and ? OP_AND : OP_OR, x, y, NULL), n->span);
}

static bool compare(const char *op, double x, double y)
{
    switch (op[0]) {
    case '<':
        return op[1] ? x <= y : x < y;
    case '>':
        return op[1] ? x >= y : x > y;
    case '=':
        return x == y;
    default:
        return x != y;
    }
}

static Op op_named(const char *text)
{
    for (int i = 0; i < N_OPS; i++) {
        if (op_info[i].arity == 2 && !strcmp(op_info[i].name, text))
            return (Op)i;
    }
    return OP_ADD;
}

static bool is_comparison(const char *op)
{
    return op[0] == '<' || op[0] == '>' || op[0] == '=' || op[0] == '!';
}

static Value fold_numbers(Sema *s, const Node *n, double x, double y)
{
    double r = 0;
    switch (n->text[0]) {
    case '+':
        r = x + y;
        break;
    case '-':
        r = x - y;
        break;
    case '*':
        r = x * y;
        break;
    case '/':
        if (y == 0) {
            sema_error(s, n->span, "division by zero");
            return value_error();
        }
        r = x / y;
        break;
    default:
        r = pow(x, y);
    }
    if (isnan(r) && !isnan(x) && !isnan(y)) {
        sema_error(s, n->span, "this is not a number: %s%s%s %s %s", x < 0 ? "(" : "", number_text(s, x), x < 0 ? ")" : "", n->text,
                   number_text(s, y));
        return value_error();
    }
    Value v = value_num(r, n->span);
    if (n->text[0] == '/' && r != floor(r) && x == floor(x) && y == floor(y)) {
        v.over = x;
        v.under = y;
    }
    return v;
}

static Value eval_power(Sema *s, const Node *n, const Value *a, const Value *b)
{
    const Expr *x = value_scalar(s, a, n->a->span), *y = x ? value_scalar(s, b, n->b->span) : NULL;
    if (!x || !y)
        return value_error();
    const Expr *one = expr_const(s->g, 1), *e = NULL;
    double c;
    if (!expr_is_const(y, &c))      /* the gradient rule of ^ is for constant exponents */
        e = s->host ? sema_op(s, OP_POW, x, y, NULL)
                    : sema_op(s, OP_EXP, sema_op(s, OP_MUL, y, sema_op(s, OP_LN, x, NULL, NULL), NULL), NULL, NULL);
    else if (c == 2)
        e = sema_op(s, OP_MUL, x, x, NULL);
    else if (c == 0.5)
        e = sema_op(s, OP_SQRT, x, NULL, NULL);
    else if (c == -0.5)
        e = sema_op(s, OP_RSQRT, x, NULL, NULL);
    else if (c == -1)
        e = sema_op(s, OP_DIV, one, x, NULL);
    else
        e = sema_op(s, OP_POW, x, y, NULL);
    return value_expr(e, n->span);
}

static Value eval_binary(Sema *s, Eq *q, const Node *n)
{
    if (!strcmp(n->text, "and") || !strcmp(n->text, "or"))
        return eval_logic(s, q, n);
    Value a = value_of(s, q, n->a), b = value_of(s, q, n->b);
    if (a.kind == V_ERROR || b.kind == V_ERROR)
        return value_error();
    bool comparison = is_comparison(n->text);
    if (a.kind == V_STR && b.kind == V_STR && (n->text[0] == '=' || n->text[0] == '!'))
        return value_bool(!strcmp(a.text, b.text) == (n->text[0] == '='), n->span);
    if (a.kind == V_BOOL && b.kind == V_BOOL && (n->text[0] == '=' || n->text[0] == '!'))
        return value_bool((a.num == b.num) == (n->text[0] == '='), n->span);
    if (is_truth(&a) || is_truth(&b)) {
        const Node *at = is_truth(&a) ? n->a : n->b;
        sema_error(s, at->span, "`%s` takes numbers, and this is %s", n->text, value_text(s, is_truth(&a) ? &a : &b));
        if ((is_truth(&a) ? a : b).kind == V_EXPR)
            sema_help(s, "to count what holds write `(if %s then 1 else 0)`", sema_text(s, at));
        return value_error();
    }
    if (a.kind == V_NUM && b.kind == V_NUM)
        return comparison ? value_bool(compare(n->text, a.num, b.num), n->span) : fold_numbers(s, n, a.num, b.num);
    if (n->text[0] == '^')
        return eval_power(s, n, &a, &b);
    const Expr *x = value_scalar(s, &a, n->a->span), *y = value_scalar(s, &b, n->b->span);
    if (!x || !y)
        return value_error();
    if (n->text[0] == '/' && b.kind == V_NUM && b.num == 0) {
        sema_error(s, n->span, "division by zero");
        return value_error();
    }
    const Expr *e = sema_op(s, op_named(n->text), x, y, NULL);
    return comparison ? truth_expr(e, n->span) : value_expr(e, n->span);
}

static Value eval_unary(Sema *s, Eq *q, const Node *n)
{
    Value v = value_of(s, q, n->a);
    if (v.kind == V_ERROR)
        return v;
    if (n->text[0] == 'n') {        /* not */
        if (!want_truth(s, &v, n->a))
            return value_error();
        if (v.kind == V_BOOL)
            return value_bool(v.num == 0, n->span);
        return truth_expr(sema_op(s, OP_NOT, v.expr, NULL, NULL), n->span);
    }
    if (v.kind == V_NUM)
        return value_num(-v.num, n->span);
    const Expr *e = value_scalar(s, &v, n->a->span);
    return e ? value_expr(sema_op(s, OP_NEG, e, NULL, NULL), n->span) : value_error();
}

static Value eval_if(Sema *s, Eq *q, const Node *n)
{
    Value test = value_of(s, q, n->a);
    if (test.kind == V_ERROR && s->dry) {                      /* either branch may be meant: look at both */
        value_of(s, q, n->b);
        value_of(s, q, n->c);
    }
    if (!want_truth(s, &test, n->a))
        return value_error();
    if (test.kind == V_BOOL)
        return value_of(s, q, test.num != 0 ? n->b : n->c);
    q->guarded++;
    Value yes = value_of(s, q, n->b), no = value_of(s, q, n->c);
    q->guarded--;
    if (yes.kind == V_ERROR || no.kind == V_ERROR)
        return value_error();
    const Expr *a = value_scalar(s, &yes, n->b->span), *b = value_scalar(s, &no, n->c->span);
    if (!a || !b)
        return value_error();
    Value v = value_expr(sema_op(s, OP_WHERE, test.expr, a, b), n->span);
    v.truth = v.kind == V_EXPR && is_truth(&yes) && is_truth(&no);
    return v;
}

/* ---- lists and ranges */

static Value eval_list(Sema *s, Eq *q, const Node *n)
{
    int count = tree_count(n->a), i = 0;
    Value *elem = NEWN(s->arena, Value, count);
    bool ok = true;
    for (const Node *e = n->a; e; e = e->next, i++) {
        elem[i] = value_of(s, q, e);
        ok &= elem[i].kind != V_ERROR;
    }
    return ok ? (Value){ .kind = V_LIST, .n = count, .elem = elem, .at = n->span } : value_error();
}

static Value eval_range(Sema *s, Eq *q, const Node *n)
{
    Value lo = value_of(s, q, n->a), hi = value_of(s, q, n->b);
    if (lo.kind == V_ERROR || hi.kind == V_ERROR)
        return value_error();
    const Value *wrong = lo.kind != V_NUM ? &lo : hi.kind != V_NUM ? &hi : NULL;
    if (wrong) {
        sema_error(s, (wrong == &lo ? n->a : n->b)->span,
                   "a range goes from a number to a number known when the program is compiled, and this is %s",
                   value_text(s, wrong));
        return value_error();
    }
    return (Value){ .kind = V_RANGE, .lo = lo.num, .hi = hi.num, .half = n->text[2] == '<', .at = n->span };
}

static Value list_element(Sema *s, Eq *q, const Node *n, const Value *list)
{
    int64_t k;
    if (n->b->next || n->b->kind == AST_REST) {
        sema_error(s, n->b->span, "a list is indexed by one number from 0 to %d, and this is `%s`", list->n - 1, sema_text(s, n));
        return value_error();
    }
    Value at = value_of(s, q, n->b);
    if (at.kind == V_ERROR || (value_whole(&at, &k) && k >= 0 && k < list->n))
        return at.kind == V_ERROR ? at : list->elem[k];
    sema_error(s, n->b->span, "a list of %d is indexed by 0 to %d, and this is %s", list->n, list->n - 1, value_text(s, &at));
    return value_error();
}

/* x[...]: a load of a tensor, or an element of a list. */
static Value eval_index(Sema *s, Eq *q, const Node *n)
{
    Value base = value_of(s, q, n->a);
    if (base.kind == V_ERROR)
        return base;
    if (base.kind == V_TENSOR)
        return base.def->broken ? value_error()
                                : index_load(s, q, base.def, n->a->kind == AST_NAME ? n->a->text : base.def->name, n->b, n->span);
    if (base.kind == V_LIST)
        return list_element(s, q, n, &base);
    /* a formal x[..] that got a number: `..` is no axis */
    if ((base.kind == V_NUM || base.kind == V_EXPR) && n->b->kind == AST_REST && !n->b->next)
        return base;
    sema_error(s, n->span, "`%s` has no axes: it is %s", sema_text(s, n->a), value_text(s, &base));
    if (base.at.lo && base.at.lo != n->a->span.lo)
        sema_note(s, base.at, "it comes from here");
    return value_error();
}

/* ---- all of it */

static Value eval_node(Sema *s, Eq *q, const Node *n)
{
    double x;
    switch (n->kind) {
    case AST_NUM:
        tree_number(n->text, &x);                              /* the scanner refuses what is too large */
        return value_num(x, n->span);
    case AST_STR:
        return eval_string(s, q, n);
    case AST_NAME:
        return eval_name(s, q, n);
    case AST_LIST:
        return eval_list(s, q, n);
    case AST_RANGE:
        return eval_range(s, q, n);
    case AST_UNARY:
        return eval_unary(s, q, n);
    case AST_BINARY:
        return eval_binary(s, q, n);
    case AST_IF:
        return eval_if(s, q, n);
    case AST_INDEX:
        return eval_index(s, q, n);
    case AST_CALL:
        return eval_call(s, q, n, NULL);
    case AST_REDUCE:
        return eval_reduce(s, q, n);
    case AST_AS:
        return eval_as(s, q, n);
    case AST_AXIS:
        sema_error(s, n->span, "`%s: ...` introduces an axis, which only the left side of a definition can", n->text);
        sema_help(s, "an index is used by its name alone: `%s`", n->text);
        return value_error();
    default:
        sema_error(s, n->span, "a value is wanted here");
        return value_error();
    }
}

Value value_of(Sema *s, Eq *q, const Node *n)
{
    if (s->stopped)
        return value_error();
    if (s->nested >= MOST_NESTED) {
        s->stopped = true;
        sema_error(s, n->span, "the calls up to here are nested too deep: more than %d expressions inside each other",
                   MOST_NESTED);
        return value_error();
    }
    s->nested++;
    Value v = eval_node(s, q, n);
    s->nested--;
    if (v.kind != V_EXPR || v.expr->size <= MOST_TERMS)
        return v;
    if (!s->stopped) {
        s->stopped = true;
        sema_error(s, n->span, "this has more than %d terms when its parts are written out", MOST_TERMS);
        sema_help(s, "name parts of it by equations: they are computed once");
    }
    return value_error();
}

Value eval_plain(Sema *s, const Node *n, const char *name)
{
    Eq q;
    eq_begin(s, &q, EQ_PLAIN, name);
    Value v = value_of(s, &q, n);
    if (v.kind == V_ERROR || !eq_finish(s, &q))
        return value_error();
    return value_settle(s, v, name, n->span);
}

Value eval_const(Sema *s, const Node *item)
{
    Value v = eval_plain(s, item->a, item->text);
    if (v.kind != V_TENSOR && v.kind != V_EXPR && v.kind != V_FN)
        return v;
    sema_error(s, item->a->span, "constant `%s` is known when the program is compiled, and this is %s", item->text, value_text(s, &v));
    if (v.kind != V_FN)
        sema_help(s, "write `let %s = ...`", item->text);
    return value_error();
}

Value eval_number(Sema *s, const Node *n, const char *what)
{
    Value v = eval_plain(s, n, what);
    if (v.kind == V_NUM || v.kind == V_ERROR)
        return v;
    sema_error(s, n->span, "`%s` is a number, and this is %s", what, value_text(s, &v));
    return value_error();
}
