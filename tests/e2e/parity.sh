#!/usr/bin/env bash
# parity.sh -- small models and one block of each real width against what OpenCLIP computed for them (tests/parity).
. tests/e2e/lib.sh
CC=${CC:-cc}
P=tests/parity
compare() {        # NAME FIXTURE [clip]: tests/parity/NAME.tic against the fixture
    local name=$1 label=$1${3:+, clipped}
    if ! "$TICC" "$P/$1.tic" ${3:+-D train.clip_norm=0.1} --emit=asm -o "$T/$1.s" >"$T/log" 2>&1 ||
       ! $CC -O2 -Iruntime "$P/check.c" "$T/$1.s" "$B/libticrt.a" $TICC_LDFLAGS $RT_LIBS -pthread -o "$T/check" >>"$T/log" 2>&1; then
        not_ok "$label: compiles" "$(cat "$T/log")"; return
    fi
    check "$label: as OpenCLIP" "$T/check" "$P/data/$2.safetensors" $3
    [ -n "${PARITY_TABLE:-}" ] && { echo "# $label"; sed 's/^/# /' "$T/check.out"; }
}
RT_LIBS="-ljpeg -lpng -lwebp -lz -lm -ldl"
for m in tiny quick sigmoid wide large; do compare $m $m; compare $m $m clip; done
# a check that cannot fail is none: the same numbers with another activation must be refused
"$TICC" $P/quick.tic --emit=asm -o "$T/quick.s" && $CC -O2 -Iruntime $P/check.c "$T/quick.s" "$B/libticrt.a" $TICC_LDFLAGS $RT_LIBS -pthread -o "$T/check"
says "QuickGELU is not GELU" 1 "ABOVE THE LIMIT" "$T/check" $P/data/tiny.safetensors
finish
