/* shards.h -- which tar files make up a data set, in a fixed order.
 *
 * A list grows by specifications. A specification is what OpenCLIP's --train-data takes: parts joined by "::",
 * each with brace ranges ({00000000..00000123}, {2014,2015}, nested), each naming a tar file or a folder. A folder
 * means every .tar below it, sorted so that numbers in names count as numbers (2.tar before 10.tar); names that
 * begin with '.' are passed over. A sizes.json beside the shards ({"00000000.tar": 10000, ...}) gives the numbers
 * of samples. What is named must exist: a missing file is an error here, not in the middle of a run. */
#ifndef TIC_DATA_SHARDS_H
#define TIC_DATA_SHARDS_H
#include "base.h"

enum { TIC_MAX_SHARDS = 1 << 20, TIC_SHARD_DEPTH = 16 };

typedef struct {
    char *path;
    int64_t samples;               /* from sizes.json; -1: not stated; of a view: how many are picked */
    int32_t *pick;                 /* [samples] of a view: which of the shard's samples, in order; NULL: all of them */
} TicShard;

typedef struct {
    TicShard *shard;               /* [count] */
    int count, room;
    int64_t compressed;            /* .tar.gz and the like that lie in its folders and are not part of it */
    int64_t listed, unknown, repeated;   /* of uid lists (views.h): entries; uids the pool does not have; entries that repeat one */
} TicShardList;                    /* { 0 } is the empty list */

/* Appends what `spec` names. TIC_USER, naming the file or folder looked for, when something is missing, when a
 * folder holds no .tar, or when a brace range is broken or larger than TIC_MAX_SHARDS. The list stays as it was. */
TicStatus tic_shards_add(TicShardList *list, const char *spec);

/* Does a folder hold .tar files, plain or compressed, itself or in its sub-folders? What cannot be listed may. */
bool tic_shards_in(const char *folder);

/* Appends the training shards of the given years (or months: 201603) of a pool at `root`, or of several, A::B. In each
 * the first of ROOT/train/YEAR, ROOT/YEAR, ROOT/yearly/train/YEAR, ROOT/monthly/train/YEAR that is a folder (sub-folders
 * count) or a list YEAR.npy of uids, which is a view (views.h) of ROOT/shards or of ROOT itself. A `root` that holds .tar
 * files and neither is one pool for all years, and is added once. At least one root must have each year. */
TicStatus tic_shards_for_years(TicShardList *list, const char *root, const int *years, int n_years);

/* Appends the evaluation shards of one year: `kind` is "retrieval" or "datacompnet". Looked for at ROOT/eval/KIND/YEAR,
 * ROOT/{yearly,monthly}/eval/KIND/YEAR, and, as DataComp lays it out, ROOT/tic/SET/SCALE/eval/KIND/YEAR and
 * ROOT/data/tic/SET/SCALE/eval/KIND/YEAR for any SET and SCALE. *folder (may be NULL): where it was found; caller
 * frees. */
TicStatus tic_shards_for_eval(TicShardList *list, const char *root, const char *kind, int year, char **folder);

/* The roots of A::B, at least one. Caller frees each and *roots. */
int tic_roots_split(const char *text, char ***roots);

void tic_shards_clear(TicShardList *list);
/* Appends one shard, whose memory the list takes over. */
void tic_shards_push(TicShardList *list, const TicShard *shard);
/* Appends all of `from`, which is empty afterwards. */
void tic_shards_move(TicShardList *to, TicShardList *from);

/* Order of names: digit runs by value, other bytes as they are. */
int tic_natural_order(const char *a, const char *b);
#endif
