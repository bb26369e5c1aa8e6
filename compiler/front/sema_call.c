/* sema_call.c -- calls: every one is written out on the spot, with its arguments bound (sema_argument.c).
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

/* ---- running a function */

/* `step`, `total` and `t` reach a schedule without being passed on. */
static bool implied(Sema *s, const Node *formal, Value *v)
{
    bool known = s->host && (!strcmp(formal->text, "step") || !strcmp(formal->text, "total") || !strcmp(formal->text, "t"));
    Name *n = known ? scope_local(s, formal->text) : NULL;
    if (known && !n)
        n = scope_outer(s, formal->text);
    if (n)
        *v = n->value;
    return n != NULL;
}

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
        bool plain = i->kind == AST_LET || i->kind == AST_CONST || i->kind == AST_RETURN;
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

static Value run(Sema *s, Eq *q, const Closure *fn, bool pointwise)
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
    if (!s->frame->returned && !fn->optimizer && s->diag->errors == errors && !s->stopped) {
        s->frame->result = value_error();
        sema_error(s, fn->at, "`%s` returns nothing", fn->name);
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
        bool same = s->memo[i].fn == fn;
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
    if (!sema_step(s, at.lo ? at : fn->at))
        return result;
    s->calls++;
    s->round += fn->model;
    Frame *f = frame_open(s, fn, at, module);
    k = 0;
    for (const Node *p = fn->formals; p && ok; p = p->next, k++) {
        if (given[k] && arg[k].kind == V_ERROR) {              /* only when dry */
            if (p->kind == AST_FORMAL && p->c && !p->b)
                eval_plain(s, p->c, p->text);
            scope_add(s, s->scope, p->text, NAME_FORMAL, arg[k], p->word);
        } else {
            ok = given[k] ? bind_formal(s, p, arg[k], node[k] ? node[k]->span : at.lo ? at : p->span) : bind_default(s, p);
        }
    }
    if (ok)
        result = run(s, q, fn, pointwise);
    frame_close(s, f);
    s->calls--;
    if (result.kind != V_ERROR)
        remember(s, fn, arg, n, result);
    return result;
}

/* How many samples a step has is known of the step that is trained and the one that is drawn from. */
static bool knows_samples(Sema *s, const Value *step, Span at)
{
    if (step->kind != V_NUM || s->host || step->num == s->samples.y || step->num == s->samples.t)
        return true;
    sema_error(s, at, "`samples` is asked of step %s where y = %s, t = %s", number_text(s, step->num),
               number_text(s, s->samples.y), number_text(s, s->samples.t));
    sema_help(s, "a share of draws may follow from `samples(y)` and `samples(t)` alone");
    return false;
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
        Value own;
        for (const Node *f = fn->formals; f; f = f->next)
            if (implied(s, f, &own)) {
                sema_help(s, "`step`, `total` and `t` come by themselves; name what is given: `%s = ...`", missing.list.at[0]);
                break;
            }
        return value_error();
    }
    if (!ok || calls_itself(s, fn, n->span) || poison || (fn == s->samples.fn && !knows_samples(s, &arg[0], n->b->span)))
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

/* ---- functions of the file that nobody calls */

/* With tensors of unknown extents: names, counts of indices and arguments are checked all the same. What comes out in
 * s->g is of no use. */
void call_dry(Sema *s, const Closure *fn)
{
    s->dry = true;
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
    s->dry = false;
    s->scalar.n = 0;
}

/* Made of numbers and names of the file. */
static bool is_constant(Sema *s, const Node *n)
{
    switch (n->kind) {
    case AST_NUM:
        return true;
    case AST_NAME:
        return scope_outer(s, n->text) || scope_local(s, n->text);
    case AST_UNARY:
        return is_constant(s, n->a);
    case AST_BINARY:
        return is_constant(s, n->a) && is_constant(s, n->b);
    default:
        return false;
    }
}

/* What the signature says of the extent of an axis, at its own place or another; NULL: nothing. */
static const Node *declared_extent(Sema *s, const Closure *fn, const Node *axis)
{
    for (const Node *f = fn->formals; f; f = f->next) {
        for (const Node *a = f->kind == AST_FORMAL ? f->a : NULL; a; a = a->next) {
            if (axis->text && a->kind == AST_AXIS && !strcmp(a->text, axis->text) && is_constant(s, a->a))
                return a->a;
        }
    }
    return NULL;
}

/* When the signature says every extent and the other arguments have defaults: as it would be called, into a graph that
 * nobody keeps. Then ranges, pieces and shapes are checked as well. */
static void call_alone(Sema *s, const Closure *fn)
{
    Value arg[MOST_FORMALS];
    bool given[MOST_FORMALS] = { false };
    const Node *node[MOST_FORMALS] = { NULL };
    Module root = { .name = "", .path = "" }, *old = s->top->module;
    Graph *g = s->g;
    Table params = s->param_table;
    int k = 0, n_param = s->param.n;
    s->g = graph_new(s->arena, s->diag->sources);
    for (const Node *f = fn->formals; f; f = f->next, k++) {
        Ext shape[MAX_RANK];
        int rank = 0;
        bool known = f->kind == AST_FORMAL && (f->a ? tree_count(f->a) <= MAX_RANK : f->c != NULL);
        for (const Node *a = known ? f->a : NULL; a && known; a = a->next, rank++) {
            const Node *extent = declared_extent(s, fn, a);
            Value v = extent ? eval_plain(s, extent, a->text) : value_error();
            known = extent && value_extent(s, &v, a->text, extent->span, &shape[rank]);
        }
        if (!known) {
            s->g = g;
            return;
        }
        given[k] = f->a != NULL;
        if (!given[k])
            continue;
        Def *def = def_new(s, f->text, f->span, rank, shape);
        def->tensor = graph_tensor(s->g, f->text, rank, shape, T_INPUT, DT_F32);
        arg[k] = value_def(def, f->span);
    }
    s->alone = true;
    s->scalar.n = 0;
    s->param_table = (Table){ 0 };
    s->top->module = NEW(s->arena, Module);
    *s->top->module = root;
    call(s, NULL, fn, arg, given, node, (Span){ 0, 0 }, NULL);
    s->top->module = old;
    s->param.n = n_param;
    s->param_table = params;
    s->alone = false;
    s->scalar.n = 0;
    s->g = g;
}

void call_unused(Sema *s, Closure *fn)
{
    int errors = s->diag->errors;
    Graph *g = s->g;
    s->statements = 0;
    s->g = graph_new(s->arena, s->diag->sources);
    call_dry(s, fn);
    s->g = g;
    if (s->diag->errors == errors && !s->stopped)
        call_alone(s, fn);
    fn->called = true;
}

/* ---- what stands before ( */

static bool listed(const char *word, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(word, *list))
            return true;
    }
    return false;
}

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
    if (local && local->lazy)
        name_value(s, local, callee->span);
    if (local && local->value.kind == V_FN)
        return call_closure(s, q, local->value.fn, n, module);
    Closure *fn = fn_find(s, word);
    if (fn)
        return call_closure(s, q, fn, n, module);
    if (listed(word, builtin_words) && !(listed(word, reducer_words) && tree_count(n->b) < 2))
        return builtin_call(s, q, n, module);
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
