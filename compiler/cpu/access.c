/* access.c -- addresses as linear forms, and axes that can be run together. See lower.h.
 *
 * A tensor is row-major, so the element offset of T[maps] is linear in the axes (and in gathers, div and mod atoms),
 * with coefficients that are polynomials of the batch. Two neighbouring axes i (outer) and j act as one when for every
 * access of the kernel the coefficient of i is that of j times j's extent: most kernels become one or two loops. */
#include "cpu/lower.h"
#include <string.h>

/* ---- polynomials */

Poly poly_const(int64_t c)
{
    return (Poly){{c}};
}

Poly poly_ext(Ext e)
{
    return e == EXT_BATCH ? (Poly){{0, 1, 0}} : poly_const(e);
}

Poly poly_add(Poly a, Poly b)
{
    for (int i = 0; i < 3; i++)
        a.c[i] += b.c[i];
    return a;
}

Poly poly_scale(Poly a, int64_t k)
{
    for (int i = 0; i < 3; i++)
        a.c[i] *= k;
    return a;
}

Poly poly_mul(Low *l, Poly a, Poly b)
{
    Poly p = {{0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int64_t c;
            if (!a.c[i] || !b.c[j])
                continue;
            if (!checked_mul(a.c[i], b.c[j], &c) || i + j > 2) {
                low_fail(l, "a size is more than quadratic in the batch or beyond 64 bits");
                return p;
            }
            p.c[i + j] += c;
        }
    return p;
}

bool poly_same(Poly a, Poly b)
{
    return !memcmp(&a, &b, sizeof a);
}

bool poly_is(Poly a, int64_t c)
{
    return a.c[0] == c && !a.c[1] && !a.c[2];
}

bool poly_fixed(Poly a, int64_t *c)
{
    *c = a.c[0];
    return !a.c[1] && !a.c[2];
}

int poly_order(Poly a, Poly b)
{
    for (int i = 2; i >= 0; i--)
        if (a.c[i] != b.c[i])
            return a.c[i] < b.c[i] ? -1 : 1;
    return 0;
}

int64_t poly_guess(Poly p)
{
    return p.c[0] + 64 * p.c[1] + 4096 * p.c[2];
}

/* ---- places */

int tensor_arg(const Low *l, int tensor)
{
    for (int i = 0; i < l->k->n_args; i++)
        if (l->k->args[i] == tensor)
            return i;
    return -1;
}

Mem tensor_layout(Low *l, int tensor)
{
    const Tensor *t = &l->graph->tensor[tensor];
    Mem p = {.dtype = t->dtype, .rank = t->rank};
    Poly stride = poly_const(1);
    for (int d = t->rank - 1; d >= 0; d--) {
        p.stride[d] = stride;
        stride = poly_mul(l, stride, poly_ext(t->shape[d]));
    }
    return p;
}

Mem tensor_mem(Low *l, int tensor)
{
    Mem p = tensor_layout(l, tensor);
    int arg = tensor_arg(l, tensor);
    if (arg < 0) {
        low_fail(l, "tensor %%%d (%s) is not an argument of its kernel", tensor, l->graph->tensor[tensor].name);
        arg = 0;
    }
    p.base = gen_buffer(l->g, arg);
    return p;
}

Lin linear(Low *l, const Mem *p, const Affine *const *idx)
{
    Lin lin = {0};
    for (int d = 0; d < p->rank; d++) {
        const Affine *a = idx[d];
        lin.c = poly_add(lin.c, poly_scale(p->stride[d], a->c - p->from[d]));
        for (int i = 0; i < a->n; i++) {
            const Term *t = &a->term[i];
            Poly coef = poly_scale(p->stride[d], t->coef);
            if (t->kind == AT_AXIS) {
                if (!(p->without >> t->axis & 1))
                    lin.axis[t->axis] = poly_add(lin.axis[t->axis], coef);
            } else if (lin.n_atoms < (int)LEN(lin.atom)) {
                lin.atom[lin.n_atoms].term = t;
                lin.atom[lin.n_atoms++].coef = coef;
            } else {
                low_fail(l, "an index map with more than %d gathers, quotients and remainders", (int)LEN(lin.atom));
            }
        }
    }
    return lin;
}

/* ---- what a kernel touches */

static uint32_t term_axes(const Term *t)
{
    return t->kind == AT_AXIS ? 1u << t->axis : t->kind == AT_LOAD ? t->load->axes : aff_axes(t->arg);
}

/* Axes used by quotients and remainders, and inside index values: they must keep their own values. */
static void mark_opaque(const Affine *a, Accesses *out)
{
    for (int i = 0; i < a->n; i++)
        if (a->term[i].kind == AT_DIV || a->term[i].kind == AT_MOD)
            out->opaque |= term_axes(&a->term[i]);
}

static void add_access(Low *l, const Mem *p, const Affine *const *idx, bool is_store, Accesses *out)
{
    Access a = {.lin = linear(l, p, idx), .store = is_store, .weight = 1};
    for (int i = 0; i < a.lin.n_atoms; i++)
        a.atom_axes |= term_axes(a.lin.atom[i].term);
    for (int d = 0; d < p->rank; d++)
        mark_opaque(idx[d], out);
    PUSH(l->arena, out->a, a);
}

static const Member *member_of(const Low *l, const Expr *e)
{
    for (int i = 0; i < l->n_member; i++)
        if (l->member[i].c->out == e->tensor)
            return &l->member[i];
    return NULL;
}

typedef ARRAY(const Expr *) Seen;

static void index_values(Low *l, const Expr *e, Accesses *out, Seen *seen)
{
    for (int i = 0; i < seen->n; i++)
        if (seen->at[i] == e)
            return;
    PUSH(l->arena, *seen, e);
    if (e->kind == E_INDEX)
        out->opaque |= aff_axes(e->aff);
    if (e->kind == E_OP)
        for (int i = 0; i < e->n; i++)
            index_values(l, e->arg[i], out, seen);
}

void access_loads(Low *l, const Expr *e, Accesses *out)
{
    Seen seen = {0};
    index_values(l, e, out, &seen);
    int n = expr_loads(e, NULL, 0);
    const Expr **load = NEWN(l->arena, const Expr *, n);
    expr_loads(e, load, n);
    for (int i = 0; i < n; i++) {
        const Member *m = member_of(l, load[i]);
        if (m && !m->placed)
            continue;                  /* in a register */
        Mem p = m ? m->mem : tensor_layout(l, load[i]->tensor);
        add_access(l, &p, load[i]->idx, false, out);
    }
}

void access_store(Low *l, const Comp *c, Accesses *out)
{
    Mem p = tensor_layout(l, c->out);
    add_access(l, &p, c->store, true, out);
}

void access_comp(Low *l, const Comp *c, Accesses *out)
{
    access_loads(l, c->body, out);
    access_store(l, c, out);
}

/* ---- axes */

void sort_axes(const Access *a, int *axis, int n)
{
    for (int i = 1; i < n; i++)        /* stable insertion: equal coefficients keep their order */
        for (int j = i; j > 0 && poly_order(a->lin.axis[axis[j - 1]], a->lin.axis[axis[j]]) < 0; j--) {
            int t = axis[j];
            axis[j] = axis[j - 1];
            axis[j - 1] = t;
        }
}

static bool can_merge(Low *l, const Accesses *acc, int outer, const Group *inner)
{
    if (acc->opaque >> outer & 1 || acc->opaque >> inner->axis & 1)
        return false;
    for (int i = 0; i < acc->a.n; i++) {
        const Lin *lin = &acc->a.at[i].lin;
        if (!poly_same(lin->axis[outer], poly_mul(l, lin->axis[inner->axis], inner->n)))
            return false;
    }
    return true;
}

int merge_axes(Low *l, const Accesses *acc, const Ext *ext, const int *axis, int n, Group *out, uint32_t *zero)
{
    Group g[MAX_AXES];                 /* innermost first */
    int count = 0;
    for (int i = n - 1; i >= 0; i--) {
        int a = axis[i];
        Poly size = poly_ext(ext[a]);
        if (poly_is(size, 1)) {
            *zero |= 1u << a;
        } else if (count && can_merge(l, acc, a, &g[count - 1])) {
            *zero |= 1u << a;
            g[count - 1].n = poly_mul(l, g[count - 1].n, size);
        } else {
            g[count++] = (Group){a, size};
        }
    }
    for (int i = 0; i < count; i++)
        out[i] = g[count - 1 - i];
    return count;
}

int best_lanes(const Low *l, const Accesses *acc, const Group *grp, int n)
{
    int best = -1;
    double least = 0;
    for (int k = n - 1; k >= 0; k--) {
        double cost = 0;
        for (int i = 0; i < acc->a.n; i++) {
            const Access *a = &acc->a.at[i];
            Poly c = a->lin.axis[grp[k].axis];
            double one = poly_is(c, 0) ? 0.2 : poly_is(c, 1) ? 1 : 16;
            if (a->atom_axes >> grp[k].axis & 1)
                one = 24;
            cost += one * a->weight;
        }
        /* lanes that are left empty */
        int64_t w = l->g->t->lanes, size = poly_guess(grp[k].n);
        if (size > 0)
            cost *= (double)((size + w - 1) / w * w) / (double)size;
        if (best < 0 || cost < least) {
            best = k;
            least = cost;
        }
    }
    return best;
}

Poly group_points(Low *l, const Group *grp, int n, int without)
{
    Poly p = poly_const(1);
    for (int i = 0; i < n; i++)
        if (i != without)
            p = poly_mul(l, p, grp[i].n);
    return p;
}
