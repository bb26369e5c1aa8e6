/* tar.h -- the members of a tar file, by reading headers only.
 *
 * Understood: ustar with its prefix field, old (v7) headers, GNU long names ('L'), GNU base-256 sizes, pax extended
 * headers (path, size; local and global). Every header's checksum is verified. What is not a plain file (folders,
 * links, devices, and members with holes, of which GNU tar stores only the parts between) is passed over.
 *
 * Damage (a wrong checksum, a header that makes no sense, a file that ends inside a member) ends the walk: the
 * members before it have been delivered, tic_tar_next returns TIC_END, and tic_tar_damage says what is wrong. A
 * file that simply stops after a complete member, without the two zero blocks, is not damaged; one of 0 bytes is.
 *
 * Formats: POSIX.1-2017 pax (ustar and extended headers), GNU tar manual "Basic Tar Format". */
#ifndef TIC_DATA_TAR_H
#define TIC_DATA_TAR_H
#include "base.h"
#include <stdio.h>

typedef struct TicTar TicTar;

typedef struct {
    const char *name;              /* zero-terminated; valid until the next call */
    int64_t offset, size;          /* of the contents, bytes from the start of the file */
} TicTarMember;

/* TIC_USER when the file cannot be opened. One reader belongs to one thread. */
TicStatus tic_tar_open(const char *path, TicTar **out);
/* The same over bytes in memory, which must outlive the reader. */
TicTar *tic_tar_open_memory(const void *data, size_t size);
/* TIC_OK and *m, TIC_END after the last usable member, TIC_IO when the system refuses to read. */
TicStatus tic_tar_next(TicTar *t, TicTarMember *m);
const char *tic_tar_damage(const TicTar *t);         /* NULL when the walk met none (so far) */
void tic_tar_close(TicTar *t);

/* Splits a member's name by the webdataset rule: the key is the path up to the first '.' of its last part, the
 * extension what follows. False for names that are no part of a sample: without '.', with nothing before it, and
 * names that are, or begin with a folder that is, __like_this__. */
bool tic_tar_key(const char *name, size_t *key_size, const char **extension);

/* Writing, for tools and tests: one member (mode 0444, time 0, long names by a pax header), then the end mark. */
TicStatus tic_tar_append(FILE *f, const char *name, const void *data, size_t size);
TicStatus tic_tar_finish(FILE *f);
#endif
