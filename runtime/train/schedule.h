/* schedule.h -- what the strategy says of one time step, evaluated with the program's own "schedule" entry.
 *
 * Time steps are numbered from 0. Step t draws from steps y <= t in shares proportional to mix(y, t); it sees
 * budget(t) pairs. `available` is samples(y): how many samples the data holds of each step. */
#ifndef TIC_TRAIN_SCHEDULE_H
#define TIC_TRAIN_SCHEDULE_H
#include "base.h"
#include "device/exec.h"

/* The number of the step that holds `year`; -1: none does, or the program has no continual block. */
int tic_step_of_year(const TicProgram *p, int year);
const TicYearStep *tic_year_step(const TicProgram *p, int t);

/* share[0..t] sums to 1; *pairs >= 1. TIC_USER when the strategy gives something that is no share or no budget. */
TicStatus tic_schedule(TicModel *m, TicPool *pool, int t, const int64_t *available, double *share, int64_t *pairs);
#endif
