/* columns.c -- column sums beside a kernel's other work. See lower.h.
 *
 * A task's sums have the places of the tensors they will be in, so that a member's store map leads to both. */
#include "cpu/lower.h"

bool columns_find(ColumnSums *c, Low *l)
{
    *c = (ColumnSums){.l = l, .at = NEWN(l->arena, int64_t, l->n_member), .mem = NEWN(l->arena, Mem, l->n_member)};
    int64_t lanes = l->g->t->lanes;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *k = l->member[i].c;
        int64_t n = 1;
        c->at[i] = -1;
        if (!sums_domain(k, l->k->n_dom))
            continue;
        for (int d = 0; d < l->graph->tensor[k->out].rank; d++)
            n *= l->graph->tensor[k->out].shape[d];
        c->at[i] = c->size;
        c->size += (n + lanes - 1) / lanes * lanes;
        c->n++;
    }
    if (c->n)
        l->out->workspace = poly_const(CHUNKS * c->size);
    return c->n > 0;
}

/* Where member i's sums are, of the task or (part NULL) of the first. */
static Mem place(const ColumnSums *c, int i, V sums, V part)
{
    Gen *g = c->l->g;
    V at = ic(g, c->at[i]), base = gep(g, g->t->f32, sums, part ? i_add(g, i_mul(g, part, ic(g, c->size)), at) : at);
    return (Mem){base, DT_F32, layout_of(&c->l->places, c->l->member[i].c->out)};
}

void chunk_of(Gen *g, V n, V *lo, V *hi)
{
    V size = i_ceil_div(g, n, ic(g, CHUNKS));
    *lo = i_min(g, i_mul(g, g->task, size), n);
    *hi = i_min(g, i_add(g, *lo, size), n);
}

void columns_begin(ColumnSums *c, int arg)
{
    Gen *g = c->l->g;
    V sums = gen_buffer(g, arg);
    Loop zero;
    for (int i = 0; i < c->l->n_member; i++)
        if (c->at[i] >= 0)
            c->mem[i] = place(c, i, sums, g->task);
    V first = gep(g, g->t->f32, sums, i_mul(g, g->task, ic(g, c->size)));
    loop_begin(g, &zero, ic(g, 0), ic(g, c->size), g->t->lanes, NULL, 0);
    store(g, fc(g, 0), gep(g, g->t->f32, first, zero.i), 4);
    loop_end(g, &zero, NULL);
}

void columns_add(const ColumnSums *c, Scope *s, int member, V x)
{
    Gen *g = c->l->g;
    const Comp *k = c->l->member[member].c;
    V sum = to_f(s, load_at(s, &c->mem[member], k->store, k, NULL));
    store_at(s, &c->mem[member], k->store, k, (Val){VAL_F, f_add(g, sum, x)});
}

typedef struct Join { const ColumnSums *c; int member; } Join;

static void join_lanes(void *ctx, Scope *s, int part, V *carry)
{
    const Join *j = ctx;
    const ColumnSums *c = j->c;
    Gen *g = c->l->g;
    const Comp *k = c->l->member[j->member].c;
    V sum = fc(g, 0);
    Loop loop;
    loop_begin(g, &loop, ic(g, 0), ic(g, CHUNKS), 1, &sum, 1);
    Val v = load_at(s, &c->mem[j->member], k->store, &c->mem[j->member], i_mul(g, loop.i, ic(g, c->size)));
    sum = f_add(g, sum, to_f(s, v));
    loop_end(g, &loop, &sum);
    c->l->comp = k;
    store_member(s, k, (Val){VAL_F, sum});
}

/* The axes a sum keeps, lanes along the fastest of them. */
static void join(ColumnSums *c, int member, Scope *root)
{
    Low *l = c->l;
    Gen *g = l->g;
    const Comp *k = l->member[member].c;
    Accesses acc = {0};
    Group grp[MAX_AXES];
    uint32_t zero = k->red;
    int axis[MAX_AXES], n = 0;
    for (int a = l->k->n_dom; a < k->n_axes; a++)
        axis[n++] = a;
    access_store(l, k, &acc);
    sort_axes(&acc.a.at[0], axis, n);
    n = merge_axes(&l->places, &acc, k->ext, axis, n, grp, &zero);
    int lanes = best_lanes(l, &acc, grp, n);
    Join j = {c, member};
    Scope in, s;
    scope_in(&in, root, NULL);
    scope_zero(&in, zero);
    if (lanes < 0) {
        join_lanes(&j, &in, 0, NULL);
        return;
    }
    Loop outer;
    loop_begin(g, &outer, ic(g, 0), gen_poly(g, group_points(&l->places, grp, n, lanes)), 1, NULL, 0);
    scope_in(&s, &in, outer.branch);
    scope_digits(&s, grp, n, lanes, outer.i);
    lane_loop(&s, grp[lanes].axis, ic(g, 0), gen_poly(g, grp[lanes].n), 1, join_lanes, &j, NULL, 0);
    loop_end(g, &outer, NULL);
}

void columns_join(ColumnSums *c, int arg)
{
    Low *l = c->l;
    Gen *g = l->g;
    launch_begin(l, "join");
    Scope root;
    scope_root(&root, l);
    V sums = gen_buffer(g, arg);
    for (int i = 0; i < l->n_member; i++)
        if (c->at[i] >= 0)
            c->mem[i] = place(c, i, sums, NULL);
    for (int i = 0; i < l->n_member; i++)
        if (c->at[i] >= 0)
            join(c, i, &root);
    launch_tasks(l);
    launch_end(l, ic(g, 1));
}
