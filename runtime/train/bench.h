/* bench.h -- times the training step on random inputs, without a data path. */
#ifndef TIC_TRAIN_BENCH_H
#define TIC_TRAIN_BENCH_H
#include "base.h"
#include "device/exec.h"
#include "tic.h"
#include <stdio.h>

typedef struct { int64_t batch, steps, threads; bool explain, json; } TicBenchOptions;

/* Prints the step's time, pairs/s, FLOP/s and share of the measured FMA peak, by kernel class; with `explain` a line for
 * every kernel (label, source line, milliseconds, share of the step, GFLOP/s). */
TicStatus tic_bench(const TicProgram *p, const TicKernel *kernels, const TicBenchOptions *o, FILE *out);

/* Random pixels and captions of a dozen words into the inputs of a step: a function of (step, position) alone. */
void tic_bench_inputs(TicExec *x, const TicProgram *p, int64_t batch, int64_t step);
#endif
