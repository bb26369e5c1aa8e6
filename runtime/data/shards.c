/* shards.c -- see shards.h. Everything is listed into a scratch list first and moved to the caller's at the end,
 * so that an error leaves the caller's list alone. */
#define _GNU_SOURCE
#include "data/shards.h"
#include "data/json.h"
#include "data/views.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZES_LIMIT = 256 << 20 };  /* bytes of a sizes.json: a million entries are 30 MB */

int tic_natural_order(const char *a, const char *b)
{
    const char *a0 = a, *b0 = b;
    while (*a && *b) {
        if (!isdigit((unsigned char)*a) || !isdigit((unsigned char)*b)) {
            if (*a != *b)
                return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++;
            b++;
            continue;
        }
        while (*a == '0')
            a++;
        while (*b == '0')
            b++;
        size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
        int order = na != nb ? (na < nb ? -1 : 1) : memcmp(a, b, na);
        if (order)
            return order;
        a += na;
        b += nb;
    }
    return *a || *b ? (*a ? 1 : -1) : strcmp(a0, b0);
}

void tic_shards_push(TicShardList *list, const TicShard *shard)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 64;
        list->shard = tic_realloc(list->shard, (size_t)list->room * sizeof *list->shard);
    }
    list->shard[list->count++] = *shard;
}

static void push(TicShardList *list, char *path)
{
    tic_shards_push(list, &(TicShard){ .path = path, .samples = -1 });
}

void tic_shards_clear(TicShardList *list)
{
    for (int i = 0; i < list->count; i++) {
        free(list->shard[i].path);
        free(list->shard[i].pick);
    }
    free(list->shard);
    *list = (TicShardList){ 0 };
}

void tic_shards_move(TicShardList *to, TicShardList *from)
{
    for (int i = 0; i < from->count; i++)
        tic_shards_push(to, &from->shard[i]);
    to->compressed += from->compressed;
    to->listed += from->listed;
    to->unknown += from->unknown;
    to->repeated += from->repeated;
    free(from->shard);
    *from = (TicShardList){ 0 };
}

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

static bool is_tar_name(const char *name)
{
    size_t n = strlen(name);
    return n > 4 && !strcmp(name + n - 4, ".tar");
}

/* Samples of a compressed tar cannot be read one by one. */
static bool is_compressed_tar(const char *name)
{
    static const char *const ending[] = { ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2" };
    size_t n = strlen(name);
    for (size_t i = 0; i < TIC_LEN(ending); i++)
        if (n > strlen(ending[i]) && !strcmp(name + n - strlen(ending[i]), ending[i]))
            return true;
    return false;
}

static int by_name(const struct dirent **a, const struct dirent **b) { return tic_natural_order((*a)->d_name, (*b)->d_name); }
static int not_hidden(const struct dirent *e) { return e->d_name[0] != '.'; }

/* Every .tar below `folder`: its own ones first, then those of its sub-folders. */
static TicStatus list_folder(TicShardList *list, const char *folder, int depth)
{
    struct dirent **entry = NULL;
    if (depth > TIC_SHARD_DEPTH)
        return tic_fail(TIC_USER, "%s: folders nested more than %d deep", folder, TIC_SHARD_DEPTH);
    int n = scandir(folder, &entry, not_hidden, by_name);
    if (n < 0)
        return tic_fail(TIC_USER, "%s: cannot list the folder: %s", folder, strerror(errno));
    TicStatus status = TIC_OK;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < n && !status; i++) {
            char *path = tic_format("%s/%s", folder, entry[i]->d_name);
            bool sub = is_folder(path);
            if (pass == 1 && sub)
                status = list_folder(list, path, depth + 1);
            list->compressed += pass == 0 && !sub && is_compressed_tar(path);
            if (pass == 0 && !sub && is_tar_name(path) && list->count >= TIC_MAX_SHARDS)
                status = tic_fail(TIC_USER, "%s: more than %d shards", folder, TIC_MAX_SHARDS);
            if (pass == 0 && !sub && is_tar_name(path) && !status)
                push(list, path);
            else
                free(path);
        }
    }
    for (int i = 0; i < n; i++)
        free(entry[i]);
    free(entry);
    return status;
}

bool tic_shards_in(const char *folder)
{
    TicShardList list = { 0 };
    bool any = list_folder(&list, folder, 0) || list.count || list.compressed;
    tic_error_clear();
    tic_shards_clear(&list);
    return any;
}

/* Braces. expand() rewrites the first brace group of `text` in every way and calls itself on each result; a text
 * without braces is a path. `made` counts all texts, so that a short specification cannot take for ever. */
typedef struct {
    const char *spec;
    char **path;
    int count, room;
    int64_t made;
} Expansion;

static TicStatus expand(Expansion *e, const char *text);

static TicStatus expand_with(Expansion *e, const char *text, size_t before, const char *middle, size_t n, const char *after)
{
    if (++e->made > TIC_MAX_SHARDS)
        return tic_fail(TIC_USER, "%s: more than %d shards", e->spec, TIC_MAX_SHARDS);
    char *next = tic_format("%.*s%.*s%s", (int)before, text, (int)n, middle, after);
    TicStatus status = expand(e, next);
    free(next);
    return status;
}

/* {a..b} or {a..b..step} with integers; leading zeros ask for equal width. False: not a range. */
static bool read_range(const char *p, size_t n, int64_t *from, int64_t *to, int64_t *step, int *width)
{
    int64_t value[3] = { 0, 0, 1 };
    int parts = 0;
    const char *end = p + n;
    *width = 0;
    for (;;) {
        bool minus = p < end && *p == '-';
        const char *digits = p + minus;
        int64_t v = 0;
        const char *q = digits;
        while (q < end && isdigit((unsigned char)*q) && q - digits < 18)
            v = v * 10 + (*q++ - '0');
        if (q == digits || parts == 3)
            return false;
        if (parts < 2 && *digits == '0' && q - digits > 1 && (int)(q - p) > *width)
            *width = (int)(q - p);
        value[parts++] = minus ? -v : v;
        if (q == end)
            break;
        if (end - q < 3 || q[0] != '.' || q[1] != '.')
            return false;
        p = q + 2;
    }
    *from = value[0];
    *to = value[1];
    *step = value[2] < 0 ? -value[2] : value[2];
    return parts >= 2 && *step > 0;
}

static TicStatus expand(Expansion *e, const char *text)
{
    const char *open = strchr(text, '{');
    if (!open) {
        if (strchr(text, '}'))
            return tic_fail(TIC_USER, "%s: a '}' without a '{'", e->spec);
        if (e->count == e->room) {
            e->room = e->room ? e->room * 2 : 64;
            e->path = tic_realloc(e->path, (size_t)e->room * sizeof *e->path);
        }
        e->path[e->count++] = tic_strdup(text);
        return TIC_OK;
    }
    const char *close = open;
    int depth = 0;
    bool comma = false;
    for (; *close; close++) {
        depth += (*close == '{') - (*close == '}');
        comma |= *close == ',' && depth == 1;
        if (!depth)
            break;
    }
    if (!*close)
        return tic_fail(TIC_USER, "%s: a '{' without its '}'", e->spec);
    size_t before = (size_t)(open - text);
    if (comma) {
        const char *item = open + 1;
        for (const char *p = item; p <= close; p++) {
            if ((*p == ',' && depth == 0) || p == close) {
                TRY(expand_with(e, text, before, item, (size_t)(p - item), close + 1));
                item = p + 1;
            }
            depth += (*p == '{') - (*p == '}');
        }
        return TIC_OK;
    }
    int64_t from, to, step;
    int width;
    if (!read_range(open + 1, (size_t)(close - open - 1), &from, &to, &step, &width))
        return tic_fail(TIC_USER, "%s: '%.*s' is no brace range, one like {00000000..00000123} or {a,b} wanted", e->spec,
                        (int)(close - open + 1), open);
    if ((from < to ? to - from : from - to) / step >= TIC_MAX_SHARDS)
        return tic_fail(TIC_USER, "%s: more than %d shards", e->spec, TIC_MAX_SHARDS);
    for (int64_t v = from; from <= to ? v <= to : v >= to; v += from <= to ? step : -step) {
        char number[32];
        int n = snprintf(number, sizeof number, "%0*lld", width < 20 ? width : 20, (long long)v);
        TRY(expand_with(e, text, before, number, (size_t)n, close + 1));
    }
    return TIC_OK;
}

static bool is_remote(const char *part)
{
    return !strncmp(part, "pipe:", 5) || strstr(part, "://");
}

static TicStatus add_path(TicShardList *list, const char *path)
{
    struct stat st;
    if (is_remote(path))
        return tic_fail(TIC_USER, "%s: shards are read from folders; mount or copy remote ones", path);
    if (stat(path, &st))
        return tic_fail(TIC_USER, "%s: no such shard or folder (%s)", path, strerror(errno));
    if (!S_ISDIR(st.st_mode)) {
        if (list->count >= TIC_MAX_SHARDS)
            return tic_fail(TIC_USER, "%s: more than %d shards", path, TIC_MAX_SHARDS);
        push(list, tic_strdup(path));
        return TIC_OK;
    }
    int before = list->count;
    int64_t compressed = list->compressed;
    char *plain = tic_strdup(path);
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = 0;
    TicStatus status = list_folder(list, plain, 0);
    compressed = list->compressed - compressed;
    if (!status && list->count == before)
        status = compressed ? tic_fail(TIC_USER, "%s: found %lld compressed tar%s, wanted plain ones (.tar): unpack them, say with gunzip",
                                       plain, (long long)compressed, compressed == 1 ? "" : "s")
                            : tic_fail(TIC_USER, "%s: the folder holds no .tar shards", plain);
    free(plain);
    return status;
}

/* sizes.json files, read once per folder since shards of one folder are neighbours in the list. */
static TicStatus read_sizes(TicShardList *list)
{
    char *folder = NULL;
    TicJson *sizes = NULL;
    const TicJson *at = NULL;      /* the entry found last: the next shard's usually follows it */
    TicStatus status = TIC_OK;
    for (int i = 0; i < list->count && !status; i++) {
        TicShard *s = &list->shard[i];
        if (s->pick)                   /* a view knows */
            continue;
        const char *slash = strrchr(s->path, '/'), *base = slash ? slash + 1 : s->path;
        size_t n = (size_t)(base - s->path);
        if (!folder || strlen(folder) != n || memcmp(folder, s->path, n)) {
            free(folder);
            tic_json_free(sizes);
            sizes = NULL;
            at = NULL;
            folder = tic_format("%.*s", (int)n, s->path);
            char *path = tic_format("%ssizes.json", folder), *text = NULL;
            size_t size = 0;
            if (!access(path, F_OK)) {
                status = tic_read_file(path, SIZES_LIMIT, &text, &size);
                if (!status && (tic_json_parse(text, size, &sizes) || sizes->kind != TIC_JSON_OBJECT)) {
                    char *why = tic_strdup(tic_error());
                    tic_error_clear();
                    status = tic_fail(TIC_USER, "%s: %s; an object of \"SHARD.tar\": SAMPLES wanted", path,
                                      *why ? why : "not an object");
                    free(why);
                }
            }
            free(text);
            free(path);
        }
        int64_t samples;
        at = at && at->next && !strcmp(at->next->key, base) ? at->next : tic_json_get(sizes, base);
        if (!status && tic_json_integer(at, &samples) && samples >= 0 && samples < (int64_t)1 << 40)
            s->samples = samples;
    }
    free(folder);
    tic_json_free(sizes);
    return status;
}

static TicStatus finish(TicShardList *list, TicShardList *fresh, TicStatus status)
{
    if (!status)
        status = read_sizes(fresh);
    if (status)
        tic_shards_clear(fresh);
    else
        tic_shards_move(list, fresh);
    return status;
}

TicStatus tic_shards_add(TicShardList *list, const char *spec)
{
    TicShardList fresh = { 0 };
    TicStatus status = TIC_OK;
    if (!*spec)
        return tic_fail(TIC_USER, "an empty list of shards");
    for (const char *p = spec; !status;) {
        const char *end = strstr(p, "::");
        size_t n = end ? (size_t)(end - p) : strlen(p);
        char *part = tic_format("%.*s", (int)n, p);
        Expansion e = { .spec = part };
        /* What exists under its literal name is meant literally, braces or not. */
        if (!n)
            status = tic_fail(TIC_USER, "%s: an empty part in the list of shards", spec);
        else if (!access(part, F_OK) || is_remote(part))
            status = add_path(&fresh, part);
        else
            status = expand(&e, part);
        for (int i = 0; i < e.count; i++) {
            if (!status)
                status = add_path(&fresh, e.path[i]);
            free(e.path[i]);
        }
        free(e.path);
        free(part);
        if (!end)
            break;
        p = end + 2;
    }
    return finish(list, &fresh, status);
}

static bool holds_tars(const char *folder)
{
    DIR *d = opendir(folder);
    bool found = false;
    for (struct dirent *e; d && !found && (e = readdir(d));)
        found = e->d_name[0] != '.' && is_tar_name(e->d_name);
    if (d)
        closedir(d);
    return found;
}

/* The folder (ending "") or list of uids (ending ".npy") of one year below `root`, NULL when there is none. Caller frees. */
static char *find_year(const char *root, int year, const char *ending)
{
    static const char *const place[] = { "train/", "", "yearly/train/", "monthly/train/" };
    for (size_t i = 0; i < TIC_LEN(place); i++) {
        char *path = tic_format("%s/%s%d%s", root, place[i], year, ending);
        if (*ending ? !access(path, F_OK) : is_folder(path))
            return path;
        free(path);
    }
    return NULL;
}

/* A folder or list of uids whose name is a year's number. */
static int year_name(const struct dirent *e)
{
    size_t n = strspn(e->d_name, "0123456789");
    return n > 0 && n < 7 && (!e->d_name[n] || !strcmp(e->d_name + n, ".npy"));
}

/* "; there are 2014, 2015", or "" where no folder looks like a year's. Caller frees. */
static char *years_there(const char *root)
{
    enum { MOST = 12 };
    char *text = tic_strdup("");
    static const char *const place[] = { "train", "." };
    for (size_t i = 0; i < TIC_LEN(place) && !*text; i++) {
        struct dirent **entry;
        char *folder = tic_format("%s/%s", root, place[i]);
        int n = scandir(folder, &entry, year_name, by_name);
        for (int k = 0; k < n; k++) {
            char *longer = k > MOST ? tic_strdup(text)
                         : tic_format("%s%s%s", text, k ? ", " : "; there are ", k == MOST ? "..." : entry[k]->d_name);
            free(text);
            free(entry[k]);
            text = longer;
        }
        if (n >= 0)
            free(entry);
        free(folder);
    }
    return text;
}

/* Adds what one root has of a year; *found tells whether it has any. */
static TicStatus add_year(TicShardList *list, const char *root, int year, bool *found)
{
    char *folder = find_year(root, year, ""), *npy = folder ? NULL : find_year(root, year, ".npy");
    TicStatus status = TIC_OK;
    *found = folder || npy;
    if (folder) {
        status = add_path(list, folder);
    } else if (npy) {
        char *shards = tic_format("%s/shards", root);
        status = tic_view_add(list, tic_view_pool(shards) || !tic_view_pool(root) ? shards : root, npy);
        free(shards);
    }
    free(folder);
    free(npy);
    return status;
}

int tic_roots_split(const char *text, char ***out)
{
    int n = 0;
    *out = NULL;
    for (const char *p = text, *end; p; p = end ? end + 2 : NULL) {
        end = strstr(p, "::");
        *out = tic_realloc(*out, (size_t)(n + 1) * sizeof **out);
        (*out)[n++] = end ? tic_format("%.*s", (int)(end - p), p) : tic_strdup(p);
    }
    return n;
}

static TicStatus add_years(TicShardList *list, const char *text, char *const *root, int n_roots, const int *years, int n_years)
{
    int found_any = 0;
    for (int r = 0; r < n_roots; r++)
        if (!is_folder(root[r]))
            return tic_fail(TIC_USER, "%s: no such folder; the root of a pool of shards wanted (train/YEAR/*.tar below it)", root[r]);
    for (int i = 0; i < n_years; i++) {
        int found = 0;
        for (int r = 0; r < n_roots; r++) {
            bool here;
            TRY(add_year(list, root[r], years[i], &here));
            found += here;
        }
        bool missing = !found && (found_any || n_roots > 1 || !holds_tars(root[0]));
        if (missing && !years[i])            /* a program without a continual block */
            return tic_fail(TIC_USER, "%s: holds no shards itself, and the program does not say of which year; --start YEAR does", text);
        if (missing) {
            char *there = years_there(root[0]);
            TicStatus status = tic_fail(TIC_USER, "%s: no training shards of %d; looked for %s/train/%d and %s/%d%s", text, years[i], root[0],
                                        years[i], root[0], years[i], there);
            free(there);
            return status;
        }
        if (!found && i + 1 == n_years)
            return add_path(list, root[0]);
        found_any += found;
    }
    return TIC_OK;
}

TicStatus tic_shards_for_years(TicShardList *list, const char *text, const int *years, int n_years)
{
    TicShardList fresh = { 0 };
    char **root;
    int n = tic_roots_split(text, &root);
    TicStatus status = add_years(&fresh, text, root, n, years, n_years);
    for (int i = 0; i < n; i++)
        free(root[i]);
    free(root);
    return finish(list, &fresh, status);
}

/* BASE/SET/SCALE/eval/KIND/YEAR for the first SET and SCALE, in name order, that has it. */
static char *find_below_tic(const char *base, const char *kind, int year)
{
    struct dirent **set = NULL, **scale = NULL;
    char *found = NULL;
    int n_sets = scandir(base, &set, not_hidden, by_name);
    for (int i = 0; i < n_sets; i++) {
        char *folder = tic_format("%s/%s", base, set[i]->d_name);
        int n_scales = found ? 0 : scandir(folder, &scale, not_hidden, by_name);
        for (int j = 0; j < n_scales; j++) {
            char *path = tic_format("%s/%s/eval/%s/%d", folder, scale[j]->d_name, kind, year);
            if (!found && is_folder(path))
                found = path;
            else
                free(path);
            free(scale[j]);
        }
        if (n_scales > 0 || scale)
            free(scale);
        scale = NULL;
        free(folder);
        free(set[i]);
    }
    if (n_sets >= 0)
        free(set);
    return found;
}

TicStatus tic_shards_for_eval(TicShardList *list, const char *root, const char *kind, int year, char **folder)
{
    char *found = NULL;
    const char *below[] = { "eval", "yearly/eval", "monthly/eval" };
    const char *tic[] = { "tic", "data/tic" };
    if (folder)
        *folder = NULL;
    for (size_t i = 0; i < TIC_LEN(below) && !found; i++) {
        found = tic_format("%s/%s/%s/%d", root, below[i], kind, year);
        if (!is_folder(found)) {
            free(found);
            found = NULL;
        }
    }
    for (size_t i = 0; i < TIC_LEN(tic) && !found; i++) {
        char *base = tic_format("%s/%s", root, tic[i]);
        found = find_below_tic(base, kind, year);
        free(base);
    }
    if (!found)
        return tic_fail(TIC_USER, "%s: no %s shards of %d; looked for %s/eval/%s/%d and %s/tic/*/*/eval/%s/%d", root, kind,
                        year, root, kind, year, root, kind, year);
    TicShardList fresh = { 0 };
    TicStatus status = finish(list, &fresh, add_path(&fresh, found));
    if (folder && !status)
        *folder = found;
    else
        free(found);
    return status;
}
