/* rt_data.c -- shards to batches: tar damage, captions to tokens, Pillow's resampling, and a loader whose batches depend
 * on nothing but the seed and the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/loader.h"
#include "data/tar.h"

/* A 23 x 17 picture by formula, and what Pillow 10's BICUBIC makes of it: box (3, 2, 18 x 13) to 5 x 5; box (3, 2, 4 x 3)
 * to 6 x 6; shortest side to 6 and the central square. Planes. */
static const uint8_t BOX[] = {
    125, 127, 129, 130, 134, 132, 122, 136, 125, 140, 137, 128, 138, 132, 141, 125, 127, 126, 131, 126, 120, 108, 112, 90,
    121, 108, 142, 116, 145, 116, 131, 171, 132, 143, 139, 108, 127, 94, 111, 89, 115, 120, 118, 126, 122, 147, 128, 148,
    133, 152, 129, 109, 128, 112, 107, 94, 116, 96, 118, 97, 106, 124, 109, 126, 109, 146, 125, 121, 129, 119, 159, 118,
    155, 122, 165,
};
static const uint8_t UP[] = {
    100, 83, 78, 125, 185, 224, 115, 112, 120, 153, 167, 169, 145, 174, 208, 214, 129, 51, 120, 152, 192, 202, 109, 22,
    43, 49, 72, 120, 109, 85, 7, 0, 15, 81, 110, 115, 152, 146, 158, 218, 100, 0, 171, 140, 117, 161, 84, 14,
    212, 125, 31, 39, 50, 61, 187, 103, 13, 23, 69, 107, 100, 76, 67, 115, 140, 148, 58, 64, 92, 158, 173, 167,
    229, 211, 210, 255, 153, 31, 167, 164, 173, 214, 137, 57, 38, 63, 96, 94, 103, 111, 13, 41, 78, 78, 122, 161,
    96, 101, 123, 169, 193, 201, 135, 129, 144, 211, 226, 220,
};
static const uint8_t CENTRE[] = {
    130, 125, 130, 132, 128, 136, 121, 124, 121, 129, 125, 129, 148, 119, 147, 133, 133, 151, 124, 134, 120, 138, 127, 132,
    104, 130, 99, 123, 104, 116, 110, 150, 115, 126, 120, 120, 133, 119, 141, 125, 139, 137, 122, 151, 151, 119, 160, 127,
    126, 140, 152, 100, 134, 108, 112, 110, 113, 99, 116, 103, 144, 116, 155, 124, 142, 148, 136, 150, 124, 159, 133, 137,
    154, 141, 134, 136, 145, 114, 99, 127, 95, 128, 110, 103, 82, 131, 91, 114, 119, 93, 122, 131, 120, 118, 136, 112,
    160, 121, 126, 141, 114, 149, 161, 133, 151, 154, 136, 169,
};

static TicImage picture(int w, int h)
{
    TicImage image = { .width = w, .height = h, .pixels = tic_alloc((size_t)(3 * w * h)), .room = (size_t)(3 * w * h) };
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < 3; c++)
                image.pixels[(y * w + x) * 3 + c] = (uint8_t)((x * 37 + y * 91 + c * 53 + (x * y) % 7 * 11) % 256);
    return image;
}

static void test_resize(void **state)
{
    TicImage image = picture(23, 17);
    TicResizer *z = tic_resizer_new();
    uint8_t planes[3 * 36];
    tic_resize_box(z, &image, (TicBox){ 3, 2, 18, 13 }, 5, planes);
    assert_memory_equal(planes, BOX, sizeof BOX);
    tic_resize_box(z, &image, (TicBox){ 3, 2, 4, 3 }, 6, planes);
    assert_memory_equal(planes, UP, sizeof UP);
    tic_resize_centre(z, &image, 6, planes);
    assert_memory_equal(planes, CENTRE, sizeof CENTRE);
    tic_resizer_free(z);
    tic_image_free(&image);
}

static void test_crop(void **state)
{
    const TicCrop rule = { 0.9, 1, 3.0 / 4, 4.0 / 3 };
    for (int w = 1; w < 400; w += 37)
        for (int h = 1; h < 400; h += 29)
            for (int seed = 0; seed < 20; seed++) {
                TicRandom r = tic_random((uint64_t)seed, 1, 2);
                TicBox b = tic_crop_box(w, h, rule, &r);
                assert_true(b.x >= 0 && b.y >= 0 && b.width > 0 && b.height > 0 && b.x + b.width <= w && b.y + b.height <= h);
            }
    TicRandom r = tic_random(1, 2, 3);           /* far from square: always the central crop of ratio 4/3 */
    TicBox b = tic_crop_box(400, 100, rule, &r);
    assert_int_equal(b.width, 133);
    assert_int_equal(b.height, 100);
    assert_int_equal(b.x, 133);
}

static void test_tar(void **state)
{
    char path[] = "/tmp/tic_tar_XXXXXX", *data;
    size_t size;
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "wb");
    char name[300];
    memset(name, 'n', sizeof name);
    strcpy(name + 280, ".jpg");
    assert_int_equal(tic_tar_append(f, "a/1.txt", "hello", 5), TIC_OK);
    assert_int_equal(tic_tar_append(f, name, "picture", 7), TIC_OK);
    assert_int_equal(tic_tar_append(f, "b.json", "", 0), TIC_OK);
    assert_int_equal(tic_tar_finish(f), TIC_OK);
    fclose(f);
    assert_int_equal(tic_read_file(path, 1 << 20, &data, &size), TIC_OK);
    unlink(path);
    for (size_t cut = 0; cut <= size; cut++) {   /* cut anywhere: whole members before it, never a crash */
        char *part = tic_alloc(cut + 1);
        memcpy(part, data, cut);
        TicTar *t = tic_tar_open_memory(part, cut);
        TicTarMember m;
        int n = 0;
        TicStatus status;
        while (!(status = tic_tar_next(t, &m))) {
            assert_true(m.offset >= 0 && (size_t)(m.offset + m.size) <= cut);
            assert_string_equal(m.name, n == 0 ? "a/1.txt" : n == 1 ? name : "b.json");
            n++;
        }
        assert_int_equal(status, TIC_END);
        if (cut == size) {
            assert_int_equal(n, 3);
            assert_null(tic_tar_damage(t));
        }
        tic_tar_close(t);
        free(part);
    }
    data[100] ^= 1;                              /* a wrong checksum */
    TicTar *t = tic_tar_open_memory(data, size);
    TicTarMember m;
    assert_int_equal(tic_tar_next(t, &m), TIC_END);
    assert_non_null(tic_tar_damage(t));
    tic_tar_close(t);
    free(data);
    size_t key;
    const char *ext;
    assert_true(tic_tar_key("dir.x/abc.seg.png", &key, &ext));
    assert_int_equal(key, 9);
    assert_string_equal(ext, "seg.png");
    assert_false(tic_tar_key("__x__", &key, &ext));
    assert_false(tic_tar_key("noextension", &key, &ext));
}

static void expect_tokens(TicBpe *b, const char *text, const int *ids, int n)
{
    int32_t tokens[77];
    assert_int_equal(tic_bpe_encode(b, text, strlen(text), 77, tokens), n + 2);
    assert_int_equal(tokens[0], 49406);
    for (int i = 0; i < n; i++)
        assert_int_equal(tokens[i + 1], ids[i]);
    assert_int_equal(tokens[n + 1], 49407);
    for (int i = n + 2; i < 77; i++)
        assert_int_equal(tokens[i], 0);
}

static void test_tokens(void **state)            /* vectors computed with OpenCLIP's tokenizer */
{
    const char *root = getenv("TICC_ROOT");
    char path[4096];
    snprintf(path, sizeof path, "%s/../shared/data/bpe_simple_vocab_16e6.txt.gz", root ? root : ".");
    if (access(path, R_OK)) {
        fprintf(stderr, "# skipped: the CLIP vocabulary is not at hand\n");
        skip();
    }
    TicBpe *b;
    assert_int_equal(tic_bpe_open(path, &b), TIC_OK);
    assert_false(tic_bpe_is_fallback(b));
#define T(text, ...) do { const int ids[] = { __VA_ARGS__ }; expect_tokens(b, text, ids, (int)TIC_LEN(ids)); } while (0)
    T("a photo of a cat.", 320, 1125, 539, 320, 2368, 269);
    T("Hello World!! 123", 3306, 1002, 748, 272, 273, 274);
    T("it's   the cat&amp;dog", 585, 568, 518, 2368, 261, 1929);
    T("na\303\257ve caf\303\251", 1097, 35689, 563, 15304);
    T("\346\227\245\346\234\254\350\252\236 \360\237\216\211", 39121, 44353, 34002, 508, 3986);
    T("a diagram", 320, 22697);
    T("DON'T", 847, 713);
    T("<end_of_text> x", 49407, 343);
#undef T
    char longer[10001];
    memset(longer, 'w', 10000);
    for (int i = 0; i < 10000; i += 5)
        longer[i] = ' ';
    longer[10000] = 0;
    int32_t tokens[77];
    assert_int_equal(tic_bpe_encode(b, longer, 10000, 77, tokens), 77);
    assert_int_equal(tokens[76], 49407);
    tic_bpe_close(b);
}

static void test_fallback(void **state)
{
    TicBpe *b;
    assert_int_equal(tic_bpe_open(NULL, &b), TIC_OK);
    assert_true(tic_bpe_is_fallback(b));
    expect_tokens(b, "a!", (const int[]){ 320, 256 }, 2);    /* the base alphabet keeps its numbers */
    expect_tokens(b, "", NULL, 0);
    tic_bpe_close(b);
    char nowhere[] = "/tmp/tic_bpe_XXXXXX", path[64];
    assert_non_null(mkdtemp(nowhere));
    snprintf(path, sizeof path, "%s/vocab.gz", nowhere);
    assert_int_equal(tic_bpe_open(path, &b), TIC_USER);
    assert_non_null(strstr(tic_error(), path));
    tic_error_clear();
    rmdir(nowhere);
}

/* ---- the loader over shards that `ticdata synth` draws */

static char pool[64];

static int draw(void **state)
{
    const char *tool = getenv("TICDATA");
    char command[4200];
    strcpy(pool, "/tmp/tic_pool_XXXXXX");
    if (!mkdtemp(pool))
        return -1;
    snprintf(command, sizeof command, "'%s' synth --out %s/p --samples-per-year 30 --eval-samples 12 --years 2014..2015 >/dev/null",
             tool ? tool : "build/release/ticdata", pool);
    return system(command);
}

static int sweep(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", pool);
    return system(command);
}

enum { B = 5, S = 16 };
typedef struct { float pixels[B * 3 * S * S]; int32_t tokens[B * 77]; } Batch;

static TicBatch to(Batch *b) { return (TicBatch){ .pixels = b->pixels, .tokens = b->tokens }; }

/* pieces > 1: each batch in so many of them, twice */
static TicLoader *loader(int threads, bool replacement, uint64_t seed, TicBpe *bpe, int pieces)
{
    TicShardList list = { 0 };
    TicLoader *l;
    char root[80];
    snprintf(root, sizeof root, "%s/p", pool);
    assert_int_equal(tic_shards_for_years(&list, root, (const int[]){ 2014, 2015 }, 2), TIC_OK);
    TicLoaderSource source = { .shards = list, .weight = 1, .name = "both" };
    TicLoaderConfig c;
    tic_loader_defaults(&c);
    c.sources = &source;
    c.n_sources = 1;
    c.bpe = bpe;
    c.batch = B / pieces;
    c.pieces = pieces;
    c.passes = pieces > 1 ? 2 : 1;
    c.image_size = S;
    c.threads = threads;
    c.with_replacement = replacement;
    c.seed = seed;
    assert_int_equal(tic_loader_open(&c, &l), TIC_OK);
    assert_int_equal(tic_loader_samples(l, -1), 60);
    tic_shards_clear(&list);
    return l;
}

static void test_loader(void **state)
{
    TicBpe *bpe;
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    Batch *one = tic_alloc(6 * sizeof *one), *other = tic_alloc(sizeof *other);
    TicLoader *l = loader(1, true, 7, bpe, 1);
    for (int s = 0; s < 6; s++)
        assert_int_equal(tic_loader_batch(l, s, to(&one[s])), TIC_OK);
    tic_loader_close(l);
    assert_memory_not_equal(&one[0], &one[1], sizeof *one);
    l = loader(3, true, 7, bpe, 1);
    static const int order[] = { 4, 0, 1, 5, 2, 3, 3 };      /* jumps, repeats, more threads: the same batches */
    for (size_t i = 0; i < TIC_LEN(order); i++) {
        assert_int_equal(tic_loader_batch(l, order[i], to(other)), TIC_OK);
        assert_memory_equal(other, &one[order[i]], sizeof *other);
    }
    tic_loader_close(l);
    l = loader(2, true, 8, bpe, 1);
    assert_int_equal(tic_loader_batch(l, 0, to(other)), TIC_OK);
    assert_memory_not_equal(other, &one[0], sizeof *other);
    tic_loader_close(l);
    free(one);
    free(other);
    tic_bpe_close(bpe);
}

/* What comes in 8 bits is what the pixels were made of, bit by bit; what is not wanted is left alone. */
static void test_forms(void **state)
{
    TicBpe *bpe;
    TicLoaderConfig defaults;
    float table[3][256];
    enum { PLANE = S * S };
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    tic_loader_defaults(&defaults);
    tic_normalise_table(defaults.mean, defaults.std, table);
    Batch *b = tic_alloc(sizeof *b);
    uint8_t *bytes = tic_alloc(sizeof b->pixels / sizeof *b->pixels);
    TicLoader *l = loader(2, true, 7, bpe, 1);
    assert_int_equal(tic_loader_batch(l, 3, to(b)), TIC_OK);
    assert_int_equal(tic_loader_batch(l, 3, (TicBatch){ .bytes = bytes }), TIC_OK);
    for (int i = 0; i < B * 3 * PLANE; i++) {
        float again = (((float)bytes[i] / 255.0f) - defaults.mean[i / PLANE % 3]) / defaults.std[i / PLANE % 3];
        assert_memory_equal(&table[i / PLANE % 3][bytes[i]], &b->pixels[i], sizeof(float));
        assert_memory_equal(&again, &b->pixels[i], sizeof(float));
    }
    assert_int_equal(tic_loader_batch(l, 4, (TicBatch){ 0 }), TIC_OK);
    tic_loader_close(l);
    free(bytes);
    free(b);
    tic_bpe_close(bpe);
}

/* Without replacement a pass of 60 samples is 12 batches, in which no picture comes twice. */
static void test_pass(void **state)
{
    TicBpe *bpe;
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    TicLoader *l = loader(2, false, 7, bpe, 1);
    uint64_t seen[60];
    Batch *b = tic_alloc(sizeof *b);
    for (int s = 0; s < 12; s++) {
        assert_int_equal(tic_loader_batch(l, s, to(b)), TIC_OK);
        for (int i = 0; i < B; i++) {
            uint64_t h = tic_hash(b->pixels + i * 3 * S * S, 3 * S * S * sizeof(float), 0);
            for (int k = 0; k < s * B + i; k++)
                assert_true(seen[k] != h);
            seen[s * B + i] = h;
        }
    }
    tic_loader_close(l);
    free(b);
    tic_bpe_close(bpe);
}

/* Pieces of one sample, each batch twice: the batch's own samples in their places, counted once. */
static void test_pieces(void **state)
{
    TicBpe *bpe;
    TicLoaderStats stats;
    enum { STEPS = 3, IMAGE = 3 * S * S };
    assert_int_equal(tic_bpe_open(NULL, &bpe), TIC_OK);
    for (int replacement = 0; replacement < 2; replacement++) {
        Batch *whole = tic_alloc(sizeof *whole), *part = tic_alloc(sizeof *part);
        TicLoader *l = loader(2, replacement, 7, bpe, 1), *pieces = loader(3, replacement, 7, bpe, B);
        for (int s = 0; s < STEPS; s++) {
            assert_int_equal(tic_loader_batch(l, s, to(whole)), TIC_OK);
            for (int unit = s * 2 * B; unit < (s + 1) * 2 * B; unit++) {
                int slot = unit % B;
                assert_int_equal(tic_loader_batch(pieces, unit, to(part)), TIC_OK);
                assert_memory_equal(part->pixels, whole->pixels + slot * IMAGE, IMAGE * sizeof(float));
                assert_memory_equal(part->tokens, whole->tokens + slot * 77, 77 * sizeof(int32_t));
            }
        }
        tic_loader_stats(pieces, &stats);
        assert_int_equal(stats.delivered, STEPS * B);
        tic_loader_close(l);
        tic_loader_close(pieces);
        free(whole);
        free(part);
    }
    tic_bpe_close(bpe);
}

static void test_samples(void **state)
{
    char root[80];
    snprintf(root, sizeof root, "%s/p", pool);
    uint64_t first[2] = { 0, 0 };
    for (int threads = 1; threads <= 3; threads += 2) {
        TicSamplesConfig c = { .image_size = S, .threads = threads };
        TicSamples *s;
        TicSample sample;
        assert_int_equal(tic_shards_for_eval(&c.shards, root, "retrieval", 2015, NULL), TIC_OK);
        assert_int_equal(tic_samples_open(&c, &s), TIC_OK);
        int n = 0;
        TicStatus status;
        while (!(status = tic_samples_next(s, &sample))) {
            assert_true(sample.has_caption && sample.caption_size > 0 && strlen(sample.uid) == 32);
            first[threads > 1] = tic_hash(sample.planes, 3 * S * S, first[threads > 1]);
            first[threads > 1] = tic_hash(sample.caption, sample.caption_size, first[threads > 1]);
            n++;
        }
        assert_int_equal(status, TIC_END);
        assert_int_equal(n, 12);
        tic_samples_close(s);
        tic_shards_clear(&c.shards);
    }
    assert_true(first[0] == first[1]);
}

static void test_shards(void **state)
{
    TicShardList list = { 0 };
    char spec[256];
    snprintf(spec, sizeof spec, "%s/p/train/{2014,2015}/00000000.tar::%s/p/train/2014", pool, pool);
    assert_int_equal(tic_shards_add(&list, spec), TIC_OK);
    assert_int_equal(list.count, 3);
    snprintf(spec, sizeof spec, "%s/p/train/2014/{00000000..00000005}.tar", pool);
    assert_int_equal(tic_shards_add(&list, spec), TIC_USER);
    assert_non_null(strstr(tic_error(), "00000001.tar"));
    tic_error_clear();
    assert_int_equal(list.count, 3);
    tic_shards_clear(&list);
    assert_int_equal(tic_shards_for_years(&list, pool, (const int[]){ 1999 }, 1), TIC_USER);
    assert_non_null(strstr(tic_error(), "1999"));
    tic_error_clear();
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_resize), cmocka_unit_test(test_crop), cmocka_unit_test(test_tar), cmocka_unit_test(test_tokens),
        cmocka_unit_test(test_fallback), cmocka_unit_test(test_loader), cmocka_unit_test(test_forms), cmocka_unit_test(test_pass), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests_name("data", tests, draw, sweep);
}
