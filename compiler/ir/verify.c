/* verify.c -- what every graph must satisfy, checked after every pass.
 *
 *   Comp      its tensor is a temporary; axes within bounds; the reducer and the reduced axes fit each other; the
 *             body uses only its axes; the store uses only free axes, and every free axis with more than one point
 *   loads     of tensors defined before, with the right rank; i32 where they stand inside an index map
 *   ranges    every load in range for any batch, unless a branch of a `where` guards it or a gather makes it
 *             unknown; hence a batch axis indexes batch dimensions only
 *             (a scatter may store out of range: it leaves such points out)
 *   tensors   the stores of all pieces are dense boxes without overlap that cover the shape (a scatter stands alone)
 *   ends      outputs and updates are defined; an update has a parameter or state as target, once, of equal shape
 *
 * Ranges are tried with a batch of 1 and with one larger than any: in between maps are monotone. */
#include "ir/pool.h"
#include <stdarg.h>

static const int64_t HUGE_BATCH = (int64_t)1 << 40;

typedef struct Verify {
    Graph *g;
    const char *after;
    Text *why;
    const Comp *comp;                    /* under the lens, or NULL */
    Memo seen;                           /* nodes of it that the walk at hand has visited */
    Arena scratch;
} Verify;

static bool refuse(Verify *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static bool refuse(Verify *v, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    if (v->after)
        text_printf(v->why, "after %s: ", v->after);
    text_vprintf(v->why, fmt, args);
    va_end(args);
    if (v->comp) {
        text_printf(v->why, ": ");
        comp_print(v->g, v->comp, v->why);
    }
    return false;
}

/* ---- ranges */

static bool in_range(Verify *v, const Affine *a, Ext n, const char *what)
{
    const int64_t batch[] = { 1, HUGE_BATCH };
    const Ext *ext = v->comp->ext;
    for (int i = 0; i < (int)LEN(batch); i++) {
        int64_t lo, hi;
        if (!aff_range(a, ext, batch[i], &lo, &hi))
            return true;
        if (lo >= 0 && hi < (n == EXT_BATCH ? batch[i] : n))
            continue;
        if (n != EXT_BATCH && i > 0)
            return refuse(v, "a batch axis indexes a dimension of extent %lld in %s", (long long)n, what);
        if (n == EXT_BATCH)
            return refuse(v, "an index of the batch dimension in %s may be %lld for a batch of %lld", what,
                          (long long)(lo < 0 ? lo : hi), (long long)batch[i]);
        return refuse(v, "index out of range in %s: %lld to %lld, the extent is %lld", what, (long long)lo,
                      (long long)hi, (long long)n);
    }
    return true;
}

static bool ranges_of(Verify *v, const Expr *e);

static bool ranges_inside(Verify *v, const Affine *a)          /* gathers inside a map */
{
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        if (t->kind == AT_LOAD ? !ranges_of(v, t->load) : t->kind != AT_AXIS && !ranges_inside(v, t->arg))
            return false;
    }
    return true;
}

/* Loads that are evaluated for certain; the branches of a where are not. */
static bool ranges_of(Verify *v, const Expr *e)
{
    if (e->kind == E_CONST || e->kind == E_EXTENT || memo_get(&v->seen, e))
        return true;
    memo_put(&v->seen, e, e);
    if (e->kind == E_INDEX)
        return ranges_inside(v, e->aff);
    if (e->kind == E_LOAD) {
        Text what = { .arena = &v->scratch };
        expr_print(v->g, e, &what);
        for (int i = 0; i < e->n; i++)
            if (!ranges_inside(v, e->idx[i]) ||
                !in_range(v, e->idx[i], v->g->tensor[e->tensor].shape[i], text_data(&what)))
                return false;
        return true;
    }
    for (int i = 0; i < (e->op == OP_WHERE ? 1 : e->n); i++)
        if (!ranges_of(v, e->arg[i]))
            return false;
    return true;
}

/* ---- one Comp */

static bool index_loads(Verify *v, const Affine *a);

static bool index_loads_of(Verify *v, const Expr *e)           /* every load inside an index map is of whole numbers */
{
    if (memo_get(&v->seen, e))
        return true;
    memo_put(&v->seen, e, e);
    if (e->kind == E_INDEX)
        return index_loads(v, e->aff);
    for (int i = 0; i < e->n; i++)
        if (e->kind == E_LOAD ? !index_loads(v, e->idx[i]) : !index_loads_of(v, e->arg[i]))
            return false;
    return true;
}

static bool index_loads(Verify *v, const Affine *a)
{
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        if (t->kind == AT_AXIS)
            continue;
        if (t->kind != AT_LOAD) {
            if (!index_loads(v, t->arg))
                return false;
        } else if (t->load->kind != E_LOAD || !dtype_whole(v->g->tensor[t->load->tensor].dtype)) {
            return refuse(v, "an index is read from something that is neither an i32 nor a u8 tensor");
        } else if (!index_loads_of(v, t->load)) {
            return false;
        }
    }
    return true;
}

static bool check_loads(Verify *v, const Comp *c, const bool *defined)
{
    int n;
    const Expr **load = comp_all_loads(c, &v->scratch, &n);
    for (int i = 0; i < n; i++) {
        int t = load[i]->tensor;
        if (t < 0 || t >= v->g->n_tensor)
            return refuse(v, "a load of a tensor that does not exist");
        if (load[i]->n != v->g->tensor[t].rank)
            return refuse(v, "a load of %%%d with %d indices, its rank is %d", t, load[i]->n, v->g->tensor[t].rank);
        if (!defined[t])
            return refuse(v, "%%%d is used before its definition", t);
    }
    return true;
}

static bool check_reducer(Verify *v, const Comp *c)
{
    bool reduces = c->reducer != RED_NONE && c->reducer != RED_SCATTER;
    if (c->reducer < 0 || c->reducer >= N_REDUCERS)
        return refuse(v, "an unknown reducer");
    if (reduces && !c->red)
        return refuse(v, "a reducer without reduced axes");
    if (!reduces && c->red)
        return refuse(v, "reduced axes without a reducer");
    if (c->reducer == RED_ARGMAX && (c->red & (c->red - 1)))
        return refuse(v, "argmax over more than one axis");
    if (c->reducer == RED_SCATTER && v->g->tensor[c->out].dtype == DT_BF16)
        return refuse(v, "a scatter into a bf16 tensor, which would round after every addition");
    if (c->reducer == RED_ARGMAX && v->g->tensor[c->out].dtype != DT_I32)
        return refuse(v, "argmax into a tensor that is not i32");
    return true;
}

static bool check_store(Verify *v, const Comp *c)
{
    const Tensor *out = &v->g->tensor[c->out];
    uint32_t all = (1u << c->n_axes) - 1, used = 0, many = 0;
    for (int k = 0; k < c->n_axes; k++)
        if (c->ext[k] != 1)
            many |= 1u << k;
    for (int i = 0; i < out->rank; i++) {
        if (!c->store[i])
            return refuse(v, "a store with too few indices");
        used |= aff_axes(c->store[i]);
    }
    if (used & ~all)
        return refuse(v, "the store uses an axis that the Comp does not have");
    if (used & c->red)
        return refuse(v, "the store uses a reduced axis");
    if (c->reducer == RED_SCATTER)
        return true;
    if (all & ~c->red & ~used & many)
        return refuse(v, "a free axis is missing in the store");
    Box box[MAX_RANK];
    if (!store_box(c->store, out->rank, c->ext, box))
        return refuse(v, "the store is not a dense box written once");
    for (int i = 0; i < out->rank; i++)
        if (box[i].lo < 0 || (box[i].n == EXT_BATCH) != (out->shape[i] == EXT_BATCH) ||
            (box[i].n != EXT_BATCH ? sat_add(box[i].lo, box[i].n) > out->shape[i] : box[i].lo != 0))
            return refuse(v, "the store leaves the tensor's shape in dimension %d", i);
    return true;
}

static bool check_types(Verify *v, const Comp *c)
{
    bool fine = index_loads_of(v, c->body);
    for (int i = 0; fine && i < v->g->tensor[c->out].rank; i++)
        fine = index_loads(v, c->store[i]);
    return fine;
}

static bool is_empty(const Comp *c)
{
    for (int k = 0; k < c->n_axes; k++)
        if (c->ext[k] == 0)
            return true;
    return false;
}

static bool check_ranges(Verify *v, const Comp *c)
{
    if (is_empty(c))                                           /* nothing is ever read */
        return true;
    bool fine = ranges_of(v, c->body);
    for (int i = 0; fine && c->reducer == RED_SCATTER && i < v->g->tensor[c->out].rank; i++)
        fine = ranges_inside(v, c->store[i]);
    return fine;
}

typedef bool Check(Verify *v, const Comp *c);

static bool with_memo(Verify *v, const Comp *c, Check *check)
{
    memo_init(&v->seen);
    bool fine = check(v, c);
    memo_free(&v->seen);
    return fine;
}

static bool check_comp(Verify *v, const Comp *c, const bool *defined)
{
    v->comp = c;
    if (v->g->tensor[c->out].kind != T_TEMP)
        return refuse(v, "an equation defines an input, a parameter or state");
    if (c->n_axes < 0 || c->n_axes > MAX_AXES || c->red >> c->n_axes)
        return refuse(v, "more axes than allowed, or a reduced axis that does not exist");
    for (int k = 0; k < c->n_axes; k++)
        if (c->ext[k] < 0 && c->ext[k] != EXT_BATCH)
            return refuse(v, "axis a%d has a negative extent", k);
    if (c->body->axes >> c->n_axes)
        return refuse(v, "the body uses an axis that the Comp does not have");
    if (!check_reducer(v, c) || !check_store(v, c) || !check_loads(v, c, defined) || !with_memo(v, c, check_types) ||
        !with_memo(v, c, check_ranges))
        return false;
    v->comp = NULL;
    return true;
}

/* ---- one tensor */

static bool disjoint(const Box *a, const Box *b, int rank)
{
    for (int i = 0; i < rank; i++) {
        if (a[i].n == EXT_BATCH || b[i].n == EXT_BATCH)
            continue;
        if (!a[i].n || !b[i].n || a[i].lo + a[i].n <= b[i].lo || b[i].lo + b[i].n <= a[i].lo)
            return true;
    }
    return false;
}

static int64_t volume(const Box *b, int rank)                  /* per batch element; saturates */
{
    int64_t v = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        empty |= b[i].n == 0;
        v = b[i].n == EXT_BATCH ? v : sat_mul(v, b[i].n);
    }
    return empty ? 0 : v;
}

/* Boxes inside the shape, disjoint, and of the shape's volume together: they cover it. */
static bool check_pieces(Verify *v, int tensor, const CompList *pieces)
{
    const Tensor *t = &v->g->tensor[tensor];
    Box *box = NEWN(&v->scratch, Box, (int64_t)pieces->n * MAX_RANK), whole[MAX_RANK];
    int64_t sum = 0;
    for (int i = 0; i < pieces->n; i++) {
        const Comp *c = pieces->at[i];
        v->comp = c;
        if (c->reducer == RED_SCATTER) {
            v->comp = NULL;
            return pieces->n == 1 || refuse(v, "%%%d has a scatter and another definition", tensor);
        }
        store_box(c->store, t->rank, c->ext, &box[i * MAX_RANK]);
        for (int k = 0; k < i; k++)
            if (!disjoint(&box[i * MAX_RANK], &box[k * MAX_RANK], t->rank))
                return refuse(v, "two pieces of %%%d overlap", tensor);
        sum = sat_add(sum, volume(&box[i * MAX_RANK], t->rank));
    }
    for (int i = 0; i < t->rank; i++)
        whole[i] = (Box){ 0, t->shape[i] };
    if (sum != volume(whole, t->rank))
        return refuse(v, "the pieces of %%%d do not cover it", tensor);
    v->comp = NULL;
    return true;
}

static bool same_shape(const Tensor *a, const Tensor *b)
{
    for (int i = 0; i < a->rank && a->rank == b->rank; i++)
        if (a->shape[i] != b->shape[i])
            return false;
    return a->rank == b->rank;
}

static bool check_ends(Verify *v, const bool *defined)
{
    Graph *g = v->g;
    bool *updated = NEWN(&v->scratch, bool, g->n_tensor);
    for (int i = 0; i < g->n_output; i++) {
        int t = g->output[i].tensor;
        if (t < 0 || t >= g->n_tensor || !defined[t])
            return refuse(v, "output \"%s\" is %%%d, which nothing defines", g->output[i].name, t);
    }
    for (int i = 0; i < g->n_update; i++) {
        int to = g->update[i].target, from = g->update[i].value;
        if (to < 0 || to >= g->n_tensor || from < 0 || from >= g->n_tensor || !defined[from])
            return refuse(v, "the update of %%%d by %%%d, which nothing defines", to, from);
        if (g->tensor[to].kind != T_PARAM && g->tensor[to].kind != T_STATE)
            return refuse(v, "an update of %%%d, which is not a parameter or state", to);
        if (updated[to])
            return refuse(v, "two updates of %%%d", to);
        updated[to] = true;
        if (!same_shape(&g->tensor[to], &g->tensor[from]))
            return refuse(v, "an update of %%%d by %%%d, whose shape is another", to, from);
        if ((g->tensor[to].dtype == DT_I32) != (g->tensor[from].dtype == DT_I32))
            return refuse(v, "an update of %%%d by %%%d, whose type is another", to, from);
    }
    return true;
}

static bool check_shape(Verify *v, int t)
{
    const Tensor *own = &v->g->tensor[t];
    if (own->rank < 0 || own->rank > MAX_RANK)
        return refuse(v, "%%%d has rank %d", t, own->rank);
    for (int i = 0; i < own->rank; i++)
        if (own->shape[i] < 0 && own->shape[i] != EXT_BATCH)
            return refuse(v, "%%%d has a negative extent", t);
    if (own->dtype == DT_U8 && own->kind != T_INPUT)
        return refuse(v, "%%%d is of u8 and no input", t);
    return true;
}

static bool check_all(Verify *v)
{
    Graph *g = v->g;
    for (int t = 0; t < g->n_tensor; t++)
        if (!check_shape(v, t))
            return false;
    for (int i = 0; i < g->n_comp; i++)
        if (g->comp[i]->out < 0 || g->comp[i]->out >= g->n_tensor)
            return refuse(v, "Comp %d defines no tensor", i);
    int *left = NEWN(&v->scratch, int, g->n_tensor);
    CompList *pieces = NEWN(&v->scratch, CompList, g->n_tensor);
    bool *defined = NEWN(&v->scratch, bool, g->n_tensor);
    for (int i = 0; i < g->n_comp; i++)
        left[g->comp[i]->out]++;
    for (int t = 0; t < g->n_tensor; t++) {
        defined[t] = g->tensor[t].kind != T_TEMP;
        pieces[t].at = NEWN(&v->scratch, Comp *, left[t]);
    }
    for (int i = 0; i < g->n_comp; i++) {
        Comp *c = g->comp[i];
        CompList *own = &pieces[c->out];
        if (!check_comp(v, c, defined))
            return false;
        own->at[own->n++] = c;
        if (--left[c->out])
            continue;
        if (!check_pieces(v, c->out, own))
            return false;
        defined[c->out] = true;
    }
    return check_ends(v, defined);
}

bool graph_verify(Graph *g, const char *after, Text *why)
{
    Verify v = { .g = g, .after = after, .why = why };
    bool fine = check_all(&v);
    arena_free(&v.scratch);
    return fine;
}
