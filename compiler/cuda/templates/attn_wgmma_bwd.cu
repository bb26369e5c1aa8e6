/* attn_wgmma_bwd -- attention backward on Hopper (sm_90a). A block has one element of the batch, and each score is made once: a
 * warpgroup has 64 columns and goes through the rows, AW_STEP at a time. Scores stand transposed, columns down, so that p and
 * ds are, as bf16, left operands of the products that sum over rows (dv, dk), in the very registers; ds goes to shared memory too,
 * as 64 rows side by side in a line for each column. When all of it is there, the warpgroups sum it over columns (dq), 64
 * rows each at a time. Every sum is one warpgroup's, in order.
 *
 * k, v, q, g lie in this order: the last columns' warpgroup reads past the end of k and v, what follows there, and makes scores
 * of it that count as 0; so boxes are filled in their whole width. */
#define AW_N AT_UP(COLS)
#define AW_M ((ROWS + AW_STEP - 1) / AW_STEP * AW_STEP)
#define AW_ALL_M (AW_TILES(ROWS) * 64)

/* Sums over rows for columns tile * 64 .. + 63. */
TC_DEV void aw_columns(TC_ARGS, i32 z, i32 tile, u32 k, u32 v, u32 q, u32 g, u32 ds, const float *values)
{
    const u32 lane = threadIdx.x & 31;
    const i32 own = tile * 64 + (i32)(threadIdx.x >> 5 & 3) * 16;
    const i32 begin = REACH < COLS - 1 && tile * 64 > REACH ? (tile * 64 - REACH) / 64 * 64 : 0;      /* rows before see none of these */
    const u32 line = (u32)own + (lane >> 3 & 1) * 8 + (lane & 7);
    float dk[TERMS / 2], dv[FEATURES / 2];
    TC_UNROLL
    for (int i = 0; i < TERMS / 2; i++)
        dk[i] = 0.f;
    TC_UNROLL
    for (int i = 0; i < FEATURES / 2; i++)
        dv[i] = 0.f;
    TC_NO_UNROLL
    for (i32 m = begin; m < ROWS; m += AW_STEP) {
        float s[AW_STEP / 2], x[AW_STEP / 2];
        u32 of_p[AW_STEP / 16][4], of_ds[AW_STEP / 16][4];
        tc_wgmma_fence();
        TC_UNROLL
        for (u32 i = 0; i < AT_T; i++)
            AW_SCORES(s, tc_desc_k(k + i / 4 * AW_BOX(AW_N) + (u32)tile * 8192 + i % 4 * 32),
                      tc_desc_k(q + i / 4 * AW_BOX(AW_M) + (u32)m * 128 + i % 4 * 32), i > 0);
        TC_UNROLL
        for (u32 i = 0; i < AT_F; i++)
            AW_SCORES(x, tc_desc_k(v + i / 4 * AW_BOX(AW_N) + (u32)tile * 8192 + i % 4 * 32),
                      tc_desc_k(g + i / 4 * AW_BOX(AW_M) + (u32)m * 128 + i % 4 * 32), i > 0);
        tc_wgmma_commit();
        tc_wgmma_wait(0);
        TC_UNROLL
        for (int e = 0; e < AW_STEP / 2; e++) {
            const i32 i = m + e / 4 * 8 + (i32)(lane & 3) * 2 + (e & 1), j = own + (i32)(lane >> 2) + (e >> 1 & 1) * 8;
            if (i < ROWS && j < COLS)
                weights(TC_PASS, z, i, j, s[e], x[e], values + i * ROW_VALUES, &s[e], &x[e]);
            else
                s[e] = x[e] = 0.f;
        }
        TC_UNROLL
        for (int e = 0; e < AW_STEP / 4; e++) {
            of_p[e / 4][e % 4] = tc_pack(s[e * 2], s[e * 2 + 1]);
            of_ds[e / 4][e % 4] = tc_pack(x[e * 2], x[e * 2 + 1]);
        }
        TC_UNROLL
        for (u32 i = 0; i < AW_STEP / 16; i++) {
            const u32 row = (u32)m + i * 16;
            if (own < AW_N)
                tc_stmatrix4(ds + row / 64 * AW_BOX(AW_N) + tc_swizzle(line, row % 64 / 8 + (lane >> 4)), of_ds[i]);
        }
        tc_wgmma_fence();
        TC_UNROLL
        for (u32 i = 0; i < AW_STEP / 16; i++)
            AW_FEATURES(dv, of_p[i], tc_desc_m(g + ((u32)m + i * 16) * 128, AW_BOX(AW_M)), 1);
        TC_UNROLL
        for (u32 i = 0; i < AW_STEP / 16; i++)
            AW_TERMS(dk, of_ds[i], tc_desc_m(q + ((u32)m + i * 16) * 128, AW_BOX(AW_M)), 1);
        tc_wgmma_commit();
        tc_wgmma_wait(0);                       /* before the next: else ptxas makes each product wait */
    }
    AT_FINISH(finish_k, ((float (*)[4])dk), own, COLS, TERMS)
    AT_FINISH(finish_v, ((float (*)[4])dv), own, COLS, FEATURES)
}

/* Sums over columns for rows tile * 64 .. + 63. */
TC_DEV void aw_rows(TC_ARGS, i32 z, i32 tile, u32 k, u32 ds)
{
    const u32 lane = threadIdx.x & 31;
    const i32 own = tile * 64 + (i32)(threadIdx.x >> 5 & 3) * 16;
    const i32 seen = REACH < COLS - 1 && tile * 64 + 64 + REACH < COLS ? tile * 64 + 64 + REACH : COLS;
    float dq[TERMS / 2];
    TC_UNROLL
    for (int i = 0; i < TERMS / 2; i++)
        dq[i] = 0.f;
    TC_NO_UNROLL
    for (i32 n = 0; n < seen; n += 16) {
        tc_wgmma_fence();
        AW_ROW_TERMS(dq, tc_desc_m(ds + (u32)tile * AW_BOX(AW_N) + (u32)n * 128, AW_BOX(AW_N)), tc_desc_m(k + (u32)n * 128, AW_BOX(AW_N)), 1);
        tc_wgmma_commit();
    }
    tc_wgmma_wait(0);
    AT_FINISH(finish_q, ((float (*)[4])dq), own, ROWS, TERMS)
}

TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const i32 z = (i32)blockIdx.x, group = (i32)(warp >> 2);
    const u32 k = tc_saddr(smem), v = k + AW_BOXES(TERMS) * AW_BOX(AW_N), q = v + AW_BOXES(FEATURES) * AW_BOX(AW_N);
    const u32 g = q + AW_BOXES(TERMS) * AW_BOX(AW_M), ds = g + AW_BOXES(FEATURES) * AW_BOX(AW_M);
    float *values = (float *)(smem + (ds - k) + AW_TILES(ROWS) * AW_BOX(AW_N));
    aw_copy(k, k_base(TC_PASS, z), K_STRIDE, COLS, AW_N, TERMS, AW_BOXES(TERMS) * 64);
    aw_copy(v, v_base(TC_PASS, z), V_STRIDE, COLS, AW_N, FEATURES, AW_BOXES(FEATURES) * 64);
    aw_copy(q, q_base(TC_PASS, z), Q_STRIDE, ROWS, AW_M, TERMS, AW_BOXES(TERMS) * 64);
    aw_copy(g, g_base(TC_PASS, z), G_STRIDE, ROWS, AW_M, FEATURES, AW_BOXES(FEATURES) * 64);
    tc_cp_commit();
    AT_ROW_VALUES(values)
    for (i32 i = (i32)threadIdx.x; i < AW_N * ((AW_ALL_M - AW_M) / 8); i += AT_THREADS) {      /* rows that the last step leaves out */
        const v4u zero = {0, 0, 0, 0};
        *(v4u *)(smem + (ds - k) + (AW_TILES(ROWS) - 1) * AW_BOX(AW_N) + tc_swizzle((u32)(i % AW_N), (u32)(7 - i / AW_N))) = zero;
    }
    tc_cp_wait(0);
    tc_fence_proxy_async();
    tc_syncthreads();
    TC_NO_UNROLL
    for (i32 tile = group; tile < AW_TILES(COLS); tile += AW_GROUPS)
        aw_columns(TC_PASS, z, tile, k, v, q, g, ds, values);
    tc_fence_proxy_async();
    tc_syncthreads();
    TC_NO_UNROLL
    for (i32 tile = group; tile < AW_TILES(ROWS); tile += AW_GROUPS)
        aw_rows(TC_PASS, z, tile, k, ds);
}
