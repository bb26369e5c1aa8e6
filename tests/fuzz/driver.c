/* driver.c -- runs a fuzz target without libFuzzer: mutated copies of the files given, for a number of seconds.
 *
 *   fuzz_NAME SECONDS SEED [FILE]...
 *
 * Where clang is at hand the same targets build with -fsanitize=fuzzer and are guided by coverage; this driver is what
 * every machine can run. It is deterministic by SEED up to where the clock stops it. A crash is the sanitizers'
 * business; the input that caused it is in `crash-NAME` (written before each run, removed at the end). */
#include "base.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LARGEST = 1 << 16 };
typedef struct { uint8_t *data; size_t size; } Input;

static uint64_t counter;
static uint64_t seed;

static uint32_t pick(uint32_t below)
{
    return below ? tic_philox(seed, counter++, 7).v[0] % below : 0;
}

/* One to eight edits: bit, byte, run of one value, copy within, deletion, insertion of another input's piece, cut. */
static size_t mutate(uint8_t *b, size_t n, const Input *in, int n_in)
{
    static const uint8_t edge[] = { 0, 1, 0x7f, 0x80, 0xff, ' ', '\n', '"', '(', ')', '[', ']', '{', '}', '.', ',' };
    for (int edits = 1 + (int)pick(8); edits > 0; edits--) {
        uint32_t at = pick((uint32_t)n + 1), len = 1 + pick(32);
        if (at + len > n)
            len = (uint32_t)n - at;
        switch (pick(8)) {
        case 0: if (at < n) b[at] ^= (uint8_t)(1u << pick(8)); break;
        case 1: if (at < n) b[at] = (uint8_t)pick(256); break;
        case 2: if (at < n) b[at] = edge[pick(sizeof edge)]; break;
        case 3: memset(b + at, edge[pick(sizeof edge)], len); break;
        case 4: memmove(b + at, b + at + len, n - at - len); n -= len; break;
        case 5: if (len) memmove(b + at, b + pick((uint32_t)(n - len + 1)), len); break;
        case 6: {
            const Input *o = &in[pick((uint32_t)n_in)];
            uint32_t from = pick((uint32_t)o->size + 1), take = 1 + pick(200);
            if (from + take > o->size)
                take = (uint32_t)o->size - from;
            if (n + take <= LARGEST) {
                memmove(b + at + take, b + at, n - at);
                memcpy(b + at, o->data + from, take);
                n += take;
            }
            break;
        }
        default: if (pick(16) == 0) n = at; break;
        }
    }
    return n;
}

/* A hang is a crash. The processor's seconds count, as others may be at work there; who waits for ever is found later. */
static void limit(int seconds)
{
    const struct itimerval of = { .it_value = { .tv_sec = seconds } };
    setitimer(ITIMER_PROF, &of, NULL);
    alarm((unsigned)(30 * seconds));
}

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: %s SECONDS SEED [FILE]...\n", argv[0]);
        return 1;
    }
    double end = tic_now() + atof(argv[1]);
    seed = strtoull(argv[2], NULL, 10);
    Input *in = tic_alloc((size_t)argc * sizeof *in);
    int n_in = 0;
    for (int i = 3; i < argc; i++) {
        char *data;
        if (tic_read_file(argv[i], LARGEST, &data, &in[n_in].size)) {
            tic_error_clear();           /* larger than a fuzz input: left out */
            continue;
        }
        in[n_in++].data = (uint8_t *)data;
    }
    if (!n_in)
        in[n_in++] = (Input){ (uint8_t *)tic_strdup("x"), 1 };
    const char *slash = strrchr(argv[0], '/');
    char *crash = tic_format("crash-%s", slash ? slash + 1 : argv[0]);
    for (int i = 0; i < n_in; i++)
        LLVMFuzzerTestOneInput(in[i].data, in[i].size);
    long runs = n_in;
    FILE *f = fopen(crash, "wb");
    while (tic_now() < end && f) {
        static uint8_t buffer[LARGEST + 64];
        const Input *start = &in[pick((uint32_t)n_in)];
        memcpy(buffer, start->data, start->size);
        size_t n = mutate(buffer, start->size, in, n_in);
        rewind(f);
        if (fwrite(buffer, 1, n, f) != n || fflush(f) || ftruncate(fileno(f), (long)n))
            break;
        uint8_t *exact = tic_alloc(n ? n : 1);       /* its own block, so that one byte too far is seen */
        memcpy(exact, buffer, n);
        limit(20);
        LLVMFuzzerTestOneInput(exact, n);
        limit(0);
        free(exact);
        tic_error_clear();
        runs++;
    }
    if (f)
        fclose(f);
    unlink(crash);
    for (int i = 0; i < n_in; i++)
        free(in[i].data);
    free(in);
    free(crash);
    printf("%s: %ld inputs, no crash\n", slash ? slash + 1 : argv[0], runs);
    return 0;
}
