/* attn.c -- the score templates' sizes and numbers. See attn.h. */
#include "cuda/attn.h"

extern const char cuda_template_attn[], cuda_template_attn_fwd[], cuda_template_attn_bwd[];

enum { MOST_SHARED = 99 * 1024, MOST_WARPS = 4, MOST_REGISTERS = 200 };

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

bool attn_plan(bool backward, const AttnShape *s, AttnPlan *out)
{
    int tiles = backward ? most(up(s->rows), up(s->cols)) / 16 : up(s->rows) / 16;
    /* accumulators and operands that a thread holds all through a tile */
    int registers = backward ? (up(s->terms) + up(s->features)) * 3 / 4 : up(s->cols) / 2 + up(s->features) / 2;
    out->warps = tiles < MOST_WARPS ? tiles : MOST_WARPS;
    out->blocks = registers <= 96 ? 3 : 2;
    out->shared = attn_shared(backward, s, out->warps);
    return s->terms % 8 == 0 && s->features % 8 == 0 && registers <= MOST_REGISTERS && out->shared <= MOST_SHARED;
}

void attn_print(Text *out, bool backward, const AttnShape *s, const AttnPlan *p)
{
    text_printf(out, "#define ROWS %d\n#define COLS %d\n#define TERMS %d\n#define FEATURES %d\n", s->rows, s->cols, s->terms, s->features);
    text_printf(out, "#define WARPS %d\n#define AT_BLOCKS %d\n", p->warps, p->blocks);
    if (backward)
        text_printf(out, "#define ROW_VALUES %d\n", s->values);
    text_printf(out, "%s", cuda_template_attn);
}

const char *attn_template(bool backward)
{
    return backward ? cuda_template_attn_bwd : cuda_template_attn_fwd;
}
