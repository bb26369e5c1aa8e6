/* info.h -- what a program is, before it runs: parameters, FLOPs, peak bytes, kernels. */
#ifndef TIC_TRAIN_INFO_H
#define TIC_TRAIN_INFO_H
#include "base.h"
#include "tic.h"
#include <stdio.h>

/* Bytes of parameters and optimiser states. */
int64_t tic_model_bytes(const TicProgram *p);
/* batch 0, micro -1: the program's own. json: {"tensors", "parameters", "forward_flops_per_pair", "peak_bytes", "kernels", ...}; with
 * "gpu_peak_bytes" and "gpu_arena_bytes", of a GPU's memory, where the program has code for one. */
TicStatus tic_info(const TicProgram *p, int64_t batch, int64_t micro, bool json, FILE *out);
#endif
