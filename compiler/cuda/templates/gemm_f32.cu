/* gemm_f32 -- products in f32: a block has a 128 x 128 tile, a thread 8 x 8 of it (4 + 4 rows, 4 + 4 columns), 16 terms
 * at a time through two stages of shared memory. See emit.h for the names that come from the prologue. */
#define GT_M 128
#define GT_N 128
#define GT_K 16
#define GT_PAD 4
#define GT_STAGE ((GT_M + GT_N + 2 * GT_PAD) * GT_K)

/* Element e of a thread's share (8 a side) of a tile: which row and term. Neighbouring threads take neighbouring
 * elements along the side's unit-stride direction. */
TC_DEV i32 gt_row(i32 tid, i32 e, int unit)
{
    return unit == 2 ? (tid * 4 + (e & 3)) % 128 : (tid / 4) + (e >> 2) * 64;
}
TC_DEV i32 gt_term(i32 tid, i32 e, int unit)
{
    return unit == 2 ? tid / 32 + (e >> 2) * 8 : (tid & 3) * 4 + (e & 3);
}

/* a thread's share to its place: rows that lie side by side at once */
TC_DEV void gt_put(float *part, const float *r, i32 tid, int unit)
{
    TC_UNROLL
    for (int h = 0; h < 2; h++) {
        float *at = part + gt_term(tid, 4 * h, unit) * (GT_M + GT_PAD) + gt_row(tid, 4 * h, unit);
        const v4f v = {r[4 * h], r[4 * h + 1], r[4 * h + 2], r[4 * h + 3]};
        if (unit == 2) {
            *(v4f *)at = v;
            continue;
        }
        TC_UNROLL
        for (int e = 0; e < 4; e++)
            at[e * (GT_M + GT_PAD)] = r[4 * h + e];
    }
}

TC_KERNEL void TC_BOUNDS(256, 1) KERNEL(TC_ARGS)
{
    TC_SMEM(shared);
    float *stage = (float *)shared;
    const i32 tid = (i32)threadIdx.x, tx = tid % 16, ty = tid / 16;
    const u32 row_tiles = (u32)((ROWS + GT_M - 1) / GT_M), column_tiles = (u32)((COLS + GT_N - 1) / GT_N);
    const u32 tile = blockIdx.x % (row_tiles * column_tiles);
    const i32 z = (i32)(blockIdx.x / (row_tiles * column_tiles)), split = (i32)blockIdx.y;
    const i32 m0 = (i32)(tile / column_tiles) * GT_M, n0 = (i32)(tile % column_tiles) * GT_N;
    const i32 all = TERMS, from = split * SPLIT_TERMS;
    const i32 to = SPLITS == 1 || from + SPLIT_TERMS > all ? all : from + SPLIT_TERMS;
    const A_T *a = a_base(TC_PASS, z);
    const B_T *b = b_base(TC_PASS, z);
    i64 a_at[2], b_at[2];
    float x[8][8], ra[8], rb[8];
    TC_UNROLL
    for (int i = 0; i < 8; i++)
        TC_UNROLL
        for (int j = 0; j < 8; j++)
            x[i][j] = 0.0f;
#if SUMMED                                      /* of 8 rows (columns), the terms that are 16 apart */
    const i32 place = SUMMED == 1 ? ty : tx, part = SUMMED == 1 ? tx : ty;
    const int summing = (SUMMED == 1 ? n0 : m0) == 0;
    float sums[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
#endif
    TC_UNROLL
    for (int h = 0; h < 2; h++) {
        const i32 m = m0 + gt_row(tid, 4 * h, A_UNIT), n = n0 + gt_row(tid, 4 * h, B_UNIT);
        a_at[h] = m < ROWS ? a_row(m, B) : 0;
        b_at[h] = n < COLS ? b_row(n, B) : 0;
    }
    for (i32 k0 = from; k0 < to + GT_K; k0 += GT_K) {
        /* the next stage on its way to registers; the last round has none */
        TC_UNROLL
        for (int h = 0; h < 2; h++) {
            const i32 ka = k0 + gt_term(tid, 4 * h, A_UNIT), kb = k0 + gt_term(tid, 4 * h, B_UNIT);
            const i32 m = m0 + gt_row(tid, 4 * h, A_UNIT), n = n0 + gt_row(tid, 4 * h, B_UNIT);
            if (A_VEC >= 4 && !A_BF16) {
                v4f v = {0.0f, 0.0f, 0.0f, 0.0f};
                if (ka < to && m < ROWS)
                    v = *(const v4f *)(a + a_at[h] + a_term(ka, B));
                ra[4 * h] = v.x;
                ra[4 * h + 1] = v.y;
                ra[4 * h + 2] = v.z;
                ra[4 * h + 3] = v.w;
            } else {
                TC_UNROLL
                for (int e = 0; e < 4; e++) {
                    const i32 me = A_UNIT == 2 ? m + e : m, ke = A_UNIT == 2 ? ka : ka + e;
                    ra[4 * h + e] = ke < to && me < ROWS ? A_FLOAT(a[a_row(me, B) + a_term(ke, B)]) : 0.0f;
                }
            }
            if (B_VEC >= 4 && !B_BF16) {
                v4f v = {0.0f, 0.0f, 0.0f, 0.0f};
                if (kb < to && n < COLS)
                    v = *(const v4f *)(b + b_at[h] + b_term(kb, B));
                rb[4 * h] = v.x;
                rb[4 * h + 1] = v.y;
                rb[4 * h + 2] = v.z;
                rb[4 * h + 3] = v.w;
            } else {
                TC_UNROLL
                for (int e = 0; e < 4; e++) {
                    const i32 ne = B_UNIT == 2 ? n + e : n, ke = B_UNIT == 2 ? kb : kb + e;
                    rb[4 * h + e] = ke < to && ne < COLS ? B_FLOAT(b[b_row(ne, B) + b_term(ke, B)]) : 0.0f;
                }
            }
        }
        if (k0 > from) {
            const float *sa = stage + ((k0 - from) / GT_K & 1 ? 0 : GT_STAGE), *sb = sa + (GT_M + GT_PAD) * GT_K;
            TC_UNROLL
            for (int k = 0; k < GT_K; k++) {
                float va[8], vb[8];
                TC_UNROLL
                for (int h = 0; h < 2; h++) {
                    const v4f p = *(const v4f *)(sa + k * (GT_M + GT_PAD) + h * 64 + ty * 4);
                    const v4f q = *(const v4f *)(sb + k * (GT_N + GT_PAD) + h * 64 + tx * 4);
                    va[4 * h] = p.x;
                    va[4 * h + 1] = p.y;
                    va[4 * h + 2] = p.z;
                    va[4 * h + 3] = p.w;
                    vb[4 * h] = q.x;
                    vb[4 * h + 1] = q.y;
                    vb[4 * h + 2] = q.z;
                    vb[4 * h + 3] = q.w;
                }
                TC_UNROLL
                for (int i = 0; i < 8; i++)
                    TC_UNROLL
                    for (int j = 0; j < 8; j++)
                        x[i][j] += va[i] * vb[j];
            }
        }
#if SUMMED
        if (k0 > from && summing) {
            const float *side = stage + ((k0 - from) / GT_K & 1 ? 0 : GT_STAGE) + (SUMMED == 1 ? 0 : (GT_M + GT_PAD) * GT_K);
            TC_UNROLL
            for (int h = 0; h < 2; h++) {
                const v4f v = *(const v4f *)(side + part * (GT_M + GT_PAD) + h * 64 + place * 4);
                sums[4 * h] += v.x;
                sums[4 * h + 1] += v.y;
                sums[4 * h + 2] += v.z;
                sums[4 * h + 3] += v.w;
            }
        }
#endif
        if (k0 < to) {
            float *sa = stage + ((k0 - from) / GT_K & 1 ? GT_STAGE : 0), *sb = sa + (GT_M + GT_PAD) * GT_K;
            gt_put(sa, ra, tid, A_UNIT);
            gt_put(sb, rb, tid, B_UNIT);
        }
        tc_syncthreads();
    }
#if SUMMED
    if (summing) {
        TC_UNROLL
        for (int h = 0; h < 2; h++) {
            const v4f v = {sums[4 * h], sums[4 * h + 1], sums[4 * h + 2], sums[4 * h + 3]};
            *(v4f *)(stage + part * (GT_M + GT_PAD) + h * 64 + place * 4) = v;
        }
        tc_syncthreads();
        const i32 r = (SUMMED == 1 ? m0 : n0) + tid;
        if (tid < 128 && r < (SUMMED == 1 ? ROWS : COLS)) {
            float sum = 0.0f;
            TC_UNROLL
            for (int i = 0; i < GT_K; i++)
                sum += stage[i * (GT_M + GT_PAD) + tid];
            finish_sum(TC_PASS, split, z, r, sum);
        }
    }
#endif
    TC_UNROLL
    for (int i = 0; i < 8; i++) {
        const i32 m = m0 + (i / 4) * 64 + ty * 4 + i % 4;
        if (m < ROWS) {
            TC_UNROLL
            for (int h = 0; h < 2; h++) {
                const i32 n = n0 + h * 64 + tx * 4;
                if (COLS_BY % 4 == 0 ? n < COLS : n + 3 < COLS) {
                    finish4(TC_PASS, split, z, m, n, x[i][4 * h], x[i][4 * h + 1], x[i][4 * h + 2], x[i][4 * h + 3]);
                } else if (COLS_BY % 4) {
                    TC_UNROLL
                    for (int e = 0; e < 4; e++)
                        if (n + e < COLS)
                            finish1(TC_PASS, split, z, m, n + e, x[i][4 * h + e]);
                }
            }
        }
    }
}
