/* pool.h -- the compute threads: one per core, pinned, spinning briefly between kernels.
 *
 * A job is `tasks` independent calls; which thread runs which task is left open, so a task must write only bytes of
 * its own. The calling thread works too. Workers that are late (asleep, descheduled) are never waited for unless they
 * have begun a task. */
#ifndef TIC_DEVICE_POOL_H
#define TIC_DEVICE_POOL_H
#include "base.h"
#include "tic.h"

typedef struct TicPool TicPool;

/* threads: 0 = one per CPU this process may run on. The caller counts as one. Each thread gets TIC_SCRATCH_BYTES. */
TicPool *tic_pool_new(int threads);
int  tic_pool_threads(const TicPool *pool);
void tic_pool_run(TicPool *pool, TicKernelFn run, void *const *buf, int64_t batch, int64_t tasks);
void tic_pool_free(TicPool *pool);
#endif
