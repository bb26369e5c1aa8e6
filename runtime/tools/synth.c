/* synth.c -- see synth.h. plan.c says what there is to see, scene.c paints it; here it becomes files. */
#define _GNU_SOURCE
#include "synth.h"
#include "args.h"
#include "commands.h"
#include "encode.h"
#include "npy.h"
#include "plan.h"
#include "scene.h"
#include "tarwrite.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum { TRAIN = 1, RETRIEVAL, LABELLED } SetKind;

/* One set: one kind, one year, one folder. */
typedef struct {
    const SynthOptions *options;
    SynthReport *report;
    SetKind kind;
    int year, samples, shards;
    char *folder;
    Uid *uids;                   /* [samples] */
    unsigned char *seen;         /* [PLAN_KEYS] a retrieval set: what has been shown already */
} Set;

static const char *const set_folders[] = { [TRAIN] = "train", [RETRIEVAL] = "eval/retrieval",
    [LABELLED] = "eval/datacompnet" };
static const char *const set_types[] = { [TRAIN] = "", [RETRIEVAL] = "retrieval", [LABELLED] = "classification" };

/* What a stream of random numbers is for; together with set and year it is the upper half of the counter. */
enum { FOR_PLAN = 1, FOR_PIXELS, FOR_UID };

static uint64_t stream_of(const Set *set, int purpose)
{
    return (uint64_t)set->kind << 32 | (uint64_t)set->year << 8 | (uint64_t)purpose;
}

/* ---- one sample ---------------------------------------------------------------------------------- */

static TicStatus draw_sample(Set *set, int index, Sample *s)
{
    Dice dice = dice_make(set->options->seed, stream_of(set, FOR_PLAN), (uint64_t)index);
    int tries = 0;
    do {
        if (++tries > 10000)
            return tic_fail(TIC_USER, "--eval-samples %d: year %d has no further distinct caption after %d",
                            set->samples, set->year, index);
        plan_sample(s, set->year, &dice);
    } while (set->kind == RETRIEVAL && set->seen[plan_key(s)]);
    if (set->kind == RETRIEVAL)
        set->seen[plan_key(s)] = 1;
    int lines = set->kind == RETRIEVAL && dice_chance(&dice, 0.1f) ? 2 : 1;
    plan_caption(s, &dice, lines, set->kind != TRAIN);
    TicRandom4 r = tic_philox(set->options->seed, (uint64_t)index, stream_of(set, FOR_UID));
    s->uid_high = (uint64_t)r.v[0] << 32 | r.v[1];
    s->uid_low = (uint64_t)r.v[2] << 32 | r.v[3];
    snprintf(s->uid, sizeof s->uid, "%016llx%016llx", (unsigned long long)s->uid_high, (unsigned long long)s->uid_low);
    return TIC_OK;
}

/* Everything beyond printable ASCII becomes \uXXXX, as the writers of real pools do. `text` is our own, valid UTF-8. */
static void json_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        uint32_t c = *p++;
        int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : c >= 0xc0 ? 1 : 0;
        if (more)
            c &= 0x3fu >> more;
        for (; more > 0; more--)
            c = c << 6 | (*p++ & 0x3fu);
        if (c == '"' || c == '\\')
            fprintf(f, "\\%c", (int)c);
        else if (c == '\n')
            fputs("\\n", f);
        else if (c >= 0x10000)
            fprintf(f, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10), 0xdc00 + ((c - 0x10000) & 0x3ff));
        else if (c < 0x20 || c > 0x7e)
            fprintf(f, "\\u%04x", c);
        else
            fputc((int)c, f);
    }
    fputc('"', f);
}

/* The metadata member. Some pictures tell of a larger original, as after a download with a size limit. */
static char *sample_json(const Sample *s, const char *key, size_t *size)
{
    char *text = NULL;
    FILE *f = open_memstream(&text, size);
    if (!f)
        abort();
    int times = s->uid_low % 4 == 0 ? 2 : 1;
    fprintf(f, "{\"uid\": \"%s\", \"key\": \"%s\", \"url\": \"https://example.org/%d/%02d/%s.%s\", \"caption\": ",
            s->uid, key, s->year, s->month, s->uid, s->png ? "png" : "jpg");
    json_string(f, s->caption);
    fprintf(f, ", \"timestamp\": %lld, \"month\": \"%d%02d\", \"width\": %d, \"height\": %d, \"original_width\": %d, "
            "\"original_height\": %d, \"status\": \"success\", \"error_message\": null}",
            (long long)s->seconds, s->year, s->month, s->width, s->height, s->width * times, s->height * times);
    fclose(f);
    return text;
}

static TicStatus encode_sample(const Set *set, int index, const Sample *s, unsigned char **picture, size_t *size)
{
    Dice dice = dice_make(set->options->seed, stream_of(set, FOR_PIXELS), (uint64_t)index);
    uint8_t *rgb = scene_paint(s, &dice);
    bool grey = s->color == PLAN_COLORS;
    TicStatus status = s->png ? encode_png(rgb, s->width, s->height, picture, size)
                              : encode_jpeg(rgb, s->width, s->height, grey, s->quality, s->progressive, picture, size);
    free(rgb);
    return status;
}

static TicStatus put_member(TarWriter *tar, const char *stem, const char *extension, const void *data, size_t size)
{
    char name[80];
    snprintf(name, sizeof name, "%s.%s", stem, extension);
    return tarwrite_member(tar, name, data, size);
}

/* Members go in the order of their extensions: cls, jpg, json, png, txt. */
static TicStatus write_members(const Set *set, TarWriter *tar, const Sample *s, const char *key, const void *picture,
                               size_t picture_size)
{
    char stem[64], label[16];
    snprintf(stem, sizeof stem, set->kind == TRAIN ? "%s" : "%s-0", set->kind == TRAIN ? key : s->uid);
    snprintf(label, sizeof label, "%d", s->thing);
    size_t json_size;
    char *json = sample_json(s, key, &json_size);
    TicStatus status = TIC_OK;
    if (set->kind == LABELLED)
        status = put_member(tar, stem, "cls", label, strlen(label));
    if (!status && !s->png)
        status = put_member(tar, stem, "jpg", picture, picture_size);
    if (!status)
        status = put_member(tar, stem, "json", json, json_size);
    if (!status && s->png)
        status = put_member(tar, stem, "png", picture, picture_size);
    if (!status)
        status = put_member(tar, stem, "txt", s->caption, strlen(s->caption));
    free(json);
    return status;
}

static TicStatus write_sample(Set *set, TarWriter *tar, int shard, int index)
{
    Sample s;
    TRY(draw_sample(set, index, &s));
    set->uids[index] = (Uid){ s.uid_high, s.uid_low };
    unsigned char *picture;
    size_t size;
    TRY(encode_sample(set, index, &s, &picture, &size));
    char key[32];
    snprintf(key, sizeof key, "%08d%04d", shard, index % set->options->shard_size);
    TicStatus status = write_members(set, tar, &s, key, picture, size);
    free(picture);
    return status;
}

/* ---- one set ------------------------------------------------------------------------------------- */

static TicStatus write_text(Set *set, const char *name, const char *text)
{
    char *path = tic_format("%s/%s", set->folder, name);
    TicStatus status = tic_write_file(path, text, strlen(text));
    set->report->bytes += (int64_t)strlen(text);
    free(path);
    return status;
}

/* Training shards are named as written by the downloader, evaluation shards as DataComp's tools rename them. */
static void shard_name(const Set *set, int shard, char *name, size_t room)
{
    snprintf(name, room, set->kind == TRAIN ? "%08d.tar" : "%d.tar", shard);
}

static int shard_samples(const Set *set, int shard)
{
    int left = set->samples - shard * set->options->shard_size;
    return left < set->options->shard_size ? left : set->options->shard_size;
}

static TicStatus write_shard(Set *set, int shard)
{
    char name[32];
    shard_name(set, shard, name, sizeof name);
    char *path = tic_format("%s/%s", set->folder, name);
    TarWriter *tar;
    TicStatus status = tarwrite_open(path, &tar);
    free(path);
    TRY(status);
    int n = shard_samples(set, shard);
    for (int i = 0; i < n; i++) {
        status = write_sample(set, tar, shard, shard * set->options->shard_size + i);
        if (status) {
            tarwrite_discard(tar);
            return status;
        }
    }
    int64_t bytes;
    TRY(tarwrite_close(tar, &bytes));
    set->report->bytes += bytes;
    set->report->shards++;
    char text[40];
    snprintf(name, sizeof name, set->kind == TRAIN ? "%08d_stats.json" : "%d.json", shard);
    snprintf(text, sizeof text, "{\"successes\": %d}", n);
    return write_text(set, name, text);
}

static TicStatus write_sizes(Set *set)
{
    char *text = NULL, name[32];
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    for (int i = 0; i < set->shards; i++) {
        shard_name(set, i, name, sizeof name);
        fprintf(f, "%s\"%s\": %d", i ? ", " : "{", name, shard_samples(set, i));
    }
    fputc('}', f);
    fclose(f);
    TicStatus status = write_text(set, "sizes.json", text);
    free(text);
    return status;
}

/* Arguments as strings, then counts: the form that DataComp's scripts cut numbers out of. */
static TicStatus write_meta(Set *set)
{
    char text[512];
    snprintf(text, sizeof text, "{\"samples\": \"%d\", \"shard_size\": \"%d\", \"seed\": \"%llu\", \"year\": \"%d\", "
             "\"processed_count\": %d, \"output_count\": %d, \"blur_count\": 0, \"blur_time\": 0, "
             "\"output_shard_count\": %d, \"worker_success\": 1, \"cwd\": \".\"}\n", set->samples,
             set->options->shard_size, (unsigned long long)set->options->seed, set->year, set->samples, set->samples,
             set->shards);
    return write_text(set, "meta.json", text);
}

static TicStatus write_ids(Set *set)
{
    char *path = tic_format("%s/sample_ids.npy", set->folder);
    TicStatus status = npy_write_uids(path, set->uids, (size_t)set->samples);
    free(path);
    set->report->bytes += 128 + 16 * (int64_t)set->samples;
    return status;
}

static TicStatus write_class_files(Set *set)
{
    static const char templates[] =
        "a photo of a {c}.\na picture of a {c}.\na photo of one {c}.\na photo of many {c}.\n{c}\n";
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    for (int i = 0; i < plan_things(); i++)
        fprintf(f, "%s\n", plan_thing_name(i));
    fclose(f);
    TicStatus status = write_text(set, "classnames.txt", text);
    free(text);
    TRY(status);
    return write_text(set, "zeroshot_classification_templates.txt", templates);
}

static TicStatus write_eval_files(Set *set)
{
    char text[32];
    snprintf(text, sizeof text, "%d\n", set->shards);
    TRY(write_text(set, "nshards.txt", text));
    snprintf(text, sizeof text, "%d\n", set->samples);
    TRY(write_text(set, "count.txt", text));
    snprintf(text, sizeof text, "%s\n", set_types[set->kind]);
    TRY(write_text(set, "dataset_type.txt", text));
    return set->kind == LABELLED ? write_class_files(set) : TIC_OK;
}

/* Is this a name that synth itself writes? Nothing else is ever removed. */
static bool is_ours(const char *name)
{
    static const char *const fixed[] = { "sizes.json", "meta.json", "sample_ids.npy", "nshards.txt", "count.txt",
                                         "dataset_type.txt", "classnames.txt",
                                         "zeroshot_classification_templates.txt" };
    static const char *const endings[] = { ".tar", ".tar.tmp", ".json", "_stats.json" };
    for (size_t i = 0; i < TIC_LEN(fixed); i++)
        if (!strcmp(name, fixed[i]))
            return true;
    size_t digits = strspn(name, "0123456789");
    for (size_t i = 0; digits && i < TIC_LEN(endings); i++)
        if (!strcmp(name + digits, endings[i]))
            return true;
    return false;
}

/* Old shards of a longer stream must not stay behind the new ones. */
static TicStatus clear_folder(const char *folder)
{
    DIR *d = opendir(folder);
    if (!d)
        return errno == ENOENT ? TIC_OK : tic_fail(TIC_IO, "%s: cannot open: %s", folder, strerror(errno));
    TicStatus status = TIC_OK;
    for (struct dirent *e; !status && (e = readdir(d));)
        if (is_ours(e->d_name) && unlinkat(dirfd(d), e->d_name, 0))
            status = tic_fail(TIC_IO, "%s/%s: cannot remove: %s", folder, e->d_name, strerror(errno));
    closedir(d);
    return status;
}

static TicStatus write_set_files(Set *set)
{
    TRY(clear_folder(set->folder));
    TRY(tic_make_dirs(set->folder));
    for (int i = 0; i < set->shards; i++)
        TRY(write_shard(set, i));
    TRY(write_sizes(set));
    TRY(write_meta(set));
    TRY(write_ids(set));
    return set->kind == TRAIN ? TIC_OK : write_eval_files(set);
}

static TicStatus write_set(const SynthOptions *o, SynthReport *report, SetKind kind, int year)
{
    Set set = { .options = o, .report = report, .kind = kind, .year = year };
    set.samples = kind == TRAIN ? o->samples_per_year : o->eval_samples;
    set.shards = (set.samples + o->shard_size - 1) / o->shard_size;
    set.folder = tic_format("%s/%s/%d", o->out, set_folders[kind], year);
    set.uids = tic_alloc((size_t)set.samples * sizeof *set.uids);
    set.seen = tic_alloc(PLAN_KEYS);
    TicStatus status = write_set_files(&set);
    free(set.folder);
    free(set.uids);
    free(set.seen);
    return status;
}

/* ---- the whole stream ---------------------------------------------------------------------------- */

static TicStatus check_folder(const SynthOptions *o)
{
    DIR *d = opendir(o->out);
    if (!d)
        return errno == ENOENT ? TIC_OK
                               : tic_fail(TIC_USER, "%s: not a folder to write into: %s", o->out, strerror(errno));
    bool empty = true;
    for (struct dirent *e; empty && (e = readdir(d));)
        empty = !strcmp(e->d_name, ".") || !strcmp(e->d_name, "..");
    closedir(d);
    if (!empty && !o->overwrite)
        return tic_fail(TIC_USER, "%s: the folder is not empty; name a new one, or give --overwrite", o->out);
    return TIC_OK;
}

TicStatus synth_write(const SynthOptions *o, SynthReport *report)
{
    *report = (SynthReport){ 0 };
    TRY(check_folder(o));
    for (int year = o->first_year; year <= o->last_year; year++) {
        TRY(write_set(o, report, TRAIN, year));
        report->training += o->samples_per_year;
        if (o->eval_samples) {
            TRY(write_set(o, report, RETRIEVAL, year));
            TRY(write_set(o, report, LABELLED, year));
            report->retrieval += o->eval_samples;
            report->labelled += o->eval_samples;
        }
        report->years++;
    }
    return TIC_OK;
}

/* ---- command line -------------------------------------------------------------------------------- */

enum { OUT, SAMPLES, EVAL_SAMPLES, SHARD_SIZE, YEARS, SEED, OVERWRITE, HELP, VERSION, N_FLAGS };
static const Flag flags[N_FLAGS] = {
    [OUT] = { "out", "DIR", "where to write (needed); made if missing" },
    [SAMPLES] = { "samples-per-year", "N", "training pairs a year (400)" },
    [EVAL_SAMPLES] = { "eval-samples", "N", "pairs in each evaluation set of a year (100); 0: none" },
    [SHARD_SIZE] = { "shard-size", "N", "pairs in a shard (100)" },
    [YEARS] = { "years", "A..B", "one year or a range within 2014..2022 (all)" },
    [SEED] = { "seed", "N", "another seed, another stream (0)" },
    [OVERWRITE] = { "overwrite", NULL,
        "write into a folder that has content: replaces what synth made of these years" },
    [HELP] = { "help", NULL, "this text" },
    [VERSION] = { "version", NULL, "the version" },
};

static TicStatus read_years(const char *text, int *first, int *last)
{
    char from[16];
    const char *dots = strstr(text, "..");
    snprintf(from, sizeof from, "%.*s", dots ? (int)(dots - text) : (int)strlen(text), text);
    int64_t a, b;
    TRY(args_number("--years", from, PLAN_FIRST_YEAR, PLAN_LAST_YEAR, &a));
    TRY(args_number("--years", dots ? dots + 2 : from, PLAN_FIRST_YEAR, PLAN_LAST_YEAR, &b));
    if (a > b)
        return tic_fail(TIC_USER, "--years %s: the first year comes after the last", text);
    *first = (int)a;
    *last = (int)b;
    return TIC_OK;
}

static TicStatus read_int(const char *const *values, int flag, int64_t low, int64_t high, int *out)
{
    if (!values[flag])
        return TIC_OK;
    char *what = tic_format("--%s", flags[flag].name);
    int64_t v = 0;
    TicStatus status = args_number(what, values[flag], low, high, &v);
    free(what);
    TRY(status);
    *out = (int)v;
    return TIC_OK;
}

static TicStatus read_options(const char *const *values, SynthOptions *o)
{
    if (!values[OUT] || !*values[OUT])
        return tic_fail(TIC_USER, "--out DIR is missing: where to write");
    o->out = values[OUT];
    o->overwrite = values[OVERWRITE] != NULL;
    TRY(read_int(values, SAMPLES, 1, 1000000, &o->samples_per_year));
    TRY(read_int(values, EVAL_SAMPLES, 0, 2000, &o->eval_samples));
    TRY(read_int(values, SHARD_SIZE, 1, 10000, &o->shard_size));
    int64_t seed = 0;
    if (values[SEED])
        TRY(args_number("--seed", values[SEED], 0, INT64_MAX, &seed));
    o->seed = (uint64_t)seed;
    return values[YEARS] ? read_years(values[YEARS], &o->first_year, &o->last_year) : TIC_OK;
}

static TicStatus run(const char *const *values)
{
    SynthOptions o = { .samples_per_year = 400, .eval_samples = 100, .shard_size = 100,
                       .first_year = PLAN_FIRST_YEAR, .last_year = PLAN_LAST_YEAR };
    SynthReport r;
    double start = tic_now();
    TRY(read_options(values, &o));
    TRY(synth_write(&o, &r));
    printf("%s: %d year%s, %lld training pairs, %lld retrieval pairs, %lld labelled pictures; "
           "%lld shards, %.1f MB, %.1f s\n", o.out, r.years, r.years == 1 ? "" : "s", (long long)r.training,
           (long long)r.retrieval, (long long)r.labelled, (long long)r.shards, (double)r.bytes / 1e6,
           tic_now() - start);
    return TIC_OK;
}

int synth_main(int argc, char **argv)
{
    const char *values[N_FLAGS];
    TicStatus status = args_parse(flags, N_FLAGS, argc, argv, values, NULL);
    if (!status && values[HELP]) {
        printf("ticdata synth --out DIR [FLAGS]: draws an image-text stream for the years 2014 to 2022 whose\n"
               "things, styles and words shift from year to year, with evaluation sets for each year.\n\n");
        args_help(stdout, flags, N_FLAGS);
    } else if (!status && values[VERSION]) {
        puts("ticdata " TICDATA_VERSION);
    } else if (!status) {
        status = run(values);
    }
    return args_exit("ticdata synth", status);
}
