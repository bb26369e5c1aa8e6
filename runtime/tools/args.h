/* args.h -- command-line flags from a table: `--name VALUE`, `--name=VALUE`, `--switch`. */
#ifndef TIC_TOOLS_ARGS_H
#define TIC_TOOLS_ARGS_H
#include "base.h"
#include <stdio.h>

typedef struct {
    const char *name;        /* without the dashes */
    const char *value;       /* what the help calls its value; NULL: a switch */
    const char *help;
} Flag;

/* values[i]: text of flag i, "" for a switch that is on, NULL when absent; points into argv. A flag given
 * twice takes the last. An unknown flag or a stray word is TIC_USER, with the nearest known name.
 * *word: the one word without a flag, NULL when absent; `word` NULL: the command takes none. */
TicStatus args_parse(const Flag *flags, int n_flags, int argc, char **argv, const char **values, const char **word);
void args_help(FILE *to, const Flag *flags, int n_flags);
/* Whole text as a decimal number within [low, high]; `what` names it in the message. */
TicStatus args_number(const char *what, const char *text, int64_t low, int64_t high, int64_t *out);
/* A command's last act: flushes standard output, prints the error if there is one; the exit code. */
int args_exit(const char *command, TicStatus status);
/* The entry of `names` nearest to `word`, or NULL when none is near. */
const char *args_nearest(const char *word, const char *const *names, int n);
#endif
