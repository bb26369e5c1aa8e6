/* native.c -- see native.h, and image.h: which decoder a file goes to. */
#include "data/native.h"
#include <stdlib.h>
#include <string.h>

static TicStatus decode(const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image, TicNative *native)
{
    if (size >= 3 && !memcmp(data, "\xFF\xD8\xFF", 3))
        return tic_jpeg_decode_native(data, size, wanted, image, native);
    if (size >= 8 && !memcmp(data, "\x89PNG\r\n\x1a\n", 8))
        return tic_png_decode_native(data, size, image, native);
    if (size >= 12 && !memcmp(data, "RIFF", 4) && !memcmp(data + 8, "WEBP", 4))
        return tic_webp_decode_native(data, size, image, native);
    if (!size)
        return tic_fail(TIC_BAD_SAMPLE, "image: empty file");
    return tic_fail(TIC_BAD_SAMPLE, "image: neither JPEG nor PNG nor WebP");
}

TicStatus tic_image_decode(const uint8_t *data, size_t size, TicImage *image) { return decode(data, size, NULL, image, NULL); }

TicStatus tic_image_decode_wanted(const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image)
{
    return decode(data, size, wanted, image, NULL);
}

TicStatus tic_native_decode(const uint8_t *data, size_t size, TicNative *n)
{
    n->kind = TIC_NATIVE_RGB;
    return decode(data, size, NULL, &n->image, n);
}

void tic_native_free(TicNative *n)
{
    tic_image_free(&n->image);
    tic_image_free(&n->fourth);
    *n = (TicNative){ 0 };
}

/* a b / 255, rounded */
static int times(int a, int b)
{
    int t = a * b + 128;
    return ((t >> 8) + t) >> 8;
}

TicStatus tic_native_from_rgba(const uint8_t *rgba, int width, int height, TicNative *n)
{
    TRY(tic_image_reserve(&n->image, (uint32_t)width, (uint32_t)height));
    TRY(tic_image_reserve(&n->fourth, (uint32_t)width, (uint32_t)height));
    n->kind = TIC_NATIVE_ALPHA;
    for (size_t i = 0; i < (size_t)width * (size_t)height; i++) {
        for (int c = 0; c < 3; c++)
            n->image.pixels[3 * i + (size_t)c] = (uint8_t)times(rgba[4 * i + (size_t)c], rgba[4 * i + 3]);
        memset(n->fourth.pixels + 3 * i, rgba[4 * i + 3], 3);
    }
    return TIC_OK;
}

uint8_t tic_cmyk_channel(uint8_t colour, uint8_t black)
{
    int v = 255 - black - times(colour, 255 - black);
    return (uint8_t)(v < 0 ? 0 : v);
}

void tic_native_square(TicResizer *z, const TicNative *n, int size, uint8_t *planes)
{
    size_t pixels = (size_t)size * (size_t)size;
    if (n->kind == TIC_NATIVE_PALETTE) {
        tic_resize_centre_nearest(&n->image, size, planes);
        return;
    }
    tic_resize_centre(z, &n->image, size, planes);
    if (n->kind == TIC_NATIVE_RGB)
        return;
    uint8_t *fourth = tic_alloc(3 * pixels);
    tic_resize_centre(z, &n->fourth, size, fourth);
    for (size_t i = 0; i < 3 * pixels; i++) {
        int v = planes[i], f = fourth[i % pixels];
        if (n->kind == TIC_NATIVE_CMYK)
            planes[i] = tic_cmyk_channel((uint8_t)v, (uint8_t)f);
        else if (f != 0 && f != 255)
            planes[i] = (uint8_t)(255 * v / f > 255 ? 255 : 255 * v / f);
    }
    free(fourth);
}
