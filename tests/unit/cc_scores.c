/* cc_scores.c -- SCORE kernels: which graphs get them, and that the fused graph computes what the graph says.
 *
 * Each case is an attention of some kind as text; its gradient is appended, everything is fused, and the kernels run one
 * by one in the interpreter, in f64: what a kernel does not say that it reads or writes would be missing. */
#include "cpu/cpu.h"
#include "graph_test.h"
#include "pass/kernel.h"

typedef struct Attention {
    const char *name, *text;         /* defines "loss", of rank 0 */
    int kernels;                     /* of class SCORE, when the back end takes all */
    int quadratic;                   /* then: tensors with the batch, M and N (extents 5 and 7, or 6 twice; or 9 beside heads) in memory */
} Attention;

#define QKV "tensor %0 input f32[B, 6, 24] \"qkv\" tensor %1 temp f32[B, 2, 6, 6] \"s\" tensor %2 temp f32[B, 2, 6] \"l\"\n" \
            "tensor %3 temp f32[B, 2, 6, 6] \"p\" tensor %4 temp f32[B, 6, 8] \"z\" tensor %5 temp f32[] \"loss\"\n"
#define PLAIN_S "%1[a0, a1, a2, a3] = sum{a4:4}(%0[a0, a2, a1*4 + a4] * %0[a0, a3, a1*4 + a4 + 8] * 0.5)  {a0:B, a1:2, a2:6, a3:6}\n"
#define Z "%4[a0, a1, a2*4 + a3] = sum{a4:6}(%3[a0, a2, a1, a4] * %0[a0, a4, a2*4 + a3 + 16])  {a0:B, a1:6, a2:2, a3:4}\n"
#define LOSS "%5 = sum{a0:B, a1:6, a2:8}(%4[a0, a1, a2]^2 * [a1 + a2])  {}\n"

static const Attention cases[] = {
    { "heads, causal",
      QKV PLAIN_S
      "%2[a0, a1, a2] = logsumexp{a3:6}(where([a3] > [a2], -inf, %1[a0, a1, a2, a3]))  {a0:B, a1:2, a2:6}\n"
      "%3[a0, a1, a2, a3] = exp(where([a3] > [a2], -inf, %1[a0, a1, a2, a3]) - %2[a0, a1, a2])  {a0:B, a1:2, a2:6, a3:6}\n"
      Z LOSS, 2, 0 },
    { "softmax by maximum and sum",
      QKV "tensor %6 temp f32[B, 2, 6, 6] \"e\" tensor %7 temp f32[B, 2, 6] \"sum\"\n" PLAIN_S
      "%2[a0, a1, a2] = max{a3:6}(%1[a0, a1, a2, a3])  {a0:B, a1:2, a2:6}\n"
      "%6[a0, a1, a2, a3] = exp(%1[a0, a1, a2, a3] - %2[a0, a1, a2])  {a0:B, a1:2, a2:6, a3:6}\n"
      "%7[a0, a1, a2] = sum{a3:6}(%6[a0, a1, a2, a3])  {a0:B, a1:2, a2:6}\n"
      "%3[a0, a1, a2, a3] = %6[a0, a1, a2, a3] / %7[a0, a1, a2]  {a0:B, a1:2, a2:6, a3:6}\n"
      Z LOSS, 2, 1 },
    { "other queries, a bias that learns",
      "tensor %0 input f32[B, 2, 5, 4] \"q\" tensor %6 input f32[B, 2, 7, 4] \"k\" tensor %7 input f32[B, 2, 7, 3] \"v\"\n"
      "tensor %8 param f32[2, 5, 7] \"bias\" tensor %1 temp f32[B, 2, 5, 7] \"s\" tensor %2 temp f32[B, 2, 5] \"l\"\n"
      "tensor %3 temp f32[B, 2, 5, 7] \"p\" tensor %4 temp f32[B, 2, 5, 3] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1, a2, a3] = sum{a4:4}(%0[a0, a1, a2, a4] * %6[a0, a1, a3, a4])  {a0:B, a1:2, a2:5, a3:7}\n"
      "%2[a0, a1, a2] = logsumexp{a3:7}(%1[a0, a1, a2, a3] + %8[a1, a2, a3])  {a0:B, a1:2, a2:5}\n"
      "%3[a0, a1, a2, a3] = exp(%1[a0, a1, a2, a3] + %8[a1, a2, a3] - %2[a0, a1, a2])  {a0:B, a1:2, a2:5, a3:7}\n"
      "%4[a0, a1, a2, a3] = sum{a4:7}(%3[a0, a1, a2, a4] * %7[a0, a1, a4, a3])  {a0:B, a1:2, a2:5, a3:3}\n"
      "%5 = sum{a0:B, a1:2, a2:5, a3:3}(%4[a0, a1, a2, a3]^2)  {}\n", 2, 2 },
    { "heads that share keys and values",
      "tensor %0 input f32[B, 5, 2, 4] \"q\" tensor %6 input f32[B, 7, 4] \"k\" tensor %7 input f32[B, 7, 3] \"v\"\n"
      "tensor %1 temp f32[B, 2, 5, 7] \"s\" tensor %2 temp f32[B, 2, 5] \"l\"\n"
      "tensor %3 temp f32[B, 2, 5, 7] \"p\" tensor %4 temp f32[B, 5, 2, 3] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1, a2, a3] = sum{a4:4}(%0[a0, a2, a1, a4] * %6[a0, a3, a4])  {a0:B, a1:2, a2:5, a3:7}\n"
      "%2[a0, a1, a2] = logsumexp{a3:7}(%1[a0, a1, a2, a3])  {a0:B, a1:2, a2:5}\n"
      "%3[a0, a1, a2, a3] = exp(%1[a0, a1, a2, a3] - %2[a0, a1, a2])  {a0:B, a1:2, a2:5, a3:7}\n"
      "%4[a0, a2, a1, a3] = sum{a4:7}(%3[a0, a1, a2, a4] * %7[a0, a4, a3])  {a0:B, a1:2, a2:5, a3:3}\n"
      "%5 = sum{a0:B, a1:5, a2:2, a3:3}(%4[a0, a1, a2, a3]^2)  {}\n", 2, 2 },
    { "softmax along the rows of the first operand",
      "tensor %0 input f32[B, 5, 4] \"q\" tensor %6 input f32[B, 7, 4] \"k\" tensor %7 input f32[B, 5, 3] \"v\"\n"
      "tensor %1 temp f32[B, 5, 7] \"s\" tensor %2 temp f32[B, 7] \"l\"\n"
      "tensor %3 temp f32[B, 5, 7] \"p\" tensor %4 temp f32[B, 7, 3] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1, a2] = sum{a3:4}(%0[a0, a1, a3] * %6[a0, a2, a3])  {a0:B, a1:5, a2:7}\n"
      "%2[a0, a1] = logsumexp{a2:5}(%1[a0, a2, a1])  {a0:B, a1:7}\n"
      "%3[a0, a1, a2] = exp(%1[a0, a1, a2] - %2[a0, a2])  {a0:B, a1:5, a2:7}\n"
      "%4[a0, a1, a2] = sum{a3:5}(%3[a0, a3, a1] * %7[a0, a3, a2])  {a0:B, a1:7, a2:3}\n"
      "%5 = sum{a0:B, a1:7, a2:3}(%4[a0, a1, a2]^2)  {}\n", 2, 0 },
    { "probabilities that somebody wants",
      QKV "tensor %6 temp f32[B, 6] \"seen\"\n" PLAIN_S
      "%2[a0, a1, a2] = logsumexp{a3:6}(%1[a0, a1, a2, a3])  {a0:B, a1:2, a2:6}\n"
      "%3[a0, a1, a2, a3] = exp(%1[a0, a1, a2, a3] - %2[a0, a1, a2])  {a0:B, a1:2, a2:6, a3:6}\n"
      "%6[a0, a1] = sum{a2:2, a3:6}(%3[a0, a2, a3, a1])  {a0:B, a1:6}\n"
      Z LOSS "output \"seen\" = %6\n", 2, 1 },
    { "scores that are read crosswise",
      QKV PLAIN_S
      "%2[a0, a1, a2] = logsumexp{a3:6}(%1[a0, a1, a2, a3])  {a0:B, a1:2, a2:6}\n"
      "%3[a0, a1, a2, a3] = exp(%1[a0, a1, a3, a2] - %2[a0, a1, a2])  {a0:B, a1:2, a2:6, a3:6}\n"
      Z LOSS, 4, 0 },
    { "one query, its own key masked",
      "tensor %0 input f32[B, 9, 24] \"qkv\" tensor %1 temp f32[B, 2, 9] \"s\" tensor %2 temp f32[B, 2] \"l\"\n"
      "tensor %3 temp f32[B, 2, 9] \"p\" tensor %4 temp f32[B, 2, 4] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1, a2] = sum{a3:4}(%0[a0, 3, a1*4 + a3] * %0[a0, a2, a1*4 + a3 + 8] * 0.5)  {a0:B, a1:2, a2:9}\n"
      "%2[a0, a1] = logsumexp{a2:9}(where([a2] == 3, -inf, %1[a0, a1, a2]))  {a0:B, a1:2}\n"
      "%3[a0, a1, a2] = exp(where([a2] == 3, -inf, %1[a0, a1, a2]) - %2[a0, a1])  {a0:B, a1:2, a2:9}\n"
      "%4[a0, a1, a2] = sum{a3:9}(%3[a0, a1, a3] * %0[a0, a3, a1*4 + a2 + 16])  {a0:B, a1:2, a2:4}\n"
      "%5 = sum{a0:B, a1:2, a2:4}(%4[a0, a1, a2]^2 * [a1 + a2])  {}\n", 2, 0 },
    { "one query of one head, a bias for each sample",
      "tensor %0 input f32[B, 3] \"q\" tensor %6 input f32[B, 9, 3] \"k\" tensor %7 input f32[B, 5, 9] \"v\" tensor %8 input f32[B, 9] \"bias\"\n"
      "tensor %1 temp f32[B, 9] \"s\" tensor %2 temp f32[B] \"l\" tensor %3 temp f32[B, 9] \"p\" tensor %4 temp f32[B, 5] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1] = sum{a2:3}(%0[a0, a2] * %6[a0, a1, a2])  {a0:B, a1:9}\n"
      "%2[a0] = logsumexp{a1:9}(%1[a0, a1] + %8[a0, a1])  {a0:B}\n"
      "%3[a0, a1] = exp(%1[a0, a1] + %8[a0, a1] - %2[a0])  {a0:B, a1:9}\n"
      "%4[a0, a1] = sum{a2:9}(%3[a0, a2] * %7[a0, a1, a2])  {a0:B, a1:5}\n"
      "%5 = sum{a0:B, a1:5}(%4[a0, a1]^2)  {}\n", 2, 1 },
    { "one query that knows no sample",
      "tensor %0 param f32[2, 4] \"q\" tensor %6 input f32[B, 9, 2, 4] \"k\" tensor %7 input f32[B, 9, 2, 5] \"v\"\n"
      "tensor %1 temp f32[B, 2, 9] \"s\" tensor %2 temp f32[B, 2] \"l\" tensor %3 temp f32[B, 2, 9] \"p\" tensor %4 temp f32[B, 2, 5] \"z\" tensor %5 temp f32[] \"loss\"\n"
      "%1[a0, a1, a2] = sum{a3:4}(%0[a1, a3] * %6[a0, a2, a1, a3])  {a0:B, a1:2, a2:9}\n"
      "%2[a0, a1] = logsumexp{a2:9}(%1[a0, a1, a2])  {a0:B, a1:2}\n"
      "%3[a0, a1, a2] = exp(%1[a0, a1, a2] - %2[a0, a1])  {a0:B, a1:2, a2:9}\n"
      "%4[a0, a1, a2] = sum{a3:9}(%3[a0, a1, a3] * %7[a0, a3, a1, a2])  {a0:B, a1:2, a2:5}\n"
      "%5 = sum{a0:B, a1:2, a2:5}(%4[a0, a1, a2]^2)  {}\n", 0, 3 },
    { "a layer is no score",
      "tensor %0 input f32[B, 6, 4] \"x\" tensor %1 param f32[8, 4] \"w\" tensor %2 temp f32[B, 6, 8] \"y\" tensor %3 temp f32[] \"loss\"\n"
      "%2[a0, a1, a2] = sum{a3:4}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:6, a2:8}\n"
      "%3 = sum{a0:B, a1:6, a2:8}(tanh(%2[a0, a1, a2]))  {}\n", 0, 0 },
};

enum { BATCH = 3 };

static bool takes_all(Graph *g, const Kernel *k) { return true; }

/* takes only kernels that sum scores along N alone: attention forward, not backward */
static bool takes_forward(Graph *g, const Kernel *k)
{
    for (int i = 0; i < k->n_comp; i++)
        if (score_role(k, &k->comp[i]) == SCORE_RESULT && score_over_m(k, &k->comp[i]))
            return false;
    return true;
}

static Graph *with_gradient(Arena *a, const char *text)
{
    Graph *g = graph_from(a, text);
    int loss = find_tensor(g, "loss"), wrt[16], grads[16], n = 0;
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind != T_TEMP)
            wrt[n++] = t;
    Text why = { .arena = a };
    if (!grad_append(g, loss, wrt, n, grads, &why))
        fail_msg("%s", text_data(&why));
    graph_output(g, "loss", loss);
    for (int i = 0; i < n; i++)
        graph_output(g, arena_printf(a, "d_%s", g->tensor[wrt[i]].name), grads[i]);
    graph_dce(g);
    verified(a, g);
    return g;
}

static void fill(Arena *a, const Graph *g, Env *env)
{
    uint64_t s = 3;
    env->batch = BATCH;
    env->value = NEWN(a, double *, g->n_tensor + 256);
    for (int t = 0; t < g->n_tensor; t++) {
        if (g->tensor[t].kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, t, BATCH);
        env->value[t] = NEWN(a, double, n);
        for (int64_t i = 0; i < n; i++)
            env->value[t][i] = 4 * sample(&s) - 2;
    }
}

static bool quadratic(const Tensor *t)
{
    int five = 0, six = 0, seven = 0, nine = 0, batch = 0, heads = 0;
    for (int d = 0; d < t->rank; d++) {
        five += t->shape[d] == 5;
        six += t->shape[d] == 6;
        seven += t->shape[d] == 7;
        nine += t->shape[d] == 9;
        batch += t->shape[d] == EXT_BATCH;
        heads += t->shape[d] == 2;
    }
    return batch && (six == 2 || (five && seven) || (nine && batch + heads + nine == t->rank));
}

static int stored_scores(const Fused *f)
{
    int n = 0;
    bool *seen = NEWN(f->graph->arena, bool, f->graph->n_tensor);
    for (int i = 0; i < f->n_kernel; i++)
        for (int j = 0; j < f->kernel[i].n_writes; j++) {
            int t = f->kernel[i].writes[j];
            n += !seen[t] && quadratic(&f->graph->tensor[t]);
            seen[t] = true;
        }
    return n;
}

/* Fuses, runs kernel by kernel, compares every output with the graph's; returns how many SCORE kernels there are. */
static int fused_equals(const Attention *c, const FuseOptions *o, int *stored)
{
    Arena a = { 0 };
    Graph *g = with_gradient(&a, c->text), *reference = graph_clone(g);
    Env env, want;
    Text why = { .arena = &a };
    Fused f;
    int n = 0;
    fill(&a, g, &env);
    fill(&a, reference, &want);
    if (!passes_simplify(g, NULL, NULL, &why) || !fuse(g, o, &a, &f, &why))
        fail_msg("%s: %s", c->name, text_data(&why));
    schedule(&f);
    double **value = NEWN(&a, double *, g->n_tensor);
    memcpy(value, env.value, (size_t)reference->n_tensor * sizeof *value);
    env.value = value;
    if (!fused_run(&f, &env, &a, &why))
        fail_msg("%s: %s", c->name, text_data(&why));
    ran(&a, reference, &want);
    for (int i = 0; i < g->n_output; i++) {
        int got = g->output[i].tensor, is = reference->output[i].tensor;
        int64_t count = tensor_count(g, got, BATCH);
        for (int64_t e = 0; e < count; e++) {
            double x = env.value[got][e], y = want.value[is][e];
            if (!(fabs(x - y) <= 1e-12 * (1 + fabs(y))))
                fail_msg("%s: \"%s\"[%lld] is %.17g, wanted %.17g", c->name, g->output[i].name, (long long)e, x, y);
        }
    }
    for (int i = 0; i < f.n_kernel; i++)
        n += f.kernel[i].cls == K_SCORE;
    *stored = stored_scores(&f);
    arena_free(&a);
    return n;
}

static void every_attention(void **state)
{
    for (int i = 0; i < (int)LEN(cases); i++) {
        const Attention *c = &cases[i];
        int stored, n = fused_equals(c, &(FuseOptions){ .takes_score = takes_all }, &stored);
        if (n != c->kernels || stored != c->quadratic)
            fail_msg("%s: %d SCORE kernels, %d scores in memory; wanted %d and %d", c->name, n, stored, c->kernels, c->quadratic);
    }
}

/* A group is taken whole or not at all. */
static void what_the_back_end_refuses(void **state)
{
    for (int i = 0; i < (int)LEN(cases); i++) {
        int stored;
        assert_int_equal(fused_equals(&cases[i], NULL, &stored), 0);
        assert_true(!cases[i].kernels || stored > 0);
    }
    int stored;
    assert_int_equal(fused_equals(&cases[0], &(FuseOptions){ .takes_score = takes_forward }, &stored), 0);
}

static bool takes_no_rows(Graph *g, const Kernel *k)
{
    for (int i = 0; i < k->n_comp; i++)
        if (score_role(k, &k->comp[i]) == SCORE_ROW)
            return false;
    return true;
}

/* How many members are sums for a row; none may be in memory. */
static int row_values(const Attention *c, const FuseOptions *o, int *score_kernels)
{
    Arena a = { 0 };
    Graph *g = with_gradient(&a, c->text);
    Text why = { .arena = &a };
    Fused f;
    int n = 0;
    *score_kernels = 0;
    if (!passes_simplify(g, NULL, NULL, &why) || !fuse(g, o, &a, &f, &why))
        fail_msg("%s: %s", c->name, text_data(&why));
    for (int i = 0; i < f.n_kernel; i++) {
        const Kernel *k = &f.kernel[i];
        *score_kernels += k->cls == K_SCORE;
        for (int j = 0; j < k->n_comp && k->cls == K_SCORE; j++) {
            if (score_role(k, &k->comp[j]) != SCORE_ROW)
                continue;
            n++;
            for (int w = 0; w < k->n_writes; w++)
                assert_int_not_equal(k->writes[w], k->comp[j].out);
        }
    }
    arena_free(&a);
    return n;
}

/* The backward pass wants sum(dz * z) of each row, where rows are longer than heads are wide. */
static void sums_for_rows(void **state)
{
    enum { READ_ELSEWHERE = 2, SHARED_KEYS = 3 };              /* of the cases above; a bias wants the sum as well */
    const Attention *c = &cases[SHARED_KEYS];
    int kernels, stored;
    assert_int_equal(row_values(c, &(FuseOptions){ .takes_score = takes_all }, &kernels), 1);
    assert_int_equal(kernels, c->kernels);
    assert_int_equal(row_values(c, &(FuseOptions){ .takes_score = takes_no_rows }, &kernels), 0);             /* then without it */
    assert_int_equal(kernels, c->kernels);
    assert_int_equal(fused_equals(c, &(FuseOptions){ .takes_score = takes_no_rows }, &stored), c->kernels);
    assert_int_equal(row_values(&cases[READ_ELSEWHERE], &(FuseOptions){ .takes_score = takes_all }, &kernels), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_attention), cmocka_unit_test(what_the_back_end_refuses),
                                        cmocka_unit_test(sums_for_rows) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
