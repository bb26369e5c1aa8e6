#!/usr/bin/env bash
# sanitize.sh TICC FOLDER -- small steps on a GPU under NVIDIA's compute-sanitizer: memory, races on shared memory, reads of what
# nobody wrote, barriers. A second opinion beside the emulator's, which models the rules and does not run the hardware.
# Where the tool is not found (in PATH, CUDA_HOME, /usr/local/cuda) that is said, and nothing is run.
set -u
ticc=$1 folder=$2 tool=
for t in compute-sanitizer "${CUDA_HOME:-/usr/local/cuda}/bin/compute-sanitizer" "${CUDA_HOME:-/usr/local/cuda}/compute-sanitizer/compute-sanitizer"; do
    command -v "$t" >/dev/null && tool=$t && break
done
[ -n "$tool" ] || { echo "skipped: small steps under compute-sanitizer: the tool was not found"; exit 0; }
bad=0
for p in f32 bf16; do
    "$ticc" tests/gpu/attention.tic --target cpu,cuda -D train.precision=$p -o "$folder/sanitized_$p" || exit 1
    for t in memcheck racecheck initcheck synccheck; do
        if "$tool" --tool $t --error-exitcode 9 "$folder/sanitized_$p" bench --device cuda --batch 3 --steps 1 >"$folder/sanitizer.log" 2>&1; then
            echo "ok: $t, $p"
        else
            echo "FAILED: $t, $p"; tail -n 40 "$folder/sanitizer.log"; bad=1
        fi
    done
done
exit $bad
