/* scene.c -- see scene.h.
 *
 * Painter's order: backdrop, a soft shadow below each thing, the things, then vignette, tint and grain of
 * the year in the pass that turns floats into bytes. */
#include "scene.h"
#include <math.h>
#include <stdlib.h>

typedef struct {
    Canvas *canvas;
    float left, top, side;       /* the central square, pixels */
    int horizon;                 /* row where the ground begins */
    uint32_t seed;
    Dice *dice;
} Stage;

/* The manner of a year. Outlines in parts of the central square's side. */
static const struct {
    float outline;
    uint32_t ink;
    float shade, vignette, grain;
    uint32_t tint;
    float tint_share;
} manners[PLAN_LAST_YEAR - PLAN_FIRST_YEAR + 1] = {
    { 0.008f, 0x2b2018, 0.16f, 0.50f, 0.060f, 0xc79a5b, 0.16f },    /* 2014: warm filter, dark corners */
    { 0.007f, 0x2b2018, 0.14f, 0.40f, 0.050f, 0xd8b48a, 0.13f },    /* 2015: the same, fading */
    { 0.006f, 0x303038, 0.10f, 0.20f, 0.030f, 0x9fb8c8, 0.08f },    /* 2016: cool and plain */
    { 0.004f, 0x37474f, 0.00f, 0.00f, 0.000f, 0xffffff, 0.00f },    /* 2017: flat */
    { 0.012f, 0xffffff, 0.00f, 0.00f, 0.000f, 0xffe0ec, 0.06f },    /* 2018: stickers */
    { 0.014f, 0xffffff, 0.08f, 0.10f, 0.010f, 0xffd6e0, 0.08f },    /* 2019: stickers, pastel light */
    { 0.006f, 0x1e2430, 0.12f, 0.15f, 0.015f, 0xe8f0ff, 0.05f },    /* 2020: clean */
    { 0.013f, 0x14141c, 0.10f, 0.00f, 0.000f, 0xffffff, 0.00f },    /* 2021: bold ink */
    { 0.009f, 0x14141c, 0.26f, 0.12f, 0.000f, 0xb9a8ff, 0.07f },    /* 2022: glossy, violet light */
};

static float *pixel(Canvas *c, int x, int y)
{
    return c->rgb + ((size_t)y * (size_t)c->width + (size_t)x) * 3;
}

static void scale_pixel(float *px, float k)
{
    px[0] *= k;
    px[1] *= k;
    px[2] *= k;
}

/* ---- backdrops ----------------------------------------------------------------------------------- */

/* Brightness of rows y0 .. y1 wavers by `depth`; `fine` is the size of a speck in pixels, across and down. */
static void texture(const Stage *st, int y0, int y1, float depth, float across, float down)
{
    Canvas *c = st->canvas;
    for (int y = y0 < 0 ? 0 : y0; y < y1 && y < c->height; y++)
        for (int x = 0; x < c->width; x++)
            scale_pixel(pixel(c, x, y),
                        1 + depth * (noise_smooth(st->seed, (float)x / across, (float)y / down) - 0.5f));
}

static void sprinkle(const Stage *st, int n, int y0, int y1, float small, float large, Color color)
{
    Canvas *c = st->canvas;
    for (int i = 0; i < n; i++) {
        Pen pen = { .canvas = c, .scale = dice_range(st->dice, small, large) * st->side, .alpha = 0.9f };
        pen.x = dice_range(st->dice, 0, (float)c->width);
        pen.y = dice_range(st->dice, (float)y0, (float)y1);
        draw_oval(&pen, color, 0, 0, 1, 1, 0);
    }
}

static void cloud(const Stage *st, float x, float y, float size, Color color)
{
    Pen pen = { .canvas = st->canvas, .x = x, .y = y, .scale = size, .alpha = 0.9f };
    draw_rect(&pen, color, -1, -0.1f, 1, 0.35f, 0.22f);
    draw_oval(&pen, color, -0.4f, -0.1f, 0.42f, 0.36f, 0);
    draw_oval(&pen, color, 0.25f, -0.2f, 0.5f, 0.46f, 0);
}

static void clouds(const Stage *st, int n, int y0, int y1)
{
    for (int i = 0; i < n; i++)
        cloud(st, ((float)i + dice_range(st->dice, 0.1f, 0.9f)) * (float)st->canvas->width / (float)n,
              dice_range(st->dice, (float)y0, (float)y1), dice_range(st->dice, 0.12f, 0.2f) * st->side,
              color_hex(0xffffff));
}

static void disc(const Stage *st, float x, float y, float r, uint32_t color)
{
    Pen pen = { .canvas = st->canvas, .x = x, .y = y, .scale = r, .alpha = 1 };
    draw_oval(&pen, color_hex(color), 0, 0, 1, 1, 0);
}

static void box(const Stage *st, float x0, float y0, float x1, float y1, Color color)
{
    Pen pen = { .canvas = st->canvas, .scale = 1, .alpha = 1 };
    draw_rect(&pen, color, x0, y0, x1, y1, 0);
}

static void paint_grass(const Stage *st)
{
    int h = st->canvas->height;
    draw_ramp(st->canvas, 0, st->horizon, color_hex(0xa9d8f5), color_hex(0xe4f4fb));
    draw_ramp(st->canvas, st->horizon, h, color_hex(0x8cc152), color_hex(0x5c9a34));
    texture(st, st->horizon, h, 0.45f, st->side * 0.012f, st->side * 0.06f);
}

static void paint_night(const Stage *st)
{
    int w = st->canvas->width, h = st->canvas->height;
    draw_ramp(st->canvas, 0, h, color_hex(0x0a0f2c), color_hex(0x24306b));
    sprinkle(st, 60, 0, h * 4 / 5, 0.003f, 0.008f, color_hex(0xfff6d5));
    float x = st->left + st->side * 0.86f, y = st->top + st->side * 0.14f;
    draw_glow(st->canvas, x, y, st->side * 0.26f, st->side * 0.26f, color_hex(0x8fa0e0), 0.6f);
    disc(st, x, y, st->side * 0.09f, 0xfff3c4);
    disc(st, x - st->side * 0.03f, y - st->side * 0.02f, st->side * 0.022f, 0xe6d49a);
    disc(st, x + st->side * 0.03f, y + st->side * 0.03f, st->side * 0.016f, 0xe6d49a);
    Pen pen = { .canvas = st->canvas, .scale = 1, .alpha = 1 };
    draw_oval(&pen, color_hex(0x10162f), (float)w * 0.3f, (float)h, (float)w * 0.6f, st->side * 0.12f, 0);
}

static void paint_beach(const Stage *st)
{
    int h = st->canvas->height, sea = st->horizon - (int)(st->side * 0.22f);
    draw_ramp(st->canvas, 0, sea, color_hex(0x9fdcf7), color_hex(0xdff4fd));
    draw_ramp(st->canvas, sea, st->horizon, color_hex(0x1b87b8), color_hex(0x4fc3d9));
    texture(st, sea, st->horizon, 0.35f, st->side * 0.09f, st->side * 0.014f);
    draw_ramp(st->canvas, st->horizon, h, color_hex(0xf5e2b0), color_hex(0xe0c083));
    texture(st, st->horizon, h, 0.12f, st->side * 0.012f, st->side * 0.012f);
    box(st, 0, (float)st->horizon - st->side * 0.008f, (float)st->canvas->width, (float)st->horizon + st->side * 0.012f,
        color_hex(0xffffff));
    disc(st, st->left + st->side * 0.13f, st->top + st->side * 0.12f, st->side * 0.075f, 0xffe76b);
}

static void paint_snow(const Stage *st)
{
    int h = st->canvas->height;
    draw_ramp(st->canvas, 0, st->horizon, color_hex(0x8fa9bf), color_hex(0xc4d4e0));
    draw_ramp(st->canvas, st->horizon, h, color_hex(0xf4f8fc), color_hex(0xdbe7f2));
    Pen pen = { .canvas = st->canvas, .scale = st->side, .alpha = 1 };
    for (int i = 0; i < 4; i++) {
        pen.x = st->left + st->side * (0.05f + 0.3f * (float)i);
        pen.y = (float)st->horizon;
        Point fir[3] = { { 0, -0.28f }, { 0.09f, 0 }, { -0.09f, 0 } };
        draw_polygon(&pen, color_hex(0x4d6b78), fir, 3);
    }
    sprinkle(st, 90, 0, h, 0.004f, 0.011f, color_hex(0xffffff));
}

static void paint_table(const Stage *st)
{
    int h = st->canvas->height, w = st->canvas->width;
    draw_ramp(st->canvas, 0, h, color_hex(0xa9744a), color_hex(0x8d5a34));
    texture(st, 0, h, 0.4f, st->side * 0.3f, st->side * 0.012f);
    float plank = st->side / 5;
    for (float y = st->top - floorf(st->top / plank) * plank; y < (float)h; y += plank)
        box(st, 0, y, (float)w, y + st->side * 0.01f, color_hex(0x4f2f18));
}

static void paint_brick(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, c->height, color_hex(0xd9cfc4), color_hex(0xc4b8ac));
    float high = st->side / 10, wide = st->side / 5, gap = st->side * 0.012f;
    for (int row = 0; (float)row * high < (float)c->height; row++)
        for (int k = -1; (float)k * wide < (float)c->width; k++) {
            float x = ((float)k + (row & 1 ? 0.5f : 0)) * wide, y = (float)row * high;
            Color brick = color_mix(color_hex(0x8f3f2b), color_hex(0xb4553a), noise_white(st->seed, k, row));
            box(st, x + gap / 2, y + gap / 2, x + wide - gap / 2, y + high - gap / 2, brick);
        }
}

static void paint_street(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, st->horizon, color_hex(0xc9d6df), color_hex(0xeef2f5));
    float wide = st->side / 6;
    for (int k = 0; (float)k * wide < (float)c->width; k++) {
        float x = (float)k * wide, top = (float)st->horizon - st->side * dice_range(st->dice, 0.2f, 0.52f);
        Color wall = color_mix(color_hex(0x78909c), color_hex(0x9aa9b2), noise_white(st->seed, k, 3));
        box(st, x, top, x + wide * 0.92f, (float)st->horizon, wall);
        for (float y = top + wide * 0.2f; y < (float)st->horizon - wide * 0.3f; y += wide * 0.42f)
            for (int i = 0; i < 2; i++)
                box(st, x + wide * (0.18f + 0.36f * (float)i), y, x + wide * (0.38f + 0.36f * (float)i),
                    y + wide * 0.22f, color_hex(0xdfeaf0));
    }
    draw_ramp(c, st->horizon, c->height, color_hex(0x5a5d63), color_hex(0x44474d));
    float y = (float)st->horizon + st->side * 0.2f;
    for (float x = 0; x < (float)c->width; x += st->side * 0.25f)
        box(st, x, y, x + st->side * 0.13f, y + st->side * 0.025f, color_hex(0xf4f4f0));
}

static void paint_sky(const Stage *st)
{
    draw_ramp(st->canvas, 0, st->canvas->height, color_hex(0x3f9be8), color_hex(0xb7def9));
    clouds(st, 3, (int)(st->top + st->side * 0.08f), (int)(st->top + st->side * 0.25f));
    clouds(st, 3, (int)(st->top + st->side * 0.72f), (int)(st->top + st->side * 0.95f));
}

static void paint_checks(const Stage *st)
{
    Canvas *c = st->canvas;
    float cell = st->side / 8;
    for (int y = 0; y < c->height; y++)
        for (int x = 0; x < c->width; x++) {
            int a = (int)((float)x / cell) & 1, b = (int)((float)y / cell) & 1;
            Color k = color_mix(color_hex(0xfdf8f4), color_hex(0xd9737a), 0.5f * (float)(a + b));
            float *px = pixel(c, x, y);
            px[0] = k.r;
            px[1] = k.g;
            px[2] = k.b;
        }
}

static void paint_studio(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, c->height, color_hex(0xf7f7f7), color_hex(0xeeeeee));
    draw_glow(c, st->left + st->side / 2, st->top + st->side / 2, st->side * 0.8f, st->side * 0.8f,
        color_hex(0xffffff), 1);
}

static void paint_desert(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, st->horizon + (int)(st->side * 0.2f), color_hex(0x86c5de), color_hex(0xf6e7c9));
    Pen pen = { .canvas = c, .scale = 1, .alpha = 1 };
    float w = (float)c->width, h = (float)c->height, y = (float)st->horizon;
    box(st, 0, y + st->side * 0.1f, w, h, color_hex(0xd99a4e));
    draw_oval(&pen, color_hex(0xe0a75e), w * 0.2f, y + st->side * 0.25f, w * 0.62f, st->side * 0.25f, 0);
    draw_oval(&pen, color_hex(0xcb8b42), w * 0.92f, y + st->side * 0.32f, w * 0.55f, st->side * 0.24f, 0);
    draw_oval(&pen, color_hex(0xdca157), w * 0.4f, h + st->side * 0.08f, w * 0.85f, st->side * 0.3f, 0);
    Color cactus = color_hex(0x3f7a45);
    float x = st->left + st->side * 0.9f, k = st->side;
    draw_line(&pen, cactus, x, y - k * 0.12f, x, y + k * 0.12f, k * 0.045f);
    draw_line(&pen, cactus, x - k * 0.07f, y - k * 0.04f, x - k * 0.07f, y + k * 0.02f, k * 0.035f);
    draw_line(&pen, cactus, x - k * 0.07f, y + k * 0.02f, x, y + k * 0.02f, k * 0.035f);
}

static void paint_sunset(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, st->horizon, color_hex(0x5b3a8c), color_hex(0xff9a4d));
    float x = st->left + st->side * 0.5f, y = (float)st->horizon;
    draw_glow(c, x, y, st->side * 0.8f, st->side * 0.6f, color_hex(0xffd27a), 0.8f);
    disc(st, x, y, st->side * 0.16f, 0xffe9a8);
    draw_ramp(c, st->horizon, c->height, color_hex(0xb5533c), color_hex(0x3b2352));
    texture(st, st->horizon, c->height, 0.5f, st->side * 0.15f, st->side * 0.02f);
}

static void paint_neon(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, st->horizon, color_hex(0x14052b), color_hex(0x5a1280));
    draw_ramp(c, st->horizon, c->height, color_hex(0x2a0845), color_hex(0x0a0216));
    Pen pen = { .canvas = c, .scale = 1, .alpha = 0.9f };
    float w = (float)c->width, h = (float)c->height, y = (float)st->horizon, mid = st->left + st->side / 2;
    for (int i = -12; i <= 12; i++)
        draw_line(&pen, color_hex(0xff2fd0), mid + (float)i * st->side * 0.06f, y,
            mid + (float)i * st->side * 0.34f, h, st->side * 0.007f);
    for (int i = 0; i < 7; i++) {
        float row = y + (h - y) * (float)(i * i) / 36;
        draw_line(&pen, color_hex(0x28e0ff), 0, row, w, row, st->side * 0.008f);
    }
    draw_glow(c, mid, y, st->side * 0.6f, st->side * 0.3f, color_hex(0xff6fd8), 0.35f);
}

static void paint_call(const Stage *st)
{
    Canvas *c = st->canvas;
    draw_ramp(c, 0, c->height, color_hex(0x2b2d31), color_hex(0x1b1c1f));
    Pen pen = { .canvas = c, .scale = st->side / 2, .alpha = 1 };
    pen.x = st->left + pen.scale;
    pen.y = st->top + pen.scale;
    draw_rect(&pen, color_hex(0xd4dde6), -0.94f, -0.94f, 0.94f, 0.72f, 0.06f);
    draw_rect(&pen, color_hex(0xa9bccb), -0.94f, 0.3f, 0.94f, 0.72f, 0.06f);
    static const uint32_t buttons[4] = { 0x5f6670, 0x5f6670, 0x34a853, 0xea4335 };
    for (int i = 0; i < 4; i++)
        draw_oval(&pen, color_hex(buttons[i]), -0.36f + 0.24f * (float)i, 0.86f, 0.09f, 0.09f, 0);
}

static void (*const painters[N_BACKDROPS])(const Stage *) = {
    [GRASS] = paint_grass, [NIGHT] = paint_night, [BEACH] = paint_beach, [SNOW] = paint_snow, [TABLE] = paint_table,
    [BRICK] = paint_brick, [STREET] = paint_street, [SKY] = paint_sky, [CHECKS] = paint_checks, [STUDIO] = paint_studio,
    [DESERT] = paint_desert, [SUNSET] = paint_sunset, [NEON] = paint_neon, [CALL] = paint_call,
};

/* ---- things -------------------------------------------------------------------------------------- */

/* Places in the central square, [-1, 1], and the half side of each thing. */
static const struct { float half; Point at[PLAN_MAX_COUNT]; } layouts[PLAN_MAX_COUNT + 1] = {
    [1] = { 0.64f, { { 0, 0.05f } } },
    [2] = { 0.43f, { { -0.48f, 0.05f }, { 0.48f, 0.05f } } },
    [3] = { 0.39f, { { 0, -0.42f }, { -0.48f, 0.46f }, { 0.48f, 0.46f } } },
    [4] = { 0.38f, { { -0.47f, -0.45f }, { 0.47f, -0.45f }, { -0.47f, 0.47f }, { 0.47f, 0.47f } } },
    [5] = { 0.31f, { { -0.6f, -0.58f }, { 0.6f, -0.58f }, { 0, 0 }, { -0.6f, 0.6f }, { 0.6f, 0.6f } } },
};

static void paint_things(const Stage *st, const Sample *s)
{
    float half = layouts[s->count].half, shift = 0;
    if (s->size)
        half = s->size < 0 ? 0.3f : 0.86f;
    if (s->side) {
        half = 0.45f;
        shift = 0.48f * (float)s->side;
    }
    int year = s->year - PLAN_FIRST_YEAR;
    Color body = plan_color(s->year, s->color), ink = color_hex(manners[year].ink);
    if (color_luma(ink) > 0.9f && color_luma(body) > 0.85f)
        ink = color_hex(0x37474f);       /* a white thing wants a dark edge */
    if (color_luma(ink) < 0.3f && (s->backdrop == NIGHT || s->backdrop == NEON))
        ink = color_hex(0xd8d8e8);       /* and a dark night a light one */
    bool mirror = dice_chance(st->dice, 0.5f);
    for (int i = 0; i < s->count; i++) {
        float u = layouts[s->count].at[i].x + shift + dice_range(st->dice, -0.03f, 0.03f);
        float v = layouts[s->count].at[i].y + dice_range(st->dice, -0.03f, 0.03f);
        Pen pen = { .canvas = st->canvas, .alpha = 1, .mirror = mirror, .shade = manners[year].shade };
        pen.x = st->left + st->side * (u + 1) / 2;
        pen.y = st->top + st->side * (v + 1) / 2;
        pen.scale = st->side / 2 * half * dice_range(st->dice, 0.94f, 1.04f);
        pen.angle = dice_range(st->dice, -6, 6);
        if (s->backdrop != SKY && s->backdrop != NIGHT)      /* there things float */
            draw_glow(st->canvas, pen.x, pen.y + pen.scale, pen.scale * 1.1f, pen.scale * 0.24f,
                color_hex(0x101418), 0.5f);
        thing_draw(s->look, &pen, body, manners[year].outline * st->side * (0.5f + half * 0.6f), ink);
    }
}

/* ---- the year's light, and bytes ----------------------------------------------------------------- */

static uint8_t to_byte(float v)
{
    v = v * 255 + 0.5f;
    return v <= 0 ? 0 : v >= 255 ? 255 : (uint8_t)v;
}

static void develop(const Stage *st, const Sample *s, uint8_t *out)
{
    Canvas *c = st->canvas;
    int year = s->year - PLAN_FIRST_YEAR;
    float vignette = manners[year].vignette, grain = manners[year].grain, share = manners[year].tint_share;
    Color tint = color_hex(manners[year].tint);
    float cx = (float)c->width / 2, cy = (float)c->height / 2, far = 1 / (cx * cx + cy * cy);
    for (int y = 0; y < c->height; y++)
        for (int x = 0; x < c->width; x++, out += 3) {
            const float *px = pixel(c, x, y);
            float dx = (float)x - cx, dy = (float)y - cy, edge = (dx * dx + dy * dy) * far;
            float light = 1 - vignette * edge * edge;
            float speck = grain > 0 ? grain * (noise_white(st->seed, x, y) - 0.5f) : 0;
            Color k = color_mix((Color){ px[0], px[1], px[2] }, tint, share);
            k = (Color){ k.r * light + speck, k.g * light + speck, k.b * light + speck };
            if (s->color == PLAN_COLORS)
                k.r = k.g = k.b = color_luma(k);
            out[0] = to_byte(k.r);
            out[1] = to_byte(k.g);
            out[2] = to_byte(k.b);
        }
}

uint8_t *scene_paint(const Sample *s, Dice *dice)
{
    Canvas canvas = canvas_make(s->width, s->height);
    float side = (float)(s->width < s->height ? s->width : s->height);
    Stage st = { &canvas, ((float)s->width - side) / 2, ((float)s->height - side) / 2, side, 0, dice_bits(dice), dice };
    st.horizon = (int)(st.top + side * dice_range(dice, 0.56f, 0.66f));
    painters[s->backdrop](&st);
    paint_things(&st, s);
    uint8_t *out = tic_alloc((size_t)s->width * (size_t)s->height * 3);
    develop(&st, s, out);
    canvas_free(&canvas);
    return out;
}
