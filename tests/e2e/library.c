/* library.c -- uses a library that ticc made, from several threads: LIBRARY is linked or opened by nobody but this program.
 *
 *     library CHECKPOINT IMAGE CAPTION     prints the bits of the features, a number a line, image then text
 */
#include "clip.h"
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 4, ROUNDS = 8 };

typedef struct { Clip *clip; const char *image, *caption; float *u, *v; int failed; } Job;

static void *work(void *argument)
{
    Job *j = argument;
    size_t n = (size_t)clip_width(j->clip);
    float *u = malloc(n * sizeof *u), *v = malloc(n * sizeof *v);
    for (int i = 0; i < ROUNDS; i++) {
        j->failed |= clip_encode_image_file(j->clip, j->image, u) || clip_encode_text(j->clip, j->caption, v);
        j->failed |= memcmp(u, j->u, n * sizeof *u) || memcmp(v, j->v, n * sizeof *v);
        j->failed |= !clip_encode_image_file(j->clip, "/nowhere.png", u) || !strstr(clip_error(), "/nowhere.png");
    }
    free(u);
    free(v);
    return NULL;
}

static void print_bits(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    printf("0x%08x\n", (unsigned)bits);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    if (clip_load("/nowhere.pt", NULL, 0) || !strstr(clip_error(), "/nowhere.pt") || clip_load(NULL, NULL, 0))
        return 3;
    Clip *c = clip_load(argv[1], NULL, 0), *other = clip_load(argv[1], NULL, 1);
    if (!c || !other) {
        fprintf(stderr, "%s\n", clip_error());
        return 1;
    }
    size_t n = (size_t)clip_width(c);
    float *u = malloc(n * sizeof *u), *v = malloc(n * sizeof *v);
    if (clip_encode_image_file(c, argv[2], u) || clip_encode_text(c, argv[3], v) || *clip_error()) {
        fprintf(stderr, "%s\n", clip_error());
        return 1;
    }
    if (!clip_encode_image(c, "no picture", 10, u) || !strstr(clip_error(), "the picture"))
        return 4;
    if (clip_encode_image_file(c, argv[2], u))
        return 1;
    if (!clip_encode_tokens(c, &(int32_t[77]){ 999999 }[0], 1, v) || clip_encode_text(c, argv[3], v))
        return 5;
    if (!clip_encode_text(c, NULL, v) || !clip_encode_image_file(c, NULL, u) || !clip_encode_image(c, NULL, 1, u) ||
        !clip_encode_text(NULL, argv[3], v) || !clip_encode_text(c, argv[3], NULL) || !strstr(clip_error(), "null pointer") ||
        !clip_encode_tokens(c, &(int32_t[77]){ 0 }[0], -1, v) || clip_encode_tokens(c, &(int32_t[77]){ 0 }[0], 0, v))
        return 8;
    pthread_t thread[THREADS];
    Job job[THREADS];
    for (int i = 0; i < THREADS; i++) {
        job[i] = (Job){ i % 2 ? other : c, argv[2], argv[3], u, v, 0 };
        if (pthread_create(&thread[i], NULL, work, &job[i]))
            return 6;
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(thread[i], NULL);
        if (job[i].failed)
            return 7;
    }
    for (size_t i = 0; i < n; i++)
        print_bits(u[i]);
    for (size_t i = 0; i < n; i++)
        print_bits(v[i]);
    free(u);
    free(v);
    clip_free(c);
    clip_free(other);
    return 0;
}
