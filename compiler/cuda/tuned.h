/* tuned.h -- what was measured: which template computes a kernel of a shape fastest on an architecture. The emitter looks here
 * before it follows rules. tuned.txt is compiled in; `ticc --tune` measures and writes such files, `ticc --table FILE` reads one.
 *
 * A line is a kernel, `->`, and what it is given; what follows a # is a comment:
 *
 *   ARCH contract A B FORM ROWS COLUMNS TERMS BATCHES RESULT FINISH -> TEMPLATE MxN [splits S | shares S]
 *   ARCH attention      ROWS COLUMNS TERMS FEATURES REACH -> W warps N blocks [wgmma]
 *   ARCH attention_bwd  the same                             (attn.h says what these numbers are)
 *
 *   ARCH     sm_90a is Hopper; any other, as sm_80, stands for the text that all other GPUs share
 *   A B      f32 or bf16; RESULT too, of what is stored last
 *   FORM     how A and B lie in memory, a letter each: k, terms side by side; m, rows (columns of B) side by side; -, neither
 *   extents  a number, or ~ and its value at the batch measured where it grows with the batch
 *   FINISH   plain, a sum is stored as it is; columns, after work that needs its column alone (bias, activation); points, with
 *            other loads or results at each point (residual, a value saved)
 *   splits   parts of the terms, summed apart and joined in order; left out: as the rules have it
 *   wgmma    attention by warpgroups of four warps (sm_90a alone)
 *   shares   equal shares of the terms of all tiles, one for each multiprocessor (gemm_wgmma alone; templates/shares.cu)
 *
 * A line serves kernels that agree in all words, fixed extents included. Of lines that differ in ~ extents alone the nearest
 * one counts, by ratio, at the batch that the program is compiled for, if it is within a factor of TUNED_REACH; beyond that,
 * and where no line serves, the rules decide. A kernel whose finish is `columns` takes a `plain` line where it has none. */
#ifndef CUDA_TUNED_H
#define CUDA_TUNED_H
#include "cuda/emit.h"

enum { TUNED_REACH = 16, TUNED_EXTENTS = 5, TUNED_MOST_SPLITS = 64, TUNED_MOST_SHARES = 1024 };
typedef enum { TUNED_CONTRACT, TUNED_ATTENTION, TUNED_ATTENTION_BWD } TunedKind;
typedef enum { FINISH_PLAIN, FINISH_COLUMNS, FINISH_POINTS } TunedFinish;

typedef struct TunedKey {
    const char *arch;
    TunedKind kind;
    bool a_bf16, b_bf16, result_bf16;
    char form[3];
    TunedFinish finish;
    int64_t extent[TUNED_EXTENTS];       /* in the line's order; contract has four */
    uint32_t of_batch;                   /* bit i: extent[i] grows with the batch */
} TunedKey;

typedef struct TunedChoice {
    const GemmTemplate *t;               /* contract */
    int splits, shares;                  /* one of them; both 0: by rule */
    int warps, blocks;                   /* attention */
    bool wgmma;
} TunedChoice;

typedef struct Tuned {
    Arena *arena;
    ARRAY(struct TunedLine { TunedKey key; TunedChoice choice; const char *above, *aside; int number; }) line;
    const char *head, *foot;             /* comments before the first line (and an empty one), behind the last */
    const struct Tuned *next;            /* looked into where this one has no line; may be NULL */
} Tuned;

extern const char cuda_tuned[];          /* the text of tuned.txt */

/* Adds the lines of a text to *t; `name` is for messages. False and "NAME:LINE: found .., wanted .." for a line that is none,
 * that no template can do, or whose kernel has a line already. */
bool tuned_read(Tuned *t, const char *name, const char *text, Text *why);
const TunedChoice *tuned_find(const Tuned *t, const TunedKey *key);      /* NULL: the rules decide; t may be NULL */
void tuned_put(Tuned *t, const TunedKey *key, const TunedChoice *c);     /* in place of the line of this very kernel */
void tuned_sort(Tuned *t);
void tuned_print(const Tuned *t, Text *out);                             /* comments stay with the line below them */
void tuned_print_lines(const Tuned *t, Text *out);                       /* without comments */
void tuned_print_key(const TunedKey *key, Text *out);
void tuned_print_choice(const TunedKey *key, const TunedChoice *c, Text *out);
bool tuned_same(const TunedKey *a, const TunedKey *b);
#endif
