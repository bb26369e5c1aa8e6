/* emu_wgmma.c -- matrix products of a warpgroup: operands by descriptor or in registers, results at the wait. */
#include "emu_state.h"
#include <math.h>
#include <string.h>

typedef struct Product { float *d; u64 a, b; const u32 *ra; u32 n; int add; char form_a, form_b; } Product;

static void group_collect(const char *word, void *arg, CollectiveFn fn)
{
    u32 tid = BLK->now->tid;
    if ((tid & ~127u) + 128 > BLK->nt) {
        emu_defect("%s: not a whole warpgroup", word);
        return;
    }
    emu_collect(&BLK->group[tid >> 7], tid >> 7, 128, tid & 127, word, arg, fn);
}

/* where thread t of the warpgroup keeps element e (0 .. 3) of column block j: row and column of the 64 x n result */
static u32 d_row(u32 t, u32 e) { return t / 32 * 16 + t % 32 / 4 + e / 2 * 8; }
static u32 d_col(u32 t, u32 j, u32 e) { return j * 8 + 2 * (t % 4) + e % 2; }

/* 16 bytes of shared memory, swizzled, as eight numbers `step` apart */
static void chunk(u32 at, float *out, u32 step, const Access *a)
{
    at ^= (at >> 7 & 7) << 4;
    emu_shared(at, 16, a);
    bf16 v[8] = {0};
    if (at + 16 <= BLK->smem)
        memcpy(v, BLK->memory + at, 16);
    for (u32 e = 0; e < 8; e++)
        out[e * step] = tc_float((u32)v[e] << 16);
}

/* the operand a descriptor names, as out[row][16 terms] */
static void operand(u64 d, char form, u32 rows, float *out, const Access *a)
{
    u32 start = (u32)(d & 0x3fff) << 4, lbo = (u32)(d >> 16 & 0x3fff) << 4, sbo = (u32)(d >> 32 & 0x3fff) << 4;
    if (d >> 62 != 1)
        emu_defect("wgmma: a descriptor without 128-byte swizzle");
    if (form == 'k') {
        for (u32 r = 0; r < rows; r++)
            for (u32 c = 0; c < 2; c++)
                chunk(start + r / 8 * sbo + r % 8 * 128 + c * 16, out + r * 16 + c * 8, 1, a);
    } else {
        for (u32 k = 0; k < 16; k++)
            for (u32 r = 0; r < rows; r += 8)
                chunk(start + r / 64 * lbo + k / 8 * sbo + k % 8 * 128 + r % 64 * 2, out + r * 16 + k, 16, a);
    }
}

static void operand_in_registers(Collective *c, float *out)
{
    for (u32 t = 0; t < 128; t++) {
        const u32 *r = ((Product *)c->arg[t])->ra;
        for (u32 e = 0; e < 8; e++) {
            u32 row = t / 32 * 16 + t % 32 / 4 + (e >> 1 & 1) * 8, k = 2 * (t % 4) + (e & 1) + (e >> 2) * 8;
            out[row * 16 + k] = tc_float(e & 1 ? r[e >> 1] & 0xffff0000u : r[e >> 1] << 16);
        }
    }
}

/* The accumulator at this address, taken out of the threads' registers if it was not on its way already. */
static Hidden *accumulator(Collective *c, u32 group, const Product *p)
{
    Hidden *free = NULL;
    for (u32 i = 0; i < ACCUMULATORS; i++) {
        Hidden *h = &BLK->hidden[group][i];
        if (h->key == p->d)
            return h;
        if (!h->key)
            free = h;
    }
    if (!free) {
        emu_defect("wgmma: more than %d accumulators on their way", ACCUMULATORS);
        return NULL;
    }
    free->key = p->d;
    free->n = p->n;
    for (u32 t = 0; t < 128; t++) {
        float *d = ((Product *)c->arg[t])->d;
        for (u32 i = 0; i < p->n / 2; i++) {
            free->value[d_row(t, i % 4) * p->n + d_col(t, i / 4, i % 4)] = d[i];
            d[i] = NAN;
        }
    }
    return free;
}

static void product(Collective *c, u32 group)
{
    float *a = BLK->a, *b = BLK->b, *turned = BLK->turned;
    u32 *known = BLK->merged;
    const Product *p = c->arg[0];
    u32 n = p->n;
    for (u32 t = 0; t < 128; t++) {
        const Product *o = c->arg[t];
        if (o->a != p->a || o->b != p->b || o->n != n || o->add != p->add || o->form_a != p->form_a || o->form_b != p->form_b) {
            emu_defect("wgmma: descriptors differ inside the warpgroup");
            break;
        }
    }
    for (u32 w = 0; w < 4; w++)
        if (!c->who[w * 32]->wgmma_fenced) {
            emu_defect("wgmma: issued without wgmma.fence since the last wait");
            break;
        }
    /* it reads what all four warps know to be there */
    memcpy(known, c->who[0]->clock, BLK->agents * sizeof *known);
    for (u32 w = 1; w < 4; w++)
        for (u32 i = 0; i < BLK->agents; i++) {
            u32 other = c->who[w * 32]->clock[i];
            known[i] = known[i] < other ? known[i] : other;
        }
    u32 time = c->who[0]->wgmma_groups + 1;
    Access read = {false, true, 2 * BLK->nt + group, time, known, "wgmma"};
    if (p->form_a == 'r')
        operand_in_registers(c, a);
    else
        operand(p->a, p->form_a, 64, a, &read);
    operand(p->b, p->form_b, n, b, &read);
    Hidden *h = accumulator(c, group, p);
    if (!h)
        return;
    h->group = time;
    if (!p->add)
        memset(h->value, 0, 64 * n * sizeof *h->value);
    for (u32 j = 0; j < n; j++)
        for (u32 k = 0; k < 16; k++)
            turned[k * n + j] = b[j * 16 + k];
    for (u32 i = 0; i < 64; i++)
        for (u32 k = 0; k < 16; k++) {
            float x = a[i * 16 + k], *restrict d = h->value + i * n;
            const float *restrict y = turned + k * n;
            for (u32 j = 0; j < n; j++)
                d[j] += x * y[j];
        }
}

void emu_wgmma(u32 n, char form_a, char form_b, float *d, u64 a, const u32 *ra, u64 b, int add)
{
    Product p = {d, a, b, ra, n, add, form_a, form_b};
    group_collect("wgmma", &p, product);
}

void tc_wgmma_fence(void) { BLK->now->wgmma_fenced = true; }
void tc_wgmma_commit(void) { BLK->now->wgmma_groups++; }

/* Nobody has written to it since the products were issued; else its place may be another variable's by now. */
static bool untouched(const Collective *c, const Hidden *h, ptrdiff_t at)
{
    const float nan = NAN;
    for (u32 t = 0; t < 128; t++)
        for (u32 k = 0; k < h->n / 2; k++)
            if (memcmp(c->who[t]->stack + at + k * sizeof nan, &nan, sizeof nan))
                return false;
    return true;
}

static void wait_group(Collective *c, u32 group)
{
    u32 n = *(u32 *)c->arg[0], committed = c->who[0]->wgmma_groups, over = committed > n ? committed - n : 0;
    for (u32 t = 0; t < 128; t++) {
        u32 *known = &c->who[t]->clock[2 * BLK->nt + group];
        *known = *known > over ? *known : over;
        c->who[t]->wgmma_fenced = false;
    }
    for (u32 i = 0; i < ACCUMULATORS; i++) {
        Hidden *h = &BLK->hidden[group][i];
        if (h->key && h->group > committed) {
            emu_defect("wgmma.wait_group: products that no wgmma.commit_group follows");
            h->key = NULL;
        }
        if (!h->key || h->group > over)
            continue;
        ptrdiff_t at = (u8 *)h->key - c->who[0]->stack;
        bool ours = untouched(c, h, at);
        if (!ours)
            emu_defect("wgmma.wait_group: an accumulator was written to before the wait");
        for (u32 t = 0; t < 128 && ours; t++) {
            float *d = (float *)(c->who[t]->stack + at);
            for (u32 k = 0; k < h->n / 2; k++)
                d[k] = h->value[d_row(t, k % 4) * h->n + d_col(t, k / 4, k % 4)];
        }
        h->key = NULL;
    }
}

void tc_wgmma_wait(u32 n)
{
    group_collect("wgmma.wait_group", &n, wait_group);
}

/* A block's registers are what it was launched with: at most 65536 over its threads, in eights. Once each warpgroup has said
 * how many it wants, they must be there, or an increase waits for ever. */
void emu_setmaxnreg(u32 n, int more)
{
    enum { ALL = 65536, MOST = 256 };
    Block *b = BLK;
    u32 groups = b->nt / 128, sum = 0, at_launch = ALL / b->nt < MOST ? ALL / b->nt / 8 * 8 : MOST;
    if (n % 8 || n < 24 || n > 256 || !groups)
        emu_defect("setmaxnreg.%s %u", more ? "inc" : "dec", n);
    b->registers[b->now->tid / 128] = n;
    for (u32 i = 0; i < groups; i++) {
        if (!b->registers[i])
            return;
        sum += b->registers[i];
    }
    if (sum > at_launch * groups)
        emu_defect("setmaxnreg.%s %u: %u registers for a thread of each warpgroup together, and the block has %u", more ? "inc" : "dec", n, sum,
                   at_launch * groups);
}
