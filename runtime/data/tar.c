/* tar.c -- see tar.h. Headers are read through a window of a few kilobytes: a caption and a JSON member usually
 * lie in it together with the header that follows, while images are stepped over without being read. */
#define _GNU_SOURCE
#include "data/tar.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    BLOCK = 512,
    WINDOW = 8192,
    MAX_META = 1 << 20,            /* bytes of one long name or pax header that we are willing to read */
};

/* Byte ranges of the header fields we read or write. */
enum { NAME = 0, MODE = 100, UID = 108, GID = 116, SIZE = 124, MTIME = 136, CHECKSUM = 148, TYPE = 156, MAGIC = 257,
       PREFIX = 345, MAP_GOES_ON = 482 /* type 'S' */, MAP_BLOCK_GOES_ON = 504 };

struct TicTar {
    char *path;                    /* NULL: memory */
    int fd;
    const uint8_t *memory;
    int64_t file_size, next;       /* `next`: where the next header stands */
    int64_t window_at;
    int64_t window_size;
    uint8_t window[WINDOW];
    char *name;                    /* of the member last delivered */
    size_t name_room;
    char *long_name;               /* announced by 'L' or pax for the next member; NULL: none */
    char *global_name;
    int64_t long_size, global_size;    /* -1: none */
    bool sparse;                   /* pax says so of the next member: its bytes are not those of the file */
    char *damage;
    bool ended;
};

static TicTar *new_tar(int64_t size)
{
    TicTar *t = tic_alloc(sizeof *t);
    t->fd = -1;
    t->file_size = size;
    t->long_size = t->global_size = -1;
    return t;
}

TicStatus tic_tar_open(const char *path, TicTar **out)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);      /* a pipe that nobody writes must not stop us here */
    struct stat st;
    if (fd < 0 || fstat(fd, &st)) {
        TicStatus status = tic_fail(TIC_USER, "%s: cannot open the shard: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return status;
    }
    if (!S_ISREG(st.st_mode)) {
        close(fd);
        return tic_fail(TIC_USER, "%s: not a file, a tar file wanted", path);
    }
    *out = new_tar(st.st_size);
    (*out)->fd = fd;
    (*out)->path = tic_strdup(path);
    return TIC_OK;
}

TicTar *tic_tar_open_memory(const void *data, size_t size)
{
    TicTar *t = new_tar((int64_t)size);
    t->memory = data;
    return t;
}

void tic_tar_close(TicTar *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close(t->fd);
    free(t->path);
    free(t->name);
    free(t->long_name);
    free(t->global_name);
    free(t->damage);
    free(t);
}

const char *tic_tar_damage(const TicTar *t) { return t->damage; }

static TicStatus stop(TicTar *t, char *damage)
{
    if (t->damage)
        free(damage);
    else
        t->damage = damage;
    t->ended = true;
    return TIC_END;
}

/* Copies n bytes at `at`; the caller has checked that they lie inside the file as it was when opened. */
static TicStatus read_at(TicTar *t, int64_t at, void *to, size_t n)
{
    if (t->memory) {
        memcpy(to, t->memory + at, n);
        return TIC_OK;
    }
    for (size_t done = 0; done < n;) {
        ssize_t got = pread(t->fd, (char *)to + done, n - done, at + (int64_t)done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tic_fail(TIC_IO, "%s: cannot read: %s", t->path, strerror(errno));
        if (got == 0)
            return stop(t, tic_format("the file became shorter while it was read"));
        done += (size_t)got;
    }
    return TIC_OK;
}

static TicStatus read_block(TicTar *t, int64_t at, const uint8_t **block)
{
    if (t->memory) {
        *block = t->memory + at;
        return TIC_OK;
    }
    if (at < t->window_at || at + BLOCK > t->window_at + t->window_size) {
        int64_t n = t->file_size - at < WINDOW ? t->file_size - at : WINDOW;
        t->window_size = 0;
        TRY(read_at(t, at, t->window, (size_t)n));
        t->window_at = at;
        t->window_size = n;
    }
    *block = t->window + (at - t->window_at);
    return TIC_OK;
}

/* Octal with spaces or zeros around it, or base 256 when the top bit of the first byte is set. -1: neither. */
static int64_t field_number(const uint8_t *field, int width)
{
    if (field[0] & 0x80) {
        if (field[0] != 0x80)
            return -1;                                   /* negative, or larger than any file */
        uint64_t v = 0;
        for (int i = 1; i < width; i++) {
            if (v >> 55)
                return -1;
            v = v << 8 | field[i];
        }
        return (int64_t)v;
    }
    int i = 0;
    int64_t v = 0;
    while (i < width && field[i] == ' ')
        i++;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
        v = v << 3 | (field[i] - '0');                   /* at most 12 digits: no overflow */
    for (; i < width; i++)
        if (field[i] != ' ' && field[i] != 0)
            return -1;
    return v;
}

/* The sum of all header bytes, the checksum field itself counted as spaces. Some old writers summed signed bytes. */
static bool checksum_ok(const uint8_t *h)
{
    int64_t stated = field_number(h + CHECKSUM, 8), sum = 0, signed_sum = 0;
    for (int i = 0; i < BLOCK; i++) {
        int c = i >= CHECKSUM && i < CHECKSUM + 8 ? ' ' : h[i];
        sum += c;
        signed_sum += (signed char)c;
    }
    return stated == sum || stated == signed_sum;
}

static void keep_text(char **to, const char *text, size_t n)
{
    free(*to);
    *to = tic_alloc(n + 1);
    memcpy(*to, text, n);
}

/* Records of a pax header: "LENGTH KEY=VALUE\n", LENGTH counting itself. */
static bool read_pax(const char *data, size_t size, char **path, int64_t *member_size, bool *sparse)
{
    const char *p = data, *end = data + size;
    while (p < end && *p) {
        size_t length = 0;
        const char *q = p;
        while (q < end && isdigit((unsigned char)*q) && length < MAX_META)
            length = length * 10 + (size_t)(*q++ - '0');
        if (q == p || q == end || *q != ' ' || length > (size_t)(end - p) || p + length <= q + 1 || p[length - 1] != '\n')
            return false;
        const char *record = q + 1, *last = p + length - 1;
        const char *equals = memchr(record, '=', (size_t)(last - record));
        if (!equals)
            return false;
        const char *value = equals + 1;
        size_t key = (size_t)(equals - record), n = (size_t)(last - value);
        if (key == 4 && !memcmp(record, "path", 4)) {
            keep_text(path, value, n);
        } else if (key == 4 && !memcmp(record, "size", 4)) {
            int64_t v = 0;
            for (size_t i = 0; i < n; i++) {
                if (value[i] < '0' || value[i] > '9' || v > (INT64_MAX - 9) / 10)
                    return false;
                v = v * 10 + (value[i] - '0');
            }
            *member_size = n ? v : -1;
        } else if (key > 11 && !memcmp(record, "GNU.sparse.", 11)) {
            *sparse = true;
        }
        p += length;
    }
    return true;
}

/* Contents of an 'L', 'x' or 'g' entry. */
static TicStatus read_meta(TicTar *t, char type, int64_t at, int64_t size)
{
    char *text = tic_alloc((size_t)size + 1);
    TicStatus status = read_at(t, at, text, (size_t)size);
    if (!status && type == 'L')
        keep_text(&t->long_name, text, strnlen(text, (size_t)size));
    else if (!status && type == 'x' && !read_pax(text, (size_t)size, &t->long_name, &t->long_size, &t->sparse))
        status = stop(t, tic_format("byte %lld: a broken pax header", (long long)at));
    else if (!status && type == 'g' && !read_pax(text, (size_t)size, &t->global_name, &t->global_size, &t->sparse))
        status = stop(t, tic_format("byte %lld: a broken pax header", (long long)at));
    free(text);
    return status;
}

static void set_name(TicTar *t, const uint8_t *h)
{
    char plain[PREFIX];
    const char *from = t->long_name ? t->long_name : t->global_name;
    if (!from) {
        size_t n = strnlen((const char *)h + NAME, 100), before = 0;
        /* GNU's own magic "ustar  " keeps other things where ustar has the prefix. */
        if (!memcmp(h + MAGIC, "ustar\0", 6) && h[PREFIX]) {
            before = strnlen((const char *)h + PREFIX, 155);
            memcpy(plain, h + PREFIX, before);
            plain[before++] = '/';
        }
        memcpy(plain + before, h + NAME, n);
        plain[before + n] = 0;
        from = plain;
    }
    size_t n = strlen(from) + 1;
    if (n > t->name_room)
        t->name = tic_realloc(t->name, t->name_room = n * 2);
    memcpy(t->name, from, n);
}

static const char *compressed(const uint8_t *h)
{
    return !memcmp(h, "\x1f\x8b", 2) ? " (compressed by gzip: a plain tar is wanted)"
         : !memcmp(h, "\x28\xb5\x2f\xfd", 4) ? " (compressed by zstd: a plain tar is wanted)"
         : !memcmp(h, "\xfd" "7zXZ", 5) ? " (compressed by xz: a plain tar is wanted)"
         : !memcmp(h, "BZh", 3) ? " (compressed by bzip2: a plain tar is wanted)" : "";
}

/* GNU tar's map of a sparse member, beyond what the header itself holds: blocks that its size does not count. */
static TicStatus step_over_map(TicTar *t, const uint8_t *h, int64_t *at)
{
    for (bool more = h[MAP_GOES_ON]; more; more = h[MAP_BLOCK_GOES_ON], *at += BLOCK) {
        if (t->file_size - *at < BLOCK)
            return stop(t, tic_format("byte %lld: the file ends inside the map of a sparse member", (long long)*at));
        TRY(read_block(t, *at, &h));
    }
    return TIC_OK;
}

static TicStatus read_member(TicTar *t, TicTarMember *m, bool *found)
{
    static const uint8_t zero[BLOCK];
    const uint8_t *h;
    int64_t at = t->next;
    *found = false;
    if (at == t->file_size && !t->long_name && t->long_size < 0)
        return stop(t, at ? NULL : tic_strdup("the file is empty"));
    if (t->file_size - at < BLOCK)
        return stop(t, tic_format("byte %lld: the file ends where a header should stand", (long long)at));
    TRY(read_block(t, at, &h));
    if (!memcmp(h, zero, BLOCK))
        return stop(t, NULL);
    if (!checksum_ok(h))
        return stop(t, tic_format("byte %lld: a header with a wrong checksum%s", (long long)at, at ? "" : compressed(h)));
    char type = (char)h[TYPE];
    bool meta = type == 'L' || type == 'K' || type == 'x' || type == 'g';
    int64_t size = field_number(h + SIZE, 12);
    if (!meta && t->long_size >= 0)
        size = t->long_size;
    else if (!meta && t->global_size >= 0)
        size = t->global_size;
    if (type >= '1' && type <= '6')
        size = 0;                                        /* links, devices, folders carry no contents */
    at += BLOCK;
    if (type == 'S')
        TRY(step_over_map(t, h, &at));
    if (size < 0 || (meta && size > MAX_META))
        return stop(t, tic_format("byte %lld: a header with an impossible size", (long long)(at - BLOCK)));
    if (size > t->file_size - at)
        return stop(t, tic_format("byte %lld: the file ends inside a member of %lld bytes", (long long)(at - BLOCK),
                                  (long long)size));
    /* The last member's padding may be missing. */
    int64_t padded = (size + BLOCK - 1) / BLOCK * BLOCK;
    t->next = padded > t->file_size - at ? t->file_size : at + padded;
    if (meta)
        return read_meta(t, type, at, size);
    set_name(t, h);
    free(t->long_name);
    t->long_name = NULL;
    t->long_size = -1;
    *found = (type == '0' || type == 0 || type == '7') && !t->sparse;
    t->sparse = false;
    if (*found)
        *m = (TicTarMember){ t->name, at, size };
    return TIC_OK;
}

TicStatus tic_tar_next(TicTar *t, TicTarMember *m)
{
    bool found = false;
    while (!found) {
        if (t->ended)
            return TIC_END;
        TRY(read_member(t, m, &found));
    }
    return TIC_OK;
}

bool tic_tar_key(const char *name, size_t *key_size, const char **extension)
{
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    const char *dot = strchr(base, '.');
    /* __x__ as the whole name or as the first folder: bookkeeping of the tools that write shards. */
    size_t first = strcspn(name, "/");
    if (first >= 4 && !memcmp(name, "__", 2) && !memcmp(name + first - 2, "__", 2))
        return false;
    if (!dot || dot == base || !dot[1])
        return false;
    *key_size = (size_t)(dot - name);
    *extension = dot + 1;
    return true;
}

static void put_octal(uint8_t *field, int width, uint64_t v)
{
    field[width - 1] = 0;
    for (int i = width - 2; i >= 0; i--, v >>= 3)
        field[i] = (uint8_t)('0' + (v & 7));
}

static TicStatus write_entry(FILE *f, const char *name, char type, const void *data, size_t size)
{
    static const uint8_t zero[BLOCK];
    uint8_t h[BLOCK] = { 0 };
    memcpy(h + NAME, name, strnlen(name, 100));
    put_octal(h + MODE, 8, 0444);
    put_octal(h + UID, 8, 0);
    put_octal(h + GID, 8, 0);
    put_octal(h + SIZE, 12, size);
    put_octal(h + MTIME, 12, 0);
    h[TYPE] = (uint8_t)type;
    memcpy(h + MAGIC, "ustar\00000", 8);
    unsigned sum = 8 * ' ';
    for (int i = 0; i < BLOCK; i++)
        sum += h[i];
    put_octal(h + CHECKSUM, 7, sum);
    h[CHECKSUM + 7] = ' ';
    size_t pad = (BLOCK - size % BLOCK) % BLOCK;
    if (fwrite(h, 1, BLOCK, f) != BLOCK || fwrite(data, 1, size, f) != size || fwrite(zero, 1, pad, f) != pad)
        return tic_fail(TIC_IO, "tar: cannot write: %s", strerror(errno));
    return TIC_OK;
}

TicStatus tic_tar_append(FILE *f, const char *name, const void *data, size_t size)
{
    if (size >= (size_t)1 << 33)
        return tic_fail(TIC_USER, "%s: %zu bytes, a tar member may have at most 8 GiB", name, size);
    if (strlen(name) > 100) {
        /* The record's length counts its own digits. */
        size_t body = strlen(name) + strlen(" path=\n"), length = body + 1;
        for (size_t digits = 1, limit = 10; length >= limit; digits++, limit *= 10)
            length = body + digits + 1;
        char *record = tic_format("%zu path=%s\n", length, name);
        TicStatus status = write_entry(f, "pax", 'x', record, strlen(record));
        free(record);
        TRY(status);
    }
    return write_entry(f, name, '0', data, size);
}

TicStatus tic_tar_finish(FILE *f)
{
    static const uint8_t zero[2 * BLOCK];
    if (fwrite(zero, 1, sizeof zero, f) != sizeof zero || fflush(f))
        return tic_fail(TIC_IO, "tar: cannot write: %s", strerror(errno));
    return TIC_OK;
}
