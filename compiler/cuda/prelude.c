/* prelude.c -- the one part of the prelude that is printed: a function for each shape of wgmma. */
#include "cuda/prelude.h"

/* {%first,%first+1,...} */
static void registers(Text *out, int first, int n)
{
    for (int i = 0; i < n; i++)
        text_printf(out, "%s%%%d", i ? "," : "{", first + i);
    text_char(out, '}');
}

void prelude_wgmma(Text *out, int n, const char *form)
{
    int d = n / 2, a = form[0] == 'r' ? 4 : 1;
    bool a_mn = form[0] == 'm', b_mn = form[1] == 'm';
    text_printf(out, "#if defined(__CUDA_ARCH_FEAT_SM90_ALL) && !defined(TC_EMU)\n");
    text_printf(out, "TC_DEV void tc_wgmma_%d_%s(float *d, %s, u64 b, int add)\n{\n",
                n, form, a == 4 ? "const u32 *a" : "u64 a");
    text_printf(out, "    asm volatile(\"{\\n.reg .pred p;\\nsetp.ne.b32 p, %%%d, 0;\\n\"\n", d + a + 1);
    text_printf(out, "        \"wgmma.mma_async.sync.aligned.m64n%dk16.f32.bf16.bf16 ", n);
    registers(out, 0, d);
    text_bytes(out, ", ", 2);
    if (a == 4)
        registers(out, d, 4);
    else
        text_printf(out, "%%%d", d);
    text_printf(out, ", %%%d, p, 1, 1", d + a);
    if (a == 1)
        text_printf(out, ", %d", a_mn);
    text_printf(out, ", %d;\\n}\"\n        : ", b_mn);
    for (int i = 0; i < d; i++)
        text_printf(out, "%s\"+f\"(d[%d])", i ? ", " : "", i);
    text_printf(out, "\n        : ");
    for (int i = 0; i < a; i++)
        text_printf(out, a == 4 ? "\"r\"(a[%d]), " : "\"l\"(a), ", i);
    text_printf(out, "\"l\"(b), \"r\"(add));\n}\n#endif\n");
}
