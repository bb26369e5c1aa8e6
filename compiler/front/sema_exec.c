/* sema_exec.c -- statements of a body, one after the other; parameters and the tree of scopes they live in.
 *
 * A parameter belongs to the scope its call was given by `as`, and is named as a state_dict names it: the path of its
 * scope, a dot, its own name. `for` is unrolled and `if` chooses when the program is compiled, so neither leaves a
 * trace in the graph. A `for` body is a scope of its own; an `if` body is not: what it defines stays in sight. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

/* ---- scopes of parameters */

Module *module_enter(Sema *s, Module *up, const char *name)
{
    Module *known = table_get(&up->table, name);
    if (known)
        return known;
    Module *m = NEW(s->arena, Module);
    m->name = name;
    m->path = up->path[0] ? arena_printf(s->arena, "%s.%s", up->path, name) : name;
    m->up = up;
    PUSH(s->arena, up->sub, m);
    table_set(s, &up->table, name, m);
    return m;
}

void module_use(Sema *s, Module *m)
{
    if (!m || m->order)
        return;
    module_use(s, m->up);
    m->order = ++s->modules;
}

/* The scope of a dotted name; *leaf is its last part. */
static Module *module_of(Sema *s, const char *text, const char **leaf)
{
    Module *m = s->frame->module;
    const char *dot;
    while ((dot = strchr(text, '.'))) {
        m = module_enter(s, m, arena_strndup(s->arena, text, (size_t)(dot - text)));
        text = dot + 1;
    }
    module_use(s, m);
    *leaf = text;
    return m;
}

/* ---- param and state */

/* The shape that the index list of a parameter or state says. -1 after an error. */
static int declared_shape(Sema *s, const Node *target, const char *name, Ext *shape)
{
    const Affine *store[MAX_RANK];
    Span at[MAX_RANK];
    Eq q;
    if (target->kind != AST_INDEX)
        return 0;
    eq_begin(s, &q, EQ_EXPLICIT, name);
    int rank = eq_left(s, &q, target->b, store, at);
    for (int k = 0; k < rank; k++) {
        int axis = aff_plain(store[k]);
        if (axis < 0) {
            sema_error(s, at[k], "an axis of a parameter is a name, and this is `%s`",
                       source_text(s->diag->sources, at[k]));
            sema_help(s, "write `%s[d: 512]`", name);
            return -1;
        }
        for (int j = 0; j < k; j++) {
            if (aff_plain(store[j]) == axis) {
                sema_error(s, at[k], "`%s` names two axes of `%s`", q.axis[axis]->name, name);
                return -1;
            }
        }
        if (!eq_known(s, &q, q.axis[axis], at[k]))
            return -1;
        shape[k] = q.axis[axis]->ext;
        if (shape[k] == EXT_BATCH) {
            sema_error(s, at[k], "axis %d of `%s` would be the batch", k + 1, name);
            sema_help(s, "a parameter has extents known when the program is compiled");
            return -1;
        }
    }
    return rank;
}

static const char *target_name(const Node *target)
{
    return target->kind == AST_INDEX ? target->a->text : target->text;
}

static Init first_value(Sema *s, const Node *n, bool *ok)
{
    Eq q;
    eq_begin(s, &q, EQ_PLAIN, target_name(n->a));
    q.first_value = true;
    Value v = value_of(s, &q, n->b);
    if (v.kind == V_ERROR || !eq_finish(s, &q))
        v = value_error();
    *ok = s->dry && v.kind == V_ERROR;
    return *ok ? (Init){ INIT_CONST, 0, 0 } : value_init(s, &v, n->text[0] == '~', n->b, ok);
}

/* A teacher's parameters are inputs of the program: "teacher:visual.proj". */
static const char *param_name(Sema *s, const char *path)
{
    return s->student ? arena_printf(s->arena, "teacher:%s", path) : path;
}

static Param *param_find(Sema *s, const char *path)
{
    intptr_t k = (intptr_t)table_get(&s->param_table, path);
    return k ? &s->param.at[k - 1] : NULL;
}

static int frame_depth(const Frame *f)
{
    int n = 0;
    for (; f; f = f->up)
        n++;
    return n;
}

/* Two ways to the same parameter: the call by which the first leaves the second. */
static Span parting(const Frame *first, const Frame *second)
{
    Span at = first->call;
    for (int n = frame_depth(first), m = frame_depth(second); first != second; n--) {
        at = first->call;
        first = first->up;
        while (m >= n) {
            second = second->up;
            m--;
        }
    }
    return at;
}

/* Another call of a model's function (a second view of the batch, say) shares the parameters of the first. */
static Def *shared_param(Sema *s, const Param *known, const Node *n, const char *path, int rank, const Ext *shape)
{
    const Def *def = known->def;
    if (known->node != n || known->round == s->round) {
        Span call = known->node == n ? parting(known->frame, s->frame) : (Span){ 0, 0 };
        if (call.lo && call.lo == s->parted.lo)
            return NULL;             /* the same two calls have met in another parameter */
        s->parted = call;
        sema_error(s, n->a->span, "there is a parameter `%s` already", path);
        if (known->node != n) {
            sema_note(s, known->node->a->span, "here first");
            return NULL;
        }
        sema_note(s, call, "it comes from this call");
        sema_help(s, "give each call a scope of its own: `f(...) as NAME`; in a loop over `i`, `f(...) as NAME[i]`");
        return NULL;
    }
    if (def->rank != rank || memcmp(def->shape, shape, sizeof *shape * (size_t)rank)) {
        sema_error(s, n->a->span, "parameter `%s` has shape %s here, but %s in an earlier call", path,
                   shape_text(s, rank, shape), shape_text(s, def->rank, def->shape));
        return NULL;
    }
    return known->def;
}

static Def *new_param(Sema *s, Module *m, const Node *n, const char *path, int rank, const Ext *shape, Init init)
{
    const char *name = target_name(n->a);
    Def *def = def_new(s, name, n->a->span, rank, shape);
    Ext known[MAX_RANK];
    for (int k = 0; k < rank; k++)
        known[k] = shape[k] < 0 ? 1 : shape[k];                /* only when dry */
    def->tensor = graph_tensor(s->g, param_name(s, path), rank, known, s->student ? T_INPUT : T_PARAM, DT_F32);
    s->g->tensor[def->tensor].init = init;
    s->g->tensor[def->tensor].span = n->a->span;
    if (!s->dry) {
        PUSH(s->arena, m->own, s->param.n);
        PUSH(s->arena, s->param, (Param){ def, n, s->frame, s->round });
        table_set(s, &s->param_table, path, (void *)(intptr_t)s->param.n);
    }
    return def;
}

static Def *make_param(Sema *s, const Node *n)
{
    const char *name = target_name(n->a), *leaf;
    Ext shape[MAX_RANK];
    bool ok;
    int rank = declared_shape(s, n->a, name, shape);
    Init init = first_value(s, n, &ok);
    if (rank < 0 || !ok || too_many_elements(s, name, rank, shape, MOST_ELEMENTS, n->a->span))
        return NULL;
    Module *m = module_of(s, name, &leaf);
    const char *path = m->path[0] ? arena_printf(s->arena, "%s.%s", m->path, leaf) : leaf;
    const Param *known = s->dry ? NULL : param_find(s, path);
    return known ? shared_param(s, known, n, path, rank, shape) : new_param(s, m, n, path, rank, shape, init);
}

static bool in_after(const Sema *s)
{
    return s->frame->fn && s->frame->fn->node == s->program->train.after;
}

void exec_param(Sema *s, const Node *n, Name *known)
{
    const char *name = target_name(n->a);
    Span at = n->a->kind == AST_INDEX ? n->a->a->span : n->a->span;
    if (in_after(s)) {
        sema_error(s, n->span, "`after` gives the model's parameters new values and makes none");
        return;
    }
    if (s->frame->optimizer) {
        sema_error(s, n->span, "an optimizer has states, not parameters");
        sema_help(s, "write `state %s = 0`", sema_text(s, n->a));
        return;
    }
    if (!known && !name_is_free(s, name, at))
        return;
    Def *def = make_param(s, n);
    Value v = def ? value_def(def, n->a->span) : value_error();
    if (known)
        known->value = v;
    else
        scope_add(s, s->scope, name, NAME_PARAM, v, at);
}

static void exec_state(Sema *s, const Node *n)
{
    const char *name = target_name(n->a);
    Ext shape[MAX_RANK];
    bool ok;
    if (!s->frame->optimizer) {
        sema_error(s, n->span, "states belong to optimizers");
        sema_help(s, "what is learnt is a `param`");
        return;
    }
    if (strchr(name, '.')) {
        sema_error(s, n->a->span, "only parameters have dotted names");
        return;
    }
    int rank = declared_shape(s, n->a, name, shape);
    Init init = first_value(s, n, &ok);
    if (ok && rank >= 0 && init.kind != INIT_CONST) {
        sema_error(s, n->b->span, "a state starts at a number, and this is a distribution");
        ok = false;
    }
    Value v = value_error();
    if (rank >= 0 && ok && !too_many_elements(s, name, rank, shape, MOST_ELEMENTS, n->a->span)) {
        Def *def = def_new(s, name, n->a->span, rank, shape);
        Ext known[MAX_RANK];
        for (int k = 0; k < rank; k++)
            known[k] = shape[k] < 0 ? 1 : shape[k];
        def->tensor = graph_tensor(s->g, arena_printf(s->arena, "%s:%s", name, s->updating), rank, known, T_STATE, DT_F32);
        s->g->tensor[def->tensor].init = init;
        s->g->tensor[def->tensor].span = n->a->span;
        v = value_def(def, n->a->span);
    }
    Name *declared = scope_declare(s, s->scope, name, NAME_STATE, v, n->a->span);
    if (declared && v.kind == V_TENSOR)
        PUSH(s->arena, s->state, (StateRow){ declared, v.def });
}

/* ---- let, const, rebinding, return */

static void exec_const(Sema *s, const Node *n)
{
    scope_declare(s, s->scope, n->text, NAME_CONST, eval_const(s, n), n->word);
}

static Value body_value(Sema *s, const Node *n, const char *name)
{
    return s->frame->pointwise ? value_of(s, s->frame->shared, n) : eval_plain(s, n, name);
}

static void exec_let(Sema *s, const Node *n)
{
    Value v = body_value(s, n->a, n->text);
    scope_declare(s, s->scope, n->text, NAME_LET, v, n->word);
}

/* In an optimizer or `after`: the next value of a parameter or state of one element, w = ... */
static void assign_scalar(Sema *s, Name *name, const Node *set)
{
    if (name->value.kind == V_ERROR)
        return;
    Value v = eval_plain(s, set->b, name->name);
    const Def *old = name->value.kind == V_TENSOR ? name->value.def : NULL;
    if (v.kind == V_ERROR) {
        name->value = v;
        return;
    }
    if (v.kind == V_TENSOR && old && (v.def->rank || !old->rank)) {
        name->value = keeps_shape(s, name, v.def, set->span) ? v : value_error();
        return;
    }
    if (!old || old->rank) {
        sema_error(s, set->span, "`%s` is %s and cannot become %s", name->name, value_text(s, &name->value),
                   value_text(s, &v));
        if (old && old->rank && s->frame->has_rest)
            sema_help(s, "with indices: `%s[..] = ...`", name->name);
        return;
    }
    const Expr *e = value_scalar(s, &v, set->b->span);
    name->value = e ? value_def(def_scalar(s, e, name->name, set->span), set->span) : value_error();
}

static void unknown_target(Sema *s, const Node *target)
{
    Words w = { { 0 } };
    scope_words(s, NULL, &w);
    const char *near = diag_closest(target->text, words_list(s, &w));
    if (scope_outer(s, target->text)) {
        sema_error(s, target->span, "`%s` belongs to the file or the model and gets no new value here", target->text);
        return;
    }
    if (in_after(s)) {
        sema_error(s, target->span, "the model has no parameter `%s`", target->text);
        if (near)
            sema_help(s, "did you mean `%s`?", near);
        return;
    }
    sema_error(s, target->span, "there is no `%s` here that could get a new value", target->text);
    if (near && !s->frame->optimizer)
        sema_help(s, "did you mean `%s`? A new name is introduced by `let`", near);
    else if (near)
        sema_help(s, "did you mean `%s`?", near);
    else
        sema_help(s, "a new name is introduced by `let %s = ...`", target->text);
}

/* `let` was forgotten, and that is said: what follows may read the name, whatever block it was met in. */
static void as_if_introduced(Sema *s, const Node *n)
{
    Scope *outermost = s->scope;
    if (s->frame->optimizer || scope_outer(s, n->a->text))
        return;
    while (outermost->up && outermost->up->frame == s->frame)
        outermost = outermost->up;
    Value v = body_value(s, n->b, n->a->text);
    scope_declare(s, outermost, n->a->text, NAME_LET, v, n->a->span);
}

static void exec_rebind(Sema *s, const Node *n)
{
    Name *name = scope_local(s, n->a->text);
    if (!name) {
        unknown_target(s, n->a);
        as_if_introduced(s, n);
        return;
    }
    if (s->frame->optimizer && (name->kind == NAME_FORMAL || name->kind == NAME_STATE)) {
        assign_scalar(s, name, n);
        return;
    }
    if (name->kind == NAME_LET) {
        Value v = body_value(s, n->b, name->name);
        name->value = v;
        return;
    }
    static const char *const what[] = { "", "a constant", "an argument", "the counter of a loop", "defined by an equation",
                                        "a parameter", "a state" };
    sema_error(s, n->a->span, "`%s` is %s and gets no new value", name->name, what[name->kind]);
    sema_note(s, name->at, "here");
    if (name->kind == NAME_CONST)
        sema_help(s, "a name that gets new values is introduced by `let`");
    else
        sema_help(s, "give the new value a name of its own: `let NAME = ...`");
}

static void exec_return(Sema *s, const Node *n)
{
    Frame *f = s->frame;
    if (f->optimizer) {
        sema_error(s, n->span, in_after(s) ? "`after` returns nothing: it gives parameters new values"
                                           : "an optimizer returns nothing: it gives its arguments new values");
        return;
    }
    f->returned = true;
    f->return_at = n->span;
    if (f->pointwise) {
        f->result = value_of(s, f->shared, n->a);
        return;
    }
    Eq own;
    eq_begin(s, &own, EQ_RESULT, f->name);
    Value v = value_of(s, &own, n->a);
    f->result = eq_result(s, &own, v, f->name, n->span);
}

/* ---- for and if */

bool loop_values(Sema *s, const Node *range, Value **values, int *n)
{
    Value v = eval_plain(s, range, "for");
    if (v.kind == V_LIST) {
        *values = (Value *)v.elem;
        *n = v.n;
        return true;
    }
    if (v.kind == V_ERROR)
        return false;
    if (v.kind != V_RANGE) {
        sema_error(s, range->span, "`for` goes over a range or a list, and this is %s", value_text(s, &v));
        if (v.kind == V_NUM)
            sema_help(s, "write `0..<%s`", sema_text(s, range));
        return false;
    }
    double last = v.half ? v.hi - 1 : v.hi, count = last - v.lo + 1;
    if (v.lo != floor(v.lo) || v.hi != floor(v.hi)) {
        sema_error(s, range->span, "`for` counts by ones, and this range goes from %s to %s", number_text(s, v.lo),
                   number_text(s, v.hi));
        return false;
    }
    if (count < 0 || (!v.half && count < 1)) {
        sema_error(s, range->span, "this range is empty: it goes from %s to %s", number_text(s, v.lo),
                   number_text(s, v.hi));
        return false;
    }
    if (count > MOST_STATEMENTS) {
        sema_error(s, range->span, "%s rounds are too many; at most %d", number_text(s, count), MOST_STATEMENTS);
        return false;
    }
    *n = (int)count;
    *values = NEWN(s->arena, Value, *n + 1);
    for (int i = 0; i < *n; i++)
        (*values)[i] = value_num(v.lo + i, range->span);
    return true;
}

static void exec_for(Sema *s, const Node *n)
{
    Value *value = NULL, unknown = value_error();
    int count = 0;
    bool known = loop_values(s, n->a, &value, &count);
    s->frame->lost |= !known && !s->dry;
    if (!name_is_free(s, n->text, n->word))
        return;
    if (!known && s->dry) {                                    /* how often is not known: look at it once */
        value = &unknown;
        count = 1;
    }
    for (int i = 0; i < count && !s->frame->returned && sema_step(s, n->word); i++) {
        scope_push(s);
        scope_add(s, s->scope, n->text, NAME_LOOP, value[i], n->word);
        exec_items(s, n->b);
        scope_pop(s);
    }
}

static void exec_when(Sema *s, const Node *n)
{
    Value v = eval_plain(s, n->a, "if");
    if (v.kind == V_BOOL) {
        exec_items(s, v.num != 0 ? n->b : n->c);
        return;
    }
    if (v.kind == V_ERROR && s->dry) {                         /* either may be meant */
        exec_items(s, n->b);
        s->frame->returned = false;
        scope_push(s);
        exec_items(s, n->c);
        scope_pop(s);
        return;
    }
    s->frame->lost = true;
    if (v.kind == V_ERROR)
        return;
    sema_error(s, n->a->span, "an `if` statement chooses when the program is compiled, and this is %s", value_text(s, &v));
    if (v.kind == V_EXPR || v.kind == V_TENSOR)
        sema_help(s, "to choose for each element write a value: `y[i] = if ... then ... else ...`");
}

/* ---- scope NAME { ... } */

static void exec_scope(Sema *s, const Node *n)
{
    if (!n->a || n->a->kind != AST_NAME || n->b) {
        sema_error(s, n->span, "a scope has a name: `scope transformer { ... }`");
        return;
    }
    Module *back = s->frame->module;
    s->frame->module = module_enter(s, back, n->a->text);
    module_use(s, s->frame->module);
    exec_items(s, n->c);
    s->frame->module = back;
}

static void misplaced(Sema *s, const Node *n)
{
    switch (n->kind) {
    case AST_FN:
        sema_error(s, n->word, "`%s` is defined inside a body; functions stand in the file or in the model", n->text);
        break;
    case AST_USE:
        sema_error(s, n->span, "`use` stands at the top of a file");
        break;
    default:
        sema_error(s, n->word, "a `%s` block cannot stand inside a body", n->text);
        sema_suggest(s, n->text, (const char *const[]){ "scope", NULL });
        break;
    }
}

static void exec_set(Sema *s, const Node *n)
{
    if (n->a->kind == AST_NAME) {
        exec_rebind(s, n);
    } else if (n->a->kind == AST_INDEX && n->a->a->kind == AST_NAME) {
        exec_equation(s, n);
    } else {
        sema_error(s, n->a->span, "a name or `name[...]` is wanted on the left of `=`");
        if (n->a->kind == AST_CALL)
            sema_help(s, "a function is defined by `fn`, in the file or in the model");
    }
}

static void exec_item(Sema *s, const Node *n)
{
    switch (n->kind) {
    case AST_LET:
        exec_let(s, n);
        break;
    case AST_CONST:
        exec_const(s, n);
        break;
    case AST_SET:
        exec_set(s, n);
        break;
    case AST_PARAM:
        exec_param(s, n, NULL);
        break;
    case AST_STATE:
        exec_state(s, n);
        break;
    case AST_RETURN:
        exec_return(s, n);
        break;
    case AST_FOR:
        exec_for(s, n);
        break;
    case AST_WHEN:
        exec_when(s, n);
        break;
    case AST_BLOCK:
        if (!strcmp(n->text, "scope")) {
            exec_scope(s, n);
            break;
        }
        /* fall through */
    default:
        misplaced(s, n);
    }
}

void exec_items(Sema *s, const Node *items)
{
    for (const Node *n = items; n && !s->stopped; n = n->next) {
        if (s->frame->returned) {
            if (s->frame->return_at.hi <= n->span.lo) {
                sema_error(s, n->span, "this is never reached");
                sema_note(s, s->frame->return_at, "the function ends here");
            }
            return;
        }
        if (!sema_step(s, n->span))
            return;
        exec_item(s, n);
    }
}
