/* pipeline.c -- the passes in the order in which they run.
 *
 * The table is the whole truth: a row runs, the verifier looks at what it left, the next row runs. The simplifying
 * rows repeat until a round changes nothing, six rounds at most. */
#include "pass/kernel.h"
#include "pass/pass.h"

typedef struct {
    const char *name;
    int (*run)(Graph *g);
    bool optional;                                             /* only with PassOptions.narrow */
    const char *why;                                           /* why here */
} Pass;

static const Pass forward[] = {
    { "views",  pass_views,  false, "copies that are only read through would each get a gradient" },
    { "dce",    pass_dce,    false, "what views left without readers needs no gradient" },
    { "narrow", pass_narrow, true,  "before the gradient: what is not computed has none" },
};

static const Pass simplify[] = {
    { "views",   pass_views,   false, "first: the others then see sources, not copies" },
    { "dce",     pass_dce,     false, "copies without readers must not count as readers in sink" },
    { "sink",    pass_sink,    false, "copies that are left are real: move them into their producers" },
    { "cse",     pass_cse,     false, "after views: equal Comps now read the same tensors" },
    { "known",   pass_known,   false, "after cse: one tensor per value to point to" },
    { "reassoc", pass_reassoc, false, "after known: the gradient's products name saved tensors" },
    { "dce",     pass_dce,     false, "what the last three made superfluous" },
};

static const Pass precision[] = {
    { "sides",     pass_sides,     false, "what an operand is shows when a contraction is constant * load * load" },
    { "cse",       pass_cse,       false, "sides makes operands, some of them twice" },
    { "dce",       pass_dce,       false, "and what they replace goes" },
    { "precision", pass_precision, false, "last but one: no other pass has to know what may be rounded" },
    { "derivative", pass_derivative, false, "of what precision found to be stored" },
};

static bool run_all(Graph *g, const Pass *pass, int n, const PassOptions *o, int round, int *changes, Text *log, Text *why)
{
    for (int i = 0; i < n; i++) {
        if (pass[i].optional && !(o && o->narrow))
            continue;
        int before = g->n_comp, changed = pass[i].run(g);
        *changes += changed;
        if (log)
            text_printf(log, "%d %-8s %5d changes, %5d -> %5d comps\n", round, pass[i].name, changed, before, g->n_comp);
        if (!graph_verify(g, pass[i].name, why))
            return false;
    }
    return true;
}

bool passes_forward(Graph *g, const PassOptions *o, Text *log, Text *why)
{
    int changes = 0;
    graph_toposort(g);
    return run_all(g, forward, (int)LEN(forward), o, 0, &changes, log, why);
}

bool passes_simplify(Graph *g, const PassOptions *o, Text *log, Text *why)
{
    graph_toposort(g);
    for (int round = 1; round <= 6; round++) {
        int changes = 0;
        if (!run_all(g, simplify, (int)LEN(simplify), o, round, &changes, log, why))
            return false;
        if (!changes)
            break;
    }
    return true;
}

bool passes_precision(Graph *g, Text *why)
{
    int changes = 0;
    return run_all(g, precision, (int)LEN(precision), NULL, 0, &changes, NULL, why);
}
