/* flags.c -- see flags.h. */
#include "train/flags.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int distance(const char *a, const char *b)        /* Levenshtein, words of at most 31 letters */
{
    int row[33], n = (int)strlen(b);
    if (n > 31 || strlen(a) > 31)
        return 99;
    for (int j = 0; j <= n; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int above = row[j], best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[n];
}

const char *tic_closest(const char *word, const char *const *list, int n)
{
    const char *best = NULL;
    int least = strlen(word) < 5 ? 2 : 3;
    for (int i = 0; i < n; i++) {
        int d = distance(word, list[i]);
        if (d < least) {
            least = d;
            best = list[i];
        }
    }
    return best;
}

static TicStatus unknown(const TicFlag *flag, int n, const char *name)
{
    const char **names = tic_alloc((size_t)(n + 1) * sizeof *names);
    for (int i = 0; i < n; i++)
        names[i] = flag[i].name;
    const char *near = tic_closest(name, names, n);
    free(names);
    return near ? tic_fail(TIC_USER, "%s: no such flag; did you mean `%s`?", name, near)
                : tic_fail(TIC_USER, "%s: no such flag; --help lists them", name);
}

static TicStatus set(const TicFlag *f, const char *value)
{
    if (f->kind == TIC_FLAG_TEXT && !*value)
        return tic_fail(TIC_USER, "%s: found nothing, wanted %s", f->name, f->value);
    if (f->kind == TIC_FLAG_TEXT) {
        *(const char **)f->into = value;
        return TIC_OK;
    }
    char *end;
    errno = 0;
    long long v = strtoll(value, &end, 10);
    if (end == value || *end || errno)
        return tic_fail(TIC_USER, "%s: found `%s`, wanted a whole number", f->name, value);
    if (v < f->min || v > f->max)
        return tic_fail(TIC_USER, "%s: found %lld, wanted %lld to %lld", f->name, v, (long long)f->min, (long long)f->max);
    *(int64_t *)f->into = v;
    return TIC_OK;
}

TicStatus tic_flags_parse(const TicFlag *flag, int n, int argc, char **argv, const char **rest, int *n_rest)
{
    *n_rest = 0;
    for (int i = 0; i < argc; i++) {
        if (argv[i][0] != '-' || !argv[i][1]) {
            rest[(*n_rest)++] = argv[i];
            continue;
        }
        const char *eq = strchr(argv[i], '=');
        char name[64];
        snprintf(name, sizeof name, "%.*s", (int)(eq ? eq - argv[i] : (long)strlen(argv[i])), argv[i]);
        const TicFlag *f = NULL;
        for (int k = 0; k < n && !f; k++)
            if (!strcmp(flag[k].name, name))
                f = &flag[k];
        if (!f)
            return unknown(flag, n, name);
        if (f->kind == TIC_FLAG_BOOL) {
            if (eq)
                return tic_fail(TIC_USER, "%s: takes no value", f->name);
            *(bool *)f->into = true;
            continue;
        }
        if (!eq && i + 1 == argc)
            return tic_fail(TIC_USER, "%s: a value is missing after it", f->name);
        TRY(set(f, eq ? eq + 1 : argv[++i]));
    }
    return TIC_OK;
}

void tic_flags_help(const TicFlag *flag, int n, FILE *out)
{
    for (int i = 0; i < n; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", flag[i].name, flag[i].value ? flag[i].value : "");
        fprintf(out, "  %-20s %s\n", left, flag[i].help);
    }
}
