/* zip.h -- the part of the ZIP format that torch's checkpoints use: entries stored as they are, never compressed.
 *
 *     [local header, name, padding][payload]  ...  [central directory][ZIP64 end][ZIP64 locator][end]
 *
 * Each payload starts at a multiple of 64 bytes from the file's start, the gap being filled by an extra field "FB"
 * in the local header, so that tensors can be mapped into memory. The central directory at the end is what counts
 * when reading: torch leaves sizes and checksum in local headers at 0. Format: PKWARE APPNOTE 4.3 (headers), 4.5.3
 * (ZIP64 extra field); alignment and the extra field: PyTorch, caffe2/serialize/inline_container.cc. */
#ifndef TIC_CKPT_ZIP_H
#define TIC_CKPT_ZIP_H
#include "ckpt/stream.h"

typedef struct {
    const char *name;
    uint64_t offset, size;       /* the payload: bytes from the file's start, bytes */
    uint32_t crc;                /* CRC-32; 0: the writer did not compute it */
} TicZipEntry;

typedef struct {
    const TicBytes *source;     /* borrowed */
    TicZipEntry *entry;          /* in the order of the central directory */
    size_t count;
    const TicZipEntry **by_name; /* sorted */
    char *directory;             /* the central directory's bytes; names lie in it */
} TicZip;

/* Reads the central directory. TIC_USER, naming file and entry, for anything that is not a whole archive of stored
 * entries: a missing end, an entry out of bounds, compressed, encrypted or named twice. `source` must outlive it. */
TicStatus tic_zip_open(TicZip *z, const TicBytes *source);
void tic_zip_close(TicZip *z);
const TicZipEntry *tic_zip_find(const TicZip *z, const char *name);       /* NULL when absent */
/* The whole payload, e->size bytes, into `out`; TIC_USER when its checksum differs from the directory's. */
TicStatus tic_zip_read(const TicZip *z, const TicZipEntry *e, void *out);

typedef struct {
    TicSink *sink;               /* borrowed */
    struct TicZipWritten *done;
    size_t count, room;
} TicZipWriter;

void tic_zip_begin(TicZipWriter *w, TicSink *sink);
/* One stored entry; any size. `name` is UTF-8, shorter than 1024 bytes, and not yet in the archive. */
TicStatus tic_zip_add(TicZipWriter *w, const char *name, const void *data, uint64_t size);
/* The central directory and the end records; frees the writer. The sink still has to be committed. */
TicStatus tic_zip_end(TicZipWriter *w);
void tic_zip_drop(TicZipWriter *w);                                       /* frees the writer after a failure */
#endif
