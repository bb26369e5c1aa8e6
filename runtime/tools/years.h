/* years.h -- when a sample is from, by a member of its json. */
#ifndef TIC_TOOLS_YEARS_H
#define TIC_TOOLS_YEARS_H
#include "data/json.h"

enum { FIRST_YEAR = 1900, LAST_YEAR = 2199 };

/* The year that `field` tells: a year, a month as 201603, seconds since 1970, or a text that begins with a date; 0: none of
 * these, or outside FIRST_YEAR..LAST_YEAR. */
int year_of_json(const TicJson *json, const char *field);
#endif
