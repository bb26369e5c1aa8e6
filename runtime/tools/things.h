/* things.h -- how each kind of thing looks: a list of coloured parts in the unit box of draw.h. */
#ifndef TIC_TOOLS_THINGS_H
#define TIC_TOOLS_THINGS_H
#include "draw.h"

typedef enum {
    PART_END,
    RECT,       /* x0 y0 x1 y1 radius */
    OVAL,       /* x y rx ry turn */
    CAP,        /* part of an oval: x y rx ry from to */
    TRI,        /* three corners */
    QUAD,       /* four corners */
    LINE,       /* x0 y0 x1 y1 width */
    ARC,        /* x y r from to width */
    CURVE,      /* x0 y0 pull-x pull-y x1 y1 width */
} PartKind;

/* BODY is the colour that the caption names; DEEP and PALE are made from it; the rest is fixed. */
typedef enum { BODY, DEEP, PALE, INK, GREY, STEEL, WHITE, GLASS, WOOD, LEAF, GOLD, GLOW, N_PAINTS } Paint;

typedef struct {
    PartKind kind;
    Paint paint;
    float at[8];
} Part;

/* Looks, each ended by PART_END. */
#define LOOKS(X) \
    X(car) X(car_electric) X(tree) X(tree_pine) X(house) X(kite) X(phone_keys) X(phone_glass) X(drone) X(scooter) \
    X(mask) X(sailboat) X(balloon) X(flower) X(fish) X(bird) X(cat) X(dog) X(mug) X(umbrella) X(armchair) X(lamp) \
    X(bicycle) X(bus) X(airplane) X(hat) X(shirt) X(guitar) X(clock) X(laptop) X(headphones) X(earbuds) X(camera) \
    X(robot) X(spinner) X(goggles) X(watch) X(syringe) X(charger) X(disc) X(apple) X(tv_tube) X(tv_flat)
#define X(name) extern const Part look_##name[];
LOOKS(X)
#undef X

/* Paints a look with `body` as its colour; `outline` pixels of `ink` around the whole figure first. */
void thing_draw(const Part *look, const Pen *pen, Color body, float outline, Color ink);
#endif
