/* cc_tuned.c -- the table of what was measured: lines and what is wrong with them, which line serves a kernel, what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>
#include "cuda/tuned.h"

static Arena arena;

static Tuned *read(const char *text)
{
    Text why = {.arena = &arena};
    Tuned *t = NEW(&arena, Tuned);
    t->arena = &arena;
    if (!tuned_read(t, "t", text, &why))
        fail_msg("%s", text_data(&why));
    return t;
}

static void refused(void **state)
{
#define LINE "sm_90a contract bf16 bf16 kk ~100 64 32 1 bf16 plain -> "
    static const char *const bad[][2] = {
        {"sm_9 contract\n", "t:1: found `sm_9`, wanted an architecture such as sm_80 or sm_90a"},
        {"# one\n\nsm_90a product\n", "t:3: found `product`, wanted `contract`, `attention` or `attention_bwd`"},
        {"sm_90a contract f16 bf16\n", "t:1: found `f16`, wanted `f32` or `bf16`"},
        {"sm_90a contract bf16 bf16 kn\n", "t:1: found `kn`, wanted two letters of k, m and -"},
        {"sm_90a contract bf16 bf16 kk 0\n", "t:1: found `0`, wanted an extent: a number, or ~ and one"},
        {"sm_90a contract bf16 bf16 kk 12x\n", "t:1: found `12x`, wanted an extent"},
        {"sm_90a contract bf16 bf16 kk 99999999999\n", "t:1: found `99999999999`, wanted an extent"},
        {"sm_90a contract bf16 bf16 kk 1 1 1 1 bf16 none\n", "t:1: found `none`, wanted `plain`, `columns` or `points`"},
        {LINE "gemm_wgmma 128x512\n", "t:1: found `gemm_wgmma`, wanted a template for these operands on sm_90a: `gemm_wgmma 128x256`"},
        {LINE "gemm_f32 128x128\n", "t:1: found `gemm_f32`, wanted a template for these operands"},
        {"sm_80 contract bf16 bf16 kk ~100 64 32 1 bf16 plain -> gemm_wgmma 128x128\n", "on sm_80: `gemm_mma 128x128` `gemm_mma 64x64`"},
        {LINE "gemm_mma 64x64 splits 2\n", "t:1: found `2`, wanted 1, as the result grows with the batch"},
        {LINE "gemm_mma 64x64 split 1\n", "t:1: found `split`, wanted `splits`"},
        {LINE "gemm_mma 64x64 splits 1 more\n", "t:1: found `more`, wanted the end of the line"},
        {"sm_90a contract bf16 bf16 kk ~100 64 32 1 bf16 plain\n", "t:1: found the end of the line, wanted `->`"},
        {"sm_90a contract bf16 bf16 mm 64 64 ~100 1 f32 plain -> gemm_wgmma 128x128 splits 65\n", "t:1: found `65`, wanted 1 to 64"},
        {"sm_90a contract bf16 bf16 mm 64 64 ~100 1 f32 plain -> gemm_wgmma 128x128 shares 1\n", "t:1: found `1`, wanted 2 to 1024"},
        {"sm_90a contract bf16 bf16 mm 64 64 ~100 1 f32 plain -> gemm_wgmma 128x128 parts 2\n", "t:1: found `parts`, wanted `splits` or `shares`"},
        {"sm_90a contract bf16 bf16 mm 64 64 ~100 1 f32 plain -> gemm_mma 64x64 shares 2\n", "t:1: found `shares`, wanted `splits`"},
        {LINE "gemm_wgmma 128x128 shares 132\n", "t:1: found `shares`, wanted `splits`"},
        {"sm_90a attention 20 20 8 8 ~19 -> 4 warps 3 blocks\n", "t:1: found `~19`, wanted an extent: a number"},
        {"sm_90a attention 20 20 8 8 19 -> 40 warps 3 blocks\n", "t:1: found `40`, wanted 1 to 32 warps"},
        {"sm_90a attention 20 20 8 8 19 -> 4 warps 3 blocks wide\n", "t:1: found `wide`, wanted `wgmma`"},
        {"sm_90a attention 20 20 8 8 19 -> 6 warps 3 blocks wgmma\n", "t:1: found `6`, wanted whole warpgroups"},
        {"sm_80 attention 20 20 8 8 19 -> 4 warps 3 blocks wgmma\n", "t:1: found `wgmma`, wanted the end of the line"},
        {"sm_90a attention 20 20 8 8 19 -> 4 warps 3\n", "t:1: found the end of the line, wanted `blocks`"},
        {LINE "gemm_mma 64x64\n\n" LINE "gemm_mma 128x128\n", "t:3: this kernel has a line already, line 1"},
    };
    for (size_t i = 0; i < LEN(bad); i++) {
        Text why = {.arena = &arena};
        Tuned t = {.arena = &arena};
        if (tuned_read(&t, "t", bad[i][0], &why))
            fail_msg("not refused: %s", bad[i][0]);
        if (!strstr(text_data(&why), bad[i][1]))
            fail_msg("%s: no `%s` in: %s", bad[i][0], bad[i][1], text_data(&why));
    }
}

static const TunedKey forward = {.arch = "sm_90a", .kind = TUNED_CONTRACT, .a_bf16 = true, .b_bf16 = true, .result_bf16 = true, .form = "kk",
                                 .extent = {1000, 64, 32, 1}, .of_batch = 1};

static int tile(const Tuned *t, const TunedKey *key)
{
    const TunedChoice *c = tuned_find(t, key);
    return c ? c->t->tile_n : 0;
}

static void nearest(void **state)
{
    Tuned *t = read("sm_90a contract bf16 bf16 kk  ~100 64 32 1 bf16 plain  -> gemm_mma 64x64\n"
                    "sm_90a contract bf16 bf16 kk ~1600 64 32 1 bf16 plain  -> gemm_wgmma 128x128\n"
                    "sm_90a contract bf16 bf16 kk ~1600 64 32 1 bf16 points -> gemm_wgmma 128x256\n"
                    "sm_90a contract bf16 bf16 kk  1000 64 32 1 bf16 plain  -> gemm_wgmma 128x256\n");
    static const struct { int64_t rows; int wanted; } rows[] = {{1000, 128}, {401, 128}, {399, 64}, {7, 64}, {6, 0}, {25600, 128}, {25601, 0}};
    TunedKey key = forward;
    for (size_t i = 0; i < LEN(rows); i++) {
        key.extent[0] = rows[i].rows;
        if (tile(t, &key) != rows[i].wanted)
            fail_msg("%lld rows: tiles of %d columns, wanted %d", (long long)rows[i].rows, tile(t, &key), rows[i].wanted);
    }
    key = forward;
    key.finish = FINISH_COLUMNS;         /* takes what was measured without work behind it */
    assert_int_equal(tile(t, &key), 128);
    key.finish = FINISH_POINTS;
    assert_int_equal(tile(t, &key), 256);
    key.extent[0] = 64;
    assert_int_equal(tile(t, &key), 0);  /* and points never do */
    key = forward;
    key.of_batch = 0;
    assert_int_equal(tile(t, &key), 256);
    key.extent[0] = 1001;                /* what does not grow with the batch is compared as it is */
    assert_int_equal(tile(t, &key), 0);
    TunedKey other[] = {forward, forward, forward, forward};
    other[0].arch = "sm_80";
    other[1].b_bf16 = false;
    other[2].form[1] = 'm';
    other[3].result_bf16 = false;
    for (size_t i = 0; i < LEN(other); i++)
        assert_int_equal(tile(t, &other[i]), 0);
    Tuned *first = read("sm_90a contract bf16 bf16 kk ~1000 64 32 1 bf16 plain -> gemm_mma 128x128\n");
    first->next = t;
    assert_string_equal(tuned_find(first, &forward)->t->name, "gemm_mma");
    other[0] = forward;
    other[0].extent[0] = 20;             /* too far for the first table */
    assert_int_equal(tile(first, &other[0]), 64);
}

static void kept(void **state)
{
    Text out = {.arena = &arena}, again = {.arena = &arena};
    Tuned *t = read("# head\n#   and more\n\n# of this line\nsm_90a contract bf16 bf16 mm 64 64 ~900 1 f32 plain -> gemm_mma 64x64 splits 3 # 1 ms\n"
                    "sm_80  attention 20 20 8 8 19 -> 2 warps 3 blocks\nsm_90a attention 20 20 8 8 19 -> 8 warps 2 blocks wgmma\n\n"
                    "sm_90a contract bf16 bf16 kk ~1000 64 32 1 bf16 plain -> gemm_mma 64x64 # 2 ms\n# end\n");
    tuned_put(t, &forward, &(TunedChoice){.t = &cuda_gemm[0], .splits = 1});
    TunedKey gradient = t->line.at[0].key;
    gradient.extent[0] = 32;
    tuned_put(t, &gradient, &(TunedChoice){.t = &cuda_gemm[0], .shares = 132});
    TunedKey far = forward;
    far.extent[0] = 500;
    tuned_put(t, &far, &(TunedChoice){.t = &cuda_gemm[1]});
    tuned_sort(t);
    tuned_print(t, &out);
    assert_string_equal(text_data(&out),
                        "# head\n#   and more\n\nsm_80  attention 20 20 8 8 19 -> 2 warps 3 blocks\n"
                        "sm_90a contract bf16 bf16 kk    ~500      64      32 1 bf16 plain   -> gemm_wgmma 128x128\n"
                        "sm_90a contract bf16 bf16 kk   ~1000      64      32 1 bf16 plain   -> gemm_wgmma 128x256 splits 1\n"
                        "sm_90a contract bf16 bf16 mm      32      64    ~900 1 f32  plain   -> gemm_wgmma 128x256 shares 132\n"
                        "# of this line\n"
                        "sm_90a contract bf16 bf16 mm      64      64    ~900 1 f32  plain   -> gemm_mma 64x64 splits 3   # 1 ms\n"
                        "sm_90a attention 20 20 8 8 19 -> 8 warps 2 blocks wgmma\n# end\n");
    tuned_print(read(text_data(&out)), &again);
    assert_string_equal(text_data(&out), text_data(&again));
}

static void compiled_in(void **state)
{
    Text out = {.arena = &arena};
    Tuned *t = read(cuda_tuned);
    assert_true(t->line.n > 0);
    tuned_sort(t);
    tuned_print(t, &out);
    assert_string_equal(text_data(&out), cuda_tuned);        /* it is in the form that --tune writes */
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(refused), cmocka_unit_test(nearest), cmocka_unit_test(kept), cmocka_unit_test(compiled_in)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    arena_free(&arena);
    return failed;
}
