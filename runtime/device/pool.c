/* pool.c -- see pool.h.
 *
 * One 64-bit word tells everything: generation (32 bits) | open (1 bit) | active workers (31 bits). The caller
 * publishes a job by a new generation with `open` set; a worker enters by a compare-and-swap that adds one to
 * `active`, so it can only enter while the job is open. When the tasks are used up the caller clears `open` and waits
 * for `active` to fall to zero; nobody can be inside after that. Workers spin for some tens of microseconds and then
 * sleep on a futex: a step has hundreds of kernels, most of them short, and a sleeping worker costs 30 us to wake. */
#define _GNU_SOURCE
#include "device/pool.h"
#include "device/machine.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPIN_ROUNDS = 20000, YIELD_AFTER = 2000 };
static const uint64_t OPEN = 1ull << 31, ACTIVE = OPEN - 1;

enum { HUGE_PAGE = 2 << 20 };

typedef struct { TicPool *pool; pthread_t thread; int cpu; void *scratch; } Worker;

struct TicPool {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) _Atomic int64_t next;
    _Alignas(64) _Atomic uint32_t wake;
    _Atomic int sleepers;
    _Atomic bool quit;
    TicKernelFn run;
    void *const *buf;
    int64_t batch, tasks;
    int threads;
    Worker *worker;          /* [threads]; worker[0] is the caller */
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void work(TicPool *p, void *scratch)
{
    tic_scratch_begin(scratch);
    for (int64_t task; (task = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < p->tasks;)
        p->run(p->buf, p->batch, task, scratch);
}

static void *worker_main(void *arg)
{
    Worker *w = arg;
    TicPool *p = w->pool;
    uint32_t done = 0;
    int idle = 0;
    pthread_setname_np(pthread_self(), "ticc-pool");
    while (!atomic_load(&p->quit)) {
        uint64_t s = atomic_load_explicit(&p->state, memory_order_acquire);
        if ((s & OPEN) && (uint32_t)(s >> 32) != done) {
            if (!atomic_compare_exchange_weak_explicit(&p->state, &s, s + 1, memory_order_acq_rel, memory_order_relaxed))
                continue;
            done = (uint32_t)(s >> 32);
            work(p, w->scratch);
            atomic_fetch_sub_explicit(&p->state, 1, memory_order_release);
            idle = 0;
            continue;
        }
        if (++idle < SPIN_ROUNDS) {
            relax();
            continue;
        }
        uint32_t seen = atomic_load(&p->wake);
        atomic_fetch_add(&p->sleepers, 1);
        s = atomic_load(&p->state);
        if (!atomic_load(&p->quit) && !((s & OPEN) && (uint32_t)(s >> 32) != done))
            syscall(SYS_futex, &p->wake, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
        atomic_fetch_sub(&p->sleepers, 1);
        idle = 0;
    }
    return NULL;
}

TicPool *tic_pool_new(int threads)
{
    cpu_set_t allowed;
    CPU_ZERO(&allowed);
    if (sched_getaffinity(0, sizeof allowed, &allowed) || CPU_COUNT(&allowed) == 0)
        CPU_SET(0, &allowed);
    threads = tic_processors(threads);
    TicPool *p = tic_alloc_aligned(64, (sizeof *p + 63) & ~(size_t)63);
    *p = (TicPool){ .threads = threads };
    p->worker = tic_alloc((size_t)threads * sizeof *p->worker);
    bool pin = threads == CPU_COUNT(&allowed);           /* of fewer, two processes would take the same ones */
    int cpu = -1;
    for (int i = 0; i < threads; i++) {
        Worker *w = &p->worker[i];
        w->pool = p;
        w->scratch = tic_alloc_aligned(HUGE_PAGE, TIC_SCRATCH_BYTES);
        madvise(w->scratch, TIC_SCRATCH_BYTES, MADV_HUGEPAGE);
        if (pin)
            do
                cpu++;
            while (!CPU_ISSET(cpu, &allowed));
        w->cpu = cpu;
        if (i == 0)
            continue;        /* the caller stays where the system puts it */
        if (pthread_create(&w->thread, NULL, worker_main, w)) {
            free(w->scratch);
            p->threads = i;
            break;
        }
        if (pin) {
            cpu_set_t one;
            CPU_ZERO(&one);
            CPU_SET(cpu, &one);
            pthread_setaffinity_np(w->thread, sizeof one, &one);
        }
    }
    return p;
}

int tic_pool_threads(const TicPool *p) { return p->threads; }

void tic_pool_run(TicPool *p, TicKernelFn run, void *const *buf, int64_t batch, int64_t tasks)
{
    if (p->threads == 1 || tasks <= 1) {
        tic_scratch_begin(p->worker[0].scratch);
        for (int64_t i = 0; i < tasks; i++)
            run(buf, batch, i, p->worker[0].scratch);
        return;
    }
    p->run = run;
    p->buf = buf;
    p->batch = batch;
    p->tasks = tasks;
    atomic_store_explicit(&p->next, 0, memory_order_relaxed);
    uint64_t generation = (atomic_load_explicit(&p->state, memory_order_relaxed) >> 32) + 1;
    atomic_store(&p->state, (generation & 0xffffffffu) << 32 | OPEN);
    if (atomic_load(&p->sleepers) > 0) {
        atomic_fetch_add(&p->wake, 1);
        syscall(SYS_futex, &p->wake, FUTEX_WAKE_PRIVATE, p->threads, NULL, NULL, 0);
    }
    work(p, p->worker[0].scratch);
    atomic_fetch_and(&p->state, ~OPEN);
    for (int round = 0; atomic_load_explicit(&p->state, memory_order_acquire) & ACTIVE; round++)
        if (round < YIELD_AFTER)
            relax();
        else
            sched_yield();
}

void tic_pool_free(TicPool *p)
{
    if (!p)
        return;
    atomic_store(&p->quit, true);
    atomic_fetch_add(&p->wake, 1);
    syscall(SYS_futex, &p->wake, FUTEX_WAKE_PRIVATE, p->threads, NULL, NULL, 0);
    for (int i = 1; i < p->threads; i++)
        pthread_join(p->worker[i].thread, NULL);
    for (int i = 0; i < p->threads; i++)
        free(p->worker[i].scratch);
    free(p->worker);
    free(p);
}
