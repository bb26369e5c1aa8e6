/* evaluate.h -- a checkpoint against the held-out sets of every year. */
#ifndef TIC_EVAL_EVALUATE_H
#define TIC_EVAL_EVALUATE_H
#include "base.h"
#include "tic.h"

typedef struct {
    const char *ckpt, *data, *vocab, *out;
    int64_t batch, threads;
} TicEvalOptions;

/* Retrieval on DATA/eval/retrieval/YEAR for every year found: prints a table with the chance level, puts one object a
 * task into OUT/eval_results.jsonl (results.h) in DataComp's fields (key, dataset, metrics with main_metric). */
TicStatus tic_evaluate(const TicProgram *p, const TicKernel *kernels, const TicEvalOptions *o);
#endif
