/* program.h -- what the front end hands to the rest: forward graphs and everything the blocks say.
 *
 * sema_program checks a whole tree (model, data, train, continual, eval, strategies) and elaborates the model:
 * functions are inlined, `for` unrolled, extents solved, parameters named. The optimiser is elaborated later,
 * when the gradients exist (sema_update). All strings and arrays live in the arena. */
#ifndef FRONT_PROGRAM_H
#define FRONT_PROGRAM_H
#include "front/tree.h"
#include "ir/graph.h"

typedef struct { const char *name; const char *value; } Define;     /* -D name=value */
typedef struct { int lo, hi; } YearRange;                           /* inclusive */

typedef struct {
    const char *name;            /* block title, "" */
    const char *shards;          /* pattern with {data} and {year} */
    int image_size;              /* crop edge */
    double scale_lo, scale_hi, ratio_lo, ratio_hi;
    bool scaled_decode;          /* JPEGs are decoded smaller where that leaves pixels enough */
    bool augment;                /* random_resized_crop; false: resize and centre crop */
    double mean[3], std[3];
    int context;                 /* tokens per caption */
    bool with_replacement;
    bool by_shard;               /* each shard of a year is drawn as often as another, as OpenCLIP does it */
} DataBlock;

typedef struct {
    int64_t batch, samples, micro;       /* micro 0: whole batch at once */
    bool bf16;
    double clip_norm;            /* 0: none */
    uint64_t seed;
    const Node *optimizer;       /* the checked call adamw(...) */
    const char *optimizer_name;
    const Node *after;           /* block body or NULL */
} TrainBlock;

typedef struct { const char *kind, *name; int year; } EvalTask;     /* kind "retrieval" | "zeroshot"; year -1 when none */
typedef enum { INIT_PREVIOUS, INIT_RANDOM, INIT_REWIND } StepInit;
typedef struct {
    YearRange *step;
    int n_step;
    const char *strategy;
    int start;
    const Node *body;
    StepInit init;               /* the weights a step begins with: handed on, fresh, or those kept before the last one's end */
    double keep;                 /* INIT_REWIND: after which share of a step's optimiser steps its state is kept */
    double cost;                 /* of a pair against a plain one, in the paper's account (LwF: 1.2) */
    bool carry_moments;          /* a step begins with the moments of its first weights too */
} ContinualBlock;

typedef struct Program {
    Arena *arena;
    Sources *sources;
    const char *model;
    /* graph with inputs pixels [B,3,S,S] f32 and tokens [B,context] i32, all parameters in state_dict order (PyTorch:
     * own parameters of a scope first, in order of definition, then sub-scopes in order of first use), outputs
     * "loss" [], "image_features" [B,E], "text_features" [B,E], "logit_scale" [] (the exponential, when there is one) */
    Graph *graph;
    int pixels, tokens, loss;            /* tensors */
    int *param; int n_param;             /* tensors in state_dict order */
    DataBlock data;
    TrainBlock train;
    ContinualBlock continual;
    EvalTask *task; int n_task;
    struct Sema *sema;                   /* private: scopes, stdlib functions, for sema_update */
} Program;

/* Finds the text of `use NAME`: first beside the file, then the compiled-in standard library. NULL: not found, or after an error. */
typedef const char *(*ModuleFn)(void *ctx, const char *name, const char **path);

/* The file is source `file` (already loaded); modules are loaded through `module`. False after any error (all reported). */
bool sema_program(Program *p, Arena *a, Diag *d, int file, const Define *define, int n_define, ModuleFn module, void *ctx);
/* Appends to g (the program's graph or a copy with equal tensor numbers) the optimiser step for every parameter:
 * inputs "step" and "total" (f64 scalars), learning rate as f64 scalar Comps with output "lr", optional clipping by the
 * global norm (output "grad_norm"), states (zero-initialised T_STATE tensors named "exp_avg:NAME", "exp_avg_sq:NAME" for
 * adamw's m and v; "STATE:NAME" in general), updates, then the `after` block on the new values. grads[i] belongs to
 * p->param[i]. */
bool sema_update(Program *p, Graph *g, Diag *d, const int *grads);
/* The strategy, where there is a continual block (else false): see sema_schedule.c. `g` is a new, empty graph.
 *   sema_schedule   f64 scalar inputs "y", "t", "samples_y", "samples_t", "base", "unknown" (give NaN); outputs "mix", "budget"
 *   sema_after      parameters and inputs "previous:NAME"; updates. Only when sema_has_after. */
bool sema_schedule(Program *p, Graph *g, Diag *d);
bool sema_has_after(const Program *p);
bool sema_after(Program *p, Graph *g, Diag *d);
/* A strategy with loss(student, teacher): adds to p's fresh graph the same model once more, over the same inputs, with
 * its parameters as inputs "teacher:NAME", and makes the strategy's loss the program's. Arguments as for sema_program. */
bool sema_has_loss(const Program *p);
bool sema_distill(Program *p, Diag *d, int file, const Define *define, int n_define);
/* The learning rate alone: f64 scalar inputs "step", "total", "t"; output "lr". */
bool sema_rate(Program *p, Graph *g, Diag *d);
/* the weight decay of parameter i under the program's optimiser (0: the no-decay group) and its constants, for checkpoints */
double sema_weight_decay(const Program *p, int i);
bool sema_optimizer_constant(const Program *p, const char *name, double *value);   /* "beta1", "beta2", "eps", "peak" ... */
#endif
