/* finish.c -- from builds to kernels: an order, aligned copies of the members, what is read and what is written. */
#include "pass/fuse.h"
#include <stdlib.h>
#include <string.h>

const char *const kernel_class_name[N_KERNEL_CLASSES] = {
    [K_MAP] = "map", [K_ROW] = "row", [K_REDUCE] = "reduce", [K_CONTRACT] = "contract", [K_SCORE] = "score",
    [K_SCATTER] = "scatter", [K_HOST] = "host",
};

/* ---- one kernel */

Comp comp_aligned(Graph *g, const Comp *c, const int *axis)
{
    const Affine *map[MAX_AXES] = { NULL };
    uint32_t seen = 0;
    Comp out = *c;
    out.n_axes = 0;
    out.red = 0;
    memset(out.ext, 0, sizeof out.ext);
    for (int a = 0; a < c->n_axes; a++) {
        map[a] = aff_axis(g, axis[a]);
        seen |= 1u << axis[a];
        out.red |= (c->red >> a & 1) << axis[a];
        out.ext[axis[a]] = c->ext[a];
        out.n_axes = axis[a] >= out.n_axes ? axis[a] + 1 : out.n_axes;
    }
    for (int a = 0; a < out.n_axes; a++)
        if (!(seen >> a & 1)) {
            out.red |= 1u << a;
            out.ext[a] = 1;
        }
    out.body = expr_subst(g, c->body, map, c->n_axes);
    for (int d = 0; d < g->tensor[c->out].rank; d++)
        out.store[d] = aff_subst(g, c->store[d], map, c->n_axes);
    return out;
}

static Comp aligned(Fuser *f, const Build *b, int c)
{
    const Comp *k = f->g->comp[c];
    if (b->cls == K_SCORE)
        return score_aligned(f->g, k, f->info[c].axis, b->n_dom);
    Comp out = comp_aligned(f->g, k, f->info[c].axis);
    if (b->cls != K_CONTRACT && b->cls != K_ROW)               /* there inner axes may be fewer, which are one point then, or a member's own */
        memcpy(out.ext, b->ext, (size_t)out.n_axes * sizeof *out.ext);
    return out;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

void sort_unique(Ints *xs)
{
    int n = 0;
    if (xs->n)
        qsort(xs->at, (size_t)xs->n, sizeof *xs->at, by_number);
    for (int i = 0; i < xs->n; i++)
        if (!n || xs->at[n - 1] != xs->at[i])
            xs->at[n++] = xs->at[i];
    xs->n = n;
}

static bool made_inside(const Fuser *f, int tensor, int n)
{
    const Ints *p = &f->pieces[tensor];
    for (int i = 0; i < p->n; i++)
        if (f->info[p->at[i]].kernel != n)
            return false;
    return p->n > 0;
}

static bool wanted_outside(const Fuser *f, int tensor, int n)
{
    const Ints *u = &f->users[tensor];
    bool outside = f->root[tensor] || !made_inside(f, tensor, n);
    for (int i = 0; i < u->n && !outside; i++)
        outside = f->info[u->at[i]].kernel != n;
    return outside;
}

static void roles_of(Kernel *k, const Sides *s)
{
    Contract *x = &k->split;
    for (int a = 0; a < k->comp[0].n_axes; a++) {
        if (s->batch >> a & 1)
            x->batch[x->n_batch++] = a;
        if (s->m >> a & 1)
            x->m[x->n_m++] = a;
        if (s->n >> a & 1)
            x->n[x->n_n++] = a;
        if (s->k >> a & 1)
            x->k[x->n_k++] = a;
    }
    x->a = s->a;
    x->b = s->b;
    x->scale = s->scale;
}

/* Members in definition order, a legal one; but a contraction comes first, the sum of its side last. */
static void order_members(const Fuser *f, const Build *b)
{
    int *at = b->comp.at, n = b->comp.n, first = at[0];
    qsort(at, (size_t)n, sizeof *at, by_number);
    if (b->cls != K_CONTRACT)
        return;
    for (int i = n - 1; i > 0; i--)
        if (at[i] == first) {
            at[i] = at[i - 1];
            at[i - 1] = first;
        }
    for (int i = 1; i + 1 < n; i++)
        if (f->g->comp[at[i]]->reducer != RED_NONE) {
            int sum = at[i];
            at[i] = at[i + 1];
            at[i + 1] = sum;
        }
}

const char *kernel_label(const Kernel *k, Arena *a)
{
    const char *tag[2] = { NULL, NULL };
    bool more = false;
    for (int i = 0; i < k->n_comp; i++) {
        const char *t = k->comp[i].tag ? k->comp[i].tag : "";
        if (!*t || (tag[0] && !strcmp(tag[0], t)) || (tag[1] && !strcmp(tag[1], t)))
            continue;
        if (tag[1])
            more = true;
        else
            tag[tag[0] != NULL] = t;
    }
    if (!tag[0])
        return "";
    return tag[1] ? arena_printf(a, "%s, %s%s", tag[0], tag[1], more ? ", .." : "") : tag[0];
}

static Kernel make_kernel(Fuser *f, Arena *a, int n)
{
    Build *b = f->build.at[n];
    Kernel k = { .cls = b->cls, .n_dom = b->n_dom, .n_comp = b->comp.n, .again = b->again };
    Ints reads = { 0 }, writes = { 0 };
    memcpy(k.dom, b->ext, (size_t)b->n_dom * sizeof *k.dom);
    k.comp = NEWN(a, Comp, b->comp.n);
    order_members(f, b);
    for (int i = 0; i < b->comp.n; i++) {
        int c = b->comp.at[i];
        k.comp[i] = aligned(f, b, c);
        for (int j = 0; j < f->info[c].n_load; j++)
            if (!made_inside(f, f->info[c].load[j]->tensor, n))
                PUSH(a, reads, f->info[c].load[j]->tensor);
        if (wanted_outside(f, f->g->comp[c]->out, n))
            PUSH(a, writes, f->g->comp[c]->out);
    }
    sort_unique(&reads);
    sort_unique(&writes);
    k.reads = reads.at;
    k.n_reads = reads.n;
    k.writes = writes.at;
    k.n_writes = writes.n;
    k.span = k.comp[0].span;
    k.label = kernel_label(&k, a);
    Sides s;
    if (k.cls == K_CONTRACT && comp_sides(f->g, &k.comp[0], &s)) {
        roles_of(&k, &s);
        k.split.sum = side_summed(f->g, &k.comp[k.n_comp - 1], &s, &k.split.sum_scale);
    }
    return k;
}

/* ---- order */

void fuse_finish(Fuser *f, Arena *a, Fused *out)
{
    int left = 0;
    bool *done = NEWN(f->a, bool, f->build.n);
    uint64_t *ran = NEWN(f->a, uint64_t, f->words);
    for (int i = 0; i < f->build.n; i++)
        left += !f->build.at[i]->dead;
    out->kernel = NEWN(a, Kernel, left);
    out->n_kernel = 0;
    while (left--) {
        int best = -1;                                         /* the optimiser last; else what ends first */
        for (int i = 0; i < f->build.n; i++) {
            const Build *b = f->build.at[i];
            if (b->dead || done[i])
                continue;
            const Build *x = best < 0 ? NULL : f->build.at[best];
            if (x && (b->update != x->update ? b->update : b->last > x->last))
                continue;
            bool ready = true;
            for (int w = 0; w < f->words && ready; w++) {
                uint64_t missing = f->before.at[i][w] & ~ran[w];
                for (; missing && ready; missing &= missing - 1)
                    ready = f->build.at[w * 64 + __builtin_ctzll(missing)]->dead;
            }
            if (ready)
                best = i;
        }
        if (best < 0)
            break;                                             /* a cycle: fuse() sees that kernels are missing */
        done[best] = true;
        ran[best / 64] |= 1ull << (best % 64);
        out->kernel[out->n_kernel++] = make_kernel(f, a, best);
    }
}

/* ---- dependencies between finished kernels */

KernelDeps kernel_deps(const Fused *f, Arena *a)
{
    const Graph *g = f->graph;
    KernelDeps d = { NEWN(a, Ints, f->n_kernel) };
    Ints *writers = NEWN(a, Ints, g->n_tensor), *readers = NEWN(a, Ints, g->n_tensor);
    for (int i = 0; i < f->n_kernel; i++) {
        for (int j = 0; j < f->kernel[i].n_writes; j++)
            PUSH(a, writers[f->kernel[i].writes[j]], i);
        for (int j = 0; j < f->kernel[i].n_reads; j++)
            PUSH(a, readers[f->kernel[i].reads[j]], i);
    }
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        for (int j = 0; j < k->n_reads; j++) {
            const Ints *w = &writers[k->reads[j]];
            for (int m = 0; m < w->n; m++)
                if (w->at[m] != i)
                    PUSH(a, d.pred[i], w->at[m]);
        }
        for (int j = 0; j < k->n_writes; j++) {
            int target = f->storage[k->writes[j]];
            for (int m = 0; target != k->writes[j] && m < readers[target].n; m++)
                if (readers[target].at[m] != i)
                    PUSH(a, d.pred[i], readers[target].at[m]);
        }
        sort_unique(&d.pred[i]);
    }
    return d;
}
