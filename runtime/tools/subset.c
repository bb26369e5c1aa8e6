/* subset.c -- see subset.h. */
#define _GNU_SOURCE
#include "subset.h"
#include "ckpt/pickle.h"
#include "data/index.h"
#include "data/json.h"
#include "data/views.h"
#include "npy.h"
#include "shardread.h"
#include "sizes.h"
#include "tarwrite.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { MAX_JSON = 16 << 20 };
static const int64_t MOST_BYTES = 3000000000;    /* of a shard, as DataComp cuts them */

typedef struct { TicUid uid; int64_t class; } Class;

typedef struct {
    const SubsetOptions *o;
    TicUid *uid;                 /* [n], sorted */
    int64_t n;
    unsigned char *found;        /* [n] */
    Class *class;                /* [n_classes], sorted by uid */
    int64_t n_classes;
    TarWriter *tar;
    ShardSize *sizes;            /* [shards] */
    int shards, room;
    int64_t bytes, read, written, without_uid, too_large, unclassed;
} Subset;

/* ---- classes */

static int by_uid(const void *a, const void *b) { return tic_uid_order(&((const Class *)a)->uid, &((const Class *)b)->uid); }

static TicStatus read_classes(Subset *x)
{
    char *data;
    size_t size;
    TicUnpickled u;
    TRY(tic_read_file(x->o->classes, SIZE_MAX / 2, &data, &size));
    TicStatus status = tic_unpickle(&u, data, size, x->o->classes);
    free(data);
    if (status)
        return status;
    const TicValue *dict = u.top;
    if (!tic_value_is(dict, TIC_VALUE_DICT))
        status = tic_fail(TIC_USER, "%s: a dict of uids to class numbers wanted", x->o->classes);
    x->class = status ? NULL : tic_alloc((dict->seq.n / 2 + 1) * sizeof *x->class);
    for (uint32_t i = 0; !status && i + 1 < dict->seq.n; i += 2) {
        const TicValue *key = dict->seq.item[i], *value = dict->seq.item[i + 1];
        Class *c = &x->class[x->n_classes++];
        if (!tic_value_is(key, TIC_VALUE_STR) || key->text.n != 32 || !tic_uid_parse(key->text.s, &c->uid) ||
            !tic_value_is(value, TIC_VALUE_INT) || value->i < 0)
            status = tic_fail(TIC_USER, "%s: entry %u is not a uid of 32 hex digits with a class number from 0 on", x->o->classes, i / 2);
        else
            c->class = value->i;
    }
    if (!status)
        qsort(x->class, (size_t)x->n_classes, sizeof *x->class, by_uid);
    tic_unpickle_free(&u);
    return status;
}

/* ---- writing */

static TicStatus side_file(const Subset *x, const char *name, char *text)
{
    char *path = tic_format("%s/%s", x->o->out, name);
    TicStatus status = tic_write_file(path, text, strlen(text));
    free(path);
    free(text);
    return status;
}

static TicStatus close_shard(Subset *x)
{
    if (!x->tar)
        return TIC_OK;
    TarWriter *tar = x->tar;
    char name[40];
    x->tar = NULL;
    TRY(tarwrite_close(tar, NULL));
    snprintf(name, sizeof name, "%08d_stats.json", x->shards - 1);
    return side_file(x, name, tic_format("{\"successes\": %" PRId64 "}", x->sizes[x->shards - 1].samples));
}

static TicStatus open_shard(Subset *x)
{
    if (x->shards == TIC_MAX_SHARDS)
        return tic_fail(TIC_USER, "%s: more than %d shards; a larger --shard-size wanted", x->o->out, TIC_MAX_SHARDS);
    if (x->shards == x->room) {
        x->room = x->room ? 2 * x->room : 16;
        x->sizes = tic_realloc(x->sizes, (size_t)x->room * sizeof *x->sizes);
    }
    char *name = tic_format("%08d.tar", x->shards), *path = tic_format("%s/%s", x->o->out, name);
    x->sizes[x->shards++] = (ShardSize){ name, 0 };
    x->bytes = 0;
    TicStatus status = tarwrite_open(path, &x->tar);
    free(path);
    return status;
}

static int by_extension(const void *a, const void *b)
{
    return strcmp(shardread_extension(*(const ShardMember *const *)a), shardread_extension(*(const ShardMember *const *)b));
}

/* One copy; `cls` goes where its extension belongs. */
static TicStatus write_copy(Subset *x, ShardReader *r, const ShardMember *const *member, int n, const TicUid *uid, int copy, const Class *class)
{
    if (x->tar && (x->sizes[x->shards - 1].samples == x->o->shard_size || x->bytes > MOST_BYTES))
        TRY(close_shard(x));
    if (!x->tar)
        TRY(open_shard(x));
    char key[64], text[24];
    snprintf(key, sizeof key, "%016" PRIx64 "%016" PRIx64 "-%d", uid->high, uid->low, copy);
    bool waits = class != NULL;
    for (int i = 0; i <= n; i++) {
        if (waits && (i == n || strcmp(shardread_extension(member[i]), "cls") > 0)) {
            char *name = tic_format("%s.cls", key);
            int size = snprintf(text, sizeof text, "%" PRId64, class->class);
            TicStatus status = tarwrite_member(x->tar, name, text, (size_t)size);
            free(name);
            TRY(status);
            waits = false;
        }
        if (i == n || (class && !strcmp(shardread_extension(member[i]), "cls")))
            continue;
        char *data, *name = tic_format("%s.%s", key, shardread_extension(member[i]));
        TicStatus status = shardread_bytes(r, member[i], &data);
        if (!status) {
            status = tarwrite_member(x->tar, name, data, (size_t)member[i]->size);
            free(data);
        }
        free(name);
        TRY(status);
        x->bytes += member[i]->size;
    }
    x->sizes[x->shards - 1].samples++;
    x->written++;
    return TIC_OK;
}

/* ---- reading */

static TicStatus uid_of(ShardReader *r, const ShardSample *s, TicUid *uid)
{
    *uid = (TicUid){ 0, 0 };
    for (int i = 0; i < s->count; i++) {
        if (strcasecmp(shardread_extension(&s->member[i]), "json") || s->member[i].size > MAX_JSON)
            continue;
        char *text;
        TicJson *root;
        TRY(shardread_bytes(r, &s->member[i], &text));
        if (tic_json_parse(text, (size_t)s->member[i].size, &root))
            tic_error_clear();
        const TicJson *n = tic_json_get(root, "uid");
        if (n && n->kind == TIC_JSON_STRING)
            tic_uid_parse(n->text, uid);
        tic_json_free(root);
        free(text);
        break;
    }
    return TIC_OK;
}

static TicStatus take_sample(Subset *x, ShardReader *r, const ShardSample *s)
{
    TicUid uid;
    const ShardMember *member[64];
    int n = s->count < 64 ? s->count : 64, copies = 0;
    TRY(uid_of(r, s, &uid));
    if (!uid.high && !uid.low) {
        x->without_uid++;
        return TIC_OK;
    }
    const TicUid *at = bsearch(&uid, x->uid, (size_t)x->n, sizeof uid, tic_uid_order);
    if (!at)
        return TIC_OK;
    while (at > x->uid && !tic_uid_order(at - 1, &uid))
        at--;
    for (int i = 0; i < n; i++) {
        member[i] = &s->member[i];
        if (member[i]->size > TIC_MAX_MEMBER) {
            x->too_large++;
            return TIC_OK;
        }
    }
    qsort(member, (size_t)n, sizeof *member, by_extension);
    const Class key = { .uid = uid }, *class = x->n_classes ? bsearch(&key, x->class, (size_t)x->n_classes, sizeof key, by_uid) : NULL;
    x->unclassed += x->o->classes && !class;
    for (; at < x->uid + x->n && !tic_uid_order(at, &uid); at++) {
        x->found[at - x->uid] = 1;
        TRY(write_copy(x, r, member, n, &uid, copies++, class));
    }
    return TIC_OK;
}

static TicStatus read_shard(Subset *x, const char *path)
{
    ShardReader *r;
    const ShardSample *s;
    TicStatus status;
    TRY(shardread_open(path, &r));
    while (!(status = shardread_next(r, &s))) {
        x->read++;
        if ((status = take_sample(x, r, s)))
            break;
    }
    if (status == TIC_END && shardread_damage(r))
        fprintf(stderr, "ticdata reshard: warning: %s: damaged shard: %s; the samples before are used\n", path, shardread_damage(r));
    shardread_close(r);
    return status == TIC_END ? TIC_OK : status;
}

/* ---- the whole */

/* Arguments as strings, then counts: the form that DataComp's scripts cut numbers out of. */
static TicStatus write_meta(const Subset *x)
{
    const SubsetOptions *o = x->o;
    char *in = tic_json_quote(o->in, strlen(o->in)), *subset = tic_json_quote(o->subset, strlen(o->subset));
    char *classes = tic_json_quote(o->classes ? o->classes : "None", strlen(o->classes ? o->classes : "None"));
    char *text = tic_format("{\"input_dir\": %s, \"subset_file\": %s, \"cls_file\": %s, \"shard_size\": \"%" PRId64 "\", "
                            "\"output_shard_format\": \"{:08d}.tar\", \"processed_count\": %" PRId64 ", \"output_count\": %" PRId64 ", "
                            "\"blur_count\": 0, \"blur_time\": 0, "
                            "\"output_shard_count\": %d, \"worker_success\": 1, \"cwd\": \".\"}\n", in, subset, classes, o->shard_size, x->read,
                            x->written, x->shards);
    free(in);
    free(subset);
    free(classes);
    return side_file(x, "meta.json", text);
}

static TicStatus finish(Subset *x)
{
    int64_t unknown = 0, repeated = 0;
    TRY(close_shard(x));
    if (!x->written)
        return tic_fail(TIC_USER, "%s: none of its %" PRId64 " uids is in %s", x->o->subset, x->n, x->o->in);
    for (int64_t i = 0; i < x->n; i++) {
        bool again = i && !tic_uid_order(&x->uid[i - 1], &x->uid[i]);
        repeated += again;
        unknown += !again && !x->found[i];
    }
    TRY(sizes_write(x->o->out, x->sizes, x->shards));
    TRY(write_meta(x));
    char *path = tic_format("%s/sample_ids.npy", x->o->out);
    TicStatus status = npy_write_uids(path, x->uid, (size_t)x->n);
    free(path);
    TRY(status);
    printf("%s: %" PRId64 " sample%s in %d shard%s, of %" PRId64 " read\n", x->o->out, x->written, x->written == 1 ? "" : "s", x->shards,
           x->shards == 1 ? "" : "s", x->read);
    printf("the list: %" PRId64 " uids, %" PRId64 " not found, %" PRId64 " listed again\n", x->n, unknown, repeated);
    if (x->without_uid)
        printf("left out: %" PRId64 " without a uid\n", x->without_uid);
    if (x->too_large)
        printf("left out: %" PRId64 " too large\n", x->too_large);
    if (x->unclassed)
        printf("without a class in %s: %" PRId64 "\n", x->o->classes, x->unclassed);
    return TIC_OK;
}

TicStatus subset_write(const SubsetOptions *o)
{
    Subset x = { .o = o };
    TicShardList list = { 0 };
    TicStatus status = tic_uids_read(o->subset, &x.uid, &x.n);
    x.found = tic_alloc((size_t)x.n + 1);
    if (!status && o->classes)
        status = read_classes(&x);
    if (!status)
        status = tic_shards_add(&list, o->in);
    if (!status)
        status = tic_make_dirs(o->out);
    for (int i = 0; i < list.count && !status; i++)
        status = read_shard(&x, list.shard[i].path);
    if (!status)
        status = finish(&x);
    tarwrite_discard(x.tar);
    for (int i = 0; i < x.shards; i++)
        free((char *)x.sizes[i].name);
    free(x.sizes);
    free(x.uid);
    free(x.found);
    free(x.class);
    tic_shards_clear(&list);
    return status;
}
