/* stream.h -- the two ends of a checkpoint file: bytes read by position, bytes written so that nothing is lost.
 *
 * A TicBytes is a regular file (read with pread, so a shrinking file is an error and not a signal) or a piece of
 * memory; every read is checked against its size. A TicSink collects what is written in a temporary
 * file (base.h) and puts it in place at the end, so PATH is at every moment the old file, whole, or the new file, whole. */
#ifndef TIC_CKPT_STREAM_H
#define TIC_CKPT_STREAM_H
#include "base.h"

typedef struct {
    uint64_t size;               /* bytes */
    const unsigned char *data;   /* memory source: borrowed; else NULL */
    int fd;
    char *label;                 /* what messages call it: the path */
} TicBytes;

/* TIC_USER when the path cannot be opened or is no regular file. Close with tic_bytes_close. */
TicStatus tic_bytes_open(TicBytes *s, const char *path);
/* `data` must outlive the source. */
void tic_bytes_memory(TicBytes *s, const void *data, size_t size, const char *label);
void tic_bytes_close(TicBytes *s);
/* Copies bytes [at, at + n) to `out`: TIC_USER when they reach past the end, TIC_IO when the system fails. */
TicStatus tic_bytes_read(const TicBytes *s, uint64_t at, void *out, size_t n);

/* May a table of `size` bytes stand in a file of `whole` bytes? Read, it takes up to forty times its size (each byte can be
 * a value); so that a file never costs more than twice its own size, it is at most a thirty-second of it, or a megabyte. */
static inline bool tic_index_fits(uint64_t size, uint64_t whole) { return size <= 1 << 20 || size <= whole / 32; }

typedef struct {
    uint64_t at;                 /* bytes written so far */
    int fd;
    char *path, *tmp;
    unsigned char *buffer;
    size_t used;
} TicSink;

/* Creates the temporary file. After an error nothing needs closing. */
TicStatus tic_sink_open(TicSink *s, const char *path);
/* TIC_IO when the system refuses, for example on a full disk; then abandon the sink. */
TicStatus tic_sink_write(TicSink *s, const void *data, size_t n);
/* Flushes and puts the file in place, as tic_temporary_commit does. Ends the sink either way. */
TicStatus tic_sink_commit(TicSink *s);
/* Drops what was written. Ends the sink; harmless on one that has ended. */
void tic_sink_abandon(TicSink *s);
#endif
