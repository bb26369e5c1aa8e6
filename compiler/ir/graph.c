/* graph.c -- the graph's arrays: adding tensors, Comps, outputs and updates; order, dead code, index. */
#include "ir/pool.h"
#include <math.h>
#include <string.h>

Graph *graph_new(Arena *a, Sources *s)
{
    Graph *g = NEW(a, Graph);
    g->arena = a;
    g->sources = s;
    g->pool = NEW(a, Pool);
    return g;
}

Graph *graph_clone(const Graph *g)
{
    Graph *c = NEW(g->arena, Graph);
    *c = *g;
    c->tensor = NEWN(g->arena, Tensor, g->n_tensor);
    memcpy(c->tensor, g->tensor, (size_t)g->n_tensor * sizeof *c->tensor);
    c->comp = NEWN(g->arena, Comp *, g->n_comp);
    for (int i = 0; i < g->n_comp; i++) {
        c->comp[i] = NEW(g->arena, Comp);
        *c->comp[i] = *g->comp[i];
    }
    c->output = NEWN(g->arena, Output, g->n_output);
    if (g->n_output)
        memcpy(c->output, g->output, (size_t)g->n_output * sizeof *c->output);
    c->update = NEWN(g->arena, Update, g->n_update);
    if (g->n_update)
        memcpy(c->update, g->update, (size_t)g->n_update * sizeof *c->update);
    c->cap_tensor = g->n_tensor;
    c->cap_comp = g->n_comp;
    c->cap_output = g->n_output;
    c->cap_update = g->n_update;
    return c;
}

static const char *own_string(Graph *g, const char *s)
{
    return s ? arena_strndup(g->arena, s, strlen(s)) : "";
}

int dtype_size(DType d)
{
    return d == DT_F64 ? 8 : d == DT_BF16 ? 2 : d == DT_U8 ? 1 : 4;
}

bool dtype_real(DType d)
{
    return d == DT_F32 || d == DT_BF16;
}

bool dtype_whole(DType d)
{
    return d == DT_I32 || d == DT_U8;
}

/* By way of f32, as the machine does it: the value is rounded there first. */
double round_bf16(double x)
{
    float f = (float)x;
    uint32_t bits;
    if (isnan(x))
        return x;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

int graph_tensor(Graph *g, const char *name, int rank, const Ext *shape, TensorKind kind, DType dtype)
{
    if (g->n_tensor == g->cap_tensor)
        g->tensor = arena_grow(g->arena, g->tensor, &g->cap_tensor, sizeof *g->tensor);
    Tensor *t = &g->tensor[g->n_tensor];
    *t = (Tensor){ .name = own_string(g, name), .rank = rank, .kind = kind, .dtype = dtype };
    for (int i = 0; i < rank; i++)
        t->shape[i] = shape[i];
    return g->n_tensor++;
}

Comp *graph_comp(Graph *g, int out, int n_axes, const Ext *ext, uint32_t red, Reducer r, const Expr *body,
                 const Affine *const *store, Span span, const char *tag)
{
    Comp *c = NEW(g->arena, Comp);
    *c = (Comp){ .out = out, .n_axes = n_axes, .red = red, .reducer = r, .body = body, .span = span };
    for (int i = 0; i < n_axes; i++)
        c->ext[i] = ext[i];
    for (int i = 0; i < g->tensor[out].rank; i++)
        c->store[i] = store[i];
    c->tag = own_string(g, tag);
    if (g->n_comp == g->cap_comp)
        g->comp = arena_grow(g->arena, g->comp, &g->cap_comp, sizeof *g->comp);
    return g->comp[g->n_comp++] = c;
}

void graph_output(Graph *g, const char *name, int tensor)
{
    if (g->n_output == g->cap_output)
        g->output = arena_grow(g->arena, g->output, &g->cap_output, sizeof *g->output);
    g->output[g->n_output++] = (Output){ own_string(g, name), tensor };
}

void graph_update(Graph *g, int target, int value)
{
    if (g->n_update == g->cap_update)
        g->update = arena_grow(g->arena, g->update, &g->cap_update, sizeof *g->update);
    g->update[g->n_update++] = (Update){ target, value };
}

bool graph_is_root(const Graph *g, int tensor)
{
    for (int i = 0; i < g->n_output; i++)
        if (g->output[i].tensor == tensor)
            return true;
    for (int i = 0; i < g->n_update; i++)
        if (g->update[i].value == tensor)
            return true;
    return false;
}

/* ---- index */

/* The tensors a Comp reads, each once, in order of first appearance. */
static int *tensors_read(const Comp *c, Arena *a, int *n)
{
    const Expr *few[64], **load = few;
    int loads = comp_loads(c, few, LEN(few));
    if (loads > (int)LEN(few)) {
        load = NEWN(a, const Expr *, loads);
        comp_loads(c, load, loads);
    }
    int *tensor = NEWN(a, int, loads);
    *n = 0;
    for (int i = 0; i < loads; i++) {
        int at = 0;
        while (at < *n && tensor[at] != load[i]->tensor)
            at++;
        if (at == *n)
            tensor[(*n)++] = load[i]->tensor;
    }
    return tensor;
}

static void list_room(CompList *list, int n_tensor, Arena *a)  /* n holds the count; becomes the fill */
{
    for (int t = 0; t < n_tensor; t++) {
        list[t].at = NEWN(a, Comp *, list[t].n);
        list[t].n = 0;
    }
}

GraphIndex graph_index(const Graph *g, Arena *a)
{
    GraphIndex ix = { NEWN(a, CompList, g->n_tensor), NEWN(a, CompList, g->n_tensor) };
    int **read = NEWN(a, int *, g->n_comp), *n_read = NEWN(a, int, g->n_comp);
    for (int i = 0; i < g->n_comp; i++) {
        read[i] = tensors_read(g->comp[i], a, &n_read[i]);
        ix.pieces[g->comp[i]->out].n++;
        for (int k = 0; k < n_read[i]; k++)
            ix.users[read[i][k]].n++;
    }
    list_room(ix.pieces, g->n_tensor, a);
    list_room(ix.users, g->n_tensor, a);
    for (int i = 0; i < g->n_comp; i++) {
        CompList *p = &ix.pieces[g->comp[i]->out];
        p->at[p->n++] = g->comp[i];
        for (int k = 0; k < n_read[i]; k++) {
            CompList *u = &ix.users[read[i][k]];
            u->at[u->n++] = g->comp[i];
        }
    }
    return ix;
}

/* ---- order */

typedef struct Visit { int tensor, piece, read; } Visit;       /* where the walk stands inside one tensor */

/* Depth first over tensors without recursion: a tensor's pieces are emitted when everything they read has been. A
 * cycle, which the verifier refuses, is broken at the tensor met first. */
void graph_toposort(Graph *g)
{
    Arena scratch = {0};
    GraphIndex ix = graph_index(g, &scratch);
    bool *seen = NEWN(&scratch, bool, g->n_tensor);
    Visit *stack = NEWN(&scratch, Visit, g->n_tensor);
    Comp **sorted = NEWN(&scratch, Comp *, g->n_comp);
    int **read = NEWN(&scratch, int *, g->n_tensor), *n_read = NEWN(&scratch, int, g->n_tensor);
    int n = 0;
    for (int first = 0; first < g->n_comp; first++) {
        int depth = 0;
        if (seen[g->comp[first]->out])
            continue;
        seen[g->comp[first]->out] = true;
        stack[depth++] = (Visit){ .tensor = g->comp[first]->out };
        while (depth) {
            Visit *v = &stack[depth - 1];
            CompList *pieces = &ix.pieces[v->tensor];
            if (v->piece == pieces->n) {
                for (int i = 0; i < pieces->n; i++)
                    sorted[n++] = pieces->at[i];
                depth--;
                continue;
            }
            if (!v->read)                                      /* what this piece reads */
                read[v->tensor] = tensors_read(pieces->at[v->piece], &scratch, &n_read[v->tensor]);
            if (v->read == n_read[v->tensor]) {
                v->piece++;
                v->read = 0;
                continue;
            }
            int t = read[v->tensor][v->read++];
            if (!seen[t]) {
                seen[t] = true;
                stack[depth++] = (Visit){ .tensor = t };
            }
        }
    }
    if (n)
        memcpy(g->comp, sorted, (size_t)n * sizeof *sorted);
    arena_free(&scratch);
}

int graph_dce(Graph *g)
{
    Arena scratch = {0};
    GraphIndex ix = graph_index(g, &scratch);
    bool *needed = NEWN(&scratch, bool, g->n_tensor);
    int *todo = NEWN(&scratch, int, g->n_tensor), n_todo = 0;
    for (int t = 0; t < g->n_tensor; t++) {
        needed[t] = graph_is_root(g, t);
        if (needed[t])
            todo[n_todo++] = t;
    }
    while (n_todo) {
        CompList *pieces = &ix.pieces[todo[--n_todo]];
        for (int i = 0; i < pieces->n; i++) {
            int n, *read = tensors_read(pieces->at[i], &scratch, &n);
            for (int k = 0; k < n; k++) {
                if (!needed[read[k]])
                    todo[n_todo++] = read[k];
                needed[read[k]] = true;
            }
        }
    }
    int kept = 0;
    for (int i = 0; i < g->n_comp; i++)
        if (needed[g->comp[i]->out])
            g->comp[kept++] = g->comp[i];
    int dropped = g->n_comp - kept;
    g->n_comp = kept;
    arena_free(&scratch);
    return dropped;
}
