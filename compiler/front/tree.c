/* tree.c -- nodes, and the tree as text. */
#include "front/tree.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *slot[3];
} kinds[AST_COUNT] = {
#define AST(kind, name, a, b, c) { name, { a, b, c } },
#include "front/ast.def"
#undef AST
};

static int highest(int height, const Node *chain)
{
    for (; chain; chain = chain->next) {
        if (chain->height > height)
            height = chain->height;
    }
    return height;
}

Node *tree_node(Arena *arena, Kind kind, Span span, const char *text, Node *a, Node *b, Node *c)
{
    Node *n = NEW(arena, Node);
    n->kind = kind;
    n->height = 1 + highest(highest(highest(0, a), b), c);
    n->span = n->word = span;
    n->text = text;
    n->a = a;
    n->b = b;
    n->c = c;
    return n;
}

int tree_count(const Node *chain)
{
    int n = 0;
    for (; chain; chain = chain->next)
        n++;
    return n;
}

const char *tree_kind(Kind kind)
{
    return kinds[kind].name;
}

/* What has one kind of child is printed without the name of the slot. */
static bool plain(Kind kind)
{
    return kind == AST_FILE || kind == AST_UNARY || kind == AST_BINARY || kind == AST_LIST || kind == AST_RETURN;
}

static void print(const Node *n, int depth, Text *out)
{
    for (; n; n = n->next) {
        text_printf(out, "%*s%s%s%s\n", 2 * depth, "", kinds[n->kind].name, n->text ? " " : "", n->text ? n->text : "");
        const Node *slot[3] = { n->a, n->b, n->c };
        for (int i = 0; i < 3; i++) {
            if (!slot[i])
                continue;
            if (!plain(n->kind)) {
                const char *name = kinds[n->kind].slot[i];
                text_printf(out, "%*s.%.*s\n", 2 * depth + 1, "", (int)strcspn(name, "?"), name);
            }
            print(slot[i], depth + (plain(n->kind) ? 1 : 2), out);
        }
    }
}

void tree_print(const Node *node, Text *out)
{
    print(node, 0, out);
}

bool tree_number(const char *text, double *value)
{
    char digits[400];
    size_t n = 0;
    while (*text && n + 1 < sizeof digits && !strchr("KMG", *text)) {
        if (*text != '_')
            digits[n++] = *text;
        text++;
    }
    digits[n] = 0;
    *value = strtod(digits, NULL);
    if (*text) {
        const char *unit = strchr("KMG", *text);
        if (!unit)
            return false;                                  /* hundreds of digits */
        double base = text[1] == 'i' ? 1024 : 1000;
        for (const char *u = "KMG"; u <= unit; u++)
            *value *= base;
    }
    return isfinite(*value);
}
