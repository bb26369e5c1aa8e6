/* step.h -- one training step, at once or in pieces.
 *
 * In pieces (compiler/pass/pieces.h) a step runs, for a batch of any size in the memory of a piece,
 *
 *   pass 0    "features" for every piece; what it returns is kept for the whole batch
 *   the loss  "loss" over the whole batch: gradients of the features, and the first share of the parameters' gradients
 *   pass 1    "piece" for every piece: its gradient is added to the sums, one piece after the other
 *   update    "update"
 *
 * The sums are in f32, in the order of the pieces: the gradient is that of the step at once, but for rounding. The data of a
 * piece is asked for in both passes, so that the batch is never in memory whole. */
#ifndef TIC_TRAIN_STEP_H
#define TIC_TRAIN_STEP_H
#include "base.h"
#include "device/exec.h"

/* micro: pairs of a piece; 0 or batch: at once. distill: the step of a strategy with a teacher. */
typedef struct { int64_t batch, micro; bool distill; } TicStepSize;
typedef struct TicStep TicStep;

/* The size of a step: batch 0 and micro -1 are the program's own; a batch that is no more than a piece goes at once.
 * TIC_USER when the program was not compiled for pieces, or they do not divide the batch. */
TicStatus tic_step_size(const TicProgram *p, int64_t batch, int64_t micro, bool distill, TicStepSize *out);
/* Bytes that a step takes on the CPU, or in a GPU's memory, next to parameters and optimiser states: gradient sums included, and on
 * the CPU the features that are kept (tic_step_kept_bytes), which lie in the host's memory either way. -1: no code for GPUs. */
int64_t tic_step_bytes(const TicProgram *p, TicStepSize size, enum TicTarget target);
int64_t tic_step_kept_bytes(const TicProgram *p, TicStepSize size);
/* tic_device_for a step of that size. */
TicStatus tic_step_on_gpu(const TicProgram *p, TicStepSize size, bool *gpu);
double tic_step_flops(const TicProgram *p, TicStepSize size);

TicStatus tic_step_open(TicModel *m, TicPool *pool, TicStepSize size, TicStep **out);
void tic_step_close(TicStep *s);

/* A scalar input ("step", "total", "updates", "t"); nothing happens where the program reads none of that name. */
void tic_step_set(TicStep *s, const char *name, double value);
/* Values of an input that the batch does not change (a teacher's parameter), `count` floats; they stay. */
void tic_step_give(TicStep *s, const char *name, const float *value, int64_t count);

/* Which pairs: piece `piece` of step `step`, in pass 0 or 1; at once both are 0. */
typedef struct { int64_t step, piece; int pass; } TicPlace;
/* Writes the pairs of a place. Where the device works beside the host, each place is asked for while the one before it is
 * computed, and the first of a step in the step before it; one that fails then is asked for again in its turn. */
typedef TicStatus TicFeed(void *context, TicPlace at, TicBatch to);
/* Forward and backward of step `step`; parameters and states are untouched until the update. What `feed` returns other than
 * TIC_OK ends the step and is returned. more: step + 1 comes next. *loss may be no number: then the update must not run. */
TicStatus tic_step_gradient(TicStep *s, int64_t step, bool more, TicFeed *feed, void *context, double *loss);
TicStatus tic_step_update(TicStep *s);
bool tic_step_busy(const TicStep *s);                        /* as tic_exec_busy */
double tic_step_scalar(TicStep *s, const char *name, double missing);
/* After a step whose loss is no number: describes the first tensor that is none, as tic_exec_find_not_finite. */
void tic_step_find_not_finite(TicStep *s, int64_t step, TicFeed *feed, void *context, char *text, size_t size);

/* The programs of a step, for timing: part i runs *times times a step, for *batch pairs. NULL: there is no part i. */
TicExec *tic_step_part(TicStep *s, int i, const char **name, int64_t *times, int64_t *batch);
const char *tic_step_device(const TicStep *s);               /* as tic_exec_device */
#endif
