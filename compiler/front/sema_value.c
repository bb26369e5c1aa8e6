/* sema_value.c -- values: what kinds there are, what messages call them, what can be made of them. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

Value value_error(void)
{
    return (Value){ .kind = V_ERROR };
}

Value value_num(double x, Span at)
{
    return (Value){ .kind = V_NUM, .num = x, .at = at };
}

Value value_bool(bool x, Span at)
{
    return (Value){ .kind = V_BOOL, .num = x, .at = at };
}

Value value_expr(const Expr *e, Span at)
{
    double c;
    if (expr_is_const(e, &c))
        return value_num(c, at);
    return (Value){ .kind = V_EXPR, .expr = e, .at = at };
}

Value value_def(Def *def, Span at)
{
    return (Value){ .kind = V_TENSOR, .def = def, .at = at };
}

/* ---- in messages */

const char *number_text(Sema *s, double x)
{
    if (isinf(x))
        return x > 0 ? "inf" : "-inf";
    if (x == floor(x) && fabs(x) < 1e15)
        return arena_printf(s->arena, "%.0f", x);
    for (int digits = 6; digits < 17; digits++) {
        const char *text = arena_printf(s->arena, "%.*g", digits, x);
        double back;
        if (sscanf(text, "%lf", &back) == 1 && fabs(back - x) <= 1e-9 * fabs(x))
            return text;
    }
    return arena_printf(s->arena, "%.17g", x);
}

const char *ext_text(Sema *s, Ext e)
{
    if (e == EXT_BATCH)
        return "the batch";
    return e < 0 ? "?" : arena_printf(s->arena, "%lld", (long long)e);
}

const char *shape_text(Sema *s, int rank, const Ext *shape)
{
    Text t = { .arena = s->arena };
    for (int k = 0; k < rank; k++) {
        const char *dim = shape[k] == EXT_BATCH ? "batch" : ext_text(s, shape[k]);
        text_printf(&t, "%s%s", k ? ", " : "[", dim);
    }
    text_printf(&t, "%s", rank ? "]" : "[]");
    return text_data(&t);
}

const char *value_text(Sema *s, const Value *v)
{
    switch (v->kind) {
    case V_NUM:
        return arena_printf(s->arena, "the number %s", number_text(s, v->num));
    case V_BOOL:
        return v->num != 0 ? "`true`" : "`false`";
    case V_STR:
        return "a string";
    case V_LIST:
        return "a list";
    case V_RANGE:
        return "a range";
    case V_DIST:
        return "a distribution";
    case V_FN:
        return arena_printf(s->arena, "the function `%s`", v->fn->name);
    case V_TENSOR:
        if (!v->def->rank)
            return "a number known at run time";
        return arena_printf(s->arena, "a tensor of %d ax%s", v->def->rank, v->def->rank == 1 ? "is" : "es");
    case V_EXPR:
        return v->truth ? "true or false, known at run time" : "a number known at run time";
    case V_ERROR:
        break;
    }
    return "an error";
}

/* ---- numbers */

bool value_whole(const Value *v, int64_t *n)
{
    if (v->kind != V_NUM || v->num != floor(v->num) || fabs(v->num) > 9007199254740992.0)
        return false;
    *n = (int64_t)v->num;
    return true;
}

static const Expr *without_index(Sema *s, const Def *def, Span at)
{
    const char *text = source_text(s->diag->sources, at);
    bool name = text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.")] == 0;
    if (!*text || strlen(text) > 50)
        text = def->name;
    sema_error(s, at, "`%s` has %d ax%s and stands here without an index", text, def->rank, def->rank == 1 ? "is" : "es");
    note_def(s, def, text);
    if (name)
        sema_help(s, "arithmetic is done element by element: write `%s[...]` with an index for each axis", text);
    else
        sema_help(s, "give it a name, `let t = ...`, and write `t[...]` with an index for each axis");
    return NULL;
}

const Expr *value_scalar(Sema *s, const Value *v, Span at)
{
    switch (v->kind) {
    case V_ERROR:
        return NULL;
    case V_NUM:
    case V_BOOL:
        return expr_const(s->g, v->num);
    case V_EXPR:
        return v->expr;
    case V_TENSOR:
        if (v->def->broken)
            return NULL;
        if (!v->def->rank)
            return expr_load(s->g, v->def->tensor, NULL);
        return without_index(s, v->def, at);
    case V_STR:
    case V_LIST:
    case V_RANGE:
    case V_DIST:
    case V_FN:
        break;
    }
    sema_error(s, at, "a number is wanted here, and this is %s", value_text(s, v));
    if (v->at.lo && (v->at.hi <= at.lo || at.hi <= v->at.lo))
        sema_note(s, v->at, "it comes from here");
    if (v->kind == V_DIST)
        sema_help(s, "a distribution gives a parameter its first value: `param w[d] ~ normal(0, 0.02)`");
    return NULL;
}

bool value_blamed(Sema *s, const Value *v)
{
    bool again = v->at.lo && v->at.lo == s->blamed.lo && s->frame == s->blamed_in;
    s->blamed = v->at;
    s->blamed_in = s->frame;
    return again;
}

bool value_extent(Sema *s, const Value *v, const char *what, Span at, Ext *ext)
{
    int64_t n;
    if (v->kind == V_ERROR)
        return false;
    if (v->kind == V_EXPR && v->expr->kind == E_EXTENT) {
        *ext = v->expr->ext;
        return true;
    }
    if (v->kind != V_NUM) {
        sema_error(s, at, "the extent of `%s` is a whole number, and this is %s", what, value_text(s, v));
        if (v->kind == V_EXPR)
            sema_help(s, "every extent is known when the program is compiled, except the batch itself");
        return false;
    }
    if (!value_whole(v, &n) || n < 1 || n > MOST_ELEMENTS) {
        const char *number = number_text(s, v->num);
        if (value_blamed(s, v))
            return false;
        if (v->under != 0)
            sema_error(s, at, "the extent of `%s` would be %s / %s = %s, which is not whole", what,
                       number_text(s, v->over), number_text(s, v->under), number);
        else if (v->num != floor(v->num))
            sema_error(s, at, "the extent of `%s` would be %s, which is not whole", what, number);
        else if (v->num < 1)
            sema_error(s, at, "the extent of `%s` would be %s; an axis has at least one element", what, number);
        else
            sema_error(s, at, "the extent of `%s` would be %s; at most %lld elements", what, number,
                       (long long)MOST_ELEMENTS);
        if (v->at.lo && (v->at.lo != at.lo || v->at.hi != at.hi))
            sema_note(s, v->at, v->under != 0 ? "computed here" : "it comes from here");
        return false;
    }
    *ext = n;
    return true;
}

Init value_init(Sema *s, const Value *v, bool tilde, const Node *n, bool *ok)
{
    Init none = { INIT_CONST, 0, 0 };
    *ok = false;
    if (v->kind == V_ERROR)
        return none;
    if (v->kind == V_NUM && !isnan(v->num)) {
        *ok = !tilde;
        if (tilde) {
            sema_error(s, n->span, "`~` is followed by a distribution, and this is %s", value_text(s, v));
            sema_help(s, "a constant first value is given by `=`: `= %s`", sema_text(s, n));
        } else if (!isfinite(v->num)) {
            sema_error(s, n->span, "a first value is a finite number, and this is %s", number_text(s, v->num));
            *ok = false;
        }
        return (Init){ INIT_CONST, v->num, 0 };
    }
    if (v->kind == V_DIST) {
        *ok = tilde;
        if (!tilde) {
            sema_error(s, n->span, "`=` is followed by a number, and this is a distribution");
            sema_help(s, "first values are drawn by `~`: `~ %s`", sema_text(s, n));
        }
        return v->dist;
    }
    sema_error(s, n->span, "a parameter starts at a number or is drawn from a distribution, and this is %s",
               value_text(s, v));
    if (v->kind == V_EXPR || v->kind == V_TENSOR)
        sema_help(s, "its first value must be known when the program is compiled");
    else
        sema_help(s, "write `= 0`, `~ normal(mean, deviation)` or `~ uniform(low, high)`");
    return none;
}

/* ---- tensors */

Def *def_new(Sema *s, const char *name, Span at, int rank, const Ext *shape)
{
    Def *d = NEW(s->arena, Def);
    *d = (Def){ .tensor = -1, .name = name, .at = at, .rank = rank };
    for (int k = 0; k < rank; k++)
        d->shape[k] = shape[k];
    return d;
}

/* All loads in f64, and at least one: then the host computes it. */
static bool host_scalar(Sema *s, const Expr *e)
{
    const Expr *load[64];
    int n = expr_loads(e, load, LEN(load));
    if (n > (int)LEN(load))
        return false;
    for (int i = 0; i < n; i++) {
        if (s->g->tensor[load[i]->tensor].dtype != DT_F64)
            return false;
    }
    return n > 0 || s->host;
}

Def *def_scalar(Sema *s, const Expr *e, const char *name, Span at)
{
    while (s->scalar.n <= (int)e->id)
        PUSH(s->arena, s->scalar, NULL);
    Def *known = s->scalar.at[e->id];
    if (known)
        return known;
    Def *d = def_new(s, name, at, 0, NULL);
    d->tensor = graph_tensor(s->g, name, 0, NULL, T_TEMP, host_scalar(s, e) ? DT_F64 : DT_F32);
    s->g->tensor[d->tensor].span = at;
    graph_comp(s->g, d->tensor, 0, NULL, 0, RED_NONE, e, NULL, at, s->frame->tag);
    return s->scalar.at[e->id] = d;
}

Value value_settle(Sema *s, Value v, const char *name, Span at)
{
    if (v.kind != V_EXPR || v.expr->axes || v.expr->kind != E_OP || v.truth || s->dry)
        return v;
    return value_def(def_scalar(s, v.expr, name, at), at);
}
