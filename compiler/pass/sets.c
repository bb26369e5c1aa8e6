/* sets.c -- maps of one form become one kernel: an optimiser is one launch over all parameters, not one a parameter. So do totals
 * of one form: the squares of all gradients are one launch too.
 *
 *   flatten    a map, or a total, that runs over whole tensors without gaps, every access at the same place (what is only read may
 *              go on behind), is written down anew over one axis of any length. Its tensors get numbers of their own, and every
 *              constant becomes a number that it reads:
 *
 *                  w[i, j] * s - r * m[i, j]        t0[i] * t1 - t2 * t3[i]
 *
 *              The result of a total is a number, wherever it stands in its tensor.
 *   classes    equal texts, as signatures say. Also equal is a text in which one factor, a number, is missing: that factor is 1,
 *              so the parameters without weight decay join those that have it.
 *   members    of a class, as many as do not need each other, directly or through other kernels
 *   form       what all of them do. Constants that are the same for all come back into it; those that differ, and the 1 of a
 *              missing factor, are numbers of the host: its kernel makes them too, or one of their own where it has none.
 *
 * What joins is what memory does not pay for. Updates, in place of parameters and states: they come last in a step anyway, when
 * all gradients are there. (In a program without outputs, a piece of a step, each runs as soon as its gradient exists, and the
 * gradient goes; there only small ones join.) Totals, where the peak of the plan stays what it is: what they read is there together
 * at some time, as gradients are before the optimiser. And copies of parameters in bf16, by the same rule: in a training step, whose
 * backward pass reads them again; not where memory is short (remat.c). */
#include "ir/pool.h"
#include "pass/fuse.h"
#include "pass/plan.h"
#include <string.h>

enum {
    MOST_MEMBERS = 64, MOST_POINTS = 1 << 30,
    HELD = 64 << 10,                                           /* bytes of a gradient that may wait for the others */
};

/* What a tensor of the flat graph stands for: a tensor of the step, or a constant (tensor < 0). */
typedef struct Origin { int tensor; double value; } Origin;

/* A map or total that was flattened, or one in which a factor is missing; its kernel has the same number in flat.kernel. at: of a
 * total, where its result is. */
typedef struct Map { int kernel; int64_t size, at; } Map;

typedef struct Setter {
    Fused *f;
    Arena *a, own;                                             /* what stays; what goes when this pass ends */
    Fused flat;
    ARRAY(Origin) origin;                                      /* by tensor of the flat graph */
    ARRAY(Map) map;
    ARRAY(Kernel) kernel;
    ARRAY(int) storage;
    int *place;                                                /* by tensor of the step: its flat one in this map, or -1 */
    Ints placed;
} Setter;

/* ---- one expression in another graph */

typedef struct Rewrite {
    Graph *to;
    Memo done;
    const Expr *(*leaf)(void *ctx, const Expr *e);             /* NULL: it cannot be said */
    void *ctx;
    const Expr *node, *by;                                     /* this product becomes this factor of it */
} Rewrite;

/* As it stands: no rule is applied, so equal texts stay equal. */
static const Expr *rewrite(Rewrite *r, const Expr *e)
{
    if (e == r->node)
        e = r->by;
    if (e->kind != E_OP)
        return r->leaf(r->ctx, e);
    const Expr *new = memo_get(&r->done, e), *arg[3] = { NULL, NULL, NULL };
    for (int i = 0; !new && i < e->n; i++)
        if (!(arg[i] = rewrite(r, e->arg[i])))
            return NULL;
    if (!new) {
        new = expr_raw(r->to, e->op, arg[0], arg[1], arg[2]);
        memo_put(&r->done, e, new);
    }
    return new;
}

static const Expr *rewritten(Rewrite r, const Expr *e)
{
    memo_init(&r.done);
    const Expr *new = rewrite(&r, e);
    memo_free(&r.done);
    return new;
}

/* ---- flatten */

/* The place in memory of an access as coefficients of the axes; false when it is not that simple. */
static bool coefficients(const Graph *g, int tensor, const Affine *const *idx, int64_t *coef)
{
    const Tensor *t = &g->tensor[tensor];
    int64_t stride = 1, c;
    memset(coef, 0, MAX_AXES * sizeof *coef);
    for (int d = t->rank - 1; d >= 0; d--) {
        if (t->shape[d] == EXT_BATCH || idx[d]->c)
            return false;
        for (int i = 0; i < idx[d]->n; i++) {
            const Term *x = &idx[d]->term[i];
            if (x->kind != AT_AXIS || !checked_mul(x->coef, stride, &c) || !checked_add(coef[x->axis], c, &coef[x->axis]))
                return false;
        }
        if (!checked_mul(stride, t->shape[d], &stride))
            return false;
    }
    return true;
}

/* The points of a Comp that touches all of a tensor in one dense sweep, with the coefficients of that; 0: it does not. */
static int64_t sweep(const Graph *g, const Comp *c, int tensor, const Affine *const *idx, int64_t *coef)
{
    int64_t points = 1;
    if (!coefficients(g, tensor, idx, coef))
        return 0;
    for (bool more = true; more;) {
        more = false;
        for (int a = 0; a < c->n_axes; a++) {
            if (c->ext[a] == EXT_BATCH)
                return 0;
            if (c->ext[a] > 1 && coef[a] == points) {
                points *= c->ext[a];
                more = true;
                break;
            }
        }
    }
    for (int a = 0; a < c->n_axes; a++)                        /* every axis has had its turn */
        if (c->ext[a] > 1 && coef[a] >= points)
            return 0;
    return points == tensor_count(g, tensor, 1) ? points : 0;
}

/* The same of a total: of some tensor that it reads. */
static int64_t sweep_total(Setter *s, const Comp *c, int64_t *coef)
{
    int n;
    int64_t points = 0;
    const Expr **load = comp_all_loads(c, &s->own, &n);
    for (int i = 0; i < n && points <= 1; i++)
        points = sweep(s->f->graph, c, load[i]->tensor, load[i]->idx, coef);
    return points;
}

/* Where in its tensor a Comp stores its one number; false: at no place that is known. */
static bool place_of_total(const Graph *g, const Comp *c, int64_t *at)
{
    int64_t x;
    *at = 0;
    for (int d = 0; d < g->tensor[c->out].rank; d++) {
        if ((d && g->tensor[c->out].shape[d] == EXT_BATCH) || !aff_is_const(c->store[d], &x) ||
            !checked_mul(*at, d ? g->tensor[c->out].shape[d] : 1, at) || !checked_add(*at, x, at))
            return false;
    }
    return true;
}

static int new_tensor(Setter *s, const char *name, int rank, DType d, TensorKind kind, Origin origin)
{
    Ext batch = EXT_BATCH;
    int t = graph_tensor(s->flat.graph, name, rank, &batch, kind, d);
    PUSH(&s->own, s->origin, origin);
    PUSH(&s->own, s->storage, t);
    return t;
}

static int flat_tensor(Setter *s, int tensor, int rank)
{
    const Tensor *t = &s->f->graph->tensor[tensor];
    if (s->place[tensor] < 0) {
        s->place[tensor] = new_tensor(s, t->name, rank, t->dtype, T_INPUT, (Origin){ tensor, 0 });
        PUSH(&s->own, s->placed, tensor);
    }
    return s->place[tensor];
}

typedef struct Flatten { Setter *s; const Comp *c; int64_t coef[MAX_AXES], points; } Flatten;

static const Expr *load_flat(Graph *g, int tensor)
{
    const Affine *at = aff_axis(g, 0);
    return expr_load(g, tensor, &at);
}

static const Expr *flat_leaf(void *ctx, const Expr *e)
{
    Flatten *x = ctx;
    Setter *s = x->s;
    const Graph *g = s->f->graph;
    int64_t coef[MAX_AXES];
    if (e->kind == E_CONST)                                    /* each place of its own, whatever stands there */
        return load_flat(s->flat.graph, new_tensor(s, "", 0, DT_F64, T_INPUT, (Origin){ -1, e->c }));
    if (e->kind != E_LOAD)
        return NULL;
    const Tensor *t = &g->tensor[e->tensor];
    if (!t->rank && (dtype_real(t->dtype) || t->dtype == DT_F64))
        return load_flat(s->flat.graph, flat_tensor(s, e->tensor, 0));
    if (!t->rank || !dtype_real(t->dtype) || !coefficients(g, e->tensor, e->idx, coef) || tensor_count(g, e->tensor, 1) < x->points)
        return NULL;
    for (int a = 0; a < x->c->n_axes; a++)
        if (x->c->ext[a] > 1 && coef[a] != x->coef[a])
            return NULL;
    return load_flat(s->flat.graph, flat_tensor(s, e->tensor, 1));
}

static bool writes_it(const Kernel *k, int tensor)
{
    for (int i = 0; i < k->n_writes; i++)
        if (k->writes[i] == tensor)
            return true;
    return false;
}

/* What a flat kernel reads from outside; its writes are there. */
static void declare_reads(Setter *s, Kernel *k)
{
    Ints reads = { 0 };
    for (int i = 0; i < k->n_comp; i++) {
        int n;
        const Expr **load = comp_all_loads(&k->comp[i], &s->own, &n);
        for (int j = 0; j < n; j++) {
            bool known = false;
            for (int m = 0; m < k->n_comp; m++)
                known |= k->comp[m].out == load[j]->tensor;
            for (int m = 0; m < reads.n; m++)
                known |= reads.at[m] == load[j]->tensor;
            if (!known)
                PUSH(&s->own, reads, load[j]->tensor);
        }
    }
    k->reads = reads.at;
    k->n_reads = reads.n;
}

/* The kernel over one axis, appended to flat; false: it does not run over whole tensors. */
static bool flatten(Setter *s, int kernel)
{
    const Kernel *k = &s->f->kernel[kernel];
    const Graph *g = s->f->graph;
    bool total = k->cls == K_REDUCE;
    Kernel flat = { .cls = k->cls, .n_dom = !total, .n_comp = k->n_comp, .span = k->span, .label = k->label };
    Map map = { kernel, 0, 0 };
    flat.dom[0] = total ? 0 : EXT_BATCH;
    flat.comp = NEWN(&s->own, Comp, k->n_comp);
    flat.writes = NEWN(&s->own, int, k->n_writes);
    while (s->placed.n)
        s->place[s->placed.at[--s->placed.n]] = -1;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        Flatten x = { .s = s, .c = c };
        x.points = total ? sweep_total(s, c, x.coef) : sweep(g, c, c->out, c->store, x.coef);
        if (total && !place_of_total(g, c, &map.at))
            return false;
        if (x.points <= 1 || x.points > MOST_POINTS || (map.size && x.points != map.size) || !dtype_real(g->tensor[c->out].dtype))
            return false;
        map.size = x.points;
        const Expr *body = rewritten((Rewrite){ .to = s->flat.graph, .leaf = flat_leaf, .ctx = &x }, c->body);
        if (!body)
            return false;
        int out = flat_tensor(s, c->out, !total);
        s->flat.graph->tensor[out].kind = T_TEMP;
        flat.comp[i] = (Comp){ .out = out, .n_axes = 1, .ext = { EXT_BATCH }, .red = total, .reducer = c->reducer, .body = body,
                               .store = { total ? NULL : aff_axis(s->flat.graph, 0) }, .span = c->span, .tag = c->tag };
        if (writes_it(k, c->out))
            flat.writes[flat.n_writes++] = out;
    }
    for (int i = 0; i < k->n_comp; i++) {
        int target = s->place[s->f->storage[k->comp[i].out]];
        if (target >= 0)
            s->storage.at[s->place[k->comp[i].out]] = target;
    }
    declare_reads(s, &flat);
    PUSH(&s->own, s->map, map);
    PUSH(&s->own, s->kernel, flat);
    return true;
}

/* ---- which kernels may join at all */

static bool updates_only(const Fused *f, const Kernel *k)
{
    bool only = k->n_writes > 0;
    for (int i = 0; i < k->n_writes; i++)
        only = only && f->storage[k->writes[i]] != k->writes[i];
    return only;
}

static bool update_joins(const Fused *f, const Kernel *k)
{
    const Graph *g = f->graph;
    bool may = k->cls == K_MAP && updates_only(f, k);
    for (int i = 0; i < k->n_reads && !g->n_output; i++)
        may = may && (g->tensor[k->reads[i]].kind != T_TEMP || poly_at(tensor_bytes(g, k->reads[i]), 1) <= HELD);
    return may;
}

/* Made of parameters alone: they are there from the beginning. */
static bool copy_joins(const Fused *f, const Kernel *k)
{
    const Graph *g = f->graph;
    bool may = k->cls == K_MAP && k->n_reads > 0;
    for (int i = 0; i < k->n_reads; i++)
        may = may && g->tensor[k->reads[i]].kind == T_PARAM;
    for (int i = 0; i < k->n_writes; i++)
        may = may && g->tensor[k->writes[i]].kind == T_TEMP && f->storage[k->writes[i]] == k->writes[i];
    return may;
}

/* One number out of all that it reads. */
static bool total_joins(const Fused *f, const Kernel *k)
{
    Reducer r = k->comp[0].reducer;
    return k->cls == K_REDUCE && k->n_comp == 1 && !k->n_dom && (r == RED_SUM || r == RED_MAX || r == RED_MIN) &&
           f->graph->tensor[k->comp[0].out].dtype == DT_F32;
}

/* ---- classes */

/* A map of a class, and the kernel of flat whose arguments correspond to its own: the first of the class, or that without a
 * factor. */
typedef struct Joined { int map, as; } Joined;
typedef struct Class {
    int first;
    ARRAY(Joined) of;
    bool took, gone;                                           /* others are in it; it is in another */
} Class;
typedef ARRAY(Class) Classes;

static const Expr *as_it_is(void *ctx, const Expr *e) { return e; }

/* Appends a copy of map m for each factor of it that is a number of the step; in each one is missing. */
static void without_factors(Setter *s, int m)
{
    enum { CAP = 64 };
    for (int i = 0; i < s->kernel.at[m].n_comp; i++) {
        const Expr *todo[CAP] = { s->kernel.at[m].comp[i].body };
        for (int n = 1; n;) {
            const Expr *e = todo[--n];
            for (int j = 0; e->kind == E_OP && j < e->n; j++) {
                const Expr *x = e->arg[j];
                if (x->kind == E_OP && n < CAP)
                    todo[n++] = x;
                if (e->op != OP_MUL || x->kind != E_LOAD || x->n || s->origin.at[x->tensor].tensor < 0)
                    continue;
                Kernel less = s->kernel.at[m];
                less.comp = NEWN(&s->own, Comp, less.n_comp);
                memcpy(less.comp, s->kernel.at[m].comp, (size_t)less.n_comp * sizeof *less.comp);
                less.comp[i].body = rewritten((Rewrite){ .to = s->flat.graph, .leaf = as_it_is, .node = e, .by = e->arg[!j] },
                                              less.comp[i].body);
                declare_reads(s, &less);
                PUSH(&s->own, s->map, s->map.at[m]);
                PUSH(&s->own, s->kernel, less);
            }
        }
    }
}

static void sign(Setter *s)
{
    s->flat.kernel = s->kernel.at;
    s->flat.n_kernel = s->kernel.n;
    s->flat.storage = s->storage.at;
    fuse_signatures(&s->flat);
}

static Class *class_of(Setter *s, Classes *all, int map)
{
    for (int i = 0; i < all->n; i++)
        if (s->kernel.at[all->at[i].first].signature == s->kernel.at[map].signature)
            return &all->at[i];
    return NULL;
}

static void take_classes(Setter *s, Classes *all, Class *into)
{
    int from = s->map.n;
    without_factors(s, into->first);
    sign(s);
    for (int m = from; m < s->map.n; m++) {
        Class *less = class_of(s, all, m);
        if (!less || less == into || less->took || less->gone)
            continue;
        for (int i = 0; i < less->of.n; i++)
            PUSH(&s->own, into->of, (Joined){ less->of.at[i].map, m });
        less->gone = into->took = true;
    }
}

static Classes classes(Setter *s)
{
    Classes all = { 0 };
    int n = s->map.n;
    sign(s);
    for (int i = 0; i < n; i++) {
        Class *c = class_of(s, &all, i);
        if (!c) {
            PUSH(&s->own, all, (Class){ .first = i });
            c = &all.at[all.n - 1];
        }
        PUSH(&s->own, c->of, (Joined){ i, c->first });
    }
    for (int i = 0; i < all.n && all.n > 1; i++)
        if (!all.at[i].gone)
            take_classes(s, &all, &all.at[i]);
    return all;
}

/* ---- members: kernels of which none needs another, when those that are one already count as one */

typedef struct Order {
    int n, words;
    KernelDeps deps;
    int *node, *next;                                          /* by kernel: the first kernel of its node; the next one in it, or -1 */
    uint64_t **before;                                         /* by node: nodes that run before it; NULL: not known */
} Order;

static void find_before(Order *o, Arena *a, int node)
{
    uint64_t *b = o->before[node] = NEWN(a, uint64_t, o->words);
    for (int k = node; k >= 0; k = o->next[k])
        for (int i = 0; i < o->deps.pred[k].n; i++) {
            int p = o->node[o->deps.pred[k].at[i]];
            if (p == node)
                continue;
            if (!o->before[p])
                find_before(o, a, p);
            for (int w = 0; w < o->words; w++)
                b[w] |= o->before[p][w];
            b[p / 64] |= 1ull << p % 64;
        }
}

static bool runs_before(const Order *o, int node, int other)
{
    return o->before[other][node / 64] >> node % 64 & 1;
}

static void order_nodes(Order *o, Arena *a)
{
    memset(o->before, 0, (size_t)o->n * sizeof *o->before);
    for (int k = 0; k < o->n; k++)
        if (o->node[k] == k && !o->before[k])
            find_before(o, a, k);
}

/* Those of the class that can be one kernel, sorted by kernel; they become a node. */
static void choose_members(const Setter *s, Order *o, Class *c)
{
    int n = 0;
    for (int i = 1; i < c->of.n; i++)                          /* two sorted runs, or a few */
        for (int j = i; j > 0 && s->map.at[c->of.at[j - 1].map].kernel > s->map.at[c->of.at[j].map].kernel; j--) {
            Joined x = c->of.at[j];
            c->of.at[j] = c->of.at[j - 1];
            c->of.at[j - 1] = x;
        }
    for (int i = 0; i < c->of.n; i++) {
        int k = s->map.at[c->of.at[i].map].kernel;
        bool apart = true;
        for (int j = 0; j < n && apart; j++) {
            int m = s->map.at[c->of.at[j].map].kernel;
            apart = !runs_before(o, m, k) && !runs_before(o, k, m);
        }
        if (apart)
            c->of.at[n++] = c->of.at[i];
    }
    c->of.n = n;
    for (int i = n - 1, first = s->map.at[c->of.at[0].map].kernel; i > 0; i--) {
        int k = s->map.at[c->of.at[i].map].kernel;
        o->node[k] = first;
        o->next[k] = o->next[first];
        o->next[first] = k;
    }
}

/* ---- the form, and the kernel */

typedef struct Form {
    Setter *s;
    const Class *c;
    Graph *g;
    int *to;                                                   /* by tensor of flat: of the form, or -1 */
    Ints from;                                                 /* by tensor of the form: of flat */
} Form;

/* What stands in map `j` where tensor t of the class's first map stands there. */
static Origin argument(const Form *x, int t, Joined j)
{
    const Setter *s = x->s;
    const Kernel *as = &s->kernel.at[j.as], *k = &s->kernel.at[j.map];
    for (int i = 0; i < as->n_args; i++)
        if (as->args[i] == t)
            return s->origin.at[k->args[i]];
    return (Origin){ -1, 1 };                                  /* the factor it lacks */
}

static bool same_constant(const Form *x, int t, double *value)
{
    Origin first = argument(x, t, x->c->of.at[0]);
    for (int i = 0; i < x->c->of.n; i++) {
        Origin o = argument(x, t, x->c->of.at[i]);
        if (o.tensor >= 0 || memcmp(&o.value, &first.value, sizeof o.value))
            return false;
    }
    *value = first.value;
    return true;
}

static int form_tensor(Form *x, int t)
{
    const Tensor *flat = &x->s->flat.graph->tensor[t];
    if (x->to[t] < 0) {
        x->to[t] = graph_tensor(x->g, flat->name, flat->rank, flat->shape, flat->kind, flat->dtype);
        PUSH(&x->s->own, x->from, t);
    }
    return x->to[t];
}

static const Expr *form_leaf(void *ctx, const Expr *e)
{
    Form *x = ctx;
    double value;
    if (!e->n && x->s->origin.at[e->tensor].tensor < 0 && same_constant(x, e->tensor, &value))
        return expr_const(x->g, value);
    return load_flat(x->g, form_tensor(x, e->tensor));
}

static Fused *make_form(Form *x)
{
    Setter *s = x->s;
    const Kernel *flat = &s->kernel.at[x->c->first];
    Fused *form = NEW(s->a, Fused);
    Kernel *k = form->kernel = NEW(s->a, Kernel);
    *form = (Fused){ .graph = x->g, .kernel = k, .n_kernel = 1 };
    *k = *flat;
    k->comp = NEWN(s->a, Comp, k->n_comp);
    k->reads = NEWN(s->a, int, flat->n_reads);
    k->writes = NEWN(s->a, int, flat->n_writes);
    for (int i = 0; i < k->n_comp; i++) {
        k->comp[i] = flat->comp[i];
        k->comp[i].body = rewritten((Rewrite){ .to = x->g, .leaf = form_leaf, .ctx = x }, flat->comp[i].body);
        k->comp[i].out = form_tensor(x, flat->comp[i].out);
        if (k->cls == K_MAP)
            k->comp[i].store[0] = aff_axis(x->g, 0);
    }
    k->n_reads = 0;
    for (int i = 0; i < flat->n_reads; i++)
        if (x->to[flat->reads[i]] >= 0)
            k->reads[k->n_reads++] = x->to[flat->reads[i]];
    for (int i = 0; i < flat->n_writes; i++)
        k->writes[i] = x->to[flat->writes[i]];
    form->storage = NEWN(s->a, int, x->g->n_tensor);
    for (int t = 0; t < x->g->n_tensor; t++) {
        int target = x->to[s->storage.at[x->from.at[t]]];
        form->storage[t] = target >= 0 ? target : t;
    }
    fuse_signatures(form);
    return form;
}

/* A number of the host of this value, made by kernel `host`. */
static int number(Setter *s, Kernel *host, double value)
{
    Graph *g = s->f->graph;
    for (int i = 0; i < host->n_comp; i++)
        if (!memcmp(&host->comp[i].body->c, &value, sizeof value))
            return host->comp[i].out;
    int t = graph_tensor(g, "number", 0, NULL, T_TEMP, DT_F64), n = host->n_comp;
    Comp *comp = NEWN(s->a, Comp, n + 1);
    int *writes = NEWN(s->a, int, n + 1);
    for (int i = 0; i < n; i++) {
        comp[i] = host->comp[i];
        writes[i] = host->writes[i];
    }
    comp[n] = (Comp){ .out = t, .reducer = RED_NONE, .body = expr_const(g, value), .tag = "" };
    writes[n] = t;
    host->comp = comp;
    host->writes = writes;
    host->n_comp = host->n_writes = n + 1;
    return t;
}

static Kernel make_kernel(Setter *s, const Class *c, Kernel *host)
{
    const Fused *f = s->f;
    Form x = { .s = s, .c = c, .g = graph_new(s->a, f->graph->sources),
               .to = NEWN(&s->own, int, s->flat.graph->n_tensor) };
    memset(x.to, -1, (size_t)s->flat.graph->n_tensor * sizeof *x.to);
    Sets *sets = NEW(s->a, Sets);
    *sets = (Sets){ .n = c->of.n, .form = make_form(&x) };
    const Kernel *form = &sets->form->kernel[0], *first = &f->kernel[s->map.at[c->of.at[0].map].kernel];
    Kernel k = { .cls = form->cls, .n_dom = form->n_dom, .span = first->span, .sets = sets, .n_args = sets->n * form->n_args };
    int *args = NEWN(s->a, int, k.n_args);
    int64_t *size = NEWN(s->a, int64_t, sets->n), *at = NEWN(s->a, int64_t, sets->n);
    Ints reads = { 0 }, writes = { 0 };
    ARRAY(Comp) comp = { 0 };
    for (int i = 0; i < sets->n; i++) {
        const Map *m = &s->map.at[c->of.at[i].map];
        const Kernel *one = &f->kernel[m->kernel];
        size[i] = m->size;
        at[i] = m->at;
        k.dom[0] += k.n_dom ? m->size : 0;
        for (int q = 0; q < form->n_args; q++) {
            Origin o = argument(&x, x.from.at[form->args[q]], c->of.at[i]);
            args[i * form->n_args + q] = o.tensor >= 0 ? o.tensor : number(s, host, o.value);
            if (o.tensor < 0)
                PUSH(s->a, reads, args[i * form->n_args + q]);
        }
        for (int j = 0; j < one->n_comp; j++)
            PUSH(s->a, comp, one->comp[j]);
        for (int j = 0; j < one->n_reads; j++)
            PUSH(s->a, reads, one->reads[j]);
        for (int j = 0; j < one->n_writes; j++)
            PUSH(s->a, writes, one->writes[j]);
    }
    sort_unique(&reads);
    sort_unique(&writes);
    sets->size = size;
    sets->at = at;
    k.args = args;
    k.comp = comp.at;
    k.n_comp = comp.n;
    k.reads = reads.at;
    k.n_reads = reads.n;
    k.writes = writes.at;
    k.n_writes = writes.n;
    k.label = kernel_label(&k, s->a);
    return k;
}

/* ---- the schedule with them in it */

/* The kernel of the step's host scalars, which waits for nothing; -1: there is none. */
static int host_kernel(const Fused *f, const Order *o)
{
    for (int k = 0; k < o->n; k++)
        if (f->kernel[k].cls == K_HOST && !f->kernel[k].again && !o->deps.pred[k].n)
            return k;
    return -1;
}

/* That kernel, which makes the numbers of `host` as well. */
static Kernel with_numbers(Setter *s, const Kernel *scalars, const Kernel *host)
{
    Kernel k = *scalars;
    k.comp = NEWN(s->a, Comp, k.n_comp + host->n_comp);
    k.writes = NEWN(s->a, int, k.n_writes + host->n_writes);
    memcpy(k.comp, scalars->comp, (size_t)k.n_comp * sizeof *k.comp);
    memcpy(k.writes, scalars->writes, (size_t)k.n_writes * sizeof *k.writes);
    memcpy(k.comp + k.n_comp, host->comp, (size_t)host->n_comp * sizeof *k.comp);
    memcpy(k.writes + k.n_writes, host->writes, (size_t)host->n_writes * sizeof *k.writes);    /* later tensors: still ascending */
    k.n_comp += host->n_comp;
    k.n_writes += host->n_writes;
    return k;
}

/* A node runs when all that it needs has run, the one whose last kernel came first before the others. */
static void replace(Setter *s, const Order *o, const Kernel *made, const Kernel *host)
{
    Fused *f = s->f;
    Kernel *out = NEWN(s->a, Kernel, o->n + 1);
    int n = 0, left = 0, *last = NEWN(&s->own, int, o->n), scalars = host->n_comp ? host_kernel(f, o) : -1;
    bool *done = NEWN(&s->own, bool, o->n);
    for (int k = 0; k < o->n; k++) {
        last[o->node[k]] = k;
        left += o->node[k] == k;
    }
    if (host->n_comp)
        out[n++] = scalars < 0 ? *host : with_numbers(s, &f->kernel[scalars], host);
    if (scalars >= 0) {
        done[scalars] = true;
        left--;
    }
    while (left--) {
        int best = -1;
        for (int k = 0; k < o->n; k++) {
            bool ready = o->node[k] == k && !done[k] && (best < 0 || last[k] < last[best]);
            for (int x = k; x >= 0 && ready; x = o->next[x])
                for (int i = 0; i < o->deps.pred[x].n && ready; i++) {
                    int p = o->node[o->deps.pred[x].at[i]];
                    ready = p == k || done[p];
                }
            if (ready)
                best = k;
        }
        done[best] = true;                                     /* there is one: no node needs itself */
        out[n++] = o->next[best] >= 0 ? made[best] : f->kernel[best];
    }
    f->kernel = out;
    f->n_kernel = n;
    int *storage = NEWN(s->a, int, f->graph->n_tensor), known = f->graph->n_tensor - host->n_comp;
    for (int t = 0; t < f->graph->n_tensor; t++)
        storage[t] = t < known ? f->storage[t] : t;
    f->storage = storage;
}

typedef bool (*Joins)(const Fused *f, const Kernel *k);

static void join_maps(Fused *f, Arena *a, Joins joins)
{
    Setter s = { .f = f, .a = a };
    Kernel host = { .cls = K_HOST, .label = "numbers" };
    int n = f->n_kernel, n_tensor = f->graph->n_tensor, made = 0;
    s.flat.graph = graph_new(&s.own, f->graph->sources);
    s.place = NEWN(&s.own, int, n_tensor);
    memset(s.place, -1, (size_t)n_tensor * sizeof *s.place);
    for (int k = 0; k < n; k++) {
        const Kernel *x = &f->kernel[k];
        if (!x->sets && !x->again && x->n_comp <= MOST_MEMBERS && joins(f, x))
            flatten(&s, k);
    }
    if (s.map.n > 1) {
        Classes all = classes(&s);
        Order o = { .n = n, .words = (n + 63) / 64, .deps = kernel_deps(f, &s.own), .node = NEWN(&s.own, int, n),
                    .next = NEWN(&s.own, int, n), .before = NEWN(&s.own, uint64_t *, n) };
        Kernel *kernel = NEWN(&s.own, Kernel, n);              /* by node */
        for (int k = 0; k < n; k++) {
            o.node[k] = k;
            o.next[k] = -1;
        }
        for (int i = 0; i < all.n; i++) {
            Class *c = &all.at[i];
            if (c->gone || c->of.n < 2)
                continue;
            order_nodes(&o, &s.own);
            choose_members(&s, &o, c);
            if (c->of.n < 2)
                continue;
            kernel[s.map.at[c->of.at[0].map].kernel] = make_kernel(&s, c, &host);
            made++;
        }
        if (made)
            replace(&s, &o, kernel, &host);
    }
    arena_free(&s.own);
}

/* The peaks of the schedule that this would become, at a small and a usual batch. */
static void peaks(const Fused *f, int64_t peak[2])
{
    static const int64_t batch[] = { 1, 64 };
    Arena a = { 0 };
    Fused trial = *f;
    trial.kernel = NEWN(&a, Kernel, f->n_kernel);
    memcpy(trial.kernel, f->kernel, (size_t)f->n_kernel * sizeof *f->kernel);
    schedule(&trial);
    Liveness l = plan_liveness(&trial, &a);
    for (int i = 0; i < 2; i++)
        peak[i] = plan_peak(&trial, &l, batch[i], NULL);
    arena_free(&a);
}

/* Joins them unless memory pays for it. */
static void join_free(Fused *f, Arena *a, Joins joins)
{
    enum { SHARE = 100 };                                      /* of the peak that it may grow by */
    Fused with = *f;
    join_maps(&with, a, joins);
    if (with.kernel == f->kernel)
        return;
    int64_t before[2], after[2];
    f->storage = with.storage;                                 /* numbers that it made are in the graph of both */
    peaks(f, before);
    peaks(&with, after);
    if (after[0] <= before[0] + before[0] / SHARE && after[1] <= before[1] + before[1] / SHARE)
        *f = with;
}

void fuse_sets(Fused *f, bool lean, Arena *a)
{
    join_maps(f, a, update_joins);
    join_free(f, a, total_joins);
    if (!lean)
        join_free(f, a, copy_joins);
}
