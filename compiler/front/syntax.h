/* syntax.h -- what scanner, layout, grammar and error sentences share; private to the parser.
 *
 *     text -> lexer.l -> raw tokens -> layout.c -> tokens -> grammar.y -> tree
 *                                                               |
 *                                                   syntax.c: what a syntax error says
 *
 * All state of one parse is in one Parse on the caller's stack, so several may run side by side. */
#ifndef TICC_SYNTAX_H
#define TICC_SYNTAX_H
#include "front/parse.h"

typedef struct Token {
    int kind;                       /* TOK_..., or the character itself; 0 at the end of the file */
    Span span;
    const char *text;               /* as written, for names, words, numbers and strings; else NULL */
} Token;

enum { RAW_NEWLINE = 1 };           /* a kind that only raw tokens have: the grammar never sees it */

typedef struct Bracket {
    char open;                      /* ( [ { */
    int at;                         /* its offset */
    int indent;                     /* of its line */
    bool doubtful;                  /* it stands where none can: no word about it when it is not closed */
} Bracket;

/* A list under construction keeps its tail: appending costs the same for the first and the last element. */
typedef struct Chain {
    Node *first, *last;
} Chain;

typedef struct Comment {
    Span span;                      /* from `#` to the end of the line, without trailing blanks */
    bool alone;                     /* nothing but blanks before it on its line */
} Comment;

enum { BRACKETS = 256, ITEM_TOKENS = 3 };

typedef struct Parse {
    Arena *arena;
    Diag *diag;
    Source source;
    bool define;                    /* one `path = value` from the command line instead of a file */
    Node *root;
    ARRAY(Comment) comments;        /* for the formatter */

    /* One mistake, one message. */
    bool quiet;                     /* until the end of this item: it has been reported */
    int taint;                      /* where a repair was last reported: no second message for that item; 0: nowhere */
    bool shown;                     /* the last error was not kept back: its notes and helps are wanted */

    /* lexer.l */
    void *scanner;
    int position;                   /* bytes of the source that are scanned */

    /* layout.c */
    Token before, prev, look;       /* the last two delivered tokens, and the raw one that is next */
    bool have_look, newline;        /* newline: one stood before `look` */
    bool started, dead;             /* dead: given up, only the end of the file is delivered */
    Token item[ITEM_TOKENS];        /* the first tokens of this item, for messages */
    int item_tokens;
    int ifs, if_at;                 /* how many `if` this item has, and where the last one stands */
    Bracket bracket[BRACKETS];
    int depth;
    Bracket popped;                 /* the last one that was closed, and by what */
    int popped_by;
    int skip;                       /* recovering: tokens inside more brackets than this are noise; -1: not */
    Token queue[BRACKETS];          /* inserted tokens, delivered first */
    int queue_first, queue_end;
    int forgiven;                   /* a `{` that could not stand there got a `}`: one other may lack its own */
    int owed;                       /* `{` that were reported missing: as many `}` pass in silence */
    int suspect, culprit;           /* the first line that is by its indentation outside an open {, and that { */
} Parse;

/* parse.c. The same as parse_file, but leaves everything in *p, which the caller declares. */
void parse_run(Parse *p, Arena *arena, Diag *d, int source_id, bool define);
/* Errors of the parser go through these: they keep to one message an item. */
void parse_error(Parse *p, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void parse_note(Parse *p, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void parse_help(Parse *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* An error after which parsing goes on as if nothing had happened. */
void parse_repair(Parse *p, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* lexer.l */
int lex_raw(Parse *p, Token *t);    /* returns t->kind */
void lex_end(Parse *p);

/* layout.c */
int layout_next(Parse *p, Token *t);
int layout_peek(Parse *p);          /* kind of the raw token after this one; p->newline: is it on another line */
void layout_resume(Parse *p);       /* recovery has reached a safe token */
bool layout_deeper(Parse *p);       /* is the next line indented more than the line of the token before? */
char layout_at(const Parse *p, int offset);                  /* the byte there; 0 outside the source */
int layout_line_start(const Parse *p, int offset);
int layout_line_end(const Parse *p, int offset);
bool layout_same_line(const Parse *p, int a, int b);

/* syntax.c: what could stand where the error is, and the sentence about it. */
typedef struct Expected {
    bool value, infix, open, assign, then, otherwise;        /* a number; `*`; `{`; `=`; `then`; `else` */
    const char *got;                /* the unexpected token in words */
    const char **name;              /* all of them, in words */
    int n;
} Expected;
void syntax_error(Parse *p, const Expected *want);
void syntax_chain(Parse *p, const Node *left, const char *op, const Node *right);      /* a < b < c */
void syntax_scope(Parse *p, Span brackets, const Node *scope);                         /* f(x) as attn[b, t] */
void syntax_exhausted(Parse *p, Span at);                                              /* Bison's stack is full */
const char *syntax_quote(const Parse *p, int lo, int hi);  /* the user's text there, when short and balanced, or NULL */
bool syntax_repaired(const Parse *p);                      /* has this item had its message from parse_repair? */

int grammar_parse(Parse *p);        /* Bison's; 0 when p->root is set */
#endif
