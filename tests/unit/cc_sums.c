/* cc_sums.c -- the sum of a contraction's side over its terms (the gradient of a bias beside that of its weights): which sums
 * come into which contractions, and their values on processors, against the interpreter. */
#include "cpu_harness.h"

/* reduces: kernels that stay reductions of their own */
typedef struct { const char *name, *text; int reduces; } Shape;

#define RANDOM_SIDES "tensor %0 input f32[$k, $m] \"x\" tensor %1 input f32[$k, $n] \"g\" tensor %2 temp f32[$m, $n] \"y\"\n"
#define GRADIENT "%2[a0, a1] = sum{a2:$k}(%0[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %2\n"

static const Shape shapes[] = {
    { "of the rows",
      RANDOM_SIDES GRADIENT "tensor %3 temp f32[$m] \"s\" %3[a1] = sum{a0:$k}(%0[a0, a1])  {a1:$m} output \"s\" = %3", 0 },
    { "of the columns",
      RANDOM_SIDES GRADIENT "tensor %3 temp f32[$n] \"s\" %3[a0] = sum{a1:$k}(%1[a1, a0])  {a0:$n} output \"s\" = %3", 0 },
    { "of both: one of them stays apart",
      RANDOM_SIDES GRADIENT "tensor %3 temp f32[$m] \"s\" %3[a1] = sum{a0:$k}(%0[a0, a1])  {a1:$m} output \"s\" = %3\n"
      "tensor %4 temp f32[$n] \"t\" %4[a1] = sum{a0:$k}(%1[a0, a1])  {a1:$n} output \"t\" = %4", 1 },
    { "over the batch, negated, transposed results",
      "tensor %0 input f32[B, $k, $m] \"x\" tensor %1 input f32[B, $k, $n] \"g\" tensor %2 temp f32[$n, $m] \"y\" tensor %3 temp f32[$n] \"s\"\n"
      "%3[a0] = sum{a2:$k, a1:B}(-0.5 * %1[a1, a2, a0])  {a0:$n} output \"s\" = %3\n"
      "%2[a1, a0] = sum{a2:B, a3:$k}(3 * %0[a2, a3, a0] * %1[a2, a3, a1])  {a0:$m, a1:$n} output \"y\" = %2", 0 },
    { "a batch of contractions",
      "tensor %0 input f32[B, 3, $k, $m] \"x\" tensor %1 input f32[B, 3, $k, $n] \"g\" tensor %2 temp f32[3, B, $m, $n] \"y\"\n"
      "tensor %3 temp f32[B, $m, 3] \"s\" %3[a0, a2, a1] = sum{a3:$k}(%0[a0, a1, a3, a2])  {a0:B, a1:3, a2:$m} output \"s\" = %3\n"
      "%2[a1, a0, a2, a3] = sum{a4:$k}(%0[a0, a1, a4, a2] * %1[a0, a1, a4, a3])  {a0:B, a1:3, a2:$m, a3:$n} output \"y\" = %2", 0 },
    { "rows three apart, terms in two axes",
      "tensor %0 input f32[B, $k, $m, 3] \"x\" tensor %1 input f32[$k, B, $n] \"g\" tensor %2 temp f32[$m, $n] \"y\" tensor %3 temp f32[$m] \"s\"\n"
      "%2[a0, a1] = sum{a2:B, a3:$k}(%0[a2, a3, a0, 1] * %1[a3, a2, a1])  {a0:$m, a1:$n} output \"y\" = %2\n"
      "%3[a1] = sum{a0:B, a2:$k}(%0[a0, a2, a1, 1])  {a1:$m} output \"s\" = %3", 0 },
    { "columns three apart, terms in two axes",
      "tensor %0 input f32[$k, B, $m] \"x\" tensor %1 input f32[B, $k, $n, 3] \"g\" tensor %2 temp f32[$m, $n] \"y\" tensor %3 temp f32[$n] \"s\"\n"
      "%2[a0, a1] = sum{a2:B, a3:$k}(%0[a3, a2, a0] * %1[a2, a3, a1, 2])  {a0:$m, a1:$n} output \"y\" = %2\n"
      "%3[a1] = sum{a0:B, a2:$k}(%1[a0, a2, a1, 2])  {a1:$n} output \"s\" = %3", 0 },
    { "terms side by side, but for an axis of one point",
      "tensor %0 input f32[$m, $k, 1] \"x\" tensor %1 input f32[$n, $k] \"g\" tensor %2 temp f32[$m, 1, $n] \"y\" tensor %3 temp f32[$m, 1] \"s\"\n"
      "%2[a0, a3, a1] = sum{a2:$k}(%0[a0, a2, a3] * %1[a1, a2])  {a0:$m, a1:$n, a3:1} output \"y\" = %2\n"
      "%3[a0, a2] = sum{a1:$k}(%0[a0, a1, a2])  {a0:$m, a2:1} output \"s\" = %3", 0 },
    { "heads: columns that do not run together, a part of a projection",
      "tensor %0 input f32[B, $k, $m] \"x\" tensor %1 input f32[B, 2, $k, $n] \"g\" tensor %2 temp f32[$m, 2, 70, $n] \"y\"\n"
      "tensor %3 temp f32[$m] \"s\" %3[a0] = sum{a1:B, a2:$k}(%0[a1, a2, a0])  {a0:$m} output \"s\" = %3\n"
      "%2[a0, a1, 3, a2] = sum{a3:B, a4:$k}(%0[a3, a4, a0] * %1[a3, a1, a4, a2])  {a0:$m, a1:2, a2:$n}\n"
      "%2[a0, a1, a3, a2] = 0  {a0:$m, a1:2, a2:$n, a3:3} %2[a0, a1, a3 + 4, a2] = 1  {a0:$m, a1:2, a2:$n, a3:66} output \"y\" = %2", 0 },
    { "heads: the sum is theirs",
      "tensor %0 input f32[B, $k, $m] \"x\" tensor %1 input f32[B, 2, $k, $n] \"g\" tensor %2 temp f32[$m, 2, $n] \"y\" tensor %3 temp f32[2, $n] \"s\"\n"
      "%3[a1, a2] = sum{a0:B, a3:$k}(%1[a0, a1, a3, a2])  {a1:2, a2:$n} output \"s\" = %3\n"
      "%2[a0, a1, a2] = sum{a3:B, a4:$k}(%0[a3, a4, a0] * %1[a3, a1, a4, a2])  {a0:$m, a1:2, a2:$n} output \"y\" = %2", 0 },
    { "with an epilogue, and read by a map of its own",
      RANDOM_SIDES "tensor %3 temp f32[$m] \"s\" tensor %4 temp f32[$m] \"t\" tensor %5 temp f32[$m, $n] \"z\" tensor %6 temp f32[$m, $n] \"u\"\n"
      "%3[a0] = sum{a1:$k}(%0[a1, a0])  {a0:$m} %4[a0] = %3[a0] * 2  {a0:$m} output \"t\" = %4\n"
      "%2[a0, a1] = sum{a2:$k}(%0[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n}\n"
      "%5[a0, a1] = tanh(%2[a0, a1]) + 1  {a0:$m, a1:$n} %6[a0, a1] = %5[a0, a1] * %3[a0]  {a0:$m, a1:$n} output \"z\" = %5 output \"u\" = %6", 0 },
    { "the contraction needs it",
      RANDOM_SIDES "tensor %3 temp f32[$n] \"s\" tensor %4 temp f32[$k, $m] \"h\" %3[a0] = sum{a1:$k}(%1[a1, a0])  {a0:$n} output \"s\" = %3\n"
      "%4[a0, a1] = %0[a0, a1] - %3[0]  {a0:$k, a1:$m} %2[a0, a1] = sum{a2:$k}(%4[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %2", 1 },
    { "of some of the terms",
      RANDOM_SIDES GRADIENT "tensor %3 temp f32[$m] \"s\" %3[a0] = sum{a1:2}(%0[a1, a0])  {a0:$m} output \"s\" = %3", 1 },
    { "of other terms of the tensor",
      "tensor %0 input f32[$k, 2, $m] \"x\" tensor %1 input f32[$k, $n] \"g\" tensor %2 temp f32[$m, $n] \"y\" tensor %3 temp f32[$m] \"s\"\n"
      "%2[a0, a1] = sum{a2:$k}(%0[a2, 0, a0] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %2\n"
      "%3[a0] = sum{a1:$k}(%0[a1, 1, a0])  {a0:$m} output \"s\" = %3", 1 },
    { "of squares; the largest",
      RANDOM_SIDES GRADIENT "tensor %3 temp f32[$m] \"s\" %3[a0] = sum{a1:$k}(%0[a1, a0]^2)  {a0:$m} output \"s\" = %3\n"
      "tensor %4 temp f32[$n] \"t\" %4[a0] = max{a1:$k}(%1[a1, a0])  {a0:$n} output \"t\" = %4", 2 },
};

/* one extent at a time small; several blocks of rows, of columns, of terms, and odd ones */
static const struct { int m, n, k; } sizes[] = {
    { 2, 2, 2 }, { 17, 7, 49 }, { 7, 50, 17 }, { 49, 17, 7 }, { 200, 7, 3 }, { 7, 600, 5 }, { 9, 200, 801 }, { 9, 17, 1601 },
};

static const char *written(Arena *a, const char *text, int m, int n, int k, bool bf16)
{
    Text t = { .arena = a };
    for (; *text; text++) {
        if (*text == '$') {
            text++;
            text_printf(&t, "%d", *text == 'n' ? n : *text == 'm' ? m : k);
        } else if (bf16 && !strncmp(text, "input f32", 9)) {
            text_printf(&t, "input bf16");
            text += 8;
        } else {
            text_char(&t, *text);
        }
    }
    return text_data(&t);
}

static void values(bool bf16)
{
    static const int batch[] = { 1, 3 };
    Suite s;
    suite_open_for(&s, true);
    for (size_t i = 0; i < LEN(shapes); i++)
        for (size_t e = 0; e < LEN(sizes); e++) {
            const char *name = arena_printf(&s.arena, "%s m=%d n=%d k=%d", shapes[i].name, sizes[e].m, sizes[e].n, sizes[e].k);
            const Case *c = suite_add(&s, name, written(&s.arena, shapes[i].text, sizes[e].m, sizes[e].n, sizes[e].k, bf16));
            if (case_kernels(c, K_CONTRACT) != 1 || (sizes[e].k > 2 && case_kernels(c, K_REDUCE) != shapes[i].reduces))
                fail_msg("%s: %d contractions, %d reductions", name, case_kernels(c, K_CONTRACT), case_kernels(c, K_REDUCE));
        }
    suite_link(&s);
    for (int i = 0; i < s.cases.n; i++)
        for (size_t b = 0; b < LEN(batch); b++)
            case_check(&s, s.cases.at[i], batch[b], 1e-5);
    fprintf(stderr, "# %d graphs, %d processors, worst error %.1e\n", s.cases.n, s.n_target, s.worst);
    suite_close(&s);
}

static void in_f32(void **state) { values(false); }
static void in_bf16(void **state) { values(true); }

/* 200,000 terms of one sign: the error stays that of a block of them, where adding them one by one in f32 loses 1e-4 or so. */
static void many_terms(void **state)
{
    static const char *const text =
        "tensor %0 input f32[$k, $m] \"x\" tensor %1 input f32[$k, $n] \"g\" tensor %2 temp f32[$m, $n] \"y\" tensor %3 temp f32[$m, $n] \"z\"\n"
        "tensor %4 temp f32[$m] \"s\" %4[a1] = sum{a0:$k}(%0[a0, a1])  {a1:$m} output \"s\" = %4\n"
        "%2[a0, a1] = sum{a2:$k}(%0[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n} %3[a0, a1] = 0.000000000001 * %2[a0, a1]  {a0:$m, a1:$n} output \"z\" = %3";
    for (int bf16 = 0; bf16 < 2; bf16++) {
        Suite s;
        suite_open_for(&s, true);
        Case *c = suite_add(&s, bf16 ? "many terms in bf16" : "many terms", written(&s.arena, text, 2, 2, 200001, bf16));
        c->low = 0.5;
        c->high = 1.5;
        suite_link(&s);
        case_check(&s, c, 1, 1.5e-7);
        fprintf(stderr, "# %s: worst error %.1e\n", c->name, s.worst);
        suite_close(&s);
    }
}

static size_t scratch_used(const Suite *s)             /* in floats, on the last processor */
{
    size_t n = TIC_NOTE / 4;
    while (n && ((const uint32_t *)s->scratch)[n - 1] == 0xffffffff)
        n--;
    return n;
}

/* More rows than a task's sums have places (row i has place i mod MB_MOST), so that tasks begin behind the last of them; with
 * several blocks of terms and with one. They need no more scratch than as many rows as places. The same of columns, which a task
 * counts from its first. */
static void many_rows(void **state)
{
    static const struct { int shape, m, n, k; } of[] = {
        { 0, 3301, 2, 801 }, { 0, 3301, 2, 5 }, { 0, 1601, 200, 801 }, { 1, 2, 3301, 801 }, { 1, 9, 1601, 5 },
    };
    Suite s;
    suite_open_for(&s, true);
    for (size_t i = 0; i < LEN(of); i++)
        for (int bf16 = 0; bf16 < 2; bf16++) {
            int m = of[i].m, n = of[i].n, k = of[i].k;
            const Shape *shape = &shapes[of[i].shape];
            const char *name = arena_printf(&s.arena, "%s m=%d n=%d k=%d%s", shape->name, m, n, k, bf16 ? " bf16" : "");
            suite_add(&s, name, written(&s.arena, shape->text, m, n, k, bf16));
        }
    suite_link(&s);
    size_t used = 0;
    for (int i = 0; i < s.cases.n; i++) {
        case_check(&s, s.cases.at[i], 1, 1e-5);
        if (used && of[i / 2].shape == 0 && scratch_used(&s) != used)
            fail_msg("%s: %zu floats of scratch are used, and %zu by %s", s.cases.at[i]->name, scratch_used(&s), used, s.cases.at[0]->name);
        used = used ? used : scratch_used(&s);
    }
    suite_close(&s);
}

/* Infinities are infinities, and NaN is NaN. */
static void not_finite(void **state)
{
    Suite s;
    suite_open_for(&s, true);
    Case *c = suite_add(&s, "not finite", written(&s.arena,
        "tensor %0 input f32[$k, $m] \"x\" tensor %1 input f32[$k, $n] \"g\" tensor %2 temp f32[$k, $m] \"h\" tensor %3 temp f32[$m, $n] \"y\"\n"
        "tensor %4 temp f32[$m] \"s\" %2[a0, a1] = where([a0] == 2000 and [a1] < 6, 1 / ([a1] - 3), %0[a0, a1])  {a0:$k, a1:$m}\n"
        "%4[a0] = sum{a1:$k}(%2[a1, a0])  {a0:$m} output \"s\" = %4\n"
        "%3[a0, a1] = sum{a2:$k}(%2[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %3", 9, 5, 4000, false));
    suite_link(&s);
    case_check(&s, c, 1, 1e-5);
    suite_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_f32), cmocka_unit_test(in_bf16), cmocka_unit_test(many_terms), cmocka_unit_test(many_rows),
        cmocka_unit_test(not_finite),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
