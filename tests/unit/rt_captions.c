/* rt_captions.c -- tokens of hard captions, equal to open_clip's; tests/parity/make_captions.py says what they are.
 *
 * Captions whose tokens depend on ftfy's repair of text in a wrong encoding are not repaired here: they are counted. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <cmocka.h>
#include "data/bpe.h"

static const char *const vocabularies[] = { "../shared/data/bpe_simple_vocab_16e6.txt.gz", "build/vocab/open_clip/bpe_simple_vocab_16e6.txt.gz" };

static bool get(gzFile f, void *to, unsigned n) { return gzread(f, to, n) == (int)n; }

static void show(const char *text, size_t n, const int32_t *got, const uint16_t *want, int n_want)
{
    fprintf(stderr, "# ");
    for (size_t i = 0; i < n && i < 120; i++)
        fprintf(stderr, text[i] < 32 || text[i] == 127 ? "\\x%02x" : "%c", text[i]);
    fprintf(stderr, "\n#   got ");
    for (int i = 0; i < 24 && got[i]; i++)
        fprintf(stderr, " %d", got[i]);
    fprintf(stderr, "\n#   want");
    for (int i = 0; i < 24 && i < n_want; i++)
        fprintf(stderr, " %d", want[i]);
    fprintf(stderr, "\n");
}

static void test_captions(void **state)
{
    TicBpe *bpe = NULL;
    for (size_t i = 0; i < TIC_LEN(vocabularies) && !bpe; i++)
        if (!access(vocabularies[i], R_OK))
            assert_int_equal(tic_bpe_open(vocabularies[i], &bpe), TIC_OK);
    if (!bpe) {
        fprintf(stderr, "# skipped: no vocabulary; `make vocab` gets it\n");
        skip();
    }
    gzFile f = gzopen("tests/parity/data/captions.bin.gz", "rb");
    assert_non_null(f);
    uint32_t size;
    int captions = 0, wrong = 0, repairs = 0, unrepaired = 0;
    while (get(f, &size, 4)) {
        char *text = tic_alloc(size + 1);
        uint8_t repaired;
        uint16_t n, want[TIC_CONTEXT];
        int32_t got[TIC_CONTEXT];
        assert_true(get(f, text, size) && get(f, &repaired, 1) && get(f, &n, 2) && n <= TIC_CONTEXT && get(f, want, 2u * n));
        int m = tic_bpe_encode(bpe, text, size, TIC_CONTEXT, got);
        bool same = m >= n;
        for (int i = 0; i < m && same; i++)
            same = got[i] == (i < n ? want[i] : 0);
        if (!same && !repaired && ++wrong <= 20)
            show(text, size, got, want, n);
        captions++;
        repairs += repaired;
        unrepaired += repaired && !same;
        free(text);
    }
    gzclose(f);
    tic_bpe_close(bpe);
    fprintf(stderr, "# %d captions; %d need their encoding repaired, of which %d differ\n", captions, repairs, unrepaired);
    assert_true(captions >= 2000);
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const char *root = getenv("TICC_ROOT");
    if (root && chdir(root))
        return 1;
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_captions) };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests_name("captions", tests, NULL, NULL);
}
