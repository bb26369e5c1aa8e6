/* emu_memory.c -- who may touch what: shadow memory, and the callbacks that -fsanitize=thread puts at each access. */
#define _GNU_SOURCE
#include "emu_state.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- shared memory */

static const char *agent_name(u32 agent, char *out)
{
    if (agent < BLK->nt)
        sprintf(out, "thread %u", agent);
    else if (agent < 2 * BLK->nt)
        sprintf(out, "the asynchronous copy of thread %u", agent - BLK->nt);
    else
        sprintf(out, "wgmma of warpgroup %u", agent - 2 * BLK->nt);
    return out;
}

static bool race(u32 at, const Access *a, const char *before, u32 other)
{
    char me[64], it[64];
    emu_defect("%s: RACE on shared offset %u: %s by %s, not ordered after the %s by %s", a->what, at, a->write ? "write" : "read",
               agent_name(a->agent, me), before, agent_name(other, it));
    return false;
}

static bool cell_write(Cell *c, u32 at, const Access *a)
{
    for (int k = 0; k < READERS; k++)
        if (c->read_clock[k] && c->reader[k] != a->agent && a->clock[c->reader[k]] < c->read_clock[k])
            return race(at, a, "read", c->reader[k]);
    memset(c->read_clock, 0, sizeof c->read_clock);
    c->write_clock = a->time;
    c->writer = (u16)a->agent;
    c->initialised = true;
    c->generic = !a->async;
    return true;
}

/* What a thread wrote itself, or by cp.async, it has made visible to the async proxy. */
static bool fenced(const Cell *c)
{
    const Fiber *f = &BLK->fiber[c->writer % BLK->nt];
    return (c->writer < BLK->nt ? f->fenced : f->copies_fenced) >= c->write_clock;
}

static bool cell_read(Cell *c, u32 at, const Access *a)
{
    if (!c->initialised) {
        emu_defect("%s: read of uninitialised shared offset %u", a->what, at);
        return false;
    }
    if (a->async && c->generic && !fenced(c)) {
        char writer[64];
        emu_defect("%s: reads what %s wrote at shared offset %u without fence.proxy.async", a->what, agent_name(c->writer, writer), at);
        return false;
    }
    int slot = -1;
    for (int k = 0; k < READERS; k++) {
        if (c->read_clock[k] && c->reader[k] == a->agent) {
            slot = k;
            break;
        }
        if (slot < 0 && (!c->read_clock[k] || a->clock[c->reader[k]] >= c->read_clock[k]))
            slot = k;
    }
    if (slot < 0)                      /* more unordered readers than places: any of them may stand for the rest */
        slot = (int)(emu_random() % READERS);
    c->reader[slot] = (u16)a->agent;
    c->read_clock[slot] = a->time;
    return true;
}

void emu_shared(u32 at, u32 bytes, const Access *a)
{
    Block *b = BLK;
    if ((u64)at + bytes > b->smem) {
        emu_defect("%s: shared memory out of bounds, %u bytes at offset %u of %u", a->what, bytes, at, b->smem);
        return;
    }
    if (!b->check)
        return;
    for (u32 i = at >> 1; i <= (at + bytes - 1) >> 1; i++) {
        Cell *c = &b->cell[i];
        bool own = c->writer == a->agent && a->agent < b->nt;
        if (c->write_clock && !own && a->clock[c->writer] < c->write_clock) {
            race(i * 2, a, "write", c->writer);
            return;
        }
        if (!(a->write ? cell_write(c, i * 2, a) : cell_read(c, i * 2, a)))
            return;
    }
}

Access emu_as_thread(Fiber *f, bool write, const char *what)
{
    return (Access){write, false, f->tid, f->time, f->clock, what};
}

/* ---- global memory. A mark for every two bytes: epoch (20 bits), block (20), thread (10), that thread's time (14).
 * Epoch 0: uninitialised; older than the launch: ordinary data. */
enum { GUARD = 4096, BUFFERS = 16384 };

typedef struct Buffer { u8 *p; size_t bytes; u64 *mark; size_t mark_bytes; const char *name; } Buffer;
static Buffer buffer[BUFFERS];
static int n_buffer;
static u64 epoch = 1;

static size_t mapped(size_t bytes)
{
    return (bytes + GUARD - 1) / GUARD * GUARD + 2 * GUARD;
}

static void *map_zeroes(size_t bytes)
{
    void *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void *emu_alloc(size_t bytes, const char *name)
{
    u8 *p = map_zeroes(mapped(bytes));
    Buffer b = {p ? p + GUARD : NULL, bytes, NULL, (bytes / 2 + 1) * sizeof(u64), name};
    if (!p || n_buffer == BUFFERS || !(b.mark = map_zeroes(b.mark_bytes)))
        return NULL;
    buffer[n_buffer++] = b;
    return b.p;
}

size_t emu_free(void *p)
{
    for (int i = 0; i < n_buffer; i++)
        if (buffer[i].p == p) {
            size_t bytes = buffer[i].bytes;
            munmap(buffer[i].p - GUARD, mapped(buffer[i].bytes));
            munmap(buffer[i].mark, buffer[i].mark_bytes);
            buffer[i] = buffer[--n_buffer];
            return bytes;
        }
    return 0;
}

static Buffer *find_buffer(const u8 *p, int first)
{
    for (int k = 0; k < n_buffer; k++) {
        Buffer *b = &buffer[k ? (k <= first ? k - 1 : k) : first];
        if (p >= b->p - GUARD && p < b->p + b->bytes + GUARD)
            return b;
    }
    return NULL;
}

bool emu_inside(const void *p, size_t bytes)
{
    const Buffer *b = find_buffer(p, 0);
    return b && (const u8 *)p >= b->p && (const u8 *)p + bytes <= b->p + b->bytes;
}

void emu_mark(const void *p, size_t bytes)
{
    const Buffer *b = find_buffer(p, 0);
    if (!b || !bytes)
        return;
    size_t at = (size_t)((const u8 *)p - b->p), end = (at + bytes - 1) / 2;
    for (size_t i = at / 2; i <= end; i++)
        b->mark[i] = (u64)1 << 44;
}

void emu_new_epoch(void)
{
    epoch = epoch + 1 == 1 << 20 ? 2 : epoch + 1;
}

/* The launch is half over when a block reads or writes: two emulator threads may meet on a mark, and it must stay whole. */
static bool global_write(u64 *mark, u64 mine, const char *what, const Buffer *b, size_t at)
{
    u64 old = __atomic_exchange_n(mark, mine, __ATOMIC_RELAXED);
    if (old >> 44 == epoch && (old >> 24 & 0xfffff) != (mine >> 24 & 0xfffff)) {
        emu_defect("%s: two blocks (%u and this one) write byte %zu of '%s'", what, (u32)(old >> 24 & 0xfffff), at, b->name);
        return false;
    }
    return true;
}

static bool global_read(const u64 *mark, const char *what, const Buffer *b, size_t at)
{
    u64 m = __atomic_load_n(mark, __ATOMIC_RELAXED);
    u32 block = m >> 24 & 0xfffff, thread = m >> 14 & 0x3ff, time = m & 0x3fff;
    const Block *k = BLK;
    if (!m) {
        emu_defect("%s: read of uninitialised byte %zu of '%s'", what, at, b->name);
        return false;
    }
    if (m >> 44 != epoch)
        return true;
    if (block != (k->number & 0xfffff)) {
        emu_defect("%s: reads byte %zu of '%s', which block %u of the same launch wrote", what, at, b->name, block);
        return false;
    }
    if (k->now && thread != k->now->tid && k->now->clock[thread] < time) {
        emu_defect("%s: reads byte %zu of '%s', not ordered after the write by thread %u", what, at, b->name, thread);
        return false;
    }
    return true;
}

void emu_global(const void *p, u32 bytes, bool write, const char *what)
{
    Block *k = BLK;
    k->moved += bytes;
    Buffer *b = find_buffer(p, k->last_buffer < n_buffer ? k->last_buffer : 0);
    if (!b) {
        emu_defect("%s: wild address %p", what, p);
        emu_kill();
    }
    k->last_buffer = (int)(b - buffer);
    ptrdiff_t at = (const u8 *)p - b->p;
    if (at < 0 || (size_t)at + bytes > b->bytes) {
        emu_defect("%s: OUT OF BOUNDS %s of %u bytes at byte %td of '%s' (%zu bytes)", what, write ? "write" : "read", bytes, at, b->name,
                   b->bytes);
        return;
    }
    if (!k->check)
        return;
    u32 time = k->now && k->now->time < 0x3fff ? k->now->time : 0;
    u64 mine = epoch << 44 | (u64)(k->number & 0xfffff) << 24 | (u64)(k->now ? k->now->tid : 0) << 14 | time;
    for (size_t i = (size_t)at >> 1; i <= ((size_t)at + bytes - 1) >> 1; i++)
        if (!(write ? global_write(&b->mark[i], mine, what, b, i * 2) : global_read(&b->mark[i], what, b, i * 2)))
            return;
}

/* ---- loads and stores of the kernel */

static void touch(const void *pc, const void *q, u32 bytes, bool write)
{
    Block *b = BLK;
    const u8 *p = q;
    if (!b || !b->now || (p >= b->now->stack && p < b->now->stack + STACK))
        return;                        /* a register, as far as the GPU is concerned */
    const char *what = write ? "store" : "load";
    if (!(bytes & (bytes - 1)) && (uintptr_t)p % bytes)
        emu_defect("%s: %u bytes at an address that is not a multiple of it", what, bytes);
    if (p >= b->memory && p < b->memory + EMU_SMEM_MOST) {
        Access a = emu_as_thread(b->now, write, what);
        emu_shared((u32)(p - b->memory), bytes, &a);
        if (emu_lint_on)
            emu_lint(pc, (u64)(p - b->memory), bytes, true, write);
    } else {
        emu_global(p, bytes, write, what);
        if (emu_lint_on)
            emu_lint(pc, (u64)(uintptr_t)p, bytes, false, write);
    }
}

#define HERE __builtin_return_address(0)
#define CALLBACKS(n) \
    void __tsan_read##n(void *p); \
    void __tsan_write##n(void *p); \
    void __tsan_unaligned_read##n(void *p); \
    void __tsan_unaligned_write##n(void *p); \
    void __tsan_read##n(void *p) { touch(HERE, p, n, false); } \
    void __tsan_write##n(void *p) { touch(HERE, p, n, true); } \
    void __tsan_unaligned_read##n(void *p) { touch(HERE, p, n, false); } \
    void __tsan_unaligned_write##n(void *p) { touch(HERE, p, n, true); }
CALLBACKS(1) CALLBACKS(2) CALLBACKS(4) CALLBACKS(8) CALLBACKS(16)
void __tsan_read_range(void *p, size_t n);
void __tsan_write_range(void *p, size_t n);
void __tsan_func_entry(void *p);
void __tsan_func_exit(void);
void __tsan_init(void);
void __tsan_read_range(void *p, size_t n) { touch(HERE, p, (u32)n, false); }
void __tsan_write_range(void *p, size_t n) { touch(HERE, p, (u32)n, true); }
void __tsan_func_entry(void *p) { (void)p; }
void __tsan_func_exit(void) { }
void __tsan_init(void) { }

u32 tc_atomic_add(u32 *p, u32 v)
{
    Block *b = BLK;
    if ((u8 *)p < b->memory || (u8 *)p >= b->memory + EMU_SMEM_MOST) {
        if (!emu_inside(p, sizeof *p)) {
            emu_defect("atomic add: wild address %p", (void *)p);
            return 0;
        }
        emu_mark(p, sizeof *p);        /* any block may: it is ordered by being atomic */
    }
    return __atomic_fetch_add(p, v, __ATOMIC_SEQ_CST);
}
