/* attn_tiled_fwd -- attention forward for any number of columns: a block has 16 rows a warp, and AT_TILE columns at a time
 * pass through two places in shared memory. The softmax keeps up with them: what was summed so far is scaled down where a
 * larger score appears. */
TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, place = AT_TILE * (AT_PITCH(TERMS) + AT_PITCH(FEATURES));
    const i32 z = (i32)blockIdx.x / AT_PARTS(ROWS), block = (i32)blockIdx.x % AT_PARTS(ROWS) * AT_PART, own = block + (i32)warp * 16;
    const i32 end = REACH < COLS - 1 && block + AT_PART + REACH < COLS ? block + AT_PART + REACH : COLS;     /* no row sees further */
    const u32 at = tc_saddr(smem), from = at + 2 * place + warp * 16 * AT_PITCH(TERMS);
    const bf16 *k = k_base(TC_PASS, z), *v = v_base(TC_PASS, z);
    u32 a[AT_T][4];
    float acc[AT_F * 2][4], most[2] = {-AT_INF, -AT_INF}, sum[2] = {0.f, 0.f};
    at_copy(from, q_base(TC_PASS, z), Q_STRIDE, own, 16, ROWS, TERMS, lane, 32);
    at_copy_both(at, k, K_STRIDE, v, V_STRIDE, 0, COLS, threadIdx.x);
    tc_cp_commit();
    at_copy_both(at + place, k, K_STRIDE, v, V_STRIDE, AT_TILE, COLS, threadIdx.x);
    tc_cp_commit();
    tc_cp_wait(1);
    tc_syncthreads();
    at_own(a, from, AT_T, AT_PITCH(TERMS), lane);
    AT_ZERO(acc, AT_F * 2)
    TC_NO_UNROLL
    for (i32 first = 0; first < end; first += AT_TILE) {
        const u32 ki = at + (first / AT_TILE & 1) * place, vi = ki + AT_TILE * AT_PITCH(TERMS);
        float s[AT_TILE / 8][4];
        TC_UNROLL
        for (int j = 0; j < AT_TILE / 16; j++)
            if (AT_SKIP(own, first + j * 16)) {
                AT_ZERO((s + 2 * j), 2)                             /* whatever they are, score says -inf */
            } else
                at_cross(s + 2 * j, a, ki + j * 16 * AT_PITCH(TERMS), AT_T, AT_PITCH(TERMS), lane);
        TC_UNROLL
        for (int half = 0; half < 2; half++) {
            const i32 m = own + (i32)(lane >> 2) + half * 8, row = m < ROWS ? m : ROWS - 1;
            float top = most[half], more = 0.f;
            TC_UNROLL
            for (int j = 0; j < AT_TILE / 8; j++)
                TC_UNROLL
                for (int e = 0; e < 2; e++) {
                    const i32 n = first + j * 8 + (i32)(lane & 3) * 2 + e;
                    float *x = &s[j][half * 2 + e];
                    *x = n < COLS ? score(TC_PASS, z, row, n, *x) : -AT_INF;
                    top = fmaxf(top, *x);
                }
            top = fmaxf(top, tc_shfl_xor(top, 1));
            top = fmaxf(top, tc_shfl_xor(top, 2));
            const float base = top > -AT_INF ? top * AT_LOG2E : 0.f;            /* -inf: nothing counts yet */
            const float keep = tc_ex2(most[half] * AT_LOG2E - base);
            TC_UNROLL
            for (int j = 0; j < AT_TILE / 8; j++)
                TC_UNROLL
                for (int e = 0; e < 2; e++) {
                    float *x = &s[j][half * 2 + e];
                    *x = tc_ex2(*x * AT_LOG2E - base);
                    more += *x;
                }
            most[half] = top;
            sum[half] = sum[half] * keep + more;
            TC_UNROLL
            for (int i = 0; i < AT_F * 2; i++)
                acc[i][half * 2] *= keep, acc[i][half * 2 + 1] *= keep;
        }
        TC_UNROLL
        for (int j = 0; j < AT_TILE / 16; j++)
            if (!AT_SKIP(own, first + j * 16))
                at_add(acc, s + 2 * j, vi + j * 16 * AT_PITCH(FEATURES), AT_F, AT_PITCH(FEATURES), lane);
        tc_syncthreads();                       /* nobody reads this place any more */
        at_copy_both(ki, k, K_STRIDE, v, V_STRIDE, first + 2 * AT_TILE, end, threadIdx.x);
        tc_cp_commit();
        tc_cp_wait(1);
        tc_syncthreads();
    }
    TC_UNROLL
    for (int half = 0; half < 2; half++) {
        const i32 m = own + (i32)(lane >> 2) + half * 8;
        sum[half] += tc_shfl_xor(sum[half], 1);
        sum[half] += tc_shfl_xor(sum[half], 2);
        const float by = tc_rcp(sum[half]);
        TC_UNROLL
        for (int i = 0; i < AT_F * 2; i++)
            acc[i][half * 2] *= by, acc[i][half * 2 + 1] *= by;
        if (m < ROWS && (lane & 3) == 0)
            statistic(TC_PASS, z, m, most[half] + tc_lg2(sum[half]) * (1.f / AT_LOG2E));
    }
    AT_FINISH(finish_z, acc, own, ROWS, FEATURES)
}
