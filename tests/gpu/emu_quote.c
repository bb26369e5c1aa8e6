/* emu_quote.c -- what emu_lint.c has counted, by lines of the kernels' texts: addr2line says which line an instruction is of,
 * and the text lies in the kernel's object (emu_source). Words of the prelude count for the line that uses them. */
#define _GNU_SOURCE
#include "emu.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 4096, LINE = 200 };
typedef struct Quote { const void *pc; char text[LINE]; } Quote;
static Quote quote[MOST];
static int n_quote;

void emu_quote_forget(void) { n_quote = 0; }

/* A line of the kernel's own text, which follows #line 1 where a program has put its prelude before it. */
static void copy_line(const char *source, int number, char *out)
{
    const char *own = strstr(source, "\n#line 1 "), *at = own ? strchr(own + 1, '\n') + 1 : source;
    while (at && number > 1) {
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
        number--;
    }
    while (at && (*at == ' ' || *at == '\t'))
        at++;
    snprintf(out, LINE, "%.*s", at ? (int)strcspn(at, "\n") : 1, at ? at : "?");
    for (char *s = out; *s; s++)
        *s = *s == '\t' ? ' ' : *s;
}

/* addr2line -i: the line and, below it, those that it was inlined into; a line of zero addresses ends each answer. */
static void ask(void *object, const EmuLint *site, int n)
{
    const char *source = dlsym(object, "emu_source");
    Dl_info where;
    char *command = NULL;
    size_t size;
    FILE *f = open_memstream(&command, &size);
    if (!source || !dladdr(source, &where) || !f)
        return;
    fprintf(f, "addr2line -a -i -e /proc/%d%s", (int)getpid(), where.dli_fname + strlen("/proc/self"));
    for (int i = 0; i < n; i++)                          /* the call, not what it returns to */
        fprintf(f, " %zx", (size_t)((const char *)site[i].pc - (const char *)where.dli_fbase) - 1);
    fclose(f);
    FILE *answer = popen(command, "r");
    char line[512];
    int i = -1;
    bool found = false;
    while (answer && fgets(line, sizeof line, answer)) {
        if (!strncmp(line, "0x", 2)) {
            i++;
            found = false;
            continue;
        }
        char *colon = strrchr(line, ':'), *file = strrchr(line, '/');
        file = file ? file + 1 : line;
        if (found || i < 0 || i >= n || !colon || n_quote == MOST)
            continue;
        *colon = 0;
        if (!strcmp(file, "emu_kernel.h"))
            continue;
        found = true;
        quote[n_quote].pc = site[i].pc;
        copy_line(source, atoi(colon + 1), quote[n_quote++].text);
    }
    if (answer)
        pclose(answer);
    free(command);
}

static const char *find(const void *pc)
{
    for (int i = 0; i < n_quote; i++)
        if (quote[i].pc == pc)
            return quote[i].text;
    return NULL;
}

void emu_quote(void *object, const char *kernel, const char *path)
{
    static EmuLint site[MOST], unknown[MOST];
    int n = emu_lint_take(site, MOST), n_unknown = 0;
    for (int i = 0; i < n; i++)
        if (!find(site[i].pc))
            unknown[n_unknown++] = site[i];
    if (n_unknown)
        ask(object, unknown, n_unknown);
    FILE *f = fopen(path, "a");
    for (int i = 0; f && i < n; i++) {
        const EmuLint *s = &site[i];
        const char *text = find(s->pc);
        fprintf(f, "%s\t%s\t%u\t%llu\t%llu\t%s\t%s\n", s->shared ? "shared" : "global", s->write ? "write" : "read", s->bytes, s->least,
                s->taken, kernel, text ? text : "?");
    }
    if (f)
        fclose(f);
}
