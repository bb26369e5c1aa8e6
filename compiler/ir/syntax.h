/* syntax.h -- the text form of a graph, shared by print.c and parse.c.
 *
 *     tensor %4 param f32[768, 512] normal(0, 0.02) "visual.proj"
 *     %13[a0, a1] = sum{a2:768}(%4[a2, a1] * %5[a0, a2])  {a0:B, a1:512}  @ "visual.proj"
 *     output "loss" = %40
 *     update %4 = %41
 *
 *   statement  tensor %N kind dtype[extent, ..] [const(x) | normal(mean, sd) | uniform(lo, hi)] "name"
 *            | %N[map, ..] = body [{axes}] [@ "tag"]
 *            | %N[map, ..] = reducer{axes}(body) [{axes}] [@ "tag"]          the first braces: reduced axes
 *            | output "name" = %N
 *            | update %N = %N
 *   axes       a0:extent, ..           extent  an integer or B, the batch
 *   map        sums of  atom, atom*integer, integer      atom  aN, %N[map, ..], (map div k), (map mod k)
 *   body       operators and functions of ops.def; [map] is the map's value as a number; B the batch as a number;
 *              a load of a tensor of rank 0 has no brackets
 *
 * `#` begins a comment that ends with the line. Tensors that nothing refers to and that are temporaries are not
 * printed; their numbers stay free. */
#ifndef IR_SYNTAX_H
#define IR_SYNTAX_H
#include "ir/graph.h"

/* How tightly an operator binds; 0: it is written as a function. */
enum { PREC_CALL, PREC_OR, PREC_AND, PREC_COMPARE, PREC_SUM, PREC_PRODUCT, PREC_SIGN, PREC_POWER, PREC_ATOM };

static inline int op_precedence(Op op)
{
    switch (op) {
    case OP_OR:
        return PREC_OR;
    case OP_AND:
        return PREC_AND;
    case OP_LT: case OP_LE: case OP_GT: case OP_GE: case OP_EQ: case OP_NE:
        return PREC_COMPARE;
    case OP_ADD: case OP_SUB:
        return PREC_SUM;
    case OP_MUL: case OP_DIV:
        return PREC_PRODUCT;
    case OP_NEG:
        return PREC_SIGN;
    case OP_POW:
        return PREC_POWER;
    default:
        return PREC_CALL;
    }
}

/* Sums and products chain to the left without brackets; comparisons and powers do not chain. */
static inline bool op_chains(int precedence)
{
    return precedence != PREC_COMPARE && precedence != PREC_POWER;
}

extern const char *const dtype_name[N_DTYPES], *const kind_name[4], *const init_name[3];
#endif
