/* rt_nvrtc.c -- what is kept of NVRTC's work: it comes back whole or not at all, whatever became of the file, and whoever else
 * keeps the same at that moment. The library is one made here, whose image is the text many times over. */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "device/nvrtc.h"

static char folder[] = "/tmp/rt_nvrtc_XXXXXX";

enum { IMAGE = 1 << 20 };

static const char library[] =
    "#include <stddef.h>\n#include <stdlib.h>\n#include <string.h>\n"
    "enum { IMAGE = 1 << 20 };\n"
    "typedef struct { char last[16]; } P;\n"
    "int nvrtcVersion(int *a, int *b) { *a = 13; *b = 97; return 0; }\n"
    "int nvrtcCreateProgram(P **p, const char *s, const char *n, int k, const char *const *h, const char *const *m) {\n"
    "    size_t size = strlen(s); *p = calloc(1, sizeof **p); memcpy((*p)->last, s + size - 16, 16); return 0; }\n"
    "int nvrtcCompileProgram(P *p, int n, const char *const *o) { return memcmp(p->last, \"refused\", 7) ? 0 : 6; }\n"
    "int nvrtcDestroyProgram(P **p) { free(*p); *p = 0; return 0; }\n"
    "int nvrtcGetProgramLogSize(P *p, size_t *n) { *n = 5; return 0; }\n"
    "int nvrtcGetProgramLog(P *p, char *log) { memcpy(log, \"said\", 5); return 0; }\n"
    "int nvrtcGetCUBINSize(P *p, size_t *n) { *n = IMAGE; return 0; }\n"
    "int nvrtcGetCUBIN(P *p, char *to) { for (int i = 0; i < IMAGE; i += 16) memcpy(to + i, p->last, 16); return 0; }\n"
    "int nvrtcGetPTXSize(P *p, size_t *n) { return nvrtcGetCUBINSize(p, n); }\n"
    "int nvrtcGetPTX(P *p, char *to) { return nvrtcGetCUBIN(p, to); }\n"
    "const char *nvrtcGetErrorString(int e) { return \"refused it\"; }\n";

static TicNvrtc *open_library(void)
{
    char why[256] = "";
    TicNvrtc *n = tic_nvrtc_open(why, sizeof why);
    if (!n)
        fail_msg("%s", why);
    return n;
}

#define TEXT "0123456789abcdef"          /* its 16 last bytes, over and over, are the image */
static TicCuda make_job(const char *text) { return (TicCuda){ .name = "k", .prelude = "", .text = text, .arch = "sm_80" }; }

static bool is_whole(const TicCuda *job)
{
    bool whole = job->image && job->bytes == IMAGE && !strcmp(job->log, "said");
    for (size_t i = 0; whole && i < IMAGE; i += 16)
        whole = !memcmp((const char *)job->image + i, TEXT, 16);
    return whole;
}

/* The only file that is kept; how many there are. */
static int kept(char **path)
{
    char *dir = tic_format("%s/ticc", folder);
    int n = 0;
    DIR *d = opendir(dir);
    *path = NULL;
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            free(*path);
            *path = tic_format("%s/%s", dir, e->d_name);
            n++;
        }
    if (d)
        closedir(d);
    free(dir);
    return n;
}

static bool recalled(TicNvrtc *n)
{
    TicCuda job = make_job(TEXT);
    bool there = !tic_nvrtc_recall(n, &job, 1);
    if (there)
        assert_true(is_whole(&job));
    else
        assert_null(job.image);
    tic_nvrtc_free(&job, 1);
    return there;
}

static void compile(TicNvrtc *n)
{
    TicCuda job = make_job(TEXT);
    assert_true(tic_nvrtc_compile(n, &job, 1, 1));
    assert_true(is_whole(&job));
    tic_nvrtc_free(&job, 1);
}

static void test_kept(void **state)
{
    TicNvrtc *n = open_library();
    TicCuda other = make_job(TEXT "0"), refused = make_job("........refused_________");
    char *path, *data;
    size_t size;
    assert_false(recalled(n));
    compile(n);
    assert_true(recalled(n));
    assert_int_equal(kept(&path), 1);
    assert_int_equal(tic_nvrtc_recall(n, &other, 1), 1);
    assert_false(tic_nvrtc_compile(n, &refused, 1, 1));
    assert_null(refused.image);
    assert_string_equal(refused.log, "said");
    tic_nvrtc_free(&refused, 1);
    assert_string_equal(tic_error(), "");

    /* cut short, or with one bit turned, it is compiled again */
    assert_int_equal(tic_read_file(path, 8 << 20, &data, &size), TIC_OK);
    for (size_t cut = 0; cut < size; cut = cut < 64 ? cut + 1 : 3 * cut) {
        assert_int_equal(tic_write_file(path, data, cut), TIC_OK);
        assert_false(recalled(n));
    }
    for (size_t at = 0; at < size; at = at < 64 ? at + 1 : 3 * at) {
        data[at] ^= 4;
        assert_int_equal(tic_write_file(path, data, size), TIC_OK);
        assert_false(recalled(n));
        data[at] ^= 4;
    }
    compile(n);
    assert_true(recalled(n));
    free(data);
    free(path);
    tic_nvrtc_close(n);
}

static void test_many_at_once(void **state)
{
    enum { PROCESSES = 6, ROUNDS = 20 };
    char *path, byte;
    int go[2], status;
    pid_t child[PROCESSES];
    TicNvrtc *n = open_library();
    compile(n);
    assert_int_equal(pipe(go), 0);
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i])
            continue;
        close(go[1]);
        bool whole = read(go[0], &byte, 1) == 0;     /* all begin when the parent closes its end */
        for (int k = 0; k < ROUNDS && whole; k++) {
            TicCuda made = make_job(TEXT), known = make_job(TEXT);
            whole = tic_nvrtc_compile(n, &made, 1, 1) && is_whole(&made) && !tic_nvrtc_recall(n, &known, 1) && is_whole(&known);
            tic_nvrtc_free(&made, 1);
            tic_nvrtc_free(&known, 1);
        }
        _exit(whole ? 0 : 1);
    }
    close(go[0]);
    close(go[1]);
    for (int i = 0; i < PROCESSES; i++) {
        assert_int_equal(waitpid(child[i], &status, 0), child[i]);
        assert_int_equal(status, 0);
    }
    assert_true(recalled(n));
    assert_int_equal(kept(&path), 1);                /* and nothing is left lying */
    free(path);
    tic_nvrtc_close(n);
}

/* What a killed process left goes when somebody compiles a day later; what is being written now, and files of others, stay. */
static void test_left_over(void **state)
{
    static const struct { const char *name; int hours; bool stays; } file[] = {
        { "0123.nvrtc.77.tmp", 25, false }, { "0123.nvrtc.78", 25, false }, { "0123.nvrtc.79.tmp", 1, true }, { "0123.nvrtc", 9000, true },
        { "bpe_simple_vocab_16e6.txt.gz", 9000, true },
    };
    char *ignored;
    TicNvrtc *n = open_library();
    kept(&ignored);
    if (ignored)
        unlink(ignored);
    free(ignored);
    for (size_t i = 0; i < TIC_LEN(file); i++) {
        char *path = tic_format("%s/ticc/%s", folder, file[i].name);
        struct timespec at[2] = { { .tv_sec = time(NULL) - 3600 * file[i].hours } };
        at[1] = at[0];
        assert_int_equal(tic_write_file(path, "half", 4), TIC_OK);
        assert_int_equal(utimensat(AT_FDCWD, path, at, 0), 0);
        free(path);
    }
    compile(n);
    for (size_t i = 0; i < TIC_LEN(file); i++) {
        char *path = tic_format("%s/ticc/%s", folder, file[i].name);
        assert_int_equal(access(path, F_OK), file[i].stays ? 0 : -1);
        free(path);
    }
    tic_nvrtc_close(n);
}

static int make_library(void **state)
{
    if (!mkdtemp(folder))
        return -1;
    char *source = tic_format("%s/nvrtc.c", folder), *so = tic_format("%s/libnvrtc.so", folder);
    char *command = tic_format("cc -O1 -w -shared -fPIC %s -o %s", source, so);
    int failed = tic_write_file(source, library, sizeof library - 1) || system(command);
    setenv("TIC_LIBNVRTC", so, 1);
    setenv("XDG_CACHE_HOME", folder, 1);
    free(source);
    free(so);
    free(command);
    return failed ? -1 : 0;
}

static int remove_folder(void **state)
{
    char *command = tic_format("rm -rf %s", folder);
    int failed = system(command);
    free(command);
    return failed;
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_kept), cmocka_unit_test(test_many_at_once), cmocka_unit_test(test_left_over) };
    return cmocka_run_group_tests_name("nvrtc", tests, make_library, remove_folder);
}
