/* cuda.h -- the CUDA back end's face: fused kernels to CUDA C text, and the text to cubins through NVRTC.
 *
 * A CudaModule collects distinct kernels (those of equal signatures are one) in files, each of which is compiled by itself: a
 * contraction or an attention has its own, other kernels share. Everything is specialised on static shapes; the batch is a kernel
 * argument. What a program carries of it is in runtime/tic.h. */
#ifndef CUDA_CUDA_H
#define CUDA_CUDA_H
#include "pass/kernel.h"
#include "tic.h"

typedef struct CudaModule CudaModule;
struct Tuned;

/* What templates are chosen for: see tuned.h. */
typedef struct {
    const struct Tuned *tuned;   /* NULL: by rules alone */
    const char *arch;            /* whose lines the text for all GPUs but sm_90a follows */
    int64_t batch;               /* the batch at which extents that grow with it are compared */
} CudaTarget;
CudaModule *cuda_module_new(Arena *a, const CudaTarget *t);  /* the target is copied, not what it points to */

/* Lowers kernel k of f, not of class K_HOST: one or more launches. launch[i].kernel is an index of a CudaKernel,
 * launch[i].arg the tensors it wants; workspace tensors between launches are added to f->graph as T_TEMP tensors (and
 * to f->storage). Returns the number of launches, or -1 and a sentence. */
typedef struct { int kernel; const int *arg; int n_arg; } CudaLaunch;
int cuda_lower(CudaModule *m, Fused *f, const Kernel *k, CudaLaunch *launch, int cap, Text *why);

/* The f32 elements of the workspace that cuda_lower would add for it, and nothing is added to f. False and a sentence. */
bool cuda_workspace(CudaModule *m, Fused *f, const Kernel *k, Poly *elements, Text *why);

/* Whether a SCORE kernel can be lowered (FuseOptions). */
bool cuda_takes_score(Graph *g, const Kernel *k);

/* What a kernel could be given instead, to be measured. The key and the choices on `arch` of a CONTRACT or SCORE kernel, what
 * the rules give first; returns how many, 0: this kernel has no choice; -1 and a sentence. */
struct TunedKey;
struct TunedChoice;
int cuda_choices(CudaModule *m, Fused *f, const Kernel *k, const char *arch, struct TunedKey *key, struct TunedChoice *out, int cap, Text *why);
/* Lowers it with one of them on `arch`, apart from all other lowerings: launches are of kernels first .. first + n - 1, on the
 * kernel's arguments and, unless it is 0, a workspace of so many f32 elements. False and a sentence. */
typedef struct { int first, n; Poly workspace; } CudaTrial;
bool cuda_lower_choice(CudaModule *m, Fused *f, const Kernel *k, const char *arch, const struct TunedChoice *c, CudaTrial *out, Text *why);

/* One __global__ function. */
typedef struct {
    const char *name;
    int file;                /* which text holds it */
    TicGrid grid;
    int threads, shared;     /* a block's threads; bytes of dynamic shared memory */
    bool table;              /* gets its arguments as one array of pointers in the device's memory */
    TicGpuHopper hopper;
    const char *own_name;    /* of sm_90a's own; NULL: it has none */
    TicGpuOwn own;           /* its file and sizes */
} CudaKernel;
int cuda_kernels(const CudaModule *m);
const CudaKernel *cuda_kernel(const CudaModule *m, int i);
int cuda_files(const CudaModule *m);
const char *cuda_file(const CudaModule *m, int i);           /* the text, without the prelude in front */
const char *cuda_file_name(const CudaModule *m, int i);      /* "k3_row_nn_13" */
bool cuda_file_is_for(const CudaModule *m, int i, const char *arch);     /* else another file has its kernels there */
void cuda_print(const CudaModule *m, Text *out);             /* --emit=cuda: prelude once, then every file */
#endif
