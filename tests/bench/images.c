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

/* Where a picture goes on its way to `to`. */
typedef struct { TicPicture picture; float table[3][256]; uint8_t *planes; TicBatch to; } Way;

static TicStatus run(Way *w, const File *file, int n, const TicCrop *crop, uint64_t round)
{
    for (int i = 0; i < n; i++) {
        TRY(tic_picture_square(&w->picture, (const uint8_t *)file[i].bytes, file[i].n, crop, tic_random(0, round, (uint64_t)i), w->planes));
        tic_batch_pictures(w->to, w->table, w->planes, 1, w->picture.size, 0);
    }
    return TIC_OK;
}

int main(int argc, char **argv)
{
    int files = argc - 1;
    char mode[32];
    File *file = tic_alloc((size_t)(files + 1) * sizeof *file);
    TicLoaderConfig c;
    Way w;
    TicStatus status = TIC_OK;
    tic_loader_defaults(&c);
    size_t values = 3 * (size_t)c.image_size * (size_t)c.image_size;
    w.planes = tic_alloc(values);
    w.to = (TicBatch){ .pixels = tic_alloc(values * sizeof(float)) };
    tic_normalise_table(c.mean, c.std, w.table);
    tic_picture_init(&w.picture, c.image_size);
    for (int i = 0; i < files && !status; i++)
        status = tic_read_file(argv[i + 1], TIC_MAX_MEMBER, &file[i].bytes, &file[i].n);
    for (uint64_t round = 0; !status && files && fgets(mode, sizeof mode, stdin); round++) {
        w.picture.scaled = strstr(mode, "scaled") != NULL;
        double start = tic_now();
        status = run(&w, file, files, *mode == 't' ? &c.crop : NULL, round);
        printf("%.1f\n", 1e6 * (tic_now() - start) / files);
        fflush(stdout);
    }
    if (status)
        fprintf(stderr, "%s\n", tic_error());
    tic_picture_free(&w.picture);
    for (int i = 0; i < files; i++)
        free(file[i].bytes);
    free(file);
    free(w.planes);
    free(w.to.pixels);
    return status ? 1 : 0;
}
