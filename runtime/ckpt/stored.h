/* stored.h -- element types as files hold them, and named tensors as files are written from them.
 *
 * One table has a row for each element type: its size and how torch and safetensors call it. Everything is
 * little-endian. Parameters are always f32 in memory; what a file holds in f16, bf16 or f64 is converted. */
#ifndef TIC_CKPT_STORED_H
#define TIC_CKPT_STORED_H
#include "base.h"
#include "tic.h"

/* id, bytes, our name, class of torch (NULL: none), safetensors' name */
#define TIC_STORED_TABLE(ROW)                      \
    ROW(F64,  8, "f64",  "DoubleStorage",   "F64")  \
    ROW(F32,  4, "f32",  "FloatStorage",    "F32")  \
    ROW(F16,  2, "f16",  "HalfStorage",     "F16")  \
    ROW(BF16, 2, "bf16", "BFloat16Storage", "BF16") \
    ROW(I64,  8, "i64",  "LongStorage",     "I64")  \
    ROW(I32,  4, "i32",  "IntStorage",      "I32")  \
    ROW(I16,  2, "i16",  "ShortStorage",    "I16")  \
    ROW(I8,   1, "i8",   "CharStorage",     "I8")   \
    ROW(U8,   1, "u8",   "ByteStorage",     "U8")   \
    ROW(BOOL, 1, "bool", "BoolStorage",     "BOOL") \
    ROW(U16,  2, "u16",  NULL,              "U16")  \
    ROW(U32,  4, "u32",  NULL,              "U32")  \
    ROW(U64,  8, "u64",  NULL,              "U64")

typedef enum TicStored {
#define ROW(id, bytes, name, torch, safe) TIC_STORED_##id,
    TIC_STORED_TABLE(ROW)
#undef ROW
    TIC_STORED_COUNT
} TicStored;

typedef struct { int bytes; const char *name, *torch, *safetensors; } TicStoredInfo;
extern const TicStoredInfo tic_stored[TIC_STORED_COUNT];

bool tic_stored_is_float(TicStored t);                     /* f64, f32, f16, bf16 */
/* One element to f32: f16 and bf16 exactly, f64 rounded to nearest. Float types only. */
float tic_stored_to_f32(TicStored t, const void *element);

/* Product of the extents; false when one is negative or the product does not fit. Rank 0: one element. */
bool tic_shape_count(int rank, const int64_t *shape, int64_t *count);
/* "[768, 512]", "[]" for a scalar; cut with "..." when `room` is short. Returns `out`. */
const char *tic_shape_text(int rank, const int64_t *shape, char *out, size_t room);
/* A name from a file made fit for a message: at most 79 characters, no control characters. Returns `out`. */
const char *tic_name_text(const char *name, size_t length, char out[80]);
bool tic_utf8_valid(const char *s, size_t n);

enum { TIC_TENSOR_STATES = 4 };

/* A parameter: where its values lie and what the optimiser keeps for it. Row-major, [shape]; all borrowed. */
typedef struct {
    const char *name;                    /* as in OpenCLIP's state_dict, without "module." */
    int rank;                            /* 0 .. TIC_MAX_RANK */
    int64_t shape[TIC_MAX_RANK];
    const float *data;                   /* may be NULL where only names and shapes are asked for */
    bool decay;                          /* subject to weight decay: the optimiser's group 1, else group 0 */
    struct { const char *role; const float *data; } state[TIC_TENSOR_STATES];   /* "exp_avg", ...; [shape] each */
} TicNamedTensor;

/* One value beside the tensors. */
typedef struct {
    const char *key;
    enum { TIC_META_INT, TIC_META_FLOAT, TIC_META_STR } kind;
    int64_t i;
    double f;
    const char *s;
} TicMeta;
#endif
