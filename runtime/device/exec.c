/* exec.c -- see exec.h. Everything is allocated when a program is opened; tic_exec_run only launches kernels. */
#define _GNU_SOURCE
#include "device/exec.h"
#include "device/arena.h"
#include "device/machine.h"
#include "device/cuda.h"
#include "device/exec_impl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

const char *tic_text(const TicProgram *p, uint32_t offset) { return (const char *)p + offset; }

void tic_program_pixels(const TicProgram *p, float table[3][256])
{
    float mean[3], std[3];
    for (int k = 0; k < 3; k++) {
        mean[k] = (float)p->mean[k];
        std[k] = (float)p->std[k];
    }
    tic_normalise_table(mean, std, table);
}

int64_t tic_poly(TicPoly p, int64_t b)
{
    int64_t sum = p.c[2];
    for (int i = 1; i >= 0; i--)
        if (__builtin_mul_overflow(sum, b, &sum) || __builtin_add_overflow(sum, p.c[i], &sum))
            return INT64_MAX;
    return sum;
}

static bool table_fits(const TicProgram *p, uint32_t offset, uint32_t count, size_t item)
{
    return offset % 8 == 0 && offset <= p->bytes && (uint64_t)count * item <= p->bytes - offset;
}

TicStatus tic_program_check(const TicProgram *p)
{
    if (p->magic != TIC_MAGIC || p->abi != TIC_ABI)
        return tic_fail(TIC_BUG, "the program's tables have ABI %u, this runtime wants %d", p->abi, TIC_ABI);
    bool fits = table_fits(p, p->entries, p->n_entries, sizeof(TicEntry))
             && table_fits(p, p->tensors, p->n_tensors, sizeof(TicTensor))
             && table_fits(p, p->launches, p->n_launches, sizeof(TicLaunch))
             && table_fits(p, p->args, p->n_args, sizeof(uint32_t))
             && table_fits(p, p->outputs, p->n_outputs, sizeof(TicOutput))
             && table_fits(p, p->params, p->n_params, sizeof(TicParam))
             && table_fits(p, p->states, p->n_states, sizeof(TicParam))
             && table_fits(p, p->steps, p->n_steps, sizeof(TicYearStep))
             && table_fits(p, p->tasks, p->n_tasks, sizeof(TicTask))
             && table_fits(p, p->gpu_files, p->n_gpu_files, sizeof(TicGpuFile))
             && table_fits(p, p->gpu_images, p->n_gpu_images, sizeof(TicGpuImage))
             && table_fits(p, p->gpu_kernels, p->n_gpu_kernels, sizeof(TicGpuKernel))
             && table_fits(p, p->class_names, p->n_class_names, sizeof(uint32_t));
    const TicEntry *e = TABLE(p, TicEntry, p->entries);
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches);
    const uint32_t *arg = TABLE(p, uint32_t, p->args);
    for (uint32_t i = 0; fits && i < p->n_entries; i++) {
        fits = e[i].tensor <= p->n_tensors && e[i].n_tensor <= p->n_tensors - e[i].tensor
            && e[i].launch <= p->n_launches && e[i].n_launch <= p->n_launches - e[i].launch
            && e[i].output <= p->n_outputs && e[i].n_output <= p->n_outputs - e[i].output;
        for (uint32_t k = 0; fits && k < e[i].n_launch; k++) {
            const TicLaunch *a = &l[e[i].launch + k];
            fits = a->kernel < (e[i].target == TIC_CUDA && !a->host ? p->n_gpu_kernels : p->n_kernels) && a->arg <= p->n_args && a->n_arg <= p->n_args - a->arg;
            for (uint32_t j = 0; fits && j < a->n_arg; j++)
                fits = arg[a->arg + j] < e[i].n_tensor;
        }
    }
    return fits ? TIC_OK : tic_fail(TIC_BUG, "the program's tables are damaged");
}

static void *map_memory(size_t bytes)
{
    void *p = mmap(NULL, bytes ? bytes : 64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    madvise(p, bytes, MADV_HUGEPAGE);    /* 9 to 20 % on streaming kernels; refused quietly where it is off */
    return p;
}

static int64_t padded(int64_t count) { return (count * 4 + 63) & ~(int64_t)63; }

TicStatus tic_model_new(const TicProgram *p, const TicKernel *kernels, TicModel **out)
{
    *out = NULL;
    TRY(tic_program_check(p));
    TicModel *m = tic_alloc(sizeof *m);
    *m = (TicModel){ .program = p, .kernels = kernels, .params = TABLE(p, TicParam, p->params),
                     .states = TABLE(p, TicParam, p->states), .n_params = (int)p->n_params, .n_states = (int)p->n_states };
    m->param = tic_alloc((size_t)(m->n_params + 1) * sizeof *m->param);
    m->state = tic_alloc((size_t)(m->n_states + 1) * sizeof *m->state);
    for (int i = 0; i < m->n_params; i++)
        m->bytes += (size_t)padded(m->params[i].count);
    for (int i = 0; i < m->n_states; i++)
        m->bytes += (size_t)padded(m->states[i].count);
    char *at = m->memory = map_memory(m->bytes);
    if (!at) {
        size_t bytes = m->bytes;
        m->bytes = 0;
        tic_model_free(m);
        return tic_fail(TIC_IO, "parameters and optimiser state need %.2f GB: the system has none left", (double)bytes / 1e9);
    }
    for (int i = 0; i < m->n_params; i++, at += padded(m->params[i - 1].count))
        m->param[i] = (float *)at;
    for (int i = 0; i < m->n_states; i++, at += padded(m->states[i - 1].count))
        m->state[i] = (float *)at;
    *out = m;
    return TIC_OK;
}

void tic_model_free(TicModel *m)
{
    if (!m)
        return;
    if (m->device)
        tic_gpu_free(m->gpu, m->device);
    if (m->device_sums)
        tic_gpu_free(m->gpu, m->device_sums);
    if (m->sums)
        munmap(m->sums, m->sum_bytes);
    free(m->sum);
    if (m->memory)
        munmap(m->memory, m->bytes ? m->bytes : 64);
    free(m->param);
    free(m->state);
    free(m);
}

size_t tic_model_sum_bytes(const TicModel *m)
{
    size_t bytes = 0;
    for (int i = 0; i < m->n_params; i++)
        bytes += (size_t)padded(m->params[i].count);
    return bytes ? bytes : 64;
}

static TicStatus sums_here(TicModel *m)
{
    if (m->sums)
        return TIC_OK;
    size_t bytes = tic_model_sum_bytes(m);
    char *at = m->sums = map_memory(bytes);
    if (!at)
        return tic_fail(TIC_IO, "the sums of the gradients need %.2f GB: the system has none left", (double)bytes / 1e9);
    m->sum_bytes = bytes;
    m->sum = tic_alloc((size_t)(m->n_params + 1) * sizeof *m->sum);
    for (int i = 0; i < m->n_params; i++, at += padded(m->params[i - 1].count))
        m->sum[i] = (float *)at;
    return TIC_OK;
}

int64_t tic_model_count(const TicModel *m)
{
    int64_t n = 0;
    for (int i = 0; i < m->n_params; i++)
        n += m->params[i].count;
    return n;
}

const char *tic_model_not_finite(const TicModel *m)
{
    for (int i = 0; i < m->n_params; i++)
        for (int64_t k = 0; k < m->params[i].count; k++)
            if (!isfinite(m->param[i][k]))
                return tic_text(m->program, m->params[i].name);
    return NULL;
}

/* ---- initial values: a job over (parameter, chunk) pairs */
enum { INIT_CHUNK = 1 << 16 };
typedef struct { float *at; int64_t from, count; uint64_t stream, seed; int kind; double a, b; } InitTask;

static void init_task(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
    const InitTask *t = (const InitTask *)buf[0] + task;
    for (int64_t i = 0; i < t->count; i++) {
        double value = t->a;
        if (t->kind != TIC_INIT_CONST) {
            TicRandom4 r = tic_philox(t->seed, (uint64_t)(t->from + i) >> 1, t->stream);
            double u = tic_uniform01(r.v[0], r.v[1]), v = tic_uniform01(r.v[2], r.v[3]);
            bool odd = (t->from + i) & 1;
            if (t->kind == TIC_INIT_UNIFORM) {
                value = t->a + (t->b - t->a) * (odd ? v : u);
            } else {
                double radius = sqrt(-2 * log(1 - u)), angle = 6.283185307179586476925 * v;
                value = t->a + t->b * radius * (odd ? sin(angle) : cos(angle));
            }
        }
        t->at[i] = (float)value;
    }
}

void tic_model_init(TicModel *m, TicPool *pool, uint64_t seed)
{
    int64_t n = 0, cap = 64;
    InitTask *task = tic_alloc((size_t)cap * sizeof *task);
    for (int i = 0; i < m->n_params + m->n_states; i++) {
        const TicParam *p = i < m->n_params ? &m->params[i] : &m->states[i - m->n_params];
        float *at = i < m->n_params ? m->param[i] : m->state[i - m->n_params];
        for (int64_t k = 0; k < p->count; k += INIT_CHUNK) {
            if (n == cap)
                task = tic_realloc(task, (size_t)(cap *= 2) * sizeof *task);
            int64_t left = p->count - k;
            task[n++] = (InitTask){ at + k, k, left < INIT_CHUNK ? left : INIT_CHUNK, (uint64_t)i, seed, p->init, p->init_a, p->init_b };
        }
    }
    void *buf[1] = { task };
    tic_pool_run(pool, init_task, buf, 0, n);
    free(task);
    tic_model_changed(m);
}

/* ---- the two copies of a model on a GPU */

void tic_model_changed(TicModel *m)
{
    m->host_newer = m->device != 0;
    m->device_newer = false;
}

TicStatus tic_model_to_host(TicModel *m)
{
    if (!m->device_newer)
        return TIC_OK;
    TRY(tic_gpu_from(m->gpu, m->memory, m->device, m->bytes));
    TRY(tic_gpu_wait(m->gpu));
    m->device_newer = false;
    return TIC_OK;
}

/* One GPU for the whole process, opened when the first entry wants it. */
static struct { bool wanted, required, tried; int ordinal; TicGpu *gpu; } device;

TicStatus tic_device_choose(const char *text)
{
    char *end = NULL;
    long n = !strncmp(text, "cuda:", 5) ? strtol(text + 5, &end, 10) : 0;
    bool numbered = end && end != text + 5 && !*end && n >= 0 && n < 1024;
    if (strcmp(text, "cpu") && strcmp(text, "auto") && strcmp(text, "cuda") && !numbered)
        return tic_fail(TIC_USER, "--device: found `%s`, wanted auto, cpu, cuda or cuda:N", text);
    device.wanted = strcmp(text, "cpu");
    device.required = device.wanted && strcmp(text, "auto");
    device.ordinal = (int)n;
    return TIC_OK;
}

static const TicEntry *entry_for(const TicProgram *p, const char *name, enum TicTarget target);

TicStatus tic_device_for(const TicProgram *p, const TicExecAt *at, int n, bool *gpu)
{
    bool code = true;
    *gpu = false;
    for (int i = 0; i < n; i++)
        code = code && entry_for(p, at[i].entry, TIC_CUDA);
    if (!device.wanted || !code)
        return device.required && !p->n_gpu_kernels
             ? tic_fail(TIC_USER, "--device cuda: the program has no code for GPUs; compile it with --target cuda") : TIC_OK;
    if (!device.gpu && !device.tried) {
        TicStatus status = tic_gpu_open(p, device.ordinal, &device.gpu);
        if (status && device.required)
            return status;
        if (status) {
            fprintf(stderr, "%s: going on with the CPU\n", tic_error());
            tic_error_clear();
            device.tried = true;
        }
    }
    *gpu = device.gpu;
    return TIC_OK;
}

/* ---- entries */
static const TicEntry *entry_for(const TicProgram *p, const char *name, enum TicTarget target)
{
    const TicEntry *e = TABLE(p, TicEntry, p->entries);
    for (uint32_t i = 0; i < p->n_entries; i++)
        if (e[i].target == target && !strcmp(tic_text(p, e[i].name), name))
            return &e[i];
    return NULL;
}

const TicEntry *tic_program_entry(const TicProgram *p, const char *name) { return entry_for(p, name, TIC_CPU); }

/* An input that the batch does not change keeps what it was given from run to run. */
static bool is_kept(const TicTensor *t) { return t->kind == TIC_INPUT && !t->bytes.c[1] && !t->bytes.c[2]; }

int64_t tic_exec_plan(const TicProgram *p, const TicEntry *e, int64_t batch, int64_t *offset, int64_t *kept)
{
    const TicTensor *t = TABLE(p, TicTensor, p->tensors) + e->tensor;
    TicBlock *block = tic_alloc((e->n_tensor + 1) * sizeof *block);
    int *owner = tic_alloc((e->n_tensor + 1) * sizeof *owner);
    int n = 0;
    *kept = 0;
    for (uint32_t i = 0; i < e->n_tensor; i++) {
        if (offset)
            offset[i] = -1;
        bool in_arena = (t[i].kind == TIC_TEMP || t[i].kind == TIC_INPUT) && t[i].storage == (int32_t)i && t[i].last >= 0;
        if (in_arena && is_kept(&t[i])) {
            if (offset)
                offset[i] = *kept;
            *kept += (t[i].bytes.c[0] + 63) & ~(int64_t)63;
        } else if (in_arena) {
            bool input = t[i].kind == TIC_INPUT;
            block[n] = (TicBlock){ tic_poly(t[i].bytes, batch), input ? 0 : t[i].first, input ? (int)e->n_launch : t[i].last, 0 };
            owner[n++] = (int)i;
        }
    }
    int64_t total = tic_arena_plan(block, n);
    for (uint32_t i = 0; offset && i < e->n_tensor; i++)
        if (offset[i] >= 0)
            offset[i] += total;
    for (int i = 0; offset && i < n; i++)
        offset[owner[i]] = block[i].offset;
    free(block);
    free(owner);
    return total;
}

int64_t tic_entries_arena_bytes(const TicProgram *p, enum TicTarget target, const TicExecAt *at, int n)
{
    int64_t most = 0, kept = 0, own;
    for (int i = 0; i < n; i++) {
        const TicEntry *e = entry_for(p, at[i].entry, target);
        int64_t total = e ? tic_exec_plan(p, e, at[i].batch, NULL, &own) : -1;
        if (total < 0)
            return -1;
        most = total > most ? total : most;
        kept += own;
    }
    return most + kept;
}

/* ---- opening */

static TicStatus workspace_new(TicModel *m, bool gpu, int64_t bytes, int64_t batch, TicWorkspace **out)
{
    TicWorkspace *w = *out = tic_alloc(sizeof *w);
    *w = (TicWorkspace){ 0 };
    if (gpu && bytes >= 0)
        return tic_gpu_alloc(m->gpu, (size_t)bytes, "working memory of this batch", &w->device);
    if (gpu)
        return tic_fail(TIC_USER, "a batch of %lld is beyond 64 bits of memory", (long long)batch);
    /* asked first: the system gives pages that it does not have, and kills the process when it fills them */
    int64_t available = tic_memory_available();
    w->host = bytes < 0 || bytes > available ? NULL : map_memory((size_t)bytes);
    w->bytes = w->host ? (size_t)bytes : 0;
    return w->host ? TIC_OK
                   : tic_fail(TIC_IO, "a batch of %lld needs %.2f GB of working memory, and %.2f GB are free; a smaller --batch needs less",
                              (long long)batch, (double)bytes / 1e9, (double)available / 1e9);
}

static void workspace_drop(TicModel *m, TicWorkspace *w)
{
    if (!w || --w->users > 0)
        return;
    if (w->device)
        tic_gpu_free(m->gpu, w->device);
    if (w->host)
        munmap(w->host, w->bytes ? w->bytes : 64);
    free(w);
}

/* Places of all tensors of an entry on the CPU, and the arguments of its launches. */
static TicStatus bind(TicExec *x, const int64_t *offset)
{
    TicModel *m = x->model;
    const TicProgram *p = m->program;
    const TicEntry *e = x->entry;
    const TicTensor *t = tic_exec_tensors(x);
    x->buffer = tic_alloc((e->n_tensor + 1) * sizeof *x->buffer);
    for (uint32_t i = 0; i < e->n_tensor; i++) {
        if (t[i].kind == TIC_SUM)
            TRY(sums_here(m));
        if (offset[i] >= 0)
            x->buffer[i] = (char *)x->workspace->host + tic_exec_place(x, offset[i]);
        else if (t[i].kind == TIC_PARAM)
            x->buffer[i] = m->param[t[i].param];
        else if (t[i].kind == TIC_STATE)
            x->buffer[i] = m->state[t[i].param];
        else if (t[i].kind == TIC_SUM)
            x->buffer[i] = m->sum[t[i].param];
    }
    for (uint32_t i = 0; i < e->n_tensor; i++)
        if (t[i].storage != (int32_t)i)
            x->buffer[i] = x->buffer[t[i].storage];
    const TicLaunch *l = tic_exec_launches(x);
    const uint32_t *arg = TABLE(p, uint32_t, p->args);
    size_t n_args = 0;
    for (uint32_t i = 0; i < e->n_launch; i++)
        n_args += l[i].n_arg;
    x->args = tic_alloc((e->n_launch + 1) * sizeof *x->args);
    void **at = x->arg_memory = tic_alloc((n_args + 1) * sizeof *at);
    for (uint32_t i = 0; i < e->n_launch; i++) {
        x->args[i] = at;
        for (uint32_t k = 0; k < l[i].n_arg; k++)
            *at++ = x->buffer[arg[l[i].arg + k]];
    }
    return TIC_OK;
}

/* All entries on one device; nothing stays open after a failure. */
static TicStatus open_on(TicModel *m, TicPool *pool, bool gpu, const TicExecAt *at, int n, TicExec **out)
{
    const TicProgram *p = m->program;
    int64_t most = 0, batch = 0, kept = 0, **offset = tic_alloc((size_t)n * sizeof *offset);
    bool fits = true;
    for (int i = 0; i < n; i++) {
        TicExec *x = out[i] = tic_alloc(sizeof *x);
        *x = (TicExec){ .model = m, .pool = pool, .batch = at[i].batch,
                        .entry = gpu ? entry_for(p, at[i].entry, TIC_CUDA) : tic_program_entry(p, at[i].entry) };
        offset[i] = tic_alloc((x->entry->n_tensor + 1) * sizeof **offset);
        x->arena_bytes = tic_exec_plan(p, x->entry, x->batch, offset[i], &x->kept_bytes);
        fits = fits && x->arena_bytes >= 0;
        most = x->arena_bytes > most ? x->arena_bytes : most;
        batch = x->batch > batch ? x->batch : batch;
    }
    for (int i = 0; i < n; i++) {
        out[i]->kept = most + kept;
        kept += out[i]->kept_bytes;
    }
    TicWorkspace *w;
    TicStatus status = workspace_new(m, gpu, fits ? most + kept : -1, batch, &w);
    for (int i = 0; i < n; i++) {
        out[i]->workspace = w;
        w->users++;
    }
    for (int i = 0; i < n && !status; i++)
        status = gpu ? tic_exec_gpu_open(out[i], offset[i]) : bind(out[i], offset[i]);
    for (int i = 0; i < n; i++) {
        free(offset[i]);
        if (status) {
            tic_exec_close(out[i]);
            out[i] = NULL;
        }
    }
    free(offset);
    return status;
}

/* An entry that takes pictures in 8 bits looks them up in a table of what they are normalised. */
static void fill_table(TicExec *x)
{
    float (*table)[256] = tic_exec_input(x, "pixels:table");
    if (table)
        tic_program_pixels(x->model->program, table);
}

TicStatus tic_exec_open_all(TicModel *m, TicPool *pool, const TicExecAt *at, int n, TicExec **out)
{
    for (int i = 0; i < n; i++)
        out[i] = NULL;
    for (int i = 0; i < n; i++) {
        if (!tic_program_entry(m->program, at[i].entry))
            return tic_fail(TIC_BUG, "the program has no entry `%s`", at[i].entry);
        if (at[i].batch < 1)
            return tic_fail(TIC_USER, "batch: found %lld, wanted at least 1", (long long)at[i].batch);
    }
    bool gpu;
    TRY(tic_device_for(m->program, at, n, &gpu));
    if (gpu) {
        m->gpu = device.gpu;
        TicStatus status = open_on(m, pool, true, at, n, out);
        for (int i = 0; i < n && !status; i++)
            fill_table(out[i]);
        if (!status || device.required)
            return status;
        fprintf(stderr, "%s: going on with the CPU\n", tic_error());    /* too little memory there, say */
        tic_error_clear();
    }
    return open_on(m, pool, false, at, n, out);
}

TicStatus tic_exec_open(TicModel *m, TicPool *pool, const char *name, int64_t batch, TicExec **out)
{
    return tic_exec_open_all(m, pool, &(TicExecAt){ name, batch }, 1, out);
}

void tic_exec_close(TicExec *x)
{
    if (!x)
        return;
    tic_exec_gpu_close(x);
    workspace_drop(x->model, x->workspace);
    free(x->buffer);
    free(x->args);
    free(x->arg_memory);
    free(x);
}

static const TicTensor *input_tensor(const TicExec *x, const char *name)
{
    const TicTensor *t = tic_exec_tensors(x);
    for (uint32_t i = 0; i < x->entry->n_tensor; i++)
        if (t[i].kind == TIC_INPUT && !strcmp(tic_text(x->model->program, t[i].name), name))
            return &t[i];
    return NULL;
}

void *tic_exec_input(TicExec *x, const char *name)
{
    const TicTensor *t = input_tensor(x, name);
    if (!t)
        return NULL;
    uint32_t i = (uint32_t)(t - tic_exec_tensors(x));
    if (x->gpu) {
        tic_exec_gpu_finish(x);                  /* the last run may still be copying what was there */
        tic_exec_gpu_touch(x, i);
    }
    return x->buffer[i];
}

static const char *const batch_inputs[] = { "pixels", "tokens" };

static TicBatch batch_of(TicExec *x, void *(*place)(TicExec *x, const char *name))
{
    const TicTensor *t = input_tensor(x, "pixels");
    void *pixels = place(x, "pixels");
    bool bytes = t && t->dtype == TIC_U8;
    return (TicBatch){ bytes ? NULL : pixels, bytes ? pixels : NULL, place(x, "tokens") };
}

TicBatch tic_exec_batch(TicExec *x) { return batch_of(x, tic_exec_input); }

bool tic_exec_sends(TicExec *x)
{
    uint32_t input[TIC_LEN(batch_inputs)];
    int n = 0;
    for (size_t i = 0; i < TIC_LEN(batch_inputs); i++) {
        const TicTensor *t = input_tensor(x, batch_inputs[i]);
        if (t)
            input[n++] = (uint32_t)(t - tic_exec_tensors(x));
    }
    return x->gpu && tic_exec_gpu_sends(x, input, n);
}

static void *place_of(TicExec *x, const char *name)
{
    const TicTensor *t = input_tensor(x, name);
    return t ? x->buffer[t - tic_exec_tensors(x)] : NULL;
}

TicBatch tic_exec_next_batch(TicExec *x)
{
    tic_exec_gpu_next(x);
    return batch_of(x, place_of);
}

void tic_exec_send(TicExec *x) { tic_exec_gpu_send(x); }
bool tic_exec_busy(const TicExec *x) { return x->gpu && tic_exec_gpu_busy(x); }

static const TicTensor *output_tensor(TicExec *x, const char *name, int *index)
{
    const TicProgram *p = x->model->program;
    const TicOutput *o = TABLE(p, TicOutput, p->outputs) + x->entry->output;
    for (uint32_t i = 0; i < x->entry->n_output; i++)
        if (!strcmp(tic_text(p, o[i].name), name)) {
            *index = o[i].tensor;
            return TABLE(p, TicTensor, p->tensors) + x->entry->tensor + o[i].tensor;
        }
    return NULL;
}

int64_t tic_exec_element_bytes(const TicTensor *t)
{
    return t->dtype == TIC_F64 ? 8 : t->dtype == TIC_BF16 ? 2 : t->dtype == TIC_U8 ? 1 : 4;
}

static float from_bf16(uint16_t x)
{
    uint32_t bits = (uint32_t)x << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

const void *tic_exec_output(TicExec *x, const char *name, int64_t *count)
{
    int i;
    const TicTensor *t = output_tensor(x, name, &i);
    if (!t)
        return NULL;
    if (x->gpu)
        tic_exec_gpu_finish(x);
    if (count)
        *count = tic_poly(t->bytes, x->batch) / tic_exec_element_bytes(t);
    return x->buffer[i];
}

double tic_exec_scalar(TicExec *x, const char *name, double missing)
{
    int i;
    const TicTensor *t = output_tensor(x, name, &i);
    if (!t || t->rank)
        return missing;
    if (x->gpu)
        tic_exec_gpu_finish(x);
    return t->dtype == TIC_F64 ? *(double *)x->buffer[i] : t->dtype == TIC_I32 ? *(int32_t *)x->buffer[i] : *(float *)x->buffer[i];
}

static void launch(TicExec *x, const TicLaunch *l, void **args)
{
    const TicKernel *k = &x->model->kernels[l->kernel];
    tic_pool_run(x->pool, k->run, args, x->batch, k->tasks(x->batch));
}

const TicTensor *tic_exec_tensors(const TicExec *x)
{
    return TABLE(x->model->program, TicTensor, x->model->program->tensors) + x->entry->tensor;
}

const TicLaunch *tic_exec_launches(const TicExec *x)
{
    return TABLE(x->model->program, TicLaunch, x->model->program->launches) + x->entry->launch;
}

void tic_exec_launch_host(TicExec *x, uint32_t i) { launch(x, &tic_exec_launches(x)[i], x->args[i]); }

static void run(TicExec *x, bool first, bool second)
{
    uint32_t from = first ? 0 : x->entry->first_update, to = second ? x->entry->n_launch : x->entry->first_update;
    if (x->gpu) {
        tic_exec_gpu_run(x, first, second);
        return;
    }
    if (!x->failed && first)           /* another entry may have left the parameters on a GPU */
        x->failed = tic_model_to_host(x->model);
    for (uint32_t i = from; i < to && !x->failed; i++) {
        if (x->between)
            x->between(x->between_context);
        launch(x, &tic_exec_launches(x)[i], x->args[i]);
    }
    if (from < to && second && x->entry->first_update < x->entry->n_launch)
        tic_model_changed(x->model);
}

void tic_exec_run(TicExec *x) { run(x, true, true); }
void tic_exec_run_forward_backward(TicExec *x) { run(x, true, false); }
void tic_exec_run_update(TicExec *x) { run(x, false, true); }
void tic_exec_between(TicExec *x, TicBetween *f, void *context)
{
    x->between = f;
    x->between_context = context;
}
TicStatus tic_exec_status(const TicExec *x) { return x->failed; }
const char *tic_exec_device(const TicExec *x) { return x->gpu ? tic_gpu_name(x->model->gpu) : NULL; }
const TicEntry *tic_exec_entry(const TicExec *x) { return x->entry; }

const char *tic_exec_not_finite(const TicTensor *t, const void *data, int64_t batch)
{
    int64_t n = tic_poly(t->bytes, batch) / tic_exec_element_bytes(t);
    for (int64_t i = 0; i < n && t->dtype != TIC_I32 && t->dtype != TIC_U8; i++) {
        double v = t->dtype == TIC_F64 ? ((const double *)data)[i] : t->dtype == TIC_BF16 ? from_bf16(((const uint16_t *)data)[i])
                 : ((const float *)data)[i];
        if (isnan(v))
            return "NaN";
        if (isinf(v) && v > 0)
            return "infinity";
    }
    return NULL;
}

void tic_exec_blame(const TicExec *x, const TicLaunch *l, const char *what, char *text, size_t size)
{
    const TicProgram *p = x->model->program;
    snprintf(text, size, "the first tensor that is not finite is a result of %s (%s): %s",
             *tic_text(p, l->label) ? tic_text(p, l->label) : "the model", tic_text(p, l->source), what);
}

void tic_exec_find_not_finite(TicExec *x, char *text, size_t size)
{
    const TicProgram *p = x->model->program;
    const TicTensor *t = TABLE(p, TicTensor, p->tensors) + x->entry->tensor;
    const uint32_t *arg = TABLE(p, uint32_t, p->args);
    const char *what = tic_model_to_host(x->model) ? NULL : tic_model_not_finite(x->model);
    if (what) {
        snprintf(text, size, "parameter %s is not finite", what);
        return;
    }
    if (x->gpu) {
        tic_exec_gpu_find_not_finite(x, text, size);
        return;
    }
    for (uint32_t i = 0; i < x->entry->first_update; i++) {
        const TicLaunch *l = &tic_exec_launches(x)[i];
        launch(x, l, x->args[i]);
        for (uint32_t k = 0; k < l->n_arg; k++)
            if (tic_launch_writes(l, k) && (what = tic_exec_not_finite(&t[arg[l->arg + k]], x->args[i][k], x->batch))) {
                tic_exec_blame(x, l, what, text, size);
                return;
            }
    }
    snprintf(text, size, "no tensor before the loss holds a NaN");
}

void tic_exec_run_timed(TicExec *x, TicTiming *timing)
{
    if (x->gpu) {
        tic_exec_gpu_timed(x, timing);
        return;
    }
    for (uint32_t i = 0; i < x->entry->n_launch; i++) {
        double t = tic_now();
        launch(x, &tic_exec_launches(x)[i], x->args[i]);
        timing[i].seconds += tic_now() - t;
        timing[i].calls++;
    }
}
