#!/usr/bin/env bash
# bf16.sh -- train.precision = bf16: the losses follow those of f32, the bytes do not depend on the threads, a checkpoint holds
# f32 master weights; and what bench says of a step.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
check "the micro model compiles in bf16" "$TICC" tests/e2e/micro.tic -D train.precision=bf16 -o "$T/half"
run() { "$1" --data "$DATA" --steps 6 --batch 16 --log-every 1 --name run --out "$2" --threads "$3"; }
check "six steps in f32" run "$T/micro" "$T/full" 2
check "six steps in bf16" run "$T/half" "$T/two" 2
check "six steps in bf16 on one thread" run "$T/half" "$T/one" 1
check "one and two threads: the same bytes" cmp "$T/one/run/checkpoints/epoch_latest.pt" "$T/two/run/checkpoints/epoch_latest.pt"
losses() { sed -n 's/.*"loss": \([0-9.]*\).*/\1/p' "$1/run/metrics.jsonl"; }
paste <(losses "$T/full") <(losses "$T/two") >"$T/losses"
awk '{ d = $1 > $2 ? $1 - $2 : $2 - $1; if (d > 0.02 * $1) far = 1; if (d > 0) differ++ } END { exit !(NR == 6 && !far && differ) }' "$T/losses" \
    && ok "losses differ from those of f32, by less than 2 %" || not_ok "losses differ from those of f32, by less than 2 %" "$(cat "$T/losses")"
check "checkpoints are of one size: masters are f32" test "$(stat -c %s "$T/full/run/checkpoints/epoch_latest.pt")" = \
    "$(stat -c %s "$T/two/run/checkpoints/epoch_latest.pt")"
half_peak=$("$T/half" info --json --batch 64 | sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p')
full_peak=$("$T/micro" info --json --batch 64 | sed -n 's/.*"peak_bytes": \([0-9]*\).*/\1/p')
check "bf16 needs less memory: $half_peak against $full_peak bytes" test "$half_peak" -lt "$full_peak"
says "bench explains every kernel with its roofline" 0 "roofline" "$T/half" bench --batch 8 --steps 1 --explain
says "bench as JSON" 0 '"peak_share"' "$T/half" bench --batch 8 --steps 1 --json
finish
