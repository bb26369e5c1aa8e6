/* loop.h -- training: the step, its data, its checkpoints.
 *
 *   OUT/NAME/checkpoints/epoch_latest.pt   every --save-every steps, and when the run ends or is stopped
 *   OUT/NAME/checkpoints/epoch_1.pt        at the end
 *   OUT/NAME/metrics.jsonl  OUT/NAME/out.log
 *
 * The state after step s is a function of the program, the data and the seed: killed at any moment and resumed, a run
 * ends with the same bytes as one that was never stopped, with any number of threads. */
#ifndef TIC_TRAIN_LOOP_H
#define TIC_TRAIN_LOOP_H
#include "base.h"
#include "device/exec.h"

typedef struct {
    const char *data, *out, *name, *from, *vocab;
    int64_t batch, steps, start, threads, loaders, seed, log_every, save_every;    /* -1 (batch, steps..: 0) = the program's own */
    int64_t micro;               /* pairs of a piece (step.h); 0: whole batches at once; -1: the program's own */
    bool resume;
    const char *teacher;         /* weights of the model that the strategy's loss compares with; NULL: the plain loss */
    bool carry;                  /* take the moments of `from` too */
    double keep;                 /* > 0: after this share of the steps the state is kept as checkpoints/epoch_1_rewind.pt */
    const char *parent;          /* what the checkpoint calls its parent; NULL: `from` */
    int64_t *skipped;            /* gets the number of samples that were skipped; may be NULL */
} TicTrainOptions;

/* *signal: 0, or the number of the signal that ended the run (after saving). */
TicStatus tic_train(const TicProgram *p, const TicKernel *kernels, const TicTrainOptions *o, int *signal);
#endif
