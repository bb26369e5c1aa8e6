/* plan_years.c -- `ticc --emit=schedule`: the continual block as a table.
 *
 * What the data holds is known only when the program runs, so samples(y) is taken as if every year held as many;
 * shares that do not ask for it (sequential, cumulative_equal) are exact. FLOPs: a training step counts three times
 * its forward pass. */
#include "driver/compile.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void give(const Graph *g, Env *env, Arena *a, const char *name, double value)
{
    for (int i = 0; i < g->n_tensor; i++) {
        if (g->tensor[i].kind != T_INPUT || strcmp(g->tensor[i].name, name))
            continue;
        env->value[i] = NEW(a, double);
        *env->value[i] = value;
    }
}

static double ask(Graph *g, const char *output, int y, int t, double in_y, double in_t, double base, bool *ok)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Env env = { NEWN(&a, double *, g->n_tensor), 1 };
    double value = NAN;
    give(g, &env, &a, "y", y);
    give(g, &env, &a, "t", t);
    give(g, &env, &a, "samples_y", in_y);
    give(g, &env, &a, "samples_t", in_t);
    give(g, &env, &a, "base", base);
    give(g, &env, &a, "unknown", NAN);
    *ok = interp_run(g, &env, &a, &why);
    for (int i = 0; *ok && i < g->n_output; i++) {
        if (!strcmp(g->output[i].name, output))
            value = env.value[g->output[i].tensor][0];
    }
    arena_free(&a);
    return value;
}

static const char *step_name(const YearRange *r, char *out, size_t size)
{
    snprintf(out, size, r->lo == r->hi ? "%d" : "%d..%d", r->lo, r->hi);
    return out;
}

static double years(const YearRange *r) { return r->hi - r->lo + 1; }

static bool print_shares(const Program *p, Graph *g, int t)
{
    const ContinualBlock *c = &p->continual;
    double share[1024], sum = 0;
    bool ok = t < (int)LEN(share), more = false;
    char name[32];
    for (int y = 0; y <= t && ok; y++) {
        share[y] = ask(g, "mix", y, t, years(&c->step[y]), years(&c->step[t]), (double)p->train.samples, &ok);
        sum += share[y];
    }
    for (int y = 0; y <= t && ok; y++) {
        if (share[y] > 0)
            printf("%s%s %.3g %%", more ? ", " : "", step_name(&c->step[y], name, sizeof name), 100 * share[y] / sum);
        more |= share[y] > 0;
    }
    printf("\n");
    return ok;
}

/* The function that the learning rate is a call of. */
static const char *rate_name(const Program *p)
{
    const Node *n = p->train.optimizer;
    for (const Node *a = n->kind == AST_CALL ? n->b : NULL; a; a = a->next) {
        if (a->kind == AST_NAMED && a->a->kind == AST_NAME && !strcmp(a->a->text, "lr") && a->b->kind == AST_CALL)
            return a->b->a->text;
    }
    return "lr";
}

bool print_schedule(Program *p, Diag *d, double forward_flops)
{
    const ContinualBlock *c = &p->continual;
    Graph *g = graph_new(p->arena, p->sources);
    double peak = 0, warmup = 0, all = 0, oracle = 0;
    bool ok = true, random = false;
    char name[32];
    if (!c->n_step) {
        printf("%s has no continual block\n", p->model);
        return true;
    }
    if (!sema_schedule(p, g, d))
        return false;
    random = sema_init_random(p);
    printf("%s, strategy %s, %d time steps, batch %lld, forward %.2f GFLOP per pair\n", p->model, c->strategy, c->n_step,
           (long long)p->train.batch, forward_flops * 1e-9);
    if (sema_optimizer_constant(p, "peak", &peak) && sema_optimizer_constant(p, "warmup", &warmup))
        printf("each step: learning rate `%s`, up to %g in %.0f steps; fresh optimiser state\n", rate_name(p), peak, warmup);
    if (sema_has_after(p))
        printf("after each step but the first: weights = after(w, w_previous)\n");
    if (sema_has_loss(p))
        printf("from the second step on: loss(student, teacher), the teacher being the model of the step before\n");
    printf("\n%-12s %14s %10s %12s  %-20s %s\n", "step", "pairs", "steps", "EFLOP", "weights", "drawn from");
    for (int t = 0; t < c->n_step && ok; t++) {
        double pairs = ask(g, "budget", t, t, years(&c->step[t]), years(&c->step[t]), (double)p->train.samples, &ok);
        double flops = 3 * forward_flops * pairs;
        all += flops;
        oracle += 3 * forward_flops * (double)(t + 1) * (double)p->train.samples;
        printf("%-12s %14.0f %10.0f %12.4g  %-20s ", step_name(&c->step[t], name, sizeof name), pairs,
               floor(pairs / (double)p->train.batch), flops * 1e-18, random || !t ? "random" : "of the step before");
        ok = print_shares(p, g, t);
    }
    printf("%-12s %14s %10s %12.4g  %.3g of an oracle's %.4g EFLOP\n", "all", "", "", all * 1e-18, all / oracle, oracle * 1e-18);
    return ok;
}
