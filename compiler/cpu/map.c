/* map.c -- MAP kernels: members over the same axes, point by point.
 *
 * Axes that are dense in everything the kernel touches become one, so that most kernels are a single flat loop. One
 * group of axes runs along the lanes; the points of the others are "rows". A task is a run of rows, or a piece of one
 * when rows are long: about 32 KiB of each result. Every point is loaded before it is stored, so results may lie on
 * operands of the same shape (an optimiser updates parameters in place). */
#include "cpu/lower.h"

typedef struct Map {
    Low *l;
    Group grp[MAX_AXES];
    int n_grp, lanes;
    uint32_t zero;
    Poly rows, length;                 /* points of the other groups; of the lane group */
    bool pieces;                       /* rows are cut */
} Map;

static void map_body(void *ctx, Scope *s, int part, V *carry)
{
    Low *l = s->l;
    Val value[64];
    for (int i = 0; i < l->n_member; i++) {
        value[i] = eval_member(s, l->member[i].c);
        member_is(s, l->member[i].c, value[i]);
    }
    for (int i = 0; i < l->n_member; i++)
        if (kernel_writes(l->k, l->member[i].c->out))
            store_member(s, l->member[i].c, value[i]);
}

/* Rows a task takes, from the length of a row. */
static V rows_per_task(const Map *m)
{
    Gen *g = m->l->g;
    V fit = i_div(g, ic(g, MAP_TASK_POINTS), i_max(g, gen_poly(g, m->length), ic(g, 1)));
    return i_max(g, fit, ic(g, 1));
}

static V map_tasks(const Map *m)
{
    Gen *g = m->l->g;
    V rows = gen_poly(g, m->rows), n = gen_poly(g, m->length);
    if (m->pieces)
        return i_mul(g, rows, i_ceil_div(g, n, ic(g, MAP_TASK_POINTS)));
    V none = LLVMBuildICmp(g->b, LLVMIntEQ, n, ic(g, 0), "");
    return select_(g, none, ic(g, 0), i_ceil_div(g, rows, rows_per_task(m)));
}

bool lower_map(Low *l)
{
    Gen *g = l->g;
    Map m = {.l = l, .lanes = -1};
    const Comp *c = l->member[0].c;
    Accesses acc = {0};
    for (int i = 0; i < l->n_member; i++) {
        access_loads(l, l->member[i].c, &acc);
        if (kernel_writes(l->k, l->member[i].c->out))
            access_store(l, l->member[i].c, &acc);
    }
    if (l->n_member > 64) {
        low_fail(l, "more than 64 members");
        return false;
    }
    m.n_grp = map_axes(&l->places, c, &acc, m.grp, &m.zero);
    m.lanes = best_lanes(l, &acc, m.grp, m.n_grp);
    m.rows = group_points(&l->places, m.grp, m.n_grp, m.lanes);
    m.length = m.lanes < 0 ? poly_const(1) : m.grp[m.lanes].n;
    m.pieces = poly_is(m.rows, 1) || poly_guess(m.length) >= 2 * MAP_TASK_POINTS;

    launch_begin(l, "map");
    Scope root, row;
    scope_root(&root, l);
    scope_zero(&root, m.zero);
    V length = gen_poly(g, m.length), from = ic(g, 0), to = length;
    if (m.lanes < 0) {
        map_body(NULL, &root, 0, NULL);
    } else if (m.pieces) {
        V cuts = i_ceil_div(g, length, ic(g, MAP_TASK_POINTS));
        V r = poly_is(m.rows, 1) ? ic(g, 0) : i_div(g, g->task, cuts);
        int64_t fixed;
        if (!ic_value(length, &fixed) || fixed > MAP_TASK_POINTS) {
            from = i_mul(g, i_sub(g, g->task, i_mul(g, r, cuts)), ic(g, MAP_TASK_POINTS));
            to = i_min(g, length, i_add(g, from, ic(g, MAP_TASK_POINTS)));
        }
        scope_in(&row, &root, NULL);
        scope_digits(&row, m.grp, m.n_grp, m.lanes, r);
        lane_loop(&row, m.grp[m.lanes].axis, from, to, 1, map_body, NULL, NULL, 0);
    } else {
        V per = rows_per_task(&m), first = i_mul(g, g->task, per);
        V last = i_min(g, i_add(g, first, per), gen_poly(g, m.rows));
        Loop loop;
        loop_begin(g, &loop, first, last, 1, NULL, 0);
        scope_in(&row, &root, loop.branch);
        scope_digits(&row, m.grp, m.n_grp, m.lanes, loop.i);
        lane_loop(&row, m.grp[m.lanes].axis, from, to, 1, map_body, NULL, NULL, 0);
        loop_end(g, &loop, NULL);
    }
    launch_tasks(l);
    launch_end(l, map_tasks(&m));
    return !l->failed;
}
