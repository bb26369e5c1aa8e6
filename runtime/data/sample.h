/* sample.h -- one sample from its place in a shard to a square and a caption; what the training loader and the
 * evaluation reader share. Private to runtime/data. */
#ifndef TIC_DATA_SAMPLE_H
#define TIC_DATA_SAMPLE_H
#include "data/json.h"
#include "data/loader.h"
#include "data/picture.h"

/* One per thread: everything decoding needs, reused from sample to sample. */
typedef struct {
    TicSampleBytes bytes;
    TicPicture picture;
    TicJson *json;                 /* of the sample last read; NULL: none or not parsed */
} TicDecoder;

void tic_decoder_init(TicDecoder *d, int image_size);
void tic_decoder_free(TicDecoder *d);

/* Reads the parts of one sample, and its image as tic_picture_square does. TIC_BAD_SAMPLE sets *reason; the message names the
 * sample. */
TicStatus tic_decoder_read(TicDecoder *d, TicIndex *x, int shard, int64_t sample, const TicCrop *crop, TicRandom random,
                           TicSampleRef *ref, uint8_t *planes, TicSkip *reason);
/* The caption of what was read: KEY.txt or the json's. False, with *reason, when there is none. */
bool tic_decoder_caption(TicDecoder *d, const char **text, size_t *size, TicSkip *reason);
/* The json of what was read, parsed when first asked for; NULL: none, or broken. */
const TicJson *tic_decoder_json(TicDecoder *d);
#endif
