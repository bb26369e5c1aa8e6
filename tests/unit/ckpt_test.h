/* ckpt_test.h -- what the checkpoint tests share: a folder that goes away, and checks of error messages. */
#ifndef CKPT_TEST_H
#define CKPT_TEST_H
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "base.h"

static char folder[] = "/tmp/rt_ckpt_XXXXXX";

static char *in_folder(const char *name) { return tic_format("%s/%s", folder, name); }

/* Failed, and the message says so; clears it. */
static void expect_error(TicStatus status, const char *part)
{
    assert_int_not_equal(status, TIC_OK);
    char *said = tic_strdup(tic_error());
    tic_error_clear();
    if (!strstr(said, part))
        fail_msg("'%s' does not say '%s'", said, part);
    free(said);
}

static int remove_folder(void **state)
{
    char *command = tic_format("rm -rf %s", folder);
    int rc = system(command);
    free(command);
    return rc;
}

static int make_folder(void **state) { return mkdtemp(folder) ? 0 : -1; }
#endif
