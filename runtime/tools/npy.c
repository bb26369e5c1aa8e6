/* npy.c -- see npy.h. */
#include "npy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADER = 128 };

static void put_le64(unsigned char *out, uint64_t v)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(v >> (8 * i));
}

TicStatus npy_write_uids(const char *path, Uid *uids, size_t n)
{
    if (n)
        qsort(uids, n, sizeof *uids, tic_uid_order);
    unsigned char *bytes = tic_alloc(HEADER + 16 * n);
    memcpy(bytes, "\x93NUMPY\x01\x00", 8);
    bytes[8] = HEADER - 10;      /* length of the text that follows, two bytes */
    char text[HEADER - 10 + 1];
    int length = snprintf(text, sizeof text,
                          "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (%zu,), }", n);
    memset(bytes + 10, ' ', HEADER - 10);
    memcpy(bytes + 10, text, (size_t)length);
    bytes[HEADER - 1] = '\n';
    for (size_t i = 0; i < n; i++) {
        put_le64(bytes + HEADER + 16 * i, uids[i].high);
        put_le64(bytes + HEADER + 16 * i + 8, uids[i].low);
    }
    TicStatus status = tic_write_file(path, bytes, HEADER + 16 * n);
    free(bytes);
    return status;
}
