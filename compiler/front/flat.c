/* flat.c -- see flat.h. */
#include "front/flat.h"

/* ---- values */

int level_of(const Node *n)
{
    switch ((int)n->kind) {
    case AST_IF: case AST_RANGE: case AST_NAMED: case AST_AXIS: case AST_REST:
        return P_VALUE;
    case AST_UNARY:
        return n->text[0] == 'n' ? P_NOT : P_UNARY;
    case AST_AS:
        return P_SCOPED;
    case AST_BINARY:
        switch (n->text[0]) {
        case 'o': return P_OR;
        case 'a': return P_AND;
        case '+': case '-': return P_SUM;
        case '*': case '/': return P_TERM;
        case '^': return P_POWER;
        default: return P_CMP;
        }
    default:
        return P_POST;
    }
}

int left_level(int level)
{
    return level == P_POWER ? P_SCOPED : level == P_CMP ? P_SUM : level;
}

int right_level(int level)
{
    return level == P_POWER ? P_UNARY : level == P_CMP ? P_SUM : level + 1;
}

static bool spaced(int level, Space space)
{
    if (level == P_POWER)
        return false;
    return level < P_SUM || space == WIDE || (space == INDEX_LIST && level == P_SUM);
}

static void flat_list(Text *t, const Node *list, Space space)
{
    for (const Node *n = list; n; n = n->next) {
        flat_value(t, n, P_VALUE, space);
        if (n->next)
            text_printf(t, ", ");
    }
}

void flat_scope(Text *t, const Node *scope)
{
    for (const Node *s = scope; s; s = s->next) {
        if (s->kind == AST_INDEX) {
            text_char(t, '[');
            flat_list(t, s->b, INDEX_LIST);
            text_char(t, ']');
        } else {
            text_printf(t, "%s%s", s == scope ? "" : ".", s->text);
        }
    }
}

static void flat_formal(Text *t, const Node *n)
{
    text_printf(t, "%s", n->text);
    if (n->a) {
        text_char(t, '[');
        flat_list(t, n->a, INDEX_LIST);
        text_char(t, ']');
    }
    if (n->b) {
        text_char(t, '(');
        flat_list(t, n->b, WIDE);
        text_char(t, ')');
    }
    if (n->c) {
        text_printf(t, " = ");
        flat_value(t, n->c, P_VALUE, WIDE);
    }
}

void flat_value(Text *t, const Node *n, int least, Space space)
{
    int level = level_of(n);
    bool wrap = level < least;
    if (wrap)
        text_char(t, '(');
    switch ((int)n->kind) {
    case AST_NUM: case AST_STR: case AST_NAME:
        text_printf(t, "%s", n->text);
        break;
    case AST_LIST:
        text_char(t, '[');
        flat_list(t, n->a, WIDE);
        text_char(t, ']');
        break;
    case AST_RANGE:
        flat_value(t, n->a, P_OR, TIGHT);
        text_printf(t, "%s", n->text);
        flat_value(t, n->b, P_OR, TIGHT);
        break;
    case AST_UNARY:
        text_printf(t, level == P_NOT ? "not " : "-");
        flat_value(t, n->a, level, space);
        break;
    case AST_BINARY:
        flat_value(t, n->a, left_level(level), space);
        text_printf(t, spaced(level, space) ? " %s " : "%s", n->text);
        flat_value(t, n->b, right_level(level), space);
        break;
    case AST_IF:
        text_printf(t, "if ");
        flat_value(t, n->a, P_VALUE, WIDE);
        text_printf(t, " then ");
        flat_value(t, n->b, P_VALUE, WIDE);
        text_printf(t, " else ");
        flat_value(t, n->c, P_VALUE, WIDE);
        break;
    case AST_INDEX:
        flat_value(t, n->a, P_POST, WIDE);
        text_char(t, '[');
        flat_list(t, n->b, INDEX_LIST);
        text_char(t, ']');
        break;
    case AST_CALL:
        flat_value(t, n->a, P_POST, WIDE);
        text_char(t, '(');
        flat_list(t, n->b, WIDE);
        text_char(t, ')');
        break;
    case AST_REDUCE:
        text_printf(t, "%s[", n->text);
        flat_list(t, n->a, INDEX_LIST);
        text_printf(t, "](");
        flat_list(t, n->b, WIDE);
        text_char(t, ')');
        break;
    case AST_NAMED:
        flat_value(t, n->a, P_VALUE, WIDE);
        text_printf(t, " = ");
        flat_value(t, n->b, P_VALUE, WIDE);
        break;
    case AST_AXIS:
        text_printf(t, "%s: ", n->text);
        flat_value(t, n->a, P_VALUE, space);
        break;
    case AST_REST:
        text_printf(t, "..");
        break;
    case AST_AS:
        flat_value(t, n->a, P_POST, WIDE);
        text_printf(t, " as ");
        flat_scope(t, n->b);
        break;
    case AST_FORMAL:
        flat_formal(t, n);
        break;
    default:
        break;
    }
    if (wrap)
        text_char(t, ')');
}

/* ---- items */

static void flat_items(Text *t, const Node *items);

void flat_item(Text *t, const Node *n)
{
    switch ((int)n->kind) {
    case AST_USE:
        text_printf(t, "use %s", n->text);
        break;
    case AST_FN:
        text_printf(t, "fn %s(", n->text);
        flat_list(t, n->a, WIDE);
        if (n->b) {
            text_printf(t, ") = ");
            flat_value(t, n->b, P_VALUE, WIDE);
        } else {
            text_printf(t, ") ");
            flat_items(t, n->c);
        }
        break;
    case AST_BLOCK:
        text_printf(t, "%s", n->text);
        if (n->a)
            text_printf(t, " %s", n->a->text);
        if (n->b) {
            text_char(t, '(');
            flat_list(t, n->b, WIDE);
            text_char(t, ')');
        }
        if (n->c || !n->a || n->a->kind != AST_STR) {
            text_char(t, ' ');
            flat_items(t, n->c);
        }
        break;
    case AST_PARAM: case AST_STATE:
        text_printf(t, "%s ", tree_kind(n->kind));
        flat_value(t, n->a, P_VALUE, WIDE);
        text_printf(t, " %s ", n->text);
        flat_value(t, n->b, P_VALUE, WIDE);
        break;
    case AST_LET: case AST_CONST:
        text_printf(t, "%s %s = ", tree_kind(n->kind), n->text);
        flat_value(t, n->a, P_VALUE, WIDE);
        break;
    case AST_SET:
        flat_value(t, n->a, P_VALUE, WIDE);
        text_printf(t, " = ");
        flat_value(t, n->b, P_VALUE, WIDE);
        break;
    case AST_RETURN:
        text_printf(t, "return ");
        flat_value(t, n->a, P_VALUE, WIDE);
        break;
    case AST_FOR:
        text_printf(t, "for %s in ", n->text);
        flat_value(t, n->a, P_VALUE, WIDE);
        text_char(t, ' ');
        flat_items(t, n->b);
        break;
    case AST_WHEN:
        text_printf(t, "if ");
        flat_value(t, n->a, P_VALUE, WIDE);
        text_char(t, ' ');
        flat_items(t, n->b);
        if (n->c) {
            text_printf(t, " else ");
            if (n->c->kind == AST_WHEN && !n->c->next)
                flat_item(t, n->c);
            else
                flat_items(t, n->c);
        }
        break;
    default:
        break;
    }
}

static void flat_items(Text *t, const Node *items)
{
    if (!items) {
        text_printf(t, "{}");
        return;
    }
    text_printf(t, "{ ");
    for (const Node *n = items; n; n = n->next) {
        flat_item(t, n);
        text_printf(t, n->next ? "; " : " }");
    }
}
