/* cuda.h -- the CUDA back end's face: fused kernels to CUDA C text, and the text to cubins through NVRTC.
 *
 * A CudaModule collects kernel files, one for each distinct kernel (equal signatures share one). Everything is
 * specialised on static shapes; the batch is a kernel argument. What a program carries of it is in runtime/tic.h. */
#ifndef CUDA_CUDA_H
#define CUDA_CUDA_H
#include "pass/kernel.h"
#include "tic.h"

typedef struct CudaModule CudaModule;

CudaModule *cuda_module_new(Arena *a);

/* Lowers kernel k of f, not of class K_HOST: one or more launches. launch[i].kernel is an index of a CudaKernel,
 * launch[i].arg the tensors it wants; workspace tensors between launches are added to f->graph as T_TEMP tensors (and
 * to f->storage). Returns the number of launches, or -1 and a sentence. */
typedef struct { int kernel; const int *arg; int n_arg; } CudaLaunch;
int cuda_lower(CudaModule *m, Fused *f, const Kernel *k, CudaLaunch *launch, int cap, Text *why);

/* Whether a SCORE kernel can be lowered (FuseOptions). */
bool cuda_takes_score(Graph *g, const Kernel *k);

/* One __global__ function. */
typedef struct {
    const char *name;
    int file;                /* which text holds it */
    TicGrid grid;
    int threads, shared;     /* a block's threads; bytes of dynamic shared memory */
    bool table;              /* gets its arguments as one array of pointers in the device's memory */
    TicGpuHopper hopper;
} CudaKernel;
int cuda_kernels(const CudaModule *m);
const CudaKernel *cuda_kernel(const CudaModule *m, int i);
int cuda_files(const CudaModule *m);
const char *cuda_file(const CudaModule *m, int i);           /* the text, without the prelude in front */
const char *cuda_file_name(const CudaModule *m, int i);      /* "k3_row_nn_13" */
void cuda_print(const CudaModule *m, Text *out);             /* --emit=cuda: prelude once, then every file */
#endif
