/* contract.h -- inside the CPU back end: the parts of a packed matrix product that all contractions share.
 *
 * A contraction's own code is small: where its operands are (pack_a, pack_b: functions that copy a block into panels),
 * and what happens to a finished tile (finish). The loops between them, the micro-kernel and the usual ways of packing
 * are functions of the part, built once and called through pointers; a call a tile costs nothing beside the tile.
 *
 * Panels. A slice of B is [term][NR columns], zeros or repeats past the last column. A tile of A is [term][MR rows],
 * repeats past the last row. A tile of the result is [MR][NR], f32. Operands of bf16 are widened on the way into their
 * panels; or, where the machine multiplies pairs of them faster (PAIRS), an element of a panel is a pair of terms, the
 * second of an odd last pair of B zero. */
#ifndef CPU_CONTRACT_H
#define CPU_CONTRACT_H
#include "cpu/lower.h"
#include "tic.h"

enum {
    NV = 3,                            /* vectors of a tile's row: NR = NV * lanes */
    KC = 768,                          /* terms (or pairs) of a block: a slice streams from the second-level cache */
    K_SPARE = 16,                      /* terms (or pairs) behind a panel's last: room for a whole last square of a transposing pack */
    K_ROOM = KC + K_SPARE,             /* those of the longest panel */
    MC = 144,                          /* rows of packed A at a time */
    NB_MOST = 4,                       /* slices of B side by side: 0.6 MB, of a second-level cache that others may share */
    MB_MOST = 1536,                    /* rows of a task */
    MAX_POINTER_ARGS = 9,
    MOST_BESIDE = 6,                   /* tensors beside a tile */
};

typedef enum { PLAIN, WIDEN, PAIRS, N_FORMS } Form;    /* f32 to f32, bf16 to f32, bf16 to pairs */

static inline int tile_rows(const Target *t) { return t->registers >= 32 ? 8 : 4; }
static inline int tile_columns(const Target *t) { return NV * t->lanes; }
/* scratch of a task, in f32 elements: slices of B, tiles of A, tiles of the result, sums of a side */
static inline int64_t scratch_a(const Target *t) { return (int64_t)NB_MOST * K_ROOM * tile_columns(t); }
static inline int64_t scratch_sums(const Target *t) { return scratch_a(t) + MC * K_ROOM + (int64_t)MB_MOST * NB_MOST * tile_columns(t); }

/* A function beside the one being built: saves the builder's state, begins, and returns to it at the end. */
typedef struct Aside { Gen saved; Block back; const char *name; } Aside;
void aside_begin(Low *l, Aside *a, const char *name, Ty result, Ty *param, int n);
V    aside_end(Low *l, Aside *a, V result);

/* Terms are cut into n equal blocks of `terms`, a multiple of 8; a panel has room for `room` terms (or pairs). */
typedef struct KBlocks { V n, terms, room; } KBlocks;
void block_of_terms(Gen *g, V terms, bool half, KBlocks *k);

/* void run(bufs, batch, outer, scratch, terms, m_from, m_to, s_from, s_to, a, a_row, pack_b, finish, beside, n_beside): one task.
 * beside: n_beside times three numbers, what finish reads or writes of row 0 and slice 0, fetched ahead of it, and bytes from row
 * to row and from slice to slice. A in place
 * (rows a_row elements apart, terms side by side) at a, or in panels of what the function a gives. These return where the
 * panels are: at `panel`, where they have packed them, or elsewhere, where they lie ready:
 *   ptr a(bufs, batch, outer, panel, m0, m1, k0, len, room)               tiles room * MR elements apart; k0 is even
 *   ptr pack_b(bufs, batch, outer, panel, n0, k0, len, slices, room)    slices room * NR elements apart
 *   void finish(bufs, batch, outer, tile, m0, rows, n0)                   after the last term */
V part_product(Low *l, bool packed, bool half);
/* Ways of packing. left: columns (rows) from the first on, at least 1.
 *   straight(p, term_stride, left, len, panel, slices, room)    columns side by side; slices room * NR elements apart
 *   transposed(p, column_stride, left, len, panel)   terms side by side
 *   rows(p, term_stride, left, len, panel, room)     A whose rows lie side by side; all tiles of `left` rows, room * MR apart
 *   terms(p, row_stride, left, len, panel, room)     A of bf16 whose terms lie side by side, widened; the same */
V part_pack_straight(Low *l, Form form);
V part_pack_transposed(Low *l, Form form);
V part_pack_rows(Low *l, Form form);
V part_pack_terms(Low *l);
/* Sums of a side over the terms (sums.c). Those of a block of terms stand in the last place of each tile of A or slice of B, where
 * nothing else does. Scratch has room behind a task's tiles for those of all terms: MB_MOST numbers, and as many for what was lost
 * in rounding; row i has place i mod MB_MOST.
 *   block_sums(panel, len, tiles, room)           after packing
 *   sum(panel, tiles, room, sums, at, k0)         adds those of a block to the sums of the rows from `at` on
 * side_sum_of: number `at`, in all lanes, when all terms are there. */
V part_block_sums(Low *l, bool of_a, bool half);
V part_side_sum(Low *l, bool of_a);
V side_sum_of(Gen *g, V sums, V at);
/* i64 blocks(rows, slices, batches): rows << 32 | slices of a task: the largest of a few sizes that gives enough tasks,
 * then made even. Shapes and batch alone decide, never the number of threads. */
V part_blocks(Low *l);
V call(Gen *g, V fn, V *arg, int n);
V call_pointer(Gen *g, Ty result, V fn, V *arg, int n);          /* of any signature, that of the arguments */
#endif
