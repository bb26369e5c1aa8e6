/* resize_x86.c -- the passes of resize.c for AVX-512 with VNNI and for AVX2; see resize_impl.h.
 *
 * Neither can multiply a byte by a weight of 24 bits, so a weight is cut into signed digits, one sum is kept for each, and
 * the sums are put together at the end:
 *
 *   VNNI   three digits of 8 bits; vpdpbusd adds four products of a byte and a digit
 *   AVX2   two digits of 16 bits; vpmaddwd adds two products of words
 *
 * Across, a 128-bit part holds one row: red, green, blue of an output position in three of its 32-bit sums. Down, bytes of
 * four (two) lines are interleaved until those of one column stand in one 32-bit place; packing undoes the order. */
#include "data/resize_impl.h"

#if defined(__x86_64__) && (defined(__GNUC__) || defined(__clang__))
#include <immintrin.h>
#include <string.h>

#define ROUND (1 << (TIC_WEIGHT_BITS - 1))

/* The weight's lowest digit of `bits` bits, -half .. half - 1; what is left in *w. */
static int32_t digit(int32_t *w, int bits)
{
    int32_t half = 1 << (bits - 1), d = ((*w + half) & (2 * half - 1)) - half;
    *w = (*w - d) >> bits;
    return d;
}

static int row_of(int row, int rows) { return row < rows ? row : rows - 1; }

static void store_rgb(uint8_t *to, int rgb) { memcpy(to, &rgb, 4); }       /* the fourth byte is overwritten, or padding */

/* ---- AVX-512 VNNI */

#define VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))

static void pack_vnni(const int32_t weight[4], int32_t packed[4])
{
    uint32_t d[3] = { 0 };
    for (int t = 0; t < 4; t++) {
        int32_t w = weight[t];
        for (int i = 0; i < 3; i++)
            d[i] |= ((uint32_t)digit(&w, 8) & 255) << (8 * t);
    }
    for (int i = 0; i < 3; i++)
        packed[i] = (int32_t)d[i];
    packed[3] = 0;
}

VNNI static inline __m512i finish_vnni(const __m512i s[3])
{
    __m512i sum = _mm512_add_epi32(_mm512_add_epi32(s[0], _mm512_slli_epi32(s[1], 8)), _mm512_slli_epi32(s[2], 16));
    return _mm512_srai_epi32(_mm512_add_epi32(sum, _mm512_set1_epi32(ROUND)), TIC_WEIGHT_BITS);
}

VNNI static void across_vnni(const uint8_t *from, size_t stride, int rows, const TicWeights *w, uint8_t *to, size_t line)
{
    const __m512i turn = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11, -1, -1, -1, -1));
    for (int y = 0; y < rows; y += 4) {
        const uint8_t *row[4];
        uint8_t *out[4];
        for (int r = 0; r < 4; r++) {
            row[r] = from + (size_t)row_of(y + r, rows) * stride;
            out[r] = to + (size_t)row_of(y + r, rows) * line;
        }
        const int32_t *p = w->packed;
        for (int x = 0; x < w->count; x++) {
            __m512i s[3] = { _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512() };
            size_t at = 3 * (size_t)w->start[x];
            for (int g = 0; g < w->groups; g++, p += 4, at += 12) {
                __m512i v = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(0xFFF, row[0] + at));
                v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(0xFFF, row[1] + at), 1);
                v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(0xFFF, row[2] + at), 2);
                v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(0xFFF, row[3] + at), 3);
                v = _mm512_shuffle_epi8(v, turn);
                for (int i = 0; i < 3; i++)
                    s[i] = _mm512_dpbusd_epi32(s[i], v, _mm512_set1_epi32(p[i]));
            }
            __m128i rgb = _mm512_cvtusepi32_epi8(_mm512_max_epi32(finish_vnni(s), _mm512_setzero_si512()));
            store_rgb(out[0] + 3 * x, _mm_extract_epi32(rgb, 0));
            store_rgb(out[1] + 3 * x, _mm_extract_epi32(rgb, 1));
            store_rgb(out[2] + 3 * x, _mm_extract_epi32(rgb, 2));
            store_rgb(out[3] + 3 * x, _mm_extract_epi32(rgb, 3));
        }
    }
}

VNNI static void down_vnni(const uint8_t *from, size_t line, const int32_t *packed, int groups, uint8_t *to)
{
    for (size_t x = 0; x < line; x += 64) {
        __m512i s[4][3];
        const uint8_t *at = from + x;
        for (int q = 0; q < 4; q++)
            for (int i = 0; i < 3; i++)
                s[q][i] = _mm512_setzero_si512();
        for (int g = 0; g < groups; g++, at += 4 * line) {
            __m512i a = _mm512_loadu_si512(at), b = _mm512_loadu_si512(at + line);
            __m512i c = _mm512_loadu_si512(at + 2 * line), d = _mm512_loadu_si512(at + 3 * line);
            __m512i ab0 = _mm512_unpacklo_epi8(a, b), ab1 = _mm512_unpackhi_epi8(a, b);
            __m512i cd0 = _mm512_unpacklo_epi8(c, d), cd1 = _mm512_unpackhi_epi8(c, d);
            __m512i v[4] = { _mm512_unpacklo_epi16(ab0, cd0), _mm512_unpackhi_epi16(ab0, cd0),
                             _mm512_unpacklo_epi16(ab1, cd1), _mm512_unpackhi_epi16(ab1, cd1) };
            for (int i = 0; i < 3; i++) {
                __m512i weight = _mm512_set1_epi32(packed[4 * g + i]);
                for (int q = 0; q < 4; q++)
                    s[q][i] = _mm512_dpbusd_epi32(s[q][i], v[q], weight);
            }
        }
        __m512i low = _mm512_packs_epi32(finish_vnni(s[0]), finish_vnni(s[1]));
        __m512i high = _mm512_packs_epi32(finish_vnni(s[2]), finish_vnni(s[3]));
        _mm512_storeu_si512(to + x, _mm512_packus_epi16(low, high));
    }
}

/* ---- AVX2 */

#define AVX2 __attribute__((target("avx2")))

static void pack_avx2(const int32_t weight[4], int32_t packed[4])
{
    for (int pair = 0; pair < 2; pair++) {
        int32_t a = weight[2 * pair], b = weight[2 * pair + 1];
        for (int i = 0; i < 2; i++) {
            uint32_t low = (uint32_t)digit(&a, 16) & 65535, high = (uint32_t)digit(&b, 16) & 65535;
            packed[2 * pair + i] = (int32_t)(low | high << 16);
        }
    }
}

AVX2 static inline __m256i finish_avx2(__m256i low, __m256i high)
{
    __m256i sum = _mm256_add_epi32(low, _mm256_slli_epi32(high, 16));
    return _mm256_srai_epi32(_mm256_add_epi32(sum, _mm256_set1_epi32(ROUND)), TIC_WEIGHT_BITS);
}

AVX2 static inline __m256i add_products(__m256i sum, __m256i v, int32_t weight)
{
    return _mm256_add_epi32(sum, _mm256_madd_epi16(v, _mm256_set1_epi32(weight)));
}

AVX2 static void across_avx2(const uint8_t *from, size_t stride, int rows, const TicWeights *w, uint8_t *to, size_t line)
{
    const __m128i twelve = _mm_setr_epi32(-1, -1, -1, 0);
    const __m256i turn0 = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i turn1 = _mm256_broadcastsi128_si256(_mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    for (int y = 0; y < rows; y += 2) {
        const uint8_t *row0 = from + (size_t)y * stride, *row1 = from + (size_t)row_of(y + 1, rows) * stride;
        uint8_t *out0 = to + (size_t)y * line, *out1 = to + (size_t)row_of(y + 1, rows) * line;
        const int32_t *p = w->packed;
        for (int x = 0; x < w->count; x++) {
            __m256i low = _mm256_setzero_si256(), high = low;
            size_t at = 3 * (size_t)w->start[x];
            for (int g = 0; g < w->groups; g++, p += 4, at += 12) {
                __m256i v = _mm256_castsi128_si256(_mm_maskload_epi32((const int *)(const void *)(row0 + at), twelve));
                v = _mm256_inserti128_si256(v, _mm_maskload_epi32((const int *)(const void *)(row1 + at), twelve), 1);
                __m256i v0 = _mm256_shuffle_epi8(v, turn0), v1 = _mm256_shuffle_epi8(v, turn1);
                low = add_products(add_products(low, v0, p[0]), v1, p[2]);
                high = add_products(add_products(high, v0, p[1]), v1, p[3]);
            }
            __m256i rgb = finish_avx2(low, high);
            rgb = _mm256_packus_epi16(_mm256_packs_epi32(rgb, rgb), rgb);
            store_rgb(out0 + 3 * x, _mm256_extract_epi32(rgb, 0));
            store_rgb(out1 + 3 * x, _mm256_extract_epi32(rgb, 4));
        }
    }
}

AVX2 static void down_avx2(const uint8_t *from, size_t line, const int32_t *packed, int groups, uint8_t *to)
{
    const __m256i zero = _mm256_setzero_si256();
    for (size_t x = 0; x < line; x += 32) {
        __m256i low[4], high[4];
        const uint8_t *at = from + x;
        for (int q = 0; q < 4; q++)
            low[q] = high[q] = zero;
        for (int pair = 0; pair < 2 * groups; pair++, at += 2 * line) {
            __m256i a = _mm256_loadu_si256((const __m256i *)(const void *)at);
            __m256i b = _mm256_loadu_si256((const __m256i *)(const void *)(at + line));
            __m256i ab0 = _mm256_unpacklo_epi8(a, b), ab1 = _mm256_unpackhi_epi8(a, b);
            __m256i v[4] = { _mm256_unpacklo_epi8(ab0, zero), _mm256_unpackhi_epi8(ab0, zero),
                             _mm256_unpacklo_epi8(ab1, zero), _mm256_unpackhi_epi8(ab1, zero) };
            for (int q = 0; q < 4; q++) {
                low[q] = add_products(low[q], v[q], packed[2 * pair]);
                high[q] = add_products(high[q], v[q], packed[2 * pair + 1]);
            }
        }
        __m256i left = _mm256_packs_epi32(finish_avx2(low[0], high[0]), finish_avx2(low[1], high[1]));
        __m256i right = _mm256_packs_epi32(finish_avx2(low[2], high[2]), finish_avx2(low[3], high[3]));
        _mm256_storeu_si256((__m256i *)(void *)(to + x), _mm256_packus_epi16(left, right));
    }
}

int tic_resize_forms(const TicResizeForm *form[2])
{
    static const TicResizeForm vnni = { pack_vnni, across_vnni, down_vnni }, avx2 = { pack_avx2, across_avx2, down_avx2 };
    int n = 0;
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni"))
        form[n++] = &vnni;
    if (__builtin_cpu_supports("avx2"))
        form[n++] = &avx2;
    return n;
}
#else
int tic_resize_forms(const TicResizeForm *form[2]) { return 0; }
#endif
