/* text.c -- the report for the terminal: plain tables, percent with one decimal. */
#include "report/report.h"
#include "eval/tasks.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void percent(FILE *f, int width, double v)
{
    if (isnan(v))
        fprintf(f, "%*s", width, "-");
    else
        fprintf(f, "%*.1f", width, 100 * v);
}

static int name_width(const TicRuns *runs)
{
    int width = 8;
    for (int i = 0; i < runs->n_run; i++) {
        int n = (int)strlen(runs->run[i].name);
        width = n > width ? n : width;
    }
    return width > 40 ? 40 : width;
}

static void overview(const TicRuns *runs, FILE *f, int width)
{
    fprintf(f, "%-*s  %-18s %6s %12s %14s %8s %8s\n", width, "run", "strategy", "steps", "pairs", "forward MACs", "oracle", "skipped");
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        int64_t skipped = 0;
        int done = 0;
        for (int t = 0; t < r->n_step; t++) {
            skipped += r->step[t].skipped;
            done += !strcmp(r->step[t].state, "trained") || !strcmp(r->step[t].state, "evaluated");
        }
        fprintf(f, "%-*s  %-18s %3d/%-2d %12" PRId64 " %14.4g ", width, r->name, *r->strategy ? r->strategy : "-", done, r->n_step,
                tic_run_pairs(r, r->n_step), tic_run_macs(r, r->n_step));
        if (isnan(tic_run_oracle_share(r)))
            fprintf(f, "%8s", "-");
        else
            fprintf(f, "%7.1f%%", 100 * tic_run_oracle_share(r));
        fprintf(f, " %8" PRId64 "\n", skipped);
    }
}

static void matrix(const TicRun *r, const TicFamily *family, FILE *f)
{
    fprintf(f, "\n  %s\n  %-12s", r->name, "after");
    for (int y = 0; y < family->n_year; y++)
        fprintf(f, " %6d", family->year[y]);
    fprintf(f, " %7s\n", "mean");
    for (int t = 0; t < r->n_step; t++) {
        fprintf(f, "  %-12s", r->step[t].name);
        for (int y = 0; y < family->n_year; y++) {
            fprintf(f, " ");
            percent(f, 6, tic_runs_score(&r->step[t], family, family->year[y], family->year[y]));
        }
        percent(f, 8, tic_runs_mean(&r->step[t], family));
        fprintf(f, "\n");
    }
}

static void transfers(const TicRuns *runs, const TicFamily *family, FILE *f, int width, bool merged)
{
    fprintf(f, "\n  %-*s %10s %10s %10s   %s\n", width, "transfer", "in-domain", "backward", "forward",
            merged ? "(a step of several years: the union of its sets)" : "(a step of several years: the mean of its years)");
    for (int i = 0; i < runs->n_run; i++) {
        double *e = tic_runs_matrix(&runs->run[i], family, merged);
        TicTransfer t = tic_transfer(e, runs->run[i].n_step);
        fprintf(f, "  %-*s ", width, runs->run[i].name);
        percent(f, 10, t.in_domain);
        percent(f, 11, t.backward);
        percent(f, 11, t.forward);
        fprintf(f, "\n");
        free(e);
    }
}

static void mixture(const TicRun *r, FILE *f)
{
    fprintf(f, "\n%s: what each step draws from\n", r->name);
    for (int t = 0; t < r->n_step; t++) {
        const TicRunStep *s = &r->step[t];
        fprintf(f, "  %-12s %10" PRId64 " pairs, %" PRId64 " steps; weights of %s;", s->name, s->pairs, s->steps,
                *s->parent ? s->parent : "nobody (random)");
        for (int y = 0; y < s->n_share; y++)
            if (s->share[y].share > 0)
                fprintf(f, " %s %.1f%%", s->share[y].name, 100 * s->share[y].share);
        fprintf(f, "; %s\n", s->state);
    }
}

void tic_report_text(const TicRuns *runs, FILE *f)
{
    int width = name_width(runs);
    overview(runs, f, width);
    for (int i = 0; i < runs->n_family; i++) {
        fprintf(f, "\n%s, %% of the main metric: after each step, on the sets of each year\n", runs->family[i].name);
        for (int k = 0; k < runs->n_run; k++)
            matrix(&runs->run[k], &runs->family[i], f);
        transfers(runs, &runs->family[i], f, width, false);
        if (tic_runs_has_unions(runs, &runs->family[i]))
            transfers(runs, &runs->family[i], f, width, true);
    }
    for (int k = 0; k < runs->n_fixed; k++) {
        char *name = tic_task_name(runs->fixed[k]);
        fprintf(f, "%s%s:", k ? "" : "\n", name);
        for (int i = 0; i < runs->n_run; i++) {
            const TicRun *r = &runs->run[i];
            fprintf(f, "  %s ", r->name);
            percent(f, 1, tic_runs_newest(r, runs->fixed[k]));
        }
        fprintf(f, "\n");
        free(name);
    }
    for (int k = 0; k < runs->n_run; k++)
        mixture(&runs->run[k], f);
}
