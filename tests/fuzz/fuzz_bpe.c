/* fuzz_bpe.c -- any bytes as a caption: cleaned and encoded; and as a vocabulary: read, then used when it was accepted.
 *
 * A caption goes in as it is, and written from pieces that the cleaner acts on: references, odd spaces, capitals that
 * become two letters, combining marks, half-width forms. The byte fallback and a full vocabulary that is made here
 * encode it. Vocabularies are the bytes themselves, the bytes in the place of some lines of the one made here, and
 * either of them packed and damaged.
 *
 * Checked besides the absence of crashes: tokens are in range and in order (start, words, end, zeros), a short context
 * cuts what a longer one gives, cleaned text has single spaces and no capitals of ASCII, to normalise twice is to
 * normalise once, no caption takes long (the driver's clock). */
#include "data/bpe.h"
#include "data/text.h"
#include "data/utf8.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MERGES = 48894, ROOM = 1 << 20, PIECES = 4000, LARGEST = 1 << 17 };

static void wanted(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "fuzz_bpe: %s (%s)\n", what, tic_error());
        abort();
    }
}

/* ---- a vocabulary: all pairs of small letters, then pairs of those pairs, each within a word and at its end */

static char vocabulary[ROOM];
static size_t vocabulary_size;
static char path[64];

static void leave(void) { unlink(path); }

static void put_file(const void *data, size_t size)
{
    unlink(path);                    /* a file system may wait for the disk when a file is made empty and closed */
    FILE *f = fopen(path, "wb");
    wanted(f && fwrite(data, 1, size, f) == size && !fclose(f), "a scratch file");
}

static void make_vocabulary(void)
{
    size_t n = (size_t)sprintf(vocabulary, "\"bpe_simple_vocab_16e6.txt#version: 0.2\n");
    int lines = 0;
    for (int i = 0; i < 26 * 26; i++, lines += 2) {
        int a = 'a' + i / 26, b = 'a' + i % 26;
        n += (size_t)sprintf(vocabulary + n, "%c %c\n%c %c</w>\n", a, b, a, b);
    }
    for (int i = 0; lines < MERGES; i++, lines += 2) {
        int a = i * 7 % 676, b = i / 676;
        const char left[] = { (char)('a' + a / 26), (char)('a' + a % 26), 0 };
        const char right[] = { (char)('a' + b / 26), (char)('a' + b % 26), 0 };
        n += (size_t)sprintf(vocabulary + n, "%s %s\n%s %s</w>\n", left, right, left, right);
    }
    vocabulary_size = n;
}

/* ---- captions */

static bool is_text(const TicText *t)
{
    for (size_t i = 0; i < t->n; i++) {
        uint32_t c = t->c[i];
        if (c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) || (c >= 'A' && c <= 'Z') || (c != ' ' && tic_is_space(c)))
            return false;
        if (c == ' ' && (i == 0 || i + 1 == t->n || t->c[i - 1] == ' '))
            return false;
    }
    return true;
}

static void clean(const char *caption, size_t size)
{
    TicText t = { 0 }, once = { 0 }, twice = { 0 };
    tic_clean_caption(caption, size, &t);
    wanted(is_text(&t), "text that is not clean");
    t.n = 0;
    int marks = 0, most = 0;
    for (const char *p = caption; p < caption + size;) {
        tic_text_put(&t, tic_utf8_next(&p, caption + size));
        marks = t.c[t.n - 1] >= 0x300 ? marks + 1 : 0;
        most = marks > most ? marks : most;
    }
    if (most < 200) {                                    /* longer runs of marks are not sorted as a whole */
        tic_compose(&t, &once);
        tic_compose(&once, &twice);
        wanted(once.n == twice.n && (!once.n || !memcmp(once.c, twice.c, once.n * sizeof *once.c)),
               "composed text that composes further");
    }
    tic_text_free(&t);
    tic_text_free(&once);
    tic_text_free(&twice);
}

static int encode(const TicBpe *b, const char *caption, size_t size, int context, int32_t *tokens)
{
    memset(tokens, 0x55, (size_t)context * sizeof *tokens);
    int n = tic_bpe_encode(b, caption, size, context, tokens);
    wanted(n >= 2 && n <= context && tokens[0] == TIC_TOKEN_START && tokens[n - 1] == TIC_TOKEN_END, "the ends");
    for (int i = 0; i < context; i++)
        wanted(i < n ? tokens[i] >= 0 && tokens[i] < TIC_VOCABULARY : tokens[i] == 0, "a token");
    return n;
}

static void use_caption(const TicBpe *b, const char *caption, size_t size)
{
    static int32_t large[4096], tokens[TIC_CONTEXT], least[2];
    int n = encode(b, caption, size, 4096, large), k = encode(b, caption, size, TIC_CONTEXT, tokens);
    wanted(k == (n < TIC_CONTEXT ? n : TIC_CONTEXT) && !memcmp(large, tokens, (size_t)(k - 1) * sizeof *tokens),
           "a context that is no beginning of a longer one");
    wanted(encode(b, caption, size, 2, least) == 2, "the least context");
}

/* Words of the pieces below, chosen by bytes; half of the time two bytes are a code point. */
static size_t write_caption(const uint8_t *data, size_t size, char *to)
{
    static const char *const piece[] = {
        "&amp;", "&lt;", "&#38;", "&#x26", "&EACUTE;", "&notin", "&#128;", "&#xD800;", "&#99999999999;", "&", ";",
        "amp;", "#", "<", "\xc3\x89", "\xce\xa3", "\xc4\xb0", "\xc7\x84", "\xef\xac\x83", "\xef\xbd\x84",
        "\xef\xbf\xa3", "\xe2\x80\x99", "\xcc\x81", "\xcc\xa7", "\xcd\x85", "\xe1\x84\x80", "\xe1\x85\xa1",
        "\xe1\x86\xa8", "\xea\xb0\x80", "\xf0\x9f\x8e\x89", "\xc5\xbf", "'s", "'LL", "'\xc5\xbf", "DON'T",
        "<start_of_text>", "<END_OF_TEXT>", " ", "\r\n", "\xc2\x85", "\xe3\x80\x80", "\x1b[1;2m", "\x1b[",
        "\xe2\x80\xa8", "\x7f", "\xef\xbb\xbf", "12", "\xc2\xbd", "abcd", "qzqzqzqzqz", "\xff", "\xed\xa0\x80",
    };
    size_t n = 0;
    for (size_t i = 0; i + 1 < size && n < PIECES - 20; i++) {
        if (data[i] & 1) {
            const char *p = piece[data[i] / 2 % TIC_LEN(piece)];
            memcpy(to + n, p, strlen(p));
            n += strlen(p);
        } else {
            uint32_t c = (uint32_t)data[i] << 7 | data[i + 1];
            n += (size_t)tic_utf8_put(to + n, c % 0x3000 ? c % 0x3000 : 'x');
            i++;
        }
    }
    return n;
}

/* ---- vocabularies */

static void open_vocabulary(const void *data, size_t size, const char *caption, size_t caption_size)
{
    TicBpe *b;
    put_file(data, size);
    TicStatus status = tic_bpe_open(path, &b);
    wanted(status == TIC_OK || (status == TIC_USER && !b && *tic_error()), "a refusal of another kind");
    tic_error_clear();
    if (!status)
        use_caption(b, caption, caption_size);
    tic_bpe_close(b);
}

static void read_vocabularies(const uint8_t *data, size_t size)
{
    static uint8_t packed[ROOM];
    uint64_t hash = tic_hash(data, size, 0);
    const char *caption = (const char *)data;
    size_t short_size = size < 300 ? size : 300;
    if (hash % 8 == 0)
        open_vocabulary(data, size, caption, short_size);
    if (hash % 32 != 1)
        return;                                          /* what follows takes milliseconds */
    hash = tic_hash(&hash, sizeof hash, 1);
    char *copy = tic_alloc(vocabulary_size + size);
    size_t at = (hash >> 8) % vocabulary_size, skip = (hash >> 40) % 40, n = vocabulary_size;
    memcpy(copy, vocabulary, n);
    size_t piece = hash & 16 ? size % 8 : short_size;
    memcpy(copy + at, data, piece);
    skip = skip < n - at ? skip : n - at;
    memcpy(copy + at + piece, vocabulary + at + skip, n - at - skip);
    n = n - skip + piece;
    if (hash & 32)
        open_vocabulary(copy, hash & 64 ? n : n - n / 3, caption, short_size);
    gzFile g = gzopen(path, "wb1");
    wanted(g && gzwrite(g, copy, (unsigned)n) == (int)n && gzclose(g) == Z_OK, "packing");
    free(copy);
    FILE *f = fopen(path, "rb");
    n = f ? fread(packed, 1, sizeof packed, f) : 0;
    wanted(n > 100 && !fclose(f), "reading what was packed");
    if (hash & 128)
        packed[(hash >> 20) % n] ^= (uint8_t)(1 + hash % 255);
    open_vocabulary(packed, hash & 64 ? n : n - (hash >> 30) % n, caption, short_size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static TicBpe *plain, *full;
    static char written[PIECES];
    size_t n = size;
    tic_error_clear();
    if (!plain) {
        strcpy(path, "/tmp/fuzz_bpe_XXXXXX");
        int fd = mkstemp(path);
        wanted(fd >= 0 && !close(fd), "a scratch file");
        atexit(leave);
        make_vocabulary();
        put_file(vocabulary, vocabulary_size);
        wanted(!tic_bpe_open(NULL, &plain) && !tic_bpe_open(path, &full) && !tic_bpe_is_fallback(full), "a vocabulary");
    }
    const char *caption = (const char *)data;
    size_t most = tic_hash(data, size, 3) % 32 == 0 ? LARGEST : 4096;
    if (size > most) {
        caption += size - most;                          /* its end, which is the end of its block */
        n = most;
    }
    clean(caption, n);
    use_caption(plain, caption, n);
    use_caption(full, caption, n);
    n = write_caption(data, size, written);
    char *exact = tic_alloc(n ? n : 1);                  /* its own block, so that one byte too far is seen */
    memcpy(exact, written, n);
    clean(exact, n);
    use_caption(full, exact, n);
    free(exact);
    read_vocabularies(data, size);
    return 0;
}
