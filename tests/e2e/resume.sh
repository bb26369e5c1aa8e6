#!/usr/bin/env bash
# resume.sh -- killed at ten random moments and resumed each time, a run ends with the very bytes of the run that was never
# stopped; and so does a run with another number of threads.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
common=(--data "$DATA" --save-every 2 --log-every 5)
final=checkpoints/epoch_latest.pt
check "an uninterrupted run" "$T/micro" "${common[@]}" --out "$T/whole" --name run --threads 2
check "the same with one thread and other loaders" "$T/micro" "${common[@]}" --out "$T/one" --name run --threads 1 --loaders 3
check "one and two threads: the same bytes" cmp "$T/whole/run/$final" "$T/one/run/$final"
seconds=$( { TIMEFORMAT=%R; time "$T/micro" "${common[@]}" --out "$T/timed" --name run >/dev/null; } 2>&1 | tail -n 1)
RANDOM=${SEED:-$$}; echo "# seed ${SEED:-$$}" >&2
kills=0
for i in $(seq 10); do
    "$T/micro" "${common[@]}" --out "$T/killed" --name run --resume >/dev/null 2>&1 &
    pid=$!
    sleep "$(awk -v s="$seconds" -v r=$RANDOM 'BEGIN { print s * r / 32768 * 0.5 }')"
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
done
check "the run that was killed $kills times ends" "$T/micro" "${common[@]}" --out "$T/killed" --name run --resume
check "killed and resumed: the same bytes" cmp "$T/whole/run/$final" "$T/killed/run/$final"
check "metrics of every logged step, once" test "$(grep -c . "$T/killed/run/metrics.jsonl")" = "$(grep -c . "$T/whole/run/metrics.jsonl")"
"$T/micro" "${common[@]}" --steps 100000 --out "$T/stopped" --name run >"$T/log" 2>&1 &
pid=$!; sleep 1; kill -TERM $pid; wait $pid; code=$?
[ $code = 143 ] && ok "SIGTERM: saves and exits with 143" || not_ok "SIGTERM: saves and exits with 143" "code $code" "$(cat "$T/log")"
check "after SIGTERM there is a checkpoint" test -s "$T/stopped/run/$final"
finish
