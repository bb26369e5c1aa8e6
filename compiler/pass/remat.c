/* remat.c -- what a step computes twice so that it needs less memory.
 *
 * The plan's peak cuts the schedule in two: what is made before it and read after it must be kept across it, unless what
 * reads it later gets a copy that is computed again, right before it is needed. A copy reads what is there at that time:
 * inputs, parameters, whatever is kept in any case, and other copies. So a tensor's price is the FLOPs of all that has to
 * be computed for it:
 *
 *     y = gelu(x)        x is kept: a few FLOPs an element
 *     s = q.k    p = exp(s - l)      q, k, l are kept and s is not: s and p, 2 * width FLOPs an element
 *
 * Tensors that the same kernel makes in different layers are one choice, and the cheapest choice by FLOPs a byte goes first.
 * What does not lower the peak is dropped; of the choice that makes it fit no more layers are taken than it needs.
 *
 * Every trial is the whole way, from the graph with its copies through fuse() and schedule() to the places of all buffers, so
 * the number that is compared with the goal is the number that the program will allocate. Copies compute what the originals
 * did from the same values. */
#include "pass/plan.h"
#include "pass/fuse.h"
#include "device/arena.h"
#include <stdlib.h>
#include <string.h>

/* Tensors that one kernel makes, in as many layers as have it. */
typedef struct Choice {
    uint64_t key;
    Ints tensor;                                               /* in order of the kernels that make them */
    double bytes, flops;                                       /* of all of them; FLOPs when nothing else is computed again */
} Choice;

typedef struct Trial {
    Graph *g;
    Fused f;
    int64_t bytes;                                             /* of the whole step */
    int at;                                                    /* the kernel of the peak */
} Trial;

typedef struct Remat {
    Graph *g;
    const FuseOptions *o;
    const MemoryGoal *goal;
    int64_t batch;                                             /* the goal's */
    Arena *a;
    Text *why;
    GraphIndex index;
    bool *late, *kept, *able;                                  /* by tensor: made after the peak; read there; can be made again */
    bool *score;                                               /* by tensor: a score, which is in no memory */
    double *bytes;                                             /* by tensor */
    ARRAY(Choice) choice;
} Remat;

/* ---- a trial */

/* What the program of this schedule will need at the goal's batch: what is beside the arena, and that as runtime/device/arena.c lays
 * it out; INT64_MAX: beyond 64 bits. False and a sentence when goal->workspace says so. */
static bool step_bytes(Fused *f, const MemoryGoal *goal, int64_t *bytes, Text *why)
{
    const Graph *g = f->graph;
    Arena a = { 0 };
    Liveness l = plan_liveness(f, &a);
    TicBlock *block = NEWN(&a, TicBlock, g->n_tensor + f->n_kernel + 1);
    int64_t batch = goal->batch, fixed = goal->beside, sum;
    if (!fixed)
        fixed = plan_kind_bytes(f, T_PARAM, batch) + plan_kind_bytes(f, T_STATE, batch);
    int n = 0;
    for (int t = 0; t < g->n_tensor; t++) {
        bool input = g->tensor[t].kind == T_INPUT && l.first[t] >= 0;
        if (l.counted[t] || input)
            block[n++] = (TicBlock){ .bytes = poly_at(tensor_bytes(g, t), batch), .first = input ? 0 : l.first[t],
                                     .last = input ? f->n_kernel : l.last[t] };
    }
    bool said = true;
    for (int k = 0; k < f->n_kernel && goal->workspace && said; k++) {
        Poly elements = { 0 };
        said = f->kernel[k].cls == K_HOST || goal->workspace(goal->of, f, &f->kernel[k], &elements, why);
        if (poly_at(elements, batch))
            block[n++] = (TicBlock){ .bytes = 4 * poly_at(elements, batch), .first = k, .last = k };
    }
    int64_t arena = said ? tic_arena_plan(block, n) : -1;
    arena_free(&a);
    *bytes = arena >= 0 && checked_add(arena, fixed, &sum) ? sum : INT64_MAX;
    return said;
}

typedef struct { int *to; int n; } Copies;                     /* by tensor of the original graph */

static const Expr *redirect(Graph *g, const Expr *load, void *ctx)
{
    const Copies *c = ctx;
    return load->tensor < c->n && c->to[load->tensor] >= 0 ? expr_load(g, c->to[load->tensor], load->idx) : load;
}

/* Scores are computed again in any case, by the kernel that needs them later: from the copies, where there are some. */
static bool *with_scores(const Remat *r, const Graph *g, const bool *set)
{
    bool *all = NEWN(r->a, bool, r->g->n_tensor);
    memcpy(all, set, (size_t)r->g->n_tensor);
    for (int i = 0; i < g->n_comp; i++) {                      /* in topological order */
        const Comp *k = g->comp[i];
        int n = 0;
        const Expr **load = r->score[k->out] ? comp_all_loads(k, r->a, &n) : NULL;
        for (int j = 0; j < n; j++)
            all[k->out] |= all[load[j]->tensor];
    }
    return all;
}

/* Copies of the tensors of `chosen`, which each other and what is made after the peak read instead. */
static void copy_tensors(const Remat *r, Graph *g, const bool *chosen)
{
    const bool *set = with_scores(r, g, chosen);
    Copies c = { NEWN(r->a, int, r->g->n_tensor), r->g->n_tensor };
    int n_comp = g->n_comp;
    for (int t = 0; t < c.n; t++) {
        c.to[t] = -1;
        if (!set[t])
            continue;
        const Tensor x = g->tensor[t];
        c.to[t] = graph_tensor(g, arena_printf(g->arena, "%s.again", x.name), x.rank, x.shape, T_TEMP, x.dtype);
        g->tensor[c.to[t]].span = x.span;
        g->tensor[c.to[t]].again = true;
    }
    for (int i = 0; i < n_comp; i++) {
        Comp *k = g->comp[i];
        bool again = k->out < c.n && set[k->out];
        if (again)
            k = graph_comp(g, c.to[k->out], k->n_axes, k->ext, k->red, k->reducer, k->body, k->store, k->span, k->tag);
        else if (!r->late[k->out])
            continue;
        k->body = expr_map_loads(g, k->body, redirect, &c);
        for (int d = 0; d < g->tensor[k->out].rank; d++)
            k->store[d] = aff_map_loads(g, k->store[d], redirect, &c);
    }
    graph_toposort(g);
}

static bool try_set(Remat *r, const bool *set, Trial *t)
{
    *t = (Trial){ .g = graph_clone(r->g) };
    if (set)
        copy_tensors(r, t->g, set);
    if (!graph_verify(t->g, "remat", r->why) || !fuse_lean(t->g, r->o, r->a, &t->f, r->why))
        return false;
    schedule(&t->f);
    Arena a = { 0 };
    Liveness l = plan_liveness(&t->f, &a);
    plan_peak(&t->f, &l, r->batch, &t->at);
    arena_free(&a);
    return step_bytes(&t->f, r->goal, &t->bytes, r->why);
}

/* ---- what there is to choose */

static double flops_of(const Remat *r, int t)
{
    double sum = 0;
    for (int i = 0; i < r->index.pieces[t].n; i++) {
        const Comp *c = r->index.pieces[t].at[i];
        Sides s;
        sum += (double)poly_at(comp_flops(c, comp_sides(r->g, c, &s)), r->batch);
    }
    return sum;
}

/* Adds t and what it needs to the set; false when something it needs can neither be kept nor computed again. Small things,
 * as the statistics of rows, are rather kept. */
static bool add(const Remat *r, bool *set, int t, double *flops)
{
    enum { SMALL = 16 };
    if (set[t])
        return true;
    if (!r->able[t])
        return false;
    set[t] = true;
    *flops += flops_of(r, t);
    for (int i = 0; i < r->index.pieces[t].n; i++) {
        const Comp *c = r->index.pieces[t].at[i];
        int n;
        const Expr **load = comp_all_loads(c, r->a, &n);
        for (int j = 0; j < n; j++) {
            int x = load[j]->tensor;
            bool there = r->g->tensor[x].kind != T_TEMP || (r->kept[x] && !set[x]) || r->bytes[x] * SMALL <= r->bytes[t];
            if (!there && !add(r, set, x, flops))
                return false;
        }
    }
    return true;
}

/* Adds the first `most` tensors of a choice with what they need. */
static double add_choice(const Remat *r, const Choice *c, int most, bool *set)
{
    double flops = 0;
    for (int i = 0; i < c->tensor.n && i < most; i++) {
        bool *with = NEWN(r->a, bool, r->g->n_tensor);
        double more = 0;
        memcpy(with, set, (size_t)r->g->n_tensor);
        if (add(r, with, c->tensor.at[i], &more)) {
            memcpy(set, with, (size_t)r->g->n_tensor);
            flops += more;
        }
    }
    return flops;
}

static int cheapest_first(const void *a, const void *b)
{
    const Choice *x = a, *y = b;
    double p = x->flops * y->bytes, q = y->flops * x->bytes;
    return p < q ? -1 : p > q ? 1 : x->tensor.at[0] - y->tensor.at[0];
}

static void find_choices(Remat *r, const Trial *base)
{
    enum { WORTH = 1000 };                                     /* a choice frees that share of the whole, or is none */
    const Fused *f = &base->f;
    int n = r->g->n_tensor;
    int *made = NEWN(r->a, int, f->graph->n_tensor), *first_made = NEWN(r->a, int, f->graph->n_tensor);
    int *last_read = NEWN(r->a, int, f->graph->n_tensor);
    bool *root = roots_of(r->g, r->a);
    for (int t = 0; t < f->graph->n_tensor; t++)
        made[t] = last_read[t] = -1;
    for (int i = 0; i < f->n_kernel; i++) {
        const Kernel *k = &f->kernel[i];
        for (int j = 0; j < k->n_comp; j++) {
            int t = k->comp[j].out;
            first_made[t] = made[t] < 0 ? i : first_made[t];
            made[t] = i;
            if (t < n)
                r->able[t] = r->g->tensor[t].kind == T_TEMP && k->cls != K_SCORE && k->cls != K_SCATTER && k->cls != K_HOST;
            if (t < n)
                r->score[t] = k->cls == K_SCORE;
        }
        for (int j = 0; j < k->n_writes; j++)
            if (k->writes[j] < n)
                r->score[k->writes[j]] = false;
        for (int j = 0; j < k->n_reads; j++)
            last_read[k->reads[j]] = i;
    }
    for (int t = 0; t < n; t++) {
        r->bytes[t] = (double)poly_at(tensor_bytes(r->g, t), r->batch);
        r->late[t] = made[t] >= 0 && first_made[t] >= base->at;
        r->kept[t] = made[t] >= 0 && !r->late[t] && last_read[t] >= base->at;
        r->able[t] &= !r->late[t] && !root[t] && f->storage[t] == t;
    }
    for (int i = 0; i < base->at; i++) {
        const Kernel *k = &f->kernel[i];
        for (int j = 0; j < k->n_writes; j++) {
            int t = k->writes[j], place = 0, at = 0;
            if (t >= n || made[t] != i || !r->able[t] || !r->kept[t])
                continue;
            while (place < k->n_args && k->args[place] != t)
                place++;
            uint64_t key = hash2(k->signature, (uint64_t)place);
            while (at < r->choice.n && r->choice.at[at].key != key)
                at++;
            if (at == r->choice.n)
                PUSH(r->a, r->choice, (Choice){ .key = key });
            PUSH(r->a, r->choice.at[at].tensor, t);
        }
    }
    int left = 0;
    for (int i = 0; i < r->choice.n; i++) {
        Choice *c = &r->choice.at[i];
        bool *set = NEWN(r->a, bool, n);
        for (int j = 0; j < c->tensor.n; j++)
            c->bytes += r->bytes[c->tensor.at[j]];
        c->flops = add_choice(r, c, c->tensor.n, set);
        if (set[c->tensor.at[0]] && c->bytes * WORTH >= (double)base->bytes)
            r->choice.at[left++] = *c;
    }
    r->choice.n = left;
    if (left)
        qsort(r->choice.at, (size_t)left, sizeof *r->choice.at, cheapest_first);
}

/* ---- choosing */

static void print_head(const Remat *r, const Trial *base, int64_t goal, Text *out)
{
    text_printf(out, "memory: %.3f GB at batch %lld as it comes, %.3f GB wanted; computed again:\n", (double)base->bytes * 1e-9, (long long)r->batch,
                (double)goal * 1e-9);
    text_printf(out, "%6s %10s %12s %8s %12s  %-18s %s\n", "", "frees", "extra GFLOP", "FLOP/B", "then GB", "source", "first of them");
}

/* c: of what is computed again, in graph g. */
static void print_row(const Remat *r, const Comp *c, const Graph *g, int count, double bytes, double flops, int64_t then, Text *out)
{
    const char *source = "";
    if (g->sources && c->span.hi) {
        Place p = source_place(g->sources, c->span.lo);
        if (p.source)
            source = arena_printf(r->a, "%s:%d", p.source->path, p.line);
    }
    text_printf(out, "%5dx %7.1f MB %12.3f %8.1f %12.3f  %-18s %s %s\n", count, bytes * 1e-6, flops * 1e-9, flops / bytes,
                (double)then * 1e-9, source, c->tag ? c->tag : "", g->tensor[c->out].name);
}

static void print_choice(const Remat *r, const Choice *c, int count, double flops, int64_t then, Text *out)
{
    double bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += r->bytes[c->tensor.at[i]];
    print_row(r, r->index.pieces[c->tensor.at[0]].at[0], r->g, count, bytes, flops, then, out);
}

/* The least number of tensors of choice c, after `set`, that fits; *t holds the trial of all of them and then that one. */
static int fewest(Remat *r, const Choice *c, const bool *set, int64_t goal, Trial *t)
{
    int low = 1, high = c->tensor.n;
    while (low < high) {
        int half = (low + high) / 2;
        bool *with = NEWN(r->a, bool, r->g->n_tensor);
        Trial some;
        memcpy(with, set, (size_t)r->g->n_tensor);
        add_choice(r, c, half, with);
        if (!try_set(r, with, &some))
            return -1;
        if (some.bytes <= goal) {
            high = half;
            *t = some;
        } else {
            low = half + 1;
        }
    }
    return high;
}

static bool choose(Remat *r, const MemoryGoal *goal, Trial *best, Text *table)
{
    bool *set = NEWN(r->a, bool, r->g->n_tensor);
    find_choices(r, best);
    for (int i = 0; i < r->choice.n && best->bytes > goal->bytes; i++) {
        const Choice *c = &r->choice.at[i];
        bool *with = NEWN(r->a, bool, r->g->n_tensor);
        Trial t;
        int count = c->tensor.n;
        memcpy(with, set, (size_t)r->g->n_tensor);
        add_choice(r, c, count, with);
        if (!try_set(r, with, &t))
            return false;
        if (t.bytes >= best->bytes)
            continue;
        if (t.bytes <= goal->bytes && (count = fewest(r, c, set, goal->bytes, &t)) < 0)
            return false;
        double flops = add_choice(r, c, count, set);
        *best = t;
        print_choice(r, c, count, flops, t.bytes, table);
    }
    return true;
}

static Remat remat_of(Graph *g, const FuseOptions *o, const MemoryGoal *goal, Arena *a, Text *why)
{
    int n = g->n_tensor;
    return (Remat){ .g = g, .o = o, .goal = goal, .batch = goal->batch, .a = a, .why = why, .index = graph_index(g, a), .late = NEWN(a, bool, n),
                    .kept = NEWN(a, bool, n), .able = NEWN(a, bool, n), .score = NEWN(a, bool, n), .bytes = NEWN(a, double, n) };
}

/* The kernels of the pairs of a batch, as one choice; their source is that of the first. False: there are none. */
static bool print_meet(const Remat *r, const Trial *base, const Trial *t, Text *out)
{
    const Kernel *first = NULL;
    double flops = 0;
    for (int i = t->f.n_kernel - 1; i >= 0; i--) {
        const Kernel *k = &t->f.kernel[i];
        first = k->cls == K_SCORE && score_meets(k) ? k : first;
        flops += (double)poly_at(kernel_flops(&t->f, k), r->batch);
    }
    for (int i = 0; i < base->f.n_kernel; i++)
        flops -= (double)poly_at(kernel_flops(&base->f, &base->f.kernel[i]), r->batch);
    if (first)
        print_row(r, &first->comp[0], t->g, 1, (double)(base->bytes - t->bytes), flops, t->bytes, out);
    return first;
}

/* Last, because a byte costs most: with no tensor over all pairs of the batch, and what else there is to choose then. */
static bool choose_meet(Remat *r, const Trial *base, Trial *best, Text *table)
{
    FuseOptions o = *r->o;
    Text rows = { .arena = r->a };
    Trial t;
    o.meet = true;
    Remat with = remat_of(r->g, &o, r->goal, r->a, r->why);
    if (!try_set(&with, NULL, &t))
        return false;
    if (!print_meet(&with, base, &t, &rows))
        return true;
    if (t.bytes > r->goal->bytes && !choose(&with, r->goal, &t, &rows))
        return false;
    if (t.bytes < best->bytes) {
        *best = t;
        *table = rows;
    }
    return true;
}

bool fuse_within(Graph *g, const FuseOptions *o, const MemoryGoal *goal, Arena *a, Fused *out, int64_t *reached, Text *table, Text *why)
{
    *reached = 0;
    if (!goal->bytes) {
        if (!fuse(g, o, a, out, why))
            return false;
        schedule(out);
        return schedule_verify(out, why);
    }
    graph_toposort(g);
    pass_sides(g);                                             /* here already: tensors keep their numbers in every trial */
    pass_cse(g);
    pass_dce(g);
    Remat r = remat_of(g, o, goal, a, why);
    Text rows = { .arena = a };
    Trial base, best;
    if (!try_set(&r, NULL, &base))
        return false;
    best = base;
    if (base.bytes > goal->bytes) {
        print_head(&r, &base, goal->bytes, table);
        if (!choose(&r, goal, &best, &rows) || (best.bytes > goal->bytes && !o->meet && !choose_meet(&r, &base, &best, &rows)))
            return false;
        text_printf(table, "%s", text_data(&rows));
    }
    *out = best.f;
    if (!schedule_verify(out, why))
        return false;
    *reached = best.bytes;
    text_printf(table, "memory: %lld bytes planned at batch %lld\n", (long long)best.bytes, (long long)goal->batch);
    if (best.bytes > goal->bytes)
        text_printf(why, "a step at batch %lld needs %.3f GB, even with everything computed again that helps", (long long)goal->batch,
                    (double)best.bytes * 1e-9);
    return best.bytes <= goal->bytes;
}
