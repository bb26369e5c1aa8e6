/* test_attn.c -- attention templates in the emulator: lengths, widths, masks, several seeds, against sums in f64. */
#include "attn.h"

static const AttnProblem problems[] = {
    {1, 2, 197, 64, 0, false, false, 0},
    {2, 2, 77, 64, 0, true, false, 0},
    {2, 3, 1, 64, 0, false, false, 0},
    {2, 2, 5, 16, 0, false, true, 0},
    {1, 3, 16, 32, 0, true, false, 0},
    {1, 2, 50, 64, 37, false, true, 0},                     /* fewer keys than queries */
    {1, 1, 64, 64, 0, false, false, 0},
    {1, 2, 100, 80, 0, true, true, 0},
    {1, 2, 50, 32, 0, true, false, 1},                   /* the last row of a tile of 16 sees one key of the next */
    {1, 2, 70, 32, 40, true, false, 20},
    {1, 1, 40, 104, 0, false, false, 0},                    /* no multiple of 16 */
    {1, 1, 257, 64, 0, false, false, 0},
    {1, 1, 333, 64, 0, false, false, 0},                    /* from here on tiled */
    {1, 2, 577, 64, 0, false, true, 0},
    {1, 1, 400, 32, 0, true, false, 0},
    {2, 1, 300, 80, 290, true, true, 37},
    {1, 1, 290, 104, 0, true, false, 1},
    {1, 1, 150, 128, 0, false, false, 0},
};

int main(void)
{
    for (int backward = 0; backward < 2; backward++)
        for (size_t k = 0; k < sizeof problems / sizeof *problems; k++) {
            const AttnProblem *p = &problems[k];
            AttnResult r = attn_check(backward, attn_text(backward, p), p, 2, false);
            bool ok = r.compiled && r.launched && r.error < (r.tiled && !backward ? 4e-3 : 1e-3);     /* factors are rounded before they are scaled */
            dev_ok(ok, "%s: %d x %d, %d tokens, %d keys, width %d%s%s: %.1e%s%.300s", backward ? "attn_bwd" : "attn_fwd", p->batch, p->heads,
                   p->tokens, p->keys ? p->keys : p->tokens, p->width, p->causal ? ", causal" : "", p->bias ? ", bias" : "", r.error,
                   ok ? "" : ": ", ok ? "" : r.why);
        }
    return dev_done();
}
