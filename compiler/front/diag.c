/* diag.c -- places, messages, and how a message looks. */
#include "front/diag.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    FILE_LIMIT = 16 << 20,          /* a file that is read */
    SOURCE_LIMIT = 64 << 20,        /* a text that is added */
    SPACE_LIMIT = 1 << 30,          /* all of them: offsets are ints */
    TAB = 4,
    WIDTH = 160,                    /* of a source line in a message; a longer one is cut around the caret */
};

/* ---- sources */

int source_add(Sources *s, const char *path, const char *text, size_t size)
{
    if (size > SOURCE_LIMIT || s->end > SPACE_LIMIT - (int)size - 1)
        return -1;
    Source f = {
        .path = arena_strndup(s->arena, path, strlen(path)),
        .text = arena_strndup(s->arena, text, size),
        .start = s->end + 1,
        .size = (int)size,
    };
    f.n_lines = 1;
    for (size_t i = 0; i < size; i++)
        f.n_lines += text[i] == '\n';
    f.line = NEWN(s->arena, int, f.n_lines);
    int line = 1;
    for (int i = 0; i < f.size; i++) {
        if (text[i] == '\n')
            f.line[line++] = i + 1;
    }
    s->end = f.start + f.size;
    PUSH(s->arena, s->file, f);
    return s->file.n - 1;
}

const Source *source_of(const Sources *s, int offset)
{
    int lo = 0, hi = s->file.n;
    while (lo < hi) {                                      /* the first file that ends at or behind the offset */
        int middle = (lo + hi) / 2;
        if (s->file.at[middle].start + s->file.at[middle].size < offset)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo < s->file.n && s->file.at[lo].start <= offset ? &s->file.at[lo] : NULL;
}

static int line_of(const Source *f, int at)                /* counted from 0 */
{
    int lo = 0, hi = f->n_lines;
    while (hi - lo > 1) {
        int middle = (lo + hi) / 2;
        if (f->line[middle] <= at)
            lo = middle;
        else
            hi = middle;
    }
    return lo;
}

/* The bytes of a valid UTF-8 sequence at s, or 0. */
static int utf8_length(const char *s, const char *end)
{
    unsigned char c = (unsigned char)*s;
    int n = c < 0x80 ? 1 : c >= 0xc2 && c < 0xe0 ? 2 : c >= 0xe0 && c < 0xf0 ? 3 : c >= 0xf0 && c < 0xf5 ? 4 : 0;
    if (n > end - s)
        return 0;
    for (int i = 1; i < n; i++) {
        if (((unsigned char)s[i] & 0xc0) != 0x80)
            return 0;
    }
    return n;
}

static const char *next_character(const char *s, const char *end)
{
    int n = utf8_length(s, end);
    return s + (n ? n : 1);
}

Place source_place(const Sources *s, int offset)
{
    const Source *f = source_of(s, offset);
    if (!f)
        return (Place){ 0 };
    int at = offset - f->start, line = line_of(f, at), column = 1;
    const char *end = f->text + at;
    for (const char *c = f->text + f->line[line]; c < end; column++)
        c = next_character(c, f->text + f->size);
    return (Place){ f, line + 1, column };
}

const char *source_text(const Sources *s, Span at)
{
    const Source *f = source_of(s, at.lo);
    Text t = { .arena = s->arena };
    if (!f)
        return "";
    const char *c = f->text + (at.lo - f->start), *end = f->text + f->size;
    if (at.hi - f->start < f->size)
        end = f->text + (at.hi - f->start);
    bool quoted = false, blank = false;
    for (; c < end; c++) {
        if (*c == '"')
            quoted = !quoted;
        if (*c == '#' && !quoted) {                        /* up to the end of its line, which is a blank */
            while (c + 1 < end && c[1] != '\n')
                c++;
            blank = true;
        } else if (!quoted && (*c == ' ' || *c == '\t' || *c == '\r' || *c == '\n')) {
            blank = true;
        } else {
            if (blank && t.n)
                text_char(&t, ' ');
            blank = false;
            text_char(&t, *c);
        }
        if (*c == '\n')
            quoted = false;
    }
    return text_data(&t);
}

const char *diag_read(Diag *d, const char *path, size_t *size)
{
    struct stat info;
    Text t = { .arena = d->sources->arena };
    char piece[16 << 10];
    FILE *file = fopen(path, "rb");
    if (!file) {
        diag_error(d, (Span){ 0 }, "cannot read `%s`: %s", path, strerror(errno));
        return NULL;
    }
    bool good = fstat(fileno(file), &info) || !S_ISDIR(info.st_mode);
    if (!good)
        diag_error(d, (Span){ 0 }, "cannot read `%s`: it is a folder", path);
    for (size_t n; good && t.n <= FILE_LIMIT && (n = fread(piece, 1, sizeof piece, file)) > 0;)
        text_bytes(&t, piece, n);
    if (good && ferror(file)) {
        good = false;
        diag_error(d, (Span){ 0 }, "cannot read `%s`: %s", path, strerror(errno));
    } else if (t.n > FILE_LIMIT) {
        good = false;
        diag_error(d, (Span){ 0 }, "`%s` is larger than 16 MiB", path);
    }
    fclose(file);
    *size = t.n;
    return good ? text_data(&t) : NULL;
}

int diag_load(Diag *d, const char *path)
{
    size_t size;
    const char *text = diag_read(d, path, &size);
    int id = text ? source_add(d->sources, path, text, size) : -1;
    if (text && id < 0)
        diag_error(d, (Span){ 0 }, "`%s` does not fit: all source files together are larger than 1 GiB", path);
    return id;
}

/* ---- messages */

static void add(Diag *d, DiagKind kind, Span at, const char *fmt, va_list args) __attribute__((format(printf, 4, 0)));
static void add(Diag *d, DiagKind kind, Span at, const char *fmt, va_list args)
{
    Text t = { .arena = d->sources->arena };
    text_vprintf(&t, fmt, args);
    PUSH(d->sources->arena, d->message, (DiagMessage){ kind, at, text_data(&t) });
}

void diag_verror(Diag *d, Span at, const char *fmt, va_list args)
{
    d->open = false;
    if (d->errors >= DIAG_LIMIT) {
        d->errors++;
        return;
    }
    add(d, DIAG_ERROR, at, fmt, args);
    const DiagMessage *new = &d->message.at[d->message.n - 1];
    for (const DiagMessage *m = d->message.at; m < new; m++) {
        if (m->kind == DIAG_ERROR && m->at.lo == at.lo && m->at.hi == at.hi && !strcmp(m->text, new->text)) {
            d->message.n--;
            return;
        }
    }
    d->errors++;
    d->open = true;
}

void diag_error(Diag *d, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    diag_verror(d, at, fmt, args);
    va_end(args);
}

void diag_warning(Diag *d, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    add(d, DIAG_WARNING, at, fmt, args);
    va_end(args);
    d->open = true;
}

void diag_note(Diag *d, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (d->open)
        add(d, DIAG_NOTE, at, fmt, args);
    va_end(args);
}

void diag_help(Diag *d, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (d->open)
        add(d, DIAG_HELP, (Span){ 0 }, fmt, args);
    va_end(args);
}

/* ---- printing */

/* One line as it appears on a terminal: tabs are blanks up to the next stop, what cannot be printed is `?`.
 * `cell` says for each byte of the line at which column it begins; cell[n] is the width. */
static void render(const char *s, int n, Text *out, int *cell)
{
    int column = 0, i = 0;
    while (i < n) {
        int length = utf8_length(s + i, s + n);
        for (int k = 0; k < (length ? length : 1); k++)
            cell[i + k] = column;
        if (s[i] == '\t') {
            do
                text_char(out, ' ');
            while (++column % TAB);
        } else {
            if (!length || (length == 1 && ((unsigned char)s[i] < 32 || s[i] == 127)))
                text_char(out, '?');
            else
                text_bytes(out, s + i, (size_t)length);
            column++;
        }
        i += length ? length : 1;
    }
    cell[n] = column;
}

/* The source line and the carets below it. A span over several lines is underlined on its first. */
static void show_line(Sources *s, Span at, Text *out)
{
    const Source *f = source_of(s, at.lo);
    int lo = at.lo - f->start, hi = at.hi - f->start, line = line_of(f, lo);
    int from = f->line[line], to = from;
    while (to < f->size && f->text[to] != '\n')
        to++;
    if (to > from && f->text[to - 1] == '\r')
        to--;
    if (lo > to)
        lo = to;
    hi = hi > to ? to : hi < lo ? lo : hi;

    Arena scratch = { 0 };
    Text t = { .arena = &scratch };
    int *cell = NEWN(&scratch, int, to - from + 1);
    render(f->text + from, to - from, &t, cell);
    const char *text = text_data(&t), *end = text + t.n;
    int caret = cell[lo - from], width = cell[hi - from] - caret, before = 0;
    if (width < 1)
        width = 1;
    if (cell[to - from] > WIDTH) {
        int skip = caret > WIDTH / 2 ? caret - WIDTH / 2 : 0;
        for (int i = 0; i < skip; i++)
            text = next_character(text, end);
        const char *stop = text;
        for (int i = 0; i < WIDTH && stop < end; i++)
            stop = next_character(stop, end);
        before = skip ? 4 : 0;                             /* "... " */
        caret -= skip;
        if (width > WIDTH - caret)
            width = WIDTH - caret;
        text_printf(out, "%4d | %s%.*s%s\n", line + 1, skip ? "... " : "", (int)(stop - text), text,
                    stop < end ? " ..." : "");
    } else {
        text_printf(out, "%4d | %s\n", line + 1, text);
    }
    text_printf(out, "     | %*s", before + caret, "");
    for (int i = 0; i < width; i++)
        text_char(out, '^');
    text_char(out, '\n');
    arena_free(&scratch);
}

static void show_place(Sources *s, Span at, const char *kind, const char *text, Text *out)
{
    Place p = source_place(s, at.lo);
    text_printf(out, "%s:%d:%d: %s: %s\n", p.source->path, p.line, p.column, kind, text);
    show_line(s, at, out);
}

void diag_text(const Diag *d, Text *out)
{
    Span last = { 0 };                                     /* what the reader has just seen */
    for (int i = 0; i < d->message.n; i++) {
        const DiagMessage *m = &d->message.at[i];
        bool placed = source_of(d->sources, m->at.lo) != NULL;
        if (m->kind == DIAG_HELP) {
            text_printf(out, "     = help: %s\n", m->text);
        } else if (m->kind == DIAG_NOTE && (!placed || (m->at.lo == last.lo && m->at.hi == last.hi))) {
            text_printf(out, "     = note: %s\n", m->text);
        } else if (placed) {
            show_place(d->sources, m->at, m->kind == DIAG_ERROR ? "error" : m->kind == DIAG_WARNING ? "warning" : "note", m->text, out);
            last = m->at;
        } else {
            text_printf(out, "ticc: %s: %s\n", m->kind == DIAG_WARNING ? "warning" : "error", m->text);
            last = m->at;
        }
    }
    if (d->errors > DIAG_LIMIT) {
        int more = d->errors - DIAG_LIMIT;
        text_printf(out, "ticc: %d more error%s like these %s not shown\n", more, more > 1 ? "s" : "",
                    more > 1 ? "are" : "is");
    }
}

void diag_print(const Diag *d, FILE *out)
{
    Arena scratch = { 0 };
    Text t = { .arena = &scratch };
    diag_text(d, &t);
    fwrite(text_data(&t), 1, t.n, out);
    arena_free(&scratch);
}

/* ---- did you mean */

enum { WORD = 32 };

static int least(int a, int b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours (optimal string alignment). */
static int distance(const char *a, int n, const char *b, int m)
{
    int d[WORD + 1][WORD + 1];
    for (int i = 0; i <= n; i++) {
        for (int j = 0; j <= m; j++) {
            if (!i || !j) {
                d[i][j] = i + j;
                continue;
            }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            best = least(best, least(d[i - 1][j], d[i][j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = least(best, d[i - 2][j - 2] + 1);
            d[i][j] = best;
        }
    }
    return d[n][m];
}

const char *diag_closest(const char *word, const char *const *list)
{
    size_t n = strlen(word);
    int limit = n < 4 ? 2 : 3;
    const char *best = NULL;
    if (n > WORD)
        return NULL;
    for (; *list; list++) {
        size_t m = strlen(*list);
        if (m > WORD)
            continue;
        int far = distance(word, (int)n, *list, (int)m);
        if (far && far < limit && far < (int)n && far < (int)m) {
            limit = far;
            best = *list;
        }
    }
    return best;
}
