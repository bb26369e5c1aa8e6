/* emit.h -- inside the CUDA back end: how kernels become text, and what a contraction template may rely on.
 *
 * A kernel file is the prelude (prelude/tc.cuh: types, tc_* calls; one half for NVRTC, one for the emulator), then text in
 * the C subset both read (no templates, overloads or references), then one TC_KERNEL per launch. Everything is
 * specialised on static shapes; the batch B is the last kernel argument, an i32. Contractions of sm_90a alone have a text of
 * their own, to which extents and strides are given as e0, e1, .. behind B: kernels that differ in these alone are compiled once.
 *
 * CONTRACTION TEMPLATES. A template is a fixed piece of such text, compiler/cuda/templates/NAME.cu, with a row in
 * templates.def. The emitter prints a prologue in front of it, so a template is the same for every kernel and can be
 * tested with a prologue written by hand. It computes
 *
 *     x[z, m, n] = sum over k of A[z, m, k] * Bm[z, n, k]      z < BATCHES, m < ROWS, n < COLS, k < TERMS
 *
 * and hands each x to finish*(). The prologue defines:
 *
 *   KERNEL                       name of the kernel
 *   TC_ARGS                      its parameters, as a parameter list: `float *p0, const float *p1, ..., i32 B`
 *   TC_PASS                      the same as an argument list: `p0, p1, ..., B`
 *   ROWS COLS TERMS BATCHES      i32 expressions that may mention B; TERMS may be huge (weight gradients)
 *   SPLITS SPLIT_TERMS           block (.., split) sums terms [split * SPLIT_TERMS, (split + 1) * SPLIT_TERMS)
 *                                cut at TERMS; SPLIT_TERMS is a multiple of 128. With one split it covers all terms.
 *                                A split may be empty: its x are 0 and are handed over all the same.
 *   SHARES                       (gemm_wgmma only) 0; or the number of equal shares that the terms of all tiles are dealt out in, in which
 *                                case `split` is the number of a part of a tile and shares.cu, which stands in front, says what each is.
 *                                SPLITS is 1 then, and finish*() write to the workspace. Nobody waits for another block.
 *   ROWS_BY COLS_BY              constants: the greatest powers of two up to 256 that divide them whatever B is. What edges need is left out
 *                                where a tile is never cut, and finish1 where four columns never are.
 *   A_T B_T                      element types: float or bf16 (A_BF16, B_BF16: 0 or 1). Templates for tensor cores convert floats as they load.
 *   A_FLOAT(x) B_FLOAT(x)        an element as a float
 *   A_UNIT B_UNIT                0: no unit-stride direction; 1: neighbouring terms lie side by side (K-major);
 *                                2: neighbouring rows (columns, of B) do (MN-major)
 *   A_VEC B_VEC                  1, 2, 4, 8: elements i .. i + VEC - 1 along that direction, i a multiple of VEC, are one
 *                                aligned access (the extent along it is a multiple of VEC too, so runs are never cut);
 *                                1 when UNIT is 0
 *   const A_T *a_base(TC_ARGS, i32 z)     pointer to A[z, 0, 0]
 *   i64 a_row(i32 m, i32 B)               element offset of row m; of several axes, so not always m * stride
 *   i64 a_term(i32 k, i32 B)              element offset of term k: A[z, m, k] is a_base(..)[a_row(m, B) + a_term(k, B)]
 *   b_base(), b_row(), b_term()           the same for Bm, where `row` is the column n of x
 *   A_ROW_STRIDE A_TERM_STRIDE            the stride as a constant when a_row(m) is m * constant (0: it is not), B_.. too;
 *                                for tensor maps and strength reduction by hand
 *   void finish1(TC_ARGS, i32 split, i32 z, i32 m, i32 n, float x)
 *   void finish4(.., float x0, .., float x3)     n a multiple of 4, all in range
 *                                scale, epilogue and stores of one (four) elements; or, with SPLITS > 1, into the
 *                                workspace, which a second kernel joins in order. Every element exactly once.
 *   SUMMED                       0; or 1 (A), 2 (Bm): the sum of that side over the terms is wanted too, of bf16 if products are
 *   void finish_sum(TC_ARGS, i32 split, i32 z, i32 r, float x)
 *                                (SUMMED alone) of row r of A, or column r of x: once for each split, in range
 *   FetchedColumns, FetchedPoint      (Hopper's templates only) what finish4 loads, by itself, so that it can be fetched early;
 *                                POINT_LOADS: how many loads a FetchedPoint holds
 *   void fetch_columns(TC_ARGS, i32 n, FetchedColumns *)           what depends on the columns n .. n + 3 alone
 *   void fetch_point(TC_ARGS, i32 z, i32 m, i32 n, FetchedPoint *)  what depends on the row too; columns all in range
 *   void finish_with(.., i32 n, const FetchedColumns *, const FetchedPoint *, float x0, .., float x3)   finish4 with both
 *
 * Launch: blockDim.x = threads of the row in templates.def, gridDim.x = BATCHES * tiles of rows * tiles of columns, with
 *   tile = blockIdx.x;  z = tile / (row_tiles * column_tiles), the rest in whatever order suits the L2 cache
 *   split = blockIdx.y
 * A persistent template says so in its row; it is launched with min(tiles or shares, multiprocessors) blocks and loops itself.
 * Columns are the side along which results are stored without gaps. */
#ifndef CUDA_EMIT_H
#define CUDA_EMIT_H
#include "cuda/cuda.h"
#include "pass/kernel.h"

typedef struct GemmTemplate {
    const char *name;        /* file and kernel name part */
    const char *text;
    int tile_m, tile_n, tile_k, threads;
    int shared;              /* bytes of dynamic shared memory */
    int arch;                /* least compute capability, 80 or 90; 90 means sm_90a's own instructions */
    bool tensor;             /* bf16 products (f32 sums); false: f32 throughout */
    bool persistent;
    int regs;                /* registers a thread may use before occupancy suffers: for the budget check */
} GemmTemplate;
extern const GemmTemplate cuda_gemm[];   /* from templates.def; ends with a NULL name */
#endif
