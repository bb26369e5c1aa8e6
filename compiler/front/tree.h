/* tree.h -- the tree: what a file says, before it is known what it means.
 *
 * One kind of struct for all nodes, listed in ast.def. The tree is read once by the semantic analysis and once by
 * the formatter; the graph has structs of its own. Parentheses are not kept: the shape of the tree says the same.
 *
 * Trees come from parse_file (parse.h), live in the arena given to it, and are at most TREE_HEIGHT high (a chain
 * counts as its highest node), so a recursive walk needs no guard of its own. */
#ifndef TICC_TREE_H
#define TICC_TREE_H
#include "diag.h"

typedef enum Kind {
#define AST(kind, name, a, b, c) AST_##kind,
#include "front/ast.def"
#undef AST
    AST_COUNT
} Kind;

typedef struct Node Node;
struct Node {
    Kind kind;
    int height;                     /* 1 + the height of the highest node in the slots */
    Span span;                      /* all of it; parentheses around a value belong to it */
    Span word;                      /* where `text` stands (the name after `fn`, the operator), else as span */
    const char *text;               /* NULL where ast.def names none */
    Node *a, *b, *c, *next;
};

enum { TREE_HEIGHT = 600 };

Node *tree_node(Arena *arena, Kind kind, Span span, const char *text, Node *a, Node *b, Node *c);
int tree_count(const Node *chain);
const char *tree_kind(Kind kind);                          /* the printed name */
void tree_print(const Node *node, Text *out);   /* --emit=ast: one node a line, slots named */

/* The value of a NUM's text: underscores skipped, K M G = 10^3 10^6 10^9, Ki Mi Gi = 2^10 2^20 2^30.
 * false when it is not finite. */
bool tree_number(const char *text, double *value);
#endif
