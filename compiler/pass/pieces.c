/* pieces.c -- see pieces.h. */
#include "pass/pieces.h"
#include "ir/pool.h"
#include "pass/pass.h"
#include <string.h>

/* CONSTANT: the same whatever the batch. BY_SAMPLE: one batch dimension, and what stands at sample b was made from sample
 * b. MIXED: all else. */
typedef enum { CONSTANT, BY_SAMPLE, MIXED } Part;

typedef struct {
    Graph *g;
    Arena a;
    Part *part;                      /* by tensor */
    int *feature, n_feature;         /* BY_SAMPLE, read by a Comp of the rest that the loss needs; inputs come here too */
    const Comp **reader;             /* by tensor: the first such Comp */
    bool *moves;                     /* by tensor: depends on a parameter */
} Cut;

static int batch_dims(const Tensor *t, int *dim)
{
    int n = 0;
    for (int d = 0; d < t->rank; d++)
        if (t->shape[d] == EXT_BATCH) {
            *dim = d;
            n++;
        }
    return n;
}

/* ---- one Comp */

/* Does the axis stand in the map, other than as an index of a load in it? */
static bool places(const Affine *a, int axis)
{
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        if (t->kind == AT_AXIS ? t->axis == axis : t->kind != AT_LOAD && places(t->arg, axis))
            return true;
    }
    return false;
}

/* Is an expression free of the batch's extent, and of sample `axis`'s number, outside its loads? */
static bool unaware(Memo *seen, const Expr *e, int axis)
{
    static const char yes, no;
    const void *known = memo_get(seen, e);
    if (known)
        return known == &yes;
    bool good = !(e->kind == E_EXTENT && e->ext == EXT_BATCH) && !(e->kind == E_INDEX && axis >= 0 && places(e->aff, axis));
    for (int i = 0; i < e->n && e->kind == E_OP && good; i++)
        good = unaware(seen, e->arg[i], axis);
    memo_put(seen, e, good ? &yes : &no);
    return good;
}

/* The load of a tensor in a Comp whose sample is `axis` (-1: it has none). */
static bool same_sample(const Cut *c, const Expr *load, int axis)
{
    int dim = -1;
    if (c->part[load->tensor] == MIXED)
        return false;
    batch_dims(&c->g->tensor[load->tensor], &dim);
    for (int d = 0; d < load->n; d++)
        if (d == dim ? axis < 0 || aff_plain(load->idx[d]) != axis : axis >= 0 && places(load->idx[d], axis))
            return false;
    return true;
}

static Part part_of(const Cut *c, const Comp *k, Arena *a)
{
    const Tensor *t = &c->g->tensor[k->out];
    int dim = -1, axis = -1, batches = 0, n;
    for (int i = 0; i < k->n_axes; i++)
        if (k->ext[i] == EXT_BATCH) {
            axis = i;
            batches++;
        }
    if (batches != batch_dims(t, &dim) || batches > 1 || (batches && k->red >> axis & 1))
        return MIXED;
    for (int d = 0; d < t->rank && batches; d++)
        if (d == dim ? aff_plain(k->store[d]) != axis : places(k->store[d], axis))
            return MIXED;
    const Expr **load = comp_all_loads(k, a, &n);
    Memo seen;
    memo_init(&seen);
    bool good = unaware(&seen, k->body, axis);
    memo_free(&seen);
    for (int i = 0; i < n && good; i++)
        good = same_sample(c, load[i], axis);
    return !good ? MIXED : batches ? BY_SAMPLE : CONSTANT;
}

/* ---- the cut */

static void find_parts(Cut *c)
{
    Graph *g = c->g;
    c->part = NEWN(&c->a, Part, g->n_tensor);
    c->moves = NEWN(&c->a, bool, g->n_tensor);
    for (int t = 0; t < g->n_tensor; t++) {
        int dim, n = batch_dims(&g->tensor[t], &dim);
        c->part[t] = g->tensor[t].kind == T_TEMP || !n ? CONSTANT : n == 1 ? BY_SAMPLE : MIXED;
        c->moves[t] = g->tensor[t].kind == T_PARAM;
    }
    for (int i = 0; i < g->n_comp; i++) {                      /* pieces of a tensor: the worst of them */
        const Comp *k = g->comp[i];
        Part part = part_of(c, k, &c->a);
        int n;
        const Expr **load = comp_all_loads(k, &c->a, &n);
        if (part > c->part[k->out])
            c->part[k->out] = part;
        for (int j = 0; j < n; j++)
            c->moves[k->out] |= c->moves[load[j]->tensor];
    }
}

/* Can it be a feature? The runtime puts the pieces of a batch one behind the other, so samples have to be its rows. */
static bool by_rows(const Cut *c, int tensor) { return c->part[tensor] == BY_SAMPLE && c->g->tensor[tensor].shape[0] == EXT_BATCH; }

static void find_features(Cut *c, int loss)
{
    Graph *g = c->g;
    bool *needed = NEWN(&c->a, bool, g->n_tensor);
    c->reader = NEWN(&c->a, const Comp *, g->n_tensor);
    c->feature = NEWN(&c->a, int, g->n_tensor);
    needed[loss] = true;
    for (int i = g->n_comp - 1; i >= 0; i--) {
        const Comp *k = g->comp[i];
        if (!needed[k->out] || by_rows(c, k->out))
            continue;
        int n;
        const Expr **load = comp_all_loads(k, &c->a, &n);
        for (int j = 0; j < n; j++) {
            needed[load[j]->tensor] = true;
            if (by_rows(c, load[j]->tensor))
                c->reader[load[j]->tensor] = k;
        }
    }
    for (int t = 0; t < g->n_tensor; t++)
        if (c->reader[t])
            c->feature[c->n_feature++] = t;
}

static void cut(Cut *c, Graph *g, int loss)
{
    *c = (Cut){ .g = g };
    graph_toposort(g);
    find_parts(c);
    find_features(c, loss);
}

const Comp *pieces_mixes(Graph *g, int tensor)
{
    Cut c;
    const Comp *first = NULL;
    cut(&c, g, tensor);
    bool *needed = NEWN(&c.a, bool, g->n_tensor);
    needed[tensor] = true;
    for (int i = g->n_comp - 1; i >= 0; i--) {
        const Comp *k = g->comp[i];
        if (!needed[k->out])
            continue;
        int n;
        const Expr **load = comp_all_loads(k, &c.a, &n);
        for (int j = 0; j < n; j++)
            needed[load[j]->tensor] = true;
        if (c.part[k->out] == MIXED)
            first = k;
    }
    arena_free(&c.a);
    return first;
}

const Comp *pieces_reads_input(Graph *g, int loss, int *input)
{
    Cut c;
    const Comp *reader = NULL;
    cut(&c, g, loss);
    for (int i = c.n_feature - 1; i >= 0; i--)
        if (g->tensor[c.feature[i]].kind == T_INPUT) {
            *input = c.feature[i];
            reader = c.reader[c.feature[i]];
        }
    arena_free(&c.a);
    return reader;
}

/* ---- the programs */

static const char *numbered(Graph *g, const char *name, int i)
{
    return arena_printf(g->arena, "%s:%d", name, i);
}

static void identity(Graph *g, int rank, const Affine **idx)
{
    for (int d = 0; d < rank; d++)
        idx[d] = aff_axis(g, d);
}

/* A new tensor like `of`, every element of which is `body`. */
static int map_like(Graph *g, int of, const char *name, const Expr *body)
{
    Tensor t = g->tensor[of];
    const Affine *store[MAX_RANK];
    identity(g, t.rank, store);
    int made = graph_tensor(g, name, t.rank, t.shape, T_TEMP, DT_F32);
    g->tensor[made].span = t.span;
    graph_comp(g, made, t.rank, t.shape, 0, RED_NONE, body, store, t.span, t.name);
    return made;
}

static const Expr *whole(Graph *g, int tensor)
{
    const Affine *idx[MAX_RANK];
    identity(g, g->tensor[tensor].rank, idx);
    return expr_load(g, tensor, idx);
}

void pieces_sums(Graph *g, const int *param, int n, int *sum)
{
    for (int i = 0; i < n; i++) {
        Tensor t = g->tensor[param[i]];
        sum[i] = graph_tensor(g, arena_printf(g->arena, PIECES_SUM "%s", t.name), t.rank, t.shape, T_STATE, DT_F32);
        g->tensor[sum[i]].span = t.span;
    }
}

/* Each sum begins with its gradient, or (add) gets it on top; those without a gradient begin with 0. */
static void update_sums(Graph *g, const int *param, int n, const int *grad, bool add)
{
    int *sum = NEWN(g->arena, int, n);
    pieces_sums(g, param, n, sum);
    for (int i = 0; i < n; i++) {
        if (grad[i] < 0 && add)
            continue;
        const Expr *body = grad[i] < 0 ? expr_const(g, 0) : whole(g, grad[i]);
        if (add)
            body = expr_op(g, OP_ADD, whole(g, sum[i]), body, NULL);
        graph_update(g, sum[i], map_like(g, param[i], "sum", body));
    }
    graph_toposort(g);
}

typedef struct {
    Arena a;
    GraphIndex ix;
    bool *placed;                    /* by tensor */
    Comp **comp;
    int n;
} Order;

static void place_tensor(Order *o, int tensor)
{
    if (o->placed[tensor])
        return;
    o->placed[tensor] = true;
    const CompList *p = &o->ix.pieces[tensor];
    for (int i = 0; i < p->n; i++) {
        int n;
        const Expr **load = comp_all_loads(p->at[i], &o->a, &n);
        for (int k = 0; k < n; k++)
            place_tensor(o, load[k]->tensor);
    }
    for (int i = 0; i < p->n; i++)
        o->comp[o->n++] = p->at[i];
}

/* Comps in the order in which the updates, one after the other, need them. So what belongs to one tower comes before the
 * other begins, and the activations of the two need not live at the same time. */
static void order_by_updates(Graph *g)
{
    Order o = { 0 };
    graph_dce(g);
    o.ix = graph_index(g, &o.a);
    o.placed = NEWN(&o.a, bool, g->n_tensor);
    o.comp = NEWN(&o.a, Comp *, g->n_comp);
    for (int i = 0; i < g->n_update; i++)
        place_tensor(&o, g->update[i].value);
    memcpy(g->comp, o.comp, (size_t)o.n * sizeof *g->comp);
    arena_free(&o.a);
}

void pieces_features(Graph *g, int loss)
{
    Cut c;
    cut(&c, g, loss);
    g->n_output = 0;
    for (int i = 0; i < c.n_feature; i++)
        graph_output(g, numbered(g, "feature", i), c.feature[i]);
    graph_dce(g);
    arena_free(&c.a);
}

bool pieces_loss(Graph *g, int loss, const int *param, int n, Text *why)
{
    Cut c;
    cut(&c, g, loss);
    int n_comp = 0, *wrt = NEWN(g->arena, int, n + c.n_feature), *grad = NEWN(g->arena, int, n + c.n_feature), n_wrt = n;
    int *number = NEWN(g->arena, int, n + c.n_feature);
    bool *input = NEWN(&c.a, bool, g->n_tensor);
    memcpy(wrt, param, (size_t)n * sizeof *wrt);
    for (int i = 0; i < c.n_feature; i++) {
        Tensor *t = &g->tensor[c.feature[i]];
        input[c.feature[i]] = true;
        t->kind = T_INPUT;
        t->name = numbered(g, "feature", i);
        number[n_wrt] = i;
        if (c.moves[c.feature[i]] && t->dtype == DT_F32)
            wrt[n_wrt++] = c.feature[i];
    }
    for (int i = 0; i < g->n_comp; i++)
        if (!input[g->comp[i]->out])
            g->comp[n_comp++] = g->comp[i];
    g->n_comp = n_comp;
    arena_free(&c.a);
    graph_dce(g);
    if (!grad_append(g, loss, wrt, n_wrt, grad, why))
        return false;
    for (int i = n; i < n_wrt; i++)
        graph_output(g, numbered(g, "gradient", number[i]), grad[i] < 0 ? map_like(g, wrt[i], "zero", expr_const(g, 0)) : grad[i]);
    update_sums(g, param, n, grad, false);
    return true;
}

/* The gradient of sum(feature * given) is what the given gradient of the features makes of the parameters. */
bool pieces_piece(Graph *g, int loss, const int *param, int n, Text *why)
{
    Cut c;
    cut(&c, g, loss);
    const Expr *sum = expr_const(g, 0);
    int *grad = NEWN(g->arena, int, n);
    for (int i = 0; i < c.n_feature; i++) {
        int f = c.feature[i];
        Tensor t = g->tensor[f];
        if (!c.moves[f] || t.dtype != DT_F32)
            continue;
        int given = graph_tensor(g, numbered(g, "gradient", i), t.rank, t.shape, T_INPUT, DT_F32);
        int part = graph_tensor(g, "part", 0, NULL, T_TEMP, DT_F32);
        graph_comp(g, part, t.rank, t.shape, axes_mask(t.rank), RED_SUM, expr_op(g, OP_MUL, whole(g, f), whole(g, given), NULL), NULL,
                   t.span, "features");
        sum = expr_op(g, OP_ADD, sum, expr_load(g, part, NULL), NULL);
    }
    arena_free(&c.a);
    int total = graph_tensor(g, "given", 0, NULL, T_TEMP, DT_F32);
    graph_comp(g, total, 0, NULL, 0, RED_NONE, sum, NULL, (Span){ 0, 0 }, "features");
    g->n_output = 0;
    graph_output(g, "given", total);
    graph_dce(g);
    if (!grad_append(g, total, param, n, grad, why))
        return false;
    update_sums(g, param, n, grad, true);
    g->n_output = 0;
    order_by_updates(g);
    return true;
}
