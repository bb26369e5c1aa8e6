/* memory.c -- see memory.h. */
#define _GNU_SOURCE
#include "device/memory.h"
#include <inttypes.h>
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

/* The groups from this process's own up to the root; in a container the root is the container's. */
static int64_t groups_left(void)
{
    int64_t left = INT64_MAX;
    char line[1024];
    FILE *f = fopen("/proc/self/cgroup", "r");
    while (f && fgets(line, sizeof line, f)) {
        bool second = !strncmp(line, "0::/", 4);
        char *path = second ? line + 3 : strstr(line, ":memory:");
        if (!path)
            continue;
        path += second ? 0 : (int)strlen(":memory:");
        path[strcspn(path, "\n")] = 0;
        for (char *end = path + strlen(path);; *end = 0) {
            char *dir = tic_format("/sys/fs/cgroup%s%s", second ? "" : "/memory", path);
            left = least(left, second ? group_left(dir, "memory.max", "memory.current", "file ")
                                      : group_left(dir, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_cache "));
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
    return least(system, groups_left());
}

int64_t tic_memory_peak(void)
{
    struct rusage use;
    return getrusage(RUSAGE_SELF, &use) ? 0 : (int64_t)use.ru_maxrss * 1024;
}
