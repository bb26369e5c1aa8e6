/* embed.c -- see infer.h. Rows wait until a batch is full, pass the tower and go to the file. */
#include "infer/infer.h"
#include "data/loader.h"
#include "infer/encoder.h"
#include "infer/npy.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

typedef struct {
    TicEncoder *encoder;
    TicNpy file;
    uint8_t *planes;
    float *features;
    int32_t *tokens;
    int64_t batch, filled;
} Rows;

static void rows_open(Rows *r, TicEncoder *e, int64_t batch, bool text)
{
    *r = (Rows){ .encoder = e, .batch = batch, .features = tic_alloc((size_t)(batch * tic_encoder_width(e)) * sizeof(float)) };
    if (text)
        r->tokens = tic_alloc((size_t)(batch * tic_encoder_context(e)) * sizeof *r->tokens);
    else
        r->planes = tic_alloc((size_t)(batch * tic_encoder_pixels(e)));
}

static TicStatus rows_flush(Rows *r)
{
    int64_t n = r->filled;
    r->filled = 0;
    if (!n)
        return TIC_OK;
    if (r->planes)
        TRY(tic_encoder_images(r->encoder, r->planes, n, r->features));
    else
        TRY(tic_encoder_texts(r->encoder, r->tokens, n, r->features));
    return tic_npy_add(&r->file, r->features, n);
}

static TicStatus rows_next(Rows *r)
{
    return ++r->filled == r->batch ? rows_flush(r) : TIC_OK;
}

static TicStatus add_caption(Rows *r, const char *text, size_t size)
{
    tic_encoder_caption(r->encoder, text, size, r->tokens + r->filled * tic_encoder_context(r->encoder));
    return rows_next(r);
}

/* Puts the file in place when all went well. */
static TicStatus rows_close(Rows *r, TicStatus status)
{
    if (!status)
        status = rows_flush(r);
    if (!status)
        status = tic_npy_commit(&r->file);
    else
        tic_npy_abandon(&r->file);
    free(r->planes);
    free(r->tokens);
    free(r->features);
    return status;
}

static TicStatus embed_images(TicEncoder *e, const TicEmbedOptions *o, const char *const *path, int n, FILE *log)
{
    Rows r;
    rows_open(&r, e, o->batch, false);
    TicStatus status = tic_npy_open(&r.file, o->out, tic_encoder_width(e));
    for (int i = 0; i < n && !status; i++) {
        status = tic_encoder_picture_file(e, path[i], r.planes + r.filled * tic_encoder_pixels(e));
        if (!status)
            status = rows_next(&r);
    }
    status = rows_close(&r, status);
    if (!status)
        fprintf(log, "%s: features of %d image%s\n", o->out, n, n == 1 ? "" : "s");
    return status;
}

static TicStatus embed_captions(TicEncoder *e, const TicEmbedOptions *o, FILE *log)
{
    Rows r;
    char *text;
    size_t size;
    int64_t lines = 0;
    TRY(tic_read_file(o->captions, (size_t)1 << 32, &text, &size));
    rows_open(&r, e, o->batch, true);
    TicStatus status = tic_npy_open(&r.file, o->out, tic_encoder_width(e));
    for (const char *at = text, *end = text + size; at < end && !status; lines++) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = (size_t)((stop ? stop : end) - at);
        status = add_caption(&r, at, n && at[n - 1] == '\r' ? n - 1 : n);
        at += n + 1;
    }
    free(text);
    status = rows_close(&r, status);
    if (!status)
        fprintf(log, "%s: features of %lld caption%s\n", o->out, (long long)lines, lines == 1 ? "" : "s");
    return status;
}

static TicStatus open_samples(const TicProgram *p, const char *const *path, int n, TicSamples **samples)
{
    TicSamplesConfig c = { .image_size = p->image_size };
    TicStatus status = TIC_OK;
    for (int i = 0; i < n && !status; i++)
        status = tic_shards_add(&c.shards, path[i]);
    if (!status)
        status = tic_samples_open(&c, samples);
    tic_shards_clear(&c.shards);
    return status;
}

static TicStatus embed_shards(TicEncoder *e, const TicProgram *p, const TicEmbedOptions *o, const char *const *path, int n, FILE *log)
{
    Rows image, text;
    TicSamples *samples;
    TicSample s;
    char *of_images = tic_format("%s.images.npy", o->out), *of_texts = tic_format("%s.texts.npy", o->out), *of_keys = tic_format("%s.keys.txt", o->out);
    int64_t rows = 0, skipped = 0;
    rows_open(&image, e, o->batch, false);
    rows_open(&text, e, o->batch, true);
    FILE *keys = fopen(of_keys, "w");
    TicStatus status = keys ? TIC_OK : tic_fail(TIC_IO, "%s: cannot write: %s", of_keys, strerror(errno));
    if (!status)
        status = tic_npy_open(&image.file, of_images, tic_encoder_width(e));
    if (!status)
        status = tic_npy_open(&text.file, of_texts, tic_encoder_width(e));
    if (!status && !(status = open_samples(p, path, n, &samples))) {
        while (!status && !(status = tic_samples_next(samples, &s))) {
            memcpy(image.planes + image.filled * tic_encoder_pixels(e), s.planes, (size_t)tic_encoder_pixels(e));
            status = rows_next(&image);
            if (!status)
                status = add_caption(&text, s.caption, s.caption_size);
            fprintf(keys, "%s\n", s.key);
            rows++;
        }
        if (status == TIC_END)
            status = TIC_OK;
        TicLoaderStats stats;
        tic_samples_stats(samples, &stats);
        for (int i = 0; i < TIC_SKIP_REASONS; i++)
            skipped += stats.skipped[i];
        tic_samples_close(samples);
    }
    status = rows_close(&image, status);
    status = rows_close(&text, status);
    if (keys && fclose(keys) && !status)
        status = tic_fail(TIC_IO, "%s: cannot write: %s", of_keys, strerror(errno));
    if (!status)
        fprintf(log, "%s, %s: features of %lld samples, their keys in %s%s\n", of_images, of_texts, (long long)rows, of_keys,
                skipped ? "; some samples could not be used" : "");
    free(of_images);
    free(of_texts);
    free(of_keys);
    return status;
}

static bool is_shard(const char *path)       /* or a folder of them */
{
    struct stat st;
    size_t n = strlen(path);
    return (n > 4 && !strcmp(path + n - 4, ".tar")) || (!stat(path, &st) && S_ISDIR(st.st_mode));
}

TicStatus tic_embed(const TicProgram *p, const TicKernel *kernels, const TicEmbedOptions *o, const char *const *word, int n, FILE *log)
{
    int shards = 0;
    for (int i = 0; i < n; i++)
        shards += is_shard(word[i]);
    if (!o->ckpt)
        return tic_fail(TIC_USER, "--ckpt: no checkpoint given");
    if (!o->out)
        return tic_fail(TIC_USER, "--out: no file given");
    if (!n == !o->captions)
        return tic_fail(TIC_USER, "found %s, wanted images, or shards, or --captions FILE", n ? "files and --captions" : "nothing to embed");
    if (shards && shards < n)
        return tic_fail(TIC_USER, "found images and shards, wanted either");
    TicEncoder *e;
    TicEncoderOptions eo = { .ckpt = o->ckpt, .vocab = o->vocab, .threads = (int)o->threads, .batch = o->batch };
    TRY(tic_encoder_open(p, kernels, &eo, &e));
    if ((o->captions || shards) && tic_encoder_is_fallback(e))
        fprintf(stderr, "no vocabulary found (--vocab, or `make vocab`): captions are spelled byte by byte, which no published checkpoint expects\n");
    TicStatus status = o->captions ? embed_captions(e, o, log) : shards ? embed_shards(e, p, o, word, n, log) : embed_images(e, o, word, n, log);
    tic_encoder_close(e);
    return status;
}
