/* shardread.c -- see shardread.h. A sample ends where the next one begins, so one member is always read ahead. */
#define _GNU_SOURCE
#include "shardread.h"
#include "data/tar.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* A sample of more members than this may have an extension twice, as in data/index.c. */
enum { EXTENSIONS = 64 };

struct ShardReader {
    TicTar *tar;
    char *path;
    int fd;
    ShardSample sample;
    ShardMember ahead;             /* name NULL: none */
    int64_t strays;
};

TicStatus shardread_open(const char *path, ShardReader **out)
{
    TicTar *tar;
    *out = NULL;
    TRY(tic_tar_open(path, &tar));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        tic_tar_close(tar);
        return tic_fail(TIC_USER, "%s: cannot open the shard: %s", path, strerror(errno));
    }
    *out = tic_alloc(sizeof **out);
    **out = (ShardReader){ .tar = tar, .path = tic_strdup(path), .fd = fd };
    return TIC_OK;
}

static void clear(ShardSample *s)
{
    for (int i = 0; i < s->count; i++)
        free(s->member[i].name);
    s->count = 0;
}

void shardread_close(ShardReader *r)
{
    if (!r)
        return;
    tic_tar_close(r->tar);
    close(r->fd);
    clear(&r->sample);
    free(r->sample.member);
    free(r->ahead.name);
    free(r->path);
    free(r);
}

const char *shardread_extension(const ShardMember *m) { return m->name + m->key_size + 1; }
const char *shardread_damage(const ShardReader *r) { return tic_tar_damage(r->tar); }
int64_t shardread_strays(const ShardReader *r) { return r->strays; }

static bool belongs(const ShardSample *s, const ShardMember *m)
{
    const ShardMember *first = s->member;
    if (first->key_size != m->key_size || memcmp(first->name, m->name, m->key_size))
        return false;
    for (int i = 0; i < s->count && i < EXTENSIONS; i++)
        if (!strcasecmp(shardread_extension(&s->member[i]), shardread_extension(m)))
            return false;
    return true;
}

static void add(ShardSample *s, ShardMember m)
{
    if (s->count == s->room) {
        s->room = s->room ? s->room * 2 : 8;
        s->member = tic_realloc(s->member, (size_t)s->room * sizeof *s->member);
    }
    s->member[s->count++] = m;
}

/* The next member that has a key, into r->ahead. */
static TicStatus read_ahead(ShardReader *r)
{
    TicTarMember m;
    size_t key;
    const char *extension;
    for (;;) {
        TRY(tic_tar_next(r->tar, &m));
        if (tic_tar_key(m.name, &key, &extension))
            break;
        r->strays++;
    }
    r->ahead = (ShardMember){ tic_strdup(m.name), key, m.offset, m.size };
    return TIC_OK;
}

TicStatus shardread_next(ShardReader *r, const ShardSample **sample)
{
    clear(&r->sample);
    *sample = NULL;
    if (!r->ahead.name)
        TRY(read_ahead(r));
    TicStatus status = TIC_OK;
    while (!status && (!r->sample.count || belongs(&r->sample, &r->ahead))) {
        add(&r->sample, r->ahead);
        r->ahead.name = NULL;
        status = read_ahead(r);
    }
    if (status && status != TIC_END)
        return status;
    *sample = &r->sample;
    return TIC_OK;
}

TicStatus shardread_bytes(ShardReader *r, const ShardMember *m, char **data)
{
    char *bytes = tic_alloc((size_t)m->size + 1);
    TicStatus status = TIC_OK;
    for (int64_t done = 0; done < m->size && !status;) {
        ssize_t got = pread(r->fd, bytes + done, (size_t)(m->size - done), m->offset + done);
        if (got > 0)
            done += got;
        else if (got == 0 || errno != EINTR)
            status = tic_fail(TIC_IO, "%s: cannot read: %s", r->path, got ? strerror(errno) : "it became shorter");
    }
    if (status)
        free(bytes);
    *data = status ? NULL : bytes;
    return status;
}
