/* emit.c -- the module: kernels by signature, their functions, and the object file. See cpu.h. */
#include "cpu/lower.h"
#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

CpuModule *cpu_module_new(Arena *a, const CpuTarget *t, Text *why)
{
    CpuModule *m = NEW(a, CpuModule);
    int n = t && t->parts > 1 ? t->parts : 1;
    m->arena = a;
    m->lean = t && t->lean;
    m->part = NEWN(a, Part, n);
    for (; m->n_part < n; m->n_part++) {
        Target *target = target_new(a, t, why);
        if (!target) {
            cpu_module_free(m);
            return NULL;
        }
        m->part[m->n_part].t = target;
        m->part[m->n_part].gen = (Gen){.t = target, .arena = a, .b = LLVMCreateBuilderInContext(target->ctx)};
    }
    return m;
}

const char *cpu_module_target(const CpuModule *m)
{
    return m->part[0].t->name;
}

int cpu_module_kernels(const CpuModule *m)
{
    return m->kernels.n;
}

int cpu_module_parts(const CpuModule *m)
{
    return m->n_part;
}

const char *cpu_module_path(const CpuModule *m, const char *path, int part)
{
    return part ? arena_printf(m->arena, "%s.%d.o", path, part) : path;
}

void cpu_module_free(CpuModule *m)
{
    for (int i = 0; i < m->n_part; i++) {
        if (m->part[i].gen.b)
            LLVMDisposeBuilder(m->part[i].gen.b);
        m->part[i].gen.b = NULL;
        target_free(m->part[i].t);
    }
}

V part_helper(const Part *p, const char *name)
{
    for (int i = 0; i < p->helpers.n; i++)
        if (!strcmp(p->helpers.at[i].name, name))
            return p->helpers.at[i].fn;
    return NULL;
}

void part_helper_is(Low *l, const char *name, V fn)
{
    PUSH(l->m->arena, l->part->helpers, (struct Helper){name, fn});
}

void low_fail(Low *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    kernel_fails(l->k, &l->failed, l->why, fmt, args);
    va_end(args);
}

/* ---- functions of a kernel */

/* "k12_map_nn_14": number, part, and the source line it came from. */
static const char *kernel_name(const Low *l, const char *part)
{
    Arena *a = l->m->arena;
    int k = l->m->kernels.n;
    const Sources *sources = l->graph->sources;
    Place p = sources && l->k->span.lo > 0 ? source_place(sources, l->k->span.lo) : (Place){0};
    if (!p.source)
        return arena_printf(a, "k%d_%s", k, part);
    const char *path = strrchr(p.source->path, '/');
    char *name = arena_printf(a, "%s", path ? path + 1 : p.source->path);
    name[strcspn(name, ".")] = 0;
    for (char *s = name; *s; s++)
        if (!isalnum((unsigned char)*s))
            *s = '_';
    return arena_printf(a, "k%d_%s_%s_%d", k, part, name, p.line);
}

void launch_begin(Low *l, const char *part)
{
    l->name = kernel_name(l, part);
    gen_kernel(l->g, l->name);
    if (l->out->n == MAX_LAUNCH) {
        low_fail(l, "more than %d launches", MAX_LAUNCH);
        return;
    }
    l->out->kernel[l->out->n++] = l->m->kernels.n;
    PUSH(l->m->arena, l->m->kernels, (struct KernelFn){l->g->fn, NULL, (int)(l->part - l->m->part)});
}

void launch_tasks(Low *l)
{
    gen_end(l->g, NULL);
    gen_tasks(l->g, arena_printf(l->arena, "%s_tasks", l->name));
    l->m->kernels.at[l->m->kernels.n - 1].tasks = l->g->fn;
}

void launch_end(Low *l, V tasks)
{
    gen_end(l->g, tasks);
}

static bool lower_class(Low *l)
{
    switch (l->k->cls) {
    case K_MAP: return l->sets ? lower_sets(l) : lower_map(l);
    case K_ROW: return lower_row(l);
    case K_REDUCE: return l->sets ? lower_sets(l) : lower_reduce(l);
    case K_CONTRACT: return lower_contract(l);
    case K_SCORE: return score_meets(l->k) ? lower_meet(l) : lower_score(l);
    case K_SCATTER: return lower_scatter(l);
    case K_HOST: return lower_host(l);
    case N_KERNEL_CLASSES: break;
    }
    low_fail(l, "unknown class");
    return false;
}

/* The part with the least code so far. */
static Part *next_part(CpuModule *m)
{
    Part *best = m->part;
    for (int i = 1; i < m->n_part; i++)
        if (m->part[i].blocks < best->blocks)
            best = &m->part[i];
    return best;
}

/* Equal kernels are lowered once. NULL and a sentence when one cannot be. */
static const Lowered *lowered(CpuModule *m, Fused *f, const Kernel *k, Text *why)
{
    for (int i = 0; i < m->done.n; i++)
        if (m->done.at[i].signature == k->signature)
            return &m->done.at[i];
    Lowered made = {.signature = k->signature};
    Part *part = next_part(m);
    Low l = {.m = m, .part = part, .g = &part->gen, .arena = m->arena, .sets = k->sets, .out = &made, .why = why};
    l.f = k->sets ? k->sets->form : f;
    l.graph = l.f->graph;
    l.k = k->sets ? &l.f->kernel[0] : k;
    l.places = places_of(l.arena, l.graph, l.k);
    l.n_member = l.k->n_comp;
    l.member = NEWN(m->arena, Member, l.n_member);
    for (int i = 0; i < l.n_member; i++)
        l.member[i].c = &l.k->comp[i];
    l.comp = &l.k->comp[0];
    bool done = lower_class(&l);
    if (l.places.fault)
        low_fail(&l, "%s", l.places.fault);
    if (!done || l.failed)
        return NULL;
    for (int i = 0; i < made.n; i++)
        part->blocks += LLVMCountBasicBlocks(m->kernels.at[made.kernel[i]].run);
    PUSH(m->arena, m->done, made);
    return &m->done.at[m->done.n - 1];
}

bool cpu_workspace(CpuModule *m, Fused *f, const Kernel *k, Poly *elements, Text *why)
{
    const Lowered *known = lowered(m, f, k, why);
    if (known)
        *elements = known->workspace;
    return known;
}

int cpu_lower(CpuModule *m, Fused *f, const Kernel *k, CpuLaunch *launch, int cap, Text *why)
{
    for (int i = 0; i < k->n_args; i++)
        if (f->graph->tensor[k->args[i]].dtype == DT_U8) {
            text_printf(why, "`%s` is in 8 bits, which only GPUs read", f->graph->tensor[k->args[i]].name);
            return -1;
        }
    const Lowered *known = lowered(m, f, k, why);
    if (!known)
        return -1;
    if (known->n > cap) {
        text_printf(why, "kernel `%s` needs %d launches", k->label ? k->label : "", known->n);
        return -1;
    }
    int n_arg;
    const int *arg = launch_args(f, k, known->workspace, m->arena, &n_arg);
    for (int i = 0; i < known->n; i++)
        launch[i] = (CpuLaunch){known->kernel[i], arg, n_arg, i == known->main};
    return known->n;
}

/* ---- the object */

static void constant(Target *t, const char *name, V value, unsigned align)
{
    V global = LLVMAddGlobal(t->module, LLVMTypeOf(value), name);
    LLVMSetInitializer(global, value);
    LLVMSetGlobalConstant(global, 1);
    LLVMSetAlignment(global, align);
}

/* A kernel's function as part 0 sees it: its own, or one declared by name and defined in another part. */
static V visible(CpuModule *m, V fn, int part)
{
    if (!part)
        return fn;
    size_t n;
    LLVMSetLinkage(fn, LLVMExternalLinkage);
    LLVMSetVisibility(fn, LLVMHiddenVisibility);
    Target *t = m->part[0].t;
    Ty type = LLVMFunctionType(t->none, NULL, 0, 0);     /* only its address is taken */
    V here = LLVMAddFunction(t->module, LLVMGetValueName2(fn, &n), type);
    LLVMSetVisibility(here, LLVMHiddenVisibility);
    return here;
}

typedef struct Writer { Target *t; const char *path; char kind; Text why; Arena arena; bool good; } Writer;

static void *write_part(void *arg)
{
    Writer *w = arg;
    w->good = target_emit(w->t, w->path, w->kind, &w->why);
    return NULL;
}

bool cpu_module_emit(CpuModule *m, const void *blob, size_t blob_size, const char *path, char kind, Text *why)
{
    Target *t = m->part[0].t;
    Ty pair[] = {t->ptr, t->ptr};
    Ty entry = LLVMStructTypeInContext(t->ctx, pair, 2, 0);
    int n = m->kernels.n;
    V *all = NEWN(m->arena, V, n + 1);
    for (int i = 0; i < n; i++) {
        const struct KernelFn *k = &m->kernels.at[i];
        V two[] = {visible(m, k->run, k->part), visible(m, k->tasks, k->part)};
        all[i] = LLVMConstStructInContext(t->ctx, two, 2, 0);
    }
    all[n] = LLVMConstNull(entry);     /* ends the table; and an array has at least one element */
    constant(t, "tic_kernels", LLVMConstArray2(entry, all, (uint64_t)n + 1), 16);
    if (blob)
        constant(t, "tic_program", LLVMConstStringInContext2(t->ctx, blob, blob_size, 1), 64);

    Writer *w = NEWN(m->arena, Writer, m->n_part);
    pthread_t *thread = NEWN(m->arena, pthread_t, m->n_part);
    bool *started = NEWN(m->arena, bool, m->n_part), good = true;
    for (int i = 0; i < m->n_part; i++) {
        w[i] = (Writer){.t = m->part[i].t, .path = cpu_module_path(m, path, i), .kind = kind};
        w[i].why.arena = &w[i].arena;                    /* arenas are not shared between threads */
        started[i] = i && !pthread_create(&thread[i], NULL, write_part, &w[i]);
    }
    for (int i = 0; i < m->n_part; i++)
        if (!started[i])
            write_part(&w[i]);
    for (int i = 0; i < m->n_part; i++) {
        if (started[i])
            pthread_join(thread[i], NULL);
        if (!w[i].good && good)
            text_printf(why, "%s", text_data(&w[i].why));
        good = good && w[i].good;
        arena_free(&w[i].arena);
    }
    return good;
}
