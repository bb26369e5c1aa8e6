/* cc_clip.c -- a whole CLIP of the library, small, through the front end: its gradient against central differences in
 * f64, the same gradient in pieces, and one AdamW step, clipped, against the formulas written down here. */
#include "driver/compile.h"
#include "front/parse.h"
#include "graph_test.h"
#include "pass/kernel.h"
#include "pass/pieces.h"

static const char program[] =
    "use nn\nuse clip\nuse optim\n"
    "model small {\n"
    "    fn encode_image(pixels[n, ch: 3, y: 8, x: 8]) =\n"
    "        l2_normalize(vision_transformer(pixels, width = 8, layers = 2, heads = 2, patch = 4, out = 6) as visual)\n"
    "    fn encode_text(tokens[n, t: 7]) =\n"
    "        l2_normalize(text_transformer(tokens, vocab = 20, width = 8, layers = 2, heads = 2, out = 6))\n"
    "    param logit_scale = ln(1 / 0.07)\n"
    "    fn loss(pixels, tokens) = clip_loss(encode_image(pixels), encode_text(tokens), exp(logit_scale))\n"
    "}\n"
    "data d { shards = \"{data}/{year}.tar\"; image = random_resized_crop(8); text = clip_bpe(context = 7) }\n"
    "train {\n"
    "    batch = 4; samples = 4000\n"
    "    clip_norm = 0.5\n"
    "    optimizer = adamw(lr = cosine(peak = 0.01, warmup = 4), beta1 = 0.9, beta2 = 0.98, eps = 1e-6,\n"
    "                      weight_decay(p) = if rank(p) < 2 then 0 else 0.2)\n"
    "    after { logit_scale = clamp(logit_scale, 0, 2.5) }\n"
    "}\n";

enum { BATCH = 4, STEP = 2, TOTAL = 20 };

typedef struct World {
    Arena arena;
    Sources sources;
    Diag diag;
    Program p;
} World;

static const char *module_text(void *ctx, const char *name, const char **path)
{
    *path = name;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++) {
        if (!strcmp(m->name, name))
            return m->text;
    }
    return NULL;
}

static void compile_small(World *w)
{
    memset(w, 0, sizeof *w);
    w->sources.arena = &w->arena;
    w->diag.sources = &w->sources;
    int file = source_add(&w->sources, "small.tic", program, strlen(program));
    if (!sema_program(&w->p, &w->arena, &w->diag, file, NULL, 0, module_text, NULL)) {
        diag_print(&w->diag, stderr);
        fail_msg("the program does not compile");
    }
    Graph *g = w->p.graph;
    int n = 0;
    for (int i = 0; i < g->n_output; i++) {
        if (!strstr(g->output[i].name, "features"))
            g->output[n++] = g->output[i];
    }
    g->n_output = n;
    graph_dce(g);
}

/* Values of inputs, parameters and states; weights as the program would draw them, only wider. */
static void fill(const Graph *g, Env *env, Arena *a)
{
    env->value = NEWN(a, double *, g->n_tensor + 64);
    env->batch = BATCH;
    uint64_t s = 5;
    for (int i = 0; i < g->n_tensor; i++) {
        const Tensor *t = &g->tensor[i];
        if (t->kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, i, BATCH);
        env->value[i] = NEWN(a, double, n);
        for (int64_t k = 0; k < n; k++) {
            double u = 2 * sample(&s) - 1;
            env->value[i][k] = t->dtype == DT_I32 ? floor((u + 1) * 9.99)
                             : t->kind == T_STATE ? 0.01 + 0.01 * u
                             : t->kind == T_PARAM && t->init.kind == INIT_CONST ? t->init.a + 0.1 * u : 0.5 * u;
        }
        if (!strcmp(t->name, "step"))
            env->value[i][0] = STEP;
        if (!strcmp(t->name, "total"))
            env->value[i][0] = TOTAL;
    }
}

static double loss_at(World *w, const Graph *full, Env *env)
{
    (void)full;
    for (int i = 0; i < w->p.graph->n_comp; i++)
        env->value[w->p.graph->comp[i]->out] = NULL;
    Arena a = { 0 };
    Text why = { .arena = &a };
    if (!interp_run(w->p.graph, env, &a, &why))
        fail_msg("%s", text_data(&why));
    double loss = env->value[w->p.loss][0];
    for (int i = 0; i < w->p.graph->n_comp; i++)
        env->value[w->p.graph->comp[i]->out] = NULL;
    arena_free(&a);
    return loss;
}

static void gradient(void **state)
{
    World forward, w;
    compile_small(&forward);
    compile_small(&w);
    Text why = { .arena = &w.arena };
    PassOptions po = { .narrow = true };
    int *grads = NEWN(&w.arena, int, w.p.n_param);
    assert_true(passes_forward(w.p.graph, &po, NULL, &why));
    assert_true(grad_append(w.p.graph, w.p.loss, w.p.param, w.p.n_param, grads, &why));
    verified(&w.arena, w.p.graph);
    Env env, plain;
    fill(w.p.graph, &env, &w.arena);
    fill(forward.p.graph, &plain, &forward.arena);
    ran(&w.arena, w.p.graph, &env);
    assert_true(fabs(env.value[w.p.loss][0] - loss_at(&forward, w.p.graph, &plain)) < 1e-12);
    double worst = 0, largest = 0;
    uint64_t s = 9;
    int checked = 0;
    assert_int_equal(w.p.n_param, 62);
    for (int i = 0; i < w.p.n_param; i++) {
        int t = forward.p.param[i];
        int64_t n = tensor_count(forward.p.graph, t, BATCH);
        for (int k = 0; k < 4; k++) {
            int64_t at = (int64_t)(sample(&s) * (double)n);
            double x = plain.value[t][at], h = 1e-4, d[2];
            for (int side = 0; side < 2; side++) {             /* Richardson: the error of h^2 goes */
                double step = side ? h / 2 : h;
                plain.value[t][at] = x + step;
                double up = loss_at(&forward, w.p.graph, &plain);
                plain.value[t][at] = x - step;
                d[side] = (up - loss_at(&forward, w.p.graph, &plain)) / (2 * step);
            }
            plain.value[t][at] = x;
            double want = (4 * d[1] - d[0]) / 3, got = env.value[grads[i]][at], error = fabs(got - want) / fmax(1, fabs(want));
            worst = fmax(worst, error);
            largest = fmax(largest, fabs(got));
            checked++;
            if (error > 1e-6)
                fail_msg("%s[%lld]: gradient %.12g, differences %.12g", forward.p.graph->tensor[t].name, (long long)at, got,
                         want);
        }
    }
    fprintf(stderr, "# %d derivatives of 62 parameters, worst error %.1e, largest %.2g\n", checked, worst, largest);
    assert_true(largest > 0.01);
    arena_free(&forward.arena);
    arena_free(&w.arena);
}

/* ---- in pieces */

/* A program's environment with the parameters of `whole`, and pairs from `first` on of its inputs. */
static Env part_of(const World *w, const Env *whole, int64_t first, int64_t batch)
{
    const Graph *g = w->p.graph;
    Env e = { NEWN(g->arena, double *, g->n_tensor), batch };
    for (int i = 0; i < w->p.n_param; i++)
        e.value[w->p.param[i]] = whole->value[w->p.param[i]];
    const int input[] = { w->p.pixels, w->p.tokens };
    for (int i = 0; i < 2; i++)
        e.value[input[i]] = whole->value[input[i]] + first * tensor_count(g, input[i], 1);
    return e;
}

static double *output_value(const Graph *g, const Env *e, const char *kind, int i, int64_t *count)
{
    char name[32];
    snprintf(name, sizeof name, "%s:%d", kind, i);
    for (int k = 0; k < g->n_output; k++)
        if (!strcmp(g->output[k].name, name)) {
            *count = tensor_count(g, g->output[k].tensor, e->batch);
            return e->value[g->output[k].tensor];
        }
    return NULL;
}

/* The sums that an environment's run leaves, by parameter. */
static void take_sums(const World *w, const Env *e, double **sum)
{
    const Graph *g = w->p.graph;
    for (int i = 0; i < w->p.n_param; i++)
        for (int k = 0; k < g->n_update; k++)
            if (!strcmp(g->tensor[g->update[k].target].name + strlen(PIECES_SUM), g->tensor[w->p.param[i]].name))
                sum[i] = e->value[g->update[k].value];
}

/* Features of pieces, the loss of all, pieces again: the gradient of the whole batch, to the precision of the interpreter. */
static void in_pieces(void **state)
{
    enum { WHOLE, FEATURES, LOSS, PIECE, WORLDS, TOWERS = 2, MICRO = 2 };
    World w[WORLDS];
    Env whole, e;
    Text why = { 0 };
    PassOptions po = { .narrow = true };
    for (int k = 0; k < WORLDS; k++) {
        compile_small(&w[k]);
        why.arena = &w[k].arena;
        assert_true(passes_forward(w[k].p.graph, &po, NULL, &why));
    }
    Program *p = &w[WHOLE].p;
    int n = p->n_param, *grads = NEWN(&w[WHOLE].arena, int, n);
    assert_true(grad_append(p->graph, p->loss, p->param, n, grads, &why));
    pieces_features(w[FEATURES].p.graph, w[FEATURES].p.loss);
    assert_true(pieces_loss(w[LOSS].p.graph, w[LOSS].p.loss, w[LOSS].p.param, n, &why));
    assert_true(pieces_piece(w[PIECE].p.graph, w[PIECE].p.loss, w[PIECE].p.param, n, &why));
    for (int k = 0; k < WORLDS; k++)
        verified(&w[k].arena, w[k].p.graph);
    fill(p->graph, &whole, &w[WHOLE].arena);
    ran(&w[WHOLE].arena, p->graph, &whole);

    double *feature[TOWERS], **sum = NEWN(&w[WHOLE].arena, double *, n), *given;
    int64_t count, features = 0;
    for (int64_t first = 0; first < BATCH; first += MICRO) {
        e = part_of(&w[FEATURES], &whole, first, MICRO);
        ran(&w[FEATURES].arena, w[FEATURES].p.graph, &e);
        for (int i = 0; i < TOWERS; i++) {
            double *piece = output_value(w[FEATURES].p.graph, &e, "feature", i, &count);
            if (!first)
                feature[i] = NEWN(&w[FEATURES].arena, double, count / MICRO * BATCH);
            memcpy(feature[i] + first * count / MICRO, piece, (size_t)count * sizeof *piece);
            features = count / MICRO;
        }
        assert_null(output_value(w[FEATURES].p.graph, &e, "feature", TOWERS, &count));
    }
    assert_int_equal(features, 6);
    Env loss = part_of(&w[LOSS], &whole, 0, BATCH);
    for (int i = 0; i < TOWERS; i++)
        loss.value[find_tensor(w[LOSS].p.graph, i ? "feature:1" : "feature:0")] = feature[i];
    ran(&w[LOSS].arena, w[LOSS].p.graph, &loss);
    assert_true(fabs(loss.value[w[LOSS].p.loss][0] - whole.value[p->loss][0]) < 1e-14);
    take_sums(&w[LOSS], &loss, sum);
    for (int64_t first = 0; first < BATCH; first += MICRO) {
        Graph *g = w[PIECE].p.graph;
        e = part_of(&w[PIECE], &whole, first, MICRO);
        for (int i = 0; i < TOWERS; i++) {
            given = output_value(w[LOSS].p.graph, &loss, "gradient", i, &count);
            e.value[find_tensor(g, i ? "gradient:1" : "gradient:0")] = given + first * count / BATCH;
        }
        for (int i = 0; i < n; i++) {
            int t = find_tensor(g, arena_printf(g->arena, PIECES_SUM "%s", g->tensor[w[PIECE].p.param[i]].name));
            if (t >= 0)
                e.value[t] = sum[i];
        }
        ran(&w[PIECE].arena, g, &e);
        take_sums(&w[PIECE], &e, sum);
    }
    double worst = 0;
    for (int i = 0; i < n; i++) {
        double apart = 0, size = 0;
        for (int64_t k = 0; k < tensor_count(p->graph, p->param[i], 1); k++) {
            double want = whole.value[grads[i]][k], d = sum[i][k] - want;
            apart += d * d;
            size += want * want;
        }
        worst = fmax(worst, sqrt(apart / size));
        if (!(apart <= 1e-24 * size))
            fail_msg("%s: %.1e from the gradient of the whole batch", p->graph->tensor[p->param[i]].name, sqrt(apart / size));
    }
    fprintf(stderr, "# %d gradients in pieces of %d, worst error %.1e\n", n, MICRO, worst);
    for (int k = 0; k < WORLDS; k++)
        arena_free(&w[k].arena);
}

static double number(const Graph *g, const Env *env, const char *output)
{
    for (int i = 0; i < g->n_output; i++) {
        if (!strcmp(g->output[i].name, output))
            return env->value[g->output[i].tensor][0];
    }
    fail_msg("no output %s", output);
    return 0;
}

static int updated(const Graph *g, int target)
{
    for (int i = 0; i < g->n_update; i++) {
        if (g->update[i].target == target)
            return g->update[i].value;
    }
    fail_msg("%s is not updated", g->tensor[target].name);
    return -1;
}

/* Loshchilov and Hutter's AdamW as PyTorch computes it; clipping as clip_grad_norm_; cosine as OpenCLIP's scheduler. */
static void adamw_step(void **state)
{
    World w;
    compile_small(&w);
    Graph *g = w.p.graph;
    Text why = { .arena = &w.arena };
    int *grads = NEWN(&w.arena, int, w.p.n_param);
    assert_true(grad_append(g, w.p.loss, w.p.param, w.p.n_param, grads, &why));
    assert_true(sema_update(&w.p, g, &w.diag, grads));
    graph_toposort(g);
    verified(&w.arena, g);
    Env env;
    fill(g, &env, &w.arena);
    ran(&w.arena, g, &env);
    double norm = 0, lr = 0.01 * (STEP + 1) / 4;
    for (int i = 0; i < w.p.n_param; i++) {
        int64_t n = tensor_count(g, grads[i], BATCH);
        for (int64_t k = 0; k < n; k++)
            norm += env.value[grads[i]][k] * env.value[grads[i]][k];
    }
    norm = sqrt(norm);
    assert_true(fabs(number(g, &env, "grad_norm") - norm) < 1e-9 * norm);
    assert_true(fabs(number(g, &env, "lr") - lr) < 1e-15);
    assert_true(norm > 0.5);         /* so that it is clipped */
    int decayed = 0;
    for (int i = 0; i < w.p.n_param; i++) {
        const Tensor *t = &g->tensor[w.p.param[i]];
        double decay = sema_weight_decay(&w.p, i);
        assert_true(decay == (t->rank < 2 ? 0 : 0.2));
        decayed += decay > 0;
        int m = find_tensor(g, arena_printf(&w.arena, "exp_avg:%s", t->name));
        int v = find_tensor(g, arena_printf(&w.arena, "exp_avg_sq:%s", t->name));
        assert_true(m >= 0 && v >= 0);
        int64_t n = tensor_count(g, w.p.param[i], BATCH);
        for (int64_t k = 0; k < n; k++) {
            double grad = env.value[grads[i]][k] * fmin(1, 0.5 / (norm + 1e-6));
            double m1 = 0.9 * env.value[m][k] + 0.1 * grad, v1 = 0.98 * env.value[v][k] + 0.02 * grad * grad;
            double x = env.value[w.p.param[i]][k] * (1 - lr * decay);
            x -= lr / (1 - pow(0.9, STEP + 1)) * m1 / (sqrt(v1) / sqrt(1 - pow(0.98, STEP + 1)) + 1e-6);
            if (!strcmp(t->name, "logit_scale"))
                x = fmin(fmax(x, 0), 2.5);
            assert_true(fabs(env.value[updated(g, m)][k] - m1) < 1e-12);
            assert_true(fabs(env.value[updated(g, v)][k] - v1) < 1e-12);
            if (!(fabs(env.value[updated(g, w.p.param[i])][k] - x) < 1e-10))
                fail_msg("%s[%lld]: %.15g, wanted %.15g", t->name, (long long)k,
                         env.value[updated(g, w.p.param[i])][k], x);
        }
    }
    assert_int_equal(decayed, 22);
    arena_free(&w.arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradient),
        cmocka_unit_test(in_pieces),
        cmocka_unit_test(adamw_step),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
