#!/usr/bin/env bash
# resources.sh -- registers and spills of every GPU kernel of ViT-B/16's program, in f32 and bf16, for sm_80 and sm_90a, against
# tests/gpu/budget.txt; prints TAP. Needs NVRTC, no GPU. What was compiled is kept in the build folder: a second run compiles
# only kernels that have changed.
. tests/e2e/lib.sh
export XDG_CACHE_HOME=$B/nvrtc
over_budget() {    # TABLE [BUDGET]: prints what is over, and counts; fails if something is, or if the table is no table
    awk 'FNR == NR { if ($1 !~ /^#/ && NF) { registers[$1, $2] = $3; spilled[$1, $2] = $4 } next }
         / registers / {
             key = ""
             for (n = length($1); n > 0 && key == ""; n--)
                 if ((substr($1, 1, n), $2) in registers) key = substr($1, 1, n) SUBSEP $2
             kernels++
             if (key == "") { print "no budget: " $0; bad = 1 }
             else if ($3 > registers[key] || $5 > spilled[key]) { print "over " registers[key] " registers, " spilled[key] " spilled: " $0; bad = 1 }
             next }
         { print; bad = 1 }
         END { if (kernels < 100) { print kernels + 0 " kernels"; bad = 1 } exit bad }' "${2:-tests/gpu/budget.txt}" "$1"
}
for p in f32 bf16; do
    "$TICC" models/vit_b16.tic -D train.precision=$p --target cuda:sm_80,sm_90a --emit=resources >"$T/$p" 2>&1 || {
        grep -q 'libnvrtc was not found' "$T/$p" && skip "resources of kernels" "libnvrtc was not found" && finish && exit
        not_ok "ViT-B/16 in $p compiles for sm_80 and sm_90a" "$(head "$T/$p")"; continue; }
    check "ViT-B/16 in $p: every kernel within its budget" over_budget "$T/$p"
done
shared() {    # TABLE: fewer than half as many contractions on sm_90a, where sizes are arguments
    awk '$1 ~ /^contract/ { n[$2]++ } END { exit !(n["sm_90a"] > 10 && n["sm_90a"] * 2 < n["sm_80"]) }' "$1"
}
check "contractions that differ in sizes alone are one kernel on sm_90a" shared "$T/bf16"
check "in f32 none are" eval '! shared "$T/f32"'
sed 's/^contract *sm_90a .*/contract sm_90a 100 0/' tests/gpu/budget.txt >"$T/less"
check "a budget too small is noticed" eval '! over_budget "$T/bf16" "$T/less" >"$T/found" && grep -q "^over 100 registers, 0 spilled: contract_" "$T/found"'
{ cat "$T/bf16"; echo "ptxas info : (C7511) Potential Performance Loss: wgmma.mma_async instructions are serialized"; } >"$T/serial"
check "and so is wgmma in series" eval '! over_budget "$T/serial" >/dev/null'
finish
