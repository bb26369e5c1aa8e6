/* native.c -- see native.h, and image.h: which decoder a file goes to. */
#include "data/native.h"
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ISO media files (HEIC, AVIF) have a box `ftyp` first, whose brand says which. `at`: where the mark stands. */
static const struct { TicForeign kind; uint8_t at, size; const char *mark; } foreign_mark[] = {
    { TIC_FOREIGN_GIF, 0, 4, "GIF8" },
    { TIC_FOREIGN_BMP, 0, 2, "BM" },
    { TIC_FOREIGN_TIFF, 0, 4, "II*\0" },        { TIC_FOREIGN_TIFF, 0, 4, "MM\0*" },
    { TIC_FOREIGN_HEIC, 4, 8, "ftypheic" },     { TIC_FOREIGN_HEIC, 4, 8, "ftypheix" },   { TIC_FOREIGN_HEIC, 4, 8, "ftyphevc" },
    { TIC_FOREIGN_HEIC, 4, 8, "ftypmif1" },     { TIC_FOREIGN_HEIC, 4, 8, "ftypmsf1" },
    { TIC_FOREIGN_AVIF, 4, 8, "ftypavif" },     { TIC_FOREIGN_AVIF, 4, 8, "ftypavis" },
    { TIC_FOREIGN_JXL, 0, 2, "\xFF\x0A" },      { TIC_FOREIGN_JXL, 4, 8, "JXL \r\n\x87\n" },
    { TIC_FOREIGN_SVG, 0, 4, "<svg" },
};

static const struct { TicForeign kind; const char *extension; } foreign_extension[] = {
    { TIC_FOREIGN_GIF, "gif" },   { TIC_FOREIGN_BMP, "bmp" },   { TIC_FOREIGN_TIFF, "tif" },  { TIC_FOREIGN_TIFF, "tiff" },
    { TIC_FOREIGN_HEIC, "heic" }, { TIC_FOREIGN_HEIC, "heif" }, { TIC_FOREIGN_AVIF, "avif" }, { TIC_FOREIGN_JXL, "jxl" },
    { TIC_FOREIGN_SVG, "svg" },
};

const char *tic_foreign_name(TicForeign kind)
{
    static const char *const name[TIC_FOREIGN_KINDS] = {
        [TIC_FOREIGN_GIF] = "GIF", [TIC_FOREIGN_BMP] = "BMP", [TIC_FOREIGN_TIFF] = "TIFF", [TIC_FOREIGN_HEIC] = "HEIC",
        [TIC_FOREIGN_AVIF] = "AVIF", [TIC_FOREIGN_JXL] = "JPEG XL", [TIC_FOREIGN_SVG] = "SVG",
    };
    return (unsigned)kind < TIC_FOREIGN_KINDS ? name[kind] : "";
}

TicForeign tic_foreign_of(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < TIC_LEN(foreign_mark); i++)
        if (size >= (size_t)foreign_mark[i].at + foreign_mark[i].size &&
            !memcmp(data + foreign_mark[i].at, foreign_mark[i].mark, foreign_mark[i].size))
            return foreign_mark[i].kind;
    return TIC_FOREIGN_NONE;
}

TicForeign tic_foreign_called(const char *extension)
{
    for (size_t i = 0; i < TIC_LEN(foreign_extension); i++)
        if (!strcasecmp(extension, foreign_extension[i].extension))
            return foreign_extension[i].kind;
    return TIC_FOREIGN_NONE;
}

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
    TicForeign kind = tic_foreign_of(data, size);
    if (kind != TIC_FOREIGN_NONE)
        return tic_fail(TIC_BAD_SAMPLE, "image: neither JPEG nor PNG nor WebP, but %s", tic_foreign_name(kind));
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
