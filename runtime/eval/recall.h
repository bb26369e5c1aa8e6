/* recall.h -- image-text retrieval as CLIP_benchmark counts it (metrics/zeroshot_retrieval.py).
 *
 * A caption of several lines is several texts of one image; an image without a text can never be found and counts as a
 * miss of text retrieval. R@k of a row is 1 when any positive is among its k largest scores. Equal scores: the lower
 * index ranks first (the reference leaves this open). */
#ifndef TIC_EVAL_RECALL_H
#define TIC_EVAL_RECALL_H
#include "base.h"
#include "device/pool.h"

typedef struct {
    int64_t images, texts;
    double image_recall[3];      /* text -> image, k = 1, 5, 10: mean over texts */
    double text_recall[3];       /* image -> text: mean over images */
    double mean_recall_1;        /* mean of both at k = 1 (DataComp's main metric) */
} TicRecall;

/* image: [images, width], text: [texts, width], both of unit length; image_of[t] is the image text t belongs to.
 * No score is kept: memory is a few numbers an image and a text. `pool` may be NULL; the result does not depend on it. */
TicRecall tic_recall(TicPool *pool, const float *image, int64_t images, const float *text, int64_t texts, const int64_t *image_of,
                     int64_t width);

/* The dot product, summed in a fixed shape: the same on every machine width. */
float tic_dot(const float *a, const float *b, int64_t n);
#endif
