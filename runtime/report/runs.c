/* runs.c -- see runs.h. */
#include "report/runs.h"
#include "data/json.h"
#include "eval/tasks.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST_FILE = 1 << 30 };

/* ---- JSON, field by field */

static char *text_of(const TicJson *object, const char *key)
{
    const TicJson *n = tic_json_get(object, key);
    return tic_strdup(n && n->kind == TIC_JSON_STRING ? n->text : "");
}

static double number_of(const TicJson *object, const char *key, double missing)
{
    const TicJson *n = tic_json_get(object, key);
    return n && n->kind == TIC_JSON_NUMBER ? n->number : missing;
}

static int64_t whole_of(const TicJson *object, const char *key)
{
    const TicJson *n = tic_json_get(object, key);
    int64_t v = 0;
    return n && tic_json_integer(n, &v) ? v : 0;
}

static void *grown(void *list, int count, size_t size)         /* room for one more; doubles at powers of two */
{
    return count & (count - 1) ? list : tic_realloc(list, (size_t)(count ? 2 * count : 1) * size);
}

typedef void (*OnLine)(TicRunStep *s, const TicJson *root, void *context);

/* Every whole line that is an object; a torn last line of a run that goes on is passed over. */
static TicStatus read_lines(const char *dir, const char *folder, const char *name, TicRunStep *s, OnLine line, void *context)
{
    char *path = tic_format("%s/%s%s%s", dir, folder, *folder ? "/" : "", name), *text = NULL;
    size_t size = 0;
    TicStatus status = access(path, F_OK) ? TIC_OK : tic_read_file(path, LARGEST_FILE, &text, &size);
    for (char *p = text, *end; !status && p < text + size; p = end + 1) {
        TicJson *root = NULL;
        end = memchr(p, '\n', (size_t)(text + size - p));
        if (!end)
            break;
        if (tic_json_parse(p, (size_t)(end - p), &root))
            tic_error_clear();
        else
            line(s, root, context);
        tic_json_free(root);
    }
    free(text);
    free(path);
    return status;
}

static void on_metrics(TicRunStep *s, const TicJson *root, void *context)
{
    s->point = grown(s->point, s->n_point, sizeof *s->point);
    s->point[s->n_point++] = (TicRunPoint){ whole_of(root, "step"), whole_of(root, "samples"), number_of(root, "loss", NAN),
        number_of(root, "lr", NAN), number_of(root, "logit_scale", NAN), number_of(root, "samples_per_second", NAN) };
}

static void on_result(TicRunStep *s, const TicJson *root, void *context)
{
    char *checkpoint = text_of(root, "checkpoint"), *key = text_of(root, "key");
    bool ours = !strcmp(checkpoint, s->digest) && *key;
    s->stale += !ours;
    free(checkpoint);
    if (!ours) {
        free(key);
        return;
    }
    TicRunScore r = { .key = key, .name = text_of(root, "dataset"), .images = whole_of(root, "images"), .skipped = whole_of(root, "skipped") };
    r.value = number_of(tic_json_get(root, "metrics"), "main_metric", NAN);
    r.has_value = !isnan(r.value);
    if (!tic_task_years(key, &r.lo, &r.hi))
        r.lo = r.hi = 0;
    s->score = grown(s->score, s->n_score, sizeof *s->score);
    s->score[s->n_score++] = r;
}

/* The digest of the step's checkpoint: from the mark of its evaluation, else of the file itself. */
static TicStatus find_digest(const char *dir, TicRunStep *s)
{
    char *mark = tic_format("%s/%s/evaluated", dir, s->folder), *file = tic_format("%s/%s", dir, s->checkpoint), *text = NULL;
    size_t size;
    uint64_t hash;
    s->digest = tic_strdup("");
    if (*s->folder && !access(mark, F_OK) && !tic_read_file(mark, 4096, &text, &size)) {
        char *blank = strrchr(text, ' ');
        if (blank && strlen(s->checkpoint) == (size_t)(blank - text) && !strncmp(text, s->checkpoint, (size_t)(blank - text))) {
            free(s->digest);
            s->digest = tic_format("%.16s", blank + 1);
        }
    }
    tic_error_clear();
    TicStatus status = TIC_OK;
    if (!*s->digest && *s->checkpoint && !access(file, F_OK) && !(status = tic_hash_file(file, &hash))) {
        free(s->digest);
        s->digest = tic_format("%016" PRIx64, hash);
    }
    free(text);
    free(mark);
    free(file);
    return status;
}

static TicStatus read_step_files(const TicRun *run, TicRunStep *s)
{
    TRY(find_digest(run->path, s));
    TRY(read_lines(run->path, s->folder, "metrics.jsonl", s, on_metrics, NULL));
    return read_lines(run->path, s->folder, "eval_results.jsonl", s, on_result, NULL);
}

static TicStatus read_step(TicRun *run, const TicJson *n)
{
    const TicJson *shares = tic_json_get(n, "shares");
    run->step = grown(run->step, run->n_step, sizeof *run->step);
    TicRunStep *s = &run->step[run->n_step++];
    *s = (TicRunStep){ .name = text_of(n, "name"), .folder = text_of(n, "folder"), .parent = text_of(n, "parent"),
                       .checkpoint = text_of(n, "checkpoint"), .state = text_of(n, "state"), .lo = (int)whole_of(n, "lo"),
                       .hi = (int)whole_of(n, "hi"), .pairs = whole_of(n, "pairs"), .steps = whole_of(n, "optimizer_steps"),
                       .batch = whole_of(n, "batch"), .skipped = whole_of(n, "skipped") };
    for (const TicJson *y = shares ? shares->child : NULL; y; y = y->next) {
        s->share = grown(s->share, s->n_share, sizeof *s->share);
        s->share[s->n_share++] = (TicRunShare){ text_of(y, "name"), number_of(y, "share", 0), whole_of(y, "available") };
    }
    return read_step_files(run, s);
}

/* A folder that `train` left: one step, whose checkpoint is the newest. */
static TicStatus read_single(TicRun *run)
{
    char *metrics = tic_format("%s/metrics.jsonl", run->path), *last = tic_format("%s/checkpoints/epoch_1.pt", run->path);
    bool there = !access(metrics, F_OK), whole = !access(last, F_OK);
    free(metrics);
    free(last);
    if (!there)
        return tic_fail(TIC_USER, "%s: holds no run: neither lineage.json nor metrics.jsonl", run->path);
    run->model = tic_strdup("");
    run->strategy = tic_strdup("");
    run->program = tic_strdup("");
    run->step = grown(NULL, 0, sizeof *run->step);
    run->n_step = 1;
    *run->step = (TicRunStep){ .name = tic_strdup(run->name), .folder = tic_strdup(""), .parent = tic_strdup(""),
                               .state = tic_strdup(whole ? "trained" : "training"),
                               .checkpoint = tic_strdup(whole ? "checkpoints/epoch_1.pt" : "checkpoints/epoch_latest.pt") };
    TRY(read_step_files(run, run->step));
    const TicRunStep *s = run->step;
    if (s->n_point) {
        const TicRunPoint *p = &s->point[s->n_point - 1];
        run->step->pairs = p->samples;
        run->step->steps = p->step;
        run->step->batch = p->step ? p->samples / p->step : 0;
    }
    return TIC_OK;
}

static TicStatus read_run(const char *path, TicRun *run)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        n--;
    *run = (TicRun){ .path = tic_format("%.*s", (int)n, path), .cost = 1 };
    const char *slash = strrchr(run->path, '/');
    run->name = tic_strdup(slash ? slash + 1 : run->path);
    char *lineage = tic_format("%s/lineage.json", run->path), *text = NULL;
    size_t size;
    TicJson *root = NULL;
    bool there = !access(lineage, F_OK);
    TicStatus status = there ? tic_read_file(lineage, LARGEST_FILE, &text, &size) : read_single(run);
    if (!status && there && (tic_json_parse(text, size, &root) || root->kind != TIC_JSON_OBJECT)) {
        tic_error_clear();
        status = tic_fail(TIC_USER, "%s: not the record of a run", lineage);
    }
    if (!status && there) {
        run->model = text_of(root, "model");
        run->strategy = text_of(root, "strategy");
        run->program = text_of(root, "program");
        run->seed = whole_of(root, "seed");
        run->oracle_pairs = whole_of(root, "oracle_pairs");
        run->flops_per_pair = number_of(root, "forward_flops_per_pair", 0);
        run->cost = number_of(root, "cost", 1);
        const TicJson *steps = tic_json_get(root, "steps");
        for (const TicJson *s = steps ? steps->child : NULL; s && !status; s = s->next)
            status = read_step(run, s);
        if (!status && !run->n_step)
            status = tic_fail(TIC_USER, "%s: records no step", lineage);
    }
    tic_json_free(root);
    free(text);
    free(lineage);
    return status;
}

/* ---- families */

static void add_year(TicFamily *f, int year)
{
    int at = 0;
    while (at < f->n_year && f->year[at] < year)
        at++;
    if (at < f->n_year && f->year[at] == year)
        return;
    f->year = tic_realloc(f->year, (size_t)(f->n_year + 1) * sizeof *f->year);
    memmove(f->year + at + 1, f->year + at, (size_t)(f->n_year - at) * sizeof *f->year);
    f->year[at] = year;
    f->n_year++;
}

static void place(TicRuns *runs, const TicRunScore *r)
{
    if (!r->lo) {
        for (int i = 0; i < runs->n_fixed; i++)
            if (!strcmp(runs->fixed[i], r->key))
                return;
        runs->fixed = grown(runs->fixed, runs->n_fixed, sizeof *runs->fixed);
        runs->fixed[runs->n_fixed++] = tic_strdup(r->key);
        return;
    }
    char *key = tic_task_family(r->key);
    int i = 0;
    while (i < runs->n_family && strcmp(runs->family[i].key, key))
        i++;
    if (i == runs->n_family) {
        runs->family = grown(runs->family, i, sizeof *runs->family);
        runs->family[runs->n_family++] = (TicFamily){ .key = tic_strdup(key), .name = tic_task_name(key), .low = INFINITY, .high = -INFINITY };
    }
    if (r->lo == r->hi)
        add_year(&runs->family[i], r->lo);
    if (r->lo == r->hi && r->has_value) {
        runs->family[i].low = fmin(runs->family[i].low, r->value);
        runs->family[i].high = fmax(runs->family[i].high, r->value);
    }
    free(key);
}

TicStatus tic_runs_read(char *const *path, int n, TicRuns *runs)
{
    TicStatus status = TIC_OK;
    *runs = (TicRuns){ .run = tic_alloc((size_t)(n + 1) * sizeof(TicRun)) };
    for (int i = 0; i < n && !status; i++)
        status = read_run(path[i], &runs->run[runs->n_run++]);
    for (int i = 0; i < runs->n_run && !status; i++)
        for (int t = 0; t < runs->run[i].n_step; t++)
            for (int k = 0; k < runs->run[i].step[t].n_score; k++)
                place(runs, &runs->run[i].step[t].score[k]);
    if (status)
        tic_runs_clear(runs);
    return status;
}

static void clear_step(TicRunStep *s)
{
    for (int i = 0; i < s->n_share; i++)
        free(s->share[i].name);
    for (int i = 0; i < s->n_score; i++) {
        free(s->score[i].key);
        free(s->score[i].name);
    }
    char *const text[] = { s->name, s->folder, s->parent, s->checkpoint, s->state, s->digest };
    for (size_t i = 0; i < TIC_LEN(text); i++)
        free(text[i]);
    free(s->share);
    free(s->point);
    free(s->score);
}

void tic_runs_clear(TicRuns *runs)
{
    for (int i = 0; i < runs->n_run; i++) {
        TicRun *r = &runs->run[i];
        for (int t = 0; t < r->n_step; t++)
            clear_step(&r->step[t]);
        char *const text[] = { r->path, r->name, r->model, r->strategy, r->program };
        for (size_t k = 0; k < TIC_LEN(text); k++)
            free(text[k]);
        free(r->step);
    }
    for (int i = 0; i < runs->n_family; i++) {
        free(runs->family[i].key);
        free(runs->family[i].name);
        free(runs->family[i].year);
    }
    for (int i = 0; i < runs->n_fixed; i++)
        free(runs->fixed[i]);
    free(runs->run);
    free(runs->family);
    free(runs->fixed);
    *runs = (TicRuns){ 0 };
}

/* ---- scores in order */

double tic_runs_score(const TicRunStep *step, const TicFamily *f, int lo, int hi)
{
    size_t n = strlen(f->key);
    for (int i = 0; i < step->n_score; i++) {
        const TicRunScore *s = &step->score[i];
        if (s->lo == lo && s->hi == hi && !strncmp(s->key, f->key, n) && s->key[n] == '/' && !strchr(s->key + n + 1, '/'))
            return s->value;
    }
    return NAN;
}

double tic_runs_newest(const TicRun *run, const char *key)
{
    for (int t = run->n_step - 1; t >= 0; t--)
        for (int i = 0; i < run->step[t].n_score; i++)
            if (!strcmp(run->step[t].score[i].key, key) && run->step[t].score[i].has_value)
                return run->step[t].score[i].value;
    return NAN;
}

static double mean_between(const TicRunStep *step, const TicFamily *f, int lo, int hi, bool all)
{
    double sum = 0;
    int n = 0;
    for (int i = 0; i < f->n_year; i++) {
        int year = f->year[i] > 9999 ? f->year[i] / 100 : f->year[i];
        double v = tic_runs_score(step, f, f->year[i], f->year[i]);
        if (year < lo || year > hi)
            continue;
        if (isnan(v) && all)
            return NAN;
        sum += isnan(v) ? 0 : v;
        n += !isnan(v);
    }
    return n ? sum / n : NAN;
}

double tic_runs_mean(const TicRunStep *step, const TicFamily *f) { return mean_between(step, f, 0, 9999, false); }

double *tic_runs_matrix(const TicRun *run, const TicFamily *f, bool merged)
{
    int n = run->n_step;
    double *e = tic_alloc((size_t)(n * n + 1) * sizeof *e);
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            const TicRunStep *of = &run->step[j];
            e[i * n + j] = merged && of->lo < of->hi ? tic_runs_score(&run->step[i], f, of->lo, of->hi)
                         : of->lo ? mean_between(&run->step[i], f, of->lo, of->hi, true) : NAN;
        }
    }
    return e;
}

bool tic_runs_has_unions(const TicRuns *runs, const TicFamily *f)
{
    for (int i = 0; i < runs->n_run; i++)
        for (int t = 0; t < runs->run[i].n_step; t++)
            for (int k = 0; k < runs->run[i].n_step; k++) {
                const TicRunStep *of = &runs->run[i].step[k];
                if (of->lo < of->hi && !isnan(tic_runs_score(&runs->run[i].step[t], f, of->lo, of->hi)))
                    return true;
            }
    return false;
}

int64_t tic_run_pairs(const TicRun *run, int steps)
{
    int64_t sum = 0;
    for (int t = 0; t < steps && t < run->n_step; t++)
        sum += run->step[t].pairs;
    return sum;
}

double tic_run_macs(const TicRun *run, int steps) { return (double)tic_run_pairs(run, steps) * run->flops_per_pair / 2 * run->cost; }

double tic_run_oracle_share(const TicRun *run)
{
    return run->oracle_pairs ? (double)tic_run_pairs(run, run->n_step) * run->cost / (double)run->oracle_pairs : NAN;
}
