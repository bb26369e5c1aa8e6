/* zip.c -- see zip.h. The reader trusts nothing: every offset and length is checked against the file before it is
 * used. The writer leaves out what varies (time stamps are 1980-01-01), so equal contents give equal bytes. */
#include "ckpt/zip.h"
#include "ckpt/stored.h"
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum {
    LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50, END64 = 0x06064b50, LOCATOR = 0x07064b50,
    LOCAL_BYTES = 30, CENTRAL_BYTES = 46, END_BYTES = 22, END64_BYTES = 56, LOCATOR_BYTES = 20,
    EXTRA_ZIP64 = 0x0001, EXTRA_PADDING = 0x4246,
    ALIGN = 64, UTF8_NAMES = 0x0800, ENCRYPTED = 0x0001, FIRST_DAY = 0x0021, NAME_BYTES = 1024,
};
static const uint32_t ABOVE = 0xFFFFFFFFu;       /* "the value is in the ZIP64 field" */

static uint32_t get16(const unsigned char *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t get32(const unsigned char *p) { return get16(p) | get16(p + 2) << 16; }
static uint64_t get64(const unsigned char *p) { return get32(p) | (uint64_t)get32(p + 4) << 32; }

static uint32_t checksum(uint32_t crc, const void *data, uint64_t n)
{
    const unsigned char *p = data;
    while (n) {
        uInt part = n > 1u << 30 ? 1u << 30 : (uInt)n;      /* zlib counts in 32 bits */
        crc = (uint32_t)crc32(crc, p, part);
        p += part;
        n -= part;
    }
    return crc;
}

/* ------------------------------------------------------------ reading */

/* Where the central directory is. */
typedef struct { uint64_t offset, size, count; } Directory;

static TicStatus broken(const TicBytes *s, const char *what)
{
    return tic_fail(TIC_USER, "%s: damaged archive: %s", s->label, what);
}

/* The end record is the last thing in the file but for a comment of up to 65535 bytes, whose length it states. */
static TicStatus find_end(const TicBytes *s, uint64_t *at, unsigned char end[END_BYTES])
{
    uint64_t tail = s->size < END_BYTES + 65535u ? s->size : END_BYTES + 65535u;
    unsigned char *buffer = tic_alloc(tail);
    TicStatus status = tic_bytes_read(s, s->size - tail, buffer, tail);
    bool found = false;
    for (uint64_t i = tail < END_BYTES ? 0 : tail - END_BYTES + 1; !status && !found && i-- > 0;) {
        if (get32(buffer + i) != END || i + END_BYTES + get16(buffer + i + 20) != tail)
            continue;
        memcpy(end, buffer + i, END_BYTES);
        *at = s->size - tail + i;
        found = true;
    }
    free(buffer);
    if (!status && !found)
        status = tic_fail(TIC_USER, "%s: cut short: the archive's end record is missing", s->label);
    return status;
}

static TicStatus find_directory(const TicBytes *s, Directory *d)
{
    unsigned char end[END_BYTES] = { 0 }, locator[LOCATOR_BYTES], end64[END64_BYTES];
    uint64_t at = 0, limit;
    TRY(find_end(s, &at, end));
    *d = (Directory){ .offset = get32(end + 16), .size = get32(end + 12), .count = get16(end + 10) };
    limit = at;
    if (at >= LOCATOR_BYTES) {
        TRY(tic_bytes_read(s, at - LOCATOR_BYTES, locator, LOCATOR_BYTES));
        if (get32(locator) == LOCATOR) {
            uint64_t at64 = get64(locator + 8);
            if (at64 > at - LOCATOR_BYTES || at - LOCATOR_BYTES - at64 < END64_BYTES)
                return broken(s, "the ZIP64 end record is out of place");
            TRY(tic_bytes_read(s, at64, end64, END64_BYTES));
            if (get32(end64) != END64)
                return broken(s, "the ZIP64 end record is missing");
            *d = (Directory){ .offset = get64(end64 + 48), .size = get64(end64 + 40), .count = get64(end64 + 32) };
            limit = at64;
        }
    }
    if (d->offset > limit || d->size > limit - d->offset)
        return broken(s, "the central directory is out of bounds");
    if (d->count > d->size / CENTRAL_BYTES)
        return broken(s, "the central directory is shorter than its entries");
    return TIC_OK;
}

/* Sizes and offset that do not fit 32 bits are in an extra field, in this order, only those that are ABOVE. */
static bool read_zip64(const unsigned char *extra, size_t n, uint64_t *size, uint64_t *packed, uint64_t *offset)
{
    uint64_t *wanted[] = { size, packed, offset };
    bool any = *size == ABOVE || *packed == ABOVE || *offset == ABOVE;
    while (any && n >= 4) {
        size_t id = get16(extra), length = get16(extra + 2);
        if (length > n - 4)
            return false;
        if (id == EXTRA_ZIP64) {
            const unsigned char *p = extra + 4;
            for (size_t i = 0; i < TIC_LEN(wanted); i++) {
                if (*wanted[i] != ABOVE)
                    continue;
                if (length < 8)
                    return false;
                *wanted[i] = get64(p);
                p += 8;
                length -= 8;
            }
            return true;
        }
        extra += 4 + length;
        n -= 4 + length;
    }
    return !any;
}

static TicStatus bad_entry(const TicBytes *s, const char *name, const char *what)
{
    char shown[80];
    return tic_fail(TIC_USER, "%s: entry '%s' %s", s->label, tic_name_text(name, strlen(name), shown), what);
}

/* The payload follows the local header, whose own name and extra field may be longer than the directory's. */
static TicStatus locate(const TicBytes *s, const Directory *d, uint64_t header, TicZipEntry *e)
{
    unsigned char local[LOCAL_BYTES];
    char name[NAME_BYTES];
    size_t length = strlen(e->name);
    if (header > d->offset || d->offset - header < LOCAL_BYTES + length)
        return bad_entry(s, e->name, "is out of bounds");
    TRY(tic_bytes_read(s, header, local, LOCAL_BYTES));
    if (get32(local) != LOCAL || get16(local + 26) != length)
        return bad_entry(s, e->name, "has no header of its own");
    TRY(tic_bytes_read(s, header + LOCAL_BYTES, name, length));
    if (memcmp(name, e->name, length))
        return bad_entry(s, e->name, "has a header with another name");
    e->offset = header + LOCAL_BYTES + length + get16(local + 28);
    if (e->offset > d->offset || e->size > d->offset - e->offset)
        return bad_entry(s, e->name, "is out of bounds");
    return TIC_OK;
}

/* One central header at *at of the directory; moves the name one byte forward to end it with a zero. */
static TicStatus read_entry(TicZip *z, const Directory *d, uint64_t *at, TicZipEntry *e)
{
    unsigned char *p = (unsigned char *)z->directory + *at;
    if (d->size - *at < CENTRAL_BYTES || get32(p) != CENTRAL)
        return broken(z->source, "the central directory breaks off");
    uint32_t flags = get16(p + 8), method = get16(p + 10);
    size_t name = get16(p + 28), extra = get16(p + 30), comment = get16(p + 32);
    if (d->size - *at - CENTRAL_BYTES < name + extra + comment)
        return broken(z->source, "the central directory breaks off");
    if (!name || name >= NAME_BYTES || memchr(p + CENTRAL_BYTES, 0, name))
        return broken(z->source, "an entry has an empty, overlong or binary name");
    uint64_t packed = get32(p + 20), header = get32(p + 42);
    e->crc = get32(p + 16);
    e->size = get32(p + 24);
    bool sized = read_zip64(p + CENTRAL_BYTES + name, extra, &e->size, &packed, &header);
    memmove(p + CENTRAL_BYTES - 1, p + CENTRAL_BYTES, name);
    p[CENTRAL_BYTES - 1 + name] = 0;
    e->name = (const char *)p + CENTRAL_BYTES - 1;
    *at += CENTRAL_BYTES + name + extra + comment;
    if (!sized)
        return bad_entry(z->source, e->name, "has no ZIP64 sizes");
    if (flags & ENCRYPTED)
        return bad_entry(z->source, e->name, "is encrypted");
    if (method)
        return bad_entry(z->source, e->name, "is compressed; only stored entries are read");
    if (packed != e->size)
        return bad_entry(z->source, e->name, "has two different sizes");
    return locate(z->source, d, header, e);
}

static int by_name(const void *a, const void *b)
{
    return strcmp((*(TicZipEntry *const *)a)->name, (*(TicZipEntry *const *)b)->name);
}

static TicStatus read_directory(TicZip *z)
{
    Directory d;
    TRY(find_directory(z->source, &d));
    z->directory = tic_alloc(d.size);
    z->entry = tic_alloc(d.count * sizeof *z->entry);
    z->by_name = tic_alloc(d.count * sizeof *z->by_name);
    z->count = d.count;
    TRY(tic_bytes_read(z->source, d.offset, z->directory, d.size));
    uint64_t at = 0;
    for (size_t i = 0; i < z->count; i++) {
        TRY(read_entry(z, &d, &at, &z->entry[i]));
        z->by_name[i] = &z->entry[i];
    }
    if (at != d.size)
        return broken(z->source, "the central directory holds more than its entries");
    qsort(z->by_name, z->count, sizeof *z->by_name, by_name);
    for (size_t i = 1; i < z->count; i++)
        if (!strcmp(z->by_name[i - 1]->name, z->by_name[i]->name))
            return bad_entry(z->source, z->by_name[i]->name, "appears twice");
    return TIC_OK;
}

TicStatus tic_zip_open(TicZip *z, const TicBytes *source)
{
    *z = (TicZip){ .source = source };
    TicStatus status = read_directory(z);
    if (status)
        tic_zip_close(z);
    return status;
}

void tic_zip_close(TicZip *z)
{
    free(z->entry);
    free(z->by_name);
    free(z->directory);
    *z = (TicZip){ 0 };
}

const TicZipEntry *tic_zip_find(const TicZip *z, const char *name)
{
    size_t lo = 0, hi = z->count;
    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(name, z->by_name[mid]->name);
        if (!order)
            return z->by_name[mid];
        if (order < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

TicStatus tic_zip_read(const TicZip *z, const TicZipEntry *e, void *out)
{
    TRY(tic_bytes_read(z->source, e->offset, out, e->size));
    if (e->crc && checksum(0, out, e->size) != e->crc)
        return bad_entry(z->source, e->name, "is damaged: its checksum does not match");
    return TIC_OK;
}

/* ------------------------------------------------------------ writing */

struct TicZipWritten {
    char *name;
    uint64_t header, size;
    uint32_t crc;
};

static unsigned char *put16(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)v;
    p[1] = (unsigned char)(v >> 8);
    return p + 2;
}

static unsigned char *put32(unsigned char *p, uint32_t v) { return put16(put16(p, v & 0xFFFF), v >> 16); }
static unsigned char *put64(unsigned char *p, uint64_t v) { return put32(put32(p, (uint32_t)v), (uint32_t)(v >> 32)); }
static uint32_t fit32(uint64_t v) { return v < ABOVE ? (uint32_t)v : ABOVE; }

void tic_zip_begin(TicZipWriter *w, TicSink *sink) { *w = (TicZipWriter){ .sink = sink }; }

/* "Version needed", flags, method, time, date: the same in local and central headers. */
static unsigned char *put_common(unsigned char *p, bool zip64)
{
    p = put16(p, zip64 ? 45 : 20);
    p = put16(p, UTF8_NAMES);
    p = put16(p, 0);
    p = put16(p, 0);
    return put16(p, FIRST_DAY);
}

TicStatus tic_zip_add(TicZipWriter *w, const char *name, const void *data, uint64_t size)
{
    size_t length = strlen(name);
    if (!length || length >= NAME_BYTES)
        return tic_fail(TIC_BUG, "%s: archive entry with a name of %zu bytes", w->sink->path, length);
    if (w->count == w->room) {
        w->room = w->room ? 2 * w->room : 64;
        w->done = tic_realloc(w->done, w->room * sizeof *w->done);
    }
    uint32_t crc = checksum(0, data, size);
    w->done[w->count++] = (struct TicZipWritten){ tic_strdup(name), w->sink->at, size, crc };

    unsigned char head[LOCAL_BYTES + NAME_BYTES + 20 + 4 + ALIGN], *p = head;
    bool zip64 = size >= ABOVE;
    p = put32(p, LOCAL);
    p = put_common(p, zip64);
    p = put32(p, crc);
    p = put32(p, fit32(size));
    p = put32(p, fit32(size));
    p = put16(p, (uint32_t)length);
    unsigned char *extra_length = p;
    p += 2;
    memcpy(p, name, length);
    unsigned char *extra = p += length;
    if (zip64) {
        p = put16(p, EXTRA_ZIP64);
        p = put16(p, 16);
        p = put64(p, size);
        p = put64(p, size);
    }
    uint32_t pad = (uint32_t)(-(w->sink->at + (uint64_t)(p - head) + 4) & (ALIGN - 1));
    p = put16(p, EXTRA_PADDING);
    p = put16(p, pad);
    memset(p, 'Z', pad);
    p += pad;
    put16(extra_length, (uint32_t)(p - extra));
    TRY(tic_sink_write(w->sink, head, (size_t)(p - head)));
    return tic_sink_write(w->sink, data, size);
}

static TicStatus write_central(TicZipWriter *w, const struct TicZipWritten *e)
{
    unsigned char head[CENTRAL_BYTES + 28], *p = head;
    size_t length = strlen(e->name), extra = 0;
    bool big = e->size >= ABOVE, far = e->header >= ABOVE;
    if (big || far)
        extra = 4 + (big ? 16 : 0) + (far ? 8 : 0);
    p = put32(p, CENTRAL);
    p = put16(p, 45);                            /* made by: nothing of the host, version 4.5 */
    p = put_common(p, extra != 0);
    p = put32(p, e->crc);
    p = put32(p, fit32(e->size));
    p = put32(p, fit32(e->size));
    p = put16(p, (uint32_t)length);
    p = put16(p, (uint32_t)extra);
    memset(p, 0, 10);                            /* comment, disk, attributes */
    p = put32(p + 10, fit32(e->header));
    TRY(tic_sink_write(w->sink, head, CENTRAL_BYTES));
    TRY(tic_sink_write(w->sink, e->name, length));
    p = head;
    if (extra) {
        p = put16(p, EXTRA_ZIP64);
        p = put16(p, (uint32_t)extra - 4);
    }
    if (big) {
        p = put64(p, e->size);
        p = put64(p, e->size);
    }
    if (far)
        p = put64(p, e->header);
    return tic_sink_write(w->sink, head, extra);
}

static TicStatus write_end(TicZipWriter *w)
{
    uint64_t start = w->sink->at;
    for (size_t i = 0; i < w->count; i++)
        TRY(write_central(w, &w->done[i]));
    uint64_t at64 = w->sink->at, size = at64 - start;
    uint32_t count16 = w->count < 0xFFFF ? (uint32_t)w->count : 0xFFFF;
    unsigned char tail[END64_BYTES + LOCATOR_BYTES + END_BYTES], *p = tail;
    p = put32(p, END64);
    p = put64(p, END64_BYTES - 12);              /* what follows this field */
    p = put16(p, 45);
    p = put16(p, 45);
    p = put64(p, 0);                             /* this disk, the directory's disk */
    p = put64(p, w->count);
    p = put64(p, w->count);
    p = put64(p, size);
    p = put64(p, start);
    p = put32(p, LOCATOR);
    p = put32(p, 0);
    p = put64(p, at64);
    p = put32(p, 1);
    p = put32(p, END);
    p = put32(p, 0);
    p = put16(p, count16);
    p = put16(p, count16);
    p = put32(p, fit32(size));
    p = put32(p, fit32(start));
    p = put16(p, 0);
    return tic_sink_write(w->sink, tail, (size_t)(p - tail));
}

TicStatus tic_zip_end(TicZipWriter *w)
{
    TicStatus status = write_end(w);
    tic_zip_drop(w);
    return status;
}

void tic_zip_drop(TicZipWriter *w)
{
    for (size_t i = 0; i < w->count; i++)
        free(w->done[i].name);
    free(w->done);
    *w = (TicZipWriter){ 0 };
}
