/* gemm_mma -- products on tensor cores with mma.sync: bf16 operands, f32 sums, from sm_80 on. A block of 8 warps (2 x 4) has
 * a tile of TILE_M x TILE_N, 32 terms at a time. See emit.h for the names that come from the prologue.
 *
 * Operands that are bf16 and come in 16-byte pieces go to shared memory by cp.async, through a ring of four stages; others
 * go through registers, where floats become bf16, two stages, the next one on its way during the products.
 *
 * A stage keeps an operand as it lies in memory. With terms side by side: 64-byte rows, one for each row of the tile; with
 * rows side by side: one line of the tile's rows for each term, which ldmatrix transposes. 16-byte chunks are permuted in
 * groups of eight rows, so that eight addresses of an ldmatrix never meet in a bank.
 *
 * The sum of a side over the terms is its product with ones, which need no memory; the warps that have the same part of the side
 * share it. After a thousand terms it is added to a sum in f32 proper, which tensor cores do not round to. */
#ifndef TILE_M
#define TILE_M 128
#define TILE_N 128
#endif
#define GM_K 32
#define GM_ASYNC (A_BF16 && A_VEC == 8 && B_BF16 && B_VEC == 8)
#define GM_STAGES (GM_ASYNC ? 4 : 2)
#define GM_A_BYTES (TILE_M * GM_K * 2)
#define GM_STAGE ((TILE_M + TILE_N) * GM_K * 2)
#define GM_WM (TILE_M / 2)                      /* a warp's part */
#define GM_WN (TILE_N / 4)
#define GM_MI (GM_WM / 16)
#define GM_NJ (GM_WN / 8)
#define GM_A_EACH (TILE_M * GM_K / 256)         /* elements of a stage that a thread brings */
#define GM_B_EACH (TILE_N * GM_K / 256)

/* where 16-byte chunk `chunk` of line `line` of an operand lies: lines of rows (unit 1 and 0), lines of terms (unit 2) */
TC_DEV u32 gm_place(int unit, int tile, u32 line, u32 chunk)
{
    return unit == 2 ? line * (tile * 2) + ((chunk ^ (line & 7)) << 4) : line * 64 + ((chunk ^ (line >> 1 & 3)) << 4);
}

/* Piece e of `tid`: the row of the tile and the term of the stage at which it begins. */
TC_DEV i32 gm_row(int unit, int tile, int vec, i32 piece)
{
    return unit == 2 ? piece % (tile / vec) * vec : piece / (GM_K / vec);
}
TC_DEV i32 gm_term(int unit, int tile, int vec, i32 piece)
{
    return unit == 2 ? piece / (tile / vec) : piece % (GM_K / vec) * vec;
}

/* the place of a piece in its operand's part of a stage */
TC_DEV u32 gm_piece(int unit, int tile, int vec, i32 piece)
{
    const i32 m = gm_row(unit, tile, vec, piece), k = gm_term(unit, tile, vec, piece);
    const i32 line = unit == 2 ? k : m, at = unit == 2 ? m : k;
    return gm_place(unit, tile, (u32)line, (u32)at >> 3) + (u32)(at & 7) * 2;
}

TC_DEV void gm_read(float *x, const void *p, int is_bf16, int vec)
{
    if (is_bf16 && vec == 8) {
        const v4u v = *(const v4u *)p;
        x[0] = tc_lo(v.x), x[1] = tc_hi(v.x), x[2] = tc_lo(v.y), x[3] = tc_hi(v.y);
        x[4] = tc_lo(v.z), x[5] = tc_hi(v.z), x[6] = tc_lo(v.w), x[7] = tc_hi(v.w);
    } else if (is_bf16 && vec == 4) {
        const v2u v = *(const v2u *)p;
        x[0] = tc_lo(v.x), x[1] = tc_hi(v.x), x[2] = tc_lo(v.y), x[3] = tc_hi(v.y);
    } else if (is_bf16 && vec == 2) {
        const u32 v = *(const u32 *)p;
        x[0] = tc_lo(v), x[1] = tc_hi(v);
    } else if (is_bf16) {
        x[0] = tc_f(*(const bf16 *)p);
    } else if (vec >= 4) {
        const v4f v = *(const v4f *)p;
        x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
        if (vec == 8) {
            const v4f w = ((const v4f *)p)[1];
            x[4] = w.x, x[5] = w.y, x[6] = w.z, x[7] = w.w;
        }
    } else if (vec == 2) {
        const v2f v = *(const v2f *)p;
        x[0] = v.x, x[1] = v.y;
    } else {
        x[0] = *(const float *)p;
    }
}

/* `each` numbers of a thread, as bf16 to their places */
TC_DEV void gm_put(u8 *part, const float *x, int each, int unit, int tile, int vec)
{
    TC_UNROLL
    for (i32 e = 0; e < each / vec; e++) {
        u8 *p = part + gm_piece(unit, tile, vec, (i32)threadIdx.x + e * 256);
        const float *v = x + e * vec;
        if (vec == 8) {
            const v4u w = {tc_pack(v[0], v[1]), tc_pack(v[2], v[3]), tc_pack(v[4], v[5]), tc_pack(v[6], v[7])};
            *(v4u *)p = w;
        } else if (vec == 4) {
            const v2u w = {tc_pack(v[0], v[1]), tc_pack(v[2], v[3])};
            *(v2u *)p = w;
        } else if (vec == 2) {
            *(u32 *)p = tc_pack(v[0], v[1]);
        } else {
            *(bf16 *)p = tc_bf(v[0]);
        }
    }
}

/* Both sides do the same with names of their own: row, term, count of rows. SIDE, side: A, a or B, b. */
#define GM_FETCH(SIDE, side, TILE, LIMIT, first, out) \
    TC_UNROLL \
    for (i32 e = 0; e < TILE * GM_K / 256 / SIDE##_VEC; e++) { \
        const i32 piece = (i32)threadIdx.x + e * 256, r = first + gm_row(SIDE##_UNIT, TILE, SIDE##_VEC, piece); \
        const i32 k = k0 + gm_term(SIDE##_UNIT, TILE, SIDE##_VEC, piece); \
        TC_UNROLL \
        for (int i = 0; i < SIDE##_VEC; i++) \
            out[e * SIDE##_VEC + i] = 0.f; \
        if (r < LIMIT && k < to) \
            gm_read(out + e * SIDE##_VEC, side + side##_row(r, B) + side##_term(k, B), SIDE##_BF16, SIDE##_VEC); \
    }
#define GM_COPY(SIDE, side, TILE, LIMIT, first, part) \
    TC_UNROLL \
    for (i32 e = 0; e < TILE * GM_K / 256 / 8; e++) { \
        const i32 piece = (i32)threadIdx.x + e * 256, r = first + gm_row(SIDE##_UNIT, TILE, 8, piece); \
        const i32 k = k0 + gm_term(SIDE##_UNIT, TILE, 8, piece); \
        const i32 in = r < LIMIT && k < to; \
        const SIDE##_T *from_ = in ? side + side##_row(r, B) + side##_term(k, B) : side; \
        tc_cp_async16(part + gm_piece(SIDE##_UNIT, TILE, 8, piece), from_, in ? 16 : 0); \
    }

#if SUMMED == 1
#define GM_SUMS 1                               /* 16 rows; columns are equal */
#define GM_SUM_STEP 2
#else
#define GM_SUMS (GM_NJ / 2)                     /* 8 columns each; rows are equal */
#define GM_SUM_STEP 1
#endif
#define GM_SUM_FLUSH 32                         /* stages */

TC_DEV void gm_add(float to[GM_SUMS][2], float from[GM_SUMS][4])
{
    TC_UNROLL
    for (i32 i = 0; i < GM_SUMS; i++) {
        to[i][0] += from[i][0];
        to[i][1] += from[i][GM_SUM_STEP];
        from[i][0] = from[i][1] = from[i][2] = from[i][3] = 0.f;
    }
}

/* sums: of part `own` of A, or of every second part of B from `own` on; own < 0: none */
TC_DEV void gm_products(float acc[GM_MI][GM_NJ][4], float sums[GM_SUMS][4], i32 own, u32 stage, u32 lane, u32 wm, u32 wn)
{
    const u32 ones[4] = {0x3f803f80u, 0x3f803f80u, 0x3f803f80u, 0x3f803f80u};
    TC_UNROLL
    for (u32 kk = 0; kk < GM_K / 16; kk++) {
        u32 a[GM_MI][4], b[GM_NJ][2];
        TC_UNROLL
        for (u32 i = 0; i < GM_MI; i++) {
            if (A_UNIT == 2)
                tc_ldmatrix4t(a[i], stage + gm_place(2, TILE_M, kk * 16 + (lane & 7) + (lane >> 4) * 8,
                                                     (wm + i * 16) / 8 + (lane >> 3 & 1)));
            else
                tc_ldmatrix4(a[i], stage + gm_place(1, TILE_M, wm + i * 16 + (lane & 15), kk * 2 + (lane >> 4)));
        }
        TC_UNROLL
        for (u32 j = 0; j < GM_NJ / 2; j++) {
            u32 r[4];
            const u32 part = stage + GM_A_BYTES;
            if (B_UNIT == 2)
                tc_ldmatrix4t(r, part + gm_place(2, TILE_N, kk * 16 + (lane & 15), (wn + j * 16) / 8 + (lane >> 4)));
            else
                tc_ldmatrix4(r, part + gm_place(1, TILE_N, wn + j * 16 + (lane & 7) + (lane >> 4) * 8, kk * 2 + (lane >> 3 & 1)));
            b[2 * j][0] = r[0], b[2 * j][1] = r[1], b[2 * j + 1][0] = r[2], b[2 * j + 1][1] = r[3];
        }
        TC_UNROLL
        for (u32 i = 0; i < GM_MI; i++)
            TC_UNROLL
            for (u32 j = 0; j < GM_NJ; j++)
                tc_mma(acc[i][j], a[i], b[j]);
        if (SUMMED == 1) {
            TC_UNROLL
            for (i32 i = 0; i < GM_MI; i++)
                if (i == own)
                    tc_mma(sums[0], a[i], ones);
        } else if (SUMMED == 2) {
            TC_UNROLL
            for (i32 j = 0; j < GM_NJ; j++)
                if ((j & 1) == own)
                    tc_mma(sums[j / 2], ones, b[j]);
        }
    }
}

TC_KERNEL void TC_BOUNDS(256, GM_ASYNC || TILE_M < 128 ? 2 : 1) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, wm = (warp >> 2) * GM_WM, wn = (warp & 3) * GM_WN;
    const u32 column_tiles = (u32)((COLS + TILE_N - 1) / TILE_N), tiles = (u32)((ROWS + TILE_M - 1) / TILE_M) * column_tiles;
    const u32 tile = blockIdx.x % tiles;
    const i32 z = (i32)(blockIdx.x / tiles), split = (i32)blockIdx.y;
    const i32 m0 = (i32)(tile / column_tiles) * TILE_M, n0 = (i32)(tile % column_tiles) * TILE_N;
    const i32 all = TERMS, from = split * SPLIT_TERMS, to = SPLITS == 1 || from + SPLIT_TERMS > all ? all : from + SPLIT_TERMS;
    const i32 stages = to > from ? (to - from + GM_K - 1) / GM_K : 0;
    const A_T *a = a_base(TC_PASS, z);
    const B_T *b = b_base(TC_PASS, z);
    float acc[GM_MI][GM_NJ][4];
    TC_UNROLL
    for (int i = 0; i < GM_MI; i++)
        TC_UNROLL
        for (int j = 0; j < GM_NJ; j++)
            acc[i][j][0] = acc[i][j][1] = acc[i][j][2] = acc[i][j][3] = 0.f;
    float sums[GM_SUMS][2], block[GM_SUMS][4];
    const i32 own = SUMMED == 1 && n0 == 0 ? (i32)(warp & 3) : SUMMED == 2 && m0 == 0 ? (i32)(warp >> 2) : -1;
    TC_UNROLL
    for (int i = 0; i < GM_SUMS; i++)
        sums[i][0] = sums[i][1] = block[i][0] = block[i][1] = block[i][2] = block[i][3] = 0.f;

#if GM_ASYNC
    const u32 ring = tc_saddr(smem);
    for (i32 s = 0; s < GM_STAGES - 1; s++) {
        const i32 k0 = from + s * GM_K;
        if (s < stages) {
            GM_COPY(A, a, TILE_M, ROWS, m0, ring + s * GM_STAGE)
            GM_COPY(B, b, TILE_N, COLS, n0, ring + s * GM_STAGE + GM_A_BYTES)
        }
        tc_cp_commit();
    }
    for (i32 s = 0; s < stages; s++) {
        const i32 next = s + GM_STAGES - 1, k0 = from + next * GM_K;
        tc_cp_wait(GM_STAGES - 2);
        tc_syncthreads();                       /* stage s is here for all, and all are done with the one before it */
        if (next < stages) {
            const u32 stage = ring + (u32)(next % GM_STAGES) * GM_STAGE;
            GM_COPY(A, a, TILE_M, ROWS, m0, stage)
            GM_COPY(B, b, TILE_N, COLS, n0, stage + GM_A_BYTES)
        }
        tc_cp_commit();
        gm_products(acc, block, own, ring + (u32)(s % GM_STAGES) * GM_STAGE, lane, wm, wn);
        if (SUMMED && s % GM_SUM_FLUSH == GM_SUM_FLUSH - 1)
            gm_add(sums, block);
    }
#else
    float xa[GM_A_EACH], xb[GM_B_EACH];
    for (i32 s = -1; s < stages; s++) {
        const i32 k0 = from + (s + 1) * GM_K;
        u8 *next = smem + ((s + 1) & 1) * GM_STAGE;
        if (s + 1 < stages) {
            GM_FETCH(A, a, TILE_M, ROWS, m0, xa)
            GM_FETCH(B, b, TILE_N, COLS, n0, xb)
        }
        if (s >= 0)
            gm_products(acc, block, own, tc_saddr(smem) + (u32)(s & 1) * GM_STAGE, lane, wm, wn);
        if (SUMMED && s % GM_SUM_FLUSH == GM_SUM_FLUSH - 1)
            gm_add(sums, block);
        if (s + 1 < stages) {
            gm_put(next, xa, GM_A_EACH, A_UNIT, TILE_M, A_VEC);
            gm_put(next + GM_A_BYTES, xb, GM_B_EACH, B_UNIT, TILE_N, B_VEC);
        }
        tc_syncthreads();
    }
#endif

    gm_add(sums, block);
#if SUMMED == 1
    if (own >= 0 && own < GM_MI && (lane & 3) == 0)
        TC_UNROLL
        for (i32 h = 0; h < 2; h++) {
            const i32 m = m0 + (i32)wm + own * 16 + (i32)(lane >> 2) + h * 8;
            if (m < ROWS)
                finish_sum(TC_PASS, split, z, m, sums[0][h]);
        }
#elif SUMMED == 2
    if (own >= 0 && lane < 4)
        TC_UNROLL
        for (i32 i = 0; i < GM_SUMS * 2; i++) {
            const i32 n = n0 + (i32)wn + (i / 2 * 2 + own) * 8 + (i32)lane * 2 + (i & 1);
            if (n < COLS)
                finish_sum(TC_PASS, split, z, n, sums[i / 2][i & 1]);
        }
#endif

    /* two neighbouring lanes exchange halves, so that each has four columns of one row */
    TC_UNROLL
    for (u32 i = 0; i < GM_MI; i++)
        TC_UNROLL
        for (u32 j = 0; j < GM_NJ; j++) {
            float *c = acc[i][j];
            const u32 odd = lane & 1;
            const float u = tc_shfl_xor(odd ? c[0] : c[2], 1), v = tc_shfl_xor(odd ? c[1] : c[3], 1);
            const float x0 = odd ? u : c[0], x1 = odd ? v : c[1], x2 = odd ? c[2] : u, x3 = odd ? c[3] : v;
            const i32 m = m0 + (i32)(wm + i * 16 + (lane >> 2) + odd * 8), n = n0 + (i32)(wn + j * 8 + (lane & 2) * 2);
            if (m < ROWS) {
                if (COLS_BY % 4 == 0 ? n < COLS : n + 3 < COLS) {
                    finish4(TC_PASS, split, z, m, n, x0, x1, x2, x3);
                } else if (COLS_BY % 4) {
                    if (n < COLS)
                        finish1(TC_PASS, split, z, m, n, x0);
                    if (n + 1 < COLS)
                        finish1(TC_PASS, split, z, m, n + 1, x1);
                    if (n + 2 < COLS)
                        finish1(TC_PASS, split, z, m, n + 2, x2);
                }
            }
        }
}
