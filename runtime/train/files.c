/* files.c -- see files.h. The `ticc` entry of a checkpoint holds the numbers that an exact continuation needs and the
 * facts it is checked against; all else follows from the step number. */
#include "train/files.h"
#include "ckpt/checkpoint.h"
#include "data/bpe.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static TicNamedTensor *named_tensors(const TicModel *m)
{
    TicNamedTensor *t = tic_alloc((size_t)(m->n_params + 1) * sizeof *t);
    for (int i = 0; i < m->n_params; i++) {
        const TicParam *p = &m->params[i];
        t[i] = (TicNamedTensor){ .name = tic_text(m->program, p->name), .rank = p->rank, .data = m->param[i],
                                 .decay = p->weight_decay != 0 };
        memcpy(t[i].shape, p->shape, sizeof p->shape);
        int n = 0;
        for (int k = 0; k < m->n_states && n < TIC_TENSOR_STATES; k++)
            if (m->states[k].param == i) {
                t[i].state[n].role = tic_text(m->program, m->states[k].role);
                t[i].state[n++].data = m->state[k];
            }
    }
    return t;
}

/* Keys of the counts of replaced samples. */
static const char *const skip_key[TIC_SKIP_REASONS] = {
    [TIC_SKIP_NO_IMAGE] = "skipped_no_image", [TIC_SKIP_NO_CAPTION] = "skipped_no_caption", [TIC_SKIP_BAD_IMAGE] = "skipped_broken_image",
    [TIC_SKIP_BAD_JSON] = "skipped_broken_json", [TIC_SKIP_TOO_LARGE] = "skipped_too_large", [TIC_SKIP_MISSING] = "skipped_missing",
    [TIC_SKIP_FOREIGN + TIC_FOREIGN_GIF] = "skipped_gif", [TIC_SKIP_FOREIGN + TIC_FOREIGN_BMP] = "skipped_bmp",
    [TIC_SKIP_FOREIGN + TIC_FOREIGN_TIFF] = "skipped_tiff", [TIC_SKIP_FOREIGN + TIC_FOREIGN_HEIC] = "skipped_heic",
    [TIC_SKIP_FOREIGN + TIC_FOREIGN_AVIF] = "skipped_avif", [TIC_SKIP_FOREIGN + TIC_FOREIGN_JXL] = "skipped_jxl",
    [TIC_SKIP_FOREIGN + TIC_FOREIGN_SVG] = "skipped_svg",
};

TicStatus tic_save(const TicModel *m, const TicRunState *s, const char *path)
{
    const TicProgram *p = m->program;
    char hash[20], digest[20];
    snprintf(hash, sizeof hash, "%016" PRIx64, p->hash);
    snprintf(digest, sizeof digest, "%016" PRIx64, s->data_digest);
    const TicMeta fact[] = {
        { .key = "model", .kind = TIC_META_STR, .s = tic_text(p, p->model) },
        { .key = "program", .kind = TIC_META_STR, .s = hash },
        { .key = "data", .kind = TIC_META_STR, .s = digest },
        { .key = "parent", .kind = TIC_META_STR, .s = s->parent ? s->parent : "" },
        { .key = "step", .kind = TIC_META_INT, .i = s->step },
        { .key = "total", .kind = TIC_META_INT, .i = s->total },
        { .key = "batch", .kind = TIC_META_INT, .i = s->batch },
        { .key = "micro", .kind = TIC_META_INT, .i = s->micro },
        { .key = "year", .kind = TIC_META_INT, .i = s->year },
        { .key = "carried", .kind = TIC_META_INT, .i = s->carried },
        { .key = "seed", .kind = TIC_META_INT, .i = (int64_t)s->seed },
    };
    TicMeta meta[TIC_LEN(fact) + TIC_SKIP_REASONS];
    memcpy(meta, fact, sizeof fact);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        meta[TIC_LEN(fact) + (size_t)i] = (TicMeta){ .key = skip_key[i], .kind = TIC_META_INT, .i = s->skipped[i] };
    TRY(tic_model_to_host((TicModel *)m));
    TicNamedTensor *tensor = named_tensors(m);
    TicCheckpointContents c = {
        .epoch = s->finished, .name = s->name, .lr = s->lr, .beta1 = p->beta1, .beta2 = p->beta2, .eps = p->eps,
        .weight_decay = p->weight_decay, .step = s->carried + s->step, .global_step = s->step, .samples_seen = s->step * s->batch,
        .tensor = tensor, .n_tensors = m->n_params, .meta = meta, .n_meta = (int)TIC_LEN(meta),
    };
    TicStatus status = tic_checkpoint_write(path, &c);
    free(tensor);
    return status;
}

static TicStatus read_weights(TicModel *m, TicCheckpoint *ck, const char *path)
{
    TicNamedTensor *tensor = named_tensors(m);
    TicStatus status = tic_checkpoint_match(ck, tensor, m->n_params);
    for (int i = 0; !status && i < m->n_params; i++)
        status = tic_checkpoint_read(ck, tensor[i].name, tensor[i].rank, tensor[i].shape, m->param[i]);
    const char *bad = status ? NULL : tic_model_not_finite(m);
    if (bad)
        status = tic_fail(TIC_USER, "%s: parameter %s is not finite", path, bad);
    tic_model_changed(m);
    free(tensor);
    return status;
}

TicStatus tic_load_weights(TicModel *m, const char *path)
{
    TicCheckpoint *ck;
    TRY(tic_checkpoint_open(path, &ck));
    TicStatus status = read_weights(m, ck, path);
    tic_checkpoint_close(ck);
    return status;
}

static TicStatus read_states(TicModel *m, TicCheckpoint *ck, const char *path)
{
    if (m->n_states && !tic_checkpoint_has_optimizer(ck))
        return tic_fail(TIC_USER, "%s: holds weights but no optimiser state; --from starts a new run with its weights", path);
    for (int i = 0; i < m->n_states; i++) {
        const TicParam *p = &m->states[i];
        if (p->param < 0)
            return tic_fail(TIC_BUG, "optimiser state %s belongs to no parameter", tic_text(m->program, p->name));
        TRY(tic_checkpoint_read_state(ck, tic_text(m->program, m->params[p->param].name), tic_text(m->program, p->role), p->rank,
                                      p->shape, m->state[i]));
    }
    tic_model_changed(m);
    return TIC_OK;
}

/* Steps and samples that a file may say were done: few enough that a batch times as many, or the sum of some, is below 2^63. */
static const int64_t MOST_COUNT = 1000000000000;

/* A count that the file says; false when it says none, or one that cannot be. */
static bool count_at(const TicCheckpoint *ck, const char *key, int64_t *n)
{
    return tic_checkpoint_int(ck, key, n) && *n >= 0 && *n <= MOST_COUNT;
}

/* How many optimiser steps a checkpoint says were done. OpenCLIP 2.24 keeps no count of its own: the optimiser's is it. */
static TicStatus steps_done(const TicModel *m, TicCheckpoint *ck, const char *path, int64_t *step)
{
    float steps = 0;
    double said;
    if (tic_checkpoint_int(ck, "ticc.step", step) || tic_checkpoint_int(ck, "global_step", step)) {
        said = (double)*step;
    } else {
        if (!m->n_params || tic_checkpoint_read_state(ck, tic_text(m->program, m->params[0].name), "step", 0, NULL, &steps))
            return tic_fail(TIC_USER, "%s: does not say how many steps were done; --from starts a new run with its weights", path);
        said = (double)steps;
    }
    if (!(said >= 0 && said <= (double)MOST_COUNT))              /* nor if it is no number: any bits may stand there */
        return tic_fail(TIC_USER, "%s: found %g steps done, wanted a number from 0 to %g", path, said, (double)MOST_COUNT);
    *step = (int64_t)said;
    return TIC_OK;
}

TicStatus tic_load_moments(TicModel *m, const char *path, int64_t *updates)
{
    TicCheckpoint *ck;
    int64_t carried = 0;
    TRY(tic_checkpoint_open(path, &ck));
    TicStatus status = read_weights(m, ck, path);
    if (!status)
        status = read_states(m, ck, path);
    if (!status)
        status = steps_done(m, ck, path, updates);
    if (!status && count_at(ck, "ticc.carried", &carried))
        *updates += carried;
    tic_checkpoint_close(ck);
    return status;
}

TicStatus tic_read_facts(const char *path, char program[20], int64_t *skipped)
{
    TicCheckpoint *ck;
    TRY(tic_checkpoint_open(path, &ck));
    const char *by = tic_checkpoint_str(ck, "ticc.program");
    snprintf(program, 20, "%s", by ? by : "");
    *skipped = 0;
    for (int i = 0; i < TIC_SKIP_REASONS; i++) {
        char *key = tic_format("ticc.%s", skip_key[i]);
        int64_t n;
        *skipped += count_at(ck, key, &n) ? n : 0;
        free(key);
    }
    tic_checkpoint_close(ck);
    return TIC_OK;
}

static void warn_int(TicCheckpoint *ck, const char *key, int64_t now, const char *path)
{
    int64_t then;
    if (tic_checkpoint_int(ck, key, &then) && then != now)
        fprintf(stderr, "warning: %s: %s was %" PRId64 ", is now %" PRId64 ": the run goes on, but not as it would have\n", path,
                key + strlen("ticc."), then, now);
}

/* The gradient in pieces is that of the batch, but added up in another order. */
static void warn_micro(TicCheckpoint *ck, int64_t now, const char *path)
{
    int64_t then;
    if (tic_checkpoint_int(ck, "ticc.micro", &then) && then != now)
        fprintf(stderr, "warning: %s: micro was %" PRId64 ", is now %" PRId64 " (0: batches at once): the run goes on as it would have, but "
                "for rounding\n", path, then, now);
}

static void warn_text(TicCheckpoint *ck, const char *key, uint64_t now, const char *what, const char *path)
{
    char text[20];
    const char *then = tic_checkpoint_str(ck, key);
    snprintf(text, sizeof text, "%016" PRIx64, now);
    if (then && strcmp(then, text))
        fprintf(stderr, "warning: %s: written with %s: the run goes on, but not as it would have\n", path, what);
}

TicStatus tic_resume(TicModel *m, TicRunState *s, const char *path)
{
    TicCheckpoint *ck;
    TRY(tic_checkpoint_open(path, &ck));
    TicStatus status = read_weights(m, ck, path);
    if (!status)
        status = read_states(m, ck, path);
    if (!status) {
        double t = 0;
        status = steps_done(m, ck, path, &s->step);
        if (!count_at(ck, "ticc.carried", &s->carried))
            s->carried = 0;
        if (tic_checkpoint_float(ck, "optimizer.param_groups.0.lr", &t) && isfinite(t))
            s->lr = t;
        for (int i = 0; i < TIC_SKIP_REASONS; i++) {
            char *key = tic_format("ticc.%s", skip_key[i]);
            if (!count_at(ck, key, &s->skipped[i]))
                s->skipped[i] = 0;
            free(key);
        }
        const char *parent = tic_checkpoint_str(ck, "ticc.parent");
        if (s->parent && strcmp(s->parent, parent ? parent : ""))
            fprintf(stderr, "warning: %s: the run goes on with its own weights; those of %s are not read\n", path, s->parent);
        snprintf(s->parent_text, sizeof s->parent_text, "%s", parent ? parent : "");
        s->parent = *s->parent_text ? s->parent_text : NULL;
        warn_int(ck, "ticc.total", s->total, path);
        warn_int(ck, "ticc.batch", s->batch, path);
        warn_micro(ck, s->micro, path);
        warn_int(ck, "ticc.year", s->year, path);
        warn_int(ck, "ticc.seed", (int64_t)s->seed, path);
        warn_text(ck, "ticc.data", s->data_digest, "other data", path);
        warn_text(ck, "ticc.program", m->program->hash, "another build of the program", path);
    }
    tic_checkpoint_close(ck);
    return status;
}

TicStatus tic_captions_fit(const TicProgram *p)
{
    if (p->vocabulary && p->vocabulary < TIC_VOCABULARY)
        return tic_fail(TIC_USER, "the model's token table has %" PRId64 " rows; captions are numbers below %d, so `vocab` must be at least that",
                        p->vocabulary, TIC_VOCABULARY);
    return TIC_OK;
}
