/* attn_wgmma -- what attention on Hopper (sm_90a) shares. Matrices stand whole in shared memory, in boxes of 64 terms (features) by
 * all rows, with 128-byte swizzle, the way wgmma reads them by rows and by columns. A warpgroup takes 64 rows at a time. */
#define AW_GROUPS (WARPS / 4)
#define AW_TILES(n) (((n) + 63) / 64)
#define AW_BOXES(d) (((d) + 63) / 64)
#define AW_BOX(rows) ((rows) * 128)             /* bytes; the rows a multiple of 16 */

/* Begins to copy a matrix of `rows` rows, d wide, into boxes of `all` rows, their first `wide` columns; zeros where there is none. */
TC_DEV void aw_copy(u32 to, const bf16 *from, i64 stride, i32 rows, i32 all, i32 d, i32 wide)
{
    const u32 chunks = (u32)wide / 8;
    TC_NO_UNROLL
    for (u32 i = threadIdx.x; i < (u32)all * chunks; i += AT_THREADS) {
        const u32 row = i / chunks, c = i % chunks;
        const i32 in = (i32)row < rows && (i32)c * 8 < d;
        tc_cp_async16(to + c / 8 * AW_BOX((u32)all) + tc_swizzle(row, c & 7), in ? from + (i64)row * stride + c * 8 : from, in ? 16 : 0);
    }
}
