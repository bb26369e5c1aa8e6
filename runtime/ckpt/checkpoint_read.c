/* checkpoint_read.c -- see checkpoint.h: the reading half. Opening reads the index alone and checks that every
 * parameter lies inside the file; values are read when asked for. */
#include "ckpt/checkpoint_impl.h"
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ------------------------------------------------------------ tensors */

static int by_name(const void *a, const void *b)
{
    return strcmp((*(FileTensor *const *)a)->name, (*(FileTensor *const *)b)->name);
}

const FileTensor *tic_checkpoint_find(const TicCheckpoint *ck, const char *name)
{
    int lo = 0, hi = ck->count;
    while (lo < hi) {
        int mid = lo + (hi - lo) / 2, order = strcmp(name, ck->by_name[mid]->name);
        if (!order)
            return ck->by_name[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

static TicStatus bad_tensor(const TicCheckpoint *ck, const char *name, const char *what)
{
    char shown[80];
    return tic_fail(TIC_USER, "%s: tensor %s %s", ck->source.label, tic_name_text(name, strlen(name), shown), what);
}

static TicStatus index_names(TicCheckpoint *ck)
{
    TRY(tic_checkpoint_adopt_hf(ck));
    ck->by_name = tic_alloc((size_t)ck->count * sizeof *ck->by_name);
    for (int i = 0; i < ck->count; i++)
        ck->by_name[i] = &ck->tensor[i];
    qsort(ck->by_name, (size_t)ck->count, sizeof *ck->by_name, by_name);
    for (int i = 1; i < ck->count; i++)
        if (!strcmp(ck->by_name[i - 1]->name, ck->by_name[i]->name))
            return bad_tensor(ck, ck->by_name[i]->name, "appears twice");
    return TIC_OK;
}

/* DistributedDataParallel puts "module." before every name. */
static const char *plain_name(const char *name)
{
    return strncmp(name, "module.", 7) ? name : name + 7;
}

TicStatus tic_checkpoint_resolve(const TicCheckpoint *ck, const char *name, const TicTensorRef *ref, FileTensor *t)
{
    char *entry = tic_format("%s/data/%s", ck->root, ref->storage.key);
    const TicZipEntry *e = tic_zip_find(&ck->zip, entry);
    free(entry);
    if (!e)
        return bad_tensor(ck, name, "has no data in the archive");
    if ((uint64_t)ref->storage.count > e->size / (uint64_t)tic_stored[ref->storage.dtype].bytes)
        return bad_tensor(ck, name, "is larger than its data in the archive");
    *t = (FileTensor){ .name = name, .dtype = ref->storage.dtype, .rank = ref->rank, .offset = ref->offset };
    t->storage = *e;
    memcpy(t->shape, ref->shape, sizeof t->shape);
    for (int k = 0; k < ref->rank; k++)
        t->stride[k] = ref->shape[k] == 1 ? 0 : ref->stride[k];  /* of one element it means nothing, and may be any */
    return TIC_OK;
}

static TicStatus list_state_dict(TicCheckpoint *ck, const TicValue *dict)
{
    ck->tensor = tic_alloc(dict->seq.n / 2 * sizeof *ck->tensor);
    for (uint32_t i = 0; i < dict->seq.n; i += 2) {
        const TicValue *key = dict->seq.item[i], *v = dict->seq.item[i + 1];
        if (v->kind != TIC_VALUE_TENSOR)
            continue;                            /* OpenAI's files keep numbers beside the tensors */
        if (key->kind != TIC_VALUE_STR || memchr(key->text.s, 0, key->text.n))
            return tic_fail(TIC_USER, "%s: a tensor whose name is no text", ck->source.label);
        TRY(tic_checkpoint_resolve(ck, plain_name(key->text.s), v->tensor, &ck->tensor[ck->count]));
        ck->count++;
    }
    if (!ck->count)
        return tic_fail(TIC_USER, "%s: holds no tensors", ck->source.label);
    return index_names(ck);
}

/* ------------------------------------------------------------ opening */

/* Before torch 1.6 files were a sequence of pickles, the first of which is this number. */
static bool is_legacy(const unsigned char *head, size_t n)
{
    static const unsigned char magic[] = { 0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19 };
    return n >= 2 + sizeof magic && head[0] == 0x80 && !memcmp(head + 2, magic, sizeof magic);
}

static TicStatus find_root(TicCheckpoint *ck)
{
    const char *first = ck->zip.count ? ck->zip.entry[0].name : "", *slash = strchr(first, '/');
    if (!slash)
        return tic_fail(TIC_USER, "%s: an archive, but not one of torch's", ck->source.label);
    ck->root = tic_format("%.*s", (int)(slash - first), first);
    char *name = tic_format("%s/byteorder", ck->root), order[6] = "";
    const TicZipEntry *e = tic_zip_find(&ck->zip, name);
    free(name);
    if (!e)
        return TIC_OK;
    if (e->size == sizeof order)
        TRY(tic_zip_read(&ck->zip, e, order));
    return memcmp(order, "little", 6) ? tic_fail(TIC_USER, "%s: not little-endian", ck->source.label) : TIC_OK;
}

static TicStatus read_index(TicCheckpoint *ck)
{
    char *name = tic_format("%s/data.pkl", ck->root);
    const TicZipEntry *e = tic_zip_find(&ck->zip, name);
    free(name);
    if (!e)
        return tic_fail(TIC_USER, "%s: an archive without %s/data.pkl, so not a checkpoint of torch", ck->source.label,
                        ck->root);
    if (e->size > TIC_PICKLE_BYTES)
        return tic_fail(TIC_USER, "%s: its index takes %" PRIu64 " bytes; at most %d are read", ck->source.label,
                        e->size, TIC_PICKLE_BYTES);
    if (!tic_index_fits(e->size, ck->source.size))
        return tic_fail(TIC_USER, "%s: its index takes %" PRIu64 " of %" PRIu64 " bytes: not a checkpoint of torch", ck->source.label, e->size,
                        ck->source.size);
    unsigned char *data = tic_alloc(e->size);
    char *label = tic_format("%s: data.pkl", ck->source.label);
    TicStatus status = tic_zip_read(&ck->zip, e, data);
    if (!status)
        status = tic_unpickle(&ck->pickle, data, e->size, label);
    free(label);
    free(data);
    return status;
}

static TicStatus open_torch(TicCheckpoint *ck)
{
    TRY(tic_zip_open(&ck->zip, &ck->source));
    TRY(find_root(ck));
    TRY(read_index(ck));
    const TicValue *dict = tic_value_get(ck->pickle.top, "state_dict");
    if (!tic_value_is(dict, TIC_VALUE_DICT))
        dict = ck->pickle.top;
    if (!tic_value_is(dict, TIC_VALUE_DICT))
        return tic_fail(TIC_USER, "%s: holds no state_dict", ck->source.label);
    return list_state_dict(ck, dict);
}

static TicStatus open_safetensors(TicCheckpoint *ck)
{
    TRY(tic_safetensors_open(&ck->safe, &ck->source));
    ck->tensor = tic_alloc(ck->safe.count * sizeof *ck->tensor);
    for (size_t i = 0; i < ck->safe.count; i++) {
        const TicSafeTensor *s = &ck->safe.tensor[i];
        FileTensor *t = &ck->tensor[ck->count++];
        *t = (FileTensor){ .name = plain_name(s->name), .dtype = s->dtype, .rank = s->rank };
        t->storage = (TicZipEntry){ .name = s->name, .offset = s->offset, .size = s->size };
        int64_t stride = 1;
        for (int k = s->rank; k-- > 0;) {
            t->shape[k] = s->shape[k];
            t->stride[k] = stride;
            tic_mul_overflow(stride, s->shape[k], &stride);      /* can overflow only when there are no elements */
        }
    }
    return index_names(ck);
}

static TicStatus open_source(TicCheckpoint *ck)
{
    unsigned char head[16] = "";
    size_t n = ck->source.size < sizeof head ? ck->source.size : sizeof head;
    TRY(tic_bytes_read(&ck->source, 0, head, n));
    if (!n)
        return tic_fail(TIC_USER, "%s: is empty", ck->source.label);
    if (n >= 4 && !memcmp(head, "PK\3\4", 4))
        return open_torch(ck);
    if (is_legacy(head, n))
        return tic_fail(TIC_USER, "%s: written in torch's format from before version 1.6; load and save it once with "
                        "a newer torch", ck->source.label);
    if (tic_safetensors_detect(&ck->source))
        return open_safetensors(ck);
    return tic_fail(TIC_USER, "%s: neither a checkpoint of torch (a zip archive) nor safetensors", ck->source.label);
}

static TicStatus finish_open(TicCheckpoint *made, TicCheckpoint **ck)
{
    TicStatus status = open_source(made);
    if (status)
        tic_checkpoint_close(made);
    else
        *ck = made;
    return status;
}

/* A folder, of a run or of an exported model: which file in it may have been meant. */
static TicStatus refuse_folder(const char *path)
{
    static const char *const inside[] = { "checkpoints/epoch_latest.pt", "epoch_latest.pt", "open_clip_model.safetensors",
                                          "open_clip_pytorch_model.bin", "model.safetensors" };
    for (size_t i = 0; i < TIC_LEN(inside); i++) {
        char *file = tic_format("%s/%s", path, inside[i]);
        TicStatus status = access(file, F_OK) ? TIC_OK : tic_fail(TIC_USER, "%s: found a folder, wanted a checkpoint; it holds %s", path, file);
        free(file);
        TRY(status);
    }
    return tic_fail(TIC_USER, "%s: found a folder, wanted a checkpoint", path);
}

TicStatus tic_checkpoint_open(const char *path, TicCheckpoint **ck)
{
    TicBytes source;
    struct stat st;
    *ck = NULL;
    if (!stat(path, &st) && S_ISDIR(st.st_mode))
        return refuse_folder(path);
    TRY(tic_bytes_open(&source, path));
    TicCheckpoint *made = tic_alloc(sizeof *made);
    made->source = source;
    return finish_open(made, ck);
}

TicStatus tic_checkpoint_open_memory(const void *data, size_t size, const char *label, TicCheckpoint **ck)
{
    *ck = NULL;
    TicCheckpoint *made = tic_alloc(sizeof *made);
    tic_bytes_memory(&made->source, data, size, label);
    return finish_open(made, ck);
}

void tic_checkpoint_close(TicCheckpoint *ck)
{
    if (!ck)
        return;
    tic_zip_close(&ck->zip);
    tic_unpickle_free(&ck->pickle);
    tic_safetensors_close(&ck->safe);
    tic_bytes_close(&ck->source);
    free(ck->root);
    free(ck->tensor);
    free(ck->foreign);
    free(ck->renamed);
    free(ck->by_name);
    free(ck->cache);
    free(ck->no_state);
    free(ck->state);
    free(ck);
}

/* ------------------------------------------------------------ values */

int tic_checkpoint_count(const TicCheckpoint *ck) { return ck->count; }

TicCheckpointTensor tic_checkpoint_tensor(const TicCheckpoint *ck, int i)
{
    const FileTensor *t = &ck->tensor[i];
    TicCheckpointTensor out = { .name = t->name, .dtype = t->dtype, .rank = t->rank };
    memcpy(out.shape, t->shape, sizeof out.shape);
    return out;
}

/* Brings a whole storage into ck->cache, its checksum verified; what is there already is not read again. */
static TicStatus load_storage(TicCheckpoint *ck, const FileTensor *t)
{
    if (ck->cache && ck->cache_at == t->storage.offset && ck->cache_size == t->storage.size)
        return TIC_OK;
    free(ck->cache);
    ck->cache = tic_alloc(t->storage.size);
    ck->cache_at = t->storage.offset;
    ck->cache_size = t->storage.size;
    TicStatus status = ck->pickle.top ? tic_zip_read(&ck->zip, &t->storage, ck->cache)
                                      : tic_bytes_read(&ck->source, t->storage.offset, ck->cache, t->storage.size);
    if (status) {
        free(ck->cache);
        ck->cache = NULL;
    }
    return status;
}

/* Row-major over the shape, one element at a time from wherever the strides point; `at` follows the index. */
static void gather_strided(const FileTensor *t, const unsigned char *storage, int64_t count, float *out)
{
    int64_t index[TIC_MAX_RANK] = { 0 }, at = t->offset;
    int size = tic_stored[t->dtype].bytes;
    for (int64_t i = 0; i < count; i++) {
        out[i] = tic_stored_to_f32(t->dtype, storage + at * size);
        for (int k = t->rank; k-- > 0;) {
            at += t->stride[k];
            if (++index[k] < t->shape[k])
                break;
            at -= t->stride[k] * t->shape[k];
            index[k] = 0;
        }
    }
}

static bool is_contiguous(const FileTensor *t)
{
    int64_t stride = 1;
    for (int k = t->rank; k-- > 0; stride *= t->shape[k])
        if (t->shape[k] != 1 && t->stride[k] != stride)
            return false;
    return true;
}

TicStatus tic_checkpoint_gather(TicCheckpoint *ck, const FileTensor *t, int rank, const int64_t *shape, float *out)
{
    char have[128], want[128];
    if (rank != t->rank || (rank && memcmp(shape, t->shape, (size_t)rank * sizeof *shape)))
        return tic_fail(TIC_USER, "%s: tensor %s: the file has %s, wanted is %s", ck->source.label, t->name,
                        tic_shape_text(t->rank, t->shape, have, sizeof have),
                        tic_shape_text(rank, shape, want, sizeof want));
    if (!tic_stored_is_float(t->dtype))
        return tic_fail(TIC_USER, "%s: tensor %s: the file has %s, wanted is f32", ck->source.label, t->name,
                        tic_stored[t->dtype].name);
    int64_t count;
    if (!tic_shape_count(rank, shape, &count) || !count)
        return TIC_OK;
    for (int k = 0; t->part[0] && k < 3; k++)
        TRY(tic_checkpoint_gather(ck, t->part[k], rank, t->part[k]->shape, out + count / 3 * k));
    if (t->part[0])
        return TIC_OK;
    TRY(load_storage(ck, t));
    if (t->dtype == TIC_STORED_F32 && is_contiguous(t))
        memcpy(out, ck->cache + t->offset * (int64_t)sizeof(float), (size_t)count * sizeof(float));
    else
        gather_strided(t, ck->cache, count, out);
    return TIC_OK;
}

TicStatus tic_checkpoint_read(TicCheckpoint *ck, const char *name, int rank, const int64_t *shape, float *out)
{
    const FileTensor *t = tic_checkpoint_find(ck, name);
    if (!t)
        return tic_fail(TIC_USER, "%s: has no tensor %s", ck->source.label, name);
    return tic_checkpoint_gather(ck, t, rank, shape, out);
}

/* ------------------------------------------------------------ values beside the tensors */

/* The value of a part of the path: a text key, a number key, or a place in a list. */
static const TicValue *child(const TicValue *v, const char *part)
{
    char *end;
    const TicValue *found = tic_value_get(v, part);
    long n = strtol(part, &end, 10);
    if (found || !*part || *end || n < 0)
        return found;
    if (tic_value_is(v, TIC_VALUE_LIST) || tic_value_is(v, TIC_VALUE_TUPLE))
        return n < (long)v->seq.n ? v->seq.item[n] : NULL;
    for (uint32_t i = 0; tic_value_is(v, TIC_VALUE_DICT) && i < v->seq.n; i += 2)
        if (v->seq.item[i]->kind == TIC_VALUE_INT && v->seq.item[i]->i == n)
            found = v->seq.item[i + 1];
    return found;
}

static const TicValue *value_at(const TicCheckpoint *ck, const char *path)
{
    const TicValue *v = ck->pickle.top;
    char *copy = tic_strdup(path), *rest = copy;
    while (v && rest)
        v = child(v, strsep(&rest, "."));
    free(copy);
    return v;
}

bool tic_checkpoint_int(const TicCheckpoint *ck, const char *path, int64_t *v)
{
    const TicValue *found = value_at(ck, path);
    if (!tic_value_is(found, TIC_VALUE_INT))
        return false;
    *v = found->i;
    return true;
}

bool tic_checkpoint_float(const TicCheckpoint *ck, const char *path, double *v)
{
    const TicValue *found = value_at(ck, path);
    if (!tic_value_is(found, TIC_VALUE_FLOAT) && !tic_value_is(found, TIC_VALUE_INT))
        return false;
    *v = found->kind == TIC_VALUE_FLOAT ? found->f : (double)found->i;
    return true;
}

const char *tic_checkpoint_str(const TicCheckpoint *ck, const char *path)
{
    if (!ck->pickle.top)
        return tic_safetensors_meta(&ck->safe, path);
    const TicValue *found = value_at(ck, path);
    return tic_value_is(found, TIC_VALUE_STR) ? found->text.s : NULL;
}

/* ------------------------------------------------------------ comparing with a model */

/* How often one kind of misfit occurs, and its first case. */
typedef struct { int count; char first[400]; } Misfit;

static void note(Misfit *m, const char *text)
{
    if (!m->count++)
        snprintf(m->first, sizeof m->first, "%s", text);
}

static void compare(const FileTensor *t, const TicNamedTensor *e, Misfit *missing, Misfit *shape, Misfit *type)
{
    char text[400], name[80], have[120], want[120];
    tic_name_text(e->name, strlen(e->name), name);
    tic_shape_text(e->rank, e->shape, want, sizeof want);
    if (!t) {
        snprintf(text, sizeof text, "%s %s", name, want);
        note(missing, text);
    } else if (t->rank != e->rank || (e->rank && memcmp(t->shape, e->shape, (size_t)e->rank * sizeof *e->shape))) {
        tic_shape_text(t->rank, t->shape, have, sizeof have);
        snprintf(text, sizeof text, "%s: the file has %s, the model wants %s", name, have, want);
        note(shape, text);
    } else if (!tic_stored_is_float(t->dtype)) {
        snprintf(text, sizeof text, "%s is %s", name, tic_stored[t->dtype].name);
        note(type, text);
    }
}

static bool is_leftover(const char *name)
{
    static const char *const known[] = { "attn_mask", "input_resolution", "context_length", "vocab_size" };
    for (size_t i = 0; i < TIC_LEN(known); i++)
        if (!strcmp(name, known[i]))
            return true;
    return false;
}

static void find_unexpected(const TicCheckpoint *ck, const TicNamedTensor *expected, int n, Misfit *unexpected)
{
    char text[400], name[80], have[120];
    bool *known = tic_alloc((size_t)ck->count);
    for (int i = 0; i < n; i++) {
        const FileTensor *t = tic_checkpoint_find(ck, expected[i].name);
        if (t)
            known[t - ck->tensor] = true;
    }
    for (int i = 0; i < ck->count; i++) {
        const FileTensor *t = &ck->tensor[i];
        if (known[i] || is_leftover(t->name))
            continue;
        snprintf(text, sizeof text, "%s %s", tic_name_text(t->name, strlen(t->name), name),
                 tic_shape_text(t->rank, t->shape, have, sizeof have));
        note(unexpected, text);
    }
    free(known);
}

TicStatus tic_checkpoint_match(const TicCheckpoint *ck, const TicNamedTensor *expected, int n)
{
    enum { MISSING, UNEXPECTED, SHAPE, TYPE, KINDS };
    static const char *const kind[] = { "missing", "unexpected", "of another shape", "not floating point" };
    Misfit misfit[KINDS] = { 0 };
    for (int i = 0; i < n; i++)
        compare(tic_checkpoint_find(ck, expected[i].name), &expected[i], &misfit[MISSING], &misfit[SHAPE],
                &misfit[TYPE]);
    find_unexpected(ck, expected, n, &misfit[UNEXPECTED]);
    char text[KINDS * 480];
    size_t used = 0;
    for (int k = 0; k < KINDS; k++)
        if (misfit[k].count)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%d %s (first: %s)", used ? "; " : "",
                                     misfit[k].count, kind[k], misfit[k].first);
    return used ? tic_fail(TIC_USER, "%s does not fit the model: %s", ck->source.label, text) : TIC_OK;
}
