/* signature.c -- which kernels are the same kernel.
 *
 * A kernel is written down as bytes in which tensors have numbers by first appearance, with their types and shapes
 * (strides are part of the code), and nothing else of the outside: no tensor numbers, labels or spans. Equal bytes:
 * equal code, called with `args`, the tensors in the order of those numbers. The signature is a hash of the bytes, and
 * two kernels with equal hashes but different bytes get different signatures.
 *
 * So that equal layers meet although their Comps were defined in another order, the members are sorted first: among
 * those that may come next, the one with the smallest hash of its own structure. A member that reads a tensor comes
 * before the one that writes over it, and the sum of a contraction's side comes last. */
#include "pass/fuse.h"
#include <string.h>

typedef struct Bytes {
    const uint8_t *at;
    size_t n;
} Bytes;

typedef struct {
    const Fused *f;
    const Graph *g;
    Arena *a;
    Text *out;
    int *number;                     /* by tensor: its number, or -1 */
    Ints order;                      /* tensors by number */
    HashMap seen;                    /* expressions of this member that are written already */
    Ints seen_id;
    const uint64_t *made_by;         /* while hashing a member: by tensor, the hash of the member that makes it, or 0 */
} Writer;

static void put(Writer *w, int64_t v)
{
    uint64_t z = (uint64_t)v << 1 ^ (uint64_t)(v >> 63);       /* zigzag, seven bits a byte: most values are small */
    for (; z >= 0x80; z >>= 7)
        text_char(w->out, (char)((z & 0x7f) | 0x80));
    text_char(w->out, (char)z);
}

static void put_tensor(Writer *w, int t)
{
    const Tensor *x = &w->g->tensor[t];
    bool first = w->made_by || w->number[t] < 0;
    if (w->made_by) {
        put(w, (int64_t)w->made_by[t]);
    } else {
        if (first) {
            w->number[t] = w->order.n;
            PUSH(w->a, w->order, t);
        }
        put(w, w->number[t]);
    }
    if (!first)
        return;
    put(w, x->dtype);
    put(w, x->rank);
    for (int d = 0; d < x->rank; d++)
        put(w, x->shape[d]);
}

static void put_expr(Writer *w, const Expr *e);

static void put_aff(Writer *w, const Affine *a)
{
    put(w, a->c);
    put(w, a->n);
    for (int i = 0; i < a->n; i++) {
        const Term *t = &a->term[i];
        put(w, t->kind);
        put(w, t->coef);
        if (t->kind == AT_AXIS) {
            put(w, t->axis);
        } else if (t->kind == AT_LOAD) {
            put_expr(w, t->load);
        } else {
            put(w, t->by);
            put_aff(w, t->arg);
        }
    }
}

static void put_expr(Writer *w, const Expr *e)
{
    int at = -1, i;
    if (e->kind == E_OP || e->kind == E_LOAD) {
        while (hash_next(&w->seen, hash2(3, e->id), &at, &i))
            if (w->seen_id.at[i] == (int)e->id) {
                put(w, -1 - i);
                return;
            }
        hash_put(w->a, &w->seen, hash2(3, e->id), w->seen_id.n);
        PUSH(w->a, w->seen_id, (int)e->id);
    }
    put(w, e->kind);
    switch (e->kind) {
    case E_CONST: {
        int64_t bits;
        memcpy(&bits, &e->c, sizeof bits);
        put(w, bits);
        break;
    }
    case E_EXTENT:
        put(w, e->ext);
        break;
    case E_INDEX:
        put_aff(w, e->aff);
        break;
    case E_LOAD:
        put_tensor(w, e->tensor);
        for (i = 0; i < e->n; i++)
            put_aff(w, e->idx[i]);
        break;
    case E_OP:
        put(w, e->op);
        for (i = 0; i < e->n; i++)
            put_expr(w, e->arg[i]);
        break;
    }
}

static void put_comp(Writer *w, const Comp *c)
{
    w->seen.n = w->seen_id.n = 0;
    for (int i = 0; i < w->seen.cap; i++)
        w->seen.value[i] = -1;
    put(w, c->n_axes);
    put(w, c->red);
    put(w, c->reducer);
    put_expr(w, c->body);
    for (int d = 0; d < w->g->tensor[c->out].rank; d++)
        put_aff(w, c->store[d]);
}

static uint64_t hash_bytes(const char *at, size_t n)
{
    uint64_t h = n, word = 0;
    for (size_t i = 0; i < n; i += 8) {
        word = 0;
        memcpy(&word, at + i, n - i < 8 ? n - i : 8);
        h = hash2(h, word);
    }
    return h;
}

/* ---- canonical order of members */

typedef struct Loads {
    const Expr **at;
    int n;
} Loads;

static bool reads(const Loads *l, int tensor)
{
    for (int i = 0; i < l->n; i++)
        if (l->at[i]->tensor == tensor)
            return true;
    return false;
}

/* made_by: zeros, and zeros again afterwards */
static void sort_members(const Fused *f, Kernel *k, uint64_t *made_by, Arena *a)
{
    int n = k->n_comp;
    if (n < 2)
        return;
    Text t = { .arena = a };
    uint64_t *hash = NEWN(a, uint64_t, n);
    Writer w = { .f = f, .g = f->graph, .a = a, .out = &t, .made_by = made_by };
    bool *before = NEWN(a, bool, (size_t)n * (size_t)n), *done = NEWN(a, bool, n);
    Comp *sorted = NEWN(a, Comp, n);
    Loads *load = NEWN(a, Loads, n);
    for (int i = 0; i < n; i++)
        load[i].at = comp_all_loads(&k->comp[i], a, &load[i].n);
    for (int i = 0; i < n; i++) {
        t.n = 0;
        put_comp(&w, &k->comp[i]);
        put_tensor(&w, k->comp[i].out);
        hash[i] = hash_bytes(text_data(&t), t.n);
        made_by[k->comp[i].out] = hash[i];
        for (int j = 0; j < n; j++) {
            int out = k->comp[j].out, over = f->storage[out];
            before[j * n + i] |= j < i && reads(&load[i], out);
            before[i * n + j] |= i != j && over != out && reads(&load[i], over) && !reads(&load[i], out);
            before[j * n + i] |= k->cls == K_CONTRACT && i > 0 && j != i && k->comp[i].reducer != RED_NONE;    /* a side's sum */
        }
    }
    for (int i = 0; i < n; i++)
        made_by[k->comp[i].out] = 0;
    for (int at = 0; at < n; at++) {
        int best = -1;
        for (int i = 0; i < n; i++) {
            bool ready = !done[i];
            for (int j = 0; j < n && ready; j++)
                ready = done[j] || !before[j * n + i];
            if (ready && (best < 0 || hash[i] < hash[best]))
                best = i;
        }
        if (best < 0)
            return;                                            /* cannot be: definition order is legal */
        done[best] = true;
        sorted[at] = k->comp[best];
    }
    memcpy(k->comp, sorted, (size_t)n * sizeof *sorted);
}

/* ---- the signature */

static bool has(const int *xs, int n, int x)
{
    for (int i = 0; i < n; i++)
        if (xs[i] == x)
            return true;
    return false;
}

static void write_kernel(Writer *w, Kernel *k);

/* Of many maps or totals: their form, written once, and what is their own. */
static void write_sets(Writer *w, const Sets *s)
{
    Fused *f = s->form;
    Writer form = { .f = f, .g = f->graph, .a = w->a, .out = w->out, .number = NEWN(w->a, int, f->graph->n_tensor) };
    for (int t = 0; t < f->graph->n_tensor; t++)
        form.number[t] = -1;
    put(w, -1 - s->n);
    write_kernel(&form, &f->kernel[0]);
    for (int i = 0; i < s->n; i++) {
        put(w, s->size[i]);
        put(w, s->at[i]);
    }
}

static void write_kernel(Writer *w, Kernel *k)
{
    if (k->sets) {
        write_sets(w, k->sets);
        return;
    }
    put(w, k->cls);
    put(w, k->n_dom);
    put(w, k->n_comp);
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *c = &k->comp[i];
        for (int a = 0; a < c->n_axes; a++)
            put(w, c->ext[a]);
        put_comp(w, c);
        put_tensor(w, c->out);
        put(w, has(k->writes, k->n_writes, c->out));
    }
    for (int i = 0; i < w->order.n; i++) {                     /* tensors that share a buffer */
        int s = w->f->storage[w->order.at[i]];
        put(w, s == w->order.at[i] ? -1 : w->number[s]);
    }
}

static void name_args(const Writer *w, Kernel *k, Arena *a)
{
    int *args = NEWN(a, int, w->order.n);
    k->n_args = 0;
    for (int i = 0; i < w->order.n; i++) {
        int t = w->order.at[i];
        if (has(k->reads, k->n_reads, t) || has(k->writes, k->n_writes, t))
            args[k->n_args++] = t;
    }
    k->args = args;
}

void fuse_signatures(Fused *f)
{
    Arena a = { 0 };
    const Graph *g = f->graph;
    HashMap seen = { 0 };
    Bytes *bytes = NEWN(&a, Bytes, f->n_kernel);
    int *number = NEWN(&a, int, g->n_tensor);
    uint64_t *made_by = NEWN(&a, uint64_t, g->n_tensor);
    for (int t = 0; t < g->n_tensor; t++)
        number[t] = -1;
    f->n_distinct = 0;
    for (int i = 0; i < f->n_kernel; i++) {
        Kernel *k = &f->kernel[i];
        Text t = { .arena = &a };
        Writer w = { .f = f, .g = g, .a = &a, .out = &t, .number = number };
        if (!k->sets)
            sort_members(f, k, made_by, &a);
        write_kernel(&w, k);
        if (!k->sets)                                          /* sets.c has said which argument is which */
            name_args(&w, k, g->arena);
        for (int j = 0; j < w.order.n; j++)
            number[w.order.at[j]] = -1;
        bytes[i] = (Bytes){ (const uint8_t *)text_data(&t), t.n };
        k->signature = hash_bytes(text_data(&t), t.n);
        for (bool settled = false, known = false; !settled; known = false) {
            int at = -1, j;
            settled = true;
            while (hash_next(&seen, k->signature, &at, &j)) {
                known = true;
                if (bytes[j].n != bytes[i].n || memcmp(bytes[j].at, bytes[i].at, bytes[i].n)) {
                    k->signature = hash2(k->signature, 1);     /* equal hashes of different kernels: take another */
                    settled = false;
                    break;
                }
            }
            if (settled && !known) {
                hash_put(&a, &seen, k->signature, i);
                f->n_distinct++;
            }
        }
    }
    arena_free(&a);
}
