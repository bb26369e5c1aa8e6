/* tasks.h -- which sets a checkpoint is evaluated on, in DataComp's names and tasklist.yml.
 *
 * Keys: `tic/SET/KIND/SCALE/SPLIT` (SET datacomp, yfcc, redcaps; KIND retrieval or datacompnet; SCALE yearly or monthly;
 * SPLIT 2016, 201603, or 2014-2016: the union of those years), and DataComp's static ones (`imagenet1k`, `vtab/pets`).
 * Two protocols are supported: retrieval and zero-shot classification. Every other task is kept in the list with the
 * reason why it is not evaluated. */
#ifndef TIC_EVAL_TASKS_H
#define TIC_EVAL_TASKS_H
#include "base.h"
#include "data/json.h"
#include "tic.h"

typedef enum { TIC_TASK_RETRIEVAL, TIC_TASK_ZEROSHOT, TIC_TASK_UNSUPPORTED } TicTaskKind;

typedef struct {
    char *key, *name;            /* "tic/datacomp/retrieval/yearly/2016", "TiC-DataComp-Retrieval-Yearly-2016" */
    char *metric;                /* main metric: "acc1", "acc5", "mean_per_class_recall", "mean_recall@1"; "": none */
    char *why;                   /* of a task that is not evaluated; else NULL */
    TicTaskKind kind;
    int64_t size, classes;       /* 0: not stated */
    int lo, hi;                  /* TiC splits: the year or years (month: 201603); else 0 */
} TicEvalTask;

typedef struct { TicEvalTask *task; int count, room; } TicTaskList;      /* { 0 } is the empty list */

void tic_tasks_clear(TicTaskList *list);
/* Appends a task by its key alone: name, metric, size and classes are DataComp's. */
void tic_tasks_add(TicTaskList *list, const char *key);
/* The first task of this key, or NULL. */
TicEvalTask *tic_tasks_find(const TicTaskList *list, const char *key);

/* Appends the tasks of a tasklist.yml. TIC_USER, naming file, line or task, when it is no such list. */
TicStatus tic_tasks_read(TicTaskList *list, const char *path);
/* Writes one; what was read comes out equal in meaning, keys sorted as DataComp's generator sorts them. */
TicStatus tic_tasks_write(const TicTaskList *list, const char *path);
/* Appends what the program's `eval` block names. */
TicStatus tic_tasks_of_program(TicTaskList *list, const TicProgram *p);
/* For each time step of several years the union of its years, in every yearly family of which the list has all years. */
void tic_tasks_add_unions(TicTaskList *list, const TicProgram *p);

/* The groups whose averages DataComp reports (aggregate_scores.py), g from 0: "ImageNet", "ImageNet dist. shifts", "VTAB",
 * "Retrieval", "Average" (all 38 static tasks with a main metric); NULL after the last. */
const char *tic_group_name(int g);
bool tic_group_has(int g, const char *key);
int tic_group_size(int g);

/* The key without its split: "tic/datacomp/retrieval/yearly"; the whole key of a static task. Caller frees. */
char *tic_task_family(const char *key);
/* "TiC-DataComp-Retrieval-Yearly" and the like for a family, a static task's name for itself. Caller frees. */
char *tic_task_name(const char *key);
/* The split of a TiC key as years (lo = hi for one); false for other keys. */
bool tic_task_years(const char *key, int *lo, int *hi);
#endif
