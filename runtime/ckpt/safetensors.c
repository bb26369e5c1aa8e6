/* safetensors.c -- see safetensors.h. The table is JSON; what JSON allows and the format does not (another shape of
 * the tree, gaps, overlaps) is refused here. */
#include "ckpt/safetensors.h"
#include "data/json.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 2 };           /* "{}" */

/* ------------------------------------------------------------ reading */

static TicStatus bad_tensor(const TicBytes *s, const char *name, const char *what)
{
    char shown[80];
    return tic_fail(TIC_USER, "%s: tensor %s %s", s->label, tic_name_text(name, strlen(name), shown), what);
}

/* Whole numbers that are not negative: how many there are, or -1. */
static int whole_numbers(const TicJson *list, int64_t *out, size_t most)
{
    int n = 0;
    if (!list || list->kind != TIC_JSON_ARRAY || list->size > most)
        return -1;
    for (const TicJson *c = list->child; c; c = c->next)
        if (!tic_json_integer(c, &out[n++]) || out[n - 1] < 0)
            return -1;
    return n;
}

static TicStored type_called(const TicJson *name)
{
    TicStored t = 0;
    if (!name || name->kind != TIC_JSON_STRING)
        return TIC_STORED_COUNT;
    while (t < TIC_STORED_COUNT && strcmp(tic_stored[t].safetensors, name->text))
        t++;
    return t;
}

/* {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}; `data` is where offset 0 lies in the file. */
static TicStatus read_tensor(const TicBytes *s, const TicJson *row, uint64_t data, TicSafeTensor *t)
{
    int64_t span[2], count, size;
    *t = (TicSafeTensor){ .name = row->key, .dtype = type_called(tic_json_get(row, "dtype")) };
    if (t->dtype == TIC_STORED_COUNT)
        return bad_tensor(s, t->name, "is of a type that is not known here");
    t->rank = whole_numbers(tic_json_get(row, "shape"), t->shape, TIC_MAX_RANK);
    if (t->rank < 0 || whole_numbers(tic_json_get(row, "data_offsets"), span, 2) != 2 || span[0] > span[1])
        return bad_tensor(s, t->name, "lacks its shape or its place");
    if (!tic_shape_count(t->rank, t->shape, &count) || tic_mul_overflow(count, tic_stored[t->dtype].bytes, &size) ||
        size != span[1] - span[0])
        return bad_tensor(s, t->name, "has another number of bytes than its shape and type say");
    if ((uint64_t)span[1] > s->size - data)
        return bad_tensor(s, t->name, "reaches past the end of the file: cut short");
    t->offset = data + (uint64_t)span[0];
    t->size = (uint64_t)size;
    return TIC_OK;
}

static TicStatus read_table(TicSafetensors *f, const TicBytes *s, uint64_t data)
{
    if (f->table->kind != TIC_JSON_OBJECT)
        return tic_fail(TIC_USER, "%s: its table of tensors is no JSON object", s->label);
    f->tensor = tic_alloc(f->table->size * sizeof *f->tensor);
    for (const TicJson *row = f->table->child; row; row = row->next)
        if (strcmp(row->key, "__metadata__"))
            TRY(read_tensor(s, row, data, &f->tensor[f->count++]));
    return TIC_OK;
}

static int by_place(const void *a, const void *b)
{
    const TicSafeTensor *x = *(const TicSafeTensor *const *)a, *y = *(const TicSafeTensor *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->size > y->size) - (x->size < y->size);
}

/* In order of their places the tensors must follow each other from the first byte to the last. */
static TicStatus check_places(const TicSafetensors *f, const TicBytes *s, uint64_t data)
{
    const TicSafeTensor **sorted = tic_alloc(f->count * sizeof *sorted);
    TicStatus status = TIC_OK;
    uint64_t at = data;
    for (size_t i = 0; i < f->count; i++)
        sorted[i] = &f->tensor[i];
    qsort(sorted, f->count, sizeof *sorted, by_place);
    for (size_t i = 0; i < f->count && !status; i++) {
        if (sorted[i]->offset != at)
            status = bad_tensor(s, sorted[i]->name, "does not begin where the one before it ends");
        at = sorted[i]->offset + sorted[i]->size;
    }
    free(sorted);
    if (!status && at != s->size)
        status = tic_fail(TIC_USER, "%s: %" PRIu64 " bytes, but its tensors end at %" PRIu64, s->label, s->size, at);
    return status;
}

static TicStatus parse_table(const TicBytes *s, uint64_t n, TicJson **table)
{
    char *text = tic_alloc(n);
    TicStatus status = tic_bytes_read(s, 8, text, n);
    if (!status && tic_json_parse(text, n, table)) {
        char *why = tic_strdup(tic_error());
        tic_error_clear();
        status = tic_fail(TIC_USER, "%s: its table of tensors: %s", s->label, why);
        free(why);
    }
    free(text);
    return status;
}

bool tic_safetensors_detect(const TicBytes *s)
{
    unsigned char head[9] = "";
    return s->size >= 8 + SMALLEST && !tic_bytes_read(s, 0, head, 9) && head[8] == '{' && !head[7] && !head[6] &&
           !head[5];
}

TicStatus tic_safetensors_open(TicSafetensors *f, const TicBytes *s)
{
    uint64_t n = 0;
    *f = (TicSafetensors){ 0 };
    TRY(tic_bytes_read(s, 0, &n, 8));
    if (n < SMALLEST || n > TIC_SAFETENSORS_HEADER || n > s->size - 8)
        return tic_fail(TIC_USER, "%s: its table of tensors would take %" PRIu64 " bytes: cut short or damaged",
                        s->label, n);
    if (!tic_index_fits(n, s->size))
        return tic_fail(TIC_USER, "%s: its table of tensors takes %" PRIu64 " of %" PRIu64 " bytes: not a file of weights", s->label, n, s->size);
    TicStatus status = parse_table(s, n, &f->table);
    if (!status)
        status = read_table(f, s, 8 + n);
    if (!status)
        status = check_places(f, s, 8 + n);
    if (status)
        tic_safetensors_close(f);
    return status;
}

const char *tic_safetensors_meta(const TicSafetensors *f, const char *key)
{
    const TicJson *value = tic_json_get(tic_json_get(f->table, "__metadata__"), key);
    return value && value->kind == TIC_JSON_STRING ? value->text : NULL;
}

void tic_safetensors_close(TicSafetensors *f)
{
    free(f->tensor);
    tic_json_free(f->table);
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
    char *quoted = tic_json_quote(s, strlen(s));
    add_text(t, quoted);
    free(quoted);
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
    if (!bad)
        return TIC_OK;
    tic_name_text(bad, strlen(bad), shown);
    return tic_fail(TIC_USER, "%s: the text '%s' is not valid UTF-8", path, shown);
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
