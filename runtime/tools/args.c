/* args.c -- see args.h. */
#include "args.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_WORD = 40 };

/* Edits (insert, drop, change one letter) that turn a into b; MAX_WORD for words beyond that length. */
static int edits(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    int row[MAX_WORD + 1];
    if (n > MAX_WORD || m > MAX_WORD)
        return MAX_WORD;
    for (size_t j = 0; j <= m; j++)
        row[j] = (int)j;
    for (size_t i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = (int)i;
        for (size_t j = 1; j <= m; j++) {
            int best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[m];
}

const char *args_nearest(const char *word, const char *const *names, int n)
{
    const char *best = NULL;
    int least = 1 + (int)strlen(word) / 3;
    for (int i = 0; i < n; i++) {
        int d = edits(word, names[i]);
        if (d <= least && (!best || d < least)) {
            best = names[i];
            least = d;
        }
    }
    return best;
}

static TicStatus unknown_flag(const char *word, const Flag *flags, int n_flags)
{
    const char *names[64];
    char bare[MAX_WORD + 1];
    int n = 0;
    for (; n < n_flags && n < 64; n++)
        names[n] = flags[n].name;
    const char *text = word + strspn(word, "-");
    snprintf(bare, sizeof bare, "%.*s", (int)strcspn(text, "="), text);
    const char *near = args_nearest(bare, names, n);
    if (near)
        return tic_fail(TIC_USER, "unknown flag '%s'; did you mean --%s?", word, near);
    return tic_fail(TIC_USER, "unknown flag '%s'; --help lists the flags", word);
}

TicStatus args_parse(const Flag *flags, int n_flags, int argc, char **argv, const char **values,
                     const char **free_word)
{
    if (free_word)
        *free_word = NULL;
    for (int i = 0; i < n_flags; i++)
        values[i] = NULL;
    for (int k = 0; k < argc; k++) {
        const char *word = argv[k];
        int i = 0;
        if (word[0] != '-' && free_word && !*free_word) {
            *free_word = word;
            continue;
        }
        if (word[0] != '-')
            return tic_fail(TIC_USER, "'%s': a word without a flag; --help lists the flags", word);
        size_t length = strcspn(word, "=");
        while (i < n_flags && (strncmp(word, "--", 2) || strlen(flags[i].name) != length - 2
                               || strncmp(word + 2, flags[i].name, length - 2)))
            i++;
        if (i == n_flags)
            return unknown_flag(word, flags, n_flags);
        bool has_value = word[length] == '=';
        if (!flags[i].value && has_value)
            return tic_fail(TIC_USER, "--%s takes no value", flags[i].name);
        if (!flags[i].value)
            values[i] = "";
        else if (has_value)
            values[i] = word + length + 1;
        else if (k + 1 < argc)
            values[i] = argv[++k];
        else
            return tic_fail(TIC_USER, "--%s: its value %s is missing", flags[i].name, flags[i].value);
    }
    return TIC_OK;
}

void args_help(FILE *to, const Flag *flags, int n_flags)
{
    for (int i = 0; i < n_flags; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s%s%s", flags[i].name, flags[i].value ? " " : "",
                 flags[i].value ? flags[i].value : "");
        fprintf(to, "  %-24s %s\n", left, flags[i].help);
    }
}

TicStatus args_number(const char *what, const char *text, int64_t low, int64_t high, int64_t *out)
{
    char *end;
    errno = 0;
    long long v = strtoll(text, &end, 10);
    bool digits = text[0] == '-' ? text[1] >= '0' && text[1] <= '9' : text[0] >= '0' && text[0] <= '9';
    if (!digits || *end || errno)
        return tic_fail(TIC_USER, "%s: '%s' is not a whole number", what, text);
    if (v < low || v > high)
        return tic_fail(TIC_USER, "%s: %lld is outside %lld..%lld", what, v, (long long)low, (long long)high);
    *out = v;
    return TIC_OK;
}

int args_exit(const char *command, TicStatus status)
{
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = tic_fail(TIC_IO, "standard output: cannot write: %s", strerror(errno));
    if (status)
        fprintf(stderr, "%s: error: %s\n", command, tic_error());
    return status == TIC_OK ? 0 : status == TIC_BUG ? TIC_BUG : TIC_USER;
}
