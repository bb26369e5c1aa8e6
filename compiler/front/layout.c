/* layout.c -- what a newline means, and how to get back after a mistake.
 *
 * The rule a user has to know: a newline ends a statement, except inside ( ) and [ ], after a token that wants more
 * (an operator, a comma), and before a line that no statement can start with (an operator, `then`, `else`, `as`, a
 * closing bracket, `{`). A `;` is a newline one can write on one line. For the grammar every statement ends in one
 * END, also the last one before `}` and before the end of the file.
 *
 * Repairs are made only where no valid program can be: in front of `{`, `}`, the end of the file or a statement's
 * own word inside ( or [; between two operands on two lines inside brackets when the second is not indented deeper
 * than the bracket's line; at a `}` with more behind it on its line. What is missing is reported and inserted, and
 * parsing goes on as if nothing had happened.
 *
 * After a syntax error the tokens that lie deeper than its place become JUNK, so that recovery (`error END`,
 * `( error )`) stops at the END or `)` that belongs to the broken statement and not at one inside it. */
#include "front/syntax.h"
#include "front/grammar.h"
#include <string.h>

/* ---- the text around a place */

char layout_at(const Parse *p, int offset)
{
    int i = offset - p->source.start;
    return i >= 0 && i < p->source.size ? p->source.text[i] : 0;
}

/* The line of an offset, counted from 0. */
static int line_of(const Parse *p, int offset)
{
    int lo = 0, hi = p->source.n_lines;
    while (hi - lo > 1) {
        int middle = (lo + hi) / 2;
        if (p->source.line[middle] <= offset - p->source.start)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

int layout_line_start(const Parse *p, int offset)
{
    return p->source.start + p->source.line[line_of(p, offset)];
}

int layout_line_end(const Parse *p, int offset)
{
    int next = line_of(p, offset) + 1;
    return p->source.start + (next < p->source.n_lines ? p->source.line[next] - 1 : p->source.size);
}

bool layout_same_line(const Parse *p, int a, int b)
{
    return line_of(p, a) == line_of(p, b);
}

static int indent_of_line(const Parse *p, int offset)
{
    int start = layout_line_start(p, offset), i = start;
    while (layout_at(p, i) == ' ' || layout_at(p, i) == '\t')
        i++;
    return i - start;
}

static bool first_on_line(const Parse *p, int offset)
{
    return offset - layout_line_start(p, offset) == indent_of_line(p, offset);
}

/* ---- kinds of token */

static bool can_end(int kind)                              /* a statement */
{
    return kind == TOK_NAME || kind == TOK_NUM || kind == TOK_STR || kind == ')' || kind == ']' || kind == '}';
}

static bool only_starts(int kind)                          /* a statement, and stands nowhere else */
{
    return kind == TOK_USE || kind == TOK_FN || kind == TOK_PARAM || kind == TOK_STATE || kind == TOK_LET
        || kind == TOK_CONST || kind == TOK_RETURN || kind == TOK_FOR;
}

static bool can_start(int kind)
{
    return only_starts(kind) || kind == TOK_NAME || kind == TOK_IF;
}

static bool continues(int kind)                            /* no statement starts so: the line above goes on */
{
    switch (kind) {
    case TOK_EQ: case TOK_NE: case TOK_LE: case TOK_GE: case TOK_AND: case TOK_OR:
    case TOK_THEN: case TOK_ELSE: case TOK_AS: case TOK_IN: case TOK_DOTS: case TOK_HALF_OPEN:
        return true;
    default:
        return kind > 0 && kind < 128 && strchr("+-*/^<>=~:,.)]{", kind);
    }
}

static int closer(char open)
{
    return open == '(' ? ')' : open == '[' ? ']' : '}';
}

/* ---- the stream */

static bool in_round(const Parse *p)                       /* inside ( or [ */
{
    return p->depth && p->bracket[p->depth - 1].open != '{';
}

static Token inserted(const Parse *p, int kind)            /* right behind the last token */
{
    return (Token){ kind, { p->prev.span.hi, p->prev.span.hi }, NULL };
}

int layout_peek(Parse *p)
{
    if (p->have_look)
        return p->look.kind;
    p->newline = false;
    while (lex_raw(p, &p->look) == RAW_NEWLINE)
        p->newline = true;
    p->have_look = true;
    return p->look.kind;
}

static int deliver(Parse *p, Token *out, Token t)
{
    if (p->skip >= 0 && p->depth > p->skip && t.kind && t.kind != TOK_END)
        t.kind = TOK_JUNK;
    if (!p->prev.kind || p->prev.kind == TOK_END || p->prev.kind == '{' || p->prev.kind == '}')
        p->item_tokens = p->ifs = 0;                       /* t starts an item */
    if (t.kind == TOK_END && p->skip < 0)
        p->quiet = false;
    if (t.kind == TOK_IF) {
        p->ifs++;
        p->if_at = t.span.lo;
    }
    if (p->item_tokens < ITEM_TOKENS)
        p->item[p->item_tokens++] = t;
    p->before = p->prev;
    p->prev = t;
    *out = t;
    return t.kind;
}

void layout_resume(Parse *p)
{
    p->skip = -1;
}

bool layout_deeper(Parse *p)
{
    layout_peek(p);
    return p->look.kind && indent_of_line(p, p->look.span.lo) > indent_of_line(p, p->before.span.hi);
}

/* Close all ( and [ above the innermost {: report the innermost one, queue what is missing. */
static void close_round(Parse *p)
{
    if (p->skip < 0) {
        const Bracket *b = &p->bracket[p->depth - 1];
        parse_repair(p, (Span){ b->at, b->at + 1 }, "this `%c` is never closed", b->open);
        if (p->look.kind && p->look.kind != '}' && p->look.kind != '{')
            parse_note(p, p->look.span, "a new statement starts here");
    }
    while (in_round(p))
        p->queue[p->queue_end++] = inserted(p, closer(p->bracket[--p->depth].open));
}

/* A line at or left of the indentation of an open { is where, most likely, its } was forgotten. */
static void watch_indentation(Parse *p)
{
    int at = p->look.span.lo;
    if (!p->newline || !p->look.kind || p->look.kind == '}' || p->suspect || !p->depth || in_round(p))
        return;
    const Bracket *b = &p->bracket[p->depth - 1];
    if (first_on_line(p, at) && indent_of_line(p, at) <= b->indent) {
        p->suspect = at;
        p->culprit = b->at;
    }
}

/* The next token cannot be inside ( or [. */
static bool must_close(const Parse *p)
{
    int kind = p->look.kind;
    if (!kind || kind == '{' || kind == '}')
        return true;
    if (!p->newline || !can_end(p->prev.kind))
        return false;
    return only_starts(kind)
        || (can_start(kind) && indent_of_line(p, p->look.span.lo) <= p->bracket[p->depth - 1].indent);
}

/* Does the newline before the next token end the statement? While recovering also behind an operator, unless the
 * next line is plainly a part of the broken statement. */
static bool newline_ends(const Parse *p)
{
    int kind = p->look.kind, prev = p->prev.kind;
    bool over = can_end(prev) || prev == TOK_JUNK
             || (only_starts(kind) && prev && prev != TOK_END && prev != '{' && prev != TOK_DEFINE);
    if (p->skip >= 0 && can_start(kind) && p->item_tokens)
        over |= only_starts(kind) || prev == ':'
             || indent_of_line(p, p->look.span.lo) <= indent_of_line(p, p->item[0].span.lo);
    return over && !continues(kind) && (p->skip < 0 || p->depth <= p->skip);
}

/* A `}` that closes a block of several lines ends its line. With more behind it, or behind an operator and with
 * lines of the block to follow, it was typed by mistake: report it and go on without it. */
static bool stray_brace(Parse *p)
{
    Token brace = p->look;
    int at = p->depth - 1, prev = p->prev.kind;
    while (at >= 0 && p->bracket[at].open != '{')
        at--;
    if (p->skip >= 0 || p->quiet || !p->depth || first_on_line(p, brace.span.lo)
        || (at >= 0 && layout_same_line(p, p->bracket[at].at, brace.span.lo)))
        return false;
    int i = brace.span.hi;
    while (layout_at(p, i) == ' ' || layout_at(p, i) == '\t' || layout_at(p, i) == '\r')
        i++;
    char c = layout_at(p, i);
    bool more = c && !strchr("\n#;}", c) && !(c == 'e' && layout_at(p, i + 1) == 'l');
    if (!more) {
        if (in_round(p) || can_end(prev) || prev == TOK_END || prev == '{')
            return false;
        while (c && strchr(" \t\r\n", c))
            c = layout_at(p, ++i);
        if (!c || c == '}' || indent_of_line(p, i) <= p->bracket[at].indent)
            return false;
    }
    parse_repair(p, brace.span, "this `}` stands in the middle of a statement");
    if (at >= 0)
        parse_note(p, (Span){ p->bracket[at].at, p->bracket[at].at + 1 }, "it would close this `{`");
    return true;
}

/* The file ends inside {. */
static void close_block(Parse *p)
{
    const Bracket *b = &p->bracket[--p->depth];
    int at = p->suspect ? p->culprit : b->at;
    if (b->doubtful) {
        p->suspect = 0;
    } else if (p->forgiven) {
        p->forgiven--;
    } else {
        p->quiet = false;
        parse_error(p, (Span){ at, at + 1 }, "this `{` is never closed");
        if (p->suspect)
            parse_note(p, (Span){ p->suspect, p->suspect + 1 }, "by its indentation, this line is outside the block");
    }
    p->skip = -1;
    p->suspect = 0;
}

static int push_bracket(Parse *p, Token *out)
{
    Token t = p->look;
    if (p->depth == BRACKETS) {
        p->quiet = false;
        parse_error(p, t.span, "brackets nest more than %d deep", BRACKETS);
        p->quiet = p->dead = true;
        *out = (Token){ 0, t.span, NULL };
        return 0;
    }
    p->bracket[p->depth++] = (Bracket){ (char)t.kind, t.span.lo, indent_of_line(p, t.span.lo), false };
    return deliver(p, out, t);
}

/* The token is the last one of its pair: what is skipped is skipped with it. */
static int pop_bracket(Parse *p, Token *out)
{
    Token t = p->look;
    bool junk = p->skip >= 0 && p->depth > p->skip;
    const Bracket *b = &p->bracket[--p->depth];
    p->forgiven += b->open == '{' && b->doubtful;
    p->popped = *b;
    p->popped_by = t.span.lo;
    if (p->skip > p->depth)
        p->skip = p->depth;
    if (!junk)
        return deliver(p, out, t);
    t.kind = TOK_JUNK;
    p->before = p->prev;
    p->prev = t;
    *out = t;
    return t.kind;
}

int layout_next(Parse *p, Token *out)
{
    if (!p->started) {
        p->started = true;
        if (p->define)
            return deliver(p, out, (Token){ TOK_DEFINE, { p->source.start, p->source.start }, NULL });
    }
    for (;;) {
        if (p->queue_first < p->queue_end)
            return deliver(p, out, p->queue[p->queue_first++]);
        p->queue_first = p->queue_end = 0;
        int kind = layout_peek(p);
        if (p->dead) {
            *out = (Token){ 0, p->look.span, NULL };
            return 0;
        }
        watch_indentation(p);

        /* `f(2 +`, newline, `param`: that a value is missing says more than that a bracket is open */
        while (p->newline && only_starts(kind) && !can_end(p->prev.kind) && in_round(p))
            p->depth--;
        if (kind == '}' && stray_brace(p)) {
            p->have_look = false;
            continue;
        }
        if (in_round(p) && must_close(p)) {
            close_round(p);
            continue;
        }
        if (p->newline && !in_round(p)) {
            bool ends = newline_ends(p);
            p->newline = false;
            if (ends)
                return deliver(p, out, inserted(p, TOK_END));
        }
        if (kind == ';') {
            p->have_look = false;
            if (can_end(p->prev.kind) || p->prev.kind == TOK_JUNK)
                return deliver(p, out, (Token){ TOK_END, p->look.span, NULL });
            continue;
        }
        if (kind == '}' || !kind) {
            int prev = p->prev.kind;
            if (prev && prev != TOK_END && prev != '{' && (p->skip < 0 || p->depth <= p->skip))
                return deliver(p, out, inserted(p, TOK_END));
            if (!kind && p->depth) {
                close_block(p);
                return deliver(p, out, inserted(p, '}'));
            }
        }
        p->have_look = false;
        if (kind == '(' || kind == '[' || kind == '{')
            return push_bracket(p, out);
        if (kind && strchr(")]}", kind) && p->depth && closer(p->bracket[p->depth - 1].open) == kind)
            return pop_bracket(p, out);
        return deliver(p, out, p->look);
    }
}
