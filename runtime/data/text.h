/* text.h -- a caption as it was scraped to the text that CLIP's tokenizer splits.
 *
 * The steps are those of OpenCLIP: ftfy.fix_text, HTML references decoded twice, white space collapsed to single
 * spaces and stripped, lower case. Of ftfy everything is done that shows in well-formed text: references (unless the
 * line, or one before it, has a '<'), C1 controls read as Windows-1252, Latin ligatures, full and half width, curly
 * quotes, line breaks, terminal escapes, control characters, NFC, repeated until nothing changes. Not done: the repair
 * of text that was decoded with the wrong encoding ("naÃ¯ve"), a heuristic that concerns few captions. */
#ifndef TIC_DATA_TEXT_H
#define TIC_DATA_TEXT_H
#include "data/unicode.h"

/* Captions are read up to this many bytes; what follows could not reach the 77 tokens anyway. */
enum { TIC_MAX_CAPTION = 1 << 16 };

/* Appends the cleaned text of `size` bytes of UTF-8; invalid bytes count as U+FFFD. */
void tic_clean_caption(const char *utf8, size_t size, TicText *clean);
#endif
