/* peak.c -- see peak.h. Twenty-four (AVX-512) or twelve (AVX2) independent accumulators hide the latency of the fused
 * multiply-add; nothing touches memory. */
#include "device/peak.h"
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 50000, TASKS_PER_THREAD = 32 };      /* short ones: threads that others slow down end at about the same time */

#if defined(__x86_64__)
static void spin_512(void)
{
    long n = ROUNDS;
#define Z(i) "vfmadd231ps %%zmm30, %%zmm31, %%zmm" #i "\n\t"
    __asm__ volatile("vpxorq %%zmm30, %%zmm30, %%zmm30\n\tvpxorq %%zmm31, %%zmm31, %%zmm31\n\t"
                     "1:\n\t" Z(0) Z(1) Z(2) Z(3) Z(4) Z(5) Z(6) Z(7) Z(8) Z(9) Z(10) Z(11) Z(12) Z(13) Z(14) Z(15)
                     Z(16) Z(17) Z(18) Z(19) Z(20) Z(21) Z(22) Z(23) "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(n) : : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
#undef Z
}

static void spin_256(void)
{
    long n = 2 * ROUNDS;
#define Y(i) "vfmadd231ps %%ymm12, %%ymm13, %%ymm" #i "\n\t"
    __asm__ volatile("vpxor %%ymm12, %%ymm12, %%ymm12\n\tvpxor %%ymm13, %%ymm13, %%ymm13\n\t"
                     "1:\n\t" Y(0) Y(1) Y(2) Y(3) Y(4) Y(5) Y(6) Y(7) Y(8) Y(9) Y(10) Y(11) "dec %0\n\tjnz 1b\n\tvzeroupper"
                     : "+r"(n) : : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13");
#undef Y
}
#endif

static void spin_task(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
#if defined(__x86_64__)
    if (batch == 512)
        spin_512();
    else
        spin_256();
#endif
}

double tic_peak_round(TicPool *pool)
{
    int64_t width = 0;
    double flops = 0;
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f")) {
        width = 512;
        flops = 24.0 * 16 * 2 * ROUNDS;
    } else if (__builtin_cpu_supports("fma")) {
        width = 256;
        flops = 12.0 * 8 * 2 * 2 * ROUNDS;
    }
#endif
    int64_t tasks = (int64_t)tic_pool_threads(pool) * TASKS_PER_THREAD;
    if (width)
        tic_pool_run(pool, spin_task, NULL, width, tasks);
    return flops * (double)tasks;
}

double tic_peak_f32(TicPool *pool)
{
    double best = 0;
    for (int round = 0; round < 3; round++) {
        double t = tic_now(), flops = tic_peak_round(pool), rate = flops / (tic_now() - t);
        best = rate > best ? rate : best;
    }
    return best;
}

enum { COPY_BYTES = 1 << 20, COPY_TASKS = 64 };

static void copy_task(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
    memcpy((char *)buf[0] + task * COPY_BYTES, (const char *)buf[1] + task * COPY_BYTES, COPY_BYTES);
}

double tic_peak_bytes(TicPool *pool)
{
    size_t size = (size_t)COPY_BYTES * COPY_TASKS;
    void *buf[2] = { malloc(size), malloc(size) };
    double best = 0;
    if (buf[0] && buf[1]) {
        memset(buf[1], 1, size);
        tic_pool_run(pool, copy_task, buf, 0, COPY_TASKS);       /* pages come into being */
        for (int round = 0; round < 3; round++) {
            double t = tic_now();
            tic_pool_run(pool, copy_task, buf, 0, COPY_TASKS);
            double rate = 2.0 * (double)size / (tic_now() - t);
            best = rate > best ? rate : best;
        }
    }
    free(buf[0]);
    free(buf[1]);
    return best;
}
