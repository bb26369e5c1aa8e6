/* views.h -- a year as a view of one pool: a list of uids chooses samples where they lie, and nothing is copied.
 *
 * uids.index, which `ticdata index --uids` writes into a pool's folder, says the uid of every sample of every shard. A list
 * is a .npy file of (high, low) pairs of little-endian u64, as TiC-DataComp publishes them. A uid listed k times is k
 * samples (DataComp's multiplicity). */
#ifndef TIC_DATA_VIEWS_H
#define TIC_DATA_VIEWS_H
#include "base.h"
#include "data/shards.h"

typedef struct { uint64_t high, low; } TicUid;       /* 0, 0: a sample that has none */

/* 32 hex digits, any case; false when `text` does not begin with exactly those. */
bool tic_uid_parse(const char *text, TicUid *uid);
int tic_uid_order(const void *a, const void *b);     /* for qsort and bsearch */

/* The uids of a list, sorted. TIC_USER when the file is no such array. Caller frees *uids. */
TicStatus tic_uids_read(const char *npy, TicUid **uids, int64_t *n);

/* One shard of a uids.index; `name` is its path from the index's folder. */
typedef struct {
    char *name;
    int64_t bytes;                 /* of the shard when it was indexed */
    TicUid *uid;                   /* [samples] */
    int64_t samples;
} TicUidShard;

TicStatus tic_uid_index_write(const char *folder, const TicUidShard *shard, int n);

/* Appends the shards of `pool` (a folder with uids.index), each with the samples that the list names; shards of which none
 * is named are left out. Adds to list->listed, ->unknown (uids that the pool does not have) and ->repeated (entries that
 * repeat one). TIC_USER when there is no index, when a shard has changed since, or when nothing is chosen. */
TicStatus tic_view_add(TicShardList *list, const char *pool, const char *npy);
/* Has this folder an index? */
bool tic_view_pool(const char *folder);
#endif
