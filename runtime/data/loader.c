/* loader.c -- training batches, prefetched. See loader.h for what decides which sample goes where.
 *
 * The steps from `base` to base + ring - 1 each have a buffer (step s in buffer s modulo ring). Workers take one slot at
 * a time from the earliest step that has one left. The caller waits for its step, copies it out and gives the buffer to
 * the step after the last one: in the ordinary run nobody waits for anybody else. A jump to another step waits until no
 * slot is in work and then re-targets the buffers. */
#define _GNU_SOURCE
#include "data/loader.h"
#include "data/sample.h"
#include "device/machine.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Streams of one seed: what a number is drawn for. */
static const uint64_t DRAW = 0x6472617773616d70u, CROP = 0x63726f7020626f78u, SHARE = 0x7368617265206f66u, PASS = 0x70617373206f7264u;

enum { PREFETCH = 2 };

typedef struct {
    int64_t step;
    int next, done;                /* slots given to workers, slots finished */
    uint8_t *planes;               /* [batch, 3, size, size] */
    int32_t *tokens;               /* [batch, context] */
    TicStatus status;              /* of the lowest slot that failed */
    int failed_slot;
    char *error;
    int64_t skipped[TIC_SKIP_REASONS];
} Buffer;

typedef struct { struct TicLoader *loader; pthread_t thread; bool started; } Worker;

struct TicLoader {
    TicLoaderConfig config;
    TicIndex **index;              /* of each source */
    double *share;                 /* cumulative, the last is 1 */
    float table[3][256];           /* tic_normalise_table */
    int64_t samples;
    Buffer *buffer;
    int ring, threads, active;
    int64_t base;
    Worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    bool paused, quit;
    TicLoaderStats stats;
};

const char *tic_skip_name(TicSkip reason)
{
    static const char *const name[TIC_SKIP_REASONS] = {
        [TIC_SKIP_NO_IMAGE] = "no image", [TIC_SKIP_NO_CAPTION] = "no caption", [TIC_SKIP_BAD_IMAGE] = "broken image",
        [TIC_SKIP_BAD_JSON] = "broken json", [TIC_SKIP_TOO_LARGE] = "too large", [TIC_SKIP_MISSING] = "missing",
    };
    if (reason >= TIC_SKIP_FOREIGN)
        return tic_foreign_name((TicForeign)(reason - TIC_SKIP_FOREIGN));
    return (unsigned)reason < TIC_SKIP_REASONS ? name[reason] : "";
}

void tic_loader_defaults(TicLoaderConfig *c)
{
    *c = (TicLoaderConfig){
        .image_size = 224, .context = TIC_CONTEXT, .mean = { 0.48145466f, 0.4578275f, 0.40821073f },
        .std = { 0.26862954f, 0.26130258f, 0.27577711f }, .augment = true, .crop = { 0.9, 1, 3.0 / 4, 4.0 / 3 },
        .with_replacement = true,
    };
}

/* ---- which sample */

/* Place i of a seeded permutation of 0 .. n-1: four Feistel rounds on the next even power of two, walked until inside. */
static int64_t permuted(uint64_t key, uint64_t tweak, int64_t n, int64_t i)
{
    int half = 1;
    while (half < 31 && (INT64_C(1) << (2 * half)) < n)
        half++;
    uint64_t mask = (UINT64_C(1) << half) - 1, x = (uint64_t)i;
    do {
        uint64_t left = x >> half, right = x & mask;
        for (int round = 0; round < 4; round++) {
            uint64_t mixed = tic_philox(key, right << 2 | (unsigned)round, tweak).v[0] & mask;
            uint64_t old = left;
            left = right;
            right = (old ^ mixed) & mask;
        }
        x = left << half | right;
    } while ((int64_t)x >= n);
    return (int64_t)x;
}

/* The source of a slot: systematic sampling, so that shares are met in every single batch. */
static int source_of(const TicLoader *l, int64_t step, int64_t slot)
{
    const TicLoaderConfig *c = &l->config;
    if (c->n_sources == 1)
        return 0;
    uint64_t key = c->seed ^ SHARE;
    TicRandom4 r = tic_philox(key, (uint64_t)step, UINT64_MAX);
    double at = ((double)permuted(key, (uint64_t)step, c->global_batch, slot) + tic_uniform01(r.v[0], r.v[1])) / c->global_batch;
    int k = 0;
    while (k + 1 < c->n_sources && at >= l->share[k])
        k++;
    return k;
}

static void choose(const TicLoader *l, int64_t step, int64_t slot, int attempt, int *source, int64_t *at)
{
    const TicLoaderConfig *c = &l->config;
    TicRandom r = tic_random(c->seed ^ DRAW, (uint64_t)step, (uint64_t)slot << 10 | (unsigned)attempt);
    if (c->with_replacement) {
        *source = source_of(l, step, slot);
        *at = tic_random_below(&r, tic_index_total(l->index[*source]));
        return;
    }
    int64_t position = step * c->global_batch + slot, flat;
    flat = attempt ? tic_random_below(&r, l->samples)
                   : permuted(c->seed ^ PASS, (uint64_t)(position / l->samples), l->samples, position % l->samples);
    *source = 0;
    while (flat >= tic_index_total(l->index[*source]))
        flat -= tic_index_total(l->index[(*source)++]);
    *at = flat;
}

/* ---- one slot */

static TicStatus fill_slot(TicLoader *l, TicDecoder *d, int64_t unit, int slot, uint8_t *planes, int32_t *tokens, int64_t *skipped)
{
    const TicLoaderConfig *c = &l->config;
    int64_t step = unit / c->pieces / c->passes, global = c->first_slot + unit % c->pieces * c->batch + slot;
    char last[512] = "";
    for (int attempt = 0; attempt < TIC_MAX_ATTEMPTS; attempt++) {
        int source, shard;
        int64_t at, sample;
        TicSampleRef ref;
        TicSkip reason;
        const char *text;
        size_t size;
        choose(l, step, global, attempt, &source, &at);
        tic_index_locate(l->index[source], at, &shard, &sample);
        TicRandom crop = tic_random(c->seed ^ CROP, (uint64_t)step, (uint64_t)global << 10 | (unsigned)attempt);
        TicStatus status = tic_decoder_read(d, l->index[source], shard, sample, c->augment ? &c->crop : NULL, crop, &ref, planes, &reason);
        if (status && status != TIC_BAD_SAMPLE)
            return status;
        if (!status && tic_decoder_caption(d, &text, &size, &reason)) {
            tic_bpe_encode(c->bpe, text, size, c->context, tokens);
            return TIC_OK;
        }
        skipped[reason]++;
        if (status)
            snprintf(last, sizeof last, "%s", tic_error());
        else
            snprintf(last, sizeof last, "%s: %s: %s", tic_index_path(l->index[source], shard),
                     tic_index_key(l->index[source], shard, &ref), tic_skip_name(reason));
        tic_error_clear();
    }
    return tic_fail(TIC_USER, "no usable sample in %d draws for one place of a batch; the last was %s", TIC_MAX_ATTEMPTS, last);
}

/* The earliest step with a slot to give, or NULL. */
static Buffer *next_work(TicLoader *l)
{
    for (int k = 0; k < l->ring && !l->paused; k++) {
        int64_t step = l->base + k;
        Buffer *b = &l->buffer[step % l->ring];
        if (l->config.steps && step >= l->config.steps && k)
            break;
        if (b->step == step && b->next < l->config.batch)
            return b;
    }
    return NULL;
}

static void *worker_main(void *arg)
{
    TicLoader *l = ((Worker *)arg)->loader;
    const TicLoaderConfig *c = &l->config;
    size_t plane = 3 * (size_t)c->image_size * (size_t)c->image_size;
    TicDecoder d;
    pthread_setname_np(pthread_self(), "ticc-data");
    tic_decoder_init(&d, c->image_size);
    d.picture.scaled = c->scaled_decode;
    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        Buffer *b = next_work(l);
        if (!b) {
            pthread_cond_wait(&l->work, &l->lock);
            continue;
        }
        int slot = b->next++;
        int64_t step = b->step, skipped[TIC_SKIP_REASONS] = { 0 };
        l->active++;
        pthread_mutex_unlock(&l->lock);
        TicStatus status = fill_slot(l, &d, step, slot, b->planes + (size_t)slot * plane, b->tokens + (size_t)slot * (size_t)c->context, skipped);
        pthread_mutex_lock(&l->lock);
        l->active--;
        b->done++;
        for (int i = 0; i < TIC_SKIP_REASONS; i++)
            b->skipped[i] += skipped[i];
        if (status && (!b->status || slot < b->failed_slot)) {
            b->status = status;
            b->failed_slot = slot;
            free(b->error);
            b->error = tic_strdup(tic_error());
        }
        tic_error_clear();
        if (b->done == c->batch || l->paused)
            pthread_cond_broadcast(&l->finished);
    }
    pthread_mutex_unlock(&l->lock);
    tic_decoder_free(&d);
    return NULL;
}

/* ---- the loader */

static void reset(Buffer *b, int64_t step)
{
    b->step = step;
    b->next = b->done = 0;
    b->status = TIC_OK;
    free(b->error);
    b->error = NULL;
    memset(b->skipped, 0, sizeof b->skipped);
}

static TicStatus check(const TicLoaderConfig *c)
{
    if (c->batch < 1 || c->batch > TIC_MAX_BATCH || c->global_batch < c->batch || c->global_batch > TIC_MAX_BATCH
        || c->first_slot < 0 || c->first_slot + (int64_t)c->batch * c->pieces > c->global_batch)
        return tic_fail(TIC_USER, "batch: found %d of %d from slot %d, wanted 1 to %d inside the whole", c->batch, c->global_batch,
                        c->first_slot, TIC_MAX_BATCH);
    if (c->image_size < 1 || c->image_size > TIC_MAX_SIDE || c->context < 2)
        return tic_fail(TIC_USER, "image size %d, context %d: wanted 1 to %d, and at least 2", c->image_size, c->context, TIC_MAX_SIDE);
    if (c->n_sources < 1 || c->n_sources > TIC_MAX_SOURCES)
        return tic_fail(TIC_USER, "%d sources, wanted 1 to %d", c->n_sources, TIC_MAX_SOURCES);
    for (int i = 0; i < c->n_sources; i++) {
        if (!(c->sources[i].weight > 0) || c->sources[i].weight > 1e300)
            return tic_fail(TIC_USER, "source %s: weight %g, wanted a number above 0", c->sources[i].name ? c->sources[i].name : "",
                            c->sources[i].weight);
        if (!c->with_replacement && c->sources[i].weight != c->sources[0].weight)
            return tic_fail(TIC_USER, "without replacement every sample is seen once a pass: weights cannot differ");
    }
    return TIC_OK;
}

int64_t tic_loader_bytes(int64_t batch, int image_size, int context, int prefetch)
{
    int64_t pair = 3ll * image_size * image_size + context * (int64_t)sizeof(int32_t);
    return ((prefetch < 1 ? PREFETCH : prefetch) + 1) * batch * pair;
}

TicStatus tic_loader_open(const TicLoaderConfig *config, TicLoader **out)
{
    TicLoaderConfig c = *config;
    *out = NULL;
    c.pieces = c.pieces < 1 ? 1 : c.pieces;
    c.passes = c.passes < 1 ? 1 : c.passes;
    if (!c.global_batch)
        c.global_batch = (int64_t)c.batch * c.pieces > TIC_MAX_BATCH ? TIC_MAX_BATCH : c.batch * c.pieces;
    if (c.prefetch < 1)
        c.prefetch = PREFETCH;
    TRY(check(&c));
    TicLoader *l = tic_alloc(sizeof *l);
    l->config = c;
    l->threads = tic_processors(c.threads);
    l->ring = c.prefetch + 1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->finished, NULL);
    l->index = tic_alloc((size_t)c.n_sources * sizeof *l->index);
    l->share = tic_alloc((size_t)c.n_sources * sizeof *l->share);
    TicStatus status = TIC_OK;
    double sum = 0, at = 0;
    for (int i = 0; i < c.n_sources && !status; i++) {
        status = tic_index_open(&c.sources[i].shards, l->threads, c.warn, &l->index[i]);
        if (!status)
            l->samples += tic_index_total(l->index[i]);
        sum += c.sources[i].weight;
    }
    for (int i = 0; i < c.n_sources; i++)
        l->share[i] = (at += c.sources[i].weight) / sum;
    l->config.sources = NULL;          /* the caller's; not needed again */
    if (!status && !c.with_replacement && l->samples < c.global_batch)
        status = tic_fail(TIC_USER, "%lld samples are fewer than a batch of %d; with replacement, or with a smaller batch, it can go on",
                          (long long)l->samples, c.global_batch);
    if (status) {
        tic_loader_close(l);
        return status;
    }
    tic_normalise_table(c.mean, c.std, l->table);
    l->buffer = tic_alloc((size_t)l->ring * sizeof *l->buffer);
    for (int i = 0; i < l->ring; i++) {
        l->buffer[i].planes = tic_alloc(3 * (size_t)c.image_size * (size_t)c.image_size * (size_t)c.batch);
        l->buffer[i].tokens = tic_alloc((size_t)c.batch * (size_t)c.context * sizeof(int32_t));
        l->buffer[i].step = -1;
    }
    l->base = -1;                      /* the first request says where to begin */
    l->paused = true;
    l->worker = tic_alloc((size_t)l->threads * sizeof *l->worker);
    for (int i = 0; i < l->threads; i++) {
        l->worker[i].loader = l;
        if (pthread_create(&l->worker[i].thread, NULL, worker_main, &l->worker[i])) {
            status = i ? TIC_OK : tic_fail(TIC_IO, "no thread could be started for reading data");
            break;
        }
        l->worker[i].started = true;
    }
    if (status)
        tic_loader_close(l);
    else
        *out = l;
    return status;
}

/* With the lock held: the ring begins at `step`. */
static void retarget(TicLoader *l, int64_t step)
{
    l->paused = true;
    while (l->active)
        pthread_cond_wait(&l->finished, &l->lock);
    l->base = step;
    for (int64_t s = step; s < step + l->ring; s++)
        if (l->buffer[s % l->ring].step != s)
            reset(&l->buffer[s % l->ring], s);
    l->paused = false;
    pthread_cond_broadcast(&l->work);
}

TicStatus tic_loader_batch(TicLoader *l, int64_t step, TicBatch to)
{
    const TicLoaderConfig *c = &l->config;
    if (step < 0)
        return tic_fail(TIC_BUG, "step %lld of the data asked for", (long long)step);
    double from = tic_now();
    pthread_mutex_lock(&l->lock);
    if (step != l->base)
        retarget(l, step);
    Buffer *b = &l->buffer[step % l->ring];
    while (b->done < c->batch)
        pthread_cond_wait(&l->finished, &l->lock);
    l->stats.wait_seconds += tic_now() - from;
    TicStatus status = b->status;
    if (status) {
        tic_fail(status, "%s", b->error);
    } else {
        /* nobody else touches a finished buffer */
        pthread_mutex_unlock(&l->lock);
        tic_batch_pictures(to, l->table, b->planes, c->batch, c->image_size, 0);
        if (to.tokens)
            memcpy(to.tokens, b->tokens, (size_t)c->batch * (size_t)c->context * sizeof *to.tokens);
        pthread_mutex_lock(&l->lock);
        bool first = step / c->pieces % c->passes == 0;
        l->stats.delivered += first ? c->batch : 0;
        for (int i = 0; i < TIC_SKIP_REASONS && first; i++)
            l->stats.skipped[i] += b->skipped[i];
    }
    l->base = step + 1;
    reset(b, step + l->ring);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return status;
}

int64_t tic_loader_samples(const TicLoader *l, int source)
{
    return source < 0 ? l->samples : tic_index_total(l->index[source]);
}

void tic_loader_stats(const TicLoader *l, TicLoaderStats *stats)
{
    *stats = l->stats;
    for (int i = 0; i < l->config.n_sources; i++)
        stats->damaged_shards += tic_index_damaged(l->index[i]);
}

void tic_loader_close(TicLoader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int i = 0; l->worker && i < l->threads; i++)
        if (l->worker[i].started)
            pthread_join(l->worker[i].thread, NULL);
    for (int i = 0; l->buffer && i < l->ring; i++) {
        free(l->buffer[i].planes);
        free(l->buffer[i].tokens);
        free(l->buffer[i].error);
    }
    for (int i = 0; l->index && i < l->config.n_sources; i++)
        if (l->index[i])
            tic_index_close(l->index[i]);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->finished);
    free(l->index);
    free(l->share);
    free(l->buffer);
    free(l->worker);
    free(l);
}
