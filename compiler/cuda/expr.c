/* expr.c -- scalar expressions as C text. See lower.h.
 *
 * cu_eval(scope, e) writes what e needs and returns names. Every distinct sub-expression is written once, in the scope
 * that lower/level.h says.
 *
 * A load whose index can leave the tensor (under a false `where`, or through a gather of indices from outside) is
 * made safe by itself: it is made only where the index is inside, and what it yields elsewhere does not matter. */
#include "cuda/lower.h"
#include <math.h>
#include <string.h>

/* ---- scopes */

void cu_scope_root(CuScope *s, Cu *l)
{
    *s = (CuScope){.level = {.places = &l->places}, .l = l, .lane = -1, .width = 1, .body = {.arena = l->arena}};
}

void cu_scope_in(CuScope *s, CuScope *outer)
{
    *s = (CuScope){.level = level_in(&outer->level), .l = outer->l, .lane = outer->lane, .width = outer->width,
                   .body = {.arena = outer->l->arena}};
}

void cu_line(CuScope *s, const char *fmt, ...)
{
    va_list args;
    text_printf(&s->body, "%*s", 4 * (s->level.depth + 1), "");
    va_start(args, fmt);
    text_vprintf(&s->body, fmt, args);
    va_end(args);
    text_char(&s->body, '\n');
}

void cu_scope_close(CuScope *s, const char *head, const char *tail)
{
    CuScope *o = (CuScope *)s->level.outer;
    if (*head)
        cu_line(o, "%s", head);
    text_bytes(&o->body, text_data(&s->body), s->body.n);
    if (*tail)
        cu_line(o, "%s", tail);
}

void cu_bind(CuScope *s, int axis, const char *value, bool wide)
{
    s->at[axis] = value;
    s->wide[axis] = wide;
    s->level.binds |= 1u << axis;
}

void cu_bind_zero(CuScope *s, uint32_t axes)
{
    for (int a = 0; a < MAX_AXES; a++)
        if (axes >> a & 1)
            cu_bind(s, a, "0", false);
}

const char *cu_name(Cu *l, const char *prefix)
{
    if (!prefix[1] && (*prefix == 'i' || *prefix == 'u'))
        while (l->n_name == 8 || l->n_name == 16 || l->n_name == 32 || l->n_name == 64)
            l->n_name++;                         /* i32, u8, ... are types of the prelude */
    return arena_printf(l->arena, "%s%d", prefix, l->n_name++);
}

void cu_bind_digits(CuScope *s, const Group *grp, int n, int without, const char *flat, bool wide)
{
    Cu *l = s->l;
    int first = 0;
    while (first < n && first == without)
        first++;
    for (int k = n - 1; k >= 0; k--) {
        if (k == without)
            continue;
        if (k == first) {
            bool big = wide && !poly_small(grp[k].n);
            if (wide && !big) {
                const char *v = cu_name(l, "a");
                cu_line(s, "const i32 %s = (i32)%s;", v, flat);
                flat = v;
            }
            cu_bind(s, grp[k].axis, flat, big);
            break;
        }
        CuSizes *sizes = l->sizes;
        l->sizes = NULL;                         /* divisions are by constants */
        const char *size = cu_poly(l, grp[k].n);
        l->sizes = sizes;
        const char *rest = cu_name(l, "r"), *v = cu_name(l, "a");
        cu_line(s, "const %s %s = %s / %s;", wide ? "i64" : "i32", rest, flat, size);
        cu_line(s, "const i32 %s = (i32)(%s - %s * %s);", v, flat, rest, size);
        cu_bind(s, grp[k].axis, v, false);
        flat = rest;
    }
}

const char *cu_axis(CuScope *s, int axis)
{
    const CuScope *b = (CuScope *)level_binder(&s->level, axis);
    return b ? b->at[axis] : "0";
}

static CuScope *scope_at(CuScope *s, int depth)
{
    while (s->level.depth > depth)
        s = (CuScope *)s->level.outer;
    return s;
}

static const CuVal *kept(const CuScope *s, CuVal v)
{
    CuVal *copy = NEW(s->l->arena, CuVal);
    *copy = v;
    return copy;
}

void cu_member_is(CuScope *s, const Comp *c, CuVal v)
{
    level_hold(&s->level, c, NULL, kept(s, v));
}

void cu_load_is(CuScope *s, const Expr *load, CuVal v)
{
    level_hold(&s->level, NULL, load, kept(s, v));
}

/* ---- conversions */

static const char *part(const CuVal *v, int c)
{
    return v->v[v->uniform ? 0 : c];
}

const char *cu_f(CuScope *s, CuVal v, int c)
{
    const char *x = part(&v, c);
    switch (v.kind) {
    case CV_F: return x;
    case CV_I: return arena_printf(s->l->arena, "(float)(%s)", x);
    case CV_B: return arena_printf(s->l->arena, "(%s ? 1.0f : 0.0f)", x);
    }
    return x;
}

const char *cu_i(CuScope *s, CuVal v, int c)
{
    return v.kind == CV_I ? part(&v, c) : arena_printf(s->l->arena, "(i32)(%s)", cu_f(s, v, c));
}

static const char *truth(CuScope *s, CuVal v, int c)
{
    return v.kind == CV_B ? part(&v, c) : arena_printf(s->l->arena, "(%s != 0)", part(&v, c));
}

const char *cu_float(Cu *l, double c)
{
    float f = (float)c;
    if (isnan(f))
        return "tc_float(0x7fc00000u)";
    if (isinf(f))
        return f > 0 ? "tc_float(0x7f800000u)" : "tc_float(0xff800000u)";
    char *t = arena_printf(l->arena, "%.9g", (double)f);
    t = arena_printf(l->arena, "%s%sf", t, strpbrk(t, ".e") ? "" : ".0");
    return f < 0 ? arena_printf(l->arena, "(%s)", t) : t;
}

/* ---- index maps */

static bool on_lanes(const CuScope *s, uint32_t axes)
{
    return s->lane >= 0 && s->width > 1 && (axes >> s->lane & 1);
}

static const char *atom_text(CuScope *s, const Term *t, int c)
{
    Arena *a = s->l->arena;
    if (t->kind == AT_AXIS) {
        const char *v = cu_axis(s, t->axis);
        return c && t->axis == s->lane ? arena_printf(a, "(%s + %d)", v, c) : v;
    }
    if (t->kind == AT_LOAD)
        return cu_i(s, cu_eval(s, t->load), c);
    const char *arg = cu_name(s->l, "d");
    cu_line(s, "const i32 %s = %s;", arg, cu_index(s, t->arg, c));
    const char *quotient = arena_printf(a, "(%s >= 0 ? %s / %lld : -((%lld - %s) / %lld))", arg, arg, (long long)t->by,
                                        (long long)t->by - 1, arg, (long long)t->by);
    return t->kind == AT_DIV ? quotient : arena_printf(a, "(%s - %lld * %s)", arg, (long long)t->by, quotient);
}

const char *cu_index(CuScope *s, const Affine *a, int c)
{
    Text t = {.arena = s->l->arena};
    for (int i = 0; i < a->n; i++) {
        const char *x = atom_text(s, &a->term[i], c);
        text_printf(&t, "%s%s", i ? " + " : "(", x);
        if (a->term[i].coef != 1)
            text_printf(&t, " * %lld", (long long)a->term[i].coef);
    }
    if (!a->n)
        return arena_printf(s->l->arena, "%lld", (long long)a->c);
    if (a->c)
        text_printf(&t, " + %lld", (long long)a->c);
    if (a->n == 1 && !a->c && a->term[0].coef == 1)
        return text_data(&t) + 1;      /* one bare value needs no brackets */
    text_char(&t, ')');
    return text_data(&t);
}

/* ---- addresses */

const char *cu_type(DType d)
{
    static const char *const name[N_DTYPES] = {"float", "double", "i32", "bf16", "u8"};
    return name[d];
}

/* one element of memory as the number it is */
static const char *read_text(Cu *l, DType d, const char *at)
{
    return d == DT_F64 ? arena_printf(l->arena, "(float)%s", at) : d == DT_BF16 ? arena_printf(l->arena, "tc_f(%s)", at) : at;
}

static bool is_zero(const char *text)
{
    return !strcmp(text, "0");
}

static void add_product(Cu *l, Text *sum, const char *value, bool wide, Poly coef)
{
    if (poly_is(coef, 0) || is_zero(value))
        return;
    text_printf(sum, "%s", sum->n ? " + " : "");
    if (poly_is(coef, 1))
        text_printf(sum, "%s", value);
    else
        text_printf(sum, "%s%s * %s", wide ? "" : "(i64)", value, cu_poly(l, coef));
}

/* The part of an address that scopes up to `depth` know; each scope adds its own terms in front of its inner loop. */
static const char *pointer_at(CuScope *s, int tensor, const Lin *lin, const void *key, int depth)
{
    Cu *l = s->l;
    CuScope *o = scope_at(s, depth);
    for (int i = 0; i < o->ptrs.n; i++)
        if (o->ptrs.at[i].key == key)
            return o->ptrs.at[i].p;
    const char *p = depth ? pointer_at(s, tensor, lin, key, depth - 1) : arena_printf(l->arena, "p%d", kernel_arg(l->k, tensor));
    Text sum = {.arena = l->arena};
    if (!depth && !poly_is(lin->c, 0))
        text_printf(&sum, "%s", cu_poly(l, lin->c));
    for (int a = 0; a < MAX_AXES; a++)
        if (o->at[a])
            add_product(l, &sum, o->at[a], o->wide[a], lin->axis[a]);
    for (int i = 0; i < lin->n_atoms; i++) {
        const Term *t = lin->atom[i].term;
        if (!on_lanes(s, term_axes(t)) && term_depth(&s->level, t) == depth)
            add_product(l, &sum, atom_text(o, t, 0), false, lin->atom[i].coef);
    }
    if (sum.n) {
        const char *q = cu_name(l, "q");
        DType d = l->graph->tensor[tensor].dtype;
        cu_line(o, "%s%s *%s = %s + (%s);", kernel_writes(l->k, tensor) ? "" : "const ", cu_type(d), q, p, text_data(&sum));
        p = q;
    }
    PUSH(l->arena, o->ptrs, (struct CuPtr){key, p});
    return p;
}

const char *cu_pointer(CuScope *s, int tensor, const Affine *const *idx, const void *key)
{
    Lin lin = tensor_linear(&s->l->places, tensor, idx);
    if (kernel_arg(s->l->k, tensor) < 0) {
        cu_fail(s->l, "tensor %%%d (%s) is not an argument of its kernel", tensor, s->l->graph->tensor[tensor].name);
        return "p0";
    }
    return pointer_at(s, tensor, &lin, key, s->level.depth);
}

/* Element offset of one point, all of it: for loads that are not runs along the lanes. */
static const char *offset_text(CuScope *s, const Expr *e, int c)
{
    Cu *l = s->l;
    Layout at = layout_of(&l->places, e->tensor);
    Text sum = {.arena = l->arena};
    for (int d = 0; d < e->n; d++)
        add_product(l, &sum, cu_index(s, e->idx[d], c), false, at.stride[d]);
    return sum.n ? text_data(&sum) : "0";
}

/* Whether the point's place lies inside, as a condition; NULL when it cannot leave. */
static const char *inside_text(CuScope *s, const Expr *e, int c)
{
    Cu *l = s->l;
    Text t = {.arena = l->arena};
    for (int d = 0; d < e->n; d++)
        if (may_leave(&l->places, l->comp, e, d))
            text_printf(&t, "%s(u32)%s < (u32)%s", t.n ? " && " : "", cu_index(s, e->idx[d], c),
                        cu_poly(l, poly_ext(l->graph->tensor[e->tensor].shape[d])));
    return t.n ? text_data(&t) : NULL;
}

/* ---- loads */

static const char *const component_name[CU_WIDTH] = {"x", "y", "z", "w"};

static CuVal new_value(Cu *l, CuKind kind, bool uniform, int width, const char *prefix)
{
    CuVal v = {.kind = kind, .uniform = uniform};
    for (int c = 0; c < (uniform ? 1 : width); c++)
        v.v[c] = cu_name(l, prefix);
    return v;
}

/* The type that holds a load's elements of all lanes, if they are neighbours and aligned; NULL: they are not. */
static const char *run_type(CuScope *s, const Expr *e)
{
    static const char *const words[][2] = {{"v2f", "v4f"}, {"v2u", "v4u"}, {"u32", "v2u"}, {"u16", "u32"}};
    Cu *l = s->l;
    DType d = l->graph->tensor[e->tensor].dtype;
    Lin lin = tensor_linear(&l->places, e->tensor, e->idx);
    if (!on_lanes(s, e->axes) || on_lanes(s, atom_axes(&lin)) || d == DT_F64 || !poly_is(lin.axis[s->lane], 1) || !aligned(&lin, s->lane, s->width))
        return NULL;
    return words[d == DT_U8 ? 3 : d == DT_BF16 ? 2 : d == DT_I32][s->width == 4];
}

bool cu_run(CuScope *s, const Expr *e, const char **type, const char **at)
{
    for (int k = 0; k < e->n; k++)
        if (may_leave(&s->l->places, s->l->comp, e, k))
            return false;
    *type = run_type(s, e);
    if (*type)
        *at = cu_pointer(s, e->tensor, e->idx, e);
    return *type != NULL;
}

CuVal cu_run_value(CuScope *s, const Expr *e, const char *name)
{
    Arena *a = s->l->arena;
    DType d = s->l->graph->tensor[e->tensor].dtype;
    CuVal v = {.kind = dtype_whole(d) ? CV_I : CV_F};
    for (int c = 0; c < s->width; c++)
        if (d == DT_U8)
            v.v[c] = arena_printf(a, "(i32)(%s >> %d & 255)", name, 8 * c);
        else if (d == DT_BF16)
            v.v[c] = arena_printf(a, "tc_%s(%s%s)", c & 1 ? "hi" : "lo", name, s->width == 2 ? "" : c < 2 ? ".x" : ".y");
        else
            v.v[c] = arena_printf(a, d == DT_I32 ? "(i32)%s.%s" : "%s.%s", name, component_name[c]);
    return v;
}

static CuVal load_memory(CuScope *s, const Expr *e)
{
    Cu *l = s->l;
    DType d = l->graph->tensor[e->tensor].dtype;
    const char *type = dtype_whole(d) ? "i32" : "float";
    Lin lin = tensor_linear(&l->places, e->tensor, e->idx);
    bool leaves = false, apart = false, lanes = on_lanes(s, e->axes);    /* apart: one lane may leave without another */
    for (int k = 0; k < e->n; k++)
        if (may_leave(&l->places, l->comp, e, k)) {
            leaves = true;
            apart = apart || on_lanes(s, aff_axes(e->idx[k]));
        }
    CuVal v = new_value(l, dtype_whole(d) ? CV_I : CV_F, !lanes, s->width, "t");
    int n = lanes ? s->width : 1;
    const char *together = leaves && !apart ? run_type(s, e) : NULL;
    if (together) {
        const char *q = cu_name(l, "v"), *inside = inside_text(s, e, 0), *offset = offset_text(s, e, 0);    /* both may write lines */
        cu_line(s, "%s %s = {0};", together, q);
        cu_line(s, "if (%s)", inside);
        cu_line(s, "    %s = *(const %s *)(p%d + (%s));", q, together, kernel_arg(l->k, e->tensor), offset);
        return cu_run_value(s, e, q);
    }
    if (leaves || on_lanes(s, atom_axes(&lin))) {
        for (int c = 0; c < n; c++) {
            const char *inside = inside_text(s, e, c);
            const char *at = read_text(l, d, arena_printf(l->arena, "p%d[%s]", kernel_arg(l->k, e->tensor), offset_text(s, e, c)));
            if (inside)
                cu_line(s, "const %s %s = %s ? %s : 0;", type, v.v[c], inside, at);
            else
                cu_line(s, "const %s %s = %s;", type, v.v[c], at);
        }
        return v;
    }
    const char *form, *run;
    if (cu_run(s, e, &form, &run)) {
        const char *q = cu_name(l, "v");
        cu_line(s, "const %s %s = *(const %s *)(%s);", form, q, form, run);
        return cu_run_value(s, e, q);
    }
    const char *p = cu_pointer(s, e->tensor, e->idx, e);
    for (int c = 0; c < n; c++) {
        const char *at = arena_printf(l->arena, "*%s", p);
        if (c)
            at = arena_printf(l->arena, "%s[%s%d * %s]", p, poly_small(lin.axis[s->lane]) ? "" : "(i64)", c, cu_poly(l, lin.axis[s->lane]));
        cu_line(s, "const %s %s = %s;", type, v.v[c], read_text(l, d, at));
    }
    return v;
}

static CuVal eval_load(CuScope *s, const Expr *e)
{
    Cu *l = s->l;
    int m = member_read(l->k, e);
    const CuVal *v = level_held(&s->level, e);
    if (v)
        return *v;
    if (m >= 0 && l->places.again[m]) {
        const Comp *reader = l->comp;
        CuVal made = cu_eval_member(s, &l->k->comp[m]);
        l->comp = reader;
        return made;
    }
    if (m >= 0 && !l->places.placed[m])
        cu_fail(l, "a member's value is read where it is not known");
    if (kernel_arg(l->k, e->tensor) < 0) {
        cu_fail(l, "tensor %%%d (%s) is not an argument of its kernel", e->tensor, l->graph->tensor[e->tensor].name);
        return (CuVal){.uniform = true, .v = {"0.0f"}};
    }
    return load_memory(s, e);
}

/* ---- operations */

/* A whole constant next to an integer is an integer. */
static bool as_integer(CuScope *s, const Expr *e, CuVal *v)
{
    int64_t n;
    if (v->kind == CV_I)
        return true;
    if (!expr_is_whole(e, &n))
        return false;
    *v = (CuVal){.kind = CV_I, .uniform = true, .v = {arena_printf(s->l->arena, "%lld", (long long)n)}};
    return true;
}

static const char *compare(CuScope *s, const Expr *e, CuVal x, CuVal y, int c)
{
    static const struct { Op op; const char *sign; } table[] = {
        {OP_LT, "<"}, {OP_LE, "<="}, {OP_GT, ">"}, {OP_GE, ">="}, {OP_EQ, "=="}, {OP_NE, "!="},
    };
    Arena *a = s->l->arena;
    size_t k = 0;
    while (k + 1 < LEN(table) && table[k].op != e->op)
        k++;
    bool ints = (x.kind == CV_I || y.kind == CV_I) && as_integer(s, e->arg[0], &x) && as_integer(s, e->arg[1], &y);
    if (ints)
        return arena_printf(a, "%s %s %s", part(&x, c), table[k].sign, part(&y, c));
    return arena_printf(a, "%s %s %s", cu_f(s, x, c), table[k].sign, cu_f(s, y, c));
}

/* The text of one operation on floats. */
static const char *arithmetic(CuScope *s, const Expr *e, const char *x, const char *y)
{
    Arena *a = s->l->arena;
    double c;
    switch (e->op) {
    case OP_ADD: return arena_printf(a, "%s + %s", x, y);
    case OP_SUB: return arena_printf(a, "%s - %s", x, y);
    case OP_MUL: return arena_printf(a, "%s * %s", x, y);
    case OP_DIV: return arena_printf(a, "%s / %s", x, y);
    case OP_NEG: return arena_printf(a, "-%s", x);
    case OP_POW:
        if (expr_is_const(e->arg[1], &c) && c == 2)
            return arena_printf(a, "%s * %s", x, x);
        return arena_printf(a, "powf(%s, %s)", x, y);
    case OP_EXP: return arena_printf(a, s->l->fast ? "tc_exp(%s)" : "expf(%s)", x);
    case OP_LN: return arena_printf(a, "logf(%s)", x);
    case OP_SQRT: return arena_printf(a, "sqrtf(%s)", x);
    case OP_RSQRT: return arena_printf(a, s->l->fast ? "tc_rsqrt(%s)" : "1.0f / sqrtf(%s)", x);
    case OP_ERF: return arena_printf(a, s->l->fast ? "tc_erf(%s)" : "erff(%s)", x);
    case OP_TANH: return arena_printf(a, "tanhf(%s)", x);
    case OP_SIN: return arena_printf(a, "sinf(%s)", x);
    case OP_COS: return arena_printf(a, "cosf(%s)", x);
    case OP_ABS: return arena_printf(a, "fabsf(%s)", x);
    case OP_FLOOR: return arena_printf(a, "floorf(%s)", x);
    case OP_MAX: return arena_printf(a, "%s != %s || %s >= %s ? %s : %s", x, x, x, y, x, y);
    case OP_MIN: return arena_printf(a, "%s != %s || %s <= %s ? %s : %s", x, x, x, y, x, y);
    default: break;
    }
    cu_fail(s->l, "no CUDA text for `%s`", op_info[e->op].name);
    return x;
}

static CuVal eval_op(CuScope *s, const Expr *e)
{
    Cu *l = s->l;
    CuVal a[3] = {{0}, {0}, {0}};
    bool uniform = true, condition = op_info[e->op].compares;
    for (int i = 0; i < e->n; i++) {
        a[i] = cu_eval(s, e->arg[i]);
        uniform = uniform && a[i].uniform;
    }
    CuVal v = new_value(l, condition ? CV_B : CV_F, uniform, s->width, condition ? "c" : "t");
    for (int c = 0; c < (uniform ? 1 : s->width); c++) {
        if (e->op == OP_NOT)
            cu_line(s, "const int %s = !%s;", v.v[c], truth(s, a[0], c));
        else if (e->op == OP_AND || e->op == OP_OR)
            cu_line(s, "const int %s = %s %s %s;", v.v[c], truth(s, a[0], c), e->op == OP_AND ? "&&" : "||", truth(s, a[1], c));
        else if (condition)
            cu_line(s, "const int %s = %s;", v.v[c], compare(s, e, a[0], a[1], c));
        else if (e->op == OP_WHERE)
            cu_line(s, "const float %s = %s ? %s : %s;", v.v[c], truth(s, a[0], c), cu_f(s, a[1], c), cu_f(s, a[2], c));
        else
            cu_line(s, "const float %s = %s;", v.v[c], arithmetic(s, e, cu_f(s, a[0], c), e->n > 1 ? cu_f(s, a[1], c) : ""));
    }
    return v;
}

static CuVal eval_here(CuScope *s, const Expr *e)
{
    Cu *l = s->l;
    switch (e->kind) {
    case E_CONST: return (CuVal){.kind = CV_F, .uniform = true, .v = {cu_float(l, e->c)}};
    case E_EXTENT: return (CuVal){.kind = CV_I, .uniform = true, .v = {cu_poly(l, poly_ext(e->ext))}};
    case E_INDEX: {
        CuVal v = {.kind = CV_I, .uniform = !on_lanes(s, aff_axes(e->aff))};
        for (int c = 0; c < (v.uniform ? 1 : s->width); c++)
            v.v[c] = cu_index(s, e->aff, c);
        return v;
    }
    case E_LOAD: return eval_load(s, e);
    case E_OP: return eval_op(s, e);
    }
    return (CuVal){.uniform = true, .v = {"0.0f"}};
}

CuVal cu_eval(CuScope *s, const Expr *e)
{
    if (e->kind == E_CONST)
        return eval_here(s, e);
    CuScope *home = scope_at(s, level_known(&s->level, e)->depth);
    LevelExpr *known = level_known(&home->level, e);
    if (!known->value)
        known->value = kept(home, eval_here(home, e));
    return *(const CuVal *)known->value;
}

CuVal cu_round(CuScope *s, const Comp *c, CuVal v)
{
    Cu *l = s->l;
    if (l->graph->tensor[c->out].dtype != DT_BF16)
        return v;
    CuVal r = {.kind = CV_F, .uniform = v.uniform};
    int n = v.uniform ? 1 : s->width;
    for (int k = 0; k < n; k += 2) {
        const char *q = cu_name(l, "b");
        cu_line(s, "const u32 %s = tc_pack(%s, %s);", q, cu_f(s, v, k), k + 1 < n ? cu_f(s, v, k + 1) : "0.0f");
        r.pair[k / 2] = q;
        r.v[k] = arena_printf(l->arena, "tc_lo(%s)", q);
        if (k + 1 < n)
            r.v[k + 1] = arena_printf(l->arena, "tc_hi(%s)", q);
    }
    return r;
}

CuVal cu_eval_member(CuScope *s, const Comp *c)
{
    s->l->comp = c;
    CuVal v = cu_eval(s, c->body);
    return c->red ? v : cu_round(s, c, v);
}

/* ---- stores */

void cu_store(CuScope *s, const Comp *comp, CuVal v)
{
    Cu *l = s->l;
    l->comp = comp;
    DType d = l->graph->tensor[comp->out].dtype;
    Lin lin = tensor_linear(&l->places, comp->out, comp->store);
    const char *p = cu_pointer(s, comp->out, comp->store, comp);
    uint32_t axes = 0;
    for (int k = 0; k < l->graph->tensor[comp->out].rank; k++)
        axes |= aff_axes(comp->store[k]);
    const char *x[CU_WIDTH];
    int n = on_lanes(s, axes) ? s->width : 1;
    for (int c = 0; c < n; c++)
        x[c] = d == DT_I32 ? cu_i(s, v, c) : cu_f(s, v, c);
    if (on_lanes(s, atom_axes(&lin))) {
        cu_fail(l, "a store whose place depends on data or on a quotient");
    } else if (n > 1 && d == DT_F32 && poly_is(lin.axis[s->lane], 1) && aligned(&lin, s->lane, n)) {
        const char *q = cu_name(l, "v");
        Text line = {.arena = l->arena};
        for (int c = 0; c < n; c++)
            text_printf(&line, "%s.%s = %s; ", q, component_name[c], x[c]);
        cu_line(s, "v%df %s;", n, q);
        cu_line(s, "%s", text_data(&line));
        cu_line(s, "*(v%df *)(%s) = %s;", n, p, q);
    } else if (n > 1 && d == DT_BF16 && poly_is(lin.axis[s->lane], 1) && aligned(&lin, s->lane, n)) {
        const char *pair[CU_WIDTH / 2];
        for (int c = 0; c < n; c += 2)           /* rounded to bf16 already, or now */
            pair[c / 2] = v.pair[0] && !v.uniform ? v.pair[c / 2] : arena_printf(l->arena, "tc_pack(%s, %s)", x[c], x[c + 1]);
        if (n == 4) {
            const char *q = cu_name(l, "v");
            cu_line(s, "const v2u %s = {%s, %s};", q, pair[0], pair[1]);
            cu_line(s, "*(v2u *)(%s) = %s;", p, q);
        } else {
            cu_line(s, "*(u32 *)(%s) = %s;", p, pair[0]);
        }
    } else {
        for (int c = 0; c < n; c++)
            x[c] = d == DT_BF16 ? arena_printf(l->arena, "tc_bf(%s)", x[c]) : x[c];
        for (int c = 0; c < n; c++)
            if (c)
                cu_line(s, "%s[%s%d * %s] = %s;", p, poly_small(lin.axis[s->lane]) ? "" : "(i64)", c, cu_poly(l, lin.axis[s->lane]), x[c]);
            else
                cu_line(s, "*%s = %s;", p, x[c]);
    }
}

void cu_store_floats(CuScope *s, const char *to, int width, const char *const *x)
{
    if (width == 4) {
        cu_line(s, "tc_store4(%s, %s, %s, %s, %s);", to, x[0], x[1], x[2], x[3]);
    } else if (width == 2) {
        const char *v = cu_name(s->l, "v");
        cu_line(s, "const v2f %s = {%s, %s};", v, x[0], x[1]);
        cu_line(s, "*(v2f *)(%s) = %s;", to, v);
    } else {
        cu_line(s, "*(%s) = %s;", to, x[0]);
    }
}
