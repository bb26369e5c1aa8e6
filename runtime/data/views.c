/* views.c -- see views.h. The index is read shard by shard; the list is in memory, 16 bytes a uid.
 *
 * uids.index, little-endian: "TICUIDS1", u64 shards; for each u32 length of its name, the name, u64 bytes, u64 samples, then
 * (high, low) of each sample. */
#define _GNU_SOURCE
#include "data/views.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char MAGIC[8] = "TICUIDS1";
enum { LONGEST_NAME = 4096 };

bool tic_uid_parse(const char *text, TicUid *uid)
{
    uint64_t half[2] = { 0, 0 };
    for (int i = 0; i < 32; i++) {
        char c = text[i];
        int v = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (v < 0)
            return false;
        half[i / 16] = half[i / 16] << 4 | (uint64_t)v;
    }
    *uid = (TicUid){ half[0], half[1] };
    return true;
}

int tic_uid_order(const void *a, const void *b)
{
    const TicUid *x = a, *y = b;
    if (x->high != y->high)
        return x->high < y->high ? -1 : 1;
    return x->low < y->low ? -1 : x->low > y->low;
}

static uint64_t get64(const unsigned char *p)
{
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

/* ---- the list */

/* Where the data of a .npy file begins, -1 when it is no array of pairs of u64. */
static int64_t data_offset(const unsigned char *data, size_t size, int64_t *count)
{
    if (size < 12 || memcmp(data, "\x93NUMPY", 6))
        return -1;
    size_t at = data[6] == 1 ? 10 : 12, length = data[8] | (size_t)data[9] << 8;
    if (data[6] > 1)
        length |= (size_t)data[10] << 16 | (size_t)data[11] << 24;
    if (data[6] < 1 || data[6] > 3 || length > size - at)
        return -1;
    char *text = tic_format("%.*s", (int)length, (const char *)data + at);
    const char *first = strstr(text, "<u8"), *second = first ? strstr(first + 3, "<u8") : NULL, *shape = strstr(text, "'shape':");
    long long n = -1, columns = 0;
    int fields = shape ? sscanf(shape, "'shape': (%lld, %lld", &n, &columns) : 0;
    bool pairs = second ? fields == 1 || (fields == 2 && columns == 1) : first && fields == 2 && columns == 2;
    bool ok = pairs && n >= 0 && !strstr(text, "'fortran_order': True") && (uint64_t)n <= (size - at - length) / 16 &&
              (uint64_t)n * 16 == size - at - length;
    free(text);
    *count = n;
    return ok ? (int64_t)(at + length) : -1;
}

TicStatus tic_uids_read(const char *npy, TicUid **uids, int64_t *n)
{
    char *data;
    size_t size;
    *uids = NULL;
    TRY(tic_read_file(npy, SIZE_MAX / 2, &data, &size));
    int64_t at = data_offset((const unsigned char *)data, size, n);
    if (at < 0) {
        free(data);
        return tic_fail(TIC_USER, "%s: no list of uids: an array of pairs of little-endian u64 wanted (NumPy format)", npy);
    }
    bool sorted = true;
    TicUid *u = tic_alloc((size_t)(*n + 1) * sizeof *u);
    for (int64_t i = 0; i < *n; i++) {
        const unsigned char *p = (const unsigned char *)data + at + 16 * i;
        u[i] = (TicUid){ get64(p), get64(p + 8) };
        sorted &= !i || tic_uid_order(&u[i - 1], &u[i]) <= 0;
    }
    if (!sorted)
        qsort(u, (size_t)*n, sizeof *u, tic_uid_order);
    free(data);
    *uids = u;
    return TIC_OK;
}

/* ---- the index */

static void put(FILE *f, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        fputc((int)(v >> (8 * i) & 255), f);
}

/* 0, or the errno of what the system refused. */
static int put_index(int fd, const TicUidShard *shard, int n)
{
    FILE *f = tic_temporary_stream(fd);
    if (!f)
        return errno;
    fwrite(MAGIC, 1, sizeof MAGIC, f);
    put(f, (uint64_t)n, 8);
    for (int i = 0; i < n && !ferror(f); i++) {
        put(f, strlen(shard[i].name), 4);
        fputs(shard[i].name, f);
        put(f, (uint64_t)shard[i].bytes, 8);
        put(f, (uint64_t)shard[i].samples, 8);
        for (int64_t k = 0; k < shard[i].samples && !ferror(f); k++) {
            put(f, shard[i].uid[k].high, 8);
            put(f, shard[i].uid[k].low, 8);
        }
    }
    int why = ferror(f) || fflush(f) ? errno : 0;
    fclose(f);
    return why;
}

TicStatus tic_uid_index_write(const char *folder, const TicUidShard *shard, int n)
{
    char *path = tic_format("%s/uids.index", folder), *temporary = tic_format("%s.tmp", path);
    TicStatus status = tic_may_replace(path);
    int fd = status ? -1 : tic_temporary_open(temporary), why = fd < 0 ? errno : put_index(fd, shard, n);
    if (!status && why)
        status = tic_fail(TIC_IO, "%s: cannot write: %s", path, strerror(why));
    if (!status)
        status = tic_temporary_commit(fd, temporary, path);
    else if (fd >= 0)
        tic_temporary_abandon(fd, temporary);
    free(path);
    free(temporary);
    return status;
}

bool tic_view_pool(const char *folder)
{
    char *path = tic_format("%s/uids.index", folder);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

typedef struct {
    const char *pool, *path;       /* of the index */
    FILE *f;
    const TicUid *uid;             /* [n], sorted */
    int64_t n;
    unsigned char *found;          /* [n] whether this entry's uid was met */
    TicShardList fresh;
} View;

static bool get(View *v, uint64_t *value, int bytes)
{
    unsigned char b[8] = { 0 };
    bool ok = fread(b, 1, (size_t)bytes, v->f) == (size_t)bytes;
    *value = get64(b);
    return ok;
}

/* The first entry of the list that is not below `uid`. */
static int64_t lower(const View *v, const TicUid *uid)
{
    int64_t low = 0, high = v->n;
    while (low < high) {
        int64_t middle = low + (high - low) / 2;
        if (tic_uid_order(&v->uid[middle], uid) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void choose(View *v, TicShard *s, int64_t sample, const TicUid *uid, int64_t *room)
{
    for (int64_t i = lower(v, uid); i < v->n && !tic_uid_order(&v->uid[i], uid); i++) {
        if (s->samples == *room) {
            *room = *room ? 2 * *room : 64;
            s->pick = tic_realloc(s->pick, (size_t)*room * sizeof *s->pick);
        }
        s->pick[s->samples++] = (int32_t)sample;
        v->found[i] = 1;
    }
}

static TicStatus torn(const View *v)
{
    return tic_fail(TIC_USER, "%s: no index of uids, or a torn one; `ticdata index --uids %s` makes it anew", v->path, v->pool);
}

static TicStatus view_shard(View *v)
{
    uint64_t length, bytes, samples;
    char name[LONGEST_NAME + 1];
    if (!get(v, &length, 4) || length > LONGEST_NAME || fread(name, 1, length, v->f) != length || !get(v, &bytes, 8) || !get(v, &samples, 8) ||
        samples > INT32_MAX)
        return torn(v);
    name[length] = 0;
    TicShard s = { .path = tic_format("%s/%s", v->pool, name) };
    struct stat st;
    TicStatus status = TIC_OK;
    int64_t room = 0;
    for (uint64_t k = 0; k < samples && !status; k++) {
        TicUid uid;
        if (!get(v, &uid.high, 8) || !get(v, &uid.low, 8))
            status = torn(v);
        else if (uid.high || uid.low)
            choose(v, &s, (int64_t)k, &uid, &room);
    }
    if (!status && s.samples && (stat(s.path, &st) || (uint64_t)st.st_size != bytes))
        status = tic_fail(TIC_USER, "%s: not the shard that was indexed (gone, or of another size); `ticdata index --uids %s` makes the "
                          "index anew", s.path, v->pool);
    if (!status && s.samples) {
        tic_shards_push(&v->fresh, &s);
        return TIC_OK;
    }
    free(s.path);
    free(s.pick);
    return status;
}

TicStatus tic_view_add(TicShardList *list, const char *pool, const char *npy)
{
    TicUid *uid;
    char *path = tic_format("%s/uids.index", pool), magic[sizeof MAGIC];
    View v = { .pool = pool, .path = path };
    uint64_t shards = 0;
    TicStatus status = tic_uids_read(npy, &uid, &v.n);
    if (!status) {
        v.uid = uid;
        v.found = tic_alloc((size_t)v.n + 1);
        v.f = fopen(path, "rb");
        if (!v.f || fread(magic, 1, sizeof magic, v.f) != sizeof magic || memcmp(magic, MAGIC, sizeof magic) || !get(&v, &shards, 8) ||
            shards > TIC_MAX_SHARDS)
            status = torn(&v);
    }
    for (uint64_t i = 0; i < shards && !status; i++)
        status = view_shard(&v);
    if (!status && !v.fresh.count)
        status = tic_fail(TIC_USER, "%s: none of its %lld uids is in %s", npy, (long long)v.n, pool);
    for (int64_t i = 0; i < v.n && !status; i++) {
        bool again = i && !tic_uid_order(&uid[i - 1], &uid[i]);
        list->repeated += again;
        list->unknown += !again && !v.found[i];
    }
    if (!status)
        list->listed += v.n;
    if (status)
        tic_shards_clear(&v.fresh);
    else
        tic_shards_move(list, &v.fresh);
    if (v.f)
        fclose(v.f);
    free(v.found);
    free(uid);
    free(path);
    return status;
}
