/* nvrtc.h -- CUDA C text to machine code through NVRTC, found at run time: nothing of CUDA is needed to build.
 *
 * The library is looked for under its soname, in CUDA_HOME and /usr/local/cuda, and where Python packages put it;
 * TIC_LIBNVRTC names another one. */
#ifndef TIC_DEVICE_NVRTC_H
#define TIC_DEVICE_NVRTC_H
#include "base.h"

typedef struct TicNvrtc TicNvrtc;

/* NULL and a sentence when there is none, or it is too old. */
TicNvrtc *tic_nvrtc_open(char *why, size_t size);
/* Frees `n`, NULL too; the library stays in the process, as it does not survive being unloaded. */
void tic_nvrtc_close(TicNvrtc *n);

/* One text for one architecture ("sm_80", "sm_90a"). After tic_nvrtc_compile: image is the cubin (or PTX, a string), log
 * what the compiler said, both to be freed; image NULL: the text was refused and log says why. What was compiled is kept in
 * ~/.cache/ticc (or XDG_CACHE_HOME) under a hash of all that it follows from; a file there that is damaged counts as none. */
typedef struct {
    const char *name, *prelude, *text, *arch;
    bool ptx;
    void *image;
    size_t bytes;
    char *log;
    double seconds;
} TicCuda;
/* Fills jobs with what earlier compilations have kept; returns how many are left. */
int tic_nvrtc_recall(TicNvrtc *n, TicCuda *job, int n_jobs);
/* All jobs without an image, by up to `threads` threads (0: one per CPU). False when a text was refused. */
bool tic_nvrtc_compile(TicNvrtc *n, TicCuda *job, int n_jobs, int threads);
void tic_nvrtc_free(TicCuda *job, int n_jobs);
extern const char tic_nvrtc_options[];           /* what every compilation is given, for hashes */
#endif
