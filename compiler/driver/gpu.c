/* gpu.c -- see gpu.h. */
#include "driver/gpu.h"
#include "cuda/prelude.h"
#include "device/nvrtc.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- architectures */

/* TicGpuImage.arch */
static uint32_t gpu_arch_code(const char *name)
{
    char *end;
    unsigned long n = strtoul(name + 3, &end, 10);
    return (uint32_t)(*end ? n * 10 + (unsigned char)*end : n);
}

static bool is_architecture(const char *s)
{
    size_t digits;
    if (strncmp(s, "sm_", 3))
        return false;
    digits = strspn(s + 3, "0123456789");
    return (digits == 2 || digits == 3) && (!s[3 + digits] || (strchr("af", s[3 + digits]) && !s[4 + digits])) && atoi(s + 3) >= 80;
}

const char **gpu_architectures(Arena *a, const char *list, int *n, Text *why)
{
    int most = 1;
    for (const char *s = list; *s; s++)
        most += *s == ',';
    const char **name = NEWN(a, const char *, most);
    *n = 0;
    while (*list) {
        size_t len = strcspn(list, ",");
        char *one = arena_strndup(a, list, len);
        if (!is_architecture(one)) {
            text_printf(why, "--target: found `%s`, wanted an architecture such as sm_80 or sm_90a, 80 or above", one);
            return NULL;
        }
        name[(*n)++] = one;
        list += len + (list[len] == ',');
    }
    return name;
}

const char *gpu_portable(const char *const *arch, int n_arch)
{
    for (int i = 0; i < n_arch; i++)
        if (strcmp(arch[i], "sm_90a"))
            return arch[i];
    return "sm_80";
}

CudaTarget gpu_target(const Tuned *tuned, const char *const *arch, int n_arch, const TrainBlock *train)
{
    return (CudaTarget){ tuned, gpu_portable(arch, n_arch), train->micro ? train->micro : train->batch };
}

const Tuned *gpu_tuned(Arena *a, const char *path, Text *why)
{
    enum { MOST = 16 << 20 };
    Tuned *own = NEW(a, Tuned), *given = NEW(a, Tuned);
    char *text = NULL;
    size_t size;
    own->arena = given->arena = a;
    given->next = own;
    if (!tuned_read(own, "tuned.txt", cuda_tuned, why))
        return NULL;
    if (!path)
        return own;
    if (tic_read_file(path, MOST, &text, &size)) {
        text_printf(why, "--table: %s", tic_error());
        return NULL;
    }
    bool ok = tuned_read(given, path, text, why);
    free(text);
    return ok ? given : NULL;
}

/* ---- compiling */

/* The number before `word` in ptxas's line, 0 when it is not there: "Used 40 registers". */
static int number_before(const char *line, const char *end, const char *word)
{
    const char *at = strstr(line, word);
    if (!at || at >= end)
        return 0;
    while (at > line && at[-1] == ' ')
        at--;
    while (at > line && at[-1] >= '0' && at[-1] <= '9')
        at--;
    return atoi(at);
}

/* One line a kernel: ptxas says "Compiling entry function 'NAME'", then the spills, then the registers. */
static void report_log(const char *log, const char *arch, Text *out)
{
    char name[256] = "";
    int spills = 0;
    for (const char *line = log, *end; *line; line = *end ? end + 1 : end) {
        end = line + strcspn(line, "\n");
        const char *entry = strstr(line, "Compiling entry function '");
        if (entry && entry < end) {
            entry = strchr(entry, '\'') + 1;
            snprintf(name, sizeof name, "%.*s", (int)strcspn(entry, "'"), entry);
            spills = 0;
        }
        spills += number_before(line, end, "bytes spill stores") + number_before(line, end, "bytes spill loads");
        int registers = number_before(line, end, "registers");
        if (registers && *name) {
            text_printf(out, "%-44s %-7s %3d registers %4d spilled\n", name, arch, registers, spills);
            *name = 0;
        }
        for (const char *c = strstr(line, "C75"); c && c < end; c = NULL)
            text_printf(out, "%.*s\n", (int)(end - line), line);
    }
}

/* A job for each file and each architecture that it is for. */
static bool compile_texts(const CudaModule *m, Arena *a, const char *const *arch, int n_arch, bool ptx, TicCuda **out, int *n_out, Text *why)
{
    char reason[512] = "";
    int n = 0;
    TicCuda *job = NEWN(a, TicCuda, cuda_files(m) * n_arch);
    TicNvrtc *nvrtc = tic_nvrtc_open(reason, sizeof reason);
    *out = job;
    *n_out = 0;
    if (!nvrtc) {
        text_printf(why, "%s", reason);
        return false;
    }
    for (int i = 0; i < cuda_files(m) * n_arch; i++)
        if (cuda_file_is_for(m, i / n_arch, arch[i % n_arch]))
            job[n++] = (TicCuda){ .name = cuda_file_name(m, i / n_arch), .prelude = tc_prelude, .text = cuda_file(m, i / n_arch),
                                  .arch = arch[i % n_arch], .ptx = ptx };
    *n_out = n;
    bool all = !tic_nvrtc_recall(nvrtc, job, n) || tic_nvrtc_compile(nvrtc, job, n, 0);
    tic_nvrtc_close(nvrtc);
    for (int i = 0; i < n && !all; i++)
        if (!job[i].image) {
            text_printf(why, "NVRTC refuses %s for %s:\n%s", job[i].name, job[i].arch, job[i].log);
            break;
        }
    return all;
}

bool gpu_compile(const CudaModule *m, Arena *a, const char *const *arch, int n_arch, GpuImage **image, Text *report, Text *why)
{
    TicCuda *job;
    int n, at = 0;
    bool ok = compile_texts(m, a, arch, n_arch, false, &job, &n, why);
    *image = NEWN(a, GpuImage, cuda_files(m) * n_arch);
    for (int i = 0; ok && i < cuda_files(m) * n_arch; i++) {
        if (!cuda_file_is_for(m, i / n_arch, arch[i % n_arch]))
            continue;
        const TicCuda *j = &job[at++];
        void *copy = arena_alloc(a, j->bytes);
        memcpy(copy, j->image, j->bytes);
        (*image)[i] = (GpuImage){ gpu_arch_code(j->arch), copy, j->bytes };
        if (report)
            report_log(j->log, j->arch, report);
    }
    tic_nvrtc_free(job, n);
    return ok;
}

bool gpu_ptx(const CudaModule *m, Arena *a, const char *arch, Text *out, Text *why)
{
    TicCuda *job;
    int n;
    bool ok = compile_texts(m, a, &arch, 1, true, &job, &n, why);
    for (int i = 0; ok && i < n; i++)
        text_printf(out, "// %s\n%s\n", job[i].name, (const char *)job[i].image);
    tic_nvrtc_free(job, n);
    return ok;
}
