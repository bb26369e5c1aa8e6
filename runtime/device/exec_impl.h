/* exec_impl.h -- inside exec.c and exec_gpu.c: what an open entry is. On a GPU, `buffer` holds the host's copies of what
 * the host reads and writes (inputs, outputs, the scalars it computes) and nothing else. */
#ifndef TIC_DEVICE_EXEC_IMPL_H
#define TIC_DEVICE_EXEC_IMPL_H
#include "device/exec.h"

/* Working memory, perhaps of several entries: the arenas of all from 0, then the inputs that each keeps from run to run. */
typedef struct TicWorkspace {
    void *host;              /* one of these */
    uint64_t device;
    size_t bytes;
    int users;
} TicWorkspace;

struct TicExec {
    TicModel *model;
    TicPool *pool;
    const TicEntry *entry;
    int64_t batch, arena_bytes, kept_bytes;
    TicWorkspace *workspace;
    int64_t kept;            /* where in it the kept inputs begin */
    void **buffer;           /* [n_tensor] */
    void ***args;            /* [n_launch] -> buffers of that launch */
    void **arg_memory;
    struct TicExecGpu *gpu;  /* NULL: runs on the CPU */
    TicBetween *between;     /* may be NULL */
    void *between_context;
    TicStatus failed;        /* of the device: nothing runs any more */
};

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

/* exec.c */
const TicTensor *tic_exec_tensors(const TicExec *x);
const TicLaunch *tic_exec_launches(const TicExec *x);
int64_t tic_exec_element_bytes(const TicTensor *t);
/* Live ranges to offsets; offset[t] is set for tensors that live in the arena and own their storage, else -1. Returns the
 * arena's bytes; inputs that the batch does not change come behind it, *kept bytes of them. */
int64_t tic_exec_plan(const TicProgram *p, const TicEntry *e, int64_t batch, int64_t *offset, int64_t *kept);
/* An offset of tic_exec_plan as a place in the workspace. */
static inline int64_t tic_exec_place(const TicExec *x, int64_t offset)
{
    return offset < x->arena_bytes ? offset : x->kept + offset - x->arena_bytes;
}
/* Bytes of the sums of all gradients, laid out as the parameters are in TicModel.memory. */
size_t tic_model_sum_bytes(const TicModel *m);
void tic_exec_launch_host(TicExec *x, uint32_t launch);
/* NaN anywhere, or +inf (a mask legitimately holds -inf); NULL when every number is fine. */
const char *tic_exec_not_finite(const TicTensor *t, const void *data, int64_t batch);
void tic_exec_blame(const TicExec *x, const TicLaunch *l, const char *what, char *text, size_t size);

/* exec_gpu.c. open fills x->buffer and x->gpu; run: launches [from, to). */
TicStatus tic_exec_gpu_open(TicExec *x, const int64_t *offset);
void tic_exec_gpu_close(TicExec *x);
void tic_exec_gpu_touch(TicExec *x, uint32_t input);         /* the host is about to write it, and what was sent does not count */
bool tic_exec_gpu_sends(TicExec *x, const uint32_t *input, int n);
void tic_exec_gpu_next(TicExec *x);                          /* the host is about to write what will be sent */
void tic_exec_gpu_send(TicExec *x);
bool tic_exec_gpu_busy(const TicExec *x);
void tic_exec_gpu_run(TicExec *x, bool first_half, bool second_half);
void tic_exec_gpu_finish(TicExec *x);                        /* outputs are there */
void tic_exec_gpu_timed(TicExec *x, TicTiming *timing);
void tic_exec_gpu_find_not_finite(TicExec *x, char *text, size_t size);
/* One launch, and where its arguments are: for checks. */
TicStatus tic_exec_gpu_launch(TicExec *x, uint32_t launch);
void tic_exec_gpu_args(const TicExec *x, uint32_t launch, uint64_t *at);
#endif
