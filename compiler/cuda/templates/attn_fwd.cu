/* attn_fwd -- attention forward from sm_80 on: a softmax over the columns of scores that never leave the registers, times a
 * matrix. A warp has the scores of 16 rows at once, all their columns, so the softmax is exact in one pass. */
TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const i32 z = (i32)blockIdx.x;
    const u32 k = tc_saddr(smem), v = k + AT_N * 16 * AT_PITCH(TERMS);
    const u32 own = v + AT_N * 16 * AT_PITCH(FEATURES) + warp * 16 * AT_PITCH(TERMS);
    const bf16 *q = q_base(TC_PASS, z);
    at_copy_resident(k, k_base(TC_PASS, z), K_STRIDE, AT_N, COLS, TERMS);
    at_copy_resident(v, v_base(TC_PASS, z), V_STRIDE, AT_N, COLS, FEATURES);
    at_copy(own, q, Q_STRIDE, (i32)warp * 16, 16, ROWS, TERMS, lane, 32);
    tc_cp_commit();
    tc_cp_wait(0);
    tc_syncthreads();
    TC_NO_UNROLL
    for (i32 tile = (i32)warp; tile < AT_M; tile += WARPS) {
        u32 a[AT_T][4];
        float s[AT_N * 2][4], acc[AT_F * 2][4];
        if (tile >= WARPS) {
            tc_cp_wait(0);
            tc_syncwarp();
        }
        at_own(a, own, AT_T, AT_PITCH(TERMS), lane);
        if (tile + WARPS < AT_M) {              /* the next tile is on its way during this one */
            tc_syncwarp();
            at_copy(own, q, Q_STRIDE, (tile + WARPS) * 16, 16, ROWS, TERMS, lane, 32);
            tc_cp_commit();
        }
        TC_UNROLL
        for (int j = 0; j < AT_N; j++)
            if (AT_SKIP(tile * 16, j * 16)) {
                AT_ZERO((s + 2 * j), 2)                             /* whatever they are, score says -inf */
            } else
                at_cross(s + 2 * j, a, k + j * 16 * AT_PITCH(TERMS), AT_T, AT_PITCH(TERMS), lane);
        TC_UNROLL
        for (int half = 0; half < 2; half++) {
            const i32 m = tile * 16 + (i32)(lane >> 2) + half * 8, row = m < ROWS ? m : ROWS - 1;
            float most = -AT_INF, sum = 0.f;
            TC_UNROLL
            for (int j = 0; j < AT_N * 2; j++)
                TC_UNROLL
                for (int e = 0; e < 2; e++) {
                    const i32 n = j * 8 + (i32)(lane & 3) * 2 + e;
                    float *x = &s[j][half * 2 + e];
                    *x = j * 8 + 8 <= COLS || n < COLS ? score(TC_PASS, z, row, n, *x) : -AT_INF;
                    most = fmaxf(most, *x);
                }
            most = fmaxf(most, tc_shfl_xor(most, 1));
            most = fmaxf(most, tc_shfl_xor(most, 2));
            TC_UNROLL
            for (int j = 0; j < AT_N * 2; j++)
                TC_UNROLL
                for (int e = 0; e < 2; e++) {
                    float *x = &s[j][half * 2 + e];
                    *x = tc_ex2(*x * AT_LOG2E - most * AT_LOG2E);
                    sum += *x;
                }
            sum += tc_shfl_xor(sum, 1);
            sum += tc_shfl_xor(sum, 2);
            const float by = tc_rcp(sum);
            TC_UNROLL
            for (int j = 0; j < AT_N * 2; j++)
                s[j][half * 2] *= by, s[j][half * 2 + 1] *= by;
            if (m < ROWS && (lane & 3) == 0)
                statistic(TC_PASS, z, m, most + tc_lg2(sum) * (1.f / AT_LOG2E));
        }
        AT_ZERO(acc, AT_F * 2)
        TC_UNROLL
        for (int j = 0; j < AT_N; j++)
            if (!AT_SKIP(tile * 16, j * 16))
                at_add(acc, s + 2 * j, v + j * 16 * AT_PITCH(FEATURES), AT_F, AT_PITCH(FEATURES), lane);
        AT_FINISH(finish_z, acc, tile * 16, ROWS, FEATURES)
    }
}
