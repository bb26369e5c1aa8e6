/* diag.h -- source files, places in them, and what there is to say about them.
 *
 * All files of one compilation share one space of byte offsets: each gets a range of it when it is added, so two
 * ints name a file and the bytes in it. A Span travels with every node of the tree and of the graph; lines and
 * columns are computed only when a message is printed.
 *
 * Messages are collected, not printed: a library function never writes to the terminal. What comes out:
 *
 *     clip.tic:3:9: error: `x` has 3 axes and is indexed by 2
 *        3 |     y[d] = x[t, d]
 *          |            ^^^^^^^
 *     clip.tic:1:6: note: defined here
 *        1 | fn f(x[b, t, d])
 *          |      ^^^^^^^^^^
 *          = help: ...
 *
 * The text of an error names the subject first, then what was found, then what is wanted; lower case, no full
 * stop; the user's own names in `backquotes`. A help is given only when it is right. */
#ifndef TICC_DIAG_H
#define TICC_DIAG_H
#include "../base.h"
#include <stdio.h>

/* Bytes [lo, hi) in the common offset space. Offsets begin at 1: a zero Span means "no place in the source". */
typedef struct Span {
    int lo, hi;
} Span;

typedef struct Source {
    const char *path;               /* as messages print it */
    const char *text;               /* size bytes and a zero byte; may hold any bytes */
    int start, size;                /* occupies the offsets start .. start + size, the last one is the end of file */
    int *line, n_lines;             /* where each line begins, relative to the text */
} Source;

/* Start as `Sources s = { .arena = a }`; the arena holds texts, line tables and messages. */
typedef struct Sources {
    Arena *arena;
    ARRAY(Source) file;
    int end;                        /* offsets up to here are taken */
} Sources;

typedef struct Place {
    const Source *source;           /* NULL when the offset lies in no file */
    int line, column;               /* from 1; columns count characters, a tab is one */
} Place;

int source_add(Sources *s, const char *path, const char *text, size_t size);  /* copies; -1 when over 64 MiB */
const Source *source_of(const Sources *s, int offset);       /* NULL for none */
Place source_place(const Sources *s, int offset);
const char *source_text(const Sources *s, Span at);          /* the user's own text on one line: runs of blanks and
                                                                comments become a blank; from the arena */

typedef enum DiagKind {
    DIAG_ERROR,
    DIAG_WARNING,                   /* as an error, but the input may be used */
    DIAG_NOTE,
    DIAG_HELP,
} DiagKind;

typedef struct DiagMessage {
    DiagKind kind;
    Span at;
    const char *text;
} DiagMessage;

enum { DIAG_LIMIT = 20 };           /* errors that are kept; the others are only counted */

/* Start as `Diag d = { .sources = &s }`. */
typedef struct Diag {
    Sources *sources;
    ARRAY(DiagMessage) message;     /* each error or warning is followed by its notes and helps */
    int errors;                     /* all of them; 0 means that the input may be used */
    bool open;                      /* the last error was kept: its notes and helps are too */
} Diag;

/* An error that was reported before, word for word at the same place, is dropped with its notes. */
void diag_error(Diag *d, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_verror(Diag *d, Span at, const char *fmt, va_list args) __attribute__((format(printf, 3, 0)));
void diag_warning(Diag *d, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_note(Diag *d, Span at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void diag_help(Diag *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* The text of a file, which may hold zero bytes and has one behind it; in the arena of the sources. NULL after an error: missing,
 * not readable, a folder, over 16 MiB. */
const char *diag_read(Diag *d, const char *path, size_t *size);
/* Reads a file into the sources. -1 after an error: those, or no room among the sources. */
int diag_load(Diag *d, const char *path);

void diag_text(const Diag *d, Text *out);
void diag_print(const Diag *d, FILE *out);

/* The word of a NULL-terminated list that `word` was probably meant to be (edit distance below 3, below 2 for words
 * shorter than 4; a swap of neighbours counts once; one letter is like no other), or NULL. An equal word is not an answer. */
const char *diag_closest(const char *word, const char *const *list);
#endif
