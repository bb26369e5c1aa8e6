/* years.c -- see years.h. */
#include "years.h"
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int digits(const char *s, int n)      /* the first n characters as a number; -1 when they are not digits */
{
    int v = 0;
    for (int i = 0; i < n; i++) {
        if (!isdigit((unsigned char)s[i]))
            return -1;
        v = v * 10 + (s[i] - '0');
    }
    return v;
}

/* A year, a month as 201603, or seconds since 1970; no pool has seconds as small as those. 0: none of them. */
static int year_of_number(int64_t v)
{
    if (v >= FIRST_YEAR && v <= LAST_YEAR)
        return (int)v;
    if (v / 100 >= FIRST_YEAR && v / 100 <= LAST_YEAR && v % 100 >= 1 && v % 100 <= 12)
        return (int)(v / 100);
    struct tm date;
    time_t seconds = (time_t)v;
    if (!gmtime_r(&seconds, &date) || date.tm_year < 0 || date.tm_year > LAST_YEAR - 1900)
        return 0;
    return 1900 + date.tm_year;
}

/* "2016", "201603", "20160301", "20160301123456", "2016-03-01T12:34:56Z", "2016/03/01", or seconds. 0: none of them. */
static int year_of_text(const char *s)
{
    size_t n = strspn(s, "0123456789");
    int year = digits(s, 4);
    if (year >= FIRST_YEAR && year <= LAST_YEAR) {
        int month = n == 4 && (s[4] == '-' || s[4] == '/') ? digits(s + 5, 2) : n > 5 ? digits(s + 4, 2) : 1;
        bool date = s[n] == 0 ? n == 4 || n == 6 || n == 8 || n == 14 : n == 4 && (s[4] == '-' || s[4] == '/');
        if (date && month >= 1 && month <= 12)
            return year;
    }
    return n && n < 12 && !s[n] ? year_of_number(strtoll(s, NULL, 10)) : 0;
}

int year_of_json(const TicJson *json, const char *field)
{
    const TicJson *time = tic_json_get(json, field);
    if (time && time->kind == TIC_JSON_STRING)
        return year_of_text(time->text);
    if (!time || time->kind != TIC_JSON_NUMBER || !(time->number > -0x1p53 && time->number < 0x1p53))
        return 0;
    return year_of_number((int64_t)floor(time->number));
}
