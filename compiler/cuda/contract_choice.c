/* contract_choice.c -- which template computes a contraction, and into how many parts its sums are cut: as the table of what was
 * measured has it, or by rule. See tuned.h. */
#include "cuda/contract.h"
#include <math.h>
#include <string.h>

enum { MOST_SPLITS = TUNED_MOST_SPLITS, PROCESSORS = 132, TYPICAL = 4096, LEAST_PART = 4 * CONTRACT_UNIT };

static const GemmTemplate *template_of(int arch, bool tensor, int tile_n)
{
    for (const GemmTemplate *t = cuda_gemm; t->name; t++)
        if (t->arch == arch && t->tensor == tensor && (!tile_n || t->tile_n == tile_n))
            return t;
    return NULL;
}

/* Tensor cores where both sides are bf16. Narrow results take narrow tiles. */
static const GemmTemplate *by_rule(const Contraction *c)
{
    int64_t columns, rows;
    if (!cu_side_is_bf16(c, &c->a) || !cu_side_is_bf16(c, &c->b))
        return template_of(80, false, 0);
    bool narrow = (poly_fixed(c->columns, &columns) && columns <= 64) || (poly_fixed(c->rows, &rows) && rows <= 64);
    return template_of(80, true, narrow ? 64 : 128);
}

/* The copy engine's view of a side: true when it is one matrix with lines of whole 16 bytes. */
static bool map_of(Contraction *c, const Side *s, const Group *grp, int n_grp, Poly rows, int tile, TicGpuMap *out)
{
    int64_t stride;
    const Group *line = s->unit == 1 ? &grp[0] : &c->k[0];
    if (!cu_side_is_bf16(c, s) || s->vec != 8 || !s->unit || n_grp != 1 || c->n_k != 1 || !poly_fixed(s->lin.axis[line->axis], &stride))
        return false;
    Poly inner = s->unit == 1 ? c->terms : rows, outer = s->unit == 1 ? rows : c->terms;
    if (stride % 8 || stride <= 0 || s->lin.c.c[1] || s->lin.c.c[2])
        return false;
    *out = (TicGpuMap){.arg = kernel_arg(c->l->k, s->load->tensor), .box_inner = 64, .box_outer = s->unit == 1 ? tile : 64,
                       .offset = s->lin.c.c[0], .stride = stride, .inner = {{inner.c[0], inner.c[1], inner.c[2]}},
                       .outer = {{outer.c[0], outer.c[1], outer.c[2]}}};
    return true;
}

/* How a template for Hopper is launched; false: the copy engine cannot fetch both sides for it. */
static bool hopper_launch(Contraction *c, const GemmTemplate *t, TicGpuHopper *out)
{
    *out = (TicGpuHopper){.threads = t->threads, .shared = t->shared, .maps = t->arch == CONTRACT_HOPPER ? 2 : 0};
    return !out->maps || (poly_is(c->batches, 1) && map_of(c, &c->a, c->m, c->n_m, c->rows, t->tile_m, &out->map[0]) &&
                          map_of(c, &c->b, c->n, c->n_n, c->columns, t->tile_n, &out->map[1]));
}

/* Hopper's own instructions, where the copy engine can fetch both sides: two tiles in turn, so that one's epilogue is hidden
 * behind the other's products; wide tiles for sums over the batch, whose epilogue is short beside them. */
static const GemmTemplate *hopper_by_rule(Contraction *c)
{
    int64_t terms;
    TicGpuHopper launch;
    bool wide = !poly_fixed(c->terms, &terms) && !poly_is(c->columns, 128);
    const GemmTemplate *t = template_of(CONTRACT_HOPPER, true, wide ? 256 : 128);
    return hopper_launch(c, t, &launch) ? t : NULL;
}

/* How sums are cut along their terms: each in `splits` equal parts, or all of them together in equal shares (shares.cu). */
typedef struct Cut { int splits, shares; } Cut;

/* Of a result that is fixed; else 0. */
static int64_t tiles_of(const Contraction *c, const GemmTemplate *t)
{
    int64_t rows, columns, batches;
    bool fixed = poly_fixed(c->rows, &rows) && poly_fixed(c->columns, &columns) && poly_fixed(c->batches, &batches);
    return fixed ? (rows + t->tile_m - 1) / t->tile_m * ((columns + t->tile_n - 1) / t->tile_n) * batches : 0;
}

/* What a part costs beside its products, as a share of all products: it is written and read again. */
static const double part_costs = 0.004;

/* Few tiles, many terms: all that multiprocessors could do over what they do, when tiles of so many parts come in rounds, and a little for
 * each part; infinite where there can be no such number. */
static double waste(const Contraction *c, const GemmTemplate *t, int splits, int64_t batch)
{
    int64_t tiles = tiles_of(c, t), terms = poly_at(c->terms, batch), slots = t->persistent ? PROCESSORS : 2 * PROCESSORS;
    if (splits > 1 && (!tiles || splits > MOST_SPLITS || splits * LEAST_PART > terms))
        return INFINITY;
    int64_t blocks = tiles * splits;
    return blocks ? (double)((blocks + slots - 1) / slots * slots) / (double)blocks + part_costs * splits : splits;
}

static int64_t common_divisor(int64_t a, int64_t b) { return b ? common_divisor(b, a % b) : a; }
static int64_t parts_of(int64_t tiles, int64_t shares) { return tiles + shares - common_divisor(tiles, shares); }

/* The same of equal shares, one for each multiprocessor: none of them idles for longer than a block of terms takes. */
static double waste_of_shares(const Contraction *c, const GemmTemplate *t, int64_t batch)
{
    int64_t tiles = tiles_of(c, t), blocks = (poly_at(c->terms, batch) + t->tile_k - 1) / t->tile_k * tiles;
    int64_t longest = (blocks + PROCESSORS - 1) / PROCESSORS;
    if (t->arch != CONTRACT_HOPPER || !tiles || longest * t->tile_k < LEAST_PART)
        return INFINITY;
    return (double)(longest * PROCESSORS) / (double)blocks + part_costs * (double)parts_of(tiles, PROCESSORS) / (double)tiles;
}

int cu_contract_parts(const Contraction *c)
{
    return (int)parts_of(tiles_of(c, c->hopper), c->shares);
}

/* The number of parts that wastes least; of those that waste more than `above`; 0: there is none. */
static int best_splits(const Contraction *c, const GemmTemplate *t, int64_t batch, double above)
{
    int best = 0;
    double least = INFINITY;
    for (int s = 1; s <= MOST_SPLITS; s++) {
        double w = waste(c, t, s, batch);
        if (w > above && w < least) {
            least = w;
            best = s;
        }
    }
    return best;
}

/* Shares where rounds of whole parts would waste a hundredth more. */
static Cut cut_by_rule(const Contraction *c, const GemmTemplate *t)
{
    int splits = best_splits(c, t, TYPICAL, 0);
    bool shares = waste_of_shares(c, t, TYPICAL) + 0.01 < waste(c, t, splits, TYPICAL);
    return shares ? (Cut){.shares = PROCESSORS} : (Cut){.splits = splits};
}

/* ---- what was measured */

/* What is done with a sum beside storing it, and the type of what is stored last. A member that sums something itself comes
 * along at no point of the result. */
static TunedFinish finish_of(const Contraction *c, bool *bf16)
{
    uint32_t columns = cu_group_axes(c->n, c->n_n) | c->zero;
    const Kernel *k = c->l->k;
    bool more = false, points = false;
    int stored = 0;
    for (int i = 0; i < k->n_comp; i++) {
        const Comp *m = &k->comp[i];
        if (i && m->reducer != RED_NONE)
            continue;
        if (kernel_writes(k, m->out)) {
            stored++;
            *bf16 = c->l->graph->tensor[m->out].dtype == DT_BF16;
        }
        int n = 0;
        const Expr **load = i ? loads_of(&c->l->places, m->body, &n) : NULL;
        more = more || (i && (m->body->kind != E_LOAD || kernel_member(k, m->body->tensor) < 0));
        for (int j = 0; j < n; j++)
            points = points || (kernel_member(k, load[j]->tensor) < 0 && load[j]->axes & ~columns);
    }
    return points || stored > 1 ? FINISH_POINTS : more ? FINISH_COLUMNS : FINISH_PLAIN;
}

static TunedKey key_of(const Contraction *c)
{
    const Cu *l = c->l;
    const Poly extent[] = {c->rows, c->columns, c->terms, c->batches};
    static const char unit[] = "-km";
    TunedKey key = {.kind = TUNED_CONTRACT, .a_bf16 = cu_side_is_bf16(c, &c->a), .b_bf16 = cu_side_is_bf16(c, &c->b),
                    .form = {unit[c->a.unit], unit[c->b.unit]}};
    key.finish = finish_of(c, &key.result_bf16);
    for (size_t i = 0; i < LEN(extent); i++) {
        key.extent[i] = poly_at(extent[i], l->m->target.batch);
        if (extent[i].c[1] || extent[i].c[2])
            key.of_batch |= 1u << i;
    }
    return key;
}

static Cut cut_of(const Contraction *c, const GemmTemplate *t, const TunedChoice *measured)
{
    return measured && (measured->splits || measured->shares) ? (Cut){measured->splits, measured->shares} : cut_by_rule(c, t);
}

/* A template for sm_90a, one for every other GPU, from the table or by rule. Both have the same launches and one workspace: as many
 * splits as sm_90a's; where that has shares, the others have some splits too. */
void cu_contract_choose(Contraction *c, TicGpuHopper *launch)
{
    TunedKey key = key_of(c);
    const TunedChoice *other = cu_tuned(c->l, c->l->m->target.arch, key), *own = cu_tuned(c->l, "sm_90a", key);
    if (own && !hopper_launch(c, own->t, launch))
        own = NULL;
    c->t = other ? other->t : by_rule(c);
    c->hopper = own ? own->t : hopper_by_rule(c);
    Cut cut = c->hopper ? cut_of(c, c->hopper, own) : cut_of(c, c->t, other);
    c->shares = cut.shares;
    c->splits = cut.shares ? cut_of(c, c->t, other).splits : cut.splits;
    if (c->shares && c->splits < 2)
        c->splits = 2;
    if (c->hopper == c->t)
        c->hopper = NULL;
    if (c->hopper)
        hopper_launch(c, c->hopper, launch);
}

/* Every template that can compute it, with the numbers of parts that waste least, and in shares. */
int cu_contract_choices(Cu *l, const char *arch, TunedKey *key, TunedChoice *out, int cap)
{
    enum { MOST_PARTS = 4 };
    Contraction c = {.l = l};
    TicGpuHopper launch;
    int n = 0;
    bool hopper = !strcmp(arch, "sm_90a");
    if (!cu_contract_analyse(&c))
        return 0;
    *key = key_of(&c);
    key->arch = arch;
    const GemmTemplate *rule = hopper ? hopper_by_rule(&c) : NULL;
    rule = rule ? rule : by_rule(&c);
    Cut cut = cut_by_rule(&c, rule);
    out[n++] = (TunedChoice){.t = rule, .splits = cut.splits, .shares = cut.shares};
    for (const GemmTemplate *t = cuda_gemm; t->name; t++) {
        if (t->tensor != rule->tensor || (t->arch == CONTRACT_HOPPER && !(hopper && hopper_launch(&c, t, &launch))))
            continue;
        double above = 0;
        for (int i = 0, s; i < MOST_PARTS && n < cap && (s = best_splits(&c, t, l->m->target.batch, above)); i++) {
            above = waste(&c, t, s, l->m->target.batch);
            if (t != rule || s != out[0].splits)
                out[n++] = (TunedChoice){.t = t, .splits = s};
        }
        if (n < cap && isfinite(waste_of_shares(&c, t, l->m->target.batch)) && (t != rule || !cut.shares))
            out[n++] = (TunedChoice){.t = t, .shares = PROCESSORS};
    }
    return n;
}
