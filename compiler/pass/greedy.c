/* greedy.c -- which kernel each Comp goes to.
 *
 * In topological order every Comp joins the best kernel there is or becomes a new one. "Best" is a list of rules:
 *
 *   a map        joins the latest kernel whose results it reads at the same point: a contraction (its epilogue), a map,
 *                or a row kernel when it runs along the same rows; else a row kernel that reads the same rows; else a
 *                reduction across rows of which it reads what stays, or that reads the same tensor and keeps as many points; in
 *                the end, when it is still alone, a row kernel of which it reads one value a row, though its rows be longer or
 *                shorter. With two batch axes it is no epilogue of a contraction whose result is needed in memory as well: it may then be
 *                written over that (inplace.c)
 *   a reduction  along the last axes: joins the row kernel that makes what it reads, turns a map into a row kernel,
 *                or joins a row kernel that reads the same rows
 *                across them (column sums, totals): joins the latest row kernel that makes what it reads, or one that
 *                reads it, row by row; else a contraction that sums over the same terms of the same tensor, be that placed
 *                before or after it; else a reduction of the same tensor over the same axes; a small total, which costs
 *                a launch more than it does work, else any total over as many points
 *   contractions and scatters always begin a kernel
 *
 * What is computed again (pass/remat.c) keeps to its like, or it would join the kernel that computes it first.
 *
 * Some Comps wait. Column sums that only updates need, and numbers that only the outside needs, come after all others, so that
 * they find every kernel they might share. The optimiser comes last and keeps to itself: what it writes in place must be read by nobody
 * later, and a gradient is not to be drawn out of the contraction that makes it. Maps before it that wait for a total of what
 * they read (gradients that are scaled by their norm) are part of it. Host scalars are one kernel.
 *
 * Everything is arrays in definition order: the same graph gives the same kernels. */
#include "pass/fuse.h"
#include <string.h>

void fuser_init(Fuser *f, Graph *g, Arena *a, const bool *alone)
{
    *f = (Fuser){ .g = g, .a = a, .words = g->n_comp / 64 + 1 };
    f->info = NEWN(a, CompInfo, g->n_comp);
    f->pieces = NEWN(a, Ints, g->n_tensor);
    f->users = NEWN(a, Ints, g->n_tensor);
    f->readers = NEWN(a, Ints, g->n_tensor);
    f->root = roots_of(g, a);
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        CompInfo *k = &f->info[i];
        Sides s;
        k->load = comp_all_loads(c, a, &k->n_load);
        k->kernel = -1;
        k->diagonal = makes_diagonal(g, c) && !alone[c->out];
        k->alone = k->diagonal || alone[c->out];
        k->again = g->tensor[c->out].again;
        k->contracts = comp_sides(g, c, &s);
        PUSH(a, f->pieces[c->out], i);
        for (int j = 0; j < k->n_load; j++) {
            Ints *u = &f->users[k->load[j]->tensor];
            if (!u->n || u->at[u->n - 1] != i)
                PUSH(a, *u, i);
            for (int d = 0; d < k->load[j]->n; d++)
                k->gathers |= aff_has_atoms(k->load[j]->idx[d]);
        }
    }
}

/* ---- who belongs where */

/* f64 scalars that depend on nothing but such scalars: step, total, learning rate, bias corrections. */
static void find_host(Fuser *f)
{
    const Graph *g = f->g;
    bool *host = NEWN(f->a, bool, g->n_tensor);
    for (int t = 0; t < g->n_tensor; t++)
        host[t] = g->tensor[t].kind == T_INPUT && g->tensor[t].dtype == DT_F64 && g->tensor[t].rank == 0;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        bool all = c->n_axes == 0 && c->reducer == RED_NONE && g->tensor[c->out].rank == 0 &&
                   g->tensor[c->out].dtype == DT_F64;
        for (int j = 0; j < f->info[i].n_load && all; j++)
            all = host[f->info[i].load[j]->tensor];
        for (int k = 0; k < g->n_update; k++)
            all &= g->update[k].value != c->out;
        f->info[i].host = host[c->out] = all;
    }
}

/* Tensors that `tensor` is made from, directly or not, as bits; of the last one that was asked for. */
typedef struct Origins { int tensor; bool *from; } Origins;

/* Does a map read a number that is made from something else it reads? So it has to wait for a total, and is no epilogue of what makes
 * the rest: a gradient is scaled by the norm of all gradients. */
static bool waits_for_total(Fuser *f, int c, Origins *o)
{
    const Graph *g = f->g;
    const CompInfo *k = &f->info[c];
    for (int i = 0; i < k->n_load; i++) {
        int total = k->load[i]->tensor;
        if (g->tensor[total].rank || g->tensor[total].kind != T_TEMP || g->tensor[total].dtype == DT_F64)
            continue;
        if (o->tensor != total) {
            o->tensor = total;
            memset(o->from, 0, (size_t)g->n_tensor * sizeof *o->from);
            o->from[total] = true;
            for (int j = c - 1; j >= 0; j--)
                for (int l = 0; l < f->info[j].n_load && o->from[g->comp[j]->out]; l++)
                    o->from[f->info[j].load[l]->tensor] = true;
        }
        for (int j = 0; j < k->n_load; j++)
            if (k->load[j]->tensor != total && g->tensor[k->load[j]->tensor].kind == T_TEMP && o->from[k->load[j]->tensor])
                return true;
    }
    return false;
}

/* The optimiser: what makes the values of updates; maps before it that read a parameter, a state or such a value, or wait for a
 * total, and serve nothing else; and whatever depends on any of these. */
static void find_updates(Fuser *f)
{
    const Graph *g = f->g;
    Origins origins = { -1, NEWN(f->a, bool, g->n_tensor) };
    bool *target = NEWN(f->a, bool, g->n_tensor), *late = NEWN(f->a, bool, g->n_tensor);
    for (int i = 0; i < g->n_update; i++) {
        target[g->update[i].target] = true;
        late[g->update[i].value] = true;
    }
    for (int i = g->n_comp - 1; i >= 0; i--) {
        const Comp *c = g->comp[i];
        const CompInfo *k = &f->info[i];
        const Ints *u = &f->users[c->out];
        bool serves = c->reducer == RED_NONE && !f->root[c->out] && u->n > 0 && !k->host, reads = false;
        for (int j = 0; j < u->n && serves; j++)
            serves = late[g->comp[u->at[j]]->out];
        for (int j = 0; j < k->n_load && serves; j++)
            reads |= target[k->load[j]->tensor] || late[k->load[j]->tensor];
        late[c->out] |= serves && (reads || waits_for_total(f, i, &origins));
    }
    for (int i = 0; i < g->n_comp; i++) {
        CompInfo *k = &f->info[i];
        for (int j = 0; j < k->n_load; j++)
            late[g->comp[i]->out] |= late[k->load[j]->tensor];
        k->update = late[g->comp[i]->out];
    }
}

/* ---- the rules */

typedef ARRAY(int) Candidates;

/* Kernels that make what c reads, in c's phase, the latest first. */
static Candidates producers(Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    Candidates out = { 0 };
    for (int i = 0; i < k->n_load; i++) {
        const Ints *p = &f->pieces[k->load[i]->tensor];
        for (int j = 0; j < p->n; j++) {
            int n = f->info[p->at[j]].kernel, at = 0;
            if (n < 0 || f->build.at[n]->update != k->update || f->build.at[n]->cls == K_HOST)
                continue;
            while (at < out.n && out.at[at] != n && f->build.at[out.at[at]]->last > f->build.at[n]->last)
                at++;
            if (at < out.n && out.at[at] == n)
                continue;
            PUSH(f->a, out, n);
            for (int m = out.n - 1; m > at; m--)
                out.at[m] = out.at[m - 1];
            out.at[at] = n;
        }
    }
    return out;
}

static bool usable(const Fuser *f, int c, int n, KernelClass cls)
{
    const Build *b = f->build.at[n];
    return !b->dead && !b->alone && b->cls == cls && b->update == f->info[c].update && b->again == f->info[c].again;
}

typedef bool AlignTo(Fuser *f, int c, int n, Align *al);

static bool join_if(Fuser *f, int c, int n, KernelClass cls, AlignTo *align)
{
    Align al;
    if (!usable(f, c, n, cls) || !align(f, c, n, &al) || !fuser_legal(f, c, n))
        return false;
    fuser_join(f, c, n, &al);
    return true;
}

/* ... the first kernel that can be joined and reads a tensor that c reads; that both read a number says nothing */
static bool join_reader(Fuser *f, int c, KernelClass cls, AlignTo *align)
{
    const CompInfo *k = &f->info[c];
    for (int i = 0; i < k->n_load; i++) {
        const Ints *r = &f->readers[k->load[i]->tensor];
        for (int j = 0; j < r->n && k->load[i]->n; j++)
            if (join_if(f, c, r->at[j], cls, align))
                return true;
    }
    return false;
}

/* ... the last REDUCE kernel of all that can be joined */
static bool join_last_reduce(Fuser *f, int c, AlignTo *align)
{
    for (int n = f->build.n - 1; n >= 0; n--)
        if (join_if(f, c, n, K_REDUCE, align))
            return true;
    return false;
}

static bool align_row_sibling(Fuser *f, int c, int n, Align *al) { return align_row(f, c, n, true, al); }

/* Would c, joining contraction n, be stored beside what it is made from, where a kernel of its own could write over that? */
static bool doubles(const Fuser *f, int c, int n)
{
    const CompInfo *k = &f->info[c];
    bool twice = false;
    for (int i = 0; i < k->n_load && !twice && grows_squarely(f->g, f->g->comp[c]->out); i++) {
        const Ints *p = &f->pieces[k->load[i]->tensor], *u = &f->users[k->load[i]->tensor];
        bool made = grows_squarely(f->g, k->load[i]->tensor);
        for (int j = 0; j < p->n && made; j++)
            made = f->info[p->at[j]].kernel == n;
        for (int j = 0; j < u->n && made && p->n; j++)
            twice |= f->g->comp[u->at[j]]->reducer != RED_NONE;
    }
    return twice;
}

/* A map joins a reduction that reads what it reads and keeps as many points; a number joins any that keeps one. */
static bool place_points(Fuser *f, int c)
{
    return join_reader(f, c, K_REDUCE, align_points) || (!f->g->comp[c]->n_axes && join_last_reduce(f, c, align_points));
}

static bool place_map(Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    Candidates cand = producers(f, c);
    Align al;
    for (int i = 0; i < cand.n; i++) {
        int n = cand.at[i];
        bool point = ((usable(f, c, n, K_CONTRACT) && !doubles(f, c, n)) || usable(f, c, n, K_MAP)) && align_pointwise(f, c, n, &al);
        bool row = !point && usable(f, c, n, K_ROW) && align_row(f, c, n, false, &al);
        if ((point || row) && fuser_legal(f, c, n)) {
            fuser_join(f, c, n, &al);
            return true;
        }
    }
    if (join_reader(f, c, K_ROW, align_row_sibling))
        return true;
    for (int i = 0; i < cand.n && !k->update; i++)             /* what is written in place is a map's (inplace.c) */
        if (join_if(f, c, cand.at[i], K_REDUCE, align_pointwise))
            return true;
    return !k->update && place_points(f, c);
}

static bool place_rows(Fuser *f, int c)
{
    Candidates cand = producers(f, c);
    Align al;
    for (int i = 0; i < cand.n; i++) {
        int n = cand.at[i];
        if (usable(f, c, n, K_ROW) && align_row(f, c, n, false, &al) && fuser_legal(f, c, n)) {
            fuser_join(f, c, n, &al);
            return true;
        }
        if (usable(f, c, n, K_MAP) && row_from_map(f, c, n))
            return true;
    }
    return join_reader(f, c, K_ROW, align_row_sibling);
}

static bool place_columns(Fuser *f, int c)
{
    Candidates cand = producers(f, c);
    for (int i = 0; i < cand.n; i++)
        if (join_if(f, c, cand.at[i], K_ROW, align_columns))
            return true;
    return join_reader(f, c, K_ROW, align_columns) || join_reader(f, c, K_CONTRACT, align_side) ||
           join_reader(f, c, K_REDUCE, align_reduce) || join_last_reduce(f, c, align_total);
}

/* Diagonals of what reduction c reads come into its kernel. */
static void take_diagonals(Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    Align al;
    for (int i = 0; i < k->n_load; i++) {
        const Ints *r = &f->readers[k->load[i]->tensor];
        for (int j = 0; j < r->n; j++) {
            const Build *b = f->build.at[r->at[j]];
            if (!b->dead && b->comp.n == 1 && f->info[b->comp.at[0]].diagonal && b->again == k->again &&
                align_points(f, b->comp.at[0], k->kernel, &al))
                fuser_move(f, r->at[j], k->kernel, &al);
        }
    }
}

/* The sum of a side that is a kernel of its own already comes into contraction c. */
static void take_side(Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    Align al;
    for (int i = 0; i < k->n_load; i++) {
        const Ints *r = &f->readers[k->load[i]->tensor];
        for (int j = 0; j < r->n; j++) {
            const Build *b = f->build.at[r->at[j]];
            if (usable(f, c, r->at[j], K_REDUCE) && b->comp.n == 1 && align_side(f, b->comp.at[0], k->kernel, &al) &&
                fuser_move(f, r->at[j], k->kernel, &al))
                return;
        }
    }
}

/* A map of the optimiser joins every map kernel that it reads, or that reads what it reads, at the same point: first
 * moment, second moment and weight become one kernel. */
static bool place_update(Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    Candidates cand = producers(f, c);
    Align al, other;
    int home = -1;
    for (int i = 0; i < cand.n; i++) {
        int n = cand.at[i];
        if (!usable(f, c, n, K_MAP))
            continue;
        if (home < 0 && align_pointwise(f, c, n, &al) && fuser_legal(f, c, n)) {
            fuser_join(f, c, home = n, &al);
        } else if (home >= 0) {
            /* c lies in `home` now; how would it lie in n? */
            if (align_pointwise(f, c, n, &other))
                fuser_merge(f, home, &al, n, &other);
        }
    }
    for (int i = 0; i < k->n_load && home < 0; i++) {
        const Ints *r = &f->readers[k->load[i]->tensor];
        for (int j = 0; j < r->n && home < 0; j++)
            if (usable(f, c, r->at[j], K_MAP) && align_sibling(f, c, r->at[j], &al) && fuser_legal(f, c, r->at[j]))
                fuser_join(f, c, home = r->at[j], &al);
    }
    return home >= 0;
}

static void place(Fuser *f, int c)
{
    const Comp *k = f->g->comp[c];
    bool placed = false;
    if (f->info[c].diagonal)
        placed = place_points(f, c);
    else if (f->info[c].alone || k->reducer == RED_SCATTER || f->info[c].contracts)
        placed = false;
    else if (k->reducer != RED_NONE)
        placed = reduces_rows(f, c) ? place_rows(f, c) : place_columns(f, c);
    else
        placed = (f->info[c].update && place_update(f, c)) || place_map(f, c);
    if (!placed)
        fuser_new(f, c);
    if (f->info[c].contracts && !f->info[c].alone)
        take_side(f, c);
    if (f->build.at[f->info[c].kernel]->cls == K_REDUCE && k->reducer != RED_NONE && !f->info[c].update)
        take_diagonals(f, c);
}

/* A number that is stored for the outside alone. */
static bool only_output(const Fuser *f, int c)
{
    return !f->g->comp[c]->n_axes && !f->users[f->g->comp[c]->out].n && f->g->comp[c]->reducer == RED_NONE && !f->info[c].alone;
}

/* A map that is a kernel of its own and reads what a row kernel makes of each row comes into that, whatever length its rows have:
 * the looked-up row beside the number of the row. */
static void take_own_rows(Fuser *f)
{
    for (int n = 0; n < f->build.n; n++) {
        const Build *b = f->build.at[n];
        if (b->dead || b->alone || b->cls != K_MAP || b->comp.n != 1 || b->update)
            continue;
        int c = b->comp.at[0];
        Candidates cand = producers(f, c);
        Align al;
        for (int i = 0; i < cand.n && !b->dead; i++)
            if (usable(f, c, cand.at[i], K_ROW) && align_own_row(f, c, cand.at[i], &al))
                fuser_follow(f, n, cand.at[i], &al);
    }
}

static bool only_for_updates(const Fuser *f, int c)
{
    const Ints *u = &f->users[f->g->comp[c]->out];
    for (int i = 0; i < u->n; i++)
        if (!f->info[u->at[i]].update)
            return false;
    return true;
}

void fuse_greedy(Fuser *f)
{
    const Graph *g = f->g;
    int host = -1;
    Ints late = { 0 };
    find_host(f);
    find_updates(f);
    for (int i = 0; i < g->n_comp; i++) {
        const CompInfo *k = &f->info[i];
        if (k->host && host < 0)
            host = fuser_new(f, i);
        else if (k->host)
            fuser_join(f, i, host, &(Align){ .bound = 0 });
    }
    for (int i = 0; i < g->n_comp; i++) {
        const CompInfo *k = &f->info[i];
        const Comp *c = g->comp[i];
        if (k->update || k->host || k->kernel >= 0)
            continue;
        if (only_output(f, i) || (c->reducer > RED_NONE && c->reducer != RED_SCATTER && !k->contracts && !reduces_rows(f, i) &&
                                  only_for_updates(f, i)))
            PUSH(f->a, late, i);
        else
            place(f, i);
    }
    for (int i = 0; i < late.n; i++)
        place(f, late.at[i]);
    take_own_rows(f);
    for (int i = 0; i < g->n_comp; i++)
        if (f->info[i].update && !f->info[i].host)
            place(f, i);
}
