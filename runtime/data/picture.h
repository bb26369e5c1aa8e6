/* picture.h -- from the bytes of a picture in a shard to the square that a model sees. */
#ifndef TIC_DATA_PICTURE_H
#define TIC_DATA_PICTURE_H
#include "data/resize.h"

/* Everything that takes, reused from picture to picture; one per thread. */
typedef struct {
    int size;
    bool scaled;                   /* JPEGs are decoded at a half, quarter or eighth where that leaves `size` pixels */
    TicImage image;
    TicResizer *resizer;
} TicPicture;

void tic_picture_init(TicPicture *p, int size);
void tic_picture_free(TicPicture *p);

/* Training: a random crop by `crop`, with numbers of `random`; validation (crop NULL): shortest side to `size`, then the
 * central square. planes [3, size, size]. Only what is needed of the picture is decoded. TIC_BAD_SAMPLE: see image.h.
 *
 * Where the picture is decoded smaller, its box is drawn twice from the same numbers: at the file's size, which decides how
 * much smaller, and at the size that comes out. */
TicStatus tic_picture_square(TicPicture *p, const uint8_t *data, size_t bytes, const TicCrop *crop, TicRandom random, uint8_t *planes);
#endif
