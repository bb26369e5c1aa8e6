/* check.c -- a compiled model against what OpenCLIP computed for it: features, loss, gradients, parameters after AdamW.
 *
 *     ticc MODEL.tic --emit=asm -o model.s && cc -Iruntime check.c model.s libticrt.a ... -o check
 *     ./check FIXTURE.safetensors [clip]
 *
 * Fixtures come from make_fixtures.py; recipe.py says what they hold and how inputs and weights follow from names. The
 * gradient is what the first step leaves in AdamW's first moment, (1 - beta1) g; with "clip" the program was compiled
 * with clip_norm and only losses and parameters are compared. Prints the largest error of each quantity; exit code 1
 * when one is above its limit. */
#include "ckpt/checkpoint.h"
#include "device/exec.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROJECTIONS = 8, SAMPLES = 16, DIGEST = 1 + PROJECTIONS + SAMPLES, STEPS = 10 };

typedef struct { const char *what; double limit, worst; char where[128]; int compared; } Quantity;
enum { FEATURES, LOSS, GRADIENT, AFTER_1, AFTER_10, KEY_BIAS_10, QUANTITIES };

static Quantity quantity[QUANTITIES] = {
    { .what = "features", .limit = 1e-5 },
    { .what = "loss of each step", .limit = 1e-6 },
    { .what = "gradients", .limit = 1e-5 },
    { .what = "parameters, 1 step", .limit = 1e-5 },
    { .what = "parameters, 10 steps", .limit = 3e-6 },
    { .what = "biases with a key's", .limit = 3e-5 },       /* after 10 steps: it moves by rounding alone, see README.md */
};

static void die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, tic_error());
    exit(1);
}

static void record(int which, double error, const char *where)
{
    Quantity *q = &quantity[which];
    q->compared++;
    if (!(error <= q->worst)) {          /* a NaN is the worst of all and stays */
        q->worst = isnan(error) ? INFINITY : error;
        snprintf(q->where, sizeof q->where, "%s", where);
    }
}

/* ---- recipe.py's numbers */

static const uint64_t golden = 0x9E3779B97F4A7C15u;

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static double uniform(const char *name, int64_t i)
{
    return (double)(mix(tic_hash(name, strlen(name), 0) + (uint64_t)i * golden) >> 40) / 8388608 - 1;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

static void first_value(const char *name, const TicParam *p, float logit_scale, float *out)
{
    bool ln = p->rank < 2 && ends_in(name, "weight"), table = strstr(name, "embedding");
    double fan = ends_in(name, "proj") || ends_in(name, "projection") ? (double)p->shape[0] : p->rank ? (double)(p->count / p->shape[0]) : 1;
    double scale = p->rank < 2 ? 0.2 : table ? 0.3 : sqrt(3 / fan);
    if (!strcmp(name, "logit_scale")) {
        *out = logit_scale;
    } else if (!strcmp(name, "logit_bias")) {
        *out = -10;
    } else {
        for (int64_t i = 0; i < p->count; i++)
            out[i] = (float)(ln + scale * uniform(name, i));
    }
}

static void digest(const float *x, double factor, int64_t n, double out[DIGEST])
{
    memset(out, 0, DIGEST * sizeof *out);
    for (int64_t i = 0; i < n; i++) {
        uint64_t bits = mix((uint64_t)i * golden);
        double v = x[i] * factor;
        out[0] += v * v;
        for (int j = 0; j < PROJECTIONS; j++)
            out[1 + j] += bits >> j & 1 ? -v : v;
    }
    out[0] = sqrt(out[0]);
    for (int k = 0; k < SAMPLES; k++)
        out[1 + PROJECTIONS + k] = x[(n - 1) * k / (SAMPLES - 1)] * factor;
}

/* ---- comparisons */

static void want(TicCheckpoint *ck, const char *name, int rank, const int64_t *shape, float *out)
{
    if (tic_checkpoint_read(ck, name, rank, shape, out))
        die(name);
}

/* The norm of the errors by the norm of what is wanted. The mean square of sums with random signs is, on average, the
 * square of the norm; a single element that is off by more counts too. A gradient that is 0
 * but for rounding (attention's key bias) is measured by the whole gradient of its model. */
static void compare(TicCheckpoint *ck, int which, const char *prefix, const char *name, const float *x, double factor, int64_t n,
                    double least)
{
    char *key = tic_format("%s/%s", prefix, name);
    float wanted[DIGEST];
    double got[DIGEST], square = 0, worst = 0;
    want(ck, key, 1, &(int64_t){ DIGEST }, wanted);
    digest(x, factor, n, got);
    for (int i = 0; i < DIGEST; i++) {
        double error = fabs(got[i] - (double)wanted[i]);
        if (i >= 1 && i <= PROJECTIONS)
            square += error * error / PROJECTIONS;
        else if (!(error <= worst))
            worst = error;
    }
    record(which, fmax(worst, sqrt(square)) / fmax(wanted[0], least) + (isnan(square) ? NAN : 0), name);
    free(key);
}

static double gradient_norm(TicCheckpoint *ck, const TicModel *m)
{
    double sum = 0;
    for (int i = 0; i < m->n_params; i++) {
        char *key = tic_format("grad/%s", tic_text(m->program, m->params[i].name));
        float wanted[DIGEST];
        want(ck, key, 1, &(int64_t){ DIGEST }, wanted);
        sum += (double)wanted[0] * wanted[0];
        free(key);
    }
    return sqrt(sum);
}

static void features(TicCheckpoint *ck, TicModel *m, TicPool *pool, int64_t batch, const char *entry, const char *input,
                     const void *data, size_t bytes)
{
    TicExec *x;
    char *name = tic_format("%s_features", entry);
    if (tic_exec_open(m, pool, entry, batch, &x))
        die(entry);
    memcpy(tic_exec_input(x, input), data, bytes);
    tic_exec_run(x);
    int64_t n;
    const float *got = tic_exec_output(x, name, &n);
    float *wanted = tic_alloc((size_t)n * sizeof *wanted);
    want(ck, name, 2, (int64_t[]){ batch, n / batch }, wanted);
    for (int64_t i = 0; i < n; i++)
        record(FEATURES, fabs((double)got[i] - (double)wanted[i]), name);
    free(wanted);
    free(name);
    tic_exec_close(x);
}

static void parameters(TicCheckpoint *ck, int which, const char *prefix, const TicModel *m)
{
    for (int i = 0; i < m->n_params; i++) {
        const char *name = tic_text(m->program, m->params[i].name);
        compare(ck, which == AFTER_10 && ends_in(name, "in_proj_bias") ? KEY_BIAS_10 : which, prefix, name, m->param[i], 1,
                m->params[i].count, 0);
    }
}

static void gradients(TicCheckpoint *ck, const TicModel *m)
{
    double all = gradient_norm(ck, m);
    int seen = 0;
    for (int k = 0; k < m->n_states; k++) {
        const TicParam *s = &m->states[k];
        if (strcmp(tic_text(m->program, s->role), "exp_avg"))
            continue;
        compare(ck, GRADIENT, "grad", tic_text(m->program, m->params[s->param].name), m->state[k], 1 / (1 - m->program->beta1), s->count,
                1e-3 * all);
        seen++;
    }
    if (seen != m->n_params) {
        fprintf(stderr, "found first moments of %d parameters, wanted %d\n", seen, m->n_params);
        exit(1);
    }
}

static void train(TicCheckpoint *ck, TicModel *m, TicPool *pool, int64_t batch, double total, const float *pixels, size_t pixel_bytes,
                  const int32_t *tokens, size_t token_bytes, bool clip)
{
    TicExec *x;
    const char *name = clip ? "clip/loss" : "loss";
    int64_t steps = STEPS;
    float loss[STEPS];
    for (int i = 0; i < tic_checkpoint_count(ck); i++) {          /* of the full model there are fewer */
        TicCheckpointTensor t = tic_checkpoint_tensor(ck, i);
        if (!strcmp(t.name, name) && t.rank == 1 && t.shape[0] < steps)
            steps = t.shape[0];
    }
    want(ck, name, 1, &steps, loss);
    if (tic_exec_open(m, pool, "step", batch, &x))
        die("step");
    for (int step = 0; step < steps; step++) {
        memcpy(tic_exec_input(x, "pixels"), pixels, pixel_bytes);
        memcpy(tic_exec_input(x, "tokens"), tokens, token_bytes);
        *(double *)tic_exec_input(x, "step") = step;
        *(double *)tic_exec_input(x, "total") = total;
        tic_exec_run(x);
        char where[20];
        snprintf(where, sizeof where, "step %d", step);
        record(LOSS, fabs(tic_exec_scalar(x, "loss", NAN) - (double)loss[step]) / fmax(1, fabs((double)loss[step])), where);
        if (step == 0 && !clip)
            gradients(ck, m);
        if (step == 0)
            parameters(ck, AFTER_1, clip ? "clip/after1" : "after1", m);
    }
    if (steps == STEPS)
        parameters(ck, AFTER_10, clip ? "clip/after10" : "after10", m);
    tic_exec_close(x);
}

int main(int argc, char **argv)
{
    const TicProgram *p = (const TicProgram *)(const void *)tic_program;
    TicCheckpoint *ck;
    TicModel *m;
    bool clip = argc > 2 && !strcmp(argv[2], "clip");
    if (argc < 2 || tic_program_check(p) || tic_checkpoint_open(argv[1], &ck) || tic_model_new(p, tic_kernels, &m))
        die("check");
    TicPool *pool = tic_pool_new(0);
    tic_model_init(m, pool, 0);          /* states; every parameter gets another value next */
    float plan[3];
    want(ck, "plan", 1, &(int64_t){ 3 }, plan);
    for (int i = 0; i < m->n_params; i++)
        first_value(tic_text(p, m->params[i].name), &m->params[i], plan[2], m->param[i]);
    int64_t batch = (int64_t)plan[1], n_pixels = batch * 3 * p->image_size * p->image_size, n_tokens = batch * p->context;
    float *pixels = tic_alloc((size_t)n_pixels * sizeof *pixels), *words = tic_alloc((size_t)n_tokens * sizeof *words);
    int32_t *tokens = tic_alloc((size_t)n_tokens * sizeof *tokens);
    for (int64_t i = 0; i < n_pixels; i++)
        pixels[i] = (float)(uniform("pixels", i) + 1.5 * uniform("rows", i / p->image_size));
    want(ck, "tokens", 2, (int64_t[]){ batch, p->context }, words);
    for (int64_t i = 0; i < n_tokens; i++)
        tokens[i] = (int32_t)words[i];
    size_t pixel_bytes = (size_t)n_pixels * sizeof *pixels, token_bytes = (size_t)n_tokens * sizeof *tokens;
    if (!clip) {
        features(ck, m, pool, batch, "image", "pixels", pixels, pixel_bytes);
        features(ck, m, pool, batch, "text", "tokens", tokens, token_bytes);
    }
    train(ck, m, pool, batch, (double)plan[0], pixels, pixel_bytes, tokens, token_bytes, clip);
    int code = 0;
    for (int i = 0; i < QUANTITIES; i++) {
        const Quantity *q = &quantity[i];
        if (!q->compared)
            continue;
        bool ok = q->worst <= q->limit;
        printf("%-22s %9.2e  limit %.0e  %s%s\n", q->what, q->worst, q->limit, ok ? "" : "ABOVE THE LIMIT: ", q->where);
        code |= !ok;
    }
    free(pixels);
    free(words);
    free(tokens);
    tic_model_free(m);
    tic_pool_free(pool);
    tic_checkpoint_close(ck);
    return code;
}
