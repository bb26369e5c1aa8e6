/* step.c -- see step.h. */
#include "train/step.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

enum { FEATURES, LOSS, PIECE, UPDATE, PARTS };       /* in pieces; at once the step is part 0 */

typedef struct {
    char *value, *gradient;      /* of the whole batch; no gradient: NULL */
    size_t bytes;                /* of a piece */
} Feature;

struct TicStep {
    const TicProgram *program;
    TicStepSize size;
    bool pieces;
    int n;                       /* parts */
    TicExec *part[PARTS];
    int64_t count;               /* pieces of a batch */
    Feature *feature;
    int n_feature;
    double loss, logit_scale;
    bool sends, ahead;           /* batches can be sent ahead; that of `next` has been */
    TicPlace next;
};

static bool in_pieces(TicStepSize s) { return s.micro > 0 && s.micro < s.batch; }

/* Entries and how many pairs each computes at a time; returns how many. */
static int parts_of(TicStepSize s, TicExecAt at[PARTS])
{
    if (!in_pieces(s)) {
        at[0] = (TicExecAt){ s.distill ? "distill" : "step", s.batch };
        return 1;
    }
    at[FEATURES] = (TicExecAt){ s.distill ? "distill:features" : "features", s.micro };
    at[LOSS] = (TicExecAt){ s.distill ? "distill:loss" : "loss", s.batch };
    at[PIECE] = (TicExecAt){ s.distill ? "distill:piece" : "piece", s.micro };
    at[UPDATE] = (TicExecAt){ "update", s.micro };
    return PARTS;
}

static int64_t times_of(TicStepSize s, int part)
{
    return in_pieces(s) && (part == FEATURES || part == PIECE) ? s.batch / s.micro : 1;
}

/* ---- size */

TicStatus tic_step_size(const TicProgram *p, int64_t batch, int64_t micro, bool distill, TicStepSize *out)
{
    TicStepSize s = { batch ? batch : p->batch, micro < 0 ? p->micro : micro, distill };
    if (s.micro && !tic_program_entry(p, "piece"))
        return tic_fail(TIC_USER, "--micro: the program cannot compute a batch in pieces; compile it with -D train.micro=%lld", (long long)s.micro);
    if (s.micro >= s.batch)
        s.micro = 0;
    if (s.micro && s.batch % s.micro)
        return tic_fail(TIC_USER, "a batch of %lld does not divide into pieces of %lld; --batch and --micro set them", (long long)s.batch,
                        (long long)s.micro);
    *out = s;
    return TIC_OK;
}

static bool is_named(const char *name, const char *what)
{
    size_t n = strlen(what);
    return !strncmp(name, what, n) && name[n] == ':';
}

/* Bytes of the features of a batch, and of their gradients. */
static int64_t feature_bytes(const TicProgram *p, const TicExecAt at[PARTS])
{
    static const char *const kind[] = { "feature", "gradient" };
    const int part[] = { FEATURES, LOSS };
    int64_t bytes = 0;
    for (int k = 0; k < 2; k++) {
        const TicEntry *e = tic_program_entry(p, at[part[k]].entry);
        const TicOutput *o = TABLE(p, TicOutput, p->outputs) + e->output;
        for (uint32_t i = 0; i < e->n_output; i++)
            if (is_named(tic_text(p, o[i].name), kind[k]))
                bytes += tic_poly((TABLE(p, TicTensor, p->tensors) + e->tensor + o[i].tensor)->bytes, at[LOSS].batch);
    }
    return bytes;
}

int64_t tic_step_kept_bytes(const TicProgram *p, TicStepSize size)
{
    TicExecAt at[PARTS];
    return parts_of(size, at) == 1 ? 0 : feature_bytes(p, at);
}

int64_t tic_step_bytes(const TicProgram *p, TicStepSize size, enum TicTarget target)
{
    TicExecAt at[PARTS];
    int n = parts_of(size, at);
    int64_t bytes = tic_entries_arena_bytes(p, target, at, n);
    if (bytes < 0 || n == 1)
        return bytes;
    for (uint32_t i = 0; i < p->n_params; i++)
        bytes += TABLE(p, TicParam, p->params)[i].count * 4;
    return target == TIC_CPU ? bytes + feature_bytes(p, at) : bytes;
}

TicStatus tic_step_on_gpu(const TicProgram *p, TicStepSize size, bool *gpu)
{
    TicExecAt at[PARTS];
    return tic_device_for(p, at, parts_of(size, at), gpu);
}

double tic_step_flops(const TicProgram *p, TicStepSize size)
{
    TicExecAt at[PARTS];
    int n = parts_of(size, at);
    double sum = 0;
    for (int k = 0; k < n; k++) {
        const TicEntry *e = tic_program_entry(p, at[k].entry);
        const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + e->launch;
        for (uint32_t i = 0; i < e->n_launch; i++)
            sum += (double)tic_poly(l[i].flops, at[k].batch) * (double)times_of(size, k);
    }
    return sum;
}

/* ---- opening */

TicStatus tic_step_open(TicModel *m, TicPool *pool, TicStepSize size, TicStep **out)
{
    TicExecAt at[PARTS];
    TicStep *s = tic_alloc(sizeof *s);
    *out = NULL;
    *s = (TicStep){ .program = m->program, .size = size, .pieces = in_pieces(size), .count = times_of(size, FEATURES), .loss = NAN };
    int n = parts_of(size, at);
    TicStatus status = tic_exec_open_all(m, pool, at, n, s->part);
    if (status) {
        tic_step_close(s);
        return status;
    }
    s->n = n;
    s->sends = tic_exec_sends(s->part[0]) && (!s->pieces || tic_exec_sends(s->part[PIECE]));
    for (;; s->n_feature++) {
        int64_t count;
        char *name = tic_format("feature:%d", s->n_feature), *gradient = tic_format("gradient:%d", s->n_feature);
        bool there = s->pieces && tic_exec_output(s->part[FEATURES], name, &count);
        if (there) {
            s->feature = tic_realloc(s->feature, (size_t)(s->n_feature + 1) * sizeof *s->feature);
            Feature *f = &s->feature[s->n_feature];
            *f = (Feature){ .bytes = (size_t)count * 4 };
            f->value = tic_alloc(f->bytes * (size_t)s->count);
            if (tic_exec_output(s->part[LOSS], gradient, NULL))
                f->gradient = tic_alloc(f->bytes * (size_t)s->count);
        }
        free(name);
        free(gradient);
        if (!there)
            break;
    }
    *out = s;
    return TIC_OK;
}

void tic_step_close(TicStep *s)
{
    if (!s)
        return;
    for (int i = 0; i < s->n; i++)
        tic_exec_close(s->part[i]);
    for (int i = 0; i < s->n_feature; i++) {
        free(s->feature[i].value);
        free(s->feature[i].gradient);
    }
    free(s->feature);
    free(s);
}

void tic_step_set(TicStep *s, const char *name, double value)
{
    for (int i = 0; i < s->n; i++) {
        double *input = tic_exec_input(s->part[i], name);
        if (input)
            *input = value;
    }
}

void tic_step_give(TicStep *s, const char *name, const float *value, int64_t count)
{
    for (int i = 0; i < s->n; i++) {
        float *input = tic_exec_input(s->part[i], name);
        if (input)
            memcpy(input, value, (size_t)count * sizeof *value);
    }
}

/* ---- running */

static TicExec *part_of(TicStep *s, TicPlace at) { return s->part[!s->pieces ? 0 : at.pass ? PIECE : FEATURES]; }

static TicStatus feed_part(TicStep *s, TicFeed *feed, void *context, TicPlace at)
{
    bool there = s->ahead && s->next.step == at.step && s->next.pass == at.pass && s->next.piece == at.piece;
    s->ahead = false;
    return there ? TIC_OK : feed(context, at, tic_exec_batch(part_of(s, at)));
}

/* While a part is at work: the pairs that come after those of a place. */
static void feed_ahead(TicStep *s, TicFeed *feed, void *context, TicPlace at, bool more)
{
    if (++at.piece == s->count) {
        at.piece = 0;
        at.pass++;
    }
    if (at.pass == (s->pieces ? 2 : 1)) {
        at.pass = 0;
        at.step++;
        if (!more)
            return;
    }
    if (!s->sends)
        return;
    TicExec *x = part_of(s, at);
    if (feed(context, at, tic_exec_next_batch(x))) {
        tic_error_clear();
        return;
    }
    tic_exec_send(x);
    s->next = at;
    s->ahead = true;
}

/* Feature i between a part's input or output and its place in the batch. */
static char *place(Feature *f, bool gradient, int64_t piece) { return (gradient ? f->gradient : f->value) + (size_t)piece * f->bytes; }

static const void *output(TicStep *s, int part, const char *what, int i)
{
    char name[32];
    snprintf(name, sizeof name, "%s:%d", what, i);
    return tic_exec_output(s->part[part], name, NULL);
}

static void *input(TicStep *s, int part, const char *what, int i)
{
    char name[32];
    snprintf(name, sizeof name, "%s:%d", what, i);
    return tic_exec_input(s->part[part], name);
}

static TicStatus compute_features(TicStep *s, int64_t step, TicFeed *feed, void *context)
{
    for (int64_t k = 0; k < s->count; k++) {
        const TicPlace at = { step, k, 0 };
        TRY(feed_part(s, feed, context, at));
        tic_exec_run(s->part[FEATURES]);
        feed_ahead(s, feed, context, at, true);
        for (int i = 0; i < s->n_feature; i++)
            memcpy(place(&s->feature[i], false, k), output(s, FEATURES, "feature", i), s->feature[i].bytes);
        TRY(tic_exec_status(s->part[FEATURES]));
    }
    return TIC_OK;
}

static void give_features(TicStep *s)
{
    for (int i = 0; i < s->n_feature; i++) {
        void *to = input(s, LOSS, "feature", i);
        if (to)
            memcpy(to, s->feature[i].value, s->feature[i].bytes * (size_t)s->count);
    }
}

static TicStatus compute_loss(TicStep *s)
{
    TicExec *x = s->part[LOSS];
    give_features(s);
    tic_exec_run(x);
    s->loss = tic_exec_scalar(x, "loss", NAN);
    s->logit_scale = tic_exec_scalar(x, "logit_scale", NAN);
    for (int i = 0; i < s->n_feature; i++)
        if (s->feature[i].gradient)
            memcpy(s->feature[i].gradient, output(s, LOSS, "gradient", i), s->feature[i].bytes * (size_t)s->count);
    return tic_exec_status(x);
}

static TicStatus compute_gradient(TicStep *s, int64_t step, bool more, TicFeed *feed, void *context)
{
    for (int64_t k = 0; k < s->count; k++) {
        const TicPlace at = { step, k, 1 };
        TRY(feed_part(s, feed, context, at));
        for (int i = 0; i < s->n_feature; i++) {
            void *to = s->feature[i].gradient ? input(s, PIECE, "gradient", i) : NULL;
            if (to)
                memcpy(to, place(&s->feature[i], true, k), s->feature[i].bytes);
        }
        tic_exec_run(s->part[PIECE]);
        TRY(tic_exec_status(s->part[PIECE]));
        feed_ahead(s, feed, context, at, more);
    }
    return TIC_OK;
}

TicStatus tic_step_gradient(TicStep *s, int64_t step, bool more, TicFeed *feed, void *context, double *loss)
{
    const TicPlace at = { step, 0, 0 };
    if (s->pieces) {
        TRY(compute_features(s, step, feed, context));
        TRY(compute_loss(s));
        *loss = s->loss;
        return isfinite(s->loss) ? compute_gradient(s, step, more, feed, context) : TIC_OK;
    }
    TRY(feed_part(s, feed, context, at));
    tic_exec_run_forward_backward(s->part[0]);
    feed_ahead(s, feed, context, at, more);
    *loss = tic_exec_scalar(s->part[0], "loss", NAN);
    return tic_exec_status(s->part[0]);
}

TicStatus tic_step_update(TicStep *s)
{
    if (s->pieces)
        tic_exec_run(s->part[UPDATE]);
    else
        tic_exec_run_update(s->part[0]);
    return tic_exec_status(s->part[s->pieces ? UPDATE : 0]);
}

double tic_step_scalar(TicStep *s, const char *name, double missing)
{
    if (!s->pieces)
        return tic_exec_scalar(s->part[0], name, missing);
    if (!strcmp(name, "loss"))               /* the programs after it write over its outputs */
        return s->loss;
    if (!strcmp(name, "logit_scale"))
        return isnan(s->logit_scale) ? missing : s->logit_scale;
    return tic_exec_scalar(s->part[UPDATE], name, missing);
}

static bool all_finite(const void *data, size_t bytes)
{
    for (size_t i = 0; i < bytes / 4; i++)
        if (!isfinite(((const float *)data)[i]))
            return false;
    return true;
}

bool tic_step_busy(const TicStep *s) { return tic_exec_busy(s->part[0]); }

void tic_step_find_not_finite(TicStep *s, int64_t step, TicFeed *feed, void *context, char *text, size_t size)
{
    if (s->sends && !s->pieces && feed_part(s, feed, context, (TicPlace){ step, 0, 0 })) {
        snprintf(text, size, "its batch cannot be read again: %s", tic_error());      /* the next one stands in its place */
        tic_error_clear();
        return;
    }
    for (int i = 0; i < s->n_feature; i++)
        for (int64_t k = 0; k < s->count; k++)
            if (!all_finite(place(&s->feature[i], false, k), s->feature[i].bytes) && !feed_part(s, feed, context, (TicPlace){ step, k, 0 })) {
                tic_exec_find_not_finite(s->part[FEATURES], text, size);
                return;
            }
    if (s->pieces)
        give_features(s);
    tic_exec_find_not_finite(s->part[s->pieces ? LOSS : 0], text, size);
}

TicExec *tic_step_part(TicStep *s, int i, const char **name, int64_t *times, int64_t *batch)
{
    TicExecAt at[PARTS];
    if (i >= parts_of(s->size, at))
        return NULL;
    *name = at[i].entry;
    *times = times_of(s->size, i);
    *batch = at[i].batch;
    return s->part[i];
}

const char *tic_step_device(const TicStep *s) { return tic_exec_device(s->part[0]); }
