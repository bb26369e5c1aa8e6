/* sample.c -- see sample.h. */
#include "data/sample.h"
#include <stdlib.h>
#include <string.h>

void tic_decoder_init(TicDecoder *d, int image_size)
{
    *d = (TicDecoder){ .json = NULL };
    tic_picture_init(&d->picture, image_size);
}

void tic_decoder_free(TicDecoder *d)
{
    tic_sample_bytes_free(&d->bytes);
    tic_picture_free(&d->picture);
    tic_json_free(d->json);
}

/* Puts the shard and the key in front of a message about a sample. */
static TicStatus name_it(TicIndex *x, int shard, const TicSampleRef *ref, const char *why)
{
    char *text = tic_strdup(why);
    tic_error_clear();
    tic_fail(TIC_BAD_SAMPLE, "%s: %s: %s", tic_index_path(x, shard), tic_index_key(x, shard, ref), text);
    free(text);
    return TIC_BAD_SAMPLE;
}

TicStatus tic_decoder_read(TicDecoder *d, TicIndex *x, int shard, int64_t sample, const TicCrop *crop, TicRandom random,
                           TicSampleRef *ref, uint8_t *planes, TicSkip *reason)
{
    tic_json_free(d->json);
    d->json = NULL;
    *reason = TIC_SKIP_MISSING;
    TRY(tic_index_sample(x, shard, sample, ref));
    if (ref->has & TIC_TOO_LARGE) {
        *reason = TIC_SKIP_TOO_LARGE;
        return name_it(x, shard, ref, "a member is too large");
    }
    if (!(ref->has & TIC_HAS_IMAGE) && (ref->has & TIC_HAS_FOREIGN)) {
        *reason = TIC_SKIP_FOREIGN + ref->image_at;
        return name_it(x, shard, ref, tic_foreign_name((TicForeign)ref->image_at));
    }
    if (!(ref->has & TIC_HAS_IMAGE)) {
        *reason = TIC_SKIP_NO_IMAGE;
        return name_it(x, shard, ref, "no jpg, jpeg, png or webp member");
    }
    TRY(tic_index_read(x, shard, ref, &d->bytes));
    *reason = TIC_SKIP_BAD_IMAGE;
    TicStatus status = tic_picture_square(&d->picture, d->bytes.image, d->bytes.image_size, crop, random, planes);
    TicForeign kind = status == TIC_BAD_SAMPLE ? tic_foreign_of(d->bytes.image, d->bytes.image_size) : TIC_FOREIGN_NONE;
    if (kind != TIC_FOREIGN_NONE)
        *reason = TIC_SKIP_FOREIGN + (TicSkip)kind;
    return status == TIC_BAD_SAMPLE ? name_it(x, shard, ref, tic_error()) : status;
}

const TicJson *tic_decoder_json(TicDecoder *d)
{
    if (!d->json && d->bytes.json) {
        char *earlier = tic_strdup(tic_error());
        tic_error_clear();
        if (tic_json_parse(d->bytes.json, d->bytes.json_size, &d->json))
            tic_error_clear();
        if (*earlier)
            tic_fail(TIC_USER, "%s", earlier);
        free(earlier);
    }
    return d->json;
}

bool tic_decoder_caption(TicDecoder *d, const char **text, size_t *size, TicSkip *reason)
{
    if (d->bytes.text) {
        *text = d->bytes.text;
        *size = d->bytes.text_size;
        return true;
    }
    const TicJson *json = tic_decoder_json(d), *caption = tic_json_get(json, "caption");
    *reason = d->bytes.json && !json ? TIC_SKIP_BAD_JSON : TIC_SKIP_NO_CAPTION;
    if (!caption || (caption->kind != TIC_JSON_STRING && caption->kind != TIC_JSON_NULL))
        return false;
    *text = caption->kind == TIC_JSON_STRING ? caption->text : "";   /* null: img2dataset's missing caption */
    *size = caption->kind == TIC_JSON_STRING ? caption->size : 0;
    return true;
}
