/* scatter.c -- SCATTER kernels: every point of the iteration space is added into a place that data decides.
 *
 * Deterministic for any number of threads: when the last dimension of the result is a plain axis (the width of an
 * embedding), a task owns a strip of it, zeroes that strip in every row, and adds all points in order. Otherwise one
 * task does all. A point whose place lies outside the result is left out. */
#include "cpu/lower.h"

typedef struct Scatter {
    Low *l;
    const Comp *c;
    int lanes;                         /* the axis of the last dimension, -1 */
    Poly rows, width;                  /* of the result: all other dimensions; the last one */
} Scatter;

/* All indices that are not the lanes' own lie inside? */
static V inside(Scatter *s, Scope *at)
{
    Gen *g = s->l->g;
    const Tensor *t = &s->l->graph->tensor[s->c->out];
    V ok = NULL;
    for (int d = 0; d < t->rank; d++) {
        if (s->lanes >= 0 && d == t->rank - 1)
            continue;
        V i = eval_index(at, s->c->store[d]);
        V in = LLVMBuildICmp(g->b, LLVMIntULT, i, gen_poly(g, poly_ext(t->shape[d])), "");
        ok = ok ? LLVMBuildAnd(g->b, ok, in, "") : in;
    }
    return ok ? ok : LLVMConstInt(g->t->i1, 1, 0);
}

static void add_point(Scatter *s, Scope *at, V first, V mask)
{
    Low *l = s->l;
    Gen *g = l->g;
    Scope in;
    scope_in(&in, at, NULL);
    if (s->lanes >= 0) {
        in.lanes = s->lanes;
        in.mask = mask;
        scope_bind(&in, s->lanes, first);
    }
    Mem mem = tensor_mem(l, s->c->out);
    V p = address(&in, &mem, s->c->store, s->c), x = to_f(&in, eval_member(&in, s->c));
    if (s->lanes < 0) {
        V old = splat(g, load(g, g->t->f32, p, 4));
        store(g, lane(g, f_add(g, old, x), 0), p, 4);
    } else if (mask) {
        llvm_masked_store(g->t, g->b, f_add(g, llvm_masked_load(g->t, g->b, g->t->vf, p, mask), x), p, mask);
    } else {
        store(g, f_add(g, load(g, g->t->vf, p, 4), x), p, 4);
    }
}

bool lower_scatter(Low *l)
{
    Gen *g = l->g;
    Scatter s = {.l = l, .c = l->member[0].c};
    int w = g->t->lanes, n;
    if (l->n_member != 1)
        low_fail(l, "a scatter with epilogue");
    Group grp[MAX_AXES];
    uint32_t zero = 0;
    s.lanes = scatter_axes(&l->places, s.c, &s.rows, &s.width, grp, &n, &zero);

    launch_begin(l, "scatter");
    Scope root, point, in;
    scope_root(&root, l);
    scope_zero(&root, zero);
    Mem mem = tensor_mem(l, s.c->out);
    V width = gen_poly(g, s.width), first = s.lanes < 0 ? ic(g, 0) : i_mul(g, g->task, ic(g, w));
    V mask = s.lanes < 0 ? NULL : mask_first(g, i_sub(g, width, first));
    Loop row;
    loop_begin(g, &row, ic(g, 0), gen_poly(g, s.rows), 1, NULL, 0);
    V p = gep(g, g->t->f32, mem.base, i_add(g, i_mul(g, row.i, width), first));
    if (s.lanes < 0)
        store(g, LLVMConstReal(g->t->f32, 0), p, 4);
    else if (mask)
        llvm_masked_store(g->t, g->b, fc(g, 0), p, mask);
    else
        store(g, fc(g, 0), p, 4);
    loop_end(g, &row, NULL);

    Loop loop;
    loop_begin(g, &loop, ic(g, 0), gen_poly(g, group_points(&l->places, grp, n, -1)), 1, NULL, 0);
    scope_in(&point, &root, loop.branch);
    scope_digits(&point, grp, n, -1, loop.i);
    Branch f;
    V ok = inside(&s, &point);
    if_begin(g, &f, ok, NULL, 0);
    scope_in(&in, &point, f.branch);
    add_point(&s, &in, first, mask);
    if_end(g, &f, NULL);
    loop_end(g, &loop, NULL);
    launch_tasks(l);
    launch_end(l, s.lanes < 0 ? ic(g, 1) : i_ceil_div(g, gen_poly(g, s.width), ic(g, w)));
    return !l->failed;
}
