/* pickle.c -- see pickle.h: the reading half. Values come from chunks of memory that are freed together, so values
 * in a circle cost nothing, and no function here recurses. Each opcode creates at most one value, so memory is
 * bounded by the pickle's size, which is bounded itself. */
#include "ckpt/pickle.h"
#include "data/utf8.h"
#include <stdlib.h>
#include <string.h>

enum { CHUNK_BYTES = 1 << 16, ITEMS_FIRST = 8, LINE_BYTES = 256, NUMBER_BYTES = 64 };

struct TicPickleChunk {
    struct TicPickleChunk *next;
    size_t used, room;
    max_align_t data[];
};

typedef struct {
    const unsigned char *data;
    size_t size, at, opcode_at;
    const char *label;
    TicValue **stack;            /* NULL: a mark */
    size_t height, room;
    size_t marks;
    TicValue **memo;
    size_t memo_room, memo_next;
    struct TicPickleChunk *memory;
} Machine;

/* The only names a pickle may use. */
typedef enum {
    NAME_TENSOR, NAME_PARAMETER, NAME_ORDERED_DICT, NAME_SCALAR, NAME_DTYPE, NAME_ENCODE,
    NAME_STORAGE                 /* + TicStored: one of torch's storages */
} Name;
static const struct { const char *module, *name; Name is; } allowed[] = {
    { "torch._utils", "_rebuild_tensor_v2", NAME_TENSOR },
    { "torch._utils", "_rebuild_parameter", NAME_PARAMETER },
    { "collections", "OrderedDict", NAME_ORDERED_DICT },
    { "numpy.core.multiarray", "scalar", NAME_SCALAR },
    { "numpy._core.multiarray", "scalar", NAME_SCALAR },
    { "numpy", "dtype", NAME_DTYPE },
    { "_codecs", "encode", NAME_ENCODE },
};

static TicStatus refuse(const Machine *m, const char *what)
{
    return tic_fail(TIC_USER, "%s: byte %zu: %s", m->label, m->opcode_at, what);
}

static void *take(Machine *m, size_t bytes)
{
    bytes = (bytes + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    struct TicPickleChunk *c = m->memory;
    if (!c || bytes > c->room - c->used) {
        size_t room = bytes > CHUNK_BYTES / 4 ? bytes : CHUNK_BYTES;
        c = tic_alloc(sizeof *c + room);
        c->room = room;
        c->next = m->memory;
        m->memory = c;
    }
    void *p = (char *)c->data + c->used;
    c->used += bytes;
    return p;
}

static TicValue *new_value(Machine *m, TicValueKind kind)
{
    TicValue *v = take(m, sizeof *v);
    v->kind = (uint8_t)kind;
    return v;
}

bool tic_value_is(const TicValue *v, TicValueKind kind) { return v && v->kind == kind; }

const TicValue *tic_value_get(const TicValue *dict, const char *key)
{
    size_t length = strlen(key);
    if (!tic_value_is(dict, TIC_VALUE_DICT))
        return NULL;
    for (size_t i = dict->seq.n; i >= 2; i -= 2) {
        const TicValue *k = dict->seq.item[i - 2];
        if (k->kind == TIC_VALUE_STR && k->text.n == length && !memcmp(k->text.s, key, length))
            return dict->seq.item[i - 1];
    }
    return NULL;
}

/* ------------------------------------------------------------ the stack */

static TicStatus push(Machine *m, TicValue *v)
{
    if (m->height == m->room) {
        m->room = m->room ? 2 * m->room : 64;
        m->stack = tic_realloc(m->stack, m->room * sizeof *m->stack);
    }
    m->stack[m->height++] = v;
    return TIC_OK;
}

static TicStatus pop(Machine *m, TicValue **v)
{
    if (!m->height || !m->stack[m->height - 1])
        return refuse(m, "a value is missing on the stack");
    *v = m->stack[--m->height];
    return TIC_OK;
}

/* The values above the last mark; removes them and the mark. They stay readable until the next push. */
static TicStatus pop_to_mark(Machine *m, TicValue ***items, size_t *n)
{
    size_t i = m->height;
    while (i && m->stack[i - 1])
        i--;
    if (!i)
        return refuse(m, "a mark is missing on the stack");
    *items = m->stack + i;
    *n = m->height - i;
    m->height = i - 1;
    m->marks--;
    return TIC_OK;
}

static TicStatus append(Machine *m, TicValue *seq, TicValue *const *items, size_t n)
{
    if (n > UINT32_MAX / 2 - seq->seq.n)
        return refuse(m, "too many items");
    if (seq->seq.n + n > seq->seq.room) {
        size_t room = seq->seq.n ? 2 * (seq->seq.n + n) : n > ITEMS_FIRST ? n : ITEMS_FIRST;
        TicValue **more = take(m, room * sizeof *more);
        if (seq->seq.n)
            memcpy(more, seq->seq.item, seq->seq.n * sizeof *more);
        seq->seq.item = more;
        seq->seq.room = (uint32_t)room;
    }
    for (size_t i = 0; i < n; i++) {
        if (items[i]->depth >= TIC_PICKLE_DEPTH)
            return refuse(m, "values are nested too deeply");
        if (seq->depth <= items[i]->depth)
            seq->depth = (uint16_t)(items[i]->depth + 1);
        seq->seq.item[seq->seq.n++] = items[i];
    }
    return TIC_OK;
}

static TicStatus push_tuple(Machine *m, TicValue *const *items, size_t n)
{
    TicValue *v = new_value(m, TIC_VALUE_TUPLE);
    if (n)
        TRY(append(m, v, items, n));
    return push(m, v);
}

static TicStatus pop_into_tuple(Machine *m, size_t n)
{
    TicValue *items[3];
    for (size_t i = n; i-- > 0;)
        TRY(pop(m, &items[i]));
    return push_tuple(m, items, n);
}

static TicStatus add_items(Machine *m, bool dict, TicValue *const *items, size_t n)
{
    TicValue *target = m->height ? m->stack[m->height - 1] : NULL;
    if (!tic_value_is(target, dict ? TIC_VALUE_DICT : TIC_VALUE_LIST))
        return refuse(m, dict ? "items for something that is no dict" : "items for something that is no list");
    if (dict && n % 2)
        return refuse(m, "a key without a value");
    return append(m, target, items, n);
}

static TicStatus memo_put(Machine *m, size_t index)
{
    if (!m->height || !m->stack[m->height - 1])
        return refuse(m, "a value is missing on the stack");
    if (index >= m->at)                          /* picklers count up from 0, and each count took an opcode */
        return refuse(m, "a memo index is out of bounds");
    if (index >= m->memo_room) {
        size_t room = 2 * index + 64;
        m->memo = tic_realloc(m->memo, room * sizeof *m->memo);
        memset(m->memo + m->memo_room, 0, (room - m->memo_room) * sizeof *m->memo);
        m->memo_room = room;
    }
    m->memo[index] = m->stack[m->height - 1];
    m->memo_next++;
    return TIC_OK;
}

static TicStatus memo_get(Machine *m, size_t index)
{
    if (index >= m->memo_room || !m->memo[index])
        return refuse(m, "a memo entry is used before it is set");
    return push(m, m->memo[index]);
}

/* ------------------------------------------------------------ arguments of opcodes */

static TicStatus bytes(Machine *m, size_t n, const unsigned char **p)
{
    if (n > m->size - m->at)
        return refuse(m, "the pickle breaks off");
    *p = m->data + m->at;
    m->at += n;
    return TIC_OK;
}

/* A little-endian number of n bytes. */
static TicStatus number(Machine *m, size_t n, uint64_t *v)
{
    const unsigned char *p = NULL;
    TRY(bytes(m, n, &p));
    *v = 0;
    for (size_t i = 0; i < n; i++)
        *v |= (uint64_t)p[i] << (8 * i);
    return TIC_OK;
}

static TicStatus push_int(Machine *m, int64_t i)
{
    TicValue *v = new_value(m, TIC_VALUE_INT);
    v->i = i;
    return push(m, v);
}

static TicStatus push_number(Machine *m, size_t n)
{
    uint64_t v = 0;
    TRY(number(m, n, &v));
    return push_int(m, n == 4 ? (int32_t)(uint32_t)v : (int64_t)v);      /* only the four-byte form has a sign */
}

static TicStatus push_text(Machine *m, TicValueKind kind, size_t length_bytes)
{
    uint64_t n = 0;
    const unsigned char *p = NULL;
    TRY(number(m, length_bytes, &n));
    TRY(bytes(m, n, &p));
    TicValue *v = new_value(m, kind);
    char *s = take(m, n + 1);
    memcpy(s, p, n);
    v->text.s = s;
    v->text.n = n;
    return push(m, v);
}

static TicStatus push_long(Machine *m)
{
    uint64_t n = 0, v = 0;
    TRY(number(m, 1, &n));
    if (n > 8)
        return refuse(m, "an integer of more than 64 bits");
    TRY(number(m, n, &v));
    if (n && n < 8 && v >> (8 * n - 1))
        v |= ~(uint64_t)0 << (8 * n);            /* two's complement */
    return push_int(m, (int64_t)v);
}

/* The one opcode whose bytes are big-endian. */
static TicStatus push_float(Machine *m)
{
    uint64_t bits = 0;
    TRY(number(m, 8, &bits));
    bits = __builtin_bswap64(bits);
    TicValue *v = new_value(m, TIC_VALUE_FLOAT);
    memcpy(&v->f, &bits, 8);
    return push(m, v);
}

static TicStatus push_name(Machine *m, const char *module, size_t nm, const char *name, size_t nn)
{
    TicValue *v = new_value(m, TIC_VALUE_GLOBAL);
    for (size_t i = 0; i < TIC_LEN(allowed); i++) {
        if (nm == strlen(allowed[i].module) && !memcmp(module, allowed[i].module, nm) &&
            nn == strlen(allowed[i].name) && !memcmp(name, allowed[i].name, nn)) {
            v->i = allowed[i].is;
            return push(m, v);
        }
    }
    if (nm == 5 && !memcmp(module, "torch", 5)) {
        for (int t = 0; t < TIC_STORED_COUNT; t++) {
            const char *torch = tic_stored[t].torch;
            if (torch && nn == strlen(torch) && !memcmp(name, torch, nn)) {
                v->i = NAME_STORAGE + t;
                return push(m, v);
            }
        }
    }
    char shown_module[80], shown_name[80];
    return tic_fail(TIC_USER, "%s: byte %zu: %s.%s is not among the names a checkpoint may use; nothing was run",
                    m->label, m->opcode_at, tic_name_text(module, nm, shown_module),
                    tic_name_text(name, nn, shown_name));
}

static TicStatus line(Machine *m, const char **s, size_t *n)
{
    const unsigned char *start = m->data + m->at, *end = memchr(start, '\n', m->size - m->at);
    if (!end || end - start > LINE_BYTES)
        return refuse(m, "a name does not end");
    *s = (const char *)start;
    *n = (size_t)(end - start);
    m->at += *n + 1;
    return TIC_OK;
}

static TicStatus global(Machine *m)
{
    const char *module, *name;
    size_t nm, nn;
    TRY(line(m, &module, &nm));
    TRY(line(m, &name, &nn));
    return push_name(m, module, nm, name, nn);
}

static TicStatus stack_global(Machine *m)
{
    TicValue *module = NULL, *name = NULL;
    TRY(pop(m, &name));
    TRY(pop(m, &module));
    if (module->kind != TIC_VALUE_STR || name->kind != TIC_VALUE_STR)
        return refuse(m, "a name that is no text");
    return push_name(m, module->text.s, module->text.n, name->text.s, name->text.n);
}

/* ------------------------------------------------------------ the allowed calls */

static bool is_text(const TicValue *v, const char *s)
{
    return v->kind == TIC_VALUE_STR && v->text.n == strlen(s) && !memcmp(v->text.s, s, v->text.n);
}

/* ('storage', class, key, location, count) */
static TicStatus storage(Machine *m)
{
    TicValue *id = NULL;
    TRY(pop(m, &id));
    TicValue **a = id->seq.item;
    if (id->kind != TIC_VALUE_TUPLE || id->seq.n != 5 || !is_text(a[0], "storage") || a[1]->kind != TIC_VALUE_GLOBAL ||
        a[1]->i < NAME_STORAGE || a[2]->kind != TIC_VALUE_STR || memchr(a[2]->text.s, 0, a[2]->text.n) ||
        a[4]->kind != TIC_VALUE_INT || a[4]->i < 0)
        return refuse(m, "a reference outside the pickle that is no tensor storage");
    TicStorageRef *s = take(m, sizeof *s);
    *s = (TicStorageRef){ (TicStored)(a[1]->i - NAME_STORAGE), a[2]->text.s, a[4]->i };
    TicValue *v = new_value(m, TIC_VALUE_STORAGE);
    v->storage = s;
    return push(m, v);
}

static bool int_tuple(const TicValue *v, int64_t out[TIC_MAX_RANK])
{
    if (v->kind != TIC_VALUE_TUPLE || v->seq.n > TIC_MAX_RANK)
        return false;
    for (uint32_t i = 0; i < v->seq.n; i++) {
        if (v->seq.item[i]->kind != TIC_VALUE_INT || v->seq.item[i]->i < 0)
            return false;
        out[i] = v->seq.item[i]->i;
    }
    return true;
}

/* (storage, offset, size, stride, requires_grad, hooks [, metadata]): must stay inside its storage. */
static TicStatus rebuild_tensor(Machine *m, const TicValue *args)
{
    TicValue **a = args->seq.item;
    TicTensorRef *t = take(m, sizeof *t);
    if (args->seq.n < 6 || args->seq.n > 7 || a[0]->kind != TIC_VALUE_STORAGE || a[1]->kind != TIC_VALUE_INT ||
        a[1]->i < 0 || !int_tuple(a[2], t->shape) || !int_tuple(a[3], t->stride) || a[2]->seq.n != a[3]->seq.n)
        return refuse(m, "a tensor whose description is not of the form torch writes");
    t->storage = *a[0]->storage;
    t->offset = a[1]->i;
    t->rank = (int)a[2]->seq.n;
    int64_t count, last = t->offset;
    bool fits = tic_shape_count(t->rank, t->shape, &count);
    for (int i = 0; fits && count && i < t->rank; i++) {
        int64_t step;
        fits = !tic_mul_overflow(t->shape[i] - 1, t->stride[i], &step) && !__builtin_add_overflow(last, step, &last);
    }
    if (!fits || (count ? last >= t->storage.count : t->offset > t->storage.count))
        return refuse(m, "a tensor that reaches outside its storage");
    TicValue *v = new_value(m, TIC_VALUE_TENSOR);
    v->tensor = t;
    return push(m, v);
}

/* numpy.dtype('f8', False, True); byte order arrives with BUILD. */
static const struct { const char *name; char kind; int size; } numpy_types[] = {
    { "f8", 'f', 8 }, { "f4", 'f', 4 }, { "f2", 'f', 2 }, { "i8", 'i', 8 }, { "i4", 'i', 4 }, { "i2", 'i', 2 },
    { "i1", 'i', 1 }, { "u4", 'u', 4 }, { "u2", 'u', 2 }, { "u1", 'u', 1 }, { "b1", 'u', 1 },
};

static TicStatus make_dtype(Machine *m, const TicValue *args)
{
    for (size_t i = 0; args->seq.n && i < TIC_LEN(numpy_types); i++) {
        if (is_text(args->seq.item[0], numpy_types[i].name)) {
            TicValue *v = new_value(m, TIC_VALUE_DTYPE);
            v->i = (int64_t)i;
            return push(m, v);
        }
    }
    return refuse(m, "a numpy type that is no plain number");
}

static TicStatus make_scalar(Machine *m, const TicValue *args)
{
    TicValue **a = args->seq.item;
    if (args->seq.n != 2 || a[0]->kind != TIC_VALUE_DTYPE || a[1]->kind != TIC_VALUE_BYTES ||
        a[1]->text.n != (size_t)numpy_types[a[0]->i].size)
        return refuse(m, "a numpy scalar that is not of the form numpy writes");
    int size = numpy_types[a[0]->i].size, kind = numpy_types[a[0]->i].kind;
    const char *p = a[1]->text.s;
    if (kind == 'f') {
        TicValue *v = new_value(m, TIC_VALUE_FLOAT);
        if (size == 8)
            memcpy(&v->f, p, 8);
        else
            v->f = tic_stored_to_f32(size == 4 ? TIC_STORED_F32 : TIC_STORED_F16, p);
        return push(m, v);
    }
    uint64_t bits = 0;
    memcpy(&bits, p, (size_t)size);
    if (kind == 'i' && size < 8 && bits >> (8 * size - 1))
        bits |= ~(uint64_t)0 << (8 * size);
    return push_int(m, (int64_t)bits);
}

/* _codecs.encode(text, 'latin1'): how protocol 2 spells bytes. Code points up to 255, one byte each. Only numbers
 * need it; a long text encoded again and again would take memory that the pickle's size does not bound. */
static TicStatus encode_latin1(Machine *m, const TicValue *args)
{
    TicValue **a = args->seq.item;
    if (args->seq.n != 2 || a[0]->kind != TIC_VALUE_STR || !(is_text(a[1], "latin1") || is_text(a[1], "latin-1")))
        return refuse(m, "_codecs.encode with another encoding than latin1");
    if (a[0]->text.n > NUMBER_BYTES)
        return refuse(m, "_codecs.encode of more than a number");
    const char *s = a[0]->text.s, *end = s + a[0]->text.n;
    TicValue *v = new_value(m, TIC_VALUE_BYTES);
    char *out = take(m, a[0]->text.n + 1);
    v->text.s = out;
    while (s < end) {
        uint32_t c = tic_utf8_next(&s, end);
        if (c > 255)
            return refuse(m, "text with characters that latin1 does not have");
        out[v->text.n++] = (char)c;
    }
    return push(m, v);
}

static TicStatus reduce(Machine *m)
{
    TicValue *args = NULL, *name = NULL;
    TRY(pop(m, &args));
    TRY(pop(m, &name));
    if (name->kind != TIC_VALUE_GLOBAL || args->kind != TIC_VALUE_TUPLE)
        return refuse(m, "a call of something that is no function");
    switch (name->i) {
    case NAME_TENSOR:
        return rebuild_tensor(m, args);
    case NAME_PARAMETER:                         /* (tensor, requires_grad, hooks) */
        if (args->seq.n != 3 || args->seq.item[0]->kind != TIC_VALUE_TENSOR)
            return refuse(m, "a parameter that holds no tensor");
        return push(m, args->seq.item[0]);
    case NAME_ORDERED_DICT:
        if (args->seq.n)
            return refuse(m, "an OrderedDict made with arguments");
        return push(m, new_value(m, TIC_VALUE_DICT));
    case NAME_SCALAR:
        return make_scalar(m, args);
    case NAME_DTYPE:
        return make_dtype(m, args);
    case NAME_ENCODE:
        return encode_latin1(m, args);
    default:
        return refuse(m, "a tensor storage that is called");
    }
}

/* BUILD gives an object its state. A state_dict's attributes (_metadata) say nothing about values: ignored.
 * A numpy type's state holds its byte order. */
static TicStatus build(Machine *m)
{
    TicValue *state = NULL;
    TRY(pop(m, &state));
    const TicValue *target = m->height ? m->stack[m->height - 1] : NULL;
    if (tic_value_is(target, TIC_VALUE_DICT) && state->kind == TIC_VALUE_DICT)
        return TIC_OK;
    if (!tic_value_is(target, TIC_VALUE_DTYPE) || state->kind != TIC_VALUE_TUPLE || state->seq.n < 2)
        return refuse(m, "a state for something that takes none");
    if (!is_text(state->seq.item[1], "<") && !is_text(state->seq.item[1], "|") && !is_text(state->seq.item[1], "="))
        return refuse(m, "a numpy scalar that is not little-endian");
    return TIC_OK;
}

/* ------------------------------------------------------------ the opcodes */

/* What well-known opcodes are called that are refused, for the message. */
static const struct { unsigned char code; const char *name; } refused[] = {
    { '0', "POP" }, { '1', "POP_MARK" }, { '2', "DUP" }, { 'F', "FLOAT" }, { 'I', "INT" }, { 'L', "LONG" },
    { 'P', "PERSID" }, { 'S', "STRING" }, { 'T', "BINSTRING" }, { 'U', "SHORT_BINSTRING" }, { 'V', "UNICODE" },
    { 'B', "BINBYTES" }, { 'd', "DICT" }, { 'l', "LIST" }, { 'i', "INST" }, { 'o', "OBJ" }, { 'g', "GET" },
    { 'p', "PUT" }, { 0x81, "NEWOBJ" }, { 0x82, "EXT1" }, { 0x83, "EXT2" }, { 0x84, "EXT4" }, { 0x8B, "LONG4" },
    { 0x8D, "BINUNICODE8" }, { 0x8E, "BINBYTES8" }, { 0x8F, "EMPTY_SET" }, { 0x90, "ADDITEMS" },
    { 0x91, "FROZENSET" }, { 0x92, "NEWOBJ_EX" }, { 0x96, "BYTEARRAY8" }, { 0x97, "NEXT_BUFFER" },
};

static TicStatus unknown(const Machine *m, unsigned char code)
{
    const char *name = "unknown";
    for (size_t i = 0; i < TIC_LEN(refused); i++)
        if (refused[i].code == code)
            name = refused[i].name;
    return tic_fail(TIC_USER, "%s: byte %zu: opcode 0x%02x (%s) is not among those a checkpoint may use", m->label,
                    m->opcode_at, code, name);
}

static TicStatus mark(Machine *m)
{
    if (++m->marks > TIC_PICKLE_DEPTH)
        return refuse(m, "values are nested too deeply");
    return push(m, NULL);
}

static TicStatus protocol(Machine *m)
{
    uint64_t v = 0;
    TRY(number(m, 1, &v));
    return v <= 5 ? TIC_OK : refuse(m, "a pickle protocol above 5");
}

static TicStatus to_dict_or_list(Machine *m, bool dict, size_t single)
{
    TicValue **items, *some[2];
    size_t n = single;
    if (!single) {
        TRY(pop_to_mark(m, &items, &n));
        return add_items(m, dict, items, n);
    }
    for (size_t i = single; i-- > 0;)
        TRY(pop(m, &some[i]));
    return add_items(m, dict, some, single);
}

static TicStatus push_bool(Machine *m, bool b)
{
    TicValue *v = new_value(m, TIC_VALUE_BOOL);
    v->i = b;
    return push(m, v);
}

static TicStatus tuple_to_mark(Machine *m)
{
    TicValue **items;
    size_t n;
    TRY(pop_to_mark(m, &items, &n));
    return push_tuple(m, items, n);
}

/* An index of n bytes, for memo_put or memo_get. */
static TicStatus memo(Machine *m, size_t n, TicStatus (*use)(Machine *, size_t))
{
    uint64_t index = 0;
    TRY(number(m, n, &index));
    return use(m, index);
}

static TicStatus step(Machine *m, unsigned char code)
{
    uint64_t unused;
    switch (code) {
    case 0x80: return protocol(m);                                      /* PROTO */
    case 0x95: return number(m, 8, &unused);                            /* FRAME: a hint for streams */
    case '(': return mark(m);
    case '}': return push(m, new_value(m, TIC_VALUE_DICT));
    case ']': return push(m, new_value(m, TIC_VALUE_LIST));
    case ')': return push_tuple(m, NULL, 0);
    case 'N': return push(m, new_value(m, TIC_VALUE_NONE));
    case 0x88: return push_bool(m, true);
    case 0x89: return push_bool(m, false);
    case 'K': return push_number(m, 1);                                 /* BININT1 */
    case 'M': return push_number(m, 2);                                 /* BININT2 */
    case 'J': return push_number(m, 4);                                 /* BININT */
    case 0x8A: return push_long(m);                                     /* LONG1 */
    case 'G': return push_float(m);                                     /* BINFLOAT */
    case 'X': return push_text(m, TIC_VALUE_STR, 4);                    /* BINUNICODE */
    case 0x8C: return push_text(m, TIC_VALUE_STR, 1);                   /* SHORT_BINUNICODE */
    case 'C': return push_text(m, TIC_VALUE_BYTES, 1);                  /* SHORT_BINBYTES */
    case 'q': return memo(m, 1, memo_put);                              /* BINPUT */
    case 'r': return memo(m, 4, memo_put);                              /* LONG_BINPUT */
    case 0x94: return memo_put(m, m->memo_next);                        /* MEMOIZE */
    case 'h': return memo(m, 1, memo_get);                              /* BINGET */
    case 'j': return memo(m, 4, memo_get);                              /* LONG_BINGET */
    case 0x85: return pop_into_tuple(m, 1);                             /* TUPLE1 */
    case 0x86: return pop_into_tuple(m, 2);
    case 0x87: return pop_into_tuple(m, 3);
    case 't': return tuple_to_mark(m);                                  /* TUPLE */
    case 's': return to_dict_or_list(m, true, 2);                       /* SETITEM */
    case 'u': return to_dict_or_list(m, true, 0);                       /* SETITEMS */
    case 'a': return to_dict_or_list(m, false, 1);                      /* APPEND */
    case 'e': return to_dict_or_list(m, false, 0);                      /* APPENDS */
    case 'c': return global(m);                                         /* GLOBAL */
    case 0x93: return stack_global(m);                                  /* STACK_GLOBAL */
    case 'R': return reduce(m);                                         /* REDUCE */
    case 'b': return build(m);                                          /* BUILD */
    case 'Q': return storage(m);                                        /* BINPERSID */
    default: return unknown(m, code);
    }
}

static TicStatus run(Machine *m, TicValue **top)
{
    const unsigned char *code = NULL;
    for (;;) {
        m->opcode_at = m->at;
        TRY(bytes(m, 1, &code));
        if (*code == '.')                        /* STOP */
            break;
        TRY(step(m, *code));
    }
    TRY(pop(m, top));
    return m->height ? refuse(m, "values are left on the stack") : TIC_OK;
}

static void free_chunks(struct TicPickleChunk *c)
{
    while (c) {
        struct TicPickleChunk *next = c->next;
        free(c);
        c = next;
    }
}

TicStatus tic_unpickle(TicUnpickled *u, const void *data, size_t size, const char *label)
{
    *u = (TicUnpickled){ 0 };
    if (size > TIC_PICKLE_BYTES)
        return tic_fail(TIC_USER, "%s: %zu bytes; at most %d are read", label, size, TIC_PICKLE_BYTES);
    Machine m = { .data = data, .size = size, .label = label };
    TicValue *top = NULL;
    TicStatus status = run(&m, &top);
    free(m.stack);
    free(m.memo);
    if (status)
        free_chunks(m.memory);
    else
        *u = (TicUnpickled){ top, m.memory };
    return status;
}

void tic_unpickle_free(TicUnpickled *u)
{
    free_chunks(u->memory);
    *u = (TicUnpickled){ 0 };
}
