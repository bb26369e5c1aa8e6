/* native.h -- a picture resized in the mode its file has, and only then made RGB.
 *
 * OpenCLIP's transform of an opened file resizes first and converts afterwards; in shards the order is the other (their
 * pictures become RGB when they are decoded). For grey and RGB both are the same. Otherwise, as Pillow does it:
 *
 *   alpha          colours are multiplied by it, resized, divided by it; then alpha is dropped
 *   palette, 1 bit the nearest pixel is taken, whatever filter was asked for
 *   CMYK           four channels are resized, then converted */
#ifndef TIC_DATA_NATIVE_H
#define TIC_DATA_NATIVE_H
#include "data/resize.h"

typedef enum { TIC_NATIVE_RGB, TIC_NATIVE_ALPHA, TIC_NATIVE_PALETTE, TIC_NATIVE_CMYK } TicNativeKind;

typedef struct {
    TicNativeKind kind;
    TicImage image;              /* RGB, or C, M, Y */
    TicImage fourth;             /* alpha, or K, three times over; empty where there is none */
} TicNative;                     /* { 0 } before first use; tic_native_free at the end */

TicStatus tic_native_decode(const uint8_t *data, size_t size, TicNative *n);
/* Shortest side to `size`, the central square, then RGB: planes [3, size, size]. */
void tic_native_square(TicResizer *z, const TicNative *n, int size, uint8_t *planes);
void tic_native_free(TicNative *n);

/* The decoders' side: `native` NULL: the picture as RGB; `wanted` NULL: all of it. */
TicStatus tic_jpeg_decode_native(const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image, TicNative *native);
TicStatus tic_png_decode_native(const uint8_t *data, size_t size, TicImage *image, TicNative *native);
TicStatus tic_webp_decode_native(const uint8_t *data, size_t size, TicImage *image, TicNative *native);
/* Fills image and fourth from rows of RGBA, [height, width, 4]; for the decoders. */
TicStatus tic_native_from_rgba(const uint8_t *rgba, int width, int height, TicNative *n);
/* (255 - c) k / 255, as Pillow's table-free CMYK: for the decoders. */
uint8_t tic_cmyk_channel(uint8_t colour, uint8_t black);
#endif
