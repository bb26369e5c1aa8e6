/* output.c -- what is made of the entries' kernels: LLVM and CUDA C, the texts of both, objects, and the linked program. */
#define _GNU_SOURCE
#include "cpu/cpu.h"
#include "device/machine.h"
#include "driver/gpu.h"
#include "driver/job.h"
#include <errno.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---- the program's file */

static const char *output_path(Job *j)
{
    if (j->o->output)
        return j->o->output;
    const char *slash = strrchr(j->o->input, '/'), *name = slash ? slash + 1 : j->o->input;
    size_t n = strlen(name);
    if (n > 4 && !strcmp(name + n - 4, ".tic"))
        return arena_strndup(&j->arena, name, n - 4);
    return arena_printf(&j->arena, "%s.out", name);
}

bool output_free(Job *j)
{
    const char *output = output_path(j);
    struct stat out, in;
    const char *why = NULL, *dot = strrchr(output, '.');
    char *copy = arena_printf(&j->arena, "%s", output);
    bool there = !stat(output, &out);
    if (dot && !strcmp(dot, ".tic"))
        why = "names a source file, which the program would replace";
    else if (there && !stat(j->o->input, &in) && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        why = "is the source file itself";
    else if (there && S_ISDIR(out.st_mode))
        why = "is a folder";
    else if (there && !S_ISREG(out.st_mode) && !j->o->emit)
        why = "is not a regular file, and the program would replace it; --check compiles nothing";
    else if (access(arena_printf(&j->arena, "%s/.", dirname(copy)), W_OK | X_OK))         /* of what is no folder it says so */
        why = arena_printf(&j->arena, "cannot be written: %s", strerror(errno));
    if (why)
        fprintf(stderr, "ticc: -o %s: %s\n", output, why);
    return !why;
}

static bool ends_in(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* The linker writes beside the program, which is then replaced at once: a full disk leaves what was there. */
static int link_program(Job *j, const char *const *object, int n_object, const char *output)
{
    const char *library = j->o->library;
    char self[4096];
    ssize_t n = library ? 0 : readlink("/proc/self/exe", self, sizeof self - 1);
    if (!library && n > 0) {
        self[n] = 0;
        const char *dir = dirname(self);
        const char *beside = arena_printf(&j->arena, "%s/libticrt.a", dir), *lib = arena_printf(&j->arena, "%s/../lib/ticc/libticrt.a", dir);
        library = !access(beside, R_OK) ? beside : !access(lib, R_OK) ? lib : NULL;
    }
    if (!library) {
        fprintf(stderr, "ticc: libticrt.a is neither beside ticc nor in ../lib/ticc: build it with `make`\n");
        return USER_FAULT;
    }
    const char *cc = getenv("CC");
    if (!cc || !*cc || strchr(cc, ' '))
        cc = "cc";
    const char *extra = getenv("TICC_LDFLAGS");      /* one flag, e.g. -fsanitize=address for a sanitizer build */
    const char *made = arena_printf(&j->arena, "%s.%d.new", output, (int)getpid());
    const char *rest[] = { library, "-ljpeg", "-lpng", "-lwebp", "-lz", "-lm", "-ldl", "-pthread", extra };
    /* a library binds its own tables, whatever else is loaded beside it, and shows the functions of runtime/clip.h */
    static const char *const shared[] = { "-shared", "-Wl,-Bsymbolic", "-Wl,-u,clip_load" };
    const char **argv = NEWN(&j->arena, const char *, 3 + n_object + (int)LEN(shared) + (int)LEN(rest) + 1);
    int n_argv = 0;
    argv[n_argv++] = cc;
    for (size_t i = 0; ends_in(output, ".so") && i < LEN(shared); i++)
        argv[n_argv++] = shared[i];
    argv[n_argv++] = "-o";
    argv[n_argv++] = made;
    for (int i = 0; i < n_object; i++)
        argv[n_argv++] = object[i];
    for (size_t i = 0; i < LEN(rest) && rest[i]; i++)
        argv[n_argv++] = rest[i];
    pid_t pid;
    int status = 0;
    int failed = posix_spawnp(&pid, cc, NULL, NULL, (char *const *)argv, environ);
    if (failed) {
        fprintf(stderr, "ticc: cannot run `%s` to link the program: %s\n"
                        "      a C compiler is needed for that; $CC names another one\n", cc, strerror(failed));
        return USER_FAULT;
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    bool linked = !status && !rename(made, output);
    if (status)
        fprintf(stderr, "ticc: `%s` could not link %s\n", cc, output);
    else if (!linked)
        fprintf(stderr, "ticc: -o %s: cannot be written: %s\n", output, strerror(errno));
    if (!linked)
        unlink(made);
    return linked ? 0 : USER_FAULT;
}

static uint64_t fnv(uint64_t h, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (unsigned char)s[i]) * 0x100000001b3u;
    return (h ^ 0xff) * 0x100000001b3u;
}

uint64_t program_hash(Job *j, const char *target)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (int i = 0; i < j->sources.file.n; i++)
        h = fnv(h, j->sources.file.at[i].text, (size_t)j->sources.file.at[i].size);
    for (int i = 0; i < j->o->n_define; i++) {
        h = fnv(h, j->o->define[i].name, strlen(j->o->define[i].name));
        h = fnv(h, j->o->define[i].value, strlen(j->o->define[i].value));
    }
    h = fnv(h, target, strlen(target));
    if (j->o->gpu)
        h = fnv(h, j->o->gpu, strlen(j->o->gpu));
    if (j->o->gpu && j->o->table) {
        Text lines = { .arena = &j->arena };
        tuned_print_lines(j->tuned, &lines);
        h = fnv(h, text_data(&lines), lines.n);
    }
    h = fnv(h, j->o->narrow ? "narrow" : "full", j->o->narrow ? 6 : 4);
    h = fnv(h, (const char *)&j->o->memory, sizeof j->o->memory);
    return fnv(h, TICC_VERSION, strlen(TICC_VERSION));
}

/* ---- kernels */

static int lower(Job *j, CpuModule *m, Entry *e, Text *why)
{
    for (int i = 0; i < e->fused->n_kernel; i++) {
        CpuLaunch launch[8];
        const Kernel *k = &e->fused->kernel[i];
        int n = cpu_lower(m, e->fused, k, launch, 8, why);
        if (n < 0)
            return job_fault(arena_printf(&j->arena, "kernel %d of `%s` (%s, %s)", i, e->name, kernel_class_name[k->cls], k->label), why);
        for (int l = 0; l < n; l++)
            PUSH(&j->arena, e->launch, (Launch){ launch[l].kernel, false, launch[l].arg, launch[l].n_arg, k,
                                                 launch[l].main ? kernel_flops(e->fused, k) : (Poly){ { 0, 0, 0 } } });
    }
    return 0;
}

/* The same entry for GPUs: scalars the host knows stay with the CPU. */
static int lower_gpu(Job *j, CpuModule *cpu, CudaModule *m, const Entry *from, Entry *e, Text *why)
{
    *e = (Entry){ .name = from->name, .target = TIC_CUDA, .fused = from->gpu,
                  .forward_flops_per_pair = from->forward_flops_per_pair };
    for (int i = 0; i < e->fused->n_kernel; i++) {
        const Kernel *k = &e->fused->kernel[i];
        bool host = k->cls == K_HOST;
        CpuLaunch on_cpu[8];
        CudaLaunch launch[8];
        int n = host ? cpu_lower(cpu, e->fused, k, on_cpu, 8, why) : cuda_lower(m, e->fused, k, launch, 8, why);
        if (n < 0)
            return job_fault(arena_printf(&j->arena, "kernel %d of `%s` (%s, %s) for CUDA", i, e->name, kernel_class_name[k->cls],
                                          k->label), why);
        for (int l = 0; l < n; l++)
            PUSH(&j->arena, e->launch, (Launch){ host ? on_cpu[l].kernel : launch[l].kernel, host, host ? on_cpu[l].arg : launch[l].arg,
                                                 host ? on_cpu[l].n_arg : launch[l].n_arg, k,
                                                 l ? (Poly){ { 0, 0, 0 } } : kernel_flops(e->fused, k) });
    }
    return 0;
}

/* Adds a CUDA entry for every program a GPU can run; prints what --emit asks of them. -1: go on. */
static int gpu_entries(Job *j, CpuModule *cpu, Entry *entry, int *n_entry, BlobInput *in)
{
    Text why = { .arena = &j->arena }, text = { .arena = &j->arena };
    int n = *n_entry;
    const char **arch = gpu_architectures(&j->arena, j->o->gpu, &in->n_arch, &why);
    if (!arch) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    const CudaTarget target = gpu_target(j->tuned, arch, in->n_arch, &in->program->train);
    CudaModule *m = cuda_module_new(&j->arena, &target);
    in->cuda = m;
    for (int i = 0; i < n; i++)
        if (runs_on_gpu(&entry[i])) {
            int code = lower_gpu(j, cpu, m, &entry[i], &entry[*n_entry], &why);
            if (code)
                return code;
            (*n_entry)++;
        }
    job_mark(j, "kernels to CUDA C");
    bool ptx = job_emits(j, "ptx"), resources = job_emits(j, "resources"), ok = true;
    if ((ptx || resources) && !in->n_arch) {
        fprintf(stderr, "ticc: --emit=%s: wanted an architecture: --target cuda:sm_80\n", j->o->emit);
        return USER_FAULT;
    }
    if (job_emits(j, "cuda"))
        cuda_print(m, &text);
    else if (ptx)
        ok = gpu_ptx(m, &j->arena, arch[0], &text, &why);
    else if (in->n_arch)
        ok = gpu_compile(m, &j->arena, arch, in->n_arch, (GpuImage **)&in->image, resources ? &text : NULL, &why);
    if (!ok) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    job_mark(j, "CUDA C to machine code");
    fwrite(text_data(&text), 1, text.n, stdout);
    return job_emits(j, "cuda") || ptx || resources ? 0 : -1;
}

CpuTarget cpu_target(const Options *o, int parts) { return (CpuTarget){ o->target ? o->target : "native", NULL, parts, o->memory > 0 }; }

int back_end(Job *j, Program *p, Entry *entry, int n_entry)
{
    const Options *o = j->o;
    Text why = { .arena = &j->arena };
    bool text = job_emits(j, "llvm") || job_emits(j, "asm");
    int cores = tic_processors(0);
    CpuTarget target = cpu_target(o, text ? 1 : cores > 8 ? 8 : cores);
    CpuModule *m = cpu_module_new(&j->arena, &target, &why);
    if (!m) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    for (int i = 0; i < n_entry; i++) {
        int code = lower(j, m, &entry[i], &why);
        if (code) {
            cpu_module_free(m);
            return code;
        }
    }
    job_mark(j, "kernels to LLVM");
    BlobInput in = { .program = p, .entry = entry, .n_entry = n_entry, .step = p->graph,
                     .source = j->sources.file.at[0].text,
                     .target = cpu_module_target(m), .version = TICC_VERSION, .hash = program_hash(j, cpu_module_target(m)),
                     .n_kernels = cpu_module_kernels(m), .n_distinct = entry[0].fused->n_distinct };
    if (o->gpu) {
        int code = gpu_entries(j, m, entry, &in.n_entry, &in);
        if (code >= 0) {
            cpu_module_free(m);
            return code;
        }
        in.n_kernels = cpu_module_kernels(m);
    }
    size_t size;
    const void *blob = blob_build(&in, &j->arena, &size);
    const char *output = text ? o->output : output_path(j);
    const char *object = text ? output : arena_printf(&j->arena, "%s.%d.o", output, (int)getpid());
    bool done = cpu_module_emit(m, blob, size, object, job_emits(j, "llvm") ? 'l' : text ? 's' : 'o', &why);
    int n_object = cpu_module_parts(m);
    const char **objects = NEWN(&j->arena, const char *, n_object);
    for (int i = 0; i < n_object; i++)
        objects[i] = cpu_module_path(m, object, i);
    cpu_module_free(m);
    if (!done) {
        for (int i = 0; i < n_object && !text; i++)
            unlink(objects[i]);
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    job_mark(j, "LLVM to machine code");
    if (text)
        return 0;
    int code = link_program(j, objects, n_object, output);
    for (int i = 0; i < n_object; i++)
        unlink(objects[i]);
    job_mark(j, "link");
    return code;
}
