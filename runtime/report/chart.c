/* chart.c -- see chart.h. Coordinates are those of a box of W by H units, which the page scales to its column. */
#include "report/chart.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { W = 440, H = 236, LEFT = 50, RIGHT = 12, TOP = 10, BOTTOM = 38, MOST_POINTS = 240 };

void html_text(FILE *f, const char *text)
{
    for (; *text; text++) {
        switch (*text) {
        case '&': fputs("&amp;", f); break;
        case '<': fputs("&lt;", f); break;
        case '>': fputs("&gt;", f); break;
        case '"': fputs("&quot;", f); break;
        default: fputc(*text, f);
        }
    }
}

void html_count(FILE *f, double v)
{
    static const struct { double unit; const char *name; } units[] = { { 1e12, "T" }, { 1e9, "G" }, { 1e6, "M" }, { 1e3, "k" } };
    if (!isfinite(v)) {
        fputs("–", f);
        return;
    }
    if (fabs(v) >= 1e15) {
        int exponent = (int)floor(log10(fabs(v)));
        fprintf(f, "%.2f × 10<sup>%d</sup>", v / pow(10, exponent), exponent);
        return;
    }
    for (size_t i = 0; i < TIC_LEN(units) && fabs(v) >= 1e4; i++) {
        if (fabs(v) >= units[i].unit) {
            fprintf(f, "%.3g %s", v / units[i].unit, units[i].name);
            return;
        }
    }
    fprintf(f, "%.4g", v);
}

/* A tick's label: short, and the same number of digits along the axis. */
static void tick_text(char *out, size_t size, double v, double step, bool percent)
{
    double big = fabs(v);
    if (v == 0) {
        snprintf(out, size, "0");
        return;
    }
    if (percent) {
        snprintf(out, size, "%.*f", step < 0.01 - 1e-12 ? 1 : 0, 100 * v);
    } else if (big >= 1e15 || step < 1e-3) {
        int e = (int)floor(log10(big) + 1e-9);
        snprintf(out, size, "%.3ge%d", v / pow(10, e), e);
    } else if (big >= 1e4) {
        int k = big >= 1e12 ? 4 : big >= 1e9 ? 3 : big >= 1e6 ? 2 : 1;
        snprintf(out, size, "%.4g%s", v / pow(1000, k), k == 4 ? "T" : k == 3 ? "G" : k == 2 ? "M" : "k");
    } else {
        int digits = step >= 1 ? 0 : (int)ceil(-log10(step) - 1e-9);
        snprintf(out, size, "%.*f", digits > 6 ? 6 : digits, v);
    }
}

static double nice_step(double span, int about)
{
    double raw = span / about, unit = pow(10, floor(log10(raw))), m = raw / unit;
    return unit * (m <= 1 ? 1 : m <= 2 ? 2 : m <= 2.5 ? 2.5 : m <= 5 ? 5 : 10);
}

typedef struct { double low, high, step; } Axis;

static Axis axis_of(const Chart *c, bool y, int about)
{
    Axis a = { INFINITY, -INFINITY, 1 };
    for (int i = 0; i < c->n; i++) {
        for (int k = 0; k < c->line[i].n; k++) {
            double v = y ? c->line[i].point[k].y : c->line[i].point[k].x;
            if (!isfinite(v) || !isfinite(c->line[i].point[k].y))
                continue;
            a.low = fmin(a.low, v);
            a.high = fmax(a.high, v);
        }
    }
    if (!y || c->from_zero)
        a.low = fmin(a.low, 0);
    if (a.high - a.low < 1e-12 * fmax(1, fabs(a.high)))
        a.high = a.low + fmax(fabs(a.low) * 0.1, 1e-9);
    a.step = nice_step(a.high - a.low, about);
    if (y) {
        a.low = floor(a.low / a.step + 1e-9) * a.step;
        a.high = ceil(a.high / a.step - 1e-9) * a.step;
    }
    return a;
}

static double place_x(const Axis *a, double v) { return LEFT + (W - LEFT - RIGHT) * (v - a->low) / (a->high - a->low); }
static double place_y(const Axis *a, double v) { return H - BOTTOM - (H - TOP - BOTTOM) * (v - a->low) / (a->high - a->low); }

static void axes(const Chart *c, const Axis *x, const Axis *y, FILE *f)
{
    char text[32];
    for (int k = 0; y->low + k * y->step <= y->high + 1e-9 * y->step; k++) {
        double v = y->low + k * y->step, at = place_y(y, v);
        tick_text(text, sizeof text, fabs(v) < 1e-9 * y->step ? 0 : v, y->step, c->percent);
        fprintf(f, "<path class=grid d=\"M%d %.1fH%d\"/><text class=tick x=%d y=%.1f text-anchor=end>%s</text>", LEFT, at, W - RIGHT, LEFT - 6,
                at + 4, text);
    }
    for (int k = 0; x->low + k * x->step <= x->high + 1e-9 * x->step; k++) {
        double v = x->low + k * x->step, at = place_x(x, v);
        tick_text(text, sizeof text, v, x->step, false);
        fprintf(f, "<path class=mark d=\"M%.1f %dv4\"/><text class=tick x=%.1f y=%d text-anchor=middle>%s</text>", at, H - BOTTOM, at, H - BOTTOM + 17,
                text);
    }
    fprintf(f, "<path class=axis d=\"M%d %dH%d\"/><text class=name x=%d y=%d text-anchor=end>", LEFT, H - BOTTOM, W - RIGHT, W - RIGHT, H - 4);
    html_text(f, c->x_name);
    fprintf(f, "</text>");
}

/* Long lines are thinned to means of equal pieces of their points, so that noise does not become a black band. */
static int thin(const ChartLine *l, ChartPoint *out)
{
    int n = l->n < MOST_POINTS ? l->n : MOST_POINTS;
    for (int i = 0; i < n; i++) {
        int from = (int)((int64_t)i * l->n / n), to = (int)((int64_t)(i + 1) * l->n / n), finite = 0;
        ChartPoint p = { l->point[to - 1].x, 0 };
        for (int k = from; k < to; k++) {
            p.y += isfinite(l->point[k].y) ? l->point[k].y : 0;
            finite += isfinite(l->point[k].y);
        }
        p.y = finite ? p.y / finite : NAN;
        out[i] = p;
    }
    return n;
}

static void line(const ChartLine *l, const Axis *x, const Axis *y, FILE *f)
{
    ChartPoint p[MOST_POINTS];
    int n = thin(l, p);
    bool down = false;
    fprintf(f, "<path class=\"line c%d\" d=\"", l->color);
    for (int i = 0; i < n; i++) {
        if (!isfinite(p[i].y)) {
            down = false;
            continue;
        }
        fprintf(f, "%s%.1f %.1f", down ? "L" : "M", place_x(x, p[i].x), place_y(y, p[i].y));
        down = true;
    }
    fprintf(f, "\"/>");
    for (int i = 0; i < n && l->dots; i++)
        if (isfinite(p[i].y))
            fprintf(f, "<circle class=\"dot c%d\" cx=%.1f cy=%.1f r=3.2 />", l->color, place_x(x, p[i].x), place_y(y, p[i].y));
}

/* The points once more for the read-out: what the script finds under the pointer. */
static void data(const Chart *c, const Axis *x, FILE *f)
{
    ChartPoint p[MOST_POINTS];
    fprintf(f, "<script type=\"application/json\">{\"low\":%.9g,\"high\":%.9g,\"left\":%d,\"right\":%d,\"width\":%d,\"percent\":%s,\"lines\":[", x->low,
            x->high, LEFT, RIGHT, W, c->percent ? "true" : "false");
    for (int i = 0; i < c->n; i++) {
        int n = thin(&c->line[i], p);
        fprintf(f, "%s{\"color\":%d,\"name\":\"", i ? "," : "", c->line[i].color);
        for (const char *s = c->line[i].name; *s; s++)
            if ((unsigned char)*s >= 32 && !strchr("\"\\<>&", *s))
                fputc(*s, f);
        fprintf(f, "\",\"at\":[");
        bool more = false;
        for (int k = 0; k < n; k++) {
            if (isfinite(p[k].y))
                fprintf(f, "%s%.6g,%.5g", more ? "," : "", p[k].x, p[k].y);
            more |= isfinite(p[k].y);
        }
        fprintf(f, "]}");
    }
    fprintf(f, "]}</script>");
}

void chart_write(const Chart *c, FILE *f)
{
    bool some = false;
    for (int i = 0; i < c->n; i++) {
        int finite = 0;
        for (int k = 0; k < c->line[i].n; k++)
            finite += isfinite(c->line[i].point[k].y);
        some |= finite > 1 || (finite && c->line[i].dots);
    }
    if (!some)
        return;
    Axis x = axis_of(c, false, 5), y = axis_of(c, true, 5);
    fprintf(f, "<figure class=chart><figcaption><b>");
    html_text(f, c->title);
    fprintf(f, "</b><span>");
    html_text(f, c->y_name);
    fprintf(f, "</span></figcaption><svg viewBox=\"0 0 %d %d\" role=img aria-label=\"", W, H);
    html_text(f, c->title);
    fprintf(f, "\">");
    axes(c, &x, &y, f);
    for (int i = 0; i < c->n; i++)
        line(&c->line[i], &x, &y, f);
    fprintf(f, "<path class=cursor d=\"M0 %dV%d\"/></svg><output></output>", TOP, H - BOTTOM);
    data(c, &x, f);
    fprintf(f, "</figure>\n");
}
