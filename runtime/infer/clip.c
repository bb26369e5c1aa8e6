/* clip.c -- see clip.h. Only this file's functions can be seen from outside a library that ticc makes. */
#include "clip.h"
#include "infer/encoder.h"
#include <stdlib.h>
#include <string.h>

#define PUBLIC __attribute__((visibility("default")))

struct Clip { TicEncoder *encoder; };

PUBLIC Clip *clip_load(const char *checkpoint, const char *vocabulary, int threads)
{
    TicEncoderOptions o = { .ckpt = checkpoint, .vocab = vocabulary, .threads = threads > 0 ? threads : 0 };
    TicEncoder *e;
    tic_error_clear();
    if (!checkpoint) {
        tic_fail(TIC_USER, "clip_load: no checkpoint given");
        return NULL;
    }
    if (tic_encoder_open((const TicProgram *)(const void *)tic_program, tic_kernels, &o, &e))
        return NULL;
    Clip *c = tic_alloc(sizeof *c);
    c->encoder = e;
    return c;
}

PUBLIC void clip_free(Clip *c)
{
    if (c)
        tic_encoder_close(c->encoder);
    free(c);
}

PUBLIC int clip_width(const Clip *c) { return (int)tic_encoder_width(c->encoder); }
PUBLIC int clip_context(const Clip *c) { return tic_encoder_context(c->encoder); }
PUBLIC int clip_image_size(const Clip *c) { return ((const TicProgram *)(const void *)tic_program)->image_size; }
PUBLIC const char *clip_error(void) { return tic_error(); }

PUBLIC int clip_encode_pixels(Clip *c, const float *pixels, int64_t n, float *features)
{
    tic_error_clear();
    return (int)tic_encoder_normalised(c->encoder, pixels, n, features);
}

PUBLIC int clip_encode_tokens(Clip *c, const int32_t *tokens, int64_t n, float *features)
{
    tic_error_clear();
    return (int)tic_encoder_texts(c->encoder, tokens, n, features);
}

PUBLIC int clip_encode_image(Clip *c, const void *file, size_t size, float *features)
{
    uint8_t *planes = tic_alloc((size_t)tic_encoder_pixels(c->encoder));
    tic_error_clear();
    TicStatus status = tic_encoder_picture(c->encoder, file, size, "the picture", planes);
    if (!status)
        status = tic_encoder_images(c->encoder, planes, 1, features);
    free(planes);
    return (int)status;
}

PUBLIC int clip_encode_image_file(Clip *c, const char *path, float *features)
{
    uint8_t *planes = tic_alloc((size_t)tic_encoder_pixels(c->encoder));
    tic_error_clear();
    TicStatus status = tic_encoder_picture_file(c->encoder, path, planes);
    if (!status)
        status = tic_encoder_images(c->encoder, planes, 1, features);
    free(planes);
    return (int)status;
}

PUBLIC int clip_encode_text(Clip *c, const char *utf8, float *features)
{
    int32_t *tokens = tic_alloc((size_t)tic_encoder_context(c->encoder) * sizeof *tokens);
    tic_error_clear();
    tic_encoder_caption(c->encoder, utf8, strlen(utf8), tokens);
    TicStatus status = tic_encoder_texts(c->encoder, tokens, 1, features);
    free(tokens);
    return (int)status;
}
