/* parse.h -- text to tree. */
#ifndef TICC_PARSE_H
#define TICC_PARSE_H
#include "front/tree.h"

/* The tree of a source file: a FILE node, never NULL. Whatever is wrong is in `d`; when d->errors has grown the tree
 * is only good for printing (it may hold BAD nodes), not for the semantic analysis. Never exits. */
Node *parse_file(Arena *arena, Diag *d, int source_id);

/* One override from the command line, `train.batch=16`, added to the sources under a path like "-D": a SET node whose
 * target is a NAME; a BAD node after an error. */
Node *parse_define(Arena *arena, Diag *d, int source_id);
#endif
