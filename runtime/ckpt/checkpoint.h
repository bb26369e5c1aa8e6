/* checkpoint.h -- checkpoints in OpenCLIP's layout, and any file of named tensors read as one.
 *
 *     epoch, name                  epochs done; the run's name
 *     state_dict                   OrderedDict: parameter name -> f32 tensor
 *     optimizer                    torch's AdamW state_dict: state {id: {step, exp_avg, exp_avg_sq}}, param_groups
 *                                  [0] without, [1] with weight decay; ids count through the groups; each group
 *                                  also lists param_names, so nobody has to guess which id is which parameter
 *     global_step, samples_seen    since the run began
 *     ticc                         what resuming needs beyond that: texts and numbers
 *
 * Written files load with torch.load(weights_only=True) from torch 2.0 on (1.13's restricted reader knows no floating
 * point numbers at all, so there only a bare file does) and depend on their contents alone: equal states give equal
 * bytes. Read are files of this layout by any writer, bare state_dicts, and safetensors; tensors in the layout of Hugging
 * Face's CLIPModel get OpenCLIP's names and shapes.
 * Layout: OpenCLIP, src/training/main.py; optimiser: torch/optim/optimizer.py (state_dict). */
#ifndef TIC_CKPT_CHECKPOINT_H
#define TIC_CKPT_CHECKPOINT_H
#include "ckpt/stored.h"

/* ------------------------------------------------------------ writing */

typedef struct {
    bool bare;                   /* the file is the state_dict alone (Hugging Face's open_clip_pytorch_model.bin) */
    int64_t epoch;
    const char *name;
    double lr, beta1, beta2, eps, weight_decay;
    int64_t step;                /* optimiser steps done: the bias correction's t */
    int64_t global_step, samples_seen;
    const TicNamedTensor *tensor;        /* in state_dict order; no state at all: the file has no optimizer */
    int n_tensors;
    const TicMeta *meta;         /* the `ticc` entry, in this order */
    int n_meta;
} TicCheckpointContents;

/* Writes a temporary file, syncs, renames over path: a full disk or a kill leaves the old file whole. TIC_IO when the
 * system refuses, TIC_USER for a name that is not UTF-8, TIC_BUG for two tensors of one name. */
TicStatus tic_checkpoint_write(const char *path, const TicCheckpointContents *c);

/* ------------------------------------------------------------ reading */

typedef struct TicCheckpoint TicCheckpoint;
typedef struct { const char *name; TicStored dtype; int rank; int64_t shape[TIC_MAX_RANK]; } TicCheckpointTensor;

/* torch's zip files and safetensors, told apart by their first bytes. TIC_USER, with the path and the reason, for
 * everything else. *ck is set only on success; tic_checkpoint_close frees it and all that it returned. */
TicStatus tic_checkpoint_open(const char *path, TicCheckpoint **ck);
/* The same from memory, which must outlive *ck; `label` stands for the path in messages. */
TicStatus tic_checkpoint_open_memory(const void *data, size_t size, const char *label, TicCheckpoint **ck);
void tic_checkpoint_close(TicCheckpoint *ck);                    /* NULL is fine */

/* The tensors of the state_dict in file order; a leading "module." is gone from their names. */
int tic_checkpoint_count(const TicCheckpoint *ck);
TicCheckpointTensor tic_checkpoint_tensor(const TicCheckpoint *ck, int i);

/* A parameter as f32, row-major, into out[product of shape]. TIC_USER: absent, another shape, not floating point,
 * damaged. f64, f16 and bf16 are converted; views and shared storages are followed. */
TicStatus tic_checkpoint_read(TicCheckpoint *ck, const char *name, int rank, const int64_t *shape, float *out);

/* Is there optimiser state that can be mapped to names? */
bool tic_checkpoint_has_optimizer(TicCheckpoint *ck);
/* What the optimiser keeps for parameter `name`: role "exp_avg", "exp_avg_sq" (shape of the parameter), "step"
 * (a scalar). Ids are mapped to names by the groups' param_names; else, when groups have a group_name, by OpenCLIP
 * 3's rule; else by 2.24's: group 0 holds what has fewer than two axes or "bn", "ln", "bias" or "logit_scale" in
 * its name, both groups in state_dict order. Counts and shapes are checked; TIC_USER when they contradict. */
TicStatus tic_checkpoint_read_state(TicCheckpoint *ck, const char *name, const char *role, int rank,
                                    const int64_t *shape, float *out);

/* Values by path: "epoch", "ticc.seed", "optimizer.param_groups.1.lr"; lists by number. False: absent or of
 * another kind (float also takes an int). For safetensors: texts of __metadata__. */
bool tic_checkpoint_int(const TicCheckpoint *ck, const char *path, int64_t *v);
bool tic_checkpoint_float(const TicCheckpoint *ck, const char *path, double *v);
const char *tic_checkpoint_str(const TicCheckpoint *ck, const char *path);       /* NULL: absent or no text */

/* Does the file hold exactly these names with these shapes, all in floating point? TIC_USER with one message: how
 * many are missing, unexpected and misshapen, and the first of each, with both shapes. What older files hold beside
 * parameters (attn_mask, input_resolution, context_length, vocab_size) is not unexpected. */
TicStatus tic_checkpoint_match(const TicCheckpoint *ck, const TicNamedTensor *expected, int n);
#endif
