/* results.c -- see results.h. */
#define _GNU_SOURCE
#include "eval/results.h"
#include "data/json.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { LARGEST_FILE = 1 << 30 };

/* "KEY\nCHECKPOINT" of a line; NULL: the line does not say. Caller frees. */
static char *identity(const char *line, size_t size)
{
    TicJson *root = NULL;
    char *id = NULL;
    if (tic_json_parse(line, size, &root))
        tic_error_clear();
    const TicJson *key = tic_json_get(root, "key"), *checkpoint = tic_json_get(root, "checkpoint");
    if (key && checkpoint && key->kind == TIC_JSON_STRING && checkpoint->kind == TIC_JSON_STRING)
        id = tic_format("%s\n%s", key->text, checkpoint->text);
    tic_json_free(root);
    return id;
}

static size_t append(char *out, size_t at, const char *line, size_t size)
{
    memcpy(out + at, line, size);
    out[at + size] = '\n';
    return at + size + 1;
}

static TicStatus put(const char *path, const char *line)
{
    char *old = NULL, *id = identity(line, strlen(line));
    size_t size = 0, at = 0;
    if (!id)
        return tic_fail(TIC_BUG, "%s: a result without its task and checkpoint: %s", path, line);
    TicStatus status = access(path, F_OK) ? TIC_OK : tic_read_file(path, LARGEST_FILE, &old, &size);
    if (status) {
        free(id);
        return status;
    }
    char *new = tic_alloc(size + strlen(line) + 2);
    bool placed = false;
    for (char *s = old, *end; s < old + size; s = end + 1) {
        end = memchr(s, '\n', (size_t)(old + size - s));
        if (!end)
            break;
        char *other = identity(s, (size_t)(end - s));
        if (!other || strcmp(other, id))
            at = append(new, at, s, (size_t)(end - s));
        else if (!placed)
            at = append(new, at, line, strlen(line)), placed = true;
        free(other);
    }
    if (!placed)
        at = append(new, at, line, strlen(line));
    status = tic_write_file(path, new, at);
    free(new);
    free(old);
    free(id);
    return status;
}

/* Evaluations of several checkpoints may share the file, so they read and replace it in turns. The folder is what is locked: the file
 * is another one after each turn, and nothing is left behind. A file system without locks keeps nobody out. */
TicStatus tic_results_put(const char *path, const char *line)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? tic_format("%.*s", (int)(slash - path + 1), path) : tic_strdup(".");
    int lock = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (lock >= 0 && flock(lock, LOCK_EX) && errno == EINTR) {}
    TicStatus status = put(path, line);
    if (lock >= 0)
        close(lock);
    free(dir);
    return status;
}

static bool says(const TicJson *root, const char *name, const char *text)
{
    const TicJson *n = tic_json_get(root, name);
    return n && n->kind == TIC_JSON_STRING && !strcmp(n->text, text);
}

TicStatus tic_results_find(const char *path, const char *key, const char *checkpoint, const char *data, char **line)
{
    char *text = NULL;
    size_t size = 0;
    *line = NULL;
    if (access(path, F_OK))
        return TIC_OK;
    TRY(tic_read_file(path, LARGEST_FILE, &text, &size));
    for (char *s = text, *end; !*line && s < text + size; s = end + 1) {
        end = memchr(s, '\n', (size_t)(text + size - s));
        if (!end)
            break;
        TicJson *root = NULL;
        if (tic_json_parse(s, (size_t)(end - s), &root))
            tic_error_clear();
        if (says(root, "key", key) && says(root, "checkpoint", checkpoint) && says(root, "data", data))
            *line = tic_format("%.*s", (int)(end - s), s);
        tic_json_free(root);
    }
    free(text);
    return TIC_OK;
}
