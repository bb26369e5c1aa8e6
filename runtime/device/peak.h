/* peak.h -- what the machine can do, measured: f32 fused multiply-adds and memory traffic, the two bounds of a kernel. */
#ifndef TIC_DEVICE_PEAK_H
#define TIC_DEVICE_PEAK_H
#include "device/pool.h"

/* All the pool's threads multiply and add in registers alone, for some 6 ms: the FLOPs (2 a multiply-add) of it. 0, at once, when
 * this processor is none the function knows. */
double tic_peak_round(TicPool *pool);
/* FLOP/s of the best of three rounds, since an interruption only ever lowers it; 0 likewise. */
double tic_peak_f32(TicPool *pool);
/* Bytes a second, read and written, of all threads copying between buffers far larger than any cache share of theirs;
 * the best of three rounds. 0 when there is no memory for the buffers (128 MB). */
double tic_peak_bytes(TicPool *pool);
#endif
