/* access.c -- buffers, what a kernel touches of them, and the axis that lanes run along. See lower.h. */
#include "cpu/lower.h"

Mem tensor_mem(Low *l, int tensor)
{
    int arg = kernel_arg(l->k, tensor);
    if (arg < 0) {
        low_fail(l, "tensor %%%d (%s) is not an argument of its kernel", tensor, l->graph->tensor[tensor].name);
        arg = 0;
    }
    return (Mem){.base = gen_buffer(l->g, arg), .dtype = l->graph->tensor[tensor].dtype, .at = layout_of(&l->places, tensor)};
}

void access_loads(Low *l, const Comp *c, Accesses *out)
{
    int n;
    const Expr **load = loads_of(&l->places, c->body, &n);
    access_values(&l->places, c, out);
    for (int i = 0; i < n; i++) {
        int m = kernel_member(l->k, load[i]->tensor);
        if (m >= 0 && !l->places.placed[m])
            continue;                  /* in a register */
        Layout at = m >= 0 ? l->member[m].mem.at : layout_of(&l->places, load[i]->tensor);
        access_add(&l->places, &at, load[i]->idx, false, out);
    }
}

void access_store(Low *l, const Comp *c, Accesses *out)
{
    Layout at = layout_of(&l->places, c->out);
    access_add(&l->places, &at, c->store, true, out);
}

void access_comp(Low *l, const Comp *c, Accesses *out)
{
    access_loads(l, c, out);
    access_store(l, c, out);
}

int best_lanes(const Low *l, const Accesses *acc, const Group *grp, int n)
{
    int best = -1;
    double least = 0;
    for (int k = n - 1; k >= 0; k--) {
        double cost = step_cost(acc, &grp[k]);
        int64_t w = l->g->t->lanes, size = poly_guess(grp[k].n);
        if (size > 0)                  /* lanes that are left empty */
            cost *= (double)((size + w - 1) / w * w) / (double)size;
        if (best < 0 || cost < least) {
            best = k;
            least = cost;
        }
    }
    return best;
}
