/* attn.h -- score templates: attn_fwd and attn_bwd, and attn_tiled_fwd and attn_tiled_bwd where one block has no room for all
 * rows or columns, each behind attn (what they share); for sm_90a alone attn_wgmma_fwd and attn_wgmma_bwd, where the table says
 * so (tuned.h). x[z, m, n] = sum over t of q[z, m, t] * k[z, n, t] is never in memory. Rows m are queries and columns n are keys
 * where it is attention. bf16 operands, f32 sums.
 *
 *   forward    s = score(x);  lse[m] = logsumexp over n of s;  p = exp(s - lse[m]);  z[m, f] = sum over n of p * v[n, f]
 *   backward   y[m, n] = sum over f of g[m, f] * v[n, f];  p, ds = weights(x, y, values of row m)
 *              dv[n, f] = sum over m of p * g[m, f];  dk[n, t] = sum over m of ds * q[m, t];  dq[m, t] = sum over n of ds * k[n, t]
 *
 * p and ds are rounded to bf16 as factors. The prologue defines KERNEL, TC_ARGS, TC_PASS and
 *
 *   ROWS COLS TERMS FEATURES     constants: how many m, n, t, f; the last two multiples of 8
 *   ROW_VALUES                   (backward) how many values a row has
 *   REACH                        >= 0: where n > m + REACH, score is -inf and weights are 0, so these need not be made;
 *                                COLS - 1: there are no such n
 *   WARPS AT_BLOCKS              threads / 32 of a block; blocks that shall fit on a multiprocessor: attn_plan
 *   AT_TILE                      rows or columns of the other side that a tiled template has at a time; 0: not tiled
 *   AW_STEP                      (wgmma, backward) rows at a time: 64, or 32 where there are more than two warpgroups
 *   AW_FEW                       (wgmma, forward) columns that the first 64 rows see, more or less
 *   AW_SCORES AW_FEW_SCORES AW_VALUES      words of wgmma (forward): scores of 64 rows with all columns, with AW_FEW; p with v
 *   AW_SCORES AW_FEATURES AW_TERMS AW_ROW_TERMS     (backward) 64 columns with AW_STEP rows; p with g, ds with q, ds with k
 *   const bf16 *q_base(TC_ARGS, i32 z)        and k_, v_, (backward) g_base: rows of neighbouring elements, 16-byte aligned,
 *   Q_STRIDE K_STRIDE V_STRIDE G_STRIDE       so many elements apart, a multiple of 8
 *   float score(TC_ARGS, i32 z, i32 m, i32 n, float x)
 *   void statistic(TC_ARGS, i32 z, i32 m, float lse)                      stores it, if it is stored; once a row
 *   void row_values(TC_ARGS, i32 z, i32 m, i32 part, i32 parts, float *r)     r[0 .. ROW_VALUES - 1]; `parts` neighbouring lanes
 *                                (2, 4 or 8; all of a warp come) have row m together, this one is number `part`; all get it
 *   void weights(TC_ARGS, i32 z, i32 m, i32 n, float x, float y, const float *r, float *p, float *ds)
 *   void finish_z(TC_ARGS, i32 z, i32 m, i32 f, float x0, .., float x3)   f a multiple of 4; every element exactly once
 *   void finish_q(..), finish_k(..), finish_v(..)                         (backward) of dq, dk, dv: z, row, column, four values
 *
 * m and n are always in range. Launch: WARPS * 32 threads, attn_blocks for each z. */
#ifndef CUDA_ATTN_H
#define CUDA_ATTN_H
#include "../base.h"     /* compiler/base.h: Text */
#include <stdbool.h>

typedef struct AttnShape { int rows, cols, terms, features, values, reach; } AttnShape;
typedef struct AttnPlan { int warps, blocks, shared, tile; bool wgmma; } AttnPlan;     /* shared: bytes of dynamic shared memory */
/* How a score template is launched: with all of the other side resident where that has room in registers and in the 99 KB of
 * shared memory that every GPU from sm_80 on has, else tiled. false: terms and features are too many for either. */
bool attn_plan(bool backward, const AttnShape *s, AttnPlan *out);
/* Another plan, with these warps and blocks; false: a block would need too much shared memory. */
bool attn_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out);
/* A plan of sm_90a's template by wgmma, with these warps (whole warpgroups) and blocks; false: it has none for this shape. */
bool attn_wgmma_plan_of(bool backward, const AttnShape *s, int warps, int blocks, AttnPlan *out);
/* Plans worth measuring, attn_plan's first, on sm_90a those by wgmma too; returns how many, at most `cap`. */
int  attn_plans(bool backward, bool hopper, const AttnShape *s, AttnPlan *out, int cap);
int  attn_blocks(bool backward, const AttnShape *s, const AttnPlan *p);    /* of the grid, for each z */
/* the #defines of numbers and what all templates share: after it come the functions, then attn_print_template. hopper: the
 * plan where TC_HOPPER is 1; NULL: the same. */
void attn_print(Text *out, bool backward, const AttnShape *s, const AttnPlan *p, const AttnPlan *hopper);
void attn_print_template(Text *out, bool backward, const AttnPlan *p, const AttnPlan *hopper);
#endif
