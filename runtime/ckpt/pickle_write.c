/* pickle_write.c -- see pickle.h: the writing half. Only opcodes and names that torch.load(weights_only=True) has
 * accepted since torch 2.0: protocol 2, OrderedDict, _rebuild_tensor_v2, FloatStorage. */
#include "ckpt/pickle.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void put(TicPickler *p, const void *data, size_t n)
{
    if (n > p->room - p->n) {
        p->room = 2 * (p->room + n) + 4096;
        p->data = tic_realloc(p->data, p->room);
    }
    memcpy(p->data + p->n, data, n);
    p->n += n;
}

static void op(TicPickler *p, unsigned char code) { put(p, &code, 1); }

static void number(TicPickler *p, uint64_t v, size_t n)
{
    unsigned char b[8];
    for (size_t i = 0; i < n; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    put(p, b, n);
}

void tic_pickle_begin(TicPickler *p)
{
    *p = (TicPickler){ 0 };
    put(p, "\x80\x02", 2);
}

void tic_pickle_end(TicPickler *p) { op(p, '.'); }

void tic_pickle_free(TicPickler *p)
{
    free(p->data);
    *p = (TicPickler){ 0 };
}

void tic_pickle_none(TicPickler *p) { op(p, 'N'); }
void tic_pickle_bool(TicPickler *p, bool v) { op(p, v ? 0x88 : 0x89); }
void tic_pickle_dict(TicPickler *p) { op(p, '}'); }
void tic_pickle_list(TicPickler *p) { op(p, ']'); }
void tic_pickle_mark(TicPickler *p) { op(p, '('); }
void tic_pickle_set_items(TicPickler *p) { op(p, 'u'); }
void tic_pickle_appends(TicPickler *p) { op(p, 'e'); }
void tic_pickle_tuple(TicPickler *p) { op(p, 't'); }

/* The shortest form, as Python writes it. */
void tic_pickle_int(TicPickler *p, int64_t v)
{
    if (v >= 0 && v < 1 << 8) {
        op(p, 'K');
        number(p, (uint64_t)v, 1);
    } else if (v >= 0 && v < 1 << 16) {
        op(p, 'M');
        number(p, (uint64_t)v, 2);
    } else if (v >= INT32_MIN && v <= INT32_MAX) {
        op(p, 'J');
        number(p, (uint64_t)v, 4);
    } else {
        size_t n = 5;
        while (n < 8 && (v >> (8 * n - 1)) != 0 && (v >> (8 * n - 1)) != -1)
            n++;
        op(p, 0x8A);
        number(p, n, 1);
        number(p, (uint64_t)v, n);
    }
}

void tic_pickle_float(TicPickler *p, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, 8);
    op(p, 'G');
    number(p, __builtin_bswap64(bits), 8);
}

void tic_pickle_str(TicPickler *p, const char *s)
{
    size_t n = strlen(s);
    op(p, 'X');
    number(p, n, 4);
    put(p, s, n);
}

static void name(TicPickler *p, const char *module_and_name) { put(p, module_and_name, strlen(module_and_name)); }

void tic_pickle_ordered_dict(TicPickler *p)
{
    name(p, "ccollections\nOrderedDict\n");
    put(p, ")R", 2);
}

static void int_tuple(TicPickler *p, int rank, const int64_t *v)
{
    tic_pickle_mark(p);
    for (int i = 0; i < rank; i++)
        tic_pickle_int(p, v[i]);
    tic_pickle_tuple(p);
}

void tic_pickle_tensor(TicPickler *p, int64_t key, int rank, const int64_t *shape)
{
    int64_t stride[TIC_MAX_RANK], count = 1;
    char text[24];
    for (int i = rank; i-- > 0;) {
        stride[i] = count;
        count *= shape[i] > 1 ? shape[i] : 1;    /* torch: an empty axis counts as one in strides */
    }
    for (int i = 0; i < rank; i++)
        count = shape[i] ? count : 0;
    snprintf(text, sizeof text, "%" PRId64, key);
    name(p, "ctorch._utils\n_rebuild_tensor_v2\n");
    tic_pickle_mark(p);
    tic_pickle_mark(p);
    tic_pickle_str(p, "storage");
    name(p, "ctorch\nFloatStorage\n");
    tic_pickle_str(p, text);
    tic_pickle_str(p, "cpu");
    tic_pickle_int(p, count);
    tic_pickle_tuple(p);
    op(p, 'Q');
    tic_pickle_int(p, 0);
    int_tuple(p, rank, shape);
    int_tuple(p, rank, stride);
    tic_pickle_bool(p, false);
    tic_pickle_ordered_dict(p);
    tic_pickle_tuple(p);
    op(p, 'R');
}
