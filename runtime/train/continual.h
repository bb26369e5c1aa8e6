/* continual.h -- every time step of the program's schedule, one after the other.
 *
 *   OUT/NAME/program.tic                   the text of the program
 *   OUT/NAME/lineage.json                  what was planned and what is done (see below)
 *   OUT/NAME/step_00_2014-2016/            one folder a step: checkpoints/, metrics.jsonl, out.log, eval_results.jsonl
 *   OUT/NAME/report.html  report.json      of all steps so far, written anew after each
 *
 * What is done is seen from the files alone, so the command may be killed anywhere and simply started again: a step
 * whose checkpoints/epoch_1.pt exists is trained, a half-trained one resumes, an evaluation that was cut off is made
 * again. A run that was begun by another program (model file, options or ticc differ) is refused, with what
 * has changed, and so is one whose finished checkpoints are gone or another program's, unless `fork`.
 *
 * A step begins with the weights that the step before handed on (init = previous) or fresh ones (init = random), with a
 * fresh optimiser state and learning-rate schedule, as TiC-CLIP does it. Where the strategy has `after`, what a step
 * hands on is checkpoints/epoch_1_after.pt. */
#ifndef TIC_TRAIN_CONTINUAL_H
#define TIC_TRAIN_CONTINUAL_H
#include "train/loop.h"

typedef struct {
    TicTrainOptions train;       /* steps: of one budget; a strategy's budget of several takes as many times more */
    bool fork, no_eval;
    const char *tasks, *imagenet_val;    /* as of TicEvalOptions */
} TicContinualOptions;

TicStatus tic_continual(const TicProgram *p, const TicKernel *kernels, const TicContinualOptions *o, int *stopped);
#endif
