/* flat.h -- inside the formatter: a piece of the tree as text on one line, with no more parentheses than are needed. */
#ifndef TICC_FLAT_H
#define TICC_FLAT_H
#include "front/tree.h"

/* Precedences: a value in a place that wants at least some level gets parentheses when its own is lower. */
enum { P_VALUE, P_OR, P_AND, P_NOT, P_CMP, P_SUM, P_TERM, P_UNARY, P_POWER, P_SCOPED, P_POST };

/* How arithmetic is spaced: a * b + c, in index lists a*b + c, in ranges a*b+c */
typedef enum Space { WIDE, INDEX_LIST, TIGHT } Space;

int level_of(const Node *n);                                /* the precedence of a value */
int left_level(int level);                                  /* the least of a binary operator's operands */
int right_level(int level);
void flat_value(Text *t, const Node *n, int least, Space space);
void flat_scope(Text *t, const Node *scope);                /* a list of names and indices, with dots */
void flat_item(Text *t, const Node *n);                     /* a statement, a block with all that is in it, ... */
#endif
