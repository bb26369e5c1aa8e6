/* cc_kernels.c -- how many kernels a few equations become, and that native code gives what the interpreter gives on them as written:
 * tensors in pieces of which some only copy or fill, maps beside rows of another length, sums that are part of others, and updates. */
#include "cpu_harness.h"

typedef struct Equations { const char *name, *text; int kernels; } Equations;

#define TOKENS "tensor %0 input f32[B, 6, 5] \"p\" tensor %1 param f32[9, 5] \"w\" tensor %2 param f32[9] \"first\"\n" \
    "tensor %3 temp f32[B, 7, 9] \"x\" tensor %4 param f32[7, 9] \"pos\" tensor %5 temp f32[B, 7, 9] \"y\"\n"
#define PREPENDED "%3[a0, 0, a1] = %2[a1]  {a0:B, a1:9}\n" \
    "%3[a0, a1 + 1, a2] = sum{a3:5}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:6, a2:9}\n"
#define PADDED "tensor %0 input f32[B, 5] \"d\" tensor %1 param f32[9, 5] \"w\" tensor %2 temp f32[B, 17, 9] \"x\"\n" \
    "tensor %3 input f32[B, 17, 9] \"h\" tensor %4 temp f32[B, 17] \"s\" tensor %5 temp f32[B, 17, 9] \"y\" tensor %6 temp f32[9] \"c\"\n"
#define ROW_OF(at) "%2[a0, " at ", a1] = sum{a2:5}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:9}\n"
#define SPREAD "%4[a0, a1] = sum{a2:9}(%2[a0, a1, a2] * %3[a0, a1, a2])  {a0:B, a1:17}\n" \
    "%5[a0, a1, a2] = %2[a0, a1, a2] - %4[a0, a1]  {a0:B, a1:17, a2:9}\n" \
    "%6[a2] = sum{a0:B, a1:17}(%2[a0, a1, a2])  {a2:9}\noutput \"y\" = %5 output \"c\" = %6\n"

static const Equations pieces[] = {
    { "a token before the others", TOKENS PREPENDED "%5[a0, a1, a2] = %3[a0, a1, a2] + %4[a1, a2]  {a0:B, a1:7, a2:9}\noutput \"y\" = %5\n", 2 },
    { "read at two places", TOKENS PREPENDED
      "%5[a0, a1, a2] = %3[a0, a1, a2] + %3[a0, -a1 + 6, a2] * %4[a1, a2]  {a0:B, a1:7, a2:9}\noutput \"y\" = %5\n", 2 },
    { "wanted as it is", TOKENS PREPENDED
      "%5[a0, a1, a2] = %3[a0, a1, a2] + %4[a1, a2]  {a0:B, a1:7, a2:9}\noutput \"y\" = %5 output \"x\" = %3\n", 3 },
    { "an operand", TOKENS PREPENDED
      "tensor %6 temp f32[B, 7, 7] \"z\"\n%6[a0, a1, a2] = sum{a3:9}(%3[a0, a1, a3] * %4[a2, a3])  {a0:B, a1:7, a2:7}\noutput \"z\" = %6\n", 3 },
    { "looked up", TOKENS PREPENDED "tensor %6 input i32[B] \"at\" tensor %7 temp f32[B, 9] \"z\"\n"
      "%7[a0, a1] = %3[a0, %6[a0], a1] + 1  {a0:B, a1:9}\noutput \"z\" = %7\n", 3 },
    { "four pieces, between rows and between columns",
      "tensor %0 input f32[B, 2, 3] \"p\" tensor %1 param f32[4] \"q\" tensor %2 temp f32[B, 6, 7] \"x\" tensor %3 temp f32[B, 6, 7] \"y\"\n"
      "%2[a0, a1, a2] = 0.5  {a0:B, a1:2, a2:7}\n%2[a0, a1 + 2, a2] = %0[a0, a1, a2]  {a0:B, a1:2, a2:3}\n"
      "%2[a0, a1 + 2, a2 + 3] = %1[a2]  {a0:B, a1:2, a2:4}\n%2[a0, a1 + 4, a2] = exp(%0[a0, a1, 0])  {a0:B, a1:2, a2:7}\n"
      "%3[a0, a1, a2] = %2[a0, a1, a2] * 3  {a0:B, a1:6, a2:7}\noutput \"y\" = %3\n", 2 },
    { "beside the residual of a contraction",
      TOKENS PREPENDED "tensor %6 input f32[B, 7, 4] \"q\" tensor %7 param f32[9, 4] \"v\" tensor %8 temp f32[B, 7, 9] \"c\"\n"
      "%8[a0, a1, a2] = sum{a3:4}(%6[a0, a1, a3] * %7[a2, a3])  {a0:B, a1:7, a2:9}\n"
      "%5[a0, a1, a2] = %8[a0, a1, a2] + %3[a0, a1, a2]  {a0:B, a1:7, a2:9}\noutput \"y\" = %5\n", 2 },
    { "one row among zeros", PADDED ROW_OF("0") "%2[a0, a1 + 1, a2] = 0  {a0:B, a1:16, a2:9}\n" SPREAD, 2 },
    { "the last row", PADDED ROW_OF("16") "%2[a0, a1, a2] = 2  {a0:B, a1:16, a2:9}\n" SPREAD, 2 },
    { "in the middle", PADDED "%2[a0, a1, a2] = 0  {a0:B, a1:8, a2:9}\n" ROW_OF("8") "%2[a0, a1 + 9, a2] = -1  {a0:B, a1:8, a2:9}\n" SPREAD, 2 },
    { "a copy of another, which has a later number",
      "tensor %0 input f32[B, 3] \"p\" tensor %1 temp f32[B, 9] \"x\" tensor %2 temp f32[B, 6] \"inner\" tensor %3 temp f32[B, 9] \"y\"\n"
      "%2[a0, a1] = 0.5  {a0:B, a1:3}\n%2[a0, a1 + 3] = exp(%0[a0, a1])  {a0:B, a1:3}\n"
      "%1[a0, a1] = %2[a0, a1]  {a0:B, a1:6}\n%1[a0, a1 + 6] = sqrt(%0[a0, a1])  {a0:B, a1:3}\n"
      "%3[a0, a1] = %1[a0, a1] * 3  {a0:B, a1:9}\noutput \"y\" = %3\n", 3 },
    { "more than little to copy", PADDED "%2[a0, a1 + 3, a2] = sum{a3:5}(%0[a0, a3] * %1[a2, a3]) {a0:B, a1:14, a2:9}\n"
      "%2[a0, a1, a2] = 0  {a0:B, a1:3, a2:9}\n" SPREAD, 4 },
};

#define LOOKED_UP "tensor %0 input i32[B, 11] \"tokens\" tensor %1 input f32[B, 11, 3, 5] \"h\" tensor %2 temp i32[B] \"at\"\n" \
    "tensor %3 temp f32[B, 3, 5] \"y\"\n%2[a0] = argmax{a1:11}(%0[a0, a1])  {a0:B}\n"
#define LOOKS_UP "%3[a0, a1, a2] = %1[a0, %2[a0], a1, a2] * 2  {a0:B, a1:3, a2:5}\n"

static const Equations rows[] = {
    { "the row that holds the largest number", LOOKED_UP LOOKS_UP "output \"y\" = %3 output \"at\" = %2\n", 1 },
    { "two of them", LOOKED_UP LOOKS_UP
      "tensor %4 temp f32[B, 7] \"z\"\n%4[a0, a1] = %1[a0, %2[a0], 0, 0] + [a1]  {a0:B, a1:7}\noutput \"y\" = %3 output \"z\" = %4\n", 2 },
    { "which needs what was made of the number meanwhile", LOOKED_UP
      "tensor %4 input f32[B, 4] \"a\" tensor %5 input f32[4, 15] \"b\" tensor %6 temp f32[B, 4] \"c\" tensor %7 temp f32[B, 15] \"d\"\n"
      "%6[a0, a1] = %4[a0, a1] * [%2[a0]]  {a0:B, a1:4}\n%7[a0, a1] = sum{a2:4}(%6[a0, a2] * %5[a2, a1])  {a0:B, a1:15}\n"
      "%3[a0, a1, a2] = %1[a0, %2[a0], a1, a2] * %7[a0, a1 * 5 + a2]  {a0:B, a1:3, a2:5}\noutput \"y\" = %3\n", 3 },
    { "a norm's rows beside longer ones", "tensor %0 input f32[B, 40] \"x\" tensor %1 temp f32[B] \"n\" tensor %2 input f32[B, 100] \"y\"\n"
      "tensor %3 temp f32[B, 100] \"z\" tensor %4 temp f32[B, 40] \"u\"\n%1[a0] = sum{a1:40}(%0[a0, a1] * %0[a0, a1])  {a0:B}\n"
      "%4[a0, a1] = %0[a0, a1] / %1[a0]  {a0:B, a1:40}\n%3[a0, a1] = %2[a0, a1] * %1[a0]  {a0:B, a1:100}\n"
      "output \"z\" = %3 output \"u\" = %4\n", 1 },
    { "rows too long for that", "tensor %0 input f32[B, 4] \"x\" tensor %1 temp f32[B] \"n\" tensor %2 temp f32[B, 2000] \"y\"\n"
      "%1[a0] = sum{a1:4}(%0[a0, a1])  {a0:B}\n%2[a0, a1] = %1[a0] * [a1]  {a0:B, a1:2000}\noutput \"y\" = %2\n", 2 },
};

#define GRADIENTS "tensor %0 input f32[B, 7, 9] \"g\" tensor %1 param f32[9] \"first\" tensor %2 temp f32[9] \"c\" tensor %3 temp f32[7, 9] \"p\"\n" \
    "tensor %4 temp f32[9] \"new\"\n"
#define STEP "%4[a0] = %1[a0] - %2[a0] * 0.5  {a0:9}\nupdate %1 = %4 output \"p\" = %3\n"

static const Equations sums[] = {
    { "a sum that is the first row of a later one", GRADIENTS "%2[a0] = sum{a1:B}(%0[a1, 0, a0] * 2)  {a0:9}\n"
      "%3[a0, a1] = sum{a2:B}(%0[a2, a0, a1] * 2)  {a0:7, a1:9}\n" STEP, 2 },
    { "the fifth row of one before", GRADIENTS "%3[a0, a1] = max{a2:B}(%0[a2, a0, a1])  {a0:7, a1:9}\n"
      "%2[a0] = max{a1:B}(%0[a1, 4, a0])  {a0:9}\n" STEP, 2 },
    { "a column", GRADIENTS "tensor %5 temp f32[7] \"k\"\n%3[a0, a1] = sum{a2:B}(%0[a2, a0, a1])  {a0:7, a1:9}\n%5[a0] = sum{a1:B}(%0[a1, a0, 3])  {a0:7}\n"
      "%2[a0] = %1[a0] * %5[2]  {a0:9}\n" STEP, 2 },
    { "another function of the same", GRADIENTS "%3[a0, a1] = sum{a2:B}(%0[a2, a0, a1])  {a0:7, a1:9}\n"
      "%2[a0] = sum{a1:B}(%0[a1, 0, a0] * 2)  {a0:9}\n" STEP, 3 },
    { "another reducer", GRADIENTS "%3[a0, a1] = max{a2:B}(%0[a2, a0, a1])  {a0:7, a1:9}\n"
      "%2[a0] = min{a1:B}(%0[a1, 0, a0])  {a0:9}\n" STEP, 3 },
    { "a sum over more", GRADIENTS "%3[a0, a1] = sum{a2:B}(%0[a2, a0, a1])  {a0:7, a1:9}\n"
      "%2[a0] = sum{a1:B, a2:7}(%0[a1, a2, a0])  {a0:9}\n" STEP, 3 },
};

static void check(const Equations *e, size_t n)
{
    Suite s;
    Case **c = calloc(n, sizeof *c);
    int wrong = 0;
    assert_non_null(c);
    suite_open(&s);
    for (size_t i = 0; i < n; i++) {
        c[i] = suite_add(&s, e[i].name, e[i].text);
        c[i]->most = 7;
        if (c[i]->f.n_kernel != e[i].kernels)
            fprintf(stderr, "# %s: %d kernels, wanted %d\n", e[i].name, c[i]->f.n_kernel, e[i].kernels);
        wrong += c[i]->f.n_kernel != e[i].kernels;
    }
    suite_link(&s);
    static const int batch[] = { 1, 3, 40 };
    for (size_t i = 0; i < n; i++)
        for (size_t b = 0; b < LEN(batch); b++)
            case_check(&s, c[i], batch[b], 1e-5);
    fprintf(stderr, "# worst error %.1e\n", s.worst);
    assert_int_equal(wrong, 0);
    suite_close(&s);
    free(c);
}


#define TWO "tensor %0 param f32[37] \"w\" tensor %1 param f32[37] \"m\" tensor %2 temp f32[37] \"nw\" tensor %3 temp f32[37] \"nm\"\n" \
    "tensor %4 temp f32[] \"s\" tensor %5 temp f32[37] \"y\"\n"

/* New values are written over old ones: those that somebody still reads, at another point or later, first get a copy. */
static const Equations updates[] = {
    { "each by itself", TWO "%2[a0] = %0[a0] * 0.9  {a0:37}\n%3[a0] = %1[a0] + %0[a0]  {a0:37}\nupdate %0 = %2 update %1 = %3\n", 1 },
    { "a swap", TWO "%2[a0] = %1[a0]  {a0:37}\n%3[a0] = %0[a0]  {a0:37}\nupdate %0 = %2 update %1 = %3\n", 3 },
    { "turned around", TWO "%2[a0] = %0[-a0 + 36] * 2  {a0:37}\nupdate %0 = %2\n", 2 },
    { "the old value beside the new one", TWO "%2[a0] = %0[a0] * 0.9  {a0:37}\n%3[a0] = %2[a0] + %0[a0]  {a0:37}\n"
      "update %0 = %2 update %1 = %3\n", 2 },
    { "the old value after a sum of the new one", TWO "%2[a0] = %0[a0] * 0.9  {a0:37}\n%4 = sum{a0:37}(%2[a0])\n"
      "%5[a0] = %0[a0] * %4  {a0:37}\nupdate %0 = %2 output \"y\" = %5\n", 4 },
    { "a sum of the old value", TWO "%2[a0] = %0[a0] * 0.9  {a0:37}\n%4 = sum{a0:37}(%0[a0])\nupdate %0 = %2 output \"s\" = %4\n", 2 },
    { "one value for two", TWO "%2[a0] = %0[a0] * 0.9 + %1[a0]  {a0:37}\nupdate %0 = %2 update %1 = %2\n", 1 },
};

static void pieces_that_copy(void **state) { check(pieces, LEN(pieces)); }
static void rows_of_their_own(void **state) { check(rows, LEN(rows)); }
static void sums_in_others(void **state) { check(sums, LEN(sums)); }
static void values_over_old_ones(void **state) { check(updates, LEN(updates)); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(pieces_that_copy), cmocka_unit_test(rows_of_their_own), cmocka_unit_test(sums_in_others),
                                        cmocka_unit_test(values_over_old_ones) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
