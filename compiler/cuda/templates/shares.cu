/* shares -- the terms of all tiles of a product in equal shares: which parts of which tiles a share has, which parts a tile has.
 * For results of few tiles and long sums, where whole tiles, or equal cuts of each, leave blocks idle in the last round. It
 * stands in front of what makes the parts and of what adds them up; terms are counted in blocks, `blocks` to a tile.
 *
 * Tiles are dealt out as Euclid's algorithm goes. While there are as many tiles as shares, each share takes one, with all
 * terms that it has left. When there are fewer, each tile takes as many shares as all can have; they lie side by side along
 * its terms, so long that they are busy to the end, and the other shares deal out, in the same way, what terms then are left.
 *
 * No share has more than ceil(tiles * blocks / shares) blocks, and there are tiles + shares - gcd(tiles, shares) parts. They
 * are as few when the terms of all tiles, one behind the other, are cut at equal distances; but then each share would be
 * elsewhere along the terms, where here at any moment many tiles are at the same ones, so that what one has loaded the
 * others find in the cache. Nothing depends on how many shares run at a time. */
typedef struct { i32 tile, tiles, share, shares, part, from; } ShareCut;       /* what is not dealt out yet: the first of each, how many */
typedef struct { i32 tile, part, from, n; } SharePart;                           /* blocks from .. from + n - 1; n may be 0 */

TC_DEV ShareCut share_all(i32 tiles, i32 shares)
{
    const ShareCut c = {0, tiles, 0, shares, 0, 0};
    return c;
}

/* The next part of a share, *c being share_all at first; 0: it has no more. */
TC_DEV int share_next(ShareCut *c, i32 share, i32 blocks, SharePart *p)
{
    TC_NO_UNROLL
    while (c->tiles > 0) {
        const i32 mine = share - c->share, left = blocks - c->from;
        p->part = c->part + mine;
        if (c->tiles >= c->shares) {
            p->tile = c->tile + mine;
            p->from = c->from;
            p->n = left;
            c->tile += c->shares;
            c->tiles -= c->shares;
            c->part += c->shares;
            return 1;
        }
        const i32 length = left / c->shares * c->tiles + (left % c->shares * c->tiles + c->shares - 1) / c->shares;
        const i32 each = c->shares / c->tiles, taken = each * c->tiles;
        if (mine < taken) {
            const i32 at = mine / c->tiles * length;
            p->tile = c->tile + mine % c->tiles;
            p->from = c->from + (at < left ? at : left);
            p->n = left - at > length ? length : left > at ? left - at : 0;
            c->tiles = 0;
            return 1;
        }
        c->share += taken;
        c->shares -= taken;
        c->part += taken;
        c->from += each * length < left ? each * length : left;
    }
    return 0;
}

/* The next parts of a tile in the order of their terms, *step apart from *first on: how many, perhaps none. *c is share_all at first, and
 * when it has no tiles or no shares left there are no more. (No loop, and one way through: the kernel that adds up has enough to keep.) */
TC_DEV i32 share_parts(ShareCut *c, i32 tile, i32 *first, i32 *step)
{
    const int whole = c->tiles >= c->shares;
    const i32 mine = tile - c->tile, each = whole ? 1 : c->shares / c->tiles, taken = whole ? c->shares : each * c->tiles;
    const int is = !whole || mine < taken;
    *first = c->part + mine;
    *step = c->tiles;
    c->part += taken;
    if (whole) {
        c->tile += taken;
        c->tiles = is ? 0 : c->tiles - taken;
    } else {
        c->shares -= taken;
    }
    return is ? each : 0;
}
