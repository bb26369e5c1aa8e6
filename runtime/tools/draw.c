/* draw.c -- see draw.h.
 *
 * Every shape becomes a closed outline. For each edge and each row it crosses we add, to the cell it
 * crosses in and to the next, by how much the area to the right of the edge changes the coverage there; a
 * running sum along the row then is the covered share of each pixel, exactly. Outlines that overlap with one
 * orientation add up beyond 1 and are cut off there, so a stroke may be made of many overlapping pieces. */
#include "draw.h"
#include "base.h"
#include <math.h>
#include <stdlib.h>

#define MAX_POINTS 64
static const float RADIANS = 0.017453292519943295f;

typedef struct {
    Canvas *canvas;
    int top, bottom;     /* rows touched: top .. bottom-1 */
    int left, right;
} Fill;

static float clampf(float v, float low, float high)
{
    return v < low ? low : v > high ? high : v;
}

Canvas canvas_make(int width, int height)
{
    size_t pixels = (size_t)width * (size_t)height;
    return (Canvas){ width, height, tic_alloc(pixels * 3 * sizeof(float)),
                     tic_alloc((size_t)(width + 2) * (size_t)height * sizeof(float)) };
}

void canvas_free(Canvas *c)
{
    free(c->rgb);
    free(c->cover);
    *c = (Canvas){ 0 };
}

Color color_hex(uint32_t v)
{
    return (Color){ (float)(v >> 16 & 255) / 255, (float)(v >> 8 & 255) / 255, (float)(v & 255) / 255 };
}

Color color_mix(Color a, Color b, float t)
{
    return (Color){ a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t };
}

float color_luma(Color c)
{
    return 0.299f * c.r + 0.587f * c.g + 0.114f * c.b;
}

/* ---- outlines ------------------------------------------------------------------------------------ */

static Fill fill_begin(Canvas *c)
{
    return (Fill){ c, c->height, 0, c->width, 0 };
}

static void fill_edge(Fill *f, Point a, Point b)
{
    Canvas *c = f->canvas;
    float sign = 1, w = (float)c->width;
    if (a.y > b.y) {
        Point t = a;
        a = b;
        b = t;
        sign = -1;
    }
    float y0 = a.y > 0 ? a.y : 0, y1 = b.y < (float)c->height ? b.y : (float)c->height;
    if (!(y0 < y1))
        return;
    float slope = (b.x - a.x) / (b.y - a.y);
    for (int row = (int)y0; (float)row < y1; row++) {
        float above = y0 > (float)row ? y0 : (float)row, below = y1 < (float)(row + 1) ? y1 : (float)(row + 1);
        float rise = (below - above) * sign;
        float xa = clampf(a.x + (above - a.y) * slope, 0, w), xb = clampf(a.x + (below - a.y) * slope, 0, w);
        if (xa > xb) {
            float t = xa;
            xa = xb;
            xb = t;
        }
        float *cell = c->cover + (size_t)row * (size_t)(c->width + 2);
        int first = (int)xa, last = (int)xb;
        float per_x = last > first ? rise / (xb - xa) : 0;
        for (int k = first; k <= last; k++) {
            float lo = xa > (float)k ? xa : (float)k, hi = xb < (float)(k + 1) ? xb : (float)(k + 1);
            float part = last > first ? per_x * (hi - lo) : rise, mid = (lo + hi) / 2 - (float)k;
            cell[k] += part * (1 - mid);
            cell[k + 1] += part * mid;
        }
        if (first < f->left)
            f->left = first;
        if (last + 2 > f->right)
            f->right = last + 2;
    }
    if ((int)y0 < f->top)
        f->top = (int)y0;
    if ((int)ceilf(y1) > f->bottom)
        f->bottom = (int)ceilf(y1);
}

static void fill_outline(Fill *f, const Point *p, int n)
{
    for (int i = 0; i < n; i++)
        fill_edge(f, p[i], p[(i + 1) % n]);
}

/* Paints what the edges enclose and clears the cells for the next shape. */
static void fill_end(Fill *f, const Pen *pen, Color color)
{
    Canvas *c = f->canvas;
    int right = f->right < c->width ? f->right : c->width;
    for (int row = f->top; row < f->bottom; row++) {
        float *cell = c->cover + (size_t)row * (size_t)(c->width + 2);
        float *px = c->rgb + ((size_t)row * (size_t)c->width + (size_t)f->left) * 3;
        float lift = pen->shade * clampf((pen->y - (float)row) / pen->scale, -1, 1);
        Color paint = color_mix(color, lift > 0 ? (Color){ 1, 1, 1 } : (Color){ 0, 0, 0 }, fabsf(lift));
        float sum = 0;
        for (int x = f->left; x < right; x++, px += 3) {
            sum += cell[x];
            cell[x] = 0;
            float share = fabsf(sum);
            if (share < 1e-4f)
                continue;
            share = (share > 1 ? 1 : share) * pen->alpha;
            px[0] += (paint.r - px[0]) * share;
            px[1] += (paint.g - px[1]) * share;
            px[2] += (paint.b - px[2]) * share;
        }
        cell[c->width] = cell[c->width + 1] = 0;
    }
}

static Point place(const Pen *pen, float x, float y)
{
    float s = sinf(pen->angle * RADIANS), k = cosf(pen->angle * RADIANS);
    if (pen->mirror)
        x = -x;
    return (Point){ pen->x + pen->scale * (x * k - y * s), pen->y + pen->scale * (x * s + y * k) };
}

/* A thick segment with round ends, in pixels; always the same orientation. */
static void fill_capsule(Fill *f, Point a, Point b, float half)
{
    float dx = b.x - a.x, dy = b.y - a.y, length = sqrtf(dx * dx + dy * dy);
    float from = length > 1e-6f ? atan2f(dy, dx) : 0;
    enum { CAP = 7 };
    Point p[2 * CAP];
    for (int i = 0; i < CAP; i++) {
        float t = from + (float)i / (CAP - 1) * 3.14159265f;
        float ox = -sinf(t) * half, oy = cosf(t) * half;    /* the cap behind a */
        p[i] = (Point){ a.x + ox, a.y + oy };
        p[CAP + i] = (Point){ b.x - ox, b.y - oy };
    }
    fill_outline(f, p, 2 * CAP);
}

static void paint_outline(const Pen *pen, Color color, const Point *p, int n)
{
    Fill f = fill_begin(pen->canvas);
    fill_outline(&f, p, n);
    fill_end(&f, pen, color);
    if (pen->grow > 0) {      /* apart from the filling, whose orientation may be the other one */
        f = fill_begin(pen->canvas);
        for (int i = 0; i < n; i++)
            fill_capsule(&f, p[i], p[(i + 1) % n], pen->grow);
        fill_end(&f, pen, color);
    }
}

static void paint_polyline(const Pen *pen, Color color, const Point *p, int n, float width)
{
    Fill f = fill_begin(pen->canvas);
    for (int i = 0; i + 1 < n; i++)
        fill_capsule(&f, p[i], p[i + 1], width * pen->scale / 2 + pen->grow);
    fill_end(&f, pen, color);
}

/* ---- shapes -------------------------------------------------------------------------------------- */

void draw_polygon(const Pen *pen, Color color, const Point *points, int n)
{
    Point p[MAX_POINTS];
    if (n > MAX_POINTS)
        n = MAX_POINTS;
    for (int i = 0; i < n; i++)
        p[i] = place(pen, points[i].x, points[i].y);
    paint_outline(pen, color, p, n);
}

void draw_rect(const Pen *pen, Color color, float x0, float y0, float x1, float y1, float radius)
{
    enum { CORNER = 6 };
    if (radius <= 0) {
        Point p[4] = { { x0, y0 }, { x1, y0 }, { x1, y1 }, { x0, y1 } };
        draw_polygon(pen, color, p, 4);
        return;
    }
    float room = fminf(fabsf(x1 - x0), fabsf(y1 - y0)) / 2, r = fminf(radius, room);
    Point p[4 * CORNER];
    const float cx[4] = { x1 - r, x0 + r, x0 + r, x1 - r }, cy[4] = { y1 - r, y1 - r, y0 + r, y0 + r };
    for (int i = 0; i < 4 * CORNER; i++) {
        int k = i / CORNER;
        float t = ((float)k * 90 + (float)(i % CORNER) * 90 / (CORNER - 1)) * RADIANS;
        p[i] = (Point){ cx[k] + cosf(t) * r, cy[k] + sinf(t) * r };
    }
    draw_polygon(pen, color, p, 4 * CORNER);
}

void draw_oval(const Pen *pen, Color color, float x, float y, float rx, float ry, float turn)
{
    enum { SIDES = 40 };
    Point p[SIDES];
    float s = sinf(turn * RADIANS), k = cosf(turn * RADIANS);
    for (int i = 0; i < SIDES; i++) {
        float t = (float)i * (360.0f / SIDES) * RADIANS, ox = cosf(t) * rx, oy = sinf(t) * ry;
        p[i] = (Point){ x + ox * k - oy * s, y + ox * s + oy * k };
    }
    draw_polygon(pen, color, p, SIDES);
}

void draw_segment(const Pen *pen, Color color, float x, float y, float rx, float ry, float from, float to)
{
    enum { SIDES = 28 };
    Point p[SIDES];
    for (int i = 0; i < SIDES; i++) {
        float t = (from + (to - from) * (float)i / (SIDES - 1)) * RADIANS;
        p[i] = (Point){ x + cosf(t) * rx, y + sinf(t) * ry };
    }
    draw_polygon(pen, color, p, SIDES);
}

void draw_line(const Pen *pen, Color color, float x0, float y0, float x1, float y1, float width)
{
    Point p[2] = { place(pen, x0, y0), place(pen, x1, y1) };
    paint_polyline(pen, color, p, 2, width);
}

void draw_arc(const Pen *pen, Color color, float x, float y, float r, float from, float to, float width)
{
    enum { STEPS = 25 };
    Point p[STEPS];
    for (int i = 0; i < STEPS; i++) {
        float t = (from + (to - from) * (float)i / (STEPS - 1)) * RADIANS;
        p[i] = place(pen, x + cosf(t) * r, y + sinf(t) * r);
    }
    paint_polyline(pen, color, p, STEPS, width);
}

void draw_curve(const Pen *pen, Color color, float x0, float y0, float cx, float cy, float x1, float y1, float width)
{
    enum { STEPS = 13 };
    Point p[STEPS];
    for (int i = 0; i < STEPS; i++) {
        float t = (float)i / (STEPS - 1), u = 1 - t;
        p[i] = place(pen, u * u * x0 + 2 * u * t * cx + t * t * x1, u * u * y0 + 2 * u * t * cy + t * t * y1);
    }
    paint_polyline(pen, color, p, STEPS, width);
}

/* ---- whole canvas -------------------------------------------------------------------------------- */

void draw_ramp(Canvas *c, int y0, int y1, Color top, Color bottom)
{
    int last = y1 < c->height ? y1 : c->height;
    for (int y = y0 > 0 ? y0 : 0; y < last; y++) {
        Color k = color_mix(top, bottom, ((float)(y - y0) + 0.5f) / (float)(y1 - y0));
        float *px = c->rgb + (size_t)y * (size_t)c->width * 3;
        for (int x = 0; x < c->width; x++, px += 3) {
            px[0] = k.r;
            px[1] = k.g;
            px[2] = k.b;
        }
    }
}

void draw_glow(Canvas *c, float x, float y, float rx, float ry, Color color, float strength)
{
    int x0 = (int)fmaxf(0, x - rx), x1 = (int)fminf((float)c->width, x + rx + 1);
    int y0 = (int)fmaxf(0, y - ry), y1 = (int)fminf((float)c->height, y + ry + 1);
    for (int row = y0; row < y1; row++)
        for (int col = x0; col < x1; col++) {
            float dx = ((float)col + 0.5f - x) / rx, dy = ((float)row + 0.5f - y) / ry;
            float near = 1 - dx * dx - dy * dy;
            if (near <= 0)
                continue;
            float share = near * near * strength, *px = c->rgb + ((size_t)row * (size_t)c->width + (size_t)col) * 3;
            px[0] += (color.r - px[0]) * share;
            px[1] += (color.g - px[1]) * share;
            px[2] += (color.b - px[2]) * share;
        }
}

static uint32_t scramble(uint32_t v)
{
    v = (v ^ v >> 16) * 0x7feb352du;
    v = (v ^ v >> 15) * 0x846ca68bu;
    return v ^ v >> 16;
}

float noise_white(uint32_t seed, int x, int y)
{
    return (float)(scramble((uint32_t)x + scramble((uint32_t)y + scramble(seed))) >> 8) * 0x1p-24f;
}

float noise_smooth(uint32_t seed, float x, float y)
{
    int ix = (int)floorf(x), iy = (int)floorf(y);
    float fx = x - (float)ix, fy = y - (float)iy;
    fx = fx * fx * (3 - 2 * fx);
    fy = fy * fy * (3 - 2 * fy);
    float a = noise_white(seed, ix, iy), b = noise_white(seed, ix + 1, iy);
    float c = noise_white(seed, ix, iy + 1), d = noise_white(seed, ix + 1, iy + 1);
    return a + (b - a) * fx + (c - a) * fy + (a - b - c + d) * fx * fy;
}
