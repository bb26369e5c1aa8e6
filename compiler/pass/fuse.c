/* fuse.c -- from a simplified graph to kernels, step by step.
 *
 *   square     what has two batch axes is computed where it is read, if that costs nothing      (square.c)
 *   sides      every contraction becomes constant * load * load          (sides.c)
 *   scalars    numbers made from numbers are computed where they are read       (scalars.c)
 *   whole      pieces that only copy or fill are chosen between where they are read     (whole.c)
 *   updates    every update's value becomes a map                        (inplace.c)
 *   scores     attention without its scores in memory: kernels that are there before all others    (scores.c)
 *   greedy     every other Comp finds its kernel                         (greedy.c, join.c)
 *   storage    values are written over their targets; what cannot be is copied, and the last two steps are repeated;
 *              temporaries with two batch axes are written over others  (inplace.c)
 *   finish     order, aligned members, reads and writes                  (finish.c)
 *   sets       maps of one form become one kernel                        (sets.c)
 *   signature  equal kernels are recognised, tensors get their order     (signature.c) */
#include "pass/fuse.h"

static bool fuse_graph(Graph *g, const FuseOptions *o, bool lean, Arena *a, Fused *out, Text *why)
{
    *out = (Fused){ .graph = g };
    graph_toposort(g);
    pass_square(g);
    if (!graph_verify(g, "square", why))
        return false;
    pass_sides(g);
    pass_cse(g);
    pass_scalars(g);
    pass_dce(g);
    if (!graph_verify(g, "sides", why))
        return false;
    pass_whole(g);
    if (!graph_verify(g, "whole", why) || !fuse_check_updates(g, why) || !graph_verify(g, "updates", why))
        return false;
    ScoreSets sets = pass_scores(g, a, o);
    if (!graph_verify(g, "scores", why))
        return false;
    pass_meet(g, a, o, &sets);
    if (!graph_verify(g, "meet", why))
        return false;
    int graph_updates = g->n_update, n_first = g->n_tensor;
    for (int round = 0; round <= graph_updates; round++) {
        Arena scratch = { 0 };
        Fuser f;
        bool *alone = NEWN(&scratch, bool, g->n_tensor);
        for (int t = n_first; t < g->n_tensor; t++)            /* copies made by earlier rounds */
            alone[t] = true;
        fuser_init(&f, g, &scratch, alone);
        fuse_scores(&f, &sets);
        fuse_greedy(&f);
        out->storage = NEWN(a, int, g->n_tensor);
        int bad = fuse_storage(&f, out->storage), expected = 0;
        if (bad < 0) {
            for (int i = 0; i < f.build.n; i++)
                expected += !f.build.at[i]->dead;
            fuse_finish(&f, a, out);
        }
        arena_free(&scratch);
        if (bad < 0 && out->n_kernel != expected && sets.n) {  /* two SCORE kernels that need each other: do without them */
            sets.n = 0;
            round--;
            continue;
        }
        if (bad < 0 && out->n_kernel != expected) {
            text_printf(why, "after fusing: %d of %d kernels depend on each other", expected - out->n_kernel, expected);
            return false;
        }
        if (bad < 0) {
            fuse_sets(out, lean, a);
            fuse_signatures(out);
            return true;
        }
        fuse_copy_value(g, bad);
        graph_toposort(g);
    }
    text_printf(why, "after fusing: an update's copy cannot be written in place");
    return false;
}

bool fuse(Graph *g, const FuseOptions *o, Arena *a, Fused *out, Text *why) { return fuse_graph(g, o, false, a, out, why); }
bool fuse_lean(Graph *g, const FuseOptions *o, Arena *a, Fused *out, Text *why) { return fuse_graph(g, o, true, a, out, why); }
