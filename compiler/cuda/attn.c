/* attn.c -- the score templates' sizes and numbers. See attn.h. */
#include "cuda/attn.h"

extern const char cuda_template_attn[], cuda_template_attn_fwd[], cuda_template_attn_bwd[];
extern const char cuda_template_attn_tiled_fwd[], cuda_template_attn_tiled_bwd[], cuda_template_attn_steps_bwd[];

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

/* bytes of a block */
static int shared(bool backward, const AttnShape *s, int warps, int tile)
{
    int own = warps * 16 * (backward ? most(pitch(s->terms), pitch(s->features)) : pitch(s->terms)), values = backward ? s->values * 4 : 0;
    if (tile)
        return 2 * (resident(tile, s) + tile * values) + own;
    return own + (backward ? most(resident(s->rows, s) + s->rows * values, resident(s->cols, s)) : resident(s->cols, s));
}

/* Accumulators and operands that a thread holds all through a tile, and others. */
static int registers(bool backward, const AttnShape *s, int tile)
{
    int terms = up(s->terms), features = up(s->features);
    if (backward)
        return OTHERS_BACKWARD + (terms + features) * 3 / 4;
    return OTHERS + features / 2 + (tile ? tile / 2 + terms / 4 : up(s->cols) / 2);
}

/* Sets *tile to 0, or to the most that has room. */
static bool find_tile(bool backward, const AttnShape *s, int warps, int *tile)
{
    static const int tiles[] = {0, 64, 32};
    for (size_t i = 0; i < LEN(tiles); i++) {
        *tile = tiles[i];
        if (registers(backward, s, *tile) <= MOST_REGISTERS && shared(backward, s, warps, *tile) <= MOST_SHARED)
            return true;
    }
    return false;
}

static bool fits(int blocks, int warps, int bytes, int each)
{
    int of_one = (blocks * warps + SCHEDULERS - 1) / SCHEDULERS;
    return of_one * 32 * each <= REGISTERS_OF_SCHEDULER && blocks * (bytes + 1024) <= SHARED_OF_SM;
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
    int tiles = tiles_of(backward, s), warps = tiles <= 5 ? tiles : 4;
    if (s->terms % 8 || s->features % 8 || !attn_plan_of(backward, s, warps, 3, out))
        return false;
    while (out->blocks > 1 && !fits(out->blocks, warps, out->shared, registers(backward, s, out->tile)))
        out->blocks--;
    return true;
}

bool attn_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out)
{
    *out = (AttnPlan){.warps = warps, .blocks = blocks};
    bool room = find_tile(backward, s, warps, &out->tile);
    out->shared = shared(backward, s, warps, out->tile);
    return room;
}

int attn_blocks(bool backward, const AttnShape *s, const AttnPlan *p)
{
    int part = p->warps * 16, rows = (s->rows + part - 1) / part, columns = (s->cols + part - 1) / part;
    return !p->tile ? 1 : backward ? rows + columns : rows;
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
            if (!own && attn_plan_of(backward, s, warps[i], blocks, &p) && p.tile == out->tile && blocks * (p.shared + 1024) <= SHARED_OF_SM)
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
    text_printf(out, "#define REACH %d\n#define AT_TILE %d\n", s->reach, p->tile);
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

const char *attn_steps(bool backward)
{
    return backward ? cuda_template_attn_steps_bwd : "";
}

const char *attn_template(bool backward, const AttnPlan *p)
{
    if (p->tile)
        return backward ? cuda_template_attn_tiled_bwd : cuda_template_attn_tiled_fwd;
    return backward ? cuda_template_attn_bwd : cuda_template_attn_fwd;
}
