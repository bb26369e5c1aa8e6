/* sema_model.c -- the model block: two towers and a loss.
 *
 *     model clip {
 *         fn encode_image(pixels[n, ch: 3, y: 224, x: 224]) = ...        what the data must look like stands here
 *         fn encode_text(tokens[n, t: 77]) = ...
 *         param logit_scale = ln(1 / 0.07)
 *         fn loss(pixels, tokens) = ...
 *     }
 *
 * The loss is called once with the batch, and the two encoders with the same tensors: a call that was made before
 * gives the tensors it gave then, so the towers are in the graph once. Constants and parameters of the block are made
 * when something first asks for them. */
#include "front/sema.h"
#include <stdlib.h>
#include <string.h>

/* ---- what the block holds */

static void add_lazy(Sema *s, const Node *n, const char *name, NameKind kind, Span at)
{
    Name *made = scope_declare(s, s->scope, name, kind, value_error(), at);
    if (made)
        made->lazy = n;
}

static void collect(Sema *s, const Node *items)
{
    for (const Node *n = items; n; n = n->next) {
        switch (n->kind) {
        case AST_FN:
            declare_function(s, n, true);
            break;
        case AST_LET:
        case AST_CONST:
            add_lazy(s, define_value(s, NULL, n), n->text, n->kind == AST_CONST ? NAME_CONST : NAME_LET, n->word);
            break;
        case AST_PARAM:
            if (n->a->kind == AST_INDEX)
                add_lazy(s, n, n->a->a->text, NAME_PARAM, n->a->a->span);
            else
                add_lazy(s, n, n->a->text, NAME_PARAM, n->a->span);
            break;
        default:
            sema_error(s, n->span, "a model has functions, parameters and constants, and this is none");
            if (n->kind == AST_SET)
                sema_help(s, "a constant is introduced by `const`");
            break;
        }
    }
}

static Closure *required(Sema *s, const Node *block, const char *name, int n_formals, const char *example)
{
    Closure *c = fn_find(s, name);
    for (const Node *n = block->c; n && !c; n = n->next)
        if (n->kind == AST_FN && !strcmp(n->text, name))
            return NULL;                                       /* its signature has had its message */
    if (!c || !c->model) {
        sema_error(s, block->word, "the model has no function `%s`", name);
        sema_help(s, "write `fn %s = ...`", example);
        return NULL;
    }
    const Node *f = c->formals;
    while (f && !f->b)
        f = f->next;
    if (f) {
        sema_error(s, f->span, "argument `%s` of `%s` is a tensor, and this asks for a function", f->text, name);
        return NULL;
    }
    if (tree_count(c->formals) == n_formals)
        return c;
    sema_error(s, c->at, "`%s` of a model takes %d argument%s, and this takes %d", name, n_formals, n_formals == 1 ? "" : "s",
               tree_count(c->formals));
    sema_help(s, "write `fn %s = ...`", example);
    return NULL;
}

/* ---- inputs */

/* The extents that a tower's argument asks for; the first axis is the batch. */
static bool input_shape(Sema *s, const Closure *fn, const char *example, int rank, Ext *shape)
{
    const Node *formal = fn->formals;
    int k = 0;
    if (tree_count(formal->a) != rank) {
        int n = tree_count(formal->a);
        sema_error(s, formal->span, "the argument of `%s` has %d axes, and here %s %d", fn->name, rank, n == 1 ? "is" : "are", n);
        sema_help(s, "write `%s`", example);
        return false;
    }
    for (const Node *a = formal->a; a; a = a->next, k++) {
        if (k == 0 ? a->kind != AST_NAME : a->kind != AST_AXIS) {
            sema_error(s, a->span, k == 0 ? "the first axis is the batch and has no extent of its own"
                                          : "the extent of this axis is wanted: the data is made to fit it");
            sema_help(s, "write `%s`", example);
            return false;
        }
        shape[k] = EXT_BATCH;
        if (k == 0)
            continue;
        Value v = eval_plain(s, a->a, a->text);
        if (!value_extent(s, &v, a->text, a->a->span, &shape[k]))
            return false;
    }
    return true;
}

static Def *input(Sema *s, const Closure *fn, const char *name, int rank, const Ext *shape, DType dtype)
{
    Def *def = def_new(s, fn->formals->text, fn->formals->span, rank, shape);
    if (s->student)
        def->tensor = dtype == DT_I32 ? s->student->tokens : s->student->pixels;
    else
        def->tensor = graph_tensor(s->g, name, rank, shape, T_INPUT, dtype);
    def->integer = dtype == DT_I32;
    s->g->tensor[def->tensor].span = fn->formals->span;
    return def;
}

/* The side of the square that the author seems to mean: the largest extent that stands there, or 224. */
static int edge_of(const Closure *image)
{
    int edge = 0;
    for (const Node *a = image->formals->a; a; a = a->next)
        if (a->kind == AST_AXIS && a->a->kind == AST_NUM && atoi(a->a->text) > edge)
            edge = atoi(a->a->text);
    return edge > 3 ? edge : 224;
}

static bool inputs(Sema *s, const Closure *image, const Closure *text)
{
    Ext pixels[MAX_RANK], tokens[MAX_RANK];
    const char *image_form = arena_printf(s->arena, "encode_image(pixels[n, ch: 3, y: %d, x: %d])", edge_of(image), edge_of(image));
    static const char text_form[] = "encode_text(tokens[n, t: 77])";
    bool ok = input_shape(s, image, image_form, 4, pixels);
    ok &= input_shape(s, text, text_form, 2, tokens);
    if (!ok)
        return false;
    if (pixels[1] != 3 || pixels[2] != pixels[3]) {
        sema_error(s, image->formals->span, "images are square and have 3 channels, and this is %s",
                   shape_text(s, 4, pixels));
        sema_help(s, "write `%s`", image_form);
        return false;
    }
    if (tokens[1] < 3) {
        sema_error(s, text->formals->span, "a caption has at least 3 tokens, and this has %s", ext_text(s, tokens[1]));
        return false;
    }
    s->image = input(s, image, "pixels", 4, pixels, DT_F32);
    s->text_tokens = input(s, text, "tokens", 2, tokens, DT_I32);
    s->program->pixels = s->image->tensor;
    s->program->tokens = s->text_tokens->tensor;
    return true;
}

/* ---- outputs */

static Def *features(Sema *s, const Closure *fn, Def *in)
{
    Value arg = value_def(in, fn->formals->span), v = call_values(s, fn, &arg, (Span){ 0, 0 });
    if (v.kind == V_ERROR)
        return NULL;
    if (v.kind != V_TENSOR || v.def->rank != 2 || v.def->shape[0] != EXT_BATCH || v.def->shape[1] < 1) {
        sema_error(s, fn->at, "`%s` gives a vector for each of the batch, and this is %s", fn->name,
                   v.kind == V_TENSOR ? shape_text(s, v.def->rank, v.def->shape) : value_text(s, &v));
        return NULL;
    }
    return v.def;
}

static bool outputs(Sema *s, const Closure *loss, const Closure *image, const Closure *text)
{
    Value arg[2] = { value_def(s->image, s->image->at), value_def(s->text_tokens, s->text_tokens->at) };
    Value v = call_values(s, loss, arg, (Span){ 0, 0 });
    if (v.kind == V_ERROR)
        return false;
    if (v.kind != V_TENSOR || v.def->rank || s->g->tensor[v.def->tensor].kind != T_TEMP) {
        sema_error(s, loss->at, "the loss is one number made from the batch, and this is %s",
                   v.kind == V_TENSOR && v.def->rank ? shape_text(s, v.def->rank, v.def->shape) : value_text(s, &v));
        return false;
    }
    Def *u = features(s, image, s->image), *w = features(s, text, s->text_tokens);
    if (!u || !w)
        return false;
    if (u->shape[1] != w->shape[1]) {
        sema_error(s, text->at, "the towers end in vectors of %s and %s elements; they are compared, so both have as many",
                   ext_text(s, u->shape[1]), ext_text(s, w->shape[1]));
        sema_note(s, image->at, "the other tower");
        return false;
    }
    s->program->loss = v.def->tensor;
    if (s->student)
        return true;
    graph_output(s->g, "loss", v.def->tensor);
    graph_output(s->g, "image_features", u->tensor);
    graph_output(s->g, "text_features", w->tensor);
    return true;
}

/* The scale as it multiplies the logits, for the log. */
static void scale_output(Sema *s)
{
    for (int i = 0; i < s->param.n; i++) {
        const Def *def = s->param.at[i].def;
        if (def->rank || strcmp(s->g->tensor[def->tensor].name, "logit_scale"))
            continue;
        const Expr *e = sema_op(s, OP_EXP, expr_load(s->g, def->tensor, NULL), NULL, NULL);
        graph_output(s->g, "logit_scale", def_scalar(s, e, "logit_scale", def->at)->tensor);
    }
}

static int by_order(const void *a, const void *b)
{
    const Module *x = *(Module *const *)a, *y = *(Module *const *)b;
    return (x->order > y->order) - (x->order < y->order);
}

/* state_dict order, as PyTorch's: own parameters first, then the scopes inside. */
static void list_params(Sema *s, const Module *m)
{
    Program *p = s->program;
    for (int i = 0; i < m->own.n; i++)
        p->param[p->n_param++] = s->param.at[m->own.at[i]].def->tensor;
    if (m->sub.n)
        qsort(m->sub.at, (size_t)m->sub.n, sizeof *m->sub.at, by_order);
    for (int i = 0; i < m->sub.n; i++)
        list_params(s, m->sub.at[i]);
}

bool sema_model(Sema *s, const Node *block)
{
    Program *p = s->program;
    if (!block->a || block->a->kind != AST_NAME || block->b) {
        sema_error(s, block->word, "a model has a name and no arguments: `model clip { ... }`");
        return false;
    }
    p->model = block->a->text;
    int errors = s->diag->errors;
    Closure *self = closure_new(s, p->model, block, NULL, NULL, NULL, s->scope, block->a->span);
    self->model = true;
    Frame *f = s->model = frame_open(s, self, (Span){ 0, 0 }, s->root);
    collect(s, block->c);
    Closure *image = required(s, block, "encode_image", 1, "encode_image(pixels[n, ch: 3, y: 224, x: 224])");
    Closure *text = required(s, block, "encode_text", 1, "encode_text(tokens[n, t: 77])");
    Closure *loss = required(s, block, "loss", 2, "loss(pixels, tokens)");
    bool ok = s->diag->errors == errors && image && text && loss && inputs(s, image, text) &&
              outputs(s, loss, image, text);
    for (int i = 0; ok && i < f->scope->name.n; i++) {         /* what nothing has asked for */
        Name *name = f->scope->name.at[i];
        if (name->lazy)
            name_value(s, name, name->at);
    }
    frame_close(s, f);
    if (!ok || s->diag->errors != errors)
        return false;
    if (!s->student)
        scale_output(s);
    p->param = NEWN(s->arena, int, s->param.n + 1);
    list_params(s, s->root);
    return true;
}
