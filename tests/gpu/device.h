/* device.h -- a device for the tests of kernels: the emulator, or a GPU when TIC_GPU=1.
 *
 * The same calls go to the same functions of libcuda and libnvrtc, or of the emulator's two libraries beside the test, so
 * what a test checks in the emulator it can check and time on a GPU. Failures end the test with one line. */
#ifndef GPU_DEVICE_H
#define GPU_DEVICE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint16_t Bf16;
typedef struct Kernel Kernel;
typedef struct TensorMap { uint64_t q[16]; } __attribute__((aligned(64))) TensorMap;

bool dev_is_gpu(void);                 /* opens the device on the first call, as all do */
int  dev_arch(void);                   /* 80, 90, ..; the emulator is what it is asked to be */
int  dev_processors(void);
const char *dev_name(void);

/* Compiles a text that includes "tc.cuh" (given to the compiler, with the wgmma words printed behind it) for `arch` (on a
 * GPU: for the GPU, unless it is sm_90a) and finds the kernel. NULL and the compiler's log in *log when it does not compile;
 * `log` may be NULL: then a failure ends the test. With TIC_CUBINS=FOLDER compiled code is kept there; with
 * TIC_PRECOMPILE=1 nothing more is done than that, for a GPU elsewhere. */
Kernel *dev_kernel(const char *text, const char *name, const char *arch, int shared, const char **log);
/* What the true NVRTC says of the text (registers, spills, warnings); false when there is none on this machine. */
bool dev_report(const char *text, const char *arch, bool *compiled, const char **log);
void dev_forget(Kernel *k);            /* frees its module */
void dev_wgmma(int n, const char *form);                 /* the words of dev_kernel's texts from now on include this one */

void *dev_alloc(size_t bytes);         /* device memory, uninitialised */
void dev_free(void *p);
void dev_free_all(void);
void *dev_upload(const void *data, size_t bytes);        /* a new buffer */
void dev_download(void *to, const void *from, size_t bytes);
void dev_copy(void *to, const void *from, size_t bytes); /* on the device */
void dev_fill(void *p, uint8_t byte, size_t bytes);
TensorMap dev_map(const void *base, bool bf16, uint32_t rank, const uint64_t *dim, const uint64_t *stride, const uint32_t *box);

/* false when the launch failed: the emulator found a defect (dev_defect) */
bool dev_launch(Kernel *k, uint32_t gx, uint32_t gy, uint32_t threads, void **args);
const char *dev_defect(void);
void dev_seed(uint32_t seed, bool values_only);          /* of the emulator's next launches */
/* milliseconds of one launch: the median of `runs`, after a warm-up; clears the cache of the device when asked */
double dev_time(void (*launch)(void *), void *ctx, int runs);

/* ---- numbers */
uint32_t dev_random(void);             /* of a fixed sequence; dev_random_seed starts it */
void  dev_random_seed(uint64_t seed);
float dev_uniform(float scale);        /* in (-scale, scale) */
Bf16  dev_bf16(float x);
float dev_float(Bf16 x);

/* ---- TAP */
void dev_ok(bool ok, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int  dev_done(void);                   /* prints the plan; the exit code */
#endif
