/* cc_names.c -- parameters of the models in models/ are called, shaped and ordered as OpenCLIP's state_dicts are. */
#include "graph_test.h"
#include "driver/compile.h"
#include "front/parse.h"
#include <stdlib.h>
#include <unistd.h>

static const char *module_text(void *ctx, const char *name, const char **path)
{
    *path = name;
    for (const StdlibModule *m = ticc_stdlib; m->name; m++)
        if (!strcmp(m->name, name))
            return m->text;
    return NULL;
}

static uint64_t fnv(uint64_t h, const char *s)
{
    while (*s)
        h = (h ^ (unsigned char)*s++) * 0x100000001b3u;
    return h;
}

/* The hash is FNV-1a of the lines "NAME 768x3x16x16\n" in state_dict order, taken from open_clip 3.3's own models. */
static void names(void **state)
{
    static const struct { const char *path; int tensors; int64_t parameters; uint64_t hash; } open_clip[] = {
        { "models/vit_b16.tic", 302, 149620737, 0x157f29d32e7683f9 },
        { "models/vit_b32.tic", 302, 151277313, 0x439de9f4aaea20f9 },
        { "models/vit_l14.tic", 446, 427616513, 0xc7cd7561853011a7 },
        { "models/vit_l14_336.tic", 446, 427944193, 0xf0bb83c41cf4f3be },
        { "models/vit_b16_quickgelu.tic", 302, 149620737, 0x157f29d32e7683f9 },
        { "models/siglip_b16.tic", 303, 149620738, 0xdd646b9f91a4869e },
    };
    for (size_t i = 0; i < LEN(open_clip); i++) {
        Arena arena = { 0 };
        Sources sources = { .arena = &arena };
        Diag diag = { .sources = &sources };
        Program p = { 0 };
        int file = diag_load(&diag, open_clip[i].path);
        if (file < 0 || !sema_program(&p, &arena, &diag, file, NULL, 0, module_text, NULL)) {
            diag_print(&diag, stderr);
            fail_msg("%s does not compile", open_clip[i].path);
        }
        uint64_t hash = 0xcbf29ce484222325u;
        int64_t parameters = 0;
        for (int k = 0; k < p.n_param; k++) {
            const Tensor *t = &p.graph->tensor[p.param[k]];
            int64_t n = 1;
            hash = fnv(fnv(hash, t->name), t->rank ? " " : " scalar");
            for (int d = 0; d < t->rank; d++) {
                hash = fnv(hash, arena_printf(&arena, "%s%lld", d ? "x" : "", (long long)t->shape[d]));
                n *= t->shape[d];
            }
            hash = fnv(hash, "\n");
            parameters += n;
        }
        assert_int_equal(p.n_param, open_clip[i].tensors);
        assert_true(parameters == open_clip[i].parameters);
        if (hash != open_clip[i].hash)
            fail_msg("%s: names or shapes are not OpenCLIP's: hash %016llx", open_clip[i].path, (unsigned long long)hash);
        arena_free(&arena);
    }
}

int main(void)
{
    const char *root = getenv("TICC_ROOT");
    if (root && chdir(root))
        return 1;
    const struct CMUnitTest tests[] = { cmocka_unit_test(names) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
