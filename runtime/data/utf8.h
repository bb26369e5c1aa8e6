/* utf8.h -- one code point at a time, in and out of UTF-8. Decoding never fails: what is not UTF-8 (a stray byte,
 * an overlong form, a surrogate, a cut sequence) yields U+FFFD, once per byte that could not be used. */
#ifndef TIC_DATA_UTF8_H
#define TIC_DATA_UTF8_H
#include <stddef.h>
#include <stdint.h>

/* The code point at *p, which moves past it. Requires *p < end. */
static inline uint32_t tic_utf8_next(const char **p, const char *end)
{
    const unsigned char *s = (const unsigned char *)*p;
    size_t left = (size_t)(end - *p);
    uint32_t c = *s;
    int extra = c < 0x80 ? 0 : c < 0xC2 ? -1 : c < 0xE0 ? 1 : c < 0xF0 ? 2 : c < 0xF5 ? 3 : -1;
    if (extra == 0) {
        *p += 1;
        return c;
    }
    if (extra < 0 || left < (size_t)extra + 1)
        goto bad;
    c &= 0x3Fu >> extra;
    for (int i = 1; i <= extra; i++) {
        if ((s[i] & 0xC0) != 0x80)
            goto bad;
        c = c << 6 | (s[i] & 0x3F);
    }
    if ((extra == 2 && c < 0x800) || (extra == 3 && (c < 0x10000 || c > 0x10FFFF)) || (c >= 0xD800 && c < 0xE000))
        goto bad;
    *p += extra + 1;
    return c;
bad:
    *p += 1;
    return 0xFFFD;
}

/* Writes 1..4 bytes, returns how many. */
static inline int tic_utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xC0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xE0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3F));
        out[2] = (char)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3F));
    out[2] = (char)(0x80 | (c >> 6 & 0x3F));
    out[3] = (char)(0x80 | (c & 0x3F));
    return 4;
}
#endif
