/* precision.c -- train.precision = bf16: the operands of contractions are bf16 tensors, and so are the results of layers
 * that are stored; all else stays f32.
 *
 * Needs contractions in the form of sides.c. A tensor that only contractions and sums read becomes bf16 itself. One that
 * others read as well (the residual stream and its gradient, a parameter) keeps its value and gets a copy in bf16, made by
 * a map that the kernel of its producer takes in; so f32 is stored only where somebody wants f32, and a parameter is
 * rounded once a step, its master value untouched. Sums are in f32, as everywhere.
 *
 * Other sums (gradients of biases) read what contractions read: a term's rounding is lost in the sum. The result of a
 * layer, x W or x W + b with several rows a pair, has the error of its operands already: where more than one reader makes
 * it a tensor in memory (what GELU takes, the gradient that LayerNorm gets), it is one of bf16.
 *
 * Of attention with a single query (comp_row) the same becomes bf16 as of that with many.
 *
 * A contraction both of whose sides carry the batch (the logits of the contrastive loss and their gradients) stays f32:
 * it is small, and a logit is a difference of large numbers once the temperature has been learnt. */
#include "pass/kernel.h"
#include "pass/pass.h"
#include <string.h>

typedef struct {
    int *to;                                                   /* by tensor: what contractions read instead */
    int n_tensor;                                              /* those that were there before */
} Copies;

typedef struct {
    const Comp *maker;                                         /* the only Comp that writes it; NULL: several do, or none */
    int n_maker, n_reader;
} Use;

static bool eligible(Graph *g, const Comp *c, Sides *s)
{
    int batches = 0;
    for (int k = 0; k < c->n_axes; k++)
        batches += c->ext[k] == EXT_BATCH;
    return batches < 2 && (comp_sides(g, c, s) || comp_row(g, c, s));
}

static const Expr *redirect(Graph *g, const Expr *load, void *ctx)
{
    const Copies *r = ctx;
    int to = load->tensor < r->n_tensor ? r->to[load->tensor] : load->tensor;
    return to == load->tensor ? load : expr_load(g, to, load->idx);
}

static int copy_of(Graph *g, int t)
{
    Ext shape[MAX_RANK];
    const Affine *idx[MAX_RANK];
    int rank = g->tensor[t].rank;
    const char *name = arena_printf(g->arena, "%s.bf16", g->tensor[t].name);
    Span span = g->tensor[t].span;
    memcpy(shape, g->tensor[t].shape, sizeof shape);
    for (int d = 0; d < rank; d++)
        idx[d] = aff_axis(g, d);
    int copy = graph_tensor(g, name, rank, shape, T_TEMP, DT_BF16);
    g->tensor[copy].span = span;
    graph_comp(g, copy, rank, shape, 0, RED_NONE, expr_load(g, t, idx), idx, span, name);
    return copy;
}

static bool carries_batch(const Graph *g, int t)
{
    for (int d = 0; d < g->tensor[t].rank; d++)
        if (g->tensor[t].shape[d] == EXT_BATCH)
            return true;
    return false;
}

/* x W, with more than one row a pair; or a map of such a thing, which nobody else reads, and of numbers without a batch. */
static bool is_layer(Graph *g, const Use *use, int t)
{
    enum { MOST_LOADS = 8 };
    const Comp *c = use[t].maker;
    const Expr *load[MOST_LOADS];
    Sides s;
    bool rows = false;
    if (!c || g->tensor[t].kind != T_TEMP || g->tensor[t].dtype != DT_F32 || !carries_batch(g, t))
        return false;
    if (eligible(g, c, &s)) {
        bool weights_b = !carries_batch(g, s.b->tensor), weights_a = !carries_batch(g, s.a->tensor);
        uint32_t of = weights_b ? s.m : s.n;
        for (int a = 0; a < c->n_axes; a++)
            rows = rows || ((of >> a & 1) && c->ext[a] != EXT_BATCH && c->ext[a] > 1);
        return rows && weights_a != weights_b;
    }
    int n = c->red ? MOST_LOADS + 1 : comp_loads(c, load, MOST_LOADS), from = -1;
    if (n > MOST_LOADS)
        return false;
    for (int i = 0; i < n; i++)
        if (carries_batch(g, load[i]->tensor)) {
            if (from >= 0 && from != load[i]->tensor)
                return false;
            from = load[i]->tensor;
        }
    return from >= 0 && use[from].n_reader == 1 && is_layer(g, use, from);
}

int pass_precision(Graph *g)
{
    Arena a = { 0 };
    Sides s;
    int n = g->n_tensor, n_comp = g->n_comp, changed = 0;
    bool *operand = NEWN(&a, bool, n), *root = roots_of(g, &a), *others = NEWN(&a, bool, n), *narrow = NEWN(&a, bool, n_comp);
    Use *use = NEWN(&a, Use, n);
    Copies r = { NEWN(&a, int, n), n };
    memcpy(others, root, (size_t)n * sizeof *others);
    for (int i = 0; i < n_comp; i++) {
        const Comp *c = g->comp[i];
        bool contracts = eligible(g, c, &s);
        int n_load;
        const Expr **load = comp_all_loads(c, &a, &n_load);
        narrow[i] = contracts || (c->reducer == RED_SUM && !comp_sides(g, c, &s));
        for (int k = 0; k < n_load; k++) {
            int t = load[k]->tensor;
            bool again = false;
            for (int j = 0; j < k; j++)
                again = again || load[j]->tensor == t;
            use[t].n_reader += !again;
            operand[t] = operand[t] || contracts;
            others[t] = others[t] || !narrow[i];
        }
        others[c->out] |= c->reducer == RED_SCATTER;
        use[c->out].maker = use[c->out].n_maker++ ? NULL : c;
    }
    for (int t = 0; t < n; t++) {
        r.to[t] = t;
        if (g->tensor[t].dtype != DT_F32)
            continue;
        bool layer = use[t].n_reader > 1 && !root[t] && is_layer(g, use, t);
        if (!operand[t] && !layer)
            continue;
        changed++;
        if (!layer && (others[t] || g->tensor[t].kind != T_TEMP))
            r.to[t] = copy_of(g, t);
        else
            g->tensor[t].dtype = DT_BF16;
    }
    for (int i = 0; i < n_comp; i++)
        if (narrow[i])
            g->comp[i]->body = expr_map_loads(g, g->comp[i]->body, redirect, &r);
    arena_free(&a);
    graph_toposort(g);
    return changed;
}
