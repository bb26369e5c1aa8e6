/* pickle.h -- the index of a torch checkpoint, read without running anything, and written.
 *
 * A pickle is a program for a small stack machine that builds Python values. Python's own machine may call any
 * function by name; this one knows the few opcodes that occur in checkpoints and the few names of one table, and
 * builds plain values from them. Anything else is an error that names the opcode or the name. The format: the
 * opcode table in CPython's Lib/pickletools.py; what torch puts into it: torch/serialization.py. */
#ifndef TIC_CKPT_PICKLE_H
#define TIC_CKPT_PICKLE_H
#include "ckpt/stored.h"

enum { TIC_PICKLE_BYTES = 16 << 20, TIC_PICKLE_DEPTH = 200 };    /* more than this is refused */

typedef enum TicValueKind {
    TIC_VALUE_NONE, TIC_VALUE_BOOL, TIC_VALUE_INT, TIC_VALUE_FLOAT, TIC_VALUE_STR, TIC_VALUE_BYTES,
    TIC_VALUE_TUPLE, TIC_VALUE_LIST, TIC_VALUE_DICT,
    TIC_VALUE_TENSOR, TIC_VALUE_STORAGE,
    TIC_VALUE_GLOBAL, TIC_VALUE_DTYPE      /* only while reading: a name of the table, numpy's type of a scalar */
} TicValueKind;

/* `count` elements that lie in the archive's entry data/KEY. */
typedef struct { TicStored dtype; const char *key; int64_t count; } TicStorageRef;

/* Element [i, j, ..] is element offset + i*stride[0] + j*stride[1] + .. of the storage. */
typedef struct {
    TicStorageRef storage;
    int64_t offset;
    int rank;
    int64_t shape[TIC_MAX_RANK], stride[TIC_MAX_RANK];
} TicTensorRef;

typedef struct TicValue TicValue;
struct TicValue {
    uint8_t kind;                /* TicValueKind */
    uint16_t depth;              /* 0: a leaf */
    union {
        int64_t i;               /* BOOL, INT, GLOBAL, DTYPE */
        double f;
        struct { const char *s; size_t n; } text;                 /* STR, BYTES: n bytes, then a zero */
        struct { TicValue **item; uint32_t n, room; } seq;        /* DICT: key, value, key, value, .. */
        const TicTensorRef *tensor;
        const TicStorageRef *storage;
    };
};

typedef struct TicUnpickled {
    const TicValue *top;
    struct TicPickleChunk *memory;       /* all values; they may refer to each other in circles */
} TicUnpickled;

/* `label` names the pickle in messages. TIC_USER for all that is refused; nothing is kept then. */
TicStatus tic_unpickle(TicUnpickled *u, const void *data, size_t size, const char *label);
void tic_unpickle_free(TicUnpickled *u);

/* The value of a text key, the last one if there are several; NULL when `dict` is no dict or has none. */
const TicValue *tic_value_get(const TicValue *dict, const char *key);
bool tic_value_is(const TicValue *v, TicValueKind kind);         /* false for NULL */

/* Writing, protocol 2, no memo: values in the order Python's stack machine wants them. A dict is dict_begin,
 * then mark, keys and values in turn, set_items. Nothing fails: memory is the only thing it takes. */
typedef struct { unsigned char *data; size_t n, room; } TicPickler;
void tic_pickle_begin(TicPickler *p);
void tic_pickle_end(TicPickler *p);                              /* then data[0 .. n) is the pickle */
void tic_pickle_free(TicPickler *p);
void tic_pickle_none(TicPickler *p);
void tic_pickle_bool(TicPickler *p, bool v);
void tic_pickle_int(TicPickler *p, int64_t v);
void tic_pickle_float(TicPickler *p, double v);
void tic_pickle_str(TicPickler *p, const char *s);               /* valid UTF-8 */
void tic_pickle_dict(TicPickler *p);                             /* {}; then mark .. set_items */
void tic_pickle_ordered_dict(TicPickler *p);                     /* collections.OrderedDict() */
void tic_pickle_list(TicPickler *p);                             /* []; then mark .. appends */
void tic_pickle_mark(TicPickler *p);
void tic_pickle_set_items(TicPickler *p);
void tic_pickle_appends(TicPickler *p);
void tic_pickle_tuple(TicPickler *p);                            /* of what follows the mark */
/* A contiguous f32 tensor that fills storage data/KEY. */
void tic_pickle_tensor(TicPickler *p, int64_t key, int rank, const int64_t *shape);
#endif
