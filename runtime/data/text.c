/* text.c -- see text.h. Each step reads one text and appends to another; the two are swapped between steps. */
#include "data/text.h"
#include "data/utf8.h"
#include <string.h>

/* ftfy repeats its steps until the text stays as it is. Only text made to be repeated ("&amp;amp;amp;...") needs
 * more than three rounds, and it gets no more than this. */
enum { MAX_ROUNDS = 100, MAX_NAME = 32 };

static void swap(TicText *a, TicText *b)
{
    TicText t = *a;
    *a = *b;
    *b = t;
}

static bool is_digit(uint32_t c) { return c >= '0' && c <= '9'; }

static int hex_value(uint32_t c)
{
    if (is_digit(c))
        return (int)c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? (int)c - 'a' + 10 : -1;
}

/* What HTML makes of a numeric reference: Windows-1252 for 0x80..0x9f, nothing for controls and noncharacters. */
static void put_number(uint32_t v, TicText *to)
{
    if (v >= 0x80 && v < 0xA0)
        tic_text_put(to, tic_windows_1252[v - 0x80]);
    else if (v == 0 || (v >= 0xD800 && v < 0xE000) || v > 0x10FFFF)
        tic_text_put(to, 0xFFFD);
    else if (v == '\r' || !(v < 9 || v == 0xB || (v > 0xD && v < 0x20) || v == 0x7F || (v >= 0xFDD0 && v <= 0xFDEF) ||
                            (v & 0xFFFE) == 0xFFFE))
        tic_text_put(to, v);
}

/* "&#123;", "&#x7b": the end of the reference that begins at `at`, or 0; with `closed` only if it has its ';'. */
static size_t number_reference(const TicText *t, size_t at, bool closed, uint32_t *value)
{
    size_t i = at + 2, digits;
    bool hex = i < t->n && (t->c[i] | 0x20) == 'x';
    if (at + 1 >= t->n || t->c[at + 1] != '#')
        return 0;
    i += hex;
    uint32_t v = 0;
    for (digits = i; i < t->n && (hex ? hex_value(t->c[i]) >= 0 : is_digit(t->c[i])); i++)
        if (v <= 0x10FFFF)
            v = hex ? v * 16 + (uint32_t)hex_value(t->c[i]) : v * 10 + (t->c[i] - '0');
    if (i == digits)
        return 0;
    bool end = i < t->n && t->c[i] == ';';
    *value = v;
    return closed && !end ? 0 : i + end;
}

static void put_entity(const TicEntity *e, TicText *to)
{
    tic_text_put(to, e->a);
    if (e->b)
        tic_text_put(to, e->b);
}

/* The longest bare name ("amp", "copy") that begins the n bytes; NULL: none. */
static const TicEntity *bare_prefix(const char *name, size_t n, size_t *length)
{
    for (*length = n; *length > 1; --*length) {
        const TicEntity *e = tic_html_entity(name, *length);
        if (e && e->bare)
            return e;
    }
    return NULL;
}

/* Copies the ASCII characters from `at` on into name[MAX_NAME], up to one that cannot be in a name. */
static size_t read_name(const TicText *t, size_t at, char *name)
{
    size_t n = 0;
    for (; n < MAX_NAME && at + n < t->n; n++) {
        uint32_t c = t->c[at + n];
        if (!(is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')))
            break;
        name[n] = (char)c;
    }
    return n;
}

/* Python's html.unescape: references with and without ';', the longest known name winning. */
static void unescape(const TicText *from, TicText *to)
{
    for (size_t i = 0; i < from->n;) {
        char name[MAX_NAME];
        uint32_t v;
        size_t next, n;
        if (from->c[i] != '&') {
            tic_text_put(to, from->c[i++]);
            continue;
        }
        if ((next = number_reference(from, i, false, &v))) {
            put_number(v, to);
            i = next;
            continue;
        }
        n = read_name(from, i + 1, name);
        bool closed = i + 1 + n < from->n && from->c[i + 1 + n] == ';';
        const TicEntity *e = closed ? tic_html_entity(name, n) : NULL;
        if (e) {
            n++;
        } else {
            e = bare_prefix(name, n, &n);
        }
        if (e) {
            put_entity(e, to);
            i += 1 + n;
        } else {
            tic_text_put(to, from->c[i++]);
        }
    }
}

/* Names written in capitals ("&EACUTE;") stand for the capital letter. The text becomes lower case later, so it is
 * enough to give the small letter, but for those whose capital has another small letter (sigma's depends on where
 * it stands, so it stays a capital). */
static void put_capital(const TicEntity *e, TicText *to)
{
    static const uint16_t differs[][2] = { { 0x3F5, 0x3B5 }, { 0x131, 'i' }, { 0x3F0, 0x3BA }, { 0xB5, 0x3BC },
        { 0x3D5, 0x3C6 }, { 0x3D6, 0x3C0 }, { 0x3F1, 0x3C1 }, { 0x3C2, 0x3A3 }, { 0x3C3, 0x3A3 }, { 0x3D1, 0x3B8 } };
    if (e->a == 0xDF) {
        tic_text_put(to, 's');
        tic_text_put(to, 's');
        return;
    }
    for (size_t i = 0; i < TIC_LEN(differs); i++) {
        if (differs[i][0] == e->a) {
            tic_text_put(to, differs[i][1]);
            return;
        }
    }
    put_entity(e, to);
}

/* ftfy's careful form: only closed references of at most 24 letters and digits. */
static bool careful_reference(const TicText *t, size_t at, TicText *to, size_t *next)
{
    char name[MAX_NAME], small[MAX_NAME];
    uint32_t v;
    size_t length;
    *next = number_reference(t, at, true, &v);
    if (*next) {
        if (*next - at > 27)                             /* "&#" and 24 characters and ';' */
            return false;
        put_number(v, to);
        return v != ';';
    }
    size_t n = read_name(t, at + 1, name);
    if (!n || n > 24 || at + 1 + n >= t->n || t->c[at + 1 + n] != ';')
        return false;
    *next = at + n + 2;
    const TicEntity *e = tic_html_entity(name, n);
    if (e) {
        put_entity(e, to);
        return true;
    }
    for (size_t i = 0; i < n; i++) {
        if (name[i] >= 'a' && name[i] <= 'z')
            return false;
        small[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    }
    e = bare_prefix(name, n, &length) ? NULL : tic_html_entity(small, n);
    if (e)
        put_capital(e, to);
    return e != NULL;
}

static void unescape_carefully(const TicText *from, TicText *to)
{
    for (size_t i = 0, next; i < from->n;) {
        size_t before = to->n;
        if (from->c[i] == '&' && careful_reference(from, i, to, &next)) {
            i = next;
        } else {
            to->n = before;
            tic_text_put(to, from->c[i++]);
        }
    }
}

static const char *ligature(uint32_t c)
{
    switch (c) {
    case 0x132: return "IJ";
    case 0x133: return "ij";
    case 0x149: return "'n";                             /* its modifier apostrophe is a quote that gets straightened */
    case 0x1F1: return "DZ";
    case 0x1F2: return "Dz";
    case 0x1F3: return "dz";
    case 0x1C4: return "D\xC5\xBD";
    case 0x1C5: return "D\xC5\xBE";
    case 0x1C6: return "d\xC5\xBE";
    case 0x1C7: return "LJ";
    case 0x1C8: return "Lj";
    case 0x1C9: return "lj";
    case 0x1CA: return "NJ";
    case 0x1CB: return "Nj";
    case 0x1CC: return "nj";
    case 0xFB00: return "ff";
    case 0xFB01: return "fi";
    case 0xFB02: return "fl";
    case 0xFB03: return "ffi";
    case 0xFB04: return "ffl";
    case 0xFB05: return "\xC5\xBFt";
    case 0xFB06: return "st";
    default: return NULL;
    }
}

/* The fixes that look at one character at a time. */
static void fix_character(uint32_t c, TicText *to)
{
    if (c < 0x80) {
        tic_text_put(to, c == '\r' ? '\n' : c);
        return;
    }
    if (c < 0xA0)
        c = tic_windows_1252[c - 0x80];
    const char *parts = ligature(c);
    if (parts) {
        const char *end = parts + strlen(parts);
        while (parts < end)
            tic_text_put(to, tic_utf8_next(&parts, end));
        return;
    }
    if (c == 0xFFE3) {                                   /* the one wide form that becomes two characters */
        tic_text_put(to, ' ');
        c = 0x304;
    }
    if (c > 0xFF00 && c < 0xFFF0)
        c = tic_unicode_width[c - 0xFF00];
    if (c == 0x3000)
        c = ' ';
    if (c == 0x2BC || (c >= 0x2018 && c <= 0x201B))
        c = '\'';
    if (c >= 0x201C && c <= 0x201F)
        c = '"';
    if (c == 0x2028 || c == 0x2029 || c == 0x85)
        c = '\n';
    tic_text_put(to, c);
}

static bool is_control(uint32_t c)
{
    return c < 9 || c == 0xB || (c > 0xD && c < 0x20) || c == 0x7F || (c >= 0x206A && c <= 0x206F) || c == 0xFEFF ||
           (c >= 0xFFF9 && c <= 0xFFFC);
}

/* "ESC [ digits and semicolons, a letter" goes as a whole; then single control characters. */
static void remove_controls(const TicText *from, TicText *to)
{
    for (size_t i = 0; i < from->n; i++) {
        size_t j = i + 2;
        if (from->c[i] == 0x1B && j < from->n && from->c[i + 1] == '[') {
            while (j < from->n && (is_digit(from->c[j]) || from->c[j] == ';'))
                j++;
            if (j < from->n && (from->c[j] | 0x20) >= 'a' && (from->c[j] | 0x20) <= 'z') {
                i = j;
                continue;
            }
        }
        if (!is_control(from->c[i]))
            tic_text_put(to, from->c[i]);
    }
}

/* ftfy on one piece of text, in place; `spare` is scratch. */
static void fix(TicText *t, bool references, TicText *spare)
{
    TicText before = { 0 };
    for (int round = 0; round < MAX_ROUNDS; round++) {
        before.n = 0;
        for (size_t i = 0; i < t->n; i++)
            tic_text_put(&before, t->c[i]);
        if (references) {
            spare->n = 0;
            unescape_carefully(t, spare);
            swap(t, spare);
        }
        spare->n = 0;
        for (size_t i = 0; i < t->n; i++)
            fix_character(t->c[i], spare);
        t->n = 0;
        remove_controls(spare, t);
        spare->n = 0;
        tic_compose(t, spare);
        swap(t, spare);
        if (t->n == before.n && (!t->n || !memcmp(t->c, before.c, t->n * sizeof *t->c)))
            break;
    }
    tic_text_free(&before);
}

/* Most captions are plain: printable ASCII without references need none of ftfy. */
static bool is_plain(const TicText *t)
{
    for (size_t i = 0; i < t->n; i++)
        if (t->c[i] < 0x20 || t->c[i] > 0x7E || t->c[i] == '&')
            return false;
    return true;
}

void tic_clean_caption(const char *utf8, size_t size, TicText *clean)
{
    TicText t = { 0 }, spare = { 0 }, rest = { 0 };
    const char *end = utf8 + (size < TIC_MAX_CAPTION ? size : TIC_MAX_CAPTION);
    for (const char *p = utf8; p < end;)
        tic_text_put(&t, tic_utf8_next(&p, end));
    if (!is_plain(&t)) {
        /* References are decoded up to the line that has the first '<'. */
        size_t cut = 0;
        while (cut < t.n && t.c[cut] != '<')
            cut++;
        if (cut < t.n)
            while (cut > 0 && t.c[cut - 1] != '\n')
                cut--;
        for (size_t i = cut; i < t.n; i++)
            tic_text_put(&rest, t.c[i]);
        t.n = cut;
        fix(&t, true, &spare);
        fix(&rest, false, &spare);
        for (size_t i = 0; i < rest.n; i++)
            tic_text_put(&t, rest.c[i]);
        for (int i = 0; i < 2; i++) {
            spare.n = 0;
            unescape(&t, &spare);
            swap(&t, &spare);
        }
    }
    spare.n = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (!tic_is_space(t.c[i]))
            tic_text_put(&spare, t.c[i]);
        else if (spare.n && spare.c[spare.n - 1] != ' ')
            tic_text_put(&spare, ' ');
    }
    if (spare.n && spare.c[spare.n - 1] == ' ')
        spare.n--;
    for (size_t i = 0; i < spare.n; i++)
        tic_lower(&spare, i, clean);
    tic_text_free(&t);
    tic_text_free(&spare);
    tic_text_free(&rest);
}
