/* graph_test.h -- what the tests of the graph share: graphs from text, values from a fixed stream. */
#ifndef GRAPH_TEST_H
#define GRAPH_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>
#include "ir/graph.h"

static inline Graph *graph_from(Arena *a, const char *text)
{
    char error[200] = "";
    Graph *g = graph_parse(a, text, error, sizeof error);
    if (!g)
        fail_msg("%s in\n%s", error, text);
    return g;
}

static inline const char *text_of(Arena *a, const Graph *g)
{
    Text t = { .arena = a };
    graph_print(g, &t);
    return text_data(&t);
}

static inline void verified(Arena *a, Graph *g)
{
    Text why = { .arena = a };
    if (!graph_verify(g, NULL, &why))
        fail_msg("%s\n%s", text_data(&why), text_of(a, g));
}

static inline double sample(uint64_t *state)                   /* [0, 1) */
{
    uint64_t x = (*state += 0x9E3779B97F4A7C15u);
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return (double)((x ^ (x >> 31)) >> 11) * 0x1p-53;
}

static inline int find_tensor(const Graph *g, const char *name)
{
    for (int i = 0; i < g->n_tensor; i++)
        if (!strcmp(g->tensor[i].name, name))
            return i;
    return -1;
}

static inline void ran(Arena *a, Graph *g, Env *env)
{
    Text why = { .arena = a };
    if (!interp_run(g, env, a, &why))
        fail_msg("%s", text_data(&why));
}
#endif
