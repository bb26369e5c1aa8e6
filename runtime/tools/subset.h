/* subset.h -- `ticdata reshard --subset`: the samples that a list of uids names, as DataComp's resharder writes them.
 *
 *     OUT/00000000.tar ...  00000000_stats.json ...  sizes.json  meta.json  sample_ids.npy (the list)
 *
 * A uid listed k times is k samples, UID-0 .. UID-(k-1). Members come in the order of their extensions; with a class file a
 * member cls holds the class of each uid that it has. Unlike the resharder's, the bytes are a function of the input. */
#ifndef TIC_TOOLS_SUBSET_H
#define TIC_TOOLS_SUBSET_H
#include "base.h"

typedef struct {
    const char *in, *out;        /* shards; a new or empty folder */
    const char *subset;          /* .npy of uids */
    const char *classes;         /* a pickled dict, uid text to class number; NULL: none */
    int64_t shard_size;
} SubsetOptions;

/* TIC_USER when the list names no sample of `in`. Says what was written, which uids were not found, which repeat. */
TicStatus subset_write(const SubsetOptions *o);
#endif
