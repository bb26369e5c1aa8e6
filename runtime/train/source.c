/* source.c -- see source.h. */
#include "train/source.h"
#include "device/machine.h"
#include "train/files.h"
#include "train/schedule.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PASSES = 2 };             /* a step in pieces wants them twice: for features, and for gradients */

struct TicSource {
    TicLoader *loader;
    TicBpe *bpe;
    TicShare *share;
    TicShardList *shards;        /* of each share; none where the share is 0 */
    int n;
    int64_t pairs;
    uint64_t digest;
    int64_t batch, pieces;       /* batch: pairs that are asked for at a time */
};

static void warn(void *context, const char *text)
{
    fprintf(stderr, "warning: %s\n", text);
}

/* `pattern` with its {data} and {year} filled in, as far as a part that says "and everything below". Caller frees. */
static char *fill_pattern(const char *pattern, const char *data, int year)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (const char *p = pattern; *p && strcmp(p, "/**/*.tar") && strcmp(p, "/*.tar");) {
        bool is_data = !strncmp(p, "{data}", 6), is_year = !strncmp(p, "{year}", 6);
        if (is_data)
            fputs(data, f);
        else if (is_year)
            fprintf(f, "%d", year);
        else
            fputc(*p, f);
        p += is_data || is_year ? 6 : 1;
    }
    fclose(f);
    return text;
}

/* The data block's own pattern; the usual one also finds the other layouts that pools have. */
static TicStatus list_years(const TicProgram *p, const TicSourceOptions *o, int lo, int hi, TicShardList *list)
{
    const char *pattern = tic_text(p, p->data_shards);
    int n = hi - lo + 1, *years = tic_alloc((size_t)n * sizeof *years);
    TicStatus status = TIC_OK;
    for (int k = 0; k < n; k++)
        years[k] = lo + k;
    if (!*pattern || !strcmp(pattern, "{data}/train/{year}/**/*.tar"))
        status = tic_shards_for_years(list, o->data, years, n);
    else
        for (int k = 0; k < n && !status; k++) {
            char *spec = fill_pattern(pattern, o->data, years[k]);
            status = tic_shards_add(list, spec);
            free(spec);
        }
    free(years);
    return status;
}

/* The shards of a range of years and how many samples they hold. */
static TicStatus count_years(const TicProgram *p, const TicSourceOptions *o, int lo, int hi, TicShardList *list, int64_t *available)
{
    TRY(list_years(p, o, lo, hi, list));
    TicIndex *index;
    TRY(tic_index_open(list, o->loaders > 0 ? o->loaders : 2, (TicWarn){ 0 }, &index));
    *available = tic_index_total(index);
    tic_index_close(index);
    return TIC_OK;
}

/* Data of earlier steps may be gone as long as the strategy does not draw from it. */
static TicStatus choose(TicSource *s, TicModel *m, TicPool *pool, const TicSourceOptions *o)
{
    const TicProgram *p = m->program;
    int t = tic_step_of_year(p, o->year);
    if (p->n_steps && t < 0)
        return tic_fail(TIC_USER, "--start: no time step of the schedule holds %d; it runs from %d to %d", o->year,
                        tic_year_step(p, 0)->lo, tic_year_step(p, (int)p->n_steps - 1)->hi);
    s->n = t < 0 ? 1 : t + 1;
    s->share = tic_alloc((size_t)s->n * sizeof *s->share);
    s->shards = tic_alloc((size_t)s->n * sizeof *s->shards);
    memset(s->share, 0, (size_t)s->n * sizeof *s->share);
    memset(s->shards, 0, (size_t)s->n * sizeof *s->shards);
    if (t < 0) {                 /* no continual block: the year itself */
        s->share[0] = (TicShare){ "the data", 0, 1 };
        s->pairs = p->samples;
        return count_years(p, o, o->year, o->year, &s->shards[0], &s->share[0].available);
    }
    int64_t *available = tic_alloc((size_t)s->n * sizeof *available), *weighed = tic_alloc((size_t)s->n * sizeof *weighed);
    double *share = tic_alloc((size_t)s->n * sizeof *share);
    TicStatus status = TIC_OK;
    for (int y = 0; y < s->n && !status; y++) {
        const TicYearStep *step = tic_year_step(p, y);
        available[y] = 0;
        s->share[y].name = tic_text(p, step->name);
        status = count_years(p, o, step->lo, step->hi, &s->shards[y], &available[y]);
        weighed[y] = p->by_shard ? s->shards[y].count : available[y];        /* what samples(y) is */
        if (status == TIC_USER && y < t) {
            status = TIC_OK;
            tic_error_clear();
        }
    }
    if (!status)
        status = tic_schedule(m, pool, t, weighed, share, &s->pairs);
    for (int y = 0; y < s->n && !status; y++) {
        s->share[y].available = available[y];
        s->share[y].share = share[y];
    }
    free(available);
    free(weighed);
    free(share);
    return status;
}

/* Names without their folders and sizes: the same pool moved elsewhere is the same data. */
static uint64_t digest_of(const TicShardList *list, uint64_t h)
{
    for (int i = 0; i < list->count; i++) {
        struct stat st;
        const char *slash = strrchr(list->shard[i].path, '/'), *name = slash ? slash + 1 : list->shard[i].path;
        int64_t size = stat(list->shard[i].path, &st) ? -1 : st.st_size;
        h = tic_hash(name, strlen(name), h);
        h = tic_hash(&size, sizeof size, h);
        if (list->shard[i].pick)
            h = tic_hash(list->shard[i].pick, (size_t)list->shard[i].samples * sizeof(int32_t), h);
    }
    return h;
}

/* Weights that are proportional to the sizes are one set: then every sample may come once in each pass. */
static bool proportional(const TicSource *s)
{
    double total = 0;
    for (int i = 0; i < s->n; i++)
        total += s->share[i].share > 0 ? (double)s->share[i].available : 0;
    for (int i = 0; i < s->n; i++) {
        double even = s->share[i].share > 0 ? (double)s->share[i].available / total : 0;
        if (s->share[i].share > even * 1.000001 || s->share[i].share < even * 0.999999)
            return false;
    }
    return true;
}

static TicStatus open_loader(TicSource *s, const TicProgram *p, const TicSourceOptions *o, int t)
{
    int most = s->n;
    for (int i = 0; i < s->n && p->by_shard; i++)
        most += s->shards[i].count;
    if (most > TIC_MAX_SOURCES + s->n)
        return tic_fail(TIC_USER, "`sampling = by_shard` draws from at most %d shards, and here are %d; with_replacement has no such limit",
                        TIC_MAX_SOURCES, most - s->n);
    TicLoaderSource *source = tic_alloc((size_t)most * sizeof *source);
    TicLoaderConfig c;
    int n = 0;
    for (int i = 0; i < s->n; i++) {
        if (s->share[i].share > 0 && p->by_shard)
            for (int k = 0; k < s->shards[i].count; k++)     /* a list of one, inside that of the year */
                source[n++] = (TicLoaderSource){ .shards = { .shard = &s->shards[i].shard[k], .count = 1 }, .name = s->share[i].name,
                                                 .weight = s->share[i].share / s->shards[i].count };
        else if (s->share[i].share > 0)
            source[n++] = (TicLoaderSource){ .shards = s->shards[i], .weight = p->with_replacement ? s->share[i].share : 1,
                                             .name = s->share[i].name };
    }
    tic_loader_defaults(&c);
    c.sources = source;
    c.n_sources = n;
    c.bpe = s->bpe;
    c.batch = (int)s->batch;
    c.pieces = (int)s->pieces;
    c.passes = s->pieces > 1 ? PASSES : 1;
    c.image_size = p->image_size;
    c.context = p->context;
    for (int k = 0; k < 3; k++) {
        c.mean[k] = (float)p->mean[k];
        c.std[k] = (float)p->std[k];
    }
    c.augment = p->augment;
    c.scaled_decode = p->scaled_decode;
    c.crop = (TicCrop){ p->scale_lo, p->scale_hi, p->ratio_lo, p->ratio_hi };
    c.with_replacement = p->with_replacement;
    c.seed = t > 0 ? o->seed ^ tic_hash(&t, sizeof t, 0) : o->seed;
    int cores = tic_processors(0);
    c.threads = o->loaders ? o->loaders : cores > 3 ? cores / 2 : 1;
    c.warn.line = warn;
    TicStatus status = TIC_OK;
    if (!p->with_replacement && !proportional(s))
        status = tic_fail(TIC_USER, "strategy `%s` weighs its years unevenly, which needs `sampling = with_replacement`",
                          tic_text(p, p->strategy));
    if (!status)
        status = tic_loader_open(&c, &s->loader);
    free(source);
    return status;
}

TicStatus tic_source_open(TicModel *m, TicPool *pool, const TicSourceOptions *o, TicSource **out)
{
    const TicProgram *p = m->program;
    TicSource *s = tic_alloc(sizeof *s);
    *out = NULL;
    *s = (TicSource){ .batch = o->micro ? o->micro : o->batch, .pieces = o->micro ? o->batch / o->micro : 1 };
    TicStatus status = choose(s, m, pool, o);
    if (!status)
        status = tic_bpe_open(o->vocab, &s->bpe);
    for (int i = 0; i < s->n && !status; i++) {
        if (s->share[i].share > 0)
            s->digest = digest_of(&s->shards[i], s->digest);
    }
    if (!status)
        status = open_loader(s, p, o, tic_step_of_year(p, o->year));
    if (status)
        tic_source_close(s);
    else
        *out = s;
    return status;
}

TicStatus tic_source_plan(TicModel *m, TicPool *pool, const TicSourceOptions *o, TicShare **share, int *n, int64_t *pairs)
{
    TicSource *s = tic_alloc(sizeof *s);
    TicStatus status = choose(s, m, pool, o);
    *n = s->n;
    *pairs = s->pairs;
    *share = s->share;
    s->share = NULL;
    if (status) {
        free(*share);
        *share = NULL;
        *n = 0;
    }
    tic_source_close(s);
    return status;
}

void tic_source_skipped(const TicSource *s, int64_t skipped[TIC_SKIP_REASONS])
{
    TicLoaderStats stats;
    tic_loader_stats(s->loader, &stats);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        skipped[i] += stats.skipped[i];
}

int64_t tic_source_damaged(const TicSource *s)
{
    TicLoaderStats stats;
    tic_loader_stats(s->loader, &stats);
    return stats.damaged_shards;
}

int64_t tic_source_pairs(const TicSource *s) { return s->pairs; }

TicStatus tic_source_piece(TicSource *s, int64_t step, int pass, int64_t piece, TicBatch to)
{
    return tic_loader_batch(s->loader, s->pieces > 1 ? (step * PASSES + pass) * s->pieces + piece : step, to);
}

uint64_t tic_source_digest(const TicSource *s) { return s->digest; }

static void share_text(char *out, size_t size, bool more, const TicShare *s)
{
    if (s->share < 1)
        snprintf(out, size, "%s%.3g %% from %s", more ? ", " : "", 100 * s->share, s->name);
    else
        snprintf(out, size, "%s", s->name);
}

void tic_source_describe(const TicSource *s, TicReport *r)
{
    char text[1024] = "";
    int64_t shards = 0;
    for (int i = 0; i < s->n; i++) {
        size_t n = strlen(text);
        shards += s->share[i].share > 0 ? s->shards[i].count : 0;
        if (s->share[i].share > 0)
            share_text(text + n, sizeof text - n, n > 0, &s->share[i]);
    }
    long long samples = (long long)tic_loader_samples(s->loader, -1);
    tic_report_say(r, "data: %s; %lld samples in %lld shards", text, samples, (long long)shards);
    if (samples < s->batch * s->pieces)
        tic_report_say(r, "%lld samples are fewer than a batch of %lld: pairs come more than once in each batch", samples,
                       (long long)(s->batch * s->pieces));
    for (int i = 0; i < s->n; i++) {
        const TicShardList *l = &s->shards[i];
        if (s->share[i].share > 0 && l->compressed)
            tic_report_say(r, "warning: %s: %lld compressed tar%s left out; only plain ones (.tar) are read", s->share[i].name, (long long)l->compressed,
                           l->compressed == 1 ? "" : "s");
        if (s->share[i].share > 0 && l->listed)
            tic_report_say(r, "%s: a view of %lld uids; %lld not in the pool, %lld listed again", s->share[i].name, (long long)l->listed,
                           (long long)l->unknown, (long long)l->repeated);
    }
    if (tic_bpe_is_fallback(s->bpe))
        tic_report_say(r, "no vocabulary found (--vocab, or `make vocab`): captions are spelled byte by byte, which no published checkpoint expects");
}

void tic_source_close(TicSource *s)
{
    if (!s)
        return;
    tic_loader_close(s->loader);
    tic_bpe_close(s->bpe);
    for (int i = 0; i < s->n && s->shards; i++)
        tic_shards_clear(&s->shards[i]);
    free(s->shards);
    free(s->share);
    free(s);
}
