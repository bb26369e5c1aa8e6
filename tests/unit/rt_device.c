/* rt_device.c -- the thread pool runs every task once; the arena planner never lets two live blocks meet. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include "device/arena.h"
#include "device/exec.h"
#include "device/pool.h"

static void count_task(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
    int64_t *note = (int64_t *)((char *)scratch + TIC_NOTE), launch = *(int64_t *)buf[1];
    ((int *)buf[0])[task] += *note == -1 || *note == launch ? 1 : 100;       /* of an earlier launch: must be gone */
    ((char *)scratch)[task % TIC_NOTE] = 1;
    *note = launch;
}

static void test_pool(void **state)
{
    for (int threads = 1; threads <= 4; threads++) {
        TicPool *p = tic_pool_new(threads);
        assert_int_equal(tic_pool_threads(p), threads);
        for (int64_t round = 0; round < 3000; round++) {
            int64_t n = round % 70;
            int *hits = tic_alloc(70 * sizeof *hits);
            void *buf[] = { hits, &round };
            tic_pool_run(p, count_task, buf, 1, n);
            for (int i = 0; i < 70; i++)
                assert_int_equal(hits[i], i < n);
            free(hits);
        }
        tic_pool_free(p);
    }
}

static void test_arena(void **state)
{
    enum { N = 300 };
    TicBlock b[N];
    for (int seed = 0; seed < 20; seed++) {
        int64_t most = 0, live;
        for (int i = 0; i < N; i++) {
            TicRandom4 r = tic_philox((uint64_t)seed, (uint64_t)i, 0);
            int first = (int)(r.v[0] % 200);
            b[i] = (TicBlock){ r.v[2] % 10 ? (int64_t)(r.v[1] % 100000) : 0, first, first + (int)(r.v[3] % 50), -1 };
        }
        int64_t total = tic_arena_plan(b, N);
        for (int i = 0; i < N; i++) {
            assert_true(b[i].offset >= 0 && b[i].offset % 64 == 0 && b[i].offset + b[i].bytes <= total);
            for (int j = 0; j < i; j++)
                if (b[i].bytes && b[j].bytes && b[i].first <= b[j].last && b[j].first <= b[i].last)
                    assert_true(b[i].offset + b[i].bytes <= b[j].offset || b[j].offset + b[j].bytes <= b[i].offset);
        }
        for (int t = 0; t < 250; t++) {
            live = 0;
            for (int i = 0; i < N; i++)
                live += b[i].first <= t && t <= b[i].last ? b[i].bytes : 0;
            most = live > most ? live : most;
        }
        assert_true(total >= most && (double)total < 1.25 * (double)most);
    }
    TicBlock huge[2] = { { INT64_MAX - 10, 0, 1, 0 }, { 100, 0, 1, 0 } };
    assert_int_equal(tic_arena_plan(huge, 2), -1);
}

static void test_sizes(void **state)      /* by batch; what is beyond 64 bits must not look like a little */
{
    assert_int_equal(tic_poly((TicPoly){ { 5, 3, 2 } }, 10), 235);
    assert_true(tic_poly((TicPoly){ { 0, INT64_C(1) << 42, 0 } }, 1 << 24) == INT64_MAX);
    assert_true(tic_poly((TicPoly){ { 0, 0, INT64_C(1) << 20 } }, 1 << 24) == INT64_MAX);
    assert_true(tic_poly((TicPoly){ { INT64_MAX, 1, 0 } }, 1) == INT64_MAX);
}

static void test_philox(void **state)     /* known answers of the authors' Random123 package */
{
    TicRandom4 r = tic_philox(0, 0, 0);
    assert_int_equal(r.v[0], 0x6627e8d5);
    assert_int_equal(r.v[1], 0xe169c58d);
    assert_int_equal(r.v[2], 0xbc57ac4c);
    assert_int_equal(r.v[3], 0x9b00dbd8);
    r = tic_philox(UINT64_MAX, UINT64_MAX, UINT64_MAX);
    assert_int_equal(r.v[0], 0x408f276d);
    assert_int_equal(r.v[1], 0x41c83b0e);
    assert_int_equal(r.v[2], 0xa20bc7c6);
    assert_int_equal(r.v[3], 0x6d5451fd);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_pool), cmocka_unit_test(test_arena), cmocka_unit_test(test_sizes),
                                         cmocka_unit_test(test_philox) };
    return cmocka_run_group_tests_name("device", tests, NULL, NULL);
}
