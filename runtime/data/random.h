/* random.h -- a stream of random numbers that belongs to one position: Philox of (key, counter), where the low eight
 * bits of the counter's upper half number the blocks of the stream. So a stream holds 512 doubles, and two streams
 * with different positions never meet. */
#ifndef TIC_DATA_RANDOM_H
#define TIC_DATA_RANDOM_H
#include "base.h"

typedef struct {
    uint64_t key, low, high;       /* `high` with its low eight bits clear */
    uint32_t block, used;          /* used: words of `now` already given */
    TicRandom4 now;
} TicRandom;

static inline TicRandom tic_random(uint64_t key, uint64_t low, uint64_t high)
{
    return (TicRandom){ .key = key, .low = low, .high = high << 8, .used = 4 };
}

static inline void tic_random_words(TicRandom *r, uint32_t *a, uint32_t *b)
{
    if (r->used == 4) {
        r->now = tic_philox(r->key, r->low, r->high | (r->block++ & 0xFF));
        r->used = 0;
    }
    *a = r->now.v[r->used];
    *b = r->now.v[r->used + 1];
    r->used += 2;
}

/* Uniform in [low, high). */
static inline double tic_random_real(TicRandom *r, double low, double high)
{
    uint32_t a, b;
    tic_random_words(r, &a, &b);
    return low + (high - low) * tic_uniform01(a, b);
}

/* Uniform in [0, n), n > 0: the upper half of a 64 x 64 bit product; no value is off by more than n / 2^64. */
static inline int64_t tic_random_below(TicRandom *r, int64_t n)
{
    uint32_t a, b;
    tic_random_words(r, &a, &b);
    return (int64_t)(((unsigned __int128)((uint64_t)a << 32 | b) * (uint64_t)n) >> 64);
}
#endif
