#!/usr/bin/env bash
# remat.sh -- --memory: a step in less memory than it takes as it comes. The program allocates what ticc planned, the
# losses are the same but for rounding, and what cannot be is one error.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
peak() { "$1" info --json | sed 's/.*"peak_bytes": \([0-9]*\).*/\1/'; }
losses() { sed 's/.*"loss": *\([^,]*\).*/\1/' "$T/r/$1/metrics.jsonl"; }
train() { "$1" --data "$DATA" --out "$T/r" --name "$2" --steps 3 --batch 8 --log-every 1 >/dev/null 2>&1; }

# at batch 64, where activations are most of it
"$TICC" tests/e2e/micro.tic -D train.batch=64 -o "$T/plain"
plain=$(peak "$T/plain")
train "$T/plain" plain
for share in 95 85; do
    goal=$((plain * share / 100))
    check "$share % of the memory" "$TICC" tests/e2e/micro.tic -D train.batch=64 --memory $goal -o "$T/less"; cp "$T/check.out" "$T/table"
    less=$(peak "$T/less")
    check "no more than that" test "$less" -le $goal
    check "as planned, to the byte" grep -q "^memory: $less bytes planned at batch 64$" "$T/table"
    check "the table says what is computed again" grep -q 'x .* MB .*stdlib/nn.tic' "$T/table"
    train "$T/less" less$share
    paste <(losses plain) <(losses less$share) >"$T/both"
    check "three losses" test "$(grep -c . "$T/both")" = 3
    check "the same but for rounding" awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) exit 1 }' "$T/both"
done
check "more than it needs" "$TICC" tests/e2e/micro.tic -D train.batch=64 --memory 2G -o "$T/less"; cp "$T/check.out" "$T/table"
check "changes nothing" test "$(peak "$T/less")" = "$plain"
check "and says what it needs" grep -q "^memory: $plain bytes planned" "$T/table"
says "too little" 1 "even with everything computed again that helps; a smaller batch needs less" "$TICC" tests/e2e/micro.tic --memory 1M -o "$T/none"
says "no size" 1 "--memory: wants a size, as 2G or 800M" "$TICC" tests/e2e/micro.tic --memory lots

# operands that are packed once would come on top of the plan
check "a large model in less memory" "$TICC" models/vit_b16.tic -D train.batch=32 --memory 4.8G -o "$T/large"; cp "$T/check.out" "$T/table"
check "as planned for it, to the byte" grep -q "^memory: $(peak "$T/large") bytes planned at batch 32$" "$T/table"

# on a GPU partial results of weight gradients count too
gpu=(-D train.batch=64 -D train.precision=bf16 --target cpu,cuda)
gpu_peak() { "$1" info --json | sed 's/.*"gpu_peak_bytes": \([0-9]*\).*/\1/'; }
"$TICC" tests/e2e/micro.tic "${gpu[@]}" -o "$T/plain"
goal=$(($(gpu_peak "$T/plain") * 95 / 100))
check "less of a GPU's memory" "$TICC" tests/e2e/micro.tic "${gpu[@]}" --memory $goal -o "$T/less"; cp "$T/check.out" "$T/table"
check "no more than that" test "$(gpu_peak "$T/less")" -le $goal
check "as planned for it, to the byte" grep -q "^memory: $(gpu_peak "$T/less") bytes planned at batch 64$" "$T/table"
says "too little for a GPU" 1 "on a GPU, a step at batch 64 needs" "$TICC" tests/e2e/micro.tic "${gpu[@]}" --memory 30M -o "$T/none"

# a step in pieces: each of its programs, beside what all of them keep
pieces=(-D train.batch=128 -D train.micro=64)
"$TICC" tests/e2e/micro.tic "${pieces[@]}" -o "$T/plain"
plain=$(peak "$T/plain")
goal=$((plain * 93 / 100))
check "a step in pieces" "$TICC" tests/e2e/micro.tic "${pieces[@]}" --memory $goal -o "$T/less"; cp "$T/check.out" "$T/table"
less=$(peak "$T/less")
check "needs no more than that" test "$less" -le $goal
check "as planned for its largest program, to the byte" test "$(sed -n 's/^memory: \([0-9]*\) bytes planned.*/\1/p' "$T/table" | sort -n | tail -n 1)" = "$less"
check "a batch at once takes what it takes" test "$("$T/less" info --json --micro 0 | sed 's/.*"peak_bytes": \([0-9]*\).*/\1/')" -gt "$plain"
trained() { "$1" --data "$DATA" --out "$T/r" --name "$2" --steps 3 --log-every 1 >/dev/null 2>&1; }
trained "$T/plain" pieces
trained "$T/less" pieces_less
paste <(losses pieces) <(losses pieces_less) >"$T/both"
check "three losses in pieces" test "$(grep -c . "$T/both")" = 3
check "the same but for rounding, in pieces" awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > 1e-5 * $1) exit 1 }' "$T/both"
says "too little for a piece" 1 "a smaller \`train.micro\` needs less" "$TICC" tests/e2e/micro.tic "${pieces[@]}" --memory 25M -o "$T/none"
finish
