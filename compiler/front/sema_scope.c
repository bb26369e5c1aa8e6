/* sema_scope.c -- names in sight, and messages that say by which calls one got there.
 *
 * Two kinds of border matter. A Scope ends where its braces do; a Frame ends where its function does: beyond it only
 * the names of the model and of the file are in sight, never the caller's. Index names share the namespace of the
 * function's other names, so `d` means one thing in one function. */
#include "front/sema.h"
#include <string.h>

/* ---- messages */

/* `in layer_norm, called here`, innermost first. The middle of a long chain is left out. */
void sema_calls(Sema *s)
{
    const Frame *f = s->owed;
    s->owed = NULL;
    int n = 0, k = 0;
    for (const Frame *c = f; c && c->call.lo; c = c->up)
        n++;
    for (; f && f->call.lo; f = f->up, k++) {
        if (n <= 4 || k < 2 || k >= n - 2)
            diag_note(s->diag, f->call, "in `%s`, called here", f->name);
    }
}

void sema_error(Sema *s, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    sema_calls(s);
    diag_verror(s->diag, at, fmt, args);
    va_end(args);
    if (s->diag->open)
        s->owed = s->frame;
}

static const char *format(Sema *s, const char *fmt, va_list args) __attribute__((format(printf, 2, 0)));
static const char *format(Sema *s, const char *fmt, va_list args)
{
    Text t = { .arena = s->arena };
    text_vprintf(&t, fmt, args);
    return text_data(&t);
}

void sema_note(Sema *s, Span at, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    diag_note(s->diag, at, "%s", format(s, fmt, args));
    va_end(args);
}

void sema_help(Sema *s, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    sema_calls(s);                  /* a help is the last word */
    diag_help(s->diag, "%s", format(s, fmt, args));
    va_end(args);
}

void sema_suggest(Sema *s, const char *word, const char *const *list)
{
    const char *near = diag_closest(word, list);
    if (near)
        sema_help(s, "did you mean `%s`?", near);
}

void suggest_or_list(Sema *s, const char *word, const char *const *list, const char *what)
{
    const char *near = diag_closest(word, list);
    if (near) {
        sema_help(s, "did you mean `%s`?", near);
    } else if (*list) {
        Text t = { .arena = s->arena };
        for (int i = 0; list[i]; i++)
            text_printf(&t, "%s%s", i ? ", " : "", list[i]);
        sema_help(s, "%s: %s", what, text_data(&t));
    }
}

const char *sema_text(Sema *s, const Node *n)
{
    enum { LONG = 50 };
    const char *text = source_text(s->diag->sources, n->span);
    size_t length = strlen(text);
    if (length <= LONG)
        return text;
    size_t cut = LONG - 4;
    while (cut && ((unsigned char)text[cut] & 0xc0) == 0x80)   /* not inside a character */
        cut--;
    return arena_printf(s->arena, "%.*s ...", (int)cut, text);
}

void words_add(Sema *s, Words *w, const char *word)
{
    PUSH(s->arena, w->list, word);
}

const char *const *words_list(Sema *s, Words *w)
{
    PUSH(s->arena, w->list, NULL);
    return w->list.at;
}

/* ---- tables */

static unsigned hash_of(const char *name)
{
    unsigned h = 2166136261u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 16777619u;
    return h;
}

static struct TableSlot *slot_of(const Table *t, const char *name)
{
    unsigned mask = (unsigned)t->cap - 1, i = hash_of(name) & mask;
    while (t->slot[i].name && strcmp(t->slot[i].name, name))
        i = (i + 1) & mask;
    return &t->slot[i];
}

void *table_get(const Table *t, const char *name)
{
    return t->n ? slot_of(t, name)->value : NULL;
}

void table_set(Sema *s, Table *t, const char *name, void *value)
{
    if (2 * t->n >= t->cap) {
        Table old = *t;
        t->cap = old.cap ? 2 * old.cap : 8;
        t->slot = NEWN(s->arena, struct TableSlot, t->cap);
        memset(t->slot, 0, sizeof *t->slot * (size_t)t->cap);
        for (int i = 0; i < old.cap; i++) {
            if (old.slot[i].name)
                *slot_of(t, old.slot[i].name) = old.slot[i];
        }
    }
    struct TableSlot *slot = slot_of(t, name);
    t->n += !slot->name;
    *slot = (struct TableSlot){ name, value };
}

bool sema_step(Sema *s, Span at)
{
    if (s->stopped || ++s->statements <= MOST_STATEMENTS)
        return !s->stopped;
    s->stopped = true;
    sema_error(s, at, "the program is too large: more than %d statements and calls when loops and functions are written out",
               MOST_STATEMENTS);
    return false;
}

/* ---- scopes */

Scope *scope_push(Sema *s)
{
    Scope *scope = NEW(s->arena, Scope);
    scope->up = s->scope;
    scope->frame = s->frame;
    return s->scope = scope;
}

void scope_pop(Sema *s)
{
    for (int i = 0; i < s->scope->name.n; i++) {
        Value *v = &s->scope->name.at[i]->value;
        if (v->kind == V_TENSOR && v->def->open)
            def_close(s, v->def);
    }
    s->scope = s->scope->up;
}

static Name *find_here(const Scope *scope, const char *name)
{
    return table_get(&scope->table, name);
}

Name *scope_add(Sema *s, Scope *scope, const char *name, NameKind kind, Value v, Span at)
{
    Name *n = NEW(s->arena, Name);
    *n = (Name){ .name = name, .kind = kind, .value = v, .at = at, .scope = scope };
    PUSH(s->arena, scope->name, n);
    table_set(s, &scope->table, name, n);
    return n;
}

void scope_drop(Sema *s, Scope *scope, int n)
{
    scope->name.n -= n;
    scope->table = (Table){ 0 };
    for (int i = 0; i < scope->name.n; i++)
        table_set(s, &scope->table, scope->name.at[i]->name, scope->name.at[i]);
}

Name *scope_local(Sema *s, const char *name)
{
    for (const Scope *scope = s->scope; scope && scope->frame == s->frame; scope = scope->up) {
        Name *found = find_here(scope, name);
        if (found)
            return found;
    }
    return NULL;
}

Name *scope_outer(Sema *s, const char *name)
{
    for (const Scope *scope = s->scope; scope; scope = scope->up) {
        Name *found = scope->frame != s->frame ? find_here(scope, name) : NULL;
        if (found)
            return found;
    }
    return NULL;
}

Index *frame_index(Frame *f, const char *name)
{
    for (int i = f->index.n - 1; i >= 0; i--) {
        if (!strcmp(f->index.at[i].name, name))
            return &f->index.at[i];
    }
    return NULL;
}

bool name_is_free(Sema *s, const char *name, Span at)
{
    const Name *other = scope_local(s, name);
    const Index *index = frame_index(s->frame, name);
    if (other) {
        sema_error(s, at, "`%s` is defined already", name);
        sema_note(s, other->at, "here");
        return false;
    }
    if (index) {
        sema_error(s, at, "`%s` is an index in this function already", name);
        sema_note(s, index->at, "here");
        sema_help(s, "index names and other names of a function share one namespace");
        return false;
    }
    return true;
}

Name *scope_declare(Sema *s, Scope *scope, const char *name, NameKind kind, Value v, Span at)
{
    return name_is_free(s, name, at) ? scope_add(s, scope, name, kind, v, at) : NULL;
}

/* ---- functions */

Closure *fn_find(Sema *s, const char *name)
{
    return table_get(&s->fn_table, name);
}

void fn_add(Sema *s, Closure *c)
{
    PUSH(s->arena, s->fn, c);
    if (!c->optimizer)
        table_set(s, &s->fn_table, c->name, c);
}

void fn_words(Sema *s, Words *w)
{
    for (int i = 0; i < s->fn.n; i++) {
        if (!s->fn.at[i]->optimizer)
            words_add(s, w, s->fn.at[i]->name);
    }
    for (const char *const *b = builtin_words; *b; b++)
        words_add(s, w, *b);
}

void scope_words(Sema *s, const Eq *q, Words *w)
{
    for (const Scope *scope = s->scope; scope; scope = scope->up) {
        for (int i = 0; i < scope->name.n; i++)
            words_add(s, w, scope->name.at[i]->name);
    }
    for (int i = q ? q->n - 1 : -1; i >= (q ? q->base : 0); i--)
        words_add(s, w, q->axis[i]->name);
    for (const char *const *c = (const char *const[]){ "true", "false", "pi", "inf", NULL }; *c; c++)
        words_add(s, w, *c);
}
