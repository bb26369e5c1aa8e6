/* cc_models.c -- every kernel of every model in models/, and of the micro model: native code against the interpreter.
 *
 * A model is compiled as ticc does it (training step and both towers), its object becomes a shared library, and each
 * distinct kernel runs once on random tensors, batch 3. Points drawn from everything it writes are computed again in
 * f64 by interp_point; values that stay inside a kernel are computed on the way, where they are asked for. */
#define _GNU_SOURCE
#include "graph_test.h"
#include "cpu/cpu.h"
#include "driver/compile.h"
#include "front/parse.h"
#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <tic.h>
#include <unistd.h>

enum { BATCH = 3, POINTS = 24 };

/* ---- a model as ticc compiles it */

typedef struct Model {
    Arena arena;
    Sources sources;
    Diag diag;
    const char *path;
    int file;
} Model;

static void model_open(Model *m, const char *path)
{
    *m = (Model){ .path = path };
    m->sources.arena = &m->arena;
    m->diag.sources = &m->sources;
    m->file = diag_load(&m->diag, path);
    assert_true(m->file >= 0);
}

static const char *module_text(void *ctx, const char *name, const char **path)
{
    *path = name;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++) {
        if (!strcmp(m->name, name))
            return m->text;
    }
    return NULL;
}

static Program *elaborated(Model *m)
{
    Program *p = NEW(&m->arena, Program);
    if (!sema_program(p, &m->arena, &m->diag, m->file, NULL, 0, module_text, NULL)) {
        diag_print(&m->diag, stderr);
        fail_msg("%s does not compile", m->path);
    }
    return p;
}

static void keep(Graph *g, const char *a, const char *b)
{
    int n = 0;
    for (int i = 0; i < g->n_output; i++) {
        if (!strcmp(g->output[i].name, a) || !strcmp(g->output[i].name, b))
            g->output[n++] = g->output[i];
    }
    g->n_output = n;
    graph_dce(g);
}

static Fused *fused(Model *m, bool step, const char *output, bool bf16)
{
    Program *p = elaborated(m);
    Text why = { .arena = &m->arena };
    PassOptions po = { .narrow = true };
    keep(p->graph, output, step ? "logit_scale" : output);
    bool ok = passes_forward(p->graph, &po, NULL, &why);
    if (ok && step) {
        int *grads = NEWN(&m->arena, int, p->n_param + 1);
        ok = grad_append(p->graph, p->loss, p->param, p->n_param, grads, &why) && sema_update(p, p->graph, &m->diag, grads);
        graph_toposort(p->graph);
    }
    Fused *f = NEW(&m->arena, Fused);
    ok = ok && passes_simplify(p->graph, &po, NULL, &why) && (!bf16 || passes_precision(p->graph, &why));
    ok = ok && fuse(p->graph, &(FuseOptions){ .takes_score = cpu_takes_score }, &m->arena, f, &why);
    if (!ok)
        fail_msg("%s: %s", m->path, text_data(&why));
    schedule(f);
    return f;
}

/* ---- one kernel in the interpreter, at a point */

typedef struct Run {
    Fused *f;
    Graph *g;
    const Kernel *k;
    Env env;
    unsigned char **known;           /* by tensor: which elements of an inner value are computed */
    bool *inner;
    int64_t largest;                 /* reduction */
} Run;

static int64_t ext_at(Ext e) { return e == EXT_BATCH ? BATCH : e; }

static int64_t aff_at(const Run *r, const Affine *a, const int64_t *axis);

static int64_t offset_at(const Run *r, const Tensor *t, const Affine *const *idx, const int64_t *axis, int64_t *index)
{
    int64_t offset = 0;
    for (int d = 0; d < t->rank; d++) {
        int64_t i = aff_at(r, idx[d], axis), n = ext_at(t->shape[d]);
        if (index)
            index[d] = i;
        if (i < 0 || i >= n)
            return -1;
        offset = offset * n + i;
    }
    return offset;
}

static int64_t aff_at(const Run *r, const Affine *a, const int64_t *axis)
{
    int64_t v = a->c;
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        int64_t x = 0;
        if (t->kind == AT_AXIS) {
            x = axis[t->axis];
        } else if (t->kind == AT_LOAD) {
            int64_t at = offset_at(r, &r->g->tensor[t->load->tensor], t->load->idx, axis, NULL);
            x = at < 0 ? 0 : (int64_t)r->env.value[t->load->tensor][at];
        } else {
            int64_t arg = aff_at(r, t->arg, axis), rest = ((arg % t->by) + t->by) % t->by;
            x = t->kind == AT_MOD ? rest : (arg - rest) / t->by;
        }
        v += t->coef * x;
    }
    return v;
}

static void provide(Run *r, const Comp *c, int64_t *axis);

/* The axes of `c` whose store image is `index`; false when it is another piece's. */
static bool axes_of(const Run *r, const Comp *c, const int64_t *index, int64_t *axis)
{
    int order[MAX_AXES];
    for (int k = 0; k < c->n_axes; k++)
        axis[k] = 0;
    for (int d = 0; d < r->g->tensor[c->out].rank; d++) {
        Box box;
        int n = store_radix(c->store[d], c->ext, order, &box);
        int64_t v = index[d] - box.lo;
        assert_true(n >= 0);
        if (v < 0)
            return false;
        for (int i = 0; i < n; i++) {
            axis[order[i]] = v % ext_at(c->ext[order[i]]);
            v /= ext_at(c->ext[order[i]]);
        }
        if (v)
            return false;
    }
    return true;
}

static void provide_element(Run *r, int tensor, const int64_t *index, int64_t offset)
{
    if (r->known[tensor][offset])
        return;
    r->known[tensor][offset] = 1;
    for (int i = 0; i < r->k->n_comp; i++) {
        const Comp *c = &r->k->comp[i];
        int64_t axis[MAX_AXES];
        if (c->out != tensor || !axes_of(r, c, index, axis))
            continue;
        provide(r, c, axis);
        r->env.value[tensor][offset] = interp_point(r->g, c, axis, &r->env);
        return;
    }
    fail_msg("nothing in the kernel defines an element of tensor %d", tensor);
}

/* All inner values that `c` reads at these free axes. */
static void provide(Run *r, const Comp *c, int64_t *axis)
{
    const Expr *load[64];
    int n = comp_loads(c, load, 64), red[MAX_AXES], n_red = 0;
    int64_t points = 1;
    bool any = false;
    assert_true(n <= 64);
    for (int i = 0; i < n; i++)
        any |= r->inner[load[i]->tensor];
    for (int k = 0; k < c->n_axes; k++) {
        if (c->red >> k & 1) {
            red[n_red++] = k;
            points *= ext_at(c->ext[k]);
        }
    }
    if (points > r->largest)
        r->largest = points;
    for (int64_t p = 0; any && p < points; p++) {
        int64_t rest = p;
        for (int k = n_red - 1; k >= 0; k--) {
            axis[red[k]] = rest % ext_at(c->ext[red[k]]);
            rest /= ext_at(c->ext[red[k]]);
        }
        for (int i = 0; i < n; i++) {
            int64_t index[MAX_RANK], copy[MAX_AXES];
            const Tensor *t = &r->g->tensor[load[i]->tensor];
            if (!r->inner[load[i]->tensor])
                continue;
            int64_t offset = offset_at(r, t, load[i]->idx, axis, index);
            memcpy(copy, axis, sizeof copy);
            if (offset >= 0)                                   /* a guard may keep it from being read */
                provide_element(r, load[i]->tensor, index, offset);
        }
    }
}

/* ---- native */

typedef struct Native {
    void *library;
    const TicKernel *kernel;
    void *scratch;
} Native;

static uint64_t stream = 1;

/* The storage of tensor t: filled in f32 (f64, i32) and copied to doubles. */
static void *fill(const Tensor *t, int64_t n, double *copy, double low)
{
    size_t size = t->dtype == DT_F64 ? 8 : 4;
    char *data = aligned_alloc(64, ((size_t)n * size + 127) / 64 * 64);
    assert_non_null(data);
    uint64_t x = stream++ * 0x9E3779B97F4A7C15u;
    for (int64_t i = 0; i < n; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        double u = (double)(x >> 40) * 0x1p-24, v = low + (1 - low) * u;
        if (t->kind == T_STATE)
            v = fabs(v);
        if (t->dtype == DT_I32)
            ((int32_t *)data)[i] = (int32_t)(v = (double)(int)(u * 3));
        else if (t->dtype == DT_F64)
            ((double *)data)[i] = v = 1 + (double)(int)(u * 20);
        else if (t->dtype == DT_BF16) {
            float f = (float)(v = round_bf16(v));
            memcpy(&((uint16_t *)data)[i], (char *)&f + 2, 2);   /* little-endian: the upper half */
        }
        else
            v = ((float *)data)[i] = (float)v;
        copy[i] = v;
    }
    return data;
}

static double value_at(const Tensor *t, const void *data, int64_t i)
{
    float f = 0;
    if (t->dtype == DT_BF16) {
        memcpy((char *)&f + 2, &((const uint16_t *)data)[i], 2);
        return f;
    }
    return t->dtype == DT_F64 ? ((const double *)data)[i] : t->dtype == DT_I32 ? ((const int32_t *)data)[i]
         : ((const float *)data)[i];
}

static bool holds(const int *list, int n, int x)
{
    for (int i = 0; i < n; i++) {
        if (list[i] == x)
            return true;
    }
    return false;
}

/* A number of the host that is the same in every step: what it is. */
static bool constant(const Fused *f, int tensor, double *value)
{
    for (int k = 0; k < f->n_kernel; k++)
        for (int i = 0; i < f->kernel[k].n_comp && f->kernel[k].cls == K_HOST; i++)
            if (f->kernel[k].comp[i].out == tensor)
                return expr_is_const(f->kernel[k].comp[i].body, value);
    return false;
}

static double *zeros(int64_t n)
{
    double *x = calloc((size_t)n + 1, sizeof *x);
    assert_non_null(x);
    return x;
}

/* Is a value that c reads rounded to bf16 inside the kernel? In f32 it may round to the neighbour of what it does in f64. */
static bool rounds_inside(const Run *r, const Comp *c)
{
    const Expr *load[64];
    int n = expr_loads(c->body, load, 64);
    bool rounds = false;
    for (int i = 0; i < n && i < 64; i++)
        rounds |= r->inner[load[i]->tensor] && r->g->tensor[load[i]->tensor].dtype == DT_BF16;
    return rounds;
}

/* Compares points of one written tensor; returns how many were numbers. */
static int compare_output(Run *r, const Comp *c, const void *data, const char *where)
{
    const Tensor *t = &r->g->tensor[c->out];
    int finite = 0;
    uint64_t state = stream++;
    for (int p = 0; p < POINTS; p++) {
        int64_t axis[MAX_AXES] = { 0 }, index[MAX_RANK];
        for (int k = 0; k < c->n_axes; k++) {
            double u = p == 0 ? 0 : p == 1 ? 0.999999999 : sample(&state);    /* both corners too */
            axis[k] = c->red >> k & 1 ? 0 : (int64_t)(u * (double)ext_at(c->ext[k]));
        }
        int64_t offset = offset_at(r, t, c->store, axis, index);
        if (c->reducer == RED_SCATTER)
            return 1;                /* where it adds depends on the data: its own test */
        assert_true(offset >= 0);
        provide(r, c, axis);
        bool narrow = t->dtype == DT_BF16;
        double exact = interp_point(r->g, c, axis, &r->env), want = narrow ? round_bf16(exact) : exact, got = value_at(t, data, offset);
        double scale = fmax(1, fmax(fabs(want), sqrt((double)r->largest))), coarse = rounds_inside(r, c) ? 0x1p-7 * scale : 0;
        if (!isnan(want))
            finite++;
        if (want == got || (isnan(want) && isnan(got)) || fabs(got - want) <= 6e-6 * scale + coarse + (narrow ? 0x1p-7 * fabs(want) : 0))
            continue;
        Text s = { .arena = r->g->arena };
        comp_print(r->g, c, &s);
        fail_msg("%s: %s at point %d: native %.9g, interpreter %.9g (scale %g)\n%s", where, t->name, p, got, want, scale,
                 text_data(&s));
    }
    return finite;
}

static void run_kernel(const Native *n, Fused *f, const Kernel *k, const CpuLaunch *launch, int n_launch, double low,
                       const char *where, int *finite, int *points)
{
    Graph *g = f->graph;
    int nt = g->n_tensor;
    Run r = { .f = f, .g = g, .k = k, .env = { NEWN(g->arena, double *, nt), BATCH },
              .known = NEWN(g->arena, unsigned char *, nt), .inner = NEWN(g->arena, bool, nt) };
    void **data = NEWN(g->arena, void *, nt);                  /* by storage */
    for (int i = 0; i < k->n_reads; i++) {
        int t = k->reads[i], home = f->storage[t];
        int64_t count = tensor_count(g, t, BATCH);
        r.env.value[t] = zeros(count);
        void *made = fill(&g->tensor[t], count, r.env.value[t], low);
        if (g->tensor[t].dtype == DT_F64 && constant(f, t, r.env.value[t]))
            *(double *)made = r.env.value[t][0];
        if (data[home])
            free(made);              /* two names of one buffer: the first stands */
        else
            data[home] = made;
    }
    for (int l = 0; l < n_launch; l++) {
        for (int i = 0; i < launch[l].n_arg; i++) {
            int t = launch[l].arg[i], home = f->storage[t];
            if (!data[home]) {
                int64_t count = tensor_count(g, t, BATCH);
                double *unused = zeros(count);
                data[home] = fill(&g->tensor[t], count, unused, -1);       /* what was there before is not zero */
                free(unused);
            }
        }
    }
    for (int i = 0; i < k->n_comp; i++) {
        int t = k->comp[i].out;
        if (r.inner[t] || r.env.value[t])
            continue;
        int64_t count = tensor_count(g, t, BATCH);
        r.inner[t] = true;
        r.env.value[t] = zeros(count);
        r.known[t] = calloc((size_t)count + 1, 1);
        assert_non_null(r.known[t]);
    }
    for (int l = 0; l < n_launch; l++) {
        void *buf[256];
        assert_true(launch[l].n_arg <= 256);
        for (int i = 0; i < launch[l].n_arg; i++)
            buf[i] = data[f->storage[launch[l].arg[i]]];
        const TicKernel *kernel = &n->kernel[launch[l].kernel];
        int64_t tasks = kernel->tasks(BATCH);
        tic_scratch_begin(n->scratch);
        for (int64_t i = tasks - 1; i >= 0; i--)               /* any order will do */
            kernel->run(buf, BATCH, i, n->scratch);
    }
    *finite = *points = 0;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        if (!holds(k->writes, k->n_writes, c->out))
            continue;
        *finite += compare_output(&r, c, data[f->storage[c->out]], where);
        *points += c->reducer == RED_SCATTER ? 1 : POINTS;
    }
    for (int t = 0; t < nt; t++) {
        free(r.env.value[t]);
        free(r.known[t]);
        free(data[t]);
    }
}

/* Of a kernel of many maps: the same for a few of them, one of each size, no more points than these. */
static void take_some(Arena *a, Kernel *k)
{
    enum { MOST_POINTS = 1 << 22 };
    int n_args = k->sets->form->kernel[0].n_args, n_comp = k->sets->form->kernel[0].n_comp, n = 0;
    Sets *some = NEW(a, Sets);
    int64_t *size = NEWN(a, int64_t, k->sets->n), points = 0;
    int *args = NEWN(a, int, k->n_args), *list[] = { k->reads, k->writes }, *count[] = { &k->n_reads, &k->n_writes };
    Comp *comp = NEWN(a, Comp, k->n_comp);
    for (int s = 0; s < k->sets->n; s++) {
        bool seen = points + k->sets->size[s] > MOST_POINTS;
        for (int i = 0; i < n; i++)
            seen |= size[i] == k->sets->size[s];
        if (seen)
            continue;
        memcpy(args + n * n_args, k->args + s * n_args, (size_t)n_args * sizeof *args);
        memcpy(comp + n * n_comp, k->comp + s * n_comp, (size_t)n_comp * sizeof *comp);
        points += size[n++] = k->sets->size[s];
    }
    for (int i = 0; i < 2; i++) {
        int left = 0;
        for (int j = 0; j < *count[i]; j++)
            if (holds(args, n * n_args, list[i][j]))
                list[i][left++] = list[i][j];
        *count[i] = left;
    }
    *some = (Sets){ .n = n, .size = size, .form = k->sets->form };
    k->sets = some;
    k->args = args;
    k->n_args = n * n_args;
    k->comp = comp;
    k->n_comp = n * n_comp;
    k->signature++;
}

typedef struct Item { Fused *f; int k; CpuLaunch launch[8]; int n; } Item;

static void model_kernels(const char *path, bool bf16)
{
    Model m;
    model_open(&m, path);
    Text why = { .arena = &m.arena };
    CpuTarget target = { .cpu = "native" };
    CpuModule *module = cpu_module_new(&m.arena, &target, &why);
    assert_non_null(module);
    Fused *f[3] = { fused(&m, true, "loss", bf16), fused(&m, false, "image_features", false), fused(&m, false, "text_features", false) };
    ARRAY(Item) item = { 0 };
    int seen = 0;
    for (int e = 0; e < 3; e++) {
        for (int k = 0; k < f[e]->n_kernel; k++) {
            Item it = { .f = f[e], .k = k };
            if (f[e]->kernel[k].sets)
                take_some(&m.arena, &f[e]->kernel[k]);
            it.n = cpu_lower(module, f[e], &f[e]->kernel[k], it.launch, 8, &why);
            if (it.n < 0)
                fail_msg("%s: %s", path, text_data(&why));
            if (cpu_module_kernels(module) > seen)
                PUSH(&m.arena, item, it);
            seen = cpu_module_kernels(module);
        }
    }
    char base[] = "/tmp/ticc-models-XXXXXX", object[64], library[64], command[256];
    assert_non_null(mkdtemp(base));
    snprintf(object, sizeof object, "%s/k.o", base);
    snprintf(library, sizeof library, "%s/k.so", base);
    snprintf(command, sizeof command, "cc -shared -o %s %s -lm", library, object);
    if (!cpu_module_emit(module, NULL, 0, object, 'o', &why))
        fail_msg("%s: %s", path, text_data(&why));
    cpu_module_free(module);
    assert_int_equal(system(command), 0);
    Native n = { .library = dlopen(library, RTLD_NOW) };
    if (!n.library)
        fail_msg("%s", dlerror());
    n.kernel = dlsym(n.library, "tic_kernels");
    n.scratch = aligned_alloc(64, TIC_SCRATCH_BYTES);
    int points = 0, barren = 0;
    for (int i = 0; i < item.n; i++) {
        const Item *it = &item.at[i];
        const Kernel *k = &it->f->kernel[it->k];
        const char *where = arena_printf(&m.arena, "%s: %s kernel of %s", path, kernel_class_name[k->cls], k->label);
        int finite, all;
        run_kernel(&n, it->f, k, it->launch, it->n, -1, where, &finite, &all);
        if (finite * 2 < all)        /* roots and logarithms of what is negative: once more above zero */
            run_kernel(&n, it->f, k, it->launch, it->n, 0.1, where, &finite, &all);
        if (finite * 2 < all) {
            fprintf(stderr, "# %s: %d of %d points are numbers\n", where, finite, all);
            barren++;
        }
        points += all;
    }
    assert_int_equal(barren, 0);
    assert_true(points > 1000);
    fprintf(stderr, "# %s: %d kernels, %d points\n", path, item.n, points);
    dlclose(n.library);
    free(n.scratch);
    unlink(object);
    unlink(library);
    rmdir(base);
    arena_free(&m.arena);
}

/* Whatever has two batch axes, in memory during a step: the logits, whose gradient takes their place. */
static int squares(const char *path, bool bf16)
{
    Model m;
    model_open(&m, path);
    const Fused *f = fused(&m, true, "loss", bf16);
    int n = 0;
    for (int k = 0; k < f->n_kernel; k++)
        for (int i = 0; i < f->kernel[k].n_writes; i++) {
            int t = f->kernel[k].writes[i];
            n += f->storage[t] == t && tensor_bytes(f->graph, t).c[2] > 0;
        }
    arena_free(&m.arena);
    return n;
}

static void logits_are_in_memory_once(void **state)
{
    assert_int_equal(squares("models/vit_tiny.tic", false), 1);
    assert_int_equal(squares("models/vit_b16.tic", true), 1);
    assert_int_equal(squares("models/siglip_b16.tic", false), 1);
    assert_int_equal(squares("models/siglip_b16.tic", true), 1);
}

#define MODEL(name, path) static void name(void **state) { model_kernels(path, false); }
static void vit_tiny_bf16(void **state) { model_kernels("models/vit_tiny.tic", true); }
MODEL(micro, "tests/e2e/micro.tic")
MODEL(vit_tiny, "models/vit_tiny.tic")
MODEL(vit_b16, "models/vit_b16.tic")
MODEL(vit_b32, "models/vit_b32.tic")
MODEL(vit_l14, "models/vit_l14.tic")

int main(void)
{
    const char *root = getenv("TICC_ROOT");
    if (root && chdir(root))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logits_are_in_memory_once),
        cmocka_unit_test(micro),
        cmocka_unit_test(vit_tiny),
        cmocka_unit_test(vit_tiny_bf16),
        cmocka_unit_test(vit_b16),
        cmocka_unit_test(vit_b32),
        cmocka_unit_test(vit_l14),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
