/* resize.c -- see resize.h. A processor that has a TicResizeForm (resize_impl.h) does both passes with it. Otherwise they are
 * the same loop: a weighted sum of rows of bytes, which a compiler turns into vector code. The vertical pass has such rows by
 * nature. For the horizontal pass a band of BAND image rows is turned on its side first, so that one image column of the band
 * is one contiguous row of 3 * BAND bytes. */
#include "data/resize.h"
#include "data/resize_impl.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BITS = TIC_WEIGHT_BITS,
    BAND = 16,
    LANES = 3 * BAND,
};

/* A copy for wider vectors, chosen when the program is loaded. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && defined(__gnu_linux__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), optimize("O3")))
#else
#define VECTOR
#endif

typedef TicWeights Weights;

struct TicResizer {
    const TicResizeForm *form;     /* NULL: the loops of this file */
    Weights across, down;
    uint8_t *band;                 /* [columns, 3, BAND] */
    uint8_t *middle;               /* [rows, line]: after the horizontal pass, RGB */
    uint8_t *last;                 /* [line]: a row of the result, RGB */
    size_t band_room, middle_room, last_room;
};

TicResizer *tic_resizer_new(void)
{
    TicResizer *z = tic_alloc(sizeof *z);
    const TicResizeForm *form[2];
    z->form = tic_resize_forms(form) ? form[0] : NULL;
    return z;
}

void tic_resizer_use(TicResizer *z, const TicResizeForm *form) { z->form = form; }

static void free_weights(Weights *w)
{
    free(w->first);
    free(w->taps);
    free(w->weight);
    free(w->exact);
    free(w->start);
    free(w->packed);
}

void tic_resizer_free(TicResizer *z)
{
    if (!z)
        return;
    free_weights(&z->across);
    free_weights(&z->down);
    free(z->band);
    free(z->middle);
    free(z->last);
    free(z);
}

static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2)
        return (((x - 5) * x + 8) * x - 4) * a;
    return 0;
}

/* Weights for resizing `in` positions to `out`, of the output positions first..first+count-1. */
static void set_weights(Weights *w, int64_t in, int64_t out, int64_t first, int count)
{
    double scale = (double)in / (double)out, wide = scale > 1 ? scale : 1, support = 2 * wide, inverse = 1 / wide;
    w->count = count;
    w->most = (int)ceil(support) * 2 + 1;
    size_t need = (size_t)count * (size_t)w->most;
    if (need > w->room) {
        free(w->weight);
        w->weight = tic_alloc((w->room = need) * sizeof *w->weight);
    }
    if ((size_t)count > w->count_room) {
        free(w->first);
        free(w->start);
        free(w->taps);
        w->count_room = (size_t)count;
        w->first = tic_alloc(w->count_room * sizeof *w->first);
        w->start = tic_alloc(w->count_room * sizeof *w->start);
        w->taps = tic_alloc(w->count_room * sizeof *w->taps);
    }
    if ((size_t)w->most > w->exact_room) {
        free(w->exact);
        w->exact = tic_alloc((w->exact_room = (size_t)w->most) * sizeof *w->exact);
    }
    for (int i = 0; i < count; i++) {
        double centre = ((double)(first + i) + 0.5) * scale, sum = 0;
        int64_t low = (int64_t)(centre - support + 0.5), high = (int64_t)(centre + support + 0.5);
        low = low < 0 ? 0 : low;
        high = high > in ? in : high;
        for (int64_t j = low; j < high; j++)
            sum += w->exact[j - low] = bicubic(((double)j - centre + 0.5) * inverse);
        int32_t *weight = w->weight + (size_t)i * (size_t)w->most;
        for (int64_t j = 0; j < high - low; j++) {
            double v = (sum != 0 ? w->exact[j] / sum : w->exact[j]) * (1 << BITS);
            weight[j] = (int32_t)(v < 0 ? v - 0.5 : v + 0.5);
        }
        w->first[i] = low;
        w->taps[i] = (int)(high - low);
    }
}

/* The weights as `form` wants them, in groups that read only positions 0 .. limit - 1. False when those are too few. */
static bool pack_weights(Weights *w, const TicResizeForm *form, int64_t limit)
{
    int most = 0;
    for (int i = 0; i < w->count; i++)
        most = w->taps[i] > most ? w->taps[i] : most;
    w->groups = (most + 3) / 4;
    if (4 * w->groups > limit)
        return false;
    size_t need = (size_t)w->count * (size_t)w->groups * 4;
    if (need > w->packed_room) {
        free(w->packed);
        w->packed = tic_alloc((w->packed_room = need) * sizeof *w->packed);
    }
    int32_t *packed = w->packed;
    for (int i = 0; i < w->count; i++) {
        int64_t latest = limit - 4 * w->groups, start = w->first[i] < latest ? w->first[i] : latest;
        const int32_t *weight = w->weight + (size_t)i * (size_t)w->most;
        w->start[i] = start;
        for (int64_t at = start; at < start + 4 * w->groups; at += 4, packed += 4) {
            int32_t four[4];
            for (int t = 0; t < 4; t++) {
                int64_t tap = at + t - w->first[i];
                four[t] = tap >= 0 && tap < w->taps[i] ? weight[tap] : 0;
            }
            form->pack(four, packed);
        }
    }
    return true;
}

/* out[0..n) = rounded sum over t of weight[t] * from[t * stride + 0..n). At most LANES at a time, so that the sums
 * stay in registers. */
VECTOR static void blend(const uint8_t *restrict from, size_t stride, const int32_t *restrict weight, int taps, int n,
                         uint8_t *restrict out)
{
    int x = 0;
    for (; x + LANES <= n; x += LANES) {
        int32_t sum[LANES];
        for (int i = 0; i < LANES; i++)
            sum[i] = 1 << (BITS - 1);
        for (int t = 0; t < taps; t++)
            for (int i = 0; i < LANES; i++)
                sum[i] += weight[t] * from[(size_t)t * stride + (size_t)(x + i)];
        for (int i = 0; i < LANES; i++) {
            int v = sum[i] >> BITS;
            v = v < 0 ? 0 : v;
            out[x + i] = (uint8_t)(v > 255 ? 255 : v);
        }
    }
    for (; x < n; x++) {
        int32_t sum = 1 << (BITS - 1);
        for (int t = 0; t < taps; t++)
            sum += weight[t] * from[(size_t)t * stride + (size_t)x];
        int v = sum >> BITS;
        v = v < 0 ? 0 : v;
        out[x] = (uint8_t)(v > 255 ? 255 : v);
    }
}

/* band[column][channel][row] = pixels[row][column][channel]. Rows beyond `rows` keep what they had. */
static void turn(const uint8_t *pixels, size_t stride, int rows, int columns, uint8_t *band)
{
    for (int r = 0; r < rows; r++) {
        const uint8_t *from = pixels + (size_t)r * stride;
        uint8_t *to = band + r;
        for (int i = 0; i < 3 * columns; i++)
            to[(size_t)i * BAND] = from[i];
    }
}

static void need_bytes(uint8_t **p, size_t *room, size_t bytes)
{
    if (bytes <= *room)
        return;
    free(*p);
    *p = tic_alloc(*room = bytes);
}

/* What the weights that are set read of the box. */
static TicBox needs(const TicResizer *z)
{
    const Weights *h = &z->across, *v = &z->down;
    int64_t left = h->first[0], right = h->first[h->count - 1] + h->taps[h->count - 1];
    int64_t top = v->first[0], bottom = v->first[v->count - 1] + v->taps[v->count - 1];
    return (TicBox){ (int)left, (int)top, (int)(right - left), (int)(bottom - top) };
}

static void across(TicResizer *z, const uint8_t *from, size_t stride, int rows, int columns, size_t line)
{
    const Weights *w = &z->across;
    int64_t left = w->first[0];
    need_bytes(&z->band, &z->band_room, (size_t)columns * LANES);
    for (int y = 0; y < rows; y += BAND) {
        int some = rows - y < BAND ? rows - y : BAND;
        uint8_t *to = z->middle + (size_t)y * line;
        turn(from + (size_t)y * stride + 3 * left, stride, some, columns, z->band);
        for (int x = 0; x < w->count; x++) {
            uint8_t column[LANES];                       /* [3, BAND] of one output column */
            blend(z->band + (size_t)(w->first[x] - left) * LANES, LANES, w->weight + (size_t)x * (size_t)w->most, w->taps[x],
                  LANES, column);
            for (int c = 0; c < 3; c++)
                for (int r = 0; r < some; r++)
                    to[(size_t)r * line + (size_t)(3 * x + c)] = column[c * BAND + r];
        }
    }
}

VECTOR static void take_apart(const uint8_t *restrict rgb, int n, uint8_t *restrict red, uint8_t *restrict green, uint8_t *restrict blue)
{
    for (int i = 0; i < n; i++) {
        red[i] = rgb[3 * i];
        green[i] = rgb[3 * i + 1];
        blue[i] = rgb[3 * i + 2];
    }
}

/* The weights are set; the box is where their positions count from. */
static void resample(TicResizer *z, const TicImage *image, TicBox box, int size, uint8_t *planes)
{
    Weights *h = &z->across, *v = &z->down;
    TicBox used = needs(z);
    size_t stride = (size_t)image->width * 3, line = ((size_t)size * 3 + TIC_LINE_BYTES) / TIC_LINE_BYTES * TIC_LINE_BYTES;
    size_t pixels = (size_t)size * (size_t)size;
    int rows = used.height, most = v->most + 3;          /* lines of weight 0 may follow the last */
    const uint8_t *from = image->pixels + (size_t)(box.y + used.y) * stride + (size_t)box.x * 3;
    need_bytes(&z->middle, &z->middle_room, (size_t)(rows + most) * line);
    need_bytes(&z->last, &z->last_room, line);
    if (z->form && pack_weights(h, z->form, box.width))
        z->form->across(from, stride, rows, h, z->middle, line);
    else
        across(z, from, stride, rows, used.width, line);
    if (z->form)
        pack_weights(v, z->form, INT64_MAX);
    for (int y = 0; y < size; y++) {
        const uint8_t *lines = z->middle + (size_t)(v->first[y] - used.y) * line;
        if (z->form)
            z->form->down(lines, line, v->packed + (size_t)y * (size_t)v->groups * 4, v->groups, z->last);
        else
            blend(lines, line, v->weight + (size_t)y * (size_t)v->most, v->taps[y], 3 * size, z->last);
        uint8_t *row = planes + (size_t)y * (size_t)size;
        take_apart(z->last, size, row, row + pixels, row + 2 * pixels);
    }
}

/* The offset of a central square of `size` in `long_side`: half the rest, ties to even. */
static int64_t centre_offset(int64_t long_side, int size)
{
    return (int64_t)rint((double)(long_side - size) / 2);
}

TicView tic_view_box(TicBox box, int size) { return (TicView){ box, size, size, 0, 0, size }; }

TicView tic_view_centre(int width, int height, int size)
{
    int64_t w = width, h = height, out_w = w, out_h = h;
    if ((w < h ? w : h) != size) {
        out_w = w <= h ? size : (int64_t)((double)(size * w) / (double)h);
        out_h = w <= h ? (int64_t)((double)(size * h) / (double)w) : size;
    }
    return (TicView){ { 0, 0, width, height }, out_w, out_h, centre_offset(out_w, size), centre_offset(out_h, size), size };
}

static void set_view(TicResizer *z, const TicView *v)
{
    set_weights(&z->across, v->box.width, v->width, v->x, v->size);
    set_weights(&z->down, v->box.height, v->height, v->y, v->size);
}

TicBox tic_view_needs(TicResizer *z, const TicView *v)
{
    set_view(z, v);
    TicBox b = needs(z);
    b.x += v->box.x;
    b.y += v->box.y;
    return b;
}

void tic_resize(TicResizer *z, const TicImage *image, const TicView *v, uint8_t *planes)
{
    set_view(z, v);
    resample(z, image, v->box, v->size, planes);
}

void tic_resize_box(TicResizer *z, const TicImage *image, TicBox box, int size, uint8_t *planes)
{
    const TicView v = tic_view_box(box, size);
    tic_resize(z, image, &v, planes);
}

void tic_resize_centre(TicResizer *z, const TicImage *image, int size, uint8_t *planes)
{
    const TicView v = tic_view_centre(image->width, image->height, size);
    tic_resize(z, image, &v, planes);
}

/* Positions are summed up, not multiplied: the rounding is Pillow's. */
static void nearest_positions(int64_t in, int64_t out, int64_t first, int count, int *position)
{
    double scale = (double)in / (double)out, at = scale * 0.5;
    for (int64_t i = 0; i < first + count; i++, at += scale)
        if (i >= first)
            position[i - first] = (int)((int64_t)at < in ? (int64_t)at : in - 1);
}

void tic_resize_centre_nearest(const TicImage *image, int size, uint8_t *planes)
{
    const TicView v = tic_view_centre(image->width, image->height, size);
    int *column = tic_alloc(2 * (size_t)size * sizeof *column), *row = column + size;
    nearest_positions(image->width, v.width, v.x, size, column);
    nearest_positions(image->height, v.height, v.y, size, row);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < size; y++)
            for (int x = 0; x < size; x++)
                *planes++ = image->pixels[((size_t)row[y] * (size_t)image->width + (size_t)column[x]) * 3 + (size_t)c];
    free(column);
}

TicBox tic_crop_box(int width, int height, TicCrop crop, TicRandom *r)
{
    double area = (double)width * height, log_lo = log(crop.ratio_lo), log_hi = log(crop.ratio_hi);
    for (int i = 0; i < 10; i++) {
        double target = area * tic_random_real(r, crop.scale_lo, crop.scale_hi);
        double ratio = exp(tic_random_real(r, log_lo, log_hi));
        double w = rint(sqrt(target * ratio)), h = rint(sqrt(target / ratio));
        if (w > 0 && w <= width && h > 0 && h <= height) {
            TicBox box = { .width = (int)w, .height = (int)h };
            box.y = (int)tic_random_below(r, height - box.height + 1);
            box.x = (int)tic_random_below(r, width - box.width + 1);
            return box;
        }
    }
    TicBox box = { .width = width, .height = height };
    double ratio = (double)width / height;
    if (ratio < crop.ratio_lo)
        box.height = (int)rint(width / crop.ratio_lo);
    else if (ratio > crop.ratio_hi)
        box.width = (int)rint(height * crop.ratio_hi);
    /* Rounding cannot leave the image for sensible ratios; it must not for any. */
    box.height = box.height < 1 ? 1 : box.height > height ? height : box.height;
    box.width = box.width < 1 ? 1 : box.width > width ? width : box.width;
    box.x = (width - box.width) / 2;
    box.y = (height - box.height) / 2;
    return box;
}

void tic_normalise_table(const float mean[3], const float std[3], float table[3][256])
{
    for (int c = 0; c < 3; c++) {
        for (int v = 0; v < 256; v++) {
            volatile float x = (float)v / 255.0f;        /* volatile: no contraction across the roundings */
            x = x - mean[c];
            table[c][v] = x / std[c];
        }
    }
}

void tic_normalise(const float table[3][256], const uint8_t *planes, size_t n, float *out)
{
    for (int c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            out[(size_t)c * n + i] = table[c][planes[(size_t)c * n + i]];
}
