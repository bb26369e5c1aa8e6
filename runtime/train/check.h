/* check.h -- a GPU against the CPU: every kernel by itself, then whole steps. */
#ifndef TIC_TRAIN_CHECK_H
#define TIC_TRAIN_CHECK_H
#include "base.h"
#include "tic.h"
#include <stdio.h>

typedef struct {
    const char *device;      /* "cuda", "cuda:N" */
    int64_t batch, threads, steps;
    double tolerance;        /* largest error of a kernel, relative to the largest number of the tensor; 0: by the program's precision */
    bool explain;            /* a line for every kernel */
} TicCheckOptions;

/* TIC_BUG when a kernel, the losses or the parameters differ by more, or two runs on the GPU are not equal bit by bit. */
TicStatus tic_check(const TicProgram *p, const TicKernel *kernels, const TicCheckOptions *o, FILE *out);
#endif
