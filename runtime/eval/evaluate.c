/* evaluate.c -- see evaluate.h. Every task is resolved (folder, side files, digest) before the first sample is read. The
 * union of several years is made from the features and counts of its parts, which are kept as long as it may need them. */
#define _GNU_SOURCE
#include "eval/evaluate.h"
#include "data/json.h"
#include "eval/recall.h"
#include "eval/results.h"
#include "eval/towers.h"
#include "train/files.h"
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One task on its way. */
typedef struct {
    TicEvalTask *task;
    TicEvalSet set;
    bool there;                  /* it has data (a union: all its parts have) */
    bool is_union, wanted;       /* wanted: a union needs what this part was made of */
    bool encoded;
    TicFeatures features;
    TicClassCounts counts;
    TicEvalCounts left_out;
    char *line;                  /* of eval_results.jsonl */
} Item;

typedef struct {
    const TicProgram *program;
    const TicEvalOptions *o;
    TicTaskList list;
    Item *item;
    int n, missing, unsupported, evaluated, reused;
    TicModel *model;
    TicPool *pool;
    TicBpe *bpe;
    TicTowers *towers;
    char *results;               /* eval_results.jsonl's path */
    char digest[20];             /* of the checkpoint's bytes */
    uint64_t vocab;              /* of the vocabulary's bytes */
    float *classifier;           /* of the classes and templates with this hash: sets of many years share them */
    uint64_t classifier_of;
} Eval;

/* ---- which tasks */

static TicStatus list_tasks(Eval *e)
{
    const TicEvalOptions *o = e->o;
    if (!o->data && !o->imagenet_val)
        return tic_fail(TIC_USER, "--data: no pool given");
    TicStatus status = o->tasks ? tic_tasks_read(&e->list, o->tasks) : e->program->n_tasks ? tic_tasks_of_program(&e->list, e->program)
                     : o->data ? tic_eval_discover(o->data, &e->list) : TIC_OK;
    if (status)
        return status;
    tic_tasks_add_unions(&e->list, e->program);
    if (o->imagenet_val) {
        tic_tasks_add(&e->list, "imagenet-val");
        TicEvalTask *t = &e->list.task[e->list.count - 1];
        free(t->name);
        t->name = tic_strdup("ImageNet validation folder");
    }
    return TIC_OK;
}

static bool part_of(const Item *part, const Item *whole)
{
    if (!whole->is_union || part->is_union || part->task->lo < whole->task->lo || part->task->hi > whole->task->hi)
        return false;
    char *a = tic_task_family(part->task->key), *b = tic_task_family(whole->task->key);
    bool same = !strcmp(a, b);
    free(a);
    free(b);
    return same;
}

/* A folder of class folders, with the side files in it or beside it. */
static TicStatus open_folder(Item *x, const char *folder)
{
    char *up = tic_format("%s/..", folder), *names = tic_format("%s/classnames.txt", folder);
    FILE *f = fopen(names, "r");
    if (f)
        fclose(f);
    x->set.folder = tic_strdup(folder);
    TicStatus status = tic_classes_read(f ? folder : up, 0, &x->set.classes, &x->set.templates);
    if (!status)
        status = tic_towers_folder_digest(folder, &x->set.digest);
    x->set.digest = tic_lines_hash(&x->set.templates, tic_lines_hash(&x->set.classes, x->set.digest));
    free(names);
    free(up);
    return status;
}

/* Counts a task that has no data, and says why. */
static void leave_out(Eval *e, const Item *x, bool say, const char *why)
{
    e->missing++;
    if (say)
        printf("skipped: %s: %s\n", x->task->name, why);
}

static void refuse(Eval *e, const Item *x, bool say)
{
    e->unsupported++;
    if (say)
        printf("skipped: %s (%s): %s\n", x->task->name, x->task->key, x->task->why);
}

/* The data of a task that is no union; without any it is left out. */
static TicStatus find_data(Eval *e, Item *x, bool say)
{
    const TicEvalOptions *o = e->o;
    TicStatus status = !strcmp(x->task->key, "imagenet-val") ? open_folder(x, o->imagenet_val)
                     : o->data ? tic_eval_set_open(o->data, x->task, &x->set) : tic_fail(TIC_END, "no --data given");
    if (status == TIC_END) {
        leave_out(e, x, say, tic_error());
        tic_error_clear();
        return TIC_OK;
    }
    x->there = !status;
    return status;
}

/* A union is there where all its parts are; they agree in their number of classes. */
static TicStatus find_parts(Eval *e, Item *u, bool say)
{
    int parts = 0, years = u->task->hi - u->task->lo + 1;
    const Item *first = NULL;
    for (int k = 0; k < e->n; k++) {
        const Item *x = &e->item[k];
        if (!x->there || !part_of(x, u))
            continue;
        parts++;
        first = first ? first : x;
        u->set.digest = tic_hash(&x->set.digest, sizeof(uint64_t), u->set.digest);
        if (x->set.classes.count != first->set.classes.count)
            return tic_fail(TIC_USER, "%s and %s differ in their number of classes, and %s unites them", x->set.folder, first->set.folder,
                            u->task->name);
    }
    u->there = parts == years;
    for (int k = 0; k < e->n && u->there; k++)
        e->item[k].wanted |= part_of(&e->item[k], u);
    if (!u->there) {
        char *why = tic_format("it unites %d sets, of which %d %s there", years, parts, parts == 1 ? "is" : "are");
        leave_out(e, u, say, why);
        free(why);
    }
    return TIC_OK;
}

/* Finds the data of each task; says what will be skipped. */
static TicStatus resolve(Eval *e, bool say)
{
    bool found = false;
    e->n = e->list.count;
    e->item = tic_alloc((size_t)(e->n + 1) * sizeof *e->item);
    for (int i = 0; i < e->n; i++) {
        TicEvalTask *t = &e->list.task[i];
        e->item[i] = (Item){ .task = t, .is_union = t->lo < t->hi };
    }
    for (int pass = 0; pass < 2; pass++)                 /* unions are made of what was found before them */
        for (int i = 0; i < e->n; i++) {
            Item *x = &e->item[i];
            if (x->is_union != (pass == 1))
                continue;
            if (x->task->kind == TIC_TASK_UNSUPPORTED)
                refuse(e, x, say);
            else
                TRY(x->is_union ? find_parts(e, x, say) : find_data(e, x, say));
            found |= x->there;
        }
    if (!found)
        return tic_fail(TIC_USER, "%s: no held-out sets: looked for eval/retrieval/YEAR below it, and for those of the task list",
                        e->o->data ? e->o->data : e->o->imagenet_val);
    return TIC_OK;
}

static void close_tasks(Eval *e)
{
    for (int i = 0; i < e->n; i++) {
        tic_eval_set_clear(&e->item[i].set);
        tic_features_clear(&e->item[i].features);
        tic_class_counts_clear(&e->item[i].counts);
        free(e->item[i].line);
    }
    free(e->item);
    tic_tasks_clear(&e->list);
}

/* ---- encoding */

static TicStatus classify(Eval *e, Item *x)
{
    uint64_t which = tic_lines_hash(&x->set.templates, tic_lines_hash(&x->set.classes, 1));
    if (!e->classifier || which != e->classifier_of) {
        free(e->classifier);
        e->classifier = NULL;
        TRY(tic_towers_classifier(e->towers, &x->set.classes, &x->set.templates, &e->classifier));
        e->classifier_of = which;
    }
    x->counts = tic_class_counts_new(x->set.classes.count);
    TicStatus status = strcmp(x->task->key, "imagenet-val")
        ? tic_towers_classify(e->towers, &x->set.shards, e->classifier, &x->counts, &x->left_out)
        : tic_towers_classify_folder(e->towers, x->set.folder, e->classifier, &x->counts, &x->left_out);
    if (!status && !x->counts.images)
        status = tic_fail(TIC_USER, "%s: no sample with an image and a class", x->set.folder);
    return status;
}

static TicStatus encode(Eval *e, Item *x)
{
    if (x->encoded)
        return TIC_OK;
    TicStatus status = x->task->kind == TIC_TASK_ZEROSHOT ? classify(e, x)
                     : tic_towers_pairs(e->towers, &x->set.shards, &x->features, &x->left_out);
    if (!status && x->task->kind == TIC_TASK_RETRIEVAL && !x->features.images)
        status = tic_fail(TIC_USER, "%s: no sample with a usable image", x->set.folder);
    x->encoded = !status;
    return status;
}

static TicStatus unite(Eval *e, Item *u)
{
    int64_t width = tic_towers_width(e->towers);
    for (int i = 0; i < e->n; i++) {
        Item *x = &e->item[i];
        if (!part_of(x, u))
            continue;
        TRY(encode(e, x));
        u->left_out.skipped += x->left_out.skipped;
        u->left_out.unlabelled += x->left_out.unlabelled;
        if (u->task->kind == TIC_TASK_ZEROSHOT) {
            if (!u->counts.classes)
                u->counts = tic_class_counts_new(x->counts.classes);
            tic_class_counts_add(&u->counts, &x->counts);
            continue;
        }
        TicFeatures *f = &u->features;
        const TicFeatures *g = &x->features;
        f->image = tic_realloc(f->image, (size_t)((f->images + g->images) * width) * sizeof(float));
        f->text = tic_realloc(f->text, (size_t)((f->texts + g->texts) * width + 1) * sizeof(float));
        f->image_of = tic_realloc(f->image_of, (size_t)(f->texts + g->texts + 1) * sizeof(int64_t));
        memcpy(f->image + f->images * width, g->image, (size_t)(g->images * width) * sizeof(float));
        if (g->texts)
            memcpy(f->text + f->texts * width, g->text, (size_t)(g->texts * width) * sizeof(float));
        for (int64_t t = 0; t < g->texts; t++)
            f->image_of[f->texts + t] = g->image_of[t] + f->images;
        f->images += g->images;
        f->texts += g->texts;
    }
    u->encoded = true;
    return TIC_OK;
}

/* ---- scores */

static char *quoted(const char *text) { return tic_json_quote(text, strlen(text)); }

/* {"key", "dataset", "metrics": {METRICS, "main_metric"}, "images", "skipped", "checkpoint", "data"} */
static char *result_line(const Eval *e, const Item *x, const char *metrics, double main, int64_t images)
{
    char *key = quoted(x->task->key), *name = quoted(x->task->name), number[40] = "null";
    if (*x->task->metric)
        snprintf(number, sizeof number, "%.9g", main);
    char *line = tic_format("{\"key\": %s, \"dataset\": %s, \"metrics\": {%s, \"main_metric\": %s}, \"images\": %" PRId64
                            ", \"skipped\": %" PRId64 ", \"checkpoint\": \"%s\", \"data\": \"%016" PRIx64 "\"}", key, name, metrics, number,
                            images, x->left_out.skipped + x->left_out.unlabelled, e->digest, x->set.digest ^ e->vocab);
    free(key);
    free(name);
    return line;
}

static char *score_retrieval(Eval *e, Item *x)
{
    const TicFeatures *f = &x->features;
    TicRecall r = tic_recall(e->pool, f->image, f->images, f->text, f->texts, f->image_of, tic_towers_width(e->towers));
    static const int k[3] = { 1, 5, 10 };
    double main = r.mean_recall_1;
    for (int i = 0; i < 3; i++) {
        char name[2][40];
        snprintf(name[0], sizeof name[0], "image_retrieval_recall@%d", k[i]);
        snprintf(name[1], sizeof name[1], "text_retrieval_recall@%d", k[i]);
        main = !strcmp(x->task->metric, name[0]) ? r.image_recall[i] : !strcmp(x->task->metric, name[1]) ? r.text_recall[i] : main;
    }
    char *metrics = tic_format("\"image_retrieval_recall@1\": %.9g, \"text_retrieval_recall@1\": %.9g, \"image_retrieval_recall@5\": %.9g, "
                               "\"text_retrieval_recall@5\": %.9g, \"image_retrieval_recall@10\": %.9g, \"text_retrieval_recall@10\": %.9g, "
                               "\"mean_recall@1\": %.9g", r.image_recall[0], r.text_recall[0], r.image_recall[1], r.text_recall[1],
                               r.image_recall[2], r.text_recall[2], r.mean_recall_1);
    char *line = result_line(e, x, metrics, main, r.images);
    free(metrics);
    return line;
}

static char *score_classes(Eval *e, Item *x)
{
    const TicClassCounts *c = &x->counts;
    double acc1 = tic_class_acc(c, 1), acc5 = tic_class_acc(c, 5), mean = tic_class_mean_recall(c);
    char five[40] = "null";
    if (c->classes >= 5)
        snprintf(five, sizeof five, "%.9g", acc5);
    double main = !strcmp(x->task->metric, "acc5") ? acc5 : !strcmp(x->task->metric, "mean_per_class_recall") ? mean : acc1;
    char *metrics = tic_format("\"acc1\": %.9g, \"acc5\": %s, \"mean_per_class_recall\": %.9g", acc1, five, mean);
    char *line = result_line(e, x, metrics, main, c->images);
    free(metrics);
    return line;
}

static double field(const TicJson *root, const char *name)
{
    const TicJson *n = tic_json_get(tic_json_get(root, "metrics"), name);
    return n && n->kind == TIC_JSON_NUMBER ? n->number : 0;
}

static void print_line(const Item *x, bool reused)
{
    TicJson *root;
    if (tic_json_parse(x->line, strlen(x->line), &root))
        return;
    const TicJson *images = tic_json_get(root, "images"), *skipped = tic_json_get(root, "skipped");
    int64_t n = 0, left = 0;
    tic_json_integer(images, &n);
    tic_json_integer(skipped, &left);
    if (x->task->kind == TIC_TASK_RETRIEVAL)
        printf("%-40s %6lld images   recall@1 %.3f = %.1f times chance; text->image %.3f %.3f %.3f, image->text %.3f %.3f %.3f", x->task->name,
               (long long)n, field(root, "mean_recall@1"), field(root, "mean_recall@1") * (double)n, field(root, "image_retrieval_recall@1"),
               field(root, "image_retrieval_recall@5"), field(root, "image_retrieval_recall@10"), field(root, "text_retrieval_recall@1"),
               field(root, "text_retrieval_recall@5"), field(root, "text_retrieval_recall@10"));
    else
        printf("%-40s %6lld images   acc1     %.3f; acc5 %.3f, mean per-class recall %.3f", x->task->name, (long long)n, field(root, "acc1"),
               field(root, "acc5"), field(root, "mean_per_class_recall"));
    if (left)
        printf(" (%lld samples skipped)", (long long)left);
    printf("%s\n", reused ? " (done before)" : "");
    fflush(stdout);
    tic_json_free(root);
}

static TicStatus evaluate_task(Eval *e, Item *x)
{
    char data[20];
    snprintf(data, sizeof data, "%016" PRIx64, x->set.digest ^ e->vocab);
    TRY(tic_results_find(e->results, x->task->key, e->digest, data, &x->line));
    bool reused = x->line != NULL;
    if (!reused) {
        TRY(x->is_union ? unite(e, x) : encode(e, x));
        x->line = x->task->kind == TIC_TASK_RETRIEVAL ? score_retrieval(e, x) : score_classes(e, x);
        TRY(tic_results_put(e->results, x->line));
    }
    if (!x->wanted) {
        tic_features_clear(&x->features);
        tic_class_counts_clear(&x->counts);
    }
    e->reused += reused;
    e->evaluated += !reused;
    print_line(x, reused);
    return TIC_OK;
}

/* ---- summaries */

static bool main_metric(const Item *x, double *value)
{
    TicJson *root;
    if (!x->line || tic_json_parse(x->line, strlen(x->line), &root))
        return false;
    const TicJson *n = tic_json_get(tic_json_get(root, "metrics"), "main_metric");
    bool there = n && n->kind == TIC_JSON_NUMBER;
    *value = there ? n->number : 0;
    tic_json_free(root);
    return there;
}

static void print_families(const Eval *e)
{
    for (int i = 0; i < e->n; i++) {
        const Item *x = &e->item[i];
        char *family = tic_task_family(x->task->key);
        double sum = 0, value;
        int count = 0;
        bool first = x->line && x->task->lo && !x->is_union;
        for (int k = 0; k < e->n && first; k++) {
            char *other = tic_task_family(e->item[k].task->key);
            if (!strcmp(family, other) && !e->item[k].is_union && main_metric(&e->item[k], &value)) {
                first = k >= i;
                sum += value;
                count++;
            }
            free(other);
        }
        if (first && count) {
            char *name = tic_task_name(family);
            printf("%s: %.3f, mean of %d\n", name, sum / count, count);
            free(name);
        }
        free(family);
    }
}

static void print_groups(const Eval *e)
{
    for (int g = 0; tic_group_name(g); g++) {
        double sum = 0, value;
        int count = 0;
        for (int i = 0; i < e->n; i++) {
            if (tic_group_has(g, e->item[i].task->key) && main_metric(&e->item[i], &value)) {
                sum += value;
                count++;
            }
        }
        if (count == tic_group_size(g))
            printf("%s: %.3f\n", tic_group_name(g), sum / count);
        else if (count)
            printf("%s: %.3f (%d of its %d tasks)\n", tic_group_name(g), sum / count, count, tic_group_size(g));
    }
}

/* ---- the whole */

/* OUT/eval_results.jsonl; without --out beside the folder of the checkpoint: .../NAME/checkpoints/epoch_N.pt. */
static TicStatus place_results(const TicEvalOptions *o, char **path)
{
    char *folder = o->out ? tic_strdup(o->out) : tic_format("%s%s", o->ckpt[0] == '/' ? "" : "./", o->ckpt);
    if (!o->out) {
        char *slash = strrchr(folder, '/');
        *slash = 0;
        char *up = strrchr(folder, '/');
        if (up && !strcmp(up + 1, "checkpoints"))
            *up = 0;
    }
    TicStatus status = tic_make_dirs(folder);
    if (!status && access(folder, W_OK | X_OK))
        status = tic_fail(TIC_USER, "%s: results cannot be written there: %s", folder, strerror(errno));
    *path = tic_format("%s/eval_results.jsonl", folder);
    if (!status)
        printf("results: %s\n", *path);
    free(folder);
    return status;
}

static TicStatus open_model(Eval *e, const TicKernel *kernels)
{
    const TicEvalOptions *o = e->o;
    uint64_t digest = 0;
    TRY(tic_model_new(e->program, kernels, &e->model));
    TRY(tic_load_weights(e->model, o->ckpt));
    TRY(tic_hash_file(o->ckpt, &digest));
    snprintf(e->digest, sizeof e->digest, "%016" PRIx64, digest);
    TRY(tic_captions_fit(e->program));
    TRY(tic_bpe_open(o->vocab, &e->bpe));
    if (tic_bpe_path(e->bpe))
        TRY(tic_hash_file(tic_bpe_path(e->bpe), &e->vocab));
    if (tic_bpe_is_fallback(e->bpe))
        printf("no vocabulary found (--vocab, or `make vocab`): captions are spelled byte by byte\n");
    e->pool = tic_pool_new((int)o->threads);
    return tic_towers_open(e->model, e->pool, e->bpe, o->batch, &e->towers);
}

TicStatus tic_evaluate(const TicProgram *p, const TicKernel *kernels, const TicEvalOptions *o)
{
    Eval e = { .program = p, .o = o };
    if (!o->ckpt)
        return tic_fail(TIC_USER, "--ckpt: no checkpoint given");
    TicStatus status = list_tasks(&e);
    if (!status)
        status = resolve(&e, true);
    if (!status)
        status = open_model(&e, kernels);
    if (!status)
        status = place_results(o, &e.results);
    for (int i = 0; i < e.n && !status; i++)
        if (e.item[i].there)
            status = evaluate_task(&e, &e.item[i]);
    if (!status) {
        print_families(&e);
        print_groups(&e);
        printf("%d tasks evaluated, %d done before, %d without data, %d of another protocol\n", e.evaluated, e.reused, e.missing,
               e.unsupported);
    }
    tic_towers_close(e.towers);
    if (e.pool)
        tic_pool_free(e.pool);
    tic_bpe_close(e.bpe);
    if (e.model)
        tic_model_free(e.model);
    free(e.classifier);
    free(e.results);
    close_tasks(&e);
    return status;
}

TicStatus tic_evaluate_check(const TicProgram *p, const TicEvalOptions *o)
{
    Eval e = { .program = p, .o = o };
    TicStatus status = list_tasks(&e);
    if (!status)
        status = resolve(&e, false);
    close_tasks(&e);
    return status;
}

TicStatus tic_evaluate_write_tasks(const TicProgram *p, const TicEvalOptions *o, const char *path)
{
    Eval e = { .program = p, .o = o };
    TicStatus status = o->tasks || p->n_tasks || o->data ? list_tasks(&e)
                     : tic_fail(TIC_USER, "the program has no `eval` block; --data DIR lists the sets that are there");
    if (!status && !e.list.count)
        status = tic_fail(TIC_USER, "%s: no held-out sets below it", o->data ? o->data : path);
    if (!status)
        status = tic_tasks_write(&e.list, path);
    if (!status)
        printf("tasks: %s\n", path);
    close_tasks(&e);
    return status;
}
