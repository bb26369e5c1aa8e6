/* cc_square.c -- losses in which every pair of the batch meets: how many tensors [B, B] are in memory, and that native code
 * of the forward pass and the gradient gives what the interpreter gives on the graph that no pass has seen. */
#include "cpu_harness.h"
#include "pass/pass.h"

typedef struct Loss {
    const char *name, *text;
    int squares;                     /* [B, B] in memory */
    const char *wanted;              /* beside the loss and its gradient */
} Loss;

#define FEATURES "tensor %0 input f32[B, 5] \"u\" tensor %1 input f32[B, 5] \"v\" tensor %2 param f32[] \"scale\"\n" \
    "tensor %3 temp f32[B, B] \"raw\" tensor %4 temp f32[B, B] \"logits\" tensor %5 temp f32[B] \"rows\"\n" \
    "tensor %6 temp f32[B] \"cols\" tensor %7 temp f32[] \"loss\"\n"
#define RAW "%3[a0, a1] = sum{a2:5}(%0[a0, a2] * %1[a1, a2])  {a0:B, a1:B}\n"
#define SCALED RAW "%4[a0, a1] = %2 * %3[a0, a1]  {a0:B, a1:B}\n"
#define ROWS "%5[a0] = logsumexp{a1:B}(%4[a0, a1])  {a0:B}\n"
#define COLS "%6[a1] = logsumexp{a0:B}(%4[a0, a1])  {a1:B}\n"
#define PAIRED "%7 = sum{a0:B}((%5[a0] - %4[a0, a0] + %6[a0] - %4[a0, a0]) * 0.5 / B)  {}\n"

static const Loss losses[] = {
    { "CLIP's", FEATURES SCALED ROWS COLS PAIRED, 1, NULL },
    { "a fixed temperature", FEATURES RAW "%4[a0, a1] = 3 * %3[a0, a1]  {a0:B, a1:B}\n" ROWS COLS PAIRED, 1, NULL },
    { "one direction", FEATURES SCALED ROWS "%7 = sum{a0:B}(%5[a0] - %4[a0, a0])  {}\n", 1, NULL },
    { "SigLIP's",
      FEATURES "tensor %8 param f32[] \"bias\" tensor %9 temp f32[B, B] \"z\"\n"
      RAW "%4[a0, a1] = %2 * %3[a0, a1] + %8  {a0:B, a1:B}\n"
      "%9[a0, a1] = where([a0] == [a1], %4[a0, a1], -%4[a0, a1])  {a0:B, a1:B}\n"
      "%5[a0] = sum{a1:B}(max(-%9[a0, a1], 0) + ln(1 + exp(-abs(%9[a0, a1]))))  {a0:B}\n"
      "%7 = sum{a0:B}(%5[a0] / B)  {}\n", 1, NULL },
    { "a margin, the hardest of a row",
      FEATURES SCALED "%5[a0] = max{a1:B}(where([a0] == [a1], -9, %4[a0, a1] + 0.2))  {a0:B}\n"
      "%7 = sum{a0:B}(max(%5[a0] - %4[a0, a0], 0))  {}\n", 2, NULL },
    { "logits that are wanted", FEATURES SCALED ROWS COLS PAIRED, 3, "logits" },
    { "a temperature of each row",
      FEATURES "tensor %8 input f32[B] \"t\"\n"
      RAW "%4[a0, a1] = %8[a0] * %3[a0, a1]  {a0:B, a1:B}\n" ROWS COLS PAIRED, 2, NULL },
    { "pairs against pairs the other way round", FEATURES SCALED ROWS "%7 = sum{a0:B, a1:B}(exp(%4[a0, a1] - %5[a0]) * %4[a1, a0])  {}\n", 2, NULL },
    { "the spread of a row below its statistic",
      FEATURES SCALED ROWS "%6[a0] = sum{a1:B}(exp(2 * %4[a0, a1] - %5[a0]))  {a0:B}\n"
      "%7 = sum{a0:B}(%6[a0] * %6[a0] - %4[a0, a0] * %5[a0])  {}\n", 1, NULL },
    { "a teacher's logits beside",
      FEATURES "tensor %8 input f32[B, 5] \"x\" tensor %9 input f32[B, 5] \"y\" tensor %10 temp f32[B, B] \"teacher\"\n"
      "tensor %11 temp f32[B] \"l\" tensor %12 temp f32[B, B] \"p\"\n"
      SCALED ROWS "%10[a0, a1] = sum{a2:5}(%8[a0, a2] * %9[a1, a2])  {a0:B, a1:B}\n"
      "%11[a0] = logsumexp{a1:B}(%10[a0, a1])  {a0:B}\n%12[a0, a1] = exp(%10[a0, a1] - %11[a0])  {a0:B, a1:B}\n"
      "%6[a0] = sum{a1:B}(%12[a0, a1] * %4[a0, a1])  {a0:B}\n%7 = sum{a0:B}(%5[a0] - %6[a0])  {}\n", 3, NULL },
    { "what is needed once more after the first sums",
      FEATURES "tensor %8 temp f32[B, B] \"p\" tensor %9 temp f32[B] \"t\" tensor %10 temp f32[B, B] \"q\"\n"
      "tensor %11 temp f32[B, 5] \"a\" tensor %12 temp f32[B, 5] \"b\"\n"
      RAW "%5[a0] = logsumexp{a1:B}(%3[a0, a1])  {a0:B}\n%8[a0, a1] = exp(%3[a0, a1] - %5[a0])  {a0:B, a1:B}\n"
      "%9[a0] = sum{a1:B}(%8[a0, a1] * %3[a0, a1])  {a0:B}\n%10[a0, a1] = %8[a0, a1] * (%3[a0, a1] - %9[a0])  {a0:B, a1:B}\n"
      "%11[a0, a1] = sum{a2:B}(%8[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n%12[a0, a1] = sum{a2:B}(%10[a2, a0] * %1[a2, a1])  {a0:B, a1:5}\n"
      "output \"a\" = %11 output \"b\" = %12\n", 2, NULL },
};

/* The loss (where there is one) and its gradient by everything that is real and not computed, as text. */
static const char *with_gradient(Arena *a, const Loss *l)
{
    Graph *g = graph_from(a, l->text);
    int loss = find_tensor(g, "loss"), wrt[16], grads[16], n = 0;
    Text why = { .arena = a };
    if (g->n_output)
        return l->text;
    for (int t = 0; t < g->n_tensor; t++)
        if (g->tensor[t].kind != T_TEMP)
            wrt[n++] = t;
    if (!grad_append(g, loss, wrt, n, grads, &why))
        fail_msg("%s: %s", l->name, text_data(&why));
    graph_output(g, "loss", loss);
    graph_output(g, "wanted", find_tensor(g, l->wanted ? l->wanted : "loss"));
    for (int i = 0; i < n; i++)
        if (grads[i] >= 0)
            graph_output(g, arena_printf(a, "d_%s", g->tensor[wrt[i]].name), grads[i]);
    graph_dce(g);
    graph_toposort(g);
    return text_of(a, g);
}

static int squares(const Fused *f)
{
    int n = 0;
    bool *seen = NEWN(f->graph->arena, bool, f->graph->n_tensor);
    for (int k = 0; k < f->n_kernel; k++)
        for (int i = 0; i < f->kernel[k].n_writes; i++) {
            int t = f->storage[f->kernel[k].writes[i]];
            n += !seen[t] && grows_squarely(f->graph, t);
            seen[t] = true;
        }
    return n;
}

static void every_loss(void **state)
{
    Suite s;
    Case *c[LEN(losses)];
    int wrong = 0;
    suite_open(&s);
    for (size_t i = 0; i < LEN(losses); i++) {
        c[i] = suite_add(&s, losses[i].name, with_gradient(&s.arena, &losses[i]));
        int n = squares(&c[i]->f);
        if (n != losses[i].squares)
            fprintf(stderr, "# %s: %d tensors [B, B] in memory, wanted %d\n", losses[i].name, n, losses[i].squares);
        wrong += n != losses[i].squares;
    }
    suite_link(&s);
    static const int batch[] = { 1, 2, 7, 33, 300 };           /* rows of a part of a vector, of several tasks */
    for (size_t i = 0; i < LEN(losses); i++)
        for (size_t b = 0; b < LEN(batch); b++)
            case_check(&s, c[i], batch[b], 2e-5);
    fprintf(stderr, "# worst error %.1e\n", s.worst);
    assert_int_equal(wrong, 0);
    suite_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_loss) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
