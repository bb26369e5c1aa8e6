#!/usr/bin/env bash
# kills.sh -- eval, embed and export killed at random moments, and stopped by signals: under a final name there is a whole file or
# none, nothing half-written stays, and a call that is let run ends with the bytes of one that was never disturbed.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro
"$P" --data "$DATA" --out "$T" --name run --steps 2 --batch 8 >/dev/null 2>&1
C=$T/run/checkpoints/epoch_latest.pt
mapfile -t shards < <(find "$DATA/train" -name '*.tar' | sort)
mkdir "$T/s" && tar -C "$T/s" -xf "${shards[0]}" && head -c 700 "$(find "$T/s" -name '*.jpg' | head -n 1)" >"$T/s/cut.jpg"
for _ in $(seq 10); do find "$T/s" -name '*.jpg' | sort; done >"$T/names"
nameless=$("${PYTHON:-python3}" -c 'import os, sys; os.close(os.open(sys.argv[1], os.O_TMPFILE | os.O_WRONLY))' "$T" 2>/dev/null && echo 1)

RANDOM=${SEED:-$$}; echo "# seed ${SEED:-$$}" >&2
kill_all() {       # NAME SIGNAL ROUNDS COMMAND...: the command writes into $out
    local name=$1 signal=$2 rounds=$3 start took pid hit=0 left=0 torn= ; shift 3
    out=$T/$name.whole; rm -rf "$out"; mkdir "$out"
    start=$(date +%s%N); "$@" >"$T/log" 2>&1 || { not_ok "$name: undisturbed" "exit code $?" "$(cat "$T/log")"; return; }
    took=$((($(date +%s%N) - start) / 1000))
    out=$T/$name.killed; rm -rf "$out"; mkdir "$out"
    for _ in $(seq "$rounds"); do
        # the shell makes its background children deaf to INT, and whoever started the tests may have done so to the shell
        (go='exec env --default-signal=INT'; "$@") >"$T/log" 2>&1 &
        pid=$!
        sleep "$(awk -v r=$RANDOM -v t=$took 'BEGIN { print 0.9 * t / 1e6 * r / 32768 }')"
        kill "-$signal" $pid 2>/dev/null
        # it was done before: the first one had waited for the disk. What is done would not be done again
        wait $pid 2>/dev/null && { took=$((took * 3 / 4)); rm -rf "${out:?}"/*; continue; }
        hit=$((hit + 1))
        for f in "$out"/*; do
            case $f in
                *.tmp) left=$((left + 1)); rm "$f" ;;
                *eval_results.jsonl) cmp -s <(head -n "$(wc -l <"$f")" "$T/$name.whole/${f##*/}") "$f" || torn+=" $f" ;;
                *) [ ! -e "$f" ] || cmp -s "$f" "$T/$name.whole/${f##*/}" || torn+=" $f" ;;
            esac
        done
    done
    check "$name: $signal hit it" test $hit -gt 0
    check "$name: whole files or none" test -z "$torn"
    # between two system calls the file has its temporary name
    [ -n "$nameless" ] && check "$name: nothing half-written stays" test $left -le 1
    check "$name: let run" "$@"
    check "$name: the same files with the same bytes" diff -r "$T/$name.whole" "$out"
}
embed_files() { $go "$P" embed --ckpt "$C" --batch 16 --out "$out/f.npy" --files "$T/names"; }
embed_shards() { $go "$P" embed --ckpt "$C" --batch 16 --out "$out/s" "${shards[@]}"; }
export_pt() { $go "$P" export --ckpt "$C" --to pt --out "$out"; }
export_hf() { $go "$P" export --ckpt "$C" --to hf --out "$out"; }
evaluate() { $go "$P" eval --ckpt "$C" --data "$DATA" --out "$out"; }
go=
kill_all embed-files KILL 8 embed_files
kill_all embed-shards KILL 8 embed_shards
kill_all export-pt KILL 12 export_pt
kill_all export-hf KILL 12 export_hf
kill_all eval KILL 8 evaluate
for s in TERM INT; do
    kill_all embed-files $s 5 embed_files
    kill_all eval $s 5 evaluate
done
finish
