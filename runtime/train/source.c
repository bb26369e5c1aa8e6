/* source.c -- see source.h. */
#include "train/source.h"
#include "data/loader.h"
#include "device/exec.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

struct TicSource {
    TicLoader *loader;
    TicBpe *bpe;
    TicShardList shards;
    uint64_t digest;
    int64_t batch, image_size, context;
    char *years;
    float *spare_pixels;         /* for a program that reads no pixels, or no tokens */
    int32_t *spare_tokens;
};

static void warn(void *context, const char *text)
{
    fprintf(stderr, "warning: %s\n", text);
}

/* The years of the time step that holds `year`, and those before it where the strategy replays them. */
static TicStatus choose_years(const TicProgram *p, int year, int **years, int *n, char **text)
{
    const TicYearStep *step = TABLE(p, TicYearStep, p->steps);
    const char *strategy = tic_text(p, p->strategy);
    int at = -1;
    for (uint32_t i = 0; i < p->n_steps; i++)
        if (step[i].lo <= year && year <= step[i].hi)
            at = (int)i;
    if (!p->n_steps) {           /* no continual block: the year itself */
        *years = tic_alloc(sizeof **years);
        **years = year;
        *n = 1;
        *text = tic_format("%d", year);
        return TIC_OK;
    }
    if (at < 0)
        return tic_fail(TIC_USER, "--start: no time step of the schedule holds %d; it runs from %d to %d", year, step[0].lo,
                        step[p->n_steps - 1].hi);
    bool replays = !strcmp(strategy, "cumulative_all") || !strcmp(strategy, "restart") || !strcmp(strategy, "oracle");
    if (at > 0 && !replays && strcmp(strategy, "sequential"))
        return tic_fail(TIC_USER, "--start: `train` runs the first time step of strategy `%s`; found step %d of %u", strategy, at + 1,
                        p->n_steps);
    int from = replays ? 0 : at, count = 0, k = 0;
    for (int i = from; i <= at; i++)
        count += step[i].hi - step[i].lo + 1;
    *years = tic_alloc((size_t)count * sizeof **years);
    for (int i = from; i <= at; i++)
        for (int y = step[i].lo; y <= step[i].hi; y++)
            (*years)[k++] = y;
    *n = count;
    *text = count == 1 ? tic_format("%d", year) : tic_format("%d to %d", step[from].lo, step[at].hi);
    return TIC_OK;
}

/* Names without their folders and sizes: the same pool moved elsewhere is the same data. */
static uint64_t digest_of(const TicShardList *list)
{
    uint64_t h = 0;
    for (int i = 0; i < list->count; i++) {
        struct stat st;
        const char *slash = strrchr(list->shard[i].path, '/'), *name = slash ? slash + 1 : list->shard[i].path;
        int64_t size = stat(list->shard[i].path, &st) ? -1 : st.st_size;
        h = tic_hash(name, strlen(name), h);
        h = tic_hash(&size, sizeof size, h);
    }
    return h;
}

TicStatus tic_source_open(const TicProgram *p, const TicSourceOptions *o, TicSource **out)
{
    TicSource *s = tic_alloc(sizeof *s);
    int *years = NULL, n = 0;
    *out = NULL;
    *s = (TicSource){ .batch = o->batch, .image_size = p->image_size, .context = p->context };
    TicStatus status = choose_years(p, o->year, &years, &n, &s->years);
    if (!status)
        status = tic_shards_for_years(&s->shards, o->data, years, n);
    if (!status)
        status = tic_bpe_open(o->vocab, &s->bpe);
    free(years);
    if (!status) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        TicLoaderSource source = { .shards = s->shards, .weight = 1, .name = s->years };
        TicLoaderConfig c;
        tic_loader_defaults(&c);
        c.sources = &source;
        c.n_sources = 1;
        c.bpe = s->bpe;
        c.batch = o->batch;
        c.image_size = p->image_size;
        c.context = p->context;
        for (int k = 0; k < 3; k++) {
            c.mean[k] = (float)p->mean[k];
            c.std[k] = (float)p->std[k];
        }
        c.augment = p->augment;
        c.crop = (TicCrop){ p->scale_lo, p->scale_hi, p->ratio_lo, p->ratio_hi };
        c.with_replacement = p->with_replacement;
        c.seed = o->seed;
        c.threads = o->loaders ? o->loaders : cores > 3 ? (int)(cores / 2) : 1;
        c.warn.line = warn;
        s->digest = digest_of(&s->shards);
        status = tic_loader_open(&c, &s->loader);
    }
    if (status)
        tic_source_close(s);
    else
        *out = s;
    return status;
}

TicStatus tic_source_batch(TicSource *s, int64_t step, float *pixels, int32_t *tokens)
{
    if (!pixels) {
        if (!s->spare_pixels)
            s->spare_pixels = tic_alloc((size_t)(s->batch * 3 * s->image_size * s->image_size) * sizeof *pixels);
        pixels = s->spare_pixels;
    }
    if (!tokens) {
        if (!s->spare_tokens)
            s->spare_tokens = tic_alloc((size_t)(s->batch * s->context) * sizeof *tokens);
        tokens = s->spare_tokens;
    }
    return tic_loader_batch(s->loader, step, pixels, tokens);
}

uint64_t tic_source_digest(const TicSource *s) { return s->digest; }

void tic_source_describe(const TicSource *s, TicReport *r)
{
    tic_report_say(r, "data: %s, %lld samples in %d shards", s->years, (long long)tic_loader_samples(s->loader, -1), s->shards.count);
    if (tic_bpe_is_fallback(s->bpe))
        tic_report_say(r, "no vocabulary given (--vocab): captions are spelled byte by byte, which no published checkpoint expects");
}

void tic_source_summary(TicSource *s, TicReport *r)
{
    TicLoaderStats stats;
    if (!s)
        return;
    tic_loader_stats(s->loader, &stats);
    int64_t skipped = 0;
    char text[512] = "";
    for (int i = 0; i < TIC_SKIP_REASONS; i++) {
        if (stats.skipped[i])
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s%lld %s", skipped ? ", " : "", (long long)stats.skipped[i],
                     tic_skip_name((TicSkip)i));
        skipped += stats.skipped[i];
    }
    if (skipped || stats.damaged_shards)
        tic_report_say(r, "skipped and replaced %lld of %lld samples drawn: %s; damaged shards: %lld", (long long)skipped,
                       (long long)(skipped + stats.delivered), skipped ? text : "none", (long long)stats.damaged_shards);
}

void tic_source_close(TicSource *s)
{
    if (!s)
        return;
    tic_loader_close(s->loader);
    tic_bpe_close(s->bpe);
    tic_shards_clear(&s->shards);
    free(s->years);
    free(s->spare_pixels);
    free(s->spare_tokens);
    free(s);
}
