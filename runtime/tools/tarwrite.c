/* tarwrite.c -- see tarwrite.h. Format: POSIX.1-1988 ustar, 512-byte blocks, two zero blocks at the end,
 * the whole padded to 20 blocks as tar itself does. */
#define _GNU_SOURCE
#include "tarwrite.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BLOCK = 512, RECORD = 20 * BLOCK, BUFFER = 1 << 18 };
static const uint64_t MTIME = 1388534400;      /* 2014-01-01 00:00:00 UTC */

struct TarWriter {
    FILE *file;
    char *path, *temporary, *buffer;
    int64_t bytes;
};

typedef struct {
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type;
    char link[100], magic[6], version[2], owner[32], group[32], major[8], minor[8], prefix[155], pad[12];
} Header;
_Static_assert(sizeof(Header) == BLOCK, "a ustar header is one block");

TicStatus tarwrite_open(const char *path, TarWriter **out)
{
    TarWriter *w = tic_alloc(sizeof *w);
    *out = NULL;
    w->path = tic_strdup(path);
    w->temporary = tic_format("%s.tmp", path);
    w->file = fopen(w->temporary, "wb");
    if (!w->file) {
        TicStatus status = tic_fail(TIC_IO, "%s: cannot write: %s", w->temporary, strerror(errno));
        free(w->temporary);
        w->temporary = NULL;      /* not ours to remove */
        tarwrite_discard(w);
        return status;
    }
    w->buffer = tic_alloc(BUFFER);
    setvbuf(w->file, w->buffer, _IOFBF, BUFFER);
    *out = w;
    return TIC_OK;
}

static TicStatus put(TarWriter *w, const void *data, size_t size)
{
    if (size && fwrite(data, 1, size, w->file) != size)
        return tic_fail(TIC_IO, "%s: cannot write: %s", w->path, strerror(errno));
    w->bytes += (int64_t)size;
    return TIC_OK;
}

static TicStatus pad_to(TarWriter *w, int64_t unit)
{
    static const char zeros[RECORD];
    return put(w, zeros, (size_t)((unit - w->bytes % unit) % unit));
}

/* Octal digits that fill the field but for its last byte. */
static void octal(char *field, size_t width, uint64_t value)
{
    field[width - 1] = 0;
    for (size_t i = width - 1; i-- > 0; value >>= 3)
        field[i] = (char)('0' + (value & 7));
}

/* False: the name does not fit; its beginning is written then. */
static bool set_name(Header *h, const char *name)
{
    size_t n = strlen(name);
    const char *rest = name;
    if (n > sizeof h->name) {
        rest = n <= sizeof h->prefix + 1 + sizeof h->name ? strchr(name + n - sizeof h->name - 1, '/') : NULL;
        if (!rest || rest == name || (size_t)(rest - name) > sizeof h->prefix || !rest[1]) {
            memcpy(h->name, name, sizeof h->name);
            return false;
        }
        memcpy(h->prefix, name, (size_t)(rest - name));
        rest++;
    }
    memcpy(h->name, rest, strlen(rest));
    return true;
}

static TicStatus put_entry(TarWriter *w, Header *h, const void *data, size_t size)
{
    octal(h->mode, sizeof h->mode, 0444);
    octal(h->uid, sizeof h->uid, 0);
    octal(h->gid, sizeof h->gid, 0);
    octal(h->size, sizeof h->size, size);
    octal(h->mtime, sizeof h->mtime, MTIME);
    octal(h->major, sizeof h->major, 0);
    octal(h->minor, sizeof h->minor, 0);
    memset(h->checksum, ' ', sizeof h->checksum);
    unsigned sum = 0;
    for (size_t i = 0; i < sizeof *h; i++)
        sum += ((const unsigned char *)h)[i];
    octal(h->checksum, sizeof h->checksum - 1, sum);
    TRY(put(w, h, sizeof *h));
    TRY(put(w, data, size));
    return pad_to(w, BLOCK);
}

/* "LENGTH path=NAME\n", where LENGTH counts its own digits. */
static TicStatus put_long_name(TarWriter *w, const char *name)
{
    Header h = { .name = "pax", .type = 'x', .magic = "ustar", .version = { '0', '0' } };
    size_t body = strlen(" path=\n") + strlen(name), length = body + 1;
    for (size_t digits = 1, limit = 10; length >= limit; digits++, limit *= 10)
        length = body + digits + 1;
    char *record = tic_format("%zu path=%s\n", length, name);
    TicStatus status = put_entry(w, &h, record, length);
    free(record);
    return status;
}

TicStatus tarwrite_member(TarWriter *w, const char *name, const void *data, size_t size)
{
    Header h = { .type = '0', .magic = "ustar", .version = { '0', '0' }, .owner = "bigdata", .group = "bigdata" };
    if ((uint64_t)size >> 33)
        return tic_fail(TIC_USER, "%s: %zu bytes, a ustar member has less than 8 GiB", name, size);
    if (!set_name(&h, name))
        TRY(put_long_name(w, name));
    return put_entry(w, &h, data, size);
}

static TicStatus finish(TarWriter *w)
{
    static const char end[2 * BLOCK];
    TRY(put(w, end, sizeof end));
    TRY(pad_to(w, RECORD));
    if (fflush(w->file) || fsync(fileno(w->file)))
        return tic_fail(TIC_IO, "%s: cannot write: %s", w->path, strerror(errno));
    int failed = fclose(w->file);
    w->file = NULL;
    if (failed || rename(w->temporary, w->path))
        return tic_fail(TIC_IO, "%s: cannot write: %s", w->path, strerror(errno));
    return TIC_OK;
}

TicStatus tarwrite_close(TarWriter *w, int64_t *bytes)
{
    TicStatus status = finish(w);
    if (bytes)
        *bytes = w->bytes;
    if (!status) {
        free(w->temporary);
        w->temporary = NULL;
    }
    tarwrite_discard(w);
    return status;
}

void tarwrite_discard(TarWriter *w)
{
    if (!w)
        return;
    if (w->file)
        fclose(w->file);
    if (w->temporary)
        unlink(w->temporary);
    free(w->path);
    free(w->temporary);
    free(w->buffer);
    free(w);
}
