/* info.c -- see info.h. */
#include "train/info.h"
#include "device/exec.h"
#include "train/step.h"

#define TABLE(p, T, offset) ((const T *)(const void *)((const char *)(p) + (offset)))

static int64_t elements(const TicParam *p, uint32_t n)
{
    int64_t sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += p[i].count;
    return sum;
}

int64_t tic_model_bytes(const TicProgram *p)
{
    return 4 * (elements(TABLE(p, TicParam, p->params), p->n_params) + elements(TABLE(p, TicParam, p->states), p->n_states));
}

TicStatus tic_info(const TicProgram *p, int64_t batch, int64_t micro, bool json, FILE *out)
{
    const TicEntry *step = tic_program_entry(p, "step");
    TicStepSize size;
    if (!step)
        return tic_fail(TIC_BUG, "the program has no training step");
    TRY(tic_step_size(p, batch, micro, false, &size));
    batch = size.batch;
    const TicLaunch *l = TABLE(p, TicLaunch, p->launches) + step->launch;
    const uint32_t *class_name = TABLE(p, uint32_t, p->class_names);
    int64_t params = elements(TABLE(p, TicParam, p->params), p->n_params);
    int64_t states = elements(TABLE(p, TicParam, p->states), p->n_states);
    int count[32] = { 0 }, kernels = 0;
    for (uint32_t i = 0; i < step->n_launch; i++) {      /* the launches of a kernel stand side by side */
        bool first = !i || l[i].step != l[i - 1].step;
        kernels += first;
        if (first && l[i].cls < TIC_LEN(count))
            count[l[i].cls]++;
    }
    int64_t flops = (int64_t)tic_step_flops(p, size), arena = tic_step_bytes(p, size, TIC_CPU), peak = tic_model_bytes(p) + arena;
    int64_t on_gpu = tic_step_bytes(p, size, TIC_CUDA);
    if (json) {
        fprintf(out, "{\"model\": \"%s\", \"target\": \"%s\", \"batch\": %lld, \"micro\": %lld, \"tensors\": %u, \"parameters\": %lld, "
                "\"forward_flops_per_pair\": %.0f, \"step_flops\": %lld, \"peak_bytes\": %lld, \"arena_bytes\": %lld, "
                "\"kernels\": %d, \"distinct_kernels\": %u, \"launches\": %u",
                tic_text(p, p->model), tic_text(p, p->target), (long long)batch, (long long)size.micro, p->n_params, (long long)params,
                step->forward_flops_per_pair, (long long)flops, (long long)peak, (long long)arena, kernels, p->n_distinct, step->n_launch);
        if (on_gpu >= 0)
            fprintf(out, ", \"gpu_peak_bytes\": %lld, \"gpu_arena_bytes\": %lld", (long long)(tic_model_bytes(p) + on_gpu), (long long)on_gpu);
        fputs("}\n", out);
        return TIC_OK;
    }
    fprintf(out, "model       %s, compiled by ticc %s for %s\n", tic_text(p, p->model), tic_text(p, p->version), tic_text(p, p->target));
    fprintf(out, "parameters  %u tensors, %lld parameters\n", p->n_params, (long long)params);
    fprintf(out, "forward     %.2f GFLOP per pair\n", step->forward_flops_per_pair * 1e-9);
    bool large = flops >= 100000000000;
    fprintf(out, "step        %.2f %s at batch %lld, %d kernels (%u distinct) in %u launches:", (double)flops * (large ? 1e-12 : 1e-9),
            large ? "TFLOP" : "GFLOP", (long long)batch, kernels, p->n_distinct, step->n_launch);
    for (uint32_t i = 0, shown = 0; i < p->n_class_names && i < TIC_LEN(count); i++)
        if (count[i])
            fprintf(out, "%s %d %s", shown++ ? "," : "", count[i], tic_text(p, class_name[i]));
    if (size.micro)
        fprintf(out, "\npieces      %lld of %lld pairs: features of all, the loss, then the gradient of each", (long long)(batch / size.micro),
                (long long)size.micro);
    fprintf(out, "\nmemory      %.3f GB at batch %lld: parameters %.3f, optimiser %.3f, activations and gradients %.3f\n",
            (double)peak * 1e-9, (long long)batch, (double)params * 4e-9, (double)states * 4e-9, (double)arena * 1e-9);
    if (on_gpu >= 0)
        fprintf(out, "on a GPU    %.3f GB: activations and gradients %.3f\n", (double)(tic_model_bytes(p) + on_gpu) * 1e-9, (double)on_gpu * 1e-9);
    return TIC_OK;
}
