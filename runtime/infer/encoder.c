/* encoder.c -- see encoder.h. A tower keeps the buffers of the batch size it last ran with. */
#include "infer/encoder.h"
#include "data/bpe.h"
#include "data/index.h"
#include "data/native.h"
#include "device/exec.h"
#include "train/files.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *entry, *output;
    TicExec *exec;
    int64_t batch;               /* that `exec` was opened for */
} Tower;

struct TicEncoder {
    const TicProgram *program;
    TicModel *model;
    TicPool *pool;
    TicBpe *bpe;
    Tower image, text;
    pthread_mutex_t lock;
    int64_t batch, width;
    float table[3][256];
};

/* Features have the second extent of the entry's output. */
static int64_t entry_width(const TicProgram *p, const char *entry)
{
    const TicEntry *e = tic_program_entry(p, entry);
    const TicOutput *o = (const TicOutput *)(const void *)((const char *)p + p->outputs) + (e ? e->output : 0);
    const TicTensor *t = (const TicTensor *)(const void *)((const char *)p + p->tensors) + (e ? e->tensor + (uint32_t)o->tensor : 0);
    return e && e->n_output && t->rank == 2 ? t->shape[1] : 0;
}

static TicStatus says_how_to_read(const TicProgram *p)
{
    if (p->context < 2 || p->image_size < 1)
        return tic_fail(TIC_USER, "the program's data block says neither how images nor how captions are read");
    return TIC_OK;
}

TicStatus tic_encoder_open(const TicProgram *p, const TicKernel *kernels, const TicEncoderOptions *o, TicEncoder **out)
{
    *out = NULL;
    TRY(tic_program_check(p));
    TRY(says_how_to_read(p));
    TicEncoder *e = tic_alloc(sizeof *e);
    *e = (TicEncoder){ .program = p, .batch = o->batch > 0 ? o->batch : 64 };
    e->image = (Tower){ "image", "image_features", NULL, 0 };
    e->text = (Tower){ "text", "text_features", NULL, 0 };
    e->width = entry_width(p, "image") ? entry_width(p, "image") : entry_width(p, "text");
    pthread_mutex_init(&e->lock, NULL);
    tic_program_pixels(p, e->table);
    TicStatus status = e->width ? TIC_OK : tic_fail(TIC_USER, "the model has neither encode_image nor encode_text");
    if (!status)
        status = tic_model_new(p, kernels, &e->model);
    if (!status)
        status = tic_load_weights(e->model, o->ckpt);
    if (!status)
        status = tic_bpe_open(o->vocab, &e->bpe);
    if (!status)
        e->pool = tic_pool_new(o->threads);
    if (status)
        tic_encoder_close(e);
    else
        *out = e;
    return status;
}

void tic_encoder_close(TicEncoder *e)
{
    if (!e)
        return;
    tic_exec_close(e->image.exec);
    tic_exec_close(e->text.exec);
    tic_pool_free(e->pool);
    tic_bpe_close(e->bpe);
    tic_model_free(e->model);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

int64_t tic_encoder_width(const TicEncoder *e) { return e->width; }
int64_t tic_encoder_pixels(const TicEncoder *e) { return 3ll * e->program->image_size * e->program->image_size; }
int tic_encoder_context(const TicEncoder *e) { return e->program->context; }
TicPool *tic_encoder_pool(TicEncoder *e) { return e->pool; }
bool tic_encoder_is_fallback(const TicEncoder *e) { return tic_bpe_is_fallback(e->bpe); }

/* ---- preparing */

TicStatus tic_encoder_picture(const TicEncoder *e, const void *data, size_t size, const char *label, uint8_t *planes)
{
    TicNative image = { 0 };
    TicStatus status = tic_native_decode(data, size, &image);
    if (status) {
        char *why = tic_strdup(tic_error());
        tic_error_clear();
        tic_fail(status, "%s: %s", label, why);
        free(why);
    } else {
        TicResizer *resizer = tic_resizer_new();
        tic_native_square(resizer, &image, e->program->image_size, planes);
        tic_resizer_free(resizer);
    }
    tic_native_free(&image);
    return status;
}

TicStatus tic_encoder_picture_file(const TicEncoder *e, const char *path, uint8_t *planes)
{
    char *data;
    size_t size;
    TRY(tic_read_file(path, TIC_MAX_MEMBER, &data, &size));
    TicStatus status = tic_encoder_picture(e, data, size, path, planes);
    free(data);
    return status;
}

void tic_encoder_caption(const TicEncoder *e, const char *utf8, size_t size, int32_t *tokens)
{
    tic_bpe_encode(e->bpe, utf8, size, e->program->context, tokens);
}

/* ---- encoding */

/* What is encoded: one of these. */
typedef struct { const uint8_t *planes; const float *pixels; const int32_t *tokens; } Rows;

static TicStatus give(const TicEncoder *e, const Rows *r, int64_t at, int64_t n, TicBatch to)
{
    if (r->pixels && to.bytes)
        return tic_fail(TIC_USER, "pictures that are normalised already go to the CPU's tower alone: a GPU's takes 8 bits");
    if (r->pixels && to.pixels)
        memcpy(to.pixels, r->pixels + at * tic_encoder_pixels(e), (size_t)(n * tic_encoder_pixels(e)) * sizeof *to.pixels);
    if (r->planes)
        tic_batch_pictures(to, e->table, r->planes + at * tic_encoder_pixels(e), n, e->program->image_size, 0);
    if (r->tokens && to.tokens)
        memcpy(to.tokens, r->tokens + at * e->program->context, (size_t)(n * e->program->context) * sizeof *to.tokens);
    return TIC_OK;
}

static TicStatus encode(TicEncoder *e, Tower *t, Rows rows, int64_t n, float *features)
{
    for (int64_t at = 0, now; at < n; at += now) {
        now = n - at < e->batch ? n - at : e->batch;
        if (t->batch != now) {
            tic_exec_close(t->exec);
            t->exec = NULL;
            t->batch = 0;
            TRY(tic_exec_open(e->model, e->pool, t->entry, now, &t->exec));
            t->batch = now;
        }
        TRY(give(e, &rows, at, now, tic_exec_batch(t->exec)));
        tic_exec_run(t->exec);
        memcpy(features + at * e->width, tic_exec_output(t->exec, t->output, NULL), (size_t)(now * e->width) * sizeof *features);
    }
    return TIC_OK;
}

static TicStatus encode_alone(TicEncoder *e, Tower *t, Rows rows, int64_t n, float *features)
{
    if (entry_width(e->program, t->entry) != e->width)
        return tic_fail(TIC_USER, "the model has no encode_%s", t->entry);
    if (n < 0)
        return tic_fail(TIC_USER, "found %lld rows to encode, wanted 0 or more", (long long)n);
    pthread_mutex_lock(&e->lock);
    TicStatus status = encode(e, t, rows, n, features);
    pthread_mutex_unlock(&e->lock);
    return status;
}

TicStatus tic_encoder_images(TicEncoder *e, const uint8_t *planes, int64_t n, float *features)
{
    return encode_alone(e, &e->image, (Rows){ .planes = planes }, n, features);
}

TicStatus tic_encoder_normalised(TicEncoder *e, const float *pixels, int64_t n, float *features)
{
    return encode_alone(e, &e->image, (Rows){ .pixels = pixels }, n, features);
}

TicStatus tic_encoder_texts(TicEncoder *e, const int32_t *tokens, int64_t n, float *features)
{
    int64_t most = e->program->vocabulary ? e->program->vocabulary : TIC_VOCABULARY;
    for (int64_t i = 0; i < n * e->program->context; i++)
        if (tokens[i] < 0 || tokens[i] >= most)
            return tic_fail(TIC_USER, "token %d is outside the model's vocabulary of %lld", tokens[i], (long long)most);
    return encode_alone(e, &e->text, (Rows){ .tokens = tokens }, n, features);
}
