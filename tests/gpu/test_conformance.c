/* test_conformance.c -- every word of the prelude on random inputs: what a GPU gave, and what the emulator gives.
 *
 *   cc_gpu_conformance                          in the emulator, against the recorded results (conformance.bin)
 *   TIC_GPU=1 cc_gpu_conformance --record FILE  on a GPU: records them
 *
 * Layouts, conversions and moves must be equal to the bit; sums in tensor cores and approximate functions to a tolerance
 * relative to 1. Of each case at most 1024 words are kept, spread over all of them. */
#include "device.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { INPUT = 8192, KEPT = 1024, SHARED = 98304 };

typedef struct Case {
    const char *name;
    int words;               /* of output */
    double tolerance;        /* 0: exact */
    const char *body;
} Case;

/* in: u32, each two random bf16, so also a sane float. out: u32. t: thread of 128, w: warp, l: lane, s: shared bytes. */
#define FILL "for (u32 i = t; i < 8192; i += 128) ((u32 *)smem)[i] = in[i];\ntc_syncthreads();\n"
#define CLEAR "for (u32 i = t; i < 8192; i += 128) ((u32 *)smem)[i] = i;\ntc_syncthreads();\n"
#define DUMP(n) "tc_syncthreads();\nfor (u32 i = t; i < " #n "; i += 128) out[i] = ((u32 *)smem)[i];\n"
#define X "tc_float(in[t])"
#define BAR_INIT "const u32 bar = s + 90112;\nif (t == 0) { tc_mbar_init(bar, 1); tc_mbar_fence_init(); }\ntc_syncthreads();\n"
#define TMA(bytes, load) \
    CLEAR "tc_fence_proxy_async();\n" BAR_INIT "if (t == 0) { tc_mbar_expect(bar, " #bytes "); " load " }\ntc_mbar_wait(bar, 0);\n"
#define TMA_OUT(store) \
    FILL "tc_fence_proxy_async();\ntc_syncthreads();\nif (t == 0) { " store " tc_bulk_commit(); tc_bulk_wait_read(0); }\n"

static const Case cases[] = {
    {"tc_pack", 512, 0, "for (u32 i = 0; i < 4; i++) out[t + i * 128] = tc_pack(tc_float(in[t + i * 128]), tc_float(in[t * 7 + i]));"},
    {"tc_pack special", 128, 0,
     "u32 v[8] = {0x7f800000, 0xff800000, 0x7fc00000, 1, 0x80000001, 0x7f7fffff, 0x3f808000, 0x3f818000};\n"
     "u32 x = v[t & 7]; out[t] = tc_pack(tc_float(x), tc_float(v[t >> 3 & 7]));"},
    {"tc_tf32", 512, 0,
     "for (u32 i = 0; i < 4; i++) out[t + i * 128] = tc_tf32(tc_float(in[t + i * 128] * 2654435761u >> 2 | 0x20000000));"},
    {"tc_ex2", 128, 1e-6, "out[t] = tc_bits(tc_ex2(" X "));"},
    {"tc_lg2", 128, 1e-6, "out[t] = tc_bits(tc_lg2(fabsf(" X ") + 0.25f));"},
    {"tc_tanh", 128, 6e-4, "out[t] = tc_bits(tc_tanh(" X "));"},
    {"tc_rcp", 128, 1e-6, "out[t] = tc_bits(tc_rcp(fabsf(" X ") + 1.f));"},
    {"tc_rsqrt", 128, 1e-6, "out[t] = tc_bits(tc_rsqrt(fabsf(" X ") + 1.f));"},
    {"tc_shfl", 512, 0,
     "float x = " X "; out[t] = tc_bits(tc_shfl_xor(x, 5)); out[t + 128] = tc_bits(tc_shfl(x, (l * 7 + 3) & 31));\n"
     "out[t + 256] = tc_shfl_xor_u(in[t], 17); out[t + 384] = tc_shfl_u(in[t], l ^ 9);"},
    {"tc_warp_sum", 256, 0, "out[t] = tc_bits(tc_warp_sum(" X ")); out[t + 128] = tc_bits(tc_warp_max(" X "));"},
    {"tc_atomic_add", 1, 0, "if (t == 0) out[0] = 5;\ntc_syncthreads();\ntc_atomic_add(out, t);"},
    {"tc_bar_sync", 128, 0,
     "u32 *p = (u32 *)smem; p[t] = in[t];\nif (t < 64) { tc_bar_sync(1, 64); } else { tc_bar_sync(2, 64); }\nout[t] = p[t ^ 63];"},
    {"cp.async 16", 512, 0, CLEAR "tc_cp_async16(s + t * 16, in + t * 4, t % 17);\ntc_cp_commit();\ntc_cp_wait(0);\n" DUMP(512)},
    {"cp.async 8", 256, 0, CLEAR "tc_cp_async8(s + t * 8, in + t * 2, t % 9);\ntc_cp_commit();\ntc_cp_wait(0);\n" DUMP(256)},
    {"cp.async 4", 128, 0, CLEAR "tc_cp_async4(s + t * 4, in + t, t % 5);\ntc_cp_commit();\ntc_cp_wait(0);\n" DUMP(128)},
    {"ldmatrix", 512, 0,
     FILL "u32 r[4]; tc_ldmatrix4(r, s + (l * 37 + w * 11) % 256 * 16);\nfor (u32 i = 0; i < 4; i++) out[i * 128 + t] = r[i];"},
    {"ldmatrix.trans", 512, 0,
     FILL "u32 r[4]; tc_ldmatrix4t(r, s + (l * 37 + w * 11) % 256 * 16);\nfor (u32 i = 0; i < 4; i++) out[i * 128 + t] = r[i];"},
    {"stmatrix", 512, 0,
     CLEAR "u32 r[4] = {in[t], in[t + 128], in[t + 256], in[t + 384]}; tc_stmatrix4(s + w * 512 + l * 13 % 32 * 16, r);\n" DUMP(512)},
    {"stmatrix.trans", 512, 0,
     CLEAR "u32 r[4] = {in[t], in[t + 128], in[t + 256], in[t + 384]}; tc_stmatrix4t(s + w * 512 + l * 13 % 32 * 16, r);\n" DUMP(512)},
    {"mma bf16", 512, 2e-5,
     "float c[4]; for (u32 i = 0; i < 4; i++) c[i] = tc_float(in[t * 4 + i]);\ntc_mma(c, in + 1024 + t * 4, in + 2048 + t * 2);\n"
     "for (u32 i = 0; i < 4; i++) out[t * 4 + i] = tc_bits(c[i]);"},
    {"mma tf32", 512, 2e-5,
     "float c[4]; u32 a[4], b[2];\nfor (u32 i = 0; i < 4; i++) {\n"
     "    c[i] = tc_float(in[t * 4 + i]);\n    a[i] = tc_tf32(tc_float(in[1024 + t * 4 + i]));\n}\n"
     "b[0] = in[2048 + t]; b[1] = in[2560 + t];\ntc_mma_tf32(c, a, b);\nfor (u32 i = 0; i < 4; i++) out[t * 4 + i] = tc_bits(c[i]);"},
    {"TMA load 2d", 2048, 0, TMA(4096, "tc_tma_load2d(s + 1024, &map2, bar, 8, 5);") DUMP(2048)},
    {"TMA load 2d, last edges", 1024, 0, TMA(4096, "tc_tma_load2d(s, &map2, bar, 40, 20);") DUMP(1024)},
    {"TMA load 2d, first edges", 1024, 0, TMA(4096, "tc_tma_load2d(s, &map2, bar, -8, -7);") DUMP(1024)},
    {"TMA load 2d, two", 2048, 0,
     TMA(8192, "tc_tma_load2d(s, &map2, bar, 0, 0); tc_tma_load2d(s + 4096, &map2, bar, 8, 1);") DUMP(2048)},
    {"TMA load 3d", 2048, 0, TMA(4096, "tc_tma_load3d(s, &map3, bar, 16, 6, 1);") DUMP(2048)},
    {"TMA load 2d f32", 2048, 0, TMA(4096, "tc_tma_load2d(s, &mapf, bar, 8, 18);") DUMP(2048)},
    {"TMA store 2d", 2048, 0, TMA_OUT("tc_tma_store2d(&map_out, s, 8, 17);")},
};
enum { N_CASES = sizeof cases / sizeof *cases };

/* wgmma: operands by ordinary stores, where the prelude says the descriptors look for them; 64 terms */
static const struct { int n; const char *form; } products[] = {
    {8, "kk"}, {64, "kk"}, {64, "km"}, {64, "mk"}, {64, "mm"}, {64, "rk"}, {64, "rm"}, {80, "kk"}, {128, "kk"}, {128, "mm"}, {208, "kk"},
    {256, "kk"}, {256, "km"}, {256, "mk"}, {256, "mm"},
};
enum { N_PRODUCTS = sizeof products / sizeof *products };

static const char product_body[] =
    "const u32 sb = 8192;\n"
    "for (u32 i = t; i < 64 * 8; i += 128) {\n"
    "    const u32 line = i / 8, c = i %% 8; v4u *to = (v4u *)(smem + tc_swizzle(line, c));\n"
    "    *to = *(const v4u *)(in + i * 4);\n}\n"
    "for (u32 i = t; i < %d * 8; i += 128) {\n"        /* k: rows of 64 terms; m: blocks of 64 rows, a line a term */
    "    const u32 line = i / 8, c = i %% 8; v4u *to = (v4u *)(smem + sb + line / 64 * 8192 + tc_swizzle(line %% 64, c));\n"
    "    *to = *(const v4u *)(in + (i * 4 + 1000) %% 8192 / 4 * 4);\n}\n"
    "tc_fence_proxy_async();\ntc_syncthreads();\nfloat d[%d];\n"
    "for (u32 i = 0; i < %d; i++) d[i] = 0.25f;\ntc_wgmma_fence();\n"
    "TC_UNROLL\nfor (u32 kk = 0; kk < 4; kk++) {\n"
    "    const u64 ak = tc_desc_k(s + kk * 32), am = tc_desc_m(s + kk * 2048, 8192);\n"
    "    const u64 bk = tc_desc_k(s + sb + kk * 32), bm = tc_desc_m(s + sb + kk * 2048, 8192);\n"
    "    const u32 ar[4] = {in[t + kk * 128], in[t + 512 + kk * 128], in[t + 1024 + kk * 128], in[t + 1536 + kk * 128]};\n"
    "    (void)ak; (void)am; (void)bk; (void)bm; (void)ar;\n"
    "    tc_wgmma_%d_%s(d, a%c, b%c, kk > 0 || t > 128);\n}\n"
    "tc_wgmma_commit();\ntc_wgmma_wait(0);\nfor (u32 i = 0; i < %d; i++) out[i * 128 + t] = tc_bits(d[i]);\n";

static uint32_t input[INPUT];

static void want_products(void)
{
    for (int i = 0; i < N_PRODUCTS; i++)
        dev_wgmma(products[i].n, products[i].form);
}

/* runs one body; out: its words, where nothing was stored the pattern 0xabababab */
static void run(const char *body, int words, uint32_t *out)
{
    static char text[16384];
    snprintf(text, sizeof text,
             "#include \"tc.cuh\"\nTC_KERNEL void TC_BOUNDS(128, 1) k(const TC_GRIDCONST tc_tmap map2, const TC_GRIDCONST tc_tmap map3,\n"
             "    const TC_GRIDCONST tc_tmap mapf, const TC_GRIDCONST tc_tmap map_out, const u32 *in, u32 *out)\n{\n"
             "    TC_SMEM(smem);\n    const u32 s = tc_saddr(smem), t = threadIdx.x, l = t & 31, w = t >> 5;\n"
             "    (void)s; (void)l; (void)w;\n%s\n}\n",
             body);
    want_products();
    Kernel *k = dev_kernel(text, "k", "sm_90a", SHARED, NULL);
    void *in = dev_upload(input, sizeof input);
    void *o = dev_alloc((size_t)words * 4);
    dev_fill(o, 0xab, (size_t)words * 4);
    const uint64_t d2[] = {72, 40}, s2[] = {144}, d3[] = {72, 10, 4}, s3[] = {144, 1440}, df[] = {36, 40}, dout[] = {72, 28};
    const uint32_t b2[] = {64, 32}, b3[] = {64, 16, 2}, bf[] = {32, 32};
    TensorMap m2 = dev_map(in, true, 2, d2, s2, b2), m3 = dev_map(in, true, 3, d3, s3, b3), mf = dev_map(in, false, 2, df, s2, bf);
    TensorMap mo = dev_map(words * 4 >= 28 * 144 ? o : in, true, 2, dout, s2, b2);
    void *args[] = {&m2, &m3, &mf, &mo, &in, &o};
    if (!dev_launch(k, 1, 1, 128, args))
        printf("# %s\n", dev_defect());
    dev_download(out, o, (size_t)words * 4);
    dev_free_all();
    dev_forget(k);
}

/* word i of those kept, of `words` */
static int kept(int words)
{
    return words < KEPT ? words : KEPT;
}
static int position(int i, int words)
{
    return (int)((int64_t)i * (words < KEPT ? 1 : 2 * (words / KEPT) + 1) % words);
}

static float as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static FILE *recorded;
static uint32_t *results;                                /* of every case, KEPT words each; shared with the child processes */

static bool unrecorded(const uint32_t *word, int n)
{
    for (int i = 0; i < n; i++)
        if (word[i])
            return false;
    return true;
}

static void check(int number, const char *name, const char *body, int words, double tolerance)
{
    uint32_t *out = calloc((size_t)words, 4), want[KEPT];
    int n = kept(words), wrong = 0, first = 0;
    double worst = 0;
    run(body, words, out);
    for (int i = 0; i < n; i++)
        results[number * KEPT + i] = out[position(i, words)];
    if (recorded) {
        if (fseek(recorded, (long)number * KEPT * 4, SEEK_SET) || fread(want, 4, (size_t)n, recorded) != (size_t)n)
            wrong = n;
        for (int i = 0; i < n && wrong < n; i++) {
            uint32_t got = results[number * KEPT + i];
            double e = got == want[i] ? 0 : tolerance ? fabs((double)as_float(got) - as_float(want[i])) : INFINITY;
            worst = e <= worst ? worst : e;
            if (!(e <= tolerance) && wrong++ == 0)
                first = position(i, words);
        }
        if (unrecorded(want, n))
            dev_ok(true, "%s # SKIP not recorded on a GPU yet", name);
        else
            dev_ok(!wrong, "%s: %d words, %d differ (the first: %d), worst %.1e of %.0e", name, n, wrong, first, worst, tolerance);
    }
    free(out);
}

static void check_number(int i)
{
    static char body[8192], name[64];
    if (i < N_CASES) {
        check(i, cases[i].name, cases[i].body, cases[i].words, cases[i].tolerance);
        return;
    }
    int n = products[i - N_CASES].n, d = n / 2;
    const char *form = products[i - N_CASES].form;
    snprintf(body, sizeof body, product_body, n < 64 && form[1] == 'm' ? 64 : n, d, d, n, form, form[0], form[1], d);
    snprintf(name, sizeof name, "wgmma m64n%dk16 %s", n, form);
    check(i, name, body, 64 * n, 1e-4);
}

/* A case that the device does not survive ends its process; the next process goes on behind it. */
static int record(const char *path)
{
    volatile int *at = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int failed = 0;
    for (; *at < N_CASES + N_PRODUCTS; (*at)++) {
        pid_t child = fork();
        if (!child) {
            for (; *at < N_CASES + N_PRODUCTS; (*at)++)
                check_number(*at);
            _exit(0);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && !WEXITSTATUS(status))
            break;
        fprintf(stderr, "case %d failed: %s\n", *at, *at < N_CASES ? cases[*at].name : "wgmma");
        failed++;
    }
    FILE *f = fopen(path, "wb");
    size_t n = (size_t)(N_CASES + N_PRODUCTS) * KEPT;
    return !f || fwrite(results, 4, n, f) != n || fclose(f) || failed;
}

int main(int argc, char **argv)
{
    const char *root = getenv("TICC_ROOT");
    char path[512];
    snprintf(path, sizeof path, "%s/tests/gpu/conformance.bin", root ? root : ".");
    results = mmap(0, sizeof(uint32_t) * KEPT * (N_CASES + N_PRODUCTS), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    dev_random_seed(7);
    for (int i = 0; i < INPUT; i++)
        input[i] = (uint32_t)dev_bf16(dev_uniform(2)) | (uint32_t)dev_bf16(dev_uniform(2)) << 16;
    if (argc == 3 && !strcmp(argv[1], "--record"))
        return record(argv[2]);
    recorded = fopen(path, "rb");
    if (!recorded) {
        fprintf(stderr, "%s: not there\n", path);
        return 1;
    }
    for (int i = 0; i < N_CASES + N_PRODUCTS; i++)
        check_number(i);
    return dev_done();
}
