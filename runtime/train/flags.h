/* flags.h -- command-line flags as a table: `--name value` or `--name=value`, checked, with "did you mean". */
#ifndef TIC_TRAIN_FLAGS_H
#define TIC_TRAIN_FLAGS_H
#include "base.h"
#include <stdio.h>

typedef enum { TIC_FLAG_BOOL, TIC_FLAG_INT, TIC_FLAG_TEXT } TicFlagKind;
typedef struct {
    const char *name;        /* "--batch" */
    TicFlagKind kind;
    void *into;              /* bool *, int64_t *, const char ** */
    int64_t min, max;        /* INT: allowed values */
    const char *value;       /* how help calls the value: "N", "DIR" */
    const char *help;
} TicFlag;

/* Fills what the flags point to. Words that are no flags go to rest (argc entries of room), *n_rest of them.
 * TIC_USER with a sentence on an unknown flag, a missing or bad value. */
TicStatus tic_flags_parse(const TicFlag *flag, int n, int argc, char **argv, const char **rest, int *n_rest);
void tic_flags_help(const TicFlag *flag, int n, FILE *out);
/* The entry of a list that `word` was probably meant to be, or NULL. */
const char *tic_closest(const char *word, const char *const *list, int n);
#endif
