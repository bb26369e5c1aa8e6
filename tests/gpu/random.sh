#!/usr/bin/env bash
# random.sh -- random programs (tests/unit/cc_random.c) on the emulated GPU, for developers, after `make emu unit`: every kernel
# against the CPU's, a whole step, at once and in pieces, towers.
#
#   tests/gpu/random.sh FIRST COUNT              what each program's number says: precision, narrow, the form of the loss, the batch
#   tests/gpu/random.sh --templates FIRST COUNT  in bf16, every template that one of its kernels can have, against the first (--tune)
#
# In bf16 it is run as on Hopper, each third program as on an older card. A line for each program that differs, whose text and report
# are kept in build/random; "in bf16 alone" is one that agrees in f32: look whether a comparison turns on what was rounded. The last
# line counts. OPTIONS has more options for ticc.
set -u
cd "$(dirname "$0")/../.." || exit 70
B=build/${MODE:-release} keep=build/random templates=
[ "${1-}" = --templates ] && { templates=1; shift; }
[ $# = 2 ] && [ -e "$B/libemu_cuda.so" ] && [ -x "$B/tests/cc_random" ] || { sed -n '2,/^set/p' "$0" | grep '^#'; exit 1; }
T=$(mktemp -d) && trap 'rm -rf "$T"' EXIT
mkdir -p "$keep"
export TIC_LIBCUDA=$B/libemu_cuda.so TIC_LIBNVRTC=$B/libemu_nvrtc.so XDG_CACHE_HOME=$T/cache TIC_EMU_QUIET= TIC_EMU_CLOCK=bytes TMPDIR=$T

has() { sed 1q "$T/p.tic" | grep -q "[ ,]$1"; }
options() {                                              # of ticc, by what the first line says
    batch=$(sed -n '1s/.*batch \([0-9]*\).*/\1/p' "$T/p.tic") arch=90 precision=f32
    { [ "$templates" ] || has bf16; } && precision=bf16
    [ $((n % 3)) = 0 ] && [ ! "$templates" ] && arch=80
    options=(-D train.micro=1 --narrow="$(has narrow && echo on || echo off)")
    has meet && options+=(-D train.batch=8192 -D train.samples=81920)
}
whole() { "$B/ticc" "$T/p.tic" --target cpu,cuda "${options[@]}" -D train.precision="$1" ${OPTIONS-} -o "$T/p" && TIC_EMU_ARCH=$arch "$T/p" check --batch "$batch" --steps 1 --explain; }
each() { "$B/ticc" --tune "$T/p.tic" "${options[@]}" -D train.precision="$1" --batch "$batch" ${OPTIONS-} --rounds 1 --table "$T/table"; }
how=whole; [ "$templates" ] && how=each
alike=0 differ=0 left_out=0
for ((n = $1; n < $1 + $2; n++)); do
    "$B/tests/cc_random" --print "$n" >"$T/p.tic" 2>/dev/null || exit 70
    options
    rm -rf "$T/cache" "$T/table"
    if "$how" "$precision" >"$T/log" 2>&1; then
        alike=$((alike + 1))
    elif grep -q 'do not influence the loss\|does not influence the loss' "$T/log"; then
        left_out=$((left_out + 1))
    else
        differ=$((differ + 1))
        cp "$T/p.tic" "$keep/$n.tic" && cp "$T/log" "$keep/$n.log"
        note=; [ "$precision$templates" = bf16 ] && whole f32 >"$keep/$n.f32.log" 2>&1 && note=", in bf16 alone"
        echo "program $n ($(sed -n '1s/# //p' "$T/p.tic")$note): $(grep -E "^BAD|DIFFERS|not the first|within|error|ticc:" "$T/log" | tail -n 4)"
    fi
done
echo "$alike programs alike, $differ not, $left_out left out (a parameter has no say)"
[ $differ = 0 ]
