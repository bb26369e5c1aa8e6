/* attn_tiled_bwd -- attention backward for any number of rows and columns. A block has 16 columns or 16 rows a warp: the first
 * AT_PARTS(COLS) blocks of a z make the sums over rows, the others those over columns. AT_TILE of the other side at a time pass
 * through two places in shared memory. Every sum is one warp's, in order. */

/* Values of AT_TILE rows from `first` on, eight lanes a row. */
TC_DEV void at_values(TC_ARGS, i32 z, float *to, i32 first)
{
    TC_NO_UNROLL
    for (i32 row = (i32)(threadIdx.x >> 3); row < AT_TILE; row += AT_THREADS / 8) {
        const i32 m = first + row;
        float r[ROW_VALUES];
        row_values(TC_PASS, z, m < ROWS ? m : ROWS - 1, (i32)(threadIdx.x & 7), 8, r);
        TC_UNROLL
        for (int i = 0; i < ROW_VALUES; i++)
            if ((threadIdx.x & 7) == 0)
                to[row * ROW_VALUES + i] = r[i];
    }
}

TC_KERNEL void TC_BOUNDS(AT_THREADS, AT_BLOCKS) KERNEL(TC_ARGS)
{
    TC_SMEM(smem);
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, place = AT_TILE * (AT_PITCH(TERMS) + AT_PITCH(FEATURES));
    const i32 z = (i32)blockIdx.x / (AT_PARTS(COLS) + AT_PARTS(ROWS)), part = (i32)blockIdx.x % (AT_PARTS(COLS) + AT_PARTS(ROWS));
    const bf16 *q = q_base(TC_PASS, z), *k = k_base(TC_PASS, z), *v = v_base(TC_PASS, z), *g = g_base(TC_PASS, z);
    const u32 at = tc_saddr(smem), from = at + 2 * place + warp * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES));
    float *values = (float *)(smem + 2 * place + WARPS * 16 * (TERMS > FEATURES ? AT_PITCH(TERMS) : AT_PITCH(FEATURES)));
    u32 a[AT_T][4], b[AT_F][4];

    if (part < AT_PARTS(COLS)) {
        const i32 block = part * AT_PART, own = block + (i32)warp * 16;
        const i32 begin = REACH < COLS - 1 && block > REACH ? (block - REACH) / AT_TILE * AT_TILE : 0;    /* rows before see none of these */
        float dk[AT_T * 2][4], dv[AT_F * 2][4];
        at_fetch(a, from, k, K_STRIDE, own, COLS, TERMS, AT_T, lane);
        at_fetch(b, from, v, V_STRIDE, own, COLS, FEATURES, AT_F, lane);
        AT_ZERO(dk, AT_T * 2)
        AT_ZERO(dv, AT_F * 2)
        for (i32 i = 0; i < 2; i++) {
            at_copy_both(at + i * place, q, Q_STRIDE, g, G_STRIDE, begin + i * AT_TILE, ROWS, threadIdx.x);
            at_values(TC_PASS, z, values + i * AT_TILE * ROW_VALUES, begin + i * AT_TILE);
            tc_cp_commit();
        }
        tc_cp_wait(1);
        tc_syncthreads();
        TC_NO_UNROLL
        for (i32 first = begin; first < ROWS; first += AT_TILE) {
            const i32 odd = (first - begin) / AT_TILE & 1;
            const u32 qi = at + odd * place, gi = qi + AT_TILE * AT_PITCH(TERMS);
            float *of = values + odd * AT_TILE * ROW_VALUES;
            TC_NO_UNROLL
            for (i32 i = 0; i < AT_TILE / 16; i++)
                if (first + i * 16 < ROWS && !AT_SKIP(first + i * 16, own))
                    at_by_columns(TC_PASS, z, first + i * 16, own, a, b, qi + (u32)i * 16 * AT_PITCH(TERMS),
                                  gi + (u32)i * 16 * AT_PITCH(FEATURES), of + i * 16 * ROW_VALUES, dk, dv, lane);
            tc_syncthreads();                   /* nobody reads this place any more */
            if (first + 2 * AT_TILE < ROWS) {
                at_copy_both(qi, q, Q_STRIDE, g, G_STRIDE, first + 2 * AT_TILE, ROWS, threadIdx.x);
                at_values(TC_PASS, z, of, first + 2 * AT_TILE);
            }
            tc_cp_commit();
            tc_cp_wait(1);
            tc_syncthreads();
        }
        AT_FINISH(finish_k, dk, own, COLS, TERMS)
        AT_FINISH(finish_v, dv, own, COLS, FEATURES)
    } else {
        const i32 block = (part - AT_PARTS(COLS)) * AT_PART, own = block + (i32)warp * 16;
        const i32 end = REACH < COLS - 1 && block + AT_PART + REACH < COLS ? block + AT_PART + REACH : COLS;
        float dq[AT_T * 2][4], r[2][ROW_VALUES];
        at_fetch(a, from, q, Q_STRIDE, own, ROWS, TERMS, AT_T, lane);
        at_fetch(b, from, g, G_STRIDE, own, ROWS, FEATURES, AT_F, lane);
        AT_ZERO(dq, AT_T * 2)
        TC_UNROLL
        for (int half = 0; half < 2; half++) {
            const i32 row = own + (i32)(lane >> 2) + half * 8;
            row_values(TC_PASS, z, row < ROWS ? row : ROWS - 1, (i32)(lane & 3), 4, r[half]);
        }
        for (i32 i = 0; i < 2; i++) {
            at_copy_both(at + i * place, k, K_STRIDE, v, V_STRIDE, i * AT_TILE, COLS, threadIdx.x);
            tc_cp_commit();
        }
        tc_cp_wait(1);
        tc_syncthreads();
        TC_NO_UNROLL
        for (i32 first = 0; first < end; first += AT_TILE) {
            const u32 ki = at + (first / AT_TILE & 1) * place, vi = ki + AT_TILE * AT_PITCH(TERMS);
            TC_NO_UNROLL
            for (i32 i = 0; i < AT_TILE / 16; i++)
                if (first + i * 16 < COLS && !AT_SKIP(own, first + i * 16))
                    at_by_rows(TC_PASS, z, own, first + i * 16, a, b, ki + (u32)i * 16 * AT_PITCH(TERMS),
                               vi + (u32)i * 16 * AT_PITCH(FEATURES), r, dq, lane);
            tc_syncthreads();                   /* nobody reads this place any more */
            at_copy_both(ki, k, K_STRIDE, v, V_STRIDE, first + 2 * AT_TILE, end, threadIdx.x);
            tc_cp_commit();
            tc_cp_wait(1);
            tc_syncthreads();
        }
        AT_FINISH(finish_q, dq, own, ROWS, TERMS)
    }
}
