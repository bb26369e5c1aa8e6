/* nvrtc.c -- see nvrtc.h. Its functions have prototypes of our own; the builtins library, which NVRTC opens by its
 * soname at the first compilation, is loaded from the same folder first. */
#define _GNU_SOURCE
#include "device/nvrtc.h"
#include "device/machine.h"
#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

typedef struct Program *Handle;

struct TicNvrtc {
    int major, minor;
    int (*version)(int *, int *);
    int (*create)(Handle *, const char *, const char *, int, const char *const *, const char *const *);
    int (*compile)(Handle, int, const char *const *);
    int (*destroy)(Handle *);
    int (*log_size)(Handle, size_t *);
    int (*log)(Handle, char *);
    int (*cubin_size)(Handle, size_t *);
    int (*cubin)(Handle, char *);
    int (*ptx_size)(Handle, size_t *);
    int (*ptx)(Handle, char *);
    const char *(*error)(int);
};

const char tic_nvrtc_options[] = "-default-device\n--ptxas-options=-v\n";

/* ---- finding the library */

static void load_builtins(const char *library)
{
    char pattern[4096];
    const char *slash = strrchr(library, '/');
    glob_t g;
    if (!slash || snprintf(pattern, sizeof pattern, "%.*s/libnvrtc-builtins.so*", (int)(slash - library), library) >= (int)sizeof pattern)
        return;
    if (!glob(pattern, 0, NULL, &g)) {
        for (size_t i = 0; i < g.gl_pathc; i++)
            dlopen(g.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
        globfree(&g);
    }
}

static void *load(const char *path)
{
    load_builtins(path);
    return dlopen(path, RTLD_NOW);
}

/* The newest file a pattern names. */
static void *load_pattern(const char *pattern)
{
    glob_t g;
    void *library = NULL;
    if (glob(pattern, 0, NULL, &g))
        return NULL;
    for (size_t i = g.gl_pathc; i-- > 0 && !library;)
        library = load(g.gl_pathv[i]);
    globfree(&g);
    return library;
}

static void *find_library(char *why, size_t size)
{
    static const char *const names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so" };
    static const char *const homes[] = { "CUDA_HOME", "CUDA_PATH" };
    static const char *const python[] = { "lib/python3*/site-packages/nvidia/cu1*/lib/libnvrtc.so.1*",
                                          "lib/python3*/site-packages/nvidia/cuda_nvrtc/lib/libnvrtc.so.1*" };
    char pattern[4096];
    void *library = NULL;
    const char *given = getenv("TIC_LIBNVRTC"), *base;
    if (given && *given) {
        library = load(given);
        if (!library)
            snprintf(why, size, "TIC_LIBNVRTC: %s", dlerror());
        return library;
    }
    for (int i = 0; i < 3 && !library; i++)
        library = dlopen(names[i], RTLD_NOW);
    for (int i = 0; i < 3 && !library; i++) {
        base = i < 2 ? getenv(homes[i]) : "/usr/local/cuda";
        for (int k = 0; k < 2 && !library && base && *base; k++)
            if (snprintf(pattern, sizeof pattern, "%s/%s/libnvrtc.so.1*", base, k ? "lib" : "lib64") < (int)sizeof pattern)
                library = load_pattern(pattern);
    }
    const char *home = getenv("HOME"), *venv = getenv("VIRTUAL_ENV");
    char local[2048] = "";
    if (home)
        snprintf(local, sizeof local, "%s/.local", home);
    const char *const roots[] = { venv ? venv : "", local, "/usr/local", "/usr" };
    for (int r = 0; r < 4 && !library; r++)
        for (int k = 0; k < 2 && !library && *roots[r]; k++)
            if (snprintf(pattern, sizeof pattern, "%s/%s", roots[r], python[k]) < (int)sizeof pattern)
                library = load_pattern(pattern);
    if (!library)
        snprintf(why, size, "libnvrtc was not found: not by its name, in CUDA_HOME, /usr/local/cuda, or a Python package; TIC_LIBNVRTC can name it");
    return library;
}

TicNvrtc *tic_nvrtc_open(char *why, size_t size)
{
    void *library = find_library(why, size);
    if (!library)
        return NULL;
    TicNvrtc *n = tic_alloc(sizeof *n);
    *n = (TicNvrtc){ 0 };
    const struct { void *to; const char *name; } symbol[] = {
        { &n->version, "nvrtcVersion" },          { &n->create, "nvrtcCreateProgram" },  { &n->compile, "nvrtcCompileProgram" },
        { &n->destroy, "nvrtcDestroyProgram" },   { &n->log_size, "nvrtcGetProgramLogSize" }, { &n->log, "nvrtcGetProgramLog" },
        { &n->cubin_size, "nvrtcGetCUBINSize" },  { &n->cubin, "nvrtcGetCUBIN" },        { &n->ptx_size, "nvrtcGetPTXSize" },
        { &n->ptx, "nvrtcGetPTX" },               { &n->error, "nvrtcGetErrorString" },
    };
    for (size_t i = 0; i < TIC_LEN(symbol); i++) {
        void *at = dlsym(library, symbol[i].name);
        if (!at) {
            snprintf(why, size, "libnvrtc has no `%s`: it is older than 11.1", symbol[i].name);
            free(n);
            return NULL;
        }
        memcpy(symbol[i].to, &at, sizeof at);
    }
    n->version(&n->major, &n->minor);
    return n;
}

void tic_nvrtc_close(TicNvrtc *n) { free(n); }

/* ---- what is kept: a file for each job, with this in front of the log (zero included) and the image */

typedef struct { uint64_t hash, log; } Head;     /* hash: of all that follows it; log: its bytes */

static uint64_t hash_of(const char *file, size_t bytes) { return tic_hash(file + sizeof(uint64_t), bytes - sizeof(uint64_t), 0); }

/* Caller frees; NULL where there is no place for it. */
static char *cache_folder(void)
{
    const char *base = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (base && *base)
        return tic_format("%s/ticc", base);
    return home && *home ? tic_format("%s/.cache/ticc", home) : NULL;
}

static char *cache_path(const TicNvrtc *n, const TicCuda *job)
{
    const char *parts[] = { job->prelude, job->text, job->arch, job->ptx ? "ptx" : "", tic_nvrtc_options };
    uint64_t h = (uint64_t)(n->major * 1000 + n->minor * 10), k = ~h;
    for (size_t i = 0; i < TIC_LEN(parts); i++) {
        h = tic_hash(parts[i], strlen(parts[i]) + 1, h);
        k = tic_hash(parts[i], strlen(parts[i]) + 1, k ^ h);
    }
    char *folder = cache_folder(), *path = folder ? tic_format("%s/%016" PRIx64 "%016" PRIx64 ".nvrtc", folder, h, k) : NULL;
    free(folder);
    return path;
}

/* A process that was killed may have left a file with its own name (PATH.PID, see keep). Nobody writes at one for a day. */
static void sweep(void)
{
    char *folder = cache_folder();
    DIR *d = folder ? opendir(folder) : NULL;
    struct stat st;
    for (struct dirent *e; d && (e = readdir(d));)
        if (strstr(e->d_name, ".nvrtc.") && !fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) && st.st_mtime < time(NULL) - 24 * 3600)
            unlinkat(dirfd(d), e->d_name, 0);
    if (d)
        closedir(d);
    free(folder);
}

static bool recall(const TicNvrtc *n, TicCuda *job)
{
    enum { MOST = 64 << 20 };
    char *path = cache_path(n, job), *data = NULL;
    size_t bytes = 0;
    Head head = { 0, 0 };
    bool found = path && !tic_read_file(path, MOST, &data, &bytes) && bytes > sizeof head;
    if (found)
        memcpy(&head, data, sizeof head);
    found = found && head.hash == hash_of(data, bytes) && head.log > 0 && head.log < bytes - sizeof head && !data[sizeof head + head.log - 1];
    if (found) {
        job->log = memcpy(tic_alloc(head.log), data + sizeof head, head.log);
        job->bytes = bytes - sizeof head - head.log;
        job->image = memcpy(tic_alloc(job->bytes + 1), data + sizeof head + head.log, job->bytes);
    } else {
        tic_error_clear();
    }
    free(data);
    free(path);
    return found;
}

/* Keeping is a convenience: when it cannot be done, nobody is told. Other programs may keep the same at this moment: each writes a
 * file of its own, and puts it in its place when it is whole. */
static void keep(const TicNvrtc *n, const TicCuda *job)
{
    char *path = cache_path(n, job), *dir = cache_folder(), *own = path ? tic_format("%s.%d", path, (int)getpid()) : NULL;
    Head head = { 0, strlen(job->log) + 1 };
    size_t bytes = sizeof head + head.log + job->bytes;
    char *data = tic_alloc(bytes);
    memcpy(data, &head, sizeof head);
    memcpy(data + sizeof head, job->log, head.log);
    memcpy(data + sizeof head + head.log, job->image, job->bytes);
    head.hash = hash_of(data, bytes);
    memcpy(data, &head, sizeof head);
    if (path && (tic_make_dirs(dir) || tic_write_file(own, data, bytes)))
        tic_error_clear();
    else if (path && rename(own, path))
        unlink(own);
    free(data);
    free(own);
    free(dir);
    free(path);
}

int tic_nvrtc_recall(TicNvrtc *n, TicCuda *job, int n_jobs)
{
    int left = 0;
    for (int i = 0; i < n_jobs; i++)
        left += !job[i].image && !recall(n, &job[i]);
    return left;
}

/* ---- compiling */

static void take_image(TicNvrtc *n, Handle p, TicCuda *job)
{
    size_t bytes = 0;
    if ((job->ptx ? n->ptx_size : n->cubin_size)(p, &bytes) || !bytes)
        return;
    job->image = tic_alloc(bytes);
    job->bytes = bytes;
    if ((job->ptx ? n->ptx : n->cubin)(p, job->image)) {
        free(job->image);
        job->image = NULL;
    }
}

static void compile_one(TicNvrtc *n, TicCuda *job)
{
    double start = tic_now();
    size_t size = strlen(job->prelude) + strlen(job->text) + strlen(job->name) + 64;
    char *source = tic_alloc(size), arch[64], *options = tic_strdup(tic_nvrtc_options);
    const char *option[8];
    int n_option = 0, code;
    Handle p = NULL;
    snprintf(source, size, "#define TC_HOPPER %d\n%s\n#line 1 \"%s.cu\"\n%s", !strcmp(job->arch, "sm_90a"), job->prelude, job->name,
             job->text);
    snprintf(arch, sizeof arch, "--gpu-architecture=%s", job->arch);
    option[n_option++] = arch;
    for (char *o = options, *end = options + strlen(tic_nvrtc_options); o < end && n_option < 8; o += strlen(o) + 1) {
        char *line = strchr(o, '\n');
        if (line)
            *line = 0;
        if (*o)
            option[n_option++] = o;
    }
    code = n->create(&p, source, job->name, 0, NULL, NULL);
    if (!code)
        code = n->compile(p, n_option, option);
    size_t log_size = 0;
    if (p && !n->log_size(p, &log_size) && log_size > 1) {
        job->log = tic_alloc(log_size + 1);
        n->log(p, job->log);
        job->log[log_size] = 0;
    }
    if (!code)
        take_image(n, p, job);
    if (!job->log)
        job->log = tic_strdup(code ? n->error(code) : "");
    if (p)
        n->destroy(&p);
    free(source);
    free(options);
    job->seconds = tic_now() - start;
}

/* Long texts first: then no thread begins the longest when the others are done. */
typedef struct { TicNvrtc *n; TicCuda **job; int n_jobs, next; pthread_mutex_t lock; } Queue;

static int longer_first(const void *a, const void *b)
{
    size_t x = strlen((*(TicCuda *const *)a)->text), y = strlen((*(TicCuda *const *)b)->text);
    return (x < y) - (x > y);
}

static void *worker(void *arg)
{
    Queue *q = arg;
    for (;;) {
        pthread_mutex_lock(&q->lock);
        int i = q->next++;
        pthread_mutex_unlock(&q->lock);
        if (i >= q->n_jobs)
            return NULL;
        compile_one(q->n, q->job[i]);
        if (q->job[i]->image)
            keep(q->n, q->job[i]);
    }
}

bool tic_nvrtc_compile(TicNvrtc *n, TicCuda *job, int n_jobs, int threads)
{
    enum { MOST_THREADS = 64 };
    TicCuda **left = tic_alloc(((size_t)n_jobs + 1) * sizeof *left);
    Queue q = { .n = n, .job = left, .lock = PTHREAD_MUTEX_INITIALIZER };
    pthread_t thread[MOST_THREADS];
    int started = 0;
    if (threads <= 0)
        threads = tic_processors(0);
    for (int i = 0; i < n_jobs; i++)
        if (!job[i].image)
            left[q.n_jobs++] = &job[i];
    qsort(left, (size_t)q.n_jobs, sizeof *left, longer_first);
    threads = threads > q.n_jobs ? q.n_jobs : threads;
    while (started + 1 < threads && started < MOST_THREADS && !pthread_create(&thread[started], NULL, worker, &q))
        started++;
    worker(&q);
    for (int i = 0; i < started; i++)
        pthread_join(thread[i], NULL);
    pthread_mutex_destroy(&q.lock);
    free(left);
    if (q.n_jobs)
        sweep();
    bool all = true;
    for (int i = 0; i < n_jobs; i++)
        all = all && job[i].image;
    return all;
}

void tic_nvrtc_free(TicCuda *job, int n_jobs)
{
    for (int i = 0; i < n_jobs; i++) {
        free(job[i].image);
        free(job[i].log);
    }
}
