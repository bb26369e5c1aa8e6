/* exec.h -- a compiled program in memory: its tables checked, its parameters, and entries ready to run.
 *
 *   TicModel   the parameters and optimiser states, shared by all entries (one block of memory, 64-byte aligned rows)
 *   TicExec    one entry at one batch size: arena planned once, buffers bound, then only kernels run */
#ifndef TIC_DEVICE_EXEC_H
#define TIC_DEVICE_EXEC_H
#include "base.h"
#include "data/batch.h"
#include "device/pool.h"
#include "tic.h"

typedef struct {
    const TicProgram *program;
    const TicKernel *kernels;
    const TicParam *params, *states;
    int n_params, n_states;
    float **param;           /* [n_params] -> count floats each */
    float **state;           /* [n_states] */
    void *memory;
    size_t bytes;
    /* The sums of the gradients of a step in pieces, a row a parameter; made when the first entry that has them is opened,
     * where that runs: NULL and 0 otherwise. */
    float **sum;
    void *sums;
    size_t sum_bytes;
    uint64_t device_sums;
    /* On a GPU there is a second copy, `device`, laid out as `memory`. tic_model_to_host and tic_model_changed keep the two
     * in step: call the first before reading param or state, the second after writing them. */
    struct TicGpu *gpu;      /* NULL: on the CPU */
    uint64_t device;
    bool host_newer, device_newer;
} TicModel;

/* Which device entries are opened on from now on: "cpu" (as if never called), "cuda", "cuda:N", or "auto": a GPU where
 * the program has code for it and there is one, with a line on stderr when there is not. TIC_USER: another word. */
TicStatus tic_device_choose(const char *text);

/* What the program's data block makes of the 8 bits of each channel: tic_normalise_table. */
void tic_program_pixels(const TicProgram *p, float table[3][256]);
/* Text in the blob at a `name` offset. */
const char *tic_text(const TicProgram *p, uint32_t offset);
/* Whether the launch writes its argument (of those that TicLaunch.writes can name). */
static inline bool tic_launch_writes(const TicLaunch *l, uint32_t arg)
{
    uint32_t i = l->period ? arg % l->period : 64;
    return i < 64 && l->writes >> i & 1;
}
/* Checks magic, ABI and every table's range. TIC_BUG with a sentence when the blob is not sound. */
TicStatus tic_program_check(const TicProgram *p);

TicStatus tic_model_new(const TicProgram *p, const TicKernel *kernels, TicModel **out);
/* Draws every parameter from its distribution; element i of parameter k is a function of (seed, k, i) alone: Philox with
 * key = seed, counter = (i / 2, k), normals by Box-Muller. States become what their rule says (0). Runs on the pool. */
void tic_model_init(TicModel *m, TicPool *pool, uint64_t seed);
void tic_model_free(TicModel *m);
TicStatus tic_model_to_host(TicModel *m);                   /* param and state are what the last run left */
void tic_model_changed(TicModel *m);                         /* the caller wrote param or state */
int64_t tic_model_count(const TicModel *m);                  /* elements of all parameters */
/* The name of the first parameter that holds a NaN or an infinity, or NULL. */
const char *tic_model_not_finite(const TicModel *m);

typedef struct TicExec TicExec;
typedef struct { double seconds; int64_t calls; } TicTiming;

TicStatus tic_exec_open(TicModel *m, TicPool *pool, const char *entry, int64_t batch, TicExec **out);
/* Several entries that never run at the same time, into out[n]: they share their working memory, and all are on one device.
 * A run of one spoils the inputs and outputs of the others, but for inputs that have no batch. */
typedef struct { const char *entry; int64_t batch; } TicExecAt;
TicStatus tic_exec_open_all(TicModel *m, TicPool *pool, const TicExecAt *at, int n, TicExec **out);
const TicEntry *tic_program_entry(const TicProgram *p, const char *name);     /* NULL: none of that name */
/* Whether these entries will run on a GPU, which is opened for it where one is wanted. TIC_USER or TIC_IO and a line: --device wants
 * a GPU, and there is none or the program has no code for it. */
TicStatus tic_device_for(const TicProgram *p, const TicExecAt *at, int n, bool *gpu);
/* The buffer of an input tensor by name; NULL when the program does not read it (then there is nothing to fill). */
void *tic_exec_input(TicExec *x, const char *name);
/* The inputs "pixels" and "tokens", in the form the entry takes them. */
TicBatch tic_exec_batch(TicExec *x);
/* The batch of the next run, on a device beside the host, while a run is at work. tic_exec_sends: this entry's batch can be
 * sent ahead (asked once, before the first run, since there must be room for it). Then tic_exec_next_batch is where to write
 * it, and tic_exec_send sends it; the next run takes it, and its inputs are not written otherwise until then. */
bool tic_exec_sends(TicExec *x);
TicBatch tic_exec_next_batch(TicExec *x);
void tic_exec_send(TicExec *x);
bool tic_exec_busy(const TicExec *x);                        /* the device is at work */
/* The buffer of a named output, and its element count; NULL: no such output. Valid until the next run. */
const void *tic_exec_output(TicExec *x, const char *name, int64_t *count);
double tic_exec_scalar(TicExec *x, const char *name, double missing);          /* a rank-0 output as a number */
/* A run that fails (a GPU can) leaves outputs NaN and says so in tic_exec_status, with the message in tic_error. */
void tic_exec_run(TicExec *x);
/* f is called before each launch of a run on the CPU from now on; NULL: nothing is. */
typedef void TicBetween(void *context);
void tic_exec_between(TicExec *x, TicBetween *f, void *context);
TicStatus tic_exec_status(const TicExec *x);
const char *tic_exec_device(const TicExec *x);               /* the GPU's name; NULL: it runs on the CPU */
const TicEntry *tic_exec_entry(const TicExec *x);            /* whose launches tic_exec_run_timed times */
/* The same in two halves, so that a step whose loss is not finite can be stopped before it spoils the parameters. */
void tic_exec_run_forward_backward(TicExec *x);
void tic_exec_run_update(TicExec *x);
/* Runs the first half once more, looking at every result: describes the first one that is not finite ("layer (source
 * line): NaN") in `text`, or says that none was found. */
void tic_exec_find_not_finite(TicExec *x, char *text, size_t size);
/* Like tic_exec_run, adding each launch's time to timing[i]. */
void tic_exec_run_timed(TicExec *x, TicTiming *timing);
void tic_exec_close(TicExec *x);

/* Peak bytes that tic_exec_open_all allocates for entries on that device, without allocating: arena and inputs; parameters and
 * states not included. -1: beyond 64 bits, or the program has no such code. */
int64_t tic_entries_arena_bytes(const TicProgram *p, enum TicTarget target, const TicExecAt *at, int n);
int64_t tic_poly(TicPoly p, int64_t batch);                  /* INT64_MAX: beyond 64 bits */
#endif
