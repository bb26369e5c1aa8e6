/* rt_shards.c -- shards by other writers: every form of a tar header that names or sizes a member, what of a sample's members counts,
 * the order of names; and what the loader promises of shares and of failures, on shards made here. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include "data/loader.h"
#include "data/tar.h"
#include "room.h"

/* ---- archives, header by header */

enum { BLOCK = 512 };
typedef struct { uint8_t byte[64 * BLOCK]; size_t n; } Archive;

static void close_header(uint8_t *h, bool of_signed)         /* the checksum; some old writers summed signed bytes */
{
    int sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += of_signed ? (int)(signed char)h[i] : (int)h[i];
    snprintf((char *)h + 148, 8, "%06o", (unsigned)sum);
}

/* A header; the caller may change it, and then closes it again. */
static uint8_t *put_header(Archive *a, const char *name, char type, size_t size)
{
    uint8_t *h = a->byte + a->n;
    memset(h, 0, BLOCK);
    memcpy(h, name, strnlen(name, 100));
    snprintf((char *)h + 124, 12, "%011o", (unsigned)size);
    h[156] = (uint8_t)type;
    memcpy(h + 257, "ustar\00000", 8);
    close_header(h, false);
    a->n += BLOCK;
    return h;
}

static void put_contents(Archive *a, const char *text)
{
    size_t n = strlen(text), padded = (n + BLOCK - 1) / BLOCK * BLOCK;
    memset(a->byte + a->n, 0, padded);
    memcpy(a->byte + a->n, text, n);
    a->n += padded;
}

static uint8_t *put(Archive *a, const char *name, char type, const char *text)
{
    uint8_t *h = put_header(a, name, type, strlen(text));
    put_contents(a, text);
    return h;
}

/* The archive holds these members, "NAME=CONTENTS;" each, and then ends: whole, or with damage that says so. */
static void expect_members(const Archive *a, const char *wanted, const char *damage)
{
    TicTar *t = tic_tar_open_memory(a->byte, a->n);
    TicTarMember m;
    TicStatus status;
    char *found = tic_strdup("");
    while (!(status = tic_tar_next(t, &m))) {
        char *longer = tic_format("%s%s=%.*s;", found, m.name, (int)m.size, (const char *)a->byte + m.offset);
        free(found);
        found = longer;
    }
    assert_int_equal(status, TIC_END);
    assert_string_equal(found, wanted);
    if (!damage)
        assert_null(tic_tar_damage(t));
    else
        assert_non_null(strstr(tic_tar_damage(t) ? tic_tar_damage(t) : "", damage));
    free(found);
    tic_tar_close(t);
}

static void test_headers(void **state)
{
    Archive a = { .n = 0 };
    put(&a, "x", 'x', "18 path=long/name\n9 size=3\n");              /* pax: for the next member alone */
    put(&a, "plain", '0', "abcde");
    put(&a, "next", '0', "fg");
    expect_members(&a, "long/name=abc;next=fg;", NULL);

    a.n = 0;
    put(&a, "././@LongLink", 'L', "of GNU tar");
    put(&a, "plain", '0', "a");
    put(&a, "next", 0, "b");
    expect_members(&a, "of GNU tar=a;next=b;", NULL);

    a.n = 0;
    uint8_t *h = put(&a, "name", '0', "a");
    memcpy(h + 345, "some/folder", 11);
    close_header(h, false);
    h = put(&a, "name", '0', "b");                                   /* GNU's old magic: there stand times, say */
    memcpy(h + 257, "ustar  ", 8);
    memcpy(h + 345, "12345", 5);
    close_header(h, false);
    expect_members(&a, "some/folder/name=a;name=b;", NULL);

    a.n = 0;
    h = put(&a, "caf\303\251", '0', "a");
    close_header(h, true);
    expect_members(&a, "caf\303\251=a;", NULL);

    a.n = 0;
    put_header(&a, "a link", '1', 5000);                             /* states the size of what it links to, and has nothing */
    put_header(&a, "folder/", '5', 0);
    put(&a, "next", '7', "a");
    expect_members(&a, "next=a;", NULL);

    a.n = 0;
    put(&a, "first", '0', "a");
    put(&a, "last", '0', "b");
    a.n -= BLOCK - 1;                                                /* the last member's padding may be missing */
    expect_members(&a, "first=a;last=b;", NULL);
}

/* Members with holes: what is stored is not the file, so they are stepped over, and those behind them are found. */
static void test_sparse(void **state)
{
    Archive a = { .n = 0 };
    uint8_t *h = put_header(&a, "holes", 'S', 3);
    memcpy(h + 257, "ustar  ", 8);
    h[482] = 1;                                                      /* its map goes on in two blocks, which the size does not count */
    close_header(h, false);
    memset(a.byte + a.n, '7', 2 * BLOCK);
    a.byte[a.n + 504] = 1;
    a.byte[a.n + BLOCK + 504] = 0;
    a.n += 2 * BLOCK;
    put_contents(&a, "abc");
    put(&a, "next", '0', "d");
    expect_members(&a, "next=d;", NULL);
    a.n = 2 * BLOCK;
    expect_members(&a, "", "ends inside the map of a sparse member");

    a.n = 0;
    put(&a, "x", 'x', "22 GNU.sparse.major=1\n26 GNU.sparse.name=a file\n");
    put(&a, "GNUSparseFile.0/a file", '0', "1\n0\n1\n");
    put(&a, "next", '0', "d");
    expect_members(&a, "next=d;", NULL);

    a.n = 0;
    expect_members(&a, "", "the file is empty");
}

static void test_sizes(void **state)
{
    static const struct { uint8_t at[12]; const char *damage; } large[] = {         /* base 256 */
        { { 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3 }, NULL },
        { { 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0 }, "ends inside a member of 4096 bytes" },
        { { 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3 }, "impossible size" },           /* beyond 64 bits, not 3 */
        { { 0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 3 }, "impossible size" },
        { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff }, "impossible size" },
    };
    for (size_t i = 0; i < TIC_LEN(large); i++) {
        Archive a = { .n = 0 };
        uint8_t *h = put(&a, "a", '0', "abc");
        memcpy(h + 124, large[i].at, 12);
        close_header(h, false);
        expect_members(&a, large[i].damage ? "" : "a=abc;", large[i].damage);
    }
    static const char *const broken[] = { "99 path=x\n", "path=x\n", "7 pathx\n", "9 size=-1\n", "28 size=99999999999999999999\n", "9 path=xyz" };
    for (size_t i = 0; i < TIC_LEN(broken); i++) {
        Archive a = { .n = 0 };
        put(&a, "x", 'x', broken[i]);
        put(&a, "a", '0', "abc");
        expect_members(&a, "", "broken pax header");
    }
}

/* ---- samples */

static void write_tar(const char *path, const char *const (*member)[2], int n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    for (int i = 0; i < n; i++)
        assert_int_equal(tic_tar_append(f, member[i][0], member[i][1], strlen(member[i][1])), TIC_OK);
    assert_int_equal(tic_tar_finish(f), TIC_OK);
    fclose(f);
}

static bool holds(const void *data, size_t size, const char *text) { return data && size == strlen(text) && !memcmp(data, text, size); }

static void test_samples(void **state)
{
    char filler[40000];
    memset(filler, 'f', sizeof filler - 1);
    filler[sizeof filler - 1] = 0;
    const char *const member[][2] = {
        { "a.JPG", "first" }, { "a.png", "second" }, { "a.txt", "one" }, { "a.txt", "again: a sample of its own" },      /* 0, 1 */
        { "b.txt", "far" }, { "b.npy", filler }, { "b.json", "apart" }, { "b.cls", "7" },                                /* 2 */
        { "dir/b.npy", "not read" }, { "dir/b.txt", "behind it" },                                                       /* 3 */
    };
    TicShardList list = { 0 };
    TicIndex *x;
    TicSampleRef ref;
    TicSampleBytes b = { 0 };
    write_tar("s.tar", member, (int)TIC_LEN(member));
    assert_int_equal(tic_shards_add(&list, "s.tar"), TIC_OK);
    assert_int_equal(tic_index_open(&list, 1, (TicWarn){ 0 }, &x), TIC_OK);
    assert_int_equal(tic_index_total(x), 4);
    assert_int_equal(tic_index_sample(x, 0, 0, &ref), TIC_OK);
    assert_string_equal(tic_index_key(x, 0, &ref), "a");
    assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_OK);
    assert_true(holds(b.image, b.image_size, "first") && holds(b.text, b.text_size, "one") && !b.json && !b.class_text);
    assert_int_equal(tic_index_sample(x, 0, 1, &ref), TIC_OK);
    assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_OK);
    assert_true(!b.image && holds(b.text, b.text_size, member[3][1]));
    assert_int_equal(tic_index_sample(x, 0, 2, &ref), TIC_OK);
    assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_OK);
    assert_true(holds(b.text, b.text_size, "far") && holds(b.json, b.json_size, "apart") && holds(b.class_text, b.class_size, "7"));
    assert_int_equal(tic_index_sample(x, 0, 3, &ref), TIC_OK);
    assert_string_equal(tic_index_key(x, 0, &ref), "dir/b");
    assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_OK);
    assert_true(!b.json && holds(b.text, b.text_size, "behind it"));
    assert_int_equal(tic_index_sample(x, 0, 4, &ref), TIC_BAD_SAMPLE);
    tic_error_clear();
    tic_sample_bytes_free(&b);
    tic_index_close(x);
    tic_shards_clear(&list);
}

/* A shard that another took the place of, or that grew: never its bytes at the places of the old one. */
static void test_replaced(void **state)
{
    const char *const old[][2] = { { "a.jpg", "picture" }, { "a.txt", "caption" } };
    const char *const new[][2] = { { "a.jpg", "another" }, { "a.txt", "of those" } };
    for (int grown = 0; grown < 2; grown++) {
        TicShardList list = { 0 };
        TicIndex *x;
        TicSampleRef ref;
        TicSampleBytes b = { 0 };
        write_tar("r.tar", old, 2);
        assert_int_equal(tic_shards_add(&list, "r.tar"), TIC_OK);
        assert_int_equal(tic_index_open(&list, 1, (TicWarn){ 0 }, &x), TIC_OK);
        assert_int_equal(tic_index_sample(x, 0, 0, &ref), TIC_OK);
        assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_OK);
        if (grown) {
            assert_int_equal(truncate("r.tar", 1 << 20), 0);
        } else {
            write_tar("r.part", new, 2);
            assert_int_equal(utimensat(AT_FDCWD, "r.part", (struct timespec[2]){ { 1000, 0 }, { 1000, 0 } }, 0), 0);
            assert_int_equal(rename("r.part", "r.tar"), 0);
        }
        assert_int_equal(tic_index_read(x, 0, &ref, &b), TIC_IO);
        assert_non_null(strstr(tic_error(), "r.tar: the shard was replaced or written to while it was in use"));
        tic_error_clear();
        tic_sample_bytes_free(&b);
        tic_index_close(x);
        tic_shards_clear(&list);
    }
}

static void test_order(void **state)
{
    static const char *const rising[] = { "", "01", "1", "2", "10", "10a", "10b", "A", "a", "a01", "a1", "a1b", "a2", "a10", "ab", "b" };
    for (int i = 0; i < (int)TIC_LEN(rising); i++)
        for (int k = 0; k < (int)TIC_LEN(rising); k++) {
            int order = tic_natural_order(rising[i], rising[k]);
            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
        }
}

/* ---- the loader */

enum { B = 5, S = 16 };

/* PNGs by the smallest encoder there is: one stored block. */
static void big(FILE *f, uint32_t v)
{
    for (int i = 24; i >= 0; i -= 8)
        fputc((int)(v >> i & 255), f);
}

static uint32_t crc_of(const uint8_t *data, size_t n)
{
    uint32_t c = 0xffffffffu;
    for (size_t i = 0; i < n; i++) {
        c ^= data[i];
        for (int k = 0; k < 8; k++)
            c = c & 1 ? 0xedb88320u ^ c >> 1 : c >> 1;
    }
    return ~c;
}

static void chunk(FILE *f, const char *type, const uint8_t *data, size_t n)
{
    uint8_t all[4 + 4 * S * S];
    memcpy(all, type, 4);
    if (n)
        memcpy(all + 4, data, n);
    big(f, (uint32_t)n);
    fwrite(all, 1, n + 4, f);
    big(f, crc_of(all, n + 4));
}

/* S x S of one grey. Caller frees. */
static char *make_png(int grey, size_t *size)
{
    enum { ROWS = S * (S + 1) };
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    const uint8_t head[13] = { 0, 0, 0, S, 0, 0, 0, S, 8, 0, 0, 0, 0 };
    uint8_t z[2 + 5 + ROWS + 4] = { 0x78, 0x01, 1, ROWS & 255, ROWS >> 8, ~ROWS & 255, (uint8_t)(~ROWS >> 8) };
    uint32_t s1 = 1, s2 = 0;
    for (int i = 0; i < ROWS; i++) {
        z[7 + i] = (uint8_t)(i % (S + 1) ? grey : 0);
        s1 = (s1 + z[7 + i]) % 65521;
        s2 = (s2 + s1) % 65521;
    }
    for (int i = 0; i < 4; i++)
        z[7 + ROWS + i] = (uint8_t)((s2 << 16 | s1) >> (24 - 8 * i));
    fwrite("\x89PNG\r\n\x1a\n", 1, 8, f);
    chunk(f, "IHDR", head, sizeof head);
    chunk(f, "IDAT", z, sizeof z);
    chunk(f, "IEND", NULL, 0);
    fclose(f);
    return text;
}

/* A shard of `n` samples of one grey; grey < 0: of pictures that are none. */
static void grey_shard(TicShardList *list, const char *path, int grey, int n)
{
    size_t size = 6;
    char *png = grey < 0 ? tic_strdup("no png") : make_png(grey, &size), name[32];
    FILE *f = fopen(path, "wb");
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%s%d.png", grey < 0 ? "broken" : "grey", i);
        assert_int_equal(tic_tar_append(f, name, png, size), TIC_OK);
        snprintf(name, sizeof name, "%s%d.txt", grey < 0 ? "broken" : "grey", i);
        assert_int_equal(tic_tar_append(f, name, "a caption", 9), TIC_OK);
    }
    assert_int_equal(tic_tar_finish(f), TIC_OK);
    fclose(f);
    free(png);
    assert_int_equal(tic_shards_add(list, path), TIC_OK);
}

static TicLoader *open_loader(const TicLoaderSource *source, int n, TicBpe *bpe, int threads)
{
    TicLoaderConfig c;
    TicLoader *l;
    tic_loader_defaults(&c);
    c.sources = source;
    c.n_sources = n;
    c.bpe = bpe;
    c.batch = B;
    c.image_size = S;
    c.threads = threads;
    c.seed = 3;
    assert_int_equal(tic_loader_open(&c, &l), TIC_OK);
    return l;
}

/* Of B slots a source with share p has floor(p B) or ceil(p B), and p B on average. */
static void test_shares(void **state)
{
    enum { STEPS = 240 };
    static const int grey[3] = { 10, 100, 200 };
    static const double share[3] = { 0.25, 0.6, 0.15 };
    TicLoaderSource source[3];
    TicBpe *bpe;
    int total[3] = { 0 };
    uint8_t *bytes = tic_alloc(B * 3 * S * S);
    memset(source, 0, sizeof source);
    for (int i = 0; i < 3; i++) {
        char path[32];
        snprintf(path, sizeof path, "grey%d.tar", grey[i]);
        source[i].weight = 4 * share[i];
        grey_shard(&source[i].shards, path, grey[i], 3);
    }
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    TicLoader *l = open_loader(source, 3, bpe, 2);
    for (int s = 0; s < STEPS; s++) {
        int here[3] = { 0 };
        assert_int_equal(tic_loader_batch(l, s, (TicBatch){ .bytes = bytes }), TIC_OK);
        for (int k = 0; k < B; k++)
            for (int i = 0; i < 3; i++)
                here[i] += bytes[k * 3 * S * S] == grey[i];
        assert_int_equal(here[0] + here[1] + here[2], B);
        for (int i = 0; i < 3; i++) {
            assert_true(here[i] >= (int)floor(share[i] * B + 1e-9) && here[i] <= (int)ceil(share[i] * B - 1e-9));
            total[i] += here[i];
        }
    }
    for (int i = 0; i < 3; i++)          /* three standard deviations of how a slot is rounded */
        assert_true(fabs(total[i] - share[i] * B * STEPS) < 3 * 0.5 * sqrt(STEPS));
    tic_loader_close(l);
    for (int i = 0; i < 3; i++)
        tic_shards_clear(&source[i].shards);
    tic_bpe_close(bpe);
    free(bytes);
}

/* Which failure is told does not depend on who was first: that of the batch's first slot. */
static void test_failures(void **state)
{
    enum { STEPS = 12 };
    TicLoaderSource source = { .weight = 1 };
    TicBpe *bpe;
    char *said[STEPS];
    grey_shard(&source.shards, "broken.tar", -1, 40);
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    for (int threads = 1; threads <= 4; threads += 3) {
        TicLoader *l = open_loader(&source, 1, bpe, threads);
        for (int s = 0; s < STEPS; s++) {
            assert_int_equal(tic_loader_batch(l, s, (TicBatch){ 0 }), TIC_USER);
            assert_non_null(strstr(tic_error(), "no usable sample in 1000 draws"));
            if (threads == 1)
                said[s] = tic_strdup(tic_error());
            else
                assert_string_equal(tic_error(), said[s]);
            tic_error_clear();
        }
        tic_loader_close(l);
    }
    for (int s = 0; s < STEPS; s++)
        free(said[s]);
    tic_shards_clear(&source.shards);
    tic_bpe_close(bpe);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers), cmocka_unit_test(test_sparse), cmocka_unit_test(test_sizes), ROOM(test_samples),
        ROOM(test_replaced), cmocka_unit_test(test_order), ROOM(test_shares), ROOM(test_failures),
    };
    return cmocka_run_group_tests_name("shards", tests, NULL, NULL);
}
