/* bench.h -- times the training step, or a tower, on random inputs, without a data path. */
#ifndef TIC_TRAIN_BENCH_H
#define TIC_TRAIN_BENCH_H
#include "base.h"
#include "device/exec.h"
#include "tic.h"
#include <stdio.h>

/* entry: "step", "image" or "text"; batch 0, micro -1: the program's own */
typedef struct { const char *entry; int64_t batch, micro, steps, threads; bool explain, json; } TicBenchOptions;

/* Prints the step's (or tower's) time, pairs/s, FLOP/s and share of the measured FMA peak, by kernel class; with `explain` a line for
 * every kernel (label, source line, milliseconds, share of the step, GFLOP/s). */
TicStatus tic_bench(const TicProgram *p, const TicKernel *kernels, const TicBenchOptions *o, FILE *out);

/* Random pictures and captions of a dozen words for pairs first .. first + n - 1 of a batch: a function of
 * (step, position in the batch) alone. */
void tic_bench_data(const TicProgram *p, int64_t first, int64_t n, int64_t step, TicBatch to);
/* The same into the inputs of a step, and its number; in a program of a step in pieces also what others hand it. */
void tic_bench_inputs(TicExec *x, const TicProgram *p, int64_t batch, int64_t step);
#endif
