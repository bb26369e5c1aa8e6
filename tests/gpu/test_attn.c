/* test_attn.c -- attention templates in the emulator: lengths, widths, masks, several seeds, against sums in f64. */
#include "attn.h"

static const AttnProblem problems[] = {
    {1, 2, 197, 64, 0, false, false, 0, 0},
    {2, 2, 77, 64, 0, true, false, 0, 0},
    {2, 3, 1, 64, 0, false, false, 0, 0},
    {2, 2, 5, 16, 0, false, true, 0, 0},
    {1, 3, 16, 32, 0, true, false, 0, 0},
    {1, 2, 50, 64, 37, false, true, 0, 0},                     /* fewer keys than queries */
    {1, 1, 64, 64, 0, false, false, 0, 0},
    {1, 2, 100, 80, 0, true, true, 0, 0},
    {1, 2, 50, 32, 0, true, false, 1, 0},                   /* the last row of a tile of 16 sees one key of the next */
    {1, 2, 70, 32, 40, true, false, 20, 0},
    {1, 1, 40, 104, 0, false, false, 0, 0},                    /* no multiple of 16 */
    {1, 1, 257, 64, 0, false, false, 0, 0},
    {1, 1, 333, 64, 0, false, false, 0, 0},                    /* from here on tiled */
    {1, 2, 577, 64, 0, false, true, 0, 0},
    {1, 1, 400, 32, 0, true, false, 0, 0},
    {2, 1, 300, 80, 290, true, true, 37, 0},
    {1, 1, 290, 104, 0, true, false, 1, 0},
    {1, 1, 150, 128, 0, false, false, 0, 0},
};

/* for attn_wgmma_fwd and _bwd: the last number is how many warpgroups */
static const AttnProblem by_wgmma[] = {
    {1, 2, 197, 64, 0, false, false, 0, 1},
    {1, 2, 197, 64, 0, false, true, 0, 2},
    {2, 2, 77, 64, 0, true, false, 0, 1},
    {1, 2, 77, 64, 0, true, true, 0, 2},
    {1, 2, 1, 64, 0, false, false, 0, 1},
    {1, 2, 5, 16, 0, false, true, 0, 2},                    /* a warpgroup without rows */
    {1, 2, 50, 64, 37, false, true, 0, 1},
    {1, 2, 100, 80, 0, true, true, 0, 1},                   /* two boxes, the second not full */
    {1, 2, 90, 32, 0, true, false, 5, 1},                   /* the first tile sees a few more than its rows */
    {1, 1, 70, 32, 40, true, false, 20, 1},
    {1, 1, 150, 104, 0, true, false, 1, 2},
    {1, 1, 250, 24, 0, true, false, 0, 3},
    {1, 1, 333, 128, 256, false, false, 0, 2},
};
static const AttnProblem backward_by_wgmma[] = {
    {1, 2, 197, 64, 0, false, false, 0, 4},                 /* 32 rows at a time */
    {1, 1, 197, 64, 0, false, true, 0, 2},                  /* 64 */
    {2, 2, 77, 64, 0, true, false, 0, 1},
    {1, 2, 77, 64, 0, true, true, 0, 2},
    {1, 2, 5, 16, 0, false, true, 0, 4},                    /* warpgroups without columns or rows */
    {1, 2, 50, 64, 37, false, true, 0, 1},
    {1, 2, 100, 80, 0, true, true, 0, 1},                   /* two boxes, the second not full */
    {1, 2, 90, 32, 0, true, false, 5, 4},                   /* rows see a few more columns than their own */
    {1, 1, 90, 104, 0, true, false, 1, 2},
    {1, 1, 70, 32, 40, true, false, 20, 1},
    {1, 1, 128, 128, 0, true, false, 0, 2},
};

static void check(bool backward, const AttnProblem *p)
{
    AttnResult r = attn_check(backward, attn_text(backward, p), p, 2, false);
    bool ok = r.compiled && r.launched && r.error < r.allowed;
    dev_ok(ok, "%s%s: %d x %d, %d tokens, %d keys, width %d%s%s: %.1e%s%.300s", backward ? "attn_bwd" : "attn_fwd",
           p->groups == 1 ? ", a warpgroup" : p->groups ? ", warpgroups" : "", p->batch, p->heads, p->tokens, p->keys ? p->keys : p->tokens,
           p->width, p->causal ? ", causal" : "", p->bias ? ", bias" : "", r.error, ok ? "" : ": ", ok ? "" : r.why);
}

int main(void)
{
    for (int backward = 0; backward < 2; backward++)
        for (size_t k = 0; k < sizeof problems / sizeof *problems; k++)
            check(backward, &problems[k]);
    for (size_t k = 0; k < sizeof by_wgmma / sizeof *by_wgmma; k++)
        check(false, &by_wgmma[k]);
    for (size_t k = 0; k < sizeof backward_by_wgmma / sizeof *backward_by_wgmma; k++)
        check(true, &backward_by_wgmma[k]);
    return dev_done();
}
