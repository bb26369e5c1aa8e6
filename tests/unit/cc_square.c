/* cc_square.c -- losses in which every pair of the batch meets: how many tensors [B, B] are in memory, and that native code
 * of the forward pass and the gradient gives what the interpreter gives on the graph that no pass has seen. */
#include "cpu_harness.h"
#include "losses.h"
#include "pass/pass.h"

static const char *with_gradient(Arena *a, const Loss *l)
{
    Text why = { .arena = a };
    Graph *g = loss_graph(a, l, 5, &why);
    if (!g)
        fail_msg("%s: %s", l->name, text_data(&why));
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

static void all_losses(bool meet)
{
    Suite s;
    Case *c[LEN(losses)];
    int wrong = 0;
    suite_open(&s);
    s.meet = meet;
    for (size_t i = 0; i < LEN(losses); i++) {
        c[i] = suite_add(&s, losses[i].name, with_gradient(&s.arena, &losses[i]));
        int n = squares(&c[i]->f), wanted = meet ? losses[i].left : losses[i].squares;
        if (n != wanted)
            fprintf(stderr, "# %s: %d tensors [B, B] in memory, wanted %d\n", losses[i].name, n, wanted);
        wrong += n != wanted;
    }
    suite_link(&s);
    static const int batch[] = { 1, 2, 7, 33, 300 };           /* rows of a part of a vector, of several tasks */
    for (size_t i = 0; i < LEN(losses); i++)
        for (size_t b = 0; b < LEN(batch); b++)
            case_check(&s, c[i], batch[b], meet ? 1e-4 : 2e-5);
    fprintf(stderr, "# worst error %.1e\n", s.worst);
    assert_int_equal(wrong, 0);
    suite_close(&s);
}

static void in_memory(void **state) { all_losses(false); }

static void without_memory(void **state) { all_losses(true); }

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(in_memory), cmocka_unit_test(without_memory) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
