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
check "patching leaves the patched weights" test -s "$T/s.d/s/step_02_2018/checkpoints/epoch_1_after.pt"
check "and takes them up in the next step" grep -q '"parent": "step_01_2017/checkpoints/epoch_1_after.pt"' "$T/s.d/s/lineage.json"

# killed anywhere, started again: the same checkpoints, results and lineage
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
says "another program does not go on with it" 1 "strategy" "$T/micro" continual --data "$DATA" --steps 12 --name run --out "$T/whole"
says "another seed neither" 1 "seed" "$P" continual --data "$DATA" --steps 12 --name run --out "$T/whole" --seed 9
says "no data at all" 1 "no such folder" "$T/micro" continual --data "$T/nothing" --out "$T/x"
mkdir -p "$T/few/train" && cp -r "$DATA/train/2014" "$DATA/train/2015" "$DATA/train/2016" "$T/few/train"
says "a step without data is refused before the first" 1 "2017" "$T/micro" continual --data "$T/few" --out "$T/x" --steps 2
finish
