/* transfer.c -- see transfer.h. */
#include "eval/transfer.h"
#include <math.h>

TicTransfer tic_transfer(const double *e, int steps)
{
    TicTransfer r = { 0 };
    for (int i = 0; i < steps; i++) {
        for (int j = 0; j < steps; j++) {
            double v = e[i * steps + j];
            if (isnan(v))
                continue;
            *(i == j ? &r.in_domain : j < i ? &r.backward : &r.forward) += v;
            ++*(i == j ? &r.n_in_domain : j < i ? &r.n_backward : &r.n_forward);
        }
    }
    r.in_domain = r.n_in_domain ? r.in_domain / r.n_in_domain : NAN;
    r.backward = r.n_backward ? r.backward / r.n_backward : NAN;
    r.forward = r.n_forward ? r.forward / r.n_forward : NAN;
    return r;
}
