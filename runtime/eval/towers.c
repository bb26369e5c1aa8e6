/* towers.c -- see towers.h. A batch that is not full is padded with what its buffer last held: rows do not see each other. Where
 * the device works beside the host, a batch is filled while the one before it is encoded, whose rows come when the next is
 * full, or at the end. */
#define _GNU_SOURCE
#include "eval/towers.h"
#include "data/loader.h"
#include "data/picture.h"
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

typedef void (*Rows)(void *context, const float *features, int64_t n);

typedef struct {
    TicExec *exec;
    const char *output;
    bool sends;                  /* tic_exec_sends */
    int64_t filled, running;     /* rows waiting in the input; being encoded */
    Rows rows;
    void *context;
} Queue;

struct TicTowers {
    const TicProgram *program;
    TicPool *pool;
    const TicBpe *bpe;
    Queue image, text;
    TicBatch to;                 /* the inputs of both */
    float table[3][256];
    int64_t batch, width;
};

TicStatus tic_towers_open(TicModel *m, TicPool *pool, const TicBpe *bpe, int64_t batch, TicTowers **out)
{
    const TicProgram *p = m->program;
    *out = NULL;
    if (!tic_program_entry(p, "image") || !tic_program_entry(p, "text"))
        return tic_fail(TIC_USER, "evaluation needs encode_image and encode_text: the model has not both");
    TicTowers *t = tic_alloc(sizeof *t);
    *t = (TicTowers){ .program = p, .pool = pool, .bpe = bpe, .batch = batch, .image.output = "image_features", .text.output = "text_features" };
    TicStatus status = tic_exec_open(m, pool, "image", batch, &t->image.exec);
    if (!status)
        status = tic_exec_open(m, pool, "text", batch, &t->text.exec);
    if (!status) {
        int64_t values;
        tic_exec_output(t->image.exec, "image_features", &values);
        t->width = values / batch;
        t->image.sends = tic_exec_sends(t->image.exec);
        t->text.sends = tic_exec_sends(t->text.exec);
        t->to = tic_exec_batch(t->image.exec);           /* where a batch that is sent stands too */
        t->to.tokens = tic_exec_batch(t->text.exec).tokens;
        tic_program_pixels(p, t->table);
        *out = t;
    } else {
        tic_towers_close(t);
    }
    return status;
}

void tic_towers_close(TicTowers *t)
{
    if (!t)
        return;
    tic_exec_close(t->image.exec);
    tic_exec_close(t->text.exec);
    free(t);
}

int64_t tic_towers_width(const TicTowers *t) { return t->width; }

static void collect(Queue *q)
{
    if (q->running)
        q->rows(q->context, tic_exec_output(q->exec, q->output, NULL), q->running);
    q->running = 0;
}

/* The batch goes on its way; afterwards its place may be written again. */
static void encode(Queue *q)
{
    if (q->sends)
        tic_exec_send(q->exec);
    collect(q);
    tic_exec_run(q->exec);
    q->running = q->filled;
    q->filled = 0;
    if (q->sends)
        tic_exec_next_batch(q->exec);
    else
        collect(q);
}

static void finish(Queue *q)
{
    if (q->filled)
        encode(q);
    collect(q);
}

static void begin(Queue *q, Rows rows, void *context)
{
    q->filled = q->running = 0;
    q->rows = rows;
    q->context = context;
}

static void add_text(TicTowers *t, const char *text, size_t size)
{
    tic_bpe_encode(t->bpe, text, size, t->program->context, t->to.tokens + t->text.filled * t->program->context);
    if (++t->text.filled == t->batch)
        encode(&t->text);
}

static int64_t picture_size(const TicTowers *t) { return 3ll * t->program->image_size * t->program->image_size; }

static void add_image(TicTowers *t, const uint8_t *planes)
{
    tic_batch_pictures(t->to, t->table, planes, 1, t->program->image_size, t->image.filled);
    if (++t->image.filled == t->batch)
        encode(&t->image);
}

static TicStatus open_samples(const TicTowers *t, const TicShardList *shards, TicSamples **samples)
{
    const TicSamplesConfig c = { .shards = *shards, .image_size = t->program->image_size };
    return tic_samples_open(&c, samples);
}

static void close_samples(TicSamples *samples, TicEvalCounts *counts)
{
    TicLoaderStats stats;
    tic_samples_stats(samples, &stats);
    for (int i = 0; i < TIC_SKIP_REASONS; i++)
        counts->skipped += stats.skipped[i];
    tic_samples_close(samples);
}

/* ---- pairs */

bool tic_caption_line(const char **at, const char *end, const char **line, size_t *size)
{
    const char *p = *at;
    if (p >= end)
        return false;
    *line = p;
    for (; p < end; p++) {
        const unsigned char *u = (const unsigned char *)p;
        size_t left = (size_t)(end - p);
        int n = (u[0] >= 0x0a && u[0] <= 0x0d) || (u[0] >= 0x1c && u[0] <= 0x1e) ? 1 + (u[0] == '\r' && left > 1 && u[1] == '\n')
              : left > 1 && u[0] == 0xc2 && u[1] == 0x85 ? 2
              : left > 2 && u[0] == 0xe2 && u[1] == 0x80 && (u[2] == 0xa8 || u[2] == 0xa9) ? 3 : 0;
        if (n) {
            *size = (size_t)(p - *line);
            *at = p + n;
            return true;
        }
    }
    *size = (size_t)(p - *line);
    *at = p;
    return true;
}

typedef struct { float **rows; int64_t *room, at, width; } Append;

static void *grown(void *p, int64_t rows, int64_t *room, size_t row_bytes)
{
    if (rows <= *room)
        return p;
    *room = rows * 2;
    return tic_realloc(p, (size_t)*room * row_bytes);
}

static void append(void *context, const float *features, int64_t n)
{
    Append *a = context;
    *a->rows = grown(*a->rows, a->at + n, a->room, (size_t)a->width * sizeof(float));
    memcpy(*a->rows + a->at * a->width, features, (size_t)(n * a->width) * sizeof(float));
    a->at += n;
}

TicStatus tic_towers_pairs(TicTowers *t, const TicShardList *shards, TicFeatures *f, TicEvalCounts *counts)
{
    TicSamples *samples;
    TicSample s;
    TicStatus status;
    Append image = { &f->image, &f->image_room, f->images, t->width }, text = { &f->text, &f->text_room, f->texts, t->width };
    TRY(open_samples(t, shards, &samples));
    begin(&t->image, append, &image);
    begin(&t->text, append, &text);
    while (!(status = tic_samples_next(samples, &s))) {
        const char *at = s.caption, *line;
        size_t n;
        add_image(t, s.planes);
        while (s.has_caption && tic_caption_line(&at, s.caption + s.caption_size, &line, &n)) {
            f->image_of = grown(f->image_of, f->texts + 1, &f->of_room, sizeof *f->image_of);
            f->image_of[f->texts++] = f->images;
            add_text(t, line, n);
        }
        f->images++;
    }
    finish(&t->image);
    finish(&t->text);
    close_samples(samples, counts);
    return status == TIC_END ? TIC_OK : status;
}

void tic_features_clear(TicFeatures *f)
{
    free(f->image);
    free(f->text);
    free(f->image_of);
    *f = (TicFeatures){ 0 };
}

/* ---- classes */

static char *filled(const char *template, const char *class)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    for (const char *hole; (hole = strstr(template, "{c}")); template = hole + 3)
        fprintf(f, "%.*s%s", (int)(hole - template), template, class);
    fputs(template, f);
    fclose(f);
    return text;
}

TicStatus tic_towers_classifier(TicTowers *t, const TicLines *classes, const TicLines *templates, float **classifier)
{
    float *texts = NULL, *rows = tic_alloc((size_t)(classes->count * t->width) * sizeof *rows);
    int64_t room = 0;
    Append text = { &texts, &room, 0, t->width };
    begin(&t->text, append, &text);
    for (int c = 0, from = 0; c < classes->count; c++) {
        for (int k = 0; k < templates->count; k++) {
            char *line = filled(templates->line[k], classes->line[c]);
            add_text(t, line, strlen(line));
            free(line);
        }
        if (c + 1 == classes->count)
            finish(&t->text);
        for (; from <= c && (int64_t)(from + 1) * templates->count <= text.at; from++)      /* the classes that are complete */
            tic_class_row(texts + (int64_t)from * templates->count * t->width, templates->count, t->width, rows + from * t->width);
    }
    free(texts);
    *classifier = rows;
    return TIC_OK;
}

/* label: of pictures that were added and not counted yet, at most two batches, in a ring. */
typedef struct { TicClassCounts *counts; const float *classifier; int64_t *label, room, width, added, counted; } Labelled;

static Labelled labelled(const TicTowers *t, TicClassCounts *c, const float *classifier)
{
    return (Labelled){ c, classifier, tic_alloc((size_t)(2 * t->batch) * sizeof(int64_t)), 2 * t->batch, t->width, 0, 0 };
}

static void add_labelled(TicTowers *t, Labelled *l, const uint8_t *planes, int64_t label)
{
    l->label[l->added++ % l->room] = label;
    add_image(t, planes);
}

static void count_rows(void *context, const float *features, int64_t n)
{
    Labelled *l = context;
    for (int64_t i = 0; i < n; i++)
        tic_class_count(l->counts, features + i * l->width, l->classifier, l->width, l->label[l->counted++ % l->room]);
}

TicStatus tic_towers_classify(TicTowers *t, const TicShardList *shards, const float *classifier, TicClassCounts *c, TicEvalCounts *counts)
{
    TicSamples *samples;
    TicSample s;
    TicStatus status;
    TRY(open_samples(t, shards, &samples));
    Labelled l = labelled(t, c, classifier);
    begin(&t->image, count_rows, &l);
    while (!(status = tic_samples_next(samples, &s))) {
        if (s.class_id < 0) {
            counts->unlabelled++;
            continue;
        }
        if (s.class_id >= c->classes) {
            status = tic_fail(TIC_USER, "sample %s: found class %lld, and classnames.txt has %d classes, from 0 on", s.key,
                              (long long)s.class_id, c->classes);
            break;
        }
        add_labelled(t, &l, s.planes, s.class_id);
    }
    if (status == TIC_END)
        finish(&t->image);
    close_samples(samples, counts);
    free(l.label);
    return status == TIC_END ? TIC_OK : status;
}

/* ---- a folder of folders of pictures */

typedef struct {
    const TicTowers *towers;
    char **path;                 /* [n] of this batch */
    uint8_t *planes;             /* [n, 3, size, size] */
    bool *bad;
} Decode;

static void decode_one(void *const *buf, int64_t batch, int64_t task, void *scratch)
{
    Decode *d = buf[0];
    char *data;
    size_t n;
    TicPicture picture;
    tic_picture_init(&picture, d->towers->program->image_size);
    TicStatus status = tic_read_file(d->path[task], TIC_MAX_MEMBER, &data, &n);
    if (!status) {
        status = tic_picture_square(&picture, (const uint8_t *)data, n, NULL, tic_random(0, 0, 0), d->planes + task * picture_size(d->towers));
        free(data);
    }
    d->bad[task] = status != TIC_OK;
    tic_error_clear();
    tic_picture_free(&picture);
}

static int by_bytes(const struct dirent **a, const struct dirent **b) { return strcmp((*a)->d_name, (*b)->d_name); }
static int not_hidden(const struct dirent *e) { return e->d_name[0] != '.'; }

static bool is_picture(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && (!strcasecmp(dot, ".jpg") || !strcasecmp(dot, ".jpeg") || !strcasecmp(dot, ".png") || !strcasecmp(dot, ".webp"));
}

typedef struct { char **path; int64_t *label, count, room; } Pictures;

static void list_pictures(Pictures *p, const char *folder, int64_t label)
{
    struct dirent **entry = NULL;
    int n = scandir(folder, &entry, not_hidden, by_bytes);
    for (int i = 0; i < n; i++) {
        if (is_picture(entry[i]->d_name)) {
            if (p->count == p->room) {
                p->room = p->room ? 2 * p->room : 256;
                p->path = tic_realloc(p->path, (size_t)p->room * sizeof *p->path);
                p->label = tic_realloc(p->label, (size_t)p->room * sizeof *p->label);
            }
            p->path[p->count] = tic_format("%s/%s", folder, entry[i]->d_name);
            p->label[p->count++] = label;
        }
        free(entry[i]);
    }
    free(entry);
}

/* The pictures of every class folder, each labelled with its folder's number; *found: how many folders there are. */
static TicStatus list_classes(Pictures *p, const char *folder, int *found)
{
    struct dirent **entry = NULL;
    int n = scandir(folder, &entry, not_hidden, by_bytes);
    *found = 0;
    if (n < 0)
        return tic_fail(TIC_USER, "%s: cannot list the folder: %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        char *path = tic_format("%s/%s", folder, entry[i]->d_name);
        struct stat st;
        if (!stat(path, &st) && S_ISDIR(st.st_mode))
            list_pictures(p, path, (*found)++);
        free(path);
        free(entry[i]);
    }
    free(entry);
    return p->count ? TIC_OK : tic_fail(TIC_USER, "%s: its folders hold no .jpg, .jpeg, .png or .webp", folder);
}

static void free_pictures(Pictures *p)
{
    for (int64_t i = 0; i < p->count; i++)
        free(p->path[i]);
    free(p->path);
    free(p->label);
}

TicStatus tic_towers_folder_digest(const char *folder, uint64_t *digest)
{
    Pictures p = { 0 };
    int found;
    TicStatus status = list_classes(&p, folder, &found);
    *digest = 0;
    for (int64_t i = 0; i < p.count; i++) {
        struct stat st;
        const char *name = p.path[i] + strlen(folder);
        int64_t size = stat(p.path[i], &st) ? -1 : st.st_size;
        *digest = tic_hash(&size, sizeof size, tic_hash(name, strlen(name), *digest));
    }
    free_pictures(&p);
    return status;
}

TicStatus tic_towers_classify_folder(TicTowers *t, const char *folder, const float *classifier, TicClassCounts *c, TicEvalCounts *counts)
{
    Pictures p = { 0 };
    int found;
    TicStatus status = list_classes(&p, folder, &found);
    if (!status && found != c->classes)
        status = tic_fail(TIC_USER, "%s: found %d folders of classes, and classnames.txt has %d classes", folder, found, c->classes);
    Decode d = { .towers = t, .planes = tic_alloc((size_t)(t->batch * picture_size(t))), .bad = tic_alloc((size_t)t->batch) };
    Labelled l = labelled(t, c, classifier);
    begin(&t->image, count_rows, &l);
    for (int64_t at = 0; at < p.count && !status; at += t->batch) {
        int64_t n = at + t->batch < p.count ? t->batch : p.count - at;
        void *buf[] = { &d };
        d.path = p.path + at;
        tic_pool_run(t->pool, decode_one, buf, 1, n);
        for (int64_t i = 0; i < n; i++) {
            counts->skipped += d.bad[i];
            if (d.bad[i])
                continue;
            add_labelled(t, &l, d.planes + i * picture_size(t), p.label[at + i]);
        }
    }
    if (!status)
        finish(&t->image);
    free_pictures(&p);
    free(d.planes);
    free(d.bad);
    free(l.label);
    return status;
}
