/* attn_bwd -- attention backward from sm_80 on, in two passes over scores that are made again in each: one by columns, where
 * sums over rows are made (with q and g resident), one by rows (with k and v resident). Every sum is one warp's, in order. */

/* Rows first .. of a matrix through the warp's own place to left operands. */
TC_DEV void at_fetch(u32 (*a)[4], u32 own, const bf16 *from, i64 stride, i32 first, i32 rows, i32 d, int steps, u32 lane)
{
    at_copy(own, from, stride, first, 16, rows, d, lane, 32);
    tc_cp_commit();
    tc_cp_wait(0);
    tc_syncwarp();
    at_own(a, own, steps, AT_PITCH(d), lane);
    tc_syncwarp();
}

TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane >> 2, pair = (lane & 3) * 2;
    const i32 z = (i32)blockIdx.x;
    const bf16 *q = q_base(TC_PASS, z), *k = k_base(TC_PASS, z), *v = v_base(TC_PASS, z), *g = g_base(TC_PASS, z);
    const u32 own = tc_saddr(smem) + warp * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES));
    const u32 first = tc_saddr(smem) + WARPS * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES));
    u32 second = first + AT_M * 16 * AT_PITCH(TERMS);
    float *values = (float *)(smem + (second - tc_saddr(smem)) + AT_M * 16 * AT_PITCH(FEATURES));
    u32 a[AT_T][4], b[AT_F][4];
    float s[2][4], x[2][4];

    at_copy(first, q, Q_STRIDE, 0, AT_M * 16, ROWS, TERMS, threadIdx.x, AT_THREADS);
    at_copy(second, g, G_STRIDE, 0, AT_M * 16, ROWS, FEATURES, threadIdx.x, AT_THREADS);
    tc_cp_commit();
    for (i32 row = (i32)warp * 4; row < ROWS; row += WARPS * 4) {       /* eight lanes a row */
        const i32 m = row + (i32)(lane >> 3);
        float r[ROW_VALUES];
        row_values(TC_PASS, z, m < ROWS ? m : ROWS - 1, (i32)(lane & 7), 8, r);
        TC_UNROLL
        for (int i = 0; i < ROW_VALUES; i++)
            if (m < ROWS && (lane & 7) == 0)
                values[m * ROW_VALUES + i] = r[i];
    }
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
            const u32 qi = first + (u32)i * 16 * AT_PITCH(TERMS), gi = second + (u32)i * 16 * AT_PITCH(FEATURES);
            at_cross(s, a, qi, AT_T, AT_PITCH(TERMS), lane);
            at_cross(x, b, gi, AT_F, AT_PITCH(FEATURES), lane);
            TC_UNROLL
            for (int e = 0; e < 8; e++) {
                const i32 m = i * 16 + (e & 4) * 2 + (i32)pair + (e & 1), n = tile * 16 + (i32)group + (e & 2) * 4;
                float *ps = &s[e >> 2][e & 3], *px = &x[e >> 2][e & 3];
                if (m < ROWS && n < COLS)
                    weights(TC_PASS, z, m, n, *ps, *px, values + m * ROW_VALUES, ps, px);
                else
                    *ps = *px = 0.f;
            }
            at_add(dv, s, gi, AT_F, AT_PITCH(FEATURES), lane);
            at_add(dk, x, qi, AT_T, AT_PITCH(TERMS), lane);
        }
        AT_FINISH(finish_k, dk, tile * 16, COLS, TERMS)
        AT_FINISH(finish_v, dv, tile * 16, COLS, FEATURES)
    }
    tc_syncthreads();

    second = first + AT_N * 16 * AT_PITCH(TERMS);
    at_copy(first, k, K_STRIDE, 0, AT_N * 16, COLS, TERMS, threadIdx.x, AT_THREADS);
    at_copy(second, v, V_STRIDE, 0, AT_N * 16, COLS, FEATURES, threadIdx.x, AT_THREADS);
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
            const u32 ki = first + (u32)i * 16 * AT_PITCH(TERMS), vi = second + (u32)i * 16 * AT_PITCH(FEATURES);
            at_cross(s, a, ki, AT_T, AT_PITCH(TERMS), lane);
            at_cross(x, b, vi, AT_F, AT_PITCH(FEATURES), lane);
            TC_UNROLL
            for (int e = 0; e < 8; e++) {
                const i32 m = tile * 16 + (i32)group + (e & 2) * 4, n = i * 16 + (e & 4) * 2 + (i32)pair + (e & 1);
                float *ps = &s[e >> 2][e & 3], *px = &x[e >> 2][e & 3];
                if (m < ROWS && n < COLS)
                    weights(TC_PASS, z, m, n, *ps, *px, r[e >> 1 & 1], ps, px);
                else
                    *px = 0.f;
            }
            at_add(dq, x, ki, AT_T, AT_PITCH(TERMS), lane);
        }
        AT_FINISH(finish_q, dq, tile * 16, ROWS, TERMS)
    }
}
