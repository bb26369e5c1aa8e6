/* stored.c -- see stored.h. Element conversions, shapes and names for messages. */
#include "ckpt/stored.h"
#include "data/utf8.h"
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "checkpoints are copied from and to memory as they are");

const TicStoredInfo tic_stored[TIC_STORED_COUNT] = {
#define ROW(id, bytes, name, torch, safe) [TIC_STORED_##id] = { bytes, name, torch, safe },
    TIC_STORED_TABLE(ROW)
#undef ROW
};

bool tic_stored_is_float(TicStored t) { return t <= TIC_STORED_BF16; }

/* IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits. */
static float from_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h >> 15) << 31, exponent = (h >> 10) & 31, fraction = h & 1023, bits;
    if (exponent == 31)
        bits = sign | 0x7F800000u | fraction << 13;
    else if (exponent)
        bits = sign | (exponent + 112) << 23 | fraction << 13;
    else {
        float tiny = (float)fraction * 0x1p-24f;         /* subnormal or zero: exact in f32 */
        memcpy(&bits, &tiny, 4);
        bits |= sign;
    }
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

float tic_stored_to_f32(TicStored t, const void *element)
{
    uint16_t h;
    float f = 0;
    double d;
    switch (t) {
    case TIC_STORED_F64:
        memcpy(&d, element, 8);
        return (float)d;
    case TIC_STORED_F32:
        memcpy(&f, element, 4);
        return f;
    case TIC_STORED_F16:
        memcpy(&h, element, 2);
        return from_f16(h);
    case TIC_STORED_BF16:
        memcpy((char *)&f + 2, element, 2);              /* bf16 is the upper half of an f32 */
        return f;
    default:
        return 0;
    }
}

bool tic_shape_count(int rank, const int64_t *shape, int64_t *count)
{
    *count = 1;
    bool empty = false;
    for (int i = 0; i < rank; i++) {
        if (shape[i] < 0)
            return false;
        empty |= shape[i] == 0;
    }
    if (empty) {
        *count = 0;
        return true;
    }
    for (int i = 0; i < rank; i++)
        if (tic_mul_overflow(*count, shape[i], count))
            return false;
    return true;
}

const char *tic_shape_text(int rank, const int64_t *shape, char *out, size_t room)
{
    size_t n = (size_t)snprintf(out, room, "[");
    for (int i = 0; i < rank && n < room; i++)
        n += (size_t)snprintf(out + n, room - n, "%s%" PRId64, i ? ", " : "", shape[i]);
    if (n < room)
        n += (size_t)snprintf(out + n, room - n, "]");
    if (n >= room && room > 4)
        memcpy(out + room - 4, "...", 4);
    return out;
}

const char *tic_name_text(const char *name, size_t length, char out[80])
{
    bool cut = length > 79;
    size_t n = cut ? 76 : length;
    for (size_t i = 0; i < n; i++)
        out[i] = (unsigned char)name[i] < 32 || name[i] == 127 ? '?' : name[i];
    memcpy(out + n, cut ? "..." : "", cut ? 4 : 1);
    return out;
}

bool tic_utf8_valid(const char *s, size_t n)
{
    for (const char *p = s, *end = s + n; p < end;) {
        const char *before = p;
        if (tic_utf8_next(&p, end) == 0xFFFD && p - before != 3)     /* three bytes: U+FFFD itself */
            return false;
    }
    return true;
}
