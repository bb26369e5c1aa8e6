/* step_harness.h -- the whole step of a program, as the driver builds it, against its equations.
 *
 *     step_graph      text -> forward, gradient, optimiser, clipping: with the passes before the gradient or without any
 *     run_plain       that graph in the interpreter, in f64: the reference
 *     slopes          its gradients against central differences of its loss
 *     run_exact       fused kernels one by one in the interpreter with nothing rounded: what passes, fusion, recomputation and
 *                     precision made of the graph is the same to the last digits
 *     lockstep        native kernels one by one: each is given what the ones before it left, and so is the interpreter, which
 *                     rounds to bf16 where the graph says so. The error is the kernel's own. Tasks run in both orders: results are
 *                     equal bit by bit
 *
 * Values have names, which all graphs of a program share: those of inputs, parameters, states and outputs. */
#ifndef STEP_HARNESS_H
#define STEP_HARNESS_H
#include "cpu_harness.h"
#include "base.h"
#include "driver/compile.h"
#include "front/program.h"

typedef struct Named { const char *name; int64_t n; double *value; } Named;
typedef struct Store { ARRAY(Named) at; const struct Store *behind; } Store;      /* behind: what is not in this one is looked for there */

static inline const Named *store_find(const Store *s, const char *name)
{
    for (; s; s = s->behind)
        for (int i = 0; i < s->at.n; i++)
            if (!strcmp(s->at.at[i].name, name))
                return &s->at.at[i];
    return NULL;
}

static inline void store_put(Arena *a, Store *s, const char *name, const double *value, int64_t n)
{
    Named *to = NULL;
    for (int i = 0; i < s->at.n && !to; i++)
        if (!strcmp(s->at.at[i].name, name))
            to = &s->at.at[i];
    if (!to) {
        PUSH(a, s->at, ((Named){ name, n, NULL }));
        to = &s->at.at[s->at.n - 1];
    }
    to->n = n;
    to->value = memcpy(NEWN(a, double, n), value, (size_t)n * sizeof *value);
}

/* ---- programs */

static inline const char *module_text(void *ctx, const char *name, const char **path)
{
    (void)ctx;
    *path = name;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++)
        if (!strcmp(m->name, name))
            return m->text;
    return NULL;
}

static inline Program *program_of(Arena *a, const char *text, Diag *diag)
{
    Sources *sources = NEW(a, Sources);
    *sources = (Sources){ .arena = a };
    *diag = (Diag){ .sources = sources };
    Program *p = NEW(a, Program);
    int file = source_add(sources, "random.tic", text, strlen(text));
    if (!sema_program(p, a, diag, file, NULL, 0, module_text, NULL)) {
        diag_print(diag, stderr);
        fail_msg("refused:\n%s", text);
    }
    return p;
}

static inline void forward_of(Arena *a, Program *p, bool narrow)
{
    Graph *g = p->graph;
    Text why = { .arena = a };
    PassOptions po = { .narrow = narrow };
    int kept = 0;
    for (int i = 0; i < g->n_output; i++)
        if (!strcmp(g->output[i].name, "loss") || !strcmp(g->output[i].name, "logit_scale"))
            g->output[kept++] = g->output[i];
    g->n_output = kept;
    graph_dce(g);
    if (!passes_forward(g, &po, NULL, &why))
        fail_msg("%s", text_data(&why));
}

static inline void optimise(Arena *a, Program *p, Diag *diag, const int *grads)
{
    if (!sema_update(p, p->graph, diag, grads)) {
        diag_print(diag, stderr);
        fail_msg("the optimiser");
    }
    graph_toposort(p->graph);
    verified(a, p->graph);
}

/* NULL: a parameter does not influence the loss. Without `passes` every gradient is an output "gradient of NAME". */
static inline Program *step_graph(Arena *a, const char *text, bool passes, bool narrow)
{
    Diag diag;
    Text why = { .arena = a };
    Program *p = program_of(a, text, &diag);
    Graph *g = p->graph;
    if (passes)
        forward_of(a, p, narrow);
    int *grads = NEWN(a, int, p->n_param + 1);
    if (!grad_append(g, p->loss, p->param, p->n_param, grads, &why))
        fail_msg("%s\n%s", text_data(&why), text);
    for (int i = 0; i < p->n_param; i++) {
        if (grads[i] < 0)
            return NULL;
        if (!passes)
            graph_output(g, arena_printf(a, "gradient of %s", g->tensor[p->param[i]].name), grads[i]);
    }
    optimise(a, p, &diag, grads);
    return p;
}

/* ---- values */

static inline double draw(const char *name, const Tensor *t, double u)
{
    static const struct { const char *name; double value; } host[] = { { "step", 7 }, { "total", 40 }, { "t", 1 }, { "updates", 7 } };
    for (size_t i = 0; i < LEN(host) && t->dtype == DT_F64; i++)
        if (!strcmp(name, host[i].name))
            return host[i].value;
    return t->dtype == DT_I32 ? floor(40 * u) : t->kind == T_STATE ? u : (double)(float)(2 * u - 1);
}

/* Inputs, parameters and states of g into env; what has no value yet is drawn by its name. */
static inline void fill(Arena *a, const Graph *g, Store *s, Env *env, int64_t batch)
{
    *env = (Env){ NEWN(a, double *, g->n_tensor + 1), batch };
    for (int i = 0; i < g->n_tensor; i++) {
        const Tensor *t = &g->tensor[i];
        if (t->kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, i, batch);
        const Named *known = store_find(s, t->name);
        if (!known) {
            double *value = NEWN(a, double, n);
            uint64_t state = 1469598103934665603u;
            for (const char *c = t->name; *c; c++)
                state = (state ^ (uint8_t)*c) * 1099511628211u;
            for (int64_t k = 0; k < n; k++)
                value[k] = draw(t->name, t, sample(&state));
            store_put(a, s, t->name, value, n);
            known = store_find(s, t->name);
        }
        if (known->n == n)                               /* else it is of another batch, and nothing reads it: it would be missed */
            env->value[i] = memcpy(NEWN(a, double, n), known->value, (size_t)n * sizeof(double));
    }
}

static inline void results(Arena *a, const Graph *g, const Env *env, Store *out)
{
    for (int i = 0; i < g->n_output; i++)                 /* the parameter of this name is another thing */
        store_put(a, out, strcmp(g->output[i].name, "logit_scale") ? g->output[i].name : "exp(logit_scale)", env->value[g->output[i].tensor], tensor_count(g, g->output[i].tensor, env->batch));
    for (int i = 0; i < g->n_update; i++)
        store_put(a, out, g->tensor[g->update[i].target].name, env->value[g->update[i].value],
                  tensor_count(g, g->update[i].value, env->batch));
}

static inline void run_plain(Arena *a, Graph *g, Store *s, int64_t batch, Store *out)
{
    Env env;
    fill(a, g, s, &env, batch);
    ran(a, g, &env);
    results(a, g, &env, out);
}

static inline void widen(Graph *g)
{
    for (int i = 0; i < g->n_tensor; i++)
        if (g->tensor[i].dtype == DT_BF16)
            g->tensor[i].dtype = DT_F32;
}

/* f's graph is as it was afterwards; outputs and new values of parameters and states go to `out`. */
static inline void run_exact(Arena *a, Fused *f, Store *s, int64_t batch, Store *out)
{
    Graph *g = f->graph;
    Text why = { .arena = a };
    Env env;
    Tensor **kept = NEWN(a, Tensor *, f->n_kernel + 1);
    for (int k = 0; k <= f->n_kernel; k++) {
        Graph *part = k == f->n_kernel ? g : f->kernel[k].sets ? f->kernel[k].sets->form->graph : NULL;
        if (part) {
            kept[k] = memcpy(NEWN(a, Tensor, part->n_tensor + 1), part->tensor, (size_t)part->n_tensor * sizeof(Tensor));
            widen(part);
        }
    }
    fill(a, g, s, &env, batch);
    if (!fused_run(f, &env, a, &why))
        fail_msg("%s", text_data(&why));
    results(a, g, &env, out);
    for (int k = 0; k <= f->n_kernel; k++) {
        Graph *part = k == f->n_kernel ? g : f->kernel[k].sets ? f->kernel[k].sets->form->graph : NULL;
        if (part)
            memcpy(part->tensor, kept[k], (size_t)part->n_tensor * sizeof(Tensor));
    }
}

/* Everything in `got` as it is in `want`, relative to the largest of the tensor, at least 1e-3. */
static inline void same(const Store *got, const Store *want, double tolerance, const char *what, const char *text)
{
    for (int i = 0; i < got->at.n; i++) {
        const Named *x = &got->at.at[i], *y = store_find(want, x->name);
        if (!y || x->n != y->n)
            fail_msg("%s: nobody else has `%s`\n%s", what, x->name, text);
        double scale = 1e-3;
        for (int64_t k = 0; k < x->n; k++)
            scale = isfinite(y->value[k]) ? fmax(scale, fabs(y->value[k])) : scale;
        for (int64_t k = 0; k < x->n; k++)
            if (!(fabs(x->value[k] - y->value[k]) <= tolerance * scale) && x->value[k] != y->value[k])
                fail_msg("%s: %s[%lld] is %.12g, by the equations %.12g\n%s", what, x->name, (long long)k, x->value[k], y->value[k], text);
    }
}

/* ---- gradients against differences of the loss */

/* The loss where every parameter (or `only` one) is moved by `by` along a direction that its name and `seed` give; *slope: the change that
 * the gradients in `have` promise. */
static inline double loss_at(Arena *a, const Program *p, Graph *forward, Store *s, const Store *have, int64_t batch, uint64_t seed, double by,
                             double *slope)
{
    Env env;
    fill(a, forward, s, &env, batch);
    *slope = 0;
    for (int i = 0; i < p->n_param; i++) {
        int t = p->param[i];
        const Named *g = store_find(have, arena_printf(a, "gradient of %s", forward->tensor[t].name));
        for (int64_t k = 0; k < g->n; k++) {
            double d = tic_philox(seed, (uint64_t)k, (uint64_t)i).v[0] & 1 ? 1 : -1;
            env.value[t][k] += by * d;
            *slope += d * g->value[k];
        }
    }
    ran(a, forward, &env);
    return env.value[p->loss][0];
}

/* Where a step meets a kink, or a jump, in all of several directions, nothing is said. Returns the relative error. */
static inline double slopes(const Program *p, Store *s, const Store *have, int64_t batch, const char *text)
{
    Arena a = { 0 };
    Graph *forward = graph_clone(p->graph);
    double error = 1;
    forward->n_update = 0;
    forward->n_output = 0;
    graph_output(forward, "loss", p->loss);
    graph_dce(forward);
    for (int tries = 0; tries < 6 && error > 1e-4; tries++) {
        double by = tries < 3 ? 1e-5 : 1e-7, slope;
        double up = loss_at(&a, p, forward, s, have, batch, (uint64_t)tries, by, &slope);
        double down = loss_at(&a, p, forward, s, have, batch, (uint64_t)tries, -by, &slope), seen = (up - down) / (2 * by);
        error = fabs(seen - slope) / fmax(fabs(slope), fmax(fabs(seen), 1e-2));
    }
    arena_free(&a);
    if (!(error <= 1e-4))
        fail_msg("gradients are not those of the loss: off by %.2g\n%s", error, text);
    return error;
}

/* ---- native kernels, one by one */

typedef struct Lock {
    Suite *s;
    const Case *c;
    int target;
    int64_t batch;
    Buffer *buffer;                  /* by storage */
    const char *what;
} Lock;

static inline void launch(const Lock *l, int kernel, bool forwards)
{
    const Launches *launches = &l->c->launch[l->target][kernel];
    for (int i = 0; i < launches->n; i++) {
        void *arg[MOST_BUFFERS];
        const CpuLaunch *at = &launches->at[i];
        assert_true(at->n_arg <= MOST_BUFFERS);
        for (int j = 0; j < at->n_arg; j++)
            arg[j] = l->buffer[l->c->f.storage[at->arg[j]]].data;
        const TicKernel *k = &l->s->kernel[l->target][at->kernel];
        memset(l->s->scratch, 0xff, TIC_SCRATCH_BYTES);
        for (int64_t n = k->tasks(l->batch), task = 0; task < n; task++)
            k->run(arg, l->batch, forwards ? task : n - 1 - task, l->s->scratch);
    }
}

/* ---- how far rounding may take a result
 *
 * A result that is not within the tolerance may be as good as f32 gets. The interpreter tells, by running the kernel once more:
 *
 *     SHAKEN    what it reads is a little off, by sixteen times what rounding may do: two are as good as equal, or terms cancel
 *     SUMS      every sum is off by four roundings of the magnitudes of its terms, which is what the order of terms may do
 *     OWN       what it writes in bf16 is, for the rest of the kernel, what it wrote, not what the interpreter makes of it: f32 and f64 may
 *               stand on two sides of a tie, and are a whole step of bf16 apart then */
typedef enum Again { PLAIN, SHAKEN, SUMS, OWN, N_AGAIN } Again;

/* The buffers as the kernel found and left them, by storage; results of running it again. */
typedef struct Doubt { Arena *a; void **before, **after; double **value[N_AGAIN]; } Doubt;

/* What the kernel's arguments hold, as numbers. */
static inline double **numbers(Arena *a, const Lock *l, int kernel, bool shaken)
{
    const Fused *f = &l->c->f;
    const Kernel *k = &f->kernel[kernel];
    double **value = NEWN(a, double *, f->graph->n_tensor);
    for (int r = 0; r < k->n_reads + k->n_writes; r++) {
        int home = f->storage[r < k->n_reads ? k->reads[r] : k->writes[r - k->n_reads]];
        const Tensor *t = &f->graph->tensor[home];
        int64_t n = tensor_count(f->graph, home, l->batch);
        if (value[home])
            continue;
        value[home] = NEWN(a, double, n);
        for (int64_t i = 0; i < n; i++) {
            value[home][i] = buffer_get(&l->buffer[home], t->dtype, i);
            if (shaken && dtype_real(t->dtype))
                value[home][i] *= tic_philox(3, (uint64_t)i, (uint64_t)home).v[0] & 1 ? 1 + 0x1p-20 : 1 - 0x1p-20;
        }
    }
    return value;
}

static inline bool own(const Fused *f, const Kernel *k, int tensor)
{
    bool written = false, alone = f->graph->tensor[tensor].dtype == DT_BF16;
    for (int w = 0; w < k->n_writes; w++)
        written = written || k->writes[w] == tensor;
    for (int r = 0; r < k->n_reads; r++)
        alone = alone && f->storage[k->reads[r]] != f->storage[tensor];
    return written && alone;
}

/* The kernel as OWN has it: it reads what it wrote in bf16. */
static inline Kernel own_read(Arena *a, const Fused *f, const Kernel *k)
{
    Kernel less = *k;
    less.comp = NEWN(a, Comp, k->n_comp);
    less.reads = NEWN(a, int, k->n_reads + k->n_writes);
    less.writes = NEWN(a, int, k->n_writes);
    less.n_comp = less.n_writes = 0;
    memcpy(less.reads, k->reads, (size_t)k->n_reads * sizeof *k->reads);
    for (int i = 0; i < k->n_comp; i++)
        if (!own(f, k, k->comp[i].out))
            less.comp[less.n_comp++] = k->comp[i];
    for (int w = 0; w < k->n_writes; w++)
        *(own(f, k, k->writes[w]) ? &less.reads[less.n_reads++] : &less.writes[less.n_writes++]) = k->writes[w];
    return less;
}

static inline Kernel sums_off(Arena *a, const Fused *f, const Kernel *k)
{
    Kernel off = *k;
    Graph *g = f->graph;
    off.comp = memcpy(NEWN(a, Comp, k->n_comp), k->comp, (size_t)k->n_comp * sizeof *k->comp);
    for (int i = 0; i < k->n_comp; i++) {
        Comp *c = &off.comp[i];
        if (c->reducer == RED_SUM || c->reducer == RED_SCATTER)
            c->body = expr_op(g, OP_ADD, c->body, expr_op(g, OP_MUL, expr_const(g, 0x1p-22), expr_op(g, OP_ABS, c->body, NULL, NULL), NULL), NULL);
    }
    return off;
}

static inline double **by_interpreter(Arena *a, const Lock *l, int kernel, double **value, Again how)
{
    Text why = { .arena = a };
    const Fused *f = &l->c->f;
    const Kernel *k = &f->kernel[kernel];
    Env env = { NEWN(a, double *, f->graph->n_tensor), l->batch };
    Fused again = *f;
    again.kernel = memcpy(NEWN(a, Kernel, f->n_kernel), f->kernel, (size_t)f->n_kernel * sizeof *f->kernel);
    if (!k->sets && (how == SUMS || how == OWN))
        again.kernel[kernel] = (how == SUMS ? sums_off : own_read)(a, f, k);
    if (!kernel_run(&again, kernel, value, &env, a, &why))
        fail_msg("%s", text_data(&why));
    return value;
}

static inline void put_back(const Lock *l, void *const *copy)
{
    for (int t = 0; t < l->c->f.graph->n_tensor; t++)
        if (copy[t])
            memcpy(l->buffer[t].data, copy[t], l->buffer[t].bytes);
}

/* An element of what the kernel makes when it runs again. */
static inline double again(const Lock *l, int kernel, Doubt *d, Again how, int home, int64_t i)
{
    const Fused *f = &l->c->f;
    const Kernel *k = &f->kernel[kernel];
    if (!d->value[how]) {
        put_back(l, d->before);
        double **value = numbers(d->a, l, kernel, how == SHAKEN);
        put_back(l, d->after);
        for (int w = 0; w < k->n_writes && how == OWN; w++)
            for (int64_t j = 0, t = f->storage[k->writes[w]]; own(f, k, k->writes[w]) && j < tensor_count(f->graph, (int)t, l->batch); j++)
                value[t][j] = buffer_get(&l->buffer[t], DT_BF16, j);
        d->value[how] = by_interpreter(d->a, l, kernel, value, how);
    }
    return d->value[how][home][i];
}

/* Does the kernel round to bf16 what it does not store? */
static inline bool rounds_inside(const Lock *l, const Kernel *k)
{
    for (int i = 0; i < k->n_comp; i++) {
        bool written = l->c->f.graph->tensor[k->comp[i].out].dtype != DT_BF16;
        for (int w = 0; w < k->n_writes; w++)
            written = written || k->writes[w] == k->comp[i].out;
        if (!written)
            return true;
    }
    return false;
}

static inline void compare(const Lock *l, int kernel, Doubt *d, double **want)
{
    const Fused *f = &l->c->f;
    const Kernel *k = &f->kernel[kernel];
    bool inside = rounds_inside(l, k), doubted = false;
    for (int w = 0; w < k->n_writes; w++) {
        int home = f->storage[k->writes[w]];
        const Tensor *t = &f->graph->tensor[home];
        int64_t n = tensor_count(f->graph, home, l->batch);
        double scale = 1e-2;                             /* 1 - tanh(x)^2, say, is of numbers near 1 */
        for (int64_t i = 0; i < n; i++)
            scale = isfinite(want[home][i]) ? fmax(scale, fabs(want[home][i])) : scale;
        double tolerance = t->dtype == DT_F64 ? 1e-12 : t->dtype == DT_I32 ? 0 : inside ? 0x1p-8 : 1e-5;
        for (int64_t i = 0; i < n; i++) {
            double got = buffer_get(&l->buffer[home], t->dtype, i), y = want[home][i], apart = fabs(got - y);
            if (got == y || (isnan(got) && isnan(y)))
                continue;
            double most = tolerance * scale + (t->dtype == DT_BF16 ? 0x1p-7 * fabs(y) : 0);
            if (!(apart <= most)) {
                doubted = true;
                most += 4 * fmax(fabs(again(l, kernel, d, SHAKEN, home, i) - y), fabs(again(l, kernel, d, SUMS, home, i) - y));
                if (!own(f, k, k->writes[w]))
                    apart = fmin(apart, fabs(got - again(l, kernel, d, OWN, home, i)));
            }
            if (!(apart <= most))
                fail_msg("%s on %s, kernel %d (%s, %s): %s[%lld] is %.9g, by the interpreter %.9g, where the largest is %.3g\n%s", l->what,
                         l->s->target[l->target].cpu, kernel, kernel_class_name[k->cls], k->label, t->name, (long long)i, got, y, scale,
                         l->c->text);
            if (t->dtype == DT_F32 && !inside && !doubted)
                l->s->worst = fmax(l->s->worst, apart / scale);
        }
    }
}

/* A copy of every buffer that launches of the kernel have, by storage; taken, given back or (what they wrote) compared. */
typedef enum { TAKE, GIVE, COMPARE } Copying;
static inline void copies(Arena *a, const Lock *l, int kernel, void **copy, Copying what)
{
    const Launches *launches = &l->c->launch[l->target][kernel];
    for (int i = 0; i < launches->n; i++)
        for (int j = 0; j < launches->at[i].n_arg; j++) {
            int home = l->c->f.storage[launches->at[i].arg[j]];
            const Buffer *b = &l->buffer[home];
            if (what == TAKE)
                copy[home] = memcpy(copy[home] ? copy[home] : NEWN(a, char, b->bytes + 1), b->data, b->bytes);
            else if (what == GIVE)
                memcpy(b->data, copy[home], b->bytes);
            else if (memcmp(b->data, copy[home], b->bytes))
                fail_msg("%s on %s, kernel %d (%s): %s depends on the order of tasks\n%s", l->what, l->s->target[l->target].cpu, kernel,
                         l->c->f.kernel[kernel].label, l->c->f.graph->tensor[home].name, l->c->text);
        }
}

static inline void lockstep(Suite *s, const Case *c, int target, Store *values, int64_t batch, const char *what)
{
    const Fused *f = &c->f;
    const Graph *g = f->graph;
    Arena a = { 0 };
    Env env;
    Lock l = { s, c, target, batch, NEWN(&a, Buffer, g->n_tensor), what };
    fill(&a, g, values, &env, batch);
    for (int i = 0; i < g->n_tensor; i++) {
        int home = f->storage[i];
        const Tensor *t = &g->tensor[home];
        int64_t n = tensor_count(g, home, batch);
        if (l.buffer[home].pages)
            continue;
        l.buffer[home] = buffer_new((size_t)n * element_bytes(t->dtype));
        for (int64_t k = 0; env.value[home] && k < n; k++)
            buffer_set(&l.buffer[home], t->dtype, k, env.value[home][k]);
    }
    for (int k = 0; k < f->n_kernel; k++) {
        Arena once = { 0 };
        void **before = NEWN(&once, void *, g->n_tensor), **after = NEWN(&once, void *, g->n_tensor);
        double **want = by_interpreter(&once, &l, k, numbers(&once, &l, k, false), PLAIN);
        copies(&once, &l, k, before, TAKE);
        launch(&l, k, true);
        copies(&once, &l, k, after, TAKE);
        copies(&once, &l, k, before, GIVE);
        launch(&l, k, false);
        copies(&once, &l, k, after, COMPARE);
        compare(&l, k, &(Doubt){ .a = &once, .before = before, .after = after }, want);
        arena_free(&once);
    }
    for (int i = 0; i < g->n_tensor; i++)
        if (l.buffer[i].pages) {
            buffer_check(&l.buffer[i], what);
            munmap(l.buffer[i].pages, l.buffer[i].mapped);
        }
    arena_free(&a);
}
#endif
