/* compile.c -- the stages in order, each of which --emit can print.
 *
 *   text -> tree -> graph -> gradient -> optimiser -> simplify -> fuse -> schedule -> kernels -> object -> executable */
#include "driver/job.h"
#include "data/bpe.h"
#include "driver/gpu.h"
#include "driver/tune.h"
#include "front/parse.h"
#include "pass/plan.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

void job_mark(Job *j, const char *stage)
{
    double t = now();
    text_printf(&j->times, "%-28s %8.1f ms\n", stage, t - j->last);
    j->last = t;
}

int job_fault(const char *stage, const Text *why)
{
    fprintf(stderr, "ticc: internal error in %s: %s\n", stage, text_data(why));
    return OUR_FAULT;
}

bool job_emits(const Job *j, const char *what) { return j->o->emit && !strcmp(j->o->emit, what); }

/* `use NAME`: NAME.tic beside the file first, then the standard library. */
static const char *find_module(void *ctx, const char *name, const char **path)
{
    Job *j = ctx;
    const char *slash = strrchr(j->o->input, '/');
    *path = arena_printf(&j->arena, "%.*s%s.tic", slash ? (int)(slash - j->o->input + 1) : 0, j->o->input, name);
    if (strcmp(*path, j->o->input) && !access(*path, F_OK)) {
        size_t size;
        const char *text = diag_read(&j->diag, *path, &size);
        if (text && strlen(text) < size) {
            diag_error(&j->diag, (Span){ 0 }, "`%s` holds the byte 0x00, which has no meaning", *path);
            return NULL;
        }
        return text;
    }
    for (const StdlibModule *m = ticc_stdlib; m->name; m++)
        if (!strcmp(m->name, name)) {
            *path = arena_printf(&j->arena, "stdlib/%s.tic", name);
            return m->text;
        }
    return NULL;
}

bool elaborate(Job *j, Program *p)
{
    memset(p, 0, sizeof *p);
    return sema_program(p, &j->arena, &j->diag, j->file, j->o->define, j->o->n_define, find_module, j);
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

static void print_graph(const Graph *g, Arena *a)
{
    Text t = { .arena = a };
    graph_print(g, &t);
    fwrite(text_data(&t), 1, t.n, stdout);
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

static int print_ast(Job *j)
{
    Node *tree = parse_file(&j->arena, &j->diag, j->file);
    Text t = { .arena = &j->arena };
    if (j->diag.errors)
        return USER_FAULT;
    tree_print(tree, &t);
    fputs(text_data(&t), stdout);
    return 0;
}

/* The program of the file, with a model and a loss unless it is a library that is only to be checked. */
static int load_program(Job *j, Program *p)
{
    if (!elaborate(j, p))
        return USER_FAULT;
    job_mark(j, "parse and check");
    if (!p->graph) {             /* a library */
        if (j->o->check)
            return 0;
        fprintf(stderr, "ticc: %s: has no `model` block: nothing to compile; --check checks its functions\n", j->o->input);
        return USER_FAULT;
    }
    if (p->loss < 0) {           /* an error value that nobody reported */
        Text why = { .arena = &j->arena };
        text_printf(&why, "the model has no loss, and no message says why");
        return job_fault("checking", &why);
    }
    if (p->train.micro)
        check_pieces(j, p);
    return j->diag.errors ? USER_FAULT : 0;
}

/* --emit=fused and --emit=plan, of the step that entry[0] is. */
static int print_kernels(Job *j, const Program *p, Entry *entry)
{
    Text t = { .arena = &j->arena };
    if (job_emits(j, "fused"))
        fused_print(entry[0].fused, &t);
    else
        plan_print(entry[0].fused, p->train.batch, &t);
    if (job_emits(j, "plan") && p->train.micro) {
        int n = 1, code = build_pieces(j, entry, &n, false);
        if (code)
            return code;
        print_pieces_plan(j, p, &entry[1], n - 1, &t);
    }
    fwrite(text_data(&t), 1, t.n, stdout);
    return 0;
}

/* A program whose table is too small for CLIP's tokens can be timed and checked, but reads no captions. */
static void check_vocabulary(Job *j, const Program *p)
{
    int table;
    int64_t rows = blob_vocabulary(p, &table);
    if (!rows || rows >= TIC_VOCABULARY)
        return;
    diag_warning(&j->diag, p->graph->tensor[table].span, "`%s` has %lld rows, and the tokens of captions are numbers below %d: the program "
                 "will refuse to train and to evaluate", p->graph->tensor[table].name, (long long)rows, TIC_VOCABULARY);
    diag_help(&j->diag, "`vocab = %d`", TIC_VOCABULARY);
}

/* From the checked program on. */
static int run_program(Job *j, Program *p)
{
    double flops = forward_flops(p->graph);
    Entry entry[32] = { { .name = "step", .forward_flops_per_pair = flops } };
    int n = 1;
    if (job_emits(j, "schedule"))
        return print_schedule(p, &j->diag, flops) ? 0 : j->diag.errors ? USER_FAULT : OUR_FAULT;
    if (!check_rates(p, &j->diag))
        return j->diag.errors ? USER_FAULT : OUR_FAULT;
    if (job_emits(j, "params"))
        return print_params(p), 0;
    if (job_emits(j, "graph"))
        return print_graph(p->graph, &j->arena), 0;
    int code = differentiate(j, p);
    if (code || j->o->check)
        return code;
    if (job_emits(j, "grad"))
        return print_graph(p->graph, &j->arena), 0;
    code = build_step(j, p, &entry[0]);
    if (code)
        return code;
    if (job_emits(j, "fused") || job_emits(j, "plan"))
        return print_kernels(j, p, entry);
    code = build_others(j, p, entry, &n);
    if (!code && j->o->tune)
        return tune(&(TuneInput){ j->o, p, entry, n, program_hash(j, "tune") }, &j->arena);
    if (!code)
        check_vocabulary(j, p);
    return code ? code : back_end(j, p, entry, n);
}

static int run(Job *j)
{
    const Options *o = j->o;
    if (o->gpu && !read_tuned(j))
        return USER_FAULT;
    j->file = diag_load(&j->diag, o->input);
    if (j->file < 0)
        return USER_FAULT;
    if (!o->check && !o->tune && (o->output || !o->emit) && !output_free(j))
        return USER_FAULT;
    if (job_emits(j, "ast"))
        return print_ast(j);
    Program *p = NEW(&j->arena, Program);
    int code = load_program(j, p);
    return code || !p->graph ? code : run_program(j, p);
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
    if (j.cpu_trial)
        cpu_module_free(j.cpu_trial);
    arena_free(&j.arena);
    if ((fflush(stdout) || ferror(stdout)) && !code) {
        fprintf(stderr, "ticc: the standard output cannot be written: %s\n", strerror(errno));
        code = USER_FAULT;
    }
    return code;
}
