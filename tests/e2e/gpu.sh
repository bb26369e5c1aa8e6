#!/usr/bin/env bash
# gpu.sh -- the CUDA path without a GPU; prints TAP. On the emulator (tests/gpu): every kernel by itself and whole steps
# against the CPU, and how their accesses fall on banks and sectors, against tests/gpu/lint.txt. Where NVRTC is, the small model's kernels compile without spills
# (resources.sh: those of ViT-B/16).
. tests/e2e/lib.sh
emulated() { env TIC_LIBCUDA="$B/libemu_cuda.so" TIC_LIBNVRTC="$B/libemu_nvrtc.so" XDG_CACHE_HOME="$B/emulated" TIC_EMU_QUIET= TIC_EMU_LINT="$T/lint" "$@"; }
wasteful() { awk -f tests/gpu/wasteful.awk "$1" "$T/lint"; }        # BUDGET
export XDG_CACHE_HOME=$B/nvrtc
none() { env TIC_LIBCUDA=/nowhere/libcuda.so.1 "$@"; }
"$TICC" tests/gpu/micro.tic --target cpu,cuda -D train.micro=1 -o "$T/gpu" || { not_ok "a program for CPU and GPU compiles"; finish; exit; }
"$TICC" tests/gpu/micro.tic -o "$T/cpu" || { not_ok "a program for the CPU compiles"; finish; exit; }
says "kernel text names its source" 0 "* nn.tic:15: y[.., d] = (x[.., d] - mu[..]) * rsqrt(var[..] + eps) * weight[d] + bias[d]" "$TICC" tests/gpu/micro.tic --emit=cuda
says "no driver: one line" 1 "error: no NVIDIA driver" none "$T/gpu" bench --batch 2 --steps 1 --device cuda
says "no driver, auto: the CPU" 0 "going on with the CPU" none "$T/gpu" bench --batch 2 --steps 1
says "no code for GPUs: one line" 1 "the program has no code for GPUs; compile it with --target cuda" "$T/cpu" bench --batch 2 --device cuda
says "a device that is none" 1 '--device: found `gpu`, wanted auto, cpu, cuda or cuda:N' "$T/gpu" bench --device gpu
says "an architecture that is none" 1 'found `sm_9`, wanted an architecture' "$TICC" tests/gpu/micro.tic --target cuda:sm_9
if [ -e "$B/libemu_cuda.so" ] && [ -e "$B/libemu_nvrtc.so" ]; then
    says "every kernel, and whole steps, on an emulated GPU as on the CPU" 0 "is equal bit by bit" emulated "$T/gpu" check --batch 3
    check "and steps in pieces" grep -q "^in pieces of 1: losses and parameters within" "$T/says.out"
    # "image features within 1.23e-07 of the CPU's", both towers, between two numbers
    towers() { awk -v lo="$1" -v hi="$2" '/^(image|text) features within/ { n++; if ($4 <= lo || $4 > hi) bad = 1 } END { exit bad || n != 2 }' "$T/says.out"; }
    check "and towers, in f32" towers -1 1e-5
    if "$TICC" tests/gpu/micro.tic --target cpu,cuda -D train.micro=1 -D train.batch=8192 -D train.samples=81920 -o "$T/meet"; then
        says "a loss without a tensor over all pairs" 0 "score         4 kernels" emulated "$T/meet" check --batch 3 --steps 1
        check "its steps too are equal" grep -q "is equal bit by bit" "$T/says.out"
    else
        not_ok "a program for a large batch compiles"
    fi
    if "$TICC" tests/gpu/cancel.tic --target cpu,cuda -o "$T/cancel"; then
        says "a gradient that is 0 but for rounding" 0 ", terms cancel" emulated env -u TIC_EMU_LINT "$T/cancel" check --batch 3 --steps 1 --explain
        # a compiler that leaves out a term
        wrong() {      # KERNEL SED COMMAND...
            printf '#!/bin/sh\nfor a; do case $a in */k.c) grep -q "%s" "$a" && sed -i "%s" "$a" ;; esac; done\nexec cc "$@"\n' "$1" "$2" >"$T/wrong_cc"
            chmod +x "$T/wrong_cc"
            emulated env -u TIC_EMU_LINT XDG_CACHE_HOME="$T/wrong" TIC_EMU_CC="$T/wrong_cc" "${@:3}"
        }
        says "where they cancel, a term that is left out still shows" 70 "BAD kernel 23 reduce" \
            wrong reduce_cancel_10_ 's/s0 += v6.x;/s0 += t == from ? 0 : v6.x;/' "$T/cancel" check --batch 3 --steps 1
    else
        not_ok "a program whose terms cancel compiles"
    fi
    if "$TICC" tests/gpu/columns.tic --target cpu,cuda -D train.clip_norm=0.1 -o "$T/columns"; then
        says "rows whose columns are summed too, of awkward lengths; a clipped norm" 0 "is equal bit by bit" emulated "$T/columns" check --batch 3 --steps 1
    else
        not_ok "a program of rows and columns compiles"
    fi
    if "$TICC" tests/gpu/attention.tic --target cpu,cuda -D train.precision=bf16 -o "$T/bf16"; then
        says "the same in bf16, by Hopper's own instructions; attention in one kernel" 0 "score         8 kernels" emulated "$T/bf16" check --batch 3 --steps 1
        check "towers in bf16 too, which the CPU has in f32" towers 1e-4 2e-2
        says "the same in bf16, by mma.sync" 0 "is equal bit by bit" emulated TIC_EMU_ARCH=80 "$T/bf16" check --batch 3 --steps 1
    else
        not_ok "a program in bf16 compiles"
    fi
    sed 's/y: 16, x: 16/y: 19, x: 19/; s/random_resized_crop(16/random_resized_crop(19/
         s/width = 32, layers = 2, heads = 4, patch = 4/width = 64, layers = 2, heads = 1, patch = 1/
         s/vocab = 200, width = 32, layers = 2/vocab = 200, width = 32, layers = 1/' tests/gpu/attention.tic >"$T/long.tic"
    if "$TICC" "$T/long.tic" --target cpu,cuda -D train.precision=bf16 -o "$T/long"; then
        says "362 tokens, more than a block has room for" 0 "score         6 kernels" emulated TIC_EMU_LINT="$T/lint.long" "$T/long" check --batch 2 --steps 1
        grep -E 'attention|row_' "$T/lint.long" >>"$T/lint"        # its images of one pixel a patch are nobody's
    else
        not_ok "a program of long rows compiles"
    fi
    check "no access of memory takes more than twice the least, or its budget" wasteful tests/gpu/lint.txt
    grep '^#' tests/gpu/lint.txt >"$T/lint.txt"
    check "without a budget some are named" eval '! wasteful "$T/lint.txt" >"$T/found" && grep -q "^global [a-z]* .* times the least, 2 allowed, in " "$T/found"'
    says "a device that is not there" 1 "no GPU 7: the driver finds 1" emulated "$T/gpu" bench --batch 2 --device cuda:7
    says "too little memory: the CPU" 0 "going on with the CPU" emulated TIC_EMU_MEMORY=1 "$T/gpu" bench --batch 256 --steps 1
else
    skip "an emulated GPU" "\`make emu\` builds it"
fi
resources() {      # MODEL TARGET [OPTION...]: compiles; prints what is over budget
    "$TICC" "models/$1.tic" --target "$2" "${@:3}" --emit=resources >"$T/resources" 2>&1 || { cat "$T/resources"; return 1; }
    awk '/registers/ && $5 > 0 { print; bad = 1 } /C75/ { print; bad = 1 } END { exit bad }' "$T/resources"
}
"$TICC" tests/gpu/micro.tic --target cuda:sm_80 --emit=resources >"$T/resources" 2>&1; code=$?
if grep -q 'libnvrtc was not found' "$T/resources"; then
    skip "kernels compile for sm_80 and sm_90a" "libnvrtc was not found"
else
    [ $code = 0 ] && ok "the micro model's kernels compile for sm_80" || not_ok "the micro model's kernels compile for sm_80" "$(cat "$T/resources")"
    check "in bf16 for sm_90a, nothing spilled" resources ../tests/gpu/micro cuda:sm_90a -D train.precision=bf16
fi
finish
