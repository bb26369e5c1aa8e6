/* row.c -- ROW kernels: what happens to one row at a time. LayerNorm, softmax and their gradients.
 *
 * A task is a run of rows; where columns are summed too (columns.c), one of CHUNKS equal parts of them. A row is gone through in phases, each one loop along the row: a member goes into the first
 * phase in which all it needs is there. A sum is needed whole, so its readers come a phase later; a map is needed only
 * at the same point, so its readers share its phase. LayerNorm is three phases: mean, variance, result.
 *
 * A logsumexp takes two phases where its terms are cheap: the maximum, then the sum of exponentials below it. In one phase
 * each exponential would wait for the one before.
 *
 * A map that a later phase reads again lies in its tensor when it is written anyway; otherwise it is computed again.
 *
 * Rows of scores (score.c) go through the phases a few at a time, all of them through one phase before the next: a row's phase
 * waits for what the one before sums up, and the machine can not look past a whole row for something else to do. There a
 * softmax's exponentials are computed once: what a logsumexp sums up below its peak is kept, and then divided by the sum. */
#include "cpu/lower.h"
#include <math.h>
#include <string.h>

enum { ROW_POINTS = 16384 };

typedef struct Phase {
    const RowPlan *plan;
    Low *l;
    int number;
    int lanes;                         /* axis along the lanes, -1 */
    V *peak;                           /* by member: the maximum of a logsumexp in its second phase */
    V end;                             /* of the axis `along`; NULL: its extent */
    V *sum, *value;                    /* by member: 1 / the sum below a peak; what a reducer came to */
} Phase;

/* A logsumexp of two phases has its own number in the second. */
static bool finds_peak(const Phase *p, int i)
{
    return p->plan->twice[i] && p->plan->phase[i] == p->number + 1;
}

static bool in_phase(const Phase *p, int i)
{
    return p->plan->phase[i] == p->number || finds_peak(p, i);
}

static bool is_column(const Phase *p, int i)
{
    return p->plan->columns && p->plan->columns->at[i] >= 0;
}

/* What a member does in this phase: the sum below a peak is a sum. */
static Reducer reducer_of(const Phase *p, int i)
{
    return finds_peak(p, i) ? RED_MAX : p->plan->twice[i] ? RED_SUM : p->l->member[i].c->reducer;
}

/* Nothing in it that takes longer than a few operations, members that would be computed again included. */
static bool cheap(const Low *l, const Expr *e, int depth)
{
    if (depth == 16)
        return false;
    if (e->kind == E_LOAD) {
        int m = kernel_member(l->k, e->tensor);
        return m < 0 || l->places.placed[m] || l->member[m].c->red || cheap(l, l->member[m].c->body, depth + 1);
    }
    if (e->kind != E_OP)
        return true;
    bool slow = e->op == OP_EXP || e->op == OP_LN || e->op == OP_ERF || e->op == OP_TANH || e->op == OP_SIN || e->op == OP_COS ||
                e->op == OP_POW;
    for (int i = 0; i < e->n && !slow; i++)
        slow = !cheap(l, e->arg[i], depth + 1);
    return !slow;
}

/* The logsumexp l that member i = exp(its terms - l) is a softmax by; -1: none. */
static int softmax_of(const Low *l, const bool *twice, const int *phase, int i)
{
    const Comp *c = l->member[i].c;
    const Expr *d = c->body->kind == E_OP && c->body->op == OP_EXP ? c->body->arg[0] : NULL;
    if (!d || d->kind != E_OP || d->op != OP_SUB || d->arg[1]->kind != E_LOAD)
        return -1;
    int j = kernel_member(l->k, d->arg[1]->tensor);
    bool is = j >= 0 && twice[j] && phase[i] == phase[j] + 1 && d->arg[0] == l->member[j].c->body && same_point(d->arg[1], l->member[j].c);
    return is ? j : -1;
}

/* Do two members share a phase? Each is in its own, and in the one before when it takes two. */
static bool overlap(int a, bool a_twice, int b, bool b_twice)
{
    return a == b || (a_twice && a - 1 == b) || (b_twice && b - 1 == a);
}

/* The phase of member i, and of nothing before a reader of another shape: a phase has one shape of loop. */
static void assign_phases(Low *l, int n_row, const bool *apart, bool *twice, int *phase)
{
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        twice[i] = c->reducer == RED_LOGSUMEXP && cheap(l, c->body, 0);
        phase[i] = -1;
        if (apart && apart[i])
            continue;
        const Expr *load[64];
        int n = expr_loads(c->body, load, 64), at = 0;
        for (int k = 0; k < n && k < 64; k++) {
            int j = kernel_member(l->k, load[k]->tensor);
            if (j < 0 || j >= i || phase[j] < 0)
                continue;
            const Comp *d = l->member[j].c;
            bool here = !d->red && d->n_axes > n_row && same_inner(c, d, n_row) && same_point(load[k], d);
            int after = here ? phase[j] : phase[j] + 1;
            at = after > at ? after : at;
        }
        /* another shape already has this phase: the next free one */
        for (bool moved = true; moved;) {
            moved = false;
            for (int j = 0; j < i; j++)
                if (overlap(phase[j], twice[j], at + twice[i], twice[i]) && !same_inner(c, l->member[j].c, n_row)) {
                    at++;
                    moved = true;
                    break;
                }
        }
        phase[i] = at + twice[i];
    }
}

/* Is member i read in a later phase than its own? What is computed again there counts as a reader. */
static bool read_later(Low *l, const int *phase, int i)
{
    for (int j = i + 1; j < l->n_member; j++) {
        const Expr *load[64];
        int n = phase[j] < 0 ? 0 : expr_loads(l->member[j].c->body, load, 64);
        bool later = l->places.again[j] || phase[j] > phase[i];
        for (int k = 0; k < n && k < 64; k++)
            if (kernel_member(l->k, load[k]->tensor) == i && (later || !same_point(load[k], l->member[i].c)))
                return true;
    }
    return false;
}

/* Accesses of a body, with those of members that are computed again inside it. */
static void row_loads(Low *l, const Comp *c, Accesses *acc, int depth)
{
    access_loads(l, c, acc);
    const Expr *load[64];
    int n = expr_loads(c->body, load, 64);
    for (int k = 0; k < n && k < 64 && depth < 16; k++) {
        int m = kernel_member(l->k, load[k]->tensor);
        if (m >= 0 && l->places.again[m])
            row_loads(l, l->member[m].c, acc, depth + 1);
    }
}

static int carried(const Phase *p)
{
    int n = 0;
    for (int i = 0; i < p->l->n_member; i++)
        if (in_phase(p, i) && p->l->member[i].c->red && !is_column(p, i))
            n += acc_width(reducer_of(p, i));
    return n;
}

static void phase_body(void *ctx, Scope *s, int part, V *carry)
{
    Phase *p = ctx;
    Low *l = p->l;
    Gen *g = l->g;
    int at = 0;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (!in_phase(p, i))
            continue;
        int by = p->plan->softmax ? p->plan->softmax[i] : -1;
        Val v;
        if (by >= 0) {
            V e = to_f(s, load_at(s, &l->member[i].mem, c->store, &l->member[i], NULL));
            v = member_value(s, c, (Val){VAL_F, f_mul(g, e, p->sum[by])});
        } else {
            v = eval_member(s, c);
        }
        if (is_column(p, i)) {
            columns_add(p->plan->columns, s, i, to_f(s, v));
            continue;
        }
        if (!c->red) {
            member_is(s, c, v);
            l->comp = c;
            if (kernel_writes(l->k, c->out))
                store_member(s, c, v);
            if (l->member[i].kept)
                store_at(s, &l->member[i].mem, c->store, &l->member[i], v);
            continue;
        }
        Reducer kind = reducer_of(p, i);
        int w = acc_width(kind);
        Acc a = {{carry[at], w > 1 ? carry[at + 1] : NULL}};
        V index = NULL, x = to_f(s, v);
        if (kind != c->reducer && kind == RED_SUM) {
            x = m_exp(g, f_sub(g, x, p->peak[i]));
            for (int j = i + 1; p->plan->softmax && j < l->n_member; j++)
                if (p->plan->softmax[j] == i)
                    store_at(s, &l->member[j].mem, l->member[j].c->store, &l->member[j], (Val){VAL_F, x});
        }
        if (kind == RED_ARGMAX) {
            int axis = __builtin_ctz(c->red);
            V first = scope_axis(s, axis);
            index = splat(g, LLVMBuildTrunc(g->b, first, g->t->i32, ""));
            if (axis == s->lanes)
                index = LLVMBuildAdd(g->b, index, lanes_iota(g, g->t->vi), "");
        }
        V mask = s->mask;
        if (s->lanes < 0)              /* one point: one lane counts */
            mask = mask_first(g, ic(g, 1));
        a = acc_take(g, kind, a, x, index, mask);
        carry[at] = a.v[0];
        if (w > 1)
            carry[at + 1] = a.v[1];
        at += w;
    }
}

static void run_phase(Phase *p, Scope *row)
{
    Low *l = p->l;
    Gen *g = l->g;
    const Comp *shape = NULL;
    Accesses acc = {0};
    bool maps = false;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (!in_phase(p, i))
            continue;
        shape = c;
        row_loads(l, c, &acc, 0);
        maps = maps || !c->red || is_column(p, i);
        if (is_column(p, i) || (!c->red && kernel_writes(l->k, c->out)))
            access_store(l, c, &acc);
    }
    Group grp[MAX_AXES];
    uint32_t zero = 0;
    int n_grp = row_axes(&l->places, shape, &acc, p->plan->n_row, grp, &zero);
    int lanes = best_lanes(l, &acc, grp, n_grp), count = carried(p);
    p->lanes = lanes < 0 ? -1 : grp[lanes].axis;

    V carry[MAX_CARRY];
    int unroll = maps || !count || count * 4 > 32 ? 1 : 4, at = 0;
    if (count * unroll > MAX_CARRY / 2) {
        low_fail(l, "too many reductions along one row");
        return;
    }
    if (n_grp > 1)
        unroll = 1;
    for (int part = 0; part < unroll; part++)
        for (int i = 0; i < l->n_member; i++)
            if (in_phase(p, i) && l->member[i].c->red && !is_column(p, i)) {
                Acc e = acc_empty(g, reducer_of(p, i));
                for (int k = 0; k < acc_width(reducer_of(p, i)); k++)
                    carry[at++] = e.v[k];
            }
    Scope in;
    scope_in(&in, row, NULL);
    scope_zero(&in, zero);
    if (lanes < 0) {
        phase_body(p, &in, 0, carry);
    } else if (n_grp == 1) {
        V end = p->end && grp[0].axis == p->plan->along ? p->end : gen_poly(g, grp[0].n);
        lane_loop(&in, grp[0].axis, ic(g, 0), end, unroll, phase_body, p, carry, count);
    } else {
        Loop outer;
        Scope s;
        loop_begin(g, &outer, ic(g, 0), gen_poly(g, group_points(&l->places, grp, n_grp, lanes)), 1, carry, count);
        scope_in(&s, &in, outer.branch);
        scope_digits(&s, grp, n_grp, lanes, outer.i);
        lane_loop(&s, grp[lanes].axis, ic(g, 0), gen_poly(g, grp[lanes].n), 1, phase_body, p, carry, count);
        loop_end(g, &outer, carry);
    }
    at = 0;
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        if (!in_phase(p, i) || !c->red || is_column(p, i))
            continue;
        Reducer kind = reducer_of(p, i);
        int w = acc_width(kind);
        Acc a = {{carry[at], w > 1 ? carry[at + 1] : NULL}};
        for (int part = 1; part < unroll; part++) {
            Acc b = {{carry[part * count + at], w > 1 ? carry[part * count + at + 1] : NULL}};
            a = acc_join(g, kind, a, b);
        }
        Val v = acc_value(g, kind, acc_across(g, kind, a));
        if (finds_peak(p, i)) {        /* nothing above -infinity: the sum is then of zeros */
            p->peak[i] = select_(g, f_cmp(g, LLVMRealOEQ, v.v, fc(g, -INFINITY)), fc(g, 0), v.v);
            at += w;
            continue;
        }
        if (kind != c->reducer) {
            p->sum[i] = f_div(g, fc(g, 1), v.v);
            v.v = f_add(g, p->peak[i], m_ln(g, v.v));
        }
        v = member_value(row, c, v);
        p->value[i] = to_f(row, v);
        member_is(row, c, v);
        l->comp = c;
        if (kernel_writes(l->k, c->out))
            store_member(row, c, v);
        at += w;
    }
}

/* A map that later phases read, and that is in memory: they find it there. */
static void keep(Low *l, const int *phase, int i)
{
    Member *m = &l->member[i];
    bool *placed = &l->places.placed[i];
    *placed = *placed || m->kept;
    if (m->c->red || l->places.again[i] || *placed || !read_later(l, phase, i))
        return;
    m->mem = tensor_mem(l, m->c->out);
    *placed = true;
}

void rows_plan(RowPlan *p, Low *l, int n_row, const bool *apart)
{
    *p = (RowPlan){.l = l, .n_row = n_row, .phase = NEWN(l->arena, int, l->n_member), .twice = NEWN(l->arena, bool, l->n_member)};
    assign_phases(l, n_row, apart, p->twice, p->phase);
    for (int i = l->n_member - 1; i >= 0; i--) {               /* readers first */
        const Member *m = &l->member[i];
        p->n_phase = p->phase[i] >= p->n_phase ? p->phase[i] + 1 : p->n_phase;
        l->places.again[i] = p->phase[i] >= 0 && !m->c->red && !m->kept && read_later(l, p->phase, i) && !kernel_writes(l->k, m->c->out);
    }
}

static void phase_begin(Phase *ph, const RowPlan *p)
{
    int n = p->l->n_member;
    *ph = (Phase){.plan = p, .l = p->l, .peak = NEWN(p->l->arena, V, n), .sum = NEWN(p->l->arena, V, n), .value = NEWN(p->l->arena, V, n)};
}

static bool any_in_phase(const Phase *p)
{
    bool any = false;
    for (int i = 0; i < p->l->n_member; i++)
        any = any || in_phase(p, i);
    return any;
}

static void phase_end(const Phase *p)
{
    for (int i = 0; i < p->l->n_member; i++)
        if (p->plan->phase[i] == p->number)
            keep(p->l, p->plan->phase, i);
}

static void rows_run(const RowPlan *p, Scope *row)
{
    Phase ph;
    phase_begin(&ph, p);
    p->l->places.row_depth = row->level.depth;
    for (; ph.number < p->n_phase && !p->l->failed; ph.number++) {
        if (any_in_phase(&ph))
            run_phase(&ph, row);
        phase_end(&ph);
    }
}

/* ---- rows a few at a time. What a phase leaves of a row for later ones lies in scratch: [member][row] a vector each of the
 * member's value, of the peak, and of 1 / the sum below it. */

enum { ROWS_AT_ONCE = 16, LEFT = 3 };

int64_t rows_scratch(int lanes, int n_member)
{
    return (int64_t)n_member * LEFT * ROWS_AT_ONCE * lanes;
}

static V left_at(const Phase *p, V scratch, V row, int member, int what)
{
    Gen *g = p->l->g;
    V at = i_add(g, row, ic(g, (int64_t)(member * LEFT + what) * ROWS_AT_ONCE));
    return gep(g, g->t->f32, scratch, i_mul(g, at, ic(g, g->t->lanes)));
}

/* What phases before this one left of a row. */
static void recall(Phase *p, Scope *s, V scratch, V row)
{
    Gen *g = p->l->g;
    for (int i = 0; i < p->l->n_member; i++) {
        const Comp *c = p->l->member[i].c;
        int at = p->plan->phase[i];
        if (at < 0 || !c->red)
            continue;
        if (at < p->number)
            member_is(s, c, (Val){VAL_F, load(g, g->t->vf, left_at(p, scratch, row, i, 0), 4)});
        if (at == p->number && p->plan->twice[i])
            p->peak[i] = load(g, g->t->vf, left_at(p, scratch, row, i, 1), 4);
        if (at == p->number - 1 && p->plan->twice[i])
            p->sum[i] = load(g, g->t->vf, left_at(p, scratch, row, i, 2), 4);
    }
}

static void leave(const Phase *p, V scratch, V row)
{
    Gen *g = p->l->g;
    for (int i = 0; i < p->l->n_member; i++) {
        bool peak = finds_peak(p, i);
        if (!in_phase(p, i) || !p->l->member[i].c->red)
            continue;
        store(g, peak ? p->peak[i] : p->value[i], left_at(p, scratch, row, i, peak), 4);
        if (!peak && p->plan->twice[i])
            store(g, p->sum[i], left_at(p, scratch, row, i, 2), 4);
    }
}

void rows_run_together(RowPlan *p, Scope *outer, int axis, V from, V to, V scratch, RowEnd end, void *ctx)
{
    Low *l = p->l;
    Gen *g = l->g;
    Phase ph;
    Loop some, loop;
    Scope in;
    p->softmax = NEWN(l->arena, int, l->n_member);
    for (int i = 0; i < l->n_member; i++)
        p->softmax[i] = l->member[i].kept ? softmax_of(l, p->twice, p->phase, i) : -1;
    phase_begin(&ph, p);
    loop_begin(g, &some, from, to, ROWS_AT_ONCE, NULL, 0);
    scope_in(&in, outer, some.branch);
    V last = i_min(g, i_add(g, some.i, ic(g, ROWS_AT_ONCE)), to);
    for (; ph.number < p->n_phase && !l->failed; ph.number++) {
        Scope row;
        if (any_in_phase(&ph)) {
            loop_begin(g, &loop, some.i, last, 1, NULL, 0);
            scope_in(&row, &in, loop.branch);
            scope_bind(&row, axis, loop.i);
            l->places.row_depth = row.level.depth;
            ph.end = end(ctx, loop.i);
            V number = i_sub(g, loop.i, some.i);
            recall(&ph, &row, scratch, number);
            run_phase(&ph, &row);
            leave(&ph, scratch, number);
            loop_end(g, &loop, NULL);
        }
        phase_end(&ph);
    }
    loop_end(g, &some, NULL);
}

bool lower_row(Low *l)
{
    Gen *g = l->g;
    int n_dom = l->k->n_dom;
    RowPlan plan;
    ColumnSums columns;
    rows_plan(&plan, l, n_dom, NULL);
    plan.columns = columns_find(&columns, l) ? &columns : NULL;
    Accesses acc = {0};
    for (int i = 0; i < l->n_member; i++) {
        access_loads(l, l->member[i].c, &acc);
        if (kernel_writes(l->k, l->member[i].c->out))
            access_store(l, l->member[i].c, &acc);
    }
    int axis[MAX_AXES];
    for (int a = 0; a < n_dom; a++)
        axis[a] = a;
    Group grp[MAX_AXES];
    uint32_t zero = 0;
    int n_grp = merge_axes(&l->places, &acc, l->k->dom, axis, n_dom, grp, &zero);
    Poly rows = group_points(&l->places, grp, n_grp, -1), inner = poly_const(1);
    for (int i = 0; i < l->n_member; i++) {
        Poly p = poly_const(1);
        for (int a = n_dom; a < l->member[i].c->n_axes; a++)
            p = poly_mul(&l->places, p, poly_ext(l->member[i].c->ext[a]));
        if (poly_order(inner, p) < 0)
            inner = p;
    }

    launch_begin(l, "row");
    Scope root, row;
    scope_root(&root, l);
    scope_zero(&root, zero);
    V from, to, per = NULL;
    if (plan.columns) {
        columns_begin(&columns, l->k->n_args);
        chunk_of(g, gen_poly(g, rows), &from, &to);
    } else {
        per = i_max(g, i_div(g, ic(g, ROW_POINTS), i_max(g, gen_poly(g, inner), ic(g, 1))), ic(g, 1));
        from = i_mul(g, g->task, per);
        to = i_min(g, i_add(g, from, per), gen_poly(g, rows));
    }
    Loop loop;
    loop_begin(g, &loop, from, to, 1, NULL, 0);
    scope_in(&row, &root, loop.branch);
    scope_digits(&row, grp, n_grp, -1, loop.i);
    rows_run(&plan, &row);
    loop_end(g, &loop, NULL);
    launch_tasks(l);
    if (plan.columns) {
        launch_end(l, ic(g, CHUNKS));
        columns_join(&columns, l->k->n_args);
        return !l->failed;
    }
    per = i_max(g, i_div(g, ic(g, ROW_POINTS), i_max(g, gen_poly(g, inner), ic(g, 1))), ic(g, 1));
    launch_end(l, i_ceil_div(g, gen_poly(g, rows), per));
    return !l->failed;
}
