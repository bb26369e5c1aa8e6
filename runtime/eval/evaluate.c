/* evaluate.c -- see evaluate.h. Images and texts pass through the two towers in batches of one size (the last one padded
 * with copies of its first row), and only the features stay. */
#include "eval/evaluate.h"
#include "data/loader.h"
#include "device/exec.h"
#include "eval/recall.h"
#include "eval/results.h"
#include "train/files.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    const TicProgram *program;
    TicModel *model;
    TicPool *pool;
    TicExec *image, *text;
    TicBpe *bpe;
    int64_t batch, width;
    char *results;               /* eval_results.jsonl's path */
    char digest[20];             /* of the checkpoint's bytes */
} Eval;

/* Features of one set: a row an image, a row a line of its caption. */
typedef struct {
    float *image, *text;
    int64_t *image_of;
    int64_t images, texts, image_room, text_room, skipped;
} Features;

static void *grown(void *p, int64_t rows, int64_t *room, size_t row_bytes)
{
    if (rows <= *room)
        return p;
    *room = rows * 2;
    return tic_realloc(p, (size_t)*room * row_bytes);
}

/* Runs the tower on `n` filled rows and appends its features. */
static void flush(TicExec *x, const char *output, int64_t n, int64_t width, float *into)
{
    tic_exec_run(x);
    memcpy(into, tic_exec_output(x, output, NULL), (size_t)(n * width) * sizeof *into);
}

static TicStatus encode(Eval *e, const TicShardList *shards, Features *f)
{
    const TicProgram *p = e->program;
    TicSamplesConfig c = { .shards = *shards, .image_size = p->image_size };
    for (int k = 0; k < 3; k++) {
        c.mean[k] = (float)p->mean[k];
        c.std[k] = (float)p->std[k];
    }
    TicSamples *samples;
    TRY(tic_samples_open(&c, &samples));
    float *pixels = tic_exec_input(e->image, "pixels");
    int32_t *tokens = tic_exec_input(e->text, "tokens");
    int64_t plane = 3ll * p->image_size * p->image_size, in_image = 0, in_text = 0, image_rows = 0, text_rows = 0, of_room = 0;
    TicSample s;
    TicStatus status;
    while (!(status = tic_samples_next(samples, &s))) {
        memcpy(pixels + in_image * plane, s.pixels, (size_t)plane * sizeof *pixels);
        for (const char *line = s.caption, *end = s.caption + s.caption_size; s.has_caption && line < end;) {
            const char *stop = line;     /* lines as Python's splitlines sees them: \n, \r, \r\n */
            while (stop < end && *stop != '\n' && *stop != '\r')
                stop++;
            tic_bpe_encode(e->bpe, line, (size_t)(stop - line), p->context, tokens + in_text * p->context);
            f->image_of = grown(f->image_of, f->texts + 1, &of_room, sizeof *f->image_of);
            f->image_of[f->texts++] = f->images;
            if (++in_text == e->batch) {
                f->text = grown(f->text, text_rows + in_text, &f->text_room, (size_t)e->width * sizeof *f->text);
                flush(e->text, "text_features", in_text, e->width, f->text + text_rows * e->width);
                text_rows += in_text;
                in_text = 0;
            }
            line = stop < end && *stop == '\r' && stop + 1 < end && stop[1] == '\n' ? stop + 2 : stop + 1;
        }
        f->images++;
        if (++in_image == e->batch) {
            f->image = grown(f->image, image_rows + in_image, &f->image_room, (size_t)e->width * sizeof *f->image);
            flush(e->image, "image_features", in_image, e->width, f->image + image_rows * e->width);
            image_rows += in_image;
            in_image = 0;
        }
    }
    if (status == TIC_END) {
        status = TIC_OK;
        f->image = grown(f->image, image_rows + in_image + 1, &f->image_room, (size_t)e->width * sizeof *f->image);
        f->text = grown(f->text, text_rows + in_text + 1, &f->text_room, (size_t)e->width * sizeof *f->text);
        for (int64_t i = in_image; in_image && i < e->batch; i++)
            memcpy(pixels + i * plane, pixels, (size_t)plane * sizeof *pixels);
        for (int64_t i = in_text; in_text && i < e->batch; i++)
            memcpy(tokens + i * p->context, tokens, (size_t)p->context * sizeof *tokens);
        if (in_image)
            flush(e->image, "image_features", in_image, e->width, f->image + image_rows * e->width);
        if (in_text)
            flush(e->text, "text_features", in_text, e->width, f->text + text_rows * e->width);
    }
    TicLoaderStats stats;
    tic_samples_stats(samples, &stats);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        f->skipped += stats.skipped[i];
    tic_samples_close(samples);
    return status;
}

static TicStatus evaluate_year(Eval *e, const char *data, int year, TicRecall *sum, int *sets)
{
    TicShardList shards = { 0 };
    if (tic_shards_for_eval(&shards, data, "retrieval", year, NULL)) {
        tic_error_clear();       /* a year without a held-out set is left out */
        return TIC_OK;
    }
    Features f = { 0 };
    TicStatus status = encode(e, &shards, &f);
    tic_shards_clear(&shards);
    if (!status && f.images && f.texts) {
        TicRecall r = tic_recall(f.image, f.images, f.text, f.texts, f.image_of, e->width);
        double chance = 1.0 / (double)r.images;
        printf("%d  %6lld %6lld   %6.3f %6.3f %6.3f   %6.3f %6.3f %6.3f   recall@1 = %.3f, %.1f times chance%s\n", year, (long long)r.images,
               (long long)r.texts, r.image_recall[0], r.image_recall[1], r.image_recall[2], r.text_recall[0], r.text_recall[1],
               r.text_recall[2], r.mean_recall_1, r.mean_recall_1 / chance, f.skipped ? " (samples skipped)" : "");
        char *line = tic_format("{\"key\": \"tic/datacomp/retrieval/yearly/%d\", \"dataset\": \"TiC/DataComp/Retrieval/%d\", \"metrics\": {"
                "\"image_retrieval_recall@1\": %.9g, \"text_retrieval_recall@1\": %.9g, \"image_retrieval_recall@5\": %.9g, "
                "\"text_retrieval_recall@5\": %.9g, \"image_retrieval_recall@10\": %.9g, \"text_retrieval_recall@10\": %.9g, "
                "\"mean_recall@1\": %.9g, \"main_metric\": %.9g}, \"checkpoint\": \"%s\"}",
                year, year, r.image_recall[0], r.text_recall[0], r.image_recall[1], r.text_recall[1], r.image_recall[2], r.text_recall[2],
                r.mean_recall_1, r.mean_recall_1, e->digest);
        status = tic_results_put(e->results, line);
        free(line);
        sum->images += r.images;
        sum->mean_recall_1 += r.mean_recall_1;
        sum->image_recall[0] += r.mean_recall_1 / chance;
        ++*sets;
    }
    free(f.image);
    free(f.text);
    free(f.image_of);
    return status;
}

/* OUT/eval_results.jsonl; without --out beside the folder of the checkpoint: .../NAME/checkpoints/epoch_N.pt. */
static TicStatus place_results(const TicEvalOptions *o, char **path)
{
    char *folder = o->out ? tic_strdup(o->out) : tic_format("%s%s", o->ckpt[0] == '/' ? "" : "./", o->ckpt);
    if (!o->out) {
        char *slash = strrchr(folder, '/');
        *slash = 0;
        char *up = strrchr(folder, '/');
        if (up && !strcmp(up + 1, "checkpoints"))
            *up = 0;
    }
    TicStatus status = tic_make_dirs(folder);
    *path = tic_format("%s/eval_results.jsonl", folder);
    if (!status)
        printf("results: %s\n", *path);
    free(folder);
    return status;
}

TicStatus tic_evaluate(const TicProgram *p, const TicKernel *kernels, const TicEvalOptions *o)
{
    if (!o->ckpt)
        return tic_fail(TIC_USER, "--ckpt: no checkpoint given");
    if (!o->data)
        return tic_fail(TIC_USER, "--data: no pool given");
    if (!tic_program_entry(p, "image") || !tic_program_entry(p, "text"))
        return tic_fail(TIC_USER, "retrieval needs encode_image and encode_text: the model has not both");
    Eval e = { .program = p, .batch = o->batch };
    TicStatus status = tic_model_new(p, kernels, &e.model);
    if (!status)
        status = tic_load_weights(e.model, o->ckpt);
    uint64_t digest = 0;
    if (!status)
        status = tic_hash_file(o->ckpt, &digest);
    snprintf(e.digest, sizeof e.digest, "%016" PRIx64, digest);
    if (!status)
        status = tic_bpe_open(o->vocab, &e.bpe);
    e.pool = tic_pool_new((int)o->threads);
    if (!status)
        status = tic_exec_open(e.model, e.pool, "image", o->batch, &e.image);
    if (!status)
        status = tic_exec_open(e.model, e.pool, "text", o->batch, &e.text);
    if (!status)
        status = place_results(o, &e.results);
    if (!status) {
        int64_t values;
        TicRecall sum = { 0 };
        int sets = 0;
        tic_exec_output(e.image, "image_features", &values);
        e.width = values / o->batch;
        if (tic_bpe_is_fallback(e.bpe))
            printf("no vocabulary given (--vocab): captions are spelled byte by byte\n");
        printf("year  images  texts   text->image R@1 5 10     image->text R@1 5 10\n");
        for (int year = 1990; !status && year <= 2100; year++)
            status = evaluate_year(&e, o->data, year, &sum, &sets);
        if (!status && !sets)
            status = tic_fail(TIC_USER, "%s: no held-out sets: looked for eval/retrieval/YEAR below it", o->data);
        else if (!status)
            printf("mean over %d years: recall@1 = %.3f, %.1f times chance\n", sets, sum.mean_recall_1 / sets, sum.image_recall[0] / sets);
    }
    free(e.results);
    tic_exec_close(e.image);
    tic_exec_close(e.text);
    tic_pool_free(e.pool);
    tic_bpe_close(e.bpe);
    tic_model_free(e.model);
    return status;
}
