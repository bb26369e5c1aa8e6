/* row.c -- ROW kernels: what happens to one row at a time. LayerNorm, softmax and their gradients.
 *
 * A warp takes a row when rows are short (or several, when they are very short), else a block does. A row is gone through
 * in phases, each one loop along the row: a member goes into the first phase in which all it needs is there. A sum is
 * needed whole, so its readers come a phase later; a map is needed only at the same point, so its readers share its phase.
 * LayerNorm is three phases.
 *
 * What several phases need stays in registers: a thread meets the same points in every phase, so its share of the row is
 * an array, indexed by the unrolled loop. Rows too long for that are read, or computed, again.
 *
 * Where columns are summed too (columns.c), a block goes through many rows, one after the other for each warp. */
#include "cuda/lower.h"
#include <string.h>

enum { ROW_THREADS = 256, WARP_ROW = 1024, MOST_KEPT = 128, MOST_SHARE = 32, MAX_SHAPES = 4, LEAST_THREADS = 8 };

/* The inner space of some members: what a loop runs over. */
typedef struct Shape {
    const Comp *like;
    Group grp[MAX_AXES];             /* the lane group last */
    int n_grp, width;
    uint32_t zero;
    Poly points;
    int share;                         /* loop rounds of a thread when rows are kept in registers; 0: they are not */
} Shape;

typedef struct Kept { const Expr *load; const Comp *member; const char *name; int shape, first, last; } Kept;

typedef struct Row {
    Cu *l;
    int n_dom, n_phase;
    int *phase, *shape;                /* by member */
    Shape shapes[MAX_SHAPES];
    int n_shape, threads;              /* threads of a row: a warp or part of one, or a block */
    ARRAY(Kept) kept;
    CuColumns *columns;                /* NULL: no member sums columns */
} Row;

static bool is_column(const Row *r, int i)
{
    return r->columns && r->columns->number[i] >= 0;
}

static void assign_phases(Row *r)
{
    Cu *l = r->l;
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        int n, at = 0;
        const Expr **load = loads_of(&l->places, c->body, &n);
        for (int k = 0; k < n; k++) {
            int j = kernel_member(l->k, load[k]->tensor);
            if (j < 0 || j >= i)
                continue;
            const Comp *d = &l->k->comp[j];
            bool here = !d->red && d->n_axes > r->n_dom && same_inner(c, d, r->n_dom) && same_point(load[k], d);
            int after = here ? r->phase[j] : r->phase[j] + 1;
            at = after > at ? after : at;
        }
        for (bool moved = true; moved;) {        /* another shape already has this phase: the next free one */
            moved = false;
            for (int j = 0; j < i; j++)
                if (r->phase[j] == at && !same_inner(c, &l->k->comp[j], r->n_dom)) {
                    at++;
                    moved = true;
                    break;
                }
        }
        r->phase[i] = at;
        r->n_phase = at + 1 > r->n_phase ? at + 1 : r->n_phase;
    }
}

/* Is member i read in a later phase than its own, and is it read at its own point only? */
static bool read_later(const Row *r, int i, bool *at_its_point)
{
    Cu *l = r->l;
    bool later = false;
    *at_its_point = true;
    for (int j = i + 1; j < l->k->n_comp; j++) {
        int n;
        const Expr **load = loads_of(&l->places, l->k->comp[j].body, &n);
        for (int k = 0; k < n; k++) {
            if (load[k]->tensor != l->k->comp[i].out)
                continue;
            bool same = same_point(load[k], &l->k->comp[i]) && same_inner(&l->k->comp[j], &l->k->comp[i], r->n_dom);
            *at_its_point = *at_its_point && same;
            later = later || r->phase[j] > r->phase[i] || !same;
        }
    }
    return later;
}

/* Rows so short that a warp's accesses would be narrow share it: as many threads each as have a full access, when no warp
 * is left half without a row. Logsumexp is joined across whole warps only. */
static void share_warp(Row *r)
{
    Cu *l = r->l;
    int64_t most = 1;
    for (int i = 0; i < l->k->n_comp; i++)
        if (l->k->comp[i].reducer == RED_LOGSUMEXP)
            return;
    for (int k = 0; k < r->n_shape; k++) {
        int64_t n;
        if (r->threads != CU_WARP || !poly_fixed(r->shapes[k].points, &n))
            return;
        most = n / r->shapes[k].width > most ? n / r->shapes[k].width : most;
    }
    Poly rows = poly_const(1);
    for (int a = 0; a < r->n_dom; a++)
        rows = poly_mul(&l->places, rows, poly_ext(l->k->dom[a]));
    while (r->threads > LEAST_THREADS && most <= r->threads / 2 && poly_divides(rows, 2 * CU_WARP / r->threads))
        r->threads /= 2;
}

static void find_shapes(Row *r)
{
    Cu *l = r->l;
    for (int i = 0; i < l->k->n_comp; i++) {
        int k = 0;
        while (k < r->n_shape && !same_inner(r->shapes[k].like, &l->k->comp[i], r->n_dom))
            k++;
        if (k == MAX_SHAPES) {
            cu_fail(l, "more than %d shapes of rows", MAX_SHAPES);
            return;
        }
        if (k == r->n_shape)
            r->shapes[r->n_shape++] = (Shape){.like = &l->k->comp[i]};
        r->shape[i] = k;
    }
    r->threads = CU_WARP;
    for (int k = 0; k < r->n_shape; k++) {
        Shape *s = &r->shapes[k];
        Accesses acc = {0};
        for (int i = 0; i < l->k->n_comp; i++)
            if (r->shape[i] == k) {
                cu_access_loads(l, &l->k->comp[i], &acc);
                if (is_column(r, i) || (!l->k->comp[i].red && kernel_writes(l->k, l->k->comp[i].out)))
                    cu_access_store(l, &l->k->comp[i], &acc);
            }
        s->n_grp = row_axes(&l->places, s->like, &acc, r->n_dom, s->grp, &s->zero);
        int lanes = cu_best_lanes(&acc, s->grp, s->n_grp);
        if (lanes >= 0) {
            Group g = s->grp[lanes];
            memmove(s->grp + lanes, s->grp + lanes + 1, (size_t)(s->n_grp - 1 - lanes) * sizeof g);
            s->grp[s->n_grp - 1] = g;
        }
        s->width = lanes < 0 ? 1 : cu_width(&acc, s->grp[s->n_grp - 1]);
        s->points = group_points(&l->places, s->grp, s->n_grp, -1);
        int64_t fixed;
        if (!poly_fixed(s->points, &fixed) || fixed > WARP_ROW)
            r->threads = ROW_THREADS;
    }
    if (!r->columns)
        share_warp(r);
    for (int k = 0; k < r->n_shape; k++) {
        Shape *s = &r->shapes[k];
        int64_t n;
        while (s->width > 1 && poly_fixed(s->points, &n) && n / s->width < r->threads)     /* all threads have a share */
            s->width /= 2;
        int64_t fixed, round = (int64_t)r->threads * s->width;
        if (poly_fixed(s->points, &fixed) && s->n_grp && (fixed + round - 1) / round * s->width <= MOST_SHARE)
            s->share = (int)((fixed + round - 1) / round);
    }
}

/* ---- what stays in registers between phases */

static void keep(Row *r, Kept k)
{
    k.name = cu_name(r->l, "k");
    PUSH(r->l->arena, r->kept, k);
}

static void keep_load(Row *r, const Expr *load, int shape, int phase)
{
    for (int i = 0; i < r->kept.n; i++) {
        Kept *k = &r->kept.at[i];
        if (k->load == load && k->shape == shape) {
            k->last = phase;
            return;
        }
    }
    keep(r, (Kept){.load = load, .shape = shape, .first = phase, .last = phase});
}

/* Loads that run along the row and are no members', and maps that a later phase reads. */
static void find_kept(Row *r)
{
    Cu *l = r->l;
    for (int p = 0; p < r->n_phase; p++)
        for (int i = 0; i < l->k->n_comp; i++) {
            const Comp *c = &l->k->comp[i];
            if (r->phase[i] != p || !r->shapes[r->shape[i]].share)
                continue;
            int n;
            const Expr **load = loads_of(&l->places, c->body, &n);
            for (int k = 0; k < n; k++)
                if (kernel_member(l->k, load[k]->tensor) < 0 && dtype_real(l->graph->tensor[load[k]->tensor].dtype)
                    && load[k]->axes >> r->n_dom)
                    keep_load(r, load[k], r->shape[i], p);
        }
    int n = 0;
    for (int i = 0; i < r->kept.n; i++)          /* one phase alone needs no array */
        if (r->kept.at[i].first < r->kept.at[i].last)
            r->kept.at[n++] = r->kept.at[i];
    r->kept.n = n;
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        const Shape *s = &r->shapes[r->shape[i]];
        bool own;
        if (c->red || c->n_axes == r->n_dom || !read_later(r, i, &own))
            continue;
        if (s->share && own) {
            keep(r, (Kept){.member = c, .shape = r->shape[i], .first = r->phase[i], .last = r->n_phase});
        } else {
            bool written = kernel_writes(l->k, c->out);
            l->places.placed[i] = written && own;          /* a thread reads back what it wrote itself */
            l->places.again[i] = !l->places.placed[i];
        }
    }
    int floats = 0;
    for (int i = 0; i < r->kept.n; i++) {
        const Shape *s = &r->shapes[r->kept.at[i].shape];
        floats += s->share * s->width;
        if (floats > MOST_KEPT && r->kept.at[i].load) {     /* too many: this one is loaded again */
            floats -= s->share * s->width;
            r->kept.at[i].last = r->kept.at[i].first;
        }
    }
}

static CuVal kept_value(Row *r, const Kept *k)
{
    CuVal v = {.kind = CV_F};
    int w = r->shapes[k->shape].width;
    for (int c = 0; c < w; c++)
        v.v[c] = w == 1 ? arena_printf(r->l->arena, "%s[k]", k->name) : arena_printf(r->l->arena, "%s[k * %d + %d]", k->name, w, c);
    v.uniform = w == 1;
    return v;
}

/* Stores at one point of the row scope: by one thread. */
static void store_once(CuScope *row, const Comp *c, CuVal v)
{
    CuScope s;
    cu_scope_in(&s, row);
    cu_store(&s, c, v);
    cu_scope_close(&s, "if (lane == 0) {", "}");
}

/* flat: the name of the number of the run of points */
static void points(Row *r, int phase, CuScope *s, CuAcc *acc, const char *flat)
{
    Cu *l = r->l;
    int width = s->lane >= 0 ? s->width : 1;
    for (int i = 0; i < r->kept.n; i++) {
        const Kept *k = &r->kept.at[i];
        if (k->first < phase && phase <= k->last && k->member)
            cu_member_is(s, k->member, kept_value(r, k));
        if (k->first < phase && phase <= k->last && k->load)
            cu_load_is(s, k->load, kept_value(r, k));
        if (k->first == phase && k->last > phase && k->load) {
            /* any member of the phase says what range the axes have */
            for (int m = 0; m < l->k->n_comp; m++)
                if (r->phase[m] == phase)
                    l->comp = &l->k->comp[m];
            CuVal v = cu_eval(s, k->load), kv = kept_value(r, k);
            for (int c = 0; c < width; c++)
                cu_line(s, "%s = %s;", kv.v[c], cu_f(s, v, c));
        }
    }
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (r->phase[i] != phase)
            continue;
        CuVal v = cu_eval_member(s, c);
        if (is_column(r, i)) {
            cu_columns_add(r->columns, s, i, width == 1 ? flat : arena_printf(l->arena, "%s * %d", flat, width), v);
            continue;
        }
        if (c->red) {
            int axis = __builtin_ctz(c->red);
            for (int j = 0; j < width; j++) {
                const char *position = "0";
                if (c->reducer == RED_ARGMAX)
                    position = arena_printf(l->arena, "(i32)(%s + %d)", cu_axis(s, axis), axis == s->lane ? j : 0);
                cu_acc_take(s, acc[i], cu_f(s, v, j), position);
            }
            continue;
        }
        cu_member_is(s, c, v);
        for (int k = 0; k < r->kept.n; k++)
            if (r->kept.at[k].member == c) {
                CuVal kv = kept_value(r, &r->kept.at[k]);
                for (int j = 0; j < width; j++)
                    cu_line(s, "%s = %s;", kv.v[j], cu_f(s, v, j));
            }
        if (kernel_writes(l->k, c->out))
            cu_store(s, c, v);
    }
}

/* Members of a phase that have no inner axes: every thread of the row computes them, one stores. */
static void single_point(Row *r, int phase, CuScope *row)
{
    Cu *l = r->l;
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (r->phase[i] != phase)
            continue;
        CuVal v = cu_eval_member(row, c);
        if (is_column(r, i)) {
            CuScope once;
            cu_scope_in(&once, row);
            cu_columns_add(r->columns, &once, i, "0", v);
            cu_scope_close(&once, "if (lane == 0) {", "}");
            continue;
        }
        if (c->red) {
            CuAcc a = cu_acc_new(row, c->reducer);
            cu_acc_take(row, a, cu_f(row, v, 0), "0");
            v = cu_round(row, c, cu_acc_value(row, a));
        }
        cu_member_is(row, c, v);
        if (kernel_writes(l->k, c->out))
            store_once(row, c, v);
    }
}

static void run_phase(Row *r, int phase, CuScope *row)
{
    Cu *l = r->l;
    int first = -1;
    for (int i = 0; i < l->k->n_comp && first < 0; i++)
        if (r->phase[i] == phase)
            first = i;
    if (first < 0)
        return;
    Shape *sh = &r->shapes[r->shape[first]];
    if (!sh->n_grp) {
        CuScope s;                     /* axes of a single point */
        cu_bind_zero(row, sh->zero);
        (void)s;
        single_point(r, phase, row);
        return;
    }
    CuAcc *acc = NEWN(l->arena, CuAcc, l->k->n_comp);
    for (int i = 0; i < l->k->n_comp; i++)
        if (r->phase[i] == phase && l->k->comp[i].red && !is_column(r, i))
            acc[i] = cu_acc_new(row, l->k->comp[i].reducer);
    CuScope s;
    cu_scope_in(&s, row);
    cu_bind_zero(&s, sh->zero);
    Group grp[MAX_AXES];
    memcpy(grp, sh->grp, sizeof grp);
    Group *lane = &grp[sh->n_grp - 1];
    int axis = lane->axis;
    for (int i = 0; i < 3; i++)        /* digits count runs of `width` points */
        lane->n.c[i] /= sh->width;
    const char *flat = cu_name(l, "i");
    cu_bind_digits(&s, grp, sh->n_grp, -1, flat, false);
    if (sh->width > 1)
        cu_bind(&s, axis, arena_printf(l->arena, "(%s * %d)", s.at[axis], sh->width), false);
    s.lane = axis;
    s.width = sh->width;
    points(r, phase, &s, acc, flat);
    Poly runs = sh->points;
    for (int i = 0; i < 3; i++)
        runs.c[i] /= sh->width;
    int64_t fixed;
    if (sh->share) {
        bool full = poly_fixed(runs, &fixed) && fixed == (int64_t)sh->share * r->threads;
        cu_line(row, "TC_UNROLL");
        cu_line(row, "for (int k = 0; k < %d; k++) {", sh->share);
        cu_line(row, "    const i32 %s = k * %d + lane;", flat, r->threads);
        if (!full)
            cu_line(row, "    if (%s < %s) {", flat, cu_poly(l, runs));
        cu_scope_close(&s, "", full ? "}" : "}}");
    } else {
        cu_scope_close(&s, arena_printf(l->arena, "for (i32 %s = lane; %s < %s; %s += %d) {", flat, flat, cu_poly(l, runs), flat,
                                        r->threads), "}");
    }
    for (int i = 0; i < l->k->n_comp; i++) {
        const Comp *c = &l->k->comp[i];
        if (r->phase[i] != phase || !c->red || is_column(r, i))
            continue;
        if (r->threads <= CU_WARP)
            cu_acc_warp(row, acc[i], r->threads);
        else
            cu_acc_block(row, acc[i], r->threads, "shared", "lane");
        CuVal v = cu_round(row, c, cu_acc_value(row, acc[i]));
        cu_member_is(row, c, v);
        if (kernel_writes(l->k, c->out))
            store_once(row, c, v);
    }
}

/* The rows of a block whose columns are summed: text around the scope of one of them, and the launches. */
static void rows_with_columns(Row *r, CuScope *root, CuScope *row, Poly rows, bool wide)
{
    enum { JOINED = 64 };              /* bytes of shared memory in which a block of one row joins its sums */
    Cu *l = r->l;
    CuColumns *c = r->columns;
    const char *type = wide ? "i64" : "i32";
    int threads = c->slots * r->threads, at = r->threads > CU_WARP ? JOINED : 0;
    cu_line(root, "const i32 lane = (i32)threadIdx.x %% %d, slot = (i32)threadIdx.x / %d;", r->threads, r->threads);
    cu_columns_begin(c, root, at, threads);
    cu_line(root, "const %s rows = %s, size = (rows + %d) / %d, from = blockIdx.x * size;", type, cu_poly(l, rows), c->parts - 1, c->parts);
    cu_line(root, "const %s to = from + size < rows ? from + size : rows;", type);
    cu_scope_close(row, arena_printf(l->arena, "TC_NO_UNROLL for (%s row = from + slot; row < to; row += %d) {", type, c->slots), "}");
    cu_columns_end(c, root, at, threads);
    cu_launch(l, "row", root, cu_grid(poly_const(c->parts), 1), threads, 1, at + cu_columns_bytes(c));
    cu_columns_join(c);
}

bool cu_row(Cu *l)
{
    Row r = {.l = l, .n_dom = l->k->n_dom, .phase = NEWN(l->arena, int, l->k->n_comp), .shape = NEWN(l->arena, int, l->k->n_comp)};
    CuColumns columns;
    if (cu_columns_find(&columns, l))
        r.columns = &columns;
    assign_phases(&r);
    find_shapes(&r);
    if (l->failed)
        return false;
    find_kept(&r);
    for (int i = 0; i < l->k->n_comp; i++)
        if (is_column(&r, i)) {
            const Shape *s = &r.shapes[r.shape[i]];
            columns.grp = s->grp;
            columns.n_grp = s->n_grp;
            columns.zero = s->zero;
        }
    if (r.columns)
        cu_columns_place(&columns, ROW_THREADS / r.threads);
    Accesses acc = {0};
    for (int i = 0; i < l->k->n_comp; i++) {
        cu_access_loads(l, &l->k->comp[i], &acc);
        if (kernel_writes(l->k, l->k->comp[i].out))
            cu_access_store(l, &l->k->comp[i], &acc);
    }
    int axis[MAX_AXES];
    for (int a = 0; a < r.n_dom; a++)
        axis[a] = a;
    Group grp[MAX_AXES];
    uint32_t zero = 0;
    int n_grp = merge_axes(&l->places, &acc, l->k->dom, axis, r.n_dom, grp, &zero);
    Poly rows = group_points(&l->places, grp, n_grp, -1);
    bool wide = !poly_small(rows);
    int per = ROW_THREADS / r.threads;
    CuScope root, row;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, zero);
    if (!r.columns && per > 1) {
        cu_line(&root, "const i32 lane = (i32)threadIdx.x %% %d;", r.threads);
        cu_line(&root, "const %s row = (%s)blockIdx.x * %d + threadIdx.x / %d;", wide ? "i64" : "i32", wide ? "i64" : "i32", per, r.threads);
        cu_line(&root, "if (row >= %s)", cu_poly(l, rows));
        cu_line(&root, "    return;");
    } else if (!r.columns) {
        cu_line(&root, "const i32 lane = (i32)threadIdx.x;");
        cu_line(&root, "const %s row = blockIdx.x;", wide ? "i64" : "i32");
    }
    cu_scope_in(&row, &root);
    cu_bind_digits(&row, grp, n_grp, -1, "row", wide);
    for (int i = 0; i < r.kept.n; i++)
        if (r.kept.at[i].first < r.kept.at[i].last) {
            const Shape *s = &r.shapes[r.kept.at[i].shape];
            cu_line(&row, "float %s[%d];", r.kept.at[i].name, s->share * s->width);
        }
    l->places.row_depth = row.level.depth;
    for (int p = 0; p < r.n_phase && !l->failed; p++)
        run_phase(&r, p, &row);
    if (r.columns) {
        rows_with_columns(&r, &root, &row, rows, wide);
        return !l->failed;
    }
    cu_scope_close(&row, "{", "}");
    int shared = per == 1 ? ROW_THREADS / CU_WARP * 2 * 4 : 0;
    cu_launch(l, "row", &root, cu_grid(rows, per), ROW_THREADS, 1, shared);
    return !l->failed;
}
