/* classify.c -- see infer.h. */
#include "infer/infer.h"
#include "data/json.h"
#include "infer/encoder.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool is_file(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISREG(st.st_mode);
}

/* 100 u v of one image and all labels, then softmax; `p` [labels]. */
static void probabilities(const float *image, const float *labels, int n, int64_t width, double *p)
{
    double most = -INFINITY, sum = 0;
    for (int k = 0; k < n; k++) {
        double dot = 0;
        for (int64_t i = 0; i < width; i++)
            dot += (double)image[i] * (double)labels[k * width + i];
        p[k] = 100 * dot;
        most = fmax(most, p[k]);
    }
    for (int k = 0; k < n; k++)
        sum += p[k] = exp(p[k] - most);
    for (int k = 0; k < n; k++)
        p[k] /= sum;
}

static void print_json_text(FILE *out, const char *s)
{
    char *quoted = tic_json_quote(s, strlen(s));
    fputs(quoted, out);
    free(quoted);
}

static void print_json(FILE *out, const char *image, const char *const *label, const double *p, int n, bool first)
{
    fprintf(out, "%s\n  {\"image\": ", first ? "[" : ",");
    print_json_text(out, image);
    fprintf(out, ", \"labels\": [");
    for (int k = 0; k < n; k++) {
        fprintf(out, "%s{\"label\": ", k ? ", " : "");
        print_json_text(out, label[k]);
        fprintf(out, ", \"probability\": %.9g}", p[k]);
    }
    fprintf(out, "]}");
}

static void print_text(FILE *out, const char *image, const char *const *label, const double *p, int n)
{
    fprintf(out, "%s\n", image);
    for (int k = 0; k < n; k++)
        fprintf(out, "  %8.6f  %s\n", p[k], label[k]);
}

static TicStatus encode_words(TicEncoder *e, const char *const *image, int n_image, const char *const *label, int n_label, float *u, float *v)
{
    uint8_t *planes = tic_alloc((size_t)(n_image * tic_encoder_pixels(e)));
    int32_t *tokens = tic_alloc((size_t)n_label * (size_t)tic_encoder_context(e) * sizeof *tokens);
    TicStatus status = TIC_OK;
    for (int i = 0; i < n_image && !status; i++)
        status = tic_encoder_picture_file(e, image[i], planes + i * tic_encoder_pixels(e));
    for (int k = 0; k < n_label; k++)
        tic_encoder_caption(e, label[k], strlen(label[k]), tokens + k * tic_encoder_context(e));
    if (!status)
        status = tic_encoder_images(e, planes, n_image, u);
    if (!status)
        status = tic_encoder_texts(e, tokens, n_label, v);
    free(planes);
    free(tokens);
    return status;
}

TicStatus tic_classify(const TicProgram *program, const TicKernel *kernels, const TicClassifyOptions *o, const char *const *word, int n, FILE *out)
{
    int images = (int)o->images;
    if (!o->ckpt)
        return tic_fail(TIC_USER, "--ckpt: no checkpoint given");
    while (!o->images && images < n && is_file(word[images]))
        images++;
    if (n && !images)
        return tic_fail(TIC_USER, "%s: no such file; an image comes first, then labels", word[0]);
    if (images >= n || !images)
        return tic_fail(TIC_USER, "found %d word%s, wanted an image and at least one label%s", n, n == 1 ? "" : "s",
                        n > 1 ? "; --images N says how many of the words are images" : "");
    TicEncoder *e;
    int labels = n - images;
    TicEncoderOptions eo = { .ckpt = o->ckpt, .vocab = o->vocab, .threads = (int)o->threads };
    TRY(tic_encoder_open(program, kernels, &eo, &e));
    int64_t width = tic_encoder_width(e);
    float *u = tic_alloc((size_t)(images * width) * sizeof *u), *v = tic_alloc((size_t)(labels * width) * sizeof *v);
    double *p = tic_alloc((size_t)labels * sizeof *p);
    if (tic_encoder_is_fallback(e))
        fprintf(stderr, "no vocabulary found (--vocab, or `make vocab`): labels are spelled byte by byte, which no published checkpoint expects\n");
    TicStatus status = encode_words(e, word, images, word + images, labels, u, v);
    for (int i = 0; i < images && !status; i++) {
        probabilities(u + i * width, v, labels, width, p);
        if (o->json)
            print_json(out, word[i], word + images, p, labels, i == 0);
        else
            print_text(out, word[i], word + images, p, labels);
    }
    if (o->json && !status)
        fprintf(out, "\n]\n");
    free(u);
    free(v);
    free(p);
    tic_encoder_close(e);
    return status;
}
