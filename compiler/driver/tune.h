/* tune.h -- ticc --tune: which template computes each contraction and attention of a model fastest on the GPU that is here. */
#ifndef TICC_TUNE_H
#define TICC_TUNE_H
#include "driver/blob.h"
#include "driver/compile.h"

typedef struct {
    const Options *o;
    const Program *program;
    const Entry *entry;          /* fused for GPUs */
    int n_entry;
    uint64_t hash;
} TuneInput;

/* Measures, prints what it measured to stdout, and writes the table. Exit code: 0; 1 and a line on stderr: no GPU, a table
 * that cannot be read or written, a template whose results are not those of the first; 70 our fault. */
int tune(const TuneInput *in, Arena *a);
#endif
