/* prelude.h -- the words kernels are written in, as text: prelude/tc.cuh, which see. */
#ifndef CUDA_PRELUDE_H
#define CUDA_PRELUDE_H
#include "../base.h"

extern const char tc_prelude[];          /* the file: pasted in front of a kernel, or given to NVRTC as a header */

/* Prints tc_wgmma_N_FORM; n: a multiple of 8 up to 256; form: "kk" "km" "mk" "mm" "rk" "rm". Print it behind tc_prelude
 * and once a text: the emulator has all of them. */
void prelude_wgmma(Text *out, int n, const char *form);
#endif
