/* map.c -- MAP kernels: members over the same axes, point by point.
 *
 * Axes that are dense in everything the kernel touches become one. Threads run along one group of axes, the lanes, up
 * to four neighbouring points each; the points of the other groups are "rows". Long rows take several blocks, short
 * ones share a block. Every point is loaded before it is stored, so results may lie on operands of the same shape. */
#include "cuda/lower.h"

enum { MAP_THREADS = 256 };

typedef struct CuMap {
    Cu *l;
    Group grp[MAX_AXES];
    int n_grp, lanes, width;
    uint32_t zero;
    Poly rows, length;
} CuMap;

static void analyse(CuMap *m)
{
    Cu *l = m->l;
    const Comp *c = &l->k->comp[0];
    Accesses acc = {0};
    for (int i = 0; i < l->k->n_comp; i++) {
        cu_access_loads(l, &l->k->comp[i], &acc);
        if (kernel_writes(l->k, l->k->comp[i].out))
            cu_access_store(l, &l->k->comp[i], &acc);
    }
    m->n_grp = map_axes(&l->places, c, &acc, m->grp, &m->zero);
    m->lanes = cu_best_lanes(&acc, m->grp, m->n_grp);
    m->width = m->lanes < 0 ? 1 : cu_width(&acc, m->grp[m->lanes]);
    m->rows = group_points(&l->places, m->grp, m->n_grp, m->lanes);
    m->length = m->lanes < 0 ? poly_const(1) : m->grp[m->lanes].n;
}

void cu_map_body(CuScope *s)
{
    Cu *l = s->l;
    CuVal *value = NEWN(l->arena, CuVal, l->k->n_comp);
    for (int i = 0; i < l->k->n_comp; i++) {
        value[i] = cu_eval_member(s, &l->k->comp[i]);
        cu_member_is(s, &l->k->comp[i], value[i]);
    }
    for (int i = 0; i < l->k->n_comp; i++)
        if (kernel_writes(l->k, l->k->comp[i].out))
            cu_store(s, &l->k->comp[i], value[i]);
}

bool cu_map(Cu *l)
{
    CuMap m = {.l = l};
    analyse(&m);
    CuScope root, s;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, m.zero);
    bool wide_rows = !poly_small(m.rows), wide_lane = !poly_small(m.length);
    const char *row_type = wide_rows ? "i64" : "i32", *lane_type = wide_lane ? "i64" : "i32";
    int64_t fixed;
    bool is_short = m.lanes < 0 || (poly_fixed(m.length, &fixed) && fixed / m.width <= MAP_THREADS / 2);
    TicGrid grid;
    if (is_short) {
        int across = 1;
        while (m.lanes >= 0 && across < fixed / m.width)
            across *= 2;
        int down = MAP_THREADS / across;
        if (across > 1)
            cu_line(&root, "const i32 lane = (i32)threadIdx.x %% %d * %d;", across, m.width);
        else
            cu_line(&root, "const i32 lane = 0;");
        cu_line(&root, "const %s row = (%s)blockIdx.x * %d + threadIdx.x / %d;", row_type, row_type, down, across);
        cu_line(&root, "if (row >= %s%s)", cu_poly(l, m.rows), across * m.width == 1 || fixed == across * m.width ? ""
                : arena_printf(l->arena, " || lane >= %lld", (long long)fixed));
        cu_line(&root, "    return;");
        grid = cu_grid(m.rows, down);
    } else {
        int per = MAP_THREADS * m.width;
        grid = cu_grid(m.rows, 1);
        cu_grid_times(&grid, m.length, per);
        if (poly_is(m.rows, 1)) {
            cu_line(&root, "const i32 row = 0;");
            cu_line(&root, "const %s lane = ((%s)blockIdx.x * %d + threadIdx.x) * %d;", lane_type, lane_type, MAP_THREADS, m.width);
        } else {
            cu_line(&root, "const u32 pieces = (u32)((%s + %d) / %d);", cu_poly(l, m.length), per - 1, per);
            cu_line(&root, "const %s row = blockIdx.x / pieces;", row_type);
            cu_line(&root, "const %s lane = ((%s)(blockIdx.x - (u32)row * pieces) * %d + threadIdx.x) * %d;", lane_type, lane_type,
                    MAP_THREADS, m.width);
        }
        cu_line(&root, "if (lane >= %s)", cu_poly(l, m.length));
        cu_line(&root, "    return;");
    }
    cu_scope_in(&s, &root);
    cu_bind_digits(&s, m.grp, m.n_grp, m.lanes, "row", wide_rows);
    if (m.lanes >= 0) {
        cu_bind(&s, m.grp[m.lanes].axis, "lane", wide_lane);
        s.lane = m.grp[m.lanes].axis;
        s.width = m.width;
    }
    cu_map_body(&s);
    cu_scope_close(&s, "{", "}");
    cu_launch(l, "map", &root, grid, MAP_THREADS, 1, 0);
    return !l->failed;
}
