/* schedule.c -- see schedule.h. */
#include "train/schedule.h"
#include <math.h>

const TicYearStep *tic_year_step(const TicProgram *p, int t)
{
    return (const TicYearStep *)(const void *)((const char *)p + p->steps) + t;
}

int tic_step_of_year(const TicProgram *p, int year)
{
    for (int t = 0; t < (int)p->n_steps; t++) {
        const TicYearStep *s = tic_year_step(p, t);
        if (s->lo <= year && year <= s->hi)
            return t;
    }
    return -1;
}

static void give(TicExec *x, const char *name, double value)
{
    double *input = tic_exec_input(x, name);
    if (input)
        *input = value;
}

static double ask(TicExec *x, const char *output, int y, int t, double samples_y, double samples_t, double base)
{
    give(x, "y", y);
    give(x, "t", t);
    give(x, "samples_y", samples_y);
    give(x, "samples_t", samples_t);
    give(x, "base", base);
    give(x, "unknown", NAN);
    tic_exec_run(x);
    return tic_exec_scalar(x, output, NAN);
}

static TicStatus shares(TicExec *x, const TicProgram *p, int t, const int64_t *available, double *share)
{
    double sum = 0;
    for (int y = 0; y <= t; y++) {
        double s = ask(x, "mix", y, t, (double)available[y], (double)available[t], (double)p->samples);
        const char *step = tic_text(p, tic_year_step(p, y)->name);
        if (!(s >= 0) || isinf(s))
            return tic_fail(TIC_USER, "strategy `%s`: mix(%d, %d) is %g for step %s; a share is a number from 0 on, and samples() takes "
                            "y or t", tic_text(p, p->strategy), y, t, s, step);
        if (s > 0 && available[y] < 1)
            return tic_fail(TIC_USER, "strategy `%s` draws from step %s in step %s, and the data has no samples of it",
                            tic_text(p, p->strategy), step, tic_text(p, tic_year_step(p, t)->name));
        share[y] = s;
        sum += s;
    }
    if (!(sum > 0))
        return tic_fail(TIC_USER, "strategy `%s`: all shares are 0 in step %s", tic_text(p, p->strategy),
                        tic_text(p, tic_year_step(p, t)->name));
    for (int y = 0; y <= t; y++)
        share[y] /= sum;
    return TIC_OK;
}

TicStatus tic_schedule(TicModel *m, TicPool *pool, int t, const int64_t *available, double *share, int64_t *pairs)
{
    const TicProgram *p = m->program;
    TicExec *x;
    TRY(tic_exec_open(m, pool, "schedule", 1, &x));
    TicStatus status = shares(x, p, t, available, share);
    double budget = ask(x, "budget", t, t, (double)available[t], (double)available[t], (double)p->samples);
    tic_exec_close(x);
    TRY(status);
    if (!(budget >= 1) || budget > 1e15)
        return tic_fail(TIC_USER, "strategy `%s`: budget(%d) is %g pairs", tic_text(p, p->strategy), t, budget);
    *pairs = (int64_t)budget;
    return TIC_OK;
}
