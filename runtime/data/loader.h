/* loader.h -- the public face of the data module: batches for training, samples in order for evaluation.
 *
 * Training. Sources (years, say) each have a list of shards and a weight. Which sample fills slot i of step s is a
 * pure function of (seed, s, i), the weights, the batch size and the files; the number of threads, the prefetching
 * and what was asked before have no part in it. So a run resumes at any step, and many devices that each read their
 * slots of one global batch read disjoint slots of the same batch.
 *
 *   with replacement     Each step's slots are divided among the sources by weight: a source with share p has
 *                        floor(p B) or ceil(p B) of the B slots, p B on average, spread over the batch by a seeded
 *                        permutation. In its source a slot draws a sample uniformly, by counter-based random numbers.
 *   without replacement  All sources are one set of n samples. Position s B + i falls into pass (s B + i) / n and is
 *                        looked up in that pass's seeded permutation of 0..n-1. Weights must be equal.
 *
 * A sample that cannot be used (no image, no caption, a broken image, ...) is counted by reason and replaced by
 * further draws for the same slot from the same source. A slot that finds nothing in TIC_MAX_ATTEMPTS draws is an
 * error that says so with the last reason.
 *
 * Captions: KEY.txt, else the "caption" of KEY.json. Any length, empty too; bytes that are not UTF-8 become U+FFFD. */
#ifndef TIC_DATA_LOADER_H
#define TIC_DATA_LOADER_H
#include "data/batch.h"
#include "data/bpe.h"
#include "data/image.h"
#include "data/index.h"
#include "data/shards.h"

enum { TIC_MAX_ATTEMPTS = 1000, TIC_MAX_BATCH = 1 << 24, TIC_MAX_SOURCES = 4096, TIC_MAX_SIDE = 8192 };

typedef enum {
    TIC_SKIP_NO_IMAGE,             /* no jpg, jpeg, png or webp member */
    TIC_SKIP_NO_CAPTION,           /* no txt, and no json with a caption */
    TIC_SKIP_BAD_IMAGE,            /* broken, cut short, too large, of an unknown kind */
    TIC_SKIP_BAD_JSON,             /* json needed for the caption, but it does not parse */
    TIC_SKIP_TOO_LARGE,            /* a member beyond TIC_MAX_MEMBER */
    TIC_SKIP_MISSING,              /* sizes.json promises it, the shard does not have it, or not all of it */
    TIC_SKIP_FOREIGN,              /* a GIF; + TicForeign: of another kind that is not read, by its bytes or its extension */
    TIC_SKIP_REASONS = TIC_SKIP_FOREIGN + TIC_FOREIGN_KINDS
} TicSkip;

const char *tic_skip_name(TicSkip reason);           /* "no image", ... */

typedef struct {
    int64_t delivered;             /* samples handed out */
    int64_t skipped[TIC_SKIP_REASONS];   /* draws that had to be replaced, in what was handed out */
    int64_t damaged_shards;
    double wait_seconds;           /* time the caller spent waiting */
} TicLoaderStats;

typedef struct {
    TicShardList shards;           /* copied by tic_loader_open; stays the caller's */
    double weight;                 /* share of this source, > 0, in any unit */
    const char *name;              /* for messages: "2016"; may be NULL */
} TicLoaderSource;

typedef struct {
    const TicLoaderSource *sources;
    int n_sources;
    const TicBpe *bpe;             /* must outlive the loader */
    int batch;                     /* slots this loader delivers a step, or a piece */
    /* A step may come in pieces, `batch` slots one after the other, and all of them more than once (0: 1). What
     * tic_loader_batch and `steps` number then is piece u % pieces of pass u / pieces % passes of step u / (pieces passes). */
    int pieces, passes;
    int global_batch;              /* slots of the whole step on all devices; 0: batch * pieces */
    int first_slot;                /* the global number of this loader's slot 0 */
    int image_size, context;       /* 224, 77 */
    float mean[3], std[3];         /* for those who want pictures normalised */
    bool augment;                  /* true: random crop; false: the validation transform */
    TicCrop crop;
    bool scaled_decode;            /* TicPicture.scaled */
    bool with_replacement;
    uint64_t seed;
    int threads;                   /* 0: one for each processor */
    int prefetch;                  /* steps worked on ahead of the one asked for; 0: 2 */
    int64_t steps;                 /* none from here on is prefetched; 0: no end */
    TicWarn warn;
} TicLoaderConfig;

/* Fills in what OpenCLIP uses: 224, 77, its mean and std, augment, scale 0.9..1, ratio 3/4..4/3, replacement. */
void tic_loader_defaults(TicLoaderConfig *config);

typedef struct TicLoader TicLoader;

/* Bytes of the steps that a loader keeps ready. */
int64_t tic_loader_bytes(int64_t batch, int image_size, int context, int prefetch);
/* TIC_USER for an impossible configuration, no samples, or (without replacement) fewer samples than a batch. */
TicStatus tic_loader_open(const TicLoaderConfig *config, TicLoader **out);

/* Waits for step `step` and writes its `batch` pictures and captions. Steps are expected in order, which prefetching
 * relies on; any other step may be asked for and is only slower. Called from one thread. After a failure of one step others
 * may still be asked for. */
TicStatus tic_loader_batch(TicLoader *l, int64_t step, TicBatch to);

int64_t tic_loader_samples(const TicLoader *l, int source);    /* -1 for source: of all together */
void tic_loader_stats(const TicLoader *l, TicLoaderStats *stats);
void tic_loader_close(TicLoader *l);

/* Evaluation: all samples of a list of shards, in order, decoded ahead by threads. */
typedef struct {
    TicShardList shards;           /* copied */
    int image_size;
    int threads;                   /* 0: one for each processor */
    TicWarn warn;
    TicWarn skip;                  /* a line for each unusable sample: shard, key, why; by the thread that asks for the next */
} TicSamplesConfig;

typedef struct {
    const uint8_t *planes;         /* [3, size, size], the validation transform */
    const char *caption;           /* as stored, zero-terminated; "" when there is none */
    size_t caption_size;
    bool has_caption;
    int64_t class_id;              /* of KEY.cls, else "cls" or "class" of the json; -1: none */
    const char *uid;               /* "uid" of the json; "" when there is none */
    const char *key;               /* the member name without its extension */
} TicSample;                       /* valid until the next call */

typedef struct TicSamples TicSamples;
TicStatus tic_samples_open(const TicSamplesConfig *config, TicSamples **out);
/* TIC_OK and the next usable sample; TIC_END after the last. Unusable ones are counted and passed over. */
TicStatus tic_samples_next(TicSamples *s, TicSample *sample);
void tic_samples_stats(const TicSamples *s, TicLoaderStats *stats);
void tic_samples_close(TicSamples *s);
#endif
