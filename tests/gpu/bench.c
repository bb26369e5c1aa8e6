/* bench.c -- templates on the shapes of ViT-B/16: contractions at batch 1024, ms and TFLOP/s of each; attention at batch 256,
 * GB/s too. `make gpu-bench` runs it beside bench.py, the same by PyTorch.
 *
 *   gpu_bench              every template
 *   gpu_bench wgmma FILE   contractions for Hopper alone, with FILE's text in place of the template's
 *   gpu_bench attn         attention alone
 *   gpu_bench tune         attention with other numbers of warps and of blocks on a multiprocessor, and by wgmma */
#include "attn.h"
#include "gemm.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VISION = 201728, TEXT = 78848 };
static const struct { const char *name; int tokens, n, k; } layers[] = {
    {"v qkv", VISION, 2304, 768}, {"v proj", VISION, 768, 768}, {"v fc1", VISION, 3072, 768}, {"v fc2", VISION, 768, 3072},
    {"t qkv", TEXT, 1536, 512}, {"t proj", TEXT, 512, 512}, {"t fc1", TEXT, 2048, 512}, {"t fc2", TEXT, 512, 2048},
};

static GemmProblem problem(int layer, int kind, GemmFinish finish, bool bf16)
{
    const GemmSide k_major = {bf16, 1, bf16 ? 8 : 4, 0}, mn_major = {bf16, 2, bf16 ? 8 : 4, 0};
    int t = layers[layer].tokens, n = layers[layer].n, k = layers[layer].k;
    GemmProblem p = {.batches = 1, .splits = 1, .finish = finish};
    if (kind == 0) {
        p.rows = t, p.cols = n, p.terms = k, p.a = k_major, p.b = k_major;
    } else if (kind == 1) {
        p.rows = t, p.cols = k, p.terms = n, p.a = k_major, p.b = mn_major;
    } else {
        p.rows = n, p.cols = k, p.terms = t, p.a = mn_major, p.b = mn_major;
        p.finish = FINISH_F32;
        p.shares = kind == 3 ? dev_processors() : 0;
    }
    return p;
}

/* parts of a long sum: as many as fill the device a few times over */
static void split(GemmProblem *p, const GemmTemplate *t)
{
    int tiles = (p->rows + t->tile_m - 1) / t->tile_m * ((p->cols + t->tile_n - 1) / t->tile_n);
    if (p->terms < 16384 || p->shares)
        return;
    int best = 1, slots = dev_processors() * (t->persistent ? 1 : 2);
    double waste = 1e9;
    for (int s = 1; s <= 32; s++) {
        double w = (double)((tiles * s + slots - 1) / slots * slots) / (tiles * s) + 0.004 * s;
        if (w < waste)
            waste = w, best = s;
    }
    p->splits = best;
    p->split_terms = (p->terms / best + 127) / 128 * 128;
    p->splits = (p->terms + p->split_terms - 1) / p->split_terms;
}

static bool only_wgmma;
static char *text;

static char *read_text(const char *path)
{
    enum { MOST = 1 << 16 };
    FILE *f = fopen(path, "r");
    char *s = calloc(1, MOST);
    if (!f || !fread(s, 1, MOST - 1, f)) {
        fprintf(stderr, "%s: cannot be read\n", path);
        exit(1);
    }
    fclose(f);
    return s;
}

static void line(int layer, int kind, GemmFinish end, bool bf16)
{
    static const char *const kinds[] = {"forward", "dgrad", "wgrad", "in shares"}, *const ends[] = {"f32", "bf16", "bias+gelu"};
    GemmProblem p = problem(layer, kind, end, bf16);
    printf("  %-8s %-9s %-9s", layers[layer].name, kinds[kind], ends[p.finish]);
    for (int i = 0; i < n_gemm_templates; i++) {
        const GemmTemplate *t = &gemm_templates[i];
        GemmProblem q = p;
        GemmTemplate other = *t;
        other.text = text && t->maps ? text : t->text;
        if (t->tile_m < 128 || (only_wgmma && !t->maps))
            continue;
        if (!gemm_fits(t, &q)) {
            printf(" %18s", "-");
            continue;
        }
        split(&q, t);
        double ms = gemm_time(&other, &q, 9), flops = 2.0 * q.rows * q.cols * q.terms;
        printf(" %10.3f ms %4.0f", ms, flops / ms / 1e9);
        fflush(stdout);
    }
    printf("%s\n", bf16 ? "" : "   operands f32");
}

static const AttnProblem towers[] = {{256, 12, 197, 64, 0, false, false, 0, 0}, {256, 8, 77, 64, 0, true, false, 0, 0}};

/* What a product of tiles above the diagonal costs is not counted. */
static void attention(int tower, bool backward, const AttnPlan *plan)
{
    const AttnProblem *p = &towers[tower];
    double ms = attn_time(backward, p, plan, 9), heads = (double)p->batch * p->heads;
    double flops = heads * p->tokens * p->tokens * p->width * (backward ? 10 : 4) * (p->causal ? 0.5 : 1);
    double bytes = heads * p->tokens * p->width * 2 * (backward ? 7 : 4);
    printf("  %s %-9s %10.3f ms %4.0f TFLOP/s %5.0f GB/s   %d warps, %d blocks%s\n", tower ? "t attn  " : "v attn  ",
           backward ? "backward" : "forward", ms, flops / ms / 1e9, bytes / ms / 1e6, plan->warps, plan->blocks, plan->wgmma ? ", wgmma" : "");
    fflush(stdout);
}

/* By the rules; tune: as every candidate has it, the rules' first. */
static void all_attention(bool tune)
{
    enum { MOST = 64 };
    AttnPlan plan[MOST];
    for (int i = 0; i < 4; i++) {
        int n = attn_candidates(i & 1, &towers[i / 2], plan, tune ? MOST : 1);
        for (int k = 0; k < n; k++)
            attention(i / 2, i & 1, &plan[k]);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1 && (!strcmp(argv[1], "attn") || !strcmp(argv[1], "tune"))) {
        printf("# %s, %d multiprocessors\n", dev_name(), dev_processors());
        all_attention(!strcmp(argv[1], "tune"));
        return 0;
    }
    only_wgmma = argc > 1 && !strcmp(argv[1], "wgmma");
    text = argc > 2 ? read_text(argv[2]) : NULL;
    printf("# %s, %d multiprocessors\n# %-8s %-9s %-9s", dev_name(), dev_processors(), "layer", "product", "result");
    for (int i = 0; i < n_gemm_templates; i++)
        if (gemm_templates[i].tile_m >= 128 && (!only_wgmma || gemm_templates[i].maps))
            printf(" %18s", gemm_templates[i].name);
    printf("   (ms, TFLOP/s)\n");
    for (int layer = 0; layer < (int)(sizeof layers / sizeof *layers); layer++)
        for (int kind = 0; kind < 4; kind++)
            for (int end = FINISH_BF16; end <= (kind == 0 && layers[layer].n == 4 * layers[layer].k ? FINISH_GELU : FINISH_BF16); end++)
                line(layer, kind, (GemmFinish)end, true);
    if (only_wgmma)
        return 0;
    for (int kind = 0; kind < 3; kind++)
        line(2, kind, FINISH_F32, false);
    all_attention(false);
    return 0;
}
