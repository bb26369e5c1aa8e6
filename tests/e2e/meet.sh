#!/usr/bin/env bash
# meet.sh -- the loss without a tensor over all pairs of the batch: chosen for large batches and for --memory; it trains as the
# other does, with the same bytes for any number of threads, in memory that does not grow with the square of the batch.
. tests/e2e/lib.sh
sample_data
compiled() { "$TICC" tests/e2e/micro.tic -D train.micro=32 -D train.samples=81920 "$@"; }
check "programs with and without that tensor" eval 'compiled -D train.batch=4096 -o "$T/with" && compiled -D train.batch=8192 -o "$T/without"'
number() { sed -E "s/.*\"$1\": ([0-9.]*).*/\1/" "$T/json"; }
arena() { "$T/$1" info --json --batch "$2" --micro 32 >"$T/json" && number arena_bytes; }
check "8192 pairs: 260 MB less" test $(($(arena with 8192) - $(arena without 8192))) -ge 260000000
check "and twice as many need less than twice the memory" test "$(arena without 16384)" -lt $((2 * $(arena without 8192)))
run() { local p=$1; shift; "$T/$p" --data "$DATA" --steps 3 --batch 192 --micro 32 --name run --log-every 1 "$@"; }
check "a run with it" run with --out "$T/a"
check "a run without" run without --out "$T/b" --threads 2
check "with one thread" run without --out "$T/c" --threads 1
final=run/checkpoints/epoch_latest.pt
check "one and two threads: the same bytes" cmp "$T/b/$final" "$T/c/$final"
numbers() { sed -E 's/.*"loss": ([0-9.]*).*"lr": ([^,]*).*"logit_scale": ([0-9.]*).*/\1 \2 \3/' "$1/run/metrics.jsonl"; }
close() { paste -d ' ' <(numbers "$T/a") <(numbers "$T/b") |
    awk '{ n++; d = $1 - $4; e = $3 - $6; if ($2 != $5 || d > 1e-5 || d < -1e-5 || e > 1e-5 || e < -1e-5 || $1 <= 0) exit 1 } END { exit n < 3 }'; }
check "losses and logit scales with and without are the same to rounding" close
says "8192 pairs in pieces of 256" 0 "at batch 8192 in pieces of 256" "$T/without" bench --batch 8192 --micro 256 --steps 1
small() { "$TICC" tests/e2e/micro.tic -D train.micro=8 -D train.batch=2048 -D train.samples=8192 --memory "$1" -o "$T/small"; }
says "for --memory, where nothing else helps" 0 "clip.tic:73 loss logits" small 36M
loss_bytes() { sed -n '/^loss$/,/^piece$/s/^memory: \([0-9]*\) bytes.*/\1/p' "$T/says.out"; }
check "which it keeps" test "$(loss_bytes)" -lt 36000000
says "but not where there is enough" 0 "bytes planned at batch 2048" small 60M
check "as it comes" test "$(loss_bytes)" -gt 36000000
finish
