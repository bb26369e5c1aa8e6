/* losses.h -- losses in which every pair of the batch meets, as text of forward graphs, and how many tensors over all pairs they
 * need; with or without gradient. For tests of the passes, of both back ends. */
#ifndef LOSSES_H
#define LOSSES_H
#include "ir/graph.h"
#include <string.h>

typedef struct Loss {
    const char *name, *text;
    int squares;                     /* [B, B] in memory */
    int left;                        /* of them, where the loss is to do without (FuseOptions.meet) */
    const char *wanted;              /* beside the loss and its gradient */
} Loss;

#define FEATURES_OF(type) "tensor %0 input " type "[B, 5] \"u\" tensor %1 input " type "[B, 5] \"v\" tensor %2 param f32[] \"scale\"\n" \
    "tensor %3 temp f32[B, B] \"raw\" tensor %4 temp f32[B, B] \"logits\" tensor %5 temp f32[B] \"rows\"\n" \
    "tensor %6 temp f32[B] \"cols\" tensor %7 temp f32[] \"loss\"\n"
#define FEATURES FEATURES_OF("f32")
#define HALF_FEATURES FEATURES_OF("bf16")
#define RAW "%3[a0, a1] = sum{a2:5}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:B}\n"
#define SCALED RAW "%4[a0, a1] = %2 * %3[a0, a1]  {a0:B, a1:B}\n"
#define ROWS "%5[a0] = logsumexp{a1:B}(%4[a0, a1])  {a0:B}\n"
#define COLS "%6[a1] = logsumexp{a0:B}(%4[a0, a1])  {a1:B}\n"
#define PAIRED "%7 = sum{a0:B}((%5[a0] - %4[a0, a0] + %6[a0] - %4[a0, a0]) * 0.5 / B)  {}\n"

static const Loss losses[] = {
    { "CLIP's", FEATURES SCALED ROWS COLS PAIRED, 1, 0, NULL },
    { "a fixed temperature", FEATURES RAW "%4[a0, a1] = 3 * %3[a0, a1]  {a0:B, a1:B}\n" ROWS COLS PAIRED, 1, 0, NULL },
    { "one direction", FEATURES SCALED ROWS "%7 = sum{a0:B}(%5[a0] - %4[a0, a0])  {}\n", 1, 0, NULL },
    { "SigLIP's",
      FEATURES "tensor %8 param f32[] \"bias\" tensor %9 temp f32[B, B] \"z\"\n"
      RAW "%4[a0, a1] = %2 * %3[a0, a1] + %8  {a0:B, a1:B}\n"
      "%9[a0, a1] = where([a0] == [a1], %4[a0, a1], -%4[a0, a1])  {a0:B, a1:B}\n"
      "%5[a0] = sum{a1:B}(max(-%9[a0, a1], 0) + ln(1 + exp(-abs(%9[a0, a1]))))  {a0:B}\n"
      "%7 = sum{a0:B}(%5[a0] / B)  {}\n", 1, 0, NULL },
    { "a margin, the hardest of a row",
      FEATURES SCALED "%5[a0] = max{a1:B}(where([a0] == [a1], -9, %4[a0, a1] + 0.2))  {a0:B}\n"
      "%7 = sum{a0:B}(max(%5[a0] - %4[a0, a0], 0))  {}\n", 2, 0, NULL },
    { "logits that are wanted", FEATURES SCALED ROWS COLS PAIRED, 3, 3, "logits" },
    { "a temperature of each row",
      FEATURES "tensor %8 input f32[B] \"t\"\n"
      RAW "%4[a0, a1] = %8[a0] * %3[a0, a1]  {a0:B, a1:B}\n" ROWS COLS PAIRED, 2, 0, NULL },
    { "pairs against pairs the other way round", FEATURES SCALED ROWS "%7 = sum{a0:B, a1:B}(exp(%4[a0, a1] - %5[a0]) * %4[a1, a0])  {}\n", 2, 2, NULL },
    { "the spread of a row below its statistic",
      FEATURES SCALED ROWS "%6[a0] = sum{a1:B}(exp(2 * %4[a0, a1] - %5[a0]))  {a0:B}\n"
      "%7 = sum{a0:B}(%6[a0] * %6[a0] - %4[a0, a0] * %5[a0])  {}\n", 1, 0, NULL },
    { "a teacher's logits beside",
      FEATURES "tensor %8 input f32[B, 5] \"x\" tensor %9 input f32[B, 5] \"y\" tensor %10 temp f32[B, B] \"teacher\"\n"
      "tensor %11 temp f32[B] \"l\" tensor %12 temp f32[B, B] \"p\"\n"
      SCALED ROWS "%10[a0, a1] = sum{a2:5}(%8[a0, a2] * %9[a1, a2])  {a0:B, a1:B}\n"
      "%11[a0] = logsumexp{a1:B}(%10[a0, a1])  {a0:B}\n%12[a0, a1] = exp(%10[a0, a1] - %11[a0])  {a0:B, a1:B}\n"
      "%6[a0] = sum{a1:B}(%12[a0, a1] * %4[a0, a1])  {a0:B}\n%7 = sum{a0:B}(%5[a0] - %6[a0])  {}\n", 3, 0, NULL },
    { "two products, each with statistics of its own",
      FEATURES "tensor %8 temp f32[B, B] \"own\" tensor %9 temp f32[B] \"t\"\n"
      SCALED ROWS "%8[a0, a1] = sum{a2:5}(%0[a0, a2] * %0[a1, a2])  {a0:B, a1:B}\n"
      "%9[a0] = logsumexp{a1:B}(where([a0] == [a1], -9, %8[a0, a1]))  {a0:B}\n"
      "%7 = sum{a0:B}(%5[a0] + 0.5 * %9[a0] - %4[a0, a0])  {}\n", 2, 0, NULL },
    { "what is needed once more after the first sums",
      FEATURES "tensor %8 temp f32[B, B] \"p\" tensor %9 temp f32[B] \"t\" tensor %10 temp f32[B, B] \"q\"\n"
      "tensor %11 temp f32[B, 5] \"a\" tensor %12 temp f32[B, 5] \"b\"\n"
      RAW "%5[a0] = logsumexp{a1:B}(%3[a0, a1])  {a0:B}\n%8[a0, a1] = exp(%3[a0, a1] - %5[a0])  {a0:B, a1:B}\n"
      "%9[a0] = sum{a1:B}(%8[a0, a1] * %3[a0, a1])  {a0:B}\n%10[a0, a1] = %8[a0, a1] * (%3[a0, a1] - %9[a0])  {a0:B, a1:B}\n"
      "%11[a0, a1] = sum{a2:B}(%8[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n%12[a0, a1] = sum{a2:B}(%10[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n"
      "output \"a\" = %11 output \"b\" = %12\n", 2, 0, NULL },
    { "the same of features in bf16",
      HALF_FEATURES "tensor %8 temp f32[B, B] \"p\" tensor %9 temp f32[B] \"t\" tensor %10 temp f32[B, B] \"q\"\n"
      "tensor %11 temp f32[B, 5] \"a\" tensor %12 temp f32[B, 5] \"b\"\n"
      RAW "%5[a0] = logsumexp{a1:B}(%3[a0, a1])  {a0:B}\n%8[a0, a1] = exp(%3[a0, a1] - %5[a0])  {a0:B, a1:B}\n"
      "%9[a0] = sum{a1:B}(%8[a0, a1] * %3[a0, a1])  {a0:B}\n%10[a0, a1] = %8[a0, a1] * (%3[a0, a1] - %9[a0])  {a0:B, a1:B}\n"
      "%11[a0, a1] = sum{a2:B}(%8[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n%12[a0, a1] = sum{a2:B}(%10[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n"
      "output \"a\" = %11 output \"b\" = %12\n", 2, 0, NULL },
};

/* Features are 5 wide as written; `width` instead. */
static inline const char *with_width(Arena *a, const char *text, int width)
{
    Text t = { .arena = a };
    for (; *text; text++) {
        bool five = !strncmp(text, ", 5]", 4) || !strncmp(text, "1:5}", 4) || !strncmp(text, "2:5}", 4);
        if (five)
            text_printf(&t, "%.2s%d%c", text, width, text[3]);
        else
            text_char(&t, *text);
        text += five ? 3 : 0;
    }
    return text_data(&t);
}

static inline int tensor_called(const Graph *g, const char *name)
{
    int t = g->n_tensor - 1;
    while (t >= 0 && strcmp(g->tensor[t].name, name))
        t--;
    return t;
}

/* The loss (where there is one) and its gradient by everything that is real and not computed. NULL after `why`. */
static inline Graph *loss_graph(Arena *a, const Loss *l, int width, Text *why)
{
    char error[200] = "";
    Graph *g = graph_parse(a, with_width(a, l->text, width), error, sizeof error);
    int wrt[16], grads[16], n = 0;
    if (!g) {
        text_printf(why, "%s", error);
        return NULL;
    }
    if (g->n_output)
        return g;
    int loss = tensor_called(g, "loss");
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind != T_TEMP)
            wrt[n++] = t;
    if (!grad_append(g, loss, wrt, n, grads, why))
        return NULL;
    graph_output(g, "loss", loss);
    graph_output(g, "wanted", tensor_called(g, l->wanted ? l->wanted : "loss"));
    for (int i = 0; i < n; i++)
        if (grads[i] >= 0)
            graph_output(g, arena_printf(a, "d_%s", g->tensor[wrt[i]].name), grads[i]);
    graph_dce(g);
    graph_toposort(g);
    return g;
}
#endif
