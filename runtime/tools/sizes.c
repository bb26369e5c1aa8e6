/* sizes.c -- see sizes.h. */
#define _GNU_SOURCE
#include "sizes.h"
#include "data/json.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TicStatus sizes_write(const char *folder, const ShardSize *sizes, int n)
{
    char *text = NULL, *path = tic_format("%s/sizes.json", folder);
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (!f)
        abort();
    fputc('{', f);
    for (int i = 0; i < n; i++) {
        char *name = tic_json_quote(sizes[i].name, strlen(sizes[i].name));
        fprintf(f, "%s%s: %lld", i ? ", " : "", name, (long long)sizes[i].samples);
        free(name);
    }
    fputc('}', f);
    fclose(f);
    TicStatus status = tic_write_file(path, text, size);
    free(text);
    free(path);
    return status;
}
