/* json.h -- reads the small JSON objects that lie beside images: KEY.json in a shard, sizes.json beside shards.
 *
 * The whole text becomes one tree of nodes in two blocks of memory (nodes, decoded text), freed together.
 * Strict on structure: one value, no trailing commas, no comments, nesting at most TIC_JSON_DEPTH. Lenient where
 * the writers of such files are: NaN, Infinity and -Infinity are numbers (Python writes them), a lone surrogate
 * escape becomes U+FFFD, and bytes above 0x7f in strings are kept as they are (tic_utf8_next cleans them later). */
#ifndef TIC_DATA_JSON_H
#define TIC_DATA_JSON_H
#include "base.h"

enum { TIC_JSON_DEPTH = 64 };

typedef enum { TIC_JSON_NULL, TIC_JSON_BOOL, TIC_JSON_NUMBER, TIC_JSON_STRING, TIC_JSON_ARRAY, TIC_JSON_OBJECT } TicJsonKind;

typedef struct TicJson {
    TicJsonKind kind;
    const char *key;               /* the name inside an object, zero-terminated; NULL elsewhere */
    const char *text;              /* STRING: decoded, zero-terminated (may hold further zero bytes) */
    size_t size;                   /* STRING: bytes; ARRAY, OBJECT: children */
    double number;                 /* NUMBER; BOOL: 0 or 1 */
    const struct TicJson *child;   /* ARRAY, OBJECT: the first one, in file order */
    const struct TicJson *next;    /* the next sibling */
} TicJson;

/* Parses `size` bytes. TIC_USER with the byte offset when the text is not JSON. *root: tic_json_free. */
TicStatus tic_json_parse(const char *data, size_t size, TicJson **root);
void tic_json_free(TicJson *root);

/* The member `key` of an object; NULL when there is none, or when `object` is NULL or no object.
 * Of repeated keys the last one counts, as in Python. */
const TicJson *tic_json_get(const TicJson *object, const char *key);
/* True when `n` is a number that is exactly an int64_t. */
bool tic_json_integer(const TicJson *n, int64_t *value);

/* `size` bytes of UTF-8 as a JSON string literal with its quotes; invalid bytes become U+FFFD. Caller frees. */
char *tic_json_quote(const char *text, size_t size);
#endif
