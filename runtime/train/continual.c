/* continual.c -- see continual.h. */
#define _GNU_SOURCE
#include "train/continual.h"
#include "data/json.h"
#include "eval/evaluate.h"
#include "report/report.h"
#include "train/files.h"
#include "train/report.h"
#include "train/schedule.h"
#include "train/source.h"
#include "train/step.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum { PLANNED, TRAINING, TRAINED, EVALUATED } State;
static const char *const state_name[] = { "planned", "training", "trained", "evaluated" };

typedef struct {
    const TicYearStep *years;
    const char *name;
    char *folder;                /* "step_00_2014-2016" */
    char *result;                /* the checkpoint it hands on, from the run's folder */
    char *parent;                /* what it begins with, of the step before; "" for fresh weights */
    TicShare *share;
    int n_share;
    int64_t pairs, steps, batch, skipped;
    State state;
    const TicJson *was;          /* what lineage.json says of it, once it was begun; or NULL */
    bool recorded;               /* lineage.json says it is trained */
    char forked[20];             /* the program that made it, where it is from before a --fork; or "" */
} Step;

typedef struct {
    const TicProgram *program;
    const TicKernel *kernels;
    const TicContinualOptions *o;
    char *dir;
    TicJson *lineage;            /* what lineage.json said when this process began; or NULL */
    Step *step;
    int n, first, lock;
    int64_t batch, micro;
    uint64_t seed;
    bool after;
} Continual;

static void close_continual(Continual *c)
{
    for (int t = 0; t < c->n && c->step; t++) {
        free(c->step[t].folder);
        free(c->step[t].result);
        free(c->step[t].parent);
        free(c->step[t].share);
    }
    free(c->step);
    tic_json_free(c->lineage);
    tic_unlock_folder(c->lock);
    free(c->dir);
}

static bool exists(const Continual *c, const char *path)
{
    char *full = tic_format("%s/%s", c->dir, path);
    bool there = access(full, F_OK) == 0;
    free(full);
    return there;
}

/* ---- lineage.json */

static void put_text(FILE *f, const char *key, const char *text)
{
    char *quoted = tic_json_quote(text, strlen(text));
    fprintf(f, "\"%s\": %s", key, quoted);
    free(quoted);
}

/* What a reader would call different about two programs. */
typedef struct { const char *name; char text[160]; } Fact;
enum { MOST_FACTS = 16 };

static int facts_of(const Continual *c, Fact *f)         /* how many */
{
    const TicProgram *p = c->program;
    int n = 0;
#define FACT(what, ...) (f[n].name = what, snprintf(f[n].text, sizeof f[n].text, __VA_ARGS__), n++)
    FACT("model", "%s", tic_text(p, p->model));
    FACT("strategy", "%s", tic_text(p, p->strategy));
    FACT("time steps", "%s", "");
    for (uint32_t t = 0; t < p->n_steps; t++) {
        size_t used = strlen(f[n - 1].text);
        snprintf(f[n - 1].text + used, sizeof f[0].text - used, "%s%s", t ? ", " : "", tic_text(p, tic_year_step(p, (int)t)->name));
    }
    FACT("carry", "%s", p->carry_moments ? "weights_and_moments" : "weights");
    FACT("batch", "%" PRId64, c->batch);
    FACT("samples", "%" PRId64, p->samples);
    FACT("peak learning rate", "%.9g", p->lr_peak);
    FACT("weight decay", "%.9g", p->weight_decay);
    FACT("precision", "%s", p->bf16 ? "bf16" : "f32");
    FACT("target", "%s", tic_text(p, p->target));
    FACT("ticc", "%s", tic_text(p, p->version));
#undef FACT
    return n;
}

static void put_facts(FILE *f, const Continual *c)
{
    Fact fact[MOST_FACTS];
    int n = facts_of(c, fact);
    fprintf(f, "  \"facts\": {");
    for (int i = 0; i < n; i++) {
        fprintf(f, i ? ", " : "");
        put_text(f, fact[i].name, fact[i].text);
    }
    fprintf(f, "},\n");
}

/* "batch was 8 and is 16; ...", or "". Caller frees. */
static char *changed_facts(const Continual *c, const TicJson *root)
{
    Fact fact[MOST_FACTS];
    char *text = NULL;
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    int n = facts_of(c, fact);
    for (int i = 0; i < n; i++) {
        const TicJson *was = tic_json_get(tic_json_get(root, "facts"), fact[i].name);
        fflush(f);
        if (was && was->kind == TIC_JSON_STRING && strcmp(was->text, fact[i].text))
            fprintf(f, "%s%s was %s and is %s", size ? "; " : "", fact[i].name, was->text, fact[i].text);
    }
    fclose(f);
    return text;
}

/* The first line in which the .tic file differs from the copy that the run keeps; "" when there is none. Caller frees. */
static char *changed_line(const Continual *c)
{
    char *path = tic_format("%s/program.tic", c->dir), *was = NULL, *found = NULL;
    const char *is = tic_text(c->program, c->program->source), *a;
    size_t size;
    if (!access(path, F_OK) && !tic_read_file(path, 16 << 20, &was, &size)) {
        a = was;
        for (int line = 1; !found && (*a || *is); line++) {
            size_t n = strcspn(a, "\n"), m = strcspn(is, "\n");
            if (n != m || memcmp(a, is, n))
                found = tic_format("line %d of the .tic file was `%.*s` and is `%.*s`", line, n > 100 ? 100 : (int)n, a,
                                   m > 100 ? 100 : (int)m, is);
            a += n + (a[n] == '\n');
            is += m + (is[m] == '\n');
        }
    }
    tic_error_clear();
    free(was);
    free(path);
    return found ? found : tic_strdup("");
}

static void put_step(FILE *f, const Continual *c, int t)
{
    const Step *s = &c->step[t];
    fprintf(f, "    {\"index\": %d, ", t);
    put_text(f, "name", s->name);
    fprintf(f, ", \"lo\": %d, \"hi\": %d, ", s->years->lo, s->years->hi);
    put_text(f, "parent", s->parent);
    fprintf(f, ", \"pairs\": %" PRId64 ", \"optimizer_steps\": %" PRId64 ", \"batch\": %" PRId64 ",\n     \"shares\": [",
            s->steps * s->batch, s->steps, s->batch);
    for (int y = 0; y < s->n_share; y++) {
        fprintf(f, "%s{", y ? ", " : "");
        put_text(f, "name", s->share[y].name);
        fprintf(f, ", \"share\": %.9g, \"available\": %" PRId64 "}", s->share[y].share, s->share[y].available);
    }
    fprintf(f, "],\n     ");
    put_text(f, "folder", s->folder);
    fprintf(f, ", ");
    put_text(f, "checkpoint", s->result);
    if (s->forked[0] && s->state >= TRAINED) {
        fprintf(f, ", ");
        put_text(f, "forked", s->forked);
    }
    fprintf(f, ", \"skipped\": %" PRId64 ", \"state\": \"%s\"}%s\n", s->skipped, state_name[s->state], t + 1 < c->n ? "," : "");
}

static const TicJson *recorded_share(const Step *s, const char *name)
{
    const TicJson *shares = tic_json_get(s->was, "shares"), *found = NULL;
    for (const TicJson *y = shares ? shares->child : NULL; y && !found; y = y->next) {
        const TicJson *is = tic_json_get(y, "name");
        found = is && is->kind == TIC_JSON_STRING && !strcmp(is->text, name) ? y : NULL;
    }
    return found;
}

/* How lineage.json has a step that was begun, where this plan has it otherwise: part of a sentence, or "". Caller frees. */
static char *changed_step(const Step *s)
{
    int64_t n;
    if (tic_json_integer(tic_json_get(s->was, "optimizer_steps"), &n) && n != s->steps)
        return tic_format("step %s had %" PRId64 " optimiser steps and has %" PRId64, s->name, n, s->steps);
    for (int y = 0; y < s->n_share; y++)
        if (tic_json_integer(tic_json_get(recorded_share(s, s->share[y].name), "available"), &n) && n != s->share[y].available)
            return tic_format("step %s drew from %" PRId64 " samples of %s and draws from %" PRId64, s->name, n, s->share[y].name,
                              s->share[y].available);
    return tic_strdup("");
}

/* A forked run's record of a finished step is of how it was made, not of how it would be made now. */
static void keep_record(Step *s)
{
    int64_t n;
    if (tic_json_integer(tic_json_get(s->was, "optimizer_steps"), &n))
        s->steps = n;
    if (tic_json_integer(tic_json_get(s->was, "batch"), &n))
        s->batch = n;
    for (int y = 0; y < s->n_share; y++) {
        const TicJson *was = recorded_share(s, s->share[y].name), *share = tic_json_get(was, "share");
        if (tic_json_integer(tic_json_get(was, "available"), &n))
            s->share[y].available = n;
        if (share && share->kind == TIC_JSON_NUMBER)
            s->share[y].share = share->number;
    }
}

static TicStatus write_lineage(const Continual *c)
{
    const TicProgram *p = c->program;
    char *text = NULL, *path = tic_format("%s/lineage.json", c->dir);
    size_t size = 0;
    FILE *f = open_memstream(&text, &size);
    const TicEntry *step = tic_program_entry(p, "step");
    int64_t oracle = 0, base = c->o->train.steps ? c->o->train.steps * c->batch : p->samples;
    for (int t = c->first; t < c->n; t++)
        oracle += (t + 1) * base;
    fprintf(f, "{\n  ");
    put_text(f, "model", tic_text(p, p->model));
    fprintf(f, ",\n  ");
    put_text(f, "strategy", tic_text(p, p->strategy));
    fprintf(f, ",\n  \"program\": \"%016" PRIx64 "\",\n  \"source\": \"%016" PRIx64 "\",\n  \"seed\": %" PRIu64 ",\n", p->hash,
            tic_hash(tic_text(p, p->source), strlen(tic_text(p, p->source)), 0), c->seed);
    put_facts(f, c);
    fprintf(f, "  \"cost\": %.17g,\n", p->cost);
    fprintf(f, "  \"forward_flops_per_pair\": %.17g,\n  \"oracle_pairs\": %" PRId64 ",\n  \"steps\": [\n",
            step ? step->forward_flops_per_pair : 0, oracle);
    for (int t = c->first; t < c->n; t++)
        put_step(f, c, t);
    fprintf(f, "  ]\n}\n");
    fclose(f);
    TicStatus status = tic_write_file(path, text, size);
    free(text);
    free(path);
    return status;
}

/* What the folder's lineage says differs from this program? */
static TicStatus same_run(const Continual *c, const char *path)
{
    const TicProgram *p = c->program;
    const TicJson *root = c->lineage, *program = tic_json_get(root, "program"), *seed = tic_json_get(root, "seed");
    char hash[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, p->hash);
    if (seed && seed->kind == TIC_JSON_NUMBER && seed->number != (double)c->seed)
        return tic_fail(TIC_USER, "%s: the run was begun with seed %.0f, and this is %" PRIu64 "; --fork goes on with it", path,
                        seed->number, c->seed);
    char *facts = changed_facts(c, root), *line = changed_line(c);
    bool same = (!program || program->kind != TIC_JSON_STRING || !strcmp(program->text, hash)) && !*facts;
    const char *what = *facts ? facts : *line ? line : "its library, -D or flags differ";
    TicStatus status = TIC_OK;
    if (!same)
        status = tic_fail(TIC_USER, "%s: the run was begun by another program: %s%s%s; another --name begins anew, --fork goes on with this one",
                          path, what, *facts && *line ? "; " : "", *facts && *line ? line : "");
    free(facts);
    free(line);
    for (int t = c->first; t < c->n && !status; t++) {
        char *differs = c->step[t].forked[0] ? tic_strdup("") : changed_step(&c->step[t]);
        if (*differs)
            status = tic_fail(TIC_USER, "%s: the run was begun with other numbers: %s; another --name begins anew, --fork goes on with these",
                              path, differs);
        free(differs);
    }
    return status;
}

/* What only the run itself could count. */
static void recall_steps(Continual *c)
{
    const TicJson *steps = tic_json_get(c->lineage, "steps");
    for (const TicJson *s = steps ? steps->child : NULL; s; s = s->next) {
        const TicJson *index = tic_json_get(s, "index"), *skipped = tic_json_get(s, "skipped");
        int64_t t, n;
        if (!index || !tic_json_integer(index, &t) || t < c->first || t >= c->n)
            continue;
        if (skipped && tic_json_integer(skipped, &n))
            c->step[t].skipped = n;
        const TicJson *state = tic_json_get(s, "state"), *forked = tic_json_get(s, "forked");
        if (forked && forked->kind == TIC_JSON_STRING)
            snprintf(c->step[t].forked, sizeof c->step[t].forked, "%s", forked->text);
        bool known = state && state->kind == TIC_JSON_STRING;
        c->step[t].was = known && strcmp(state->text, state_name[PLANNED]) ? s : NULL;
        c->step[t].recorded = known && (!strcmp(state->text, state_name[TRAINED]) || !strcmp(state->text, state_name[EVALUATED]));
    }
}

static TicStatus check_lineage(Continual *c)
{
    char *path = tic_format("%s/lineage.json", c->dir), *text = NULL;
    size_t size;
    TicStatus status = TIC_OK;
    if (access(path, F_OK) == 0) {
        status = tic_read_file(path, 16 << 20, &text, &size);
        if (!status)
            status = tic_json_parse(text, size, &c->lineage);
        if (!status)
            recall_steps(c);
        if (!status && !c->o->fork)
            status = same_run(c, path);
    }
    free(text);
    free(path);
    return status;
}

/* The text the program was made of, for the day it has changed. */
static TicStatus keep_source(const Continual *c)
{
    const char *source = tic_text(c->program, c->program->source);
    char *path = tic_format("%s/program.tic", c->dir);
    TicStatus status = tic_write_file(path, source, strlen(source));
    free(path);
    return status;
}

/* ---- the plan */

static TicStatus plan_step(Continual *c, TicModel *m, TicPool *pool, int t)
{
    const TicProgram *p = c->program;
    const TicTrainOptions *o = &c->o->train;
    Step *s = &c->step[t];
    TicSourceOptions so = { .data = o->data, .vocab = o->vocab, .batch = (int)c->batch, .seed = c->seed, .loaders = (int)o->loaders };
    s->years = tic_year_step(p, t);
    s->name = tic_text(p, s->years->name);
    s->batch = c->batch;
    so.year = s->years->hi;
    s->folder = s->years->lo == s->years->hi ? tic_format("step_%02d_%d", t, s->years->hi)
                                             : tic_format("step_%02d_%d-%d", t, s->years->lo, s->years->hi);
    bool after = c->after && t > c->first && p->init == TIC_STEP_PREVIOUS;
    s->result = tic_format("%s/checkpoints/epoch_1%s.pt", s->folder, after ? "_after" : "");
    s->parent = t == c->first || p->init == TIC_STEP_RANDOM ? tic_strdup("")
              : p->init == TIC_STEP_REWIND ? tic_format("%s/checkpoints/epoch_1_rewind.pt", c->step[t - 1].folder)
              : tic_strdup(c->step[t - 1].result);
    TRY(tic_source_plan(m, pool, &so, &s->share, &s->n_share, &s->pairs));
    double times = (double)s->pairs / (double)p->samples;      /* --steps counts one budget */
    s->steps = o->steps ? (int64_t)((double)o->steps * times + 0.5) : s->pairs / c->batch;
    if (s->steps < 1)
        return tic_fail(TIC_USER, "step %s sees %" PRId64 " pairs, less than one batch of %" PRId64, s->name, s->pairs, c->batch);
    return TIC_OK;
}

static TicStatus plan(Continual *c)
{
    const TicProgram *p = c->program;
    const TicTrainOptions *o = &c->o->train;
    if (!p->n_steps)
        return tic_fail(TIC_USER, "the program has no `continual` block");
    TRY(tic_captions_fit(p));
    if (!o->data)
        return tic_fail(TIC_USER, "--data: no pool given; `ticdata synth --out DIR` draws a small one to try");
    c->n = (int)p->n_steps;
    c->first = tic_step_of_year(p, o->start ? (int)o->start : p->start);
    if (c->first < 0)
        return tic_fail(TIC_USER, "--start: no time step of the schedule holds %" PRId64 "; it runs from %d to %d", o->start,
                        tic_year_step(p, 0)->lo, tic_year_step(p, c->n - 1)->hi);
    TicStepSize size;
    TRY(tic_step_size(p, o->batch, o->micro, false, &size));
    c->batch = size.batch;
    c->micro = size.micro;
    c->seed = o->seed >= 0 ? (uint64_t)o->seed : p->seed;
    c->after = tic_program_entry(p, "after") != NULL;
    c->dir = o->name ? tic_format("%s/%s", o->out ? o->out : "results", o->name)
                     : tic_format("%s/%s_%s", o->out ? o->out : "results", tic_text(p, p->model), tic_text(p, p->strategy));
    c->step = tic_alloc((size_t)c->n * sizeof *c->step);
    memset(c->step, 0, (size_t)c->n * sizeof *c->step);
    TicPool *pool = tic_pool_new(1);
    TicModel *m = NULL;
    TicStatus status = tic_model_new(p, c->kernels, &m);
    for (int t = c->first; t < c->n && !status; t++)
        status = plan_step(c, m, pool, t);
    tic_model_free(m);
    tic_pool_free(pool);
    return status;
}

static void print_plan(const Continual *c)
{
    const TicProgram *p = c->program;
    printf("%s, strategy %s: %d time steps into %s\n", tic_text(p, p->model), tic_text(p, p->strategy), c->n - c->first, c->dir);
    printf("step        draws   from\n");
    for (int t = c->first; t < c->n; t++) {
        const Step *s = &c->step[t];
        printf("%-10s %7" PRId64 "   ", s->name, s->steps * s->batch);
        for (int y = 0, more = 0; y < s->n_share; y++) {
            if (s->share[y].share > 0)
                printf("%s%s %.3g %%", more++ ? ", " : "", s->share[y].name, 100 * s->share[y].share);
        }
        printf("; weights %s\n", !s->parent[0] ? "random" : p->init == TIC_STEP_REWIND ? "kept in the step before" : "of the step before");
    }
    fflush(stdout);
}

/* ---- a step */

static TicStatus train_step(Continual *c, int t, int *stopped)
{
    Step *s = &c->step[t];
    TicTrainOptions o = c->o->train;
    char *from = s->parent[0] ? tic_format("%s/%s", c->dir, s->parent) : NULL;
    o.out = c->dir;
    o.name = s->folder;
    o.start = s->years->hi;
    o.steps = s->steps;
    o.batch = c->batch;
    o.seed = (int64_t)c->seed;
    o.resume = true;
    char *teacher = t > c->first ? tic_format("%s/%s", c->dir, c->step[t - 1].result) : NULL;
    if (s->parent[0]) {
        o.from = from;
        o.parent = s->parent;
        o.carry = c->program->carry_moments;
    }
    o.teacher = teacher;
    o.keep = c->program->init == TIC_STEP_REWIND ? c->program->keep : 0;
    o.skipped = &s->skipped;
    TicStatus status = tic_train(c->program, c->kernels, &o, stopped);
    free(from);
    free(teacher);
    return status;
}

static TicStatus fill_previous(TicExec *x, const TicModel *previous)
{
    for (int i = 0; i < previous->n_params; i++) {
        char *name = tic_format("previous:%s", tic_text(previous->program, previous->params[i].name));
        float *input = tic_exec_input(x, name);
        free(name);
        if (input)
            memcpy(input, previous->param[i], (size_t)previous->params[i].count * sizeof *input);
    }
    return TIC_OK;
}

/* The strategy's after(w, w_previous). */
static TicStatus update_weights(Continual *c, int t)
{
    Step *s = &c->step[t];
    const TicProgram *p = c->program;
    char *trained = tic_format("%s/%s/checkpoints/epoch_1.pt", c->dir, s->folder), *to = tic_format("%s/%s", c->dir, s->result);
    char *from = tic_format("%s/%s", c->dir, s->parent);
    TicPool *pool = tic_pool_new((int)c->o->train.threads);
    TicModel *m = NULL, *previous = NULL;
    TicExec *x = NULL;
    TicRunState state = { .name = s->folder, .parent = s->parent, .total = s->steps, .batch = c->batch, .micro = c->micro,
                          .year = s->years->hi, .seed = c->seed, .finished = true };
    TicStatus status = tic_model_new(p, c->kernels, &m);
    if (!status)
        status = tic_resume(m, &state, trained);
    if (!status)
        status = tic_model_new(p, c->kernels, &previous);
    if (!status)
        status = tic_load_weights(previous, from);
    if (!status)
        status = tic_exec_open(m, pool, "after", 1, &x);
    if (!status)
        status = fill_previous(x, previous);
    if (!status) {
        tic_exec_run(x);
        status = tic_save(m, &state, to);
    }
    if (x)
        tic_exec_close(x);
    tic_model_free(previous);
    tic_model_free(m);
    tic_pool_free(pool);
    free(trained);
    free(to);
    free(from);
    return status;
}

static TicEvalOptions eval_options(const Continual *c)
{
    const TicTrainOptions *o = &c->o->train;
    return (TicEvalOptions){ .data = o->data, .vocab = o->vocab, .tasks = c->o->tasks, .imagenet_val = c->o->imagenet_val, .batch = 64,
                             .threads = o->threads };
}

static TicStatus evaluate_step(Continual *c, int t)
{
    char *ckpt = tic_format("%s/%s", c->dir, c->step[t].result), *out = tic_format("%s/%s", c->dir, c->step[t].folder);
    TicEvalOptions e = eval_options(c);
    e.ckpt = ckpt;
    e.out = out;
    TicStatus status = tic_evaluate(c->program, c->kernels, &e);
    free(ckpt);
    free(out);
    return status;
}

/* What the mark of a finished evaluation says: the checkpoint, and the hash of its bytes. Caller frees. */
static TicStatus mark_text(const Continual *c, const Step *s, char **text)
{
    char *ckpt = tic_format("%s/%s", c->dir, s->result);
    uint64_t hash = 0;
    TicStatus status = tic_hash_file(ckpt, &hash);
    *text = status ? NULL : tic_format("%s %016" PRIx64 "\n", s->result, hash);
    free(ckpt);
    return status;
}

/* The state a step is in, from its files. A mark that names another checkpoint than the one that is there counts for nothing. */
static State state_of(const Continual *c, const Step *s)
{
    char *latest = tic_format("%s/checkpoints/epoch_latest.pt", s->folder), *mark = tic_format("%s/%s/evaluated", c->dir, s->folder);
    char *says = NULL, *wanted = NULL;
    size_t size;
    State state = exists(c, s->result) ? TRAINED : exists(c, latest) ? TRAINING : PLANNED;
    if (state == TRAINED && access(mark, F_OK) == 0 && !tic_read_file(mark, 4096, &says, &size) && !mark_text(c, s, &wanted)
        && !strcmp(says, wanted))
        state = EVALUATED;
    tic_error_clear();           /* an unreadable mark is none */
    free(latest);
    free(mark);
    free(says);
    free(wanted);
    return state;
}

/* A step that this call's --fork takes over as it is: from then on lineage.json vouches for it. */
static void note_fork(const Continual *c, Step *s, const char *by)
{
    char hash[20];
    char *differs = changed_step(s);
    snprintf(hash, sizeof hash, "%016" PRIx64, c->program->hash);
    if (s->state >= TRAINED && (strcmp(by, hash) || *differs))
        snprintf(s->forked, sizeof s->forked, "%s", by);
    free(differs);
}

/* A finished checkpoint must be there, and be of this program, or of the one that a --fork took over; it knows how many samples
 * were skipped. */
static TicStatus check_result(Continual *c, Step *s)
{
    char *path = tic_format("%s/%s", c->dir, s->result), hash[20], by[20];
    TicStatus status = TIC_OK;
    snprintf(hash, sizeof hash, "%016" PRIx64, c->program->hash);
    if (s->forked[0])
        snprintf(hash, sizeof hash, "%s", s->forked);
    if (access(path, F_OK)) {
        if (s->recorded && !c->o->fork)
            status = tic_fail(TIC_USER, "%s: the checkpoint of step %s is missing, and lineage.json calls the step done; put it back, or "
                              "--fork trains the step again", path, s->name);
    } else if (!(status = tic_read_facts(path, by, &s->skipped))) {
        if (c->o->fork)
            note_fork(c, s, by);
        else if (strcmp(by, hash))
            status = tic_fail(TIC_USER, "%s: found a checkpoint of %s%s, wanted one of %s program, %s; --fork goes on with it", path,
                              *by ? "program " : "another maker", by, s->forked[0] ? "the forked" : "this", hash);
    }
    free(path);
    return status;
}

static TicStatus mark_evaluated(const Continual *c, const Step *s)
{
    char *mark = tic_format("%s/%s/evaluated", c->dir, s->folder), *text;
    TicStatus status = mark_text(c, s, &text);
    if (!status)
        status = tic_write_file(mark, text, strlen(text));
    free(mark);
    free(text);
    return status;
}

static TicStatus run_step(Continual *c, int t, int *stopped)
{
    Step *s = &c->step[t];
    char *trained = tic_format("%s/checkpoints/epoch_1.pt", s->folder);
    bool done = exists(c, trained);
    free(trained);
    if (s->state == EVALUATED || (s->state == TRAINED && c->o->no_eval)) {
        printf("step %s: done\n", s->name);
        return TIC_OK;
    }
    if (!done) {
        printf("step %s: training\n", s->name);
        fflush(stdout);
        s->state = TRAINING;
        TRY(write_lineage(c));
        TRY(train_step(c, t, stopped));
        if (*stopped)
            return TIC_OK;
    }
    if (!exists(c, s->result))
        TRY(update_weights(c, t));
    s->state = TRAINED;
    TRY(write_lineage(c));
    if (c->o->no_eval)
        return TIC_OK;
    TRY(evaluate_step(c, t));
    TRY(mark_evaluated(c, s));
    s->state = EVALUATED;
    return write_lineage(c);
}

TicStatus tic_continual(const TicProgram *p, const TicKernel *kernels, const TicContinualOptions *o, int *stopped)
{
    Continual c = { .program = p, .kernels = kernels, .o = o, .lock = -1 };
    *stopped = 0;
    TicStatus status = plan(&c);
    if (!status)
        status = tic_make_dirs(c.dir);
    if (!status)
        status = tic_lock_folder(c.dir, &c.lock);
    if (!status)
        status = check_lineage(&c);
    if (!status && !o->no_eval) {
        TicEvalOptions e = eval_options(&c);
        status = tic_evaluate_check(p, &e);
    }
    for (int t = c.first; t < c.n && !status; t++) {
        c.step[t].state = state_of(&c, &c.step[t]);
        if (c.step[t].state < TRAINED)
            c.step[t].forked[0] = 0;         /* it will be this program's */
        status = check_result(&c, &c.step[t]);
        if (c.step[t].state >= TRAINED)
            keep_record(&c.step[t]);
    }
    if (!status)
        print_plan(&c);
    if (!status)
        status = keep_source(&c);
    if (!status)
        status = write_lineage(&c);          /* also when there is nothing to do: a forked run may have begun without one */
    for (int t = c.first; t < c.n && !status && !*stopped; t++) {
        status = run_step(&c, t, stopped);
        if (!status)
            status = tic_report_write(&c.dir, 1, c.dir);
    }
    if (!status && !*stopped)
        printf("all %d time steps are done: %s\nreport: %s/report.html\n", c.n - c.first, c.dir, c.dir);
    close_continual(&c);
    return status;
}
