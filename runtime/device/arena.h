/* arena.h -- offsets for buffers with known live ranges: the whole memory of a step, planned before the first one. */
#ifndef TIC_DEVICE_ARENA_H
#define TIC_DEVICE_ARENA_H
#include "base.h"

typedef struct {
    int64_t bytes;           /* size; 0 allowed */
    int first, last;         /* live from step `first` to `last`, both included */
    int64_t offset;          /* out: a multiple of 64 */
} TicBlock;

/* Greedy by size: the largest block first, each at the lowest offset free during its whole life. Deterministic.
 * Returns the arena's size in bytes, or -1 when a sum overflows. O(n^2). */
int64_t tic_arena_plan(TicBlock *block, int n);
#endif
