/* expr.c -- scalar expressions: hash-consed nodes, substitution, loads.
 *
 * expr_intern is the only place where a node is born: it looks the candidate up by its fields (children are
 * already unique, so they compare as pointers) and copies it into the arena when it is new. Bodies share
 * sub-expressions freely, so every walk that could visit a node many times keeps a Memo. */
#include "ir/pool.h"
#include <math.h>
#include <string.h>

#define CLASS_EW false
#define CLASS_CMP true
const OpInfo op_info[N_OPS] = {
#define OP(id, name, n, cls, eval, vjp, doc) [OP_##id] = { name, n, CLASS_##cls, doc },
#include "ir/ops.def"
};

const char *const reducer_name[N_REDUCERS] = {
#define REDUCER(id, name, doc) [RED_##id] = name,
#include "ir/reducers.def"
};

double op_eval(Op op, double x, double y, double z)
{
    switch (op) {
#define OP(id, name, n, cls, eval, vjp, doc) \
    case OP_##id: \
        return eval;
#include "ir/ops.def"
    case N_OPS:
        break;
    }
    return NAN;
}

/* ---- memo: open addressing, at most half full */

void memo_init(Memo *m)
{
    memset(m, 0, sizeof *m);
    m->key = m->small_key;
    m->value = m->small_value;
    m->cap = MEMO_SMALL;
}

void memo_free(Memo *m)
{
    arena_free(&m->arena);
}

static int memo_at(const void *const *key, int cap, const void *wanted)
{
    int at = (int)(hash_mix(3, (uint64_t)(uintptr_t)wanted) & (uint64_t)(cap - 1));
    while (key[at] && key[at] != wanted)
        at = (at + 1) & (cap - 1);
    return at;
}

const void *memo_get(const Memo *m, const void *key)
{
    return m->value[memo_at(m->key, m->cap, key)];
}

void memo_put(Memo *m, const void *key, const void *value)
{
    if (2 * (m->n + 1) > m->cap) {
        int cap = 4 * m->cap;
        const void **keys = NEWN(&m->arena, const void *, cap), **values = NEWN(&m->arena, const void *, cap);
        for (int i = 0; i < m->cap; i++) {
            if (!m->key[i])
                continue;
            int at = memo_at(keys, cap, m->key[i]);
            keys[at] = m->key[i];
            values[at] = m->value[i];
        }
        m->key = keys;
        m->value = values;
        m->cap = cap;
    }
    int at = memo_at(m->key, m->cap, key);
    m->key[at] = key;
    m->value[at] = value;
    m->n++;
}

/* ---- interning */

static uint64_t bits_of(double c)
{
    uint64_t b;
    memcpy(&b, &c, sizeof b);
    return b;
}

static uint64_t expr_hash(const Expr *e)
{
    uint64_t h = hash_mix((uint64_t)e->kind + 1, (uint64_t)e->op);
    h = hash_mix(h, (uint64_t)e->tensor * 16 + (uint64_t)e->n);
    h = hash_mix(h, bits_of(e->c));
    h = hash_mix(h, (uint64_t)e->ext);
    h = hash_mix(h, e->aff ? e->aff->id + 1 : 0);
    for (int i = 0; i < e->n; i++)
        h = hash_mix(h, e->kind == E_OP ? e->arg[i]->id : e->idx[i]->id);
    return h;
}

static bool expr_same(const Expr *a, const Expr *b)
{
    if (a->kind != b->kind || a->op != b->op || a->tensor != b->tensor || a->n != b->n ||
        bits_of(a->c) != bits_of(b->c) || a->ext != b->ext || a->aff != b->aff)
        return false;
    for (int i = 0; i < a->n; i++)
        if (a->kind == E_OP ? a->arg[i] != b->arg[i] : a->idx[i] != b->idx[i])
            return false;
    return true;
}

static void expr_table_grow(Graph *g)
{
    Pool *p = g->pool;
    uint32_t cap = p->cap_expr ? 2 * p->cap_expr : 256;
    const Expr **table = NEWN(g->arena, const Expr *, cap);
    for (uint32_t i = 0; i < p->cap_expr; i++) {
        if (!p->expr[i])
            continue;
        uint32_t at = (uint32_t)expr_hash(p->expr[i]) & (cap - 1);
        while (table[at])
            at = (at + 1) & (cap - 1);
        table[at] = p->expr[i];
    }
    p->expr = table;
    p->cap_expr = cap;
}

enum { LARGEST_SIZE = 1 << 30 };

static void derive(Expr *e)                                    /* axes and size from the children */
{
    e->axes = e->aff ? aff_axes(e->aff) : 0;
    e->size = 1;
    for (int i = 0; i < e->n; i++) {
        e->axes |= e->kind == E_OP ? e->arg[i]->axes : aff_axes(e->idx[i]);
        if (e->kind == E_OP)
            e->size = e->size + e->arg[i]->size < LARGEST_SIZE ? e->size + e->arg[i]->size : LARGEST_SIZE;
    }
}

/* The one node equal to *e: an old one or a copy. Fills id, axes and size. Applies no rule. */
static const Expr *expr_intern(Graph *g, const Expr *e)
{
    Pool *p = g->pool;
    if (2 * p->n_expr >= p->cap_expr)
        expr_table_grow(g);
    uint32_t at = (uint32_t)expr_hash(e) & (p->cap_expr - 1);
    for (; p->expr[at]; at = (at + 1) & (p->cap_expr - 1))
        if (expr_same(p->expr[at], e))
            return p->expr[at];
    Expr *own = NEW(g->arena, Expr);
    *own = *e;
    own->id = p->n_expr++;
    derive(own);
    return p->expr[at] = own;
}

const Expr *expr_raw(Graph *g, Op op, const Expr *a, const Expr *b, const Expr *c)
{
    Expr e = { .kind = E_OP, .op = op, .n = op_info[op].arity, .arg = { a, b, c } };
    for (int i = e.n; i < 3; i++)
        e.arg[i] = NULL;
    return expr_intern(g, &e);
}

const Expr *expr_const(Graph *g, double c)
{
    return expr_intern(g, &(Expr){ .kind = E_CONST, .c = c });
}

const Expr *expr_extent(Graph *g, Ext e)
{
    return e == EXT_BATCH ? expr_intern(g, &(Expr){ .kind = E_EXTENT, .ext = e }) : expr_const(g, (double)e);
}

const Expr *expr_index(Graph *g, const Affine *a)
{
    return a->n ? expr_intern(g, &(Expr){ .kind = E_INDEX, .aff = a }) : expr_const(g, (double)a->c);
}

static const Expr *load_node(Graph *g, int tensor, int rank, const Affine *const *idx)
{
    Expr e = { .kind = E_LOAD, .tensor = tensor, .n = rank };
    for (int i = 0; i < rank; i++)
        e.idx[i] = idx[i];
    return expr_intern(g, &e);
}

const Expr *expr_load(Graph *g, int tensor, const Affine *const *idx)
{
    return load_node(g, tensor, g->tensor[tensor].rank, idx);
}

bool expr_is_const(const Expr *e, double *c)
{
    if (e->kind == E_CONST && c)
        *c = e->c;
    return e->kind == E_CONST;
}

bool expr_is_whole(const Expr *e, int64_t *n)
{
    bool whole = e->kind == E_CONST && e->c == floor(e->c) && fabs(e->c) <= 1e9;
    if (whole)
        *n = (int64_t)e->c;
    return whole;
}

int expr_size(const Expr *e)
{
    return e->size;
}

int expr_load_compare(const Expr *a, const Expr *b)
{
    if (a->tensor != b->tensor)
        return a->tensor < b->tensor ? -1 : 1;
    for (int i = 0; i < a->n; i++) {
        int d = aff_compare(a->idx[i], b->idx[i]);
        if (d)
            return d;
    }
    return 0;
}

/* ---- rebuilding */

typedef struct Rebuild {
    Graph *g;
    Memo done;
    const Affine *const *map;                                  /* substitution, or */
    int n;
    LoadFn f;                                                  /* a function on loads */
    void *ctx;
} Rebuild;

static const Affine *rebuild_aff(Rebuild *r, const Affine *a)
{
    return r->f ? aff_map_loads(r->g, a, r->f, r->ctx) : aff_subst(r->g, a, r->map, r->n);
}

static const Expr *rebuild(Rebuild *r, const Expr *e)
{
    if (e->kind == E_CONST || e->kind == E_EXTENT)
        return e;
    const Expr *new = memo_get(&r->done, e);
    if (new)
        return new;
    if (e->kind == E_INDEX) {
        new = expr_index(r->g, rebuild_aff(r, e->aff));
    } else if (e->kind == E_LOAD) {
        const Affine *idx[MAX_RANK];
        for (int i = 0; i < e->n; i++)
            idx[i] = rebuild_aff(r, e->idx[i]);
        new = load_node(r->g, e->tensor, e->n, idx);
        if (r->f)
            new = r->f(r->g, new, r->ctx);
    } else {
        const Expr *arg[3] = { NULL, NULL, NULL };
        bool same = true;
        for (int i = 0; i < e->n; i++) {
            arg[i] = rebuild(r, e->arg[i]);
            same &= arg[i] == e->arg[i];
        }
        new = same ? e : expr_op(r->g, e->op, arg[0], arg[1], arg[2]);
    }
    memo_put(&r->done, e, new);
    return new;
}

const Expr *expr_subst(Graph *g, const Expr *e, const Affine *const *map, int n)
{
    Rebuild r = { .g = g, .map = map, .n = n };
    memo_init(&r.done);
    const Expr *new = rebuild(&r, e);
    memo_free(&r.done);
    return new;
}

const Expr *expr_map_loads(Graph *g, const Expr *e, LoadFn f, void *ctx)
{
    Rebuild r = { .g = g, .f = f, .ctx = ctx };
    memo_init(&r.done);
    const Expr *new = rebuild(&r, e);
    memo_free(&r.done);
    return new;
}

/* ---- loads */

typedef struct Loads {
    Memo seen;
    const Expr **out;
    int n, cap;
} Loads;

static void collect(Loads *l, const Expr *e);

static void collect_aff(Loads *l, const Affine *a)
{
    for (int i = 0; i < a->n; i++) {
        if (a->term[i].kind == AT_LOAD)
            collect(l, a->term[i].load);
        else if (a->term[i].kind != AT_AXIS)
            collect_aff(l, a->term[i].arg);
    }
}

static void collect(Loads *l, const Expr *e)
{
    if (e->kind == E_CONST || e->kind == E_EXTENT || memo_get(&l->seen, e))
        return;
    memo_put(&l->seen, e, e);
    if (e->kind == E_INDEX)
        collect_aff(l, e->aff);
    if (e->kind == E_LOAD) {
        if (l->n < l->cap)
            l->out[l->n] = e;
        l->n++;
    }
    for (int i = 0; i < e->n; i++) {
        if (e->kind == E_LOAD)
            collect_aff(l, e->idx[i]);
        else
            collect(l, e->arg[i]);
    }
}

static int loads_of(const Expr *body, const Affine *const *store, const Expr **out, int cap)
{
    Loads l = { .out = out, .cap = cap };
    memo_init(&l.seen);
    collect(&l, body);
    for (int i = 0; i < MAX_RANK && store && store[i]; i++)
        collect_aff(&l, store[i]);
    memo_free(&l.seen);
    return l.n;
}

int expr_loads(const Expr *e, const Expr **out, int cap)
{
    return loads_of(e, NULL, out, cap);
}

int comp_loads(const Comp *c, const Expr **out, int cap)
{
    return loads_of(c->body, c->store, out, cap);
}

const Expr **comp_all_loads(const Comp *c, Arena *a, int *n)
{
    *n = comp_loads(c, NULL, 0);
    const Expr **load = NEWN(a, const Expr *, *n);
    comp_loads(c, load, *n);
    return load;
}

bool expr_has_load(const Expr *e)
{
    return expr_loads(e, NULL, 0) > 0;
}
