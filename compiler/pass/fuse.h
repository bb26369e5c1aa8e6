/* fuse.h -- inside fuse(): the working state while Comps are gathered into kernels.
 *
 * A Build is a kernel in the making: a class, the axes of its iteration space (the domain first, inner axes behind),
 * and the Comps in it. info[c].axis[k] says which kernel axis axis k of Comp c is. before[x] is the set of all kernels
 * that must run before kernel x, directly or not, as bits; it is kept complete, so a question of reachability is one
 * bit. Everything lives in a scratch arena that goes when fuse() ends. */
#ifndef PASS_FUSE_H
#define PASS_FUSE_H
#include "pass/kernel.h"
#include "pass/pass.h"

typedef ARRAY(int) Ints;

typedef struct Build {
    KernelClass cls;
    int n_dom, n_axis;
    Ext ext[MAX_AXES];               /* of kernel axes */
    Ints comp;                       /* members */
    int last;                        /* the largest member */
    bool update;                     /* of the second phase: the optimiser */
    bool alone;                      /* nobody may join */
    bool again;                      /* of Comps that compute something again; no others may join */
    bool own_row;                    /* ROW: the inner axes of one member are its own */
    bool dead;                       /* merged into another */
} Build;

typedef struct CompInfo {
    const Expr **load;               /* distinct loads, those in index maps and stores included */
    int n_load;
    bool gathers;                    /* an index map has an atom */
    bool update;                     /* belongs to the second phase */
    bool host;
    bool contracts;
    bool alone;                      /* a copy or a diagonal that must stay a kernel of its own */
    bool diagonal;                   /* a diagonal: or a member of a REDUCE kernel */
    bool again;                      /* Tensor.again of its result */
    int kernel;                      /* or -1 */
    int axis[MAX_AXES];              /* kernel axes */
} CompInfo;

typedef struct Fuser {
    Graph *g;
    Arena *a;
    CompInfo *info;                  /* by Comp */
    Ints *pieces, *users;            /* by tensor: Comps */
    Ints *readers;                   /* by tensor: kernels that read it, in order of placement; may repeat */
    bool *root;                      /* by tensor */
    ARRAY(Build *) build;
    ARRAY(uint64_t *) before;
    int words;                       /* of each set */
} Fuser;

void fuser_init(Fuser *f, Graph *g, Arena *a, const bool *alone);
/* Does kernel b depend on kernel a? */
bool fuser_reaches(const Fuser *f, int a, int b);
void fuser_depend(Fuser *f, int kernel, int on);        /* kernel runs after `on` */
/* May Comp c join kernel n: no path leaves n and comes back through c. */
bool fuser_legal(Fuser *f, int c, int n);
int  fuser_new(Fuser *f, int c);                        /* a kernel of its own; returns its number */

/* How a Comp would lie in a kernel: comp axis -> kernel axis, -1 where not yet known. */
typedef struct { int axis[MAX_AXES]; uint32_t bound, used; } Align;
bool align_pointwise(Fuser *f, int c, int n, Align *al);            /* MAP, CONTRACT, REDUCE: reads members at the same point */
bool align_points(Fuser *f, int c, int n, Align *al);               /* a map over what stays of a REDUCE kernel */
bool align_total(Fuser *f, int c, int n, Align *al);                /* a small total beside others in a REDUCE kernel */
bool align_sibling(Fuser *f, int c, int n, Align *al);              /* reads what n reads, at the same point */
bool align_row(Fuser *f, int c, int n, bool sibling, Align *al);    /* a member of a ROW kernel */
bool align_own_row(Fuser *f, int c, int n, Align *al);              /* a map of a ROW kernel's rows that have another length here */
bool align_columns(Fuser *f, int c, int n, Align *al);              /* a column sum in a ROW kernel */
bool align_reduce(Fuser *f, int c, int n, Align *al);               /* a sibling of a REDUCE kernel */
bool align_side(Fuser *f, int c, int n, Align *al);                 /* the sum of a side of a CONTRACT kernel over its terms */
/* The side that Comp c, a sum of constant * load with its axes numbered as those of the contraction, sums; NULL: neither. */
const Expr *side_summed(Graph *g, const Comp *c, const Sides *s, double *scale);
void fuser_join(Fuser *f, int c, int n, const Align *al);
/* n, a MAP, becomes a ROW whose rows are the free axes of the reduction c, which joins it */
bool row_from_map(Fuser *f, int c, int n);
bool fuser_merge(Fuser *f, int keep, const Align *in_keep, int gone, const Align *in_gone);
/* The only member of kernel `gone` moves to kernel `keep`, unless there is a path from one to the other through a third. */
bool fuser_move(Fuser *f, int gone, int keep, const Align *al);
/* The same of a kernel that reads what `keep` makes, as align_own_row says. */
bool fuser_follow(Fuser *f, int gone, int keep, const Align *al);

bool reduces_rows(const Fuser *f, int c);               /* ROW; otherwise REDUCE */

/* scores.c: which Comps become SCORE kernels. Scores that more than one kernel needs are cloned, one each, in the graph. */
typedef struct ScoreMember { Comp *comp; int axis[MAX_AXES]; } ScoreMember;     /* Comp axis -> kernel axis */
typedef struct ScoreSet { int n_dom; Ext ext[MAX_AXES]; ARRAY(ScoreMember) member; } ScoreSet;
typedef ARRAY(ScoreSet *) ScoreSets;
ScoreSets pass_scores(Graph *g, Arena *a, const FuseOptions *o);
/* meet.c: with FuseOptions.meet, kernels of the pairs of a batch, without a tensor over all pairs */
void pass_meet(Graph *g, Arena *a, const FuseOptions *o, ScoreSets *sets);
void fuse_scores(Fuser *f, const ScoreSets *sets);      /* their kernels, ahead of all others */
/* c with its axes renumbered: axis[k] is the new number of axis k. Numbers that are left out are axes of one point, reduced. */
Comp comp_aligned(Graph *g, const Comp *c, const int *axis);
Comp score_aligned(Graph *g, const Comp *c, const int *axis, int n_dom);        /* a member of a SCORE kernel: it has M, be that one point */

void fuse_greedy(Fuser *f);
/* Storage of the updates' values; -1 when all is well, else the update whose value must be copied first. */
int  fuse_storage(Fuser *f, int *storage);
/* The value of an update that no map of its own makes gets a copy; false: an update that makes no sense. */
bool fuse_check_updates(Graph *g, Text *why);
void fuse_copy_value(Graph *g, int update);             /* the update takes a copy of its value instead */
void fuse_finish(Fuser *f, Arena *a, Fused *out);
const char *kernel_label(const Kernel *k, Arena *a);    /* from the tags of its members */
void sort_unique(Ints *xs);                           /* ascending, each once */
void fuse_sets(Fused *f, bool lean, Arena *a);          /* maps of one form become one kernel; lean: as in fuse_lean */
/* fuse() for little memory: no kernels that make things before they are needed, copies of parameters */
bool fuse_lean(Graph *g, const FuseOptions *o, Arena *a, Fused *out, Text *why);
void fuse_signatures(Fused *f);                         /* signature, args, n_distinct; sorts members canonically */

/* dependencies between kernels: read after write, and update after read */
typedef struct { Ints *pred; } KernelDeps;
KernelDeps kernel_deps(const Fused *f, Arena *a);
#endif
