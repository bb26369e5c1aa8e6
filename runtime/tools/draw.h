/* draw.h -- a small software painter: filled and stroked shapes with exact area antialiasing.
 *
 * A canvas holds RGB in floats, 0..1, row by row from the top. A pen places shapes: shape coordinates
 * are in the pen's unit box, [-1, 1] in both directions with y downwards, then mirrored, turned, scaled
 * and moved to the pen's place in pixels. Angles are degrees, clockwise on the screen, 0 to the right.
 *
 * Nothing fails: a shape outside the canvas is clipped, an empty one paints nothing. */
#ifndef TIC_TOOLS_DRAW_H
#define TIC_TOOLS_DRAW_H
#include <stdbool.h>
#include <stdint.h>

typedef struct { float r, g, b; } Color;
typedef struct { float x, y; } Point;

typedef struct {
    int width, height;
    float *rgb;      /* [height, width, 3] */
    float *cover;    /* [height, width + 2] signed coverage differences; all zero between shapes */
} Canvas;

typedef struct {
    Canvas *canvas;
    float x, y;      /* pixels: where the unit box's centre lies */
    float scale;     /* pixels per unit: half the box's side */
    float angle;     /* degrees */
    bool mirror;
    float shade;     /* 0: flat; else the shape is lighter by this above and darker below */
    float grow;      /* pixels added around every shape (silhouettes) */
    float alpha;     /* 1: opaque */
} Pen;

Canvas canvas_make(int width, int height);      /* black; canvas_free it */
void   canvas_free(Canvas *c);

Color color_hex(uint32_t rrggbb);
Color color_mix(Color a, Color b, float t);     /* t = 0: a; t = 1: b */
float color_luma(Color c);                      /* Rec. 601 weights */

/* Shapes, in the pen's unit box. */
void draw_polygon(const Pen *pen, Color color, const Point *points, int n);           /* n <= 64 */
void draw_rect(const Pen *pen, Color color, float x0, float y0, float x1, float y1, float radius);
void draw_oval(const Pen *pen, Color color, float x, float y, float rx, float ry, float turn);
/* The part of an oval between two angles and its chord. */
void draw_segment(const Pen *pen, Color color, float x, float y, float rx, float ry, float from, float to);
void draw_line(const Pen *pen, Color color, float x0, float y0, float x1, float y1, float width);
void draw_arc(const Pen *pen, Color color, float x, float y, float r, float from, float to, float width);
/* Quadratic curve through two ends, pulled to (cx, cy). */
void draw_curve(const Pen *pen, Color color, float x0, float y0, float cx, float cy, float x1, float y1, float width);

/* Whole-canvas helpers, in pixels. */
void draw_ramp(Canvas *c, int y0, int y1, Color top, Color bottom);                   /* rows y0 .. y1-1 */
void draw_glow(Canvas *c, float x, float y, float rx, float ry, Color color, float strength);  /* soft disc */

/* Smooth noise in 0..1, and white noise in 0..1: pure functions of their arguments. */
float noise_smooth(uint32_t seed, float x, float y);
float noise_white(uint32_t seed, int x, int y);
#endif
