/* attn_wgmma_fwd -- attention forward on Hopper (sm_90a). A block has one element of the batch. Scores of 64 rows and all columns
 * are a warpgroup's accumulators; what becomes of them is, as bf16, the left operand of the second product, in the very registers.
 * q comes to registers as well, through a place of the warp's own, while the products of the tile before are made.
 *
 * p is rounded before it is scaled by 1 / sum, which the result is. Rows behind the end, of which the last tile may have many,
 * cost products but no exponentials where a warp has no other. */
#define AW_N ((COLS + 7) / 8 * 8)
#define AW_COLUMNS AW_BOX(AT_UP(COLS))
/* columns that a tile of rows sees */
#define AW_SEEN(tile) (AW_FEW < AW_N && (tile) == 0 ? AW_FEW : AW_N)

/* Rows tile * 64 .. + 63, by one warpgroup. Their q is on its way to each warp's own place; the next tile's is sent after it. */
TC_DEV void aw_tile(TC_ARGS, i32 z, i32 tile, u32 k, u32 v, u32 own)
{
    const u32 lane = threadIdx.x & 31;
    const i32 first = tile * 64 + (i32)(threadIdx.x >> 5 & 3) * 16;
    u32 a[AT_T][4], p[AT_N][4];
    float s[AT_N * 8], acc[FEATURES / 2], by[2] = {0.f, 0.f};
    tc_cp_wait(0);
    tc_syncwarp();
    at_own(a, own, AT_T, AT_PITCH(TERMS), lane);
    tc_wgmma_fence();
    TC_UNROLL
    for (u32 i = 0; i < AT_T; i++) {
        const u64 b = tc_desc_k(k + i / 4 * AW_COLUMNS + i % 4 * 32);
        if (AW_SEEN(tile) < AW_N)
            AW_FEW_SCORES(s, a[i], b, i > 0);
        else
            AW_SCORES(s, a[i], b, i > 0);
    }
    tc_wgmma_commit();
    if (tile + AW_GROUPS < AW_TILES(ROWS)) {
        tc_syncwarp();
        at_copy(own, q_base(TC_PASS, z), Q_STRIDE, first + WARPS * 16, 16, ROWS, TERMS, lane, 32);
        tc_cp_commit();
    }
    tc_wgmma_wait(0);
    if (first < ROWS) {
        TC_UNROLL
        for (int half = 0; half < 2; half++) {
            const i32 m = first + (i32)(lane >> 2) + half * 8, row = m < ROWS ? m : ROWS - 1;
            float most = -AT_INF, sum = 0.f;
            TC_UNROLL
            for (int j = 0; j < AW_N / 8; j++)
                TC_UNROLL
                for (int e = 0; e < 2 && j * 8 < AW_SEEN(tile); e++) {
                    const i32 n = j * 8 + (i32)(lane & 3) * 2 + e;
                    float *x = &s[j * 4 + half * 2 + e];
                    *x = j * 8 + 8 <= COLS || n < COLS ? score(TC_PASS, z, row, n, *x) : -AT_INF;
                    most = fmaxf(most, *x);
                }
            most = fmaxf(most, tc_shfl_xor(most, 1));
            most = fmaxf(most, tc_shfl_xor(most, 2));
            TC_UNROLL
            for (int j = 0; j < AW_N / 8; j++)
                TC_UNROLL
                for (int e = 0; e < 2 && j * 8 < AW_SEEN(tile); e++) {
                    float *x = &s[j * 4 + half * 2 + e];
                    *x = tc_ex2(*x * AT_LOG2E - most * AT_LOG2E);
                    sum += *x;
                }
            sum += tc_shfl_xor(sum, 1);
            sum += tc_shfl_xor(sum, 2);
            by[half] = tc_rcp(sum);
            if (m < ROWS && (lane & 3) == 0)
                statistic(TC_PASS, z, m, most + tc_lg2(sum) * (1.f / AT_LOG2E));
        }
    }
    TC_UNROLL
    for (int j = 0; j < AT_N * 2; j++)                          /* past what it sees: zeros */
        TC_UNROLL
        for (int half = 0; half < 2; half++)
            p[j / 2][j % 2 * 2 + half] = j * 8 < AW_SEEN(tile) ? tc_pack(s[j * 4 + half * 2], s[j * 4 + half * 2 + 1]) : 0;
    tc_wgmma_fence();
    TC_UNROLL
    for (u32 j = 0; j < AT_N; j++)
        if ((i32)j * 16 < AW_SEEN(tile))
            AW_VALUES(acc, p[j], tc_desc_m(v + j * 2048, AW_COLUMNS), j > 0);
    tc_wgmma_commit();
    tc_wgmma_wait(0);
    TC_UNROLL
    for (int i = 0; i < FEATURES / 2; i++)
        acc[i] *= by[i / 2 % 2];
    AT_FINISH(finish_z, ((float (*)[4])acc), first, ROWS, FEATURES)
}

TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const i32 z = (i32)blockIdx.x, group = (i32)(warp >> 2);
    const u32 k = tc_saddr(smem), v = k + AW_BOXES(TERMS) * AW_COLUMNS, own = v + AW_BOXES(FEATURES) * AW_COLUMNS + warp * 16 * AT_PITCH(TERMS);
    at_copy(own, q_base(TC_PASS, z), Q_STRIDE, (i32)warp * 16, 16, ROWS, TERMS, lane, 32);
    aw_copy(k, k_base(TC_PASS, z), K_STRIDE, COLS, AT_UP(COLS), TERMS, AT_UP(TERMS));
    aw_copy(v, v_base(TC_PASS, z), V_STRIDE, COLS, AT_UP(COLS), FEATURES, AT_UP(FEATURES));
    tc_cp_commit();
    tc_cp_wait(0);
    tc_fence_proxy_async();
    tc_syncthreads();
    if (AW_FEW < AW_N && group == 0)                            /* the tile is a constant here */
        aw_tile(TC_PASS, z, 0, k, v, own);
    TC_NO_UNROLL
    for (i32 tile = AW_FEW < AW_N && group == 0 ? AW_GROUPS : group; tile < AW_TILES(ROWS); tile += AW_GROUPS)
        aw_tile(TC_PASS, z, tile, k, v, own);
}
