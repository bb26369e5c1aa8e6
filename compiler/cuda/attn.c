/* attn.c -- the score templates' sizes and numbers. See attn.h. */
#include "cuda/attn.h"
#include "cuda/prelude.h"

extern const char cuda_template_attn[], cuda_template_attn_fwd[], cuda_template_attn_bwd[];
extern const char cuda_template_attn_tiled_fwd[], cuda_template_attn_tiled_bwd[], cuda_template_attn_steps_bwd[];
extern const char cuda_template_attn_wgmma_fwd[];

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

/* ---- by wgmma */

enum { GROUP = 4, MOST_SHARED_HOPPER = 227 * 1024, MOST_COLS_WGMMA = 256, MOST_WIDTH_WGMMA = 128, OTHERS_WGMMA = 40 };

static int boxes(int width) { return (width + 63) / 64; }

/* Columns that the first tile of rows sees, rounded up to a product's; all of them unless there are two tiles. */
static int few_columns(const AttnShape *s)
{
    int seen = up(64 + s->reach), all = (s->cols + 7) / 8 * 8;
    return s->reach < s->cols - 1 && s->rows > 64 && s->rows <= 128 && seen < all ? seen : all;
}

bool attn_wgmma_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out)
{
    int box = up(s->cols) * 128;
    *out = (AttnPlan){.warps = warps, .blocks = blocks, .wgmma = true};
    out->shared = box * (boxes(s->terms) + boxes(s->features)) + warps * 16 * pitch(s->terms);
    return !backward && warps % GROUP == 0 && s->terms % 8 == 0 && s->features % 8 == 0 && s->cols <= MOST_COLS_WGMMA &&
           s->terms <= MOST_WIDTH_WGMMA && s->features <= MOST_WIDTH_WGMMA && out->shared <= MOST_SHARED_HOPPER;
}

/* All scores of a thread's rows, the accumulators of the result, and others. */
static bool has_registers(const AttnShape *s, const AttnPlan *p)
{
    return fits(p->blocks, p->warps, p->shared, OTHERS_WGMMA + up(s->cols) / 2 + s->features / 2);
}

static int wgmma_plans(bool backward, const AttnShape *s, AttnPlan *out, int cap)
{
    enum { MOST_GROUPS = 4, MOST_BLOCKS = 6 };
    int n = 0;
    for (int groups = 1; groups <= MOST_GROUPS && (groups == 1 || groups * 64 < s->rows + 64); groups++)
        for (int blocks = 1; blocks <= MOST_BLOCKS && n < cap; blocks++)
            if (attn_wgmma_plan_of(backward, s, groups * GROUP, blocks, &out[n]) && has_registers(s, &out[n]))
                n++;
    return n;
}

/* ---- candidates */

/* Few warps on many blocks and the reverse; a warp without a tile of its own, and blocks that cannot be there at once, gain
 * nothing. */
int attn_plans(bool backward, bool hopper, const AttnShape *s, AttnPlan *out, int cap)
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
    return n + (hopper ? wgmma_plans(backward, s, out + n, cap - n) : 0);
}

/* ---- text */

static void print_products(Text *out, const AttnShape *s)
{
    int all = (s->cols + 7) / 8 * 8, few = few_columns(s);
    text_printf(out, "#define AW_FEW %d\n#define AW_SCORES tc_wgmma_%d_rk\n#define AW_FEW_SCORES tc_wgmma_%d_rk\n#define AW_VALUES tc_wgmma_%d_rm\n",
                few, all, few, s->features);
    prelude_wgmma(out, all, "rk");
    if (few < all)
        prelude_wgmma(out, few, "rk");
    prelude_wgmma(out, s->features, "rm");
}

static void print_plan(Text *out, const AttnShape *s, const AttnPlan *p)
{
    text_printf(out, "#define WARPS %d\n#define AT_BLOCKS %d\n#define AT_TILE %d\n", p->warps, p->blocks, p->tile);
    if (p->wgmma)
        print_products(out, s);
}

static bool same_plan(const AttnPlan *a, const AttnPlan *b)
{
    return a->warps == b->warps && a->blocks == b->blocks && a->tile == b->tile && a->wgmma == b->wgmma;
}

void attn_print(Text *out, bool backward, const AttnShape *s, const AttnPlan *p, const AttnPlan *hopper)
{
    text_printf(out, "#define ROWS %d\n#define COLS %d\n#define TERMS %d\n#define FEATURES %d\n", s->rows, s->cols, s->terms, s->features);
    text_printf(out, "#define REACH %d\n", s->reach);
    if (hopper && !same_plan(hopper, p)) {
        text_printf(out, "#if TC_HOPPER\n");
        print_plan(out, s, hopper);
        text_printf(out, "#else\n");
        print_plan(out, s, p);
        text_printf(out, "#endif\n");
    } else {
        print_plan(out, s, p);
    }
    if (backward)
        text_printf(out, "#define ROW_VALUES %d\n", s->values);
    text_printf(out, "%s", cuda_template_attn);
}

static void print_template(Text *out, bool backward, const AttnPlan *p)
{
    if (p->wgmma)
        text_printf(out, "%s", cuda_template_attn_wgmma_fwd);
    else if (backward)
        text_printf(out, "%s%s", cuda_template_attn_steps_bwd, p->tile ? cuda_template_attn_tiled_bwd : cuda_template_attn_bwd);
    else
        text_printf(out, "%s", p->tile ? cuda_template_attn_tiled_fwd : cuda_template_attn_fwd);
}

void attn_print_template(Text *out, bool backward, const AttnPlan *p, const AttnPlan *hopper)
{
    if (!hopper || (hopper->wgmma == p->wgmma && hopper->tile == p->tile)) {
        print_template(out, backward, p);
        return;
    }
    text_printf(out, "#if TC_HOPPER\n");
    print_template(out, backward, hopper);
    text_printf(out, "#else\n");
    print_template(out, backward, p);
    text_printf(out, "#endif\n");
}
