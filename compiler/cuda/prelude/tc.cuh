/* tc.cuh -- what every generated CUDA kernel is written in. No header of CUDA is needed.
 *
 * A kernel is C with these words: no templates, no overloads, no references, so that two compilers take the same text:
 * NVRTC with this file's inline PTX, and a C compiler with -DTC_EMU, where tests/gpu/emu_kernel.h declares the same
 * words and an emulator carries them out on a CPU. All that is particular to the hardware goes by a tc_ name.
 *
 *   TC_KERNEL void TC_BOUNDS(256, 2) name(const float *TC_RESTRICT x, float *TC_RESTRICT y, i64 n)
 *   { TC_SMEM(smem); ... }                    the kernel's name must be unique; arguments are plain values and pointers
 *
 * Shared memory is one dynamic array of bytes, aligned to 1024; its addresses for tc_ words are 32-bit, from tc_saddr.
 * A "box" is a tile of 64 x rows bf16 that a tensor map with 128-byte swizzle moves: 16-byte chunk c of row r lies at
 * r * 128 + ((c ^ (r & 7)) << 4), and boxes start at multiples of 1024. */
#ifdef TC_EMU
#include "emu_kernel.h"
#else
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;
typedef u16 bf16;
typedef struct __align__(16) { u32 x, y, z, w; } v4u;
typedef struct __align__(16) { float x, y, z, w; } v4f;
typedef struct __align__(8) { u32 x, y; } v2u;
typedef struct __align__(8) { float x, y; } v2f;
typedef struct __align__(64) { u64 q[16]; } tc_tmap;          /* a CUtensorMap, passed by value */

#define TC_KERNEL extern "C" __global__
#define TC_BOUNDS(threads, blocks) __launch_bounds__(threads, blocks)
#define TC_DEV static __device__ __forceinline__
#define TC_SMEM(name) extern __shared__ __align__(1024) u8 name[]
#define TC_GRIDCONST __grid_constant__
#define TC_TABLE static __constant__ const
#define TC_RESTRICT __restrict__
#define TC_UNROLL _Pragma("unroll")
#define TC_UNROLL_4 _Pragma("unroll 4")
#define TC_NO_UNROLL _Pragma("unroll 1")

/* ---- numbers */
TC_DEV u32 tc_bits(float x) { return __float_as_uint(x); }
TC_DEV float tc_float(u32 x) { return __uint_as_float(x); }
TC_DEV u32 tc_pack(float lo, float hi) /* two bf16, rounded to nearest even; NaN stays NaN */
{
    u32 r;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(hi), "f"(lo));
    return r;
}
TC_DEV u32 tc_tf32(float x) /* bits of x rounded to tf32 */
{
    u32 r;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(x));
    return r;
}
TC_DEV float tc_ex2(float x) /* 2^x to about 2^-22; subnormals are 0, as in the next four */
{
    float r;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
TC_DEV float tc_lg2(float x)
{
    float r;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
TC_DEV float tc_tanh(float x) /* to about 2^-11 */
{
    float r;
    asm("tanh.approx.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
TC_DEV float tc_rcp(float x)
{
    float r;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}
TC_DEV float tc_rsqrt(float x)
{
    float r;
    asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(x));
    return r;
}

/* 16 aligned bytes at once: a copied struct is stored piece by piece when the compiler has looked into it */
TC_DEV void tc_store4(float *p, float x, float y, float z, float w)
{
    asm volatile("st.global.v4.f32 [%0], {%1,%2,%3,%4};" ::"l"(__cvta_generic_to_global(p)), "f"(x), "f"(y), "f"(z), "f"(w) : "memory");
}

/* ---- threads. tc_bar_sync: barrier `id` (1 .. 15, a literal) of `n` threads, whole warps; it orders their memory. */
#define tc_syncthreads() __syncthreads()
#define tc_syncwarp() __syncwarp()
#define tc_bar_sync(id, n) asm volatile("bar.sync %0, %1;" ::"n"(id), "n"(n) : "memory")
#define tc_shfl_xor(v, mask) __shfl_xor_sync(0xffffffffu, (float)(v), mask)
#define tc_shfl(v, lane) __shfl_sync(0xffffffffu, (float)(v), lane)
#define tc_shfl_xor_u(v, mask) __shfl_xor_sync(0xffffffffu, (u32)(v), mask)
#define tc_shfl_u(v, lane) __shfl_sync(0xffffffffu, (u32)(v), lane)
#define tc_atomic_add(p, v) atomicAdd((u32 *)(p), (u32)(v)) /* of u32, for counters; returns the old value */
#define tc_threadfence() __threadfence()

/* ---- shared memory. cp.async: 16, 8 or 4 bytes; `n` bytes are read, the rest is zeros. */
TC_DEV u32 tc_saddr(const void *p) { return (u32)__cvta_generic_to_shared(p); }
TC_DEV void tc_cp_async16(u32 dst, const void *src, u32 n)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(dst), "l"(src), "r"(n) : "memory");
}
TC_DEV void tc_cp_async8(u32 dst, const void *src, u32 n)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(dst), "l"(src), "r"(n) : "memory");
}
TC_DEV void tc_cp_async4(u32 dst, const void *src, u32 n)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(dst), "l"(src), "r"(n) : "memory");
}
#define tc_cp_commit() asm volatile("cp.async.commit_group;" ::: "memory")
#define tc_cp_wait(n) asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory") /* at most n groups still on the way */

/* Four 8 x 8 matrices of bf16; lane l gives the address of row l % 8 of matrix l / 8. Element (i, j) of matrix m is in
 * r[m] of lane 4 i + j / 2, low half for even j; ..t: of the transposed matrix. */
TC_DEV void tc_ldmatrix4(u32 *r, u32 a)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}
TC_DEV void tc_ldmatrix4t(u32 *r, u32 a)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(a)
                 : "memory");
}

/* ---- tensor cores of a warp: c += a b. c: rows l / 4 (c[0], c[1]) and l / 4 + 8, columns 2 (l % 4) + {0, 1}.
 * tc_mma: 16 x 8 x 16 bf16; tc_mma_tf32: 16 x 8 x 8 tf32. */
TC_DEV void tc_mma(float *c, const u32 *a, const u32 *b)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
TC_DEV void tc_mma_tf32(float *c, const u32 *a, const u32 *b)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* ---- from sm_90: mbarriers, the copy engine (TMA), stmatrix */
#if __CUDA_ARCH__ >= 900
TC_DEV void tc_mbar_init(u32 a, u32 count) { asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(a), "r"(count) : "memory"); }
TC_DEV void tc_mbar_fence_init(void) { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
TC_DEV void tc_mbar_expect(u32 a, u32 bytes) /* arrive, and let the phase wait for `bytes` more from the copy engine */
{
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(a), "r"(bytes) : "memory");
}
TC_DEV void tc_mbar_arrive(u32 a) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(a) : "memory"); }
TC_DEV void tc_mbar_wait(u32 a, u32 parity) /* until the phase of that parity is complete */
{
    asm volatile("{\n.reg .pred P;\nL_%=:\nmbarrier.try_wait.parity.shared::cta.b64 P, [%0], %1;\n@!P bra L_%=;\n}" ::"r"(a), "r"(parity)
                 : "memory");
}
/* ordinary writes of this thread become visible to the copy engine and to wgmma */
TC_DEV void tc_fence_proxy_async(void) { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }
TC_DEV void tc_tma_prefetch(const tc_tmap *m) { asm volatile("prefetch.tensormap [%0];" ::"l"(m) : "memory"); }
TC_DEV void tc_tma_load2d(u32 dst, const tc_tmap *m, u32 bar, i32 x, i32 y)
{
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3,%4}], [%2];" ::"r"(dst),
                 "l"(m), "r"(bar), "r"(x), "r"(y)
                 : "memory");
}
TC_DEV void tc_tma_load3d(u32 dst, const tc_tmap *m, u32 bar, i32 x, i32 y, i32 z)
{
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%3,%4,%5}], [%2];" ::"r"(dst),
                 "l"(m), "r"(bar), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
TC_DEV void tc_tma_store2d(const tc_tmap *m, u32 src, i32 x, i32 y)
{
    asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2,%3}], [%1];" ::"l"(m), "r"(src), "r"(x), "r"(y)
                 : "memory");
}
TC_DEV void tc_tma_store3d(const tc_tmap *m, u32 src, i32 x, i32 y, i32 z)
{
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2,%3,%4}], [%1];" ::"l"(m), "r"(src), "r"(x), "r"(y), "r"(z)
                 : "memory");
}
TC_DEV void tc_bulk_commit(void) { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/* until at most n groups of this thread's stores still read shared memory */
#define tc_bulk_wait_read(n) asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(n) : "memory")
TC_DEV void tc_stmatrix4(u32 a, const u32 *r)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(a), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
TC_DEV void tc_stmatrix4t(u32 a, const u32 *r)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(a), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
                 : "memory");
}
#endif

/* ---- sm_90a alone: warpgroup matrix products. tc_wgmma_N_AB(d, a, b, add), printed after this file for each N in use:
 * d (64 x N, N / 2 registers a thread; warp w has rows 16 w .., laid out as for tc_mma by blocks of 8 columns) = a b, or
 * d += a b. A: k = K-major descriptor, m = MN-major descriptor, r = four registers as for tc_mma; B: k or m. */
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
TC_DEV void tc_wgmma_fence(void) { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
TC_DEV void tc_wgmma_commit(void) { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
#define tc_wgmma_wait(n) asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory")
#define tc_setmaxnreg_inc(n) asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n))
#define tc_setmaxnreg_dec(n) asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n))
#endif
#endif

TC_DEV float tc_lo(u32 x) { return tc_float(x << 16); }
TC_DEV float tc_hi(u32 x) { return tc_float(x & 0xffff0000u); }
TC_DEV float tc_f(bf16 x) { return tc_float((u32)x << 16); }
TC_DEV bf16 tc_bf(float x) { return (bf16)tc_pack(x, 0.f); }
TC_DEV float tc_exp(float x) { return tc_ex2(x * 1.44269504f); } /* to 2^-22 near 0, to 2^-17 at -80 */
/* The error function to 3e-7 (Abramowitz and Stegun 7.1.26); shares exp(-x^2) with its derivative. */
TC_DEV float tc_erf(float x)
{
    const float t = tc_rcp(1.f + 0.3275911f * fabsf(x)), e = tc_exp(-(x * x));
    const float p = ((((1.061405429f * t - 1.453152027f) * t + 1.421413741f) * t - 0.284496736f) * t + 0.254829592f) * t;
    return tc_float((tc_bits(1.f - p * e) & 0x7fffffffu) | (tc_bits(x) & 0x80000000u));
}

/* Descriptors of shared memory for wgmma, 128-byte swizzle. K-major: rows of 64 terms, groups of 8 rows 1024 apart.
 * MN-major: blocks of 64 rows `lbo` bytes apart, in a block one line of 128 bytes for each term. */
TC_DEV u64 tc_desc_k(u32 addr)
{
    return (u64)((addr & 0x3ffffu) >> 4) | (u64)1 << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
TC_DEV u64 tc_desc_m(u32 addr, u32 lbo)
{
    return (u64)((addr & 0x3ffffu) >> 4) | (u64)(lbo >> 4) << 16 | (u64)(1024 >> 4) << 32 | (u64)1 << 62;
}
/* offset of 16-byte chunk `chunk` of row `row` in a box */
TC_DEV u32 tc_swizzle(u32 row, u32 chunk) { return row * 128 + ((chunk ^ (row & 7)) << 4); }
TC_DEV float tc_warp_sum(float v)
{
    v += tc_shfl_xor(v, 16);
    v += tc_shfl_xor(v, 8);
    v += tc_shfl_xor(v, 4);
    v += tc_shfl_xor(v, 2);
    return v + tc_shfl_xor(v, 1);
}
TC_DEV float tc_warp_max(float v)
{
    v = fmaxf(v, tc_shfl_xor(v, 16));
    v = fmaxf(v, tc_shfl_xor(v, 8));
    v = fmaxf(v, tc_shfl_xor(v, 4));
    v = fmaxf(v, tc_shfl_xor(v, 2));
    return fmaxf(v, tc_shfl_xor(v, 1));
}
