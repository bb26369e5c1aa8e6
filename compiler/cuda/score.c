/* score.c -- attention: SCORE kernels on the templates of attn.h. Which kernels these are:
 *
 *   forward    one product x; one logsumexp over N, of an expression s; one result, over N, whose score is exp(s - it)
 *   backward   two products x and y; no statistics, but values of rows; three results, two of them sums over M (dv, dk), one
 *              over N (dq), whose other factors are the products' operands again
 *
 * with operands and the results' scores in bf16, one axis of terms and of features (as many as attn_plan finds room for), rows
 * 16-byte aligned, and scores that nobody else reads. Points in between are whatever they are: scale, mask, bias. */
#include "cuda/attn.h"
#include "cuda/lower.h"
#include <string.h>

typedef struct Matrix { const Expr *load; Lin lin; int row; } Matrix;      /* row: its axis, M or N */
typedef ARRAY(const Expr *) Loads;

typedef struct Score {
    Cu *l;
    Graph *g;
    bool backward;
    const Comp *x, *y, *stat, *z, *dq, *dk, *dv;
    double scale_x, scale_y;
    Matrix q, k, v, of_z;              /* of_z: the gradient of the result */
    Loads row;                         /* what the points read of a row, from memory or of members that sum it up */
    AttnShape shape;
    AttnPlan plan;
} Score;

/* ---- is it one? */

static const Comp *member(const Score *s, const Expr *load)
{
    int m = load->kind == E_LOAD ? kernel_member(s->l->k, load->tensor) : -1;
    return m < 0 ? NULL : &s->l->k->comp[m];
}

static bool set_once(const Comp **to, const Comp *c)
{
    bool first = !*to;
    *to = c;
    return first;
}

static bool written(const Kernel *k, const Comp *c)
{
    for (int i = 0; i < k->n_writes; i++)
        if (k->writes[i] == c->out)
            return true;
    return false;
}

static ScoreSum sum_of(const Score *s, const Comp *c) { return score_sum(s->g, s->l->k, c); }

/* The members by role; false: others than the templates have. A result over M is dv until the products are told apart. */
static bool find_members(Score *s)
{
    const Kernel *k = s->l->k;
    bool fits = true, rows = false;
    for (int i = 0; i < k->n_comp && fits; i++) {
        const Comp *c = &k->comp[i];
        ScoreRole role = score_role(k, c);
        if (role == SCORE_PRODUCT)
            fits = set_once(s->x ? &s->y : &s->x, c);
        else if (role == SCORE_STAT)
            fits = c->reducer == RED_LOGSUMEXP && !score_over_m(k, c) && set_once(&s->stat, c);
        else if (role == SCORE_RESULT)
            fits = score_over_m(k, c) ? set_once(s->dv ? &s->dk : &s->dv, c) : set_once(&s->z, c);
        rows = rows || role == SCORE_ROW;
        fits = fits && (role == SCORE_STAT || role == SCORE_RESULT || !written(k, c));
        fits = fits && c->n_axes <= k->n_dom + 3;
    }
    s->backward = s->y != NULL;
    if (!fits || !s->x || !s->z)
        return false;
    return s->backward ? s->dv && s->dk && !s->stat : s->stat && !s->dv && !rows;
}

/* A member's own value, through members that only pass it on (and round it). */
static const Expr *value_of(const Score *s, const Expr *load)
{
    const Comp *c = member(s, load);
    while (c && c->reducer == RED_NONE && c->body->kind == E_LOAD && member(s, c->body))
        c = member(s, c->body);
    return c && c->reducer == RED_NONE ? c->body : load;
}

/* exp(s - stat), where stat = logsumexp(s) */
static bool is_softmax(const Score *s)
{
    const Expr *p = value_of(s, sum_of(s, s->z).a);
    if (p->kind != E_OP || p->op != OP_EXP || p->arg[0]->kind != E_OP || p->arg[0]->op != OP_SUB)
        return false;
    return p->arg[0]->arg[0] == s->stat->body && member(s, p->arg[0]->arg[1]) == s->stat;
}

static bool same_matrix(const Expr *a, const Expr *b)
{
    return a == b;                     /* the same axes have the same numbers in both */
}

/* Which product is which, and which result over M. */
static bool tell_apart(Score *s)
{
    const Comp *c;
    if (same_matrix(sum_of(s, s->y).b, sum_of(s, s->z).b))
        c = s->x, s->x = s->y, s->y = c;
    s->dq = s->z;
    if (same_matrix(sum_of(s, s->dv).b, sum_of(s, s->x).a))
        c = s->dv, s->dv = s->dk, s->dk = c;
    return same_matrix(sum_of(s, s->dq).b, sum_of(s, s->x).b) && same_matrix(sum_of(s, s->dk).b, sum_of(s, s->x).a) &&
           same_matrix(sum_of(s, s->dv).b, sum_of(s, s->y).a) && sum_of(s, s->dk).a == sum_of(s, s->dq).a;
}

static bool is_half(const Score *s, const Expr *load) { return s->g->tensor[load->tensor].dtype == DT_BF16; }

static bool find_matrix(Score *s, const Expr *load, int row, Matrix *out)
{
    const Kernel *k = s->l->k;
    int64_t stride;
    *out = (Matrix){load, tensor_linear(&s->l->places, load->tensor, load->idx), row};
    bool fits = is_half(s, load) && !out->lin.n_atoms && poly_is(out->lin.axis[k->n_dom + 2], 1) && poly_divides(out->lin.c, 8);
    for (int a = 0; a < k->n_dom + 2; a++)
        fits = fits && poly_divides(out->lin.axis[a], 8);
    return fits && poly_fixed(out->lin.axis[row], &stride) && poly_is(out->lin.axis[2 * k->n_dom + 1 - row], 0);
}

/* Loads of the points that have one value a row: where there is one row, for each of the domain. */
static void find_row_loads(Score *s)
{
    const Kernel *k = s->l->k;
    uint32_t m = 1u << score_m(k), inside = 2 * m - 1, varies = s->x->ext[score_m(k)] == 1 ? inside : m;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        if (score_role(k, c) != SCORE_POINT)
            continue;
        int n = expr_loads(c->body, NULL, 0);
        const Expr **load = NEWN(s->l->arena, const Expr *, n);
        expr_loads(c->body, load, n);
        for (int j = 0; j < n; j++) {
            const Comp *made = member(s, load[j]);
            bool fits = (load[j]->axes & varies) && !(load[j]->axes & ~inside) && s->g->tensor[load[j]->tensor].dtype == DT_F32;
            fits = fits && (!made || score_role(k, made) == SCORE_ROW);
            for (int r = 0; r < s->row.n; r++)
                fits = fits && s->row.at[r] != load[j];
            if (fits)
                PUSH(s->l->arena, s->row, load[j]);
        }
    }
}

static bool match(Score *s)
{
    const Kernel *k = s->l->k;
    int m = score_m(k), n = score_n(k);
    if (!find_members(s) || !(s->backward ? tell_apart(s) : is_softmax(s)))
        return false;
    ScoreSum x = sum_of(s, s->x), z = sum_of(s, s->backward ? s->y : s->z);
    if (!find_matrix(s, x.a, m, &s->q) || !find_matrix(s, x.b, n, &s->k) || !find_matrix(s, z.b, n, &s->v) ||
        (s->backward && !find_matrix(s, z.a, m, &s->of_z)))
        return false;
    const Comp *result[] = {s->z, s->dq, s->dk, s->dv};
    for (size_t i = 0; i < LEN(result); i++)
        if (result[i] && !is_half(s, sum_of(s, result[i]).a))
            return false;
    Ext rows = s->x->ext[m], cols = s->x->ext[n], terms = s->x->ext[n + 1], features = (s->backward ? s->y : s->z)->ext[n + 1];
    enum { MOST = 1 << 16 };
    if (rows <= 0 || cols <= 0 || terms <= 0 || features <= 0 || rows > MOST || cols > MOST || terms > MOST || features > MOST)
        return false;
    s->scale_x = x.scale;
    s->scale_y = z.scale;
    if (s->backward)
        find_row_loads(s);
    s->shape = (AttnShape){(int)rows, (int)cols, (int)terms, (int)features, s->row.n ? s->row.n : 1, (int)score_reach(s->g, k, cols)};
    return attn_plan(s->backward, &s->shape, &s->plan);
}

bool cuda_takes_score(Graph *g, const Kernel *k)
{
    if (score_meets(k))
        return cu_meet_taken(g, k);
    Text why = {.arena = g->arena};
    Cu l = {.arena = g->arena, .graph = g, .places = {.arena = g->arena, .graph = g}, .k = k, .why = &why};
    Score s = {.l = &l, .g = g};
    return match(&s) && !l.failed && !l.places.fault;
}

/* ---- the prologue */

/* A scope in which the batch's axes are z's digits. */
static void root(const Score *s, CuScope *r)
{
    const Kernel *k = s->l->k;
    Group dom[MAX_AXES];
    for (int a = 0; a < k->n_dom; a++)
        dom[a] = (Group){a, poly_ext(k->dom[a])};
    cu_scope_root(r, s->l);
    cu_bind_digits(r, dom, k->n_dom, -1, "z", false);
}

static void matrix_function(const Score *s, char name, const Matrix *x)
{
    Cu *l = s->l;
    CuScope r;
    int64_t stride;
    root(s, &r);
    Text sum = {.arena = l->arena};
    text_printf(&sum, "%s", cu_poly(l, x->lin.c));
    for (int a = 0; a < l->k->n_dom; a++)
        if (!poly_is(x->lin.axis[a], 0))
            text_printf(&sum, " + (i64)%s * %s", r.at[a], cu_poly(l, x->lin.axis[a]));
    poly_fixed(x->lin.axis[x->row], &stride);
    text_printf(&l->file, "#define %c_STRIDE %lldll\n", name - 'a' + 'A', (long long)stride);
    text_printf(&l->file, "TC_DEV const bf16 *%c_base(TC_ARGS, i32 z)\n{\n%s    return p%d + (%s);\n}\n", name, text_data(&r.body),
                kernel_arg(l->k, x->load->tensor), text_data(&sum));
}

/* A scope of one point (z, m, n), where the products are the names x and y. */
static void point(const Score *s, CuScope *r)
{
    Cu *l = s->l;
    root(s, r);
    cu_bind(r, score_m(l->k), "m", false);
    cu_bind(r, score_n(l->k), "n", false);
    const Comp *product[] = {s->x, s->y};
    const double scale[] = {s->scale_x, s->scale_y};
    for (int i = 0; i < 2 && product[i]; i++) {
        const char *t = i ? "y" : "x";
        if (scale[i] != 1) {
            t = cu_name(l, "t");
            cu_line(r, "const float %s = %s * %s;", t, i ? "y" : "x", cu_float(l, scale[i]));
        }
        CuVal v = {.kind = CV_F, .uniform = true, .v = {t}};
        cu_member_is(r, product[i], cu_round(r, product[i], v));
    }
}

/* What a result sums, before it is rounded to bf16 (the template does that). */
static const char *score_text(const Score *s, CuScope *r, const Comp *result)
{
    s->l->comp = member(s, sum_of(s, result).a);
    return cu_f(r, cu_eval(r, s->l->comp->body), 0);
}

static void forward_functions(const Score *s)
{
    Cu *l = s->l;
    CuScope r;
    point(s, &r);
    l->comp = s->stat;
    const char *value = cu_f(&r, cu_eval(&r, s->stat->body), 0);
    text_printf(&l->file, "TC_DEV float score(TC_ARGS, i32 z, i32 m, i32 n, float x)\n{\n%s    return %s;\n}\n", text_data(&r.body), value);
    root(s, &r);
    cu_bind(&r, score_m(l->k), "m", false);
    if (kernel_writes(l->k, s->stat->out))
        cu_store(&r, s->stat, (CuVal){.kind = CV_F, .uniform = true, .v = {"lse"}});
    text_printf(&l->file, "TC_DEV void statistic(TC_ARGS, i32 z, i32 m, float lse)\n{\n%s}\n", text_data(&r.body));
}

/* The value of a member that sums up a row, as a name; r binds the row, which `parts` neighbouring lanes have together. */
static const char *row_sum(const Score *s, CuScope *r, const Comp *c)
{
    Cu *l = s->l;
    int own = l->k->n_dom + 2, width = c->ext[own] % CU_WIDTH ? 1 : CU_WIDTH;
    const char *sum = cu_name(l, "s"), *f = cu_name(l, "f");
    CuScope in;
    cu_line(r, "float %s = 0.0f;", sum);
    cu_scope_in(&in, r);
    cu_bind(&in, score_n(l->k), "0", false);
    cu_bind(&in, own, f, false);
    in.lane = own;
    in.width = width;
    l->comp = c;
    CuVal v = cu_eval(&in, c->body);
    for (int i = 0; i < width; i++)
        cu_line(&in, "%s += %s;", sum, cu_f(&in, v, i));
    cu_scope_close(&in, arena_printf(l->arena, "for (i32 %s = part * %d; %s < %lld; %s += parts * %d) {", f, width, f,
                                     (long long)c->ext[own], f, width), "}");
    cu_line(r, "TC_UNROLL");
    cu_line(r, "for (i32 by = parts / 2; by; by /= 2)");
    cu_line(r, "    %s += tc_shfl_xor(%s, by);", sum, sum);
    return sum;
}

static void backward_functions(const Score *s)
{
    Cu *l = s->l;
    CuScope r;
    root(s, &r);
    cu_bind(&r, score_m(l->k), "m", false);
    for (int i = 0; i < s->row.n; i++) {
        const Comp *made = member(s, s->row.at[i]);
        cu_line(&r, "r[%d] = %s;", i, made ? row_sum(s, &r, made) : cu_f(&r, cu_eval(&r, s->row.at[i]), 0));
    }
    if (!s->row.n)
        cu_line(&r, "r[0] = 0.0f;");
    text_printf(&l->file, "TC_DEV void row_values(TC_ARGS, i32 z, i32 m, i32 part, i32 parts, float *r)\n{\n%s}\n", text_data(&r.body));
    point(s, &r);
    for (int i = 0; i < s->row.n; i++)
        cu_load_is(&r, s->row.at[i], (CuVal){.kind = CV_F, .uniform = true, .v = {arena_printf(l->arena, "r[%d]", i)}});
    const char *p = score_text(s, &r, s->dv), *ds = score_text(s, &r, s->dk);
    cu_line(&r, "*p = %s;", p);
    cu_line(&r, "*ds = %s;", ds);
    text_printf(&l->file, "TC_DEV void weights(TC_ARGS, i32 z, i32 m, i32 n, float x, float y, const float *r, float *p, float *ds)\n{\n%s}\n",
                text_data(&r.body));
}

/* finish_NAME: four neighbouring features of a result's row `m`, scaled and stored. */
static void finish_function(const Score *s, char name, const Comp *c)
{
    Cu *l = s->l;
    CuScope r;
    double scale = sum_of(s, c).scale;
    root(s, &r);
    cu_bind(&r, score_over_m(l->k, c) ? score_n(l->k) : score_m(l->k), "m", false);
    r.lane = l->k->n_dom + 2;
    r.width = CU_WIDTH;
    cu_bind(&r, r.lane, "f", false);
    CuVal v = {.kind = CV_F};
    for (int i = 0; i < CU_WIDTH; i++)
        v.v[i] = scale == 1 ? arena_printf(l->arena, "x%d", i) : arena_printf(l->arena, "(x%d * %s)", i, cu_float(l, scale));
    cu_store(&r, c, v);
    text_printf(&l->file, "TC_DEV void finish_%c(TC_ARGS, i32 z, i32 m, i32 f, float x0, float x1, float x2, float x3)\n{\n%s}\n", name,
                text_data(&r.body));
}

static TunedKey key_of(const Score *s)
{
    const AttnShape *a = &s->shape;
    return (TunedKey){.kind = s->backward ? TUNED_ATTENTION_BWD : TUNED_ATTENTION, .extent = {a->rows, a->cols, a->terms, a->features, a->reach}};
}

int cu_score_choices(Cu *l, const char *arch, TunedKey *key, TunedChoice *out, int cap)
{
    enum { MOST = 64 };
    Score s = {.l = l, .g = l->f->graph};
    AttnPlan plan[MOST];
    if (!match(&s))
        return 0;
    *key = key_of(&s);
    key->arch = arch;
    int n = attn_plans(s.backward, !strcmp(arch, "sm_90a"), &s.shape, plan, cap < MOST ? cap : MOST);
    for (int i = 0; i < n; i++)
        out[i] = (TunedChoice){.warps = plan[i].warps, .blocks = plan[i].blocks, .wgmma = plan[i].wgmma};
    return n;
}

/* The plan that was measured best on an architecture, else attn_plan's. */
static AttnPlan plan_for(const Score *s, const char *arch)
{
    const TunedChoice *c = cu_tuned(s->l, arch, key_of(s));
    AttnPlan p;
    if (c && c->wgmma)
        return attn_wgmma_plan_of(s->backward, &s->shape, c->warps, c->blocks, &p) ? p : s->plan;
    return c && attn_plan_of(s->backward, &s->shape, c->warps, c->blocks, &p) && p.tile == s->plan.tile ? p : s->plan;
}

static TicGrid grid(const Score *s, Poly batches, const AttnPlan *p)
{
    return cu_grid(poly_mul(&s->l->places, batches, poly_const(attn_blocks(s->backward, &s->shape, p))), 1);
}

bool cu_score(Cu *l)
{
    Score s = {.l = l, .g = l->f->graph};
    if (!match(&s)) {
        cu_fail(l, "no template computes these scores");
        return false;
    }
    AttnPlan plan = plan_for(&s, l->m->target.arch), hopper = plan_for(&s, "sm_90a");
    for (int i = 0; i < l->k->n_comp; i++)
        l->places.again[i] = score_role(l->k, &l->k->comp[i]) == SCORE_POINT;
    Poly batches = poly_const(1);
    for (int a = 0; a < l->k->n_dom; a++)
        batches = poly_mul(&l->places, batches, poly_ext(l->k->dom[a]));
    l->out->hopper = (TicGpuHopper){.threads = hopper.warps * CU_WARP, .shared = hopper.shared, .tiles = grid(&s, batches, &hopper)};
    const char *name = cu_launch_template(l, s.backward ? "attention_bwd" : "attention", grid(&s, batches, &plan), plan.warps * CU_WARP, plan.shared);
    Text *t = &l->file;
    text_printf(t, "#define KERNEL %s\n#define TC_ARGS %s\n#define TC_PASS %s\n", name, cu_params(l, false), cu_params(l, true));
    attn_print(t, s.backward, &s.shape, &plan, &hopper);
    matrix_function(&s, 'q', &s.q);
    matrix_function(&s, 'k', &s.k);
    matrix_function(&s, 'v', &s.v);
    if (s.backward) {
        matrix_function(&s, 'g', &s.of_z);
        backward_functions(&s);
        finish_function(&s, 'q', s.dq);
        finish_function(&s, 'k', s.dk);
        finish_function(&s, 'v', s.dv);
    } else {
        forward_functions(&s);
        finish_function(&s, 'z', s.z);
    }
    attn_print_template(t, s.backward, &plan, &hopper);
    return !l->failed;
}
