#!/usr/bin/env bash
# pieces.sh -- train.micro: the gradient of a batch in pieces is that of the batch; a run in pieces is the same with any number
# of threads and after a kill; memory is that of a piece; with a teacher too; what cannot go in pieces says why.
. tests/e2e/lib.sh
sample_data
RT_LIBS="-ljpeg -lpng -lwebp -lz -lm -ldl"
sed -e '/weight_decay(p)/d' -e 's/optimizer = .*/optimizer = sgd(lr = 1e-3, momentum = 0)/' tests/e2e/micro.tic >"$T/sgd.tic"
linked() { "$TICC" "$T/sgd.tic" -D train.micro=8 -D train.batch=32 "$@" --emit=asm -o "$T/sgd.s" &&
    ${CC:-cc} -O1 -Iruntime tests/e2e/pieces.c "$T/sgd.s" "$B/libticrt.a" $TICC_LDFLAGS $RT_LIBS -pthread -o "$T/pieces"; }
check "a program to compare gradients" linked
check "the gradient of 32 pairs in 4 x 8, 8 x 4, 2 x 16 and 32 x 1" "$T/pieces" 32 8 4 16 1
check "with the gradient's norm clipped" linked -D train.clip_norm=0.1
check "the gradient is still that of the batch" "$T/pieces" 32 8

micro -D train.micro=8 -D train.batch=32 || { not_ok "the micro model compiles with train.micro"; finish; exit; }
run() { "$T/micro" --data "$DATA" --steps 12 --name run --log-every 4 "$@"; }
final=run/checkpoints/epoch_latest.pt
check "a run in pieces" run --out "$T/whole" --threads 2
check "its log says so" grep -q "each step in 4 pieces of 8 pairs" "$T/whole/run/out.log"
check "the same with one thread and other loaders" run --out "$T/one" --threads 1 --loaders 3
check "one and two threads: the same bytes" cmp "$T/whole/$final" "$T/one/$final"
for after in 0.15 0.3 0.45 0.6; do
    "$T/micro" --data "$DATA" --steps 12 --name run --log-every 4 --out "$T/killed" --save-every 1 --resume >/dev/null 2>&1 &
    pid=$!; sleep $after; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null
done
check "the run that was killed ends" run --out "$T/killed" --resume
check "killed and resumed: the same bytes" cmp "$T/whole/$final" "$T/killed/$final"
check "a run at once" run --out "$T/once" --micro 0
losses() { sed -E 's/.*"loss": ([0-9.]*).*/\1/' "$1/run/metrics.jsonl"; }
close() { paste <(losses "$T/whole") <(losses "$T/once") | awk '{ d = $1 - $2; n++ } d > 1e-3 || d < -1e-3 { exit 1 } END { exit n < 3 }'; }
check "the losses of both are the same to rounding" close
more() { run --out "$T/once" --steps 14 --resume "$@"; }
says "gone on with in pieces, it says that results are the same but for rounding" 0 "micro was 0, is now 8 (0: batches at once)" more
check "once" test "$(grep -c "micro was" "$T/says.out")" = 1
says "with pieces of another size" 0 "micro was 8, is now 4" more --steps 16 --micro 4
says "and nothing with the same" 0 "resuming after step 16" more --steps 18 --micro 4
check "but its length" eval '! grep -q "micro was" "$T/says.out"'
number() { sed -E "s/.*\"$1\": ([0-9.]*).*/\1/" "$T/json"; }
# the gradient of the loss by wide features: rows and terms are both the batch, and nothing grows with more than its square
sed 's/out = 16/out = 512/g' tests/e2e/micro.tic >"$T/wide.tic" && "$TICC" "$T/wide.tic" -D train.micro=4 -o "$T/wide"
"$T/wide" info --json --batch 4096 >"$T/json"
check "memory of a large batch of wide features" test "$(number arena_bytes)" -lt 200000000
"$T/micro" info --json --batch 256 --micro 0 >"$T/json"; at_once=$(number arena_bytes) flops=$(number step_flops)
"$T/micro" info --json --batch 256 --micro 4 >"$T/json"; in_pieces=$(number arena_bytes) more=$(number step_flops)
check "256 pairs in pieces of 4 need less than half the memory" awk -v a="$at_once" -v b="$in_pieces" 'BEGIN { exit !(b > 0 && b < a / 2) }'
check "and a third more arithmetic" awk -v a="$flops" -v b="$more" 'BEGIN { exit !(b > 1.2 * a && b < 1.5 * a) }'
says "the plan has the memory of each program" 0 "in pieces of 8: " "$TICC" tests/e2e/micro.tic -D train.micro=8 -D train.batch=32 --emit=plan
says "bench" 0 "at batch 16 in pieces of 4" "$T/micro" bench --batch 16 --micro 4 --steps 1 --explain
check "has a line for each program" grep -q "^piece, 4 pairs, 4 times a step" "$T/says.out"
says "pieces that do not divide the batch" 1 "a batch of 20 does not divide into pieces of 8; --batch and --micro set them" run --out "$T/x" --batch 20
says "a batch no larger than a piece goes at once" 0 "1 steps of 8 pairs" run --out "$T/small" --batch 8 --steps 1
check "in one piece" eval '! grep -q "each step in" "$T/small/run/out.log"'
"$TICC" tests/e2e/micro.tic -o "$T/plain"
says "a program without pieces" 1 "compile it with -D train.micro=4" "$T/plain" --data "$DATA" --micro 4 --out "$T/x"

# a step of many seconds: it is given up with what was skipped for it, and what was done before is saved
check "a pool with broken pictures" broken_pool 2014 2015 2016
set -m
"$T/micro" --data "$T/pool" --steps 2 --batch 6400 --name run --out "$T/long" >"$T/log" 2>&1 &
pid=$!; sleep 1; began=$SECONDS; kill -TERM $pid; wait $pid; code=$?
set +m
check "SIGTERM within a step in pieces: exit code 143" test $code = 143
check "at once" test $((SECONDS - began)) -le 10
check "saved as it was before the step" grep -q "stopped by a signal after step 0 and saved" "$T/log"
check "nothing counts that was skipped for it" eval '! grep -q "skipped and replaced" "$T/long/run/out.log"'
says "the run goes on from there" 0 "checkpoint:" "$T/micro" --data "$T/pool" --steps 1 --batch 16 --name run --out "$T/long" --resume

# a loss that is no number: nothing is lost, and the layer is named
sed 's/peak = 1e-3, warmup = 5/peak = 1e30, warmup = 1/' tests/e2e/micro.tic >"$T/hot.tic"
"$TICC" "$T/hot.tic" -D train.micro=8 -D train.batch=16 -o "$T/hot"
says "a loss that is no number" 1 "a lower learning rate" "$T/hot" --data "$DATA" --steps 5 --out "$T/hot_run"

# a teacher
"$TICC" tests/e2e/micro.tic -D train.micro=8 -D train.batch=16 -D 'continual.strategy=lwf(lambda = 1)' -o "$T/lwf"
years() { "$T/lwf" continual --data "$DATA" --steps 3 --no-eval --name run --log-every 1 "$@"; }
check "a strategy with a teacher, in pieces" years --out "$T/lwf_pieces"
check "and at once" years --out "$T/lwf_once" --micro 0
last() { sed -E 's/.*"loss": ([0-9.]*).*/\1/' "$1/run/step_01_2017/metrics.jsonl" | tail -n 1; }
check "the losses with a teacher are the same to rounding" \
    awk -v a="$(last "$T/lwf_pieces")" -v b="$(last "$T/lwf_once")" 'BEGIN { d = a - b; exit !(a > 0 && d < 1e-3 && d > -1e-3) }'
finish
