/* shardread.h -- a shard sample by sample, with every member, for tools that count or copy.
 *
 * What one sample is follows the rule of data/index.h, which keeps only the members that training reads: consecutive
 * members of one key; a repeated extension (compared without case) starts the next sample; members that have no key
 * belong to none and are counted as strays. */
#ifndef TIC_TOOLS_SHARDREAD_H
#define TIC_TOOLS_SHARDREAD_H
#include "base.h"

typedef struct {
    char *name;
    size_t key_size;               /* of the name's beginning; the extension follows behind a '.' */
    int64_t offset, size;          /* of the contents in the shard */
} ShardMember;

typedef struct {
    ShardMember *member;           /* [count], count >= 1, in the shard's order */
    int count, room;
} ShardSample;

typedef struct ShardReader ShardReader;

/* TIC_USER when the file cannot be opened. */
TicStatus shardread_open(const char *path, ShardReader **out);
/* TIC_OK and a sample, valid until the next call; TIC_END after the last one; TIC_IO. */
TicStatus shardread_next(ShardReader *r, const ShardSample **sample);
/* The contents of a member, m->size bytes and a zero byte. Caller frees *data. */
TicStatus shardread_bytes(ShardReader *r, const ShardMember *m, char **data);
const char *shardread_damage(const ShardReader *r);    /* what ended the walk before its time, or NULL */
int64_t shardread_strays(const ShardReader *r);        /* members met so far that belong to no sample */
void shardread_close(ShardReader *r);                  /* NULL is allowed */

/* The name behind the key and its '.'. */
const char *shardread_extension(const ShardMember *m);
#endif
