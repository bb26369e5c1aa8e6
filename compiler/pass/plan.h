/* plan.h -- what lives when: the liveness of buffers over a schedule of kernels, and the table of --emit=plan.
 *
 * Offsets are chosen where the batch is known (the runtime's arena); this is the part that is the same for every
 * batch, and an exact lower bound for it. */
#ifndef PASS_PLAN_H
#define PASS_PLAN_H
#include "pass/kernel.h"

/* By tensor, after storage: the first and last kernel that touch its buffer, -1 when none does. Only temporaries with a
 * buffer of their own are counted; a named output lives to the end, a host scalar too. */
typedef struct {
    int *first, *last;
    bool *counted;               /* takes part in the peak */
} Liveness;

Liveness plan_liveness(const Fused *f, Arena *a);
/* The largest sum of live bytes over all kernels, each buffer rounded up to 64 bytes; *at (may be NULL): the kernel. */
int64_t plan_peak(const Fused *f, const Liveness *l, int64_t batch, int *at);
/* Bytes of the tensors of a kind that some kernel touches. */
int64_t plan_kind_bytes(const Fused *f, TensorKind kind, int64_t batch);
/* Kernels in order with class, label, source line, FLOPs and bytes read and written, then the totals. */
void plan_print(const Fused *f, int64_t batch, Text *out);
#endif
