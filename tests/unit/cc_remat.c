/* cc_remat.c -- a step that is to need less memory: it computes the same, in the memory that was asked for, and what it is
 * said to need is what a plan of its buffers comes to.
 *
 * The step of a small CLIP is fused for less and less memory; its kernels run one by one in the interpreter, in f64, where a
 * copy that reads what is not there, or comes too late, would be seen. */
#include "graph_test.h"
#include "clip_graph.h"
#include "device/arena.h"
#include "pass/plan.h"
#include <math.h>

enum { PLANNED = 64, BATCH = 3 };

static bool takes_all(Graph *g, const Kernel *k) { return true; }

static Graph *clip_step(Arena *a)
{
    const Clip c = { .image = 16, .patch = 4, .v_width = 16, .v_layers = 4, .v_heads = 2, .context = 12, .vocab = 20,
                     .t_width = 16, .t_layers = 3, .t_heads = 2, .out = 8 };
    Build b;
    Text why = { .arena = a };
    int loss = clip_forward(&b, a, c), *grads = NEWN(a, int, b.param.n);
    if (!grad_append(b.g, loss, b.param.at, b.param.n, grads, &why))
        fail_msg("%s", text_data(&why));
    adamw(&b, grads);
    graph_toposort(b.g);
    if (!passes_simplify(b.g, NULL, NULL, &why))
        fail_msg("%s", text_data(&why));
    return b.g;
}

static void fill(Arena *a, const Graph *g, Env *env)
{
    uint64_t s = 7;
    *env = (Env){ NEWN(a, double *, g->n_tensor + 4096), BATCH };
    for (int t = 0; t < g->n_tensor; t++) {
        const Tensor *x = &g->tensor[t];
        if (x->kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, t, BATCH);
        env->value[t] = NEWN(a, double, n);
        for (int64_t i = 0; i < n; i++) {
            double u = sample(&s);
            env->value[t][i] = x->dtype == DT_I32 ? floor(20 * u) : x->kind == T_STATE ? u : x->dtype == DT_F64 ? 3 : u - 0.5;
        }
    }
}

/* What the step leaves: outputs, then new parameters and states, one after the other. */
static double *results(Arena *a, Fused *f, int64_t *count)
{
    const Graph *g = f->graph;
    Text why = { .arena = a };
    Env env;
    fill(a, g, &env);
    if (!fused_run(f, &env, a, &why))
        fail_msg("%s", text_data(&why));
    *count = 0;
    for (int k = 0; k < g->n_output + g->n_update; k++)
        *count += tensor_count(g, k < g->n_output ? g->output[k].tensor : g->update[k - g->n_output].value, BATCH);
    double *all = NEWN(a, double, *count), *to = all;
    for (int k = 0; k < g->n_output + g->n_update; k++) {
        int t = k < g->n_output ? g->output[k].tensor : g->update[k - g->n_output].value;
        int64_t n = tensor_count(g, t, BATCH);
        assert_non_null(env.value[t]);
        memcpy(to, env.value[t], (size_t)n * sizeof *to);
        to += n;
    }
    return all;
}

/* Bytes by what the kernels say of themselves: buffers that are live together do not overlap, and what is live at once fits. */
static void check_plan(const Fused *f, int64_t reached)
{
    Arena a = { 0 };
    Liveness l = plan_liveness(f, &a);
    int64_t least = plan_peak(f, &l, PLANNED, NULL) + plan_kind_bytes(f, T_INPUT, PLANNED), fixed;
    fixed = plan_kind_bytes(f, T_PARAM, PLANNED) + plan_kind_bytes(f, T_STATE, PLANNED);
    assert_true(reached - fixed >= least);
    assert_true((double)(reached - fixed) < 1.15 * (double)least);
    arena_free(&a);
}

static int again(const Fused *f)
{
    int n = 0;
    for (int i = 0; i < f->n_kernel; i++)
        n += f->kernel[i].again;
    return n;
}

static void less_memory(const FuseOptions *o, double least)
{
    Arena a = { 0 };
    Graph *g = clip_step(&a);
    Fused f;
    Text why = { .arena = &a }, table = { .arena = &a };
    int64_t all, reached, n, count;
    MemoryGoal goal = { .batch = PLANNED, .bytes = INT64_MAX };
    assert_true(fuse_within(graph_clone(g), o, &goal, &a, &f, &all, &table, &why));
    assert_null(strstr(text_data(&table), "again"));
    assert_int_equal(again(&f), 0);
    check_plan(&f, all);
    double *want = results(&a, &f, &n);
    int before = 0, trials = 0;
    for (double share = 0.95; share > least; share -= 0.1, trials++) {
        goal.bytes = (int64_t)(share * (double)all);
        if (!fuse_within(graph_clone(g), o, &goal, &a, &f, &reached, &table, &why))
            fail_msg("%.2f: %s\n%s", share, text_data(&why), text_data(&table));
        assert_true(reached <= goal.bytes);
        assert_true(again(&f) >= before && again(&f) > 0);
        before = again(&f);
        check_plan(&f, reached);
        double *got = results(&a, &f, &count), worst = 0;
        assert_int_equal(count, n);
        for (int64_t i = 0; i < n; i++)
            worst = fmax(worst, fabs(got[i] - want[i]) / fmax(1, fabs(want[i])));
        if (!(worst < 1e-12))
            fail_msg("%.2f: a result differs by %g", share, worst);
    }
    assert_true(trials >= 3);
    goal.bytes = all / 20;
    assert_false(fuse_within(graph_clone(g), o, &goal, &a, &f, &reached, &table, &why));
    assert_true(reached > goal.bytes && reached < all);
    assert_non_null(strstr(text_data(&why), "even with everything computed again that helps"));
    arena_free(&a);
}

static void scores_in_memory(void **state) { less_memory(&(FuseOptions){ 0 }, 0.3); }
static void scores_on_chip(void **state) { less_memory(&(FuseOptions){ .takes_score = takes_all }, 0.3); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(scores_in_memory), cmocka_unit_test(scores_on_chip) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("remat", tests, NULL, NULL);
}
