/* cc_cuda_score.c -- which attentions the CUDA back end takes as SCORE kernels, and that those become text; text that has to be C. */
#include "cuda/cuda.h"
#include "cuda/lower.h"
#include "graph_test.h"
#include "pass/kernel.h"

typedef struct Attention {
    const char *name;
    int tokens, width;
    bool bf16;
    const char *stat, *p;            /* NULL: softmax; bodies over s = %1[a0, a1, a2, a3], l = %2[a0, a1, a2] */
    int kernels;
    int reach;                       /* how far behind its own place a query sees keys */
    const char *row;                 /* the only one of its results that is read; NULL: all are */
} Attention;

#define S "%1[a0, a1, a2, a3]"
#define L "%2[a0, a1, a2]"
#define MASKED "where([a3] > [a2], -inf, " S ")"
#define SEEN "where([a3] <= [a2], " S ", -inf)"
#define AFTER "where([a2] < [a3], -inf, " S ")"
#define BEFORE "where([a2] >= [a3], " S ", -inf)"
#define LOW "where([a3] > [a2], -1e9, " S ")"
#define SOFTMAX(s) s, "exp(" s " - " L ")"
static const Attention cases[] = {
    {"softmax", 20, 8, true, NULL, NULL, 2, 19, NULL},
    {"softmax of what is masked", 20, 16, true, SOFTMAX(MASKED), 2, 0, NULL},
    {"what is seen, not what is masked", 20, 16, true, SOFTMAX(SEEN), 2, 0, NULL},
    {"the other way round", 20, 16, true, SOFTMAX(AFTER), 2, 0, NULL},
    {"both", 20, 16, true, SOFTMAX(BEFORE), 2, 0, NULL},
    {"a mask that is only low", 20, 16, true, SOFTMAX(LOW), 2, 19, NULL},
    {"in f32", 20, 8, false, NULL, NULL, 0, 0, NULL},
    {"p from other scores than the statistic", 20, 8, true, S " * 2", NULL, 0, 0, NULL},
    {"no exp", 20, 8, true, NULL, S " - " L, 0, 0, NULL},
    {"a width of no whole 16 bytes", 20, 12, true, NULL, NULL, 0, 0, NULL},
    {"more keys than registers hold: tiled", 400, 8, true, NULL, NULL, 2, 399, NULL},
    {"heads too wide for either", 300, 256, true, NULL, NULL, 0, 0, NULL},
    {"one query", 20, 8, true, NULL, NULL, 2, 19, "0"},
    {"one query, masked", 20, 16, true, SOFTMAX(MASKED), 2, 19, "7"},
    {"one query, looked up", 20, 8, true, NULL, NULL, 2, 19, "%10[a0]"},
    {"one query, in f32", 20, 8, false, NULL, NULL, 0, 0, "0"},
    {"one query, more keys than registers hold: tiled", 400, 8, true, NULL, NULL, 2, 399, "0"},
    {"fewer tokens than a head is wide: its gradient has a statistic", 6, 16, true, NULL, NULL, 0, 0, NULL},
};

/* qkv[b, t, 3 * 2 * width], two heads; a layer behind it, as in CLIP. */
static Graph *attention(Arena *a, const Attention *c)
{
    int t = c->tokens, w = c->width;
    Text s = {.arena = a}, why = {.arena = a};
    text_printf(&s, "tensor %%0 param f32[%d, %d] \"w\" tensor %%6 input f32[B, %d, %d] \"x\" tensor %%7 temp f32[B, %d, %d] \"qkv\"\n", 6 * w, 2 * w, t,
                2 * w, t, 6 * w);
    text_printf(&s, "tensor %%1 temp f32[B, 2, %d, %d] \"s\" tensor %%2 temp f32[B, 2, %d] \"l\" tensor %%3 temp f32[B, 2, %d, %d] \"p\"\n", t, t, t, t, t);
    text_printf(&s, "tensor %%4 temp f32[B, %d, 2, %d] \"z\" tensor %%5 temp f32[] \"loss\"\n", t, w);
    text_printf(&s, "%%7[a0, a1, a2] = sum{a3:%d}(%%6[a0, a1, a3] * %%0[a2, a3])  {a0:B, a1:%d, a2:%d}\n", 2 * w, t, 6 * w);
    text_printf(&s, "%%1[a0, a1, a2, a3] = sum{a4:%d}(%%7[a0, a2, a1*%d + a4] * %%7[a0, a3, a1*%d + a4 + %d] * 0.5)  {a0:B, a1:2, a2:%d, a3:%d}\n", w, w,
                w, 2 * w, t, t);
    text_printf(&s, "%%2[a0, a1, a2] = logsumexp{a3:%d}(%s)  {a0:B, a1:2, a2:%d}\n", t, c->stat ? c->stat : S, t);
    text_printf(&s, "%%3[a0, a1, a2, a3] = %s  {a0:B, a1:2, a2:%d, a3:%d}\n", c->p ? c->p : "exp(" S " - " L ")", t, t);
    text_printf(&s, "tensor %%8 param f32[%d, %d] \"v\" tensor %%9 temp f32[B, %d, %d] \"y\"\n", 2 * w, 2 * w, t, 2 * w);
    text_printf(&s, "%%4[a0, a1, a2, a3] = sum{a4:%d}(%%3[a0, a2, a1, a4] * %%7[a0, a4, a2*%d + a3 + %d])  {a0:B, a1:%d, a2:2, a3:%d}\n", t, w, 4 * w, t, w);
    text_printf(&s, "%%9[a0, a1, a2] = sum{a3:2, a4:%d}(%%4[a0, a1, a3, a4] * %%8[a2, a3*%d + a4])  {a0:B, a1:%d, a2:%d}\n", w, w, t, 2 * w);
    if (c->row)
        text_printf(&s, "tensor %%10 input i32[B] \"at\"\n%%5 = sum{a0:B, a1:%d}(%%9[a0, %s, a1]^2 * [a1])  {}\n", 2 * w, c->row);
    else
        text_printf(&s, "%%5 = sum{a0:B, a1:%d, a2:%d}(%%9[a0, a1, a2]^2 * [a1 + a2])  {}\n", t, 2 * w);
    Graph *g = graph_from(a, text_data(&s));
    int loss = find_tensor(g, "loss"), wrt = find_tensor(g, "w"), grad;
    graph_output(g, "loss", loss);
    if (!passes_forward(g, &(PassOptions){.narrow = true}, NULL, &why))
        fail_msg("%s: %s", c->name, text_data(&why));
    if (!grad_append(g, loss, &wrt, 1, &grad, &why))
        fail_msg("%s: %s", c->name, text_data(&why));
    graph_output(g, "d_w", grad);
    graph_dce(g);
    return g;
}

static void taken(void **state)
{
    for (int i = 0; i < (int)LEN(cases); i++) {
        const Attention *c = &cases[i];
        Arena a = {0};
        Text why = {.arena = &a};
        Graph *g = attention(&a, c);
        Fused f;
        if (!passes_simplify(g, NULL, NULL, &why) || (c->bf16 && !passes_precision(g, &why)) ||
            !fuse(g, &(FuseOptions){.takes_score = cuda_takes_score}, &a, &f, &why))
            fail_msg("%s: %s", c->name, text_data(&why));
        int n = 0, reach = 0;
        const char *wanted = arena_printf(&a, "#define REACH %d\n", c->reach);
        CudaModule *m = cuda_module_new(&a, &(CudaTarget){.arch = "sm_80", .batch = 4});
        for (int k = 0; k < f.n_kernel; k++) {
            n += f.kernel[k].cls == K_SCORE;
            if (c->kernels && f.kernel[k].cls == K_ROW)
                fail_msg("%s: a row kernel is left beside the scores", c->name);
            CudaLaunch launch[4];
            if (f.kernel[k].cls != K_HOST && cuda_lower(m, &f, &f.kernel[k], launch, LEN(launch), &why) < 0)
                fail_msg("%s: %s", c->name, text_data(&why));
        }
        for (int file = 0; file < cuda_files(m); file++)
            reach += strstr(cuda_file(m, file), wanted) != NULL;
        if (n != c->kernels || reach != n)
            fail_msg("%s: %d SCORE kernels, wanted %d; %d with %s", c->name, n, c->kernels, reach, wanted);
        arena_free(&a);
    }
}

/* The prelude's types are called i32, u8, ...: no variable is. */
static void names(void **state)
{
    (void)state;
    Arena a = {0};
    for (int i = 0; i < 130; i++) {
        Cu l = {.arena = &a, .n_name = i};
        static const char *const type[] = {"i32", "i64", "u8", "u16", "u32", "u64"};
        for (size_t k = 0; k < LEN(type); k++)
            assert_true(strcmp(cu_name(&l, "i"), type[k]) && strcmp(cu_name(&l, "u"), type[k]));
    }
    arena_free(&a);
}

/* A load of several lanes, made where its place is inside; the place takes lines of its own, which stand before the condition. */
static void guarded(void **state)
{
    (void)state;
    Arena a = {0};
    Text why = {.arena = &a};
    const CudaTarget target = {.arch = "sm_80", .batch = 4};
    Graph *g = graph_from(&a, "tensor %0 input f32[3, 10] \"t\" tensor %1 temp f32[10, 10, 10] \"y\"\n"
                              "%1[a0, a1, a2] = where([(a0 - a1 div 3) + 2] >= 0 and [(a0 - a1 div 3) + 2] < 3, %0[(a0 - a1 div 3) + 2, a2], 0)  "
                              "{a0:10, a1:10, a2:10}\noutput \"y\" = %1\n");
    Fused f;
    CudaLaunch launch[4];
    CudaModule *m = cuda_module_new(&a, &target);
    if (!fuse(g, NULL, &a, &f, &why) || cuda_lower(m, &f, &f.kernel[0], launch, LEN(launch), &why) < 0)
        fail_msg("%s", text_data(&why));
    int seen = 0;
    for (int file = 0; file < cuda_files(m); file++)
        for (const char *at = cuda_file(m, file); (at = strstr(at, "        if ((u32)")); seen++) {
            at = strchr(at, '\n') + 1;
            assert_memory_equal(at + strspn(at, " "), "v", 1);           /* what is done, not what is declared */
        }
    assert_true(seen > 0);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(taken), cmocka_unit_test(names), cmocka_unit_test(guarded)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
