#!/usr/bin/env bash
# program.sh -- what a produced program says of itself, what a short run leaves behind, and every wrong way to call it.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro

says "help" 0 "usage: PROGRAM" "$P" --help
says "help of a command" 0 "--batch N" "$P" train --help
says "version" 0 "clip_micro, ticc" "$P" --version
for c in $("$P" --help | sed -n 's/^  \([a-z][a-z]*\)  .*/\1/p'); do
    says "$c --help" 0 "usage: " "$P" "$c" --help
    says "$c --version" 0 "clip_micro, ticc" "$P" "$c" --version
done
says "info" 0 "GFLOP per pair" "$P" info
planned=$("$TICC" tests/e2e/micro.tic --emit=plan | sed -n 's/^\([0-9]* kernels\), \([0-9]* distinct\).*/\1 (\2) in/p')
says "info counts kernels as the plan does" 0 "${planned:-no plan}" "$P" info
says "info as JSON" 0 '"tensors": 62' "$P" info --json
says "no command" 1 "usage:" "$P"
says "a wrong command" 1 'did you mean `train`?' "$P" trian
says "a wrong flag" 1 'did you mean `--batch`?' "$P" --bach 4
says "a value that is no number" 1 'found `many`, wanted a whole number' "$P" --batch many
says "a value out of range" 1 "wanted 1 to" "$P" --batch 0
says "a missing value" 1 "a value is missing" "$P" --batch
says "no data given" 1 "--data: no pool given" "$P" --steps 1
says "data that is not there" 1 "$T/nowhere" "$P" --data "$T/nowhere" --out "$T" --steps 1
says "a year the schedule does not have" 1 "1999" "$P" --data "$DATA" --out "$T" --start 1999 --steps 1

says "five steps" 0 "checkpoint: $T/r/five/checkpoints/epoch_latest.pt" "$P" --data "$DATA" --out "$T/r" --name five --steps 5 --batch 16 --log-every 1
check "five lines of metrics" test "$(grep -c . "$T/r/five/metrics.jsonl")" = 5
# 16 features scatter more than 512: the first loss is above ln 16 = 2.77, but not far
awk -F'"loss": ' 'NR == 1 { split($2, v, ","); l = v[1]; exit !(l > log(16) * 0.97 && l < log(16) * 1.5) }' "$T/r/five/metrics.jsonl" \
    && ok "the first loss is that of guessing" || not_ok "the first loss is that of guessing" "$(head -n 1 "$T/r/five/metrics.jsonl")"
says "the log line of OpenCLIP" 0 "Train Epoch: 0 [16/80 (20%)] Data (t): " cat "$T/r/five/out.log"
says "a second run in the same folder" 1 "already holds a run" "$P" --data "$DATA" --out "$T/r" --name five --steps 5 --batch 16
says "resuming a finished run" 0 "nothing to do" "$P" --data "$DATA" --out "$T/r" --name five --steps 5 --batch 16 --resume
says "starting from a checkpoint" 0 "checkpoint:" "$P" --data "$DATA" --out "$T/r" --name from --steps 1 --batch 8 --from "$T/r/five/checkpoints/epoch_1.pt"
child() { "$P" --data "$DATA" --out "$T/r" --name child --batch 8 --resume "$@"; }
check "from a checkpoint, to be resumed" child --steps 2 --from "$T/r/five/checkpoints/epoch_1.pt"
check "resumed by the same words: nothing to say" sh -c "! '$P' --data '$DATA' --out '$T/r' --name child --batch 8 --resume --steps 2 \
    --from '$T/r/five/checkpoints/epoch_1.pt' 2>&1 | grep warning"
says "resumed with another --from" 0 "goes on with its own weights; those of $T/r/from/checkpoints/epoch_1.pt are not read" \
    child --steps 3 --from "$T/r/from/checkpoints/epoch_1.pt"
check "it keeps the parent that it has" grep -q "five/checkpoints/epoch_1.pt" "$T/r/child/checkpoints/epoch_latest.pt"
check "and gets no other" sh -c "! grep -q from/checkpoints/epoch_1.pt '$T/r/child/checkpoints/epoch_latest.pt'"
says "a finished run of more steps than are wanted" 0 "has 3 of 2 steps" child --steps 2
says "evaluation" 0 "recall@1" "$P" eval --ckpt "$T/r/five/checkpoints/epoch_latest.pt" --data "$DATA"
says "evaluation without a checkpoint" 1 "--ckpt" "$P" eval --data "$DATA"

# checkpoints that are not what they should be
C=$T/r/five/checkpoints/epoch_latest.pt
head -c 5000 "$C" >"$T/cut.pt"
says "a truncated checkpoint" 1 "cut.pt" "$P" --data "$DATA" --out "$T/r" --name x1 --steps 1 --from "$T/cut.pt"
echo "no checkpoint" >"$T/text.pt"
says "a file that is no checkpoint" 1 "text.pt" "$P" --data "$DATA" --out "$T/r" --name x2 --steps 1 --from "$T/text.pt"
sed 's/width = 32, layers = 2/width = 32, layers = 1/' tests/e2e/micro.tic >"$T/other.tic"
check "another model compiles" "$TICC" "$T/other.tic" -o "$T/other"
says "a checkpoint of another model" 1 "resblocks.1" "$T/other" --data "$DATA" --out "$T/r" --name x3 --steps 1 --from "$C"
echo garbage | gzip >"$T/vocab.gz"
says "a vocabulary that is none" 1 "vocab.gz" "$P" --data "$DATA" --out "$T/r" --name x4 --steps 1 --vocab "$T/vocab.gz"

# a full disk while saving: the checkpoint that was there survives
cp "$C" "$T/before.pt"
( ulimit -f 2000; says "a full disk" 1 "cannot write" "$P" --data "$DATA" --out "$T/r" --name five --steps 9 --batch 16 --resume; echo $n >"$T/n" ); n=$(cat "$T/n")
check "the previous checkpoint survives it" cmp "$C" "$T/before.pt"
check "no half-written file is left" test ! -e "$C.tmp"

# a learning rate that destroys the run: it stops, names the step and the tensor, and saves nothing bad
check "a wild learning rate compiles" "$TICC" tests/e2e/micro.tic -o "$T/wild" -D train.batch=8
sed 's/peak = 1e-3, warmup = 5/peak = 1e30, warmup = 0/' tests/e2e/micro.tic >"$T/wild.tic"
check "and again with 1e30" "$TICC" "$T/wild.tic" -o "$T/wild"
says "NaN is named, and the step" 1 "the first tensor that is not finite" "$T/wild" --data "$DATA" --out "$T/r" --name wild --steps 8
check "the step" grep -q "^error: step [0-9]*: " "$T/says.out"
check "nothing bad was saved" test ! -e "$T/r/wild/checkpoints/epoch_latest.pt"
sed -i 's/peak = 1e30/peak = 1e39/' "$T/wild.tic" && "$TICC" "$T/wild.tic" -o "$T/wild"
says "nor may it be: the parameters are looked at first" 1 "is not finite after the update. Nothing was saved after step 0" "$T/wild" --data "$DATA" --out "$T/r" --name wild2 --steps 1
sed 's/vocab = 49408/vocab = 200/' tests/e2e/micro.tic > "$T/narrow.tic"
says "a token table that captions would leave is pointed at" 0 'warning: `token_embedding.weight` has 200 rows' "$TICC" "$T/narrow.tic" -o "$T/narrow"
says "and refused before any data is looked for" 1 "the model's token table has 200 rows" "$T/narrow" --data "$T/nothing" --out "$T/r" --name narrow --steps 1
says "a token table that captions would leave" 1 "the model's token table has 200 rows" "$T/narrow" --data "$DATA" --out "$T/r" --name narrow --steps 1
says "nor is it evaluated" 1 "the model's token table has 200 rows" "$T/narrow" continual --data "$DATA" --out "$T/r" --name narrow2 --steps 1
# a tower that is locked: no gradient, no states, and the very same features after a while; the other one learns
"$TICC" tests/e2e/micro.tic -o "$T/locked" -D 'train.optimizer=adamw(lr = cosine(peak = 1e-2, warmup = 1), weight_decay(p) = 0.2, frozen(p) = begins(name(p), "visual."))'
"$T/locked" --data "$DATA" --out "$T/r" --name locked --steps 6 --save-every 1 >"$T/log" 2>&1 & pid=$!
while kill -0 $pid 2>/dev/null && [ ! -s "$T/r/locked/checkpoints/epoch_latest.pt" ]; do :; done; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
check "a locked tower: killed, and resumed" "$T/locked" --data "$DATA" --out "$T/r" --name locked --steps 6 --resume
"$T/locked" --data "$DATA" --out "$T/r" --name locked1 --steps 1 >"$T/log" 2>&1
shard=$(find "$DATA/train/2014" -name '*.tar' | sort | head -n 1)
for k in locked locked1; do "$T/locked" embed --ckpt "$T/r/$k/checkpoints/epoch_1.pt" --out "$T/$k" "$shard"; done >"$T/log" 2>&1
check "its features stay" cmp "$T/locked.images.npy" "$T/locked1.images.npy"
check "the other tower's do not" eval '[ -s "$T/locked.texts.npy" ] && ! cmp -s "$T/locked.texts.npy" "$T/locked1.texts.npy"'
check "it has no states" eval 'launches() { "$1" info --json | sed "s/.*\"peak_bytes\": \([0-9]*\).*/\1/"; }; [ "$(launches "$T/locked")" -lt "$(launches "$P")" ]'
# threads: as many as the process may use, not as the machine has
one() { "$@" "$P" bench --batch 2 --steps 1; }
says "a process that may use one processor" 0 " on 1 threads" one taskset -c "$(taskset -cp $$ | sed 's/.*: *\([0-9]*\).*/\1/')"
group=/sys/fs/cgroup/cpu limit=cpu.cfs_quota_us share=100000
[ -e /sys/fs/cgroup/cgroup.controllers ] && group=/sys/fs/cgroup limit=cpu.max share="100000 100000"
if mkdir "$group/ticc.$$" 2>/dev/null && echo "$share" 2>/dev/null >"$group/ticc.$$/$limit"; then
    says "a group with the time of one" 0 " on 1 threads" one sh -c "echo \$\$ >$group/ticc.$$/cgroup.procs && exec \"\$@\"" sh
else
    skip "a group with the time of one" "this user makes no control groups"
fi
rmdir "$group/ticc.$$" 2>/dev/null
finish
