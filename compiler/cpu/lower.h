/* lower.h -- inside the CPU back end: what the lowerings of the kernel classes share.
 *
 * Three layers lie between a kernel and the vector builder:
 *
 *   access.c  where things are (see lower/places.h): buffers and what a kernel touches of them.
 *   expr.c    what they are worth: scalar expressions evaluated in a scope, which says what each axis is: a number,
 *             or the lanes of a vector. Scopes nest as the loops do; a sub-expression is computed in the outermost
 *             scope that knows all it needs, in front of the loop.
 *   map.c sets.c row.c reduce.c scatter.c contract.c host.c    the loops of each class and how they are cut into tasks. */
#ifndef CPU_LOWER_H
#define CPU_LOWER_H
#include "cpu/vec.h"
#include "lower/level.h"

enum { MAX_LAUNCH = 2, MAX_WORKSPACE = 1, MAP_TASK_POINTS = 8192 };

/* What a kernel became; kept by signature. Launch i runs kernel[i] on the arguments of the kernel, with the workspace
 * (if it has one) after them. */
typedef struct Lowered {
    uint64_t signature;
    int n, kernel[MAX_LAUNCH];
    int main;                          /* the launch that does the kernel's arithmetic */
    Poly workspace;                    /* f32 elements, of one power of the batch; 0: none */
} Lowered;

/* A part is an LLVM module in a context of its own, so that parts become machine code on a thread each. A kernel and the
 * helpers it calls are in one part; the table of kernels, in part 0, knows the others by name. */
typedef struct Part {
    Target *t;
    Gen gen;
    ARRAY(struct Helper { const char *name; V fn; }) helpers;    /* functions that kernels of this part share */
    unsigned blocks;                   /* basic blocks so far: its share of the work */
} Part;

struct CpuModule {
    Arena *arena;
    Part *part;
    int n_part;
    bool lean;
    ARRAY(struct KernelFn { V run, tasks; int part; }) kernels;
    ARRAY(Lowered) done;
};

/* Where a tensor is: elements of `dtype` at base, in a layout. */
typedef struct Mem { V base; DType dtype; Layout at; } Mem;

/* One member of a kernel. */
typedef struct Member {
    const Comp *c;
    bool kept;                         /* stored at `mem` once it is computed, and from then on placed */
    Mem mem;                           /* of one that is placed */
} Member;

/* The lowering of one kernel. */
typedef struct Low {
    CpuModule *m;
    Part *part;
    Gen *g;                            /* the part's */
    Arena *arena;
    const Fused *f;
    const Graph *graph;
    Places places;
    const Kernel *k;                   /* of many (sets): their form, as f and graph are */
    const Sets *sets;                  /* NULL: one, or another class */
    Member *member;
    int n_member;
    const Comp *comp;                  /* the member being evaluated */
    V rounded;                         /* the last value rounded to bf16: it is not rounded again to be stored */
    int n_kernels;
    Lowered *out;
    const char *name;
    Text *why;
    bool failed;
} Low;

void low_fail(Low *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

bool lower_map(Low *l);
bool lower_sets(Low *l);               /* many maps, or totals */
bool lower_row(Low *l);
bool lower_reduce(Low *l);
bool lower_scatter(Low *l);
bool lower_host(Low *l);
bool lower_contract(Low *l);
bool lower_score(Low *l);
bool lower_meet(Low *l);               /* SCORE kernels of the pairs of a batch */
bool meet_taken(Graph *g, const Kernel *k);

/* columns.c: members that are sums over the whole domain. A launch of CHUNKS tasks goes through the domain, each task
 * adding to sums of its own in the workspace; a second launch joins them in order. What a task takes depends on shapes and
 * the batch alone, never on the number of threads. at: by member, the place of its sums among a task's; -1: it is none. */
typedef struct Scope Scope;
enum { CHUNKS = 32 };
typedef struct ColumnSums { Low *l; int n; int64_t *at, size; Mem *mem; } ColumnSums;
bool columns_find(ColumnSums *c, Low *l);                           /* false: there are none */
void columns_begin(ColumnSums *c, int arg);                         /* the task's sums, in buffer `arg`, begin at zero */
void columns_add(const ColumnSums *c, Scope *s, int member, V x);    /* x at s's point */
void columns_join(ColumnSums *c, int arg);                          /* the second launch */
void chunk_of(Gen *g, V n, V *lo, V *hi);                        /* what the task takes of n points */

/* row.c: members that live along rows, whose axes are the first n_row. A member of a phase reduces all further axes or
 * none of them, or is one of `columns` (may be NULL). apart (may be NULL): members that are none of these; the others find
 * them in memory, if they read them. */
typedef struct RowPlan {
    Low *l;
    int n_row, n_phase, *phase;
    bool *twice;
    const ColumnSums *columns;
    int *softmax, along;
} RowPlan;
void rows_plan(RowPlan *p, Low *l, int n_row, const bool *apart);
/* Rows from .. to - 1 of an axis; `outer` binds the rows' other axes. scratch: rows_scratch elements. Along the plan's axis
 * `along` a row ends before `end`. Members that are kept have places. */
typedef V (*RowEnd)(void *ctx, V row);
int64_t rows_scratch(int lanes, int n_member);
void rows_run_together(RowPlan *p, Scope *outer, int axis, V from, V to, V scratch, RowEnd end, void *ctx);

/* A function of the part by its name; NULL when it is not there yet. part_helper_is enters one. */
V    part_helper(const Part *p, const char *name);
void part_helper_is(Low *l, const char *name, V fn);

/* Begins the function of the next launch (its name from the kernel and `part`), and after its body the function that
 * counts its tasks. launch_tasks ends the first and begins the second; launch_end returns the count. */
void launch_begin(Low *l, const char *part);
void launch_tasks(Low *l);
void launch_end(Low *l, V tasks);

/* ---- access.c */
Mem  tensor_mem(Low *l, int tensor);
void access_comp(Low *l, const Comp *c, Accesses *out);          /* loads from memory, and the store */
void access_loads(Low *l, const Comp *c, Accesses *out);
void access_store(Low *l, const Comp *c, Accesses *out);
/* the group best taken as lanes: -1 for none at all */
int  best_lanes(const Low *l, const Accesses *acc, const Group *grp, int n);

/* ---- expr.c */
typedef enum { VAL_F, VAL_INT, VAL_INTS, VAL_BOOL } ValKind;     /* f32 lanes, i64, i32 lanes, i1 lanes */
typedef struct Val { ValKind kind; V v; } Val;

struct Scope {
    Level level;                       /* its values are Vals */
    Low *l;
    V hoist;                           /* the outer scope's values are computed before this; NULL: right here */
    V at[MAX_AXES];                    /* axes this scope binds */
    int lanes;                         /* the axis that runs along the lanes, or -1 */
    V mask;                            /* lanes in use, NULL: all */
    ARRAY(struct KnownPtr { const void *key; V p; }) ptrs;
};

void scope_root(Scope *s, Low *l);
/* A scope inside `outer`; hoist as above. */
void scope_in(Scope *s, Scope *outer, V hoist);
void scope_bind(Scope *s, int axis, V value);
void scope_zero(Scope *s, uint32_t axes);                        /* axes that are 0 here */
/* binds the axes of groups to the digits of a flat index, the last group fastest; `without` (or -1) is left out */
void scope_digits(Scope *s, const Group *grp, int n, int without, V flat);
V    scope_axis(Scope *s, int axis);

Val  eval(Scope *s, const Expr *e);
Val  eval_member(Scope *s, const Comp *c);                       /* c's body; of a map, rounded as its tensor is */
/* v, c's value in f32, as readers of its tensor see it: rounded when that is bf16. eval_member has done it. */
Val  member_value(Scope *s, const Comp *c, Val v);
V    to_f(Scope *s, Val v);
void member_is(Scope *s, const Comp *c, Val v);                  /* loads of c's point in this scope yield v */
V    eval_index(Scope *s, const Affine *a);                      /* i64; of axes that are numbers in this scope */
/* address of element 0 (lane 0) of an access; key: identifies it within the kernel */
V    address(Scope *s, const Mem *p, const Affine *const *idx, const void *key);
/* stores v at c's point: into its tensor's buffer, or any place */
void store_member(Scope *s, const Comp *c, Val v);
void store_at(Scope *s, const Mem *p, const Affine *const *idx, const void *key, Val v);
/* what lies there; `further` (or NULL) elements on */
Val  load_at(Scope *s, const Mem *p, const Affine *const *idx, const void *key, V further);

/* Runs body for `axis` from lo to hi, `lanes` at a time; the last round may have a mask. `unroll` bodies side by side
 * (body's `part` 0 .. unroll - 1), each with its own share of the carried values: n values a part. After the loop the
 * parts lie one after the other in carry. */
typedef void (*LaneBody)(void *ctx, Scope *s, int part, V *carry);
void lane_loop(Scope *s, int axis, V lo, V hi, int unroll, LaneBody body, void *ctx, V *carry, int n);

/* Reducers over lanes: one or two vectors of state. */
typedef struct Acc { V v[2]; } Acc;
int  acc_width(Reducer r);
Acc  acc_empty(Gen *g, Reducer r);
/* takes x (lanes of mask, NULL: all); index: i32 lanes, the position, for ARGMAX */
Acc  acc_take(Gen *g, Reducer r, Acc a, V x, V index, V mask);
Acc  acc_join(Gen *g, Reducer r, Acc a, Acc b);
Acc  acc_across(Gen *g, Reducer r, Acc a);                       /* all lanes hold the result */
Val  acc_value(Gen *g, Reducer r, Acc a);
#endif
