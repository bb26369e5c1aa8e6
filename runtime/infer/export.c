/* export.c -- see infer.h. What a configuration says beyond shapes (heads, the activation) is read from the program's own
 * source: `heads = 12` in the call of each tower, `quick_gelu`; without it heads are 64 wide, as in all of OpenCLIP's. */
#include "infer/infer.h"
#include "ckpt/checkpoint.h"
#include "ckpt/hf.h"
#include "ckpt/safetensors.h"
#include "device/exec.h"
#include "train/files.h"
#include <stdlib.h>
#include <string.h>

typedef struct {
    const TicProgram *program;
    TicModel *model;
    const char *folder;
    FILE *log;
} Export;

typedef struct { int64_t width, layers, heads, mlp; } Tower;
typedef struct { Tower image, text; int64_t embed, patch, size, context, vocab; bool quick; double mean[3], std[3]; } Config;

/* ---- what the model is, from its parameters */

static const TicParam *find(const TicModel *m, const char *name)
{
    for (int i = 0; i < m->n_params; i++)
        if (!strcmp(tic_text(m->program, m->params[i].name), name))
            return &m->params[i];
    return NULL;
}

static int64_t extent(const TicModel *m, const char *name, int axis)
{
    const TicParam *p = find(m, name);
    return p && axis < p->rank ? p->shape[axis] : 0;
}

static int64_t heads_in_source(const TicProgram *p, const char *call)
{
    const char *at = strstr(tic_text(p, p->source), call);
    at = at ? strstr(at, "heads = ") : NULL;
    return at ? strtoll(at + strlen("heads = "), NULL, 10) : 0;
}

static Tower tower(const TicModel *m, const char *prefix, const char *call)
{
    Tower t = { 0 };
    for (;; t.layers++) {
        char *name = tic_format("%stransformer.resblocks.%lld.mlp.c_fc.weight", prefix, (long long)t.layers);
        const TicParam *p = find(m, name);
        free(name);
        if (!p)
            break;
        t.mlp = p->shape[0];
        t.width = p->shape[1];
    }
    t.heads = heads_in_source(m->program, call);
    if (t.heads < 1 || t.width % t.heads)
        t.heads = t.width / 64;
    return t;
}

static TicStatus configure(const TicModel *m, Config *c)
{
    const TicProgram *p = m->program;
    *c = (Config){ .image = tower(m, "visual.", "vision_transformer("), .text = tower(m, "", "text_transformer("),
                   .embed = extent(m, "visual.proj", 1), .patch = extent(m, "visual.conv1.weight", 2), .size = p->image_size,
                   .context = p->context, .vocab = extent(m, "token_embedding.weight", 0),
                   .quick = strstr(tic_text(p, p->source), "= quick_gelu") != NULL };
    memcpy(c->mean, p->mean, sizeof c->mean);
    memcpy(c->std, p->std, sizeof c->std);
    if (!c->image.layers || !c->text.layers || !c->embed || !c->patch || !c->vocab)
        return tic_fail(TIC_USER, "the model is not a CLIP of two transformers: no configuration describes it");
    return TIC_OK;
}

/* ---- configuration files */

static TicStatus write_text(const Export *x, const char *name, char *text, size_t size)
{
    char *path = tic_format("%s/%s", x->folder, name);
    TicStatus status = tic_write_file(path, text, size);
    if (!status)
        fprintf(x->log, "%s\n", path);
    free(path);
    free(text);
    return status;
}

static TicStatus write_open_clip_config(const Export *x, const Config *c)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    fprintf(f, "{\n  \"model_cfg\": {\n    \"embed_dim\": %lld,\n", (long long)c->embed);
    if (c->quick)
        fprintf(f, "    \"quick_gelu\": true,\n");
    if (find(x->model, "logit_bias"))
        fprintf(f, "    \"init_logit_bias\": -10,\n");
    fprintf(f, "    \"vision_cfg\": {\"image_size\": %lld, \"layers\": %lld, \"width\": %lld, \"head_width\": %lld, \"mlp_ratio\": %g, \"patch_size\": %lld},\n",
            (long long)c->size, (long long)c->image.layers, (long long)c->image.width, (long long)(c->image.width / c->image.heads),
            (double)c->image.mlp / (double)c->image.width, (long long)c->patch);
    fprintf(f, "    \"text_cfg\": {\"context_length\": %lld, \"vocab_size\": %lld, \"width\": %lld, \"heads\": %lld, \"layers\": %lld, \"mlp_ratio\": %g}\n  },\n",
            (long long)c->context, (long long)c->vocab, (long long)c->text.width, (long long)c->text.heads, (long long)c->text.layers,
            (double)c->text.mlp / (double)c->text.width);
    fprintf(f, "  \"preprocess_cfg\": {\"mean\": [%.9g, %.9g, %.9g], \"std\": [%.9g, %.9g, %.9g], \"interpolation\": \"bicubic\", \"resize_mode\": \"shortest\"}\n}\n",
            c->mean[0], c->mean[1], c->mean[2], c->std[0], c->std[1], c->std[2]);
    fclose(f);
    return write_text(x, "open_clip_config.json", text, size);
}

static void hf_tower(FILE *f, const char *name, const char *type, const Tower *t, const Config *c)
{
    fprintf(f, "  \"%s\": {\"model_type\": \"%s\", \"hidden_size\": %lld, \"intermediate_size\": %lld, \"num_hidden_layers\": %lld, "
            "\"num_attention_heads\": %lld, \"hidden_act\": \"%s\", \"layer_norm_eps\": 1e-05, \"projection_dim\": %lld, ",
            name, type, (long long)t->width, (long long)t->mlp, (long long)t->layers, (long long)t->heads, c->quick ? "quick_gelu" : "gelu",
            (long long)c->embed);
}

static TicStatus write_hf_config(const Export *x, const Config *c)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    fprintf(f, "{\n  \"architectures\": [\"CLIPModel\"],\n  \"model_type\": \"clip\",\n  \"projection_dim\": %lld,\n"
            "  \"logit_scale_init_value\": 2.6592,\n  \"torch_dtype\": \"float32\",\n", (long long)c->embed);
    hf_tower(f, "text_config", "clip_text_model", &c->text, c);
    fprintf(f, "\"max_position_embeddings\": %lld, \"vocab_size\": %lld, \"bos_token_id\": 49406, \"eos_token_id\": 49407},\n",
            (long long)c->context, (long long)c->vocab);
    hf_tower(f, "vision_config", "clip_vision_model", &c->image, c);
    fprintf(f, "\"image_size\": %lld, \"patch_size\": %lld, \"num_channels\": 3}\n}\n", (long long)c->size, (long long)c->patch);
    fclose(f);
    TRY(write_text(x, "config.json", text, size));
    f = open_memstream(&text, &size);
    fprintf(f, "{\n  \"image_processor_type\": \"CLIPImageProcessor\", \"feature_extractor_type\": \"CLIPFeatureExtractor\",\n"
            "  \"do_resize\": true, \"size\": {\"shortest_edge\": %lld}, \"resample\": 3, \"do_center_crop\": true,\n"
            "  \"crop_size\": {\"height\": %lld, \"width\": %lld}, \"do_convert_rgb\": true, \"do_rescale\": true, \"do_normalize\": true,\n"
            "  \"image_mean\": [%.9g, %.9g, %.9g], \"image_std\": [%.9g, %.9g, %.9g]\n}\n", (long long)c->size, (long long)c->size,
            (long long)c->size, c->mean[0], c->mean[1], c->mean[2], c->std[0], c->std[1], c->std[2]);
    fclose(f);
    return write_text(x, "preprocessor_config.json", text, size);
}

/* ---- tensors */

static TicNamedTensor *own_tensors(const TicModel *m, int *n)
{
    TicNamedTensor *t = tic_alloc((size_t)m->n_params * sizeof *t);
    for (int i = 0; i < m->n_params; i++) {
        t[i] = (TicNamedTensor){ .name = tic_text(m->program, m->params[i].name), .rank = m->params[i].rank, .data = m->param[i] };
        memcpy(t[i].shape, m->params[i].shape, sizeof t[i].shape);
    }
    *n = m->n_params;
    return t;
}

typedef struct { TicNamedTensor *tensor; TicHfNames *names; float **copy; int n; } Pieces;

static void pieces_free(Pieces *p, int params)
{
    for (int i = 0; i < params; i++)
        free(p->copy[i]);
    free(p->copy);
    free(p->names);
    free(p->tensor);
}

static TicStatus hf_tensors(const TicModel *m, Pieces *p)
{
    *p = (Pieces){ .tensor = tic_alloc((size_t)m->n_params * TIC_HF_PARTS * sizeof *p->tensor),
                   .names = tic_alloc((size_t)m->n_params * sizeof *p->names), .copy = tic_alloc((size_t)m->n_params * sizeof *p->copy) };
    for (int i = 0; i < m->n_params; i++) {
        const TicParam *from = &m->params[i];
        TicHfNames *names = &p->names[i];
        if (!tic_hf_from_openclip(tic_text(m->program, from->name), names))
            return tic_fail(TIC_USER, "parameter %s: CLIPModel of transformers has none like it", tic_text(m->program, from->name));
        const float *data = m->param[i];
        int64_t rows = from->rank ? from->shape[0] : 1, columns = from->rank > 1 ? from->shape[1] : 1;
        if (names->transposed) {
            p->copy[i] = tic_alloc((size_t)from->count * sizeof(float));
            for (int64_t r = 0; r < rows; r++)
                for (int64_t k = 0; k < columns; k++)
                    p->copy[i][k * rows + r] = data[r * columns + k];
            data = p->copy[i];
        }
        for (int k = 0; k < names->parts; k++) {
            TicNamedTensor *t = &p->tensor[p->n++];
            *t = (TicNamedTensor){ .name = names->name[k], .rank = from->rank, .data = data + from->count / names->parts * k };
            memcpy(t->shape, from->shape, sizeof t->shape);
            t->shape[0] = names->transposed ? columns : from->shape[0] / names->parts;
            if (names->transposed)
                t->shape[1] = rows;
        }
    }
    return TIC_OK;
}

static TicStatus write_tensors(const Export *x, const char *name, bool torch, const TicNamedTensor *t, int n)
{
    char *path = tic_format("%s/%s", x->folder, name);
    TicCheckpointContents c = { .bare = true, .tensor = t, .n_tensors = n };
    TicStatus status = torch ? tic_checkpoint_write(path, &c) : tic_safetensors_write(path, t, n, NULL, 0);
    if (!status)
        fprintf(x->log, "%s\n", path);
    free(path);
    return status;
}

static TicStatus write_all(const Export *x, const char *to)
{
    Config c;
    TRY(configure(x->model, &c));
    if (strcmp(to, "hf")) {
        bool torch = !strcmp(to, "pt");
        int n;
        TicNamedTensor *t = own_tensors(x->model, &n);
        TicStatus status = write_tensors(x, torch ? "open_clip_pytorch_model.bin" : "open_clip_model.safetensors", torch, t, n);
        free(t);
        return status ? status : write_open_clip_config(x, &c);
    }
    Pieces p;
    TicStatus status = hf_tensors(x->model, &p);
    if (!status)
        status = write_tensors(x, "model.safetensors", false, p.tensor, p.n);
    pieces_free(&p, x->model->n_params);
    return status ? status : write_hf_config(x, &c);
}

TicStatus tic_export(const TicProgram *p, const TicKernel *kernels, const char *ckpt, const char *to, const char *out, FILE *log)
{
    Export x = { .program = p, .folder = out, .log = log };
    if (!ckpt)
        return tic_fail(TIC_USER, "--ckpt: no checkpoint given");
    if (!out)
        return tic_fail(TIC_USER, "--out: no folder given");
    if (!to || (strcmp(to, "safetensors") && strcmp(to, "pt") && strcmp(to, "hf")))
        return tic_fail(TIC_USER, "--to: found `%s`, wanted safetensors, pt or hf", to ? to : "nothing");
    TRY(tic_model_new(p, kernels, &x.model));
    TicStatus status = tic_load_weights(x.model, ckpt);
    if (!status)
        status = tic_make_dirs(out);
    if (!status)
        status = write_all(&x, to);
    tic_model_free(x.model);
    return status;
}
