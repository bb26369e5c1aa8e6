/* dice.h -- a stream of random draws that belongs to one sample.
 *
 * Every sample of the synthetic stream has its own counter space of tic_philox (key = the user's seed,
 * counter high = what is drawn for which year, counter low = sample and block), so a sample never depends
 * on how many others were asked for, nor on their order. */
#ifndef TIC_TOOLS_DICE_H
#define TIC_TOOLS_DICE_H
#include "base.h"

typedef struct {
    uint64_t key, stream, next;    /* next: counter of the block after the one in hand */
    TicRandom4 block;
    int used;                      /* words of `block` already given out */
} Dice;

/* `index` < 2^40; a sample has 2^24 blocks before it would run into the next one. */
static inline Dice dice_make(uint64_t seed, uint64_t stream, uint64_t index)
{
    return (Dice){ .key = seed, .stream = stream, .next = index << 24, .used = 4 };
}

static inline uint32_t dice_bits(Dice *d)
{
    if (d->used == 4) {
        d->block = tic_philox(d->key, d->next++, d->stream);
        d->used = 0;
    }
    return d->block.v[d->used++];
}

/* 0 .. n-1; n >= 1. */
static inline int dice_below(Dice *d, int n)
{
    return (int)(((uint64_t)dice_bits(d) * (uint64_t)n) >> 32);
}

static inline float dice_range(Dice *d, float low, float high)
{
    return low + (high - low) * (float)(dice_bits(d) >> 8) * 0x1p-24f;
}

static inline bool dice_chance(Dice *d, float p)
{
    return dice_range(d, 0, 1) < p;
}
#endif
