/* cuda.c -- see cuda.h. The driver's functions by dlopen, with prototypes of our own: names as cuda.h of CUDA 12 and 13
 * maps them (_v2). */
#define _GNU_SOURCE
#include "device/cuda.h"
#include "device/nvrtc.h"
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct Opaque *Object;                   /* context, stream, event, module, function, graph */

/* name, return type int, parameters */
#define DRIVER(F) \
    F(cuInit, unsigned) \
    F(cuDriverGetVersion, int *) \
    F(cuGetErrorString, int, const char **) \
    F(cuDeviceGetCount, int *) \
    F(cuDeviceGet, int *, int) \
    F(cuDeviceGetName, char *, int, int) \
    F(cuDeviceGetAttribute, int *, int, int) \
    F(cuDeviceTotalMem_v2, size_t *, int) \
    F(cuDevicePrimaryCtxRetain, Object *, int) \
    F(cuDevicePrimaryCtxRelease_v2, int) \
    F(cuCtxSetCurrent, Object) \
    F(cuMemGetInfo_v2, size_t *, size_t *) \
    F(cuMemAlloc_v2, TicGpuPtr *, size_t) \
    F(cuMemFree_v2, TicGpuPtr) \
    F(cuMemHostAlloc, void **, size_t, unsigned) \
    F(cuMemFreeHost, void *) \
    F(cuMemcpyHtoDAsync_v2, TicGpuPtr, const void *, size_t, Object) \
    F(cuMemcpyDtoHAsync_v2, void *, TicGpuPtr, size_t, Object) \
    F(cuMemcpyDtoDAsync_v2, TicGpuPtr, TicGpuPtr, size_t, Object) \
    F(cuStreamCreate, Object *, unsigned) \
    F(cuStreamDestroy_v2, Object) \
    F(cuStreamSynchronize, Object) \
    F(cuStreamQuery, Object) \
    F(cuStreamWaitEvent, Object, Object, unsigned) \
    F(cuStreamBeginCapture_v2, Object, int) \
    F(cuStreamEndCapture, Object, Object *) \
    F(cuGraphInstantiateWithFlags, Object *, Object, unsigned long long) \
    F(cuGraphLaunch, Object, Object) \
    F(cuGraphExecDestroy, Object) \
    F(cuGraphDestroy, Object) \
    F(cuEventCreate, Object *, unsigned) \
    F(cuEventRecord, Object, Object) \
    F(cuEventSynchronize, Object) \
    F(cuEventElapsedTime, float *, Object, Object) \
    F(cuEventDestroy_v2, Object) \
    F(cuModuleLoadData, Object *, const void *) \
    F(cuModuleUnload, Object) \
    F(cuModuleGetFunction, Object *, Object, const char *) \
    F(cuFuncSetAttribute, Object, int, int) \
    F(cuTensorMapEncodeTiled, void *, int, unsigned, void *, const uint64_t *, const uint64_t *, const uint32_t *, const uint32_t *, \
      int, int, int, int) \
    F(cuLaunchKernel, Object, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Object, void **, void **)

enum { ATTR_PROCESSORS = 16, ATTR_CC_MAJOR = 75, ATTR_CC_MINOR = 76, FUNC_MAX_DYNAMIC_SHARED = 8, STREAM_NON_BLOCKING = 1, CAPTURE_THREAD_LOCAL = 1 };
enum { OLDEST_DRIVER = 12000, OLDEST_ARCH = 80, OUT_OF_MEMORY = 2, NOT_READY = 600, EVENT_NO_TIMING = 2, MOST_ARGS = 256, HOPPER = 90 };

struct TicGpu {
#define POINTER(name, ...) int (*name)(__VA_ARGS__);
    DRIVER(POINTER)
#undef POINTER
    const TicProgram *program;
    int device, arch, processors;                /* arch: 90 for compute capability 9.0 */
    Object context, stream;
    Object sender, sent, taken;                  /* the stream of tic_gpu_send; the end of its last copy; of the last tic_gpu_take */
    char name[160];
    Object *module;                              /* by file */
    bool *hopper;                                /* by file: it is sm_90a's own */
    bool *own;                                   /* by file: sm_90a has another in its place */
    Object *function;                            /* by kernel */
    Object *event;
    int n_event;
};

struct TicGpuGraph { Object exec; };

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

static const char *text_of(const TicProgram *p, uint32_t offset) { return (const char *)p + offset; }

/* ---- errors */

static TicStatus failed(TicGpu *g, int code, const char *what)
{
    const char *text = NULL;
    g->cuGetErrorString(code, &text);
    return tic_fail(TIC_IO, "%s: %s: %s (error %d)", g->name, what, text ? text : "the driver says no more", code);
}

#define CALL(g, what, call) do { int code_ = (g)->call; if (code_) return failed((g), code_, (what)); } while (0)

/* ---- opening */

static TicStatus load_driver(TicGpu *g)
{
    const char *given = getenv("TIC_LIBCUDA"), *name = given && *given ? given : "libcuda.so.1";
    void *library = dlopen(name, RTLD_NOW);
    if (!library)
        return tic_fail(TIC_USER, "no NVIDIA driver: %s", dlerror());
#define LOAD(fn, ...) \
    { \
        void *at = dlsym(library, #fn); \
        if (!at) \
            return tic_fail(TIC_USER, "%s has no `%s`: the NVIDIA driver is too old, wanted one for CUDA 12 or later", name, #fn); \
        memcpy(&g->fn, &at, sizeof at); \
    }
    DRIVER(LOAD)
#undef LOAD
    return TIC_OK;
}

static TicStatus open_device(TicGpu *g, int ordinal)
{
    int code, count = 0, version = 0, major = 0, minor = 0;
    size_t bytes = 0;
    char name[100] = "";
    TRY(load_driver(g));
    snprintf(g->name, sizeof g->name, "GPU %d", ordinal);
    if ((code = g->cuInit(0)))
        return failed(g, code, "the driver cannot start");
    CALL(g, "driver version", cuDriverGetVersion(&version));
    if (version < OLDEST_DRIVER)
        return tic_fail(TIC_USER, "the NVIDIA driver is for CUDA %d.%d, wanted 12.0 or later", version / 1000, version % 1000 / 10);
    CALL(g, "counting devices", cuDeviceGetCount(&count));
    if (ordinal >= count)
        return tic_fail(TIC_USER, "no GPU %d: the driver finds %d", ordinal, count);
    CALL(g, "opening", cuDeviceGet(&g->device, ordinal));
    CALL(g, "name", cuDeviceGetName(name, sizeof name, g->device));
    CALL(g, "compute capability", cuDeviceGetAttribute(&major, ATTR_CC_MAJOR, g->device));
    CALL(g, "compute capability", cuDeviceGetAttribute(&minor, ATTR_CC_MINOR, g->device));
    CALL(g, "multiprocessors", cuDeviceGetAttribute(&g->processors, ATTR_PROCESSORS, g->device));
    CALL(g, "memory size", cuDeviceTotalMem_v2(&bytes, g->device));
    snprintf(g->name, sizeof g->name, "%s, %.1f GiB", name, (double)bytes / (1 << 30));
    g->arch = major * 10 + minor;
    if (g->arch < OLDEST_ARCH)
        return tic_fail(TIC_USER, "%s has compute capability %d.%d, wanted 8.0 or later", name, major, minor);
    CALL(g, "context", cuDevicePrimaryCtxRetain(&g->context, g->device));
    CALL(g, "context", cuCtxSetCurrent(g->context));
    CALL(g, "stream", cuStreamCreate(&g->stream, STREAM_NON_BLOCKING));
    CALL(g, "stream", cuStreamCreate(&g->sender, STREAM_NON_BLOCKING));
    CALL(g, "event", cuEventCreate(&g->sent, EVENT_NO_TIMING));
    CALL(g, "event", cuEventCreate(&g->taken, EVENT_NO_TIMING));
    return TIC_OK;
}

TicStatus tic_gpu_open(const TicProgram *p, int ordinal, TicGpu **out)
{
    TicGpu *g = tic_alloc(sizeof *g);
    *g = (TicGpu){ .program = p };
    g->module = tic_alloc((p->n_gpu_files + 1) * sizeof *g->module);
    g->hopper = tic_alloc((p->n_gpu_files + 1) * sizeof *g->hopper);
    g->own = tic_alloc((p->n_gpu_files + 1) * sizeof *g->own);
    g->function = tic_alloc((p->n_gpu_kernels + 1) * sizeof *g->function);
    TicStatus status = open_device(g, ordinal);
    if (status) {
        tic_gpu_close(g);
        g = NULL;
    }
    *out = g;
    return status;
}

void tic_gpu_close(TicGpu *g)
{
    if (!g)
        return;
    for (uint32_t i = 0; i < g->program->n_gpu_files; i++)
        if (g->module[i])
            g->cuModuleUnload(g->module[i]);
    for (int i = 0; i < g->n_event; i++)
        if (g->event[i])
            g->cuEventDestroy_v2(g->event[i]);
    if (g->sent)
        g->cuEventDestroy_v2(g->sent);
    if (g->taken)
        g->cuEventDestroy_v2(g->taken);
    if (g->sender)
        g->cuStreamDestroy_v2(g->sender);
    if (g->stream)
        g->cuStreamDestroy_v2(g->stream);
    if (g->context)
        g->cuDevicePrimaryCtxRelease_v2(g->device);
    free(g->event);
    free(g->module);
    free(g->hopper);
    free(g->own);
    free(g->function);
    free(g);
}

const char *tic_gpu_name(const TicGpu *g) { return g->name; }

void tic_gpu_arch(const TicGpu *g, char *out, size_t size)
{
    snprintf(out, size, g->arch == HOPPER ? "sm_%da" : "sm_%d", g->arch);
}

/* ---- memory */

TicStatus tic_gpu_alloc(TicGpu *g, size_t bytes, const char *what, TicGpuPtr *out)
{
    *out = 0;
    CALL(g, "context", cuCtxSetCurrent(g->context));
    int code = g->cuMemAlloc_v2(out, bytes ? bytes : 256);
    if (code == OUT_OF_MEMORY) {
        size_t left = 0, all = 0;
        g->cuMemGetInfo_v2(&left, &all);
        return tic_fail(TIC_IO, "%s: %s needs %.2f GB of its memory, %.2f GB are free", g->name, what, (double)bytes / 1e9, (double)left / 1e9);
    }
    return code ? failed(g, code, what) : TIC_OK;
}

void tic_gpu_free(TicGpu *g, TicGpuPtr p)
{
    if (p)
        g->cuMemFree_v2(p);
}

TicStatus tic_gpu_host(TicGpu *g, size_t bytes, void **out)
{
    *out = NULL;
    CALL(g, "context", cuCtxSetCurrent(g->context));
    CALL(g, "pinned host memory", cuMemHostAlloc(out, bytes ? bytes : 64, 0));
    memset(*out, 0, bytes ? bytes : 64);
    return TIC_OK;
}

void tic_gpu_host_free(TicGpu *g, void *p)
{
    if (p)
        g->cuMemFreeHost(p);
}

TicStatus tic_gpu_to(TicGpu *g, TicGpuPtr to, const void *from, size_t bytes)
{
    if (bytes)
        CALL(g, "copying to the device", cuMemcpyHtoDAsync_v2(to, from, bytes, g->stream));
    return TIC_OK;
}

TicStatus tic_gpu_from(TicGpu *g, void *to, TicGpuPtr from, size_t bytes)
{
    if (bytes)
        CALL(g, "copying from the device", cuMemcpyDtoHAsync_v2(to, from, bytes, g->stream));
    return TIC_OK;
}

TicStatus tic_gpu_copy(TicGpu *g, TicGpuPtr to, TicGpuPtr from, size_t bytes)
{
    if (bytes)
        CALL(g, "copying on the device", cuMemcpyDtoDAsync_v2(to, from, bytes, g->stream));
    return TIC_OK;
}

TicStatus tic_gpu_wait(TicGpu *g)
{
    CALL(g, "waiting", cuStreamSynchronize(g->stream));
    return TIC_OK;
}

bool tic_gpu_busy(TicGpu *g) { return g->cuStreamQuery(g->stream) == NOT_READY; }

/* ---- copies beside the stream */

TicStatus tic_gpu_send(TicGpu *g, TicGpuPtr to, const void *from, size_t bytes)
{
    CALL(g, "copying to the device", cuMemcpyHtoDAsync_v2(to, from, bytes, g->sender));
    CALL(g, "event", cuEventRecord(g->sent, g->sender));
    return TIC_OK;
}

TicStatus tic_gpu_take(TicGpu *g, TicGpuPtr to, TicGpuPtr from, size_t bytes)
{
    CALL(g, "waiting", cuStreamWaitEvent(g->stream, g->sent, 0));
    CALL(g, "copying on the device", cuMemcpyDtoDAsync_v2(to, from, bytes, g->stream));
    CALL(g, "event", cuEventRecord(g->taken, g->stream));
    CALL(g, "waiting", cuStreamWaitEvent(g->sender, g->taken, 0));
    return TIC_OK;
}

TicStatus tic_gpu_wait_sent(TicGpu *g)
{
    CALL(g, "waiting", cuEventSynchronize(g->sent));
    return TIC_OK;
}

/* ---- machine code: embedded, kept from an earlier run, or made now */

/* The image that runs here: one for this very architecture, else the newest of the same family below it. */
static const TicGpuImage *find_image(const TicGpu *g, const TicGpuFile *f)
{
    const TicGpuImage *image = TABLE(g->program, TicGpuImage, g->program->gpu_images) + f->image, *best = NULL;
    for (uint32_t i = 0; i < f->n_image; i++) {
        uint32_t arch = image[i].arch, here = (uint32_t)g->arch;
        if (arch == here * 10 + 'a')
            return &image[i];
        if (arch / 10 == here / 10 && arch <= here && (!best || arch > best->arch))
            best = &image[i];
    }
    return best;
}

static TicStatus load_module(TicGpu *g, uint32_t file, const void *image)
{
    int code = g->cuModuleLoadData(&g->module[file], image);
    const TicGpuFile *f = TABLE(g->program, TicGpuFile, g->program->gpu_files) + file;
    return code ? failed(g, code, text_of(g->program, f->name)) : TIC_OK;
}

static TicStatus compile_files(TicGpu *g, const uint32_t *file, int n)
{
    const TicProgram *p = g->program;
    const TicGpuFile *files = TABLE(p, TicGpuFile, p->gpu_files);
    char why[512] = "", arch[16];
    TicNvrtc *nvrtc = tic_nvrtc_open(why, sizeof why);
    tic_gpu_arch(g, arch, sizeof arch);
    if (!nvrtc)
        return tic_fail(TIC_USER, "the program holds no machine code for %s, and none can be made: %s; compile it with --target cuda:%s",
                        g->name, why, arch);
    TicCuda *job = tic_alloc((size_t)(n + 1) * sizeof *job);
    TicStatus status = TIC_OK;
    for (int i = 0; i < n; i++) {
        g->hopper[file[i]] = g->arch == HOPPER;
        job[i] = (TicCuda){ .name = text_of(p, files[file[i]].name), .prelude = text_of(p, p->gpu_prelude),
                            .text = text_of(p, files[file[i]].text), .arch = arch };
    }
    int left = tic_nvrtc_recall(nvrtc, job, n);
    if (left) {
        fprintf(stderr, "compiling %d kernels for %s\n", left, g->name);
        tic_nvrtc_compile(nvrtc, job, n, 0);
    }
    for (int i = 0; i < n && !status; i++)
        status = job[i].image ? load_module(g, file[i], job[i].image)
                              : tic_fail(TIC_BUG, "NVRTC refuses %s for %s: %s", job[i].name, arch, job[i].log ? job[i].log : "");
    tic_nvrtc_free(job, n);
    tic_nvrtc_close(nvrtc);
    free(job);
    return status;
}

/* Whether sm_90a's own text of the kernel runs here: if there is code of it, or none of the other. */
static bool takes_own(const TicGpu *g, const TicGpuKernel *k)
{
    const TicGpuFile *f = TABLE(g->program, TicGpuFile, g->program->gpu_files);
    return k->own.file >= 0 && g->arch == HOPPER && (find_image(g, &f[k->own.file]) || !find_image(g, &f[k->file]));
}

static uint32_t file_of(const TicGpu *g, const TicGpuKernel *k)
{
    return g->own[k->file] ? (uint32_t)k->own.file : k->file;
}

static TicStatus find_function(TicGpu *g, uint32_t kernel)
{
    enum { STATIC_SHARED = 48 << 10 };
    const TicGpuKernel *k = TABLE(g->program, TicGpuKernel, g->program->gpu_kernels) + kernel;
    const char *name = text_of(g->program, g->own[k->file] ? k->own.name : k->name);
    if (g->function[kernel])
        return TIC_OK;
    CALL(g, name, cuModuleGetFunction(&g->function[kernel], g->module[file_of(g, k)], name));
    int shared = g->hopper[file_of(g, k)] && k->hopper.threads ? k->hopper.shared : k->shared;
    if (shared > STATIC_SHARED)
        CALL(g, name, cuFuncSetAttribute(g->function[kernel], FUNC_MAX_DYNAMIC_SHARED, shared));
    return TIC_OK;
}

TicStatus tic_gpu_prepare(TicGpu *g, const uint32_t *kernel, int n)
{
    const TicProgram *p = g->program;
    const TicGpuKernel *k = TABLE(p, TicGpuKernel, p->gpu_kernels);
    const TicGpuFile *files = TABLE(p, TicGpuFile, p->gpu_files);
    uint32_t *missing = tic_alloc((p->n_gpu_files + 1) * sizeof *missing);
    bool *asked = tic_alloc((p->n_gpu_files + 1) * sizeof *asked);
    int n_missing = 0;
    TicStatus status = TIC_OK;
    for (int i = 0; i < n && !status; i++) {
        g->own[k[kernel[i]].file] = takes_own(g, &k[kernel[i]]);
        uint32_t f = file_of(g, &k[kernel[i]]);
        if (g->module[f] || asked[f])
            continue;
        asked[f] = true;
        const TicGpuImage *image = find_image(g, &files[f]);
        g->hopper[f] = image && image->arch == HOPPER * 10 + 'a';
        if (image)
            status = load_module(g, f, (const char *)p + image->offset);
        else
            missing[n_missing++] = f;
    }
    if (!status && n_missing)
        status = compile_files(g, missing, n_missing);
    for (int i = 0; i < n && !status; i++)
        status = find_function(g, kernel[i]);
    free(missing);
    free(asked);
    return status;
}

/* ---- launches */

static int64_t value(TicPoly p, int64_t b)
{
    return p.c[0] + b * (p.c[1] + b * p.c[2]);
}

/* Blocks of a grid at a batch; -1: too many for one launch. */
static int64_t blocks_of(const TicGrid *grid, int64_t batch)
{
    int64_t blocks = 1;
    for (int i = 0; i < grid->n; i++) {
        int64_t n = (value(grid->points[i], batch) + grid->per[i] - 1) / grid->per[i];
        if (tic_mul_overflow(blocks, n, &blocks) || blocks > INT32_MAX)
            return -1;
    }
    return blocks;
}

typedef struct { _Alignas(64) uint64_t q[16]; } Map;

static TicStatus encode(TicGpu *g, const TicGpuMap *m, TicGpuPtr base, int64_t batch, Map *out)
{
    enum { BFLOAT16 = 9, SWIZZLE_128 = 3, PROMOTE_256 = 3 };
    const uint64_t dim[2] = { (uint64_t)value(m->inner, batch), (uint64_t)value(m->outer, batch) }, stride[1] = { (uint64_t)m->stride * 2 };
    const uint32_t box[2] = { (uint32_t)m->box_inner, (uint32_t)m->box_outer }, step[2] = { 1, 1 };
    CALL(g, "a tensor map", cuTensorMapEncodeTiled(out, BFLOAT16, 2, (void *)(uintptr_t)(base + (TicGpuPtr)m->offset * 2), dim, stride, box,
                                                   step, 0, SWIZZLE_128, PROMOTE_256, 0));
    return TIC_OK;
}

TicStatus tic_gpu_launch(TicGpu *g, uint32_t kernel, const TicGpuPtr *arg, int n_arg, int64_t batch)
{
    const TicGpuKernel *k = TABLE(g->program, TicGpuKernel, g->program->gpu_kernels) + kernel;
    const char *name = text_of(g->program, k->name);
    bool own = g->own[k->file], hopper = g->hopper[file_of(g, k)] && k->hopper.threads;
    const TicGrid *grid = hopper ? &k->hopper.tiles : &k->grid;
    int64_t blocks = blocks_of(grid, batch), y = grid->y;
    int32_t b = (int32_t)batch;
    Map map[2];
    void *args[MOST_ARGS + 3 + TIC_GPU_SIZES];
    int n = 0;
    if (blocks < 0)
        return tic_fail(TIC_USER, "%s: a batch of %lld is too large for one launch", name, (long long)batch);
    if (!blocks)
        return TIC_OK;
    if (n_arg > MOST_ARGS)
        return tic_fail(TIC_BUG, "%s has %d arguments", name, n_arg);
    if (hopper && k->hopper.maps) {
        for (int i = 0; i < 2; i++) {
            TRY(encode(g, &k->hopper.map[i], arg[k->hopper.map[i].arg], batch, &map[i]));
            args[n++] = &map[i];
        }
        blocks = blocks * y < g->processors ? blocks * y : g->processors;
        y = 1;
    }
    for (int i = 0; i < n_arg; i++)
        args[n++] = (void *)(uintptr_t)&arg[i];
    args[n++] = &b;
    for (int i = 0; own && i < k->own.n_size; i++)
        args[n++] = (void *)(uintptr_t)&k->own.size[i];
    CALL(g, name, cuLaunchKernel(g->function[kernel], (unsigned)blocks, (unsigned)y, 1, (unsigned)(hopper ? k->hopper.threads : k->threads), 1,
                                 1, (unsigned)(hopper ? k->hopper.shared : k->shared), g->stream, args, NULL));
    return TIC_OK;
}

TicStatus tic_gpu_graph_begin(TicGpu *g)
{
    CALL(g, "beginning a graph", cuStreamBeginCapture_v2(g->stream, CAPTURE_THREAD_LOCAL));
    return TIC_OK;
}

TicStatus tic_gpu_graph_end(TicGpu *g, TicGpuGraph **out)
{
    Object graph = NULL;
    *out = NULL;
    CALL(g, "ending a graph", cuStreamEndCapture(g->stream, &graph));
    TicGpuGraph *x = tic_alloc(sizeof *x);
    int code = g->cuGraphInstantiateWithFlags(&x->exec, graph, 0);
    g->cuGraphDestroy(graph);
    if (code) {
        free(x);
        return failed(g, code, "preparing a graph");
    }
    *out = x;
    return TIC_OK;
}

TicStatus tic_gpu_graph_launch(TicGpu *g, TicGpuGraph *graph)
{
    CALL(g, "launching the step", cuGraphLaunch(graph->exec, g->stream));
    return TIC_OK;
}

void tic_gpu_graph_free(TicGpu *g, TicGpuGraph *graph)
{
    if (!graph)
        return;
    g->cuGraphExecDestroy(graph->exec);
    free(graph);
}

/* ---- time */

TicStatus tic_gpu_mark(TicGpu *g, int i)
{
    if (i >= g->n_event) {
        g->event = tic_realloc(g->event, (size_t)(i + 1) * sizeof *g->event);
        while (g->n_event <= i)
            g->event[g->n_event++] = NULL;
    }
    if (!g->event[i])
        CALL(g, "event", cuEventCreate(&g->event[i], 0));
    CALL(g, "event", cuEventRecord(g->event[i], g->stream));
    return TIC_OK;
}

double tic_gpu_seconds(TicGpu *g, int from, int to)
{
    float ms = 0;
    g->cuEventElapsedTime(&ms, g->event[from], g->event[to]);
    return ms * 1e-3;
}
