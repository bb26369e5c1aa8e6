/* checkpoint_hf.c -- a file in the layout of Hugging Face's CLIPModel, seen as OpenCLIP's: three tensors become one, two
 * are read across. Nothing is copied before values are asked for. */
#include "ckpt/checkpoint_impl.h"
#include "ckpt/hf.h"
#include <stdlib.h>
#include <string.h>

static bool is_hf(const TicCheckpoint *ck)
{
    for (int i = 0; i < ck->count; i++)
        if (!strncmp(ck->tensor[i].name, "text_model.", 11) || !strncmp(ck->tensor[i].name, "vision_model.", 13))
            return true;
    return false;
}

static void exchange_axes(FileTensor *t)
{
    int64_t n = t->shape[0], stride = t->stride[0];
    t->shape[0] = t->shape[1];
    t->stride[0] = t->stride[1];
    t->shape[1] = n;
    t->stride[1] = stride;
}

static FileTensor *find_made(TicCheckpoint *ck, const char *name)
{
    for (int i = ck->count; i-- > 0;)    /* the pieces of a layer stand near each other */
        if (!strcmp(ck->tensor[i].name, name))
            return &ck->tensor[i];
    return NULL;
}

static TicStatus unlike(const TicCheckpoint *ck, const char *name)
{
    return tic_fail(TIC_USER, "%s: the q, k and v projections that make %s are not three tensors of one shape and type", ck->source.label, name);
}

/* q, k or v: the first of them opens the tensor, the others join it. */
static TicStatus join(TicCheckpoint *ck, const FileTensor *from, const char *name, int part)
{
    FileTensor *t = find_made(ck, name);
    if (!t) {
        t = &ck->tensor[ck->count++];
        *t = (FileTensor){ .name = name, .dtype = from->dtype, .rank = from->rank };
        memcpy(t->shape, from->shape, sizeof t->shape);
        if (from->rank && tic_mul_overflow(3, from->shape[0], &t->shape[0]))
            return unlike(ck, name);
    }
    bool same = from->rank > 0 && t->rank == from->rank && t->dtype == from->dtype && t->shape[0] / 3 == from->shape[0] && !t->part[part];
    for (int k = 1; k < from->rank; k++)
        same &= t->shape[k] == from->shape[k];
    if (!same)
        return unlike(ck, name);
    t->part[part] = from;
    return TIC_OK;
}

TicStatus tic_checkpoint_adopt_hf(TicCheckpoint *ck)
{
    if (!is_hf(ck))
        return TIC_OK;
    int n = ck->count;
    ck->foreign = ck->tensor;
    ck->tensor = tic_alloc((size_t)n * sizeof *ck->tensor);
    ck->renamed = tic_alloc((size_t)n * sizeof *ck->renamed);
    ck->count = 0;
    for (int i = 0; i < n; i++) {
        const FileTensor *from = &ck->foreign[i];
        TicHfNames theirs;
        int part;
        bool across;
        size_t length = strlen(from->name);
        if (length > 13 && !strcmp(from->name + length - 13, ".position_ids"))
            continue;                    /* older files keep the numbers 0, 1, 2.. */
        if (!tic_hf_to_openclip(from->name, ck->renamed[i], &part, &across)) {
            ck->tensor[ck->count++] = *from;
        } else if (tic_hf_from_openclip(ck->renamed[i], &theirs) && theirs.parts > 1) {
            TRY(join(ck, from, ck->renamed[i], part));
        } else {
            FileTensor *t = &ck->tensor[ck->count++];
            *t = *from;
            t->name = ck->renamed[i];
            if (across && t->rank == 2)
                exchange_axes(t);
        }
    }
    for (int i = 0; i < ck->count; i++) {
        const FileTensor *t = &ck->tensor[i];
        if ((t->part[0] || t->part[1] || t->part[2]) && !(t->part[0] && t->part[1] && t->part[2]))
            return unlike(ck, t->name);
    }
    return TIC_OK;
}
