/* synth.h -- writes a small image-text stream in the layout of a year-partitioned pool:
 *
 *     DIR/train/YEAR/                   00000000.tar ...  00000000_stats.json ...
 *                                       sizes.json  meta.json  sample_ids.npy
 *     DIR/eval/retrieval/YEAR/          0.tar ...  0.json ...  nshards.txt  count.txt  dataset_type.txt
 *                                       and the same three
 *     DIR/eval/datacompnet/YEAR/        the same, with KEY.cls members, classnames.txt and
 *                                       zeroshot_classification_templates.txt
 *
 * The bytes are a function of the options alone (not of the clock, the machine or DIR), and those of one year
 * do not depend on which other years are asked for. */
#ifndef TIC_TOOLS_SYNTH_H
#define TIC_TOOLS_SYNTH_H
#include "base.h"

typedef struct {
    const char *out;             /* DIR */
    int samples_per_year;        /* training pairs, 1 .. 1,000,000 */
    int eval_samples;            /* pairs in each evaluation set of a year, 0 (no evaluation sets) .. 2000 */
    int shard_size;              /* samples in a shard, 1 .. 10,000 */
    int first_year, last_year;   /* within PLAN_FIRST_YEAR .. PLAN_LAST_YEAR */
    uint64_t seed;
    bool overwrite;              /* replace the shards and side files of these years in a folder with content */
} SynthOptions;

typedef struct {
    int years;
    int64_t training, retrieval, labelled, shards, bytes;
} SynthReport;

/* TIC_USER: the folder has content and `overwrite` is off. TIC_IO: disk full, permission. */
TicStatus synth_write(const SynthOptions *options, SynthReport *report);
#endif
