/* fuzz_tar.c -- any bytes as a shard, and what is read out of shards: samples, their json, sizes.json, lists of shards.
 *
 * Bytes alone hardly ever pass a header's checksum, so the input is read in three ways: as it is, with every checksum
 * mended, and as a script that writes an archive (names that collide, long names, pax records, sizes in base 256,
 * links, pictures, json), which is then damaged a little. Scripts also write json and lists of shards. Checked besides
 * the absence of crashes: what lies in memory and what lies in a file give the same members, no member leaves the file,
 * the parts of a sample have the bytes of the archive, a string survives being quoted and read, names have an order. */
#define _GNU_SOURCE
#include "data/json.h"
#include "data/sample.h"
#include "data/tar.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { BLOCK = 512, ROOM = 1 << 19, MOST_SAMPLES = 200, EDGE = 8 };

static void wanted(bool truth, const char *what)
{
    if (!truth) {
        fprintf(stderr, "fuzz_tar: %s (%s)\n", what, tic_error());
        abort();
    }
}

/* ---- a scratch folder: this process works in DIR/a/b, so that ".." in a list of shards stays inside DIR */

static char scratch[64];

static void leave(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", scratch);
    if (chdir("/") || system(command))
        fprintf(stderr, "fuzz_tar: %s: left behind\n", scratch);
}

static void enter(void)
{
    if (*scratch)
        return;
    strcpy(scratch, "/tmp/fuzz_tar_XXXXXX");
    wanted(mkdtemp(scratch) && !chdir(scratch) && !mkdir("a", 0777) && !mkdir("a/b", 0777) && !chdir("a/b"),
           "a scratch folder");
    atexit(leave);
}

static void put_file(const char *name, const void *data, size_t size)
{
    remove(name);                    /* a file system may wait for the disk when a file is made empty and closed */
    FILE *f = fopen(name, "wb");
    wanted(f && fwrite(data, 1, size, f) == size && !fclose(f), "a scratch file");
}

/* ---- json */

static void walk_json(const TicJson *n, int depth)
{
    int64_t integer;
    tic_json_integer(n, &integer);
    wanted(depth <= TIC_JSON_DEPTH, "json nested deeper than its bound");
    if (n->kind == TIC_JSON_STRING) {
        wanted(!n->text[n->size], "a string without its end");
        char *quoted = tic_json_quote(n->text, n->size), *again;
        TicJson *back;
        wanted(!tic_json_parse(quoted, strlen(quoted), &back), "a quoted string that does not parse");
        again = tic_json_quote(back->text, back->size);
        wanted(!strcmp(quoted, again), "a quoted string that changes");
        free(quoted);
        free(again);
        tic_json_free(back);
    }
    size_t children = 0;
    for (const TicJson *c = n->child; c; c = c->next, children++) {
        walk_json(c, depth + 1);
        if (n->kind == TIC_JSON_OBJECT && children < 20)
            wanted(tic_json_get(n, c->key) != NULL, "a member that is not found by its name");
    }
    wanted(n->kind == TIC_JSON_STRING || children == n->size, "a wrong count of children");
}

static void read_json(const char *data, size_t size)
{
    TicJson *root;
    if (!tic_json_parse(data, size, &root))
        walk_json(root, 0);
    tic_json_free(root);
    tic_error_clear();
}

/* ---- a script: the input's bytes decide what is written */

typedef struct { const uint8_t *p, *end; } Script;

static unsigned next(Script *s) { return s->p < s->end ? *s->p++ : 0; }

typedef struct { char text[4096]; size_t n; } Writer;

static void write_text(Writer *w, const char *text)
{
    size_t n = strlen(text);
    if (w->n + n < sizeof w->text) {
        memcpy(w->text + w->n, text, n + 1);
        w->n += n;
    }
}

static const char *const atoms[] = {
    "0", "-0", "12", "-3.5", "1e3", "2E-2", "1e999", "9223372036854775808", "NaN", "Infinity", "-Infinity", "null",
    "true", "false", "\"\"", "\"a\"", "\"\\u00e9\\n\"", "\"\\ud83c\\udf89\"", "\"\\ud800x\"", "\"\\u0000\"",
    "\"\303\251\377\"", "\"\\/\\\\\\\"\"",
};
static const char *const keys[] = {
    "\"0.tar\":", "\"caption\" : ", "\"uid\":", "\"timestamp\":", "\"\":", "\"\\u0061\":",
};

static void write_json(Script *s, Writer *w, int depth)
{
    unsigned what = next(s);
    if (depth > TIC_JSON_DEPTH + 1 || what < 128 || w->n > 3000) {
        write_text(w, atoms[what % TIC_LEN(atoms)]);
        return;
    }
    unsigned many = what < 140 ? 0 : what > 250 ? 70 : what % 4;       /* 70: more than one block of nodes */
    write_text(w, what % 2 ? "{" : "[ ");
    for (unsigned i = 0; i < many; i++) {
        write_text(w, i ? "," : "");
        if (what % 2)
            write_text(w, keys[next(s) % TIC_LEN(keys)]);
        write_json(s, w, depth + 1);
    }
    write_text(w, what % 2 ? " }" : "]");
}

static void make_json(const uint8_t *data, size_t size, Writer *w)
{
    Script s = { data, data + size };
    uint64_t hash = tic_hash(data, size, 1);
    unsigned harm = hash & 255, how = hash >> 8 & 255;
    w->n = 0;
    write_text(w, how % 16 == 15 ? "\357\273\277" : "");
    unsigned deep = how % 16 == 14 ? TIC_JSON_DEPTH - 2 + harm / 4 % 4 : 0;      /* about as deep as is allowed */
    for (unsigned i = 0; i < deep; i++)
        write_text(w, "[");
    write_json(&s, w, 0);
    for (unsigned i = 0; i < deep; i++)
        write_text(w, "]");
    if (harm % 4 == 0)
        w->text[how * 256u % (w->n + 1)] = (char)next(&s);
    if (harm % 8 == 1)
        w->n = how % (w->n + 1);
}

/* ---- archives */

static uint64_t walk_tar(TicTar *t, size_t size)
{
    TicTarMember m;
    TicStatus status;
    uint64_t sum = 0;
    int64_t last = 0;
    while (!(status = tic_tar_next(t, &m))) {
        size_t key;
        const char *extension;
        wanted(m.offset > last && m.size >= 0 && (uint64_t)m.offset + (uint64_t)m.size <= size, "a member outside");
        last = m.offset;
        sum = tic_hash(m.name, strlen(m.name), sum ^ (uint64_t)m.offset ^ (uint64_t)m.size << 32);
        if (tic_tar_key(m.name, &key, &extension))
            wanted(key && m.name[key] == '.' && extension == m.name + key + 1 && *extension, "a wrong key");
    }
    wanted(status == TIC_END, "a walk that does not end");
    wanted(tic_tar_next(t, &m) == TIC_END, "a walk that goes on behind its end");
    sum = tic_hash(&sum, sizeof sum, tic_tar_damage(t) != NULL);
    tic_tar_close(t);
    return sum;
}

/* Every part that the index reads is where the archive has it. */
static void read_sample(TicIndex *x, TicDecoder *d, int64_t i, const uint8_t *data, size_t size)
{
    TicSampleRef ref;
    TicSkip reason;
    const char *text;
    size_t n;
    if (!tic_index_sample(x, 0, i, &ref) && !(ref.has & TIC_TOO_LARGE) && !tic_index_read(x, 0, &ref, &d->bytes)) {
        const TicSampleBytes *b = &d->bytes;
        const uint8_t *at = data + ref.offset;
        wanted(!b->image || !memcmp(b->image, at + ref.image_at, b->image_size), "a picture's bytes");
        wanted(!b->text || !memcmp(b->text, at + ref.text_at, b->text_size), "a caption's bytes");
        wanted(!b->json || !memcmp(b->json, at + ref.json_at, b->json_size), "a json's bytes");
        wanted(!b->class_text || !memcmp(b->class_text, at + ref.class_at * BLOCK, b->class_size), "a class's bytes");
        wanted((size_t)ref.offset <= size && *tic_index_key(x, 0, &ref), "a sample's place and key");
    }
    tic_error_clear();
    static const TicCrop crop = { 0.5, 1, 3.0 / 4, 4.0 / 3 };           /* a crop and the whole in turn */
    uint8_t planes[3 * EDGE * EDGE];
    if (!tic_decoder_read(d, x, 0, i, i % 2 ? &crop : NULL, tic_random(7, (uint64_t)i, 0), &ref, planes, &reason) && tic_decoder_caption(d, &text, &n, &reason))
        wanted(tic_hash(text, n, 0) != 1, "a caption");                 /* reads every byte */
    tic_error_clear();
}

static void read_index(const char *spec, const uint8_t *data, size_t size)
{
    TicShardList list = { 0 };
    TicIndex *x = NULL;
    TicDecoder d;
    int64_t count;
    bool usable = !tic_shards_add(&list, spec) && !tic_index_open(&list, 1, (TicWarn){ 0 }, &x);
    if (usable && !tic_index_count(x, 0, &count)) {
        tic_decoder_init(&d, EDGE);
        for (int64_t i = 0; i <= count && i < MOST_SAMPLES; i++)        /* the last one does not exist */
            read_sample(x, &d, i, data, size);
        tic_decoder_free(&d);
    }
    tic_index_close(x);
    tic_shards_clear(&list);
    tic_error_clear();
}

/* `alone`: no sizes.json beside it. */
static void read_archive(const uint8_t *data, size_t size, bool alone)
{
    TicTar *file;
    put_file("0.tar", data, size);
    uint64_t memory = walk_tar(tic_tar_open_memory(data, size), size);
    wanted(!tic_tar_open("0.tar", &file), "the file just written");
    wanted(walk_tar(file, size) == memory, "another walk of the file than of its bytes");
    if (alone && unlink("sizes.json"))
        errno = 0;
    read_index("0.tar", data, size);
}

static void mend(uint8_t *h)
{
    unsigned sum = 0;
    memset(h + 148, ' ', 8);
    for (int i = 0; i < BLOCK; i++)
        sum += h[i];
    snprintf((char *)h + 148, 8, "%06o", sum);
}

/* ---- archives by script */

static const char *const names[] = {
    "a.jpg", "a.txt", "a.json", "a.cls", "a.JPG", "b.jpg", "b.txt", "b.seg.png", "b.webp", "dir/c.json", "dir.d/c.txt",
    "c", ".txt", "__pycache__/a.txt", "__x__", "a..txt", "a.", "dir/.jpg",
};

static uint8_t *picture;                                 /* a small JPEG */
static size_t picture_size;

static void draw_picture(void)
{
    uint8_t rgb[8 * 8 * 3];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * 5);
    if (!picture)
        wanted(!tic_jpeg_encode(rgb, 8, 8, 50, &picture, &picture_size), "a picture");
}

/* A pax record of a path or a size, its length right. Returns its bytes. */
static size_t put_record(Script *s, char *to)
{
    char value[200];
    unsigned field = next(s) % 4;
    if (field == 3)
        snprintf(value, sizeof value, "%u", next(s) << (next(s) % 24));
    else
        snprintf(value, sizeof value, "%s%s", field == 1 ? "dir/" : "", names[next(s) % TIC_LEN(names)]);
    size_t length = strlen(value) + strlen("nn path=\n");
    return (size_t)snprintf(to, BLOCK, "%02zu %s=%s\n", length, field == 3 ? "size" : "path", value);
}

/* What stands in an entry of that name; all kinds are sometimes just bytes of the input. */
static size_t put_contents(Script *s, const char *name, char type, bool proper, uint8_t *to)
{
    const char *dot = strrchr(name, '.');
    size_t n = next(s);
    if (proper && (type == 'x' || type == 'g'))
        return put_record(s, (char *)to);
    if (proper && dot && !strcmp(dot, ".jpg")) {
        memcpy(to, picture, picture_size);
        return picture_size;
    }
    if (proper && dot && !strcmp(dot, ".json")) {
        Writer w = { .n = 0 };
        write_json(s, &w, 0);
        memcpy(to, w.text, w.n);
        return w.n;
    }
    n = n < (size_t)(s->end - s->p) ? n : (size_t)(s->end - s->p);
    memcpy(to, s->p, n);
    s->p += n;
    return n;
}

static size_t put_entry(Script *s, uint8_t *to, size_t room)
{
    static const char types[] = "0000000\0" "75Lxgx2K";
    unsigned how = next(s), kind = next(s), name = next(s);
    char type = types[kind % 16];
    if (room < 40 * BLOCK)
        return 0;
    memset(to, 0, 40 * BLOCK);
    if (how & 1)
        strcpy((char *)to, names[name % TIC_LEN(names)]);
    else
        memcpy(to, s->p, s->end - s->p < 100 ? (size_t)(s->end - s->p) : 100);
    char plain[101] = "";
    memcpy(plain, to, 100);
    size_t size = put_contents(s, plain, type, how & 32, to + BLOCK);
    if (how % 32 == 31)
        size += 1 << 14;                                 /* zeros behind it */
    memcpy(to + 100, "0000444", 7);
    snprintf((char *)to + 124, 12, "%011zo", size);
    if (how & 2) {                                       /* base 256, sometimes a number that is far too large */
        memset(to + 124, 0, 12);
        to[124] = 0x80;
        to[125 + name % 8] = (uint8_t)(how % 64 == 2 ? name : 0);
        to[134] = (uint8_t)(size >> 8);
        to[135] = (uint8_t)size;
    }
    to[156] = (uint8_t)type;
    memcpy(to + 257, how & 4 ? "ustar\00000" : "ustar  \0", how & 8 ? 8 : 0);
    if (how & 16)
        memcpy(to + 345, s->p, s->end - s->p < 155 ? (size_t)(s->end - s->p) : 155);
    mend(to);
    return BLOCK + (size + BLOCK - 1) / BLOCK * BLOCK;
}

static void run_script(const uint8_t *data, size_t size)
{
    static uint8_t made[ROOM];
    Script s = { data, data + size };
    size_t used = 0, n;
    /* drawn from the input's hash: first bytes hardly ever change */
    uint64_t hash = tic_hash(data, size, 0);
    unsigned ending = hash & 255, harm = hash >> 8 & 255;
    while (s.p < s.end && (n = put_entry(&s, made + used, ROOM - 4 * BLOCK - used)))
        used += n;
    if (ending & 1) {
        memset(made + used, 0, 2 * BLOCK);
        used += 2 * BLOCK;
    }
    for (unsigned i = 0; i < harm % 4 && used; i++) {
        TicRandom4 r = tic_philox(harm, i, size);
        size_t at = r.v[0] % used, block = at / BLOCK * BLOCK;
        made[at] = (uint8_t)r.v[1];
        if ((r.v[2] & 1) && block + BLOCK <= used)
            mend(made + block);
    }
    if (ending % 8 == 6 && used)
        used -= tic_philox(ending, size, 0).v[0] % (used < 2000 ? used : 2000);
    uint8_t *exact = tic_alloc(used ? used : 1);         /* its own block, so that one byte too far is seen */
    memcpy(exact, made, used);
    read_archive(exact, used, ending & 2);
    free(exact);
}

/* ---- lists: text as it is, and text put together from pieces. Without '/' it cannot leave the scratch folder. */

static void read_list(const uint8_t *data, size_t size, bool pieces)
{
    static const char *const piece[] = {
        "0.tar", "0", "{", "}", ",", "..", "1", "::", ".tar", "{0..1}", "{00..1}", "{1..0}", "{0,1}", "-", "..2}",
        "{0..99}", ".", "{9999..0..-2}",
    };
    Writer w = { .n = 0 };
    TicShardList list = { 0 };
    for (size_t i = 0; i < size && i < (pieces ? 6 : 200); i++) {
        const char one[2] = { (char)(data[i] == '/' ? '0' : data[i]), 0 };
        write_text(&w, pieces ? piece[data[i] % TIC_LEN(piece)] : one);
    }
    const char *spec = w.text;
    if (tic_shards_add(&list, spec))
        wanted(!list.count && *tic_error(), "a refused list that is not empty, or no reason");
    tic_shards_clear(&list);
    tic_error_clear();
}

/* Names of few different characters, so that many are nearly equal: there and back the order is the same. */
static void order_names(const uint8_t *data)
{
    char name[3][5] = { { 0 } };
    int order[3];
    for (int i = 0; i < 12; i++)
        name[i / 4][i % 4] = "0012a\0.\377"[data[i] % 8];
    for (int i = 0; i < 3; i++) {
        order[i] = tic_natural_order(name[i], name[(i + 1) % 3]);
        wanted(!order[i] == !strcmp(name[i], name[(i + 1) % 3]), "different names of one order");
        int back = tic_natural_order(name[(i + 1) % 3], name[i]);
        wanted((back > 0) == (order[i] < 0), "an order that depends on the side");
    }
    wanted(!(order[0] < 0 && order[1] < 0 && order[2] < 0) && !(order[0] > 0 && order[1] > 0 && order[2] > 0),
           "an order that runs in a circle");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enter();
    tic_error_clear();
    draw_picture();
    read_json((const char *)data, size);
    static Writer w;
    make_json(data, size, &w);
    char *exact = tic_alloc(w.n + 1);
    memcpy(exact, w.text, w.n);
    read_json(exact, w.n);
    put_file("sizes.json", exact, w.n);
    free(exact);
    run_script(data, size);
    read_list(data, size, false);
    if (tic_hash(data, size, 2) % 8 == 0)
        read_list(data, size, true);
    read_archive(data, size, true);
    uint8_t *mended = tic_alloc(size ? size : 1);
    memcpy(mended, data, size);
    for (size_t at = 0; at + BLOCK <= size; at += BLOCK)
        mend(mended + at);
    read_archive(mended, size, true);
    free(mended);
    if (size >= 16)
        order_names(data);
    return 0;
}
