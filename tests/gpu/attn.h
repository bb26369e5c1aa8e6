/* attn.h -- attention templates with prologues written by hand, as compiler/cuda/attn.h wants them. */
#ifndef GPU_ATTN_H
#define GPU_ATTN_H
#include "cuda/attn.h"
#include "device.h"

/* Queries, keys and values are thirds of the rows of one bf16 tensor [batch, tokens, 3, heads, width], as in CLIP; so are
 * their gradients. The result and its gradient are [batch, tokens, heads, width]. */
typedef struct AttnProblem {
    int batch, heads, tokens, width;
    int keys;                /* the first of the tokens; 0: all */
    bool causal, bias;       /* bias: another tensor [tokens, keys] is added to the scores */
    int ahead;               /* causal: a query sees so many keys behind its own place */
    int groups;              /* warpgroups of sm_90a's template by wgmma; 0: the plan's template */
} AttnProblem;

typedef struct AttnResult { bool compiled, launched; double error, allowed; const char *why; } AttnResult;
/* Compiles `text` (attn_text's, perhaps changed; what all templates share stands in front), runs it for each of
 * `seeds` seeds of the emulator on random numbers and compares all results with sums in f64 of terms rounded as its are (but
 * those of a forward pass that rounds before it scales, not at all).
 * error: largest difference over the largest number of that result; allowed: what that may be. */
AttnResult attn_check(bool backward, const char *text, const AttnProblem *p, int seeds, bool values_only);
const char *attn_text(bool backward, const AttnProblem *p);     /* the template that is planned for it, what it shares with others in front */
const char *attn_source(bool backward, const AttnProblem *p);   /* the whole text; freed with the process */
int attn_candidates(bool backward, const AttnProblem *p, AttnPlan *out, int cap);      /* attn_plans' for this device */
/* ms on the device, everything in bf16 but the statistic; < 0: does not compile */
double attn_time(bool backward, const AttnProblem *p, const AttnPlan *plan, int runs);
#endif
