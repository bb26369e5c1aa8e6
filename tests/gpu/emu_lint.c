/* emu_lint.c -- how the accesses of warps fall on the banks of shared memory and the sectors of global memory.
 *
 * Fibers run one by one, so a warp's access is put together afterwards: what each of its threads does at one place of the code
 * for the k-th time belongs together. Of shared memory a phase is as many threads as fill 128 bytes (32 of 4 bytes, 8 of 16),
 * and takes as many turns as the busiest of 32 banks has different words. Of global memory an access takes the sectors of 32
 * bytes that it touches; the least are those its bytes would fill. */
#include "emu_state.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum { SITES = 4096, PENDING = 2048, BANKS = 32, SECTOR = 32 };

typedef struct Instance { u64 at[32]; u32 lanes; } Instance;

/* Accesses of one warp at one place that wait for the rest of their threads; the first is number `from`. */
typedef struct Queue { Instance *item; u32 from, n, cap; } Queue;

typedef struct Site {
    EmuLint sum;
    u32 seen[EMU_THREADS_MOST];        /* times each thread has been here */
    Queue queue[WARPS];
} Site;

struct Lint { Site *site[SITES]; };

bool emu_lint_on;
static struct { EmuLint site[SITES]; int n; pthread_mutex_t lock; } all = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* ---- one access of a warp */

static void count_banks(EmuLint *s, const Instance *x)
{
    u32 per = s->bytes <= 4 ? 32 : 128 / s->bytes;
    for (u32 first = 0; first < 32; first += per) {
        u64 word[BANKS][32];
        u32 n[BANKS] = {0}, turns = 0;
        for (u32 lane = first; lane < first + per; lane++)
            for (u64 w = x->at[lane] / 4; x->lanes >> lane & 1 && w <= (x->at[lane] + s->bytes - 1) / 4; w++) {
                u32 bank = w % BANKS, i = 0;
                while (i < n[bank] && word[bank][i] != w)
                    i++;
                if (i < n[bank])
                    continue;
                word[bank][n[bank]++] = w;
                turns = n[bank] > turns ? n[bank] : turns;
            }
        s->least += turns > 0;
        s->taken += turns;
    }
}

static u32 insert(u64 *set, u32 n, u64 x)
{
    for (u32 i = 0; i < n; i++)
        if (set[i] == x)
            return n;
    set[n] = x;
    return n + 1;
}

static void count_sectors(EmuLint *s, const Instance *x)
{
    u64 sector[64], at[32];
    u32 n_sector = 0, n_at = 0;
    for (u32 lane = 0; lane < 32; lane++)
        if (x->lanes >> lane & 1) {
            n_at = insert(at, n_at, x->at[lane]);
            n_sector = insert(sector, n_sector, x->at[lane] / SECTOR);
            n_sector = insert(sector, n_sector, (x->at[lane] + s->bytes - 1) / SECTOR);
        }
    s->least += (n_at * s->bytes + SECTOR - 1) / SECTOR;
    s->taken += n_sector;
}

static void count(Site *s, const Instance *x)
{
    if (x->lanes)
        (s->sum.shared ? count_banks : count_sectors)(&s->sum, x);
}

/* ---- gathering */

static Site *find_site(Block *b, const void *pc, u32 bytes, bool shared, bool write)
{
    if (!b->lint)
        b->lint = calloc(1, sizeof *b->lint);
    u64 h = ((u64)(uintptr_t)pc * 2 + shared) * 0x9e3779b97f4a7c15ull >> 40;
    for (u32 i = 0; i < SITES; i++) {
        Site **s = &b->lint->site[(h + i) % SITES];
        if (!*s) {
            *s = calloc(1, sizeof **s);
            (*s)->sum = (EmuLint){.pc = pc, .bytes = bytes, .shared = shared, .write = write};
        }
        if ((*s)->sum.pc == pc && (*s)->sum.shared == shared)
            return *s;
    }
    return NULL;
}

static void drop_first(Site *s, Queue *q)
{
    count(s, &q->item[0]);
    memmove(q->item, q->item + 1, --q->n * sizeof *q->item);
    q->from++;
}

void emu_lint(const void *pc, u64 at, u32 bytes, bool shared, bool write)
{
    Block *b = BLK;
    u32 tid = b->now->tid, lane = tid & 31;
    Site *s = find_site(b, pc, bytes, shared, write);
    if (!s)
        return;
    Queue *q = &s->queue[tid >> 5];
    u32 k = s->seen[tid]++;
    if (k < q->from)                   /* it was given up waiting for */
        return;
    while (q->n <= k - q->from) {
        if (q->n == PENDING) {
            drop_first(s, q);
            continue;
        }
        if (q->n == q->cap)
            q->item = realloc(q->item, (q->cap = q->cap ? 2 * q->cap : 8) * sizeof *q->item);
        q->item[q->n++] = (Instance){.lanes = 0};
    }
    Instance *x = &q->item[k - q->from];
    x->at[lane] = at;
    x->lanes |= 1u << lane;
    while (q->n && q->item[0].lanes == 0xffffffffu)
        drop_first(s, q);
}

void emu_lint_end(Block *b)
{
    for (u32 i = 0; b->lint && i < SITES; i++) {
        Site *s = b->lint->site[i];
        if (!s || !s->sum.pc)
            continue;
        for (u32 w = 0; w < WARPS; w++) {
            while (s->queue[w].n)
                drop_first(s, &s->queue[w]);
            free(s->queue[w].item);
        }
        pthread_mutex_lock(&all.lock);
        int k = 0;
        while (k < all.n && (all.site[k].pc != s->sum.pc || all.site[k].shared != s->sum.shared))
            k++;
        if (k == all.n && all.n < SITES)
            all.site[all.n++] = (EmuLint){.pc = s->sum.pc, .bytes = s->sum.bytes, .shared = s->sum.shared, .write = s->sum.write};
        if (k < all.n) {
            all.site[k].least += s->sum.least;
            all.site[k].taken += s->sum.taken;
        }
        pthread_mutex_unlock(&all.lock);
        free(s);
        b->lint->site[i] = NULL;
    }
}

int emu_lint_take(EmuLint *out, int cap)
{
    int n = all.n < cap ? all.n : cap;
    memcpy(out, all.site, (size_t)n * sizeof *out);
    all.n = 0;
    return n;
}
