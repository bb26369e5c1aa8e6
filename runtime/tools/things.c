/* things.c -- see things.h. The tables are the drawings: back to front, one part a row. */
#include "things.h"

#define LOOK(name, ...) const Part look_##name[] = { __VA_ARGS__, { PART_END, BODY, { 0 } } }
#define WHEEL(x, y, r) { OVAL, INK, { x, y, r, r } }, { OVAL, STEEL, { x, y, (r) * 0.45f, (r) * 0.45f } }
#define EYE(x, y, r) { OVAL, WHITE, { x, y, r, r } }, { OVAL, INK, { x, y, (r) * 0.55f, (r) * 0.55f } }

LOOK(car,
    { QUAD, DEEP, { -0.62f, -0.05f, -0.36f, -0.55f, 0.3f, -0.55f, 0.66f, -0.05f } },
    { QUAD, GLASS, { -0.46f, -0.08f, -0.28f, -0.44f, -0.04f, -0.44f, -0.04f, -0.08f } },
    { QUAD, GLASS, { 0.05f, -0.08f, 0.05f, -0.44f, 0.25f, -0.44f, 0.5f, -0.08f } },
    { RECT, BODY, { -1, -0.12f, 1, 0.38f, 0.16f } },
    { LINE, DEEP, { 0, -0.02f, 0, 0.3f, 0.03f } },
    { RECT, GLOW, { 0.84f, -0.02f, 0.99f, 0.12f, 0.05f } },
    WHEEL(-0.55f, 0.38f, 0.25f), WHEEL(0.55f, 0.38f, 0.25f));
LOOK(car_electric,
    { CAP, BODY, { 0.02f, 0.12f, 0.97f, 0.68f, 180, 360 } },
    { RECT, BODY, { -1, 0, 1, 0.38f, 0.2f } },
    { CAP, GLASS, { 0.02f, 0.02f, 0.66f, 0.46f, 180, 360 } },
    { LINE, BODY, { 0.02f, -0.5f, 0.02f, 0.02f, 0.07f } },
    { QUAD, GOLD, { -0.02f, 0.06f, 0.1f, 0.06f, 0.02f, 0.2f, -0.1f, 0.2f } },
    { TRI, GOLD, { -0.03f, 0.17f, 0.08f, 0.17f, -0.06f, 0.35f } },
    { OVAL, WHITE, { 0.93f, 0.12f, 0.06f, 0.09f } },
    WHEEL(-0.58f, 0.38f, 0.25f), WHEEL(0.58f, 0.38f, 0.25f));
LOOK(tree,
    { RECT, WOOD, { -0.13f, 0.2f, 0.13f, 1, 0.03f } },
    { OVAL, BODY, { -0.42f, -0.02f, 0.43f, 0.4f } },
    { OVAL, BODY, { 0.42f, -0.02f, 0.43f, 0.4f } },
    { OVAL, BODY, { 0, -0.42f, 0.58f, 0.56f } },
    { OVAL, PALE, { -0.18f, -0.55f, 0.2f, 0.15f, -25 } },
    { OVAL, DEEP, { 0.32f, 0.08f, 0.2f, 0.12f, -20 } });
LOOK(tree_pine,
    { RECT, WOOD, { -0.12f, 0.6f, 0.12f, 1, 0.02f } },
    { TRI, DEEP, { 0, -0.3f, 0.8f, 0.72f, -0.8f, 0.72f } },
    { TRI, BODY, { 0, -0.65f, 0.65f, 0.3f, -0.65f, 0.3f } },
    { TRI, PALE, { 0, -1, 0.46f, -0.22f, -0.46f, -0.22f } });
LOOK(house,
    { RECT, DEEP, { 0.38f, -0.85f, 0.6f, -0.3f } },
    { RECT, BODY, { -0.75f, -0.2f, 0.75f, 0.9f } },
    { TRI, DEEP, { -0.98f, -0.15f, 0, -0.98f, 0.98f, -0.15f } },
    { RECT, WOOD, { -0.17f, 0.3f, 0.17f, 0.9f, 0.03f } },
    { OVAL, GOLD, { 0.09f, 0.62f, 0.04f, 0.04f } },
    { RECT, GLOW, { -0.6f, 0.05f, -0.28f, 0.38f } },
    { RECT, GLOW, { 0.28f, 0.05f, 0.6f, 0.38f } },
    { LINE, INK, { -0.44f, 0.05f, -0.44f, 0.38f, 0.03f } },
    { LINE, INK, { 0.44f, 0.05f, 0.44f, 0.38f, 0.03f } },
    { OVAL, GLASS, { 0, -0.48f, 0.14f, 0.14f } });
LOOK(kite,
    { CURVE, INK, { 0, 0.42f, 0.5f, 0.7f, 0.1f, 1, 0.04f } },
    { TRI, PALE, { 0.05f, 0.68f, 0.3f, 0.55f, 0.32f, 0.75f } },
    { TRI, PALE, { 0.27f, 0.84f, 0.48f, 0.72f, 0.46f, 0.95f } },
    { QUAD, BODY, { 0, -1, 0.68f, -0.32f, 0, 0.46f, -0.68f, -0.32f } },
    { TRI, DEEP, { 0, -1, 0.68f, -0.32f, 0, -0.32f } },
    { TRI, PALE, { 0, 0.46f, 0, -0.32f, -0.68f, -0.32f } },
    { LINE, INK, { 0, -0.98f, 0, 0.44f, 0.035f } },
    { LINE, INK, { -0.66f, -0.32f, 0.66f, -0.32f, 0.035f } });
LOOK(phone_keys,
    { RECT, BODY, { 0.22f, -1, 0.36f, -0.6f, 0.06f } },
    { RECT, BODY, { -0.46f, -0.8f, 0.46f, 1, 0.16f } },
    { RECT, INK, { -0.35f, -0.66f, 0.35f, 0.04f, 0.05f } },
    { RECT, GLASS, { -0.3f, -0.6f, 0.3f, -0.02f, 0.03f } },
    { RECT, WHITE, { -0.33f, 0.18f, -0.13f, 0.33f, 0.05f } }, { RECT, WHITE, { -0.1f, 0.18f, 0.1f, 0.33f, 0.05f } },
    { RECT, WHITE, { 0.13f, 0.18f, 0.33f, 0.33f, 0.05f } }, { RECT, WHITE, { -0.33f, 0.42f, -0.13f, 0.57f, 0.05f } },
    { RECT, WHITE, { -0.1f, 0.42f, 0.1f, 0.57f, 0.05f } }, { RECT, WHITE, { 0.13f, 0.42f, 0.33f, 0.57f, 0.05f } },
    { RECT, WHITE, { -0.33f, 0.66f, -0.13f, 0.81f, 0.05f } }, { RECT, WHITE, { -0.1f, 0.66f, 0.1f, 0.81f, 0.05f } },
    { RECT, WHITE, { 0.13f, 0.66f, 0.33f, 0.81f, 0.05f } });
LOOK(phone_glass,
    { RECT, BODY, { -0.58f, -1, 0.58f, 1, 0.2f } },
    { RECT, INK, { -0.44f, -0.86f, 0.44f, 0.86f, 0.1f } },
    { RECT, GLASS, { -0.4f, -0.8f, 0.4f, 0.8f, 0.07f } },
    { RECT, INK, { -0.15f, -0.82f, 0.15f, -0.73f, 0.04f } },
    { RECT, BODY, { -0.3f, -0.55f, -0.06f, -0.31f, 0.06f } }, { RECT, GOLD, { 0.06f, -0.55f, 0.3f, -0.31f, 0.06f } },
    { RECT, LEAF, { -0.3f, -0.18f, -0.06f, 0.06f, 0.06f } }, { RECT, BODY, { 0.06f, -0.18f, 0.3f, 0.06f, 0.06f } },
    { RECT, WHITE, { -0.3f, 0.45f, 0.3f, 0.66f, 0.08f } });
LOOK(drone,
    { LINE, INK, { -0.6f, -0.5f, 0.6f, 0.5f, 0.12f } }, { LINE, INK, { -0.6f, 0.5f, 0.6f, -0.5f, 0.12f } },
    { OVAL, STEEL, { -0.62f, -0.52f, 0.34f, 0.34f } }, { OVAL, STEEL, { 0.62f, -0.52f, 0.34f, 0.34f } },
    { OVAL, STEEL, { -0.62f, 0.52f, 0.34f, 0.34f } }, { OVAL, STEEL, { 0.62f, 0.52f, 0.34f, 0.34f } },
    { ARC, BODY, { -0.62f, -0.52f, 0.33f, 0, 360, 0.1f } }, { ARC, BODY, { 0.62f, -0.52f, 0.33f, 0, 360, 0.1f } },
    { ARC, BODY, { -0.62f, 0.52f, 0.33f, 0, 360, 0.1f } }, { ARC, BODY, { 0.62f, 0.52f, 0.33f, 0, 360, 0.1f } },
    { LINE, INK, { -0.86f, -0.52f, -0.38f, -0.52f, 0.06f } }, { LINE, INK, { 0.38f, -0.52f, 0.86f, -0.52f, 0.06f } },
    { LINE, INK, { -0.86f, 0.52f, -0.38f, 0.52f, 0.06f } }, { LINE, INK, { 0.38f, 0.52f, 0.86f, 0.52f, 0.06f } },
    { RECT, BODY, { -0.34f, -0.36f, 0.34f, 0.36f, 0.14f } },
    { OVAL, INK, { 0, 0, 0.18f, 0.18f } }, { OVAL, GLASS, { 0, 0, 0.1f, 0.1f } });
LOOK(scooter,
    WHEEL(-0.72f, 0.75f, 0.22f), WHEEL(0.7f, 0.75f, 0.22f),
    { LINE, BODY, { -0.68f, 0.6f, 0.5f, 0.6f, 0.2f } },
    { LINE, BODY, { 0.66f, 0.62f, 0.34f, -0.78f, 0.16f } },
    { LINE, INK, { 0.02f, -0.84f, 0.56f, -0.76f, 0.12f } },
    { RECT, GLOW, { 0.4f, -0.6f, 0.58f, -0.46f, 0.05f } },
    { LINE, INK, { -0.5f, 0.53f, 0.32f, 0.53f, 0.06f } });
LOOK(mask,
    { ARC, STEEL, { -0.66f, 0, 0.28f, 90, 270, 0.06f } }, { ARC, STEEL, { 0.66f, 0, 0.28f, -90, 90, 0.06f } },
    { RECT, BODY, { -0.7f, -0.5f, 0.7f, 0.4f, 0.18f } },
    { CAP, BODY, { 0, 0.25f, 0.62f, 0.38f, 0, 180 } },
    { LINE, DEEP, { -0.6f, -0.24f, 0.6f, -0.24f, 0.05f } }, { LINE, DEEP, { -0.62f, 0, 0.62f, 0, 0.05f } },
    { LINE, DEEP, { -0.58f, 0.24f, 0.58f, 0.24f, 0.05f } },
    { LINE, PALE, { -0.35f, -0.4f, 0.35f, -0.4f, 0.06f } });
LOOK(sailboat,
    { LINE, WOOD, { 0, -1, 0, 0.5f, 0.07f } },
    { TRI, BODY, { 0.08f, -0.96f, 0.08f, 0.32f, 0.82f, 0.32f } },
    { TRI, PALE, { -0.08f, -0.74f, -0.08f, 0.32f, -0.7f, 0.32f } },
    { QUAD, DEEP, { -0.98f, 0.46f, 0.98f, 0.46f, 0.64f, 0.92f, -0.64f, 0.92f } },
    { LINE, WHITE, { -0.82f, 0.6f, 0.82f, 0.6f, 0.05f } });
LOOK(balloon,
    { CURVE, INK, { 0, 0.42f, 0.3f, 0.7f, 0, 1, 0.035f } },
    { TRI, DEEP, { 0, 0.34f, 0.13f, 0.52f, -0.13f, 0.52f } },
    { OVAL, BODY, { 0, -0.3f, 0.62f, 0.7f } },
    { OVAL, PALE, { -0.24f, -0.58f, 0.12f, 0.2f, 25 } });
LOOK(flower,
    { LINE, LEAF, { 0, -0.2f, 0, 1, 0.1f } },
    { OVAL, LEAF, { 0.27f, 0.62f, 0.27f, 0.12f, -35 } }, { OVAL, LEAF, { -0.27f, 0.75f, 0.27f, 0.12f, 35 } },
    { OVAL, BODY, { 0.4f, -0.38f, 0.28f, 0.22f } }, { OVAL, BODY, { 0.2f, -0.04f, 0.28f, 0.22f, 60 } },
    { OVAL, BODY, { -0.2f, -0.04f, 0.28f, 0.22f, 120 } }, { OVAL, BODY, { -0.4f, -0.38f, 0.28f, 0.22f } },
    { OVAL, BODY, { -0.2f, -0.72f, 0.28f, 0.22f, 60 } }, { OVAL, BODY, { 0.2f, -0.72f, 0.28f, 0.22f, 120 } },
    { OVAL, WOOD, { 0, -0.38f, 0.22f, 0.22f } });
LOOK(fish,
    { TRI, DEEP, { 0.42f, 0, 1, -0.48f, 1, 0.48f } },
    { TRI, DEEP, { -0.3f, -0.3f, 0.3f, -0.3f, 0.3f, -0.72f } },
    { TRI, DEEP, { -0.1f, 0.3f, 0.25f, 0.3f, 0.25f, 0.6f } },
    { OVAL, BODY, { -0.18f, 0, 0.78f, 0.48f } },
    { ARC, PALE, { -0.55f, 0, 0.4f, -55, 55, 0.07f } }, { ARC, PALE, { -0.25f, 0, 0.4f, -50, 50, 0.07f } },
    EYE(-0.6f, -0.1f, 0.13f));
LOOK(bird,
    { QUAD, DEEP, { 0.4f, 0, 1, -0.25f, 0.95f, 0.1f, 0.45f, 0.35f } },
    { LINE, GOLD, { -0.1f, 0.5f, -0.1f, 0.92f, 0.07f } }, { LINE, GOLD, { 0.15f, 0.5f, 0.15f, 0.92f, 0.07f } },
    { TRI, GOLD, { -0.72f, -0.5f, -1, -0.32f, -0.72f, -0.2f } },
    { OVAL, BODY, { 0, 0.15f, 0.62f, 0.44f } }, { OVAL, BODY, { -0.46f, -0.35f, 0.34f, 0.34f } },
    { OVAL, DEEP, { 0.18f, 0.1f, 0.38f, 0.2f, 18 } },
    EYE(-0.55f, -0.42f, 0.1f));
LOOK(cat,
    { TRI, BODY, { -0.78f, -0.95f, -0.12f, -0.45f, -0.74f, 0.05f } },
    { TRI, BODY, { 0.78f, -0.95f, 0.12f, -0.45f, 0.74f, 0.05f } },
    { TRI, PALE, { -0.66f, -0.72f, -0.3f, -0.42f, -0.64f, -0.15f } },
    { TRI, PALE, { 0.66f, -0.72f, 0.3f, -0.42f, 0.64f, -0.15f } },
    { OVAL, BODY, { 0, 0.15f, 0.85f, 0.7f } },
    { OVAL, GLOW, { -0.34f, 0, 0.18f, 0.2f } }, { OVAL, GLOW, { 0.34f, 0, 0.18f, 0.2f } },
    { OVAL, INK, { -0.34f, 0, 0.06f, 0.18f } }, { OVAL, INK, { 0.34f, 0, 0.06f, 0.18f } },
    { TRI, INK, { -0.1f, 0.27f, 0.1f, 0.27f, 0, 0.38f } },
    { ARC, INK, { -0.13f, 0.4f, 0.13f, 0, 150, 0.045f } }, { ARC, INK, { 0.13f, 0.4f, 0.13f, 30, 180, 0.045f } },
    { LINE, INK, { -0.45f, 0.38f, -1, 0.3f, 0.03f } }, { LINE, INK, { -0.45f, 0.46f, -1, 0.54f, 0.03f } },
    { LINE, INK, { 0.45f, 0.38f, 1, 0.3f, 0.03f } }, { LINE, INK, { 0.45f, 0.46f, 1, 0.54f, 0.03f } });
LOOK(dog,
    { OVAL, BODY, { 0, 0, 0.64f, 0.76f } },
    { OVAL, DEEP, { -0.68f, -0.08f, 0.22f, 0.56f, 10 } }, { OVAL, DEEP, { 0.68f, -0.08f, 0.22f, 0.56f, -10 } },
    { OVAL, PALE, { 0, 0.36f, 0.42f, 0.34f } },
    EYE(-0.26f, -0.18f, 0.13f), EYE(0.26f, -0.18f, 0.13f),
    { OVAL, INK, { 0, 0.22f, 0.16f, 0.11f } },
    { ARC, INK, { 0, 0.36f, 0.16f, 20, 160, 0.05f } });
LOOK(mug,
    { CURVE, STEEL, { -0.25f, -0.62f, -0.45f, -0.8f, -0.22f, -1, 0.06f } },
    { CURVE, STEEL, { 0.1f, -0.62f, -0.1f, -0.8f, 0.13f, -1, 0.06f } },
    { ARC, BODY, { 0.5f, 0.12f, 0.36f, -90, 90, 0.16f } },
    { RECT, BODY, { -0.65f, -0.5f, 0.5f, 0.85f, 0.14f } },
    { OVAL, DEEP, { -0.075f, -0.48f, 0.57f, 0.13f } }, { OVAL, WOOD, { -0.075f, -0.46f, 0.46f, 0.09f } },
    { RECT, PALE, { -0.5f, -0.2f, -0.36f, 0.6f, 0.07f } });
LOOK(umbrella,
    { LINE, WOOD, { 0, -0.98f, 0, 0.75f, 0.08f } },
    { ARC, WOOD, { 0.17f, 0.75f, 0.17f, 0, 180, 0.08f } },
    { CAP, BODY, { 0, 0.12f, 1, 1, 180, 360 } },
    { CAP, DEEP, { 0, 0.12f, 0.36f, 0.98f, 180, 360 } },
    { CAP, PALE, { -0.67f, 0.12f, 0.33f, 0.2f, 180, 360 } }, { CAP, PALE, { 0, 0.12f, 0.34f, 0.2f, 180, 360 } },
    { CAP, PALE, { 0.67f, 0.12f, 0.33f, 0.2f, 180, 360 } });
LOOK(armchair,
    { LINE, WOOD, { -0.7f, 0.6f, -0.76f, 0.94f, 0.12f } }, { LINE, WOOD, { 0.7f, 0.6f, 0.76f, 0.94f, 0.12f } },
    { RECT, DEEP, { -0.7f, -0.9f, 0.7f, 0.6f, 0.3f } },
    { RECT, PALE, { -0.62f, 0.02f, 0.62f, 0.4f, 0.12f } },
    { RECT, BODY, { -0.65f, 0.34f, 0.65f, 0.74f, 0.08f } },
    { RECT, BODY, { -1, -0.2f, -0.58f, 0.76f, 0.18f } }, { RECT, BODY, { 0.58f, -0.2f, 1, 0.76f, 0.18f } },
    { OVAL, BODY, { -0.25f, -0.45f, 0.05f, 0.05f } }, { OVAL, BODY, { 0.25f, -0.45f, 0.05f, 0.05f } });
LOOK(lamp,
    { LINE, STEEL, { 0, -0.1f, 0, 0.8f, 0.1f } }, { OVAL, STEEL, { 0, 0.86f, 0.45f, 0.13f } },
    { OVAL, GLOW, { 0, -0.06f, 0.6f, 0.14f } },
    { QUAD, BODY, { -0.32f, -0.95f, 0.32f, -0.95f, 0.74f, -0.06f, -0.74f, -0.06f } },
    { QUAD, PALE, { -0.2f, -0.95f, -0.02f, -0.95f, -0.1f, -0.06f, -0.46f, -0.06f } });
LOOK(bicycle,
    { ARC, INK, { -0.58f, 0.36f, 0.38f, 0, 360, 0.09f } }, { ARC, INK, { 0.58f, 0.36f, 0.38f, 0, 360, 0.09f } },
    { LINE, STEEL, { -0.58f, 0.02f, -0.58f, 0.7f, 0.03f } }, { LINE, STEEL, { -0.92f, 0.36f, -0.24f, 0.36f, 0.03f } },
    { LINE, STEEL, { 0.58f, 0.02f, 0.58f, 0.7f, 0.03f } }, { LINE, STEEL, { 0.24f, 0.36f, 0.92f, 0.36f, 0.03f } },
    { LINE, BODY, { -0.58f, 0.36f, -0.06f, 0.4f, 0.11f } }, { LINE, BODY, { -0.06f, 0.4f, -0.3f, -0.36f, 0.11f } },
    { LINE, BODY, { -0.58f, 0.36f, -0.24f, -0.16f, 0.11f } }, { LINE, BODY, { -0.06f, 0.4f, 0.38f, -0.2f, 0.11f } },
    { LINE, BODY, { -0.24f, -0.16f, 0.38f, -0.2f, 0.11f } }, { LINE, BODY, { 0.58f, 0.36f, 0.32f, -0.46f, 0.1f } },
    { LINE, INK, { -0.48f, -0.4f, -0.14f, -0.4f, 0.12f } }, { LINE, INK, { 0.14f, -0.52f, 0.52f, -0.5f, 0.1f } });
LOOK(bus,
    { RECT, BODY, { -1, -0.65f, 1, 0.5f, 0.14f } },
    { RECT, GLASS, { -0.88f, -0.48f, -0.52f, -0.1f, 0.05f } },
    { RECT, GLASS, { -0.44f, -0.48f, -0.08f, -0.1f, 0.05f } },
    { RECT, GLASS, { 0, -0.48f, 0.36f, -0.1f, 0.05f } }, { RECT, GLASS, { 0.5f, -0.48f, 0.96f, 0, 0.05f } },
    { RECT, PALE, { -1, 0.06f, 1, 0.18f } },
    { RECT, GLOW, { 0.86f, 0.26f, 0.99f, 0.38f, 0.04f } },
    WHEEL(-0.58f, 0.5f, 0.24f), WHEEL(0.55f, 0.5f, 0.24f));
LOOK(airplane,
    { QUAD, DEEP, { 0, -0.22f, 1, 0.28f, 1, 0.46f, 0, 0.24f } },
    { QUAD, DEEP, { 0, -0.22f, -1, 0.28f, -1, 0.46f, 0, 0.24f } },
    { QUAD, DEEP, { 0, 0.58f, 0.42f, 0.84f, 0.42f, 0.96f, 0, 0.88f } },
    { QUAD, DEEP, { 0, 0.58f, -0.42f, 0.84f, -0.42f, 0.96f, 0, 0.88f } },
    { OVAL, STEEL, { -0.48f, 0.08f, 0.09f, 0.17f } }, { OVAL, STEEL, { 0.48f, 0.08f, 0.09f, 0.17f } },
    { OVAL, BODY, { 0, 0, 0.2f, 0.98f } },
    { CAP, GLASS, { 0, -0.62f, 0.13f, 0.2f, 180, 360 } },
    { LINE, PALE, { 0, -0.4f, 0, 0.7f, 0.05f } });
LOOK(hat,
    { OVAL, DEEP, { 0, 0.46f, 1, 0.26f } }, { OVAL, BODY, { 0, 0.4f, 1, 0.24f } },
    { RECT, BODY, { -0.54f, -0.8f, 0.54f, 0.4f, 0.14f } },
    { OVAL, BODY, { 0, 0.38f, 0.54f, 0.14f } },
    { RECT, INK, { -0.54f, 0.08f, 0.54f, 0.32f } },
    { RECT, GOLD, { -0.12f, 0.08f, 0.12f, 0.32f, 0.04f } });
LOOK(shirt,
    { QUAD, DEEP, { -0.46f, -0.8f, -1, -0.3f, -0.76f, 0.02f, -0.4f, -0.25f } },
    { QUAD, DEEP, { 0.46f, -0.8f, 1, -0.3f, 0.76f, 0.02f, 0.4f, -0.25f } },
    { RECT, BODY, { -0.55f, -0.82f, 0.55f, 0.95f, 0.08f } },
    { CAP, INK, { 0, -0.82f, 0.28f, 0.24f, 0, 180 } },
    { RECT, PALE, { -0.55f, 0.05f, 0.55f, 0.25f } });
LOOK(guitar,
    { RECT, WOOD, { -0.13f, -1, 0.13f, -0.72f, 0.05f } },
    { OVAL, BODY, { 0, 0.1f, 0.4f, 0.34f } }, { OVAL, BODY, { 0, 0.56f, 0.56f, 0.42f } },
    { RECT, WOOD, { -0.075f, -0.75f, 0.075f, 0.24f } },
    { OVAL, INK, { 0, 0.32f, 0.17f, 0.17f } },
    { RECT, INK, { -0.22f, 0.66f, 0.22f, 0.74f, 0.02f } },
    { LINE, STEEL, { -0.03f, -0.9f, -0.03f, 0.68f, 0.015f } },
    { LINE, STEEL, { 0.03f, -0.9f, 0.03f, 0.68f, 0.015f } });
LOOK(clock,
    { LINE, DEEP, { -0.45f, 0.75f, -0.6f, 0.98f, 0.14f } }, { LINE, DEEP, { 0.45f, 0.75f, 0.6f, 0.98f, 0.14f } },
    { OVAL, BODY, { 0, 0, 0.95f, 0.95f } }, { OVAL, WHITE, { 0, 0, 0.7f, 0.7f } },
    { LINE, INK, { 0, -0.62f, 0, -0.52f, 0.06f } }, { LINE, INK, { 0, 0.62f, 0, 0.52f, 0.06f } },
    { LINE, INK, { -0.62f, 0, -0.52f, 0, 0.06f } }, { LINE, INK, { 0.62f, 0, 0.52f, 0, 0.06f } },
    { LINE, INK, { 0, 0, 0, -0.46f, 0.08f } }, { LINE, INK, { 0, 0, 0.32f, 0.16f, 0.08f } },
    { OVAL, BODY, { 0, 0, 0.09f, 0.09f } });
LOOK(laptop,
    { RECT, BODY, { -0.8f, -0.78f, 0.8f, 0.34f, 0.1f } },
    { RECT, GLASS, { -0.66f, -0.64f, 0.66f, 0.2f, 0.02f } },
    { LINE, WHITE, { -0.5f, -0.4f, 0.2f, -0.4f, 0.06f } }, { LINE, WHITE, { -0.5f, -0.2f, 0.4f, -0.2f, 0.06f } },
    { LINE, WHITE, { -0.5f, 0, 0, 0, 0.06f } },
    { QUAD, DEEP, { -0.8f, 0.34f, 0.8f, 0.34f, 1, 0.7f, -1, 0.7f } },
    { QUAD, INK, { -0.68f, 0.4f, 0.68f, 0.4f, 0.74f, 0.52f, -0.74f, 0.52f } },
    { RECT, STEEL, { -0.2f, 0.56f, 0.2f, 0.66f, 0.02f } });
LOOK(headphones,
    { ARC, BODY, { 0, 0.05f, 0.78f, 180, 360, 0.2f } },
    { RECT, INK, { -0.68f, 0.02f, -0.42f, 0.76f, 0.1f } }, { RECT, INK, { 0.42f, 0.02f, 0.68f, 0.76f, 0.1f } },
    { RECT, BODY, { -1, -0.04f, -0.58f, 0.82f, 0.18f } }, { RECT, BODY, { 0.58f, -0.04f, 1, 0.82f, 0.18f } },
    { LINE, PALE, { -0.8f, 0.15f, -0.8f, 0.6f, 0.08f } }, { LINE, PALE, { 0.8f, 0.15f, 0.8f, 0.6f, 0.08f } });
LOOK(earbuds,
    { RECT, BODY, { -0.72f, -0.5f, -0.44f, 0.9f, 0.13f } }, { RECT, BODY, { 0.44f, -0.5f, 0.72f, 0.9f, 0.13f } },
    { OVAL, BODY, { -0.5f, -0.45f, 0.42f, 0.38f } }, { OVAL, BODY, { 0.5f, -0.45f, 0.42f, 0.38f } },
    { OVAL, INK, { -0.24f, -0.45f, 0.11f, 0.18f, 12 } }, { OVAL, INK, { 0.24f, -0.45f, 0.11f, 0.18f, -12 } },
    { LINE, STEEL, { -0.58f, 0.82f, -0.58f, 0.7f, 0.1f } }, { LINE, STEEL, { 0.58f, 0.82f, 0.58f, 0.7f, 0.1f } });
LOOK(camera,
    { RECT, DEEP, { -0.34f, -0.76f, 0.34f, -0.3f, 0.08f } }, { RECT, INK, { -0.8f, -0.64f, -0.5f, -0.4f, 0.05f } },
    { RECT, BODY, { -1, -0.52f, 1, 0.72f, 0.14f } },
    { RECT, DEEP, { -1, -0.2f, 1, -0.1f } },
    { OVAL, STEEL, { 0, 0.14f, 0.5f, 0.5f } }, { OVAL, INK, { 0, 0.14f, 0.42f, 0.42f } },
    { OVAL, GLASS, { 0, 0.14f, 0.24f, 0.24f } },
    { OVAL, WHITE, { -0.09f, 0.05f, 0.07f, 0.07f } },
    { RECT, GLOW, { 0.6f, -0.42f, 0.86f, -0.26f, 0.04f } });
LOOK(robot,
    { LINE, STEEL, { 0, -0.98f, 0, -0.7f, 0.07f } }, { OVAL, GLOW, { 0, -0.92f, 0.09f, 0.09f } },
    { LINE, STEEL, { -0.6f, 0.1f, -0.92f, 0.5f, 0.16f } }, { LINE, STEEL, { 0.6f, 0.1f, 0.92f, 0.5f, 0.16f } },
    { RECT, STEEL, { -0.4f, 0.7f, -0.14f, 0.98f, 0.04f } }, { RECT, STEEL, { 0.14f, 0.7f, 0.4f, 0.98f, 0.04f } },
    { RECT, BODY, { -0.56f, -0.76f, 0.56f, -0.08f, 0.14f } }, { RECT, BODY, { -0.64f, 0, 0.64f, 0.76f, 0.1f } },
    EYE(-0.24f, -0.48f, 0.14f), EYE(0.24f, -0.48f, 0.14f),
    { LINE, INK, { -0.25f, -0.22f, 0.25f, -0.22f, 0.07f } },
    { RECT, PALE, { -0.4f, 0.16f, 0.4f, 0.56f, 0.06f } },
    { OVAL, GOLD, { -0.2f, 0.36f, 0.08f, 0.08f } }, { OVAL, LEAF, { 0.04f, 0.36f, 0.08f, 0.08f } });
LOOK(spinner,
    { LINE, BODY, { 0, 0, 0, -0.56f, 0.34f } }, { LINE, BODY, { 0, 0, 0.5f, 0.3f, 0.34f } },
    { LINE, BODY, { 0, 0, -0.5f, 0.3f, 0.34f } },
    { OVAL, BODY, { 0, -0.58f, 0.4f, 0.4f } }, { OVAL, BODY, { 0.52f, 0.32f, 0.4f, 0.4f } },
    { OVAL, BODY, { -0.52f, 0.32f, 0.4f, 0.4f } },
    { OVAL, INK, { 0, -0.58f, 0.22f, 0.22f } }, { OVAL, INK, { 0.52f, 0.32f, 0.22f, 0.22f } },
    { OVAL, INK, { -0.52f, 0.32f, 0.22f, 0.22f } },
    { OVAL, STEEL, { 0, -0.58f, 0.1f, 0.1f } }, { OVAL, STEEL, { 0.52f, 0.32f, 0.1f, 0.1f } },
    { OVAL, STEEL, { -0.52f, 0.32f, 0.1f, 0.1f } },
    { OVAL, PALE, { 0, 0, 0.22f, 0.22f } });
LOOK(goggles,
    { ARC, INK, { 0, 0.05f, 0.78f, 190, 350, 0.16f } }, { LINE, INK, { 0, -0.7f, 0, -0.2f, 0.14f } },
    { RECT, BODY, { -0.95f, -0.34f, 0.95f, 0.62f, 0.26f } },
    { RECT, INK, { -0.72f, -0.16f, 0.72f, 0.3f, 0.16f } },
    { OVAL, GLASS, { -0.36f, 0.07f, 0.2f, 0.17f } }, { OVAL, GLASS, { 0.36f, 0.07f, 0.2f, 0.17f } },
    { TRI, DEEP, { -0.16f, 0.62f, 0.16f, 0.62f, 0, 0.4f } });
LOOK(watch,
    { RECT, DEEP, { -0.32f, -1, 0.32f, 1, 0.1f } },
    { RECT, STEEL, { 0.5f, -0.16f, 0.66f, 0.1f, 0.05f } },
    { RECT, BODY, { -0.56f, -0.62f, 0.56f, 0.62f, 0.2f } },
    { RECT, INK, { -0.42f, -0.48f, 0.42f, 0.48f, 0.14f } },
    { ARC, GOLD, { 0, 0, 0.3f, -90, 150, 0.09f } }, { ARC, LEAF, { 0, 0, 0.16f, -90, 210, 0.09f } });
LOOK(syringe,
    { LINE, STEEL, { -0.6f, 0, -1, 0, 0.05f } },
    { RECT, STEEL, { 0.5f, -0.06f, 0.9f, 0.06f } }, { RECT, INK, { 0.86f, -0.26f, 0.98f, 0.26f, 0.04f } },
    { RECT, WHITE, { -0.6f, -0.26f, 0.56f, 0.26f, 0.05f } },
    { RECT, BODY, { -0.55f, -0.2f, 0.26f, 0.2f, 0.03f } }, { RECT, INK, { 0.26f, -0.2f, 0.36f, 0.2f } },
    { RECT, BODY, { -0.74f, -0.13f, -0.58f, 0.13f, 0.03f } }, { RECT, BODY, { 0.5f, -0.4f, 0.62f, 0.4f, 0.04f } },
    { LINE, WHITE, { -0.3f, -0.2f, -0.3f, -0.04f, 0.04f } }, { LINE, WHITE, { -0.1f, -0.2f, -0.1f, -0.04f, 0.04f } },
    { LINE, WHITE, { 0.1f, -0.2f, 0.1f, -0.04f, 0.04f } });
LOOK(charger,
    { RECT, GREY, { -0.7f, 0.84f, 0.56f, 1, 0.03f } },
    { CURVE, INK, { 0.36f, -0.2f, 1.1f, -0.3f, 0.78f, 0.4f, 0.08f } },
    { RECT, INK, { 0.66f, 0.32f, 0.9f, 0.66f, 0.06f } },
    { RECT, BODY, { -0.56f, -0.98f, 0.42f, 0.9f, 0.14f } },
    { RECT, GLASS, { -0.4f, -0.8f, 0.26f, -0.34f, 0.05f } },
    { QUAD, GLOW, { -0.06f, -0.16f, 0.16f, -0.16f, 0, 0.22f, -0.26f, 0.22f } },
    { TRI, GLOW, { -0.1f, 0.14f, 0.14f, 0.14f, -0.2f, 0.62f } });
LOOK(disc,
    { OVAL, BODY, { 0, 0, 0.95f, 0.95f } },
    { CAP, PALE, { 0, 0, 0.95f, 0.95f, 200, 250 } }, { CAP, PALE, { 0, 0, 0.95f, 0.95f, 20, 70 } },
    { ARC, DEEP, { 0, 0, 0.7f, 0, 360, 0.03f } },
    { OVAL, STEEL, { 0, 0, 0.34f, 0.34f } }, { OVAL, INK, { 0, 0, 0.14f, 0.14f } });
LOOK(apple,
    { CURVE, WOOD, { 0, -0.5f, 0, -0.8f, 0.16f, -0.98f, 0.1f } },
    { OVAL, LEAF, { 0.34f, -0.76f, 0.26f, 0.12f, -20 } },
    { OVAL, BODY, { -0.3f, 0.18f, 0.55f, 0.72f } }, { OVAL, BODY, { 0.3f, 0.18f, 0.55f, 0.72f } },
    { CAP, DEEP, { 0, -0.5f, 0.2f, 0.14f, 0, 180 } },
    { OVAL, PALE, { -0.5f, -0.05f, 0.1f, 0.24f, 18 } });
LOOK(tv_tube,
    { LINE, STEEL, { 0, -0.5f, -0.4f, -0.98f, 0.05f } }, { LINE, STEEL, { 0, -0.5f, 0.4f, -0.98f, 0.05f } },
    { RECT, BODY, { -0.95f, -0.56f, 0.95f, 0.8f, 0.16f } },
    { RECT, INK, { -0.8f, -0.4f, 0.48f, 0.64f, 0.2f } }, { RECT, GLASS, { -0.72f, -0.32f, 0.4f, 0.56f, 0.18f } },
    { OVAL, STEEL, { 0.7f, -0.24f, 0.12f, 0.12f } }, { OVAL, STEEL, { 0.7f, 0.08f, 0.12f, 0.12f } },
    { LINE, DEEP, { 0.6f, 0.38f, 0.8f, 0.38f, 0.05f } }, { LINE, DEEP, { 0.6f, 0.52f, 0.8f, 0.52f, 0.05f } },
    { LINE, DEEP, { -0.6f, 0.86f, -0.66f, 0.96f, 0.1f } }, { LINE, DEEP, { 0.6f, 0.86f, 0.66f, 0.96f, 0.1f } });
LOOK(tv_flat,
    { LINE, INK, { 0, 0.4f, 0, 0.75f, 0.14f } }, { LINE, INK, { -0.4f, 0.78f, 0.4f, 0.78f, 0.1f } },
    { RECT, BODY, { -1, -0.7f, 1, 0.54f, 0.08f } },
    { RECT, GLASS, { -0.87f, -0.57f, 0.87f, 0.41f, 0.02f } },
    { QUAD, WHITE, { -0.7f, -0.57f, -0.45f, -0.57f, -0.75f, 0.41f, -0.87f, 0.41f } },
    { TRI, INK, { -0.12f, -0.28f, -0.12f, 0.14f, 0.24f, -0.07f } });

static Color paint_color(Paint paint, Color body)
{
    static const uint32_t fixed[N_PAINTS] = {
        [INK] = 0x23262d, [GREY] = 0x7d828a, [STEEL] = 0xb9c0c8, [WHITE] = 0xfafafa, [GLASS] = 0xbfe4f5,
        [WOOD] = 0x7a4e2d, [LEAF] = 0x4d9a3f, [GOLD] = 0xf2b632, [GLOW] = 0xffeb99,
    };
    if (paint == BODY)
        return body;
    if (paint == DEEP)
        return color_mix(body, (Color){ 0.05f, 0.05f, 0.1f }, 0.28f);
    if (paint == PALE)
        return color_mix(body, (Color){ 1, 1, 1 }, 0.45f);
    return color_hex(fixed[paint]);
}

static void part_draw(const Part *p, const Pen *pen, Color c)
{
    const float *a = p->at;
    Point corners[4] = { { a[0], a[1] }, { a[2], a[3] }, { a[4], a[5] }, { a[6], a[7] } };
    switch (p->kind) {
    case RECT:
        draw_rect(pen, c, a[0], a[1], a[2], a[3], a[4]);
        break;
    case OVAL:
        draw_oval(pen, c, a[0], a[1], a[2], a[3], a[4]);
        break;
    case CAP:
        draw_segment(pen, c, a[0], a[1], a[2], a[3], a[4], a[5]);
        break;
    case TRI:
        draw_polygon(pen, c, corners, 3);
        break;
    case QUAD:
        draw_polygon(pen, c, corners, 4);
        break;
    case LINE:
        draw_line(pen, c, a[0], a[1], a[2], a[3], a[4]);
        break;
    case ARC:
        draw_arc(pen, c, a[0], a[1], a[2], a[3], a[4], a[5]);
        break;
    case CURVE:
        draw_curve(pen, c, a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
        break;
    case PART_END:
        break;
    }
}

void thing_draw(const Part *look, const Pen *pen, Color body, float outline, Color ink)
{
    if (outline > 0) {
        Pen silhouette = *pen;
        silhouette.grow = outline;
        silhouette.shade = 0;
        for (const Part *p = look; p->kind != PART_END; p++)
            part_draw(p, &silhouette, ink);
    }
    for (const Part *p = look; p->kind != PART_END; p++)
        part_draw(p, pen, paint_color(p->paint, body));
}
