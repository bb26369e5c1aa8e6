/* format.c -- the tree and the comments to text.
 *
 * The text is made as rows: indentation, text, comment. A value is first tried on one line ("flat"); when it does not
 * fit, or a comment stands inside it, or the author has begun a line with an `else` or an operator, it is broken where
 * its loosest part is: after the commas of a bracket, before the operators of the loosest level, before each `else`.
 *
 * Comments come from the scanner in the order of the source, and are printed in this order: whoever is about to print
 * something first prints the comments that stand before it (`flush`), so that none is lost wherever it stands. */
#include "front/flat.h"
#include "front/format.h"
#include "front/syntax.h"
#include <string.h>

enum {
    WIDTH = 120,
    SHORT_BLOCK = 80,               /* a block on one line */
    STEP = 4,
    FARTHEST = 70,                  /* arguments are aligned below the first up to this column, else indented */
    LONGEST_TARGET = 60,            /* longer ones are not aligned */
};

typedef struct Row {
    int indent;
    const char *text, *comment;     /* comment: NULL or a trailing one */
    bool blank;                     /* a blank line before it */
} Row;

typedef struct Fmt {
    Arena *arena;
    const Parse *p;
    int next;                       /* comments before this one are printed */
    ARRAY(Row) row;
    Text line;                      /* the row under construction */
    int indent;                     /* its indentation */
    const char *comment;            /* its trailing comment, or NULL */
    bool blank;                     /* a blank line goes before it */
    int printed;                    /* offset up to which the source is printed; 0 at the beginning of a body */
} Fmt;

/* ---- rows */

static int width_of(const char *s)                         /* characters */
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static int column(const Fmt *f)
{
    return f->indent + width_of(text_data(&f->line));
}

static void put(Fmt *f, const char *s)
{
    text_bytes(&f->line, s, strlen(s));
}

/* Ends the row; the next one starts at column `indent`. A row without anything is not printed. */
static void new_row(Fmt *f, int indent)
{
    size_t n = f->line.n;
    while (n && f->line.at[n - 1] == ' ')
        n--;
    if (n || f->comment) {
        const char *text = arena_strndup(f->arena, text_data(&f->line), n);
        PUSH(f->arena, f->row, (Row){ f->indent, text, f->comment, f->blank });
        f->blank = false;
    }
    f->line = (Text){ .arena = f->arena };
    f->comment = NULL;
    f->indent = indent;
}

static int newlines(const Fmt *f, int from, int to)        /* in the source, at most 2 */
{
    int n = 0;
    for (int i = from; i < to && n < 2; i++)
        n += layout_at(f->p, i) == '\n';
    return n;
}

static const Comment *pending(const Fmt *f, int before)    /* the next comment, when it stands before an offset */
{
    if (f->next == f->p->comments.n || f->p->comments.at[f->next].span.lo >= before)
        return NULL;
    return &f->p->comments.at[f->next];
}

static const char *comment_text(const Fmt *f, const Comment *c)
{
    return arena_strndup(f->arena, f->p->source.text + (c->span.lo - f->p->source.start),
                         (size_t)(c->span.hi - c->span.lo));
}

/* Prints the comments that stand before an offset inside a statement, which then goes on at column `indent`. */
static void flush(Fmt *f, int before, int indent)
{
    const Comment *c;
    while ((c = pending(f, before))) {
        if (c->alone || f->comment)
            new_row(f, indent);
        if (c->alone || !f->line.n)
            put(f, comment_text(f, c));
        else
            f->comment = comment_text(f, c);
        f->next++;
        new_row(f, indent);
    }
}

/* Comments behind the last thing of a row. */
static void trailing(Fmt *f, int before)
{
    const Comment *c;
    while ((c = pending(f, before)) && !c->alone) {
        if (f->comment)
            break;
        f->comment = comment_text(f, c);
        f->printed = c->span.hi;
        f->next++;
    }
}

/* ---- places in the source */

/* The first such character in the source at or behind an offset that is not in a comment. */
static int find(const Fmt *f, int from, char wanted)
{
    int end = f->p->source.start + f->p->source.size;
    for (; from < end && layout_at(f->p, from) != wanted; from++) {
        if (layout_at(f->p, from) == '#')
            from = layout_line_end(f->p, from);
    }
    return from;
}

static const Node *last_of(const Node *chain)
{
    while (chain && chain->next)
        chain = chain->next;
    return chain;
}

/* Where a value ends, without the parentheses around it. */
static int inner_end(const Fmt *f, const Node *n)
{
    const Node *last;
    switch ((int)n->kind) {
    case AST_UNARY: case AST_AXIS:
        return inner_end(f, n->a);
    case AST_BINARY: case AST_RANGE:
        return inner_end(f, n->b);
    case AST_IF:
        return inner_end(f, n->c);
    case AST_REDUCE:
        last = last_of(n->b ? n->b : n->a);
        return find(f, last->span.hi, ')') + 1;
    case AST_FORMAL:
        return n->span.hi;
    default:
        return n->word.hi;
    }
}

/* ---- values that do not fit */

/* The author's own line breaks that stay: before an `else` and before an operator. */
static bool break_here(const Fmt *f, const Node *n)
{
    if (n->kind == AST_IF)
        return newlines(f, n->b->span.hi, n->c->span.lo);
    return n->kind == AST_BINARY && n->text[0] != '^' && newlines(f, n->a->span.hi, n->word.lo);
}

static bool author_broke(const Fmt *f, const Node *n)
{
    for (; n; n = n->next) {
        if (break_here(f, n) || author_broke(f, n->a) || author_broke(f, n->b) || author_broke(f, n->c))
            return true;
    }
    return false;
}

/* Up to where comments keep a value from being flat. One inside a name, or in the scope behind `as`, is printed behind
 * it; one before a closing parenthesis that is not needed too. */
static int comment_limit(const Fmt *f, const Node *n, bool wrap)
{
    if (wrap)
        return n->span.hi;
    if (n->kind == AST_NAME || n->kind == AST_NUM || n->kind == AST_STR || n->kind == AST_REST)
        return n->span.lo;
    return inner_end(f, n->kind == AST_AS ? n->a : n);
}

/* The flat text of one node when it may be used at the current column with `tail` characters behind it, else NULL. */
static const char *fits(Fmt *f, const Node *n, int least, Space space, int tail)
{
    Text t = { .arena = f->arena };
    if (pending(f, comment_limit(f, n, level_of(n) < least)))
        return NULL;
    if (break_here(f, n) || author_broke(f, n->a) || author_broke(f, n->b) || author_broke(f, n->c))
        return NULL;
    flat_value(&t, n, least, space);
    return column(f) + width_of(text_data(&t)) + tail <= WIDTH ? text_data(&t) : NULL;
}

static void value(Fmt *f, const Node *n, int least, Space space, int indent, int tail);

/* The elements of a bracket and the bracket's end, which stands right before `end`. */
static void list(Fmt *f, const Node *first, char close, Space space, int end, int indent, int tail)
{
    int at = column(f) <= FARTHEST ? column(f) : indent + STEP;
    if (first && at != column(f))
        new_row(f, at);
    for (const Node *n = first; n; n = n->next) {
        int behind = n->next ? 1 : tail + 1;
        if (n != first) {
            flush(f, n->span.lo, at);
            if (f->line.n) {
                put(f, " ");
                if (!fits(f, n, P_VALUE, space, behind))
                    new_row(f, at);
            }
        }
        value(f, n, P_VALUE, space, at, behind);
        if (n->next)
            put(f, ",");
    }
    flush(f, end - 1, at);
    text_char(&f->line, close);
}

/* a + b - c: the operands of one level, one a line. */
static void chain(Fmt *f, const Node *n, Space space, int indent, int tail)
{
    int level = level_of(n), count = 1;
    const Node *first = n;
    while (level != P_CMP && first->a->kind == AST_BINARY && level_of(first->a) == level) {
        first = first->a;
        count++;
    }
    const Node **link = NEWN(f->arena, const Node *, count);
    for (const Node *m = n; count; m = m->a)
        link[--count] = m;
    value(f, first->a, left_level(level), space, indent + STEP, 0);
    for (int i = 0;; i++) {
        flush(f, link[i]->word.lo, indent);
        new_row(f, indent);
        put(f, link[i]->text);
        put(f, " ");
        bool last = link[i] == n;
        value(f, link[i]->b, right_level(level), space, indent + (int)strlen(link[i]->text) + 1, last ? tail : 0);
        if (last)
            return;
    }
}

static void broken_if(Fmt *f, const Node *n, int indent, int tail)
{
    int at = column(f);
    for (;;) {
        put(f, "if ");
        value(f, n->a, P_VALUE, WIDE, indent + STEP, 5);
        put(f, " then ");
        value(f, n->b, P_VALUE, WIDE, indent + STEP, 0);
        flush(f, n->c->span.lo, at);
        new_row(f, at);
        put(f, "else ");
        if (n->c->kind != AST_IF) {
            value(f, n->c, P_VALUE, WIDE, at + STEP, tail);
            return;
        }
        n = n->c;
    }
}

/* A formal argument or the head of a definition: NAME[axes](arguments) = default. */
static void broken_formal(Fmt *f, const Node *n, int indent, int tail)
{
    put(f, n->text);
    if (n->a) {
        put(f, "[");
        list(f, n->a, ']', INDEX_LIST, find(f, last_of(n->a)->span.hi, ']') + 1, indent, tail);
    }
    if (n->b) {
        put(f, "(");
        list(f, n->b, ')', WIDE, find(f, last_of(n->b)->span.hi, ')') + 1, indent, n->c ? 2 : tail);
    }
    if (n->c) {
        put(f, " = ");
        value(f, n->c, P_VALUE, WIDE, indent + STEP, tail);
    }
}

static void broken_reduce(Fmt *f, const Node *n, int indent, int tail)
{
    put(f, n->text);
    put(f, "[");
    list(f, n->a, ']', INDEX_LIST, find(f, last_of(n->a)->span.hi, ']') + 1, indent, 1);
    put(f, "(");
    list(f, n->b, ')', WIDE, inner_end(f, n), indent, tail);
}

static void broken_scoped(Fmt *f, const Node *n, int indent, int tail)
{
    Text scope = { .arena = f->arena };
    flat_scope(&scope, n->b);
    value(f, n->a, P_POST, WIDE, indent, tail + 4 + width_of(text_data(&scope)));
    put(f, " as ");
    put(f, text_data(&scope));
}

static void broken_binary(Fmt *f, const Node *n, Space space, int indent, int tail)
{
    if (level_of(n) != P_POWER) {
        chain(f, n, space, indent, tail);
        return;
    }
    value(f, n->a, P_SCOPED, space, indent, 0);
    flush(f, n->word.lo, indent);
    put(f, "^");
    value(f, n->b, P_UNARY, space, indent, tail);
}

/* A value broken where its loosest part is, without the parentheses around it. */
static void broken(Fmt *f, const Node *n, Space space, int indent, int tail)
{
    switch ((int)n->kind) {
    case AST_NUM: case AST_STR: case AST_NAME: case AST_REST:
        put(f, n->text ? n->text : "..");
        break;
    case AST_LIST:
        put(f, "[");
        list(f, n->a, ']', WIDE, inner_end(f, n), indent, tail);
        break;
    case AST_RANGE:
        value(f, n->a, P_OR, TIGHT, indent, 0);
        put(f, n->text);
        value(f, n->b, P_OR, TIGHT, indent, tail);
        break;
    case AST_UNARY:
        put(f, level_of(n) == P_NOT ? "not " : "-");
        value(f, n->a, level_of(n), space, indent, tail);
        break;
    case AST_BINARY:
        broken_binary(f, n, space, indent, tail);
        break;
    case AST_IF:
        broken_if(f, n, indent, tail);
        break;
    case AST_INDEX:
        value(f, n->a, P_POST, WIDE, indent, 1);
        put(f, "[");
        list(f, n->b, ']', INDEX_LIST, inner_end(f, n), indent, tail);
        break;
    case AST_CALL:
        value(f, n->a, P_POST, WIDE, indent, 1);
        put(f, "(");
        list(f, n->b, ')', WIDE, inner_end(f, n), indent, tail);
        break;
    case AST_REDUCE:
        broken_reduce(f, n, indent, tail);
        break;
    case AST_NAMED:
        value(f, n->a, P_VALUE, WIDE, indent, 2);
        put(f, " = ");
        value(f, n->b, P_VALUE, WIDE, indent + STEP, tail);
        break;
    case AST_AXIS:
        put(f, n->text);
        put(f, ": ");
        value(f, n->a, P_VALUE, space, indent, tail);
        break;
    case AST_AS:
        broken_scoped(f, n, indent, tail);
        break;
    case AST_FORMAL:
        broken_formal(f, n, indent, tail);
        break;
    default:
        break;
    }
}

/* A value at the current column; `indent`: where its further lines start; `tail`: how much follows on its last line. */
static void value(Fmt *f, const Node *n, int least, Space space, int indent, int tail)
{
    flush(f, n->span.lo, indent);
    const char *one_line = fits(f, n, least, space, tail);
    if (one_line) {
        put(f, one_line);
    } else if (level_of(n) >= least) {
        broken(f, n, space, indent, tail);
    } else {
        put(f, "(");
        int inner = column(f);
        broken(f, n, space, inner, tail + 1);
        flush(f, n->span.hi - 1, inner);
        put(f, ")");
    }
}

/* ---- items */

static void items(Fmt *f, const Node *first, int depth, int end, bool entries);

/* ` {`, the items, `}`; returns the offset behind the `}`. `header`: where the header ends in the source. */
static int body(Fmt *f, const Node *first, int depth, int header, bool entries)
{
    int open = find(f, header, '{');
    const Node *last = last_of(first);
    int close = find(f, last ? last->span.hi : open + 1, '}');
    if (!first && !pending(f, close)) {
        put(f, " {}");
        return close + 1;
    }
    put(f, " {");
    f->printed = open + 1;
    trailing(f, first ? first->span.lo : close);
    new_row(f, (depth + 1) * STEP);
    f->printed = 0;
    items(f, first, depth + 1, close, entries);
    new_row(f, depth * STEP);
    f->blank = false;
    put(f, "}");
    return close + 1;
}

static int formals(Fmt *f, const Node *n, int from, int depth)     /* with parentheses; returns where they end */
{
    const Node *last = last_of(n);
    int end = find(f, last ? last->span.hi : find(f, from, '(') + 1, ')') + 1;
    put(f, "(");
    list(f, n, ')', WIDE, end, depth * STEP, 2);
    return end;
}

static void when(Fmt *f, const Node *n, int depth, bool entries)
{
    for (;;) {
        put(f, "if ");
        value(f, n->a, P_VALUE, WIDE, (depth + 1) * STEP, 2);
        int end = body(f, n->b, depth, n->a->span.hi, entries);
        if (!n->c) {                                       /* `else {}` is dropped, unless a comment stands in it */
            if (end < n->span.hi && pending(f, n->span.hi)) {
                put(f, " else");
                body(f, NULL, depth, end, entries);
            }
            return;
        }
        put(f, " else");
        if (n->c->kind != AST_WHEN || n->c->next) {
            body(f, n->c, depth, end, entries);
            return;
        }
        put(f, " ");
        n = n->c;
    }
}

/* The part of an entry or parameter before `=` or `~`. */
static const char *left_side(Fmt *f, const Node *n)
{
    Text t = { .arena = f->arena };
    if (n->kind != AST_SET)
        text_printf(&t, "%s ", tree_kind(n->kind));
    flat_value(&t, n->a, P_VALUE, WIDE);
    return text_data(&t);
}

static bool has_body(const Node *n)
{
    return n->kind == AST_BLOCK || n->kind == AST_FOR || n->kind == AST_WHEN || (n->kind == AST_FN && !n->b);
}

/* An item, without its trailing comments. `left`: the width to which its left side is filled up, or 0. */
static void item(Fmt *f, const Node *n, int depth, bool entries, int left)
{
    int indent = depth * STEP, inner = indent + STEP;
    if (has_body(n) && !newlines(f, n->span.lo, n->span.hi) && !pending(f, n->span.hi)) {
        Text t = { .arena = f->arena };
        flat_item(&t, n);
        if (indent + width_of(text_data(&t)) <= SHORT_BLOCK) {
            put(f, text_data(&t));
            return;
        }
    }
    switch ((int)n->kind) {
    case AST_FN: {
        put(f, "fn ");
        put(f, n->text);
        int end = formals(f, n->a, n->word.hi, depth);
        if (!n->b) {
            body(f, n->c, depth, end, false);
            break;
        }
        put(f, " =");
        bool below = newlines(f, end, n->b->span.lo);
        if (!below) {
            put(f, " ");
            below = !fits(f, n->b, P_VALUE, WIDE, 0);
        }
        if (below)
            new_row(f, inner);
        value(f, n->b, P_VALUE, WIDE, inner, 0);
        break;
    }
    case AST_BLOCK: {
        int end = n->word.hi;
        put(f, n->text);
        if (n->a) {
            put(f, " ");
            put(f, n->a->text);
            end = n->a->span.hi;
        }
        if (n->b)
            end = formals(f, n->b, end, depth);
        if (n->c || !n->a || n->a->kind != AST_STR)
            body(f, n->c, depth, end, true);
        break;
    }
    case AST_PARAM: case AST_STATE: case AST_SET: {
        const char *text = left_side(f, n);
        int pad = left > width_of(text) ? left - width_of(text) : 0;
        put(f, arena_printf(f->arena, "%s%*s %s ", text, pad, "", n->kind == AST_SET ? "=" : n->text));
        value(f, n->b, P_VALUE, WIDE, inner, 0);
        break;
    }
    case AST_LET: case AST_CONST:
        put(f, arena_printf(f->arena, "%s %s = ", tree_kind(n->kind), n->text));
        value(f, n->a, P_VALUE, WIDE, inner, 0);
        break;
    case AST_RETURN:
        put(f, "return ");
        value(f, n->a, P_VALUE, WIDE, inner, 0);
        break;
    case AST_FOR:
        put(f, arena_printf(f->arena, "for %s in ", n->text));
        value(f, n->a, P_VALUE, WIDE, inner, 2);
        body(f, n->b, depth, n->a->span.hi, entries);
        break;
    case AST_WHEN:
        when(f, n, depth, entries);
        break;
    default: {
        Text t = { .arena = f->arena };
        flat_item(&t, n);
        put(f, text_data(&t));
    }
    }
}

/* Comments on lines of their own before an item or the end of a body. Returns the row of the first of those that
 * belong to what follows at `before`, having no blank line in between; or the row that comes next. */
static int leading(Fmt *f, int before, int indent)
{
    const Comment *c;
    int first = f->row.n;
    while ((c = pending(f, before))) {
        f->blank = f->printed && newlines(f, f->printed, c->span.lo) > 1;
        if (f->blank)
            first = f->row.n;
        put(f, comment_text(f, c));
        f->printed = c->span.hi;
        f->next++;
        new_row(f, indent);
    }
    f->blank = f->printed && newlines(f, f->printed, before) > 1;
    return f->blank ? f->row.n : first;
}

static bool can_align(const Node *n, bool entries)
{
    return n->kind == AST_PARAM || (entries && n->kind == AST_SET && n->a->kind == AST_NAME);
}

/* Whether an item gets one row; `comment`: the first one that may stand inside. How it stands in the source does not
 * tell: rows are broken and joined. */
static bool one_row(const Fmt *f, const Node *n, int depth, int comment)
{
    Fmt trial = { .arena = f->arena, .p = f->p, .line = { .arena = f->arena }, .indent = depth * STEP, .next = comment };
    while (pending(&trial, n->span.lo))
        trial.next++;
    if (has_body(n)) {
        Text t = { .arena = f->arena };
        bool empty = !n->c && (n->kind == AST_BLOCK || n->kind == AST_FN || !n->b);
        flat_item(&t, n);
        return depth * STEP + width_of(text_data(&t)) <= SHORT_BLOCK &&
            (empty ? !pending(&trial, n->span.hi) : !newlines(f, n->span.lo, n->span.hi));
    }
    item(&trial, n, depth, true, 0);
    new_row(&trial, 0);
    return trial.row.n == 1;
}

/* The width of the left sides of the run of entries or parameters that starts here; *end: the first item behind it.
 * A blank line and a comment line end a run, and so does an item of another kind unless it gets one row. */
static int run_width(Fmt *f, const Node *n, int depth, bool entries, const Node **end)
{
    int width = 0, comment = f->next;
    Kind kind = n->kind;
    for (const Node *m = n; m; m = m->next) {
        if (m->kind == kind && can_align(m, entries)) {
            int w = width_of(left_side(f, m));
            if (w <= LONGEST_TARGET && w > width)
                width = w;
        } else if (kind == AST_PARAM || !one_row(f, m, depth, comment)) {
            *end = m;
            return width;
        }
        *end = m->next;
        if (!m->next || newlines(f, m->span.hi, m->next->span.lo) > 1)
            return width;
        for (; comment < f->p->comments.n && f->p->comments.at[comment].span.lo < m->next->span.lo; comment++) {
            if (f->p->comments.at[comment].alone && f->p->comments.at[comment].span.lo > m->span.hi)
                return width;
        }
    }
    return width;
}

static void items(Fmt *f, const Node *first, int depth, int end, bool entries)
{
    int indent = depth * STEP, left = 0;
    const Node *run_end = first;
    bool short_fn = false;
    for (const Node *n = first; n; n = n->next) {
        int before = f->row.n, start = leading(f, n->span.lo, indent);
        bool commented = f->row.n > before;
        if (n == run_end) {
            left = 0;
            run_end = n->next;
            if (can_align(n, entries))
                left = run_width(f, n, depth, entries, &run_end);
        }
        int at = f->row.n;
        bool blank = f->blank;
        item(f, n, depth, entries, can_align(n, entries) ? left : 0);
        f->printed = n->span.hi;
        trailing(f, n->next ? n->next->span.lo : end);
        new_row(f, indent);

        /* blank lines at the top level; functions of one line may stand together */
        bool is_short = n->kind == AST_FN && n->b && f->row.n == at + 1;
        bool apart = n->kind == AST_FN || (n->kind == AST_BLOCK && (n->c || !n->a || n->a->kind != AST_STR));
        if (depth == 0 && apart && start > 0 && start < f->row.n && !(short_fn && is_short && !commented && !blank))
            f->row.at[start].blank = true;
        short_fn = is_short;
    }
    leading(f, end, indent);
    f->blank = false;
}

/* Trailing comments of neighbouring rows start at the same column. */
static void print_rows(const Fmt *f, Text *out)
{
    int at = 0;
    for (int i = 0; i < f->row.n; i++) {
        const Row *r = &f->row.at[i];
        if (r->comment && (i == 0 || !f->row.at[i - 1].comment || r->blank)) {
            at = 0;
            for (int k = i; k < f->row.n && f->row.at[k].comment && (k == i || !f->row.at[k].blank); k++) {
                int width = f->row.at[k].indent + width_of(f->row.at[k].text);
                if (width > at)
                    at = width;
            }
        }
        text_printf(out, "%s%*s%s", r->blank ? "\n" : "", r->indent, "", r->text);
        if (r->comment)
            text_printf(out, "%*s%s", at + 2 - r->indent - width_of(r->text), "", r->comment);
        text_char(out, '\n');
    }
}

bool fmt_source(Arena *arena, Diag *d, int source_id, Text *out)
{
    Parse *p = NEW(arena, Parse);
    int errors = d->errors;
    parse_run(p, arena, d, source_id, false);
    if (d->errors > errors)
        return false;
    Fmt f = { .arena = arena, .p = p, .line = { .arena = arena } };
    items(&f, p->root->a, 0, p->source.start + p->source.size + 1, false);
    new_row(&f, 0);
    print_rows(&f, out);
    return true;
}
