/* test_lint.c -- what the emulator counts of banks and sectors, on accesses of which it is known; and that a line of the text is
 * quoted for them. */
#include "device.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { THREADS = 128, FLOATS = 4096 };

typedef struct Case { const char *name, *kind, *line; int least, taken; } Case;
static const Case cases[] = {
    {"32 threads on one bank", "shared\twrite", "s[(t & 31) * 32 + (t >> 5)] = x[t];", 4, 128},
    {"rows a float longer", "shared\twrite", "s[(t & 31) * 33 + (t >> 5)] = x[t];", 4, 4},
    {"every second bank", "shared\twrite", "s[2 * t] = x[t];", 4, 8},
    {"16 bytes a thread are four phases", "shared\twrite", "*(v4f *)(s + 4 * t) = v;", 16, 16},
    {"16 bytes a thread, rows of 128", "shared\twrite", "*(v4f *)(s + 32 * (t & 31)) = v;", 16, 128},
    {"one word for all", "shared\tread", "y[t] = s[0];", 4, 4},
    {"neighbours", "global\twrite", "y[t] = x[t] + 1;", 16, 16},
    {"every eighth float: a sector each", "global\twrite", "y[8 * t] = x[t];", 16, 128},
    {"the same for all", "global\tread", "y[t] = x[0];", 4, 4},
    {"off by one", "global\tread", "y[t] = x[t + 1];", 16, 20},
    {"half of a warp", "global\twrite", "if (t & 1) y[t] = x[t];", 8, 16},
};

/* Adds up what the file says of a line. */
static void find(const char *path, const Case *c, int *least, int *taken)
{
    char row[1024];
    FILE *f = fopen(path, "r");
    *least = *taken = 0;
    while (f && fgets(row, sizeof row, f)) {
        char kind[32], kernel[64];
        int bytes, a, b, at = 0;
        row[strcspn(row, "\n")] = 0;
        snprintf(kind, sizeof kind, "%.*s", (int)strlen(c->kind), row);
        if (strcmp(kind, c->kind) || sscanf(row + strlen(c->kind), "%d %d %d %63s %n", &bytes, &a, &b, kernel, &at) != 4 || !at)
            continue;
        if (strcmp(row + strlen(c->kind) + at, c->line))
            continue;
        *least += a;
        *taken += b;
    }
    if (f)
        fclose(f);
}

int main(void)
{
    char path[] = "/tmp/ticc-lint-XXXXXX";
    int fd = mkstemp(path);
    if (fd < 0)
        return 1;
    close(fd);
    setenv("TIC_EMU_LINT", path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const Case *c = &cases[i];
        char text[2048];
        snprintf(text, sizeof text,
                 "#include \"tc.cuh\"\nTC_KERNEL void TC_BOUNDS(128, 1) k(const float *TC_RESTRICT x, float *TC_RESTRICT y)\n{\n"
                 "TC_SMEM(smem); float *s = (float *)smem; u32 t = threadIdx.x;\nv4f v = {0, 0, 0, 0};\n(void)v;\n"
                 "if (t == 0) s[0] = 0;\ntc_syncthreads();\n    %s\n}\n", c->line);
        static float data[FLOATS];
        Kernel *k = dev_kernel(text, "k", "sm_90a", FLOATS * 8, NULL);
        void *x = dev_upload(data, sizeof data), *y = dev_alloc(sizeof data), *args[] = {&x, &y};
        int least, taken;
        dev_seed((uint32_t)i, true);
        bool ran = dev_launch(k, 1, 1, THREADS, args);
        find(path, c, &least, &taken);
        dev_ok(ran && least == c->least && taken == c->taken, "%s: %d instead of %d, wanted %d instead of %d%s%s", c->name, taken, least, c->taken,
               c->least, ran ? "" : ": ", ran ? "" : dev_defect());
        dev_free_all();
        dev_forget(k);
        if (truncate(path, 0))
            return 1;
    }
    unlink(path);
    return dev_done();
}
