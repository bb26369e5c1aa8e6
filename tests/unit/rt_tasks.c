/* rt_tasks.c -- task lists: the subset of YAML, DataComp's tasklist.yml read and written, keys and names, and the folders
 * in which the sets of a task are looked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "eval/sets.h"
#include "eval/tasks.h"
#include "eval/yaml.h"
#include "room.h"

static void refuses(const char *text, const char *says)
{
    TicJson *root;
    tic_error_clear();
    assert_int_equal(tic_yaml_parse("t.yml", text, strlen(text), &root), TIC_USER);
    if (!strstr(tic_error(), says))
        fail_msg("`%s`: found \"%s\", wanted \"%s\"", text, tic_error(), says);
    tic_error_clear();
    tic_json_free(root);
}

static void test_yaml(void **state)
{
    static const char text[] =
        "---\n# tasks\nvtab/pets:   # a comment\n  name: \"Pets: \\\"all\\\" # of them\"\n  size: 3669\n  tags:\n  - a b\n  - 'it''s'\n"
        "  flow: [1, two, {k: v, 'x': null}]\n  time: 2.5e1\nempty:\nquoted \"key\": ~\nlist:\n    - 1\n    -\n    - [ ]\n\"q:k\": yes\n";
    TicJson *root;
    assert_int_equal(tic_yaml_parse("t.yml", text, strlen(text), &root), TIC_OK);
    const TicJson *pets = tic_json_get(root, "vtab/pets"), *tags = tic_json_get(pets, "tags"), *flow = tic_json_get(pets, "flow");
    assert_string_equal(tic_json_get(pets, "name")->text, "Pets: \"all\" # of them");
    assert_true(tic_json_get(pets, "size")->number == 3669 && tic_json_get(pets, "time")->number == 25);
    assert_string_equal(tags->child->text, "a b");
    assert_string_equal(tags->child->next->text, "it's");
    assert_int_equal(flow->size, 3);
    assert_string_equal(tic_json_get(flow->child->next->next, "k")->text, "v");
    assert_int_equal(tic_json_get(root, "empty")->kind, TIC_JSON_NULL);
    assert_int_equal(tic_json_get(root, "quoted \"key\"")->kind, TIC_JSON_NULL);
    assert_int_equal(tic_json_get(root, "list")->size, 3);
    assert_string_equal(tic_json_get(root, "q:k")->text, "yes");
    tic_json_free(root);
    assert_int_equal(tic_yaml_parse("t.yml", "", 0, &root), TIC_OK);
    assert_int_equal(root->kind, TIC_JSON_NULL);
    tic_json_free(root);
}

static void test_yaml_refusals(void **state)
{
    refuses("a:\n\tb: 1\n", "t.yml:2: indentation by a tab");
    refuses("a: &x 1\n", "t.yml:1: anchors");
    refuses("a: |\n  text\n", "t.yml:1: anchors");
    refuses("a: 1\na: 2\n", "t.yml:2: key \"a\" stands twice");
    refuses("a:\n  b: 1\n c: 2\n", "t.yml:3: the indentation");
    refuses("a: 'open\n", "t.yml:1: a quoted text does not end");
    refuses("a: [1, 2\n", "t.yml:1: a flow list");
    refuses("a: {b: 1\n", "t.yml:1: a flow mapping");
    refuses("just text\n", "t.yml:1: found no `key: value`");
    refuses("a: b: c\n", "t.yml:1: a second `: `");
    refuses("a: \"x\\q\"\n", "t.yml:1: this escape");
    refuses("a: 1\n---\nb: 2\n", "t.yml:2: directives");
    refuses("a: [1] 2\n", "something follows");
    refuses("- a: 1\n", "t.yml:1: a mapping as an item");
    refuses("a: [[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]\n", "nested too deep");
}

static void test_keys(void **state)
{
    static const struct { const char *key, *name, *family; int lo, hi; TicTaskKind kind; const char *metric; } cases[] = {
        { "tic/datacomp/retrieval/yearly/2014", "TiC-DataComp-Retrieval-Yearly-2014", "tic/datacomp/retrieval/yearly", 2014, 2014,
          TIC_TASK_RETRIEVAL, "mean_recall@1" },
        { "tic/datacomp/datacompnet/monthly/201403", "TiC-DataCompNet-Monthly-201403", "tic/datacomp/datacompnet/monthly", 201403, 201403,
          TIC_TASK_ZEROSHOT, "acc1" },
        { "tic/yfcc/retrieval/yearly/2009-2010", "TiC-YFCC-Retrieval-Yearly-2009-2010", "tic/yfcc/retrieval/yearly", 2009, 2010,
          TIC_TASK_RETRIEVAL, "mean_recall@1" },
        { "vtab/pets", "Oxford-IIIT Pet", "vtab/pets", 0, 0, TIC_TASK_ZEROSHOT, "mean_per_class_recall" },
        { "retrieval/flickr_1k_test_image_text_retrieval", "Flickr", "retrieval/flickr_1k_test_image_text_retrieval", 0, 0,
          TIC_TASK_RETRIEVAL, "mean_recall@1" },
        { "misc/winogavil", "WinoGAViL", "misc/winogavil", 0, 0, TIC_TASK_UNSUPPORTED, "jaccard_score_10-12" },
        { "wilds/fmow", "FMoW", "wilds/fmow", 0, 0, TIC_TASK_UNSUPPORTED, "acc_worst_region" },
        { "fairness/fairface", "FairFace", "fairness/fairface", 0, 0, TIC_TASK_UNSUPPORTED, "" },
        { "tic/datacomp/captioning/yearly/2014", "TiC-DataComp-Captioning-Yearly-2014", "tic/datacomp/captioning/yearly", 2014, 2014,
          TIC_TASK_UNSUPPORTED, "acc1" },
    };
    TicTaskList list = { 0 };
    for (size_t i = 0; i < TIC_LEN(cases); i++) {
        tic_tasks_add(&list, cases[i].key);
        const TicEvalTask *t = &list.task[i];
        char *family = tic_task_family(t->key);
        assert_string_equal(t->name, cases[i].name);
        assert_string_equal(family, cases[i].family);
        assert_string_equal(t->metric, cases[i].metric);
        assert_int_equal(t->lo, cases[i].lo);
        assert_int_equal(t->hi, cases[i].hi);
        assert_int_equal(t->kind, cases[i].kind);
        assert_true((t->why != NULL) == (t->kind == TIC_TASK_UNSUPPORTED));
        free(family);
    }
    tic_tasks_clear(&list);
}

static void test_groups(void **state)        /* aggregate_scores.py: 1, 6, 13, 3, 38 */
{
    static const int size[] = { 1, 6, 13, 3, 38 };
    for (int g = 0; g < 5; g++)
        assert_int_equal(tic_group_size(g), size[g]);
    assert_null(tic_group_name(5));
    assert_true(tic_group_has(2, "sun397") && !tic_group_has(2, "cifar10") && !tic_group_has(4, "fairness/fairface"));
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void test_tasklist(void **state)
{
    TicTaskList a = { 0 }, b = { 0 };
    put("a.yml", "vtab/pets:\n  name: 'Pets # 1'\n  num_classes: 37\n  main_metric: mean_per_class_recall\n  tags: [x]\n"
                 "cifar10:\n  name: CIFAR-10\n  size: 10000\nfairness/fairface:\n  name: FairFace\n  main_metric: null\n");
    assert_int_equal(tic_tasks_read(&a, "a.yml"), TIC_OK);
    assert_int_equal(a.count, 3);
    tic_tasks_add(&a, "tic/datacomp/retrieval/yearly/2014-2016");       /* a union is no task of DataComp's */
    assert_int_equal(tic_tasks_write(&a, "b.yml"), TIC_OK);
    assert_int_equal(tic_tasks_read(&b, "b.yml"), TIC_OK);
    assert_int_equal(b.count, 3);
    assert_string_equal(b.task[0].key, "cifar10");                      /* sorted */
    for (int i = 0; i < b.count; i++) {
        const TicEvalTask *t = tic_tasks_find(&a, b.task[i].key);
        assert_string_equal(t->name, b.task[i].name);
        assert_string_equal(t->metric, b.task[i].metric);
        assert_true(t->kind == b.task[i].kind && t->size == b.task[i].size && t->classes == b.task[i].classes);
    }
    tic_tasks_clear(&a);
    tic_tasks_clear(&b);
    static const char *const wrong[][2] = {
        { "- a\n", "a.yml: holds no task" }, { "", "a.yml: holds no task" }, { "cifar10:\n  size: 3\n", "a.yml: task cifar10: a text `name`" },
        { "cifar10:\n", "a.yml: task cifar10: fields wanted" }, { "cifar10: {name: x, size: -1}\n", "a.yml: task cifar10: `size`" },
        { "cifar10: {name: x, main_metric: 3}\n", "a.yml: task cifar10: `main_metric`" },
        { "cifar10: {name: x, num_classes: 1.5}\n", "a.yml: task cifar10: `num_classes`" } };
    for (size_t i = 0; i < TIC_LEN(wrong); i++) {
        put("a.yml", wrong[i][0]);
        assert_int_equal(tic_tasks_read(&a, "a.yml"), TIC_USER);
        if (!strstr(tic_error(), wrong[i][1]))
            fail_msg("found \"%s\", wanted \"%s\"", tic_error(), wrong[i][1]);
        tic_error_clear();
        tic_tasks_clear(&a);
    }
}

static void open_set(const char *key, TicStatus want, const char *says)
{
    TicTaskList list = { 0 };
    TicEvalSet set;
    tic_tasks_add(&list, key);
    list.task[0].classes = list.task[0].classes ? 2 : 0;
    TicStatus status = tic_eval_set_open("root", &list.task[0], &set);
    if (status != want || !strstr(status ? tic_error() : set.folder, says))
        fail_msg("%s: found %d \"%s\", wanted \"%s\"", key, status, status ? tic_error() : set.folder, says);
    tic_error_clear();
    if (!status)
        tic_eval_set_clear(&set);
    tic_tasks_clear(&list);
}

static void test_folders(void **state)
{
    open_set("tic/datacomp/retrieval/yearly/2014", TIC_END, "no eval/retrieval/2014 below it");
    assert_int_equal(system("mkdir -p root/eval/retrieval/2014 root/eval/retrieval/2015 root/tic/datacomp/yearly/eval/retrieval/2015 "
                            "root/monthly/eval/retrieval/201403 root/wds_vtab-pets_test/test root/wds_cifar10_test && "
                            "for d in eval/retrieval/2014 eval/retrieval/2015 tic/datacomp/yearly/eval/retrieval/2015 "
                            "monthly/eval/retrieval/201403 wds_vtab-pets_test/test wds_cifar10_test; do head -c 10240 /dev/zero "
                            ">root/$d/0.tar; done"), 0);
    open_set("tic/datacomp/retrieval/yearly/2014", TIC_OK, "root/eval/retrieval/2014");
    open_set("tic/datacomp/retrieval/yearly/2015", TIC_OK, "root/tic/datacomp/yearly/eval/retrieval/2015");
    open_set("tic/datacomp/retrieval/monthly/201403", TIC_OK, "root/monthly/eval/retrieval/201403");
    put("root/eval/retrieval/2014/nshards.txt", "2\n");
    open_set("tic/datacomp/retrieval/yearly/2014", TIC_USER, "root/eval/retrieval/2014/1.tar: no such shard");
    put("root/eval/retrieval/2014/nshards.txt", "none\n");
    open_set("tic/datacomp/retrieval/yearly/2014", TIC_USER, "found `none`");
    open_set("vtab/pets", TIC_USER, "root/wds_vtab-pets_test: the folder has no classnames.txt");
    put("root/wds_vtab-pets_test/classnames.txt", "cat\n\n dog \n");
    open_set("vtab/pets", TIC_USER, "has no zeroshot_classification_templates.txt");
    put("root/wds_vtab-pets_test/zeroshot_classification_templates.txt", "a photo of a {}.\n");
    open_set("vtab/pets", TIC_USER, "template `a photo of a {}.` has no {c}");
    put("root/wds_vtab-pets_test/zeroshot_classification_templates.txt", "a photo of a {c}.\n");
    open_set("vtab/pets", TIC_OK, "root/wds_vtab-pets_test/test");
    put("root/wds_vtab-pets_test/classnames.txt", "cat\n");
    open_set("vtab/pets", TIC_USER, "found 1 classes, wanted 2");
    open_set("cifar10", TIC_USER, "root/wds_cifar10_test: the folder has no classnames.txt");
    TicTaskList list = { 0 };
    assert_int_equal(tic_eval_discover("root", &list), TIC_OK);
    assert_int_equal(list.count, 3);
    assert_string_equal(list.task[0].key, "tic/datacomp/retrieval/yearly/2015");
    assert_string_equal(list.task[1].key, "tic/datacomp/retrieval/monthly/201403");
    assert_string_equal(list.task[2].key, "tic/datacomp/retrieval/yearly/2014");
    tic_tasks_clear(&list);
}

int main(void)
{
    cmocka_set_message_output(CM_OUTPUT_TAP);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_yaml), cmocka_unit_test(test_yaml_refusals), cmocka_unit_test(test_keys), cmocka_unit_test(test_groups),
        ROOM(test_tasklist), ROOM(test_folders),
    };
    return cmocka_run_group_tests_name("tasks", tests, NULL, NULL);
}
