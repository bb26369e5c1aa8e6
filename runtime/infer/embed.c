/* embed.c -- see infer.h. Rows wait until a batch is full, pass the tower and go to the file. */
#include "infer/infer.h"
#include "data/image.h"
#include "data/loader.h"
#include "infer/encoder.h"
#include "infer/npy.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct {
    TicEncoder *encoder;
    TicNpy file;
    uint8_t *planes;
    float *features;
    int32_t *tokens;
    bool *absent;                  /* [batch]: rows that become NaN */
    int64_t batch, filled;
} Rows;

/* What could not be used. */
typedef struct {
    bool strict;
    char *path, *text, *first;     /* of the list, and the list; why the first one could not be used, or NULL */
    size_t size;
    FILE *list;                    /* into `text` */
    int64_t count[TIC_SKIP_REASONS];
} Skipped;

static void rows_open(Rows *r, TicEncoder *e, int64_t batch, bool text)
{
    *r = (Rows){ .encoder = e, .batch = batch, .features = tic_alloc((size_t)(batch * tic_encoder_width(e)) * sizeof(float)),
                 .absent = tic_alloc((size_t)batch * sizeof *r->absent) };
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
    const int64_t width = tic_encoder_width(r->encoder);
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; r->absent[i] && k < width; k++)
            r->features[i * width + k] = NAN;
        r->absent[i] = false;
    }
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

/* After the last row, before any of the files that belong together is put in place. */
static TicStatus rows_end(Rows *r)
{
    TRY(rows_flush(r));
    return tic_npy_flush(&r->file);
}

/* Puts the file in place when all went well. */
static TicStatus rows_close(Rows *r, TicStatus status)
{
    if (!status)
        status = rows_end(r);
    if (!status)
        status = tic_npy_commit(&r->file);
    else
        tic_npy_abandon(&r->file);
    free(r->planes);
    free(r->tokens);
    free(r->features);
    free(r->absent);
    return status;
}

static void skipped_open(Skipped *k, const TicEmbedOptions *o)
{
    *k = (Skipped){ .strict = o->strict, .path = tic_format("%s.skipped.txt", o->out) };
    k->list = open_memstream(&k->text, &k->size);
}

/* A line of the list; `why` names what it was. */
static void skipped_add(void *to, const char *why)
{
    Skipped *k = to;
    fprintf(k->list, "%s\n", why);
    if (!k->first)
        k->first = tic_strdup(why);
}

/* Writes the list, or removes that of an earlier call. `used` 0 of `all`: an error. */
static TicStatus skipped_write(Skipped *k, int64_t used, int64_t all)
{
    fclose(k->list);
    k->list = NULL;
    const char *tab = k->first ? strchr(k->first, '\t') : NULL;           /* behind a row */
    if (k->first && !used)
        return tic_fail(TIC_USER, "none of %lld pictures could be used; the first: %s", (long long)all, tab ? tab + 1 : k->first);
    if (k->first)
        return tic_write_file(k->path, k->text, k->size);
    unlink(k->path);
    return TIC_OK;
}

static void skipped_say(const Skipped *k, FILE *log)
{
    int64_t total = 0;
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        total += k->count[i];
    if (!total)
        return;
    fprintf(log, "%lld could not be used:", (long long)total);
    for (int i = 0, more = 0; i < TIC_SKIP_REASONS; i++)
        if (k->count[i])
            fprintf(log, "%s %lld %s", more++ ? "," : "", (long long)k->count[i], tic_skip_name((TicSkip)i));
    fprintf(log, "; listed in %s\n", k->path);
}

static void skipped_close(Skipped *k)
{
    if (k->list)
        fclose(k->list);
    free(k->path);
    free(k->text);
    free(k->first);
}

/* ---- pictures: a batch of them is decoded by all threads, each into its row */

typedef struct { TicStatus status; TicSkip reason; char *why; } Outcome;
typedef struct { const Rows *rows; const char *const *path; Outcome *outcome; } Decode;

/* A picture into a row. TIC_USER and *reason when it cannot be used, for the message names it. */
static TicStatus read_picture(const Rows *r, const char *path, int64_t row, TicSkip *reason)
{
    char *data;
    size_t size;
    *reason = TIC_SKIP_MISSING;
    TRY(tic_read_file(path, TIC_MAX_MEMBER, &data, &size));
    TicForeign kind = tic_foreign_of((const uint8_t *)data, size);
    *reason = kind == TIC_FOREIGN_NONE ? TIC_SKIP_BAD_IMAGE : TIC_SKIP_FOREIGN + (TicSkip)kind;
    TicStatus status = tic_encoder_picture(r->encoder, data, size, path, r->planes + row * tic_encoder_pixels(r->encoder));
    free(data);
    return status;
}

static void decode_one(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
    const Decode *d = buf[0];
    Outcome *o = &d->outcome[task];
    o->status = read_picture(d->rows, d->path[task], task, &o->reason);
    if (o->status) {
        o->why = tic_strdup(tic_error());
        tic_error_clear();
    }
}

/* Counts a picture, which is number `index` of all, into the row that comes next. */
static TicStatus take_picture(Rows *r, Skipped *k, const Outcome *o, int64_t index)
{
    if (o->status && (k->strict || o->status == TIC_BUG))
        return tic_fail(o->status, "%s", o->why);
    if (o->status) {
        char *line = tic_format("%lld\t%s", (long long)index, o->why);
        skipped_add(k, line);
        free(line);
        k->count[o->reason]++;
        r->absent[r->filled] = true;
        memset(r->planes + r->filled * tic_encoder_pixels(r->encoder), 0, (size_t)tic_encoder_pixels(r->encoder));
    }
    return rows_next(r);
}

static TicStatus add_pictures(Rows *r, Skipped *k, const char *const *path, int64_t n)
{
    TicStatus status = TIC_OK;
    Outcome *outcome = tic_alloc((size_t)r->batch * sizeof *outcome);
    for (int64_t at = 0, now; at < n && !status; at += now) {
        now = n - at < r->batch ? n - at : r->batch;
        Decode d = { r, path + at, outcome };
        void *buf[] = { &d };
        memset(outcome, 0, (size_t)now * sizeof *outcome);
        tic_pool_run(tic_encoder_pool(r->encoder), decode_one, buf, 1, now);
        for (int64_t i = 0; i < now; i++) {
            status = status ? status : take_picture(r, k, &outcome[i], at + i);
            free(outcome[i].why);
        }
    }
    free(outcome);
    return status;
}

static TicStatus embed_images(TicEncoder *e, const TicEmbedOptions *o, const char *const *path, int n, FILE *log)
{
    Rows r;
    Skipped k;
    int64_t unused = 0;
    rows_open(&r, e, o->batch, false);
    skipped_open(&k, o);
    TicStatus status = tic_npy_open(&r.file, o->out, tic_encoder_width(e));
    if (!status)
        status = add_pictures(&r, &k, path, n);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        unused += k.count[i];
    if (!status)
        status = rows_end(&r);
    if (!status)
        status = skipped_write(&k, n - unused, n);
    status = rows_close(&r, status);
    if (!status) {
        fprintf(log, "%s: features of %d image%s%s\n", o->out, n, n == 1 ? "" : "s", unused ? ", those that could not be used as rows of NaN" : "");
        skipped_say(&k, log);
    }
    skipped_close(&k);
    return status;
}

/* The images that a file names, one a line. */
static TicStatus embed_files(TicEncoder *e, const TicEmbedOptions *o, FILE *log)
{
    char *text, *at;
    size_t size, n = 0;
    TRY(tic_read_file(o->files, (size_t)1 << 32, &text, &size));
    const char **path = NULL;
    for (at = text; at < text + size;) {
        char *stop = at + strcspn(at, "\n"), *next = stop + (stop < text + size);
        *stop = 0;
        if (stop > at && stop[-1] == '\r')
            stop[-1] = 0;
        if (*at) {
            if (!(n & (n - 1)))
                path = tic_realloc(path, (n ? 2 * n : 1) * sizeof *path);
            path[n++] = at;
        }
        at = next;
    }
    TicStatus status = !n ? tic_fail(TIC_USER, "%s: found no names, wanted those of images, one a line", o->files)
                     : n > INT32_MAX ? tic_fail(TIC_USER, "%s: found %zu names, wanted at most %d", o->files, n, INT32_MAX)
                                     : embed_images(e, o, path, (int)n, log);
    free(path);
    free(text);
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

static void warn(void *unused, const char *text) { fprintf(stderr, "warning: %s\n", text); }

static TicStatus open_samples(const TicProgram *p, const char *const *path, int n, Skipped *k, TicSamples **samples)
{
    TicSamplesConfig c = { .image_size = p->image_size, .warn = { warn, NULL }, .skip = { skipped_add, k } };
    TicStatus status = TIC_OK;
    for (int i = 0; i < n && !status; i++)
        status = tic_shards_add(&c.shards, path[i]);
    if (!status)
        status = tic_samples_open(&c, samples);
    tic_shards_clear(&c.shards);
    return status;
}

/* Every usable sample, a row each. */
static TicStatus add_samples(Rows *image, Rows *text, Skipped *k, TicSamples *samples, FILE *keys, int64_t *rows, int64_t *silent)
{
    TicSample s;
    TicStatus status;
    const size_t pixels = (size_t)tic_encoder_pixels(image->encoder);
    while (!(status = tic_samples_next(samples, &s))) {
        if (k->strict && k->first)
            return tic_fail(TIC_USER, "%s", k->first);
        memcpy(image->planes + (size_t)image->filled * pixels, s.planes, pixels);
        TRY(rows_next(image));
        text->absent[text->filled] = !s.has_caption;
        *silent += !s.has_caption;
        TRY(add_caption(text, s.caption, s.caption_size));
        fprintf(keys, "%s\n", s.key);
        ++*rows;
    }
    if (status != TIC_END)
        return status;
    return k->strict && k->first ? tic_fail(TIC_USER, "%s", k->first) : TIC_OK;
}

static TicStatus embed_shards(TicEncoder *e, const TicProgram *p, const TicEmbedOptions *o, const char *const *path, int n, FILE *log)
{
    Rows image, text;
    Skipped k;
    TicSamples *samples;
    TicLoaderStats stats = { 0 };
    char *of_images = tic_format("%s.images.npy", o->out), *of_texts = tic_format("%s.texts.npy", o->out), *of_keys = tic_format("%s.keys.txt", o->out);
    char *keys_text = NULL;
    size_t keys_size = 0;
    int64_t rows = 0, silent = 0, unused = 0;
    FILE *keys = open_memstream(&keys_text, &keys_size);
    rows_open(&image, e, o->batch, false);
    rows_open(&text, e, o->batch, true);
    skipped_open(&k, o);
    TicStatus status = tic_npy_open(&image.file, of_images, tic_encoder_width(e));
    if (!status)
        status = tic_npy_open(&text.file, of_texts, tic_encoder_width(e));
    if (!status && !(status = open_samples(p, path, n, &k, &samples))) {
        status = add_samples(&image, &text, &k, samples, keys, &rows, &silent);
        tic_samples_stats(samples, &stats);
        tic_samples_close(samples);
    }
    fclose(keys);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        unused += k.count[i] = stats.skipped[i];
    if (!status)
        status = rows_end(&image);
    if (!status)
        status = rows_end(&text);
    if (!status)
        status = skipped_write(&k, rows, rows + unused);
    if (!status)
        status = tic_write_file(of_keys, keys_text, keys_size);
    status = rows_close(&image, status);
    status = rows_close(&text, status);
    if (!status) {
        fprintf(log, "%s, %s: features of %lld samples, their keys in %s\n", of_images, of_texts, (long long)rows, of_keys);
        if (silent)
            fprintf(log, "%lld without a caption: rows of NaN in %s\n", (long long)silent, of_texts);
        skipped_say(&k, log);
    }
    skipped_close(&k);
    free(keys_text);
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
    if (!!n + !!o->captions + !!o->files != 1)
        return tic_fail(TIC_USER, "found %s, wanted images, or shards, or --files FILE, or --captions FILE",
                        n || o->captions || o->files ? "more than one of them" : "nothing to embed");
    if (shards && shards < n)
        return tic_fail(TIC_USER, "found images and shards, wanted either");
    TicEncoder *e;
    TicEncoderOptions eo = { .ckpt = o->ckpt, .vocab = o->vocab, .threads = (int)o->threads, .batch = o->batch };
    TRY(tic_encoder_open(p, kernels, &eo, &e));
    if ((o->captions || shards) && tic_encoder_is_fallback(e))
        fprintf(stderr, "no vocabulary found (--vocab, or `make vocab`): captions are spelled byte by byte, which no published checkpoint expects\n");
    TicStatus status = o->captions ? embed_captions(e, o, log) : o->files ? embed_files(e, o, log) :
                       shards ? embed_shards(e, p, o, word, n, log) : embed_images(e, o, word, n, log);
    tic_encoder_close(e);
    return status;
}
