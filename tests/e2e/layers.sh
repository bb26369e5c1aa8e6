#!/usr/bin/env bash
# layers.sh -- who may include whom; prints TAP. One rule a line: files, then a pattern their includes must not match.
cd "$(dirname "$0")/../.." || exit 1
n=0
rule() {           # NAME PATTERN FILE...
    local name=$1 pattern=$2 found; shift 2
    n=$((n + 1))
    found=$(grep -nE "^#include [<\"]($pattern)" "$@" /dev/null 2>/dev/null)
    if [ -n "$found" ]; then echo "not ok $n - $name"; echo "$found" >&2; else echo "ok $n - $name"; fi
}
rule "the runtime knows nothing of the compiler" '(\.\./)*(compiler|front|ir|pass|cpu|cuda|driver)/' $(find runtime -name '*.[ch]')
rule "only compiler/cpu includes LLVM" 'llvm-c/' $(find compiler runtime -name '*.[chyl]' ! -path 'compiler/cpu/*')
rule "only runtime/data/jpeg.c includes jpeglib (and the tool that draws samples)" 'jpeglib' $(find compiler runtime -name '*.[ch]' ! -path runtime/data/jpeg.c ! -path 'runtime/tools/*')
rule "only runtime/data/png.c includes png.h (and the tool that draws samples)" 'png\.h' $(find compiler runtime -name '*.[ch]' ! -path runtime/data/png.c ! -path 'runtime/tools/*')
rule "only runtime/data/webp.c includes webp/decode.h" 'webp/' $(find compiler runtime -name '*.[ch]' ! -path runtime/data/webp.c)
rule "the graph does not know the tree" 'front/(tree|parse|program|sema)' $(find compiler/ir compiler/pass compiler/cpu -name '*.[ch]')
rule "the front end does not know passes or back ends" '(pass|cpu|driver)/' $(find compiler/front compiler/ir -name '*.[ch]')
rule "passes do not know back ends" '(cpu|driver)/' $(find compiler/pass -name '*.[ch]')
rule "data and checkpoints do not know training" '(train|eval)/' $(find runtime/data runtime/ckpt runtime/device -name '*.[ch]')
echo "1..$n"
