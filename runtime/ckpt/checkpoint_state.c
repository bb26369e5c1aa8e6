/* checkpoint_state.c -- see checkpoint.h: which optimiser state belongs to which parameter. torch numbers parameters
 * through the groups and does not say which is which; the groups' membership follows a rule on names and shapes that
 * has changed between versions of OpenCLIP. Here ids become names once, and counts and shapes must agree. */
#include "ckpt/checkpoint_impl.h"
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

typedef enum { EVERYTHING, BY_NAME_PLAIN, BY_NAME_DECAYED, BY_RANK_PLAIN, BY_RANK_DECAYED, NO_RULE } Rule;

/* OpenCLIP 2.24, src/training/main.py */
static bool is_plain_by_name(const FileTensor *t)
{
    return t->rank < 2 || strstr(t->name, "bn") || strstr(t->name, "ln") || strstr(t->name, "bias") ||
           strstr(t->name, "logit_scale");
}

static bool ends_with(const char *name, const char *part)
{
    size_t n = strlen(name), m = strlen(part);
    return n >= m && !strcmp(name + n - m, part) && (n == m || name[n - m - 1] == '.');
}

/* OpenCLIP 3, src/open_clip_train/optim.py and no_weight_decay() of the towers */
static bool is_plain_by_rank(const FileTensor *t)
{
    return t->rank < 2 || ends_with(t->name, "positional_embedding") || ends_with(t->name, "class_embedding");
}

/* state_dicts hold buffers too, optimisers do not. */
static bool is_parameter(const FileTensor *t)
{
    return tic_stored_is_float(t->dtype) && !ends_with(t->name, "running_mean") && !ends_with(t->name, "running_var") &&
           !ends_with(t->name, "attn_mask");
}

static bool belongs(const FileTensor *t, Rule rule)
{
    if (!is_parameter(t))
        return false;
    switch (rule) {
    case EVERYTHING: return true;
    case BY_NAME_PLAIN: return is_plain_by_name(t);
    case BY_NAME_DECAYED: return !is_plain_by_name(t);
    case BY_RANK_PLAIN: return is_plain_by_rank(t);
    case BY_RANK_DECAYED: return !is_plain_by_rank(t);
    case NO_RULE: break;
    }
    return false;
}

static Rule rule_of(const TicValue *group, uint32_t place, uint32_t n_groups)
{
    const TicValue *name = tic_value_get(group, "group_name");
    if (tic_value_is(name, TIC_VALUE_STR))
        return !strcmp(name->text.s, "no_wd") ? BY_RANK_PLAIN : !strcmp(name->text.s, "wd") ? BY_RANK_DECAYED : NO_RULE;
    if (n_groups == 1)
        return EVERYTHING;
    return n_groups > 2 ? NO_RULE : place ? BY_NAME_DECAYED : BY_NAME_PLAIN;
}

/* ------------------------------------------------------------ ids to names */

static char *map_by_names(TicCheckpoint *ck, const TicValue *params, const TicValue *names, uint32_t place)
{
    if (names->seq.n != params->seq.n)
        return tic_format("its group %u has %u ids and %u names", place, params->seq.n, names->seq.n);
    for (uint32_t i = 0; i < names->seq.n; i++) {
        const TicValue *name = names->seq.item[i];
        if (name->kind != TIC_VALUE_STR)
            return tic_format("its group %u has a name that is no text", place);
        const char *plain = strncmp(name->text.s, "module.", 7) ? name->text.s : name->text.s + 7;
        const FileTensor *t = tic_checkpoint_find(ck, plain);
        char shown[80];
        if (!t)
            return tic_format("it names %s, which the state_dict lacks", tic_name_text(plain, strlen(plain), shown));
        ck->state[ck->n_state++] = (StateOf){ .param = t, .id = params->seq.item[i]->i };
    }
    return NULL;
}

static char *map_by_rule(TicCheckpoint *ck, const TicValue *params, Rule rule, uint32_t place)
{
    uint32_t members = 0;
    if (rule == NO_RULE)
        return tic_format("its group %u is not one of those OpenCLIP makes", place);
    for (int i = 0; i < ck->count; i++) {
        if (!belongs(&ck->tensor[i], rule))
            continue;
        if (members < params->seq.n)
            ck->state[ck->n_state++] = (StateOf){ .param = &ck->tensor[i], .id = params->seq.item[members]->i };
        members++;
    }
    if (members != params->seq.n)
        return tic_format("its group %u has %u ids, but %u parameters belong into it", place, params->seq.n, members);
    return NULL;
}

static char *map_group(TicCheckpoint *ck, const TicValue *group, uint32_t place, uint32_t n_groups)
{
    const TicValue *params = tic_value_get(group, "params"), *names = tic_value_get(group, "param_names");
    if (!tic_value_is(params, TIC_VALUE_LIST))
        return tic_format("its group %u has no list of ids", place);
    for (uint32_t i = 0; i < params->seq.n; i++)
        if (params->seq.item[i]->kind != TIC_VALUE_INT)
            return tic_format("its group %u has an id that is no number", place);
    if ((uint64_t)ck->n_state + params->seq.n > (uint64_t)ck->count)
        return tic_format("it has more ids than there are parameters");
    if (tic_value_is(names, TIC_VALUE_LIST))
        return map_by_names(ck, params, names, place);
    return map_by_rule(ck, params, rule_of(group, place, n_groups), place);
}

/* ------------------------------------------------------------ ids to states */

static int by_id(const void *a, const void *b)
{
    int64_t x = ((const StateOf *)a)->id, y = ((const StateOf *)b)->id;
    return (x > y) - (x < y);
}

static int by_param(const void *a, const void *b)
{
    const FileTensor *x = ((const StateOf *)a)->param, *y = ((const StateOf *)b)->param;
    return (x > y) - (x < y);
}

static char *check_shapes(const FileTensor *param, const TicValue *state)
{
    char have[128], want[128], shown[80];
    for (uint32_t i = 0; i < state->seq.n; i += 2) {
        const TicValue *role = state->seq.item[i], *v = state->seq.item[i + 1];
        if (role->kind != TIC_VALUE_STR || v->kind != TIC_VALUE_TENSOR || !strcmp(role->text.s, "step"))
            continue;
        const TicTensorRef *t = v->tensor;
        if (t->rank != param->rank || memcmp(t->shape, param->shape, (size_t)t->rank * sizeof *t->shape))
            return tic_format("%s of %s is %s, but the parameter is %s", role->text.s,
                              tic_name_text(param->name, strlen(param->name), shown),
                              tic_shape_text(t->rank, t->shape, have, sizeof have),
                              tic_shape_text(param->rank, param->shape, want, sizeof want));
    }
    return NULL;
}

static char *attach_states(TicCheckpoint *ck, const TicValue *states)
{
    char *wrong = NULL;
    qsort(ck->state, (size_t)ck->n_state, sizeof *ck->state, by_id);
    for (uint32_t i = 0; i < states->seq.n && !wrong; i += 2) {
        const TicValue *key = states->seq.item[i], *v = states->seq.item[i + 1];
        StateOf wanted = { .id = key->i };
        if (key->kind != TIC_VALUE_INT || v->kind != TIC_VALUE_DICT)
            return tic_format("its states are not numbered dicts");
        StateOf *found = bsearch(&wanted, ck->state, (size_t)ck->n_state, sizeof *ck->state, by_id);
        if (!found)
            return tic_format("it has a state %" PRId64 " that is in no group", key->i);
        found->state = v;
        wrong = check_shapes(found->param, v);
    }
    qsort(ck->state, (size_t)ck->n_state, sizeof *ck->state, by_param);
    return wrong;
}

/* NULL when all is well, else why the state cannot be used. */
static char *map_optimizer(TicCheckpoint *ck)
{
    const TicValue *optimizer = tic_value_get(ck->pickle.top, "optimizer");
    const TicValue *groups = tic_value_get(optimizer, "param_groups"), *states = tic_value_get(optimizer, "state");
    if (!optimizer)
        return tic_strdup("there is none");
    if (!tic_value_is(groups, TIC_VALUE_LIST) || !tic_value_is(states, TIC_VALUE_DICT))
        return tic_strdup("it is not of torch's form");
    if (!states->seq.n)
        return tic_strdup("it is empty");
    ck->state = tic_alloc((size_t)ck->count * sizeof *ck->state);
    char *wrong = NULL;
    for (uint32_t i = 0; i < groups->seq.n && !wrong; i++)
        wrong = map_group(ck, groups->seq.item[i], i, groups->seq.n);
    return wrong ? wrong : attach_states(ck, states);
}

bool tic_checkpoint_has_optimizer(TicCheckpoint *ck)
{
    if (!ck->mapped) {
        ck->no_state = map_optimizer(ck);
        ck->mapped = true;
    }
    return !ck->no_state;
}

TicStatus tic_checkpoint_read_state(TicCheckpoint *ck, const char *name, const char *role, int rank,
                                    const int64_t *shape, float *out)
{
    if (!tic_checkpoint_has_optimizer(ck))
        return tic_fail(TIC_USER, "%s: no optimizer state can be read: %s", ck->source.label, ck->no_state);
    StateOf wanted = { .param = tic_checkpoint_find(ck, name) };      /* NULL is found nowhere */
    const StateOf *of = bsearch(&wanted, ck->state, (size_t)ck->n_state, sizeof *ck->state, by_param);
    const TicValue *v = of ? tic_value_get(of->state, role) : NULL;
    if (!rank && (tic_value_is(v, TIC_VALUE_INT) || tic_value_is(v, TIC_VALUE_FLOAT))) {
        *out = v->kind == TIC_VALUE_INT ? (float)v->i : (float)v->f;     /* `step` before torch 1.12 */
        return TIC_OK;
    }
    if (!tic_value_is(v, TIC_VALUE_TENSOR))
        return tic_fail(TIC_USER, "%s: the optimizer has no %s for %s", ck->source.label, role, name);
    FileTensor t;
    TRY(tic_checkpoint_resolve(ck, name, v->tensor, &t));
    return tic_checkpoint_gather(ck, &t, rank, shape, out);
}
