/* base.c -- arenas as a list of chunks, newest first.
 *
 * An allocation is cut from the newest chunk; when that is full a new one twice as large comes on top (at most
 * 1 MiB, or as large as the request). Chunks come zeroed from calloc and bytes are never handed out twice, so
 * nothing is cleared by hand. */
#include "base.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ALIGN = 16,
    FIRST_CHUNK = 16 << 10,
    LARGEST_CHUNK = 1 << 20,
    LARGEST_ARRAY = 1 << 30,
};

struct Chunk {
    Chunk *below;
    size_t used, size;
    _Alignas(ALIGN) char bytes[];
};

#if defined(__SANITIZE_ADDRESS__)
static const bool one_block_each = true;
#else
static const bool one_block_each = false;
#endif

static void out_of_memory(size_t bytes) __attribute__((noreturn));
static void out_of_memory(size_t bytes)
{
    fprintf(stderr, "ticc: out of memory (%zu bytes)\n", bytes);
    abort();
}

static Chunk *push_chunk(Arena *a, size_t size)
{
    Chunk *chunk = size < SIZE_MAX - sizeof(Chunk) ? calloc(1, sizeof(Chunk) + size) : NULL;
    if (!chunk)
        out_of_memory(size);
    chunk->size = size;
    chunk->below = a->top;
    return a->top = chunk;
}

void *arena_alloc(Arena *a, size_t bytes)
{
    if (bytes > SIZE_MAX - ALIGN)
        out_of_memory(bytes);
    size_t need = bytes + !bytes;
    Chunk *chunk = a->top;
    if (one_block_each) {
        chunk = push_chunk(a, need);
    } else {
        need = (need + ALIGN - 1) / ALIGN * ALIGN;
        if (!chunk || chunk->size - chunk->used < need) {
            size_t size = !chunk ? FIRST_CHUNK : chunk->size < LARGEST_CHUNK / 2 ? 2 * chunk->size : LARGEST_CHUNK;
            chunk = push_chunk(a, need > size ? need : size);
        }
    }
    void *p = chunk->bytes + chunk->used;
    chunk->used += need;
    return p;
}

void *arena_array(Arena *a, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all))
        out_of_memory(SIZE_MAX);
    return arena_alloc(a, all);
}

void arena_free(Arena *a)
{
    while (a->top) {
        Chunk *below = a->top->below;
        free(a->top);
        a->top = below;
    }
}

char *arena_strndup(Arena *a, const char *s, size_t n)
{
    char *copy = arena_array(a, n + 1, 1);
    if (n)
        memcpy(copy, s, n);
    return copy;
}

char *arena_vprintf(Arena *a, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    char *s = arena_array(a, n < 0 ? 1 : (size_t)n + 1, 1);
    if (n > 0)
        vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

char *arena_printf(Arena *a, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    char *s = arena_vprintf(a, fmt, args);
    va_end(args);
    return s;
}

void *arena_grow(Arena *a, const void *old, int *cap, size_t bytes)
{
    if (*cap >= LARGEST_ARRAY)
        out_of_memory(SIZE_MAX);
    int more = *cap ? 2 * *cap : 8;
    void *array = arena_array(a, (size_t)more, bytes);
    if (old)
        memcpy(array, old, (size_t)*cap * bytes);
    *cap = more;
    return array;
}

/* ---- text */

static void reserve(Text *t, size_t more)                  /* room for `more` bytes and the zero byte */
{
    if (more > SIZE_MAX / 4 - t->n)
        out_of_memory(more);
    size_t need = t->n + more + 1;
    if (need <= t->cap)
        return;
    size_t cap = t->cap ? 2 * t->cap : 256;
    while (cap < need)
        cap *= 2;
    char *at = arena_alloc(t->arena, cap);
    if (t->n)
        memcpy(at, t->at, t->n);
    t->at = at;
    t->cap = cap;
}

void text_bytes(Text *t, const char *s, size_t n)
{
    reserve(t, n);
    if (n)
        memcpy(t->at + t->n, s, n);
    t->n += n;
    t->at[t->n] = 0;
}

void text_char(Text *t, char c)
{
    text_bytes(t, &c, 1);
}

void text_vprintf(Text *t, const char *fmt, va_list args)
{
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    if (n > 0) {
        reserve(t, (size_t)n);
        vsnprintf(t->at + t->n, (size_t)n + 1, fmt, again);
        t->n += (size_t)n;
    }
    va_end(again);
}

void text_printf(Text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    text_vprintf(t, fmt, args);
    va_end(args);
}

const char *text_data(const Text *t)
{
    return t->at ? t->at : "";
}
