/* sema_call.c -- calls: every one is written out on the spot.
 *
 * Arguments are matched by position and name, then tensors bind the index names of the signature: `x[b, t, d]` gives
 * b, t and d their extents, and where two arguments give two, that is an error. Defaults are evaluated in the callee,
 * after the arguments, so they may use size(i).
 *
 * When an argument depends on the caller's index names, as in y[d] = gelu(x[d] + 1), the function is evaluated inside
 * the caller's equation ("pointwise"); it must then be made of expressions alone. */
#include "front/sema.h"
#include <string.h>

Closure *closure_new(Sema *s, const char *name, const Node *node, const Node *formals, const Node *value,
                     const Node *body, Scope *home, Span at)
{
    Closure *c = NEW(s->arena, Closure);
    *c = (Closure){ .name = name, .node = node, .formals = formals, .value = value, .body = body, .home = home, .at = at };
    return c;
}

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
        sema_error(s, formals->span, "a function has at most %d arguments", MOST_FORMALS);
        return false;
    }
    for (const Node *f = formals; f; f = f->next) {
        ok &= !taken_before(s, formals, f, f->text, f->word);
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

static bool wrong_rank(Sema *s, const Node *formal, const Value *v, Span at)
{
    int n = tree_count(formal->a);
    const char *least = formal->a->kind == AST_REST ? "at least " : "";
    n -= least[0] != 0;
    if (v->kind == V_TENSOR)
        sema_error(s, at, "argument `%s` of `%s` has %s%d ax%s, and this has %d: %s", formal->text, s->frame->name,
                   least, n, n == 1 ? "is" : "es", v->def->rank, shape_text(s, v->def->rank, v->def->shape));
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
    sema_error(s, at, "`..` of `%s` stands for %s in argument `%s`, but for %s before", f->name,
               shape_text(s, n, shape), formal->text, shape_text(s, f->n_rest, f->rest));
    sema_note(s, f->rest_at, "before");
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
    sema_error(s, at, "axis `%s` of argument `%s` is %s long, and this is %s", axis->text, formal->text,
               ext_text(s, n), ext_text(s, ext));
    sema_note(s, axis->span, "asked for here");
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
        const char *near = diag_closest(name->text, words_list(s, &w));
        if (near) {
            sema_help(s, "did you mean `%s`?", near);
        } else if (w.list.n > 1) {
            Text t = { .arena = s->arena };
            for (int i = 0; i + 1 < w.list.n; i++)
                text_printf(&t, "%s%s", i ? ", " : "", w.list.at[i]);
            sema_help(s, "its arguments: %s", text_data(&t));
        }
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
        Closure *c = closure_new(s, formal->text, arg, names, node, NULL, s->scope, arg->a->span);
        return (Value){ .kind = V_FN, .fn = c, .at = arg->span };
    }
    Value v = value_of(s, q, node);
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

/* `step` and `total` reach a schedule without being passed on. */
static bool implied(Sema *s, const Node *formal, Value *v)
{
    bool known = s->host && (!strcmp(formal->text, "step") || !strcmp(formal->text, "total"));
    Name *n = known ? scope_local(s, formal->text) : NULL;
    if (known && !n)
        n = scope_outer(s, formal->text);
    if (n)
        *v = n->value;
    return n != NULL;
}

/* ---- running a function */

static bool calls_itself(Sema *s, const Closure *fn, Span at)
{
    for (const Frame *f = s->frame; f; f = f->up) {
        if (f->fn && f->fn->node == fn->node) {
            sema_error(s, at, "`%s` calls itself", fn->name);
            sema_note(s, fn->at, "it is defined here");
            sema_help(s, "calls are written out when the program is compiled, so they must come to an end; "
                      "for repetition use `for i in 0..<n { ... }`");
            return true;
        }
    }
    if (s->calls < MOST_CALLS)
        return false;
    sema_error(s, at, "calls are nested more than %d deep", MOST_CALLS);
    return true;
}

static bool only_expressions(const Node *items)
{
    for (const Node *i = items; i; i = i->next) {
        bool plain = i->kind == AST_LET || i->kind == AST_RETURN;
        if (i->kind == AST_WHEN)
            plain = only_expressions(i->b) && only_expressions(i->c);
        if (!plain)
            return false;
    }
    return true;
}

/* In the caller's equation: its index names are out of sight, its axes stay. */
static Value run_pointwise(Sema *s, Eq *q, const Closure *fn)
{
    int base = q->base, n_rest = q->n_rest;
    bool has_rest = q->has_rest;
    q->base = q->n;
    q->has_rest = s->frame->has_rest;
    q->n_rest = 0;
    s->frame->pointwise = true;
    s->frame->shared = q;
    Value v;
    if (fn->value) {
        v = value_of(s, q, fn->value);
    } else {
        exec_items(s, fn->body);
        v = s->frame->result;
    }
    q->base = base;
    q->has_rest = has_rest;
    q->n_rest = n_rest;
    return v;
}

static Value run(Sema *s, Eq *q, const Closure *fn, bool pointwise, Span at)
{
    if (pointwise)
        return run_pointwise(s, q, fn);
    if (fn->value) {
        Eq own;
        eq_begin(s, &own, EQ_RESULT, fn->name);
        Value v = value_of(s, &own, fn->value);
        return eq_result(s, &own, v, fn->name, fn->value->span);
    }
    int errors = s->diag->errors;
    exec_items(s, fn->body);
    if (!s->frame->returned && s->diag->errors == errors && !s->stopped) {
        s->frame->result = value_error();
        sema_error(s, at.lo ? at : fn->at, "`%s` returns nothing", fn->name);
        blame_caller(s);
        sema_note(s, fn->at, "it is defined here");
        sema_help(s, "its last line should be `return ...`");
    }
    return s->frame->returned ? s->frame->result : value_error();
}

static bool depends_on_axes(const Value *v)
{
    return v->kind == V_EXPR && v->expr->axes;
}

/* Calling a function of the model once more with the same tensors gives the same tensor. */
static bool remembered(Sema *s, const Closure *fn, const Value *arg, int n, Value *result)
{
    for (int i = 0; i < s->n_memo; i++) {
        bool same = s->memo[i].fn == fn && s->memo[i].n == n;
        for (int k = 0; same && k < n; k++)
            same = arg[k].kind == V_TENSOR && s->memo[i].arg[k].def == arg[k].def;
        if (same) {
            *result = s->memo[i].result;
            return true;
        }
    }
    return false;
}

static void remember(Sema *s, const Closure *fn, const Value *arg, int n, Value result)
{
    if (!fn->model || s->n_memo == (int)LEN(s->memo) || n > (int)LEN(s->memo[0].arg))
        return;
    for (int k = 0; k < n; k++) {
        if (arg[k].kind != V_TENSOR)
            return;
    }
    s->memo[s->n_memo].fn = fn;
    s->memo[s->n_memo].n = n;
    s->memo[s->n_memo].result = result;
    memcpy(s->memo[s->n_memo++].arg, arg, (size_t)n * sizeof *arg);
}

/* given[k]: arg[k] is a value, else the default applies. */
static Value call(Sema *s, Eq *q, const Closure *fn, Value *arg, bool *given, const Node **node, Span at, Module *module)
{
    Value result = value_error();
    int n = tree_count(fn->formals), k = 0;
    bool pointwise = false, ok = true;
    ((Closure *)fn)->called |= !s->dry;
    for (k = 0; k < n; k++)
        pointwise |= given[k] && depends_on_axes(&arg[k]);
    if (calls_itself(s, fn, at) || (fn->model && remembered(s, fn, arg, n, &result)))
        return result;
    if (pointwise && (module || !(fn->value || only_expressions(fn->body)))) {
        for (k = 0; !(given[k] && depends_on_axes(&arg[k])); k++)
            ;
        sema_error(s, node[k]->span, "`%s` needs whole tensors, and `%s` depends on index names", fn->name,
                   sema_text(s, node[k]->kind == AST_NAMED ? node[k]->b : node[k]));
        sema_help(s, "name it first: `t[...] = %s`, then `%s(t)`",
                  sema_text(s, node[k]->kind == AST_NAMED ? node[k]->b : node[k]), fn->name);
        return result;
    }
    s->calls++;
    s->round += fn->model;
    Frame *f = frame_open(s, fn, at, module);
    k = 0;
    for (const Node *p = fn->formals; p && ok; p = p->next, k++) {
        if (given[k] && arg[k].kind == V_ERROR)
            scope_add(s, s->scope, p->text, NAME_FORMAL, arg[k], p->word);     /* only when dry */
        else
            ok = given[k] ? bind_formal(s, p, arg[k], node[k] ? node[k]->span : at) : bind_default(s, p);
    }
    if (ok)
        result = run(s, q, fn, pointwise, at);
    frame_close(s, f);
    s->calls--;
    if (result.kind != V_ERROR)
        remember(s, fn, arg, n, result);
    return result;
}

static Value call_closure(Sema *s, Eq *q, const Closure *fn, const Node *n, Module *module)
{
    const Node *node[MOST_FORMALS] = { NULL };
    Value arg[MOST_FORMALS];
    bool given[MOST_FORMALS] = { false }, ok = match_arguments(s, n->b, fn, 0, node), poison = false;
    int k = 0;
    Words missing = { { 0 } };
    for (const Node *f = fn->formals; f; f = f->next, k++) {
        arg[k] = value_error();
        given[k] = node[k] != NULL;
        if (given[k])
            arg[k] = argument_value(s, q, f, node[k]);
        else if (implied(s, f, &arg[k]))
            given[k] = true;
        else if (f->kind != AST_FORMAL || !f->c)
            words_add(s, &missing, f->text);
        poison |= given[k] && arg[k].kind == V_ERROR;
    }
    if (ok && missing.list.n) {
        Text t = { .arena = s->arena };
        for (int i = 0; i < missing.list.n; i++)
            text_printf(&t, "%s`%s`", i ? ", " : "", missing.list.at[i]);
        sema_error(s, n->span, "`%s` misses argument%s %s", fn->name, missing.list.n == 1 ? "" : "s", text_data(&t));
        sema_note(s, fn->at, "it is defined here");
        return value_error();
    }
    if (!ok || poison)
        return value_error();
    return call(s, q, fn, arg, given, node, n->span, module);
}

Value call_within(Sema *s, Eq *q, const Closure *fn, const Value *arg, Span at)
{
    const Node *node[MOST_FORMALS] = { NULL };
    Value copy[MOST_FORMALS];
    bool given[MOST_FORMALS] = { false };
    int n = tree_count(fn->formals);
    for (int k = 0; k < n; k++) {
        copy[k] = arg[k];
        given[k] = true;
    }
    return call(s, q, fn, copy, given, node, at, NULL);
}

Value call_values(Sema *s, const Closure *fn, const Value *arg, Span at)
{
    return call_within(s, NULL, fn, arg, at);
}

/* A function of the file that nobody calls, with tensors of unknown extents: names, counts of indices and arguments
 * are checked all the same. */
void call_dry(Sema *s, Closure *fn)
{
    Graph *g = s->g;
    s->dry = true;
    s->g = graph_new(s->arena, s->diag->sources);
    s->scalar.n = 0;
    Value arg[MOST_FORMALS];
    int k = 0;
    for (const Node *f = fn->formals; f; f = f->next, k++) {
        arg[k] = value_error();
        if (f->kind != AST_FORMAL || !f->a)
            continue;
        Ext shape[MAX_RANK], one[MAX_RANK];
        int rank = 0;
        for (const Node *a = f->a; a && rank < MAX_RANK; a = a->next) {
            shape[rank] = EXT_ANY;
            one[rank++] = 1;
        }
        Def *def = def_new(s, f->text, f->span, rank, shape);
        def->tensor = graph_tensor(s->g, f->text, rank, one, T_INPUT, DT_F32);
        arg[k] = value_def(def, f->span);
    }
    call_values(s, fn, arg, (Span){ 0, 0 });
    fn->called = true;
    s->g = g;
    s->dry = false;
    s->scalar.n = 0;
}

/* ---- what stands before ( */

static const struct { const char *word, *ours; } foreign[] = {
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
};

static bool listed(const char *word, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(word, *list))
            return true;
    }
    return false;
}

static void unknown_function(Sema *s, const Node *callee)
{
    static const char *const modules[] = { "nn", "clip", "optim", "init", NULL };
    const char *name = callee->text;
    sema_error(s, callee->span, "there is no function `%s`", name);
    for (size_t i = 0; i < LEN(foreign); i++) {
        if (!strcmp(foreign[i].word, name)) {
            sema_help(s, "%s", foreign[i].ours);
            return;
        }
    }
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

static Value builtin(Sema *s, Eq *q, const Node *n, Module *module);

Value eval_call(Sema *s, Eq *q, const Node *n, Module *module)
{
    const Node *callee = n->a;
    if (callee->kind != AST_NAME) {
        sema_error(s, callee->span, "only a name can be called, and this is `%s`", sema_text(s, callee));
        return value_error();
    }
    const char *word = callee->text;
    Name *local = scope_local(s, word);
    if (!local)
        local = scope_outer(s, word);
    if (local && local->value.kind == V_FN)
        return call_closure(s, q, local->value.fn, n, module);
    Closure *fn = fn_find(s, word);
    if (fn)
        return call_closure(s, q, fn, n, module);
    if (listed(word, builtin_words) && !(listed(word, reducer_words) && tree_count(n->b) < 2))
        return builtin(s, q, n, module);
    if (listed(word, reducer_words)) {
        sema_error(s, callee->span, "`%s` does not say over which index", word);
        sema_help(s, "write `%s[d](...)`; the indices that stay are those on the left of `=`", word);
        return value_error();
    }
    if (local && local->value.kind == V_ERROR)
        return value_error();
    if (local) {
        sema_error(s, callee->span, "`%s` is %s and cannot be called", word, value_text(s, &local->value));
        sema_note(s, local->at, "it is defined here");
        if (local->value.kind == V_TENSOR)
            sema_help(s, "elements are taken by brackets: `%s[...]`", word);
        return value_error();
    }
    unknown_function(s, callee);
    return value_error();
}

Value eval_as(Sema *s, Eq *q, const Node *n)
{
    if (n->a->kind != AST_CALL) {
        sema_error(s, n->a->span, "`as` names the parameters of a call, and this is none: `%s`", sema_text(s, n->a));
        return value_error();
    }
    Module *m = s->frame->module;
    for (const Node *p = n->b; p; p = p->next) {
        if (p->kind == AST_NAME) {
            m = module_enter(s, m, p->text);
            continue;
        }
        Value v = value_of(s, q, p->b);
        int64_t k;
        if (v.kind == V_ERROR && !s->dry)
            return v;
        if (v.kind != V_ERROR && (!value_whole(&v, &k) || k < 0)) {
            sema_error(s, p->b->span, "a scope is numbered by whole numbers from 0, and this is %s", value_text(s, &v));
            return value_error();
        }
        m = module_enter(s, m, v.kind == V_ERROR ? "0" : arena_printf(s->arena, "%lld", (long long)k));
    }
    return eval_call(s, q, n->a, m);
}

/* ---- built-in functions */

static bool count_arguments(Sema *s, const Node *n, int want)
{
    int n_args = tree_count(n->b);
    for (const Node *a = n->b; a; a = a->next) {
        if (a->kind == AST_NAMED) {
            sema_error(s, a->span, "the arguments of `%s` have no names", n->a->text);
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
        Value v = value_of(s, q, a);
        const Expr *x = value_scalar(s, &v, a->span);
        if (!x)
            return value_error();
        e = e ? sema_op(s, op, e, x, NULL) : x;
    }
    return value_expr(e, n->span);
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

static Value builtin(Sema *s, Eq *q, const Node *n, Module *module)
{
    const char *word = n->a->text;
    if (module) {
        sema_error(s, n->a->span, "`%s` has no parameters that `as` could name", word);
        return value_error();
    }
    if (!strcmp(word, "max") || !strcmp(word, "min"))
        return builtin_extreme(s, q, n);
    bool pair = !strcmp(word, "uniform") || !strcmp(word, "normal");
    if (!count_arguments(s, n, pair ? 2 : 1))
        return value_error();
    if (!strcmp(word, "size"))
        return builtin_size(s, q, n);
    if (!strcmp(word, "rank") || !strcmp(word, "name"))
        return builtin_of_tensor(s, q, n);
    return pair ? builtin_distribution(s, q, n) : builtin_op(s, q, n);
}
