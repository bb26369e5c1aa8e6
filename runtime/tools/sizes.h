/* sizes.h -- sizes.json: how many samples the shards of a folder hold, {"00000000.tar": 100, "00000001.tar": 40}. */
#ifndef TIC_TOOLS_SIZES_H
#define TIC_TOOLS_SIZES_H
#include "base.h"

typedef struct {
    const char *name;              /* without folders */
    int64_t samples;
} ShardSize;

TicStatus sizes_write(const char *folder, const ShardSize *sizes, int n);
#endif
