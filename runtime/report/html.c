/* html.c -- report.html: one page about one or several runs, section by section. Several runs share every scale, so that
 * equal colours and heights are equal numbers. */
#include "report/chart.h"
#include "report/report.h"
#include "report/style.h"
#include "eval/tasks.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int color_of(int run) { return run % REPORT_COLORS; }

static void percent(FILE *f, double v)
{
    if (isnan(v))
        fputs("–", f);
    else
        fprintf(f, "%.1f", 100 * v);
}

/* `v` of 0..1 as the colour of a heat map; `width` (0: none) is a share of a stacked bar. */
static void shade(FILE *f, double v, const char *class, double width)
{
    fprintf(f, "class=\"%s%s%s\" style=\"--v:%.3f", class, *class && v > 0.52 ? " " : "", v > 0.52 ? "strong" : "", v);
    if (width > 0)
        fprintf(f, ";flex:%.4f 0 0", width);
    fprintf(f, "\"");
}

static void run_name(FILE *f, const TicRuns *runs, int i)
{
    fprintf(f, "<span class=\"chip c%d\"></span>", color_of(i));
    html_text(f, runs->run[i].name);
}

static void legend(FILE *f, const TicRuns *runs)
{
    if (runs->n_run < 2)
        return;
    fprintf(f, "<div class=legend>");
    for (int i = 0; i < runs->n_run; i++) {
        fprintf(f, "<span>");
        run_name(f, runs, i);
        fprintf(f, "</span>");
    }
    fprintf(f, "</div>\n");
}

static int done_steps(const TicRun *r)
{
    int done = 0;
    for (int t = 0; t < r->n_step; t++)
        done += !strcmp(r->step[t].state, "evaluated") || (!r->step[t].n_score && !strcmp(r->step[t].state, "trained"));
    return done;
}

/* ---- the head and the table of runs */

static void page_head(FILE *f, const TicRuns *runs)
{
    const TicRun *r = &runs->run[0];
    fprintf(f, "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>");
    for (int i = 0; i < runs->n_run && i < 4; i++) {
        fprintf(f, i ? ", " : "");
        html_text(f, runs->run[i].name);
    }
    fprintf(f, " – report</title>\n<style>\n%s</style>\n<main>\n<header><div><h1>", report_css);
    if (runs->n_run == 1)
        html_text(f, r->name);
    else
        fprintf(f, "%d runs compared", runs->n_run);
    fprintf(f, "</h1><span>");
    if (*r->model)
        html_text(f, r->model);
    if (runs->n_run == 1 && *r->strategy) {
        fprintf(f, ", strategy ");
        html_text(f, r->strategy);
    }
    if (r->n_step > 1)
        fprintf(f, "%s%d time steps, %s to %s", *r->model ? ", " : "", r->n_step, r->step[0].name, r->step[r->n_step - 1].name);
    if (r->flops_per_pair > 0) {
        fprintf(f, ", ");
        html_count(f, r->flops_per_pair / 2);
        fprintf(f, " forward MACs a pair");
    }
    fprintf(f, "</span></div><button hidden>light / dark</button></header>\n");
}

/* The best of a column, to set it in bold; NaN with a single run. */
static double best_transfer(const TicRuns *runs, const TicFamily *family, int which)
{
    double best = NAN;
    for (int i = 0; i < runs->n_run && runs->n_run > 1; i++) {
        double *e = tic_runs_matrix(&runs->run[i], family, false);
        TicTransfer t = tic_transfer(e, runs->run[i].n_step);
        double v = which == 0 ? t.in_domain : which == 1 ? t.backward : t.forward;
        best = isnan(best) || v > best ? v : best;
        free(e);
    }
    return best;
}

static void cell(FILE *f, double v, double best, bool group)
{
    fprintf(f, "<td class=\"%s%s\">", group ? "group" : "", !isnan(v) && v == best ? " best" : "");
    percent(f, v);
    fprintf(f, "</td>");
}

static bool names_are_strategies(const TicRuns *runs)
{
    for (int i = 0; i < runs->n_run; i++)
        if (strcmp(runs->run[i].name, runs->run[i].strategy))
            return false;
    return true;
}

static void overview(FILE *f, const TicRuns *runs)
{
    bool strategy = !names_are_strategies(runs);
    fprintf(f, "<h2>Overview</h2>\n<p>Transfer is the mean of the main metric, in percent: after each step on the years of that step (in-domain), on those of "
               "earlier steps (backward), on those of later ones (forward).%s</p>\n<div class=wide><table class=\"plain tight\"><thead><tr>"
               "<th rowspan=2>run</th>%s<th rowspan=2>steps</th><th rowspan=2>pairs seen</th><th rowspan=2>forward MACs</th>"
               "<th rowspan=2>of the oracle</th>", runs->n_run > 1 ? " The best of each column is bold." : "",
            strategy ? "<th rowspan=2 class=left>strategy</th>" : "");
    for (int k = 0; k < runs->n_family; k++) {
        fprintf(f, "<th colspan=3 class=group style=\"text-align:center\">");
        html_text(f, runs->family[k].name);
        fprintf(f, "</th>");
    }
    fprintf(f, "</tr><tr>");
    for (int k = 0; k < runs->n_family; k++)
        fprintf(f, "<th class=group>in-domain</th><th>backward</th><th>forward</th>");
    fprintf(f, "</tr></thead><tbody>\n");
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        fprintf(f, "<tr><td>");
        run_name(f, runs, i);
        if (strategy) {
            fprintf(f, "</td><td class=left>");
            html_text(f, *r->strategy ? r->strategy : "–");
        }
        fprintf(f, "</td><td>%d", done_steps(r));
        if (done_steps(r) < r->n_step)
            fprintf(f, " of %d", r->n_step);
        fprintf(f, "</td><td>");
        html_count(f, (double)tic_run_pairs(r, r->n_step));
        fprintf(f, "</td><td>");
        html_count(f, r->flops_per_pair > 0 ? tic_run_macs(r, r->n_step) : NAN);
        fprintf(f, "</td><td>");
        if (isnan(tic_run_oracle_share(r)))
            fprintf(f, "–");
        else
            fprintf(f, "%.3g %%", 100 * tic_run_oracle_share(r));
        fprintf(f, "</td>");
        for (int k = 0; k < runs->n_family; k++) {
            double *e = tic_runs_matrix(r, &runs->family[k], false);
            TicTransfer t = tic_transfer(e, r->n_step);
            cell(f, t.in_domain, best_transfer(runs, &runs->family[k], 0), true);
            cell(f, t.backward, best_transfer(runs, &runs->family[k], 1), false);
            cell(f, t.forward, best_transfer(runs, &runs->family[k], 2), false);
            free(e);
        }
        fprintf(f, "</tr>\n");
    }
    fprintf(f, "</tbody></table></div>\n");
}

/* ---- heat maps */

static bool own_year(const TicRunStep *s, int year)
{
    int y = year > 9999 ? year / 100 : year;
    return s->lo <= y && y <= s->hi;
}

static void heat_map(FILE *f, const TicRuns *runs, int run, const TicFamily *family)
{
    const TicRun *r = &runs->run[run];
    double span = family->high - family->low;
    bool months = family->n_year && family->year[0] > 9999;
    fprintf(f, "<figure class=card><h3>");
    run_name(f, runs, run);
    fprintf(f, "</h3><div class=wide style=\"margin:0\"><table class=heat%s><thead><tr><th>after</th>", family->n_year > 16 ? " style=\"width:auto\"" : "");
    for (int y = 0; y < family->n_year; y++) {
        if (months)
            fprintf(f, "<th>%02d.%02d</th>", family->year[y] % 100, family->year[y] / 100 % 100);
        else
            fprintf(f, "<th>%d</th>", family->year[y]);
    }
    fprintf(f, "<th>mean</th></tr></thead><tbody>\n");
    for (int t = 0; t < r->n_step; t++) {
        const TicRunStep *s = &r->step[t];
        fprintf(f, "<tr><th>");
        if (s->lo < s->hi)
            fprintf(f, "%d–%02d", s->lo, s->hi % 100);
        else
            html_text(f, s->name);
        fprintf(f, "</th>");
        for (int y = 0; y < family->n_year; y++) {
            double v = tic_runs_score(s, family, family->year[y], family->year[y]);
            if (isnan(v)) {
                fprintf(f, "<td class=none>·</td>");
                continue;
            }
            fprintf(f, "<td ");
            shade(f, span > 0 ? (v - family->low) / span : 0.5, own_year(s, family->year[y]) ? "own" : "", 0);
            fprintf(f, " title=\"after ");
            html_text(f, s->name);
            fprintf(f, ", on %d: %.2f %%\">%.1f</td>", family->year[y], 100 * v, 100 * v);
        }
        fprintf(f, "<td class=mean>");
        percent(f, tic_runs_mean(s, family));
        fprintf(f, "</td></tr>\n");
    }
    fprintf(f, "</tbody></table></div></figure>\n");
}

static void transfer_table(FILE *f, const TicRuns *runs, const TicFamily *family)
{
    bool unions = tic_runs_has_unions(runs, family);
    fprintf(f, "<div class=wide><table class=plain><thead><tr><th%s>transfer</th>", unions ? " rowspan=2" : "");
    if (unions)
        fprintf(f, "<th colspan=3 class=group style=\"text-align:center\">first step: mean of its years</th>"
                   "<th colspan=3 class=group style=\"text-align:center\">first step: union of its sets</th></tr><tr>");
    for (int k = 0; k < 1 + unions; k++)
        fprintf(f, "<th class=group>in-domain</th><th>backward</th><th>forward</th>");
    fprintf(f, "</tr></thead><tbody>\n");
    for (int i = 0; i < runs->n_run; i++) {
        fprintf(f, "<tr><td>");
        run_name(f, runs, i);
        fprintf(f, "</td>");
        for (int k = 0; k < 1 + unions; k++) {
            double *e = tic_runs_matrix(&runs->run[i], family, k);
            TicTransfer t = tic_transfer(e, runs->run[i].n_step);
            cell(f, t.in_domain, NAN, true);
            cell(f, t.backward, NAN, false);
            cell(f, t.forward, NAN, false);
            free(e);
        }
        fprintf(f, "</tr>\n");
    }
    fprintf(f, "</tbody></table></div>\n");
}

static void families(FILE *f, const TicRuns *runs)
{
    for (int k = 0; k < runs->n_family; k++) {
        const TicFamily *family = &runs->family[k];
        bool retrieval = strstr(family->key, "retrieval") != NULL;
        fprintf(f, "<h2>");
        html_text(f, family->name);
        fprintf(f, "</h2>\n<p>%s of the model after each step (rows) on the sets of each year (columns), in percent.</p>\n<div class=legend>"
                   "<span class=scale>", retrieval ? "Mean recall@1 of text-to-image and image-to-text retrieval" : "Zero-shot top-1 accuracy");
        percent(f, isfinite(family->low) ? family->low : NAN);
        fprintf(f, "<i></i>");
        percent(f, isfinite(family->high) ? family->high : NAN);
        fprintf(f, "</span><span><span class=own-mark></span>years of the step itself; left of them the past, right of them the future</span></div>\n"
                   "<div class=grid2>\n");
        for (int i = 0; i < runs->n_run; i++)
            heat_map(f, runs, i, family);
        fprintf(f, "</div><br>\n");
        transfer_table(f, runs, family);
    }
}

static void fixed_tasks(FILE *f, const TicRuns *runs)
{
    if (!runs->n_fixed)
        return;
    fprintf(f, "<h2>Other sets</h2>\n<p>Main metric of the newest evaluated step, in percent.</p>\n<div class=wide><table class=plain><thead><tr><th>set</th>");
    for (int i = 0; i < runs->n_run; i++) {
        fprintf(f, "<th>");
        run_name(f, runs, i);
        fprintf(f, "</th>");
    }
    fprintf(f, "</tr></thead><tbody>\n");
    for (int k = 0; k < runs->n_fixed; k++) {
        char *name = tic_task_name(runs->fixed[k]);
        fprintf(f, "<tr><td>");
        html_text(f, name);
        fprintf(f, "</td>");
        for (int i = 0; i < runs->n_run; i++) {
            fprintf(f, "<td>");
            percent(f, tic_runs_newest(&runs->run[i], runs->fixed[k]));
            fprintf(f, "</td>");
        }
        fprintf(f, "</tr>\n");
        free(name);
    }
    fprintf(f, "</tbody></table></div>\n");
}

/* ---- charts */

static void compute_charts(FILE *f, const TicRuns *runs)
{
    bool macs = true;
    for (int i = 0; i < runs->n_run; i++)
        macs &= runs->run[i].flops_per_pair > 0;
    for (int k = 0; k < runs->n_family; k++) {
        ChartLine *line = tic_alloc((size_t)(runs->n_run + 1) * sizeof *line);
        char *title = tic_format("%s", runs->family[k].name);
        for (int i = 0; i < runs->n_run; i++) {
            const TicRun *r = &runs->run[i];
            line[i] = (ChartLine){ r->name, color_of(i), tic_alloc((size_t)(r->n_step + 1) * sizeof(ChartPoint)), r->n_step, true };
            for (int t = 0; t < r->n_step; t++)
                line[i].point[t] = (ChartPoint){ macs ? tic_run_macs(r, t + 1) : (double)tic_run_pairs(r, t + 1),
                                                 tic_runs_mean(&r->step[t], &runs->family[k]) };
        }
        Chart c = { .title = title, .x_name = macs ? "forward MACs so far" : "pairs so far", .y_name = "mean over all years, %", .percent = true,
                    .line = line, .n = runs->n_run };
        chart_write(&c, f);
        for (int i = 0; i < runs->n_run; i++)
            free(line[i].point);
        free(line);
        free(title);
    }
}

typedef double (*Pick)(const TicRunPoint *p);
static double pick_loss(const TicRunPoint *p) { return p->loss; }
static double pick_rate(const TicRunPoint *p) { return p->lr; }
static double pick_scale(const TicRunPoint *p) { return p->scale; }
static double pick_speed(const TicRunPoint *p) { return p->rate; }

static void curve(FILE *f, const TicRuns *runs, const char *title, const char *y_name, Pick pick, bool from_zero)
{
    ChartLine *line = tic_alloc((size_t)(runs->n_run + 1) * sizeof *line);
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        int n = 0;
        int64_t before = 0;
        for (int t = 0; t < r->n_step; t++)
            n += r->step[t].n_point + 1;
        line[i] = (ChartLine){ r->name, color_of(i), tic_alloc((size_t)(n + 1) * sizeof(ChartPoint)), 0, false };
        for (int t = 0; t < r->n_step; t++) {
            for (int k = 0; k < r->step[t].n_point; k++)
                line[i].point[line[i].n++] = (ChartPoint){ (double)(before + r->step[t].point[k].samples), pick(&r->step[t].point[k]) };
            before += r->step[t].pairs;
        }
    }
    Chart c = { .title = title, .x_name = "pairs seen", .y_name = y_name, .from_zero = from_zero, .line = line, .n = runs->n_run };
    chart_write(&c, f);
    for (int i = 0; i < runs->n_run; i++)
        free(line[i].point);
    free(line);
}

static void charts(FILE *f, const TicRuns *runs)
{
    if (runs->n_family) {
        fprintf(f, "<h2>Score against compute</h2>\n<p>A dot a time step: compute spent since the first step, and the mean of that step's model over all "
                   "evaluation years.</p>\n");
        legend(f, runs);
        fprintf(f, "<div class=grid2>\n");
        compute_charts(f, runs);
        fprintf(f, "</div>\n");
    }
    fprintf(f, "<h2>Training</h2>\n");
    legend(f, runs);
    fprintf(f, "<div class=grid2>\n");
    curve(f, runs, "Loss", "contrastive loss", pick_loss, false);
    curve(f, runs, "Learning rate", "", pick_rate, true);
    curve(f, runs, "Logit scale", "exp of the parameter", pick_scale, false);
    curve(f, runs, "Throughput", "pairs a second", pick_speed, true);
    fprintf(f, "</div>\n");
}

/* ---- mixtures, budgets */

static double step_shade(int y, int n) { return n < 2 ? 0.5 : 0.12 + 0.88 * y / (n - 1); }

static void mixture(FILE *f, const TicRuns *runs, int run, int most)
{
    const TicRun *r = &runs->run[run];
    fprintf(f, "<figure class=card><h3>");
    run_name(f, runs, run);
    fprintf(f, "</h3><div class=bars>");
    for (int t = 0; t < r->n_step; t++) {
        const TicRunStep *s = &r->step[t];
        fprintf(f, "<span>");
        html_text(f, s->name);
        fprintf(f, "</span><div class=stack>");
        for (int y = 0; y < s->n_share; y++) {
            double share = s->share[y].share;
            if (share <= 0)
                continue;
            fprintf(f, "<i ");
            shade(f, step_shade(y, most), "", share);
            fprintf(f, " title=\"");
            html_text(f, s->share[y].name);
            fprintf(f, ": %.1f %% of the draws, from %" PRId64 " samples\">", 100 * share, s->share[y].available);
            if (share > 0.11)
                fprintf(f, "%.3g&thinsp;%%", 100 * share);
            fprintf(f, "</i>");
        }
        fprintf(f, "</div>");
    }
    fprintf(f, "</div></figure>\n");
}

static void mixtures(FILE *f, const TicRuns *runs)
{
    const TicRun *longest = &runs->run[0];
    int most = 0;
    for (int i = 0; i < runs->n_run; i++) {
        int n = runs->run[i].step[runs->run[i].n_step - 1].n_share;
        longest = n > most ? &runs->run[i] : longest;
        most = n > most ? n : most;
    }
    if (!most)
        return;
    const TicRunStep *last = &longest->step[longest->n_step - 1];
    fprintf(f, "<h2>What each step draws from</h2>\n<div class=legend>");
    for (int y = 0; y < last->n_share; y++) {
        fprintf(f, "<span><span class=swatch style=\"--v:%.3f\"></span>", step_shade(y, most));
        html_text(f, last->share[y].name);
        fprintf(f, "</span>");
    }
    fprintf(f, "</div>\n<div class=grid2>\n");
    for (int i = 0; i < runs->n_run; i++)
        if (runs->run[i].step[0].n_share)
            mixture(f, runs, i, most);
    fprintf(f, "</div>\n");
}

static void budgets(FILE *f, const TicRuns *runs)
{
    double most = 0, oracle = 0;
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        if (r->flops_per_pair <= 0 || !r->oracle_pairs)
            return;
        oracle = fmax(oracle, (double)r->oracle_pairs * r->flops_per_pair / 2);
        most = fmax(most, fmax(oracle, tic_run_macs(r, r->n_step)));
    }
    fprintf(f, "<h2>Compute</h2>\n<p>Forward multiply-adds of all steps, as TiC-CLIP counts them (training takes about three times as many). The oracle trains anew "
               "from random weights at step t with t budgets: ");
    html_count(f, oracle);
    fprintf(f, " in all; the shares are of that.</p>\n<figure class=card><div class=bars>");
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        double macs = tic_run_macs(r, r->n_step), share = macs / most;
        fprintf(f, "<span>");
        html_text(f, r->name);
        fprintf(f, "</span><div class=budget><i class=\"fill c%d\" style=\"width:%.1f%%\"></i><span style=\"%s%.1f%%%s\">", color_of(i), 100 * share,
                share > 0.6 ? "right:" : "left:", share > 0.6 ? 100 * (1 - share) : 100 * share, share > 0.6 ? ";color:var(--card)" : "");
        html_count(f, macs);
        fprintf(f, " · %.3g&thinsp;%%</span></div>", 100 * tic_run_oracle_share(r));
    }
    fprintf(f, "</div></figure>\n");
}

/* ---- lineage */

static void lineage_row(FILE *f, const TicRun *r, const TicRunStep *s)
{
    const char *parent = "random";
    for (int t = 0; t < r->n_step; t++)
        if (*s->parent && !strncmp(s->parent, r->step[t].folder, strlen(r->step[t].folder)) && *r->step[t].folder)
            parent = r->step[t].name;
    if (*s->parent && !strcmp(parent, "random"))
        parent = s->parent;
    fprintf(f, "<tr><td>");
    html_text(f, s->name);
    fprintf(f, "</td><td class=left>");
    html_text(f, s->state);
    fprintf(f, "</td><td class=left>");
    html_text(f, parent);
    fprintf(f, "</td><td>");
    html_count(f, (double)s->pairs);
    fprintf(f, "</td><td>%" PRId64 "</td><td>%" PRId64 "</td><td class=left><code>", s->steps, s->skipped);
    html_text(f, s->checkpoint);
    fprintf(f, "</code></td><td class=left><code>");
    html_text(f, *s->digest ? s->digest : "–");
    fprintf(f, "</code></td></tr>\n");
    if (s->stale)
        fprintf(f, "<tr><td></td><td colspan=7 class=\"left warn\">%d score%s of another checkpoint left out</td></tr>\n", s->stale, s->stale == 1 ? "" : "s");
}

static void lineage(FILE *f, const TicRuns *runs)
{
    fprintf(f, "<h2>Lineage</h2>\n<p>Where the weights of each step came from. The digest is of the checkpoint's bytes; only scores that name it are shown. "
               "Skipped samples were replaced by further draws.</p>\n");
    for (int i = 0; i < runs->n_run; i++) {
        const TicRun *r = &runs->run[i];
        fprintf(f, "<h3>");
        run_name(f, runs, i);
        if (*r->program) {
            fprintf(f, "<code style=\"font-weight:400;color:var(--soft)\">program ");
            html_text(f, r->program);
            fprintf(f, ", seed %" PRId64 "</code>", r->seed);
        }
        fprintf(f, "</h3><div class=wide><table class=plain><thead><tr><th>step</th><th class=left>state</th><th class=left>weights from</th><th>pairs</th>"
                   "<th>optimiser steps</th><th>skipped</th><th class=left>checkpoint</th><th class=left>digest</th></tr></thead><tbody>\n");
        for (int t = 0; t < r->n_step; t++)
            lineage_row(f, r, &r->step[t]);
        fprintf(f, "</tbody></table></div>\n");
    }
}

void tic_report_html(const TicRuns *runs, FILE *f)
{
    page_head(f, runs);
    overview(f, runs);
    families(f, runs);
    fixed_tasks(f, runs);
    charts(f, runs);
    mixtures(f, runs);
    budgets(f, runs);
    lineage(f, runs);
    fprintf(f, "<footer><p>E[i][j] is the score after step i on the years of step j. In-domain is the mean of E[i][i], backward of E[i][j] with j &lt; i, forward "
               "with j &gt; i. Retrieval and zero-shot scores follow CLIP_benchmark. This file refers to nothing outside itself.</p></footer>\n"
               "</main>\n<script>\n%s</script>\n</html>\n", report_script);
}
