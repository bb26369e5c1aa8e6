/* tuned.c -- see tuned.h. */
#include "cuda/tuned.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"contract", "attention", "attention_bwd", NULL};
static const char *const finishes[] = {"plain", "columns", "points", NULL};
static const char *const dtypes[] = {"f32", "bf16", NULL};
static const int n_extents[] = {4, 5, 5};

/* ---- reading */

typedef struct Reader {
    Arena *arena;
    const char *name;
    int number;
    char *word[24];
    int n, next;
    Text *why;
} Reader;

static bool wrong(Reader *r, const char *wanted)
{
    const char *found = r->next < r->n ? r->word[r->next] : NULL;
    text_printf(r->why, "%s:%d: found %s%s%s, wanted %s", r->name, r->number, found ? "`" : "", found ? found : "the end of the line",
                found ? "`" : "", wanted);
    return false;
}

static bool choose_word(Reader *r, const char *const *list, int *out)
{
    Text wanted = {.arena = r->arena};
    for (int i = 0; list[i]; i++) {
        if (r->next < r->n && !strcmp(r->word[r->next], list[i])) {
            *out = i;
            r->next++;
            return true;
        }
        text_printf(&wanted, "%s`%s`", !i ? "" : list[i + 1] ? ", " : " or ", list[i]);
    }
    return wrong(r, text_data(&wanted));
}

static bool fixed_word(Reader *r, const char *word)
{
    const char *const list[] = {word, NULL};
    int i;
    return choose_word(r, list, &i);
}

static bool flag_word(Reader *r, const char *const *list, bool *out)
{
    int i = 0;
    bool ok = choose_word(r, list, &i);
    *out = i;
    return ok;
}

static bool number(Reader *r, int64_t least, int64_t most, const char *wanted, int64_t *out)
{
    char *end = NULL;
    const char *w = r->next < r->n ? r->word[r->next] : "";
    errno = 0;
    *out = strtoll(w, &end, 10);
    if (*w < '0' || *w > '9' || *end || errno || *out < least || *out > most)
        return wrong(r, wanted);
    r->next++;
    return true;
}

static bool extent(Reader *r, int i, TunedKey *key)
{
    enum { MOST = INT32_MAX };
    bool grows = key->kind == TUNED_CONTRACT && r->next < r->n && r->word[r->next][0] == '~';
    if (grows) {
        r->word[r->next]++;
        key->of_batch |= 1u << i;
    }
    return number(r, key->kind != TUNED_CONTRACT && i == 4 ? 0 : 1, MOST,
                  key->kind == TUNED_CONTRACT ? "an extent: a number, or ~ and one" : "an extent: a number", &key->extent[i]);
}

static bool architecture(Reader *r, TunedKey *key)
{
    const char *w = r->next < r->n ? r->word[r->next] : "";
    size_t digits = strncmp(w, "sm_", 3) ? 0 : strspn(w + 3, "0123456789");
    bool is = digits >= 2 && digits <= 3 && (!w[3 + digits] || (strchr("af", w[3 + digits]) && !w[4 + digits]));
    if (!is)
        return wrong(r, "an architecture such as sm_80 or sm_90a");
    key->arch = w;
    r->next++;
    return true;
}

static bool form(Reader *r, TunedKey *key)
{
    const char *w = r->next < r->n ? r->word[r->next] : "";
    if (strlen(w) != 2 || strspn(w, "km-") != 2)
        return wrong(r, "two letters of k, m and -");
    memcpy(key->form, w, 3);
    r->next++;
    return true;
}

static bool template_word(Reader *r, const TunedKey *key, const GemmTemplate **out)
{
    Text wanted = {.arena = r->arena};
    bool bf16 = key->a_bf16 && key->b_bf16, hopper = !strcmp(key->arch, "sm_90a");
    text_printf(&wanted, "a template for these operands on %s:", key->arch);
    for (const GemmTemplate *t = cuda_gemm; t->name; t++) {
        const char *tile = arena_printf(r->arena, "%dx%d", t->tile_m, t->tile_n);
        if (t->tensor != bf16 || (t->arch == 90 && !hopper))
            continue;
        if (r->next + 1 < r->n && !strcmp(r->word[r->next], t->name) && !strcmp(r->word[r->next + 1], tile)) {
            *out = t;
            r->next += 2;
            return true;
        }
        text_printf(&wanted, " `%s %s`", t->name, tile);
    }
    return wrong(r, text_data(&wanted));
}

static bool contract_choice(Reader *r, const TunedKey *key, TunedChoice *c)
{
    static const char *const cuts[] = {"splits", "shares", NULL}, *const splits[] = {"splits", NULL};
    enum { ROWS = 1, COLUMNS = 2, BATCHES = 8 };
    int cut = 0;
    int64_t n = 0;
    if (!template_word(r, key, &c->t))
        return false;
    if (r->next == r->n)
        return true;
    bool few = key->of_batch & (ROWS | COLUMNS | BATCHES);           /* partial results have a workspace of fixed size */
    if (!choose_word(r, c->t->arch == 90 && !few ? cuts : splits, &cut))
        return false;
    if (cut ? !number(r, 2, TUNED_MOST_SHARES, "2 to 1024", &n)
            : !number(r, 1, few ? 1 : TUNED_MOST_SPLITS, few ? "1, as the result grows with the batch" : "1 to 64", &n))
        return false;
    *(cut ? &c->shares : &c->splits) = (int)n;
    return true;
}

static bool attention_choice(Reader *r, const TunedKey *key, TunedChoice *c)
{
    int64_t warps, blocks;
    int at = r->next;
    if (!number(r, 1, 32, "1 to 32 warps", &warps) || !fixed_word(r, "warps") || !number(r, 1, 32, "1 to 32 blocks", &blocks) ||
        !fixed_word(r, "blocks"))
        return false;
    c->warps = (int)warps;
    c->blocks = (int)blocks;
    if (r->next == r->n || strcmp(key->arch, "sm_90a"))
        return true;
    c->wgmma = fixed_word(r, "wgmma");
    if (c->wgmma && warps % 4)
        r->next = at;
    return c->wgmma && (warps % 4 == 0 || wrong(r, "whole warpgroups: a multiple of 4 warps"));
}

static bool read_line(Reader *r, TunedKey *key, TunedChoice *c)
{
    int kind = 0, finish = 0;
    if (!architecture(r, key) || !choose_word(r, kinds, &kind))
        return false;
    key->kind = (TunedKind)kind;
    bool contract = kind == TUNED_CONTRACT;
    if (contract && (!flag_word(r, dtypes, &key->a_bf16) || !flag_word(r, dtypes, &key->b_bf16) || !form(r, key)))
        return false;
    for (int i = 0; i < n_extents[kind]; i++)
        if (!extent(r, i, key))
            return false;
    if (contract && (!flag_word(r, dtypes, &key->result_bf16) || !choose_word(r, finishes, &finish)))
        return false;
    key->finish = (TunedFinish)finish;
    if (!fixed_word(r, "->") || !(contract ? contract_choice(r, key, c) : attention_choice(r, key, c)))
        return false;
    return r->next == r->n || wrong(r, "the end of the line");
}

static struct TunedLine *line_of(Tuned *t, const TunedKey *key)
{
    for (int i = 0; i < t->line.n; i++)
        if (tuned_same(&t->line.at[i].key, key))
            return &t->line.at[i];
    return NULL;
}

static void split_words(Reader *r, char *line)
{
    char *save = NULL;
    r->n = r->next = 0;
    for (char *w = strtok_r(line, " \t\r", &save); w && r->n < (int)LEN(r->word); w = strtok_r(NULL, " \t\r", &save))
        r->word[r->n++] = w;
}

bool tuned_read(Tuned *t, const char *name, const char *text, Text *why)
{
    Reader r = {.arena = t->arena, .name = name, .why = why};
    Text above = {.arena = t->arena};
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, "\n");
        char *line = arena_strndup(t->arena, at, n), *hash = strchr(line, '#');
        const char *aside = hash && strspn(line, " \t\r") != (size_t)(hash - line) ? arena_strndup(t->arena, hash, strlen(hash)) : NULL;
        at += n + (at[n] == '\n');
        r.number++;
        if (hash && !aside) {
            text_printf(&above, "%s\n", line);
            continue;
        }
        if (hash)
            *hash = 0;
        split_words(&r, line);
        if (!r.n) {
            if (!t->line.n && above.n) {             /* the head ends at an empty line */
                t->head = arena_printf(t->arena, "%s%s\n", t->head ? t->head : "", text_data(&above));
                above = (Text){.arena = t->arena};
            }
            continue;
        }
        struct TunedLine l = {.above = text_data(&above), .aside = aside, .number = r.number};
        above = (Text){.arena = t->arena};
        if (!read_line(&r, &l.key, &l.choice))
            return false;
        const struct TunedLine *same = line_of(t, &l.key);
        if (same) {
            text_printf(why, "%s:%d: this kernel has a line already, line %d", name, r.number, same->number);
            return false;
        }
        PUSH(t->arena, t->line, l);
    }
    t->foot = text_data(&above);
    return true;
}

/* ---- finding */

static bool alike(const TunedKey *a, const TunedKey *b)
{
    bool same = !strcmp(a->arch, b->arch) && a->kind == b->kind && a->a_bf16 == b->a_bf16 && a->b_bf16 == b->b_bf16 &&
                a->result_bf16 == b->result_bf16 && !strcmp(a->form, b->form) && a->of_batch == b->of_batch;
    for (int i = 0; i < n_extents[a->kind] && same; i++)
        same = a->of_batch >> i & 1 || a->extent[i] == b->extent[i];
    return same;
}

/* The largest ratio of extents that grow with the batch, as a logarithm. */
static double distance(const TunedKey *a, const TunedKey *b)
{
    double most = 0;
    for (int i = 0; i < n_extents[a->kind]; i++)
        if (a->of_batch >> i & 1)
            most = fmax(most, fabs(log2((double)a->extent[i] / (double)b->extent[i])));
    return most;
}

bool tuned_same(const TunedKey *a, const TunedKey *b)
{
    return alike(a, b) && a->finish == b->finish && distance(a, b) == 0;
}

static const TunedChoice *nearest(const Tuned *t, const TunedKey *key, TunedFinish finish)
{
    const TunedChoice *best = NULL;
    double least = log2(TUNED_REACH) + 1e-9;
    for (int i = 0; i < t->line.n; i++) {
        const struct TunedLine *l = &t->line.at[i];
        if (l->key.finish != finish || !alike(&l->key, key))
            continue;
        double d = distance(&l->key, key);
        if (d < least || (d == least && !best)) {
            least = d;
            best = &l->choice;
        }
    }
    return best;
}

const TunedChoice *tuned_find(const Tuned *t, const TunedKey *key)
{
    const TunedChoice *c = NULL;
    for (; t && !c; t = t->next) {
        c = nearest(t, key, key->finish);
        if (!c && key->finish == FINISH_COLUMNS)
            c = nearest(t, key, FINISH_PLAIN);
    }
    return c;
}

/* ---- writing */

void tuned_put(Tuned *t, const TunedKey *key, const TunedChoice *c)
{
    struct TunedLine *l = line_of(t, key);
    if (l) {
        l->choice = *c;
        l->aside = NULL;
    } else {
        PUSH(t->arena, t->line, (struct TunedLine){.key = *key, .choice = *c});
    }
}

void tuned_print_key(const TunedKey *key, Text *out)
{
    text_printf(out, "%-6s %s", key->arch, kinds[key->kind]);
    if (key->kind == TUNED_CONTRACT)
        text_printf(out, " %-4s %-4s %s", dtypes[key->a_bf16], dtypes[key->b_bf16], key->form);
    for (int i = 0; i < n_extents[key->kind]; i++) {
        char word[32];
        snprintf(word, sizeof word, "%s%lld", key->of_batch >> i & 1 ? "~" : "", (long long)key->extent[i]);
        text_printf(out, key->kind == TUNED_CONTRACT && i < 3 ? " %7s" : " %s", word);
    }
    if (key->kind == TUNED_CONTRACT)
        text_printf(out, " %-4s %-7s", dtypes[key->result_bf16], finishes[key->finish]);
}

void tuned_print_choice(const TunedKey *key, const TunedChoice *c, Text *out)
{
    if (key->kind != TUNED_CONTRACT) {
        text_printf(out, "%d warps %d blocks%s", c->warps, c->blocks, c->wgmma ? " wgmma" : "");
        return;
    }
    text_printf(out, "%s %dx%d", c->t->name, c->t->tile_m, c->t->tile_n);
    if (c->splits)
        text_printf(out, " splits %d", c->splits);
    if (c->shares)
        text_printf(out, " shares %d", c->shares);
}

static int order(const void *pa, const void *pb)
{
    const TunedKey *a = &((const struct TunedLine *)pa)->key, *b = &((const struct TunedLine *)pb)->key;
    int words[] = {strcmp(a->arch, b->arch), (int)a->kind - (int)b->kind, b->a_bf16 - a->a_bf16, b->b_bf16 - a->b_bf16,
                   strcmp(a->form, b->form), b->result_bf16 - a->result_bf16, (int)a->finish - (int)b->finish};
    for (size_t i = 0; i < LEN(words); i++)
        if (words[i])
            return words[i];
    for (int i = 0; i < n_extents[a->kind]; i++)
        if (a->extent[i] != b->extent[i])
            return a->extent[i] < b->extent[i] ? -1 : 1;
    return a->of_batch < b->of_batch ? -1 : a->of_batch > b->of_batch;
}

void tuned_sort(Tuned *t)
{
    if (t->line.n)
        qsort(t->line.at, (size_t)t->line.n, sizeof *t->line.at, order);
}

static void print_line(const struct TunedLine *l, bool comments, Text *out)
{
    text_printf(out, "%s", comments && l->above ? l->above : "");
    tuned_print_key(&l->key, out);
    text_printf(out, " -> ");
    tuned_print_choice(&l->key, &l->choice, out);
    text_printf(out, "%s%s\n", comments && l->aside ? "   " : "", comments && l->aside ? l->aside : "");
}

void tuned_print_lines(const Tuned *t, Text *out)
{
    for (int i = 0; i < t->line.n; i++)
        print_line(&t->line.at[i], false, out);
}

void tuned_print(const Tuned *t, Text *out)
{
    text_printf(out, "%s", t->head ? t->head : "");
    for (int i = 0; i < t->line.n; i++)
        print_line(&t->line.at[i], true, out);
    text_printf(out, "%s", t->foot ? t->foot : "");
}
