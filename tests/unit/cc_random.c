/* cc_random.c -- random programs: the loss, the features and every gradient by native kernels, against the interpreter.
 *
 *   cc_random                     a few fixed programs
 *   cc_random FIRST COUNT         others
 *   cc_random --print NUMBER      the text of one, for ticc
 *
 * Whatever the passes, fusion and the lowering do to a graph, the numbers are those of its equations. */
#include "cpu_harness.h"
#include "driver/compile.h"
#include "front/program.h"
#include "ir/grad.h"
#include "random_program.h"

static uint64_t first = 1;
static int count = 14;

static const char *module_text(void *ctx, const char *name, const char **path)
{
    *path = name;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++)
        if (!strcmp(m->name, name))
            return m->text;
    return NULL;
}

/* The graph of loss, features and gradients, as text. */
static const char *graph_of(Arena *a, const char *program)
{
    Sources *sources = NEW(a, Sources);
    *sources = (Sources){ .arena = a };
    Diag diag = { .sources = sources };
    Program *p = NEW(a, Program);
    Text why = { .arena = a };
    int file = source_add(sources, "random.tic", program, strlen(program));
    if (!sema_program(p, a, &diag, file, NULL, 0, module_text, NULL)) {
        diag_print(&diag, stderr);
        fail_msg("refused:\n%s", program);
    }
    int *grads = NEWN(a, int, p->n_param + 1);
    if (!grad_append(p->graph, p->loss, p->param, p->n_param, grads, &why))
        fail_msg("%s\n%s", text_data(&why), program);
    for (int i = 0; i < p->n_param; i++) {
        const char *name = p->graph->tensor[p->param[i]].name;
        if (grads[i] < 0)
            fail_msg("%s has no gradient:\n%s", name, program);
        graph_output(p->graph, arena_printf(a, "gradient of %s", name), grads[i]);
    }
    graph_dce(p->graph);
    verified(a, p->graph);
    return text_of(a, p->graph);
}

static void test_programs(void **state)
{
    (void)state;
    Suite s;
    suite_open(&s);
    while (s.n_target > 1)                        /* lesser processors have tests of their own; here programs count */
        cpu_module_free(s.module[--s.n_target]);
    for (int i = 0; i < count; i++) {
        Text t = { .arena = &s.arena };
        random_program(first + (uint64_t)i, &t);
        Case *c = suite_add(&s, arena_printf(&s.arena, "program %llu", (unsigned long long)first + (uint64_t)i), graph_of(&s.arena,
                text_data(&t)));
        c->most = RP_VOCAB;
    }
    suite_link(&s);
    for (int i = 0; i < s.cases.n; i++)
        case_check(&s, s.cases.at[i], 3 + i % 2, 2e-4);
    fprintf(stderr, "# %d random programs: at most %.2g from the interpreter\n", s.cases.n, s.worst);
    suite_close(&s);
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "--print")) {
        Arena a = { 0 };
        Text t = { .arena = &a };
        random_program(strtoull(argv[2], NULL, 10), &t);
        fputs(text_data(&t), stdout);
        arena_free(&a);
        return 0;
    }
    if (argc == 3) {
        first = strtoull(argv[1], NULL, 10);
        count = atoi(argv[2]);
    }
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_programs) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
