/* events.c -- see events.h. A record is put together in memory and written with one call, so a kill tears at most the
 * last one, and opening the file again drops it. */
#define _GNU_SOURCE
#include "train/events.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEAD = 12, TAIL = 4, LARGEST_TAG = 64, LARGEST_RECORD = 64 + TIC_MAX_SCALARS * (LARGEST_TAG + 16), LARGEST_FILE = 1 << 30 };

struct TicEvents {
    char *path;
    int file;
};

typedef struct { uint8_t byte[HEAD + LARGEST_RECORD + TAIL]; size_t size; } Record;

uint32_t tic_crc32c(const void *data, size_t size)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < size; i++) {
        crc ^= ((const uint8_t *)data)[i];
        for (int k = 0; k < 8; k++)
            crc = crc >> 1 ^ (0x82F63B78u & -(crc & 1));
    }
    return ~crc;
}

static uint32_t masked(const void *data, size_t size)
{
    uint32_t crc = tic_crc32c(data, size);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

static void little(uint8_t *at, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        at[i] = (uint8_t)(v >> 8 * i);
}

static uint64_t from_little(const uint8_t *at, int bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint64_t)at[i] << 8 * i;
    return v;
}

/* ---- protobuf: a field is its number and wire type in a varint, then a varint, 4 or 8 bytes, or a length and bytes */

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, SUMMARY_VALUE = 1, VALUE_TAG = 1, VALUE_SIMPLE = 2 };

static void put_varint(Record *r, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        r->byte[r->size++] = (uint8_t)(v | 0x80);
    r->byte[r->size++] = (uint8_t)v;
}

static void put_field(Record *r, int number, int type) { put_varint(r, (uint64_t)number << 3 | (unsigned)type); }

static void put_fixed(Record *r, int number, uint64_t bits, int bytes)
{
    put_field(r, number, bytes == 8 ? FIXED64 : FIXED32);
    little(r->byte + r->size, bits, bytes);
    r->size += (size_t)bytes;
}

static void put_text(Record *r, int number, const char *text, size_t size)
{
    put_field(r, number, BYTES);
    put_varint(r, size);
    memcpy(r->byte + r->size, text, size);
    r->size += size;
}

static uint64_t double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static uint32_t float_bits(double v)
{
    float f = (float)v;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static void begin(Record *r, double wall_time)
{
    r->size = HEAD;
    put_fixed(r, EVENT_WALL_TIME, double_bits(wall_time), 8);
}

static TicStatus finish(TicEvents *e, Record *r)
{
    size_t data = r->size - HEAD;
    little(r->byte, data, 8);
    little(r->byte + 8, masked(r->byte, 8), 4);
    little(r->byte + r->size, masked(r->byte + HEAD, data), 4);
    r->size += TAIL;
    ssize_t n = write(e->file, r->byte, r->size);
    if (n != (ssize_t)r->size)
        return tic_fail(TIC_IO, "%s: cannot write: %s", e->path, strerror(n < 0 ? errno : ENOSPC));
    return TIC_OK;
}

/* ---- what is already there */

static bool get_varint(const uint8_t *data, size_t size, size_t *at, uint64_t *v)
{
    *v = 0;
    for (int shift = 0; shift < 64 && *at < size; shift += 7) {
        uint8_t byte = data[(*at)++];
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* The step of an Event; 0 when it does not say, as protobuf has it. */
static int64_t step_of(const uint8_t *data, size_t size)
{
    uint64_t key, v;
    for (size_t at = 0; at < size && get_varint(data, size, &at, &key);) {
        int type = (int)(key & 7);
        if (type == FIXED64 || type == FIXED32) {
            at += type == FIXED64 ? 8 : 4;
        } else if (!get_varint(data, size, &at, &v)) {
            break;
        } else if (type == BYTES) {
            if (v > size - at)
                break;
            at += (size_t)v;
        } else if (key >> 3 == EVENT_STEP) {
            return (int64_t)v;
        }
    }
    return 0;
}

/* Keeps the whole records up to `last_step`. */
static TicStatus cut(const char *path, int64_t last_step)
{
    char *data;
    size_t size, at = 0, kept = 0;
    if (access(path, F_OK))
        return TIC_OK;
    TRY(tic_read_file(path, LARGEST_FILE, &data, &size));
    uint8_t *byte = (uint8_t *)data;
    while (size - at >= HEAD + TAIL) {
        uint64_t n = from_little(byte + at, 8);
        if (from_little(byte + at + 8, 4) != masked(byte + at, 8) || n > size - at - HEAD - TAIL)
            break;
        const uint8_t *body = byte + at + HEAD;
        if (from_little(body + n, 4) != masked(body, (size_t)n))
            break;
        size_t whole = HEAD + (size_t)n + TAIL;
        if (step_of(body, (size_t)n) <= last_step) {
            memmove(byte + kept, byte + at, whole);
            kept += whole;
        }
        at += whole;
    }
    TicStatus status = kept == size ? TIC_OK : tic_write_file(path, data, kept);
    free(data);
    return status;
}

/* ---- the file */

TicStatus tic_events_open(const char *dir, int64_t last_step, TicEvents **out)
{
    *out = NULL;
    TRY(tic_make_dirs(dir));
    TicEvents *e = tic_alloc(sizeof *e);
    e->file = -1;
    e->path = tic_format("%s/events.out.tfevents.ticc", dir);
    TicStatus status = cut(e->path, last_step);
    if (!status && (e->file = open(e->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) < 0)
        status = tic_fail(TIC_IO, "%s: cannot write: %s", e->path, strerror(errno));
    if (!status && lseek(e->file, 0, SEEK_END) == 0) {
        Record r;
        begin(&r, 0);
        put_text(&r, EVENT_FILE_VERSION, "brain.Event:2", strlen("brain.Event:2"));
        status = finish(e, &r);
    }
    if (status)
        tic_events_close(e);
    else
        *out = e;
    return status;
}

TicStatus tic_events_put(TicEvents *e, int64_t step, double wall_time, const TicScalar *scalar, int n)
{
    Record r, value;
    if (n > TIC_MAX_SCALARS)
        return tic_fail(TIC_BUG, "%d values in one record of %s", n, e->path);
    begin(&r, wall_time);
    put_field(&r, EVENT_STEP, VARINT);
    put_varint(&r, (uint64_t)step);
    Record summary = { .size = 0 };
    for (int i = 0; i < n; i++) {
        value.size = 0;
        put_text(&value, VALUE_TAG, scalar[i].tag, strnlen(scalar[i].tag, LARGEST_TAG));
        put_fixed(&value, VALUE_SIMPLE, float_bits(scalar[i].value), 4);
        put_text(&summary, SUMMARY_VALUE, (const char *)value.byte, value.size);
    }
    put_text(&r, EVENT_SUMMARY, (const char *)summary.byte, summary.size);
    return finish(e, &r);
}

TicStatus tic_events_sync(TicEvents *e)
{
    return fsync(e->file) ? tic_fail(TIC_IO, "%s: cannot write: %s", e->path, strerror(errno)) : TIC_OK;
}

void tic_events_close(TicEvents *e)
{
    if (!e)
        return;
    if (e->file >= 0)
        close(e->file);
    free(e->path);
    free(e);
}
