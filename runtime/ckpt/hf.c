/* hf.c -- see hf.h. Two tables, read in both directions: whole names, and the tails of names within a layer. */
#include "ckpt/hf.h"
#include <stdio.h>
#include <string.h>

static const struct { const char *ours, *theirs; bool transposed; } whole[] = {
    { "positional_embedding", "text_model.embeddings.position_embedding.weight", false },
    { "text_projection", "text_projection.weight", true },
    { "logit_scale", "logit_scale", false },
    { "token_embedding.weight", "text_model.embeddings.token_embedding.weight", false },
    { "ln_final.weight", "text_model.final_layer_norm.weight", false },
    { "ln_final.bias", "text_model.final_layer_norm.bias", false },
    { "visual.class_embedding", "vision_model.embeddings.class_embedding", false },
    { "visual.positional_embedding", "vision_model.embeddings.position_embedding.weight", false },
    { "visual.proj", "visual_projection.weight", true },
    { "visual.conv1.weight", "vision_model.embeddings.patch_embedding.weight", false },
    { "visual.ln_pre.weight", "vision_model.pre_layrnorm.weight", false },      /* their spelling */
    { "visual.ln_pre.bias", "vision_model.pre_layrnorm.bias", false },
    { "visual.ln_post.weight", "vision_model.post_layernorm.weight", false },
    { "visual.ln_post.bias", "vision_model.post_layernorm.bias", false },
};

static const struct { const char *ours, *theirs; } tower[] = {
    { "visual.transformer.resblocks.", "vision_model.encoder.layers." },
    { "transformer.resblocks.", "text_model.encoder.layers." },
};

static const struct { const char *ours, *theirs[TIC_HF_PARTS]; } tail[] = {
    { "ln_1.weight", { "layer_norm1.weight" } },
    { "ln_1.bias", { "layer_norm1.bias" } },
    { "attn.in_proj_weight", { "self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight" } },
    { "attn.in_proj_bias", { "self_attn.q_proj.bias", "self_attn.k_proj.bias", "self_attn.v_proj.bias" } },
    { "attn.out_proj.weight", { "self_attn.out_proj.weight" } },
    { "attn.out_proj.bias", { "self_attn.out_proj.bias" } },
    { "ln_2.weight", { "layer_norm2.weight" } },
    { "ln_2.bias", { "layer_norm2.bias" } },
    { "mlp.c_fc.weight", { "mlp.fc1.weight" } },
    { "mlp.c_fc.bias", { "mlp.fc1.bias" } },
    { "mlp.c_proj.weight", { "mlp.fc2.weight" } },
    { "mlp.c_proj.bias", { "mlp.fc2.bias" } },
};

/* "PREFIX12.TAIL": the length of the number, and where the tail begins; 0 when it is not of this form. */
static size_t layer_number(const char *name, const char *prefix, const char **number, const char **rest)
{
    size_t n = strlen(prefix);
    if (strncmp(name, prefix, n))
        return 0;
    *number = name + n;
    size_t digits = strspn(*number, "0123456789");
    *rest = *number + digits + 1;
    return digits && digits < 6 && (*number)[digits] == '.' ? digits : 0;
}

bool tic_hf_from_openclip(const char *name, TicHfNames *out)
{
    const char *number, *rest;
    *out = (TicHfNames){ .parts = 1 };
    for (size_t i = 0; i < TIC_LEN(whole); i++)
        if (!strcmp(name, whole[i].ours)) {
            snprintf(out->name[0], TIC_HF_NAME, "%s", whole[i].theirs);
            out->transposed = whole[i].transposed;
            return true;
        }
    for (size_t t = 0; t < TIC_LEN(tower); t++) {
        size_t digits = layer_number(name, tower[t].ours, &number, &rest);
        for (size_t i = 0; digits && i < TIC_LEN(tail); i++) {
            if (strcmp(rest, tail[i].ours))
                continue;
            out->parts = tail[i].theirs[1] ? TIC_HF_PARTS : 1;
            for (int k = 0; k < out->parts; k++)
                snprintf(out->name[k], TIC_HF_NAME, "%s%.*s.%s", tower[t].theirs, (int)digits, number, tail[i].theirs[k]);
            return true;
        }
    }
    return false;
}

bool tic_hf_to_openclip(const char *name, char out[TIC_HF_NAME], int *part, bool *transposed)
{
    const char *number, *rest;
    *part = 0;
    *transposed = false;
    for (size_t i = 0; i < TIC_LEN(whole); i++)
        if (!strcmp(name, whole[i].theirs)) {
            snprintf(out, TIC_HF_NAME, "%s", whole[i].ours);
            *transposed = whole[i].transposed;
            return true;
        }
    for (size_t t = 0; t < TIC_LEN(tower); t++) {
        size_t digits = layer_number(name, tower[t].theirs, &number, &rest);
        for (size_t i = 0; digits && i < TIC_LEN(tail); i++)
            for (int k = 0; k < TIC_HF_PARTS && tail[i].theirs[k]; k++)
                if (!strcmp(rest, tail[i].theirs[k])) {
                    snprintf(out, TIC_HF_NAME, "%s%.*s.%s", tower[t].ours, (int)digits, number, tail[i].ours);
                    *part = k;
                    return true;
                }
    }
    return false;
}
