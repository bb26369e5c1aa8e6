/* zeroshot.h -- zero-shot classification as CLIP_benchmark counts it (metrics/zeroshot_classification.py).
 *
 * The predicted class of an image is the row of the classifier with the largest product; acc@k is the share of images
 * whose class is among the k largest; mean per-class recall is the mean of the recalls of the classes that occur.
 * Equal products: the lower class ranks first. */
#ifndef TIC_EVAL_ZEROSHOT_H
#define TIC_EVAL_ZEROSHOT_H
#include "base.h"

typedef struct {
    int classes;
    int64_t images, top1, top5;
    int64_t *seen, *found;       /* [classes] images of the class; of these, found first */
} TicClassCounts;

TicClassCounts tic_class_counts_new(int classes);
void tic_class_counts_clear(TicClassCounts *c);
/* feature: [width] of unit length; classifier: [classes, width]; 0 <= label < classes. */
void tic_class_count(TicClassCounts *c, const float *feature, const float *classifier, int64_t width, int64_t label);
void tic_class_counts_add(TicClassCounts *sum, const TicClassCounts *more);      /* of equally many classes */
double tic_class_acc(const TicClassCounts *c, int k);                            /* k = 1 or 5; 0 images: 0 */
double tic_class_mean_recall(const TicClassCounts *c);

/* One row of the classifier: the mean of the unit-length texts [n, width], made of unit length (L2 norm at least 1e-12). */
void tic_class_row(const float *text, int64_t n, int64_t width, float *row);
#endif
