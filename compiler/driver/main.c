/* main.c -- the command line of ticc. */
#include "base.h"
#include "driver/compile.h"
#include "front/format.h"
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char usage[] =
    "usage: ticc FILE.tic [-o PROGRAM] [-D name=value]... [--target cpu[:NAME],cuda[:sm_XX,...]]\n"
    "            [--memory SIZE] [--emit=STAGE] [--check] [--timings]\n"
    "       ticc --tune FILE.tic [--batch N] [--rounds N] [--table FILE]\n"
    "       ticc fmt FILE.tic...\n"
    "\n"
    "Compiles a model to a program that trains it; `./PROGRAM --help` says what the program can do.\n"
    "\n"
    "  -o PROGRAM        name of the executable (default: the file's name without .tic); NAME.so makes a library (runtime/clip.h)\n"
    "  -D name=value     overrides a constant or an entry of a block: -D train.batch=16\n"
    "  --target cpu:NAME code for this processor: native (default), x86-64-v3, x86-64-v4, znver4, ...\n"
    "  --target cuda:sm_80,sm_90a   also code for NVIDIA GPUs: kernels as CUDA C, and as machine code of these architectures\n"
    "                    (none given: compiled where the program runs, once)\n"
    "  --check           only checks the file\n"
    "  --emit=STAGE      prints a stage and stops: ast, graph, grad, fused, plan, params, schedule, llvm, asm,\n"
    "                    cuda, ptx, resources (registers and spills of every GPU kernel)\n"
    "  --narrow=on|off   computes only what is read after the last attention (default on)\n"
    "  --memory SIZE     a step may need so much (2G, 800M; 1G is 1000M): some of it is computed twice for that; says what\n"
    "  --table FILE      what was measured of templates for GPUs: read before what is compiled in\n"
    "  --tune            on a machine with a GPU: times every template that can compute a contraction or an attention of the model,\n"
    "                    and writes the fastest into the table (default: the file's name with .table); makes no program\n"
    "  --batch N         with --tune: at this batch (default: the train block's)\n"
    "  --rounds N        with --tune: times each so often, in turns, for a median (default 9)\n"
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

/* Writes beside the file and renames: a full disk leaves the old text. A link goes on naming the file, and its permissions stay. */
static bool replace_file(const char *path, const char *text, size_t n)
{
    struct stat was;
    char temp[PATH_MAX + 8], *real = realpath(path, NULL);
    FILE *f = NULL;
    bool ok = false;
    if (real && !stat(real, &was)) {
        snprintf(temp, sizeof temp, "%s.new", real);
        f = fopen(temp, "wb");
    }
    if (f) {
        ok = fwrite(text, 1, n, f) == n && !fchmod(fileno(f), was.st_mode & 07777);
        ok &= fclose(f) == 0;
        ok = ok && rename(temp, real) == 0;
    }
    if (f && !ok) {
        int why = errno;
        remove(temp);
        errno = why;
    }
    free(real);
    return ok;
}

static int format_file(const char *path)
{
    Arena arena = { 0 };
    Sources sources = { .arena = &arena };
    Diag diag = { .sources = &sources };
    Text out = { .arena = &arena };
    int code = 0, file = diag_load(&diag, path);
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

static const char fmt_usage[] =
    "usage: ticc fmt FILE.tic...\n"
    "\n"
    "Rewrites each file in the one form; what it means stays the same. A file with a mistake is not touched.\n";

static int format_files(int argc, char **argv)
{
    int code = argc ? 0 : bad("fmt", "no file given");
    for (int i = 0; i < argc; i++) {
        if (!strcmp(argv[i], "--help") || !strcmp(argv[i], "-h"))
            return fputs(fmt_usage, stdout), 0;
        if (argv[i][0] == '-')
            return bad(argv[i], "no such flag; `fmt` takes files only");
    }
    for (int i = 0; i < argc; i++)
        code |= format_file(argv[i]);
    return code;
}

/* ---- flags */

enum { F_OUTPUT, F_DEFINE, F_TARGET, F_EMIT, F_NARROW, F_MEMORY, F_TABLE, F_BATCH, F_ROUNDS, F_CHECK, F_TUNE, F_TIMINGS, F_HELP, F_VERSION, N_FLAGS, WITH_VALUE = F_CHECK };
static const char *const flags[] = { "-o", "-D", "--target", "--emit", "--narrow", "--memory", "--table", "--batch", "--rounds", "--check", "--tune",
                                     "--timings", "--help", "--version", NULL };
static const char *const stages[] = { "ast", "graph", "grad", "fused", "plan", "params", "schedule", "llvm", "asm", "cuda", "ptx",
                                      "resources", NULL };

static int unknown(const char *arg, const char *what, const char *word, const char *const *list)
{
    char text[400];
    const char *near = diag_closest(word, list);
    int n = snprintf(text, sizeof text, "no such %s", what);
    if (near)
        n += snprintf(text + n, sizeof text - (size_t)n, "; did you mean `%s`?", near);
    for (int i = 0; !near && list == stages && list[i]; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s %s", i ? "," : "; stages are", list[i]);
    return bad(arg, text);
}

/* Which flag an argument is; *value: what follows its `=`, or what stands in the next argument. N_FLAGS after a message. */
static int flag_of(int argc, char **argv, int *i, const char **value)
{
    const char *a = argv[*i];
    int k = 0;
    *value = NULL;
    while (k < N_FLAGS && strcmp(a, flags[k]) && !(k >= F_TARGET && (*value = after(a, flags[k]))))
        k++;
    if (k == N_FLAGS && !strcmp(a, "-h"))
        k = F_HELP;
    if (k == N_FLAGS)
        return unknown(a, "flag", a, flags), N_FLAGS;
    if (k >= WITH_VALUE && *value)
        return bad(a, "this flag takes no value"), N_FLAGS;
    if (k < WITH_VALUE && !*value && *i + 1 == argc)
        return bad(a, "a value is missing after it"), N_FLAGS;
    if (k < WITH_VALUE && !*value)
        *value = argv[++*i];
    return k;
}

/* "cpu:NAME,cuda:sm_80,sm_90a" into its two parts. Code for the CPU is always there. */
static int split_target(Options *o, const char *whole)
{
    static char text[512], gpu[512];
    static const char wrong[] = "no such target; wanted `cpu`, `cpu:NAME`, `cuda` or `cuda:sm_80,sm_90a`, or one of each with a comma";
    char *save = NULL;
    bool cuda = false;
    *gpu = 0;
    if (strlen(whole) >= sizeof text || !*whole)
        return bad(whole, wrong);
    strcpy(text, whole);
    o->target = "native";
    for (char *w = strtok_r(text, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        if (!strncmp(w, "cpu", 3) && (!w[3] || (w[3] == ':' && w[4]))) {
            o->target = w[3] ? w + 4 : "native";
        } else if (!strcmp(w, "cuda")) {
            cuda = true;
        } else if (!strncmp(w, "cuda:", 5) || cuda) {
            strcat(strcat(gpu, *gpu ? "," : ""), cuda ? w : w + 5);
            cuda = true;
        } else {
            return bad(whole, wrong);
        }
    }
    o->gpu = cuda ? gpu : NULL;
    return 0;
}

/* "2G", "1.5G", "800M", "64k" or bytes. */
static int set_memory(Options *o, const char *text)
{
    char *end;
    double x = strtod(text, &end);
    double unit = *end == 'G' ? 1e9 : *end == 'M' ? 1e6 : *end == 'k' ? 1e3 : *end ? 0 : 1;
    if (end == text || (*end && end[1]) || !(x * unit >= 1 && x * unit <= 1e18))
        return bad("--memory", "wants a size, as 2G or 800M");
    o->memory = (int64_t)(x * unit);
    return 0;
}

static int set_count(const char *flag, const char *text, int64_t most, int64_t *out)
{
    char *end;
    char wanted[80];
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (*text >= '0' && *text <= '9' && !*end && !errno && *out >= 1 && *out <= most)
        return 0;
    snprintf(wanted, sizeof wanted, "wants a number from 1 to %lld", (long long)most);
    return bad(flag, wanted);
}

static int set_flag(Options *o, Define *define, int k, char *v)
{
    enum { MOST_BATCH = 1 << 20, MOST_ROUNDS = 1000 };
    int stage = 0, code;
    int64_t n = 0;
    char *eq, subject[128];
    switch (k) {
    case F_OUTPUT:
        o->output = v;
        return *v ? 0 : bad("-o", "the name of the program is empty");
    case F_DEFINE:
        eq = strchr(v, '=');
        if (!eq || eq == v || !eq[1])
            return bad(v, "-D wants name=value");
        *eq = 0;
        define[o->n_define++] = (Define){ v, eq + 1 };
        return 0;
    case F_TARGET:
        return split_target(o, v);
    case F_EMIT:
        while (stages[stage] && strcmp(stages[stage], v))
            stage++;
        o->emit = v;
        snprintf(subject, sizeof subject, "--emit=%s", v);
        return stages[stage] ? 0 : unknown(subject, "stage", v, stages);
    case F_NARROW:
        o->narrow = !strcmp(v, "on");
        return o->narrow || !strcmp(v, "off") ? 0 : bad("--narrow", "wants `on` or `off`");
    case F_MEMORY:
        return set_memory(o, v);
    case F_TABLE:
        o->table = v;
        return *v ? 0 : bad("--table", "the name of the file is empty");
    case F_BATCH:
        return set_count("--batch", v, MOST_BATCH, &o->tune_batch);
    case F_ROUNDS:
        code = set_count("--rounds", v, MOST_ROUNDS, &n);
        o->tune_rounds = (int)n;
        return code;
    case F_CHECK:
        o->check = true;
        return 0;
    case F_TUNE:
        o->tune = true;
        return 0;
    default:
        o->timings = true;
        return 0;
    }
}

/* define: room for argc definitions */
static int run(int argc, char **argv, Define *define)
{
    Options o = { .narrow = true, .define = define };
    if (argc > 1 && !strcmp(argv[1], "fmt"))
        return format_files(argc - 2, argv + 2);
    for (int i = 1; i < argc; i++) {
        const char *value;
        if (argv[i][0] != '-' || !argv[i][1]) {
            if (o.input)
                return bad(argv[i], "one file at a time");
            o.input = argv[i];
            continue;
        }
        int k = flag_of(argc, argv, &i, &value);
        if (k == N_FLAGS)
            return 1;
        if (k == F_HELP)
            return fputs(usage, stdout), 0;
        if (k == F_VERSION)
            return puts("ticc " TICC_VERSION), 0;
        if (set_flag(&o, define, k, (char *)value))
            return 1;
    }
    if (!o.input)
        return fputs(usage, stderr), 1;
    if (!o.tune && (o.tune_batch || o.tune_rounds))
        return bad(o.tune_batch ? "--batch" : "--rounds", "goes with --tune; a program has a --batch of its own, and -D train.batch=N is its default");
    if (o.tune && (o.output || o.emit || o.check))
        return bad("--tune", "measures and makes nothing else; leave -o, --emit and --check out");
    if (o.emit && !o.gpu && (!strcmp(o.emit, "cuda") || !strcmp(o.emit, "ptx") || !strcmp(o.emit, "resources")))
        o.gpu = "";
    if (o.tune && !o.gpu)
        o.gpu = "";
    if (o.table && !o.gpu)
        return bad("--table", "says what GPUs were measured to do best; it goes with --target cuda or --tune");
    return compile(&o);
}

int main(int argc, char **argv)
{
    Define *define = calloc((size_t)argc + 1, sizeof *define);
    if (!define)
        return 70;
    tic_standard_files();
    signal(SIGXFSZ, SIG_IGN);        /* a file that may not grow is an error like a full disk */
    int code = run(argc, argv, define);
    free(define);
    return code;
}
