/* rt_tools.c -- `ticdata index` and `ticdata reshard` from the outside: the built program (environment variable
 * TICDATA, else build/release/ticdata) works on shards made here, and what it wrote is read back with the runtime's own
 * readers. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/index.h"
#include "data/tar.h"
#include "room.h"

static char *tool;

static int shell(char *said, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Both outputs go to `said`; returns the exit code, -1 on a signal. */
static int shell(char *said, size_t size, const char *format, ...)
{
    char *command = NULL;
    va_list v;
    va_start(v, format);
    assert_true(vasprintf(&command, format, v) >= 0);
    va_end(v);
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

/* `ticdata ARGUMENTS` exits with `code` and says `text`. */
static void says(int code, const char *text, const char *arguments)
{
    char said[4096];
    int got = shell(said, sizeof said, "'%s' %s 2>&1", tool, arguments);
    if (got != code || !strstr(said, text))
        fail_msg("ticdata %s: exit code %d, wanted %d, and `%s` in:\n%s", arguments, got, code, text, said);
}

static char *slurp(const char *path, size_t *size)
{
    char *data;
    if (tic_read_file(path, 1u << 30, &data, size))
        fail_msg("%s", tic_error());
    return data;
}

static void put_file(const char *path, const char *text)
{
    if (tic_write_file(path, text, strlen(text)))
        fail_msg("%s", tic_error());
}

static void assert_text(const char *path, const char *want)
{
    size_t n;
    char *have = slurp(path, &n);
    assert_string_equal(have, want);
    free(have);
}

typedef struct { const char *name, *text; } Part;

/* A shard of these members, up to one without a name. */
static void put_shard(const char *path, const Part *part)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (; part->name; part++)
        assert_int_equal(tic_tar_append(f, part->name, part->text, strlen(part->text)), TIC_OK);
    assert_int_equal(tic_tar_finish(f), TIC_OK);
    assert_int_equal(fclose(f), 0);
}

/* The members of a shard are these, in this order, and it is whole. */
static void assert_shard(const char *path, const Part *part)
{
    TicTar *tar;
    TicTarMember m;
    size_t size;
    char *data = slurp(path, &size);
    assert_int_equal(tic_tar_open(path, &tar), TIC_OK);
    for (; part->name; part++) {
        assert_int_equal(tic_tar_next(tar, &m), TIC_OK);
        assert_string_equal(m.name, part->name);
        assert_int_equal(m.size, strlen(part->text));
        assert_memory_equal(data + m.offset, part->text, strlen(part->text));
    }
    assert_int_equal(tic_tar_next(tar, &m), TIC_END);
    assert_null(tic_tar_damage(tar));
    tic_tar_close(tar);
    free(data);
}

#define END { NULL, NULL }
#define SHARD(path, ...) put_shard(path, (const Part[]){ __VA_ARGS__, END })
#define HAS(path, ...) assert_shard(path, (const Part[]){ __VA_ARGS__, END })

/* ---- index */

static void test_index_writes_what_synth_wrote(void **state)
{
    char said[200];
    size_t n;
    says(0, "", "synth --out p --samples-per-year 25 --eval-samples 11 --shard-size 10 --years 2014..2015");
    static const char *const sizes[] = { "p/train/2014/sizes.json", "p/train/2015/sizes.json",
        "p/eval/retrieval/2014/sizes.json", "p/eval/datacompnet/2015/sizes.json" };
    char *before[TIC_LEN(sizes)];
    for (size_t i = 0; i < TIC_LEN(sizes); i++) {
        before[i] = slurp(sizes[i], &n);
        i % 2 ? put_file(sizes[i], "{ not json") : (void)unlink(sizes[i]);
    }
    says(0, "p/train/2014/sizes.json: 25 samples in 3 shards", "index p/ --threads 3");
    for (size_t i = 0; i < TIC_LEN(sizes); i++) {
        assert_text(sizes[i], before[i]);
        free(before[i]);
    }
    assert_int_equal(shell(said, sizeof said, "ls p/sizes.json p/train/sizes.json 2>/dev/null"), 2);
}

/* The same rule of what a sample is as in data/index.c. */
static void test_index_counts_as_the_loader(void **state)
{
    TicShardList list = { 0 };
    TicIndex *x;
    int64_t count;
    SHARD("a.tar", { "__m__/a.json", "" }, { "x.jpg", "1" }, { "x.txt", "1" }, { "x.seg.png", "1" }, { "x.JPG", "2" },
          { "noextension", "" }, { "x.txt", "2" }, { "d/x.txt", "3" }, { "d/x.jpg", "3" }, { ".hidden", "" },
          { "x.y.z", "4" }, { "x.y", "4" }, { "x.y.Z", "5" }, { "q.unknown", "6" });
    SHARD("b.tar", { "noextension", "" });
    SHARD("10.tar", { "k.txt", "" });
    SHARD("9.tar", { "k.txt", "" }, { "l.txt", "" });
    says(0, "./sizes.json: 9 samples in 4 shards", "index .");
    assert_text("sizes.json", "{\"9.tar\": 2, \"10.tar\": 1, \"a.tar\": 6, \"b.tar\": 0}");
    unlink("sizes.json");
    assert_int_equal(tic_shards_add(&list, "a.tar"), TIC_OK);
    assert_int_equal(tic_index_open(&list, 1, (TicWarn){ 0 }, &x), TIC_OK);
    assert_int_equal(tic_index_count(x, 0, &count), TIC_OK);
    assert_int_equal(count, 6);
    tic_index_close(x);
    tic_shards_clear(&list);
}

static void test_index_of_a_torn_shard(void **state)
{
    SHARD("a.tar", { "x.txt", "1" }, { "y.txt", "2" }, { "z.txt", "3" });
    assert_int_equal(truncate("a.tar", 1024 + 100), 0);
    put_file("empty.tar", "");
    put_file("not_a.tar", "this is no shard, but its name says that it is one");
    says(0, "warning: ./a.tar: damaged shard: byte 1024: the file ends where a header should stand; the samples before",
         "index .");
    assert_text("sizes.json", "{\"a.tar\": 1, \"empty.tar\": 0, \"not_a.tar\": 0}");
}

static void test_index_refusals(void **state)
{
    says(1, "ticdata index: error: DIR is missing", "index");
    says(1, "ticdata index: error: nowhere: cannot list the folder: No such file", "index nowhere");
    says(1, "ticdata index: error: .: no .tar shard in this folder or below it", "index .");
    says(1, "'b': a word without a flag", "index a b");
    says(1, "did you mean --threads?", "index . --thread 1");
    says(1, "--threads: 0 is outside 1..64", "index . --threads 0");
    SHARD("a.tar", { "x.txt", "1" });
    says(1, "cannot list the folder: Not a directory", "index a.tar");
    assert_int_equal(mkdir("sizes.json", 0777), 0);
    says(1, "ticdata index: error: ./sizes.json: found a folder, wanted the name of a file", "index .");
}

/* ---- reshard */

/* Sums over the members of all shards of a list, whatever their order; names and bytes. */
static uint64_t content(const char *spec, int *members, int *shards)
{
    TicShardList list = { 0 };
    uint64_t sum = 0;
    *members = 0;
    if (tic_shards_add(&list, spec))
        fail_msg("%s", tic_error());
    for (int i = 0; i < list.count; i++) {
        TicTar *tar;
        TicTarMember m;
        size_t size;
        char *data = slurp(list.shard[i].path, &size);
        assert_int_equal(tic_tar_open(list.shard[i].path, &tar), TIC_OK);
        for (; !tic_tar_next(tar, &m); ++*members)
            sum += tic_hash(data + m.offset, (size_t)m.size, tic_hash(m.name, strlen(m.name), 0));
        tic_tar_close(tar);
        free(data);
    }
    *shards = list.count;
    tic_shards_clear(&list);
    return sum;
}

static void test_reshard_a_pool(void **state)
{
    char said[400];
    int n[4], shards[4];
    says(0, "", "synth --out p --samples-per-year 25 --eval-samples 0 --shard-size 10 --years 2014..2016");
    says(0, "mixed/2015: 25 samples in 4 shards", "reshard --in p/train/{2016,2014,2015} --out mixed --shard-size 7");
    for (int year = 2014; year <= 2016; year++) {
        char before[64], after[64];
        snprintf(before, sizeof before, "p/train/%d", year);
        snprintf(after, sizeof after, "mixed/%d", year);
        assert_true(content(before, &n[0], &shards[0]) == content(after, &n[1], &shards[1]));
        assert_int_equal(n[0], n[1]);
        assert_int_equal(shards[0], 3);
        assert_int_equal(shards[1], 4);
        assert_int_equal(n[0], 75);
    }
    assert_text("mixed/2016/sizes.json",
                "{\"00000000.tar\": 7, \"00000001.tar\": 7, \"00000002.tar\": 7, \"00000003.tar\": 4}");
    /* split and merged again: the samples of a year come in their first order, so the bytes are those of one merge */
    says(0, "back/2014: 25 samples in 1 shard\n", "reshard --in mixed --out back");
    says(0, "once/2014: 25 samples in 1 shard\n", "reshard --in p --out once");
    assert_int_equal(shell(said, sizeof said, "diff -r back once 2>&1"), 0);
    assert_text("once/2014/sizes.json", "{\"00000000.tar\": 25}");
    says(0, "once/2014/sizes.json: 25 samples in 1 shard\n", "index once");
    assert_int_equal(shell(said, sizeof said, "diff -r back once 2>&1"), 0);
    TicShardList list = { 0 };                           /* a root that training takes */
    assert_int_equal(tic_shards_for_years(&list, "once", (const int[]){ 2014, 2016 }, 2), TIC_OK);
    assert_int_equal(list.count, 2);
    assert_int_equal(list.shard[1].samples, 25);
    tic_shards_clear(&list);
}

static void test_reshard_reads_times(void **state)
{
    static const struct { const char *time; int year; } cases[] = {
        { "1388534399", 2013 }, { "1388534400", 2014 }, { "1388534399.9", 2013 }, { "-1", 1969 }, { "-0.5", 1969 },
        { "0", 1970 }, { "\"1388534400\"", 2014 }, { "2016", 2016 }, { "201612", 2016 }, { "\"2016\"", 2016 },
        { "\"201603\"", 2016 }, { "\"20160301\"", 2016 }, { "\"20160301123456\"", 2016 },
        { "\"2016-03-01T00:00:00Z\"", 2016 },
        { "\"2016/12\"", 2016 }, { "7258118400", 0 }, { "-2208988801", 0 }, { "1e300", 0 }, { "NaN", 0 }, { "null", 0 },
        { "\"\"", 0 }, { "\"2016-\"", 0 }, { "\"2016-13\"", 0 }, { "\"2016-03-01", -1 }, { "\"soon\"", 0 },
        { "true", 0 }, { "[2016]", 0 }, { "\"99999999999999999999\"", 0 }, { "7258118399", 2199 },
        { "-2208988800", 1900 }, { "\"123\"", 1970 }, { "201613", 1970 },
    };
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        char json[100], path[64], told[64];
        snprintf(json, sizeof json, "{\"taken\": %s}", cases[i].time);
        SHARD("in.tar", { "0.json", json }, { "1.json", "{\"taken\": 1999}" });
        snprintf(told, sizeof told, "out/%d: 1 sample in 1 shard\n", cases[i].year);
        if (cases[i].year <= 0)
            snprintf(told, sizeof told, "left out: 1 sample without a %s\n", cases[i].year ? "usable json" : "time");
        says(0, told, "reshard --in in.tar --out out --field taken");
        snprintf(path, sizeof path, "out/%d/00000000.tar", cases[i].year);
        if (cases[i].year > 0)
            HAS(path, { "0.json", json });
        assert_int_equal(system("rm -r out"), 0);
    }
}

/* All members come along, also those that training does not read. Names are changed only where two samples would become
 * one; what belongs to no sample, or to one without a time, is left out and counted. */
static void test_reshard_keeps_samples_apart(void **state)
{
    static const char t[] = "{\"timestamp\": 1400000000}";
    char longer[301];
    memset(longer, 'n', 300);
    strcpy(longer + 290, ".seg.png");
    SHARD("0.tar", { "a.jpg", "picture" }, { "a.json", t }, { "a.npy", "numbers" }, { "note", "" });
    SHARD("1.tar", { "a.txt", "word" }, { "a.json", t }, { "b.txt", "no json" }, { "c.txt", "" }, { "c.json", "{" });
    SHARD("2.tar", { "a.cls", "1" }, { "a.json", t }, { "a.JSON", t }, { "d.json", "{}" }, { longer, "mask" });
    /* the json of the long name comes in the next shard, so that neither is a whole sample */
    SHARD("3.tar", { "d/e.JSON", "{\"timestamp\": \"2014\"}" }, { "d/e.jpg", "" });
    says(0, "left out: 3 samples without a usable json\nleft out: 1 sample without a time\n"
         "left out: 1 member of no sample\n", "reshard --in {0..3}.tar --out out");
    HAS("out/2014/00000000.tar", { "a.jpg", "picture" }, { "a.json", t }, { "a.npy", "numbers" }, { "a-1.txt", "word" },
        { "a-1.json", t }, { "a.cls", "1" }, { "a.json", t }, { "a-1.JSON", t },
        { "d/e.JSON", "{\"timestamp\": \"2014\"}" }, { "d/e.jpg", "" });
    assert_text("out/2014/sizes.json", "{\"00000000.tar\": 5}");
    says(0, "out/2014/sizes.json: 5 samples in 1 shard\n", "index out");
    assert_text("out/2014/sizes.json", "{\"00000000.tar\": 5}");
}

static void test_reshard_long_names(void **state)
{
    char longer[2][301];
    for (int i = 0; i < 2; i++) {
        memset(longer[i], 'n', 300);
        memcpy(longer[i], "folder/", 7);
        strcpy(longer[i] + 290, i ? ".json" : ".seg.png");
    }
    static const char t[] = "{\"timestamp\": 2022}";
    SHARD("in.tar", { longer[0], "mask" }, { longer[1], t }, { "a.json", t });
    says(0, "out/2022: 2 samples in 1 shard\n", "reshard --in in.tar --out out");
    HAS("out/2022/00000000.tar", { longer[0], "mask" }, { longer[1], t }, { "a.json", t });
    char said[1000];
    assert_int_equal(shell(said, sizeof said, "tar tf out/2022/00000000.tar | head -c 900"), 0);
    assert_non_null(strstr(said, longer[0]));
}

static void test_reshard_torn_shard(void **state)
{
    SHARD("0.tar", { "a.json", "{\"timestamp\": 2014}" }, { "b.json", "{\"timestamp\": 2015}" });
    SHARD("1.tar", { "c.json", "{\"timestamp\": 2014}" });
    assert_int_equal(truncate("0.tar", 1024 + 100), 0);
    says(0, "warning: 0.tar: damaged shard", "reshard --in 0.tar::1.tar --out out");
    HAS("out/2014/00000000.tar", { "a.json", "{\"timestamp\": 2014}" }, { "c.json", "{\"timestamp\": 2014}" });
    assert_int_equal(access("out/2015", F_OK), -1);
}

static void test_reshard_refusals(void **state)
{
    SHARD("a.tar", { "a.json", "{\"timestamp\": 2014}" });
    SHARD("b.tar", { "a.json", "{\"time\": 2014}" }, { "b.txt", "" });
    says(1, "ticdata reshard: error: --in SHARDS is missing", "reshard --out out");
    says(1, "ticdata reshard: error: --out DIR is missing", "reshard --in a.tar");
    says(1, "nowhere.tar: no such shard or folder", "reshard --in nowhere.tar --out out");
    says(1, "a.tar: not a folder to write into", "reshard --in a.tar --out a.tar");
    says(1, ".: the folder is not empty; name a new one", "reshard --in a.tar --out .");
    says(1, "--shard-size: 0 is outside", "reshard --in a.tar --out out --shard-size 0");
    says(1, "'word': a word without a flag", "reshard --in a.tar --out out word");
    says(1, "--field: the name", "reshard --in a.tar --out out --field ''");
    says(1, "b.tar: none of its 2 samples tells its time: 1 without a usable json, 1 whose json has no time in "
         "\"timestamp\"; --field NAME", "reshard --in b.tar --out out");
    assert_int_equal(access("out", F_OK), -1);
    says(0, "out/2014: 1 sample in 1 shard\n", "reshard --in b.tar --out out --field time");
    put_file("sizes.json", "[");
    says(1, "sizes.json: JSON: byte 1", "reshard --in a.tar --out other");
    assert_int_equal(access("other", F_OK), -1);
}

/* A full disk (here: a limit on a file's size) is one error, and no half-written shard keeps its name. */
static void test_reshard_full_disk(void **state)
{
    char said[2000], large[60000];
    memset(large, 'x', sizeof large - 1);
    large[sizeof large - 1] = 0;
    SHARD("a.tar", { "a.json", "{\"timestamp\": 2014}" }, { "a.txt", large }, { "b.json", "{\"timestamp\": 2014}" });
    int code = shell(said, sizeof said, "ulimit -f 20; '%s' reshard --in a.tar --out out 2>&1", tool);
    assert_int_equal(code, 1);
    assert_non_null(strstr(said, "ticdata reshard: error: out/2014/00000000.tar: cannot write: File too large"));
    assert_int_equal(shell(said, sizeof said, "find out -type f"), 0);
    assert_string_equal(said, "");
}

/* A list of uids chooses, repeats and misses samples; classes come from a pickled dict. */
static void test_reshard_subset(void **state)
{
    static const char u[3][40] = { "000000000000000100000000000000aa", "000000000000000200000000000000bb", "000000000000000300000000000000cc" };
    char json[3][60];
    for (int i = 0; i < 3; i++)
        snprintf(json[i], sizeof json[i], "{\"uid\": \"%.32s\"}", u[i]);
    SHARD("in.tar", { "a.txt", "first" }, { "a.json", json[0] }, { "b.txt", "second" }, { "b.json", json[1] }, { "c.txt", "third" }, { "c.json", json[2] },
          { "d.txt", "no json" });
    FILE *f = fopen("list.npy", "wb");
    fprintf(f, "\x93NUMPY%c%c%c%c%-117s\n", 1, 0, 118, 0, "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (4,), }");
    const uint64_t list[8] = { 1, 0xaa, 2, 0xbb, 2, 0xbb, 9, 9 };
    fwrite(list, 8, 8, f);
    assert_int_equal(fclose(f), 0);
    says(0, "out: 3 samples in 2 shards, of 4 read\nthe list: 4 uids, 1 not found, 1 listed again\nleft out: 1 without a uid\n",
         "reshard --in in.tar --out out --subset list.npy --shard-size 2");
    HAS("out/00000000.tar", { "000000000000000100000000000000aa-0.json", json[0] }, { "000000000000000100000000000000aa-0.txt", "first" },
        { "000000000000000200000000000000bb-0.json", json[1] }, { "000000000000000200000000000000bb-0.txt", "second" });
    HAS("out/00000001.tar", { "000000000000000200000000000000bb-1.json", json[1] }, { "000000000000000200000000000000bb-1.txt", "second" });
    assert_text("out/sizes.json", "{\"00000000.tar\": 2, \"00000001.tar\": 1}");
    assert_text("out/00000001_stats.json", "{\"successes\": 1}");
    char said[2000];
    assert_int_equal(shell(said, sizeof said, "cmp list.npy out/sample_ids.npy && grep -o '\"output_count\": 3,' out/meta.json"), 0);
    put_file("cls.pkl", "(dp0\nV000000000000000200000000000000bb\np1\nI7\ns.");       /* protocol 0 is not read */
    says(1, "ticdata reshard: error: cls.pkl", "reshard --in in.tar --out other --subset list.npy --cls-file cls.pkl");
    static const char pickle[] = "\x80\x02}(X\x20\0\0\0" "000000000000000200000000000000bbK\x07X\x20\0\0\0" "000000000000000300000000000000ccM\xe7\x03u.";
    f = fopen("cls.pkl", "wb");
    fwrite(pickle, 1, sizeof pickle - 1, f);
    assert_int_equal(fclose(f), 0);
    says(0, "without a class in cls.pkl: 1\n", "reshard --in in.tar --out labelled --subset list.npy --cls-file cls.pkl");
    HAS("labelled/00000000.tar", { "000000000000000100000000000000aa-0.json", json[0] }, { "000000000000000100000000000000aa-0.txt", "first" },
        { "000000000000000200000000000000bb-0.cls", "7" }, { "000000000000000200000000000000bb-0.json", json[1] },
        { "000000000000000200000000000000bb-0.txt", "second" }, { "000000000000000200000000000000bb-1.cls", "7" },
        { "000000000000000200000000000000bb-1.json", json[1] }, { "000000000000000200000000000000bb-1.txt", "second" });
    says(1, "--cls-file: goes with --subset", "reshard --in in.tar --out third --cls-file cls.pkl");
    put_file("list.npy", "none");
    says(1, "list.npy: no list of uids", "reshard --in in.tar --out third --subset list.npy");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ROOM(test_index_writes_what_synth_wrote), ROOM(test_index_counts_as_the_loader),
        ROOM(test_index_of_a_torn_shard), ROOM(test_index_refusals), ROOM(test_reshard_a_pool),
        ROOM(test_reshard_reads_times), ROOM(test_reshard_keeps_samples_apart), ROOM(test_reshard_long_names),
        ROOM(test_reshard_torn_shard), ROOM(test_reshard_refusals), ROOM(test_reshard_full_disk),
        ROOM(test_reshard_subset),
    };
    const char *asked = getenv("TICDATA");
    tool = realpath(asked && *asked ? asked : "build/release/ticdata", NULL);
    cmocka_set_message_output(CM_OUTPUT_TAP);
    if (!tool) {
        fprintf(stderr, "# skipped: ticdata is not built\n");
        puts("1..0 # SKIP the data tool is not built");
        return 0;
    }
    int failed = cmocka_run_group_tests_name("tools", tests, NULL, NULL);
    free(tool);
    return failed;
}
