/* pieces.h -- a training step in pieces: the exact gradient of a batch of any size in the memory of a small one.
 *
 * A forward graph has two parts. What is computed for each sample of the batch from that sample and the parameters alone,
 * as towers do, can be computed for any few of them at a time. The rest, where samples meet (the loss), needs all of them,
 * but of the first part only what it reads: the features. So a step becomes programs over the same parameters:
 *
 *   features   the first part, for a piece of the batch                     pixels, tokens -> feature:I
 *   loss       the rest, for the whole batch; begins the gradient sums      feature:I -> loss, logit_scale, gradient:I
 *   piece      the first part again, for a piece, and its gradient, which   pixels, tokens, gradient:I ->
 *              is added to the sums
 *   update     the optimiser, on the sums
 *
 * A feature is whatever tensor the rest reads, not only what the encoders return; I counts them from 0. Those that depend
 * on no parameter (a teacher's) have no gradient:I. The sums are states named "gradient sum:PARAMETER". Which tensor is
 * feature I follows from the graph, and equal graphs give equal features. */
#ifndef PASS_PIECES_H
#define PASS_PIECES_H
#include "ir/graph.h"

#define PIECES_SUM "gradient sum:"

/* The first Comp on the way to `tensor` that is not computed by sample; NULL: all are. */
const Comp *pieces_mixes(Graph *g, int tensor);
/* The first Comp of the loss that reads an input of the batch not by sample, and which; NULL: none does. */
const Comp *pieces_reads_input(Graph *g, int loss, int *input);

/* g: a forward graph whose outputs are the loss and what is to be printed with it, after passes_forward. Each function
 * makes it one of the programs. False after `why`: the gradient could not be made. */
void pieces_features(Graph *g, int loss);
bool pieces_loss(Graph *g, int loss, const int *param, int n, Text *why);
bool pieces_piece(Graph *g, int loss, const int *param, int n, Text *why);
/* A state for the sum of each parameter's gradient, into sum[n]. */
void pieces_sums(Graph *g, const int *param, int n, int *sum);
#endif
