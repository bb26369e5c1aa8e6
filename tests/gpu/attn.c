/* attn.c -- see attn.h. */
#include "attn.h"
#include "../../compiler/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>


static int keys_of(const AttnProblem *p) { return p->keys ? p->keys : p->tokens; }

static AttnShape shape_of(const AttnProblem *p)
{
    return (AttnShape){p->tokens, keys_of(p), p->width, p->width, 2, p->causal ? p->ahead : keys_of(p) - 1};
}

static AttnPlan plan_of(bool backward, const AttnProblem *p)
{
    AttnShape s = shape_of(p);
    AttnPlan plan;
    if (p->groups ? !attn_wgmma_plan_of(backward, &s, p->groups * 4, 1, &plan) : !attn_plan(backward, &s, &plan)) {
        fprintf(stderr, "no attention for %d tokens of width %d\n", p->tokens, p->width);
        exit(1);
    }
    return plan;
}

/* ---- the text */

static const char store_float[] =
    "TC_DEV void put(float *p, float x0, float x1, float x2, float x3)\n{\n    const v4f v = {x0, x1, x2, x3};\n    *(v4f *)p = v;\n}\n";
static const char store_half[] =
    "TC_DEV void put(bf16 *p, float x0, float x1, float x2, float x3)\n{\n"
    "    const v2u v = {tc_pack(x0, x1), tc_pack(x2, x3)};\n    *(v2u *)p = v;\n}\n";

static void print_third(Text *t, char side, int third)
{
    text_printf(t, "#define %c_STRIDE (3ll * HEADS * TERMS)\n", side - 'a' + 'A');
    text_printf(t, "TC_DEV const bf16 *%c_base(TC_ARGS, i32 z)\n{\n", side);
    text_printf(t, "    return qkv + (z / HEADS) * (i64)TOKENS * %c_STRIDE + (%d * HEADS + z %% HEADS) * TERMS;\n}\n", side - 'a' + 'A', third);
}

static void print_result(Text *t, char side, int third)
{
    text_printf(t, "TC_DEV void finish_%c(TC_ARGS, i32 z, i32 m, i32 f, float x0, float x1, float x2, float x3)\n{\n", side);
    text_printf(t, "    put(d + ((z / HEADS) * (i64)TOKENS + m) * Q_STRIDE + (%d * HEADS + z %% HEADS) * TERMS + f, x0, x1, x2, x3);\n}\n", third);
}

static const char *source(bool backward, const char *text, const AttnProblem *p, const AttnPlan *plan, bool half, Arena *arena)
{
    Text t = {.arena = arena};
    AttnShape s = shape_of(p);
    const char *type = half ? "bf16" : "float";
    text_printf(&t, "#include \"tc.cuh\"\n#define KERNEL k\n#define HEADS %d\n#define TOKENS %d\n", p->heads, p->tokens);
    attn_print(&t, backward, &s, plan, NULL);
    if (backward)
        text_printf(&t, "#define TC_ARGS %s *TC_RESTRICT d, const bf16 *TC_RESTRICT qkv, const float *TC_RESTRICT bias, const bf16 *TC_RESTRICT dz, "
                    "const float *TC_RESTRICT lse, const float *TC_RESTRICT dot, i32 B\n#define TC_PASS d, qkv, bias, dz, lse, dot, B\n", type);
    else
        text_printf(&t, "#define TC_ARGS %s *TC_RESTRICT out, const bf16 *TC_RESTRICT qkv, const float *TC_RESTRICT bias, float *TC_RESTRICT lse, i32 B\n"
                    "#define TC_PASS out, qkv, bias, lse, B\n", type);
    text_printf(&t, "%s", half ? store_half : store_float);
    print_third(&t, 'q', 0);
    print_third(&t, 'k', 1);
    print_third(&t, 'v', 2);
    text_printf(&t, "TC_DEV float score(TC_ARGS, i32 z, i32 m, i32 n, float x)\n{\n    const float s = x * %.9gf%s;\n    return %s;\n}\n",
                1 / sqrt(p->width), p->bias ? " + bias[m * COLS + n]" : "", p->causal ? "n > m + REACH ? -AT_INF : s" : "s");
    if (backward) {
        text_printf(&t, "#define G_STRIDE ((i64)HEADS * FEATURES)\nTC_DEV const bf16 *g_base(TC_ARGS, i32 z)\n{\n"
                    "    return dz + (z / HEADS) * (i64)TOKENS * G_STRIDE + z %% HEADS * FEATURES;\n}\n");
        text_printf(&t, "TC_DEV void row_values(TC_ARGS, i32 z, i32 m, i32 part, i32 parts, float *r)\n{\n"
                    "    r[0] = lse[(i64)z * ROWS + m];\n    r[1] = dot[(i64)z * ROWS + m];\n}\n");
        text_printf(&t, "TC_DEV void weights(TC_ARGS, i32 z, i32 m, i32 n, float x, float y, const float *r, float *p, float *ds)\n{\n"
                    "    const float w = tc_ex2((score(TC_PASS, z, m, n, x) - r[0]) * AT_LOG2E);\n    *p = w;\n"
                    "    *ds = (y * w + r[1] * w) * %.9gf;\n}\n", 1 / sqrt(p->width));
        print_result(&t, 'q', 0);
        print_result(&t, 'k', 1);
        print_result(&t, 'v', 2);
    } else {
        text_printf(&t, "TC_DEV void statistic(TC_ARGS, i32 z, i32 m, float x)\n{\n    lse[(i64)z * ROWS + m] = x;\n}\n");
        text_printf(&t, "TC_DEV void finish_z(TC_ARGS, i32 z, i32 m, i32 f, float x0, float x1, float x2, float x3)\n{\n"
                    "    put(out + (((z / HEADS) * (i64)TOKENS + m) * HEADS + z %% HEADS) * FEATURES + f, x0, x1, x2, x3);\n}\n");
    }
    text_printf(&t, "%s", text);
    return text_data(&t);
}

static const char *text_of(bool backward, const AttnPlan *plan)
{
    static Arena arena;
    Text t = {.arena = &arena};
    attn_print_template(&t, backward, plan, NULL);
    return text_data(&t);
}

const char *attn_text(bool backward, const AttnProblem *p)
{
    AttnPlan plan = plan_of(backward, p);
    return text_of(backward, &plan);
}

const char *attn_source(bool backward, const AttnProblem *p)
{
    static Arena arena;
    AttnPlan plan = plan_of(backward, p);
    return source(backward, text_of(backward, &plan), p, &plan, true, &arena);
}

/* ---- what it should be */

typedef struct Numbers {
    size_t n_qkv, n_z, n_row, n_bias;
    float *qkv, *dz, *bias, *lse, *dot;                  /* inputs as they are rounded; the last two are the forward's results */
    double *z, *d;                                       /* results: z, and the gradient of qkv */
} Numbers;

static double half(double x) { return dev_float(dev_bf16((float)x)); }

static float *random_numbers(size_t n, float scale)
{
    float *x = malloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = dev_float(dev_bf16(dev_uniform(scale)));
    return x;
}

static double dot(const float *a, const float *b, int n)
{
    double s = 0;
    for (int i = 0; i < n; i++)
        s += (double)a[i] * b[i];
    return s;
}

/* One head of one element: p in f64 for all rows, then the rest by definition. */
static void reference(const AttnProblem *p, Numbers *x, int b, int h, bool rounded)
{
    int t = p->tokens, w = p->width, keys = keys_of(p), line = 3 * p->heads * w;
    const float *q = x->qkv + (size_t)b * (size_t)t * (size_t)line + h * w, *k = q + p->heads * w, *v = k + p->heads * w;
    double scale = 1 / sqrt(w), *s = malloc((size_t)keys * sizeof *s);
    double *dq = x->d + (q - x->qkv), *dk = dq + p->heads * w, *dv = dk + p->heads * w;
    for (int m = 0; m < t; m++) {
        size_t at = ((size_t)b * (size_t)t + (size_t)m) * (size_t)(p->heads * w) + (size_t)(h * w);
        size_t row = ((size_t)b * (size_t)p->heads + (size_t)h) * (size_t)t + (size_t)m;
        double most = -INFINITY, sum = 0, d = 0;
        for (int n = 0; n < keys; n++) {
            s[n] = p->causal && n > m + p->ahead ? -INFINITY : dot(q + m * line, k + n * line, w) * scale + (p->bias ? x->bias[m * keys + n] : 0);
            most = fmax(most, s[n]);
        }
        for (int n = 0; n < keys; n++)
            sum += exp(s[n] - most);
        double lse = most + log(sum);
        for (int n = 0; n < keys; n++) {
            double e = exp(s[n] - lse);
            e = rounded ? half(e) : e;
            for (int i = 0; i < w; i++)
                x->z[at + (size_t)i] += e * v[n * line + i];
        }
        for (int i = 0; i < w; i++)
            d -= x->z[at + (size_t)i] * x->dz[at + (size_t)i];
        x->lse[row] = (float)lse;
        x->dot[row] = (float)d;
        for (int n = 0; n < keys; n++) {
            double e = exp(s[n] - lse), ds = half((dot(x->dz + at, v + n * line, w) + d) * e * scale);
            for (int i = 0; i < w; i++) {
                dv[n * line + i] += half(e) * x->dz[at + (size_t)i];
                dk[n * line + i] += ds * q[m * line + i];
                dq[m * line + i] += ds * k[n * line + i];
            }
        }
    }
    free(s);
}

static Numbers numbers(const AttnProblem *p, bool rounded)
{
    Numbers x = {.n_z = (size_t)p->batch * (size_t)p->heads * (size_t)p->tokens * (size_t)p->width};
    x.n_qkv = 3 * x.n_z;
    x.n_row = x.n_z / (size_t)p->width;
    x.n_bias = (size_t)p->tokens * (size_t)keys_of(p);
    x.qkv = random_numbers(x.n_qkv, 1.5f);
    x.dz = random_numbers(x.n_z, 1);
    x.bias = random_numbers(x.n_bias, 2);
    x.lse = malloc(x.n_row * sizeof *x.lse);
    x.dot = malloc(x.n_row * sizeof *x.dot);
    x.z = calloc(x.n_z, sizeof *x.z);
    x.d = calloc(x.n_qkv, sizeof *x.d);
    for (int b = 0; b < p->batch; b++)
        for (int h = 0; h < p->heads; h++)
            reference(p, &x, b, h, rounded);
    return x;
}

static void free_numbers(Numbers *x)
{
    void *all[] = {x->qkv, x->dz, x->bias, x->lse, x->dot, x->z, x->d};
    for (size_t i = 0; i < LEN(all); i++)
        free(all[i]);
}

/* ---- on the device */

typedef struct Run {
    const AttnProblem *p;
    bool backward;
    AttnPlan plan;
    Kernel *kernel;
    void *out, *qkv, *bias, *dz, *lse, *dot;
} Run;

static bool launch(Run *r)
{
    int batch = 1;
    void *forward[] = {&r->out, &r->qkv, &r->bias, &r->lse, &batch};
    void *backward[] = {&r->out, &r->qkv, &r->bias, &r->dz, &r->lse, &r->dot, &batch};
    AttnShape shape = shape_of(r->p);
    uint32_t blocks = (uint32_t)(r->p->batch * r->p->heads * attn_blocks(r->backward, &shape, &r->plan));
    return dev_launch(r->kernel, blocks, 1, (uint32_t)r->plan.warps * 32,
                      r->backward ? backward : forward);
}

static void *upload_half(const float *x, size_t n)
{
    Bf16 *h = malloc(n * sizeof *h);
    for (size_t i = 0; i < n; i++)
        h[i] = dev_bf16(x[i]);
    void *p = dev_upload(h, n * sizeof *h);
    free(h);
    return p;
}

/* results from..: the largest error over the largest number; columns `from` .. of rows of `line`, `n` of each */
static double worst(const float *y, const double *want, size_t rows, size_t line, size_t from, size_t n)
{
    double most = 0, size = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t i = r * line + from; i < r * line + from + n; i++) {
            double e = fabs(y[i] - want[i]);
            most = e <= most ? most : e == e ? e : INFINITY;
            size = fmax(size, fabs(want[i]));
        }
    return most / (size > 1e-3 ? size : 1e-3);           /* with one key, ds is 0 */
}

static double compare(const Run *r, const Numbers *x)
{
    const AttnProblem *p = r->p;
    size_t n = r->backward ? x->n_qkv : x->n_z, d = (size_t)(p->heads * p->width), tokens = (size_t)p->tokens;
    float *y = malloc(n * sizeof *y), *lse = malloc(x->n_row * sizeof *lse);
    double e = 0;
    dev_download(y, r->out, n * sizeof *y);
    if (r->backward) {
        for (size_t b = 0; b < (size_t)p->batch; b++)
            for (size_t third = 0; third < 3; third++) {
                size_t rows = third ? (size_t)keys_of(p) : tokens;
                e = fmax(e, worst(y + b * tokens * 3 * d, x->d + b * tokens * 3 * d, rows, 3 * d, third * d, d));
            }
    } else {
        dev_download(lse, r->lse, x->n_row * sizeof *lse);
        e = worst(y, x->z, (size_t)p->batch * tokens, d, 0, d);
        for (size_t i = 0; i < x->n_row; i++)
            e = lse[i] == lse[i] ? fmax(e, fabs(lse[i] - x->lse[i])) : INFINITY;
    }
    free(y);
    free(lse);
    return e;
}

AttnResult attn_check(bool backward, const char *text, const AttnProblem *p, int seeds, bool values_only)
{
    Arena arena = {0};
    Run r = {.p = p, .backward = backward, .plan = plan_of(backward, p)};
    bool rounded = backward || (!r.plan.tile && !r.plan.wgmma);
    AttnResult out = {true, true, 0, rounded ? 1e-3 : 4e-3, ""};
    r.kernel = dev_kernel(source(backward, text, p, &r.plan, false, &arena), "k", p->groups ? "sm_90a" : "sm_80", r.plan.shared, &out.why);
    out.compiled = r.kernel != NULL;
    for (int seed = 1; out.compiled && seed <= seeds && !getenv("TIC_PRECOMPILE"); seed++) {
        dev_random_seed((uint64_t)seed);
        dev_seed((uint32_t)seed, values_only);
        Numbers x = numbers(p, rounded);
        size_t n = backward ? x.n_qkv : x.n_z;
        r.out = dev_alloc(n * 4);
        dev_fill(r.out, 0xff, n * 4);
        r.qkv = upload_half(x.qkv, x.n_qkv);
        r.dz = upload_half(x.dz, x.n_z);
        r.bias = dev_upload(x.bias, x.n_bias * 4);
        r.lse = dev_upload(x.lse, x.n_row * 4);
        if (!backward)
            dev_fill(r.lse, 0xff, x.n_row * 4);
        r.dot = dev_upload(x.dot, x.n_row * 4);
        if (!launch(&r)) {
            out.launched = false;
            out.why = dev_defect();
        }
        out.error = fmax(out.error, compare(&r, &x));
        dev_free_all();
        free_numbers(&x);
    }
    dev_forget(r.kernel);
    arena_free(&arena);
    return out;
}

static void launch_again(void *r)
{
    launch(r);
}

/* `n` numbers: one piece of random ones again and again */
static void *random_halves(size_t n)
{
    enum { PIECE = 1 << 20 };
    Bf16 *piece = malloc(PIECE * sizeof *piece);
    for (size_t i = 0; i < PIECE; i++)
        piece[i] = dev_bf16(dev_uniform(1.5f));
    void *from = dev_upload(piece, PIECE * sizeof *piece);
    char *to = dev_alloc(n * sizeof *piece);
    for (size_t i = 0; i < n; i += PIECE)
        dev_copy(to + i * 2, from, (n - i < PIECE ? n - i : PIECE) * 2);
    free(piece);
    return to;
}

int attn_candidates(bool backward, const AttnProblem *p, AttnPlan *out, int cap)
{
    AttnShape s = shape_of(p);
    return attn_plans(backward, dev_arch() == 90, &s, out, cap);
}

double attn_time(bool backward, const AttnProblem *p, const AttnPlan *plan, int runs)
{
    Arena arena = {0};
    const char *why;
    Run r = {.p = p, .backward = backward, .plan = *plan};
    r.kernel = dev_kernel(source(backward, text_of(backward, &r.plan), p, &r.plan, true, &arena), "k", r.plan.wgmma ? "sm_90a" : "sm_80", r.plan.shared, &why);
    if (!r.kernel) {
        fprintf(stderr, "%s\n", why);
        return -1;
    }
    if (getenv("TIC_PRECOMPILE"))
        return 1;
    size_t n_z = (size_t)p->batch * (size_t)p->heads * (size_t)p->tokens * (size_t)p->width, n_row = n_z / (size_t)p->width;
    r.out = dev_alloc(n_z * 6);
    r.qkv = random_halves(n_z * 3);
    r.dz = random_halves(n_z);
    r.bias = dev_alloc(4);
    r.lse = dev_alloc(n_row * 4);
    dev_fill(r.lse, 0x40, n_row * 4);                    /* 3.0 */
    r.dot = dev_alloc(n_row * 4);
    dev_fill(r.dot, 0, n_row * 4);
    double ms = dev_time(launch_again, &r, runs);
    dev_free_all();
    dev_forget(r.kernel);
    arena_free(&arena);
    return ms;
}
