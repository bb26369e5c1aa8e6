/* npy.h -- rows of float32 to NumPy's format 1.0, written as they come; the number of rows is filled in at the end. */
#ifndef TIC_INFER_NPY_H
#define TIC_INFER_NPY_H
#include "base.h"
#include <stdio.h>

typedef struct {
    FILE *file;                    /* writes to fd */
    int fd;
    char *path, *tmp;
    int64_t rows, width;
} TicNpy;

/* Begins a temporary file (base.h). TIC_IO, here and below, when the system refuses; then only tic_npy_abandon is left to do. */
TicStatus tic_npy_open(TicNpy *n, const char *path, int64_t width);
TicStatus tic_npy_add(TicNpy *n, const float *rows, int64_t count);        /* [count, width] */
/* After the last row: what is there is in the temporary file, so a full disk shows before any file of a set is replaced. */
TicStatus tic_npy_flush(TicNpy *n);
TicStatus tic_npy_commit(TicNpy *n);                                       /* becomes PATH; ends the writer either way */
void tic_npy_abandon(TicNpy *n);                                           /* harmless on one that has ended or never began */
#endif
