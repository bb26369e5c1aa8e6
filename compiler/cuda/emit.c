/* emit.c -- the module: kernels by signature, their files. See cuda.h. */
#include "cuda/lower.h"
#include "cuda/prelude.h"
#include <ctype.h>
#include <stdio.h>
#include <string.h>

CudaModule *cuda_module_new(Arena *a, const CudaTarget *t)
{
    CudaModule *m = NEW(a, CudaModule);
    m->arena = a;
    m->target = *t;
    return m;
}

int cuda_kernels(const CudaModule *m) { return m->kernels.n; }
const CudaKernel *cuda_kernel(const CudaModule *m, int i) { return &m->kernels.at[i]; }
int cuda_files(const CudaModule *m) { return m->files.n; }
const char *cuda_file(const CudaModule *m, int i) { return m->files.at[i].text; }
const char *cuda_file_name(const CudaModule *m, int i) { return m->files.at[i].name; }

bool cuda_file_is_for(const CudaModule *m, int i, const char *arch)
{
    CuFor is_for = m->files.at[i].is_for;
    return is_for == FOR_ALL || (is_for == FOR_HOPPER) == !strcmp(arch, "sm_90a");
}

void cuda_print(const CudaModule *m, Text *out)
{
    text_printf(out, "%s", tc_prelude);
    for (int i = 0; i < m->files.n; i++)
        text_printf(out, "\n%s", m->files.at[i].text);
}

void cu_fail(Cu *l, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    kernel_fails(l->k, &l->failed, l->why, fmt, args);
    va_end(args);
}

/* ---- grids */

static TicPoly tic_of(Poly p)
{
    return (TicPoly){{p.c[0], p.c[1], p.c[2]}};
}

TicGrid cu_grid(Poly points, int64_t per_block)
{
    TicGrid g;
    memset(&g, 0, sizeof g);
    g.y = 1;
    cu_grid_times(&g, points, per_block);
    return g;
}

void cu_grid_times(TicGrid *g, Poly points, int64_t per_block)
{
    if (g->n < TIC_GRID_FACTORS) {
        g->points[g->n] = tic_of(points);
        g->per[g->n++] = per_block;
    }
}

/* ---- the text of a kernel */

static Place place_of(const Cu *l, Span at)
{
    const Sources *sources = l->graph->sources;
    return sources && at.lo > 0 ? source_place(sources, at.lo) : (Place){0};
}

static const char *file_of(const Place *p)
{
    const char *slash = strrchr(p->source->path, '/');
    return slash ? slash + 1 : p->source->path;
}

static bool name_taken(const Cu *l, const char *name)
{
    for (int i = 0; i < l->m->kernels.n; i++)
        if (!strcmp(l->m->kernels.at[i].name, name))
            return true;
    return false;
}

/* "map_nn_14_7e6b3493": part, the source line it came from, and the signature's upper half: the same kernel has the same
 * name and text in every program, so a file of the same kernels is compiled once. */
const char *cu_kernel_name(const Cu *l, const char *part)
{
    Arena *a = l->m->arena;
    Place p = place_of(l, l->k->span);
    char *name = arena_printf(a, "%s", part);
    if (p.source) {
        char *file = arena_printf(a, "%s", file_of(&p));
        file[strcspn(file, ".")] = 0;
        name = arena_printf(a, "%s_%s_%d", part, file, p.line);
    }
    for (char *s = name; *s; s++)
        if (!isalnum((unsigned char)*s))
            *s = '_';
    name = arena_printf(a, "%s_%08x", name, (uint32_t)(l->k->signature >> 32));
    while (name_taken(l, name))
        name = arena_printf(a, "%s_", name);
    return name;
}

/* Whether two arguments may be the same memory: then neither is restrict. */
static bool shares(const Cu *l, int i)
{
    const int *storage = l->f->storage, *arg = l->k->args;
    for (int j = 0; j < l->k->n_args; j++)
        if (j != i && storage[arg[i]] == storage[arg[j]])
            return true;
    return false;
}

const char *cu_arg_type(const Cu *l, int i, bool is_restrict)
{
    int x = l->k->args[i];
    return arena_printf(l->arena, "%s%s *%s", kernel_writes(l->k, x) ? "" : "const ", cu_type(l->graph->tensor[x].dtype),
                        is_restrict && !shares(l, i) ? "TC_RESTRICT " : "");
}

const char *cu_params(const Cu *l, bool names_only)
{
    Text t = {.arena = l->arena};
    if (l->sets)
        return names_only ? "table, batch" : "void *const *TC_RESTRICT table, i32 batch";
    for (int i = 0; i < l->k->n_args; i++) {
        text_printf(&t, "%sp%d, ", names_only ? "" : cu_arg_type(l, i, true), i);
    }
    if (!poly_is(l->out->workspace, 0))
        text_printf(&t, names_only ? "ws, " : "float *TC_RESTRICT ws, ");
    text_printf(&t, names_only ? "B" : "i32 B");
    for (int i = 0; l->sizes && i < l->sizes->n; i++)
        text_printf(&t, names_only ? ", e%d" : ", i32 e%d", i);
    return text_data(&t);
}

/* The comment on top: where the kernel comes from. */
static void heading(const Cu *l, Text *t)
{
    text_printf(t, "/* %s of %s\n", kernel_class_name[l->k->cls], l->k->label && *l->k->label ? l->k->label : "the program");
    int last = -1;
    for (int i = 0; i < l->k->n_comp; i++) {
        Place p = place_of(l, l->k->comp[i].span);
        if (!p.source || p.line == last)
            continue;
        const char *line = p.source->text + p.source->line[p.line - 1];
        line += strspn(line, " \t");
        int n = (int)strcspn(line, "\n");
        text_printf(t, " * %s:%d: ", file_of(&p), p.line);
        for (int k = 0; k < n; k++)        /* a comment in a comment would end it */
            text_char(t, line[k] == '*' && k + 1 < n && line[k + 1] == '/' ? ' ' : line[k]);
        text_char(t, '\n');
        last = p.line;
    }
    text_printf(t, " */\n");
}

static void add_kernel(Cu *l, const char *name, TicGrid grid, int threads, int shared)
{
    if (l->out->n == CU_MAX_LAUNCH) {
        cu_fail(l, "more than %d launches", CU_MAX_LAUNCH);
        return;
    }
    if (!l->out->n++)
        l->out->first = l->m->kernels.n;
    CudaKernel k = {.name = name, .file = l->at, .grid = grid, .threads = threads, .shared = shared,
                    .table = l->sets != NULL, .own = {.file = -1}};
    if (l->out->n == 1)
        k.hopper = l->out->hopper;
    PUSH(l->m->arena, l->m->kernels, k);
}

void cu_launch(Cu *l, const char *part, CuScope *body, TicGrid grid, int threads, int blocks, int shared)
{
    const char *name = cu_kernel_name(l, part);
    text_printf(&l->file, "TC_KERNEL void TC_BOUNDS(%d, %d) %s(%s)\n{\n%s%s}\n", threads, blocks, name, cu_params(l, false),
                shared ? "    TC_SMEM(shared);\n" : "", text_data(&body->body));
    add_kernel(l, name, grid, threads, shared);
}

const char *cu_launch_template(Cu *l, const char *part, TicGrid grid, int threads, int shared)
{
    const char *name = cu_kernel_name(l, part);
    add_kernel(l, name, grid, threads, shared);
    return name;
}

static uint64_t hash_of(const char *text)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3u;
    return h;
}

/* Hopper's text: kernels that differ in sizes alone have one, behind names made of all the rest. */
static void add_own_file(Cu *l)
{
    CudaModule *m = l->m;
    Arena *a = m->arena;
    const uint32_t key = (uint32_t)(hash_of(l->own) >> 32);
    int file = 0;
    while (file < m->files.n && !(m->files.at[file].own && !strcmp(m->files.at[file].own, l->own)))
        file++;
    if (file == m->files.n) {
        Text t = {.arena = a};
        heading(l, &t);
        text_printf(&t, "#define KERNEL contract_%08x\n#define JOIN join_%08x\n%s", key, key, l->own);
        PUSH(a, m->files, (struct CuFile){arena_printf(a, "contract_%08x", key), text_data(&t), FOR_HOPPER, l->own});
    }
    for (int i = 0; i < l->out->n; i++) {
        CudaKernel *k = &m->kernels.at[l->out->first + i];
        k->own_name = arena_printf(a, i ? "join_%08x" : "contract_%08x", key);
        k->own = (TicGpuOwn){.file = file, .n_size = l->own_sizes.n};
        memcpy(k->own.size, l->own_sizes.at, sizeof k->own.size);
    }
}

static bool lower_class(Cu *l)
{
    switch (l->k->cls) {
    case K_MAP: return l->sets ? cu_sets(l) : cu_map(l);
    case K_ROW: return cu_row(l);
    case K_REDUCE: return l->sets ? cu_sets(l) : cu_reduce(l);
    case K_CONTRACT: return cu_contract(l);
    case K_SCORE: return score_meets(l->k) ? cu_meet(l) : cu_score(l);
    case K_SCATTER: return cu_scatter(l);
    case K_HOST:
    case N_KERNEL_CLASSES: break;
    }
    cu_fail(l, "no kernel of this class runs on a GPU");
    return false;
}

/* Texts that define no more than their kernels share a file, until it is as long as the longest of the others are: each file is a program
 * of NVRTC's, and to begin one costs it as much as several small kernels do. */
static bool shares_file(const Cu *l)
{
    return l->k->cls != K_CONTRACT && l->k->cls != K_SCORE;
}

static int file_for(const Cu *l)
{
    enum { LONG = 24 << 10 };
    const CudaModule *m = l->m;
    return shares_file(l) && m->shared.n && m->shared.n < LONG ? m->shared_at : m->files.n;
}

static void add_text(Cu *l)
{
    CudaModule *m = l->m;
    if (l->at < m->files.n) {
        text_printf(&m->shared, "\n%s", text_data(&l->file));
        m->files.at[l->at].text = text_data(&m->shared);
        return;
    }
    PUSH(m->arena, m->files, (struct CuFile){m->kernels.at[l->out->first].name, text_data(&l->file), l->own ? FOR_OTHERS : FOR_ALL, NULL});
    if (shares_file(l)) {
        m->shared = l->file;
        m->shared_at = l->at;
    }
}

static Cu lowering(CudaModule *m, Fused *f, const Kernel *k, CuLowered *made, Text *why)
{
    Cu l = {.m = m, .arena = m->arena, .f = f, .graph = f->graph, .k = k, .comp = &k->comp[0], .out = made, .why = why,
            .file = {.arena = m->arena}};
    if (k->sets) {
        l.sets = k->sets;
        l.f = k->sets->form;
        l.graph = l.f->graph;
        l.k = &l.f->kernel[0];
        l.comp = &l.k->comp[0];
    }
    l.at = file_for(&l);
    l.places = places_of(m->arena, l.graph, l.k);
    for (int i = 0; i < l.k->n_args; i++)
        l.fast = l.fast || l.graph->tensor[l.k->args[i]].dtype == DT_BF16;
    return l;
}

static bool lower(CudaModule *m, Fused *f, const Kernel *k, CuLowered *made, Text *why)
{
    Cu l = lowering(m, f, k, made, why);
    heading(&l, &l.file);
    bool done = lower_class(&l);
    if (l.places.fault)
        cu_fail(&l, "%s", l.places.fault);
    if (!done || l.failed)
        return false;
    add_text(&l);
    if (l.own)
        add_own_file(&l);
    return true;
}

/* Equal kernels are lowered once. NULL and a sentence when one cannot be. */
static const CuLowered *lowered(CudaModule *m, Fused *f, const Kernel *k, Text *why)
{
    for (int i = 0; i < m->done.n; i++)
        if (m->done.at[i].signature == k->signature)
            return &m->done.at[i];
    CuLowered made = {.signature = k->signature};
    if (!lower(m, f, k, &made, why))
        return NULL;
    PUSH(m->arena, m->done, made);
    return &m->done.at[m->done.n - 1];
}

bool cuda_workspace(CudaModule *m, Fused *f, const Kernel *k, Poly *elements, Text *why)
{
    const CuLowered *known = lowered(m, f, k, why);
    if (known)
        *elements = known->workspace;
    return known;
}

int cuda_lower(CudaModule *m, Fused *f, const Kernel *k, CudaLaunch *launch, int cap, Text *why)
{
    const CuLowered *known = lowered(m, f, k, why);
    if (!known)
        return -1;
    if (known->n > cap) {
        text_printf(why, "kernel `%s` needs %d launches", k->label ? k->label : "", known->n);
        return -1;
    }
    int n_arg;
    const int *arg = launch_args(f, k, known->workspace, m->arena, &n_arg);
    for (int i = 0; i < known->n; i++)
        launch[i] = (CudaLaunch){known->first + i, arg, n_arg};
    return known->n;
}

/* ---- choices */

const TunedChoice *cu_tuned(const Cu *l, const char *arch, TunedKey key)
{
    if (l->m->trial_arch)
        return !strcmp(l->m->trial_arch, arch) ? l->m->trial : NULL;
    key.arch = arch;
    return tuned_find(l->m->target.tuned, &key);
}

int cuda_choices(CudaModule *m, Fused *f, const Kernel *k, const char *arch, TunedKey *key, TunedChoice *out, int cap, Text *why)
{
    CuLowered nothing = {0};
    if (k->cls != K_CONTRACT && k->cls != K_SCORE)
        return 0;
    Cu l = lowering(m, f, k, &nothing, why);
    int n = (k->cls == K_CONTRACT ? cu_contract_choices : cu_score_choices)(&l, arch, key, out, cap);
    if (l.places.fault)
        cu_fail(&l, "%s", l.places.fault);
    return l.failed ? -1 : n;
}

bool cuda_lower_choice(CudaModule *m, Fused *f, const Kernel *k, const char *arch, const TunedChoice *c, CudaTrial *out, Text *why)
{
    CuLowered made = {.signature = k->signature};
    m->trial_arch = arch;
    m->trial = c;
    bool done = lower(m, f, k, &made, why);
    m->trial_arch = NULL;
    m->trial = NULL;
    *out = (CudaTrial){made.first, made.n, made.workspace};
    return done;
}
