/* scatter.c -- SCATTER kernels: every point of the iteration space is added into a place that data decides.
 *
 * Deterministic without a sort: a block owns ROWS rows of the result and, of each, a strip of columns (the last
 * dimension, when it is a plain axis). It zeroes them, then goes through all points, a tile of one point a thread: the
 * tile's places are put in shared memory; as long as one of them is the block's, all points of the first such place are
 * summed, each warp its own share of the tile, the warps are joined in order, and the sum is added to the row. So a row
 * that many points share (the padding token) is summed by all warps. Points whose place lies outside are left out. */
#include "cuda/lower.h"

enum { THREADS = 256, WARPS = THREADS / CU_WARP, ROWS = 128, AT_ONCE = 16 };

typedef struct Scatter {
    Cu *l;
    const Comp *c;
    int lanes, width;                  /* the axis of the last dimension, -1; neighbouring columns a thread has */
    Poly rows, columns;                /* of the result: all other dimensions; the last one */
    Group grp[MAX_AXES];             /* of the points */
    int n_grp;
    uint32_t zero;
    Poly points;
} Scatter;

static void analyse(Scatter *s)
{
    Cu *l = s->l;
    s->lanes = scatter_axes(&l->places, s->c, &s->rows, &s->columns, s->grp, &s->n_grp, &s->zero);
    s->width = 1;
    if (s->lanes >= 0) {
        Accesses acc = {0};
        cu_access_loads(l, s->c, &acc);
        cu_access_store(l, s->c, &acc);
        s->width = cu_width(&acc, (Group){s->lanes, s->columns});
    }
    s->points = group_points(&l->places, s->grp, s->n_grp, -1);
}

/* Writes the row that the point of scope `at` goes to into `place`, relative to the block's first; -1: none of it. */
static void find_place(Scatter *s, CuScope *at)
{
    Cu *l = s->l;
    const Tensor *t = &l->graph->tensor[s->c->out];
    Text inside = {.arena = l->arena}, row = {.arena = l->arena};
    l->comp = s->c;
    text_printf(&row, "0");
    for (int d = 0; d < t->rank; d++) {
        if (s->lanes >= 0 && d == t->rank - 1)
            continue;
        const char *i = cu_name(l, "x"), *n = cu_poly(l, poly_ext(t->shape[d]));
        cu_line(at, "const i32 %s = %s;", i, cu_index(at, s->c->store[d], 0));
        text_printf(&inside, "%s(u32)%s < (u32)%s", inside.n ? " && " : "", i, n);
        Text next = {.arena = l->arena};
        text_printf(&next, "(%s) * %s + %s", text_data(&row), n, i);
        row = next;
    }
    cu_line(at, "const i32 row = (i32)(%s - first);", text_data(&row));
    cu_line(at, "if (%s%s(u32)row < %uu)", text_data(&inside), inside.n ? " && " : "", ROWS);
    cu_line(at, "    place = row;");
}

/* neighbouring columns of a thread, as one access; they are all inside or all outside */
static const char *run_type(const Scatter *s)
{
    return s->width == 4 ? "v4f" : s->width == 2 ? "v2f" : "float";
}

static const char *list(Cu *l, const char *const *x, int n)
{
    Text t = {.arena = l->arena};
    for (int i = 0; i < n; i++)
        text_printf(&t, "%s%s", i ? ", " : "", x[i]);
    return text_data(&t);
}

/* The sum of the points `j` of the tile that go to `hot`: this warp's share. Some are fetched before the first is added. */
static void sum_share(Scatter *s, CuScope *loop)
{
    Cu *l = s->l;
    CuScope point;
    const char *sum[CU_WIDTH], *part[CU_WIDTH], *columns = cu_poly(l, s->columns);
    for (int c = 0; c < s->width; c++) {
        sum[c] = cu_name(l, "s");
        part[c] = cu_name(l, "t");
        cu_line(loop, "float %s = 0.0f;", sum[c]);
    }
    cu_scope_in(&point, loop);
    cu_line(&point, "const i64 u = tile + j;");
    cu_bind_digits(&point, s->grp, s->n_grp, -1, "u", true);
    if (s->lanes >= 0) {
        cu_bind(&point, s->lanes, "column", false);
        point.lane = s->lanes;
        point.width = s->width;
    }
    CuVal v = cu_eval_member(&point, s->c);
    for (int c = 0; c < s->width; c++)
        cu_line(&point, "%s[i] = %s;", part[c], cu_f(&point, v, c));
    cu_line(loop, "for (int j0 = warp; j0 < %d; j0 += %d) {", THREADS, WARPS * AT_ONCE);
    for (int c = 0; c < s->width; c++)
        cu_line(loop, "float %s[%d];", part[c], AT_ONCE);
    cu_line(loop, "TC_UNROLL");
    cu_line(loop, "for (int i = 0; i < %d; i++) {", AT_ONCE);
    cu_line(loop, "const int j = j0 + i * %d;", WARPS);
    for (int c = 0; c < s->width; c++)
        cu_line(loop, "%s[i] = 0.0f;", part[c]);
    cu_scope_close(&point, arena_printf(l->arena, "if (places[j] == hot && column < %s) {", columns), "}");
    cu_line(loop, "}");
    cu_line(loop, "TC_UNROLL");
    cu_line(loop, "for (int i = 0; i < %d; i++) {", AT_ONCE);
    for (int c = 0; c < s->width; c++)
        cu_line(loop, "%s += %s[i];", sum[c], part[c]);
    cu_line(loop, "}");
    cu_line(loop, "}");
    cu_line(loop, "%s *mine = (%s *)part + warp * %d + lane;", run_type(s), run_type(s), CU_WARP);
    cu_line(loop, "const %s x = {%s};", run_type(s), list(l, sum, s->width));
    cu_line(loop, "*mine = x;");
}

/* What the warps summed, in order, to the row's columns of this thread. */
static void add_shares(Scatter *s, CuScope *add, int arg)
{
    static const char *const field[] = {"x", "y", "z", "w"};
    Cu *l = s->l;
    const char *type = run_type(s), *sum[CU_WIDTH];
    cu_line(add, "float *to = p%d + (first + hot) * %s + column;", arg, cu_poly(l, s->columns));
    cu_line(add, "%s y = ((const %s *)part)[lane];", type, type);
    cu_line(add, "for (int w = 1; w < %d; w++) {", WARPS);
    cu_line(add, "    const %s v = ((const %s *)part)[w * %d + lane];", type, type, CU_WARP);
    for (int c = 0; c < s->width; c++)
        cu_line(add, s->width > 1 ? "    y.%s += v.%s;" : "    y += v;", field[c], field[c]);
    cu_line(add, "}");
    cu_line(add, "const %s was = *(const %s *)to;", type, type);
    for (int c = 0; c < s->width; c++)
        sum[c] = s->width > 1 ? arena_printf(l->arena, "was.%s + y.%s", field[c], field[c]) : "was + y";
    cu_store_floats(add, "to", s->width, sum);
}

bool cu_scatter(Cu *l)
{
    Scatter s = {.l = l, .c = &l->k->comp[0]};
    if (l->k->n_comp != 1) {
        cu_fail(l, "a scatter with epilogue");
        return false;
    }
    analyse(&s);
    int per = CU_WARP * s.width;
    const char *columns = cu_poly(l, s.columns), *rows = cu_poly(l, s.rows), *points = cu_poly(l, s.points);
    int arg = kernel_arg(l->k, s.c->out);
    CuScope root, clear, tile, place, loop;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, s.zero);
    cu_line(&root, "i32 *places = (i32 *)shared;");
    cu_line(&root, "i32 *least = places + %d;", THREADS);
    cu_line(&root, "float *part = (float *)(least + %d);", WARPS);
    cu_line(&root, "const i32 tid = (i32)threadIdx.x, lane = tid %% %d, warp = tid / %d;", CU_WARP, CU_WARP);
    cu_line(&root, "const u32 strips = (u32)((%s + %d) / %d);", columns, per - 1, per);
    cu_line(&root, "const i64 first = (i64)(blockIdx.x / strips) * %d;", ROWS);
    cu_line(&root, "const i32 column = (i32)(blockIdx.x %% strips) * %d + lane * %d;", per, s.width);
    static const char *const zeros[] = {"0.0f", "0.0f", "0.0f", "0.0f"};
    cu_scope_in(&clear, &root);
    cu_store_floats(&clear, arena_printf(l->arena, "p%d + r * %s + column", arg, columns), s.width, zeros);
    cu_scope_close(&clear, arena_printf(l->arena, "for (i64 r = first + warp; r < first + %d && r < %s && column < %s; r += %d) {", ROWS, rows,
                                        columns, WARPS), "}");
    cu_line(&root, "tc_syncthreads();");
    cu_scope_in(&tile, &root);
    cu_line(&tile, "i32 place = -1;");
    cu_scope_in(&place, &tile);
    cu_line(&place, "const i64 u = tile + tid;");
    cu_bind_digits(&place, s.grp, s.n_grp, -1, "u", true);
    find_place(&s, &place);
    cu_scope_close(&place, arena_printf(l->arena, "if (tile + tid < %s) {", points), "}");
    cu_line(&tile, "places[tid] = place;");
    cu_line(&tile, "tc_syncthreads();");
    cu_scope_in(&loop, &tile);
    /* the first point of the tile that is left */
    cu_line(&loop, "u32 next = places[tid] >= 0 ? (u32)tid : %uu;", THREADS);
    for (int by = CU_WARP / 2; by; by /= 2) {
        cu_line(&loop, "const u32 n%d = tc_shfl_xor_u(next, %d);", by, by);
        cu_line(&loop, "next = n%d < next ? n%d : next;", by, by);
    }
    cu_line(&loop, "if (lane == 0)");
    cu_line(&loop, "    least[warp] = (i32)next;");
    cu_line(&loop, "tc_syncthreads();");
    cu_line(&loop, "i32 at = least[0];");
    cu_line(&loop, "for (int w = 1; w < %d; w++)", WARPS);
    cu_line(&loop, "    at = least[w] < at ? least[w] : at;");
    cu_line(&loop, "if (at == %d)", THREADS);
    cu_line(&loop, "    break;");
    cu_line(&loop, "const i32 hot = places[at];");
    sum_share(&s, &loop);
    cu_line(&loop, "tc_syncthreads();");
    cu_line(&loop, "if (places[tid] == hot)");
    cu_line(&loop, "    places[tid] = -1;");
    CuScope add;
    cu_scope_in(&add, &loop);
    add_shares(&s, &add, arg);
    cu_scope_close(&add, arena_printf(l->arena, "if (warp == 0 && column < %s) {", columns), "}");
    cu_line(&loop, "tc_syncthreads();");
    cu_scope_close(&loop, "for (;;) {", "}");
    cu_line(&tile, "tc_syncthreads();");
    cu_scope_close(&tile, arena_printf(l->arena, "for (i64 tile = 0; tile < %s; tile += %d) {", points, THREADS), "}");
    TicGrid grid = cu_grid(s.rows, ROWS);
    cu_grid_times(&grid, s.columns, per);
    cu_launch(l, "scatter", &root, grid, THREADS, 1, THREADS * 4 + WARPS * 4 + WARPS * per * 4);
    return !l->failed;
}
