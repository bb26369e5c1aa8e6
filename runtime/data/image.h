/* image.h -- JPEG, PNG and WebP files to 8-bit RGB, with the pixels that Pillow's Image.open(f).convert("RGB") has.
 *
 *   JPEG: libjpeg-turbo's defaults (accurate integer inverse DCT, smooth chroma upsampling). Grey is repeated;
 *         CMYK and YCCK are taken as Adobe writes them (inverted) and converted by Pillow's formula (jpeg.c).
 *   PNG:  grey of 1, 2, 4 bits is stretched to 0..255; 16-bit colour keeps its high byte; 16-bit grey is clipped to
 *         255 (Pillow treats it as integers); alpha and transparent colours are dropped, not blended.
 *   WebP: libwebp's defaults; alpha is dropped, not blended; animations are refused.
 *
 * No orientation tag and no colour profile is applied. A file that is broken, cut short, of another kind, or larger
 * than TIC_MAX_PIXELS gives TIC_BAD_SAMPLE with the reason; nothing is allocated for it before its size is checked. */
#ifndef TIC_DATA_IMAGE_H
#define TIC_DATA_IMAGE_H
#include "base.h"

/* TIC_MAX_LARGE_SCANS: of a JPEG of TIC_MAX_PIXELS; smaller ones may have more, as long as the work is no larger. */
enum { TIC_MAX_PIXELS = 64 << 20, TIC_MAX_SCANS = 500, TIC_MAX_LARGE_SCANS = 32 };

typedef struct {
    int width, height;
    uint8_t *pixels;               /* [height, width, 3] */
    size_t room;                   /* bytes behind `pixels`; decoding again reuses them */
} TicImage;                        /* { 0 } before first use; tic_image_free at the end */

typedef struct { int x, y, width, height; } TicBox;

/* Formats that are known by name but not read. */
typedef enum {
    TIC_FOREIGN_GIF, TIC_FOREIGN_BMP, TIC_FOREIGN_TIFF, TIC_FOREIGN_HEIC, TIC_FOREIGN_AVIF, TIC_FOREIGN_JXL, TIC_FOREIGN_SVG,
    TIC_FOREIGN_KINDS,
    TIC_FOREIGN_NONE = -1
} TicForeign;

const char *tic_foreign_name(TicForeign kind);                      /* "GIF", ... */
TicForeign tic_foreign_of(const uint8_t *data, size_t size);        /* by the first bytes */
TicForeign tic_foreign_called(const char *extension);               /* by the extension, in either case */

/* Decodes by what the bytes are, whatever the file was called. */
TicStatus tic_image_decode(const uint8_t *data, size_t size, TicImage *image);

/* What of a picture will be read, asked when its size is known. */
typedef struct {
    TicBox (*box)(void *user, int width, int height);     /* the pixels, inside width x height */
    /* NULL, or by how much the picture may be made smaller while it is decoded: width and height come out as eighths of
     * the file's, rounded up. Answers 1, 2, 4 or 8. */
    int (*eighths)(void *user, int width, int height);
    void *user;
} TicWanted;

/* As tic_image_decode, with the same bits inside the box that `wanted` answers and anything outside; only JPEGs are made
 * smaller. The whole file is checked all the same: what the one refuses, the other refuses. */
TicStatus tic_image_decode_wanted(const uint8_t *data, size_t size, const TicWanted *wanted, TicImage *image);
void tic_image_free(TicImage *image);

/* Checks the bound. */
TicStatus tic_image_bound(uint32_t width, uint32_t height);
/* Checks the bound and makes room; for the decoders. */
TicStatus tic_image_reserve(TicImage *image, uint32_t width, uint32_t height);

/* Baseline JPEG of rgb [height, width, 3], quality 1..100, 4:2:0 chroma. *data: free(). For tools and tests. */
TicStatus tic_jpeg_encode(const uint8_t *rgb, int width, int height, int quality, uint8_t **data, size_t *size);
#endif
