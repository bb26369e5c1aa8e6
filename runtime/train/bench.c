/* bench.c -- see bench.h. The whole step is timed unprofiled; then one more step is timed kernel by kernel for the shares (the
 * clock calls between kernels cost well under a percent). A machine that others share has another peak every second, so what
 * multiply-adds alone reach is sampled between the step's kernels, out of its time: both have the same neighbours. */
#include "train/bench.h"
#include "data/bpe.h"
#include "device/exec.h"
#include "device/machine.h"
#include "device/peak.h"
#include "train/step.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

void tic_bench_data(const TicProgram *p, int64_t first, int64_t n, int64_t step, TicBatch to)
{
    int64_t picture = 3ll * p->image_size * p->image_size;
    uint8_t *planes = tic_alloc((size_t)picture + 15);
    float table[3][256];
    tic_program_pixels(p, table);
    for (int64_t i = 0; i < n && (to.pixels || to.bytes); i++) {
        for (int64_t k = 0; k < picture; k += 16) {
            TicRandom4 r = tic_philox(1, (uint64_t)((first + i) * picture + k), (uint64_t)step);
            memcpy(planes + k, r.v, 16);
        }
        tic_batch_pictures(to, table, planes, 1, p->image_size, i);
    }
    free(planes);
    int64_t vocab = p->vocabulary > 2 ? p->vocabulary : TIC_VOCABULARY;
    for (int64_t i = 0; to.tokens && i < n; i++)
        for (int k = 0; k < p->context; k++) {   /* start, twelve words, end, padding */
            int64_t word = tic_philox(2, (uint64_t)((first + i) * 100 + k), 0).v[0] % (uint64_t)(vocab - 2);
            to.tokens[i * p->context + k] = (int32_t)(k == 0 ? vocab - 2 : k < 13 ? word : k == 13 ? vocab - 1 : 0);
        }
}

/* What the programs of a step in pieces hand each other, "feature:0", "gradient:0", ..: rows of about unit length. Numbers that lie
 * there by chance may be denormal, which takes a multiplication many times as long. */
static void draw_features(TicExec *x, const TicProgram *p, int64_t batch)
{
    const TicEntry *e = tic_exec_entry(x);
    const TicTensor *t = TABLE(p, TicTensor, p->tensors) + e->tensor;
    for (uint32_t i = 0; i < e->n_tensor; i++) {
        const char *name = tic_text(p, t[i].name);
        bool handed = t[i].kind == TIC_INPUT && t[i].dtype == TIC_F32 && (!strncmp(name, "feature:", 8) || !strncmp(name, "gradient:", 9));
        float *value = handed ? tic_exec_input(x, name) : NULL;
        int64_t n = tic_poly(t[i].bytes, batch) / 4;
        for (int64_t k = 0; value && k < n; k++)
            value[k] = (float)((2 * tic_uniform01(tic_philox(2, (uint64_t)k, i).v[0], 0) - 1) * sqrt(3.0 * (double)batch / (double)n));
    }
}

void tic_bench_inputs(TicExec *x, const TicProgram *p, int64_t batch, int64_t step)
{
    tic_bench_data(p, 0, batch, step, tic_exec_batch(x));
    draw_features(x, p, batch);
    double *count = tic_exec_input(x, "step"), *total = tic_exec_input(x, "total");
    if (count)
        *count = (double)step;
    if (total)
        *total = 1000;
}

/* batch: pairs asked for at a time; drawing: seconds that went into drawing them, which are not the step's. A GPU is timed with
 * what the first step has drawn: it is sent all the same, while the step before is at work. */
typedef struct { const TicProgram *program; int64_t batch; bool once; double drawing; } Data;

static TicStatus feed(void *context, TicPlace at, TicBatch to)
{
    Data *d = context;
    double began = tic_now();
    if (!d->once || at.step == 0)
        tic_bench_data(d->program, at.piece * d->batch, d->batch, at.step, to);
    d->drawing += tic_now() - began;
    return TIC_OK;
}

/* Bytes of the tensors a launch is given, each counted once: what it moves when nothing is in a cache. */
static double launch_bytes(const TicProgram *p, const TicEntry *e, const TicLaunch *l, int64_t batch)
{
    const TicTensor *t = TABLE(p, TicTensor, p->tensors) + e->tensor;
    const uint32_t *arg = TABLE(p, uint32_t, p->args) + l->arg;
    double sum = 0;
    for (uint32_t i = 0; i < l->n_arg; i++)
        sum += (double)tic_poly(t[arg[i]].bytes, batch);
    return sum;
}

/* A program of the step, and what its launches took in one run. */
typedef struct { TicExec *x; const TicEntry *e; const char *name; int64_t times, batch; TicTiming *timing; } Part;

/* A line a launch. The roofline is the least time the machine's two peaks allow: FLOPs by peak, bytes by bandwidth. */
static void explain(const TicProgram *p, const Part *part, double peak, double bandwidth, double all, FILE *out)
{
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + part->e->launch;
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    for (uint32_t i = 0; i < part->e->n_launch; i++) {
        double flops = (double)tic_poly(l[i].flops, part->batch), bytes = launch_bytes(p, part->e, &l[i], part->batch);
        double s = part->timing[i].seconds;
        double least = peak > 0 && bandwidth > 0 ? flops / peak > bytes / bandwidth ? flops / peak : bytes / bandwidth : 0;
        fprintf(out, "%4u %-9s %8.3f ms %5.2f %% %10.3f %9.1f %9.2f ", i, tic_text(p, class_name[l[i].cls]), s * 1e3,
                all > 0 ? 100 * s * (double)part->times / all : 0, flops * 1e-9, s > 0 ? flops / s * 1e-9 : 0, bytes * 1e-6);
        if (least > 0 && s > 0)
            fprintf(out, "%6.0f %%", 100 * least / s);
        else
            fprintf(out, "%8s", "");
        fprintf(out, "  %-20s %s\n", tic_text(p, l[i].source), tic_text(p, l[i].label));
    }
}

static void explain_all(const TicProgram *p, const Part *part, int n, double peak, double bandwidth, double all, FILE *out)
{
    if (bandwidth > 0)
        fprintf(out, "memory      %.1f GB/s measured (a copy, bytes read and written)\n", bandwidth * 1e-9);
    fprintf(out, "%4s %-9s %11s %7s %10s %9s %9s %8s  %-20s %s\n", "", "class", "time", "share", "GFLOP", "GFLOP/s", "MB", "roofline",
            "source", "layer");
    for (int i = 0; i < n; i++) {
        if (n > 1)
            fprintf(out, "%s, %lld pairs, %lld times a step\n", part[i].name, (long long)part[i].batch, (long long)part[i].times);
        explain(p, &part[i], peak, bandwidth, all, out);
    }
}

typedef struct {
    double median, flops;                                /* seconds, FLOPs of a step */
    double peak, share, best;                            /* FLOP/s beside that step, its share of it; of the best sample */
    double all, class_seconds[32], class_flops[32];      /* by kernels, of a step */
} Measured;

static void print_json(const TicProgram *p, const Measured *m, TicStepSize size, const char *device, int threads, FILE *out)
{
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    fprintf(out, "{\"batch\": %lld, \"micro\": %lld, \"device\": \"%s\", \"threads\": %d, \"step_ms\": %.3f, \"pairs_per_second\": %.4g, "
            "\"gflops\": %.4g, \"peak_gflops\": %.4g, \"peak_share\": %.4f, \"best_gflops\": %.4g, \"resident_bytes\": %lld, \"classes\": {", (long long)size.batch, (long long)size.micro,
            device, threads, m->median * 1e3, (double)size.batch / m->median, m->flops / m->median * 1e-9, m->peak * 1e-9,
            m->share, m->best * 1e-9, (long long)tic_memory_peak());
    for (uint32_t c = 0, shown = 0; c < p->n_class_names && c < 32; c++)
        if (m->class_seconds[c] > 0)
            fprintf(out, "%s\"%s\": %.4f", shown++ ? ", " : "", tic_text(p, class_name[c]), m->class_seconds[c] / m->all);
    fprintf(out, "}}\n");
}

static void print_text(const TicProgram *p, const Measured *m, TicStepSize size, const char *gpu, int threads, int64_t steps, FILE *out)
{
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    char pieces[64] = "";
    if (size.micro)
        snprintf(pieces, sizeof pieces, " in pieces of %lld", (long long)size.micro);
    if (gpu)
        fprintf(out, "step        %.2f ms at batch %lld%s on %s (median of %lld): %.1f pairs/s\narithmetic  %.2f TFLOP/s\n", m->median * 1e3,
                (long long)size.batch, pieces, gpu, (long long)steps, (double)size.batch / m->median, m->flops / m->median * 1e-12);
    else
        fprintf(out, "step        %.1f ms at batch %lld%s on %d threads (median of %lld): %.2f pairs/s\n"
                "arithmetic  %.1f GFLOP/s; multiply-adds alone, between its kernels, %.1f: %.1f %% of peak (at best %.1f)\n", m->median * 1e3, (long long)size.batch, pieces, threads,
                (long long)steps, (double)size.batch / m->median, m->flops / m->median * 1e-9, m->peak * 1e-9,
                100 * m->share, m->best * 1e-9);
    for (uint32_t c = 0; c < p->n_class_names && c < 32; c++)
        if (m->class_seconds[c] > 0)
            fprintf(out, "  %-12s %8.1f ms  %5.1f %%  %7.1f GFLOP/s\n", tic_text(p, class_name[c]), m->class_seconds[c] * 1e3,
                    100 * m->class_seconds[c] / m->all, m->class_flops[c] / m->class_seconds[c] * 1e-9);
}

/* Samples of the peak in the step or run under way, and the best of all. */
typedef struct Beside { TicPool *pool; double last, seconds, flops, best; } Beside;

static void sample(void *context)
{
    enum { SAMPLES_PER_SECOND = 6 };
    Beside *b = context;
    double t = tic_now();
    if (b->last && t < b->last + 1.0 / SAMPLES_PER_SECOND)
        return;
    double flops = tic_peak_round(b->pool);
    b->last = tic_now();
    b->flops += flops;
    b->seconds += b->last - t;
    if (flops > b->best * (b->last - t))
        b->best = flops / (b->last - t);
}

/* Steps from the second on: how long each took, and the peak beside it. */
typedef struct Time { double seconds, peak; } Time;
typedef struct Times { Time *step; int64_t n; } Times;

static int by_seconds(const void *a, const void *b)
{
    double x = ((const Time *)a)->seconds, y = ((const Time *)b)->seconds;
    return x < y ? -1 : x > y;
}

static Times times_new(int64_t n) { return (Times){ tic_alloc((size_t)n * sizeof(Time)), 0 }; }

static void times_add(Times *t, double seconds, Beside *b)
{
    t->step[t->n++] = (Time){ seconds - b->seconds, b->seconds > 0 ? b->flops / b->seconds : 0 };
    *b = (Beside){ .pool = b->pool, .best = b->best };
}

/* The peak is that of the step whose time is the median: another second's would say nothing of it. */
static void times_end(Times *t, const Beside *b, Measured *m)
{
    qsort(t->step, (size_t)t->n, sizeof *t->step, by_seconds);
    Time middle = t->step[(t->n - 1) / 2];
    m->median = middle.seconds;
    m->peak = middle.peak;
    m->share = middle.peak > 0 ? m->flops / middle.seconds / middle.peak : 0;
    m->best = b->best;
}

static void times_free(Times *t) { free(t->step); }

/* Whole steps; the first one warms up. */
static TicStatus time_steps(const TicProgram *p, TicStep *step, const Part *part, int n_part, TicPool *pool, TicStepSize size, int64_t steps, Measured *m)
{
    Times times = times_new(steps);
    Beside beside = { .pool = pool };
    Data d = { p, size.micro ? size.micro : size.batch, tic_step_device(step), 0 };
    TicStatus status = TIC_OK;
    for (int64_t s = 0; s <= steps && !status; s++) {
        for (int i = 0; s == 1 && i < n_part; i++)
            tic_exec_between(part[i].x, sample, &beside);
        d.drawing = 0;
        tic_step_set(step, "step", (double)s);
        double t = tic_now(), loss;
        status = tic_step_gradient(step, s, true, feed, &d, &loss);
        if (!status)
            status = tic_step_update(step);
        tic_step_scalar(step, "lr", 0);          /* a GPU has done it when its last output is here */
        if (s)
            times_add(&times, tic_now() - t - d.drawing, &beside);
    }
    if (!status)
        times_end(&times, &beside, m);
    times_free(&times);
    return status;
}

/* Each program once, kernel by kernel. */
static TicStatus time_kernels(const TicProgram *p, const Part *part, int n, Measured *m)
{
    for (int k = 0; k < n; k++) {
        const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + part[k].e->launch;
        tic_bench_inputs(part[k].x, p, part[k].batch, 0);
        tic_exec_run_timed(part[k].x, part[k].timing);
        TRY(tic_exec_status(part[k].x));
        for (uint32_t i = 0; i < part[k].e->n_launch; i++) {
            double s = part[k].timing[i].seconds * (double)part[k].times;
            m->all += s;
            m->class_seconds[l[i].cls % 32] += s;
            m->class_flops[l[i].cls % 32] += (double)tic_poly(l[i].flops, part[k].batch) * (double)part[k].times;
        }
    }
    return TIC_OK;
}

/* A program that is not a step, as often. */
static TicStatus time_tower(const TicProgram *p, const Part *part, TicPool *pool, int64_t steps, Measured *m)
{
    Times times = times_new(steps);
    Beside beside = { .pool = pool };
    const TicOutput *result = TABLE(p, TicOutput, p->outputs) + part->e->output;
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + part->e->launch;
    for (int64_t s = 0; s <= steps; s++) {
        if (s == 1)
            tic_exec_between(part->x, sample, &beside);
        tic_bench_inputs(part->x, p, part->batch, s);
        double t = tic_now();
        tic_exec_run(part->x);
        tic_exec_output(part->x, tic_text(p, result->name), NULL);     /* a GPU has done it when its result is here */
        if (s)
            times_add(&times, tic_now() - t, &beside);
    }
    for (uint32_t i = 0; i < part->e->n_launch; i++)
        m->flops += (double)tic_poly(l[i].flops, part->batch);
    times_end(&times, &beside, m);
    times_free(&times);
    return tic_exec_status(part->x);
}

static TicStatus bench(const TicProgram *p, TicModel *m, TicPool *pool, const TicBenchOptions *o, TicStepSize size, TicStep *step, TicExec *tower,
                       FILE *out)
{
    enum { MOST_PARTS = 8 };
    const char *gpu = tower ? tic_exec_device(tower) : tic_step_device(step);
    Part part[MOST_PARTS] = { { .x = tower, .name = o->entry, .times = 1, .batch = size.batch } };
    int n = tower != NULL, threads = tic_pool_threads(pool);
    Measured got = { .flops = tower ? 0 : tic_step_flops(p, size) };
    tic_model_init(m, pool, 0);
    for (; !tower && n < MOST_PARTS && (part[n].x = tic_step_part(step, n, &part[n].name, &part[n].times, &part[n].batch)); n++) {}
    for (int i = 0; i < n; i++) {
        part[i].e = tic_exec_entry(part[i].x);
        part[i].timing = tic_alloc((part[i].e->n_launch + 1) * sizeof *part[i].timing);
    }
    TicStatus status = tower ? time_tower(p, part, pool, o->steps, &got) : time_steps(p, step, part, n, pool, size, o->steps, &got);
    if (!status)
        status = time_kernels(p, part, n, &got);
    if (!status && o->json)
        print_json(p, &got, size, gpu ? gpu : "cpu", threads, out);
    else if (!status)
        print_text(p, &got, size, gpu, threads, o->steps, out);
    if (!status && o->explain && !o->json)
        explain_all(p, part, n, got.peak, gpu ? 0 : tic_peak_bytes(pool), got.all, out);
    for (int i = 0; i < n; i++)
        free(part[i].timing);
    return status;
}

TicStatus tic_bench(const TicProgram *p, const TicKernel *kernels, const TicBenchOptions *o, FILE *out)
{
    TicModel *m;
    TicStep *step = NULL;
    TicExec *tower = NULL;
    TicStepSize size = { .batch = o->batch ? o->batch : p->batch };
    bool whole = !strcmp(o->entry, "step");
    if (!whole && ((strcmp(o->entry, "image") && strcmp(o->entry, "text")) || !tic_program_entry(p, o->entry)))
        return tic_fail(TIC_USER, "--entry: found `%s`, wanted step, image or text", o->entry);
    if (whole)
        TRY(tic_step_size(p, o->batch, o->micro, false, &size));
    TRY(tic_model_new(p, kernels, &m));
    TicPool *pool = tic_pool_new((int)o->threads);
    TicStatus status = whole ? tic_step_open(m, pool, size, &step) : tic_exec_open(m, pool, o->entry, size.batch, &tower);
    if (!status)
        status = bench(p, m, pool, o, size, step, tower, out);
    tic_step_close(step);
    tic_exec_close(tower);
    tic_pool_free(pool);
    tic_model_free(m);
    return status;
}
