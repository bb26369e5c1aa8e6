/* format.h -- `ticc fmt`: one way to write a program.
 *
 * Four blanks a level, one statement a line, at most 120 columns, `{` at the end of the header's line, one blank line
 * before functions and blocks at the top level, at most one elsewhere; operators spaced as in the books; only the
 * parentheses that are needed; `=` and `~` of neighbouring entries and parameters aligned; every comment kept. What
 * the author chose stays where both ways are good: short blocks on one line, the value of a function below its
 * header, lines that begin with `else` or with an operator.
 *
 * Formatting what was formatted changes nothing, and the tree is that of the original. */
#ifndef TICC_FORMAT_H
#define TICC_FORMAT_H
#include "front/tree.h"

/* Appends the formatted text of a source; false, and nothing appended, when it has syntax errors (they are in `d`). */
bool fmt_source(Arena *arena, Diag *d, int source_id, Text *out);
#endif
