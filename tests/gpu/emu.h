/* emu.h -- runs a kernel, compiled for a CPU, as a GPU would at its worst, and reports what the rules of PTX do not allow.
 *
 * One fiber for each CUDA thread; a random runnable one goes on whenever one waits. Blocks run on all cores. What is found:
 *
 *   races        two accesses of shared memory, one a write, that no barrier, mbarrier or wait orders (vector clocks of
 *                threads, of each thread's asynchronous copies, and of each warpgroup's matrix products); in global
 *                memory, reads of what another thread of the block wrote without order, and two blocks on one byte
 *   bounds       shared memory past the launch's size, global memory outside a buffer, misaligned vectors
 *   uninitialised reads of shared and global memory
 *   protocol     writes that the copy engine or wgmma read without fence.proxy.async, wgmma without its fence, mbarriers
 *                unfenced or over-arrived, divergent collectives, descriptors that differ in a warpgroup, stores still
 *                reading shared memory at exit, deadlock (with where it waits)
 *
 *   waste        with emu_lint_on: turns that a warp's accesses of shared memory take because of banks, and sectors of
 *                global memory they touch, beside the least there could be (no defects: what costs time)
 *
 * Asynchronous work is adversarial: copies poison their target at issue and deliver at a random later time, the
 * accumulators of wgmma are NaN until waited for. mma.sync cuts what it adds off to f32. Time, caches and how else tensor
 * cores round are not emulated.
 * What it reports is conservative: the PTX rules as modelled are broken, not that hardware would misbehave. */
#ifndef EMU_H
#define EMU_H
#define EMU_INSIDE
#include "emu_kernel.h"
#include <stdbool.h>
#include <stddef.h>

enum { EMU_SMEM_MOST = 227 * 1024, EMU_THREADS_MOST = 1024 };

typedef struct EmuLaunch {
    u32 seed;
    emu_dim3 grid, block;
    u32 smem;                          /* bytes of dynamic shared memory */
    bool values_only;                  /* no shadow memory: what a test of values alone would see */
} EmuLaunch;

/* The kernel through `thunk`, which unpacks `args` (one pointer for each argument, as cuLaunchKernel takes them).
 * Returns the number of defects; the first few go to stderr unless emu_quiet. emu_first: the first one's text. */
int emu_launch(const EmuLaunch *l, void (*thunk)(void **), void **args);
extern bool emu_quiet;
extern u64 emu_moved;                  /* bytes of global memory that the last launch read and wrote, whatever its order was */
extern char emu_first[512];

/* The accesses of one instruction, over all warps and blocks: what they took and the least it could have been, in phases of
 * 128 bytes of shared memory or sectors of 32 bytes of global memory. Filled by launches while emu_lint_on. */
typedef struct EmuLint { const void *pc; u32 bytes; bool shared, write; u64 least, taken; } EmuLint;
extern bool emu_lint_on;
int emu_lint_take(EmuLint *out, int cap);                /* those gathered since the last call; returns how many */
/* Appends them to the file at `path`, by lines of the text that the kernels' object holds, tabs between: shared or global, read
 * or write, bytes of a thread, the least, what was taken, kernel, line. What is known of lines goes with emu_quote_forget. */
void emu_quote(void *object, const char *kernel, const char *path);
void emu_quote_forget(void);

/* Device memory, zeroes in value but uninitialised until emu_mark, with guard zones. name: for reports, not copied. */
void *emu_alloc(size_t bytes, const char *name);
size_t emu_free(void *p);                                /* returns its size */
void emu_mark(const void *p, size_t bytes);              /* the host wrote it */
bool emu_inside(const void *p, size_t bytes);            /* wholly inside one buffer */

/* What cuTensorMapEncodeTiled does, with its refusals (false). dim, box: innermost first; stride[i]: bytes from one index
 * of dimension i + 1 to the next; elem: bytes of an element; swizzle: 128 or 0. */
bool emu_tmap(tc_tmap *t, const void *base, u32 elem, u32 rank, const u64 *dim, const u64 *stride, const u32 *box, u32 swizzle);
#endif
