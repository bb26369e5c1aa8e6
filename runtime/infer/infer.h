/* infer.h -- commands that use a trained model: label probabilities, features as files, checkpoints in other forms. */
#ifndef TIC_INFER_INFER_H
#define TIC_INFER_INFER_H
#include "base.h"
#include "tic.h"
#include <stdio.h>

typedef struct {
    const char *ckpt, *vocab;
    int64_t threads, images;     /* images: how many of the words are; 0: the leading ones that name files */
    bool json;
} TicClassifyOptions;

/* For each image the probability of each label: softmax of 100 times the products of features, as the model cards do. */
TicStatus tic_classify(const TicProgram *p, const TicKernel *kernels, const TicClassifyOptions *o, const char *const *word, int n, FILE *out);

typedef struct {
    const char *ckpt, *vocab, *out, *captions, *files;
    int64_t threads, batch;
    bool strict;
} TicEmbedOptions;

/* Normalised features as float32 [n, width] in NumPy's format, rows in the order given.
 *   words that are image files    OUT (one .npy); what cannot be used has a row of NaN
 *   files FILE                    the same, of the images that it names, one a line
 *   captions FILE                 OUT: a row a line
 *   words that are shards (.tar)  OUT is a prefix: OUT.images.npy, OUT.texts.npy, OUT.keys.txt, a row a usable sample;
 *                                 of texts one of NaN where there is no caption
 * OUT.skipped.txt lists what could not be used, a line each: the row and a tabulator (of images), then the name and the reason;
 * there is none where all could. With `strict` the first such one is an error, TIC_USER, and so is everywhere that none can be used. */
TicStatus tic_embed(const TicProgram *p, const TicKernel *kernels, const TicEmbedOptions *o, const char *const *word, int n, FILE *log);

/* Writes the weights of a checkpoint into the folder `out`, as a model on Hugging Face's hub has them:
 *   "safetensors"  open_clip_model.safetensors, open_clip_config.json
 *   "pt"           open_clip_pytorch_model.bin, open_clip_config.json
 *   "hf"           model.safetensors, config.json, preprocessor_config.json (CLIPModel of transformers) */
TicStatus tic_export(const TicProgram *p, const TicKernel *kernels, const char *ckpt, const char *to, const char *out, FILE *log);
#endif
