/* jpeg.c -- JPEG in and out by libjpeg-turbo, the one file that includes jpeglib.h; see image.h.
 *
 * libjpeg reports errors by calling error_exit and expects it not to return: ours jumps back to the function that
 * called the library, with the message. Its source manager would pad a cut file with an end mark and go on with
 * grey; ours counts running out of bytes as an error, as Pillow does. What libjpeg merely warns about (a bad
 * Huffman code that it can get past) Pillow accepts, and so do we.
 *
 * Where only part of a picture is wanted, rows before and after it are skipped (their codes are read, nothing else is done)
 * and columns beside it left out. A chroma sample is smoothed with its neighbours, and at a cut the library takes what is
 * not there for the edge of the picture: so a block more is decoded on every side. */
#define _GNU_SOURCE
#include "data/native.h"
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jpeglib.h>
#include <jerror.h>

typedef struct {
    struct jpeg_error_mgr manager;
    jmp_buf back;
    char text[JMSG_LENGTH_MAX];
    uint8_t *row;                  /* one row that goes nowhere as it is; freed on both ways out */
} Errors;

static _Noreturn void on_error(j_common_ptr info)
{
    Errors *e = (Errors *)info->err;
    e->manager.format_message(info, e->text);
    longjmp(e->back, 1);
}

static _Noreturn void give_up(j_common_ptr info, const char *why)
{
    Errors *e = (Errors *)info->err;
    snprintf(e->text, sizeof e->text, "%s", why);
    longjmp(e->back, 1);
}

static void no_output(j_common_ptr info) { (void)info; }

static struct jpeg_error_mgr *init_errors(Errors *e)
{
    jpeg_std_error(&e->manager);
    e->manager.error_exit = on_error;
    e->manager.output_message = no_output;
    return &e->manager;
}

static void source_none(j_decompress_ptr d) { (void)d; }
static boolean source_more(j_decompress_ptr d) { give_up((j_common_ptr)d, "the file is cut short"); }

static void source_skip(j_decompress_ptr d, long n)
{
    if (n <= 0)
        return;
    if ((size_t)n > d->src->bytes_in_buffer)
        give_up((j_common_ptr)d, "the file is cut short");
    d->src->next_input_byte += n;
    d->src->bytes_in_buffer -= (size_t)n;
}

/* A hundred bytes are one more progressive scan of the whole picture, so a small file could keep a thread busy for
 * minutes; real files have about ten scans. */
static void limit_scans(j_common_ptr info)
{
    j_decompress_ptr d = (j_decompress_ptr)info;
    uint64_t pixels = (uint64_t)d->image_width * d->image_height, scans = (uint64_t)d->input_scan_number;
    if (scans > TIC_MAX_SCANS || scans * pixels > (uint64_t)TIC_MAX_LARGE_SCANS * TIC_MAX_PIXELS)
        give_up(info, "too many progressive scans");
}

/* One row of CMYK, inverted in the file, to RGB or to what is resized first. `to` may be no alias of `from`. */
static void cmyk_row(const uint8_t *from, uint8_t *to, uint8_t *black, int width)
{
    for (int x = 0; x < width; x++, from += 4, to += 3)
        for (int c = 0; c < 3; c++) {
            uint8_t colour = 255 - from[c], k = 255 - from[3];
            to[c] = black ? colour : tic_cmyk_channel(colour, k);
            if (black)
                black[3 * x + c] = k;
        }
}

/* The columns and rows to be decoded for `box`; false: all of them. Pictures whose scans follow each other are decoded as a
 * whole in any case, and unusual sampling is not worth the doubt. */
static bool cut(const struct jpeg_decompress_struct *d, TicBox box, TicBox *part)
{
    const jpeg_component_info *c = d->comp_info;
    int width = (int)d->output_width, height = (int)d->output_height;
    if (jpeg_has_multiple_scans((j_decompress_ptr)d) || c[0].h_samp_factor > 2 || c[0].v_samp_factor > 2)
        return false;
    for (int i = 1; i < d->num_components; i++)
        if (c[i].h_samp_factor != 1 || c[i].v_samp_factor != 1)
            return false;
    int block = DCTSIZE * 2, left = box.x > block ? box.x - block : 0, top = box.y > block ? (box.y - block) / block * block : 0;
    int right = box.x + box.width < width - block ? box.x + box.width + block : width;
    int bottom = box.y + box.height < height - block ? box.y + box.height + block : height;
    *part = (TicBox){ left, top, right - left, bottom - top };
    return (int64_t)part->width * part->height < (int64_t)width * height;
}

static void skip_rows(struct jpeg_decompress_struct *d, int n)
{
    if (n > 0 && jpeg_skip_scanlines(d, (JDIMENSION)n) != (JDIMENSION)n)
        give_up((j_common_ptr)d, "rows cannot be skipped");
}

/* Rows of RGB to their places. */
static void read_part(struct jpeg_decompress_struct *d, TicImage *image, TicBox part)
{
    JDIMENSION left = (JDIMENSION)part.x, width = (JDIMENSION)part.width;
    int end = part.y + part.height;
    if (part.width < image->width)
        jpeg_crop_scanline(d, &left, &width);
    skip_rows(d, part.y);
    while ((int)d->output_scanline < end) {
        JSAMPROW line = image->pixels + ((size_t)d->output_scanline * (size_t)image->width + left) * 3;
        jpeg_read_scanlines(d, &line, 1);
    }
    if (end < image->height) {                           /* up to the last row, or damage below would go unseen */
        uint8_t *row = ((Errors *)d->err)->row = tic_alloc((size_t)image->width * 3);
        JSAMPROW line = row;
        skip_rows(d, image->height - 1 - end);
        jpeg_read_scanlines(d, &line, 1);
    }
}

static void read_cmyk(struct jpeg_decompress_struct *d, TicImage *image, TicNative *native)
{
    size_t stride = (size_t)image->width * 3;
    uint8_t *row = ((Errors *)d->err)->row = tic_alloc((size_t)image->width * 4);
    while (d->output_scanline < d->output_height) {
        size_t at = d->output_scanline * stride;
        JSAMPROW line = row;
        jpeg_read_scanlines(d, &line, 1);
        cmyk_row(row, image->pixels + at, native ? native->fourth.pixels + at : NULL, image->width);
    }
}

/* Everything between creating and destroying the library's object; errors leave by longjmp. */
static TicStatus decode(struct jpeg_decompress_struct *d, const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image,
                        TicNative *native)
{
    struct jpeg_source_mgr source = {
        .next_input_byte = data, .bytes_in_buffer = size, .init_source = source_none, .fill_input_buffer = source_more,
        .skip_input_data = source_skip, .resync_to_restart = jpeg_resync_to_restart, .term_source = source_none,
    };
    struct jpeg_progress_mgr progress = { .progress_monitor = limit_scans };
    jpeg_create_decompress(d);
    d->src = &source;
    d->progress = &progress;
    jpeg_read_header(d, TRUE);
    if (d->data_precision != 8)
        return tic_fail(TIC_BAD_SAMPLE, "JPEG: %d bits per sample, 8 wanted", d->data_precision);
    if (d->num_components != 1 && d->num_components != 3 && d->num_components != 4)
        return tic_fail(TIC_BAD_SAMPLE, "JPEG: %d colour components; 1, 3 or 4 wanted", d->num_components);
    TRY(tic_image_bound(d->image_width, d->image_height));
    bool cmyk = d->num_components == 4;
    d->out_color_space = cmyk ? JCS_CMYK : JCS_RGB;
    d->scale_num = d->scale_denom = DCTSIZE;
    if (wanted && wanted->eighths)
        d->scale_num = (unsigned)wanted->eighths(wanted->user, (int)d->image_width, (int)d->image_height);
    jpeg_calc_output_dimensions(d);
    TRY(tic_image_reserve(image, d->output_width, d->output_height));
    if (cmyk && native) {
        TRY(tic_image_reserve(&native->fourth, d->output_width, d->output_height));
        native->kind = TIC_NATIVE_CMYK;
    }
    jpeg_start_decompress(d);
    TicBox all = { 0, 0, image->width, image->height }, part;
    if (cmyk)
        read_cmyk(d, image, native);
    else if (wanted && cut(d, wanted->box(wanted->user, image->width, image->height), &part))
        read_part(d, image, part);
    else
        read_part(d, image, all);
    jpeg_finish_decompress(d);
    return TIC_OK;
}

TicStatus tic_jpeg_decode_native(const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image, TicNative *native)
{
    struct jpeg_decompress_struct d = { 0 };
    Errors errors = { .row = NULL };
    TicStatus status;
    d.err = init_errors(&errors);
    if (setjmp(errors.back))
        status = tic_fail(TIC_BAD_SAMPLE, "JPEG: %s", errors.text);
    else
        status = decode(&d, data, size, wanted, image, native);
    jpeg_destroy_decompress(&d);
    free(errors.row);
    return status;
}

static void encode(struct jpeg_compress_struct *c, const uint8_t *rgb, int width, int height, int quality,
                   unsigned char **data, unsigned long *size)
{
    jpeg_create_compress(c);
    jpeg_mem_dest(c, data, size);
    c->image_width = (JDIMENSION)width;
    c->image_height = (JDIMENSION)height;
    c->input_components = 3;
    c->in_color_space = JCS_RGB;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        JSAMPROW line = (JSAMPROW)(rgb + (size_t)c->next_scanline * (size_t)width * 3);
        jpeg_write_scanlines(c, &line, 1);
    }
    jpeg_finish_compress(c);
}

TicStatus tic_jpeg_encode(const uint8_t *rgb, int width, int height, int quality, uint8_t **data, size_t *size)
{
    struct jpeg_compress_struct c = { 0 };
    Errors errors;
    /* Behind a pointer: the library changes them between setjmp and longjmp. */
    struct { unsigned char *data; unsigned long size; } *made = tic_alloc(sizeof *made);
    TicStatus status = TIC_OK;
    c.err = init_errors(&errors);
    if (setjmp(errors.back))
        status = tic_fail(TIC_USER, "JPEG: %s", errors.text);
    else
        encode(&c, rgb, width, height, quality, &made->data, &made->size);
    jpeg_destroy_compress(&c);
    if (status) {
        free(made->data);
        made->data = NULL;
        made->size = 0;
    }
    *data = made->data;
    *size = made->size;
    free(made);
    return status;
}
