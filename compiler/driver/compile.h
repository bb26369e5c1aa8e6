/* compile.h -- the compiler as one function: a .tic file in, an executable (or a text of any stage) out. */
#ifndef TICC_COMPILE_H
#define TICC_COMPILE_H
#include "front/program.h"

#define TICC_VERSION "0.1.0"

typedef struct {
    const char *input, *output;      /* output NULL: the input's name without .tic */
    const char *emit;                /* NULL: an executable */
    const char *target;              /* cpu part: "native" or a name LLVM knows */
    const char *gpu;                 /* NULL: no code for GPUs; else architectures, "sm_80,sm_90a"; "": only texts */
    bool check, timings, narrow;
    int64_t memory;                  /* bytes that a step may need; 0: as it comes */
    const char *table;               /* file of what was measured (cuda/tuned.h), before what is compiled in; NULL: none */
    bool tune;                       /* measure instead of compiling, and write `table` */
    int64_t tune_batch;              /* 0: that of the train block */
    int tune_rounds;                 /* 0: as many as give a good median */
    const Define *define;
    int n_define;
    const char *library;             /* path of libticrt.a; NULL: beside ticc, then in ../lib/ticc */
} Options;

/* Exit code: 0 done, 1 the user's input (messages printed to stderr), 70 our fault. Text of --emit goes to stdout. */
int compile(const Options *o);

/* The learning rate of every time step, looked at in a few hundred places: a finite number from 0 on. False after an error (in d). */
bool check_rates(Program *p, Diag *d);
/* --emit=schedule, to stdout. False after an error (in d). */
bool print_schedule(Program *p, Diag *d, double forward_flops);

/* The standard library, compiled in (generated from stdlib/). */
typedef struct { const char *name, *text; } StdlibModule;
extern const StdlibModule ticc_stdlib[];     /* ends with a NULL name */
#endif
