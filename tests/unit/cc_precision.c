/* cc_precision.c -- train.precision = bf16: which tensors become bf16, which keep a value of their own beside a copy, and
 * which stay as they are; and what rounding means. */
#include "graph_test.h"
#include "pass/kernel.h"

/* x -> h -> y by two layers; a residual u = h2 + x is read by a third; the logits of y against itself carry two batches. */
static const char *const layers =
    "tensor %0 input f32[B, 6] \"x\" tensor %1 param f32[7, 6] \"w1\" tensor %2 temp f32[B, 7] \"h\"\n"
    "tensor %3 param f32[6, 7] \"w2\" tensor %4 temp f32[B, 6] \"h2\" tensor %5 temp f32[B, 6] \"u\"\n"
    "tensor %6 param f32[5, 6] \"w3\" tensor %7 temp f32[B, 5] \"y\" tensor %8 temp f32[B, B] \"s\" tensor %9 temp f32[B, 6] \"t\"\n"
    "%2[a0, a1] = sum{a2:6}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:7}\n"
    "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %3[a1, a2])  {a0:B, a1:6}\n"
    "%5[a0, a1] = %4[a0, a1] + %0[a0, a1]  {a0:B, a1:6}\n"
    "%7[a0, a1] = sum{a2:6}(%5[a0, a2] * %6[a1, a2])  {a0:B, a1:5}\n"
    "%8[a0, a1] = sum{a2:5}(%7[a0, a2] * %7[a1, a2])  {a0:B, a1:B}\n"
    "%9[a0, a1] = 2 * %5[a0, a1]  {a0:B, a1:6} output \"s\" = %8 output \"t\" = %9";

static DType type_of(const Graph *g, const char *name)
{
    int t = find_tensor(g, name);
    if (t < 0)
        fail_msg("no tensor `%s`", name);
    return g->tensor[t].dtype;
}

static bool reads(const Graph *g, const char *of, const char *what)
{
    int out = find_tensor(g, of), t = find_tensor(g, what);
    for (int i = 0; i < g->n_comp; i++) {
        const Expr *load[8];
        int n = comp_loads(g->comp[i], load, 8);
        for (int k = 0; k < n && g->comp[i]->out == out; k++)
            if (load[k]->tensor == t)
                return true;
    }
    return false;
}

static void operands(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Graph *g = graph_from(&a, layers);
    if (!passes_precision(g, &why))
        fail_msg("%s", text_data(&why));
    assert_int_equal(type_of(g, "h"), DT_BF16);                /* only contractions read it */
    assert_int_equal(find_tensor(g, "h.bf16"), -1);
    assert_int_equal(type_of(g, "u"), DT_F32);                 /* somebody else reads it too */
    assert_int_equal(type_of(g, "u.bf16"), DT_BF16);
    assert_true(reads(g, "y", "u.bf16") && reads(g, "t", "u") && !reads(g, "t", "u.bf16"));
    assert_int_equal(type_of(g, "w1"), DT_F32);                /* the master, and what a step rounds from it */
    assert_true(reads(g, "h", "w1.bf16") && reads(g, "h", "x.bf16"));
    assert_true(reads(g, "s", "y"));                           /* logits stay f32 */
    assert_int_equal(type_of(g, "y"), DT_F32);
    assert_int_equal(type_of(g, "s"), DT_F32);
    Fused f;
    if (!fuse(g, NULL, &a, &f, &why))
        fail_msg("%s", text_data(&why));
    assert_int_equal(poly_at(tensor_bytes(g, find_tensor(g, "h")), 4), 4 * 7 * 2);
    for (int i = 0; i < f.n_kernel; i++)                       /* a copy of what a kernel makes is made there */
        if (f.kernel[i].comp[0].out == find_tensor(g, "h2"))
            for (int k = 0; k < f.kernel[i].n_writes; k++)
                assert_int_not_equal(f.kernel[i].writes[k], find_tensor(g, "h2"));
    assert_int_equal(f.n_kernel, 4 + 4);                       /* layers and logits; roundings of x and three weights */
    arena_free(&a);
}

/* Rows of x by a layer (h, then y with a bias), y read twice; a second layer (v) on top of g, which a bias gradient sums;
 * and a layer whose only reader adds it to x. */
static const char *const stored =
    "tensor %0 input f32[B, 3, 6] \"x\" tensor %1 param f32[7, 6] \"w1\" tensor %2 temp f32[B, 3, 7] \"h\"\n"
    "tensor %3 param f32[7] \"b\" tensor %4 temp f32[B, 3, 7] \"y\" tensor %5 temp f32[B, 3, 7] \"g\"\n"
    "tensor %6 param f32[6, 7] \"w2\" tensor %7 temp f32[B, 3, 6] \"v\" tensor %8 temp f32[7] \"db\"\n"
    "tensor %9 temp f32[B, 3, 7] \"t\" tensor %10 temp f32[B, 3, 6] \"u\"\n"
    "%2[a0, a1, a2] = sum{a3:6}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:3, a2:7}\n"
    "%4[a0, a1, a2] = %2[a0, a1, a2] + %3[a2]  {a0:B, a1:3, a2:7}\n"
    "%5[a0, a1, a2] = exp(%4[a0, a1, a2])  {a0:B, a1:3, a2:7}\n"
    "%9[a0, a1, a2] = 2 * %4[a0, a1, a2]  {a0:B, a1:3, a2:7}\n"
    "%7[a0, a1, a2] = sum{a3:7}(%5[a0, a1, a3] * %6[a2, a3])  {a0:B, a1:3, a2:6}\n"
    "%8[a0] = sum{a1:B, a2:3}(%5[a1, a2, a0])  {a0:7}\n"
    "%10[a0, a1, a2] = %7[a0, a1, a2] + %0[a0, a1, a2]  {a0:B, a1:3, a2:6}\n"
    "output \"db\" = %8 output \"t\" = %9 output \"u\" = %10";

static void results_of_layers(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Graph *g = graph_from(&a, stored);
    if (!passes_precision(g, &why))
        fail_msg("%s", text_data(&why));
    assert_int_equal(type_of(g, "y"), DT_BF16);                /* two readers: it is stored */
    assert_int_equal(type_of(g, "h"), DT_F32);                 /* rounded once, with its bias */
    assert_int_equal(type_of(g, "g"), DT_BF16);                /* an operand that else is only summed */
    assert_int_equal(find_tensor(g, "g.bf16"), -1);
    assert_int_equal(type_of(g, "v"), DT_F32);                 /* goes into u where it is made */
    assert_int_equal(type_of(g, "u"), DT_F32);
    assert_int_equal(type_of(g, "db"), DT_F32);
    assert_int_equal(type_of(g, "t"), DT_F32);
    arena_free(&a);
}

/* y = x W + b is read by a map that makes g of it, and by one that multiplies another layer's gradient by a function of it. */
static const char *const activation =
    "tensor %0 input f32[B, 3, 6] \"x\" tensor %1 param f32[7, 6] \"w\" tensor %2 temp f32[B, 3, 7] \"h\"\n"
    "tensor %3 param f32[7] \"b\" tensor %4 temp f32[B, 3, 7] \"y\" tensor %5 temp f32[B, 3, 7] \"g\"\n"
    "tensor %6 param f32[6, 7] \"v\" tensor %7 temp f32[B, 3, 6] \"z\" tensor %8 temp f32[B, 3, 7] \"dg\"\n"
    "tensor %9 temp f32[B, 3, 7] \"dy\" tensor %10 temp f32[7, 6] \"dw\" tensor %11 temp f32[B, 3, 6] \"t\"\n"
    "%2[a0, a1, a2] = sum{a3:6}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:3, a2:7}\n"
    "%4[a0, a1, a2] = %2[a0, a1, a2] + %3[a2]  {a0:B, a1:3, a2:7}\n"
    "%5[a0, a1, a2] = %4[a0, a1, a2] * (erf(%4[a0, a1, a2]) + 1)  {a0:B, a1:3, a2:7}\n"
    "%7[a0, a1, a2] = sum{a3:7}(%5[a0, a1, a3] * %6[a2, a3])  {a0:B, a1:3, a2:6}\n"
    "%11[a0, a1, a2] = %7[a0, a1, a2] - %0[a0, a1, a2]  {a0:B, a1:3, a2:6}\n"
    "%8[a0, a1, a2] = sum{a3:6}(%11[a0, a1, a3] * %6[a3, a2])  {a0:B, a1:3, a2:7}\n"
    "%9[a0, a1, a2] = %8[a0, a1, a2] * (erf(%4[a0, a1, a2]) + 1) + %8[a0, a1, a2] * %4[a0, a1, a2] * exp(%4[a0, a1, a2])  "
    "{a0:B, a1:3, a2:7}\n"
    "%10[a0, a1] = sum{a2:B, a3:3}(%9[a2, a3, a0] * %0[a2, a3, a1])  {a0:7, a1:6}\n"
    "output \"dw\" = %10";

static void derivatives(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Graph *g = graph_from(&a, activation);
    if (!passes_precision(g, &why))
        fail_msg("%s", text_data(&why));
    assert_int_equal(type_of(g, "y.slope"), DT_BF16);          /* saved in y's place */
    assert_int_equal(type_of(g, "y"), DT_F32);                 /* which stays where it is made */
    assert_true(reads(g, "y.slope", "y") && reads(g, "g", "y") && reads(g, "dy", "y.slope") && !reads(g, "dy", "y"));
    Fused f;
    if (!fuse(g, NULL, &a, &f, &why))
        fail_msg("%s", text_data(&why));
    for (int i = 0; i < f.n_kernel; i++)
        for (int k = 0; k < f.kernel[i].n_writes; k++)
            assert_int_not_equal(f.kernel[i].writes[k], find_tensor(g, "y"));
    arena_free(&a);
}

static void rounding(void **state)
{
    assert_true(round_bf16(1 + 0x1p-8) == 1);                  /* a tie goes to the even neighbour */
    assert_true(round_bf16(1 + 0x3p-8) == 1 + 0x1p-6);
    assert_true(round_bf16(1 + 0x1.01p-8) == 1 + 0x1p-7);
    assert_true(fabs(round_bf16(-3e38) / -3e38 - 1) <= 0x1p-8);
    assert_true(isinf(round_bf16(3.4e38)) && round_bf16(INFINITY) == (double)INFINITY && isnan(round_bf16(NAN)));
    assert_true(round_bf16(0x1p-133) == 0x1p-133);             /* denormals are numbers */
    assert_true(signbit(round_bf16(-0.0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(operands), cmocka_unit_test(results_of_layers), cmocka_unit_test(derivatives),
                                      cmocka_unit_test(rounding) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
