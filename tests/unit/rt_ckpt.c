/* rt_ckpt.c -- what is written is read back bit by bit and depends on nothing else; what was cut, changed or made
 * to do harm is refused with one message; what torch and safetensors write is understood (data/torch_small.*). */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"
#include "ckpt/safetensors.h"
#include "ckpt/zip.h"

static char folder[] = "/tmp/rt_ckpt_XXXXXX";
static char *fixture_path, *safe_path;

static char *in_folder(const char *name) { return tic_format("%s/%s", folder, name); }

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
            assert_int_equal(tic_checkpoint_read_state(ck, t[i].name, t[i].state[s].role, t[i].rank, t[i].shape, out), TIC_OK);
            assert_memory_equal(out, t[i].state[s].data, (size_t)n * 4);
        }
        if (with_state) {
            assert_int_equal(tic_checkpoint_read_state(ck, t[i].name, "step", 0, NULL, out), TIC_OK);
            assert_true(out[0] == 777);
        }
    }
}

static void expect_error(TicStatus status, const char *part)
{
    assert_int_not_equal(status, TIC_OK);
    char *said = tic_strdup(tic_error());
    tic_error_clear();
    if (!strstr(said, part))
        fail_msg("'%s' does not say '%s'", said, part);
    free(said);
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
    TicSource s;
    TicZip z;
    write_small(path, true);
    assert_int_equal(tic_source_open(&s, path), TIC_OK);
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    assert_int_equal(z.count, 3 + 4 * N);
    for (size_t i = 0; i < z.count; i++)
        assert_int_equal(z.entry[i].offset % 64, 0);
    tic_zip_close(&z);
    tic_source_close(&s);
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
    TicSource s;
    TicZip z;
    tic_source_memory(&s, data, size, "small");
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
    tic_source_close(&s);
    free(data);
}

/* The same without checksums, so that changes reach the pickle machine. */
static void test_pickle_flips(void **state)
{
    char *data;
    size_t size;
    load_small(&data, &size);
    TicSource s;
    TicZip z;
    tic_source_memory(&s, data, size, "small");
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
    tic_source_close(&s);
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

static void refuse_table(const char *table, size_t bytes, const char *why)
{
    char file[512];
    uint64_t n = strlen(table);
    memset(file, 0, sizeof file);
    memcpy(file, &n, 8);
    memcpy(file + 8, table, n);
    TicCheckpoint *ck;
    TicStatus status = tic_checkpoint_open_memory(file, 8 + n + bytes, "made", &ck);
    if (!*why) {
        assert_int_equal(status, TIC_OK);
        tic_checkpoint_close(ck);
    } else {
        expect_error(status, why);
    }
}

static void test_safetensors_rules(void **state)
{
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "");
    refuse_table("{\"a\\u00e4\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}  ", 4, "");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9, "its tensors end at");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 7, "cut short");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[3],\"data_offsets\":[0,8]}}", 8, "number of bytes");
    refuse_table("{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "not known");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12, "begin where");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                 "\"b\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "begin where");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]},"
                 "\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[4,8]}}", 8, "twice");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999,99999999999],\"data_offsets\":[0,4]}}", 4, "number of");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "lacks its shape");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4, "made: its table of tensors: JSON: byte");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}x", 4, "something follows");
    refuse_table("{\"a\":[]}", 0, "not known");
}

/* ------------------------------------------------------------ harmful pickles */

static void refuse_pickle(const char *bytes, size_t n, const char *why)
{
    TicUnpickled u;
    expect_error(tic_unpickle(&u, bytes, n, "harm.pkl"), why);
}
#define REFUSE(bytes, why) refuse_pickle(bytes, sizeof bytes - 1, why)

static void test_harm(void **state)
{
    REFUSE("\x80\x02" "cos\nsystem\nX\x04\0\0\0true\x85R.", "os.system is not among");
    REFUSE("\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.", "os.system is not among");
    REFUSE("\x80\x02" "cposix\nsystem\n.", "posix.system is not among");
    REFUSE("\x80\x02" "c__builtin__\neval\n.", "__builtin__.eval is not among");
    REFUSE("\x80\x02" "ctorch\nload\n.", "torch.load is not among");
    REFUSE("\x80\x02" "ccollections\nCounter\n.", "collections.Counter is not among");
    REFUSE("\x80\x02" "c\x1b[2J\nx\n.", "?[2J.x is not among");
    REFUSE("(S'true'\nios\nsystem\n.", "opcode 0x53 (STRING)");
    REFUSE("\x80\x02(ios\nsystem\n.", "opcode 0x69 (INST)");
    REFUSE("\x80\x02}}\x81.", "opcode 0x81 (NEWOBJ)");
    REFUSE("\x80\x02\xff.", "opcode 0xff (unknown)");
    REFUSE("\x80\x02\x82\x01.", "opcode 0x82 (EXT1)");
    REFUSE("\x80\x09N.", "protocol above 5");
    REFUSE("\x80\x02NN.", "left on the stack");
    REFUSE("\x80\x02.", "a value is missing");
    REFUSE("\x80\x02N)R.", "is no function");
    REFUSE("\x80\x02" "ctorch\nFloatStorage\n)R.", "storage that is called");
    REFUSE("\x80\x02K\x01Q.", "no tensor storage");
    REFUSE("\x80\x02h\x07.", "before it is set");
    REFUSE("\x80\x02Nr\xff\xff\xff\x7f.", "memo index");
    REFUSE("\x80\x02X\xff\xff\xff\xffx.", "breaks off");
    REFUSE("\x80\x02\x8a\x09" "123456789.", "more than 64 bits");
    REFUSE("\x80\x02t.", "a mark is missing");
    REFUSE("\x80\x02}(K\x01u.", "a key without a value");
    REFUSE("\x80\x02]Nb.", "a state for something");
    char deep[600];
    memset(deep, '(', sizeof deep);
    refuse_pickle(deep, sizeof deep, "nested too deeply");
    deep[0] = 'N';
    memset(deep + 1, (char)0x85, sizeof deep - 1);
    refuse_pickle(deep, sizeof deep, "nested too deeply");
    TicUnpickled u;
    assert_int_equal(tic_unpickle(&u, "]q\0h\0a.", 7, "circle"), TIC_OK);       /* a list that contains itself */
    assert_ptr_equal(u.top->seq.item[0], u.top);
    tic_unpickle_free(&u);
}

/* A tensor made by hand: storage of `count`, then offset, size and stride. */
static TicStatus hand_tensor(int64_t count, int64_t offset, int64_t size, int64_t stride)
{
    TicPickler p;
    TicUnpickled u;
    tic_pickle_begin(&p);
    tic_pickle_mark(&p);
    tic_pickle_tensor(&p, 0, 0, NULL);           /* makes room; the rest is spelled out */
    p.n = 2;
    char text[] = "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpu";
    memcpy(p.data + p.n, text, sizeof text - 1);
    p.n += sizeof text - 1;
    tic_pickle_int(&p, count);
    tic_pickle_tuple(&p);
    p.data[p.n++] = 'Q';
    tic_pickle_int(&p, offset);
    for (int i = 0; i < 2; i++) {
        tic_pickle_mark(&p);
        tic_pickle_int(&p, i ? stride : size);
        tic_pickle_tuple(&p);
    }
    tic_pickle_bool(&p, false);
    tic_pickle_ordered_dict(&p);
    tic_pickle_tuple(&p);
    p.data[p.n++] = 'R';
    tic_pickle_end(&p);
    TicStatus status = tic_unpickle(&u, p.data, p.n, "hand");
    if (!status)
        tic_unpickle_free(&u);
    tic_pickle_free(&p);
    return status;
}

static void test_tensor_bounds(void **state)
{
    assert_int_equal(hand_tensor(10, 0, 10, 1), TIC_OK);
    assert_int_equal(hand_tensor(10, 1, 3, 4), TIC_OK);
    assert_int_equal(hand_tensor(10, 9, INT64_MAX, 0), TIC_OK);
    assert_int_equal(hand_tensor(10, 10, 0, 1), TIC_OK);
    expect_error(hand_tensor(10, 1, 10, 1), "outside its storage");
    expect_error(hand_tensor(10, 2, 3, 4), "outside its storage");
    expect_error(hand_tensor(10, 0, INT64_MAX, INT64_MAX), "outside its storage");
    expect_error(hand_tensor(10, INT64_MAX, 2, 1), "outside its storage");
    expect_error(hand_tensor(10, 11, 0, 1), "outside its storage");
    expect_error(hand_tensor(10, 0, 2, -1), "not of the form");
    expect_error(hand_tensor(10, -1, 2, 1), "not of the form");
    expect_error(hand_tensor(-1, 0, 0, 1), "no tensor storage");
}

/* ------------------------------------------------------------ other files */

static void test_refused_files(void **state)
{
    static const char legacy[] = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.";
    TicCheckpoint *ck;
    expect_error(tic_checkpoint_open_memory("", 0, "empty.pt", &ck), "empty.pt: is empty");
    expect_error(tic_checkpoint_open_memory(legacy, sizeof legacy - 1, "old.pt", &ck), "before version 1.6");
    expect_error(tic_checkpoint_open_memory("not a checkpoint", 16, "x.pt", &ck), "neither a checkpoint");
    expect_error(tic_checkpoint_open("/nonexistent/x.pt", &ck), "/nonexistent/x.pt: No such file");
    expect_error(tic_checkpoint_open("/tmp", &ck), "not a regular file");
}

/* An archive of the test's own entries. */
static void write_zip(const char *path, const char *name, const void *data, size_t size)
{
    TicSink sink;
    TicZipWriter z;
    assert_int_equal(tic_sink_open(&sink, path), TIC_OK);
    tic_zip_begin(&z, &sink);
    assert_int_equal(tic_zip_add(&z, name, data, size), TIC_OK);
    assert_int_equal(tic_zip_end(&z), TIC_OK);
    assert_int_equal(tic_sink_commit(&sink), TIC_OK);
}

static void test_refused_archives(void **state)
{
    char *path = in_folder("other.pt"), *data;
    size_t size;
    TicCheckpoint *ck;
    write_zip(path, "readme", "x", 1);
    expect_error(tic_checkpoint_open(path, &ck), "not one of torch's");
    write_zip(path, "folder/readme", "x", 1);
    expect_error(tic_checkpoint_open(path, &ck), "without folder/data.pkl");
    write_zip(path, "a/data.pkl", "\x80\x02}.", 4);
    expect_error(tic_checkpoint_open(path, &ck), "holds no tensors");
    write_zip(path, "a/data.pkl", "\x80\x02" "cos\nsystem\n.", 14);
    expect_error(tic_checkpoint_open(path, &ck), "os.system");
    write_zip(path, "a/data.pkl", "\x80\x02}.", 4);
    assert_int_equal(tic_read_file(path, 1 << 20, &data, &size), TIC_OK);
    char *central = memmem(data, size, "PK\1\2", 4);
    assert_non_null(central);
    central[10] = 8;                             /* method: deflated */
    expect_error(tic_checkpoint_open_memory(data, size, "z.pt", &ck), "entry 'a/data.pkl' is compressed");
    central[10] = 0;
    central[8] |= 1;
    expect_error(tic_checkpoint_open_memory(data, size, "z.pt", &ck), "is encrypted");
    free(data);
    free(path);
}

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
    expect_error(status, "1 of another shape (first: positional_embedding: the file has [7, 5], the model wants [7, 6])");
    expect_error(tic_checkpoint_match(ck, t, 2), "5 unexpected");
    expect_error(tic_checkpoint_read(ck, "positional_embedding", 2, t[0].shape, out), "the file has [7, 5], wanted is [7, 6]");
    expect_error(tic_checkpoint_read(ck, "visual.cls", 1, t[2].shape, out), "has no tensor visual.cls");
    tic_checkpoint_close(ck);
    free(path);
}

/* ------------------------------------------------------------ full disk */

static void test_full_disk(void **state)
{
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
    signal(SIGXFSZ, handler);
    expect_error(tic_checkpoint_write("/nonexistent/epoch_1.pt", &c), "/nonexistent/epoch_1.pt.tmp: cannot write");
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
    TicSource s;
    TicZip z;
    char out[9] = "";
    assert_int_equal(tic_source_open(&s, path), TIC_OK);
    assert_int_equal(tic_zip_open(&z, &s), TIC_OK);
    const TicZipEntry *e = tic_zip_find(&z, "a/far");
    assert_true(e && e->offset > big && e->offset % 64 == 0 && e->size == 8);
    assert_int_equal(tic_zip_read(&z, e, out), TIC_OK);
    assert_string_equal(out, "far away");
    tic_zip_close(&z);
    tic_source_close(&s);
    free(path);
}

/* ------------------------------------------------------------ what torch writes */

static void test_torch_file(void **state)
{
    TicCheckpoint *ck;
    if (access(fixture_path, R_OK)) {
        fprintf(stderr, "# skipped: %s is missing\n", fixture_path);
        skip();
    }
    assert_int_equal(tic_checkpoint_open(fixture_path, &ck), TIC_OK);
    float out[64];
    const int64_t two_three[] = { 2, 3 }, three_two[] = { 3, 2 }, four[] = { 4 };
    int64_t v;
    double f;
    assert_true(tic_checkpoint_int(ck, "epoch", &v) && v == 2);
    assert_string_equal(tic_checkpoint_str(ck, "name"), "made by torch");
    assert_int_equal(tic_checkpoint_read(ck, "proj", 2, two_three, out), TIC_OK);        /* f32: 0.5 * k */
    for (int k = 0; k < 6; k++)
        assert_true(out[k] == 0.5f * (float)k);
    assert_int_equal(tic_checkpoint_read(ck, "half.weight", 2, two_three, out), TIC_OK); /* f16: 0.5 * k */
    for (int k = 0; k < 6; k++)
        assert_true(out[k] == 0.5f * (float)k);
    assert_int_equal(tic_checkpoint_read(ck, "brain.weight", 2, two_three, out), TIC_OK);
    for (int k = 0; k < 6; k++)
        assert_true(out[k] == 0.5f * (float)k);
    assert_int_equal(tic_checkpoint_read(ck, "double.weight", 2, two_three, out), TIC_OK);
    for (int k = 0; k < 6; k++)
        assert_true(out[k] == (float)(0.1 * k));
    assert_int_equal(tic_checkpoint_read(ck, "turned", 2, three_two, out), TIC_OK);      /* proj transposed */
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 2; j++)
            assert_true(out[i * 2 + j] == 0.5f * (float)(j * 3 + i));
    assert_int_equal(tic_checkpoint_read(ck, "slice.bias", 1, four, out), TIC_OK);       /* every other, from 1 */
    for (int k = 0; k < 4; k++)
        assert_true(out[k] == (float)(1 + 2 * k));
    assert_int_equal(tic_checkpoint_read(ck, "spread.bias", 1, four, out), TIC_OK);      /* one value, stride 0 */
    for (int k = 0; k < 4; k++)
        assert_true(out[k] == 7);
    assert_int_equal(tic_checkpoint_read(ck, "logit_scale", 0, NULL, out), TIC_OK);
    assert_true(out[0] == (float)2.6592600369327783);
    expect_error(tic_checkpoint_read(ck, "counter", 0, NULL, out), "the file has i64, wanted is f32");
    assert_true(tic_checkpoint_float(ck, "optimizer.param_groups.0.lr", &f) && f == 0.00047);     /* numpy.float64 */
    /* Ids by the rule of OpenCLIP 2.24: 0 slice.bias, 1 spread.bias, 2 logit_scale, 3 proj, ... */
    assert_true(tic_checkpoint_has_optimizer(ck));
    assert_int_equal(tic_checkpoint_read_state(ck, "logit_scale", "exp_avg", 0, NULL, out), TIC_OK);
    assert_true(out[0] == 102);
    assert_int_equal(tic_checkpoint_read_state(ck, "proj", "exp_avg", 2, two_three, out), TIC_OK);
    assert_true(out[0] == 103 && out[5] == 103);
    assert_int_equal(tic_checkpoint_read_state(ck, "proj", "exp_avg_sq", 2, two_three, out), TIC_OK);
    assert_true(out[0] == 203);
    assert_int_equal(tic_checkpoint_read_state(ck, "proj", "step", 0, NULL, out), TIC_OK);
    assert_true(out[0] == 12);
    tic_checkpoint_close(ck);
}

static void test_safetensors_file(void **state)
{
    static const char *const names[] = { "proj", "half.weight", "brain.weight" };        /* all 0.5 * k */
    const int64_t shape[] = { 2, 3 };
    TicCheckpoint *ck;
    float out[6];
    if (access(safe_path, R_OK)) {
        fprintf(stderr, "# skipped: %s is missing\n", safe_path);
        skip();
    }
    assert_int_equal(tic_checkpoint_open(safe_path, &ck), TIC_OK);
    assert_int_equal(tic_checkpoint_count(ck), 5);
    for (size_t i = 0; i < TIC_LEN(names); i++) {
        assert_int_equal(tic_checkpoint_read(ck, names[i], 2, shape, out), TIC_OK);
        for (int k = 0; k < 6; k++)
            assert_true(out[k] == 0.5f * (float)k);
    }
    assert_int_equal(tic_checkpoint_read(ck, "logit_scale", 0, NULL, out), TIC_OK);
    assert_true(out[0] == (float)2.6592600369327783);
    expect_error(tic_checkpoint_read(ck, "counter", 0, NULL, out), "the file has i64, wanted is f32");
    assert_string_equal(tic_checkpoint_str(ck, "note"), "made by safetensors");
    tic_checkpoint_close(ck);
}

/* ------------------------------------------------------------ which state belongs to whom */

static void hand_list(TicPickler *p, const char *key, int from, int n)
{
    tic_pickle_str(p, key);
    tic_pickle_list(p);
    tic_pickle_mark(p);
    for (int i = 0; i < n; i++)
        tic_pickle_int(p, from + i);
    tic_pickle_appends(p);
}

/* A checkpoint with four parameters of shape [1] or [1, 1]; state `id` has exp_avg = 10 + id, storage 10 + id.
 * flat_id: the id whose state is [1]; group names of NULL are not written. */
static void write_groups(const char *path, const char *first, const char *second, int n_first, int flat_id)
{
    static const char *const names[] = { "module.positional_embedding", "module.proj", "module.ln.bias", "module.x.embed" };
    static const int64_t ones[] = { 1, 1 };
    const char *group[] = { first, second };
    TicPickler p;
    tic_pickle_begin(&p);
    tic_pickle_dict(&p);
    tic_pickle_mark(&p);
    tic_pickle_str(&p, "state_dict");
    tic_pickle_ordered_dict(&p);
    tic_pickle_mark(&p);
    for (int i = 0; i < 4; i++) {
        tic_pickle_str(&p, names[i]);
        tic_pickle_tensor(&p, i, i == 2 ? 1 : 2, ones);
    }
    tic_pickle_set_items(&p);
    tic_pickle_str(&p, "optimizer");
    tic_pickle_dict(&p);
    tic_pickle_mark(&p);
    tic_pickle_str(&p, "state");
    tic_pickle_dict(&p);
    tic_pickle_mark(&p);
    for (int id = 0; id < 4; id++) {
        tic_pickle_int(&p, id);
        tic_pickle_dict(&p);
        tic_pickle_mark(&p);
        tic_pickle_str(&p, "exp_avg");
        tic_pickle_tensor(&p, 10 + id, id == flat_id ? 1 : 2, ones);
        tic_pickle_set_items(&p);
    }
    tic_pickle_set_items(&p);
    tic_pickle_str(&p, "param_groups");
    tic_pickle_list(&p);
    tic_pickle_mark(&p);
    for (int g = 0; g < 2; g++) {
        tic_pickle_dict(&p);
        tic_pickle_mark(&p);
        if (group[g]) {
            tic_pickle_str(&p, "group_name");
            tic_pickle_str(&p, group[g]);
        }
        hand_list(&p, "params", g ? n_first : 0, g ? 4 - n_first : n_first);
        tic_pickle_set_items(&p);
    }
    tic_pickle_appends(&p);
    tic_pickle_set_items(&p);
    tic_pickle_set_items(&p);
    tic_pickle_end(&p);
    TicSink sink;
    TicZipWriter z;
    assert_int_equal(tic_sink_open(&sink, path), TIC_OK);
    tic_zip_begin(&z, &sink);
    assert_int_equal(tic_zip_add(&z, "g/data.pkl", p.data, p.n), TIC_OK);
    for (int i = 0; i < 14; i++) {
        char name[32];
        float v = (float)i;
        snprintf(name, sizeof name, "g/data/%d", i);
        assert_int_equal(tic_zip_add(&z, name, &v, 4), TIC_OK);
    }
    assert_int_equal(tic_zip_end(&z), TIC_OK);
    assert_int_equal(tic_sink_commit(&sink), TIC_OK);
    tic_pickle_free(&p);
}

/* Reads exp_avg of the four parameters; false with a message when there is no mapping. */
static bool read_groups(const char *path, int got[4])
{
    static const char *const names[] = { "positional_embedding", "proj", "ln.bias", "x.embed" };
    static const int64_t ones[] = { 1, 1 };
    TicCheckpoint *ck;
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    bool well = true;
    for (int i = 0; i < 4 && well; i++) {
        float v = -1;
        well = !tic_checkpoint_read_state(ck, names[i], "exp_avg", i == 2 ? 1 : 2, ones, &v);
        got[i] = (int)v;
    }
    tic_checkpoint_close(ck);
    return well;
}

static void test_groups(void **state)
{
    char *path = in_folder("groups.pt");
    int got[4];
    write_groups(path, NULL, NULL, 1, 0);    /* 2.24: plain is ln.bias alone */
    assert_true(read_groups(path, got));
    assert_true(got[2] == 10 && got[0] == 11 && got[1] == 12 && got[3] == 13);
    write_groups(path, "no_wd", "wd", 2, 1); /* 3: positional_embedding too */
    assert_true(read_groups(path, got));
    assert_true(got[0] == 10 && got[2] == 11 && got[1] == 12 && got[3] == 13);
    write_groups(path, "no_wd", "wd", 3, 1);
    assert_false(read_groups(path, got));
    expect_error(TIC_USER, "group 0 has 3 ids, but 2 parameters belong into it");
    write_groups(path, "lr_scale=0.5/wd", "wd", 2, 1);
    assert_false(read_groups(path, got));
    expect_error(TIC_USER, "group 0 is not one of those OpenCLIP makes");
    write_groups(path, "no_wd", "wd", 2, 0);
    assert_false(read_groups(path, got));
    expect_error(TIC_USER, "exp_avg of positional_embedding is [1], but the parameter is [1, 1]");
    free(path);
}

static int remove_folder(void **state)
{
    char *command = tic_format("rm -rf %s", folder);
    int rc = system(command);
    free(command);
    free(fixture_path);
    free(safe_path);
    return rc;
}

static int make_folder(void **state) { return mkdtemp(folder) ? 0 : -1; }

/* The fixture lies beside this source file; the tests may run in any folder. */
static void find_fixture(void)
{
    const char *slash = strrchr(__FILE__, '/');
    int n = slash ? (int)(slash - __FILE__) : 1;
    fixture_path = tic_format("%.*s/data/torch_small.pt", n, slash ? __FILE__ : ".");
    safe_path = tic_format("%.*s/data/torch_small.safetensors", n, slash ? __FILE__ : ".");
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
        cmocka_unit_test(test_safetensors_rules),
        cmocka_unit_test(test_harm),
        cmocka_unit_test(test_tensor_bounds),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_archives),
        cmocka_unit_test(test_misfits),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_bad_texts),
        cmocka_unit_test(test_zip64),
        cmocka_unit_test(test_torch_file),
        cmocka_unit_test(test_safetensors_file),
        cmocka_unit_test(test_groups),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    find_fixture();
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
