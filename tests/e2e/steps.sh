#!/usr/bin/env bash
# steps.sh -- a long run in small: nothing is allocated inside a step, memory stays what was planned; and
# what stops a run from outside: a full disk, a folder that is taken or cannot be written, more memory than there is.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
train() { "$T/micro" --data "$DATA" --out "$T/r" "$@"; }

if [ "${MODE:-release}" = release ] && cc -shared -fPIC -O1 tests/e2e/allocs.c -o "$T/allocs.so" 2>"$T/cc.out"; then
    for steps in 20 120; do
        ALLOCS=$T/allocs.$steps LD_PRELOAD=$T/allocs.so train --name "a$steps" --steps $steps --log-every 1000 --save-every 100000 >/dev/null
    done
    check "100 more steps ask for no more memory" cmp "$T/allocs.20" "$T/allocs.120"
    check "and some was counted" test "$(cat "$T/allocs.20")" -gt 100
else
    skip "100 more steps ask for no more memory" "needs a release build and glibc"
fi

train --name long --steps 200 >"$T/log" 2>&1
peak=$(sed -n 's/^memory: \([0-9.]*\) MB at most.*/\1/p' "$T/log") plan=$("$T/micro" info --json | sed 's/.*"peak_bytes": \([0-9]*\).*/\1/')
[ "${MODE:-release}" = release ] && { awk -v p="$peak" -v q="$plan" 'BEGIN { exit !(p > q * 0.5e-6 && p < q * 1.1e-6 + 100) }' \
    && ok "resident memory within 10 % and 100 MB of the plan" || not_ok "resident memory within 10 % and 100 MB of the plan" "$peak MB, planned $plan bytes"; }

# a disk that is full while logging: one error; nothing is lost but the run stops
( ulimit -f 4; says "a full disk while logging" 1 ": cannot write: " train --name full --steps 100 --log-every 1 --save-every 1000; echo $n >"$T/n" ); n=$(cat "$T/n")
says "with room again it goes on" 0 "checkpoint:" train --name full --steps 5 --resume
check "the log has each step once" test "$(grep -c . "$T/r/full/metrics.jsonl")" = 5

# two runs in one folder
"$T/micro" --data "$DATA" --out "$T/r" --name taken --steps 100000 >"$T/log" 2>&1 &
pid=$!
for _ in $(seq 100); do [ -e "$T/r/taken/metrics.jsonl" ] && break; sleep 0.1; done
says "a folder that another run works in" 1 "is at work in this folder" train --name taken --steps 5 --resume
kill -9 $pid; wait $pid 2>/dev/null
says "the lock goes with its owner" 0 "checkpoint:" train --name taken --steps 5

: >"$T/file"
says "--out below a file" 1 "$T/file" train --out "$T/file/x" --steps 1
if [ "$(id -u)" != 0 ]; then
    mkdir -m 555 "$T/closed"
    says "--out where nothing may be written" 1 "$T/closed" train --out "$T/closed/x" --steps 1
elif mkdir /proc/ticc 2>/dev/null; then
    rmdir /proc/ticc
else
    says "--out where nothing can be written" 1 "/proc/ticc" train --out /proc/ticc --steps 1
fi
says "a batch beyond memory" 1 "GB are free; a smaller --batch needs less" train --name big --batch 16000000 --steps 1
says "a bench beyond memory" 1 "a smaller --batch needs less" "$T/micro" bench --batch 16000000
says "a negative batch" 1 "wanted 1 to" train --batch -4
says "a pool smaller than a batch" 0 "180 samples are fewer than a batch of 200" train --name few --batch 200 --steps 1
losses() { sed 's/.*"loss": *\([^,]*\).*/\1/' "$T/r/$1/metrics.jsonl"; }
check "decode = scaled compiles" "$TICC" tests/e2e/micro.tic -D data.decode=scaled -o "$T/scaled"
says "pictures decoded smaller" 0 "checkpoint:" "$T/scaled" --data "$DATA" --out "$T/r" --name scaled --steps 2 --log-every 1
says "and exactly" 0 "checkpoint:" train --name exact --steps 2 --log-every 1
check "they have two losses each" test "$(losses scaled | grep -c .)$(losses exact | grep -c .)" = 22
check "other ones" test "$(losses scaled)" != "$(losses exact)"
sed 's/with_replacement/without_replacement/' tests/e2e/micro.tic >"$T/once.tic"
check "the same without replacement compiles" "$TICC" "$T/once.tic" -o "$T/once"
says "a pool smaller than a batch without replacement" 1 "180 samples are fewer than a batch of 200" "$T/once" --data "$DATA" --out "$T/r" --name once --batch 200 --steps 1
finish
