/* inplace.c -- what is written over what: updates over old values, temporaries of two batch axes over what they are made from.
 *
 * storage[value] = target is right when
 *
 *   - the value is the whole of one map, of the target's shape and type, in a MAP kernel;
 *   - in that kernel the target is read only at the point that is being written, and by no member after the one that
 *     writes;
 *   - every other kernel that reads the target can run before.
 *
 * The first is a matter of the graph: a value that fails gets a copy, new[i] = value[i], which is such a map. The others
 * are known when kernels exist: then too the value gets a copy, which as a kernel of its own can run after every reader
 * of the target, and fusing begins again. So a swap of two parameters comes out right, at the price of one buffer.
 *
 * A temporary that grows with the square of the batch (the gradient of the logits) goes where a tensor of the same shape
 * stands that its map reads at the same point, when that is the last use of it: every other kernel that reads it can run
 * before, and so can what the kernel's own members read of it. A ROW kernel goes along a row several times; a member is done
 * with a point before the map writes there, or together with it, if
 *
 *   - the map needs it, or
 *   - it needs, of the kernel's members, only the map itself at the same point and what the map needs. */
#include "pass/fuse.h"

void fuse_copy_value(Graph *g, int update)
{
    int value = g->update[update].value;
    const Tensor *t = &g->tensor[value];
    Ext shape[MAX_RANK];
    const Affine *idx[MAX_RANK];
    Span span = t->span;
    int rank = t->rank;
    for (int d = 0; d < rank; d++) {
        shape[d] = t->shape[d];
        idx[d] = aff_axis(g, d);
    }
    int copy = graph_tensor(g, t->name, rank, shape, T_TEMP, t->dtype);
    g->tensor[copy].span = span;
    graph_comp(g, copy, rank, shape, 0, RED_NONE, expr_load(g, value, idx), idx, span, "update");
    g->update[update].value = copy;
}

bool fuse_check_updates(Graph *g, Text *why)
{
    Arena a = { 0 };
    GraphIndex ix = graph_index(g, &a);
    int n_tensor = g->n_tensor;
    bool *target = NEWN(&a, bool, n_tensor), *value = NEWN(&a, bool, n_tensor), good = true;
    for (int i = 0; i < g->n_update && good; i++) {
        Update u = g->update[i];
        const Tensor *t = &g->tensor[u.target], *v = &g->tensor[u.value];
        good = (t->kind == T_PARAM || t->kind == T_STATE) && !target[u.target] && same_form(t, v);
        if (!good) {
            text_printf(why, "the update of `%s` by `%s`: %s", t->name, v->name,
                        target[u.target] ? "it is updated twice" : same_form(t, v) ? "it is neither a parameter nor a state"
                                                                                    : "the shapes differ");
            break;
        }
        target[u.target] = true;
        bool whole = u.value < n_tensor && v->kind == T_TEMP && ix.pieces[u.value].n == 1 && !value[u.value];
        const Comp *c = whole ? ix.pieces[u.value].at[0] : NULL;
        if (!whole || c->reducer != RED_NONE || !store_plain(c, v->rank, NULL) || c->n_axes != v->rank)
            fuse_copy_value(g, i);
        else
            value[u.value] = true;
    }
    arena_free(&a);
    graph_toposort(g);
    return good;
}

/* Does Comp c, a member of the kernel of `writer`, read `target` only where writer writes? */
static bool same_point(const Fuser *f, int c, int writer, int target)
{
    const CompInfo *k = &f->info[c], *w = &f->info[writer];
    for (int i = 0; i < k->n_load; i++) {
        const Expr *l = k->load[i];
        for (int d = 0; d < l->n && l->tensor == target; d++) {
            int axis = aff_plain(l->idx[d]);
            if (axis < 0 || k->axis[axis] != w->axis[aff_plain(f->g->comp[writer]->store[d])])
                return false;
        }
    }
    return true;
}

/* Which members of the kernel of `writer` need its result, directly or through others? */
static bool *dependents(Fuser *f, int writer)
{
    int n = f->info[writer].kernel;
    const Build *b = f->build.at[n];
    bool *needs = NEWN(f->a, bool, f->g->n_comp);
    needs[writer] = true;
    for (int c = writer + 1; c <= b->last; c++)                /* definition order is a legal one */
        for (int i = 0; f->info[c].kernel == n && i < f->info[c].n_load; i++) {
            const Ints *p = &f->pieces[f->info[c].load[i]->tensor];
            for (int j = 0; j < p->n; j++)
                needs[c] |= needs[p->at[j]];
        }
    needs[writer] = false;
    return needs;
}

static bool in_place(Fuser *f, Update u)
{
    int writer = f->pieces[u.value].at[0], n = f->info[writer].kernel;
    const Ints *r = &f->users[u.target];
    const bool *after = dependents(f, writer);
    if (f->build.at[n]->cls != K_MAP)
        return false;
    for (int i = 0; i < r->n; i++) {
        int c = r->at[i], m = f->info[c].kernel;
        if (m == n && (after[c] || !same_point(f, c, writer, u.target)))
            return false;
        if (m != n && fuser_reaches(f, n, m))
            return false;
    }
    for (int i = 0; i < r->n; i++)
        fuser_depend(f, n, f->info[r->at[i]].kernel);
    return true;
}

/* ---- temporaries */

static bool in_kernel(const Fuser *f, int tensor, int n)
{
    const Ints *p = &f->pieces[tensor];
    for (int i = 0; i < p->n; i++)
        if (f->info[p->at[i]].kernel == n)
            return true;
    return false;
}

static bool leaves_kernel(const Fuser *f, int tensor, int n)
{
    bool leaves = f->root[tensor];
    for (int i = 0; i < f->users[tensor].n; i++)
        leaves |= f->info[f->users[tensor].at[i]].kernel != n;
    return leaves;
}

/* Which members of writer's kernel does it need? */
static bool *ancestors(Fuser *f, int writer)
{
    int n = f->info[writer].kernel;
    bool *needed = NEWN(f->a, bool, f->g->n_comp);
    needed[writer] = true;
    for (int c = writer; c >= 0; c--)                          /* definition order */
        for (int i = 0; needed[c] && i < f->info[c].n_load; i++) {
            const Ints *p = &f->pieces[f->info[c].load[i]->tensor];
            for (int j = 0; j < p->n; j++)
                needed[p->at[j]] |= f->info[p->at[j]].kernel == n;
        }
    needed[writer] = false;
    return needed;
}

/* Is member c, which reads the target and is not needed by writer, done with a point by the time writer is there? */
static bool keeps_pace(const Fuser *f, int c, int writer, const bool *needed)
{
    const Graph *g = f->g;
    int n = f->info[writer].kernel;
    if (g->comp[c]->n_axes != g->comp[writer]->n_axes || g->comp[c]->reducer == RED_LOGSUMEXP)       /* that goes along twice */
        return false;
    for (int i = 0; i < f->info[c].n_load; i++) {
        const Ints *p = &f->pieces[f->info[c].load[i]->tensor];
        for (int j = 0; j < p->n; j++) {
            int q = p->at[j];
            bool own = f->info[q].kernel == n;
            if (own && q == writer && f->build.at[n]->cls == K_MAP)
                return false;
            if (own && q != writer && !needed[q])
                return false;
        }
    }
    return true;
}

/* May `writer` go over a temporary? Then its kernel runs after all that reads it. */
static bool over_temporary(Fuser *f, int writer, int target)
{
    const Graph *g = f->g;
    int n = f->info[writer].kernel, value = g->comp[writer]->out;
    const bool *needed = ancestors(f, writer);
    bool *reads = NEWN(f->a, bool, g->n_comp);                 /* the target, also through maps that may be computed again */
    if (!same_form(&g->tensor[value], &g->tensor[target]) || in_kernel(f, target, n))
        return false;
    for (int c = 0; c <= f->build.at[n]->last; c++) {
        const CompInfo *k = &f->info[c];
        bool direct = false;
        if (k->kernel != n)
            continue;
        for (int i = 0; i < k->n_load; i++) {
            int t = k->load[i]->tensor;
            direct |= t == target;
            for (int j = 0; j < f->pieces[t].n; j++) {
                int q = f->pieces[t].at[j];
                reads[c] |= f->info[q].kernel == n && reads[q] && q != writer && !g->comp[q]->red && !leaves_kernel(f, t, n);
            }
        }
        reads[c] |= direct;
        if (!same_point(f, c, writer, value) || (direct && !same_point(f, c, writer, target)))
            return false;
        if (reads[c] && c != writer && !needed[c] && !keeps_pace(f, c, writer, needed))
            return false;
    }
    const Ints *u = &f->users[target];
    for (int i = 0; i < u->n; i++)
        if (f->info[u->at[i]].kernel != n && fuser_reaches(f, n, f->info[u->at[i]].kernel))
            return false;
    for (int i = 0; i < u->n; i++)
        fuser_depend(f, n, f->info[u->at[i]].kernel);
    return true;
}

static void place_temporary(Fuser *f, int c, int *storage, bool *taken)
{
    const Graph *g = f->g;
    const CompInfo *k = &f->info[c];
    const Build *b = f->build.at[k->kernel];
    int t = g->comp[c]->out;
    bool fits = (b->cls == K_MAP || b->cls == K_ROW) && !b->again && g->comp[c]->reducer == RED_NONE && f->pieces[t].n == 1;
    fits = fits && g->tensor[t].kind == T_TEMP && !f->root[t] && grows_squarely(g, t) && storage[t] == t && !taken[t];
    if (!fits || !store_plain(g->comp[c], g->tensor[t].rank, NULL) || !leaves_kernel(f, t, k->kernel))
        return;
    const bool *needed = ancestors(f, c);
    for (int q = c; q >= 0; q--) {                             /* c itself, and maps that it needs */
        const CompInfo *from = &f->info[q];
        if (q != c && (!needed[q] || g->comp[q]->red || leaves_kernel(f, g->comp[q]->out, k->kernel)))
            continue;
        for (int i = 0; i < from->n_load && storage[t] == t; i++) {
            int s = from->load[i]->tensor;
            if (g->tensor[s].kind == T_TEMP && !f->root[s] && storage[s] == s && !taken[s] && over_temporary(f, c, s)) {
                storage[t] = s;
                taken[s] = true;
            }
        }
    }
}

int fuse_storage(Fuser *f, int *storage)
{
    const Graph *g = f->g;
    bool *taken = NEWN(f->a, bool, g->n_tensor);
    for (int t = 0; t < g->n_tensor; t++)
        storage[t] = t;
    for (int i = 0; i < g->n_update; i++) {
        if (!in_place(f, g->update[i]))
            return i;
        storage[g->update[i].value] = g->update[i].target;
    }
    for (int c = 0; c < g->n_comp; c++)
        place_temporary(f, c, storage, taken);
    return -1;
}
