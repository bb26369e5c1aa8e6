/* recall.c -- see recall.h. The rank of a positive is how many others score higher (or equal and earlier), so no row is
 * ever sorted: for each row the best-ranked positive decides all three k. */
#include "eval/recall.h"
#include <stdlib.h>

static const int K[3] = { 1, 5, 10 };

static float dot(const float *a, const float *b, int64_t n)
{
    float part[8] = { 0 };       /* a fixed shape: the same sum on every machine width */
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (int k = 0; k < 8; k++)
            part[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        part[0] += a[i] * b[i];
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

/* How many of score[0..n) come before entry p. */
static int64_t rank_of(const float *score, int64_t n, int64_t p)
{
    int64_t before = 0;
    for (int64_t i = 0; i < n; i++)
        before += score[i] > score[p] || (score[i] == score[p] && i < p);
    return before;
}

TicRecall tic_recall(const float *image, int64_t images, const float *text, int64_t texts, const int64_t *image_of, int64_t width)
{
    TicRecall r = { .images = images, .texts = texts };
    float *score = tic_alloc((size_t)(images > texts ? images : texts) * sizeof *score);
    for (int64_t t = 0; t < texts; t++) {
        for (int64_t i = 0; i < images; i++)
            score[i] = dot(text + t * width, image + i * width, width);
        int64_t rank = rank_of(score, images, image_of[t]);
        for (int k = 0; k < 3; k++)
            r.image_recall[k] += rank < K[k];
    }
    /* the texts of each image, by counting */
    int64_t *start = tic_alloc((size_t)(images + 2) * sizeof *start), *list = tic_alloc((size_t)(texts + 1) * sizeof *list);
    for (int64_t t = 0; t < texts; t++)
        start[image_of[t] + 1]++;
    for (int64_t i = 0; i < images; i++)
        start[i + 1] += start[i];
    int64_t *at = tic_alloc((size_t)(images + 1) * sizeof *at);
    for (int64_t t = 0; t < texts; t++)
        list[start[image_of[t]] + at[image_of[t]]++] = t;
    for (int64_t i = 0; i < images; i++) {
        if (start[i] == start[i + 1])
            continue;
        for (int64_t t = 0; t < texts; t++)
            score[t] = dot(text + t * width, image + i * width, width);
        int64_t best = texts;
        for (int64_t j = start[i]; j < start[i + 1]; j++) {
            int64_t rank = rank_of(score, texts, list[j]);
            best = rank < best ? rank : best;
        }
        for (int k = 0; k < 3; k++)
            r.text_recall[k] += best < K[k];
    }
    for (int k = 0; k < 3; k++) {
        r.image_recall[k] /= texts ? (double)texts : 1;
        r.text_recall[k] /= images ? (double)images : 1;
    }
    r.mean_recall_1 = (r.image_recall[0] + r.text_recall[0]) / 2;
    free(score);
    free(start);
    free(list);
    free(at);
    return r;
}
