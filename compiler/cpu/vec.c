/* vec.c -- the builder under all kernels. See vec.h.
 *
 * Two habits keep the code LLVM gets close to what the machine runs, so that no optimisation pass is needed: numbers
 * that depend on the batch alone are made once in the entry block, and loops test at the bottom (a loop that may be
 * empty has one test in front, whose block is also the place for what does not change inside). */
#include "cpu/vec.h"
#include <string.h>

/* ---- functions */

static void begin(Gen *g, V fn)
{
    Target *t = g->t;
    g->fn = fn;
    g->polys.n = 0;
    g->buffers.n = 0;
    g->task = g->scratch = g->bufs = g->batch = g->point = NULL;
    target_function(t, fn);
    Block entry = LLVMAppendBasicBlockInContext(t->ctx, fn, "entry");
    Block start = LLVMAppendBasicBlockInContext(t->ctx, fn, "start");
    LLVMPositionBuilderAtEnd(g->b, entry);
    g->start = LLVMBuildBr(g->b, start);
    LLVMPositionBuilderAtEnd(g->b, start);
}

void gen_kernel(Gen *g, const char *name)
{
    Target *t = g->t;
    Ty param[] = {t->ptr, t->i64, t->i64, t->ptr};
    V fn = LLVMAddFunction(t->module, name, LLVMFunctionType(t->none, param, 4, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    begin(g, fn);
    g->bufs = LLVMGetParam(fn, 0);
    g->batch = LLVMGetParam(fn, 1);
    g->task = LLVMGetParam(fn, 2);
    g->scratch = LLVMGetParam(fn, 3);
}

void gen_tasks(Gen *g, const char *name)
{
    Target *t = g->t;
    V fn = LLVMAddFunction(t->module, name, LLVMFunctionType(t->i64, &t->i64, 1, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    begin(g, fn);
    g->batch = LLVMGetParam(fn, 0);
}

void gen_helper(Gen *g, const char *name, Ty result, Ty *param, int n)
{
    V fn = LLVMAddFunction(g->t->module, name, LLVMFunctionType(result, param, (unsigned)n, 0));
    LLVMSetLinkage(fn, LLVMInternalLinkage);
    begin(g, fn);
}

void gen_end(Gen *g, V result)
{
    if (result)
        LLVMBuildRet(g->b, result);
    else
        LLVMBuildRetVoid(g->b);
}

Mark build_before(Gen *g, V instruction)
{
    Mark m = {LLVMGetInsertBlock(g->b), g->point};
    g->point = instruction;
    LLVMPositionBuilderBefore(g->b, instruction);
    return m;
}

void build_back(Gen *g, Mark m)
{
    g->point = m.point;
    if (m.point)
        LLVMPositionBuilderBefore(g->b, m.point);
    else
        LLVMPositionBuilderAtEnd(g->b, m.at);
}

V gen_buffer(Gen *g, int arg)
{
    for (int i = 0; i < g->buffers.n; i++)
        if (g->buffers.at[i].arg == arg)
            return g->buffers.at[i].v;
    Mark m = build_before(g, g->start);
    V v = load(g, g->t->ptr, gep(g, g->t->ptr, g->bufs, ic(g, arg)), 8);
    build_back(g, m);
    PUSH(g->arena, g->buffers, (struct KnownBuf){arg, v});
    return v;
}

V gen_poly(Gen *g, Poly p)
{
    if (!p.c[1] && !p.c[2])
        return ic(g, p.c[0]);
    for (int i = 0; i < g->polys.n; i++)
        if (!memcmp(&g->polys.at[i].p, &p, sizeof p))
            return g->polys.at[i].v;
    Mark m = build_before(g, g->start);
    V v = i_mul(g, g->batch, ic(g, p.c[2]));
    v = i_mul(g, g->batch, i_add(g, v, ic(g, p.c[1])));
    v = i_add(g, v, ic(g, p.c[0]));
    build_back(g, m);
    PUSH(g->arena, g->polys, (struct KnownPoly){p, v});
    return v;
}

/* ---- integers */

V ic(Gen *g, int64_t c)
{
    return LLVMConstInt(g->t->i64, (unsigned long long)c, 1);
}

bool ic_value(V v, int64_t *c)
{
    if (!LLVMIsAConstantInt(v))
        return false;
    *c = LLVMConstIntGetSExtValue(v);
    return true;
}

static bool is_scalar_const(V v, int64_t c)
{
    int64_t x;
    return ic_value(v, &x) && x == c;
}

V i_add(Gen *g, V a, V b)
{
    return is_scalar_const(a, 0) ? b : is_scalar_const(b, 0) ? a : LLVMBuildAdd(g->b, a, b, "");
}

V i_sub(Gen *g, V a, V b)
{
    return is_scalar_const(b, 0) ? a : LLVMBuildSub(g->b, a, b, "");
}

V i_mul(Gen *g, V a, V b)
{
    if (is_scalar_const(a, 0) || is_scalar_const(b, 1))
        return a;
    if (is_scalar_const(b, 0) || is_scalar_const(a, 1))
        return b;
    return LLVMBuildMul(g->b, a, b, "");
}

V i_div(Gen *g, V a, V b)
{
    return is_scalar_const(b, 1) ? a : LLVMBuildUDiv(g->b, a, b, "");
}

V i_rem(Gen *g, V a, V b)
{
    return is_scalar_const(b, 1) ? ic(g, 0) : LLVMBuildURem(g->b, a, b, "");
}

V i_ceil_div(Gen *g, V a, V b)
{
    return i_div(g, i_sub(g, i_add(g, a, b), ic(g, 1)), b);
}

V select_(Gen *g, V cond, V yes, V no)
{
    return yes == no ? yes : LLVMBuildSelect(g->b, cond, yes, no, "");
}

V i_less(Gen *g, V a, V b)
{
    return LLVMBuildICmp(g->b, LLVMIntSLT, a, b, "");
}

V i_min(Gen *g, V a, V b)
{
    return select_(g, i_less(g, a, b), a, b);
}

V i_max(Gen *g, V a, V b)
{
    return select_(g, i_less(g, a, b), b, a);
}

/* A constant of the type of `like`. */
static V int_like(V like, int64_t c)
{
    Ty type = LLVMTypeOf(like);
    if (LLVMGetTypeKind(type) != LLVMVectorTypeKind)
        return LLVMConstInt(type, (unsigned long long)c, 1);
    V one[16];
    unsigned n = LLVMGetVectorSize(type);
    for (unsigned i = 0; i < n; i++)
        one[i] = LLVMConstInt(LLVMGetElementType(type), (unsigned long long)c, 1);
    return LLVMConstVector(one, n);
}

V i_floor_div(Gen *g, V a, int64_t by)
{
    if (by == 1)
        return a;
    /* truncation rounds negative numbers up: step down when there is a negative rest */
    V q = LLVMBuildSDiv(g->b, a, int_like(a, by), "");
    V rest = LLVMBuildSub(g->b, a, LLVMBuildMul(g->b, q, int_like(a, by), ""), "");
    V down = LLVMBuildICmp(g->b, LLVMIntSLT, rest, int_like(a, 0), "");
    return select_(g, down, LLVMBuildSub(g->b, q, int_like(a, 1), ""), q);
}

V i_floor_mod(Gen *g, V a, int64_t by)
{
    V q = i_floor_div(g, a, by);
    return LLVMBuildSub(g->b, a, LLVMBuildMul(g->b, q, int_like(a, by), ""), "");
}

/* ---- memory */

V gep(Gen *g, Ty element, V p, V index)
{
    return is_scalar_const(index, 0) ? p : LLVMBuildInBoundsGEP2(g->b, element, p, &index, 1, "");
}

V load(Gen *g, Ty type, V p, unsigned align)
{
    V v = LLVMBuildLoad2(g->b, type, p, "");
    LLVMSetAlignment(v, align);
    return v;
}

void store(Gen *g, V v, V p, unsigned align)
{
    LLVMSetAlignment(LLVMBuildStore(g->b, v, p), align);
}

/* ---- vectors */

V fc(Gen *g, double c)
{
    V one[16];
    for (int i = 0; i < g->t->lanes; i++)
        one[i] = LLVMConstReal(g->t->f32, c);
    return LLVMConstVector(one, (unsigned)g->t->lanes);
}

V vic(Gen *g, int64_t c)
{
    return int_like(LLVMConstNull(g->t->vi), c);
}

V lanes_iota(Gen *g, Ty vector)
{
    V one[16];
    for (int i = 0; i < g->t->lanes; i++)
        one[i] = LLVMConstInt(LLVMGetElementType(vector), (unsigned)i, 0);
    return LLVMConstVector(one, (unsigned)g->t->lanes);
}

V splat(Gen *g, V scalar)
{
    unsigned w = (unsigned)g->t->lanes;
    Ty vector = LLVMVectorType(LLVMTypeOf(scalar), w);
    V v = LLVMBuildInsertElement(g->b, LLVMGetPoison(vector), scalar, LLVMConstInt(g->t->i32, 0, 0), "");
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(vector), LLVMConstNull(g->t->vi), "");
}

V lane(Gen *g, V v, int i)
{
    return LLVMBuildExtractElement(g->b, v, LLVMConstInt(g->t->i32, (unsigned)i, 0), "");
}

V mask_first(Gen *g, V n)
{
    int64_t c;
    int w = g->t->lanes;
    if (ic_value(n, &c)) {
        if (c >= w)
            return NULL;
        V one[16];
        for (int i = 0; i < w; i++)
            one[i] = LLVMConstInt(g->t->i1, i < c, 0);
        return LLVMConstVector(one, (unsigned)w);
    }
    V most = LLVMBuildTrunc(g->b, i_min(g, n, ic(g, w)), g->t->i32, "");
    return LLVMBuildICmp(g->b, LLVMIntSLT, lanes_iota(g, g->t->vi), splat(g, most), "");
}

/* a * b + c may be rounded once: contraction is part of the float contract */
static V contract(V v)
{
    if (LLVMIsAInstruction(v) && LLVMCanValueUseFastMathFlags(v))
        LLVMSetFastMathFlags(v, LLVMFastMathAllowContract);
    return v;
}

V f_add(Gen *g, V a, V b)
{
    return contract(LLVMBuildFAdd(g->b, a, b, ""));
}

V f_sub(Gen *g, V a, V b)
{
    return contract(LLVMBuildFSub(g->b, a, b, ""));
}

V f_mul(Gen *g, V a, V b)
{
    return contract(LLVMBuildFMul(g->b, a, b, ""));
}

V f_div(Gen *g, V a, V b)
{
    return LLVMBuildFDiv(g->b, a, b, "");
}

static V unary(Gen *g, const char *name, V a)
{
    Ty type = LLVMTypeOf(a);
    return llvm_call(g->t, g->b, name, &type, 1, &a, 1);
}

V f_fma(Gen *g, V a, V b, V c)
{
    if (!g->t->fma)
        return LLVMBuildFAdd(g->b, LLVMBuildFMul(g->b, a, b, ""), c, "");
    Ty type = LLVMTypeOf(a);
    V arg[] = {a, b, c};
    return llvm_call(g->t, g->b, "llvm.fma", &type, 1, arg, 3);
}

V f_neg(Gen *g, V a)
{
    return LLVMBuildFNeg(g->b, a, "");
}

V f_abs(Gen *g, V a)
{
    return unary(g, "llvm.fabs", a);
}

V f_sqrt(Gen *g, V a)
{
    return unary(g, "llvm.sqrt", a);
}

V f_cmp(Gen *g, LLVMRealPredicate p, V a, V b)
{
    return LLVMBuildFCmp(g->b, p, a, b, "");
}

V f_floor(Gen *g, V a)
{
    if (g->t->rounds)
        return unary(g, "llvm.floor", a);
    /* numbers of 2^23 and more are whole; below, truncation and a step down */
    V small = f_cmp(g, LLVMRealOLT, f_abs(g, a), fc(g, 8388608));
    V safe = select_(g, small, a, fc(g, 0));
    V cut = LLVMBuildSIToFP(g->b, LLVMBuildFPToSI(g->b, safe, g->t->vi, ""), g->t->vf, "");
    V down = select_(g, f_cmp(g, LLVMRealOGT, cut, safe), f_sub(g, cut, fc(g, 1)), cut);
    return select_(g, small, down, a);
}

/* x > y ? x : y is one instruction and yields y when either is NaN; a NaN x is put back. */
V f_max(Gen *g, V a, V b)
{
    V most = select_(g, f_cmp(g, LLVMRealOGT, a, b), a, b);
    return select_(g, f_cmp(g, LLVMRealUNO, a, a), a, most);
}

V f_min(Gen *g, V a, V b)
{
    V least = select_(g, f_cmp(g, LLVMRealOLT, a, b), a, b);
    return select_(g, f_cmp(g, LLVMRealUNO, a, a), a, least);
}

V f_max_const(Gen *g, double c, V x)
{
    V k = fc(g, c);
    return select_(g, f_cmp(g, LLVMRealOGT, k, x), k, x);
}

V f_min_const(Gen *g, double c, V x)
{
    V k = fc(g, c);
    return select_(g, f_cmp(g, LLVMRealOLT, k, x), k, x);
}

V as_int(Gen *g, V v)
{
    bool wide = LLVMGetTypeKind(LLVMGetElementType(LLVMTypeOf(v))) == LLVMDoubleTypeKind;
    return LLVMBuildBitCast(g->b, v, wide ? g->t->vl : g->t->vi, "");
}

V as_float(Gen *g, V v)
{
    bool wide = LLVMGetIntTypeWidth(LLVMGetElementType(LLVMTypeOf(v))) == 64;
    return LLVMBuildBitCast(g->b, v, wide ? g->t->vd : g->t->vf, "");
}

V f_round_bf16(Gen *g, V a)
{
    V bits = as_int(g, a), odd = LLVMBuildAnd(g->b, LLVMBuildLShr(g->b, bits, vic(g, 16), ""), vic(g, 1), "");
    V up = LLVMBuildAdd(g->b, bits, LLVMBuildAdd(g->b, odd, vic(g, 0x7fff), ""), "");
    V nan = f_cmp(g, LLVMRealUNO, a, a), quiet = LLVMBuildOr(g->b, bits, vic(g, 0x400000), "");
    return as_float(g, LLVMBuildAnd(g->b, select_(g, nan, quiet, up), vic(g, -0x10000), ""));
}

V f_to_bf16(Gen *g, V a)
{
    return LLVMBuildTrunc(g->b, LLVMBuildLShr(g->b, as_int(g, a), vic(g, 16), ""), g->t->vs, "");
}

V f_from_bf16(Gen *g, V a)
{
    bool one = LLVMGetTypeKind(LLVMTypeOf(a)) != LLVMVectorTypeKind;
    unsigned n = one ? 1 : LLVMGetVectorSize(LLVMTypeOf(a));
    Ty wide = one ? g->t->i32 : LLVMVectorType(g->t->i32, n), result = one ? g->t->f32 : LLVMVectorType(g->t->f32, n);
    V bits = LLVMBuildZExt(g->b, a, wide, "");
    return LLVMBuildBitCast(g->b, LLVMBuildShl(g->b, bits, int_like(bits, 16), ""), result, "");
}

V rotate_lanes(Gen *g, V v, int by)
{
    V from[16];
    for (int i = 0; i < g->t->lanes; i++)
        from[i] = LLVMConstInt(g->t->i32, (unsigned)(i ^ by), 0);
    V order = LLVMConstVector(from, (unsigned)g->t->lanes);
    return LLVMBuildShuffleVector(g->b, v, LLVMGetPoison(LLVMTypeOf(v)), order, "");
}

V across(Gen *g, V v, Combine f)
{
    for (int by = g->t->lanes / 2; by; by /= 2)
        v = f(g, v, rotate_lanes(g, v, by));
    return v;
}

/* ---- loops */

static Block new_block(Gen *g, const char *name)
{
    return LLVMAppendBasicBlockInContext(g->t->ctx, g->fn, name);
}

static V phi(Gen *g, V first, Block from)
{
    V p = LLVMBuildPhi(g->b, LLVMTypeOf(first), "");
    LLVMAddIncoming(p, &first, &from, 1);
    return p;
}

void loop_begin(Gen *g, Loop *l, V lo, V hi, int64_t step, V *carry, int n)
{
    int64_t from, to;
    *l = (Loop){.hi = hi, .lo = lo, .step = step, .n = n, .before = LLVMGetInsertBlock(g->b)};
    bool runs = ic_value(lo, &from) && ic_value(hi, &to) && from < to;
    l->body = new_block(g, "loop");
    if (runs) {
        l->branch = LLVMBuildBr(g->b, l->body);
    } else {
        l->after = new_block(g, "after");
        l->branch = LLVMBuildCondBr(g->b, i_less(g, lo, hi), l->body, l->after);
    }
    LLVMPositionBuilderAtEnd(g->b, l->body);
    l->i = phi(g, lo, l->before);
    for (int k = 0; k < n; k++) {
        l->first[k] = carry[k];
        carry[k] = l->phi[k] = phi(g, carry[k], l->before);
    }
}

void loop_end(Gen *g, Loop *l, V *carry)
{
    V next = LLVMBuildAdd(g->b, l->i, ic(g, l->step), "");
    Block end = LLVMGetInsertBlock(g->b);
    Block after = l->after ? l->after : new_block(g, "after");
    V back = LLVMBuildCondBr(g->b, i_less(g, next, l->hi), l->body, after);
    if (l->aligned)
        llvm_align_loop(g->t, back, 64);
    LLVMAddIncoming(l->i, &next, &end, 1);
    for (int k = 0; k < l->n; k++)
        LLVMAddIncoming(l->phi[k], &carry[k], &end, 1);
    LLVMMoveBasicBlockAfter(after, end);
    LLVMPositionBuilderAtEnd(g->b, after);
    if (!l->after)
        return;
    for (int k = 0; k < l->n; k++) {
        V p = phi(g, l->first[k], l->before);
        LLVMAddIncoming(p, &carry[k], &end, 1);
        carry[k] = p;
    }
}

void if_begin(Gen *g, Branch *f, V cond, V *carry, int n)
{
    *f = (Branch){.n = n, .no = new_block(g, "else")};
    Block yes = new_block(g, "then");
    for (int k = 0; k < n; k++)
        f->in[k] = carry[k];
    f->no_end = LLVMGetInsertBlock(g->b);
    f->branch = LLVMBuildCondBr(g->b, cond, yes, f->no);
    LLVMPositionBuilderAtEnd(g->b, yes);
}

void if_else(Gen *g, Branch *f, V *carry)
{
    f->after = new_block(g, "end");
    for (int k = 0; k < f->n; k++) {
        f->yes[k] = carry[k];
        carry[k] = f->in[k];
    }
    LLVMBuildBr(g->b, f->after);
    f->yes_end = LLVMGetInsertBlock(g->b);
    LLVMMoveBasicBlockAfter(f->no, f->yes_end);
    LLVMPositionBuilderAtEnd(g->b, f->no);
}

void if_end(Gen *g, Branch *f, V *carry)
{
    if (!f->after)
        if_else(g, f, carry);
    LLVMBuildBr(g->b, f->after);
    f->no_end = LLVMGetInsertBlock(g->b);
    LLVMMoveBasicBlockAfter(f->after, f->no_end);
    LLVMPositionBuilderAtEnd(g->b, f->after);
    for (int k = 0; k < f->n; k++) {
        V p = phi(g, f->yes[k], f->yes_end);
        LLVMAddIncoming(p, &carry[k], &f->no_end, 1);
        carry[k] = p;
    }
}
