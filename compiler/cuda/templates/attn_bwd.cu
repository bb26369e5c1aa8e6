/* attn_bwd -- attention backward from sm_80 on, in two passes over scores that are made again in each: one by columns, where
 * sums over rows are made (with q and g resident), one by rows (with k and v resident). Every sum is one warp's, in order. */

TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2;
    const i32 z = (i32)blockIdx.x;
    const bf16 *q = q_base(TC_PASS, z), *k = k_base(TC_PASS, z), *v = v_base(TC_PASS, z), *g = g_base(TC_PASS, z);
    const u32 own = tc_saddr(smem) + warp * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES));
    const u32 first = tc_saddr(smem) + WARPS * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES));
    u32 second = first + AT_M * 16 * AT_PITCH(TERMS);
    float *values = (float *)(smem + (second - tc_saddr(smem)) + AT_M * 16 * AT_PITCH(FEATURES));
    u32 a[AT_T][4], b[AT_F][4];

    at_copy_resident(first, q, Q_STRIDE, AT_M, ROWS, TERMS);
    at_copy_resident(second, g, G_STRIDE, AT_M, ROWS, FEATURES);
    tc_cp_commit();
    AT_ROW_VALUES(values)
    tc_cp_wait(0);
    tc_syncthreads();
    TC_NO_UNROLL
    for (i32 tile = (i32)warp; tile < AT_N; tile += WARPS) {
        float dk[AT_T * 2][4], dv[AT_F * 2][4];
        at_fetch(a, own, k, K_STRIDE, tile * 16, COLS, TERMS, AT_T, lane);
        at_fetch(b, own, v, V_STRIDE, tile * 16, COLS, FEATURES, AT_F, lane);
        AT_ZERO(dk, AT_T * 2)
        AT_ZERO(dv, AT_F * 2)
        TC_NO_UNROLL
        for (i32 i = 0; i < AT_M; i++) {
            if (AT_SKIP(i * 16, tile * 16))
                continue;
            at_by_columns(TC_PASS, z, i * 16, tile * 16, a, b, first + (u32)i * 16 * AT_PITCH(TERMS),
                          second + (u32)i * 16 * AT_PITCH(FEATURES), values + i * 16 * ROW_VALUES, dk, dv, lane);
        }
        AT_FINISH(finish_k, dk, tile * 16, COLS, TERMS)
        AT_FINISH(finish_v, dv, tile * 16, COLS, FEATURES)
    }
    tc_syncthreads();

    second = first + AT_N * 16 * AT_PITCH(TERMS);
    at_copy_resident(first, k, K_STRIDE, AT_N, COLS, TERMS);
    at_copy_resident(second, v, V_STRIDE, AT_N, COLS, FEATURES);
    tc_cp_commit();
    tc_cp_wait(0);
    tc_syncthreads();
    TC_NO_UNROLL
    for (i32 tile = (i32)warp; tile < AT_M; tile += WARPS) {
        float dq[AT_T * 2][4], r[2][ROW_VALUES];
        at_fetch(a, own, q, Q_STRIDE, tile * 16, ROWS, TERMS, AT_T, lane);
        at_fetch(b, own, g, G_STRIDE, tile * 16, ROWS, FEATURES, AT_F, lane);
        AT_ZERO(dq, AT_T * 2)
        TC_UNROLL
        for (int half = 0; half < 2; half++) {
            const i32 row = tile * 16 + (i32)group + half * 8, m = row < ROWS ? row : ROWS - 1;
            if (AT_N > AT_M) {                  /* else they still lie behind the matrices */
                row_values(TC_PASS, z, m, (i32)(lane & 3), 4, r[half]);
                continue;
            }
            TC_UNROLL
            for (int i = 0; i < ROW_VALUES; i++)
                r[half][i] = values[m * ROW_VALUES + i];
        }
        TC_NO_UNROLL
        for (i32 i = 0; i < AT_N; i++) {
            if (AT_SKIP(tile * 16, i * 16))
                break;
            at_by_rows(TC_PASS, z, tile * 16, i * 16, a, b, first + (u32)i * 16 * AT_PITCH(TERMS),
                       second + (u32)i * 16 * AT_PITCH(FEATURES), r, dq, lane);
        }
        AT_FINISH(finish_q, dq, tile * 16, ROWS, TERMS)
    }
}
