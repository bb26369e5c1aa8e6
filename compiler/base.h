/* base.h -- memory and text for the compiler: arenas, growable arrays, a string builder.
 *
 * An Arena holds everything of one lifetime (the source and its tree; the graph; what is emitted) and gives
 * all of it back at once, so no part of the compiler calls free. A struct says in one comment which arena
 * holds it; a later phase copies what it keeps. Memory that the system has not got ends the program with one
 * line: the only failure of the compiler that is not reported to the caller.
 *
 * The runtime has a header of the same name, and `"base.h"` from a subfolder finds that one: here, and only
 * here, the include is relative, `#include "../base.h"`. */
#ifndef TICC_BASE_H
#define TICC_BASE_H
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Start as `Arena a = {0}`. In a build with AddressSanitizer every allocation is a block of its own, so that a
 * read past its end is seen. */
typedef struct Chunk Chunk;
typedef struct Arena {
    Chunk *top;
} Arena;

void *arena_alloc(Arena *a, size_t bytes);                 /* zeroed, aligned to 16, never NULL, also for 0 bytes */
void *arena_array(Arena *a, size_t count, size_t bytes);   /* the same for count elements; the product is checked */
void arena_free(Arena *a);                                 /* all of it; the arena may be used again */
char *arena_strndup(Arena *a, const char *s, size_t n);    /* n bytes and a zero byte */
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
char *arena_vprintf(Arena *a, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));

#define NEW(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define NEWN(a, T, n) ((T *)arena_array((a), (size_t)(n), sizeof(T)))
#define LEN(array) (sizeof(array) / sizeof *(array))

/* A growable array of T: `ARRAY(int) xs = {0}; PUSH(arena, xs, 7); for (int i = 0; i < xs.n; i++) use(xs.at[i]);`
 * It doubles within the arena: the old copies stay there until the arena goes. At most 2^30 elements. */
#define ARRAY(...) struct { __VA_ARGS__ *at; int n, cap; }
#define PUSH(a, xs, ...) \
    do { \
        if ((xs).n == (xs).cap) \
            (xs).at = arena_grow((a), (xs).at, &(xs).cap, sizeof *(xs).at); \
        (xs).at[(xs).n++] = (__VA_ARGS__); \
    } while (0)
void *arena_grow(Arena *a, const void *old, int *cap, size_t bytes);   /* for PUSH */

/* A string under construction. Start as `Text t = { .arena = a }`; text_data is a C string at any time and
 * holds until the next addition. */
typedef struct Text {
    Arena *arena;
    char *at;
    size_t n, cap;
} Text;

void text_bytes(Text *t, const char *s, size_t n);
void text_char(Text *t, char c);
void text_printf(Text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void text_vprintf(Text *t, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
const char *text_data(const Text *t);                      /* never NULL */

/* Sizes come from the user's numbers: true and *product = a * b when it fits, else false. */
static inline bool checked_mul(int64_t a, int64_t b, int64_t *product)
{
    return !__builtin_mul_overflow(a, b, product);
}

static inline bool checked_add(int64_t a, int64_t b, int64_t *sum)
{
    return !__builtin_add_overflow(a, b, sum);
}
#endif
