/* attn -- what score templates share; it stands in front of them. See attn.h for the names that come from the prologue.
 *
 * In attn_fwd and attn_bwd a block has one element of the batch. Its warps share whole matrices in shared memory, the "resident" ones, and each takes
 * 16 rows of the other side at a time, its own. Products are mma.sync's 16 x 8 x 16. A row of a matrix is followed by 16
 * bytes of nothing: rows are an odd number of 16-byte chunks apart, so eight addresses of an ldmatrix never meet in a bank.
 * Rows and columns behind the end are zeros. */
#define AT_UP(n) (((n) + 15) / 16 * 16)
#define AT_PITCH(d) (AT_UP(d) * 2 + 16)              /* bytes from row to row of a matrix d wide */
#define AT_M (AT_UP(ROWS) / 16)                      /* tiles of rows */
#define AT_N (AT_UP(COLS) / 16)                      /* tiles of columns */
#define AT_T (AT_UP(TERMS) / 16)
#define AT_F (AT_UP(FEATURES) / 16)
#define AT_THREADS (WARPS * 32)
#define AT_PART (WARPS * 16)                         /* tiled: rows or columns of a block */
#define AT_PARTS(n) (((n) + AT_PART - 1) / AT_PART)   /* tiled: blocks for n of them */
#define AT_LOG2E 1.4426950408889634f
#define AT_INF tc_float(0x7f800000u)
/* No score of the tile that begins at (m, n) counts. */
#define AT_SKIP(m, n) (REACH < COLS - 1 && (n) > (m) + 15 + REACH)

/* chunk i of rows first .. of a matrix of `rows` rows, d wide */
TC_DEV void at_chunk(u32 to, const bf16 *from, i64 stride, i32 first, i32 rows, i32 d, u32 i)
{
    const u32 chunks = (u32)AT_UP(d) / 8;
    const i32 row = (i32)(i / chunks), c = (i32)(i % chunks), in = first + row < rows && c * 8 < d;
    tc_cp_async16(to + (u32)(row * AT_PITCH(d) + c * 16), in ? from + (first + row) * stride + c * 8 : from, in ? 16 : 0);
}

/* Begins to copy rows first .. first + n - 1 of a matrix of `rows` rows, d wide; `threads` threads of which this is number t */
TC_DEV void at_copy(u32 to, const bf16 *from, i64 stride, i32 first, i32 n, i32 rows, i32 d, u32 t, u32 threads)
{
    for (u32 i = t; i < (u32)n * (AT_UP(d) / 8); i += threads)
        at_chunk(to, from, stride, first, rows, d, i);
}

/* ... a resident matrix in `tiles` tiles: once a block, so the loop is worth no copies, which take long to compile */
TC_DEV void at_copy_resident(u32 to, const bf16 *from, i64 stride, i32 tiles, i32 rows, i32 d)
{
    TC_NO_UNROLL
    for (u32 i = threadIdx.x; i < (u32)tiles * 16 * (AT_UP(d) / 8); i += AT_THREADS)
        at_chunk(to, from, stride, 0, rows, d, i);
}

/* ... AT_TILE rows of a matrix TERMS wide and of one FEATURES wide, one behind the other; of what lies behind `rows` nothing */
TC_DEV void at_copy_both(u32 to, const bf16 *x, i64 x_stride, const bf16 *y, i64 y_stride, i32 first, i32 rows, u32 t)
{
    if (first >= rows)
        return;
    at_copy(to, x, x_stride, first, AT_TILE, rows, TERMS, t, AT_THREADS);
    at_copy(to + AT_TILE * AT_PITCH(TERMS), y, y_stride, first, AT_TILE, rows, FEATURES, t, AT_THREADS);
}

/* the 16 rows at `at` as left operands of `steps` products */
TC_DEV void at_own(u32 (*a)[4], u32 at, int steps, u32 pitch, u32 lane)
{
    TC_UNROLL
    for (int i = 0; i < steps; i++)
        tc_ldmatrix4(a[i], at + (lane & 15) * pitch + (u32)i * 32 + (lane >> 4) * 16);
}

/* c (16 x 16) = own rows times the 16 resident rows at `at` */
TC_DEV void at_cross(float (*c)[4], u32 (*a)[4], u32 at, int steps, u32 pitch, u32 lane)
{
    TC_UNROLL
    for (int e = 0; e < 4; e++)
        c[0][e] = c[1][e] = 0.f;
    TC_UNROLL
    for (int i = 0; i < steps; i++) {
        u32 b[4];
        tc_ldmatrix4(b, at + ((lane & 7) + (lane >> 4) * 8) * pitch + (u32)i * 32 + (lane >> 3 & 1) * 16);
        tc_mma(c[0], a[i], b);
        tc_mma(c[1], a[i], b + 2);
    }
}

/* acc (16 x 16 steps) += c (16 x 16, as bf16) times the 16 resident rows at `at` */
TC_DEV void at_add(float (*acc)[4], float (*c)[4], u32 at, int steps, u32 pitch, u32 lane)
{
    const u32 a[4] = {tc_pack(c[0][0], c[0][1]), tc_pack(c[0][2], c[0][3]), tc_pack(c[1][0], c[1][1]), tc_pack(c[1][2], c[1][3])};
    TC_UNROLL
    for (int i = 0; i < steps; i++) {
        u32 b[4];
        tc_ldmatrix4t(b, at + (lane & 15) * pitch + (u32)i * 32 + (lane >> 4) * 16);
        tc_mma(acc[2 * i], a, b);
        tc_mma(acc[2 * i + 1], a, b + 2);
    }
}

#define AT_ZERO(acc, n) \
    TC_UNROLL \
    for (int i_ = 0; i_ < (n); i_++) \
        acc[i_][0] = acc[i_][1] = acc[i_][2] = acc[i_][3] = 0.f;

/* What a row brings along, of all rows, into shared memory: eight lanes a row. */
#define AT_ROW_VALUES(values) \
    for (i32 row = (i32)warp * 4; row < ROWS; row += WARPS * 4) { \
        const i32 m = row + (i32)(lane >> 3); \
        float r[ROW_VALUES]; \
        row_values(TC_PASS, z, m < ROWS ? m : ROWS - 1, (i32)(lane & 7), 8, r); \
        TC_UNROLL \
        for (int i = 0; i < ROW_VALUES; i++) \
            if (m < ROWS && (lane & 7) == 0) \
                values[m * ROW_VALUES + i] = r[i]; \
    }

/* Rows first .. first + 15 of a result d wide to `finish`: two neighbouring lanes exchange halves, so that each has four
 * columns of one row. */
#define AT_FINISH(finish, acc, first, rows, d) \
    TC_UNROLL \
    for (int i_ = 0; i_ < (d) / 8; i_++) { \
        const u32 odd = lane & 1; \
        const float *c = acc[i_], u = tc_shfl_xor(odd ? c[0] : c[2], 1), v = tc_shfl_xor(odd ? c[1] : c[3], 1); \
        const i32 row = (first) + (i32)((lane >> 2) + odd * 8), f = i_ * 8 + (i32)(lane & 2) * 2; \
        if (row < (rows)) \
            finish(TC_PASS, z, row, f, odd ? u : c[0], odd ? v : c[1], odd ? c[2] : u, odd ? c[3] : v); \
    }
