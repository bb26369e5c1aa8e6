/* vec.h -- building one function: integers for addresses, vectors of f32 for values, loops that carry values.
 *
 * Every float is a vector of `lanes` elements, also one that is the same in all lanes (a loaded scalar, the sum of a
 * row): so there is one kind of arithmetic. Integers are i64 scalars (addresses, loop counters) or i32 vectors.
 * Constants fold while they are built, and nothing relies on a later optimisation pass. */
#ifndef CPU_VEC_H
#define CPU_VEC_H
#include "cpu/llvm.h"

/* Values the whole function uses are computed once, in its entry block; see at_entry. */
typedef struct Gen {
    Target *t;
    Arena *arena;
    LLVMBuilderRef b;
    V fn;
    V start;                           /* the branch that ends the entry block */
    V point;                           /* code goes in front of this instruction; NULL: to the end of its block */
    V batch, task, scratch, bufs;      /* parameters of a kernel; task and after are NULL in a tasks function */
    ARRAY(struct KnownPoly { Poly p; V v; }) polys;
    ARRAY(struct KnownBuf { int arg; V v; }) buffers;
} Gen;

/* void fn(ptr bufs, i64 batch, i64 task, ptr scratch); i64 fn(i64 batch); or a local helper with given types */
void gen_kernel(Gen *g, const char *name);
void gen_tasks(Gen *g, const char *name);
void gen_helper(Gen *g, const char *name, Ty result, Ty *param, int n);
void gen_end(Gen *g, V result);        /* returns; NULL for nothing */

V gen_buffer(Gen *g, int arg);         /* bufs[arg] */
V gen_poly(Gen *g, Poly p);            /* c0 + c1 B + c2 B^2 */

/* Builds elsewhere: before an instruction that was emitted earlier. build_back returns to the old place. */
typedef struct { Block at; V point; } Mark;
Mark build_before(Gen *g, V instruction);
void build_back(Gen *g, Mark m);

/* ---- integers (i64 scalars; the operations take vectors as well) */
V ic(Gen *g, int64_t c);
bool ic_value(V v, int64_t *c);        /* the constant an i64 is */
V i_add(Gen *g, V a, V b);
V i_sub(Gen *g, V a, V b);
V i_mul(Gen *g, V a, V b);
V i_div(Gen *g, V a, V b);             /* of non-negative numbers */
V i_rem(Gen *g, V a, V b);
V i_ceil_div(Gen *g, V a, V b);
V i_min(Gen *g, V a, V b);
V i_max(Gen *g, V a, V b);
V i_less(Gen *g, V a, V b);
V select_(Gen *g, V cond, V yes, V no);
V i_floor_div(Gen *g, V a, int64_t by);   /* by > 0; towards minus infinity; scalars or vectors */
V i_floor_mod(Gen *g, V a, int64_t by);   /* in [0, by) */

/* ---- memory */
V gep(Gen *g, Ty element, V p, V index);
V load(Gen *g, Ty type, V p, unsigned align);
void store(Gen *g, V v, V p, unsigned align);

/* ---- vectors */
V fc(Gen *g, double c);                /* f32 in all lanes */
V vic(Gen *g, int64_t c);              /* i32 in all lanes */
V lanes_iota(Gen *g, Ty vector);       /* 0, 1, 2, ... of a vector type of integers */
V splat(Gen *g, V scalar);
V lane(Gen *g, V v, int i);
V mask_first(Gen *g, V n);             /* lanes below n, an i64; NULL when n is a constant >= lanes */
V f_add(Gen *g, V a, V b);
V f_sub(Gen *g, V a, V b);
V f_mul(Gen *g, V a, V b);
V f_div(Gen *g, V a, V b);
V f_fma(Gen *g, V a, V b, V c);        /* a * b + c; rounded once where the machine can */
V f_neg(Gen *g, V a);
V f_abs(Gen *g, V a);
V f_sqrt(Gen *g, V a);
V f_floor(Gen *g, V a);
V f_max(Gen *g, V a, V b);             /* NaN when either is */
V f_min(Gen *g, V a, V b);
V f_max_const(Gen *g, double c, V x);  /* one instruction; NaN stays NaN */
V f_min_const(Gen *g, double c, V x);
V f_cmp(Gen *g, LLVMRealPredicate p, V a, V b);
V as_int(Gen *g, V v);                 /* bits of f32 as i32, of f64 as i64 */
V as_float(Gen *g, V v);
V f_round_bf16(Gen *g, V a);           /* to the nearest bfloat16, ties to even, as f32; by integers: exact everywhere */
V f_to_bf16(Gen *g, V a);              /* the upper halves, i16: a is rounded already */
V f_from_bf16(Gen *g, V a);            /* any number of i16 lanes, or one i16 */

/* All lanes get the result, combined as a balanced tree over lanes in a fixed order. */
typedef V (*Combine)(Gen *g, V a, V b);
V across(Gen *g, V v, Combine f);
V rotate_lanes(Gen *g, V v, int by);   /* lane l gets lane l ^ by */

/* ---- loops and branches. Carried values come in as `carry` and are replaced: by loop_begin with the values of this
 * round, by loop_end with those after the last. A loop that may have no round is skipped by a test in front. */
enum { MAX_CARRY = 64 };
typedef struct Loop {
    V i, hi;
    int64_t step;
    int n;
    V phi[MAX_CARRY], first[MAX_CARRY];
    V lo;
    Block before, body;
    V branch;                          /* ends the block before the loop: code for all rounds goes in front of it */
    Block after;                       /* NULL: runs at least once */
    bool aligned;                      /* its code begins on a cache line: set it before loop_end, where rounds are short and many */
} Loop;
void loop_begin(Gen *g, Loop *l, V lo, V hi, int64_t step, V *carry, int n);
void loop_end(Gen *g, Loop *l, V *carry);

typedef struct Branch {
    V branch;
    Block yes_end, no_end, no, after;
    int n;
    V yes[MAX_CARRY], in[MAX_CARRY];
} Branch;
/* if (cond) { ... } else { ... }: if_else may be left out; carry as in loops */
void if_begin(Gen *g, Branch *f, V cond, V *carry, int n);
void if_else(Gen *g, Branch *f, V *carry);
void if_end(Gen *g, Branch *f, V *carry);

/* ---- math.c: accurate to a few units in the last place; NaN in, NaN out. Bounds are stated there. */
V m_exp(Gen *g, V x);
V m_ln(Gen *g, V x);
V m_erf(Gen *g, V x);
V m_tanh(Gen *g, V x);
V m_sin(Gen *g, V x);
V m_cos(Gen *g, V x);
V m_pow(Gen *g, V x, V y);
V m_pow_const(Gen *g, V x, double y);
#endif
