/* emu_kernel.h -- the emulator's half of the CUDA prelude: the same words as compiler/cuda/prelude/tc.cuh, for a C compiler.
 *
 * Included by kernel texts under -DTC_EMU. Kernels are compiled with -fsanitize=thread and linked without its runtime:
 * every load and store calls back into emu_memory.c, which knows what may be touched by whom. */
#ifndef EMU_KERNEL_H
#define EMU_KERNEL_H
#include <math.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef unsigned long long u64;
typedef int32_t i32;
typedef long long i64;
typedef u16 bf16;
typedef struct { u32 x, y, z, w; } __attribute__((aligned(16))) v4u;
typedef struct { float x, y, z, w; } __attribute__((aligned(16))) v4f;
typedef struct { u32 x, y; } __attribute__((aligned(8))) v2u;
typedef struct { float x, y; } __attribute__((aligned(8))) v2f;
typedef struct { u64 q[16]; } __attribute__((aligned(64))) tc_tmap;
typedef struct { u32 x, y, z; } emu_dim3;

/* const: the same all through a fiber's life, so the compiler may keep them */
emu_dim3 emu_tid(void) __attribute__((const));
emu_dim3 emu_bid(void) __attribute__((const));
emu_dim3 emu_bdim(void) __attribute__((const));
emu_dim3 emu_gdim(void) __attribute__((const));
#ifndef EMU_INSIDE
#define threadIdx emu_tid()
#define blockIdx emu_bid()
#define blockDim emu_bdim()
#define gridDim emu_gdim()
#endif

#ifdef EMU_MARKS                       /* for the tool that looks for kernels in the preprocessed text */
#define TC_KERNEL __emu_kernel__
#define TC_BOUNDS(threads, blocks) __emu_bounds__(threads, blocks)
#else
#define TC_KERNEL
#define TC_BOUNDS(threads, blocks)
#endif
#define TC_DEV static inline __attribute__((unused))
#define TC_SMEM(name) u8 *name = emu_smem()
#define TC_GRIDCONST
#define TC_TABLE static const
#define TC_RESTRICT
#define TC_UNROLL
#define TC_UNROLL_4
#define TC_NO_UNROLL

static inline u32 tc_bits(float x) { union { float f; u32 u; } v = {x}; return v.u; }
static inline float tc_float(u32 x) { union { u32 u; float f; } v = {x}; return v.f; }
static inline u32 emu_round_bf16(float x)
{
    u32 u = tc_bits(x);
    return (u & 0x7fffffffu) > 0x7f800000u ? 0x7fff : (u + 0x7fff + (u >> 16 & 1)) >> 16;
}
static inline void tc_store4(float *p, float x, float y, float z, float w)
{
    v4f v = {x, y, z, w};
    *(v4f *)p = v;
}
static inline u32 tc_pack(float lo, float hi) { return emu_round_bf16(lo) | emu_round_bf16(hi) << 16; }
static inline u32 tc_tf32(float x) /* to nearest, ties away from zero */
{
    u32 u = tc_bits(x);
    return (u & 0x7f800000u) == 0x7f800000u ? u : (u + 0x1000) & ~0x1fffu;
}
static inline float tc_ex2(float x) { return exp2f(x); }
static inline float tc_lg2(float x) { return log2f(x); }
static inline float tc_tanh(float x) { return tanhf(x); }
static inline float tc_rcp(float x) { return 1.f / x; }
static inline float tc_rsqrt(float x) { return 1.f / sqrtf(x); }
static inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
#define tc_threadfence() ((void)0)

u8 *emu_smem(void);
u32 tc_saddr(const void *p);
void tc_syncthreads(void);
void tc_syncwarp(void);
void tc_bar_sync(u32 id, u32 n);
float tc_shfl_xor(float v, u32 mask);
float tc_shfl(float v, u32 lane);
static inline u32 tc_shfl_xor_u(u32 v, u32 mask) { return tc_bits(tc_shfl_xor(tc_float(v), mask)); }
static inline u32 tc_shfl_u(u32 v, u32 lane) { return tc_bits(tc_shfl(tc_float(v), lane)); }
u32 tc_atomic_add(u32 *p, u32 v);

void emu_cp_async(u32 dst, const void *src, u32 n, u32 size);
static inline void tc_cp_async16(u32 dst, const void *src, u32 n) { emu_cp_async(dst, src, n, 16); }
static inline void tc_cp_async8(u32 dst, const void *src, u32 n) { emu_cp_async(dst, src, n, 8); }
static inline void tc_cp_async4(u32 dst, const void *src, u32 n) { emu_cp_async(dst, src, n, 4); }
void tc_cp_commit(void);
void tc_cp_wait(u32 n);
void tc_ldmatrix4(u32 *r, u32 a);
void tc_ldmatrix4t(u32 *r, u32 a);
void tc_stmatrix4(u32 a, const u32 *r);
void tc_stmatrix4t(u32 a, const u32 *r);
void tc_mma(float *c, const u32 *a, const u32 *b);
void tc_mma_tf32(float *c, const u32 *a, const u32 *b);

void tc_mbar_init(u32 a, u32 count);
void tc_mbar_fence_init(void);
void tc_mbar_expect(u32 a, u32 bytes);
void tc_mbar_arrive(u32 a);
void tc_mbar_wait(u32 a, u32 parity);
void tc_fence_proxy_async(void);
void emu_tma_load(u32 dst, const tc_tmap *m, u32 bar, u32 rank, i32 x, i32 y, i32 z);
void emu_tma_store(const tc_tmap *m, u32 src, u32 rank, i32 x, i32 y, i32 z);
static inline void tc_tma_load2d(u32 dst, const tc_tmap *m, u32 bar, i32 x, i32 y) { emu_tma_load(dst, m, bar, 2, x, y, 0); }
static inline void tc_tma_load3d(u32 dst, const tc_tmap *m, u32 bar, i32 x, i32 y, i32 z) { emu_tma_load(dst, m, bar, 3, x, y, z); }
static inline void tc_tma_store2d(const tc_tmap *m, u32 src, i32 x, i32 y) { emu_tma_store(m, src, 2, x, y, 0); }
static inline void tc_tma_store3d(const tc_tmap *m, u32 src, i32 x, i32 y, i32 z) { emu_tma_store(m, src, 3, x, y, z); }
#define tc_tma_prefetch(m) ((void)(m))
void tc_bulk_commit(void);
void tc_bulk_wait_read(u32 n);

void tc_wgmma_fence(void);
void tc_wgmma_commit(void);
void tc_wgmma_wait(u32 n);
void emu_setmaxnreg(u32 n, int more);
#define tc_setmaxnreg_inc(n) emu_setmaxnreg(n, 1)
#define tc_setmaxnreg_dec(n) emu_setmaxnreg(n, 0)
/* a: descriptor, or `ra`: four registers; forms: 'k', 'm', 'r' as in the prelude */
void emu_wgmma(u32 n, char form_a, char form_b, float *d, u64 a, const u32 *ra, u64 b, int add);
#define EMU_WGMMA_FORM(n, a, b, A, ra, rb) \
    static inline __attribute__((unused)) void tc_wgmma_##n##_##a##b(float *d, A, u64 y, int add) \
    { \
        emu_wgmma(n, #a[0], #b[0], d, ra, rb, y, add); \
    }
#define EMU_WGMMA(n) \
    EMU_WGMMA_FORM(n, k, k, u64 x, x, 0) EMU_WGMMA_FORM(n, k, m, u64 x, x, 0) EMU_WGMMA_FORM(n, m, k, u64 x, x, 0) \
    EMU_WGMMA_FORM(n, m, m, u64 x, x, 0) EMU_WGMMA_FORM(n, r, k, const u32 *x, 0, x) EMU_WGMMA_FORM(n, r, m, const u32 *x, 0, x)
EMU_WGMMA(8) EMU_WGMMA(16) EMU_WGMMA(24) EMU_WGMMA(32) EMU_WGMMA(40) EMU_WGMMA(48) EMU_WGMMA(56) EMU_WGMMA(64)
EMU_WGMMA(72) EMU_WGMMA(80) EMU_WGMMA(88) EMU_WGMMA(96) EMU_WGMMA(104) EMU_WGMMA(112) EMU_WGMMA(120) EMU_WGMMA(128)
EMU_WGMMA(136) EMU_WGMMA(144) EMU_WGMMA(152) EMU_WGMMA(160) EMU_WGMMA(168) EMU_WGMMA(176) EMU_WGMMA(184) EMU_WGMMA(192)
EMU_WGMMA(200) EMU_WGMMA(208) EMU_WGMMA(216) EMU_WGMMA(224) EMU_WGMMA(232) EMU_WGMMA(240) EMU_WGMMA(248) EMU_WGMMA(256)
#endif
