/* cc_random.c -- random programs: the whole step, at once and in pieces, by native kernels, against its equations.
 *
 *   cc_random                     a few fixed programs, for two processors
 *   cc_random FIRST COUNT [CPU]   others, for one processor ("native", "x86-64-v3", "x86-64", "bf16": one that multiplies pairs of bf16)
 *   cc_random --print NUMBER      the text of one, for ticc (and what it is made of)
 *
 * A program's number also says how it is compiled: precision, narrow, memory, the form of the loss, the batch and its pieces. Whatever the
 * passes, fusion and the lowering do to a graph, the numbers are those of its equations. The last lines say what the programs were made of. */
#include "step_harness.h"
#include "pass/pieces.h"
#include "random_program.h"

typedef struct Variant { bool bf16, narrow, meet, memory; int64_t batch, micro; } Variant;

/* A graph that was made kernels, and what it is to be run on. */
typedef struct Part { Case *c; Store *values; int64_t batch; const char *what; } Part;

typedef struct Run {
    Suite s;
    RpCover cover;
    ARRAY(Part) part;
    int programs, dead;                      /* dead: a parameter has no say, or the loss is no number */
} Run;

static uint64_t first;
static int count;
static const char *processor;

static Variant variant_of(uint64_t seed)
{
    static const int64_t batch[] = { 1, 2, 3, 4, 5, 6, 7, 9, 17, 33 };
    TicRandom4 r = tic_philox(seed, 0, 77);
    Variant v = { r.v[0] & 1, r.v[0] & 2, r.v[0] & 4 && !(r.v[0] & 8), !(r.v[1] % 4), batch[r.v[2] % LEN(batch)], 0 };
    if (r.v[1] & 64 && v.batch != 1 && v.batch != 2)
        v.micro = v.batch % 2 ? v.batch % 3 ? 1 : v.batch / 3 : v.batch / 2;      /* 33: eleven each */
    return v;
}

static const char *variant_text(Arena *a, const Variant *v)
{
    return arena_printf(a, "%s%s%s%s, batch %lld%s", v->bf16 ? "bf16" : "f32", v->narrow ? ", narrow" : "", v->meet ? ", meet" : "",
                        v->memory ? ", little memory" : "", (long long)v->batch,
                        v->micro ? arena_printf(a, " in pieces of %lld", (long long)v->micro) : "");
}

/* Simplified, in the precision of the variant, fused, scheduled, lowered; run exactly. */
static void add_part(Run *r, const char *text, Graph *g, const Variant *v, Store *values, int64_t batch, const char *what, Store *out)
{
    Arena *a = &r->s.arena;
    Text why = { .arena = a }, table = { .arena = a };
    Case *c = NEW(a, Case);
    const FuseOptions o = { cpu_takes_score, v->meet };
    MemoryGoal goal = { .batch = batch, .bytes = INT64_MAX };
    int64_t reached;
    *c = (Case){ .name = what, .text = text };
    if (!passes_simplify(g, NULL, NULL, &why) || (v->bf16 && !passes_precision(g, &why)) ||
        !fuse_within(graph_clone(g), &o, &goal, a, &c->f, &reached, &table, &why))
        fail_msg("%s: %s\n%s", what, text_data(&why), text);
    for (int tenth = 7; v->memory && tenth < 10; tenth++) {
        Fused less;
        goal.bytes = reached * tenth / 10;
        if (!fuse_within(graph_clone(g), &o, &goal, a, &less, &goal.bytes, &table, &why))
            continue;
        c->f = less;
        break;
    }
    run_exact(a, &c->f, values, batch, out);
    suite_lower(&r->s, c);
    PUSH(a, r->part, ((Part){ c, values, batch, what }));
}

/* ---- in pieces, as the driver and the runtime do it */

static Program *piece_program(Arena *a, const char *text, int part, const Variant *v)
{
    Diag diag;
    Text why = { .arena = a };
    Program *p = program_of(a, text, &diag);
    Graph *g = p->graph;
    bool made = true;
    forward_of(a, p, v->narrow);
    if (part == 0)
        pieces_features(g, p->loss);
    else if (part == 3) {
        int *sum = NEWN(a, int, p->n_param + 1);
        g->n_output = 0;
        graph_dce(g);
        pieces_sums(g, p->param, p->n_param, sum);
        optimise(a, p, &diag, sum);
    } else
        made = (part == 1 ? pieces_loss : pieces_piece)(g, p->loss, p->param, p->n_param, &why);
    if (!made)
        fail_msg("%s\n%s", text_data(&why), text);
    verified(a, g);
    return p;
}

/* Rows [k * micro, ..) of what has the batch in front. */
static Store *slice(Arena *a, Store *whole, const char *const *name, int n, int64_t k, const Variant *v)
{
    Store *s = NEW(a, Store);
    s->behind = whole;
    for (int i = 0; i < n; i++) {
        const Named *x = store_find(whole, name[i]);
        int64_t rows = x->n / v->batch * v->micro;
        store_put(a, s, name[i], x->value + k * rows, rows);
    }
    return s;
}

static void add_pieces(Run *r, const char *text, const Variant *v, const Store *values, Store *out, const char *how)
{
    static const char *const name[] = { "features", "loss", "piece", "update" };
    enum { MOST = 16 };
    Arena *a = &r->s.arena;
    Store *all = NEW(a, Store);                       /* what is there in turn */
    const char *cut[2 + MOST] = { "pixels", "tokens" };
    Program *p[4];
    int n = 2;
    all->behind = values;
    for (int k = 0; k < 4; k++)
        p[k] = piece_program(a, text, k, v);
    int features = p[0]->graph->n_output;
    assert_true(features <= MOST);
    for (int i = 0; i < features; i++) {              /* as runtime/train/step.c lays them */
        const Graph *g = p[0]->graph;
        int t = g->output[i].tensor;
        double *whole = NEWN(a, double, tensor_count(g, t, v->micro) * (v->batch / v->micro));
        Env env;
        for (int64_t k = 0; k < v->batch / v->micro; k++) {
            fill(a, g, slice(a, all, cut, 2, k, v), &env, v->micro);
            ran(a, p[0]->graph, &env);
            memcpy(whole + k * tensor_count(g, t, v->micro), env.value[t], (size_t)tensor_count(g, t, v->micro) * sizeof *whole);
        }
        store_put(a, all, g->output[i].name, whole, tensor_count(g, t, v->micro) * (v->batch / v->micro));
    }
    Store *made = NEW(a, Store);
    add_part(r, text, p[0]->graph, v, slice(a, all, cut, 2, 0, v), v->micro, arena_printf(a, "%s: %s", how, name[0]), made);
    add_part(r, text, p[1]->graph, v, all, v->batch, arena_printf(a, "%s: %s", how, name[1]), made = NEW(a, Store));
    for (int i = 0; i < made->at.n; i++) {
        store_put(a, all, made->at.at[i].name, made->at.at[i].value, made->at.at[i].n);
        if (!strncmp(made->at.at[i].name, "gradient:", 9))
            cut[n++] = made->at.at[i].name;
        else if (!strcmp(made->at.at[i].name, "loss"))
            store_put(a, out, "loss", made->at.at[i].value, 1);
    }
    for (int64_t k = 0; k < v->batch / v->micro; k++) {
        Store *part = slice(a, all, cut, n, k, v);
        made = NEW(a, Store);
        if (k == 0) {
            add_part(r, text, p[2]->graph, v, part, v->micro, arena_printf(a, "%s: %s", how, name[2]), made);
        } else {
            Part *piece = &r->part.at[r->part.n - 1];
            run_exact(a, &piece->c->f, part, v->micro, made);
        }
        for (int i = 0; i < made->at.n; i++)
            store_put(a, all, made->at.at[i].name, made->at.at[i].value, made->at.at[i].n);
    }
    add_part(r, text, p[3]->graph, v, all, v->micro, arena_printf(a, "%s: %s", how, name[3]), out);
}

/* ---- one program */

static void add_text(Run *r, const char *text, const Variant *v, const char *name)
{
    Arena *a = &r->s.arena;
    const char *how = arena_printf(a, "%s (%s)", name, variant_text(a, v));
    Program *plain = step_graph(a, text, false, false), *step = plain ? step_graph(a, text, true, v->narrow) : NULL;
    Store *values = NEW(a, Store), *want = NEW(a, Store), *got = NEW(a, Store);
    r->programs++;
    if (step)
        run_plain(a, plain->graph, values, v->batch, want);
    if (!step || !isfinite(store_find(want, "loss")->value[0])) {
        r->dead++;
        return;
    }
    slopes(plain, values, want, v->batch, text);
    add_part(r, text, step->graph, v, values, v->batch, how, got);
    same(got, want, 1e-7, how, text);
    if (v->micro) {
        add_pieces(r, text, v, values, got = NEW(a, Store), how);
        same(got, want, 1e-7, arena_printf(a, "%s: pieces", how), text);
    }
}

static void add_program(Run *r, uint64_t seed)
{
    Text t = { .arena = &r->s.arena };
    Variant v = variant_of(seed);
    random_program(seed, &t, &r->cover);
    add_text(r, text_data(&t), &v, arena_printf(&r->s.arena, "program %llu", (unsigned long long)seed));
}

static void run_begin(Run *r, const char *cpu)
{
    r->programs = r->dead = 0;
    memset(&r->part, 0, sizeof r->part);
    suite_open_for(&r->s, true);
    int keep = 0;
    for (int t = 0; t < r->s.n_target; t++)
        if (r->s.target[t].features ? !strcmp(cpu, "bf16") : !strcmp(cpu, r->s.target[t].cpu))
            keep = t;
    for (int t = 0; t < r->s.n_target; t++)
        if (t != keep)
            cpu_module_free(r->s.module[t]);
    r->s.module[0] = r->s.module[keep];
    r->s.target[0] = r->s.target[keep];
    r->s.n_target = 1;
}

static void run_end(Run *r)
{
    suite_link(&r->s);
    for (int i = 0; i < r->part.n; i++) {
        const Part *p = &r->part.at[i];
        lockstep(&r->s, p->c, 0, p->values, p->batch, p->what);
    }
    fprintf(stderr, "# %s: %d programs, %d graphs, %d programs left out; a kernel in f32 is at most %.2g off\n", r->s.target[0].cpu, r->programs,
            r->part.n, r->dead, r->s.worst);
    suite_close(&r->s);
}

static void run_programs(Run *r, const char *cpu, uint64_t from, int n)
{
    run_begin(r, cpu);
    for (int i = 0; i < n; i++)
        add_program(r, from + (uint64_t)i);
    run_end(r);
}

static void print_cover(const RpCover *c)
{
    fprintf(stderr, "# made of:");
    for (int i = 0; i < c->n; i++)
        fprintf(stderr, "%s %s %d", i ? "," : "", c->name[i], c->times[i]);
    fprintf(stderr, "\n");
}

static void chosen(void **state)
{
    (void)state;
    Run r = { .programs = 0 };
    run_programs(&r, processor, first, count);
    print_cover(&r.cover);
}

/* What a few programs leave out nobody would look at any more. */
static void fixed(void **state)
{
    (void)state;
    static const struct { const char *cpu; uint64_t from; int n; } part[] = { { "native", 60, 14 }, { "x86-64-v3", 74, 5 }, { "bf16", 30, 5 } };
    static const char *const must[] = { "heads that share keys", "learnt queries", "attention weights read again", "softmax by hand", "resblock",
                                        "convolution with padding", "depthwise, dilated", "rows picked repeatedly", "table by argmax",
                                        "tokens read again", "a parameter used twice", "a parameter of both towers",
                                        "one behind the other", "an axis of one", "long axes", "clip_norm", "pooling that overlaps", "ties", "neighbours",
                                        "upsampling", "nothing before the first", "rows of zeros", "broadcast", "grouped products", "indices by tokens",
                                        "a loss of words", "a matrix and its transpose", "convolution of any stride", "edge" };
    Run r = { .programs = 0 };
    for (size_t i = 0; i < LEN(part); i++)
        run_programs(&r, part[i].cpu, part[i].from, part[i].n);
    print_cover(&r.cover);
    for (size_t i = 0; i < LEN(must); i++) {
        bool there = false;
        for (int k = 0; k < r.cover.n; k++)
            there = there || !strcmp(r.cover.name[k], must[i]);
        if (!there)
            fail_msg("no program has: %s", must[i]);
    }
}

/* What random programs have found, in a few lines each: the image tower, after h[n, p, d], the loss. */
static void found(void **state)
{
    (void)state;
    static const struct { const char *name, *tower, *loss; Variant v; } known[] = {
        { "features that the loss reads the other way round", "    z[n, o] = mean[p](h[n, p, o])\n",
          "    ut[o, n] = tanh(u[n, o])\n    s[i: size(n), j: size(n)] = sum[o](ut[o, i] * v[j, o])\n    a[i] = logsumexp[j](s[i, j])\n"
          "    return mean[i](a[i] - s[i, i])\n", { .batch = 6, .micro = 2 } },
        { "an exponential that leaves f32", "    q[n, p, o] = quick_gelu(300 * h[n, p, o])\n    z[n, o] = mean[p](q[n, p, o]) / 300\n",
          "    return clip_loss(u, v, 2)\n", { .batch = 3 } },
        { "scores that meet their own statistics twice",
          "    g[n, a: 4, b: 4] = sum[d](h[n, a, d] * h[n, b, d])\n    mu[n] = mean[a, b](g[n, a, b])\n    c[n, a, b] = g[n, a, b] - mu[n]\n"
          "    w[n] = mean[a, b](c[n, a, b]^2)\n    k[n, a, b] = c[n, a, b] * rsqrt(w[n] + 0.1)\n    f[n, a, d] = sum[b](k[n, a, b] * h[n, b, d])\n"
          "    z[n, o] = mean[a](f[n, a, o])\n", "    return clip_loss(u, v, 2)\n", { .batch = 4, .meet = true } },
        { "rows of zeros, normalised", "    w[n, p, o] = h[n, p, o] * (if p == 1 then floor(h[n, p, o]^2 / 1000) else 1)\n    let q = l2_normalize(w, eps = 1e-3)\n"
          "    z[n, o] = mean[p](q[n, p, o])\n", "    return clip_loss(u, v, 2)\n", { .batch = 3 } },
    };
    Run r = { .programs = 0 };
    run_begin(&r, "native");
    for (size_t i = 0; i < LEN(known); i++)
        add_text(&r, arena_printf(&r.s.arena, "use clip\nuse nn\nuse optim\nfn image_tower(img[n, ch, y, x]) {\n    param conv[d: 6, ch, i: 4, j: 4] ~ normal(0, 0.2)\n"
                "    e[n, r: 2, s: 2, d] = sum[ch, i, j](img[n, ch, 4*r + i, 4*s + j] * conv[d, ch, i, j]) / 4\n    h[n, 2*r + s, d] = e[n, r, s, d]\n%s"
                "    return z\n}\nfn text_tower(tokens[n, t]) {\n    param table[v: 40, d: 6] ~ normal(0, 1)\n    h[n, d] = mean[t](table[tokens[n, t], d])\n"
                "    return h\n}\nfn pair_loss(u[n, o], v[n, o]) {\n%s}\nmodel m {\n    fn encode_image(pixels[n, ch: 3, y: 8, x: 8]) = image_tower(pixels) as visual\n"
                "    fn encode_text(tokens[n, t: 7]) = text_tower(tokens) as text\n    fn loss(pixels, tokens) = pair_loss(encode_image(pixels), "
                "encode_text(tokens))\n}\ndata d {\n    shards = \"{data}/{year}\"\n    image = center_crop(8)\n}\ntrain {\n    batch = 4\n    samples = 64\n"
                "    optimizer = sgd(lr = constant(peak = 1e-3, warmup = 2))\n}\n", known[i].tower, known[i].loss), &known[i].v, known[i].name);
    assert_int_equal(r.dead, 0);
    run_end(&r);
}

/* Right numbers that are not those of f64: lockstep has to see that f32 can not do better. */
static void rounding(void **state)
{
    (void)state;
    static const struct { const char *name, *text; } part[] = {
        { "a sum whose terms cancel",
          "tensor %0 input f32[B, 8] \"x\" tensor %1 temp f32[B, 8] \"y\"\n"
          "%1[a0, a1] = sum{a2:500}(3e3 * cos([a2] * 2.5 + %0[a0, a1]))  {a0:B, a1:8} output \"y\" = %1\n" },
        { "numbers between two of bf16, written and read",
          "tensor %0 input f32[B, 8] \"x\" tensor %1 temp bf16[B, 8] \"y\" tensor %2 temp f32[B] \"s\"\n"
          "%1[a0, a1] = sin(%0[a0, a1] * 3) * exp(%0[a0, a1]) * 0.37 {a0:B, a1:8} %2[a0] = sum{a1:8}(%1[a0, a1] * %0[a0, a1]) {a0:B}\n"
          "output \"y\" = %1 output \"s\" = %2\n" },
    };
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(part); i++)
        assert_int_equal(suite_add(&s, part[i].name, part[i].text)->f.n_kernel, 1);
    suite_link(&s);
    for (size_t i = 0; i < LEN(part); i++)
        for (int t = 0; t < s.n_target; t++) {
            Store values = { .behind = NULL };
            lockstep(&s, s.cases.at[i], t, &values, 8192, part[i].name);
        }
    suite_close(&s);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--print")) {
        Arena a = { 0 };
        Text t = { .arena = &a };
        RpCover cover = { .n = 0 };
        uint64_t seed = strtoull(argv[2], NULL, 10);
        Variant v = variant_of(seed);
        random_program(seed, &t, &cover);
        printf("# %s\n%s", variant_text(&a, &v), text_data(&t));
        print_cover(&cover);
        arena_free(&a);
        return 0;
    }
    first = argc > 2 ? strtoull(argv[1], NULL, 10) : 0;
    count = argc > 2 ? atoi(argv[2]) : 0;
    processor = argc > 3 ? argv[3] : "native";
    const struct CMUnitTest few[] = { cmocka_unit_test(rounding), cmocka_unit_test(found), cmocka_unit_test(fixed) }, others[] = { cmocka_unit_test(chosen) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return argc > 2 ? cmocka_run_group_tests(others, NULL, NULL) : cmocka_run_group_tests(few, NULL, NULL);
}
