/* rt_ckpt.c -- what is written is read back bit by bit and depends on nothing else; what was cut or changed is refused
 * with one message; a full disk costs nothing but the new file. */
#define _GNU_SOURCE
#include "ckpt_test.h"
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"
#include "ckpt/safetensors.h"
#include "ckpt/zip.h"

/* ------------------------------------------------------------ a small model */

enum { N = 7, VALUES = 4096 };
static float values[3][VALUES];          /* parameters and the two moments */

static const struct { const char *name; int rank; int64_t shape[4]; bool decay; } model[N] = {
    { "positional_embedding", 2, { 7, 5 }, true },
    { "logit_scale", 0, { 0 }, false },
    { "visual.class_embedding", 1, { 5 }, false },
    { "visual.conv1.weight", 4, { 5, 3, 2, 2 }, true },
    { "visual.cube", 3, { 2, 1, 9 }, true },
    { "visual.nothing", 2, { 0, 4 }, true },
    { "ln_final.bias", 1, { 1 }, false },
};

static const TicMeta meta[] = {
    { .key = "program", .kind = TIC_META_STR, .s = "0123456789abcdef \xC3\xA4" },
    { .key = "seed", .kind = TIC_META_INT, .i = -1234567890123456789 },
    { .key = "zero", .kind = TIC_META_INT, .i = 0 },
    { .key = "byte", .kind = TIC_META_INT, .i = 255 },
    { .key = "two_bytes", .kind = TIC_META_INT, .i = 65535 },
    { .key = "minus_one", .kind = TIC_META_INT, .i = -1 },
    { .key = "int32", .kind = TIC_META_INT, .i = INT32_MIN },
    { .key = "above_int32", .kind = TIC_META_INT, .i = 2147483648 },
    { .key = "most", .kind = TIC_META_INT, .i = INT64_MAX },
    { .key = "least", .kind = TIC_META_INT, .i = INT64_MIN },
    { .key = "loss", .kind = TIC_META_FLOAT, .f = 0.1 },
    { .key = "endless", .kind = TIC_META_FLOAT, .f = -INFINITY },
};

static void fill(TicNamedTensor *t, bool with_state)
{
    int64_t at = 0;
    for (int k = 0; k < 3; k++)
        for (int i = 0; i < VALUES; i++) {
            uint32_t bits = tic_philox((uint64_t)k, (uint64_t)i, 0).v[0];    /* any bits: also NaN and infinity */
            memcpy(&values[k][i], &bits, 4);
        }
    for (int i = 0; i < N; i++) {
        t[i] = (TicNamedTensor){ .name = model[i].name, .rank = model[i].rank, .decay = model[i].decay };
        memcpy(t[i].shape, model[i].shape, sizeof model[i].shape);
        t[i].data = values[0] + at;
        if (with_state) {
            t[i].state[0].role = "exp_avg";
            t[i].state[0].data = values[1] + at;
            t[i].state[1].role = "exp_avg_sq";
            t[i].state[1].data = values[2] + at;
        }
        int64_t n;
        assert_true(tic_shape_count(t[i].rank, t[i].shape, &n));
        at += n;
    }
    assert_true(at < VALUES);
}

static TicCheckpointContents contents(const TicNamedTensor *t)
{
    return (TicCheckpointContents){
        .epoch = 3, .name = "run \"a\"", .lr = 0.00048, .beta1 = 0.9, .beta2 = 0.98, .eps = 1e-6, .weight_decay = 0.2,
        .step = 777, .global_step = 70000, .samples_seen = 5000000000, .tensor = t, .n_tensors = N,
        .meta = meta, .n_meta = (int)TIC_LEN(meta),
    };
}

static void write_small(const char *path, bool with_state)
{
    TicNamedTensor t[N];
    fill(t, with_state);
    TicCheckpointContents c = contents(t);
    assert_int_equal(tic_checkpoint_write(path, &c), TIC_OK);
}

static void check_values(TicCheckpoint *ck, const TicNamedTensor *t, bool with_state)
{
    float out[VALUES];
    for (int i = 0; i < N; i++) {
        int64_t n;
        tic_shape_count(t[i].rank, t[i].shape, &n);
        memset(out, 0, sizeof out);
        assert_int_equal(tic_checkpoint_read(ck, t[i].name, t[i].rank, t[i].shape, out), TIC_OK);
        assert_memory_equal(out, t[i].data, (size_t)n * 4);
        for (int s = 0; with_state && s < 2; s++) {
            assert_int_equal(tic_checkpoint_read_state(ck, t[i].name, t[i].state[s].role, t[i].rank, t[i].shape, out),
                             TIC_OK);
            assert_memory_equal(out, t[i].state[s].data, (size_t)n * 4);
        }
        if (with_state) {
            assert_int_equal(tic_checkpoint_read_state(ck, t[i].name, "step", 0, NULL, out), TIC_OK);
            assert_true(out[0] == 777);
        }
    }
}

/* ------------------------------------------------------------ round trips */

static void test_round_trip(void **state)
{
    char *path = in_folder("epoch_3.pt");
    TicNamedTensor t[N];
    TicCheckpoint *ck;
    fill(t, true);
    write_small(path, true);
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    assert_int_equal(tic_checkpoint_count(ck), N);
    for (int i = 0; i < N; i++) {
        assert_string_equal(tic_checkpoint_tensor(ck, i).name, t[i].name);
        assert_int_equal(tic_checkpoint_tensor(ck, i).dtype, TIC_STORED_F32);
    }
    assert_true(tic_checkpoint_has_optimizer(ck));
    check_values(ck, t, true);
    assert_int_equal(tic_checkpoint_match(ck, t, N), TIC_OK);
    int64_t v;
    double f;
    assert_true(tic_checkpoint_int(ck, "epoch", &v) && v == 3);
    assert_true(tic_checkpoint_int(ck, "global_step", &v) && v == 70000);
    assert_true(tic_checkpoint_int(ck, "samples_seen", &v) && v == 5000000000);
    assert_string_equal(tic_checkpoint_str(ck, "name"), "run \"a\"");
    assert_true(tic_checkpoint_float(ck, "optimizer.param_groups.1.lr", &f) && f == 0.00048);
    assert_true(tic_checkpoint_float(ck, "optimizer.param_groups.0.weight_decay", &f) && f == 0);
    assert_true(tic_checkpoint_float(ck, "optimizer.param_groups.1.betas.1", &f) && f == 0.98);
    assert_true(tic_checkpoint_int(ck, "optimizer.param_groups.1.params.0", &v) && v == 3);
    assert_false(tic_checkpoint_int(ck, "optimizer.param_groups.2.lr", &v));
    assert_false(tic_checkpoint_int(ck, "name", &v));
    assert_null(tic_checkpoint_str(ck, "epoch"));
    for (size_t i = 0; i < TIC_LEN(meta); i++) {
        char key[64];
        snprintf(key, sizeof key, "ticc.%s", meta[i].key);
        if (meta[i].kind == TIC_META_INT)
            assert_true(tic_checkpoint_int(ck, key, &v) && v == meta[i].i);
        else if (meta[i].kind == TIC_META_FLOAT)
            assert_true(tic_checkpoint_float(ck, key, &f) && f == meta[i].f);
        else
            assert_string_equal(tic_checkpoint_str(ck, key), meta[i].s);
    }
    tic_checkpoint_close(ck);
    free(path);
}

static void test_weights_only(void **state)
{
    char *path = in_folder("weights.pt");
    TicNamedTensor t[N];
    TicCheckpoint *ck;
    fill(t, false);
    for (int bare = 0; bare < 2; bare++) {
        TicCheckpointContents c = contents(t);
        c.bare = bare == 1;
        assert_int_equal(tic_checkpoint_write(path, &c), TIC_OK);
        assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
        check_values(ck, t, false);
        assert_false(tic_checkpoint_has_optimizer(ck));
        expect_error(tic_checkpoint_read_state(ck, "logit_scale", "exp_avg", 0, NULL, values[0]), "there is none");
        int64_t v;
        assert_int_equal(tic_checkpoint_int(ck, "epoch", &v), !bare);
        tic_checkpoint_close(ck);
    }
    free(path);
}

static void test_safetensors(void **state)
{
    char *path = in_folder("model.safetensors");
    TicNamedTensor t[N];
    TicCheckpoint *ck;
    fill(t, false);
    assert_int_equal(tic_safetensors_write(path, t, N, meta, (int)TIC_LEN(meta)), TIC_OK);
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    check_values(ck, t, false);
    assert_int_equal(tic_checkpoint_match(ck, t, N), TIC_OK);
    assert_string_equal(tic_checkpoint_str(ck, "program"), meta[0].s);
    assert_string_equal(tic_checkpoint_str(ck, "seed"), "-1234567890123456789");
    assert_string_equal(tic_checkpoint_str(ck, "format"), "pt");
    tic_checkpoint_close(ck);
    free(path);
}

/* Also while other files are written in between, and under another name. */
static void test_same_bytes(void **state)
{
    static const char *const names[] = { "epoch_1.pt", "epoch_latest.pt" };
    char *data[2];
    size_t size[2];
    for (int i = 0; i < 2; i++) {
        char *path = in_folder(names[i]);
        write_small(path, true);
        assert_int_equal(tic_read_file(path, 1 << 20, &data[i], &size[i]), TIC_OK);
        free(path);
    }
    assert_int_equal(size[0], size[1]);
    assert_memory_equal(data[0], data[1], size[0]);
    free(data[0]);
    free(data[1]);
}

static void test_alignment(void **state)
{
    char *path = in_folder("aligned.pt");
    TicBytes s;
    TicZip z;
    write_small(path, true);
    assert_int_equal(tic_bytes_open(&s, path), TIC_OK);
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    assert_int_equal(z.count, 3 + 4 * N);
    for (size_t i = 0; i < z.count; i++)
        assert_int_equal(z.entry[i].offset % 64, 0);
    tic_zip_close(&z);
    tic_bytes_close(&s);
    free(path);
}

/* ------------------------------------------------------------ damage */

/* Opens bytes and reads all there is; whatever they are, it must return. Returns whether all was well. */
static bool read_everything(const void *data, size_t size)
{
    TicCheckpoint *ck;
    if (tic_checkpoint_open_memory(data, size, "bytes", &ck)) {
        assert_true(tic_error()[0]);
        tic_error_clear();
        return false;
    }
    static float out[1 << 16];
    bool well = true;
    for (int i = 0; i < tic_checkpoint_count(ck); i++) {
        TicCheckpointTensor t = tic_checkpoint_tensor(ck, i);
        int64_t n;
        if (!tic_shape_count(t.rank, t.shape, &n) || n > 1 << 16)
            continue;
        well &= !tic_checkpoint_read(ck, t.name, t.rank, t.shape, out);
        well &= !tic_checkpoint_read_state(ck, t.name, "exp_avg", t.rank, t.shape, out);
        well &= !tic_checkpoint_read_state(ck, t.name, "exp_avg_sq", t.rank, t.shape, out);
        well &= !tic_checkpoint_read_state(ck, t.name, "step", 0, NULL, out);
    }
    TicNamedTensor t[N];
    fill(t, false);
    well &= !tic_checkpoint_match(ck, t, N);
    int64_t v;
    double f;
    well &= tic_checkpoint_int(ck, "ticc.seed", &v) && v == meta[1].i;
    well &= tic_checkpoint_float(ck, "optimizer.param_groups.1.lr", &f) && f == 0.00048;
    tic_checkpoint_close(ck);
    tic_error_clear();
    return well;
}

static void load_small(char **data, size_t *size)
{
    char *path = in_folder("small.pt");
    write_small(path, true);
    assert_int_equal(tic_read_file(path, 1 << 20, data, size), TIC_OK);
    free(path);
}

static void test_truncated(void **state)
{
    char *data;
    size_t size;
    load_small(&data, &size);
    assert_true(read_everything(data, size));
    for (size_t n = 0; n < size; n++) {
        char *cut = malloc(n ? n : 1);           /* its own block: the sanitizer sees a read past the end */
        memcpy(cut, data, n);
        TicCheckpoint *ck;
        assert_int_not_equal(tic_checkpoint_open_memory(cut, n, "cut.pt", &ck), TIC_OK);
        assert_null(ck);
        assert_non_null(strstr(tic_error(), "cut.pt: "));
        tic_error_clear();
        free(cut);
    }
    free(data);
}

/* A changed bit in a payload is found by its checksum; in a header it either is refused or says nothing. */
static void test_bit_flips(void **state)
{
    char *data;
    size_t size;
    load_small(&data, &size);
    TicBytes s;
    TicZip z;
    tic_bytes_memory(&s, data, size, "small");
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    bool *payload = tic_alloc(size);
    for (size_t i = 0; i < z.count; i++)
        if (!strstr(z.entry[i].name, "version"))
            memset(payload + z.entry[i].offset, true, z.entry[i].size);
    for (size_t i = 0; i < size; i++) {
        data[i] ^= (char)(1 << i % 8);
        bool well = read_everything(data, size);
        if (payload[i])
            assert_false(well);
        data[i] ^= (char)(1 << i % 8);
    }
    assert_true(read_everything(data, size));
    free(payload);
    tic_zip_close(&z);
    tic_bytes_close(&s);
    free(data);
}

/* The same without checksums, so that changes reach the pickle machine. */
static void test_pickle_flips(void **state)
{
    char *data;
    size_t size;
    load_small(&data, &size);
    TicBytes s;
    TicZip z;
    tic_bytes_memory(&s, data, size, "small");
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    const TicZipEntry *e = tic_zip_find(&z, "archive/data.pkl");
    assert_non_null(e);
    TicUnpickled u;
    for (size_t i = 0; i < e->size; i++)
        for (int bit = 0; bit < 8; bit++) {
            char *copy = malloc(e->size);
            memcpy(copy, data + e->offset, e->size);
            copy[i] ^= (char)(1 << bit);
            if (!tic_unpickle(&u, copy, e->size, "pickle"))
                tic_unpickle_free(&u);
            tic_error_clear();
            free(copy);
        }
    for (size_t n = 0; n < e->size; n++) {
        char *copy = malloc(n ? n : 1);
        memcpy(copy, data + e->offset, n);
        expect_error(tic_unpickle(&u, copy, n, "pickle"), "pickle: byte");
        free(copy);
    }
    tic_zip_close(&z);
    tic_bytes_close(&s);
    free(data);
}

static void test_safetensors_damage(void **state)
{
    char *path = in_folder("damaged.safetensors"), *data;
    size_t size;
    TicNamedTensor t[N];
    TicCheckpoint *ck;
    fill(t, false);
    assert_int_equal(tic_safetensors_write(path, t, N, meta, (int)TIC_LEN(meta)), TIC_OK);
    assert_int_equal(tic_read_file(path, 1 << 20, &data, &size), TIC_OK);
    for (size_t n = 0; n < size; n++) {
        char *cut = malloc(n ? n : 1);
        memcpy(cut, data, n);
        assert_int_not_equal(tic_checkpoint_open_memory(cut, n, "cut", &ck), TIC_OK);
        tic_error_clear();
        free(cut);
    }
    for (size_t i = 0; i < size; i++) {
        data[i] ^= (char)(1 << i % 8);
        read_everything(data, size);
        data[i] ^= (char)(1 << i % 8);
    }
    free(data);
    free(path);
}

/* ------------------------------------------------------------ comparing with a model */

static void test_misfits(void **state)
{
    char *path = in_folder("fits.pt");
    TicNamedTensor t[N];
    TicCheckpoint *ck;
    float out[VALUES];
    write_small(path, false);
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    fill(t, false);
    t[0].shape[1] = 6;
    t[2].name = "visual.cls";
    TicStatus status = tic_checkpoint_match(ck, t, N);
    assert_int_equal(status, TIC_USER);
    assert_non_null(strstr(tic_error(), "1 missing (first: visual.cls [5])"));
    assert_non_null(strstr(tic_error(), "1 unexpected (first: visual.class_embedding [5])"));
    expect_error(status, "1 of another shape (first: positional_embedding: "
                         "the file has [7, 5], the model wants [7, 6])");
    expect_error(tic_checkpoint_match(ck, t, 2), "5 unexpected");
    expect_error(tic_checkpoint_read(ck, "positional_embedding", 2, t[0].shape, out),
                 "the file has [7, 5], wanted is [7, 6]");
    expect_error(tic_checkpoint_read(ck, "visual.cls", 1, t[2].shape, out), "has no tensor visual.cls");
    tic_checkpoint_close(ck);
    free(path);
}

/* ------------------------------------------------------------ full disk */

static void test_full_disk(void **state)
{
    enum { LARGE = 1 << 20 };
    char *path = in_folder("epoch_9.pt"), *tmp = in_folder("epoch_9.pt.tmp"), *before, *after;
    size_t size, size_after;
    TicNamedTensor t[N];
    write_small(path, true);
    assert_int_equal(tic_read_file(path, 1 << 20, &before, &size), TIC_OK);
    fill(t, true);
    TicCheckpointContents c = contents(t);
    c.epoch = 10;
    struct rlimit old, small;
    getrlimit(RLIMIT_FSIZE, &old);
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    for (size_t room = 0; room < size; room += size / 5) {
        small = (struct rlimit){ room, old.rlim_max };
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
        TicStatus status = tic_checkpoint_write(path, &c);
        setrlimit(RLIMIT_FSIZE, &old);
        assert_int_equal(status, TIC_IO);
        expect_error(status, "epoch_9.pt.tmp: cannot write");
        assert_int_equal(access(tmp, F_OK), -1);
        assert_int_equal(tic_read_file(path, 1 << 20, &after, &size_after), TIC_OK);
        assert_int_equal(size_after, size);
        assert_memory_equal(after, before, size);
        free(after);
    }
    /* A tensor larger than any buffer: the failure comes in the middle, not at the end. */
    float *large = tic_alloc(LARGE * sizeof *large);
    c.tensor = &(TicNamedTensor){ .name = "large", .rank = 1, .shape = { LARGE }, .data = large };
    c.n_tensors = 1;
    small = (struct rlimit){ LARGE, old.rlim_max };
    setrlimit(RLIMIT_FSIZE, &small);
    TicStatus status = tic_checkpoint_write(path, &c);
    setrlimit(RLIMIT_FSIZE, &old);
    expect_error(status, "epoch_9.pt.tmp: cannot write");
    assert_int_equal(access(tmp, F_OK), -1);
    free(large);
    signal(SIGXFSZ, handler);
    char *nowhere = in_folder("nowhere/epoch_1.pt");
    expect_error(tic_checkpoint_write(nowhere, &c), "/nowhere/epoch_1.pt.tmp: cannot write");
    free(nowhere);
    free(before);
    free(path);
    free(tmp);
}

static void test_bad_texts(void **state)
{
    char *path = in_folder("bad.pt");
    TicNamedTensor t[N];
    fill(t, true);
    TicCheckpointContents c = contents(t);
    c.name = "\xff";
    expect_error(tic_checkpoint_write(path, &c), "not valid UTF-8");
    c.name = "";
    t[3].name = t[1].name;
    expect_error(tic_checkpoint_write(path, &c), "two tensors are called logit_scale");
    assert_int_equal(access(path, F_OK), -1);
    free(path);
}

/* ------------------------------------------------------------ large archives */

/* Entries and offsets above 4 GiB, in a file that is mostly a hole: the payload is not written but skipped. */
static void test_zip64(void **state)
{
    enum { HOLE = 7 };
    char *path = in_folder("large.zip");
    uint64_t big = (4ull << 30) + HOLE;
    TicSink sink;
    TicZipWriter w;
    struct rlimit limit;
    getrlimit(RLIMIT_FSIZE, &limit);
    assert_int_equal(tic_sink_open(&sink, path), TIC_OK);
    tic_zip_begin(&w, &sink);
    assert_int_equal(tic_zip_add(&w, "a/first", "1", 1), TIC_OK);
    assert_int_equal(tic_zip_add(&w, "a/moved", "", 0), TIC_OK);
    assert_int_equal(tic_sink_write(&sink, "", 0), TIC_OK);
    /* What follows lies beyond 4 GiB: move the file's end there. */
    assert_int_equal(write(sink.fd, sink.buffer, sink.used), (ssize_t)sink.used);
    sink.used = 0;
    if (limit.rlim_cur < 2 * big || ftruncate(sink.fd, (off_t)big) || lseek(sink.fd, (off_t)big, SEEK_SET) < 0) {
        fprintf(stderr, "# skipped: no file above 4 GiB can be made here\n");
        tic_zip_drop(&w);
        tic_sink_abandon(&sink);
        free(path);
        skip();
    }
    sink.at = big;
    assert_int_equal(tic_zip_add(&w, "a/far", "far away", 8), TIC_OK);
    assert_int_equal(tic_zip_end(&w), TIC_OK);
    assert_int_equal(tic_sink_commit(&sink), TIC_OK);
    TicBytes s;
    TicZip z;
    char out[9] = "";
    assert_int_equal(tic_bytes_open(&s, path), TIC_OK);
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    const TicZipEntry *e = tic_zip_find(&z, "a/far");
    assert_true(e && e->offset > big && e->offset % 64 == 0 && e->size == 8);
    assert_int_equal(tic_zip_read(&z, e, out), TIC_OK);
    assert_string_equal(out, "far away");
    tic_zip_close(&z);
    tic_bytes_close(&s);
    free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_weights_only),
        cmocka_unit_test(test_safetensors),
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_bit_flips),
        cmocka_unit_test(test_pickle_flips),
        cmocka_unit_test(test_safetensors_damage),
        cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_zip64),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
