/* batch.h -- where the pictures and captions of a batch go. */
#ifndef TIC_DATA_BATCH_H
#define TIC_DATA_BATCH_H
#include "data/resize.h"
#include <string.h>

/* Pictures are wanted as pixels [n, 3, size, size], normalised, or as bytes, the same in 8 bits; captions as tokens
 * [n, context]. NULL: not wanted. */
typedef struct { float *pixels; uint8_t *bytes; int32_t *tokens; } TicBatch;

/* n pictures, planes [n, 3, side, side], from place `at` of the batch on, in the form that is wanted there. */
static inline void tic_batch_pictures(TicBatch b, const float table[3][256], const uint8_t *planes, int64_t n, int side, int64_t at)
{
    size_t plane = (size_t)side * (size_t)side, picture = 3 * plane;
    if (b.bytes)
        memcpy(b.bytes + (size_t)at * picture, planes, (size_t)n * picture);
    for (int64_t i = 0; b.pixels && i < n; i++)
        tic_normalise(table, planes + (size_t)i * picture, plane, b.pixels + (size_t)(at + i) * picture);
}
#endif
