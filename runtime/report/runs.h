/* runs.h -- what runs left in their folders, read for a report: lineage.json, and of each step metrics.jsonl and those
 * lines of eval_results.jsonl that belong to the step's checkpoint. A folder without lineage.json is a run of one step.
 * And the scores put in order: families of tasks (one a kind and scale), a column an evaluation year, matrices of steps. */
#ifndef TIC_REPORT_RUNS_H
#define TIC_REPORT_RUNS_H
#include "base.h"
#include "eval/transfer.h"

typedef struct { char *name; double share; int64_t available; } TicRunShare;
typedef struct { int64_t step, samples; double loss, lr, scale, rate; } TicRunPoint;
typedef struct { char *key, *name; double value; bool has_value; int lo, hi; int64_t images, skipped; } TicRunScore;

typedef struct {
    char *name, *folder, *parent, *checkpoint, *state, *digest;
    int lo, hi;                  /* years; 0: not known */
    int64_t pairs, steps, batch, skipped;
    TicRunShare *share;
    int n_share;
    TicRunPoint *point;          /* logged steps, in order */
    int n_point;
    TicRunScore *score;          /* in the order of the file */
    int n_score;
    int stale;                   /* lines of eval_results.jsonl that belong to another checkpoint */
} TicRunStep;

typedef struct {
    char *path, *name;           /* the folder as given; its last part */
    char *model, *strategy, *program;
    int64_t seed, oracle_pairs;
    double flops_per_pair;       /* forward; 0: not known */
    double cost;                 /* of a pair against a plain one, the teacher included (1: no teacher) */
    TicRunStep *step;
    int n_step;
} TicRun;

typedef struct {
    char *key, *name;            /* "tic/datacomp/retrieval/yearly", "TiC-DataComp-Retrieval-Yearly" */
    int *year, n_year;           /* of all runs together, in order; a month is 201603 */
    double low, high;            /* of all scores */
} TicFamily;

typedef struct {
    TicRun *run;
    int n_run;
    TicFamily *family;
    int n_family;
    char **fixed;                /* keys of the other tasks, in the order in which they are met */
    int n_fixed;
} TicRuns;

/* TIC_USER when a folder holds no run, or one whose files do not parse. */
TicStatus tic_runs_read(char *const *path, int n, TicRuns *runs);
void tic_runs_clear(TicRuns *runs);

/* The score of a step's checkpoint on lo..hi of a family; NaN when there is none. */
double tic_runs_score(const TicRunStep *step, const TicFamily *f, int lo, int hi);
/* The main metric of a task by the newest step that has it; NaN. */
double tic_runs_newest(const TicRun *run, const char *key);
/* The mean over all years of the family that have a score; NaN. */
double tic_runs_mean(const TicRunStep *step, const TicFamily *f);
/* E of a run, [n_step, n_step], caller frees. A step of several years stands for the mean of its years' scores, or, with
 * `merged`, for the score on the union of its sets. */
double *tic_runs_matrix(const TicRun *run, const TicFamily *f, bool merged);
/* Has any run a step of several years in this family, so that the two readings differ? */
bool tic_runs_has_unions(const TicRuns *runs, const TicFamily *f);
int64_t tic_run_pairs(const TicRun *run, int steps);                     /* seen in the first `steps` steps */
double tic_run_macs(const TicRun *run, int steps);                       /* forward multiply-adds, as TiC-CLIP counts compute */
double tic_run_oracle_share(const TicRun *run);                          /* of the oracle's compute; NaN */
#endif
