/* rt_image.c -- pictures made to be expensive: a small JPEG that announces many progressive scans of a large picture, or
 * far more pixels than it has bytes for (put together by hand, for no encoder writes them); sizes at the edges; and what is
 * done faster than in the plainest way, against that: parts of pictures, the vector forms of resizing, smaller decoding. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/picture.h"
#include "data/resize_impl.h"
#include "device/machine.h"

typedef struct { uint8_t *at; size_t n; } Bytes;

static void put(Bytes *b, const char *bytes, size_t n)
{
    memcpy(b->at + b->n, bytes, n);
    b->n += n;
}
#define PUT(b, literal) put(b, literal, sizeof literal - 1)

static void put_same(Bytes *b, int value, size_t n)
{
    memset(b->at + b->n, value, n);
    b->n += n;
}

/* A grey picture of side x side pixels (a multiple of 1024) in one scan of DC coefficients, all 0, and `scans` - 1 scans
 * that say of all other coefficients that they are 0. Each Huffman table has one code, the bit 0: "no difference" and
 * "2^14 blocks are at their end" (14 more bits: and none more). */
static Bytes progressive(int side, int scans)
{
    size_t blocks = (size_t)side / 8 * ((size_t)side / 8);
    Bytes b = { tic_alloc(1000 + blocks / 8 + (size_t)scans * (16 + blocks / 8192)), 0 };
    const char size[4] = { (char)(side >> 8), (char)side, (char)(side >> 8), (char)side };
    PUT(&b, "\xff\xd8\xff\xdb\0\x43\0");
    put_same(&b, 1, 64);
    PUT(&b, "\xff\xc2\0\x0b\x08");
    put(&b, size, 4);
    PUT(&b, "\1\1\x11\0\xff\xc4\0\x14\0\1");
    put_same(&b, 0, 15);
    PUT(&b, "\0\xff\xc4\0\x14\x10\1");
    put_same(&b, 0, 15);
    PUT(&b, "\xe0\xff\xda\0\x08\1\1\0\0\0\0");
    put_same(&b, 0, blocks / 8);
    for (int i = 1; i < scans; i++) {
        PUT(&b, "\xff\xda\0\x08\1\1\0\1\x3f\0");
        put_same(&b, 0, (blocks / 16384 * 15 + 7) / 8);
    }
    PUT(&b, "\xff\xd9");
    return b;
}

static void test_many_scans(void **state)
{
    static const struct { int side, scans; bool fine; } cases[] = {
        { 1024, TIC_MAX_SCANS, true }, { 1024, TIC_MAX_SCANS + 1, false }, { 4096, 3, true }, { 4096, 140, false },
    };
    TicImage image = { 0 };
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        Bytes b = progressive(cases[i].side, cases[i].scans);
        TicStatus status = tic_image_decode(b.at, b.n, &image);
        assert_string_equal(tic_error(), cases[i].fine ? "" : "JPEG: too many progressive scans");
        assert_int_equal(status, cases[i].fine ? TIC_OK : TIC_BAD_SAMPLE);
        if (cases[i].fine)
            assert_int_equal(image.pixels[3 * 1000 * 1000], 128);
        tic_error_clear();
        free(b.at);
    }
    tic_image_free(&image);
}

/* A JPEG of this size, one colour; its header says `says` x `says` when that is not 0. */
static Bytes plain(int width, int height, int says)
{
    uint8_t *rgb = tic_alloc((size_t)width * (size_t)height * 3);
    Bytes b = { 0 };
    memset(rgb, 200, (size_t)width * (size_t)height * 3);
    assert_int_equal(tic_jpeg_encode(rgb, width, height, 90, &b.at, &b.n), TIC_OK);
    free(rgb);
    for (size_t i = 0; says && i + 9 < b.n; i++)
        if (b.at[i] == 0xff && b.at[i + 1] == 0xc0) {        /* marker, 2 of length, precision, height, width */
            b.at[i + 5] = b.at[i + 7] = (uint8_t)(says >> 8);
            b.at[i + 6] = b.at[i + 8] = (uint8_t)says;
            break;
        }
    return b;
}

static void test_sizes(void **state)
{
    static const struct { int width, height; } fine[] = { { 1, 1 }, { 1, 700 }, { 20000, 1 }, { 20000, 30 }, { 7, 65000 } };
    TicImage image = { 0 };
    TicResizer *resizer = tic_resizer_new();
    uint8_t planes[3 * 16 * 16];
    for (size_t i = 0; i < TIC_LEN(fine); i++) {
        Bytes b = plain(fine[i].width, fine[i].height, 0);
        assert_int_equal(tic_image_decode(b.at, b.n, &image), TIC_OK);
        assert_true(image.width == fine[i].width && image.height == fine[i].height);
        memset(planes, 0, sizeof planes);
        tic_resize_centre(resizer, &image, 16, planes);
        for (size_t k = 0; k < sizeof planes; k++)
            assert_true(planes[k] >= 199 && planes[k] <= 201);
        free(b.at);
    }
    tic_resizer_free(resizer);
    tic_image_free(&image);
}

static void test_bomb(void **state)
{
    TicImage image = { 0 };
    Bytes b = plain(64, 64, 20000);
    int64_t before = tic_memory_peak();
    assert_int_equal(tic_image_decode(b.at, b.n, &image), TIC_BAD_SAMPLE);
    assert_string_equal(tic_error(), "image of 20000 x 20000 pixels, at most 67108864 in all wanted");
    tic_error_clear();
    assert_true(tic_memory_peak() - before < 16 << 20);
    free(b.at);
    tic_image_free(&image);
}

/* ---- faster ways */

/* Waves and noise: every pixel tells where it is from. */
static TicImage scene(int width, int height, unsigned noise, uint64_t seed)
{
    TicImage image = { 0 };
    assert_int_equal(tic_image_reserve(&image, (uint32_t)width, (uint32_t)height), TIC_OK);
    for (int i = 0; i < width * height; i++) {
        TicRandom4 r = tic_philox(seed, (uint64_t)i, 0);
        for (int c = 0; c < 3; c++) {
            int slope = ((i % width) * (c + 1) / 2 + (i / width) * (3 - c) / 2 + (int)(r.v[c] % noise)) % 510;
            image.pixels[3 * i + c] = (uint8_t)(slope > 255 ? 510 - slope : slope);
        }
    }
    return image;
}

static TicBox random_box(TicRandom *r, int width, int height)
{
    TicBox b = { .width = 1 + (int)tic_random_below(r, width), .height = 1 + (int)tic_random_below(r, height) };
    b.x = (int)tic_random_below(r, width - b.width + 1);
    b.y = (int)tic_random_below(r, height - b.height + 1);
    return b;
}

static void test_forms(void **state)
{
    static const struct { int width, height, size; } cases[] = {
        { 512, 384, 224 }, { 225, 700, 224 }, { 1500, 40, 32 }, { 20, 19, 64 }, { 3, 5, 7 }, { 640, 480, 21 }, { 16, 16, 1 },
    };
    const TicResizeForm *form[2];
    int forms = tic_resize_forms(form);
    TicRandom r = tic_random(5, 6, 7);
    TicResizer *plain = tic_resizer_new(), *fast = tic_resizer_new();
    tic_resizer_use(plain, NULL);
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        TicImage image = scene(cases[i].width, cases[i].height, 60, i);
        size_t n = 3 * (size_t)cases[i].size * (size_t)cases[i].size;
        uint8_t *want = tic_alloc(n), *got = tic_alloc(n);
        for (int k = 0; k < 24; k++) {
            TicView v = k ? tic_view_box(random_box(&r, image.width, image.height), cases[i].size)
                          : tic_view_centre(image.width, image.height, cases[i].size);
            tic_resize(plain, &image, &v, want);
            for (int f = 0; f < forms; f++) {
                tic_resizer_use(fast, form[f]);
                tic_resize(fast, &image, &v, got);
                assert_memory_equal(got, want, n);
            }
        }
        free(want);
        free(got);
        tic_image_free(&image);
    }
    tic_resizer_free(plain);
    tic_resizer_free(fast);
}

static TicBox answer(void *user, int width, int height) { return *(const TicBox *)user; }

/* Whole or in part: the same refusals, and the same pixels in the box; also of damaged and cut files. */
static void test_parts(void **state)
{
    TicImage drawn = scene(333, 211, 60, 1), whole = { 0 }, part = { 0 };
    TicRandom r = tic_random(8, 9, 10);
    uint8_t *file;
    size_t n;
    int refused = 0;
    assert_int_equal(tic_jpeg_encode(drawn.pixels, drawn.width, drawn.height, 85, &file, &n), TIC_OK);
    uint8_t *damaged = tic_alloc(n);
    for (int i = 0; i < 200; i++) {
        size_t bytes = i % 4 == 3 ? (size_t)tic_random_below(&r, (int64_t)n) : n;
        memcpy(damaged, file, n);
        for (int k = 0; k < i % 4; k++)
            damaged[600 + tic_random_below(&r, (int64_t)n - 600)] = (uint8_t)tic_random_below(&r, 256);
        TicStatus status = tic_image_decode(damaged, bytes, &whole);
        char *why = tic_strdup(tic_error());
        tic_error_clear();
        TicBox box = random_box(&r, drawn.width, drawn.height);
        const TicWanted wanted = { answer, NULL, &box };
        if (part.pixels)
            memset(part.pixels, i, part.room);
        assert_int_equal(tic_image_decode_wanted(damaged, bytes, &wanted, &part), status);
        assert_string_equal(tic_error(), why);
        tic_error_clear();
        free(why);
        refused += status != TIC_OK;
        for (int y = box.y; !status && y < box.y + box.height; y++) {
            size_t from = ((size_t)y * (size_t)whole.width + (size_t)box.x) * 3;
            assert_memory_equal(part.pixels + from, whole.pixels + from, (size_t)box.width * 3);
        }
    }
    assert_true(refused > 20 && refused < 180);
    free(damaged);
    free(file);
    tic_image_free(&drawn);
    tic_image_free(&whole);
    tic_image_free(&part);
}

/* On average, of 255. */
static double difference(const uint8_t *a, const uint8_t *b, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += abs(a[i] - b[i]);
    return sum / (double)n;
}

/* Half, quarter or eighth, as far as the box keeps as many pixels as the square; nearly the same square. */
static void test_scaled(void **state)
{
    static const struct { int width, height, size, comes; } cases[] = {
        { 640, 512, 224, 320 }, { 447, 512, 224, 447 }, { 448, 512, 224, 224 }, { 640, 512, 128, 160 }, { 641, 513, 60, 81 },
    };
    const TicCrop all = { 1, 1, 1, 1.0001 };
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        int size = cases[i].size;
        size_t n = 3 * (size_t)size * (size_t)size;
        TicImage drawn = scene(cases[i].width, cases[i].height, 8, i);
        uint8_t *exact = tic_alloc(n), *scaled = tic_alloc(n);
        uint8_t *file;
        size_t bytes;
        TicPicture p;
        assert_int_equal(tic_jpeg_encode(drawn.pixels, drawn.width, drawn.height, 95, &file, &bytes), TIC_OK);
        tic_picture_init(&p, size);
        assert_int_equal(tic_picture_square(&p, file, bytes, NULL, tic_random(1, 0, 0), exact), TIC_OK);
        assert_int_equal(p.image.width, cases[i].width);
        p.scaled = true;
        assert_int_equal(tic_picture_square(&p, file, bytes, NULL, tic_random(1, 0, 0), scaled), TIC_OK);
        assert_int_equal(p.image.width, cases[i].comes);
        assert_true(difference(exact, scaled, n) < 4);
        assert_int_equal(tic_picture_square(&p, file, bytes, &all, tic_random(1, 0, 0), scaled), TIC_OK);
        p.scaled = false;
        assert_int_equal(tic_picture_square(&p, file, bytes, &all, tic_random(1, 0, 0), exact), TIC_OK);
        assert_true(difference(exact, scaled, n) < 4);
        tic_picture_free(&p);
        free(exact);
        free(scaled);
        free(file);
        tic_image_free(&drawn);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_many_scans), cmocka_unit_test(test_sizes), cmocka_unit_test(test_bomb),
                                        cmocka_unit_test(test_forms), cmocka_unit_test(test_parts), cmocka_unit_test(test_scaled) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
