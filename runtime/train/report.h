/* report.h -- what a run tells while it goes: a progress line or bar, metrics.jsonl, OpenCLIP's out.log, TensorBoard.
 *
 * The files of a run that was killed and resumed read as if it had never stopped, but for times: on opening, what
 * belongs to steps beyond the resumed one is cut off. */
#ifndef TIC_TRAIN_REPORT_H
#define TIC_TRAIN_REPORT_H
#include "base.h"

typedef struct {
    int64_t step, total;             /* steps done, steps wanted */
    double loss, lr, logit_scale;
    double seconds;                  /* of this step */
    double waited;                   /* of these, waiting for data */
} TicProgress;

typedef struct {
    const char *dir;                 /* of the run; made when absent */
    int64_t from_step;               /* steps done before this process */
    int64_t batch, log_every;
} TicReportOptions;

typedef struct TicReport TicReport;

/* DIR/metrics.jsonl, DIR/out.log, DIR/tensorboard/. */
TicStatus tic_report_open(const TicReportOptions *o, TicReport **out);
/* After every step. Step 1, the last one and every log_every-th go to the files and, as a line, to a standard output
 * that is no terminal; a terminal shows a bar that is redrawn at most ten times a second. TIC_IO: a file cannot be
 * written. */
TicStatus tic_report_step(TicReport *r, const TicProgress *p);
/* A sentence for standard output and out.log; r NULL: for standard output alone. */
void tic_report_say(TicReport *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
TicStatus tic_report_sync(TicReport *r);             /* the files down to the disk; before a checkpoint is written */
void tic_report_close(TicReport *r);
#endif
