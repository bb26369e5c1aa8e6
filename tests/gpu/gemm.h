/* gemm.h -- contraction templates with prologues written by hand, as compiler/cuda/emit.h wants them. */
#ifndef GPU_GEMM_H
#define GPU_GEMM_H
#include "device.h"

typedef struct GemmSide {
    bool bf16;
    int unit, vec;           /* of the prologue */
    int fold;                /* > 0: rows are (outer, fold) with a gap after each outer one */
} GemmSide;

/* what becomes of a result: stored as f32 or bf16; plus a bias, kept as bf16, and its GELU (tanh form) as bf16 too */
typedef enum { FINISH_F32, FINISH_BF16, FINISH_GELU } GemmFinish;

/* From so many terms on a side that is summed has numbers of one sign: its sums grow until low bits of each term are lost. */
enum { GEMM_LONG = 10000 };

typedef struct GemmProblem {
    int rows, cols, terms, batches, splits, split_terms;
    GemmSide a, b;
    GemmFinish finish;       /* gemm_check: FINISH_F32 alone */
    int summed;              /* as SUMMED; sums lie behind the results. FINISH_F32 alone */
    int shares;              /* as SHARES: a part has the place of a whole tile, and of its rows' sums. Hopper's, FINISH_F32 alone */
} GemmProblem;

/* A template, and how it is launched. */
typedef struct GemmTemplate {
    const char *name, *text, *arch;
    int tile_m, tile_n, threads, shared;
    bool persistent;
    bool maps;               /* wants tensor maps: bf16 sides of plain strides */
    bool exact;              /* products of f32; of others floats become bf16 first */
} GemmTemplate;
extern const GemmTemplate gemm_templates[];
extern const int n_gemm_templates;
bool gemm_fits(const GemmTemplate *t, const GemmProblem *p);

typedef struct GemmResult { bool compiled, launched; double error; const char *why; } GemmResult;
/* Compiles `text` (the template's, perhaps changed), runs it for each of `seeds` seeds of the emulator on random numbers,
 * compares all results with sums in f64. error: largest difference relative to the size of the
 * terms; of long sums, to their number. */
GemmResult gemm_check(const GemmTemplate *t, const char *text, const GemmProblem *p, int seeds, bool values_only);
/* the whole text of a problem's kernel; freed with the process */
const char *gemm_source(const GemmTemplate *t, const GemmProblem *p);
double gemm_time(const GemmTemplate *t, const GemmProblem *p, int runs);   /* ms on the device; < 0: does not compile */
#endif
