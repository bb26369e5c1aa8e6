/* gemm_wgmma -- products on Hopper (sm_90a): the copy engine fills a ring of stages, warpgroups multiply from it, blocks stay.
 * See emit.h for the names that come from the prologue; tiles are 128 x TILE_N, 64 terms a stage.
 *
 * Both sides are bf16 and have a tensor map, the kernel's first two arguments (128-byte swizzle): terms side by side, boxes
 * of 64 terms by the tile's rows; rows side by side, boxes of 64 rows by 64 terms. Outside of a tensor the engine gives
 * zeros.
 *
 * Warpgroup 0 has one thread that feeds the ring. The other two either share a tile, 64 rows each (GW_PING 0, wide
 * tiles, long sums), or have a tile each in turn (GW_PING 1), so that one multiplies while the other finishes its
 * results; all threads pass the turn on, since none of them may still wait for it.
 *
 * Finishing goes through a few kilobytes of each warp's own, where a row's neighbours come together: a warp has four slabs
 * of 8 rows x 128 columns, one after the other in a loop that is one copy of the epilogue (several would not fit the cache
 * of instructions), and a lane keeps to four columns. What an epilogue loads is fetched a slab ahead, for the first one
 * before the last products are there; what depends on the columns alone, before the tile.
 *
 * The sum of a side over the terms is made beside the products, by the three warps that have nothing else to do, with mma.sync:
 * they read the side of each stage once more where the tile is the first along the other side. Eight parts of 16 rows share a
 * warp's accumulators, as its columns: each is multiplied by ones in a column of its own. After a thousand terms they are added
 * to sums in f32 proper, which tensor cores do not round to. Registers are those of the launch, 168 a thread, dealt out
 * anew: 72 to each thread of theirs, 216 to the others.
 *
 * Loops that run long stand as they are written: each copy of one that the compiler makes would be compiled with all accumulators
 * alive in it, and buys nothing where everything waits for the tensor cores. */
#ifndef TILE_N
#define TILE_N 256
#endif
#ifndef GW_PING
#define GW_PING (TILE_N == 128)
#endif
#define GW_K 64
#define GW_A_BYTES (128 * GW_K * 2)
#define GW_STAGE (GW_A_BYTES + TILE_N * GW_K * 2)
#define GW_STAGES (TILE_N == 256 ? 4 : 6)
#define GW_MI (GW_PING ? 2 : 1)                 /* 64-row parts of a tile that a warpgroup has */
#define GW_PASTE(n, form) tc_wgmma_##n##_##form
#define GW_NAME(n, form) GW_PASTE(n, form)
#if A_UNIT == 1 && B_UNIT == 1
#define GW_WGMMA GW_NAME(TILE_N, kk)
#elif A_UNIT == 1
#define GW_WGMMA GW_NAME(TILE_N, km)
#elif B_UNIT == 1
#define GW_WGMMA GW_NAME(TILE_N, mk)
#else
#define GW_WGMMA GW_NAME(TILE_N, mm)
#endif

/* What a block computes: jobs, each a part of the terms of a tile. Every split of every tile is a job; or they are those of the block's
 * shares (shares.cu). All roles of a block go through the same ones. */
#define GW_COLUMNS ((COLS + TILE_N - 1) / TILE_N)
#define GW_TILES ((ROWS + 127) / 128 * GW_COLUMNS)
typedef struct { i32 tile, split, k, n_k; } GwJob;     /* terms from k on, n_k stages of them, perhaps none */
#if SHARES
typedef struct { i32 share; ShareCut cut; } GwWork;
#else
typedef struct { i32 at; } GwWork;
#endif

TC_DEV GwWork gw_work(TC_ARGS)
{
#if SHARES
    const GwWork w = {(i32)blockIdx.x, share_all(GW_TILES, SHARES)};
#else
    const GwWork w = {(i32)blockIdx.x};
#endif
    return w;
}

TC_DEV int gw_next(TC_ARGS, GwWork *w, GwJob *j)
{
#if SHARES
    SharePart s;
    TC_NO_UNROLL
    while (!share_next(&w->cut, w->share, (TERMS + GW_K - 1) / GW_K, &s)) {
        w->share += (i32)gridDim.x;
        if (w->share >= SHARES)
            return 0;
        w->cut = share_all(GW_TILES, SHARES);
    }
    j->tile = s.tile;
    j->split = s.part;
    j->k = s.from * GW_K;
    j->n_k = s.n;
#else
    if (w->at >= GW_TILES * SPLITS)
        return 0;
    j->tile = w->at % GW_TILES;
    j->split = w->at / GW_TILES;
    j->k = j->split * SPLIT_TERMS;
    const i32 to = SPLITS == 1 || j->k + SPLIT_TERMS > TERMS ? TERMS : j->k + SPLIT_TERMS;
    j->n_k = to > j->k ? (to - j->k + GW_K - 1) / GW_K : 0;
    w->at += (i32)gridDim.x;
#endif
    return 1;
}

/* the descriptor of 16 terms from kk * 16 of the rows from `row` (a multiple of 64) of one side of a stage */
TC_DEV u64 gw_side(u32 part, int unit, u32 row, u32 kk)
{
    return unit == 1 ? tc_desc_k(part + row * 128 + kk * 32) : tc_desc_m(part + row * 128 + kk * 2048, 8192);
}

TC_DEV void gw_load(u32 part, const tc_tmap *map, u32 full, int unit, int rows, i32 row, i32 k)
{
    if (unit == 1) {
        tc_tma_load2d(part, map, full, k, row);
    } else {
        TC_UNROLL
        for (i32 i = 0; i < rows / 64; i++)
            tc_tma_load2d(part + i * 8192, map, full, row + i * 64, k);
    }
}

/* 8 rows x 128 columns of a warp's accumulators (the rows of half h) into its own buffer; 16-byte chunks permuted by row */
TC_DEV void gw_spill(float *mine, const float *acc, u32 h, u32 lane)
{
    const u32 row = lane >> 2, first = row * 128 + ((lane >> 1 & 1) ^ row << 1) * 4 + (lane & 1) * 2;
    TC_UNROLL
    for (u32 j = 0; j < 16; j++) {
        const v2f v = {acc[j * 4 + h * 2], acc[j * 4 + h * 2 + 1]};
        *(v2f *)(mine + (first ^ j * 8)) = v;
    }
}

#define GW_SLABS 4
#define GW_AT_ONCE (POINT_LOADS ? 8 : 4)        /* rows of a slab: all of them where registers hold what each has fetched */
/* where slab s of a warp lies in its tile: 64-row part and column part, and the first of its 8 rows and of its columns */
TC_DEV u32 gw_mi(u32 s) { return GW_PING ? s >> 1 : 0; }
TC_DEV u32 gw_part(u32 s) { return GW_PING ? 0 : s >> 1; }
TC_DEV i32 gw_row(u32 s) { return (i32)(gw_mi(s) * 64 + (s & 1) * 8); }

TC_DEV int gw_inside(TC_ARGS, i32 m, i32 n)
{
    return (ROWS_BY % 128 == 0 && COLS_BY % TILE_N == 0) || (m + 8 <= ROWS && n + 3 < COLS);
}

TC_DEV void gw_fetch(TC_ARGS, i32 m, i32 n, FetchedPoint *f)
{
    TC_UNROLL
    for (i32 row = 0; row < 8; row++)
        fetch_point(TC_PASS, 0, m + row, n, f + row);
}

/* a slab at the edge of the result */
TC_DEV void gw_finish_edge(TC_ARGS, i32 split, i32 m, i32 n, const float *buffer, u32 lane)
{
    TC_NO_UNROLL
    for (u32 row = 0; row < 8 && m + (i32)row < ROWS; row++) {
        const v4f v = *(const v4f *)(buffer + row * 128 + ((lane ^ row << 1) << 2));
        if (COLS_BY % 4 == 0 ? n < COLS : n + 3 < COLS) {
            finish4(TC_PASS, split, 0, m + (i32)row, n, v.x, v.y, v.z, v.w);
        } else if (COLS_BY % 4) {
            TC_NO_UNROLL
            for (i32 i = 0; i < 3 && n + i < COLS; i++)
                finish1(TC_PASS, split, 0, m + (i32)row, n + i, i == 0 ? v.x : i == 1 ? v.y : v.z);
        }
    }
}

#if SUMMED
#define GW_SUM_ROWS (SUMMED == 1 ? 128 : TILE_N)
#define GW_SUM_UNIT (SUMMED == 1 ? A_UNIT : B_UNIT)
#define GW_SUMS (GW_SUM_ROWS / 128)
#define GW_SUM_FLUSH 16                         /* stages */

/* One stage of the side at `part`, every third 16 rows from who * 16 on. */
TC_DEV void gw_sum_stage(float sums[GW_SUMS][4], u32 part, u32 who, u32 lane)
{
    TC_UNROLL
    for (u32 s = 0; s < GW_SUMS; s++)
        TC_NO_UNROLL
        for (u32 i = who; i < 8; i += 3) {
            const u32 one = lane >> 2 == i ? 0x3f803f80u : 0, column[2] = {one, one};
            TC_UNROLL
            for (u32 kk = 0; kk < GW_K / 16; kk++) {
                u32 a[4];
                if (GW_SUM_UNIT == 1)
                    tc_ldmatrix4(a, part + tc_swizzle(s * 128 + i * 16 + (lane & 15), kk * 2 + (lane >> 4)));
                else
                    tc_ldmatrix4t(a, part + (s * 2 + i / 4) * 8192 +
                                  tc_swizzle(kk * 16 + (lane & 7) + (lane >> 4) * 8, i % 4 * 2 + (lane >> 3 & 1)));
                tc_mma(sums[s], a, column);
            }
        }
}

/* A tile's sums, rows (columns) from `first` on, to where they go. */
TC_DEV void gw_sum_finish(TC_ARGS, i32 split, i32 first, float sums[GW_SUMS][4], u32 who, u32 lane)
{
    TC_UNROLL
    for (u32 e = 0; e < GW_SUMS * 4; e++) {
        const u32 i = (lane & 3) * 2 + (e & 1);
        const i32 r = first + (i32)(e / 4 * 128 + i * 16 + (lane >> 2) + (e >> 1 & 1) * 8);
        if (i % 3 == who && r < (SUMMED == 1 ? ROWS : COLS))
            finish_sum(TC_PASS, split, 0, r, sums[e / 4][e & 3]);
    }
}

TC_DEV void gw_add(float to[GW_SUMS][4], float from[GW_SUMS][4])
{
    TC_UNROLL
    for (u32 e = 0; e < GW_SUMS * 4; e++) {
        to[e / 4][e & 3] += from[e / 4][e & 3];
        from[e / 4][e & 3] = 0.f;
    }
}
#endif

TC_KERNEL void TC_BOUNDS(384, 1) KERNEL(const TC_GRIDCONST tc_tmap map_a, const TC_GRIDCONST tc_tmap map_b, TC_ARGS)
{
    TC_SMEM(smem);
    const u32 ring = tc_saddr(smem), full = ring + GW_STAGES * GW_STAGE + 8 * 4096;
    const u32 empty = full + GW_STAGES * 8, turn = empty + GW_STAGES * 8;
    const u32 group = threadIdx.x >> 7, lane = threadIdx.x & 31, warp = threadIdx.x >> 5 & 3;
    GwWork work = gw_work(TC_PASS);
    GwJob job;
    if (threadIdx.x == 0) {
        for (u32 i = 0; i < GW_STAGES; i++) {
            tc_mbar_init(full + i * 8, 1);
            tc_mbar_init(empty + i * 8, (GW_PING ? 1 : 2) + (SUMMED ? 3 : 0));
        }
        tc_mbar_init(turn, 128);
        tc_mbar_init(turn + 8, 128);
        tc_mbar_fence_init();
    }
    tc_syncthreads();
    if (group == 0) {
        tc_setmaxnreg_dec(SUMMED ? 72 : 24);
        if (threadIdx.x == 0) {
            u32 stage = 0, phase = 0;
            tc_tma_prefetch(&map_a);
            tc_tma_prefetch(&map_b);
            TC_NO_UNROLL
            while (gw_next(TC_PASS, &work, &job)) {
                const i32 m0 = job.tile / GW_COLUMNS * 128, n0 = job.tile % GW_COLUMNS * TILE_N;
                TC_NO_UNROLL
                for (i32 k = job.k; k < job.k + job.n_k * GW_K; k += GW_K) {
                    const u32 at = ring + stage * GW_STAGE;
                    tc_mbar_wait(empty + stage * 8, phase ^ 1);
                    tc_mbar_expect(full + stage * 8, GW_STAGE);
                    gw_load(at, &map_a, full + stage * 8, A_UNIT, 128, m0, k);
                    gw_load(at + GW_A_BYTES, &map_b, full + stage * 8, B_UNIT, TILE_N, n0, k);
                    if (++stage == GW_STAGES) {
                        stage = 0;
                        phase ^= 1;
                    }
                }
            }
        }
#if SUMMED
        else if (warp > 0) {
            u32 stage = 0, phase = 0;
            TC_NO_UNROLL
            while (gw_next(TC_PASS, &work, &job)) {
                const int summing = (SUMMED == 1 ? job.tile % GW_COLUMNS : job.tile / GW_COLUMNS) == 0;
                float sums[GW_SUMS][4], block[GW_SUMS][4];
                TC_UNROLL
                for (u32 e = 0; e < GW_SUMS * 4; e++)
                    sums[e / 4][e & 3] = block[e / 4][e & 3] = 0.f;
                TC_NO_UNROLL
                for (i32 k = 0; k < job.n_k; k++) {
                    tc_mbar_wait(full + stage * 8, phase);
                    if (summing)
                        gw_sum_stage(block, ring + stage * GW_STAGE + (SUMMED == 1 ? 0 : GW_A_BYTES), warp - 1, lane);
                    if ((k + 1) % GW_SUM_FLUSH == 0)
                        gw_add(sums, block);
                    tc_syncwarp();
                    if (lane == 0)
                        tc_mbar_arrive(empty + stage * 8);
                    if (++stage == GW_STAGES) {
                        stage = 0;
                        phase ^= 1;
                    }
                }
                gw_add(sums, block);
                if (summing)
                    gw_sum_finish(TC_PASS, job.split, SUMMED == 1 ? job.tile / GW_COLUMNS * 128 : job.tile % GW_COLUMNS * TILE_N, sums,
                                  warp - 1, lane);
            }
        }
#endif
    } else {
        tc_setmaxnreg_inc(SUMMED ? 216 : 240);
        const u32 mine = group - 1, leader = (threadIdx.x & 127) == 0;
        float *buffer = (float *)(smem + GW_STAGES * GW_STAGE) + (threadIdx.x / 32 - 4) * 1024;
        u32 stage = 0, phase = 0, turns = 0;
        TC_NO_UNROLL
        for (i32 i = 0; gw_next(TC_PASS, &work, &job); i++) {
            const i32 tile = job.tile, split = job.split, n_k = job.n_k;
            if (GW_PING && (i & 1) != (i32)mine) {      /* the other warpgroup's: its stages go by */
                const u32 gone = stage + (u32)n_k;
                phase ^= gone / GW_STAGES & 1;
                stage = gone % GW_STAGES;
                continue;
            }
            const i32 m0 = tile / GW_COLUMNS * 128 + (GW_PING ? 0 : (i32)mine * 64) + (i32)warp * 16;
            const i32 n0 = tile % GW_COLUMNS * TILE_N + (i32)lane * 4;
            FetchedColumns bias[TILE_N / 128];
            TC_UNROLL
            for (i32 part = 0; part < TILE_N / 128; part++)
                if (n0 + part * 128 + 3 < COLS)
                    fetch_columns(TC_PASS, n0 + part * 128, bias + part);
            float acc[GW_MI][TILE_N / 2];
            TC_UNROLL
            for (int r = 0; r < GW_MI; r++)
                TC_UNROLL
                for (int e = 0; e < TILE_N / 2; e++)
                    acc[r][e] = 0.f;
            if (GW_PING)
                tc_mbar_wait(turn + mine * 8, (turns++ & 1) ^ mine ^ 1);      /* the first turn is warpgroup 0's */
            u32 before = 0;
            TC_NO_UNROLL
            for (i32 k = 0; k < n_k; k++) {
                const u32 at = ring + stage * GW_STAGE;
                tc_mbar_wait(full + stage * 8, phase);
                tc_wgmma_fence();
                TC_UNROLL
                for (u32 kk = 0; kk < GW_K / 16; kk++)
                    TC_UNROLL
                    for (u32 r = 0; r < GW_MI; r++)
                        GW_WGMMA(acc[r], gw_side(at, A_UNIT, GW_PING ? r * 64 : mine * 64, kk), gw_side(at + GW_A_BYTES, B_UNIT, 0, kk), 1);
                tc_wgmma_commit();
                if (GW_PING && k + 1 == n_k)                    /* the other may queue its products behind these */
                    tc_mbar_arrive(turn + (mine ^ 1) * 8);
                tc_wgmma_wait(1);
                if (k > 0 && leader)
                    tc_mbar_arrive(empty + before * 8);
                before = stage;
                if (++stage == GW_STAGES) {
                    stage = 0;
                    phase ^= 1;
                }
            }
            FetchedPoint fetched[8];
            if (gw_inside(TC_PASS, m0, n0))
                gw_fetch(TC_PASS, m0, n0, fetched);
            tc_wgmma_wait(0);                                   /* on every path: else ptxas makes all products wait */
            if (n_k && leader)
                tc_mbar_arrive(empty + before * 8);
            if (GW_PING && !n_k)                                /* a part of the sums may be empty */
                tc_mbar_arrive(turn + (mine ^ 1) * 8);
            TC_NO_UNROLL
            for (u32 slab = 0; slab < GW_SLABS; slab++) {
                const i32 m = m0 + gw_row(slab), n = n0 + (i32)gw_part(slab) * 128;
                const i32 next_m = m0 + gw_row(slab + 1), next_n = n0 + (i32)gw_part(slab + 1) * 128;
                const int more = slab + 1 < GW_SLABS && gw_inside(TC_PASS, next_m, next_n);
                tc_syncwarp();
                TC_UNROLL
                for (u32 s = 0; s < GW_SLABS; s++)
                    if (s == slab)                              /* registers have no index */
                        gw_spill(buffer, acc[gw_mi(s)] + gw_part(s) * 64, s & 1, lane);
                tc_syncwarp();
                if (!gw_inside(TC_PASS, m, n)) {
                    gw_finish_edge(TC_PASS, split, m, n, buffer, lane);
                    if (more)
                        gw_fetch(TC_PASS, next_m, next_n, fetched);
                    continue;
                }
                FetchedColumns c = bias[0];
                if (TILE_N > 128 && slab >= 2)
                    c = bias[TILE_N / 128 - 1];
                TC_NO_UNROLL
                for (u32 some = 0; some < 8; some += GW_AT_ONCE)
                    TC_UNROLL
                    for (u32 row = some; row < some + GW_AT_ONCE; row++) {
                        const v4f v = *(const v4f *)(buffer + row * 128 + ((lane ^ row << 1) << 2));
                        finish_with(TC_PASS, split, 0, m + (i32)row, n, &c, fetched + row, v.x, v.y, v.z, v.w);
                        if (more)
                            fetch_point(TC_PASS, 0, next_m + (i32)row, next_n, fetched + row);
                    }
            }
        }
    }
}
