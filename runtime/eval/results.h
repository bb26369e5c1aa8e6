/* results.h -- eval_results.jsonl: one JSON object a line, one line for each checkpoint and task. */
#ifndef TIC_EVAL_RESULTS_H
#define TIC_EVAL_RESULTS_H
#include "base.h"

/* Puts `line` (an object with the texts "key" and "checkpoint", no newline) into the file at `path`: in the place of the
 * line that has the same two, else at the end. What else the file holds stays, but for a last line that a kill tore.
 * The file is replaced as a whole, so evaluating twice, or being killed in between, leaves the bytes of doing it once; several
 * processes may put their lines into it at the same time.
 * TIC_IO when the system refuses: the file is then as it was. TIC_BUG for a line without the two texts. */
TicStatus tic_results_put(const char *path, const char *line);

/* *line: the line of this task, checkpoint and data, NULL when there is none (also when there is no file). Caller frees. */
TicStatus tic_results_find(const char *path, const char *key, const char *checkpoint, const char *data, char **line);
#endif
