/* join.c -- may this Comp be part of that kernel, and how would it lie in it.
 *
 * Two questions, kept apart. Alignment: which kernel axis is each axis of the Comp? A load of a member's result
 * answers it dimension by dimension, when both the store map there and the index map here are bare axes. Legality:
 * no path of dependencies may leave the kernel and come back, or the kernels could not be put in an order. */
#include "pass/fuse.h"
#include <stdlib.h>
#include <string.h>

/* ---- dependencies */

static bool contains(const Ints *xs, int x)
{
    for (int i = 0; i < xs->n; i++)
        if (xs->at[i] == x)
            return true;
    return false;
}

static bool bit(const uint64_t *set, int i)
{
    return set[i / 64] >> (i % 64) & 1;
}

static void or_into(uint64_t *to, const uint64_t *from, int words)
{
    for (int i = 0; i < words; i++)
        to[i] |= from[i];
}

/* Kernel x now runs after `on`, hence after all that runs before `on`; and so does what runs after x. */
void fuser_depend(Fuser *f, int x, int on)
{
    uint64_t **before = f->before.at;
    if (x == on || bit(before[x], on))
        return;
    or_into(before[x], before[on], f->words);
    before[x][on / 64] |= 1ull << (on % 64);
    for (int i = 0; i < f->build.n; i++)
        if (bit(before[i], x))
            or_into(before[i], before[x], f->words);
}

bool fuser_reaches(const Fuser *f, int a, int b)
{
    return a == b || bit(f->before.at[b], a);
}

bool fuser_legal(Fuser *f, int c, int n)
{
    const CompInfo *k = &f->info[c];
    for (int i = 0; i < k->n_load; i++) {
        const Ints *p = &f->pieces[k->load[i]->tensor];
        for (int j = 0; j < p->n; j++) {
            int w = f->info[p->at[j]].kernel;
            if (w >= 0 && w != n && fuser_reaches(f, n, w))
                return false;
        }
    }
    const Ints *u = &f->users[f->g->comp[c]->out];
    for (int i = 0; i < u->n; i++) {                           /* readers that were placed before */
        int w = f->info[u->at[i]].kernel;
        if (w >= 0 && w != n && fuser_reaches(f, w, n))
            return false;
    }
    return true;
}

/* ---- placing */

static void enter(Fuser *f, int c, int n)
{
    Build *b = f->build.at[n];
    CompInfo *k = &f->info[c];
    k->kernel = n;
    PUSH(f->a, b->comp, c);
    b->last = b->comp.n == 1 || c > b->last ? c : b->last;
    for (int i = 0; i < k->n_load; i++) {
        int t = k->load[i]->tensor;
        const Ints *p = &f->pieces[t];
        for (int j = 0; j < p->n; j++)
            if (f->info[p->at[j]].kernel >= 0)
                fuser_depend(f, n, f->info[p->at[j]].kernel);
        if (!f->readers[t].n || f->readers[t].at[f->readers[t].n - 1] != n)
            PUSH(f->a, f->readers[t], n);
    }
    const Ints *u = &f->users[f->g->comp[c]->out];
    for (int i = 0; i < u->n; i++)
        if (f->info[u->at[i]].kernel >= 0)
            fuser_depend(f, f->info[u->at[i]].kernel, n);
}

void fuser_join(Fuser *f, int c, int n, const Align *al)
{
    memcpy(f->info[c].axis, al->axis, sizeof al->axis);
    enter(f, c, n);
}

/* The fastest axis of a load in memory: of the last dimension that has one, the axis of the smallest coefficient. */
static int fastest(const Expr *l)
{
    for (int d = l->n - 1; d >= 0; d--) {
        const Affine *x = l->idx[d];
        int best = -1;
        for (int i = 0; i < x->n && x->term[i].kind == AT_AXIS; i++)
            if (best < 0 || llabs(x->term[i].coef) < llabs(x->term[best].coef))
                best = i;
        if (best >= 0)
            return x->term[best].axis;
    }
    return -1;
}

/* The load over the most points, among equals the one with the most bare axes: what a reduction mostly reads. */
static const Expr *big_load(const Fuser *f, int c)
{
    const CompInfo *k = &f->info[c];
    const Expr *best = NULL;
    double most = 0;
    int bare = 0;
    for (int i = 0; i < k->n_load; i++) {
        const Expr *l = k->load[i];
        int n_bare = 0;
        for (int d = 0; d < l->n; d++)
            n_bare += aff_plain(l->idx[d]) >= 0;
        double n = points(f->g->comp[c]->ext, l->axes, TYPICAL_BATCH);
        if (fastest(l) >= 0 && (n > most || (n == most && n_bare > bare))) {
            best = l;
            most = n;
            bare = n_bare;
        }
    }
    return best;
}

bool reduces_rows(const Fuser *f, int c)
{
    const Comp *k = f->g->comp[c];
    const Expr *b = big_load(f, c);
    if (k->reducer == RED_ARGMAX)
        return true;
    if (!free_axes(k))
        return false;
    return !b || k->red >> fastest(b) & 1;
}

/* Axes of `of` in the order of load l's dimensions, then the rest by number. */
static int load_order(const Comp *k, const Expr *l, uint32_t of, int *out)
{
    int n = 0;
    uint32_t seen = 0;
    for (int d = 0; l && d < l->n; d++) {
        int axis[MAX_AXES], m = aff_order(l->idx[d], axis);
        for (int i = 0; i < m; i++) {
            if (of >> axis[i] & 1 & ~(seen >> axis[i]))
                out[n++] = axis[i];
            seen |= 1u << axis[i];
        }
    }
    for (int a = 0; a < k->n_axes; a++)
        if (of >> a & 1 & ~(seen >> a))
            out[n++] = a;
    return n;
}

int fuser_new(Fuser *f, int c)
{
    const Comp *k = f->g->comp[c];
    CompInfo *info = &f->info[c];
    Build *b = NEW(f->a, Build);
    int order[MAX_AXES];
    Sides s;
    b->update = info->update;
    b->alone = info->alone;
    b->again = info->again;
    b->cls = info->host ? K_HOST : k->reducer == RED_SCATTER ? K_SCATTER : info->contracts ? K_CONTRACT :
             k->reducer == RED_NONE ? K_MAP : reduces_rows(f, c) ? K_ROW : K_REDUCE;
    if (b->cls == K_SCATTER)
        b->n_dom = load_order(k, NULL, axes_mask(k->n_axes), order);
    else if (b->cls == K_ROW)
        b->n_dom = load_order(k, big_load(f, c), free_axes(k), order);
    else
        b->n_dom = store_order(f->g, k, free_axes(k), order);
    b->n_axis = b->n_dom;
    if (b->cls == K_CONTRACT)
        b->n_axis += load_order(k, comp_sides(f->g, k, &s) ? s.a : NULL, k->red, order + b->n_dom);
    else if (b->cls != K_SCATTER)
        b->n_axis += load_order(k, big_load(f, c), k->red, order + b->n_dom);
    for (int i = 0; i < b->n_axis; i++) {
        info->axis[order[i]] = i;
        b->ext[i] = k->ext[order[i]];
    }
    PUSH(f->a, f->build, b);
    PUSH(f->a, f->before, NEWN(f->a, uint64_t, f->words));
    enter(f, c, f->build.n - 1);
    return f->build.n - 1;
}

/* ---- alignment */

static Align align_none(void)
{
    Align al = { .bound = 0 };
    for (int i = 0; i < MAX_AXES; i++)
        al.axis[i] = -1;
    return al;
}

static bool bind(const Fuser *f, Align *al, int c, int n, int axis, int kernel_axis)
{
    if (al->bound >> axis & 1)
        return al->axis[axis] == kernel_axis;
    if (al->used >> kernel_axis & 1 || f->g->comp[c]->ext[axis] != f->build.at[n]->ext[kernel_axis])
        return false;
    al->axis[axis] = kernel_axis;
    al->bound |= 1u << axis;
    al->used |= 1u << kernel_axis;
    return true;
}

/* Load l of Comp c against a map of member q: bare axes on both sides become one kernel axis. `all`: every dimension
 * must be bare. */
static bool bind_load(const Fuser *f, Align *al, int c, int n, const Expr *l, int q, const Affine *const *map, bool all)
{
    for (int d = 0; d < l->n; d++) {
        int mine = aff_plain(l->idx[d]), theirs = aff_plain(map[d]);
        if (mine < 0 || theirs < 0) {
            if (all || mine >= 0 || theirs >= 0)
                return false;
            continue;
        }
        if (!bind(f, al, c, n, mine, f->info[q].axis[theirs]))
            return false;
    }
    return true;
}

/* Is member q of kernel n a sum over the kernel's domain, or of a side of a contraction? It is not there before the kernel has
 * ended. */
static bool is_column_sum(const Fuser *f, int q, int n)
{
    const Comp *k = f->g->comp[q];
    if (f->build.at[n]->cls == K_CONTRACT)
        return k->reducer != RED_NONE && !f->info[q].contracts;
    for (int a = 0; a < k->n_axes; a++)
        if (k->red >> a & 1 && f->info[q].axis[a] < f->build.at[n]->n_dom)
            return true;
    return false;
}

/* Binds through all loads of members' results; false when one of them is not at the same point, or only part of its
 * tensor is made in the kernel, or only when the kernel ends. *own: how many there are. */
static bool bind_own(const Fuser *f, Align *al, int c, int n, int *own)
{
    const CompInfo *k = &f->info[c];
    *own = 0;
    for (int i = 0; i < k->n_load; i++) {
        const Ints *p = &f->pieces[k->load[i]->tensor];
        bool inside = false;
        for (int j = 0; j < p->n; j++)
            inside |= f->info[p->at[j]].kernel == n;
        if (!inside)
            continue;
        (*own)++;
        if (p->n > 1 || is_column_sum(f, p->at[0], n) || !bind_load(f, al, c, n, k->load[i], p->at[0], f->g->comp[p->at[0]]->store, true))
            return false;
    }
    return true;
}

static bool all_bound(const Fuser *f, const Align *al, int c, int n)
{
    const Build *b = f->build.at[n];
    return al->bound == axes_mask(f->g->comp[c]->n_axes) && al->used == axes_mask(b->n_dom);
}

/* Totals without the batch: those of many tensors become one kernel later, if nothing else is in theirs (pass/sets.c). */
static bool is_for_sets(const Build *b)
{
    bool batch = false;
    for (int i = 0; i < b->n_axis; i++)
        batch |= b->ext[i] == EXT_BATCH;
    return !b->n_dom && !batch;
}

/* Is REDUCE kernel n one that another may take, if it stays as it is? A contraction takes the sum of a side. */
static bool goes_elsewhere(const Fuser *f, int n)
{
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[b->comp.at[0]];
    Product p;
    bool side = b->comp.n == 1 && b->n_dom && k->reducer == RED_SUM && product_of(f->g, k->body, &p) && p.n == 1 && p.factor[0]->kind == E_LOAD;
    return side || is_for_sets(b);
}

bool align_pointwise(Fuser *f, int c, int n, Align *al)
{
    int own;
    *al = align_none();
    const Build *b = f->build.at[n];
    if (f->g->comp[c]->reducer != RED_NONE || (b->cls == K_CONTRACT && f->info[c].gathers) || (b->cls == K_REDUCE && goes_elsewhere(f, n)))
        return false;
    return bind_own(f, al, c, n, &own) && own && all_bound(f, al, c, n);
}

bool align_sibling(Fuser *f, int c, int n, Align *al)
{
    const Build *b = f->build.at[n];
    const CompInfo *k = &f->info[c];
    if (f->g->comp[c]->reducer != RED_NONE)
        return false;
    for (int i = 0; i < k->n_load; i++) {
        const Expr *l = k->load[i];
        if (!dtype_real(f->g->tensor[l->tensor].dtype) || l->n != b->n_dom || !contains(&f->readers[l->tensor], n))
            continue;
        for (int j = 0; j < b->comp.n; j++) {
            const CompInfo *q = &f->info[b->comp.at[j]];
            for (int m = 0; m < q->n_load; m++) {
                int own;
                if (q->load[m]->tensor != l->tensor)
                    continue;
                *al = align_none();
                if (bind_load(f, al, c, n, l, b->comp.at[j], q->load[m]->idx, true) && bind_own(f, al, c, n, &own) &&
                    all_bound(f, al, c, n))
                    return true;
            }
        }
    }
    return false;
}

/* The rows are bound; what is left of c's axes must be the kernel's inner axes, or nothing. */
static bool finish_row(Fuser *f, Align *al, int c, int n)
{
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    int order[MAX_AXES], inner = k->n_axes - b->n_dom;
    uint32_t rows = axes_mask(b->n_dom);
    if ((al->used & rows) != rows || (inner != 0 && inner != b->n_axis - b->n_dom))
        return false;
    int left = load_order(k, big_load(f, c), axes_mask(k->n_axes) & ~al->bound, order);
    for (int i = 0, at = b->n_dom; i < left; i++) {
        while (al->used >> at & 1)
            at++;
        if (!bind(f, al, c, n, order[i], at))
            return false;
    }
    for (int a = 0; a < k->n_axes; a++)                        /* all inner axes are reduced, or none */
        if ((k->red >> a & 1) != (k->red && al->axis[a] >= b->n_dom))
            return false;
    return k->reducer == RED_NONE || inner > 0;
}

/* Aligns c so that l, a tensor that the kernel reads too, is read where one of its members reads it, and `fits` agrees. */
static bool align_beside(Fuser *f, Align *al, int c, int n, const Expr *l, bool (*fits)(Fuser *f, Align *al, int c, int n))
{
    const Build *b = f->build.at[n];
    const Align start = *al;
    if (!contains(&f->readers[l->tensor], n))
        return false;
    for (int j = 0; j < b->comp.n; j++) {
        const CompInfo *q = &f->info[b->comp.at[j]];
        for (int m = 0; m < q->n_load; m++) {
            if (q->load[m]->tensor != l->tensor)
                continue;
            *al = start;
            if (bind_load(f, al, c, n, l, b->comp.at[j], q->load[m]->idx, false) && fits(f, al, c, n))
                return true;
        }
    }
    *al = start;
    return false;
}

bool align_row(Fuser *f, int c, int n, bool sibling, Align *al)
{
    const Build *b = f->build.at[n];
    const CompInfo *k = &f->info[c];
    int own;
    *al = align_none();
    if (!bind_own(f, al, c, n, &own))
        return false;
    if (!sibling)
        return own && finish_row(f, al, c, n);
    for (int i = 0; i < k->n_load; i++)
        if (k->load[i]->n > b->n_dom && align_beside(f, al, c, n, k->load[i], finish_row))
            return true;
    return false;
}

bool align_own_row(Fuser *f, int c, int n, Align *al)
{
    enum { MOST_POINTS = 1024 };                               /* beyond, one row is worth more than the threads of one */
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    int own, order[MAX_AXES];
    *al = align_none();
    if (k->reducer != RED_NONE || b->own_row || !bind_own(f, al, c, n, &own) || !own || al->used != axes_mask(b->n_dom))
        return false;
    uint32_t inner = axes_mask(k->n_axes) & ~al->bound;
    int n_inner = store_order(f->g, k, inner, order);
    for (int i = 0; i < n_inner; i++) {
        if (k->ext[order[i]] == EXT_BATCH)
            return false;
        al->axis[order[i]] = b->n_dom + i;
    }
    return n_inner && b->n_dom + n_inner <= MAX_AXES && points(k->ext, inner, TYPICAL_BATCH) <= MOST_POINTS;
}

/* Are all of c's axes bound, the reduced ones to the rows? */
static bool sums_rows(Fuser *f, Align *al, int c, int n)
{
    const Comp *k = f->g->comp[c];
    bool fits = al->bound == axes_mask(k->n_axes);
    for (int a = 0; fits && a < k->n_axes; a++)
        fits = (k->red >> a & 1) == (al->axis[a] < f->build.at[n]->n_dom);
    return fits;
}

static double tensor_points(const Graph *g, int t)
{
    return points(g->tensor[t].shape, axes_mask(g->tensor[t].rank), TYPICAL_BATCH);
}

/* Partial sums of a kernel's columns stay on chip: there must not be too many of them, whatever the batch is. */
static bool few_columns(const Fuser *f, int c, int n)
{
    enum { MOST_COLUMNS = 16384 };
    const Build *b = f->build.at[n];
    const Tensor *out = &f->g->tensor[f->g->comp[c]->out];
    double columns = tensor_points(f->g, f->g->comp[c]->out);
    for (int i = 0; i < b->comp.n; i++)
        if (is_column_sum(f, b->comp.at[i], n))
            columns += tensor_points(f->g, f->g->comp[b->comp.at[i]]->out);
    for (int d = 0; d < out->rank; d++)
        if (out->shape[d] == EXT_BATCH)
            return false;
    return columns <= MOST_COLUMNS;
}

/* What c sums must be at hand at every point of the rows: a member's result, or a tensor that the kernel reads. */
bool align_columns(Fuser *f, int c, int n, Align *al)
{
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    const CompInfo *info = &f->info[c];
    double all = points(k->ext, axes_mask(k->n_axes), TYPICAL_BATCH);
    int own;
    *al = align_none();
    if (k->reducer != RED_SUM || k->n_axes != b->n_axis || !free_axes(k) || !few_columns(f, c, n) || !bind_own(f, al, c, n, &own))
        return false;
    if (own && sums_rows(f, al, c, n))
        return true;
    for (int i = 0; i < info->n_load; i++)
        if (points(k->ext, info->load[i]->axes, TYPICAL_BATCH) >= all && align_beside(f, al, c, n, info->load[i], sums_rows))
            return true;
    return false;
}

/* Are all of c's axes bound, those that stay to the kernel's domain and the others beyond it? */
static bool same_split(Fuser *f, Align *al, int c, int n)
{
    const Comp *k = f->g->comp[c];
    int own;
    bool fits = al->bound == axes_mask(k->n_axes) && bind_own(f, al, c, n, &own) && !own;
    for (int a = 0; fits && a < k->n_axes; a++)
        fits = (k->red >> a & 1) == (al->axis[a] >= f->build.at[n]->n_dom);
    return fits;
}

/* Binds axes of c one by one to those of the kernel, from number `at` on. */
static bool bind_in_order(Fuser *f, Align *al, int c, int n, const int *order, int count, int at)
{
    for (int i = 0; i < count; i++)
        if (!bind(f, al, c, n, order[i], at + i))
            return false;
    return true;
}

bool align_points(Fuser *f, int c, int n, Align *al)
{
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    int order[MAX_AXES], own;
    *al = align_none();
    return k->reducer == RED_NONE && k->n_axes == b->n_dom && !goes_elsewhere(f, n) &&
           bind_in_order(f, al, c, n, order, store_order(f->g, k, axes_mask(k->n_axes), order), 0) &&
           bind_own(f, al, c, n, &own) && all_bound(f, al, c, n);
}

bool align_total(Fuser *f, int c, int n, Align *al)
{
    enum { MOST_POINTS = 8 * TYPICAL_BATCH, MOST_TOTALS = 8 };
    const Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    int order[MAX_AXES], own;
    *al = align_none();
    return k->reducer != RED_NONE && !free_axes(k) && k->n_axes == b->n_axis && !b->n_dom && !is_for_sets(b) &&
           b->comp.n < MOST_TOTALS && points(k->ext, k->red, TYPICAL_BATCH) <= MOST_POINTS &&
           bind_in_order(f, al, c, n, order, load_order(k, big_load(f, c), k->red, order), 0) && bind_own(f, al, c, n, &own) && !own;
}

bool align_reduce(Fuser *f, int c, int n, Align *al)
{
    const Comp *k = f->g->comp[c];
    const CompInfo *info = &f->info[c];
    double all = points(k->ext, axes_mask(k->n_axes), TYPICAL_BATCH);
    *al = align_none();
    if (k->n_axes != f->build.at[n]->n_axis)
        return false;
    for (int i = 0; i < info->n_load; i++)
        if (points(k->ext, info->load[i]->axes, TYPICAL_BATCH) >= all && align_beside(f, al, c, n, info->load[i], same_split))
            return true;
    return false;
}

const Expr *side_summed(Graph *g, const Comp *c, const Sides *s, double *scale)
{
    Product p;
    if (c->reducer != RED_SUM || !product_of(g, c->body, &p) || p.n != 1 || p.n_guard || (p.factor[0] != s->a && p.factor[0] != s->b))
        return NULL;
    *scale = p.scale;
    return p.factor[0];
}

/* Binds the axes of c, which reads l, to those of the contraction q of kernel n, which reads `side` of the same tensor: term by
 * term, the bare dimensions first. Whether the two are the same access is seen afterwards. */
static bool bind_same(const Fuser *f, Align *al, int c, int n, const Expr *l, int q, const Expr *side)
{
    for (int bare = 1; bare >= 0; bare--)
        for (int d = 0; d < l->n; d++) {
            const Affine *mine = l->idx[d], *theirs = side->idx[d];
            if ((mine->n == 1) != bare)
                continue;
            for (int i = 0; i < mine->n; i++) {
                bool bound = false;
                for (int j = 0; j < theirs->n && !bound; j++)
                    bound = mine->term[i].kind == AT_AXIS && mine->term[i].coef == theirs->term[j].coef &&
                            bind(f, al, c, n, mine->term[i].axis, f->info[q].axis[theirs->term[j].axis]);
                if (!bound)
                    return false;
            }
        }
    return true;
}

bool align_side(Fuser *f, int c, int n, Align *al)
{
    const Ints *member = &f->build.at[n]->comp;
    const Comp *k = f->g->comp[c];
    int q = member->at[0];
    Sides s;
    Product p;
    for (int i = 1; i < member->n; i++)                        /* one sum is enough */
        if (f->g->comp[member->at[i]]->reducer != RED_NONE)
            return false;
    if (k->reducer != RED_SUM || !dtype_real(f->g->tensor[k->out].dtype) || !comp_sides(f->g, f->g->comp[q], &s) ||
        !product_of(f->g, k->body, &p) || p.n != 1 || p.factor[0]->kind != E_LOAD)
        return false;
    for (int b = 0; b < 2; b++) {
        const Expr *side = b ? s.b : s.a, *load = p.factor[0];
        const Affine *map[MAX_AXES] = { NULL };
        uint32_t kept = 0, summed = 0;
        double scale;
        *al = align_none();
        if (load->tensor != side->tensor || !bind_same(f, al, c, n, load, q, side) || al->bound != axes_mask(k->n_axes))
            continue;
        for (int a = 0; a < k->n_axes; a++)
            for (int x = 0; x < f->g->comp[q]->n_axes; x++)
                if (f->info[q].axis[x] == al->axis[a]) {
                    map[a] = aff_axis(f->g, x);
                    *(k->red >> a & 1 ? &summed : &kept) |= 1u << x;
                }
        Comp same = { .reducer = k->reducer, .body = expr_subst(f->g, k->body, map, k->n_axes) };
        if (summed == s.k && kept == (s.batch | (b ? s.n : s.m)) && side_summed(f->g, &same, &s, &scale) == side)
            return true;
    }
    return false;
}

bool row_from_map(Fuser *f, int c, int n)
{
    Build *b = f->build.at[n];
    const Comp *k = f->g->comp[c];
    int own, to[MAX_AXES], at = 0, free = __builtin_popcount(free_axes(k));
    Align al = align_none();
    if (b->cls != K_MAP || !free || !bind_own(f, &al, c, n, &own) || !own || !all_bound(f, &al, c, n))
        return false;
    uint32_t rows = 0;
    for (int a = 0; a < k->n_axes; a++)
        rows |= (uint32_t)!(k->red >> a & 1) << al.axis[a];
    Ext ext[MAX_AXES];
    for (int inner = 0; inner < 2; inner++)
        for (int i = 0; i < b->n_axis; i++)
            if ((int)(rows >> i & 1) != inner) {
                ext[at] = b->ext[i];
                to[i] = at++;
            }
    if (!fuser_legal(f, c, n))
        return false;
    memcpy(b->ext, ext, sizeof ext);
    for (int i = 0; i < b->comp.n; i++) {
        CompInfo *q = &f->info[b->comp.at[i]];
        for (int a = 0; a < f->g->comp[b->comp.at[i]]->n_axes; a++)
            q->axis[a] = to[q->axis[a]];
    }
    for (int a = 0; a < k->n_axes; a++)
        al.axis[a] = to[al.axis[a]];
    b->cls = K_ROW;
    b->n_dom = free;
    fuser_join(f, c, n, &al);
    return true;
}

/* All members of `gone` become members of `keep`; their axes are those of `keep` already. */
static void absorb(Fuser *f, int keep, int gone)
{
    Build *a = f->build.at[keep], *b = f->build.at[gone];
    for (int i = 0; i < b->comp.n; i++) {
        CompInfo *q = &f->info[b->comp.at[i]];
        q->kernel = keep;
        PUSH(f->a, a->comp, b->comp.at[i]);
        for (int k = 0; k < q->n_load; k++)
            PUSH(f->a, f->readers[q->load[k]->tensor], keep);
    }
    a->last = a->last > b->last ? a->last : b->last;
    b->dead = true;
    b->comp.n = 0;
    or_into(f->before.at[keep], f->before.at[gone], f->words);
    f->before.at[keep][keep / 64] &= ~(1ull << (keep % 64));   /* `gone` may have waited for it */
    for (int x = 0; x < f->build.n; x++)
        if (x != keep && (bit(f->before.at[x], gone) || bit(f->before.at[x], keep))) {
            or_into(f->before.at[x], f->before.at[keep], f->words);
            f->before.at[x][keep / 64] |= 1ull << (keep % 64);
        }
}

/* Two MAP kernels that one Comp reads at one point become one, unless a path leads out of the one and into the other. */
bool fuser_merge(Fuser *f, int keep, const Align *in_keep, int gone, const Align *in_gone)
{
    Build *b = f->build.at[gone];
    int to[MAX_AXES];
    for (int x = 0; x < f->build.n; x++) {
        bool other = x != keep && x != gone && !f->build.at[x]->dead;
        if (other && ((fuser_reaches(f, keep, x) && fuser_reaches(f, x, gone)) ||
                      (fuser_reaches(f, gone, x) && fuser_reaches(f, x, keep))))
            return false;
    }
    for (int k = 0; k < MAX_AXES; k++)
        if (in_gone->bound >> k & 1)
            to[in_gone->axis[k]] = in_keep->axis[k];
    for (int i = 0; i < b->comp.n; i++) {
        CompInfo *q = &f->info[b->comp.at[i]];
        for (int k = 0; k < f->g->comp[b->comp.at[i]]->n_axes; k++)
            q->axis[k] = to[q->axis[k]];
    }
    absorb(f, keep, gone);
    return true;
}

bool fuser_move(Fuser *f, int gone, int keep, const Align *al)
{
    if (fuser_reaches(f, gone, keep) || fuser_reaches(f, keep, gone))
        return false;
    memcpy(f->info[f->build.at[gone]->comp.at[0]].axis, al->axis, sizeof al->axis);
    absorb(f, keep, gone);
    return true;
}

bool fuser_follow(Fuser *f, int gone, int keep, const Align *al)
{
    if (fuser_reaches(f, gone, keep))
        return false;
    for (int x = 0; x < f->build.n; x++)
        if (x != keep && x != gone && !f->build.at[x]->dead && fuser_reaches(f, keep, x) && fuser_reaches(f, x, gone))
            return false;
    memcpy(f->info[f->build.at[gone]->comp.at[0]].axis, al->axis, sizeof al->axis);
    absorb(f, keep, gone);
    f->build.at[keep]->own_row = true;
    return true;
}
