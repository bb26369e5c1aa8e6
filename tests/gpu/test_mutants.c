/* test_mutants.c -- every call that orders something is needed, and its absence is noticed: each is deleted in turn from
 * each template, and the emulator must object (or the results be wrong, or the kernel hang) on some problem and seed.
 *
 * A mutant that lives is either a hole in the checker or a call that can go. Of text that a template leaves out by
 * conditions, some problem of the list must take the branch. GPU_MUTANTS=all runs every seed and prints what was said. */
#include "attn.h"
#include "gemm.h"
#include "../../compiler/base.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const ordering[] = {
    "tc_syncthreads", "tc_syncwarp", "tc_bar_sync", "tc_cp_wait", "tc_cp_commit", "tc_mbar_wait", "tc_mbar_arrive", "tc_mbar_expect",
    "tc_mbar_fence_init", "tc_wgmma_wait", "tc_wgmma_commit", "tc_wgmma_fence", "tc_fence_proxy_async", "tc_bulk_wait_read",
    "tc_bulk_commit",
};

/* The next ordering call at or after `s`: its begin and, behind the semicolon, its end. */
static const char *next_call(const char *s, const char **end, const char **name)
{
    const char *best = NULL;
    for (size_t i = 0; i < LEN(ordering); i++) {
        size_t n = strlen(ordering[i]);
        const char *at = s;
        while ((at = strstr(at, ordering[i])) && (at[n] != '(' || isalnum((unsigned char)at[-1]) || at[-1] == '_'))
            at++;
        if (!at || (best && best < at))
            continue;
        best = at;
        *name = ordering[i];
        *end = strchr(at, ';') + 1;
    }
    return best;
}

typedef struct Subject {
    const char *name;
    int template[4];         /* of gemm_templates */
    GemmProblem problem[4];
    int n;                   /* 0: attention */
    bool backward;
    AttnProblem attention;
} Subject;

#define H(unit) {true, unit, 8, 0}
#define F(unit) {false, unit, 4, 0}
static const Subject subjects[] = {
    {.name = "gemm_mma", .template = {1, 1}, .n = 2,
     .problem = {{72, 72, 224, 1, 1, 0, H(1), H(2), FINISH_F32, 0, 0}, {72, 72, 160, 1, 1, 0, F(1), F(2), FINISH_F32, 0, 0}}},
    {.name = "gemm_f32", .template = {4, 4}, .n = 2,
     .problem = {{136, 72, 80, 1, 1, 0, F(1), F(2), FINISH_F32, 1, 0}, {72, 72, 80, 1, 1, 0, F(2), F(2), FINISH_F32, 2, 0}}},
    {.name = "gemm_wgmma", .template = {3, 2, 3, 2}, .n = 4,
     .problem = {{136, 520, 520, 1, 1, 0, H(1), H(1), FINISH_F32, 0, 0}, {264, 264, 392, 1, 1, 0, H(1), H(1), FINISH_F32, 0, 0},
                 {136, 264, 200, 1, 3, 128, H(1), H(1), FINISH_F32, 0, 0},        /* the last part of the sums is empty */
                 {136, 264, 200, 1, 1, 0, H(2), H(1), FINISH_F32, 1, 0}}},
    {.name = "attn_fwd", .attention = {1, 1, 88, 32, 0, false, false, 0, 0}},     /* more tiles than warps */
    {.name = "attn_bwd", .attention = {1, 1, 88, 32, 0, false, false, 0, 0}, .backward = true},
    {.name = "attn_tiled_fwd", .attention = {1, 1, 210, 128, 0, false, false, 0, 0}},    /* four tiles in two places */
    {.name = "attn_tiled_bwd", .attention = {1, 1, 210, 128, 0, false, false, 0, 0}, .backward = true},
    {.name = "attn_wgmma_fwd", .attention = {1, 1, 200, 32, 0, false, false, 0, 2}},
    {.name = "attn_wgmma_bwd", .attention = {1, 1, 136, 32, 0, false, false, 0, 2}, .backward = true},
};

static const char *text_of(const Subject *s)
{
    return s->n ? gemm_templates[s->template[0]].text : attn_text(s->backward, &s->attention);
}

/* One of its problems, with `text` as the template. */
static bool passes(const Subject *s, int i, const char *text, int seeds, char *what, size_t size)
{
    bool compiled, launched, right;
    const char *why;
    if (s->n) {
        GemmResult r = gemm_check(&gemm_templates[s->template[i]], text, &s->problem[i], seeds, false);
        compiled = r.compiled, launched = r.launched, right = r.error < 1e-5, why = r.why;
    } else {
        AttnResult r = attn_check(s->backward, text, &s->attention, seeds, false);
        compiled = r.compiled, launched = r.launched, right = r.error < r.allowed, why = r.why;
    }
    snprintf(what, size, "%s", !compiled ? "does not compile" : !launched ? why : "wrong values");
    return (compiled && launched && right) || !compiled;
}

static bool noticed(const Subject *s, const char *text, int seeds, char *what, size_t size)
{
    for (int i = 0; i < (s->n ? s->n : 1); i++)
        if (!passes(s, i, text, seeds, what, size))
            return true;
    return false;
}

int main(void)
{
    const char *mode = getenv("GPU_MUTANTS");
    bool all = mode && !strcmp(mode, "all");
    setenv("TIC_EMU_QUIET", "1", 1);
    for (size_t i = 0; i < LEN(subjects); i++) {
        const Subject *s = &subjects[i];
        const char *text = text_of(s), *end, *name;
        int mutants = 0, found = 0;
        char what[256], lives[256] = "";
        for (const char *at = text; (at = next_call(at, &end, &name)); at = end) {
            char *mutant = malloc(strlen(text) + 1);
            int line = 1;
            for (const char *p = text; p < at; p++)
                line += *p == '\n';
            sprintf(mutant, "%.*s;%s", (int)(at - text), text, end);
            bool caught = noticed(s, mutant, all ? 3 : 1, what, sizeof what) || noticed(s, mutant, 3, what, sizeof what);
            mutants++;
            found += caught;
            if (!caught)
                snprintf(lives + strlen(lives), sizeof lives - strlen(lives), " %s in line %d", name, line);
            if (all)
                printf("# %s:%d without %s: %s\n", s->name, line, name, caught ? what : "LIVES");
            free(mutant);
        }
        dev_ok(mutants > 1 && found == mutants, "%s: %d of %d mutants noticed%s%s", s->name, found, mutants, *lives ? "; alive:" : "",
               lives);
    }
    return dev_done();
}
