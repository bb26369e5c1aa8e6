/* report.h -- what became of one or several runs: as a page, as text, as JSON.
 *
 *   report.html   one file without references: the matrix of training steps by evaluation years as a heat map a task,
 *                 transfer summaries, score against compute, curves, mixtures, lineage; light and dark, printable
 *   report.json   the same numbers, without those that a clock made: equal runs have equal bytes
 *   --text        tables for the terminal */
#ifndef TIC_REPORT_REPORT_H
#define TIC_REPORT_REPORT_H
#include "report/runs.h"
#include <stdio.h>

void tic_report_html(const TicRuns *runs, FILE *f);
void tic_report_json(const TicRuns *runs, FILE *f);
void tic_report_text(const TicRuns *runs, FILE *f);

/* Reads the runs and writes OUT/report.html and OUT/report.json, each replaced as a whole. */
TicStatus tic_report_write(char *const *path, int n, const char *out);
/* The `report` command: `out` NULL: the folder of the only run, else the current one. */
TicStatus tic_report_command(char *const *path, int n, const char *out, bool text);
#endif
