/* rt_eval.c -- recall on score matrices small enough to count by hand: several texts of one image, an image without one;
 * and the results file, whose lines are replaced, never repeated. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>
#include "base.h"
#include "eval/recall.h"
#include "eval/results.h"

#define close_to(a, b) assert_true(fabs((a) - (b)) < 1e-12)

/* Unit vectors of the plane at the given degrees: scores are cosines, so "nearest angle wins". */
static void test_counts(void **state)
{
    const double image_deg[4] = { 0, 30, 60, 90 }, text_deg[5] = { 2, 29, 34, 91, 31 };
    const int64_t image_of[5] = { 0, 0, 1, 3, 3 };           /* image 2 has none; images 0 and 3 have two */
    float image[8], text[10];
    for (int i = 0; i < 4; i++) {
        image[2 * i] = (float)cos(image_deg[i] * M_PI / 180);
        image[2 * i + 1] = (float)sin(image_deg[i] * M_PI / 180);
    }
    for (int i = 0; i < 5; i++) {
        text[2 * i] = (float)cos(text_deg[i] * M_PI / 180);
        text[2 * i + 1] = (float)sin(text_deg[i] * M_PI / 180);
    }
    TicRecall r = tic_recall(NULL, image, 4, text, 5, image_of, 2);
    assert_int_equal(r.images, 4);
    assert_int_equal(r.texts, 5);
    close_to(r.image_recall[0], 3.0 / 5);        /* texts 0, 2, 3 find their image first; 1 and 4 find image 1 */
    close_to(r.image_recall[1], 1);
    close_to(r.text_recall[0], 2.0 / 4);         /* image 0 -> text 0, image 3 -> text 3; image 1 -> text 4; image 2: miss */
    close_to(r.text_recall[1], 3.0 / 4);         /* the image without a text stays a miss at every k */
    close_to(r.text_recall[2], 3.0 / 4);
    close_to(r.mean_recall_1, (0.6 + 0.5) / 2);
}

static void test_ties_and_empty(void **state)
{
    float same[6] = { 1, 0, 1, 0, 1, 0 };
    int64_t image_of[3] = { 0, 1, 2 };
    TicRecall r = tic_recall(NULL, same, 3, same, 3, image_of, 2);
    close_to(r.image_recall[0], 1.0 / 3);
    close_to(r.text_recall[0], 1.0 / 3);
    r = tic_recall(NULL, same, 0, same, 0, image_of, 2);
    close_to(r.image_recall[0], 0);
    close_to(r.mean_recall_1, 0);
}

static void file_is(const char *path, const char *want)
{
    char *text;
    size_t size;
    assert_int_equal(tic_read_file(path, 1 << 20, &text, &size), TIC_OK);
    assert_string_equal(text, want);
    free(text);
}

#define A1 "{\"key\": \"a\", \"v\": 1, \"checkpoint\": \"one\"}"
#define A2 "{\"key\": \"a\", \"v\": 2, \"checkpoint\": \"one\"}"
#define B1 "{\"key\": \"b\", \"v\": 1, \"checkpoint\": \"one\"}"
#define A_OTHER "{\"key\": \"a\", \"v\": 7, \"checkpoint\": \"other\"}"

static void test_results(void **state)
{
    char dir[] = "/tmp/rt_eval_XXXXXX";
    assert_non_null(mkdtemp(dir));
    char *path = tic_format("%s/eval_results.jsonl", dir);
    assert_int_equal(tic_results_put(path, A1), TIC_OK);
    assert_int_equal(tic_results_put(path, B1), TIC_OK);
    file_is(path, A1 "\n" B1 "\n");
    assert_int_equal(tic_results_put(path, A1), TIC_OK);         /* the same again: the same bytes */
    file_is(path, A1 "\n" B1 "\n");
    assert_int_equal(tic_results_put(path, A_OTHER), TIC_OK);    /* of another checkpoint: a line of its own */
    assert_int_equal(tic_results_put(path, A2), TIC_OK);         /* in its old place */
    file_is(path, A2 "\n" B1 "\n" A_OTHER "\n");
    /* lines that came twice become one, a note stays, a torn end goes */
    const char *messy = A1 "\nnote\n" A1 "\n" B1 "\n{\"key\": \"c\", \"chec";
    assert_int_equal(tic_write_file(path, messy, strlen(messy)), TIC_OK);
    assert_int_equal(tic_results_put(path, A2), TIC_OK);
    file_is(path, A2 "\nnote\n" B1 "\n");
    assert_int_equal(tic_results_put(path, "{\"key\": \"a\"}"), TIC_BUG);
    tic_error_clear();
    file_is(path, A2 "\nnote\n" B1 "\n");
    unlink(path);
    rmdir(dir);
    free(path);
}

/* Evaluations of several checkpoints at once, into one file: every line arrives. */
static void test_results_at_once(void **state)
{
    enum { WRITERS = 4, LINES = 25 };
    char dir[] = "/tmp/rt_eval_XXXXXX", *text;
    assert_non_null(mkdtemp(dir));
    char *path = tic_format("%s/eval_results.jsonl", dir);
    size_t size;
    int lines = 0, code;
    for (int w = 0; w < WRITERS; w++)
        if (!fork()) {
            for (int i = 0; i < LINES; i++) {
                char *line = tic_format("{\"key\": \"%d\", \"checkpoint\": \"%d\"}", i, w);
                if (tic_results_put(path, line))
                    _exit(1);
                free(line);
            }
            _exit(0);
        }
    for (int w = 0; w < WRITERS; w++) {
        assert_true(wait(&code) > 0);
        assert_int_equal(code, 0);
    }
    assert_int_equal(tic_read_file(path, 1 << 20, &text, &size), TIC_OK);
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, WRITERS * LINES);
    unlink(path);
    rmdir(dir);
    free(text);
    free(path);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts), cmocka_unit_test(test_ties_and_empty), cmocka_unit_test(test_results),
        cmocka_unit_test(test_results_at_once),
    };
    return cmocka_run_group_tests_name("recall", tests, NULL, NULL);
}
