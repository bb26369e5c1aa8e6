#!/usr/bin/env bash
# gpu_train.sh -- training on an emulated GPU, whose streams work as late as they may: pictures that are sent in 8 bits while the
# step before is at work train the model as the CPU does, at once and in pieces; the bytes of a run do not depend on what was
# ready when it was killed.
. tests/e2e/lib.sh
sample_data
[ -e "$B/libemu_cuda.so" ] && [ -e "$B/libemu_nvrtc.so" ] || { skip "an emulated GPU" "\`make emu\` builds it"; finish; exit; }
export TIC_LIBCUDA="$B/libemu_cuda.so" TIC_LIBNVRTC="$B/libemu_nvrtc.so" XDG_CACHE_HOME="$B/emulated" TIC_EMU_QUIET=
sed -e 's/layers = 2/layers = 1/g; s/width = 32/width = 16/g; s/heads = 2/heads = 1/g; s/2014\.\.2016, 2017, 2018/2016, 2017/' tests/e2e/micro.tic >"$T/small.tic"
# a pool in which a third of the pictures is broken: what is skipped is counted with the step that it was skipped for
check "a pool with broken pictures" broken_pool 2016
"$TICC" "$T/small.tic" --target cpu,cuda -D train.micro=4 -D train.batch=8 -o "$T/small" || { not_ok "a program for CPU and GPU compiles"; finish; exit; }
run() { local to=$1 device=$2; shift 2; "$T/small" --data "$T/pool" --steps 5 --name run --log-every 1 --device "$device" --out "$T/$to" "$@"; }
latest=run/checkpoints/epoch_latest.pt
check "five steps on the CPU" run cpu cpu --micro 0
check "five steps on the GPU" run gpu cuda --micro 0
check "in pieces, where what is sent overtakes what is at work" eval "TIC_EMU_STREAMS=mixed run pieces cuda"
says "the log names the GPU and what it needs of its memory" 0 "GB of " grep 'parameters, ' "$T/gpu/run/out.log"
# a batch that has room on a GPU and not in the host's memory is the driver's to refuse
free=$(awk '/^MemTotal/ { printf "%.0f", $2 * 1024 }' /proc/meminfo) many=1000
bytes() { "$T/small" info --json --batch $many --micro 0 | sed "s/.*\"$1\": \([0-9]*\).*/\1/"; }
while [ "$(bytes arena_bytes)" -lt "$free" ]; do many=$((many * 3 / 2)); done
large() { TIC_EMU_MEMORY=1 "$T/small" --data "$T/pool" --steps 1 --out "$T/large" --micro 0 --batch $many --device "$1"; }
says "too large for the CPU" 1 "activations and gradients" large cpu
says "the GPU's own memory counts there" 1 "working memory of this batch needs" large cuda
losses() { sed -E 's/.*"loss": ([0-9.]*).*/\1/' "$T/$1/run/metrics.jsonl"; }
close() { paste <(losses cpu) <(losses "$1") | awk '{ d = $1 - $2; n++ } d > 1e-5 || d < -1e-5 { exit 1 } END { exit n != 5 }'; }
skipped() { sed -n 's/.*skipped and replaced \([0-9]*\) .*/\1/p' "$T/$1/run/out.log"; }
check "the GPU's losses are the CPU's" close gpu
check "and so in pieces" close pieces
check "what was skipped is counted alike: $(skipped cpu) samples" eval '[ "$(skipped cpu)" -gt 3 ] && [ "$(skipped gpu)" = "$(skipped cpu)" ] && [ "$(skipped pieces)" = "$(skipped cpu)" ]'
# no room for a second batch on the device: one after the other, the same bytes
alone() {
    local n
    for n in $(seq 40); do
        rm -rf "$T/alone" "$T/refused"
        TIC_EMU_PLACES=$n TIC_EMU_LOG="$T/refused" run alone cuda --micro 0 >"$T/log" 2>&1 && { grep -q refused "$T/refused"; return; }
    done
    return 1
}
check "five steps where the next batch does not fit beside this one" alone
check "the same bytes" cmp "$T/gpu/$latest" "$T/alone/$latest"
killed() {
    "$T/small" --data "$T/pool" --steps 5 --name run --log-every 1 --device cuda --out "$T/killed" --micro 0 --save-every 1 &
    local pid=$!
    for _ in $(seq 600); do
        [ "$(wc -l <"$T/killed/run/metrics.jsonl" 2>/dev/null || echo 0)" -ge 3 ] && break
        sleep 0.05
    done
    kill -9 $pid; wait $pid
    run killed cuda --micro 0 --resume
}
check "a run that is killed and resumed" killed
check "has the same bytes" cmp "$T/gpu/$latest" "$T/killed/$latest"

# evaluation: batches of 16 that overlap, the last one not full; ranks are those of the CPU's features
cat >"$T/tasks.yml" <<'END'
tic/datacomp/retrieval/yearly/2017: {name: pairs, main_metric: mean_recall@1}
tic/datacomp/datacompnet/yearly/2017: {name: classes, main_metric: acc1}
END
evaluated() { "$T/small" eval --ckpt "$T/gpu/$latest" --data "$DATA" --tasks "$T/tasks.yml" --batch 16 --device "$1" --out "$T/eval_$1" "${@:2}"; }
check "evaluation on the CPU" evaluated cpu
check "on the GPU" evaluated cuda
metrics() { sed -E 's/.*"metrics": (\{[^}]*\}).*/\1/' "$T/eval_$1/eval_results.jsonl"; }
same() { [ "$(metrics "$1" | grep -c recall)" -ge 1 ] && [ "$(metrics "$1" | wc -l)" = 2 ] && diff <(metrics cpu) <(metrics "$1"); }
check "the same metrics" same cuda
finish
