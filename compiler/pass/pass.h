/* pass.h -- inside pass/: the passes, and what several of them need.
 *
 * A pass takes a graph in topological order, changes it without changing a value, leaves it in topological order,
 * and returns how many things it changed. Working memory is an arena of its own that goes when the pass ends; what
 * stays (new expressions, tensors, Comps) is in the graph's arena. */
#ifndef PASS_PASS_H
#define PASS_PASS_H
#include "ir/graph.h"

int pass_views(Graph *g);        /* loads of copies, constants and pieces read the source */
int pass_dce(Graph *g);          /* what no output or update needs goes */
int pass_narrow(Graph *g);       /* rows that nobody reads are not computed */
int pass_sink(Graph *g);         /* a copy of a whole tensor moves into its producer's store map */
int pass_cse(Graph *g);          /* Comps that are equal up to axis numbers become one */
int pass_known(Graph *g);        /* a sub-expression that some map computes becomes a load of it */
int pass_reassoc(Graph *g);      /* sum_u A*(sum_i B*C) = sum_i B*(sum_u A*C) where the inner sum exists */
int pass_sides(Graph *g);        /* every contraction becomes constant * load * load */
int pass_square(Graph *g);       /* tensors with two batch axes: as few as there can be */
int pass_scalars(Graph *g);      /* after sides: numbers made from numbers are computed where they are read */
int pass_whole(Graph *g);        /* pieces that are copies or constants are chosen between where they are read */
int pass_precision(Graph *g);    /* after sides: operands of contractions become bf16 tensors */
int pass_derivative(Graph *g);   /* after precision: a saved bf16 value of which only its derivative is used makes room for that */

/* ---- a set of 64-bit hashes with an int each: open addressing; entries with equal hashes are all kept */
typedef struct { uint64_t *key; int *value; int n, cap; } HashMap;
void hash_put(Arena *a, HashMap *m, uint64_t key, int value);
/* the values under `key`, oldest first: start with *at = -1; false when there are no more */
bool hash_next(const HashMap *m, uint64_t key, int *at, int *value);
static inline uint64_t hash2(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    h ^= h >> 32;
    return h * 0xD6E8FEB86659FD93u ^ h >> 29;
}

/* ---- roots: bit array over tensors, named outputs and values of updates */
bool *roots_of(const Graph *g, Arena *a);

/* ---- tensors and Comps */
bool same_form(const Tensor *a, const Tensor *b);        /* shape and type */
bool grows_squarely(const Graph *g, int tensor);         /* two batch axes (pass/square.c) */
bool makes_diagonal(const Graph *g, const Comp *c);      /* a map of x[i, i] and scalars, x such a tensor */
bool store_plain(const Comp *c, int rank, int *axis);    /* every dimension is one bare axis; axis[d] (may be NULL) */
static inline uint32_t axes_mask(int n) { return n >= 32 ? ~0u : (1u << n) - 1; }
static inline uint32_t free_axes(const Comp *c) { return axes_mask(c->n_axes) & ~c->red; }
/* the free axes of c that are in `of`, from the slowest in the result's memory to the fastest; returns how many */
int store_order(const Graph *g, const Comp *c, uint32_t of, int *out);
/* the axes of a map, the largest coefficient first (of equal ones the first); returns how many. axis[MAX_AXES] */
int aff_order(const Affine *a, int *axis);
/* c gets this body and keeps the reduced axes that it has; without any, c becomes a map */
void comp_replace_body(Graph *g, Comp *c, const Expr *body);
/* points of a set of axes, the batch counted as `batch`; saturates at 1e18 */
double points(const Ext *ext, uint32_t axes, double batch);
enum { TYPICAL_BATCH = 512 };                            /* where a choice depends on how large the batch is */

/* Number the axes by first appearance, in the store map (if `store`), then in the body, then the rest: number[axis] =
 * 0, 1 ... Within an affine map the largest coefficient comes first. Two Comps that differ only in how their axes are
 * numbered get the same Canon (unless a sum holds equal operands in another order). */
typedef struct {
    int number[MAX_AXES];
    Reducer reducer;
    int n_axes, rank;
    Ext ext[MAX_AXES];
    uint32_t red;
    const Expr *body;
    const Affine *store[MAX_RANK];                       /* all NULL when the store was left out */
    uint64_t hash;
} Canon;
Canon comp_canon(Graph *g, const Comp *c, bool store);
bool canon_equal(const Canon *a, const Canon *b);

/* ---- products: expr = scale * factor[0] * factor[1] * ... where a factor is no product; guard[i]: the product is 0
 * where the guard is false (from where(guard, product, 0)), and is not to be evaluated there */
enum { MAX_FACTORS = 16 };
typedef struct {
    double scale;
    const Expr *factor[MAX_FACTORS], *guard[MAX_FACTORS];
    int n, n_guard;
} Product;
bool product_of(Graph *g, const Expr *e, Product *p);    /* false: more than MAX_FACTORS */
const Expr *product_expr(Graph *g, double scale, const Expr *const *factor, int n);

/* ---- contractions (pass/sides.c): a sum of scale * load * load that splits into two sides. Fills axes by role as
 * bit sets; false when c is none. After pass_sides every contraction is one of these. */
typedef struct {
    uint32_t batch, m, n, k;
    const Expr *a, *b;
    double scale;
} Sides;
bool comp_sides(Graph *g, const Comp *c, Sides *s);
/* A sum or a map of scale * load * load: only a, b and scale. */
bool comp_pair(Graph *g, const Comp *c, Sides *s);
/* What a contraction of a batch of matrices becomes where A has one row, with or without an axis for it: a row times a matrix;
 * or the product of two rows, where the sum would be over that row, k = {}. By themselves they are no contractions to anyone. */
bool comp_row(Graph *g, const Comp *c, Sides *s);
#endif
