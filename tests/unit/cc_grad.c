/* cc_grad.c -- gradients against central differences in f64.
 *
 * The sweep over functions and reducers is driven by ops.def and reducers.def: a new row is tested with no further
 * act, a row without a gradient is reported. The index maps are a list of small graphs as text, each with the form
 * its gradient is to take. Each gradient graph must also pass the verifier and survive print and parse. */
#include "graph_test.h"

static const double STEP = 1e-5, TOLERANCE = 1e-6;

/* Values for everything that is not computed: i32 tensors below the extent `bound`, others in [lo, hi). */
static double **fill(Arena *a, const Graph *g, int64_t batch, int bound, double lo, double hi, uint64_t seed)
{
    double **value = NEWN(a, double *, g->n_tensor + 64);
    for (int t = 0; t < g->n_tensor; t++) {
        if (g->tensor[t].kind == T_TEMP)
            continue;
        int64_t n = tensor_count(g, t, batch);
        value[t] = NEWN(a, double, n);
        for (int64_t i = 0; i < n; i++) {
            double x = sample(&seed);
            value[t][i] = g->tensor[t].dtype == DT_I32 ? floor(x * bound) : lo + x * (hi - lo);
        }
    }
    return value;
}

static double value_of(Graph *g, double *const *given, int64_t batch, int out)
{
    Arena scratch = {0};
    double **value = NEWN(&scratch, double *, g->n_tensor), v;
    for (int t = 0; t < g->n_tensor; t++)
        value[t] = g->tensor[t].kind == T_TEMP ? NULL : given[t];
    Env env = { value, batch };
    ran(&scratch, g, &env);
    v = value[out][0];
    arena_free(&scratch);
    return v;
}

/* Appends the gradient by every f32 tensor that is given; returns the largest error, relative to the largest entry
 * of that gradient or 1. `only` >= 0: by this tensor alone. */
static double worst_error(const char *text, const char *loss_name, int64_t batch, int bound, double lo, double hi,
                          int only, Arena *a, Graph **made)
{
    Graph *g = graph_from(a, text), *forward = graph_from(a, text);
    int loss = find_tensor(g, loss_name), wrt[16], grads[16], n = 0;
    verified(a, g);
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind != T_TEMP && g->tensor[t].dtype == DT_F32 && (only < 0 || only == t))
            wrt[n++] = t;
    double **given = fill(a, g, batch, bound, lo, hi, 7);
    Text why = { .arena = a };
    if (!grad_append(g, loss, wrt, n, grads, &why))
        fail_msg("%s", text_data(&why));
    for (int i = 0; i < n; i++)
        if (grads[i] >= 0)
            graph_output(g, g->tensor[wrt[i]].name, grads[i]);
    verified(a, g);
    graph_dce(g);
    verified(a, g);
    assert_string_equal(text_of(a, graph_from(a, text_of(a, g))), text_of(a, g));
    Env env = { NEWN(a, double *, g->n_tensor), batch };
    for (int t = 0; t < forward->n_tensor; t++)
        env.value[t] = given[t];
    ran(a, g, &env);
    double worst = 0;
    for (int i = 0; i < n; i++) {
        int64_t count = tensor_count(g, wrt[i], batch);
        double scale = 1;
        for (int64_t k = 0; k < count && grads[i] >= 0; k++)
            scale = fmax(scale, fabs(env.value[grads[i]][k]));
        for (int64_t k = 0; k < count; k++) {
            double *x = &given[wrt[i]][k], at = *x, up, down;
            *x = at + STEP;
            up = value_of(forward, given, batch, loss);
            *x = at - STEP;
            down = value_of(forward, given, batch, loss);
            *x = at;
            double error = fabs((up - down) / (2 * STEP) - (grads[i] < 0 ? 0 : env.value[grads[i]][k])) / scale;
            worst = error <= worst ? worst : error;            /* a NaN is the worst */
        }
    }
    *made = g;
    return worst;
}

static void gradient_is_right(const char *what, const char *text, int64_t batch, double lo, double hi)
{
    Arena a = {0};
    Graph *g;
    double worst = worst_error(text, "loss", batch, 5, lo, hi, -1, &a, &g);
    if (!(worst < TOLERANCE))
        fail_msg("%s: error %g in\n%s", what, worst, text_of(&a, g));
    arena_free(&a);
}

/* ---- functions */

typedef struct Shapes { const char *name; int rank; Ext x[2], y[2], out[2]; } Shapes;
static const Shapes shapes[] = {
    { "[1]", 1, { 1 }, { 1 }, { 1 } },
    { "[7]", 1, { 7 }, { 7 }, { 7 } },
    { "[0]", 1, { 0 }, { 0 }, { 0 } },
    { "[3,1]x[1,5]", 2, { 3, 1 }, { 1, 5 }, { 3, 5 } },
};

static const Expr *broadcast(Graph *g, int tensor, const Ext *shape, const Ext *out, int rank)
{
    const Affine *at[2];
    for (int k = 0; k < rank; k++)
        at[k] = shape[k] == out[k] ? aff_axis(g, k) : aff_const(g, 0);
    return expr_load(g, tensor, at);
}

/* out = op(x, y), a condition being `x > 1`; loss = sum(w * out). As text. */
static const char *op_graph(Arena *a, Op op, const Shapes *s)
{
    Graph *g = graph_new(a, NULL);
    const Affine *at[] = { aff_axis(g, 0), aff_axis(g, 1) };
    int x = graph_tensor(g, "x", s->rank, s->x, T_PARAM, DT_F32), y = graph_tensor(g, "y", s->rank, s->y, T_PARAM, DT_F32);
    int w = graph_tensor(g, "w", s->rank, s->out, T_PARAM, DT_F32);
    int out = graph_tensor(g, "out", s->rank, s->out, T_TEMP, DT_F32), loss = graph_tensor(g, "loss", 0, NULL, T_TEMP, DT_F32);
    const Expr *ex = broadcast(g, x, s->x, s->out, s->rank), *ey = broadcast(g, y, s->y, s->out, s->rank);
    const Expr *above = expr_op(g, OP_GT, ex, expr_const(g, 1), NULL);
    const Expr *e = op_info[op].arity == 3 ? expr_op(g, op, above, ey, ex) : expr_op(g, op, ex, ey, NULL);
    const Expr *product = expr_op(g, OP_MUL, expr_load(g, w, at), expr_load(g, out, at), NULL);
    graph_comp(g, out, s->rank, s->out, 0, RED_NONE, e, at, (Span){0}, "op");
    graph_comp(g, loss, s->rank, s->out, (1u << s->rank) - 1, RED_SUM, product, NULL, (Span){0}, "loss");
    return text_of(a, g);
}

static void every_function(void **state)
{
    int without = 0;
    for (int op = 0; op < N_OPS; op++) {
        if (!op_has_gradient(op)) {
            fprintf(stderr, "# no gradient: %s\n", op_info[op].name);
            without++;
            assert_true(op_info[op].compares || !strcmp(op_info[op].name, "floor"));
        }
        for (int s = 0; s < (int)LEN(shapes) && op_has_gradient(op); s++) {
            Arena a = {0};
            const char *what = arena_printf(&a, "%s of %s", op_info[op].name, shapes[s].name);
            const char *text = op_graph(&a, op, &shapes[s]);
            gradient_is_right(what, text, 1, 0.5, 1.5);
            if (isfinite(op_eval(op, -1.2, -0.7, 1)))
                gradient_is_right(what, text, 1, -1.5, -0.5);
            arena_free(&a);
        }
    }
    assert_int_equal(without, 10);
}

/* r = reducer over all axes, or all but the first, of x*x + x; loss = sum(w * r). As text. */
static const char *reducer_graph(Arena *a, Reducer r, const Ext *ext, int rank, bool keep_first)
{
    Graph *g = graph_new(a, NULL);
    const Affine *at[] = { aff_axis(g, 0), aff_axis(g, 1) };
    DType dtype = r == RED_ARGMAX ? DT_I32 : DT_F32;
    uint32_t all = (1u << rank) - 1, red = r == RED_SCATTER || r == RED_NONE ? 0 : keep_first ? all & ~1u : all;
    int free_rank = red ? keep_first : rank;
    int x = graph_tensor(g, "x", rank, ext, T_PARAM, DT_F32), w = graph_tensor(g, "w", free_rank, ext, T_PARAM, DT_F32);
    int out = graph_tensor(g, "r", free_rank, ext, T_TEMP, dtype), loss = graph_tensor(g, "loss", 0, NULL, T_TEMP, DT_F32);
    const Expr *ex = expr_load(g, x, at);
    const Expr *body = expr_op(g, OP_ADD, expr_op(g, OP_MUL, ex, ex, NULL), ex, NULL);
    const Expr *product = expr_op(g, OP_MUL, expr_load(g, w, at), expr_load(g, out, at), NULL);
    graph_comp(g, out, rank, ext, red, r, body, at, (Span){0}, "red");
    graph_comp(g, loss, free_rank, ext, (1u << free_rank) - 1, free_rank ? RED_SUM : RED_NONE, product, NULL, (Span){0},
               "loss");
    return text_of(a, g);
}

static void every_reducer(void **state)
{
    static const struct { const char *name; int rank; Ext ext[2]; bool keep_first; } cases[] = {
        { "[1]", 1, { 1 }, false }, { "[7]", 1, { 7 }, false }, { "[0]", 1, { 0 }, false },
        { "[3,5], last", 2, { 3, 5 }, true }, { "[3,5], both", 2, { 3, 5 }, false },
    };
    for (int r = 0; r < N_REDUCERS; r++) {
        bool reported = false;
        for (int i = 0; i < (int)LEN(cases); i++) {
            Arena a = {0};
            Graph *g;
            if (r == RED_ARGMAX && cases[i].rank == 2 && !cases[i].keep_first)
                continue;
            const char *text = reducer_graph(&a, r, cases[i].ext, cases[i].rank, cases[i].keep_first);
            if (r == RED_SCATTER) {
                int x = 0, grad;
                Text why = { .arena = &a };
                g = graph_from(&a, text);
                assert_false(grad_append(g, find_tensor(g, "loss"), &x, 1, &grad, &why));
                assert_non_null(strstr(text_data(&why), "a scatter has no gradient: %2[a0"));
                reported = true;
            } else {
                double worst = worst_error(text, "loss", 1, 5, -0.4, 1, 0, &a, &g);
                if (!(worst < TOLERANCE))
                    fail_msg("%s of %s: error %g in\n%s", reducer_name[r], cases[i].name, worst, text_of(&a, g));
                reported |= find_tensor(g, "d_x") < 0;
            }
            arena_free(&a);
        }
        if (reported)
            fprintf(stderr, "# no gradient: reducer %s\n", reducer_name[r]);
        assert_int_equal(reported, r == RED_ARGMAX || r == RED_SCATTER);
    }
}

/* ---- index maps */

typedef enum { STORE, GATHER, SCATTER } Form;
typedef struct Case {
    const char *name;
    Form form;                           /* of the gradient of x */
    const char *x, *w, *text;            /* shapes; %0 is x, %1 is w, %2 the i32 tensor of 4 values below 5 */
} Case;
#define Y(shape) "tensor %3 temp f32[" shape "] \"y\"\n"
#define LOSS "tensor %9 temp f32[] \"loss\"\n%9 = "
#define SQUARES LOSS "sum{a0:3, a1:2}(%3[a0, a1]^2)"

static const Case cases[] = {
    { "broadcast", STORE, "4", "4, 5",
      Y("4, 5") "%3[a0, a1] = %0[a0] {a0:4, a1:5}" LOSS "sum{a0:4, a1:5}(%3[a0, a1] * %1[a0, a1])" },
    { "transpose", STORE, "4, 5", "4, 5",
      Y("5, 4") "%3[a1, a0] = %0[a0, a1] {a0:4, a1:5}" LOSS "sum{a0:4, a1:5}(%3[a1, a0] * %1[a0, a1])" },
    { "patches r*2+i", STORE, "6", "3, 2",
      Y("3, 3") "%3[a0, a1] = sum{a2:2}(%0[a0*2 + a2] * %1[a1, a2]) {a0:3, a1:3}" SQUARES },
    { "patches, tail left", STORE, "7", "3, 2",
      Y("3, 3") "%3[a0, a1] = sum{a2:2}(%0[a0*2 + a2] * %1[a1, a2]) {a0:3, a1:3}" SQUARES },
    { "window, stride 1", GATHER, "6", "3",
      Y("4") "%3[a0] = sum{a1:3}(%0[a0 + a1] * %1[a1]) {a0:4}" LOSS "sum{a0:4}(%3[a0]^2)" },
    { "window, stride 2", GATHER, "7", "3",
      Y("3") "%3[a0] = sum{a1:3}(%0[a0*2 + a1] * %1[a1]) {a0:3}" LOSS "sum{a0:3}(%3[a0]^2)" },
    { "gaps, stride 3", GATHER, "12", "2",
      Y("3") "%3[a0] = sum{a1:2}(%0[a0*3 + a1 + 1] * %1[a1]) {a0:3}" LOSS "sum{a0:3}(%3[a0]^2)" },
    { "only stride 2", GATHER, "6", "3",
      Y("3") "%3[a0] = %0[a0*2]^2 {a0:3}" LOSS "sum{a0:3}(%3[a0] * %1[a0])" },
    { "head split", STORE, "18", "2, 3",
      Y("2, 3") "%3[a0, a1] = %0[a0*3 + a1 + 6] {a0:2, a1:3}" LOSS "sum{a0:2, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "reversed", STORE, "6", "6", Y("6") "%3[a0] = %0[-a0 + 5]^2 {a0:6}" LOSS "sum{a0:6}(%3[a0] * %1[a0])" },
    { "toeplitz t-u+3", GATHER, "7", "4, 4", LOSS "sum{a0:4, a1:4}(%0[a0 - a1 + 3]^2 * %1[a0, a1])" },
    { "stride 2, down", GATHER, "11", "4, 4", LOSS "sum{a0:4, a1:4}(%0[-a0*2 + a1 + 7] * %1[a0, a1])" },
    { "stride 3, down within", GATHER, "11", "4, 2", LOSS "sum{a0:4, a1:2}(%0[a0*3 - a1 + 1]^2 * %1[a0, a1])" },
    { "window in nine steps", GATHER, "10", "3",
      LOSS "sum{a0:2, a1:2, a2:2, a3:2, a4:2, a5:2, a6:2, a7:2, a8:2, a9:3}(%0[a0 + a1 + a2 + a3 + a4 + a5 + a6 + a7 + a8] * %1[a9])" },
    { "diagonal", GATHER, "4, 4", "4", LOSS "sum{a0:4}(%0[a0, a0]^2 * %1[a0])" },
    { "off-diagonal", GATHER, "4, 6", "4", LOSS "sum{a0:4}(%0[a0, a0 + 1] * %1[a0])" },
    { "gather rows", SCATTER, "5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = %0[%2[a0], a1] {a0:4, a1:3}" LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "gather pinned", GATHER, "4, 5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = %0[a0, %2[a0], a1] {a0:4, a1:3}" LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "pinned, the gather first", GATHER, "5, 4, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = %0[%2[a0], a0, a1] {a0:4, a1:3}" LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "gather under a guard", SCATTER, "5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = where(%2[a0] > 1, %0[%2[a0] - 2, a1], 0.5) {a0:4, a1:3}"
      LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "gather by the number before", SCATTER, "5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = where([a0] > 0, %0[%2[a0 - 1], a1], 0.5) {a0:4, a1:3}"
      LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "pinned, by the number behind", GATHER, "4, 5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = where([a0] < 3, %0[a0, %2[a0 + 1], a1], 0.5) {a0:4, a1:3}"
      LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "gather by a gather by the number before", SCATTER, "5, 3", "4, 3",
      Y("4, 3") "%3[a0, a1] = where([a0] > 0, %0[%2[(%2[a0 - 1] mod 4)], a1], 0.5) {a0:4, a1:3}"
      LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2 * %1[a0, a1])" },
    { "gather, summed first", SCATTER, "5", "4, 3", LOSS "sum{a0:4, a1:3}(%0[%2[a0]] * %1[a0, a1])" },
    { "softmax", STORE, "4, 5", "5",
      Y("4") "tensor %4 temp f32[4, 5] \"p\"\n%3[a0] = logsumexp{a1:5}(%0[a0, a1] * %1[a1]) {a0:4}"
      "%4[a0, a1] = exp(%0[a0, a1] * %1[a1] - %3[a0]) {a0:4, a1:5}" LOSS "sum{a0:4, a1:5}(%4[a0, a1]^2)" },
    { "causal softmax", STORE, "5, 5", "5, 5",
      Y("5") "tensor %4 temp f32[5, 5] \"p\"\n%3[a0] = logsumexp{a1:5}(where([a1] > [a0], -inf, %0[a0, a1])) {a0:5}"
      "%4[a0, a1] = exp(where([a1] > [a0], -inf, %0[a0, a1]) - %3[a0]) {a0:5, a1:5}"
      LOSS "sum{a0:5, a1:5}(%4[a0, a1] * %1[a0, a1])" },
    { "logsumexp", STORE, "4, 5", "4",
      Y("4") "%3[a0] = logsumexp{a1:5}(%0[a0, a1]) {a0:4}" LOSS "sum{a0:4}(%3[a0] * %1[a0])" },
    { "max", STORE, "4, 5", "5",
      Y("4") "%3[a0] = max{a1:5}(%0[a0, a1] * %1[a1]) {a0:4}" LOSS "sum{a0:4}(%3[a0]^2)" },
    { "min", STORE, "4, 5", "5",
      Y("4") "%3[a0] = min{a1:5}(%0[a0, a1] * %1[a1]) {a0:4}" LOSS "sum{a0:4}(%3[a0]^2)" },
    { "max over two axes", STORE, "4, 5", "4",
      Y("") "%3 = max{a0:4, a1:5}(%0[a0, a1] * %1[a0])" LOSS "%3^2" },
    { "mean, nested", STORE, "4, 5", "5",
      Y("4") "%3[a0] = sum{a1:5}(%0[a0, a1] * %1[a1]) {a0:4}" LOSS "sum{a0:4}(%3[a0]^2 / 4)" },
    { "clamp", STORE, "9", "9", LOSS "sum{a0:9}(min(max(%0[a0], -0.3), 0.4) * %1[a0])" },
    { "pieces", STORE, "3, 2", "2",
      Y("4, 2") "%3[0, a0] = %1[a0]^2 {a0:2}  %3[a0 + 1, a1] = %0[a0, a1]^2 {a0:3, a1:2}"
      LOSS "sum{a0:4, a1:2}(%3[a0, a1]^2)" },
    { "thirds", STORE, "9", "3",
      LOSS "sum{a0:3}(%0[a0] * %0[a0 + 3] * %1[a0])" },
    { "thirds by map", STORE, "9", "3",
      Y("3") "tensor %4 temp f32[3] \"q\"\n%3[a0] = %0[a0] * %1[a0] {a0:3}  %4[a0] = %0[a0 + 6]^2 {a0:3}"
      LOSS "sum{a0:3}(%3[a0] * %4[a0])" },
    { "one row of many", STORE, "4, 3", "3", LOSS "sum{a0:3}(%0[2, a0]^2 * %1[a0])" },
    { "used three ways", GATHER, "4, 4", "4",
      Y("4, 4") "%3[a0, a1] = %0[a0, a1] * %0[a1, a0] + exp(%0[a0, 1]) {a0:4, a1:4}"
      LOSS "sum{a0:4, a1:4}(%3[a0, a1] * %1[a0])" },
    { "shifted under a guard", GATHER, "6", "6",
      Y("6") "%3[a0] = where([a0] > 0, %0[a0 - 1]^2, 3) {a0:6}" LOSS "sum{a0:6}(%3[a0] * %1[a0])" },
    { "shifted the other way", GATHER, "6", "6",
      Y("6") "%3[a0] = where([a0] < 5, %0[a0 + 1]^2, 3) {a0:6}" LOSS "sum{a0:6}(%3[a0] * %1[a0])" },
    { "padded window", GATHER, "6", "3",
      Y("6") "%3[a0] = sum{a1:3}(where([a0 + a1] >= 1 and [a0 + a1] < 7, %0[a0 + a1 - 1] * %1[a1], 0)) {a0:6}"
      LOSS "sum{a0:6}(%3[a0]^2)" },
    { "window in two dimensions", GATHER, "5, 7", "2, 3",
      Y("4, 3") "%3[a0, a1] = sum{a2:2, a3:3}(%0[a0 + a2, a1*2 + a3] * %1[a2, a3]) {a0:4, a1:3}"
      LOSS "sum{a0:4, a1:3}(%3[a0, a1]^2)" },
    { "one number", STORE, "", "5", LOSS "sum{a0:5}(exp(%0) * %1[a0]^3)" },
    { "unused axis", STORE, "3", "2", LOSS "sum{a0:3, a1:2, a2:6}(%0[a0] * %1[a1])" },
    { "power and quotient", STORE, "4", "4", LOSS "sum{a0:4}((%0[a0] + 2)^3 / (%1[a0] + 2) - 2^%0[a0])" },
    { "integer as number", STORE, "4", "4", LOSS "sum{a0:4}(%0[a0] * %2[a0] + %1[a0] * [a0*2 + 1])" },
};

static bool mentions(const Expr *e, Op op)
{
    bool found = e->kind == E_OP && e->op == op;
    for (int i = 0; e->kind == E_OP && i < e->n; i++)
        found |= mentions(e->arg[i], op);
    return found;
}

static Form form_of(const Graph *g)
{
    Form form = STORE;
    for (int i = 0; i < g->n_comp; i++) {
        const Comp *c = g->comp[i];
        if (strncmp(g->tensor[c->out].name, "d_x", 3))
            continue;
        if (c->reducer == RED_SCATTER)
            return SCATTER;
        if (mentions(c->body, OP_WHERE))
            form = GATHER;
    }
    return form;
}

static void every_index_map(void **state)
{
    for (int i = 0; i < (int)LEN(cases); i++) {
        Arena a = {0};
        Graph *g;
        const char *text = arena_printf(&a,
            "tensor %%0 param f32[%s] const(0) \"x\"\ntensor %%1 param f32[%s] const(0) \"w\"\n"
            "tensor %%2 input i32[4] \"at\"\n%s", cases[i].x, cases[i].w, cases[i].text);
        double worst = worst_error(text, "loss", 1, 5, -1, 1, -1, &a, &g);
        if (!(worst < TOLERANCE))
            fail_msg("%s: error %g in\n%s", cases[i].name, worst, text_of(&a, g));
        bool has_guards = strstr(cases[i].text, "where") || strstr(cases[i].text, "max") || strstr(cases[i].text, "min");
        Form form = form_of(g);
        if (form != cases[i].form && !(has_guards && form == GATHER))
            fail_msg("%s takes form %d, not %d:\n%s", cases[i].name, form, cases[i].form, text_of(&a, g));
        arena_free(&a);
    }
}

/* Equations of the gradient of x, and how many of them have a guard: cells that the same shares cover are one, a guard that a cell
 * decides is gone, and one part beside a whole is a guard, no cut. */
static void few_cells(void **state)
{
    static const struct { const char *name, *x, *text; int comps, guards; } few[] = {
        { "one row of a third, and a third", "4, 6", LOSS "sum{a0:4, a1:2}(%0[0, a1] * %0[a0, a1 + 2] * %1[a0])", 4, 0 },
        { "one row of a third, and two", "4, 6", LOSS "sum{a0:4, a1:2}(%0[0, a1] * %0[a0, a1 + 2] * %0[a0, a1 + 4] * %1[a0])", 4, 0 },
        { "all, and one row", "4, 6", LOSS "sum{a0:4, a1:6}(%0[a0, a1]^2 * %0[2, a1] * %1[a0])", 1, 1 },
        { "all, and two rows", "4, 6", LOSS "sum{a0:4, a1:6}(%0[a0, a1]^2 * %0[2, a1] * %0[3, a1] * %1[a0])", 3, 0 },
        { "a gather from a third, and two thirds", "4, 5, 6",
          LOSS "sum{a0:4, a1:5, a2:2}(%0[a0, %2[a0], a2] * %0[a0, a1, a2 + 2] * %0[a0, a1, a2 + 4] * %1[a0])", 3, 1 },
        { "a gather, one row, and the last three", "4, 5", LOSS "sum{a0:4, a1:3}(%0[a0, %2[a0]] * %0[a0, a1 + 2] * %0[a0, 0] * %1[a0])", 3, 3 },
        { "every second, and the first two", "7", LOSS "sum{a0:3}(%0[a0*2]^2 * %0[0] * %0[1] * %1[a0])", 3, 1 },
        { "a sum over windows, and one row", "6", LOSS "sum{a0:4, a1:3}(%0[a0 + a1]^2 * %0[0] * %1[a0])", 2, 0 },
    };
    for (int i = 0; i < (int)LEN(few); i++) {
        Arena a = {0};
        Graph *g;
        int comps = 0, guards = 0;
        const char *text = arena_printf(&a, "tensor %%0 param f32[%s] const(0) \"x\"\ntensor %%1 param f32[4] const(0) \"w\"\n"
                                        "tensor %%2 input i32[4] \"at\"\n%s", few[i].x, few[i].text);
        double worst = worst_error(text, "loss", 1, 5, -1, 1, -1, &a, &g);
        if (!(worst < TOLERANCE))
            fail_msg("%s: error %g in\n%s", few[i].name, worst, text_of(&a, g));
        for (int c = 0; c < g->n_comp; c++)
            if (!strcmp(g->tensor[g->comp[c]->out].name, "d_x")) {
                comps++;
                guards += mentions(g->comp[c]->body, OP_WHERE);
            }
        if (comps != few[i].comps || guards != few[i].guards)
            fail_msg("%s: %d equations, %d with a guard; wanted %d and %d:\n%s", few[i].name, comps, guards, few[i].comps, few[i].guards,
                     text_of(&a, g));
        arena_free(&a);
    }
}

/* ---- with a batch */

static const char clip[] =                                     /* two towers, a symmetric contrastive loss, a mean */
    "tensor %0 input f32[B, 4] \"image\"\n"
    "tensor %1 input i32[B, 3] \"tokens\"\n"
    "tensor %2 param f32[2, 4] const(0) \"proj\"\n"
    "tensor %3 param f32[5, 2] const(0) \"table\"\n"
    "tensor %4 param f32[] const(0) \"scale\"\n"
    "tensor %5 temp f32[B, 2] \"u\"\n"
    "tensor %6 temp f32[B, 2] \"v\"\n"
    "tensor %7 temp f32[B, B] \"s\"\n"
    "tensor %8 temp f32[B] \"rows\"\n"
    "tensor %9 temp f32[B] \"columns\"\n"
    "tensor %10 temp f32[] \"loss\"\n"
    "tensor %11 temp f32[B, 2] \"word\"\n"
    "tensor %12 temp f32[B] \"norm\"\n"
    "%5[a0, a1] = sum{a2:4}(%0[a0, a2] * %2[a1, a2])  {a0:B, a1:2}  @ \"visual\"\n"
    "%11[a0, a1] = sum{a2:3}(%3[%1[a0, a2], a1] / 3)  {a0:B, a1:2}  @ \"text\"\n"
    "%12[a0] = sum{a1:2}(%11[a0, a1]^2)  {a0:B}  @ \"text\"\n"
    "%6[a0, a1] = %11[a0, a1] * rsqrt(%12[a0] + 0.1)  {a0:B, a1:2}  @ \"text\"\n"
    "%7[a0, a1] = sum{a2:2}(exp(%4) * %5[a0, a2] * %6[a1, a2])  {a0:B, a1:B}\n"
    "%8[a0] = logsumexp{a1:B}(%7[a0, a1])  {a0:B}\n"
    "%9[a0] = logsumexp{a1:B}(%7[a1, a0])  {a0:B}\n"
    "%10 = sum{a0:B}((%8[a0] + %9[a0] - %7[a0, a0]*2) / B * 0.5)\n";

static void contrastive_loss(void **state)
{
    Arena a = {0};
    Graph *g;
    double worst = worst_error(clip, "loss", 3, 5, -1, 1, -1, &a, &g);
    if (!(worst < TOLERANCE))
        fail_msg("error %g in\n%s", worst, text_of(&a, g));
    int scatters = 0;
    for (int i = 0; i < g->n_comp; i++)
        scatters += g->comp[i]->reducer == RED_SCATTER;
    assert_int_equal(scatters, 1);                             /* the token table */
    arena_free(&a);
}

static void batch_mean(void **state)
{
    gradient_is_right("mean over the batch",
        "tensor %0 input f32[B, 3] \"x\" tensor %1 param f32[] const(0) \"w\" tensor %2 temp f32[] \"loss\""
        "%2 = sum{a0:B, a1:3}((%0[a0, a1] * %1 + %1^2) / B)", 4, -1, 1);
    gradient_is_right("only a factor of the batch",
        "tensor %0 param f32[3] const(0) \"x\" tensor %1 temp f32[] \"loss\""
        "%1 = sum{a0:B, a1:3}(%0[a1]^2)", 4, -1, 1);
    gradient_is_right("one row of the batch",
        "tensor %0 input f32[B, 3] \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:3}(%0[0, a0]^2)", 4, -1, 1);
    gradient_is_right("the next row of the batch",
        "tensor %0 input f32[B] \"x\" tensor %1 temp f32[] \"loss\""
        "%1 = sum{a0:B}(where([a0 + 1] < B, %0[a0] * %0[a0 + 1], 0))", 4, -1, 1);
    for (int batch = 4; batch <= 7; batch += 3)
        gradient_is_right("the first five of the batch",
            "tensor %0 input f32[B] \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:5}(where([a0] < B, %0[a0]^2, 0))", batch, -1, 1);
    gradient_is_right("the batch modulo 3",
        "tensor %0 param f32[3] const(0) \"x\" tensor %1 input f32[B] \"y\" tensor %2 temp f32[] \"loss\""
        "%2 = sum{a0:B}(%0[(a0 mod 3)]^2 * %1[a0])", 7, -1, 1);
}

/* Where a function or reducer has a corner: of equal arguments the first gets all, and |x| is flat at 0. */
static void corners(void **state)
{
    static const struct { const char *text; double x[3], d[3]; } corner[] = {
        { "max(%0[0], %0[1])", { 2, 2, 0 }, { 1, 0, 0 } }, { "min(%0[0], %0[1])", { 2, 2, 0 }, { 1, 0, 0 } },
        { "abs(%0[0])", { 0, 0, 0 }, { 0, 0, 0 } },        { "max{a0:3}(%0[a0])", { 1, 3, 3 }, { 0, 1, 0 } },
        { "min{a0:3}(%0[a0])", { 3, 1, 1 }, { 0, 1, 0 } },
    };
    for (int i = 0; i < (int)LEN(corner); i++) {
        Arena a = {0};
        Graph *g = graph_from(&a, arena_printf(&a, "tensor %%0 param f32[3] const(0) \"x\" tensor %%1 temp f32[] \"loss\" %%1 = %s",
                                               corner[i].text));
        int x = 0, grad;
        double at[3];
        Text why = { .arena = &a };
        assert_true(grad_append(g, 1, &x, 1, &grad, &why));
        Env env = { NEWN(&a, double *, g->n_tensor), 1 };
        memcpy(at, corner[i].x, sizeof at);
        env.value[0] = at;
        ran(&a, g, &env);
        for (int k = 0; k < 3; k++)
            if (env.value[grad][k] != corner[i].d[k])
                fail_msg("%s: element %d of the gradient is %g, not %g", corner[i].text, k, env.value[grad][k], corner[i].d[k]);
        arena_free(&a);
    }
}

/* The positions of an extremum over three axes need a tensor of nine. */
static void too_many_dimensions(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a,
        "tensor %0 param f32[2, 2, 2, 2, 2, 2, 2, 8] const(0) \"x\" tensor %1 temp f32[2, 2, 2, 2, 2, 2, 2] \"m\" tensor %2 temp f32[] \"loss\""
        "%1[a0, a1, a2, a3, a4, a5, a6] = max{a7:2, a8:2, a9:2}(%0[a0, a1, a2, a3, a4, a5, a6, a7*4 + a8*2 + a9])"
        "  {a0:2, a1:2, a2:2, a3:2, a4:2, a5:2, a6:2}"
        "%2 = sum{a0:2, a1:2, a2:2, a3:2, a4:2, a5:2, a6:2}(%1[a0, a1, a2, a3, a4, a5, a6])");
    int x = 0, grad;
    Text why = { .arena = &a };
    assert_false(grad_append(g, 2, &x, 1, &grad, &why));
    assert_non_null(strstr(text_data(&why), "the gradient of this max needs a tensor of more than 8 dimensions: %1[a0"));
    arena_free(&a);
}

/* What is asked for and does not lead to the loss; f64 scalars of the host; the loss itself; spans and tags. */
static void what_does_not_depend(void **state)
{
    Arena a = {0};
    Graph *g = graph_from(&a,
        "tensor %0 param f32[3] const(0) \"x\" tensor %1 param f32[3] const(0) \"other\""
        "tensor %2 state f64[] const(0) \"lr\" tensor %3 temp f32[] \"loss\" tensor %4 temp f32[] \"log\""
        "tensor %5 temp f32[3] \"step\""
        "%5[a0] = floor(%0[a0]) {a0:3}"
        "%3 = sum{a0:3}(%0[a0] * %2 * %5[a0])  @ \"head\""
        "%4 = sum{a0:3}(%1[a0])");
    int wrt[] = { 0, 1, 2, 3 }, grads[4];
    g->comp[1]->span = (Span){ 4, 9 };
    Text why = { .arena = &a };
    assert_true(grad_append(g, 3, wrt, 4, grads, &why));
    verified(&a, g);
    assert_true(grads[0] >= 0);
    assert_int_equal(grads[1], -1);
    assert_int_equal(grads[2], -1);
    assert_true(grads[3] >= 0);
    for (int i = 0; i < g->n_comp; i++)
        if (g->comp[i]->out == grads[0]) {
            assert_string_equal(g->comp[i]->tag, "head'");
            assert_int_equal(g->comp[i]->span.lo, 4);
            assert_string_equal(g->tensor[grads[0]].name, "d_x");
        }
    assert_false(grad_append(g, 0, wrt, 1, grads, &why));
    assert_string_equal(text_data(&why), "the loss %0 has rank 1, a number is wanted");
    g = graph_from(&a, "tensor %0 param f32[3] const(0) \"x\" tensor %1 temp i32[3] \"whole\" tensor %2 temp f32[] \"loss\""
                       "%1[a0] = %0[a0] {a0:3}  %2 = sum{a0:3}(%1[a0])");
    assert_true(grad_append(g, 2, wrt, 1, grads, &why));
    assert_int_equal(grads[0], -1);
    arena_free(&a);
}

/* Shapes of the result, seen as text: what is a map stays an expression, no guard that holds anyway. */
static void readable(void **state)
{
    static const struct { const char *text, *line; } cases_[] = {
        { "tensor %0 param f32[6] const(0) \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:6}(%0[-a0 + 5]^2)",
          "%2[a0] = %0[a0] + %0[a0]  {a0:6}" },
        { "tensor %0 param f32[6] const(0) \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:3, a1:2}(%0[a0*2 + a1]^2)",
          "%2[a0*2 + a1] = %0[a0*2 + a1] + %0[a0*2 + a1]  {a0:3, a1:2}" },
        { "tensor %0 param f32[6] const(0) \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:3}(%0[a0*2])",
          "%2[a0] = where([(a0 mod 2)] == 0, 1, 0)  {a0:6}" },
        { "tensor %0 param f32[6] const(0) \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:4, a1:2}(where([a0] > 0, %0[a0*2 + a1 - 2], 0))",
          "%2[a0] = where([(a0 div 2) + 1] > 0, 1, 0)  {a0:6}" },
        { "tensor %0 param f32[2, 3] const(0) \"x\" tensor %1 temp f32[] \"loss\" %1 = sum{a0:3}(%0[1, a0]^3)",
          "%2[0, a0] = 0  {a0:3}" },
        { "tensor %0 input f32[B] \"x\" tensor %1 param f32[] const(0) \"w\" tensor %2 temp f32[] \"loss\""
          "%2 = sum{a0:B, a1:7}(%1 / B)", "%3 = 1 / B * B * 7" },
    };
    for (int i = 0; i < (int)LEN(cases_); i++) {
        Arena a = {0};
        Graph *g = graph_from(&a, cases_[i].text);
        int wrt[] = { 0, 1 }, grads[2], n = i == (int)LEN(cases_) - 1 ? 2 : 1;
        Text why = { .arena = &a };
        assert_true(grad_append(g, find_tensor(g, "loss"), wrt, n, grads, &why));
        if (!strstr(text_of(&a, g), cases_[i].line))
            fail_msg("no `%s` in\n%s", cases_[i].line, text_of(&a, g));
        arena_free(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_function),
        cmocka_unit_test(every_reducer),
        cmocka_unit_test(every_index_map),
        cmocka_unit_test(few_cells),
        cmocka_unit_test(contrastive_loss),
        cmocka_unit_test(batch_mean),
        cmocka_unit_test(corners),
        cmocka_unit_test(too_many_dimensions),
        cmocka_unit_test(what_does_not_depend),
        cmocka_unit_test(readable),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
