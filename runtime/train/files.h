/* files.h -- a run's state in checkpoints: OpenCLIP's layout plus what an exact continuation needs. */
#ifndef TIC_TRAIN_FILES_H
#define TIC_TRAIN_FILES_H
#include "base.h"
#include "data/loader.h"
#include "device/exec.h"

typedef struct {
    const char *name, *parent;   /* parent NULL: none; after tic_resume the one that the checkpoint names */
    char parent_text[512];
    int64_t step, total, batch, micro, year, saved;    /* micro: pairs of a piece; 0: batches at once */
    int64_t carried;             /* updates of the moments before step 0: those of the checkpoint the run began with */
    int64_t skipped[TIC_SKIP_REASONS];   /* samples that were replaced, since step 0 */
    uint64_t seed, data_digest;
    double lr;                   /* of the last step done */
    bool finished;               /* the time step is complete: epoch counts 1 */
} TicRunState;

TicStatus tic_save(const TicModel *m, const TicRunState *s, const char *path);
/* Everything: parameters, moments, step. Refuses a checkpoint of another model, and warns on standard error when it was
 * written with another seed, batch, micro, length or data (then the continuation is not the run it would have been). */
TicStatus tic_resume(TicModel *m, TicRunState *s, const char *path);
TicStatus tic_load_weights(TicModel *m, const char *path);
/* What a checkpoint says of its run: the program's hash ("" when ticc did not write it) and how many samples were replaced. */
TicStatus tic_read_facts(const char *path, char program[20], int64_t *skipped);
/* Weights and moments; *updates: how often the moments were updated. TIC_USER when the checkpoint has none. */
TicStatus tic_load_moments(TicModel *m, const char *path, int64_t *updates);
/* TIC_USER when captions hold numbers that the model's token table does not have. */
TicStatus tic_captions_fit(const TicProgram *p);
#endif
