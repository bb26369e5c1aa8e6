/* encode.c -- see encode.h. The one file of the tool that knows libjpeg and libpng. */
#include "encode.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <png.h>

typedef struct {
    struct jpeg_error_mgr base;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
} JpegErrors;

static void jpeg_gave_up(j_common_ptr c)
{
    JpegErrors *e = (JpegErrors *)c->err;
    c->err->format_message(c, e->text);
    longjmp(e->back, 1);
}

TicStatus encode_jpeg(const uint8_t *rgb, int width, int height, bool grey, int quality, bool progressive,
                      unsigned char **out, size_t *size)
{
    struct jpeg_compress_struct c;
    JpegErrors errors;
    unsigned char *volatile line = grey ? tic_alloc((size_t)width) : NULL;
    unsigned char *bytes = NULL;
    unsigned long room = 0;
    c.err = jpeg_std_error(&errors.base);
    errors.base.error_exit = jpeg_gave_up;
    jpeg_create_compress(&c);
    if (setjmp(errors.back)) {
        jpeg_destroy_compress(&c);
        free(line);
        return tic_fail(TIC_BUG, "a picture of %d x %d pixels: cannot encode as JPEG: %s", width, height, errors.text);
    }
    jpeg_mem_dest(&c, &bytes, &room);
    c.image_width = (JDIMENSION)width;
    c.image_height = (JDIMENSION)height;
    c.input_components = grey ? 1 : 3;
    c.in_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
    jpeg_set_defaults(&c);
    jpeg_set_quality(&c, quality, TRUE);
    c.dct_method = JDCT_ISLOW;        /* the same bytes on every machine */
    if (progressive)
        jpeg_simple_progression(&c);
    jpeg_start_compress(&c, TRUE);
    for (int y = 0; y < height; y++) {
        const uint8_t *from = rgb + (size_t)y * (size_t)width * 3;
        JSAMPROW row = (JSAMPROW)(uintptr_t)from;
        if (grey) {
            for (int x = 0; x < width; x++)
                line[x] = from[3 * x];
            row = line;
        }
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    jpeg_destroy_compress(&c);
    free(line);
    *out = bytes;
    *size = room;
    return TIC_OK;
}

TicStatus encode_png(const uint8_t *rgb, int width, int height, unsigned char **out, size_t *size)
{
    png_image image = { .version = PNG_IMAGE_VERSION, .width = (png_uint_32)width, .height = (png_uint_32)height,
                        .format = PNG_FORMAT_RGB, .flags = PNG_IMAGE_FLAG_FAST };
    png_alloc_size_t room = PNG_IMAGE_PNG_SIZE_MAX(image);
    unsigned char *bytes = tic_alloc(room);
    if (!png_image_write_to_memory(&image, bytes, &room, 0, rgb, 0, NULL)) {
        free(bytes);
        return tic_fail(TIC_BUG, "a picture of %d x %d pixels: cannot encode as PNG: %s", width, height, image.message);
    }
    *out = bytes;
    *size = room;
    return TIC_OK;
}
