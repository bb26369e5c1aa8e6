/* plan.c -- see plan.h. The tables are the stream: change a row and the world changes. */
#include "plan.h"
#include <stdio.h>
#include <string.h>

#define ALWAYS PLAN_FIRST_YEAR, PLAN_LAST_YEAR
#define SINCE(year) (year), PLAN_LAST_YEAR
#define UNTIL(year) PLAN_FIRST_YEAR, (year)

typedef struct { const char *one, *many; int from, to; } Word;
typedef struct { const Part *parts; int from, to; } Look;
typedef struct {
    const char *name;            /* class name */
    int from, to;                /* years in which it is photographed */
    Look looks[2];
    Word words[4];
} Thing;

static const Thing things[] = {
    { "car", ALWAYS, { { look_car, UNTIL(2020) }, { look_car_electric, SINCE(2019) } },
      { { "car", "cars", ALWAYS }, { "automobile", "automobiles", UNTIL(2017) },
        { "electric car", "electric cars", SINCE(2019) } } },
    { "tree", ALWAYS, { { look_tree, ALWAYS }, { look_tree_pine, SINCE(2018) } },
      { { "tree", "trees", ALWAYS } } },
    { "house", ALWAYS, { { look_house, ALWAYS } },
      { { "house", "houses", ALWAYS }, { "cottage", "cottages", UNTIL(2017) },
        { "tiny house", "tiny houses", SINCE(2017) } } },
    { "kite", ALWAYS, { { look_kite, ALWAYS } }, { { "kite", "kites", ALWAYS } } },
    { "phone", ALWAYS, { { look_phone_keys, UNTIL(2016) }, { look_phone_glass, SINCE(2016) } },
      { { "cellphone", "cellphones", UNTIL(2017) }, { "mobile phone", "mobile phones", UNTIL(2019) },
        { "smartphone", "smartphones", SINCE(2016) }, { "phone", "phones", SINCE(2018) } } },
    { "drone", SINCE(2016), { { look_drone, ALWAYS } },
      { { "quadcopter", "quadcopters", 2016, 2018 }, { "drone", "drones", ALWAYS } } },
    { "scooter", SINCE(2018), { { look_scooter, ALWAYS } },
      { { "scooter", "scooters", ALWAYS }, { "e-scooter", "e-scooters", SINCE(2019) } } },
    { "face mask", SINCE(2020), { { look_mask, ALWAYS } },
      { { "face mask", "face masks", ALWAYS }, { "face covering", "face coverings", SINCE(2021) } } },
    { "sailboat", ALWAYS, { { look_sailboat, ALWAYS } },
      { { "sailboat", "sailboats", ALWAYS }, { "sailing boat", "sailing boats", SINCE(2018) } } },
    { "balloon", ALWAYS, { { look_balloon, ALWAYS } }, { { "balloon", "balloons", ALWAYS } } },
    { "flower", ALWAYS, { { look_flower, ALWAYS } },
      { { "flower", "flowers", ALWAYS }, { "blossom", "blossoms", SINCE(2019) } } },
    { "fish", ALWAYS, { { look_fish, ALWAYS } }, { { "fish", "fish", ALWAYS } } },
    { "bird", ALWAYS, { { look_bird, ALWAYS } },
      { { "bird", "birds", ALWAYS }, { "birdie", "birdies", UNTIL(2016) }, { "birb", "birbs", SINCE(2018) } } },
    { "cat", ALWAYS, { { look_cat, ALWAYS } },
      { { "cat", "cats", ALWAYS }, { "kitty", "kitties", UNTIL(2018) } } },
    { "dog", ALWAYS, { { look_dog, ALWAYS } },
      { { "dog", "dogs", ALWAYS }, { "doggo", "doggos", SINCE(2018) } } },
    { "mug", ALWAYS, { { look_mug, ALWAYS } },
      { { "coffee mug", "coffee mugs", ALWAYS }, { "mug", "mugs", ALWAYS } } },
    { "umbrella", ALWAYS, { { look_umbrella, ALWAYS } }, { { "umbrella", "umbrellas", ALWAYS } } },
    { "armchair", ALWAYS, { { look_armchair, ALWAYS } },
      { { "armchair", "armchairs", ALWAYS }, { "accent chair", "accent chairs", SINCE(2019) } } },
    { "lamp", ALWAYS, { { look_lamp, ALWAYS } },
      { { "lamp", "lamps", ALWAYS }, { "LED lamp", "LED lamps", SINCE(2018) } } },
    { "bicycle", ALWAYS, { { look_bicycle, ALWAYS } },
      { { "bicycle", "bicycles", ALWAYS }, { "bike", "bikes", ALWAYS }, { "fixie", "fixies", UNTIL(2016) } } },
    { "bus", ALWAYS, { { look_bus, ALWAYS } }, { { "bus", "buses", ALWAYS } } },
    { "airplane", ALWAYS, { { look_airplane, ALWAYS } },
      { { "airplane", "airplanes", ALWAYS }, { "jet", "jets", SINCE(2017) } } },
    { "hat", ALWAYS, { { look_hat, ALWAYS } },
      { { "hat", "hats", ALWAYS }, { "fedora", "fedoras", UNTIL(2016) } } },
    { "t-shirt", ALWAYS, { { look_shirt, ALWAYS } },
      { { "t-shirt", "t-shirts", ALWAYS }, { "tee", "tees", SINCE(2017) } } },
    { "guitar", ALWAYS, { { look_guitar, ALWAYS } }, { { "guitar", "guitars", ALWAYS } } },
    { "clock", ALWAYS, { { look_clock, ALWAYS } },
      { { "clock", "clocks", ALWAYS }, { "alarm clock", "alarm clocks", UNTIL(2017) } } },
    { "laptop", ALWAYS, { { look_laptop, ALWAYS } },
      { { "laptop", "laptops", ALWAYS }, { "notebook computer", "notebook computers", UNTIL(2017) } } },
    { "headphones", ALWAYS, { { look_headphones, UNTIL(2020) }, { look_earbuds, SINCE(2019) } },
      { { "pair of headphones", "pairs of headphones", UNTIL(2020) },
        { "pair of earbuds", "pairs of earbuds", SINCE(2019) } } },
    { "camera", UNTIL(2020), { { look_camera, ALWAYS } },
      { { "camera", "cameras", ALWAYS }, { "digital camera", "digital cameras", UNTIL(2017) } } },
    { "robot", SINCE(2017), { { look_robot, ALWAYS } }, { { "robot", "robots", ALWAYS } } },
    { "fidget spinner", 2017, 2019, { { look_spinner, ALWAYS } },
      { { "fidget spinner", "fidget spinners", ALWAYS }, { "spinner", "spinners", SINCE(2018) } } },
    { "VR headset", SINCE(2019), { { look_goggles, ALWAYS } },
      { { "VR headset", "VR headsets", ALWAYS }, { "metaverse headset", "metaverse headsets", SINCE(2022) } } },
    { "smartwatch", SINCE(2015), { { look_watch, ALWAYS } },
      { { "smartwatch", "smartwatches", ALWAYS }, { "wearable", "wearables", 2015, 2017 } } },
    { "syringe", SINCE(2021), { { look_syringe, ALWAYS } },
      { { "vaccine syringe", "vaccine syringes", ALWAYS }, { "syringe", "syringes", ALWAYS } } },
    { "charging station", SINCE(2022), { { look_charger, ALWAYS } },
      { { "charging station", "charging stations", ALWAYS }, { "EV charger", "EV chargers", ALWAYS } } },
    { "compact disc", UNTIL(2016), { { look_disc, ALWAYS } },
      { { "CD", "CDs", ALWAYS }, { "compact disc", "compact discs", ALWAYS } } },
    { "apple", ALWAYS, { { look_apple, ALWAYS } }, { { "apple", "apples", ALWAYS } } },
    { "television", ALWAYS, { { look_tv_tube, UNTIL(2016) }, { look_tv_flat, SINCE(2016) } },
      { { "television", "televisions", ALWAYS }, { "TV set", "TV sets", UNTIL(2017) },
        { "flat screen TV", "flat screen TVs", SINCE(2016) } } },
};

typedef struct { const char *text; int from, to; } Phrase;

static const struct {
    uint32_t shade[3];           /* 2014-2016, 2017-2019, 2020-2022 */
    Phrase words[3];
} colors[PLAN_COLORS] = {
    { { 0xc8281e, 0xe53935, 0xff2b3a }, { { "red", ALWAYS }, { "crimson", SINCE(2020) } } },
    { { 0xe07b1a, 0xfb8c00, 0xff8a1f }, { { "orange", ALWAYS } } },
    { { 0xe6c62a, 0xfdd835, 0xffe600 }, { { "yellow", ALWAYS }, { "mustard", 2018, 2020 } } },
    { { 0x2f8a3a, 0x2e9e48, 0x14b85a }, { { "green", ALWAYS }, { "emerald", 2014, 2016 } } },
    { { 0x2456b0, 0x1e6fe0, 0x2a5bff }, { { "blue", ALWAYS }, { "classic blue", SINCE(2020) } } },
    { { 0x6b2f96, 0x8331b5, 0x8c2bff },
      { { "purple", ALWAYS }, { "ultra violet", 2018, 2019 }, { "violet", SINCE(2019) } } },
    { { 0xe07aa8, 0xf06ba8, 0xff6ec7 },
      { { "pink", ALWAYS }, { "millennial pink", 2016, 2019 }, { "hot pink", SINCE(2021) } } },
    { { 0xf2efe6, 0xfafafa, 0xffffff }, { { "white", ALWAYS } } },
};

/* `avoid`: colours that would drown in it, bit by bit in the order above. */
enum { RED = 1, ORANGE = 2, YELLOW = 4, GREEN = 8, BLUE = 16, PURPLE = 32, PINK = 64, PLAIN_WHITE = 128 };
static const struct {
    int from, to;
    unsigned avoid;
    Phrase words[3];
} backdrops[N_BACKDROPS] = {
    [GRASS]  = { ALWAYS, GREEN, { { "on green grass", ALWAYS }, { "on the lawn", ALWAYS } } },
    [NIGHT]  = { ALWAYS, BLUE | PURPLE, { { "by night", ALWAYS }, { "at night", ALWAYS },
        { "under the stars", SINCE(2018) } } },
    [BEACH]  = { ALWAYS, YELLOW, { { "on the beach", ALWAYS }, { "by the sea", ALWAYS },
        { "on a sandy beach", SINCE(2018) } } },
    [SNOW]   = { ALWAYS, PLAIN_WHITE, { { "in the snow", ALWAYS }, { "on a snowy day", SINCE(2017) } } },
    [TABLE]  = { ALWAYS, ORANGE, { { "on a wooden table", ALWAYS }, { "on a rustic wood table", 2016, 2019 } } },
    [BRICK]  = { ALWAYS, RED | ORANGE, { { "in front of a brick wall", ALWAYS },
        { "against an exposed brick wall", SINCE(2017) } } },
    [STREET] = { ALWAYS, 0, { { "on a city street", ALWAYS }, { "downtown", SINCE(2017) } } },
    [SKY]    = { ALWAYS, BLUE, { { "under a blue sky", ALWAYS }, { "in front of white clouds", ALWAYS } } },
    [CHECKS] = { ALWAYS, RED | PLAIN_WHITE, { { "on a checkered tablecloth", ALWAYS },
        { "on a gingham cloth", SINCE(2018) } } },
    [STUDIO] = { ALWAYS, PLAIN_WHITE, { { "on a white background", ALWAYS }, { "isolated on white", ALWAYS } } },
    [DESERT] = { ALWAYS, ORANGE | YELLOW, { { "in the desert", ALWAYS }, { "among sand dunes", SINCE(2017) } } },
    [SUNSET] = { ALWAYS, ORANGE | PINK | RED, { { "at sunset", ALWAYS }, { "at golden hour", SINCE(2018) } } },
    [NEON]   = { SINCE(2019), PURPLE | PINK, { { "under neon lights", ALWAYS },
        { "in synthwave style", SINCE(2020) } } },
    [CALL]   = { SINCE(2020), 0, { { "on a video call", ALWAYS }, { "on a Zoom call", ALWAYS } } },
};

/* {what}: "two red cars"; {where}: the backdrop; {n}: a number; {year}. A capital, {What}, starts a sentence. */
static const Phrase sentences[] = {
    { "a photo of {what} {where}", ALWAYS },
    { "a photo of {what} {where}", ALWAYS },
    { "{what} {where}", ALWAYS },
    { "a picture of {what} {where}", ALWAYS },
    { "{What} {where}.", ALWAYS },
    { "Here you can see {what} {where}", ALWAYS },
    { "{What} {where}, stock photo", ALWAYS },
    { "{What} {where} | Flickr", UNTIL(2017) },
    { "{What} {where} - Royalty Free Image", UNTIL(2018) },
    { "#throwback {what} {where} #nofilter", UNTIL(2017) },
    { "{What} {where} \xe2\x80\x93 DSC_{n}", UNTIL(2018) },
    { "Pinterest &amp; inspiration: {what} {where}", 2014, 2019 },
    { "{What} {where} &quot;HD wallpaper&quot;", UNTIL(2019) },
    { "{What} {where}, wide angle", 2017, 2020 },
    { "{what} {where} \xf0\x9f\x98\x8d", SINCE(2016) },
    { "{what} {where} #instagood #{year}", SINCE(2016) },
    { "mood: {what} {where} \xe2\x9c\xa8", SINCE(2018) },
    { "{What} {where} \xe2\x80\x94 4K ultra HD", SINCE(2018) },
    { "stay home &amp; enjoy {what} {where}", 2020, 2021 },
    { "{What} {where}, caf\xc3\xa9 \xc2\xa9 {year}", ALWAYS },
    { "vibes \xf0\x9f\x94\xa5 {what} {where}", SINCE(2021) },
    { "{what} {where}, trending, highly detailed", SINCE(2022) },
};

/* Where the words say nothing of the backdrop; never in an evaluation set. */
static const Phrase short_sentences[] = {
    { "a photo of {what}", ALWAYS }, { "{what}", ALWAYS }, { "{What} for sale", ALWAYS },
    { "{What} - buy online", SINCE(2017) },
};

static const char *const numbers[PLAN_MAX_COUNT + 1] = { "", "one", "two", "three", "four", "five" };

int plan_things(void) { return (int)TIC_LEN(things); }
const char *plan_thing_name(int thing) { return things[thing].name; }

Color plan_color(int year, int color)
{
    int era = (year - PLAN_FIRST_YEAR) / 3;
    if (color == PLAN_COLORS)
        return color_hex(0x9a9a9a);
    return color_hex(colors[color].shade[era < 0 ? 0 : era > 2 ? 2 : era]);
}

/* How much is said of something that came in `from` and went after `to`: a new thing is the talk of its
 * first two years, and one that is leaving fades; what was always there is 4. */
static int attention(int year, int from, int to)
{
    if (year < from || year > to)
        return 0;
    int age = year - from;
    if (from > PLAN_FIRST_YEAR && age < 2)
        return 8;
    if (to < PLAN_LAST_YEAR && year == to)
        return 2;
    return 4;
}

/* Words spread slowly, the other way round: a new one is rare in its first year. */
static int usage(int year, int from, int to)
{
    if (year < from || year > to)
        return 0;
    if (from > PLAN_FIRST_YEAR && year - from < 3)
        return 2 * (year - from) + 2;
    return to < PLAN_LAST_YEAR && year == to ? 2 : 4;
}

/* Draws an index with probability proportional to its weight; the weights' sum is positive. */
static int draw_weighted(Dice *dice, const int *weight, int n)
{
    int total = 0;
    for (int i = 0; i < n; i++)
        total += weight[i];
    int at = dice_below(dice, total), i = 0;
    while (at >= weight[i])
        at -= weight[i++];
    return i;
}

static const char *draw_phrase(Dice *dice, int year, const Phrase *row, int n)
{
    int weight[32] = { 0 };
    for (int i = 0; i < n; i++)
        weight[i] = row[i].text ? usage(year, row[i].from, row[i].to) : 0;
    return row[draw_weighted(dice, weight, n)].text;
}

static int draw_thing(Dice *dice, int year)
{
    int weight[TIC_LEN(things)];
    for (size_t i = 0; i < TIC_LEN(things); i++)
        weight[i] = attention(year, things[i].from, things[i].to);
    return draw_weighted(dice, weight, (int)TIC_LEN(things));
}

static const Part *draw_look(Dice *dice, int year, const Thing *t)
{
    int weight[2];
    for (int i = 0; i < 2; i++)
        weight[i] = t->looks[i].parts ? attention(year, t->looks[i].from, t->looks[i].to) : 0;
    return t->looks[draw_weighted(dice, weight, 2)].parts;
}

static Backdrop draw_backdrop(Dice *dice, int year)
{
    int weight[N_BACKDROPS];
    for (int i = 0; i < N_BACKDROPS; i++)
        weight[i] = attention(year, backdrops[i].from, backdrops[i].to);
    return (Backdrop)draw_weighted(dice, weight, N_BACKDROPS);
}

/* Mostly small pictures (a fast stream), now and then a large one; both orientations. */
static void draw_extent(Sample *s, Dice *dice)
{
    static const int shape[][2] = { { 1, 1 }, { 4, 3 }, { 4, 3 }, { 3, 2 }, { 16, 9 }, { 3, 4 }, { 2, 3 } };
    int r = dice_below(dice, 100), large = r < 65 ? 224 + dice_below(dice, 96) : r < 93 ? 320 + dice_below(dice, 128)
                                                                                       : 448 + dice_below(dice, 193);
    const int *k = shape[dice_below(dice, (int)TIC_LEN(shape))];
    int small = k[0] > k[1] ? large * k[1] / k[0] : large * k[0] / k[1];
    if (small < 200)
        small = 200;
    s->width = k[0] >= k[1] ? large : small;
    s->height = k[0] >= k[1] ? small : large;
}

/* Days since 1970-01-01 of a date in the Gregorian calendar. */
static int64_t days_since_1970(int year, int month, int day)
{
    static const int before[12] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };
    int past = year - 1, leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    int64_t days = (int64_t)past * 365 + past / 4 - past / 100 + past / 400;
    return days - 719162 + before[month - 1] + (leap && month > 2) + day - 1;
}

static void draw_date(Sample *s, Dice *dice)
{
    s->month = 1 + dice_below(dice, 12);
    int day = 1 + dice_below(dice, 28);
    s->seconds = days_since_1970(s->year, s->month, day) * 86400 + dice_below(dice, 86400);
}

void plan_sample(Sample *s, int year, Dice *dice)
{
    static const int count_weight[PLAN_MAX_COUNT + 1] = { 0, 40, 20, 16, 13, 11 };
    *s = (Sample){ .year = year };
    s->thing = draw_thing(dice, year);
    s->look = draw_look(dice, year, &things[s->thing]);
    s->backdrop = draw_backdrop(dice, year);
    s->count = draw_weighted(dice, count_weight, PLAN_MAX_COUNT + 1);
    do
        s->color = dice_below(dice, PLAN_COLORS);
    while (backdrops[s->backdrop].avoid >> s->color & 1);
    if (dice_chance(dice, 0.04f))
        s->color = PLAN_COLORS;
    if (s->count == 1 && dice_chance(dice, 0.5f)) {
        int r = dice_below(dice, 4);
        s->size = r == 0 ? -1 : r == 1 ? 1 : 0;
        s->side = r == 2 ? -1 : r == 3 ? 1 : 0;
    }
    draw_extent(s, dice);
    s->png = dice_chance(dice, 0.04f);
    s->progressive = dice_chance(dice, 0.1f);
    s->quality = 75 + dice_below(dice, 21);
    draw_date(s, dice);
}

int plan_key(const Sample *s)
{
    int key = s->thing * (PLAN_COLORS + 1) + s->color;
    return (key * (PLAN_MAX_COUNT + 1) + s->count) * N_BACKDROPS + (int)s->backdrop;
}

/* Good enough for the words of the tables: the letter, and letters that are read out. */
static bool starts_with_vowel_sound(const char *text)
{
    return strchr("aeioAEIO", text[0]) || !strncmp(text, "umbrella", 8) || !strncmp(text, "ultra", 5)
           || !strncmp(text, "LED", 3);
}

/* "a small red car", "two red cars", "one red car on the left", "a car in black and white". */
static void say_what(const Sample *s, Dice *dice, char *out, size_t room)
{
    const Thing *t = &things[s->thing];
    int weight[4];
    for (int i = 0; i < 4; i++)
        weight[i] = t->words[i].one ? usage(s->year, t->words[i].from, t->words[i].to) : 0;
    const Word *word = &t->words[draw_weighted(dice, weight, 4)];
    const char *color = s->color == PLAN_COLORS ? "" : draw_phrase(dice, s->year, colors[s->color].words, 3);
    const char *size = s->size < 0 ? "small " : s->size > 0 ? "big " : "";
    char named[128];
    snprintf(named, sizeof named, "%s%s%s%s", size, color, *color ? " " : "", s->count == 1 ? word->one : word->many);
    const char *number = numbers[s->count];
    if (s->count == 1 && dice_chance(dice, 0.8f))
        number = starts_with_vowel_sound(named) ? "an" : "a";
    const char *side = s->side < 0 ? " on the left" : s->side > 0 ? " on the right" : "";
    snprintf(out, room, "%s %s%s%s", number, named, side, s->color == PLAN_COLORS ? " in black and white" : "");
}

static void put(char *out, size_t room, size_t *n, const char *text)
{
    for (; *text && *n + 1 < room; text++)
        out[(*n)++] = *text;
    out[*n] = 0;
}

static void expand(const Sample *s, Dice *dice, const char *sentence, const char *what, const char *where,
                   char *out, size_t room, size_t *n)
{
    for (const char *p = sentence; *p;) {
        char text[256] = { *p, 0 };
        size_t step = 1;
        if (!strncmp(p, "{what}", 6) || !strncmp(p, "{What}", 6)) {
            snprintf(text, sizeof text, "%s", what);
            if (p[1] == 'W' && text[0] >= 'a' && text[0] <= 'z')
                text[0] = (char)(text[0] - 32);
            step = 6;
        } else if (!strncmp(p, "{where}", 7)) {
            snprintf(text, sizeof text, "%s", where);
            step = 7;
        } else if (!strncmp(p, "{year}", 6)) {
            snprintf(text, sizeof text, "%d", s->year);
            step = 6;
        } else if (!strncmp(p, "{n}", 3)) {
            snprintf(text, sizeof text, "%04d", dice_below(dice, 10000));
            step = 3;
        }
        put(out, room, n, text);
        p += step;
    }
}

/* Is the line that begins at the newline `start` also an earlier one? Only two-line captions are asked. */
static bool repeats_itself(const char *caption, size_t start)
{
    const char *line = caption + start + 1;
    return caption[start] == '\n' && strlen(line) == start && !strncmp(caption, line, start);
}

void plan_caption(Sample *s, Dice *dice, int lines, bool strict)
{
    size_t n = 0;
    s->caption[0] = 0;
    if (!strict && dice_chance(dice, 0.01f)) {      /* the web: some captions say nothing */
        snprintf(s->caption, sizeof s->caption, "IMG_%04d.JPG", dice_below(dice, 10000));
        return;
    }
    for (int i = 0; i < lines; i++) {
        char what[256];
        say_what(s, dice, what, sizeof what);
        const char *where = draw_phrase(dice, s->year, backdrops[s->backdrop].words, 3);
        bool brief = !strict && dice_chance(dice, 0.12f);
        const char *sentence = brief ? draw_phrase(dice, s->year, short_sentences, (int)TIC_LEN(short_sentences))
                                     : draw_phrase(dice, s->year, sentences, (int)TIC_LEN(sentences));
        size_t start = n;
        if (i)
            put(s->caption, sizeof s->caption, &n, "\n");
        expand(s, dice, sentence, what, where, s->caption, sizeof s->caption, &n);
        if (repeats_itself(s->caption, start)) {       /* say it in other words */
            s->caption[n = start] = 0;
            i--;
        }
    }
}
