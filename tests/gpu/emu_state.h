/* emu_state.h -- inside the emulator: the state of a block while it runs. */
#ifndef EMU_STATE_H
#define EMU_STATE_H
#include "emu.h"

enum {
    STACK = 96 * 1024, WARPS = EMU_THREADS_MOST / 32, GROUPS = EMU_THREADS_MOST / 128, READERS = 4,
    AGENTS = 2 * EMU_THREADS_MOST + 16, MBARS = 64, COPIES = 4096, ACCUMULATORS = 4, BARRIERS = 17,
};

/* Two bytes of shared memory: who wrote last and who read since. A clock of 0: nobody. */
typedef struct Cell {
    u32 write_clock, read_clock[READERS];
    u16 writer, reader[READERS];
    bool initialised, generic;         /* generic: written by ordinary stores or cp.async, so the async proxy needs a fence */
} Cell;

typedef struct CopyAsync { u32 dst, size, group; u8 data[16]; } CopyAsync;

/* One CUDA thread. Vector clocks have an entry for each thread, each thread's asynchronous copies (nt + tid) and each
 * warpgroup's wgmma (2 nt + group): the latest event of that agent which this thread knows to be over. */
typedef struct Fiber {
    void *sp;
    u8 *stack;
    u32 *clock;
    u32 tid, time;                     /* time: this thread's own entry, ticks whenever others may learn of it */
    u32 fenced, copies_fenced;         /* writes up to this time, and groups of cp.async, are visible to the async proxy */
    u32 copies;                        /* groups of cp.async committed, and copies of the engine issued */
    u32 store_issued, store_committed; /* the engine's stores, in units of `copies` */
    u32 wgmma_groups;
    bool wgmma_fenced, done;
    const char *waits;                 /* what for */
    emu_dim3 at;
    CopyAsync *copy;
    u32 n_copy, cap_copy;
} Fiber;

/* A word that a whole warp or warpgroup executes together: the last to come does it for all. */
typedef struct Collective { u32 n; const char *word; void *arg[128]; Fiber *who[128]; } Collective;
typedef void (*CollectiveFn)(Collective *c, u32 group);

typedef struct Barrier { u32 n, need; Fiber *who[EMU_THREADS_MOST]; } Barrier;

typedef struct MBar {
    u32 addr, count, pending, phase;
    u32 init_tid, init_time;
    int64_t bytes;                     /* expected and not yet here */
    u32 gathering[AGENTS], done[AGENTS];   /* clocks of the phase under way, of the last complete one */
    Fiber *waiting[EMU_THREADS_MOST];
    u32 n_waiting;
} MBar;

typedef struct EmuMap {
    u32 magic;
    u8 elem, rank, swizzle;
    u16 box[3];
    u64 dim[3], stride[3];             /* stride[0]: the element */
    const u8 *base;
} EmuMap;

typedef struct EngineCopy { u32 dst, tid, time; EmuMap map; MBar *bar; i32 x[3]; } EngineCopy;

/* An accumulator of wgmma on its way: 64 x n values, handed to the threads at the wait. */
typedef struct Hidden { float *key; u32 n, group; float value[64 * 256]; } Hidden;

typedef struct Block {
    const EmuLaunch *launch;
    void (*thunk)(void **);
    void **args;
    u32 nt, agents, number, smem;
    emu_dim3 id;
    bool check, dead;
    u64 random;
    Fiber fiber[EMU_THREADS_MOST], *now;
    void *scheduler;
    u32 runnable[EMU_THREADS_MOST], n_runnable;
    u8 *memory;                        /* shared memory */
    Cell *cell;
    u32 *clocks;
    Collective warp[WARPS], group[GROUPS];
    Barrier barrier[BARRIERS];         /* the last: __syncthreads */
    MBar mbar[MBARS];
    u32 n_mbar;
    EngineCopy engine[COPIES];
    u32 n_engine;
    Hidden hidden[GROUPS][ACCUMULATORS];
    u32 registers[GROUPS];             /* of a thread, by setmaxnreg; 0: those of the launch */
    int last_buffer;
    u64 moved;                         /* bytes of global memory touched */
    struct Lint *lint;
    u32 merged[AGENTS];                /* scratch: a clock, and the operands of a product */
    float a[64 * 16], b[256 * 16], turned[16 * 256];
    struct Block *next;                /* in the list of idle ones */
} Block;

/* The block this thread of the emulator runs. Reached in every load and store, hence the fixed offset. */
extern __thread Block *emu_block __attribute__((tls_model("initial-exec")));
#define BLK emu_block

/* ---- emu.c */
void emu_defect(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
u32 emu_random(void);
void emu_wait(const char *what);                         /* suspends the running fiber */
void emu_ready(Fiber *f);
void emu_kill(void) __attribute__((noreturn));           /* the running fiber can not go on: the access would be ours */
void emu_tick(Fiber *f);
void emu_join_clock(u32 *into, const u32 *other);        /* entry by entry, the later */
/* gathers `need` fibers in slot order, then runs fn for all */
void emu_collect(Collective *c, u32 group, u32 need, u32 slot, const char *word, void *arg, CollectiveFn fn);

/* ---- emu_memory.c */
typedef struct Access {
    bool write, async;                 /* async: by the copy engine or wgmma, not cp.async */
    u32 agent, time;                   /* who, and when in its own time */
    const u32 *clock;                  /* what it knows */
    const char *what;
} Access;
void emu_shared(u32 at, u32 bytes, const Access *a);
void emu_global(const void *p, u32 bytes, bool write, const char *what);
void emu_new_epoch(void);              /* writes before this launch no longer belong to a block */
Access emu_as_thread(Fiber *f, bool write, const char *what);

/* ---- emu_lint.c */
void emu_lint(const void *pc, u64 at, u32 bytes, bool shared, bool write);      /* by the running fiber, at code address pc */
void emu_lint_end(Block *b);           /* the block is over */

/* ---- emu_async.c */
bool emu_engine_step(void);            /* delivers one of the engine's copies, chosen at random; false: none left */
#endif
