/* rt_views.c -- uids, lists of them as NumPy writes them, and views: multiplicity, what is unknown, what has changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/index.h"
#include "data/tar.h"
#include "data/views.h"
#include "room.h"

static void test_uids(void **state)
{
    TicUid u, v;
    assert_true(tic_uid_parse("0123456789abcdefFEDCBA9876543210", &u));
    assert_true(u.high == 0x0123456789abcdefull && u.low == 0xfedcba9876543210ull);
    assert_true(tic_uid_parse("0123456789abcdeffedcba9876543210-7", &v));        /* a resharded key */
    assert_int_equal(tic_uid_order(&u, &v), 0);
    assert_false(tic_uid_parse("0123456789abcdeffedcba987654321", &u));
    assert_false(tic_uid_parse("0123456789abcdeg0123456789abcdef", &u));
}

static void put_npy(const char *path, const char *header, int version, const TicUid *uid, int n)
{
    char text[256];
    const char *hole = strstr(header, "%d");                 /* how many there are */
    int size = snprintf(text, sizeof text, "%.*s%d%s", (int)(hole - header), header, n, hole + 2), head = version == 1 ? 10 : 12;
    size = (size + head + 63) / 64 * 64 - head;
    FILE *f = fopen(path, "wb");
    fprintf(f, "\x93NUMPY%c%c%c%c", version, 0, size & 255, size >> 8);
    if (version > 1)
        fwrite("\0\0", 1, 2, f);
    fprintf(f, "%-*s", size, text);
    for (int i = 0; i < n; i++)
        fwrite(&uid[i], 8, 2, f);
    assert_int_equal(fclose(f), 0);
}

#define STRUCTURED "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (%d,), }"

static void test_lists(void **state)
{
    static const TicUid in[3] = { { 2, 1 }, { 1, 9 }, { 1, 3 } };
    TicUid *uid;
    int64_t n;
    static const char *const good[] = { STRUCTURED, "{'descr': '<u8', 'fortran_order': False, 'shape': (%d, 2), }" };
    for (int version = 1; version <= 2; version++) {
        for (size_t i = 0; i < TIC_LEN(good); i++) {
            put_npy("a.npy", good[i], version, in, 3);
            assert_int_equal(tic_uids_read("a.npy", &uid, &n), TIC_OK);
            assert_int_equal(n, 3);
            assert_true(uid[0].high == 1 && uid[0].low == 3 && uid[2].high == 2);      /* sorted */
            free(uid);
        }
    }
    static const char *const bad[] = { "{'descr': '<u8', 'fortran_order': False, 'shape': (%d,), }", "{'descr': '<f8', 'shape': (%d, 2), }",
                                       "{'descr': '<u8', 'fortran_order': True, 'shape': (%d, 2), }", "%d",
                                       "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (%d0,), }" };
    for (size_t i = 0; i < TIC_LEN(bad); i++) {
        put_npy("a.npy", bad[i], 1, in, 3);
        assert_int_equal(tic_uids_read("a.npy", &uid, &n), TIC_USER);
        assert_non_null(strstr(tic_error(), "a.npy: no list of uids"));
        tic_error_clear();
    }
}

static void put_shard(const char *path, int first, int n)
{
    FILE *f = fopen(path, "wb");
    for (int i = 0; i < n; i++) {
        char name[32];
        snprintf(name, sizeof name, "k%03d.txt", first + i);
        assert_int_equal(tic_tar_append(f, name, "x", 1), TIC_OK);
    }
    assert_int_equal(tic_tar_finish(f), TIC_OK);
    assert_int_equal(fclose(f), 0);
}

static int64_t size_of(const char *path)
{
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    int64_t n = ftell(f);
    fclose(f);
    return n;
}

static void test_views(void **state)
{
    assert_int_equal(system("mkdir -p pool/shards pool/train"), 0);
    put_shard("pool/shards/a.tar", 0, 4);
    put_shard("pool/shards/b.tar", 10, 3);
    TicUid a[4] = { { 0, 1 }, { 0, 2 }, { 0, 0 }, { 5, 4 } }, b[3] = { { 0, 2 }, { 7, 7 }, { 0, 3 } };
    TicUidShard shard[2] = { { (char *)"a.tar", size_of("pool/shards/a.tar"), a, 4 }, { (char *)"b.tar", size_of("pool/shards/b.tar"), b, 3 } };
    assert_int_equal(tic_uid_index_write("pool/shards", shard, 2), TIC_OK);
    /* 2 thrice (it lies in both shards), 5:4, one that nobody has, and 0:0, which names no sample */
    static const TicUid list[6] = { { 0, 0 }, { 0, 2 }, { 0, 2 }, { 0, 2 }, { 5, 4 }, { 9, 9 } };
    put_npy("pool/train/2014.npy", STRUCTURED, 1, list, 6);
    TicShardList view = { 0 };
    assert_int_equal(tic_shards_for_years(&view, "pool", (const int[]){ 2014 }, 1), TIC_OK);
    assert_int_equal(view.count, 2);
    assert_int_equal(view.shard[0].samples, 4);
    assert_int_equal(view.shard[1].samples, 3);
    assert_true(view.listed == 6 && view.unknown == 2 && view.repeated == 2);
    TicIndex *x;
    assert_int_equal(tic_index_open(&view, 1, (TicWarn){ 0 }, &x), TIC_OK);
    assert_int_equal(tic_index_total(x), 7);
    static const char *const keys[7] = { "k001", "k001", "k001", "k003", "k010", "k010", "k010" };
    for (int i = 0; i < 7; i++) {
        int s;
        int64_t sample, count;
        TicSampleRef ref;
        tic_index_locate(x, i, &s, &sample);
        assert_int_equal(tic_index_sample(x, s, sample, &ref), TIC_OK);
        assert_string_equal(tic_index_key(x, s, &ref), keys[i]);
        assert_int_equal(tic_index_count(x, s, &count), TIC_OK);
        assert_int_equal(count, s ? 3 : 4);
    }
    tic_index_close(x);
    tic_shards_clear(&view);
    static const TicUid none[1] = { { 8, 8 } };
    put_npy("pool/train/2015.npy", STRUCTURED, 1, none, 1);
    assert_int_equal(tic_shards_for_years(&view, "pool", (const int[]){ 2015 }, 1), TIC_USER);
    assert_non_null(strstr(tic_error(), "none of its 1 uids is in pool/shards"));
    tic_error_clear();
    put_shard("pool/shards/b.tar", 10, 30);
    assert_int_equal(tic_shards_for_years(&view, "pool", (const int[]){ 2014 }, 1), TIC_USER);
    assert_non_null(strstr(tic_error(), "b.tar: not the shard that was indexed"));
    tic_error_clear();
    assert_int_equal(truncate("pool/shards/uids.index", 60), 0);
    assert_int_equal(tic_shards_for_years(&view, "pool", (const int[]){ 2014 }, 1), TIC_USER);
    assert_non_null(strstr(tic_error(), "or a torn one"));
    tic_error_clear();
    assert_int_equal(view.count, 0);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_uids), ROOM(test_lists), ROOM(test_views) };
    return cmocka_run_group_tests_name("views", tests, NULL, NULL);
}
