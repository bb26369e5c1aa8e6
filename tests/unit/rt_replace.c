/* rt_replace.c -- files that replace others: all is on the disk before the new one gets the name, whoever writes it; a refusal of
 * the system leaves the old one, and a kill leaves nothing. The calls that matter are caught here. */
#define _GNU_SOURCE
#include "ckpt_test.h"
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include "ckpt/stream.h"
#include "data/views.h"
#include "infer/npy.h"

/* What was called, a letter each: F fsync of a file, R rename, D fsync of a folder. */
static char calls[32];
static int n_calls;
static struct stat synced;             /* the file, as it was when it was synced */
static bool no_nameless, refuse_fsync, refuse_rename, refuse_stream, asked_stream;

static void called(char what)
{
    assert_true(n_calls + 1 < (int)sizeof calls);
    calls[n_calls++] = what;
    calls[n_calls] = 0;
}

int fsync(int fd)
{
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    called(S_ISDIR(st.st_mode) ? 'D' : 'F');
    if (!S_ISDIR(st.st_mode))
        synced = st;
    if (refuse_fsync && !S_ISDIR(st.st_mode)) {
        errno = EIO;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    struct stat st;
    assert_int_equal(stat(from, &st), 0);
    called('R');
    assert_true(st.st_ino == synced.st_ino && st.st_size == synced.st_size);       /* nothing was written after it was synced */
    if (refuse_rename) {
        errno = EACCES;
        return -1;
    }
    return (int)syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
}

int open(const char *path, int flags, ...)
{
    va_list v;
    va_start(v, flags);
    mode_t mode = flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(v, mode_t) : 0;
    va_end(v);
    if (no_nameless && (flags & O_TMPFILE) == O_TMPFILE) {
        errno = EOPNOTSUPP;
        return -1;
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

FILE *fdopen(int fd, const char *mode)
{
    FILE *(*real)(int, const char *) = (FILE *(*)(int, const char *))dlsym(RTLD_NEXT, "fdopen");
    asked_stream = true;
    if (!refuse_stream)
        return real(fd, mode);
    errno = ENOMEM;
    return NULL;
}

/* ---- the writers: more than a buffer each */

enum { MANY = 200000 };

static TicStatus write_plain(const char *path)
{
    static char data[MANY];
    return tic_write_file(path, data, sizeof data);
}

static TicStatus write_sink(const char *path)
{
    static char data[MANY];
    TicSink s;
    TRY(tic_sink_open(&s, path));
    assert_int_equal(tic_sink_write(&s, data, sizeof data), TIC_OK);
    return tic_sink_commit(&s);
}

static TicStatus write_rows(const char *path)
{
    static float row[MANY / 4];
    TicNpy n;
    TicStatus status = tic_npy_open(&n, path, MANY / 4);
    if (status) {
        tic_npy_abandon(&n);
        return status;
    }
    assert_int_equal(tic_npy_add(&n, row, 1), TIC_OK);
    return tic_npy_commit(&n);
}

static TicStatus write_uids(const char *path)          /* the name is its own */
{
    static TicUid uid[MANY / 16];
    char name[] = "0.tar", *own = tic_format("%.*s", (int)(strrchr(path, '/') - path), path);
    TicUidShard shard = { .name = name, .bytes = 1, .samples = MANY / 16, .uid = uid };
    TicStatus status = tic_uid_index_write(own, &shard, 1);
    free(own);
    return status;
}

static const struct { const char *file; TicStatus (*write)(const char *path); } writer[] = {
    { "plain", write_plain }, { "sink", write_sink }, { "rows.npy", write_rows }, { "uids.index", write_uids },
};

static int files_in(const char *own)
{
    DIR *d = opendir(own);
    int n = 0;
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void clear_calls(void)
{
    n_calls = 0;
    calls[0] = 0;
}

static void for_each_writer(void (*test)(const char *own, const char *path, TicStatus (*write)(const char *path)))
{
    for (int named = 0; named < 2; named++)
        for (size_t i = 0; i < TIC_LEN(writer); i++) {
            char *own = tic_format("%s/%zu.%d", folder, i, named), *path = tic_format("%s/%s", own, writer[i].file);
            assert_int_equal(tic_make_dirs(own), TIC_OK);
            no_nameless = named;
            clear_calls();
            test(own, path, writer[i].write);
            no_nameless = refuse_fsync = refuse_rename = refuse_stream = false;
            unlink(path);
            free(path);
            free(own);
        }
}

static void in_order(const char *own, const char *path, TicStatus (*write)(const char *path))
{
    struct stat st;
    assert_int_equal(write(path), TIC_OK);
    assert_string_equal(calls, "FRD");
    assert_int_equal(stat(path, &st), 0);
    assert_true(st.st_size >= MANY && (st.st_mode & 0777) == 0644);
    assert_int_equal(files_in(own), 1);
}

static void test_order(void **state)
{
    mode_t mask = umask(022);
    for_each_writer(in_order);
    umask(mask);
}

static void put_old(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert_int_equal(write(fd, "old", 3), 3);
    close(fd);
}

/* The system refused, and the message says so; the old file is there, and nothing else. */
static void is_old(const char *own, const char *path, const char *why)
{
    struct stat st;
    expect_error(TIC_IO, why);
    assert_true(!stat(path, &st) && st.st_size == 3);
    assert_int_equal(files_in(own), 1);
}

static void refused(const char *own, const char *path, TicStatus (*write)(const char *path))
{
    put_old(path);
    refuse_fsync = true;
    assert_int_equal(write(path), TIC_IO);
    assert_string_equal(calls, "F");
    is_old(own, path, "cannot write: Input/output error");
    refuse_fsync = false;
    clear_calls();
    refuse_rename = true;
    assert_int_equal(write(path), TIC_IO);
    assert_string_equal(calls, "FR");
    is_old(own, path, "cannot rename from");
}

/* No memory for a stream's buffer, or no descriptor for it. */
static void no_stream(const char *own, const char *path, TicStatus (*write)(const char *path))
{
    put_old(path);
    asked_stream = false;
    refuse_stream = true;
    TicStatus status = write(path);
    if (!asked_stream) {
        assert_int_equal(status, TIC_OK);
        return;
    }
    assert_int_equal(status, TIC_IO);
    is_old(own, path, "cannot write: Cannot allocate memory");
}

static void test_no_stream(void **state) { for_each_writer(no_stream); }
static void test_refused(void **state) { for_each_writer(refused); }

/* One that was killed between two calls may have left its temporary file. */
static void over_another(const char *own, const char *path, TicStatus (*write)(const char *path))
{
    char *tmp = tic_format("%s.tmp", path);
    put_old(tmp);
    assert_int_equal(write(path), TIC_OK);
    assert_int_equal(files_in(own), 1);
    free(tmp);
}

static void test_left_over(void **state) { for_each_writer(over_another); }

static void test_killed(void **state)
{
    char *own = in_folder("killed"), *path = in_folder("killed/file");
    assert_int_equal(tic_make_dirs(own), TIC_OK);
    int fd = open(own, O_TMPFILE | O_WRONLY, 0644);
    if (fd < 0) {
        fprintf(stderr, "# skipped: this file system has no nameless files\n");
        free(own);
        free(path);
        skip();
    }
    close(fd);
    pid_t pid = fork();
    if (!pid) {
        TicSink s;
        if (!tic_sink_open(&s, path) && !tic_sink_write(&s, "half", 4))
            kill(getpid(), SIGKILL);
        _exit(1);
    }
    int code;
    assert_int_equal(waitpid(pid, &code, 0), pid);
    assert_true(WIFSIGNALED(code));
    assert_int_equal(files_in(own), 0);
    free(own);
    free(path);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order), cmocka_unit_test(test_refused), cmocka_unit_test(test_no_stream), cmocka_unit_test(test_left_over),
        cmocka_unit_test(test_killed),
    };
    return cmocka_run_group_tests_name("replace", tests, make_folder, remove_folder);
}
