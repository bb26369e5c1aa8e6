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

/* What a binding makes of a forgotten argument. */
static TicStatus all_given(const Clip *c, const void *input, const void *features)
{
    tic_error_clear();
    if (!c)
        return tic_fail(TIC_USER, "the model: a null pointer, wanted what clip_load gave");
    if (!input)
        return tic_fail(TIC_USER, "the input: a null pointer, wanted what is to be encoded");
    return features ? TIC_OK : tic_fail(TIC_USER, "the features: a null pointer, wanted room for them");
}

PUBLIC int clip_encode_pixels(Clip *c, const float *pixels, int64_t n, float *features)
{
    TRY(all_given(c, pixels, features));
    return (int)tic_encoder_normalised(c->encoder, pixels, n, features);
}

PUBLIC int clip_encode_tokens(Clip *c, const int32_t *tokens, int64_t n, float *features)
{
    TRY(all_given(c, tokens, features));
    return (int)tic_encoder_texts(c->encoder, tokens, n, features);
}

PUBLIC int clip_encode_image(Clip *c, const void *file, size_t size, float *features)
{
    TRY(all_given(c, file, features));
    uint8_t *planes = tic_alloc((size_t)tic_encoder_pixels(c->encoder));
    TicStatus status = tic_encoder_picture(c->encoder, file, size, "the picture", planes);
    if (!status)
        status = tic_encoder_images(c->encoder, planes, 1, features);
    free(planes);
    return (int)status;
}

PUBLIC int clip_encode_image_file(Clip *c, const char *path, float *features)
{
    TRY(all_given(c, path, features));
    uint8_t *planes = tic_alloc((size_t)tic_encoder_pixels(c->encoder));
    TicStatus status = tic_encoder_picture_file(c->encoder, path, planes);
    if (!status)
        status = tic_encoder_images(c->encoder, planes, 1, features);
    free(planes);
    return (int)status;
}

PUBLIC int clip_encode_text(Clip *c, const char *utf8, float *features)
{
    TRY(all_given(c, utf8, features));
    int32_t *tokens = tic_alloc((size_t)tic_encoder_context(c->encoder) * sizeof *tokens);
    tic_encoder_caption(c->encoder, utf8, strlen(utf8), tokens);
    TicStatus status = tic_encoder_texts(c->encoder, tokens, 1, features);
    free(tokens);
    return (int)status;
}
