/* index.c -- `ticdata index DIR`: counts the samples of every shard in a folder and below it, and writes a sizes.json
 * beside them, so that training need not open each shard to know how many samples there are. A sizes.json that is
 * already there, right or wrong, is not believed but replaced. */
#define _GNU_SOURCE
#include "args.h"
#include "commands.h"
#include "data/shards.h"
#include "shardread.h"
#include "sizes.h"
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_THREADS = 64 };

typedef struct {
    char *path;
    size_t folder_size;            /* of the path's beginning, without the last '/' */
    int64_t samples;
    char *damage;                  /* what ended the count before its time, or NULL */
    TicStatus status;
    char *error;
} Shard;

typedef struct {
    Shard *shard;
    int count, room;
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

static TicStatus count(Shard *s)
{
    ShardReader *r;
    const ShardSample *sample;
    TicStatus status;
    TRY(shardread_open(s->path, &r));
    while (!(status = shardread_next(r, &sample)))
        s->samples++;
    if (shardread_damage(r))
        s->damage = tic_strdup(shardread_damage(r));
    shardread_close(r);
    return status == TIC_END ? TIC_OK : status;
}

static void *count_some(void *argument)
{
    Shards *s = argument;
    for (int i; (i = atomic_fetch_add(&s->next, 1)) < s->count;) {
        s->shard[i].status = count(&s->shard[i]);
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

static TicStatus index_folder(const char *dir, int threads)
{
    Shards s = { .count = 0 };
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
    for (int i = 0; i < s.count; i++) {
        free(s.shard[i].path);
        free(s.shard[i].damage);
        free(s.shard[i].error);
    }
    free(s.shard);
    free(plain);
    return status;
}

/* ---- command line */

enum { THREADS, HELP, VERSION, N_FLAGS };
static const Flag flags[N_FLAGS] = {
    [THREADS] = { "threads", "N", "shards read at once (one for each processor, at most 8)" },
    [HELP] = { "help", NULL, "this text" },
    [VERSION] = { "version", NULL, "the version" },
};

static TicStatus run(const char *const *values, const char *dir)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    int64_t threads = processors < 1 ? 1 : processors > 8 ? 8 : processors;
    if (!dir || !*dir)
        return tic_fail(TIC_USER, "DIR is missing: the folder whose shards are counted");
    if (values[THREADS])
        TRY(args_number("--threads", values[THREADS], 1, MAX_THREADS, &threads));
    return index_folder(dir, (int)threads);
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
