/* hf.h -- how Hugging Face's CLIPModel calls what OpenCLIP has: queries, keys and values are three tensors there, the two
 * projections are stored [out, in], layers are counted in another place of the name. Layout: transformers,
 * models/clip/modeling_clip.py. */
#ifndef TIC_CKPT_HF_H
#define TIC_CKPT_HF_H
#include "ckpt/stored.h"

enum { TIC_HF_NAME = 160, TIC_HF_PARTS = 3 };

typedef struct {
    char name[TIC_HF_PARTS][TIC_HF_NAME];
    int parts;                   /* 1, or 3: equal pieces along the first axis */
    bool transposed;             /* two axes, exchanged */
} TicHfNames;

/* OpenCLIP's name to theirs; false: CLIPModel has no such parameter. */
bool tic_hf_from_openclip(const char *name, TicHfNames *out);
/* Theirs to OpenCLIP's; *part is the piece (0 when there is but one). False: not one of CLIPModel's. */
bool tic_hf_to_openclip(const char *name, char out[TIC_HF_NAME], int *part, bool *transposed);
#endif
