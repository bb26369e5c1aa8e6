/* graph.h -- the one-node graph.
 *
 * A Comp is one equation over its own axes:
 *
 *     out[store(free axes)] = reducer over (reduced axes) of body(all axes)
 *
 * body is a scalar expression over loads T[affine, ...]; an affine index map may hold an integer load (gather)
 * and, in what the gradient makes, `div k` and `mod k`. A tensor is defined by one or more Comps ("pieces")
 * whose store images are disjoint dense boxes that cover it. softmax is logsumexp and a map; mean is a sum
 * times a constant (or over the batch extent).
 *
 * Axes have no names: axis k of a Comp is number k of its ext[]. Expressions and affine maps are hash-consed
 * per graph, so equal means the same pointer, and they may be shared by Comps (axis numbers are local to the
 * Comp that holds them). Everything lives in the graph's arena. */
#ifndef IR_GRAPH_H
#define IR_GRAPH_H
#include "../base.h"     /* compiler/base.h: Arena, Text */
#include "front/diag.h"  /* Span */
#include <stdbool.h>
#include <stdint.h>

typedef int64_t Ext;                     /* an extent: n >= 0, or EXT_BATCH */
enum { EXT_BATCH = -1, MAX_RANK = 8, MAX_AXES = 16 };

typedef enum Op {
#define OP(id, ...) OP_##id,
#include "ir/ops.def"
    N_OPS
} Op;
typedef enum Reducer {
#define REDUCER(id, ...) RED_##id,
#include "ir/reducers.def"
    N_REDUCERS
} Reducer;
typedef struct OpInfo { const char *name; int arity; bool compares; const char *doc; } OpInfo;
extern const OpInfo op_info[N_OPS];
double op_eval(Op op, double x, double y, double z);     /* unused arguments are ignored */
extern const char *const reducer_name[N_REDUCERS];

/* F64: scalars the host computes (learning rate, bias corrections). BF16: what is stored, and what a reader gets, is the
 * value rounded to bfloat16, to nearest, ties to even; all arithmetic is as for F32. U8: whole numbers 0 .. 255, as pictures
 * have them; inputs alone. */
typedef enum { DT_F32, DT_F64, DT_I32, DT_BF16, DT_U8, N_DTYPES } DType;
int    dtype_size(DType d);              /* bytes of an element */
bool   dtype_real(DType d);              /* F32 or BF16: what kernels compute with */
bool   dtype_whole(DType d);             /* I32 or U8: what may be an index */
double round_bf16(double x);
typedef enum { T_TEMP, T_INPUT, T_PARAM, T_STATE } TensorKind;

typedef struct Affine Affine;
typedef struct Expr Expr;
typedef enum { AT_AXIS, AT_LOAD, AT_DIV, AT_MOD } AtomKind;
typedef struct Term {
    AtomKind kind;
    int axis;                /* AT_AXIS */
    int64_t by;              /* AT_DIV, AT_MOD: floor division, non-negative remainder */
    const Affine *arg;       /* AT_DIV, AT_MOD */
    const Expr *load;        /* AT_LOAD: an E_LOAD of an i32 or u8 tensor */
    int64_t coef;            /* never 0 */
} Term;
struct Affine { uint32_t id; int64_t c; int n; Term term[]; };      /* c + sum coef * atom; terms sorted */

typedef enum { E_CONST, E_EXTENT, E_INDEX, E_LOAD, E_OP } ExprKind;
struct Expr {
    uint32_t id;
    ExprKind kind;
    Op op;                   /* E_OP */
    int tensor;              /* E_LOAD */
    int n;                   /* E_OP: arity; E_LOAD: rank */
    uint32_t axes;           /* bit k: axis k occurs (inside index maps too) */
    int size;                /* nodes of the expression written out as a tree; at most 2^30 */
    double c;                /* E_CONST */
    Ext ext;                 /* E_EXTENT: the extent as a number */
    const Affine *aff;       /* E_INDEX: the map's value as a number */
    union { const Expr *arg[3]; const Affine *idx[MAX_RANK]; };
};

typedef enum { INIT_CONST, INIT_NORMAL, INIT_UNIFORM } InitKind;
typedef struct { InitKind kind; double a, b; } Init;   /* CONST a; NORMAL mean a, standard deviation b; UNIFORM [a, b) */

typedef struct Tensor {
    const char *name;        /* parameters: the state_dict name; others: a readable base name, not unique */
    int rank;
    Ext shape[MAX_RANK];
    TensorKind kind;
    DType dtype;
    Init init;               /* PARAM, STATE */
    Span span;               /* where it was defined */
    bool again;              /* holds what another tensor held before it; not to be one with that (pass/remat.c) */
} Tensor;

typedef struct Comp {
    int out;                 /* tensor */
    int n_axes;
    Ext ext[MAX_AXES];
    uint32_t red;            /* bit k: axis k is reduced */
    Reducer reducer;
    const Expr *body;
    const Affine *store[MAX_RANK];      /* over free axes; rank of `out` of them */
    Span span;               /* the equation it came from; the gradient of a Comp keeps its span */
    const char *tag;         /* scope path of the layer, for reports ("visual.transformer.resblocks.3.ln_1"); gradient adds ' */
} Comp;

typedef struct { const char *name; int tensor; } Output;            /* named result */
typedef struct { int target, value; } Update;                       /* PARAM or STATE `target` becomes `value` after the step */

typedef struct Graph {
    Arena *arena;
    Sources *sources;        /* to print spans; may be NULL */
    Tensor *tensor; int n_tensor, cap_tensor;
    Comp **comp; int n_comp, cap_comp;  /* in definition order after graph_toposort */
    Output *output; int n_output, cap_output;
    Update *update; int n_update, cap_update;
    struct Pool *pool;       /* hash tables of expressions and affine maps */
} Graph;

Graph *graph_new(Arena *a, Sources *s);
/* A copy that passes may change while g stays as it is; expressions, names and the arena are shared. */
Graph *graph_clone(const Graph *g);
int  graph_tensor(Graph *g, const char *name, int rank, const Ext *shape, TensorKind kind, DType dtype);
Comp *graph_comp(Graph *g, int out, int n_axes, const Ext *ext, uint32_t red, Reducer r, const Expr *body,
                 const Affine *const *store, Span span, const char *tag);
void graph_output(Graph *g, const char *name, int tensor);
void graph_update(Graph *g, int target, int value);
bool graph_is_root(const Graph *g, int tensor);                     /* named output or the value of an update */
void graph_toposort(Graph *g);           /* stable: producers before users, pieces of one tensor together */
int  graph_dce(Graph *g);                /* drops Comps no output or update needs; returns how many */

/* Producers and users of every tensor; recompute after a change. Freed with the arena. users: each Comp once. */
typedef struct { Comp **at; int n; } CompList;
typedef struct { CompList *pieces, *users; } GraphIndex;
GraphIndex graph_index(const Graph *g, Arena *a);

/* ---- affine maps */
const Affine *aff_const(Graph *g, int64_t c);
const Affine *aff_axis(Graph *g, int axis);
const Affine *aff_term(Graph *g, int axis, int64_t coef, int64_t c);
const Affine *aff_load(Graph *g, const Expr *load);                 /* also takes E_INDEX and a whole E_CONST */
const Affine *aff_add(Graph *g, const Affine *a, const Affine *b);
const Affine *aff_scale(Graph *g, const Affine *a, int64_t k);
const Affine *aff_div(Graph *g, const Affine *a, int64_t k);        /* k > 0; multiples of k leave the bracket */
const Affine *aff_mod(Graph *g, const Affine *a, int64_t k);
int  aff_plain(const Affine *a);         /* the axis when the map is one bare axis, else -1 */
uint32_t aff_axes(const Affine *a);
bool aff_is_const(const Affine *a, int64_t *c);
bool aff_has_atoms(const Affine *a);     /* holds a load, div or mod */
/* values [lo, hi] over the axes' extents; batch counts as `batch`; false when a load makes it unknown */
bool aff_range(const Affine *a, const Ext *ext, int64_t batch, int64_t *lo, int64_t *hi);

/* ---- expressions. expr_op simplifies: constants fold, 0 and 1 vanish, signs and `where(.., 0)` float outwards.
 * A factor written as the constant 0 makes a product 0 whatever the other factor is. */
const Expr *expr_const(Graph *g, double c);
const Expr *expr_extent(Graph *g, Ext e);                           /* E_CONST unless e is the batch */
const Expr *expr_index(Graph *g, const Affine *a);                  /* E_CONST when the map is constant */
const Expr *expr_load(Graph *g, int tensor, const Affine *const *idx);
const Expr *expr_op(Graph *g, Op op, const Expr *a, const Expr *b, const Expr *c);   /* unused arguments NULL */
bool expr_is_const(const Expr *e, double *c);
bool expr_is_whole(const Expr *e, int64_t *n);                      /* a constant without a fraction, up to 1e9 either way */
int  expr_size(const Expr *e);
bool expr_has_load(const Expr *e);
/* axis k becomes map[k] (NULL: stays); n entries */
const Expr *expr_subst(Graph *g, const Expr *e, const Affine *const *map, int n);
const Affine *aff_subst(Graph *g, const Affine *a, const Affine *const *map, int n);
/* every distinct load, those inside index maps included, in order of first appearance; returns the count, fills up to cap */
int  expr_loads(const Expr *e, const Expr **out, int cap);
int  comp_loads(const Comp *c, const Expr **out, int cap);          /* body and store */
const Expr **comp_all_loads(const Comp *c, Arena *a, int *n);       /* the same, all of them, in a */
/* rebuild with f applied to each load (after its own index maps were rebuilt); f may return any expression for loads
 * in value position; for loads inside index maps it must return E_LOAD or E_INDEX (or a whole E_CONST) */
typedef const Expr *(*LoadFn)(Graph *g, const Expr *load, void *ctx);
const Expr *expr_map_loads(Graph *g, const Expr *e, LoadFn f, void *ctx);
const Affine *aff_map_loads(Graph *g, const Affine *a, LoadFn f, void *ctx);

/* ---- store images. One dimension as injective dense mixed radix (coefficients 1, n0, n0*n1 ..., batch only on top). */
typedef struct { int64_t lo; Ext n; } Box;
bool store_box(const Affine *const *store, int rank, const Ext *ext, Box *box);      /* false: not a dense injective box */
/* one dimension: the axes from the fastest (coefficient 1) to the slowest; axes of extent 1 are left out.
 * Returns how many, or -1 when the map is not of this form. order[MAX_AXES]; box may be NULL. */
int store_radix(const Affine *a, const Ext *ext, int *order, Box *box);

/* ---- text: print -> parse -> print is the identity. */
void graph_print(const Graph *g, Text *out);
void comp_print(const Graph *g, const Comp *c, Text *out);
void expr_print(const Graph *g, const Expr *e, Text *out);
Graph *graph_parse(Arena *a, const char *text, char *error, size_t error_size);      /* NULL and a message on bad text */

/* ---- verify: what verify.c lists holds; else false and a sentence naming the Comp. Run after every pass. */
bool graph_verify(Graph *g, const char *after, Text *why);

/* ---- the reference interpreter, f64, as dull as possible */
typedef struct { double **value; int64_t batch; } Env;   /* value[tensor]: row-major, or NULL; owned by the caller's arena */
int64_t tensor_count(const Graph *g, int tensor, int64_t batch);
bool interp_run(Graph *g, Env *env, Arena *a, Text *why);            /* inputs, params, state given; fills the rest in order */
/* one point: value of Comp `c` at the given values of all its free axes (entries of reduced axes are ignored) */
double interp_point(Graph *g, const Comp *c, const int64_t *axis, const Env *env);

/* ---- gradient (grad.h has the rules): appends Comps; grads[i] = tensor holding d loss / d wrt[i], or -1 when it does not
 * depend. The loss has rank 0. false and a sentence for what has no gradient (scatter); the graph is then not usable. */
bool op_has_gradient(Op op);             /* the row of ops.def has a rule; the gradient of the others is 0 */
bool grad_append(Graph *g, int loss, const int *wrt, int n, int *grads, Text *why);
#endif
