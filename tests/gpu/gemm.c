/* gemm.c -- see gemm.h. */
#include "gemm.h"
#include "../../compiler/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef int32_t i32;
#define TC_DEV static inline __attribute__((unused))
#define TC_NO_UNROLL
#include "../../compiler/cuda/templates/shares.cu"

extern const char cuda_template_shares[], cuda_template_gemm_mma[], cuda_template_gemm_wgmma[], cuda_template_gemm_f32[];

const GemmTemplate gemm_templates[] = {
    {"gemm_mma 128x128", cuda_template_gemm_mma, "sm_80", 128, 128, 256, 65536, false, false, false},
    {"gemm_mma 64x64", cuda_template_gemm_mma, "sm_80", 64, 64, 256, 32768, false, false, false},
    {"gemm_wgmma 128x256", cuda_template_gemm_wgmma, "sm_90a", 128, 256, 384, 4 * 49152 + 8 * 4096 + 80, true, true, false},
    {"gemm_wgmma 128x128", cuda_template_gemm_wgmma, "sm_90a", 128, 128, 384, 6 * 32768 + 8 * 4096 + 112, true, true, false},
    {"gemm_f32 128x128", cuda_template_gemm_f32, "sm_80", 128, 128, 256, 33792, false, false, true},
};
const int n_gemm_templates = LEN(gemm_templates);

bool gemm_fits(const GemmTemplate *t, const GemmProblem *p)
{
    if (t->exact && p->a.bf16 && p->b.bf16)              /* not chosen for these */
        return false;
    if (p->shares && !t->maps)
        return false;
    return !t->maps || (p->a.bf16 && p->b.bf16 && p->a.vec == 8 && p->b.vec == 8 && p->batches == 1 && !p->a.fold && !p->b.fold);
}

static bool is_long(const GemmProblem *p)
{
    return p->summed && p->terms >= GEMM_LONG;
}

/* what errors are relative to */
static double size_of_sums(const GemmProblem *p)
{
    return is_long(p) ? p->terms : sqrt(p->terms);
}

/* One side in memory: strides in elements, and how many elements there are. */
typedef struct Layout { int64_t row, term, outer, batch, count; } Layout;

enum { GAP = 8 };
/* gap: elements between lines, so that a line's end is not the next one's begin */
static Layout layout(const GemmSide *s, int rows, int terms, int batches, int gap)
{
    Layout l = {0};
    int outer = s->fold ? (rows + s->fold - 1) / s->fold : 1, inner = s->fold ? s->fold : rows;
    if (s->unit == 2) {
        l.row = 1;
        l.outer = inner + (s->fold ? gap : 0);
        l.term = (outer * l.outer + 7) / 8 * 8 + gap;
        l.batch = terms * l.term;
    } else {
        l.term = s->unit == 1 ? 1 : 2;
        l.row = (l.term * terms + 7) / 8 * 8 + (s->fold ? 0 : gap);
        l.outer = inner * l.row + gap;
        l.batch = outer * l.outer;
    }
    l.count = l.batch * batches;
    return l;
}

static int64_t offset(const GemmSide *s, const Layout *l, int row)
{
    return s->fold ? row / s->fold * l->outer + row % s->fold * l->row : row * l->row;
}

static void print_side(Text *t, char side, const GemmSide *s, const Layout *l)
{
    char big = (char)(side - 'a' + 'A');
    text_printf(t, "#define %c_BF16 %d\n#define %c_UNIT %d\n#define %c_VEC %d\n", big, s->bf16, big, s->unit, big, s->vec);
    text_printf(t, "#define %c_ROW_STRIDE %lld\n#define %c_TERM_STRIDE %lld\n", big, s->fold ? 0 : (long long)l->row, big,
                (long long)l->term);
    text_printf(t, "TC_DEV const %c_T *%c_base(TC_ARGS, i32 z) { return p%c + (i64)z * %lld; }\n", big, side, side,
                (long long)l->batch);
    if (s->fold)
        text_printf(t, "TC_DEV i64 %c_row(i32 m, i32 B) { return (i64)(m / %d) * %lld + (i64)(m %% %d) * %lld; }\n", side, s->fold,
                    (long long)l->outer, s->fold, (long long)l->row);
    else
        text_printf(t, "TC_DEV i64 %c_row(i32 m, i32 B) { return (i64)m * %lld; }\n", side, (long long)l->row);
    text_printf(t, "TC_DEV i64 %c_term(i32 k, i32 B) { return (i64)k * %lld; }\n", side, (long long)l->term);
}

static const char place[] =
    "TC_DEV i64 y_at(i32 split, i32 z, i32 m, i32 n, i32 B) { return (((i64)split * BATCHES + z) * ROWS + m) * COLS + n; }\n";
/* of parts in shares: each has a whole tile's place */
static const char place_in_shares[] =
    "TC_DEV i64 y_at(i32 split, i32 z, i32 m, i32 n, i32 B) { return ((i64)split * TILE_M + m % TILE_M) * TILE_N + n % TILE_N; }\n";
static const char finish[] =
    "TC_DEV void finish1(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x) { y[y_at(split, z, m, n, B)] = x; }\n"
    "TC_DEV void finish4(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x0, float x1, float x2, float x3)\n{\n"
    "    const v4f v = {x0, x1, x2, x3};\n"
    "    if (COLS % 4 == 0) {\n        *(v4f *)(y + y_at(split, z, m, n, B)) = v;\n        return;\n    }\n"
    "    finish1(TC_PASS, split, z, m, n, x0);\n    finish1(TC_PASS, split, z, m, n + 1, x1);\n"
    "    finish1(TC_PASS, split, z, m, n + 2, x2);\n    finish1(TC_PASS, split, z, m, n + 3, x3);\n}\n";

static const char finish_sum[] =
    "TC_DEV void finish_sum(TC_ARGS, i32 split, i32 z, i32 r, float x)\n{\n"
    "    y[RESULTS + (SHARES ? split * (SUMMED == 1 ? TILE_M : TILE_N) + r % (SUMMED == 1 ? TILE_M : TILE_N)\n"
    "                        : ((i64)split * BATCHES + z) * (SUMMED == 1 ? ROWS : COLS) + r)] += x;\n}\n";
static const char finish_half[] =
    "TC_DEV void finish1(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x) { ((bf16 *)y)[y_at(split, z, m, n, B)] = tc_bf(x); }\n"
    "TC_DEV void finish4(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x0, float x1, float x2, float x3)\n{\n"
    "    const v2u v = {tc_pack(x0, x1), tc_pack(x2, x3)};\n"
    "    *(v2u *)((bf16 *)y + y_at(split, z, m, n, B)) = v;\n}\n";
static const char finish_gelu[] =
    "TC_DEV float gelu(float x) { return 0.5f * x * (1.f + tc_tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }\n"
    "TC_DEV void finish1(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x) { }\n"
    "TC_DEV void finish4(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x0, float x1, float x2, float x3)\n{\n"
    "    const v2u c = *(const v2u *)((const bf16 *)pb + n);\n"
    "    x0 += tc_lo(c.x); x1 += tc_hi(c.x); x2 += tc_lo(c.y); x3 += tc_hi(c.y);\n"
    "    const v2u h = {tc_pack(x0, x1), tc_pack(x2, x3)}, a = {tc_pack(gelu(x0), gelu(x1)), tc_pack(gelu(x2), gelu(x3))};\n"
    "    const i64 at = y_at(0, z, m, n, B);\n"
    "    *(v2u *)((bf16 *)y + at) = h;\n    *(v2u *)((bf16 *)y + (i64)ROWS * COLS + at) = a;\n}\n";
static const char *const finishes[] = {finish, finish_half, finish_gelu};
/* What Hopper's template fetches early: nothing, or (to be checked) where it was fetched for, so that a result finished
 * with another place's numbers is a NaN. */
static const char apart[] =
    "#define POINT_LOADS 0\ntypedef struct { i32 nothing; } FetchedColumns, FetchedPoint;\n"
    "TC_DEV void fetch_columns(TC_ARGS, i32 n, FetchedColumns *f) { }\n"
    "TC_DEV void fetch_point(TC_ARGS, i32 z, i32 m, i32 n, FetchedPoint *f) { }\n"
    "TC_DEV void finish_with(TC_ARGS, i32 split, i32 z, i32 m, i32 n, const FetchedColumns *columns, const FetchedPoint *point,\n"
    "                        float x0, float x1, float x2, float x3) { finish4(TC_PASS, split, z, m, n, x0, x1, x2, x3); }\n";
static const char apart_checked[] =
    "#define POINT_LOADS 1\ntypedef struct { i32 n; } FetchedColumns;\ntypedef struct { i32 m, n; } FetchedPoint;\n"
    "TC_DEV void fetch_columns(TC_ARGS, i32 n, FetchedColumns *f) { f->n = n; }\n"
    "TC_DEV void fetch_point(TC_ARGS, i32 z, i32 m, i32 n, FetchedPoint *f) { f->m = m; f->n = n; }\n"
    "TC_DEV void finish_with(TC_ARGS, i32 split, i32 z, i32 m, i32 n, const FetchedColumns *columns, const FetchedPoint *point,\n"
    "                        float x0, float x1, float x2, float x3)\n{\n"
    "    const float is = columns->n == n && point->m == m && point->n == n ? 0.f : tc_float(0x7fc00000u);\n"
    "    finish4(TC_PASS, split, z, m, n, x0 + is, x1 + is, x2 + is, x3 + is);\n}\n";

static int tiles_of(int n, int tile) { return (n + tile - 1) / tile; }
static int all_tiles(const GemmTemplate *t, const GemmProblem *p) { return tiles_of(p->rows, t->tile_m) * tiles_of(p->cols, t->tile_n); }

static int parts_of(const GemmTemplate *t, const GemmProblem *p)
{
    int a = all_tiles(t, p), b = p->shares, sum = a + b;
    while (b) {
        int rest = a % b;
        a = b;
        b = rest;
    }
    return p->shares ? sum - a : p->splits;
}

/* floats that a launch leaves, and behind them those of the sums of a side */
static size_t results_of(const GemmTemplate *t, const GemmProblem *p)
{
    size_t of_part = p->shares ? (size_t)t->tile_m * (size_t)t->tile_n : (size_t)p->batches * (size_t)p->rows * (size_t)p->cols;
    return (size_t)parts_of(t, p) * of_part;
}

static size_t sums_of(const GemmTemplate *t, const GemmProblem *p)
{
    int rows = p->summed == 1 ? p->rows : p->cols, tile = p->summed == 1 ? t->tile_m : t->tile_n;
    return p->summed ? (size_t)parts_of(t, p) * (size_t)(p->shares ? tile : p->batches * rows) : 0;
}

/* The batch B is 1 in these prologues, and rows are B * rows, so that the count is known at run time alone. */
static const char *source(const GemmTemplate *t, const char *text, const GemmProblem *p, const Layout *la, const Layout *lb, bool checked,
                          Arena *arena)
{
    Text s = {.arena = arena};
    text_printf(&s, "#include \"tc.cuh\"\n#define TILE_M %d\n#define TILE_N %d\n#define KERNEL k\n", t->tile_m, t->tile_n);
    text_printf(&s, "#define A_T %s\n#define B_T %s\n", p->a.bf16 ? "bf16" : "float", p->b.bf16 ? "bf16" : "float");
    text_printf(&s, "#define TC_ARGS float *y, const A_T *pa, const B_T *pb, i32 B\n#define TC_PASS y, pa, pb, B\n");
    text_printf(&s, "#define ROWS (B * %d)\n#define COLS %d\n#define TERMS %d\n#define BATCHES %d\n", p->rows, p->cols, p->terms,
                p->batches);
    text_printf(&s, "#define ROWS_BY %d\n#define COLS_BY %d\n", p->rows, p->cols);
    text_printf(&s, "#define SPLITS %d\n#define SPLIT_TERMS %d\n", p->splits, p->splits > 1 ? p->split_terms : p->terms);
    text_printf(&s, "#define SHARES %d\n#define RESULTS %zuu\n%s", p->shares, results_of(t, p), p->shares ? cuda_template_shares : "");
    print_side(&s, 'a', &p->a, la);
    print_side(&s, 'b', &p->b, lb);
    text_printf(&s, "#define SUMMED %d\n#define %c_FLOAT(x) %s\n#define %c_FLOAT(x) %s\n", p->summed, 'A', p->a.bf16 ? "tc_f(x)" : "(x)", 'B',
                p->b.bf16 ? "tc_f(x)" : "(x)");
    text_printf(&s, "%s%s%s%s%s", p->shares ? place_in_shares : place, finishes[p->finish], p->summed ? finish_sum : "", !t->maps ? "" : checked ? apart_checked : apart, text);
    return text_data(&s);
}

static uint32_t blocks(const GemmTemplate *t, const GemmProblem *p)
{
    int64_t n = p->shares ? p->shares : (int64_t)all_tiles(t, p) * p->batches;
    if (t->persistent)                                   /* splits are more tiles */
        n *= p->splits;
    return (uint32_t)(t->persistent && n > dev_processors() ? dev_processors() : n);
}

static TensorMap side_map(const void *p, const GemmSide *s, const Layout *l, int rows, int terms, uint32_t tile)
{
    uint64_t k_major[] = {(uint64_t)terms, (uint64_t)rows}, mn_major[] = {(uint64_t)rows, (uint64_t)terms};
    uint64_t stride[] = {(uint64_t)(s->unit == 1 ? l->row : l->term) * 2};
    uint32_t box[] = {64, s->unit == 1 ? tile : 64};
    return dev_map(p, true, 2, s->unit == 1 ? k_major : mn_major, stride, box);
}

typedef struct Run {
    const GemmTemplate *t;
    const GemmProblem *p;
    Kernel *kernel;
    void *a, *b, *y;
    TensorMap map_a, map_b;
} Run;

static bool launch(Run *r)
{
    int batch = 1;
    void *args[] = {&r->map_a, &r->map_b, &r->y, &r->a, &r->b, &batch};
    return dev_launch(r->kernel, blocks(r->t, r->p), (uint32_t)(r->t->persistent ? 1 : r->p->splits), (uint32_t)r->t->threads,
                      r->t->maps ? args : args + 2);
}

/* random numbers of one side, as the device has them and (in `value`) as they are multiplied: after rounding to bf16, unless exact */
static void *random_side(const GemmSide *s, const Layout *l, bool exact, bool positive, double *value)
{
    enum { MANY = 1 << 22 };
    size_t n = (size_t)l->count;
    if (!value && n > MANY) {                            /* to be timed: one piece again and again */
        Layout piece = {.count = MANY};
        size_t size = s->bf16 ? 2 : 4;
        char *from = random_side(s, &piece, exact, positive, NULL), *to = dev_alloc(n * size);
        for (size_t i = 0; i < n; i += MANY)
            dev_copy(to + i * size, from, (n - i < MANY ? n - i : MANY) * size);
        return to;
    }
    char *data = malloc(n * 4);
    for (size_t i = 0; i < n; i++) {
        float x = positive ? fabsf(dev_uniform(1)) : dev_uniform(1);
        Bf16 h = dev_bf16(x);
        if (s->bf16)
            memcpy(data + 2 * i, &h, 2);
        else
            memcpy(data + 4 * i, &x, 4);
        if (value)
            value[i] = exact && !s->bf16 ? x : dev_float(h);
    }
    void *p = dev_upload(data, n * (s->bf16 ? 2 : 4));
    free(data);
    return p;
}

static void prepare(Run *r, const Layout *la, const Layout *lb)
{
    if (!r->t->maps)
        return;
    r->map_a = side_map(r->a, &r->p->a, la, r->p->rows, r->p->terms, (uint32_t)r->t->tile_m);
    r->map_b = side_map(r->b, &r->p->b, lb, r->p->cols, r->p->terms, (uint32_t)r->t->tile_n);
}

/* Where a part of the sums is, and what it is of: terms from .. to - 1 of batch z's results m < rows, n < cols behind (m0, n0). */
typedef struct Part { int z, m0, n0, rows, cols, from, to; const float *y; int line; } Part;

static double larger(double most, double error) { return error <= most ? most : error == error ? error : INFINITY; }

static double worst(const GemmProblem *p, const Layout *la, const Layout *lb, const double *a, const double *b, const Part *part)
{
    double most = 0;
    for (int m = 0; m < part->rows && part->m0 + m < p->rows; m++)
        for (int n = 0; n < part->cols && part->n0 + n < p->cols; n++) {
            const double *pa = a + part->z * la->batch + offset(&p->a, la, part->m0 + m);
            const double *pb = b + part->z * lb->batch + offset(&p->b, lb, part->n0 + n);
            double s = 0;
            for (int k = part->from; k < part->to && k < p->terms; k++)
                s += pa[k * la->term] * pb[k * lb->term];
            most = larger(most, fabs(part->y[(int64_t)m * part->line + n] - s) / size_of_sums(p));
        }
    return most;
}

/* of the sums of a side, x, from row r0 on, which lie at y; each was added to a zero once */
static double worst_sum(const GemmProblem *p, const Layout *l, const double *x, const Part *part, int r0, int rows, const float *y)
{
    const GemmSide *s = p->summed == 1 ? &p->a : &p->b;
    double most = 0;
    for (int r = 0; r < rows && r0 + r < (p->summed == 1 ? p->rows : p->cols); r++) {
        double sum = 0;
        for (int k = part->from; k < part->to && k < p->terms; k++)
            sum += x[part->z * l->batch + offset(s, l, r0 + r) + k * l->term];
        most = larger(most, fabs(y[r] - sum) / size_of_sums(p));
    }
    return most;
}

static double worst_of_splits(const GemmProblem *p, const Layout *la, const Layout *lb, const double *a, const double *b, const float *y,
                              const float *sums)
{
    double most = 0;
    int rows = p->summed == 1 ? p->rows : p->cols;
    for (int split = 0; split < p->splits; split++)
        for (int z = 0; z < p->batches; z++, y += p->rows * p->cols, sums += rows) {
            int from = p->splits > 1 ? split * p->split_terms : 0, to = p->splits > 1 ? from + p->split_terms : p->terms;
            const Part part = {z, 0, 0, p->rows, p->cols, from, to, y, p->cols};
            most = larger(most, worst(p, la, lb, a, b, &part));
            if (p->summed)
                most = larger(most, worst_sum(p, p->summed == 1 ? la : lb, p->summed == 1 ? a : b, &part, 0, rows, sums));
        }
    return most;
}

static double worst_of_shares(const GemmTemplate *t, const GemmProblem *p, const Layout *la, const Layout *lb, const double *a, const double *b,
                              const float *y, const float *sums)
{
    enum { STAGE = 64 };
    double most = 0;
    int columns = tiles_of(p->cols, t->tile_n), height = p->summed == 1 ? t->tile_m : t->tile_n;
    for (int share = 0; share < p->shares; share++) {
        ShareCut cut = share_all(all_tiles(t, p), p->shares);
        for (SharePart s; share_next(&cut, share, (p->terms + STAGE - 1) / STAGE, &s);) {
            const Part part = {0, s.tile / columns * t->tile_m, s.tile % columns * t->tile_n, t->tile_m, t->tile_n, s.from * STAGE,
                               (s.from + s.n) * STAGE, y + (int64_t)s.part * t->tile_m * t->tile_n, t->tile_n};
            most = larger(most, worst(p, la, lb, a, b, &part));
            if (p->summed && (p->summed == 1 ? part.n0 : part.m0) == 0)
                most = larger(most, worst_sum(p, p->summed == 1 ? la : lb, p->summed == 1 ? a : b, &part, p->summed == 1 ? part.m0 : part.n0,
                                              height, sums + s.part * height));
        }
    }
    return most;
}

static void want_wgmma(const GemmTemplate *t, const GemmProblem *p)
{
    char form[] = {p->a.unit == 1 ? 'k' : 'm', p->b.unit == 1 ? 'k' : 'm', 0};
    if (t->maps)
        dev_wgmma(t->tile_n, form);
}

GemmResult gemm_check(const GemmTemplate *t, const char *text, const GemmProblem *p, int seeds, bool values_only)
{
    Arena arena = {0};
    Layout la = layout(&p->a, p->rows, p->terms, p->batches, GAP), lb = layout(&p->b, p->cols, p->terms, p->batches, GAP);
    GemmResult out = {true, true, 0, ""};
    Run r = {.t = t, .p = p};
    want_wgmma(t, p);
    r.kernel = dev_kernel(source(t, text, p, &la, &lb, true, &arena), "k", t->arch, t->shared, &out.why);
    out.compiled = r.kernel != NULL;
    if (getenv("TIC_PRECOMPILE"))
        return out;
    size_t results = results_of(t, p), sums = sums_of(t, p), n = results + sums;
    double *a = malloc((size_t)la.count * sizeof *a), *b = malloc((size_t)lb.count * sizeof *b);
    float *y = malloc(n * sizeof *y);
    for (int seed = 1; out.compiled && seed <= seeds; seed++) {
        dev_random_seed((uint64_t)seed);
        dev_seed((uint32_t)seed, values_only);
        r.a = random_side(&p->a, &la, t->exact, is_long(p) && p->summed == 1, a);
        r.b = random_side(&p->b, &lb, t->exact, is_long(p) && p->summed == 2, b);
        r.y = dev_alloc(n * sizeof *y);
        dev_fill(r.y, 0xff, results * sizeof *y);
        dev_fill((float *)r.y + results, 0, sums * sizeof *y);
        prepare(&r, &la, &lb);
        if (!launch(&r)) {
            out.launched = false;
            out.why = dev_defect();
        }
        dev_download(y, r.y, n * sizeof *y);
        out.error = larger(out.error, p->shares ? worst_of_shares(t, p, &la, &lb, a, b, y, y + results)
                                                : worst_of_splits(p, &la, &lb, a, b, y, y + results));
        dev_free_all();
    }
    free(a);
    free(b);
    free(y);
    dev_forget(r.kernel);
    arena_free(&arena);
    return out;
}

const char *gemm_source(const GemmTemplate *t, const GemmProblem *p)
{
    static Arena arena;
    Layout la = layout(&p->a, p->rows, p->terms, p->batches, GAP), lb = layout(&p->b, p->cols, p->terms, p->batches, GAP);
    want_wgmma(t, p);
    return source(t, t->text, p, &la, &lb, false, &arena);
}

static void launch_again(void *r)
{
    launch(r);
}

double gemm_time(const GemmTemplate *t, const GemmProblem *p, int runs)
{
    Arena arena = {0};
    Layout la = layout(&p->a, p->rows, p->terms, p->batches, 0), lb = layout(&p->b, p->cols, p->terms, p->batches, 0);
    const char *why;
    Run r = {.t = t, .p = p};
    want_wgmma(t, p);
    r.kernel = dev_kernel(source(t, t->text, p, &la, &lb, false, &arena), "k", t->arch, t->shared, &why);
    if (!r.kernel) {
        fprintf(stderr, "%s\n", why);
        return -1;
    }
    if (getenv("TIC_PRECOMPILE"))
        return 1;
    r.a = random_side(&p->a, &la, t->exact, false, NULL);
    r.b = random_side(&p->b, &lb, t->exact, false, NULL);
    r.y = dev_alloc(results_of(t, p) * 4);               /* or two of bf16 */
    prepare(&r, &la, &lb);
    double ms = dev_time(launch_again, &r, runs);
    dev_free_all();
    dev_forget(r.kernel);
    arena_free(&arena);
    return ms;
}
