/* level.c -- see level.h. */
#include "lower/level.h"

Level level_in(Level *outer)
{
    return (Level){.places = outer->places, .outer = outer, .depth = outer->depth + 1};
}

void level_hold(Level *s, const Comp *c, const Expr *load, const void *value)
{
    PUSH(s->places->arena, s->held, (struct Held){c, load, value});
}

static const struct Held *find_held(const Level *s, const Expr *load)
{
    for (int i = 0; i < s->held.n; i++) {
        const struct Held *h = &s->held.at[i];
        if (h->c ? h->c->out == load->tensor && same_point(load, h->c) : h->load == load)
            return h;
    }
    return NULL;
}

/* The innermost scope that holds the load's value, or NULL. */
static const Level *holder(const Level *s, const Expr *load)
{
    while (s && !find_held(s, load))
        s = s->outer;
    return s;
}

const void *level_held(const Level *s, const Expr *load)
{
    const Level *at = holder(s, load);
    return at ? find_held(at, load)->value : NULL;
}

Level *level_binder(Level *s, int axis)
{
    Places *p = s->places;
    while (s && !(s->binds >> axis & 1))
        s = s->outer;
    if (!s)
        places_fault(p, arena_printf(p->arena, "axis a%d has no value where it is used", axis));
    return s;
}

/* ---- how far out */

static int max_int(int a, int b)
{
    return a > b ? a : b;
}

static int map_depth(Level *s, const Affine *a)
{
    int depth = 0;
    for (int i = 0; i < a->n; i++)
        depth = max_int(depth, term_depth(s, &a->term[i]));
    return depth;
}

int term_depth(Level *s, const Term *t)
{
    if (t->kind == AT_LOAD)            /* which may read members as well */
        return level_known(s, t->load)->depth;
    if (t->kind != AT_AXIS)
        return map_depth(s, t->arg);
    const Level *b = level_binder(s, t->axis);
    return b ? b->depth : 0;
}

static int load_depth(Level *s, const Expr *e)
{
    const Places *p = s->places;
    const Level *at = holder(s, e);
    int m = member_read(p->k, e), depth = m >= 0 ? p->row_depth : 0;
    if (at)
        return at->depth;
    if (m >= 0 && p->again[m])
        return level_known(s, p->k->comp[m].body)->depth;
    for (int d = 0; d < e->n; d++)
        depth = max_int(depth, map_depth(s, e->idx[d]));
    return depth;
}

LevelExpr *level_known(Level *s, const Expr *e)
{
    for (int i = 0; i < s->known.n; i++)
        if (s->known.at[i]->e == e)
            return s->known.at[i];
    int depth = 0;
    if (e->kind == E_INDEX)
        depth = map_depth(s, e->aff);
    if (e->kind == E_LOAD)
        depth = load_depth(s, e);
    if (e->kind == E_OP)
        for (int i = 0; i < e->n; i++)
            depth = max_int(depth, level_known(s, e->arg[i])->depth);
    LevelExpr *k = NEW(s->places->arena, LevelExpr);
    *k = (LevelExpr){e, depth, NULL};
    PUSH(s->places->arena, s->known, k);
    return k;
}
