/* pool.h -- inside ir/: the hash-consing tables, and a map from pointer to pointer for walks over shared
 * expressions. A walk over an expression that is a graph visits each node once with a Memo. */
#ifndef IR_POOL_H
#define IR_POOL_H
#include "ir/graph.h"

typedef struct Pool {
    const Expr **expr;                   /* open addressing, cap a power of two */
    const Affine **aff;
    uint32_t n_expr, cap_expr, n_aff, cap_aff;
} Pool;

/* The node as it stands: no rule is applied. */
const Expr *expr_raw(Graph *g, Op op, const Expr *a, const Expr *b, const Expr *c);

const Affine *aff_only(Graph *g, const Term *t);               /* the map of this one term, coefficient included */

/* Structural order, the same in every graph that holds equal text; 0 exactly when the pointers are equal. */
int aff_compare(const Affine *a, const Affine *b);
int expr_load_compare(const Expr *a, const Expr *b);

static inline uint64_t hash_mix(uint64_t h, uint64_t v)
{
    h = (h ^ v) * 0x9E3779B97F4A7C15u;
    return h ^ (h >> 29);
}

static inline int64_t sat_add(int64_t a, int64_t b)
{
    int64_t r;
    return checked_add(a, b, &r) ? r : a < 0 ? INT64_MIN : INT64_MAX;
}

static inline int64_t sat_mul(int64_t a, int64_t b)
{
    int64_t r;
    return checked_mul(a, b, &r) ? r : (a < 0) != (b < 0) ? INT64_MIN : INT64_MAX;
}

static inline int64_t floor_div(int64_t a, int64_t k)          /* k > 0 */
{
    return a / k - (a % k < 0);
}

static inline int64_t floor_mod(int64_t a, int64_t k)          /* k > 0; 0 .. k-1 */
{
    return a % k < 0 ? a % k + k : a % k;
}

/* Start as zero with memo_init, end with memo_free. Small walks stay on the stack. */
enum { MEMO_SMALL = 64 };
typedef struct Memo {
    Arena arena;
    const void **key, **value;
    int n, cap;
    const void *small_key[MEMO_SMALL], *small_value[MEMO_SMALL];
} Memo;

void memo_init(Memo *m);
void memo_free(Memo *m);
const void *memo_get(const Memo *m, const void *key);           /* NULL: not there */
void memo_put(Memo *m, const void *key, const void *value);     /* key is new, value not NULL */
#endif
