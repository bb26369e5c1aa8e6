/* cc_sets.c -- maps and totals of one form as one kernel (pass/sets.c): which join and which must not, what the form computes by the
 * interpreter, and the CPU's code for it against the interpreter, with sets that are shorter and longer than a task. */
#include "cpu_harness.h"
#include "pass/fuse.h"

/* A parameter with a moment: m = m * 0.9 + g, w = w * decay - rate * m * scale. */
typedef struct Parameter {
    int rank;
    int d[3];
    bool decays;                     /* else the factor is not there */
    const char *scale, *gradient;    /* "0.5"; NULL: the gradient is read where the parameter is; or index maps of its own */
} Parameter;

typedef enum { SHAPE, AXES, EXTENTS } Listed;            /* "5, 7"   "a0, a1"   "a0:5, a1:7" */

static const char *list(Arena *a, Listed what, const Parameter *p)
{
    Text t = { .arena = a };
    for (int i = 0; i < p->rank; i++) {
        text_printf(&t, "%s", i ? ", " : "");
        if (what != SHAPE)
            text_printf(&t, "a%d", i);
        if (what != AXES)
            text_printf(&t, what == SHAPE ? "%d" : ":%d", p->d[i]);
    }
    return text_data(&t);
}

/* Tensor 0 is the rate, 1 the decay; of parameter i: w, m, g, and their new values, from 2 + 5 i on. */
static const char *optimiser(Arena *a, const Parameter *p, int n, const char *type)
{
    Text t = { .arena = a };
    text_printf(&t, "tensor %%0 input f64[] \"rate\" tensor %%1 input f64[] \"decay\"\n");
    for (int i = 0; i < n; i++) {
        int w = 2 + 5 * i, m = w + 1, g = w + 2, nm = w + 3, nw = w + 4;
        const char *shape = list(a, SHAPE, &p[i]), *at = list(a, AXES, &p[i]), *axes = list(a, EXTENTS, &p[i]), *of_g = shape;
        if (p[i].gradient)
            of_g = list(a, SHAPE, &(Parameter){ .rank = 2, .d = { p[i].d[1], p[i].d[0] } });
        text_printf(&t, "tensor %%%d param f32[%s] \"w%d\" tensor %%%d state %s[%s] \"m%d\"\n", w, shape, i, m, type, shape, i);
        text_printf(&t, "tensor %%%d input f32[%s] \"g%d\" tensor %%%d temp %s[%s] \"nm%d\" tensor %%%d temp f32[%s] \"nw%d\"\n", g,
                    of_g, i, nm, type, shape, i, nw, shape, i);
        text_printf(&t, "%%%d[%s] = %%%d[%s] * 0.9 + %%%d[%s]  {%s}\n", nm, at, m, at, g, p[i].gradient ? p[i].gradient : at, axes);
        text_printf(&t, "%%%d[%s] = %%%d[%s]%s - %%0 * %%%d[%s] * %s  {%s}\n", nw, at, w, at, p[i].decays ? " * %1" : "", nm, at,
                    p[i].scale ? p[i].scale : "0.01", axes);
        text_printf(&t, "update %%%d = %%%d update %%%d = %%%d\n", m, nm, w, nw);
    }
    return text_data(&t);
}

static const Parameter some[] = {
    { .rank = 1, .d = { 5 } },    { .rank = 2, .d = { 7, 9 }, .decays = true }, { .rank = 3, .d = { 3, 4, 5 }, .decays = true },
    { .rank = 1, .d = { 8192 } }, { .rank = 1, .d = { 8193 } },                 { .rank = 2, .d = { 2, 3 }, .decays = true },
    { .rank = 2, .d = { 130, 127 }, .decays = true },
};

static const Kernel *sets_of(const Fused *f)
{
    const Kernel *found = NULL;
    for (int i = 0; i < f->n_kernel; i++)
        if (f->kernel[i].sets) {
            assert_null(found);
            found = &f->kernel[i];
        }
    return found;
}

static Fused *fused(Arena *a, const char *text)
{
    Graph *g = graph_from(a, text);
    Text why = { .arena = a };
    Fused *f = NEW(a, Fused);
    if (!passes_simplify(g, &(PassOptions){ 0 }, NULL, &why) || !fuse(g, &(FuseOptions){ 0 }, a, f, &why))
        fail_msg("%s\n%s", text_data(&why), text);
    schedule(f);
    return f;
}

/* Kernel by kernel in the interpreter, against the graph as it was written. */
static void runs(Arena *a, Fused *f, const char *text)
{
    Case c = { .name = "in the interpreter", .text = text, .plain = graph_from(a, text), .low = -1, .high = 1, .most = 3 };
    Env want, got;
    Text why = { .arena = a };
    reference(&c, &want, a, 2);
    got = (Env){ NEWN(a, double *, f->graph->n_tensor), 2 };
    for (int t = 0; t < c.plain->n_tensor; t++)
        if (c.plain->tensor[t].kind != T_TEMP)
            got.value[t] = want.value[t];
    if (!fused_run(f, &got, a, &why))
        fail_msg("%s\n%s", text_data(&why), text);
    for (int i = 0; i < c.plain->n_update + c.plain->n_output; i++) {
        int o = i - c.plain->n_update, w = o < 0 ? c.plain->update[i].value : c.plain->output[o].tensor;
        int x = o < 0 ? f->graph->update[i].value : f->graph->output[o].tensor;
        assert_non_null(got.value[x]);
        for (int64_t k = 0; k < tensor_count(c.plain, w, 2); k++)
            if (fabs(want.value[w][k] - got.value[x][k]) > 1e-12 * fmax(1, fabs(want.value[w][k])))
                fail_msg("%s[%lld] is %.17g, wanted %.17g\n%s", c.plain->tensor[w].name, (long long)k, got.value[x][k], want.value[w][k], text);
    }
}

static void one_kernel(void **state)
{
    Arena a = { 0 };
    const char *text = optimiser(&a, some, LEN(some), "f32");
    Fused *f = fused(&a, text);
    const Kernel *k = sets_of(f);
    assert_int_equal(f->n_kernel, 2);                          /* and the 1 of those that do not decay */
    assert_int_equal(f->n_distinct, 2);
    assert_non_null(k);
    assert_int_equal(k->sets->n, LEN(some));
    const Kernel *form = &k->sets->form->kernel[0];
    assert_int_equal(form->n_args, 7);
    assert_int_equal(k->n_args, 7 * (int)LEN(some));
    int in_place = 0;
    for (int t = 0; t < k->sets->form->graph->n_tensor; t++)
        in_place += k->sets->form->storage[t] != t;
    assert_int_equal(in_place, 2);
    int64_t points = 0;
    int ones = 0;
    for (int s = 0; s < k->sets->n; s++) {
        int64_t n = k->sets->size[s];
        points += n;
        for (int i = 0; i < form->n_args; i++) {
            const Tensor *t = &f->graph->tensor[k->args[s * form->n_args + i]], *x = &k->sets->form->graph->tensor[form->args[i]];
            assert_int_equal(t->dtype, x->dtype);
            assert_int_equal(tensor_count(f->graph, k->args[s * form->n_args + i], 1), x->rank ? n : 1);
            ones += !strcmp(t->name, "number");
        }
    }
    assert_int_equal(points, k->dom[0]);
    assert_int_equal(ones, 3);                                 /* as many do not decay */
    runs(&a, f, text);
    arena_free(&a);
}

static void constants(void **state)
{
    static const Parameter p[] = { { .rank = 1, .d = { 40 }, .decays = true, .scale = "0.5" },
                                   { .rank = 1, .d = { 50 }, .decays = true, .scale = "0.25" },
                                   { .rank = 1, .d = { 60 }, .decays = true, .scale = "0.5" } };
    static const Parameter same[] = { { .rank = 1, .d = { 40 }, .decays = true, .scale = "0.5" },
                                      { .rank = 1, .d = { 50 }, .decays = true, .scale = "0.5" } };
    Arena a = { 0 };
    const char *text = optimiser(&a, p, LEN(p), "f32");
    Fused *f = fused(&a, text);
    const Kernel *k = sets_of(f);
    assert_non_null(k);
    assert_int_equal(f->n_kernel, 2);
    assert_int_equal(f->kernel[0].cls, K_HOST);
    assert_int_equal(f->kernel[0].n_comp, 2);                  /* 0.5 and 0.25, not 0.9 */
    assert_int_equal(k->sets->form->kernel[0].n_args, 8);
    runs(&a, f, text);
    text = optimiser(&a, same, LEN(same), "f32");
    f = fused(&a, text);
    assert_int_equal(f->n_kernel, 1);                          /* nothing differs: the constant is in the form */
    runs(&a, f, text);
    arena_free(&a);
}

/* ---- what must not join */

#define TWO(body0, body1, more) \
    "tensor %0 param f32[4, 6] \"a\" tensor %1 param f32[24] \"b\" tensor %2 param f32[30] \"c\" tensor %3 input f32[24] \"g\"\n" \
    "tensor %4 input f32[30] \"h\" tensor %5 temp f32[4, 6] \"na\" tensor %6 temp f32[24] \"nb\" tensor %7 temp f32[30] \"nc\"\n" \
    "%5[a0, a1] = " body0 "  {a0:4, a1:6}\n%6[a0] = " body1 "  {a0:24}\n" more "update %0 = %5 update %1 = %6\n"
#define THREE "%7[a0] = %2[a0] * 0.9 + %4[a0]  {a0:30}\nupdate %2 = %7\n"

static void apart(void **state)
{
    static const struct { const char *name, *text; int kernels, sets; } cases[] = {
        { "both", TWO("%0[a0, a1] * 0.9 + %3[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]", ""), 1, 2 },
        { "one reads what the other writes over", TWO("%0[a0, a1] * 0.9 + %1[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]", ""), 2, 0 },
        { "and a third joins one of them", TWO("%0[a0, a1] * 0.9 + %1[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]", THREE), 2, 2 },
        { "another order in memory", TWO("%0[a0, a1] * 0.9 + %3[a1*4 + a0]", "%1[a0] * 0.9 + %3[a0]", THREE), 2, 2 },
        { "the beginning of a tensor", TWO("%0[a0, a1] * 0.9 + %4[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]", THREE), 1, 3 },
        { "not from its beginning", TWO("%0[a0, a1] * 0.9 + %4[a0*6 + a1 + 6]", "%1[a0] * 0.9 + %3[a0]", THREE), 2, 2 },
        { "and beyond its end", TWO("%0[a0, a1] * 0.9 + where(%0[a0, a1] > 2, %3[a0*6 + a1 + 1], 0)",
          "%1[a0] * 0.9 + where(%1[a0] > 2, %3[a0], 0)", ""), 2, 0 },
        { "another operation", TWO("%0[a0, a1] * 0.9 - %3[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]", ""), 2, 0 },
        { "an index as a number", TWO("%0[a0, a1] * 0.9 + [a1]", "%1[a0] * 0.9 + [a0]", ""), 2, 0 },
        { "beside a result that is no update", TWO("%0[a0, a1] * 0.9 + %3[a0*6 + a1]", "%1[a0] * 0.9 + %3[a0]",
          "tensor %8 temp f32[24] \"e\"\n%8[a0] = %1[a0] * 0.9 + %3[a0] * 2  {a0:24}\noutput \"e\" = %8\n"), 2, 2 },
    };
    for (int i = 0; i < (int)LEN(cases); i++) {
        Arena a = { 0 };
        Fused *f = fused(&a, cases[i].text);
        const Kernel *k = sets_of(f);
        int sets = k ? k->sets->n : 0;
        if (f->n_kernel != cases[i].kernels || sets != cases[i].sets)
            fail_msg("%s: %d kernels, %d maps in one; wanted %d and %d", cases[i].name, f->n_kernel, sets, cases[i].kernels, cases[i].sets);
        runs(&a, f, cases[i].text);
        arena_free(&a);
    }
}

/* Two forms, and each has a map that must run before one of the other: they cannot both be one kernel. */
static void crossed(void **state)
{
    static const char text[] =
        "tensor %0 param f32[3, 4] \"a\" tensor %1 param f32[12] \"b\" tensor %2 param f32[5, 4] \"c\" tensor %3 param f32[20] \"d\"\n"
        "tensor %4 temp f32[3, 4] \"na\" tensor %5 temp f32[12] \"nb\" tensor %6 temp f32[5, 4] \"nc\" tensor %7 temp f32[20] \"nd\"\n"
        "tensor %8 input f32[12] \"g\" tensor %9 input f32[20] \"h\"\n"
        "%4[a0, a1] = %0[a0, a1] * 0.9 + %1[a0*4 + a1]  {a0:3, a1:4}\n%5[a0] = exp(%1[a0]) * %8[a0]  {a0:12}\n"
        "%6[a0, a1] = exp(%2[a0, a1]) * %3[a0*4 + a1]  {a0:5, a1:4}\n%7[a0] = %3[a0] * 0.9 + %9[a0]  {a0:20}\n"
        "update %0 = %4 update %1 = %5 update %2 = %6 update %3 = %7\n";
    Arena a = { 0 };
    Fused *f = fused(&a, text);
    assert_int_equal(f->n_kernel, 3);
    assert_int_equal(sets_of(f)->sets->n, 2);
    runs(&a, f, text);
    arena_free(&a);
}

/* Sums of gradients as a piece of a step adds to them: a large gradient is not kept for the others. With an output updates come
 * last in any case. */
static void memory(void **state)
{
    static const char text[] =
        "tensor %0 input f32[B, 200] \"x\" tensor %1 input f32[B, 300] \"y\" tensor %2 state f32[200, 300] \"s\" tensor %3 state f32[200] \"t\"\n"
        "tensor %4 state f32[300] \"u\" tensor %5 temp f32[200, 300] \"ds\" tensor %6 temp f32[200] \"dt\" tensor %7 temp f32[300] \"du\"\n"
        "tensor %8 temp f32[200, 300] \"ns\" tensor %9 temp f32[200] \"nt\" tensor %10 temp f32[300] \"nu\" tensor %11 temp f32[] \"loss\"\n"
        "%5[a0, a1] = sum{a2:B}(%0[a2, a0] * %1[a2, a1])  {a0:200, a1:300}\n%6[a0] = sum{a1:B}(%0[a1, a0])  {a0:200}\n"
        "%7[a0] = sum{a1:B}(%1[a1, a0])  {a0:300}\n%8[a0, a1] = %2[a0, a1] + %5[a0, a1]  {a0:200, a1:300}\n"
        "%9[a0] = %3[a0] + %6[a0]  {a0:200}\n%10[a0] = %4[a0] + %7[a0]  {a0:300}\n%11 = sum{a0:B, a1:200}(%0[a0, a1])  {}\n"
        "update %2 = %8 update %3 = %9 update %4 = %10\n";
    Arena a = { 0 };
    for (int output = 0; output < 2; output++) {
        Fused *f = fused(&a, arena_printf(&a, "%s%s", text, output ? "output \"loss\" = %11\n" : ""));
        assert_non_null(sets_of(f));
        assert_int_equal(sets_of(f)->sets->n, 2 + output);
    }
    arena_free(&a);
}

/* Copies of two weights in bf16. Where something later is larger than both, one kernel makes them; where a first layer's copy
 * would have gone before the second is needed, two do, and so they do when a program is to need little. */
static void copies(void **state)
{
    static const struct { int wide; bool lean; int sets; } cases[] = { { 3000, false, 2 }, { 10, false, 0 }, { 3000, true, 0 } };
    for (int i = 0; i < (int)LEN(cases); i++) {
        Arena a = { 0 };
        Text why = { .arena = &a };
        const char *text = arena_printf(&a,
            "tensor %%0 param f32[200, 300] \"v\" tensor %%1 param f32[300, 200] \"w\" tensor %%2 input bf16[4, 200] \"x\"\n"
            "tensor %%3 temp bf16[200, 300] \"v.bf16\" tensor %%4 temp bf16[300, 200] \"w.bf16\" tensor %%5 temp bf16[4, 300] \"y\"\n"
            "tensor %%6 temp f32[4, 200] \"z\" tensor %%7 temp f32[200, %d] \"u\" tensor %%8 temp f32[] \"s\"\n"
            "%%3[a0, a1] = %%0[a0, a1]  {a0:200, a1:300}\n%%4[a0, a1] = %%1[a0, a1]  {a0:300, a1:200}\n"
            "%%5[a0, a1] = sum{a2:200}(%%2[a0, a2] * %%3[a2, a1])  {a0:4, a1:300}\n"
            "%%6[a0, a1] = sum{a2:300}(%%5[a0, a2] * %%4[a2, a1])  {a0:4, a1:200}\n"
            "%%7[a0, a1] = sum{a2:4}(%%6[a2, a0] * %%6[a2, (a1 mod 200)])  {a0:200, a1:%d}\n"
            "%%8 = sum{a0:200, a1:%d}(%%7[a0, a1] * %%7[a0, a1])  {}\noutput \"s\" = %%8\n", cases[i].wide, cases[i].wide, cases[i].wide);
        Graph *g = graph_from(&a, text);
        Fused f;
        if (!(cases[i].lean ? fuse_lean : fuse)(g, &(FuseOptions){ 0 }, &a, &f, &why))
            fail_msg("%s\n%s", text_data(&why), text);
        schedule(&f);
        const Kernel *k = sets_of(&f);
        if ((k ? k->sets->n : 0) != cases[i].sets)
            fail_msg("case %d: %d copies in one kernel, wanted %d", i, k ? k->sets->n : 0, cases[i].sets);
        runs(&a, &f, text);
        arena_free(&a);
    }
}

/* ---- totals */

/* A gradient of each size, its total (of what `body` says of %x) in one tensor, and a step scaled by what all come to. */
static const char *clipped(Arena *a, const Parameter *p, int n, const char *reducer)
{
    Text t = { .arena = a }, rest = { .arena = a };
    int total = 3 * n, scale = total + 1, all = total + 2;
    for (int i = 0; i < n; i++) {
        int w = 3 * i, g = w + 1, nw = w + 2;
        const char *shape = list(a, SHAPE, &p[i]), *at = list(a, AXES, &p[i]), *axes = list(a, EXTENTS, &p[i]);
        text_printf(&t, "tensor %%%d param f32[%s] \"w%d\" tensor %%%d input f32[%s] \"g%d\" tensor %%%d temp f32[%s] \"nw%d\"\n", w, shape, i,
                    g, shape, i, nw, shape, i);
        text_printf(&rest, "%%%d[%d] = %s{%s}(%%%d[%s] * %%%d[%s])\n", total, i, reducer, axes, g, at, g, at);
    }
    text_printf(&t, "tensor %%%d temp f32[%d] \"totals\" tensor %%%d temp f32[] \"scale\" tensor %%%d temp f32[] \"all\"\n", total, n, scale,
                all);
    text_printf(&rest, "%%%d = sum{a0:%d}(%%%d[a0])\n%%%d = rsqrt(%%%d)  {}\n", all, n, total, scale, all);
    for (int i = 0; i < n; i++) {
        const char *at = list(a, AXES, &p[i]), *axes = list(a, EXTENTS, &p[i]);
        text_printf(&rest, "%%%d[%s] = %%%d[%s] - %%%d[%s] * %%%d  {%s}\n", 3 * i + 2, at, 3 * i, at, 3 * i + 1, at, scale, axes);
        text_printf(&rest, "update %%%d = %%%d\n", 3 * i, 3 * i + 2);
    }
    text_printf(&t, "%soutput \"all\" = %%%d\n", text_data(&rest), all);
    return text_data(&t);
}

static const Kernel *totals_of(const Fused *f)
{
    for (int i = 0; i < f->n_kernel; i++)
        if (f->kernel[i].sets && f->kernel[i].cls == K_REDUCE)
            return &f->kernel[i];
    return NULL;
}

/* Totals, their sum, and the step: the scale and the root are part of the step, although only the step reads what it scales. */
static void totals(void **state)
{
    Arena a = { 0 };
    const char *text = clipped(&a, some, LEN(some), "sum");
    Fused *f = fused(&a, text);
    const Kernel *k = totals_of(f);
    assert_int_equal(f->n_kernel, 3);
    assert_non_null(k);
    assert_int_equal(k->sets->n, LEN(some));
    for (int i = 0; i < k->sets->n; i++)
        assert_int_equal(k->sets->at[i], i);
    assert_true(f->kernel[f->n_kernel - 1].sets && f->kernel[f->n_kernel - 1].cls == K_MAP);
    assert_int_equal(f->kernel[f->n_kernel - 1].sets->n, LEN(some));
    runs(&a, f, text);
    arena_free(&a);
}

/* What joins of two totals; gradients of which one is there only when the other is gone do not. */
static void totals_apart(void **state)
{
    static const struct { const char *name, *one, *two; int sets; } cases[] = {
        { "of one form", "sum{a0:40, a1:30}(%0[a0, a1] * %0[a0, a1])", "sum{a0:70}(%1[a0] * %1[a0])", 2 },
        { "in another order", "sum{a0:30, a1:40}(%0[a1, a0] * %0[a1, a0])", "sum{a0:70}(%1[a0] * %1[a0])", 2 },
        { "with constants of their own", "sum{a0:40, a1:30}(exp(%0[a0, a1] * 0.5))", "sum{a0:70}(exp(%1[a0] * 0.25))", 2 },
        { "a maximum and a sum", "max{a0:40, a1:30}(%0[a0, a1] * %0[a0, a1])", "sum{a0:70}(%1[a0] * %1[a0])", 0 },
        { "two maxima", "max{a0:40, a1:30}(%0[a0, a1] * %0[a0, a1])", "max{a0:70}(%1[a0] * %1[a0])", 2 },
        { "a logarithm of sums", "logsumexp{a0:40, a1:30}(%0[a0, a1])", "logsumexp{a0:70}(%1[a0])", 0 },
        { "of a part", "sum{a0:39, a1:30}(%0[a0, a1] * %0[a0, a1])", "sum{a0:70}(%1[a0] * %1[a0])", 0 },
        { "of two tensors", "sum{a0:40, a1:30}(%0[a0, a1] * %2[a0*30 + a1])", "sum{a0:70}(%1[a0] * %3[a0])", 2 },
        { "of a column", "sum{a0:40}(%0[a0, 3] * %0[a0, 3])", "sum{a0:70}(%1[a0] * %1[a0])", 0 },
    };
    for (int i = 0; i < (int)LEN(cases); i++) {
        Arena a = { 0 };
        const char *text = arena_printf(&a,
            "tensor %%0 input f32[40, 30] \"x\" tensor %%1 input f32[70] \"y\" tensor %%2 input f32[1200] \"u\" tensor %%3 input f32[70] \"v\"\n"
            "tensor %%4 temp f32[2, 3] \"t\" tensor %%5 temp f32[1200, 70] \"large\"\n%%5[a0, a1] = %%2[a0] + %%3[a1]  {a0:1200, a1:70}\n"
            "%%4[0, 2] = %s\n%%4[1, 0] = %s\n%%4[0, a0] = 1  {a0:2}\n%%4[1, a0 + 1] = 2  {a0:2}\n"
            "output \"t\" = %%4 output \"large\" = %%5\n", cases[i].one, cases[i].two);
        Fused *f = fused(&a, text);
        const Kernel *k = totals_of(f);
        if ((k ? k->sets->n : 0) != cases[i].sets)
            fail_msg("%s: %d totals in one kernel, wanted %d", cases[i].name, k ? k->sets->n : 0, cases[i].sets);
        if (k && (k->sets->at[0] != 2 || k->sets->at[1] != 3))
            fail_msg("%s: at %lld and %lld, wanted 2 and 3", cases[i].name, (long long)k->sets->at[0], (long long)k->sets->at[1]);
        runs(&a, f, text);
        arena_free(&a);
    }
}

/* The second of two large tensors can only be made when the first has gone: one launch for both totals would keep it. */
static void totals_memory(void **state)
{
    static const char text[] =
        "tensor %0 input f32[B, 200] \"x\" tensor %1 temp f32[200, 300] \"g\" tensor %2 temp f32[200, 300] \"h\" tensor %3 temp f32[2] \"t\"\n"
        "tensor %4 temp f32[200] \"r\"\n"
        "%1[a0, a1] = sum{a2:B}(%0[a2, a0] * %0[a2, (a1 mod 200)])  {a0:200, a1:300}\n%3[0] = sum{a0:200, a1:300}(%1[a0, a1] * %1[a0, a1])\n"
        "%4[a0] = sum{a1:300}(%1[a0, a1])  {a0:200}\n"
        "%2[a0, a1] = sum{a2:B}(%0[a2, a0] * %4[a0] * %0[a2, (a1 mod 100)])  {a0:200, a1:300}\n"
        "%3[1] = sum{a0:200, a1:300}(%2[a0, a1] * %2[a0, a1])\noutput \"t\" = %3\n";
    Arena a = { 0 };
    Fused *f = fused(&a, text);
    assert_null(totals_of(f));
    runs(&a, f, text);
    arena_free(&a);
}

/* ---- the CPU's code */

static void native(void **state)
{
    static const Parameter few[] = { { .rank = 1, .d = { 3 } }, { .rank = 2, .d = { 5, 3 }, .decays = true } };
    static const Parameter others[] = { { .rank = 1, .d = { 30 } }, { .rank = 2, .d = { 5, 9 }, .decays = true } };
    static const Parameter turned[] = { { .rank = 2, .d = { 6, 9 }, .decays = true },
                                        { .rank = 2, .d = { 12, 11 }, .decays = true, .gradient = "a1, a0" },
                                        { .rank = 1, .d = { 16 }, .decays = true, .scale = "0.3" } };
    Suite s;
    suite_open(&s);
    suite_add(&s, "f32", optimiser(&s.arena, some, LEN(some), "f32"));
    suite_add(&s, "moments in bf16", optimiser(&s.arena, some, LEN(some), "bf16"));
    suite_add(&s, "two", optimiser(&s.arena, few, LEN(few), "f32"));
    suite_add(&s, "two others", optimiser(&s.arena, others, LEN(others), "f32"));
    suite_add(&s, "one stays apart", optimiser(&s.arena, turned, LEN(turned), "f32"));
    for (int i = 0; i < s.cases.n; i++)
        assert_non_null(sets_of(&s.cases.at[i]->f));
    int maps = s.cases.n;
    suite_add(&s, "sums of squares", clipped(&s.arena, some, LEN(some), "sum"));
    suite_add(&s, "the largest squares", clipped(&s.arena, some, LEN(some), "max"));
    suite_add(&s, "of a few points", clipped(&s.arena, few, LEN(few), "sum"));
    for (int i = maps; i < s.cases.n; i++)
        assert_non_null(totals_of(&s.cases.at[i]->f));
    suite_link(&s);
    for (int i = 0; i < s.cases.n; i++)
        case_check(&s, s.cases.at[i], 2, i == 1 ? 1e-3 : 2e-6);         /* a moment beside a tie is rounded the other way */
    suite_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_kernel), cmocka_unit_test(constants), cmocka_unit_test(apart), cmocka_unit_test(crossed),
        cmocka_unit_test(memory), cmocka_unit_test(copies), cmocka_unit_test(totals), cmocka_unit_test(totals_apart),
        cmocka_unit_test(totals_memory), cmocka_unit_test(native),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
