/* sema.c -- a file and the modules it uses become a program.
 *
 * First everything at the top level is collected by name, whatever the order in the files; then the model is written
 * out as a graph, the blocks are checked against it, the optimiser is tried; at last functions that nobody called are
 * looked at with arguments of unknown size, and -D that named nothing is reported. A file without any block is a
 * library: only its functions and strategies are checked. */
#include "front/sema.h"
#include <string.h>

/* ---- -D name=value */

static bool define_load(Sema *s, const Define *define, int n)
{
    int errors = s->diag->errors;
    for (int i = 0; i < n; i++) {
        const char *text = arena_printf(s->arena, "%s=%s", define[i].name, define[i].value);
        int file = source_add(s->diag->sources, "-D", text, strlen(text));
        const Node *set = file < 0 ? NULL : parse_define(s->arena, s->diag, file);
        if (!set || set->kind != AST_SET)
            continue;
        for (int k = 0; k < s->define.n; k++) {
            if (!strcmp(s->define.at[k].name, set->a->text)) {
                sema_error(s, set->a->span, "`%s` is given twice", set->a->text);
                sema_note(s, s->define.at[k].at, "here first");
            }
        }
        PUSH(s->arena, s->define, (Override){ set->a->text, define[i].value, set->b, set->a->span, false });
    }
    return s->diag->errors == errors;
}

const Node *define_find(Sema *s, const char *block, const char *name)
{
    const char *full = block ? arena_printf(s->arena, "%s.%s", block, name) : name;
    for (int i = 0; i < s->define.n; i++) {
        Override *o = &s->define.at[i];
        if (!strcmp(o->name, full) || !strcmp(o->name, name)) {
            o->used = true;
            return o->node;
        }
    }
    return NULL;
}

/* A `let` or `const` with the value that the command line gives it, if any. */
const Node *define_value(Sema *s, const char *block, const Node *let)
{
    const Node *value = define_find(s, block, let->text);
    if (!value)
        return let;
    Node *copy = NEW(s->arena, Node);
    *copy = *let;
    copy->a = (Node *)value;
    return copy;
}

static void define_check(Sema *s)
{
    Words w = { { 0 } };
    static const char *const word[] = { "data", "train", "continual" };
    for (int k = 0; k < 3; k++) {
        for (const char *const *e = block_entries((enum BlockKind)(B_DATA + k)); *e; e++) {
            words_add(s, &w, arena_printf(s->arena, "%s.%s", word[k], *e));
            words_add(s, &w, *e);
        }
    }
    for (int i = 0; i < s->top->scope->name.n; i++)
        words_add(s, &w, s->top->scope->name.at[i]->name);
    const char *const *list = words_list(s, &w);
    for (int i = 0; i < s->define.n; i++) {
        if (s->define.at[i].used)
            continue;
        sema_error(s, s->define.at[i].at, "the program has no constant and no entry `%s`", s->define.at[i].name);
        sema_suggest(s, s->define.at[i].name, list);
    }
}

/* ---- the top level */

static void collect(Sema *s, const Node *items, const Node *use);

static void use_module(Sema *s, const Node *n)
{
    static const char *const library[] = { "nn", "clip", "optim", "continual", "init", NULL };
    const char *path = NULL;
    for (int i = 0; i < s->loaded.n; i++) {
        if (!strcmp(s->loaded.at[i], n->text))
            return;
    }
    int errors = s->diag->errors, file;
    const char *text = s->module ? s->module(s->module_ctx, n->text, &path) : NULL;
    if (!text && s->diag->errors > errors)
        return;                                                /* it is there and cannot be read */
    if (!text) {
        sema_error(s, n->word, "there is no module `%s`: neither `%s.tic` beside the file nor in the library", n->text, n->text);
        suggest_or_list(s, n->text, library, "modules of the library");
        return;
    }
    PUSH(s->arena, s->loaded, n->text);
    if ((file = source_add(s->diag->sources, path, text, strlen(text))) < 0) {
        sema_error(s, n->word, "module `%s` is too large", n->text);
        return;
    }
    const Node *tree = parse_file(s->arena, s->diag, file);
    if (s->diag->errors == errors)
        collect(s, tree->a, n);
}

void declare_function(Sema *s, const Node *n, bool of_model)
{
    const Closure *other = fn_find(s, n->text);
    if (other) {
        sema_error(s, n->word, "there is a function `%s` already", n->text);
        sema_note(s, other->at, "here");
        return;
    }
    for (const char *const *b = builtin_words; *b; b++) {
        if (!strcmp(*b, n->text)) {
            sema_error(s, n->word, "`%s` is a built-in function", n->text);
            return;
        }
    }
    if (!check_signature(s, n->a))
        return;
    Closure *c = closure_new(s, n->text, n, n->a, n->b, n->c, s->scope, n->word);
    c->model = of_model;
    fn_add(s, c);
}

static void add_optimizer(Sema *s, const Node *n)
{
    if (!n->a || n->a->kind != AST_NAME) {
        sema_error(s, n->span, "an optimizer has a name: `optimizer sgd(w[..], g[..], lr) { ... }`");
        return;
    }
    for (int i = 0; i < s->fn.n; i++) {
        if (s->fn.at[i]->optimizer && !strcmp(s->fn.at[i]->name, n->a->text)) {
            sema_error(s, n->a->span, "there is an optimizer `%s` already", n->a->text);
            sema_note(s, s->fn.at[i]->at, "here");
            return;
        }
    }
    if (!check_signature(s, n->b))
        return;
    Closure *c = closure_new(s, n->a->text, n, n->b, NULL, n->c, s->scope, n->a->span);
    c->optimizer = true;
    fn_add(s, c);
}

static void add_strategy(Sema *s, const Node *n)
{
    if (!n->a || n->a->kind != AST_NAME) {
        sema_error(s, n->span, "a strategy has a name: `strategy replay { ... }`");
        return;
    }
    for (int i = 0; i < s->strategy.n; i++) {
        if (!strcmp(s->strategy.at[i]->a->text, n->a->text)) {
            sema_error(s, n->a->span, "there is a strategy `%s` already", n->a->text);
            sema_note(s, s->strategy.at[i]->a->span, "here");
            return;
        }
    }
    if (check_signature(s, n->b))
        PUSH(s->arena, s->strategy, n);
}

static void add_block(Sema *s, const Node *n, const Node *use)
{
    static const char *const kinds[] = { "model", "data", "train", "continual", "eval" };
    if (!strcmp(n->text, "optimizer")) {
        add_optimizer(s, n);
        return;
    }
    if (!strcmp(n->text, "strategy")) {
        add_strategy(s, n);
        return;
    }
    for (int k = 0; k < N_BLOCKS; k++) {
        if (strcmp(n->text, kinds[k]))
            continue;
        if (use) {
            sema_error(s, n->word, "a module has no `%s` block; it belongs to the file that uses the module", n->text);
            sema_note(s, use->span, "used here");
        } else if (s->block[k]) {
            sema_error(s, n->word, "there are two `%s` blocks", n->text);
            sema_note(s, s->block[k]->word, "here first");
        } else {
            s->block[k] = n;
            check_header(s, n, k == B_MODEL || k == B_DATA);
        }
        return;
    }
    sema_error(s, n->word, "there is no block `%s`", n->text);
    suggest_or_list(s, n->text, block_words, "blocks");
}

static void add_let(Sema *s, const Node *n)
{
    NameKind kind = n->kind == AST_CONST ? NAME_CONST : NAME_LET;
    Name *made = scope_declare(s, s->scope, n->text, kind, value_error(), n->word);
    if (made)
        made->lazy = define_value(s, NULL, n);
}

/* `use`: the line that asked for this module; NULL for the file itself. */
static void collect(Sema *s, const Node *items, const Node *use)
{
    for (const Node *n = items; n; n = n->next) {
        switch (n->kind) {
        case AST_USE:
            use_module(s, n);
            break;
        case AST_FN:
            declare_function(s, n, false);
            break;
        case AST_LET:
        case AST_CONST:
            add_let(s, n);
            break;
        case AST_BLOCK:
            add_block(s, n, use);
            break;
        case AST_SET:
            sema_error(s, n->span, "this stands outside of every block and function");
            if (n->a->kind == AST_NAME)
                sema_help(s, "a constant is introduced by `const %s = ...`", n->a->text);
            else
                sema_help(s, "a file has `use`, `const`, `let`, `fn` and blocks");
            break;
        case AST_PARAM:
            sema_error(s, n->span, "a parameter stands in a function or in the model");
            break;
        default:
            sema_error(s, n->span, "this stands outside of every function");
            sema_help(s, "a file has `use`, `const`, `let`, `fn` and blocks");
            break;
        }
    }
}

/* ---- in order */

static bool blocks_present(Sema *s)
{
    static const char *const word[] = { "model", "data", "train" };
    static const char *const form[] = { "model NAME { fn encode_image(...) = ... }", "data NAME { shards = ... }",
                                        "train { batch = ... }" };
    const Node *first = NULL;
    bool ok = true;
    for (int k = 0; k < N_BLOCKS; k++) {
        if (s->block[k] && (!first || s->block[k]->span.lo < first->span.lo))
            first = s->block[k];
    }
    for (int k = 0; k < 3; k++) {
        if (s->block[k])
            continue;
        sema_error(s, first->word, "this program has no `%s` block", word[k]);
        sema_help(s, "write `%s`", form[k]);
        ok = false;
    }
    return ok;
}

static bool check_blocks(Sema *s)          /* true: the model is right */
{
    int errors = s->diag->errors;
    if (!blocks_present(s))
        return false;
    bool model = sema_model(s, s->block[B_MODEL]);
    if (s->student)                  /* all else was checked with the student */
        return model;
    sema_data(s, s->block[B_DATA]);
    sema_train(s, s->block[B_TRAIN]);
    if (s->block[B_CONTINUAL])
        sema_continual(s, s->block[B_CONTINUAL]);
    else
        s->program->continual = (ContinualBlock){ .strategy = "" };
    if (s->block[B_EVAL])
        sema_eval(s, s->block[B_EVAL]);
    if (model && s->diag->errors == errors)
        sema_optimizer(s);
    return model;
}

/* Constants and functions that nothing asked for; those of modules are their own file's business, and those of a wrong
 * model would say the same in other words. */
static void check_rest(Sema *s, const Source *main, bool model)
{
    for (int i = 0; i < s->top->scope->name.n; i++) {
        Name *name = s->top->scope->name.at[i];
        if (name->lazy)
            name_value(s, name, name->at);
    }
    for (int i = 0; i < s->fn.n && !s->stopped; i++) {
        Closure *c = s->fn.at[i];
        if (!c->called && (model || !c->model) && source_of(s->diag->sources, c->at.lo) == main)
            c->optimizer ? sema_unused_optimizer(s, c) : call_unused(s, c);
    }
    for (int i = 0; i < s->strategy.n; i++) {
        if (source_of(s->diag->sources, s->strategy.at[i]->span.lo) == main)
            sema_strategy(s, s->strategy.at[i]);
    }
}

/* The common part: `s` has its arena, messages, modules and graph. */
bool sema_analyse(Sema *s, Program *p, int file, const Define *define, int n_define)
{
    Arena *a = s->arena;
    Diag *d = s->diag;
    s->program = p;
    *p = (Program){ .arena = a, .sources = d->sources, .sema = s, .model = "", .pixels = -1, .tokens = -1, .loss = -1 };
    s->root = NEW(a, Module);
    *s->root = (Module){ .name = "", .path = "" };
    s->top = NEW(a, Frame);
    *s->top = (Frame){ .module = s->root, .tag = s->student ? "teacher" : "" };
    s->frame = s->top;
    s->scope = s->top->scope = NEW(a, Scope);
    *s->scope = (Scope){ .frame = s->top };
    int errors = d->errors;
    const Node *tree = parse_file(a, d, file);
    int start = d->sources->file.at[file].start;
    if (d->errors != errors || !define_load(s, define, n_define))
        return false;
    collect(s, tree->a, NULL);
    bool library = true, model = true;
    for (int k = 0; k < N_BLOCKS; k++)
        library &= !s->block[k];
    if (d->errors == errors) {
        if (!library)
            model = check_blocks(s);
        if (!s->stopped && !s->student)
            check_rest(s, source_of(d->sources, start), model);
        if (d->errors == errors && !s->student)
            define_check(s);
    }
    sema_calls(s);
    p->graph = library ? NULL : s->g;
    return d->errors == errors;
}

bool sema_program(Program *p, Arena *a, Diag *d, int file, const Define *define, int n_define, ModuleFn module, void *ctx)
{
    Sema *s = NEW(a, Sema);
    *s = (Sema){ .arena = a, .diag = d, .module = module, .module_ctx = ctx };
    s->g = graph_new(a, d->sources);
    return sema_analyse(s, p, file, define, n_define);
}
