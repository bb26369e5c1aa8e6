/* meet.c -- SCORE kernels of the pairs of a batch (pass/meet.c): a block is 64 samples of one side, in 8 warps, and goes through
 * the other side 64 at a time. A thread has 8 rows by 2 columns of a tile of scores in registers:
 *
 *     products      rows and columns of 16 terms at a time through shared memory, sums in f32
 *     points        pair by pair; statistics go on in accumulators of the thread's rows, joined across the warp at the end
 *     results       the scores go to shared memory, and are multiplied by 16 samples of the other side's features at a time; a
 *                   thread has 8 rows by every 32nd four of the block's features, sums in registers
 *
 * Many features are dealt out to blocks, which compute the same scores; the first of them stores statistics. Orders are fixed. */
#include "cuda/lower.h"

enum { M, N, OWN };                    /* axes */
enum { TILE = 64, THREADS = 256, WARPS = THREADS / CU_WARP, R = TILE / WARPS, C = TILE / CU_WARP, TERMS = 16, PITCH = TILE + 4,
       FEATURES = 128,                 /* of a warp's run of fours */
       MOST_FEATURES = 256,            /* of a block, all results together: a thread has R / CU_WARP sums for each */
       MOST_MEMBERS = 32 };

typedef struct Sum {
    int member;
    ScoreSum s;
    int score;                         /* RESULT: the member whose scores it sums */
    const char *name;                  /* of its sums in registers */
    int width;                         /* loads of b (and a) take so many neighbouring terms or features at once */
} Sum;

typedef struct Meet {
    Cu *l;
    Graph *g;
    const Kernel *k;
    Sum product[MOST_MEMBERS], result[MOST_MEMBERS];
    int n_product, n_result;
    CuAcc stat[MOST_MEMBERS];          /* by member; no name: it is none. Names are arrays over a thread's rows */
    int features, slices;              /* of a block, for each result; blocks side by side */
} Meet;

/* ---- what is taken */

static bool find_members(Meet *x)
{
    int most = 0;
    if (x->k->n_comp > MOST_MEMBERS)
        return false;
    for (int i = 0; i < x->k->n_comp; i++) {
        const Comp *c = &x->k->comp[i];
        ScoreRole role = score_role(x->k, c);
        if (role == SCORE_ROW || ((role == SCORE_STAT || role == SCORE_RESULT) && score_over_m(x->k, c)))
            return false;
        if (role == SCORE_POINT || role == SCORE_STAT)
            continue;
        Sum s = {.member = i, .s = score_sum(x->g, x->k, c), .score = -1, .width = 1};
        for (int j = 0; j < i && role == SCORE_RESULT; j++)
            if (x->k->comp[j].out == s.s.a->tensor)
                s.score = j;
        if (c->n_axes != OWN + 1 || !s.s.a || c->ext[OWN] == EXT_BATCH || c->ext[OWN] > 1 << 20 || (role == SCORE_RESULT && s.score < 0))
            return false;
        if (c->ext[OWN] % CU_WIDTH == 0)
            s.width = CU_WIDTH;
        if (role == SCORE_PRODUCT) {
            x->product[x->n_product++] = s;
        } else {
            x->result[x->n_result++] = s;
            most = c->ext[OWN] > most ? (int)c->ext[OWN] : most;
        }
    }
    int room = x->n_result ? MOST_FEATURES / x->n_result / FEATURES * FEATURES : 0;
    x->slices = room ? (most + room - 1) / room : 1;
    x->features = ((most + x->slices - 1) / x->slices + FEATURES - 1) / FEATURES * FEATURES;
    return !x->n_result || room;
}

bool cu_meet_taken(Graph *g, const Kernel *k)
{
    Meet x = {.g = g, .k = k};
    return find_members(&x);
}

/* ---- products */

/* `load`, with its row as the scope binds it, at terms k .. k + 3 (0 past the last) into shared memory, [TERMS][PITCH]. */
static void stage_terms(Meet *x, CuScope *row, const Sum *s, const Expr *load, const char *to)
{
    Cu *l = x->l;
    for (int c = 0; c < CU_WIDTH; c += s->width) {
        CuScope in;
        const char *k = cu_name(l, "k");
        cu_scope_in(&in, row);
        cu_bind(&in, OWN, k, false);
        in.lane = OWN;
        in.width = s->width;
        l->comp = &x->k->comp[s->member];
        CuVal v = cu_eval(&in, load);
        for (int i = 0; i < s->width; i++)
            cu_line(&in, "x%d = %s;", c + i, cu_f(&in, v, i));
        cu_line(row, "const i32 %s = k0 + part + %d;", k, c);
        cu_scope_close(&in, arena_printf(l->arena, "if (%s < %lld) {", k, (long long)x->k->comp[s->member].ext[OWN]), "}");
    }
    for (int c = 0; c < CU_WIDTH; c++)
        cu_line(row, "%s[(part + %d) * %d + place] = x%d;", to, c, PITCH, c);
}

static void one_side(Meet *x, CuScope *s, const Sum *sum, bool of_a)
{
    CuScope in, row;
    cu_scope_in(&in, s);
    cu_line(&in, "const i32 part = tid %% %d * %d, place = tid / %d, at = %s + place;", TERMS / CU_WIDTH, CU_WIDTH, TERMS / CU_WIDTH, of_a ? "m0" : "n0");
    cu_line(&in, "const i32 sample = at < B ? at : B - 1;");
    for (int i = 0; i < CU_WIDTH; i++)
        cu_line(&in, "float x%d = 0.0f;", i);
    cu_scope_in(&row, &in);
    cu_bind(&row, of_a ? M : N, "sample", false);
    stage_terms(x, &row, sum, of_a ? sum->s.a : sum->s.b, of_a ? "rows" : "columns");
    cu_scope_close(&row, "", "");
    cu_scope_close(&in, "{", "}");
}

/* The product's sums of the tile at (m0, n0). */
static void multiply_terms(Meet *x, CuScope *s, const Sum *sum)
{
    CuScope in;
    cu_line(s, "TC_UNROLL");
    cu_line(s, "for (i32 i = 0; i < %d; i++)", R * C);
    cu_line(s, "    %s[i] = 0.0f;", sum->name);
    cu_scope_in(&in, s);
    cu_line(&in, "tc_syncthreads();");
    one_side(x, &in, sum, true);
    one_side(x, &in, sum, false);
    cu_line(&in, "tc_syncthreads();");
    cu_line(&in, "TC_UNROLL");
    cu_line(&in, "for (i32 k = 0; k < %d; k++) {", TERMS);
    cu_line(&in, "    const v4f a0 = *(const v4f *)(rows + k * %d + warp * %d), a1 = *(const v4f *)(rows + k * %d + warp * %d + 4);", PITCH, R, PITCH, R);
    cu_line(&in, "    const v2f b = *(const v2f *)(columns + k * %d + lane * %d);", PITCH, C);
    cu_line(&in, "    const float a[%d] = {a0.x, a0.y, a0.z, a0.w, a1.x, a1.y, a1.z, a1.w};", R);
    cu_line(&in, "    TC_UNROLL");
    cu_line(&in, "    for (i32 i = 0; i < %d; i++) {", R);
    cu_line(&in, "        %s[i * %d] += a[i] * b.x;", sum->name, C);
    cu_line(&in, "        %s[i * %d + 1] += a[i] * b.y;", sum->name, C);
    cu_line(&in, "    }");
    cu_line(&in, "}");
    cu_scope_close(&in, arena_printf(x->l->arena, "for (i32 k0 = 0; k0 < %lld; k0 += %d) {", (long long)x->k->comp[sum->member].ext[OWN], TERMS), "}");
}

/* ---- points and statistics */

/* `body` for each row i of the thread that there is, in a scope that binds it. */
static void each_row(Meet *x, CuScope *s, void (*body)(Meet *x, CuScope *row, const Sum *sum), const Sum *sum)
{
    CuScope loop, row;
    cu_scope_in(&loop, s);
    cu_line(&loop, "const i32 m = m0 + warp * %d + i;", R);
    cu_scope_in(&row, &loop);
    cu_bind(&row, M, "m", false);
    body(x, &row, sum);
    cu_scope_close(&row, "if (m < B) {", "}");
    cu_line(s, "TC_UNROLL");
    cu_scope_close(&loop, arena_printf(x->l->arena, "for (i32 i = 0; i < %d; i++) {", R), "}");
}

/* An accumulator of row i, where `i` is the loop's. */
static CuAcc of_row(const Meet *x, int member)
{
    CuAcc a = x->stat[member];
    for (int k = 0; k < cu_acc_width(a.r); k++)
        a.v[k] = arena_printf(x->l->arena, "%s[i]", a.v[k]);
    return a;
}

static void take_pair(Meet *x, CuScope *s)
{
    Cu *l = x->l;
    for (int i = 0; i < x->n_product; i++) {
        const Sum *p = &x->product[i];
        const char *t = arena_printf(l->arena, "%s[i * %d + j]", p->name, C);
        if (p->s.scale != 1)
            t = arena_printf(l->arena, "(%s * %s)", t, cu_float(l, p->s.scale));
        cu_member_is(s, &x->k->comp[p->member], (CuVal){.kind = CV_F, .uniform = true, .v = {t}});
    }
    for (int i = 0; i < x->k->n_comp; i++)
        if (x->stat[i].v[0])
            cu_acc_take(s, of_row(x, i), cu_f(s, cu_eval_member(s, &x->k->comp[i]), 0), "n");
    for (int i = 0; i < x->n_result; i++) {
        const Comp *score = &x->k->comp[x->result[i].score];
        if (score->reducer == RED_NONE)
            cu_line(s, "y%d[i * %d + j] = %s;", i, C, cu_f(s, cu_eval_member(s, score), 0));
        else
            cu_line(s, "y%d[i * %d + j] = %s;", i, C, cu_f(s, cu_eval(s, x->result[i].s.a), 0));
    }
}

static void take_row(Meet *x, CuScope *row, const Sum *none)
{
    CuScope loop, pair;
    cu_scope_in(&loop, row);
    cu_line(&loop, "const i32 n = n0 + lane * %d + j;", C);
    cu_scope_in(&pair, &loop);
    cu_bind(&pair, N, "n", false);
    take_pair(x, &pair);
    cu_scope_close(&pair, "if (n < B) {", "}");
    cu_line(row, "TC_UNROLL");
    cu_scope_close(&loop, arena_printf(x->l->arena, "for (i32 j = 0; j < %d; j++) {", C), "}");
}

static void take_tile(Meet *x, CuScope *s)
{
    for (int i = 0; i < x->n_result; i++) {
        cu_line(s, "float y%d[%d];", i, R * C);
        cu_line(s, "TC_UNROLL");
        cu_line(s, "for (i32 i = 0; i < %d; i++)", R * C);
        cu_line(s, "    y%d[i] = 0.0f;", i);
    }
    each_row(x, s, take_row, NULL);
}

/* ---- results */

static void multiply_scores(Meet *x, CuScope *s, int i)
{
    Cu *l = x->l;
    const Sum *sum = &x->result[i];
    int runs = x->features / FEATURES, fours = x->features / CU_WIDTH;
    int64_t features = x->k->comp[sum->member].ext[OWN];
    CuScope in, four;
    if (i || !x->n_product)            /* what was there is still read */
        cu_line(s, "tc_syncthreads();");
    cu_line(s, "TC_UNROLL");
    cu_line(s, "for (i32 i = 0; i < %d; i++) {", R);
    cu_line(s, "    const v2f y = {y%d[i * %d], y%d[i * %d + 1]};", i, C, i, C);
    cu_line(s, "    *(v2f *)(scores + (warp * %d + i) * %d + lane * %d) = y;", R, PITCH, C);
    cu_line(s, "}");
    cu_scope_in(&in, s);
    cu_line(&in, "tc_syncthreads();");
    cu_scope_in(&four, &in);
    cu_line(&four, "const i32 place = e / %d, f0 = e %% %d * %d, at = n0 + k0 + place, sample = at < B ? at : B - 1;", fours, fours, CU_WIDTH);
    for (int c = 0; c < CU_WIDTH; c++)
        cu_line(&four, "float x%d = 0.0f;", c);
    for (int c = 0; c < CU_WIDTH; c += sum->width) {
        CuScope one;
        const char *f = cu_name(l, "f");
        cu_scope_in(&one, &four);
        cu_bind(&one, N, "sample", false);
        cu_bind(&one, OWN, f, false);
        one.lane = OWN;
        one.width = sum->width;
        l->comp = &x->k->comp[sum->member];
        CuVal v = cu_eval(&one, sum->s.b);
        for (int k = 0; k < sum->width; k++)
            cu_line(&one, "x%d = %s;", c + k, cu_f(&one, v, k));
        cu_line(&four, "const i32 %s = first + f0 + %d;", f, c);
        cu_scope_close(&one, arena_printf(l->arena, "if (at < B && %s < %lld) {", f, (long long)features), "}");
    }
    cu_line(&four, "const v4f x = {x0, x1, x2, x3};");
    cu_line(&four, "*(v4f *)(others + place * %d + f0) = x;", x->features);
    cu_scope_close(&four, arena_printf(l->arena, "for (i32 e = tid; e < %d; e += %d) {", TERMS * fours, THREADS), "}");
    cu_line(&in, "tc_syncthreads();");
    cu_line(&in, "TC_UNROLL_4");
    cu_line(&in, "for (i32 k = 0; k < %d; k++) {", TERMS);
    cu_line(&in, "    float a[%d];", R);
    cu_line(&in, "    TC_UNROLL");
    cu_line(&in, "    for (i32 i = 0; i < %d; i++)", R);
    cu_line(&in, "        a[i] = scores[(warp * %d + i) * %d + k0 + k];", R, PITCH);
    cu_line(&in, "    TC_UNROLL");
    cu_line(&in, "    for (i32 q = 0; q < %d; q++) {", runs);
    cu_line(&in, "        const v4f b = *(const v4f *)(others + k * %d + q * %d + lane * %d);", x->features, FEATURES, CU_WIDTH);
    cu_line(&in, "        TC_UNROLL");
    cu_line(&in, "        for (i32 i = 0; i < %d; i++) {", R);
    for (int c = 0; c < CU_WIDTH; c++)
        cu_line(&in, "            %s[(i * %d + q) * %d + %d] += a[i] * b.%c;", sum->name, runs, CU_WIDTH, c, "xyzw"[c]);
    cu_line(&in, "        }");
    cu_line(&in, "    }");
    cu_line(&in, "}");
    cu_scope_close(&in, arena_printf(l->arena, "for (i32 k0 = 0; k0 < %d; k0 += %d) {", TILE, TERMS), "}");
}

/* ---- the end */

static void store_stats(Meet *x, CuScope *row, const Sum *none)
{
    CuScope once;
    cu_scope_in(&once, row);
    for (int i = 0; i < x->k->n_comp; i++)
        if (x->stat[i].v[0])
            cu_store(&once, &x->k->comp[i], cu_acc_value(&once, of_row(x, i)));
    cu_scope_close(&once, "if (lane == 0 && blockIdx.y == 0) {", "}");
}

static void finish_stats(Meet *x, CuScope *s)
{
    CuScope row;
    bool any = false;
    cu_scope_in(&row, s);
    for (int i = 0; i < x->k->n_comp; i++)
        if (x->stat[i].v[0]) {
            cu_acc_warp(&row, of_row(x, i), CU_WARP);
            any = true;
        }
    if (!any)
        return;
    cu_line(s, "TC_UNROLL");
    cu_scope_close(&row, arena_printf(x->l->arena, "for (i32 i = 0; i < %d; i++) {", R), "}");
    each_row(x, s, store_stats, NULL);
}

static void store_result(Meet *x, CuScope *row, const Sum *sum)
{
    Cu *l = x->l;
    const Comp *c = &x->k->comp[sum->member];
    int runs = x->features / FEATURES;
    CuScope run;
    cu_scope_in(&run, row);
    for (int k = 0; k < CU_WIDTH; k += sum->width) {
        CuScope in;
        CuVal v = {.kind = CV_F, .uniform = sum->width == 1};
        const char *f = cu_name(l, "f");
        cu_scope_in(&in, &run);
        cu_bind(&in, OWN, f, false);
        in.lane = OWN;
        in.width = sum->width;
        for (int j = 0; j < sum->width; j++) {
            v.v[j] = arena_printf(l->arena, "%s[(i * %d + q) * %d + %d]", sum->name, runs, CU_WIDTH, k + j);
            if (sum->s.scale != 1)
                v.v[j] = arena_printf(l->arena, "(%s * %s)", v.v[j], cu_float(l, sum->s.scale));
        }
        cu_store(&in, c, v);
        cu_line(&run, "const i32 %s = first + q * %d + lane * %d + %d;", f, FEATURES, CU_WIDTH, k);
        cu_scope_close(&in, arena_printf(l->arena, "if (%s < %lld) {", f, (long long)c->ext[OWN]), "}");
    }
    cu_line(row, "TC_UNROLL");
    cu_scope_close(&run, arena_printf(l->arena, "for (i32 q = 0; q < %d; q++) {", runs), "}");
}

static const char *declare(Meet *x, CuScope *s, const char *first, int n, const char *type)
{
    const char *name = cu_name(x->l, "s");
    cu_line(s, "%s %s[%d];", type, name, n);
    cu_line(s, "TC_UNROLL");
    cu_line(s, "for (i32 i = 0; i < %d; i++)", n);
    cu_line(s, "    %s[i] = %s;", name, first);
    return name;
}

bool cu_meet(Cu *l)
{
    Meet x = {.l = l, .g = l->f->graph, .k = l->k};
    CuScope root, s, tile;
    if (!find_members(&x)) {
        cu_fail(l, "members that have no code");
        return false;
    }
    for (int i = 0; i < l->k->n_comp; i++)
        l->places.again[i] = score_role(l->k, &l->k->comp[i]) == SCORE_POINT;
    int shared = 4 * (2 * TERMS * PITCH + (x.n_result ? TILE * PITCH + TERMS * x.features : 0));
    cu_scope_root(&root, l);
    cu_line(&root, "float *rows = (float *)shared, *columns = rows + %d;", TERMS * PITCH);
    if (x.n_result) {
        cu_line(&root, "float *scores = columns + %d, *others = scores + %d;", TERMS * PITCH, TILE * PITCH);
        cu_line(&root, "const i32 first = (i32)blockIdx.y * %d;", x.features);
    }
    cu_line(&root, "const i32 tid = (i32)threadIdx.x, lane = tid %% %d, warp = tid / %d, m0 = (i32)blockIdx.x * %d;", CU_WARP, CU_WARP, TILE);
    cu_scope_in(&s, &root);
    for (int i = 0; i < l->k->n_comp; i++)
        if (score_role(l->k, &l->k->comp[i]) == SCORE_STAT) {
            x.stat[i].r = l->k->comp[i].reducer;
            for (int k = 0; k < cu_acc_width(x.stat[i].r); k++)
                x.stat[i].v[k] = declare(&x, &s, cu_acc_first(x.stat[i].r, k), R, x.stat[i].r == RED_ARGMAX && k ? "i32" : "float");
        }
    for (int i = 0; i < x.n_result; i++)
        x.result[i].name = declare(&x, &s, "0.0f", R * x.features / CU_WARP, "float");
    cu_scope_in(&tile, &s);
    for (int i = 0; i < x.n_product; i++) {
        x.product[i].name = cu_name(l, "s");
        cu_line(&tile, "float %s[%d];", x.product[i].name, R * C);
        multiply_terms(&x, &tile, &x.product[i]);
    }
    take_tile(&x, &tile);
    for (int i = 0; i < x.n_result; i++)
        multiply_scores(&x, &tile, i);
    cu_scope_close(&tile, arena_printf(l->arena, "for (i32 n0 = 0; n0 < B; n0 += %d) {", TILE), "}");
    finish_stats(&x, &s);
    for (int i = 0; i < x.n_result; i++)
        each_row(&x, &s, store_result, &x.result[i]);
    cu_scope_close(&s, "{", "}");
    TicGrid grid = cu_grid(poly_ext(EXT_BATCH), TILE);
    grid.y = x.slices;
    cu_launch(l, "meet", &root, grid, THREADS, 1, shared);
    return !l->failed;
}
