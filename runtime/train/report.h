/* report.h -- what a run tells while it goes: a progress line or bar, metrics.jsonl, and OpenCLIP's out.log. */
#ifndef TIC_TRAIN_REPORT_H
#define TIC_TRAIN_REPORT_H
#include "base.h"

typedef struct {
    int64_t step, total;             /* steps done, steps wanted */
    int64_t batch;
    double loss, lr, logit_scale;
    double seconds;                  /* since the last report */
    double waited;                   /* of these, waiting for data */
    int64_t steps;                   /* done since the last report */
    double loss_average;             /* over the steps since the start of this process */
} TicProgress;

typedef struct TicReport TicReport;

/* Opens DIR/metrics.jsonl and DIR/out.log; with `from_step` > 0 (a resumed run) lines of later steps are dropped from
 * metrics.jsonl first, so that the file reads as if the run had never stopped. */
TicStatus tic_report_open(const char *dir, int64_t from_step, TicReport **out);
/* One line a call on a file, a bar redrawn in place on a terminal; one object in metrics.jsonl; one line in out.log. */
TicStatus tic_report_step(TicReport *r, const TicProgress *p);
/* A sentence for standard output and out.log. */
void tic_report_say(TicReport *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void tic_report_close(TicReport *r);
#endif
