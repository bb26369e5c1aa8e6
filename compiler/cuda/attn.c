/* attn.c -- the score templates' sizes and numbers. See attn.h. */
#include "cuda/attn.h"
#include "cuda/prelude.h"

extern const char cuda_template_attn[], cuda_template_attn_fwd[], cuda_template_attn_bwd[];
extern const char cuda_template_attn_tiled_fwd[], cuda_template_attn_tiled_bwd[], cuda_template_attn_steps_bwd[];
extern const char cuda_template_attn_wgmma[], cuda_template_attn_wgmma_fwd[], cuda_template_attn_wgmma_bwd[];

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

/* Rows that a warpgroup of the backward pass takes at a time: with more than two of them, as many as registers hold. */
static int step(const AttnPlan *p) { return p->warps * p->blocks > 2 * GROUP ? 32 : 64; }

static int shared_wgmma(bool backward, const AttnShape *s, const AttnPlan *p)
{
    int columns = up(s->cols) * 128, rows = (s->rows + step(p) - 1) / step(p) * step(p) * 128, tiles = (s->rows + 63) / 64;
    if (!backward)
        return columns * (boxes(s->terms) + boxes(s->features)) + p->warps * 16 * pitch(s->terms);
    return (columns + rows) * (boxes(s->terms) + boxes(s->features)) + tiles * columns + s->rows * s->values * 4;
}

bool attn_wgmma_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out)
{
    *out = (AttnPlan){.warps = warps, .blocks = blocks, .wgmma = true};
    if (warps % GROUP || s->terms % 8 || s->features % 8 || s->cols > MOST_COLS_WGMMA || s->terms > MOST_WIDTH_WGMMA ||
        s->features > MOST_WIDTH_WGMMA)
        return false;
    out->shared = shared_wgmma(backward, s, out);
    return out->shared <= MOST_SHARED_HOPPER;
}

/* Forward: all scores of a thread's rows and the accumulators of the result. Backward: those of two results, and two times the
 * scores of a step. And others. */
static bool has_registers(bool backward, const AttnShape *s, const AttnPlan *p)
{
    int each = backward ? OTHERS + (s->terms + s->features) / 2 + step(p) : OTHERS_WGMMA + up(s->cols) / 2 + s->features / 2;
    return each <= MOST_REGISTERS && fits(p->blocks, p->warps, p->shared, each);
}

static int wgmma_plans(bool backward, const AttnShape *s, AttnPlan *out, int cap)
{
    enum { MOST_GROUPS = 4, MOST_BLOCKS = 6 };
    int n = 0, tiles = ((backward ? most(s->rows, s->cols) : s->rows) + 63) / 64;
    for (int groups = 1; groups <= MOST_GROUPS && groups <= tiles; groups++)
        for (int blocks = 1; blocks <= MOST_BLOCKS && n < cap; blocks++)
            if (attn_wgmma_plan_of(backward, s, groups * GROUP, blocks, &out[n]) && has_registers(backward, s, &out[n]))
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

static void print_product(Text *out, const char *name, int n, const char *form)
{
    text_printf(out, "#define %s tc_wgmma_%d_%s\n", name, n, form);
}

static void print_products(Text *out, bool backward, const AttnShape *s, const AttnPlan *p)
{
    int all = (s->cols + 7) / 8 * 8, few = few_columns(s);
    if (backward) {
        text_printf(out, "#define AW_STEP %d\n", step(p));
        print_product(out, "AW_SCORES", step(p), "kk");
        print_product(out, "AW_FEATURES", s->features, "rm");
        print_product(out, "AW_TERMS", s->terms, "rm");
        print_product(out, "AW_ROW_TERMS", s->terms, "mm");
        prelude_wgmma(out, step(p), "kk");
        prelude_wgmma(out, s->features, "rm");
        if (s->terms != s->features)
            prelude_wgmma(out, s->terms, "rm");
        prelude_wgmma(out, s->terms, "mm");
        return;
    }
    text_printf(out, "#define AW_FEW %d\n", few);
    print_product(out, "AW_SCORES", all, "rk");
    print_product(out, "AW_FEW_SCORES", few, "rk");
    print_product(out, "AW_VALUES", s->features, "rm");
    prelude_wgmma(out, all, "rk");
    if (few != all)
        prelude_wgmma(out, few, "rk");
    prelude_wgmma(out, s->features, "rm");
}

static void print_plan(Text *out, bool backward, const AttnShape *s, const AttnPlan *p)
{
    text_printf(out, "#define WARPS %d\n#define AT_BLOCKS %d\n#define AT_TILE %d\n", p->warps, p->blocks, p->tile);
    if (p->wgmma)
        print_products(out, backward, s, p);
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
        print_plan(out, backward, s, hopper);
        text_printf(out, "#else\n");
        print_plan(out, backward, s, p);
        text_printf(out, "#endif\n");
    } else {
        print_plan(out, backward, s, p);
    }
    if (backward)
        text_printf(out, "#define ROW_VALUES %d\n", s->values);
    text_printf(out, "%s", cuda_template_attn);
}

static void print_template(Text *out, bool backward, const AttnPlan *p)
{
    if (p->wgmma)
        text_printf(out, "%s%s", cuda_template_attn_wgmma, backward ? cuda_template_attn_wgmma_bwd : cuda_template_attn_wgmma_fwd);
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
