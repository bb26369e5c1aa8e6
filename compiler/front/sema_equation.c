/* sema_equation.c -- equations: y[b, t, o] = sum[i](x[b, t, i] * weight[o, i]) + bias[o]
 *
 * The left side is read first: its index names become axes 0, 1, ... of the equation. Then the right side is
 * evaluated over them; accesses tell the extents. At last everything becomes Comps: temporaries first, then the
 * equation itself.
 *
 * Several equations may define one tensor on disjoint boxes ("pieces"). It is complete when it is first read, or at
 * the end of its scope; then the boxes must cover it. */
#include "front/sema.h"
#include <string.h>

/* ---- Comps */

/* Scalars inside an equation with axes are computed once: maximal sub-expressions without index names, with a load. */
static const Expr *hoist(Sema *s, const Expr *e, const char *name, Span at)
{
    if (e->kind != E_OP)
        return e;
    if (!e->axes) {
        const Expr *load;
        return expr_loads(e, &load, 1) ? expr_load(s->g, def_scalar(s, e, name, at)->tensor, NULL) : e;
    }
    const Expr *arg[3] = { NULL, NULL, NULL };
    bool same = true;
    for (int i = 0; i < e->n; i++) {
        arg[i] = hoist(s, e->arg[i], name, at);
        same &= arg[i] == e->arg[i];
    }
    return same ? e : sema_op(s, e->op, arg[0], arg[1], arg[2]);
}

typedef struct Plan {               /* a Comp in the numbering of its equation */
    const Def *out;
    Axis *const *axis;
    int n;
    uint32_t free, red;
    Reducer reducer;
    const Expr *body;
    const Affine *const *store;
    Span at;
} Plan;

static bool make_comp(Sema *s, const Plan *p)
{
    const Affine *map[MOST_AXES] = { NULL }, *store[MAX_RANK];
    Ext ext[MAX_AXES];
    uint32_t red = 0;
    int n = 0;
    if (s->dry)
        return true;
    for (int pass = 0; pass < 2; pass++) {
        uint32_t mask = pass ? p->red : p->free;
        for (int k = 0; k < p->n; k++) {
            if (!(mask >> k & 1))
                continue;
            if (n == MAX_AXES) {
                sema_error(s, p->at, "an equation runs over at most %d indices at once, and this over %d", MAX_AXES,
                           __builtin_popcount(p->free | p->red));
                return false;
            }
            if (p->axis[k]->ext < 0 && p->axis[k]->ext != EXT_BATCH)
                return false;
            red |= (uint32_t)pass << n;
            ext[n] = p->axis[k]->ext;
            map[k] = aff_axis(s->g, n++);
        }
    }
    for (int k = 0; k < p->out->rank; k++)
        store[k] = aff_subst(s->g, p->store[k], map, p->n);
    const Expr *body = expr_subst(s->g, p->body, map, p->n);
    if (n)
        body = hoist(s, body, p->out->name, p->at);
    graph_comp(s->g, p->out->tensor, n, ext, red, p->reducer, body, store, p->at, s->frame->tag);
    return true;
}

Comp *comp_map(Sema *s, Def *out, const Expr *body, Span at)
{
    const Affine *store[MAX_RANK];
    for (int k = 0; k < out->rank; k++)
        store[k] = aff_axis(s->g, k);
    return graph_comp(s->g, out->tensor, out->rank, out->shape, 0, RED_NONE, body, store, at, s->frame->tag);
}

static bool temp_comp(Sema *s, Temp *t)
{
    const Affine *store[MAX_RANK];
    int n = 0;
    for (int k = 0; k < t->n; k++) {
        if (!(t->free >> k & 1))
            continue;
        t->def->shape[n] = s->g->tensor[t->def->tensor].shape[n] = s->dry ? 1 : t->axis[k]->ext;
        store[n++] = aff_axis(s->g, k);
    }
    if (too_many_elements(s, t->def->name, n, t->def->shape, MOST_TENSOR, t->at))
        return false;
    Plan p = { t->def, t->axis, t->n, t->free, t->red, t->reducer, t->body, store, t->at };
    return make_comp(s, &p);
}

/* ---- when all extents are known */

static bool check_access(Sema *s, const Access *a)
{
    Ext ext[MOST_AXES], extent = a->def->shape[a->dim];
    for (int k = 0; k < a->n; k++)
        ext[k] = a->axis[k]->ext;
    for (int k = 0; k < a->n; k++) {
        bool used = aff_axes(a->map) >> k & 1;
        if (used && ext[k] < 0 && ext[k] != EXT_BATCH)
            return true;                                       /* unknown after another error */
        if (used && !aff_has_atoms(a->map) && (ext[k] == EXT_BATCH || extent == EXT_BATCH)) {
            sema_error(s, a->at, "the batch is indexed by an index of its own, without arithmetic");
            return false;
        }
    }
    int64_t lo, hi;
    if (!aff_range(a->map, ext, 1, &lo, &hi))
        return true;
    int64_t last = extent == EXT_BATCH ? 0 : extent - 1;
    if (lo >= 0 && hi <= last)
        return true;
    const char *what = source_text(s->diag->sources, a->at);
    if (lo == hi)
        sema_error(s, a->at, "index %lld is outside axis %d of `%s`, which goes from 0 to %lld", (long long)lo,
                   a->dim + 1, a->name, (long long)last);
    else
        sema_error(s, a->at, "`%s` goes from %lld to %lld, and axis %d of `%s` from 0 to %lld", what, (long long)lo,
                   (long long)hi, a->dim + 1, a->name, (long long)last);
    note_def(s, a->def, a->name);
    for (int k = 0; k < a->n; k++) {
        if (aff_axes(a->map) >> k & 1)
            sema_note(s, a->axis[k]->at, "`%s` runs over %s because of %s", a->axis[k]->name,
                      ext_text(s, a->axis[k]->ext), a->axis[k]->why);
    }
    return false;
}

bool eq_finish(Sema *s, Eq *q)
{
    bool ok = !s->stopped;
    for (int i = 0; i < q->temp.n; i++) {
        Temp *t = &q->temp.at[i];
        for (int k = 0; k < t->n; k++) {
            if ((t->free | t->red) >> k & 1)
                ok &= eq_known(s, q, t->axis[k], t->at);
        }
    }
    for (int i = 0; ok && i < q->access.n; i++)
        ok &= check_access(s, &q->access.at[i]);
    for (int i = 0; ok && i < q->temp.n; i++) {
        if (!q->temp.at[i].merged)
            ok &= temp_comp(s, &q->temp.at[i]);
    }
    return ok;
}

/* Whole numbers made from an integer tensor are integers too, and may index. */
static bool is_integer(const Graph *g, const Expr *e, bool *tensor)
{
    double c;
    switch (e->kind) {
    case E_CONST:
        c = e->c;
        return c == (double)(int32_t)c;
    case E_INDEX:
        return true;
    case E_LOAD:
        *tensor |= g->tensor[e->tensor].dtype == DT_I32;
        return g->tensor[e->tensor].dtype == DT_I32;
    case E_EXTENT:
        return false;
    case E_OP:
        break;
    }
    if (e->op == OP_WHERE)
        return is_integer(g, e->arg[1], tensor) && is_integer(g, e->arg[2], tensor);
    if (e->op != OP_ADD && e->op != OP_SUB && e->op != OP_MUL && e->op != OP_NEG && e->op != OP_MAX && e->op != OP_MIN)
        return false;
    bool ok = true;
    for (int i = 0; i < e->n; i++)
        ok &= is_integer(g, e->arg[i], tensor);
    return ok;
}

bool expr_is_integer(const Graph *g, const Expr *e)
{
    bool tensor = false;
    return is_integer(g, e, &tensor) && tensor;
}

/* The reduction that is the whole right side, or NULL. */
static Temp *whole_side(Eq *q, const Expr *body, uint32_t left)
{
    if (body->kind != E_LOAD || !q->temp.n || body->axes != left || __builtin_popcount(left) != body->n)
        return NULL;
    for (int k = 0; k < body->n; k++) {
        if (aff_plain(body->idx[k]) < 0)
            return NULL;
    }
    Temp *t = &q->temp.at[q->temp.n - 1];
    return t->def->tensor == body->tensor ? t : NULL;
}

/* The batch is one of its axes, or not: `shape` is for one of it. */
bool too_many_elements(Sema *s, const char *name, int rank, const Ext *shape, int64_t most, Span at)
{
    double count = 1;
    for (int k = 0; k < rank; k++)
        count *= shape[k] < 0 ? 1 : (double)shape[k];
    if (count <= (double)most)
        return false;
    sema_error(s, at, "`%s` would have %s elements; at most %lld", name, number_text(s, count), (long long)most);
    return true;
}

/* The equation itself: `def` on the box that `store` says. The first piece makes the tensor. */
static bool finish_equation(Sema *s, Eq *q, Def *def, uint32_t left, const Affine *const *store, const Expr *body,
                            Span at)
{
    Temp *whole = whole_side(q, body, left);
    if (whole)
        whole->merged = true;
    if (!eq_finish(s, q))
        return false;
    DType dtype = whole ? s->g->tensor[whole->def->tensor].dtype : expr_is_integer(s->g, body) ? DT_I32 : DT_F32;
    if (def->tensor < 0 && whole)
        def->tensor = whole->def->tensor;
    else if (def->tensor < 0)
        def->tensor = graph_tensor(s->g, def->name, 0, NULL, T_TEMP, dtype);
    if (too_many_elements(s, def->name, def->rank, def->shape, MOST_TENSOR, at))
        return false;
    Tensor *t = &s->g->tensor[def->tensor];
    t->rank = def->rank;
    t->span = def->at;
    for (int k = 0; k < def->rank; k++)
        t->shape[k] = s->dry ? 1 : def->shape[k];
    if (t->dtype != dtype) {
        sema_error(s, at, "`%s` is made of integers in one piece and of numbers in another", def->name);
        sema_note(s, def->at, "the first piece");
        return false;
    }
    Plan p = { def, q->axis, q->n, left, 0, RED_NONE, body, store, at };
    if (whole) {
        p.axis = whole->axis;
        p.n = whole->n;
        p.red = whole->red;
        p.reducer = whole->reducer;
        p.body = whole->body;
    }
    return make_comp(s, &p);
}

Value eq_result(Sema *s, Eq *q, Value v, const char *name, Span at)
{
    if (v.kind == V_ERROR)
        return v;
    if (v.kind != V_EXPR || !v.expr->axes) {
        if (!eq_finish(s, q))
            return value_error();
        return value_settle(s, v, name, at);
    }
    const Affine *store[MAX_RANK];
    Ext shape[MAX_RANK];
    int rank = 0;
    for (int k = 0; k < q->n; k++) {
        if (!(v.expr->axes >> k & 1))
            continue;
        if (rank == MAX_RANK) {
            sema_error(s, at, "a tensor has at most %d axes, and this would have %d", MAX_RANK, __builtin_popcount(v.expr->axes));
            return value_error();
        }
        shape[rank] = q->axis[k]->ext;
        store[rank++] = aff_axis(s->g, k);
    }
    Def *def = def_new(s, name, at, rank, shape);
    if (!finish_equation(s, q, def, v.expr->axes, store, v.expr, at))
        return value_error();
    return value_def(def, at);
}

/* ---- the left side */

static bool note_index(Sema *s, const Node *axis, Ext ext)
{
    Index *known = frame_index(s->frame, axis->text);
    const char *why = arena_printf(s->arena, "`%s`", sema_text(s, axis));
    if (known && known->bound && known->ext != EXT_ANY && ext != EXT_ANY && known->ext != ext) {
        sema_error(s, axis->span, "index `%s` runs over %s here, but over %s in %s", axis->text, ext_text(s, ext),
                   ext_text(s, known->ext), known->why);
        sema_note(s, known->at, "%s from here", ext_text(s, known->ext));
        return false;
    }
    if (known && !known->bound)
        *known = (Index){ axis->text, ext, axis->span, why, false };
    else if (!known)
        PUSH(s->arena, s->frame->index, (Index){ axis->text, ext, axis->span, why, false });
    return true;
}

static bool left_axis(Sema *s, Eq *q, const Node *n)           /* i: n */
{
    Ext ext = EXT_ANY;
    const Name *other = scope_local(s, n->text);
    if (other) {
        sema_error(s, n->span, "`%s` is defined already, and not as an index", n->text);
        sema_note(s, other->at, "here");
        return false;
    }
    if (eq_find(q, n->text) >= 0) {
        sema_error(s, n->span, "index `%s` is on the left twice", n->text);
        return false;
    }
    Value v = value_of(s, q, n->a);
    bool ok = (s->dry && v.kind == V_ERROR) || value_extent(s, &v, n->text, n->a->span, &ext);
    ok &= note_index(s, n, ext);
    return eq_push(s, q, n->text, ext, n->span, arena_printf(s->arena, "`%s`", sema_text(s, n))) >= 0 && ok;
}

/* Every name of an index expression on the left that is no name of the function is an index. */
static bool left_names(Sema *s, Eq *q, const Node *n)
{
    if (!n)
        return true;
    if (n->kind == AST_NAME) {
        if (strchr(n->text, '.') || scope_local(s, n->text) || eq_find(q, n->text) >= 0)
            return true;
        const Index *x = frame_index(s->frame, n->text);
        bool bound = x && x->bound;
        int k = eq_push(s, q, n->text, bound ? x->ext : EXT_OPEN, bound ? x->at : n->span, bound ? x->why : "the left side");
        if (k >= 0)
            q->axis[k]->first = n->span;
        return k >= 0;
    }
    if (n->kind == AST_BINARY || n->kind == AST_UNARY)
        return left_names(s, q, n->a) && left_names(s, q, n->b);
    return true;
}

static bool left_rest(Sema *s, Eq *q, const Node *n, bool first)
{
    if (!first) {
        sema_error(s, n->span, "`..` stands for leading axes: it comes first");
        return false;
    }
    return eq_push_rest(s, q, n->span);
}

/* Fills store[]; returns the rank, or -1 after an error. */
int eq_left(Sema *s, Eq *q, const Node *indices, const Affine **store, Span *at)
{
    bool ok = true;
    int rank = 0;
    for (const Node *i = indices; i; i = i->next) {
        if (i->kind == AST_REST)
            ok &= left_rest(s, q, i, i == indices);
        else
            ok &= i->kind == AST_AXIS ? left_axis(s, q, i) : left_names(s, q, i);
        rank += i->kind == AST_REST ? s->frame->n_rest : 1;
    }
    q->n_left = q->n;
    if (!ok)
        return -1;
    if (rank > MAX_RANK) {
        const Node *last = indices;
        while (last->next)
            last = last->next;
        sema_error(s, (Span){ indices->span.lo, last->span.hi }, "a tensor has at most %d axes, and here are %d", MAX_RANK, rank);
        return -1;
    }
    int n = 0;
    for (const Node *i = indices; i; i = i->next) {
        for (int k = 0; i->kind == AST_REST && k < q->n_rest; k++, n++) {
            store[n] = aff_axis(s->g, q->rest[k]);
            at[n] = i->span;
        }
        if (i->kind == AST_REST)
            continue;
        store[n] = i->kind == AST_AXIS ? aff_axis(s->g, eq_find(q, i->text)) : index_map(s, q, i);
        if (!store[n])
            return -1;
        if (aff_has_atoms(store[n])) {
            sema_error(s, i->span, "the left side cannot look up where it defines: `%s` is known only at run time",
                       sema_text(s, i));
            sema_help(s, "look up on the right instead: `y[b, d] = x[b, at[b], d]`");
            return -1;
        }
        at[n++] = i->span;
    }
    return n;
}

/* Says why a map of the left side is not a dense box: what the smallest coefficients should have been. */
static void explain_map(Sema *s, Eq *q, const Affine *a, const char *text, Span at)
{
    int64_t want = 1;
    bool done[MOST_AXES] = { false };
    for (int round = 0; round < a->n; round++) {
        int next = -1;
        for (int i = 0; i < a->n; i++) {
            if (!done[i] && (next < 0 || a->term[i].coef < a->term[next].coef))
                next = i;
        }
        const Axis *x = q->axis[a->term[next].axis];
        int64_t coef = a->term[next].coef;
        done[next] = true;
        if (coef < 0) {
            sema_error(s, at, "`%s` runs backwards on the left", text);
            sema_help(s, "turn it around on the right: `y[i] = x[n - 1 - i]`");
            return;
        }
        if (coef > want) {
            sema_error(s, at, "`%s` leaves gaps: the step of `%s` is %lld, and %lld would follow without a gap", text,
                       x->name, (long long)coef, (long long)want);
            return;
        }
        if (coef < want) {
            sema_error(s, at, "`%s` defines elements twice: the step of `%s` is %lld, and what is added to it reaches %lld",
                       text, x->name, (long long)coef, (long long)(want - 1));
            return;
        }
        if (x->ext == EXT_BATCH && a->n > 1)
            break;
        want = want * x->ext;
    }
    sema_error(s, at, "the batch cannot be joined with another axis: `%s`", text);
}

static bool left_box(Sema *s, Eq *q, const Affine *const *store, const Span *at, int rank, Box *box)
{
    Ext ext[MOST_AXES];
    for (int k = 0; k < q->n; k++)
        ext[k] = q->axis[k]->ext;
    uint32_t seen = 0;
    for (int k = 0; k < rank; k++) {
        uint32_t twice = seen & aff_axes(store[k]);
        if (twice) {
            sema_error(s, at[k], "index `%s` is on the left twice: that would define a diagonal only",
                       q->axis[__builtin_ctz(twice)]->name);
            return false;
        }
        seen |= aff_axes(store[k]);
        if (!store_box(&store[k], 1, ext, &box[k])) {
            explain_map(s, q, store[k], source_text(s->diag->sources, at[k]), at[k]);
            return false;
        }
        if (box[k].lo < 0) {
            sema_error(s, at[k], "`%s` begins at %lld", source_text(s->diag->sources, at[k]), (long long)box[k].lo);
            return false;
        }
    }
    for (int k = 0; k < q->n_left; k++) {
        if (!(seen >> k & 1)) {        /* `b*0 + c`: its terms have come to nothing */
            sema_error(s, q->axis[k]->first, "no place on the left depends on `%s`: its step is 0", q->axis[k]->name);
            return false;
        }
    }
    return true;
}

/* ---- pieces */

static bool boxes_meet(const Box *a, const Box *b, int rank)
{
    for (int k = 0; k < rank; k++) {
        if (a[k].n == EXT_BATCH || b[k].n == EXT_BATCH)
            continue;
        if (a[k].lo + a[k].n <= b[k].lo || b[k].lo + b[k].n <= a[k].lo)
            return false;
    }
    return true;
}

static bool add_piece(Sema *s, Def *def, const Box *box, Span at)
{
    if (def->piece.n == MOST_PIECES) {
        sema_error(s, at, "`%s` is defined by more than %d equations", def->name, MOST_PIECES);
        return false;
    }
    for (int i = 0; i < def->piece.n; i++) {
        const Piece *p = &def->piece.at[i];
        for (int k = 0; k < def->rank; k++) {
            if ((p->box[k].n == EXT_BATCH) != (box[k].n == EXT_BATCH) && !s->dry) {
                sema_error(s, at, "axis %d of `%s` is the batch in one piece and not in another", k + 1, def->name);
                sema_note(s, p->at, "the other piece");
                return false;
            }
        }
        if (boxes_meet(p->box, box, def->rank)) {
            sema_error(s, at, "`%s` is defined twice%s", def->name, def->rank ? " at some elements" : "");
            sema_note(s, p->at, "here first");
            if (def->rank)
                sema_help(s, "pieces of a tensor must not overlap; a new value needs a new name");
            return false;
        }
    }
    Piece piece = { .at = at };
    for (int k = 0; k < def->rank; k++) {
        piece.box[k] = box[k];
        Ext end = box[k].n == EXT_BATCH ? EXT_BATCH : box[k].lo + box[k].n;
        if (!def->piece.n || end == EXT_BATCH || end > def->shape[k])
            def->shape[k] = end;
    }
    PUSH(s->arena, def->piece, piece);
    return true;
}

static long double volume(const Box *box, int rank)
{
    long double v = 1;
    for (int k = 0; k < rank; k++)
        v *= box[k].n == EXT_BATCH ? 1 : (long double)box[k].n;
    return v;
}

/* The first point, in row-major order of the boxes' corners, that no piece holds. */
static bool first_hole(const Def *def, int64_t *point, int dim)
{
    if (dim == def->rank) {
        Box at[MAX_RANK];
        for (int k = 0; k < def->rank; k++)
            at[k] = (Box){ point[k], 1 };
        for (int i = 0; i < def->piece.n; i++) {
            if (boxes_meet(def->piece.at[i].box, at, def->rank))
                return false;
        }
        return true;
    }
    for (int i = -1; i < def->piece.n; i++) {                  /* a hole begins at 0 or where a box ends */
        const Box *b = i < 0 ? NULL : &def->piece.at[i].box[dim];
        point[dim] = !b || b->n == EXT_BATCH ? 0 : b->lo + b->n;
        bool again = false;
        for (int j = -1; !again && j < i; j++) {
            const Box *c = j < 0 ? NULL : &def->piece.at[j].box[dim];
            again = (!c || c->n == EXT_BATCH ? 0 : c->lo + c->n) == point[dim];
        }
        if (again || (def->shape[dim] != EXT_BATCH && point[dim] >= def->shape[dim]))
            continue;
        if (first_hole(def, point, dim + 1))
            return true;
    }
    return false;
}

void def_close(Sema *s, Def *def)
{
    long double covered = 0, all = 1;
    def->open = false;
    if (def->broken || s->dry)
        return;
    for (int i = 0; i < def->piece.n; i++)
        covered += volume(def->piece.at[i].box, def->rank);
    for (int k = 0; k < def->rank; k++) {
        all *= def->shape[k] == EXT_BATCH ? 1 : (long double)def->shape[k];
        if (def->tensor >= 0)
            s->g->tensor[def->tensor].shape[k] = def->shape[k];
    }
    if (covered == all)
        return;
    enum { FEW = 64 };
    int64_t point[MAX_RANK] = { 0 };
    def->broken = true;
    Text t = { .arena = s->arena };
    if (def->piece.n <= FEW && first_hole(def, point, 0)) {
        for (int k = 0; k < def->rank; k++) {
            if (def->shape[k] == EXT_BATCH)
                text_printf(&t, "%sb", k ? ", " : "[");
            else
                text_printf(&t, "%s%lld", k ? ", " : "[", (long long)point[k]);
        }
        sema_error(s, def->at, "nothing defines `%s%s]`", def->name, text_data(&t));
    } else {
        sema_error(s, def->at, "parts of `%s` are not defined", def->name);
    }
    sema_note(s, def->at, "%d equation%s together make%s it %s", def->piece.n, def->piece.n == 1 ? "" : "s",
              def->piece.n == 1 ? "s" : "", shape_text(s, def->rank, def->shape));
}

/* ---- whole equations */

/* One equation for `def`, which is bound to its name already. */
static bool define(Sema *s, const Node *set, Def *def)
{
    const Affine *store[MAX_RANK];
    Span at[MAX_RANK];
    Box box[MAX_RANK];
    Eq q;
    eq_begin(s, &q, EQ_EXPLICIT, def->name);
    int rank = eq_left(s, &q, set->a->b, store, at);
    bool first = !def->piece.n;
    if (rank >= 0 && !first && rank != def->rank) {
        sema_error(s, set->a->span, "`%s` has %d ax%s here and %d in its first equation", def->name, rank,
                   rank == 1 ? "is" : "es", def->rank);
        sema_note(s, def->at, "here");
        return false;
    }
    if (rank < 0)
        return false;
    def->busy = true;
    Value v = value_of(s, &q, set->b);
    def->busy = false;
    if (v.kind == V_ERROR)
        return false;
    if (v.kind == V_TENSOR && v.def->rank) {
        const char *text = sema_text(s, set->b);
        sema_error(s, set->b->span, "`%s` has %d ax%s and stands here without an index", text, v.def->rank,
                   v.def->rank == 1 ? "is" : "es");
        note_def(s, v.def, text);
        if (set->b->kind != AST_NAME)
            sema_help(s, "give the result a name: `let %s = %s`", def->name, text);
        else
            sema_help(s, "write `%s[...]` with an index for each axis", text);
        return false;
    }
    const Expr *body = value_scalar(s, &v, set->b->span);
    if (!body)
        return false;
    for (int k = 0; k < q.n; k++) {
        if (!eq_known(s, &q, q.axis[k], q.axis[k]->first))
            return false;
    }
    if (first)
        def->rank = rank;
    if (s->dry) {
        for (int k = 0; k < rank; k++) {
            int axis = aff_plain(store[k]);
            def->shape[k] = axis >= 0 ? q.axis[axis]->ext : EXT_ANY;
        }
        def->piece.n = 1;
    } else if (!left_box(s, &q, store, at, rank, box) || !add_piece(s, def, box, set->a->span)) {
        return false;
    }
    return finish_equation(s, &q, def, (1u << q.n_left) - 1, store, body, set->span);
}

/* The loop whose counter stands on the left, the outermost of them: then each round defines a piece. */
static void counters(Sema *s, const Node *n, Name **outermost)
{
    for (; n; n = n->next) {
        Name *name = n->kind == AST_NAME ? scope_local(s, n->text) : NULL;
        if (name && name->kind == NAME_LOOP) {
            const Scope *up = *outermost ? (*outermost)->scope : NULL;
            while (up && up != name->scope)
                up = up->up;
            if (!*outermost || up)
                *outermost = name;
        }
        if (n->kind == AST_BINARY || n->kind == AST_UNARY) {
            counters(s, n->a, outermost);
            counters(s, n->b, outermost);
        }
    }
}

static bool may_define(Sema *s, const Name *name, const Node *target)
{
    const Def *def = name->value.kind == V_TENSOR ? name->value.def : NULL;
    if (name->value.kind == V_ERROR || (def && def->broken))
        return false;
    if (name->kind == NAME_TENSOR && def && def->open)
        return true;
    if (name->kind == NAME_TENSOR)
        sema_error(s, target->span, "`%s` is complete: it has been read", name->name);
    else
        sema_error(s, target->span, "`%s` is defined already", name->name);
    sema_note(s, name->at, "here");
    sema_help(s, "values do not change: give the new tensor a name of its own");
    return false;
}

void exec_equation(Sema *s, const Node *set)
{
    const Node *target = set->a;
    const char *text = target->a->text;
    Name *name = scope_local(s, text);
    if (strchr(text, '.')) {
        sema_error(s, target->a->span, "only parameters have dotted names");
        return;
    }
    if (name && s->frame->optimizer && (name->kind == NAME_STATE || name->kind == NAME_FORMAL)) {
        exec_assign(s, name, set);
        return;
    }
    if (name && !may_define(s, name, target))
        return;
    if (!name) {
        Name *loop = NULL;
        counters(s, target->b, &loop);
        Def *def = def_new(s, text, target->span, 0, NULL);
        def->open = true;
        name = scope_declare(s, loop ? loop->scope->up : s->scope, text, NAME_TENSOR, value_def(def, target->span),
                             target->span);
        if (!name)
            return;
        PUSH(s->arena, s->traced, def);
    }
    if (!define(s, set, name->value.def))
        name->value.def->broken = true;
}

bool keeps_shape(Sema *s, const Name *name, const Def *def, Span at)
{
    const Def *old = name->value.def;
    if (def->rank == old->rank && !memcmp(def->shape, old->shape, sizeof *old->shape * (size_t)old->rank))
        return true;
    sema_error(s, at, "the new value of `%s` has shape %s, and `%s` itself %s", name->name, shape_text(s, def->rank, def->shape),
               name->name, shape_text(s, old->rank, old->shape));
    return false;
}

void exec_assign(Sema *s, Name *name, const Node *set)
{
    if (name->value.kind == V_ERROR)
        return;
    if (name->value.kind != V_TENSOR) {
        sema_error(s, set->a->span, "`%s` is %s and gets no new value", name->name, value_text(s, &name->value));
        return;
    }
    Def *def = def_new(s, name->name, set->a->span, 0, NULL);
    bool ok = define(s, set, def);
    def->busy = false;
    if (ok)
        def_close(s, def);
    ok = ok && !def->broken;
    ok = ok && keeps_shape(s, name, def, set->a->span);
    name->value = ok ? value_def(def, set->a->span) : value_error();
}
