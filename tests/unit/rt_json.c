/* rt_json.c -- JSON as it lies beside pictures: strings and their escapes, numbers that are integers, what is refused and where,
 * and quoting, which reading undoes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/json.h"

static void expect_text(const char *literal, const char *text, size_t size)
{
    TicJson *root;
    assert_int_equal(tic_json_parse(literal, strlen(literal), &root), TIC_OK);
    assert_int_equal(root->kind, TIC_JSON_STRING);
    assert_int_equal(root->size, size);
    assert_memory_equal(root->text, text, size + 1);
    tic_json_free(root);
}

static void test_strings(void **state)
{
    expect_text("\"\"", "", 0);
    expect_text(" \"a \\\" \\\\ \\/ \\b\\f\\n\\r\\t\" ", "a \" \\ / \b\f\n\r\t", 13);
    expect_text("\"\\u0041\\u00e9\\u20AC\\ud83c\\udf89\"", "A\303\251\342\202\254\360\237\216\211", 10);      /* 1 to 4 bytes */
    expect_text("\"\\ud800\\udc00 \\udbff\\udfff\"", "\360\220\200\200 \364\217\277\277", 9);               /* the first and last pair */
    expect_text("\"\\ud83cx\"", "\357\277\275x", 4);                 /* alone: U+FFFD */
    expect_text("\"\\udf89\\ud83c\"", "\357\277\275\357\277\275", 6);
    expect_text("\"\\ud83c\\u0041\"", "\357\277\275A", 4);
    expect_text("\"a\\u0000b\"", "a\0b", 3);
    expect_text("\"\303\251 \377\"", "\303\251 \377", 4);              /* kept as it is */
}

static void expect_number(const char *text, double number, bool whole)
{
    TicJson *root;
    int64_t n = -1;
    assert_int_equal(tic_json_parse(text, strlen(text), &root), TIC_OK);
    assert_int_equal(root->kind, TIC_JSON_NUMBER);
    assert_true(root->number == number || (isnan(root->number) && isnan(number)));
    assert_true(tic_json_integer(root, &n) == whole);
    if (whole)
        assert_true(n == (int64_t)number);
    tic_json_free(root);
}

static void test_numbers(void **state)
{
    expect_number("0", 0, true);
    expect_number("-12", -12, true);
    expect_number("3.0", 3, true);
    expect_number("2.5e1", 25, true);
    expect_number("2.5E-1", 0.25, false);
    expect_number("9007199254740992", 0x1p53, true);
    expect_number("-9223372036854775808", -0x1p63, true);
    expect_number("9223372036854775808", 0x1p63, false);
    expect_number("1e300", 1e300, false);
    expect_number("NaN", NAN, false);
    expect_number("-Infinity", -INFINITY, false);
    assert_false(tic_json_integer(NULL, &(int64_t){ 0 }));
}

static void refuses(const char *text, const char *says)
{
    TicJson *root;
    assert_int_equal(tic_json_parse(text, strlen(text), &root), TIC_USER);
    if (!strstr(tic_error(), says))
        fail_msg("`%s`: found \"%s\", wanted \"%s\"", text, tic_error(), says);
    tic_error_clear();
}

static void nested(char *to, int depth)
{
    memset(to, '[', (size_t)depth);
    memset(to + depth, ']', (size_t)depth);
    to[2 * depth] = 0;
}

static void test_refusals(void **state)
{
    static const char *const wrong[][2] = {
        { "", "byte 0" }, { "{\"a\": 1,}", "byte 8" },
        { "[1, ]", "byte 4" }, { "[1 2]", "byte 3" }, { "{\"a\" 1}", "byte 5" }, { "{a: 1}", "byte 1" },
        { "\"open", "byte 5" }, { "nul", "byte 0" }, { "1 2", "byte 2" }, { "{} x", "byte 3" }, { "\"\\x\"", "byte" }, { "\"\\u12\"", "byte" },
        { "\"line\nbreak\"", "byte 5" }, { "+1", "byte 0" }, { "1.e", "byte" }, { "--1", "byte" },
    };
    char deep[4 * TIC_JSON_DEPTH + 4];
    TicJson *root;
    for (size_t i = 0; i < TIC_LEN(wrong); i++)
        refuses(wrong[i][0], wrong[i][1]);
    nested(deep, TIC_JSON_DEPTH);
    assert_int_equal(tic_json_parse(deep, strlen(deep), &root), TIC_OK);
    tic_json_free(root);
    nested(deep, TIC_JSON_DEPTH + 2);
    refuses(deep, "JSON: byte");
}

static void test_trees(void **state)
{
    static const char text[] = "{\"a\": [1, {\"b\": null}, true, false], \"k\": 1, \"\\u006b\": \"last\"}";
    TicJson *root;
    assert_int_equal(tic_json_parse(text, sizeof text - 1, &root), TIC_OK);
    const TicJson *a = tic_json_get(root, "a");
    assert_int_equal(root->size, 3);
    assert_int_equal(a->size, 4);
    assert_int_equal(tic_json_get(a->child->next, "b")->kind, TIC_JSON_NULL);
    assert_true(a->child->next->next->kind == TIC_JSON_BOOL && a->child->next->next->number == 1 && a->child->next->next->next->number == 0);
    assert_string_equal(tic_json_get(root, "k")->text, "last");
    assert_null(tic_json_get(root, "none"));
    assert_null(tic_json_get(a, "a"));
    assert_null(tic_json_get(NULL, "a"));
    tic_json_free(root);
}

static void test_quoting(void **state)
{
    static const char text[] = "\" \\ / \b\f\n\r\t \x01 \x1f \x7f A\303\251\342\202\254\360\237\216\211";
    char *literal = tic_json_quote(text, sizeof text - 1), *bad = tic_json_quote("\377a\300", 3), *zero = tic_json_quote("a\0b", 3);
    expect_text(literal, text, sizeof text - 1);
    expect_text(bad, "\357\277\275a\357\277\275", 7);
    expect_text(zero, "a\0b", 3);
    for (const char *p = literal; *p; p++)
        assert_true((unsigned char)*p >= 32);
    free(literal);
    free(bad);
    free(zero);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings), cmocka_unit_test(test_numbers), cmocka_unit_test(test_refusals), cmocka_unit_test(test_trees),
        cmocka_unit_test(test_quoting),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
