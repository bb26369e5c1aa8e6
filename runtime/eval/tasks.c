/* tasks.c -- see tasks.h. The table holds DataComp's static tasks (tasklist.yml of mlfoundations/datacomp). */
#define _GNU_SOURCE
#include "eval/tasks.h"
#include "device/exec.h"
#include "eval/yaml.h"
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct { const char *key, *name; int size, classes; const char *metric; unsigned groups; } Static;

enum { IMAGENET = 1, SHIFTS = 2, VTAB = 4, RETRIEVAL = 8 };
#define RECALL "mean_per_class_recall"
#define BOTH "mean_recall@1"
static const Static statics[] = {
    { "vtab/caltech101", "Caltech-101", 6085, 102, RECALL, VTAB },
    { "cifar10", "CIFAR-10", 10000, 10, "acc1", 0 },
    { "vtab/cifar100", "CIFAR-100", 10000, 100, "acc1", VTAB },
    { "vtab/clevr_count_all", "CLEVR Counts", 15000, 8, "acc1", VTAB },
    { "vtab/clevr_closest_object_distance", "CLEVR Distance", 15000, 6, "acc1", VTAB },
    { "country211", "Country211", 21100, 211, "acc1", 0 },
    { "vtab/dtd", "Describable Textures", 1880, 47, "acc1", VTAB },
    { "vtab/eurosat", "EuroSAT", 5400, 10, "acc1", VTAB },
    { "fgvc_aircraft", "FGVC Aircraft", 3333, 100, RECALL, 0 },
    { "food101", "Food-101", 25250, 101, "acc1", 0 },
    { "gtsrb", "GTSRB", 12630, 43, "acc1", 0 },
    { "imagenet1k", "ImageNet 1k", 50000, 1000, "acc1", IMAGENET },
    { "imagenet_sketch", "ImageNet Sketch", 50889, 1000, "acc1", SHIFTS },
    { "imagenetv2", "ImageNet v2", 10000, 1000, "acc1", SHIFTS },
    { "imagenet-a", "ImageNet-A", 7500, 200, "acc1", SHIFTS },
    { "imagenet-o", "ImageNet-O", 2000, 200, "acc1", SHIFTS },
    { "imagenet-r", "ImageNet-R", 30000, 200, "acc1", SHIFTS },
    { "vtab/kitti_closest_vehicle_distance", "KITTI Vehicle Distance", 711, 4, "acc1", VTAB },
    { "mnist", "MNIST", 10000, 10, "acc1", 0 },
    { "objectnet", "ObjectNet", 18574, 113, "acc1", SHIFTS },
    { "vtab/flowers", "Oxford Flowers-102", 6149, 102, RECALL, VTAB },
    { "vtab/pets", "Oxford-IIIT Pet", 3669, 37, RECALL, VTAB },
    { "voc2007", "Pascal VOC 2007", 14976, 20, "acc1", 0 },
    { "vtab/pcam", "PatchCamelyon", 32768, 2, "acc1", VTAB },
    { "renderedsst2", "Rendered SST2", 1821, 2, "acc1", 0 },
    { "vtab/resisc45", "RESISC45", 6300, 45, "acc1", VTAB },
    { "cars", "Stanford Cars", 8041, 196, "acc1", 0 },
    { "stl10", "STL-10", 8000, 10, "acc1", 0 },
    { "sun397", "SUN397", 108754, 397, "acc1", VTAB },
    { "vtab/svhn", "SVHN", 26032, 10, "acc1", VTAB },
    { "retrieval/flickr_1k_test_image_text_retrieval", "Flickr", 1000, 0, BOTH, RETRIEVAL },
    { "retrieval/mscoco_2014_5k_test_image_text_retrieval", "MSCOCO", 5000, 0, BOTH, RETRIEVAL },
    { "misc/winogavil", "WinoGAViL", 3563, 0, "jaccard_score_10-12", RETRIEVAL },
    { "wilds/iwildcam", "iWildCam", 42791, 182, "F1-macro_all", 0 },
    { "wilds/camelyon17", "Camelyon17", 85054, 2, "acc1", 0 },
    { "wilds/fmow", "FMoW", 22108, 62, "acc_worst_region", 0 },
    { "fairness/dollar_street", "Dollar Street", 3503, 58, "acc_top5_wg", 0 },
    { "fairness/geode", "GeoDE", 12488, 40, "acc_wg", 0 },
    { "fairness/fairface", "FairFace", 10954, 0, "", 0 },
    { "fairness/utkface", "UTKFace", 23703, 0, "", 0 },
};

static const Static *static_find(const char *key)
{
    for (size_t i = 0; i < TIC_LEN(statics); i++)
        if (!strcmp(statics[i].key, key))
            return &statics[i];
    return NULL;
}

static const struct { unsigned bit; const char *name; } groups[] = {
    { IMAGENET, "ImageNet" }, { SHIFTS, "ImageNet dist. shifts" }, { VTAB, "VTAB" }, { RETRIEVAL, "Retrieval" }, { 0, "Average" } };

const char *tic_group_name(int g) { return g >= 0 && g < (int)TIC_LEN(groups) ? groups[g].name : NULL; }

bool tic_group_has(int g, const char *key)
{
    const Static *known = static_find(key);
    return known && *known->metric && (!groups[g].bit || (known->groups & groups[g].bit));
}

int tic_group_size(int g)
{
    int n = 0;
    for (size_t i = 0; i < TIC_LEN(statics); i++)
        n += tic_group_has(g, statics[i].key);
    return n;
}

/* ---- keys */

static bool is_tic(const char *key) { return !strncmp(key, "tic/", 4); }

char *tic_task_family(const char *key)
{
    const char *slash = strrchr(key, '/');
    return is_tic(key) && slash ? tic_format("%.*s", (int)(slash - key), key) : tic_strdup(key);
}

/* A year (4 digits) or a month (6); 0: neither. */
static int split_number(const char *s, size_t n)
{
    int v = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]))
            return 0;
        v = v * 10 + (s[i] - '0');
    }
    return n == 4 || n == 6 ? v : 0;
}

bool tic_task_years(const char *key, int *lo, int *hi)
{
    const char *split = is_tic(key) ? strrchr(key, '/') + 1 : "", *dash = strchr(split, '-');
    *lo = split_number(split, dash ? (size_t)(dash - split) : strlen(split));
    *hi = dash ? split_number(dash + 1, strlen(dash + 1)) : *lo;
    return *lo && *hi >= *lo;
}

static void put_word(FILE *f, const char *word, size_t n)
{
    static const char *const proper[][2] = { { "tic", "TiC" }, { "datacomp", "DataComp" }, { "datacompnet", "DataCompNet" },
                                             { "yfcc", "YFCC" }, { "redcaps", "RedCaps" } };
    for (size_t i = 0; i < TIC_LEN(proper); i++) {
        if (strlen(proper[i][0]) == n && !memcmp(word, proper[i][0], n)) {
            fputs(proper[i][1], f);
            return;
        }
    }
    fprintf(f, "%c%.*s", toupper((unsigned char)*word), (int)n - 1, word + 1);
}

char *tic_task_name(const char *key)
{
    const Static *known = static_find(key);
    if (known || !is_tic(key))
        return tic_strdup(known ? known->name : key);
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    bool first = true;
    for (const char *p = key; *p;) {
        size_t n = strcspn(p, "/");
        bool implied = !strncmp(p, "datacomp/datacompnet", 20);     /* TiC-DataCompNet, not TiC-DataComp-DataCompNet */
        if (n && !implied) {
            if (!first)
                fputc('-', f);
            put_word(f, p, n);
            first = false;
        }
        p += n + (p[n] == '/');
    }
    fclose(f);
    return text;
}

/* ---- the list */

void tic_tasks_clear(TicTaskList *list)
{
    for (int i = 0; i < list->count; i++) {
        TicEvalTask *t = &list->task[i];
        free(t->key);
        free(t->name);
        free(t->metric);
        free(t->why);
    }
    free(list->task);
    *list = (TicTaskList){ 0 };
}

TicEvalTask *tic_tasks_find(const TicTaskList *list, const char *key)
{
    for (int i = 0; i < list->count; i++)
        if (!strcmp(list->task[i].key, key))
            return &list->task[i];
    return NULL;
}

static bool by_class(const char *metric)
{
    return !strcmp(metric, "acc1") || !strcmp(metric, "acc5") || !strcmp(metric, "mean_per_class_recall");
}

static bool by_rank(const char *metric)
{
    static const char *const known[] = { "mean_recall@1", "image_retrieval_recall@1", "image_retrieval_recall@5",
        "image_retrieval_recall@10", "text_retrieval_recall@1", "text_retrieval_recall@5", "text_retrieval_recall@10" };
    for (size_t i = 0; i < TIC_LEN(known); i++)
        if (!strcmp(known[i], metric))
            return true;
    return false;
}

/* What the protocol is, by key and main metric; a task without a main metric is evaluated and has no score. */
static void settle(TicEvalTask *t)
{
    bool odd = !strncmp(t->key, "fairness/", 9) || !strncmp(t->key, "misc/", 5);
    bool retrieval = is_tic(t->key) ? strstr(t->key, "retrieval") != NULL : !strncmp(t->key, "retrieval/", 10);
    if (!tic_task_years(t->key, &t->lo, &t->hi))
        t->lo = t->hi = 0;
    t->kind = TIC_TASK_UNSUPPORTED;
    if (odd)
        t->why = tic_strdup("its protocol is neither retrieval nor plain zero-shot classification");
    else if (is_tic(t->key) && !retrieval && !strstr(t->key, "datacompnet"))
        t->why = tic_strdup("neither retrieval nor datacompnet stands in its key");
    else if (*t->metric && !(retrieval ? by_rank(t->metric) : by_class(t->metric)))
        t->why = tic_format("main metric `%s` is not computed here", t->metric);
    else
        t->kind = retrieval ? TIC_TASK_RETRIEVAL : TIC_TASK_ZEROSHOT;
}

static TicEvalTask *push(TicTaskList *list)
{
    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 32;
        list->task = tic_realloc(list->task, (size_t)list->room * sizeof *list->task);
    }
    list->task[list->count] = (TicEvalTask){ 0 };
    return &list->task[list->count++];
}

static const char *usual_metric(const char *key)
{
    const Static *known = static_find(key);
    return known ? known->metric : is_tic(key) ? strstr(key, "retrieval") ? BOTH : "acc1" : "acc1";
}

void tic_tasks_add(TicTaskList *list, const char *key)
{
    const Static *known = static_find(key);
    TicEvalTask *t = push(list);
    t->key = tic_strdup(key);
    t->name = tic_task_name(key);
    t->metric = tic_strdup(usual_metric(key));
    t->size = known ? known->size : 0;
    t->classes = known ? known->classes : 0;
    settle(t);
}

TicStatus tic_tasks_of_program(TicTaskList *list, const TicProgram *p)
{
    for (uint32_t i = 0; i < p->n_tasks; i++) {
        const TicTask *row = (const TicTask *)(const void *)((const char *)p + p->tasks) + i;
        const char *key = tic_text(p, row->name), *kind = tic_text(p, row->kind);
        tic_tasks_add(list, key);
        TicEvalTask *t = &list->task[list->count - 1];
        bool agrees = !strcmp(kind, t->kind == TIC_TASK_RETRIEVAL ? "retrieval" : "zeroshot");
        if (t->kind != TIC_TASK_UNSUPPORTED && !agrees)
            return tic_fail(TIC_USER, "the eval block calls \"%s\" %s, and by its key it is %s", key, kind,
                            t->kind == TIC_TASK_RETRIEVAL ? "retrieval" : "zeroshot");
    }
    return TIC_OK;
}

void tic_tasks_add_unions(TicTaskList *list, const TicProgram *p)
{
    int have = list->count;
    for (int i = 0; i < have; i++) {
        for (uint32_t t = 0; t < p->n_steps; t++) {
            const TicYearStep *s = (const TicYearStep *)(const void *)((const char *)p + p->steps) + t;
            if (s->lo == s->hi || list->task[i].lo != s->lo || list->task[i].hi != s->lo || !strstr(list->task[i].key, "/yearly/"))
                continue;
            char *family = tic_task_family(list->task[i].key), *key = tic_format("%s/%d-%d", family, s->lo, s->hi);
            bool all = !tic_tasks_find(list, key);
            for (int year = s->lo; year <= s->hi && all; year++) {
                char *part = tic_format("%s/%d", family, year);
                all = tic_tasks_find(list, part) != NULL;
                free(part);
            }
            if (all)
                tic_tasks_add(list, key);
            free(key);
            free(family);
        }
    }
}

/* ---- tasklist.yml */

static TicStatus number_of(const char *path, const char *key, const TicJson *fields, const char *name, int64_t *out)
{
    const TicJson *n = tic_json_get(fields, name);
    *out = 0;
    if (!n || n->kind == TIC_JSON_NULL)
        return TIC_OK;
    if (tic_json_integer(n, out) && *out >= 0)
        return TIC_OK;
    return tic_fail(TIC_USER, "%s: task %s: `%s` is a number from 0 on", path, key, name);
}

static TicStatus read_task(TicTaskList *list, const char *path, const TicJson *n)
{
    const TicJson *name = tic_json_get(n, "name"), *metric = tic_json_get(n, "main_metric");
    if (n->kind != TIC_JSON_OBJECT)
        return tic_fail(TIC_USER, "%s: task %s: fields wanted: name, and perhaps size, num_classes, main_metric", path, n->key);
    if (!name || name->kind != TIC_JSON_STRING || !*name->text)
        return tic_fail(TIC_USER, "%s: task %s: a text `name` wanted", path, n->key);
    if (metric && metric->kind != TIC_JSON_STRING && metric->kind != TIC_JSON_NULL)
        return tic_fail(TIC_USER, "%s: task %s: `main_metric` is the name of a metric", path, n->key);
    int64_t size, classes;
    TRY(number_of(path, n->key, n, "size", &size));
    TRY(number_of(path, n->key, n, "num_classes", &classes));
    TicEvalTask *t = push(list);
    t->key = tic_strdup(n->key);
    t->name = tic_strdup(name->text);
    t->metric = tic_strdup(metric && metric->kind == TIC_JSON_STRING ? metric->text : metric ? "" : usual_metric(n->key));
    t->size = size;
    t->classes = classes;
    settle(t);
    return TIC_OK;
}

TicStatus tic_tasks_read(TicTaskList *list, const char *path)
{
    char *text;
    size_t size;
    TicJson *root;
    TRY(tic_read_file(path, 16 << 20, &text, &size));
    TicStatus status = tic_yaml_parse(path, text, size, &root);
    if (!status && (root->kind != TIC_JSON_OBJECT || !root->child))
        status = tic_fail(TIC_USER, "%s: holds no task; `key:` and its fields below it wanted, as in DataComp's tasklist.yml", path);
    for (const TicJson *n = status ? NULL : root->child; n && !status; n = n->next)
        status = read_task(list, path, n);
    tic_json_free(root);
    free(text);
    return status;
}

static int by_key(const void *a, const void *b)
{
    return strcmp((*(const TicEvalTask *const *)a)->key, (*(const TicEvalTask *const *)b)->key);
}

/* Plain where YAML cannot misread it, else in double quotes. */
static void put_scalar(FILE *f, const char *text)
{
    bool bare = isalpha((unsigned char)*text) && !text[strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -_./@")] &&
                text[strlen(text) - 1] != ' ' && strcasecmp(text, "null") && strcasecmp(text, "true") && strcasecmp(text, "false") &&
                strcasecmp(text, "yes") && strcasecmp(text, "no") && strcasecmp(text, "on") && strcasecmp(text, "off");
    char *quoted = bare ? tic_strdup(text) : tic_json_quote(text, strlen(text));
    fputs(quoted, f);
    free(quoted);
}

static void put_task(FILE *f, const TicEvalTask *t)
{
    put_scalar(f, t->key);
    fputs(":\n  name: ", f);
    put_scalar(f, t->name);
    fputc('\n', f);
    if (!*t->metric)
        fprintf(f, "  main_metric: null\n");
    else if (strcmp(t->metric, "acc1"))
        fprintf(f, "  main_metric: %s\n", t->metric);
    if (t->classes)
        fprintf(f, "  num_classes: %lld\n", (long long)t->classes);
    if (t->size)
        fprintf(f, "  size: %lld\n", (long long)t->size);
}

TicStatus tic_tasks_write(const TicTaskList *list, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    const TicEvalTask **sorted = tic_alloc((size_t)(list->count + 1) * sizeof *sorted);
    for (int i = 0; i < list->count; i++)
        sorted[i] = &list->task[i];
    qsort(sorted, (size_t)list->count, sizeof *sorted, by_key);
    FILE *f = open_memstream(&text, &size);
    for (int i = 0; i < list->count; i++)
        if (sorted[i]->lo == sorted[i]->hi)                  /* unions of years are no tasks of DataComp's */
            put_task(f, sorted[i]);
    fclose(f);
    TicStatus status = tic_write_file(path, text, size);
    free(sorted);
    free(text);
    return status;
}
