/* sets.h -- where the data of a task lies, and what lies beside it.
 *
 * A root may be several, A::B; the first that has shards of a set counts. tic/SET/KIND/SCALE/SPLIT, the first that exists below a root:
 *     tic/SET/SCALE/eval/KIND/SPLIT   data/tic/SET/SCALE/eval/KIND/SPLIT   SCALE/eval/KIND/SPLIT   eval/KIND/SPLIT
 * any other key, with every / as a -:
 *     wds_KEY_test/test               wds_KEY_test            (side files in wds_KEY_test)
 *
 * Side files: nshards.txt (then exactly 0.tar ... are read, else every .tar), classnames.txt and
 * zeroshot_classification_templates.txt, one a line with a {c} in each template. */
#ifndef TIC_EVAL_SETS_H
#define TIC_EVAL_SETS_H
#include "data/shards.h"
#include "eval/tasks.h"

typedef struct { char **line; int count; } TicLines;

typedef struct {
    char *folder;                /* of the shards */
    TicShardList shards;
    TicLines classes, templates; /* zero-shot tasks */
    uint64_t digest;             /* of the shards' names and sizes and of the side files' text */
} TicEvalSet;

/* TIC_END, with the places looked at as the message, when there is no such folder or it holds no shards. TIC_USER when a side file is missing,
 * empty or contradicts the task (num_classes) or the folder (nshards.txt). */
TicStatus tic_eval_set_open(const char *root, const TicEvalTask *task, TicEvalSet *set);
void tic_eval_set_clear(TicEvalSet *set);

uint64_t tic_lines_hash(const TicLines *lines, uint64_t seed);
/* Reads classnames.txt and the templates of a folder; the classes must be `wanted` many where that is not 0. */
TicStatus tic_classes_read(const char *folder, int64_t wanted, TicLines *classes, TicLines *templates);
/* Appends the keys of all TiC tasks that `root` holds data for, retrieval first, years in order. */
TicStatus tic_eval_discover(const char *root, TicTaskList *list);
#endif
