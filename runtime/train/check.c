/* check.c -- see check.h. Kernel by kernel: both sides hold the same numbers before each kernel (the device is given the
 * CPU's), so an error is the kernel's own. Then a few steps on each side from the same start: losses and parameters; and
 * where the program has it, the same in pieces. */
#include "train/check.h"
#include "device/cuda.h"
#include "device/exec_impl.h"
#include "train/bench.h"
#include "train/step.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct { TicModel *model; TicExec *x; } Side;

typedef struct {
    const TicProgram *p;
    const TicCheckOptions *o;
    FILE *out;
    TicPool *pool;
    Side cpu, gpu;
    double tolerance, worst[32];
    int kernels, bad, count[32];
} Check;

static TicStatus open_side(Check *c, Side *s, const TicKernel *kernels, const char *device)
{
    TRY(tic_device_choose(device));
    TRY(tic_model_new(c->p, kernels, &s->model));
    TRY(tic_exec_open(s->model, c->pool, "step", c->o->batch, &s->x));
    tic_model_init(s->model, c->pool, 0);
    return TIC_OK;
}

static int64_t elements(const Side *s, uint32_t tensor)
{
    const TicTensor *t = &tic_exec_tensors(s->x)[tensor];
    return tic_poly(t->bytes, s->x->batch) / (t->dtype == TIC_F64 ? 8 : t->dtype == TIC_BF16 ? 2 : 4);
}

static double number(const void *data, uint8_t dtype, int64_t i)
{
    if (dtype == TIC_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    return dtype == TIC_F64 ? ((const double *)data)[i] : dtype == TIC_I32 ? ((const int32_t *)data)[i] : (double)((const float *)data)[i];
}

static double largest(const void *a, uint8_t dtype, int64_t n)
{
    double most = 0;
    for (int64_t i = 0; i < n; i++)
        most = fmax(most, isfinite(number(a, dtype, i)) ? fabs(number(a, dtype, i)) : 0);
    return most;
}

/* Largest difference; infinite when one side has a NaN or infinity the other has not. */
static double distance(const void *a, const void *b, uint8_t dtype, int64_t n)
{
    double apart = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = number(a, dtype, i), y = number(b, dtype, i);
        if (isnan(x) != isnan(y) || (isinf(x) || isinf(y) ? x != y : 0))
            return INFINITY;
        if (isnan(x) || isinf(x))
            continue;
        apart = fmax(apart, fabs(x - y));
    }
    return apart;
}

/* The launches of one fused kernel: [from, to). */
static uint32_t end_of(const TicExec *x, uint32_t from)
{
    const TicLaunch *l = tic_exec_launches(x);
    uint32_t to = from;
    while (to < x->entry->n_launch && l[to].step == l[from].step)
        to++;
    return to;
}

static TicStatus check_kernel(Check *c, uint32_t cpu_from, uint32_t cpu_to, uint32_t from, uint32_t to)
{
    TicGpu *gpu = c->gpu.model->gpu;
    const TicLaunch *l = tic_exec_launches(c->gpu.x), *first = &l[from];
    const TicTensor *t = tic_exec_tensors(c->gpu.x);
    const uint32_t *arg = TABLE(c->p, uint32_t, c->p->args) + first->arg;
    const uint32_t *cpu_arg = TABLE(c->p, uint32_t, c->p->args) + tic_exec_launches(c->cpu.x)[cpu_from].arg;
    TicGpuPtr at[256];
    uint32_t n = first->n_arg < 256 ? first->n_arg : 256, shared = tic_exec_launches(c->cpu.x)[cpu_from].n_arg;
    tic_exec_gpu_args(c->gpu.x, from, at);
    for (uint32_t k = 0; k < n && k < shared; k++)   /* a workspace may follow, on either side */
        if (arg[k] == cpu_arg[k])
            TRY(tic_gpu_to(gpu, at[k], c->cpu.x->args[cpu_from][k], (size_t)tic_poly(t[arg[k]].bytes, c->o->batch)));
    TRY(tic_gpu_wait(gpu));
    for (uint32_t i = cpu_from; i < cpu_to; i++)
        tic_exec_launch_host(c->cpu.x, i);
    for (uint32_t i = from; i < to; i++)
        TRY(tic_exec_gpu_launch(c->gpu.x, i));
    /* relative to the largest number of the tensor; but what is tiny beside the kernel's other results (the mean of numbers
     * that were just normalised) is rounding and nothing else */
    double apart = 0, scale = 1e-30;
    for (uint32_t k = 0; k < n && k < shared && k < 64; k++)
        if (first->writes >> k & 1)
            scale = fmax(scale, 1e-2 * largest(c->cpu.x->args[cpu_from][k], t[arg[k]].dtype, elements(&c->gpu, arg[k])));
    for (uint32_t k = 0; k < n && k < shared && k < 64; k++) {
        if (!(first->writes >> k & 1))
            continue;
        size_t bytes = (size_t)tic_poly(t[arg[k]].bytes, c->o->batch);
        void *copy = tic_alloc(bytes + 1);
        TicStatus status = tic_gpu_from(gpu, copy, at[k], bytes);
        if (!status)
            status = tic_gpu_wait(gpu);
        if (!status) {
            const void *here = c->cpu.x->args[cpu_from][k];
            int64_t count = elements(&c->gpu, arg[k]);
            apart = fmax(apart, distance(here, copy, t[arg[k]].dtype, count) / fmax(scale, largest(here, t[arg[k]].dtype, count)));
        }
        free(copy);
        TRY(status);
    }
    bool bad = !(apart <= c->tolerance);
    const char *cls = tic_text(c->p, TABLE(c->p, uint32_t, c->p->class_names)[first->cls]);
    c->worst[first->cls % 32] = fmax(c->worst[first->cls % 32], apart);
    c->count[first->cls % 32]++;
    c->kernels++;
    c->bad += bad;
    if (bad || c->o->explain)
        fprintf(c->out, "%s kernel %u %-8s %.2e  %s %s  %s\n", bad ? "BAD" : "ok ", first->step, cls, apart,
                tic_text(c->p, TABLE(c->p, TicGpuKernel, c->p->gpu_kernels)[first->kernel].name), tic_text(c->p, first->source),
                tic_text(c->p, first->label));
    return TIC_OK;
}

static TicStatus check_kernels(Check *c)
{
    const TicLaunch *l = tic_exec_launches(c->gpu.x);
    tic_bench_inputs(c->cpu.x, c->p, c->o->batch, 0);
    for (uint32_t i = 0, k = 0; i < c->cpu.x->entry->n_launch && k < c->gpu.x->entry->n_launch;) {
        uint32_t to = end_of(c->cpu.x, i), gpu_to = end_of(c->gpu.x, k);
        if (tic_exec_launches(c->cpu.x)[i].step != l[k].step)
            return tic_fail(TIC_BUG, "the CPU's kernel %u meets the GPU's %u", tic_exec_launches(c->cpu.x)[i].step, l[k].step);
        if (l[k].host)
            for (uint32_t n = i; n < to; n++)
                tic_exec_launch_host(c->cpu.x, n);
        else
            TRY(check_kernel(c, i, to, k, gpu_to));
        i = to;
        k = gpu_to;
    }
    for (uint32_t i = 0; i < c->p->n_class_names && i < 32; i++)
        if (c->count[i])
            fprintf(c->out, "%-10s %4d kernels, largest error %.2e\n", tic_text(c->p, TABLE(c->p, uint32_t, c->p->class_names)[i]), c->count[i],
                    c->worst[i]);
    return TIC_OK;
}

/* A few steps from the same start; losses into loss[]. */
static TicStatus train_side(Check *c, Side *s, double *loss)
{
    tic_model_init(s->model, c->pool, 0);
    for (int64_t i = 0; i < c->o->steps; i++) {
        tic_bench_inputs(s->x, c->p, c->o->batch, i);
        tic_exec_run(s->x);
        loss[i] = tic_exec_scalar(s->x, "loss", NAN);
        TRY(tic_exec_status(s->x));
    }
    return tic_model_to_host(s->model);
}

/* As one vector: a single parameter whose gradient is rounding noise moves by the learning rate whichever way that points. */
static double parameters_apart(const Check *c)
{
    double apart = 0, all = 0;
    for (int i = 0; i < c->cpu.model->n_params; i++)
        for (int64_t k = 0; k < c->cpu.model->params[i].count; k++) {
            double x = c->cpu.model->param[i][k], d = x - c->gpu.model->param[i][k];
            apart += d * d;
            all += x * x;
        }
    return isfinite(apart) ? sqrt(apart / all) : INFINITY;
}

static TicStatus check_steps(Check *c)
{
    int64_t n = c->o->steps;
    double *cpu = tic_alloc((size_t)n * sizeof *cpu), *gpu = tic_alloc((size_t)n * sizeof *gpu), worst = 0;
    TicStatus status = train_side(c, &c->cpu, cpu);
    if (!status)
        status = train_side(c, &c->gpu, gpu);
    uint64_t hash = status ? 0 : tic_hash(c->gpu.model->memory, c->gpu.model->bytes, 0);
    for (int64_t i = 0; i < n && !status; i++) {
        fprintf(c->out, "step %lld: loss %.7f on the CPU, %.7f on the GPU\n", (long long)i + 1, cpu[i], gpu[i]);
        worst = fmax(worst, isfinite(gpu[i]) ? fabs(cpu[i] - gpu[i]) / fmax(fabs(cpu[i]), 1e-3) : INFINITY);
    }
    if (!status)
        worst = fmax(worst, parameters_apart(c));
    if (!status)
        status = train_side(c, &c->gpu, gpu);
    if (!status) {
        bool equal = hash == tic_hash(c->gpu.model->memory, c->gpu.model->bytes, 0);
        fprintf(c->out, "after %lld steps: losses and parameters within %.2e; a second run %s\n", (long long)n, worst,
                equal ? "is equal bit by bit" : "DIFFERS");
        c->bad += !equal + !(worst <= 10 * c->tolerance);
    }
    free(cpu);
    free(gpu);
    return status;
}

/* ---- steps in pieces, on the device, against the same steps at once, on the CPU */

typedef struct { const Check *c; int64_t micro, step; } Data;

static TicStatus feed(void *context, int pass, int64_t piece, float *pixels, int32_t *tokens)
{
    const Data *d = context;
    tic_bench_data(d->c->p, piece * d->micro, d->micro, d->step, pixels, tokens);
    return TIC_OK;
}

static TicStatus train_in_pieces(Check *c, TicStep *step, Data *d, double *loss)
{
    tic_model_init(c->gpu.model, c->pool, 0);
    tic_step_set(step, "total", 1000);
    for (d->step = 0; d->step < c->o->steps; d->step++) {
        tic_step_set(step, "step", (double)d->step);
        TRY(tic_step_gradient(step, feed, d, &loss[d->step]));
        TRY(tic_step_update(step));
    }
    return tic_model_to_host(c->gpu.model);
}

static TicStatus check_pieces(Check *c)
{
    int64_t n = c->o->steps, batch = c->o->batch;
    TicStepSize size;
    TicStep *step;
    if (batch < 2 || !tic_program_entry(c->p, "piece"))
        return TIC_OK;
    TRY(tic_step_size(c->p, batch, batch % 2 ? 1 : batch / 2, false, &size));
    TRY(tic_step_open(c->gpu.model, c->pool, size, &step));
    double *cpu = tic_alloc((size_t)n * sizeof *cpu), *gpu = tic_alloc((size_t)n * sizeof *gpu), worst = 0;
    Data d = { c, size.micro, 0 };
    TicStatus status = train_side(c, &c->cpu, cpu);
    if (!status)
        status = train_in_pieces(c, step, &d, gpu);
    for (int64_t i = 0; i < n && !status; i++)
        worst = fmax(worst, isfinite(gpu[i]) ? fabs(cpu[i] - gpu[i]) / fmax(fabs(cpu[i]), 1e-3) : INFINITY);
    if (!status) {
        worst = fmax(worst, parameters_apart(c));
        fprintf(c->out, "in pieces of %lld: losses and parameters within %.2e of the CPU's at once\n", (long long)size.micro, worst);
        c->bad += !(worst <= 10 * c->tolerance);
    }
    free(cpu);
    free(gpu);
    tic_step_close(step);
    return status;
}

static void close_side(Side *s)
{
    tic_exec_close(s->x);
    tic_model_free(s->model);
}

TicStatus tic_check(const TicProgram *p, const TicKernel *kernels, const TicCheckOptions *o, FILE *out)
{
    Check c = { .p = p, .o = o, .out = out, .pool = tic_pool_new((int)o->threads) };
    c.tolerance = o->tolerance > 0 ? o->tolerance : p->bf16 ? 2e-2 : 1e-5;
    TicStatus status = open_side(&c, &c.cpu, kernels, "cpu");
    if (!status)
        status = open_side(&c, &c.gpu, kernels, o->device);
    if (!status) {
        fprintf(out, "%s, batch %lld, tolerance %.0e\n", tic_exec_device(c.gpu.x), (long long)o->batch, c.tolerance);
        status = check_kernels(&c);
    }
    if (!status)
        status = check_steps(&c);
    if (!status)
        status = check_pieces(&c);
    close_side(&c.gpu);
    close_side(&c.cpu);
    tic_pool_free(c.pool);
    if (!status && c.bad)
        status = tic_fail(TIC_BUG, "%d of %d kernels, or the steps, differ from the CPU's", c.bad, c.kernels);
    return status;
}
