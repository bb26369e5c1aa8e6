/* base.c -- see base.h. */
#define _GNU_SOURCE
#include "base.h"
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static _Thread_local char last_error[2048];

TicStatus tic_fail(TicStatus code, const char *fmt, ...)
{
    if (last_error[0])
        return code;
    va_list v;
    va_start(v, fmt);
    vsnprintf(last_error, sizeof last_error, fmt, v);
    va_end(v);
    return code;
}

const char *tic_error(void) { return last_error; }
void tic_error_clear(void) { last_error[0] = 0; }

void tic_standard_files(void)
{
    int fd;
    while ((fd = open("/dev/null", O_RDWR)) >= 0 && fd <= 2)
        ;
    if (fd > 2)
        close(fd);
}

int tic_standard_written(int code)
{
    if ((!fflush(stdout) && !ferror(stdout)) || code)
        return code;
    fprintf(stderr, "error: the standard output cannot be written: %s\n", strerror(errno));
    return TIC_USER;
}

static _Noreturn void out_of_memory(size_t bytes)
{
    fprintf(stderr, "error: out of memory: %zu bytes wanted\n", bytes);
    exit(TIC_BUG);
}

void *tic_alloc(size_t bytes)
{
    void *p = calloc(1, bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes);
    return p;
}

void *tic_alloc_aligned(size_t alignment, size_t bytes)
{
    void *p = aligned_alloc(alignment, bytes);
    if (!p)
        out_of_memory(bytes);
    return p;
}

void *tic_realloc(void *p, size_t bytes)
{
    p = realloc(p, bytes ? bytes : 1);
    if (!p)
        out_of_memory(bytes);
    return p;
}

char *tic_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(tic_alloc(n), s, n);
}

char *tic_format(const char *fmt, ...)
{
    va_list v;
    va_start(v, fmt);
    char *s = NULL;
    if (vasprintf(&s, fmt, v) < 0)
        out_of_memory(0);
    va_end(v);
    return s;
}

bool tic_mul_overflow(int64_t a, int64_t b, int64_t *product) { return __builtin_mul_overflow(a, b, product); }

TicRandom4 tic_philox(uint64_t key, uint64_t lo, uint64_t hi)
{
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    TicRandom4 c = { { (uint32_t)lo, (uint32_t)(lo >> 32), (uint32_t)hi, (uint32_t)(hi >> 32) } };
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c.v[0], p1 = (uint64_t)0xCD9E8D57u * c.v[2];
        c = (TicRandom4){ { (uint32_t)(p1 >> 32) ^ c.v[1] ^ k0, (uint32_t)p1, (uint32_t)(p0 >> 32) ^ c.v[3] ^ k1, (uint32_t)p0 } };
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return c;
}

double tic_uniform01(uint32_t hi, uint32_t lo)
{
    return (double)(((uint64_t)hi << 21) ^ (lo >> 11)) * 0x1p-53;
}

TicStatus tic_read_file(const char *path, size_t limit, char **data, size_t *size)
{
    *data = NULL;
    *size = 0;
    FILE *f = fopen(path, "rb");
    if (!f)
        return tic_fail(TIC_USER, "%s: %s", path, strerror(errno));
    size_t have = 0, room = 1 << 16;
    char *buf = tic_alloc(room + 1);
    for (size_t n; (n = fread(buf + have, 1, room - have, f)) > 0;) {
        have += n;
        if (have > limit)
            break;
        if (have == room)
            buf = tic_realloc(buf, (room *= 2) + 1);
    }
    bool bad = ferror(f) != 0;
    fclose(f);
    if (bad || have > limit) {
        free(buf);
        return bad ? tic_fail(TIC_IO, "%s: cannot read: %s", path, strerror(errno))
                   : tic_fail(TIC_USER, "%s: more than %zu bytes", path, limit);
    }
    buf[have] = 0;
    *data = buf;
    *size = have;
    return TIC_OK;
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

TicStatus tic_make_dirs(const char *path)
{
    char *p = tic_strdup(path);
    TicStatus status = TIC_OK;
    for (char *s = *p ? p + 1 : p; !status && *p; s++) {
        if (*s && *s != '/')
            continue;
        char keep = *s;
        *s = 0;
        if (mkdir(p, 0777) && (errno != EEXIST || !is_folder(p)))
            status = tic_fail(TIC_IO, "%s: cannot make the folder: %s", p, strerror(errno));
        *s = keep;
        if (!keep)
            break;
    }
    free(p);
    return status;
}

/* A process that was killed a moment ago still holds its locks while the system takes its memory back. */
static bool wait_for_lock(int fd)
{
    const struct timespec pause = { .tv_nsec = 50 * 1000 * 1000 };
    int refused = 0;
    for (int i = 0; i < 40 && (refused = flock(fd, LOCK_EX | LOCK_NB)) && errno == EWOULDBLOCK; i++)
        nanosleep(&pause, NULL);
    return !refused || errno != EWOULDBLOCK;     /* a file system without locks keeps nobody out */
}

TicStatus tic_lock_folder(const char *dir, int *lock)
{
    char *path = tic_format("%s/.lock", dir), owner[32] = "";
    TicStatus status = TIC_OK;
    int fd = *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) {
        status = tic_fail(TIC_IO, "%s: cannot write: %s", path, strerror(errno));
    } else if (!wait_for_lock(fd)) {
        ssize_t n = read(fd, owner, sizeof owner - 1);
        owner[n > 0 ? n : 0] = 0;
        owner[strcspn(owner, "\n")] = 0;
        status = tic_fail(TIC_USER, "%s: process %s is at work in this folder; another --name or --out, or wait until it ends", dir,
                          owner[0] ? owner : "(unknown)");
        close(fd);
        *lock = -1;
    } else if (ftruncate(fd, 0) || dprintf(fd, "%ld\n", (long)getpid()) < 0) {
        status = tic_fail(TIC_IO, "%s: cannot write: %s", path, strerror(errno));
        close(fd);
        *lock = -1;
    }
    free(path);
    return status;
}

void tic_unlock_folder(int lock)
{
    if (lock >= 0)
        close(lock);
}

TicStatus tic_may_replace(const char *path)
{
    struct stat st;
    if (stat(path, &st) || S_ISREG(st.st_mode))
        return TIC_OK;
    if (S_ISDIR(st.st_mode))
        return tic_fail(TIC_USER, "%s: found a folder, wanted the name of a file", path);
    return tic_fail(TIC_USER, "%s: not a regular file, and would be replaced", path);
}

/* The folder a path lies in. Caller frees. */
static char *folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? tic_format("%.*s", slash == path ? 1 : (int)(slash - path), path) : tic_strdup(".");
}

int tic_temporary_open(const char *tmp)
{
    char *folder = folder_of(tmp);
    int fd = access("/proc/self/fd", X_OK) ? -1 : open(folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    free(folder);
    return fd >= 0 ? fd : open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

/* Gives a file without a name this one; one that was killed at this point may have left it. */
static int name_file(int fd, const char *tmp)
{
    struct stat st;
    char at[32];
    if (fstat(fd, &st) || st.st_nlink)
        return 0;
    snprintf(at, sizeof at, "/proc/self/fd/%d", fd);
    unlink(tmp);
    return linkat(AT_FDCWD, at, AT_FDCWD, tmp, AT_SYMLINK_FOLLOW);
}

/* Without this a power cut may undo the rename. Folders that cannot be synced at all (EINVAL) are left alone. */
static TicStatus sync_folder_of(const char *path)
{
    char *folder = folder_of(path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    TicStatus status = TIC_OK;
    if (fd >= 0 && fsync(fd) && errno != EINVAL)
        status = tic_fail(TIC_IO, "%s: cannot sync the folder: %s", folder, strerror(errno));
    if (fd >= 0)
        close(fd);
    free(folder);
    return status;
}

TicStatus tic_temporary_commit(int fd, const char *tmp, const char *path)
{
    TicStatus status = fsync(fd) ? tic_fail(TIC_IO, "%s: cannot write: %s", tmp, strerror(errno)) : TIC_OK;
    if (!status && name_file(fd, tmp))
        status = tic_fail(TIC_IO, "%s: cannot write: %s", tmp, strerror(errno));
    if (close(fd) && !status)
        status = tic_fail(TIC_IO, "%s: cannot write: %s", tmp, strerror(errno));
    if (!status && rename(tmp, path))
        status = tic_fail(TIC_IO, "%s: cannot rename from %s: %s", path, tmp, strerror(errno));
    if (!status)
        return sync_folder_of(path);
    unlink(tmp);
    return status;
}

FILE *tic_temporary_stream(int fd)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    FILE *f = own < 0 ? NULL : fdopen(own, "wb");
    if (own >= 0 && !f) {
        int why = errno;
        close(own);
        errno = why;
    }
    return f;
}

void tic_temporary_abandon(int fd, const char *tmp)
{
    struct stat st;
    if (!fstat(fd, &st) && st.st_nlink)
        unlink(tmp);
    close(fd);
}

TicStatus tic_write_file(const char *path, const void *data, size_t size)
{
    TRY(tic_may_replace(path));
    char *tmp = tic_format("%s.tmp", path);
    int fd = tic_temporary_open(tmp);
    TicStatus status = fd < 0 ? tic_fail(TIC_IO, "%s: cannot write: %s", tmp, strerror(errno)) : TIC_OK;
    for (size_t done = 0; !status && done < size;) {
        ssize_t n = write(fd, (const char *)data + done, size - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            status = tic_fail(TIC_IO, "%s: cannot write: %s", tmp, strerror(n ? errno : ENOSPC));
        else
            done += (size_t)n;
    }
    if (!status)
        status = tic_temporary_commit(fd, tmp, path);
    else if (fd >= 0)
        tic_temporary_abandon(fd, tmp);
    free(tmp);
    return status;
}

double tic_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static uint64_t hash_more(uint64_t h, const void *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        h = (h ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return h;
}

uint64_t tic_hash(const void *data, size_t size, uint64_t seed)
{
    return hash_more(0xcbf29ce484222325u ^ seed, data, size);
}

TicStatus tic_hash_file(const char *path, uint64_t *hash)
{
    enum { PIECE = 1 << 20 };
    FILE *f = fopen(path, "rb");
    if (!f)
        return tic_fail(TIC_USER, "%s: %s", path, strerror(errno));
    char *piece = tic_alloc(PIECE);
    *hash = tic_hash("", 0, 0);
    for (size_t n; (n = fread(piece, 1, PIECE, f)) > 0;)
        *hash = hash_more(*hash, piece, n);
    TicStatus status = ferror(f) ? tic_fail(TIC_IO, "%s: cannot read: %s", path, strerror(errno)) : TIC_OK;
    fclose(f);
    free(piece);
    return status;
}
