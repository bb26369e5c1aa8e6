/* plan_years.c -- `ticc --emit=schedule`: the continual block as a table.
 *
 * What the data holds is known only when the program runs, so samples(y) is taken as if every year held as many;
 * shares that do not ask for it (sequential, cumulative_equal) are exact. MACs are those of forward passes, as TiC-CLIP
 * counts compute; FLOPs are all of it: a training step takes three times its forward pass, and a teacher one more. */
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

typedef struct { const char *name; double value; } Given;

/* The number that a graph makes of numbers: its output of this name; NAN: it has none. */
static double computed(Graph *g, const char *output, const Given *given, int n, bool *ok)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Env env = { NEWN(&a, double *, g->n_tensor), 1 };
    double value = NAN;
    for (int i = 0; i < n; i++)
        give(g, &env, &a, given[i].name, given[i].value);
    *ok = interp_run(g, &env, &a, &why);
    for (int i = 0; *ok && i < g->n_output; i++) {
        if (!strcmp(g->output[i].name, output))
            value = env.value[g->output[i].tensor][0];
    }
    arena_free(&a);
    return value;
}

static double ask(Graph *g, const char *output, int y, int t, double in_y, double in_t, double base, bool *ok)
{
    const Given given[] = { { "y", y }, { "t", t }, { "samples_y", in_y }, { "samples_t", in_t }, { "base", base }, { "unknown", NAN } };
    return computed(g, output, given, LEN(given), ok);
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

/* ---- the learning rate in short: where it starts, its top and the steps it stays there, where it ends */

static double rate_at(Graph *g, double step, double total, int t, bool *ok)
{
    const Given given[] = { { "step", step }, { "total", total }, { "t", t }, { "updates", step } };
    return computed(g, "lr", given, LEN(given), ok);
}

/* "2e-05 > 0.001 @50..499 > 3e-09": first, top and where it is, last; a constant rate is one number. Long steps are looked
 * at in 2000 places. */
static bool rate_text(Graph *g, double total, int t, char *out, size_t size)
{
    bool ok = true;
    int n = total < 2000 ? (int)total : 2000;
    double first = 0, last = 0, top = -INFINITY, from = 0, to = 0;
    for (int i = 0; i < n && ok; i++) {
        double step = n < 2 ? 0 : floor(i * (total - 1) / (n - 1)), v = rate_at(g, step, total, t, &ok);
        first = i ? first : v;
        last = v;
        if (v > top * (1 + 1e-9) || top < 0) {
            top = v;
            from = step;
        }
        to = v >= top * (1 - 1e-9) ? step : to;
    }
    if (first == top && last == top)
        snprintf(out, size, "%.3g", top);
    else if (!from && to == from)
        snprintf(out, size, "%.3g > %.3g", top, last);
    else if (!from)
        snprintf(out, size, "%.3g @0..%.0f > %.3g", top, to, last);
    else if (from == to)
        snprintf(out, size, "%.3g > %.3g @%.0f > %.3g", first, top, from, last);
    else
        snprintf(out, size, "%.3g > %.3g @%.0f..%.0f > %.3g", first, top, from, to, last);
    return ok;
}

enum { PLACES = 200 };

static bool check_rate(const Program *p, Graph *rate, int t, double total, Diag *d)
{
    bool ok = true, alone = !p->continual.n_step;
    double largest = 0;
    char name[32];
    int n = total < PLACES ? (int)total : PLACES;
    for (int i = 0; i < n && ok; i++) {
        double step = n < 2 ? 0 : floor(i * (total - 1) / (n - 1)), v = rate_at(rate, step, total, t, &ok);
        largest = fmax(largest, fabs(v));
        if (isfinite(v) && v >= -1e-9 * largest)       /* the end of a schedule that goes down to 0 may be rounded */
            continue;
        diag_error(d, p->train.optimizer->span, "the learning rate is %.6g in step %.0f of %.0f%s%s, and a finite number from 0 on is wanted",
                   v, step, total, alone ? "" : " of ", alone ? "" : step_name(&p->continual.step[t], name, sizeof name));
        diag_help(d, "steps count from 0; `--emit=schedule` prints how the rate goes");
        return false;
    }
    return ok;
}

bool check_rates(Program *p, Diag *d)
{
    const ContinualBlock *c = &p->continual;
    Graph *g = graph_new(p->arena, p->sources), *rate = graph_new(p->arena, p->sources);
    double base = (double)p->train.samples, batch = (double)p->train.batch;
    bool ok = (!c->n_step || sema_schedule(p, g, d)) && sema_rate(p, rate, d);
    if (!ok || !rate->n_output)
        return ok;
    if (!c->n_step)
        return check_rate(p, rate, 0, floor(base / batch), d);
    for (int t = 0; t < c->n_step && ok; t++) {
        double in = years(&c->step[t]), pairs = ask(g, "budget", t, t, in, in, base, &ok);
        ok = ok && check_rate(p, rate, t, floor(pairs / batch), d);
    }
    return ok;
}

/* ---- the table */

static void print_head(const Program *p, double macs)
{
    const ContinualBlock *c = &p->continual;
    const char *begins = c->init == INIT_RANDOM ? "random weights" : c->carry_moments ? "weights and moments" : "weights; its moments are fresh";
    printf("%s, strategy %s, %d time steps, batch %lld, %.0f forward MACs a pair\n", p->model, c->strategy, c->n_step,
           (long long)p->train.batch, macs);
    printf("a step begins with %s\n", begins);
    if (c->init == INIT_REWIND)
        printf("it begins with what the step before kept after %.3g of its steps\n", c->keep);
    if (sema_has_after(p))
        printf("after each step but the first: weights = after(w, w_previous)\n");
    if (sema_has_loss(p))
        printf("from the second step on: loss(student, teacher), the teacher being the model of the step before\n");
    if (c->cost != 1)
        printf("a pair counts %g times: what the strategy adds, as the paper counts it\n", c->cost);
}

typedef struct { double pairs, macs, flops, oracle; } Sums;

static bool print_step(Program *p, Graph *g, Graph *rate, int t, double macs, Sums *sum)
{
    const ContinualBlock *c = &p->continual;
    bool ok;
    char name[32], lr[96], from[48];
    double base = (double)p->train.samples, in = years(&c->step[t]);
    double pairs = ask(g, "budget", t, t, in, in, base, &ok), steps = floor(pairs / (double)p->train.batch);
    /* forward and backward are three forward passes, a teacher's is one more */
    double flops = 2 * macs * pairs * (3 + (t && sema_has_loss(p)));
    ok = ok && rate_text(rate, steps, t, lr, sizeof lr);
    if (!t || c->init == INIT_RANDOM)
        snprintf(from, sizeof from, "random");
    else
        step_name(&c->step[t - 1], from, sizeof from);
    printf("%-12s %14.0f %9.0f %10.4g %10.4g  %-10s %-34s ", step_name(&c->step[t], name, sizeof name), pairs, steps,
           macs * pairs * c->cost, flops, from, lr);
    sum->pairs += pairs;
    sum->macs += macs * pairs * c->cost;
    sum->flops += flops;
    sum->oracle += macs * (double)(t + 1) * base;
    return ok && print_shares(p, g, t);
}

bool print_schedule(Program *p, Diag *d, double forward_flops)
{
    const ContinualBlock *c = &p->continual;
    Graph *g = graph_new(p->arena, p->sources), *rate = graph_new(p->arena, p->sources);
    Sums sum = { 0 };
    bool ok = true;
    if (!c->n_step) {
        printf("%s has no continual block\n", p->model);
        return true;
    }
    if (!sema_schedule(p, g, d) || !sema_rate(p, rate, d))
        return false;
    print_head(p, forward_flops / 2);
    printf("\n%-12s %14s %9s %10s %10s  %-10s %-34s %s\n", "step", "pairs", "steps", "MACs", "FLOPs", "weights of", "learning rate",
           "drawn from");
    for (int t = 0; t < c->n_step && ok; t++)
        ok = print_step(p, g, rate, t, forward_flops / 2, &sum);
    printf("%-12s %14.0f %9s %10.4g %10.4g  %.3g of an oracle's %.4g MACs\n", "all", sum.pairs, "", sum.macs, sum.flops, sum.macs / sum.oracle,
           sum.oracle);
    return ok;
}
