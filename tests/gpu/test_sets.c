/* test_sets.c -- many maps of one form in one launch, and many totals in two: sets shorter than a thread's points, as long as a
 * block, one longer, in f32 and with moments in bf16, by the table of their pointers, against the interpreter. */
#include "cuda/cuda.h"
#include "device.h"
#include "pass/kernel.h"
#include <math.h>
#include <stdio.h>
#include <string.h>

static const int rows[] = { 1, 5, 7, 1, 1, 130 }, columns[] = { 2, 1, 9, 1024, 1025, 127 };

/* Tensor 0 is the rate, 1 the decay; of parameter i: w, m, g, and their new values, from 2 + 5 i on. Odd ones do not decay. */
static const char *optimiser(Arena *a, const char *moment)
{
    Text t = { .arena = a };
    text_printf(&t, "tensor %%0 input f64[] \"rate\" tensor %%1 input f64[] \"decay\"\n");
    for (int i = 0; i < (int)LEN(rows); i++) {
        int n = rows[i], m = columns[i], w = 2 + 5 * i;
        text_printf(&t, "tensor %%%d param f32[%d, %d] \"w\" tensor %%%d state %s[%d, %d] \"m\" tensor %%%d input f32[%d, %d] \"g\"\n", w, n, m,
                    w + 1, moment, n, m, w + 2, n, m);
        text_printf(&t, "tensor %%%d temp %s[%d, %d] \"nm\" tensor %%%d temp f32[%d, %d] \"nw\"\n", w + 3, moment, n, m, w + 4, n, m);
        text_printf(&t, "%%%d[a0, a1] = %%%d[a0, a1] * 0.5 + %%%d[a0, a1]  {a0:%d, a1:%d}\n", w + 3, w + 1, w + 2, n, m);
        text_printf(&t, "%%%d[a0, a1] = %%%d[a0, a1]%s - %%0 * %%%d[a0, a1]  {a0:%d, a1:%d}\n", w + 4, w, i % 2 ? "" : " * %1", w + 3, n, m);
        text_printf(&t, "update %%%d = %%%d update %%%d = %%%d\n", w + 1, w + 3, w, w + 4);
    }
    return text_data(&t);
}

/* Sums of squares of tensors of those sizes, and of as many points as blocks of a total take (8192), and one more or less. */
static const char *norms(Arena *a, const char *reducer)
{
    static const int more[] = { 8191, 8192, 8193, 20000 };
    Text t = { .arena = a }, sums = { .arena = a };
    int n = LEN(rows) + LEN(more);
    text_printf(&t, "tensor %%0 temp f32[%d] \"squares\"\n", n);
    for (int i = 0; i < n; i++) {
        int y = i < (int)LEN(rows) ? rows[i] : 1, x = i < (int)LEN(rows) ? columns[i] : more[i - LEN(rows)];
        text_printf(&t, "tensor %%%d input f32[%d, %d] \"g\"\n", i + 1, y, x);
        text_printf(&sums, "%%0[%d] = %s{a0:%d, a1:%d}(%%%d[a0, a1] * %%%d[a0, a1])\n", i, reducer, y, x, i + 1, i + 1);
    }
    text_printf(&t, "%soutput \"squares\" = %%0\n", text_data(&sums));
    return text_data(&t);
}

/* Values in eighths: every result is exact, in bf16 too. */
static void *uploaded(DType d, int64_t n, double *value)
{
    Arena a = { 0 };
    char *data = NEWN(&a, char, n * dtype_size(d));
    for (int64_t i = 0; i < n; i++) {
        double v = value[i] = d == DT_F64 ? 0.5 : (double)(dev_random() % 16) / 8 - 1;
        if (d == DT_F64)
            ((double *)(void *)data)[i] = v;
        else if (d == DT_BF16)
            ((Bf16 *)(void *)data)[i] = dev_bf16((float)v);
        else
            ((float *)(void *)data)[i] = (float)v;
    }
    void *there = dev_upload(data, (size_t)(n * dtype_size(d)));
    arena_free(&a);
    return there;
}

static int wrong(Arena *a, const Graph *g, const Env *want, void **there)
{
    int bad = 0;
    for (int i = 0; i < g->n_update + g->n_output; i++) {
        int o = i - g->n_update, t = o < 0 ? g->update[i].target : g->output[o].tensor, value = o < 0 ? g->update[i].value : t;
        int64_t n = tensor_count(g, t, 1);
        DType d = g->tensor[t].dtype;
        char *data = NEWN(a, char, n * dtype_size(d));
        dev_download(data, there[t], (size_t)(n * dtype_size(d)));
        for (int64_t k = 0; k < n; k++) {
            float x = d == DT_BF16 ? dev_float(((Bf16 *)(void *)data)[k]) : ((float *)(void *)data)[k];
            bad += x != (float)want->value[value][k];
        }
    }
    return bad;
}

/* The whole of made(word), but for numbers of the host, is one kernel of `launches`. */
static void check(const char *what, const char *(*made)(Arena *a, const char *word), const char *word, int launches)
{
    Arena a = { 0 };
    char error[200] = "";
    Text why = { .arena = &a };
    const char *text = made(&a, word), *log = "";
    Graph *plain = graph_parse(&a, text, error, sizeof error), *g = graph_parse(&a, text, error, sizeof error);
    Fused f;
    CudaLaunch launch[4];
    const Kernel *k = NULL;
    CudaModule *m = cuda_module_new(&a, &(CudaTarget){.arch = "sm_80", .batch = 4});
    bool ok = g && passes_simplify(g, &(PassOptions){ 0 }, NULL, &why) && fuse(g, &(FuseOptions){ 0 }, &a, &f, &why);
    for (int i = 0; ok && i < f.n_kernel; i++)
        k = f.kernel[i].sets ? &f.kernel[i] : k;
    ok = ok && k && k->sets->n >= (int)LEN(rows) && cuda_lower(m, &f, k, launch, 4, &why) == launches && cuda_kernel(m, 0)->table;
    for (int i = 0; ok && i < f.n_kernel; i++)
        ok = &f.kernel[i] == k || f.kernel[i].cls == K_HOST;
    dev_ok(ok, "%s: one kernel %s%s", what, error, text_data(&why));
    if (!ok)
        return;
    Env want = { NEWN(&a, double *, plain->n_tensor), 1 };
    void **there = NEWN(&a, void *, f.graph->n_tensor), **table = NEWN(&a, void *, launch[0].n_arg);
    dev_random_seed(5);
    for (int t = 0; t < f.graph->n_tensor; t++) {
        bool given = t < plain->n_tensor && plain->tensor[t].kind != T_TEMP;
        double *value = NEWN(&a, double, tensor_count(f.graph, t, 1));
        if (given)
            there[t] = uploaded(plain->tensor[t].dtype, tensor_count(plain, t, 1), want.value[t] = value);
        else if (f.storage[t] == t)                            /* results that are not written over something, a workspace */
            there[t] = uploaded(DT_F32, tensor_count(f.graph, t, 1), value);
    }
    for (int i = 0; i < f.n_kernel; i++)                       /* what the host makes: the 1 of those that do not decay */
        for (int j = 0; j < f.kernel[i].n_comp && f.kernel[i].cls == K_HOST; j++) {
            const Comp *c = &f.kernel[i].comp[j];
            there[c->out] = dev_upload(&c->body->c, sizeof c->body->c);
        }
    for (int i = 0; i < launch[0].n_arg; i++)
        table[i] = there[f.storage[launch[0].arg[i]]];
    void *tables = dev_upload(table, (size_t)launch[0].n_arg * sizeof *table);
    int batch = 1;
    void *args[] = { &tables, &batch };
    for (int i = 0; i < launches; i++) {
        const CudaKernel *kernel = cuda_kernel(m, launch[i].kernel);
        Kernel *code = dev_kernel(arena_printf(&a, "#include \"tc.cuh\"\n%s", cuda_file(m, kernel->file)), kernel->name, "sm_80",
                                  kernel->shared, &log);
        dev_ok(code, "%s: %s compiles %.300s", what, kernel->name, log);
        if (!code)
            return;
        uint32_t blocks = (uint32_t)(kernel->grid.points[0].c[0] / kernel->grid.per[0]);
        ok = dev_launch(code, blocks, 1, (uint32_t)kernel->threads, args);
        dev_ok(ok, "%s: %s runs %s", what, kernel->name, ok ? "" : dev_defect());
        dev_forget(code);
    }
    ok = ok && interp_run(plain, &want, &a, &why);
    int bad = ok ? wrong(&a, plain, &want, there) : 0;
    dev_ok(ok && !bad, "%s: %d values differ from the interpreter's", what, bad);
    arena_free(&a);
}

int main(void)
{
    check("moments in f32", optimiser, "f32", 1);
    check("moments in bf16", optimiser, "bf16", 1);
    check("sums", norms, "sum", 2);
    check("maxima", norms, "max", 2);
    return dev_done();
}
