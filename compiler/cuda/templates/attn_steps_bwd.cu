/* attn_steps_bwd -- what attn_bwd and attn_tiled_bwd share behind the prologue: scores of 16 x 16 are made again, and
 * weighed into sums. */

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

/* Columns n .. n + 15, whose k and v are a and b, meet rows m .. m + 15, whose q and g are resident at qi and gi and whose
 * values are at `values`. */
TC_DEV void at_by_columns(TC_ARGS, i32 z, i32 m, i32 n, u32 (*a)[4], u32 (*b)[4], u32 qi, u32 gi, const float *values,
                          float (*dk)[4], float (*dv)[4], u32 lane)
{
    float s[2][4], x[2][4];
    at_cross(s, a, qi, AT_T, AT_PITCH(TERMS), lane);
    at_cross(x, b, gi, AT_F, AT_PITCH(FEATURES), lane);
    TC_UNROLL
    for (int e = 0; e < 8; e++) {
        const i32 i = (e & 4) * 2 + (i32)(lane & 3) * 2 + (e & 1), j = (i32)(lane >> 2) + (e & 2) * 4;
        float *ps = &s[e >> 2][e & 3], *px = &x[e >> 2][e & 3];
        if (m + i < ROWS && n + j < COLS)
            weights(TC_PASS, z, m + i, n + j, *ps, *px, values + i * ROW_VALUES, ps, px);
        else
            *ps = *px = 0.f;
    }
    at_add(dv, s, gi, AT_F, AT_PITCH(FEATURES), lane);
    at_add(dk, x, qi, AT_T, AT_PITCH(TERMS), lane);
}

/* Rows m .. m + 15, whose q and g are a and b and whose values are r (of the lane's two), meet columns n .. n + 15. */
TC_DEV void at_by_rows(TC_ARGS, i32 z, i32 m, i32 n, u32 (*a)[4], u32 (*b)[4], u32 ki, u32 vi, float (*r)[ROW_VALUES],
                       float (*dq)[4], u32 lane)
{
    float s[2][4], x[2][4];
    at_cross(s, a, ki, AT_T, AT_PITCH(TERMS), lane);
    at_cross(x, b, vi, AT_F, AT_PITCH(FEATURES), lane);
    TC_UNROLL
    for (int e = 0; e < 8; e++) {
        const i32 i = (i32)(lane >> 2) + (e & 2) * 4, j = (e & 4) * 2 + (i32)(lane & 3) * 2 + (e & 1);
        float *ps = &s[e >> 2][e & 3], *px = &x[e >> 2][e & 3];
        if (m + i < ROWS && n + j < COLS)
            weights(TC_PASS, z, m + i, n + j, *ps, *px, r[e >> 1 & 1], ps, px);
        else
            *px = 0.f;
    }
    at_add(dq, x, ki, AT_T, AT_PITCH(TERMS), lane);
}
