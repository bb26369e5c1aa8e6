/* safetensors.h -- Hugging Face's format for named tensors: a length, a JSON table, the tensors' bytes.
 *
 *     u64 N | N bytes {"__metadata__": {..}, "name": {"dtype": "F32", "shape": [..], "data_offsets": [begin, end]}} |
 *     bytes, to which the offsets refer, without gaps or overlaps
 *
 * Format: the README of huggingface/safetensors. tic_checkpoint_open reads these files through this module. */
#ifndef TIC_CKPT_SAFETENSORS_H
#define TIC_CKPT_SAFETENSORS_H
#include "ckpt/stored.h"
#include "ckpt/stream.h"

enum { TIC_SAFETENSORS_HEADER = 16 << 20 };      /* a longer table is refused; 300 tensors take 30 kB */

typedef struct {
    const char *name;
    TicStored dtype;
    int rank;
    int64_t shape[TIC_MAX_RANK];
    uint64_t offset, size;       /* the tensor's bytes, from the file's start */
} TicSafeTensor;

typedef struct {
    TicSafeTensor *tensor;       /* in the order of the table */
    size_t count;
    struct TicJson *table;       /* names lie in it */
} TicSafetensors;

/* Do the first bytes look like this format? */
bool tic_safetensors_detect(const TicBytes *s);
/* TIC_USER, naming file and tensor, for anything that is not of the form above. */
TicStatus tic_safetensors_open(TicSafetensors *f, const TicBytes *s);
void tic_safetensors_close(TicSafetensors *f);
const char *tic_safetensors_meta(const TicSafetensors *f, const char *key);      /* NULL when absent */

/* Writes the parameters' f32 values (no optimiser state) and `meta` as texts beside {"format": "pt"}; atomically and
 * with bytes that depend on the contents alone, as tic_checkpoint_write. Numbers are written as text. */
TicStatus tic_safetensors_write(const char *path, const TicNamedTensor *tensor, int n, const TicMeta *meta, int n_meta);
#endif
