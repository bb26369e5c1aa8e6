/* fuzz_front.c -- any bytes are a source: the parser returns, with errors or with a tree; what it accepts, the formatter
 * keeps, and formatting twice is formatting once. What it accepts is also checked as a program, and a graph that comes out
 * of that is valid. */
#include "driver/compile.h"
#include "front/format.h"
#include "front/parse.h"
#include "front/program.h"
#include "ir/graph.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LARGEST = 64 << 10 };

static const char *tree_of(Diag *d, int source, Arena *a)
{
    Text t = { .arena = a };
    tree_print(parse_file(a, d, source), &t);
    return text_data(&t);
}

static const char *module(void *ctx, const char *name, const char **path)
{
    (void)ctx;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++) {
        if (!strcmp(m->name, name)) {
            *path = m->name;
            return m->text;
        }
    }
    return NULL;
}

static void check(Arena *a, Diag *d, int source)
{
    Program p;
    Text why = { .arena = a };
    if (sema_program(&p, a, d, source, NULL, 0, module, NULL) && p.graph && !graph_verify(p.graph, "fuzz", &why)) {
        fputs(text_data(&why), stderr);
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Arena a = { 0 };
    Sources sources = { .arena = &a };
    Diag d = { .sources = &sources };
    Text messages = { .arena = &a }, once = { .arena = &a }, twice = { .arena = &a };
    int source = source_add(&sources, "fuzz", (const char *)data, size < LARGEST ? size : LARGEST);
    const char *tree = tree_of(&d, source, &a);
    if (!d.errors) {
        if (!fmt_source(&a, &d, source, &once))
            abort();
        int again = source_add(&sources, "formatted", text_data(&once), once.n);
        if (strcmp(tree, tree_of(&d, again, &a)) || d.errors || !fmt_source(&a, &d, again, &twice)
            || strcmp(text_data(&once), text_data(&twice)))
            abort();
        check(&a, &d, source);
    }
    parse_define(&a, &d, source);
    diag_text(&d, &messages);
    arena_free(&a);
    return 0;
}
