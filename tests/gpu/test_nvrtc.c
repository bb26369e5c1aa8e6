/* test_nvrtc.c -- the true NVRTC, where it is installed: every template compiles for its architectures, without spills (but one) or
 * warnings of the assembler, within its budget of registers. */
#include "attn.h"
#include "gemm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define H(unit) {true, unit, 8, 0}
#define F(unit) {false, unit, 4, 0}
static const GemmProblem problems[] = {
    {1970, 3072, 768, 1, 1, 0, H(1), H(1), FINISH_F32, 0, 0},
    {1970, 768, 3072, 1, 1, 0, H(1), H(2), FINISH_F32, 0, 0},
    {768, 3072, 20000, 1, 4, 5120, H(2), H(2), FINISH_F32, 0, 0},
    {1970, 768, 768, 1, 1, 0, F(1), F(1), FINISH_F32, 0, 0},
    {768, 768, 2000, 1, 2, 1024, F(2), F(2), FINISH_F32, 0, 0},
    {768, 3072, 20000, 1, 4, 5120, H(2), H(2), FINISH_F32, 1, 0},
    {768, 3072, 20000, 1, 4, 5120, H(2), H(2), FINISH_F32, 2, 0},
    {768, 768, 1970, 1, 1, 0, H(1), H(2), FINISH_F32, 1, 0},
    {768, 768, 1970, 1, 1, 0, H(2), H(1), FINISH_F32, 2, 0},
    {768, 768, 19700, 1, 1, 0, H(2), H(2), FINISH_F32, 0, 132},
    {768, 768, 19700, 1, 1, 0, H(2), H(2), FINISH_F32, 2, 132},
    {768, 768, 2000, 1, 2, 1024, F(2), F(2), FINISH_F32, 1, 0},
    {768, 768, 2000, 1, 2, 1024, F(2), F(2), FINISH_F32, 2, 0},
};

static const AttnProblem attention[] = {
    {1, 12, 197, 64, 0, false, false, 0, 0}, {1, 8, 77, 64, 0, true, false, 0, 0}, {1, 16, 257, 64, 0, false, false, 0, 0}, {1, 8, 77, 80, 0, true, false, 0, 0},
    {1, 16, 577, 64, 0, false, false, 0, 0}, {1, 8, 333, 128, 0, true, false, 0, 0},
};

/* by wgmma: registers that let three, four and two warpgroups be on a multiprocessor, and backward four and two; with four, two
 * addresses are spilled once a tile */
static const struct { AttnProblem p; int registers, spilled; bool backward; } by_wgmma[] = {
    {{1, 12, 197, 64, 0, false, false, 0, 1}, 168, 0, false}, {{1, 8, 77, 64, 0, true, false, 0, 1}, 128, 0, false},
    {{1, 16, 256, 64, 0, false, true, 0, 2}, 255, 0, false}, {{1, 8, 250, 128, 0, true, false, 0, 2}, 255, 0, false},
    {{1, 12, 197, 64, 0, false, false, 0, 4}, 128, 16, true}, {{1, 12, 197, 64, 0, false, false, 0, 2}, 255, 0, true},
    {{1, 8, 77, 64, 0, true, false, 0, 1}, 255, 0, true},
};

static int number_before(const char *log, const char *word)
{
    const char *s = strstr(log, word);
    if (!s)
        return -1;
    while (s > log && (s[-1] == ' ' || (s[-1] >= '0' && s[-1] <= '9')))
        s--;
    return atoi(s);
}

/* spilled: bytes that may be, where a block more on a multiprocessor was measured to be worth it */
static void check(const char *what, const char *text, const char *arch, int registers, int spilled)
{
    bool compiled;
    const char *log;
    if (!dev_report(text, arch, &compiled, &log)) {
        printf("ok 1 - # SKIP no libnvrtc here\n1..1\n");
        exit(0);
    }
    int used = number_before(log, " registers"), spills = number_before(log, " bytes spill stores");
    const char *warning = strstr(log, "C75");
    bool ok = compiled && used <= registers && spills <= spilled && !warning;
    dev_ok(ok, "%s %s: %d registers, %d bytes spilled%s%.300s", what, arch, used, spills < 0 ? 0 : spills, ok ? "" : ": ",
           ok ? "" : warning ? warning : log);
}

int main(void)
{
    for (int i = 0; i < n_gemm_templates; i++)
        for (size_t k = 0; k < sizeof problems / sizeof *problems; k++) {
            const GemmTemplate *t = &gemm_templates[i];
            const GemmProblem *p = &problems[k];
            char what[128];
            if (!gemm_fits(t, p))
                continue;
            snprintf(what, sizeof what, "%s %c%d %c%d, sum %d, shares %d", t->name, p->a.bf16 ? 'h' : 'f', p->a.unit, p->b.bf16 ? 'h' : 'f',
                     p->b.unit, p->summed, p->shares);
            check(what, gemm_source(t, p), t->arch, t->maps ? 168 : !t->exact && (p->a.bf16 || t->tile_m < 128) ? 128 : 255, 0);
        }
    static const char *const archs[] = {"sm_80", "sm_90a"};
    for (int i = 0; i < 4 * (int)(sizeof attention / sizeof *attention); i++) {
        const AttnProblem *p = &attention[i / 4];
        char what[128];
        snprintf(what, sizeof what, "attn_%s %d tokens of %d", i & 1 ? "bwd" : "fwd", p->tokens, p->width);
        check(what, attn_source(i & 1, p), archs[i >> 1 & 1], 255, 0);
    }
    for (size_t i = 0; i < sizeof by_wgmma / sizeof *by_wgmma; i++) {
        const AttnProblem *p = &by_wgmma[i].p;
        char what[128];
        snprintf(what, sizeof what, "attn_wgmma_%s %d tokens of %d, %d", by_wgmma[i].backward ? "bwd" : "fwd", p->tokens, p->width, p->groups);
        check(what, attn_source(by_wgmma[i].backward, p), "sm_90a", by_wgmma[i].registers, by_wgmma[i].spilled);
    }
    return dev_done();
}
