/* rt_classify.c -- retrieval and zero-shot classification: a score matrix counted by hand, lines of captions, and the
 * numbers of CLIP_benchmark on a fixture (data/eval_reference.py writes it). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <math.h>
#include <cmocka.h>
#include "eval/recall.h"
#include "eval/towers.h"
#include "eval/zeroshot.h"

#define close_to(a, b) assert_true(fabs((a) - (b)) < 1e-9)

/* Texts are unit axes, so the features of image i are row i of the score matrix. Captions: of two lines, one, none, three,
 * one. Ranks of the texts' images, counted by hand: 1 3 1 0 4 3 4; of the images' best texts: 0 0 - 0 2. */
static void test_by_hand(void **state)
{
    static const float score[5][7] = {
        { .9f, .1f, .8f, .2f, .3f, .05f, .4f },
        { .5f, .2f, .7f, .1f, .35f, .6f, .45f },
        { .95f, .3f, .1f, .15f, .25f, .5f, .55f },
        { .2f, .4f, .6f, .65f, .05f, .1f, .5f },
        { .1f, .05f, .2f, .3f, .4f, .55f, .35f },
    };
    static const int64_t image_of[7] = { 0, 0, 1, 3, 3, 3, 4 };
    float text[7][7] = { { 0 } };
    for (int t = 0; t < 7; t++)
        text[t][t] = 1;
    TicRecall r = tic_recall(NULL, score[0], 5, text[0], 7, image_of, 7);
    close_to(r.image_recall[0], 1.0 / 7);
    close_to(r.image_recall[1], 1);
    close_to(r.text_recall[0], 3.0 / 5);
    close_to(r.text_recall[1], 4.0 / 5);     /* the image without a caption is a miss at every k */
    close_to(r.text_recall[2], 4.0 / 5);
    close_to(r.mean_recall_1, (1.0 / 7 + 3.0 / 5) / 2);
}

static void test_not_a_number(void **state)
{
    float image[4] = { NAN, NAN, NAN, NAN }, text[4] = { 1, 0, 0, 1 };
    int64_t image_of[2] = { 0, 1 };
    TicRecall r = tic_recall(NULL, image, 2, text, 2, image_of, 2);
    close_to(r.image_recall[0], 0);
    close_to(r.text_recall[0], 0);
    TicClassCounts c = tic_class_counts_new(2);
    tic_class_count(&c, image, text, 2, 0);
    assert_int_equal(c.top1, 0);
    tic_class_counts_clear(&c);
}

static void test_lines(void **state)
{
    static const struct { const char *text; size_t size; int n; const char *line[5]; } cases[] = {
        { "", 0, 0, { NULL } },
        { "one", 3, 1, { "one" } },
        { "one\ntwo\r\nthree\rfour\n", 20, 4, { "one", "two", "three", "four" } },
        { "\n\na", 3, 3, { "", "", "a" } },
        { "a\vb\fc\x1c" "d", 7, 4, { "a", "b", "c", "d" } },
        { "a\xc2\x85" "b\xe2\x80\xa8" "c\xe2\x80\xa9" "d", 12, 4, { "a", "b", "c", "d" } },
        { "a\xc2", 2, 1, { "a\xc2" } },
        { "a\tb", 3, 1, { "a\tb" } },
    };
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        const char *at = cases[i].text, *end = at + cases[i].size, *line;
        size_t size;
        int n = 0;
        for (; tic_caption_line(&at, end, &line, &size); n++) {
            assert_true(n < cases[i].n);
            assert_int_equal(size, strlen(cases[i].line[n]));
            assert_memory_equal(line, cases[i].line[n], size);
        }
        assert_int_equal(n, cases[i].n);
    }
}

static void test_classes(void **state)
{
    static const float classifier[3][2] = { { 1, 0 }, { 0, 1 }, { -1, 0 } };
    static const float image[5][2] = { { .9f, .1f }, { .2f, .8f }, { .3f, .7f }, { -.5f, .5f }, { 1, 0 } };
    static const int label[5] = { 0, 1, 0, 1, 0 };           /* class 2 never occurs; image 3 ties: the lower class wins */
    TicClassCounts c = tic_class_counts_new(3), sum = tic_class_counts_new(3);
    for (int i = 0; i < 5; i++)
        tic_class_count(&c, image[i], classifier[0], 2, label[i]);
    close_to(tic_class_acc(&c, 1), 4.0 / 5);
    close_to(tic_class_acc(&c, 5), 1);
    close_to(tic_class_mean_recall(&c), (2.0 / 3 + 1) / 2);
    tic_class_counts_add(&sum, &c);
    tic_class_counts_add(&sum, &c);
    assert_int_equal(sum.images, 10);
    close_to(tic_class_mean_recall(&sum), (2.0 / 3 + 1) / 2);
    tic_class_counts_clear(&c);
    tic_class_counts_clear(&sum);
    static const float text[2][2] = { { 1, 0 }, { 0, 1 } };
    float row[2];
    tic_class_row(text[0], 2, 2, row);
    assert_true(fabsf(row[0] - (float)M_SQRT1_2) < 1e-6f && row[0] == row[1]);
}

static void read_all(FILE *f, void *to, size_t size, size_t n) { assert_int_equal(fread(to, size, n, f), n); }

static void test_clip_benchmark(void **state)
{
    const char *slash = strrchr(__FILE__, '/');
    char *path = tic_format("%.*s/data/eval_small.bin", slash ? (int)(slash - __FILE__) : 1, slash ? __FILE__ : ".");
    FILE *f = fopen(path, "rb");
    free(path);
    if (!f) {
        fprintf(stderr, "# skipped: run from the root of the tree\n");
        skip();
    }
    int32_t head[5];
    read_all(f, head, 4, 5);
    int images = head[0], texts = head[1], width = head[2], classes = head[3], templates = head[4];
    float *image = tic_alloc(4u * (size_t)(images * width)), *text = tic_alloc(4u * (size_t)(texts * width));
    float *class = tic_alloc(4u * (size_t)(classes * templates * width)), *classifier = tic_alloc(4u * (size_t)(classes * width));
    int64_t *image_of = tic_alloc(8u * (size_t)texts), *label = tic_alloc(8u * (size_t)images);
    double want[9];
    read_all(f, image, 4, (size_t)(images * width));
    read_all(f, text, 4, (size_t)(texts * width));
    read_all(f, class, 4, (size_t)(classes * templates * width));
    read_all(f, image_of, 8, (size_t)texts);
    read_all(f, label, 8, (size_t)images);
    read_all(f, want, 8, 9);
    fclose(f);
    for (int threads = 0; threads < 3; threads += 2) {
        TicPool *pool = threads ? tic_pool_new(threads) : NULL;
        TicRecall r = tic_recall(pool, image, images, text, texts, image_of, width);
        for (int k = 0; k < 3; k++) {
            close_to(r.image_recall[k], want[k]);
            close_to(r.text_recall[k], want[3 + k]);
        }
        if (pool)
            tic_pool_free(pool);
    }
    TicClassCounts c = tic_class_counts_new(classes);
    for (int k = 0; k < classes; k++)
        tic_class_row(class + k * templates * width, templates, width, classifier + k * width);
    for (int i = 0; i < images; i++)
        tic_class_count(&c, image + i * width, classifier, width, label[i]);
    close_to(tic_class_acc(&c, 1), want[6]);
    close_to(tic_class_acc(&c, 5), want[7]);
    close_to(tic_class_mean_recall(&c), want[8]);
    tic_class_counts_clear(&c);
    free(image);
    free(text);
    free(class);
    free(classifier);
    free(image_of);
    free(label);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand), cmocka_unit_test(test_not_a_number), cmocka_unit_test(test_lines), cmocka_unit_test(test_classes),
        cmocka_unit_test(test_clip_benchmark),
    };
    return cmocka_run_group_tests_name("classify", tests, NULL, NULL);
}
