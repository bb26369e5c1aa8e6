/* report.c -- see report.h: the command and report.json. */
#define _GNU_SOURCE
#include "report/report.h"
#include "data/json.h"
#include "eval/tasks.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- report.json */

static void put_text(FILE *f, const char *key, const char *text)
{
    char *quoted = tic_json_quote(text, strlen(text));
    fprintf(f, "\"%s\": %s", key, quoted);
    free(quoted);
}

static void put_number(FILE *f, const char *key, double v)
{
    if (isfinite(v))
        fprintf(f, "\"%s\": %.9g", key, v);
    else
        fprintf(f, "\"%s\": null", key);
}

static void put_step(FILE *f, const TicRunStep *s)
{
    fprintf(f, "{");
    put_text(f, "name", s->name);
    fprintf(f, ", \"lo\": %d, \"hi\": %d, \"pairs\": %" PRId64 ", \"optimizer_steps\": %" PRId64 ", \"batch\": %" PRId64, s->lo, s->hi, s->pairs,
            s->steps, s->batch);
    fprintf(f, ", \"skipped\": %" PRId64 ", ", s->skipped);
    put_text(f, "state", s->state);
    fprintf(f, ", ");
    put_text(f, "parent", s->parent);
    fprintf(f, ", ");
    put_text(f, "checkpoint", s->checkpoint);
    fprintf(f, ", ");
    put_text(f, "digest", s->digest);
    fprintf(f, ", \"shares\": [");
    for (int i = 0; i < s->n_share; i++) {
        fprintf(f, "%s{", i ? ", " : "");
        put_text(f, "name", s->share[i].name);
        fprintf(f, ", \"share\": %.9g, \"available\": %" PRId64 "}", s->share[i].share, s->share[i].available);
    }
    fprintf(f, "], ");
    put_number(f, "last_loss", s->n_point ? s->point[s->n_point - 1].loss : NAN);
    fprintf(f, ", \"scores\": {");
    for (int i = 0; i < s->n_score; i++) {
        char *key = tic_json_quote(s->score[i].key, strlen(s->score[i].key));
        fprintf(f, "%s%s: ", i ? ", " : "", key);
        if (s->score[i].has_value)
            fprintf(f, "%.9g", s->score[i].value);
        else
            fprintf(f, "null");
        free(key);
    }
    fprintf(f, "}}");
}

static void put_transfer(FILE *f, const TicRun *run, const TicFamily *family, bool merged)
{
    double *e = tic_runs_matrix(run, family, merged);
    TicTransfer t = tic_transfer(e, run->n_step);
    fprintf(f, "\"%s\": {", merged ? "merged_first_step" : "mean_of_years");
    put_number(f, "in_domain", t.in_domain);
    fprintf(f, ", ");
    put_number(f, "backward", t.backward);
    fprintf(f, ", ");
    put_number(f, "forward", t.forward);
    fprintf(f, ", \"matrix\": [");
    for (int i = 0; i < run->n_step; i++) {
        fprintf(f, "%s[", i ? ", " : "");
        for (int j = 0; j < run->n_step; j++) {
            double v = e[i * run->n_step + j];
            fprintf(f, j ? ", " : "");
            fprintf(f, isfinite(v) ? "%.9g" : "null", v);
        }
        fprintf(f, "]");
    }
    fprintf(f, "]}");
    free(e);
}

static void put_run(FILE *f, const TicRuns *runs, const TicRun *run)
{
    fprintf(f, "    {");
    put_text(f, "name", run->name);
    fprintf(f, ", ");
    put_text(f, "model", run->model);
    fprintf(f, ", ");
    put_text(f, "strategy", run->strategy);
    fprintf(f, ", ");
    put_text(f, "program", run->program);
    fprintf(f, ", \"seed\": %" PRId64 ", \"pairs\": %" PRId64 ", ", run->seed, tic_run_pairs(run, run->n_step));
    put_number(f, "forward_macs", tic_run_macs(run, run->n_step));
    fprintf(f, ", ");
    put_number(f, "share_of_oracle", tic_run_oracle_share(run));
    fprintf(f, ",\n     \"steps\": [");
    for (int t = 0; t < run->n_step; t++) {
        fprintf(f, "%s", t ? ",\n       " : "\n       ");
        put_step(f, &run->step[t]);
    }
    fprintf(f, "],\n     \"transfer\": {");
    for (int i = 0; i < runs->n_family; i++) {
        char *key = tic_json_quote(runs->family[i].key, strlen(runs->family[i].key));
        fprintf(f, "%s%s: {", i ? ",\n       " : "\n       ", key);
        put_transfer(f, run, &runs->family[i], false);
        if (tic_runs_has_unions(runs, &runs->family[i])) {
            fprintf(f, ",\n         ");
            put_transfer(f, run, &runs->family[i], true);
        }
        fprintf(f, "}");
        free(key);
    }
    fprintf(f, "}}");
}

void tic_report_json(const TicRuns *runs, FILE *f)
{
    fprintf(f, "{\n  \"runs\": [\n");
    for (int i = 0; i < runs->n_run; i++) {
        put_run(f, runs, &runs->run[i]);
        fprintf(f, "%s\n", i + 1 < runs->n_run ? "," : "");
    }
    fprintf(f, "  ]\n}\n");
}

/* ---- the command */

static TicStatus write_one(const TicRuns *runs, const char *out, const char *name, void (*write)(const TicRuns *, FILE *))
{
    char *text = NULL, *path = tic_format("%s/%s", out, name);
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    write(runs, f);
    fclose(f);
    TicStatus status = tic_write_file(path, text, size);
    free(text);
    free(path);
    return status;
}

static TicStatus write_all(const TicRuns *runs, const char *out)
{
    TRY(tic_make_dirs(out));
    TRY(write_one(runs, out, "report.json", tic_report_json));
    return write_one(runs, out, "report.html", tic_report_html);
}

TicStatus tic_report_write(char *const *path, int n, const char *out)
{
    TicRuns runs;
    TRY(tic_runs_read(path, n, &runs));
    TicStatus status = write_all(&runs, out);
    tic_runs_clear(&runs);
    return status;
}

TicStatus tic_report_command(char *const *path, int n, const char *out, bool text)
{
    TicRuns runs;
    if (!n)
        return tic_fail(TIC_USER, "report: which run? its folder, OUT/NAME, is missing; several are set side by side");
    TRY(tic_runs_read(path, n, &runs));
    if (!out)
        out = n == 1 ? path[0] : ".";
    TicStatus status = TIC_OK;
    if (text)
        tic_report_text(&runs, stdout);
    else if (!(status = write_all(&runs, out)))
        printf("report: %s/report.html\n        %s/report.json\n", out, out);
    tic_runs_clear(&runs);
    return status;
}
