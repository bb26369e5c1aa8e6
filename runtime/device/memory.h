/* memory.h -- how much memory there is, asked before a run begins instead of found out by the kernel's OOM killer. */
#ifndef TIC_DEVICE_MEMORY_H
#define TIC_DEVICE_MEMORY_H
#include "base.h"

/* Bytes this process can still get without driving the system into its OOM killer: what Linux calls available, and free
 * swap, within the limits of the control groups (versions 1 and 2) it lives in. INT64_MAX where nothing says. */
int64_t tic_memory_available(void);
/* The most bytes this process has had resident so far. */
int64_t tic_memory_peak(void);
#endif
