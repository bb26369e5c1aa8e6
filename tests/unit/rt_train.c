/* rt_train.c -- what a run writes beside its checkpoints: TensorBoard's records byte by byte, logs that are cut where a
 * resumed run begins; and what it asks of the system: a folder for itself, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "device/machine.h"
#include "train/events.h"
#include "train/report.h"

static char folder[] = "/tmp/rt_train_XXXXXX";

static char *in_folder(const char *name) { return tic_format("%s/%s", folder, name); }

static char *contents(const char *name, size_t *size)
{
    char *path = in_folder(name), *data;
    assert_int_equal(tic_read_file(path, 1 << 20, &data, size), TIC_OK);
    free(path);
    return data;
}

static void test_crc(void **state)       /* known answers: RFC 3720 B.4 and the catalogue's check value */
{
    char zeros[32] = { 0 }, ones[32];
    memset(ones, 0xff, sizeof ones);
    assert_int_equal(tic_crc32c("123456789", 9), 0xE3069283);
    assert_int_equal(tic_crc32c(zeros, 32), 0x8A9136AA);
    assert_int_equal(tic_crc32c(ones, 32), 0x62A8AB43);
}

/* The records of the file: how many, and the steps that they hold as one byte after the tag of field 2. */
static int records(const char *data, size_t size, int *step)
{
    int n = 0;
    for (size_t at = 0; at < size; n++) {
        uint64_t length;
        assert_true(size - at >= 16);
        memcpy(&length, data + at, 8);       /* the tests run on little-endian machines */
        assert_true(length <= size - at - 16);
        const uint8_t *body = (const uint8_t *)data + at + 12;
        assert_int_equal(body[0], 1 << 3 | 1);       /* wall_time, a double */
        step[n] = body[9] == (2 << 3 | 0) ? body[10] : -1;
        at += 16 + length;
    }
    return n;
}

static void put(TicEvents *e, int64_t step)
{
    const TicScalar s[] = { { "train/loss", 2.5 }, { "train/lr", 1e-3 } };
    assert_int_equal(tic_events_put(e, step, 1.3e9, s, 2), TIC_OK);
}

static void test_events(void **state)
{
    TicEvents *e;
    int step[16];
    size_t size, whole;
    char *tb = in_folder("tb"), *file = in_folder("tb/events.out.tfevents.ticc");
    assert_int_equal(tic_events_open(tb, 0, &e), TIC_OK);
    put(e, 1);
    put(e, 5);
    put(e, 10);
    tic_events_close(e);
    char *data = contents("tb/events.out.tfevents.ticc", &size);
    assert_int_equal(records(data, size, step), 4);
    assert_memory_equal(data + 12 + 9, "\x1a\x0d" "brain.Event:2", 15);
    assert_true(step[1] == 1 && step[2] == 5 && step[3] == 10);
    /* Summary { value { tag: "train/loss" simple_value: 2.5 } ... }, by hand from the two .proto files */
    static const char summary[] = "\x2a\x24\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x20\x40\x0a\x0f\x0a\x08train/lr\x15";
    assert_memory_equal(data + 12 + 24 + 4 + 12 + 11, summary, sizeof summary - 1);
    whole = size;

    /* resumed after step 5: the record of step 10 goes and comes again */
    assert_int_equal(tic_events_open(tb, 5, &e), TIC_OK);
    tic_events_close(e);
    free(data);
    data = contents("tb/events.out.tfevents.ticc", &size);
    assert_int_equal(records(data, size, step), 3);
    free(data);
    assert_int_equal(tic_events_open(tb, 5, &e), TIC_OK);
    put(e, 10);
    tic_events_close(e);
    data = contents("tb/events.out.tfevents.ticc", &size);
    assert_int_equal(size, whole);

    /* torn anywhere: the whole records before it stay */
    for (size_t cut = 0; cut < whole; cut++) {
        assert_int_equal(tic_write_file(file, data, cut), TIC_OK);
        assert_int_equal(tic_events_open(tb, 1000, &e), TIC_OK);
        put(e, 11);
        tic_events_close(e);
        size_t now;
        char *after = contents("tb/events.out.tfevents.ticc", &now);
        int n = records(after, now, step);
        assert_true(n >= 2 && n <= 4 && step[0] == -1 && step[n - 1] == 11);
        free(after);
    }
    free(data);
    free(tb);
    free(file);
}

static void steps(const char *dir, int64_t from, int64_t to)
{
    TicReport *r;
    TicReportOptions o = { .dir = dir, .from_step = from, .batch = 8, .log_every = 2 };
    assert_int_equal(tic_report_open(&o, &r), TIC_OK);
    if (!from)
        tic_report_say(r, "head");
    for (int64_t s = from + 1; s <= to; s++) {
        TicProgress p = { .step = s, .total = 10, .loss = 3 - 0.1 * (double)s, .lr = 1e-3, .logit_scale = 14, .seconds = 0.5, .waited = 0.1 };
        assert_int_equal(tic_report_step(r, &p), TIC_OK);
    }
    tic_report_say(r, "end of a process");
    assert_int_equal(tic_report_sync(r), TIC_OK);
    tic_report_close(r);
}

/* The file without the stamps of out.log, and without what says how often it was written. */
static char *timeless(const char *name)
{
    size_t size, n = 0;
    char *data = contents(name, &size);
    for (char *line = data, *end; (end = strchr(line, '\n')); line = end + 1) {
        char *bar = strstr(line, "| INFO |"), *from = bar && bar < end ? bar : line;
        memmove(data + n, from, (size_t)(end + 1 - from));
        n += (size_t)(end + 1 - from);
    }
    data[n] = 0;
    return data;
}

static void test_resumed_logs(void **state)
{
    char *whole = in_folder("whole"), *parts = in_folder("parts");
    fflush(stdout);
    int out = dup(STDOUT_FILENO);        /* progress lines are no TAP */
    assert_non_null(freopen("/dev/null", "w", stdout));
    steps(whole, 0, 10);
    steps(parts, 0, 7);                  /* killed after 7, the last checkpoint is of step 3 */
    steps(parts, 3, 9);
    steps(parts, 4, 10);
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    for (int i = 0; i < 2; i++) {
        char *a = timeless(i ? "whole/out.log" : "whole/metrics.jsonl"), *b = timeless(i ? "parts/out.log" : "parts/metrics.jsonl");
        assert_non_null(strstr(a, i ? "[80/80 (100%)]" : "\"step\": 10,"));
        if (i) {
            assert_non_null(strstr(a, "Loss: 2.0000 (2.4833)"));     /* the mean of the six logged losses */
            assert_non_null(strstr(a, "INFO | head\n"));
        }
        assert_string_equal(a, b);
        free(a);
        free(b);
    }
    free(whole);
    free(parts);
}

/* The time that is left, as the line of a step says it: of the first of two steps it is what that one took. */
static void test_time_left(void **state)
{
    static const struct { double seconds; const char *left; } cases[] = {
        { 0.4, "left 0s\n" }, { 0.5, "left 1s\n" }, { 59.4, "left 59s\n" }, { 59.6, "left 1m00s\n" }, { 125, "left 2m05s\n" },
        { 3599.4, "left 59m59s\n" }, { 3599.6, "left 1h00m\n" }, { 3725, "left 1h02m\n" }, { 360000 + 59 * 60, "left 100h59m\n" },
    };
    char *dir = in_folder("left"), *shown = in_folder("shown");
    fflush(stdout);
    int out = dup(STDOUT_FILENO);
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        TicReport *r;
        TicReportOptions o = { .dir = dir, .batch = 8, .log_every = 1 };
        TicProgress p = { .step = 1, .total = 2, .loss = 2, .lr = 1e-3, .logit_scale = 14, .seconds = cases[i].seconds };
        assert_non_null(freopen(shown, "w", stdout));
        assert_int_equal(tic_report_open(&o, &r), TIC_OK);
        assert_int_equal(tic_report_step(r, &p), TIC_OK);
        tic_report_close(r);
        fflush(stdout);
        dup2(out, STDOUT_FILENO);
        size_t size;
        char *line = contents("shown", &size);
        if (!strstr(line, cases[i].left))
            fail_msg("%g seconds: found `%s`, wanted `%s`", cases[i].seconds, line, cases[i].left);
        free(line);
    }
    close(out);
    free(dir);
    free(shown);
}

static void test_lock(void **state)
{
    int mine, status, to[2], from[2];
    char byte;
    assert_int_equal(pipe(to) | pipe(from), 0);
    pid_t child = fork();
    if (child == 0) {
        int its;
        bool got = tic_lock_folder(folder, &its) == TIC_OK;
        _exit(write(to[1], "x", 1) == 1 && read(from[0], &byte, 1) == 1 && got ? 0 : 1);
    }
    assert_int_equal(read(to[0], &byte, 1), 1);
    char *number = tic_format("process %ld ", (long)child);
    assert_int_equal(tic_lock_folder(folder, &mine), TIC_USER);
    assert_int_equal(mine, -1);
    assert_non_null(strstr(tic_error(), number));
    tic_error_clear();
    free(number);
    assert_int_equal(write(from[1], "x", 1), 1);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(tic_lock_folder(folder, &mine), TIC_OK);    /* the lock went with its owner */
    tic_unlock_folder(mine);
    tic_unlock_folder(-1);
}

static void test_memory(void **state)
{
    int64_t free_now = tic_memory_available(), before = tic_memory_peak();
    assert_true(free_now > 1 << 20);
    enum { MORE = 64 << 20 };
    char *p = malloc(MORE);
    assert_non_null(p);
    memset(p, 1, MORE);
    assert_true(p[MORE / 2] == 1 && tic_memory_peak() >= before + MORE / 2);
    free(p);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (!mkdtemp(folder))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc), cmocka_unit_test(test_events), cmocka_unit_test(test_resumed_logs), cmocka_unit_test(test_lock),
        cmocka_unit_test(test_memory), cmocka_unit_test(test_time_left),
    };
    int failed = cmocka_run_group_tests_name("train", tests, NULL, NULL);
    char *remove = tic_format("rm -rf %s", folder);
    if (system(remove))
        failed++;
    free(remove);
    return failed;
}
