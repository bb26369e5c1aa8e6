/* contract.h -- inside the CUDA back end: a contraction, as its lowering and the choice of its template share it.
 *
 *   contract.c          what it is: shapes, sides; its texts.
 *   contract_choice.c   which templates, and into how many parts its sums are cut. */
#ifndef CUDA_CONTRACT_H
#define CUDA_CONTRACT_H
#include "cuda/lower.h"

enum { CONTRACT_UNIT = 128, CONTRACT_HOPPER = 90 };     /* a part of the terms is a multiple of the first; arch of Hopper's templates */

typedef struct Side {
    const Expr *load;
    const Group *grp;                /* rows or columns */
    int n_grp, unit, vec;
    Lin lin;
} Side;

typedef struct Contraction {
    Cu *l;
    const GemmTemplate *t, *hopper;      /* for sm_90a; NULL: as for all others */
    Side a, b;
    const Group *outer, *m, *n, *k;
    int n_outer, n_m, n_n, n_k;
    uint32_t zero;
    Poly rows, columns, terms, batches;
    int splits, shares;              /* how the sums are cut; shares: Hopper's alone, 0: as the others' */
    const Comp *sum;                 /* the member that sums a side; NULL: none */
    const Side *summed;
    ARRAY(struct Aside { const Expr *load; bool column; const char *name; }) asides;
} Contraction;

/* Fills all of *c (its l is the caller's) but templates, parts and asides. False: it cannot be lowered, and l says why. */
bool cu_contract_analyse(Contraction *c);
bool cu_side_is_bf16(const Contraction *c, const Side *s);
uint32_t cu_group_axes(const Group *grp, int n);

/* How many parts Hopper's template makes in shares of the results, which are fixed in number. */
int cu_contract_parts(const Contraction *c);

/* Templates and parts, from the table or by rule; how the one for Hopper is launched, if it has one of its own. */
void cu_contract_choose(Contraction *c, TicGpuHopper *launch);
#endif
