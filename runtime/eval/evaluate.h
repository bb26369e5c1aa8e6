/* evaluate.h -- a checkpoint against held-out sets: retrieval and zero-shot classification, task by task.
 *
 * The tasks are those of a tasklist.yml, else of the program's `eval` block, else every TiC set below the data folder;
 * for a time step of several years also the union of its years. A task without data and one of another protocol are named,
 * skipped and counted. Scores go to OUT/eval_results.jsonl in DataComp's fields, one line a checkpoint and task; each line
 * names the checkpoint's digest and the data's, and only a line with both is taken for done. */
#ifndef TIC_EVAL_EVALUATE_H
#define TIC_EVAL_EVALUATE_H
#include "base.h"
#include "tic.h"

typedef struct {
    const char *ckpt, *data, *vocab, *out;
    const char *tasks;           /* a tasklist.yml, or NULL */
    const char *imagenet_val;    /* a folder of class folders, or NULL */
    int64_t batch, threads;
} TicEvalOptions;

/* Prints a line a task, then means by family, DataComp's aggregates where their tasks are there, and what was skipped.
 * TIC_USER when no task has data, or when a set contradicts itself; what was evaluated before that is kept. */
TicStatus tic_evaluate(const TicProgram *p, const TicKernel *kernels, const TicEvalOptions *o);
/* The same checks without a checkpoint and without reading a sample, to be made before hours of training. */
TicStatus tic_evaluate_check(const TicProgram *p, const TicEvalOptions *o);
/* Writes the tasks as a tasklist.yml for DataComp's evaluate.py. */
TicStatus tic_evaluate_write_tasks(const TicProgram *p, const TicEvalOptions *o, const char *path);
#endif
