/* sema_continual.c -- the years: which there are, and by which strategy one time step follows the other.
 *
 *     continual { steps = [2014..2016, 2017, 2018]; strategy = patching(alpha = 0.5); start = 2016 }
 *
 *     strategy patching(alpha) {
 *         init = previous                                     or random, or rewind: what `keep` kept of the step before
 *         keep = 0.8                                          of a step's optimiser steps
 *         cost = 1.2                                          compute of a pair against a plain one
 *         mix(y, t) = if y == t then 1 else 0                 share of step y's samples among the draws of step t
 *         budget(t) = (t + 1) * base                          samples seen in step t
 *         lr(step, total, t) = constant(step, 1e-3, 0)        instead of the train block's
 *         after(w, w_previous) = (1 - alpha) * w_previous + alpha * w
 *         loss(student, teacher) = student.loss + ...
 *     }
 *
 * A strategy is tried here on every step and on stand-ins for weights and tensors, so what is wrong with it is said
 * when the program is compiled, not years later. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

/* ---- steps */

bool year_of(Sema *s, double x, Span at, int *year)
{
    if (x == floor(x) && x >= 1 && x <= 9999) {
        *year = (int)x;
        return true;
    }
    sema_error(s, at, "a year is a whole number from 1 to 9999, and this is %s", number_text(s, x));
    return false;
}

static bool read_step(Sema *s, const Value *v, Span at, YearRange *r)
{
    if (v->kind == V_NUM) {
        bool ok = year_of(s, v->num, at, &r->lo);
        r->hi = r->lo;
        return ok;
    }
    if (v->kind != V_RANGE) {
        sema_error(s, at, "a time step is a year or a range of years, and this is %s", value_text(s, v));
        return false;
    }
    if (!year_of(s, v->lo, at, &r->lo) || !year_of(s, v->half ? v->hi - 1 : v->hi, at, &r->hi))
        return false;
    if (r->lo <= r->hi)
        return true;
    sema_error(s, at, "this range of years is empty: it goes from %d to %d", r->lo, r->hi);
    return false;
}

static void check_steps(Sema *s, const Node *n)
{
    ContinualBlock *c = &s->program->continual;
    Value v = eval_plain(s, n, "steps");
    if (v.kind == V_ERROR)
        return;
    if (v.kind != V_LIST) {
        sema_error(s, n->span, "`steps` is a list, and this is %s", value_text(s, &v));
        if (v.kind == V_RANGE)
            sema_help(s, "`[%s]` is one step of several years; steps of one year each are listed one by one",
                      sema_text(s, n));
        return;
    }
    c->step = NEWN(s->arena, YearRange, v.n);
    const Node *e = n->kind == AST_LIST ? n->a : NULL;
    for (int i = 0; i < v.n; i++, e = e ? e->next : NULL) {
        Span at = e ? e->span : n->span;
        YearRange *r = &c->step[i];
        bool good = read_step(s, &v.elem[i], at, r);
        if (good && i && r->lo <= r[-1].hi) {
            sema_error(s, at, "steps go forward in time without overlap, and %d follows %d", r->lo, r[-1].hi);
            good = false;
        }
        if (!good && e && e->kind == AST_BINARY)
            sema_help(s, "a range of years is written `2014..2016`");
        c->n_step = good ? i + 1 : 0;            /* `start` is not held against half a list */
        if (!good)
            return;
    }
}

static void check_start(Sema *s, const Node *n)
{
    ContinualBlock *c = &s->program->continual;
    Value v = n ? eval_number(s, n, "start") : value_error();
    c->start = c->n_step ? c->step[0].hi : 0;
    if (v.kind == V_ERROR || !c->n_step || !year_of(s, v.num, n->span, &c->start))
        return;
    for (int i = 0; i < c->n_step; i++) {
        if (c->step[i].lo <= c->start && c->start <= c->step[i].hi)
            return;
    }
    sema_error(s, n->span, "`start` is in none of the time steps, which go from %d to %d", c->step[0].lo,
               c->step[c->n_step - 1].hi);
}

/* ---- strategies */

typedef struct Rule { const char *name; int n; const char *form; } Rule;
static const Rule rules[] = {
    { "mix", 2, "mix(y, t)" }, { "budget", 1, "budget(t)" }, { "after", 2, "after(w, w_previous)" },
    { "loss", 2, "loss(student, teacher)" }, { "lr", 3, "lr(step, total, t)" },
};
static const char *const rule_words[] = { "init", "keep", "cost", "mix", "budget", "lr", "after", "loss", NULL };
static const char *const init_words[] = { [INIT_PREVIOUS] = "previous", [INIT_RANDOM] = "random", [INIT_REWIND] = "rewind" };

static const Rule *rule_find(const char *name)
{
    for (size_t i = 0; i < LEN(rules); i++) {
        if (!strcmp(rules[i].name, name))
            return &rules[i];
    }
    return NULL;
}

/* The name that an entry is for, or NULL. */
static const Node *entry_name(const Node *n)
{
    const Node *target = n->kind == AST_SET ? n->a : NULL, *name = target && target->kind == AST_CALL ? target->a : target;
    return name && name->kind == AST_NAME ? name : NULL;
}

static bool plain_entry(const char *name)
{
    return !strcmp(name, "init") || !strcmp(name, "keep") || !strcmp(name, "cost");
}

/* One entry; its function, or NULL. */
static Closure *strategy_entry(Sema *s, const Node *strategy, const Node *n)
{
    const Node *target = n->kind == AST_SET ? n->a : NULL, *name = entry_name(n);
    if (!name) {
        sema_error(s, n->span, "a strategy has entries: `init = previous`, `mix(y, t) = ...`");
        return NULL;
    }
    const Rule *rule = rule_find(name->text);
    if (!rule && !plain_entry(name->text)) {
        sema_error(s, name->span, "a strategy has no entry `%s`", name->text);
        suggest_or_list(s, name->text, rule_words, "its entries");
        return NULL;
    }
    for (const Node *m = strategy->c; m != n; m = m->next) {
        const Node *other = entry_name(m);
        if (other && !strcmp(other->text, name->text)) {
            sema_error(s, name->span, "`%s` stands here twice", name->text);
            sema_note(s, other->span, "here first");
            return NULL;
        }
    }
    if (!rule && target->kind == AST_CALL) {
        sema_error(s, target->span, "this entry of a strategy is written `%s = ...`", name->text);
        return NULL;
    }
    if (!rule) {
        bool word = strcmp(name->text, "init") != 0;
        for (size_t k = 0; k < LEN(init_words) && !word; k++)
            word = n->b->kind == AST_NAME && !strcmp(n->b->text, init_words[k]);
        if (!word)
            sema_error(s, n->b->span, "`init` is `previous`, `random` or `rewind`, and this is `%s`", sema_text(s, n->b));
        if (!word)
            without_quotes(s, n->b, (const char *const[]){ "previous", "random", "rewind", NULL });
        return NULL;
    }
    bool formals = target->kind == AST_CALL && tree_count(target->b) == rule->n;
    for (const Node *a = formals ? target->b : NULL; a; a = a->next)
        formals &= a->kind == AST_NAME && !strchr(a->text, '.');
    if (!formals) {
        sema_error(s, target->span, "this entry of a strategy is written `%s = ...`", rule->form);
        return NULL;
    }
    return names_differ(s, target->b) ? closure_new(s, rule->name, n, target->b, n->b, NULL, s->scope, name->span) : NULL;
}

/* mix(y, t), or budget(t) where `b` is not asked for. */
static double number_call(Sema *s, const Closure *fn, double a, double b, bool *ok)
{
    s->samples.y = a;
    s->samples.t = tree_count(fn->formals) == 2 ? b : a;
    Value arg[2] = { value_num(a, fn->at), value_num(b, fn->at) };
    Value v = call_values(s, fn, arg, fn->at);
    *ok = v.kind == V_NUM;
    if (v.kind != V_NUM && v.kind != V_ERROR)
        sema_error(s, fn->value->span, "`%s` is a number known from the schedule alone, and this is %s", fn->name,
                   value_text(s, &v));
    return *ok ? v.num : 0;
}

static void try_mix(Sema *s, const Closure *fn, int steps)
{
    for (int t = 0; t < steps; t++) {
        double sum = 0;
        for (int y = 0; y <= t; y++) {
            bool ok;
            double share = number_call(s, fn, y, t, &ok);
            if (!ok)
                return;
            if (!(share >= 0) || !isfinite(share)) {
                sema_error(s, fn->value->span, "`mix` is %s for y = %d, t = %d; a share is finite and 0 or more", number_text(s, share), y, t);
                return;
            }
            sum += share;
        }
        if (sum == 0) {
            sema_error(s, fn->value->span, "all shares of `mix` are 0 for t = %d: step %d would draw nothing", t, t);
            sema_help(s, "`y` and `t` count the time steps from 0; they are no years");
            return;
        }
    }
}

static void try_budget(Sema *s, const Closure *fn, int steps)
{
    for (int t = 0; t < steps; t++) {
        bool ok;
        double samples = number_call(s, fn, t, 0, &ok);
        if (!ok)
            return;
        if (!(samples >= 1) || !isfinite(samples)) {
            sema_error(s, fn->value->span, "`budget` is %s for t = %d; a step sees finitely many samples, at least one",
                       number_text(s, samples), t);
            return;
        }
    }
}

static Value stand_in(Sema *s, const char *name, Span at, int rank, const Ext *shape)
{
    Def *def = def_new(s, name, at, rank, shape);
    def->tensor = graph_tensor(s->g, name, rank, shape, T_INPUT, DT_F32);
    return value_def(def, at);
}

static void try_after(Sema *s, const Closure *fn)
{
    Value arg[2] = { stand_in(s, "w", fn->at, 0, NULL), stand_in(s, "w_previous", fn->at, 0, NULL) };
    Value v = call_values(s, fn, arg, fn->at);
    if (v.kind != V_ERROR && (v.kind != V_TENSOR || v.def->rank))
        sema_error(s, fn->value->span, "`after` gives the new value of a weight, and this is %s", value_text(s, &v));
}

/* `student.logits`: a tensor of the loss, by the name its equation gave it. */
static void add_views(Sema *s, Scope *scope, const char *view, Span at)
{
    scope_add(s, scope, arena_printf(s->arena, "%s.loss", view), NAME_FORMAL, stand_in(s, "loss", at, 0, NULL), at);
    for (int i = s->traced.n - 1; i >= 0; i--) {
        const Def *def = s->traced.at[i];
        if (def->broken || def->rank != 2)
            continue;
        const char *name = arena_printf(s->arena, "%s.%s", view, def->name);
        bool known = false;
        for (int k = 0; !known && k < scope->name.n; k++)
            known = !strcmp(scope->name.at[k]->name, name);
        if (!known)
            scope_add(s, scope, name, NAME_FORMAL, stand_in(s, def->name, def->at, def->rank, def->shape), def->at);
    }
}

static void try_loss(Sema *s, const Closure *fn)
{
    Frame *f = frame_open(s, fn, fn->at, s->root);
    for (const Node *a = fn->formals; a; a = a->next)
        add_views(s, f->scope, a->text, a->span);
    Value v = eval_plain(s, fn->value, "loss");
    if (v.kind != V_ERROR && (v.kind != V_TENSOR || v.def->rank))
        sema_error(s, fn->value->span, "`loss` is one number, and this is %s", value_text(s, &v));
    frame_close(s, f);
}

/* lr(step, total, t): what the host computes before each optimiser step. */
static void try_rate(Sema *s, const Closure *fn)
{
    static const char *const name[] = { "step", "total", "t" };
    Value arg[3];
    for (int k = 0; k < 3; k++) {
        Def *def = def_new(s, name[k], fn->at, 0, NULL);
        def->tensor = graph_tensor(s->g, name[k], 0, NULL, T_INPUT, DT_F64);
        arg[k] = value_def(def, fn->at);
    }
    s->host = true;
    Value v = call_values(s, fn, arg, fn->at);
    if (v.kind != V_ERROR)
        value_scalar(s, &v, fn->value->span);
    s->host = false;
    s->scalar.n = 0;
}

/* init, keep and cost: what they say goes into the program. */
static void read_plain(Sema *s, const Node *n)
{
    ContinualBlock *c = &s->program->continual;
    const char *name = n->a->text;
    if (!strcmp(name, "init")) {
        for (size_t k = 0; k < LEN(init_words); k++)
            if (n->b->kind == AST_NAME && !strcmp(n->b->text, init_words[k]))
                c->init = (StepInit)k;
        return;
    }
    bool keep = !strcmp(name, "keep");
    Value v = eval_number(s, n->b, name);
    if (v.kind == V_ERROR)
        return;
    if (keep && !(v.num > 0 && v.num < 1))
        sema_error(s, n->b->span, "`keep` is a share of a step, between 0 and 1, and this is %s", number_text(s, v.num));
    else if (!keep && !(v.num >= 1 && v.num < 1000))
        sema_error(s, n->b->span, "`cost` is the compute of a pair against a plain one, from 1 to less than 1000, and this is %s",
                   number_text(s, v.num));
    else
        *(keep ? &c->keep : &c->cost) = v.num;
}

static void check_rewind(Sema *s, const Node *strategy)
{
    const ContinualBlock *c = &s->program->continual;
    const Node *keep = entry_find(strategy->c, "keep");
    if (c->init == INIT_REWIND && !keep) {
        sema_error(s, strategy->a->span, "strategy `%s` rewinds, and does not say what a step keeps", strategy->a->text);
        sema_help(s, "write `keep = 0.8`: the state after that share of a step's optimiser steps");
    } else if (c->init != INIT_REWIND && keep) {
        sema_error(s, keep->span, "`keep` is for `init = rewind`");
    }
}

/* `samples(y)` and `base` as a strategy sees them; the numbers are those of the train block. */
static void schedule_names(Sema *s, const Node *strategy)
{
    static const Node formal = { .kind = AST_NAME, .text = "y", .height = 1 };
    Node *count = NEW(s->arena, Node);
    *count = (Node){ .kind = AST_NUM, .height = 1, .span = strategy->span, .word = strategy->span,
                     .text = arena_printf(s->arena, "%lld", (long long)s->program->train.samples) };
    Closure *samples = closure_new(s, "samples", count, &formal, count, NULL, s->scope, strategy->word);
    s->samples.fn = samples;
    scope_add(s, s->scope, "samples", NAME_FORMAL, (Value){ .kind = V_FN, .fn = samples }, strategy->word);
    scope_add(s, s->scope, "base", NAME_FORMAL, value_num((double)s->program->train.samples, strategy->word), strategy->word);
}

/* Runs every entry once; `args` binds the strategy's own arguments. */
static void try_strategy(Sema *s, const Node *strategy, const Node *args, Span at)
{
    enum { SOME = 3 };
    int steps = s->program->continual.n_step ? s->program->continual.n_step : SOME;
    const Node *node[MOST_FORMALS] = { NULL };
    Value arg[MOST_FORMALS];
    Closure *self = closure_new(s, strategy->a->text, strategy, strategy->b, NULL, NULL, s->top->scope, strategy->a->span);
    int k = 0;
    bool ok = match_arguments(s, args, self, 0, node);
    for (const Node *f = strategy->b; f && ok; f = f->next, k++) {
        if (node[k]) {
            arg[k] = argument_value(s, NULL, f, node[k]);
            ok = arg[k].kind != V_ERROR;
        } else if (f->kind != AST_FORMAL || !f->c) {
            sema_error(s, at, "strategy `%s` misses argument `%s`", strategy->a->text, f->text);
            sema_note(s, strategy->a->span, "it is defined here");
            ok = false;
        }
    }
    if (!ok)
        return;
    Graph *g = s->g;
    s->g = graph_new(s->arena, s->diag->sources);
    s->scalar.n = 0;
    Frame *frame = frame_open(s, self, at, s->root);
    schedule_names(s, strategy);
    k = 0;
    for (const Node *f = strategy->b; f && ok; f = f->next, k++)
        ok = node[k] ? bind_formal(s, f, arg[k], node[k]->span) : bind_default(s, f);
    bool seen_mix = false;
    for (const Node *n = strategy->c; n && ok; n = n->next) {
        Closure *fn = strategy_entry(s, strategy, n);
        const Node *name = entry_name(n);
        seen_mix |= name && !strcmp(name->text, "mix");
        if (!fn && n->kind == AST_SET && n->a->kind == AST_NAME && plain_entry(n->a->text))
            read_plain(s, n);
        if (!fn)
            continue;
        if (!strcmp(fn->name, "mix"))
            try_mix(s, fn, steps);
        else if (!strcmp(fn->name, "budget"))
            try_budget(s, fn, steps);
        else if (!strcmp(fn->name, "after"))
            try_after(s, fn);
        else if (!strcmp(fn->name, "lr"))
            try_rate(s, fn);
        else
            try_loss(s, fn);
        if (!strcmp(fn->name, "after") && s->program->continual.init == INIT_REWIND)
            sema_error(s, fn->at, "`after` makes the weights that a step hands on, and this strategy rewinds to others");
    }
    check_rewind(s, strategy);
    if (ok && !seen_mix) {
        sema_error(s, strategy->a->span, "strategy `%s` does not say what a step draws", strategy->a->text);
        sema_help(s, "write `mix(y, t) = if y == t then 1 else 0`");
    }
    frame_close(s, frame);
    s->g = g;
    s->scalar.n = 0;
}

static const Node *strategy_find(Sema *s, const Node *name)
{
    Words w = { { 0 } };
    for (int i = 0; i < s->strategy.n; i++) {
        if (!strcmp(s->strategy.at[i]->a->text, name->text))
            return s->strategy.at[i];
        words_add(s, &w, s->strategy.at[i]->a->text);
    }
    sema_error(s, name->span, "there is no strategy `%s`", name->text);
    if (w.list.n)
        suggest_or_list(s, name->text, words_list(s, &w), "strategies here");
    else
        sema_help(s, "strategies of the library come by `use continual`");
    return NULL;
}

static void check_year_of_shards(Sema *s, const Node *steps)
{
    const char *pattern = s->program->data.shards;
    if (!pattern || strstr(pattern, "{year}"))
        return;
    sema_error(s, s->shards, "`shards` has no `{year}`, so all years would have the same data");
    sema_note(s, steps->span, "time steps of these years");
    sema_help(s, "write for instance `\"{data}/train/{year}/**/*.tar\"`");
}

void sema_continual(Sema *s, const Node *block)
{
    ContinualBlock *c = &s->program->continual;
    check_entries(s, block, block_entries(B_CONTINUAL), NULL);
    const Node *steps = block_value(s, B_CONTINUAL, "steps"), *n = block_value(s, B_CONTINUAL, "strategy");
    const Node *carry = block_value(s, B_CONTINUAL, "carry");
    c->strategy = "";
    c->cost = 1;
    if (carry)
        c->carry_moments = block_choice(s, carry, "carry", (const char *const[]){ "weights", "weights_and_moments", NULL }) == 1;
    if (!steps) {
        sema_error(s, block->word, "`continual` says nothing of `steps`");
        sema_help(s, "write `steps = [2014..2016, 2017, 2018]`; a range is one time step");
    } else {
        check_steps(s, steps);
        check_year_of_shards(s, steps);
    }
    check_start(s, block_value(s, B_CONTINUAL, "start"));
    if (!n) {
        sema_error(s, block->word, "`continual` says nothing of `strategy`");
        sema_help(s, "write `strategy = cumulative_all`");
        return;
    }
    const Node *name = n->kind == AST_CALL ? n->a : n;
    if (name->kind != AST_NAME) {
        const char *text = sema_text(s, n);
        sema_error(s, n->span, "`strategy` is the name of a strategy, and this is `%s`", text);
        if (n->kind == AST_STR)
            sema_help(s, "write it without quotes: `%.*s`", (int)strlen(text) - 2, text + 1);
        return;
    }
    const Node *strategy = strategy_find(s, name);
    if (!strategy)
        return;
    c->strategy = strategy->a->text;
    c->body = strategy->c;
    try_strategy(s, strategy, n->kind == AST_CALL ? n->b : NULL, n->span);
}

/* A strategy of the file that the program does not use: the shape of its entries. */
void sema_strategy(Sema *s, const Node *strategy)
{
    for (const Node *n = strategy->c; n; n = n->next)
        strategy_entry(s, strategy, n);
}
