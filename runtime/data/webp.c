/* webp.c -- WebP by libwebp, the one file that includes its header. Still pictures only; as Pillow, alpha is dropped and not
 * blended when RGB is asked for. */
#include "data/native.h"
#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>

TicStatus tic_webp_decode_native(const uint8_t *data, size_t size, TicImage *image, TicNative *native)
{
    WebPBitstreamFeatures f;
    if (WebPGetFeatures(data, size, &f) != VP8_STATUS_OK)
        return tic_fail(TIC_BAD_SAMPLE, "WebP: broken or cut short");
    if (f.has_animation)
        return tic_fail(TIC_BAD_SAMPLE, "WebP: an animation; a still picture is wanted");
    TRY(tic_image_reserve(image, (uint32_t)f.width, (uint32_t)f.height));
    size_t pixels = (size_t)f.width * (size_t)f.height;
    if (!f.has_alpha)
        return WebPDecodeRGBInto(data, size, image->pixels, 3 * pixels, 3 * f.width) ? TIC_OK
             : tic_fail(TIC_BAD_SAMPLE, "WebP: broken or cut short");
    uint8_t *rgba = tic_alloc(4 * pixels);
    TicStatus status = WebPDecodeRGBAInto(data, size, rgba, 4 * pixels, 4 * f.width) ? TIC_OK
                     : tic_fail(TIC_BAD_SAMPLE, "WebP: broken or cut short");
    if (!status && native)
        status = tic_native_from_rgba(rgba, f.width, f.height, native);
    for (size_t i = 0; !status && !native && i < pixels; i++)
        memcpy(image->pixels + 3 * i, rgba + 4 * i, 3);
    free(rgba);
    return status;
}
