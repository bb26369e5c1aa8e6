/* parse.c -- one parse from beginning to end, and the rule of one message for one mistake. */
#include "front/syntax.h"

/* The parser's messages are kept back while the item is known to be broken. */
static void report(Parse *p, Span at, const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));
static void report(Parse *p, Span at, const char *fmt, va_list args)
{
    p->shown = false;
    if (!p->quiet) {
        diag_verror(p->diag, at, fmt, args);
        p->shown = p->diag->open;
    }
}

void parse_error(Parse *p, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report(p, at, fmt, args);
    va_end(args);
}

void parse_repair(Parse *p, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    report(p, at, fmt, args);
    p->taint = at.lo;
    va_end(args);
}

void parse_note(Parse *p, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (p->shown)
        diag_note(p->diag, at, "%s", arena_vprintf(p->arena, fmt, args));
    va_end(args);
}

void parse_help(Parse *p, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (p->shown)
        diag_help(p->diag, "%s", arena_vprintf(p->arena, fmt, args));
    va_end(args);
}

void parse_run(Parse *p, Arena *arena, Diag *d, int source_id, bool define)
{
    int errors = d->errors;
    *p = (Parse){
        .arena = arena,
        .diag = d,
        .source = d->sources->file.at[source_id],
        .define = define,
        .skip = -1,
    };
    int failed = grammar_parse(p);
    lex_end(p);
    Span all = { p->source.start, p->source.start + p->source.size };
    if (failed && d->errors == errors)
        diag_error(d, all, "this cannot be read as a program");
    if (failed || !p->root || (define && d->errors > errors)) {
        p->root = tree_node(arena, AST_BAD, all, NULL, NULL, NULL, NULL);
        if (!define)
            p->root = tree_node(arena, AST_FILE, all, NULL, p->root, NULL, NULL);
    }
}

Node *parse_file(Arena *arena, Diag *d, int source_id)
{
    Parse *p = NEW(arena, Parse);
    parse_run(p, arena, d, source_id, false);
    return p->root;
}

Node *parse_define(Arena *arena, Diag *d, int source_id)
{
    Parse *p = NEW(arena, Parse);
    parse_run(p, arena, d, source_id, true);
    return p->root;
}
