/* kernel.h -- fused kernels: what both back ends lower.
 *
 * fuse() groups the Comps of a graph into kernels by general criteria (fuse.c). A kernel has an iteration
 * domain `dom`; every member Comp is a copy whose axes are renumbered so that axis i < n_dom is domain axis i and
 * the member's own (inner) axes follow. Members are in dependency order. Inside a kernel a member reads another
 * member's result either at the very same point (a value still in a register) or along inner axes of the same row.
 *
 *   MAP       members have exactly the domain's axes, no reducers. One loop nest; results in registers. It may be many maps
 *             of one form, as a REDUCE may be many totals, see Sets.
 *   ROW       dom = the rows. A member reduces all its inner axes (to one value a row) or none (a map along the row), or
 *             it is a column sum: all rows are summed and the inner axes stay; no member reads one. LayerNorm, softmax,
 *             l2-normalise, their gradients with those of weights and biases, losses by row. Rows may have another length in
 *             one map, which reads values of rows alone: a row looked up by a number.
 *   REDUCE    members that reduce have the same axes: dom = what stays, the rest reduced; the fastest dimension of what they
 *             read is kept (column sums), or everything is reduced (norms, totals). None of them reads another member. Other
 *             members are pointwise over dom and may read all that come before them.
 *   CONTRACT  comp[0] is a sum of a product of exactly two loads (times a constant) that splits in two sides, see
 *             Contract; the other members are pointwise over dom (bias, activation, residual), reading comp[0]; but the last
 *             may be a side's sum over the terms, which no member reads: the contraction of that side with ones (the gradient
 *             of a bias beside that of its weights).
 *   SCORE     attention: contractions whose results (scores) never reach memory, what is computed from them point by
 *             point, and what is summed out of them; see ScoreRole. Axis n_dom is M, n_dom + 1 is N.
 *   SCATTER   one Comp with the scatter reducer: out is zeroed, then added to, deterministically.
 *   HOST      rank-0 f64 arithmetic on scalars the host knows (step, total): the learning rate, bias corrections.
 */
#ifndef PASS_KERNEL_H
#define PASS_KERNEL_H
#include "ir/graph.h"

typedef enum { K_MAP, K_ROW, K_REDUCE, K_CONTRACT, K_SCORE, K_SCATTER, K_HOST, N_KERNEL_CLASSES } KernelClass;
extern const char *const kernel_class_name[N_KERNEL_CLASSES];

/* Axes of comp[0] of a contraction by role; each list outermost first. A reads batch, m, k; B reads batch, n, k. */
typedef struct {
    int batch[MAX_AXES], n_batch, m[MAX_AXES], n_m, n[MAX_AXES], n_n, k[MAX_AXES], n_k;
    const Expr *a, *b;       /* the two E_LOADs: affine maps of plain axes, no atoms */
    double scale;            /* the constant factor */
    const Expr *sum;         /* a or b, when the last member is sum_scale times its sum over k; NULL: there is no such member */
    double sum_scale;
} Contract;

/* Maps whose code is the same but for sizes, tensors and numbers, as one kernel (pass/sets.c): an optimiser over all parameters.
 * Each runs over whole tensors without gaps, point by point, so that it has one axis. `form` says once what all of them do: its
 * only kernel is a MAP over one axis whose extent is the batch; tensors have that axis alone or are numbers (rank 0). In the
 * Kernel, comp has the members of all maps, one map after the other, with axes of their own; dom is all points in a row; args are
 * those of form's kernel for the first map, then for the second, ...
 *
 * Or totals, likewise: form's only kernel is a REDUCE, one sum, max or min of that axis into an f32 number. In the Kernel dom is
 * empty, and the tensor that stands for the number may have any rank and be that of other sets as well: `at` says where in it. */
typedef struct Sets {
    int n;
    const int64_t *size;     /* [n] points of each map, at most 2^30 */
    const int64_t *at;       /* [n] of totals: the element of its tensor that it stores */
    struct Fused *form;      /* of a graph of its own */
} Sets;

typedef struct Kernel {
    KernelClass cls;
    int n_dom;
    Ext dom[MAX_AXES];
    Comp *comp;              /* members, aligned copies */
    int n_comp;
    int *reads, n_reads;     /* tensors from outside, ascending */
    int *writes, n_writes;   /* tensors that must exist in memory afterwards, ascending; others stay inside */
    Contract split;          /* K_CONTRACT */
    const Sets *sets;        /* K_MAP, K_REDUCE: many at once; NULL: one */
    bool again;              /* computes something again, to be run when it is needed */
    Span span;               /* of the first member */
    const char *label;       /* "visual.transformer.resblocks.3.ln_1" or two of them */
    uint64_t signature;      /* equal: the same kernel up to tensor numbers (and labels) */
    const int *args; int n_args;   /* tensors in canonical order of appearance (equal signatures: args correspond) */
} Kernel;

/* Of a member of a kernel whose domain is n_dom axes: a column sum. */
static inline bool sums_domain(const Comp *c, int n_dom) { return c->red & ((1u << n_dom) - 1); }

/* What a member of a SCORE kernel is. All members have the axes of the domain, M and N, then axes of their own. A score is
 * a value at (dom, M, N); the back end keeps as many rows of M as it likes, each over the whole of N.
 *
 *   PRODUCT   sum over own axes (terms) of scale * load * load of tensors from outside                    -> a score
 *   POINT     no reducer: computed from scores at the same point, statistics of its row, and anything outside -> a score
 *   STAT      sum, max, min or logsumexp of such an expression over N (then later members may read it) or over M (then
 *             none does)
 *   RESULT    sum over N or over M of scale * score * load of a tensor from outside that has own axes (features)
 *   ROW       sum over own axes of something from outside: one number a row of M, which later members read. It has a single
 *             point of N, and that is reduced too.
 *
 * M may be one point that no load and no store knows of: a single query.
 *
 * M and N may both be the batch (pass/meet.c). Then there is no domain and are no ROWs, every STAT and RESULT runs over N, no
 * member reads one of them, a STAT may be an argmax, and the back end goes along N in tiles as well. */
typedef enum { SCORE_PRODUCT, SCORE_POINT, SCORE_STAT, SCORE_RESULT, SCORE_ROW } ScoreRole;
ScoreRole score_role(const Kernel *k, const Comp *c);
static inline int  score_m(const Kernel *k) { return k->n_dom; }
static inline int  score_n(const Kernel *k) { return k->n_dom + 1; }
static inline bool score_meets(const Kernel *k) { return k->n_dom == 0 && k->comp[0].ext[0] == EXT_BATCH && k->comp[0].ext[1] == EXT_BATCH; }
static inline bool score_over_m(const Kernel *k, const Comp *c) { return c->red >> score_m(k) & 1; }    /* STAT, RESULT */
/* Of a PRODUCT or a RESULT: scale * a * b. A RESULT's a is the score; a PRODUCT's a has M and b has N. */
typedef struct { const Expr *a, *b; double scale; } ScoreSum;
ScoreSum score_sum(Graph *g, const Kernel *k, const Comp *c);
/* How far its rows reach, at least 0: columns n > m + it of row m are nothing to any member that sums scores up, and nobody
 * outside reads them. columns: the extent of N; columns - 1: as far as there is. */
int64_t score_reach(Graph *g, const Kernel *k, int64_t columns);

typedef struct Fused {
    Graph *graph;
    Kernel *kernel;          /* in execution order */
    int n_kernel, n_distinct;
    /* storage[t]: the tensor whose buffer t uses: t itself, the target of the update t is the new value of, or a temporary
     * that nobody reads once t is written (pass/inplace.c) */
    int *storage;
} Fused;

/* The passes in order (pipeline.c), verified after each: views dce sink cse known reassoc, repeated; optionally
 * narrow first. Roots: outputs and updates. `log` (may be NULL) gets a line a pass with what changed. */
typedef struct { bool narrow; } PassOptions;
bool passes_forward(Graph *g, const PassOptions *o, Text *log, Text *why);     /* before the gradient: views, dce, narrow */
bool passes_simplify(Graph *g, const PassOptions *o, Text *log, Text *why);    /* the whole step */
/* train.precision = bf16: operands of contractions become bf16 tensors (pass/precision.c). After passes_simplify. */
bool passes_precision(Graph *g, Text *why);
/* The f32 input of this name comes in 8 bits, with a table beside it (pass/wire.c): for back ends that have to copy it. After
 * all else that changes the graph. false: it has no such input. */
bool pass_wire(Graph *g, const char *input);
/* takes_score: does the back end lower this SCORE kernel? What it does not take, and everything when it is NULL, stays
 * apart: contractions, rows and maps with their scores in memory. The kernel lives until the call returns. */
typedef struct {
    bool (*takes_score)(Graph *g, const Kernel *k);
    bool meet;               /* no tensor of the batch by the batch where SCORE kernels can do without (pass/meet.c) */
} FuseOptions;
bool fuse(Graph *g, const FuseOptions *o, Arena *a, Fused *out, Text *why);
/* list scheduling for memory (schedule.c): reorders out->kernel; a legal topological order; updates last */
void schedule(Fused *f);
/* Does every kernel find what it reads, and every output at the end: written, and nothing written over it since? */
bool schedule_verify(const Fused *f, Text *why);

/* bytes or elements as a polynomial of the batch: c[0] + c[1]*B + c[2]*B^2 */
typedef struct { int64_t c[3]; } Poly;
/* Both, for a step that is to need at most `bytes` at this batch (0: as it comes): parameters, states, inputs and
 * temporaries, as the program will place them. What must be recomputed for that is chosen in remat.c, which writes a table. */
typedef struct {
    int64_t batch, bytes;
    int64_t beside;          /* what is there beside inputs and temporaries; 0: the parameters and states that the step touches */
    /* The f32 elements of what the launches of a kernel hand each other (false and a sentence: it cannot be lowered); NULL: not counted */
    bool (*workspace)(void *of, Fused *f, const Kernel *k, Poly *elements, Text *why);
    void *of;
} MemoryGoal;
/* *reached: what it needs now. false: `why` is set, and *reached > goal->bytes when it is memory. */
bool fuse_within(Graph *g, const FuseOptions *o, const MemoryGoal *goal, Arena *a, Fused *out, int64_t *reached, Text *table, Text *why);
/* executes kernel by kernel in the interpreter; only declared writes survive a kernel (proves reads and writes) */
bool fused_run(Fused *f, Env *env, Arena *a, Text *why);
/* one of them: buffer[storage] holds what it reads, and will hold what it writes; env->value[] points there */
bool kernel_run(Fused *f, int kernel, double **buffer, Env *env, Arena *a, Text *why);
void fused_print(const Fused *f, Text *out);                                    /* --emit=fused */

Poly    tensor_bytes(const Graph *g, int tensor);            /* of elements of dtype_size */
Poly    comp_flops(const Comp *c, bool contraction);
Poly    kernel_flops(const Fused *f, const Kernel *k);       /* 2 a multiply-add of contractions; others 1 an op */
int64_t poly_at(Poly p, int64_t batch);
#endif
