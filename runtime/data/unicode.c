/* unicode.c -- see unicode.h. */
#include "data/unicode.h"
#include <stdlib.h>
#include <string.h>

void tic_text_put(TicText *t, uint32_t c)
{
    if (t->n == t->room) {
        t->room = t->room ? t->room * 2 : 256;
        t->c = tic_realloc(t->c, t->room * sizeof *t->c);
    }
    t->c[t->n++] = c;
}

void tic_text_free(TicText *t)
{
    free(t->c);
    *t = (TicText){ 0 };
}

static bool in_ranges(const TicRange *r, int n, uint32_t c)
{
    int low = 0, high = n;
    while (low < high) {
        int middle = (low + high) / 2;
        if (c > r[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < n && c >= r[low].first;
}

bool tic_is_letter(uint32_t c)
{
    if (c < 0x80)
        return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
    return in_ranges(tic_unicode_letters, tic_unicode_letters_count, c);
}

bool tic_is_number(uint32_t c)
{
    if (c < 0x80)
        return c >= '0' && c <= '9';
    return in_ranges(tic_unicode_numbers, tic_unicode_numbers_count, c);
}

bool tic_is_space(uint32_t c)
{
    if (c < 0x80)
        return c == ' ' || (c >= 9 && c <= 13) || (c >= 0x1C && c <= 0x1F);
    return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
           c == 0x202F || c == 0x205F || c == 0x3000;
}

static bool is_ignorable(uint32_t c)
{
    return in_ranges(tic_unicode_ignorable, tic_unicode_ignorable_count, c);
}

static bool is_cased(uint32_t c)
{
    return in_ranges(tic_unicode_cased, tic_unicode_cased_count, c);
}

/* A capital sigma after a cased letter and before none (characters that case ignores aside) ends a word. */
static bool sigma_is_final(const TicText *t, size_t at)
{
    size_t i = at;
    while (i > 0 && is_ignorable(t->c[i - 1]))
        i--;
    if (i == 0 || !is_cased(t->c[i - 1]))
        return false;
    for (i = at + 1; i < t->n && is_ignorable(t->c[i]);)
        i++;
    return i == t->n || !is_cased(t->c[i]);
}

void tic_lower(const TicText *from, size_t at, TicText *to)
{
    uint32_t c = from->c[at];
    if (c < 0x80) {
        tic_text_put(to, c >= 'A' && c <= 'Z' ? c + 32 : c);
        return;
    }
    if (c == 0x130) {                                    /* I with a dot above: i and a combining dot */
        tic_text_put(to, 'i');
        tic_text_put(to, 0x307);
        return;
    }
    if (c == 0x3A3 && sigma_is_final(from, at)) {
        tic_text_put(to, 0x3C2);
        return;
    }
    int low = 0, high = tic_unicode_lower_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (c > tic_unicode_lower[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    /* Runs of step 2 may interleave with their neighbours, so the next one is tried as well. */
    for (int i = low; i < tic_unicode_lower_count && i < low + 2; i++) {
        const TicCaseRun *r = &tic_unicode_lower[i];
        if (c >= r->first && c <= r->last && (c - r->first) % (uint32_t)r->step == 0) {
            tic_text_put(to, (uint32_t)((int32_t)c + r->delta));
            return;
        }
    }
    tic_text_put(to, c);
}

/* Hangul syllables are computed from their parts (The Unicode Standard, 3.12). */
enum { S_BASE = 0xAC00, L_BASE = 0x1100, V_BASE = 0x1161, T_BASE = 0x11A7, L_COUNT = 19, V_COUNT = 21, T_COUNT = 28,
       S_COUNT = L_COUNT * V_COUNT * T_COUNT };

static uint32_t combining_class(uint32_t c)
{
    int low = 0, high = tic_unicode_classes_count;
    if (c < 0x300)
        return 0;
    while (low < high) {
        int middle = (low + high) / 2;
        if (c > tic_unicode_classes[middle].last)
            low = middle + 1;
        else
            high = middle;
    }
    return low < tic_unicode_classes_count && c >= tic_unicode_classes[low].first ? tic_unicode_classes[low].combining : 0;
}

static void decompose(uint32_t c, TicText *to)
{
    if (c < 0xC0) {
        tic_text_put(to, c);
        return;
    }
    if (c >= S_BASE && c < S_BASE + S_COUNT) {
        uint32_t s = c - S_BASE;
        tic_text_put(to, L_BASE + s / (V_COUNT * T_COUNT));
        tic_text_put(to, V_BASE + s % (V_COUNT * T_COUNT) / T_COUNT);
        if (s % T_COUNT)
            tic_text_put(to, T_BASE + s % T_COUNT);
        return;
    }
    int low = 0, high = tic_unicode_pairs_count;
    while (low < high) {
        int middle = (low + high) / 2;
        if (c > tic_unicode_pairs[middle].whole)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tic_unicode_pairs_count || tic_unicode_pairs[low].whole != c) {
        tic_text_put(to, c);
        return;
    }
    decompose(tic_unicode_pairs[low].a, to);             /* the table's chains are at most four long */
    if (tic_unicode_pairs[low].b)
        tic_text_put(to, tic_unicode_pairs[low].b);
}

/* The character that a and b compose to; 0: none. */
static uint32_t composed(uint32_t a, uint32_t b)
{
    if (a >= L_BASE && a < L_BASE + L_COUNT && b >= V_BASE && b < V_BASE + V_COUNT)
        return S_BASE + ((a - L_BASE) * V_COUNT + (b - V_BASE)) * T_COUNT;
    if (a >= S_BASE && a < S_BASE + S_COUNT && (a - S_BASE) % T_COUNT == 0 && b > T_BASE && b < T_BASE + T_COUNT)
        return a + (b - T_BASE);
    int low = 0, high = tic_unicode_compose_count;
    while (low < high) {
        int middle = (low + high) / 2;
        const TicPair *p = &tic_unicode_pairs[tic_unicode_compose[middle]];
        if (p->a < a || (p->a == a && p->b < b))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == tic_unicode_compose_count)
        return 0;
    const TicPair *p = &tic_unicode_pairs[tic_unicode_compose[low]];
    return p->a == a && p->b == b ? p->whole : 0;
}

/* Sorts runs of combining marks by class, keeping the order of equals. Runs are short except in hostile text, where
 * a merge sort would be wanted; there we sort the first MARKS of a run and leave the rest as it stands. */
enum { MARKS = 256 };

static void order_marks(TicText *t)
{
    for (size_t i = 0; i < t->n;) {
        size_t start = i;
        if (!combining_class(t->c[i])) {
            i++;
            continue;
        }
        for (; i < t->n && i < start + MARKS && combining_class(t->c[i]); i++) {
            uint32_t mark = t->c[i], class = combining_class(mark);
            size_t j = i;
            for (; j > start && combining_class(t->c[j - 1]) > class; j--)
                t->c[j] = t->c[j - 1];
            t->c[j] = mark;
        }
    }
}

void tic_compose(const TicText *from, TicText *to)
{
    TicText t = { 0 };
    bool plain = true;
    for (size_t i = 0; i < from->n; i++)
        plain &= from->c[i] < 0x300;
    if (plain) {                                         /* nothing below U+0300 composes or decomposes in NFC */
        for (size_t i = 0; i < from->n; i++)
            tic_text_put(to, from->c[i]);
        return;
    }
    for (size_t i = 0; i < from->n; i++)
        decompose(from->c[i], &t);
    order_marks(&t);
    /* `starter` is where the last character of class 0 went; a mark composes with it unless one of the same or a
     * higher class stands between. */
    size_t starter = SIZE_MAX;
    uint32_t between = 0;
    for (size_t i = 0; i < t.n; i++) {
        uint32_t c = t.c[i], class = combining_class(c), whole;
        bool blocked = starter == SIZE_MAX || (to->n > starter + 1 && (between >= class || !class));
        if (!blocked && (whole = composed(to->c[starter], c))) {
            to->c[starter] = whole;
            continue;
        }
        if (!class) {
            starter = to->n;
            between = 0;
        } else {
            between = class;
        }
        tic_text_put(to, c);
    }
    tic_text_free(&t);
}

const TicEntity *tic_html_entity(const char *name, size_t n)
{
    int low = 0, high = tic_html_entities_count;
    while (low < high) {
        int middle = (low + high) / 2;
        const char *at = tic_html_entities[middle].name;
        int order = strncmp(at, name, n);
        if (!order)
            order = at[n] ? 1 : 0;
        if (!order)
            return &tic_html_entities[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}
