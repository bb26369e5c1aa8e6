/* cc_ir.c -- the graph: shared nodes, simplifier, text, verifier, order, interpreter. Graphs are written as text. */
#include "graph_test.h"

/* ---- graphs used by several tests */

static const char linear[] =
    "tensor %0 input f32[B, 3] \"x\"\n"
    "tensor %1 param f32[2, 3] normal(0, 0.02) \"proj.weight\"\n"
    "tensor %2 param f32[2] const(0.5) \"proj.bias\"\n"
    "tensor %3 temp f32[B, 2] \"y\"\n"
    "tensor %4 temp f32[B, 2] \"h\"\n"
    "tensor %5 temp f32[] \"loss\"\n"
    "%3[a0, a1] = sum{a2:3}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:2}  @ \"proj\"\n"
    "%4[a0, a1] = max(%3[a0, a1] + %2[a1], 0)  {a0:B, a1:2}  @ \"proj\"\n"
    "%5 = sum{a0:B, a1:2}(%4[a0, a1] / B)\n"
    "output \"loss\" = %5\n";

static const char attention[] =                                /* softmax, mask, a head split, pieces, a gather */
    "tensor %0 input f32[B, 4, 6] \"x\"\n"
    "tensor %1 input i32[B] \"at\"\n"
    "tensor %2 param f32[6] uniform(-0.25, 1) \"class\"\n"
    "tensor %3 temp f32[B, 5, 6] \"tokens\"\n"
    "tensor %4 temp f32[B, 2, 5, 5] \"s\"\n"
    "tensor %5 temp f32[B, 2, 5] \"lse\"\n"
    "tensor %6 temp f32[B, 5, 6] \"z\"\n"
    "tensor %7 temp f32[B, 6] \"pooled\"\n"
    "%3[a0, 0, a1] = %2[a1]  {a0:B, a1:6}\n"
    "%3[a0, a1 + 1, a2] = %0[a0, a1, a2]  {a0:B, a1:4, a2:6}\n"
    "%4[a0, a1, a2, a3] = sum{a4:3}(%3[a0, a2, a1*3 + a4] * %3[a0, a3, a1*3 + a4])  {a0:B, a1:2, a2:5, a3:5}\n"
    "%5[a0, a1, a2] = logsumexp{a3:5}(where([-a2 + a3] > 0, -inf, %4[a0, a1, a2, a3]))  {a0:B, a1:2, a2:5}\n"
    "%6[a0, a2, a1*3 + a4] = sum{a3:5}(exp(where([-a2 + a3] > 0, -inf, %4[a0, a1, a2, a3]) - %5[a0, a1, a2]) * "
    "%3[a0, a3, a1*3 + a4])  {a0:B, a1:2, a2:5, a4:3}  @ \"attn\"\n"
    "%7[a0, a1] = %6[a0, %1[a0], a1]  {a0:B, a1:6}  @ \"pool \\\"it\\\"\"\n"
    "output \"pooled\" = %7\n";

static const char odds[] =                                     /* everything the text can say */
    "tensor %0 state f64[] const(1e-300) \"step\"\n"
    "tensor %2 state i32[7] const(3) \"k\\\\\\x01\"\n"
    "tensor %3 param f32[] const(-0) \"p\"\n"
    "tensor %4 temp f32[7] \"\"\n"
    "tensor %5 temp i32[] \"best\"\n"
    "tensor %6 temp f32[9, 2] \"rows\"\n"
    "tensor %7 temp f32[0] \"none\"\n"
    "tensor %8 temp f32[] \"q\"\n"
    "%4[a0] = where([a0*2 - 3] >= 0 and not(%2[a0] == 1), (%3 + 0.10000000000000001)^-1.5, -(%3 - B)) - -2.5\n"
    "  {a0:7}\n"
    "%5 = argmax{a0:7}(%4[a0] * (%4[-a0 + 6] < 1 or nan != %3))\n"
    "%6[%2[a0], a1] = scatter(%4[(a0*3 + a1 div 4)] / %4[(a0*3 + 1 mod 7)])  {a0:7, a1:2}\n"
    "%7[a0] = -(%3^2) ^ 3  {a0:0}  # a comment\n"
    "%8 = %3 * -inf - (3 - %0) / 3\n"
    "update %0 = %8\n"
    "update %3 = %8\n"
    "output \"best\" = %5\n";

static void same_text_again(const char *text)
{
    Arena a = {0};
    const char *once = text_of(&a, graph_from(&a, text));
    const char *twice = text_of(&a, graph_from(&a, once));
    assert_string_equal(once, twice);
    arena_free(&a);
}

static void text_is_kept(void **state)
{
    Arena a = {0};
    same_text_again(odds);
    assert_string_equal(text_of(&a, graph_from(&a, attention)), attention);
    assert_string_equal(text_of(&a, graph_from(&a, linear)), linear);
    arena_free(&a);
}

static void numbers_are_kept(void **state)
{
    static const double number[] = { 0.1, 1.0 / 3, 2.5e-310, 1.7976931348623157e308, 123456789012345680, -7, 1e22 };
    Arena a = {0};
    for (int i = 0; i < (int)LEN(number); i++) {
        Graph *g = graph_new(&a, NULL);
        int t = graph_tensor(g, "t", 0, NULL, T_TEMP, DT_F32);
        graph_comp(g, t, 0, NULL, 0, RED_NONE, expr_const(g, number[i]), NULL, (Span){0}, "");
        Graph *again = graph_from(&a, text_of(&a, g));
        assert_true(again->comp[0]->body->c == number[i]);
    }
    arena_free(&a);
}

static void bad_text_is_refused(void **state)
{
    static const struct { const char *text, *message; } bad[] = {
        { "tensor %0 temp f32[2] \"x\"\n%0[a0] = %1[a0]", "line 2: found `[a0]`, wanted a declared tensor" },
        { "tensor %0 temp f32[2 \"x\"", "line 1: found `\"x\"`, wanted `,`" },
        { "tensor %0 temp f31[2] \"x\"", "line 1: found `f31[2] \"x\"`, wanted f32, f64, i32, bf16 or u8" },
        { "tensor %0 temp f32[] \"x", "line 1: the text ends, wanted the end of the string" },
        { "tensor %0 temp f32[] \"x\" tensor %0", "line 1: the text ends, wanted a tensor number that is not in use" },
        { "tensor %0 temp f32[] \"x\" %0 = exp 1", "line 1: found `1`, wanted `(`" },
        { "tensor %0 temp f32[] \"x\" %0 = 1 + ", "line 1: the text ends, wanted a value" },
        { "tensor %0 temp f32[] \"x\" %0 = 1 < 2 < 3", "line 1: found `< 3`, wanted brackets around the left side" },
        { "tensor %0 temp f32[3] \"x\" %0[a0] = 1 {a0:3, a0:3}", "line 1: found `:3}`, wanted each axis once" },
        { "tensor %0 temp f32[3] \"x\" %0[a1] = 1 {a1:3}", "line 1: the text ends, wanted extents of all axes" },
        { "tensor %0 temp f32[3] \"x\" %0[a99] = 1", "line 1: found `9] = 1`, wanted a smaller number" },
        { "tensor %0 temp f32[3] \"x\" %0[(a0 div 0)] = 1", "line 1: found `)] = 1`, wanted a divisor above 0" },
        { "tensor %0 temp f32[3] \"x\" %0 = 1", "line 1: found `= 1`, wanted as many maps as the tensor has" },
        { "tensor %0 temp f32[99999999999999999999] \"x\"", "line 1: found `99] \"x\"`, wanted a smaller number" },
        { "tensor %999999999 temp f32[] \"x\"", "line 1: found `9999 temp f32[] \"x\"`, wanted a smaller number" },
        { "hello", "line 1: found `hello`, wanted tensor, output, update or an equation" },
        { "output \"l\" = 3", "line 1: found `3`, wanted `%`" },
        { "update %0 = %0", "line 1: found `= %0`, wanted a declared tensor" },
    };
    Arena a = {0};
    for (int i = 0; i < (int)LEN(bad); i++) {
        char error[200] = "";
        assert_null(graph_parse(&a, bad[i].text, error, sizeof error));
        if (strncmp(error, bad[i].message, strlen(bad[i].message)))
            fail_msg("`%s`\n     gives %s\n     not   %s", bad[i].text, error, bad[i].message);
    }
    Text deep = { .arena = &a };
    text_printf(&deep, "tensor %%0 temp f32[] \"x\" %%0 = ");
    for (int i = 0; i < 100000; i++)
        text_char(&deep, '(');
    char error[200] = "";
    assert_null(graph_parse(&a, text_data(&deep), error, sizeof error));
    assert_non_null(strstr(error, "fewer nested brackets"));
    arena_free(&a);
}

/* Every prefix of a good text is refused or understood, and nothing else happens; so with a byte changed. */
static void any_text_is_survived(void **state)
{
    Arena a = {0};
    uint64_t rng = 5;
    char error[200];
    for (size_t n = 0; n < sizeof odds; n++) {
        Arena b = {0};
        graph_parse(&b, arena_strndup(&b, odds, n), error, sizeof error);
        char *text = arena_strndup(&b, attention, sizeof attention - 1);
        text[(size_t)(sample(&rng) * (sizeof attention - 1))] = " %[](){}a0B,:=+-*<\"#e9"[(int)(sample(&rng) * 22)];
        Graph *g = graph_parse(&b, text, error, sizeof error);
        Text why = { .arena = &b };
        if (g)
            graph_verify(g, NULL, &why);
        arena_free(&b);
    }
    arena_free(&a);
}

/* ---- nodes */

static void equal_is_the_same_pointer(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a, linear);
    const Affine *i = aff_axis(g, 0), *j = aff_axis(g, 1);
    assert_ptr_equal(aff_add(g, i, j), aff_add(g, j, i));
    assert_ptr_equal(aff_add(g, aff_term(g, 0, 2, 3), aff_term(g, 0, -2, -3)), aff_const(g, 0));
    assert_ptr_equal(aff_scale(g, aff_term(g, 1, 3, 1), 2), aff_term(g, 1, 6, 2));
    assert_int_equal(aff_plain(i), 0);
    assert_int_equal(aff_plain(aff_term(g, 1, 1, 4)), -1);
    const Expr *x = expr_load(g, 0, (const Affine *[]){ i, j }), *y = expr_load(g, 0, (const Affine *[]){ j, i });
    assert_ptr_not_equal(x, y);
    assert_ptr_equal(expr_op(g, OP_EXP, x, NULL, NULL), expr_op(g, OP_EXP, x, NULL, NULL));
    assert_int_equal(expr_op(g, OP_ADD, x, expr_index(g, aff_axis(g, 4)), NULL)->axes, 1 << 4 | 3);
    const Affine *swap[] = { j, i };
    assert_ptr_equal(expr_subst(g, x, swap, 2), y);
    for (int k = 0; k < 5000; k++)                             /* the tables grow and forget nothing */
        expr_op(g, OP_ADD, x, expr_index(g, aff_term(g, 0, k + 1, k)), NULL);
    assert_ptr_equal(expr_load(g, 0, (const Affine *[]){ i, j }), x);
    assert_ptr_equal(aff_term(g, 0, 77, 76), aff_add(g, aff_scale(g, i, 77), aff_const(g, 76)));
    arena_free(&a);
}

static void div_and_mod_have_one_form(void **state)
{
    Arena a = {0};
    Graph *g = graph_new(&a, NULL);
    int64_t lo, hi;
    const Ext ext[] = { 7, EXT_BATCH, 3 };
    const Affine *m = aff_add(g, aff_term(g, 0, 6, -5), aff_term(g, 2, 1, 0));         /* 6 a0 + a2 - 5 */
    assert_ptr_equal(aff_div(g, m, 3), aff_add(g, aff_term(g, 0, 2, -2), aff_div(g, aff_term(g, 2, 1, 1), 3)));
    assert_ptr_equal(aff_mod(g, m, 3), aff_mod(g, aff_term(g, 2, 1, 1), 3));
    assert_ptr_equal(aff_mod(g, aff_term(g, 0, 6, 7), 3), aff_const(g, 1));
    assert_ptr_equal(aff_div(g, aff_const(g, -7), 3), aff_const(g, -3));
    assert_ptr_equal(aff_div(g, m, 1), m);
    assert_true(aff_range(m, ext, 5, &lo, &hi));
    assert_true(lo == -5 && hi == 33);
    assert_true(aff_range(aff_div(g, aff_term(g, 0, -1, 0), 4), ext, 5, &lo, &hi));
    assert_true(lo == -2 && hi == 0);
    assert_true(aff_range(aff_mod(g, aff_term(g, 1, 1, 0), 4), ext, 100, &lo, &hi));
    assert_true(lo == 0 && hi == 3);
    assert_true(aff_range(aff_term(g, 1, INT64_MAX, INT64_MAX), ext, 100, &lo, &hi) && hi == INT64_MAX);
    arena_free(&a);
}

static void simplified(const char *from, const char *to)
{
    Arena a = {0};
    static const char head[] = "tensor %0 input f32[4] \"x\" tensor %1 input f32[] \"y\" tensor %2 temp f32[4] \"z\""
                               "%2[a0] = ";
    Graph *g = graph_from(&a, arena_printf(&a, "%s%s {a0:4}", head, from));
    Text t = { .arena = &a };
    expr_print(g, g->comp[0]->body, &t);
    assert_string_equal(text_data(&t), to);
    arena_free(&a);
}

static void identities(void **state)
{
    simplified("%1 + 0", "%1");
    simplified("0 + %1", "%1");
    simplified("2 + %1", "%1 + 2");
    simplified("0 - %1", "-%1");
    simplified("%1 - -%0[a0]", "%1 + %0[a0]");
    simplified("-%1 + %0[a0]", "%0[a0] - %1");
    simplified("2*%1*3", "%1 * 6");
    simplified("%1*0", "0");
    simplified("%1*1", "%1");
    simplified("-1*%1", "-%1");
    simplified("(-%1)*(-%0[a0])", "%1 * %0[a0]");
    simplified("-(%1*3)", "%1 * -3");
    simplified("%1/4", "%1 * 0.25");
    simplified("%1/0", "%1 / 0");
    simplified("0/%1", "0");
    simplified("(-%1)/%0[a0]", "-(%1 / %0[a0])");
    simplified("%1^2", "%1 * %1");
    simplified("%1^1", "%1");
    simplified("%1^0", "1");
    simplified("--%1", "%1");
    simplified("exp(0) + sqrt(16)*2", "9");
    simplified("where(1, %1, 2)", "%1");
    simplified("where(%1 > 0, 3, 3)", "3");
    simplified("where(%1 > 0, %1, 0) * 2", "where(%1 > 0, %1 * 2, 0)");
    simplified("%1 * where(%1 > 0, %0[a0], 0)", "where(%1 > 0, %1 * %0[a0], 0)");
    simplified("-where(%1 > 0, %1, 0)", "where(%1 > 0, -%1, 0)");
    simplified("where(%1 > 0, %1, 0) / %0[a0]", "where(%1 > 0, %1 / %0[a0], 0)");
    simplified("where(not(%1 > 0), %1, 2)", "where(%1 > 0, 2, %1)");
    simplified("where(%1 > 0, where(%1 > 0, 5, 6), 7)", "where(%1 > 0, 5, 7)");
    simplified("where(%1 > 0, where([a0] > 1, 5, 0), 0)", "where(%1 > 0 and [a0] > 1, 5, 0)");
    simplified("where([a0] > 1, where(%1 > 0, 5, 0), 0)", "where([a0] > 1, where(%1 > 0, 5, 0), 0)");
    simplified("%1 > 0 and 1", "%1 > 0");
    simplified("(%1 > 0 and [a0] > 1) and %1 > 0", "%1 > 0 and [a0] > 1");
    simplified("%1 > 0 or 0", "%1 > 0");
    simplified("%1 and 1", "%1 and 1");                        /* 0 or 1, and %1 may be 2 */
    simplified("%1 or 0", "%1 or 0");
    simplified("not(not(%1))", "not(not(%1))");
    simplified("where(%1 > 0, 7, where(%1 > 0, 5, 6))", "where(%1 > 0, 7, 6)");
    simplified("where(%1, where([a0] > 1, 5, 0), 0)", "where(%1, where([a0] > 1, 5, 0), 0)");
    simplified("%1 / 9.99999999999997e-311", "%1 / 9.99999999999997e-311");                  /* its inverse is not finite */
    simplified("not(not(%1 > 0))", "%1 > 0");
    simplified("max(%1, %1)", "%1");
    simplified("[3 + 8 - a0 + a0]", "11");
}

/* Copies of constants and of i32 tensors move through index maps. */
static const Expr *copy_of(Graph *g, const Expr *load, void *ctx)
{
    const int *from = ctx;
    if (load->tensor == from[0])
        return expr_load(g, from[1], load->idx);
    if (load->tensor == from[2])
        return expr_index(g, aff_term(g, aff_plain(load->idx[0]), 2, 1));
    return load;
}

static void loads_are_mapped(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a,
        "tensor %0 input f32[9] \"x\" tensor %1 input i32[4] \"i\" tensor %2 input i32[4] \"j\""
        "tensor %3 temp f32[4] \"y\" tensor %4 temp f32[9] \"z\" %4[a0] = %0[a0] {a0:9}"
        "%3[a0] = %4[%1[a0] + (%2[a0] mod 3)] * exp(%4[%2[a0]*2]) + [%2[a0]] {a0:4}");
    int map[] = { 4, 0, 2 };
    const Expr *e = expr_map_loads(g, g->comp[1]->body, copy_of, map);
    Text t = { .arena = &a };
    expr_print(g, e, &t);
    assert_string_equal(text_data(&t), "%0[%1[a0] + (a0*2 + 1 mod 3)] * exp(%0[a0*4 + 2]) + [a0*2 + 1]");
    const Expr *load[9];
    assert_int_equal(comp_loads(g->comp[1], load, 9), 4);
    assert_int_equal(load[0]->tensor, 4);
    assert_int_equal(load[1]->tensor, 1);
    assert_int_equal(load[2]->tensor, 2);
    arena_free(&a);
}

/* ---- order */

static void sorting_and_dead_code(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a,
        "tensor %0 input f32[4] \"x\" tensor %1 temp f32[4] \"a\" tensor %2 temp f32[4] \"b\""
        "tensor %3 temp f32[4] \"c\" tensor %4 temp f32[4] \"dead\""
        "%3[a0 + 1] = %2[a0 + 1] {a0:3}  %4[a0] = %2[a0] {a0:4}  %2[a0] = %1[a0] {a0:4}"
        "%1[a0] = %0[a0] {a0:4}  %3[0] = %0[0]  output \"c\" = %3");
    Text why = { .arena = &a };
    assert_false(graph_verify(g, "nothing", &why));
    graph_toposort(g);
    verified(&a, g);
    static const int order[] = { 1, 2, 3, 3, 4 };
    for (int i = 0; i < 5; i++)
        assert_int_equal(g->comp[i]->out, order[i]);
    Graph *again = graph_from(&a, text_of(&a, g));
    graph_toposort(again);                                     /* sorted stays as it is */
    assert_string_equal(text_of(&a, again), text_of(&a, g));
    GraphIndex ix = graph_index(g, &a);
    assert_int_equal(ix.pieces[3].n, 2);
    assert_int_equal(ix.users[2].n, 2);
    assert_int_equal(ix.users[0].n, 2);
    assert_int_equal(graph_dce(g), 1);
    assert_int_equal(g->n_comp, 4);
    verified(&a, g);
    arena_free(&a);
}

static void boxes(void **state)
{
    Arena a = {0};
    Graph *g = graph_new(&a, NULL);
    const Ext ext[] = { 4, 3, EXT_BATCH, 1, 0 };
    const Affine *h = aff_add(g, aff_term(g, 0, 3, 6), aff_axis(g, 1)), *gap = aff_term(g, 0, 2, 0);
    Box b[2];
    assert_true(store_box((const Affine *[]){ h, aff_axis(g, 2) }, 2, ext, b));
    assert_true(b[0].lo == 6 && b[0].n == 12 && b[1].lo == 0 && b[1].n == EXT_BATCH);
    assert_false(store_box(&gap, 1, ext, b));
    assert_false(store_box((const Affine *[]){ aff_axis(g, 0), aff_axis(g, 0) }, 2, ext, b));
    assert_true(store_box((const Affine *[]){ aff_add(g, aff_term(g, 3, 7, 0), aff_axis(g, 1)) }, 1, ext, b));
    assert_false(store_box((const Affine *[]){ aff_add(g, aff_term(g, 2, 3, 0), aff_axis(g, 1)) }, 1, ext, b));
    assert_false(store_box((const Affine *[]){ aff_add(g, aff_axis(g, 2), aff_axis(g, 4)) }, 1, ext, b));
    assert_true(store_box((const Affine *[]){ aff_axis(g, 4) }, 1, ext, b));
    assert_int_equal(b[0].n, 0);
    arena_free(&a);
}

/* ---- verifier */

static void verifier_refuses(void **state)
{
#define T0 "tensor %0 input f32[4] \"x\" tensor %1 input i32[4] \"i\" tensor %2 temp f32[4] \"y\" "
#define TB T0 "tensor %3 input f32[B] \"b\" tensor %4 temp f32[B] \"z\" "
#define TS T0 "tensor %3 param f32[4] \"p\" tensor %4 param f32[] \"q\" "
    static const struct { const char *text, *message; } bad[] = {
        { T0 "%2[a0] = %2[a0] {a0:4}", "%2 is used before its definition: %2[a0] = %2[a0]  {a0:4}" },
        { T0 "%0[a0] = 1 {a0:4}", "an equation defines an input, a parameter or state" },
        { T0 "%2[a0] = %0[a1] {a0:4}", "the body uses an axis that the Comp does not have" },
        { T0 "%2[a0] = sum{}(%0[a0]) {a0:4}", "a reducer without reduced axes" },
        { T0 "%2[a0] = none{a1:4}(%0[a1]) {a0:4}", "reduced axes without a reducer" },
        { T0 "%2[a0] = argmax{a1:4}(%0[a1]) {a0:4}", "argmax into a tensor that is not i32" },
        { T0 "tensor %3 temp i32[] \"k\" %3 = argmax{a0:2, a1:2}(%0[a0 + a1])", "argmax over more than one axis" },
        { T0 "%2[a0] = sum{a0:4}(%0[a0])", "the store uses a reduced axis" },
        { T0 "%2[a1] = 1 {a0:4}", "the store uses an axis that the Comp does not have" },
        { T0 "%2[a0] = %0[a1] {a0:4, a1:4}", "a free axis is missing in the store" },
        { T0 "%2[a0*2] = 1 {a0:2}", "the store is not a dense box written once" },
        { T0 "%2[%1[a0]] = 1 {a0:4}", "the store is not a dense box written once" },
        { T0 "%2[(a0 div 1)] = 1 {a0:5}", "the store leaves the tensor's shape in dimension 0" },
        { T0 "%2[a0 - 1] = 1 {a0:4}", "the store leaves the tensor's shape in dimension 0" },
        { TB "%4[a0 + 1] = 1 {a0:B}", "the store leaves the tensor's shape in dimension 0" },
        { T0 "%2[a0] = 1 {a0:B}", "the store leaves the tensor's shape in dimension 0" },
        { T0 "%2[a0] = 1 {a0:3}", "the pieces of %2 do not cover it" },
        { T0 "%2[a0] = 1 {a0:3}  %2[a0 + 2] = 1 {a0:2}", "two pieces of %2 overlap" },
        { T0 "%2[%1[a0]] = scatter(1) {a0:4}  %2[a0] = 1 {a0:4}", "%2 has a scatter and another definition" },
        { T0 "%2[a0] = %0[a0 + 1] {a0:4}", "index out of range in %0[a0 + 1]: 1 to 4, the extent is 4" },
        { T0 "%2[a0] = %0[(-a0 div 2)] {a0:4}", "index out of range in %0[(-a0 div 2)]: -2 to 0, the extent is 4" },
        { T0 "%2[a0] = %0[%1[a0 + 1]] {a0:4}", "index out of range in %1[a0 + 1]: 1 to 4, the extent is 4" },
        { T0 "%2[%1[a0 + 1]] = scatter(1) {a0:4}", "index out of range in %1[a0 + 1]: 1 to 4, the extent is 4" },
        { T0 "%2[a0] = where(%0[a0 + 1] > 0, 1, 2) {a0:4}", "index out of range in %0[a0 + 1]" },
        { T0 "%2[a0] = %0[%0[a0]] {a0:4}", "an index is read from something that is neither an i32 nor a u8 tensor" },
        { T0 "%2[%0[a0]] = scatter(1) {a0:4}", "an index is read from something that is neither an i32 nor a u8 tensor" },
        { T0 "%2[a0] = %0[%1[%0[a0]]] {a0:4}", "an index is read from something that is neither an i32 nor a u8 tensor" },
        { T0 "tensor %3 temp bf16[4] \"h\" %3[%1[a0]] = scatter(1) {a0:4}", "a scatter into a bf16 tensor, which would round after every addition" },
        { "tensor %0 temp u8[4] \"x\"", "%0 is of u8 and no input" },
        { TB "%4[a0] = %0[a0] {a0:B}", "a batch axis indexes a dimension of extent 4 in %0[a0]" },
        { TB "%2[a0] = %3[a0] {a0:4}", "an index of the batch dimension in %3[a0] may be 3 for a batch of 1" },
        { TB "%4[a0] = %3[a0 + 1] {a0:B}", "an index of the batch dimension in %3[a0 + 1] may be 1 for a batch of 1" },
        { T0 "output \"y\" = %2", "output \"y\" is %2, which nothing defines" },
        { TS "update %3 = %2", "the update of %3 by %2, which nothing defines" },
        { TS "update %0 = %3", "an update of %0, which is not a parameter or state" },
        { TS "update %3 = %4", "an update of %3 by %4, whose shape is another" },
        { TS "update %3 = %1", "an update of %3 by %1, whose type is another" },
        { TS "update %3 = %3 update %3 = %0", "two updates of %3" },
    };
    static const char *const good[] = {
        linear, attention,
        T0 "%2[a0] = where([a0] < 3, %0[a0 + 1], 0) {a0:4}",
        T0 "%2[a0] = %0[%1[a0]] {a0:4}",
        T0 "%2[%1[a0]] = scatter(%0[a0]) {a0:4}",
        T0 "%2[a0] = 1 {a0:2}  %2[a0 + 2] = 1 {a0:2}",
        T0 "%2[a0] = %0[(a0 + 6 mod 4)] {a0:4}",
        TB "%4[a0] = %3[a0] + %3[0] + %0[(a0 mod 4)] {a0:B}",
        TB "%2[a0] = where([a0] < B, %3[a0], 0) {a0:4}",
        T0 "%2[a0] = 1 {a0:4}  %2[a0 + 2] = 1 {a0:0}",
        "tensor %0 temp f32[0] \"e\" tensor %1 temp f32[] \"s\" %0[a0] = 1 {a0:0} %1 = sum{a0:0}(%0[a0 + 7])",
    };
    Arena a = {0};
    for (int i = 0; i < (int)LEN(bad); i++) {
        Text why = { .arena = &a };
        if (graph_verify(graph_from(&a, bad[i].text), NULL, &why))
            fail_msg("accepted: %s", bad[i].text);
        if (strncmp(text_data(&why), bad[i].message, strlen(bad[i].message)))
            fail_msg("`%s`\n     gives %s\n     not   %s", bad[i].text, text_data(&why), bad[i].message);
    }
    for (int i = 0; i < (int)LEN(good); i++)
        verified(&a, graph_from(&a, good[i]));
    Text why = { .arena = &a };
    graph_verify(graph_from(&a, bad[0].text), "cse", &why);
    assert_non_null(strstr(text_data(&why), "after cse: %2 is used"));
    arena_free(&a);
}

/* ---- interpreter */

static void values_are(const char *text, int64_t batch, const double *x, const double *y, const char *out, int n,
                       const double *wanted)
{
    Arena a = {0};
    Graph *g = graph_from(&a, text);
    verified(&a, g);
    Env env = { NEWN(&a, double *, g->n_tensor), batch };
    env.value[0] = (double *)x;
    env.value[1] = (double *)y;
    for (int i = 2; i < g->n_tensor; i++)                      /* parameters: all the constant */
        for (int64_t k = tensor_count(g, i, batch) - 1; k >= 0 && g->tensor[i].kind == T_PARAM; k--) {
            env.value[i] = env.value[i] ? env.value[i] : NEWN(&a, double, tensor_count(g, i, batch));
            env.value[i][k] = g->tensor[i].init.a;
        }
    ran(&a, g, &env);
    int t = find_tensor(g, out);
    assert_int_equal(tensor_count(g, t, batch), n);
    for (int i = 0; i < n; i++)
        if (!(fabs(env.value[t][i] - wanted[i]) < 1e-12 || env.value[t][i] == wanted[i] ||
              (isnan(wanted[i]) && isnan(env.value[t][i]))))
            fail_msg("%s[%d] is %.17g, not %.17g", out, i, env.value[t][i], wanted[i]);
    arena_free(&a);
}

#define V(...) ((const double[]){ __VA_ARGS__ })
#define X1 "tensor %0 input f32[4] \"x\" tensor %1 input i32[4] \"i\" "
#define R(red) X1 "tensor %2 temp f32[] \"r\" %2 = " red "{a0:4}(%0[a0])"
#define E(red) X1 "tensor %2 temp f32[] \"r\" %2 = " red "{a0:0}(%0[a0])"

static void interpreter_values(void **state)
{
    const double x[] = { 1, -2, 3, 3 }, i[] = { 2, 0, 2, 1 }, low[] = { -INFINITY, -INFINITY, -INFINITY, -INFINITY };
    values_are(R("sum"), 1, x, i, "r", 1, V(5));
    values_are(R("max"), 1, x, i, "r", 1, V(3));
    values_are(R("min"), 1, x, i, "r", 1, V(-2));
    values_are(R("max"), 1, V(1, NAN, 5, 2), i, "r", 1, V(NAN));
    values_are(R("logsumexp"), 1, x, i, "r", 1, V(3 + log(2 + exp(-2) + exp(-5))));
    values_are(R("logsumexp"), 1, V(1000, 1000, 1000, 1000), i, "r", 1, V(1000 + log(4)));
    values_are(R("logsumexp"), 1, V(-INFINITY, 7, -INFINITY, -INFINITY), i, "r", 1, V(7));
    values_are(R("logsumexp"), 1, low, i, "r", 1, V(-INFINITY));
    values_are(E("sum"), 1, x, i, "r", 1, V(0));
    values_are(E("max"), 1, x, i, "r", 1, V(-INFINITY));
    values_are(E("min"), 1, x, i, "r", 1, V(INFINITY));
    values_are(E("logsumexp"), 1, x, i, "r", 1, V(-INFINITY));
    values_are(X1 "tensor %2 temp i32[] \"r\" %2 = argmax{a0:4}(%0[a0])", 1, x, i, "r", 1, V(2));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[a0] = %0[%1[a0]] {a0:4}", 1, x, i, "r", 4, V(3, 1, 3, -2));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[%1[a0]] = scatter(%0[a0]) {a0:4}", 1, x, i, "r", 4, V(-2, 3, 4, 0));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[%1[a0] - 1] = scatter(%0[a0]) {a0:4}", 1, x, i, "r", 4,
               V(3, 4, 0, 0));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[a0] = where([a0] >= 2, %0[a0 - 2], [a0*3 - 7]) {a0:4}", 1, x, i, "r",
               4, V(-7, -4, 1, -2));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[a0] = %0[(-a0 + 5 mod 4)] + [(a0 - 3 div 2)] {a0:4}", 1, x, i, "r", 4,
               V(-4, 0, 2, 3));
    values_are(X1 "tensor %2 temp f32[4] \"r\" %2[a0*2 + a1] = %0[a1*2 + a0]*%0[a0] {a0:2, a1:2}", 1, x, i, "r", 4,
               V(1, 3, 4, -6));
    values_are(linear, 2, V(1, 2, 3, -1, 0, 2), V(1, 0, 0, 0, 1, 1), "y", 4, V(1, 5, -1, 2));
}

static void interpreter_refuses(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a, X1 "tensor %2 temp f32[4] \"r\" %2[a0] = %0[%1[a0]] {a0:4}");
    double x[4] = { 1, 2, 3, 4 }, i[4] = { 0, 1, 9, 0 }, *value[3] = { x, i, NULL };
    Env env = { value, 1 };
    Text why = { .arena = &a };
    assert_false(interp_run(g, &env, &a, &why));
    assert_string_equal(text_data(&why), "the load %0[%1[a0]] is out of range in %2[a0] = %0[%1[a0]]  {a0:4}");
    value[1] = NULL;
    Text again = { .arena = &a };
    assert_false(interp_run(g, &env, &a, &again));
    assert_non_null(strstr(text_data(&again), "%1 has no value in %2[a0]"));
    Ext huge[] = { INT64_MAX / 2, 8 };
    int t = graph_tensor(g, "huge", 2, huge, T_TEMP, DT_F32);
    assert_true(tensor_count(g, t, 1) == INT64_MAX);
    arena_free(&a);
}

static void interpreter_batch(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a, attention);
    verified(&a, g);
    enum { B = 3 };
    double x[B * 4 * 6], at[B] = { 0, 4, 2 }, c[6];
    uint64_t rng = 1;
    for (int i = 0; i < (int)LEN(x); i++)
        x[i] = sample(&rng) - 0.5;
    for (int i = 0; i < 6; i++)
        c[i] = sample(&rng);
    Env env = { NEWN(&a, double *, g->n_tensor), B };
    env.value[0] = x;
    env.value[1] = at;
    env.value[2] = c;
    ran(&a, g, &env);
    int z = find_tensor(g, "z"), pooled = find_tensor(g, "pooled");
    for (int b = 0; b < B; b++)
        for (int d = 0; d < 6; d++) {
            double s[5], sum = 0, out = 0, *tokens = &env.value[3][b * 30];      /* the query at[b], by hand */
            int q = (int)at[b], h = d / 3;
            for (int k = 0; k <= q; k++) {
                s[k] = 0;
                for (int i = 0; i < 3; i++)
                    s[k] += tokens[q * 6 + h * 3 + i] * tokens[k * 6 + h * 3 + i];
                sum += exp(s[k]);
            }
            for (int k = 0; k <= q; k++)
                out += exp(s[k]) / sum * tokens[k * 6 + d];
            assert_true(fabs(env.value[pooled][b * 6 + d] - out) < 1e-12);
            int64_t axis[MAX_AXES] = { b, h, q, 0, d % 3 };
            const Comp *comp = NULL;
            for (int i = 0; i < g->n_comp; i++)
                if (g->comp[i]->out == z)
                    comp = g->comp[i];
            assert_true(interp_point(g, comp, axis, &env) == env.value[z][(b * 5 + q) * 6 + d]);
        }
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_is_kept),
        cmocka_unit_test(numbers_are_kept),
        cmocka_unit_test(bad_text_is_refused),
        cmocka_unit_test(any_text_is_survived),
        cmocka_unit_test(equal_is_the_same_pointer),
        cmocka_unit_test(div_and_mod_have_one_form),
        cmocka_unit_test(identities),
        cmocka_unit_test(loads_are_mapped),
        cmocka_unit_test(sorting_and_dead_code),
        cmocka_unit_test(boxes),
        cmocka_unit_test(verifier_refuses),
        cmocka_unit_test(interpreter_values),
        cmocka_unit_test(interpreter_refuses),
        cmocka_unit_test(interpreter_batch),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
