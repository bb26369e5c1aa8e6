/* sema_schedule.c -- the strategy as programs of their own, once everything is checked.
 *
 *   schedule   scalars in f64: from y, t, the samples of steps y and t, and the train block's budget come
 *              "mix", the share of step y among the draws of step t, and "budget", the samples that step t sees
 *   after      from the weights that a step ended with and those it began with (inputs "previous:NAME") come the
 *              weights it hands on
 *
 * samples(y) is known only when the program sees its data; as the strategy may ask it of y or t alone, it is a choice
 * between two inputs, and NaN for anything else, which the program refuses before the first step. */
#include "front/sema.h"
#include <string.h>

const Node *strategy_node(Sema *s, const char *name)
{
    for (int i = 0; i < s->strategy.n; i++) {
        if (!strcmp(s->strategy.at[i]->a->text, name))
            return s->strategy.at[i];
    }
    return NULL;
}

/* The function-valued entry `word`, or NULL. */
Closure *strategy_rule(Sema *s, const Node *strategy, const char *word)
{
    for (const Node *n = strategy->c; n; n = n->next) {
        if (n->kind == AST_SET && n->a->kind == AST_CALL && !strcmp(n->a->a->text, word))
            return closure_new(s, word, n, n->a->b, n->b, NULL, s->scope, n->a->span);
    }
    return NULL;
}

/* A frame in which the strategy's own arguments are bound. */
Frame *strategy_open(Sema *s, const Node *strategy)
{
    const Node *n = block_value(s, B_CONTINUAL, "strategy"), *node[MOST_FORMALS] = { NULL };
    Closure *self = closure_new(s, strategy->a->text, strategy, strategy->b, NULL, NULL, s->top->scope, strategy->a->span);
    Value arg[MOST_FORMALS];
    bool ok = match_arguments(s, n->kind == AST_CALL ? n->b : NULL, self, 0, node);
    int k = 0;
    for (const Node *f = strategy->b; f && ok; f = f->next, k++) {
        if (node[k])
            arg[k] = argument_value(s, NULL, f, node[k]);
    }
    Frame *frame = frame_open(s, self, n->span, s->root);
    k = 0;
    for (const Node *f = strategy->b; f && ok; f = f->next, k++)
        ok = node[k] ? bind_formal(s, f, arg[k], node[k]->span) : bind_default(s, f);
    return frame;
}

static Value scalar_input(Sema *s, const char *name)
{
    Def *def = def_new(s, name, s->frame->call, 0, NULL);
    def->tensor = graph_tensor(s->g, name, 0, NULL, T_INPUT, DT_F64);
    return value_def(def, def->at);
}

static Node *name_node(Sema *s, const char *text, Span at)
{
    Node *n = NEW(s->arena, Node);
    *n = (Node){ .kind = AST_NAME, .height = 1, .span = at, .word = at, .text = text };
    return n;
}

/* if y == WHO then SAMPLES else OTHER */
static Node *choice(Sema *s, const char *who, const char *samples, Node *other, Span at)
{
    Node *test = NEW(s->arena, Node), *n = NEW(s->arena, Node);
    *test = (Node){ .kind = AST_BINARY, .height = 2, .span = at, .word = at, .text = "==", .a = name_node(s, "y", at),
                    .b = name_node(s, who, at) };
    *n = (Node){ .kind = AST_IF, .height = 4, .span = at, .word = at, .a = test, .b = name_node(s, samples, at), .c = other };
    return n;
}

static void output(Sema *s, const char *name, Value v, Span at)
{
    const Expr *e = v.kind == V_ERROR ? NULL : value_scalar(s, &v, at);
    if (e)
        graph_output(s->g, name, def_scalar(s, e, name, at)->tensor);
}

static void bind_scalars(Sema *s, Span at)
{
    static const char *const name[] = { "step y", "step t", "samples y", "samples t", "unknown", "base" };
    static const char *const input[] = { "y", "t", "samples_y", "samples_t", "unknown", "base" };
    for (size_t k = 0; k < LEN(name); k++)
        scope_add(s, s->scope, name[k], NAME_FORMAL, scalar_input(s, input[k]), at);
    Node *formal = name_node(s, "y", at);
    Node *value = choice(s, "step y", "samples y", choice(s, "step t", "samples t", name_node(s, "unknown", at), at), at);
    Closure *samples = closure_new(s, "samples", value, formal, value, NULL, s->scope, at);
    scope_add(s, s->scope, "samples", NAME_FORMAL, (Value){ .kind = V_FN, .fn = samples }, at);
}

static void begin(Sema *s, Graph *g, Diag *d, bool host)
{
    s->g = g;
    s->diag = d;
    s->scalar.n = 0;
    s->host = host;
    s->statements = 0;
    s->frame = s->top;
    s->scope = s->top->scope;
}

static bool finish(Sema *s, Frame *frame, int errors)
{
    frame_close(s, frame);
    s->host = false;
    s->scalar.n = 0;
    sema_calls(s);
    graph_toposort(s->g);
    return s->diag->errors == errors;
}

bool sema_schedule(Program *p, Graph *g, Diag *d)
{
    Sema *s = p->sema;
    const Node *strategy = strategy_node(s, p->continual.strategy);
    int errors = d->errors;
    if (!strategy)
        return false;
    begin(s, g, d, true);
    Frame *frame = strategy_open(s, strategy);
    Span at = strategy->a->span;
    bind_scalars(s, at);
    Closure *mix = strategy_rule(s, strategy, "mix"), *budget = strategy_rule(s, strategy, "budget");
    Value y = scope_local(s, "step y")->value, t = scope_local(s, "step t")->value;
    Value two[2] = { y, t };
    if (mix)
        output(s, "mix", call_values(s, mix, two, at), mix->value->span);
    output(s, "budget", budget ? call_values(s, budget, &t, at) : scope_local(s, "base")->value, at);
    return finish(s, frame, errors);
}

bool sema_has_after(const Program *p)
{
    Sema *s = p->sema;
    const Node *strategy = strategy_node(s, p->continual.strategy);
    return strategy && strategy_rule(s, strategy, "after");
}

bool sema_after(Program *p, Graph *g, Diag *d)
{
    Sema *s = p->sema;
    const Node *strategy = strategy_node(s, p->continual.strategy);
    int errors = d->errors;
    begin(s, g, d, false);
    Frame *frame = strategy_open(s, strategy);
    Closure *fn = strategy_rule(s, strategy, "after");
    for (int i = 0; fn && i < p->n_param && d->errors == errors; i++) {
        const Tensor *t = &p->graph->tensor[p->param[i]];
        int old = graph_tensor(g, arena_printf(s->arena, "previous:%s", t->name), t->rank, t->shape, T_INPUT, DT_F32);
        int w = graph_tensor(g, t->name, t->rank, t->shape, T_PARAM, DT_F32);
        const Affine *map[MAX_RANK];
        Eq q;
        g->tensor[w].init = t->init;
        g->tensor[w].span = g->tensor[old].span = t->span;
        eq_begin(s, &q, EQ_PLAIN, "after");
        for (int k = 0; k < t->rank; k++)
            map[k] = aff_axis(g, eq_push(s, &q, "..", t->shape[k], fn->at, "the parameter"));
        Value arg[2] = { value_expr(expr_load(g, w, map), fn->at), value_expr(expr_load(g, old, map), fn->at) };
        Value v = call_within(s, &q, fn, arg, fn->at);
        const Expr *e = v.kind == V_ERROR ? NULL : value_scalar(s, &v, fn->value->span);
        if (!e)
            continue;
        Def *def = def_new(s, "after", fn->at, t->rank, t->shape);
        def->tensor = graph_tensor(g, "after", t->rank, t->shape, T_TEMP, DT_F32);
        g->tensor[def->tensor].span = fn->at;
        comp_map(s, def, e, fn->at);
        graph_update(g, w, def->tensor);
    }
    return finish(s, frame, errors);
}

/* ---- loss(student, teacher) */

bool sema_has_loss(const Program *p)
{
    Sema *s = p->sema;
    const Node *strategy = strategy_node(s, p->continual.strategy);
    return strategy && strategy_rule(s, strategy, "loss");
}

/* `student.logits`: the newest tensor that an equation of the model called so. */
static void bind_tensors(Sema *s, const char *view, const Sema *of, Span at)
{
    Def *loss = def_new(s, "loss", at, 0, NULL);
    loss->tensor = of->program->loss;
    scope_add(s, s->scope, arena_printf(s->arena, "%s.loss", view), NAME_FORMAL, value_def(loss, at), at);
    for (int i = of->traced.n - 1; i >= 0; i--) {
        Def *def = of->traced.at[i];
        const char *name = arena_printf(s->arena, "%s.%s", view, def->name);
        bool known = def->broken || def->open || def->tensor < 0;
        for (int k = 0; !known && k < s->scope->name.n; k++)
            known = !strcmp(s->scope->name.at[k]->name, name);
        if (!known)
            scope_add(s, s->scope, name, NAME_FORMAL, value_def(def, at), at);
    }
}

bool sema_distill(Program *p, Diag *d, int file, const Define *define, int n_define)
{
    Sema *s = p->sema, *teacher = NEW(s->arena, Sema);
    Program *tp = NEW(s->arena, Program);
    const Node *strategy = strategy_node(s, p->continual.strategy);
    int errors = d->errors;
    *teacher = (Sema){ .arena = s->arena, .diag = d, .module = s->module, .module_ctx = s->module_ctx, .g = p->graph, .student = p };
    if (!sema_analyse(teacher, tp, file, define, n_define))
        return false;
    begin(s, p->graph, d, false);
    Frame *frame = strategy_open(s, strategy);
    Closure *fn = strategy_rule(s, strategy, "loss");
    Frame *inner = frame_open(s, fn, fn->at, s->root);
    bind_tensors(s, fn->formals->text, s, fn->at);
    bind_tensors(s, fn->formals->next->text, teacher, fn->at);
    Value v = eval_plain(s, fn->value, "loss");
    frame_close(s, inner);
    if (v.kind == V_TENSOR && !v.def->rank) {
        for (int i = 0; i < p->graph->n_output; i++) {
            if (p->graph->output[i].tensor == p->loss && !strcmp(p->graph->output[i].name, "loss"))
                p->graph->output[i].tensor = v.def->tensor;
        }
        p->loss = v.def->tensor;
    }
    return finish(s, frame, errors) && v.kind == V_TENSOR;
}
