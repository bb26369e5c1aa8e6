/* rt_synth.c -- `ticdata synth` from the outside: the built program (environment variable TICDATA, else
 * build/release/ticdata) writes into temporary folders, and its trees are looked at file by file. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base.h"

static char room[64];        /* this test's temporary folder */

static const char *program(void)
{
    const char *p = getenv("TICDATA");
    return p && *p ? p : "build/release/ticdata";
}

/* Runs `before; ticdata ARGUMENTS` in a shell. Both outputs go to `said`; returns the exit code, -1 on a signal. */
static int run_after(const char *before, const char *arguments, char *said, size_t size)
{
    char *command = tic_format("%s exec '%s' %s 2>&1", before, program(), arguments);
    FILE *f = popen(command, "r");
    assert_non_null(f);
    size_t n = fread(said, 1, size - 1, f);
    said[n] = 0;
    while (fgetc(f) != EOF)
        continue;
    int status = pclose(f);
    free(command);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int run(char *said, size_t size, const char *format, ...)
{
    char arguments[512];
    va_list v;
    va_start(v, format);
    vsnprintf(arguments, sizeof arguments, format, v);
    va_end(v);
    return run_after("", arguments, said, size);
}

static char *slurp(size_t *size, const char *format, ...)
{
    char path[512], *data;
    va_list v;
    va_start(v, format);
    vsnprintf(path, sizeof path, format, v);
    va_end(v);
    if (tic_read_file(path, 1u << 30, &data, size))
        fail_msg("%s", tic_error());
    return data;
}

static void assert_text(const char *want, const char *folder, const char *name)
{
    size_t n;
    char *have = slurp(&n, "%s/%s/%s", room, folder, name);
    assert_string_equal(have, want);
    free(have);
}

/* ---- whole trees: the sum over files of a hash of name and content does not depend on the order ---- */

static uint64_t tree_sum;
static int tree_files;
static size_t tree_root;

static int add_file(const char *path, const struct stat *st, int type, struct FTW *at)
{
    if (type != FTW_F)
        return 0;
    size_t n;
    char *data = slurp(&n, "%s", path);
    tree_sum += tic_hash(data, n, tic_hash(path + tree_root, strlen(path + tree_root), 1));
    tree_files++;
    free(data);
    return 0;
}

static uint64_t tree_hash(const char *name, int *files)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", room, name);
    tree_sum = 0;
    tree_files = 0;
    tree_root = strlen(path);
    assert_int_equal(nftw(path, add_file, 16, FTW_PHYS), 0);
    if (files)
        *files = tree_files;
    return tree_sum;
}

/* ---- tar ----------------------------------------------------------------------------------------- */

typedef struct {
    char *data;
    size_t size, at;
    char name[101];
    const char *body;
    size_t body_size;
} Tar;

static Tar tar_open(const char *folder, const char *name)
{
    Tar t = { 0 };
    t.data = slurp(&t.size, "%s/%s/%s", room, folder, name);
    assert_int_equal(t.size % 512, 0);
    return t;
}

/* The next member; its header is checked on the way. */
static bool tar_next(Tar *t)
{
    assert_true(t->at + 512 <= t->size);
    const char *h = t->data + t->at;
    if (!h[0])
        return false;
    memcpy(t->name, h, 100);
    assert_memory_equal(h + 257, "ustar\0" "00", 8);
    assert_string_equal(h + 100, "0000444");
    assert_string_equal(h + 265, "bigdata");
    assert_int_equal(strtoull(h + 136, NULL, 8), 1388534400);
    unsigned sum = 0;
    for (int i = 0; i < 512; i++)
        sum += i >= 148 && i < 156 ? ' ' : (unsigned char)h[i];
    assert_int_equal(strtoul(h + 148, NULL, 8), sum);
    t->body = h + 512;
    t->body_size = strtoull(h + 124, NULL, 8);
    t->at += 512 + (t->body_size + 511) / 512 * 512;
    assert_true(t->at <= t->size);
    return true;
}

/* ---- tests --------------------------------------------------------------------------------------- */

static char said[4096];

static void test_same_seed_same_bytes(void **state)
{
    const char *few = "--samples-per-year 30 --eval-samples 12 --years 2015..2016";
    int files_a, files_b;
    assert_int_equal(run(said, sizeof said, "synth --out %s/a %s --seed 5", room, few), 0);
    assert_int_equal(run(said, sizeof said, "synth --out %s/b %s --seed 5", room, few), 0);
    assert_int_equal(run(said, sizeof said, "synth --out %s/c %s --seed 6", room, few), 0);
    uint64_t a = tree_hash("a", &files_a);
    assert_true(a == tree_hash("b", &files_b));
    assert_int_equal(files_a, files_b);
    assert_int_equal(files_a, 2 * (5 + 8 + 10));
    assert_true(a != tree_hash("c", NULL));
    /* A year does not depend on which others are asked for. */
    assert_int_equal(run(said, sizeof said, "synth --out %s/d --samples-per-year 30 --eval-samples 12 --years 2016 "
                         "--seed=5", room), 0);
    assert_true(tree_hash("a/train/2016", NULL) == tree_hash("d/train/2016", NULL));
    assert_true(tree_hash("a/eval/retrieval/2016", NULL) == tree_hash("d/eval/retrieval/2016", NULL));
}

static void test_training_layout(void **state)
{
    assert_int_equal(run(said, sizeof said, "synth --out %s/t --samples-per-year 25 --shard-size 10 --eval-samples 0 "
                         "--years 2018", room), 0);
    assert_non_null(strstr(said, "1 year, 25 training pairs, 0 retrieval pairs, 0 labelled pictures; 3 shards"));
    assert_text("{\"00000000.tar\": 10, \"00000001.tar\": 10, \"00000002.tar\": 5}", "t/train/2018", "sizes.json");
    assert_text("{\"successes\": 10}", "t/train/2018", "00000001_stats.json");
    assert_text("{\"successes\": 5}", "t/train/2018", "00000002_stats.json");
    Tar t = tar_open("t/train/2018", "00000002.tar");
    for (int i = 0; i < 5; i++) {
        char key[32], *found;
        snprintf(key, sizeof key, "%08d%04d", 2, i);
        for (int k = 0; k < 3; k++) {      /* jpg json txt, or json png txt */
            assert_true(tar_next(&t));
            assert_memory_equal(t.name, key, 12);
            static const char *const allowed[3][2] = { { ".jpg", ".json" }, { ".json", ".png" }, { ".txt", ".txt" } };
            assert_true(!strcmp(t.name + 12, allowed[k][0]) || !strcmp(t.name + 12, allowed[k][1]));
            if (!strcmp(t.name + 12, ".jpg"))
                assert_memory_equal(t.body, "\xff\xd8\xff", 3);
            if (!strcmp(t.name + 12, ".png"))
                assert_memory_equal(t.body, "\x89PNG", 4);
            if (strcmp(t.name + 12, ".json"))
                continue;
            char *json = tic_alloc(t.body_size + 1);
            memcpy(json, t.body, t.body_size);
            assert_non_null(strstr(json, "\"status\": \"success\""));
            assert_non_null(strstr(json, "\"month\": \"2018"));
            assert_non_null(strstr(json, key));
            found = strstr(json, "\"timestamp\": ");
            assert_non_null(found);
            long long seconds = atoll(found + 13);
            assert_true(seconds >= 1514764800 && seconds < 1546300800);     /* 2018 */
            found = strstr(json, "\"uid\": \"");
            assert_int_equal(strspn(found + 8, "0123456789abcdef"), 32);
            free(json);
        }
    }
    assert_false(tar_next(&t));
    free(t.data);
}

static void test_sample_ids(void **state)
{
    assert_int_equal(run(said, sizeof said, "synth --out %s/n --samples-per-year 40 --eval-samples 0 "
                         "--years 2014", room), 0);
    size_t n;
    unsigned char *npy = (unsigned char *)slurp(&n, "%s/n/train/2014/sample_ids.npy", room);
    assert_int_equal(n, 128 + 16 * 40);
    assert_memory_equal(npy, "\x93NUMPY\x01\x00\x76\x00{'descr': [('f0', '<u8'), ('f1', '<u8')]", 50);
    assert_non_null(strstr((char *)npy + 10, "'shape': (40,)"));
    assert_int_equal(npy[127], '\n');
    for (int i = 1; i < 40; i++) {
        uint64_t before, here;
        memcpy(&before, npy + 128 + 16 * (i - 1), 8);
        memcpy(&here, npy + 128 + 16 * i, 8);
        assert_true(before < here);
    }
    free(npy);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void test_evaluation_sets(void **state)
{
    enum { N = 900 };      /* so many that a few would be equal if nothing kept them apart */
    assert_int_equal(run(said, sizeof said, "synth --out %s/e --samples-per-year 60 --eval-samples %d --shard-size 500 "
                         "--years 2014", room, N), 0);
    assert_text("2\n", "e/eval/retrieval/2014", "nshards.txt");
    assert_text("900\n", "e/eval/retrieval/2014", "count.txt");
    assert_text("retrieval\n", "e/eval/retrieval/2014", "dataset_type.txt");
    assert_text("{\"0.tar\": 500, \"1.tar\": 400}", "e/eval/retrieval/2014", "sizes.json");
    assert_text("{\"successes\": 400}", "e/eval/retrieval/2014", "1.json");
    assert_text("classification\n", "e/eval/datacompnet/2014", "dataset_type.txt");

    /* Captions differ, line by line; some have two lines; no picture is also a training picture. */
    char *lines[2 * N];
    uint64_t pictures[N];
    int n = 0, doubles = 0, k = 0;
    for (int shard = 0; shard < 2; shard++) {
        Tar t = tar_open("e/eval/retrieval/2014", shard ? "1.tar" : "0.tar");
        while (tar_next(&t)) {
            const char *extension = strrchr(t.name, '.');
            assert_int_equal(strspn(t.name, "0123456789abcdef"), 32);
            assert_memory_equal(t.name + 32, "-0.", 3);
            if (!strcmp(extension, ".jpg") || !strcmp(extension, ".png"))
                pictures[k++] = tic_hash(t.body, t.body_size, 0);
            if (strcmp(extension, ".txt"))
                continue;
            char *text = tic_alloc(t.body_size + 1);
            memcpy(text, t.body, t.body_size);
            char *second = strchr(text, '\n');
            if (second) {
                *second++ = 0;
                lines[n++] = tic_strdup(second);
                doubles++;
            }
            lines[n++] = text;
        }
        free(t.data);
    }
    assert_int_equal(n - doubles, N);
    assert_true(doubles > 3 && doubles < N / 3);
    qsort(lines, (size_t)n, sizeof *lines, by_text);
    for (int i = 1; i < n; i++)
        assert_string_not_equal(lines[i - 1], lines[i]);
    for (int i = 0; i < n; i++)
        free(lines[i]);
    Tar train = tar_open("e/train/2014", "00000000.tar");
    while (tar_next(&train))
        for (int i = 0; i < k; i++)
            assert_true(tic_hash(train.body, train.body_size, 0) != pictures[i]);
    free(train.data);
}

static void test_classes(void **state)
{
    assert_int_equal(run(said, sizeof said, "synth --out %s/k --samples-per-year 1 --eval-samples 80 "
                         "--years 2017", room), 0);
    size_t size;
    char *names = slurp(&size, "%s/k/eval/datacompnet/2017/classnames.txt", room);
    char *templates = slurp(&size, "%s/k/eval/datacompnet/2017/zeroshot_classification_templates.txt", room);
    assert_non_null(strstr(templates, "a photo of a {c}.\n"));
    int classes = 0;
    for (const char *p = names; *p; p++)
        classes += *p == '\n';
    assert_true(classes >= 24);
    Tar t = tar_open("k/eval/datacompnet/2017", "0.tar");
    int labels = 0;
    while (tar_next(&t)) {
        if (strcmp(strrchr(t.name, '.'), ".cls"))
            continue;
        char digits[8] = { 0 };
        assert_true(t.body_size < 4);
        memcpy(digits, t.body, t.body_size);
        assert_int_equal(strspn(digits, "0123456789"), t.body_size);
        assert_true(atoi(digits) < classes);
        labels++;
    }
    assert_int_equal(labels, 80);
    free(t.data);
    free(names);
    free(templates);
}

/* Things appear in their year and not before. */
static void test_years_differ(void **state)
{
    assert_int_equal(run(said, sizeof said, "synth --out %s/y --samples-per-year 150 --eval-samples 0 --shard-size 200",
                         room), 0);
    for (int year = 2014; year <= 2022; year++) {
        char folder[64];
        snprintf(folder, sizeof folder, "y/train/%d", year);
        Tar t = tar_open(folder, "00000000.tar");
        int masks = 0, quadcopters = 0;
        while (tar_next(&t)) {
            if (strcmp(strrchr(t.name, '.'), ".txt"))
                continue;
            masks += memmem(t.body, t.body_size, "face mask", 9) != NULL;
            quadcopters += memmem(t.body, t.body_size, "quadcopter", 10) != NULL;
        }
        free(t.data);
        assert_true(year >= 2020 || masks == 0);
        assert_true(year != 2020 || masks > 0);
        assert_true((year >= 2016 && year <= 2018) || quadcopters == 0);
        assert_true(year != 2016 || quadcopters > 0);
    }
}

static void test_refusals(void **state)
{
    static const struct { const char *arguments, *message; } wrong[] = {
        { "synth", "--out DIR is missing" },
        { "synth --out", "--out: its value DIR is missing" },
        { "synth --ot x", "unknown flag '--ot'; did you mean --out?" },
        { "synth --out x --sample-per-year 3", "did you mean --samples-per-year?" },
        { "synth --out x --overwrite=1", "--overwrite takes no value" },
        { "synth --out x --seed frog", "--seed: 'frog' is not a whole number" },
        { "synth --out x --seed -1", "--seed: -1 is outside" },
        { "synth --out x --samples-per-year 0", "--samples-per-year: 0 is outside 1..1000000" },
        { "synth --out x --years 2013..2015", "--years: 2013 is outside 2014..2022" },
        { "synth --out x --years 2016..2015", "the first year comes after the last" },
        { "synth --out x --years 2016..", "is not a whole number" },
        { "synth x", "'x': a word without a flag" },
        { "sinth", "unknown command 'sinth'; did you mean synth?" },
    };
    for (size_t i = 0; i < TIC_LEN(wrong); i++) {
        assert_int_equal(run(said, sizeof said, "%s", wrong[i].arguments), 1);
        if (!strstr(said, wrong[i].message))
            fail_msg("%s: said: %s", wrong[i].arguments, said);
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);      /* one line */
    }
    assert_int_equal(run(said, sizeof said, "synth --help"), 0);
    assert_non_null(strstr(said, "--samples-per-year N"));
    assert_int_equal(run(said, sizeof said, "--version"), 0);
    assert_memory_equal(said, "ticdata ", 8);
    assert_int_equal(run(said, sizeof said, "synth --out /dev/null/x --years 2014"), 1);
    assert_non_null(strstr(said, "/dev/null"));
}

static void test_overwrite(void **state)
{
    char path[128];
    assert_int_equal(run(said, sizeof said, "synth --out %s/o --samples-per-year 12 --shard-size 4 --eval-samples 0 "
                         "--years 2019", room), 0);
    assert_int_equal(run(said, sizeof said, "synth --out %s/o --samples-per-year 4 --years 2019", room), 1);
    assert_non_null(strstr(said, "not empty"));
    snprintf(path, sizeof path, "%s/o/train/2019/notes.md", room);
    assert_int_equal(tic_write_file(path, "mine", 4), TIC_OK);
    assert_int_equal(run(said, sizeof said, "synth --out %s/o --samples-per-year 4 --shard-size 4 --eval-samples 0 "
                         "--years 2019 --overwrite", room), 0);
    assert_int_equal(access(path, F_OK), 0);                       /* a stranger's file stays */
    snprintf(path, sizeof path, "%s/o/train/2019/00000002.tar", room);
    assert_int_not_equal(access(path, F_OK), 0);                   /* an old shard goes */
    assert_text("{\"00000000.tar\": 4}", "o/train/2019", "sizes.json");
}

static void test_no_space(void **state)
{
    char arguments[256], path[128];
    snprintf(arguments, sizeof arguments, "synth --out %s/f --years 2014 --samples-per-year 100", room);
    assert_int_equal(run_after("ulimit -f 100;", arguments, said, sizeof said), 1);
    assert_non_null(strstr(said, "00000000.tar: cannot write: File too large"));
    assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    snprintf(path, sizeof path, "%s/f/train/2014/00000000.tar", room);
    assert_int_not_equal(access(path, F_OK), 0);
    strcat(path, ".tmp");
    assert_int_not_equal(access(path, F_OK), 0);
    assert_int_equal(run_after("exec 1>/dev/full;", "synth --help", said, sizeof said), 1);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *at)
{
    return remove(path);
}

static int make_room(void **state)
{
    const char *base = getenv("TMPDIR");
    snprintf(room, sizeof room, "%.40s/rt_synth.XXXXXX", base && *base ? base : "/tmp");
    return mkdtemp(room) ? 0 : -1;
}

static int remove_room(void **state)
{
    return nftw(room, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_seed_same_bytes),
        cmocka_unit_test(test_training_layout),
        cmocka_unit_test(test_sample_ids),
        cmocka_unit_test(test_evaluation_sets),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_years_differ),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_overwrite),
        cmocka_unit_test(test_no_space),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (access(program(), X_OK)) {
        fprintf(stderr, "# skipped: %s: not built\n", program());
        puts("1..0 # SKIP the data tool is not built");
        return 0;
    }
    return cmocka_run_group_tests(tests, make_room, remove_room);
}
