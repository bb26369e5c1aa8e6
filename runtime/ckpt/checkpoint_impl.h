/* checkpoint_impl.h -- what checkpoint_read.c and checkpoint_state.c share; nobody else includes it. */
#ifndef TIC_CKPT_CHECKPOINT_IMPL_H
#define TIC_CKPT_CHECKPOINT_IMPL_H
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"
#include "ckpt/safetensors.h"
#include "ckpt/zip.h"

/* A tensor of the file: the layout inside its storage, and where the storage's bytes are; or three tensors of the file
 * that follow each other along the first axis. */
typedef struct FileTensor {
    const char *name;
    const struct FileTensor *part[3];        /* all or none */
    TicStored dtype;
    int rank;
    int64_t shape[TIC_MAX_RANK], stride[TIC_MAX_RANK];
    int64_t offset;              /* elements from the storage's start */
    TicZipEntry storage;         /* for safetensors: the tensor's own bytes, no checksum */
} FileTensor;

/* An optimiser id and the parameter it belongs to. */
typedef struct { const FileTensor *param; int64_t id; const TicValue *state; } StateOf;

struct TicCheckpoint {
    TicBytes source;
    TicZip zip;
    TicUnpickled pickle;         /* top is NULL for safetensors */
    TicSafetensors safe;
    char *root;                  /* folder in the archive */
    FileTensor *tensor;
    FileTensor **by_name;        /* sorted */
    FileTensor *foreign;         /* Hugging Face's layout: the tensors under their own names; `tensor` refers to them */
    char (*renamed)[160];         /* and OpenCLIP's names for them */
    int count;
    unsigned char *cache;        /* the storage read last: parameters may share one */
    uint64_t cache_at, cache_size;
    bool mapped;                 /* the optimiser has been looked at */
    char *no_state;              /* why it cannot be used; NULL: it can */
    StateOf *state;              /* sorted by the parameter's address */
    int n_state;
};

const FileTensor *tic_checkpoint_find(const TicCheckpoint *ck, const char *name);
/* Finds and checks the storage of a tensor of the pickle. */
TicStatus tic_checkpoint_resolve(const TicCheckpoint *ck, const char *name, const TicTensorRef *ref, FileTensor *t);
/* A file in Hugging Face's layout gets OpenCLIP's names and shapes (checkpoint_hf.c); any other stays as it is. */
TicStatus tic_checkpoint_adopt_hf(TicCheckpoint *ck);
TicStatus tic_checkpoint_gather(TicCheckpoint *ck, const FileTensor *t, int rank, const int64_t *shape, float *out);
#endif
