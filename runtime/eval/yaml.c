/* yaml.c -- see yaml.h. The text is cut into lines (indentation, what follows), and those are rewritten as JSON, which has
 * a reader already. */
#define _GNU_SOURCE
#include "eval/yaml.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { int indent, number; char *text; } Line;

typedef struct {
    const char *path;
    Line *line;
    int count, room, at;
    FILE *out;
} Yaml;

static TicStatus wrong(const Yaml *y, int number, const char *what)
{
    return tic_fail(TIC_USER, "%s:%d: %s", y->path, number, what);
}

/* Where a comment begins in a line, or its end: a '#' first or after a blank, outside quotes. */
static size_t comment_at(const char *s, size_t n)
{
    char quote = 0;
    for (size_t i = 0; i < n; i++) {
        if (quote == '"' && s[i] == '\\')
            i++;
        else if (quote)
            quote = s[i] == quote ? 0 : quote;
        else if ((s[i] == '"' || s[i] == '\'') && (!i || strchr(" \t[{,:", s[i - 1])))
            quote = s[i];
        else if (s[i] == '#' && (!i || isblank((unsigned char)s[i - 1])))
            return i;
    }
    return n;
}

static TicStatus cut_lines(Yaml *y, const char *text, size_t size)
{
    int number = 0;
    for (const char *p = text, *end = text + size; p < end;) {
        const char *stop = memchr(p, '\n', (size_t)(end - p));
        size_t n = (size_t)((stop ? stop : end) - p), lead = 0;
        const char *from = p;
        number++;
        p += n + 1;
        if (memchr(from, 0, n))
            return wrong(y, number, "a zero byte in a text file");
        if (number == 1 && n >= 3 && !memcmp(from, "\xef\xbb\xbf", 3)) {
            from += 3;
            n -= 3;
        }
        n = comment_at(from, n);
        while (n && isspace((unsigned char)from[n - 1]))
            n--;
        while (lead < n && from[lead] == ' ')
            lead++;
        if (lead == n || (n == 3 && !memcmp(from, "---", 3) && !y->count))
            continue;
        if (from[lead] == '\t')
            return wrong(y, number, "indentation by a tab; spaces wanted");
        if (!lead && (*from == '%' || (n == 3 && (!memcmp(from, "---", 3) || !memcmp(from, "...", 3)))))
            return wrong(y, number, "directives and several documents are not read");
        if (y->count == y->room) {
            y->room = y->room ? 2 * y->room : 64;
            y->line = tic_realloc(y->line, (size_t)y->room * sizeof *y->line);
        }
        y->line[y->count++] = (Line){ (int)lead, number, tic_format("%.*s", (int)(n - lead), from + lead) };
    }
    return TIC_OK;
}

/* ---- scalars and flow values; *s moves behind what was read */

static void put_string(const Yaml *y, const char *text, size_t n)
{
    char *quoted = tic_json_quote(text, n);
    fputs(quoted, y->out);
    free(quoted);
}

static TicStatus quoted(const Yaml *y, int number, const char **s)
{
    char quote = **s, *text = tic_alloc(strlen(*s) + 1);
    size_t n = 0;
    const char *p = *s + 1;
    for (; *p && (*p != quote || (quote == '\'' && p[1] == '\'')); p++) {
        if (quote == '"' && *p == '\\') {
            const char *escape = strchr("n\nt\t\\\\\"\"/", p[1]);
            if (!p[1] || !escape || (escape - "n\nt\t\\\\\"\"/") % 2) {
                free(text);
                return wrong(y, number, "this escape is not read; \\n, \\t, \\\\ and \\\" are");
            }
            text[n++] = *++p == 'n' ? '\n' : *p == 't' ? '\t' : *p;
            continue;
        }
        text[n++] = *p;
        p += quote == '\'' && *p == '\'';
    }
    if (*p)
        put_string(y, text, n);
    free(text);
    if (!*p)
        return wrong(y, number, "a quoted text does not end on its line");
    *s = p + 1;
    return TIC_OK;
}

static bool is_number(const char *s, size_t n)       /* as JSON writes them */
{
    size_t i = n && *s == '-', digits = i;
    while (i < n && isdigit((unsigned char)s[i]))
        i++;
    if (i == digits || (s[digits] == '0' && i > digits + 1))
        return false;
    if (i < n && s[i] == '.') {
        digits = ++i;
        while (i < n && isdigit((unsigned char)s[i]))
            i++;
        if (i == digits)
            return false;
    }
    if (i < n && (s[i] == 'e' || s[i] == 'E')) {
        i++;
        i += i < n && (s[i] == '+' || s[i] == '-');
        digits = i;
        while (i < n && isdigit((unsigned char)s[i]))
            i++;
        if (i == digits)
            return false;
    }
    return i == n;
}

static TicStatus plain(const Yaml *y, int number, const char **s, const char *stops)
{
    size_t n = 0;
    while ((*s)[n] && !strchr(stops, (*s)[n]))
        n++;
    const char *text = *s;
    *s += n;
    while (n && isblank((unsigned char)text[n - 1]))
        n--;
    if (n && strchr("&*!|>%@`", *text))
        return wrong(y, number, "anchors, aliases, tags and block texts are not read");
    if (strstr(text, ": ") && strstr(text, ": ") < text + n)
        return wrong(y, number, "a second `: ` on one line; a text that holds it stands in quotes");
    static const struct { const char *word, *json; } words[] = {
        { "", "null" }, { "~", "null" }, { "null", "null" }, { "Null", "null" }, { "NULL", "null" }, { "true", "true" },
        { "True", "true" }, { "TRUE", "true" }, { "false", "false" }, { "False", "false" }, { "FALSE", "false" } };
    for (size_t i = 0; i < TIC_LEN(words); i++) {
        if (strlen(words[i].word) == n && !memcmp(words[i].word, text, n)) {
            fputs(words[i].json, y->out);
            return TIC_OK;
        }
    }
    if (is_number(text, n))
        fprintf(y->out, "%.*s", (int)n, text);
    else
        put_string(y, text, n);
    return TIC_OK;
}

static void blanks(const char **s)
{
    while (isblank((unsigned char)**s))
        ++*s;
}

static TicStatus flow(Yaml *y, int number, const char **s, const char *stops, int depth);

static TicStatus flow_list(Yaml *y, int number, const char **s, int depth)
{
    bool map = **s == '{';
    const char close = map ? '}' : ']';
    ++*s;
    fputc(map ? '{' : '[', y->out);
    for (bool more = false;; more = true) {
        blanks(s);
        if (**s == close)
            break;
        if (more)
            fputc(',', y->out);
        if (map) {
            const char *colon = strchr(*s, ':');
            if (!colon || colon == *s)
                return wrong(y, number, "`{` is followed by `key: value` entries up to its `}` on one line");
            if (**s == '"' || **s == '\'') {
                TRY(quoted(y, number, s));
                blanks(s);
                if (**s != ':')
                    return wrong(y, number, "a `:` is missing after the key");
            } else {
                put_string(y, *s, (size_t)(colon - *s));
                *s = colon;
            }
            ++*s;
            fputc(':', y->out);
        }
        TRY(flow(y, number, s, ",]}", depth + 1));
        blanks(s);
        if (**s == ',')
            ++*s;
        else if (**s != close)
            return wrong(y, number, map ? "a flow mapping does not end on its line with `}`" : "a flow list does not end on its line with `]`");
    }
    ++*s;
    fputc(close, y->out);
    return TIC_OK;
}

static TicStatus flow(Yaml *y, int number, const char **s, const char *stops, int depth)
{
    if (depth > TIC_YAML_DEPTH)
        return wrong(y, number, "nested too deep");
    blanks(s);
    if (**s == '[' || **s == '{')
        return flow_list(y, number, s, depth);
    return **s == '"' || **s == '\'' ? quoted(y, number, s) : plain(y, number, s, stops);
}

/* A value that fills the rest of its line. */
static TicStatus rest_of_line(Yaml *y, int number, const char *s, int depth)
{
    TRY(flow(y, number, &s, "", depth));
    blanks(&s);
    return *s ? wrong(y, number, "something follows a value on its line") : TIC_OK;
}

/* ---- blocks */

static bool is_item(const char *text) { return *text == '-' && (!text[1] || text[1] == ' '); }

static TicStatus block(Yaml *y, int indent, int depth);

static TicStatus block_list(Yaml *y, int indent, int depth)
{
    fputc('[', y->out);
    for (bool more = false; y->at < y->count && y->line[y->at].indent == indent && is_item(y->line[y->at].text); more = true) {
        Line *l = &y->line[y->at];
        const char *s = l->text + 1;
        if (more)
            fputc(',', y->out);
        blanks(&s);
        size_t colon = strcspn(s, ":");
        if (*s && *s != '"' && *s != '\'' && *s != '[' && *s != '{' && s[colon] && (!s[colon + 1] || s[colon + 1] == ' '))
            return wrong(y, l->number, "a mapping as an item of a list is written {key: value} here");
        y->at++;
        if (*s)
            TRY(rest_of_line(y, l->number, s, depth + 1));
        else if (y->at < y->count && y->line[y->at].indent > indent)
            TRY(block(y, y->line[y->at].indent, depth + 1));
        else
            fputs("null", y->out);
    }
    fputc(']', y->out);
    return TIC_OK;
}

static TicStatus key_of(Yaml *y, const Line *l, const char **rest, char **key)
{
    const char *s = l->text;
    char *text = NULL;
    size_t size;
    *key = NULL;
    if (*s == '"' || *s == '\'') {
        FILE *out = y->out;
        y->out = open_memstream(&text, &size);
        TicStatus status = quoted(y, l->number, &s);
        fclose(y->out);
        y->out = out;
        *key = text;
        TRY(status);
    } else {
        const char *p = s;
        while (*p && !(*p == ':' && (!p[1] || p[1] == ' ')))
            p++;
        text = tic_format("%.*s", (int)(p - s), s);
        *key = tic_json_quote(text, strlen(text));
        free(text);
        s = p;
    }
    if (*s != ':' || s == l->text)
        return wrong(y, l->number, "found no `key: value`");
    if (strchr("&*!?|>%@`[{", *l->text))
        return wrong(y, l->number, "a key is a plain or quoted text");
    *rest = s + 1;
    blanks(rest);
    return TIC_OK;
}

static TicStatus block_map(Yaml *y, int indent, int depth)
{
    char **keys = NULL;
    int n = 0, room = 0;
    TicStatus status = TIC_OK;
    fputc('{', y->out);
    while (!status && y->at < y->count && y->line[y->at].indent == indent && !is_item(y->line[y->at].text)) {
        Line *l = &y->line[y->at++];
        const char *s = "";
        char *key;
        if ((status = key_of(y, l, &s, &key))) {
            free(key);
            break;
        }
        for (int i = 0; i < n && !status; i++)
            if (!strcmp(keys[i], key))
                status = tic_fail(TIC_USER, "%s:%d: key %s stands twice", y->path, l->number, key);
        if (n == room) {
            room = room ? 2 * room : 16;
            keys = tic_realloc(keys, (size_t)room * sizeof *keys);
        }
        fprintf(y->out, "%s%s:", n ? "," : "", key);
        keys[n++] = key;
        const Line *next = y->at < y->count ? &y->line[y->at] : NULL;
        if (status)
            break;
        if (*s)
            status = rest_of_line(y, l->number, s, depth + 1);
        else if (next && (next->indent > indent || (next->indent == indent && is_item(next->text))))
            status = block(y, next->indent, depth + 1);
        else
            fputs("null", y->out);
    }
    for (int i = 0; i < n; i++)
        free(keys[i]);
    free(keys);
    fputc('}', y->out);
    return status;
}

static TicStatus block(Yaml *y, int indent, int depth)
{
    if (depth > TIC_YAML_DEPTH)
        return wrong(y, y->line[y->at].number, "nested too deep");
    return is_item(y->line[y->at].text) ? block_list(y, indent, depth) : block_map(y, indent, depth);
}

TicStatus tic_yaml_parse(const char *path, const char *text, size_t size, TicJson **root)
{
    Yaml y = { .path = path };
    char *json = NULL;
    size_t n = 0;
    *root = NULL;
    y.out = open_memstream(&json, &n);
    TicStatus status = cut_lines(&y, text, size);
    if (!status && y.count)
        status = block(&y, y.line[0].indent, 0);
    if (!status && y.at < y.count)
        status = wrong(&y, y.line[y.at].number, "the indentation fits no line above");
    if (!y.count)
        fputs("null", y.out);
    fclose(y.out);
    if (!status)
        status = tic_json_parse(json, n, root);
    for (int i = 0; i < y.count; i++)
        free(y.line[i].text);
    free(y.line);
    free(json);
    return status;
}
