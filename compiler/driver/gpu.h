/* gpu.h -- the driver's CUDA part: entries lowered a second time, texts compiled for the architectures asked for. */
#ifndef TICC_GPU_H
#define TICC_GPU_H
#include "cuda/cuda.h"
#include "cuda/tuned.h"
#include "driver/blob.h"

/* "sm_80,sm_90a": the names, in the arena. NULL and a sentence for what is no architecture. */
const char **gpu_architectures(Arena *a, const char *list, int *n, Text *why);

/* The architecture whose measurements the text for all GPUs but sm_90a follows: the first of `arch` that it is for, else sm_80. */
const char *gpu_portable(const char *const *arch, int n_arch);
/* What a program's templates are chosen for: pairs as many as a step or a piece of it has. */
CudaTarget gpu_target(const Tuned *tuned, const char *const *arch, int n_arch, const TrainBlock *train);
/* What was measured: the lines of the file at `path` (NULL: none), then those compiled in. NULL and a sentence. */
const Tuned *gpu_tuned(Arena *a, const char *path, Text *why);

/* Compiles every file of m for every architecture; images by file, then architecture. False and a sentence. `report`
 * (may be NULL) gets a line for every kernel: registers, spilled bytes, shared memory, what ptxas warned of. */
bool gpu_compile(const CudaModule *m, Arena *a, const char *const *arch, int n_arch, GpuImage **image, Text *report, Text *why);
bool gpu_ptx(const CudaModule *m, Arena *a, const char *arch, Text *out, Text *why);     /* --emit=ptx */
#endif
