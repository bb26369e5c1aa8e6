/* lower.h -- inside the CUDA back end: what the lowerings of the kernel classes share.
 *
 *   access.c   where things are (see lower/places.h): what a kernel touches, sizes as C text.
 *   expr.c     what they are worth, as C text: scalar expressions in a scope, which says what each axis is. Scopes nest
 *              as the loops do, each with a text of its own; a value is written in the outermost scope that knows all it
 *              needs, and so stands in front of the inner loops.
 *   acc.c      reducers: accumulators, and joining them across a warp and a block in a fixed order.
 *   map.c sets.c row.c reduce.c scatter.c contract.c score.c    the threads, loops and launches of each class.
 *
 * A thread may hold `width` neighbouring points of one axis at once, so that its loads and stores are 8 or 16 bytes. */
#ifndef CUDA_LOWER_H
#define CUDA_LOWER_H
#include "cuda/tuned.h"
#include "lower/level.h"

enum { CU_WIDTH = 4, CU_MAX_LAUNCH = 4, CU_WARP = 32 };

/* What a kernel became; kept by signature. Launch i runs kernel first + i on the kernel's arguments, with the workspace
 * (if it has one) after them. */
typedef struct CuLowered {
    uint64_t signature;
    int n, first;
    Poly workspace;                    /* f32 elements; 0: none */
    TicGpuHopper hopper;               /* of the first launch: how sm_90a's text is launched; threads 0: as the other */
} CuLowered;

/* the architectures a file is for: all; all but sm_90a; that alone */
typedef enum { FOR_ALL, FOR_OTHERS, FOR_HOPPER } CuFor;

/* Sizes that a text does not know: it gets them as e0, e1, .. Equal ones have one name, unless they are to be kept apart. */
typedef struct CuSizes { int n; bool apart; int32_t at[TIC_GPU_SIZES]; } CuSizes;

struct CudaModule {
    Arena *arena;
    CudaTarget target;
    const char *trial_arch;            /* a kernel is lowered with this choice on that architecture; NULL: as the table has it */
    const TunedChoice *trial;
    ARRAY(CudaKernel) kernels;
    ARRAY(struct CuFile { const char *name, *text; CuFor is_for; const char *own; } ) files;   /* own: l->own of FOR_HOPPER */
    Text shared;                       /* the file that the next kernel's text may be added to, and its number; n 0: none */
    int shared_at;
    ARRAY(CuLowered) done;
};

/* The lowering of one kernel. */
typedef struct Cu {
    CudaModule *m;
    Arena *arena;
    const Fused *f;
    const Graph *graph;
    Places places;
    const Kernel *k;                   /* of many (sets): their form, as f and graph are */
    const Sets *sets;                  /* NULL: one, or another class */
    const Comp *comp;                  /* the member being evaluated */
    Text file;                         /* the kernel's text so far */
    int at;                            /* the number of the file it will be in */
    const char *own;                   /* sm_90a's own text of the same launches, KERNEL and JOIN in it; NULL: none */
    CuSizes own_sizes, *sizes;         /* sizes: where numbers of the text being written go; NULL: into the text */
    int n_name;                        /* temporaries have numbers */
    bool fast;                         /* it has bf16 tensors: exp, erf and 1 / sqrt to about 2^-22 will do */
    CuLowered *out;
    Text *why;
    bool failed;
} Cu;

void cu_fail(Cu *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

bool cu_map(Cu *l);
bool cu_sets(Cu *l);                   /* many maps, or totals, of one form */
bool cu_row(Cu *l);
bool cu_reduce(Cu *l);
bool cu_scatter(Cu *l);
bool cu_contract(Cu *l);
bool cu_score(Cu *l);
bool cu_meet(Cu *l);                   /* SCORE kernels of the pairs of a batch */
bool cu_meet_taken(Graph *g, const Kernel *k);
/* cuda_choices of one class */
int  cu_contract_choices(Cu *l, const char *arch, TunedKey *key, TunedChoice *out, int cap);
int  cu_score_choices(Cu *l, const char *arch, TunedKey *key, TunedChoice *out, int cap);
/* What was measured for a kernel; NULL: the rules decide. The kernel's key is `key` but for the architecture. */
const TunedChoice *cu_tuned(const Cu *l, const char *arch, TunedKey key);

/* ---- access.c */
bool poly_small(Poly a);               /* fits an i32 up to a batch of 32768 */
const char *cu_poly(Cu *l, Poly p);    /* a C expression of B, i64 where it must; in brackets unless a number or a name */
const char *cu_number(Cu *l, int64_t n);            /* n as text; is_new: not under the name of another size */
void cu_access_loads(Cu *l, const Comp *c, Accesses *out);       /* loads from memory; members' only when placed */
void cu_access_store(Cu *l, const Comp *c, Accesses *out);
int  cu_best_lanes(const Accesses *acc, const Group *grp, int n);        /* the group neighbouring threads run along; -1 */
/* 4, 2 or 1: how many neighbouring points of the axis (extent n) one access can take in most of acc */
int  cu_width(const Accesses *acc, Group lane);

/* ---- expr.c */
typedef enum { CV_F, CV_I, CV_B } CuKind;                        /* float, i32 or i64, condition */
/* wide: i64. pair[i]: components 2 i and 2 i + 1 as two bf16, of a value that has been rounded (NULL: of another) */
typedef struct CuVal { CuKind kind; bool wide, uniform; const char *v[CU_WIDTH], *pair[CU_WIDTH / 2]; } CuVal;

typedef struct CuScope CuScope;
struct CuScope {
    Level level;                       /* its values are CuVals */
    Cu *l;
    Text body;
    const char *at[MAX_AXES];          /* axes this scope binds: a name or a number */
    bool wide[MAX_AXES];               /* the name is an i64 */
    int lane, width;                   /* points lane, lane + 1, .. lane + width - 1 at once; lane -1: one point */
    ARRAY(struct CuPtr { const void *key; const char *p; }) ptrs;
};

void cu_scope_root(CuScope *s, Cu *l);
void cu_scope_in(CuScope *s, CuScope *outer);
/* appends the inner scope's text to the outer one's, `head` before and `tail` after it (a block with its braces) */
void cu_scope_close(CuScope *s, const char *head, const char *tail);
void cu_bind(CuScope *s, int axis, const char *value, bool wide);
void cu_bind_zero(CuScope *s, uint32_t axes);
/* binds the axes of groups to the digits of a flat index (a name), the last group fastest; `without` (or -1) left out */
void cu_bind_digits(CuScope *s, const Group *grp, int n, int without, const char *flat, bool wide);
void cu_line(CuScope *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *cu_axis(CuScope *s, int axis);                       /* as the innermost scope that binds it does */
const char *cu_name(Cu *l, const char *prefix);                  /* a fresh one: "t12" */
const char *cu_type(DType d);                                     /* of an element, in CUDA C */
const char *cu_float(Cu *l, double c);                           /* a literal */

CuVal cu_eval(CuScope *s, const Expr *e);
CuVal cu_eval_member(CuScope *s, const Comp *c);                 /* c's body; of a map, rounded as its tensor is */
CuVal cu_round(CuScope *s, const Comp *c, CuVal v);              /* v as readers of c's tensor see it */
const char *cu_f(CuScope *s, CuVal v, int component);            /* as a float */
const char *cu_i(CuScope *s, CuVal v, int component);            /* as an integer */
void  cu_member_is(CuScope *s, const Comp *c, CuVal v);          /* loads of c's point in this scope yield v */
void  cu_load_is(CuScope *s, const Expr *load, CuVal v);
/* A load of s->width > 1 neighbours as one aligned access, with its type and address; false: it is not one. Then what a
 * name of that type holds, as the value of the load. */
bool  cu_run(CuScope *s, const Expr *load, const char **type, const char **at);
CuVal cu_run_value(CuScope *s, const Expr *load, const char *name);
const char *cu_index(CuScope *s, const Affine *a, int component);        /* an index map's value */
/* an expression for the address of element `component` */
const char *cu_pointer(CuScope *s, int tensor, const Affine *const *idx, const void *key);
void  cu_store(CuScope *s, const Comp *c, CuVal v);

/* x[0 .. width - 1] to the floats at `to`, an aligned run: width 1, 2 or 4 */
void  cu_store_floats(CuScope *s, const char *to, int width, const char *const *x);

void cu_map_body(CuScope *s);                                    /* map.c: a MAP at the points of the scope */

/* ---- acc.c: an accumulator is one or two names (argmax: value and position; logsumexp: maximum and sum) */
typedef struct CuAcc { Reducer r; const char *v[2]; } CuAcc;
int  cu_acc_width(Reducer r);
const char *cu_acc_first(Reducer r, int k);                      /* what number k of an empty one is */
CuAcc cu_acc_new(CuScope *s, Reducer r);                         /* declares it, empty */
void cu_acc_take(CuScope *s, CuAcc a, const char *x, const char *position);
void cu_acc_join(CuScope *s, CuAcc a, const char *const *other); /* other: as many expressions; order a, other */
void cu_acc_warp(CuScope *s, CuAcc a, int threads);              /* each `threads` lanes side by side hold their result */
void cu_acc_block(CuScope *s, CuAcc a, int threads, const char *shared, const char *tid);    /* all threads do */
CuVal cu_acc_value(CuScope *s, CuAcc a);

/* ---- columns.c: members that are sums over the whole domain, by column; all keep the same points. A grid of `parts` blocks
 * goes through the domain. In shared memory each of a block's `slots` groups of threads adds up columns of its own, so a
 * thread's columns must always be the same ones; they are joined in order, once at the end of a block and once in a second
 * launch. The cut depends on shapes and the batch alone. */
typedef struct CuColumns {
    Cu *l;
    int n, *number;                    /* by member: 0, 1 .. or -1 */
    const Group *grp;                /* what is kept: the order of a member's columns */
    int n_grp;
    uint32_t zero;
    int64_t points;                    /* columns of one member */
    int slots, parts;
} CuColumns;
bool cu_columns_find(CuColumns *c, Cu *l);                       /* false: there are none */
/* decides slots, of at most `most`, and sets the workspace; grp, n_grp, zero are the caller's */
void cu_columns_place(CuColumns *c, int most);
int  cu_columns_bytes(const CuColumns *c);                       /* of shared memory */
/* `sums`, at byte `at` of shared memory: the thread's group's; needs `slot`. All threads of the block come here. */
void cu_columns_begin(CuColumns *c, CuScope *s, int at, int threads);
void cu_columns_add(const CuColumns *c, CuScope *s, int member, const char *column, CuVal v);    /* v at columns `column` on */
void cu_columns_end(CuColumns *c, CuScope *s, int at, int threads);      /* to the workspace; all threads come here */
void cu_columns_join(CuColumns *c);                              /* the second launch */

/* ---- emit.c */
/* Begins launch `part` of the kernel: the signature goes to the file when the body is known. */
void cu_launch(Cu *l, const char *part, CuScope *body, TicGrid grid, int threads, int blocks, int shared);
/* The same for a template: returns the kernel's name; its text is the caller's. */
const char *cu_launch_template(Cu *l, const char *part, TicGrid grid, int threads, int shared);
const char *cu_kernel_name(const Cu *l, const char *part);         /* of the next launch */
/* "const float *TC_RESTRICT ", the type of an argument; without restrict: as in a cast */
const char *cu_arg_type(const Cu *l, int i, bool is_restrict);
const char *cu_params(const Cu *l, bool names_only);             /* "float *p0, ..., i32 B" or "p0, ..., B" */
TicGrid cu_grid(Poly points, int64_t per_block);
void cu_grid_times(TicGrid *g, Poly points, int64_t per_block);
#endif
