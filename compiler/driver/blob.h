/* blob.h -- builds the constant `tic_program`: the tables of runtime/tic.h behind one header, in one piece of bytes. */
#ifndef TICC_BLOB_H
#define TICC_BLOB_H
#include "cuda/cuda.h"
#include "front/program.h"
#include "pass/kernel.h"
#include "tic.h"

typedef struct {
    int kernel;                  /* index into tic_kernels, or, in a CUDA entry, of the module's kernels unless `host` */
    bool host;
    const int *arg;              /* tensors of the entry's graph */
    int n_arg;
    const Kernel *from;
    Poly flops;                  /* 0 for all but one launch of a kernel */
} Launch;

/* One entry, lowered: its graph with every workspace tensor added, and the launches in order. */
typedef struct {
    const char *name;
    enum TicTarget target;
    Fused *fused;
    Fused *gpu;                      /* the same for GPUs; NULL when it is not to run there */
    ARRAY(Launch) launch;
    double forward_flops_per_pair;
} Entry;

typedef struct { uint32_t arch; const void *bytes; size_t n; } GpuImage;

typedef struct {
    const Program *program;
    const Entry *entry;
    int n_entry;
    const Graph *step;           /* whose T_STATE tensors are the optimiser's states; NULL: none */
    const char *source, *target, *version;
    uint64_t hash;
    int n_kernels, n_distinct;
    const CudaModule *cuda;      /* NULL: no code for GPUs */
    const GpuImage *image;       /* [cuda_files * n_arch]; n 0: the file is not for that architecture */
    int n_arch;
} BlobInput;

/* The rows of the smallest table that the tokens index, *table being its tensor; 0 when they index none. */
int64_t blob_vocabulary(const Program *p, int *table);
/* The blob, in the arena; *size gets its bytes. */
const void *blob_build(const BlobInput *in, Arena *a, size_t *size);
#endif
