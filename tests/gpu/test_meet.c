/* test_meet.c -- losses without a tensor over all pairs of the batch (pass/meet.c): each of their SCORE kernels by itself, of
 * features in f32 and in bf16, on batches of one block and of several, against the interpreter. */
#include "cuda/cuda.h"
#include "device.h"
#include "pass/kernel.h"
#include "pass/pass.h"
#include "../unit/losses.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static void *uploaded(Arena *a, DType d, int64_t n, const double *value)
{
    char *data = NEWN(a, char, n * dtype_size(d) + 1);
    for (int64_t i = 0; i < n; i++)
        if (d == DT_BF16)
            ((Bf16 *)(void *)data)[i] = dev_bf16((float)value[i]);
        else if (d == DT_I32)
            ((int32_t *)(void *)data)[i] = (int32_t)value[i];
        else
            ((float *)(void *)data)[i] = (float)value[i];
    return dev_upload(data, (size_t)(n * dtype_size(d)));
}

/* The largest error of tensor t, relative to its largest value. */
static double error_of(Arena *a, const Graph *g, int t, int64_t batch, const double *want, const void *there)
{
    DType d = g->tensor[t].dtype;
    int64_t n = tensor_count(g, t, batch);
    double most = 0, largest = 1e-3;
    char *data = NEWN(a, char, n * dtype_size(d) + 1);
    dev_download(data, there, (size_t)(n * dtype_size(d)));
    for (int64_t i = 0; i < n; i++) {
        double got = d == DT_BF16 ? dev_float(((Bf16 *)(void *)data)[i]) : d == DT_I32 ? ((int32_t *)(void *)data)[i] : ((float *)(void *)data)[i];
        double error = fabs(got - want[i]);
        largest = fmax(largest, fabs(want[i]));
        most = error <= most ? most : error;                   /* NaN is the largest */
    }
    return most / largest;
}

static bool launched(Arena *a, CudaModule *m, const Graph *g, const CudaLaunch *l, int64_t batch, void **there)
{
    const CudaKernel *k = cuda_kernel(m, l->kernel);
    const char *log = "";
    Kernel *code = dev_kernel(arena_printf(a, "#include \"tc.cuh\"\n%s", cuda_file(m, k->file)), k->name, "sm_80", k->shared, &log);
    void **arg = NEWN(a, void *, l->n_arg + 1);
    int b = (int)batch;
    if (!code) {
        dev_ok(false, "%s compiles %.300s", k->name, log);
        return false;
    }
    for (int i = 0; i < l->n_arg; i++)
        arg[i] = &there[l->arg[i]];
    arg[l->n_arg] = &b;
    int64_t points = k->grid.points[0].c[0] + k->grid.points[0].c[1] * batch;
    uint32_t blocks = (uint32_t)((points + k->grid.per[0] - 1) / k->grid.per[0]);
    bool ok = dev_launch(code, blocks, (uint32_t)k->grid.y, (uint32_t)k->threads, arg);
    if (!ok)
        dev_ok(false, "%s runs %s", k->name, dev_defect());
    dev_forget(code);
    return ok;
}

static void check(const Loss *loss, int width, int64_t batch)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Fused f;
    CudaModule *m = cuda_module_new(&a, &(CudaTarget){.arch = "sm_80", .batch = 4});
    Graph *g = loss_graph(&a, loss, width, &why);
    bool ok = g && passes_simplify(g, &(PassOptions){ 0 }, NULL, &why) &&
              fuse(g, &(FuseOptions){ cuda_takes_score, true }, &a, &f, &why);
    int squares = 0, scores = 0;
    for (int i = 0; ok && i < f.n_kernel; i++)
        for (int j = 0; j < f.kernel[i].n_writes; j++)
            squares += grows_squarely(g, f.kernel[i].writes[j]);
    const char *what = arena_printf(&a, "%s, %d wide, batch %d", loss->name, width, (int)batch);
    dev_ok(ok && !squares, "%s: no tensor over all pairs%s", what, text_data(&why));
    if (!ok)
        return;
    Env env = { NEWN(&a, double *, g->n_tensor), batch };
    dev_random_seed(7);
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind != T_TEMP) {
            int64_t n = tensor_count(g, t, batch);
            env.value[t] = NEWN(&a, double, n);
            for (int64_t i = 0; i < n; i++)
                env.value[t][i] = g->tensor[t].dtype == DT_BF16 ? dev_float(dev_bf16(dev_uniform(1))) : dev_uniform(n == 1 ? 3 : 1);
        }
    ok = interp_run(g, &env, &a, &why);
    double most = 0;
    for (int i = 0; i < f.n_kernel && ok; i++) {
        const Kernel *k = &f.kernel[i];
        CudaLaunch launch[4];
        void **there = NEWN(&a, void *, g->n_tensor);
        if (k->cls != K_SCORE)
            continue;
        scores++;
        ok = cuda_lower(m, &f, k, launch, 4, &why) == 1;
        for (int j = 0; j < k->n_reads; j++)
            there[k->reads[j]] = uploaded(&a, g->tensor[k->reads[j]].dtype, tensor_count(g, k->reads[j], batch), env.value[k->reads[j]]);
        for (int j = 0; j < k->n_writes; j++)
            there[k->writes[j]] = dev_alloc((size_t)(tensor_count(g, k->writes[j], batch) * dtype_size(g->tensor[k->writes[j]].dtype)));
        ok = ok && launched(&a, m, g, &launch[0], batch, there);
        for (int j = 0; j < k->n_writes && ok; j++) {
            double error = error_of(&a, g, k->writes[j], batch, env.value[k->writes[j]], there[k->writes[j]]);
            most = error <= most ? most : error;
        }
        dev_free_all();
    }
    dev_ok(ok && scores && most <= 1e-5, "%s: %d kernels within %.1e of the interpreter%s", what, scores, most, text_data(&why));
    arena_free(&a);
}

int main(void)
{
    for (size_t i = 0; i < LEN(losses); i++)
        if (!losses[i].left)
            check(&losses[i], 5, 70);
    const Loss *clip = &losses[0], *siglip = &losses[3], *half = &losses[LEN(losses) - 1];
    check(clip, 20, 3);                /* more terms than a stage has */
    check(siglip, 260, 65);            /* more features than a block has */
    check(half, 132, 130);             /* and than a thread's run of fours; bf16 four at a time */
    return dev_done();
}
