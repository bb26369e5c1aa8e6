/* clip.h -- a compiled model as a C library: files and captions to features.
 *
 *     ticc models/vit_b16.tic -o libclip.so
 *
 *     Clip *c = clip_load("epoch_latest.pt", NULL, 0);
 *     float image[512], text[512];
 *     if (!c || clip_encode_image_file(c, "CLIP.png", image) || clip_encode_text(c, "a diagram", text))
 *         fprintf(stderr, "%s\n", clip_error());
 *     clip_free(c);
 *
 * Functions return 0, or another number when they fail, on null pointers too; then clip_error() says why. There is no
 * global state: a Clip may be used from several threads at once, and several Clips beside each other. Running out of memory ends the process. */
#ifndef CLIP_H
#define CLIP_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif

typedef struct Clip Clip;

/* The weights: OpenCLIP's .pt or safetensors, or Hugging Face's. vocabulary: bpe_simple_vocab_16e6.txt.gz, or NULL: where
 * `make vocab` put it, else captions are spelled byte by byte. threads: 0 for one per processor. NULL on failure. */
Clip *clip_load(const char *checkpoint, const char *vocabulary, int threads);
void clip_free(Clip *c);                                     /* NULL is fine; no other call may be under way */

int clip_width(const Clip *c);                               /* floats of a row of features */
int clip_image_size(const Clip *c);                          /* side of the square the model sees */
int clip_context(const Clip *c);                             /* tokens of a caption */

/* One row of unit length, [clip_width]. The picture is a JPEG, PNG or WebP file, in memory or by its path. */
int clip_encode_image(Clip *c, const void *file, size_t size, float *features);
int clip_encode_image_file(Clip *c, const char *path, float *features);
int clip_encode_text(Clip *c, const char *utf8, float *features);

/* n rows at once, from what is already prepared: pixels [n, 3, size, size], normalised; tokens [n, context]. */
int clip_encode_pixels(Clip *c, const float *pixels, int64_t n, float *features);
int clip_encode_tokens(Clip *c, const int32_t *tokens, int64_t n, float *features);

/* Why the last failing call on this thread failed; "" when none has. Valid until the next call on this thread. */
const char *clip_error(void);

#ifdef __cplusplus
}
#endif
#endif
