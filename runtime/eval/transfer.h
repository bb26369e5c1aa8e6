/* transfer.h -- what a matrix of scores says about going on with training as the years pass (TiC-CLIP's protocol).
 *
 * E[i][j] is the score of the model after step i on the task of step j.
 *     in-domain   mean of E[i][i]
 *     backward    mean of E[i][j], j < i     what is still known of earlier years
 *     forward     mean of E[i][j], j > i     what will hold in years to come */
#ifndef TIC_EVAL_TRANSFER_H
#define TIC_EVAL_TRANSFER_H

typedef struct {
    double in_domain, backward, forward;     /* NaN where no entry is known */
    int n_in_domain, n_backward, n_forward;  /* entries that went into each */
} TicTransfer;

/* e: [steps, steps], row i after training step i; NaN: not known, and left out of the mean. */
TicTransfer tic_transfer(const double *e, int steps);
#endif
