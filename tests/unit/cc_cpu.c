/* cc_cpu.c -- native kernels of every class against the interpreter: awkward extents, every operand layout, the batch
 * axis at 1, 2 and 5, for this processor and for lesser ones it can stand in for; and the bounds that math.c states.
 *
 * A graph is written with $n, $m, $k for extents. A kernel of the class it is there for must come out of fusion. */
#include "cpu_harness.h"

typedef struct { const char *name; KernelClass cls; const char *text; } Shape;

static const char *with_extents(Arena *a, const char *text, int n, int m, int k)
{
    Text t = { .arena = a };
    for (; *text; text++) {
        if (*text != '$') {
            text_char(&t, *text);
            continue;
        }
        text++;
        text_printf(&t, "%d", *text == 'n' ? n : *text == 'm' ? m : k);
    }
    return text_data(&t);
}

static Case *add_shape(Suite *s, const Shape *shape, int n, int m, int k)
{
    const char *name = arena_printf(&s->arena, "%s n=%d m=%d k=%d", shape->name, n, m, k);
    Case *c = suite_add(s, name, with_extents(&s->arena, shape->text, n, m, k));
    if (n > 1 && m > 1 && k > 1 && !case_kernels(c, shape->cls))
        fail_msg("%s: no %s kernel in\n%s", name, kernel_class_name[shape->cls], c->text);
    return c;
}

static void check_all(Suite *s, double tolerance)
{
    static const int batch[] = { 1, 2, 5 };
    suite_link(s);
    for (int i = 0; i < s->cases.n; i++)
        for (size_t b = 0; b < LEN(batch); b++)
            case_check(s, s->cases.at[i], batch[b], tolerance);
    fprintf(stderr, "# %d graphs, %d processors, worst error %.1e\n", s->cases.n, s->n_target, s->worst);
    suite_close(s);
}

static const int extent[] = { 1, 7, 17, 49, 197 };

static void all_extents(const Shape *shape, size_t n_shape, double tolerance)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < n_shape; i++)
        for (size_t e = 0; e < LEN(extent); e++)
            add_shape(&s, &shape[i], extent[e], 13, 6);
    check_all(&s, tolerance);
}

/* ---- maps */

static const Shape maps[] = {
    { "several results, broadcast operands", K_MAP,
      "tensor %0 input f32[B, $n] \"x\" tensor %1 param f32[$n] \"w\" tensor %2 param f32[] \"s\"\n"
      "tensor %3 temp f32[B, $n] \"y\" tensor %4 temp f32[B, $n] \"z\"\n"
      "%3[a0, a1] = %0[a0, a1] * %1[a1] + %2  {a0:B, a1:$n}\n"
      "%4[a0, a1] = tanh(%3[a0, a1]) / (1 + abs(%0[a0, a1])) - exp(%1[a1])  {a0:B, a1:$n}\n"
      "output \"y\" = %3 output \"z\" = %4" },
    { "transposed operand", K_MAP,
      "tensor %0 input f32[$n, B] \"x\" tensor %1 input f32[B, $n] \"w\" tensor %2 temp f32[B, $n] \"y\"\n"
      "%2[a0, a1] = %0[a1, a0] * 2 - %1[a0, a1]  {a0:B, a1:$n} output \"y\" = %2" },
    { "heads to the front", K_MAP,
      "tensor %0 input f32[B, $n, 3, $m] \"x\" tensor %1 temp f32[B, 3, $n, $m] \"y\"\n"
      "%1[a0, a2, a1, a3] = erf(%0[a0, a1, a2, a3])  {a0:B, a1:$n, a2:3, a3:$m} output \"y\" = %1" },
    { "strided and reversed", K_MAP,
      "tensor %0 input f32[B, 600] \"x\" tensor %1 temp f32[B, $n] \"y\"\n"
      "%1[a0, a1] = %0[a0, a1*3 + 2] - 3 * %0[a0, -a1 + 500]  {a0:B, a1:$n} output \"y\" = %1" },
    { "patches", K_MAP,
      "tensor %0 input f32[B, 3, 12, 20] \"x\" tensor %1 temp f32[B, 15, 48] \"y\" tensor %2 param f32[$n] \"w\"\n"
      "tensor %3 temp f32[B, $n] \"z\"\n"
      "%1[a0, a1*5 + a2, a3*16 + a4*4 + a5] = %0[a0, a3, a1*4 + a4, a2*4 + a5]^2  {a0:B, a1:3, a2:5, a3:3, a4:4, a5:4}\n"
      "%3[a0, a1] = %2[a1] + %0[a0, 2, 11, 19]  {a0:B, a1:$n} output \"y\" = %1 output \"z\" = %3" },
    { "gather of rows", K_MAP,
      "tensor %0 input i32[B, 5] \"token\" tensor %1 param f32[3, $n] \"table\" tensor %2 param f32[5, $n] \"position\"\n"
      "tensor %3 temp f32[B, 5, $n] \"y\"\n"
      "%3[a0, a1, a2] = %1[%0[a0, a1], a2] + %2[a1, a2]  {a0:B, a1:5, a2:$n} output \"y\" = %3" },
    { "gather along the lanes", K_MAP,
      "tensor %0 input i32[$n] \"at\" tensor %1 input f32[B, 3] \"x\" tensor %2 temp f32[B, $n] \"y\"\n"
      "%2[a0, a1] = %1[a0, %0[a1]] * 2  {a0:B, a1:$n} output \"y\" = %2" },
    { "pieces", K_MAP,
      "tensor %0 input f32[B, $n, $m] \"x\" tensor %1 param f32[$m] \"class\" tensor %2 param f32[$n, $m] \"p\"\n"
      "tensor %3 temp f32[2, B, $n, $m] \"y\"\n"
      "%3[0, a0, a1, a2] = %1[a2] - 1  {a0:B, a1:$n, a2:$m}\n"
      "%3[1, a0, a1, a2] = %0[a0, a1, a2] + %2[a1, a2]  {a0:B, a1:$n, a2:$m} output \"y\" = %3" },
    { "quotient, remainder, guard", K_MAP,
      "tensor %0 input f32[B, 70] \"x\" tensor %1 temp f32[B, $n] \"y\"\n"
      "%1[a0, a1] = where([(a1 + 1 mod 3)] == 0 and [(a1 + 1 div 3)] < 70, %0[a0, (a1 + 1 div 3)], -1)  {a0:B, a1:$n}\n"
      "output \"y\" = %1" },
    { "guard on rows that are shorter where they are read", K_MAP,
      "tensor %0 input f32[B, 52] \"x\" tensor %1 temp f32[B, 13, 5] \"y\"\n"
      "%1[a0, a1, a2] = where([a2] >= 1, %0[a0, a1*4 + a2 - 1] * 0.5, 0) {a0:B, a1:13, a2:5}\n"
      "output \"y\" = %1" },
    { "guard on a window", K_MAP,
      "tensor %0 input f32[B, $n] \"x\" tensor %1 temp f32[B, $n] \"y\"\n"
      "%1[a0, a1] = where([a1 - 2] >= 0, %0[a0, a1 - 2], 0) + where([a1 + 3] < $n, %0[a0, a1 + 3], 0)  {a0:B, a1:$n}\n"
      "output \"y\" = %1" },
    { "numbers: indices, extents, f64, logic", K_MAP,
      "tensor %0 input f32[B, $n] \"x\" tensor %1 input f64[] \"rate\" tensor %2 temp f32[B, $n] \"y\" tensor %3 input i32[B] \"k\"\n"
      "%2[a0, a1] = where(not(%0[a0, a1] < 0) or [a1] != %3[a0], [a0 + a1*2] * %1, B) + (%0[a0, a1] <= 0.5) + (%0[a0, a1] >= 0.1)\n"
      "  + max(%0[a0, a1], [a1]) - min(%0[a0, a1], %1) + floor(%0[a0, a1] * 10) + %3[a0]  {a0:B, a1:$n}\n"
      "output \"y\" = %2" },
    { "in place", K_MAP,
      "tensor %0 param f32[$n, $m] \"w\" tensor %1 state f32[$n, $m] \"m\" tensor %2 input f32[$n, $m] \"g\"\n"
      "tensor %3 temp f32[$n, $m] \"nm\" tensor %4 temp f32[$n, $m] \"nw\"\n"
      "%3[a0, a1] = %1[a0, a1] * 0.9 + %2[a0, a1] * 0.1  {a0:$n, a1:$m}\n"
      "%4[a0, a1] = %0[a0, a1] - 0.01 * %3[a0, a1] * rsqrt(%1[a0, a1] + 1)  {a0:$n, a1:$m}\n"
      "update %1 = %3 update %0 = %4" },
};

static void map_kernels(void **state) { all_extents(maps, LEN(maps), 2e-6); }

/* ---- rows */

static const Shape rows[] = {
    { "layer norm", K_ROW,
      "tensor %0 input f32[B, 4, $n] \"x\" tensor %1 param f32[$n] \"w\" tensor %2 temp f32[B, 4] \"mu\"\n"
      "tensor %3 temp f32[B, 4] \"var\" tensor %4 temp f32[B, 4, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$n}(%0[a0, a1, a2] / $n)  {a0:B, a1:4}\n"
      "%3[a0, a1] = sum{a2:$n}((%0[a0, a1, a2] - %2[a0, a1])^2 / $n)  {a0:B, a1:4}\n"
      "%4[a0, a1, a2] = (%0[a0, a1, a2] - %2[a0, a1]) * rsqrt(%3[a0, a1] + 0.00001) * %1[a2]  {a0:B, a1:4, a2:$n}\n"
      "output \"y\" = %4 output \"mu\" = %2" },
    { "causal softmax", K_ROW,
      "tensor %0 input f32[B, $n, $n] \"s\" tensor %1 temp f32[B, $n] \"l\" tensor %2 temp f32[B, $n, $n] \"p\"\n"
      "%1[a0, a1] = logsumexp{a2:$n}(where([a2] > [a1], -inf, %0[a0, a1, a2] * 8))  {a0:B, a1:$n}\n"
      "%2[a0, a1, a2] = exp(where([a2] > [a1], -inf, %0[a0, a1, a2] * 8) - %1[a0, a1])  {a0:B, a1:$n, a2:$n}\n"
      "output \"p\" = %2 output \"l\" = %1" },
    { "statistics of a row", K_ROW,
      "tensor %0 input f32[B, $n] \"x\" tensor %1 temp f32[B] \"hi\" tensor %2 temp f32[B] \"lo\" tensor %3 temp i32[B] \"at\"\n"
      "tensor %4 temp f32[B] \"z\"\n"
      "%1[a0] = max{a1:$n}(%0[a0, a1])  {a0:B} %2[a0] = min{a1:$n}(%0[a0, a1])  {a0:B}\n"
      "%3[a0] = argmax{a1:$n}(floor(%0[a0, a1] * 4))  {a0:B}\n"
      "%4[a0] = sum{a1:$n}((%0[a0, a1] - %1[a0]) * (%0[a0, a1] - %2[a0]))  {a0:B}\n"
      "output \"hi\" = %1 output \"lo\" = %2 output \"at\" = %3 output \"z\" = %4" },
    { "rows of two axes", K_ROW,
      "tensor %0 input f32[B, $n, $m] \"x\" tensor %1 temp f32[B] \"n\" tensor %2 temp f32[B, $n, $m] \"y\"\n"
      "%1[a0] = sum{a1:$n, a2:$m}(%0[a0, a1, a2]^2)  {a0:B}\n"
      "%2[a0, a1, a2] = %0[a0, a1, a2] / max(sqrt(%1[a0]), 0.001)  {a0:B, a1:$n, a2:$m} output \"y\" = %2" },
    { "columns, then a map", K_REDUCE,
      "tensor %0 input f32[$n, B, 3] \"x\" tensor %1 temp f32[B, 3] \"s\" tensor %2 temp f32[B, 3, $n] \"y\"\n"
      "%1[a0, a1] = sum{a2:$n}(%0[a2, a0, a1])  {a0:B, a1:3}\n"
      "%2[a0, a1, a2] = %0[a2, a0, a1] - %1[a0, a1]  {a0:B, a1:3, a2:$n} output \"y\" = %2" },
    { "gradient of a norm", K_ROW,
      "tensor %0 input f32[B, $n] \"x\" tensor %1 input f32[B, $n] \"g\" tensor %2 temp f32[B] \"a\" tensor %3 temp f32[B] \"b\"\n"
      "tensor %4 temp f32[B, $n] \"d\" tensor %5 temp f32[B, $n] \"e\"\n"
      "%2[a0] = sum{a1:$n}(%0[a0, a1]^2)  {a0:B} %3[a0] = sum{a1:$n}(%0[a0, a1] * %1[a0, a1])  {a0:B}\n"
      "%4[a0, a1] = (%1[a0, a1] - %0[a0, a1] * %3[a0] / (%2[a0] + 1)) * rsqrt(%2[a0] + 1)  {a0:B, a1:$n}\n"
      "%5[a0, a1] = %4[a0, a1] * %2[a0]  {a0:B, a1:$n} output \"d\" = %4 output \"e\" = %5" },
};

static void row_kernels(void **state) { all_extents(rows, LEN(rows), 1e-5); }

/* Column sums that come with the rows: one kernel, no other. */
static const Shape columns[] = {
    { "gradient of a layer norm", K_ROW,
      "tensor %0 input f32[B, $m, $n] \"x\" tensor %1 input f32[B, $m, $n] \"dy\" tensor %2 input f32[B, $m, $n] \"residual\"\n"
      "tensor %3 param f32[$n] \"w\" tensor %4 input f32[B, $m] \"mu\" tensor %5 temp f32[B, $m] \"s\" tensor %6 temp f32[B, $m] \"t\"\n"
      "tensor %7 temp f32[B, $m, $n] \"dx\" tensor %8 temp f32[$n] \"dw\" tensor %9 temp f32[$n] \"db\" tensor %10 temp f32[$n] \"below\"\n"
      "%5[a0, a1] = sum{a2:$n}(%1[a0, a1, a2] * %3[a2])  {a0:B, a1:$m}\n"
      "%6[a0, a1] = sum{a2:$n}(%1[a0, a1, a2] * %3[a2] * (%0[a0, a1, a2] - %4[a0, a1]))  {a0:B, a1:$m}\n"
      "%7[a0, a1, a2] = %2[a0, a1, a2] + %1[a0, a1, a2] * %3[a2] - %5[a0, a1] / $n - (%0[a0, a1, a2] - %4[a0, a1]) * %6[a0, a1] / $n\n"
      "  {a0:B, a1:$m, a2:$n}\n"
      "%8[a0] = sum{a1:B, a2:$m}(%1[a1, a2, a0] * (%0[a1, a2, a0] - %4[a1, a2]))  {a0:$n}\n"
      "%9[a0] = sum{a1:B, a2:$m}(%1[a1, a2, a0])  {a0:$n} %10[a0] = sum{a1:B, a2:$m}(%7[a1, a2, a0])  {a0:$n}\n"
      "output \"dx\" = %7 output \"dw\" = %8 output \"db\" = %9 output \"below\" = %10" },
    { "a sum of what is nowhere in memory", K_ROW,
      "tensor %0 input f32[B, 67, $n] \"x\" tensor %1 temp f32[B, 67] \"n\" tensor %2 temp f32[B, 67, $n] \"y\" tensor %3 temp f32[$n] \"s\"\n"
      "%1[a0, a1] = sum{a2:$n}(%0[a0, a1, a2]^2)  {a0:B, a1:67}\n"
      "%2[a0, a1, a2] = %0[a0, a1, a2] * rsqrt(%1[a0, a1] + 1)  {a0:B, a1:67, a2:$n}\n"
      "%3[a0] = sum{a1:B, a2:67}(%2[a1, a2, a0] * 0.25)  {a0:$n} output \"s\" = %3" },
    { "rows of two axes, columns the other way round", K_ROW,
      "tensor %0 input f32[B, 65, $n, $k] \"x\" tensor %1 temp f32[B, 65] \"n\" tensor %2 temp f32[B, 65, $n, $k] \"y\"\n"
      "tensor %3 temp f32[$k, $n] \"s\"\n"
      "%1[a0, a1] = max{a2:$n, a3:$k}(%0[a0, a1, a2, a3])  {a0:B, a1:65}\n"
      "%2[a0, a1, a2, a3] = %0[a0, a1, a2, a3] - %1[a0, a1]  {a0:B, a1:65, a2:$n, a3:$k}\n"
      "%3[a3, a2] = sum{a0:B, a1:65}(%2[a0, a1, a2, a3])  {a2:$n, a3:$k} output \"y\" = %2 output \"s\" = %3" },
};

static void column_sums_of_rows(void **state)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(columns); i++)
        for (size_t e = 0; e < LEN(extent); e++) {
            const Case *c = add_shape(&s, &columns[i], extent[e], 13, 6);
            if (extent[e] > 1 && c->f.n_kernel != 1)
                fail_msg("%s: %d kernels", c->name, c->f.n_kernel);
        }
    check_all(&s, 1e-5);
}

/* What reads a column sum waits for the whole kernel; and what another kernel needs first may not come in. */
static void column_sums_apart(void **state)
{
    static const struct { const char *name, *more; int kernels; } apart[] = {
        { "read at every row", "%3[a0, a1] = %1[a0, a1] - %2[a1]  {a0:B, a1:24} output \"z\" = %3", 2 },
        { "a maximum by column", "%4[a0] = max{a1:B}(%1[a1, a0])  {a0:24} output \"h\" = %4", 2 },
        { "with what comes later", "%3[a0, a1] = sum{a2:24}(%1[a0, a2] * %6[a2, a1])  {a0:B, a1:24}\n"
          "%4[a0] = sum{a1:B}(%1[a1, a0] * %3[a1, a0])  {a0:24} output \"z\" = %3 output \"h\" = %4", 3 },
    };
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(apart); i++) {
        const char *text = arena_printf(&s.arena,
            "tensor %%0 input f32[B, 24] \"x\" tensor %%5 temp f32[B] \"n\" tensor %%1 temp f32[B, 24] \"y\" tensor %%2 temp f32[24] \"s\"\n"
            "tensor %%3 temp f32[B, 24] \"z\" tensor %%4 temp f32[24] \"h\" tensor %%6 param f32[24, 24] \"w\"\n"
            "%%5[a0] = sum{a1:24}(%%0[a0, a1]^2)  {a0:B} %%1[a0, a1] = %%0[a0, a1] * rsqrt(%%5[a0] + 1)  {a0:B, a1:24}\n"
            "%%2[a0] = sum{a1:B}(%%1[a1, a0])  {a0:24} output \"y\" = %%1 output \"s\" = %%2 %s", apart[i].more);
        const Case *c = suite_add(&s, apart[i].name, text);
        if (c->f.n_kernel != apart[i].kernels)
            fail_msg("%s: %d kernels", c->name, c->f.n_kernel);
    }
    check_all(&s, 1e-5);
}

/* ---- reductions of what is not a row */

static const Shape reductions[] = {
    { "column sums", K_REDUCE,
      "tensor %0 input f32[B, $m, $n] \"x\" tensor %1 temp f32[$n] \"s\" tensor %2 temp f32[$n] \"q\"\n"
      "%1[a0] = sum{a1:B, a2:$m}(%0[a1, a2, a0])  {a0:$n} %2[a0] = sum{a1:B, a2:$m}(%0[a1, a2, a0]^2)  {a0:$n}\n"
      "output \"s\" = %1 output \"q\" = %2" },
    { "column sums, cut into chunks", K_REDUCE,
      "tensor %0 input f32[B, 407, $n] \"x\" tensor %1 temp f32[$n] \"s\" tensor %2 temp f32[$n] \"h\"\n"
      "%1[a0] = sum{a1:B, a2:407}(%0[a1, a2, a0] * 3)  {a0:$n} %2[a0] = max{a1:B, a2:407}(%0[a1, a2, a0])  {a0:$n}\n"
      "output \"s\" = %1 output \"h\" = %2" },
    { "totals", K_REDUCE,
      "tensor %0 input f32[B, 101, $n] \"x\" tensor %1 temp f32[] \"s\" tensor %2 temp f32[] \"l\"\n"
      "%1 = sum{a0:B, a1:101, a2:$n}(%0[a0, a1, a2]^2) %2 = logsumexp{a0:B, a1:101, a2:$n}(%0[a0, a1, a2])\n"
      "output \"s\" = %1 output \"l\" = %2" },
    { "columns of the batch", K_REDUCE,
      "tensor %0 input f32[$n, B] \"x\" tensor %1 temp f32[B] \"l\" tensor %2 temp i32[B] \"at\" tensor %3 temp f32[B] \"lo\"\n"
      "%1[a0] = logsumexp{a1:$n}(%0[a1, a0] * 5)  {a0:B} %2[a0] = argmax{a1:$n}(floor(%0[a1, a0] * 3))  {a0:B}\n"
      "%3[a0] = min{a1:$n}(%0[a1, a0])  {a0:B} output \"l\" = %1 output \"at\" = %2 output \"lo\" = %3" },
    { "sums of every other axis", K_REDUCE,
      "tensor %0 input f32[B, $m, $k, $n] \"x\" tensor %1 temp f32[$m, $n] \"y\"\n"
      "%1[a0, a1] = sum{a2:B, a3:$k}(%0[a2, a0, a3, a1])  {a0:$m, a1:$n} output \"y\" = %1" },
    { "a table's mean over the batch", K_REDUCE,
      "tensor %0 input i32[B, $m] \"token\" tensor %1 param f32[3, $n] \"table\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:B}(%1[%0[a2, a0], a1] / B)  {a0:$m, a1:$n} output \"y\" = %2" },
};

static void reduce_kernels(void **state) { all_extents(reductions, LEN(reductions), 1e-5); }

/* Maps over what stays, diagonals and totals of other tensors that come with a reduction: one kernel, no other. */
static const Shape with_reductions[] = {
    { "maps of column sums", K_REDUCE,
      "tensor %0 input f32[B, 407, $n] \"x\" tensor %1 param f32[$n] \"w\" tensor %2 temp f32[$n] \"s\" tensor %3 temp f32[$n] \"m\"\n"
      "tensor %4 temp f32[$n] \"y\"\n"
      "%2[a0] = sum{a1:B, a2:407}(%0[a1, a2, a0] * 3)  {a0:$n} %3[a0] = max{a1:B, a2:407}(%0[a1, a2, a0])  {a0:$n}\n"
      "%4[a0] = %2[a0] * %1[a0] / B + exp(%3[a0]) * 100  {a0:$n} output \"y\" = %4 output \"m\" = %3" },
    { "maps of statistics by column of the batch", K_REDUCE,
      "tensor %0 input f32[$n, B] \"x\" tensor %1 input f32[B, $n] \"t\" tensor %2 temp f32[B] \"l\" tensor %3 temp f32[B] \"y\"\n"
      "%2[a0] = logsumexp{a1:$n}(%0[a1, a0] * 5)  {a0:B} %3[a0] = %2[a0] * %2[a0] - %1[a0, 0]  {a0:B} output \"y\" = %3" },
    { "a diagonal", K_REDUCE,
      "tensor %0 input f32[B, B] \"x\" tensor %1 param f32[] \"scale\" tensor %2 temp f32[B] \"d\" tensor %3 temp f32[B] \"l\"\n"
      "tensor %4 temp f32[B] \"y\" tensor %5 param f32[$n] \"w\"\n"
      "%2[a0] = exp(%1) * %0[a0, a0]  {a0:B} %3[a0] = logsumexp{a1:B}(%0[a1, a0])  {a0:B}\n"
      "%4[a0] = %3[a0] - %2[a0]  {a0:B} output \"d\" = %2 output \"y\" = %4" },
    { "totals of several tensors, numbers made from them and another", K_REDUCE,
      "tensor %0 input f32[B] \"x\" tensor %1 input f32[B] \"z\" tensor %2 param f32[] \"p\" tensor %3 temp f32[] \"s\"\n"
      "tensor %4 temp f32[] \"t\" tensor %5 temp f32[] \"y\" tensor %6 temp f32[] \"e\" tensor %7 temp f32[] \"m\"\n"
      "%3 = sum{a0:B}(%0[a0] * %0[a0]) %4 = logsumexp{a0:B}(%1[a0]) %7 = max{a0:B}(%1[a0] - %0[a0])\n"
      "%5 = (%3 / B + %4) * 0.5 %6 = exp(%2) output \"y\" = %5 output \"e\" = %6 output \"m\" = %7" },
};

static void maps_of_reductions(void **state)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(with_reductions); i++)
        for (size_t e = 0; e < LEN(extent); e++) {
            const Case *c = add_shape(&s, &with_reductions[i], extent[e], 13, 6);
            if (extent[e] > 1 && c->f.n_kernel != 1)
                fail_msg("%s: %d kernels", c->name, c->f.n_kernel);
        }
    check_all(&s, 1e-5);
}

/* A number made from a number costs no kernel, and is stored where it is wanted; one of many operations has its own. */
static void numbers(void **state)
{
    static const struct { const char *name, *more; int kernels; } number[] = {
        { "read by maps", "%2 = exp(%1) %3[a0, a1] = %0[a0, a1] * %2 - 1 / %2  {a0:B, a1:24} output \"y\" = %3", 1 },
        { "read and wanted", "%2 = exp(%1) %3[a0, a1] = %0[a0, a1] * %2  {a0:B, a1:24} output \"y\" = %3 output \"s\" = %2", 2 },
        { "many operations", "%2 = exp(%1) * exp(%1 * 2) + tanh(%1) %3[a0, a1] = %0[a0, a1] * %2  {a0:B, a1:24} output \"y\" = %3", 2 },
        { "beside a contraction", "%2 = exp(%1) %3[a0, a1] = sum{a2:24}(%2 * %0[a0, a2] * %4[a2, a1])  {a0:B, a1:24} output \"y\" = %3", 1 },
        { "of another", "%5 = exp(%1) %2 = 1 / %5 %3[a0, a1] = %0[a0, a1] * %2 + %5  {a0:B, a1:24} output \"y\" = %3", 1 },
    };
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(number); i++) {
        const char *text = arena_printf(&s.arena,
            "tensor %%0 input f32[B, 24] \"x\" tensor %%1 param f32[] \"p\" tensor %%2 temp f32[] \"s\" tensor %%3 temp f32[B, 24] \"y\"\n"
            "tensor %%4 param f32[24, 24] \"w\" tensor %%5 temp f32[] \"e\" %s", number[i].more);
        const Case *c = suite_add(&s, number[i].name, text);
        if (c->f.n_kernel != number[i].kernels)
            fail_msg("%s: %d kernels", c->name, c->f.n_kernel);
    }
    check_all(&s, 1e-5);
}

/* ---- scatter and host */

static const Shape scatters[] = {
    { "rows of a table", K_SCATTER,
      "tensor %0 input i32[B, $m] \"token\" tensor %1 input f32[B, $m, $n] \"g\" tensor %2 temp f32[4, $n] \"table\"\n"
      "%2[%0[a0, a1], a2] = scatter(%1[a0, a1, a2] * 2)  {a0:B, a1:$m, a2:$n} output \"table\" = %2" },
    { "single numbers", K_SCATTER,
      "tensor %0 input i32[B, $n] \"at\" tensor %1 input f32[B, $n] \"g\" tensor %2 temp f32[5] \"y\"\n"
      "%2[%0[a0, a1] + 1] = scatter(%1[a0, a1])  {a0:B, a1:$n} output \"y\" = %2" },
    { "beside a plain axis", K_SCATTER,
      "tensor %0 input i32[B] \"at\" tensor %1 input f32[B, $m, $n] \"g\" tensor %2 temp f32[$m, 3, $n] \"y\"\n"
      "%2[a1, %0[a0], a2] = scatter(%1[a0, a1, a2])  {a0:B, a1:$m, a2:$n} output \"y\" = %2" },
};

static void scatter_kernels(void **state)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(scatters); i++)
        for (size_t e = 0; e < LEN(extent); e++) {
            Case *c = add_shape(&s, &scatters[i], extent[e], 13, 6);
            c->least = -2;               /* some lie outside and are left out */
            c->most = 6;
        }
    check_all(&s, 2e-6);
}

static void host_kernels(void **state)
{
    Suite s;
    suite_open(&s);
    Case *c = suite_add(&s, "host arithmetic",
        "tensor %0 input f64[] \"step\" tensor %1 input f64[] \"total\" tensor %2 temp f64[] \"lr\" tensor %3 temp f64[] \"c\"\n"
        "tensor %4 temp f64[] \"w\" tensor %5 temp f64[] \"v\" tensor %6 temp f64[] \"u\" tensor %7 temp f64[] \"t\"\n"
        "%2 = where(%0 < 10, 0.001 * (%0 + 1) / 10, 0.0005 * (1 + cos(3.141592653589793 * (%0 - 10) / %1)))\n"
        "%3 = 1 - 0.98^%0\n"
        "%4 = max(%2, 0.0001) + min(%3, %2) - abs(-%1) * floor(%1 / 3) + B\n"
        "%5 = exp(-%0) * ln(%1) + sqrt(%0) - rsqrt(%1) + erf(%3) + tanh(%2) + sin(%1)\n"
        "%6 = (%0 <= %1) + 2 * (%0 > %1) + 4 * (%0 == %1) + 8 * (%0 != %1) + 16 * (%0 >= 3)\n"
        "%7 = where(%0 > 3 and %1 < 15 or not(%0 == 7), %6, -%5)\n"
        "output \"lr\" = %2 output \"c\" = %3 output \"w\" = %4 output \"v\" = %5 output \"u\" = %6 output \"t\" = %7\n");
    assert_true(case_kernels(c, K_HOST) > 0 && case_kernels(c, K_HOST) == c->f.n_kernel);
    check_all(&s, 1e-12);
}

/* ---- contractions: two operands in four layouts each way, results in two, then what CLIP makes of them */

static const Shape contractions[] = {
    { "x w^T", K_CONTRACT,
      "tensor %0 input f32[$m, $k] \"x\" tensor %1 param f32[$n, $k] \"w\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$k}(%0[a0, a2] * %1[a1, a2])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "x w", K_CONTRACT,
      "tensor %0 input f32[$m, $k] \"x\" tensor %1 param f32[$k, $n] \"w\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$k}(0.125 * %0[a0, a2] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "x^T w", K_CONTRACT,
      "tensor %0 input f32[$k, $m] \"x\" tensor %1 param f32[$k, $n] \"w\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$k}(0.5 * %0[a2, a0] * %1[a2, a1])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "x^T w^T", K_CONTRACT,
      "tensor %0 input f32[$k, $m] \"x\" tensor %1 param f32[$n, $k] \"w\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$k}(%0[a2, a0] * %1[a1, a2])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "(x w^T)^T", K_CONTRACT,
      "tensor %0 input f32[$m, $k] \"x\" tensor %1 param f32[$n, $k] \"w\" tensor %2 temp f32[$n, $m] \"y\"\n"
      "%2[a1, a0] = sum{a2:$k}(%0[a0, a2] * %1[a1, a2])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "strided: every third term, every second row", K_CONTRACT,
      "tensor %0 input f32[400, 4803] \"x\" tensor %1 param f32[$n, $k] \"w\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:$k}(%0[a0*2, a2*3 + 1] * %1[a1, a2])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "layer: bias, gelu, residual", K_CONTRACT,
      "tensor %0 input f32[B, $m, $k] \"x\" tensor %1 param f32[$n, $k] \"w\" tensor %2 param f32[$n] \"b\"\n"
      "tensor %3 input f32[B, $m, $n] \"r\" tensor %4 temp f32[B, $m, $n] \"h\" tensor %5 temp f32[B, $m, $n] \"u\"\n"
      "tensor %6 temp f32[B, $m, $n] \"y\"\n"
      "%4[a0, a1, a2] = sum{a3:$k}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:$m, a2:$n}\n"
      "%5[a0, a1, a2] = %4[a0, a1, a2] + %2[a2]  {a0:B, a1:$m, a2:$n}\n"
      "%6[a0, a1, a2] = %5[a0, a1, a2] * 0.5 * (1 + erf(%5[a0, a1, a2] * 0.7071067811865476)) + %3[a0, a1, a2]\n"
      "  {a0:B, a1:$m, a2:$n} output \"y\" = %6 output \"u\" = %5" },
    { "weight gradient over the batch", K_CONTRACT,
      "tensor %0 input f32[B, $k, $m] \"x\" tensor %1 input f32[B, $k, $n] \"g\" tensor %2 temp f32[$m, $n] \"y\"\n"
      "%2[a0, a1] = sum{a2:B, a3:$k}(%0[a2, a3, a0] * %1[a2, a3, a1])  {a0:$m, a1:$n} output \"y\" = %2" },
    { "scores of heads", K_CONTRACT,
      "tensor %0 input f32[B, $m, $k] \"q\" tensor %1 input f32[B, $n, $k] \"k\" tensor %2 temp f32[B, 2, $m, $n] \"s\"\n"
      "tensor %3 input f32[B, $m, $k] \"q2\"\n"
      "%2[a0, 0, a1, a2] = sum{a3:$k}(0.3 * %0[a0, a1, a3] * %1[a0, a2, a3])  {a0:B, a1:$m, a2:$n}\n"
      "%2[a0, 1, a1, a2] = sum{a3:$k}(%3[a0, a1, a3] * %1[a0, a2, a3])  {a0:B, a1:$m, a2:$n} output \"s\" = %2" },
};

/* one extent at a time small, and terms beyond one and two blocks of KC */
static const struct { int n, m, k; } sizes[] = {
    { 1, 1, 1 }, { 7, 17, 49 }, { 17, 7, 197 }, { 49, 17, 7 }, { 197, 7, 17 }, { 7, 197, 17 }, { 49, 49, 1 },
    { 1, 49, 197 }, { 49, 1, 17 }, { 17, 9, 800 }, { 7, 17, 1600 },
};

static void contract_kernels(void **state)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(contractions); i++)
        for (size_t e = 0; e < LEN(sizes); e++)
            add_shape(&s, &contractions[i], sizes[e].n, sizes[e].m, sizes[e].k);
    check_all(&s, 1e-5);
}

static const Shape clip_like[] = {
    { "heads of one projection, $n tokens", K_CONTRACT,
      "tensor %0 input f32[B, $n, 90] \"qkv\" tensor %1 temp f32[B, 3, $n, $n] \"s\" tensor %2 temp f32[B, $n, 3, 10] \"z\"\n"
      "%1[a0, a1, a2, a3] = sum{a4:10}(%0[a0, a2, a1*10 + a4] * %0[a0, a3, a1*10 + a4 + 30])  {a0:B, a1:3, a2:$n, a3:$n}\n"
      "%2[a0, a2, a1, a4] = sum{a3:$n}(%1[a0, a1, a2, a3] * %0[a0, a3, a1*10 + a4 + 60])  {a0:B, a1:3, a2:$n, a4:10}\n"
      "output \"s\" = %1 output \"z\" = %2" },
    { "patches of a picture, $n wide", K_CONTRACT,
      "tensor %0 input f32[B, 3, 12, 8] \"x\" tensor %1 param f32[$n, 3, 4, 4] \"w\" tensor %2 temp f32[B, 6, $n] \"y\"\n"
      "%2[a0, a1*2 + a2, a3] = sum{a4:3, a5:4, a6:4}(%0[a0, a4, a1*4 + a5, a2*4 + a6] * %1[a3, a4, a5, a6])\n"
      "  {a0:B, a1:3, a2:2, a3:$n} output \"y\" = %2" },
    { "their gradient", K_CONTRACT,
      "tensor %0 input f32[B, 3, 12, 8] \"x\" tensor %1 input f32[B, 7, $n] \"g\" tensor %2 temp f32[$n, 3, 4, 4] \"w\"\n"
      "%2[a3, a4, a5, a6] = sum{a0:B, a1:3, a2:2}(%0[a0, a4, a1*4 + a5, a2*4 + a6] * %1[a0, a1*2 + a2 + 1, a3])\n"
      "  {a3:$n, a4:3, a5:4, a6:4} output \"w\" = %2" },
    { "batch against batch", K_CONTRACT,
      "tensor %0 input f32[B, $n] \"u\" tensor %1 input f32[B, $n] \"v\" tensor %2 temp f32[B, B] \"s\" tensor %3 temp f32[B, $n] \"d\"\n"
      "%2[a0, a1] = sum{a2:$n}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:B}\n"
      "%3[a0, a1] = sum{a2:B}(%2[a2, a0] * %1[a2, a1])  {a0:B, a1:$n} output \"s\" = %2 output \"d\" = %3" },
};

static void clip_kernels(void **state) { all_extents(clip_like, LEN(clip_like), 1e-5); }

/* ---- bf16: the same contractions with operands of two bytes, and tensors that are stored so */

static const char *in_bf16(Arena *a, const char *text, const char *kind)
{
    const char *was = arena_printf(a, "%s f32[", kind), *is = arena_printf(a, "%s bf16[", kind);
    Text t = { .arena = a };
    for (const char *at; (at = strstr(text, was)); text = at + strlen(was)) {
        text_bytes(&t, text, (size_t)(at - text));
        text_printf(&t, "%s", is);
    }
    text_printf(&t, "%s", text);
    return text_data(&t);
}

static const Shape stored_bf16[] = {
    { "a map and what reads it rounded", K_MAP,
      "tensor %0 input bf16[B, $n] \"x\" tensor %1 temp bf16[B, $n] \"y\" tensor %2 temp f32[B, $n] \"z\"\n"
      "%1[a0, a1] = %0[a0, a1] * 1.2345  {a0:B, a1:$n} %2[a0, a1] = 100 * (%1[a0, a1] - %0[a0, a1])  {a0:B, a1:$n}\n"
      "output \"y\" = %1 output \"z\" = %2" },
    { "every second column, transposed", K_MAP,
      "tensor %0 input bf16[$n, 400] \"x\" tensor %1 temp bf16[200, $n] \"y\"\n"
      "%1[a1, a0] = %0[a0, a1*2 + 1]  {a0:$n, a1:200} output \"y\" = %1" },
    { "rows", K_ROW,
      "tensor %0 input bf16[B, $m, $n] \"x\" tensor %1 temp f32[B, $m] \"s\" tensor %2 temp bf16[B, $m, $n] \"y\"\n"
      "%1[a0, a1] = logsumexp{a2:$n}(%0[a0, a1, a2])  {a0:B, a1:$m}\n"
      "%2[a0, a1, a2] = exp(%0[a0, a1, a2] - %1[a0, a1])  {a0:B, a1:$m, a2:$n} output \"y\" = %2" },
    { "a contraction and its rounded copy", K_CONTRACT,
      "tensor %0 input f32[B, $m, $k] \"x\" tensor %1 param bf16[$n, $k] \"w\" tensor %2 temp f32[B, $m, $n] \"y\"\n"
      "tensor %3 temp bf16[B, $m, $n] \"h\"\n"
      "%2[a0, a1, a2] = sum{a3:$k}(%0[a0, a1, a3] * %1[a2, a3])  {a0:B, a1:$m, a2:$n}\n"
      "%3[a0, a1, a2] = %2[a0, a1, a2]  {a0:B, a1:$m, a2:$n} output \"y\" = %2 output \"h\" = %3" },
};

static void bf16_kernels(void **state)
{
    Suite s;
    suite_open_for(&s, true);
    for (size_t e = 0; e < LEN(sizes); e++) {
        for (size_t i = 0; i < LEN(contractions); i++) {
            Shape shape = contractions[i];
            shape.text = in_bf16(&s.arena, in_bf16(&s.arena, shape.text, "input"), "param");
            add_shape(&s, &shape, sizes[e].n, sizes[e].m, sizes[e].k);
        }
        for (size_t i = 0; i < LEN(clip_like); i++) {
            Shape shape = clip_like[i];
            shape.text = in_bf16(&s.arena, in_bf16(&s.arena, shape.text, "input"), "param");
            add_shape(&s, &shape, sizes[e].n, sizes[e].m, sizes[e].k);
        }
        for (size_t i = 0; i < LEN(stored_bf16); i++)
            add_shape(&s, &stored_bf16[i], sizes[e].n, sizes[e].m, sizes[e].k);
    }
    check_all(&s, 2e-5);
}

/* ---- attention: $n tokens, $m others, width $k; in bf16 what is an input becomes bf16 */

static const Shape scores[] = {
    { "causal, heads of one projection", K_SCORE,
      "tensor %0 input f32[B, $n, 36] \"qkv\" tensor %1 temp f32[B, 3, $n, $n] \"s\" tensor %2 temp f32[B, 3, $n] \"l\"\n"
      "tensor %3 temp f32[B, 3, $n, $n] \"p\" tensor %4 temp f32[B, $n, 12] \"z\"\n"
      "%1[a0, a1, a2, a3] = sum{a4:4}(%0[a0, a2, a1*4 + a4] * %0[a0, a3, a1*4 + a4 + 12] * 0.5)  {a0:B, a1:3, a2:$n, a3:$n}\n"
      "%2[a0, a1, a2] = logsumexp{a3:$n}(where([a3] > [a2], -inf, %1[a0, a1, a2, a3]))  {a0:B, a1:3, a2:$n}\n"
      "%3[a0, a1, a2, a3] = exp(where([a3] > [a2], -inf, %1[a0, a1, a2, a3]) - %2[a0, a1, a2])  {a0:B, a1:3, a2:$n, a3:$n}\n"
      "%4[a0, a1, a2*4 + a3] = sum{a4:$n}(%3[a0, a2, a1, a4] * %0[a0, a4, a2*4 + a3 + 24])  {a0:B, a1:$n, a2:3, a3:4}\n"
      "output \"z\" = %4 output \"l\" = %2" },
    { "their gradient: sums along both sides", K_SCORE,
      "tensor %0 input f32[B, $n, 2, $k] \"q\" tensor %1 input f32[B, 2, $k, $m] \"kt\" tensor %2 input f32[B, $n, 2, 5] \"dz\"\n"
      "tensor %3 input f32[B, $m, 2, 5] \"v\" tensor %4 input f32[B, 2, $n] \"l\" tensor %5 temp f32[B, 2, $n, $m] \"s\"\n"
      "tensor %6 temp f32[B, 2, $n, $m] \"p\" tensor %7 temp f32[B, 2, $n, $m] \"dp\" tensor %8 temp f32[B, 2, $n] \"d\"\n"
      "tensor %9 temp f32[B, 2, $n, $m] \"ds\" tensor %10 temp f32[B, $n, 2, $k] \"dq\" tensor %11 temp f32[B, 2, $k, $m] \"dkt\"\n"
      "tensor %12 temp f32[B, $m, 2, 5] \"dv\"\n"
      "%5[a0, a1, a2, a3] = sum{a4:$k}(%0[a0, a2, a1, a4] * %1[a0, a1, a4, a3])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%6[a0, a1, a2, a3] = exp(%5[a0, a1, a2, a3] * 0.25 - %4[a0, a1, a2])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%7[a0, a1, a2, a3] = sum{a4:5}(%2[a0, a2, a1, a4] * %3[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%8[a0, a1, a2] = sum{a3:$m}(%6[a0, a1, a2, a3] * %7[a0, a1, a2, a3])  {a0:B, a1:2, a2:$n}\n"
      "%9[a0, a1, a2, a3] = %6[a0, a1, a2, a3] * (%7[a0, a1, a2, a3] - %8[a0, a1, a2])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%10[a0, a2, a1, a4] = sum{a3:$m}(%9[a0, a1, a2, a3] * 0.25 * %1[a0, a1, a4, a3])  {a0:B, a1:2, a2:$n, a4:$k}\n"
      "%11[a0, a1, a4, a3] = sum{a2:$n}(%9[a0, a1, a2, a3] * 0.25 * %0[a0, a2, a1, a4])  {a0:B, a1:2, a4:$k, a3:$m}\n"
      "%12[a0, a3, a1, a4] = sum{a2:$n}(%6[a0, a1, a2, a3] * %2[a0, a2, a1, a4])  {a0:B, a1:2, a3:$m, a4:5}\n"
      "output \"dq\" = %10 output \"dkt\" = %11 output \"dv\" = %12" },
    { "their gradient, with a sum for each row", K_SCORE,
      "tensor %0 input f32[B, $n, 2, $k] \"q\" tensor %1 input f32[B, $m, 2, $k] \"k\" tensor %2 input f32[B, $n, 2, 5] \"dz\"\n"
      "tensor %3 input f32[B, $m, 2, 5] \"v\" tensor %4 input f32[B, $n, 2, 5] \"z\" tensor %5 temp f32[B, 2, $n, $m] \"s\"\n"
      "tensor %7 temp f32[B, 2, $n, $m] \"dp\" tensor %8 temp f32[B, 2, $n] \"d\"\n"
      "tensor %9 temp f32[B, 2, $n, $m] \"ds\" tensor %10 temp f32[B, $n, 2, $k] \"dq\" tensor %11 temp f32[B, $m, 2, $k] \"dk\"\n"
      "%5[a0, a1, a2, a3] = sum{a4:$k}(%0[a0, a2, a1, a4] * %1[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%7[a0, a1, a2, a3] = sum{a4:5}(%2[a0, a2, a1, a4] * %3[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%8[a0, a2, a1] = sum{a3:5}(-(%2[a0, a1, a2, a3] * %4[a0, a1, a2, a3]))  {a0:B, a1:$n, a2:2}\n"
      "%9[a0, a1, a2, a3] = exp(%5[a0, a1, a2, a3] * 0.25) * (%7[a0, a1, a2, a3] + %8[a0, a1, a2])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%10[a0, a2, a1, a4] = sum{a3:$m}(%9[a0, a1, a2, a3] * %1[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a4:$k}\n"
      "%11[a0, a3, a1, a4] = sum{a2:$n}(%9[a0, a1, a2, a3] * %0[a0, a2, a1, a4])  {a0:B, a1:2, a3:$m, a4:$k}\n"
      "output \"dq\" = %10 output \"dk\" = %11" },
    { "a gradient that ends 5 places beyond the diagonal", K_SCORE,
      "tensor %0 input f32[B, $n, 2, $k] \"q\" tensor %1 input f32[B, $m, 2, $k] \"k\" tensor %2 input f32[B, $n, 2, 16] \"dz\"\n"
      "tensor %3 input f32[B, $m, 2, 16] \"v\" tensor %5 temp f32[B, 2, $n, $m] \"s\" tensor %6 temp f32[B, 2, $n, $m] \"p\"\n"
      "tensor %7 temp f32[B, 2, $n, $m] \"dp\" tensor %9 temp f32[B, 2, $n, $m] \"ds\" tensor %10 temp f32[B, $n, 2, $k] \"dq\"\n"
      "tensor %11 temp f32[B, $m, 2, $k] \"dk\" tensor %12 temp f32[B, $m, 2, 16] \"dv\"\n"
      "%5[a0, a1, a2, a3] = sum{a4:$k}(%0[a0, a2, a1, a4] * %1[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%7[a0, a1, a2, a3] = sum{a4:16}(%2[a0, a2, a1, a4] * %3[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%6[a0, a1, a2, a3] = exp(where([a3] > [a2 + 5], -inf, %5[a0, a1, a2, a3] * 0.25))  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%9[a0, a1, a2, a3] = where([a3] > [a2 + 5], 0, %7[a0, a1, a2, a3] * %6[a0, a1, a2, a3])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%10[a0, a2, a1, a4] = sum{a3:$m}(%9[a0, a1, a2, a3] * %1[a0, a3, a1, a4])  {a0:B, a1:2, a2:$n, a4:$k}\n"
      "%11[a0, a3, a1, a4] = sum{a2:$n}(%9[a0, a1, a2, a3] * 0.5 * %0[a0, a2, a1, a4])  {a0:B, a1:2, a3:$m, a4:$k}\n"
      "%12[a0, a3, a1, a4] = sum{a2:$n}(%6[a0, a1, a2, a3] * %2[a0, a2, a1, a4])  {a0:B, a1:2, a3:$m, a4:16}\n"
      "output \"dq\" = %10 output \"dk\" = %11 output \"dv\" = %12" },
    { "one query of each head, masked from its place on", K_SCORE,
      "tensor %0 input f32[B, $m, 24] \"qkv\" tensor %1 temp f32[B, 2, $m] \"s\" tensor %2 temp f32[B, 2] \"l\" tensor %5 input i32[B] \"at\"\n"
      "tensor %3 temp f32[B, 2, $m] \"p\" tensor %4 temp f32[B, 8] \"z\"\n"
      "%1[a0, a1, a2] = sum{a3:4}(%0[a0, 0, a1*4 + a3] * %0[a0, a2, a1*4 + a3 + 8] * 0.5)  {a0:B, a1:2, a2:$m}\n"
      "%2[a0, a1] = logsumexp{a2:$m}(where([a2] > [%5[a0]], -inf, %1[a0, a1, a2]))  {a0:B, a1:2}\n"
      "%3[a0, a1, a2] = exp(where([a2] > [%5[a0]], -inf, %1[a0, a1, a2]) - %2[a0, a1])  {a0:B, a1:2, a2:$m}\n"
      "%4[a0, a1*4 + a2] = sum{a3:$m}(%3[a0, a1, a3] * %0[a0, a3, a1*4 + a2 + 16])  {a0:B, a1:2, a2:4}\n"
      "output \"z\" = %4 output \"l\" = %2" },
    { "the gradient of one query", K_SCORE,
      "tensor %0 input f32[B, 2, $k] \"q\" tensor %1 input f32[B, $m, 2, $k] \"k\" tensor %2 input f32[B, 2, 16] \"dz\"\n"
      "tensor %3 input f32[B, $m, 2, 16] \"v\" tensor %4 input f32[B, 2, 16] \"z\" tensor %5 temp f32[B, 2, $m] \"s\" tensor %6 temp f32[B, 2, $m] \"p\"\n"
      "tensor %7 temp f32[B, 2, $m] \"dp\" tensor %8 temp f32[B, 2] \"d\" tensor %9 temp f32[B, 2, $m] \"ds\"\n"
      "tensor %10 temp f32[B, 2, $k] \"dq\" tensor %11 temp f32[B, $m, 2, $k] \"dk\" tensor %12 temp f32[B, $m, 2, 16] \"dv\"\n"
      "%5[a0, a1, a2] = sum{a3:$k}(%0[a0, a1, a3] * %1[a0, a2, a1, a3])  {a0:B, a1:2, a2:$m}\n"
      "%6[a0, a1, a2] = exp(%5[a0, a1, a2] * 0.25)  {a0:B, a1:2, a2:$m}\n"
      "%7[a0, a1, a2] = sum{a3:16}(%2[a0, a1, a3] * %3[a0, a2, a1, a3])  {a0:B, a1:2, a2:$m}\n"
      "%8[a0, a1] = sum{a2:16}(-(%2[a0, a1, a2] * %4[a0, a1, a2]))  {a0:B, a1:2}\n"
      "%9[a0, a1, a2] = %6[a0, a1, a2] * (%7[a0, a1, a2] + %8[a0, a1])  {a0:B, a1:2, a2:$m}\n"
      "%10[a0, a1, a3] = sum{a2:$m}(%9[a0, a1, a2] * %1[a0, a2, a1, a3])  {a0:B, a1:2, a3:$k}\n"
      "%11[a0, a2, a1, a3] = %9[a0, a1, a2] * 0.5 * %0[a0, a1, a3]  {a0:B, a1:2, a2:$m, a3:$k}\n"
      "%12[a0, a2, a1, a3] = %6[a0, a1, a2] * %2[a0, a1, a3]  {a0:B, a1:2, a2:$m, a3:16}\n"
      "output \"dq\" = %10 output \"dk\" = %11 output \"dv\" = %12" },
    { "scores that are wanted, keys that heads share, no layout of use", K_SCORE,
      "tensor %0 input f32[$k, B, 2, $n] \"q\" tensor %1 input f32[$k, $m, B] \"k\" tensor %2 input f32[3, $m, B] \"v\"\n"
      "tensor %3 param f32[2, $n, $m] \"bias\" tensor %4 temp f32[B, 2, $n, $m] \"s\" tensor %5 temp f32[B, 2, $n] \"hi\"\n"
      "tensor %6 temp f32[B, 2, $n, $m] \"e\" tensor %7 temp f32[B, $n, 2, 3] \"z\" tensor %8 temp f32[B, 2, $n] \"sum\"\n"
      "%4[a0, a1, a2, a3] = sum{a4:$k}(%0[a4, a0, a1, a2] * %1[a4, a3, a0])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%5[a0, a1, a2] = max{a3:$m}(%4[a0, a1, a2, a3] + %3[a1, a2, a3])  {a0:B, a1:2, a2:$n}\n"
      "%6[a0, a1, a2, a3] = exp(%4[a0, a1, a2, a3] + %3[a1, a2, a3] - %5[a0, a1, a2])  {a0:B, a1:2, a2:$n, a3:$m}\n"
      "%8[a0, a1, a2] = sum{a3:$m}(%6[a0, a1, a2, a3])  {a0:B, a1:2, a2:$n}\n"
      "%7[a0, a2, a1, a4] = sum{a3:$m}(%6[a0, a1, a2, a3] * %2[a4, a3, a0])  {a0:B, a1:2, a2:$n, a4:3}\n"
      "output \"z\" = %7 output \"s\" = %4 output \"sum\" = %8" },
};

static void score_kernels(void **state)
{
    static const struct { int n, m, k; } tokens[] = { { 1, 13, 6 }, { 7, 1, 3 }, { 17, 16, 8 }, { 50, 77, 1 }, { 197, 33, 20 }, { 9, 260, 64 }, { 210, 200, 5 } };
    Suite s;
    suite_open(&s);
    for (size_t e = 0; e < LEN(tokens); e++)
        for (size_t i = 0; i < LEN(scores); i++)
            for (int narrow = 0; narrow < 2; narrow++) {
                Shape shape = scores[i];
                shape.text = narrow ? in_bf16(&s.arena, shape.text, "input") : shape.text;
                Case *c = add_shape(&s, &shape, tokens[e].n, tokens[e].m, tokens[e].k);
                if (i == 2 && tokens[e].n > 1 && tokens[e].m > 1 && tokens[e].k > 1 && case_kernels(c, K_ROW))
                    fail_msg("%s: the sum for each row is a kernel of its own", c->name);
            }
    check_all(&s, 2e-5);
}

/* ---- the functions of math.c, over all of f32 */

typedef struct {
    const char *name, *body;
    double (*f)(double x);
    double lo, hi;                     /* arguments, as magnitudes on a logarithmic scale; both signs */
    double bound;
    bool absolute;
} Function;

static double odd_power(double x) { return pow(x, 0.3125); }
static double eighth(double x) { return pow(x, -8); }
static double inverse_root(double x) { return 1 / sqrt(x); }

static const Function functions[] = {
    { "exp", "exp(%0[a0])", exp, 1e-30, 103.9, 1.5e-7, false },
    { "ln", "ln(%0[a0])", log, 1e-44, 3.4e38, 1.5e-7, false },
    { "erf", "erf(%0[a0])", erf, 1e-30, 1e3, 3e-7, false },
    { "tanh", "tanh(%0[a0])", tanh, 1e-30, 1e3, 3e-7, false },
    { "sin", "sin(%0[a0])", sin, 1e-30, 1073741824, 1.5e-7, true },
    { "cos", "cos(%0[a0])", cos, 1e-30, 1073741824, 1.5e-7, true },
    { "sqrt", "sqrt(%0[a0])", sqrt, 1e-37, 1e38, 6e-8, false },
    { "rsqrt", "rsqrt(%0[a0])", inverse_root, 1e-37, 1e38, 1.5e-7, false },
    { "^ 5/16", "%0[a0]^0.3125", odd_power, 1e-37, 1e38, 1.5e-7, false },
    { "^ -8", "%0[a0]^(-8)", eighth, 1e-4, 1e4, 1e-6, false },
    { "floor", "floor(%0[a0])", floor, 1e-30, 1e30, 0, false },
};

enum { POINTS = 200003 };

static void functions_everywhere(void **state)
{
    Suite s;
    suite_open(&s);
    for (size_t i = 0; i < LEN(functions); i++)
        suite_add(&s, functions[i].name, arena_printf(&s.arena,
            "tensor %%0 input f32[B] \"x\" tensor %%1 temp f32[B] \"y\" %%1[a0] = %s  {a0:B} output \"y\" = %%1", functions[i].body));
    suite_link(&s);
    static const float special[] = { 0, -0.f, INFINITY, -INFINITY, NAN, 1, -1, 88.7f, 88.8f, -103.9f, -104.1f, 3.9256f, 9.1f };
    float *x = malloc(POINTS * sizeof *x), *y = malloc(POINTS * sizeof *y);
    assert_true(x && y);
    for (size_t i = 0; i < LEN(functions); i++) {
        const Function *f = &functions[i];
        const Case *c = s.cases.at[i];
        double worst = 0, range = log(f->hi / f->lo);
        for (int k = 0; k < POINTS; k++) {
            double size = f->lo * exp(range * (k / 2) / (POINTS / 2));
            x[k] = k < (int)LEN(special) ? special[k] : (float)(k % 2 ? size : -size);
        }
        for (int t = 0; t < s.n_target; t++) {
            const TicKernel *kernel = &s.kernel[t][c->launch[t][0].at[0].kernel];
            const int *arg = c->launch[t][0].at[0].arg;
            void *buf[2] = { arg[0] == 0 ? x : y, arg[1] == 0 ? x : y };
            tic_scratch_begin(s.scratch);
            for (int64_t task = kernel->tasks(POINTS); task-- > 0;)
                kernel->run(buf, POINTS, task, s.scratch);
            for (int k = 0; k < POINTS; k++) {
                double want = f->f(x[k]), got = y[k], error = fabs(got - want);
                if ((float)want == y[k] || (isnan(want) && isnan(got)))
                    continue;
                if (isinf(x[k]) && f->absolute)                /* sine of infinity: stated up to 2^30 only */
                    continue;
                error /= f->absolute ? 1 : fmax(fabs(want), 1.2e-38);
                if (!(error <= f->bound))
                    fail_msg("%s on %s: %.9g gives %.9g, wanted %.9g (error %.3g)", f->name, s.target[t].cpu, x[k], got, want, error);
                worst = fmax(worst, error);
            }
        }
        fprintf(stderr, "# %-10s worst error %.2g of %.2g\n", f->name, worst, f->bound);
    }
    free(x);
    free(y);
    suite_close(&s);
}

static void unknown_processor(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    CpuTarget t = { .cpu = "z80" };
    assert_null(cpu_module_new(&a, &t, &why));
    assert_non_null(strstr(text_data(&why), "unknown processor `z80`"));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(map_kernels),
        cmocka_unit_test(row_kernels), cmocka_unit_test(column_sums_of_rows), cmocka_unit_test(column_sums_apart),
        cmocka_unit_test(reduce_kernels), cmocka_unit_test(maps_of_reductions), cmocka_unit_test(numbers),
        cmocka_unit_test(scatter_kernels),
        cmocka_unit_test(host_kernels),
        cmocka_unit_test(contract_kernels),
        cmocka_unit_test(clip_kernels),
        cmocka_unit_test(bf16_kernels), cmocka_unit_test(score_kernels),
        cmocka_unit_test(functions_everywhere),
        cmocka_unit_test(unknown_processor),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
