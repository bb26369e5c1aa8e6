/* check.c -- see check.h. Kernel by kernel: the CPU's step is run first and every tensor kept; then each kernel of the GPU is
 * given the CPU's numbers, so an error is the kernel's own. What the CPU has not in memory (its kernels may be other ones)
 * is the GPU's own. Then a few steps on each side from the same start: losses and parameters; where the program has it, the
 * same in pieces; and the towers by themselves, which a GPU may have in bf16 where the CPU never has. */
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
    void **kept;             /* [the CPU's tensors]: their values in the step */
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
    return tic_poly(t->bytes, s->x->batch) / tic_exec_element_bytes(t);
}

static double number(const void *data, uint8_t dtype, int64_t i)
{
    if (dtype == TIC_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    return dtype == TIC_F64 ? ((const double *)data)[i] : dtype == TIC_I32 ? ((const int32_t *)data)[i]
         : dtype == TIC_U8 ? ((const uint8_t *)data)[i] : (double)((const float *)data)[i];
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

static const uint32_t *args_of(const Check *c, const TicExec *x, uint32_t launch)
{
    return TABLE(c->p, uint32_t, c->p->args) + tic_exec_launches(x)[launch].arg;
}

static void keep(Check *c, uint32_t tensor, const void *data)
{
    size_t bytes = (size_t)tic_poly(tic_exec_tensors(c->cpu.x)[tensor].bytes, c->o->batch);
    if (!c->kept[tensor])
        c->kept[tensor] = tic_alloc(bytes + 1);
    memcpy(c->kept[tensor], data, bytes);
}

/* The CPU's step: what comes from outside is kept before a kernel reads it, what a kernel makes when it has. */
static void run_cpu(Check *c)
{
    const TicExec *x = c->cpu.x;
    tic_bench_inputs(c->cpu.x, c->p, c->o->batch, 0);
    for (uint32_t i = 0; i < x->entry->n_launch; i++) {
        const TicLaunch *l = &tic_exec_launches(x)[i];
        const uint32_t *arg = args_of(c, x, i);
        for (uint32_t k = 0; k < l->n_arg; k++)
            if (!c->kept[arg[k]] && !tic_launch_writes(l, k))
                keep(c, arg[k], x->args[i][k]);
        tic_exec_launch_host(c->cpu.x, i);
        for (uint32_t k = 0; k < l->n_arg; k++)
            if (tic_launch_writes(l, k))
                keep(c, arg[k], x->args[i][k]);
    }
}

/* The CPU's value of a tensor of the GPU's entry, NULL: it has none. The two may fuse other kernels, and then keep other
 * tensors in memory; those of the graph they share have the same numbers. */
static const void *kept(const Check *c, uint32_t tensor)
{
    if (tensor >= c->cpu.x->entry->n_tensor)
        return NULL;
    const TicTensor *a = &tic_exec_tensors(c->cpu.x)[tensor], *b = &tic_exec_tensors(c->gpu.x)[tensor];
    bool same = a->dtype == b->dtype && !memcmp(&a->bytes, &b->bytes, sizeof a->bytes);
    bool made = a->kind == TIC_INPUT && b->kind == TIC_TEMP;     /* there from what it comes in, which is another input */
    return same && (made || !strcmp(tic_text(c->p, a->name), tic_text(c->p, b->name))) ? c->kept[tensor] : NULL;
}

/* Whether another kernel, before or behind launches [from, to), writes (a part of) the tensor. */
static bool written_elsewhere(const Check *c, uint32_t tensor, uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        const TicLaunch *l = &tic_exec_launches(c->gpu.x)[i];
        for (uint32_t k = 0; k < l->n_arg; k++)
            if (tic_launch_writes(l, k) && args_of(c, c->gpu.x, i)[k] == tensor)
                return true;
    }
    return false;
}

/* Every number a little larger or smaller: in f32 by one part in 2^20, sixteen times what rounding it may do; in bf16 by its last
 * bit, which is what rounding it does. Zeros stay. */
static void shake(void *data, uint8_t dtype, size_t bytes)
{
    float *x = data;
    uint16_t *h = data;
    for (size_t i = 0; dtype == TIC_F32 && i < bytes / sizeof *x; i++)
        x[i] *= tic_philox(3, i, 0).v[0] & 1 ? 1 + 0x1p-20f : 1 - 0x1p-20f;
    for (size_t i = 0; dtype == TIC_BF16 && i < bytes / sizeof *h; i++)
        h[i] ^= (h[i] & 0x7fff) != 0 && tic_philox(3, i, 0).v[0] & 1;
}

/* Gives a kernel the CPU's numbers, or, `shaken`, those with shake; what it is the first to write holds none at all (bytes
 * 0xff: NaN). */
static TicStatus prepare(Check *c, uint32_t from, const TicGpuPtr *at, bool shaken)
{
    TicGpu *gpu = c->gpu.model->gpu;
    const TicLaunch *l = &tic_exec_launches(c->gpu.x)[from];
    const uint32_t *arg = args_of(c, c->gpu.x, from);
    for (int pass = 0; pass < 2; pass++)             /* a result may lie where an operand does */
        for (uint32_t k = 0; k < l->n_arg; k++) {
            size_t bytes = (size_t)tic_poly(tic_exec_tensors(c->gpu.x)[arg[k]].bytes, c->o->batch);
            const TicTensor *t = &tic_exec_tensors(c->gpu.x)[arg[k]];
            const void *data = t->dtype == TIC_F64 ? NULL : kept(c, arg[k]);
            if (!data && (t->kind == TIC_INPUT || t->dtype == TIC_F64))
                data = c->gpu.x->buffer[arg[k]];     /* the same batch, as it comes to a GPU; what its host has computed */
            if (tic_launch_writes(l, k) != !pass || !data || (!pass && written_elsewhere(c, arg[k], 0, from)))
                continue;
            void *copy = memcpy(tic_alloc(bytes + 1), data, bytes);
            if (!pass)
                memset(copy, 0xff, bytes);
            else if (shaken)
                shake(copy, t->dtype, bytes);
            TicStatus status = tic_gpu_to(gpu, at[k], copy, bytes);
            if (!status)
                status = tic_gpu_wait(gpu);
            free(copy);
            TRY(status);
        }
    return TIC_OK;
}

/* Whether a kernel reads nothing but a picture in 8 bits and the table for it: then it makes the CPU's very numbers. */
static bool from_inputs(const Check *c, uint32_t launch)
{
    const TicLaunch *l = &tic_exec_launches(c->gpu.x)[launch];
    const TicTensor *t = tic_exec_tensors(c->gpu.x);
    bool bytes = false;
    for (uint32_t k = 0; k < l->n_arg; k++) {
        const TicTensor *a = &t[args_of(c, c->gpu.x, launch)[k]];
        if (!tic_launch_writes(l, k) && a->kind != TIC_INPUT)
            return false;
        bytes = bytes || a->dtype == TIC_U8;
    }
    return bytes;
}

/* Runs a kernel, and brings by argument what it wrote where the CPU has a number for it and no other kernel will write into the same
 * tensor; the others are NULL. */
static TicStatus run_gpu(Check *c, uint32_t from, uint32_t to, const TicGpuPtr *at, bool shaken, void **result)
{
    TicGpu *gpu = c->gpu.model->gpu;
    const TicLaunch *l = &tic_exec_launches(c->gpu.x)[from];
    const uint32_t *arg = args_of(c, c->gpu.x, from);
    TRY(prepare(c, from, at, shaken));
    for (uint32_t i = from; i < to; i++)
        TRY(tic_exec_gpu_launch(c->gpu.x, i));
    for (uint32_t k = 0; k < l->n_arg; k++) {
        if (!tic_launch_writes(l, k) || !kept(c, arg[k]) || written_elsewhere(c, arg[k], to, c->gpu.x->entry->n_launch))
            continue;
        size_t bytes = (size_t)tic_poly(tic_exec_tensors(c->gpu.x)[arg[k]].bytes, c->o->batch);
        result[k] = result[k] ? result[k] : tic_alloc(bytes + 1);
        TRY(tic_gpu_from(gpu, result[k], at[k], bytes));
    }
    return tic_gpu_wait(gpu);
}

/* The largest number of a kernel's results, as the CPU has them. */
static double largest_result(const Check *c, uint32_t from, void *const *result)
{
    const uint32_t *arg = args_of(c, c->gpu.x, from);
    double most = 0;
    for (uint32_t k = 0; k < tic_exec_launches(c->gpu.x)[from].n_arg; k++)
        if (result[k])
            most = fmax(most, largest(kept(c, arg[k]), tic_exec_tensors(c->gpu.x)[arg[k]].dtype, elements(&c->gpu, arg[k])));
    return most;
}

/* How far each result of a kernel is from another run's, or, b NULL, from the CPU's, into apart[k]: relative to the largest number of
 * the tensor, as the CPU has it; but what is tiny beside the kernel's other results (the mean of numbers that were just normalised)
 * is rounding and nothing else. */
static void distances(const Check *c, uint32_t from, void *const *a, void *const *b, double *apart)
{
    const TicTensor *t = tic_exec_tensors(c->gpu.x);
    const uint32_t *arg = args_of(c, c->gpu.x, from);
    double scale = fmax(1e-30, 1e-2 * largest_result(c, from, a));
    bool exact = from_inputs(c, from);
    for (uint32_t k = 0; k < tic_exec_launches(c->gpu.x)[from].n_arg; k++) {
        apart[k] = 0;
        if (!a[k])
            continue;
        const void *here = kept(c, arg[k]);
        int64_t count = elements(&c->gpu, arg[k]);
        double d = distance(b ? b[k] : here, a[k], t[arg[k]].dtype, count);
        apart[k] = exact && d > 0 ? INFINITY : d / fmax(scale, largest(here, t[arg[k]].dtype, count));
    }
}

/* Can a kernel run twice? Not where it writes over an operand that cannot be brought back, since the CPU has it not. */
static bool repeats(const Check *c, uint32_t from, const TicGpuPtr *at)
{
    const TicLaunch *l = &tic_exec_launches(c->gpu.x)[from];
    const uint32_t *arg = args_of(c, c->gpu.x, from);
    for (uint32_t k = 0; k < l->n_arg; k++)
        for (uint32_t w = 0; w < l->n_arg; w++)
            if (!tic_launch_writes(l, k) && tic_launch_writes(l, w) && at[k] == at[w] && !kept(c, arg[k]))
                return false;
    return true;
}

/* Whether a kernel that is apart from the CPU may be right all the same: where terms cancel (the gradient of a bias in front of a
 * normalisation is 0 but for rounding), operands rounded otherwise move a result as far. Each result is judged by its own movement:
 * that of one says nothing of another. Leaves the results as they were. */
static TicStatus cancels(Check *c, uint32_t from, uint32_t to, const TicGpuPtr *at, void **result, const double *apart, bool *yes)
{
    uint32_t n = tic_exec_launches(c->gpu.x)[from].n_arg;
    void **moved = tic_alloc((n + 1) * sizeof *moved);
    double *far = tic_alloc((n + 1) * sizeof *far);
    TicStatus status = run_gpu(c, from, to, at, true, moved);
    *yes = !status;
    if (!status)
        distances(c, from, moved, result, far);
    for (uint32_t k = 0; k < n; k++) {
        *yes = *yes && (apart[k] <= c->tolerance || (isfinite(apart[k]) && apart[k] <= far[k]));
        free(moved[k]);
    }
    free(moved);
    free(far);
    return status ? status : run_gpu(c, from, to, at, false, result);
}

static TicStatus check_kernel(Check *c, uint32_t from, uint32_t to)
{
    const TicLaunch *l = tic_exec_launches(c->gpu.x), *first = &l[from];
    TicGpuPtr *at = tic_alloc((first->n_arg + 1) * sizeof *at);
    void **result = tic_alloc((first->n_arg + 1) * sizeof *result);
    double *each = tic_alloc((first->n_arg + 1) * sizeof *each), apart = 0;
    bool small = false;
    tic_exec_gpu_args(c->gpu.x, from, at);
    TicStatus status = run_gpu(c, from, to, at, false, result);
    if (!status)
        distances(c, from, result, NULL, each);
    for (uint32_t k = 0; k < first->n_arg; k++)
        apart = fmax(apart, each[k]);
    if (!status && !(apart <= c->tolerance) && repeats(c, from, at))
        status = cancels(c, from, to, at, result, each, &small);
    for (uint32_t k = 0; k < first->n_arg; k++)
        free(result[k]);
    free(result);
    free(each);
    free(at);
    TRY(status);
    bool bad = !(apart <= c->tolerance) && !small;
    const char *cls = tic_text(c->p, TABLE(c->p, uint32_t, c->p->class_names)[first->cls]);
    if (!small)
        c->worst[first->cls % 32] = fmax(c->worst[first->cls % 32], apart);
    c->count[first->cls % 32]++;
    c->kernels++;
    c->bad += bad;
    if (bad || c->o->explain)
        fprintf(c->out, "%s kernel %u %-8s %.2e%s  %s %s  %s\n", bad ? "BAD" : "ok ", first->step, cls, apart, small ? ", terms cancel" : "",
                tic_text(c->p, TABLE(c->p, TicGpuKernel, c->p->gpu_kernels)[first->kernel].name), tic_text(c->p, first->source),
                tic_text(c->p, first->label));
    return TIC_OK;
}

static TicStatus check_kernels(Check *c)
{
    const TicLaunch *l = tic_exec_launches(c->gpu.x);
    c->kept = tic_alloc((c->cpu.x->entry->n_tensor + 1) * sizeof *c->kept);
    run_cpu(c);
    tic_bench_inputs(c->gpu.x, c->p, c->o->batch, 0);
    TicStatus status = TIC_OK;
    for (uint32_t i = 0, to; i < c->gpu.x->entry->n_launch && !status; i = to) {
        to = end_of(c->gpu.x, i);
        if (l[i].host)
            tic_exec_launch_host(c->gpu.x, i);
        else
            status = check_kernel(c, i, to);
    }
    for (uint32_t i = 0; i < c->cpu.x->entry->n_tensor; i++)
        free(c->kept[i]);
    free(c->kept);
    TRY(status);
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

typedef struct { const Check *c; int64_t micro; } Data;

static TicStatus feed(void *context, TicPlace at, TicBatch to)
{
    const Data *d = context;
    tic_bench_data(d->c->p, at.piece * d->micro, d->micro, at.step, to);
    return TIC_OK;
}

static TicStatus train_in_pieces(Check *c, TicStep *step, Data *d, double *loss)
{
    tic_model_init(c->gpu.model, c->pool, 0);
    tic_step_set(step, "total", 1000);
    for (int64_t i = 0; i < c->o->steps; i++) {
        tic_step_set(step, "step", (double)i);
        TRY(tic_step_gradient(step, i, i + 1 < c->o->steps, feed, d, &loss[i]));
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
    Data d = { c, size.micro };
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

/* ---- towers */

static TicStatus features(Check *c, Side *s, const char *device, const char *entry, const char *output, float **out, int64_t *count)
{
    TicExec *x;
    TRY(tic_device_choose(device));
    TRY(tic_exec_open(s->model, c->pool, entry, c->o->batch, &x));
    tic_bench_data(c->p, 0, c->o->batch, 0, tic_exec_batch(x));
    tic_exec_run(x);
    const float *row = tic_exec_output(x, output, count);
    *out = tic_alloc((size_t)*count * sizeof **out + 1);
    memcpy(*out, row, (size_t)*count * sizeof **out);
    TicStatus status = tic_exec_status(x);
    tic_exec_close(x);
    return status;
}

static TicStatus check_tower(Check *c, const char *entry, const char *output)
{
    float *cpu = NULL, *gpu = NULL;
    int64_t count;
    if (!tic_program_entry(c->p, entry))
        return TIC_OK;
    tic_model_init(c->cpu.model, c->pool, 0);
    tic_model_init(c->gpu.model, c->pool, 0);
    TicStatus status = features(c, &c->cpu, "cpu", entry, output, &cpu, &count);
    if (!status)
        status = features(c, &c->gpu, c->o->device, entry, output, &gpu, &count);
    double apart = status ? 0 : distance(cpu, gpu, TIC_F32, count);
    if (!status)
        fprintf(c->out, "%s features within %.2e of the CPU's\n", entry, apart);
    c->bad += !(apart <= c->tolerance);
    free(cpu);
    free(gpu);
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
    if (!status)
        status = check_tower(&c, "image", "image_features");
    if (!status)
        status = check_tower(&c, "text", "text_features");
    close_side(&c.gpu);
    close_side(&c.cpu);
    tic_pool_free(c.pool);
    if (!status && c.bad)
        status = tic_fail(TIC_BUG, "%d of %d kernels, or the steps, differ from the CPU's", c.bad, c.kernels);
    return status;
}
