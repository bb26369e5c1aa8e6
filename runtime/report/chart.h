/* chart.h -- line charts as inline SVG, and numbers as a page writes them. */
#ifndef TIC_REPORT_CHART_H
#define TIC_REPORT_CHART_H
#include "base.h"
#include <stdio.h>

typedef struct { double x, y; } ChartPoint;
typedef struct {
    const char *name;            /* for the read-out under the pointer */
    int color;                   /* 0..5, see style.c */
    ChartPoint *point;           /* x ascending; NaN in y breaks the line */
    int n;
    bool dots;                   /* a dot at each point */
} ChartLine;

typedef struct {
    const char *title, *x_name, *y_name;
    bool percent;                /* y is a share */
    bool from_zero;
    const ChartLine *line;
    int n;
} Chart;

/* A <figure>; nothing when no line has two finite points (one is enough with dots). */
void chart_write(const Chart *c, FILE *f);

/* Text with & < > " escaped. */
void html_text(FILE *f, const char *text);
/* 18432000 -> "18.4 M", 3.787e17 -> "3.79 x 10^17" in HTML, 250 -> "250"; exact below 10000. */
void html_count(FILE *f, double v);
#endif
