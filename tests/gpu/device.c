/* device.c -- see device.h. */
#define _GNU_SOURCE
#include "device.h"
#include "../../compiler/base.h"
#include "cuda/prelude.h"
#include <dlfcn.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct Kernel { void *module, *fn; int shared; };

/* the functions used, by name */
#define CUDA_FUNCTIONS(F) \
    F(cuInit, (unsigned)) F(cuDeviceGet, (int *, int)) F(cuDeviceGetName, (char *, int, int)) \
    F(cuDeviceGetAttribute, (int *, int, int)) F(cuDevicePrimaryCtxRetain, (void **, int)) F(cuCtxSetCurrent, (void *)) \
    F(cuCtxSynchronize, (void)) F(cuMemAlloc_v2, (uint64_t *, size_t)) F(cuMemFree_v2, (uint64_t)) \
    F(cuMemcpyHtoD_v2, (uint64_t, const void *, size_t)) F(cuMemcpyDtoH_v2, (void *, uint64_t, size_t)) \
    F(cuMemcpyDtoD_v2, (uint64_t, uint64_t, size_t)) \
    F(cuMemsetD8_v2, (uint64_t, unsigned char, size_t)) F(cuModuleLoadData, (void **, const void *)) F(cuModuleUnload, (void *)) \
    F(cuModuleGetFunction, (void **, void *, const char *)) F(cuFuncSetAttribute, (void *, int, int)) \
    F(cuLaunchKernel, (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)) \
    F(cuEventCreate, (void **, unsigned)) F(cuEventRecord, (void *, void *)) F(cuEventSynchronize, (void *)) \
    F(cuEventElapsedTime, (float *, void *, void *)) F(cuGetErrorName, (int, const char **)) F(cuGetErrorString, (int, const char **)) \
    F(cuTensorMapEncodeTiled, (void *, int, uint32_t, void *, const uint64_t *, const uint64_t *, const uint32_t *, const uint32_t *, int, \
                               int, int, int))
#define NVRTC_FUNCTIONS(F) \
    F(nvrtcCreateProgram, (void **, const char *, const char *, int, const char *const *, const char *const *)) \
    F(nvrtcCompileProgram, (void *, int, const char *const *)) F(nvrtcGetProgramLogSize, (void *, size_t *)) \
    F(nvrtcGetProgramLog, (void *, char *)) F(nvrtcGetCUBINSize, (void *, size_t *)) F(nvrtcGetCUBIN, (void *, char *)) \
    F(nvrtcDestroyProgram, (void **))
#define DECLARE(name, args) static int (*name) args;
CUDA_FUNCTIONS(DECLARE)
#define MEMBER(name, args) int (*name) args;
typedef struct Nvrtc { void *library; NVRTC_FUNCTIONS(MEMBER) } Nvrtc;

enum { ALLOCATIONS = 4096 };
static struct {
    bool open, gpu, precompile;
    int arch, processors;
    char name[64];
    void *cuda;
    Nvrtc nvrtc, real;                 /* the one kernels are made with; the true one, for its reports */
    uint64_t memory[ALLOCATIONS];
    int n_memory;
    Arena arena;
    Text words;
} dev;

static void fail(const char *fmt, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    fputs("device: ", stderr);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void must(int e, const char *what)
{
    const char *name = "?";
    if (!e)
        return;
    cuGetErrorName(e, &name);
    fail("%s: %s (%d)", what, name, e);
}
#define MUST(call) must(call, #call)

static void *open_library(const char *env, const char *emulated, const char *const *names)
{
    char path[512];
    const char *given = getenv(env);
    if (!given && !dev.gpu) {
        ssize_t n = readlink("/proc/self/exe", path, sizeof path - 64);
        path[n > 0 ? n : 0] = 0;
        char *slash = strrchr(path, '/');                /* build/MODE/tests/NAME: the libraries lie one folder up */
        *(slash ? slash : path) = 0;
        slash = strrchr(path, '/');
        strcpy(slash ? slash + 1 : path, emulated);
        given = path;
    }
    void *h = given ? dlopen(given, RTLD_NOW) : NULL;
    for (int i = 0; !h && !given && names[i]; i++)
        h = dlopen(names[i], RTLD_NOW);
    if (!h)
        fail("%s", dlerror());
    return h;
}

static const char *const nvrtc_names[] = {"libnvrtc.so.13", "libnvrtc.so", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so", NULL};

static void find_nvrtc(Nvrtc *n, void *library)
{
    n->library = library;
#define FIND_NVRTC(name, args) if (!(*(void **)&n->name = dlsym(library, #name))) fail("libnvrtc has no %s", #name);
    NVRTC_FUNCTIONS(FIND_NVRTC)
}

static void open_device(void)
{
    static const char *const names[] = {"libcuda.so.1", NULL};
    if (dev.open)
        return;
    dev.open = true;
    dev.gpu = getenv("TIC_GPU") && atoi(getenv("TIC_GPU"));
    dev.precompile = getenv("TIC_PRECOMPILE") != NULL;
    dev.words.arena = &dev.arena;
    if (!dev.gpu && !getenv("TIC_EMU_ARCH"))
        setenv("TIC_EMU_ARCH", "90", 1);
    void *context;
    dev.cuda = open_library("TIC_LIBCUDA", "libemu_cuda.so", names);
#define FIND_CUDA(name, args) if (!(*(void **)&name = dlsym(dev.cuda, #name))) fail("libcuda has no %s", #name);
    CUDA_FUNCTIONS(FIND_CUDA)
    int device, minor;
    MUST(cuInit(0));
    MUST(cuDeviceGet(&device, 0));
    MUST(cuDevicePrimaryCtxRetain(&context, device));
    MUST(cuCtxSetCurrent(context));
    MUST(cuDeviceGetName(dev.name, sizeof dev.name, device));
    MUST(cuDeviceGetAttribute(&dev.arch, 75, device));
    MUST(cuDeviceGetAttribute(&minor, 76, device));
    MUST(cuDeviceGetAttribute(&dev.processors, 16, device));
    dev.arch = dev.arch * 10 + minor;
}

bool dev_is_gpu(void) { return open_device(), dev.gpu; }
int dev_arch(void) { return open_device(), dev.arch; }
int dev_processors(void) { return open_device(), dev.processors; }
const char *dev_name(void) { return open_device(), dev.name; }

/* ---- kernels */

void dev_wgmma(int n, const char *form)
{
    open_device();
    char *once = arena_printf(&dev.arena, "tc_wgmma_%d_%s(", n, form);
    if (!strstr(text_data(&dev.words), once))
        prelude_wgmma(&dev.words, n, form);
}

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    *n = (size_t)ftell(f);
    rewind(f);
    char *s = malloc(*n + 1);
    *n = fread(s, 1, *n, f);
    fclose(f);
    return s;
}

static uint64_t hash(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3ull;
    return h;
}

/* malloc'd object code, or NULL; the log in the arena */
static char *compile(const Nvrtc *n, const char *text, const char *header, const char *arch, size_t *bytes, const char **log)
{
    void *program;
    char option[64], *code = NULL;
    const char *name = "tc.cuh", *options[] = {option, "--ptxas-options=-v"};
    snprintf(option, sizeof option, "--gpu-architecture=%s", arch);
    if (n->nvrtcCreateProgram(&program, text, "kernel.cu", 1, &header, &name))
        fail("nvrtcCreateProgram");
    int e = n->nvrtcCompileProgram(program, 2, options);
    size_t size = 0;
    n->nvrtcGetProgramLogSize(program, &size);
    char *said = arena_alloc(&dev.arena, size + 1);
    n->nvrtcGetProgramLog(program, said);
    *log = said;
    if (!e && !n->nvrtcGetCUBINSize(program, bytes)) {
        code = malloc(*bytes);
        n->nvrtcGetCUBIN(program, code);
    }
    n->nvrtcDestroyProgram(&program);
    return code;
}

/* The object code of a text, from the cache or the compiler; malloc'd. NULL and the log when it does not compile. */
static char *object_code(const char *text, const char *header, const char *arch, const char **log)
{
    const char *cache = getenv("TIC_CUBINS");
    char path[512];
    size_t n;
    uint64_t h = hash(hash(hash(14695981039346656037ull, header), text), arch);
    snprintf(path, sizeof path, "%s/%016llx.%s", cache ? cache : "", (unsigned long long)h,
             dev.gpu || dev.precompile ? "cubin" : "so");
    char *code = cache ? read_file(path, &n) : NULL;
    if (code)
        return code;
    if (!dev.nvrtc.library)
        find_nvrtc(&dev.nvrtc, open_library("TIC_LIBNVRTC", "libemu_nvrtc.so", nvrtc_names));
    const char *said;
    code = compile(&dev.nvrtc, text, header, arch, &n, &said);
    if (log)
        *log = said;
    else if (!code)
        fail("a kernel does not compile:\n%s", said);
    FILE *f = code && cache ? fopen(path, "wb") : NULL;
    if (f && (fwrite(code, 1, n, f) != n || fclose(f)))
        fail("%s: cannot be written", path);
    return code;
}

static const char *full_header(void)
{
    open_device();
    return arena_printf(&dev.arena, "%s%s", tc_prelude, text_data(&dev.words));
}

bool dev_report(const char *text, const char *arch, bool *compiled, const char **log)
{
    size_t n;
    for (int i = 0; !dev.real.library && nvrtc_names[i]; i++) {
        void *library = dlopen(nvrtc_names[i], RTLD_NOW);
        if (library)
            find_nvrtc(&dev.real, library);
    }
    if (!dev.real.library)
        return false;
    char *code = compile(&dev.real, text, full_header(), arch, &n, log);
    *compiled = code != NULL;
    free(code);
    return true;
}

Kernel *dev_kernel(const char *text, const char *name, const char *arch, int shared, const char **log)
{
    if (log)
        *log = "";
    open_device();
    char own[16];
    snprintf(own, sizeof own, "sm_%d", dev.arch);
    if (!strchr(arch, 'a') && (dev.gpu || dev.precompile))    /* code for sm_80 does not run on sm_90: theirs is for it */
        arch = own;
    char *code = object_code(text, full_header(), arch, log);
    if (!code)
        return NULL;
    Kernel *k = calloc(1, sizeof *k);
    k->shared = shared;
    if (dev.precompile) {
        free(code);
        return k;
    }
    MUST(cuModuleLoadData(&k->module, code));
    MUST(cuModuleGetFunction(&k->fn, k->module, name));
    if (shared > 48 * 1024)
        MUST(cuFuncSetAttribute(k->fn, 8, shared));
    free(code);
    return k;
}

void dev_forget(Kernel *k)
{
    if (k && k->module)
        cuModuleUnload(k->module);
    free(k);
}

static const char *defect = "";

bool dev_launch(Kernel *k, uint32_t gx, uint32_t gy, uint32_t threads, void **args)
{
    if (dev.precompile)
        return true;
    int e = cuLaunchKernel(k->fn, gx, gy, 1, threads, 1, 1, (unsigned)k->shared, NULL, args, NULL);
    e = e ? e : dev.gpu ? 0 : cuCtxSynchronize();
    if (!e)
        return true;
    if (dev.gpu)
        must(e, "cuLaunchKernel");
    cuGetErrorString(e, &defect);
    int (*forget)(int);
    *(void **)&forget = dlsym(dev.cuda, "cuDevicePrimaryCtxReset_v2");
    forget(0);
    return false;
}

const char *dev_defect(void) { return defect; }

void dev_seed(uint32_t seed, bool values_only)
{
    char text[16];
    snprintf(text, sizeof text, "%u", seed);
    setenv("TIC_EMU_SEED", text, 1);
    setenv("TIC_EMU_VALUES_ONLY", values_only ? "1" : "0", 1);
}

/* ---- memory */

void *dev_alloc(size_t bytes)
{
    open_device();
    uint64_t p;
    if (dev.n_memory == ALLOCATIONS)
        fail("too many buffers");
    MUST(cuMemAlloc_v2(&p, bytes ? bytes : 1));
    dev.memory[dev.n_memory++] = p;
    return (void *)p;
}

void dev_free(void *p)
{
    for (int i = 0; i < dev.n_memory; i++)
        if (dev.memory[i] == (uint64_t)p) {
            MUST(cuMemFree_v2((uint64_t)p));
            dev.memory[i] = dev.memory[--dev.n_memory];
            return;
        }
}

void dev_free_all(void)
{
    while (dev.n_memory)
        dev_free((void *)dev.memory[0]);
}

void *dev_upload(const void *data, size_t bytes)
{
    void *p = dev_alloc(bytes);
    MUST(cuMemcpyHtoD_v2((uint64_t)p, data, bytes));
    return p;
}

void dev_download(void *to, const void *from, size_t bytes)
{
    MUST(cuMemcpyDtoH_v2(to, (uint64_t)from, bytes));
}

void dev_copy(void *to, const void *from, size_t bytes)
{
    MUST(cuMemcpyDtoD_v2((uint64_t)to, (uint64_t)from, bytes));
}

void dev_fill(void *p, uint8_t byte, size_t bytes)
{
    MUST(cuMemsetD8_v2((uint64_t)p, byte, bytes));
}

TensorMap dev_map(const void *base, bool bf16, uint32_t rank, const uint64_t *dim, const uint64_t *stride, const uint32_t *box)
{
    open_device();
    enum { FLOAT32 = 7, BFLOAT16 = 9, SWIZZLE_128 = 3, L2_256 = 3 };
    static const uint32_t steps[5] = {1, 1, 1, 1, 1};
    TensorMap m;
    MUST(cuTensorMapEncodeTiled(&m, bf16 ? BFLOAT16 : FLOAT32, rank, (void *)base, dim, stride, box, steps, 0, SWIZZLE_128, L2_256, 0));
    return m;
}

/* ---- time */

static int by_size(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

double dev_time(void (*launch)(void *), void *ctx, int runs)
{
    enum { MOST = 64 };
    float ms[MOST];
    void *from, *to;
    runs = runs > MOST ? MOST : runs;
    MUST(cuEventCreate(&from, 0));
    MUST(cuEventCreate(&to, 0));
    launch(ctx);
    launch(ctx);
    for (int i = 0; i < runs; i++) {
        MUST(cuEventRecord(from, NULL));
        launch(ctx);
        MUST(cuEventRecord(to, NULL));
        MUST(cuEventSynchronize(to));
        MUST(cuEventElapsedTime(&ms[i], from, to));
    }
    qsort(ms, (size_t)runs, sizeof *ms, by_size);
    return ms[runs / 2];
}

/* ---- numbers */
static uint64_t state = 88172645463325252ull;

void dev_random_seed(uint64_t seed)
{
    state = seed * 0x9e3779b97f4a7c15ull + 88172645463325252ull;
}

uint32_t dev_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

float dev_uniform(float scale)
{
    return ((float)(dev_random() >> 8) - 8388607.5f) / 8388608.0f * scale;
}

Bf16 dev_bf16(float x)
{
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return 0x7fff;
    return (Bf16)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

float dev_float(Bf16 x)
{
    uint32_t u = (uint32_t)x << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}

/* ---- TAP */
static int tests, failures;

void dev_ok(bool ok, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    printf("%s %d - ", ok ? "ok" : "not ok", ++tests);
    vprintf(fmt, args);
    putchar('\n');
    fflush(stdout);
    va_end(args);
    failures += !ok;
}

int dev_done(void)
{
    printf("1..%d\n", tests);
    return failures != 0;
}
