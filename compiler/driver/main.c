/* main.c -- the command line of ticc. */
#include "driver/compile.h"
#include "front/format.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: ticc FILE.tic [-o PROGRAM] [-D name=value]... [--target cpu[:NAME]] [--emit=STAGE] [--check] [--timings]\n"
    "       ticc fmt FILE.tic...\n"
    "\n"
    "Compiles a model to a program that trains it; `./PROGRAM --help` says what the program can do.\n"
    "\n"
    "  -o PROGRAM        name of the executable (default: the file's name without .tic)\n"
    "  -D name=value     overrides a constant or an entry of a block: -D train.batch=16\n"
    "  --target cpu:NAME code for this processor: native (default), x86-64-v3, x86-64-v4, znver4, ...\n"
    "  --check           only checks the file\n"
    "  --emit=STAGE      prints a stage and stops: ast, graph, grad, fused, plan, params, schedule, llvm, asm\n"
    "  --narrow=on|off   computes only what is read after the last attention (default on)\n"
    "  --timings         says how long each stage took\n"
    "  --help, --version\n"
    "\n"
    "Exit code: 0 done, 1 something to mend in the input, 70 a fault of the compiler.\n";

static int bad(const char *subject, const char *what)
{
    fprintf(stderr, "ticc: %s: %s\n", subject, what);
    fprintf(stderr, "      `ticc --help` lists the flags\n");
    return 1;
}

static const char *after(const char *arg, const char *flag)      /* --flag=VALUE: the value, else NULL */
{
    size_t n = strlen(flag);
    return !strncmp(arg, flag, n) && arg[n] == '=' ? arg + n + 1 : NULL;
}

/* Writes beside the file and renames: a full disk leaves the old text. */
static bool replace_file(const char *path, const char *text, size_t n)
{
    char temp[4096];
    if (snprintf(temp, sizeof temp, "%s.new", path) >= (int)sizeof temp)
        return false;
    FILE *f = fopen(temp, "wb");
    bool ok = f && fwrite(text, 1, n, f) == n;
    if (f)
        ok &= fclose(f) == 0;
    ok = ok && rename(temp, path) == 0;
    if (!ok)
        remove(temp);
    return ok;
}

static int format_file(const char *path)
{
    Arena arena = { 0 };
    Sources sources = { .arena = &arena };
    Diag diag = { .sources = &sources };
    Text out = { .arena = &arena };
    int code = 0, file = diag_load(&diag, path, (Span){ 0, 0 });
    if (file < 0 || !fmt_source(&arena, &diag, file, &out)) {
        diag_print(&diag, stderr);
        code = 1;
    } else if (strcmp(text_data(&out), sources.file.at[file].text) && !replace_file(path, text_data(&out), out.n)) {
        fprintf(stderr, "ticc: %s: cannot be written: %s\n", path, strerror(errno));
        code = 1;
    }
    arena_free(&arena);
    return code;
}

static int format_files(int argc, char **argv)
{
    int code = argc ? 0 : bad("fmt", "no file given");
    for (int i = 0; i < argc; i++)
        code |= format_file(argv[i]);
    return code;
}

int main(int argc, char **argv)
{
    static const char *const stages[] = { "ast", "graph", "grad", "fused", "plan", "params", "schedule", "llvm", "asm", NULL };
    static const char *const flags[] = { "-o", "-D", "--target", "--check", "--emit", "--narrow", "--timings", "--help", "--version", NULL };
    Options o = { .narrow = true };
    Define *define = calloc((size_t)argc + 1, sizeof *define);
    if (!define)
        return 70;
    o.define = define;
    if (argc > 1 && !strcmp(argv[1], "fmt"))
        return format_files(argc - 2, argv + 2);
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v;
        if (!strcmp(a, "--help") || !strcmp(a, "-h"))
            return fputs(usage, stdout), 0;
        if (!strcmp(a, "--version"))
            return puts("ticc " TICC_VERSION), 0;
        if (!strcmp(a, "--check")) {
            o.check = true;
        } else if (!strcmp(a, "--timings")) {
            o.timings = true;
        } else if (!strcmp(a, "-o") || !strcmp(a, "-D") || !strcmp(a, "--target")) {
            if (i + 1 == argc)
                return bad(a, "a value is missing after it");
            v = argv[++i];
            if (a[1] == 'o') {
                o.output = v;
            } else if (a[1] == '-') {
                o.target = v;
            } else {
                char *eq = strchr(v, '=');
                if (!eq || eq == v || !eq[1])
                    return bad(v, "-D wants name=value");
                *eq = 0;
                define[o.n_define++] = (Define){ v, eq + 1 };
            }
        } else if ((v = after(a, "--target"))) {
            o.target = v;
        } else if ((v = after(a, "--emit"))) {
            int k = 0;
            while (stages[k] && strcmp(stages[k], v))
                k++;
            if (!stages[k])
                return bad(a, "no such stage; stages are ast, graph, grad, fused, plan, params, schedule, llvm, asm");
            o.emit = v;
        } else if ((v = after(a, "--narrow"))) {
            if (strcmp(v, "on") && strcmp(v, "off"))
                return bad(a, "found neither `on` nor `off`");
            o.narrow = v[1] == 'n';
        } else if (a[0] == '-' && a[1]) {
            const char *near = diag_closest(a, flags);
            char text[200];
            snprintf(text, sizeof text, near ? "no such flag; did you mean `%s`?" : "no such flag", near);
            return bad(a, text);
        } else if (o.input) {
            return bad(a, "one file at a time");
        } else {
            o.input = a;
        }
    }
    if (!o.input)
        return fputs(usage, stderr), 1;
    if (o.target) {
        if (strncmp(o.target, "cpu", 3) || (o.target[3] && o.target[3] != ':'))
            return bad(o.target, "no such target; found no `cpu` or `cpu:NAME`");
        o.target = o.target[3] ? o.target + 4 : "native";
    }
    int code = compile(&o);
    free(define);
    return code;
}
