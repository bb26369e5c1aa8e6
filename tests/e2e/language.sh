#!/usr/bin/env bash
# language.sh -- every ```tic block of the pages in examples/ is a complete file that the compiler accepts and the formatter
# leaves as it is. Words behind ```tic are flags: ```tic -D n=3. The programs in examples/ become programs.
. tests/e2e/lib.sh

blocks() {         # PAGE: one file a block in $T/blocks, its flags beside it
    rm -rf "$T/blocks" && mkdir "$T/blocks"
    awk -v dir="$T/blocks" '
        /^```tic/ { n++; file = sprintf("%s/line_%d.tic", dir, NR); flags = $0; sub(/^```tic */, "", flags)
                    print flags > (file ".flags"); printf "" > file; open = 1; next }
        /^```/    { open = 0 }
        open      { print > file }' "$1"
}

one() {            # PAGE BLOCK
    local name="$1, $(basename "$2" .tic)" flags
    read -r -a flags <"$2.flags"
    cp "$2" "$T/before"
    if ! "$TICC" --check "${flags[@]}" "$2" >"$T/out" 2>&1; then not_ok "$name" "$(cat "$T/out")"
    elif ! "$TICC" fmt "$2" || ! cmp -s "$2" "$T/before"; then not_ok "$name: not as \`ticc fmt\` writes it" "$(diff "$T/before" "$2")"
    else ok "$name"; fi
}

for page in examples/*.md; do
    blocks "$page"
    found=$(ls "$T/blocks" | grep -c '\.tic$')
    [ "$found" -gt 0 ] && ok "$page has examples" || not_ok "$page has examples" "no \`\`\`tic block in $page"
    for block in "$T"/blocks/*.tic; do [ -f "$block" ] && one "$page" "$block"; done
done

sample_data
for program in examples/*.tic; do
    name=$(basename "$program" .tic)
    cp "$program" "$T/before" && cp "$program" "$T/after.tic"
    check "$program compiles" "$TICC" "$program" -o "$T/$name"
    check "$program stands as \`ticc fmt\` writes it" sh -c "'$TICC' fmt '$T/after.tic' && diff '$T/before' '$T/after.tic'"
    says "$program trains" 0 "checkpoint:" "$T/$name" --data "$DATA" --out "$T/runs" --name "$name" --start 2016 --steps 2 --batch 4
done
# three years of samples by 0.7^3, one by 0.7^2, 0.7 and 1
says "a program without years wants one" 1 "--start YEAR" "$T/layer" --data "$DATA" --out "$T/runs" --name none --steps 1
says "the schedule of the example's strategy" 0 "2014..2016 32 %, 2017 15.2 %, 2018 21.7 %, 2019 31.1 %" "$TICC" examples/strategy.tic --emit=schedule
finish
