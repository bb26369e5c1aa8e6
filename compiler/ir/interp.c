/* interp.c -- the reference interpreter: what a graph means, in f64, one point at a time.
 *
 * A Comp's body becomes a list of steps, one for each distinct node, arguments first; every point of the iteration
 * space runs the list from top to bottom and takes the last value. Both branches of a `where` are computed, so a
 * load under a guard may be out of range: its indices are clamped. The same outside a guard (a gather by a bad
 * index) is an error. It is the oracle for gradients and back ends: it is not to become faster.
 *
 * A tensor of bf16 holds rounded numbers; a scatter into one is refused by the verifier.
 *
 *   sum           in the order of the axes, the last one fastest; of nothing: 0
 *   max, min      as the functions; of nothing: -inf, +inf
 *   argmax        the first largest (or the first NaN); of nothing: 0
 *   logsumexp     m + ln sum exp(x - m), m the largest; m itself when that is not finite; of nothing: -inf */
#include "ir/pool.h"
#include <math.h>

typedef struct Map Map;
typedef struct MapTerm {
    AtomKind kind;
    int axis;
    int step;                            /* AT_LOAD: where the loaded value is */
    int64_t by, coef;
    Map *arg;
} MapTerm;
struct Map {
    int64_t c;
    int n;
    MapTerm *term;
};

typedef struct Step {
    ExprKind kind;
    Op op;
    double value;
    int arg[3];
    Map *idx;                            /* E_INDEX: one; E_LOAD: rank */
    int rank;
    bool guarded;                        /* only ever needed under a where */
    int tensor;
    const double *data;
    int64_t shape[MAX_RANK];
} Step;

typedef struct Program {
    Graph *g;
    const Env *env;
    Arena *arena;                        /* holds the program */
    Memo where;                          /* expression -> index of its step + 1 */
    ARRAY(Step) step;
    double *slot;                        /* one value a step */
    const Expr *bad;                     /* an unguarded load that was out of range */
    ARRAY(const Expr *) source;          /* of each step; for messages */
} Program;

static int64_t extent_of(Ext e, int64_t batch)
{
    return e == EXT_BATCH ? batch : e;
}

int64_t tensor_count(const Graph *g, int tensor, int64_t batch)
{
    const Tensor *t = &g->tensor[tensor];
    int64_t n = 1;
    bool empty = false;
    for (int i = 0; i < t->rank; i++) {
        int64_t e = extent_of(t->shape[i], batch);
        empty |= e == 0;
        n = sat_mul(n, e);
    }
    return empty ? 0 : n;
}

/* ---- a body becomes steps */

static int compile(Program *p, const Expr *e);

static void compile_map(Program *p, const Affine *a, Map *out)
{
    *out = (Map){ .c = a->c, .n = a->n, .term = NEWN(p->arena, MapTerm, a->n) };
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        MapTerm *own = &out->term[i];
        *own = (MapTerm){ .kind = t->kind, .axis = t->axis, .by = t->by, .coef = t->coef };
        if (t->kind == AT_LOAD)
            own->step = compile(p, t->load);
        if (t->kind == AT_DIV || t->kind == AT_MOD)
            compile_map(p, t->arg, own->arg = NEW(p->arena, Map));
    }
}

static int compile(Program *p, const Expr *e)
{
    const void *known = memo_get(&p->where, e);
    if (known)
        return (int)(intptr_t)known - 1;
    Step s = { .kind = e->kind, .op = e->op, .value = e->c, .guarded = true };
    if (e->kind == E_EXTENT)
        s.value = (double)p->env->batch;
    if (e->kind == E_INDEX)
        compile_map(p, e->aff, s.idx = NEW(p->arena, Map));
    if (e->kind == E_LOAD) {
        s.rank = e->n;
        s.tensor = e->tensor;
        s.data = p->env->value[e->tensor];
        s.idx = NEWN(p->arena, Map, e->n);
        for (int i = 0; i < e->n; i++) {
            s.shape[i] = extent_of(p->g->tensor[e->tensor].shape[i], p->env->batch);
            compile_map(p, e->idx[i], &s.idx[i]);
        }
    }
    for (int i = 0; e->kind == E_OP && i < e->n; i++)
        s.arg[i] = compile(p, e->arg[i]);
    PUSH(p->arena, p->step, s);
    PUSH(p->arena, p->source, e);
    memo_put(&p->where, e, (const void *)(intptr_t)p->step.n);
    return p->step.n - 1;
}

static void unguard(Program *p, int step);

static void unguard_map(Program *p, const Map *m)
{
    for (int i = 0; i < m->n; i++) {
        if (m->term[i].kind == AT_LOAD)
            unguard(p, m->term[i].step);
        else if (m->term[i].arg)
            unguard_map(p, m->term[i].arg);
    }
}

/* Marks what is needed for certain: everything but the branches of a where. */
static void unguard(Program *p, int step)
{
    Step *s = &p->step.at[step];
    if (!s->guarded)
        return;
    s->guarded = false;
    if (s->kind == E_INDEX)
        unguard_map(p, s->idx);
    for (int i = 0; s->kind == E_LOAD && i < s->rank; i++)
        unguard_map(p, &s->idx[i]);
    int n = s->kind != E_OP ? 0 : s->op == OP_WHERE ? 1 : op_info[s->op].arity;
    for (int i = 0; i < n; i++)
        unguard(p, s->arg[i]);
}

/* ---- one point */

static int64_t whole(double x)                                 /* an integer that was stored as a number */
{
    return x > -9e15 && x < 9e15 ? (int64_t)x : INT64_MIN / 4;
}

static int64_t map_value(const Program *p, const Map *m, const int64_t *axis)
{
    int64_t v = m->c;
    for (int i = 0; i < m->n; i++) {
        const MapTerm *t = &m->term[i];
        int64_t atom = t->kind == AT_AXIS   ? axis[t->axis]
                       : t->kind == AT_LOAD ? whole(p->slot[t->step])
                       : t->kind == AT_DIV  ? floor_div(map_value(p, t->arg, axis), t->by)
                                            : floor_mod(map_value(p, t->arg, axis), t->by);
        v = sat_add(v, sat_mul(t->coef, atom));
    }
    return v;
}

static double load_value(Program *p, int step, const int64_t *axis)
{
    const Step *s = &p->step.at[step];
    int64_t at = 0;
    for (int i = 0; i < s->rank; i++) {
        int64_t k = map_value(p, &s->idx[i], axis), n = s->shape[i];
        if ((k < 0 || k >= n) && !s->guarded)
            p->bad = p->source.at[step];
        if (n == 0)
            return 0;
        at = at * n + (k < 0 ? 0 : k >= n ? n - 1 : k);
    }
    return s->data[at];
}

static double point(Program *p, const int64_t *axis)
{
    for (int i = 0; i < p->step.n; i++) {
        const Step *s = &p->step.at[i];
        if (s->kind == E_OP)
            p->slot[i] = op_eval(s->op, p->slot[s->arg[0]], p->slot[s->arg[1]], p->slot[s->arg[2]]);
        else if (s->kind == E_LOAD)
            p->slot[i] = load_value(p, i, axis);
        else
            p->slot[i] = s->kind == E_INDEX ? (double)map_value(p, s->idx, axis) : s->value;
    }
    return p->slot[p->step.n - 1];
}

/* ---- one Comp */

static void program_begin(Program *p, Graph *g, const Env *env, Arena *a)
{
    *p = (Program){ .g = g, .env = env, .arena = a };
    memo_init(&p->where);
}

static void program_end(Program *p)                            /* all compiled: the body last */
{
    p->slot = NEWN(p->arena, double, p->step.n);
    memo_free(&p->where);
}

/* The next point of the axes in `mask`, the last one fastest; false after the last. */
static bool advance(const Comp *c, uint32_t mask, int64_t batch, int64_t *axis)
{
    for (int k = c->n_axes - 1; k >= 0; k--) {
        if (!(mask >> k & 1))
            continue;
        if (++axis[k] < extent_of(c->ext[k], batch))
            return true;
        axis[k] = 0;
    }
    return false;
}

static bool begin(const Comp *c, uint32_t mask, int64_t batch, int64_t *axis)      /* false: there is no point */
{
    for (int k = 0; k < c->n_axes; k++) {
        if (!(mask >> k & 1))
            continue;
        axis[k] = 0;
        if (extent_of(c->ext[k], batch) == 0)
            return false;
    }
    return true;
}

static double log_sum_exp(Program *p, const Comp *c, int64_t *axis)
{
    int64_t batch = p->env->batch;
    double most = -INFINITY, sum = 0;
    bool more = begin(c, c->red, batch, axis);
    for (bool go = more; go; go = advance(c, c->red, batch, axis))
        most = op_eval(OP_MAX, point(p, axis), most, 0);
    if (!isfinite(most))
        return most;
    begin(c, c->red, batch, axis);
    for (bool go = more; go; go = advance(c, c->red, batch, axis))
        sum += exp(point(p, axis) - most);
    return most + log(sum);
}

static double arg_max(Program *p, const Comp *c, int64_t *axis)
{
    int red = 0;
    double best = -INFINITY;
    int64_t at = 0;
    while (!(c->red >> red & 1))
        red++;
    for (bool go = begin(c, c->red, p->env->batch, axis); go; go = advance(c, c->red, p->env->batch, axis)) {
        double x = point(p, axis);
        if (x > best || (isnan(x) && !isnan(best))) {
            best = x;
            at = axis[red];
        }
    }
    return (double)at;
}

static double reduce(Program *p, const Comp *c, int64_t *axis)
{
    switch (c->reducer) {
    case RED_NONE:
    case RED_SCATTER:
        return point(p, axis);
    case RED_ARGMAX:
        return arg_max(p, c, axis);
    case RED_LOGSUMEXP:
        return log_sum_exp(p, c, axis);
    case RED_SUM:
    case RED_MAX:
    case RED_MIN:
    case N_REDUCERS:
        break;
    }
    Op op = c->reducer == RED_SUM ? OP_ADD : c->reducer == RED_MAX ? OP_MAX : OP_MIN;
    double v = op == OP_ADD ? 0 : op == OP_MAX ? -INFINITY : INFINITY;
    for (bool go = begin(c, c->red, p->env->batch, axis); go; go = advance(c, c->red, p->env->batch, axis))
        v = op_eval(op, v, point(p, axis), 0);
    return v;
}

double interp_point(Graph *g, const Comp *c, const int64_t *axis, const Env *env)
{
    Arena scratch = {0};
    Program p;
    int64_t at[MAX_AXES] = {0};
    for (int k = 0; k < c->n_axes; k++)
        at[k] = axis[k];
    program_begin(&p, g, env, &scratch);
    unguard(&p, compile(&p, c->body));
    program_end(&p);
    double v = reduce(&p, c, at);
    arena_free(&scratch);
    return v;
}

static bool run_comp(Graph *g, const Comp *c, const Env *env, Text *why)
{
    Arena scratch = {0};
    Program p;
    const Tensor *t = &g->tensor[c->out];
    double *out = env->value[c->out];
    int64_t axis[MAX_AXES] = {0};
    Map store[MAX_RANK];
    program_begin(&p, g, env, &scratch);
    for (int i = 0; i < t->rank; i++) {
        compile_map(&p, c->store[i], &store[i]);
        unguard_map(&p, &store[i]);
    }
    int last = compile(&p, c->body);
    unguard(&p, last);
    if (last != p.step.n - 1) {                                /* the body is a load that the store reads too */
        PUSH(p.arena, p.step, p.step.at[last]);
        PUSH(p.arena, p.source, c->body);
    }
    program_end(&p);
    uint32_t free_axes = ((1u << c->n_axes) - 1) & ~c->red;
    for (bool go = begin(c, free_axes, env->batch, axis); go; go = advance(c, free_axes, env->batch, axis)) {
        double v = reduce(&p, c, axis);
        int64_t at = 0;
        bool stays = true;
        for (int i = 0; i < t->rank; i++) {
            int64_t k = map_value(&p, &store[i], axis), n = extent_of(t->shape[i], env->batch);
            stays &= k >= 0 && k < n;
            at = stays ? at * n + k : 0;
        }
        if (p.bad)
            break;
        if (stays)                                             /* a scatter leaves out what falls outside */
            out[at] = c->reducer == RED_SCATTER ? out[at] + v : t->dtype == DT_BF16 ? round_bf16(v) : v;
    }
    if (p.bad) {
        text_printf(why, "the load ");
        expr_print(g, p.bad, why);
        text_printf(why, " is out of range in ");
        comp_print(g, c, why);
    }
    arena_free(&scratch);
    return !p.bad;
}

bool interp_run(Graph *g, Env *env, Arena *a, Text *why)
{
    for (int t = 0; t < g->n_tensor; t++) {
        if (g->tensor[t].kind == T_TEMP)
            env->value[t] = NULL;
    }
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        Arena scratch = {0};
        int n, missing = -1;
        const Expr **load = comp_all_loads(c, &scratch, &n);
        for (int k = 0; k < n; k++)
            if (!env->value[load[k]->tensor] && missing < 0)
                missing = load[k]->tensor;
        arena_free(&scratch);
        if (missing >= 0) {
            text_printf(why, "%%%d has no value in ", missing);
            comp_print(g, c, why);
            return false;
        }
        int64_t count = tensor_count(g, c->out, env->batch), bytes;
        if (!checked_mul(count, (int64_t)sizeof(double), &bytes)) {
            text_printf(why, "%%%d is too large", c->out);
            return false;
        }
        if (!env->value[c->out])
            env->value[c->out] = NEWN(a, double, count);
        if (!run_comp(g, c, env, why))
            return false;
    }
    return true;
}
