/* test_emulator.c -- the emulator finds what it must, and nothing in kernels that are right.
 *
 * Each case is a small kernel with one planted defect, and the words its report must have; the same kernel with FIXED
 * defined must pass, with the right values where the case says so. */
#include "device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 128, BUFFER = 4096 };

typedef struct Case { const char *name, *report, *body; } Case;
static const Case cases[] = {
    {"a missing barrier", "RACE",
     "s[t] = 0; tc_syncthreads(); s[t] = x[t];\n"
     "#ifdef FIXED\n tc_syncthreads();\n#endif\n"
     "y[t] = s[t ^ 32];"},
    {"a missing warp barrier", "RACE",
     "s[t] = 0; tc_syncthreads(); s[t] = x[t];\n"
     "#ifdef FIXED\n tc_syncwarp();\n#endif\n"
     "y[t] = s[t ^ 1];"},
    {"shuffles order no memory", "RACE",
     "s[t] = x[t]; y[t] = tc_shfl_xor(x[t], 1);\n"
     "#ifdef FIXED\n tc_syncwarp();\n#endif\n"
     "y[t] += s[t ^ 1];"},
    {"a write after a read", "RACE",
     "s[t] = x[t]; tc_syncthreads(); float v = s[t ^ 64];\n"
     "#ifdef FIXED\n tc_syncthreads();\n#endif\n"
     "s[t] = v + 1; y[t] = v;"},
    {"uninitialised shared memory", "uninitialised shared",
     "#ifdef FIXED\n s[t + 1] = 0;\n#endif\n"
     "y[t] = s[t + 1];"},
    {"uninitialised global memory", "uninitialised byte",
     "#ifdef FIXED\n y[t] = 0;\n#endif\n"
     "y[t] = y[t] + 1;"},
    {"shared memory out of bounds", "out of bounds",
     "#ifdef FIXED\n s[t] = x[t];\n#else\n s[t * 64] = x[t];\n#endif\n"
     "y[t] = x[t];"},
    {"global memory out of bounds", "OUT OF BOUNDS",
     "#ifdef FIXED\n y[t] = x[t];\n#else\n y[t] = x[t + 1000];\n#endif"},
    {"a wild address", "wild address",
     "#ifdef FIXED\n y[t] = x[t];\n#else\n y[t] = *(const float *)(u64)(4096 + 4 * t);\n#endif"},
    {"a misaligned vector", "not a multiple",
     "#ifdef FIXED\n y[t] = *(const u64 *)(x + 2 * t) != 0;\n#else\n y[t] = *(const u64 *)(x + t) != 0;\n#endif"},
    {"two blocks on one byte", "two blocks",
     "#ifdef FIXED\n y[blockIdx.x * 128 + t] = x[t];\n#else\n y[t] = x[t];\n#endif"},
    {"a divergent barrier", "DEADLOCK",
     "#ifdef FIXED\n tc_syncthreads();\n#else\n if (t < 64) tc_syncthreads();\n#endif\n"
     "y[t] = x[t];"},
    {"a divergent warp", "DIVERGENT",
     "#ifdef FIXED\n y[t] = tc_shfl_xor(x[t], 1);\n#else\n if (t & 1) y[t] = tc_shfl_xor(x[t], 1); else tc_syncwarp();\n#endif"},
    {"cp.async read before its wait", "RACE",
     "tc_cp_async16(tc_saddr(s + 4 * t), x + 4 * t, 16); tc_cp_commit();\n"
     "#ifdef FIXED\n tc_cp_wait(0);\n#endif\n"
     "tc_syncthreads(); y[t] = s[4 * t];"},
    {"cp.async waited for, but not by all", "RACE",
     "for (u32 i = 0; i < 4; i++) s[4 * t + i] = 0;\n tc_syncthreads();\n"
     "tc_cp_async16(tc_saddr(s + 4 * t), x + 4 * t, 16); tc_cp_commit(); tc_cp_wait(0);\n"
     "#ifdef FIXED\n tc_syncthreads();\n#endif\n"
     "y[t] = s[4 * (t ^ 64)];"},
    {"too many arrivals", "more arrivals",
     "if (t == 0) { tc_mbar_init(tc_saddr(s), 1); tc_mbar_fence_init(); } tc_syncthreads();\n"
     "#ifdef FIXED\n if (t == 0) tc_mbar_arrive(tc_saddr(s));\n#else\n if (t < 2) tc_mbar_expect(tc_saddr(s), 16);\n#endif\n"
     " tc_syncthreads(); y[t] = x[t];"},
    {"an mbarrier nobody completes", "DEADLOCK",
     "if (t == 0) { tc_mbar_init(tc_saddr(s), 2); tc_mbar_fence_init(); } tc_syncthreads();\n"
     "#ifdef FIXED\n if (t < 2)\n#else\n if (t < 1)\n#endif\n"
     " tc_mbar_arrive(tc_saddr(s)); tc_mbar_wait(tc_saddr(s), 0); y[t] = x[t];"},
    {"a write inside a block read without order", "not ordered after",
     "y[t] = 0; tc_syncthreads(); y[t] = x[t];\n"
     "#ifdef FIXED\n tc_syncthreads();\n#endif\n"
     "s[t] = y[t ^ 33];"},
    {"wgmma on unfenced stores", "fence.proxy.async",
     "bf16 *h = (bf16 *)smem; for (u32 i = t; i < 128 * 64; i += 128) h[i] = 0;\n"
     "#ifdef FIXED\n tc_fence_proxy_async();\n#endif\n"
     "tc_syncthreads(); float d[32]; u32 a = tc_saddr(smem);\n"
     "tc_wgmma_fence(); tc_wgmma_64_kk(d, tc_desc_k(a), tc_desc_k(a + 8192), 0); tc_wgmma_commit(); tc_wgmma_wait(0); y[t] = d[0];"},
    {"wgmma on copies that no fence follows", "fence.proxy.async",
     "for (u32 i = t; i < 128 * 8; i += 128) tc_cp_async16(tc_saddr(smem) + i * 16, x, 16);\n tc_cp_commit();\n"
     "#ifdef FIXED\n tc_cp_wait(0); tc_fence_proxy_async();\n#else\n tc_fence_proxy_async(); tc_cp_wait(0);\n#endif\n"
     "tc_syncthreads(); float d[32]; u32 a = tc_saddr(smem);\n"
     "tc_wgmma_fence(); tc_wgmma_64_kk(d, tc_desc_k(a), tc_desc_k(a + 8192), 0); tc_wgmma_commit(); tc_wgmma_wait(0); y[t] = d[0];"},
    {"wgmma without its fence", "wgmma.fence",
     "bf16 *h = (bf16 *)smem; for (u32 i = t; i < 128 * 64; i += 128) h[i] = 0;\n"
     "tc_fence_proxy_async(); tc_syncthreads(); float d[32]; u32 a = tc_saddr(smem);\n"
     "#ifdef FIXED\n tc_wgmma_fence();\n#endif\n"
     "tc_wgmma_64_kk(d, tc_desc_k(a), tc_desc_k(a + 8192), 0); tc_wgmma_commit(); tc_wgmma_wait(0); y[t] = d[0];"},
    {"shared memory reused while wgmma reads", "RACE",
     "bf16 *h = (bf16 *)smem; for (u32 i = t; i < 128 * 64; i += 128) h[i] = 0;\n"
     "tc_fence_proxy_async(); tc_syncthreads(); float d[32]; u32 a = tc_saddr(smem);\n"
     "tc_wgmma_fence(); tc_wgmma_64_kk(d, tc_desc_k(a), tc_desc_k(a + 8192), 0); tc_wgmma_commit();\n"
     "#ifdef FIXED\n tc_wgmma_wait(0); tc_syncthreads();\n#endif\n"
     "h[t] = 1; tc_wgmma_wait(0); y[t] = d[0];"},
    {"registers that three warpgroups do not have", "512 registers for a thread of each warpgroup together, and the block has 504",
     "if (t < 128) {\n"
     "#ifdef FIXED\n tc_setmaxnreg_dec(56);\n#else\n tc_setmaxnreg_dec(64);\n#endif\n"
     " y[t] = x[t]; } else { tc_setmaxnreg_inc(224); }"},
};

static bool run(const Case *c, bool fixed, uint32_t seed)
{
    char text[4096];
    int blocks = strstr(c->name, "two blocks") ? 2 : 1, threads = strstr(c->name, "three warpgroups") ? 3 * THREADS : THREADS;
    snprintf(text, sizeof text,
             "%s#include \"tc.cuh\"\nTC_KERNEL void TC_BOUNDS(%d, 1) k(const float *TC_RESTRICT x, float *TC_RESTRICT y)\n{\n"
             "TC_SMEM(smem); float *s = (float *)smem; u32 t = threadIdx.x; (void)s;\n%s\n}\n",
             fixed ? "#define FIXED\n" : "", threads, c->body);
    static Kernel *kernel;
    static char last[4096];
    if (strcmp(last, text)) {
        dev_forget(kernel);
        kernel = dev_kernel(text, "k", "sm_90a", 128 * 64 * 2 + 8, NULL);
        strcpy(last, text);
    }
    float data[BUFFER / 4] = {0};
    void *x = dev_upload(data, 4 * THREADS * sizeof *data), *y = dev_alloc(2 * THREADS * sizeof *data), *args[] = {&x, &y};
    dev_seed(seed, false);
    bool ok = dev_launch(kernel, (uint32_t)blocks, 1, (uint32_t)threads, args);
    dev_free_all();
    return ok;
}

int main(void)
{
    setenv("TIC_EMU_QUIET", "1", 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *c = &cases[i];
        int found = 0, alarms = 0;
        const char *said = "";
        for (uint32_t seed = 1; seed <= 4; seed++)
            if (!run(c, false, seed)) {
                found += strstr(dev_defect(), c->report) != NULL;
                said = dev_defect();
            }
        for (uint32_t seed = 1; seed <= 4; seed++)
            alarms += !run(c, true, seed);
        dev_ok(found == 4 && !alarms, "%s: found %d of 4, false alarms %d%s%s", c->name, found, alarms, found == 4 && !alarms ? "" : ": ",
               alarms ? dev_defect() : found == 4 ? "" : said);
    }
    return dev_done();
}
