# continual.sh -- every time step of the schedule: what each strategy draws, and a run that is killed twenty times.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
draws() {          # STRATEGY TEXT...: the plan of a strategy holds these lines
    local strategy=$1 text; shift
    "$TICC" tests/e2e/micro.tic -o "$T/s" -D "continual.strategy=$strategy" 2>"$T/err" || { not_ok "$strategy compiles" "$(cat "$T/err")"; return; }
    rm -rf "$T/s.d"
    "$T/s" continual --data "$DATA" --out "$T/s.d" --name s --steps 2 --no-eval >"$T/plan" 2>&1 || { not_ok "$strategy runs" "$(cat "$T/plan")"; return; }
    for text in "$@"; do
        grep -qF -- "$text" "$T/plan" && ok "$strategy: $text" || not_ok "$strategy: $text" "$(head -n 6 "$T/plan")"
    done
}
draws sequential "2018            16   2018 100 %; weights of the step before"
draws cumulative_all "2018            16   2014..2016 60 %, 2017 20 %, 2018 20 %; weights of the step before"
draws cumulative_exp "2018            16   2014..2016 25 %, 2017 25 %, 2018 50 %; weights of the step before"
draws cumulative_equal "2018            16   2014..2016 25 %, 2017 25 %, 2018 50 %; weights of the step before"
draws restart "2018            16   2014..2016 60 %, 2017 20 %, 2018 20 %; weights random"
draws oracle "2017            32   2014..2016 75 %, 2017 25 %; weights random" "2018            48   2014..2016 60 %, 2017 20 %, 2018 20 %"
draws "lwf(lambda = 1)" "2018            16   2018 100 %; weights of the step before" "all 3 time steps are done"
draws "patching(alpha = 0.25)" "all 3 time steps are done"
# OpenCLIP's mixture: years by their numbers of shards, whatever those hold
mkdir -p "$T/uneven/train" && cp -r "$DATA/train/2014" "$DATA/train/2015" "$DATA/train/2016" "$T/uneven/train/"
"$TICDATA" reshard --in "$DATA/train/2017" --out "$T/uneven/one" --shard-size 1000 >/dev/null && mv "$T/uneven/one/2017" "$T/uneven/train/"
shards=$(find "$T/uneven/train/201"[456] -name '*.tar' | wc -l)
"$TICC" tests/e2e/micro.tic -o "$T/by" -D data.sampling=by_shard
"$T/by" --data "$T/uneven" --start 2017 --out "$T/by.d" --name t --steps 1 >"$T/plan" 2>&1
share=$(awk -v n="$shards" 'BEGIN { printf "%.3g %% from 2014..2016, %.3g %% from 2017", 100 * n / (n + 1), 100 / (n + 1) }')
check "by_shard: $share" grep -qF "data: $share" "$T/plan"
check "patching leaves the patched weights" test -s "$T/s.d/s/step_02_2018/checkpoints/epoch_1_after.pt"
check "and takes them up in the next step" grep -q '"parent": "step_01_2017/checkpoints/epoch_1_after.pt"' "$T/s.d/s/lineage.json"

# the moments go on with the weights, from before the cool-down
"$TICC" tests/e2e/micro.tic -o "$T/s" -D "continual.strategy=rewind(peak = 1e-3)" -D continual.carry=weights_and_moments
P="$T/s"; rewind() { "$P" continual --data "$DATA" --steps 10 --no-eval --name r --out "$@"; }
check "rewind, with moments" rewind "$T/rw"
check "a step begins with what the one before kept" grep -q '"parent": "step_00_2014-2016/checkpoints/epoch_1_rewind.pt"' "$T/rw/r/lineage.json"
check "which is there" test -s "$T/rw/r/step_01_2017/checkpoints/epoch_1_rewind.pt"
lr() { sed -n "$1s/.*\"lr\": \([0-9.e-]*\).*/\1/p" "$T/rw/r/step_01_2017/metrics.jsonl"; }
check "the learning rate is constant, then falls" test "$(lr 1) $(lr 8)" = "0.001 0.001" -a "$(lr 10)" != 0.001
"$TICC" tests/e2e/micro.tic -o "$T/fresh" -D "continual.strategy=rewind(peak = 1e-3)"
"$T/fresh" continual --data "$DATA" --steps 10 --no-eval --name r --out "$T/fw" >/dev/null
loss() { sed -n 's/.*"loss": \([0-9.e-]*\).*/\1/p' "$1/r/step_0$2/metrics.jsonl" | tr '\n' ' '; }
check "with fresh moments the second step goes another way" test "$(loss "$T/fw" 1_2017)" != "$(loss "$T/rw" 1_2017)"
check "and the first the same" test "$(loss "$T/fw" 0_2014-2016)" = "$(loss "$T/rw" 0_2014-2016)"

# killed anywhere, started again: the same checkpoints, results and lineage
"$TICC" tests/e2e/micro.tic -o "$T/s" -D "continual.strategy=patching(alpha = 0.25)"
P="$T/s"       # patching: training, an update of weights, evaluation
common=(--data "$DATA" --steps 12 --save-every 3 --name run)
run() { "$P" continual "${common[@]}" --out "$@"; }
check "an uninterrupted run" run "$T/whole"
seconds=$( { TIMEFORMAT=%R; time run "$T/timed" >/dev/null; } 2>&1 | tail -n 1)
RANDOM=${SEED:-$$}; echo "# seed ${SEED:-$$}" >&2
kills=0
for i in $(seq 20); do
    "$P" continual "${common[@]}" --out "$T/killed" >/dev/null 2>&1 &
    pid=$!
    sleep "$(awk -v s="$seconds" -v r=$RANDOM 'BEGIN { print s * r / 32768 * 0.3 }')"
    kill -9 $pid 2>/dev/null && kills=$((kills + 1))
    wait $pid 2>/dev/null
done
check "the run that was killed $kills times ends" run "$T/killed"
for f in step_00_2014-2016/checkpoints/epoch_1.pt step_02_2018/checkpoints/epoch_1.pt step_02_2018/checkpoints/epoch_1_after.pt \
         step_00_2014-2016/eval_results.jsonl step_02_2018/eval_results.jsonl lineage.json report.json; do
    check "killed and resumed: the same $f" cmp "$T/whole/run/$f" "$T/killed/run/$f"
done
echo "checkpoints/epoch_1_after.pt 0000000000000000" >"$T/killed/run/step_02_2018/evaluated"
says "a mark of another checkpoint counts for nothing" 0 "recall@1" run "$T/killed"
check "which leaves the same results" cmp "$T/whole/run/step_02_2018/eval_results.jsonl" "$T/killed/run/step_02_2018/eval_results.jsonl"
check "and the same mark" cmp "$T/whole/run/step_02_2018/evaluated" "$T/killed/run/step_02_2018/evaluated"
says "started once more: nothing to do" 0 "step 2018: done" run "$T/whole"
check "the report of the whole run" grep -q 'TiC-DataComp-Retrieval-Yearly' "$T/whole/run/report.html"
says "two runs side by side" 0 "transfer" "$P" report "$T/whole/run" "$T/killed/run" --text
check "as a page" "$P" report "$T/whole/run" "$T/killed/run" --out "$T/both"
check "of both" grep -q '2 runs compared' "$T/both/report.html"
says "a folder that is no run" 1 "holds no run" "$P" report "$T/s.d"
cp -r "$T/whole/run" "$T/bare" && rm "$T/bare/lineage.json" "$T/bare"/report.*
says "a run without its record" 0 "step 2018: done" "$P" continual --data "$DATA" --steps 12 --save-every 3 --name bare --out "$T"
check "gets the same one" cmp "$T/bare/lineage.json" "$T/whole/run/lineage.json"
says "another program does not go on with it" 1 "strategy" "$T/micro" continual --data "$DATA" --steps 12 --name run --out "$T/whole"
check "which names what differs" grep -q 'strategy was patching and is cumulative_all' "$T/says.out"
"$TICC" tests/e2e/micro.tic -o "$T/other" -D "continual.strategy=patching(alpha = 0.25)" -D train.samples=160
says "nor one of other numbers" 1 "samples was 240 and is 160" "$T/other" continual --data "$DATA" --steps 12 --name run --out "$T/whole"
sed 's/heads = 2, patch = 8/heads = 4, patch = 8/' tests/e2e/micro.tic >"$T/other.tic"
"$TICC" "$T/other.tic" -o "$T/other" -D "continual.strategy=patching(alpha = 0.25)"
says "nor one of another text" 1 'line 9 of the .tic file was `' "$T/other" continual --data "$DATA" --steps 12 --name run --out "$T/whole"
check "which shows the line" grep -qF 'heads = 4, patch = 8' "$T/says.out"
says "nor one of more steps" 1 "step 2014..2016 had 12 optimiser steps and has 20" "$P" continual --data "$DATA" --steps 20 --name run --out "$T/whole"
mkdir "$T/grown" && cp -r "$DATA/train" "$DATA/eval" "$T/grown"
cp "$T/grown/train/2017/00000000.tar" "$T/grown/train/2017/more.tar"
says "nor one of other data" 1 "samples of 2017 and draws from" "$P" continual --data "$T/grown" --steps 12 --name run --out "$T/whole"
cp -r "$T/whole/run" "$T/forked"
check "forked, it goes on" "$P" continual --data "$T/grown" --steps 20 --name forked --out "$T" --fork
for what in pairs optimizer_steps share available; do
    numbers() { grep -o "\"$what\": [0-9.]*" "$1/lineage.json"; }
    check "and its finished steps keep their $what" test "$(numbers "$T/forked")" = "$(numbers "$T/whole/run")"
done
says "once forked, the same command goes on without the flag" 0 "step 2018: done" "$P" continual --data "$T/grown" --steps 20 --name forked --out "$T"
"$TICC" tests/e2e/micro.tic -o "$T/third" -D "continual.strategy=patching(alpha = 0.25)" -D train.seed=0 -D train.clip_norm=1
says "another program has to fork once more" 1 "another program" "$T/third" continual --data "$T/grown" --steps 20 --name forked --out "$T"
rm -r "$T/forked/step_02_2018"
check "which trains what is missing" "$T/third" continual --data "$T/grown" --steps 20 --name forked --out "$T" --fork
check "and says who made which step" test "$(grep -c '"forked"' "$T/forked/lineage.json")" = 2
check "goes on without the flag too" "$T/third" continual --data "$T/grown" --steps 20 --name forked --out "$T"
cp "$T/forked/step_02_2018/checkpoints/epoch_1_after.pt" "$T/forked/step_01_2017/checkpoints/epoch_1_after.pt"
says "but takes only what was forked" 1 "wanted one of the forked program" "$T/third" continual --data "$T/grown" --steps 20 --name forked --out "$T"
if command -v flock >/dev/null; then
    says "two at once in one folder" 1 "is at work in this folder" flock "$T/whole/run/.lock" "${P}" continual "${common[@]}" --out "$T/whole"
else
    skip "two at once in one folder" "no flock here"
fi
cp -r "$T/whole/run" "$T/kept"
rm "$T/whole/run/step_01_2017/checkpoints/epoch_1_after.pt"
says "a finished checkpoint that is gone" 1 "step_01_2017/checkpoints/epoch_1_after.pt: the checkpoint of step 2017 is missing" run "$T/whole"
"$T/micro" --data "$DATA" --out "$T/x" --name foreign --steps 1 --start 2017 >/dev/null
cp "$T/x/foreign/checkpoints/epoch_1.pt" "$T/whole/run/step_01_2017/checkpoints/epoch_1_after.pt"
says "a checkpoint of another program in its place" 1 "found a checkpoint of program" run "$T/whole"
rm -r "$T/whole/run"; mv "$T/kept" "$T/whole/run"
says "another seed neither" 1 "seed" "$P" continual --data "$DATA" --steps 12 --name run --out "$T/whole" --seed 9
{ cat tests/e2e/micro.tic; echo 'strategy own { mix(y, t) = if y == t then 1 else samples(y) - 100 }'; } >"$T/own.tic"
"$TICC" "$T/own.tic" -o "$T/own" -D continual.strategy=own
says "a share that is negative on this data" 1 'strategy `own`: mix(1, 2) is -40 for step 2017' "$T/own" continual --data "$DATA" --out "$T/x" --steps 2
says "no data at all" 1 "no such folder" "$T/micro" continual --data "$T/nothing" --out "$T/x"
mkdir -p "$T/few/train" && cp -r "$DATA/train/2014" "$DATA/train/2015" "$DATA/train/2016" "$T/few/train"
says "a step without data is refused before the first" 1 "2017" "$T/micro" continual --data "$T/few" --out "$T/x" --steps 2
finish
