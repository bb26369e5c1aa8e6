/* acc.c -- reducers as accumulators in registers, joined across a warp and a block.
 *
 * An accumulator is one float (sum, max, min) or two numbers (argmax: value and position; logsumexp: running maximum m
 * and the sum s of exponentials relative to it, standing for s e^m). Threads accumulate apart and are joined in a fixed
 * order: butterflies in a warp, then the warps one after the other, so a result depends on the extents only. */
#include "cuda/lower.h"

int cu_acc_width(Reducer r)
{
    return r == RED_ARGMAX || r == RED_LOGSUMEXP ? 2 : 1;
}

const char *cu_acc_first(Reducer r, int k)
{
    if (k)
        return r == RED_ARGMAX ? "0x7fffffff" : "0.0f";
    return r == RED_MAX || r == RED_ARGMAX || r == RED_LOGSUMEXP ? "tc_float(0xff800000u)" : r == RED_MIN ? "tc_float(0x7f800000u)" : "0.0f";
}

CuAcc cu_acc_new(CuScope *s, Reducer r)
{
    CuAcc a = {.r = r, .v = {cu_name(s->l, "s"), cu_acc_width(r) > 1 ? cu_name(s->l, "s") : NULL}};
    for (int k = 0; k < cu_acc_width(r); k++)
        cu_line(s, "%s %s = %s;", r == RED_ARGMAX && k ? "i32" : "float", a.v[k], cu_acc_first(r, k));
    return a;
}

void cu_acc_join(CuScope *s, CuAcc a, const char *const *o)
{
    const char *x = a.v[0], *y = a.v[1];
    switch (a.r) {
    case RED_MAX:
        cu_line(s, "%s = %s != %s || %s >= %s ? %s : %s;", x, x, x, x, o[0], x, o[0]);
        return;
    case RED_MIN:
        cu_line(s, "%s = %s != %s || %s <= %s ? %s : %s;", x, x, x, x, o[0], x, o[0]);
        return;
    case RED_ARGMAX:
        cu_line(s, "if (%s > %s || (%s == %s && %s < %s)) {", o[0], x, o[0], x, o[1], y);
        cu_line(s, "    %s = %s;", x, o[0]);
        cu_line(s, "    %s = %s;", y, o[1]);
        cu_line(s, "}");
        return;
    case RED_LOGSUMEXP: {
        const char *m = cu_name(s->l, "m"), *b = cu_name(s->l, "b");
        cu_line(s, "const float %s = %s != %s || %s >= %s ? %s : %s;", m, x, x, x, o[0], x, o[0]);
        cu_line(s, "const float %s = %s == tc_float(0xff800000u) ? 0.0f : %s;", b, m, m);
        cu_line(s, "%s = %s * expf(%s - %s) + %s * expf(%s - %s);", y, y, x, b, o[1], o[0], b);
        cu_line(s, "%s = %s;", x, m);
        return;
    }
    default:
        cu_line(s, "%s += %s;", x, o[0]);
    }
}

void cu_acc_take(CuScope *s, CuAcc a, const char *x, const char *position)
{
    const char *o[2] = {x, a.r == RED_ARGMAX ? position : "1.0f"};
    cu_acc_join(s, a, o);
}

static const char *shuffled(CuScope *s, CuAcc a, int k, const char *call, int by)
{
    bool whole = a.r == RED_ARGMAX && k;
    const char *t = cu_name(s->l, "o");
    if (whole)
        cu_line(s, "const i32 %s = (i32)%s_u((u32)%s, %d);", t, call, a.v[k], by);
    else
        cu_line(s, "const float %s = %s(%s, %d);", t, call, a.v[k], by);
    return t;
}

void cu_acc_warp(CuScope *s, CuAcc a, int threads)
{
    int w = cu_acc_width(a.r);
    for (int by = threads / 2; by; by /= 2) {
        const char *o[2] = {NULL};
        for (int k = 0; k < w; k++)
            o[k] = shuffled(s, a, k, "tc_shfl_xor", by);
        cu_acc_join(s, a, o);
    }
    if (a.r == RED_LOGSUMEXP)          /* a sum of two products rounds by the order of its operands: lane 0 decides */
        for (int k = 0; k < w; k++)
            cu_line(s, "%s = %s;", a.v[k], shuffled(s, a, k, "tc_shfl", 0));
}

void cu_acc_block(CuScope *s, CuAcc a, int threads, const char *shared, const char *tid)
{
    int w = cu_acc_width(a.r), warps = threads / CU_WARP;
    cu_acc_warp(s, a, CU_WARP);
    if (warps == 1)
        return;
    for (int k = 0; k < w; k++) {
        const char *type = a.r == RED_ARGMAX && k ? "i32" : "float";
        cu_line(s, "if (%s %% %d == 0)", tid, CU_WARP);
        cu_line(s, "    ((%s *)%s)[%s / %d * %d + %d] = %s;", type, shared, tid, CU_WARP, w, k, a.v[k]);
    }
    cu_line(s, "tc_syncthreads();");
    for (int i = 0; i < warps; i++) {
        const char *o[2] = {NULL};
        for (int k = 0; k < w; k++) {
            const char *type = a.r == RED_ARGMAX && k ? "i32" : "float";
            o[k] = arena_printf(s->l->arena, "((const %s *)%s)[%d]", type, shared, i * w + k);
            if (!i)
                cu_line(s, "%s = %s;", a.v[k], o[k]);
        }
        if (i)
            cu_acc_join(s, a, o);
    }
    cu_line(s, "tc_syncthreads();");
}

CuVal cu_acc_value(CuScope *s, CuAcc a)
{
    CuVal v = {.kind = CV_F, .uniform = true, .v = {a.v[0]}};
    if (a.r == RED_ARGMAX) {           /* nothing compared greater than -infinity: the first position */
        v.kind = CV_I;
        v.v[0] = cu_name(s->l, "t");
        cu_line(s, "const i32 %s = %s == 0x7fffffff ? 0 : %s;", v.v[0], a.v[1], a.v[1]);
    }
    if (a.r == RED_LOGSUMEXP) {
        v.v[0] = cu_name(s->l, "t");
        cu_line(s, "const float %s = %s + logf(%s);", v.v[0], a.v[0], a.v[1]);
    }
    return v;
}
