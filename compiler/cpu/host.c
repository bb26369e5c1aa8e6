/* host.c -- HOST kernels: f64 arithmetic on single numbers, the learning rate and the optimiser's bias corrections.
 *
 * One task, scalar code; transcendental functions are the C library's (in f64, so a learning rate near the end of a
 * cosine keeps its digits). The only kernels that call anything. */
#include "cpu/lower.h"
#include <string.h>

typedef struct Host { Low *l; V *value; } Host;      /* value of each member, NULL before */

static V call_libm(Host *h, const char *name, V *arg, int n)
{
    Gen *g = h->l->g;
    Ty d[] = {g->t->f64, g->t->f64}, type = LLVMFunctionType(g->t->f64, d, (unsigned)n, 0);
    V fn = LLVMGetNamedFunction(g->t->module, name);
    if (!fn)
        fn = LLVMAddFunction(g->t->module, name, type);
    return LLVMBuildCall2(g->b, type, fn, arg, (unsigned)n, "");
}

static V truth(Host *h, V cond)
{
    return LLVMBuildUIToFP(h->l->g->b, cond, h->l->g->t->f64, "");
}

static V holds(Host *h, V x)
{
    return LLVMBuildFCmp(h->l->g->b, LLVMRealUNE, x, LLVMConstReal(h->l->g->t->f64, 0), "");
}

static V number(Host *h, const Expr *e);

static V operation(Host *h, const Expr *e)
{
    LLVMBuilderRef b = h->l->g->b;
    V x = number(h, e->arg[0]), y = e->n > 1 ? number(h, e->arg[1]) : NULL, z = e->n > 2 ? number(h, e->arg[2]) : NULL;
    V two[] = {x, y}, one = LLVMConstReal(h->l->g->t->f64, 1);
    switch (e->op) {
    case OP_ADD: return LLVMBuildFAdd(b, x, y, "");
    case OP_SUB: return LLVMBuildFSub(b, x, y, "");
    case OP_MUL: return LLVMBuildFMul(b, x, y, "");
    case OP_DIV: return LLVMBuildFDiv(b, x, y, "");
    case OP_NEG: return LLVMBuildFNeg(b, x, "");
    case OP_POW: return call_libm(h, "pow", two, 2);
    case OP_EXP: return call_libm(h, "exp", &x, 1);
    case OP_LN: return call_libm(h, "log", &x, 1);
    case OP_SQRT: return call_libm(h, "sqrt", &x, 1);
    case OP_RSQRT: return LLVMBuildFDiv(b, one, call_libm(h, "sqrt", &x, 1), "");
    case OP_ERF: return call_libm(h, "erf", &x, 1);
    case OP_TANH: return call_libm(h, "tanh", &x, 1);
    case OP_SIN: return call_libm(h, "sin", &x, 1);
    case OP_COS: return call_libm(h, "cos", &x, 1);
    case OP_ABS: return call_libm(h, "fabs", &x, 1);
    case OP_FLOOR: return call_libm(h, "floor", &x, 1);
    case OP_MAX: return LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealULT, x, y, ""), y, x, "");
    case OP_MIN: return LLVMBuildSelect(b, LLVMBuildFCmp(b, LLVMRealUGT, x, y, ""), y, x, "");
    case OP_WHERE: return LLVMBuildSelect(b, holds(h, x), y, z, "");
    case OP_LT: return truth(h, LLVMBuildFCmp(b, LLVMRealOLT, x, y, ""));
    case OP_LE: return truth(h, LLVMBuildFCmp(b, LLVMRealOLE, x, y, ""));
    case OP_GT: return truth(h, LLVMBuildFCmp(b, LLVMRealOGT, x, y, ""));
    case OP_GE: return truth(h, LLVMBuildFCmp(b, LLVMRealOGE, x, y, ""));
    case OP_EQ: return truth(h, LLVMBuildFCmp(b, LLVMRealOEQ, x, y, ""));
    case OP_NE: return truth(h, LLVMBuildFCmp(b, LLVMRealUNE, x, y, ""));
    case OP_AND: return truth(h, LLVMBuildAnd(b, holds(h, x), holds(h, y), ""));
    case OP_OR: return truth(h, LLVMBuildOr(b, holds(h, x), holds(h, y), ""));
    case OP_NOT: return truth(h, LLVMBuildNot(b, holds(h, x), ""));
    case N_OPS: break;
    }
    low_fail(h->l, "no f64 code for scalar function %d", (int)e->op);
    return x;
}

static V number(Host *h, const Expr *e)
{
    Low *l = h->l;
    Gen *g = l->g;
    switch (e->kind) {
    case E_CONST: return LLVMConstReal(g->t->f64, e->c);
    case E_EXTENT: return LLVMBuildSIToFP(g->b, gen_poly(g, poly_ext(e->ext)), g->t->f64, "");
    case E_INDEX: return LLVMConstReal(g->t->f64, (double)e->aff->c);
    case E_LOAD: {
        for (int i = 0; i < l->n_member; i++)
            if (l->member[i].c->out == e->tensor && h->value[i])
                return h->value[i];
        Mem m = tensor_mem(l, e->tensor);
        V v = load(g, m.dtype == DT_F64 ? g->t->f64 : m.dtype == DT_F32 ? g->t->f32 : g->t->i32, m.base, m.dtype == DT_F64 ? 8 : 4);
        if (m.dtype == DT_F32)
            return LLVMBuildFPExt(g->b, v, g->t->f64, "");
        return m.dtype == DT_I32 ? LLVMBuildSIToFP(g->b, v, g->t->f64, "") : v;
    }
    case E_OP: return operation(h, e);
    }
    return NULL;
}

bool lower_host(Low *l)
{
    Gen *g = l->g;
    Host h = {.l = l, .value = NEWN(l->arena, V, l->n_member)};
    launch_begin(l, "host");
    for (int i = 0; i < l->n_member; i++) {
        const Comp *c = l->member[i].c;
        h.value[i] = number(&h, c->body);
        if (!kernel_writes(l->k, c->out))
            continue;
        Mem m = tensor_mem(l, c->out);
        if (m.dtype == DT_F32)
            store(g, LLVMBuildFPTrunc(g->b, h.value[i], g->t->f32, ""), m.base, 4);
        else
            store(g, h.value[i], m.base, 8);
    }
    launch_tasks(l);
    launch_end(l, ic(g, 1));
    return !l->failed;
}
