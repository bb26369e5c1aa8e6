/* unicode.h -- what the tokenizer knows of characters: classes, lower case, canonical composition (NFC), and the
 * named character references of HTML. Tables in unicode_tables.c and html_tables.c; no locale is consulted, so the
 * same text gives the same tokens everywhere. Rules: the Unicode Standard, chapters 3.11 (normalisation) and 3.13
 * (lower case with its one context, the final sigma). */
#ifndef TIC_DATA_UNICODE_H
#define TIC_DATA_UNICODE_H
#include "base.h"

typedef struct { uint32_t first, last; } TicRange;
typedef struct { uint32_t first, last; int32_t step, delta; } TicCaseRun;
typedef struct { uint32_t first, last, combining; } TicClassRange;
typedef struct { uint32_t whole, a, b; } TicPair;
typedef struct { const char *name; uint32_t a, b; int bare; } TicEntity;

extern const TicRange tic_unicode_letters[], tic_unicode_numbers[], tic_unicode_cased[], tic_unicode_ignorable[];
extern const int tic_unicode_letters_count, tic_unicode_numbers_count, tic_unicode_cased_count,
    tic_unicode_ignorable_count;
extern const TicCaseRun tic_unicode_lower[];
extern const int tic_unicode_lower_count;
extern const TicClassRange tic_unicode_classes[];
extern const int tic_unicode_classes_count;
extern const TicPair tic_unicode_pairs[];
extern const int tic_unicode_pairs_count;
extern const uint16_t tic_unicode_compose[];
extern const int tic_unicode_compose_count;
extern const uint16_t tic_unicode_width[240];
extern const uint16_t tic_windows_1252[32];
extern const TicEntity tic_html_entities[];
extern const int tic_html_entities_count;

/* A growing text of code points. */
typedef struct {
    uint32_t *c;                   /* [n] */
    size_t n, room;
} TicText;                         /* { 0 } is the empty text */

void tic_text_put(TicText *t, uint32_t c);
void tic_text_free(TicText *t);

bool tic_is_letter(uint32_t c);    /* general category L, or U+0345 (a matcher that ignores case takes it for a letter) */
bool tic_is_number(uint32_t c);    /* general category N */
bool tic_is_space(uint32_t c);     /* what Python's str.isspace accepts */

/* Appends to `to` the lower case of from[at], which may look at its neighbours. */
void tic_lower(const TicText *from, size_t at, TicText *to);
/* Appends the NFC form of `from`. */
void tic_compose(const TicText *from, TicText *to);
/* The reference of that name (n bytes, without '&' and ';'); NULL when HTML has none. */
const TicEntity *tic_html_entity(const char *name, size_t n);
#endif
