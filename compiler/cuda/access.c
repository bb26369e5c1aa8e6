/* access.c -- what a kernel touches, the axis that threads run along, sizes as C text. See lower.h. */
#include "cuda/lower.h"

bool poly_small(Poly a)
{
    enum { MOST_BATCH = 32768 };
    double most = 0;
    for (int i = 2; i >= 0; i--)
        most = most * MOST_BATCH + (double)(a.c[i] < 0 ? -a.c[i] : a.c[i]);
    return most < 2147483647.0;
}

static const char *literal(Cu *l, int64_t n)
{
    return arena_printf(l->arena, n <= INT32_MAX ? "%lld" : "%lldll", (long long)n);
}

/* n as a size of the text's, where it gets sizes. */
static const char *size_of(Cu *l, int64_t n)
{
    CuSizes *s = l->sizes;
    int i = 0;
    if (!s || n < 1 || n > INT32_MAX)
        return literal(l, n);
    while (i < s->n && (s->apart || s->at[i] != n))
        i++;
    if (i == TIC_GPU_SIZES)
        return literal(l, n);
    s->at[i] = (int32_t)n;
    s->n = i == s->n ? i + 1 : s->n;
    return arena_printf(l->arena, "e%d", i);
}

const char *cu_number(Cu *l, int64_t n)
{
    return n < 2 ? literal(l, n) : size_of(l, n);
}

const char *cu_poly(Cu *l, Poly p)
{
    static const char *const power[] = {"", "B", "B * B"};
    bool small = poly_small(p), apart = l->sizes && l->sizes->apart;      /* then how often B is taken is a size too, and may be 1 */
    int64_t fixed;
    if (poly_fixed(p, &fixed))
        return cu_number(l, fixed);
    Text t = {.arena = l->arena};
    for (int i = 2; i >= 0; i--) {
        if (!p.c[i])
            continue;
        text_printf(&t, "%s%s%s", t.n ? " + " : "(", small || !i ? "" : "(i64)", power[i]);
        if (!i || p.c[i] != 1 || apart)
            text_printf(&t, "%s%s", i ? " * " : "", apart ? size_of(l, p.c[i]) : cu_number(l, p.c[i]));
    }
    text_char(&t, ')');
    return text_data(&t);
}

/* ---- what a kernel touches */

static void add(Cu *l, int tensor, const Affine *const *idx, bool store, Accesses *out)
{
    Layout at = layout_of(&l->places, tensor);
    out->keep_gathered = true;
    access_add(&l->places, &at, idx, store, out);
}

void cu_access_loads(Cu *l, const Comp *c, Accesses *out)
{
    int n;
    const Expr **load = loads_of(&l->places, c->body, &n);
    access_values(&l->places, c, out);
    for (int i = 0; i < n; i++) {
        int m = kernel_member(l->k, load[i]->tensor);
        if (m < 0 || l->places.placed[m])
            add(l, load[i]->tensor, load[i]->idx, false, out);
    }
}

void cu_access_store(Cu *l, const Comp *c, Accesses *out)
{
    add(l, c->out, c->store, true, out);
}

/* ---- threads */

int cu_best_lanes(const Accesses *acc, const Group *grp, int n)
{
    int best = -1;
    double least = 0;
    for (int k = n - 1; k >= 0; k--) {
        double cost = step_cost(acc, &grp[k]);
        int64_t size;
        if (poly_fixed(grp[k].n, &size) && size > 0 && size < CU_WARP)    /* lanes that are left empty */
            cost *= (double)CU_WARP / (double)size;
        if (best < 0 || cost < least) {
            best = k;
            least = cost;
        }
    }
    return best;
}

/* Whether runs of w points along the axis are aligned accesses. */
static bool takes(const Access *a, int axis, int w)
{
    return poly_is(a->lin.axis[axis], 1) && !(a->atom_axes >> axis & 1) && aligned(&a->lin, axis, w);
}

int cu_width(const Accesses *acc, Group lane)
{
    for (int w = CU_WIDTH; w > 1; w /= 2) {
        int wide = 0, narrow = 0;
        if (!poly_divides(lane.n, w))
            continue;
        for (int i = 0; i < acc->a.n; i++) {
            const Access *a = &acc->a.at[i];
            if (takes(a, lane.axis, w))
                wide++;
            else if (!poly_is(a->lin.axis[lane.axis], 0) || a->atom_axes >> lane.axis & 1)
                narrow++;
        }
        if (wide > narrow)
            return w;
    }
    return 1;
}
