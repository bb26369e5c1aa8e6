/* resize.h -- from an image of any size to the square a model sees.
 *
 * The resampling is Pillow's antialiased bicubic on 8-bit samples, bit for bit: weights in double, rounded to 22
 * fractional bits, horizontal pass to 8 bits, then vertical. Only the rows and columns that the result needs are
 * computed. Formulas: cubic convolution (Keys 1981) with a = -1/2, widened by the reduction factor.
 *
 * Training takes torchvision's RandomResizedCrop of the image; validation its Resize(S) and CenterCrop(S). */
#ifndef TIC_DATA_RESIZE_H
#define TIC_DATA_RESIZE_H
#include "data/image.h"
#include "data/random.h"

/* Shares of the area kept and aspect ratios allowed by the random crop; OpenCLIP: 0.9..1, 3/4..4/3. */
typedef struct { double scale_lo, scale_hi, ratio_lo, ratio_hi; } TicCrop;

/* The random crop of an image: ten tries of area and ratio, then the central crop with the ratio clamped. */
TicBox tic_crop_box(int width, int height, TicCrop crop, TicRandom *r);

/* Buffers and weight tables, reused from image to image; one per thread. */
typedef struct TicResizer TicResizer;
TicResizer *tic_resizer_new(void);
void tic_resizer_free(TicResizer *z);

/* The square of a picture that a model sees: the box, scaled to width x height, of which size x size from (x, y) are kept. */
typedef struct { TicBox box; int64_t width, height, x, y; int size; } TicView;

TicView tic_view_box(TicBox box, int size);                       /* the box, scaled to size x size */
TicView tic_view_centre(int width, int height, int size);         /* shortest side to `size`, then the central square */
TicBox tic_view_needs(TicResizer *z, const TicView *v);           /* the part of the picture that it is computed from */

/* The view: planes [3, size, size]. Its box must lie inside the image, of which no more is read than the view needs. */
void tic_resize(TicResizer *z, const TicImage *image, const TicView *v, uint8_t *planes);
void tic_resize_box(TicResizer *z, const TicImage *image, TicBox box, int size, uint8_t *planes);
void tic_resize_centre(TicResizer *z, const TicImage *image, int size, uint8_t *planes);

/* The same square by the nearest pixels. */
void tic_resize_centre_nearest(const TicImage *image, int size, uint8_t *planes);

/* x = (v / 255 - mean) / std, each step rounded to float as torchvision does: a table [3][256], and its use on
 * planes [3, n] -> out [3, n]. */
void tic_normalise_table(const float mean[3], const float std[3], float table[3][256]);
void tic_normalise(const float table[3][256], const uint8_t *planes, size_t n, float *out);
#endif
