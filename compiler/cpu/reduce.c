/* reduce.c -- REDUCE kernels: column sums, totals, statistics by column.
 *
 * What stays is cut into columns; lanes run along them when they lie side by side in memory, and along the reduced
 * axes otherwise. With few columns the reduced space is cut into CHUNKS parts of fixed size: the first launch leaves a
 * partial result of each in a workspace, the second joins them in order. The cut depends on shapes and batch alone, so
 * the result does not depend on the number of threads. Maps over what stays are computed with the final values. */
#include "cpu/lower.h"

enum { FEW_COLUMNS = 16384, SMALL = 16384, WIDE = 4, MOST_MEMBERS = 16 };

typedef struct Reduction {
    Low *l;
    Gen *g;
    Group dom[MAX_AXES], red[MAX_AXES];
    int n_dom, n_red, lanes;           /* lane group: of dom when across, else of red; -1: none */
    bool across;                       /* lanes run along what stays */
    uint32_t zero;
    Poly rows, length, terms;          /* other points of dom, of the dom lane group (1), of red without lanes */
    int64_t columns;                   /* rows * length when chunked */
    bool chunked;
    int carried;
} Reduction;

static bool is_reduced(const Low *l, int member) { return l->member[member].c->reducer != RED_NONE; }

static int carried(const Low *l)
{
    int n = 0;
    for (int i = 0; i < l->n_member; i++)
        n += is_reduced(l, i) ? acc_width(l->member[i].c->reducer) : 0;
    return n;
}

static bool analyse(Reduction *r)
{
    Low *l = r->l;
    const Comp *c = NULL;              /* all reductions have the same axes */
    Accesses acc = {0}, both = {0};    /* of reductions, which decide about lanes; of all members */
    bool positions = false;
    if (l->n_member > MOST_MEMBERS) {
        low_fail(l, "more than %d reductions in one kernel", MOST_MEMBERS);
        return false;
    }
    for (int i = 0; i < l->n_member; i++) {
        const Comp *m = l->member[i].c;
        positions = positions || m->reducer == RED_ARGMAX;
        if (!is_reduced(l, i))
            continue;
        c = c ? c : m;
        access_comp(l, m, &acc);
        access_comp(l, m, &both);
    }
    for (int i = 0; i < l->n_member; i++)
        if (!is_reduced(l, i)) {
            access_loads(l, l->member[i].c, &both);
            if (kernel_writes(l->k, l->member[i].c->out))
                access_store(l, l->member[i].c, &both);
        }
    split_axes(&l->places, c, &both, positions, r->dom, &r->n_dom, r->red, &r->n_red, &r->zero);
    int best_dom = best_lanes(l, &acc, r->dom, r->n_dom), best_red = best_lanes(l, &acc, r->red, r->n_red);
    Group two[2];
    r->lanes = best_dom;
    r->across = best_dom >= 0;
    if (best_dom >= 0 && best_red >= 0) {
        two[0] = r->dom[best_dom];
        two[1] = r->red[best_red];
        r->across = best_lanes(l, &acc, two, 2) == 0;
    }
    if (!r->across)
        r->lanes = best_red;
    r->rows = group_points(&l->places, r->dom, r->n_dom, r->across ? r->lanes : -1);
    r->length = r->across ? r->dom[r->lanes].n : poly_const(1);
    r->terms = group_points(&l->places, r->red, r->n_red, r->across ? -1 : r->lanes);
    r->carried = carried(l);

    int64_t columns, terms;
    Poly all = poly_mul(&l->places, r->rows, r->length);
    bool fixed = poly_fixed(all, &columns);
    bool small = poly_fixed(group_points(&l->places, r->red, r->n_red, -1), &terms) && fixed && columns * terms <= SMALL;
    bool one_term = poly_is(r->terms, 1);              /* all of it lies along the lanes: a few vectors */
    r->chunked = fixed && columns <= FEW_COLUMNS && !small && !positions && !one_term;
    r->columns = columns;
    return !l->failed;
}

/* One point's contribution to all members. */
static void take(Reduction *r, Scope *s, V *carry)
{
    Low *l = r->l;
    Gen *g = r->g;
    int at = 0;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (!is_reduced(l, i))
            continue;
        int w = acc_width(c->reducer);
        Acc a = {{carry[at], w > 1 ? carry[at + 1] : NULL}};
        V x = to_f(s, eval_member(s, c)), index = NULL, mask = s->mask;
        if (c->reducer == RED_ARGMAX) {
            int axis = __builtin_ctz(c->red);
            index = splat(g, LLVMBuildTrunc(g->b, scope_axis(s, axis), g->t->i32, ""));
            if (axis == s->lanes)
                index = LLVMBuildAdd(g->b, index, lanes_iota(g, g->t->vi), "");
        }
        if (s->lanes < 0)
            mask = mask_first(g, ic(g, 1));
        a = acc_take(g, c->reducer, a, x, index, mask);
        carry[at] = a.v[0];
        if (w > 1)
            carry[at + 1] = a.v[1];
        at += w;
    }
}

static void start(Reduction *r, V *carry)
{
    int at = 0;
    for (int i = 0; i < r->l->n_member; i++) {
        Reducer kind = r->l->member[i].c->reducer;
        if (!is_reduced(r->l, i))
            continue;
        Acc a = acc_empty(r->g, kind);
        for (int k = 0; k < acc_width(kind); k++)
            carry[at++] = a.v[k];
    }
}

static void take_lanes(void *ctx, Scope *s, int part, V *carry)
{
    take(ctx, s, carry);
}

/* The reduction of terms [lo, hi) for `parts` vectors of columns beginning at `column` (across), or for one column. */
static void gather_terms(Reduction *r, Scope *row, V column, V mask, int parts, V lo, V hi, V *carry)
{
    Gen *g = r->g;
    for (int p = 0; p < parts; p++)
        start(r, carry + p * r->carried);
    Loop loop;
    Scope term;
    loop_begin(g, &loop, lo, hi, 1, carry, parts * r->carried);
    scope_in(&term, row, loop.branch);
    scope_digits(&term, r->red, r->n_red, r->across ? -1 : r->lanes, loop.i);
    if (!r->across && r->lanes >= 0) {
        lane_loop(&term, r->red[r->lanes].axis, ic(g, 0), gen_poly(g, r->red[r->lanes].n), 1, take_lanes, r, carry, r->carried);
    } else {
        for (int p = 0; p < parts; p++) {
            Scope s;
            scope_in(&s, &term, NULL);
            if (r->across) {
                s.lanes = r->dom[r->lanes].axis;
                s.mask = mask;
                scope_bind(&s, s.lanes, i_add(g, column, ic(g, p * g->t->lanes)));
            }
            take(r, &s, carry + p * r->carried);
        }
    }
    loop_end(g, &loop, carry);
    if (r->across)
        return;
    int at = 0;
    for (int i = 0; i < r->l->n_member; i++) {
        Reducer kind = r->l->member[i].c->reducer;
        if (!is_reduced(r->l, i))
            continue;
        int w = acc_width(kind);
        Acc a = {{carry[at], w > 1 ? carry[at + 1] : NULL}};
        a = acc_across(g, kind, a);
        carry[at] = a.v[0];
        if (w > 1)
            carry[at + 1] = a.v[1];
        at += w;
    }
}

/* Final values of a vector of columns to their tensors, and what is computed from them. */
static void finish(Reduction *r, Scope *row, V column, V mask, V *carry)
{
    Low *l = r->l;
    Scope s;
    int at = 0;
    scope_in(&s, row, NULL);
    if (r->across) {
        s.lanes = r->dom[r->lanes].axis;
        s.mask = mask;
        scope_bind(&s, s.lanes, column);
    }
    Val value[MOST_MEMBERS];
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (!is_reduced(l, i))
            continue;
        int w = acc_width(c->reducer);
        Acc a = {{carry[at], w > 1 ? carry[at + 1] : NULL}};
        l->comp = c;
        value[i] = member_value(&s, c, acc_value(r->g, c->reducer, a));
        member_is(&s, c, value[i]);
        at += w;
    }
    for (int i = 0; i < l->n_member; i++)
        if (!is_reduced(l, i)) {
            value[i] = eval_member(&s, l->member[i].c);
            member_is(&s, l->member[i].c, value[i]);
        }
    for (int i = 0; i < l->n_member; i++)
        if (kernel_writes(l->k, l->member[i].c->out)) {
            l->comp = l->member[i].c;
            store_member(&s, l->comp, value[i]);
        }
}

/* Where vector `k` of chunk `chunk` keeps column `column` of row `flat`. */
static V partial(Reduction *r, V chunk, int k, V flat, V column)
{
    Gen *g = r->g;
    V n = i_add(g, i_mul(g, chunk, ic(g, r->carried)), ic(g, k));
    V at = i_add(g, i_mul(g, n, ic(g, r->columns)), i_add(g, i_mul(g, flat, gen_poly(g, r->length)), column));
    return gep(g, g->t->f32, gen_buffer(g, r->l->k->n_args), at);
}

static void keep_partial(Reduction *r, V chunk, V flat, V column, V mask, V *carry)
{
    Gen *g = r->g;
    for (int k = 0; k < r->carried; k++) {
        V p = partial(r, chunk, k, flat, column);
        if (!r->across)
            store(g, lane(g, carry[k], 0), p, 4);
        else if (mask)
            llvm_masked_store(g->t, g->b, carry[k], p, mask);
        else
            store(g, carry[k], p, 4);
    }
}

/* All columns of one row: whole groups of WIDE vectors, then vector by vector. */
typedef void (*Columns)(Reduction *r, Scope *row, V flat, V column, V mask, int parts, void *ctx);

static void each_column(Reduction *r, Scope *row, V flat, V from, V to, Columns body, void *ctx)
{
    Gen *g = r->g;
    int w = g->t->lanes;
    if (!r->across) {
        Scope s;
        scope_in(&s, row, NULL);
        body(r, &s, flat, ic(g, 0), NULL, 1, ctx);
        return;
    }
    int wide = r->carried * WIDE <= 24 ? WIDE : 1;
    V count = i_sub(g, to, from), whole = i_add(g, from, i_mul(g, i_div(g, count, ic(g, wide * w)), ic(g, wide * w)));
    Loop a, b;
    Scope s;
    loop_begin(g, &a, from, whole, wide * w, NULL, 0);
    scope_in(&s, row, a.branch);
    body(r, &s, flat, a.i, NULL, wide, ctx);
    loop_end(g, &a, NULL);
    loop_begin(g, &b, whole, to, w, NULL, 0);
    scope_in(&s, row, b.branch);
    body(r, &s, flat, b.i, mask_first(g, i_sub(g, to, b.i)), 1, ctx);
    loop_end(g, &b, NULL);
}

typedef struct Range { V lo, hi, chunk; } Range;

static void first_body(Reduction *r, Scope *row, V flat, V column, V mask, int parts, void *ctx)
{
    const Range *t = ctx;
    V carry[MAX_CARRY];
    gather_terms(r, row, column, mask, parts, t->lo, t->hi, carry);
    for (int p = 0; p < parts; p++) {
        V at = i_add(r->g, column, ic(r->g, p * r->g->t->lanes));
        if (t->chunk)
            keep_partial(r, t->chunk, flat, at, mask, carry + p * r->carried);
        else
            finish(r, row, at, mask, carry + p * r->carried);
    }
}

static void second_body(Reduction *r, Scope *row, V flat, V column, V mask, int parts, void *ctx)
{
    Gen *g = r->g;
    for (int p = 0; p < parts; p++) {
        V carry[MAX_CARRY], at = i_add(g, column, ic(g, p * g->t->lanes));
        start(r, carry);
        Loop loop;
        loop_begin(g, &loop, ic(g, 0), ic(g, CHUNKS), 1, carry, r->carried);
        int k = 0;
        for (int i = 0; i < r->l->n_member; i++) {
            Reducer kind = r->l->member[i].c->reducer;
            if (!is_reduced(r->l, i))
                continue;
            int w = acc_width(kind);
            Acc a = {{carry[k], w > 1 ? carry[k + 1] : NULL}}, b = {{NULL}};
            for (int j = 0; j < w; j++) {
                V from = partial(r, loop.i, k + j, flat, at);
                b.v[j] = !r->across ? splat(g, load(g, g->t->f32, from, 4))
                       : mask ? llvm_masked_load(g->t, g->b, g->t->vf, from, mask) : load(g, g->t->vf, from, 4);
            }
            a = acc_join(g, kind, a, b);
            carry[k] = a.v[0];
            if (w > 1)
                carry[k + 1] = a.v[1];
            k += w;
        }
        loop_end(g, &loop, carry);
        finish(r, row, at, mask, carry);
    }
}

/* Every row of dom in turn. */
static void each_row(Reduction *r, Scope *root, Columns body, Range *range)
{
    Gen *g = r->g;
    Loop loop;
    Scope row;
    loop_begin(g, &loop, ic(g, 0), gen_poly(g, r->rows), 1, NULL, 0);
    scope_in(&row, root, loop.branch);
    scope_digits(&row, r->dom, r->n_dom, r->across ? r->lanes : -1, loop.i);
    each_column(r, &row, loop.i, ic(g, 0), gen_poly(g, r->length), body, range);
    loop_end(g, &loop, NULL);
}

static V strip(Reduction *r)           /* columns a task takes when tasks are strips of columns */
{
    return ic(r->g, WIDE * r->g->t->lanes);
}

bool lower_reduce(Low *l)
{
    Gen *g = l->g;
    Reduction r = {.l = l, .g = g, .lanes = -1};
    if (!analyse(&r))
        return false;
    if (r.carried > MAX_CARRY / 2) {
        low_fail(l, "too many reductions in one kernel");
        return false;
    }
    Scope root;
    if (r.chunked) {
        l->out->workspace = poly_const((int64_t)CHUNKS * r.carried * r.columns);
        launch_begin(l, "reduce");
        scope_root(&root, l);
        scope_zero(&root, r.zero);
        Range t = {.chunk = g->task};
        chunk_of(g, gen_poly(g, r.terms), &t.lo, &t.hi);
        each_row(&r, &root, first_body, &t);
        launch_tasks(l);
        launch_end(l, ic(g, CHUNKS));

        launch_begin(l, "join");
        scope_root(&root, l);
        scope_zero(&root, r.zero);
        each_row(&r, &root, second_body, NULL);
        launch_tasks(l);
        launch_end(l, ic(g, 1));
        return !l->failed;
    }
    /* a task is a strip of columns of one row, or one row */
    launch_begin(l, "reduce");
    scope_root(&root, l);
    scope_zero(&root, r.zero);
    V length = gen_poly(g, r.length), strips = r.across ? i_ceil_div(g, length, strip(&r)) : ic(g, 1);
    V flat = i_div(g, g->task, i_max(g, strips, ic(g, 1))), from = i_mul(g, i_sub(g, g->task, i_mul(g, flat, strips)), strip(&r));
    Scope row;
    scope_in(&row, &root, NULL);
    scope_digits(&row, r.dom, r.n_dom, r.across ? r.lanes : -1, flat);
    Range t = {ic(g, 0), gen_poly(g, r.terms), NULL};
    each_column(&r, &row, flat, from, i_min(g, i_add(g, from, strip(&r)), length), first_body, &t);
    launch_tasks(l);
    length = gen_poly(g, r.length);
    strips = r.across ? i_ceil_div(g, length, strip(&r)) : ic(g, 1);
    launch_end(l, i_mul(g, gen_poly(g, r.rows), strips));
    return !l->failed;
}
