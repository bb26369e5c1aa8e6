/* safetensors.c -- see safetensors.h. The JSON here is exactly the table's: one object of objects, numbers that are
 * whole and not negative, texts. Texts are unescaped in place, so names lie in the table's own bytes. */
#include "ckpt/safetensors.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 2 };           /* "{}" */

/* ------------------------------------------------------------ reading */

typedef struct {
    TicSafetensors *file;
    const TicSource *source;
    char *at, *end;              /* *end is a zero */
    uint64_t data;               /* where the tensors' bytes begin */
} Reader;

static TicStatus malformed(const Reader *r, const char *what)
{
    return tic_fail(TIC_USER, "%s: the table of tensors, byte %zu: %s", r->source->label,
                    (size_t)(r->at - r->file->text), what);
}

static char peek(Reader *r)
{
    while (r->at < r->end && strchr(" \t\r\n", *r->at) && *r->at)
        r->at++;
    return *r->at;
}

static bool accept(Reader *r, char c)
{
    bool is = peek(r) == c && r->at < r->end;
    r->at += is;
    return is;
}

static TicStatus expect(Reader *r, char c)
{
    char what[] = "expected ' '";
    what[10] = c;
    return accept(r, c) ? TIC_OK : malformed(r, what);
}

static TicStatus hex4(Reader *r, unsigned *code)
{
    *code = 0;
    for (int i = 0; i < 4; i++) {
        char c = *r->at, lower = (char)(c | 32);
        bool digit = c >= '0' && c <= '9', letter = lower >= 'a' && lower <= 'f';
        if (!digit && !letter)
            return malformed(r, "expected four hexadecimal digits");
        *code = *code << 4 | (unsigned)(digit ? c - '0' : lower - 'a' + 10);
        r->at++;
    }
    return TIC_OK;
}

/* \uXXXX, or two of them for what lies above U+FFFF, to UTF-8; never longer than the escape. */
static TicStatus unicode_escape(Reader *r, char **out)
{
    unsigned c, low;
    TRY(hex4(r, &c));
    if (c >= 0xD800 && c < 0xDC00 && r->at[0] == '\\' && r->at[1] == 'u') {
        r->at += 2;
        TRY(hex4(r, &low));
        if (low < 0xDC00 || low > 0xDFFF)
            return malformed(r, "half a surrogate pair");
        c = 0x10000 + ((c - 0xD800) << 10) + (low - 0xDC00);
    }
    if (!c || (c >= 0xD800 && c < 0xE000))
        return malformed(r, "a character that no text can hold");
    char *p = *out;
    if (c < 0x80) {
        *p++ = (char)c;
    } else if (c < 0x800) {
        *p++ = (char)(0xC0 | c >> 6);
        *p++ = (char)(0x80 | (c & 63));
    } else if (c < 0x10000) {
        *p++ = (char)(0xE0 | c >> 12);
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    } else {
        *p++ = (char)(0xF0 | c >> 18);
        *p++ = (char)(0x80 | (c >> 12 & 63));
        *p++ = (char)(0x80 | (c >> 6 & 63));
        *p++ = (char)(0x80 | (c & 63));
    }
    *out = p;
    return TIC_OK;
}

static TicStatus text(Reader *r, const char **s)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    TRY(expect(r, '"'));
    char *out = r->at;
    *s = out;
    while (r->at < r->end && *r->at != '"') {
        if ((unsigned char)*r->at < 32)
            return malformed(r, "a control character in a text");
        if (*r->at != '\\') {
            *out++ = *r->at++;
            continue;
        }
        const char *escape = r->at[1] ? strchr(from, r->at[1]) : NULL;
        if (r->at[1] == 'u') {
            r->at += 2;
            TRY(unicode_escape(r, &out));
        } else if (escape) {
            *out++ = to[escape - from];
            r->at += 2;
        } else {
            return malformed(r, "an unknown escape in a text");
        }
    }
    if (r->at >= r->end)
        return malformed(r, "a text that does not end");
    r->at++;
    *out = 0;                                    /* on the closing quote or before it */
    return TIC_OK;
}

static TicStatus whole(Reader *r, int64_t *v)
{
    *v = 0;
    if (peek(r) < '0' || *r->at > '9')
        return malformed(r, "expected a whole number");
    for (; *r->at >= '0' && *r->at <= '9'; r->at++)
        if (tic_mul_overflow(*v, 10, v) || __builtin_add_overflow(*v, *r->at - '0', v))
            return malformed(r, "a number that is too large");
    return TIC_OK;
}

static TicStatus numbers(Reader *r, int64_t *out, int most, int *n)
{
    *n = 0;
    TRY(expect(r, '['));
    if (accept(r, ']'))
        return TIC_OK;
    do {
        if (*n == most)
            return malformed(r, "too many numbers");
        TRY(whole(r, &out[(*n)++]));
    } while (accept(r, ','));
    return expect(r, ']');
}

static TicStatus bad_tensor(const Reader *r, const char *name, const char *what)
{
    char shown[80];
    return tic_fail(TIC_USER, "%s: tensor %s %s", r->source->label, tic_name_text(name, strlen(name), shown), what);
}

static TicStatus tensor(Reader *r, const char *name)
{
    TicSafeTensor t = { .name = name, .dtype = TIC_STORED_COUNT };
    const char *key, *dtype = NULL;
    int64_t span[2], count, size;
    int n_span = 0;
    bool shaped = false;
    TRY(expect(r, '{'));
    do {
        TRY(text(r, &key));
        TRY(expect(r, ':'));
        if (!strcmp(key, "dtype")) {
            TRY(text(r, &dtype));
        } else if (!strcmp(key, "shape")) {
            TRY(numbers(r, t.shape, TIC_MAX_RANK, &t.rank));
            shaped = true;
        } else if (!strcmp(key, "data_offsets")) {
            TRY(numbers(r, span, 2, &n_span));
        } else {
            return bad_tensor(r, name, "has a key besides dtype, shape and data_offsets");
        }
    } while (accept(r, ','));
    TRY(expect(r, '}'));
    for (int i = 0; dtype && i < TIC_STORED_COUNT; i++)
        if (!strcmp(dtype, tic_stored[i].safetensors))
            t.dtype = (TicStored)i;
    if (t.dtype == TIC_STORED_COUNT)
        return bad_tensor(r, name, "is of a type that is not known here");
    if (!shaped || n_span != 2 || span[0] > span[1])
        return bad_tensor(r, name, "lacks its shape or its place");
    if (!tic_shape_count(t.rank, t.shape, &count) || tic_mul_overflow(count, tic_stored[t.dtype].bytes, &size) ||
        size != span[1] - span[0])
        return bad_tensor(r, name, "has another number of bytes than its shape and type say");
    if ((uint64_t)span[1] > r->source->size - r->data)
        return bad_tensor(r, name, "reaches past the end of the file: cut short");
    t.offset = r->data + (uint64_t)span[0];
    t.size = (uint64_t)size;
    TicSafetensors *f = r->file;
    if (f->count == f->room) {
        f->room = f->room ? 2 * f->room : 64;
        f->tensor = tic_realloc(f->tensor, f->room * sizeof *f->tensor);
    }
    f->tensor[f->count++] = t;
    return TIC_OK;
}

static TicStatus metadata(Reader *r)
{
    TicSafetensors *f = r->file;
    TRY(expect(r, '{'));
    if (accept(r, '}'))
        return TIC_OK;
    do {
        if (f->n_meta == f->meta_room) {
            f->meta_room = f->meta_room ? 2 * f->meta_room : 16;
            f->meta = tic_realloc(f->meta, f->meta_room * sizeof *f->meta);
        }
        TRY(text(r, &f->meta[f->n_meta].key));
        TRY(expect(r, ':'));
        TRY(text(r, &f->meta[f->n_meta].value));
        f->n_meta++;
    } while (accept(r, ','));
    return expect(r, '}');
}

static TicStatus table(Reader *r)
{
    const char *name;
    TRY(expect(r, '{'));
    if (!accept(r, '}')) {
        do {
            TRY(text(r, &name));
            TRY(expect(r, ':'));
            TRY(strcmp(name, "__metadata__") ? tensor(r, name) : metadata(r));
        } while (accept(r, ','));
        TRY(expect(r, '}'));
    }
    peek(r);
    return r->at == r->end ? TIC_OK : malformed(r, "something after the table");
}

static int by_place(const void *a, const void *b)
{
    const TicSafeTensor *x = *(const TicSafeTensor *const *)a, *y = *(const TicSafeTensor *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* In order of their places the tensors must follow each other from the first byte to the last. */
static TicStatus check_places(const Reader *r)
{
    const TicSafetensors *f = r->file;
    const TicSafeTensor **sorted = tic_alloc(f->count * sizeof *sorted);
    TicStatus status = TIC_OK;
    uint64_t at = r->data;
    for (size_t i = 0; i < f->count; i++)
        sorted[i] = &f->tensor[i];
    qsort(sorted, f->count, sizeof *sorted, by_place);
    for (size_t i = 0; i < f->count && !status; i++) {
        if (sorted[i]->offset != at)
            status = bad_tensor(r, sorted[i]->name, "does not begin where the one before it ends");
        at = sorted[i]->offset + sorted[i]->size;
    }
    free(sorted);
    if (!status && at != r->source->size)
        status = tic_fail(TIC_USER, "%s: %" PRIu64 " bytes, but its tensors end at %" PRIu64, r->source->label,
                          r->source->size, at);
    return status;
}

static TicStatus table_size(const TicSource *s, uint64_t *n)
{
    TRY(tic_source_read(s, 0, n, 8));
    if (*n < SMALLEST || *n > TIC_SAFETENSORS_HEADER || *n > s->size - 8)
        return tic_fail(TIC_USER, "%s: its table of tensors would take %" PRIu64 " bytes: cut short or damaged", s->label,
                        *n);
    return TIC_OK;
}

bool tic_safetensors_detect(const TicSource *s)
{
    unsigned char head[9] = "";
    return s->size >= 8 + SMALLEST && !tic_source_read(s, 0, head, 9) && head[8] == '{' && !head[7] && !head[6] && !head[5];
}

TicStatus tic_safetensors_open(TicSafetensors *f, const TicSource *s)
{
    uint64_t n = 0;
    *f = (TicSafetensors){ 0 };
    TRY(table_size(s, &n));
    f->text = tic_alloc(n + 1);
    Reader r = { .file = f, .source = s, .at = f->text, .end = f->text + n, .data = 8 + n };
    TicStatus status = tic_source_read(s, 8, f->text, n);
    if (!status)
        status = table(&r);
    if (!status)
        status = check_places(&r);
    if (status)
        tic_safetensors_close(f);
    return status;
}

void tic_safetensors_close(TicSafetensors *f)
{
    free(f->tensor);
    free(f->meta);
    free(f->text);
    *f = (TicSafetensors){ 0 };
}

/* ------------------------------------------------------------ writing */

typedef struct { char *data; size_t n, room; } Text;

static void add(Text *t, const char *s, size_t n)
{
    if (n >= t->room - t->n) {
        t->room = 2 * (t->room + n) + 256;
        t->data = tic_realloc(t->data, t->room);
    }
    memcpy(t->data + t->n, s, n);
    t->n += n;
    t->data[t->n] = 0;
}

static void add_text(Text *t, const char *s) { add(t, s, strlen(s)); }

static void add_quoted(Text *t, const char *s)
{
    char escape[8];
    add_text(t, "\"");
    for (; *s; s++) {
        if (*s == '"' || *s == '\\') {
            add(t, "\\", 1);
            add(t, s, 1);
        } else if ((unsigned char)*s < 32) {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
            add_text(t, escape);
        } else {
            add(t, s, 1);
        }
    }
    add_text(t, "\"");
}

static void add_meta(Text *t, const TicMeta *m)
{
    char number[40] = "";
    const char *value = number;
    switch (m->kind) {
    case TIC_META_INT: snprintf(number, sizeof number, "%" PRId64, m->i); break;
    case TIC_META_FLOAT: snprintf(number, sizeof number, "%.17g", m->f); break;
    case TIC_META_STR: value = m->s; break;
    }
    add_text(t, ",");
    add_quoted(t, m->key);
    add_text(t, ":");
    add_quoted(t, value);
}

static TicStatus check(const char *path, const TicNamedTensor *tensors, int n, const TicMeta *meta, int n_meta)
{
    char shown[80];
    const char *bad = NULL;
    for (int i = 0; i < n; i++)
        if (!tic_utf8_valid(tensors[i].name, strlen(tensors[i].name)))
            bad = tensors[i].name;
    for (int i = 0; i < n_meta; i++)
        if (meta[i].kind == TIC_META_STR && !tic_utf8_valid(meta[i].s, strlen(meta[i].s)))
            bad = meta[i].s;
    return bad ? tic_fail(TIC_USER, "%s: the text '%s' is not valid UTF-8", path, tic_name_text(bad, strlen(bad), shown))
               : TIC_OK;
}

/* The table, padded with spaces so that the tensors begin at a multiple of 8 bytes. */
static void make_table(Text *t, const TicNamedTensor *tensors, int n, const TicMeta *meta, int n_meta)
{
    char number[64];
    int64_t at = 0, count = 0;
    add_text(t, "{\"__metadata__\":{\"format\":\"pt\"");
    for (int i = 0; i < n_meta; i++)
        add_meta(t, &meta[i]);
    add_text(t, "}");
    for (int i = 0; i < n; i++) {
        add_text(t, ",");
        add_quoted(t, tensors[i].name);
        add_text(t, ":{\"dtype\":\"F32\",\"shape\":[");
        for (int k = 0; k < tensors[i].rank; k++) {
            snprintf(number, sizeof number, "%s%" PRId64, k ? "," : "", tensors[i].shape[k]);
            add_text(t, number);
        }
        tic_shape_count(tensors[i].rank, tensors[i].shape, &count);
        snprintf(number, sizeof number, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", at, at + 4 * count);
        add_text(t, number);
        at += 4 * count;
    }
    add_text(t, "}");
    while (t->n % 8)
        add_text(t, " ");
}

static TicStatus write_file(TicSink *sink, const Text *t, const TicNamedTensor *tensors, int n)
{
    uint64_t length = t->n;
    int64_t count = 0;
    TRY(tic_sink_write(sink, &length, 8));
    TRY(tic_sink_write(sink, t->data, t->n));
    for (int i = 0; i < n; i++) {
        tic_shape_count(tensors[i].rank, tensors[i].shape, &count);
        TRY(tic_sink_write(sink, tensors[i].data, (size_t)count * sizeof(float)));
    }
    return TIC_OK;
}

TicStatus tic_safetensors_write(const char *path, const TicNamedTensor *tensors, int n, const TicMeta *meta, int n_meta)
{
    TRY(check(path, tensors, n, meta, n_meta));
    TicSink sink;
    TRY(tic_sink_open(&sink, path));
    Text t = { 0 };
    make_table(&t, tensors, n, meta, n_meta);
    TicStatus status = write_file(&sink, &t, tensors, n);
    if (!status)
        status = tic_sink_commit(&sink);
    else
        tic_sink_abandon(&sink);
    free(t.data);
    return status;
}
