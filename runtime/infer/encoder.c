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
    const char *entry, *input, *output;
    int64_t row_bytes;           /* of the input */
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
    e->image = (Tower){ "image", "pixels", "image_features", tic_encoder_pixels(e) * (int64_t)sizeof(float), NULL, 0 };
    e->text = (Tower){ "text", "tokens", "text_features", p->context * (int64_t)sizeof(int32_t), NULL, 0 };
    e->width = entry_width(p, "image") ? entry_width(p, "image") : entry_width(p, "text");
    pthread_mutex_init(&e->lock, NULL);
    float mean[3], std[3];
    for (int k = 0; k < 3; k++) {
        mean[k] = (float)p->mean[k];
        std[k] = (float)p->std[k];
    }
    tic_normalise_table(mean, std, e->table);
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
bool tic_encoder_is_fallback(const TicEncoder *e) { return tic_bpe_is_fallback(e->bpe); }

/* ---- preparing */

TicStatus tic_encoder_picture(const TicEncoder *e, const void *data, size_t size, const char *label, float *pixels)
{
    size_t side = (size_t)e->program->image_size;
    TicNative image = { 0 };
    TicStatus status = tic_native_decode(data, size, &image);
    if (status) {
        char *why = tic_strdup(tic_error());
        tic_error_clear();
        tic_fail(status, "%s: %s", label, why);
        free(why);
    } else {
        uint8_t *planes = tic_alloc(3 * side * side);
        TicResizer *resizer = tic_resizer_new();
        tic_native_square(resizer, &image, (int)side, planes);
        tic_normalise(e->table, planes, side * side, pixels);
        tic_resizer_free(resizer);
        free(planes);
    }
    tic_native_free(&image);
    return status;
}

TicStatus tic_encoder_picture_file(const TicEncoder *e, const char *path, float *pixels)
{
    char *data;
    size_t size;
    TRY(tic_read_file(path, TIC_MAX_MEMBER, &data, &size));
    TicStatus status = tic_encoder_picture(e, data, size, path, pixels);
    free(data);
    return status;
}

void tic_encoder_caption(const TicEncoder *e, const char *utf8, size_t size, int32_t *tokens)
{
    tic_bpe_encode(e->bpe, utf8, size, e->program->context, tokens);
}

/* ---- encoding */

static TicStatus encode(TicEncoder *e, Tower *t, const void *rows, int64_t n, float *features)
{
    while (n > 0) {
        int64_t now = n < e->batch ? n : e->batch;
        if (t->batch != now) {
            tic_exec_close(t->exec);
            t->exec = NULL;
            t->batch = 0;
            TRY(tic_exec_open(e->model, e->pool, t->entry, now, &t->exec));
            t->batch = now;
        }
        void *input = tic_exec_input(t->exec, t->input);
        if (input)
            memcpy(input, rows, (size_t)(now * t->row_bytes));
        tic_exec_run(t->exec);
        memcpy(features, tic_exec_output(t->exec, t->output, NULL), (size_t)(now * e->width) * sizeof *features);
        rows = (const char *)rows + now * t->row_bytes;
        features += now * e->width;
        n -= now;
    }
    return TIC_OK;
}

static TicStatus encode_alone(TicEncoder *e, Tower *t, const void *rows, int64_t n, float *features)
{
    if (entry_width(e->program, t->entry) != e->width)
        return tic_fail(TIC_USER, "the model has no encode_%s", t->entry);
    pthread_mutex_lock(&e->lock);
    TicStatus status = encode(e, t, rows, n, features);
    pthread_mutex_unlock(&e->lock);
    return status;
}

TicStatus tic_encoder_images(TicEncoder *e, const float *pixels, int64_t n, float *features)
{
    return encode_alone(e, &e->image, pixels, n, features);
}

TicStatus tic_encoder_texts(TicEncoder *e, const int32_t *tokens, int64_t n, float *features)
{
    int64_t most = e->program->vocabulary ? e->program->vocabulary : TIC_VOCABULARY;
    for (int64_t i = 0; i < n * e->program->context; i++)
        if (tokens[i] < 0 || tokens[i] >= most)
            return tic_fail(TIC_USER, "token %d is outside the model's vocabulary of %lld", tokens[i], (long long)most);
    return encode_alone(e, &e->text, tokens, n, features);
}
