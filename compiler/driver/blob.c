/* blob.c -- see blob.h. Tables are appended one after the other, each 8-byte aligned; a table's place is its byte offset
 * from the header, so nothing needs a relocation and the runtime can use the bytes as they stand. */
#include "driver/blob.h"
#include "cuda/prelude.h"
#include "device/nvrtc.h"
#include "pass/pieces.h"
#include <string.h>

static uint32_t align(Text *t)
{
    while (t->n % 8)
        text_char(t, 0);
    return (uint32_t)t->n;
}

/* Strings are kept apart and stand behind the tables, from byte `base` on. */
typedef struct { Text text; uint32_t base; } Strings;

static uint32_t put_string(Strings *s, const char *text)
{
    uint32_t at = s->base + (uint32_t)s->text.n;
    text_bytes(&s->text, text ? text : "", strlen(text ? text : "") + 1);
    return at;
}

#define PUT(t, value) text_bytes((t), (const char *)&(value), sizeof(value))

static int state_owner(const BlobInput *in, const char *name, const char **role, Arena *a)
{
    const char *colon = strchr(name, ':');
    if (!colon)
        return -1;
    *role = arena_strndup(a, name, (size_t)(colon - name));
    for (int i = 0; i < in->program->n_param; i++)
        if (!strcmp(in->program->graph->tensor[in->program->param[i]].name, colon + 1))
            return i;
    return -1;
}

static int64_t count_of(const Tensor *t)
{
    int64_t n = 1;
    for (int k = 0; k < t->rank; k++)
        n *= t->shape[k] == EXT_BATCH ? 1 : t->shape[k];
    return n;
}

static TicParam param_row(const Tensor *t, Strings *s)
{
    TicParam row;
    memset(&row, 0, sizeof row);
    row.name = put_string(s, t->name);
    row.init = (uint8_t)t->init.kind;
    row.rank = (uint8_t)t->rank;
    for (int k = 0; k < t->rank; k++)
        row.shape[k] = t->shape[k];
    row.count = count_of(t);
    row.init_a = t->init.a;
    row.init_b = t->init.b;
    return row;
}

static int find_named(const Graph *g, TensorKind kind, const char *name)
{
    for (int i = 0; i < g->n_tensor; i++)
        if (g->tensor[i].kind == kind && !strcmp(g->tensor[i].name, name))
            return i;
    return -1;
}

static int param_number(const BlobInput *in, const char *name)
{
    for (int i = 0; i < in->program->n_param; i++)
        if (!strcmp(in->program->graph->tensor[in->program->param[i]].name, name))
            return i;
    return -1;
}

static int state_number(const Graph *step, int tensor)
{
    int n = 0;
    for (int i = 0; i < tensor; i++)
        n += step->tensor[i].kind == T_STATE;
    return n;
}

/* First and last launch that touch each storage; -1 when none does. Outputs live past the last launch. */
static void live_ranges(const Entry *e, int *first, int *last)
{
    const Fused *f = e->fused;
    const Graph *g = f->graph;
    for (int i = 0; i < g->n_tensor; i++)
        first[i] = last[i] = -1;
    for (int l = 0; l < e->launch.n; l++)
        for (int k = 0; k < e->launch.at[l].n_arg; k++) {
            int t = f->storage[e->launch.at[l].arg[k]];
            if (first[t] < 0)
                first[t] = l;
            last[t] = l;
        }
    for (int i = 0; i < g->n_output; i++) {
        int t = f->storage[g->output[i].tensor];
        if (first[t] < 0)
            first[t] = 0;
        last[t] = e->launch.n;
    }
}

static void put_tensors(const BlobInput *in, const Entry *e, Text *out, Strings *s, Arena *a)
{
    const Graph *g = e->fused->graph;
    int *first = NEWN(a, int, g->n_tensor + 1), *last = NEWN(a, int, g->n_tensor + 1);
    live_ranges(e, first, last);
    for (int i = 0; i < g->n_tensor; i++) {
        const Tensor *t = &g->tensor[i];
        TicTensor row;
        memset(&row, 0, sizeof row);
        row.name = put_string(s, t->kind == T_TEMP ? "" : t->name);
        row.kind = (uint8_t)t->kind;
        row.dtype = (uint8_t)t->dtype;
        row.init = (uint8_t)t->init.kind;
        row.rank = (uint8_t)t->rank;
        for (int k = 0; k < t->rank; k++)
            row.shape[k] = t->shape[k];
        Poly bytes = tensor_bytes(g, i);
        memcpy(row.bytes.c, bytes.c, sizeof bytes.c);
        row.storage = e->fused->storage[i];
        row.first = first[i];
        row.last = last[i];
        row.param = -1;
        if (t->kind == T_PARAM)
            row.param = param_number(in, t->name);
        if (t->kind == T_STATE && !strncmp(t->name, PIECES_SUM, strlen(PIECES_SUM))) {
            row.kind = TIC_SUM;
            row.param = param_number(in, t->name + strlen(PIECES_SUM));
        } else if (t->kind == T_STATE && in->step)
            row.param = state_number(in->step, find_named(in->step, T_STATE, t->name));
        row.init_a = t->init.a;
        row.init_b = t->init.b;
        PUT(out, row);
    }
}

static bool writes_tensor(const Kernel *k, int t)
{
    for (int i = 0; i < k->n_writes; i++)
        if (k->writes[i] == t)
            return true;
    return false;
}

static uint32_t first_update(const Entry *e)
{
    const Fused *f = e->fused;
    for (int l = 0; l < e->launch.n; l++) {
        const Kernel *k = e->launch.at[l].from;
        for (int i = 0; i < k->n_writes; i++)
            if (f->graph->tensor[f->storage[k->writes[i]]].kind != T_TEMP)
                return (uint32_t)l;
    }
    return (uint32_t)e->launch.n;
}

static const char *span_text(const Program *p, Span at, Arena *a)
{
    Place where = source_place(p->sources, at.lo);
    if (!at.lo || !where.source)
        return "";
    const char *name = strrchr(where.source->path, '/');
    return arena_printf(a, "%s:%d:%d", name ? name + 1 : where.source->path, where.line, where.column);
}

int64_t blob_vocabulary(const Program *p, int *table)
{
    int64_t least = 0;
    for (int i = 0; i < p->graph->n_comp; i++) {
        const Comp *c = p->graph->comp[i];
        int n;
        const Expr **load = comp_all_loads(c, p->arena, &n);
        for (int k = 0; k < n; k++)
            for (int d = 0; d < load[k]->n; d++) {
                const Affine *at = load[k]->idx[d];
                for (int t = 0; t < at->n; t++)
                    if (at->term[t].kind == AT_LOAD && at->term[t].load->tensor == p->tokens) {
                        int64_t rows = p->graph->tensor[load[k]->tensor].shape[d];
                        if (rows > 0 && (!least || rows < least)) {
                            least = rows;
                            *table = load[k]->tensor;
                        }
                    }
            }
    }
    return least;
}

static void fill_program(const BlobInput *in, TicProgram *h, Strings *s)
{
    const Program *p = in->program;
    h->magic = TIC_MAGIC;
    h->abi = TIC_ABI;
    h->hash = in->hash;
    h->model = put_string(s, p->model);
    h->source = put_string(s, in->source);
    h->version = put_string(s, in->version);
    h->target = put_string(s, in->target);
    h->n_kernels = (uint32_t)in->n_kernels;
    h->n_distinct = (uint32_t)in->n_distinct;
    h->data_name = put_string(s, p->data.name);
    h->data_shards = put_string(s, p->data.shards);
    h->image_size = p->data.image_size;
    h->context = p->data.context;
    int table;
    h->vocabulary = blob_vocabulary(p, &table);
    h->augment = p->data.augment;
    h->scaled_decode = p->data.scaled_decode;
    h->with_replacement = p->data.with_replacement;
    h->by_shard = p->data.by_shard;
    h->scale_lo = p->data.scale_lo;
    h->scale_hi = p->data.scale_hi;
    h->ratio_lo = p->data.ratio_lo;
    h->ratio_hi = p->data.ratio_hi;
    memcpy(h->mean, p->data.mean, sizeof h->mean);
    memcpy(h->std, p->data.std, sizeof h->std);
    h->batch = p->train.batch;
    h->samples = p->train.samples;
    h->micro = p->train.micro;
    h->clip_norm = p->train.clip_norm;
    h->seed = p->train.seed;
    h->bf16 = p->train.bf16;
    sema_optimizer_constant(p, "peak", &h->lr_peak);
    sema_optimizer_constant(p, "beta1", &h->beta1);
    sema_optimizer_constant(p, "beta2", &h->beta2);
    sema_optimizer_constant(p, "eps", &h->eps);
    for (int i = 0; i < p->n_param; i++)
        if (sema_weight_decay(p, i) > h->weight_decay)
            h->weight_decay = sema_weight_decay(p, i);
    h->start = p->continual.start;
    h->init = (int32_t)p->continual.init;
    h->keep = p->continual.keep;
    h->cost = p->continual.n_step ? p->continual.cost : 1;
    h->carry_moments = p->continual.carry_moments;
    h->strategy = put_string(s, p->continual.strategy);
}

/* Kernels, files and machine code for GPUs. */
static void put_gpu(const BlobInput *in, TicProgram *h, Text *out, Strings *s)
{
    const CudaModule *m = in->cuda;
    h->gpu_prelude = put_string(s, m ? tc_prelude : "");
    h->gpu_options = put_string(s, m ? tic_nvrtc_options : "");
    h->n_gpu_kernels = m ? (uint32_t)cuda_kernels(m) : 0;
    h->n_gpu_files = m ? (uint32_t)cuda_files(m) : 0;
    h->gpu_kernels = align(out);
    for (uint32_t i = 0; i < h->n_gpu_kernels; i++) {
        const CudaKernel *k = cuda_kernel(m, (int)i);
        TicGpuKernel row;
        memset(&row, 0, sizeof row);
        row.name = put_string(s, k->name);
        row.file = (uint32_t)k->file;
        row.grid = k->grid;
        row.threads = k->threads;
        row.shared = k->shared;
        row.table = k->table;
        row.hopper = k->hopper;
        row.own = k->own;
        row.own.name = put_string(s, k->own_name ? k->own_name : "");
        PUT(out, row);
    }
    h->gpu_files = align(out);
    for (uint32_t i = 0; i < h->n_gpu_files; i++) {
        TicGpuFile row = { put_string(s, cuda_file_name(m, (int)i)), put_string(s, cuda_file(m, (int)i)), h->n_gpu_images, 0 };
        for (int k = 0; k < in->n_arch; k++)
            row.n_image += in->image[i * (uint32_t)in->n_arch + (uint32_t)k].n > 0;
        h->n_gpu_images += row.n_image;
        PUT(out, row);
    }
    h->gpu_images = align(out);
    uint32_t at = h->gpu_images + h->n_gpu_images * (uint32_t)sizeof(TicGpuImage);
    for (uint32_t i = 0; i < h->n_gpu_files * (uint32_t)in->n_arch; i++) {
        if (!in->image[i].n)
            continue;
        TicGpuImage row = { in->image[i].arch, at, (uint32_t)in->image[i].n, 0 };
        at += (row.bytes + 7) / 8 * 8;
        PUT(out, row);
    }
    for (uint32_t i = 0; i < h->n_gpu_files * (uint32_t)in->n_arch; i++) {
        text_bytes(out, in->image[i].bytes, in->image[i].n);
        align(out);
    }
}

/* ---- the tables, in the order in which they stand */

/* Entries first count the rows of the tables that they share. */
static void put_entries(const BlobInput *in, TicProgram *h, Text *out, Strings *s)
{
    h->entries = align(out);
    h->n_entries = (uint32_t)in->n_entry;
    for (int i = 0; i < in->n_entry; i++) {
        const Entry *e = &in->entry[i];
        const Graph *g = e->fused->graph;
        TicEntry row;
        memset(&row, 0, sizeof row);
        row = (TicEntry){ .name = put_string(s, e->name), .target = e->target, .tensor = h->n_tensors, .n_tensor = (uint32_t)g->n_tensor,
                          .launch = h->n_launches, .n_launch = (uint32_t)e->launch.n, .output = h->n_outputs,
                          .n_output = (uint32_t)g->n_output, .first_update = first_update(e),
                          .forward_flops_per_pair = e->forward_flops_per_pair };
        h->n_tensors += row.n_tensor;
        h->n_launches += row.n_launch;
        h->n_outputs += row.n_output;
        for (int l = 0; l < e->launch.n; l++)
            h->n_args += (uint32_t)e->launch.at[l].n_arg;
        PUT(out, row);
    }
}

static void put_launches(const BlobInput *in, TicProgram *h, Text *out, Strings *s, Arena *a)
{
    uint32_t arg = 0;
    h->launches = align(out);
    for (int i = 0; i < in->n_entry; i++)
        for (int l = 0; l < in->entry[i].launch.n; l++) {
            const Launch *x = &in->entry[i].launch.at[l];
            TicLaunch row;
            memset(&row, 0, sizeof row);
            row.label = put_string(s, x->from->label);
            row.source = put_string(s, span_text(in->program, x->from->span, a));
            row.kernel = (uint32_t)x->kernel;
            row.host = x->host;
            row.step = (uint32_t)(x->from - in->entry[i].fused->kernel);
            row.cls = (uint32_t)x->from->cls;
            row.arg = arg;
            row.n_arg = (uint32_t)x->n_arg;
            memcpy(row.flops.c, x->flops.c, sizeof row.flops.c);
            row.period = (uint32_t)(x->from->sets ? x->from->sets->form->kernel[0].n_args : x->n_arg);
            for (int k = 0; k < (int)row.period && k < 64; k++)
                row.writes |= (uint64_t)writes_tensor(x->from, x->arg[k]) << k;
            arg += row.n_arg;
            PUT(out, row);
        }
}

static void put_args(const BlobInput *in, TicProgram *h, Text *out)
{
    h->args = align(out);
    for (int i = 0; i < in->n_entry; i++)
        for (int l = 0; l < in->entry[i].launch.n; l++)
            for (int k = 0; k < in->entry[i].launch.at[l].n_arg; k++) {
                uint32_t t = (uint32_t)in->entry[i].launch.at[l].arg[k];
                PUT(out, t);
            }
}

static void put_outputs(const BlobInput *in, TicProgram *h, Text *out, Strings *s)
{
    h->outputs = align(out);
    for (int i = 0; i < in->n_entry; i++) {
        const Graph *g = in->entry[i].fused->graph;
        for (int k = 0; k < g->n_output; k++) {
            TicOutput row = { put_string(s, g->output[k].name), g->output[k].tensor };
            PUT(out, row);
        }
    }
}

static void put_params(const BlobInput *in, TicProgram *h, Text *out, Strings *s)
{
    const Program *p = in->program;
    h->params = align(out);
    h->n_params = (uint32_t)p->n_param;
    for (int i = 0; i < p->n_param; i++) {
        TicParam row = param_row(&p->graph->tensor[p->param[i]], s);
        row.weight_decay = sema_weight_decay(p, i);
        row.param = i;
        row.role = put_string(s, "");
        PUT(out, row);
    }
}

static void put_states(const BlobInput *in, TicProgram *h, Text *out, Strings *s, Arena *a)
{
    h->states = align(out);
    for (int i = 0; in->step && i < in->step->n_tensor; i++) {
        if (in->step->tensor[i].kind != T_STATE)
            continue;
        TicParam row = param_row(&in->step->tensor[i], s);
        const char *role = "";
        row.param = state_owner(in, in->step->tensor[i].name, &role, a);
        row.role = put_string(s, role);
        h->n_states++;
        PUT(out, row);
    }
}

static void put_steps_and_tasks(const Program *p, TicProgram *h, Text *out, Strings *s, Arena *a)
{
    h->steps = align(out);
    h->n_steps = (uint32_t)p->continual.n_step;
    for (int i = 0; i < p->continual.n_step; i++) {
        YearRange r = p->continual.step[i];
        TicYearStep row = { put_string(s, r.lo == r.hi ? arena_printf(a, "%d", r.lo) : arena_printf(a, "%d..%d", r.lo, r.hi)), r.lo, r.hi };
        PUT(out, row);
    }
    h->tasks = align(out);
    h->n_tasks = (uint32_t)p->n_task;
    for (int i = 0; i < p->n_task; i++) {
        TicTask row = { put_string(s, p->task[i].kind), put_string(s, p->task[i].name), p->task[i].year };
        PUT(out, row);
    }
}

static void put_class_names(TicProgram *h, Text *out, Strings *s)
{
    h->class_names = align(out);
    h->n_class_names = N_KERNEL_CLASSES;
    for (int i = 0; i < N_KERNEL_CLASSES; i++) {
        uint32_t name = put_string(s, kernel_class_name[i]);
        PUT(out, name);
    }
}

/* The header and the tables with strings from byte `base` on; returns where the tables end, a multiple of 8. */
static uint32_t put_tables(const BlobInput *in, uint32_t base, TicProgram *h, Text *out, Strings *s, Arena *a)
{
    *out = (Text){ .arena = a };
    *s = (Strings){ .text = { .arena = a }, .base = base };
    memset(h, 0, sizeof *h);
    PUT(out, *h);
    fill_program(in, h, s);
    put_entries(in, h, out, s);
    h->tensors = align(out);
    for (int i = 0; i < in->n_entry; i++)
        put_tensors(in, &in->entry[i], out, s, a);
    put_launches(in, h, out, s, a);
    put_args(in, h, out);
    put_outputs(in, h, out, s);
    put_params(in, h, out, s);
    put_states(in, h, out, s, a);
    put_steps_and_tasks(in->program, h, out, s, a);
    put_gpu(in, h, out, s);
    put_class_names(h, out, s);
    return align(out);
}

/* Where the strings begin is known when the tables are made, whose size does not depend on it: they are made twice. */
const void *blob_build(const BlobInput *in, Arena *a, size_t *size)
{
    TicProgram h;
    Text out;
    Strings s;
    uint32_t base = put_tables(in, 0, &h, &out, &s, a);
    put_tables(in, base, &h, &out, &s, a);
    text_bytes(&out, text_data(&s.text), s.text.n);
    align(&out);
    h.bytes = (uint32_t)out.n;
    memcpy(out.at, &h, sizeof h);
    *size = out.n;
    return out.at;
}
