/* rt_ckpt_foreign.c -- files by others: what torch and safetensors write is understood (data/torch_small.*), optimiser
 * ids find their parameters by each version's rule, and what was made to do harm is refused by name. */
#define _GNU_SOURCE
#include "ckpt_test.h"
#include "ckpt/checkpoint.h"
#include "ckpt/pickle.h"
#include "ckpt/safetensors.h"
#include "ckpt/zip.h"
#include <math.h>

static char *fixture_path, *safe_path;

/* ------------------------------------------------------------ safetensors */

static void refuse_table(const char *table, size_t bytes, const char *why)
{
    uint64_t n = strlen(table);
    char *file = tic_alloc(8 + n + bytes);
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
    free(file);
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
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[99999999999,99999999999],\"data_offsets\":[0,4]}}", 4,
                 "number of");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,4]}}", 4, "lacks its shape");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}", 4,
                 "made: its table of tensors: JSON: byte");
    refuse_table("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}x", 4, "something follows");
    refuse_table("{\"a\":[]}", 0, "not known");
    char *large = tic_format("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}%*s}", 2 << 20, "");
    refuse_table(large, 4, "not a file of weights");
    free(large);
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
    char text[] = "ctorch._utils\n_rebuild_tensor_v2\n("
                  "(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpu";
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
    char *nowhere = in_folder("nowhere/x.pt");
    expect_error(tic_checkpoint_open(nowhere, &ck), "/nowhere/x.pt: No such file");
    expect_error(tic_checkpoint_open(folder, &ck), "found a folder, wanted a checkpoint");
    free(nowhere);
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
    char *nothing = tic_alloc(2 << 20);          /* each byte would become a value */
    memset(nothing, 'N', 2 << 20);
    write_zip(path, "a/data.pkl", nothing, 2 << 20);
    expect_error(tic_checkpoint_open(path, &ck), "its index takes 2097152 of");
    free(nothing);
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
    central[8] = 0;
    data[26]++;                                  /* its own header: another length of the name, */
    expect_error(tic_checkpoint_open_memory(data, size, "z.pt", &ck), "has no header of its own");
    data[26]--;
    memset(data + 28, 0xff, 2);                  /* more between it and what it holds than there is */
    expect_error(tic_checkpoint_open_memory(data, size, "z.pt", &ck), "is out of bounds");
    free(data);
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

/* A parameter of shape [1] or [1, 1] with the id of its state, which has exp_avg = 10 + id; id -1: a buffer without one. */
typedef struct { const char *name; int rank, id; } Owner;
/* How its two groups are told apart: names of NULL are not written; `listed`: with the parameters' names, all but `fewer`. */
typedef struct { const char *name[2]; int n_first; bool listed; int fewer; } Groups;

static int owner_of(const Owner *owner, int n, int id)
{
    while (n-- > 0 && owner[n].id != id)
        ;
    return n;
}

/* flat_id: the id whose state is [1] although the parameter is not; -1: none. */
static void put_optimizer(TicPickler *p, const Owner *owner, int n, const Groups *groups, int flat_id)
{
    static const int64_t ones[] = { 1, 1 };
    int n_ids = 0;
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    tic_pickle_str(p, "state");
    tic_pickle_dict(p);
    tic_pickle_mark(p);
    for (int i; (i = owner_of(owner, n, n_ids)) >= 0; n_ids++) {
        tic_pickle_int(p, n_ids);
        tic_pickle_dict(p);
        tic_pickle_mark(p);
        tic_pickle_str(p, "exp_avg");
        tic_pickle_tensor(p, 10 + n_ids, n_ids == flat_id ? 1 : owner[i].rank, ones);
        tic_pickle_set_items(p);
    }
    tic_pickle_set_items(p);
    tic_pickle_str(p, "param_groups");
    tic_pickle_list(p);
    tic_pickle_mark(p);
    for (int g = 0; g < 2; g++) {
        int from = g ? groups->n_first : 0, to = g ? n_ids : groups->n_first;
        tic_pickle_dict(p);
        tic_pickle_mark(p);
        if (groups->name[g]) {
            tic_pickle_str(p, "group_name");
            tic_pickle_str(p, groups->name[g]);
        }
        hand_list(p, "params", from, to - from);
        if (groups->listed) {
            tic_pickle_str(p, "param_names");
            tic_pickle_list(p);
            tic_pickle_mark(p);
            for (int id = from; id < (g ? to - groups->fewer : to); id++)
                tic_pickle_str(p, owner[owner_of(owner, n, id)].name);
            tic_pickle_appends(p);
        }
        tic_pickle_set_items(p);
    }
    tic_pickle_appends(p);
    tic_pickle_set_items(p);
}

/* Writes such a checkpoint and finds every state again; a status when they cannot be mapped. */
static TicStatus read_owners(const Owner *owner, int n, Groups groups, int flat_id)
{
    static const int64_t ones[] = { 1, 1 };
    char *path = in_folder("owners.pt");
    TicPickler p;
    TicSink sink;
    TicZipWriter z;
    TicCheckpoint *ck;
    TicStatus status = TIC_OK;
    tic_pickle_begin(&p);
    tic_pickle_dict(&p);
    tic_pickle_mark(&p);
    tic_pickle_str(&p, "state_dict");
    tic_pickle_ordered_dict(&p);
    tic_pickle_mark(&p);
    for (int i = 0; i < n; i++) {
        tic_pickle_str(&p, owner[i].name);
        tic_pickle_tensor(&p, i, owner[i].rank, ones);
    }
    tic_pickle_set_items(&p);
    tic_pickle_str(&p, "optimizer");
    put_optimizer(&p, owner, n, &groups, flat_id);
    tic_pickle_set_items(&p);
    tic_pickle_end(&p);
    assert_int_equal(tic_sink_open(&sink, path), TIC_OK);
    tic_zip_begin(&z, &sink);
    assert_int_equal(tic_zip_add(&z, "g/data.pkl", p.data, p.n), TIC_OK);
    for (int i = 0; i < 20; i++) {
        char name[32];
        float v = (float)i;
        snprintf(name, sizeof name, "g/data/%d", i);
        assert_int_equal(tic_zip_add(&z, name, &v, 4), TIC_OK);
    }
    assert_int_equal(tic_zip_end(&z), TIC_OK);
    assert_int_equal(tic_sink_commit(&sink), TIC_OK);
    tic_pickle_free(&p);
    assert_int_equal(tic_checkpoint_open(path, &ck), TIC_OK);
    for (int i = 0; i < n && !status; i++) {
        const char *plain = owner[i].name + (strncmp(owner[i].name, "module.", 7) ? 0 : 7);
        float v = -1;
        status = owner[i].id < 0 ? TIC_OK : tic_checkpoint_read_state(ck, plain, "exp_avg", owner[i].rank, ones, &v);
        if (!status && owner[i].id >= 0)
            assert_int_equal((int)v, 10 + owner[i].id);
    }
    tic_checkpoint_close(ck);
    free(path);
    return status;
}

static void test_groups(void **state)
{
    static const Owner old[] = {
        { "module.positional_embedding", 2, 1 }, { "module.proj", 2, 2 }, { "module.ln.bias", 1, 0 }, { "module.x.embed", 2, 3 },
    };
    static const Owner by_name[] = {             /* 2.24 goes by the name, whatever the rank; buffers have no ids */
        { "a.weight", 2, 4 }, { "a.bias", 2, 0 }, { "bn.weight", 2, 1 }, { "bn.running_mean", 1, -1 }, { "bn.running_var", 1, -1 },
        { "ln.gain", 2, 2 }, { "attn_mask", 2, -1 }, { "flat", 1, 3 }, { "b.weight", 2, 5 },
    };
    static const Owner by_rank[] = {             /* 3: positional_embedding is plain too */
        { "module.positional_embedding", 2, 0 }, { "module.proj", 2, 2 }, { "module.ln.bias", 1, 1 }, { "module.x.embed", 2, 3 },
    };
    const Groups plain = { { "no_wd", "wd" }, 2, false, 0 }, large = { { "no_wd", "wd" }, 3, false, 0 };
    static const Owner listed[] = { { "a.weight", 2, 0 }, { "a.bias", 1, 2 }, { "b.weight", 2, 1 } };        /* by no rule */
    assert_int_equal(read_owners(old, 4, (Groups){ .n_first = 1 }, -1), TIC_OK);
    assert_int_equal(read_owners(by_name, (int)TIC_LEN(by_name), (Groups){ .n_first = 4 }, -1), TIC_OK);
    assert_int_equal(read_owners(by_rank, 4, plain, -1), TIC_OK);
    assert_int_equal(read_owners(listed, 3, (Groups){ .n_first = 1, .listed = true }, -1), TIC_OK);
    expect_error(read_owners(by_rank, 4, large, -1), "group 0 has 3 ids, but 2 parameters belong into it");
    expect_error(read_owners(by_rank, 4, (Groups){ { "lr_scale=0.5/wd", "wd" }, 2, false, 0 }, -1),
                 "group 0 is not one of those OpenCLIP makes");
    expect_error(read_owners(by_rank, 4, plain, 0), "exp_avg of positional_embedding is [1], but the parameter is [1, 1]");
    expect_error(read_owners(listed, 3, (Groups){ .n_first = 1, .listed = true, .fewer = 1 }, -1), "its group 1 has 2 ids and 1 names");
}

/* ------------------------------------------------------------ Hugging Face's names */

static TicStatus open_table(const char *path, const TicNamedTensor *tensor, int n, TicCheckpoint **ck)
{
    assert_int_equal(tic_safetensors_write(path, tensor, n, NULL, 0), TIC_OK);
    return tic_checkpoint_open(path, ck);
}

static void test_hf(void **state)
{
    static const float value[] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 };
#define LAYER "text_model.encoder.layers.12."
    TicNamedTensor t[] = {
        { .name = LAYER "self_attn.v_proj.weight", .rank = 2, .shape = { 2, 2 }, .data = value + 8 },
        { .name = LAYER "self_attn.q_proj.weight", .rank = 2, .shape = { 2, 2 }, .data = value },
        { .name = LAYER "self_attn.k_proj.weight", .rank = 2, .shape = { 2, 2 }, .data = value + 4 },
        { .name = LAYER "mlp.fc2.bias", .rank = 1, .shape = { 2 }, .data = value },
        { .name = "vision_model.encoder.layers.0.layer_norm1.weight", .rank = 1, .shape = { 3 }, .data = value + 2 },
        { .name = "visual_projection.weight", .rank = 2, .shape = { 2, 3 }, .data = value },
        { .name = "logit_scale", .data = value + 4 },
    };
    const int64_t joined[] = { 6, 2 }, across[] = { 3, 2 }, two[] = { 2 }, three[] = { 3 };
    static const float turned[] = { 0, 3, 1, 4, 2, 5 };
    char *path = in_folder("model.safetensors");
    TicCheckpoint *ck;
    float out[12];
    assert_int_equal(open_table(path, t, (int)TIC_LEN(t), &ck), TIC_OK);
    assert_int_equal(tic_checkpoint_count(ck), 5);
    assert_int_equal(tic_checkpoint_read(ck, "transformer.resblocks.12.attn.in_proj_weight", 2, joined, out), TIC_OK);
    assert_memory_equal(out, value, sizeof value);
    assert_int_equal(tic_checkpoint_read(ck, "transformer.resblocks.12.mlp.c_proj.bias", 1, two, out), TIC_OK);
    assert_int_equal(tic_checkpoint_read(ck, "visual.transformer.resblocks.0.ln_1.weight", 1, three, out), TIC_OK);
    assert_memory_equal(out, value + 2, sizeof *out * 3);
    assert_int_equal(tic_checkpoint_read(ck, "visual.proj", 2, across, out), TIC_OK);
    assert_memory_equal(out, turned, sizeof turned);
    assert_int_equal(tic_checkpoint_read(ck, "logit_scale", 0, NULL, out), TIC_OK);
    assert_true(out[0] == 4);
    tic_checkpoint_close(ck);

    static const char *const unlike = "the q, k and v projections that make transformer.resblocks.12.attn.in_proj_weight are not";
    t[2].shape[0] = 1;
    expect_error(open_table(path, t, (int)TIC_LEN(t), &ck), unlike);
    t[2].shape[0] = INT64_C(1) << 62;            /* of no elements, but three times as many rows are beyond 64 bits */
    t[2].shape[1] = t[1].shape[1] = t[0].shape[1] = 0;
    expect_error(open_table(path, t, (int)TIC_LEN(t), &ck), unlike);
    expect_error(open_table(path, t + 2, 1, &ck), unlike);
    t[2].shape[0] = 2;
    t[2].name = LAYER "self_attn.other.weight";
    expect_error(open_table(path, t, (int)TIC_LEN(t), &ck), unlike);
#undef LAYER
    free(path);
}

/* IEEE 754 binary16 and bfloat16, among them what has no exponent, the largest, infinities and NaN. */
static void test_elements(void **state)
{
    static const struct { uint16_t bits; float is; } half[] = {
        { 0x0000, 0 }, { 0x8000, -0.0f }, { 0x0001, 0x1p-24f }, { 0x8001, -0x1p-24f }, { 0x83ff, -1023 * 0x1p-24f }, { 0x0400, 0x1p-14f },
        { 0x3c00, 1 }, { 0xc000, -2 }, { 0x3555, 0x1.554p-2f }, { 0x7bff, 65504 }, { 0xfbff, -65504 }, { 0x7c00, INFINITY }, { 0xfc00, -INFINITY },
    }, brain[] = { { 0x3f80, 1 }, { 0xbf81, -1.0078125f }, { 0x8000, -0.0f }, { 0x0001, 0x1p-133f }, { 0x7f80, INFINITY } };
    for (size_t i = 0; i < TIC_LEN(half); i++) {
        float f = tic_stored_to_f32(TIC_STORED_F16, &half[i].bits);
        assert_memory_equal(&f, &half[i].is, sizeof f);
    }
    for (size_t i = 0; i < TIC_LEN(brain); i++) {
        float f = tic_stored_to_f32(TIC_STORED_BF16, &brain[i].bits);
        assert_memory_equal(&f, &brain[i].is, sizeof f);
    }
    assert_true(isnan(tic_stored_to_f32(TIC_STORED_F16, &(uint16_t){ 0x7e00 })));
    assert_true(isnan(tic_stored_to_f32(TIC_STORED_BF16, &(uint16_t){ 0xffc0 })));
}

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
        cmocka_unit_test(test_safetensors_rules),
        cmocka_unit_test(test_harm),
        cmocka_unit_test(test_tensor_bounds),
        cmocka_unit_test(test_refused_files),
        cmocka_unit_test(test_refused_archives),
        cmocka_unit_test(test_torch_file),
        cmocka_unit_test(test_safetensors_file),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_hf),
        cmocka_unit_test(test_elements),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    find_fixture();
    int failed = cmocka_run_group_tests(tests, make_folder, remove_folder);
    free(fixture_path);
    free(safe_path);
    return failed;
}
