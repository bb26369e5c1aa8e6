/* reshard.c -- `ticdata reshard`: reads a list of shards once, in order, and sorts their samples into OUT/YEAR/ by the
 * time that each sample's json tells; shards are cut anew at --shard-size samples, so one command splits and merges.
 *
 * The bytes written are a function of the input alone: every year has one open shard, to which its samples go in the
 * order in which they are met. All members of a sample are copied as they are. Their names stay, but when a sample
 * would follow one of the same key, which a reader takes for one sample: then "-1" goes behind its key. */
#define _GNU_SOURCE
#include "args.h"
#include "commands.h"
#include "data/index.h"
#include "data/json.h"
#include "shardread.h"
#include "sizes.h"
#include "subset.h"
#include "tarwrite.h"
#include "years.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { YEARS = LAST_YEAR - FIRST_YEAR + 1, MAX_JSON = 16 << 20 };

typedef struct {
    char *folder;
    TarWriter *tar;                /* the open shard; NULL: none */
    int in_shard, shards, room;
    char *last_key;                /* of the sample written last into the open shard */
    ShardSize *sizes;              /* [shards] */
    int64_t samples;
} Year;

typedef struct {
    const char *in, *out, *field;
    int64_t shard_size;
} Options;

typedef struct {
    Options o;
    Year year[YEARS];
    int64_t samples, no_json, no_time, too_large, strays;
} Reshard;

/* ---- the year of a sample */

/* *year: 0 when the sample has none; it is counted by reason. */
static TicStatus find_year(Reshard *x, ShardReader *r, const ShardSample *s, int *year)
{
    const ShardMember *json = NULL;
    *year = 0;
    for (int i = 0; i < s->count && !json; i++)
        if (!strcasecmp(shardread_extension(&s->member[i]), "json"))
            json = &s->member[i];
    if (!json || json->size > MAX_JSON) {
        x->no_json++;
        return TIC_OK;
    }
    char *text;
    TicJson *root;
    TRY(shardread_bytes(r, json, &text));
    if (tic_json_parse(text, (size_t)json->size, &root)) {
        tic_error_clear();
        x->no_json++;
    } else {
        *year = year_of_json(root, x->o.field);
        x->no_time += !*year;
    }
    tic_json_free(root);
    free(text);
    return TIC_OK;
}

/* ---- writing */

static TicStatus close_shard(Year *y)
{
    if (!y->tar)
        return TIC_OK;
    TarWriter *tar = y->tar;
    y->tar = NULL;
    free(y->last_key);
    y->last_key = NULL;
    return tarwrite_close(tar, NULL);
}

static TicStatus open_shard(Reshard *x, int year)
{
    Year *y = &x->year[year - FIRST_YEAR];
    if (!y->folder) {
        y->folder = tic_format("%s/%d", x->o.out, year);
        TRY(tic_make_dirs(y->folder));
    }
    if (y->shards == TIC_MAX_SHARDS)
        return tic_fail(TIC_USER, "%s: more than %d shards; a larger --shard-size wanted", y->folder, TIC_MAX_SHARDS);
    if (y->shards == y->room) {
        y->room = y->room ? y->room * 2 : 16;
        y->sizes = tic_realloc(y->sizes, (size_t)y->room * sizeof *y->sizes);
    }
    char *name = tic_format("%08d.tar", y->shards), *path = tic_format("%s/%s", y->folder, name);
    y->sizes[y->shards++] = (ShardSize){ name, 0 };
    TicStatus status = tarwrite_open(path, &y->tar);
    free(path);
    return status;
}

static TicStatus copy_member(TarWriter *tar, ShardReader *r, const ShardMember *m, const char *key)
{
    char *data, *name = tic_format("%s.%s", key, shardread_extension(m));
    TicStatus status = shardread_bytes(r, m, &data);
    if (!status)
        status = tarwrite_member(tar, name, data, (size_t)m->size);
    free(data);
    free(name);
    return status;
}

static TicStatus copy_sample(Reshard *x, ShardReader *r, const ShardSample *s, int year)
{
    Year *y = &x->year[year - FIRST_YEAR];
    if (y->tar && y->sizes[y->shards - 1].samples == x->o.shard_size)
        TRY(close_shard(y));
    if (!y->tar)
        TRY(open_shard(x, year));
    const ShardMember *first = s->member;
    char *key = tic_format("%.*s", (int)first->key_size, first->name);
    if (y->last_key && !strcmp(y->last_key, key)) {
        char *other = tic_format("%s-1", key);
        free(key);
        key = other;
    }
    free(y->last_key);
    y->last_key = key;
    for (int i = 0; i < s->count; i++)
        TRY(copy_member(y->tar, r, &s->member[i], key));
    y->sizes[y->shards - 1].samples++;
    y->samples++;
    return TIC_OK;
}

static TicStatus sort_sample(Reshard *x, ShardReader *r, const ShardSample *s)
{
    int year;
    x->samples++;
    for (int i = 0; i < s->count; i++) {
        if (s->member[i].size > TIC_MAX_MEMBER) {
            x->too_large++;
            return TIC_OK;
        }
    }
    TRY(find_year(x, r, s, &year));
    return year ? copy_sample(x, r, s, year) : TIC_OK;
}

static TicStatus sort_shard(Reshard *x, const char *path)
{
    ShardReader *r;
    const ShardSample *s;
    TicStatus status;
    TRY(shardread_open(path, &r));
    while (!(status = shardread_next(r, &s)))
        if ((status = sort_sample(x, r, s)))
            break;
    if (status == TIC_END && shardread_damage(r)) {
        fprintf(stderr, "ticdata reshard: warning: %s: damaged shard: %s; the samples before are used\n", path,
                shardread_damage(r));
    }
    x->strays += shardread_strays(r);
    shardread_close(r);
    return status == TIC_END ? TIC_OK : status;
}

/* ---- the whole */

static TicStatus finish(Reshard *x)
{
    int64_t kept = 0;
    for (int i = 0; i < YEARS; i++) {
        Year *y = &x->year[i];
        kept += y->samples;
        TRY(close_shard(y));
        if (y->shards)
            TRY(sizes_write(y->folder, y->sizes, y->shards));
    }
    if (!kept)
        return tic_fail(TIC_USER, "%s: none of its %lld samples tells its time: %lld without a usable json, %lld whose "
                        "json has no time in \"%s\"; --field NAME names another member", x->o.in, (long long)x->samples,
                        (long long)x->no_json, (long long)x->no_time, x->o.field);
    return TIC_OK;
}

static void tell(const Reshard *x)
{
    const struct { int64_t n; const char *what; } left_out[] = {
        { x->no_json, "without a usable json" }, { x->no_time, "without a time" }, { x->too_large, "too large" } };
    for (int i = 0; i < YEARS; i++) {
        const Year *y = &x->year[i];
        if (y->shards)
            printf("%s: %lld sample%s in %d shard%s\n", y->folder, (long long)y->samples, y->samples == 1 ? "" : "s",
                   y->shards, y->shards == 1 ? "" : "s");
    }
    for (size_t i = 0; i < TIC_LEN(left_out); i++) {
        long long n = left_out[i].n;
        if (n)
            printf("left out: %lld sample%s %s\n", n, n == 1 ? "" : "s", left_out[i].what);
    }
    if (x->strays)
        printf("left out: %lld member%s of no sample\n", (long long)x->strays, x->strays == 1 ? "" : "s");
}

static TicStatus check_out(const char *out)
{
    DIR *d = opendir(out);
    if (!d && errno == ENOENT)
        return TIC_OK;
    if (!d)
        return tic_fail(TIC_USER, "%s: not a folder to write into: %s", out, strerror(errno));
    bool empty = true;
    for (struct dirent *e; empty && (e = readdir(d));)
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    closedir(d);
    return empty ? TIC_OK : tic_fail(TIC_USER, "%s: the folder is not empty; name a new one", out);
}

static TicStatus reshard(Options o)
{
    TicShardList list = { 0 };
    TRY(check_out(o.out));
    TRY(tic_shards_add(&list, o.in));
    Reshard *x = tic_alloc(sizeof *x);
    x->o = o;
    TicStatus status = TIC_OK;
    for (int i = 0; i < list.count && !status; i++)
        status = sort_shard(x, list.shard[i].path);
    if (!status)
        status = finish(x);
    if (!status)
        tell(x);
    for (int i = 0; i < YEARS; i++) {
        Year *y = &x->year[i];
        tarwrite_discard(y->tar);
        for (int k = 0; k < y->shards; k++)
            free((char *)y->sizes[k].name);
        free(y->sizes);
        free(y->folder);
        free(y->last_key);
    }
    free(x);
    tic_shards_clear(&list);
    return status;
}

/* ---- command line */

enum { IN, OUT, SHARD_SIZE, FIELD, SUBSET, CLASSES, HELP, VERSION, N_FLAGS };
static const Flag flags[N_FLAGS] = {
    [IN] = { "in", "SHARDS", "what to read (needed): a folder, or shards like pool/{00000..00123}.tar::more" },
    [OUT] = { "out", "DIR", "where to write (needed): a new or empty folder" },
    [SHARD_SIZE] = { "shard-size", "N", "samples in a shard (10000)" },
    [FIELD] = { "field", "NAME", "the member of KEY.json that has the time (timestamp): seconds since 1970,\n"
                "                           2016, 201603, or a date that begins 2016-03, 2016/03 or 20160301" },
    [SUBSET] = { "subset", "FILE", "not by year: the samples of a .npy list of uids, into DIR itself, as DataComp's resharder" },
    [CLASSES] = { "cls-file", "FILE", "with --subset: a pickled dict of uids to classes, which become members KEY.cls" },
    [HELP] = { "help", NULL, "this text" },
    [VERSION] = { "version", NULL, "the version" },
};

static TicStatus run(const char *const *values)
{
    Options o = { .in = values[IN], .out = values[OUT], .field = "timestamp", .shard_size = 10000 };
    if (!o.in || !*o.in)
        return tic_fail(TIC_USER, "--in SHARDS is missing: what to read");
    if (!o.out || !*o.out)
        return tic_fail(TIC_USER, "--out DIR is missing: where to write");
    if (values[FIELD] && !*values[FIELD])
        return tic_fail(TIC_USER, "--field: the name of a member of KEY.json wanted");
    if (values[FIELD])
        o.field = values[FIELD];
    if (values[SHARD_SIZE])
        TRY(args_number("--shard-size", values[SHARD_SIZE], 1, 10000000, &o.shard_size));
    if (values[CLASSES] && !values[SUBSET])
        return tic_fail(TIC_USER, "--cls-file: goes with --subset FILE");
    if (values[SUBSET] && values[FIELD])
        return tic_fail(TIC_USER, "--subset chooses by uid; --field is for years");
    if (!values[SUBSET])
        return reshard(o);
    TRY(check_out(o.out));
    return subset_write(&(SubsetOptions){ .in = o.in, .out = o.out, .subset = values[SUBSET], .classes = values[CLASSES], .shard_size = o.shard_size });
}

int reshard_main(int argc, char **argv)
{
    const char *values[N_FLAGS];
    TicStatus status = args_parse(flags, N_FLAGS, argc, argv, values, NULL);
    if (!status && values[HELP]) {
        printf("ticdata reshard --in SHARDS --out DIR [FLAGS]: sorts samples by their year into DIR/YEAR/00000000.tar\n"
               "and on, with a sizes.json in each folder. The same input gives the same bytes.\n\n");
        args_help(stdout, flags, N_FLAGS);
    } else if (!status && values[VERSION]) {
        puts("ticdata " TICDATA_VERSION);
    } else if (!status) {
        status = run(values);
    }
    return args_exit("ticdata reshard", status);
}
