/* zeroshot.c -- see zeroshot.h. */
#include "eval/zeroshot.h"
#include "eval/recall.h"
#include <math.h>
#include <stdlib.h>

TicClassCounts tic_class_counts_new(int classes)
{
    return (TicClassCounts){ .classes = classes, .seen = tic_alloc((size_t)(classes + 1) * sizeof(int64_t)),
                             .found = tic_alloc((size_t)(classes + 1) * sizeof(int64_t)) };
}

void tic_class_counts_clear(TicClassCounts *c)
{
    free(c->seen);
    free(c->found);
    *c = (TicClassCounts){ 0 };
}

void tic_class_count(TicClassCounts *c, const float *feature, const float *classifier, int64_t width, int64_t label)
{
    float own = tic_dot(feature, classifier + label * width, width);
    int64_t before = 0;
    for (int64_t k = 0; k < c->classes; k++) {
        float other = k == label ? own : tic_dot(feature, classifier + k * width, width);
        before += !(own > other || (own == other && label <= k));            /* NaN finds nothing */
    }
    c->images++;
    c->seen[label]++;
    c->found[label] += before < 1;
    c->top1 += before < 1;
    c->top5 += before < 5;
}

void tic_class_counts_add(TicClassCounts *sum, const TicClassCounts *more)
{
    sum->images += more->images;
    sum->top1 += more->top1;
    sum->top5 += more->top5;
    for (int k = 0; k < sum->classes; k++) {
        sum->seen[k] += more->seen[k];
        sum->found[k] += more->found[k];
    }
}

double tic_class_acc(const TicClassCounts *c, int k)
{
    return c->images ? (double)(k == 1 ? c->top1 : c->top5) / (double)c->images : 0;
}

double tic_class_mean_recall(const TicClassCounts *c)
{
    double sum = 0;
    int present = 0;
    for (int k = 0; k < c->classes; k++) {
        sum += c->seen[k] ? (double)c->found[k] / (double)c->seen[k] : 0;
        present += c->seen[k] > 0;
    }
    return present ? sum / present : 0;
}

void tic_class_row(const float *text, int64_t n, int64_t width, float *row)
{
    double square = 0;
    for (int64_t e = 0; e < width; e++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++)
            sum += text[i * width + e];
        row[e] = (float)(sum / (double)n);
        square += (double)row[e] * row[e];
    }
    float norm = (float)fmax(sqrt(square), 1e-12);
    for (int64_t e = 0; e < width; e++)
        row[e] /= norm;
}
