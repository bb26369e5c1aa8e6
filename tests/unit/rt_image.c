/* rt_image.c -- pictures made to be expensive: a small JPEG that announces many progressive scans of a large picture, or
 * far more pixels than it has bytes for (put together by hand, for no encoder writes them); and sizes at the edges. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/image.h"
#include "data/resize.h"
#include "device/memory.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_many_scans), cmocka_unit_test(test_sizes), cmocka_unit_test(test_bomb) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("image", tests, NULL, NULL);
}
