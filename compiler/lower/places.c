/* places.c -- see places.h. */
#include "lower/places.h"
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

static void fault(Places *p, const char *what)
{
    p->fault = p->fault ? p->fault : what;
}

Poly poly_mul(Places *p, Poly a, Poly b)
{
    Poly out = {{0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int64_t c;
            if (!a.c[i] || !b.c[j])
                continue;
            if (!checked_mul(a.c[i], b.c[j], &c) || i + j > 2) {
                fault(p, "a size is more than quadratic in the batch or beyond 64 bits");
                return out;
            }
            out.c[i + j] += c;
        }
    return out;
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

bool poly_divides(Poly a, int64_t k)
{
    return a.c[0] % k == 0 && a.c[1] % k == 0 && a.c[2] % k == 0;
}

int64_t poly_guess(Poly p)
{
    return p.c[0] + 64 * p.c[1] + 4096 * p.c[2];
}

/* ---- addresses */

Layout layout_of(Places *p, int tensor)
{
    const Tensor *t = &p->graph->tensor[tensor];
    Layout at = {.rank = t->rank};
    Poly stride = poly_const(1);
    for (int d = t->rank - 1; d >= 0; d--) {
        at.stride[d] = stride;
        stride = poly_mul(p, stride, poly_ext(t->shape[d]));
    }
    return at;
}

Lin linear(Places *p, const Layout *at, const Affine *const *idx)
{
    Lin lin = {0};
    for (int d = 0; d < at->rank; d++) {
        const Affine *a = idx[d];
        lin.c = poly_add(lin.c, poly_scale(at->stride[d], a->c - at->from[d]));
        for (int i = 0; i < a->n; i++) {
            const Term *t = &a->term[i];
            Poly coef = poly_scale(at->stride[d], t->coef);
            if (t->kind == AT_AXIS) {
                if (!(at->without >> t->axis & 1))
                    lin.axis[t->axis] = poly_add(lin.axis[t->axis], coef);
            } else if (lin.n_atoms < (int)LEN(lin.atom)) {
                lin.atom[lin.n_atoms].term = t;
                lin.atom[lin.n_atoms++].coef = coef;
            } else {
                fault(p, "an index map has too many gathers, quotients and remainders");
            }
        }
    }
    return lin;
}

Lin tensor_linear(Places *p, int tensor, const Affine *const *idx)
{
    Layout at = layout_of(p, tensor);
    return linear(p, &at, idx);
}

int kernel_arg(const Kernel *k, int tensor)
{
    for (int i = 0; i < k->n_args; i++)
        if (k->args[i] == tensor)
            return i;
    return -1;
}

int kernel_member(const Kernel *k, int tensor)
{
    for (int i = 0; i < k->n_comp; i++)
        if (k->comp[i].out == tensor)
            return i;
    return -1;
}

bool kernel_writes(const Kernel *k, int tensor)
{
    for (int i = 0; i < k->n_writes; i++)
        if (k->writes[i] == tensor)
            return true;
    return false;
}

int workspace_of(Fused *f, Poly n)
{
    Graph *g = f->graph;
    Ext shape[MAX_RANK];
    int rank = 0;
    for (int power = 2; power > 0; power--)
        for (int k = 0; n.c[power] && k < power; k++)
            shape[rank++] = EXT_BATCH;
    shape[rank++] = n.c[0] ? n.c[0] : n.c[1] ? n.c[1] : n.c[2];
    int t = graph_tensor(g, "workspace", rank, shape, T_TEMP, DT_F32);
    int *storage = NEWN(g->arena, int, g->n_tensor);
    memcpy(storage, f->storage, (size_t)t * sizeof *storage);
    storage[t] = t;
    f->storage = storage;
    return t;
}

void kernel_fails(const Kernel *k, bool *failed, Text *why, const char *fmt, va_list args)
{
    if (*failed)
        return;
    *failed = true;
    text_printf(why, "kernel `%s` (%s): ", k->label ? k->label : "", kernel_class_name[k->cls]);
    text_vprintf(why, fmt, args);
}

/* ---- what a kernel touches */

static uint32_t term_axes(const Term *t)
{
    return t->kind == AT_AXIS ? 1u << t->axis : t->kind == AT_LOAD ? t->load->axes : aff_axes(t->arg);
}

void access_add(Places *p, const Layout *at, const Affine *const *idx, bool store, Accesses *out)
{
    Access a = {.lin = linear(p, at, idx), .store = store};
    for (int i = 0; i < a.lin.n_atoms; i++)
        a.atom_axes |= term_axes(a.lin.atom[i].term);
    for (int d = 0; d < at->rank; d++)
        for (int i = 0; i < idx[d]->n; i++) {
            const Term *t = &idx[d]->term[i];
            if (t->kind == AT_DIV || t->kind == AT_MOD || (t->kind == AT_LOAD && out->keep_gathered))
                out->opaque |= term_axes(t);
        }
    PUSH(p->arena, out->a, a);
}

typedef ARRAY(const Expr *) Seen;

static void mark_values(Places *p, const Expr *e, Accesses *out, Seen *seen)
{
    for (int i = 0; i < seen->n; i++)
        if (seen->at[i] == e)
            return;
    PUSH(p->arena, *seen, e);
    if (e->kind == E_INDEX)
        out->opaque |= aff_axes(e->aff);
    if (e->kind == E_OP)
        for (int i = 0; i < e->n; i++)
            mark_values(p, e->arg[i], out, seen);
}

void access_values(Places *p, const Expr *e, Accesses *out)
{
    Seen seen = {0};
    mark_values(p, e, out, &seen);
}

const Expr **loads_of(Places *p, const Expr *e, int *n)
{
    *n = expr_loads(e, NULL, 0);
    const Expr **load = NEWN(p->arena, const Expr *, *n);
    expr_loads(e, load, *n);
    return load;
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

static bool can_merge(Places *p, const Accesses *acc, int outer, const Group *inner)
{
    if (acc->opaque >> outer & 1 || acc->opaque >> inner->axis & 1)
        return false;
    for (int i = 0; i < acc->a.n; i++) {
        const Lin *lin = &acc->a.at[i].lin;
        if (!poly_same(lin->axis[outer], poly_mul(p, lin->axis[inner->axis], inner->n)))
            return false;
    }
    return true;
}

int merge_axes(Places *p, const Accesses *acc, const Ext *ext, const int *axis, int n, Group *out, uint32_t *zero)
{
    Group g[MAX_AXES];                 /* innermost first */
    int count = 0;
    for (int i = n - 1; i >= 0; i--) {
        int a = axis[i];
        Poly size = poly_ext(ext[a]);
        if (poly_is(size, 1)) {
            *zero |= 1u << a;
        } else if (count && can_merge(p, acc, a, &g[count - 1])) {
            *zero |= 1u << a;
            g[count - 1].n = poly_mul(p, g[count - 1].n, size);
        } else {
            g[count++] = (Group){a, size};
        }
    }
    for (int i = 0; i < count; i++)
        out[i] = g[count - 1 - i];
    return count;
}

Poly group_points(Places *p, const Group *grp, int n, int without)
{
    Poly points = poly_const(1);
    for (int i = 0; i < n; i++)
        if (i != without)
            points = poly_mul(p, points, grp[i].n);
    return points;
}

double step_cost(const Accesses *acc, const Group *grp)
{
    double cost = 0;
    for (int i = 0; i < acc->a.n; i++) {
        const Access *a = &acc->a.at[i];
        Poly c = a->lin.axis[grp->axis];
        cost += a->atom_axes >> grp->axis & 1 ? 24 : poly_is(c, 0) ? 0.2 : poly_is(c, 1) ? 1 : 16;
    }
    return cost;
}

int unit_axis(const Comp *c, const Accesses *acc)
{
    for (int i = 0; i < acc->a.n; i++) {
        if (!acc->a.at[i].store)
            continue;
        for (int a = 0; a < c->n_axes; a++)
            if (c->ext[a] != 1 && poly_is(acc->a.at[i].lin.axis[a], 1))
                return a;
    }
    return -1;
}

void split_axes(Places *p, const Comp *c, const Accesses *acc, bool positions, Group *dom, int *n_dom, Group *red, int *n_red, uint32_t *zero)
{
    int stays[MAX_AXES], goes[MAX_AXES], n_stay = 0, n_go = 0;
    for (int a = 0; a < c->n_axes; a++)
        if (c->red >> a & 1)
            goes[n_go++] = a;
        else
            stays[n_stay++] = a;
    if (acc->a.n && !positions)
        sort_axes(&acc->a.at[0], goes, n_go);
    for (int i = 0; i < acc->a.n; i++)
        if (acc->a.at[i].store) {
            sort_axes(&acc->a.at[i], stays, n_stay);
            break;
        }
    *n_dom = merge_axes(p, acc, c->ext, stays, n_stay, dom, zero);
    *n_red = merge_axes(p, acc, c->ext, goes, n_go, red, zero);
}

/* ---- members */

bool has_axis(const int *axis, int n, int a)
{
    for (int i = 0; i < n; i++)
        if (axis[i] == a)
            return true;
    return false;
}

bool same_inner(const Comp *a, const Comp *b, int n_dom)
{
    if (a->n_axes != b->n_axes)
        return false;
    for (int i = n_dom; i < a->n_axes; i++)
        if (a->ext[i] != b->ext[i])
            return false;
    return true;
}

bool same_point(const Expr *load, const Comp *c)
{
    for (int d = 0; d < load->n; d++)
        if (load->idx[d] != c->store[d])
            return false;
    return true;
}
