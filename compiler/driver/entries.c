/* entries.c -- the programs that a file becomes: "step" (training), "image" and "text" (the towers alone, for evaluation), and
 * what a strategy or a step in pieces adds (tic.h). Each is lowered from a graph of its own; kernels that are equal are built
 * once for all of them. */
#include "cpu/cpu.h"
#include "driver/gpu.h"
#include "driver/job.h"
#include "pass/pieces.h"
#include "pass/plan.h"
#include <stdio.h>
#include <string.h>

bool runs_on_gpu(const Entry *e)
{
    return strcmp(e->name, "schedule") && strcmp(e->name, "after");
}

static bool host_workspace(void *of, Fused *f, const Kernel *k, Poly *elements, Text *why) { return cpu_workspace(of, f, k, elements, why); }
static bool gpu_workspace(void *of, Fused *f, const Kernel *k, Poly *elements, Text *why) { return cuda_workspace(of, f, k, elements, why); }

/* The goal on the CPU; what launches hand each other counts as well. */
static MemoryGoal cpu_goal(Job *j, const MemoryGoal *goal)
{
    MemoryGoal here = *goal;
    Text why = { .arena = &j->arena };
    if (goal->bytes && !j->cpu_trial) {
        const CpuTarget target = cpu_target(j->o, 1);
        j->cpu_trial = cpu_module_new(&j->arena, &target, &why);                        /* back_end says what is no processor */
    }
    here.workspace = goal->bytes && j->cpu_trial ? host_workspace : NULL;
    here.of = j->cpu_trial;
    return here;
}

/* The goal on a GPU, where partial results of a weight gradient may be larger than it: kernels are lowered on trial to see. */
static MemoryGoal gpu_goal(Job *j, const MemoryGoal *goal, const TrainBlock *train)
{
    MemoryGoal there = *goal;
    Text why = { .arena = &j->arena };
    int n;
    if (goal->bytes && !j->trial) {
        const char **arch = gpu_architectures(&j->arena, j->o->gpu, &n, &why);
        const CudaTarget target = gpu_target(j->tuned, arch, arch ? n : 0, train);      /* back_end says what is no architecture */
        j->trial = cuda_module_new(&j->arena, &target);
    }
    there.workspace = goal->bytes ? gpu_workspace : NULL;
    there.of = j->trial;
    return there;
}

/* From this batch on the pairs of a batch would weigh 256 MB, each time that they are in memory. */
enum { MEET_BATCH = 8192 };

/* Into kernels, in an order: for the CPU, and once more for GPUs, which may take other kernels together. gpu_bf16: a GPU has the
 * operands of contractions in bf16 where the CPU has them in f32. */
static int fuse_entry(Job *j, Graph *g, Entry *e, const TrainBlock *train, const MemoryGoal *goal, bool gpu_bf16)
{
    const FuseOptions cpu = { cpu_takes_score, goal->batch >= MEET_BATCH }, gpu = { cuda_takes_score, goal->batch >= MEET_BATCH };
    Text why = { .arena = &j->arena };
    Graph *copy = j->o->gpu && runs_on_gpu(e) ? graph_clone(g) : NULL;
    if (copy && gpu_bf16 && !passes_precision(copy, &why))
        return job_fault(arena_printf(&j->arena, "the precision of `%s` for CUDA", e->name), &why);
    if (copy)
        pass_wire(copy, "pixels");
    while (copy && g->n_tensor < copy->n_tensor)         /* what fusing adds has one number on both sides: `check` compares by it */
        graph_tensor(g, "", 0, NULL, T_TEMP, DT_F32);
    const MemoryGoal here = cpu_goal(j, goal), there = copy ? gpu_goal(j, goal, train) : *goal;
    for (int k = 0; k < 1 + (copy != NULL); k++) {
        Text table = { .arena = &j->arena };
        Fused *f = NEW(&j->arena, Fused);
        int64_t reached;
        bool fits = fuse_within(k ? copy : g, k ? &gpu : &cpu, k ? &there : &here, &j->arena, f, &reached, &table, &why);
        if (table.n && (fits || reached > goal->bytes))
            fprintf(stderr, "%s%s\n%s", e->name, k ? " for CUDA" : "", text_data(&table));
        if (!fits && reached > goal->bytes) {
            const char *piece = goal->beside ? arena_printf(&j->arena, "program `%s` of a step in pieces: ", e->name) : "";
            const char *less = goal->beside && strcmp(e->name, "loss") ? "`train.micro`" : "batch";
            fprintf(stderr, "ticc: --memory: %s%s%s; a smaller %s needs less\n", k ? "on a GPU, " : "", piece, text_data(&why), less);
            return USER_FAULT;
        }
        if (!fits)
            return job_fault(arena_printf(&j->arena, "fusing `%s`%s", e->name, k ? " for CUDA" : ""), &why);
        *(k ? &e->gpu : &e->fused) = f;
    }
    return 0;
}

typedef enum { A_STEP, A_TOWER, A_RULE } Purpose;

static bool in_pieces(const Program *p) { return p->train.micro && p->train.micro < p->train.batch; }

/* Simplify, lower the precision, fuse, schedule: e->name is set, e->fused and e->gpu will be. `goal` (may be NULL): of a training
 * step, as --memory wants it. The precision is that of training for a step; for a tower on a GPU, as in OpenCLIP's evaluation,
 * where autocast is for GPUs alone; no strategy's rule has one. */
static int finish(Job *j, Graph *g, Entry *e, const TrainBlock *train, Purpose purpose, const MemoryGoal *goal)
{
    const char *name = e->name;
    Text why = { .arena = &j->arena };
    PassOptions po = { .narrow = j->o->narrow };
    if (!passes_simplify(g, &po, NULL, &why))
        return job_fault(arena_printf(&j->arena, "simplifying `%s`", name), &why);
    if (purpose == A_STEP && train->bf16 && !passes_precision(g, &why))
        return job_fault(arena_printf(&j->arena, "the precision of `%s`", name), &why);
    job_mark(j, arena_printf(&j->arena, "simplify (%s)", name));
    int code = fuse_entry(j, g, e, train, goal ? goal : &(MemoryGoal){ 0 }, purpose == A_TOWER && train->bf16);
    job_mark(j, arena_printf(&j->arena, "fuse (%s)", name));
    return code;
}

/* ---- the step */

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

static int forward(Job *j, Program *p)
{
    static const char *const step_outputs[] = { "loss", "logit_scale" };
    PassOptions po = { .narrow = j->o->narrow };
    Text why = { .arena = &j->arena };
    keep_output(p->graph, step_outputs, 2);
    return passes_forward(p->graph, &po, NULL, &why) ? 0 : job_fault("forward passes", &why);
}

static int optimise(Job *j, Program *p, const int *grads)
{
    Text why = { .arena = &j->arena };
    if (!sema_update(p, p->graph, &j->diag, grads))
        return j->diag.errors ? USER_FAULT : OUR_FAULT;
    graph_toposort(p->graph);
    return graph_verify(p->graph, "optimiser", &why) ? 0 : job_fault("the optimiser", &why);
}

/* A whole tower that the loss leaves out is one mistake. */
static bool all_trained(Job *j, const Program *p, const int *grads)
{
    const Graph *g = p->graph;
    Text dead = { .arena = &j->arena };
    int first = -1, n = 0;
    for (int i = 0; i < p->n_param; i++) {
        const char *name = g->tensor[p->param[i]].name;
        if (grads[i] >= 0)
            continue;
        if (!n++)
            first = p->param[i];
        if (n <= 4)
            text_printf(&dead, "%s`%s`", n > 1 ? ", " : "", name);
    }
    if (!n)
        return true;
    const Tensor *t = &g->tensor[first];
    if (n == 1)
        diag_error(&j->diag, t->span, "parameter `%s` does not influence the loss", t->name);
    else
        diag_error(&j->diag, t->span, "%d parameters do not influence the loss: %s%s", n, text_data(&dead), n > 4 ? ", ..." : "");
    GraphIndex ix = graph_index(g, &j->arena);
    bool pixels = ix.users[p->pixels].n, tokens = ix.users[p->tokens].n;
    if (!pixels || !tokens)
        diag_help(&j->diag, "nothing that `loss` returns follows from the %s", pixels ? "text" : tokens ? "image" : "image or the text");
    else
        diag_help(&j->diag, "use %s in what `loss` returns, or remove %s", n == 1 ? "it" : "them", n == 1 ? "it" : "them");
    return false;
}

int differentiate(Job *j, Program *p)
{
    Text why = { .arena = &j->arena };
    int code = forward(j, p);
    if (code)
        return code;
    int *grads = NEWN(&j->arena, int, p->n_param + 1);
    if (!grad_append(p->graph, p->loss, p->param, p->n_param, grads, &why))
        return job_fault("the gradient", &why);
    if (!all_trained(j, p, grads))
        return USER_FAULT;
    job_mark(j, "gradient");
    code = optimise(j, p, grads);
    job_mark(j, "optimiser");
    return code;
}

int build_step(Job *j, Program *p, Entry *e)
{
    /* where steps go in pieces, --memory is for those */
    const MemoryGoal goal = { .batch = p->train.batch, .bytes = in_pieces(p) ? 0 : j->o->memory };
    return finish(j, p->graph, e, &p->train, A_STEP, &goal);
}

/* ---- towers, and what a strategy adds */

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
        return job_fault(e->name, &why);
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
            return job_fault(name, &why);
        entry[*n].name = name;
        int code = finish(j, g, &entry[*n], &p->train, A_RULE, NULL);
        if (code)
            return code;
        (*n)++;
    }
    return 0;
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
    entry[*n].name = "distill";
    if (!code)
        code = build_step(j, p, &entry[*n]);
    *n += !code;
    return code;
}

/* ---- the step in pieces */

void check_pieces(Job *j, const Program *p)
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
    return made && graph_verify(g, name, &why) ? code : job_fault(name, &why);
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

int build_pieces(Job *j, Entry *entry, int *n, bool distill)
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

int build_others(Job *j, Program *p, Entry *entry, int *n)
{
    bool distill = p->continual.n_step && sema_has_loss(p);
    for (int i = 0; i < 2; i++) {
        entry[*n].name = i ? "text" : "image";
        int code = build_tower(j, i ? "text_features" : "image_features", &entry[*n]);
        if (code)
            return code;
        *n += entry[*n].fused != NULL;
    }
    int code = build_strategy(j, p, entry, n);
    if (!code && distill)
        code = build_distill(j, entry, n);
    for (int k = 0; k <= distill && !code && p->train.micro; k++)
        code = build_pieces(j, entry, n, k);
    return code;
}
