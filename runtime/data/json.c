/* json.c -- a recursive-descent reader with a depth bound; see json.h.
 *
 * Nodes come from a list of chunks, so their addresses stay. Decoded strings go into one block as large as the
 * text: no escape grows when it is decoded (\uXXXX: six bytes become at most three), and the quotes leave room for
 * the zero byte. */
#include "data/json.h"
#include "data/utf8.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK = 64 };

typedef struct Chunk {
    struct Chunk *next;
    TicJson node[CHUNK];
} Chunk;

/* The tree's owner lies in front of the root node, so that the caller holds one pointer. */
typedef struct {
    TicJson root;
    Chunk *chunks;
    char *pool;
} Document;

typedef struct {
    const char *start, *p, *end;
    char *out;                     /* where the next decoded string goes */
    Document *doc;
    int used;                      /* nodes taken from the newest chunk */
    int depth;
} Parser;

static TicStatus bad(const Parser *s, const char *wanted)
{
    return tic_fail(TIC_USER, "JSON: byte %td: %s", s->p - s->start, wanted);
}

static TicJson *new_node(Parser *s)
{
    if (!s->doc->chunks || s->used == CHUNK) {
        Chunk *c = tic_alloc(sizeof *c);
        c->next = s->doc->chunks;
        s->doc->chunks = c;
        s->used = 0;
    }
    return &s->doc->chunks->node[s->used++];
}

static void skip_space(Parser *s)
{
    while (s->p < s->end && (*s->p == ' ' || *s->p == '\t' || *s->p == '\n' || *s->p == '\r'))
        s->p++;
}

static bool take(Parser *s, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(s->end - s->p) < n || memcmp(s->p, word, n))
        return false;
    s->p += n;
    return true;
}

static int hex4(const char *p, const char *end)
{
    if (end - p < 4)
        return -1;
    int v = 0;
    for (int i = 0; i < 4; i++) {
        int c = p[i], d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

/* After "\u": the code point, with the second half of a surrogate pair when it follows. */
static TicStatus unicode_escape(Parser *s, uint32_t *c)
{
    int v = hex4(s->p, s->end);
    if (v < 0)
        return bad(s, "four hexadecimal digits wanted after \\u");
    s->p += 4;
    *c = (uint32_t)v;
    if (v >= 0xD800 && v < 0xDC00 && s->end - s->p >= 6 && s->p[0] == '\\' && s->p[1] == 'u') {
        int low = hex4(s->p + 2, s->end);
        if (low >= 0xDC00 && low < 0xE000) {
            s->p += 6;
            *c = 0x10000 + ((uint32_t)(v - 0xD800) << 10) + (uint32_t)(low - 0xDC00);
        }
    }
    if (*c >= 0xD800 && *c < 0xE000)
        *c = 0xFFFD;
    return TIC_OK;
}

static TicStatus string(Parser *s, const char **text, size_t *size)
{
    char *out = s->out;
    s->p++;                                              /* the opening quote */
    for (;;) {
        if (s->p == s->end)
            return bad(s, "the string does not end");
        unsigned char c = (unsigned char)*s->p++;
        if (c == '"')
            break;
        if (c < 0x20) {
            s->p--;
            return bad(s, "a control character inside a string");
        }
        if (c != '\\') {
            *out++ = (char)c;
            continue;
        }
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *at = s->p < s->end && *s->p ? strchr(from, *s->p) : NULL;
        if (at) {
            *out++ = to[at - from];
            s->p++;
        } else if (s->p < s->end && *s->p == 'u') {
            uint32_t code = 0;
            s->p++;
            TRY(unicode_escape(s, &code));
            out += tic_utf8_put(out, code);
        } else {
            return bad(s, "an unknown escape in a string");
        }
    }
    *text = s->out;
    *size = (size_t)(out - s->out);
    *out++ = 0;
    s->out = out;
    return TIC_OK;
}

/* The grammar of a number is checked here; its value is computed by strtod on a zero-terminated copy. The decimal
 * point of the C locale is what programs have unless they call setlocale, which no part of this one does. */
static TicStatus number(Parser *s, double *value)
{
    const char *p = s->p;
    if (p < s->end && *p == '-')
        p++;
    const char *digits = p;
    while (p < s->end && *p >= '0' && *p <= '9')
        p++;
    if (p == digits || (*digits == '0' && p - digits > 1))
        return bad(s, "a value wanted");
    if (p < s->end && *p == '.') {
        const char *fraction = ++p;
        while (p < s->end && *p >= '0' && *p <= '9')
            p++;
        if (p == fraction)
            return bad(s, "a digit wanted after the decimal point");
    }
    if (p < s->end && (*p == 'e' || *p == 'E')) {
        p++;
        if (p < s->end && (*p == '+' || *p == '-'))
            p++;
        const char *exponent = p;
        while (p < s->end && *p >= '0' && *p <= '9')
            p++;
        if (p == exponent)
            return bad(s, "a digit wanted in the exponent");
    }
    size_t n = (size_t)(p - s->p);
    char small[64], *copy = n < sizeof small ? small : tic_alloc(n + 1);
    memcpy(copy, s->p, n);
    copy[n] = 0;
    *value = strtod(copy, NULL);
    if (copy != small)
        free(copy);
    s->p = p;
    return TIC_OK;
}

static TicStatus value(Parser *s, TicJson *node);

static TicStatus children(Parser *s, TicJson *node, char close)
{
    bool object = close == '}';
    const TicJson **link = &node->child;
    if (++s->depth > TIC_JSON_DEPTH)
        return bad(s, "nested too deeply");
    s->p++;
    skip_space(s);
    if (s->p < s->end && *s->p == close) {
        s->p++;
        s->depth--;
        return TIC_OK;
    }
    for (;;) {
        TicJson *child = new_node(s);
        *link = child;
        link = &child->next;
        node->size++;
        skip_space(s);
        if (object) {
            size_t n;
            if (s->p == s->end || *s->p != '"')
                return bad(s, "a quoted name wanted");
            TRY(string(s, &child->key, &n));
            skip_space(s);
            if (!take(s, ":"))
                return bad(s, "':' wanted");
        }
        TRY(value(s, child));
        skip_space(s);
        if (take(s, ","))
            continue;
        if (s->p < s->end && *s->p == close)
            break;
        return bad(s, object ? "',' or '}' wanted" : "',' or ']' wanted");
    }
    s->p++;
    s->depth--;
    return TIC_OK;
}

static TicStatus value(Parser *s, TicJson *node)
{
    skip_space(s);
    if (s->p == s->end)
        return bad(s, "a value wanted, the text ends");
    switch (*s->p) {
    case '{': node->kind = TIC_JSON_OBJECT; return children(s, node, '}');
    case '[': node->kind = TIC_JSON_ARRAY; return children(s, node, ']');
    case '"': node->kind = TIC_JSON_STRING; return string(s, &node->text, &node->size);
    default: break;
    }
    node->kind = TIC_JSON_BOOL;
    if (take(s, "false"))
        return TIC_OK;
    node->number = 1;
    if (take(s, "true"))
        return TIC_OK;
    node->number = 0;
    node->kind = TIC_JSON_NULL;
    if (take(s, "null"))
        return TIC_OK;
    node->kind = TIC_JSON_NUMBER;
    node->number = NAN;
    if (take(s, "NaN"))
        return TIC_OK;
    node->number = INFINITY;
    if (take(s, "Infinity"))
        return TIC_OK;
    node->number = -INFINITY;
    if (take(s, "-Infinity"))
        return TIC_OK;
    return number(s, &node->number);
}

TicStatus tic_json_parse(const char *data, size_t size, TicJson **root)
{
    *root = NULL;
    Document *doc = tic_alloc(sizeof *doc);
    doc->pool = tic_alloc(size + 1);
    Parser s = { .start = data, .p = data, .end = data + size, .out = doc->pool, .doc = doc };
    if (size >= 3 && !memcmp(data, "\xEF\xBB\xBF", 3))
        s.p += 3;
    TicStatus status = value(&s, &doc->root);
    skip_space(&s);
    if (!status && s.p != s.end)
        status = bad(&s, "something follows the value");
    if (status)
        tic_json_free(&doc->root);
    else
        *root = &doc->root;
    return status;
}

void tic_json_free(TicJson *root)
{
    if (!root)
        return;
    Document *doc = (Document *)root;                    /* root is its first member */
    for (Chunk *c = doc->chunks, *next; c; c = next) {
        next = c->next;
        free(c);
    }
    free(doc->pool);
    free(doc);
}

const TicJson *tic_json_get(const TicJson *object, const char *key)
{
    const TicJson *found = NULL;
    if (object && object->kind == TIC_JSON_OBJECT)
        for (const TicJson *c = object->child; c; c = c->next)
            if (!strcmp(c->key, key))
                found = c;
    return found;
}

bool tic_json_integer(const TicJson *n, int64_t *v)
{
    if (!n || n->kind != TIC_JSON_NUMBER || !(n->number >= -0x1p63 && n->number < 0x1p63) || n->number != floor(n->number))
        return false;
    *v = (int64_t)n->number;
    return true;
}

char *tic_json_quote(const char *text, size_t size)
{
    char *quoted = tic_alloc(size * 6 + 3), *out = quoted;
    const char *end = text + size;
    *out++ = '"';
    for (const char *p = text; p < end;) {
        uint32_t c = tic_utf8_next(&p, end);
        static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
        const char *at = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        if (at) {
            *out++ = '\\';
            *out++ = to[at - from];
        } else if (c < 0x20 || c == 0x7F) {
            out += sprintf(out, "\\u%04x", (unsigned)c);
        } else {
            out += tic_utf8_put(out, c);
        }
    }
    *out++ = '"';
    *out = 0;
    return quoted;
}
