/* tarwrite.h -- writes a tar archive member by member, as webdataset's writer does: POSIX ustar, plain
 * files, mode 0444, owner and group "bigdata". Here the modification time is fixed, so that the same
 * members give the same bytes.
 *
 * The archive grows as PATH.tmp and gets its name only when it is whole and on disk. */
#ifndef TIC_TOOLS_TARWRITE_H
#define TIC_TOOLS_TARWRITE_H
#include "base.h"

typedef struct TarWriter TarWriter;

TicStatus tarwrite_open(const char *path, TarWriter **out);
/* Names that ustar cannot hold (more than 100 bytes, or more than 255 with a '/' in a good place) stand in a pax header
 * before the member. */
TicStatus tarwrite_member(TarWriter *w, const char *name, const void *data, size_t size);
/* Ends the archive and frees `w`, also on failure (then nothing is left on disk). *bytes may be NULL. */
TicStatus tarwrite_close(TarWriter *w, int64_t *bytes);
void tarwrite_discard(TarWriter *w);     /* gives up; NULL is allowed */
#endif
