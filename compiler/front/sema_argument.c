/* sema_argument.c -- what a call brings in: the signature of a function, the frame it runs in, and its arguments.
 *
 * Arguments are matched by position and name, then tensors bind the index names of the signature: `x[b, t, d]` gives
 * b, t and d their extents, and where two arguments give two, that is an error. Defaults are evaluated in the callee,
 * after the arguments, so they may use size(i). */
#include "front/sema.h"
#include <string.h>

/* ---- signatures */

static bool taken_before(Sema *s, const Node *formals, const Node *stop, const char *name, Span at)
{
    for (const Node *f = formals; f; f = f->next) {
        if (!strcmp(f->text, name) && f != stop) {
            sema_error(s, at, "`%s` is in this signature twice", name);
            sema_note(s, f->word, "here");
            return true;
        }
        if (f == stop)
            return false;
    }
    return false;
}

bool names_differ(Sema *s, const Node *names)
{
    bool ok = true;
    for (const Node *n = names; n; n = n->next)
        ok &= !taken_before(s, names, n, n->text, n->word);
    return ok;
}

static bool check_axis(Sema *s, const Node *formals, const Node *formal, const Node *axis)
{
    if (axis->kind == AST_REST) {
        if (axis != formal->a)
            sema_error(s, axis->span, "`..` stands for leading axes: it comes first");
        return axis == formal->a;
    }
    if (axis->kind != AST_NAME && axis->kind != AST_AXIS) {
        sema_error(s, axis->span, "an axis of an argument has a name, and this is `%s`", sema_text(s, axis));
        sema_help(s, "write `%s[b, t, d]`; an extent may be asked for by `d: 512`", formal->text);
        return false;
    }
    for (const Node *f = formals; f; f = f->next) {
        if (f->text && !strcmp(f->text, axis->text)) {
            sema_error(s, axis->span, "`%s` names an axis and an argument", axis->text);
            sema_note(s, f->word, "the argument");
            return false;
        }
    }
    for (const Node *a = formal->a; a != axis; a = a->next) {
        if (a->text && !strcmp(a->text, axis->text)) {
            sema_error(s, axis->span, "`%s` names two axes of `%s`", axis->text, formal->text);
            return false;
        }
    }
    return true;
}

bool check_signature(Sema *s, const Node *formals)
{
    bool ok = true;
    if (tree_count(formals) > MOST_FORMALS) {
        sema_error(s, formals->span, "a function has at most %d arguments, and here are %d", MOST_FORMALS,
                   tree_count(formals));
        return false;
    }
    for (const Node *f = formals; f; f = f->next) {
        ok &= !taken_before(s, formals, f, f->text, f->word) && (f->kind != AST_FORMAL || names_differ(s, f->b));
        for (const Node *a = f->kind == AST_FORMAL ? f->a : NULL; a; a = a->next)
            ok &= check_axis(s, formals, f, a);
    }
    return ok;
}

/* ---- frames */

Frame *frame_open(Sema *s, const Closure *fn, Span call, Module *module)
{
    Frame *f = NEW(s->arena, Frame);
    *f = (Frame){ .name = fn->name, .fn = fn, .up = s->frame, .call = call, .back = s->scope,
                  .module = module ? module : s->frame->module };
    f->tag = f->module->path[0] ? f->module->path : fn->model || fn->optimizer ? fn->name : s->frame->tag;
    f->optimizer = fn->optimizer;
    module_use(s, f->module);
    f->scope = NEW(s->arena, Scope);
    f->scope->up = fn->home;
    f->scope->frame = f;
    s->frame = f;
    s->scope = f->scope;
    return f;
}

void frame_close(Sema *s, Frame *f)
{
    s->scope = f->scope;
    scope_pop(s);
    if (s->owed == f)
        sema_calls(s);
    s->frame = f->up;
    s->scope = f->back;
}

/* An error about an argument belongs to the caller. */
static void blame_caller(Sema *s)
{
    if (s->owed == s->frame)
        s->owed = s->frame->up;
}

static const char *formal_text(Sema *s, const Node *formal)
{
    return source_text(s->diag->sources, formal->span);
}

/* "3: [batch, 49, 64]", or the count alone where nothing more is known. */
static const char *axes_text(Sema *s, int rank, const Ext *shape)
{
    for (int k = 0; k < rank; k++) {
        if (shape[k] < 0 && shape[k] != EXT_BATCH)
            return arena_printf(s->arena, "%d", rank);
    }
    return arena_printf(s->arena, "%d: %s", rank, shape_text(s, rank, shape));
}

static bool wrong_rank(Sema *s, const Node *formal, const Value *v, Span at)
{
    int n = tree_count(formal->a);
    const char *least = formal->a->kind == AST_REST ? "at least " : "";
    n -= least[0] != 0;
    if (v->kind == V_TENSOR)
        sema_error(s, at, "argument `%s` of `%s` has %s%d ax%s, and this has %s", formal->text, s->frame->name,
                   least, n, n == 1 ? "is" : "es", axes_text(s, v->def->rank, v->def->shape));
    else
        sema_error(s, at, "argument `%s` of `%s` is a tensor, and this is %s", formal->text, s->frame->name,
                   value_text(s, v));
    sema_note(s, formal->span, "`%s` is asked for here", formal_text(s, formal));
    blame_caller(s);
    return false;
}

static bool bind_rest(Sema *s, const Node *formal, const Node *axis, int n, const Ext *shape, Span at)
{
    Frame *f = s->frame;
    if (!f->has_rest) {
        f->has_rest = true;
        f->n_rest = n;
        f->rest_at = axis->span;
        for (int k = 0; k < n; k++)
            f->rest[k] = shape[k];
        return true;
    }
    bool same = f->n_rest == n;
    for (int k = 0; same && k < n; k++)
        same = f->rest[k] == shape[k] || f->rest[k] == EXT_ANY || shape[k] == EXT_ANY;
    if (same)
        return true;
    if (f->n_rest == n)
        sema_error(s, at, "`..` of `%s` stands for %s in argument `%s`, but for %s in the one before", f->name,
                   shape_text(s, n, shape), formal->text, shape_text(s, n, f->rest));
    else
        sema_error(s, at, "`..` of `%s` stands for %d ax%s in argument `%s`, but for %d in the one before", f->name, n,
                   n == 1 ? "is" : "es", formal->text, f->n_rest);
    sema_note(s, axis->span, "it stands here");
    sema_note(s, f->rest_at, "and here");
    blame_caller(s);
    return false;
}

static bool bind_axis(Sema *s, const Node *formal, const Node *axis, int dim, Ext ext, Span at)
{
    const char *why = arena_printf(s->arena, "axis %d of `%s`", dim + 1, formal->text);
    Index *known = frame_index(s->frame, axis->text);
    if (known && ext != EXT_ANY && known->ext != EXT_ANY && known->ext != ext) {
        sema_error(s, at, "index `%s` of `%s` runs over %s in %s, but over %s in %s", axis->text, s->frame->name,
                   ext_text(s, ext), why, ext_text(s, known->ext), known->why);
        sema_note(s, axis->span, "`%s` is the same index here", axis->text);
        sema_note(s, known->at, "and here");
        blame_caller(s);
        return false;
    }
    if (!known)
        PUSH(s->arena, s->frame->index, (Index){ axis->text, ext, axis->span, why, true });
    if (axis->kind != AST_AXIS)
        return true;
    Value want = eval_plain(s, axis->a, axis->text);
    Ext n;
    if (!value_extent(s, &want, axis->text, axis->a->span, &n))
        return false;
    if (n == ext || ext == EXT_ANY)
        return true;
    sema_error(s, at, "axis `%s` of argument `%s` of `%s` runs over %s, and here over %s", axis->text, formal->text,
               s->frame->name, ext_text(s, n), ext_text(s, ext));
    sema_note(s, axis->span, "it is asked for here");
    blame_caller(s);
    return false;
}

bool bind_formal(Sema *s, const Node *formal, Value v, Span at)
{
    const Node *axes = formal->kind == AST_FORMAL ? formal->a : NULL;
    scope_add(s, s->scope, formal->text, NAME_FORMAL, v, formal->word);
    if (!axes)
        return true;
    int n = tree_count(axes), k = 0;
    bool rest = axes->kind == AST_REST, ok = true;
    if (v.kind != V_TENSOR) {                                  /* x[..] takes numbers too */
        bool number = v.kind == V_NUM || (v.kind == V_EXPR && !v.truth);
        return number && rest && n == 1 ? bind_rest(s, formal, axes, 0, NULL, at) : wrong_rank(s, formal, &v, at);
    }
    if (rest ? v.def->rank < n - 1 : v.def->rank != n)
        return wrong_rank(s, formal, &v, at);
    for (const Node *a = axes; a; a = a->next) {
        if (a->kind == AST_REST) {
            k = v.def->rank - (n - 1);
            ok &= bind_rest(s, formal, a, k, v.def->shape, at);
        } else {
            ok &= bind_axis(s, formal, a, k, v.def->shape[k], at);
            k++;
        }
    }
    return ok;
}

/* ---- arguments */

static void formal_words(Sema *s, const Node *formals, int skip, Words *w)
{
    for (const Node *f = formals; f; f = f->next) {
        if (skip-- <= 0)
            words_add(s, w, f->text);
    }
}

static bool named_argument(Sema *s, const Node *arg, const Closure *fn, int skip, const Node **by_formal)
{
    const Node *target = arg->a, *name = target->kind == AST_CALL ? target->a : target;
    if (name->kind != AST_NAME) {
        sema_error(s, target->span, "an argument's name stands before `=`, and this is `%s`", sema_text(s, target));
        sema_help(s, "to compare, write `==`");
        return false;
    }
    int k = 0;
    const Node *f = fn->formals;
    while (f && strcmp(f->text, name->text)) {
        f = f->next;
        k++;
    }
    if (!f || k < skip) {
        Words w = { { 0 } };
        formal_words(s, fn->formals, skip, &w);
        sema_error(s, name->span, "`%s` has no argument `%s`", fn->name, name->text);
        suggest_or_list(s, name->text, words_list(s, &w), "its arguments");
        return false;
    }
    if (by_formal[k]) {
        sema_error(s, arg->span, "argument `%s` is given twice", name->text);
        sema_note(s, by_formal[k]->span, "here first");
        return false;
    }
    if (target->kind == AST_CALL && !(f->kind == AST_FORMAL && f->b)) {
        sema_error(s, target->span, "argument `%s` is a value, not a function", name->text);
        sema_note(s, f->span, "it is asked for here");
        return false;
    }
    by_formal[k] = arg;
    return true;
}

bool match_arguments(Sema *s, const Node *args, const Closure *fn, int skip, const Node **by_formal)
{
    int n = tree_count(fn->formals), k = skip;
    bool ok = true, named = false;
    for (const Node *a = args; a; a = a->next) {
        if (a->kind == AST_NAMED) {
            named = true;
            ok &= named_argument(s, a, fn, skip, by_formal);
        } else if (named) {
            sema_error(s, a->span, "this argument has no name, and stands behind one that has");
            ok = false;
        } else if (k == n) {
            sema_error(s, a->span, "`%s` takes %d argument%s, and here are %d", fn->name, n - skip,
                       n - skip == 1 ? "" : "s", tree_count(args));
            sema_note(s, fn->at, "it is defined here");
            return false;
        } else {
            by_formal[k++] = a;
        }
    }
    return ok;
}

Value argument_value(Sema *s, Eq *q, const Node *formal, const Node *arg)
{
    const Node *node = arg->kind == AST_NAMED ? arg->b : arg;
    bool function = formal->kind == AST_FORMAL && formal->b;
    if (arg->kind == AST_NAMED && arg->a->kind == AST_CALL) {
        const Node *names = arg->a->b;
        for (const Node *a = names; a; a = a->next) {
            if (a->kind != AST_NAME) {
                sema_error(s, a->span, "a name is wanted here: `%s(p) = ...`", formal->text);
                return value_error();
            }
        }
        if (tree_count(names) != tree_count(formal->b)) {
            sema_error(s, arg->a->span, "`%s` takes %d argument%s, and here are %d", formal->text,
                       tree_count(formal->b), tree_count(formal->b) == 1 ? "" : "s", tree_count(names));
            sema_note(s, formal->span, "asked for here");
            return value_error();
        }
        if (!names_differ(s, names))
            return value_error();
        Closure *c = closure_new(s, formal->text, arg, names, node, NULL, s->scope, arg->a->span);
        return (Value){ .kind = V_FN, .fn = c, .at = arg->span };
    }
    Value v = q ? value_of(s, q, node) : eval_plain(s, node, formal->text);
    if (function && v.kind == V_NUM) {                         /* a constant function */
        Closure *c = closure_new(s, formal->text, arg, formal->b, node, NULL, s->scope, node->span);
        return (Value){ .kind = V_FN, .fn = c, .at = node->span };
    }
    if (function && v.kind != V_FN && v.kind != V_ERROR) {
        sema_error(s, node->span, "argument `%s` is a function, and this is %s", formal->text, value_text(s, &v));
        sema_help(s, "write `%s(%s) = ...`", formal->text, formal->b->text);
        return value_error();
    }
    return value_settle(s, v, formal->text, node->span);
}

bool bind_default(Sema *s, const Node *formal)
{
    if (formal->b) {
        Closure *c = closure_new(s, formal->text, formal, formal->b, formal->c, NULL, s->scope, formal->word);
        return bind_formal(s, formal, (Value){ .kind = V_FN, .fn = c, .at = formal->span }, formal->span);
    }
    Value v = eval_plain(s, formal->c, formal->text);
    if (v.kind == V_ERROR && !s->dry)
        return false;
    return v.kind == V_ERROR ? scope_add(s, s->scope, formal->text, NAME_FORMAL, v, formal->word) != NULL
                             : bind_formal(s, formal, v, formal->c->span);
}
