/* stream.c -- see stream.h. Every system call's answer is looked at: a disk that fills up while a checkpoint is
 * written must leave the previous checkpoint and one clear message, whichever call notices it. */
#define _GNU_SOURCE
#include "ckpt/stream.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SINK_BUFFER = 1 << 18 };

TicStatus tic_bytes_open(TicBytes *s, const char *path)
{
    *s = (TicBytes){ .fd = -1 };
    /* O_NONBLOCK: opening a named pipe must fail below, not wait for a writer. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return tic_fail(TIC_USER, "%s: %s", path, strerror(errno));
    struct stat info;
    if (fstat(fd, &info) || !S_ISREG(info.st_mode)) {
        close(fd);
        return tic_fail(TIC_USER, "%s: not a regular file", path);
    }
    *s = (TicBytes){ .size = (uint64_t)info.st_size, .fd = fd, .label = tic_strdup(path) };
    return TIC_OK;
}

void tic_bytes_memory(TicBytes *s, const void *data, size_t size, const char *label)
{
    /* A non-NULL pointer marks the memory kind even when there is nothing to read. */
    *s = (TicBytes){ .size = size, .data = size ? data : (const void *)"", .fd = -1, .label = tic_strdup(label) };
}

void tic_bytes_close(TicBytes *s)
{
    if (s->fd >= 0)
        close(s->fd);
    free(s->label);
    *s = (TicBytes){ .fd = -1 };
}

TicStatus tic_bytes_read(const TicBytes *s, uint64_t at, void *out, size_t n)
{
    if (at > s->size || n > s->size - at)
        return tic_fail(TIC_USER, "%s: has %llu bytes, but bytes %llu to %llu are wanted: cut short", s->label,
                        (unsigned long long)s->size, (unsigned long long)at, (unsigned long long)at + n);
    if (s->data) {
        if (n)
            memcpy(out, s->data + at, n);
        return TIC_OK;
    }
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(s->fd, (char *)out + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tic_fail(TIC_IO, "%s: cannot read: %s", s->label, strerror(errno));
        if (!got)
            return tic_fail(TIC_IO, "%s: became shorter while it was read", s->label);
        done += (size_t)got;
    }
    return TIC_OK;
}

/* Ends the sink, whose descriptor is closed. */
static void forget(TicSink *s)
{
    free(s->path);
    free(s->tmp);
    free(s->buffer);
    *s = (TicSink){ .fd = -1 };
}

TicStatus tic_sink_open(TicSink *s, const char *path)
{
    *s = (TicSink){ .fd = -1 };
    TRY(tic_may_replace(path));
    *s = (TicSink){ .path = tic_strdup(path), .tmp = tic_format("%s.tmp", path) };
    s->fd = tic_temporary_open(s->tmp);
    if (s->fd >= 0) {
        s->buffer = tic_alloc(SINK_BUFFER);
        return TIC_OK;
    }
    TicStatus status = tic_fail(TIC_IO, "%s: cannot write: %s", s->tmp, strerror(errno));
    forget(s);
    return status;
}

static TicStatus write_all(TicSink *s, const unsigned char *data, size_t n)
{
    while (n) {
        ssize_t done = write(s->fd, data, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return tic_fail(TIC_IO, "%s: cannot write after %llu bytes: %s", s->tmp, (unsigned long long)s->at,
                            strerror(done ? errno : ENOSPC));
        data += done;
        n -= (size_t)done;
    }
    return TIC_OK;
}

static TicStatus flush(TicSink *s)
{
    size_t n = s->used;
    s->used = 0;
    return write_all(s, s->buffer, n);
}

TicStatus tic_sink_write(TicSink *s, const void *data, size_t n)
{
    if (!n)
        return TIC_OK;
    if (n > SINK_BUFFER - s->used)
        TRY(flush(s));
    if (n >= SINK_BUFFER) {
        TRY(write_all(s, data, n));
    } else {
        memcpy(s->buffer + s->used, data, n);
        s->used += n;
    }
    s->at += n;
    return TIC_OK;
}

TicStatus tic_sink_commit(TicSink *s)
{
    TicStatus status = flush(s);
    if (!status)
        status = tic_temporary_commit(s->fd, s->tmp, s->path);
    else
        tic_temporary_abandon(s->fd, s->tmp);
    forget(s);
    return status;
}

void tic_sink_abandon(TicSink *s)
{
    if (!s->tmp)
        return;
    tic_temporary_abandon(s->fd, s->tmp);
    forget(s);
}
