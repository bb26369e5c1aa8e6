/* png.c -- PNG by libpng, and what the decoders share; see image.h.
 *
 * libpng is asked for the raw samples (bits unpacked to bytes, nothing else converted), and the rules of Pillow are
 * applied here: they differ from libpng's own conversions for 16-bit grey and for palettes that are too short. */
#include "data/native.h"
#include <png.h>
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TicStatus tic_image_bound(uint32_t width, uint32_t height)
{
    if (!width || !height || (uint64_t)width * height > TIC_MAX_PIXELS)
        return tic_fail(TIC_BAD_SAMPLE, "image of %u x %u pixels, at most %d in all wanted", width, height, TIC_MAX_PIXELS);
    return TIC_OK;
}

TicStatus tic_image_reserve(TicImage *image, uint32_t width, uint32_t height)
{
    TRY(tic_image_bound(width, height));
    size_t need = (size_t)width * height * 3;
    if (need > image->room) {
        free(image->pixels);
        image->pixels = tic_alloc(need);
        image->room = need;
    }
    image->width = (int)width;
    image->height = (int)height;
    return TIC_OK;
}

void tic_image_free(TicImage *image)
{
    free(image->pixels);
    *image = (TicImage){ 0 };
}

typedef struct {
    const uint8_t *data;
    size_t size, at;
    jmp_buf back;
    char text[200];
} Input;

static _Noreturn void on_error(png_structp p, png_const_charp text)
{
    Input *in = png_get_error_ptr(p);
    snprintf(in->text, sizeof in->text, "%s", text);
    longjmp(in->back, 1);
}

static void on_warning(png_structp p, png_const_charp text)
{
    (void)p;
    (void)text;
}

static void read_bytes(png_structp p, png_bytep to, size_t n)
{
    Input *in = png_get_io_ptr(p);
    if (n > in->size - in->at)
        png_error(p, "the file is cut short");
    memcpy(to, in->data + in->at, n);
    in->at += n;
}

/* What the longjmp path has to free; lives in the caller's frame. */
typedef struct {
    png_structp png;
    png_infop info;
    uint8_t *raw;                  /* [height, row bytes] */
    png_bytep *rows;               /* [height] */
} Work;

/* The first `channels` samples of each pixel to RGB; samples are bytes, or big-endian pairs of bytes. */
static void to_rgb(const Work *w, TicImage *image, int type, int depth, const uint8_t (*palette)[3])
{
    int channels = png_get_channels(w->png, w->info), bytes = depth == 16 ? 2 : 1;
    int stretch = type == PNG_COLOR_TYPE_GRAY && depth < 8 ? 255 / ((1 << depth) - 1) : 1;
    uint8_t *to = image->pixels;
    for (int y = 0; y < image->height; y++) {
        const uint8_t *from = w->rows[y];
        for (int x = 0; x < image->width; x++, from += channels * bytes, to += 3) {
            if (type == PNG_COLOR_TYPE_PALETTE) {
                memcpy(to, palette[from[0]], 3);
            } else if (channels >= 3) {
                for (int c = 0; c < 3; c++)
                    to[c] = from[c * bytes];
            } else {
                bool clipped = type == PNG_COLOR_TYPE_GRAY && depth == 16;
                int v = clipped ? (from[0] ? 255 : from[1]) : from[0] * stretch;
                to[0] = to[1] = to[2] = (uint8_t)v;
            }
        }
    }
}

/* The last of the two or four samples, for pictures that are resized with their alpha. */
static TicStatus with_alpha(const Work *w, TicNative *n, int depth)
{
    int channels = png_get_channels(w->png, w->info), bytes = depth == 16 ? 2 : 1, width = n->image.width, height = n->image.height;
    uint8_t *rgba = tic_alloc((size_t)width * (size_t)height * 4), *to = rgba;
    for (int y = 0; y < height; y++) {
        const uint8_t *from = w->rows[y];
        for (int x = 0; x < width; x++, from += channels * bytes, to += 4) {
            for (int c = 0; c < 3; c++)
                to[c] = from[(channels == 4 ? c : 0) * bytes];
            to[3] = from[(channels - 1) * bytes];
        }
    }
    TicStatus status = tic_native_from_rgba(rgba, width, height, n);
    free(rgba);
    return status;
}

static TicStatus decode(Work *w, Input *in, TicImage *image, TicNative *native)
{
    uint8_t palette[256][3] = { { 0 } };
    png_uint_32 width, height;
    int depth, type, n = 0;
    w->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, in, on_error, on_warning);
    if (w->png)
        w->info = png_create_info_struct(w->png);
    if (!w->info)
        return tic_fail(TIC_BUG, "libpng cannot be used: version %s wanted", PNG_LIBPNG_VER_STRING);
    png_set_read_fn(w->png, in, read_bytes);
    png_set_user_limits(w->png, TIC_MAX_PIXELS, TIC_MAX_PIXELS);
    png_set_chunk_malloc_max(w->png, 8 << 20);
    png_read_info(w->png, w->info);
    png_get_IHDR(w->png, w->info, &width, &height, &depth, &type, NULL, NULL, NULL);
    TRY(tic_image_reserve(image, width, height));
    png_colorp colors = NULL;
    if (type == PNG_COLOR_TYPE_PALETTE && png_get_PLTE(w->png, w->info, &colors, &n))
        for (int i = 0; i < n && i < 256; i++)
            memcpy(palette[i], (uint8_t[]){ colors[i].red, colors[i].green, colors[i].blue }, 3);
    png_set_packing(w->png);
    png_set_interlace_handling(w->png);
    png_read_update_info(w->png, w->info);
    size_t stride = png_get_rowbytes(w->png, w->info);
    w->raw = tic_alloc(stride * height);
    w->rows = tic_alloc(height * sizeof *w->rows);
    for (png_uint_32 y = 0; y < height; y++)
        w->rows[y] = w->raw + y * stride;
    png_read_image(w->png, w->rows);
    if (native && type & PNG_COLOR_MASK_ALPHA)
        return with_alpha(w, native, depth);
    to_rgb(w, image, type, depth, (const uint8_t (*)[3])palette);
    if (native && (type == PNG_COLOR_TYPE_PALETTE || (type == PNG_COLOR_TYPE_GRAY && depth == 1)))
        native->kind = TIC_NATIVE_PALETTE;
    return TIC_OK;
}

TicStatus tic_png_decode_native(const uint8_t *data, size_t size, TicImage *image, TicNative *native)
{
    Input in = { .data = data, .size = size };
    Work *w = tic_alloc(sizeof *w);    /* in memory, not in registers: longjmp keeps it */
    TicStatus status;
    if (setjmp(in.back))
        status = tic_fail(TIC_BAD_SAMPLE, "PNG: %s", in.text);
    else
        status = decode(w, &in, image, native);
    png_destroy_read_struct(&w->png, &w->info, NULL);
    free(w->raw);
    free(w->rows);
    free(w);
    return status;
}
