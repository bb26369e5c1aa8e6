/* cc_cpu_clip.c -- a whole small CLIP step in native code: forward, gradient and AdamW of the hand-written graph of
 * clip_graph.h, all kernels in a row, against the interpreter on the graph that no pass has seen. The loss, every
 * gradient, every updated parameter and moment are compared, at three batch sizes and for every processor. */
#include "cpu_harness.h"
#include "clip_graph.h"

static const char *clip_step(Arena *a)
{
    Build b;
    int loss = clip_forward(&b, a, clip_tiny);
    int *grads = NEWN(a, int, b.param.n);
    Text why = { .arena = a };
    if (!grad_append(b.g, loss, b.param.at, b.param.n, grads, &why))
        fail_msg("%s", text_data(&why));
    for (int i = 0; i < b.param.n; i++)
        graph_output(b.g, arena_printf(a, "gradient of %s", b.g->tensor[b.param.at[i]].name), grads[i]);
    adamw(&b, grads);
    graph_toposort(b.g);
    return text_of(a, b.g);
}

static void step(void **state)
{
    Suite s;
    suite_open(&s);
    Case *c = suite_add(&s, "CLIP step", clip_step(&s.arena));
    c->low = -0.4;
    c->high = 0.4;
    c->most = 20;
    suite_link(&s);
    for (int cls = 0; cls < N_KERNEL_CLASSES; cls++)
        if (!case_kernels(c, cls))
            fail_msg("no %s kernel in a whole step", kernel_class_name[cls]);
    static const int batch[] = { 1, 2, 5 };
    for (size_t i = 0; i < LEN(batch); i++)
        case_check(&s, c, batch[i], 1e-4);
    fprintf(stderr, "# %d kernels, %d outputs, %d updates, worst error %.1e\n", c->f.n_kernel, c->plain->n_output,
            c->plain->n_update, s.worst);
    assert_true(c->plain->n_update > 100);
    suite_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(step) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
