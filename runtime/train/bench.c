/* bench.c -- see bench.h. The whole step is timed unprofiled, with the machine's peak measured after each (a machine that
 * others share has another peak every second; medians are compared); then one more step is timed kernel by kernel for the
 * shares (the clock calls between kernels cost well under a percent). */
#include "train/bench.h"
#include "data/bpe.h"
#include "device/exec.h"
#include "device/peak.h"
#include <stdlib.h>
#include <string.h>

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

void tic_bench_inputs(TicExec *x, const TicProgram *p, int64_t batch, int64_t step)
{
    float *pixels = tic_exec_input(x, "pixels");
    int32_t *tokens = tic_exec_input(x, "tokens");
    int64_t n = batch * 3 * p->image_size * p->image_size;
    for (int64_t i = 0; pixels && i < n; i += 4) {
        TicRandom4 r = tic_philox(1, (uint64_t)i, (uint64_t)step);
        for (int64_t k = i; k < n && k < i + 4; k++)
            pixels[k] = (float)(4 * tic_uniform01(r.v[k - i], 0) - 2);
    }
    int64_t vocab = p->vocabulary > 2 ? p->vocabulary : TIC_VOCABULARY;
    for (int64_t i = 0; tokens && i < batch; i++)
        for (int k = 0; k < p->context; k++) {   /* start, twelve words, end, padding */
            int64_t word = tic_philox(2, (uint64_t)(i * 100 + k), 0).v[0] % (uint64_t)(vocab - 2);
            tokens[i * p->context + k] = (int32_t)(k == 0 ? vocab - 2 : k < 13 ? word : k == 13 ? vocab - 1 : 0);
        }
    double *count = tic_exec_input(x, "step"), *total = tic_exec_input(x, "total");
    if (count)
        *count = (double)step;
    if (total)
        *total = 1000;
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

/* A line a launch. The roofline is the least time the machine's two peaks allow: FLOPs by peak, bytes by bandwidth. */
static void explain(const TicProgram *p, const TicEntry *e, const TicTiming *timing, int64_t batch, double peak, double bandwidth,
                    double all, FILE *out)
{
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + e->launch;
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    if (bandwidth > 0)
        fprintf(out, "memory      %.1f GB/s measured (a copy, bytes read and written)\n", bandwidth * 1e-9);
    fprintf(out, "%4s %-9s %11s %7s %10s %9s %9s %8s  %-20s %s\n", "", "class", "time", "share", "GFLOP", "GFLOP/s", "MB", "roofline",
            "source", "layer");
    for (uint32_t i = 0; i < e->n_launch; i++) {
        double flops = (double)tic_poly(l[i].flops, batch), bytes = launch_bytes(p, e, &l[i], batch), s = timing[i].seconds;
        double least = peak > 0 && bandwidth > 0 ? flops / peak > bytes / bandwidth ? flops / peak : bytes / bandwidth : 0;
        fprintf(out, "%4u %-9s %8.3f ms %5.2f %% %10.3f %9.1f %9.2f ", i, tic_text(p, class_name[l[i].cls]), s * 1e3,
                all > 0 ? 100 * s / all : 0, flops * 1e-9, s > 0 ? flops / s * 1e-9 : 0, bytes * 1e-6);
        if (least > 0 && s > 0)
            fprintf(out, "%6.0f %%", 100 * least / s);
        else
            fprintf(out, "%8s", "");
        fprintf(out, "  %-20s %s\n", tic_text(p, l[i].source), tic_text(p, l[i].label));
    }
}

TicStatus tic_bench(const TicProgram *p, const TicKernel *kernels, const TicBenchOptions *o, FILE *out)
{
    TicModel *m;
    TicExec *x = NULL;
    int64_t batch = o->batch ? o->batch : p->batch;
    TRY(tic_model_new(p, kernels, &m));
    TicPool *pool = tic_pool_new((int)o->threads);
    TicStatus status = tic_exec_open(m, pool, "step", batch, &x);
    if (status) {
        tic_pool_free(pool);
        tic_model_free(m);
        return status;
    }
    const TicEntry *e = tic_exec_entry(x);
    const char *gpu = tic_exec_device(x);
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + e->launch;
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    TicTiming *timing = tic_alloc((e->n_launch + 1) * sizeof *timing);
    double *seconds = tic_alloc((size_t)(o->steps + 1) * sizeof *seconds), flops = 0;
    double *peaks = tic_alloc((size_t)(o->steps + 1) * sizeof *peaks);
    tic_model_init(m, pool, 0);
    for (int64_t s = 0; s <= o->steps; s++) {        /* the first one warms up */
        tic_bench_inputs(x, p, batch, s);
        double t = tic_now();
        tic_exec_run(x);
        tic_exec_scalar(x, "loss", 0);           /* a GPU has done it when its loss is here */
        seconds[s] = tic_now() - t;
        peaks[s] = gpu ? 0 : tic_peak_f32(pool);
    }
    qsort(seconds + 1, (size_t)o->steps, sizeof *seconds, by_value);
    qsort(peaks, (size_t)o->steps + 1, sizeof *peaks, by_value);
    double median = seconds[1 + (o->steps - 1) / 2], peak = peaks[(o->steps + 1) / 2];
    for (uint32_t i = 0; i < e->n_launch; i++)
        flops += (double)tic_poly(l[i].flops, batch);
    tic_bench_inputs(x, p, batch, o->steps + 1);
    tic_exec_run_timed(x, timing);
    if ((status = tic_exec_status(x)))
        goto out;

    double all = 0, class_seconds[32] = { 0 }, class_flops[32] = { 0 };
    for (uint32_t i = 0; i < e->n_launch; i++) {
        all += timing[i].seconds;
        class_seconds[l[i].cls % 32] += timing[i].seconds;
        class_flops[l[i].cls % 32] += (double)tic_poly(l[i].flops, batch);
    }
    double share = peak > 0 ? flops / median / peak : 0;
    if (o->json) {
        fprintf(out, "{\"batch\": %lld, \"device\": \"%s\", \"threads\": %d, \"step_ms\": %.3f, \"pairs_per_second\": %.4g, \"gflops\": %.4g, "
                "\"peak_gflops\": %.4g, \"peak_share\": %.4f, \"classes\": {", (long long)batch, gpu ? gpu : "cpu", tic_pool_threads(pool), median * 1e3,
                (double)batch / median, flops / median * 1e-9, peak * 1e-9, share);
        for (uint32_t c = 0, shown = 0; c < p->n_class_names && c < 32; c++)
            if (class_seconds[c] > 0)
                fprintf(out, "%s\"%s\": %.4f", shown++ ? ", " : "", tic_text(p, class_name[c]), class_seconds[c] / all);
        fprintf(out, "}}\n");
    } else {
        if (gpu)
            fprintf(out, "step        %.2f ms at batch %lld on %s (median of %lld): %.1f pairs/s\narithmetic  %.2f TFLOP/s\n", median * 1e3,
                    (long long)batch, gpu, (long long)o->steps, (double)batch / median, flops / median * 1e-12);
        else
            fprintf(out, "step        %.1f ms at batch %lld on %d threads (median of %lld): %.2f pairs/s\n"
                    "arithmetic  %.1f GFLOP/s of %.1f measured: %.1f %% of peak\n", median * 1e3, (long long)batch, tic_pool_threads(pool),
                    (long long)o->steps, (double)batch / median, flops / median * 1e-9, peak * 1e-9, 100 * share);
        for (uint32_t c = 0; c < p->n_class_names && c < 32; c++)
            if (class_seconds[c] > 0)
                fprintf(out, "  %-12s %8.1f ms  %5.1f %%  %7.1f GFLOP/s\n", tic_text(p, class_name[c]), class_seconds[c] * 1e3,
                        100 * class_seconds[c] / all, class_flops[c] / class_seconds[c] * 1e-9);
    }
    if (o->explain && !o->json)
        explain(p, e, timing, batch, peak, gpu ? 0 : tic_peak_bytes(pool), all, out);
out:
    free(timing);
    free(peaks);
    free(seconds);
    tic_exec_close(x);
    tic_pool_free(pool);
    tic_model_free(m);
    return status;
}
