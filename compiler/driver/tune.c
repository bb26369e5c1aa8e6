/* tune.c -- see tune.h.
 *
 * All candidates of all kernels are compiled at once, as kernels of one program. Then kernel by kernel: each candidate runs
 * once on the same random numbers and its results are held against the first one's; they are warmed up; and each is timed once
 * a round, so that what the card does in between (clocks, heat) falls on all of them alike. The median counts. Kernels that
 * the table cannot tell apart get what is fastest for all of them together. */
#include "driver/tune.h"
#include "device/cuda.h"
#include "driver/gpu.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST_TRIALS = 48, ROUNDS = 9, USER_FAULT = 1, OUR_FAULT = 70 };
enum { PIECE = 1 << 22, SAMPLES = 64, SAMPLE_BYTES = 1 << 16 };
/* Candidates add in another order and a bf16 has 8 bits: largest difference over the largest number. One that is less than a
 * hundredth faster than what the rules give is not worth a line against them. */
static const double close_bf16 = 1.6e-2, close_f32 = 1e-3, worth = 0.99;

typedef struct Trial {
    TunedChoice choice;
    CudaTrial code;
    double *time, median, apart;         /* seconds, by round */
} Trial;
typedef struct Subject { Fused *f; const Kernel *k; TunedKey key; Trial *trial; int n; bool done; } Subject;

typedef struct Tuner {
    const TuneInput *in;
    Arena *arena;
    CudaModule *m;
    TicGpu *gpu;
    char arch[16];
    int64_t batch;
    int rounds;
    ARRAY(Subject) subject;
    TicGpuPtr piece[N_DTYPES];           /* random numbers on the device */
    Tuned table;
    int other;                           /* kernels that something else is faster for than what the rules give */
    bool differs;
} Tuner;

/* ---- what there is to measure */

static bool known(const Tuner *t, const Kernel *k)
{
    for (int i = 0; i < t->subject.n; i++)
        if (t->subject.at[i].k->signature == k->signature)
            return true;
    return false;
}

static bool add_subject(Tuner *t, Fused *f, const Kernel *k, Text *why)
{
    TunedChoice choice[MOST_TRIALS];
    Subject s = { .f = f, .k = k };
    s.n = known(t, k) ? 0 : cuda_choices(t->m, f, k, t->arch, &s.key, choice, MOST_TRIALS, why);
    if (s.n <= 1)                        /* nothing to choose */
        return s.n >= 0;
    s.trial = NEWN(t->arena, Trial, s.n);
    for (int i = 0; i < s.n; i++) {
        s.trial[i] = (Trial){ .choice = choice[i], .time = NEWN(t->arena, double, t->rounds) };
        if (!cuda_lower_choice(t->m, f, k, t->arch, &choice[i], &s.trial[i].code, why))
            return false;
    }
    PUSH(t->arena, t->subject, s);
    return true;
}

static bool add_subjects(Tuner *t, Text *why)
{
    for (int e = 0; e < t->in->n_entry; e++) {
        Fused *f = t->in->entry[e].gpu;
        for (int i = 0; f && i < f->n_kernel; i++)
            if (!add_subject(t, f, &f->kernel[i], why))
                return false;
    }
    return true;
}

/* ---- numbers on the device */

static void random_piece(DType d, char *out)
{
    int64_t n = PIECE / dtype_size(d);
    for (int64_t i = 0; i < n; i++) {
        TicRandom4 r = tic_philox(d, (uint64_t)i, 0);
        float x = (float)(2 * tic_uniform01(r.v[0], r.v[1]) - 1);
        double one = 1;
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        uint16_t half = (uint16_t)(bits >> 16);
        switch (d) {
        case DT_F32: memcpy(out + 4 * i, &x, 4); break;
        case DT_F64: memcpy(out + 8 * i, &one, 8); break;
        case DT_I32: memset(out + 4 * i, 0, 4); break;           /* an index that is always there */
        case DT_BF16: memcpy(out + 2 * i, &half, 2); break;
        case DT_U8:
        case N_DTYPES: out[i] = (char)r.v[2]; break;
        }
    }
}

static TicStatus make_pieces(Tuner *t)
{
    char *host = tic_alloc(PIECE);
    TicStatus status = TIC_OK;
    for (int d = 0; d < N_DTYPES && !status; d++) {
        random_piece((DType)d, host);
        status = tic_gpu_alloc(t->gpu, PIECE, "random numbers", &t->piece[d]);
        if (!status)
            status = tic_gpu_to(t->gpu, t->piece[d], host, PIECE);
        if (!status)
            status = tic_gpu_wait(t->gpu);
    }
    free(host);
    return status;
}

static void free_pieces(Tuner *t)
{
    for (int d = 0; d < N_DTYPES; d++)
        tic_gpu_free(t->gpu, t->piece[d]);
}

/* Where a kernel's arguments lie; those of one storage share a place. */
typedef struct Places {
    const Subject *s;
    int n;
    TicGpuPtr *at;                       /* [n + 1]: the workspace comes last */
    bool *own;
    size_t *bytes;
} Places;

static size_t bytes_of(const Tuner *t, const Subject *s, int arg)
{
    return (size_t)poly_at(tensor_bytes(s->f->graph, s->k->args[arg]), t->batch);
}

static TicStatus place(Tuner *t, const Subject *s, Places *p)
{
    const char *name = cuda_kernel(t->m, s->trial[0].code.first)->name;
    size_t workspace = 0;
    *p = (Places){ s, s->k->n_args, NEWN(t->arena, TicGpuPtr, s->k->n_args + 1), NEWN(t->arena, bool, s->k->n_args + 1),
                   NEWN(t->arena, size_t, s->k->n_args + 1) };
    for (int i = 0; i < p->n; i++) {
        int first = 0;
        while (s->f->storage[s->k->args[first]] != s->f->storage[s->k->args[i]])
            first++;
        p->bytes[i] = bytes_of(t, s, i);
        for (int j = i + 1; j < p->n; j++)
            if (first == i && s->f->storage[s->k->args[j]] == s->f->storage[s->k->args[i]] && bytes_of(t, s, j) > p->bytes[i])
                p->bytes[i] = bytes_of(t, s, j);
        p->own[i] = first == i;
        if (first == i)
            TRY(tic_gpu_alloc(t->gpu, p->bytes[i], name, &p->at[i]));
        else
            p->at[i] = p->at[first];
    }
    for (int i = 0; i < s->n; i++) {
        size_t bytes = (size_t)poly_at(s->trial[i].code.workspace, t->batch) * sizeof(float);
        workspace = bytes > workspace ? bytes : workspace;
    }
    p->own[p->n] = workspace > 0;
    return workspace ? tic_gpu_alloc(t->gpu, workspace, name, &p->at[p->n]) : TIC_OK;
}

static void unplace(Tuner *t, Places *p)
{
    for (int i = 0; i <= p->n; i++)
        if (p->own[i])
            tic_gpu_free(t->gpu, p->at[i]);
}

static TicStatus fill(Tuner *t, const Places *p)
{
    for (int i = 0; i < p->n; i++) {
        TicGpuPtr piece = t->piece[p->s->f->graph->tensor[p->s->k->args[i]].dtype];
        for (size_t at = 0; p->own[i] && at < p->bytes[i]; at += PIECE)
            TRY(tic_gpu_copy(t->gpu, p->at[i] + at, piece, p->bytes[i] - at < PIECE ? p->bytes[i] - at : PIECE));
    }
    return TIC_OK;
}

static TicStatus launch(Tuner *t, const Places *p, const Trial *c)
{
    int works = c->code.workspace.c[0] || c->code.workspace.c[1] || c->code.workspace.c[2];
    for (int i = 0; i < c->code.n; i++)
        TRY(tic_gpu_launch(t->gpu, (uint32_t)(c->code.first + i), p->at, p->n + works, t->batch));
    return TIC_OK;
}

/* ---- are the results the first one's? Of a large tensor, pieces evenly over the whole. */

static size_t sample_bytes(size_t all) { return all < (size_t)SAMPLES * SAMPLE_BYTES ? all : (size_t)SAMPLES * SAMPLE_BYTES; }

static TicStatus sample(Tuner *t, TicGpuPtr from, size_t all, char *out)
{
    if (all <= (size_t)SAMPLES * SAMPLE_BYTES)
        return tic_gpu_from(t->gpu, out, from, all);
    for (size_t i = 0; i < SAMPLES; i++) {
        size_t at = (all - SAMPLE_BYTES) / (SAMPLES - 1) * i / 16 * 16;
        TRY(tic_gpu_from(t->gpu, out + i * SAMPLE_BYTES, from + at, SAMPLE_BYTES));
    }
    return TIC_OK;
}

static float number(const char *data, DType d, size_t i)
{
    uint16_t half;
    uint32_t bits;
    float x;
    if (d != DT_BF16)
        return memcpy(&x, data + 4 * i, 4), x;
    memcpy(&half, data + 2 * i, 2);
    bits = (uint32_t)half << 16;
    memcpy(&x, &bits, 4);
    return x;
}

/* Largest difference over the largest number; a NaN or an infinity must be in both. */
static double apart(const char *a, const char *b, DType d, size_t bytes)
{
    double most = 0, size = 1e-30;
    for (size_t i = 0; i < bytes / (size_t)dtype_size(d); i++) {
        float x = number(a, d, i), y = number(b, d, i);
        if (isfinite(x) && isfinite(y)) {
            most = fmax(most, fabs((double)x - y));
            size = fmax(size, fabs(x));
        } else if (isnan(x) != isnan(y) || (isinf(x) || isinf(y) ? x != y : 0)) {
            return INFINITY;
        }
    }
    return most / size;
}

/* Takes what a candidate wrote into `out`, an array for each argument. */
static TicStatus results(Tuner *t, const Places *p, const Trial *c, char **out)
{
    const Subject *s = p->s;
    TRY(fill(t, p));
    TRY(launch(t, p, c));
    for (int i = 0; i < p->n; i++)
        if (out[i])
            TRY(sample(t, p->at[i], bytes_of(t, s, i), out[i]));
    return tic_gpu_wait(t->gpu);
}

static TicStatus compare(Tuner *t, const Places *p)
{
    const Subject *s = p->s;
    char **first = NEWN(t->arena, char *, p->n), **here = NEWN(t->arena, char *, p->n);
    TicStatus status = TIC_OK;
    for (int i = 0; i < p->n; i++) {
        DType d = s->f->graph->tensor[s->k->args[i]].dtype;
        bool written = false;
        for (int w = 0; w < s->k->n_writes; w++)
            written = written || s->k->writes[w] == s->k->args[i];
        if (written && (d == DT_F32 || d == DT_BF16)) {
            first[i] = tic_alloc(sample_bytes(bytes_of(t, s, i)) + 1);
            here[i] = tic_alloc(sample_bytes(bytes_of(t, s, i)) + 1);
        }
    }
    for (int c = 0; c < s->n && !status; c++) {
        status = results(t, p, &s->trial[c], c ? here : first);
        for (int i = 0; i < p->n && c && !status; i++) {
            DType d = s->f->graph->tensor[s->k->args[i]].dtype;
            if (first[i])                /* in units of what is allowed */
                s->trial[c].apart = fmax(s->trial[c].apart, apart(first[i], here[i], d, sample_bytes(bytes_of(t, s, i))) /
                                                                (d == DT_BF16 ? close_bf16 : close_f32));
        }
    }
    for (int i = 0; i < p->n; i++) {
        free(first[i]);
        free(here[i]);
    }
    return status;
}

/* ---- time */

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static TicStatus time_all(Tuner *t, const Places *p)
{
    const Subject *s = p->s;
    for (int r = -1; r < t->rounds; r++) {               /* the first round warms up */
        for (int c = 0; c < s->n; c++) {
            TRY(tic_gpu_mark(t->gpu, 2 * c));
            TRY(launch(t, p, &s->trial[c]));
            TRY(tic_gpu_mark(t->gpu, 2 * c + 1));
        }
        TRY(tic_gpu_wait(t->gpu));
        for (int c = 0; c < s->n && r >= 0; c++)
            s->trial[c].time[r] = tic_gpu_seconds(t->gpu, 2 * c, 2 * c + 1);
    }
    for (int c = 0; c < s->n; c++) {
        qsort(s->trial[c].time, (size_t)t->rounds, sizeof(double), by_size);
        s->trial[c].median = s->trial[c].time[t->rounds / 2];
    }
    return TIC_OK;
}

static void report(Tuner *t, const Subject *s)
{
    Text line = { .arena = t->arena };
    double flops = (double)poly_at(kernel_flops(s->f, s->k), t->batch);
    int fastest = 0;
    tuned_print_key(&s->key, &line);
    printf("%s   %s\n", text_data(&line), cuda_kernel(t->m, s->trial[0].code.first)->name);
    for (int c = 1; c < s->n; c++)
        fastest = s->trial[c].apart <= 1 && s->trial[c].median < s->trial[fastest].median ? c : fastest;
    for (int c = 0; c < s->n; c++) {
        const Trial *x = &s->trial[c];
        Text name = { .arena = t->arena };
        tuned_print_choice(&s->key, &x->choice, &name);
        printf("  %c %-32s %10.4f ms %6.0f GFLOP/s%s", c == fastest ? '*' : ' ', text_data(&name), x->median * 1e3, flops / x->median * 1e-9,
               c ? "" : "   by rule");
        if (x->apart > 1) {
            printf("   its results are not the first one's: %.1f times as far apart as allowed", x->apart);
            t->differs = true;
        }
        printf("\n");
    }
    fflush(stdout);
}

static TicStatus measure(Tuner *t, Subject *s)
{
    Places p;
    TicStatus status = place(t, s, &p);
    if (!status)
        status = compare(t, &p);
    if (!status)
        status = time_all(t, &p);
    unplace(t, &p);
    if (!status)
        report(t, s);
    return status;
}

/* ---- the table */

static bool same_choice(const TunedChoice *a, const TunedChoice *b)
{
    return a->t == b->t && a->splits == b->splits && a->shares == b->shares && a->warps == b->warps && a->blocks == b->blocks &&
           a->wgmma == b->wgmma;
}

/* The choice for all kernels of one key: the least sum of medians, of those that all of them have and that are right. */
static void settle(Tuner *t, Subject *s)
{
    double least = INFINITY, by_rule = INFINITY;
    const Trial *best = &s->trial[0];
    for (int c = 0; c < s->n; c++) {
        double sum = 0;
        for (int i = 0; i < t->subject.n; i++) {
            const Subject *o = &t->subject.at[i];
            double time = INFINITY;
            if (!tuned_same(&o->key, &s->key))
                continue;
            for (int k = 0; k < o->n; k++)
                if (same_choice(&o->trial[k].choice, &s->trial[c].choice) && o->trial[k].apart <= 1)
                    time = o->trial[k].median;
            sum += time;
        }
        if (!c)
            by_rule = sum;
        if (sum < least && (!c || sum < worth * by_rule)) {
            least = sum;
            best = &s->trial[c];
        }
    }
    for (int i = 0; i < t->subject.n; i++)
        if (tuned_same(&t->subject.at[i].key, &s->key)) {
            t->subject.at[i].done = true;
            t->other += best != &s->trial[0];
        }
    tuned_put(&t->table, &s->key, &best->choice);
}

static TicStatus write_table(Tuner *t, const char *path)
{
    Text out = { .arena = t->arena };
    for (int i = 0; i < t->subject.n; i++)
        if (!t->subject.at[i].done)
            settle(t, &t->subject.at[i]);
    tuned_sort(&t->table);
    tuned_print(&t->table, &out);
    TRY(tic_write_file(path, text_data(&out), out.n));
    printf("%d kernels measured on %s at batch %lld; for %d of them something is faster than what the rules give\n"
           "%s: %d lines; `ticc --table %s` compiles with them\n", t->subject.n, tic_gpu_name(t->gpu), (long long)t->batch, t->other, path,
           t->table.line.n, path);
    return TIC_OK;
}

/* ---- all of it */

static int failed(TicStatus status)
{
    fprintf(stderr, "ticc: --tune: %s\n", tic_error());
    return status == TIC_BUG ? OUR_FAULT : USER_FAULT;
}

static const TicProgram *program_of(Tuner *t)
{
    size_t size;
    const BlobInput in = { .program = t->in->program, .source = "", .target = t->arch, .version = TICC_VERSION, .hash = t->in->hash, .cuda = t->m };
    return blob_build(&in, t->arena, &size);
}

static TicStatus measure_all(Tuner *t)
{
    int n = cuda_kernels(t->m);
    uint32_t *kernel = NEWN(t->arena, uint32_t, n);
    for (int i = 0; i < n; i++)
        kernel[i] = (uint32_t)i;
    TRY(tic_gpu_prepare(t->gpu, kernel, n));
    TicStatus status = make_pieces(t);
    for (int i = 0; i < t->subject.n && !status; i++)
        status = measure(t, &t->subject.at[i]);
    free_pieces(t);
    return status;
}

/* The table to be written as it is now; a file that is not there is an empty one. */
static bool read_table(Tuner *t, const char *path, Text *why)
{
    enum { MOST = 16 << 20 };
    char *text = NULL;
    size_t size;
    if (access(path, F_OK))
        return true;
    if (tic_read_file(path, MOST, &text, &size)) {
        text_printf(why, "--table: %s", tic_error());
        return false;
    }
    bool ok = tuned_read(&t->table, path, text, why);
    free(text);
    return ok;
}

static bool asked_for(const Tuner *t, Text *why)
{
    int n;
    const char **arch = gpu_architectures(t->arena, t->in->o->gpu, &n, why);
    for (int i = 0; arch && i < n; i++)
        if (!strcmp(arch[i], t->arch))
            return true;
    if (arch && n)
        text_printf(why, "--tune: the GPU here is %s (%s), wanted %s: what one card measures says nothing of another", t->arch, tic_gpu_name(t->gpu),
                    t->in->o->gpu);
    return arch && !n;
}

static int prepare(Tuner *t, const char *path)
{
    Text why = { .arena = t->arena };
    const char *here = t->arch;
    const CudaTarget target = { NULL, gpu_portable(&here, 1), t->batch };
    t->m = cuda_module_new(t->arena, &target);
    if (!asked_for(t, &why) || !read_table(t, path, &why)) {
        fprintf(stderr, "ticc: %s\n", text_data(&why));
        return USER_FAULT;
    }
    if (!add_subjects(t, &why)) {
        fprintf(stderr, "ticc: internal error in --tune: %s\n", text_data(&why));
        return OUR_FAULT;
    }
    if (!t->subject.n)
        fprintf(stderr, "ticc: --tune: no contraction and no attention of this model has a choice of templates\n");
    return t->subject.n ? 0 : USER_FAULT;
}

static const char *table_path(const Options *o, Arena *a)
{
    const char *slash = strrchr(o->input, '/'), *name = slash ? slash + 1 : o->input;
    size_t n = strlen(name);
    if (o->table)
        return o->table;
    return arena_printf(a, "%.*s.table", (int)(n > 4 && !strcmp(name + n - 4, ".tic") ? n - 4 : n), name);
}

int tune(const TuneInput *in, Arena *a)
{
    static const TicProgram empty;               /* to see which GPU there is */
    TicGpu *first = NULL;
    Tuner t = { .in = in, .arena = a, .rounds = in->o->tune_rounds ? in->o->tune_rounds : ROUNDS, .table = { .arena = a } };
    const char *path = table_path(in->o, a);
    int64_t usual = in->program->train.micro ? in->program->train.micro : in->program->train.batch;
    t.batch = in->o->tune_batch ? in->o->tune_batch : usual;
    TicStatus status = tic_gpu_open(&empty, 0, &first);
    if (status)
        return failed(status);
    t.gpu = first;
    tic_gpu_arch(first, t.arch, sizeof t.arch);
    int code = prepare(&t, path);
    if (!code) {
        status = tic_gpu_open(program_of(&t), 0, &t.gpu);
        if (!status)
            status = measure_all(&t);
        if (!status)
            status = write_table(&t, path);
        if (status)
            code = failed(status);
        tic_gpu_close(t.gpu);
    }
    tic_gpu_close(first);
    if (!code && t.differs)
        fprintf(stderr, "ticc: --tune: templates disagree: see what stands above; they were left out\n");
    return code ? code : t.differs ? USER_FAULT : 0;
}
