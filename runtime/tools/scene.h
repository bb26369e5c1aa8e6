/* scene.h -- the picture of a sample: backdrop, things, and the year's manner. */
#ifndef TIC_TOOLS_SCENE_H
#define TIC_TOOLS_SCENE_H
#include "plan.h"

/* Paints s->width x s->height pixels; RGB bytes, rows from the top. All things lie in the central square,
 * so a centre crop keeps them. The caller frees the result. */
uint8_t *scene_paint(const Sample *s, Dice *dice);
#endif
