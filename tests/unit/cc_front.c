/* cc_front.c -- the front end up to the tree: parsing, formatting, places and messages. What syntax errors say is in
 * tests/golden/syntax. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "front/format.h"
#include "front/parse.h"
#include <glob.h>
#include <stdlib.h>
#include <string.h>

typedef struct Front {
    Arena arena;
    Sources sources;
    Diag diag;
} Front;

static Front *front(void)
{
    Front *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->sources.arena = &f->arena;
    f->diag.sources = &f->sources;
    return f;
}

static void done(Front *f)
{
    arena_free(&f->arena);
    free(f);
}

static int add(Front *f, const char *text)
{
    return source_add(&f->sources, "test.tic", text, strlen(text));
}

static const char *messages(Front *f)
{
    Text t = { .arena = &f->arena };
    diag_text(&f->diag, &t);
    return text_data(&t);
}

static const char *tree_text(Front *f, int source)
{
    Text t = { .arena = &f->arena };
    tree_print(parse_file(&f->arena, &f->diag, source), &t);
    return text_data(&t);
}

/* Formats; checks that a second time changes nothing and that the tree is kept. */
static const char *formatted(Front *f, int source)
{
    Text once = { .arena = &f->arena }, twice = { .arena = &f->arena };
    bool ok = fmt_source(&f->arena, &f->diag, source, &once);
    if (!ok)
        print_error("%s", messages(f));
    assert_true(ok);
    int again = source_add(&f->sources, "formatted.tic", text_data(&once), once.n);
    assert_string_equal(tree_text(f, source), tree_text(f, again));
    assert_true(fmt_source(&f->arena, &f->diag, again, &twice));
    assert_string_equal(text_data(&once), text_data(&twice));
    return text_data(&once);
}

static void test_library_and_models(void **state)
{
    glob_t files;
    glob("stdlib/*.tic", 0, NULL, &files);
    glob("models/*.tic", GLOB_APPEND, NULL, &files);
    glob("examples/*.tic", GLOB_APPEND, NULL, &files);
    if (!files.gl_pathc) {
        fprintf(stderr, "# skipped: no .tic files below stdlib, models, examples\n");
        skip();
    }
    for (size_t i = 0; i < files.gl_pathc; i++) {
        Front *f = front();
        int source = diag_load(&f->diag, files.gl_pathv[i]);
        assert_true(source >= 0);
        formatted(f, source);
        assert_int_equal(f->diag.errors, 0);
        done(f);
    }
    globfree(&files);
}

/* Precedence: the tree of the left text, printed with the fewest parentheses, is the right one. */
static void test_precedence(void **state)
{
    static const char *const table[][2] = {
        { "-x^2", "-x^2" }, { "(-x)^2", "(-x)^2" }, { "x^-1", "x^-1" }, { "2^(3^2)", "2^3^2" }, { "(2^3)^2", "(2^3)^2" },
        { "a-(b-c)", "a - (b - c)" }, { "(a-b)-c", "a - b - c" }, { "a/(b*c)", "a / (b * c)" }, { "(a+b)*c", "(a + b) * c" },
        { "a*-b", "a * -b" }, { "-(a*b)", "-(a * b)" }, { "(-a)*b", "-a * b" }, { "- -a", "--a" },
        { "not (a==b)", "not a == b" }, { "(not a)==b", "(not a) == b" }, { "a and (b or c)", "a and (b or c)" },
        { "(a and b) or c", "a and b or c" }, { "not (a and b)", "not (a and b)" }, { "(a<b)==c", "(a < b) == c" },
        { "(if a then b else c)*2", "(if a then b else c) * 2" }, { "if a then b else (if c then d else e)",
                                                                    "if a then b else if c then d else e" },
        { "(f(x) as a.b[i])[d]", "(f(x) as a.b[i])[d]" }, { "(f(x) as a)^2", "f(x) as a^2" }, { "((x))[d]", "x[d]" },
        { "1..n+1", "1..n+1" }, { "3/4..<4/3", "3/4..<4/3" }, { "(1..2)", "1..2" }, { "[(1..2),3,]", "[1..2, 3]" },
        { "x[h*c+i,3*size(d),..,]", "x[h*c + i, 3*size(d), ..]" }, { "sum[i,j](x[i]*y[j],)", "sum[i, j](x[i] * y[j])" },
        { "f(lr=1,decay(p)=2)", "f(lr = 1, decay(p) = 2)" }, { "a.b.c", "a.b.c" }, { "18_432_000+16Gi", "18_432_000 + 16Gi" },
    };
    for (size_t i = 0; i < LEN(table); i++) {
        Front *f = front();
        const char *text = formatted(f, add(f, arena_printf(&f->arena, "let v = %s\n", table[i][0])));
        assert_string_equal(text, arena_printf(&f->arena, "let v = %s\n", table[i][1]));
        done(f);
    }
}

static void test_tree(void **state)
{
    Front *f = front();
    const char *text = tree_text(f, add(f, "fn f(x[.., d], w(p) = 1) = x[.., d] ^ 2\n"
                                           "data = sum[k](a[k: 2]) as t.b[i]\n"
                                           "retrieval \"r/{year}\"\n"));
    assert_string_equal(messages(f), "");
    assert_string_equal(text,
        "file\n"
        "  fn f\n   .formals\n      formal x\n       .axes\n          rest\n          name d\n"
        "      formal w\n       .params\n          name p\n       .default\n          num 1\n"
        "   .value\n      binary ^\n        index\n         .base\n            name x\n"
        "         .axes\n            rest\n            name d\n        num 2\n"
        "  set\n   .target\n      name data\n   .value\n      as\n       .call\n          reduce sum\n           .axes\n"
        "              name k\n           .args\n              index\n               .base\n                  name a\n"
        "               .axes\n                  axis k\n                   .extent\n                      num 2\n"
        "       .scope\n          name t\n          name b\n          index\n           .axes\n              name i\n"
        "  block retrieval\n   .title\n      str \"r/{year}\"\n");
    done(f);
}

/* A newline ends a statement, except where it cannot; `;` is a newline. */
static void test_newlines(void **state)
{
    static const char *const same[] = {
        "let v = a + b\nlet w = f(a, b)\nfn g(x) { return x }\n",
        "let v = a +\n b; let w = f(a\n , b)\nfn g(x)\n{\nreturn x\n}\n",
        "let v = a\n + b;;\n\n\nlet w = f(\na,\nb\n)\nfn\ng(x)\n{\n\nreturn\nx }",
        "\xef\xbb\xbflet v =\r\n  a + b # c\r\n let w = f (a, b); fn g(x) { return x; }",
    };
    Front *f = front();
    const char *want = tree_text(f, add(f, same[0]));
    assert_int_equal(f->diag.errors, 0);
    for (size_t i = 1; i < LEN(same); i++)
        assert_string_equal(tree_text(f, add(f, same[i])), want);
    assert_string_equal(messages(f), "");
    done(f);
}

static void test_format(void **state)
{
    Front *f = front();
    const char *text = formatted(f, add(f,
        "\n\n# head\nuse   nn # layers\nfn a(x[..])=x[..]*2\nfn b(x[..]) = x[..] + 1;\n# about c\n"
        "fn c(x[b,t , d]) {\n  param weight[d]=1\n  param b[d] ~ w\n\n\n\n  if deep { h = f(h) }\n  else if wide { h = g(h) }\n"
        "  if deep {\n    h = f(h) # why\n  } else {\n  # nothing\n  }\n"
        "  y[b] = f(x, # first\n    x)\n  return if a then b\n else c }\n"
        "train{\n batch=4096 # per step\n precision = bf16    # always\n seed=0 # here; no more\n"
        " after { a = 1; b = 2 } }\nempty {\n # only this\n}\n# end"));
    assert_string_equal(text,
        "# head\nuse nn  # layers\n\nfn a(x[..]) = x[..] * 2\nfn b(x[..]) = x[..] + 1\n\n# about c\n"
        "fn c(x[b, t, d]) {\n    param weight[d] = 1\n    param b[d]      ~ w\n\n    if deep {\n        h = f(h)\n"
        "    } else if wide {\n        h = g(h)\n    }\n"
        "    if deep {\n        h = f(h)  # why\n    } else {\n        # nothing\n    }\n"
        "    y[b] = f(x,  # first\n             x)\n    return if a then b\n           else c\n}\n\n"
        "train {\n    batch     = 4096  # per step\n    precision = bf16  # always\n    seed      = 0     # here; no more\n"
        "    after { a = 1; b = 2 }\n}\n\nempty {\n    # only this\n}\n# end\n");
    done(f);
}

static void test_long_lines(void **state)
{
    Front *f = front();
    Text source = { .arena = &f->arena };
    text_printf(&source, "fn f(x) {\n    let h = block(");
    for (int i = 0; i < 20; i++)
        text_printf(&source, "argument_%d = normal(0, %d), ", i, i);
    text_printf(&source, ")\n    let s = first_operand_that_is_long * ");
    for (int i = 0; i < 20; i++)
        text_printf(&source, "operand_%d + ", i);
    text_printf(&source, "last\n    return if a");
    for (int i = 0; i < 6; i++)
        text_printf(&source, " then value_number_%d else if condition_%d > 3", i, i);
    text_printf(&source, " then 1 else 2\n}\n");
    const char *text = formatted(f, add(f, text_data(&source)));
    size_t longest = 0;
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1) {
        if (strcspn(line, "\n") > longest)
            longest = strcspn(line, "\n");
    }
    assert_true(longest > 80 && longest <= 120);
    done(f);
}

static void test_broken_source_is_not_formatted(void **state)
{
    Front *f = front();
    Text out = { .arena = &f->arena };
    assert_false(fmt_source(&f->arena, &f->diag, add(f, "let a = 2 x\n"), &out));
    assert_int_equal(out.n, 0);
    assert_int_equal(f->diag.errors, 1);
    done(f);
}

static void test_define(void **state)
{
    Front *f = front();
    Node *n = parse_define(&f->arena, &f->diag, source_add(&f->sources, "-D", "train.batch=2 * 8", 17));
    assert_int_equal(n->kind, AST_SET);
    assert_int_equal(n->a->kind, AST_NAME);
    assert_string_equal(n->a->text, "train.batch");
    assert_int_equal(n->b->kind, AST_BINARY);
    assert_int_equal(f->diag.errors, 0);
    static const char *const bad[] = { "", "x", "x=", "3", "x=1 y", "x=[1", "x={", "x=1;y=2", "x[1]=2", "=", "fn f() = 1" };
    for (size_t i = 0; i < LEN(bad); i++) {
        int errors = f->diag.errors;
        n = parse_define(&f->arena, &f->diag, source_add(&f->sources, "-D", bad[i], strlen(bad[i])));
        assert_int_equal(n->kind, AST_BAD);
        assert_int_equal(f->diag.errors, errors + 1);
    }
    done(f);
}

/* A broken statement is a BAD node between those that are right; the recursion of those who read it is bounded. */
static void test_recovery(void **state)
{
    Front *f = front();
    Node *n = parse_file(&f->arena, &f->diag, add(f, "let a = 1\nlet b = ) 2\nlet c = 3\n"));
    assert_int_equal(f->diag.errors, 1);
    assert_int_equal(tree_count(n->a), 3);
    assert_int_equal(n->a->next->kind, AST_BAD);
    assert_string_equal(n->a->next->next->text, "c");

    static const char *const deep[] = { "-", "not ", "(", "[", "{", "f(", "if a then b else ", "x.", "2^", "x[", "a + ",
                                        "fn f(x) {", "if a {} else ", "x as ", "1..", "f(x)(" };
    for (size_t i = 0; i < LEN(deep); i++) {
        Text t = { .arena = &f->arena };
        text_printf(&t, "let a = ");
        for (int k = 0; k < 20000; k++)
            text_printf(&t, "%s", deep[i]);
        int errors = f->diag.errors;
        n = parse_file(&f->arena, &f->diag, add(f, text_data(&t)));
        assert_int_equal(n->kind, AST_FILE);
        assert_true(n->height <= TREE_HEIGHT);
        assert_true(f->diag.errors > errors);
    }
    done(f);
}

static void test_places(void **state)
{
    Front *f = front();
    int a = add(f, "one\ntwo\n"), b = source_add(&f->sources, "b.tic", "gr\xc3\xb6\xc3\x9f" "e x\n\ty", 12);
    const Source *sa = &f->sources.file.at[a], *sb = &f->sources.file.at[b];
    assert_int_equal(sa->start, 1);
    assert_null(source_of(&f->sources, 0));
    assert_ptr_equal(source_of(&f->sources, sa->start + 8), sa);
    assert_ptr_equal(source_of(&f->sources, sb->start), sb);
    Place p = source_place(&f->sources, sb->start + 8);
    assert_int_equal(p.line, 1);
    assert_int_equal(p.column, 7);
    p = source_place(&f->sources, sb->start + 11);
    assert_int_equal(p.line, 2);
    assert_int_equal(p.column, 2);
    p = source_place(&f->sources, sa->start + 8);
    assert_int_equal(p.line, 3);
    assert_int_equal(p.column, 1);
    assert_string_equal(source_text(&f->sources, (Span){ sa->start, sa->start + 7 }), "one two");
    int c = add(f, "f(a, # why\n  \"x # y\",\tb)");
    sa = &f->sources.file.at[c];
    assert_string_equal(source_text(&f->sources, (Span){ sa->start, sa->start + sa->size }), "f(a, \"x # y\", b)");

    Node *n = parse_file(&f->arena, &f->diag, add(f, "fn name(x) = (a + b)\n"))->a;
    assert_string_equal(source_text(&f->sources, n->word), "name");
    assert_string_equal(source_text(&f->sources, n->b->span), "(a + b)");
    assert_string_equal(source_text(&f->sources, n->b->word), "+");
    done(f);
}

static void test_messages(void **state)
{
    Front *f = front();
    int source = add(f, "fn f(x[b, t]) {\n    y = x[t]\n}\n");
    int at = f->sources.file.at[source].start;
    Span x = { at + 24, at + 28 }, def = { at + 5, at + 12 }, all = { at, at + 30 };
    diag_error(&f->diag, x, "`%s` has %d axes", "x", 2);
    diag_note(&f->diag, def, "defined here");
    diag_note(&f->diag, def, "and found there");
    diag_help(&f->diag, "write more");
    diag_error(&f->diag, x, "`x` has 2 axes");
    diag_note(&f->diag, def, "defined here");
    diag_error(&f->diag, all, "several lines");
    diag_error(&f->diag, (Span){ 0 }, "no place");
    assert_int_equal(f->diag.errors, 3);
    assert_string_equal(messages(f),
        "test.tic:2:9: error: `x` has 2 axes\n"
        "   2 |     y = x[t]\n"
        "     |         ^^^^\n"
        "test.tic:1:6: note: defined here\n"
        "   1 | fn f(x[b, t]) {\n"
        "     |      ^^^^^^^\n"
        "     = note: and found there\n"
        "     = help: write more\n"
        "test.tic:1:1: error: several lines\n"
        "   1 | fn f(x[b, t]) {\n"
        "     | ^^^^^^^^^^^^^^^\n"
        "ticc: error: no place\n");
    done(f);

    f = front();
    for (int i = 0; i < DIAG_LIMIT + 5; i++)
        diag_error(&f->diag, (Span){ 0 }, "number %d", i);
    diag_help(&f->diag, "of the last one");
    assert_int_equal(f->diag.errors, DIAG_LIMIT + 5);
    assert_int_equal(f->diag.message.n, DIAG_LIMIT);
    assert_non_null(strstr(messages(f), "ticc: 5 more errors like these are not shown\n"));
    done(f);
}

static void test_closest(void **state)
{
    static const char *const words[] = { "param", "return", "fn", "let", "a_word_of_more_than_thirty_two_letters", NULL };
    assert_string_equal(diag_closest("parm", words), "param");
    assert_string_equal(diag_closest("retrun", words), "return");
    assert_string_equal(diag_closest("lte", words), "let");
    assert_null(diag_closest("param", words + 1));
    assert_null(diag_closest("let", words));
    assert_null(diag_closest("xyz", words));
    assert_null(diag_closest("", words));
    assert_null(diag_closest("a_word_of_more_than_thirty_two_letter", words));
}

static void test_numbers(void **state)
{
    static const struct {
        const char *text;
        double value;
    } table[] = {
        { "0", 0 }, { "18_432_000", 18432000 }, { "5e-4", 5e-4 }, { "1.5K", 1500 }, { "16Gi", 17179869184.0 },
        { "2Mi", 2097152 }, { "3M", 3e6 }, { "1G", 1e9 }, { "0.1", 0.1 }, { "1e308", 1e308 },
    };
    double value;
    for (size_t i = 0; i < LEN(table); i++) {
        assert_true(tree_number(table[i].text, &value));
        assert_true(value == table[i].value);
    }
    assert_false(tree_number("1e309", &value));
    assert_false(tree_number("1e308G", &value));
}

static void test_base(void **state)
{
    Arena a = { 0 };
    ARRAY(int) list = { 0 };
    Text t = { .arena = &a };
    for (int i = 0; i < 1000; i++) {
        PUSH(&a, list, i);
        text_printf(&t, "%d,", i);
        char *p = arena_alloc(&a, (size_t)i);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (int k = 0; k < i; k++) {
            assert_int_equal(p[k], 0);
            p[k] = 1;
        }
    }
    assert_int_equal(list.n, 1000);
    assert_int_equal(list.at[999], 999);
    assert_int_equal(strlen(text_data(&t)), t.n);
    int64_t product;
    assert_true(checked_mul(1LL << 31, 1LL << 31, &product) && product == 1LL << 62);
    assert_false(checked_mul(1LL << 32, 1LL << 31, &product));
    arena_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_base),
        cmocka_unit_test(test_library_and_models),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_tree),
        cmocka_unit_test(test_newlines),
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_long_lines),
        cmocka_unit_test(test_broken_source_is_not_formatted),
        cmocka_unit_test(test_define),
        cmocka_unit_test(test_recovery),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_closest),
        cmocka_unit_test(test_numbers),
    };
    cmocka_set_message_output(CM_OUTPUT_TAP);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
