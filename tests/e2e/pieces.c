/* pieces.c -- linked with a model that was compiled with train.micro and an optimiser that keeps the gradient as its only
 * state, sgd(lr, momentum = 0): the gradient of one step at once against the same in pieces of every size given, parameter by
 * parameter. Prints the worst of each; exit code 1 when one is above the limit.
 *
 *     pieces BATCH MICRO... */
#include "train/bench.h"
#include "train/step.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LIMIT = 5 };              /* in units of 1e-6, of a parameter's gradient as one vector */

static const TicProgram *program;
static int64_t piece_size;

static TicStatus feed(void *context, TicPlace at, TicBatch to)
{
    tic_bench_data(program, at.piece * piece_size, piece_size, 0, to);
    return TIC_OK;
}

static int die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, tic_error());
    exit(1);
}

/* One step from the first weights; returns its loss. */
static double step(TicModel *m, TicPool *pool, int64_t batch, int64_t micro)
{
    TicStepSize size;
    TicStep *s;
    double loss;
    if (tic_step_size(program, batch, micro, false, &size) || tic_step_open(m, pool, size, &s))
        die("opening");
    piece_size = size.micro ? size.micro : batch;
    tic_model_init(m, pool, 7);
    tic_step_set(s, "step", 0);
    tic_step_set(s, "total", 10);
    if (tic_step_gradient(s, 0, false, feed, NULL, &loss) || tic_step_update(s))
        die("the step");
    if (tic_step_scalar(s, "loss", -1) != loss)
        die("the loss is another afterwards");
    tic_step_close(s);
    return loss;
}

/* What a benchmark gives the loss alone: features as the towers make them. */
static bool features_drawn(TicModel *m, TicPool *pool, int64_t batch)
{
    TicExec *x;
    bool all = true;
    if (tic_exec_open(m, pool, "loss", batch, &x))
        die("the loss");
    tic_bench_inputs(x, program, batch, 0);
    const TicTensor *t = (const TicTensor *)(const void *)((const char *)program + program->tensors) + tic_exec_entry(x)->tensor;
    for (uint32_t i = 0; i < tic_exec_entry(x)->n_tensor; i++) {
        double sum = 0;
        if (t[i].kind != TIC_INPUT || strncmp(tic_text(program, t[i].name), "feature:", 8))
            continue;
        const float *v = tic_exec_input(x, tic_text(program, t[i].name));
        for (int64_t k = 0; k < tic_poly(t[i].bytes, batch) / 4; k++)
            sum += (double)v[k] * v[k];
        all = all && sum > 0.9 * (double)batch && sum < 1.1 * (double)batch;
    }
    tic_exec_close(x);
    return all;
}

int main(int argc, char **argv)
{
    program = (const TicProgram *)(const void *)tic_program;
    TicModel *whole, *pieces;
    TicPool *pool = tic_pool_new(0);
    int64_t batch = argc > 2 ? atoll(argv[1]) : 0;
    int bad = batch < 1;
    if (tic_model_new(program, tic_kernels, &whole) || tic_model_new(program, tic_kernels, &pieces))
        die("the model");
    double loss = step(whole, pool, batch, 0);
    if (!features_drawn(whole, pool, batch))
        bad = !!printf("features that a benchmark draws have not unit length\n");
    for (int a = 2; a < argc; a++) {
        double in_pieces = step(pieces, pool, batch, atoll(argv[a])), worst = 0;
        const char *where = "";
        bool scale = false;
        for (int i = 0; i < whole->n_states; i++) {
            const TicParam *row = &whole->states[i];
            double apart = 0, size = 0;
            for (int64_t k = 0; k < row->count; k++) {
                double d = (double)whole->state[i][k] - pieces->state[i][k];
                apart += d * d;
                size += (double)whole->state[i][k] * whole->state[i][k];
            }
            const char *name = tic_text(program, whole->params[row->param].name);
            if (!(size > 0))
                bad = !!printf("%s has no gradient\n", name);
            double rel = sqrt(apart / size);
            scale = scale || !strcmp(name, "logit_scale");
            if (!(rel <= worst)) {
                worst = rel;
                where = name;
            }
        }
        printf("%lld in pieces of %s: %d gradients within %.1e (%s), loss within %.1e\n", (long long)batch, argv[a], whole->n_states, worst, where,
               fabs(loss - in_pieces) / loss);
        bad |= !scale || whole->n_states != whole->n_params || !(worst <= LIMIT * 1e-6) || !(fabs(loss - in_pieces) <= 1e-6 * loss);
    }
    tic_model_free(whole);
    tic_model_free(pieces);
    tic_pool_free(pool);
    return bad;
}
