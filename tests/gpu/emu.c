/* emu.c -- fibers, their random scheduler, and launches over all cores. */
#define _GNU_SOURCE
#include "emu_state.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

__thread Block *emu_block;
bool emu_quiet;
char emu_first[512];
u64 emu_moved;

enum { SHOWN = 4, ENOUGH = 50 };       /* defects printed; defects after which a launch is given up */

/* One launch: blocks are handed out in an order that starts anywhere. */
static struct {
    pthread_mutex_t lock;
    const EmuLaunch *launch;
    void (*thunk)(void **);
    void **args;
    u32 blocks, first, next;
    int defects;
    Block *idle;
} run = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- switching stacks: saves the callee-saved registers and the stack pointer, takes those of the other side */
void emu_switch(void **save, void *to);
#if defined(__x86_64__)
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\nemu_switch:\n"
        "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
        "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
        "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n");
enum { SAVED = 6, RETURN = 6 };
#elif defined(__aarch64__)
__asm__(".text\n.globl emu_switch\n.hidden emu_switch\nemu_switch:\nsub sp,sp,#160\n"
        "stp x29,x30,[sp]\nstp x19,x20,[sp,#16]\nstp x21,x22,[sp,#32]\nstp x23,x24,[sp,#48]\nstp x25,x26,[sp,#64]\n"
        "stp x27,x28,[sp,#80]\nstp d8,d9,[sp,#96]\nstp d10,d11,[sp,#112]\nstp d12,d13,[sp,#128]\nstp d14,d15,[sp,#144]\n"
        "mov x9,sp\nstr x9,[x0]\nmov sp,x1\n"
        "ldp x29,x30,[sp]\nldp x19,x20,[sp,#16]\nldp x21,x22,[sp,#32]\nldp x23,x24,[sp,#48]\nldp x25,x26,[sp,#64]\n"
        "ldp x27,x28,[sp,#80]\nldp d8,d9,[sp,#96]\nldp d10,d11,[sp,#112]\nldp d12,d13,[sp,#128]\nldp d14,d15,[sp,#144]\n"
        "add sp,sp,#160\nret\n");
enum { SAVED = 20, RETURN = 1 };
#endif

u32 emu_random(void)
{
    u64 r = BLK->random;
    r ^= r << 13;
    r ^= r >> 7;
    r ^= r << 17;
    BLK->random = r;
    return (u32)(r >> 16);
}

void emu_defect(const char *fmt, ...)
{
    Block *b = BLK;
    char text[400], line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(line, sizeof line, "block (%u,%u,%u) thread %d: %s", b->id.x, b->id.y, b->id.z, b->now ? (int)b->now->tid : -1, text);
    pthread_mutex_lock(&run.lock);
    if (!run.defects)
        memcpy(emu_first, line, sizeof line);
    if (run.defects++ < SHOWN && !emu_quiet)
        fprintf(stderr, "  [emulator] %s\n", line);
    pthread_mutex_unlock(&run.lock);
}

/* ---- fibers */

void emu_tick(Fiber *f)
{
    f->clock[f->tid] = ++f->time;
}

void emu_join_clock(u32 *into, const u32 *other)
{
    for (u32 i = 0; i < BLK->agents; i++)
        into[i] = into[i] > other[i] ? into[i] : other[i];
}

void emu_ready(Fiber *f)
{
    BLK->runnable[BLK->n_runnable++] = f->tid;
}

static void to_scheduler(void)
{
    emu_switch(&BLK->now->sp, BLK->scheduler);
}

void emu_wait(const char *what)
{
    BLK->now->waits = what;
    to_scheduler();
}

void emu_kill(void)
{
    BLK->now->done = true;
    to_scheduler();
    abort();
}

static void fiber_main(void)
{
    Fiber *f = BLK->now;
    BLK->thunk(BLK->args);
    if (f->clock[BLK->nt + f->tid] < f->store_issued)
        emu_defect("exits while its TMA store may still read shared memory");
    emu_kill();
}

static void fiber_init(Block *b, u32 tid)
{
    Fiber *f = &b->fiber[tid];
    u8 *stack = f->stack;
    CopyAsync *copy = f->copy;
    u32 cap = f->cap_copy;
    emu_dim3 d = b->launch->block;
    if (!stack)
        stack = mmap(0, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED) {
        fprintf(stderr, "emulator: no memory for the stacks of %u threads\n", b->nt);
        exit(70);
    }
    *f = (Fiber){.stack = stack, .tid = tid, .copy = copy, .cap_copy = cap, .at = {tid % d.x, tid / d.x % d.y, tid / d.x / d.y}};
    f->clock = b->clocks + (size_t)tid * b->agents;
    emu_tick(f);
    void **sp = (void **)(stack + STACK - 64);
    *--sp = 0;                                           /* what fiber_main would return to, and the alignment */
    sp -= SAVED + (RETURN == 6);
    memset(sp, 0, (SAVED + (RETURN == 6)) * sizeof *sp);
    sp[RETURN] = (void *)fiber_main;
    f->sp = sp;
    emu_ready(f);
}

static void report_deadlock(Block *b, u32 left)
{
    for (u32 i = 0; i < b->nt; i++)
        if (!b->fiber[i].done) {
            b->now = &b->fiber[i];
            emu_defect("DEADLOCK: %u threads stuck, this one at %s", left, b->now->waits);
            break;
        }
    b->now = NULL;
    b->dead = true;
}

static void schedule(Block *b)
{
    for (u32 left = b->nt; left;) {
        if (emu_random() % 8 == 0)
            emu_engine_step();
        if (!b->n_runnable) {
            if (emu_engine_step())
                continue;
            report_deadlock(b, left);
            return;
        }
        u32 k = emu_random() % b->n_runnable;
        Fiber *f = &b->fiber[b->runnable[k]];
        b->runnable[k] = b->runnable[--b->n_runnable];
        b->now = f;
        emu_switch(&b->scheduler, f->sp);
        left -= f->done;
        b->now = NULL;
    }
    while (emu_engine_step())
        ;
    if (emu_lint_on)
        emu_lint_end(b);
}

/* ---- blocks and launches */

static Block *block_take(void)
{
    pthread_mutex_lock(&run.lock);
    Block *b = run.idle;
    if (b)
        run.idle = b->next;
    pthread_mutex_unlock(&run.lock);
    if (b)
        return b;
    b = calloc(1, sizeof *b);
    b->memory = aligned_alloc(1024, EMU_SMEM_MOST + 1024);
    b->cell = malloc(sizeof(Cell) * (EMU_SMEM_MOST / 2 + 8));
    b->clocks = malloc(sizeof(u32) * AGENTS * EMU_THREADS_MOST);
    return b;
}

static void block_run(Block *b, u32 number)
{
    emu_dim3 g = run.launch->grid;
    b->launch = run.launch;
    b->thunk = run.thunk;
    b->args = run.args;
    b->number = number;
    b->id = (emu_dim3){number % g.x, number / g.x % g.y, number / g.x / g.y};
    b->nt = run.launch->block.x * run.launch->block.y * run.launch->block.z;
    b->agents = (2 * b->nt + (b->nt + 127) / 128 + 15) & ~15u;
    b->smem = run.launch->smem;
    b->check = !run.launch->values_only;
    b->random = 0x9e3779b97f4a7c15ull * (run.launch->seed + 1) + 0xd1b54a32d192ed03ull * (number + 1) + 1;
    b->dead = false;
    b->n_mbar = b->n_engine = b->n_runnable = 0;
    memset(b->registers, 0, sizeof b->registers);
    b->last_buffer = 0;
    memset(b->memory, 0xff, b->smem);
    if (b->check)
        memset(b->cell, 0, sizeof(Cell) * (b->smem / 2 + 8));
    memset(b->clocks, 0, sizeof(u32) * b->agents * b->nt);
    for (u32 i = 0; i < WARPS; i++)
        b->warp[i].n = 0;
    for (u32 i = 0; i < GROUPS; i++) {
        b->group[i].n = 0;
        for (u32 k = 0; k < ACCUMULATORS; k++)
            b->hidden[i][k].key = NULL;
    }
    for (u32 i = 0; i < BARRIERS; i++)
        b->barrier[i].n = 0;
    for (u32 i = 0; i < b->nt; i++)
        fiber_init(b, i);
    schedule(b);
}

static void *worker(void *unused)
{
    Block *b = block_take();
    BLK = b;
    for (;;) {
        pthread_mutex_lock(&run.lock);
        u32 number = run.next < run.blocks && run.defects < ENOUGH ? run.next++ : UINT32_MAX;
        pthread_mutex_unlock(&run.lock);
        if (number == UINT32_MAX)
            break;
        block_run(b, (number + run.first) % run.blocks);
        if (b->dead)
            break;
    }
    pthread_mutex_lock(&run.lock);
    emu_moved += b->moved;
    b->moved = 0;
    b->next = run.idle;
    run.idle = b;
    pthread_mutex_unlock(&run.lock);
    BLK = NULL;
    return unused;
}

int emu_launch(const EmuLaunch *l, void (*thunk)(void **), void **args)
{
    u32 threads = l->block.x * l->block.y * l->block.z, blocks = l->grid.x * l->grid.y * l->grid.z;
    run.defects = 0;
    emu_first[0] = 0;
    emu_moved = 0;
    if (!threads || threads > EMU_THREADS_MOST || threads % 32 || !blocks || l->smem > EMU_SMEM_MOST) {
        snprintf(emu_first, sizeof emu_first, "a launch of %u blocks of %u threads with %u bytes of shared memory", blocks, threads,
                 l->smem);
        fprintf(stderr, "  [emulator] %s\n", emu_first);
        return 1;
    }
    run.launch = l;
    run.thunk = thunk;
    run.args = args;
    run.blocks = blocks;
    run.first = l->seed * 2654435761u % blocks;
    run.next = 0;
    emu_new_epoch();
    const char *limit = getenv("TIC_EMU_THREADS");
    long n = limit ? atol(limit) : sysconf(_SC_NPROCESSORS_ONLN);
    n = n > (long)blocks ? (long)blocks : n < 1 ? 1 : n > 64 ? 64 : n;
    pthread_t other[64];
    long started = 1;
    while (started < n && !pthread_create(&other[started], NULL, worker, NULL))
        started++;
    worker(NULL);
    for (long i = 1; i < started; i++)
        pthread_join(other[i], NULL);
    return run.defects;
}

/* ---- what a kernel may ask */
emu_dim3 emu_tid(void) { return BLK->now->at; }
emu_dim3 emu_bid(void) { return BLK->id; }
emu_dim3 emu_bdim(void) { return BLK->launch->block; }
emu_dim3 emu_gdim(void) { return BLK->launch->grid; }
u8 *emu_smem(void) { return BLK->memory; }
u32 tc_saddr(const void *p) { return (u32)((const u8 *)p - BLK->memory); }
