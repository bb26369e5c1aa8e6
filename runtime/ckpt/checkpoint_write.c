/* checkpoint_write.c -- see checkpoint.h: the writing half. The pickle is made first; while it is made, each tensor
 * is given the next storage number and remembered; then the archive is written in one pass. */
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"
#include "ckpt/zip.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The folder inside the archive. Any is fine for torch, which names it after the file; a fixed one keeps the bytes
 * independent of the path. */
#define ROOT "archive"

typedef struct { const float *data; int64_t count; } Storage;

typedef struct {
    TicPickler pickle;
    Storage *storage;
    int64_t count, room;
    float step;                  /* every parameter's own `step`, all with this value */
} Draft;

static void str_item(TicPickler *p, const char *key, const char *v)
{
    tic_pickle_str(p, key);
    tic_pickle_str(p, v);
}

static void int_item(TicPickler *p, const char *key, int64_t v)
{
    tic_pickle_str(p, key);
    tic_pickle_int(p, v);
}

static void float_item(TicPickler *p, const char *key, double v)
{
    tic_pickle_str(p, key);
    tic_pickle_float(p, v);
}

static void tensor(Draft *d, int rank, const int64_t *shape, const float *data)
{
    int64_t count = 0;
    tic_shape_count(rank, shape, &count);
    if (d->count == d->room) {
        d->room = d->room ? 2 * d->room : 64;
        d->storage = tic_realloc(d->storage, (size_t)d->room * sizeof *d->storage);
    }
    d->storage[d->count] = (Storage){ data, count };
    tic_pickle_tensor(&d->pickle, d->count++, rank, shape);
}

static void state_dict(Draft *d, const TicCheckpointContents *c)
{
    tic_pickle_ordered_dict(&d->pickle);
    tic_pickle_mark(&d->pickle);
    for (int i = 0; i < c->n_tensors; i++) {
        tic_pickle_str(&d->pickle, c->tensor[i].name);
        tensor(d, c->tensor[i].rank, c->tensor[i].shape, c->tensor[i].data);
    }
    tic_pickle_set_items(&d->pickle);
}

/* Each `step` is a tensor with a storage of its own: torch counts it up in place, so a shared one would run ahead. */
static void optimizer_state(Draft *d, const TicNamedTensor *t, int64_t id)
{
    tic_pickle_int(&d->pickle, id);
    tic_pickle_dict(&d->pickle);
    tic_pickle_mark(&d->pickle);
    tic_pickle_str(&d->pickle, "step");
    tensor(d, 0, NULL, &d->step);
    for (int s = 0; s < TIC_TENSOR_STATES && t->state[s].role; s++) {
        tic_pickle_str(&d->pickle, t->state[s].role);
        tensor(d, t->rank, t->shape, t->state[s].data);
    }
    tic_pickle_set_items(&d->pickle);
}

/* The keys that AdamW of every torch version may look for; versions ignore those that are not theirs. */
static void param_group(Draft *d, const TicCheckpointContents *c, bool decay, int64_t *id)
{
    static const char *const off[] = { "amsgrad", "maximize", "capturable", "differentiable" };
    TicPickler *p = &d->pickle;
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    float_item(p, "weight_decay", decay ? c->weight_decay : 0);
    float_item(p, "lr", c->lr);
    tic_pickle_str(p, "betas");
    tic_pickle_mark(p);
    tic_pickle_float(p, c->beta1);
    tic_pickle_float(p, c->beta2);
    tic_pickle_tuple(p);
    float_item(p, "eps", c->eps);
    for (size_t i = 0; i < TIC_LEN(off); i++) {
        tic_pickle_str(p, off[i]);
        tic_pickle_bool(p, false);
    }
    tic_pickle_str(p, "foreach");
    tic_pickle_none(p);
    tic_pickle_str(p, "fused");
    tic_pickle_none(p);
    tic_pickle_str(p, "param_names");
    tic_pickle_list(p);
    tic_pickle_mark(p);
    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensor[i].decay == decay)
            tic_pickle_str(p, c->tensor[i].name);
    tic_pickle_appends(p);
    tic_pickle_str(p, "params");
    tic_pickle_list(p);
    tic_pickle_mark(p);
    for (int i = 0; i < c->n_tensors; i++)
        if (c->tensor[i].decay == decay)
            tic_pickle_int(p, (*id)++);
    tic_pickle_appends(p);
    tic_pickle_set_items(p);
}

static void optimizer(Draft *d, const TicCheckpointContents *c)
{
    TicPickler *p = &d->pickle;
    int64_t id = 0;
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    tic_pickle_str(p, "state");
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    for (int decay = 0; decay < 2; decay++) {
        for (int i = 0; i < c->n_tensors; i++) {
            if (c->tensor[i].decay != (decay == 1))
                continue;
            if (c->tensor[i].state[0].role)
                optimizer_state(d, &c->tensor[i], id);
            id++;
        }
    }
    tic_pickle_set_items(p);
    tic_pickle_str(p, "param_groups");
    tic_pickle_list(p);
    tic_pickle_mark(p);
    id = 0;
    param_group(d, c, false, &id);
    param_group(d, c, true, &id);
    tic_pickle_appends(p);
    tic_pickle_set_items(p);
}

static void own_values(TicPickler *p, const TicCheckpointContents *c)
{
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    for (int i = 0; i < c->n_meta; i++) {
        const TicMeta *v = &c->meta[i];
        switch (v->kind) {
        case TIC_META_INT: int_item(p, v->key, v->i); break;
        case TIC_META_FLOAT: float_item(p, v->key, v->f); break;
        case TIC_META_STR: str_item(p, v->key, v->s); break;
        }
    }
    tic_pickle_set_items(p);
}

static void draft(Draft *d, const TicCheckpointContents *c)
{
    TicPickler *p = &d->pickle;
    bool has_state = false;
    for (int i = 0; i < c->n_tensors; i++)
        has_state |= c->tensor[i].state[0].role != NULL;
    *d = (Draft){ .step = (float)c->step };
    tic_pickle_begin(p);
    if (c->bare) {
        state_dict(d, c);
        tic_pickle_end(p);
        return;
    }
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    int_item(p, "epoch", c->epoch);
    str_item(p, "name", c->name ? c->name : "");
    tic_pickle_str(p, "state_dict");
    state_dict(d, c);
    if (has_state) {
        tic_pickle_str(p, "optimizer");
        optimizer(d, c);
    }
    int_item(p, "global_step", c->global_step);
    int_item(p, "samples_seen", c->samples_seen);
    tic_pickle_str(p, "ticc");
    own_values(p, c);
    tic_pickle_set_items(p);
    tic_pickle_end(p);
}

static TicStatus write_archive(TicZipWriter *z, const Draft *d)
{
    char name[64];
    TRY(tic_zip_add(z, ROOT "/data.pkl", d->pickle.data, d->pickle.n));
    TRY(tic_zip_add(z, ROOT "/byteorder", "little", 6));
    for (int64_t i = 0; i < d->count; i++) {
        snprintf(name, sizeof name, ROOT "/data/%" PRId64, i);
        TRY(tic_zip_add(z, name, d->storage[i].data, (uint64_t)d->storage[i].count * sizeof(float)));
    }
    return tic_zip_add(z, ROOT "/version", "3\n", 2);
}

static TicStatus check_text(const char *path, const char *text)
{
    char shown[80];
    size_t n = text ? strlen(text) : 0;
    if (!tic_utf8_valid(text, n))
        return tic_fail(TIC_USER, "%s: the text '%s' is not valid UTF-8", path, tic_name_text(text, n, shown));
    return TIC_OK;
}

static int by_text(const void *a, const void *b) { return strcmp(*(const char *const *)a, *(const char *const *)b); }

static TicStatus check_names(const char *path, const TicCheckpointContents *c)
{
    const char **name = tic_alloc((size_t)c->n_tensors * sizeof *name), *twice = NULL;
    for (int i = 0; i < c->n_tensors; i++)
        name[i] = c->tensor[i].name;
    qsort(name, (size_t)c->n_tensors, sizeof *name, by_text);
    for (int i = 1; i < c->n_tensors; i++)
        if (!strcmp(name[i - 1], name[i]))
            twice = name[i];
    free(name);
    return twice ? tic_fail(TIC_BUG, "%s: two tensors are called %s", path, twice) : TIC_OK;
}

static TicStatus check(const char *path, const TicCheckpointContents *c)
{
    TRY(check_text(path, c->name));
    for (int i = 0; i < c->n_tensors; i++) {
        const TicNamedTensor *t = &c->tensor[i];
        int64_t count;
        TRY(check_text(path, t->name));
        if (t->rank < 0 || t->rank > TIC_MAX_RANK || !tic_shape_count(t->rank, t->shape, &count) ||
            count > INT64_MAX / (int64_t)sizeof(float))
            return tic_fail(TIC_BUG, "%s: tensor %s has no possible shape", path, t->name);
    }
    for (int i = 0; i < c->n_meta; i++) {
        TRY(check_text(path, c->meta[i].key));
        if (c->meta[i].kind == TIC_META_STR)
            TRY(check_text(path, c->meta[i].s));
    }
    return check_names(path, c);
}

TicStatus tic_checkpoint_write(const char *path, const TicCheckpointContents *c)
{
    TRY(check(path, c));
    TicSink sink;
    TRY(tic_sink_open(&sink, path));
    Draft d;
    draft(&d, c);
    TicZipWriter z;
    tic_zip_begin(&z, &sink);
    TicStatus status = write_archive(&z, &d);
    if (!status)
        status = tic_zip_end(&z);
    else
        tic_zip_drop(&z);
    if (!status)
        status = tic_sink_commit(&sink);
    else
        tic_sink_abandon(&sink);
    tic_pickle_free(&d.pickle);
    free(d.storage);
    return status;
}
