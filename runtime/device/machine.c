/* machine.c -- see machine.h. */
#define _GNU_SOURCE
#include "device/machine.h"
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* The number after `key` at the start of a line of a file; -1: not there ("max" is no number either). */
static int64_t number_in(const char *path, const char *key)
{
    char line[256];
    int64_t v, found = -1;
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    while (found < 0 && fgets(line, sizeof line, f))
        if (!strncmp(line, key, strlen(key)) && sscanf(line + strlen(key), "%" SCNd64, &v) == 1)
            found = v;
    fclose(f);
    return found;
}

/* What the group at `dir` still gives: its limit less what it uses, of which the page cache can be taken back. */
static int64_t group_left(const char *dir, const char *limit_file, const char *usage_file, const char *cache_key)
{
    char *limit = tic_format("%s/%s", dir, limit_file), *usage = tic_format("%s/%s", dir, usage_file);
    char *stat = tic_format("%s/memory.stat", dir);
    int64_t most = number_in(limit, ""), used = number_in(usage, ""), cache = number_in(stat, cache_key);
    free(limit);
    free(usage);
    free(stat);
    if (most < 0 || used < 0)
        return INT64_MAX;
    int64_t held = used > cache ? used - (cache > 0 ? cache : 0) : 0;    /* counted at different moments: the cache may seem the larger */
    return held < most ? most - held : 0;
}

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

static int64_t memory_of(const char *dir, bool second)
{
    return second ? group_left(dir, "memory.max", "memory.current", "file ")
                  : group_left(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache ");
}

/* Processors that the group's share of time amounts to. */
static int64_t processors_of(const char *dir, bool second)
{
    char *limit = tic_format("%s/%s", dir, second ? "cpu.max" : "cpu.cfs_quota_us");
    char *length = second ? tic_strdup(limit) : tic_format("%s/cpu.cfs_period_us", dir);
    int64_t time = number_in(limit, "");
    char *key = tic_format("%" PRId64 " ", time);                 /* "200000 100000" */
    int64_t period = number_in(length, second ? key : "");
    free(limit);
    free(length);
    free(key);
    return time > 0 && period > 0 ? (time + period - 1) / period : INT64_MAX;
}

/* Where the path of the group is in a line of /proc/self/cgroup, "4:cpu,cpuacct:/a/b"; NULL: the line is of other controllers. */
static char *group_path(char *line, const char *controller, bool *second)
{
    char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL, *rest;
    if (!path)
        return NULL;
    *path++ = 0;
    *second = !list[1];
    for (char *word = strtok_r(list + 1, ",", &rest); word; word = strtok_r(NULL, ",", &rest))
        if (!strcmp(word, controller))
            return path;
    return *second ? path : NULL;
}

/* The least of the groups from this process's own up to the root; in a container the root is the container's. */
static int64_t least_of_groups(const char *controller, int64_t (*of)(const char *dir, bool second))
{
    int64_t left = INT64_MAX;
    char line[1024];
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) {
        bool second;
        char *path = group_path(line, controller, &second);
        if (!path)
            continue;
        path[strcspn(path, "\n")] = 0;
        for (char *end = path + strlen(path);; *end = 0) {
            char *dir = tic_format("/sys/fs/cgroup%s%s%s", second ? "" : "/", second ? "" : controller, path);
            left = least(left, of(dir, second));
            free(dir);
            if (!*path || !(end = strrchr(path, '/')))
                break;
        }
    }
    if (f)
        fclose(f);
    return left;
}

int64_t tic_memory_available(void)
{
    int64_t free_kb = number_in("/proc/meminfo", "MemAvailable:"), swap_kb = number_in("/proc/meminfo", "SwapFree:");
    int64_t system = free_kb < 0 ? INT64_MAX : (free_kb + (swap_kb > 0 ? swap_kb : 0)) * 1024;
    return least(system, least_of_groups("memory", memory_of));
}

int64_t tic_memory_peak(void)
{
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) ? 0 : (int64_t)use.ru_maxrss * 1024;
}

int tic_processors(int asked)
{
    cpu_set_t set;
    if (asked > 0)
        return asked;
    int64_t n = least(sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set), least_of_groups("cpu", processors_of));
    return n < 1 ? 1 : (int)n;
}
