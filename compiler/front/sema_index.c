/* sema_index.c -- index lists: what stands between [ and ].
 *
 * Every index is an affine map of index names: sums of names times whole numbers, whole numbers, and integer tensors
 * (a gather). A name that stands alone takes the extent of its axis, which is how extents are found:
 *
 *     y[b, t, o] = sum[i](x[b, t, i] * weight[o, i])         b, t, i from x; o from weight; i once more: must agree
 *
 * Whatever is not a bare name is checked against the axis' extent when the equation is complete. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

/* ---- axes of an equation */

int eq_push(Sema *s, Eq *q, const char *name, Ext ext, Span at, const char *why)
{
    if (q->n == MOST_AXES) {
        if (!q->full)
            sema_error(s, at, "an equation has at most %d indices, those of the signature and those of reducers included, and this is "
                       "one more", MOST_AXES);
        q->full = true;
        return -1;
    }
    Axis *a = NEW(s->arena, Axis);
    *a = (Axis){ .name = name, .ext = ext, .at = at, .why = why, .first = at };
    q->axis[q->n] = a;
    return q->n++;
}

/* Has the function an argument whose leading axes `..` may stand for? */
static bool has_leading_axes(Sema *s, Span at)
{
    if (!s->frame->has_rest)
        sema_error(s, at, "`..` stands for the leading axes of an argument, and `%s` has no argument like `x[.., d]`",
                   s->frame->name ? s->frame->name : "this");
    return s->frame->has_rest;
}

bool eq_push_rest(Sema *s, Eq *q, Span at)
{
    if (!has_leading_axes(s, at))
        return false;
    q->has_rest = true;
    q->n_rest = s->frame->n_rest;
    for (int k = 0; k < q->n_rest; k++) {
        q->rest[k] = eq_push(s, q, "..", s->frame->rest[k], at, "`..`");
        if (q->rest[k] < 0)
            return false;
    }
    return true;
}

void eq_begin(Sema *s, Eq *q, EqMode mode, const char *name)
{
    *q = (Eq){ .mode = mode, .name = name };
    if (mode != EQ_RESULT)
        return;
    if (s->frame->has_rest)
        eq_push_rest(s, q, s->frame->call);
    for (int i = 0; i < s->frame->index.n; i++) {
        const Index *x = &s->frame->index.at[i];
        if (x->bound && eq_push(s, q, x->name, x->ext, x->at, x->why) < 0)
            break;
    }
    q->n_left = q->n;
}

int eq_find(const Eq *q, const char *name)
{
    for (int i = q->n - 1; i >= q->base; i--) {
        if (!strcmp(q->axis[i]->name, name))
            return i;
    }
    return -1;
}

bool eq_constrain(Sema *s, Eq *q, Axis *axis, Ext ext, Span at, const char *why)
{
    (void)q;
    if (axis->ext == ext)
        return true;
    if (ext == EXT_ANY) {
        if (axis->ext == EXT_OPEN)
            axis->ext = ext;
        return true;
    }
    if (axis->ext == EXT_OPEN || axis->ext == EXT_ANY) {
        axis->ext = ext;
        axis->at = at;
        axis->why = why;
        return true;
    }
    sema_error(s, at, "index `%s` runs over %s in %s, but over %s in %s", axis->name, ext_text(s, ext), why,
               ext_text(s, axis->ext), axis->why);
    sema_note(s, axis->at, "%s from here", ext_text(s, axis->ext));
    return false;
}

bool eq_known(Sema *s, Eq *q, Axis *axis, Span at)
{
    (void)q;
    if (axis->ext == EXT_OPEN) {
        const Index *x = frame_index(s->frame, axis->name);
        if (x) {
            axis->ext = x->ext;
            axis->at = x->at;
            axis->why = x->why;
        }
    }
    if (axis->ext != EXT_OPEN)
        return true;
    axis->ext = EXT_ANY;                                       /* one message */
    sema_error(s, at, "nothing says how far `%s` runs: no tensor here is indexed by `%s` alone", axis->name, axis->name);
    Words w = { { 0 } };
    for (const Scope *scope = s->scope; scope && scope->frame == s->frame; scope = scope->up) {
        for (int i = 0; i < scope->name.n; i++) {
            if (scope->name.at[i]->value.kind == V_NUM)
                words_add(s, &w, scope->name.at[i]->name);
        }
    }
    for (int i = 0; i < s->frame->index.n; i++)
        words_add(s, &w, s->frame->index.at[i].name);
    const char *near = diag_closest(axis->name, words_list(s, &w));
    if (near)
        sema_help(s, "did you mean `%s`? Else say how far it runs: `%s: 4`", near, axis->name);
    else
        sema_help(s, "say how far it runs: `%s: 4`", axis->name);
    return false;
}

/* size(i): an extent as a number, without having to know it from the equation alone. */
Ext index_size(Sema *s, Eq *q, const Node *n)
{
    if (n->kind != AST_NAME) {
        sema_error(s, n->span, "`size` takes an index name, and this is `%s`", sema_text(s, n));
        sema_help(s, "the extent of the axis that `i` runs over is `size(i)`");
        return EXT_OPEN;
    }
    int axis = eq_find(q, n->text);
    const Index *x = frame_index(s->frame, n->text);
    if (axis >= 0 && q->axis[axis]->ext != EXT_OPEN)
        return q->axis[axis]->ext;
    if (x)
        return x->ext;
    if (axis >= 0) {
        sema_error(s, n->span, "the extent of `%s` is not known yet: nothing to the left of this tells it", n->text);
        return EXT_OPEN;
    }
    const Name *name = scope_local(s, n->text);
    if (name && name->value.kind == V_ERROR)
        return EXT_OPEN;
    if (name && name->value.kind == V_TENSOR) {
        sema_error(s, n->span, "`size` takes an index name, and `%s` is a tensor", n->text);
        sema_help(s, "its number of axes is `rank(%s)`", n->text);
        return EXT_OPEN;
    }
    sema_error(s, n->span, "there is no index `%s` in this function", n->text);
    Words w = { { 0 } };
    for (int i = 0; i < s->frame->index.n; i++)
        words_add(s, &w, s->frame->index.at[i].name);
    sema_suggest(s, n->text, words_list(s, &w));
    return EXT_OPEN;
}

/* ---- maps */

static const Affine *whole_index(Sema *s, const Node *n, const Value *v)
{
    int64_t k;
    if (value_whole(v, &k))
        return aff_const(s->g, k);
    if (value_blamed(s, v))
        return NULL;
    if (v->under != 0)
        sema_error(s, n->span, "an index is whole, and `%s` is %s / %s = %s", sema_text(s, n), number_text(s, v->over),
                   number_text(s, v->under), number_text(s, v->num));
    else if (n->kind == AST_NUM)
        sema_error(s, n->span, "an index is whole, and this is %s", number_text(s, v->num));
    else
        sema_error(s, n->span, "an index is whole, and `%s` is %s", sema_text(s, n), number_text(s, v->num));
    return NULL;
}

static const Affine *map_of_value(Sema *s, const Node *n, const Value *v)
{
    const Expr *e = NULL;
    if (v->kind == V_ERROR)
        return NULL;
    if (v->kind == V_NUM)
        return whole_index(s, n, v);
    if (v->kind == V_EXPR && !v->truth)
        e = v->expr;
    if (v->kind == V_TENSOR && !v->def->rank)
        e = expr_load(s->g, v->def->tensor, NULL);
    if (e && e->kind == E_INDEX)
        return e->aff;
    if (e && e->kind == E_LOAD && s->g->tensor[e->tensor].dtype == DT_I32)
        return aff_load(s->g, e);
    if (e && e->kind == E_LOAD && (s->dry || (s->alone && s->g->tensor[e->tensor].kind == T_INPUT)))
        return NULL;                                           /* an argument that may well be made of integers */
    if (e && e->kind == E_LOAD) {
        sema_error(s, n->span, "`%s` is no integer tensor and cannot be an index", sema_text(s, n));
        sema_help(s, "integer tensors are the tokens, results of `argmax`, and sums of these");
    } else if (v->kind == V_TENSOR) {
        sema_error(s, n->span, "`%s` has %d ax%s and stands here without an index", sema_text(s, n), v->def->rank,
                   v->def->rank == 1 ? "is" : "es");
        note_def(s, v->def, sema_text(s, n));
    } else if (!e) {
        sema_error(s, n->span, "an index is a sum of index names times whole numbers, and this is %s", value_text(s, v));
    } else {
        sema_error(s, n->span, "an index is a sum of index names times whole numbers, and `%s` is not", sema_text(s, n));
        if (expr_is_integer(s->g, e))
            sema_help(s, "name it by an equation first: `at[...] = %s`", sema_text(s, n));
    }
    return NULL;
}

void index_lost(Sema *s, const Eq *q, const Node *n, const char *near)
{
    bool result = q->mode == EQ_RESULT;
    sema_error(s, n->span, result ? "index `%s` is neither in the signature nor reduced"
                                  : "index `%s` is neither on the left nor reduced", n->text);
    if (near)
        sema_help(s, "did you mean `%s`?", near);
    else if (result)
        sema_help(s, "reduce over it, `sum[%s](...)`, or name the result by an equation: `z[..., %s] = ...`", n->text, n->text);
    else
        sema_help(s, "put it on the left, or reduce over it: `sum[%s](...)`", n->text);
}

static const Affine *unknown_index(Sema *s, Eq *q, const Node *n)
{
    if (frame_index(s->frame, n->text) || q->mode == EQ_PLAIN) {
        Value v = value_of(s, q, n);                               /* says what is wrong with it */
        return map_of_value(s, n, &v);
    }
    Words w = { { 0 } };
    scope_words(s, q, &w);
    const char *near = diag_closest(n->text, words_list(s, &w));
    index_lost(s, q, n, near);
    return NULL;
}

static const Affine *map_name(Sema *s, Eq *q, const Node *n)
{
    bool known = strchr(n->text, '.') || scope_local(s, n->text);
    int axis = known ? -1 : eq_find(q, n->text);
    if (axis >= 0)
        return aff_axis(s->g, axis);
    bool word = !strcmp(n->text, "None") || !strcmp(n->text, "true") || !strcmp(n->text, "false");
    if (!known && !word && !scope_outer(s, n->text))
        return unknown_index(s, q, n);
    Value v = value_of(s, q, n);
    return map_of_value(s, n, &v);
}

static const Affine *map_binary(Sema *s, Eq *q, const Node *n)
{
    const Affine *a = index_map(s, q, n->a), *b = index_map(s, q, n->b);
    int64_t x, y;
    if (!a || !b)
        return NULL;
    bool left = aff_is_const(a, &x), right = aff_is_const(b, &y);
    switch (n->text[0]) {
    case '+':
        return aff_add(s->g, a, b);
    case '-':
        return aff_add(s->g, a, aff_scale(s->g, b, -1));
    case '*':
        if (left || right)
            return left ? aff_scale(s->g, b, x) : aff_scale(s->g, a, y);
        sema_error(s, n->span, "an index cannot be a product of two that vary: `%s`", sema_text(s, n));
        sema_help(s, "an index is a sum of index names times whole numbers: `r*%d + i`", 16);
        return NULL;
    default:
        if (left && right && y != 0 && x % y == 0)
            return aff_const(s->g, x / y);
        if (left && right) {
            sema_error(s, n->span, "an index is whole, and %lld / %lld is not", (long long)x, (long long)y);
        } else {
            sema_error(s, n->span, "an index cannot be divided: `%s`", sema_text(s, n));
            sema_help(s, "split the axis instead: `y[r: 4, s: 16] = x[r*16 + s]`");
        }
        return NULL;
    }
}

const Affine *index_map(Sema *s, Eq *q, const Node *n)
{
    if (n->kind == AST_NAME)
        return map_name(s, q, n);
    if (n->kind == AST_BINARY && strchr("+-*/", n->text[0])) {
        const Affine *a = map_binary(s, q, n);
        if (a && a->n == 0 && (a->c > MOST_ELEMENTS * 8 || a->c < -MOST_ELEMENTS * 8)) {
            sema_error(s, n->span, "the index `%s` is far out of any range", sema_text(s, n));
            return NULL;
        }
        return a;
    }
    if (n->kind == AST_UNARY && n->text[0] == '-') {
        const Affine *a = index_map(s, q, n->a);
        return a ? aff_scale(s->g, a, -1) : NULL;
    }
    if (n->kind == AST_RANGE) {
        sema_error(s, n->span, "an axis cannot be sliced");
        sema_help(s, "say which part on the left: `y[i: 5, ...] = x[2 + i, ...]` takes rows 2 to 6");
        return NULL;
    }
    Value v = value_of(s, q, n);
    return map_of_value(s, n, &v);
}

/* ---- loads */

bool def_use(Sema *s, Def *def, Span at)
{
    if (def->broken)
        return false;
    if (def->busy) {
        sema_error(s, at, "`%s` is used in its own definition", def->name);
        sema_help(s, "values do not change: give the new tensor a name of its own");
        def->broken = true;
        return false;
    }
    if (def->open)
        def_close(s, def);
    return !def->broken;
}

void note_def(Sema *s, const Def *def, const char *name)
{
    if (name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")])
        sema_note(s, def->at, "it is defined here");
    else if (strcmp(def->name, name))
        sema_note(s, def->at, "`%s` is `%s`, defined here", name, def->name);
    else
        sema_note(s, def->at, "`%s` is defined here", name);
}

static bool wrong_count(Sema *s, const Eq *q, const Def *def, const char *name, const Node *indices, int n, Span at)
{
    bool rest = false;
    for (const Node *i = indices; i; i = i->next)
        rest |= i->kind == AST_REST;
    if (rest)
        sema_error(s, at, "`%s` has %d ax%s and is indexed by %d and the %d of `..`", name, def->rank,
                   def->rank == 1 ? "is" : "es", n - q->n_rest, q->n_rest);
    else
        sema_error(s, at, "`%s` has %d ax%s and is indexed by %d", name, def->rank, def->rank == 1 ? "is" : "es", n);
    note_def(s, def, name);
    return false;
}

static const char *axis_text(Sema *s, const char *name, int dim)
{
    return arena_printf(s->arena, "axis %d of `%s`", dim + 1, name);
}

/* A constant map is checked at once, others when all extents are known. */
static bool note_access(Sema *s, Eq *q, const Affine *map, const Def *def, const char *name, int dim, Span at)
{
    if (q->guarded || def->shape[dim] == EXT_ANY)
        return true;
    Access a = { .map = map, .def = def, .name = name, .dim = dim, .at = at, .n = q->n };
    memcpy(a.axis, q->axis, (size_t)q->n * sizeof *q->axis);
    PUSH(s->arena, q->access, a);
    return true;
}

/* An index name alone runs over the whole axis. An expression, be it `i + 0` or `k*4 + i` where k is 0, may stay within a part
 * of it, once something else says how far it runs. */
static bool one_index(Sema *s, Eq *q, Def *def, const char *name, int dim, const Affine *map, const Node *n)
{
    int axis = aff_plain(map);
    Ext ext = axis < 0 ? EXT_OPEN : q->axis[axis]->ext, whole = def->shape[dim];
    bool part = ext > 0 && whole > 0 && ext < whole;
    if (axis < 0 || (part && n->kind != AST_NAME))
        return note_access(s, q, map, def, name, dim, n->span);
    bool fits = eq_constrain(s, q, q->axis[axis], whole, n->span, axis_text(s, name, dim));
    if (!fits && part && q->axis[axis]->why[0] == '`')               /* `i: 3`, and no other axis */
        sema_help(s, "`%s + 0` reads the first %s of the axis alone", n->text, ext_text(s, ext));
    return fits;
}

static bool rest_in_sight(Sema *s, const Eq *q, Span at)
{
    if (q->has_rest)
        return true;
    if (has_leading_axes(s, at)) {
        sema_error(s, at, "`..` is on the right but not on the left");
        sema_help(s, "write it on the left too, or reduce over it: `sum[..](...)`");
    }
    return false;
}

Value index_load(Sema *s, Eq *q, Def *def, const char *name, const Node *indices, Span at)
{
    const Affine *map[MAX_RANK] = { NULL };
    int n = 0, want = 0;
    bool ok = true;
    for (const Node *i = indices; i; i = i->next) {
        if (i->kind == AST_REST && i != indices) {
            sema_error(s, i->span, "`..` stands for leading axes: it comes first");
            return value_error();
        }
        if (i->kind == AST_REST && !rest_in_sight(s, q, i->span))
            return value_error();
        want += i->kind == AST_REST ? q->n_rest : 1;
    }
    if (want != def->rank) {
        wrong_count(s, q, def, name, indices, want, at);
        return value_error();
    }
    for (const Node *i = indices; i && ok; i = i->next) {      /* one message */
        if (i->kind == AST_REST) {
            for (int k = 0; k < q->n_rest; k++, n++) {
                map[n] = aff_axis(s->g, q->rest[k]);
                ok &= eq_constrain(s, q, q->axis[q->rest[k]], def->shape[n], i->span, axis_text(s, name, n));
            }
            continue;
        }
        map[n] = i->kind == AST_AXIS ? NULL : index_map(s, q, i);
        if (i->kind == AST_AXIS)
            value_of(s, q, i);                                     /* says that `i: n` belongs on the left */
        ok &= map[n] && one_index(s, q, def, name, n, map[n], i);
        n++;
    }
    return ok ? value_expr(expr_load(s->g, def->tensor, map), at) : value_error();
}
