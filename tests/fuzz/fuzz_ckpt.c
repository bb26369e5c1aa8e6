/* fuzz_ckpt.c -- any bytes as a checkpoint, then as a pickle alone: opening, reading and comparing must return. An
 * archive is read a second time without its checksums, which would stop nearly every change. What a checkpoint takes
 * of memory is counted: more than twice the file and a fixed floor is a failure. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"

enum { LARGEST = 1 << 16, FLOOR = 1 << 18 };      /* the floor: tables of a file of a few bytes */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* of the sanitizer's allocator; its header does not come with every compiler */
int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void *, size_t), void (*freed)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *p);

/* Bytes allocated now and at most, since the count began. */
static size_t held, most;
static bool counting;

static void on_malloc(const volatile void *p, size_t n)
{
    if (!counting || !p)
        return;
    held += n;
    most = held > most ? held : most;
}

static void on_free(const volatile void *p)
{
    if (counting && p)
        held -= __sanitizer_get_allocated_size(p);
}

static void count_memory(void)
{
    static bool installed;
    if (!installed)
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    installed = counting = true;
    held = most = 0;
}

static void check_memory(size_t size)
{
    counting = false;
    if (most <= 2 * size + FLOOR)
        return;
    fprintf(stderr, "a file of %zu bytes took %zu bytes of memory\n", size, most);
    abort();
}

static void read_tensor(TicCheckpoint *ck, int i)
{
    TicCheckpointTensor t = tic_checkpoint_tensor(ck, i);
    int64_t n;
    if (!tic_shape_count(t.rank, t.shape, &n) || n > LARGEST)
        return;                                  /* the caller's buffer: bounded by the model, not by the file */
    static float out[LARGEST];
    tic_checkpoint_read(ck, t.name, t.rank, t.shape, out);
    tic_checkpoint_read_state(ck, t.name, "exp_avg", t.rank, t.shape, out);
    tic_checkpoint_read_state(ck, t.name, "step", 0, NULL, out);
}

static void read_checkpoint(const uint8_t *data, size_t size)
{
    TicNamedTensor expected = { .name = "logit_scale" };
    TicCheckpoint *ck;
    count_memory();
    if (tic_checkpoint_open_memory(data, size, "fuzz", &ck)) {
        check_memory(size);
        return;
    }
    int64_t i;
    double f;
    for (int k = 0; k < tic_checkpoint_count(ck); k++)
        read_tensor(ck, k);
    tic_checkpoint_match(ck, &expected, 1);
    tic_checkpoint_int(ck, "epoch", &i);
    tic_checkpoint_float(ck, "optimizer.param_groups.1.lr", &f);
    tic_checkpoint_str(ck, "ticc.program");
    check_memory(size);
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
