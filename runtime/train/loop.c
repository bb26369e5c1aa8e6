/* loop.c -- see loop.h.
 *
 * A step is: wait for the batch that (seed, step) names, run forward and backward, look at the loss, run the update; a GPU is
 * sent the next batch meanwhile. The
 * update is a half of its own so that a loss that is not a number ends the run with the parameters still good. A signal lets
 * the step end; but one in pieces, which may take an hour, is given up between two of them: it has changed nothing yet that
 * is saved. Everything
 * that must survive a kill is in the checkpoint: parameters, both moments, the number of steps; data order, crops and
 * learning rate follow from that number. */
#define _GNU_SOURCE
#include "train/loop.h"
#include "device/machine.h"
#include "train/files.h"
#include "train/info.h"
#include "train/report.h"
#include "train/schedule.h"
#include "train/source.h"
#include "train/step.h"
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { SAVE_EVERY = 500 };       /* steps between checkpoints, where nothing is said */

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    static const char text[] = "\nstopping with a checkpoint; once more stops at once\n";
    if (caught)
        _exit(128 + number);             /* the last checkpoint stands */
    caught = number;
    ssize_t n = write(STDERR_FILENO, text, sizeof text - 1);
    (void)n;
}

typedef struct {
    const TicProgram *program;
    const TicTrainOptions *o;
    TicPool *pool;
    TicModel *model;
    TicStep *step;
    TicSource *source;
    TicReport *report;
    TicRunState state;
    char *dir, *checkpoints, *latest;
    int lock;
    TicStepSize size;
    int64_t batch, total, skipped[TIC_SKIP_REASONS];     /* skipped: before this process began */
    int64_t with_step[TIC_SKIP_REASONS];                 /* with those of the step in work, which counts when it is done */
    bool ahead;                                          /* the next step's data has been asked for, and is not counted yet */
    bool starved;                                        /* the data of a step could not be had */
    double waited;                                       /* for data, in this step */
    bool gpu;                                            /* steps will run on a GPU */
} Run;

static void close_run(Run *r)
{
    tic_report_close(r->report);
    tic_source_close(r->source);
    tic_step_close(r->step);
    tic_model_free(r->model);
    tic_pool_free(r->pool);
    tic_unlock_folder(r->lock);
    free(r->dir);
    free(r->checkpoints);
    free(r->latest);
}

/* When all of a step's data is there, and nothing of the next one's. */
static void count_skipped(Run *r)
{
    if (r->ahead)
        return;
    memcpy(r->with_step, r->skipped, sizeof r->skipped);
    tic_source_skipped(r->source, r->with_step);
}

/* A gradient that overflowed shows in the parameters before it shows in a loss: they are looked at before they replace
 * a checkpoint that was good. */
static TicStatus save(Run *r, const char *name)
{
    const char *bad = tic_model_not_finite(r->model);
    if (bad)
        return tic_fail(TIC_USER, "step %lld: parameter %s is not finite after the update. Nothing was saved after step %lld; a lower "
                        "learning rate or `clip_norm` in the train block may help", (long long)r->state.step, bad, (long long)r->state.saved);
    TRY(tic_report_sync(r->report));
    char *path = tic_format("%s/%s", r->checkpoints, name);
    r->state.finished = r->state.step >= r->total;
    TicStatus status = tic_save(r->model, &r->state, path);
    free(path);
    return status;
}

/* Weights, and for --resume everything else too. */
static TicStatus first_state(Run *r)
{
    const TicTrainOptions *o = r->o;
    bool there = access(r->latest, F_OK) == 0;
    if (!o->resume && there)
        return tic_fail(TIC_USER, "%s already holds a run: --resume goes on with it, another --name or --out begins anew", r->dir);
    if (o->resume && there) {
        TRY(tic_resume(r->model, &r->state, r->latest));
        memcpy(r->skipped, r->state.skipped, sizeof r->skipped);
        if (r->state.step < r->total)
            tic_report_say(NULL, "resuming after step %lld of %lld", (long long)r->state.step, (long long)r->total);
        return TIC_OK;
    }
    tic_model_init(r->model, r->pool, r->state.seed);
    if (o->from && o->carry)
        return tic_load_moments(r->model, o->from, &r->state.carried);
    return o->from ? tic_load_weights(r->model, o->from) : TIC_OK;
}

/* The teacher's parameters are inputs of the step. */
static TicStatus load_teacher(Run *r, const TicKernel *kernels)
{
    TicModel *m;
    TRY(tic_model_new(r->program, kernels, &m));
    TicStatus status = tic_load_weights(m, r->o->teacher);
    for (int i = 0; i < m->n_params && !status; i++) {
        char *name = tic_format("teacher:%s", tic_text(r->program, m->params[i].name));
        tic_step_give(r->step, name, m->param[i], m->params[i].count);
        free(name);
    }
    tic_model_free(m);
    return status;
}

static double gigabytes(int64_t bytes) { return (double)bytes * 1e-9; }

static bool distills(const Run *r) { return r->o->teacher && tic_program_entry(r->program, "distill"); }

typedef struct { int64_t fixed, working, data; } Memory;

/* The host's. Next to a GPU it has a copy of the model, the data and what is kept between passes; what the GPU has no room for, its
 * driver says before the first step. */
static Memory planned(const Run *r)
{
    const TicProgram *p = r->program;
    return (Memory){ .fixed = tic_model_bytes(p),
                     .working = r->gpu ? tic_step_kept_bytes(p, r->size) : tic_step_bytes(p, r->size, TIC_CPU),
                     .data = tic_loader_bytes(r->size.micro ? r->size.micro : r->batch, p->image_size, p->context, 0) };
}

static int64_t total(Memory m) { return m.fixed + m.working + m.data; }

/* Before anything is allocated: the system would give the pages and kill the process when it fills them. */
static TicStatus enough_memory(const Run *r)
{
    Memory m = planned(r);
    int64_t available = tic_memory_available();
    if (total(m) <= available)
        return TIC_OK;
    return tic_fail(TIC_USER, "a batch of %lld needs %.2f GB (parameters and optimiser %.2f, activations and gradients %.2f, prepared data "
                    "%.2f), and %.2f GB are free; a smaller --%s needs less", (long long)r->batch, gigabytes(total(m)),
                    gigabytes(m.fixed), gigabytes(m.working), gigabytes(m.data), gigabytes(available), r->size.micro ? "micro" : "batch");
}

/* A disk that fills at the end costs the whole run. A checkpoint is written beside the one that it replaces. */
static TicStatus enough_space(const Run *r)
{
    struct statvfs disk;
    bool first = r->state.step == 0 && access(r->latest, F_OK);
    int64_t save_every = r->o->save_every ? r->o->save_every : SAVE_EVERY;
    int64_t files = 2 + (first && save_every < r->total) + (r->o->keep > 0), each = tic_model_bytes(r->program);
    if (statvfs(r->checkpoints, &disk) || !disk.f_blocks)        /* not all systems say */
        return TIC_OK;
    double room = (double)disk.f_bavail * (double)disk.f_frsize;
    if (room >= (double)(files * each))
        return TIC_OK;
    return tic_fail(TIC_USER, "%s: %.2f GB are free, and the checkpoints of this run need %.2f (%lld of %.2f)", r->checkpoints, room * 1e-9,
                    gigabytes(files * each), (long long)files, gigabytes(each));
}

static TicStatus open_run(Run *r, const TicKernel *kernels)
{
    const TicProgram *p = r->program;
    const TicTrainOptions *o = r->o;
    if (!o->data)
        return tic_fail(TIC_USER, "--data: no pool given; `ticdata synth --out DIR` draws a small one to try");
    TRY(tic_step_size(p, o->batch, o->micro, distills(r), &r->size));
    r->batch = r->size.batch;
    int64_t year = o->start ? o->start : p->start;
    r->dir = o->name ? tic_format("%s/%s", o->out ? o->out : "results", o->name)
                     : tic_format("%s/%s_%lld", o->out ? o->out : "results", tic_text(p, p->model), (long long)year);
    r->checkpoints = tic_format("%s/checkpoints", r->dir);
    r->latest = tic_format("%s/epoch_latest.pt", r->checkpoints);
    r->state = (TicRunState){ .name = o->name ? o->name : strrchr(r->dir, '/') + 1, .seed = o->seed >= 0 ? (uint64_t)o->seed : p->seed,
                              .parent = o->parent ? o->parent : o->from, .batch = r->batch, .micro = r->size.micro,
                              .year = year };
    TRY(tic_step_on_gpu(p, r->size, &r->gpu));
    TRY(enough_memory(r));
    r->pool = tic_pool_new((int)o->threads);
    TRY(tic_model_new(p, kernels, &r->model));
    TicSourceOptions so = { .data = o->data, .vocab = o->vocab, .year = (int)year, .batch = (int)r->batch, .micro = (int)r->size.micro,
                            .seed = r->state.seed,
                            .loaders = o->loaders || !r->gpu ? (int)o->loaders : tic_processors(0) };     /* nothing else wants them there */
    TRY(tic_source_open(r->model, r->pool, &so, &r->source));
    int64_t pairs = tic_source_pairs(r->source);
    r->total = r->state.total = o->steps ? o->steps : pairs / r->batch;
    if (r->total < 1)
        return tic_fail(TIC_USER, "a batch of %lld is more than the %lld pairs of a time step; a smaller --batch or --steps N is wanted",
                        (long long)r->batch, (long long)pairs);
    r->state.data_digest = tic_source_digest(r->source);
    TRY(tic_make_dirs(r->checkpoints));
    TRY(tic_lock_folder(r->dir, &r->lock));
    TRY(first_state(r));
    if (r->state.step >= r->total)
        return TIC_OK;
    TRY(enough_space(r));
    TRY(tic_step_open(r->model, r->pool, r->size, &r->step));
    r->gpu = tic_step_device(r->step);                   /* not where the GPU has no room */
    if (distills(r))
        TRY(load_teacher(r, kernels));
    TicReportOptions ro = { .dir = r->dir, .from_step = r->state.step, .batch = r->batch,
                            .log_every = o->log_every ? o->log_every : r->total < 2000 ? (r->total + 19) / 20 : 100 };
    return tic_report_open(&ro, &r->report);
}

static TicStatus feed(void *context, TicPlace at, TicBatch to)
{
    Run *r = context;
    double began = tic_now();
    if (caught && r->size.micro)
        return TIC_END;
    if (at.step > r->state.step) {
        count_skipped(r);
        r->ahead = true;
    }
    TicStatus status = tic_source_piece(r->source, at.step, at.pass, at.piece, to);
    r->starved = r->starved || status;
    r->waited += tic_step_busy(r->step) ? 0 : tic_now() - began;         /* nobody waits while a GPU has something to do */
    return status;
}

static TicStatus not_a_number(Run *r, double loss)
{
    char what[512];
    tic_step_find_not_finite(r->step, r->state.step, feed, r, what, sizeof what);
    return tic_fail(TIC_USER, "step %lld: the loss is %g; %s. Nothing was saved after step %lld; a lower learning rate or `clip_norm` in the train block may help",
                    (long long)r->state.step + 1, loss, what, (long long)r->state.saved);
}

static TicStatus train(Run *r)
{
    const TicTrainOptions *o = r->o;
    int64_t save_every = o->save_every ? o->save_every : SAVE_EVERY;
    int t_index = tic_step_of_year(r->program, (int)r->state.year);
    int64_t keep_at = r->o->keep > 0 ? (int64_t)fmax(1, r->o->keep * (double)r->total + 0.5) : 0;
    r->state.saved = r->state.step;
    while (r->state.step < r->total && !caught) {
        double began = tic_now(), loss;
        r->waited = 0;
        r->ahead = false;
        tic_step_set(r->step, "step", (double)r->state.step);
        tic_step_set(r->step, "total", (double)r->total);
        tic_step_set(r->step, "updates", (double)(r->state.carried + r->state.step));
        tic_step_set(r->step, "t", t_index < 0 ? 0 : t_index);
        TicStatus status = tic_step_gradient(r->step, r->state.step, r->state.step + 1 < r->total, feed, r, &loss);
        if (status == TIC_END)
            break;
        TRY(status);
        if (!isfinite(loss))
            return not_a_number(r, loss);
        TRY(tic_step_update(r->step));
        count_skipped(r);
        memcpy(r->state.skipped, r->with_step, sizeof r->with_step);
        r->state.step++;
        r->state.lr = tic_step_scalar(r->step, "lr", 0);
        TicProgress now = { .step = r->state.step, .total = r->total, .loss = loss, .lr = r->state.lr,
                            .logit_scale = tic_step_scalar(r->step, "logit_scale", 0), .seconds = tic_now() - began, .waited = r->waited };
        TRY(tic_report_step(r->report, &now));
        if (r->state.step == keep_at)
            TRY(save(r, "epoch_1_rewind.pt"));
        if (r->state.step % save_every == 0 && r->state.step < r->total) {
            TRY(save(r, "epoch_latest.pt"));
            r->state.saved = r->state.step;
        }
    }
    return TIC_OK;
}

/* A shard that went away costs no step that was done before: all are in the parameters, and none of the one that wanted it. */
static TicStatus save_starved(Run *r, TicStatus status)
{
    char *why = tic_strdup(tic_error());
    tic_error_clear();
    if (save(r, "epoch_latest.pt")) {
        tic_error_clear();
        tic_fail(status, "%s", why);
    } else {
        tic_fail(status, "%s; the run is saved after step %lld, and --resume goes on from there", why, (long long)r->state.step);
    }
    free(why);
    return status;
}

/* What was skipped, by reason, when anything was. Damaged shards are counted where they are met, so only for this process. */
static void summary(Run *r)
{
    int64_t all = 0, damaged = tic_source_damaged(r->source);
    char text[512] = "";
    for (int i = 0; i < TIC_SKIP_REASONS; i++) {
        if (r->state.skipped[i])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld %s", all ? ", " : "", (long long)r->state.skipped[i],
                     tic_skip_name((TicSkip)i));
        all += r->state.skipped[i];
    }
    if (all)
        tic_report_say(r->report, "skipped and replaced %lld of %lld samples drawn: %s", (long long)all,
                       (long long)(all + r->state.step * r->batch), text);
    if (damaged)
        tic_report_say(NULL, "damaged shards: %lld", (long long)damaged);
    if (r->o->skipped)
        *r->o->skipped = all;
}

TicStatus tic_train(const TicProgram *p, const TicKernel *kernels, const TicTrainOptions *o, int *stopped)
{
    Run run = { .program = p, .o = o, .lock = -1 }, *r = &run;
    struct sigaction act = { .sa_handler = on_signal }, old_int, old_term;
    sigaction(SIGINT, &act, &old_int);
    sigaction(SIGTERM, &act, &old_term);
    *stopped = 0;
    TicStatus status = tic_captions_fit(p);
    if (!status)
        status = open_run(r, kernels);
    if (!status && r->state.step >= r->total) {
        tic_report_say(NULL, "nothing to do: %s has %lld of %lld steps", r->latest, (long long)r->state.step, (long long)r->total);
        summary(r);
    } else if (!status) {
        TicReport *head = r->state.step ? NULL : r->report;      /* a resumed run's log has it already */
        int64_t memory = r->gpu ? tic_model_bytes(p) + tic_step_bytes(p, r->size, TIC_CUDA) : total(planned(r));
        tic_report_say(head, "%s: %lld steps of %lld pairs, %lld parameters, %.2f GB%s%s, %d threads", tic_text(p, p->model),
                       (long long)r->total, (long long)r->batch, (long long)tic_model_count(r->model), gigabytes(memory),
                       r->gpu ? " of " : "", r->gpu ? tic_step_device(r->step) : "", tic_pool_threads(r->pool));
        if (r->size.micro)
            tic_report_say(head, "each step in %lld pieces of %lld pairs", (long long)(r->batch / r->size.micro), (long long)r->size.micro);
        tic_source_describe(r->source, head);
        status = train(r);
        if (status && r->starved && r->state.step > r->state.saved)
            status = save_starved(r, status);
        if (!status && r->state.step >= r->total)
            status = save(r, "epoch_1.pt");
        if (!status)
            status = save(r, "epoch_latest.pt");
        summary(r);
        if (!status && r->state.step < r->total) {
            *stopped = (int)caught;
            tic_report_say(r->report, "stopped by a signal after step %lld and saved; --resume goes on", (long long)r->state.step);
        }
        if (!status) {
            tic_report_say(r->report, "checkpoint: %s", r->latest);
            tic_report_say(r->report, "log: %s/metrics.jsonl", r->dir);
            if (r->gpu)                  /* libraries of the driver take as much as the rest there */
                tic_report_say(NULL, "memory of the host: %.0f MB at most", (double)tic_memory_peak() * 1e-6);
            else
                tic_report_say(NULL, "memory: %.0f MB at most, %.0f planned", (double)tic_memory_peak() * 1e-6, (double)total(planned(r)) * 1e-6);
        }
    }
    close_run(r);
    sigaction(SIGINT, &old_int, NULL);
    sigaction(SIGTERM, &old_term, NULL);
    return status;
}
