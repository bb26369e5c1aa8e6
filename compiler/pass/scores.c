/* scores.c -- which Comps become SCORE kernels: attention whose scores never reach memory.
 *
 * A group begins with a contraction both of whose sides carry the batch, with a short sum (the head's width): its result
 * is larger than what it is made of, and usually only maps, statistics along a row and one more contraction read it.
 * Walking on in definition order, the group takes in
 *
 *     points    maps over exactly the axes (domain, M, N) of scores of the group      (scale, mask, exp(s - lse))
 *     stats     reductions of them along M or N                                       (logsumexp)
 *     results   contractions of a score with a tensor from outside along M or N       (p.V)
 *     rows      sums over the axes of rows that are here anyway, for one number a row (sum of dz*z)
 *
 * and two groups that one map reads are one. A group is cut into phases where it needs, through whatever lies between,
 * results of its own: attention forward is phase 0, backward phase 1. Each phase becomes a kernel, which computes again
 * the scores of earlier phases that it needs; so probabilities are not kept for the backward pass, only the statistics.
 *
 *     phase 0   s = q.k    l = logsumexp[n](s)    p = exp(s - l)    z = p.v
 *     phase 1   s = q.k    p = exp(s - l)    dp = dz.v    ds = p*dp + d*p    dq = ds.k    dk = ds.q    dv = p.dz
 *
 * M may be a single point that nobody has an axis for (narrow.c leaves the last attention one query): a product is a row times
 * a matrix then, and what would be a sum over M is the product of two rows. Kernels have that axis again.
 *
 * What a group has to do with others is looked at once the kernels exist: fuse() does without SCORE kernels in a graph
 * where two of them would need each other. */
#include "pass/fuse.h"
#include <string.h>

enum { MOST_TERMS = 256 };                                     /* of a sum that is rather done twice than kept */

typedef struct Group {
    int n_dom, parent;                                         /* parent: union-find */
    Ext ext[MAX_AXES];                                         /* domain, M, N */
    bool row;                                                  /* M is one point, and no axis of the members */
} Group;

typedef struct Part {                                          /* of a Comp */
    int group;                                                 /* -1: in none */
    ScoreRole role;
    int axis[MAX_AXES];                                        /* Comp axis -> kernel axis */
    int phase;
} Part;

typedef struct Scores {
    Graph *g;
    Arena *a;
    const FuseOptions *o;
    int n_comp;                                                /* those that were there at the beginning */
    Part *part;
    Ints *pieces, *users;                                      /* by tensor: Comps */
    bool *root;
    ARRAY(Group) group;
} Scores;

/* ---- what a member is (also for back ends) */

static bool has_own_axis(const Kernel *k, const Comp *c, uint32_t of)
{
    return (of & axes_mask(c->n_axes)) >> (k->n_dom + 2);
}

ScoreRole score_role(const Kernel *k, const Comp *c)
{
    uint32_t sides = 3u << k->n_dom;
    if (c->reducer == RED_NONE)
        return SCORE_POINT;
    if (!(c->red & sides))
        return SCORE_PRODUCT;
    if (has_own_axis(k, c, c->red))
        return SCORE_ROW;
    return has_own_axis(k, c, free_axes(c)) ? SCORE_RESULT : SCORE_STAT;
}

ScoreSum score_sum(Graph *g, const Kernel *k, const Comp *c)
{
    Sides s;
    if (!comp_pair(g, c, &s))
        return (ScoreSum){ .scale = 0 };
    bool swap = score_role(k, c) == SCORE_RESULT ? has_own_axis(k, c, s.a->axes & free_axes(c)) : s.a->axes >> score_n(k) & 1;
    return (ScoreSum){ swap ? s.b : s.a, swap ? s.a : s.b, s.scale };
}

Comp score_aligned(Graph *g, const Comp *c, const int *axis, int n_dom)
{
    Comp out = comp_aligned(g, c, axis);
    bool has_m = false;
    for (int a = 0; a < c->n_axes; a++)
        has_m |= axis[a] == n_dom;
    if (has_m)
        return out;
    if (c->reducer == RED_NONE && out.n_axes > n_dom + 2)
        out.reducer = RED_SUM;                                 /* a result over M */
    else
        out.red &= ~(1u << n_dom);
    return out;
}

/* ---- groups */

static int find(const Scores *s, int group)
{
    while (s->group.at[group].parent != group)
        group = s->group.at[group].parent;
    return group;
}

/* The one Comp of a group that makes tensor t, or -1. */
static int maker(const Scores *s, int t)
{
    const Ints *p = &s->pieces[t];
    return p->n == 1 && s->part[p->at[0]].group >= 0 ? p->at[0] : -1;
}

static bool is_score(const Scores *s, int c)
{
    return c >= 0 && (s->part[c].role == SCORE_PRODUCT || s->part[c].role == SCORE_POINT);
}

/* Kernel axis of dimension d of what member c makes. */
static int axis_of_dim(const Scores *s, int c, int d)
{
    return s->part[c].axis[aff_plain(s->g->comp[c]->store[d])];
}

/* The innermost of some axes in the result, or -1. */
static int innermost(const Scores *s, const Comp *c, uint32_t of)
{
    int order[MAX_AXES], n = store_order(s->g, c, of, order);
    return n ? order[n - 1] : -1;
}

static bool has_batch(const Comp *c, uint32_t axes)
{
    for (int k = 0; k < c->n_axes; k++)
        if (axes >> k & 1 && c->ext[k] == EXT_BATCH)
            return true;
    return false;
}

/* Begins a group with Comp c, if c is of that kind. Free axes beside M and N are the domain: axes that one side alone has
 * as well (the heads of queries whose keys are shared). */
static bool begin(Scores *s, int c)
{
    const Comp *k = s->g->comp[c];
    Sides x;
    if (k->reducer != RED_SUM || (!comp_sides(s->g, k, &x) && !comp_row(s->g, k, &x)) || !store_plain(k, s->g->tensor[k->out].rank, NULL) ||
        s->pieces[k->out].n != 1)
        return false;
    if (!has_batch(k, x.batch) || points(k->ext, x.k, TYPICAL_BATCH) > MOST_TERMS)
        return false;
    int m = innermost(s, k, x.m), n = innermost(s, k, x.n), order[MAX_AXES];
    bool row = m < 0;
    if ((!row && k->ext[m] == EXT_BATCH) || k->ext[n] == EXT_BATCH)
        return false;
    uint32_t dom = free_axes(k) & ~(1u << n) & ~(row ? 0 : 1u << m);
    Group grp = { .n_dom = store_order(s->g, k, dom, order), .parent = s->group.n, .row = row };
    Part *p = &s->part[c];
    int own = grp.n_dom + 2;
    for (int i = 0; i < grp.n_dom; i++) {
        p->axis[order[i]] = i;
        grp.ext[i] = k->ext[order[i]];
    }
    if (!row)
        p->axis[m] = grp.n_dom;
    p->axis[n] = grp.n_dom + 1;
    grp.ext[grp.n_dom] = row ? 1 : k->ext[m];
    grp.ext[grp.n_dom + 1] = k->ext[n];
    for (int a = 0; a < k->n_axes; a++)
        if (x.k >> a & 1)
            p->axis[a] = own++;
    p->group = s->group.n;
    p->role = SCORE_PRODUCT;
    PUSH(s->a, s->group, grp);
    return true;
}

typedef struct Binding {
    int group, axis[MAX_AXES];
    uint32_t bound;
    ARRAY(struct Other { int group, perm[MAX_AXES]; }) other;  /* groups that become this one, their axes in it */
} Binding;

/* How many axes scores of a group have. */
static int n_axes_of(const Group *grp)
{
    return grp->n_dom + 2 - grp->row;
}

/* Binds the axes of c through the scores that it reads; false: it reads none, or not point by point. */
static bool bind_scores(Scores *s, int c, Binding *b)
{
    const Comp *k = s->g->comp[c];
    int n_load;
    const Expr **load = comp_all_loads(k, s->a, &n_load);
    *b = (Binding){ .group = -1 };
    for (int i = 0; i < n_load; i++) {
        int q = maker(s, load[i]->tensor), perm[MAX_AXES];
        if (!is_score(s, q))
            continue;
        int own = find(s, s->part[q].group);
        const Group *grp = &s->group.at[own];
        const Group *first = &s->group.at[b->group < 0 ? own : b->group];
        if (first->n_dom != grp->n_dom || first->row != grp->row)
            return false;
        perm[grp->n_dom] = grp->n_dom;                         /* where there is an axis for it, what follows says otherwise */
        for (int d = 0; d < load[i]->n; d++) {
            int a = aff_plain(load[i]->idx[d]), kernel_axis = axis_of_dim(s, q, d);
            if (a < 0 || k->ext[a] != grp->ext[kernel_axis])
                return false;
            if (b->group < 0 || own == b->group) {
                if (b->bound >> a & 1 && b->axis[a] != kernel_axis)
                    return false;
                b->axis[a] = kernel_axis;
                b->bound |= 1u << a;
            } else if (!(b->bound >> a & 1)) {
                return false;
            }
            perm[kernel_axis] = b->axis[a];
        }
        if (b->group < 0)
            b->group = own;
        if (own == b->group)
            continue;
        struct Other *known = NULL;
        for (int j = 0; j < b->other.n; j++)
            if (b->other.at[j].group == own)
                known = &b->other.at[j];
        if (known && memcmp(known->perm, perm, (size_t)(grp->n_dom + 2) * sizeof *perm))
            return false;
        if (!known) {
            struct Other o = { .group = own };
            memcpy(o.perm, perm, sizeof perm);
            PUSH(s->a, b->other, o);
        }
    }
    if (b->group < 0 || __builtin_popcount(b->bound) != n_axes_of(&s->group.at[b->group]))
        return false;
    for (int i = 0; i < b->other.n; i++) {                     /* M and N may change places, but not with the domain */
        int n_dom = s->group.at[b->group].n_dom;
        for (int x = 0; x < n_dom; x++)
            if (b->other.at[i].perm[x] >= n_dom)
                return false;
    }
    return true;
}

/* A product of a score and of something from outside, which has axes of its own, and of M and N the one that is summed alone. */
static bool is_result(Scores *s, int c, const Binding *b, int n_dom)
{
    const Comp *k = s->g->comp[c];
    Sides x;
    if (!comp_sides(s->g, k, &x) && !comp_row(s->g, k, &x))
        return false;
    int a = maker(s, x.a->tensor), o = maker(s, x.b->tensor);
    if (is_score(s, a) == is_score(s, o))
        return false;
    const Expr *outside = is_score(s, a) ? x.b : x.a;
    for (int i = 0; i < k->n_axes; i++)
        if (b->bound >> i & 1 && b->axis[i] >= n_dom && !(k->red >> i & 1) && (outside->axes >> i & 1))
            return false;
    return (outside->axes & ~b->bound) && !(k->red & ~b->bound);
}

/* Does c, a member to be, belong? Its role and axes then are part[c]'s. */
static bool classify(Scores *s, int c, const Binding *b)
{
    const Comp *k = s->g->comp[c];
    Part *p = &s->part[c];
    const Group *grp = &s->group.at[b->group];
    int n_dom = grp->n_dom, n = n_dom + 2, rank = s->g->tensor[k->out].rank;
    bool whole = store_plain(k, rank, NULL) && s->pieces[k->out].n == 1 && dtype_real(s->g->tensor[k->out].dtype);
    bool one_side = k->red && !(k->red & (k->red - 1)) && b->bound & k->red && b->axis[__builtin_ctz(k->red)] >= n_dom;
    if (k->reducer == RED_NONE && k->n_axes == n_axes_of(grp) && whole)
        p->role = SCORE_POINT;
    else if ((one_side || (grp->row && k->reducer == RED_NONE)) && is_result(s, c, b, n_dom))
        p->role = SCORE_RESULT;
    else if (one_side && k->n_axes == n_axes_of(grp) && whole &&
             (k->reducer == RED_SUM || k->reducer == RED_MAX || k->reducer == RED_MIN || k->reducer == RED_LOGSUMEXP))
        p->role = SCORE_STAT;
    else
        return false;
    memcpy(p->axis, b->axis, sizeof p->axis);
    int order[MAX_AXES], n_own = store_order(s->g, k, free_axes(k) & ~b->bound, order);
    for (int i = 0; i < n_own; i++)
        p->axis[order[i]] = n++;
    p->group = b->group;
    return true;
}

/* Group `from` becomes part of `to`, its axes renumbered. */
static void unite(Scores *s, int to, const struct Other *from)
{
    int n = s->group.at[to].n_dom + 2;
    for (int c = 0; c < s->n_comp; c++) {
        Part *p = &s->part[c];
        if (p->group < 0 || find(s, p->group) != from->group)
            continue;
        for (int a = 0; a < s->g->comp[c]->n_axes; a++)
            if (p->axis[a] < n)
                p->axis[a] = from->perm[p->axis[a]];
    }
    s->group.at[from->group].parent = to;
}

static void gather(Scores *s)
{
    for (int c = 0; c < s->n_comp; c++) {
        Binding b;
        s->part[c].group = -1;
        bool reads = bind_scores(s, c, &b);
        if (!reads && b.group < 0)
            begin(s, c);
        if (!reads || !classify(s, c, &b))
            continue;
        for (int i = 0; i < b.other.n && s->part[c].role != SCORE_RESULT; i++)
            unite(s, b.group, &b.other.at[i]);
    }
}

/* ---- phases of one group */

static bool in_group(const Scores *s, int c, int group)
{
    return s->part[c].group >= 0 && find(s, s->part[c].group) == group;
}

/* Does member c read the statistic q at its own row? (Scores are always read at the point: bind_scores.) */
static bool same_row(const Scores *s, int c, const Expr *load, int q)
{
    for (int d = 0; d < load->n; d++) {
        int a = aff_plain(load->idx[d]);
        if (a < 0 || s->part[c].axis[a] != axis_of_dim(s, q, d))
            return false;
    }
    return true;
}

static bool over_m(const Scores *s, int c, int n_dom)
{
    const Comp *k = s->g->comp[c];
    return k->red && s->part[c].axis[__builtin_ctz(k->red)] == n_dom;
}

/* N is the side along which most statistics run. */
static void turn(Scores *s, int group)
{
    Group *grp = &s->group.at[group];
    int balance = 0, n = grp->n_dom;
    for (int c = 0; c < s->n_comp; c++)
        if (in_group(s, c, group) && s->part[c].role == SCORE_STAT)
            balance += over_m(s, c, n) ? 1 : -1;
    if (balance <= 0)
        return;
    Ext m = grp->ext[n];
    grp->ext[n] = grp->ext[n + 1];
    grp->ext[n + 1] = m;
    for (int c = 0; c < s->n_comp; c++)
        if (in_group(s, c, group))
            for (int a = 0; a < s->g->comp[c]->n_axes; a++)
                if (s->part[c].axis[a] == n || s->part[c].axis[a] == n + 1)
                    s->part[c].axis[a] = 2 * n + 1 - s->part[c].axis[a];
}

/* Sets part[c].phase of the group's members; returns how many phases there are. A statistic along N is there as soon as
 * its row is; everything else that the group makes for the outside is there when a kernel has ended. */
static int find_phases(Scores *s, int group)
{
    int *after = NEWN(s->a, int, s->n_comp), n_dom = s->group.at[group].n_dom, n = 0;
    for (int c = 0; c < s->n_comp; c++) {
        const Comp *k = s->g->comp[c];
        bool member = in_group(s, c, group);
        int n_load, at = 0;
        const Expr **load = comp_all_loads(k, s->a, &n_load);
        for (int i = 0; i < n_load; i++)
            for (int j = 0; j < s->pieces[load[i]->tensor].n; j++) {
                int q = s->pieces[load[i]->tensor].at[j], need = after[q];
                if (in_group(s, q, group)) {
                    bool stat = s->part[q].role == SCORE_STAT && !over_m(s, q, n_dom) && member && same_row(s, c, load[i], q);
                    need = s->part[q].phase + !(member && (is_score(s, q) || stat));
                }
                at = need > at ? need : at;
            }
        after[c] = at;
        if (member) {
            s->part[c].phase = at;
            n = at + 1 > n ? at + 1 : n;
        }
    }
    return n;
}

static bool escapes(const Scores *s, int c, int group)
{
    const Ints *u = &s->users[s->g->comp[c]->out];
    bool out = s->root[s->g->comp[c]->out];
    for (int i = 0; i < u->n && !out; i++)
        out = !in_group(s, u->at[i], group);
    return out;
}

/* Members of the kernel of a phase, as bits: its results and statistics, scores somebody else reads, and all scores
 * these need. */
static bool *closure(const Scores *s, int group, int phase, bool *any)
{
    bool *in = NEWN(s->a, bool, s->n_comp);
    *any = false;
    for (int c = s->n_comp - 1; c >= 0; c--) {
        if (!in_group(s, c, group) || s->part[c].phase > phase)
            continue;
        if (s->part[c].phase == phase && (!is_score(s, c) || escapes(s, c, group)))
            in[c] = *any = true;
        const Ints *u = &s->users[s->g->comp[c]->out];
        for (int i = 0; i < u->n && is_score(s, c); i++)
            in[c] |= in_group(s, u->at[i], group) && in[u->at[i]];
    }
    return in;
}

/* One row that is only summed up is a ROW kernel's, and so is one whose products are in memory anyway. */
static bool worth(const Scores *s, int group)
{
    bool uses = false, inside = false, row = s->group.at[group].ext[s->group.at[group].n_dom] == 1;
    for (int c = 0; c < s->n_comp; c++)
        if (in_group(s, c, group)) {
            ScoreRole role = s->part[c].role;
            if (row && role == SCORE_PRODUCT && escapes(s, c, group))
                return false;
            uses |= row ? role == SCORE_RESULT : !is_score(s, c);
            inside |= is_score(s, c) && !escapes(s, c, group);
        }
    return uses && inside;
}

/* ---- kernels */

static ScoreSet *new_set(Scores *s, int group, const bool *in)
{
    ScoreSet *set = NEW(s->a, ScoreSet);
    set->n_dom = s->group.at[group].n_dom;
    memcpy(set->ext, s->group.at[group].ext, sizeof set->ext);
    for (int c = 0; c < s->n_comp; c++)
        if (in[c]) {
            ScoreMember m = { .comp = s->g->comp[c] };
            memcpy(m.axis, s->part[c].axis, sizeof m.axis);
            PUSH(s->a, set->member, m);
        }
    return set;
}

static bool read_in(const Scores *s, const bool *in, int tensor)
{
    for (int i = 0; i < s->users[tensor].n; i++)
        if (in[s->users[tensor].at[i]])
            return true;
    return false;
}

/* Binds the axes that c keeps as the member `user` reads it: to the domain and M. */
static bool bind_row(const Scores *s, int group, const Comp *c, const int *kept, int user, int *axis, uint32_t *bound)
{
    const Group *grp = &s->group.at[group];
    int n, rank = s->g->tensor[c->out].rank;
    const Expr **load = comp_all_loads(s->g->comp[user], s->a, &n);
    for (int j = 0; j < n; j++)
        for (int d = 0; load[j]->tensor == c->out && d < rank; d++) {
            int a = aff_plain(load[j]->idx[d]), to = a < 0 ? -1 : s->part[user].axis[a], k = kept[d];
            if (to < 0 || to > grp->n_dom || c->ext[k] != grp->ext[to] || (*bound >> k & 1 && axis[k] != to))
                return false;
            axis[k] = to;
            *bound |= 1u << k;
        }
    return true;
}

/* Is Comp c a sum that only members of `in` read, each at its row, over something of which one of them reads a part too?
 * Then its axes are bound, what it sums to axes of its own. */
static bool row_value(const Scores *s, int group, const bool *in, int c, int *axis)
{
    const Comp *k = s->g->comp[c];
    const Ints *u = &s->users[k->out];
    const Group *grp = &s->group.at[group];
    int of_row = n_axes_of(grp) - 1, kept[MAX_RANK], own = grp->n_dom + 2, rank = s->g->tensor[k->out].rank, n;
    if (k->reducer != RED_SUM || rank != of_row || k->n_axes == rank || !store_plain(k, rank, kept) || !u->n || s->root[k->out] ||
        s->pieces[k->out].n != 1 || has_batch(k, k->red))
        return false;
    uint32_t bound = 0, places = 0;
    for (int i = 0; i < u->n; i++) {
        ScoreRole role = s->part[u->at[i]].role;
        if (!in[u->at[i]] || (role != SCORE_POINT && role != SCORE_STAT) || !bind_row(s, group, k, kept, u->at[i], axis, &bound))
            return false;
    }
    for (int d = 0; d < rank; d++)
        places |= 1u << axis[kept[d]];
    for (int a = 0; a < k->n_axes; a++)
        if (k->red >> a & 1)
            axis[a] = own++;
    bool here = false;
    const Expr **load = comp_all_loads(k, s->a, &n);
    for (int i = 0; i < n; i++)
        here |= read_in(s, in, load[i]->tensor);
    return here && places == axes_mask(of_row) && own <= MAX_AXES;
}

/* Sums for rows of the kernel of a group's last phase come in, unless another phase's kernel reads them as well. */
static ScoreSet *with_rows(Scores *s, int group, const bool *in, const bool *earlier, const ScoreSet *set)
{
    ScoreSet *with = NEW(s->a, ScoreSet);
    bool *alone = NEWN(s->a, bool, s->n_comp);
    *with = (ScoreSet){ .n_dom = set->n_dom };
    memcpy(with->ext, set->ext, sizeof with->ext);
    for (int c = 0; c < s->n_comp; c++)
        alone[c] = in[c] && !earlier[c];
    for (int c = 0; c < s->n_comp; c++) {
        ScoreMember m = { .comp = s->g->comp[c] };
        if (s->part[c].group < 0 && row_value(s, group, alone, c, m.axis))
            PUSH(s->a, with->member, m);
    }
    if (!with->member.n)
        return NULL;
    for (int i = 0; i < set->member.n; i++)
        PUSH(s->a, with->member, set->member.at[i]);
    return with;
}

/* Asks the back end about the kernel as it would be. */
static bool taken(Scores *s, int group, const ScoreSet *set)
{
    Kernel k = { .cls = K_SCORE, .n_dom = set->n_dom, .n_comp = set->member.n, .label = "" };
    memcpy(k.dom, set->ext, (size_t)set->n_dom * sizeof *k.dom);
    k.comp = NEWN(s->a, Comp, k.n_comp);
    k.writes = NEWN(s->a, int, k.n_comp);
    for (int i = 0; i < k.n_comp; i++) {
        const ScoreMember *m = &set->member.at[i];
        k.comp[i] = score_aligned(s->g, m->comp, m->axis, k.n_dom);
        ScoreRole role = score_role(&k, &k.comp[i]);
        bool score = role == SCORE_PRODUCT || role == SCORE_POINT, needed = role == SCORE_RESULT;
        const Ints *u = &s->users[m->comp->out];
        for (int j = 0; j < u->n && role == SCORE_STAT; j++) {
            bool here = false;
            for (int x = 0; x < k.n_comp; x++)
                here |= set->member.at[x].comp == s->g->comp[u->at[j]];
            needed |= !here;
        }
        if (needed || s->root[m->comp->out] || (score && escapes(s, s->pieces[m->comp->out].at[0], group)))
            k.writes[k.n_writes++] = m->comp->out;
    }
    k.span = k.comp[0].span;
    return s->o->takes_score(s->g, &k);
}

typedef struct { const Graph *g; int *to; int n; } Clones;

static const Expr *redirect(Graph *g, const Expr *load, void *ctx)
{
    const Clones *c = ctx;
    int to = load->tensor < c->n ? c->to[load->tensor] : load->tensor;
    return to == load->tensor ? load : expr_load(g, to, load->idx);
}

/* Scores of earlier kernels, in `claimed`, get copies of their own in this one. body: by Comp, before any of this; where a Comp has come
 * to read copies, they are those of its own kernel. */
static void make_own(Scores *s, ScoreSet *set, const Expr *const *body, bool *claimed, int n_tensor)
{
    Graph *g = s->g;
    Clones x = { g, NEWN(s->a, int, n_tensor), n_tensor };
    for (int t = 0; t < n_tensor; t++)
        x.to[t] = t;
    for (int i = 0; i < set->member.n; i++) {
        ScoreMember *m = &set->member.at[i];
        const Comp *c = m->comp;
        int t = c->out;
        if (claimed[t] && is_score(s, s->pieces[t].at[0])) {
            const Tensor old = g->tensor[t];
            x.to[t] = graph_tensor(g, old.name, old.rank, old.shape, T_TEMP, old.dtype);
            g->tensor[x.to[t]].span = old.span;
            m->comp = graph_comp(g, x.to[t], c->n_axes, c->ext, c->red, c->reducer, body[s->pieces[t].at[0]], c->store, c->span, c->tag);
        } else {
            claimed[t] = true;
        }
        m->comp->body = expr_map_loads(g, m->comp->body, redirect, &x);
    }
}

ScoreSets pass_scores(Graph *g, Arena *a, const FuseOptions *o)
{
    Scores s = { .g = g, .a = a, .o = o, .n_comp = g->n_comp };
    ScoreSets out = { 0 };
    int n_tensor = g->n_tensor;
    if (!o || !o->takes_score)
        return out;
    s.part = NEWN(a, Part, g->n_comp);
    s.root = roots_of(g, a);
    s.pieces = NEWN(a, Ints, n_tensor);
    s.users = NEWN(a, Ints, n_tensor);
    for (int c = 0; c < g->n_comp; c++) {
        int n_load;
        const Expr **load = comp_all_loads(g->comp[c], a, &n_load);
        PUSH(a, s.pieces[g->comp[c]->out], c);
        for (int i = 0; i < n_load; i++) {
            Ints *u = &s.users[load[i]->tensor];
            if (!u->n || u->at[u->n - 1] != c)
                PUSH(a, *u, c);
        }
    }
    gather(&s);
    bool *claimed = NEWN(a, bool, n_tensor);
    for (int group = 0; group < s.group.n; group++) {
        if (s.group.at[group].parent != group || !worth(&s, group))
            continue;
        turn(&s, group);
        ScoreSets sets = { 0 };
        bool all = true, *earlier = NEWN(a, bool, s.n_comp);
        for (int phase = 0, n = find_phases(&s, group); phase < n && all; phase++) {
            bool any, *in = closure(&s, group, phase, &any);
            if (!any)
                continue;
            ScoreSet *set = new_set(&s, group, in), *rows = phase == n - 1 ? with_rows(&s, group, in, earlier, set) : NULL;
            set = rows && taken(&s, group, rows) ? rows : set;
            all = set == rows || taken(&s, group, set);
            PUSH(a, sets, set);
            for (int c = 0; c < s.n_comp; c++)
                earlier[c] |= in[c];
        }
        for (int i = 0; i < sets.n && all; i++)
            PUSH(a, out, sets.at[i]);
    }
    const Expr **body = NEWN(a, const Expr *, s.n_comp);
    for (int c = 0; c < s.n_comp; c++)
        body[c] = g->comp[c]->body;
    for (int i = 0; i < out.n; i++)                            /* last: the others are found in the graph as it was */
        make_own(&s, out.at[i], body, claimed, n_tensor);
    if (out.n)
        graph_toposort(g);
    return out;
}

void fuse_scores(Fuser *f, const ScoreSets *sets)
{
    const Graph *g = f->g;
    for (int i = 0; i < sets->n; i++) {
        const ScoreSet *set = sets->at[i];
        int first = -1;
        for (int c = 0; c < g->n_comp; c++)
            for (int j = 0; j < set->member.n; j++) {
                Align al;
                if (g->comp[c] != set->member.at[j].comp)
                    continue;
                memcpy(al.axis, set->member.at[j].axis, sizeof al.axis);
                if (first < 0)
                    first = fuser_new(f, c);
                else
                    fuser_join(f, c, first, &al);
                memcpy(f->info[c].axis, al.axis, sizeof al.axis);
            }
        Build *b = f->build.at[first];
        b->cls = K_SCORE;
        b->alone = true;
        b->n_dom = set->n_dom;
        b->n_axis = set->n_dom + 2;
        memcpy(b->ext, set->ext, sizeof b->ext);
    }
}
