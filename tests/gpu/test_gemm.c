/* test_gemm.c -- contraction templates in the emulator: every layout, ragged shapes, several seeds, against sums in f64. */
#include "gemm.h"

/* f: float, h: bf16; unit; vec */
#define H(unit, vec) {true, unit, vec, 0}
#define F(unit, vec) {false, unit, vec, 0}
static const GemmProblem problems[] = {
    {128, 128, 128, 1, 1, 0, H(1, 8), H(1, 8), FINISH_F32, 0, 0},
    {130, 72, 200, 1, 1, 0, H(1, 8), H(1, 8), FINISH_F32, 0, 0},           /* ragged everywhere */
    {72, 136, 40, 2, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 0, 0},
    {136, 72, 96, 1, 1, 0, H(2, 8), H(1, 8), FINISH_F32, 0, 0},
    {200, 136, 330, 1, 2, 256, H(2, 8), H(2, 8), FINISH_F32, 0, 0},        /* a weight gradient, split, the second part short */
    {300, 520, 200, 1, 1, 0, H(1, 8), H(1, 8), FINISH_F32, 0, 0},          /* more tiles than processors */
    {136, 264, 1000, 1, 3, 384, H(2, 8), H(2, 8), FINISH_F32, 0, 0},
    {264, 136, 72, 1, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 0, 0},
    {64, 72, 100, 1, 3, 128, H(2, 8), H(2, 8), FINISH_F32, 0, 0},          /* one part is empty */
    {70, 68, 100, 1, 1, 0, F(1, 4), F(1, 4), FINISH_F32, 0, 0},
    {130, 132, 64, 1, 1, 0, F(1, 4), F(2, 4), FINISH_F32, 0, 0},
    {68, 68, 70, 2, 1, 0, F(2, 4), F(2, 2), FINISH_F32, 0, 0},
    {65, 33, 50, 1, 1, 0, F(1, 2), F(1, 2), FINISH_F32, 0, 0},
    {33, 65, 17, 1, 1, 0, F(0, 1), F(1, 1), FINISH_F32, 0, 0},
    {65, 66, 33, 1, 1, 0, F(2, 1), F(0, 1), FINISH_F32, 0, 0},
    {40, 40, 64, 1, 1, 0, H(1, 4), F(2, 4), FINISH_F32, 0, 0},
    {66, 40, 34, 1, 1, 0, H(2, 2), H(1, 2), FINISH_F32, 0, 0},
    {66, 40, 33, 1, 1, 0, H(1, 1), H(0, 1), FINISH_F32, 0, 0},
    {150, 40, 64, 1, 1, 0, {true, 1, 8, 25}, H(1, 8), FINISH_F32, 0, 0},   /* rows of two axes */
    {144, 40, 64, 1, 1, 0, {true, 2, 8, 24}, {false, 1, 4, 10}, FINISH_F32, 0, 0},
    /* with the sum of a side: in every form of it, of several tiles both ways, of parts */
    {264, 264, 200, 1, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 1, 0},
    {264, 264, 200, 1, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 2, 0},
    {200, 280, 328, 1, 2, 256, H(2, 8), H(1, 8), FINISH_F32, 1, 0},
    {200, 280, 328, 1, 2, 256, H(2, 8), H(1, 8), FINISH_F32, 2, 0},
    {64, 72, 100, 1, 3, 128, H(2, 8), H(2, 8), FINISH_F32, 1, 0},
    {72, 136, 40, 2, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 2, 0},
    {65, 66, 33, 1, 1, 0, H(2, 1), H(0, 1), FINISH_F32, 1, 0},
    {150, 40, 64, 1, 1, 0, {true, 1, 8, 25}, H(1, 8), FINISH_F32, 1, 0},
    {130, 132, 70, 2, 1, 0, F(2, 2), F(2, 4), FINISH_F32, 1, 0},
    {130, 132, 64, 1, 2, 128, F(1, 4), F(2, 4), FINISH_F32, 2, 0},
    /* sums so long that tensor cores would lose low bits of each term */
    {24, 16, 16384, 1, 1, 0, H(2, 8), H(2, 8), FINISH_F32, 1, 0},
    {16, 24, 16384, 1, 1, 0, H(2, 8), H(2, 8), FINISH_F32, 2, 0},
    {12, 8, 16384, 1, 1, 0, F(1, 4), F(1, 4), FINISH_F32, 1, 0},
    /* in shares, of which three run at a time: fewer tiles than shares, and more; shares that have one part and several; empty parts */
    {136, 264, 1000, 1, 1, 0, H(2, 8), H(2, 8), FINISH_F32, 0, 5},
    {136, 520, 330, 1, 1, 0, H(2, 8), H(1, 8), FINISH_F32, 1, 7},
    {136, 520, 200, 1, 1, 0, H(1, 8), H(2, 8), FINISH_F32, 2, 4},
    {264, 136, 840, 1, 1, 0, H(2, 8), H(2, 8), FINISH_F32, 2, 2},
    {128, 256, 136, 1, 1, 0, H(2, 8), H(2, 8), FINISH_F32, 1, 8},
};

int main(void)
{
    for (int i = 0; i < n_gemm_templates; i++) {
        const GemmTemplate *t = &gemm_templates[i];
        for (size_t k = 0; k < sizeof problems / sizeof *problems; k++) {
            const GemmProblem *p = &problems[k];
            if (!gemm_fits(t, p))
                continue;
            const bool is_long = p->terms >= GEMM_LONG;
            GemmResult r = gemm_check(t, t->text, p, is_long ? 1 : 2, false);
            bool ok = r.compiled && r.launched && r.error < (is_long ? 1e-6 : 1e-5);
            dev_ok(ok, "%s: %d x %d x %d, batches %d, splits %d, shares %d, %c%d/%d %c%d/%d, sum %d: %.1e%s%.300s", t->name, p->rows, p->cols, p->terms,
                   p->batches, p->splits, p->shares, p->a.bf16 ? 'h' : 'f', p->a.unit, p->a.vec, p->b.bf16 ? 'h' : 'f', p->b.unit, p->b.vec, p->summed, r.error,
                   ok ? "" : ": ", ok ? "" : r.why);
        }
    }
    return dev_done();
}
