/* rt_pictures.c -- picture files of every kind, against Pillow's pixels and OpenCLIP's validation transform;
 * tests/parity/make_pictures.py says what the fixture holds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/native.h"
#include "data/picture.h"

enum { SIDE = 224, PLANES = 3 * SIDE * SIDE };

static const uint8_t *at;

static uint64_t number(int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)*at++ << (8 * i);
    return v;
}

static float real(void)
{
    uint32_t bits = (uint32_t)number(4);
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

static int check(const char *name, const char *what, uint64_t got, uint64_t want)
{
    if (got != want)
        fprintf(stderr, "# %s: %s differ\n", name, what);
    return got != want;
}

static TicBox answer(void *user, int width, int height) { return *(const TicBox *)user; }

/* Decoded for some box only: the box is as in the whole picture. */
static int check_parts(const char *name, const uint8_t *file, size_t n, const TicImage *whole)
{
    TicImage part = { 0 };
    TicRandom r = tic_random(3, 1, 4);
    int wrong = 0;
    for (int i = 0; i < 40; i++) {
        TicBox box;
        box.width = 1 + (int)tic_random_below(&r, whole->width);
        box.height = 1 + (int)tic_random_below(&r, whole->height);
        box.x = (int)tic_random_below(&r, whole->width - box.width + 1);
        box.y = (int)tic_random_below(&r, whole->height - box.height + 1);
        const TicWanted wanted = { answer, NULL, &box };
        if (part.pixels)
            memset(part.pixels, 77, part.room);
        assert_int_equal(tic_image_decode_wanted(file, n, &wanted, &part), TIC_OK);
        bool same = part.width == whole->width && part.height == whole->height;
        for (int y = box.y; same && y < box.y + box.height; y++) {
            size_t from = ((size_t)y * (size_t)whole->width + (size_t)box.x) * 3;
            same = !memcmp(part.pixels + from, whole->pixels + from, (size_t)box.width * 3);
        }
        wrong += check(name, "pixels of a part", same, true);
    }
    tic_image_free(&part);
    return wrong;
}

/* As a shard's picture is read, for validation. */
static int check_square(TicPicture *p, const char *name, const uint8_t *file, size_t n, const uint8_t *want)
{
    uint8_t *x = tic_alloc(PLANES);
    assert_int_equal(tic_picture_square(p, file, n, NULL, tic_random(0, 0, 0), x), TIC_OK);
    int wrong = check(name, "the square of a part", (uint64_t)!memcmp(x, want, PLANES), true);
    free(x);
    return wrong;
}

static void test_pictures(void **state)
{
    char *data;
    size_t size;
    assert_int_equal(tic_read_file("tests/parity/data/pictures.bin", 1 << 24, &data, &size), TIC_OK);
    const float mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f }, std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };
    float table[3][256], *x = tic_alloc(PLANES * sizeof *x);
    uint8_t *planes = tic_alloc(PLANES);
    TicResizer *z = tic_resizer_new();
    int count = 0, wrong = 0;
    TicPicture picture;
    tic_normalise_table(mean, std, table);
    tic_picture_init(&picture, SIDE);
    for (at = (const uint8_t *)data; at < (const uint8_t *)data + size; count++) {
        char name[256] = "";
        size_t n = number(1);
        memcpy(name, at, n);
        at += n;
        n = number(4);
        const uint8_t *file = at;
        at += n;
        uint32_t width = (uint32_t)number(4), height = (uint32_t)number(4);
        uint64_t pixels = number(8), square = number(8), of_rgb = number(8);
        TicImage image = { 0 };
        TicNative native = { 0 };
        if (tic_image_decode(file, n, &image) || tic_native_decode(file, n, &native))
            fail_msg("%s: %s", name, tic_error());
        assert_int_equal(image.width, width);
        assert_int_equal(image.height, height);
        wrong += check(name, "the pixels", tic_hash(image.pixels, (size_t)width * height * 3, 0), pixels);
        tic_resize_centre(z, &image, SIDE, planes);
        wrong += check(name, "the square of the RGB picture", tic_hash(planes, PLANES, 0), of_rgb);
        wrong += check_square(&picture, name, file, n, planes);
        wrong += check_parts(name, file, n, &image);
        tic_native_square(z, &native, SIDE, planes);
        bool gap = !strcmp(name, "png grey of 16 bits");         /* Pillow resizes 16 bits as such; here they are clipped first */
        wrong += !gap && check(name, "the square of the opened file", tic_hash(planes, PLANES, 0), square);
        tic_normalise(table, planes, (size_t)SIDE * SIDE, x);
        for (int c = 0; c < 3; c++)
            if (!(fabsf(x[(c * SIDE + SIDE / 2) * SIDE + SIDE / 2] - real()) <= 1e-6f) && !gap)
                wrong += check(name, "normalised values", 0, 1);
        tic_image_free(&image);
        tic_native_free(&native);
    }
    tic_picture_free(&picture);
    tic_resizer_free(z);
    free(planes);
    free(x);
    free(data);
    assert_int_equal(count, 34);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const char *root = getenv("TICC_ROOT");
    if (root && chdir(root))
        return 1;
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_pictures) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("pictures", tests, NULL, NULL);
}
