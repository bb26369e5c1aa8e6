/* places.c -- see places.h. */
#include "lower/places.h"
#include <string.h>

Places places_of(Arena *a, const Graph *g, const Kernel *k)
{
    return (Places){.arena = a, .graph = g, .k = k, .again = NEWN(a, bool, k->n_comp), .placed = NEWN(a, bool, k->n_comp)};
}

void places_fault(Places *p, const char *what)
{
    p->fault = p->fault ? p->fault : what;
}

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

Poly poly_mul(Places *p, Poly a, Poly b)
{
    Poly out = {{0}};
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            int64_t c;
            if (!a.c[i] || !b.c[j])
                continue;
            if (!checked_mul(a.c[i], b.c[j], &c) || i + j > 2) {
                places_fault(p, "a size is more than quadratic in the batch or beyond 64 bits");
                return out;
            }
            out.c[i + j] += c;
        }
    return out;
}

static bool poly_same(Poly a, Poly b)
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
                places_fault(p, "an index map has too many gathers, quotients and remainders");
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

static int workspace_of(Fused *f, Poly n)
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

const int *launch_args(Fused *f, const Kernel *k, Poly workspace, Arena *a, int *n)
{
    bool works = !poly_is(workspace, 0);
    *n = k->n_args + works;
    int *arg = NEWN(a, int, *n);
    memcpy(arg, k->args, (size_t)k->n_args * sizeof *arg);
    if (works)
        arg[k->n_args] = workspace_of(f, workspace);
    return arg;
}

void kernel_fails(const Kernel *k, bool *failed, Text *why, const char *fmt, va_list args)
{
    if (*failed)
        return;
    *failed = true;
    text_printf(why, "kernel `%s` (%s): ", k->label ? k->label : "", kernel_class_name[k->cls]);
    text_vprintf(why, fmt, args);
}

uint32_t term_axes(const Term *t)
{
    return t->kind == AT_AXIS ? 1u << t->axis : t->kind == AT_LOAD ? t->load->axes : aff_axes(t->arg);
}

uint32_t atom_axes(const Lin *lin)
{
    uint32_t axes = 0;
    for (int i = 0; i < lin->n_atoms; i++)
        axes |= term_axes(lin->atom[i].term);
    return axes;
}

bool aligned(const Lin *lin, int axis, int w)
{
    if (!poly_divides(lin->c, w))
        return false;
    for (int a = 0; a < MAX_AXES; a++)
        if (a != axis && !poly_divides(lin->axis[a], w))
            return false;
    for (int i = 0; i < lin->n_atoms; i++)
        if (!poly_divides(lin->atom[i].coef, w))
            return false;
    return true;
}

/* An index that is one number of 8 bits. */
static bool is_byte(const Graph *g, const Affine *a)
{
    return a->n == 1 && !a->c && a->term[0].kind == AT_LOAD && a->term[0].coef == 1 &&
           g->tensor[a->term[0].load->tensor].dtype == DT_U8;
}

bool may_leave(const Places *p, const Comp *c, const Expr *load, int d)
{
    static const int64_t batches[] = {1, 2, 1000003};
    const Tensor *t = &p->graph->tensor[load->tensor];
    if (is_byte(p->graph, load->idx[d]) && t->shape[d] > UINT8_MAX)
        return false;
    for (size_t i = 0; i < LEN(batches); i++) {
        int64_t lo, hi, n = t->shape[d] == EXT_BATCH ? batches[i] : t->shape[d];
        if (!aff_range(load->idx[d], c->ext, batches[i], &lo, &hi) || lo < 0 || hi >= n)
            return true;
    }
    return false;
}

/* ---- what a kernel touches */

void access_add(Places *p, const Layout *at, const Affine *const *idx, bool store, Accesses *out)
{
    Access a = {.lin = linear(p, at, idx), .store = store};
    a.atom_axes = atom_axes(&a.lin);
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

const Expr **loads_of(Places *p, const Expr *e, int *n)
{
    *n = expr_loads(e, NULL, 0);
    const Expr **load = NEWN(p->arena, const Expr *, *n);
    expr_loads(e, load, *n);
    return load;
}

void access_values(Places *p, const Comp *c, Accesses *out)
{
    Seen seen = {0};
    int n;
    const Expr **load = loads_of(p, c->body, &n);
    mark_values(p, c->body, out, &seen);
    for (int i = 0; i < n; i++)
        for (int d = 0; d < load[i]->n; d++)
            if (may_leave(p, c, load[i], d))
                out->opaque |= aff_axes(load[i]->idx[d]);
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

static void sort_stored(const Accesses *acc, int *axis, int n)
{
    for (int i = 0; i < acc->a.n; i++)
        if (acc->a.at[i].store) {
            sort_axes(&acc->a.at[i], axis, n);
            return;
        }
}

int map_axes(Places *p, const Comp *c, const Accesses *acc, Group *out, uint32_t *zero)
{
    int axis[MAX_AXES];
    for (int a = 0; a < c->n_axes; a++)
        axis[a] = a;
    sort_stored(acc, axis, c->n_axes);
    return merge_axes(p, acc, c->ext, axis, c->n_axes, out, zero);
}

int row_axes(Places *p, const Comp *c, const Accesses *acc, int n_dom, Group *out, uint32_t *zero)
{
    int axis[MAX_AXES], n = 0;
    for (int a = n_dom; a < c->n_axes; a++)
        axis[n++] = a;
    /* reductions along several axes do not care for their order; a store's order suits everybody */
    for (int i = acc->a.n - 1; i >= 0 && n > 1; i--)
        if (acc->a.at[i].store || i == 0) {
            sort_axes(&acc->a.at[i], axis, n);
            break;
        }
    return merge_axes(p, acc, c->ext, axis, n, out, zero);
}

int scatter_axes(Places *p, const Comp *c, Poly *rows, Poly *columns, Group *out, int *n, uint32_t *zero)
{
    const Tensor *t = &p->graph->tensor[c->out];
    int last = t->rank - 1, axis = last < 0 ? -1 : aff_plain(c->store[last]);
    bool alone = axis >= 0 && c->ext[axis] == t->shape[last];
    for (int d = 0; d < last && alone; d++)
        alone = !(aff_axes(c->store[d]) >> axis & 1);
    *columns = alone ? poly_ext(t->shape[last]) : poly_const(1);
    *rows = poly_const(1);
    for (int d = 0; d < t->rank - alone; d++)
        *rows = poly_mul(p, *rows, poly_ext(t->shape[d]));
    axis = alone ? axis : -1;
    for (int a = *n = 0; a < c->n_axes; a++)
        if (a != axis && c->ext[a] == 1)
            *zero |= 1u << a;
        else if (a != axis)
            out[(*n)++] = (Group){a, poly_ext(c->ext[a])};
    return axis;
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
    sort_stored(acc, stays, n_stay);
    *n_dom = merge_axes(p, acc, c->ext, stays, n_stay, dom, zero);
    *n_red = merge_axes(p, acc, c->ext, goes, n_go, red, zero);
}

static bool has_axis(const int *axis, int n, int a)
{
    for (int i = 0; i < n; i++)
        if (axis[i] == a)
            return true;
    return false;
}

/* The groups of one role: at least one, if only of a single point. */
static Group *merge_role(Places *p, const Accesses *acc, const int *axis, int n, int *count, uint32_t *zero)
{
    Group *out = NEWN(p->arena, Group, MAX_AXES);
    *count = merge_axes(p, acc, p->k->comp[0].ext, axis, n, out, zero);
    if (!*count && n)
        out[(*count)++] = (Group){axis[n - 1], poly_const(1)};
    return out;
}

bool contract_axes(Places *p, const Accesses *acc, int unit, ContractAxes *out)
{
    const Contract *s = &p->k->split;
    int m[MAX_AXES], n[MAX_AXES];
    bool swap = unit >= 0 && has_axis(s->m, s->n_m, unit);
    int n_m = swap ? s->n_n : s->n_m, n_n = swap ? s->n_m : s->n_n;
    memcpy(m, swap ? s->n : s->m, sizeof m);
    memcpy(n, swap ? s->m : s->n, sizeof n);
    sort_stored(acc, m, n_m);
    sort_stored(acc, n, n_n);
    *out = (ContractAxes){.a = swap ? s->b : s->a, .b = swap ? s->a : s->b, .outer = NEWN(p->arena, Group, MAX_AXES)};
    out->n_outer = merge_axes(p, acc, p->k->comp[0].ext, s->batch, s->n_batch, out->outer, &out->zero);
    out->m = merge_role(p, acc, m, n_m, &out->n_m, &out->zero);
    out->n = merge_role(p, acc, n, n_n, &out->n_n, &out->zero);
    out->k = merge_role(p, acc, s->k, s->n_k, &out->n_k, &out->zero);
    if (!out->n_m || !out->n_n || !out->n_k)
        places_fault(p, "a contraction without rows, columns or terms");
    return !p->fault;
}

/* ---- members */

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

int member_read(const Kernel *k, const Expr *load)
{
    for (int i = 0; i < k->n_comp; i++)
        if (k->comp[i].out == load->tensor && same_point(load, &k->comp[i]))
            return i;
    return kernel_member(k, load->tensor);
}
