/* fake_cuda.c -- a libcuda whose one device is the emulator: TIC_LIBCUDA=.../libemu_cuda.so.
 *
 * What the product calls of the driver: memory, modules, launches, streams, events, graphs, tensor maps. A stream works
 * as late as it may: when somebody waits for it, or for an event behind what it has to do; so whoever does not wait finds
 * old numbers, and whoever writes too early over what is still to be copied loses them. The stream NULL works at once. A
 * capture notes what it is told, with copies of the arguments, and a graph launch gives it to the stream. A launch in which
 * the emulator finds a defect fails with CUDA_ERROR_LAUNCH_FAILED, as does everything after it.
 *
 *   TIC_EMU_SEED=N      the random order of threads and copies; launches count on from there
 *   TIC_EMU_ARCH=NN     compute capability, 80 or 90 (90)
 *   TIC_EMU_MEMORY=N    MiB of the device (4096)
 *   TIC_EMU_PLACES=N    how many pieces of memory it gives out; more do not fit (any number)
 *   TIC_EMU_PROCESSORS=N   multiprocessors it says to have (3)
 *   TIC_EMU_LOG=FILE    a line for each launch, and for memory that was refused
 *   TIC_EMU_THREADS=N   emulator threads (all cores)
 *   TIC_EMU_STREAMS=now   streams work at once; mixed: all but the first one made
 *   TIC_EMU_CLOCK=bytes   events tell a time that follows from launches alone: a microsecond each, and a nanosecond for each
 *                       byte of global memory that they touch
 *   TIC_EMU_QUIET=1     no reports on stderr: the error's text is enough
 *   TIC_EMU_LINT=FILE   what warps' accesses of memory take of banks and sectors, by line (emu_quote)
 *   TIC_EMU_VALUES_ONLY=1   no shadow memory: faster, and blind */
#define _GNU_SOURCE
#include "emu.h"
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

typedef int CUresult;
typedef u64 CUdeviceptr;
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_IMAGE = 200, INVALID_HANDLE = 400, NOT_FOUND = 500,
    NOT_READY = 600, LAUNCH_FAILED = 719, CAPTURE_INVALID = 901,
};

typedef struct Module { void *object; struct Function *functions; } Module;
typedef struct Function {
    struct Function *next;             /* of the same module, freed with it */
    Module *module;
    void (*thunk)(void **);
    const u32 *sizes, *bounds;         /* of the arguments, 0 last; threads a block may have */
    char name[256];
    u32 shared_most;
} Function;

/* One thing a stream does. */
typedef enum { DO_COPY, DO_FILL, DO_LAUNCH, DO_RECORD, DO_WAIT } Kind;
typedef struct Deed {
    Kind kind;
    struct Event *event;               /* of DO_RECORD */
    struct Stream *other;              /* DO_WAIT: until it has done `until` deeds */
    u64 until;
    void *dst;
    const void *src;
    size_t bytes;
    u32 value, width;
    bool from_host;
    Function *fn;
    emu_dim3 grid, block;
    u32 smem;
    void **args;                       /* own copies */
} Deed;

typedef struct Graph { Deed *deed; int n, cap; } Graph;
typedef struct Stream {
    struct Stream *next;               /* of all */
    Graph *capture;
    Graph queue;                       /* deed i is number `first` + i + 1 of all that it was ever given */
    u64 first, done;
} Stream;
typedef struct Event { double at; Stream *on; u64 number; } Event;     /* on: NULL, never recorded */

static Stream default_stream, *streams = &default_stream;
static CUresult failed;                /* the first failure of a launch stays */
static size_t memory_used;
static long places;                                      /* pieces of it */
static u32 launches;
static double counted;                 /* seconds of TIC_EMU_CLOCK=bytes */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static long setting(const char *name, long otherwise)
{
    const char *s = getenv(name);
    return s && *s ? atol(s) : otherwise;
}

static size_t memory_size(void)
{
    return (size_t)setting("TIC_EMU_MEMORY", 4096) << 20;
}

__attribute__((format(printf, 1, 2))) static void logged(const char *fmt, ...)
{
    const char *log = getenv("TIC_EMU_LOG");
    FILE *f = log ? fopen(log, "a") : NULL;
    va_list args;
    if (!f)
        return;
    va_start(args, fmt);
    vfprintf(f, fmt, args);
    va_end(args);
    fclose(f);
}

/* ---- doing */

static CUresult launch(const Deed *d)
{
    EmuLaunch l = {.seed = (u32)setting("TIC_EMU_SEED", 1) + launches++, .grid = d->grid, .block = d->block, .smem = d->smem,
                   .values_only = setting("TIC_EMU_VALUES_ONLY", 0) != 0};
    double start = now();
    const char *lint = getenv("TIC_EMU_LINT");
    emu_lint_on = lint && *lint;
    emu_quiet = setting("TIC_EMU_QUIET", 0) != 0;
    int defects = emu_launch(&l, d->fn->thunk, d->args);
    counted += 1e-6 + 1e-9 * (double)emu_moved;
    if (emu_lint_on)
        emu_quote(d->fn->module->object, d->fn->name, lint);
    logged("%s grid %u,%u,%u block %u shared %u: %.1f ms, %d defects%s%s\n", d->fn->name, d->grid.x, d->grid.y, d->grid.z,
           d->block.x, d->smem, (now() - start) * 1e3, defects, defects ? ": " : "", defects ? emu_first : "");
    if (defects && !emu_quiet)
        fprintf(stderr, "  [emulator] kernel %s: %d defects\n", d->fn->name, defects);
    return defects ? (failed = LAUNCH_FAILED) : SUCCESS;
}

static CUresult do_it(const Deed *d)
{
    if (failed)
        return failed;
    switch (d->kind) {
    case DO_COPY:
        memcpy(d->dst, d->src, d->bytes);
        emu_mark(d->dst, d->bytes);
        return SUCCESS;
    case DO_FILL:
        for (size_t i = 0; i < d->bytes; i += d->width)
            memcpy((u8 *)d->dst + i, &d->value, d->width);
        emu_mark(d->dst, d->bytes);
        return SUCCESS;
    case DO_LAUNCH:
        return launch(d);
    case DO_RECORD:
        d->event->at = getenv("TIC_EMU_CLOCK") ? counted : now();
        return SUCCESS;
    case DO_WAIT:
        return SUCCESS;
    }
    return INVALID_VALUE;
}

static void free_args(Deed *d)
{
    for (int k = 0; d->kind == DO_LAUNCH && d->args[k]; k++)
        free(d->args[k]);
    if (d->kind == DO_LAUNCH)
        free(d->args);
}

static u64 given(const Stream *s) { return s->first + (u64)s->queue.n; }

/* The stream's deeds up to `number`, and first what they wait for. The lock is held. */
static void work(Stream *s, u64 number)
{
    for (; s->done < number; s->done++) {
        Deed *d = &s->queue.deed[s->done - s->first];
        if (d->kind == DO_WAIT)
            work(d->other, d->until);
        do_it(d);
        free_args(d);
    }
    if (s->done == given(s)) {
        s->first = s->done;
        s->queue.n = 0;
    }
}

/* What TIC_EMU_STREAMS asks for beyond what somebody waits for, after a stream was given something. */
static void work_early(Stream *s)
{
    const char *when = getenv("TIC_EMU_STREAMS");
    if (when && (!strcmp(when, "now") || (!strcmp(when, "mixed") && s->next != &default_stream)))
        work(s, given(s));
}

static void work_all(void)
{
    pthread_mutex_lock(&lock);
    for (Stream *s = streams; s; s = s->next)
        work(s, given(s));
    pthread_mutex_unlock(&lock);
}

static void *copy_of(const void *p, size_t n)
{
    void *c = aligned_alloc(64, (n + 64) / 64 * 64);      /* a tensor map is an argument, aligned to 64 */
    memcpy(c, p, n);
    return c;
}

static CUresult give(Stream *s, Deed d)
{
    s = s ? s : &default_stream;
    if (!s->capture && s == &default_stream) {
        pthread_mutex_lock(&lock);
        CUresult e = do_it(&d);
        pthread_mutex_unlock(&lock);
        return e;
    }
    if (failed)
        return failed;
    if (d.kind == DO_LAUNCH) {
        int n = 0;
        while (d.fn->sizes[n])
            n++;
        void **args = calloc((size_t)n + 1, sizeof *args);
        for (int i = 0; i < n; i++)
            args[i] = copy_of(d.args[i], d.fn->sizes[i]);
        d.args = args;
    }
    pthread_mutex_lock(&lock);
    Graph *g = s->capture ? s->capture : &s->queue;
    if (g->n == g->cap)
        g->deed = realloc(g->deed, (size_t)(g->cap = g->cap ? 2 * g->cap : 64) * sizeof *g->deed);
    g->deed[g->n++] = d;
    if (!s->capture)
        work_early(s);
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

static bool on_device(CUdeviceptr p, size_t bytes)
{
    return !bytes || emu_inside((const void *)p, bytes);
}

/* ---- the driver's names. Not a header of CUDA: the prototypes stand here. */
#define API(name, ...) \
    CUresult name(__VA_ARGS__); \
    CUresult name(__VA_ARGS__)

API(cuInit, u32 flags)
{
    return flags ? INVALID_VALUE : SUCCESS;
}

API(cuDriverGetVersion, int *v)
{
    *v = 13000;
    return SUCCESS;
}

API(cuDeviceGetCount, int *n)
{
    *n = 1;
    return SUCCESS;
}

API(cuDeviceGet, int *device, int ordinal)
{
    *device = 0;
    return ordinal ? INVALID_DEVICE : SUCCESS;
}

API(cuDeviceGetName, char *name, int n, int device)
{
    (void)device;
    snprintf(name, (size_t)n, "emulated GPU");
    return SUCCESS;
}

API(cuDeviceTotalMem_v2, size_t *bytes, int device)
{
    (void)device;
    *bytes = memory_size();
    return SUCCESS;
}

API(cuDeviceGetAttribute, int *v, int attribute, int device)
{
    enum {
        THREADS = 1, SHARED = 8, WARP = 10, CLOCK = 13, PROCESSORS = 16, MEMORY_CLOCK = 36, BUS = 37, L2 = 38, MAJOR = 75,
        MINOR = 76, SHARED_MP = 81, SHARED_OPTIN = 97,
    };
    long arch = setting("TIC_EMU_ARCH", 90);
    (void)device;
    switch (attribute) {
    case THREADS: *v = EMU_THREADS_MOST; return SUCCESS;
    case SHARED: *v = 48 * 1024; return SUCCESS;
    case WARP: *v = 32; return SUCCESS;
    case CLOCK: case MEMORY_CLOCK: *v = 1000000; return SUCCESS;
    case PROCESSORS: *v = (int)setting("TIC_EMU_PROCESSORS", 3); return SUCCESS;
    case BUS: *v = 1024; return SUCCESS;
    case L2: *v = 1 << 20; return SUCCESS;
    case MAJOR: *v = (int)(arch / 10); return SUCCESS;
    case MINOR: *v = (int)(arch % 10); return SUCCESS;
    case SHARED_MP: *v = EMU_SMEM_MOST + 1024; return SUCCESS;
    case SHARED_OPTIN: *v = arch >= 90 ? EMU_SMEM_MOST : 163 * 1024; return SUCCESS;
    }
    *v = 0;
    return SUCCESS;
}

API(cuDevicePrimaryCtxRetain, void **context, int device)
{
    (void)device;
    *context = &default_stream;
    return SUCCESS;
}

API(cuDevicePrimaryCtxRelease_v2, int device) { return device ? INVALID_DEVICE : SUCCESS; }

API(cuDevicePrimaryCtxReset_v2, int device)              /* forgets a failed launch; memory stays */
{
    failed = SUCCESS;
    return device ? INVALID_DEVICE : SUCCESS;
}

API(cuCtxSynchronize, void)
{
    work_all();
    return failed;
}

API(cuCtxSetCurrent, void *context)
{
    (void)context;
    return SUCCESS;
}

API(cuGetErrorName, CUresult e, const char **name)
{
    switch (e) {
    case SUCCESS: *name = "CUDA_SUCCESS"; break;
    case OUT_OF_MEMORY: *name = "CUDA_ERROR_OUT_OF_MEMORY"; break;
    case LAUNCH_FAILED: *name = "CUDA_ERROR_LAUNCH_FAILED"; break;
    case NOT_FOUND: *name = "CUDA_ERROR_NOT_FOUND"; break;
    default: *name = "CUDA_ERROR_INVALID_VALUE";
    }
    return SUCCESS;
}

API(cuGetErrorString, CUresult e, const char **text)
{
    *text = e == LAUNCH_FAILED ? emu_first : e == OUT_OF_MEMORY ? "out of memory" : "emulated driver error";
    return SUCCESS;
}

/* ---- memory */

API(cuMemAlloc_v2, CUdeviceptr *p, size_t bytes)
{
    bool fits = memory_used + bytes <= memory_size() && places < setting("TIC_EMU_PLACES", LONG_MAX);
    void *q = fits && bytes ? emu_alloc(bytes, "device memory") : NULL;
    *p = (CUdeviceptr)q;
    if (!q) {
        logged("%zu bytes of device memory after %ld places: refused\n", bytes, places);
        return bytes ? OUT_OF_MEMORY : INVALID_VALUE;
    }
    places++;
    memory_used += bytes;
    return SUCCESS;
}

API(cuMemFree_v2, CUdeviceptr p)                         /* waits for the device, as the driver's does */
{
    work_all();
    places -= p != 0;
    memory_used -= emu_free((void *)p);
    return SUCCESS;
}

API(cuMemGetInfo_v2, size_t *unused, size_t *total)
{
    *total = memory_size();
    *unused = *total - memory_used;
    return SUCCESS;
}

API(cuMemHostAlloc, void **p, size_t bytes, u32 flags)
{
    (void)flags;
    return posix_memalign(p, 4096, bytes ? bytes : 1) ? OUT_OF_MEMORY : SUCCESS;
}

API(cuMemAllocHost_v2, void **p, size_t bytes) { return cuMemHostAlloc(p, bytes, 0); }

API(cuMemFreeHost, void *p)
{
    work_all();
    free(p);
    return SUCCESS;
}

API(cuMemHostRegister_v2, void *p, size_t bytes, u32 flags) { return p && bytes && !(flags & ~15u) ? SUCCESS : INVALID_VALUE; }
API(cuMemHostUnregister, void *p) { return p ? SUCCESS : INVALID_VALUE; }

static CUresult copy(Stream *s, void *dst, const void *src, size_t bytes)
{
    return give(s, (Deed){.kind = DO_COPY, .dst = dst, .src = src, .bytes = bytes});
}

API(cuMemcpyHtoDAsync_v2, CUdeviceptr d, const void *s, size_t n, Stream *on)
{
    return on_device(d, n) ? copy(on, (void *)d, s, n) : INVALID_VALUE;
}

API(cuMemcpyDtoHAsync_v2, void *d, CUdeviceptr s, size_t n, Stream *on)
{
    return on_device(s, n) ? copy(on, d, (void *)s, n) : INVALID_VALUE;
}

API(cuMemcpyDtoDAsync_v2, CUdeviceptr d, CUdeviceptr s, size_t n, Stream *on)
{
    return on_device(d, n) && on_device(s, n) ? copy(on, (void *)d, (void *)s, n) : INVALID_VALUE;
}

API(cuMemcpyHtoD_v2, CUdeviceptr d, const void *s, size_t n) { return cuMemcpyHtoDAsync_v2(d, s, n, NULL); }
API(cuMemcpyDtoH_v2, void *d, CUdeviceptr s, size_t n) { return cuMemcpyDtoHAsync_v2(d, s, n, NULL); }
API(cuMemcpyDtoD_v2, CUdeviceptr d, CUdeviceptr s, size_t n) { return cuMemcpyDtoDAsync_v2(d, s, n, NULL); }

static CUresult fill(Stream *s, CUdeviceptr d, u32 value, u32 width, size_t n)
{
    Deed f = {.kind = DO_FILL, .dst = (void *)d, .bytes = n * width, .value = value, .width = width};
    return on_device(d, n * width) && d % width == 0 ? give(s, f) : INVALID_VALUE;
}

API(cuMemsetD8Async, CUdeviceptr d, unsigned char v, size_t n, Stream *s) { return fill(s, d, v, 1, n); }
API(cuMemsetD32Async, CUdeviceptr d, u32 v, size_t n, Stream *s) { return fill(s, d, v, 4, n); }
API(cuMemsetD8_v2, CUdeviceptr d, unsigned char v, size_t n) { return fill(NULL, d, v, 1, n); }
API(cuMemsetD32_v2, CUdeviceptr d, u32 v, size_t n) { return fill(NULL, d, v, 4, n); }

/* ---- modules. The kernels find the emulator's words in this library, whichever way it was loaded itself. */

static void open_to_kernels(void)
{
    Dl_info here;
    if (dladdr((void *)open_to_kernels, &here))
        dlopen(here.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
    dlopen("libm.so.6", RTLD_NOW | RTLD_GLOBAL);
}

static size_t object_size(const u8 *image)               /* the section table is the last thing in an ELF file */
{
    u64 at;
    u16 bytes, count;
    memcpy(&at, image + 40, 8);
    memcpy(&bytes, image + 58, 2);
    memcpy(&count, image + 60, 2);
    return at + (size_t)bytes * count;
}

API(cuModuleLoadData, Module **m, const void *image)
{
    *m = NULL;
    if (memcmp(image, "\177ELF", 4))
        return INVALID_IMAGE;
    open_to_kernels();
    char path[64];
    int fd = memfd_create("kernel", MFD_CLOEXEC);
    size_t bytes = object_size(image);
    if (fd < 0 || write(fd, image, bytes) != (ssize_t)bytes)
        return OUT_OF_MEMORY;
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    void *object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (!object) {
        fprintf(stderr, "  [emulator] %s\n", dlerror());
        return INVALID_IMAGE;
    }
    /* the descriptor stays open: the loader tells files apart by path, and a number used again would be the same file */
    *m = calloc(1, sizeof **m);
    (*m)->object = object;
    return SUCCESS;
}

API(cuModuleLoadDataEx, Module **m, const void *image, u32 n, void *options, void **values)
{
    (void)n;
    (void)options;
    (void)values;
    return cuModuleLoadData(m, image);
}

API(cuModuleUnload, Module *m)
{
    work_all();
    for (Function *f = m->functions, *next; f; f = next) {
        next = f->next;
        free(f);
    }
    emu_quote_forget();
    dlclose(m->object);
    free(m);
    return SUCCESS;
}

static void *symbol(Module *m, const char *prefix, const char *name)
{
    char full[320];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    return dlsym(m->object, full);
}

API(cuModuleGetFunction, Function **f, Module *m, const char *name)
{
    Function *k = *f = calloc(1, sizeof *k);
    k->next = m->functions;
    k->module = m;
    m->functions = k;
    *(void **)&k->thunk = symbol(m, "emu_thunk_", name);
    k->sizes = symbol(m, "emu_sizes_", name);
    k->bounds = symbol(m, "emu_bounds_", name);
    k->shared_most = 48 * 1024;
    snprintf(k->name, sizeof k->name, "%s", name);
    return k->thunk && k->sizes && k->bounds ? SUCCESS : NOT_FOUND;
}

API(cuFuncSetAttribute, Function *f, int attribute, int value)
{
    enum { DYNAMIC_SHARED = 8 };
    int most = 0;
    cuDeviceGetAttribute(&most, 97, 0);
    if (attribute == DYNAMIC_SHARED && value > most)
        return INVALID_VALUE;
    if (attribute == DYNAMIC_SHARED)
        f->shared_most = (u32)value;
    return SUCCESS;
}

API(cuFuncGetAttribute, int *value, int attribute, Function *f)
{
    (void)f;
    *value = attribute == 0 ? EMU_THREADS_MOST : 0;
    return SUCCESS;
}

API(cuOccupancyMaxActiveBlocksPerMultiprocessor, int *n, Function *f, int threads, size_t shared)
{
    (void)f;
    *n = threads > 512 || shared > EMU_SMEM_MOST / 2 ? 1 : 2;
    return SUCCESS;
}

API(cuLaunchKernel, Function *f, u32 gx, u32 gy, u32 gz, u32 bx, u32 by, u32 bz, u32 shared, Stream *s, void **args, void **extra)
{
    Deed d = {.kind = DO_LAUNCH, .fn = f, .grid = {gx, gy, gz}, .block = {bx, by, bz}, .smem = shared, .args = args};
    bool grid = gx && gy && gz && gx <= 2147483647u && gy <= 65535 && gz <= 65535;
    if (extra || !grid || bx * by * bz > f->bounds[0] || shared > f->shared_most) {
        fprintf(stderr, "  [emulator] %s: a launch of %u,%u,%u blocks of %u threads with %u bytes of shared memory; %u and %u allowed\n",
                f->name, gx, gy, gz, bx * by * bz, shared, f->bounds[0], f->shared_most);
        return INVALID_VALUE;
    }
    return give(s, d);
}

/* ---- streams, events, graphs */

API(cuStreamCreate, Stream **s, u32 flags)
{
    (void)flags;
    Stream *own = *s = calloc(1, sizeof **s);
    pthread_mutex_lock(&lock);
    own->next = streams;
    streams = own;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

API(cuStreamDestroy_v2, Stream *s)
{
    work_all();
    pthread_mutex_lock(&lock);
    Stream **at = &streams;
    while (*at != s)
        at = &(*at)->next;
    *at = s->next;
    pthread_mutex_unlock(&lock);
    free(s->queue.deed);
    free(s);
    return SUCCESS;
}

API(cuStreamSynchronize, Stream *s)
{
    s = s ? s : &default_stream;
    if (s->capture)
        return CAPTURE_INVALID;
    pthread_mutex_lock(&lock);
    work(s, given(s));
    pthread_mutex_unlock(&lock);
    return failed;
}

API(cuStreamQuery, Stream *s)
{
    s = s ? s : &default_stream;
    return s->capture ? CAPTURE_INVALID : failed ? failed : s->done < given(s) ? NOT_READY : SUCCESS;
}

API(cuEventCreate, Event **e, u32 flags)
{
    (void)flags;
    *e = calloc(1, sizeof **e);
    return SUCCESS;
}

API(cuEventDestroy_v2, Event *e)
{
    work_all();
    free(e);
    return SUCCESS;
}

API(cuEventRecord, Event *e, Stream *s)
{
    s = s ? s : &default_stream;
    CUresult code = give(s, (Deed){.kind = DO_RECORD, .event = e});
    e->on = s == &default_stream ? NULL : s;
    e->number = given(s);
    return code;
}

API(cuStreamWaitEvent, Stream *s, Event *e, u32 flags)
{
    (void)flags;
    if (!e || !s)
        return INVALID_HANDLE;
    return e->on ? give(s, (Deed){.kind = DO_WAIT, .other = e->on, .until = e->number}) : failed;
}

API(cuEventSynchronize, Event *e)
{
    if (!e)
        return INVALID_HANDLE;
    pthread_mutex_lock(&lock);
    if (e->on)
        work(e->on, e->number);
    pthread_mutex_unlock(&lock);
    return failed;
}

API(cuEventQuery, Event *e)
{
    return !e ? INVALID_HANDLE : failed ? failed : e->on && e->on->done < e->number ? NOT_READY : SUCCESS;
}

API(cuEventElapsedTime, float *ms, Event *from, Event *to)
{
    if (cuEventQuery(from) || cuEventQuery(to))
        return cuEventQuery(from) ? cuEventQuery(from) : cuEventQuery(to);
    *ms = (float)((to->at - from->at) * 1e3);
    return SUCCESS;
}

API(cuEventElapsedTime_v2, float *ms, Event *from, Event *to) { return cuEventElapsedTime(ms, from, to); }

API(cuStreamBeginCapture_v2, Stream *s, int mode)
{
    (void)mode;
    if (!s || s->capture)
        return CAPTURE_INVALID;
    s->capture = calloc(1, sizeof *s->capture);
    return SUCCESS;
}

API(cuStreamEndCapture, Stream *s, Graph **g)
{
    if (!s || !s->capture)
        return CAPTURE_INVALID;
    *g = s->capture;
    s->capture = NULL;
    return SUCCESS;
}

static void free_graph(Graph *g)
{
    for (int i = 0; i < g->n; i++)
        free_args(&g->deed[i]);
    free(g->deed);
    free(g);
}

/* An instance is a graph of its own, since the product destroys the one it came from. */
API(cuGraphInstantiateWithFlags, Graph **exec, Graph *g, u64 flags)
{
    (void)flags;
    Stream s = {.capture = calloc(1, sizeof *s.capture)};
    for (int i = 0; i < g->n; i++)
        give(&s, g->deed[i]);
    *exec = s.capture;
    return SUCCESS;
}

API(cuGraphInstantiate_v2, Graph **exec, Graph *g, void *node, char *log, size_t n)
{
    (void)node;
    (void)log;
    (void)n;
    return cuGraphInstantiateWithFlags(exec, g, 0);
}

API(cuGraphLaunch, Graph *g, Stream *s)
{
    for (int i = 0; i < g->n; i++) {
        CUresult e = give(s, g->deed[i]);
        if (e)
            return e;
    }
    return SUCCESS;
}

API(cuGraphDestroy, Graph *g)
{
    free_graph(g);
    return SUCCESS;
}

API(cuGraphExecDestroy, Graph *g) { return cuGraphDestroy(g); }

/* ---- tensor maps */

API(cuTensorMapEncodeTiled, tc_tmap *t, int type, u32 rank, void *base, const u64 *dim, const u64 *stride, const u32 *box, const u32 *steps,
    int interleave, int swizzle, int promotion, int fill_kind)
{
    enum { FLOAT32 = 7, BFLOAT16 = 9, SWIZZLE_128 = 3 };
    (void)promotion;
    for (u32 i = 0; i < rank; i++)
        if (steps[i] != 1)
            return INVALID_VALUE;
    if ((type != FLOAT32 && type != BFLOAT16) || interleave || fill_kind || (swizzle && swizzle != SWIZZLE_128))
        return INVALID_VALUE;
    return emu_tmap(t, base, type == FLOAT32 ? 4 : 2, rank, dim, stride, box, swizzle ? 128 : 0) ? SUCCESS : INVALID_VALUE;
}

/* The newest version of a name, as the driver gives it to callers of today. */
API(cuGetProcAddress_v2, const char *name, void **fn, int version, u64 flags, int *found)
{
    static const char *const suffix[] = {"_v2", ""};
    (void)version;
    (void)flags;
    open_to_kernels();
    *fn = NULL;
    for (int i = 0; i < 2 && !*fn; i++) {
        char full[128];
        snprintf(full, sizeof full, "%s%s", name, suffix[i]);
        *fn = dlsym(RTLD_DEFAULT, full);
    }
    if (found)
        *found = *fn ? 0 : 1;
    return *fn ? SUCCESS : NOT_FOUND;
}
