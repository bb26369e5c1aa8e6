/* base.h -- what every part of the runtime shares: status codes with one message, counter-based random
 * numbers, whole-file input and output.
 *
 * Functions that can fail return TicStatus. The first failure on a thread is the story: tic_fail keeps its
 * text until tic_error_clear; callers pass the code upward with TRY and only `main` prints and exits. */
#ifndef TIC_BASE_H
#define TIC_BASE_H
#include <stddef.h>
#include <stdint.h>
#include <stdbool.h>
#include <stdio.h>

typedef enum TicStatus {
    TIC_OK = 0,
    TIC_USER = 1,        /* the input is wrong: a flag, a file, a shard, a checkpoint */
    TIC_BAD_SAMPLE = 2,  /* one sample is unusable: count it and go on */
    TIC_END = 3,         /* nothing more to read; not an error */
    TIC_IO = 4,          /* the system refused: disk full, permission, read error */
    TIC_BUG = 70,        /* our fault */
} TicStatus;

#define TRY(e) do { TicStatus try_ = (e); if (try_) return try_; } while (0)
#define TIC_LEN(a) (sizeof(a) / sizeof *(a))

/* Records the message unless one is already recorded on this thread; returns `code`.
 * Text: the subject first, then what was found, then what was wanted; no full stop. */
TicStatus tic_fail(TicStatus code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *tic_error(void);             /* "" when none; valid until the next call on this thread */
void tic_error_clear(void);

/* First of all in main: 0, 1 and 2 are open, be it on /dev/null. Else a file would get one of these numbers, and what is
 * printed would go into it. */
void tic_standard_files(void);
/* Was all that was printed written? What to return in place of a code of 0. */
int tic_standard_written(int code);

/* Memory: abort with one line when the system has none (the one failure that is not returned). */
void *tic_alloc(size_t bytes);           /* zeroed; free() it */
void *tic_alloc_aligned(size_t alignment, size_t bytes);           /* a multiple of it; not zeroed; free() it */
void *tic_realloc(void *p, size_t bytes);
char *tic_strdup(const char *s);
char *tic_format(const char *fmt, ...) __attribute__((format(printf, 1, 2)));   /* caller frees */
bool  tic_mul_overflow(int64_t a, int64_t b, int64_t *product);

/* Philox4x32-10 (Salmon et al., SC 2011): a pure function of (key, counter). */
typedef struct { uint32_t v[4]; } TicRandom4;
TicRandom4 tic_philox(uint64_t key, uint64_t counter_lo, uint64_t counter_hi);
double tic_uniform01(uint32_t hi, uint32_t lo);      /* [0, 1), 53 bits */

/* Files. tic_read_file: whole file, zero byte appended; refuses more than `limit` bytes. Caller frees *data. */
TicStatus tic_read_file(const char *path, size_t limit, char **data, size_t *size);
/* Writes a temporary file, puts it in place as tic_temporary_commit does: the old file survives any failure. */
TicStatus tic_write_file(const char *path, const void *data, size_t size);
/* A file that is to replace another one: a descriptor to write to, -1 with errno. It has no name where the file system can do
 * that (O_TMPFILE), so nothing is left of it when the process is killed; elsewhere it is `tmp`, which lies in the same folder. */
int tic_temporary_open(const char *tmp);
/* A stream that writes to fd, which stays open when the stream is closed. NULL with errno. */
FILE *tic_temporary_stream(int fd);
/* Syncs, names it `tmp` if it has no name, closes, renames over path, syncs the folder. On failure path is what it was and `tmp`
 * is gone. Either this or abandon ends the descriptor. */
TicStatus tic_temporary_commit(int fd, const char *tmp, const char *path);
void tic_temporary_abandon(int fd, const char *tmp);
/* TIC_USER where a rename over path would destroy what is no file: a device, a pipe; or fail: a folder. */
TicStatus tic_may_replace(const char *path);
TicStatus tic_hash_file(const char *path, uint64_t *hash);       /* tic_hash of all its bytes, read piece by piece */
TicStatus tic_make_dirs(const char *path);           /* mkdir -p */
/* Takes the folder for this process alone (DIR/.lock) until tic_unlock_folder or the process ends, however it ends.
 * TIC_USER when another one has it, with its number. *lock is -1 on failure; unlocking -1 does nothing. */
TicStatus tic_lock_folder(const char *dir, int *lock);
void tic_unlock_folder(int lock);
double tic_now(void);                                /* monotonic seconds */
uint64_t tic_hash(const void *data, size_t size, uint64_t seed);  /* FNV-1a, 64 bits */
#endif
