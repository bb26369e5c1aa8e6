/* towers.h -- a model's two encoders for evaluation: samples pass through in batches of one size, features come out. */
#ifndef TIC_EVAL_TOWERS_H
#define TIC_EVAL_TOWERS_H
#include "data/bpe.h"
#include "data/shards.h"
#include "device/exec.h"
#include "eval/sets.h"
#include "eval/zeroshot.h"

typedef struct TicTowers TicTowers;

/* Features of image-text pairs: a row an image, a row a line of its caption (an empty caption has none). */
typedef struct {
    float *image, *text;         /* [images, width], [texts, width] */
    int64_t *image_of;           /* [texts] */
    int64_t images, texts, image_room, text_room, of_room;
} TicFeatures;

typedef struct {
    int64_t skipped;             /* samples without a usable image */
    int64_t unlabelled;          /* classification: samples without a class */
} TicEvalCounts;

/* TIC_USER when the model has not both encode_image and encode_text. The model, pool and vocabulary must outlive it. */
TicStatus tic_towers_open(TicModel *m, TicPool *pool, const TicBpe *bpe, int64_t batch, TicTowers **out);
void tic_towers_close(TicTowers *t);
int64_t tic_towers_width(const TicTowers *t);

/* Appends the features of all pairs of the shards; memory grows with them. */
TicStatus tic_towers_pairs(TicTowers *t, const TicShardList *shards, TicFeatures *f, TicEvalCounts *counts);
void tic_features_clear(TicFeatures *f);

/* One row a class: every template filled, encoded, averaged, of unit length. Caller frees *classifier [classes, width]. */
TicStatus tic_towers_classifier(TicTowers *t, const TicLines *classes, const TicLines *templates, float **classifier);
/* Classifies every sample of the shards; only counts are kept. TIC_USER for a class beyond the classifier's. */
TicStatus tic_towers_classify(TicTowers *t, const TicShardList *shards, const float *classifier, TicClassCounts *c, TicEvalCounts *counts);
/* The same for a folder with one sub-folder of images a class (torchvision's ImageFolder: classes in sorted order). TIC_USER
 * when there are not as many sub-folders as classes. */
TicStatus tic_towers_classify_folder(TicTowers *t, const char *folder, const float *classifier, TicClassCounts *c, TicEvalCounts *counts);

/* Of the names and sizes of such a folder's pictures. */
TicStatus tic_towers_folder_digest(const char *folder, uint64_t *digest);

/* The next line of a caption as Python's splitlines cuts it (\n, \r, \r\n, \v, \f, 0x1c..0x1e, U+0085, U+2028, U+2029);
 * false at the end. */
bool tic_caption_line(const char **at, const char *end, const char **line, size_t *size);
#endif
