/* room.h -- a test in a folder of its own, which is the current one and goes with it: ROOM(test) in the list of tests. */
#ifndef ROOM_H
#define ROOM_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

static char room[64];

static int make_room(void **state)
{
    strcpy(room, "/tmp/ticc_test_XXXXXX");
    return !mkdtemp(room) || chdir(room);
}

static int remove_room(void **state)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", room);
    return chdir("/") || system(command);
}

#define ROOM(name) cmocka_unit_test_setup_teardown(name, make_room, remove_room)
#endif
