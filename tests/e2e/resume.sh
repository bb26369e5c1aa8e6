#!/usr/bin/env bash
# resume.sh -- killed at ten random moments and resumed each time, a run ends with the very bytes of the run that was never
# stopped, logs included; and so does a run with another number of threads. Some samples are broken: the counts survive too.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
pool=$T/pool; mkdir -p "$pool"; cp -r "$DATA/train" "$pool/train"
mkdir "$T/s" && (cd "$T/s" && tar xf "$(find "$pool/train/2016" -name '*.tar' | sort | head -n 1)" && for f in *4.jpg; do head -c 300 "$f" >cut && mv cut "$f"; done &&
    rm -f ./*7.txt ./*7.json && tar --format=ustar --sort=name -cf "$pool/train/2016/00000000.tar" ./*)
common=(--data "$pool" --steps 120 --log-every 5 --name run)
final=checkpoints/epoch_latest.pt
run() { "$T/micro" "${common[@]}" "$@"; }
check "an uninterrupted run" run --out "$T/whole" --threads 2
check "it met broken samples" grep -q "skipped and replaced" "$T/whole/run/out.log"
check "the same with one thread and other loaders" run --out "$T/one" --threads 1 --loaders 3
check "one and two threads: the same bytes" cmp "$T/whole/run/$final" "$T/one/run/$final"

RANDOM=${SEED:-$$}; echo "# seed ${SEED:-$$}" >&2
kills=0
for i in $(seq 10); do
    "$T/micro" "${common[@]}" --save-every 2 --out "$T/killed" --resume >"$T/log" 2>&1 &
    pid=$!
    sleep "$(awk -v r=$RANDOM 'BEGIN { print 0.6 * r / 32768 }')"
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
done
check "ten kills hit a run that was going" test $kills = 10
check "the run that was killed $kills times ends" run --out "$T/killed" --resume
check "killed and resumed: the same bytes" cmp "$T/whole/run/$final" "$T/killed/run/$final"
timeless() { sed -E 's/^[^|]*\|//; s/Data \(t\).*\/gpu//; s/, "samples_per_second".*//; s,/(whole|killed)/,/,' "$1" >"$1.timeless"; }
for f in metrics.jsonl out.log; do
    timeless "$T/whole/run/$f"; timeless "$T/killed/run/$f"
    check "killed and resumed: the same $f but for times" cmp "$T/whole/run/$f.timeless" "$T/killed/run/$f.timeless"
done
events=tensorboard/events.out.tfevents.ticc
check "and as many bytes of TensorBoard events" test "$(stat -c %s "$T/whole/run/$events")" = "$(stat -c %s "$T/killed/run/$events")"
check "twice nothing changes" run --out "$T/whole" --resume
check "not the checkpoint" cmp "$T/whole/run/$final" "$T/killed/run/$final"
timeless "$T/whole/run/out.log"
check "nor the log" cmp "$T/whole/run/out.log.timeless" "$T/killed/run/out.log.timeless"

# signals: the step is finished and saved; the run goes on from there
stop() {           # SIGNAL CODE
    rm -rf "$T/stopped"
    "$T/micro" "${common[@]}" --steps 100000 --save-every 100000 --out "$T/stopped" >"$T/log" 2>&1 &
    local pid=$! code
    for _ in $(seq 100); do [ -s "$T/stopped/run/metrics.jsonl" ] && break; sleep 0.1; done
    kill "-$1" $pid; wait $pid; code=$?
    [ $code = "$2" ] && ok "SIG$1: exit code $2" || not_ok "SIG$1: exit code $2" "code $code" "$(cat "$T/log")"
    check "SIG$1: says after which step it saved" grep -Eq "stopped by a signal after step [0-9]+ and saved" "$T/log"
    says "SIG$1: the run goes on" 0 "resuming after step" "$T/micro" "${common[@]}" --steps $(($(sed -n 's/.*after step \([0-9]*\) and saved.*/\1/p' "$T/log") + 3)) --out "$T/stopped" --resume
}
# without job control the shell makes its background children deaf to SIGINT
set -m
stop TERM 143
stop INT 130
# a step of seconds: the second Ctrl-C does not wait for it
"$T/micro" --data "$pool" --batch 3000 --steps 2 --name run --out "$T/twice" >"$T/log" 2>&1 &
pid=$!; sleep 0.5; kill -INT $pid; sleep 0.2; kill -INT $pid; wait $pid; code=$?
[ $code = 130 ] && ok "twice Ctrl-C: exit code 130" || not_ok "twice Ctrl-C: exit code 130" "code $code" "$(cat "$T/log")"
check "at once, without a checkpoint" test ! -e "$T/twice/run/$final"
set +m
finish
