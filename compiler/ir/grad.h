/* grad.h -- inside ir/: the two halves of the gradient. grad.c walks the graph backwards and differentiates bodies;
 * grad_map.c turns what each load contributes into equations (store form, gather form, scatter). */
#ifndef IR_GRAD_H
#define IR_GRAD_H
#include "ir/pool.h"

/* d loss / d T gets `e` at the place `load->idx` for every point of the axes of `from`. */
typedef struct Share {
    const Comp *from;                    /* the forward Comp: axes, span, tag */
    const Expr *load;                    /* the load of T in it */
    const Expr *e;                       /* adjoint of the load, over the axes of `from` */
} Share;
typedef ARRAY(Share) Shares;

typedef struct Grad {
    Graph *g;
    Arena scratch;
    Text *why;
} Grad;

/* Adds up all shares of tensor T. producer: a Comp that defines T, or NULL. Returns the tensor, or -1 after `why`. */
int grad_combine(Grad *d, int tensor, const Shares *shares, const Comp *producer);

/* Appends a Comp over those axes of `ext` that are in the mask, renumbered without gaps; tag and span of `from`, the
 * tag with a tick. */
bool grad_emit(Grad *d, int out, uint32_t axes, const Ext *ext, uint32_t red, Reducer r, const Expr *body,
               const Affine *const *store, const Comp *from);
int grad_tensor(Grad *d, const char *suffix, int of, int rank, const Ext *shape, DType dtype);  /* "d_" name suffix */
#endif
