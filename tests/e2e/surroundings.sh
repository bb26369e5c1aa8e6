#!/usr/bin/env bash
# surroundings.sh -- what programs do where files, descriptors, memory or devices are not what they should be.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro
run() { "$P" --data "$DATA" --out "$T/r" --steps 2 --batch 4 "$@"; }

# a file must not get the number of a stream that was closed: what is printed would go into it
check "all streams open" run --name open
run --name closed <&- >&- 2>&-
check "all streams closed: the run ends" test $? = 0
check "and its metrics are whole" test "$(grep -vc '^{"step": ' "$T/r/closed/metrics.jsonl"; grep -c . "$T/r/closed/metrics.jsonl")" = "0
2"
check "and so is its checkpoint" "$P" embed --ckpt "$T/r/closed/checkpoints/epoch_latest.pt" --out "$T/e.npy" --captions tests/e2e/lib.sh
"$TICC" tests/e2e/micro.tic -o "$T/silent" >&- 2>&-
says "ticc without streams" 0 "clip_micro" "$T/silent" --version

if [ -c /dev/full ]; then
    says "what cannot be printed: info" 1 "the standard output cannot be written" sh -c "'$P' info >/dev/full"
    says "what cannot be printed: help" 1 "the standard output cannot be written" sh -c "'$P' --help >/dev/full"
    says "what cannot be printed: a stage" 1 "the standard output cannot be written" sh -c "'$TICC' tests/e2e/micro.tic --emit=graph >/dev/full"
    check "a run has its lines in files too" sh -c "'$P' --data '$DATA' --out '$T/r' --name full --steps 1 --batch 4 >/dev/full"
else
    skip "what cannot be printed" "no /dev/full here"
fi

# a rename would put a file where a device was; a pipe stands for one
mkfifo "$T/pipe" "$T/pipe.npy"
says "features into a pipe" 1 "pipe.npy: not a regular file, and would be replaced" \
    "$P" embed --ckpt "$T/r/open/checkpoints/epoch_latest.pt" --out "$T/pipe.npy" --captions tests/e2e/lib.sh
check "which stays one" test -p "$T/pipe.npy"
says "a program into a pipe" 1 "is not a regular file" "$TICC" tests/e2e/micro.tic -o "$T/pipe"
check "which stays one as well" test -p "$T/pipe"
says "a folder without a name" 1 "--out: found nothing, wanted DIR" "$P" --data "$DATA" --out "" --steps 1
says "data without a name" 1 "--data: found nothing, wanted DIR" "$P" --data= --out "$T/r" --steps 1

says "features into a folder: said before they are made" 1 "disk.npy: found a folder, wanted the name of a file" \
    sh -c "mkdir '$T/disk.npy' && '$P' embed --ckpt '$T/r/open/checkpoints/epoch_latest.pt' --out '$T/disk.npy' --captions tests/e2e/lib.sh"
says "results into a file: said before they are made" 1 "pipe.txt: cannot make the folder: File exists" \
    sh -c "touch '$T/pipe.txt' && '$P' eval --ckpt '$T/r/open/checkpoints/epoch_latest.pt' --data '$DATA' --out '$T/pipe.txt'"
says "a program below a file" 1 "cannot be written: Not a directory" "$TICC" tests/e2e/micro.tic -o "$T/pipe.txt/program"

# files that may not grow: a message each, and what was there stays
C=$T/r/open/checkpoints/epoch_latest.pt
small() { ( ulimit -f 1; "$@" | cat; exit "${PIPESTATUS[0]}" ) 2>&1; }
kept() { mkdir -p "$(dirname "$T/kept/$1")" && echo old >"$T/kept/$1"; }
for f in f.npy s.images.npy s.texts.npy s.keys.txt hf/model.safetensors results/eval_results.jsonl report/report.html; do kept $f; done
says "no room for features" 1 "f.npy: cannot write: File too large" small "$P" embed --ckpt "$C" --out "$T/kept/f.npy" --captions tests/e2e/lib.sh
says "no room for features of shards" 1 "cannot write: File too large" \
    small "$P" embed --ckpt "$C" --out "$T/kept/s" "$(find "$DATA/train/2016" -name '*.tar' | head -n 1)"
says "no room for exported weights" 1 "model.safetensors.tmp: cannot write" small "$P" export --ckpt "$C" --to hf --out "$T/kept/hf"
says "no room for results" 1 "eval_results.jsonl.tmp: cannot write: File too large" small "$P" eval --ckpt "$C" --data "$DATA" --out "$T/kept/results"
says "no room for a report" 1 "report.html.tmp: cannot write: File too large" small "$P" report "$T/r/open" --out "$T/kept/report"
check "the old ones stay, nothing half-written beside them" sh -c "find '$T/kept' -type f | grep -v report.json | xargs cat | sort | uniq -c | grep -qx ' *7 old'"

# shards that are none
pool() { for y in 2014 2015 2016; do mkdir -p "$T/$1/train/$y" && "${@:2}" "$T/$1/train/$y/0.tar" || exit 1; done; }
pool fifo mkfifo
says "a pipe as shard: nobody waits for it" 1 "0.tar: not a file" timeout 20 "$P" --data "$T/fifo" --out "$T/r" --name f --start 2016 --steps 1
find "$DATA/train/2016" -name '*.tar' -exec gzip -c {} + >"$T/shard.gz"
pool gz cp "$T/shard.gz"
says "a compressed shard" 1 "shards of its list: byte 0: a header with a wrong checksum (compressed by gzip: a plain tar is wanted)" \
    "$P" --data "$T/gz" --out "$T/r" --name g --start 2016 --steps 1

# a shard that goes away while it is read: what was done before is saved, and when it is back the run goes on as if nothing had happened
cp -r "$DATA" "$T/pool"
gone() { "$P" --data "$T/pool" --out "$T/$1" --name run --steps 300 --batch 8 --start 2016 --log-every 1 "${@:2}"; }
check "with all shards" gone stays
gone goes >"$T/goes.out" 2>&1 & pid=$!
for _ in $(seq 100); do [ "$(cat "$T/goes/run/metrics.jsonl" 2>/dev/null | wc -l)" -gt 20 ] && break; sleep 0.05; done
mv "$T/pool/train/2016/00000000.tar" "$T/away.tar"
wait $pid
check "a shard that goes away: exit code" test $? = 1
check "it is named, and what was done is saved" grep -Eq "00000000.tar: cannot open the shard: .*; the run is saved after step [0-9]+, and --resume" "$T/goes.out"
mv "$T/away.tar" "$T/pool/train/2016/00000000.tar"
check "it is back: the run goes on" gone goes --resume
check "with the same bytes" cmp "$T/stays/run/checkpoints/epoch_1.pt" "$T/goes/run/checkpoints/epoch_1.pt"

# a disk without room for the checkpoints: said before the first step, not after the last
mkdir "$T/disk"
if unshare -rm mount -t tmpfs -o size=20m none "$T/disk" 2>/dev/null; then
    says "no room for the checkpoints" 1 "0.02 GB are free, and the checkpoints of this run need 0.04 (2 of 0.02)" unshare -rm sh -c \
        "mount -t tmpfs -o size=20m none '$T/disk' && '$P' --data '$DATA' --out '$T/disk' --name a --steps 2 --batch 4"
    check "room for them" unshare -rm sh -c \
        "mount -t tmpfs -o size=48m none '$T/disk' && '$P' --data '$DATA' --out '$T/disk' --name a --steps 2 --batch 4"
    says "results where nothing may be written" 1 "disk: results cannot be written there: Read-only file system" unshare -rm sh -c \
        "mount -t tmpfs -o ro none '$T/disk' && '$P' eval --ckpt '$C' --data '$DATA' --out '$T/disk'"
else
    skip "no room for the checkpoints" "no file systems of one's own here"
fi

# weights that are no numbers would give scores of 0 and JSON that no parser reads
check "weights as safetensors" "$P" export --ckpt "$T/r/open/checkpoints/epoch_latest.pt" --to safetensors --out "$T/st"
W=$(find "$T/st" -name '*.safetensors' | head -n 1)
printf '\377\377\377\177' | dd of="$W" bs=1 seek=$(($(stat -c %s "$W") - 4)) conv=notrunc 2>/dev/null
says "a checkpoint with a NaN" 1 "is not finite" "$P" eval --ckpt "$W" --data "$DATA" --out "$T/nan"
says "nor is anything begun with it" 1 "is not finite" run --name nan --from "$W"

# memory too little for the threads' scratch
if [ "${MODE:-release}" != release ]; then skip "too little memory" "sanitizers map more than that"; finish; exit; fi
( ulimit -v 20000 2>/dev/null && "$P" --data "$DATA" --out "$T/r" --name small --steps 1 --batch 4 >"$T/small.out" 2>&1; echo $? >"$T/small.code" )
case $(cat "$T/small.code") in
    1 | 70) check "too little memory is one line" grep -q "^error: " "$T/small.out" ;;
    *) not_ok "too little memory" "exit code $(cat "$T/small.code")" "$(cat "$T/small.out")" ;;
esac
finish
