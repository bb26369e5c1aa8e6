/* recall.c -- see recall.h. The rank of a positive is how many others score higher (or equal and earlier), so no row is
 * ever sorted or stored. For each image only its best-scoring text can decide (every k asks for the best one), and for
 * each text there is only one image: one score a row is computed first, then every score is computed once and compared
 * with that of its row and that of its column. Work is cut into pieces of TEXTS texts by IMAGES images, which stay in
 * the cache; a piece counts into rows of its own, so threads never meet. Comparisons are turned so that NaN finds nothing. */
#include "eval/recall.h"
#include <stdlib.h>
#include <string.h>

enum { TEXTS = 64, IMAGES = 64 };
static const int K[3] = { 1, 5, 10 };

typedef float Lanes __attribute__((vector_size(32), aligned(4), may_alias));

float tic_dot(const float *a, const float *b, int64_t n)
{
    Lanes part = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8)
        part += *(const Lanes *)(const void *)(a + i) * *(const Lanes *)(const void *)(b + i);
    for (; i < n; i++)
        part[0] += a[i] * b[i];
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

typedef struct {
    const float *image, *text;
    const int64_t *image_of;
    int64_t images, texts, width, first_text;
    float *own, *best;           /* the score a text has with its image; of an image with its best text */
    int64_t *best_at;            /* which text that is; -1: the image has none */
    int64_t *text_rank, *image_rank;
} Job;

/* Task: IMAGES images against all texts in [first_text, first_text + TEXTS): ranks of the images grow here; those of the
 * texts go to text_rank[task][TEXTS], summed afterwards. */
static void compare(void *const *buf, int64_t ignored, int64_t task, void *scratch)
{
    Job *j = buf[0];
    int64_t *rank = j->text_rank + task * TEXTS;
    int64_t last = j->first_text + TEXTS < j->texts ? j->first_text + TEXTS : j->texts;
    int64_t from = task * IMAGES, to = from + IMAGES < j->images ? from + IMAGES : j->images;
    for (int64_t t = j->first_text; t < last; t++) {
        int64_t before = 0, own_at = j->image_of[t];
        float own = j->own[t];
        const float *row = j->text + t * j->width;
        for (int64_t i = from; i < to; i++) {
            float score = tic_dot(row, j->image + i * j->width, j->width);
            before += !(own > score || (own == score && own_at <= i));
            j->image_rank[i] += !(j->best[i] > score || (j->best[i] == score && j->best_at[i] <= t));
        }
        rank[t - j->first_text] = before;
    }
}

static void best_texts(Job *j)
{
    for (int64_t i = 0; i < j->images; i++)
        j->best_at[i] = -1;
    for (int64_t t = 0; t < j->texts; t++) {
        int64_t i = j->image_of[t];
        j->own[t] = tic_dot(j->text + t * j->width, j->image + i * j->width, j->width);
        if (j->best_at[i] < 0 || j->own[t] > j->best[i]) {
            j->best[i] = j->own[t];
            j->best_at[i] = t;
        }
    }
}

TicRecall tic_recall(TicPool *pool, const float *image, int64_t images, const float *text, int64_t texts, const int64_t *image_of,
                     int64_t width)
{
    TicRecall r = { .images = images, .texts = texts };
    int64_t tasks = (images + IMAGES - 1) / IMAGES;
    Job j = { .image = image, .text = text, .image_of = image_of, .images = images, .texts = texts, .width = width,
              .own = tic_alloc((size_t)(texts + 1) * sizeof(float)), .best = tic_alloc((size_t)(images + 1) * sizeof(float)),
              .best_at = tic_alloc((size_t)(images + 1) * sizeof(int64_t)),
              .text_rank = tic_alloc((size_t)(tasks * TEXTS + 1) * sizeof(int64_t)),
              .image_rank = tic_alloc((size_t)(images + 1) * sizeof(int64_t)) };
    void *buf[] = { &j };
    best_texts(&j);
    for (; j.first_text < texts; j.first_text += TEXTS) {
        if (pool)
            tic_pool_run(pool, compare, buf, 1, tasks);
        for (int64_t task = 0; task < tasks && !pool; task++)
            compare(buf, 1, task, NULL);
        for (int64_t t = j.first_text; t < texts && t < j.first_text + TEXTS; t++) {
            int64_t rank = 0;
            for (int64_t task = 0; task < tasks; task++)
                rank += j.text_rank[task * TEXTS + t - j.first_text];
            for (int k = 0; k < 3; k++)
                r.image_recall[k] += rank < K[k];
        }
    }
    for (int64_t i = 0; i < images; i++)
        for (int k = 0; k < 3; k++)
            r.text_recall[k] += j.best_at[i] >= 0 && j.image_rank[i] < K[k];
    for (int k = 0; k < 3; k++) {
        r.image_recall[k] /= texts ? (double)texts : 1;
        r.text_recall[k] /= images ? (double)images : 1;
    }
    r.mean_recall_1 = (r.image_recall[0] + r.text_recall[0]) / 2;
    free(j.own);
    free(j.best);
    free(j.best_at);
    free(j.text_rank);
    free(j.image_rank);
    return r;
}
