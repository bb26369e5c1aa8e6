/* access.c -- addresses as linear forms, and axes that can be run together. See lower.h.
 *
 * A tensor is row-major, so the element offset of T[maps] is linear in the axes (and in gathers, div and mod atoms),
 * with coefficients that are polynomials of the batch. Two neighbouring axes i (outer) and j act as one when for every
 * access of the kernel the coefficient of i is that of j times j's extent: most kernels become one or two loops. */
#include "cuda/lower.h"
#include <string.h>

/* ---- polynomials */

Poly pl_const(int64_t c)
{
    return (Poly){{c}};
}

Poly pl_ext(Ext e)
{
    return e == EXT_BATCH ? (Poly){{0, 1, 0}} : pl_const(e);
}

Poly pl_add(Poly a, Poly b)
{
    for (int i = 0; i < 3; i++)
        a.c[i] += b.c[i];
    return a;
}

Poly pl_scale(Poly a, int64_t k)
{
    for (int i = 0; i < 3; i++)
        a.c[i] *= k;
    return a;
}

Poly pl_mul(Cu *l, Poly a, Poly b)
{
    Poly p = {{0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int64_t c;
            if (!a.c[i] || !b.c[j])
                continue;
            if (!checked_mul(a.c[i], b.c[j], &c) || i + j > 2) {
                cu_fail(l, "a size is more than quadratic in the batch or beyond 64 bits");
                return p;
            }
            p.c[i + j] += c;
        }
    return p;
}

bool pl_same(Poly a, Poly b)
{
    return !memcmp(&a, &b, sizeof a);
}

bool pl_is(Poly a, int64_t c)
{
    return a.c[0] == c && !a.c[1] && !a.c[2];
}

bool pl_fixed(Poly a, int64_t *c)
{
    *c = a.c[0];
    return !a.c[1] && !a.c[2];
}

int pl_order(Poly a, Poly b)
{
    for (int i = 2; i >= 0; i--)
        if (a.c[i] != b.c[i])
            return a.c[i] < b.c[i] ? -1 : 1;
    return 0;
}

bool pl_divides(Poly a, int64_t k)
{
    return a.c[0] % k == 0 && a.c[1] % k == 0 && a.c[2] % k == 0;
}

bool pl_small(Poly a)
{
    enum { MOST_BATCH = 32768 };
    double most = 0;
    for (int i = 2; i >= 0; i--)
        most = most * MOST_BATCH + (double)(a.c[i] < 0 ? -a.c[i] : a.c[i]);
    return most < 2147483647.0;
}

const char *pl_text(Cu *l, Poly p)
{
    static const char *const power[] = {"", "B", "B * B"};
    bool small = pl_small(p);
    int64_t fixed;
    if (pl_fixed(p, &fixed))
        return arena_printf(l->arena, small ? "%lld" : "%lldll", (long long)fixed);
    Text t = {.arena = l->arena};
    for (int i = 2; i >= 0; i--) {
        if (!p.c[i])
            continue;
        text_printf(&t, "%s%s%s", t.n ? " + " : "(", small || !i ? "" : "(i64)", power[i]);
        if (!i || p.c[i] != 1)
            text_printf(&t, "%s%lld", i ? " * " : "", (long long)p.c[i]);
    }
    text_char(&t, ')');
    return text_data(&t);
}

/* ---- places */

int cu_arg(const Cu *l, int tensor)
{
    for (int i = 0; i < l->k->n_args; i++)
        if (l->k->args[i] == tensor)
            return i;
    return -1;
}

int cu_member(const Cu *l, int tensor)
{
    for (int i = 0; i < l->k->n_comp; i++)
        if (l->k->comp[i].out == tensor)
            return i;
    return -1;
}

bool cu_is_written(const Cu *l, int tensor)
{
    for (int i = 0; i < l->k->n_writes; i++)
        if (l->k->writes[i] == tensor)
            return true;
    return false;
}

CuLin cu_linear(Cu *l, int tensor, const Affine *const *idx)
{
    const Tensor *x = &l->graph->tensor[tensor];
    CuLin lin = {0};
    Poly stride = pl_const(1);
    for (int d = x->rank - 1; d >= 0; d--) {
        const Affine *a = idx[d];
        lin.c = pl_add(lin.c, pl_scale(stride, a->c));
        for (int i = 0; i < a->n; i++) {
            const Term *t = &a->term[i];
            Poly coef = pl_scale(stride, t->coef);
            if (t->kind == AT_AXIS) {
                lin.axis[t->axis] = pl_add(lin.axis[t->axis], coef);
            } else if (lin.n_atoms < (int)LEN(lin.atom)) {
                lin.atom[lin.n_atoms].term = t;
                lin.atom[lin.n_atoms++].coef = coef;
            } else {
                cu_fail(l, "an index map with more than %d gathers, quotients and remainders", (int)LEN(lin.atom));
            }
        }
        stride = pl_mul(l, stride, pl_ext(x->shape[d]));
    }
    return lin;
}

/* ---- what a kernel touches */

static uint32_t term_axes(const Term *t)
{
    return t->kind == AT_AXIS ? 1u << t->axis : t->kind == AT_LOAD ? t->load->axes : aff_axes(t->arg);
}

static void add_access(Cu *l, int tensor, const Affine *const *idx, bool is_store, CuAccesses *out)
{
    CuAccess a = {.lin = cu_linear(l, tensor, idx), .store = is_store};
    for (int i = 0; i < a.lin.n_atoms; i++)
        a.atom_axes |= term_axes(a.lin.atom[i].term);
    for (int d = 0; d < l->graph->tensor[tensor].rank; d++)
        for (int i = 0; i < idx[d]->n; i++)      /* quotients and remainders want the axis itself */
            if (idx[d]->term[i].kind != AT_AXIS)
                out->opaque |= term_axes(&idx[d]->term[i]);
    PUSH(l->arena, out->a, a);
}

typedef ARRAY(const Expr *) Seen;

static void index_values(Cu *l, const Expr *e, CuAccesses *out, Seen *seen)
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

void cu_access_loads(Cu *l, const Expr *e, CuAccesses *out)
{
    Seen seen = {0};
    index_values(l, e, out, &seen);
    int n = expr_loads(e, NULL, 0);
    const Expr **load = NEWN(l->arena, const Expr *, n);
    expr_loads(e, load, n);
    for (int i = 0; i < n; i++) {
        int m = cu_member(l, load[i]->tensor);
        if (m < 0 || l->placed[m])
            add_access(l, load[i]->tensor, load[i]->idx, false, out);
    }
}

void cu_access_store(Cu *l, const Comp *c, CuAccesses *out)
{
    add_access(l, c->out, c->store, true, out);
}

/* ---- axes */

void cu_sort_axes(const CuAccess *a, int *axis, int n)
{
    for (int i = 1; i < n; i++)        /* stable insertion: equal coefficients keep their order */
        for (int j = i; j > 0 && pl_order(a->lin.axis[axis[j - 1]], a->lin.axis[axis[j]]) < 0; j--) {
            int t = axis[j];
            axis[j] = axis[j - 1];
            axis[j - 1] = t;
        }
}

static bool can_merge(Cu *l, const CuAccesses *acc, int outer, const CuGroup *inner)
{
    if (acc->opaque >> outer & 1 || acc->opaque >> inner->axis & 1)
        return false;
    for (int i = 0; i < acc->a.n; i++) {
        const CuLin *lin = &acc->a.at[i].lin;
        if (!pl_same(lin->axis[outer], pl_mul(l, lin->axis[inner->axis], inner->n)))
            return false;
    }
    return true;
}

int cu_merge_axes(Cu *l, const CuAccesses *acc, const Ext *ext, const int *axis, int n, CuGroup *out, uint32_t *zero)
{
    CuGroup g[MAX_AXES];               /* innermost first */
    int count = 0;
    for (int i = n - 1; i >= 0; i--) {
        int a = axis[i];
        Poly size = pl_ext(ext[a]);
        if (pl_is(size, 1)) {
            *zero |= 1u << a;
        } else if (count && can_merge(l, acc, a, &g[count - 1])) {
            *zero |= 1u << a;
            g[count - 1].n = pl_mul(l, g[count - 1].n, size);
        } else {
            g[count++] = (CuGroup){a, size};
        }
    }
    for (int i = 0; i < count; i++)
        out[i] = g[count - 1 - i];
    return count;
}

int cu_best_lanes(const CuAccesses *acc, const CuGroup *grp, int n)
{
    int best = -1;
    double least = 0;
    for (int k = n - 1; k >= 0; k--) {
        double cost = 0;
        for (int i = 0; i < acc->a.n; i++) {
            const CuAccess *a = &acc->a.at[i];
            Poly c = a->lin.axis[grp[k].axis];
            double one = pl_is(c, 0) ? 0.2 : pl_is(c, 1) ? 1 : 16;
            if (a->atom_axes >> grp[k].axis & 1)
                one = 24;
            cost += one;
        }
        int64_t size;
        if (pl_fixed(grp[k].n, &size) && size > 0 && size < CU_WARP)      /* lanes that are left empty */
            cost *= (double)CU_WARP / (double)size;
        if (best < 0 || cost < least) {
            best = k;
            least = cost;
        }
    }
    return best;
}

Poly cu_points(Cu *l, const CuGroup *grp, int n, int without)
{
    Poly p = pl_const(1);
    for (int i = 0; i < n; i++)
        if (i != without)
            p = pl_mul(l, p, grp[i].n);
    return p;
}

/* Whether runs of w points along the axis are aligned accesses. */
static bool takes(const CuAccess *a, int axis, int w)
{
    if (!pl_is(a->lin.axis[axis], 1) || a->atom_axes >> axis & 1 || !pl_divides(a->lin.c, w))
        return false;
    for (int k = 0; k < MAX_AXES; k++)
        if (k != axis && !pl_divides(a->lin.axis[k], w))
            return false;
    for (int i = 0; i < a->lin.n_atoms; i++)
        if (!pl_divides(a->lin.atom[i].coef, w))
            return false;
    return true;
}

int cu_width(const CuAccesses *acc, CuGroup lane)
{
    for (int w = CU_WIDTH; w > 1; w /= 2) {
        int wide = 0, narrow = 0;
        if (!pl_divides(lane.n, w))
            continue;
        for (int i = 0; i < acc->a.n; i++) {
            const CuAccess *a = &acc->a.at[i];
            if (takes(a, lane.axis, w))
                wide++;
            else if (!pl_is(a->lin.axis[lane.axis], 0) || a->atom_axes >> lane.axis & 1)
                narrow++;
        }
        if (wide > narrow)
            return w;
    }
    return 1;
}
