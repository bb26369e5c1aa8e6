/* fuzz_ckpt.c -- any bytes as a checkpoint, then as a pickle alone: opening, reading and comparing must return. An
 * archive is read a second time without its checksums, which would stop nearly every change. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"

enum { LARGEST = 1 << 16 };
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_tensor(TicCheckpoint *ck, int i)
{
    TicCheckpointTensor t = tic_checkpoint_tensor(ck, i);
    int64_t n;
    if (!tic_shape_count(t.rank, t.shape, &n) || n > LARGEST)
        return;                                  /* the caller's buffer: bounded by the model, not by the file */
    float *out = malloc((size_t)n * sizeof *out + 1);
    tic_checkpoint_read(ck, t.name, t.rank, t.shape, out);
    tic_checkpoint_read_state(ck, t.name, "exp_avg", t.rank, t.shape, out);
    tic_checkpoint_read_state(ck, t.name, "step", 0, NULL, n ? out : &(float){ 0 });
    free(out);
}

static void read_checkpoint(const uint8_t *data, size_t size)
{
    TicNamedTensor expected = { .name = "logit_scale" };
    TicCheckpoint *ck;
    if (tic_checkpoint_open_memory(data, size, "fuzz", &ck))
        return;
    int64_t i;
    double f;
    for (int k = 0; k < tic_checkpoint_count(ck); k++)
        read_tensor(ck, k);
    tic_checkpoint_match(ck, &expected, 1);
    tic_checkpoint_int(ck, "epoch", &i);
    tic_checkpoint_float(ck, "optimizer.param_groups.1.lr", &f);
    tic_checkpoint_str(ck, "ticc.program");
    tic_checkpoint_close(ck);
}

/* The checksums of all entries become 0, "not computed"; what was changed elsewhere then gets past them. */
static void read_without_checksums(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size + 1), *p = copy;
    memcpy(copy, data, size);
    while ((p = memmem(p, size - (size_t)(p - copy), "PK\1\2", 4)) && size - (size_t)(p - copy) >= 20) {
        memset(p + 16, 0, 4);
        p += 4;
    }
    read_checkpoint(copy, size);
    free(copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TicUnpickled u;
    tic_error_clear();
    read_checkpoint(data, size);
    tic_error_clear();
    read_without_checksums(data, size);
    tic_error_clear();
    const uint8_t *pickle = memmem(data, size < 4096 ? size : 4096, "\x80\x02", 2);
    if (pickle && !tic_unpickle(&u, pickle, size - (size_t)(pickle - data), "fuzz"))
        tic_unpickle_free(&u);
    tic_error_clear();
    return 0;
}
