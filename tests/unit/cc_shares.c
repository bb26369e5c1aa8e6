/* cc_shares.c -- equal shares of the terms of all tiles (compiler/cuda/templates/shares.cu): every block of terms is in one part, parts
 * are numbered without gaps, those of a tile come in order, no share is longer than it must be, and few places along the terms are
 * visited at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "../../compiler/base.h"

typedef int32_t i32;
#define TC_DEV static
#define TC_NO_UNROLL
#include "cuda/templates/shares.cu"

static int gcd(int a, int b) { return b ? gcd(b, a % b) : a; }
/* the sum of the quotients of Euclid's algorithm */
static int quotients(int a, int b) { return b ? a / b + quotients(b, a % b) : 0; }

/* A group of parts that begin together and at the same terms. */
typedef struct Place { int64_t start; i32 from; } Place;

typedef struct Dealt { SharePart *part; int n, n_place; int64_t most; Place *place; } Dealt;

static void visit(Dealt *d, Place p)
{
    for (int i = 0; i < d->n_place; i++)
        if (d->place[i].start == p.start && d->place[i].from == p.from)
            return;
    d->place[d->n_place++] = p;
}

static Dealt deal(int tiles, int shares, int blocks)
{
    Dealt d = {.n = tiles + shares - gcd(tiles, shares)};
    d.part = malloc((size_t)d.n * sizeof *d.part);
    d.place = malloc((size_t)d.n * sizeof *d.place);
    for (int i = 0; i < d.n; i++)
        d.part[i].part = -1;
    for (int share = 0; share < shares; share++) {
        ShareCut cut = share_all(tiles, shares);
        int64_t busy = 0;
        for (SharePart p; share_next(&cut, share, blocks, &p);) {
            assert_in_range(p.part, 0, d.n - 1);
            assert_int_equal(d.part[p.part].part, -1);
            assert_in_range(p.tile, 0, tiles - 1);
            d.part[p.part] = p;
            visit(&d, (Place){busy, p.from});
            busy += p.n;
        }
        d.most = busy > d.most ? busy : d.most;
    }
    return d;
}

/* Parts of a tile lie end to end over its terms; returns how many. */
static int end_to_end(const Dealt *d, int tiles, int shares, int blocks, int tile)
{
    ShareCut cut = share_all(tiles, shares);
    int parts = 0;
    i32 first, step, at = 0;
    while (cut.tiles > 0 && cut.shares > 0) {
        i32 n = share_parts(&cut, tile, &first, &step);
        parts += n;
        for (i32 i = 0; i < n; i++) {
            const SharePart *p = &d->part[first + i * step];
            assert_int_equal(p->tile, tile);
            assert_int_equal(p->from, at);
            assert_true(p->n >= 0);
            at += p->n;
        }
    }
    assert_int_equal(at, blocks);
    return parts;
}

static void check(int tiles, int shares, int blocks)
{
    Dealt d = deal(tiles, shares, blocks);
    int parts = 0;
    for (int tile = 0; tile < tiles; tile++)
        parts += end_to_end(&d, tiles, shares, blocks, tile);
    assert_int_equal(parts, d.n);
    int64_t all = (int64_t)tiles * blocks, least = (all + shares - 1) / shares;
    if (d.most != least)
        fail_msg("%d tiles of %d blocks in %d shares: one has %lld, wanted %lld", tiles, blocks, shares, (long long)d.most, (long long)least);
    if (d.n_place > quotients(tiles, shares))
        fail_msg("%d tiles of %d blocks in %d shares: %d places, wanted %d", tiles, blocks, shares, d.n_place, quotients(tiles, shares));
    free(d.part);
    free(d.place);
}

static void small(void **state)
{
    for (int tiles = 1; tiles <= 24; tiles++)
        for (int shares = 1; shares <= 24; shares++)
            for (int blocks = 0; blocks <= 40; blocks++)
                check(tiles, shares, blocks);
}

/* As long as sums get: no number overflows. */
static void large(void **state)
{
    for (int tiles = 1; tiles <= 300; tiles += 7)
        for (int shares = 1; shares <= 264; shares += tiles % 3 ? 131 : 33)
            check(tiles, shares, 1 << 25);
}

static void of_vit_b16(void **state)
{
    static const struct { int tiles, blocks; } grad[] = {{72, 3152}, {54, 3152}, {18, 3152}, {32, 1232}, {24, 1232}, {8, 1232}, {16, 1232}};
    for (size_t i = 0; i < LEN(grad); i++)
        check(grad[i].tiles, 132, grad[i].blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(small), cmocka_unit_test(large), cmocka_unit_test(of_vit_b16)};
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
