/* score.h -- inside the CPU back end: the products of a SCORE kernel, one block of rows at a time.
 *
 * What is multiplied by, b, is packed into slices of at most NV vectors of columns. Their widths differ by at most one
 * vector, since a tile one vector wide waits for its loads: four vectors are two slices of two, not three and one. */
#ifndef CPU_SCORE_H
#define CPU_SCORE_H
#include "cpu/contract.h"

typedef struct Cut { int64_t slices, wide, first; } Cut;         /* `first` slices of `wide` vectors, the others of one less */
Cut     cut_columns(int64_t columns, int lanes);
int64_t cut_slice(int64_t terms, int lanes);                     /* elements from slice to slice */
V       cut_before(Gen *g, const Cut *c, V slice);               /* vectors before a slice, and in it */
V       cut_width(Gen *g, const Cut *c, V slice);

/* Beyond a row's reach there is nothing: at column n of row m, where n > m + reach, scores are 0 to whoever sums them. Tiles
 * of scores leave such columns out, rounded up to whole tiles: row m of a block counts columns below reach_columns. */
V reach_columns(Gen *g, V row, V reach);

/* void (terms, rows, a, stride, slices, elements of a slice, number of slices, wide, first, c, cs, more, scale, reach):
 *
 *     c[row][column] (+)= scale * sum over terms of a * b      rows 0 .. rows - 1, cs elements apart, whole vectors of columns
 *
 *     SCORES     a[row * stride + term]; columns within the row's reach alone
 *     ALONG_N    a[row * stride + term]; terms (columns of scores) within its reach
 *     ALONG_M    a[term * stride + row]: a row here is a column of scores, a term their row, and counts if it reaches that far
 *
 * a is read up to the end of the last tile of rows (ALONG_M), or no further than the last row. more: not 0: adds to c. */
typedef enum { SCORES, ALONG_N, ALONG_M } ScoreProduct;
V part_score_product(Low *l, ScoreProduct kind);
#endif
