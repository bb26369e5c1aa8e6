/* bpe.h -- CLIP's tokenizer: a caption to 77 token numbers.
 *
 * Vocabulary: 256 bytes, the same 256 ending a word, 48,894 merges in order of rank, then start (49406) and end
 * (49407). The merges come from bpe_simple_vocab_16e6.txt, plain or gzipped, which users have with OpenCLIP. Without
 * it a word is spelled by its bytes; the numbers keep their meaning but no trained checkpoint expects that spelling,
 * so tic_bpe_is_fallback lets the caller say so.
 *
 * A caption is cleaned (text.h), split into special tokens, contractions ('s 't 're 've 'm 'll 'd), runs of letters,
 * single digits, and runs of anything else; each piece starts as bytes and the adjacent pair of lowest rank is merged
 * until none is left. Byte-pair encoding: Sennrich et al. 2016. */
#ifndef TIC_DATA_BPE_H
#define TIC_DATA_BPE_H
#include "base.h"

enum { TIC_VOCABULARY = 49408, TIC_TOKEN_START = 49406, TIC_TOKEN_END = 49407, TIC_CONTEXT = 77 };

typedef struct TicBpe TicBpe;      /* read-only after it is made: any number of threads may use it */

/* path NULL: $TICC_VOCAB, else where `make vocab` puts it (~/.cache/ticc), else the byte fallback. TIC_USER when the file is missing or is no CLIP vocabulary. */
TicStatus tic_bpe_open(const char *path, TicBpe **out);
void tic_bpe_close(TicBpe *b);
bool tic_bpe_is_fallback(const TicBpe *b);
const char *tic_bpe_path(const TicBpe *b);         /* the file that was read; NULL: the fallback */

/* Writes start, the caption's tokens, end, and zeros to tokens [context], context >= 2; a caption too long loses its
 * tail but keeps the end token. Returns how many are not padding. */
int tic_bpe_encode(const TicBpe *b, const char *utf8, size_t size, int context, int32_t *tokens);
#endif
