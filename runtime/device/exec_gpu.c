/* exec_gpu.c -- an entry on a GPU. See exec.h.
 *
 * Parameters, states and the arena live on the device. What the host writes (inputs, the scalars it computes) has a place
 * in pinned memory and one on the device, and is copied before a run; outputs come back after it. A batch that is sent
 * ahead goes to a place of its own while another run is at work, and from there, before its own run, to where the kernels
 * read it: they, and so the graphs, know one address. Each half of a step is one graph. Launches marked `host` compute with f64 scalars from the step number; they run before everything else. */
#include "device/cuda.h"
#include "device/exec_impl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Something with a place on both sides. */
typedef struct Mirror {
    uint32_t tensor;
    void *host;
    TicGpuPtr device;
    size_t bytes;
    bool own;                /* the place on the device is this mirror's, not the arena's */
    bool keeps;              /* an input that the batch does not change: copied when the host has touched it */
    bool touched;
    TicGpuPtr stage;         /* where it goes while a run is at work; 0: it is copied before its run */
} Mirror;

typedef struct TicExecGpu {
    TicGpu *gpu;
    TicGpuPtr *at;                   /* at[t]: where tensor t is */
    TicGpuPtr *arg_memory, **args;   /* [n_launch] */
    TicGpuPtr tables, *table;        /* [n_launch]: the launch's arguments once more, on the device, for kernels that want them there */
    Mirror *up, *down;               /* to the device before a run; back after it */
    int n_up, n_down;
    TicGpuGraph *graph[2];           /* the two halves */
    bool pending;                    /* outputs are on their way */
    bool sent;                       /* the next run's batch is in the stages, or on its way there */
} TicExecGpu;

enum { SMALL = 4096 };

/* ---- parameters */

static TicStatus parameters_there(TicModel *m)
{
    if (!m->device) {
        TRY(tic_gpu_alloc(m->gpu, m->bytes, "parameters and optimiser state", &m->device));
        m->host_newer = true;
    }
    if (m->host_newer) {
        TRY(tic_gpu_to(m->gpu, m->device, m->memory, m->bytes));
        TRY(tic_gpu_wait(m->gpu));
        m->host_newer = false;
    }
    return TIC_OK;
}

/* ---- opening */

static size_t bytes_of(const TicExec *x, uint32_t t)
{
    return (size_t)tic_poly(tic_exec_tensors(x)[t].bytes, x->batch);
}

static TicStatus mirror(TicExec *x, uint32_t t, Mirror *out)
{
    TicExecGpu *g = x->gpu;
    *out = (Mirror){ .tensor = t, .bytes = bytes_of(x, t), .device = g->at[t] };
    if (!x->buffer[t])
        TRY(tic_gpu_host(g->gpu, out->bytes, &x->buffer[t]));
    out->host = x->buffer[t];
    return TIC_OK;
}

/* Tensors that host launches touch get a place of their own on both sides. */
static TicStatus host_scalars(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    const TicLaunch *l = tic_exec_launches(x);
    const TicTensor *t = tic_exec_tensors(x);
    const uint32_t *arg = TABLE(x->model->program, uint32_t, x->model->program->args);
    for (uint32_t i = 0; i < x->entry->n_launch; i++)
        for (uint32_t k = 0; l[i].host && k < l[i].n_arg; k++) {
            uint32_t a = arg[l[i].arg + k];
            if (t[a].kind == TIC_PARAM || t[a].kind == TIC_STATE || t[a].kind == TIC_SUM)
                return tic_fail(TIC_BUG, "a scalar of the host reads the parameter `%s`", tic_text(x->model->program, t[a].name));
            if (x->buffer[a])
                continue;
            Mirror m;
            TRY(tic_gpu_alloc(g->gpu, bytes_of(x, a), "a scalar", &g->at[a]));
            TRY(mirror(x, a, &m));
            m.own = true;
            g->up[g->n_up++] = m;
        }
    return TIC_OK;
}

static TicStatus inputs_and_outputs(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    const TicProgram *p = x->model->program;
    const TicTensor *t = tic_exec_tensors(x);
    const TicOutput *o = TABLE(p, TicOutput, p->outputs) + x->entry->output;
    for (uint32_t i = 0; i < x->entry->n_tensor; i++) {
        if (t[i].kind != TIC_INPUT || x->buffer[i] || !g->at[i])
            continue;
        Mirror m;
        TRY(mirror(x, i, &m));
        m.keeps = !t[i].bytes.c[1] && !t[i].bytes.c[2] && m.bytes > SMALL;
        m.touched = true;
        g->up[g->n_up++] = m;
    }
    for (uint32_t i = 0; i < x->entry->n_output; i++) {
        uint32_t out = (uint32_t)o[i].tensor;
        if (x->buffer[out] || !g->at[out])       /* the host has it already, or nobody makes it */
            continue;
        TRY(mirror(x, out, &g->down[g->n_down]));
        g->n_down++;
    }
    return TIC_OK;
}

static TicStatus places(TicExec *x, const int64_t *offset)
{
    TicExecGpu *g = x->gpu;
    TicModel *m = x->model;
    const TicTensor *t = tic_exec_tensors(x);
    for (uint32_t i = 0; i < x->entry->n_tensor; i++) {
        bool param = t[i].kind == TIC_PARAM || t[i].kind == TIC_SUM;
        TicGpuPtr row = param || t[i].kind == TIC_STATE
                      ? (TicGpuPtr)((char *)(param ? m->param : m->state)[t[i].param] - (char *)m->memory) : 0;
        if (offset[i] >= 0)
            g->at[i] = x->workspace->device + (TicGpuPtr)tic_exec_place(x, offset[i]);
        else if (t[i].kind == TIC_PARAM || t[i].kind == TIC_STATE)
            g->at[i] = m->device + row;
        if (t[i].kind != TIC_SUM)
            continue;
        if (!m->device_sums)
            TRY(tic_gpu_alloc(m->gpu, tic_model_sum_bytes(m), "the sums of the gradients", &m->device_sums));
        g->at[i] = m->device_sums + row;         /* parameters come first in the model's memory */
    }
    return TIC_OK;
}

static TicStatus ready_kernels(TicExec *x)
{
    const TicLaunch *l = tic_exec_launches(x);
    uint32_t *kernel = tic_alloc((x->entry->n_launch + 1) * sizeof *kernel);
    int n = 0;
    for (uint32_t i = 0; i < x->entry->n_launch; i++)
        if (!l[i].host)
            kernel[n++] = l[i].kernel;
    TicStatus status = tic_gpu_prepare(x->gpu->gpu, kernel, n);
    free(kernel);
    return status;
}

/* Kernels of which one launch has more arguments than can be given find them in the device's memory. */
static TicStatus tables_there(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    const TicLaunch *l = tic_exec_launches(x);
    const TicGpuKernel *k = TABLE(x->model->program, TicGpuKernel, x->model->program->gpu_kernels);
    size_t n = 0;
    for (uint32_t i = 0; i < x->entry->n_launch; i++)
        n += !l[i].host && k[l[i].kernel].table ? l[i].n_arg : 0;
    if (!n)
        return TIC_OK;
    TRY(tic_gpu_alloc(g->gpu, n * sizeof **g->args, "the arguments of launches over many tensors", &g->tables));
    TicGpuPtr at = g->tables;
    for (uint32_t i = 0; i < x->entry->n_launch; i++) {
        if (l[i].host || !k[l[i].kernel].table)
            continue;
        TRY(tic_gpu_to(g->gpu, at, g->args[i], l[i].n_arg * sizeof **g->args));
        g->table[i] = at;
        at += l[i].n_arg * sizeof **g->args;
    }
    return tic_gpu_wait(g->gpu);
}

static void bind(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    const TicTensor *t = tic_exec_tensors(x);
    const TicLaunch *l = tic_exec_launches(x);
    const uint32_t *arg = TABLE(x->model->program, uint32_t, x->model->program->args);
    size_t n_args = 0;
    for (uint32_t i = 0; i < x->entry->n_tensor; i++)
        if (t[i].storage != (int32_t)i)
            g->at[i] = g->at[t[i].storage];
    for (uint32_t i = 0; i < x->entry->n_launch; i++)
        n_args += l[i].n_arg;
    TicGpuPtr *at = g->arg_memory = tic_alloc((n_args + 1) * sizeof *at);
    void **host = x->arg_memory = tic_alloc((n_args + 1) * sizeof *host);
    for (uint32_t i = 0; i < x->entry->n_launch; i++) {
        g->args[i] = at;
        x->args[i] = host;
        for (uint32_t k = 0; k < l[i].n_arg; k++) {
            *at++ = g->at[arg[l[i].arg + k]];
            *host++ = x->buffer[arg[l[i].arg + k]];
        }
    }
}

TicStatus tic_exec_gpu_open(TicExec *x, const int64_t *offset)
{
    uint32_t n_tensor = x->entry->n_tensor, n_launch = x->entry->n_launch;
    TicExecGpu *g = x->gpu = tic_alloc(sizeof *g);
    *g = (TicExecGpu){ .gpu = x->model->gpu };
    x->buffer = tic_alloc((n_tensor + 1) * sizeof *x->buffer);
    x->args = tic_alloc((n_launch + 1) * sizeof *x->args);
    g->at = tic_alloc((n_tensor + 1) * sizeof *g->at);
    g->args = tic_alloc((n_launch + 1) * sizeof *g->args);
    g->table = tic_alloc((n_launch + 1) * sizeof *g->table);
    g->up = tic_alloc((n_tensor + 1) * sizeof *g->up);
    g->down = tic_alloc((x->entry->n_output + 1) * sizeof *g->down);
    TRY(ready_kernels(x));
    TRY(parameters_there(x->model));
    TRY(places(x, offset));
    TRY(host_scalars(x));
    bind(x);                                     /* storage is settled before inputs and outputs look at it */
    TRY(tables_there(x));
    TRY(inputs_and_outputs(x));
    return TIC_OK;
}

void tic_exec_gpu_close(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    if (!g)
        return;
    for (int i = 0; i < 2; i++)
        tic_gpu_graph_free(g->gpu, g->graph[i]);
    for (int i = 0; i < g->n_up; i++) {
        if (g->up[i].own)
            tic_gpu_free(g->gpu, g->up[i].device);
        tic_gpu_free(g->gpu, g->up[i].stage);
    }
    for (uint32_t i = 0; x->buffer && i < x->entry->n_tensor; i++)
        tic_gpu_host_free(g->gpu, x->buffer[i]);
    free(g->at);
    free(g->arg_memory);
    free(g->args);
    free(g->table);
    if (g->tables)
        tic_gpu_free(g->gpu, g->tables);
    free(g->up);
    free(g->down);
    free(g);
    x->gpu = NULL;
}

/* ---- running */

void tic_exec_gpu_touch(TicExec *x, uint32_t input)
{
    TicExecGpu *g = x->gpu;
    for (int i = 0; i < g->n_up; i++) {
        Mirror *m = &g->up[i];
        if (m->tensor != input)
            continue;
        m->touched = true;
        if (m->stage)
            tic_exec_gpu_next(x);
    }
}

/* ---- a batch ahead */

static TicStatus make_stages(TicExec *x, const uint32_t *input, int n)
{
    TicExecGpu *g = x->gpu;
    for (int i = 0; i < g->n_up; i++)
        for (int k = 0; k < n; k++)
            if (g->up[i].tensor == input[k] && !g->up[i].stage)
                TRY(tic_gpu_alloc(g->gpu, g->up[i].bytes, "the next batch", &g->up[i].stage));
    return TIC_OK;
}

bool tic_exec_gpu_sends(TicExec *x, const uint32_t *input, int n)
{
    TicExecGpu *g = x->gpu;
    if (!make_stages(x, input, n))
        return true;
    tic_error_clear();                           /* there is no room for two: then one after the other */
    for (int i = 0; i < g->n_up; i++) {
        tic_gpu_free(g->gpu, g->up[i].stage);
        g->up[i].stage = 0;
    }
    return false;
}

void tic_exec_gpu_next(TicExec *x)
{
    x->gpu->sent = false;
    if (!x->failed)
        x->failed = tic_gpu_wait_sent(x->gpu->gpu);
}

static TicStatus send(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    for (int i = 0; i < g->n_up; i++)
        if (g->up[i].stage)
            TRY(tic_gpu_send(g->gpu, g->up[i].stage, g->up[i].host, g->up[i].bytes));
    g->sent = true;
    return TIC_OK;
}

void tic_exec_gpu_send(TicExec *x)
{
    if (!x->failed)
        x->failed = send(x);
}

bool tic_exec_gpu_busy(const TicExec *x) { return tic_gpu_busy(x->gpu->gpu); }

/* ---- before and after a run */

void tic_exec_gpu_args(const TicExec *x, uint32_t launch, uint64_t *at)
{
    memcpy(at, x->gpu->args[launch], tic_exec_launches(x)[launch].n_arg * sizeof *at);
}

TicStatus tic_exec_gpu_launch(TicExec *x, uint32_t i)
{
    const TicLaunch *l = &tic_exec_launches(x)[i];
    TicExecGpu *g = x->gpu;
    if (l->host)
        return TIC_OK;
    return g->table[i] ? tic_gpu_launch(g->gpu, l->kernel, &g->table[i], 1, x->batch)
                       : tic_gpu_launch(g->gpu, l->kernel, g->args[i], (int)l->n_arg, x->batch);
}

/* Everything the host gives: scalars first computed, then all of it on its way. */
static TicStatus give(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    TRY(parameters_there(x->model));
    for (uint32_t i = 0; i < x->entry->n_launch; i++)
        if (tic_exec_launches(x)[i].host)
            tic_exec_launch_host(x, i);
    if (!g->sent)
        TRY(send(x));
    g->sent = false;
    for (int i = 0; i < g->n_up; i++) {
        Mirror *m = &g->up[i];
        if (m->stage)
            TRY(tic_gpu_take(g->gpu, m->device, m->stage, m->bytes));
        else if (!m->keeps || m->touched)
            TRY(tic_gpu_to(g->gpu, m->device, m->host, m->bytes));
        m->touched = false;
    }
    return TIC_OK;
}

static TicStatus take(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    for (int i = 0; i < g->n_down; i++)
        TRY(tic_gpu_from(g->gpu, g->down[i].host, g->down[i].device, g->down[i].bytes));
    g->pending = true;
    return TIC_OK;
}

static TicStatus run_half(TicExec *x, int half)
{
    TicExecGpu *g = x->gpu;
    uint32_t from = half ? x->entry->first_update : 0, to = half ? x->entry->n_launch : x->entry->first_update;
    if (from == to)
        return TIC_OK;
    if (!g->graph[half]) {
        TicStatus status = tic_gpu_graph_begin(g->gpu);
        for (uint32_t i = from; i < to && !status; i++)
            status = tic_exec_gpu_launch(x, i);
        TicStatus ended = tic_gpu_graph_end(g->gpu, &g->graph[half]);
        TRY(status);
        TRY(ended);
    }
    TRY(tic_gpu_graph_launch(g->gpu, g->graph[half]));
    if (half)
        x->model->device_newer = true;
    return TIC_OK;
}

static TicStatus run(TicExec *x, bool first, bool second)
{
    if (first) {
        TRY(give(x));
        TRY(run_half(x, 0));
    }
    if (second)
        TRY(run_half(x, 1));
    return take(x);
}

void tic_exec_gpu_run(TicExec *x, bool first, bool second)
{
    if (!x->failed)
        x->failed = run(x, first, second);
}

void tic_exec_gpu_finish(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    if (g->pending && !x->failed)
        x->failed = tic_gpu_wait(g->gpu);
    g->pending = false;
    if (!x->failed)
        return;
    for (int i = 0; i < g->n_down; i++)          /* nobody shall take old numbers for new ones */
        if (tic_exec_tensors(x)[g->down[i].tensor].dtype == TIC_F32)
            for (size_t k = 0; k < g->down[i].bytes / 4; k++)
                ((float *)g->down[i].host)[k] = NAN;
}

static TicStatus run_timed(TicExec *x)
{
    TicExecGpu *g = x->gpu;
    TRY(give(x));
    TRY(tic_gpu_mark(g->gpu, 0));
    for (uint32_t i = 0; i < x->entry->n_launch; i++) {
        TRY(tic_exec_gpu_launch(x, i));
        TRY(tic_gpu_mark(g->gpu, (int)i + 1));
    }
    x->model->device_newer = true;
    TRY(take(x));
    return tic_gpu_wait(g->gpu);
}

void tic_exec_gpu_timed(TicExec *x, TicTiming *timing)
{
    if (!x->failed)
        x->failed = run_timed(x);
    for (uint32_t i = 0; i < x->entry->n_launch && !x->failed; i++) {
        timing[i].seconds += tic_gpu_seconds(x->gpu->gpu, (int)i, (int)i + 1);
        timing[i].calls++;
    }
}

static TicStatus find(TicExec *x, char *text, size_t size, bool *found)
{
    TicExecGpu *g = x->gpu;
    const TicTensor *t = tic_exec_tensors(x);
    const uint32_t *arg = TABLE(x->model->program, uint32_t, x->model->program->args);
    TRY(give(x));
    for (uint32_t i = 0; i < x->entry->first_update && !*found; i++) {
        const TicLaunch *l = &tic_exec_launches(x)[i];
        TRY(tic_exec_gpu_launch(x, i));
        for (uint32_t k = 0; k < l->n_arg && !*found && !l->host; k++) {
            uint32_t a = arg[l->arg + k];
            if (!tic_launch_writes(l, k))
                continue;
            size_t bytes = bytes_of(x, a);
            void *copy = tic_alloc(bytes + 1);
            TicStatus status = tic_gpu_from(g->gpu, copy, g->args[i][k], bytes);
            if (!status)
                status = tic_gpu_wait(g->gpu);
            const char *what = status ? NULL : tic_exec_not_finite(&t[a], copy, x->batch);
            free(copy);
            TRY(status);
            if (what) {
                tic_exec_blame(x, l, what, text, size);
                *found = true;
            }
        }
    }
    return TIC_OK;
}

void tic_exec_gpu_find_not_finite(TicExec *x, char *text, size_t size)
{
    bool found = false;
    if (!x->failed)
        x->failed = find(x, text, size, &found);
    if (!found)
        snprintf(text, size, "no tensor before the loss holds a NaN");
}
