/* picture.c -- see picture.h. */
#include "data/picture.h"

typedef struct {
    TicPicture *picture;
    const TicCrop *crop;
    TicRandom random;
    int width, height;             /* of the file, in pixels as they come out, rounded down; 0: as decoded */
} Ask;

void tic_picture_init(TicPicture *p, int size)
{
    *p = (TicPicture){ .size = size, .resizer = tic_resizer_new() };
}

void tic_picture_free(TicPicture *p)
{
    tic_image_free(&p->image);
    tic_resizer_free(p->resizer);
}

/* The same numbers for the same picture, however often it is asked. The last pixel of a picture that was made smaller may stand
 * for less than a whole one, and is left out. */
static TicView view_of(const Ask *a, int width, int height)
{
    TicRandom random = a->random;
    if (a->width) {
        width = a->width;
        height = a->height;
    }
    if (!a->crop)
        return tic_view_centre(width, height, a->picture->size);
    return tic_view_box(tic_crop_box(width, height, *a->crop, &random), a->picture->size);
}

static TicBox box(void *user, int width, int height)
{
    const Ask *a = user;
    const TicView v = view_of(a, width, height);
    return tic_view_needs(a->picture->resizer, &v);
}

/* How far the box may shrink before it has fewer pixels than the square that is made of it. */
static int eighths(void *user, int width, int height)
{
    Ask *a = user;
    const TicView v = view_of(a, width, height);
    int n = 8;
    while (n > 1 && (int64_t)v.box.width * (n / 2) >= 8 * v.width && (int64_t)v.box.height * (n / 2) >= 8 * v.height)
        n /= 2;
    a->width = (int)((int64_t)width * n / 8);
    a->height = (int)((int64_t)height * n / 8);
    return n;
}

TicStatus tic_picture_square(TicPicture *p, const uint8_t *data, size_t bytes, const TicCrop *crop, TicRandom random, uint8_t *planes)
{
    Ask ask = { .picture = p, .crop = crop, .random = random };
    const TicWanted wanted = { box, p->scaled ? eighths : NULL, &ask };
    TRY(tic_image_decode_wanted(data, bytes, &wanted, &p->image));
    const TicView v = view_of(&ask, p->image.width, p->image.height);
    tic_resize(p->resizer, &p->image, &v, planes);
    return TIC_OK;
}
