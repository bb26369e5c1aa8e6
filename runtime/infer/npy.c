/* npy.c -- see npy.h. */
#include "infer/npy.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { HEADER = 128 };

static TicStatus refused(const TicNpy *n)
{
    return tic_fail(TIC_IO, "%s: cannot write: %s", n->path, strerror(errno));
}

static TicStatus header(TicNpy *n)
{
    char bytes[HEADER + 1];
    memset(bytes, ' ', HEADER);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    bytes[8] = HEADER - 10;          /* length of the text, two bytes */
    bytes[9] = 0;
    int length = snprintf(bytes + 10, HEADER - 10, "{'descr': '<f4', 'fortran_order': False, 'shape': (%lld, %lld), }",
                          (long long)n->rows, (long long)n->width);
    bytes[10 + length] = ' ';
    bytes[HEADER - 1] = '\n';
    return fwrite(bytes, 1, HEADER, n->file) == HEADER ? TIC_OK : refused(n);
}

TicStatus tic_npy_open(TicNpy *n, const char *path, int64_t width)
{
    *n = (TicNpy){ 0 };
    TRY(tic_may_replace(path));
    *n = (TicNpy){ .path = tic_strdup(path), .tmp = tic_format("%s.tmp", path), .width = width };
    n->fd = tic_temporary_open(n->tmp);
    if (n->fd < 0)
        return refused(n);
    n->file = tic_temporary_stream(n->fd);
    if (n->file)
        return header(n);
    TicStatus status = refused(n);
    tic_temporary_abandon(n->fd, n->tmp);
    return status;
}

TicStatus tic_npy_add(TicNpy *n, const float *rows, int64_t count)
{
    size_t values = (size_t)(count * n->width);
    n->rows += count;
    return fwrite(rows, sizeof *rows, values, n->file) == values ? TIC_OK : refused(n);
}

static void forget(TicNpy *n)
{
    free(n->path);
    free(n->tmp);
    *n = (TicNpy){ 0 };
}

TicStatus tic_npy_flush(TicNpy *n)
{
    TicStatus status = fseek(n->file, 0, SEEK_SET) ? refused(n) : header(n);
    return !status && fflush(n->file) ? refused(n) : status;
}

TicStatus tic_npy_commit(TicNpy *n)
{
    TicStatus status = tic_npy_flush(n);
    fclose(n->file);
    if (!status)
        status = tic_temporary_commit(n->fd, n->tmp, n->path);
    else
        tic_temporary_abandon(n->fd, n->tmp);
    forget(n);
    return status;
}

void tic_npy_abandon(TicNpy *n)
{
    if (n->file) {
        fclose(n->file);
        tic_temporary_abandon(n->fd, n->tmp);
    }
    forget(n);
}
