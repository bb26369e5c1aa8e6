/* samples.c -- every sample of a list of shards in order, for evaluation; decoded ahead by threads into a ring of entries
 * (position p in entry p modulo ring), handed out one by one. */
#define _GNU_SOURCE
#include "data/loader.h"
#include "data/sample.h"
#include "device/machine.h"
#include <ctype.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    bool ready;
    TicStatus status;
    TicSkip reason;
    char *error, *caption, *uid, *key;
    size_t caption_size;
    bool has_caption;
    int64_t class_id;
    uint8_t *planes;               /* [3, size, size] */
} Entry;

typedef struct { struct TicSamples *samples; pthread_t thread; bool started; } Worker;

struct TicSamples {
    TicSamplesConfig config;
    TicIndex *index;
    Entry *entry;
    int ring, threads;
    int64_t total, next, taken;        /* next to decode; given to the caller */
    Worker *worker;
    pthread_mutex_t lock;
    pthread_cond_t work, finished;
    bool quit;
    TicLoaderStats stats;
};

static void clear(Entry *e)
{
    free(e->error);
    free(e->caption);
    free(e->uid);
    free(e->key);
    e->error = e->caption = e->uid = e->key = NULL;
}

static char *copy(const char *s, size_t n)
{
    char *c = tic_alloc(n + 1);
    if (n)
        memcpy(c, s, n);
    return c;
}

static int64_t class_of(const TicDecoder *d, const TicJson *json)
{
    if (d->bytes.class_text) {
        char *text = copy(d->bytes.class_text, d->bytes.class_size), *end;
        long v = strtol(text, &end, 10);
        bool number = end != text;
        while (isspace((unsigned char)*end))
            end++;
        number = number && !*end && v >= 0;
        free(text);
        return number ? v : -1;
    }
    const TicJson *c = tic_json_get(json, "cls");
    if (!c)
        c = tic_json_get(json, "class");
    return c && c->kind == TIC_JSON_NUMBER && c->number >= 0 && c->number < 1e9 ? (int64_t)c->number : -1;
}

static void decode(TicSamples *s, TicDecoder *d, int64_t position, Entry *e)
{
    int shard;
    int64_t sample;
    TicSampleRef ref;
    TicSkip ignored;
    tic_index_locate(s->index, position, &shard, &sample);
    e->status = tic_decoder_read(d, s->index, shard, sample, NULL, tic_random(0, 0, 0), &ref, e->planes, &e->reason);
    if (e->status) {
        e->error = tic_strdup(tic_error());
        tic_error_clear();
        return;
    }
    const char *text = "";
    size_t n = 0;
    e->has_caption = tic_decoder_caption(d, &text, &n, &ignored);
    e->caption = copy(text, e->has_caption ? n : 0);
    e->caption_size = e->has_caption ? n : 0;
    const TicJson *json = tic_decoder_json(d), *uid = tic_json_get(json, "uid");
    e->uid = uid && uid->kind == TIC_JSON_STRING ? copy(uid->text, uid->size) : copy("", 0);
    e->key = tic_strdup(tic_index_key(s->index, shard, &ref));
    e->class_id = class_of(d, json);
}

static void *worker_main(void *arg)
{
    TicSamples *s = ((Worker *)arg)->samples;
    TicDecoder d;
    pthread_setname_np(pthread_self(), "ticc-data");
    tic_decoder_init(&d, s->config.image_size);
    pthread_mutex_lock(&s->lock);
    while (!s->quit) {
        /* the entry of the sample the caller holds (taken - 1) is not reused before the next call */
        if (s->next >= s->total || s->next >= s->taken - 1 + s->ring) {
            pthread_cond_wait(&s->work, &s->lock);
            continue;
        }
        int64_t position = s->next++;
        Entry *e = &s->entry[position % s->ring];
        e->ready = false;
        pthread_mutex_unlock(&s->lock);
        clear(e);
        decode(s, &d, position, e);
        pthread_mutex_lock(&s->lock);
        e->ready = true;
        pthread_cond_broadcast(&s->finished);
    }
    pthread_mutex_unlock(&s->lock);
    tic_decoder_free(&d);
    return NULL;
}

TicStatus tic_samples_open(const TicSamplesConfig *config, TicSamples **out)
{
    *out = NULL;
    if (config->image_size < 1 || config->image_size > TIC_MAX_SIDE)
        return tic_fail(TIC_USER, "image size %d: wanted 1 to %d", config->image_size, TIC_MAX_SIDE);
    TicSamples *s = tic_alloc(sizeof *s);
    s->config = *config;
    s->threads = tic_processors(config->threads);
    s->ring = 4 * s->threads + 2;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->finished, NULL);
    TicStatus status = tic_index_open(&config->shards, s->threads, config->warn, &s->index);
    if (status) {
        tic_samples_close(s);
        return status;
    }
    s->total = tic_index_total(s->index);
    s->entry = tic_alloc((size_t)s->ring * sizeof *s->entry);
    for (int i = 0; i < s->ring; i++)
        s->entry[i].planes = tic_alloc(3 * (size_t)config->image_size * (size_t)config->image_size);
    s->worker = tic_alloc((size_t)s->threads * sizeof *s->worker);
    for (int i = 0; i < s->threads; i++) {
        s->worker[i].samples = s;
        if (pthread_create(&s->worker[i].thread, NULL, worker_main, &s->worker[i])) {
            status = i ? TIC_OK : tic_fail(TIC_IO, "no thread could be started for reading data");
            break;
        }
        s->worker[i].started = true;
    }
    if (status)
        tic_samples_close(s);
    else
        *out = s;
    return status;
}

TicStatus tic_samples_next(TicSamples *s, TicSample *sample)
{
    pthread_mutex_lock(&s->lock);
    for (;;) {
        if (s->taken >= s->total) {
            pthread_mutex_unlock(&s->lock);
            return TIC_END;
        }
        Entry *e = &s->entry[s->taken % s->ring];
        if (s->taken)                  /* the entry handed out before this one may be used again */
            s->entry[(s->taken - 1) % s->ring].ready = false;
        s->taken++;
        pthread_cond_broadcast(&s->work);
        while (!e->ready)
            pthread_cond_wait(&s->finished, &s->lock);
        if (e->status == TIC_BAD_SAMPLE) {
            s->stats.skipped[e->reason]++;
            if (s->config.skip.line)
                s->config.skip.line(s->config.skip.context, e->error);
            continue;
        }
        TicStatus status = e->status;
        if (status)
            tic_fail(status, "%s", e->error);
        else
            s->stats.delivered++;
        pthread_mutex_unlock(&s->lock);
        *sample = (TicSample){ e->planes, e->caption, e->caption_size, e->has_caption, e->class_id, e->uid, e->key };
        return status;
    }
}

void tic_samples_stats(const TicSamples *s, TicLoaderStats *stats)
{
    *stats = s->stats;
    stats->damaged_shards = tic_index_damaged(s->index);
}

void tic_samples_close(TicSamples *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->quit = true;
    pthread_cond_broadcast(&s->work);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; s->worker && i < s->threads; i++)
        if (s->worker[i].started)
            pthread_join(s->worker[i].thread, NULL);
    for (int i = 0; s->entry && i < s->ring; i++) {
        clear(&s->entry[i]);
        free(s->entry[i].planes);
    }
    if (s->index)
        tic_index_close(s->index);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->finished);
    free(s->entry);
    free(s->worker);
    free(s);
}
