# lib.sh -- shared by the end-to-end tests: a scratch folder, sample data, a compiled micro model, TAP lines.
cd "$TICC_ROOT" || exit 1
T=$(mktemp -d) && trap 'rm -rf "$T"' EXIT
n=0
ok() { n=$((n + 1)); echo "ok $n - $1"; }
not_ok() { n=$((n + 1)); echo "not ok $n - $1"; shift; printf '%s\n' "$@" | tail -n 30 >&2; }
skip() { n=$((n + 1)); echo "ok $n - $1 # SKIP $2"; }
check() { local name=$1; shift; if "$@" >"$T/check.out" 2>&1; then ok "$name"; else not_ok "$name" "exit code $?" "$(cat "$T/check.out")"; fi; }
# says NAME CODE TEXT COMMAND...: the command exits with CODE and prints TEXT (a fixed string) somewhere
says() {
    local name=$1 code=$2 text=$3 got; shift 3
    "$@" >"$T/says.out" 2>&1; got=$?
    if [ $got != "$code" ]; then not_ok "$name" "exit code $got, wanted $code" "$(cat "$T/says.out")"
    elif ! grep -qF -- "$text" "$T/says.out"; then not_ok "$name" "no \`$text\` in:" "$(cat "$T/says.out")"
    else ok "$name"; fi
}
sample_data() { [ -d "$B/sample" ] || { rm -rf "$B/sample.part"; "$TICDATA" synth --out "$B/sample.part" --samples-per-year 60 >/dev/null && mv "$B/sample.part" "$B/sample"; }; DATA=$B/sample; }
broken_pool() {     # YEAR...: $T/pool has these years of the sample data with every third picture broken
    local tar at year
    mkdir -p "$T/pool/train" || return 1
    for year in "$@"; do cp -r "$DATA/train/$year" "$T/pool/train/" || return 1; done
    for tar in "$T"/pool/train/*/*.tar; do
        for at in $(LC_ALL=C grep -abo $'\xff\xd8\xff' "$tar" | awk -F: 'NR % 3 == 0 { print $1 }'); do
            printf '\0\0' | dd of="$tar" bs=1 seek="$at" conv=notrunc status=none || return 1
        done
    done
}
micro() { "$TICC" tests/e2e/micro.tic -o "$T/micro" "$@"; }
finish() { echo "1..$n"; }
