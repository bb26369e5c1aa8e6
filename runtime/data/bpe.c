/* bpe.c -- see bpe.h.
 *
 * Symbols are token numbers. A merge is a row in one hash table from (left, right) to the merged symbol, whose number
 * orders merges by rank. A piece is a doubly linked list of symbols and a heap of its possible merges, lowest rank and
 * leftmost first, so that even a caption of one endless word takes n log n steps. Merging one pair at a time in that
 * order equals merging all equal pairs at once, because a merge's result only takes part in merges of higher rank:
 * the reader of the vocabulary checks that every merge names symbols made before it. */
#define _GNU_SOURCE
#include "data/bpe.h"
#include "data/text.h"
#include "data/utf8.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/stat.h>
#include <zlib.h>

#define VOCABULARY_FILE "bpe_simple_vocab_16e6.txt.gz"

enum {
    MERGES = 48894,
    FIRST_MERGE = 512,
    SLOTS = 1 << 17,               /* of the merge table: less than half full */
    FILE_LIMIT = 64 << 20,         /* bytes of an unpacked vocabulary; CLIP's has 3 MB */
};

typedef struct { uint32_t pair; int32_t made; } Merge;     /* pair: left << 16 | right; made 0: empty */

struct TicBpe {
    char *path;                    /* NULL: the byte fallback */
    uint16_t byte_symbol[256];
    Merge *merge;                  /* [SLOTS] */
};

static uint32_t spread(uint32_t pair) { return (pair * 0x9E3779B1u) >> 15; }

static int find_merge(const TicBpe *b, int left, int right)
{
    uint32_t pair = (uint32_t)left << 16 | (uint32_t)right;
    for (uint32_t i = spread(pair);; i++) {
        const Merge *m = &b->merge[i & (SLOTS - 1)];
        if (!m->made)
            return 0;
        if (m->pair == pair)
            return m->made;
    }
}

static void add_merge(TicBpe *b, int left, int right, int made)
{
    uint32_t pair = (uint32_t)left << 16 | (uint32_t)right, i = spread(pair);
    while (b->merge[i & (SLOTS - 1)].made && b->merge[i & (SLOTS - 1)].pair != pair)
        i++;
    if (!b->merge[i & (SLOTS - 1)].made)
        b->merge[i & (SLOTS - 1)] = (Merge){ pair, made };
}

/* The order of byte symbols: the printable bytes of Latin-1, then the others. In the vocabulary file the k-th of the
 * others is written as the character 256 + k. */
static void set_alphabet(TicBpe *b, uint8_t byte_of[512])
{
    int next = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int c = 0, others = 0; c < 256; c++) {
            bool printable = (c >= '!' && c <= '~') || (c >= 0xA1 && c <= 0xAC) || c >= 0xAE;
            int written = printable ? c : 256 + others;
            others += !printable;
            if (printable != (pass == 0))
                continue;
            b->byte_symbol[c] = (uint16_t)next++;
            byte_of[written] = (uint8_t)c;
        }
    }
}

/* While the vocabulary is read: symbols by their spelling, which is bytes and whether the word ends. */
typedef struct {
    uint8_t *text;                 /* all spellings, one after another */
    size_t used;
    struct { uint32_t at, size; } spelling[TIC_VOCABULARY];
    int32_t slot[SLOTS];           /* symbol + 1 by hash */
    uint8_t byte_of[512];
} Symbols;

static int32_t *symbol_slot(Symbols *s, const uint8_t *text, size_t n)
{
    for (uint64_t i = tic_hash(text, n, 0);; i++) {
        int32_t *slot = &s->slot[i & (SLOTS - 1)];
        if (!*slot || (s->spelling[*slot - 1].size == n && !memcmp(s->text + s->spelling[*slot - 1].at, text, n)))
            return slot;
    }
}

static void add_symbol(Symbols *s, int symbol, const uint8_t *text, size_t n)
{
    memmove(s->text + s->used, text, n);
    s->spelling[symbol].at = (uint32_t)s->used;
    s->spelling[symbol].size = (uint32_t)n;
    s->used += n;
    *symbol_slot(s, s->text + s->used - n, n) = symbol + 1;
}

/* One written symbol to its spelling: bytes, then 1 when the word ends and 0 otherwise. 0: it is not one. */
static size_t read_symbol(const Symbols *s, const char *text, size_t n, uint8_t *spelling)
{
    bool last = n > 4 && !memcmp(text + n - 4, "</w>", 4);
    const char *end = text + n - (last ? 4 : 0);
    size_t size = 0;
    for (const char *p = text; p < end;) {
        uint32_t c = tic_utf8_next(&p, end);
        if (c >= 512 || (c && !s->byte_of[c] && c != 256) || !c)
            return 0;
        spelling[size++] = s->byte_of[c];
    }
    spelling[size++] = last;
    return size;
}

static TicStatus no_vocabulary(const char *path, int line, const char *why)
{
    return tic_fail(TIC_USER, "%s: line %d: %s; CLIP's bpe_simple_vocab_16e6.txt (or .gz) wanted", path, line, why);
}

static TicStatus read_merges(TicBpe *b, Symbols *s, const char *path, const char *text, size_t size)
{
    enum { LONGEST = 1024 };
    uint8_t left[LONGEST], right[LONGEST];
    const char *p = text, *end = text + size;
    const char *header = memchr(p, '\n', size);
    if (!header || !memmem(p, (size_t)(header - p), "#version", 8))
        return no_vocabulary(path, 1, "not the header of a vocabulary");
    p = header + 1;
    for (int i = 0; i < MERGES; i++) {
        const char *line = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
        if (!line && p < end)
            line = end;
        if (!line)
            return no_vocabulary(path, i + 2, "the file ends before its 48,894th merge");
        const char *stop = line > p && line[-1] == '\r' ? line - 1 : line;
        const char *space = memchr(p, ' ', (size_t)(stop - p));
        if (!space || space == p || space + 1 == stop || stop - p > LONGEST / 2)
            return no_vocabulary(path, i + 2, "two symbols and a space between them wanted");
        size_t nl = read_symbol(s, p, (size_t)(space - p), left);
        size_t nr = read_symbol(s, space + 1, (size_t)(stop - space - 1), right);
        int32_t l = nl ? *symbol_slot(s, left, nl) : 0, r = nr ? *symbol_slot(s, right, nr) : 0;
        if (!l || !r || left[nl - 1])
            return no_vocabulary(path, i + 2, "a merge of symbols that no earlier line made");
        memmove(left + nl - 1, right, nr);
        if (*symbol_slot(s, left, nl - 1 + nr))
            return no_vocabulary(path, i + 2, "a symbol that an earlier line made");
        add_symbol(s, FIRST_MERGE + i, left, nl - 1 + nr);
        add_merge(b, l - 1, r - 1, FIRST_MERGE + i);
        p = line < end ? line + 1 : end;
    }
    return TIC_OK;
}

/* gzread passes plain files through. */
static TicStatus read_packed(const char *path, char **text, size_t *size)
{
    struct stat st;
    errno = 0;
    gzFile f = !stat(path, &st) && S_ISREG(st.st_mode) ? gzopen(path, "rb") : NULL;
    if (!f)
        return tic_fail(TIC_USER, "%s: cannot open the vocabulary: %s", path, errno ? strerror(errno) : "not a file");
    size_t room = 1 << 20, n = 0;
    char *data = tic_alloc(room);
    int got;
    while ((got = gzread(f, data + n, (unsigned)(room - n))) > 0) {
        n += (size_t)got;
        if (n > FILE_LIMIT)
            break;
        if (n == room)
            data = tic_realloc(data, room *= 2);
    }
    gzclose(f);
    if (got < 0 || n > FILE_LIMIT) {
        free(data);
        return tic_fail(TIC_USER, "%s: %s; CLIP's bpe_simple_vocab_16e6.txt (or .gz) wanted", path,
                        got < 0 ? "a broken gzip file" : "far too large for a vocabulary");
    }
    *text = data;
    *size = n;
    return TIC_OK;
}

static TicStatus open_vocabulary(const char *path, TicBpe **out)
{
    TicBpe *b = tic_alloc(sizeof *b);
    Symbols *s = tic_alloc(sizeof *s);
    b->merge = tic_alloc(SLOTS * sizeof *b->merge);
    b->path = path ? tic_strdup(path) : NULL;
    set_alphabet(b, s->byte_of);
    char *text = NULL;
    size_t size = 0;
    TicStatus status = path ? read_packed(path, &text, &size) : TIC_OK;
    if (!status && path) {
        /* A spelling is no longer than its line, and every one gets a byte for the end of word. */
        s->text = tic_alloc(size + 2 * TIC_VOCABULARY);
        for (int c = 0; c < 256; c++) {
            add_symbol(s, b->byte_symbol[c], (uint8_t[]){ (uint8_t)c, 0 }, 2);
            add_symbol(s, b->byte_symbol[c] + 256, (uint8_t[]){ (uint8_t)c, 1 }, 2);
        }
        status = read_merges(b, s, path, text, size);
    }
    free(text);
    free(s->text);
    free(s);
    if (status)
        tic_bpe_close(b);
    else
        *out = b;
    return status;
}

/* Where `make vocab` leaves the vocabulary, or what TICC_VOCAB says (empty: nowhere); NULL when there is none. */
static char *find_vocabulary(void)
{
    const char *said = getenv("TICC_VOCAB"), *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (said)
        return *said ? tic_strdup(said) : NULL;
    char *path = cache && *cache ? tic_format("%s/ticc/" VOCABULARY_FILE, cache)
               : home ? tic_format("%s/.cache/ticc/" VOCABULARY_FILE, home) : NULL;
    if (path && access(path, R_OK)) {
        free(path);
        path = NULL;
    }
    return path;
}

TicStatus tic_bpe_open(const char *path, TicBpe **out)
{
    *out = NULL;
    if (!path) {
        char *found = find_vocabulary();
        TicStatus status = found ? tic_bpe_open(found, out) : open_vocabulary(NULL, out);
        free(found);
        return status;
    }
    return open_vocabulary(path, out);
}

void tic_bpe_close(TicBpe *b)
{
    if (!b)
        return;
    free(b->path);
    free(b->merge);
    free(b);
}

bool tic_bpe_is_fallback(const TicBpe *b) { return !b->path; }
const char *tic_bpe_path(const TicBpe *b) { return b->path; }

/* One piece while it is merged. Arrays grow to the longest piece and serve all pieces of a caption. */
typedef struct { int32_t made; uint32_t at; } Candidate;

typedef struct {
    int32_t *symbol;               /* [n]; -1: swallowed by its left neighbour */
    uint32_t *next, *previous;     /* [n]; n and UINT32_MAX end the list */
    Candidate *heap;
    size_t heap_size, room;
} Piece;

static bool before(Candidate a, Candidate b) { return a.made != b.made ? a.made < b.made : a.at < b.at; }

static void push(Piece *p, Candidate c)
{
    size_t i = p->heap_size++;
    for (; i && before(c, p->heap[(i - 1) / 2]); i = (i - 1) / 2)
        p->heap[i] = p->heap[(i - 1) / 2];
    p->heap[i] = c;
}

static Candidate pop(Piece *p)
{
    Candidate top = p->heap[0], last = p->heap[--p->heap_size];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < p->heap_size) {
        if (child + 1 < p->heap_size && before(p->heap[child + 1], p->heap[child]))
            child++;
        if (!before(p->heap[child], last))
            break;
        p->heap[i] = p->heap[child];
        i = child;
    }
    p->heap[i] = last;
    return top;
}

static void consider(const TicBpe *b, Piece *p, uint32_t at, uint32_t right)
{
    int made = find_merge(b, p->symbol[at], p->symbol[right]);
    if (made)
        push(p, (Candidate){ made, at });
}

/* p->symbol[0..n) are the piece's bytes as symbols, the last one ending the word. Merges them in place. */
static void merge_piece(const TicBpe *b, Piece *p, uint32_t n)
{
    p->heap_size = 0;
    for (uint32_t i = 0; i < n; i++) {
        p->next[i] = i + 1;
        p->previous[i] = i - 1;                          /* UINT32_MAX before the first */
        if (i + 1 < n)
            consider(b, p, i, i + 1);
    }
    while (p->heap_size) {
        Candidate c = pop(p);
        uint32_t right = p->symbol[c.at] < 0 ? n : p->next[c.at];
        if (right == n || find_merge(b, p->symbol[c.at], p->symbol[right]) != c.made)
            continue;                                    /* one of the two has changed since */
        p->symbol[c.at] = c.made;
        p->symbol[right] = -1;
        p->next[c.at] = p->next[right];
        if (p->next[right] < n) {
            p->previous[p->next[right]] = c.at;
            consider(b, p, c.at, p->next[right]);
        }
        if (p->previous[c.at] != UINT32_MAX)
            consider(b, p, p->previous[c.at], c.at);
    }
}

static void piece_room(Piece *p, size_t n)
{
    if (n <= p->room)
        return;
    p->room = n * 2;
    p->symbol = tic_realloc(p->symbol, p->room * sizeof *p->symbol);
    p->next = tic_realloc(p->next, p->room * sizeof *p->next);
    p->previous = tic_realloc(p->previous, p->room * sizeof *p->previous);
    /* n - 1 pairs at first, and each of at most n - 1 merges adds at most two. */
    p->heap = tic_realloc(p->heap, p->room * 3 * sizeof *p->heap);
}

/* True when the text at `i` begins with the ASCII word. */
static bool starts(const TicText *t, size_t i, const char *word)
{
    size_t k = 0;
    for (; word[k]; k++)
        if (i + k >= t->n || t->c[i + k] != (unsigned char)word[k])
            return false;
    return true;
}

static const char *const contractions[] = { "'s", "'t", "'re", "'ve", "'m", "'ll", "'d" };

/* The length of the piece at `i`, which is no space; *special: its token when it is a special one, else 0. */
static size_t piece_length(const TicText *t, size_t i, int *special)
{
    static const struct { const char *name; int token; } specials[] = {
        { "<start_of_text>", TIC_TOKEN_START }, { "<end_of_text>", TIC_TOKEN_END } };
    size_t n = 1;
    *special = 0;
    for (size_t k = 0; k < TIC_LEN(specials); k++) {
        if (starts(t, i, specials[k].name)) {
            *special = specials[k].token;
            return strlen(specials[k].name);
        }
    }
    if (t->c[i] == '\'') {
        for (size_t k = 0; k < TIC_LEN(contractions); k++)
            if (starts(t, i, contractions[k]))
                return strlen(contractions[k]);
        if (i + 1 < t->n && t->c[i + 1] == 0x17F)        /* the long s is an s to a matcher that ignores case */
            return 2;
    }
    if (tic_is_number(t->c[i]))
        return 1;
    if (tic_is_letter(t->c[i])) {
        while (i + n < t->n && tic_is_letter(t->c[i + n]))
            n++;
        return n;
    }
    while (i + n < t->n && !tic_is_space(t->c[i + n]) && !tic_is_letter(t->c[i + n]) && !tic_is_number(t->c[i + n]))
        n++;
    return n;
}

int tic_bpe_encode(const TicBpe *b, const char *utf8, size_t size, int context, int32_t *tokens)
{
    TicText t = { 0 };
    Piece p = { 0 };
    int n = 0;
    tic_clean_caption(utf8, size, &t);
    tokens[n++] = TIC_TOKEN_START;
    for (size_t i = 0, length; i < t.n && n < context; i += length) {
        int special;
        length = 1;
        if (tic_is_space(t.c[i]))
            continue;
        length = piece_length(&t, i, &special);
        if (special) {
            tokens[n++] = special;
            continue;
        }
        piece_room(&p, length * 4);
        uint32_t bytes = 0;
        for (size_t k = 0; k < length; k++) {
            char utf[4];
            int m = tic_utf8_put(utf, t.c[i + k]);
            for (int j = 0; j < m; j++)
                p.symbol[bytes++] = b->byte_symbol[(uint8_t)utf[j]];
        }
        p.symbol[bytes - 1] += 256;
        merge_piece(b, &p, bytes);
        for (uint32_t k = 0; k < bytes && n < context; k++)
            if (p.symbol[k] >= 0)
                tokens[n++] = p.symbol[k];
    }
    if (n == context)
        n--;
    tokens[n++] = TIC_TOKEN_END;
    for (int i = n; i < context; i++)
        tokens[i] = 0;
    free(p.symbol);
    free(p.next);
    free(p.previous);
    free(p.heap);
    tic_text_free(&t);
    return n;
}
