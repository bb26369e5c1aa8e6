/* resize_impl.h -- the two passes of resize.c, which are weighted sums of bytes, and the forms of them that a processor may
 * have. Private to runtime/data.
 *
 * Every form gives the same bits: the sum of 22-bit fixed-point weights times bytes is an integer modulo 2^32 in whatever
 * order and in whatever parts it is computed. */
#ifndef TIC_DATA_RESIZE_IMPL_H
#define TIC_DATA_RESIZE_IMPL_H
#include "data/resize.h"

enum {
    TIC_WEIGHT_BITS = 22,          /* fractional bits of a weight: 32 - 8 (sample) - 2 (sign, overshoot) */
    TIC_LINE_BYTES = 64,           /* lines between the passes are padded to a multiple of this */
};

/* The weights of a run of output positions along one axis. */
typedef struct {
    int count;                     /* output positions */
    int most;                      /* room for weights of each */
    int64_t *first;                /* [count]: the first input position */
    int *taps;                     /* [count] */
    int32_t *weight;               /* [count, most] */
    double *exact;                 /* [most] */
    size_t room, exact_room, count_room;
    /* for a TicResizeForm: four positions at a time from start[i], which may lie before first[i] */
    int groups;
    int64_t *start;                /* [count] */
    int32_t *packed;               /* [count, groups, 4]: as the form's `pack` makes them */
    size_t packed_room;
} TicWeights;

/* One processor's way. Weights are dealt to groups of four input positions, those of no use being 0. */
typedef struct {
    void (*pack)(const int32_t weight[4], int32_t packed[4]);
    /* Horizontal: rows of RGB from `from` (position 0 of the weights), `stride` bytes apart, to lines of RGB. Reads nothing
     * but positions start[i] .. start[i] + 4 groups - 1. */
    void (*across)(const uint8_t *from, size_t stride, int rows, const TicWeights *w, uint8_t *to, size_t line);
    /* Vertical: one line, all of its `line` bytes, from the 4 `groups` lines at `from`. */
    void (*down)(const uint8_t *from, size_t line, const int32_t *packed, int groups, uint8_t *to);
} TicResizeForm;

/* The forms of this build that this processor can run, best first. */
int tic_resize_forms(const TicResizeForm *form[2]);
/* Makes a resizer use this form, NULL: portable loops; for tests. */
void tic_resizer_use(TicResizer *z, const TicResizeForm *form);
#endif
