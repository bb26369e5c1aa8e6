/* cuda.h -- an NVIDIA GPU: memory, the kernels of a program, launches, graphs. Only cuda.c knows the driver's API, which
 * it finds at run time: the same build serves machines with and without a GPU. TIC_LIBCUDA names another library. */
#ifndef TIC_DEVICE_CUDA_H
#define TIC_DEVICE_CUDA_H
#include "base.h"
#include "tic.h"

typedef struct TicGpu TicGpu;
typedef struct TicGpuGraph TicGpuGraph;
typedef uint64_t TicGpuPtr;                      /* an address on the device; 0: none */

/* Opens device `ordinal`. TIC_USER and one line: no driver, no such device, too old a driver or device. */
TicStatus tic_gpu_open(const TicProgram *p, int ordinal, TicGpu **out);
void tic_gpu_close(TicGpu *g);
const char *tic_gpu_name(const TicGpu *g);       /* "NVIDIA H200, 139.8 GiB" */
void tic_gpu_arch(const TicGpu *g, char *out, size_t size);      /* what its kernels are compiled for: "sm_90a" */

/* Everything below is ordered by one stream; TIC_IO and a line when the device failed, which it then does for good. */
TicStatus tic_gpu_alloc(TicGpu *g, size_t bytes, const char *what, TicGpuPtr *out);      /* 256-byte aligned */
void tic_gpu_free(TicGpu *g, TicGpuPtr p);
TicStatus tic_gpu_host(TicGpu *g, size_t bytes, void **out);                            /* memory the device copies fast */
void tic_gpu_host_free(TicGpu *g, void *p);
TicStatus tic_gpu_to(TicGpu *g, TicGpuPtr to, const void *from, size_t bytes);           /* from must stay until a wait */
TicStatus tic_gpu_from(TicGpu *g, void *to, TicGpuPtr from, size_t bytes);               /* there after a wait */
TicStatus tic_gpu_copy(TicGpu *g, TicGpuPtr to, TicGpuPtr from, size_t bytes);           /* on the device */
TicStatus tic_gpu_wait(TicGpu *g);
bool tic_gpu_busy(TicGpu *g);                    /* the stream has something to do yet */

/* Copies beside the stream, while it works. send: from memory of tic_gpu_host to a place on the device that nothing else
 * uses. take, in its turn on the stream, waits for all that was sent before and copies from there; what is sent later comes
 * after that. wait_sent: the host's memory may be written again. */
TicStatus tic_gpu_send(TicGpu *g, TicGpuPtr to, const void *from, size_t bytes);
TicStatus tic_gpu_take(TicGpu *g, TicGpuPtr to, TicGpuPtr from, size_t bytes);
TicStatus tic_gpu_wait_sent(TicGpu *g);

/* Makes a kernel (index into gpu_kernels) ready: from its embedded image, else compiled with NVRTC and kept in
 * ~/.cache/ticc (or XDG_CACHE_HOME). All kernels asked for at once compile in parallel. */
TicStatus tic_gpu_prepare(TicGpu *g, const uint32_t *kernel, int n);
TicStatus tic_gpu_launch(TicGpu *g, uint32_t kernel, const TicGpuPtr *arg, int n_arg, int64_t batch);

/* Between begin and end, launches are noted instead of made. */
TicStatus tic_gpu_graph_begin(TicGpu *g);
TicStatus tic_gpu_graph_end(TicGpu *g, TicGpuGraph **out);
TicStatus tic_gpu_graph_launch(TicGpu *g, TicGpuGraph *graph);
void tic_gpu_graph_free(TicGpu *g, TicGpuGraph *graph);

/* Marks of time on the stream, 0 .. n-1; seconds between two of them after a wait. */
TicStatus tic_gpu_mark(TicGpu *g, int i);
double tic_gpu_seconds(TicGpu *g, int from, int to);
#endif
