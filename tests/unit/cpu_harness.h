/* cpu_harness.h -- native kernels against the interpreter, whole graphs at a time.
 *
 * A suite holds graphs and up to three processors. Every graph goes through the passes and fusion, its kernels are
 * lowered once for each processor, all of them become one shared library a processor, and then:
 *
 *     suite_open(&s);
 *     Case *c = suite_add(&s, "transposed", text);
 *     suite_link(&s);
 *     case_check(&s, c, batch, 1e-5);          on every processor
 *     suite_close(&s);
 *
 * Every buffer ends at a page that can not be touched and begins behind known bytes; what kernels should write is NaN
 * before, and so is the scratch memory. Tasks run last to first. Reference: interp_run in f64 on the graph before any
 * pass. Outputs and updated tensors are compared, relative to the largest magnitude in the tensor (at least 1e-3). */
#ifndef CPU_HARNESS_H
#define CPU_HARNESS_H
#define _GNU_SOURCE
#include "graph_test.h"
#include "cpu/cpu.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <tic.h>
#include <unistd.h>

enum { MOST_TARGETS = 4, MOST_BUFFERS = 4096 };

typedef struct Launches { CpuLaunch at[2]; int n; } Launches;

typedef struct Case {
    const char *name, *text;
    Graph *plain;                    /* as written: the reference */
    Fused f;
    Launches *launch[MOST_TARGETS];  /* by kernel */
    double low, high;                /* f32 inputs are drawn from [low, high) */
    int most;                        /* i32 inputs from [least, most) */
    int least;
} Case;

typedef struct Suite {
    Arena arena;
    int n_target;
    CpuTarget target[MOST_TARGETS];
    CpuModule *module[MOST_TARGETS];
    void *library[MOST_TARGETS];
    const TicKernel *kernel[MOST_TARGETS];
    void *scratch;
    ARRAY(Case *) cases;
    bool meet;                       /* graphs added from now on are fused so (FuseOptions) */
    double worst;                    /* error seen by case_check, over all cases */
} Suite;

/* The machine itself, and the lesser ones it can stand in for; with `pairs` also one that multiplies pairs of bf16. */
static inline void suite_open_for(Suite *s, bool pairs)
{
    memset(s, 0, sizeof *s);
    s->target[s->n_target++] = (CpuTarget){ .cpu = "native" };
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        s->target[s->n_target++] = (CpuTarget){ .cpu = "x86-64-v3" };
    s->target[s->n_target++] = (CpuTarget){ .cpu = "x86-64" };
    if (pairs && __builtin_cpu_supports("avx512bf16"))
        s->target[s->n_target++] = (CpuTarget){ .cpu = "x86-64-v4", .features = "+avx512bf16" };
#endif
    Text why = { .arena = &s->arena };
    for (int t = 0; t < s->n_target; t++) {
        s->module[t] = cpu_module_new(&s->arena, &s->target[t], &why);
        if (!s->module[t])
            fail_msg("%s: %s", s->target[t].cpu, text_data(&why));
    }
    s->scratch = aligned_alloc(64, TIC_SCRATCH_BYTES);
    assert_non_null(s->scratch);
}

static inline void suite_open(Suite *s) { suite_open_for(s, false); }

/* Lowers the kernels of c->f, for every processor. */
static inline void suite_lower(Suite *s, Case *c)
{
    Text why = { .arena = &s->arena };
    for (int t = 0; t < s->n_target; t++) {
        c->launch[t] = NEWN(&s->arena, Launches, c->f.n_kernel);
        for (int k = 0; k < c->f.n_kernel; k++) {
            Launches *l = &c->launch[t][k];
            l->n = cpu_lower(s->module[t], &c->f, &c->f.kernel[k], l->at, (int)LEN(l->at), &why);
            if (l->n < 0)
                fail_msg("%s for %s: %s\n%s", c->name, s->target[t].cpu, text_data(&why), c->text);
        }
    }
    PUSH(&s->arena, s->cases, c);
}

static inline Case *suite_add(Suite *s, const char *name, const char *text)
{
    Case *c = NEW(&s->arena, Case);
    *c = (Case){ .name = name, .text = text, .low = -1, .high = 1, .most = 3 };
    c->plain = graph_from(&s->arena, text);
    Graph *g = graph_from(&s->arena, text);
    PassOptions po = { 0 };
    Text why = { .arena = &s->arena };
    verified(&s->arena, g);
    if (!passes_simplify(g, &po, NULL, &why) || !fuse(g, &(FuseOptions){ cpu_takes_score, s->meet }, &s->arena, &c->f, &why))
        fail_msg("%s: %s", name, text_data(&why));
    schedule(&c->f);
    if (!schedule_verify(&c->f, &why))
        fail_msg("%s: %s", name, text_data(&why));
    suite_lower(s, c);
    return c;
}

/* How many of its kernels are of a class. */
static inline int case_kernels(const Case *c, KernelClass cls)
{
    int n = 0;
    for (int k = 0; k < c->f.n_kernel; k++)
        n += c->f.kernel[k].cls == cls;
    return n;
}

static inline void suite_link(Suite *s)
{
    Text why = { .arena = &s->arena };
    for (int t = 0; t < s->n_target; t++) {
        char base[] = "/tmp/ticc-cpu-XXXXXX", object[64], library[64], command[256];
        assert_non_null(mkdtemp(base));
        snprintf(object, sizeof object, "%s/k.o", base);
        snprintf(library, sizeof library, "%s/k.so", base);
        snprintf(command, sizeof command, "cc -shared -o %s %s -lm", library, object);
        if (!cpu_module_emit(s->module[t], NULL, 0, object, 'o', &why))
            fail_msg("%s: %s", s->target[t].cpu, text_data(&why));
        cpu_module_free(s->module[t]);
        assert_int_equal(system(command), 0);
        s->library[t] = dlopen(library, RTLD_NOW);
        if (!s->library[t])
            fail_msg("%s", dlerror());
        s->kernel[t] = dlsym(s->library[t], "tic_kernels");
        assert_non_null(s->kernel[t]);
        unlink(object);
        unlink(library);
        rmdir(base);
    }
}

static inline void suite_close(Suite *s)
{
    for (int t = 0; t < s->n_target; t++)
        if (s->library[t])
            dlclose(s->library[t]);
    free(s->scratch);
    arena_free(&s->arena);
}

/* ---- buffers */

typedef struct Buffer { char *pages; size_t mapped, bytes; void *data; } Buffer;

static inline size_t element_bytes(DType d)
{
    return (size_t)dtype_size(d);
}

static inline Buffer buffer_new(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + 64 + page - 1) / page * page;
    Buffer b = { .mapped = room + page, .bytes = bytes };
    b.pages = mmap(NULL, b.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(b.pages != MAP_FAILED);
    assert_int_equal(mprotect(b.pages + room, page, PROT_NONE), 0);
    memset(b.pages, 0xff, room);                           /* NaN; as an integer -1 */
    b.data = b.pages + room - bytes;
    return b;
}

/* Nothing was written before the data. */
static inline void buffer_check(const Buffer *b, const char *what)
{
    for (const char *p = b->pages; p < (const char *)b->data; p++)
        if (*p != (char)0xff)
            fail_msg("%s: a byte %ld before a tensor was written", what, (long)((const char *)b->data - p));
}

static inline double buffer_get(const Buffer *b, DType d, int64_t i)
{
    if (d == DT_BF16) {
        uint32_t bits = (uint32_t)((const uint16_t *)b->data)[i] << 16;
        float f;
        memcpy(&f, &bits, sizeof f);
        return f;
    }
    return d == DT_F64 ? ((const double *)b->data)[i] : d == DT_I32 ? ((const int32_t *)b->data)[i]
         : ((const float *)b->data)[i];
}

static inline void buffer_set(const Buffer *b, DType d, int64_t i, double v)
{
    if (d == DT_F64)
        ((double *)b->data)[i] = v;
    else if (d == DT_I32)
        ((int32_t *)b->data)[i] = (int32_t)v;
    else if (d == DT_BF16) {
        float f = (float)v;
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        ((uint16_t *)b->data)[i] = (uint16_t)(bits >> 16);
    }
    else
        ((float *)b->data)[i] = (float)v;
}

/* ---- a run */

static inline void reference(const Case *c, Env *env, Arena *a, int64_t batch)
{
    Graph *g = c->plain;
    env->value = NEWN(a, double *, g->n_tensor);
    env->batch = batch;
    uint64_t state = 11;
    for (int i = 0; i < g->n_tensor; i++) {
        const Tensor *t = &g->tensor[i];
        if (t->kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, i, batch);
        env->value[i] = NEWN(a, double, n);
        for (int64_t k = 0; k < n; k++) {
            double u = sample(&state), v = c->low + (c->high - c->low) * u;
            env->value[i][k] = t->dtype == DT_I32 ? floor(c->least + (c->most - c->least) * u)
                             : t->dtype == DT_F64 ? 1 + floor(20 * u)
                             : t->dtype == DT_BF16 ? round_bf16(v)
                             : (double)(float)(t->kind == T_STATE ? fabs(v) : v);
        }
    }
    ran(a, g, env);
}

static inline void compare_tensor(Suite *s, const Case *c, int target, const Buffer *b, const Tensor *t, const double *want,
                                  int64_t n, const char *what, double tolerance)
{
    double scale = 1e-3;
    for (int64_t i = 0; i < n; i++)
        if (isfinite(want[i]))
            scale = fmax(scale, fabs(want[i]));
    if (t->dtype == DT_F64)
        tolerance = 1e-12;
    if (t->dtype == DT_BF16)         /* a sum beside a tie is rounded the other way */
        tolerance = 0x1p-7;
    for (int64_t i = 0; i < n; i++) {
        double got = buffer_get(b, t->dtype, i), error = fabs(got - want[i]) / scale;
        if (got == want[i] || (isnan(got) && isnan(want[i])))
            continue;
        if (!(error <= tolerance))
            fail_msg("%s on %s: %s[%lld] is %.9g, the interpreter says %.9g (error %.2g of %.3g)\n%s", c->name,
                     s->target[target].cpu, what, (long long)i, got, want[i], error, scale, c->text);
        s->worst = fmax(s->worst, error);
    }
}

static inline void run_on(Suite *s, const Case *c, int target, const Env *env, double tolerance)
{
    const Fused *f = &c->f;
    const Graph *g = f->graph;
    int64_t batch = env->batch;
    Buffer *buffer = calloc((size_t)g->n_tensor, sizeof *buffer);
    assert_non_null(buffer);
    for (int i = 0; i < g->n_tensor; i++) {
        int home = f->storage[i];
        const Tensor *t = &g->tensor[home];
        int64_t n = tensor_count(g, home, batch);
        if (buffer[home].pages)
            continue;
        buffer[home] = buffer_new((size_t)n * element_bytes(t->dtype));
        for (int64_t k = 0; t->kind != T_TEMP && k < n; k++)
            buffer_set(&buffer[home], t->dtype, k, env->value[home][k]);
    }
    memset(s->scratch, 0xff, TIC_SCRATCH_BYTES);
    for (int k = 0; k < f->n_kernel; k++) {
        const Launches *l = &c->launch[target][k];
        for (int i = 0; i < l->n; i++) {
            void *arg[MOST_BUFFERS];
            assert_true(l->at[i].n_arg <= MOST_BUFFERS);
            for (int j = 0; j < l->at[i].n_arg; j++)
                arg[j] = buffer[f->storage[l->at[i].arg[j]]].data;
            const TicKernel *kernel = &s->kernel[target][l->at[i].kernel];
            tic_scratch_begin(s->scratch);
            for (int64_t task = kernel->tasks(batch) - 1; task >= 0; task--)
                kernel->run(arg, batch, task, s->scratch);
        }
    }
    for (int i = 0; i < g->n_tensor; i++)
        if (buffer[i].pages)
            buffer_check(&buffer[i], c->name);
    const Graph *p = c->plain;
    for (int i = 0; i < p->n_output; i++) {
        int want = p->output[i].tensor, got = g->output[i].tensor;
        compare_tensor(s, c, target, &buffer[f->storage[got]], &g->tensor[got], env->value[want],
                       tensor_count(p, want, batch), p->output[i].name, tolerance);
    }
    for (int i = 0; i < p->n_update; i++) {
        int to = p->update[i].target;
        compare_tensor(s, c, target, &buffer[to], &p->tensor[to], env->value[p->update[i].value],
                       tensor_count(p, to, batch), p->tensor[to].name, tolerance);
    }
    for (int i = 0; i < g->n_tensor; i++)
        if (buffer[i].pages)
            munmap(buffer[i].pages, buffer[i].mapped);
    free(buffer);
}

static inline void case_check(Suite *s, const Case *c, int64_t batch, double tolerance)
{
    Arena a = { 0 };
    Env env;
    reference(c, &env, &a, batch);
    for (int t = 0; t < s->n_target; t++)
        run_on(s, c, t, &env, tolerance);
    arena_free(&a);
}
#endif
