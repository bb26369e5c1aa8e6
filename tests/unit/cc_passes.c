/* cc_passes.c -- simplifications one by one: each takes its case, and leaves what only looks like it as it is. Whatever a pass does,
 * the outputs keep their values. Graphs are written as text. */
#include "graph_test.h"
#include "pass/kernel.h"
#include "pass/pass.h"

#define X "tensor %0 param f32[4] const(0) \"x\" tensor %1 input i32[4] \"at\" "
#define M "tensor %0 param f32[4, 5] const(0) \"x\" tensor %1 input i32[4] \"at\" "
#define OUT(t) " output \"r\" = " t

/* A tensor called "again" is one that is computed a second time, as remat has it. */
typedef struct Case { const char *name; int (*pass)(Graph *g); int changes; const char *text; } Case;

static const Case cases[] = {
    { "equal maps", pass_cse, 1, X "tensor %2 temp f32[4] \"a\" tensor %3 temp f32[4] \"b\" tensor %4 temp f32[] \"s\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) {a0:4} %4 = sum{a0:4}(%2[a0] * %3[a0] * %0[a0])" OUT("%4") },
    { "equal maps of two types", pass_cse, 0, X "tensor %2 temp f32[4] \"a\" tensor %3 temp bf16[4] \"b\" tensor %4 temp f32[] \"s\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) {a0:4} %4 = sum{a0:4}(%2[a0] * %3[a0])" OUT("%4") },
    { "equal first pieces", pass_cse, 0, X "tensor %2 temp f32[4] \"a\" tensor %3 temp f32[4] \"b\" tensor %4 temp f32[] \"s\""
      "%2[a0] = %0[a0] {a0:2} %2[a0 + 2] = 1 {a0:2} %3[a0] = %0[a0] {a0:2} %3[a0 + 2] = 2 {a0:2}"
      "%4 = sum{a0:4}(%2[a0] * %3[a0])" OUT("%4") },
    { "an output equal to a map", pass_cse, 0, X "tensor %2 temp f32[4] \"a\" tensor %3 temp f32[4] \"b\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) {a0:4} output \"a\" = %2" OUT("%3") },
    { "the value of an update", pass_cse, 0, X "tensor %2 temp f32[4] \"new\" tensor %3 temp f32[4] \"b\" tensor %4 temp f32[] \"s\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) {a0:4} %4 = sum{a0:4}(%3[a0]) update %0 = %2" OUT("%4") },

    { "a map that is computed again", pass_cse, 0, X "tensor %2 temp f32[4] \"a\" tensor %3 temp f32[4] \"again\" tensor %4 temp f32[] \"s\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) {a0:4} %4 = sum{a0:4}(%2[a0] * %3[a0] * %0[a0])" OUT("%4") },

    { "a known part", pass_known, 1, X "tensor %2 temp f32[4] \"e\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) * 2 + %2[a0] {a0:4}" OUT("%3") },
    { "known for the first three alone", pass_known, 0, X "tensor %2 temp f32[3] \"e\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = exp(%0[a0]) {a0:3} %3[a0] = exp(%0[a0]) * 2 + %2[0] {a0:4}" OUT("%3") },
    { "known along an axis more", pass_known, 0, X "tensor %2 temp f32[4, 2] \"e\" tensor %3 temp f32[4] \"y\""
      "%2[a0, a1] = exp(%0[a0]) {a0:4, a1:2} %3[a0] = exp(%0[a0]) * 2 + %2[a0, 1] {a0:4}" OUT("%3") },
    { "known as whole numbers", pass_known, 0, X "tensor %2 temp i32[4] \"e\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = floor(%0[a0] * 3) {a0:4} %3[a0] = exp(floor(%0[a0] * 3)) + %2[a0] {a0:4}" OUT("%3") },
    { "known with fewer digits", pass_known, 0, X "tensor %2 temp f32[4] \"e\" tensor %3 temp f64[4] \"y\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) * 2 + %2[a0] {a0:4}" OUT("%3") },
    { "known to an update", pass_known, 0, X "tensor %2 temp f32[4] \"e\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = exp(%0[a0]) {a0:4} %3[a0] = exp(%0[a0]) * 2 {a0:4} update %0 = %2" OUT("%3") },
    { "a sum among those computed again", pass_known, 0, M "tensor %2 temp f32[4] \"again\" tensor %3 temp f32[] \"c\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3 = sum{a0:5}(%0[2, a0]) output \"p\" = %2" OUT("%3") },
    { "one of several sums", pass_known, 1, M "tensor %2 temp f32[4] \"p\" tensor %3 temp f32[] \"c\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3 = sum{a0:5}(%0[2, a0]) output \"p\" = %2" OUT("%3") },
    { "a sum behind the last of several", pass_known, 0, M "tensor %2 temp f32[3] \"p\" tensor %3 temp f32[] \"c\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:3} %3 = sum{a0:5}(%0[3, a0]) output \"p\" = %2" OUT("%3") },
    { "a maximum among sums", pass_known, 0, M "tensor %2 temp f32[4] \"p\" tensor %3 temp f32[] \"c\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3 = max{a0:5}(%0[2, a0]) output \"p\" = %2" OUT("%3") },
    { "a sum the other way", pass_known, 0, "tensor %0 param f32[3, 3, 3] const(0) \"x\" tensor %2 temp f32[3, 3] \"p\" tensor %3 temp f32[3] \"c\""
      "%2[a0, a1] = sum{a2:3}(%0[a2, a0, a1]) {a0:3, a1:3} %3[a0] = sum{a1:3}(%0[a0, a1, 0]) {a0:3} output \"p\" = %2" OUT("%3") },
    { "a sum twice", pass_known, 0, "tensor %0 param f32[4, 3, 5] const(0) \"x\" tensor %2 temp f32[4, 3] \"p\" tensor %3 temp f32[] \"c\""
      "%2[a0, a1] = sum{a2:5}(%0[a0, a1, a2]) {a0:4, a1:3} %3 = sum{a0:5, a1:2}(%0[1, 2, a0]) output \"p\" = %2" OUT("%3") },

#define ATTN "tensor %0 param f32[6, 2] const(0) \"dz\" tensor %1 param f32[7, 2] const(0) \"v\" tensor %2 param f32[6, 7] const(0) \"p\" " \
    "tensor %3 temp f32[6, 7] \"dp\" tensor %4 temp f32[6, 2] \"z\" tensor %5 temp f32[6] \"d\" "
    { "a row's sum by what is there", pass_reassoc, 1, ATTN
      "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %1[a2, a1]) {a0:6, a1:2} %3[a0, a1] = sum{a2:2}(%0[a0, a2] * %1[a1, a2] * 0.5) {a0:6, a1:7}"
      "%5[a0] = sum{a1:7}(%3[a0, a1] * %2[a0, a1] * 3) {a0:6} output \"dp\" = %3 output \"z\" = %4" OUT("%5") },
    { "the inner sum is a multiple", pass_reassoc, 0, ATTN
      "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %1[a2, a1] * 3) {a0:6, a1:2} %3[a0, a1] = sum{a2:2}(%0[a0, a2] * %1[a1, a2]) {a0:6, a1:7}"
      "%5[a0] = sum{a1:7}(%3[a0, a1] * %2[a0, a1]) {a0:6} output \"dp\" = %3 output \"z\" = %4" OUT("%5") },
    { "the inner sum has a guard", pass_reassoc, 0, ATTN
      "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %1[a2, a1]) {a0:6, a1:2}"
      "%3[a0, a1] = sum{a2:2}(where([a1 - a0] > 0, %0[a0, a2] * %1[a1, a2], 0)) {a0:6, a1:7}"
      "%5[a0] = sum{a1:7}(%3[a0, a1] * %2[a0, a1]) {a0:6} output \"dp\" = %3 output \"z\" = %4" OUT("%5") },
    { "as many points", pass_reassoc, 0, "tensor %0 param f32[6, 7] const(0) \"dz\" tensor %1 param f32[7, 7] const(0) \"v\" "
      "tensor %2 param f32[6, 7] const(0) \"p\" tensor %3 temp f32[6, 7] \"dp\" tensor %4 temp f32[6, 7] \"z\" tensor %5 temp f32[6] \"d\" "
      "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %1[a2, a1]) {a0:6, a1:7} %3[a0, a1] = sum{a2:7}(%0[a0, a2] * %1[a1, a2]) {a0:6, a1:7}"
      "%5[a0] = sum{a1:7}(%3[a0, a1] * %2[a0, a1]) {a0:6} output \"dp\" = %3 output \"z\" = %4" OUT("%5") },
    { "the outer factor has the sum's axis", pass_reassoc, 0, "tensor %0 param f32[6, 7] const(0) \"dz\" tensor %1 param f32[7, 2] const(0) \"v\" "
      "tensor %2 param f32[6, 7] const(0) \"p\" tensor %3 temp f32[6, 7] \"dp\" tensor %4 temp f32[6, 2] \"z\" tensor %5 temp f32[6] \"d\" "
      "%4[a0, a1] = sum{a2:7}(%2[a0, a2] * %1[a2, a1]) {a0:6, a1:2} %3[a0, a1] = sum{a2:2}(%0[a0, a1] * %1[a1, a2]) {a0:6, a1:7}"
      "%5[a0] = sum{a1:7}(%3[a0, a1] * %2[a0, a1]) {a0:6} output \"dp\" = %3 output \"z\" = %4" OUT("%5") },

    { "a copy", pass_views, 1, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = %0[-a0 + 3] {a0:4} %3[a0] = exp(%2[a0]) {a0:4}" OUT("%3") },
    { "a copy into another type", pass_views, 0, X "tensor %2 temp bf16[4] \"c\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = %0[a0] {a0:4} %3[a0] = exp(%2[a0]) {a0:4}" OUT("%3") },
    { "a gather", pass_views, 0, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = %0[%1[a0]] {a0:4} %3[a0] = exp(%2[a0]) {a0:4}" OUT("%3") },
    { "an output that is a copy", pass_views, 0, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = %0[a0] {a0:4} %3[a0] = exp(%2[a0]) {a0:4} output \"c\" = %2" OUT("%3") },
    { "inside a piece", pass_views, 1, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[2] \"y\""
      "%2[a0] = %0[a0] {a0:2} %2[a0 + 2] = %0[a0]^2 {a0:2} %3[a0] = exp(%2[a0]) {a0:2}" OUT("%3") },
    { "one more than a piece", pass_views, 0, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[3] \"y\""
      "%2[a0] = %0[a0] {a0:2} %2[a0 + 2] = %0[a0]^2 {a0:2} %3[a0] = exp(%2[a0]) {a0:3}" OUT("%3") },
    { "from the second piece on", pass_views, 0, X "tensor %2 temp f32[4] \"c\" tensor %3 temp f32[3] \"y\""
      "%2[a0 + 2] = %0[a0] {a0:2} %2[a0] = %0[a0]^2 {a0:2} %3[a0] = exp(%2[a0 + 1]) {a0:3}" OUT("%3") },

    { "one more than a piece with a large batch", pass_views, 0, X "tensor %2 temp f32[4] \"c\" tensor %3 input f32[B] \"i\" tensor %4 temp f32[B] \"y\""
      "%2[a0] = %0[a0] {a0:2} %2[a0 + 2] = %0[a0]^2 {a0:2} %4[a0] = exp(%2[(a0 mod 4)]) + %3[a0] {a0:B}" OUT("%4") },
    { "a fraction as a whole number", pass_views, 0, X "tensor %2 temp i32[4] \"c\" tensor %3 temp f32[4] \"y\""
      "%2[a0] = 2.5 {a0:4} %3[a0] = exp(%2[a0]) {a0:4}" OUT("%3") },
    { "a copy of one point", pass_views, 0, X "tensor %2 temp f32[1] \"c\" tensor %3 temp f32[] \"y\""
      "%2[0] = %0[a0] {a0:1} %3 = exp(%2[0])" OUT("%3") },

    { "a copy of a sum", pass_sink, 1, M "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[5] \"v\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[0] = 1 %3[a0 + 1] = %2[a0] {a0:4}" OUT("%3") },
    { "a copy of a part", pass_sink, 0, M "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[3] \"v\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[a0] = %2[a0] {a0:3}" OUT("%3") },
    { "a copy along an axis more", pass_sink, 0, M "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[4, 2] \"v\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[a0, a1] = %2[a0] {a0:4, a1:2}" OUT("%3") },
    { "a copy of an output", pass_sink, 0, M "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[4] \"v\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[a0] = %2[a0] {a0:4} output \"y\" = %2" OUT("%3") },
    { "a copy beside another reader", pass_sink, 0, M "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[4] \"v\" tensor %4 temp f32[4] \"z\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[a0] = %2[a0] {a0:4} %4[a0] = exp(%2[a0]) {a0:4} output \"v\" = %3" OUT("%4") },
    { "a copy of a scatter", pass_sink, 0, X "tensor %2 temp f32[4] \"y\" tensor %3 temp f32[5] \"v\""
      "%2[%1[a0]] = scatter(%0[a0]) {a0:4} %3[0] = 1 %3[a0 + 1] = %2[a0] {a0:4}" OUT("%3") },
    { "a copy into another type of a sum", pass_sink, 0, M "tensor %2 temp f32[4] \"y\" tensor %3 temp bf16[4] \"v\""
      "%2[a0] = sum{a1:5}(%0[a0, a1]) {a0:4} %3[a0] = %2[a0] {a0:4}" OUT("%3") },

#define ROWS M "tensor %2 temp f32[4, 5] \"h\" tensor %3 temp f32[5] \"y\" tensor %4 temp f32[4, 5] \"z\" "
    { "one row", pass_narrow, 1, ROWS "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:5} %3[a0] = %2[2, a0] {a0:5}" OUT("%3") },
    { "one row behind a piece", pass_narrow, 1, ROWS
      "%2[0, a0] = 1 {a0:5} %2[a0 + 1, a1] = exp(%0[a0, a1]) {a0:3, a1:5} %3[a0] = %2[2, a0] {a0:5}" OUT("%3") },
    { "the first row of the second piece", pass_narrow, 1, ROWS
      "%2[a0, a1] = exp(%0[a0, a1]) {a0:2, a1:5} %2[a0 + 2, a1] = %0[a0, a1]^2 {a0:2, a1:5} %3[a0] = %2[2, a0] {a0:5}" OUT("%3") },
    { "two rows", pass_narrow, 0, ROWS "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:5} %3[a0] = %2[2, a0] + %2[1, a0] {a0:5}" OUT("%3") },
    { "one row of an output", pass_narrow, 0, ROWS "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:5} %3[a0] = %2[2, a0] {a0:5} output \"h\" = %2"
      OUT("%3") },
    { "a looked-up place", pass_narrow, 1, ROWS "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:5} %3[a0] = %2[a0, %1[a0]] {a0:4} %3[4] = 1" OUT("%3") },
    { "a looked-up place and one on", pass_narrow, 0, ROWS
      "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:5} %3[a0] = %2[a0, %1[a0] + 1] {a0:4} %3[4] = 1" OUT("%3") },
    { "a looked-up place in pieces", pass_narrow, 0, ROWS
      "%2[a0, a1] = exp(%0[a0, a1]) {a0:4, a1:2} %2[a0, a1 + 2] = %0[a0, a1]^2 {a0:4, a1:3} %3[a0] = %2[a0, %1[a0]] {a0:4} %3[4] = 1"
      OUT("%3") },

#define SLOPE "tensor %0 param f32[4] const(0) \"x\" tensor %1 param f32[4] const(0) \"dg\" tensor %2 temp bf16[4] \"y\" tensor %3 temp f32[4] \"g\" " \
    "tensor %4 temp f32[4] \"dy\" "
#define SAVED "%2[a0] = %0[a0] * 2 {a0:4} %3[a0] = exp(%2[a0]) {a0:4} "
#define BOTH " output \"g\" = %3 output \"dy\" = %4"
    { "a slope", pass_derivative, 1, SLOPE SAVED "%4[a0] = %1[a0] * (%2[a0] * %2[a0]) {a0:4}" BOTH },
    { "a product of two", pass_derivative, 0, SLOPE SAVED "%4[a0] = %1[a0] * %2[a0] {a0:4}" BOTH },
    { "a slope and the value itself", pass_derivative, 0, SLOPE SAVED "%4[a0] = %1[a0] * %2[a0] + %2[a0] {a0:4}" BOTH },
    { "a quotient by what it is linear in", pass_derivative, 0, SLOPE SAVED "%4[a0] = %1[a0] * %2[a0] / %1[a0] {a0:4}" BOTH },
    { "a slope of an output", pass_derivative, 0, SLOPE SAVED "%4[a0] = %1[a0] * (%2[a0] * %2[a0]) {a0:4} output \"y\" = %2" BOTH },
    { "a slope of pieces", pass_derivative, 0, SLOPE "%2[a0] = %0[a0] * 2 {a0:2} %2[a0 + 2] = %0[a0] {a0:2} %3[a0] = exp(%2[a0]) {a0:4} "
      "%4[a0] = %1[a0] * (%2[a0] * %2[a0]) {a0:4}" BOTH },
    { "a slope of the first three", pass_derivative, 0, SLOPE SAVED "%4[a0] = %1[a0] * (%2[a0] * %2[a0]) {a0:3} %4[3] = 1" BOTH },
};

enum { BATCH = 6 };

/* The values of all outputs, one behind the other. */
static double *outputs(Arena *a, Graph *g, int *n)
{
    Env env = { NEWN(a, double *, g->n_tensor), BATCH };
    uint64_t rng = 3;
    *n = 0;
    for (int t = 0; t < g->n_tensor; t++) {
        int64_t count = tensor_count(g, t, BATCH);
        env.value[t] = g->tensor[t].kind == T_TEMP ? NULL : NEWN(a, double, count);
        for (int64_t i = 0; env.value[t] && i < count; i++)
            env.value[t][i] = g->tensor[t].dtype == DT_I32 ? floor(sample(&rng) * 4) : sample(&rng) - 0.5;
    }
    ran(a, g, &env);
    for (int i = 0; i < g->n_output; i++)
        *n += (int)tensor_count(g, g->output[i].tensor, BATCH);
    double *all = NEWN(a, double, *n), *at = all;
    for (int i = 0; i < g->n_output; i++) {
        int64_t count = tensor_count(g, g->output[i].tensor, BATCH);
        memcpy(at, env.value[g->output[i].tensor], (size_t)count * sizeof *at);
        at += count;
    }
    return all;
}

static void each_alone(void **state)
{
    for (int i = 0; i < (int)LEN(cases); i++) {
        Arena a = {0};
        Graph *g = graph_from(&a, cases[i].text);
        int n, after;
        graph_toposort(g);
        for (int k = 0; k < g->n_tensor; k++)
            g->tensor[k].again = !strcmp(g->tensor[k].name, "again");
        verified(&a, g);
        const double *wanted = outputs(&a, g, &n);
        int changes = cases[i].pass(g);
        verified(&a, g);
        if (changes != cases[i].changes)
            fail_msg("%s: %d changes, not %d:\n%s", cases[i].name, changes, cases[i].changes, text_of(&a, g));
        const double *found = outputs(&a, g, &after);
        assert_int_equal(after, n);
        for (int k = 0; k < n; k++)
            if (!(fabs(found[k] - wanted[k]) < (cases[i].pass == pass_derivative ? 1e-2 : 1e-12)))     /* which rounds to bf16 */
                fail_msg("%s: element %d of the outputs is %g, not %g:\n%s", cases[i].name, k, found[k], wanted[k], text_of(&a, g));
        arena_free(&a);
    }
}

/* Kernels in an order that is not right: what was not written yet, and what was written over. */
static void wrong_orders(void **state)
{
    static const struct { const char *text, *says; } of[] = {
        { X "tensor %2 temp f32[] \"s\" tensor %3 temp f32[4] \"r\""
          "%2 = sum{a0:4}(%0[a0]) %3[a0] = %2 * %0[a0] {a0:4}" OUT("%3"), "(`s`), which nobody has written" },
        { X "tensor %2 temp f32[] \"s\" tensor %3 temp f32[4] \"new\""
          "%2 = sum{a0:4}(%0[a0]) %3[a0] = %0[a0] * 0.9 {a0:4} update %0 = %3" OUT("%2"), "(`x`), over which tensor 3 (`new`) was written" },
    };
    for (int i = 0; i < (int)LEN(of); i++) {
        Arena a = {0};
        Text why = { .arena = &a };
        Fused f;
        if (!fuse(graph_from(&a, of[i].text), &(FuseOptions){0}, &a, &f, &why))
            fail_msg("%s", text_data(&why));
        schedule(&f);
        assert_int_equal(f.n_kernel, 2);
        assert_true(schedule_verify(&f, &why));
        Kernel first = f.kernel[0];
        f.kernel[0] = f.kernel[1];
        f.kernel[1] = first;
        assert_false(schedule_verify(&f, &why));
        if (!strstr(text_data(&why), of[i].says))
            fail_msg("`%s`, not `%s`", text_data(&why), of[i].says);
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(each_alone), cmocka_unit_test(wrong_orders) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
