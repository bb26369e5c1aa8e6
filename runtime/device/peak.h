/* peak.h -- the machine's f32 fused multiply-add peak, measured: what "share of peak" is a share of. */
#ifndef TIC_DEVICE_PEAK_H
#define TIC_DEVICE_PEAK_H
#include "device/pool.h"

/* FLOP/s (2 a multiply-add) of all the pool's threads together, by register-only loops of some 50 ms; 0 when this
 * processor is none the function knows. */
double tic_peak_f32(TicPool *pool);
#endif
