/* cc_wire.c -- pictures in 8 bits (pass/wire.c): what reads the f32 input gets the same numbers from a table; the map is
 * fused with its reader; the processor, which copies nothing, is not given such a thing. */
#include "graph_test.h"
#include "cpu/cpu.h"
#include "pass/kernel.h"

enum { BATCH = 2, PICTURE = 3 * 2 * 4 };

static const char *const reader =
    "tensor %0 input f32[B, 3, 2, 4] \"pixels\" tensor %1 temp f32[B, 3, 2, 4] \"y\"\n"
    "%1[a0, a1, a2, a3] = exp(%0[a0, a1, a2, a3]) * 2  {a0:B, a1:3, a2:2, a3:4} output \"y\" = %1";

static void gives(Env *env, const Graph *g, const char *name, TensorKind kind, const double *value)
{
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind == kind && !strcmp(g->tensor[t].name, name))
            memcpy(env->value[t], value, (size_t)tensor_count(g, t, BATCH) * sizeof *value);
}

static Env room(Arena *a, const Graph *g)
{
    Env env = { NEWN(a, double *, g->n_tensor), BATCH };
    for (int t = 0; t < g->n_tensor; t++)
        env.value[t] = NEWN(a, double, tensor_count(g, t, BATCH));
    return env;
}

static void same_numbers(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Graph *plain = graph_from(&a, reader), *wired = graph_from(&a, reader);
    double byte[BATCH * PICTURE], pixel[BATCH * PICTURE], table[3 * 256];
    uint64_t seed = 5;
    for (int i = 0; i < 3 * 256; i++)
        table[i] = sample(&seed) - 0.5;
    for (int i = 0; i < BATCH * PICTURE; i++) {
        byte[i] = i == 0 ? 0 : i == 1 ? 255 : floor(256 * sample(&seed));
        pixel[i] = table[i / 8 % 3 * 256 + (int)byte[i]];
    }
    assert_false(pass_wire(wired, "picture"));
    assert_true(pass_wire(wired, "pixels"));
    assert_false(pass_wire(wired, "pixels"));                  /* only the one in 8 bits has this name now */
    verified(&a, wired);
    Graph *again = graph_from(&a, text_of(&a, wired));         /* u8 prints and parses */
    assert_string_equal(text_of(&a, again), text_of(&a, wired));
    Env want = room(&a, plain), got = room(&a, wired);
    gives(&want, plain, "pixels", T_INPUT, pixel);
    gives(&got, wired, "pixels", T_INPUT, byte);
    gives(&got, wired, "pixels:table", T_INPUT, table);
    ran(&a, plain, &want);
    ran(&a, wired, &got);
    int y = find_tensor(plain, "y");
    assert_memory_equal(want.value[y], got.value[y], sizeof pixel);
    Fused f;
    if (!fuse(wired, NULL, &a, &f, &why))
        fail_msg("%s", text_data(&why));
    assert_int_equal(f.n_kernel, 1);                           /* its only reader takes it in */
    assert_int_equal(f.kernel[0].n_writes, 1);
    arena_free(&a);
}

static void only_inputs(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    assert_false(graph_verify(graph_from(&a, "tensor %0 input u8[B, 3] \"x\" tensor %1 temp u8[B, 3] \"y\"\n"
                                             "%1[a0, a1] = %0[a0, a1]  {a0:B, a1:3} output \"y\" = %1"), NULL, &why));
    assert_non_null(strstr(text_data(&why), "%1 is of u8 and no input"));
    arena_free(&a);
}

static void not_on_the_cpu(void **state)
{
    Arena a = { 0 };
    Text why = { .arena = &a };
    Graph *g = graph_from(&a, reader);
    Fused f;
    CpuLaunch launch[8];
    CpuTarget target = { .cpu = "native", .parts = 1 };
    CpuModule *m = cpu_module_new(&a, &target, &why);
    assert_true(pass_wire(g, "pixels") && fuse(g, NULL, &a, &f, &why));
    assert_int_equal(cpu_lower(m, &f, &f.kernel[0], launch, 8, &why), -1);
    assert_non_null(strstr(text_data(&why), "`pixels` is in 8 bits, which only GPUs read"));
    cpu_module_free(m);
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(same_numbers), cmocka_unit_test(only_inputs), cmocka_unit_test(not_on_the_cpu) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
