#!/usr/bin/env bash
# eval.sh -- a checkpoint on held-out sets: which tasks, where their data may lie, what is skipped, what is refused.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro
"$TICDATA" synth --out "$T/pool" --samples-per-year 12 --eval-samples 6 --years 2014..2018 >/dev/null
D=$T/pool
check "two steps of training" "$P" --data "$D" --out "$T/r" --name a --steps 2
C=$T/r/a/checkpoints/epoch_latest.pt R=$T/r/a/eval_results.jsonl
says "without a list: every TiC set that is there, and the union of the first step's years" 0 "12 tasks evaluated, 0 done before, 0 without data" "$P" eval --ckpt "$C" --data "$D"
check "a line a task, in DataComp's fields" test "$(grep -c '"key": "tic/.*"dataset": "TiC-.*"metrics": {.*"main_metric": [0-9]' "$R")" = 12
cp "$R" "$T/once"
says "a second time: nothing is computed again" 0 "0 tasks evaluated, 12 done before" "$P" eval --ckpt "$C" --data "$D"
check "and the file stays as it was" cmp "$R" "$T/once"
sed -i '/retrieval.yearly.2015"/d' "$R"
says "a task that is missing is made up for" 0 "1 tasks evaluated, 11 done before" "$P" eval --ckpt "$C" --data "$D"
check "with the same score" test "$(sort "$R")" = "$(sort "$T/once")"
check "one thread" "$P" eval --ckpt "$C" --data "$D" --threads 1 --batch 5 --out "$T/one"
check "one thread and another batch: the same scores" cmp "$T/one/eval_results.jsonl" "$T/once"
check "another checkpoint in the same folder" "$P" --data "$D" --out "$T/r" --name b --steps 3
says "takes no score of the first" 0 "12 tasks evaluated, 0 done before" "$P" eval --ckpt "$T/r/b/checkpoints/epoch_latest.pt" --data "$D" --out "$T/r/a"

mkdir -p "$T/two/eval/retrieval" && cp -r "$D/eval/retrieval/2014" "$T/two/eval/retrieval/2013"
says "several roots" 0 "13 tasks evaluated" "$P" eval --ckpt "$C" --data "$D::$T/two" --out "$T/roots"
# a folder without shards is as one that is not there: in the first of several roots, of one year, of one that a union needs
mkdir "$D/eval/retrieval/2013" "$D/eval/retrieval/2019"
says "a folder without shards has no data" 0 "0 tasks evaluated, 13 done before, 1 without data" "$P" eval --ckpt "$C" --data "$D::$T/two" --out "$T/roots"
check "it is named" grep -q "^skipped: TiC-DataComp-Retrieval-Yearly-2019: $D/eval/retrieval/2019: the folder holds no .tar shards" "$T/says.out"
rmdir "$D/eval/retrieval/2013" "$D/eval/retrieval/2019"
mv "$D/eval/retrieval/2015" "$T/2015" && mkdir "$D/eval/retrieval/2015"
says "nor has a union of which a part is missing" 0 "0 tasks evaluated, 10 done before, 2 without data" "$P" eval --ckpt "$C" --data "$D"
check "it says so" grep -q "2014-2016: it unites 3 sets, of which 2 are there" "$T/says.out"
rmdir "$D/eval/retrieval/2015" && mv "$T/2015" "$D/eval/retrieval/2015"
# tasklist.yml: written for DataComp's script, read, with static tasks and ones of other protocols
check "the list of tasks" "$P" eval --data "$D" --write-tasklist "$T/tasks.yml"
check "in YAML that names them" grep -q '^tic/datacomp/retrieval/yearly/2014:$' "$T/tasks.yml"
check "without the union, which only this program knows" sh -c "! grep -q 2014-2016 '$T/tasks.yml'"
mkdir -p "$D/wds_vtab-pets_test" && cp -r "$D/eval/datacompnet/2014" "$D/wds_vtab-pets_test/test"
mv "$D/wds_vtab-pets_test/test/"*.txt "$D/wds_vtab-pets_test/"
classes=$(wc -l <"$D/wds_vtab-pets_test/classnames.txt")
cat >"$T/tasks.yml" <<END
vtab/pets:
  name: Oxford-IIIT Pet
  num_classes: $classes
  main_metric: mean_per_class_recall
tic/datacomp/retrieval/yearly/2014: {name: TiC-DataComp-Retrieval-Yearly-2014, main_metric: mean_recall@1}
cifar10:
  name: CIFAR-10
wilds/fmow:
  name: FMoW
  main_metric: acc_worst_region
END
says "a list with a static task" 0 "2 tasks evaluated, 0 done before, 1 without data, 1 of another protocol" "$P" eval --ckpt "$C" --data "$D" --tasks "$T/tasks.yml" --out "$T/listed"
check "what is skipped is named" grep -q 'skipped: FMoW (wilds/fmow): main metric `acc_worst_region`' "$T/says.out"
check "what has no data is named" grep -q 'skipped: CIFAR-10: .*wds_cifar10_test' "$T/says.out"
check "aggregates say how many tasks they have" grep -q '^VTAB: 0.[0-9]* (1 of its 13 tasks)' "$T/says.out"
check "the main metric is the list's" sh -c "grep -q '\"mean_per_class_recall\": \([0-9.e-]*\), \"main_metric\": \1}' '$T/listed/eval_results.jsonl'"
sed -i "s/num_classes: .*/num_classes: 9/" "$T/tasks.yml"
says "a class file of another length" 1 "classnames.txt: found $classes classes, wanted 9" "$P" eval --ckpt "$C" --data "$D" --tasks "$T/tasks.yml" --out "$T/listed"
printf 'a:\n\tname: x\n' >"$T/bad.yml"
says "a list that is no YAML" 1 "bad.yml:2: indentation by a tab" "$P" eval --ckpt "$C" --data "$D" --tasks "$T/bad.yml"
head -n 3 "$D/eval/datacompnet/2017/classnames.txt" >"$T/few" && cp "$T/few" "$D/eval/datacompnet/2017/classnames.txt"
says "fewer classes than the samples have" 1 "classnames.txt has 3 classes" "$P" eval --ckpt "$C" --data "$D" --out "$T/x"
rm "$D/eval/datacompnet/2017/classnames.txt"
says "no class file at all" 1 "eval/datacompnet/2017: the folder has no classnames.txt" "$P" eval --ckpt "$C" --data "$D" --out "$T/x"
says "a run of all steps asks for it before the first" 1 "has no classnames.txt" "$P" continual --data "$D" --out "$T/c" --steps 1
rm -r "$D/eval/datacompnet/2017"; rm "$D/eval/retrieval/2016/0.tar"
says "a shard that nshards.txt promises" 1 "eval/retrieval/2016/0.tar: no such shard" "$P" eval --ckpt "$C" --data "$D" --out "$T/x"
says "no held-out sets" 1 "no held-out sets" "$P" eval --ckpt "$C" --data "$D/train" --out "$T/x"

# a validation folder as torchvision's ImageFolder reads it
V=$T/val; mkdir -p "$V/n01" "$V/n02" "$T/s" && (cd "$T/s" && tar xf "$D/eval/datacompnet/2014/0.tar")
pictures=("$T"/s/*.jpg); cp "${pictures[0]}" "$V/n01/a.JPEG"; cp "${pictures[1]}" "$V/n02/b.jpg"; echo torn >"$V/n02/c.jpg"; echo note >"$V/n02/notes.txt"
printf 'cat\ndog\n' >"$V/classnames.txt"; echo 'a photo of a {c}.' >"$V/zeroshot_classification_templates.txt"
says "an ImageNet validation folder" 0 "2 images   acc1" "$P" eval --ckpt "$C" --imagenet-val "$V" --out "$T/v"
check "a broken picture is counted" grep -q '"images": 2, "skipped": 1' "$T/v/eval_results.jsonl"
says "a second time: done before" 0 "0 tasks evaluated, 1 done before" "$P" eval --ckpt "$C" --imagenet-val "$V" --out "$T/v"
printf 'cat\nwolf\n' >"$V/classnames.txt"
says "other classes are another task" 0 "1 tasks evaluated, 0 done before" "$P" eval --ckpt "$C" --imagenet-val "$V" --out "$T/v"
cp "${pictures[2]}" "$V/n02/d.jpg"
says "and so are other pictures" 0 "1 tasks evaluated, 0 done before" "$P" eval --ckpt "$C" --imagenet-val "$V" --out "$T/v"
printf 'cat\n' >"$V/classnames.txt"
says "more folders than classes" 1 "found 2 folders of classes, and classnames.txt has 1 classes" "$P" eval --ckpt "$C" --imagenet-val "$V" --out "$T/v2"
finish
