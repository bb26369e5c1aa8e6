/* places.h -- where a kernel's data is: what the lowerings of both back ends decide about addresses, loops and tasks.
 *
 * A tensor is row-major, so the element offset of T[maps] is linear in the axes (and in gathers, div and mod atoms),
 * with coefficients that are polynomials of the batch. Two neighbouring axes i (outer) and j act as one when for every
 * access of the kernel the coefficient of i is that of j times j's extent: most kernels become one or two loops. */
#ifndef LOWER_PLACES_H
#define LOWER_PLACES_H
#include "pass/kernel.h"
#include <stdarg.h>

/* What these functions work in: the lowering of one kernel. A size they cannot say is a fault: kept (the first one), and the
 * result is good for nothing. By member: `again`: computed again where it is needed; `placed`: read back from memory, though
 * no further out than the scope at row_depth. The lowering sets these two as it goes on. */
typedef struct Places {
    Arena *arena;
    const Graph *graph;
    const Kernel *k;
    bool *again, *placed;
    int row_depth;
    const char *fault;
} Places;
Places places_of(Arena *a, const Graph *g, const Kernel *k);
void   places_fault(Places *p, const char *what);

/* ---- polynomials of the batch */
Poly poly_const(int64_t c);
Poly poly_ext(Ext e);
Poly poly_add(Poly a, Poly b);
Poly poly_scale(Poly a, int64_t k);
Poly poly_mul(Places *p, Poly a, Poly b);                        /* a power above the square is a fault */
bool poly_is(Poly a, int64_t c);
bool poly_fixed(Poly a, int64_t *c);                             /* independent of the batch */
int  poly_order(Poly a, Poly b);                                 /* by size at a large batch: < 0, 0, > 0 */
bool poly_divides(Poly a, int64_t k);                            /* a multiple of k at every batch */
int64_t poly_guess(Poly p);                                      /* its value at batch 64, for decisions */

/* ---- addresses */

/* Element offset of index i: the sum over dimensions of stride * (i - from). It may leave some axes out: the buffer of
 * one row does not count the row's axes. */
typedef struct Layout {
    int rank;
    Poly stride[MAX_RANK];
    int64_t from[MAX_RANK];
    uint32_t without;
} Layout;
Layout layout_of(Places *p, int tensor);

typedef struct Lin {
    Poly c, axis[MAX_AXES];
    int n_atoms;
    struct { const Term *term; Poly coef; } atom[MAX_RANK * 2];
} Lin;
Lin linear(Places *p, const Layout *at, const Affine *const *idx);
Lin tensor_linear(Places *p, int tensor, const Affine *const *idx);

int  kernel_arg(const Kernel *k, int tensor);                    /* a tensor's position among the arguments, or -1 */
int  kernel_member(const Kernel *k, int tensor);                 /* the member that makes it (the first), or -1 */
bool kernel_writes(const Kernel *k, int tensor);                 /* it must exist in memory afterwards */

/* The arguments of a kernel's launches: its own and, if `workspace` is not 0, a new tensor of so many f32 elements that lives
 * between them; f's storage grows by it. */
const int *launch_args(Fused *f, const Kernel *k, Poly workspace, Arena *a, int *n);
/* A lowering fails: the kernel and what is wrong go to `why`, once. */
void kernel_fails(const Kernel *k, bool *failed, Text *why, const char *fmt, va_list args);

uint32_t term_axes(const Term *t);
uint32_t atom_axes(const Lin *lin);                              /* of all atoms together */
bool aligned(const Lin *lin, int axis, int w);                   /* but for what the axis adds, a multiple of w */
/* Whether index d of a load in c's body can be outside [0, extent). */
bool may_leave(const Places *p, const Comp *c, const Expr *load, int d);

/* ---- what a kernel touches: its loads from memory and its stores, for decisions about axes */
typedef struct Access { Lin lin; uint32_t atom_axes; bool store; } Access;
typedef struct Accesses {
    ARRAY(Access) a;
    uint32_t opaque;                   /* axes used as numbers or inside div, mod: not to be merged */
    bool keep_gathered;                /* those inside gathers are opaque too */
} Accesses;
void access_add(Places *p, const Layout *at, const Affine *const *idx, bool store, Accesses *out);
/* Axes that c's body uses as numbers. An index that can leave its dimension is one: it is compared with the extent. */
void access_values(Places *p, const Comp *c, Accesses *out);
const Expr **loads_of(Places *p, const Expr *e, int *n);

/* ---- axes */

/* A run of axes that is one: its value is that of `axis`, the others are 0. */
typedef struct Group { int axis; Poly n; } Group;

void sort_axes(const Access *a, int *axis, int n);               /* largest coefficient in `a` first */
/* Groups of axes in the order given (outermost first); axes that vanish are added to *zero. */
int  merge_axes(Places *p, const Accesses *acc, const Ext *ext, const int *axis, int n, Group *out, uint32_t *zero);
Poly group_points(Places *p, const Group *grp, int n, int without);      /* product of extents, one left out (or -1) */
/* What one step along the group costs all accesses together, when the others are side by side: 1 for each that steps
 * to the neighbouring element, less for one that stays, more for one that jumps or gathers. */
double step_cost(const Accesses *acc, const Group *grp);
/* The axis along which a member's result is stored without gaps; -1: there is none. acc: with its stores. */
int  unit_axis(const Comp *c, const Accesses *acc);
/* All axes of a map, sorted as the first store has them; those of a row's member beyond the row's own n_dom, sorted as the last
 * store has them, else as the first access does. */
int  map_axes(Places *p, const Comp *c, const Accesses *acc, Group *out, uint32_t *zero);
int  row_axes(Places *p, const Comp *c, const Accesses *acc, int n_dom, Group *out, uint32_t *zero);
/* Of what is added where data decides: the axis that alone is the last dimension (-1: none), the columns that this has, the
 * rows that all other dimensions make, and all other axes. */
int  scatter_axes(Places *p, const Comp *c, Poly *rows, Poly *columns, Group *out, int *n, uint32_t *zero);
/* Of a reduction, what stays (sorted as it is stored) and what is reduced (sorted as the first access reads it, when
 * positions do not matter). */
void split_axes(Places *p, const Comp *c, const Accesses *acc, bool positions, Group *dom, int *n_dom, Group *red, int *n_red, uint32_t *zero);
/* The axes of a contraction by role, outermost first: rows (of a), columns (of b), terms, and batch indices. Columns are those along
 * which the first result is stored without gaps; the sides are exchanged for that. */
typedef struct ContractAxes {
    const Expr *a, *b;
    Group *outer, *m, *n, *k;          /* MAX_AXES each; of m, n and k at least one, if only of a single point */
    int n_outer, n_m, n_n, n_k;
    uint32_t zero;
} ContractAxes;
/* acc: all that the kernel touches, its first result's store before other stores; unit: unit_axis of that result. False: a fault. */
bool contract_axes(Places *p, const Accesses *acc, int unit, ContractAxes *out);

/* ---- members */
bool same_inner(const Comp *a, const Comp *b, int n_dom);        /* extents of own axes are equal: the two can share a loop */
bool same_point(const Expr *load, const Comp *c);                /* reads what c makes at this point */
int  member_read(const Kernel *k, const Expr *load);             /* that makes the load's point, or its tensor; -1 */
#endif
