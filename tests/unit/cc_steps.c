/* cc_steps.c -- random programs trained for a few steps, as the compiler's executables are, against the same steps of their equations in f64.
 *
 *   cc_steps                   a few fixed programs
 *   cc_steps FIRST COUNT       others
 *   cc_steps --print NUMBER    the text of one
 *
 * cc_random looks at the step's kernels one by one. Here is all that runs: the plan of memory, the order of kernels, the pool, steps in pieces,
 * the numbers that the host computes. A program is compiled twice, as it comes and with less memory and without --narrow; parameters and
 * optimiser states after each step are those of the equations, with one thread and with several the same bytes. */
#include "step_harness.h"
#include "random_program.h"
#include "train/info.h"
#include "train/step.h"

enum { STEPS = 3, TOTAL = 40 };

typedef struct Size { int64_t batch, micro; } Size;
typedef struct Run { Arena *a; const char *what, *text; Size size; Store want[STEPS], moved[STEPS]; double worst; bool less; } Run;
typedef struct Image { void *library; const TicProgram *program; const TicKernel *kernels; } Image;

static const char *folder;
static uint64_t first;
static int count;

/* ---- the batch: pictures of the third number beside a pair, captions of the 40 words that random programs know */

static void pair(int64_t step, int64_t at, float *pixels, int32_t *tokens)
{
    for (int k = 0; k < 3 * RP_IMAGE * RP_IMAGE; k++)
        pixels[k] = (float)(tic_philox(11, (uint64_t)(at * 1000 + k), (uint64_t)step).v[0] * 0x1p-31 - 1);
    for (int k = 0; k < RP_TOKENS; k++)
        tokens[k] = (int32_t)(tic_philox(12, (uint64_t)(at * 1000 + k), (uint64_t)step).v[0] % RP_VOCAB);
}

typedef struct Feed { int64_t each; } Feed;
static TicStatus feed(void *context, TicPlace at, TicBatch to)
{
    const Feed *f = context;
    float pixels[3 * RP_IMAGE * RP_IMAGE];
    int32_t tokens[RP_TOKENS];
    for (int64_t i = 0; i < f->each; i++) {
        pair(at.step, at.piece * f->each + i, pixels, tokens);
        if (to.pixels)
            memcpy(to.pixels + i * (int64_t)LEN(pixels), pixels, sizeof pixels);
        if (to.tokens)
            memcpy(to.tokens + i * RP_TOKENS, tokens, sizeof tokens);
    }
    return TIC_OK;
}

/* ---- by the equations */

static void put_host(Arena *a, Store *s, int64_t step)
{
    store_put(a, s, "step", &(double){ (double)step }, 1);
    store_put(a, s, "updates", &(double){ (double)step }, 1);
    store_put(a, s, "total", &(double){ TOTAL }, 1);
    store_put(a, s, "t", &(double){ 1 }, 1);
}

static void put_batch(Arena *a, Store *s, int64_t batch, int64_t step)
{
    double *pixels = NEWN(a, double, batch * 3 * RP_IMAGE * RP_IMAGE), *tokens = NEWN(a, double, batch * RP_TOKENS);
    for (int64_t i = 0; i < batch; i++) {
        float p[3 * RP_IMAGE * RP_IMAGE];
        int32_t t[RP_TOKENS];
        pair(step, i, p, t);
        for (size_t k = 0; k < LEN(p); k++)
            pixels[i * (int64_t)LEN(p) + (int64_t)k] = p[k];
        for (int k = 0; k < RP_TOKENS; k++)
            tokens[i * RP_TOKENS + k] = t[k];
    }
    store_put(a, s, "pixels", pixels, batch * 3 * RP_IMAGE * RP_IMAGE);
    store_put(a, s, "tokens", tokens, batch * RP_TOKENS);
}

/* The first value of a parameter is drawn by its name, that of a state is 0; `shaken`: sixteen times what rounding may do beside it. */
static double start(const char *name, const Tensor *t, int64_t i, bool shaken)
{
    uint64_t hash = 1469598103934665603u;
    for (const char *c = name; *c; c++)
        hash = (hash ^ (uint8_t)*c) * 1099511628211u;
    double x = t->kind == T_STATE ? 0 : (double)(float)(tic_philox(hash, (uint64_t)i, 5).v[0] * 0x1p-31 - 1);
    return shaken ? x * (tic_philox(3, (uint64_t)i, hash).v[0] & 1 ? 1 + 0x1p-20 : 1 - 0x1p-20) : x;
}

static void by_equations(Run *r, Graph *g, bool shaken, Store *out)
{
    Store now = { .behind = NULL };
    for (int i = 0; i < g->n_tensor; i++) {
        const Tensor *t = &g->tensor[i];
        int64_t n = tensor_count(g, i, 1);
        if (t->kind != T_PARAM && t->kind != T_STATE)
            continue;
        double *x = NEWN(r->a, double, n);
        for (int64_t k = 0; k < n; k++)
            x[k] = start(t->name, t, k, shaken);
        store_put(r->a, &now, t->name, x, n);
    }
    for (int step = 0; step < STEPS; step++) {
        put_host(r->a, &now, step);
        put_batch(r->a, &now, r->size.batch, step);
        run_plain(r->a, g, &now, r->size.batch, &out[step]);
        for (int i = 0; i < out[step].at.n; i++)
            if (strcmp(out[step].at.at[i].name, "loss"))
                store_put(r->a, &now, out[step].at.at[i].name, out[step].at.at[i].value, out[step].at.at[i].n);
    }
}

/* ---- as it runs */

static bool compiled(Run *r, const char *flags, Image *out)
{
    const char *ticc = getenv("TICC") ? getenv("TICC") : "build/release/ticc";
    if (system(arena_printf(r->a, "'%s' %s/p.tic %s -D train.batch=%lld --emit=asm -o %s/p.s >%s/p.log 2>&1", ticc, folder, flags,
                            (long long)r->size.batch, folder, folder)))
        return false;
    const char *library = arena_printf(r->a, "%s/p.so", folder);
    assert_int_equal(system(arena_printf(r->a, "cc -shared -o %s %s/p.s -lm", library, folder)), 0);
    out->library = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    if (!out->library)
        fail_msg("%s", dlerror());
    out->program = dlsym(out->library, "tic_program");
    out->kernels = dlsym(out->library, "tic_kernels");
    unlink(library);
    return true;
}

static void begin_model(TicModel *m, TicPool *pool)
{
    tic_model_init(m, pool, 7);
    for (int i = 0; i < m->n_params; i++)
        for (int64_t k = 0; k < m->params[i].count; k++)
            m->param[i][k] = (float)start(tic_text(m->program, m->params[i].name), &(Tensor){ .kind = T_PARAM }, k, false);
    tic_model_changed(m);
}

/* The largest number of a state of all parameters ("exp_avg:..."), or of the parameters. */
static double largest_of_kind(const Store *s, const char *name)
{
    size_t kind = strchr(name, ':') ? (size_t)(strchr(name, ':') - name) + 1 : 0;
    double most = 0;
    for (int i = 0; i < s->at.n; i++) {
        const Named *x = &s->at.at[i];
        if (kind ? strncmp(x->name, name, kind) : strchr(x->name, ':') || !strncmp(x->name, "gradient of ", 12))
            continue;
        for (int64_t k = 0; k < x->n; k++)
            most = fmax(most, fabs(x->value[k]));
    }
    return most;
}

/* How far a tensor may be off for its numbers: a state (and the loss) by 1e-4 of the largest, a parameter by that of the largest change, and by
 * a few roundings. What is small beside the same of other parameters is a sum whose terms cancelled, here or behind. */
static double allowed(const Run *r, const Named *want, int step, bool param)
{
    double size = fmax(1e-3, 0.1 * largest_of_kind(&r->want[step], want->name)), change = 0;
    for (int64_t k = 0; k < want->n; k++) {
        size = fmax(size, fabs(want->value[k]));
        change = fmax(change, fabs(want->value[k] - start(want->name, &(Tensor){ .kind = T_PARAM }, k, false)));
    }
    return param ? 1e-4 * change + 4e-6 * size : 1e-4 * size;
}

/* As far from the equations as f32 takes it, given how far a little of the start takes them. */
static void compare_one(Run *r, const char *name, const float *got, int64_t n, int step, bool param, const char *how)
{
    const Named *want = store_find(&r->want[step], name), *moved = store_find(&r->moved[step], name);
    if (!want || want->n != n)
        fail_msg("%s: the equations do not have `%s`\n%s", r->what, name, r->text);
    double most = allowed(r, want, step, param), off = 0;
    for (int64_t k = 0; k < n; k++)
        off = fmax(off, fabs(want->value[k] - moved->value[k]));
    for (int64_t k = 0; k < n; k++) {
        double apart = fabs((double)got[k] - want->value[k]);
        if (!(apart <= most + off))
            fail_msg("%s, %s: after step %d %s[%lld] is %.9g, by the equations %.9g (%.2g off is allowed; a start a little off makes a difference of "
                     "%.2g)\n%s", r->what, how, step + 1, name, (long long)k, (double)got[k], want->value[k], most, off, r->text);
        r->worst = fmax(r->worst, apart / (most + off));
    }
}

static void compare_model(Run *r, const TicModel *m, double loss, int step, const char *how)
{
    float number = (float)loss;
    compare_one(r, "loss", &number, 1, step, false, how);
    for (int i = 0; i < m->n_params; i++)
        compare_one(r, tic_text(m->program, m->params[i].name), m->param[i], m->params[i].count, step, true, how);
    for (int i = 0; i < m->n_states; i++)
        compare_one(r, tic_text(m->program, m->states[i].name), m->state[i], m->states[i].count, step, false, how);
}

static void good(Run *r, TicStatus status, const char *how)
{
    if (status)
        fail_msg("%s, %s: %s\n%s", r->what, how, tic_error(), r->text);
}

/* All steps with so many threads; the hash of what they leave. */
static uint64_t train(Run *r, const Image *image, int threads, int64_t micro, const char *how)
{
    TicPool *pool = tic_pool_new(threads);
    TicModel *m;
    TicStep *s;
    TicStepSize size;
    uint64_t hash = 0;
    good(r, tic_model_new(image->program, image->kernels, &m), how);
    begin_model(m, pool);
    good(r, tic_step_size(image->program, r->size.batch, micro, false, &size), how);
    good(r, tic_step_open(m, pool, size, &s), how);
    Feed f = { size.micro ? size.micro : r->size.batch };
    tic_step_set(s, "total", TOTAL);
    tic_step_set(s, "t", 1);
    for (int step = 0; step < STEPS; step++) {
        double loss;
        tic_step_set(s, "step", step);
        tic_step_set(s, "updates", step);
        good(r, tic_step_gradient(s, step, step + 1 < STEPS, feed, &f, &loss), how);
        good(r, tic_step_update(s), how);
        compare_model(r, m, loss, step, how);
        hash = tic_hash(m->memory, m->bytes, hash);
    }
    tic_step_close(s);
    tic_model_free(m);
    tic_pool_free(pool);
    return hash;
}

static void train_twice(Run *r, const Image *image, int64_t micro, const char *how)
{
    uint64_t one = train(r, image, 1, micro, how), more = train(r, image, 3, micro, how);
    if (one != more)
        fail_msg("%s, %s: one thread and three do not leave the same bytes\n%s", r->what, how, r->text);
}

/* ---- one program */

static void write_text(const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/p.tic", folder);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void log_of(Run *r)
{
    (void)!system(arena_printf(r->a, "cat %s/p.log >&2", folder));
    fail_msg("%s: ticc refuses it\n%s", r->what, r->text);
}

/* Numbers that are equal but for rounding are compared, or one stands where a function jumps: what comes out is nobody's fault. */
static bool jumps(const Run *r, int step)
{
    double x = store_find(&r->want[step], "loss")->value[0], y = store_find(&r->moved[step], "loss")->value[0];
    return !(fabs(x - y) <= 1e-3 * fmax(fabs(x), 0.1));
}

/* false: no number comes out, a parameter has no say, or it is chance what comes out. */
static bool add_text(Run *r)
{
    static const int percent[] = { 75, 92, 200 };      /* of what the step needs as it comes; not every program can do with less */
    Program *plain = step_graph(r->a, r->text, false, false);
    Image image;
    if (!plain || !step_graph(r->a, r->text, true, true))        /* the driver refuses it by what is left after the passes */
        return false;
    by_equations(r, plain->graph, false, r->want);
    for (int step = 0; step < STEPS; step++)
        if (!isfinite(store_find(&r->want[step], "loss")->value[0]))
            return false;
    by_equations(r, plain->graph, true, r->moved);
    for (int step = 0; step < STEPS; step++)
        if (jumps(r, step))
            return false;
    write_text(r->text);
    if (!compiled(r, r->size.micro ? "-D train.micro=1" : "", &image))
        log_of(r);
    train_twice(r, &image, 0, "at once");
    if (r->size.micro)
        train_twice(r, &image, r->size.micro, arena_printf(r->a, "in pieces of %lld", (long long)r->size.micro));
    int64_t bytes = tic_step_bytes(image.program, (TicStepSize){ r->size.batch, 0, false }, TIC_CPU) + tic_model_bytes(image.program);
    dlclose(image.library);
    for (size_t i = 0; i < LEN(percent); i++) {
        if (!compiled(r, arena_printf(r->a, "--narrow=off --memory %lld", (long long)bytes * percent[i] / 100), &image))
            continue;
        train_twice(r, &image, 0, arena_printf(r->a, "not narrow, in %d %% of the memory", percent[i]));
        r->less = percent[i] < 100;
        dlclose(image.library);
        break;
    }
    return true;
}

static void run_programs(uint64_t from, int n)
{
    static const int64_t batch[] = { 2, 3, 4, 6, 9 };
    char base[] = "/tmp/ticc-steps-XXXXXX";
    int dead = 0, pieces = 0, less = 0;
    double worst = 0;
    RpCover cover = { .n = 0 };
    folder = mkdtemp(base);
    assert_non_null(folder);
    for (int i = 0; i < n; i++) {
        Arena a = { 0 };
        Text t = { .arena = &a };
        uint64_t seed = from + (uint64_t)i;
        TicRandom4 v = tic_philox(seed, 0, 78);
        Run r = { .a = &a, .what = arena_printf(&a, "program %llu", (unsigned long long)seed), .size = { batch[v.v[0] % LEN(batch)], 0 } };
        if (v.v[1] & 1)
            r.size.micro = r.size.batch % 3 ? r.size.batch / 2 > 1 && r.size.batch % 2 == 0 ? r.size.batch / 2 : 1 : r.size.batch / 3;
        random_program(seed, &t, &cover);
        r.text = text_data(&t);
        bool ran = add_text(&r);
        dead += !ran;
        pieces += ran && r.size.micro;
        less += r.less;
        worst = fmax(worst, r.worst);
        arena_free(&a);
    }
    fprintf(stderr, "# %d programs, %d left out, %d in pieces, %d with less memory; at most %.2g of what they may be off\n", n, dead, pieces, less,
            worst);
    assert_true(n == 1 || (2 * dead <= n && pieces));
    Arena a = { 0 };
    assert_int_equal(system(arena_printf(&a, "rm -r %s", folder)), 0);
    arena_free(&a);
}

static void chosen(void **state) { (void)state; run_programs(first, count); }
static void fixed(void **state) { (void)state; run_programs(200, 4); }

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--print")) {
        Arena a = { 0 };
        Text t = { .arena = &a };
        RpCover cover = { .n = 0 };
        random_program(strtoull(argv[2], NULL, 10), &t, &cover);
        fputs(text_data(&t), stdout);
        arena_free(&a);
        return 0;
    }
    first = argc > 2 ? strtoull(argv[1], NULL, 10) : 0;
    count = argc > 2 ? atoi(argv[2]) : 0;
    const struct CMUnitTest few[] = { cmocka_unit_test(fixed) }, others[] = { cmocka_unit_test(chosen) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return argc > 2 ? cmocka_run_group_tests(others, NULL, NULL) : cmocka_run_group_tests(few, NULL, NULL);
}
