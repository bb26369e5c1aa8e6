/* rt_report.c -- transfer by hand, and a run whose files are written here: which scores count, both readings of a first step
 * of several years, what the three reports say. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/json.h"
#include "eval/transfer.h"
#include "report/report.h"
#include "room.h"

#define close_to(a, b) assert_true(fabs((a) - (b)) < 1e-12)

static void test_transfer(void **state)
{
    double e[9] = { 0.6, 0.3, 0.1, 0.5, 0.7, 0.4, 0.2, 0.6, 0.8 };
    TicTransfer t = tic_transfer(e, 3);
    close_to(t.in_domain, 0.7);
    close_to(t.backward, (0.5 + 0.2 + 0.6) / 3);
    close_to(t.forward, (0.3 + 0.1 + 0.4) / 3);
    e[2] = NAN;
    t = tic_transfer(e, 3);
    close_to(t.forward, 0.35);
    assert_int_equal(t.n_forward, 2);
    t = tic_transfer(e, 1);
    close_to(t.in_domain, 0.6);
    assert_true(isnan(t.backward) && isnan(t.forward));
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void put_score(FILE *f, const char *split, double v, const char *digest)
{
    fprintf(f, "{\"key\": \"tic/datacomp/retrieval/yearly/%s\", \"dataset\": \"x\", \"metrics\": {\"main_metric\": %g}, \"images\": 9, "
            "\"skipped\": 0, \"checkpoint\": \"%s\"}\n", split, v, digest);
}

static void make_step(const char *run, int t, const double *v)
{
    char path[256], digest[20];
    static const char *const split[] = { "2014", "2015", "2016", "2014-2015" };
    snprintf(path, sizeof path, "mkdir -p '%s/step%d'", run, t);
    assert_int_equal(system(path), 0);
    snprintf(digest, sizeof digest, "%016d", t + 1);
    snprintf(path, sizeof path, "%s/step%d/evaluated", run, t);
    char mark[64];
    snprintf(mark, sizeof mark, "step%d/c.pt %s\n", t, digest);
    put(path, mark);
    snprintf(path, sizeof path, "%s/step%d/eval_results.jsonl", run, t);
    FILE *f = fopen(path, "w");
    put_score(f, "2014", 0.99, "00000000000000ff");          /* of an earlier checkpoint: never shown */
    for (int i = 0; i < 4; i++)
        put_score(f, split[i], v[i], digest);
    fprintf(f, "{\"key\": \"imagenet1k\", \"metrics\": {\"main_metric\": %g}, \"checkpoint\": \"%s\"}\n{\"torn", 0.25 + 0.5 * t, digest);
    fclose(f);
    snprintf(path, sizeof path, "%s/step%d/metrics.jsonl", run, t);
    put(path, "{\"step\": 1, \"samples\": 8, \"loss\": 2.5, \"lr\": 0.001, \"logit_scale\": 14, \"samples_per_second\": 9}\n"
              "{\"step\": 2, \"samples\": 16, \"loss\": 2.25, \"lr\": 0.0005, \"logit_scale\": 14.5, \"samples_per_second\": 10}\n");
}

static void make_run(const char *run)
{
    char path[128];
    static const double first[4] = { 0.5, 0.3, 0.2, 0.35 }, second[4] = { 0.4, 0.4, 0.7, 0.45 };
    make_step(run, 0, first);
    make_step(run, 1, second);
    snprintf(path, sizeof path, "%s/lineage.json", run);
    put(path, "{\"model\": \"m<1>\", \"strategy\": \"s&t\", \"program\": \"00\", \"seed\": 3, \"forward_flops_per_pair\": 2000, \"oracle_pairs\": 48,\n"
              "\"steps\": [{\"index\": 0, \"name\": \"2014..2015\", \"lo\": 2014, \"hi\": 2015, \"parent\": \"\", \"pairs\": 16, \"optimizer_steps\": 2,\n"
              "\"batch\": 8, \"shares\": [{\"name\": \"2014..2015\", \"share\": 1, \"available\": 7}], \"folder\": \"step0\", \"checkpoint\": \"step0/c.pt\",\n"
              "\"skipped\": 2, \"state\": \"evaluated\"}, {\"index\": 1, \"name\": \"2016\", \"lo\": 2016, \"hi\": 2016, \"parent\": \"step0/c.pt\",\n"
              "\"pairs\": 16, \"optimizer_steps\": 2, \"batch\": 8, \"shares\": [], \"folder\": \"step1\", \"checkpoint\": \"step1/c.pt\", \"skipped\": 0,\n"
              "\"state\": \"evaluated\"}]}");
}

static void test_runs(void **state)
{
    char *path[] = { "a&b/" };
    TicRuns runs;
    make_run("a&b");
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_OK);
    assert_string_equal(runs.run[0].name, "a&b");
    assert_int_equal(runs.n_family, 1);
    assert_int_equal(runs.n_fixed, 1);
    const TicFamily *f = &runs.family[0];
    assert_string_equal(f->name, "TiC-DataComp-Retrieval-Yearly");
    assert_int_equal(f->n_year, 3);
    close_to(f->low, 0.2);
    close_to(f->high, 0.7);                                  /* 0.99 belongs to another checkpoint */
    assert_int_equal(runs.run[0].step[0].stale, 1);
    assert_int_equal(runs.run[0].step[1].n_point, 2);
    close_to(tic_runs_mean(&runs.run[0].step[1], f), 0.5);
    double *mean = tic_runs_matrix(&runs.run[0], f, false), *merged = tic_runs_matrix(&runs.run[0], f, true);
    static const double want[2][4] = { { 0.4, 0.2, 0.4, 0.7 }, { 0.35, 0.2, 0.45, 0.7 } };
    for (int i = 0; i < 4; i++) {
        close_to(mean[i], want[0][i]);
        close_to(merged[i], want[1][i]);
    }
    assert_true(tic_runs_has_unions(&runs, f));
    close_to(tic_runs_newest(&runs.run[0], "imagenet1k"), 0.75);
    close_to(tic_run_macs(&runs.run[0], 2), 32000);
    close_to(tic_run_oracle_share(&runs.run[0]), 32.0 / 48);
    free(mean);
    free(merged);
    tic_runs_clear(&runs);
}

/* A folder of one training run, without a record of steps: what it is, its metrics say. */
static void test_single(void **state)
{
    static const char *const line[] = {
        "{\"step\": 1, \"samples\": 24, \"loss\": 2.5, \"lr\": 0.001, \"logit_scale\": 14, \"samples_per_second\": 9}\n",
        "{\"step\": 50, \"samples\": 1200, \"loss\": 2.25, \"lr\": 0.0005, \"logit_scale\": 14.5, \"samples_per_second\": 10}\n",
    };
    char *path[] = { "one" }, *text = tic_format("%s%s{\"step\": 51, \"sam", line[0], line[1]);
    for (int whole = 0; whole < 2; whole++) {
        TicRuns runs;
        assert_int_equal(tic_make_dirs("one/checkpoints"), TIC_OK);
        put("one/metrics.jsonl", text);
        if (whole)
            put("one/checkpoints/epoch_1.pt", "weights");
        assert_int_equal(tic_runs_read(path, 1, &runs), TIC_OK);
        assert_int_equal(runs.run[0].n_step, 1);
        const TicRunStep *s = &runs.run[0].step[0];
        assert_true(s->steps == 50 && s->pairs == 1200 && s->batch == 24 && s->n_point == 2);
        assert_string_equal(s->state, whole ? "trained" : "training");
        assert_string_equal(s->checkpoint, whole ? "checkpoints/epoch_1.pt" : "checkpoints/epoch_latest.pt");
        tic_runs_clear(&runs);
    }
    put("one/metrics.jsonl", "");                            /* killed before its first line */
    TicRuns runs;
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_OK);
    assert_true(!runs.run[0].step[0].steps && !runs.run[0].step[0].batch);
    tic_runs_clear(&runs);
    free(text);
}

static char *written(const TicRuns *runs, void (*write)(const TicRuns *, FILE *))
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    write(runs, f);
    fclose(f);
    return text;
}

static void has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("no `%s` in\n%.2000s", part, text);
}

static void test_reports(void **state)
{
    char *path[] = { "a&b", "second" };
    TicRuns runs;
    make_run("a&b");
    make_run("second");
    assert_int_equal(tic_runs_read(path, 2, &runs), TIC_OK);
    char *html = written(&runs, tic_report_html), *json = written(&runs, tic_report_json), *text = written(&runs, tic_report_text);
    has(html, "2 runs compared");
    has(html, "a&amp;b");
    has(html, "m&lt;1&gt;");
    has(html, "on 2014: 50.00 %\">50.0<");
    has(html, "1 score of another checkpoint left out");
    has(html, " · 66.7&thinsp;%<");
    static const char *const outside[] = { "http:", "https:", "src=", "href=", "@import", "url(", "nan", "inf," };
    for (size_t i = 0; i < TIC_LEN(outside); i++)
        if (strstr(html, outside[i]))
            fail_msg("`%s` in the page", outside[i]);
    TicJson *root;
    assert_int_equal(tic_json_parse(json, strlen(json), &root), TIC_OK);
    const TicJson *t = tic_json_get(tic_json_get(tic_json_get(root, "runs")->child, "transfer"), "tic/datacomp/retrieval/yearly");
    close_to(tic_json_get(tic_json_get(t, "mean_of_years"), "backward")->number, 0.4);
    close_to(tic_json_get(tic_json_get(t, "merged_first_step"), "in_domain")->number, (0.35 + 0.7) / 2);
    assert_null(strstr(json, "per_second"));                 /* nothing that a clock made */
    tic_json_free(root);
    has(text, "in-domain   backward    forward");
    has(text, "  2016           40.0   40.0   70.0    50.0");
    free(html);
    free(json);
    free(text);
    tic_runs_clear(&runs);
}

static void test_refusals(void **state)
{
    char *path[] = { "none" };
    TicRuns runs;
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_USER);
    has(tic_error(), "none: holds no run");
    tic_error_clear();
    assert_int_equal(system("mkdir none"), 0);
    put("none/lineage.json", "[]");
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_USER);
    has(tic_error(), "none/lineage.json: not the record of a run");
    tic_error_clear();
    put("none/lineage.json", "{\"steps\": []}");
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_USER);
    has(tic_error(), "records no step");
    tic_error_clear();
    assert_int_equal(unlink("none/lineage.json"), 0);
    put("none/metrics.jsonl", "{\"step\": 4, \"samples\": 32, \"loss\": 1}\n");       /* what `train` leaves */
    assert_int_equal(tic_runs_read(path, 1, &runs), TIC_OK);
    assert_int_equal(runs.run[0].step[0].pairs, 32);
    char *html = written(&runs, tic_report_html), *json = written(&runs, tic_report_json), *text = written(&runs, tic_report_text);
    free(html);
    free(json);
    free(text);
    tic_runs_clear(&runs);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_transfer), ROOM(test_runs), ROOM(test_single), ROOM(test_reports), ROOM(test_refusals) };
    return cmocka_run_group_tests_name("report", tests, NULL, NULL);
}
