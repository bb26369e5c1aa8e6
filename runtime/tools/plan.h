/* plan.h -- what the synthetic stream shows and says in which year.
 *
 * A sample is drawn in three steps: what there is to see (plan_sample), the words for it (plan_caption),
 * the picture (scene.h). Things come and go with the years, change their look, and change their names. */
#ifndef TIC_TOOLS_PLAN_H
#define TIC_TOOLS_PLAN_H
#include "dice.h"
#include "things.h"

enum { PLAN_FIRST_YEAR = 2014, PLAN_LAST_YEAR = 2022, PLAN_MAX_COUNT = 5, PLAN_COLORS = 8 };

typedef enum {
    GRASS, NIGHT, BEACH, SNOW, TABLE, BRICK, STREET, SKY, CHECKS, STUDIO, DESERT, SUNSET, NEON, CALL, N_BACKDROPS
} Backdrop;

typedef struct {
    int year, month;         /* month 1 .. 12 */
    int64_t seconds;         /* since 1970, UTC */
    int thing;               /* row of the table of things: also the class id */
    const Part *look;
    int color;               /* 0 .. PLAN_COLORS-1; PLAN_COLORS in a black and white photo */
    int count;               /* 1 .. PLAN_MAX_COUNT */
    Backdrop backdrop;
    int size, side;          /* -1 small, left; 0 unsaid; 1 big, right */
    int width, height;       /* pixels */
    bool png, progressive;
    int quality;             /* JPEG, 75 .. 95 */
    char uid[33];            /* 32 hex digits */
    uint64_t uid_high, uid_low;
    char caption[512];       /* UTF-8; lines parted by newline characters */
} Sample;

int plan_things(void);
const char *plan_thing_name(int thing);          /* the class name */

/* Fills all of `s` but caption, uid and year (given). */
void plan_sample(Sample *s, int year, Dice *dice);
/* Writes s->caption with `lines` >= 1 lines. `strict`: every line says count, colour, thing and backdrop. */
void plan_caption(Sample *s, Dice *dice, int lines, bool strict);
/* Equal for samples whose strict captions may be equal; below PLAN_KEYS. */
int  plan_key(const Sample *s);
enum { PLAN_KEYS = 64 * (PLAN_COLORS + 1) * (PLAN_MAX_COUNT + 1) * N_BACKDROPS };

/* Body colours: three palettes, a newer one every three years. */
Color plan_color(int year, int color);
#endif
