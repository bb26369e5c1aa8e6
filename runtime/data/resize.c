/* resize.c -- see resize.h. Both passes are the same loop: a weighted sum of rows of bytes, which a compiler turns
 * into vector code. The vertical pass has such rows by nature. For the horizontal pass a band of BAND image rows is
 * turned on its side first, so that one image column of the band is one contiguous row of 3 * BAND bytes. */
#include "data/resize.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BITS = 22,                     /* fractional bits of a weight: 32 - 8 (sample) - 2 (sign, overshoot) */
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

/* The weights of a run of output positions along one axis. */
typedef struct {
    int count;                     /* output positions */
    int most;                      /* room for weights of each */
    int64_t *first;                /* [count]: the first input position */
    int *taps;                     /* [count] */
    int32_t *weight;               /* [count, most] */
    double *exact;                 /* [most] */
    size_t room, exact_room, count_room;
} Weights;

struct TicResizer {
    Weights across, down;
    uint8_t *band;                 /* [columns, 3, BAND] */
    uint8_t *middle;               /* [rows, 3, size]: after the horizontal pass */
    size_t band_room, middle_room;
};

TicResizer *tic_resizer_new(void) { return tic_alloc(sizeof(TicResizer)); }

static void free_weights(Weights *w)
{
    free(w->first);
    free(w->taps);
    free(w->weight);
    free(w->exact);
}

void tic_resizer_free(TicResizer *z)
{
    if (!z)
        return;
    free_weights(&z->across);
    free_weights(&z->down);
    free(z->band);
    free(z->middle);
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
        free(w->taps);
        w->count_room = (size_t)count;
        w->first = tic_alloc(w->count_room * sizeof *w->first);
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

/* The weights are set; the box is where their positions count from. */
static void resample(TicResizer *z, const TicImage *image, TicBox box, int size, uint8_t *planes)
{
    const Weights *h = &z->across, *v = &z->down;
    int64_t left = h->first[0], right = h->first[size - 1] + h->taps[size - 1];
    int64_t top = v->first[0], bottom = v->first[size - 1] + v->taps[size - 1];
    int rows = (int)(bottom - top), columns = (int)(right - left);
    size_t stride = (size_t)image->width * 3, line = 3 * (size_t)size;
    need_bytes(&z->band, &z->band_room, (size_t)columns * LANES);
    need_bytes(&z->middle, &z->middle_room, (size_t)rows * line);
    for (int y = 0; y < rows; y += BAND) {
        int some = rows - y < BAND ? rows - y : BAND;
        const uint8_t *from = image->pixels + (size_t)(box.y + top + y) * stride + (size_t)(box.x + left) * 3;
        uint8_t *to = z->middle + (size_t)y * line;
        turn(from, stride, some, columns, z->band);
        for (int x = 0; x < size; x++) {
            uint8_t column[LANES];                       /* [3, BAND] of one output column */
            blend(z->band + (size_t)(h->first[x] - left) * LANES, LANES, h->weight + (size_t)x * (size_t)h->most,
                  h->taps[x], LANES, column);
            for (int c = 0; c < 3; c++)
                for (int r = 0; r < some; r++)
                    to[(size_t)r * line + (size_t)(c * size + x)] = column[c * BAND + r];
        }
    }
    for (int y = 0; y < size; y++) {
        const uint8_t *from = z->middle + (size_t)(v->first[y] - top) * line;
        const int32_t *weight = v->weight + (size_t)y * (size_t)v->most;
        for (int c = 0; c < 3; c++)
            blend(from + c * size, line, weight, v->taps[y], size, planes + ((size_t)c * (size_t)size + (size_t)y) * (size_t)size);
    }
}

void tic_resize_box(TicResizer *z, const TicImage *image, TicBox box, int size, uint8_t *planes)
{
    set_weights(&z->across, box.width, size, 0, size);
    set_weights(&z->down, box.height, size, 0, size);
    resample(z, image, box, size, planes);
}

/* The offset of a central square of `size` in `long_side`: half the rest, ties to even. */
static int64_t centre_offset(int64_t long_side, int size)
{
    return (int64_t)rint((double)(long_side - size) / 2);
}

/* Width and height once the shorter side has `size` pixels. */
static void centre_extents(const TicImage *image, int size, int64_t *out_w, int64_t *out_h)
{
    int64_t w = image->width, h = image->height, shorter = w < h ? w : h;
    *out_w = w;
    *out_h = h;
    if (shorter != size) {
        *out_w = w <= h ? size : (int64_t)((double)(size * w) / (double)h);
        *out_h = w <= h ? (int64_t)((double)(size * h) / (double)w) : size;
    }
}

void tic_resize_centre(TicResizer *z, const TicImage *image, int size, uint8_t *planes)
{
    int64_t out_w, out_h;
    centre_extents(image, size, &out_w, &out_h);
    set_weights(&z->across, image->width, out_w, centre_offset(out_w, size), size);
    set_weights(&z->down, image->height, out_h, centre_offset(out_h, size), size);
    resample(z, image, (TicBox){ 0, 0, image->width, image->height }, size, planes);
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
    int64_t out_w, out_h;
    centre_extents(image, size, &out_w, &out_h);
    int *column = tic_alloc(2 * (size_t)size * sizeof *column), *row = column + size;
    nearest_positions(image->width, out_w, centre_offset(out_w, size), size, column);
    nearest_positions(image->height, out_h, centre_offset(out_h, size), size, row);
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
