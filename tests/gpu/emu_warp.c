/* emu_warp.c -- words that threads execute together: barriers, shuffles, matrix loads and stores, mma. */
#include "emu_state.h"
#include <math.h>
#include <string.h>

void emu_collect(Collective *c, u32 group, u32 need, u32 slot, const char *word, void *arg, CollectiveFn fn)
{
    Fiber *me = BLK->now;
    if (c->n && strcmp(c->word, word)) {
        emu_defect("DIVERGENT: %s while others of its group are in %s", word, c->word);
        emu_kill();
    }
    c->word = word;
    c->arg[slot] = arg;
    c->who[slot] = me;
    if (++c->n < need) {
        emu_wait(word);
        return;
    }
    c->n = 0;
    fn(c, group);
    for (u32 i = 0; i < need; i++)
        if (c->who[i] != me)
            emu_ready(c->who[i]);
}

static void warp_collect(const char *word, void *arg, CollectiveFn fn)
{
    u32 tid = BLK->now->tid;
    emu_collect(&BLK->warp[tid >> 5], tid >> 5, 32, tid & 31, word, arg, fn);
}

/* ---- barriers: everyone knows afterwards what anyone knew */

static void meet(Fiber **who, u32 n)
{
    Block *b = BLK;
    u32 *all = b->merged;
    memset(all, 0, b->agents * sizeof *all);
    for (u32 i = 0; i < n; i++)
        emu_join_clock(all, who[i]->clock);
    for (u32 i = 0; i < n; i++) {
        memcpy(who[i]->clock, all, b->agents * sizeof *all);
        emu_tick(who[i]);
    }
}

static void barrier(u32 id, u32 need, const char *word)
{
    Barrier *r = &BLK->barrier[id];
    Fiber *me = BLK->now;
    if (r->n && r->need != need)
        emu_defect("%s: %u threads expected, others of barrier %u expect %u", word, need, id, r->need);
    r->need = need;
    r->who[r->n++] = me;
    if (r->n < need) {
        emu_wait(word);
        return;
    }
    u32 n = r->n;
    r->n = 0;
    meet(r->who, n);
    for (u32 i = 0; i < n; i++)
        if (r->who[i] != me)
            emu_ready(r->who[i]);
}

void tc_syncthreads(void)
{
    barrier(BARRIERS - 1, BLK->nt, "__syncthreads");
}

void tc_bar_sync(u32 id, u32 n)
{
    if (id < 1 || id > 15 || n % 32) {
        emu_defect("bar.sync %u, %u", id, n);
        return;
    }
    barrier(id, n, "bar.sync");
}

static void syncwarp(Collective *c, u32 group)
{
    (void)group;
    meet(c->who, 32);
}

void tc_syncwarp(void)
{
    warp_collect("__syncwarp", NULL, syncwarp);
}

/* ---- shuffles: values, but no order of memory */
typedef struct Shuffle { float in, out; u32 from; } Shuffle;

static void shuffle(Collective *c, u32 group)
{
    (void)group;
    for (u32 i = 0; i < 32; i++) {
        Shuffle *s = c->arg[i];
        s->out = ((Shuffle *)c->arg[s->from & 31])->in;
    }
}

float tc_shfl_xor(float v, u32 mask)
{
    Shuffle s = {v, 0, (BLK->now->tid & 31) ^ mask};
    warp_collect("shfl.xor", &s, shuffle);
    return s.out;
}

float tc_shfl(float v, u32 lane)
{
    Shuffle s = {v, 0, lane};
    warp_collect("shfl", &s, shuffle);
    return s.out;
}

/* ---- ldmatrix and stmatrix */
typedef struct Matrices { u32 *r, at; } Matrices;
typedef u16 Matrix[8][8];

/* The registers of the 32 lanes and the four matrices they hold, one into the other. */
static void spread(Collective *c, Matrix *m, bool transposed, bool load)
{
    for (u32 lane = 0; lane < 32; lane++)
        for (u32 j = 0; j < 4; j++) {
            u32 *r = &((Matrices *)c->arg[lane])->r[j], i = lane / 4, k = 2 * (lane % 4);
            u16 *lo = transposed ? &m[j][k][i] : &m[j][i][k], *hi = transposed ? &m[j][k + 1][i] : &m[j][i][k + 1];
            if (load) {
                *r = *lo | (u32)*hi << 16;
            } else {
                *lo = (u16)*r;
                *hi = (u16)(*r >> 16);
            }
        }
}

static void rows(Collective *c, Matrix *m, bool write, const char *word)
{
    Block *b = BLK;
    Fiber *me = b->now;
    for (u32 lane = 0; lane < 32; lane++) {
        u32 at = ((Matrices *)c->arg[lane])->at;
        b->now = c->who[lane];
        Access a = emu_as_thread(b->now, write, word);
        if (at & 15)
            emu_defect("%s: address %u is not a multiple of 16", word, at);
        emu_shared(at, 16, &a);
        u16 *row = m[lane / 8][lane % 8];
        if (at + 16 <= b->smem)
            memcpy(write ? (void *)(b->memory + at) : row, write ? (void *)row : b->memory + at, 16);
    }
    b->now = me;
}

static void load_matrices(Collective *c, bool transposed)
{
    Matrix m[4] = {0};
    rows(c, m, false, "ldmatrix");
    spread(c, m, transposed, true);
}

static void store_matrices(Collective *c, bool transposed)
{
    Matrix m[4];
    spread(c, m, transposed, false);
    rows(c, m, true, "stmatrix");
}

static void load_straight(Collective *c, u32 group) { (void)group; load_matrices(c, false); }
static void load_transposed(Collective *c, u32 group) { (void)group; load_matrices(c, true); }
static void store_straight(Collective *c, u32 group) { (void)group; store_matrices(c, false); }
static void store_transposed(Collective *c, u32 group) { (void)group; store_matrices(c, true); }

/* Each thread names a row of 16 bytes: one access of the warp, in four phases. */
static void row_of(const void *pc, u32 at, bool write)
{
    if (emu_lint_on)
        emu_lint(pc, at, 16, true, write);
}

void tc_ldmatrix4(u32 *r, u32 a)
{
    Matrices m = {r, a};
    row_of(__builtin_return_address(0), a, false);
    warp_collect("ldmatrix", &m, load_straight);
}

void tc_ldmatrix4t(u32 *r, u32 a)
{
    Matrices m = {r, a};
    row_of(__builtin_return_address(0), a, false);
    warp_collect("ldmatrix.trans", &m, load_transposed);
}

void tc_stmatrix4(u32 a, const u32 *r)
{
    Matrices m = {(u32 *)r, a};
    row_of(__builtin_return_address(0), a, true);
    warp_collect("stmatrix", &m, store_straight);
}

void tc_stmatrix4t(u32 a, const u32 *r)
{
    Matrices m = {(u32 *)r, a};
    row_of(__builtin_return_address(0), a, true);
    warp_collect("stmatrix.trans", &m, store_transposed);
}

/* ---- mma */
typedef struct Mma { float *c; const u32 *a, *b; } Mma;

/* x as an f32, rounded towards zero */
static float cut(double x)
{
    float y = (float)x;
    return fabs((double)y) > fabs(x) && fabsf(y) < INFINITY ? nextafterf(y, 0.f) : y;
}

/* What tensor cores add they do not round to the nearest f32: a long sum of one sign is too small. */
static void mma(Collective *c, const float (*a)[16], const float (*b)[8], u32 terms)
{
    double d[16][8];
    for (u32 lane = 0; lane < 32; lane++)
        for (u32 e = 0; e < 4; e++)
            d[lane / 4 + e / 2 * 8][2 * (lane % 4) + e % 2] = ((Mma *)c->arg[lane])->c[e];
    for (u32 i = 0; i < 16; i++)
        for (u32 k = 0; k < terms; k++)
            for (u32 j = 0; j < 8; j++)
                d[i][j] += (double)a[i][k] * b[k][j];
    for (u32 lane = 0; lane < 32; lane++)
        for (u32 e = 0; e < 4; e++)
            ((Mma *)c->arg[lane])->c[e] = cut(d[lane / 4 + e / 2 * 8][2 * (lane % 4) + e % 2]);
}

static float half(u32 x, u32 which)
{
    return tc_float(which ? x & 0xffff0000u : x << 16);
}

static void mma_bf16(Collective *c, u32 group)
{
    (void)group;
    float a[16][16], b[16][8];
    for (u32 lane = 0; lane < 32; lane++) {
        const Mma *m = c->arg[lane];
        u32 r = lane / 4, k = 2 * (lane % 4);
        for (u32 e = 0; e < 8; e++)
            a[r + (e >> 1 & 1) * 8][k + (e & 1) + (e >> 2) * 8] = half(m->a[e >> 1], e & 1);
        for (u32 e = 0; e < 4; e++)
            b[k + (e & 1) + (e >> 1) * 8][r] = half(m->b[e >> 1], e & 1);
    }
    mma(c, (const float (*)[16])a, (const float (*)[8])b, 16);
}

static void mma_tf32(Collective *c, u32 group)
{
    (void)group;
    float a[16][16] = {0}, b[16][8] = {0};
    for (u32 lane = 0; lane < 32; lane++) {
        const Mma *m = c->arg[lane];
        for (u32 e = 0; e < 4; e++)    /* the tensor cores ignore the low 13 bits */
            a[lane / 4 + (e & 1) * 8][lane % 4 + (e >> 1) * 4] = tc_float(m->a[e] & ~0x1fffu);
        for (u32 e = 0; e < 2; e++)
            b[lane % 4 + e * 4][lane / 4] = tc_float(m->b[e] & ~0x1fffu);
    }
    mma(c, (const float (*)[16])a, (const float (*)[8])b, 8);
}

void tc_mma(float *c, const u32 *a, const u32 *b)
{
    Mma m = {c, a, b};
    warp_collect("mma.sync", &m, mma_bf16);
}

void tc_mma_tf32(float *c, const u32 *a, const u32 *b)
{
    Mma m = {c, a, b};
    warp_collect("mma.sync tf32", &m, mma_tf32);
}
