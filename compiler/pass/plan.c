/* plan.c -- sizes, work and liveness of a schedule. */
#include "pass/plan.h"
#include "ir/pool.h"
#include "pass/pass.h"
#include <stdio.h>

/* ---- polynomials of the batch */

int64_t poly_at(Poly p, int64_t batch)
{
    return sat_add(sat_add(p.c[0], sat_mul(p.c[1], batch)), sat_mul(p.c[2], sat_mul(batch, batch)));
}

/* each * product of extents; more than two batches cannot be said and count as two */
static Poly product(const Ext *ext, int n, uint32_t which, int64_t each)
{
    Poly p = { { 0, 0, 0 } };
    int power = 0;
    for (int k = 0; k < n; k++)
        if (which >> k & 1) {
            if (ext[k] == EXT_BATCH)
                power++;
            else
                each = sat_mul(each, ext[k]);
        }
    p.c[power < 2 ? power : 2] = each;
    return p;
}

Poly tensor_bytes(const Graph *g, int tensor)
{
    const Tensor *t = &g->tensor[tensor];
    return product(t->shape, t->rank, axes_mask(t->rank), dtype_size(t->dtype));
}

static int operations(const Expr *e, HashMap *seen, Arena *a)
{
    int at = -1, i, n = 1;
    if (e->kind != E_OP || hash_next(seen, hash2(5, e->id), &at, &i))
        return 0;
    hash_put(a, seen, hash2(5, e->id), 0);
    for (i = 0; i < e->n; i++)
        n += operations(e->arg[i], seen, a);
    return n;
}

Poly comp_flops(const Comp *c, bool contraction)
{
    Arena a = { 0 };
    HashMap seen = { 0 };
    int each = contraction ? 2 : operations(c->body, &seen, &a) + (c->red != 0);
    arena_free(&a);
    return product(c->ext, c->n_axes, axes_mask(c->n_axes), each);
}

Poly kernel_flops(const Fused *f, const Kernel *k)
{
    Poly sum = { { 0, 0, 0 } };
    if (k->cls == K_HOST)
        return sum;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        bool contraction = k->cls == K_CONTRACT && i == 0;
        if (k->cls == K_SCORE) {
            ScoreRole role = score_role(k, c);
            contraction = role == SCORE_PRODUCT || role == SCORE_RESULT;
        }
        Poly p = comp_flops(c, contraction);
        for (int j = 0; j < 3; j++)
            sum.c[j] = sat_add(sum.c[j], p.c[j]);
    }
    return sum;
}

/* ---- liveness */

Liveness plan_liveness(const Fused *f, Arena *a)
{
    const Graph *g = f->graph;
    Liveness l = { NEWN(a, int, g->n_tensor), NEWN(a, int, g->n_tensor), NEWN(a, bool, g->n_tensor) };
    for (int t = 0; t < g->n_tensor; t++) {
        l.first[t] = l.last[t] = -1;
        l.counted[t] = g->tensor[t].kind == T_TEMP && f->storage[t] == t;
    }
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        for (int j = 0; j < k->n_reads + k->n_writes; j++) {
            int t = f->storage[j < k->n_reads ? k->reads[j] : k->writes[j - k->n_reads]];
            if (l.first[t] < 0)
                l.first[t] = i;
            l.last[t] = i;
        }
    }
    for (int i = 0; i < g->n_output; i++) {
        int t = f->storage[g->output[i].tensor];
        if (l.first[t] >= 0)
            l.last[t] = f->n_kernel - 1;
    }
    for (int t = 0; t < g->n_tensor; t++)
        l.counted[t] &= l.first[t] >= 0;
    return l;
}

static int64_t rounded(const Graph *g, int t, int64_t batch)
{
    int64_t n = poly_at(tensor_bytes(g, t), batch);
    return n > INT64_MAX - 63 ? INT64_MAX : (n + 63) / 64 * 64;
}

int64_t plan_peak(const Fused *f, const Liveness *l, int64_t batch, int *at)
{
    const Graph *g = f->graph;
    Arena a = { 0 };
    int64_t *change = NEWN(&a, int64_t, f->n_kernel + 1), live = 0, peak = 0;
    for (int t = 0; t < g->n_tensor; t++)
        if (l->counted[t]) {
            change[l->first[t]] += rounded(g, t, batch);
            change[l->last[t] + 1] -= rounded(g, t, batch);
        }
    if (at)
        *at = 0;
    for (int i = 0; i < f->n_kernel; i++) {
        live += change[i];
        if (live > peak) {
            peak = live;
            if (at)
                *at = i;
        }
    }
    arena_free(&a);
    return peak;
}

int64_t plan_kind_bytes(const Fused *f, TensorKind kind, int64_t batch)
{
    Arena a = { 0 };
    bool *touched = NEWN(&a, bool, f->graph->n_tensor);
    int64_t sum = 0;
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        for (int j = 0; j < k->n_reads; j++)
            touched[k->reads[j]] = true;
        for (int j = 0; j < k->n_writes; j++)
            touched[f->storage[k->writes[j]]] = true;
    }
    for (int t = 0; t < f->graph->n_tensor; t++)
        if (touched[t] && f->graph->tensor[t].kind == kind)
            sum = sat_add(sum, poly_at(tensor_bytes(f->graph, t), batch));
    arena_free(&a);
    return sum;
}

/* ---- the table */

static const char *amount(char *buf, size_t size, double x, const char *unit)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P" };
    int i = 0;
    for (; x >= 999.5 && i < 5; i++)
        x /= 1000;
    snprintf(buf, size, i ? "%.3g %s%s" : "%.0f %s%s", x, prefix[i], unit);
    return buf;
}

static int64_t sum_bytes(const Fused *f, const int *t, int n, int64_t batch)
{
    int64_t sum = 0;
    for (int i = 0; i < n; i++)
        sum = sat_add(sum, poly_at(tensor_bytes(f->graph, t[i]), batch));
    return sum;
}

void plan_print(const Fused *f, int64_t batch, Text *out)
{
    const Graph *g = f->graph;
    Arena a = { 0 };
    Liveness l = plan_liveness(f, &a);
    char x[3][32];
    int count[N_KERNEL_CLASSES] = { 0 }, at;
    double flops[N_KERNEL_CLASSES] = { 0 }, bytes[N_KERNEL_CLASSES] = { 0 };
    text_printf(out, "%5s %-9s %10s %10s %10s  %-18s %s\n", "", "class", "work", "reads", "writes", "source", "layer");
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        int64_t work = poly_at(kernel_flops(f, k), batch), in = sum_bytes(f, k->reads, k->n_reads, batch);
        int64_t w = sum_bytes(f, k->writes, k->n_writes, batch);
        const char *source = "";
        if (g->sources && k->span.hi) {
            Place p = source_place(g->sources, k->span.lo);
            if (p.source)
                source = arena_printf(&a, "%s:%d", p.source->path, p.line);
        }
        text_printf(out, "%5d %-9s %10s %10s %10s  %-18s %s\n", i, kernel_class_name[k->cls],
                    amount(x[0], sizeof x[0], (double)work, "F"), amount(x[1], sizeof x[1], (double)in, "B"),
                    amount(x[2], sizeof x[2], (double)w, "B"), source, k->label);
        count[k->cls]++;
        flops[k->cls] += (double)work;
        bytes[k->cls] += (double)(in + w);
    }
    text_printf(out, "\n%d kernels, %d distinct, batch %lld\n", f->n_kernel, f->n_distinct, (long long)batch);
    for (int c = 0; c < N_KERNEL_CLASSES; c++)
        if (count[c])
            text_printf(out, "  %-9s %5d %12s %12s\n", kernel_class_name[c], count[c],
                        amount(x[0], sizeof x[0], flops[c], "FLOP"), amount(x[1], sizeof x[1], bytes[c], "B"));
    int64_t peak = plan_peak(f, &l, batch, &at), none = plan_peak(f, &l, 0, NULL), one = plan_peak(f, &l, 1, NULL);
    text_printf(out, "parameters %s, states %s, inputs %s\n",
                amount(x[0], sizeof x[0], (double)plan_kind_bytes(f, T_PARAM, batch), "B"),
                amount(x[1], sizeof x[1], (double)plan_kind_bytes(f, T_STATE, batch), "B"),
                amount(x[2], sizeof x[2], (double)plan_kind_bytes(f, T_INPUT, batch), "B"));
    text_printf(out, "temporaries at most %s", amount(x[0], sizeof x[0], (double)peak, "B"));
    if (f->n_kernel)
        text_printf(out, " (kernel %d, %s)", at, f->kernel[at].label);
    text_printf(out, "; %s without a batch, %s with a batch of one\n", amount(x[1], sizeof x[1], (double)none, "B"),
                amount(x[2], sizeof x[2], (double)one, "B"));
    arena_free(&a);
}
