/* sema_block.c -- data, train and eval: entries NAME = value, each known by a row of a table.
 *
 * An entry may be overridden from the command line, -D train.batch=16 or -D batch=16. Words such as `bicubic` and
 * `f32` are choices of an entry, not names of values. */
#include "front/sema.h"
#include <math.h>
#include <string.h>

const char *const block_words[] = { "model", "data", "train", "continual", "eval", "strategy", "optimizer", NULL };

static const char *const data_entries[] = { "shards", "image", "mean", "std", "text", "sampling", "decode", NULL };
static const char *const train_entries[] = { "batch", "samples", "precision", "optimizer", "seed", "micro", "clip_norm",
                                             NULL };
static const char *const continual_entries[] = { "steps", "strategy", "start", "carry", NULL };

const char *const *block_entries(enum BlockKind kind)
{
    static const char *const none[] = { NULL };
    return kind == B_DATA ? data_entries : kind == B_TRAIN ? train_entries
         : kind == B_CONTINUAL ? continual_entries : none;
}

/* ---- entries */

static bool in_list(const char *word, const char *const *list)
{
    for (; *list; list++) {
        if (!strcmp(word, *list))
            return true;
    }
    return false;
}

/* Each entry once, and none that the block does not have. `inner`: a nested block it may have, or NULL. */
void check_entries(Sema *s, const Node *block, const char *const *list, const char *inner)
{
    for (const Node *n = block->c; n; n = n->next) {
        bool entry = n->kind == AST_SET && n->a->kind == AST_NAME;
        if (n->kind == AST_BLOCK && inner && !strcmp(n->text, inner))
            continue;
        if (!entry) {
            sema_error(s, n->span, "a `%s` block has entries: NAME = value", block->text);
            if (n->kind == AST_LET)
                sema_help(s, "a constant stands outside the block");
            continue;
        }
        if (!in_list(n->a->text, list)) {
            sema_error(s, n->a->span, "`%s` has no entry `%s`", block->text, n->a->text);
            suggest_or_list(s, n->a->text, list, "its entries");
            continue;
        }
        for (const Node *m = block->c; m != n; m = m->next) {
            if (m->kind == AST_SET && m->a->kind == AST_NAME && !strcmp(m->a->text, n->a->text)) {
                sema_error(s, n->span, "`%s` stands here twice", n->a->text);
                sema_note(s, m->span, "here first");
                break;
            }
        }
    }
}

/* What stands between a block's word and its `{`: a name where `named`, and no arguments. (`model` says both itself.) */
void check_header(Sema *s, const Node *block, bool named)
{
    if (block->a && !named)
        sema_error(s, block->a->span, "`%s` has no name, and here is `%s`", block->text, sema_text(s, block->a));
    else if (block->b && strcmp(block->text, "model"))
        sema_error(s, block->b->span, "`%s` takes no arguments, and here is `%s`", block->text, sema_text(s, block->b));
}

const Node *entry_find(const Node *items, const char *name)
{
    for (const Node *n = items; n; n = n->next) {
        if (n->kind == AST_SET && n->a->kind == AST_NAME && !strcmp(n->a->text, name))
            return n->b;
    }
    return NULL;
}

/* The command line first. */
const Node *block_value(Sema *s, enum BlockKind kind, const char *name)
{
    static const char *const word[] = { "model", "data", "train", "continual", "eval" };
    const Node *given = define_find(s, word[kind], name);
    return given ? given : s->block[kind] ? entry_find(s->block[kind]->c, name) : NULL;
}

/* An entry of another name was meant for this one: that has had its message. */
static bool misspelt(const Node *block, const char *name)
{
    const char *const list[] = { name, NULL };
    for (const Node *n = block->c; n; n = n->next) {
        if (n->kind == AST_SET && n->a->kind == AST_NAME && diag_closest(n->a->text, list))
            return true;
    }
    return false;
}

static const Node *wanted(Sema *s, enum BlockKind kind, const char *name, const char *example)
{
    const Node *n = block_value(s, kind, name);
    if (!n && s->block[kind] && !misspelt(s->block[kind], name)) {
        sema_error(s, s->block[kind]->word, "`%s` says nothing of `%s`", s->block[kind]->text, name);
        sema_help(s, "write `%s = %s`", name, example);
    }
    return n;
}

static bool whole_entry(Sema *s, const Node *n, const char *name, int64_t least, int64_t most, int64_t *out)
{
    Value v = eval_number(s, n, name);
    int64_t x;
    if (v.kind == V_ERROR)
        return false;
    if (value_whole(&v, &x) && x >= least && x <= most) {
        *out = x;
        return true;
    }
    sema_error(s, n->span, "`%s` is a whole number from %lld to %lld, and this is %s", name, (long long)least, (long long)most,
               number_text(s, v.num));
    return false;
}

/* A word of the list that stands in quotes: how it is written. */
void without_quotes(Sema *s, const Node *n, const char *const *list)
{
    for (int k = 0; n->kind == AST_STR && list[k]; k++)
        if (!strncmp(n->text + 1, list[k], strlen(n->text) - 2) && strlen(list[k]) == strlen(n->text) - 2)
            sema_help(s, "write `%s`, without quotes", list[k]);
}

/* One of a few words; -1 after an error. */
int block_choice(Sema *s, const Node *n, const char *name, const char *const *list)
{
    for (int k = 0; n->kind == AST_NAME && list[k]; k++) {
        if (!strcmp(n->text, list[k]))
            return k;
    }
    Text t = { .arena = s->arena };
    for (int k = 0; list[k]; k++)
        text_printf(&t, "%s`%s`", !k ? "" : list[k + 1] ? ", " : " or ", list[k]);
    sema_error(s, n->span, "`%s` is %s, and this is `%s`", name, text_data(&t), sema_text(s, n));
    if (n->kind == AST_NAME)
        sema_suggest(s, n->text, list);
    else
        without_quotes(s, n, list);
    return -1;
}

/* word(size, name = value, ...): the argument called `name`, or the first without a name where `name` is NULL. */
static const Node *word_argument(const Node *call, const char *name)
{
    for (const Node *a = call->b; a; a = a->next) {
        if (!name && a->kind != AST_NAMED)
            return a;
        if (name && a->kind == AST_NAMED && a->a->kind == AST_NAME && !strcmp(a->a->text, name))
            return a->b;
    }
    return NULL;
}

static bool word_call(Sema *s, const Node *n, const char *entry, const char *const *words, int positional,
                      const char *const *names)
{
    const char *word = n->kind == AST_CALL && n->a->kind == AST_NAME ? n->a->text : NULL;
    if (!word || !in_list(word, words)) {
        Text t = { .arena = s->arena };
        for (int k = 0; words[k]; k++)
            text_printf(&t, "%s`%s(...)`", k ? " or " : "", words[k]);
        sema_error(s, n->kind == AST_CALL ? n->a->span : n->span, "`%s` is %s, and this is `%s`", entry, text_data(&t),
                   sema_text(s, n->kind == AST_CALL ? n->a : n));
        if (word)
            sema_suggest(s, word, words);
        return false;
    }
    int count = 0;
    bool ok = true;
    for (const Node *a = n->b; a; a = a->next) {
        if (a->kind != AST_NAMED) {
            if (++count <= positional)
                continue;
            sema_error(s, a->span, "`%s` takes %d argument%s without a name", word, positional, positional == 1 ? "" : "s");
            ok = false;
        } else if (a->a->kind != AST_NAME || !in_list(a->a->text, names)) {
            sema_error(s, a->a->span, "`%s` has no argument `%s`", word, sema_text(s, a->a));
            if (a->a->kind == AST_NAME)
                sema_suggest(s, a->a->text, names);
            ok = false;
        }
    }
    return ok;
}

/* ---- data */

/* "{data}/train/{year}/...": the holes are filled when the program runs. */
static void check_shards(Sema *s, const Node *n)
{
    if (n->kind != AST_STR) {
        sema_error(s, n->span, "`shards` is a string with `{data}` and `{year}`, and this is `%s`", sema_text(s, n));
        return;
    }
    size_t length = strlen(n->text);
    const char *text = arena_strndup(s->arena, n->text + 1, length - 2);
    for (const char *c = text; (c = strchr(c, '{')); c++) {
        const char *end = strchr(c, '}');
        size_t k = end ? (size_t)(end - c - 1) : 0;
        bool list = end && (memchr(c, ',', k) || memchr(c, '.', k));        /* {000..123}, as the shell writes it */
        if (!end) {
            sema_error(s, n->span, "this string has a `{` without a `}`");
            return;
        }
        if (!list && strncmp(c, "{data}", 6) && strncmp(c, "{year}", 6)) {
            int lo = n->word.lo + 1 + (int)(c - text);
            sema_error(s, (Span){ lo, lo + (int)k + 2 }, "`shards` knows `{data}` and `{year}`, and this is `{%.*s}`", (int)k, c + 1);
            sema_suggest(s, arena_strndup(s->arena, c + 1, k), (const char *const[]){ "data", "year", NULL });
            return;
        }
    }
    s->program->data.shards = text;
    s->shards = n->span;
}

static bool pair(Sema *s, const Node *call, const char *name, double least, double *lo, double *hi)
{
    const Node *n = word_argument(call, name);
    if (!n)
        return true;
    Value v = eval_plain(s, n, name);
    if (v.kind == V_ERROR)
        return false;
    if (v.kind != V_RANGE || v.half || !(v.lo >= least) || v.hi < v.lo || !isfinite(v.hi)) {
        sema_error(s, n->span, "`%s` is a range of numbers above 0, as `0.9..1.0`, and this is `%s`", name, sema_text(s, n));
        return false;
    }
    *lo = v.lo;
    *hi = v.hi;
    return true;
}

/* As the model asks for it, where there is one to ask. */
static long long image_edge(const Sema *s) { return s->image ? (long long)s->image->shape[2] : 224; }

static void check_image(Sema *s, const Node *n)
{
    static const char *const words[] = { "random_resized_crop", "center_crop", NULL };
    static const char *const crop[] = { "scale", "ratio", "filter", NULL }, *const plain[] = { "filter", NULL };
    DataBlock *d = &s->program->data;
    bool random = n->kind == AST_CALL && n->a->kind == AST_NAME && !strcmp(n->a->text, words[0]);
    int64_t size;
    if (!word_call(s, n, "image", words, 1, random ? crop : plain))
        return;
    const Node *edge = word_argument(n, NULL), *filter = word_argument(n, "filter");
    if (!edge) {
        sema_error(s, n->span, "`%s` does not say how many pixels wide the crop is", n->a->text);
        sema_help(s, "write `%s(%lld)`", n->a->text, image_edge(s));
        return;
    }
    if (!whole_entry(s, edge, n->a->text, 1, 4096, &size))
        return;
    if (s->image && s->image->shape[2] != size) {
        sema_error(s, edge->span, "the crop is %lld pixels wide, and the model takes %lld", (long long)size,
                   (long long)s->image->shape[2]);
        sema_note(s, s->image->at, "the model asks for it here");
        return;
    }
    if (filter && block_choice(s, filter, "filter", (const char *const[]){ "bicubic", NULL }) < 0)
        return;
    d->image_size = (int)size;
    d->augment = random;
    d->scale_lo = 0.9;                                         /* OpenCLIP's defaults */
    d->scale_hi = 1;
    d->ratio_lo = 0.75;
    d->ratio_hi = 4.0 / 3;
    if (random && pair(s, n, "scale", 1e-6, &d->scale_lo, &d->scale_hi) &&
        pair(s, n, "ratio", 1e-3, &d->ratio_lo, &d->ratio_hi) && d->scale_hi > 1)
        sema_error(s, word_argument(n, "scale")->span, "`scale` is a share of the image's area: at most 1, and this goes to %s",
                   number_text(s, d->scale_hi));
}

static void check_triple(Sema *s, const Node *n, const char *name, bool positive, double *out)
{
    Value v = n ? eval_plain(s, n, name) : value_error();
    if (v.kind == V_ERROR)
        return;
    bool ok = v.kind == V_LIST && v.n == 3;
    for (int k = 0; ok && k < 3; k++) {
        ok = v.elem[k].kind == V_NUM && (!positive || v.elem[k].num > 0);
        out[k] = v.elem[k].num;
    }
    if (!ok)
        sema_error(s, n->span, "`%s` is a list of 3 numbers%s: red, green, blue; and this is `%s`", name,
                   positive ? " above 0" : "", sema_text(s, n));
    for (int k = 0; ok && k < 3; k++) {
        if (fabs(out[k]) <= 1)
            continue;
        sema_error(s, n->span, "`%s` is measured on pixels between 0 and 1, and this has %s", name, number_text(s, out[k]));
        if (out[k] > 1 && out[k] <= 255)
            sema_help(s, "what was measured on pixels from 0 to 255 is divided: `%s / 255`", number_text(s, out[k]));
        return;
    }
}

static void check_text(Sema *s, const Node *n)
{
    DataBlock *d = &s->program->data;
    int64_t context = s->text_tokens ? s->text_tokens->shape[1] : 77;
    d->context = (int)context;
    if (!n || !word_call(s, n, "text", (const char *const[]){ "clip_bpe", NULL }, 0, (const char *const[]){ "context", NULL }))
        return;
    const Node *c = word_argument(n, "context");
    int64_t found = context;
    if (!c || !whole_entry(s, c, "context", 3, 4096, &found) || found == context)
        return;
    sema_error(s, c->span, "captions are %lld tokens long, and the model takes %lld", (long long)found, (long long)context);
    if (s->text_tokens)
        sema_note(s, s->text_tokens->at, "the model asks for it here");
}

void sema_data(Sema *s, const Node *block)
{
    static const double mean[3] = { 0.48145466, 0.4578275, 0.40821073 }, std[3] = { 0.26862954, 0.26130258, 0.27577711 };
    DataBlock *d = &s->program->data;
    *d = (DataBlock){ .name = block->a ? block->a->text : "", .with_replacement = true };
    memcpy(d->mean, mean, sizeof mean);                        /* OpenAI's, which OpenCLIP takes over */
    memcpy(d->std, std, sizeof std);
    check_entries(s, block, data_entries, NULL);
    const Node *shards = wanted(s, B_DATA, "shards", "\"{data}/train/{year}/**/*.tar\"");
    const Node *image = wanted(s, B_DATA, "image", arena_printf(s->arena, "random_resized_crop(%lld)", image_edge(s)));
    const Node *sampling = block_value(s, B_DATA, "sampling"), *decode = block_value(s, B_DATA, "decode");
    if (shards)
        check_shards(s, shards);
    if (image)
        check_image(s, image);
    check_triple(s, block_value(s, B_DATA, "mean"), "mean", false, d->mean);
    check_triple(s, block_value(s, B_DATA, "std"), "std", true, d->std);
    check_text(s, block_value(s, B_DATA, "text"));
    if (sampling) {
        int k = block_choice(s, sampling, "sampling", (const char *const[]){ "with_replacement", "without_replacement", "by_shard", NULL });
        d->with_replacement = k != 1;
        d->by_shard = k == 2;
    }
    if (decode)
        d->scaled_decode = block_choice(s, decode, "decode", (const char *const[]){ "exact", "scaled", NULL }) == 1;
}

/* ---- train */

static void check_after(Sema *s, const Node *block)
{
    TrainBlock *t = &s->program->train;
    for (const Node *n = block->c; n; n = n->next) {
        if (n->kind != AST_BLOCK || strcmp(n->text, "after"))
            continue;
        if (t->after) {
            sema_error(s, n->word, "there are two `after` blocks");
            sema_note(s, t->after->word, "here first");
        }
        t->after = n;
        check_header(s, n, false);
    }
}

void sema_train(Sema *s, const Node *block)
{
    TrainBlock *t = &s->program->train;
    int64_t seed = 0;
    *t = (TrainBlock){ .batch = 1, .samples = 1 };
    check_entries(s, block, train_entries, "after");
    const Node *batch = wanted(s, B_TRAIN, "batch", "4096"), *samples = wanted(s, B_TRAIN, "samples", "18_432_000");
    const Node *micro = block_value(s, B_TRAIN, "micro"), *n = block_value(s, B_TRAIN, "seed");
    bool sizes = batch && whole_entry(s, batch, "batch", 1, 1 << 20, &t->batch);
    sizes &= samples && whole_entry(s, samples, "samples", 1, (int64_t)1 << 50, &t->samples);
    if (micro && whole_entry(s, micro, "micro", 0, 1 << 20, &t->micro) && sizes && t->micro && t->batch % t->micro) {
        sema_error(s, micro->span, "a batch of %lld does not divide into pieces of %lld", (long long)t->batch, (long long)t->micro);
        sema_help(s, "`micro` is how many pairs are computed at a time; `batch` is a multiple of it");
    }
    if (n && whole_entry(s, n, "seed", 0, (int64_t)1 << 53, &seed))
        t->seed = (uint64_t)seed;
    if (sizes && t->samples < t->batch)
        sema_error(s, samples->span, "`samples` is %lld and `batch` %lld: not one step", (long long)t->samples,
                   (long long)t->batch);
    n = block_value(s, B_TRAIN, "precision");
    if (n)
        t->bf16 = block_choice(s, n, "precision", (const char *const[]){ "f32", "bf16", NULL }) == 1;
    n = block_value(s, B_TRAIN, "clip_norm");
    Value v = n ? eval_number(s, n, "clip_norm") : value_error();
    if (v.kind == V_NUM && !(v.num > 0 && isfinite(v.num)))
        sema_error(s, n->span, "`clip_norm` is a number above 0, and this is %s", number_text(s, v.num));
    else if (v.kind == V_NUM)
        t->clip_norm = v.num;
    check_after(s, block);
    t->optimizer = wanted(s, B_TRAIN, "optimizer", "adamw(lr = cosine(peak = 5e-4, warmup = 500))");
}

/* ---- eval */

static void add_task(Sema *s, const Node *n)
{
    static const char *const kinds[] = { "retrieval", "zeroshot", NULL };
    Eq q;
    if (!in_list(n->text, kinds)) {
        sema_error(s, n->word, "there is no evaluation `%s`", n->text);
        sema_suggest(s, n->text, kinds);
        return;
    }
    if (!n->a || n->a->kind != AST_STR) {
        sema_error(s, n->span, "`%s` is followed by the name of its set: `%s \"tic/datacomp/...\"`", n->text, n->text);
        return;
    }
    if (n->b || n->c) {
        sema_error(s, (n->b ? n->b : n->c)->span, "`%s` takes the name of its set alone, and here is `%s`", n->text,
                   sema_text(s, n->b ? n->b : n->c));
        return;
    }
    eq_begin(s, &q, EQ_PLAIN, n->text);
    Value v = value_of(s, &q, n->a);
    if (v.kind != V_STR)
        return;
    for (int i = 0; i < s->program->n_task; i++) {
        if (!strcmp(s->task.at[i].name, v.text)) {
            sema_error(s, n->span, "set \"%s\" is evaluated twice", v.text);
            return;
        }
    }
    const Name *year = scope_local(s, "year");
    EvalTask task = { n->text, v.text, -1 };
    if (year && year->kind == NAME_LOOP && year->value.kind == V_NUM && !year_of(s, year->value.num, year->value.at, &task.year))
        return;
    PUSH(s->arena, s->task, task);
    s->program->n_task = s->task.n;
}

static void eval_items(Sema *s, const Node *items)
{
    for (const Node *n = items; n && !s->stopped; n = n->next) {
        if (n->kind == AST_FOR) {
            Value *value;
            int count = 0;
            if (!loop_values(s, n->a, &value, &count) || !name_is_free(s, n->text, n->word))
                continue;
            for (int i = 0; i < count && sema_step(s, n->word); i++) {
                scope_push(s);
                scope_add(s, s->scope, n->text, NAME_LOOP, value[i], n->word);
                eval_items(s, n->b);
                scope_pop(s);
            }
        } else if (n->kind == AST_BLOCK) {
            add_task(s, n);
        } else {
            sema_error(s, n->span, "`eval` has lines like `retrieval \"SET\"` and `for year in 2014..2022 { ... }`");
        }
    }
}

void sema_eval(Sema *s, const Node *block)
{
    eval_items(s, block->c);
    s->program->task = s->task.at;
    s->program->n_task = s->task.n;
}
