/* fuzz_lists.c -- any bytes as a tasklist.yml, and as a list of uids: both readers must return, with whole tasks and uids in
 * order. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "data/views.h"
#include "eval/tasks.h"
#include "eval/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_file(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    TicTaskList list = { 0 };
    bool read = !tic_tasks_read(&list, path);
    for (int k = 0; k < list.count && read; k++)
        if (!*list.task[k].name || !list.task[k].key || (list.task[k].why != NULL) != (list.task[k].kind == TIC_TASK_UNSUPPORTED))
            abort();
    tic_error_clear();
    tic_tasks_clear(&list);
    TicUid *uid;
    int64_t n;
    if (!tic_uids_read(path, &uid, &n))
        for (int64_t i = 1; i < n; i++)
            if (tic_uid_order(&uid[i - 1], &uid[i]) > 0)
                abort();
    tic_error_clear();
    free(uid);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    TicJson *root;
    tic_error_clear();
    if (!tic_yaml_parse("fuzz", (const char *)data, size, &root) && !root)
        abort();
    tic_json_free(root);
    tic_error_clear();
    as_file(data, size);
    return 0;
}
