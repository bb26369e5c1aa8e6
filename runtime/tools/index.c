/* index.c -- `ticdata index DIR`: counts the samples of every shard in a folder and below it, and writes a sizes.json
 * beside them, so that training need not open each shard to know how many samples there are. A sizes.json that is
 * already there, right or wrong, is not believed but replaced.
 *
 * With --uids the uid of every sample goes into DIR/uids.index (data/views.h), so that lists of uids choose years where the
 * samples lie; with --years OUT such lists are made, OUT/YEAR.npy, from the time that each sample's json tells. */
#define _GNU_SOURCE
#include "args.h"
#include "commands.h"
#include "data/json.h"
#include "data/shards.h"
#include "data/views.h"
#include "device/machine.h"
#include "npy.h"
#include "shardread.h"
#include "sizes.h"
#include "years.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_THREADS = 64, MAX_JSON = 16 << 20 };

typedef struct {
    char *path;
    size_t folder_size;            /* of the path's beginning, without the last '/' */
    int64_t samples, room, bytes;
    TicUid *uid;                   /* [samples] when uids are wanted; zero: none */
    int16_t *year;                 /* [samples] when years are wanted; zero: none */
    char *damage;                  /* what ended the count before its time, or NULL */
    TicStatus status;
    char *error;
} Shard;

typedef struct {
    Shard *shard;
    int count, room;
    bool uids;
    const char *field;             /* of the json that tells the time; NULL: years are not wanted */
    _Atomic int next;              /* to be counted */
} Shards;

/* ---- listing: in the order of data/shards.c, but no sizes.json is read */

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return tic_natural_order((*a)->d_name, (*b)->d_name);
}

static int not_hidden(const struct dirent *e) { return e->d_name[0] != '.'; }

static bool ends_in_tar(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".tar");
}

static void add(Shards *s, char *path, size_t folder_size)
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 64;
        s->shard = tic_realloc(s->shard, (size_t)s->room * sizeof *s->shard);
    }
    s->shard[s->count++] = (Shard){ .path = path, .folder_size = folder_size };
}

static TicStatus list(Shards *s, const char *folder, int depth)
{
    struct dirent **entry;
    if (depth > TIC_SHARD_DEPTH)
        return tic_fail(TIC_USER, "%s: folders nested more than %d deep", folder, TIC_SHARD_DEPTH);
    int n = scandir(folder, &entry, not_hidden, by_name);
    if (n < 0)
        return tic_fail(TIC_USER, "%s: cannot list the folder: %s", folder, strerror(errno));
    TicStatus status = TIC_OK;
    for (int pass = 0; pass < 2; pass++) {               /* its own shards are neighbours */
        for (int i = 0; i < n && !status; i++) {
            struct stat st;
            char *path = tic_format("%s/%s", folder, entry[i]->d_name);
            bool sub = !stat(path, &st) && S_ISDIR(st.st_mode);
            if (pass == 1 && sub)
                status = list(s, path, depth + 1);
            if (pass == 0 && !sub && ends_in_tar(path) && s->count >= TIC_MAX_SHARDS)
                status = tic_fail(TIC_USER, "%s: more than %d shards", folder, TIC_MAX_SHARDS);
            if (pass == 0 && !sub && ends_in_tar(path) && !status)
                add(s, path, strlen(folder));
            else
                free(path);
        }
    }
    for (int i = 0; i < n; i++)
        free(entry[i]);
    free(entry);
    return status;
}

/* ---- counting */

/* uid and year of one sample, from its json; a key that begins with 32 hex digits is a uid too. */
static TicStatus describe(const Shards *all, Shard *s, ShardReader *r, const ShardSample *sample)
{
    const ShardMember *json = NULL;
    TicUid uid = { 0, 0 };
    int year = 0;
    for (int i = 0; i < sample->count && !json; i++)
        if (!strcasecmp(shardread_extension(&sample->member[i]), "json") && sample->member[i].size <= MAX_JSON)
            json = &sample->member[i];
    if (json) {
        char *text;
        TicJson *root;
        TRY(shardread_bytes(r, json, &text));
        if (tic_json_parse(text, (size_t)json->size, &root))
            tic_error_clear();
        const TicJson *n = tic_json_get(root, "uid");
        if (n && n->kind == TIC_JSON_STRING)
            tic_uid_parse(n->text, &uid);
        year = all->field ? year_of_json(root, all->field) : 0;
        tic_json_free(root);
        free(text);
    }
    if (!uid.high && !uid.low && sample->member[0].key_size >= 32) {
        const char *slash = memrchr(sample->member[0].name, '/', sample->member[0].key_size);
        tic_uid_parse(slash ? slash + 1 : sample->member[0].name, &uid);
    }
    if (s->samples == s->room) {
        s->room = s->room ? 2 * s->room : 1024;
        s->uid = tic_realloc(s->uid, (size_t)s->room * sizeof *s->uid);
        s->year = tic_realloc(s->year, (size_t)s->room * sizeof *s->year);
    }
    s->uid[s->samples] = uid;
    s->year[s->samples] = (int16_t)year;
    return TIC_OK;
}

static TicStatus count(const Shards *all, Shard *s)
{
    ShardReader *r;
    const ShardSample *sample;
    TicStatus status;
    TRY(shardread_open(s->path, &r));
    while (!(status = shardread_next(r, &sample))) {
        if (all->uids && (status = describe(all, s, r, sample)))
            break;
        s->samples++;
    }
    if (shardread_damage(r))
        s->damage = tic_strdup(shardread_damage(r));
    shardread_close(r);
    return status == TIC_END ? TIC_OK : status;
}

static void *count_some(void *argument)
{
    Shards *s = argument;
    for (int i; (i = atomic_fetch_add(&s->next, 1)) < s->count;) {
        s->shard[i].status = count(s, &s->shard[i]);
        if (s->shard[i].status)
            s->shard[i].error = tic_strdup(tic_error());
        tic_error_clear();
    }
    return NULL;
}

static void count_all(Shards *s, int threads)
{
    pthread_t thread[MAX_THREADS];
    int started = 0;
    while (started < threads - 1 && started < s->count - 1 && !pthread_create(&thread[started], NULL, count_some, s))
        started++;
    count_some(s);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
}

/* ---- the files, folder by folder; nothing is written when a shard could not be read */

static TicStatus write_folder(const Shard *shard, int n)
{
    ShardSize *sizes = tic_alloc((size_t)n * sizeof *sizes);
    char *folder = tic_format("%.*s", (int)shard->folder_size, shard->path);
    int64_t samples = 0;
    for (int i = 0; i < n; i++) {
        sizes[i] = (ShardSize){ shard[i].path + shard[i].folder_size + 1, shard[i].samples };
        samples += shard[i].samples;
    }
    TicStatus status = sizes_write(folder, sizes, n);
    if (!status)
        printf("%s/sizes.json: %lld sample%s in %d shard%s\n", folder, (long long)samples, samples == 1 ? "" : "s", n,
               n == 1 ? "" : "s");
    free(folder);
    free(sizes);
    return status;
}

static TicStatus write_all(const Shards *s)
{
    for (int i = 0; i < s->count; i++) {
        if (s->shard[i].status)
            return tic_fail(s->shard[i].status, "%s", s->shard[i].error);
        if (s->shard[i].damage)
            fprintf(stderr, "ticdata index: warning: %s: damaged shard: %s; the samples before are counted\n",
                    s->shard[i].path, s->shard[i].damage);
    }
    for (int from = 0, to; from < s->count; from = to) {
        const Shard *first = &s->shard[from];
        for (to = from + 1; to < s->count; to++) {
            const Shard *next = &s->shard[to];
            if (next->folder_size != first->folder_size || memcmp(next->path, first->path, first->folder_size))
                break;
        }
        TRY(write_folder(first, to - from));
    }
    return TIC_OK;
}

/* ---- uids and years */

static TicStatus write_uids(const Shards *s, const char *folder)
{
    TicUidShard *shard = tic_alloc((size_t)s->count * sizeof *shard);
    int64_t all = 0, without = 0;
    for (int i = 0; i < s->count; i++) {
        const Shard *from = &s->shard[i];
        struct stat st;
        shard[i] = (TicUidShard){ .name = from->path + strlen(folder) + 1, .bytes = stat(from->path, &st) ? 0 : st.st_size, .uid = from->uid,
                                  .samples = from->samples };
        for (int64_t k = 0; k < from->samples; k++)
            without += !from->uid[k].high && !from->uid[k].low;
        all += from->samples;
    }
    TicStatus status = tic_uid_index_write(folder, shard, s->count);
    if (!status)
        printf("%s/uids.index: %lld samples in %d shards, %lld of them without a uid\n", folder, (long long)all, s->count, (long long)without);
    free(shard);
    return status;
}

static TicStatus write_year(const Shards *s, const char *out, int year, int64_t n)
{
    Uid *uid = tic_alloc((size_t)n * sizeof *uid);
    int64_t at = 0;
    for (int i = 0; i < s->count; i++)
        for (int64_t k = 0; k < s->shard[i].samples; k++)
            if (s->shard[i].year[k] == year && (s->shard[i].uid[k].high || s->shard[i].uid[k].low))
                uid[at++] = s->shard[i].uid[k];
    char *path = tic_format("%s/%d.npy", out, year);
    TicStatus status = npy_write_uids(path, uid, (size_t)at);
    if (!status)
        printf("%s: %lld uid%s\n", path, (long long)at, at == 1 ? "" : "s");
    free(path);
    free(uid);
    return status;
}

static TicStatus write_years(const Shards *s, const char *out)
{
    int64_t count[LAST_YEAR + 1] = { 0 }, timeless = 0, found = 0;
    for (int i = 0; i < s->count; i++) {
        for (int64_t k = 0; k < s->shard[i].samples; k++) {
            bool has = s->shard[i].uid[k].high || s->shard[i].uid[k].low;
            count[s->shard[i].year[k]] += has;
            timeless += !s->shard[i].year[k];
        }
    }
    TRY(tic_make_dirs(out));
    for (int year = FIRST_YEAR; year <= LAST_YEAR; year++) {
        found += count[year];
        if (count[year])
            TRY(write_year(s, out, year, count[year]));
    }
    if (timeless)
        printf("left out: %lld sample%s without a time\n", (long long)timeless, timeless == 1 ? "" : "s");
    return found ? TIC_OK
                 : tic_fail(TIC_USER, "no sample tells a uid and a time in \"%s\"; --field NAME names another member of its json", s->field);
}

static TicStatus index_folder(const char *dir, int threads, bool uids, const char *years, const char *field)
{
    Shards s = { .count = 0, .uids = uids || years, .field = years ? field : NULL };
    char *plain = tic_strdup(dir);
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = 0;
    TicStatus status = list(&s, plain, 0);
    if (!status && !s.count)
        status = tic_fail(TIC_USER, "%s: no .tar shard in this folder or below it", dir);
    if (!status) {
        count_all(&s, threads);
        status = write_all(&s);
    }
    if (!status && s.uids)
        status = write_uids(&s, plain);
    if (!status && years)
        status = write_years(&s, years);
    for (int i = 0; i < s.count; i++) {
        free(s.shard[i].path);
        free(s.shard[i].uid);
        free(s.shard[i].year);
        free(s.shard[i].damage);
        free(s.shard[i].error);
    }
    free(s.shard);
    free(plain);
    return status;
}

/* ---- command line */

enum { THREADS, UIDS, BY_YEAR, FIELD, HELP, VERSION, N_FLAGS };
static const Flag flags[N_FLAGS] = {
    [THREADS] = { "threads", "N", "shards read at once (one for each processor, at most 8)" },
    [UIDS] = { "uids", NULL, "also write DIR/uids.index: the uid of every sample, for years as lists of uids" },
    [BY_YEAR] = { "years", "OUT", "and lists of uids, OUT/YEAR.npy, by the time that each sample's json tells" },
    [FIELD] = { "field", "NAME", "the member of KEY.json that has the time (timestamp)" },
    [HELP] = { "help", NULL, "this text" },
    [VERSION] = { "version", NULL, "the version" },
};

static TicStatus run(const char *const *values, const char *dir)
{
    int64_t threads = tic_processors(0);
    threads = threads > 8 ? 8 : threads;
    if (!dir || !*dir)
        return tic_fail(TIC_USER, "DIR is missing: the folder whose shards are counted");
    if (values[THREADS])
        TRY(args_number("--threads", values[THREADS], 1, MAX_THREADS, &threads));
    if (values[FIELD] && (!values[BY_YEAR] || !*values[FIELD]))
        return tic_fail(TIC_USER, "--field: names a member of KEY.json for --years OUT");
    return index_folder(dir, (int)threads, values[UIDS] != NULL, values[BY_YEAR], values[FIELD] ? values[FIELD] : "timestamp");
}

int index_main(int argc, char **argv)
{
    const char *values[N_FLAGS], *dir;
    TicStatus status = args_parse(flags, N_FLAGS, argc, argv, values, &dir);
    if (!status && values[HELP]) {
        printf("ticdata index DIR [FLAGS]: counts the samples of every .tar in DIR and the folders below it, and\n"
               "writes them to a sizes.json beside the shards. A sizes.json that is there is replaced.\n\n");
        args_help(stdout, flags, N_FLAGS);
    } else if (!status && values[VERSION]) {
        puts("ticdata " TICDATA_VERSION);
    } else if (!status) {
        status = run(values, dir);
    }
    return args_exit("ticdata index", status);
}
