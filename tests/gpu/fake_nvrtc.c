/* fake_nvrtc.c -- a libnvrtc that compiles kernels for the emulator: TIC_LIBNVRTC=.../libemu_nvrtc.so.
 *
 * nvrtcCompileProgram runs the C compiler on the text with -DTC_EMU and -fsanitize=thread; the "cubin" is the bytes of a
 * shared object, which fake_cuda.c loads. Behind the text it puts, for each TC_KERNEL, a function that unpacks the
 * arguments as cuLaunchKernel gets them, and what a launch of it must keep to. */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct Program {
    char *source, *log, *object;
    size_t object_bytes;
    int n_header;
    char **header, **header_name;
} Program;

enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3, INVALID_OPTION = 5, COMPILATION = 6 };

/* what the product calls */
const char *nvrtcGetErrorString(int e);
int nvrtcVersion(int *major, int *minor);
int nvrtcGetNumSupportedArchs(int *n);
int nvrtcGetSupportedArchs(int *archs);
int nvrtcCreateProgram(Program **out, const char *src, const char *name, int n, const char *const *headers, const char *const *names);
int nvrtcDestroyProgram(Program **p);
int nvrtcCompileProgram(Program *p, int n, const char *const *options);
int nvrtcGetProgramLogSize(Program *p, size_t *n);
int nvrtcGetProgramLog(Program *p, char *log);
int nvrtcGetCUBINSize(Program *p, size_t *n);
int nvrtcGetCUBIN(Program *p, char *bytes);
int nvrtcGetPTXSize(Program *p, size_t *n);
int nvrtcGetPTX(Program *p, char *bytes);

const char *nvrtcGetErrorString(int e)
{
    return e == OK ? "NVRTC_SUCCESS" : e == COMPILATION ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR";
}

int nvrtcVersion(int *major, int *minor)
{
    *major = 13;
    *minor = 98;                       /* none of NVIDIA's: what is kept of the two is never taken for each other. New flags, new number */
    return OK;
}

static const int archs[] = {80, 90};
int nvrtcGetNumSupportedArchs(int *n)
{
    *n = sizeof archs / sizeof *archs;
    return OK;
}

int nvrtcGetSupportedArchs(int *out)
{
    memcpy(out, archs, sizeof archs);
    return OK;
}

int nvrtcCreateProgram(Program **out, const char *src, const char *name, int n, const char *const *headers, const char *const *names)
{
    (void)name;
    Program *p = *out = calloc(1, sizeof *p);
    p->source = strdup(src);
    p->n_header = n;
    p->header = calloc((size_t)n + 1, sizeof *p->header);
    p->header_name = calloc((size_t)n + 1, sizeof *p->header_name);
    for (int i = 0; i < n; i++) {
        p->header[i] = strdup(headers[i]);
        p->header_name[i] = strdup(names[i]);
    }
    return OK;
}

int nvrtcDestroyProgram(Program **at)
{
    Program *p = *at;
    for (int i = 0; i < p->n_header; i++) {
        free(p->header[i]);
        free(p->header_name[i]);
    }
    free(p->header);
    free(p->header_name);
    free(p->source);
    free(p->log);
    free(p->object);
    free(p);
    *at = NULL;
    return OK;
}

/* ---- the text behind the kernels */

static const char *matching(const char *open)
{
    int depth = 0;
    for (const char *s = open; *s; s++) {
        depth += *s == '(';
        depth -= *s == ')';
        if (!depth)
            return s;
    }
    return NULL;
}

static bool word_char(char c)
{
    return c == '_' || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* One parameter without its name: its type. */
static void print_type(FILE *f, const char *from, const char *to)
{
    while (to > from && !word_char(to[-1]))
        to--;
    while (to > from && word_char(to[-1]))
        to--;
    fprintf(f, "%.*s", (int)(to - from), from);
}

typedef struct Parameter { const char *from, *to; } Parameter;

static int parameters(const char *open, const char *close, Parameter *out, int cap)
{
    int n = 0;
    const char *from = open + 1;
    for (const char *s = from; s <= close && n < cap; s++)
        if (*s == ',' || s == close) {
            const char *t = from;
            while (t < s && (*t == ' ' || *t == '\n'))
                t++;
            if (t < s)
                out[n++] = (Parameter){t, s};
            from = s + 1;
        }
    return n;
}

/* TC_KERNEL void TC_BOUNDS(threads, blocks) NAME(parameters). `expanded`: the text after the preprocessor, where the
 * words before the name are marks. */
static bool print_thunks(FILE *f, const char *expanded)
{
    enum { MOST = 64 };
    Parameter p[MOST];
    for (const char *s = expanded; (s = strstr(s, "__emu_kernel__")); s++) {
        const char *bounds = strstr(s, "__emu_bounds__");
        const char *open = bounds ? strchr(bounds, '(') : NULL, *end = open ? matching(open) : NULL;
        if (!end)
            return false;
        const char *name = end + 1;
        while (*name && !word_char(*name))
            name++;
        const char *params = name;
        while (word_char(*params))
            params++;
        int length = (int)(params - name);
        while (*params == ' ')
            params++;
        const char *close = *params == '(' ? matching(params) : NULL;
        if (!close)
            return false;
        int n = parameters(params, close, p, MOST);
        fprintf(f, "\n__attribute__((no_sanitize_thread)) void emu_thunk_%.*s(void **a) { %.*s(", length, name, length, name);
        for (int i = 0; i < n; i++) {
            fprintf(f, "%s*(__typeof__(", i ? ", " : "");
            print_type(f, p[i].from, p[i].to);
            fprintf(f, ") *)a[%d]", i);
        }
        fprintf(f, "); }\nconst unsigned emu_sizes_%.*s[] = {", length, name);
        for (int i = 0; i < n; i++) {
            fprintf(f, "sizeof(");
            print_type(f, p[i].from, p[i].to);
            fprintf(f, "), ");
        }
        fprintf(f, "0};\nconst unsigned emu_bounds_%.*s[] = {%.*s};\n", length, name, (int)(end - open - 1), open + 1);
        s = close;
    }
    return true;
}

/* ---- running the compiler */

static char *slurp(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return NULL;
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    rewind(f);
    char *s = malloc((size_t)size + 1);
    size_t got = fread(s, 1, (size_t)size, f);
    fclose(f);
    s[got] = 0;
    if (n)
        *n = got;
    return s;
}

static bool write_text(const char *dir, const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    if (!f)
        return false;
    fputs(text, f);
    return fclose(f) == 0;
}

static bool run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
static bool run(const char *fmt, ...)
{
    char command[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(command, sizeof command, fmt, args);
    va_end(args);
    int status = system(command);
    return WIFEXITED(status) && !WEXITSTATUS(status);
}

static bool hopper(int n, const char *const *options)
{
    for (int i = 0; i < n; i++)
        if (strstr(options[i], "sm_90a"))
            return true;
    return false;
}

static int arch_of(int n, const char *const *options)
{
    for (int i = 0; i < n; i++) {
        const char *s = strstr(options[i], "sm_");
        s = s ? s : strstr(options[i], "compute_");
        if (s)
            return atoi(strchr(s, '_') + 1);
    }
    return 80;
}

static int compile(Program *p, const char *dir, int n, const char *const *options)
{
    const char *cc = getenv("TIC_EMU_CC") ? getenv("TIC_EMU_CC") : "cc";
    int arch = arch_of(n, options);
    char flags[512], path[512];
    /* a vector is one access, as on a GPU: not taken apart (sra) */
    snprintf(flags, sizeof flags,
             "-std=gnu11 -w -O1 -fno-tree-sra -g1 -march=native -fPIC -DTC_EMU -D__CUDA_ARCH__=%d%s -I%s -I%s", arch * 10,
             hopper(n, options) ? " -D__CUDA_ARCH_FEAT_SM90_ALL" : "", dir, EMU_FOLDER);
    for (int i = 0; i < p->n_header; i++)
        if (!write_text(dir, p->header_name[i], p->header[i]))
            return INVALID_INPUT;
    if (!write_text(dir, "k.c", p->source))
        return INVALID_INPUT;
    /* the preprocessor first: only what it leaves is a kernel */
    bool ok = run("%s %s -P -E -DEMU_MARKS %s/k.c -o %s/k.i 2>%s/log", cc, flags, dir, dir, dir);
    snprintf(path, sizeof path, "%s/k.i", dir);
    char *expanded = ok ? slurp(path, NULL) : NULL;
    if (expanded) {
        snprintf(path, sizeof path, "%s/k.c", dir);
        FILE *f = fopen(path, "a");
        ok = f && print_thunks(f, expanded);
        if (f)                         /* the text itself, to quote from */
            fprintf(f, "\n__asm__(\".pushsection .rodata\\n.globl emu_source\\nemu_source: .incbin \\\"%s/k.c\\\"\\n.byte 0\\n.popsection\");\n", dir);
        if (f)
            fclose(f);
        free(expanded);
        ok = ok && run("%s %s -fsanitize=thread -c %s/k.c -o %s/k.o 2>%s/log", cc, flags, dir, dir, dir) &&
             run("%s -shared -nostdlib %s/k.o -o %s/k.so 2>%s/log", cc, dir, dir, dir);
    }
    snprintf(path, sizeof path, "%s/log", dir);
    free(p->log);
    p->log = slurp(path, NULL);
    snprintf(path, sizeof path, "%s/k.so", dir);
    free(p->object);
    p->object = ok ? slurp(path, &p->object_bytes) : NULL;
    return p->object ? OK : COMPILATION;
}

int nvrtcCompileProgram(Program *p, int n, const char *const *options)
{
    const char *tmp = getenv("TMPDIR");
    char dir[256];
    snprintf(dir, sizeof dir, "%s/emuXXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(dir))
        return OUT_OF_MEMORY;
    int e = compile(p, dir, n, options);
    if (!getenv("TIC_EMU_KEEP"))
        run("rm -rf %s", dir);
    return e;
}

int nvrtcGetProgramLogSize(Program *p, size_t *n)
{
    *n = p->log ? strlen(p->log) + 1 : 1;
    return OK;
}

int nvrtcGetProgramLog(Program *p, char *log)
{
    strcpy(log, p->log ? p->log : "");
    return OK;
}

int nvrtcGetCUBINSize(Program *p, size_t *n)
{
    *n = p->object_bytes;
    return p->object ? OK : INVALID_INPUT;
}

int nvrtcGetCUBIN(Program *p, char *bytes)
{
    if (!p->object)
        return INVALID_INPUT;
    memcpy(bytes, p->object, p->object_bytes);
    return OK;
}

int nvrtcGetPTXSize(Program *p, size_t *n) { return nvrtcGetCUBINSize(p, n); }
int nvrtcGetPTX(Program *p, char *bytes) { return nvrtcGetCUBIN(p, bytes); }
