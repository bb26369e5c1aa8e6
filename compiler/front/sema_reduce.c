/* sema_reduce.c -- sum[i](...) and its family.
 *
 * A Comp reduces once, so each reduction becomes a temporary tensor over the index names that its body uses and does
 * not reduce; the expression around it loads that. (When the reduction is the whole right side, eq_finish's caller
 * lets the equation itself be that Comp.) Two reducers are written with others:
 *
 *     mean[i](e)      sum[i](e) / size(i)
 *     softmax[u](e)   exp(e - l) with l = logsumexp[u](e); it keeps its index, which is one of the left side
 */
#include "front/sema.h"
#include <string.h>

typedef struct ReducerRow {
    const char *word;
    Reducer reducer;
    bool mean, softmax;
} ReducerRow;

static const ReducerRow reducer_rows[] = {
    { "sum", RED_SUM, false, false },
    { "mean", RED_SUM, true, false },
    { "max", RED_MAX, false, false },
    { "min", RED_MIN, false, false },
    { "argmax", RED_ARGMAX, false, false },
    { "logsumexp", RED_LOGSUMEXP, false, false },
    { "softmax", RED_LOGSUMEXP, false, true },
};

static const ReducerRow *reducer_find(Sema *s, const Node *n)
{
    for (size_t i = 0; i < LEN(reducer_rows); i++) {
        if (!strcmp(n->text, reducer_rows[i].word))
            return &reducer_rows[i];
    }
    Closure *fn = fn_find(s, n->text);
    if (fn) {
        sema_error(s, n->word, "`%s` is a function and takes no index", n->text);
        sema_help(s, "only reducers do: sum, mean, max, min, argmax, logsumexp, softmax");
        return NULL;
    }
    const Name *other = scope_local(s, n->text);
    if (other && other->value.kind != V_ERROR) {
        sema_error(s, n->word, "`%s` is %s and cannot be called", n->text, value_text(s, &other->value));
        sema_note(s, other->at, "it is defined here");
        return NULL;
    }
    sema_error(s, n->word, "there is no reducer `%s`", n->text);
    suggest_or_list(s, n->text, reducer_words, "reducers");
    return NULL;
}

static const Node *only_argument(Sema *s, const Node *n)
{
    if (n->b && !n->b->next && n->b->kind != AST_NAMED)
        return n->b;
    for (const Node *a = n->b; a; a = a->next) {
        if (a->kind == AST_NAMED) {
            sema_error(s, a->span, "`%s` takes one expression and no options", n->text);
            return NULL;
        }
    }
    sema_error(s, n->span, "`%s` takes one expression, and here are %d", n->text, tree_count(n->b));
    return NULL;
}

/* The name is neither taken by the function nor running already. */
static bool index_is_free(Sema *s, const Eq *q, const Node *n, const char *reducer)
{
    const Name *other = scope_local(s, n->text);
    if (other) {
        sema_error(s, n->span, "`%s` is no index: it is defined as %s", n->text, value_text(s, &other->value));
        sema_note(s, other->at, "here");
        return false;
    }
    int axis = eq_find(q, n->text);
    if (axis < 0 || (q->mode == EQ_RESULT && axis < q->n_left))
        return true;
    if (axis < q->n_left) {
        sema_error(s, n->span, "index `%s` is on the left and cannot be reduced", n->text);
        sema_note(s, q->axis[axis]->first, "here");
        sema_help(s, "the left side has what stays; for the reduction use another name: `%s[k](...)`", reducer);
    } else {
        sema_error(s, n->span, "index `%s` is reduced already by what stands around this", n->text);
        sema_note(s, q->axis[axis]->first, "here");
    }
    return false;
}

static bool push_index(Sema *s, Eq *q, const Node *n, const char *reducer)
{
    if (n->kind == AST_REST) {
        if (q->has_rest && q->mode == EQ_EXPLICIT) {
            sema_error(s, n->span, "`..` is on the left and cannot be reduced");
            return false;
        }
        return eq_push_rest(s, q, n->span);
    }
    if (n->kind != AST_NAME && n->kind != AST_AXIS) {
        sema_error(s, n->span, "a reducer takes index names, and this is `%s`", sema_text(s, n));
        return false;
    }
    if (!index_is_free(s, q, n, reducer))
        return false;
    Ext ext = EXT_OPEN;
    if (n->kind == AST_AXIS) {
        Value v = value_of(s, q, n->a);
        if (s->dry && v.kind == V_ERROR)
            ext = EXT_ANY;
        else if (!value_extent(s, &v, n->text, n->a->span, &ext))
            return false;
    } else {
        const Index *x = frame_index(s->frame, n->text);
        if (x && x->bound) {
            int k = eq_push(s, q, n->text, x->ext, x->at, x->why);
            if (k >= 0)
                q->axis[k]->first = n->span;
            return k >= 0;
        }
    }
    return eq_push(s, q, n->text, ext, n->span, arena_printf(s->arena, "`%s`", sema_text(s, n))) >= 0;
}

/* softmax keeps its index: it is one that runs already. */
static bool find_kept(Sema *s, const Eq *q, const Node *n, uint32_t *red)
{
    int axis = n->kind == AST_NAME ? eq_find(q, n->text) : -1;
    if (axis >= 0) {
        *red |= 1u << axis;
        return true;
    }
    if (n->kind == AST_NAME && !scope_local(s, n->text)) {
        sema_error(s, n->span, "`softmax` keeps its index, and `%s` is not on the left", n->text);
        sema_help(s, "name the result: `p[..., %s] = softmax[%s](...)`", n->text, n->text);
    } else {
        sema_error(s, n->span, "a reducer takes index names, and this is `%s`", sema_text(s, n));
    }
    return false;
}

/* The tensor of a reduction. Its shape may still be open: eq_finish fills it in. */
static Temp *new_temp(Sema *s, Eq *q, const ReducerRow *row, const Expr *body, uint32_t red, Span at)
{
    Temp t = { .reducer = row->reducer, .body = body, .n = q->n, .free = body->axes & ~red, .red = red, .at = at };
    Ext shape[MAX_RANK] = { 0 };
    int rank = __builtin_popcount(t.free);
    if (rank > MAX_RANK) {
        sema_error(s, at, "this reduction leaves %d indices; at most %d", rank, MAX_RANK);
        return NULL;
    }
    memcpy(t.axis, q->axis, (size_t)q->n * sizeof *q->axis);
    t.def = def_new(s, q->name, at, rank, shape);
    t.def->tensor = graph_tensor(s->g, q->name, rank, shape, T_TEMP, row->reducer == RED_ARGMAX ? DT_I32 : DT_F32);
    s->g->tensor[t.def->tensor].span = at;
    PUSH(s->arena, q->temp, t);
    return &q->temp.at[q->temp.n - 1];
}

static const Expr *load_temp(Sema *s, const Temp *t)
{
    const Affine *map[MAX_RANK];
    int n = 0;
    for (int k = 0; k < t->n; k++) {
        if (t->free >> k & 1)
            map[n++] = aff_axis(s->g, k);
    }
    return expr_load(s->g, t->def->tensor, map);
}

/* Every reduced index occurs in the body: else it is a slip, or should be a factor size(i). */
static bool all_used(Sema *s, const Eq *q, const Node *n, const Expr *body, uint32_t red)
{
    uint32_t idle = red & ~body->axes;
    if (!idle)
        return true;
    const char *name = q->axis[__builtin_ctz(idle)]->name;
    sema_error(s, n->span, "index `%s` does not occur in what `%s` reduces", name, n->text);
    return false;
}

static Value finish_reduce(Sema *s, Eq *q, const Node *n, const ReducerRow *row, const Expr *body, uint32_t red)
{
    if (row->reducer == RED_ARGMAX && (red & (red - 1))) {
        sema_error(s, n->span, "`argmax` gives a position along one index, and here are %d", __builtin_popcount(red));
        return value_error();
    }
    const Expr *count = NULL;
    for (int k = 0; row->mean && k < q->n; k++) {
        if (!(red >> k & 1))
            continue;
        Ext ext = q->axis[k]->ext;
        const Expr *size = expr_extent(s->g, ext == EXT_ANY ? 2 : ext);
        count = count ? sema_op(s, OP_MUL, count, size, NULL) : size;
    }
    Temp *t = new_temp(s, q, row, body, red, n->span);
    if (!t)
        return value_error();
    const Expr *e = load_temp(s, t);
    if (count)
        e = sema_op(s, OP_DIV, e, count, NULL);
    if (row->softmax)
        e = sema_op(s, OP_EXP, sema_op(s, OP_SUB, body, e, NULL), NULL, NULL);
    return value_expr(e, n->span);
}

Value eval_reduce(Sema *s, Eq *q, const Node *n)
{
    const ReducerRow *row = reducer_find(s, n);
    const Node *arg = row ? only_argument(s, n) : NULL;
    if (!arg)
        return value_error();
    int first = q->n, n_rest = q->n_rest, rest[MAX_RANK];
    bool has_rest = q->has_rest, ok = true;
    memcpy(rest, q->rest, sizeof rest);
    uint32_t red = 0;
    for (const Node *i = n->a; i; i = i->next)
        ok &= row->softmax ? find_kept(s, q, i, &red) : push_index(s, q, i, row->word);
    for (int k = first; k < q->n; k++)
        red |= 1u << k;
    Value v = value_error();
    if (ok) {
        Value body = value_of(s, q, arg);
        const Expr *e = NULL;
        if (body.kind == V_EXPR && body.truth) {
            sema_error(s, arg->span, "`%s` takes numbers, and this is %s", n->text, value_text(s, &body));
            sema_help(s, "to count what holds write `if %s then 1 else 0`", sema_text(s, arg));
        } else {
            e = value_scalar(s, &body, arg->span);
        }
        ok = e && all_used(s, q, n, e, red);
        for (int k = first; ok && k < q->n; k++)
            ok = eq_known(s, q, q->axis[k], q->axis[k]->first);
        if (ok)
            v = finish_reduce(s, q, n, row, e, red);
    }
    q->n = first;
    q->has_rest = has_rest;
    q->n_rest = n_rest;
    memcpy(q->rest, rest, sizeof rest);
    return v;
}
