/* math.c -- elementary functions on vectors of f32, as polynomials of our own.
 *
 * A call to a library per lane would cost more than the rest of a kernel, and its result would depend on the machine.
 * Coefficients were fitted for least relative error on the reduced range (Remez exchange for polynomials, iterated
 * weighted least squares for quotients, in 50-digit arithmetic) and are rounded to f32 here. Worst errors over the f32
 * range, relative to the exact value unless said otherwise, as tests/unit/cc_cpu.c enforces them:
 *
 *     exp    1.5e-7    0 below -103.98; infinity above 88.73
 *     ln     1.5e-7    -infinity at 0, NaN below
 *     erf    3e-7      odd; exactly 1 from 3.93 on
 *     tanh   3e-7      odd; exactly 1 from 9.02 on
 *     sin    1.5e-7 absolute for |x| <= 2^30; cos the same
 *     pow    1.5e-7    in f64 inside
 *
 * A constant bound is the first operand of min and max, so that NaN, the second, stays. */
#include "cpu/vec.h"
#include <math.h>

/* c[0] + c[1] x + ... by Horner's rule */
static V horner(Gen *g, V x, const double *c, int n)
{
    V p = fc(g, c[n - 1]);
    for (int i = n - 2; i >= 0; i--)
        p = f_fma(g, p, x, fc(g, c[i]));
    return p;
}

static const double log2e = 1.4426950408889634, ln2 = 0.69314718055994531;
/* ln 2 in two parts: the first has few bits, so that its product with a small whole number is exact */
static const double ln2_hi = 0.693359375, ln2_lo = -2.12194440054690583e-4;

/* 2^n as f32 for n in [-126, 127], an i32 vector */
static V power_of_two(Gen *g, V n)
{
    V biased = LLVMBuildAdd(g->b, n, vic(g, 127), "");
    return as_float(g, LLVMBuildShl(g->b, biased, vic(g, 23), ""));
}

/* x = n ln 2 + r with |r| <= ln 2 / 2; e^r = 1 + r + r^2 P(r); the result is scaled by 2^n. What comes out as 0 (a mask's -infinity)
 * goes another way: scaling down to nothing takes processors two hundred times as long as any other scaling. */
V m_exp(Gen *g, V x)
{
    static const double c[] = {0.4999999344776647, 0.16666520631651577, 0.041668388049871184, 0.008368716885151192,
                               0.0013814598481054251};
    V nothing = f_cmp(g, LLVMRealOLT, x, fc(g, -104));
    x = f_min_const(g, 104, select_(g, nothing, fc(g, 0), x));
    const double shift = 12582912;     /* 1.5 * 2^23: adding it rounds to a whole number in the low bits */
    V shifted = f_fma(g, x, fc(g, log2e), fc(g, shift));
    V n = LLVMBuildFSub(g->b, shifted, fc(g, shift), "");
    V r = f_fma(g, n, fc(g, -ln2_hi), x);
    r = f_fma(g, n, fc(g, -ln2_lo), r);
    V p = f_fma(g, f_mul(g, r, r), horner(g, r, c, LEN(c)), f_add(g, r, fc(g, 1)));
    if (g->t->avx512)
        return select_(g, nothing, fc(g, 0), llvm_scale(g->t, g->b, p, n));
    /* 2^n in two factors reaches the smallest denormals and infinity */
    V whole = LLVMBuildSub(g->b, as_int(g, shifted), as_int(g, fc(g, shift)), "");
    V half = LLVMBuildAShr(g->b, whole, vic(g, 1), "");
    V rest = LLVMBuildSub(g->b, whole, half, "");
    return select_(g, nothing, fc(g, 0), f_mul(g, f_mul(g, p, power_of_two(g, half)), power_of_two(g, rest)));
}

/* x = 2^e m with m in [sqrt(1/2), sqrt(2)); ln(1 + t) = t - t^2/2 + t^3 P(t), t = m - 1. */
V m_ln(Gen *g, V x)
{
    static const double c[] = {0.3333333170128887,  -0.250008209958006,  0.2000122742814713,  -0.1662335853437484,
                               0.14201746496226672, -0.1316016319856558, 0.1276164677096715, -0.0763462408276948};
    const double smallest = 1.17549435082228751e-38;       /* below: denormal, brought up by 2^23 */
    V tiny = f_cmp(g, LLVMRealOLT, x, fc(g, smallest));
    V up = select_(g, tiny, f_mul(g, x, fc(g, 8388608)), x);
    const int root_half = 0x3f3504f3;                      /* bits of sqrt(1/2) */
    V bits = as_int(g, up);
    V above = LLVMBuildSub(g->b, bits, vic(g, root_half), "");
    V e = LLVMBuildAShr(g->b, above, vic(g, 23), "");
    V m = as_float(g, LLVMBuildSub(g->b, bits, LLVMBuildShl(g->b, e, vic(g, 23), ""), ""));
    V exponent = LLVMBuildSIToFP(g->b, e, g->t->vf, "");
    exponent = select_(g, tiny, LLVMBuildFSub(g->b, exponent, fc(g, 23), ""), exponent);
    V t = LLVMBuildFSub(g->b, m, fc(g, 1), "");
    V t2 = LLVMBuildFMul(g->b, t, t, "");
    V p = LLVMBuildFMul(g->b, LLVMBuildFMul(g->b, t, t2, ""), horner(g, t, c, LEN(c)), "");
    p = f_fma(g, exponent, fc(g, ln2_lo), p);
    p = f_fma(g, t2, fc(g, -0.5), p);
    V y = f_fma(g, exponent, fc(g, ln2_hi), LLVMBuildFAdd(g->b, t, p, ""));
    V at_zero = select_(g, f_cmp(g, LLVMRealOEQ, x, fc(g, 0)), fc(g, -INFINITY), fc(g, NAN));
    y = select_(g, f_cmp(g, LLVMRealOGT, x, fc(g, 0)), y, at_zero);
    return select_(g, f_cmp(g, LLVMRealOEQ, x, fc(g, INFINITY)), x, y);
}

/* x P(x^2) / Q(x^2) on [-end, end], where the function has reached 1; never beyond 1 */
static V odd_quotient(Gen *g, V x, double end, const double *p, int n_p, const double *q, int n_q)
{
    x = f_min_const(g, end, f_max_const(g, -end, x));
    V z = f_mul(g, x, x);
    V y = f_div(g, f_mul(g, x, horner(g, z, p, n_p)), horner(g, z, q, n_q));
    return f_min_const(g, 1, f_max_const(g, -1, y));
}

V m_erf(Gen *g, V x)
{
    static const double p[] = {1.128379146128407,     0.19040413276194929,   0.05274841719951278,
                               0.0037655190026309104, 0.0002848809409244176, 2.0501098988952933e-06};
    static const double q[] = {1.0,
                               0.5020740102460017,
                               0.11410815013136708,
                               0.01496901817447815,
                               0.001162512650201676,
                               3.809185770355312e-05};
    return odd_quotient(g, x, 3.9256, p, LEN(p), q, LEN(q));
}

V m_tanh(Gen *g, V x)
{
    static const double p[] = {0.9999999986882344,     0.1367987797999311,    0.0038682815152465177,
                               2.8006542415555565e-05, 3.058289183634003e-08, -1.2201959981427673e-11};
    static const double q[] = {1.0, 0.47013210038253644, 0.027245668969699387, 0.00039385501683029077,
                               1.2873035129218871e-06};
    return odd_quotient(g, x, 9.02, p, LEN(p), q, LEN(q));
}

/* ---- f64 inside: for arguments whose reduced part f32 can not hold */

static V d_const(Gen *g, double c)
{
    V one[16];
    for (int i = 0; i < g->t->lanes; i++)
        one[i] = LLVMConstReal(g->t->f64, c);
    return LLVMConstVector(one, (unsigned)g->t->lanes);
}

static V d_horner(Gen *g, V x, const double *c, int n)
{
    V p = d_const(g, c[n - 1]);
    for (int i = n - 2; i >= 0; i--)
        p = f_fma(g, p, x, d_const(g, c[i]));
    return p;
}

static V widen(Gen *g, V x)
{
    return LLVMBuildFPExt(g->b, x, g->t->vd, "");
}

static V narrow(Gen *g, V x)
{
    return LLVMBuildFPTrunc(g->b, x, g->t->vf, "");
}

static V l_const(Gen *g, int64_t c)
{
    V one[16];
    for (int i = 0; i < g->t->lanes; i++)
        one[i] = LLVMConstInt(g->t->i64, (unsigned long long)c, 1);
    return LLVMConstVector(one, (unsigned)g->t->lanes);
}

static const double d_shift = 6755399441055744.0;          /* 1.5 * 2^52 */

/* x = k pi/2 + r in f64, |r| <= pi/4; sine or cosine of r by the quarter k + first lies in. */
static V sine(Gen *g, V x, int first)
{
    static const double s[] = {-0.16666654536632844, 0.008332156053966968, -0.00019514631912494548};
    static const double c[] = {0.04166664555446922, -0.0013887309866681156, 2.4432412992585754e-05};
    V d = widen(g, x);
    V shifted = f_fma(g, d, d_const(g, 0.63661977236758138), d_const(g, d_shift));
    V k = LLVMBuildFSub(g->b, shifted, d_const(g, d_shift), "");
    V r = f_fma(g, k, d_const(g, -1.5707963267948966), d);
    r = narrow(g, f_fma(g, k, d_const(g, -6.123233995736766e-17), r));
    V quarter = LLVMBuildTrunc(g->b, as_int(g, shifted), g->t->vi, "");
    quarter = LLVMBuildAdd(g->b, quarter, vic(g, first), "");
    V z = f_mul(g, r, r);
    V sin_r = f_fma(g, f_mul(g, r, z), horner(g, z, s, LEN(s)), r);
    V cos_r = f_fma(g, f_mul(g, z, z), horner(g, z, c, LEN(c)), f_fma(g, z, fc(g, -0.5), fc(g, 1)));
    V odd = LLVMBuildICmp(g->b, LLVMIntNE, LLVMBuildAnd(g->b, quarter, vic(g, 1), ""), vic(g, 0), "");
    V y = select_(g, odd, cos_r, sin_r);
    /* the second half of the circle: flip the sign bit */
    V sign = LLVMBuildShl(g->b, LLVMBuildAnd(g->b, quarter, vic(g, 2), ""), vic(g, 30), "");
    return as_float(g, LLVMBuildXor(g->b, as_int(g, y), sign, ""));
}

V m_sin(Gen *g, V x)
{
    return sine(g, x, 0);
}

V m_cos(Gen *g, V x)
{
    return sine(g, x, 1);
}

/* ln of positive f64: m in [sqrt(1/2), sqrt(2)), s = (m - 1)/(m + 1), ln m = 2 s (1 + s^2 P(s^2)) */
static V d_ln(Gen *g, V x)
{
    static const double c[] = {0.3333333333330367,  0.2000000002439892,  0.14285708467271288,
                               0.11111711992713433, 0.09060536296060523, 0.08429094902806618};
    const int64_t root_half = 0x3fe6a09e667f3bcd;
    V bits = as_int(g, x);
    V e = LLVMBuildAShr(g->b, LLVMBuildSub(g->b, bits, l_const(g, root_half), ""), l_const(g, 52), "");
    V m = as_float(g, LLVMBuildSub(g->b, bits, LLVMBuildShl(g->b, e, l_const(g, 52), ""), ""));
    /* the small whole number e as f64: its bits below those of 1.5 * 2^52 */
    V exponent = as_float(g, LLVMBuildAdd(g->b, e, as_int(g, d_const(g, d_shift)), ""));
    exponent = LLVMBuildFSub(g->b, exponent, d_const(g, d_shift), "");
    V s = LLVMBuildFDiv(g->b, LLVMBuildFSub(g->b, m, d_const(g, 1), ""), LLVMBuildFAdd(g->b, m, d_const(g, 1), ""), "");
    V z = LLVMBuildFMul(g->b, s, s, "");
    V p = f_fma(g, z, d_horner(g, z, c, LEN(c)), d_const(g, 1));
    p = LLVMBuildFMul(g->b, p, LLVMBuildFAdd(g->b, s, s, ""), "");
    return f_fma(g, exponent, d_const(g, ln2), p);
}

static V d_exp(Gen *g, V x)
{
    static const double c[] = {1,
                               1,
                               0.5,
                               0.16666666785095935,
                               0.04166666689431967,
                               0.008333281602187086,
                               0.001388881347285538,
                               0.0001990907165989164,
                               2.4881725824682076e-05};
    V hi = d_const(g, 200), lo = d_const(g, -200);
    x = select_(g, f_cmp(g, LLVMRealOGT, lo, x), lo, x);
    x = select_(g, f_cmp(g, LLVMRealOLT, hi, x), hi, x);
    V shifted = f_fma(g, x, d_const(g, log2e), d_const(g, d_shift));
    V n = LLVMBuildFSub(g->b, shifted, d_const(g, d_shift), "");
    V r = f_fma(g, n, d_const(g, -0.69314718055994529), x);
    V p = d_horner(g, r, c, LEN(c));
    V scale = LLVMBuildAdd(g->b, as_int(g, shifted), l_const(g, 1023), "");
    return LLVMBuildFMul(g->b, p, as_float(g, LLVMBuildShl(g->b, scale, l_const(g, 52), "")), "");
}

/* |x|^y, and what the sign of x makes of it: y odd keeps it, y not whole gives NaN */
V m_pow(Gen *g, V x, V y)
{
    V size = f_abs(g, x);
    V zero = f_cmp(g, LLVMRealOEQ, size, fc(g, 0));
    V big = f_cmp(g, LLVMRealOEQ, size, fc(g, INFINITY));
    V l = d_ln(g, widen(g, size));
    l = select_(g, zero, d_const(g, -1e30), l);
    l = select_(g, big, d_const(g, 1e30), l);
    V r = narrow(g, d_exp(g, LLVMBuildFMul(g->b, l, widen(g, y), "")));
    V whole = f_cmp(g, LLVMRealOEQ, f_floor(g, y), y);
    V half = f_mul(g, y, fc(g, 0.5));
    V even = f_cmp(g, LLVMRealOEQ, f_floor(g, half), half);
    V negative = LLVMBuildICmp(g->b, LLVMIntSLT, as_int(g, x), vic(g, 0), "");
    V signed_r = select_(g, even, r, f_neg(g, r));
    /* zero and infinity have a power for every y */
    V any = LLVMBuildOr(g->b, whole, LLVMBuildOr(g->b, zero, big, ""), "");
    V below = select_(g, any, select_(g, whole, signed_r, r), fc(g, NAN));
    r = select_(g, negative, below, r);
    r = select_(g, f_cmp(g, LLVMRealUNO, x, y), f_add(g, x, y), r);
    V one = LLVMBuildOr(g->b, f_cmp(g, LLVMRealOEQ, y, fc(g, 0)), f_cmp(g, LLVMRealOEQ, x, fc(g, 1)), "");
    return select_(g, one, fc(g, 1), r);
}

V m_pow_const(Gen *g, V x, double y)
{
    if (y == 0)
        return fc(g, 1);
    if (y == 0.5)
        return f_sqrt(g, x);
    if (y == -0.5)
        return f_div(g, fc(g, 1), f_sqrt(g, x));
    double n = fabs(y);
    if (n != floor(n) || n > 8)
        return m_pow(g, x, fc(g, y));
    V square = x, r = NULL;            /* by repeated squaring */
    for (int k = (int)n; k; k >>= 1) {
        if (k & 1)
            r = r ? f_mul(g, r, square) : square;
        if (k > 1)
            square = f_mul(g, square, square);
    }
    return y < 0 ? f_div(g, fc(g, 1), r) : r;
}
