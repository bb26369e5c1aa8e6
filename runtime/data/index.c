/* index.c -- see index.h. One table per shard, published once by an atomic pointer; the building of tables is
 * serialised by a few locks that shards share, so that many threads can build tables of different shards. */
#define _GNU_SOURCE
#include "data/index.h"
#include "data/image.h"
#include "data/tar.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LOCKS = 64, BLOCK = 512, MAX_THREADS = 64 };

typedef struct {
    TicSampleRef *sample;          /* [count] */
    char *keys;                    /* zero-terminated, one after another */
    int64_t count, room;
    size_t keys_size, keys_room;
    int64_t bytes, written;        /* of the shard when it was read: its size, and when it was last written, in seconds */
} Table;

struct TicIndex {
    TicShardList list;
    int64_t *first;                /* [shards + 1]: positions before each shard */
    _Atomic(Table *) *table;       /* [shards] */
    pthread_mutex_t lock[LOCKS];
    pthread_mutex_t warn_lock;
    TicWarn warn;
    _Atomic int64_t damaged;
    char *damage;                  /* of the shard that was found damaged first; under warn_lock */
};

static void warn(TicIndex *x, char *text)
{
    if (x->warn.line) {
        pthread_mutex_lock(&x->warn_lock);
        x->warn.line(x->warn.context, text);
        pthread_mutex_unlock(&x->warn_lock);
    }
    free(text);
}

static void keep_damage(TicIndex *x, const char *damage)
{
    pthread_mutex_lock(&x->warn_lock);
    if (!x->damage)
        x->damage = tic_strdup(damage);
    pthread_mutex_unlock(&x->warn_lock);
}

static void free_table(Table *t)
{
    if (!t)
        return;
    free(t->sample);
    free(t->keys);
    free(t);
}

/* What a member is to a sample, by its extension (compared without case); 0: nothing we read. */
static int role(const char *extension)
{
    static const struct { const char *name; int has; } known[] = {
        { "jpg", TIC_HAS_IMAGE }, { "jpeg", TIC_HAS_IMAGE }, { "png", TIC_HAS_IMAGE }, { "webp", TIC_HAS_IMAGE },
        { "txt", TIC_HAS_TEXT }, { "json", TIC_HAS_JSON }, { "cls", TIC_HAS_CLASS },
    };
    for (size_t i = 0; i < TIC_LEN(known); i++)
        if (!strcasecmp(extension, known[i].name))
            return known[i].has;
    return tic_foreign_called(extension) == TIC_FOREIGN_NONE ? 0 : TIC_HAS_FOREIGN;
}

/* The extensions seen in the sample that is being gathered: a repeat starts the next sample. Unknown extensions are
 * remembered by hash; 64 of them are more than any writer makes. */
typedef struct {
    uint64_t seen[64];
    int count;
} Extensions;

static bool seen_before(Extensions *e, const char *extension)
{
    uint64_t h = 0;
    for (const char *p = extension; *p; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
        h = tic_hash(&c, 1, h);
    }
    for (int i = 0; i < e->count; i++)
        if (e->seen[i] == h)
            return true;
    if (e->count < (int)TIC_LEN(e->seen))
        e->seen[e->count++] = h;
    return false;
}

static TicSampleRef *new_sample(Table *t, const char *name, size_t key_size, int64_t offset)
{
    if (t->count == t->room) {
        t->room = t->room ? t->room * 2 : 1024;
        t->sample = tic_realloc(t->sample, (size_t)t->room * sizeof *t->sample);
    }
    if (t->keys_size + key_size + 1 > t->keys_room) {
        t->keys_room = (t->keys_room + key_size + 1) * 2;
        t->keys = tic_realloc(t->keys, t->keys_room);
    }
    memcpy(t->keys + t->keys_size, name, key_size);
    t->keys[t->keys_size + key_size] = 0;
    TicSampleRef *s = &t->sample[t->count++];
    *s = (TicSampleRef){ .offset = offset, .key = (uint32_t)t->keys_size };
    t->keys_size += key_size + 1;
    return s;
}

/* A part whose place or size does not fit the table makes the sample unusable; that takes members of hundreds of
 * megabytes. The first image of a sample counts when it has several (a.jpg and a.png). */
static void add_part(TicSampleRef *s, const TicTarMember *m, int has, const char *extension)
{
    int64_t at = m->offset - s->offset;
    if (!has || (has & s->has))
        return;
    if (has & TIC_HAS_FOREIGN) {
        s->has |= TIC_HAS_FOREIGN;
        if (!(s->has & TIC_HAS_IMAGE))
            s->image_at = (uint32_t)tic_foreign_called(extension);
        return;
    }
    if (m->size > TIC_MAX_MEMBER || at > UINT32_MAX ||
        ((has & TIC_HAS_CLASS) && (at / BLOCK > UINT16_MAX || m->size > UINT8_MAX))) {
        s->has |= TIC_TOO_LARGE;
        return;
    }
    s->has |= (uint8_t)has;
    if (has & TIC_HAS_IMAGE) {
        s->image_at = (uint32_t)at;
        s->image_size = (uint32_t)m->size;
    } else if (has & TIC_HAS_TEXT) {
        s->text_at = (uint32_t)at;
        s->text_size = (uint32_t)m->size;
    } else if (has & TIC_HAS_JSON) {
        s->json_at = (uint32_t)at;
        s->json_size = (uint32_t)m->size;
    } else {
        s->class_at = (uint16_t)(at / BLOCK);
        s->class_size = (uint8_t)m->size;
    }
}

static TicStatus build(TicIndex *x, int shard, Table **out)
{
    TicTar *tar;
    TicTarMember m;
    struct stat st = { 0 };
    stat(x->list.shard[shard].path, &st);        /* before the first byte is read: what is written from now on is seen by `unchanged` */
    TRY(tic_tar_open(x->list.shard[shard].path, &tar));
    Table *t = tic_alloc(sizeof *t);
    t->bytes = st.st_size;
    t->written = st.st_mtime;
    TicSampleRef *s = NULL;
    Extensions e = { .count = 0 };
    TicStatus status;
    while (!(status = tic_tar_next(tar, &m))) {
        size_t key_size;
        const char *extension;
        if (!tic_tar_key(m.name, &key_size, &extension))
            continue;
        const char *key = s ? t->keys + s->key : "";
        bool same = s && strlen(key) == key_size && !memcmp(key, m.name, key_size);
        if (!same || seen_before(&e, extension)) {
            if (t->keys_size + key_size + 1 > UINT32_MAX) {
                status = tic_fail(TIC_USER, "%s: more than 4 GiB of names in one shard", x->list.shard[shard].path);
                break;
            }
            s = new_sample(t, m.name, key_size, m.offset);
            e.count = 0;
            seen_before(&e, extension);
        }
        add_part(s, &m, role(extension), extension);
    }
    if (status == TIC_END) {
        status = TIC_OK;
        if (tic_tar_damage(tar)) {
            atomic_fetch_add(&x->damaged, 1);
            keep_damage(x, tic_tar_damage(tar));
            warn(x, tic_format("%s: damaged shard: %s; the %lld samples before are used", x->list.shard[shard].path,
                               tic_tar_damage(tar), (long long)t->count));
        }
        int64_t stated = x->list.shard[shard].samples;
        if (stated >= 0 && stated != t->count && !x->list.shard[shard].pick)
            warn(x, tic_format("%s: holds %lld samples, sizes.json says %lld", x->list.shard[shard].path,
                               (long long)t->count, (long long)stated));
    }
    tic_tar_close(tar);
    if (status) {
        free_table(t);
        return status;
    }
    if (t->count)
        t->sample = tic_realloc(t->sample, (size_t)t->count * sizeof *t->sample);
    *out = t;
    return TIC_OK;
}

static TicStatus get_table(TicIndex *x, int shard, Table **out)
{
    *out = atomic_load_explicit(&x->table[shard], memory_order_acquire);
    if (*out)
        return TIC_OK;
    pthread_mutex_t *lock = &x->lock[shard % LOCKS];
    TicStatus status = TIC_OK;
    pthread_mutex_lock(lock);
    *out = atomic_load_explicit(&x->table[shard], memory_order_acquire);
    if (!*out)
        status = build(x, shard, out);
    if (!status)
        atomic_store_explicit(&x->table[shard], *out, memory_order_release);
    pthread_mutex_unlock(lock);
    return status;
}

/* Building the tables of shards without a stated size, by several threads; the first failure in list order is the
 * one that is told. */
typedef struct {
    TicIndex *x;
    _Atomic int next;
    pthread_mutex_t lock;
    int failed_shard;
    TicStatus status;
    char *error;
} Scan;

static void *scan_some(void *argument)
{
    Scan *s = argument;
    for (int i; (i = atomic_fetch_add(&s->next, 1)) < s->x->list.count;) {
        Table *t;
        if (s->x->list.shard[i].samples >= 0)
            continue;
        TicStatus status = get_table(s->x, i, &t);
        if (!status)
            continue;
        pthread_mutex_lock(&s->lock);
        if (!s->status || i < s->failed_shard) {
            s->status = status;
            s->failed_shard = i;
            free(s->error);
            s->error = tic_strdup(tic_error());
        }
        pthread_mutex_unlock(&s->lock);
        tic_error_clear();
        break;
    }
    return NULL;
}

static TicStatus scan(TicIndex *x, int threads)
{
    Scan s = { .x = x };
    pthread_t thread[MAX_THREADS];
    int unknown = 0, started = 0;
    for (int i = 0; i < x->list.count; i++)
        unknown += x->list.shard[i].samples < 0;
    if (!unknown)
        return TIC_OK;
    if (threads > unknown)
        threads = unknown;
    pthread_mutex_init(&s.lock, NULL);
    while (started < threads - 1 && started < MAX_THREADS && !pthread_create(&thread[started], NULL, scan_some, &s))
        started++;
    char *earlier = tic_strdup(tic_error());
    tic_error_clear();
    scan_some(&s);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&s.lock);
    if (*earlier)
        tic_fail(TIC_USER, "%s", earlier);
    if (s.status)
        tic_fail(s.status, "%s", s.error);
    free(earlier);
    free(s.error);
    return s.status;
}

TicStatus tic_index_open(const TicShardList *list, int threads, TicWarn warning, TicIndex **out)
{
    *out = NULL;
    if (!list->count)
        return tic_fail(TIC_USER, "the list of shards is empty");
    size_t n = (size_t)list->count;
    TicIndex *x = tic_alloc(sizeof *x);
    x->warn = warning;
    x->list = (TicShardList){ .shard = tic_alloc(n * sizeof *list->shard), .count = list->count, .room = list->count };
    x->first = tic_alloc((n + 1) * sizeof *x->first);
    x->table = tic_alloc(n * sizeof *x->table);
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_init(&x->lock[i], NULL);
    pthread_mutex_init(&x->warn_lock, NULL);
    for (size_t i = 0; i < n; i++) {
        const TicShard *s = &list->shard[i];
        x->list.shard[i] = (TicShard){ .path = tic_strdup(s->path), .samples = s->samples };
        if (s->pick) {
            x->list.shard[i].pick = tic_alloc((size_t)s->samples * sizeof *s->pick);
            memcpy(x->list.shard[i].pick, s->pick, (size_t)s->samples * sizeof *s->pick);
        }
    }
    TicStatus status = scan(x, threads);
    for (size_t i = 0; i < n && !status; i++) {
        int64_t samples = x->list.shard[i].samples;
        x->first[i + 1] = x->first[i] + (samples >= 0 ? samples : atomic_load(&x->table[i])->count);
    }
    if (!status && !x->first[n])
        status = tic_fail(TIC_USER, "%s: no sample in %s%s%s", x->list.shard[0].path,
                          n == 1 ? "this shard" : "this and the other shards of its list", x->damage ? ": " : "",
                          x->damage ? x->damage : "");
    if (status)
        tic_index_close(x);
    else
        *out = x;
    return status;
}

void tic_index_close(TicIndex *x)
{
    if (!x)
        return;
    for (int i = 0; i < x->list.count; i++)
        free_table(atomic_load(&x->table[i]));
    for (int i = 0; i < LOCKS; i++)
        pthread_mutex_destroy(&x->lock[i]);
    pthread_mutex_destroy(&x->warn_lock);
    tic_shards_clear(&x->list);
    free(x->first);
    free(x->table);
    free(x->damage);
    free(x);
}

int64_t tic_index_total(const TicIndex *x) { return x->first[x->list.count]; }
const char *tic_index_path(const TicIndex *x, int shard) { return x->list.shard[shard].path; }
int64_t tic_index_damaged(const TicIndex *x) { return atomic_load(&((TicIndex *)x)->damaged); }

void tic_index_locate(const TicIndex *x, int64_t at, int *shard, int64_t *sample)
{
    int low = 0, high = x->list.count;                   /* first[low] <= at < first[high] */
    while (high - low > 1) {
        int middle = low + (high - low) / 2;
        if (x->first[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    *shard = low;
    *sample = at - x->first[low];
}

TicStatus tic_index_count(TicIndex *x, int shard, int64_t *count)
{
    Table *t;
    TRY(get_table(x, shard, &t));
    const TicShard *s = &x->list.shard[shard];
    *count = s->pick ? s->samples : t->count;
    return TIC_OK;
}

TicStatus tic_index_sample(TicIndex *x, int shard, int64_t sample, TicSampleRef *ref)
{
    Table *t;
    TRY(get_table(x, shard, &t));
    const TicShard *s = &x->list.shard[shard];
    if (s->pick && sample < s->samples)
        sample = s->pick[sample];
    if (sample >= t->count)
        return tic_fail(TIC_BAD_SAMPLE, "%s: sample %lld of %lld", x->list.shard[shard].path, (long long)sample,
                        (long long)t->count);
    *ref = t->sample[sample];
    return TIC_OK;
}

const char *tic_index_key(TicIndex *x, int shard, const TicSampleRef *ref)
{
    return atomic_load(&x->table[shard])->keys + ref->key;
}

/* Offsets of one file say nothing about another that took its name. */
static TicStatus unchanged(TicIndex *x, int shard, int fd)
{
    const Table *t = atomic_load(&x->table[shard]);
    struct stat st;
    if (fstat(fd, &st))
        return tic_fail(TIC_IO, "%s: cannot read: %s", x->list.shard[shard].path, strerror(errno));
    if (st.st_size == t->bytes && st.st_mtime == t->written)
        return TIC_OK;
    return tic_fail(TIC_IO, "%s: the shard was replaced or written to while it was in use (%lld bytes before, %lld now)",
                    x->list.shard[shard].path, (long long)t->bytes, (long long)st.st_size);
}

static TicStatus read_span(const char *path, int fd, int64_t at, uint8_t *to, size_t n)
{
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(fd, to + done, n - done, at + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tic_fail(TIC_IO, "%s: cannot read: %s", path, strerror(errno));
        if (got == 0)
            return tic_fail(TIC_IO, "%s: the shard became shorter while it was in use", path);
        done += (size_t)got;
    }
    return TIC_OK;
}

/* One read covers all parts when they lie as close as writers put them; else one read each. */
TicStatus tic_index_read(TicIndex *x, int shard, const TicSampleRef *ref, TicSampleBytes *b)
{
    const struct { int has; uint32_t at, size; } part[4] = {
        { TIC_HAS_IMAGE, ref->image_at, ref->image_size },
        { TIC_HAS_TEXT, ref->text_at, ref->text_size },
        { TIC_HAS_JSON, ref->json_at, ref->json_size },
        { TIC_HAS_CLASS, (uint32_t)ref->class_at * BLOCK, ref->class_size },
    };
    uint64_t low = UINT64_MAX, high = 0, sum = 0;
    uint64_t place[4] = { 0 };     /* in the buffer */
    for (int i = 0; i < 4; i++) {
        if (!(ref->has & part[i].has))
            continue;
        place[i] = sum;
        sum += part[i].size;
        low = part[i].at < low ? part[i].at : low;
        high = (uint64_t)part[i].at + part[i].size > high ? (uint64_t)part[i].at + part[i].size : high;
    }
    bool together = high > low && high - low <= sum + 16 * BLOCK;
    size_t need = (together ? high - low : sum) + 1;
    if (need > b->room) {
        free(b->buffer);
        b->buffer = tic_alloc(b->room = need + need / 4);
    }
    const char *path = x->list.shard[shard].path;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return tic_fail(TIC_IO, "%s: cannot open the shard: %s", path, strerror(errno));
    TicStatus status = unchanged(x, shard, fd);
    if (together && !status)
        status = read_span(path, fd, ref->offset + (int64_t)low, b->buffer, high - low);
    for (int i = 0; i < 4 && !status; i++) {
        if (together)
            place[i] = part[i].at - low;
        else if (ref->has & part[i].has)
            status = read_span(path, fd, ref->offset + part[i].at, b->buffer + place[i], part[i].size);
    }
    close(fd);
    TRY(status);
    const uint8_t *at[4] = { 0 };
    for (int i = 0; i < 4; i++)
        at[i] = ref->has & part[i].has ? b->buffer + place[i] : NULL;
    b->image = at[0];
    b->image_size = at[0] ? part[0].size : 0;
    b->text = (const char *)at[1];
    b->text_size = at[1] ? part[1].size : 0;
    b->json = (const char *)at[2];
    b->json_size = at[2] ? part[2].size : 0;
    b->class_text = (const char *)at[3];
    b->class_size = at[3] ? part[3].size : 0;
    return TIC_OK;
}

void tic_sample_bytes_free(TicSampleBytes *b)
{
    free(b->buffer);
    *b = (TicSampleBytes){ 0 };
}
