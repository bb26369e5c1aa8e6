/* job.h -- inside the driver: one compilation.
 *
 *   compile.c   its stages in order, from the text to fused kernels, each of which --emit can print
 *   entries.c   the programs that a file becomes, each from a graph of its own
 *   output.c    what is made of their kernels: a text, or objects and an executable
 *
 * Functions that return a code: 0, or the exit code (see compile.h) once the message has been given. */
#ifndef TICC_JOB_H
#define TICC_JOB_H
#include "cpu/cpu.h"
#include "cuda/tuned.h"
#include "driver/blob.h"
#include "driver/compile.h"
#include "front/diag.h"

enum { USER_FAULT = 1, OUR_FAULT = 70 };

typedef struct Job {
    const Options *o;
    Arena arena;
    Sources sources;
    Diag diag;
    int file;
    double last;
    Text times;
    const Tuned *tuned;              /* what was measured of templates for GPUs; NULL: no code for them is made */
    CpuModule *cpu_trial;            /* kernels lowered to see what they need, under --memory */
    CudaModule *trial;
} Job;

void job_mark(Job *j, const char *stage);                    /* for --timings: what came before belongs to this stage */
int  job_fault(const char *stage, const Text *why);          /* our fault, said to stderr; its exit code */
bool job_emits(const Job *j, const char *what);

/* A fresh elaboration of the program: entries do not share graphs. */
bool elaborate(Job *j, Program *p);

/* ---- entries.c */
/* Can a step of this program go in pieces? Errors (in j->diag) name what mixes the samples of a batch. */
void check_pieces(Job *j, const Program *p);
/* Forward passes, gradient, optimiser: the graph becomes the training step. */
int  differentiate(Job *j, Program *p);
int  build_step(Job *j, Program *p, Entry *e);               /* of what differentiate left */
/* train.micro: the step in pieces. With a teacher the optimiser's program is the same. entry[0] is the step at once; *n counts
 * entries. Under --memory every program may need what parameters, states, sums of gradients, features and the others' inputs
 * leave: they share an arena. */
int  build_pieces(Job *j, Entry *entry, int *n, bool distill);
/* All programs beside the step, which is entry[0]. */
int  build_others(Job *j, Program *p, Entry *entry, int *n);
bool runs_on_gpu(const Entry *e);

/* ---- output.c */
bool output_free(Job *j);                                    /* before any work: nothing is against writing it there; else says what */
uint64_t program_hash(Job *j, const char *target);           /* of all that decides the code */
CpuTarget cpu_target(const Options *o, int parts);           /* what the options say of it */
/* Kernels, and what -o and --emit ask of them. */
int  back_end(Job *j, Program *p, Entry *entry, int n_entry);
#endif
