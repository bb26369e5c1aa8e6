/* fuzz_jpeg.c -- any bytes as a picture, as the loader uses one: decoded by what the bytes are, cropped, resized both
 * ways, normalised. The same decoder and resizer serve all inputs, as they do in a thread of the loader.
 *
 * The input is read as it is; with the checksums of PNG chunks mended, which would stop nearly every change; as the
 * contents of a PNG of any kind libpng knows (and some that it refuses); and as damage to a JPEG that was drawn here.
 * Checked besides the absence of crashes: a refusal has a reason, what was decoded has the size it announced, a second
 * decoding gives the same pixels, and decoding for a part is refused as often and gives the same part. */
#include "data/native.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { SIDE = 24, PIXELS_READ = 1 << 22, ROOM = 1 << 17 };

static TicImage image;
static TicResizer *resizer;

static void wanted(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "fuzz_jpeg: %s (%s)\n", what, tic_error());
        abort();
    }
}

/* Crop and resize as in training and as in evaluation. */
static void use_image(uint64_t seed)
{
    static uint8_t planes[3 * SIDE * SIDE];
    static float table[3][256], out[3 * SIDE * SIDE];
    const float mean[3] = { 0.5f, 0.4f, 0.3f }, std[3] = { 0.25f, 0.26f, 0.27f };
    const TicCrop rules[] = { { 0.9, 1, 3.0 / 4, 4.0 / 3 }, { 0.01, 1, 0.1, 10 } };
    tic_normalise_table(mean, std, table);
    for (size_t i = 0; i < TIC_LEN(rules); i++) {
        TicRandom r = tic_random(seed, i, 0);
        TicBox box = tic_crop_box(image.width, image.height, rules[i], &r);
        wanted(box.x >= 0 && box.y >= 0 && box.width > 0 && box.height > 0 && box.x + box.width <= image.width &&
               box.y + box.height <= image.height, "a crop outside the picture");
        tic_resize_box(resizer, &image, box, SIDE - (int)(seed % 3), planes);
    }
    tic_resize_centre(resizer, &image, SIDE, planes);
    tic_normalise(table, planes, SIDE * SIDE, out);
    for (int i = 0; i < 3 * SIDE * SIDE; i++)
        wanted(out[i] > -3 && out[i] < 4, "a value that no byte gives");
}

/* As a file that somebody opened: resized in its own mode. It is a picture exactly when it is one as RGB. */
static void read_native(const uint8_t *data, size_t size, bool picture)
{
    static uint8_t planes[3 * SIDE * SIDE];
    TicNative native = { 0 };
    wanted(!tic_native_decode(data, size, &native) == picture, "a picture in one mode and not in the other");
    tic_error_clear();
    if (picture && (size_t)native.image.width * (size_t)native.image.height * 3 <= PIXELS_READ)
        tic_native_square(resizer, &native, SIDE, planes);
    tic_native_free(&native);
}

static TicBox middle(void *user, int width, int height)
{
    return (TicBox){ width / 3, height / 4, width - width / 2, height - height / 2 };
}

/* `image` is the whole picture, or the data are none. */
static void read_part(const uint8_t *data, size_t size, bool picture)
{
    const TicWanted wanted_part = { middle, NULL, NULL };
    TicImage part = { 0 };
    wanted(!tic_image_decode_wanted(data, size, &wanted_part, &part) == picture, "a picture in part and not as a whole");
    tic_error_clear();
    TicBox box = picture ? middle(NULL, image.width, image.height) : (TicBox){ 0 };
    for (int y = box.y; y < box.y + box.height; y++) {
        size_t from = ((size_t)y * (size_t)image.width + (size_t)box.x) * 3;
        wanted(!memcmp(part.pixels + from, image.pixels + from, (size_t)box.width * 3), "other pixels in a part");
    }
    tic_image_free(&part);
}

static void read_picture(const uint8_t *data, size_t size)
{
    TicStatus status = tic_image_decode(data, size, &image);
    if (status)
        wanted(status == TIC_BAD_SAMPLE && *tic_error(), "a refusal of another kind, or without a reason");
    tic_error_clear();
    if (!resizer)
        resizer = tic_resizer_new();
    read_native(data, size, !status);
    read_part(data, size, !status);
    if (status)
        return;
    size_t n = (size_t)image.width * (size_t)image.height * 3;
    wanted(image.width > 0 && image.height > 0 && n <= image.room && n / 3 <= TIC_MAX_PIXELS, "an impossible size");
    if (n > PIXELS_READ)
        return;
    uint64_t first = tic_hash(image.pixels, n, 0);
    use_image(first);
    memset(image.pixels, (int)(first & 255), n);
    bool same = !tic_image_decode(data, size, &image) && tic_hash(image.pixels, n, 0) == first;
    wanted(same, "other pixels the second time");
}

/* ---- PNG */

static void put32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(v >> (24 - 8 * i));
}

static void read_mended(const uint8_t *data, size_t size)
{
    uint8_t *copy = tic_alloc(size ? size : 1);
    memcpy(copy, data, size);
    for (size_t at = 8; at + 12 <= size;) {
        size_t n = (size_t)copy[at] << 24 | (size_t)copy[at + 1] << 16 | (size_t)copy[at + 2] << 8 | copy[at + 3];
        if (n > size - at - 12)
            break;
        put32(copy + at + 8 + n, (uint32_t)crc32(0, copy + at + 4, (uInt)n + 4));
        at += 12 + n;
    }
    read_picture(copy, size);
    free(copy);
}

static uint8_t made[ROOM];
static size_t used;

static void put_chunk(const char *name, const uint8_t *data, size_t n)
{
    if (used + n + 12 > ROOM)
        return;
    put32(made + used, (uint32_t)n);
    memcpy(made + used + 4, name, 4);
    memcpy(made + used + 8, data, n);
    put32(made + used + 8 + n, (uint32_t)crc32(0, made + used + 4, (uInt)n + 4));
    used += n + 12;
}

/* What kind of file it becomes is drawn from the input's hash, so that any change of the input is a change of kind; the
 * rows, filters included, are its bytes. */
static void read_script(const uint8_t *data, size_t size)
{
    static const uint8_t depths[] = { 1, 2, 4, 8, 16, 8, 8, 3 };
    static uint8_t plain[40 * (1 + 40 * 8)], packed[2 * sizeof plain];
    uint8_t header[13] = { 0 }, c[16];
    TicRandom4 choice = tic_philox(tic_hash(data, size, 0), 0, 0);
    memcpy(c, &choice, sizeof c);
    put32(header, 1 + c[3] % 40 + (c[5] == 1 ? 20000u : 0));
    put32(header + 4, 1 + c[4] % 40 + (c[5] == 2 ? 5000u : 0));
    header[8] = depths[c[1] % 8];
    header[9] = (uint8_t)"\0\2\3\4\6\3\2\1"[c[0] % 8];
    header[12] = c[2] % 2;
    memcpy(made, "\x89PNG\r\n\x1a\n", 8);
    used = 8;
    put_chunk("IHDR", header, 13);
    if (header[9] == 3 || c[8] % 4 == 0)
        put_chunk("PLTE", data, c[7] * 3u < size ? c[7] * 3u : size / 3 * 3);
    if (c[8] & 8)
        put_chunk("tRNS", data, c[9] % 9 < size ? c[9] % 9 : 0);
    if (c[8] & 16)
        put_chunk("gAMA", c, 4);
    if (c[8] & 32)
        put_chunk("tEXt", data, size < 40 ? size : 40);
    for (size_t i = 0; i < sizeof plain; i++) {
        uint8_t v = size ? data[i % size] : 0;
        plain[i] = c[6] & 1 ? v % 5 : v;                 /* where a filter's number stands, more than 4 is an error */
    }
    uLongf n = sizeof packed;
    wanted(compress2(packed, &n, plain, c[6] & 2 ? sizeof plain / 9 : sizeof plain, 1) == Z_OK, "zlib");
    uLong cut = c[6] & 4 ? n / 2 : n;
    put_chunk("IDAT", packed, cut);
    put_chunk("IDAT", packed + cut, n - cut);
    if (c[6] & 8)
        put_chunk("IEND", data, 0);
    if (c[10] % 4 == 0)
        made[(c[11] * 256u + c[12]) % used] = c[13];
    uint8_t *exact = tic_alloc(used);
    memcpy(exact, made, used);
    read_picture(exact, used);
    free(exact);
}

/* ---- JPEG: a drawn picture, some of whose bytes are those of the input; in the header or behind it */

static void read_damaged(const uint8_t *data, size_t size)
{
    uint8_t rgb[19 * 13 * 3], *jpeg;
    size_t n;
    if (size < 8)
        return;
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = data[i % size];
    int width = 1 + data[0] % 19, height = 1 + data[1] % 13;
    wanted(!tic_jpeg_encode(rgb, width, height, 1 + data[2] % 100, &jpeg, &n), "encoding");
    uint8_t *exact = tic_alloc(n);
    memcpy(exact, jpeg, n);
    free(jpeg);
    for (size_t i = 0; i + 2 < size && i < data[3] % 16u; i++) {
        size_t reach = data[i] & 1 ? n : n < 40 ? n : n / 2;
        exact[(data[i + 1] * 256u + data[i + 2]) % reach] = data[(i + 3) % size];
    }
    read_picture(exact, data[3] > 240 ? n - data[4] % n : n);
    free(exact);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tic_error_clear();
    read_picture(data, size);
    read_mended(data, size);
    read_script(data, size);
    read_damaged(data, size);
    return 0;
}
