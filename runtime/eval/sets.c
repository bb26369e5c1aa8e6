/* sets.c -- see sets.h. */
#define _GNU_SOURCE
#include "eval/sets.h"
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_folder(const char *path)
{
    struct stat st;
    return !stat(path, &st) && S_ISDIR(st.st_mode);
}

/* ---- side files */

static void clear_lines(TicLines *lines)
{
    for (int i = 0; i < lines->count; i++)
        free(lines->line[i]);
    free(lines->line);
    *lines = (TicLines){ 0 };
}

/* The lines of a text file, blanks at both ends removed, blank lines left out. */
static TicStatus read_lines(const char *path, TicLines *lines)
{
    char *text;
    size_t size;
    int room = 0;
    *lines = (TicLines){ 0 };
    TRY(tic_read_file(path, 64 << 20, &text, &size));
    for (char *p = text, *end = text + size; p < end;) {
        char *stop = memchr(p, '\n', (size_t)(end - p)), *next = stop ? stop + 1 : end;
        char *last = stop ? stop : end;
        while (p < last && isspace((unsigned char)*p))
            p++;
        while (last > p && isspace((unsigned char)last[-1]))
            last--;
        if (last > p) {
            if (lines->count == room) {
                room = room ? 2 * room : 64;
                lines->line = tic_realloc(lines->line, (size_t)room * sizeof *lines->line);
            }
            lines->line[lines->count++] = tic_format("%.*s", (int)(last - p), p);
        }
        p = next;
    }
    free(text);
    return TIC_OK;
}

static TicStatus side_file(const char *folder, const char *name, TicLines *lines)
{
    char *path = tic_format("%s/%s", folder, name);
    TicStatus status = access(path, F_OK) ? tic_fail(TIC_USER, "%s: the folder has no %s, which zero-shot classification needs", folder, name)
                                          : read_lines(path, lines);
    if (!status && !lines->count)
        status = tic_fail(TIC_USER, "%s: the file is empty", path);
    free(path);
    return status;
}

TicStatus tic_classes_read(const char *folder, int64_t wanted, TicLines *classes, TicLines *templates)
{
    TRY(side_file(folder, "classnames.txt", classes));
    TRY(side_file(folder, "zeroshot_classification_templates.txt", templates));
    if (wanted && wanted != classes->count)
        return tic_fail(TIC_USER, "%s/classnames.txt: found %d classes, wanted %lld", folder, classes->count, (long long)wanted);
    for (int i = 0; i < templates->count; i++)
        if (!strstr(templates->line[i], "{c}"))
            return tic_fail(TIC_USER, "%s/zeroshot_classification_templates.txt: template `%s` has no {c} for the class", folder,
                            templates->line[i]);
    return TIC_OK;
}

/* ---- folders */

/* The parts of tic/SET/KIND/SCALE/SPLIT; false for any other key. */
static bool parts_of(const char *key, char part[4][128])
{
    int n = 0;
    for (const char *p = key + (strncmp(key, "tic/", 4) ? 0 : 4); *p && p != key && n < 4; n++) {
        size_t size = strcspn(p, "/");
        snprintf(part[n], 128, "%.*s", (int)size, p);
        p += size + (p[size] == '/');
    }
    return n == 4;
}

static char *first_folder(char **path, int n)
{
    char *found = NULL;
    for (int i = 0; i < n; i++) {
        if (!found && is_folder(path[i]))
            found = path[i];
        else
            free(path[i]);
    }
    return found;
}

/* *folder of the shards and *side of the side files; NULL when there is none. */
static void find_below(const char *root, const char *key, char **folder, char **side)
{
    char part[4][128];
    *side = NULL;
    if (parts_of(key, part)) {
        char *tail = tic_format("eval/%s/%s", part[1], part[3]);
        char *path[] = { tic_format("%s/tic/%s/%s/%s", root, part[0], part[2], tail),
                         tic_format("%s/data/tic/%s/%s/%s", root, part[0], part[2], tail), tic_format("%s/%s/%s", root, part[2], tail),
                         tic_format("%s/%s", root, tail) };
        *folder = first_folder(path, TIC_LEN(path));
        *side = *folder ? tic_strdup(*folder) : NULL;
        free(tail);
        return;
    }
    char *flat = tic_strdup(key);
    for (char *p = flat; *p; p++)
        *p = *p == '/' ? '-' : *p;
    char *path[] = { tic_format("%s/wds_%s_test/test", root, flat), tic_format("%s/wds_%s_test", root, flat) };
    *folder = first_folder(path, TIC_LEN(path));
    *side = *folder ? tic_format("%s/wds_%s_test", root, flat) : NULL;
    free(flat);
}

/* Shards, or the promise of some. */
static bool holds_data(const char *folder, const char *side)
{
    char *here = tic_format("%s/nshards.txt", folder), *there = tic_format("%s/nshards.txt", side);
    bool any = !access(here, F_OK) || !access(there, F_OK) || tic_shards_in(folder);
    free(here);
    free(there);
    return any;
}

/* In the first root where it has data; else an empty folder in the last one that has it, or NULL. */
static bool find_folder(const char *text, const char *key, char **folder, char **side)
{
    char **root;
    int n = tic_roots_split(text, &root);
    bool found = false;
    *folder = *side = NULL;
    for (int i = 0; i < n; i++) {
        char *f = NULL, *s = NULL;
        if (!found)
            find_below(root[i], key, &f, &s);
        if (f) {
            free(*folder);
            free(*side);
            *folder = f;
            *side = s;
            found = holds_data(f, s);
        }
        free(root[i]);
    }
    free(root);
    return found;
}

uint64_t tic_lines_hash(const TicLines *l, uint64_t h)
{
    for (int i = 0; i < l->count; i++)
        h = tic_hash(l->line[i], strlen(l->line[i]) + 1, h);
    return h;
}

/* nshards.txt says which shards there are; without it all are read. */
static TicStatus list_shards(const char *folder, const char *side, TicShardList *list)
{
    char *count = tic_format("%s/nshards.txt", folder);
    TicLines lines = { 0 };
    if (access(count, F_OK)) {
        free(count);
        count = tic_format("%s/nshards.txt", side);
    }
    TicStatus status = access(count, F_OK) ? TIC_OK : read_lines(count, &lines);
    long n = lines.count == 1 ? strtol(lines.line[0], NULL, 10) : -1;
    if (!status && lines.count && (n < 1 || n > TIC_MAX_SHARDS))
        status = tic_fail(TIC_USER, "%s: the number of shards wanted, found `%s`", count, lines.line[0]);
    if (!status && lines.count && n > 1) {
        char *spec = tic_format("%s/{0..%ld}.tar", folder, n - 1);
        status = tic_shards_add(list, spec);
        free(spec);
    } else if (!status && lines.count) {
        char *spec = tic_format("%s/0.tar", folder);
        status = tic_shards_add(list, spec);
        free(spec);
    } else if (!status) {
        status = tic_shards_add(list, folder);
    }
    clear_lines(&lines);
    free(count);
    return status;
}

TicStatus tic_eval_set_open(const char *root, const TicEvalTask *task, TicEvalSet *set)
{
    char *side;
    *set = (TicEvalSet){ 0 };
    bool found = find_folder(root, task->key, &set->folder, &side);
    if (set->folder && !found) {
        tic_fail(TIC_END, "%s: the folder holds no .tar shards", set->folder);
        free(side);
        tic_eval_set_clear(set);
        return TIC_END;
    }
    if (!found) {
        char part[4][128];
        free(side);
        if (parts_of(task->key, part))
            return tic_fail(TIC_END, "%s: no eval/%s/%s below it, nor tic/%s/%s/eval/%s/%s", root, part[1], part[3], part[0], part[2],
                            part[1], part[3]);
        return tic_fail(TIC_END, "%s: no wds_%s_test below it (with every / as a -)", root, task->key);
    }
    TicStatus status = list_shards(set->folder, side, &set->shards);
    if (!status && task->kind == TIC_TASK_ZEROSHOT)
        status = tic_classes_read(side, task->classes, &set->classes, &set->templates);
    for (int i = 0; i < set->shards.count && !status; i++) {
        const char *path = set->shards.shard[i].path, *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
        struct stat st;
        int64_t size = stat(path, &st) ? -1 : st.st_size;
        set->digest = tic_hash(name, strlen(name), set->digest);
        set->digest = tic_hash(&size, sizeof size, set->digest);
    }
    set->digest = tic_lines_hash(&set->templates, tic_lines_hash(&set->classes, set->digest));
    free(side);
    if (status)
        tic_eval_set_clear(set);
    return status;
}

void tic_eval_set_clear(TicEvalSet *set)
{
    free(set->folder);
    tic_shards_clear(&set->shards);
    clear_lines(&set->classes);
    clear_lines(&set->templates);
    *set = (TicEvalSet){ 0 };
}

/* ---- what there is */

static int by_name(const struct dirent **a, const struct dirent **b) { return tic_natural_order((*a)->d_name, (*b)->d_name); }
static int not_hidden(const struct dirent *e) { return e->d_name[0] != '.'; }

/* Adds tic/SET/KIND/SCALE/SPLIT for every split folder in FOLDER/KIND. */
static void discover(TicTaskList *list, const char *folder, const char *set, const char *scale)
{
    static const char *const kinds[] = { "retrieval", "datacompnet" };
    for (size_t k = 0; k < TIC_LEN(kinds); k++) {
        char *path = tic_format("%s/%s", folder, kinds[k]);
        struct dirent **entry = NULL;
        int n = scandir(path, &entry, not_hidden, by_name), lo, hi;
        for (int i = 0; i < n; i++) {
            char *key = tic_format("tic/%s/%s/%s/%s", set, kinds[k], scale, entry[i]->d_name);
            char *sub = tic_format("%s/%s", path, entry[i]->d_name);
            if (tic_task_years(key, &lo, &hi) && is_folder(sub) && !tic_tasks_find(list, key))
                tic_tasks_add(list, key);
            free(sub);
            free(key);
            free(entry[i]);
        }
        free(entry);
        free(path);
    }
}

static TicStatus discover_below(const char *root, TicTaskList *list)
{
    static const char *const scales[] = { "yearly", "monthly" };
    static const char *const bases[] = { "tic", "data/tic" };
    if (!is_folder(root))
        return tic_fail(TIC_USER, "%s: no such folder", root);
    for (size_t b = 0; b < TIC_LEN(bases); b++) {
        char *base = tic_format("%s/%s", root, bases[b]);
        struct dirent **entry = NULL;
        int n = scandir(base, &entry, not_hidden, by_name);
        for (int i = 0; i < n; i++) {
            for (size_t s = 0; s < TIC_LEN(scales); s++) {
                char *folder = tic_format("%s/%s/%s/eval", base, entry[i]->d_name, scales[s]);
                discover(list, folder, entry[i]->d_name, scales[s]);
                free(folder);
            }
            free(entry[i]);
        }
        free(entry);
        free(base);
    }
    for (size_t s = 0; s < TIC_LEN(scales); s++) {
        char *folder = tic_format("%s/%s/eval", root, scales[s]);
        discover(list, folder, "datacomp", scales[s]);
        free(folder);
    }
    char *folder = tic_format("%s/eval", root);
    discover(list, folder, "datacomp", "yearly");
    free(folder);
    return TIC_OK;
}

TicStatus tic_eval_discover(const char *text, TicTaskList *list)
{
    char **root;
    int n = tic_roots_split(text, &root);
    TicStatus status = TIC_OK;
    for (int i = 0; i < n; i++) {
        if (!status)
            status = discover_below(root[i], list);
        free(root[i]);
    }
    free(root);
    return status;
}
