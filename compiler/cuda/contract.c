/* contract.c -- CONTRACT kernels: a template with a prologue of this kernel's own in front. See emit.h.
 *
 * Any operand layout is absorbed, because affine addresses are separable into a part of the batch indices, of the rows
 * and of the terms. Columns are the side along which the first result is stored without gaps. Contractions with few
 * tiles and many terms (weight gradients) are split along the terms; partial results lie in a workspace, and a second
 * launch joins them in order and runs the epilogue. The cut depends on extents alone, not on the device. Hopper's text may have
 * them in equal shares of all tiles' terms instead (templates/shares.cu). The sum of a side over the terms
 * comes from the blocks that have the first tile of the other side. */
#include "cuda/contract.h"
#include "cuda/prelude.h"
#include <string.h>

#define GEMM(name, m, n, k, threads, shared, arch, tensor, persistent, regs) extern const char cuda_template_##name[];
#include "cuda/templates/templates.def"

const GemmTemplate cuda_gemm[] = {
#define GEMM(file, m, n, k, threads, shared, arch, tensor, persistent, regs) \
    { #file, cuda_template_##file, m, n, k, threads, shared, arch, tensor, persistent, regs },
#include "cuda/templates/templates.def"
    { 0 }
};
extern const char cuda_template_shares[];

enum { JOIN_THREADS = 256 };

/* where the result (m, n) of part `split` lies in a workspace of parts in shares */
#define PLACE_IN_SHARES "((i64)split * TILE_M + m % TILE_M) * TILE_N + n % TILE_N"

/* ---- shapes */

/* How a side can be read: along terms (1) or along its rows (2), and how many elements at once. */
static void find_unit(Contraction *c, Side *s)
{
    static const int directions[] = {1, 2};
    s->lin = tensor_linear(&c->l->places, s->load->tensor, s->load->idx);
    s->unit = 0;
    s->vec = 1;
    for (int i = 0; i < 2 && !s->unit; i++) {
        const Group *g = directions[i] == 1 ? &c->k[c->n_k - 1] : &s->grp[s->n_grp - 1];
        if (!poly_is(s->lin.axis[g->axis], 1))
            continue;
        s->unit = directions[i];
        for (int w = 8; w > 1 && s->vec == 1; w /= 2) {
            bool fits = poly_divides(g->n, w) && poly_divides(s->lin.c, w);
            for (int a = 0; a < MAX_AXES; a++)
                fits = fits && (a == g->axis || poly_divides(s->lin.axis[a], w));
            if (fits)
                s->vec = w;
        }
    }
}

/* Members that are results, and maps of them: all but the sum. */
static int n_points(const Contraction *c)
{
    return c->l->k->n_comp - (c->sum != NULL);
}

bool cu_contract_analyse(Contraction *c)
{
    Cu *l = c->l;
    const Contract *s = &l->k->split;
    Accesses acc = {0};
    ContractAxes x;
    c->sum = s->sum ? &l->k->comp[l->k->n_comp - 1] : NULL;
    for (int i = 0; i < n_points(c); i++) {
        cu_access_loads(l, &l->k->comp[i], &acc);
        if (kernel_writes(l->k, l->k->comp[i].out))
            cu_access_store(l, &l->k->comp[i], &acc);
    }
    int unit = unit_axis(&l->k->comp[0], &acc);
    if (c->sum)
        cu_access_store(l, c->sum, &acc);
    if (!contract_axes(&l->places, &acc, unit, &x))
        return false;
    c->outer = x.outer;
    c->n_outer = x.n_outer;
    c->m = x.m;
    c->n_m = x.n_m;
    c->n = x.n;
    c->n_n = x.n_n;
    c->k = x.k;
    c->n_k = x.n_k;
    c->zero = x.zero;
    c->a = (Side){.load = x.a, .grp = x.m, .n_grp = x.n_m};
    c->b = (Side){.load = x.b, .grp = x.n, .n_grp = x.n_n};
    c->summed = !c->sum ? NULL : s->sum == c->a.load ? &c->a : &c->b;
    find_unit(c, &c->a);
    find_unit(c, &c->b);
    c->rows = group_points(&l->places, c->m, c->n_m, -1);
    c->columns = group_points(&l->places, c->n, c->n_n, -1);
    c->terms = group_points(&l->places, c->k, c->n_k, -1);
    c->batches = group_points(&l->places, c->outer, c->n_outer, -1);
    if (!poly_small(c->rows) || !poly_small(c->columns) || !poly_small(c->terms) || !poly_small(c->batches))
        cu_fail(l, "more than 2^31 rows, columns or terms");
    return !l->failed;
}

bool cu_side_is_bf16(const Contraction *c, const Side *s)
{
    return c->l->graph->tensor[s->load->tensor].dtype == DT_BF16;
}

uint32_t cu_group_axes(const Group *grp, int n)
{
    uint32_t axes = 0;
    for (int i = 0; i < n; i++)
        axes |= 1u << grp[i].axis;
    return axes;
}

/* ---- the prologue */

/* `type name(args) { return offset; }` of the axes in grp, digits of `flat` */
static void offset_function(Contraction *c, const char *name, const Side *s, const Group *grp, int n)
{
    Cu *l = c->l;
    CuScope root;
    cu_scope_root(&root, l);
    cu_bind_digits(&root, grp, n, -1, "i", false);
    Text sum = {.arena = l->arena};
    for (int i = 0; i < n; i++) {
        Poly coef = s->lin.axis[grp[i].axis];
        if (poly_is(coef, 0))
            continue;
        text_printf(&sum, "%s(i64)%s * %s", sum.n ? " + " : "", root.at[grp[i].axis], cu_poly(l, coef));
    }
    text_printf(&l->file, "TC_DEV i64 %s(i32 i, i32 B)\n{\n%s    return %s;\n}\n", name, text_data(&root.body), sum.n ? text_data(&sum) : "0");
}

static void base_function(Contraction *c, const char *name, const char *type, const Side *s)
{
    Cu *l = c->l;
    CuScope root;
    cu_scope_root(&root, l);
    cu_bind_digits(&root, c->outer, c->n_outer, -1, "z", false);
    Text sum = {.arena = l->arena};
    text_printf(&sum, "%s", cu_poly(l, s->lin.c));
    for (int i = 0; i < c->n_outer; i++) {
        Poly coef = s->lin.axis[c->outer[i].axis];
        if (!poly_is(coef, 0))
            text_printf(&sum, " + (i64)%s * %s", root.at[c->outer[i].axis], cu_poly(l, coef));
    }
    text_printf(&l->file, "TC_DEV const %s *%s(TC_ARGS, i32 z)\n{\n%s    return p%d + (%s);\n}\n", type, name, text_data(&root.body),
                kernel_arg(l->k, s->load->tensor), text_data(&sum));
}

static long long constant_stride(const Side *s, const Group *grp, int n)
{
    int64_t k;
    return n == 1 && poly_fixed(s->lin.axis[grp[0].axis], &k) ? (long long)k : 0;
}

static void operand(Contraction *c, const Side *s, char big, char small)
{
    Cu *l = c->l;
    Text *t = &l->file;
    const char *type = cu_side_is_bf16(c, s) ? "bf16" : "float";
    text_printf(t, "#define %c_T %s\n#define %c_BF16 %d\n#define %c_FLOAT(x) %s\n", big, type, big, cu_side_is_bf16(c, s), big,
                cu_side_is_bf16(c, s) ? "tc_f(x)" : "(x)");
    text_printf(t, "#define %c_UNIT %d\n#define %c_VEC %d\n", big, s->unit, big, s->vec);
    text_printf(t, "#define %c_ROW_STRIDE %lldll\n#define %c_TERM_STRIDE %lldll\n", big, constant_stride(s, s->grp, s->n_grp), big,
                constant_stride(s, c->k, c->n_k));
    base_function(c, arena_printf(l->arena, "%c_base", small), type, s);
    offset_function(c, arena_printf(l->arena, "%c_row", small), s, s->grp, s->n_grp);
    offset_function(c, arena_printf(l->arena, "%c_term", small), s, c->k, c->n_k);
}

/* ---- results */

static void bind_point(Contraction *c, CuScope *s, int width)
{
    cu_bind_digits(s, c->outer, c->n_outer, -1, "z", false);
    cu_bind_digits(s, c->m, c->n_m, -1, "m", false);
    cu_bind_digits(s, c->n, c->n_n, -1, "n", false);
    s->lane = c->n[c->n_n - 1].axis;
    s->width = width;
}

/* Scale, epilogue and stores of `width` neighbouring columns whose sums are x0 .. in scope s (m, n, z are names). */
static void epilogue(Contraction *c, CuScope *s, int width)
{
    Cu *l = c->l;
    bind_point(c, s, width);
    CuVal v = {.kind = CV_F, .uniform = width == 1};
    for (int i = 0; i < width; i++) {
        v.v[i] = arena_printf(l->arena, "x%d", i);
        if (l->k->split.scale != 1) {
            const char *t = cu_name(l, "t");
            cu_line(s, "const float %s = x%d * %s;", t, i, cu_float(l, l->k->split.scale));
            v.v[i] = t;
        }
    }
    for (int i = 0; i < n_points(c); i++) {
        const Comp *m = &l->k->comp[i];
        v = i ? cu_eval_member(s, m) : cu_round(s, m, v);
        cu_member_is(s, m, v);
        if (kernel_writes(l->k, m->out))
            cu_store(s, m, v);
    }
}

/* the greatest that divides all that p may be, whatever the batch */
static int power_of_two(Poly p)
{
    enum { MOST = 256 };                /* no tile is longer */
    int by = MOST;
    while (!poly_divides(p, by))
        by /= 2;
    return by;
}

static const char *sum_params(Cu *l, int width)
{
    Text t = {.arena = l->arena};
    for (int i = 0; i < width; i++)
        text_printf(&t, "%sfloat x%d", i ? ", " : "", i);
    return text_data(&t);
}

static bool in_runs(const Contraction *c, int width)
{
    return c->n_n == 1 || poly_divides(c->n[c->n_n - 1].n, width);
}

static Poly summed_rows(const Contraction *c)
{
    return c->summed == &c->a ? c->rows : c->columns;
}

static const char *extent_of_summed(const Contraction *c)
{
    return c->summed == &c->a ? "ROWS" : "COLS";
}

static const char *tile_of_summed(const Contraction *c)
{
    return c->summed == &c->a ? "TILE_M" : "TILE_N";
}

static Poly all_sums(const Contraction *c)
{
    return poly_mul(&c->l->places, c->batches, summed_rows(c));
}

/* Elements of the workspace that are partial results: every split has all of them, a part of a share a whole tile. */
static Poly partial_results(const Contraction *c)
{
    Places *p = &c->l->places;
    if (c->shares)
        return poly_const((int64_t)cu_contract_parts(c) * c->hopper->tile_m * c->hopper->tile_n);
    return poly_mul(p, poly_mul(p, c->batches, c->rows), poly_scale(c->columns, c->splits));
}

static Poly partial_sums(const Contraction *c)
{
    if (c->sum && c->shares)
        return poly_const((int64_t)cu_contract_parts(c) * (c->summed == &c->a ? c->hopper->tile_m : c->hopper->tile_n));
    return c->sum ? poly_scale(all_sums(c), c->splits) : poly_const(0);
}

/* Whether the template leaves partial results. */
static bool in_parts(const Contraction *c)
{
    return c->splits > 1 || c->shares;
}

/* f32 elements of the workspace */
static Poly workspace_for(const Contraction *c)
{
    return in_parts(c) ? poly_add(partial_results(c), partial_sums(c)) : poly_const(0);
}

static void to_workspace(Contraction *c, CuScope *s, int width)
{
    cu_line(s, "float *q = ws + %s;", c->shares ? PLACE_IN_SHARES : "(((i64)split * BATCHES + z) * ROWS + m) * COLS + n");
    if (width == CU_WIDTH && (c->shares || poly_divides(c->columns, width))) {
        cu_line(s, "tc_store4(q, x0, x1, x2, x3);");
        return;
    }
    for (int i = 0; i < width; i++)
        cu_line(s, "q[%d] = x%d;", i, i);
}

/* finish1, finish4: neighbouring sums, together where they surely lie in one group of columns, else one by one. */
static void finish_function(Contraction *c, int width)
{
    Cu *l = c->l;
    CuScope root;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, c->zero);
    if (in_parts(c)) {
        to_workspace(c, &root, width);
    } else if (in_runs(c, width)) {
        epilogue(c, &root, width);
    } else {
        for (int i = 0; i < width; i++)
            cu_line(&root, "finish1(TC_PASS, split, z, m, n + %d, x%d);", i, i);
    }
    text_printf(&l->file, "TC_DEV void finish%d(TC_ARGS, i32 split, i32 z, i32 m, i32 n, %s)\n{\n%s}\n", width, sum_params(l, width),
                text_data(&root.body));
}

/* Stores x, the sum of row r of the summed side in batch z. */
static void store_sum(Contraction *c, CuScope *s)
{
    Cu *l = c->l;
    cu_bind_zero(s, c->zero);
    cu_bind_digits(s, c->outer, c->n_outer, -1, "z", false);
    cu_bind_digits(s, c->summed->grp, c->summed->n_grp, -1, "r", false);
    const char *scaled = l->k->split.sum_scale == 1 ? "x" : arena_printf(l->arena, "(x * %s)", cu_float(l, l->k->split.sum_scale));
    cu_store(s, c->sum, cu_round(s, c->sum, (CuVal){.kind = CV_F, .uniform = true, .v = {scaled}}));
}

/* finish_sum: behind the results, in a workspace as they are. */
static void finish_sum(Contraction *c)
{
    Cu *l = c->l;
    CuScope root;
    text_printf(&l->file, "#define SUMMED %d\n", !c->sum ? 0 : c->summed == &c->a ? 1 : 2);
    if (!c->sum)
        return;
    cu_scope_root(&root, l);
    if (c->shares)
        cu_line(&root, "ws[PARTIAL_RESULTS + split * %s + r %% %s] = x;", tile_of_summed(c), tile_of_summed(c));
    else if (c->splits > 1)
        cu_line(&root, "ws[PARTIAL_RESULTS + ((i64)split * BATCHES + z) * %s + r] = x;", extent_of_summed(c));
    else
        store_sum(c, &root);
    text_printf(&l->file, "TC_DEV void finish_sum(TC_ARGS, i32 split, i32 z, i32 r, float x)\n{\n%s}\n", text_data(&root.body));
}

/* ---- what finish4 loads, apart from it: a template can fetch that early (Fetched, fetch_columns, fetch_point, finish_with) */

static void find_asides(Contraction *c)
{
    Cu *l = c->l;
    uint32_t columns = cu_group_axes(c->n, c->n_n) | c->zero;
    for (int i = 1; i < n_points(c) && !in_parts(c) && in_runs(c, CU_WIDTH); i++) {
        int n = expr_loads(l->k->comp[i].body, NULL, 0);
        const Expr **load = NEWN(l->arena, const Expr *, n);
        expr_loads(l->k->comp[i].body, load, n);
        for (int k = 0; k < n; k++) {
            bool known = kernel_member(l->k, load[k]->tensor) >= 0;
            for (int j = 0; j < c->asides.n; j++)
                known = known || c->asides.at[j].load == load[k];
            if (!known)
                PUSH(l->arena, c->asides, (struct Aside){load[k], !(load[k]->axes & ~columns), cu_name(l, "a")});
        }
    }
}

/* The struct of the asides of one kind, and the function that fills it. Drops those that are no single access. */
static void fetch_function(Contraction *c, bool column)
{
    Cu *l = c->l;
    CuScope root;
    Text fields = {.arena = l->arena};
    int n = 0, n_own = 0;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, c->zero);
    if (column)
        cu_bind_digits(&root, c->n, c->n_n, -1, "n", false), root.lane = c->n[c->n_n - 1].axis, root.width = CU_WIDTH;
    else
        bind_point(c, &root, CU_WIDTH);
    for (int i = 0; i < c->asides.n; i++) {
        const struct Aside *a = &c->asides.at[i];
        const char *type, *at;
        if (a->column == column) {
            if (!cu_run(&root, a->load, &type, &at))
                continue;
            text_printf(&fields, "%s %s; ", type, a->name);
            n_own++;
            cu_line(&root, "f->%s = *(const %s *)(%s);", a->name, type, at);
        }
        c->asides.at[n++] = *a;
    }
    c->asides.n = n;
    text_printf(&l->file, "%s", column ? "" : arena_printf(l->arena, "#define POINT_LOADS %d\n", n_own));
    text_printf(&l->file, "typedef struct { %s} Fetched%s;\nTC_DEV void fetch_%s(TC_ARGS, %si32 n, Fetched%s *f)\n{\n%s}\n",
                fields.n ? text_data(&fields) : "i32 nothing; ", column ? "Columns" : "Point", column ? "columns" : "point",
                column ? "" : "i32 z, i32 m, ", column ? "Columns" : "Point", text_data(&root.body));
}

static void finish_with(Contraction *c)
{
    Cu *l = c->l;
    CuScope root;
    find_asides(c);
    fetch_function(c, true);
    fetch_function(c, false);
    cu_scope_root(&root, l);
    cu_bind_zero(&root, c->zero);
    if (in_parts(c) || !in_runs(c, CU_WIDTH)) {
        cu_line(&root, "finish4(TC_PASS, split, z, m, n, x0, x1, x2, x3);");
    } else {
        root.lane = c->n[c->n_n - 1].axis;
        root.width = CU_WIDTH;
        for (int i = 0; i < c->asides.n; i++) {
            const struct Aside *a = &c->asides.at[i];
            const char *name = arena_printf(l->arena, "%s->%s", a->column ? "columns" : "point", a->name);
            cu_load_is(&root, a->load, cu_run_value(&root, a->load, name));
        }
        epilogue(c, &root, CU_WIDTH);
    }
    text_printf(&l->file, "TC_DEV void finish_with(TC_ARGS, i32 split, i32 z, i32 m, i32 n, const FetchedColumns *columns, "
                "const FetchedPoint *point, %s)\n{\n%s}\n", sum_params(l, CU_WIDTH), text_data(&root.body));
}

static Poly all_results(const Contraction *c)
{
    return poly_mul(&c->l->places, poly_mul(&c->l->places, c->batches, c->rows), c->columns);
}

static int join_width(const Contraction *c)
{
    return poly_divides(c->n[c->n_n - 1].n, CU_WIDTH) ? CU_WIDTH : 1;
}

static TicGrid join_grid(Contraction *c)
{
    Poly threads = all_results(c);
    for (int i = 0; i < 3; i++)
        threads.c[i] /= join_width(c);
    return cu_grid(c->sum ? poly_add(threads, all_sums(c)) : threads, JOIN_THREADS);
}

/* Adds up the partial results of a place in order: they lie at ws + `at`, which mentions the part's number, `split`; of shares, `size`
 * after it the next part's. `add` takes what q points to. */
static void add_parts(const Contraction *c, CuScope *s, const char *tile, const char *at, const char *size, const char *add)
{
    if (c->shares) {
        cu_line(s, "ShareCut cut = share_all(ALL_TILES, SHARES);");
        cu_line(s, "while (cut.tiles > 0 && cut.shares > 0) {");
        cu_line(s, "    i32 split, step, parts = share_parts(&cut, %s, &split, &step);", tile);
        cu_line(s, "    const float *q = ws + %s;", at);
        cu_line(s, "    TC_UNROLL_4");
        cu_line(s, "    for (; parts > 0; parts--, q += (i64)step * (%s)) {", size);
        cu_line(s, "        %s", add);
        cu_line(s, "    }");
    } else {
        cu_line(s, "TC_UNROLL_4");
        cu_line(s, "for (int split = 0; split < SPLITS; split++) {");
        cu_line(s, "    const float *q = ws + %s;", at);
        cu_line(s, "    %s", add);
    }
    cu_line(s, "}");
}

/* Threads runs .. runs + sums - 1 */
static void join_sum(Contraction *c, CuScope *root, Poly runs)
{
    Cu *l = c->l;
    CuScope s;
    const char *rows = extent_of_summed(c), *height = tile_of_summed(c);
    cu_scope_in(&s, root);
    if (poly_is(c->batches, 1))
        cu_line(&s, "const i32 j = (i32)(i - %s), r = j, z = 0;", cu_poly(l, runs));
    else
        cu_line(&s, "const i32 j = (i32)(i - %s), r = j %% %s, z = j / %s;", cu_poly(l, runs), rows, rows);
    const char *place = c->shares ? arena_printf(l->arena, "PARTIAL_RESULTS + split * %s + j %% %s", height, height)
                                  : arena_printf(l->arena, "PARTIAL_RESULTS + split * (BATCHES * %s) + j", rows);
    cu_line(&s, "float x = 0.0f;");
    add_parts(c, &s, c->summed == &c->a ? "r / TILE_M * COLUMN_TILES" : "r / TILE_N", place, height, "x += *q;");
    store_sum(c, &s);
    cu_scope_close(&s, arena_printf(l->arena, "if (i >= %s && i < %s + BATCHES * %s) {", cu_poly(l, runs), cu_poly(l, runs), rows), "}");
}

/* Partial results to final ones: a thread has `width` neighbouring columns; behind those threads, one for each sum of a side. Results
 * are fixed in number, where there are parts. */
static void join_function(Contraction *c, const char *name)
{
    Cu *l = c->l;
    int width = join_width(c);
    Poly runs = all_results(c);
    const char *type = poly_small(runs) ? "u32" : "i64";
    for (int i = 0; i < 3; i++)
        runs.c[i] /= width;
    CuScope root, s;
    cu_scope_root(&root, l);
    cu_bind_zero(&root, c->zero);
    cu_line(&root, "const i64 i = (i64)blockIdx.x * %d + threadIdx.x;", JOIN_THREADS);
    if (c->sum)
        join_sum(c, &root, runs);
    cu_line(&root, "if (i >= %s)", cu_poly(l, runs));
    cu_line(&root, "    return;");
    cu_line(&root, "const %s at = (%s)i * %d, row = at / COLS;", type, type, width);
    if (poly_is(c->batches, 1))
        cu_line(&root, "const i32 n = (i32)(at %% COLS), m = (i32)row, z = 0;");
    else
        cu_line(&root, "const i32 n = (i32)(at %% COLS), m = (i32)(row %% ROWS), z = (i32)(row / ROWS);");
    for (int k = 0; k < width; k++)
        cu_line(&root, "float x%d = 0.0f;", k);
    const char *place = c->shares ? PLACE_IN_SHARES : arena_printf(l->arena, "(split * %s + i) * %d", cu_poly(l, runs), width);
    add_parts(c, &root, "m / TILE_M * COLUMN_TILES + n / TILE_N", place, "TILE_M * TILE_N",
              width == CU_WIDTH ? "const v4f v = *(const v4f *)q; x0 += v.x, x1 += v.y, x2 += v.z, x3 += v.w;" : "x0 += *q;");
    cu_scope_in(&s, &root);
    epilogue(c, &s, width);
    cu_scope_close(&s, "{", "}");
    text_printf(&l->file, "TC_KERNEL void TC_BOUNDS(%d, 1) %s(TC_ARGS)\n{\n%s}\n", JOIN_THREADS, name, text_data(&root.body));
}

/* ---- texts */

/* Extents, each of which is a size of its own where a text gets its sizes. */
static void extents(Contraction *c)
{
    Cu *l = c->l;
    Text *t = &l->file;
    l->own_sizes.apart = true;
    const char *columns = cu_poly(l, c->columns), *rows = cu_poly(l, c->rows), *terms = cu_poly(l, c->terms);
    const char *splits = c->shares ? "1" : cu_number(l, c->splits), *parts = c->shares ? cu_number(l, cu_contract_parts(c)) : "";
    l->own_sizes.apart = false;
    text_printf(t, "#define BATCHES %s\n#define ROWS %s\n#define COLS %s\n#define TERMS %s\n#define SPLITS %s\n", cu_poly(l, c->batches),
                rows, columns, terms, splits);
    bool apart = c->splits > 1 && !c->shares;
    text_printf(t, apart ? "#define SPLIT_TERMS ((TERMS + SPLITS * %d - 1) / (SPLITS * %d) * %d)\n" : "#define SPLIT_TERMS TERMS\n",
                CONTRACT_UNIT, CONTRACT_UNIT, CONTRACT_UNIT);
    if (c->shares)
        text_printf(t, "#define PARTIAL_RESULTS ((i64)%s * TILE_M * TILE_N)\n#define COLUMN_TILES ((COLS + TILE_N - 1) / TILE_N)\n"
                    "#define ALL_TILES ((ROWS + TILE_M - 1) / TILE_M * COLUMN_TILES)\n", parts);
    else if (apart)
        text_printf(t, "#define PARTIAL_RESULTS ((i64)SPLITS * BATCHES * ROWS * COLS)\n");
    text_printf(t, "#define ROWS_BY %d\n#define COLS_BY %d\n", power_of_two(c->rows), power_of_two(c->columns));
}

static void arguments(Cu *l, Text *t)
{
    text_printf(t, "#define TC_ARGS %s\n#define TC_PASS %s\n", cu_params(l, false), cu_params(l, true));
}

static void any_text(Contraction *c, const char *kernel, const char *join)
{
    Cu *l = c->l;
    text_printf(&l->file, "#define KERNEL %s\n", kernel);
    arguments(l, &l->file);
    extents(c);
    operand(c, &c->a, 'A', 'a');
    operand(c, &c->b, 'B', 'b');
    finish_function(c, 1);
    finish_function(c, 4);
    finish_sum(c);
    text_printf(&l->file, "#define TILE_M %d\n#define TILE_N %d\n%s", c->t->tile_m, c->t->tile_n, c->t->text);
    if (join)
        join_function(c, join);
}

/* Hopper's text. With the copy engine it gets its sizes when it is launched: they matter to nothing that it does often, and half as
 * many texts are compiled. */
static void hopper_text(Contraction *c, const GemmTemplate *t, bool join)
{
    Cu *l = c->l;
    const char form[] = {c->a.unit == 1 ? 'k' : 'm', c->b.unit == 1 ? 'k' : 'm', 0};
    bool engine = t->arch == CONTRACT_HOPPER;
    Text file = l->file, head = {.arena = l->arena};
    l->file = (Text){.arena = l->arena};
    l->sizes = engine ? &l->own_sizes : NULL;
    l->n_name = 0;                       /* names are the same in each */
    extents(c);
    text_printf(&l->file, "#define TILE_M %d\n#define TILE_N %d\n", t->tile_m, t->tile_n);
    if (engine) {
        text_printf(&l->file, "#define A_UNIT %d\n#define B_UNIT %d\n#define SHARES %d\n%s", c->a.unit, c->b.unit, c->shares,
                    c->shares ? cuda_template_shares : "");
    } else {
        operand(c, &c->a, 'A', 'a');
        operand(c, &c->b, 'B', 'b');
    }
    finish_function(c, 1);
    finish_function(c, 4);
    finish_sum(c);
    if (engine) {
        finish_with(c);
        prelude_wgmma(&l->file, t->tile_n, form);
    }
    text_printf(&l->file, "%s", t->text);
    if (join)
        join_function(c, "JOIN");
    arguments(l, &head);
    l->own = arena_printf(l->arena, "%s%s", text_data(&head), text_data(&l->file));
    l->sizes = NULL;
    l->file = file;
}

bool cu_contract(Cu *l)
{
    Contraction c = {.l = l};
    if (!cu_contract_analyse(&c))
        return false;
    TicGpuHopper hopper;
    cu_contract_choose(&c, &hopper);
    const GemmTemplate *own = c.hopper;
    l->out->workspace = workspace_for(&c);
    const int shares = c.shares;         /* one workspace for both texts; results in parts are fixed in number */
    c.shares = 0;
    if (workspace_for(&c).c[0] > l->out->workspace.c[0] || !shares)
        l->out->workspace = workspace_for(&c);
    TicGrid grid = cu_grid(c.batches, 1);
    cu_grid_times(&grid, c.rows, c.t->tile_m);
    cu_grid_times(&grid, c.columns, c.t->tile_n);
    grid.y = c.splits;
    if (own) {
        hopper.tiles = cu_grid(shares ? poly_const(shares) : c.batches, 1);
        if (!shares) {
            cu_grid_times(&hopper.tiles, c.rows, own->tile_m);
            cu_grid_times(&hopper.tiles, c.columns, own->tile_n);
        }
        hopper.tiles.y = shares ? 1 : c.splits;
        l->out->hopper = hopper;
    }
    const char *kernel = cu_launch_template(l, "contract", grid, c.t->threads, c.t->shared);
    const char *join = c.splits > 1 ? cu_launch_template(l, "join", join_grid(&c), JOIN_THREADS, 0) : NULL;
    any_text(&c, kernel, join);
    c.shares = shares;
    if (own)
        hopper_text(&c, own, join);
    return !l->failed;
}
