/* index.h -- where the samples of a list of shards lie.
 *
 * A sample is a run of consecutive members with one key (tar.h): an image (jpg, jpeg, png, webp), a caption (txt, or
 * the "caption" of json), and perhaps cls. A repeated extension starts a new sample. The table of a shard is made
 * when it is first needed, by reading tar headers only, and then kept: about 40 bytes a sample and its key.
 *
 * Positions 0..total-1 run through the shards in list order. A shard whose sizes.json states how many samples it
 * has is not opened for that; when the statement is larger than the truth, the positions beyond are TIC_BAD_SAMPLE,
 * and when it is smaller, the samples beyond are not reached. Both are reported once.
 *
 * All functions may be called from many threads at once, except open and close. */
#ifndef TIC_DATA_INDEX_H
#define TIC_DATA_INDEX_H
#include "data/shards.h"

typedef struct TicIndex TicIndex;

/* Receives one line about damaged or misdescribed shards; calls are serialised. May be NULL. */
typedef struct {
    void (*line)(void *context, const char *text);
    void *context;
} TicWarn;

typedef struct {
    int64_t offset;                /* bytes from the start of the shard; the parts' are relative to it */
    uint32_t image_at, image_size;
    uint32_t text_at, text_size;
    uint32_t json_at, json_size;
    uint32_t key;                  /* see tic_index_key */
    uint16_t class_at;             /* in blocks of 512 bytes */
    uint8_t class_size;
    uint8_t has;                   /* TIC_HAS_* */
} TicSampleRef;

/* TIC_HAS_FOREIGN: an image whose extension says that it is not read; while there is no other one, image_at is its TicForeign. */
enum { TIC_HAS_IMAGE = 1, TIC_HAS_TEXT = 2, TIC_HAS_JSON = 4, TIC_HAS_CLASS = 8, TIC_TOO_LARGE = 16, TIC_HAS_FOREIGN = 32 };

/* A member larger than this makes its sample unusable (TIC_TOO_LARGE). */
enum { TIC_MAX_MEMBER = 256 << 20 };

/* Copies the list. Shards without a stated size are read here, by up to `threads` threads. TIC_USER when the list
 * holds no sample. */
TicStatus tic_index_open(const TicShardList *list, int threads, TicWarn warn, TicIndex **out);
void tic_index_close(TicIndex *x);

int64_t tic_index_total(const TicIndex *x);          /* samples, as stated or counted */
const char *tic_index_path(const TicIndex *x, int shard);

/* The shard and the place in it of position `at` in [0, total). */
void tic_index_locate(const TicIndex *x, int64_t at, int *shard, int64_t *sample);
/* The number of samples truly in a shard. */
TicStatus tic_index_count(TicIndex *x, int shard, int64_t *count);
/* TIC_BAD_SAMPLE when the shard has no such sample; TIC_IO, TIC_USER when it cannot be read at all. */
TicStatus tic_index_sample(TicIndex *x, int shard, int64_t sample, TicSampleRef *ref);
/* The key of a sample, valid as long as the index. */
const char *tic_index_key(TicIndex *x, int shard, const TicSampleRef *ref);

/* The bytes of one sample's parts, read together. Pointers go into `buffer`, which grows and may be reused; no part
 * ends with a zero byte: use the sizes. */
typedef struct {
    uint8_t *buffer;
    size_t room;
    const uint8_t *image;  size_t image_size;
    const char *text;      size_t text_size;
    const char *json;      size_t json_size;
    const char *class_text; size_t class_size;
} TicSampleBytes;

/* Fills b with the parts that the sample has (others NULL). TIC_IO when the shard cannot be read, or is not
 * the file any more that its table was made of: another size or time of writing. */
TicStatus tic_index_read(TicIndex *x, int shard, const TicSampleRef *ref, TicSampleBytes *b);
void tic_sample_bytes_free(TicSampleBytes *b);

int64_t tic_index_damaged(const TicIndex *x);        /* shards found damaged so far */
#endif
