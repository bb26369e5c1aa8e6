/* linear.c -- the matrix products of ViT-B/16's linear layers, each alone: time, and its share of the machine's peak.
 *
 *     bench_linear [--threads N] [--rounds N]      a table; the peak of fused multiply-adds is measured before and after each run
 *     bench_linear --serve [--threads N]           for linear.py: a line "name m n k" a product, then for each number read the
 *                                                  milliseconds of one run of that product
 *
 * Rows are those of 8 pictures (8 * 197 tokens), or of --pictures N. Packing of operands is inside the time, as in a step. */
#define _GNU_SOURCE
#include "cpu/cpu.h"
#include "device/peak.h"
#include "device/pool.h"
#include "pass/kernel.h"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

typedef enum { FORWARD, DATA, WEIGHT } Kind;
typedef struct { Kind kind; int m, n, k; } Product;        /* m x n out, k terms */
enum { TOKENS = 197, PICTURES = 8 };
static Product product[] = {                               /* 0: a row for each token */
    { FORWARD, 0, 768, 768 }, { FORWARD, 0, 2304, 768 }, { FORWARD, 0, 3072, 768 }, { FORWARD, 0, 768, 3072 },
    { DATA, 0, 768, 2304 }, { DATA, 0, 768, 3072 }, { DATA, 0, 3072, 768 },
    { WEIGHT, 768, 768, 0 }, { WEIGHT, 2304, 768, 0 }, { WEIGHT, 3072, 768, 0 }, { WEIGHT, 768, 3072, 0 },
};
enum { N_PRODUCT = (int)LEN(product), MOST_LAUNCHES = 2, MOST_TENSORS = 4, MOST_ROUNDS = 101 };
static const char *const kind_name[] = { "forward", "data", "weight" };

typedef struct { CpuLaunch launch[MOST_LAUNCHES]; int n_launch; void *buffer[MOST_TENSORS]; } Run;

static void die(const char *what, const char *why)
{
    fprintf(stderr, "bench_linear: %s: %s\n", what, why);
    exit(1);
}

static float *buffer_new(size_t n)
{
    float *p = mmap(NULL, n * sizeof *p, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        die("buffers", "no memory");
    madvise(p, n * sizeof *p, MADV_HUGEPAGE);
    uint32_t x = 1;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525 + 1013904223;
        p[i] = (float)(x >> 8) * 0x1p-23f - 1;
    }
    return p;
}

/* y = x w' of a layer; the gradient of x, which is dy w; that of w, which is dy' x. */
static void lower(Arena *a, CpuModule *module, const Product *p, Run *r)
{
    static const char *const a_index[] = { "a0, a2", "a0, a2", "a2, a0" }, *const b_index[] = { "a1, a2", "a2, a1", "a2, a1" };
    Text why = { .arena = a };
    const char *text = arena_printf(a,
        "tensor %%0 input f32[%d, %d] \"a\" tensor %%1 param f32[%d, %d] \"b\" tensor %%2 temp f32[%d, %d] \"c\"\n"
        "%%2[a0, a1] = sum{a2:%d}(%%0[%s] * %%1[%s])  {a0:%d, a1:%d} output \"c\" = %%2",
        p->kind == WEIGHT ? p->k : p->m, p->kind == WEIGHT ? p->m : p->k, p->kind == FORWARD ? p->n : p->k,
        p->kind == FORWARD ? p->k : p->n, p->m, p->n, p->k, a_index[p->kind], b_index[p->kind], p->m, p->n);
    char error[200] = "";
    Graph *g = graph_parse(a, text, error, sizeof error);
    if (!g)
        die(text, error);
    Fused *f = NEW(a, Fused);
    if (!passes_simplify(g, &(PassOptions){ 0 }, NULL, &why) || !fuse(g, &(FuseOptions){ 0 }, a, f, &why))
        die(text, text_data(&why));
    if (f->n_kernel != 1)
        die(text, "more than one kernel");
    r->n_launch = cpu_lower(module, f, &f->kernel[0], r->launch, MOST_LAUNCHES, &why);
    if (r->n_launch < 0)
        die(text, text_data(&why));
    if (f->graph->n_tensor > MOST_TENSORS)
        die(text, "more than one workspace");
    for (int i = 0; i < f->graph->n_tensor; i++) {
        const Tensor *t = &f->graph->tensor[i];
        size_t n = 1;
        for (int d = 0; d < t->rank; d++)
            n *= (size_t)t->shape[d];
        r->buffer[i] = buffer_new(n);
    }
}

static const TicKernel *load(Arena *a, CpuModule *module)
{
    char base[] = "/tmp/ticc-linear-XXXXXX";
    if (!mkdtemp(base))
        die(base, "cannot be made");
    const char *object = arena_printf(a, "%s/k.o", base), *library = arena_printf(a, "%s/k.so", base);
    Text why = { .arena = a };
    if (!cpu_module_emit(module, NULL, 0, object, 'o', &why))
        die(object, text_data(&why));
    cpu_module_free(module);
    if (system(arena_printf(a, "cc -shared -o %s %s", library, object)))
        die(library, "not linked");
    void *handle = dlopen(library, RTLD_NOW);
    unlink(object);
    unlink(library);
    rmdir(base);
    const TicKernel *kernels = handle ? dlsym(handle, "tic_kernels") : NULL;
    if (!kernels)
        die(library, dlerror());
    return kernels;
}

static double run(TicPool *pool, const TicKernel *kernels, const Run *r)
{
    double start = tic_now();
    for (int i = 0; i < r->n_launch; i++) {
        const TicKernel *k = &kernels[r->launch[i].kernel];
        void *arg[MOST_TENSORS];
        for (int j = 0; j < r->launch[i].n_arg; j++)
            arg[j] = r->buffer[r->launch[i].arg[j]];
        tic_pool_run(pool, k->run, arg, 1, k->tasks(1));
    }
    return tic_now() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_value);
    return x[n / 2];
}

static void table(TicPool *pool, const TicKernel *kernels, const Run *r, int rounds)
{
    static double seconds[N_PRODUCT][MOST_ROUNDS], share[N_PRODUCT][MOST_ROUNDS];
    for (int round = 0; round < rounds; round++) {
        double before = tic_peak_f32(pool);
        for (int i = 0; i < N_PRODUCT; i++) {
            double flops = 2.0 * product[i].m * product[i].n * product[i].k;
            run(pool, kernels, &r[i]);                   /* brings its code and data near again */
            double t = run(pool, kernels, &r[i]), after = tic_peak_f32(pool);
            seconds[i][round] = t;
            share[i][round] = flops / t / ((before + after) / 2);
            before = after;
        }
    }
    printf("%d thread%s, medians of %d\n", tic_pool_threads(pool), tic_pool_threads(pool) == 1 ? "" : "s", rounds);
    printf("product      m     n     k         ms    GFLOP/s   of the peak beside it\n");
    for (int i = 0; i < N_PRODUCT; i++) {
        const Product *p = &product[i];
        double t = median(seconds[i], rounds);
        printf("%-8s %5d %5d %5d  %9.3f  %9.1f   %5.1f %%\n", kind_name[p->kind], p->m, p->n, p->k, 1e3 * t,
               2e-9 * p->m * p->n * p->k / t, 100 * median(share[i], rounds));
    }
}

static void serve(TicPool *pool, const TicKernel *kernels, const Run *r)
{
    for (int i = 0; i < N_PRODUCT; i++)
        printf("%s %d %d %d\n", kind_name[product[i].kind], product[i].m, product[i].n, product[i].k);
    printf("\n");
    fflush(stdout);
    for (int i; scanf("%d", &i) == 1 && i >= 0 && i < N_PRODUCT; fflush(stdout))
        printf("%.6f\n", 1e3 * run(pool, kernels, &r[i]));
}

int main(int argc, char **argv)
{
    int threads = 1, rounds = 15, pictures = PICTURES;
    bool serving = false;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--serve"))
            serving = true;
        else if (!strcmp(argv[i], "--threads") && i + 1 < argc && atoi(argv[i + 1]) > 0)
            threads = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--rounds") && i + 1 < argc && atoi(argv[i + 1]) > 0 && atoi(argv[i + 1]) <= MOST_ROUNDS)
            rounds = atoi(argv[++i]);
        else if (!strcmp(argv[i], "--pictures") && i + 1 < argc && atoi(argv[i + 1]) > 0 && atoi(argv[i + 1]) <= 1024)
            pictures = atoi(argv[++i]);
        else
            die(argv[i], "wanted --serve, --threads N, --rounds N (1 to 101) or --pictures N (1 to 1024)");
    }
    for (int i = 0; i < N_PRODUCT; i++) {
        int *tokens = product[i].kind == WEIGHT ? &product[i].k : &product[i].m;
        *tokens = pictures * TOKENS;
    }
    Arena a = { 0 };
    Text why = { .arena = &a };
    CpuModule *module = cpu_module_new(&a, &(CpuTarget){ .cpu = "native" }, &why);
    if (!module)
        die("native", text_data(&why));
    Run r[N_PRODUCT];
    for (int i = 0; i < N_PRODUCT; i++)
        lower(&a, module, &product[i], &r[i]);
    const TicKernel *kernels = load(&a, module);
    TicPool *pool = tic_pool_new(threads);
    if (serving)
        serve(pool, kernels, r);
    else
        table(pool, kernels, r, rounds);
    tic_pool_free(pool);
    arena_free(&a);
}
