/* rt_bench.c -- what `bench` says of its steps: the share of the peak is that of the very step whose time is printed. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "train/bench.c"       /* its clock and its samples are its own */

static void close_to(double is, double want) { assert_true(fabs(is - want) <= 1e-9 * fabs(want)); }

/* Steps of FLOPS each: seconds, of which `beside` went into samples of the peak that found `peak`. */
enum { FLOPS = 1200 };
typedef struct { double seconds, beside, peak; } Step;

static Measured measured(const Step *step, int n)
{
    Times times = times_new(n);
    Beside b = { 0 };
    Measured m = { .flops = FLOPS };
    for (int i = 0; i < n; i++) {
        b.last = 1;
        b.seconds = step[i].beside;
        b.flops = step[i].peak * step[i].beside;
        b.best = fmax(b.best, step[i].peak);
        times_add(&times, step[i].seconds, &b);
        assert_true(b.last == 0 && b.seconds == 0 && b.flops == 0);          /* the next step has samples of its own */
    }
    times_end(&times, &b, &m);
    times_free(&times);
    return m;
}

static void test_share(void **state)
{
    static const Step three[] = { { 9, 1, 200 }, { 3.5, 0.5, 800 }, { 6.25, 0.25, 400 } };
    Measured m = measured(three, 3);
    close_to(m.median, 6);                     /* without its samples */
    close_to(m.peak, 400);
    close_to(m.share, FLOPS / 6.0 / 400);
    close_to(m.best, 800);
    static const Step two[] = { { 8, 0, 0 }, { 5, 1, 600 } };      /* of an even number the lower one */
    m = measured(two, 2);
    close_to(m.median, 4);
    close_to(m.share, 0.5);
    m = measured(two, 1);                      /* too short for a sample: no peak, no share */
    close_to(m.median, 8);
    assert_true(m.peak == 0 && m.share == 0);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_share) };
    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
