/* rt_eval.c -- recall on score matrices small enough to count by hand: several texts of one image, an image without one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <cmocka.h>
#include "eval/recall.h"

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
    TicRecall r = tic_recall(image, 4, text, 5, image_of, 2);
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
    TicRecall r = tic_recall(same, 3, same, 3, image_of, 2);
    close_to(r.image_recall[0], 1.0 / 3);
    close_to(r.text_recall[0], 1.0 / 3);
    r = tic_recall(same, 0, same, 0, image_of, 2);
    close_to(r.image_recall[0], 0);
    close_to(r.mean_recall_1, 0);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_counts), cmocka_unit_test(test_ties_and_empty) };
    return cmocka_run_group_tests_name("recall", tests, NULL, NULL);
}
