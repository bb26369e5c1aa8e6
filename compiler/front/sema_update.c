/* sema_update.c -- the optimiser's step, once gradients exist.
 *
 *     optimizer sgd(w[..], g[..], lr, momentum = 0.9) {
 *         state momentum_buffer[..] = 0
 *         momentum_buffer[..] = momentum * momentum_buffer[..] + g[..]
 *         w[..] = w[..] - lr * momentum_buffer[..]
 *     }
 *
 * The body is written out for every parameter: `w` is the parameter, `g` its gradient, the other arguments come from
 * the call in the train block. Assignments are sequential: a name means its newest value. Scalars that depend on
 * `step` and `total` alone (the learning rate, bias corrections) are computed by the host in f64. Then the gradient's
 * global norm is clipped before (clip_norm), and `after` runs on the new values. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

typedef struct OptCall {
    const Node *node;               /* adamw(lr = ...) */
    const Closure *fn;
    const Node *by_formal[MOST_FORMALS];
    Value arg[MOST_FORMALS];
    int n;
} OptCall;

/* ---- the call */

static const Closure *optimizer_find(Sema *s, const Node *name)
{
    Words w = { { 0 } };
    for (int i = 0; i < s->fn.n; i++) {
        if (!s->fn.at[i]->optimizer)
            continue;
        if (!strcmp(s->fn.at[i]->name, name->text))
            return s->fn.at[i];
        words_add(s, &w, s->fn.at[i]->name);
    }
    sema_error(s, name->span, "there is no optimizer `%s`", name->text);
    if (w.list.n)
        suggest_or_list(s, name->text, words_list(s, &w), "optimizers here");
    else
        sema_help(s, "optimizers of the library come by `use optim`");
    return NULL;
}

static bool optimizer_signature(Sema *s, const Closure *fn)
{
    const Node *w = fn->formals, *g = w ? w->next : NULL;
    if (w && g && w->kind == AST_FORMAL && g->kind == AST_FORMAL && w->a && g->a && !w->c && !g->c)
        return true;
    sema_error(s, fn->at, "an optimizer takes a parameter and its gradient first: `%s(w[..], g[..], lr, ...)`", fn->name);
    return false;
}

/* What the host's scalars may depend on: `step` of `total` in time step `t`, and `updates`, how often the optimiser has run
 * since its states were fresh. */
static const char *const host_name[] = { "step", "total", "t", "updates" };

/* While the host's scalars are evaluated, these are names of the file. Where every time step begins with fresh states,
 * `updates` is `step`. */
static void host_begin(Sema *s, Span at)
{
    s->host = true;
    s->scalar.n = 0;
    Value step = value_error();
    for (size_t k = 0; k < LEN(host_name); k++) {
        bool same = !strcmp(host_name[k], "updates") && !s->program->continual.carry_moments;
        Def *def = same ? NULL : def_new(s, host_name[k], at, 0, NULL);
        if (def)
            def->tensor = graph_tensor(s->g, host_name[k], 0, NULL, T_INPUT, DT_F64);
        Value v = def ? value_def(def, at) : step;
        step = k ? step : v;
        scope_add(s, s->top->scope, host_name[k], NAME_FORMAL, v, at);
    }
}

static void host_end(Sema *s)
{
    scope_drop(s, s->top->scope, (int)LEN(host_name));
    s->host = false;
    s->scalar.n = 0;
}

static bool read_call(Sema *s, OptCall *o)
{
    const Node *n = s->program->train.optimizer;
    *o = (OptCall){ .node = n };
    if (!n)
        return false;
    if (n->kind != AST_CALL || n->a->kind != AST_NAME) {
        sema_error(s, n->span, "`optimizer` is the call of one, as `adamw(lr = 5e-4)`, and this is `%s`", sema_text(s, n));
        return false;
    }
    o->fn = optimizer_find(s, n->a);
    if (!o->fn || !optimizer_signature(s, o->fn))
        return false;
    ((Closure *)o->fn)->called = true;
    bool matched = match_arguments(s, n->b, o->fn, 2, o->by_formal), ok = matched;
    int k = 0;
    for (const Node *f = o->fn->formals; f; f = f->next, k++) {
        if (k < 2)
            continue;
        if (o->by_formal[k]) {
            o->arg[k] = argument_value(s, NULL, f, o->by_formal[k]);
            ok &= o->arg[k].kind != V_ERROR;
        } else if (matched && (f->kind != AST_FORMAL || !f->c)) {
            sema_error(s, n->span, "`%s` misses argument `%s`", o->fn->name, f->text);
            sema_note(s, o->fn->at, "it is defined here");
            ok = false;
        }
    }
    o->n = k;
    return ok;
}

/* ---- one parameter */

typedef struct StepResult {
    Def *w;                         /* the parameter's new value */
    double decay;
} StepResult;

static bool weight_decay(Sema *s, const OptCall *o, Value w, double *decay)
{
    const Name *name = scope_local(s, "weight_decay");
    *decay = 0;
    if (!name || name->kind != NAME_FORMAL)
        return true;
    Value v = name->value;
    if (v.kind == V_FN)
        v = call_values(s, v.fn, &w, o->node->span);
    if (v.kind == V_ERROR)
        return false;
    if (v.kind != V_NUM || !(v.num >= 0 && isfinite(v.num))) {
        sema_error(s, name->value.at.lo ? name->value.at : o->node->span,
                   "`weight_decay` of parameter `%s` is a number from 0 on, and this is %s", s->updating,
                   value_text(s, &v));
        return false;
    }
    *decay = v.num;
    return true;
}

/* The body for parameter i, or (without `body`) its arguments alone. */
static bool one_step(Sema *s, const OptCall *o, int i, Def *grad, bool body, StepResult *r)
{
    Def *w = s->param.at[i].def;
    int errors = s->diag->errors, k = 0;
    bool ok = true;
    s->updating = s->g->tensor[w->tensor].name;
    s->state.n = 0;
    Frame *f = frame_open(s, o->fn, o->node->span, s->root);
    for (const Node *p = o->fn->formals; p && ok; p = p->next, k++) {
        if (k == 1)
            grad->at = p->span;     /* for messages */
        if (k < 2)
            ok = bind_formal(s, p, value_def(k ? grad : w, p->span), p->span);
        else
            ok = o->by_formal[k] ? bind_formal(s, p, o->arg[k], o->by_formal[k]->span) : bind_default(s, p);
    }
    ok = ok && weight_decay(s, o, value_def(w, o->node->span), &r->decay);
    if (ok && body) {
        exec_items(s, o->fn->body);
        const Name *name = scope_local(s, o->fn->formals->text);
        ok = s->diag->errors == errors && name->value.kind == V_TENSOR;
        r->w = ok ? name->value.def : NULL;
        if (ok && r->w == w) {
            sema_error(s, o->fn->at, "optimizer `%s` gives `%s` no new value", o->fn->name, name->name);
            ok = false;
        }
        for (int j = 0; ok && j < s->state.n; j++) {
            const StateRow *row = &s->state.at[j];
            if (row->name->value.kind == V_TENSOR && row->name->value.def != row->def)
                graph_update(s->g, row->def->tensor, row->name->value.def->tensor);
        }
    }
    frame_close(s, f);
    return ok && s->diag->errors == errors;
}

static Def *gradient_def(Sema *s, int i, int tensor)
{
    const Def *w = s->param.at[i].def;
    Def *g = def_new(s, "g", w->at, w->rank, w->shape);
    g->tensor = tensor;
    return g;
}

/* ---- constants for checkpoints */

static void add_constant(Sema *s, const char *name, const Value *v)
{
    if (v->kind == V_NUM)
        PUSH(s->arena, s->constant, (Constant){ name, v->num });
}

/* Arguments that are numbers, those of the schedule included: "beta1", "eps", "peak", "warmup". */
static void note_constants(Sema *s, const OptCall *o)
{
    int k = 0;
    for (const Node *f = o->fn->formals; f; f = f->next, k++) {
        const Node *given = o->by_formal[k], *value = given && given->kind == AST_NAMED ? given->b : given;
        if (k < 2)
            continue;
        if (given) {
            add_constant(s, f->text, &o->arg[k]);
        } else if (f->kind == AST_FORMAL && f->c && !f->b) {
            Value v = eval_plain(s, f->c, f->text);
            add_constant(s, f->text, &v);
        }
        for (const Node *a = value && value->kind == AST_CALL ? value->b : NULL; a; a = a->next) {
            if (a->kind != AST_NAMED || a->a->kind != AST_NAME)
                continue;
            Value v = eval_plain(s, a->b, a->a->text);
            add_constant(s, a->a->text, &v);
        }
    }
}

/* ---- at check time: a trial on a copy of the tensors */

static Graph *copy_tensors(Sema *s)
{
    Graph *g = graph_new(s->arena, s->diag->sources);
    for (int i = 0; i < s->g->n_tensor; i++) {
        const Tensor *t = &s->g->tensor[i];
        graph_tensor(g, t->name, t->rank, t->shape, t->kind, t->dtype);
    }
    return g;
}

/* An optimizer of the file that the program does not use: with a parameter of unknown shape. */
void sema_unused_optimizer(Sema *s, Closure *fn)
{
    if (!optimizer_signature(s, fn))
        return;
    Graph *g = s->g;
    s->g = graph_new(s->arena, s->diag->sources);
    s->updating = "w";
    host_begin(s, fn->at);
    call_dry(s, fn);
    host_end(s);
    s->g = g;
    fn->called = true;
}

static bool try_after_block(Sema *s, Def *const *value);

bool sema_optimizer(Sema *s)
{
    OptCall o;
    Graph *g = s->g;
    int errors = s->diag->errors;
    bool tried[MAX_RANK + 1] = { false };
    if (!s->program->train.optimizer)
        return false;
    s->g = copy_tensors(s);
    host_begin(s, s->program->train.optimizer->span);
    bool ok = read_call(s, &o);
    s->decay = NEWN(s->arena, double, s->param.n + 1);
    if (ok)
        note_constants(s, &o);
    for (int i = 0; ok && i < s->param.n; i++) {
        const Def *w = s->param.at[i].def;
        StepResult r = { NULL, 0 };
        int grad = graph_tensor(s->g, "g", w->rank, w->shape, T_INPUT, DT_F32);
        ok = one_step(s, &o, i, gradient_def(s, i, grad), !tried[w->rank], &r);
        s->decay[i] = r.decay;
        tried[w->rank] = true;
    }
    if (ok) {
        s->program->train.optimizer_name = o.fn->name;
        Def **value = NEWN(s->arena, Def *, s->param.n + 1);
        for (int i = 0; i < s->param.n; i++)
            value[i] = s->param.at[i].def;
        ok = try_after_block(s, value);
    }
    host_end(s);
    s->g = g;
    if (ok && s->program->train.clip_norm > 0 && !fn_find(s, "clip_by_norm")) {
        sema_error(s, s->block[B_TRAIN]->word, "`clip_norm` needs the function `clip_by_norm(g, norm, limit)`");
        sema_help(s, "it is in the library: `use optim`");
    }
    return s->diag->errors == errors;
}

double sema_weight_decay(const Program *p, int i)
{
    const Sema *s = p->sema;
    for (int k = 0; s->decay && k < s->param.n; k++) {
        if (s->param.at[k].def->tensor == p->param[i])
            return s->decay[k];
    }
    return 0;
}

bool sema_optimizer_constant(const Program *p, const char *name, double *value)
{
    const Sema *s = p->sema;
    for (int i = 0; i < s->constant.n; i++) {
        if (!strcmp(s->constant.at[i].name, name)) {
            *value = s->constant.at[i].value;
            return true;
        }
    }
    return false;
}

/* ---- after { ... } */

/* `value` by position in s->param: the new values; entries change. Names are those of the state_dict. */
static bool run_after(Sema *s, Def **value)
{
    const Node *block = s->program->train.after;
    int errors = s->diag->errors;
    if (!block)
        return true;
    Closure *self = closure_new(s, "after", block, NULL, NULL, NULL, s->top->scope, block->word);
    self->optimizer = true;
    Frame *f = frame_open(s, self, (Span){ 0, 0 }, s->root);
    for (int i = 0; i < s->param.n; i++) {
        const Tensor *t = &s->g->tensor[s->param.at[i].def->tensor];
        scope_add(s, f->scope, t->name, NAME_FORMAL, value_def(value[i], t->span), t->span);
    }
    s->updating = "after";
    s->state.n = 0;
    exec_items(s, block->c);
    for (int i = 0; i < s->param.n; i++) {
        const Value *v = &f->scope->name.at[i]->value;
        if (v->kind == V_TENSOR)
            value[i] = v->def;
    }
    if (s->state.n)
        sema_error(s, block->word, "`after` has no states of its own");
    frame_close(s, f);
    return s->diag->errors == errors;
}

static bool try_after_block(Sema *s, Def *const *value)
{
    return run_after(s, (Def **)value);
}

/* ---- clipping by the global norm */

/* squares[i] = the sum of the squares of g */
static void sum_of_squares(Sema *s, const Def *g, int squares, int i)
{
    const Affine *map[MAX_RANK], *at = aff_const(s->g, i);
    for (int k = 0; k < g->rank; k++)
        map[k] = aff_axis(s->g, k);
    const Expr *x = expr_load(s->g, g->tensor, map), *square = sema_op(s, OP_MUL, x, x, NULL);
    graph_comp(s->g, squares, g->rank, g->shape, (1u << g->rank) - 1, g->rank ? RED_SUM : RED_NONE, square, &at, g->at, "clip_norm");
}

/* The norm of all gradients together. */
static Def *global_norm(Sema *s, Def *const *grad)
{
    Ext n = s->param.n;
    int squares = graph_tensor(s->g, "squares", 1, &n, T_TEMP, DT_F32), total = graph_tensor(s->g, "square", 0, NULL, T_TEMP, DT_F32);
    const Affine *at = aff_axis(s->g, 0);
    for (int i = 0; i < s->param.n; i++)
        sum_of_squares(s, grad[i], squares, i);
    graph_comp(s->g, total, 1, &n, 1, RED_SUM, expr_load(s->g, squares, &at), NULL, (Span){ 0, 0 }, "clip_norm");
    return def_scalar(s, sema_op(s, OP_SQRT, expr_load(s->g, total, NULL), NULL, NULL), "grad_norm", (Span){ 0, 0 });
}

static bool clip(Sema *s, Def **grad)
{
    const Closure *fn = fn_find(s, "clip_by_norm");
    const Node *n = block_value(s, B_TRAIN, "clip_norm");
    Span at = n ? n->span : (Span){ 0, 0 };
    Def *norm = global_norm(s, grad);
    graph_output(s->g, "grad_norm", norm->tensor);
    if (tree_count(fn->formals) != 3) {
        sema_error(s, fn->at, "`clip_by_norm` takes 3 arguments, g, norm and limit, and this takes %d", tree_count(fn->formals));
        return false;
    }
    for (int i = 0; i < s->param.n; i++) {
        Value arg[3] = { value_def(grad[i], at), value_def(norm, at), value_num(s->program->train.clip_norm, at) };
        Value v = call_values(s, fn, arg, at);
        if (v.kind == V_ERROR)
            return false;
        const Def *g = grad[i];
        if (v.kind != V_TENSOR || v.def->rank != g->rank || memcmp(v.def->shape, g->shape, sizeof *g->shape * (size_t)g->rank)) {
            sema_error(s, fn->at, "`clip_by_norm` gives a gradient of shape %s again, and this is %s", shape_text(s, g->rank, g->shape),
                       v.kind == V_TENSOR ? shape_text(s, v.def->rank, v.def->shape) : value_text(s, &v));
            return false;
        }
        grad[i] = v.def;
    }
    return true;
}

/* ---- the step */

/* A strategy's lr(step, total, t) takes the place of the call's. */
static bool replace_rate(Sema *s, OptCall *o)
{
    const Node *strategy = s->program->continual.n_step ? strategy_node(s, s->program->continual.strategy) : NULL;
    int k = 0;
    if (!strategy || !strategy_rule(s, strategy, "lr"))
        return true;
    Value arg[3];
    for (int i = 0; i < 3; i++)
        arg[i] = scope_local(s, host_name[i])->value;
    Frame *frame = strategy_open(s, strategy);
    const Closure *fn = strategy_rule(s, strategy, "lr");
    Value v = call_values(s, fn, arg, fn->at);
    const Expr *e = v.kind == V_ERROR ? NULL : value_scalar(s, &v, fn->value->span);
    Def *rate = e ? def_scalar(s, e, "lr", fn->value->span) : NULL;
    frame_close(s, frame);
    for (const Node *f = o->fn->formals; f && rate; f = f->next, k++) {
        if (strcmp(f->text, "lr"))
            continue;
        o->arg[k] = value_def(rate, fn->value->span);
        o->by_formal[k] = fn->value;
        return true;
    }
    if (rate)
        sema_error(s, fn->at, "optimizer `%s` has no argument `lr` that a strategy could set", o->fn->name);
    return false;
}

static void rate_output(Sema *s, const OptCall *o)
{
    int k = 0;
    for (const Node *f = o->fn->formals; f; f = f->next, k++) {
        if (strcmp(f->text, "lr") || !o->by_formal[k])
            continue;
        const Expr *e = value_scalar(s, &o->arg[k], o->node->span);
        bool tensor = o->arg[k].kind == V_TENSOR;
        graph_output(s->g, "lr", tensor ? o->arg[k].def->tensor : def_scalar(s, e, "lr", o->node->span)->tensor);
    }
}

bool sema_update(Program *p, Graph *g, Diag *d, const int *grads)
{
    Sema *s = p->sema;
    OptCall o;
    s->g = g;
    s->diag = d;
    s->statements = 0;
    s->frame = s->top;
    s->scope = s->top->scope;
    int errors = d->errors;
    Def **grad = NEWN(s->arena, Def *, s->param.n + 1), **value = NEWN(s->arena, Def *, s->param.n + 1);
    for (int i = 0; i < s->param.n; i++) {
        for (int k = 0; k < p->n_param; k++) {
            if (p->param[k] == s->param.at[i].def->tensor)
                grad[i] = gradient_def(s, i, grads[k]);
        }
    }
    host_begin(s, p->train.optimizer->span);
    bool ok = read_call(s, &o) && replace_rate(s, &o);
    if (ok)
        rate_output(s, &o);
    if (ok && p->train.clip_norm > 0)
        ok = clip(s, grad);
    for (int i = 0; ok && i < s->param.n; i++) {
        StepResult r = { NULL, 0 };
        s->statements = 0;
        ok = one_step(s, &o, i, grad[i], true, &r);
        value[i] = r.w;
    }
    ok = ok && run_after(s, value);
    for (int i = 0; ok && i < s->param.n; i++)
        graph_update(g, s->param.at[i].def->tensor, value[i]->tensor);
    host_end(s);
    sema_calls(s);
    return ok && d->errors == errors;
}

bool sema_rate(Program *p, Graph *g, Diag *d)
{
    Sema *s = p->sema;
    OptCall o;
    int errors = d->errors;
    s->g = g;
    s->diag = d;
    s->statements = 0;
    s->frame = s->top;
    s->scope = s->top->scope;
    host_begin(s, p->train.optimizer->span);
    if (read_call(s, &o) && replace_rate(s, &o))
        rate_output(s, &o);
    host_end(s);
    sema_calls(s);
    graph_toposort(g);
    return d->errors == errors;
}
