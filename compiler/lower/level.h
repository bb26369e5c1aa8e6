/* level.h -- what is known where in a nest of scopes: the rule by which both back ends decide where a value is computed.
 *
 * Scopes nest as the loops do, and each says what some axes are. A value is computed once, in the outermost scope that
 * knows all it needs: bias[j] in a loop over rows, or 1 / batch, stands in front of the loop. What a value is, the back
 * end knows: here it is an address in its arena. A back end's scope has a Level in front, and more behind it. */
#ifndef LOWER_LEVEL_H
#define LOWER_LEVEL_H
#include "lower/places.h"

/* An expression in a scope: how far out it can be computed, and (in the scope of that depth) its value once it has been. */
typedef struct LevelExpr { const Expr *e; int depth; const void *value; } LevelExpr;

typedef struct Level Level;
struct Level {
    Places *places;
    Level *outer;
    int depth;                         /* 0 outermost */
    uint32_t binds;                    /* the axes that this scope says */
    ARRAY(LevelExpr *) known;
    ARRAY(struct Held { const Comp *c; const Expr *load; const void *value; }) held;
};

Level level_in(Level *outer);                    /* one inside it, which says and knows nothing yet */

/* Loads of c's point (or, c NULL: that load) have this value here and further in. */
void level_hold(Level *s, const Comp *c, const Expr *load, const void *value);
/* The value that a load has by that; NULL: it has to be made. */
const void *level_held(const Level *s, const Expr *load);

Level *level_binder(Level *s, int axis);         /* the innermost scope that says what the axis is; NULL, and a fault: none */
LevelExpr *level_known(Level *s, const Expr *e);     /* e's entry in s; for a load that is held, the depth of who holds it */
int    term_depth(Level *s, const Term *t);
#endif
