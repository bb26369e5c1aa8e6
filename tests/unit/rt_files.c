/* rt_files.c -- a run's state in checkpoints: what is saved comes back, and how many steps were done is found in every place where
 * a writer may have put it; numbers that cannot be are refused. */
#define _GNU_SOURCE
#include "ckpt_test.h"
#include <math.h>
#include <zlib.h>
#include "ckpt/checkpoint.h"
#include "ckpt/zip.h"
#include "train/files.h"

/* A program of one parameter with two moments; texts stand behind the tables. */
enum { SIZE = 3 };
typedef struct { TicProgram h; TicParam param[1], state[2]; char text[64]; } Blob;

#define PLACE(field) ((uint32_t)offsetof(Blob, field))

static uint32_t put_text(Blob *b, const char *text)
{
    static uint32_t at;
    if (!b->text[0])
        at = 1;
    uint32_t here = PLACE(text) + at;
    strcpy(b->text + at, text);
    at += (uint32_t)strlen(text) + 1;
    b->text[0] = 1;
    return here;
}

static TicModel *make_model(Blob *b)
{
    TicModel *m;
    *b = (Blob){ .h = { .magic = TIC_MAGIC, .abi = TIC_ABI, .bytes = sizeof *b, .hash = 0x1234, .n_params = 1, .params = PLACE(param),
                        .n_states = 2, .states = PLACE(state), .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .seed = 5 } };
    b->h.model = put_text(b, "tiny");
    for (int i = 0; i < 3; i++) {
        TicParam *p = i ? &b->state[i - 1] : b->param;
        *p = (TicParam){ .rank = 1, .shape = { SIZE }, .count = SIZE };
        p->name = put_text(b, i == 0 ? "w" : i == 1 ? "m" : "v");
        p->role = put_text(b, i == 0 ? "" : i == 1 ? "exp_avg" : "exp_avg_sq");
    }
    assert_int_equal(tic_model_new(&b->h, NULL, &m), TIC_OK);
    return m;
}

static void fill(TicModel *m, float from)
{
    for (int k = 0; k < SIZE; k++) {
        m->param[0][k] = from + (float)k;
        m->state[0][k] = 10 * from + (float)k;
        m->state[1][k] = 100 * from + (float)k;
    }
}

static void test_round_trip(void **state)
{
    Blob b;
    TicModel *m = make_model(&b);
    char *path = in_folder("epoch_latest.pt"), program[20];
    TicRunState was = { .name = "run", .parent = "step_00/epoch_1.pt", .step = 7, .total = 9, .batch = 4, .micro = 2, .year = 2016,
                        .carried = 30, .skipped = { 1, 2, 3 }, .seed = 5, .data_digest = 77, .lr = 0.25 };
    TicRunState is = { .total = 9, .batch = 4, .micro = 2, .year = 2016, .seed = 5, .data_digest = 77 };
    int64_t updates, skipped;
    fill(m, 1);
    assert_int_equal(tic_save(m, &was, path), TIC_OK);
    fill(m, 2);
    assert_int_equal(tic_resume(m, &is, path), TIC_OK);
    for (int k = 0; k < SIZE; k++)
        assert_true(m->param[0][k] == 1 + (float)k && m->state[0][k] == 10 + (float)k && m->state[1][k] == 100 + (float)k);
    assert_true(is.step == 7 && is.carried == 30 && is.lr == 0.25);
    assert_string_equal(is.parent, was.parent);
    assert_memory_equal(is.skipped, was.skipped, sizeof is.skipped);
    assert_int_equal(tic_load_moments(m, path, &updates), TIC_OK);
    assert_int_equal(updates, 37);
    assert_int_equal(tic_read_facts(path, program, &skipped), TIC_OK);
    assert_string_equal(program, "0000000000001234");
    assert_int_equal(skipped, 6);

    /* what OpenCLIP reads of it: epochs, steps of this run, and those of the moments before it too */
    static const struct { const char *key; int64_t is; } number[] = { { "epoch", 1 }, { "global_step", 9 }, { "samples_seen", 36 } };
    TicCheckpoint *ck;
    float step;
    was.step = 9;
    was.finished = true;
    was.lr = NAN;
    assert_int_equal(tic_save(m, &was, path), TIC_OK);
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    for (size_t i = 0; i < TIC_LEN(number); i++) {
        int64_t n = -1;
        assert_true(tic_checkpoint_int(ck, number[i].key, &n) && n == number[i].is);
    }
    assert_int_equal(tic_checkpoint_read_state(ck, "w", "step", 0, NULL, &step), TIC_OK);
    assert_true(step == 39);
    tic_checkpoint_close(ck);
    assert_int_equal(tic_resume(m, &is, path), TIC_OK);
    assert_true(is.lr == 0.25);                      /* one that is no number is none */

    m->param[0][1] = INFINITY;                       /* such a file is not one to go on with */
    assert_int_equal(tic_save(m, &was, path), TIC_OK);
    expect_error(tic_resume(m, &is, path), "parameter w is not finite");
    tic_model_free(m);
    free(path);
}

/* ---- files as other writers might have left them */

typedef struct { char *data; size_t size; } File;

/* The bytes `from`, wherever they stand in an entry of the archive, become `to`, and the entry's checksum that of what it holds then. */
static void patch(File f, const void *from, const void *to, size_t n)
{
    TicBytes source;
    TicZip z;
    bool found = false;
    tic_bytes_memory(&source, f.data, f.size, "made");
    assert_int_equal(tic_zip_open(&z, &source), TIC_OK);
    for (size_t i = 0; i < z.count; i++) {
        const TicZipEntry *e = &z.entry[i];
        unsigned char *data = (unsigned char *)f.data + e->offset, *at;
        bool here = false;
        for (size_t done = 0; (at = memmem(data + done, e->size - done, from, n)); done = (size_t)(at - data) + n) {
            memcpy(at, to, n);
            here = true;
        }
        uint32_t was = e->crc, is = (uint32_t)crc32(0, data, (uInt)e->size);
        for (char *c; here && was != is && (c = memmem(f.data, f.size, &was, sizeof was));)
            memcpy(c, &is, sizeof is);
        found |= here;
    }
    assert_true(found);
    tic_zip_close(&z);
    tic_bytes_close(&source);
}

/* A checkpoint whose three places for the number of steps say `ours`, `theirs` and, as a float, `optimizer`; absent: NONE. */
static const int64_t NONE = -1234;

static TicStatus resume(int64_t ours, int64_t theirs, float optimizer, int64_t *step)
{
    enum { MARK = 12345 };                           /* what the optimiser's step is until it is patched */
    const float mark = MARK;
    Blob b;
    TicModel *m = make_model(&b);
    char *path = in_folder("made.pt");
    File f;
    const TicMeta meta[] = { { .key = "carried", .kind = TIC_META_INT, .i = 2 }, { .key = "step", .kind = TIC_META_INT, .i = ours } };
    TicNamedTensor w = { .name = "w", .rank = 1, .shape = { SIZE }, .data = m->param[0],
                         .state = { { "exp_avg", m->state[0] }, { "exp_avg_sq", m->state[1] } } };
    TicCheckpointContents c = { .name = "made", .step = MARK, .global_step = theirs == NONE ? 0 : theirs, .tensor = &w, .n_tensors = 1,
                                .meta = meta, .n_meta = ours == NONE ? 1 : 2 };
    fill(m, 1);
    assert_int_equal(tic_checkpoint_write(path, &c), TIC_OK);
    assert_int_equal(tic_read_file(path, 1 << 20, &f.data, &f.size), TIC_OK);
    patch(f, &mark, &optimizer, sizeof mark);
    if (theirs == NONE)
        patch(f, "global_step", "another_key", 11);
    assert_int_equal(tic_write_file(path, f.data, f.size), TIC_OK);
    TicRunState s = { .lr = 0 };
    TicStatus status = tic_resume(m, &s, path);
    *step = s.step;
    if (!status)
        assert_int_equal(s.carried, 2);
    free(f.data);
    free(path);
    tic_model_free(m);
    return status;
}

static void test_steps_done(void **state)
{
    static const char *const wrong = "made.pt: found";
    int64_t step;
    assert_int_equal(resume(4, 5, 6, &step), TIC_OK);
    assert_int_equal(step, 4);
    assert_int_equal(resume(NONE, 5, 6, &step), TIC_OK);
    assert_int_equal(step, 5);
    assert_int_equal(resume(NONE, NONE, 6, &step), TIC_OK);
    assert_int_equal(step, 6);
    assert_int_equal(resume(0, 5, 6, &step), TIC_OK);
    assert_int_equal(step, 0);
    expect_error(resume(NONE, NONE, NAN, &step), wrong);
    expect_error(resume(NONE, NONE, INFINITY, &step), wrong);
    expect_error(resume(NONE, NONE, -1, &step), wrong);
    expect_error(resume(NONE, NONE, 0x1p50f, &step), wrong);
    expect_error(resume(-1, 5, 6, &step), wrong);
    expect_error(resume(INT64_MAX, 5, 6, &step), wrong);
    expect_error(resume(NONE, INT64_MIN, 6, &step), wrong);
}

/* Counts that cannot be are taken for none: nothing is added up beyond 64 bits. */
static void test_counts(void **state)
{
    Blob b;
    TicModel *m = make_model(&b);
    char *path = in_folder("counts.pt"), program[20];
    TicRunState was = { .name = "run", .step = 7, .carried = INT64_MAX - 7, .skipped = { INT64_MAX, -5, 3, INT64_MAX } }, is = { .step = 0 };
    int64_t updates, skipped;
    fill(m, 1);
    assert_int_equal(tic_save(m, &was, path), TIC_OK);
    assert_int_equal(tic_resume(m, &is, path), TIC_OK);
    assert_int_equal(is.carried, 0);
    assert_true(is.skipped[0] == 0 && is.skipped[1] == 0 && is.skipped[2] == 3 && is.skipped[3] == 0);
    assert_int_equal(tic_load_moments(m, path, &updates), TIC_OK);
    assert_int_equal(updates, 7);
    assert_int_equal(tic_read_facts(path, program, &skipped), TIC_OK);
    assert_int_equal(skipped, 3);
    tic_model_free(m);
    free(path);
}

static void test_captions(void **state)
{
    TicProgram p = { .vocabulary = 49407 };
    expect_error(tic_captions_fit(&p), "has 49407 rows; captions are numbers below 49408");
    p.vocabulary = 49408;
    assert_int_equal(tic_captions_fit(&p), TIC_OK);
    p.vocabulary = 0;                                /* of no table */
    assert_int_equal(tic_captions_fit(&p), TIC_OK);
}

/* Where a folder stands nothing is written, and nothing is left lying. */
static void test_in_the_way(void **state)
{
    char *path = in_folder("taken"), *tmp = in_folder("taken.tmp");
    assert_int_equal(tic_make_dirs(path), TIC_OK);
    expect_error(tic_write_file(path, "x", 1), "taken: found a folder, wanted the name of a file");
    assert_int_equal(access(tmp, F_OK), -1);
    int fd = tic_temporary_open(tmp);                /* it came after one had looked */
    assert_true(fd >= 0);
    expect_error(tic_temporary_commit(fd, tmp, path), "taken: cannot rename from");
    assert_int_equal(access(tmp, F_OK), -1);
    free(path);
    free(tmp);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_steps_done), cmocka_unit_test(test_counts), cmocka_unit_test(test_captions),
        cmocka_unit_test(test_in_the_way),
    };
    return cmocka_run_group_tests_name("files", tests, make_folder, remove_folder);
}
