/* npy.h -- sample_ids.npy: NumPy format 1.0, a structured array of two little-endian u64 fields (high and
 * low half of the 128-bit uid), sorted ascending, behind a header of 128 bytes. */
#ifndef TIC_TOOLS_NPY_H
#define TIC_TOOLS_NPY_H
#include "data/views.h"

typedef TicUid Uid;

TicStatus npy_write_uids(const char *path, Uid *uids, size_t n);      /* sorts `uids` in place */
#endif
