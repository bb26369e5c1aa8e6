/* encoder.h -- a checkpoint ready to encode: files and captions in, normalised features out.
 *
 * What classify, embed and the shared library (clip.h) have in common. Pictures pass through OpenCLIP's validation
 * transform, captions through its tokenizer. Nothing is global; an encoder may be used from several threads at once:
 * preparing happens in parallel, the towers are entered one call at a time and use all threads themselves. */
#ifndef TIC_INFER_ENCODER_H
#define TIC_INFER_ENCODER_H
#include "base.h"
#include "device/pool.h"
#include "tic.h"

typedef struct {
    const char *ckpt;            /* any form that tic_checkpoint_open reads */
    const char *vocab;           /* NULL: where `make vocab` put it, else byte by byte */
    int threads;                 /* 0: one for each processor */
    int64_t batch;               /* most rows that pass a tower at once; 0: 64 */
} TicEncoderOptions;
typedef struct TicEncoder TicEncoder;

/* TIC_USER, with the reason, for a checkpoint that does not fit the program. Close with tic_encoder_close. */
TicStatus tic_encoder_open(const TicProgram *p, const TicKernel *kernels, const TicEncoderOptions *o, TicEncoder **out);
void tic_encoder_close(TicEncoder *e);                       /* NULL is fine */

int64_t tic_encoder_width(const TicEncoder *e);              /* of a row of features */
int64_t tic_encoder_pixels(const TicEncoder *e);             /* values of one picture: 3 * size * size */
int tic_encoder_context(const TicEncoder *e);                /* tokens of one caption */
TicPool *tic_encoder_pool(TicEncoder *e);                    /* the towers' threads, for use while no call is in a tower */
bool tic_encoder_is_fallback(const TicEncoder *e);           /* no vocabulary: captions are spelled byte by byte */

/* A JPEG, PNG or WebP file in memory to planes [3, size, size]; `label` stands before messages. TIC_BAD_SAMPLE: not usable. */
TicStatus tic_encoder_picture(const TicEncoder *e, const void *data, size_t size, const char *label, uint8_t *planes);
TicStatus tic_encoder_picture_file(const TicEncoder *e, const char *path, uint8_t *planes);
void tic_encoder_caption(const TicEncoder *e, const char *utf8, size_t size, int32_t *tokens);     /* [context] */

/* Rows of unit length: planes [n, 3, size, size], the same as pixels that are normalised already (on the CPU), or tokens
 * [n, context] to features [n, width]. TIC_USER when the model has no such tower, or a token is outside its vocabulary. */
TicStatus tic_encoder_images(TicEncoder *e, const uint8_t *planes, int64_t n, float *features);
TicStatus tic_encoder_normalised(TicEncoder *e, const float *pixels, int64_t n, float *features);
TicStatus tic_encoder_texts(TicEncoder *e, const int32_t *tokens, int64_t n, float *features);
#endif
