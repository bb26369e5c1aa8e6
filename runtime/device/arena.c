/* arena.c -- see arena.h. Placing large blocks first keeps the holes small: what is left for the many small blocks
 * fits between. Optimal packing is NP-hard; on training steps this comes within a few percent of the live maximum. */
#define _GNU_SOURCE
#include "device/arena.h"
#include <stdlib.h>
#include <string.h>

static int by_size(const void *a, const void *b, void *blocks)
{
    int x = *(const int *)a, y = *(const int *)b;
    const TicBlock *p = blocks;
    if (p[x].bytes != p[y].bytes)
        return p[x].bytes < p[y].bytes ? 1 : -1;
    if (p[x].first != p[y].first)
        return p[x].first < p[y].first ? -1 : 1;
    return x < y ? -1 : 1;
}

int64_t tic_arena_plan(TicBlock *block, int n)
{
    int *order = tic_alloc((size_t)n * sizeof *order), *placed = tic_alloc((size_t)n * sizeof *placed);
    for (int i = 0; i < n; i++)
        order[i] = i;
    qsort_r(order, (size_t)n, sizeof *order, by_size, block);
    int64_t total = 0;
    int count = 0;           /* placed[]: indices by ascending offset */
    for (int i = 0; i < n; i++) {
        TicBlock *b = &block[order[i]];
        int64_t size, at = 0;
        if (__builtin_add_overflow(b->bytes, 63, &size) || b->bytes < 0) {
            total = -1;
            break;
        }
        size &= ~(int64_t)63;
        for (int j = 0; j < count; j++) {
            const TicBlock *o = &block[placed[j]];
            if (o->last < b->first || b->last < o->first)
                continue;
            if (o->offset >= at + size)
                break;
            int64_t end = o->offset + ((o->bytes + 63) & ~(int64_t)63);
            if (end > at)
                at = end;
        }
        b->offset = at;
        if (__builtin_add_overflow(at, size, &size)) {
            total = -1;
            break;
        }
        if (size > total)
            total = size;
        int pos = count++;
        for (; pos > 0 && block[placed[pos - 1]].offset > at; pos--)
            placed[pos] = placed[pos - 1];
        placed[pos] = order[i];
    }
    free(order);
    free(placed);
    return total;
}
