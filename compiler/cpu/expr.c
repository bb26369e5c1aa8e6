/* expr.c -- scalar expressions as vector code. See lower.h.
 *
 * eval(scope, e) returns e's value where each axis is what the scope says. Along the lane axis a load is contiguous
 * (coefficient 1), the same for all lanes (0), strided, or a gather. Every distinct sub-expression is evaluated once, in
 * the scope that lower/level.h says.
 *
 * A load whose index can leave the tensor (under a false `where`, or through a gather of indices from outside) is
 * made safe by itself: indices are clamped, or lanes masked. What it yields there does not matter.
 *
 * Comparisons of index values are made on integers; arithmetic on them is in f32. */
#include "cpu/lower.h"
#include <string.h>

/* ---- scopes */

void scope_root(Scope *s, Low *l)
{
    *s = (Scope){.level = {.places = &l->places}, .l = l, .lanes = -1};
}

void scope_in(Scope *s, Scope *outer, V hoist)
{
    *s = (Scope){.level = level_in(&outer->level), .l = outer->l, .hoist = hoist, .lanes = outer->lanes, .mask = outer->mask};
}

void scope_bind(Scope *s, int axis, V value)
{
    s->at[axis] = value;
    s->level.binds |= 1u << axis;
}

void scope_zero(Scope *s, uint32_t axes)
{
    for (int a = 0; a < MAX_AXES; a++)
        if (axes >> a & 1)
            scope_bind(s, a, ic(s->l->g, 0));
}

void scope_digits(Scope *s, const Group *grp, int n, int without, V flat)
{
    Gen *g = s->l->g;
    int first = 0;
    while (first < n && first == without)
        first++;
    for (int k = n - 1; k >= 0; k--) {
        if (k == without)
            continue;
        if (k == first) {
            scope_bind(s, grp[k].axis, flat);
            break;
        }
        V size = gen_poly(g, grp[k].n);
        V rest = i_div(g, flat, size);
        scope_bind(s, grp[k].axis, i_sub(g, flat, i_mul(g, rest, size)));
        flat = rest;
    }
}

V scope_axis(Scope *s, int axis)
{
    const Scope *b = (Scope *)level_binder(&s->level, axis);
    return b ? b->at[axis] : NULL;
}

/* The scope of that depth, and the builder put where its values are computed. Inside an outer scope that has no loop
 * of its own between, the place does not move. */
static Scope *enter(Scope *s, int depth, Mark *m, bool *moved)
{
    V at = NULL;
    while (s->level.depth > depth) {
        if (s->hoist)
            at = s->hoist;
        s = (Scope *)s->level.outer;
    }
    *moved = at != NULL;
    if (at)
        *m = build_before(s->l->g, at);
    return s;
}

static void leave(Scope *s, Mark m, bool moved)
{
    if (moved)
        build_back(s->l->g, m);
}

static const Val *kept(const Scope *s, Val v)
{
    Val *copy = NEW(s->l->arena, Val);
    *copy = v;
    return copy;
}

void member_is(Scope *s, const Comp *c, Val v)
{
    level_hold(&s->level, c, NULL, kept(s, v));
}

/* ---- conversions */

V to_f(Scope *s, Val v)
{
    Gen *g = s->l->g;
    switch (v.kind) {
    case VAL_F: return v.v;
    case VAL_INT: return splat(g, LLVMBuildSIToFP(g->b, v.v, g->t->f32, ""));
    case VAL_INTS: return LLVMBuildSIToFP(g->b, v.v, g->t->vf, "");
    case VAL_BOOL: return select_(g, v.v, fc(g, 1), fc(g, 0));
    }
    return NULL;
}

static V to_bool(Scope *s, Val v)
{
    Gen *g = s->l->g;
    if (v.kind == VAL_BOOL)
        return v.v;
    if (v.kind == VAL_INTS)
        return LLVMBuildICmp(g->b, LLVMIntNE, v.v, vic(g, 0), "");
    return f_cmp(g, LLVMRealUNE, to_f(s, v), fc(g, 0));
}

static V to_ints(Scope *s, Val v)      /* i32 lanes of an integer value */
{
    Gen *g = s->l->g;
    if (v.kind == VAL_INTS)
        return v.v;
    if (v.kind == VAL_INT)
        return splat(g, LLVMBuildTrunc(g->b, v.v, g->t->i32, ""));
    return LLVMBuildFPToSI(g->b, to_f(s, v), g->t->vi, "");
}

/* ---- index maps */

static bool on_lanes(const Scope *s, uint32_t axes)
{
    return s->lanes >= 0 && (axes >> s->lanes & 1);
}

static V index_lanes(Scope *s, const Affine *a);

/* one atom as an i64 (which: false) or as i32 lanes */
static V atom_value(Scope *s, const Term *t, bool lanes)
{
    Gen *g = s->l->g;
    if (t->kind == AT_AXIS) {
        V v = scope_axis(s, t->axis);
        if (!lanes)
            return v;
        v = splat(g, LLVMBuildTrunc(g->b, v, g->t->i32, ""));
        return t->axis == s->lanes ? LLVMBuildAdd(g->b, v, lanes_iota(g, g->t->vi), "") : v;
    }
    if (t->kind == AT_LOAD) {
        Val v = eval(s, t->load);
        if (lanes)
            return to_ints(s, v);
        if (v.kind == VAL_INT)
            return v.v;
        return LLVMBuildSExt(g->b, lane(g, to_ints(s, v), 0), g->t->i64, "");
    }
    V arg = lanes ? index_lanes(s, t->arg) : eval_index(s, t->arg);
    return t->kind == AT_DIV ? i_floor_div(g, arg, t->by) : i_floor_mod(g, arg, t->by);
}

V eval_index(Scope *s, const Affine *a)
{
    Gen *g = s->l->g;
    V sum = ic(g, a->c);
    for (int i = 0; i < a->n; i++)
        sum = i_add(g, sum, i_mul(g, atom_value(s, &a->term[i], false), ic(g, a->term[i].coef)));
    return sum;
}

static V index_lanes(Scope *s, const Affine *a)
{
    Gen *g = s->l->g;
    V sum = vic(g, a->c);
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        V v = atom_value(s, t, true);
        if (t->coef != 1)
            v = LLVMBuildMul(g->b, v, vic(g, t->coef), "");
        sum = LLVMBuildAdd(g->b, sum, v, "");
    }
    return sum;
}

/* ---- addresses */

static Ty element_type(const Gen *g, DType d)
{
    return d == DT_F32 ? g->t->f32 : d == DT_F64 ? g->t->f64 : d == DT_BF16 ? g->t->i16 : g->t->i32;
}

static unsigned element_size(DType d)
{
    return (unsigned)dtype_size(d);
}

/* The part of an address that scopes up to `depth` know. Each scope adds its own terms in front of its inner loop. */
static V pointer_at(Scope *s, const Mem *mem, const Lin *lin, const void *key, int depth)
{
    Low *l = s->l;
    Gen *g = l->g;
    Mark mark;
    bool moved;
    Scope *o = s;
    while (o->level.depth > depth)
        o = (Scope *)o->level.outer;
    for (int i = 0; i < o->ptrs.n; i++)
        if (o->ptrs.at[i].key == key)
            return o->ptrs.at[i].p;
    V p = depth ? pointer_at(s, mem, lin, key, depth - 1) : mem->base;
    enter(s, depth, &mark, &moved);
    V offset = depth ? ic(g, 0) : gen_poly(g, lin->c);
    for (int a = 0; a < MAX_AXES; a++)
        if (o->at[a] && !poly_is(lin->axis[a], 0))
            offset = i_add(g, offset, i_mul(g, o->at[a], gen_poly(g, lin->axis[a])));
    for (int i = 0; i < lin->n_atoms; i++) {
        const Term *t = lin->atom[i].term;
        if (!on_lanes(s, term_axes(t)) && term_depth(&s->level, t) == depth)
            offset = i_add(g, offset, i_mul(g, atom_value(o, t, false), gen_poly(g, lin->atom[i].coef)));
    }
    /* gathers may have cached something for this key meanwhile, so nothing is assumed about ptrs here */
    V at = gep(g, element_type(g, mem->dtype), p, offset);
    leave(s, mark, moved);
    PUSH(l->arena, o->ptrs, (struct KnownPtr){key, at});
    return at;
}

V address(Scope *s, const Mem *mem, const Affine *const *idx, const void *key)
{
    Lin lin = linear(&s->l->places, &mem->at, idx);
    return pointer_at(s, mem, &lin, key, s->level.depth);
}

/* ---- loads */

static Val loaded(Gen *g, V v, DType d)
{
    if (d == DT_F64)
        return (Val){VAL_F, LLVMBuildFPTrunc(g->b, v, g->t->vf, "")};
    if (d == DT_BF16)
        return (Val){VAL_F, f_from_bf16(g, v)};
    return (Val){d == DT_F32 ? VAL_F : VAL_INTS, v};
}

static Val load_uniform(Gen *g, V p, DType d)
{
    V v = load(g, element_type(g, d), p, element_size(d));
    if (d == DT_I32)
        return (Val){VAL_INT, LLVMBuildSExt(g->b, v, g->t->i64, "")};
    if (d == DT_F64)
        v = LLVMBuildFPTrunc(g->b, v, g->t->f32, "");
    if (d == DT_BF16)
        v = f_from_bf16(g, v);
    return (Val){VAL_F, splat(g, v)};
}

static Ty vector_type(const Gen *g, DType d)
{
    return d == DT_F32 ? g->t->vf : d == DT_F64 ? g->t->vd : d == DT_BF16 ? g->t->vs : g->t->vi;
}

static V mask_and(Gen *g, V a, V b)
{
    return !a ? b : !b ? a : LLVMBuildAnd(g->b, a, b, "");
}

static V all_lanes(Gen *g)
{
    return LLVMConstAllOnes(g->t->vb);
}

/* Element offsets of the lanes relative to p, as i64 lanes */
static V gather_offsets(Scope *s, const Lin *lin)
{
    Gen *g = s->l->g;
    V sum = LLVMConstNull(g->t->vl);
    V stride = gen_poly(g, lin->axis[s->lanes]);
    if (!poly_is(lin->axis[s->lanes], 0))
        sum = LLVMBuildMul(g->b, lanes_iota(g, g->t->vl), splat(g, stride), "");
    for (int i = 0; i < lin->n_atoms; i++)
        if (on_lanes(s, term_axes(lin->atom[i].term))) {
            V v = LLVMBuildSExt(g->b, atom_value(s, lin->atom[i].term, true), g->t->vl, "");
            v = LLVMBuildMul(g->b, v, splat(g, gen_poly(g, lin->atom[i].coef)), "");
            sum = LLVMBuildAdd(g->b, sum, v, "");
        }
    return sum;
}

static Val load_lanes(Scope *s, const Mem *mem, const Lin *lin, V p, V mask)
{
    Gen *g = s->l->g;
    Ty element = element_type(g, mem->dtype), vector = vector_type(g, mem->dtype);
    Poly stride = lin->axis[s->lanes];
    bool atoms = on_lanes(s, atom_axes(lin));
    V v;
    if (!atoms && poly_is(stride, 1)) {
        v = mask ? llvm_masked_load(g->t, g->b, vector, p, mask) : load(g, vector, p, element_size(mem->dtype));
    } else if (!atoms && !mask) {
        V step = gen_poly(g, stride), one = p;
        v = LLVMGetPoison(vector);
        for (int i = 0; i < g->t->lanes; i++) {
            V x = load(g, element, one, element_size(mem->dtype));
            v = LLVMBuildInsertElement(g->b, v, x, LLVMConstInt(g->t->i32, (unsigned)i, 0), "");
            one = gep(g, element, one, step);
        }
    } else {
        V offsets = gather_offsets(s, lin);
        V at = LLVMBuildGEP2(g->b, element, p, &offsets, 1, "");
        v = llvm_gather(g->t, g->b, vector, at, mask ? mask : all_lanes(g));
    }
    return loaded(g, v, mem->dtype);
}

/* A load of which some index may be out of range. Scalar indices are clamped; an index along the lanes masks. */
static Val load_guarded(Scope *s, const Expr *e, const Mem *mem, uint32_t leaves)
{
    Gen *g = s->l->g;
    const Tensor *t = &s->l->graph->tensor[e->tensor];
    Ty element = element_type(g, mem->dtype), vector = vector_type(g, mem->dtype);
    Lin lin = linear(&s->l->places, &mem->at, e->idx);
    bool lanes = on_lanes(s, e->axes);
    bool run = lanes && !on_lanes(s, atom_axes(&lin)) && poly_is(lin.axis[s->lanes], 1);
    V mask = lanes ? s->mask : NULL, p = mem->base, offsets = NULL;
    for (int d = 0; d < e->n; d++) {
        const Affine *a = e->idx[d];
        V n = gen_poly(g, poly_ext(t->shape[d])), stride = gen_poly(g, mem->at.stride[d]);
        bool wide = lanes && on_lanes(s, aff_axes(a)), out = leaves >> d & 1;
        if (wide && out) {             /* as unsigned numbers, negative ones are large */
            V size = splat(g, LLVMBuildTrunc(g->b, n, g->t->i32, ""));
            mask = mask_and(g, mask, LLVMBuildICmp(g->b, LLVMIntULT, index_lanes(s, a), size, ""));
        }
        if (wide && !run) {
            V i = LLVMBuildSExt(g->b, index_lanes(s, a), g->t->vl, "");
            V offset = LLVMBuildMul(g->b, i, splat(g, stride), "");
            offsets = offsets ? LLVMBuildAdd(g->b, offsets, offset, "") : offset;
            continue;
        }
        V i = eval_index(s, a);
        if (!wide && out)
            i = i_max(g, i_min(g, i, i_sub(g, n, ic(g, 1))), ic(g, 0));
        V offset = i_mul(g, i, stride);
        p = LLVMBuildGEP2(g->b, element, p, &offset, 1, "");    /* may point outside where lanes are masked */
    }
    if (!lanes)
        return load_uniform(g, p, mem->dtype);
    V v;
    if (!run)
        v = llvm_gather(g->t, g->b, vector, LLVMBuildGEP2(g->b, element, p, &offsets, 1, ""), mask ? mask : all_lanes(g));
    else if (mask)
        v = llvm_masked_load(g->t, g->b, vector, p, mask);
    else
        v = load(g, vector, p, element_size(mem->dtype));
    return loaded(g, v, mem->dtype);
}

Val load_at(Scope *s, const Mem *mem, const Affine *const *idx, const void *key, V further)
{
    Gen *g = s->l->g;
    Lin lin = linear(&s->l->places, &mem->at, idx);
    V p = pointer_at(s, mem, &lin, key, s->level.depth);
    if (further)
        p = gep(g, element_type(g, mem->dtype), p, further);
    if (s->lanes >= 0 && (!poly_is(lin.axis[s->lanes], 0) || on_lanes(s, atom_axes(&lin))))
        return load_lanes(s, mem, &lin, p, s->mask);
    return load_uniform(g, p, mem->dtype);
}

static Val eval_load(Scope *s, const Expr *e)
{
    Low *l = s->l;
    int m = member_read(l->k, e);
    const Val *value = level_held(&s->level, e);
    if (value)
        return *value;
    if (m >= 0 && l->places.again[m]) {
        const Comp *reader = l->comp;
        Val v = eval_member(s, &l->k->comp[m]);
        l->comp = reader;
        return v;
    }
    if (m >= 0 && !l->places.placed[m])
        low_fail(l, "a member's value is read where it is not known");
    Mem mem = m >= 0 ? l->member[m].mem : tensor_mem(l, e->tensor);
    uint32_t leaves = 0;
    for (int d = 0; d < e->n && m < 0; d++)
        if (may_leave(&l->places, l->comp, e, d))
            leaves |= 1u << d;
    if (leaves)
        return load_guarded(s, e, &mem, leaves);
    return load_at(s, &mem, e->idx, e, NULL);
}

/* ---- operations */

static bool is_int(Val v)
{
    return v.kind == VAL_INT || v.kind == VAL_INTS;
}

/* A whole constant next to an integer is an integer. */
static bool as_integer(Scope *s, const Expr *e, Val *v)
{
    int64_t n;
    if (is_int(*v))
        return true;
    if (!expr_is_whole(e, &n))
        return false;
    *v = (Val){VAL_INT, ic(s->l->g, n)};
    return true;
}

static V compare(Scope *s, const Expr *e, Val x, Val y)
{
    static const struct { Op op; LLVMIntPredicate i; LLVMRealPredicate f; } table[] = {
        {OP_LT, LLVMIntSLT, LLVMRealOLT}, {OP_LE, LLVMIntSLE, LLVMRealOLE}, {OP_GT, LLVMIntSGT, LLVMRealOGT},
        {OP_GE, LLVMIntSGE, LLVMRealOGE}, {OP_EQ, LLVMIntEQ, LLVMRealOEQ},  {OP_NE, LLVMIntNE, LLVMRealUNE},
    };
    Gen *g = s->l->g;
    size_t k = 0;
    while (k + 1 < LEN(table) && table[k].op != e->op)
        k++;
    bool ints = (is_int(x) || is_int(y)) && as_integer(s, e->arg[0], &x) && as_integer(s, e->arg[1], &y);
    if (!ints)
        return f_cmp(g, table[k].f, to_f(s, x), to_f(s, y));
    if (x.kind == VAL_INT && y.kind == VAL_INT)
        return splat(g, LLVMBuildICmp(g->b, table[k].i, x.v, y.v, ""));
    return LLVMBuildICmp(g->b, table[k].i, to_ints(s, x), to_ints(s, y), "");
}

static Val eval_op(Scope *s, const Expr *e)
{
    Gen *g = s->l->g;
    Val a[3] = {{VAL_F, NULL}, {VAL_F, NULL}, {VAL_F, NULL}};
    for (int i = 0; i < e->n; i++)
        a[i] = eval(s, e->arg[i]);
    V r = NULL;
    if (op_info[e->op].compares) {
        if (e->op == OP_NOT)
            r = LLVMBuildNot(g->b, to_bool(s, a[0]), "");
        else if (e->op == OP_AND)
            r = LLVMBuildAnd(g->b, to_bool(s, a[0]), to_bool(s, a[1]), "");
        else if (e->op == OP_OR)
            r = LLVMBuildOr(g->b, to_bool(s, a[0]), to_bool(s, a[1]), "");
        else
            r = compare(s, e, a[0], a[1]);
        return (Val){VAL_BOOL, r};
    }
    if (e->op == OP_WHERE)
        return (Val){VAL_F, select_(g, to_bool(s, a[0]), to_f(s, a[1]), to_f(s, a[2]))};
    V x = to_f(s, a[0]), y = e->n > 1 ? to_f(s, a[1]) : NULL;
    double c;
    switch (e->op) {
    case OP_ADD: r = f_add(g, x, y); break;
    case OP_SUB: r = f_sub(g, x, y); break;
    case OP_MUL: r = f_mul(g, x, y); break;
    case OP_DIV: r = f_div(g, x, y); break;
    case OP_NEG: r = f_neg(g, x); break;
    case OP_POW: r = expr_is_const(e->arg[1], &c) ? m_pow_const(g, x, c) : m_pow(g, x, y); break;
    case OP_EXP: r = m_exp(g, x); break;
    case OP_LN: r = m_ln(g, x); break;
    case OP_SQRT: r = f_sqrt(g, x); break;
    case OP_RSQRT: r = f_div(g, fc(g, 1), f_sqrt(g, x)); break;
    case OP_ERF: r = m_erf(g, x); break;
    case OP_TANH: r = m_tanh(g, x); break;
    case OP_SIN: r = m_sin(g, x); break;
    case OP_COS: r = m_cos(g, x); break;
    case OP_ABS: r = f_abs(g, x); break;
    case OP_FLOOR: r = f_floor(g, x); break;
    case OP_MAX: r = f_max(g, x, y); break;
    case OP_MIN: r = f_min(g, x, y); break;
    default:
        low_fail(s->l, "no vector code for `%s`", op_info[e->op].name);
        r = x;
    }
    return (Val){VAL_F, r};
}

static Val eval_here(Scope *s, const Expr *e)
{
    Gen *g = s->l->g;
    switch (e->kind) {
    case E_CONST: return (Val){VAL_F, fc(g, e->c)};
    case E_EXTENT: return (Val){VAL_INT, gen_poly(g, poly_ext(e->ext))};
    case E_INDEX:
        if (on_lanes(s, aff_axes(e->aff)))
            return (Val){VAL_INTS, index_lanes(s, e->aff)};
        return (Val){VAL_INT, eval_index(s, e->aff)};
    case E_LOAD: return eval_load(s, e);
    case E_OP: return eval_op(s, e);
    }
    return (Val){VAL_F, fc(g, 0)};
}

Val eval(Scope *s, const Expr *e)
{
    if (e->kind == E_CONST)
        return eval_here(s, e);
    Mark mark;
    bool moved;
    Scope *home = enter(s, level_known(&s->level, e)->depth, &mark, &moved);
    LevelExpr *known = level_known(&home->level, e);
    if (!known->value)
        known->value = kept(home, eval_here(home, e));
    leave(s, mark, moved);
    return *(const Val *)known->value;
}

Val eval_member(Scope *s, const Comp *c)
{
    s->l->comp = c;
    Val v = eval(s, c->body);
    return c->red ? v : member_value(s, c, v);       /* a sum is rounded, its terms are not */
}

Val member_value(Scope *s, const Comp *c, Val v)
{
    if (s->l->graph->tensor[c->out].dtype != DT_BF16)
        return v;
    s->l->rounded = f_round_bf16(s->l->g, to_f(s, v));
    return (Val){VAL_F, s->l->rounded};
}

/* ---- stores */

static V stored(Scope *s, DType d, Val v)
{
    Gen *g = s->l->g;
    if (d == DT_I32)
        return to_ints(s, v);
    V f = to_f(s, v);
    if (d == DT_BF16)
        return f_to_bf16(g, f == s->l->rounded ? f : f_round_bf16(g, f));
    return d == DT_F64 ? LLVMBuildFPExt(g->b, f, g->t->vd, "") : f;
}

void store_at(Scope *s, const Mem *mem, const Affine *const *idx, const void *key, Val val)
{
    Low *l = s->l;
    Gen *g = l->g;
    Lin lin = linear(&l->places, &mem->at, idx);
    V p = pointer_at(s, mem, &lin, key, s->level.depth);
    V v = stored(s, mem->dtype, val);
    Ty element = element_type(g, mem->dtype);
    unsigned align = element_size(mem->dtype);
    bool atoms = on_lanes(s, atom_axes(&lin));
    /* a masked store of one narrow lane known beforehand is miscompiled by LLVM 22 (it writes the lane before narrowing) */
    bool one = mem->dtype == DT_BF16 && s->mask && LLVMIsConstant(s->mask) &&
               !LLVMConstIntGetZExtValue(LLVMGetAggregateElement(s->mask, 1));
    if (s->lanes < 0 || one || (poly_is(lin.axis[s->lanes], 0) && !atoms)) {
        store(g, lane(g, v, 0), p, align);
    } else if (poly_is(lin.axis[s->lanes], 1) && !atoms) {
        if (s->mask)
            llvm_masked_store(g->t, g->b, v, p, s->mask);
        else
            store(g, v, p, align);
    } else if (!s->mask && !atoms) {
        V step = gen_poly(g, lin.axis[s->lanes]);
        for (int i = 0; i < g->t->lanes; i++) {
            store(g, lane(g, v, i), p, align);
            p = gep(g, element, p, step);
        }
    } else {
        V offsets = gather_offsets(s, &lin);
        V at = LLVMBuildGEP2(g->b, element, p, &offsets, 1, "");
        llvm_scatter(g->t, g->b, v, at, s->mask ? s->mask : all_lanes(g));
    }
}

void store_member(Scope *s, const Comp *c, Val v)
{
    Mem mem = tensor_mem(s->l, c->out);
    store_at(s, &mem, c->store, c, v);
}
