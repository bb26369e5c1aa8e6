/* source.h -- the training data of a time step: its years, the vocabulary, the loader, as the program's data block says. */
#ifndef TIC_TRAIN_SOURCE_H
#define TIC_TRAIN_SOURCE_H
#include "base.h"
#include "tic.h"
#include "train/report.h"

typedef struct {
    const char *data, *vocab;
    int year, batch, loaders;
    uint64_t seed;
} TicSourceOptions;
typedef struct TicSource TicSource;

TicStatus tic_source_open(const TicProgram *p, const TicSourceOptions *o, TicSource **out);
/* Batch `step`: pixels [B,3,S,S], tokens [B,context]; NULL where the program reads none. */
TicStatus tic_source_batch(TicSource *s, int64_t step, float *pixels, int32_t *tokens);
uint64_t tic_source_digest(const TicSource *s);          /* of the shards' names and sizes */
void tic_source_describe(const TicSource *s, TicReport *r);      /* years, samples, vocabulary: one line each */
void tic_source_summary(TicSource *s, TicReport *r);             /* what was skipped, by reason, when anything was */
void tic_source_close(TicSource *s);
#endif
