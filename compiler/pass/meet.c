/* meet.c -- where every pair of samples meets, without a tensor of the batch by the batch.
 *
 * The loss compares every sample of one side with every one of the other, so what is computed for a pair (logits, their
 * gradient) grows with the square of the batch. square.c leaves one such tensor; here, where FuseOptions asks for it, none is
 * left: what was one contraction and its readers becomes SCORE kernels, each of which computes pairs again as it needs
 * them. A group begins with contractions whose rows and columns are both the batch, over a sum that the batch does not
 * lengthen, and takes in
 *
 *     points    maps over all pairs, of scores of the group at that pair and of anything from outside
 *     stats     reductions of such an expression over one of the two sides, to a number for each sample of the other
 *     results   contractions of a score with a tensor from outside over one of the two sides
 *
 * Nobody else may need a score, unless he reads the diagonal, x[i, i]: that is a vector, made by itself from the same
 * operands. A stat or a result belongs to the side that it keeps, and to a level: how many stats and results lie one after
 * another on the longest way to it. Those of a side and a level are one kernel, with copies of their own of the scores; so no
 * member of a kernel reads a stat or a result of it, and the back end may go along the other side in tiles:
 *
 *     level 0   r[i] = logsumexp[j](x[i, j])       of the left side;      c[j] = logsumexp[i](x[i, j])       of the right
 *     level 1   du[i] = sum[j](g[i, j] v[j])       of the left side;      dv[j] = sum[i](g[i, j] u[i])       of the right
 *
 * That is about twice the FLOPs of the products, and memory that grows with the batch alone. */
#include "pass/fuse.h"
#include <string.h>

enum { MOST_TERMS = 4096 };                                    /* of a score's sum: it is computed once a kernel */

typedef enum { OUTSIDE, SCORE, TERMINAL } What;

typedef struct Meet {
    Graph *g;
    Arena *a;
    const FuseOptions *o;
    int n_comp, n_tensor;                                      /* those that were there at the beginning */
    Ints *pieces;                                              /* by tensor: Comps */
    bool *root;
    What *what;                                                /* by Comp */
    int *level;                                                /* by tensor */
    /* Scores, by tensor: a tree of tensors of one group. turned: dimension 0 is the side that is dimension 1 of `up`. */
    int *up;                                                   /* itself: the first of its group; -1: no score */
    bool *turned;
    bool *bad, *done;                                          /* of the first: somebody needs it in memory; there are kernels */
    int *diagonal;                                             /* by tensor: the vector of its diagonal; -1: not yet made */
} Meet;

/* ---- groups */

static int first_of(const Meet *m, int t, bool *turned)
{
    *turned = false;
    while (m->up[t] != t) {
        *turned ^= m->turned[t];
        t = m->up[t];
    }
    return t;
}

static bool is_score(const Meet *m, int t) { return t < m->n_tensor && m->up[t] >= 0; }

static int group_of(const Meet *m, int t)
{
    bool turned;
    return first_of(m, t, &turned);
}

/* The side that dimension d of a score is: 0 or 1. */
static int side_of(const Meet *m, int t, int d)
{
    bool turned;
    first_of(m, t, &turned);
    return d ^ turned;
}

/* Scores x and y are of one group; dimension 0 of y is dimension `turned` of x. */
static void unite(Meet *m, int x, int y, bool turned)
{
    bool of_x, of_y;
    int a = first_of(m, x, &of_x), b = first_of(m, y, &of_y);
    if (a == b) {
        m->bad[a] |= of_x ^ of_y ^ turned;                     /* one of them would be needed both ways round */
        return;
    }
    m->up[b] = a;
    m->turned[b] = of_x ^ of_y ^ turned;
    m->bad[a] |= m->bad[b];
}

/* ---- Comps */

static bool over_pairs(const Comp *c)
{
    return c->n_axes == 2 && c->ext[0] == EXT_BATCH && c->ext[1] == EXT_BATCH;
}

/* Could its result be a score: a plain tensor over all pairs that only Comps read? */
static bool pairs_alone(const Meet *m, const Comp *c)
{
    const Tensor *t = &m->g->tensor[c->out];
    return t->kind == T_TEMP && t->rank == 2 && t->shape[0] == EXT_BATCH && t->shape[1] == EXT_BATCH && dtype_real(t->dtype) && !t->again &&
           !m->root[c->out] && m->pieces[c->out].n == 1 && store_plain(c, 2, NULL);
}

static bool is_product(const Meet *m, const Comp *c)
{
    Sides s;
    if (!pairs_alone(m, c) || m->g->tensor[c->out].dtype != DT_F32 || !comp_sides(m->g, c, &s) || s.batch)
        return false;
    for (int k = 0; k < c->n_axes; k++)
        if (s.k >> k & 1 && c->ext[k] == EXT_BATCH)
            return false;
    return __builtin_popcount(s.m) == 1 && __builtin_popcount(s.n) == 1 && points(c->ext, s.k, 1) <= MOST_TERMS;
}

static bool on_diagonal(const Expr *load)
{
    return aff_plain(load->idx[0]) >= 0 && load->idx[0] == load->idx[1];
}

/* Keeps one side and reduces the other, into a vector or into rows of features. */
static bool is_terminal(const Meet *m, const Comp *c)
{
    Sides s;
    uint32_t batch = 0;
    int rank = m->g->tensor[c->out].rank;
    for (int k = 0; k < c->n_axes; k++)
        batch |= (uint32_t)(c->ext[k] == EXT_BATCH) << k;
    if (__builtin_popcount(batch) != 2 || __builtin_popcount(c->red) != 1 || (c->red & ~batch) || m->pieces[c->out].n != 1 || !store_plain(c, rank, NULL))
        return false;
    if (c->n_axes == 2)
        return rank == 1 && m->g->tensor[c->out].dtype == (c->reducer == RED_ARGMAX ? DT_I32 : DT_F32) && c->reducer != RED_SCATTER;
    if (c->n_axes != 3 || !comp_sides(m->g, c, &s) || s.batch)
        return false;
    return is_score(m, s.a->tensor) != is_score(m, s.b->tensor);
}

/* Any score that c reads at a pair, or NULL. */
static const Expr *pair_load(const Meet *m, const Comp *c)
{
    int n;
    const Expr **load = comp_all_loads(c, m->a, &n);
    for (int i = 0; i < n; i++)
        if (is_score(m, load[i]->tensor) && !on_diagonal(load[i]))
            return load[i];
    return NULL;
}

/* The scores that c reads at pairs become one group. False: they are bad, because it reads them at other pairs too. */
static bool join_groups(Meet *m, const Comp *c)
{
    const Expr *first = pair_load(m, c);
    bool good = true;
    int n;
    const Expr **load = comp_all_loads(c, m->a, &n);
    for (int i = 0; i < n; i++) {
        const Expr *l = load[i];
        if (!is_score(m, l->tensor) || on_diagonal(l))
            continue;
        bool turned = l->idx[0] == first->idx[1];
        good &= aff_plain(l->idx[0]) >= 0 && aff_plain(l->idx[1]) >= 0 && l->idx[!turned] == first->idx[1] && l->idx[turned] == first->idx[0];
        unite(m, first->tensor, l->tensor, turned);
    }
    if (!good)
        m->bad[group_of(m, first->tensor)] = true;
    return good;
}

static void find_groups(Meet *m)
{
    for (int i = 0; i < m->n_comp; i++) {
        const Comp *c = m->g->comp[i];
        const Expr *at = pair_load(m, c);
        bool product = is_product(m, c);
        if (product || (c->reducer == RED_NONE && over_pairs(c) && pairs_alone(m, c) && join_groups(m, c))) {
            m->up[c->out] = c->out;
            m->what[i] = SCORE;
            if (at)
                unite(m, at->tensor, c->out, c->store[0] == at->idx[1]);
        } else if (at && is_terminal(m, c) && join_groups(m, c)) {
            m->what[i] = TERMINAL;
        } else if (at) {
            m->bad[group_of(m, at->tensor)] = true;
        }
    }
}

static void find_levels(Meet *m)
{
    for (int i = 0; i < m->n_comp; i++) {
        const Comp *c = m->g->comp[i];
        int n, at = 0;
        const Expr **load = comp_all_loads(c, m->a, &n);
        for (int j = 0; j < n; j++)
            at = m->level[load[j]->tensor] > at ? m->level[load[j]->tensor] : at;
        at += m->what[i] == TERMINAL;
        m->level[c->out] = at > m->level[c->out] ? at : m->level[c->out];
    }
}

/* ---- kernels */

typedef struct Copies { int *to, n; } Copies;                  /* by tensor; -1: none */

static const Expr *redirect(Graph *g, const Expr *load, void *ctx)
{
    const Copies *c = ctx;
    return load->tensor < c->n && c->to[load->tensor] >= 0 && !on_diagonal(load) ? expr_load(g, c->to[load->tensor], load->idx) : load;
}

static int side_kept(const Meet *m, const Comp *c)
{
    const Expr *l = pair_load(m, c);
    int d = !(free_axes(c) >> aff_plain(l->idx[0]) & 1);
    return side_of(m, l->tensor, d);
}

/* Axes of a member as the kernel of a side has them: M is what is kept, N the other side. */
static ScoreMember member_of(const Meet *m, Comp *c, bool terminal, int side)
{
    ScoreMember x = { .comp = c };
    int own = 2;
    for (int k = 0; k < c->n_axes; k++) {
        if (c->ext[k] != EXT_BATCH)
            x.axis[k] = own++;
        else if (terminal)
            x.axis[k] = c->red >> k & 1;
        else
            x.axis[k] = side_of(m, c->out, k != aff_plain(c->store[0])) != side;
    }
    return x;
}

/* The scores that terminals need, as bits by Comp. */
static bool *needed_scores(const Meet *m, const bool *terminal)
{
    bool *need = NEWN(m->a, bool, m->n_tensor), *comp = NEWN(m->a, bool, m->n_comp);
    for (int i = m->n_comp - 1; i >= 0; i--) {
        const Comp *c = m->g->comp[i];
        comp[i] = m->what[i] == SCORE && need[c->out];
        if (!comp[i] && !terminal[i])
            continue;
        int n;
        const Expr **load = comp_all_loads(c, m->a, &n);
        for (int j = 0; j < n; j++)
            if (is_score(m, load[j]->tensor) && !on_diagonal(load[j]))
                need[load[j]->tensor] = true;
    }
    return comp;
}

/* The kernel of some terminals. Scores are copied; terminals too, into *changed, until the back end has said yes. */
static ScoreSet *make_kernel(Meet *m, const bool *terminal, int side, Comp **changed)
{
    Graph *g = m->g;
    const bool *score = needed_scores(m, terminal);
    Copies copies = { NEWN(m->a, int, m->n_tensor), m->n_tensor };
    Kernel k = { .cls = K_SCORE, .label = "", .comp = NEWN(m->a, Comp, m->n_comp), .writes = NEWN(m->a, int, m->n_comp) };
    ScoreSet *set = NEW(m->a, ScoreSet);
    *set = (ScoreSet){ .ext = { EXT_BATCH, EXT_BATCH } };
    for (int t = 0; t < m->n_tensor; t++)
        copies.to[t] = -1;
    for (int i = 0; i < m->n_comp; i++) {
        const Comp *c = g->comp[i];
        if (!score[i] && !terminal[i])
            continue;
        const Expr *body = expr_map_loads(g, c->body, redirect, &copies);
        ScoreMember x = member_of(m, g->comp[i], terminal[i], side);
        if (terminal[i]) {
            changed[i] = NEW(m->a, Comp);
            *changed[i] = *c;
            changed[i]->body = body;
            k.writes[k.n_writes++] = c->out;
            k.comp[k.n_comp++] = comp_aligned(g, changed[i], x.axis);
        } else {
            const Tensor old = g->tensor[c->out];
            int t = copies.to[c->out] = graph_tensor(g, old.name, old.rank, old.shape, T_TEMP, old.dtype);
            g->tensor[t].span = old.span;
            x.comp = graph_comp(g, t, c->n_axes, c->ext, c->red, c->reducer, body, c->store, c->span, c->tag);
            k.comp[k.n_comp++] = comp_aligned(g, x.comp, x.axis);
        }
        PUSH(m->a, set->member, x);
    }
    k.span = k.comp[0].span;
    return m->o->takes_score(g, &k) ? set : NULL;
}

/* ---- diagonals */

static int diagonal_of(Meet *m, int t);

static const Expr *from_diagonal(Graph *g, const Expr *load, void *ctx)
{
    Meet *m = ctx;
    bool own = is_score(m, load->tensor) && on_diagonal(load) && m->done[group_of(m, load->tensor)];
    return own ? expr_load(g, diagonal_of(m, load->tensor), load->idx) : load;
}

/* The vector t[i, i] of a score, from the vectors of the scores that it is made of. */
static int diagonal_of(Meet *m, int t)
{
    Graph *g = m->g;
    if (m->diagonal[t] >= 0)
        return m->diagonal[t];
    const Comp *c = g->comp[m->pieces[t].at[0]];
    const Affine *map[MAX_AXES] = { NULL }, *store[MAX_RANK] = { aff_axis(g, 0) };
    Ext ext[MAX_AXES] = { EXT_BATCH };
    int n = 1;
    for (int k = 0; k < c->n_axes; k++) {
        map[k] = aff_axis(g, c->ext[k] == EXT_BATCH ? 0 : n);
        if (c->ext[k] != EXT_BATCH)
            ext[n++] = c->ext[k];
    }
    const Expr *body = expr_map_loads(g, expr_subst(g, c->body, map, c->n_axes), from_diagonal, m);
    const Tensor old = g->tensor[t];
    int v = graph_tensor(g, arena_printf(g->arena, "%s.diagonal", old.name), 1, ext, T_TEMP, old.dtype);
    g->tensor[v].span = old.span;
    graph_comp(g, v, n, ext, axes_mask(n) & ~1u, c->reducer, body, store, c->span, c->tag);
    return m->diagonal[t] = v;
}

/* ---- all of it */

/* The kernels of one group; false: the back end does not take one of them, or there is nothing to gain. */
static bool make_kernels(Meet *m, int group, ScoreSets *sets, Comp **changed)
{
    int most = 0;
    bool any = false;
    for (int i = 0; i < m->n_comp; i++)
        most = m->level[m->g->comp[i]->out] > most ? m->level[m->g->comp[i]->out] : most;
    for (int level = 1; level <= most; level++)
        for (int side = 0; side < 2; side++) {
            bool *terminal = NEWN(m->a, bool, m->n_comp), some = false;
            for (int i = 0; i < m->n_comp; i++) {
                const Comp *c = m->g->comp[i];
                terminal[i] = m->what[i] == TERMINAL && m->level[c->out] == level && group_of(m, pair_load(m, c)->tensor) == group &&
                              side_kept(m, c) == side;
                some |= terminal[i];
            }
            ScoreSet *set = some ? make_kernel(m, terminal, side, changed) : NULL;
            if (some && !set)
                return false;
            if (set)
                PUSH(m->a, *sets, set);
            any |= some;
        }
    return any;
}

void pass_meet(Graph *g, Arena *a, const FuseOptions *o, ScoreSets *sets)
{
    if (!o || !o->takes_score || !o->meet)
        return;
    Meet m = { .g = g, .a = a, .o = o, .n_comp = g->n_comp, .n_tensor = g->n_tensor, .pieces = NEWN(a, Ints, g->n_tensor), .root = roots_of(g, a),
               .what = NEWN(a, What, g->n_comp), .level = NEWN(a, int, g->n_tensor), .up = NEWN(a, int, g->n_tensor),
               .turned = NEWN(a, bool, g->n_tensor), .bad = NEWN(a, bool, g->n_tensor), .done = NEWN(a, bool, g->n_tensor),
               .diagonal = NEWN(a, int, g->n_tensor) };
    for (int t = 0; t < g->n_tensor; t++)
        m.up[t] = m.diagonal[t] = -1;
    for (int c = 0; c < g->n_comp; c++)
        PUSH(a, m.pieces[g->comp[c]->out], c);
    find_groups(&m);
    find_levels(&m);
    for (int t = 0; t < m.n_tensor; t++) {
        ScoreSets own = { 0 };
        Comp **changed = NEWN(a, Comp *, m.n_comp);
        if (m.up[t] != t || m.bad[t] || !make_kernels(&m, t, &own, changed))
            continue;
        m.done[t] = true;
        for (int i = 0; i < own.n; i++)
            PUSH(a, *sets, own.at[i]);
        for (int i = 0; i < m.n_comp; i++)
            if (changed[i]) {
                g->comp[i]->body = changed[i]->body;
                m.what[i] = OUTSIDE;                           /* to the groups that follow: it reads copies now */
            }
    }
    for (int i = 0, n = g->n_comp; i < n; i++)
        g->comp[i]->body = expr_map_loads(g, g->comp[i]->body, from_diagonal, &m);
    graph_dce(g);
    graph_toposort(g);
}
