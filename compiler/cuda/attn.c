/* attn.c -- the score templates' sizes and numbers. See attn.h. */
#include "cuda/attn.h"

extern const char cuda_template_attn[], cuda_template_attn_fwd[], cuda_template_attn_bwd[];

/* Of a multiprocessor: shared memory (of sm_90; a block takes a KB more than it asks for), and the registers of each of its
 * four schedulers, to which the warps of all blocks go in turns. OTHERS: a thread's registers besides matrices. */
enum { SHARED_OF_SM = 228 * 1024, SCHEDULERS = 4, REGISTERS_OF_SCHEDULER = 16384 };
enum { MOST_SHARED = 99 * 1024, MOST_REGISTERS = 232, OTHERS = 32, OTHERS_BACKWARD = 40 };

static int up(int n) { return (n + 15) / 16 * 16; }
static int pitch(int d) { return up(d) * 2 + 16; }

static int most(int a, int b) { return a > b ? a : b; }

/* bytes of the resident matrices of one side */
static int resident(int n, const AttnShape *s)
{
    return up(n) * (pitch(s->terms) + pitch(s->features));
}

int attn_shared(bool backward, const AttnShape *s, int warps)
{
    if (!backward)
        return resident(s->cols, s) + warps * 16 * pitch(s->terms);
    return most(resident(s->rows, s) + s->rows * s->values * 4, resident(s->cols, s)) + warps * 16 * most(pitch(s->terms), pitch(s->features));
}

static bool fits(int blocks, int warps, int shared, int registers)
{
    int of_one = (blocks * warps + SCHEDULERS - 1) / SCHEDULERS;
    return of_one * 32 * registers <= REGISTERS_OF_SCHEDULER && blocks * (shared + 1024) <= SHARED_OF_SM;
}

static int tiles_of(bool backward, const AttnShape *s)
{
    return backward ? most(up(s->rows), up(s->cols)) / 16 : up(s->rows) / 16;
}

/* Warps: one tile each where five suffice: nothing is idle, and the end of one block meets the copies of another; else four,
 * one for each scheduler. Blocks: three, so that tensor cores have work while one block copies and one computes exponentials,
 * unless registers or shared memory hold fewer. (Measured best on an H200 of 1 to 8 warps, 1 to 6 blocks; where registers are
 * too few for the accumulators, a kernel takes up to 2.5 times as long.) */
bool attn_plan(bool backward, const AttnShape *s, AttnPlan *out)
{
    int tiles = tiles_of(backward, s);
    /* accumulators and operands that a thread holds all through a tile */
    int registers = backward ? OTHERS_BACKWARD + (up(s->terms) + up(s->features)) * 3 / 4 : OTHERS + up(s->cols) / 2 + up(s->features) / 2;
    out->warps = tiles <= 5 ? tiles : 4;
    out->shared = attn_shared(backward, s, out->warps);
    out->blocks = 3;
    while (out->blocks > 1 && !fits(out->blocks, out->warps, out->shared, registers))
        out->blocks--;
    return s->terms % 8 == 0 && s->features % 8 == 0 && registers <= MOST_REGISTERS && out->shared <= MOST_SHARED;
}

bool attn_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out)
{
    *out = (AttnPlan){warps, blocks, attn_shared(backward, s, warps)};
    return out->shared <= MOST_SHARED;
}

/* Few warps on many blocks and the reverse; a warp without a tile of its own, and blocks that cannot be there at once, gain
 * nothing. */
int attn_plans(bool backward, const AttnShape *s, AttnPlan *out, int cap)
{
    static const int warps[] = {1, 2, 4, 5, 7, 8};
    enum { MOST_BLOCKS = 6, MOST_WARPS = 20 };
    int n = 1, tiles = tiles_of(backward, s);
    if (!attn_plan(backward, s, out))
        return 0;
    for (size_t i = 0; i < LEN(warps) && warps[i] <= tiles; i++)
        for (int blocks = 1; blocks <= MOST_BLOCKS && blocks * warps[i] <= MOST_WARPS && n < cap; blocks++) {
            AttnPlan p;
            bool own = warps[i] == out->warps && blocks == out->blocks;
            if (!own && attn_plan_of(backward, s, warps[i], blocks, &p) && blocks * (p.shared + 1024) <= SHARED_OF_SM)
                out[n++] = p;
        }
    return n;
}

static void print_plan(Text *out, const AttnPlan *p)
{
    text_printf(out, "#define WARPS %d\n#define AT_BLOCKS %d\n", p->warps, p->blocks);
}

void attn_print(Text *out, bool backward, const AttnShape *s, const AttnPlan *p, const AttnPlan *hopper)
{
    text_printf(out, "#define ROWS %d\n#define COLS %d\n#define TERMS %d\n#define FEATURES %d\n", s->rows, s->cols, s->terms, s->features);
    text_printf(out, "#define REACH %d\n", s->reach);
    if (hopper && (hopper->warps != p->warps || hopper->blocks != p->blocks)) {
        text_printf(out, "#if TC_HOPPER\n");
        print_plan(out, hopper);
        text_printf(out, "#else\n");
        print_plan(out, p);
        text_printf(out, "#endif\n");
    } else {
        print_plan(out, p);
    }
    if (backward)
        text_printf(out, "#define ROW_VALUES %d\n", s->values);
    text_printf(out, "%s", cuda_template_attn);
}

const char *attn_template(bool backward)
{
    return backward ? cuda_template_attn_bwd : cuda_template_attn_fwd;
}
