/* source.h -- the training data of a time step: its years, the vocabulary, the loader, as the program's data block says. */
#ifndef TIC_TRAIN_SOURCE_H
#define TIC_TRAIN_SOURCE_H
#include "base.h"
#include "data/loader.h"
#include "device/exec.h"
#include "train/report.h"

typedef struct {
    const char *data, *vocab;
    int year, batch, loaders;
    int micro;                   /* pairs of a piece, of which the batch is a multiple; 0: batches are asked for whole */
    uint64_t seed;
} TicSourceOptions;
typedef struct TicSource TicSource;

/* One source of the mixture of a time step. */
typedef struct {
    const char *name;            /* "2014..2016" */
    int64_t available;           /* samples */
    double share;                /* of the draws; all together 1 */
} TicShare;

/* The time step that holds o->year: its own years and what the strategy replays, in its shares. Steps after the first
 * draw with a seed of their own. The model is there for the program's schedule; it is not read or changed. */
TicStatus tic_source_open(TicModel *m, TicPool *pool, const TicSourceOptions *o, TicSource **out);
/* The same without opening the data: the shares (caller frees the array) and what the step may see. */
TicStatus tic_source_plan(TicModel *m, TicPool *pool, const TicSourceOptions *o, TicShare **share, int *n, int64_t *pairs);
/* Adds the draws that had to be replaced so far, by reason. */
void tic_source_skipped(const TicSource *s, int64_t skipped[TIC_SKIP_REASONS]);
int64_t tic_source_damaged(const TicSource *s);          /* shards found damaged so far */
int64_t tic_source_pairs(const TicSource *s);            /* what the strategy lets the step see */
/* Batch `step`; with `micro`, piece `piece` of it, in pass 0 or 1 over the pieces (else both are 0). */
TicStatus tic_source_piece(TicSource *s, int64_t step, int pass, int64_t piece, TicBatch to);
uint64_t tic_source_digest(const TicSource *s);          /* of the shards' names and sizes */
void tic_source_describe(const TicSource *s, TicReport *r);      /* years, samples, vocabulary: one line each */
void tic_source_close(TicSource *s);
#endif
