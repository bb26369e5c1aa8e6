/* machine.h -- what this process may use of its machine: memory, asked before a run begins instead of found out by the kernel's OOM
 * killer, and processors. */
#ifndef TIC_DEVICE_MACHINE_H
#define TIC_DEVICE_MACHINE_H
#include "base.h"

/* Bytes this process can still get without driving the system into its OOM killer: what Linux calls available, and free
 * swap, within the limits of the control groups (versions 1 and 2) it lives in. INT64_MAX where nothing says. */
int64_t tic_memory_available(void);
/* The most bytes this process has had resident so far. */
int64_t tic_memory_peak(void);
/* `asked`, or where that is not above 0 the processors that the scheduler gives this process (sched_getaffinity), and no more than the
 * processor time of the control groups it lives in amounts to, rounded up; at least 1. */
int tic_processors(int asked);
#endif
