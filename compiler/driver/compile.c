/* compile.c -- the stages in order, each of which --emit can print.
 *
 *   text -> tree -> graph -> gradient -> optimiser -> simplify -> fuse -> schedule -> kernels -> object -> executable
 *
 * A program has three entries, each lowered from a graph of its own: "step" (training), "image" and "text" (the towers
 * alone, for evaluation); some programs have more (tic.h). Kernels that are equal are built once for all of them. */
#define _GNU_SOURCE
#include "driver/compile.h"
#include "cpu/cpu.h"
#include "driver/blob.h"
#include "driver/gpu.h"
#include "driver/tune.h"
#include "front/parse.h"
#include "pass/kernel.h"
#include "pass/pieces.h"
#include "pass/plan.h"
#include <errno.h>
#include <libgen.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

typedef struct {
    const Options *o;
    Arena arena;
    Sources sources;
    Diag diag;
    int file;
    double last;
    Text times;
    const Tuned *tuned;              /* what was measured of templates for GPUs; NULL: no code for them is made */
} Job;

enum { USER_FAULT = 1, OUR_FAULT = 70 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void mark(Job *j, const char *stage)
{
    double t = now();
    text_printf(&j->times, "%-28s %8.1f ms\n", stage, t - j->last);
    j->last = t;
}

static int fault(const char *stage, const Text *why)
{
    fprintf(stderr, "ticc: internal error in %s: %s\n", stage, text_data(why));
    return OUR_FAULT;
}

/* `use NAME`: NAME.tic beside the file first, then the standard library. */
static const char *find_module(void *ctx, const char *name, const char **path)
{
    Job *j = ctx;
    const char *slash = strrchr(j->o->input, '/');
    *path = arena_printf(&j->arena, "%.*s%s.tic", slash ? (int)(slash - j->o->input + 1) : 0, j->o->input, name);
    FILE *f = strcmp(*path, j->o->input) ? fopen(*path, "rb") : NULL;
    if (f) {
        Text t = { .arena = &j->arena };
        char buf[4096];
        for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;)
            text_bytes(&t, buf, n);
        fclose(f);
        return text_data(&t);
    }
    for (const StdlibModule *m = ticc_stdlib; m->name; m++)
        if (!strcmp(m->name, name)) {
            *path = arena_printf(&j->arena, "stdlib/%s.tic", name);
            return m->text;
        }
    return NULL;
}

static bool keep_output(Graph *g, const char *const *names, int n)
{
    int kept = 0;
    for (int i = 0; i < g->n_output; i++)
        for (int k = 0; k < n; k++)
            if (!strcmp(g->output[i].name, names[k])) {
                g->output[kept++] = g->output[i];
                break;
            }
    g->n_output = kept;
    graph_dce(g);
    return kept > 0;
}

/* Multiply-adds of the full forward pass for one pair, times two: sums of products of two tensors, counted where the
 * batch is an outer loop (the loss, quadratic in the batch, is not counted; FACTS: 20.54 G multiply-adds for ViT-B/16). */
static double forward_flops(const Graph *g)
{
    double total = 0;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        const Expr *load[8];
        if (c->reducer != RED_SUM || comp_loads(c, load, 8) != 2 || c->body->kind != E_OP || c->body->op != OP_MUL)
            continue;
        int batches = 0;
        double points = 2;
        for (int k = 0; k < c->n_axes; k++)
            if (c->ext[k] == EXT_BATCH)
                batches++;
            else
                points *= (double)c->ext[k];
        uint32_t a = load[0]->axes, b = load[1]->axes;
        if (batches == 1 && (a & ~b) && (b & ~a))
            total += points;
    }
    return total;
}

static void print_params(const Program *p)
{
    int64_t total = 0;
    for (int i = 0; i < p->n_param; i++) {
        const Tensor *t = &p->graph->tensor[p->param[i]];
        int64_t n = 1;
        char shape[128] = "";
        for (int k = 0; k < t->rank; k++) {
            n *= t->shape[k];
            snprintf(shape + strlen(shape), sizeof shape - strlen(shape), "%s%lld", k ? "x" : "", (long long)t->shape[k]);
        }
        total += n;
        char init[80];
        if (t->init.kind == INIT_CONST)
            snprintf(init, sizeof init, "%g", t->init.a);
        else
            snprintf(init, sizeof init, "%s(%g, %g)", t->init.kind == INIT_NORMAL ? "normal" : "uniform", t->init.a, t->init.b);
        printf("%-60s %-16s %10lld  decay %-5g ~ %s\n", t->name, t->rank ? shape : "scalar", (long long)n,
               sema_weight_decay(p, i), init);
    }
    printf("%d tensors, %lld parameters\n", p->n_param, (long long)total);
}

static bool emits(const Job *j, const char *what) { return j->o->emit && !strcmp(j->o->emit, what); }

static void print_graph(const Graph *g, Arena *a)
{
    Text t = { .arena = a };
    graph_print(g, &t);
    fwrite(text_data(&t), 1, t.n, stdout);
}

/* A fresh elaboration of the program: entries do not share graphs. */
static bool elaborate(Job *j, Program *p)
{
    memset(p, 0, sizeof *p);
    return sema_program(p, &j->arena, &j->diag, j->file, j->o->define, j->o->n_define, find_module, j);
}

static int lower(Job *j, CpuModule *m, Entry *e, Text *why)
{
    for (int i = 0; i < e->fused->n_kernel; i++) {
        CpuLaunch launch[8];
        const Kernel *k = &e->fused->kernel[i];
        int n = cpu_lower(m, e->fused, k, launch, 8, why);
        if (n < 0)
            return fault(arena_printf(&j->arena, "kernel %d of `%s` (%s, %s)", i, e->name, kernel_class_name[k->cls], k->label), why);
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
            return fault(arena_printf(&j->arena, "kernel %d of `%s` (%s, %s) for CUDA", i, e->name, kernel_class_name[k->cls], k->label), why);
        for (int l = 0; l < n; l++)
            PUSH(&j->arena, e->launch, (Launch){ host ? on_cpu[l].kernel : launch[l].kernel, host, host ? on_cpu[l].arg : launch[l].arg,
                                                 host ? on_cpu[l].n_arg : launch[l].n_arg, k,
                                                 l ? (Poly){ { 0, 0, 0 } } : kernel_flops(e->fused, k) });
    }
    return 0;
}

static bool runs_on_gpu(const Entry *e)
{
    return strcmp(e->name, "schedule") && strcmp(e->name, "after");
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
    const CudaTarget target = { j->tuned, gpu_portable(arch, in->n_arch), in->program->train.micro ? in->program->train.micro
                                                                                                 : in->program->train.batch };
    CudaModule *m = cuda_module_new(&j->arena, &target);
    in->cuda = m;
    for (int i = 0; i < n; i++)
        if (runs_on_gpu(&entry[i])) {
            int code = lower_gpu(j, cpu, m, &entry[i], &entry[*n_entry], &why);
            if (code)
                return code;
            (*n_entry)++;
        }
    mark(j, "kernels to CUDA C");
    bool ptx = emits(j, "ptx"), resources = emits(j, "resources"), ok = true;
    if ((ptx || resources) && !in->n_arch) {
        fprintf(stderr, "ticc: --emit=%s: wanted an architecture: --target cuda:sm_80\n", j->o->emit);
        return USER_FAULT;
    }
    if (emits(j, "cuda"))
        cuda_print(m, &text);
    else if (ptx)
        ok = gpu_ptx(m, &j->arena, arch[0], &text, &why);
    else if (in->n_arch)
        ok = gpu_compile(m, &j->arena, arch, in->n_arch, (GpuImage **)&in->image, resources ? &text : NULL, &why);
    if (!ok) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    mark(j, "CUDA C to machine code");
    fwrite(text_data(&text), 1, text.n, stdout);
    return emits(j, "cuda") || ptx || resources ? 0 : -1;
}

/* Into kernels, in an order: for the CPU, and once more for GPUs, which may take other kernels together. gpu_bf16: a GPU has the
 * operands of contractions in bf16 where the CPU has them in f32. */
static int fuse_entry(Job *j, Graph *g, Entry *e, const MemoryGoal *goal, bool gpu_bf16)
{
    static const FuseOptions cpu = { cpu_takes_score }, gpu = { cuda_takes_score };
    Text why = { .arena = &j->arena };
    Graph *copy = j->o->gpu && runs_on_gpu(e) ? graph_clone(g) : NULL;
    if (copy && gpu_bf16 && !passes_precision(copy, &why))
        return fault(arena_printf(&j->arena, "the precision of `%s` for CUDA", e->name), &why);
    if (copy)
        pass_wire(copy, "pixels");
    while (copy && g->n_tensor < copy->n_tensor)         /* what fusing adds has one number on both sides: `check` compares by it */
        graph_tensor(g, "", 0, NULL, T_TEMP, DT_F32);
    for (int k = 0; k < 1 + (copy != NULL); k++) {
        Text table = { .arena = &j->arena };
        Fused *f = NEW(&j->arena, Fused);
        int64_t reached;
        bool fits = fuse_within(k ? copy : g, k ? &gpu : &cpu, goal, &j->arena, f, &reached, &table, &why);
        if (table.n && (fits || reached > goal->bytes))
            fprintf(stderr, "%s%s\n%s", e->name, k ? " for CUDA" : "", text_data(&table));
        if (!fits && reached > goal->bytes) {
            const char *piece = goal->beside ? arena_printf(&j->arena, "program `%s` of a step in pieces: ", e->name) : "";
            const char *less = goal->beside && strcmp(e->name, "loss") ? "`train.micro`" : "batch";
            fprintf(stderr, "ticc: --memory: %s%s; a smaller %s needs less\n", piece, text_data(&why), less);
            return USER_FAULT;
        }
        if (!fits)
            return fault(arena_printf(&j->arena, "fusing `%s`%s", e->name, k ? " for CUDA" : ""), &why);
        *(k ? &e->gpu : &e->fused) = f;
    }
    return 0;
}

typedef enum { A_STEP, A_TOWER, A_RULE } Purpose;

static bool in_pieces(const Program *p) { return p->train.micro && p->train.micro < p->train.batch; }

/* --memory for a step at once: none where the program's steps go in pieces. */
static MemoryGoal at_once(const Job *j, const Program *p)
{
    return (MemoryGoal){ .batch = p->train.batch, .bytes = in_pieces(p) ? 0 : j->o->memory };
}

/* Simplify, lower the precision, fuse, schedule: e->name is set, e->fused and e->gpu will be. `goal` (may be NULL): of a training
 * step, as --memory wants it. The precision is that of training for a step; for a tower on a GPU, as in OpenCLIP's evaluation, where autocast is for
 * GPUs alone; no strategy's rule has one. */
static int finish(Job *j, Graph *g, Entry *e, const TrainBlock *train, Purpose purpose, const MemoryGoal *goal)
{
    const char *name = e->name;
    Text why = { .arena = &j->arena };
    PassOptions po = { .narrow = j->o->narrow };
    if (!passes_simplify(g, &po, NULL, &why))
        return fault(arena_printf(&j->arena, "simplifying `%s`", name), &why);
    if (purpose == A_STEP && train->bf16 && !passes_precision(g, &why))
        return fault(arena_printf(&j->arena, "the precision of `%s`", name), &why);
    mark(j, arena_printf(&j->arena, "simplify (%s)", name));
    int code = fuse_entry(j, g, e, goal ? goal : &(MemoryGoal){ 0 }, purpose == A_TOWER && train->bf16);
    mark(j, arena_printf(&j->arena, "fuse (%s)", name));
    return code;
}

static int build_tower(Job *j, const char *output, Entry *e)
{
    Text why = { .arena = &j->arena };
    Program *p = NEW(&j->arena, Program);
    PassOptions po = { .narrow = j->o->narrow };
    if (!elaborate(j, p))
        return OUR_FAULT;
    if (!keep_output(p->graph, &output, 1))
        return 0;            /* the model has no such tower: no entry */
    if (!passes_forward(p->graph, &po, NULL, &why))
        return fault(e->name, &why);
    return finish(j, p->graph, e, &p->train, A_TOWER, NULL);
}

/* The strategy's own programs: the schedule, and what happens to weights after a step. */
static int build_strategy(Job *j, Program *p, Entry *entry, int *n)
{
    if (!p->continual.n_step)
        return 0;
    for (int k = 0; k < 2; k++) {
        const char *name = k ? "after" : "schedule";
        Graph *g = graph_new(&j->arena, &j->sources);
        Text why = { .arena = &j->arena };
        if (k && !sema_has_after(p))
            continue;
        if (!(k ? sema_after : sema_schedule)(p, g, &j->diag))
            return j->diag.errors ? USER_FAULT : OUR_FAULT;
        if (!graph_verify(g, name, &why))
            return fault(name, &why);
        entry[*n].name = name;
        int code = finish(j, g, &entry[*n], &p->train, A_RULE, NULL);
        if (code)
            return code;
        (*n)++;
    }
    return 0;
}

/* Before any work: is there anything against writing the program there? */
static bool output_free(Job *j, const char *output)
{
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
    else if (access(dirname(copy), W_OK | X_OK))
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

static uint64_t program_hash(Job *j, const char *target)
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

static const char *default_output(Job *j)
{
    const char *slash = strrchr(j->o->input, '/'), *name = slash ? slash + 1 : j->o->input;
    size_t n = strlen(name);
    if (n > 4 && !strcmp(name + n - 4, ".tic"))
        return arena_strndup(&j->arena, name, n - 4);
    return arena_printf(&j->arena, "%s.out", name);
}

static int back_end(Job *j, Program *p, Entry *entry, int n_entry, Graph *step)
{
    const Options *o = j->o;
    Text why = { .arena = &j->arena };
    bool text = emits(j, "llvm") || emits(j, "asm");
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    CpuTarget target = { o->target ? o->target : "native", NULL, text ? 1 : cores > 8 ? 8 : (int)cores, o->memory > 0 };
    CpuModule *m = cpu_module_new(&j->arena, &target, &why);
    if (!m) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    for (int i = 0; i < n_entry; i++) {
        int code = lower(j, m, &entry[i], &why);
        if (code)
            return code;
    }
    mark(j, "kernels to LLVM");
    BlobInput in = { .program = p, .entry = entry, .n_entry = n_entry, .step = step,
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
    const char *output = o->output || text ? o->output : default_output(j);
    const char *object = text ? output : arena_printf(&j->arena, "%s.%d.o", output, (int)getpid());
    bool done = cpu_module_emit(m, blob, size, object, emits(j, "llvm") ? 'l' : text ? 's' : 'o', &why);
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
    mark(j, "LLVM to machine code");
    if (text)
        return 0;
    int code = link_program(j, objects, n_object, output);
    for (int i = 0; i < n_object; i++)
        unlink(objects[i]);
    mark(j, "link");
    return code;
}

static int forward(Job *j, Program *p)
{
    static const char *const step_outputs[] = { "loss", "logit_scale" };
    PassOptions po = { .narrow = j->o->narrow };
    Text why = { .arena = &j->arena };
    keep_output(p->graph, step_outputs, 2);
    return passes_forward(p->graph, &po, NULL, &why) ? 0 : fault("forward passes", &why);
}

static int optimise(Job *j, Program *p, const int *grads)
{
    Text why = { .arena = &j->arena };
    if (!sema_update(p, p->graph, &j->diag, grads))
        return j->diag.errors ? USER_FAULT : OUR_FAULT;
    graph_toposort(p->graph);
    return graph_verify(p->graph, "optimiser", &why) ? 0 : fault("the optimiser", &why);
}

/* Forward passes, gradient, optimiser: the graph becomes the training step. */
static int differentiate(Job *j, Program *p)
{
    Text why = { .arena = &j->arena };
    int code = forward(j, p);
    if (code)
        return code;
    int *grads = NEWN(&j->arena, int, p->n_param + 1);
    if (!grad_append(p->graph, p->loss, p->param, p->n_param, grads, &why))
        return fault("the gradient", &why);
    for (int i = 0; i < p->n_param; i++)
        if (grads[i] < 0) {
            const Tensor *t = &p->graph->tensor[p->param[i]];
            diag_error(&j->diag, t->span, "parameter `%s` does not influence the loss", t->name);
            diag_help(&j->diag, "use it in what `loss` returns, or remove it");
        }
    if (j->diag.errors)
        return USER_FAULT;
    mark(j, "gradient");
    code = optimise(j, p, grads);
    mark(j, "optimiser");
    return code;
}

/* A strategy with a teacher: the model of the step before stands beside the program's, in the graph of a fresh one. */
static int elaborate_distill(Job *j, Program *p)
{
    if (!elaborate(j, p))
        return OUR_FAULT;
    return sema_distill(p, &j->diag, j->file, j->o->define, j->o->n_define) ? 0 : j->diag.errors ? USER_FAULT : OUR_FAULT;
}

static int build_distill(Job *j, Entry *entry, int *n)
{
    Program *p = NEW(&j->arena, Program);
    int code = elaborate_distill(j, p);
    if (!code)
        code = differentiate(j, p);
    MemoryGoal goal = at_once(j, p);
    entry[*n].name = "distill";
    if (!code)
        code = finish(j, p->graph, &entry[*n], &p->train, A_STEP, &goal);
    *n += !code;
    return code;
}

/* Can a step of this program go in pieces? Errors name what mixes the samples of a batch. */
static void check_pieces(Job *j, const Program *p)
{
    for (int i = 0; i < p->graph->n_output; i++) {
        const Output *o = &p->graph->output[i];
        const Comp *c = strcmp(o->name, "image_features") && strcmp(o->name, "text_features") ? NULL : pieces_mixes(p->graph, o->tensor);
        if (c) {
            diag_error(&j->diag, c->span, "this mixes the samples of a batch, and `micro` computes a few of them at a time");
            diag_help(&j->diag, "what a tower makes of a sample must not depend on the others; or leave `micro` out");
        }
    }
    int input;
    const Comp *c = pieces_reads_input(p->graph, p->loss, &input);
    if (c) {
        diag_error(&j->diag, c->span, "the loss reads `%s` of several samples at once, and `micro` has those of a few at a time",
                   p->graph->tensor[input].name);
        diag_note(&j->diag, p->graph->tensor[input].span, "the input");
        diag_help(&j->diag, "what the loss compares must come from the towers; or leave `micro` out");
    }
}

enum { FEATURES, LOSS, PIECE, UPDATE, PIECES };

/* The graph of one of the programs. */
static int piece_graph(Job *j, int k, const char *name, bool distill, Program **out)
{
    Text why = { .arena = &j->arena };
    Program *p = *out = NEW(&j->arena, Program);
    int code = distill ? elaborate_distill(j, p) : elaborate(j, p) ? 0 : OUR_FAULT;
    bool made = true;
    if (!code && distill)
        check_pieces(j, p);
    if (j->diag.errors)
        code = USER_FAULT;
    if (!code)
        code = forward(j, p);
    if (code)
        return code;
    Graph *g = p->graph;
    if (k == FEATURES) {
        pieces_features(g, p->loss);
    } else if (k == UPDATE) {
        int *sum = NEWN(&j->arena, int, p->n_param + 1);
        g->n_output = 0;
        graph_dce(g);
        pieces_sums(g, p->param, p->n_param, sum);
        code = optimise(j, p, sum);
    } else {
        made = (k == LOSS ? pieces_loss : pieces_piece)(g, p->loss, p->param, p->n_param, &why);
    }
    return made && graph_verify(g, name, &why) ? code : fault(name, &why);
}

/* Bytes of outputs called WHAT:..., at this batch. */
static int64_t named_bytes(const Graph *g, const char *what, int64_t batch)
{
    int64_t bytes = 0;
    size_t n = strlen(what);
    for (int i = 0; i < g->n_output; i++)
        if (!strncmp(g->output[i].name, what, n) && g->output[i].name[n] == ':')
            bytes += poly_at(tensor_bytes(g, g->output[i].tensor), batch);
    return bytes;
}

/* Inputs that the batch does not change stay from one program to the next, as runtime/device/exec.c keeps them. */
static int64_t kept_bytes(Job *j, const Graph *g)
{
    GraphIndex index = graph_index(g, &j->arena);
    int64_t bytes = 0;
    for (int t = 0; t < g->n_tensor; t++) {
        Poly size = tensor_bytes(g, t);
        if (g->tensor[t].kind == T_INPUT && index.users[t].n && !size.c[1] && !size.c[2])
            bytes += (size.c[0] + 63) / 64 * 64;
    }
    return bytes;
}

/* train.micro: the step in pieces. With a teacher the optimiser's program is the same. entry[0] is the step at once. Under --memory
 * every program may need what parameters, states, sums of gradients, features and the others' inputs leave: they share an arena. */
static int build_pieces(Job *j, Entry *entry, int *n, bool distill)
{
    static const char *const name[2][PIECES] = { { "features", "loss", "piece", "update" },
                                                 { "distill:features", "distill:loss", "distill:piece", NULL } };
    Program *part[PIECES] = { NULL };
    int64_t model = plan_kind_bytes(entry[0].fused, T_PARAM, 1), kept[PIECES] = { 0 }, beside;
    for (int k = 0; k < PIECES && name[distill][k]; k++) {
        int code = piece_graph(j, k, name[distill][k], distill, &part[k]);
        if (code)
            return code;
        kept[k] = kept_bytes(j, part[k]->graph);
    }
    const TrainBlock *train = &part[FEATURES]->train;
    beside = 2 * model + plan_kind_bytes(entry[0].fused, T_STATE, 1) + named_bytes(part[FEATURES]->graph, "feature", train->batch) +
             named_bytes(part[LOSS]->graph, "gradient", train->batch) + kept[FEATURES] + kept[LOSS] + kept[PIECE] + kept[UPDATE];
    for (int k = 0; k < PIECES && part[k]; k++) {
        MemoryGoal goal = { .batch = k == LOSS ? train->batch : train->micro, .bytes = in_pieces(part[k]) ? j->o->memory : 0,
                            .beside = beside - kept[k] };
        entry[*n].name = name[distill][k];
        int code = finish(j, part[k]->graph, &entry[*n], &part[k]->train, A_STEP, &goal);
        if (code)
            return code;
        (*n)++;
    }
    return 0;
}

/* --emit=plan of a step in pieces. */
static void print_pieces_plan(Job *j, const Program *p, const Entry *entry, int n, Text *out)
{
    int64_t most = 0, features = 0;
    for (int i = 0; i < n; i++) {
        const Fused *f = entry[i].fused;
        bool whole = !strcmp(entry[i].name, "loss");
        int64_t batch = whole ? p->train.batch : p->train.micro;
        Liveness l = plan_liveness(f, &j->arena);
        int64_t bytes = plan_peak(f, &l, batch, NULL) + plan_kind_bytes(f, T_INPUT, batch);
        text_printf(out, "\n%s\n", entry[i].name);
        plan_print(f, batch, out);
        most = bytes > most ? bytes : most;
        for (int k = 0; k < f->graph->n_output && !strcmp(entry[i].name, "features"); k++)
            features += 2 * poly_at(tensor_bytes(f->graph, f->graph->output[k].tensor), p->train.batch);
    }
    text_printf(out, "\nin pieces of %lld: %.1f MB at most in a program, %.1f MB of gradient sums, %.1f MB of features and their gradients\n",
                (long long)p->train.micro, (double)most * 1e-6, (double)plan_kind_bytes(entry[n - 1].fused, T_PARAM, 1) * 1e-6,
                (double)features * 1e-6);
}

static bool read_tuned(Job *j)
{
    Text why = { .arena = &j->arena };
    j->tuned = gpu_tuned(&j->arena, j->o->tune ? NULL : j->o->table, &why);
    if (!j->tuned)
        fprintf(stderr, "ticc: %s\n", text_data(&why));
    return j->tuned;
}

static int run(Job *j)
{
    const Options *o = j->o;
    if (o->gpu && !read_tuned(j))
        return USER_FAULT;
    j->file = diag_load(&j->diag, o->input, (Span){ 0, 0 });
    if (j->file < 0)
        return USER_FAULT;
    if (!o->check && !o->tune && (o->output || !o->emit) && !output_free(j, o->output ? o->output : default_output(j)))
        return USER_FAULT;
    if (emits(j, "ast")) {
        Node *tree = parse_file(&j->arena, &j->diag, j->file);
        Text t = { .arena = &j->arena };
        if (j->diag.errors)
            return USER_FAULT;
        tree_print(tree, &t);
        fputs(text_data(&t), stdout);
        return 0;
    }
    Program *p = NEW(&j->arena, Program);
    if (!elaborate(j, p))
        return USER_FAULT;
    mark(j, "parse and check");
    if (!p->graph) {             /* a library */
        if (o->check)
            return 0;
        fprintf(stderr, "ticc: %s: has no `model` block: nothing to compile; --check checks its functions\n", o->input);
        return USER_FAULT;
    }
    double flops = forward_flops(p->graph);
    if (p->train.micro)
        check_pieces(j, p);
    if (j->diag.errors)
        return USER_FAULT;
    if (emits(j, "params"))
        print_params(p);
    if (emits(j, "graph"))
        print_graph(p->graph, &j->arena);
    if (emits(j, "schedule"))
        return print_schedule(p, &j->diag, flops) ? 0 : j->diag.errors ? USER_FAULT : OUR_FAULT;
    if (o->check || emits(j, "params") || emits(j, "graph"))
        return 0;

    int code = differentiate(j, p);
    if (code)
        return code;
    if (emits(j, "grad")) {
        print_graph(p->graph, &j->arena);
        return 0;
    }
    const MemoryGoal goal = at_once(j, p);
    Entry entry[32] = { { .name = "step", .forward_flops_per_pair = flops } };
    code = finish(j, p->graph, &entry[0], &p->train, A_STEP, &goal);
    if (code)
        return code;
    if (emits(j, "fused") || emits(j, "plan")) {
        Text t = { .arena = &j->arena };
        int pieces = 1;
        if (emits(j, "fused"))
            fused_print(entry[0].fused, &t);
        else
            plan_print(entry[0].fused, p->train.batch, &t);
        if (emits(j, "plan") && p->train.micro) {
            code = build_pieces(j, entry, &pieces, false);
            if (code)
                return code;
            print_pieces_plan(j, p, &entry[1], pieces - 1, &t);
        }
        fwrite(text_data(&t), 1, t.n, stdout);
        return 0;
    }
    int n = 1;
    for (int i = 0; i < 2; i++) {
        entry[n].name = i ? "text" : "image";
        code = build_tower(j, i ? "text_features" : "image_features", &entry[n]);
        if (code)
            return code;
        n += entry[n].fused != NULL;
    }
    Graph *step = p->graph;
    bool distill = p->continual.n_step && sema_has_loss(p);
    code = build_strategy(j, p, entry, &n);
    if (!code && distill)
        code = build_distill(j, entry, &n);
    for (int k = 0; k <= distill && !code && p->train.micro; k++)
        code = build_pieces(j, entry, &n, k);
    if (!code && o->tune)
        return tune(&(TuneInput){ o, p, entry, n, program_hash(j, "tune") }, &j->arena);
    return code ? code : back_end(j, p, entry, n, step);
}

int compile(const Options *o)
{
    Job j = { .o = o, .last = now() };
    j.sources.arena = &j.arena;
    j.diag.sources = &j.sources;
    j.times.arena = &j.arena;
    double start = j.last;
    int code = run(&j);
    if (j.diag.errors || j.diag.message.n)
        diag_print(&j.diag, stderr);
    if (o->timings) {
        fprintf(stderr, "%s", text_data(&j.times));
        fprintf(stderr, "%-28s %8.1f ms\n", "total", now() - start);
    }
    arena_free(&j.arena);
    if (fflush(stdout) && !code) {
        fprintf(stderr, "ticc: the standard output cannot be written: %s\n", strerror(errno));
        code = USER_FAULT;
    }
    return code;
}
