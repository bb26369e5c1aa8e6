/* precision.c -- train.precision = bf16: the operands of contractions are bf16 tensors, all else stays f32.
 *
 * Needs contractions in the form of sides.c. A tensor that only contractions read becomes bf16 itself. One that others
 * read as well (the residual stream and its gradient, a parameter) keeps its value and gets a copy in bf16, made by a map
 * that the kernel of its producer takes in; so f32 is stored only where somebody wants f32, and a parameter is rounded
 * once a step, its master value untouched. Sums are in f32, as everywhere.
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

static bool eligible(Graph *g, const Comp *c, Sides *s)
{
    int batches = 0;
    for (int k = 0; k < c->n_axes; k++)
        batches += c->ext[k] == EXT_BATCH;
    return batches < 2 && comp_sides(g, c, s);
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

int pass_precision(Graph *g)
{
    Arena a = { 0 };
    Sides s;
    int n = g->n_tensor, n_comp = g->n_comp, changed = 0;
    bool *operand = NEWN(&a, bool, n), *others = roots_of(g, &a);
    Copies r = { NEWN(&a, int, n), n };
    for (int i = 0; i < n_comp; i++) {
        const Comp *c = g->comp[i];
        bool contracts = eligible(g, c, &s);
        int n_load = comp_loads(c, NULL, 0);
        const Expr **load = NEWN(&a, const Expr *, n_load);
        comp_loads(c, load, n_load);
        for (int k = 0; k < n_load; k++)
            *(contracts ? &operand[load[k]->tensor] : &others[load[k]->tensor]) = true;
        others[c->out] |= c->reducer == RED_SCATTER;
    }
    for (int t = 0; t < n; t++) {
        r.to[t] = t;
        if (!operand[t] || g->tensor[t].dtype != DT_F32)
            continue;
        changed++;
        if (others[t] || g->tensor[t].kind != T_TEMP)
            r.to[t] = copy_of(g, t);
        else
            g->tensor[t].dtype = DT_BF16;
    }
    for (int i = 0; i < n_comp; i++)
        if (eligible(g, g->comp[i], &s))
            g->comp[i]->body = expr_map_loads(g, g->comp[i]->body, redirect, &r);
    arena_free(&a);
    graph_toposort(g);
    return changed;
}
