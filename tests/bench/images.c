/* images.c -- the picture pipeline by itself, for tests/bench/images.py: how long one core takes from a JPEG in memory to the
 * normalised square of a batch.
 *
 *     bench_images FILE...        answers each line "train", "train scaled", "eval" with a round over all files: the time in
 *                                 microseconds a picture */
#include "data/loader.h"
#include "data/picture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { char *bytes; size_t n; } File;

static TicStatus run(TicPicture *p, const File *file, int n, const TicCrop *crop, uint64_t round, float *out)
{
    for (int i = 0; i < n; i++)
        TRY(tic_picture_square(p, (const uint8_t *)file[i].bytes, file[i].n, crop, tic_random(0, round, (uint64_t)i), out));
    return TIC_OK;
}

int main(int argc, char **argv)
{
    int files = argc - 1;
    char mode[32];
    File *file = tic_alloc((size_t)(files + 1) * sizeof *file);
    TicLoaderConfig c;
    TicPicture p;
    TicStatus status = TIC_OK;
    tic_loader_defaults(&c);
    float *out = tic_alloc(3 * (size_t)c.image_size * (size_t)c.image_size * sizeof *out);
    tic_picture_init(&p, c.image_size, c.mean, c.std);
    for (int i = 0; i < files && !status; i++)
        status = tic_read_file(argv[i + 1], TIC_MAX_MEMBER, &file[i].bytes, &file[i].n);
    for (uint64_t round = 0; !status && files && fgets(mode, sizeof mode, stdin); round++) {
        p.scaled = strstr(mode, "scaled") != NULL;
        double start = tic_now();
        status = run(&p, file, files, *mode == 't' ? &c.crop : NULL, round, out);
        printf("%.1f\n", 1e6 * (tic_now() - start) / files);
        fflush(stdout);
    }
    if (status)
        fprintf(stderr, "%s\n", tic_error());
    tic_picture_free(&p);
    for (int i = 0; i < files; i++)
        free(file[i].bytes);
    free(file);
    free(out);
    return status ? 1 : 0;
}
