/* encode.h -- pictures to JPEG and PNG bytes in memory. */
#ifndef TIC_TOOLS_ENCODE_H
#define TIC_TOOLS_ENCODE_H
#include "base.h"

/* `rgb`: [height, width, 3] bytes. `grey`: one component, taken from the first channel. Caller frees *out. */
TicStatus encode_jpeg(const uint8_t *rgb, int width, int height, bool grey, int quality, bool progressive,
                      unsigned char **out, size_t *size);
TicStatus encode_png(const uint8_t *rgb, int width, int height, unsigned char **out, size_t *size);
#endif
