/* emu_async.c -- work that goes on beside the threads: cp.async, mbarriers, the copy engine (TMA).
 *
 * A copy's target is poisoned at issue, and the data arrives at a random time before the wait that needs it. Copies
 * write with the clock of an agent of their own, so whoever touches the target before that wait is in a race. A thread
 * uses either cp.async or the engine, since both count in the agent's one clock. */
#include "emu_state.h"
#include <stdlib.h>
#include <string.h>

static u32 copy_agent(const Fiber *f)
{
    return BLK->nt + f->tid;
}

/* ---- cp.async */

void emu_cp_async(u32 dst, const void *src, u32 n, u32 size)
{
    Fiber *f = BLK->now;
    if (dst % size || (uintptr_t)src % size)
        emu_defect("cp.async: %u bytes, not aligned to that", size);
    if (n > size)
        emu_defect("cp.async: %u of %u bytes", n, size);
    if (n)
        emu_global(src, n, false, "cp.async");
    Access a = {true, false, copy_agent(f), f->copies + 1, f->clock, "cp.async"};
    emu_shared(dst, size, &a);
    if (emu_lint_on) {
        emu_lint(__builtin_return_address(0), dst, size, true, true);
        if (n)
            emu_lint(__builtin_return_address(0), (u64)(uintptr_t)src, size, false, false);
    }
    if ((u64)dst + size > BLK->smem || (n && !emu_inside(src, n)))
        return;
    CopyAsync c = {.dst = dst, .size = size, .group = f->copies + 1};
    if (n)
        memcpy(c.data, src, n);
    memset(BLK->memory + dst, 0xff, size);
    if (f->n_copy == f->cap_copy)
        f->copy = realloc(f->copy, (f->cap_copy = f->cap_copy ? 2 * f->cap_copy : 64) * sizeof *f->copy);
    f->copy[f->n_copy++] = c;
}

void tc_cp_commit(void)
{
    BLK->now->copies++;
}

void tc_cp_wait(u32 n)
{
    Fiber *f = BLK->now;
    u32 over = f->copies > n ? f->copies - n : 0, kept = 0;
    for (u32 i = 0; i < f->n_copy; i++) {
        const CopyAsync *c = &f->copy[i];
        if (c->group <= over || emu_random() % 16 == 0)
            memcpy(BLK->memory + c->dst, c->data, c->size);
        else
            f->copy[kept++] = *c;
    }
    f->n_copy = kept;
    u32 *known = &f->clock[copy_agent(f)];
    *known = *known > over ? *known : over;
}

/* ---- mbarriers */

static MBar *find(u32 addr, const char *word)
{
    for (u32 i = 0; i < BLK->n_mbar; i++)
        if (BLK->mbar[i].addr == addr)
            return &BLK->mbar[i];
    emu_defect("%s: no mbarrier was made at %u", word, addr);
    return NULL;
}

void tc_mbar_init(u32 addr, u32 count)
{
    Block *b = BLK;
    Fiber *f = b->now;
    if (b->n_mbar == MBARS || addr % 8) {
        emu_defect("mbarrier.init at %u: %s", addr, addr % 8 ? "not a multiple of 8" : "too many");
        return;
    }
    MBar *m = &b->mbar[b->n_mbar++];
    m->addr = addr;
    m->count = m->pending = count;
    m->phase = m->n_waiting = 0;
    m->bytes = 0;
    m->init_tid = f->tid;
    m->init_time = f->time;
    memset(m->gathering, 0, b->agents * sizeof *m->gathering);
    memset(m->done, 0, b->agents * sizeof *m->done);
    Access a = emu_as_thread(f, true, "mbarrier.init");
    emu_shared(addr, 8, &a);
}

static void fence(void)
{
    Fiber *f = BLK->now;
    f->fenced = f->time;
    f->copies_fenced = f->clock[copy_agent(f)];
    emu_tick(f);
}

void tc_mbar_fence_init(void) { fence(); }
void tc_fence_proxy_async(void) { fence(); }

static void maybe_complete(MBar *m)
{
    if (m->pending || m->bytes)
        return;
    memcpy(m->done, m->gathering, BLK->agents * sizeof *m->done);
    m->phase++;
    m->pending = m->count;
    for (u32 i = 0; i < m->n_waiting; i++)
        emu_ready(m->waiting[i]);
    m->n_waiting = 0;
}

static void arrive(u32 addr, u32 bytes, const char *word)
{
    MBar *m = find(addr, word);
    if (!m)
        return;
    if (!m->pending) {
        emu_defect("%s: more arrivals at the mbarrier %u than its count of %u", word, addr, m->count);
        return;
    }
    emu_join_clock(m->gathering, BLK->now->clock);
    emu_tick(BLK->now);
    m->bytes += bytes;
    m->pending--;
    maybe_complete(m);
}

void tc_mbar_arrive(u32 addr) { arrive(addr, 0, "mbarrier.arrive"); }
void tc_mbar_expect(u32 addr, u32 bytes) { arrive(addr, bytes, "mbarrier.arrive.expect_tx"); }

void tc_mbar_wait(u32 addr, u32 parity)
{
    MBar *m = find(addr, "mbarrier wait");
    if (!m)
        return;
    while ((m->phase & 1) == (parity & 1)) {
        m->waiting[m->n_waiting++] = BLK->now;
        emu_wait("an mbarrier");
    }
    emu_join_clock(BLK->now->clock, m->done);
}

/* ---- the copy engine */

enum { MAP_MAGIC = 0x7ca7 };

bool emu_tmap(tc_tmap *t, const void *base, u32 elem, u32 rank, const u64 *dim, const u64 *stride, const u32 *box, u32 swizzle)
{
    EmuMap m = {.magic = MAP_MAGIC, .elem = (u8)elem, .rank = (u8)rank, .swizzle = (u8)swizzle, .base = base,
                .dim = {1, 1, 1}, .box = {1, 1, 1}};
    _Static_assert(sizeof m <= sizeof *t, "a tensor map has 128 bytes");
    if (rank < 1 || rank > 3 || (uintptr_t)base % 16 || (swizzle != 0 && swizzle != 128) || (swizzle && box[0] * elem > swizzle))
        return false;
    if (box[0] * elem % 16)
        return false;
    m.stride[0] = elem;
    for (u32 i = 0; i < rank; i++) {
        if (!dim[i] || dim[i] > UINT32_MAX || !box[i] || box[i] > 256)
            return false;
        if (i && (stride[i - 1] % 16 || !stride[i - 1] || stride[i - 1] >> 40))
            return false;
        m.dim[i] = dim[i];
        m.box[i] = (u16)box[i];
        if (i)
            m.stride[i] = stride[i - 1];
    }
    memset(t, 0, sizeof *t);
    memcpy(t, &m, sizeof m);
    return true;
}

static u32 box_bytes(const EmuMap *m)
{
    return (u32)m->box[0] * m->box[1] * m->box[2] * m->elem;
}

static bool read_map(const tc_tmap *t, u32 rank, u32 at, i32 x, const char *word, EmuMap *m)
{
    memcpy(m, t, sizeof *m);
    if (x * (i32)m->elem % 16)         /* an H200 answers that with an illegal instruction */
        emu_defect("%s: the box begins at element %d of a line, not at a multiple of 16 bytes", word, x);
    if (m->magic != MAP_MAGIC || m->rank != rank) {
        emu_defect("%s: not a tensor map of rank %u", word, rank);
        return false;
    }
    if (at % (m->swizzle ? 1024 : 128)) {
        emu_defect("%s: box at shared address %u, not a multiple of %d", word, at, m->swizzle ? 1024 : 128);
        return false;
    }
    return true;
}

/* Row `row` of the box at x: its place in global memory, and which of its elements are inside the tensor. */
static const u8 *box_row(const EmuMap *m, const i32 *x, u32 row, i64 *first, i64 *last)
{
    i64 y = x[1] + (i64)(row % m->box[1]), z = x[2] + (i64)(row / m->box[1]);
    i64 lo = x[0] < 0 ? -(i64)x[0] : 0, hi = (i64)m->dim[0] - x[0];
    *first = lo;
    *last = hi < m->box[0] ? hi : m->box[0];
    if (y < 0 || y >= (i64)m->dim[1] || z < 0 || z >= (i64)m->dim[2])
        *last = *first;
    return m->base + y * (i64)m->stride[1] + z * (i64)m->stride[2] + (i64)x[0] * m->elem;
}

/* Bytes of a row of the box, chunk by chunk, to or from where the swizzle puts them. */
static void box_line(const EmuMap *m, u32 at, u32 row, u8 *line, bool to_shared)
{
    u32 bytes = m->box[0] * m->elem;
    for (u32 c = 0; c < bytes; c += 16) {
        u32 a = at + row * bytes + c;
        if (m->swizzle)
            a ^= (a >> 7 & 7) << 4;
        if (a + 16 <= BLK->smem)
            memcpy(to_shared ? BLK->memory + a : line + c, to_shared ? line + c : BLK->memory + a, 16);
    }
}

void emu_tma_load(u32 dst, const tc_tmap *t, u32 bar, u32 rank, i32 x, i32 y, i32 z)
{
    Block *b = BLK;
    Fiber *f = b->now;
    EngineCopy q = {.dst = dst, .tid = f->tid, .time = ++f->copies, .bar = find(bar, "TMA load"), .x = {x, y, z}};
    if (!q.bar || !read_map(t, rank, dst, x, "TMA load", &q.map))
        return;
    if (b->fiber[q.bar->init_tid].fenced < q.bar->init_time)
        emu_defect("TMA load: signals an mbarrier whose init was never fenced");
    u32 bytes = box_bytes(&q.map);
    Access a = {true, true, copy_agent(f), q.time, f->clock, "TMA load"};
    emu_shared(dst, bytes, &a);
    for (u32 r = 0; r < (u32)q.map.box[1] * q.map.box[2]; r++) {
        i64 first, last;
        const u8 *row = box_row(&q.map, q.x, r, &first, &last);
        if (first < last)
            emu_global(row + first * q.map.elem, (u32)(last - first) * q.map.elem, false, "TMA load");
    }
    if ((u64)dst + bytes > b->smem)
        return;
    memset(b->memory + dst, 0xff, bytes);
    if (b->n_engine == COPIES)
        emu_engine_step();
    b->engine[b->n_engine++] = q;
}

bool emu_engine_step(void)
{
    Block *b = BLK;
    if (!b->n_engine)
        return false;
    u32 k = emu_random() % b->n_engine;
    EngineCopy q = b->engine[k];
    b->engine[k] = b->engine[--b->n_engine];
    for (u32 r = 0; r < (u32)q.map.box[1] * q.map.box[2]; r++) {
        u8 line[1024] = {0};
        i64 first, last;
        const u8 *row = box_row(&q.map, q.x, r, &first, &last);
        if (first < last && emu_inside(row + first * q.map.elem, (size_t)(last - first) * q.map.elem))
            memcpy(line + first * q.map.elem, row + first * q.map.elem, (size_t)(last - first) * q.map.elem);
        box_line(&q.map, q.dst, r, line, true);
    }
    q.bar->bytes -= box_bytes(&q.map);
    u32 *known = &q.bar->gathering[b->nt + q.tid];
    *known = *known > q.time ? *known : q.time;
    maybe_complete(q.bar);
    return true;
}

/* Reads shared memory at issue: writing there before the wait is a race that the clocks see. */
void emu_tma_store(const tc_tmap *t, u32 src, u32 rank, i32 x, i32 y, i32 z)
{
    Fiber *f = BLK->now;
    EmuMap m;
    i32 at[3] = {x, y, z};
    if (!read_map(t, rank, src, x, "TMA store", &m))
        return;
    Access a = {false, true, copy_agent(f), ++f->copies, f->clock, "TMA store"};
    emu_shared(src, box_bytes(&m), &a);
    f->store_issued = f->copies;
    for (u32 r = 0; r < (u32)m.box[1] * m.box[2]; r++) {
        u8 line[1024] = {0};
        i64 first, last;
        u8 *row = (u8 *)box_row(&m, at, r, &first, &last);
        if (first >= last)
            continue;
        box_line(&m, src, r, line, false);
        emu_global(row + first * m.elem, (u32)(last - first) * m.elem, true, "TMA store");
        if (emu_inside(row + first * m.elem, (size_t)(last - first) * m.elem))
            memcpy(row + first * m.elem, line + first * m.elem, (size_t)(last - first) * m.elem);
    }
}

void tc_bulk_commit(void)
{
    BLK->now->store_committed = BLK->now->store_issued;
}

/* Groups are not told apart: only a wait for all of them is modelled as freeing what they read. */
void tc_bulk_wait_read(u32 n)
{
    Fiber *f = BLK->now;
    u32 *known = &f->clock[copy_agent(f)];
    if (!n && *known < f->store_committed)
        *known = f->store_committed;
}
