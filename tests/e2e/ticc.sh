#!/usr/bin/env bash
# ticc.sh -- the compiler's command line: what it says of itself, every wrong way to call it, and files it cannot read or write.
. tests/e2e/lib.sh
cp tests/golden/stage/small.tic "$T/"
P=$T/p.tic
cp tests/golden/stage/plan.tic "$P"

# one line, `ticc: ...`, and where the flags are: SUBJECT COMMAND...
refuses() { local name=$1 text=$2; shift 2; says "$name" 1 "$text" "$@"; [ "$(grep -c 'ticc: ' "$T/says.out")" = 1 ] || not_ok "$name: one message" "$(cat "$T/says.out")"; }

says "help" 0 "usage: ticc FILE.tic" "$TICC" --help
says "version" 0 "ticc " "$TICC" --version
says "fmt's help" 0 "usage: ticc fmt" "$TICC" fmt --help
says "no file" 1 "usage: ticc FILE.tic" "$TICC"
refuses "an unknown flag" 'no such flag; did you mean `--timings`?' "$TICC" --timngs "$P"
refuses "an unknown flag like no other" "--frobnicate: no such flag" "$TICC" --frobnicate "$P"
refuses "a value for a flag that takes none" "--check=1: this flag takes no value" "$TICC" --check=1 "$P"
refuses "a missing value" "-o: a value is missing after it" "$TICC" "$P" -o
refuses "an unknown stage" '--emit=fuse: no such stage; did you mean `fused`?' "$TICC" "$P" --emit=fuse
refuses "a stage like no other" "stages are ast, graph, grad, fused, plan, params, schedule, llvm, asm" "$TICC" "$P" --emit=everything
refuses "a stage in the next word" '--emit=grahp: no such stage; did you mean `graph`?' "$TICC" "$P" --emit grahp
refuses "an unknown target" 'gpu: no such target' "$TICC" "$P" --target gpu
refuses "an unknown processor" "z80" "$TICC" "$P" --target cpu:z80 -o "$T/p"
refuses "a definition without value" "n: -D wants name=value" "$TICC" -D n "$P"
refuses "two files" "one file at a time" "$TICC" "$P" "$P"
refuses "neither on nor off" 'wants `on` or `off`' "$TICC" "$P" --narrow=maybe

refuses "a file that is not there" "cannot read \`$T/none.tic\`: No such file" "$TICC" "$T/none.tic"
refuses "a folder" "it is a folder" "$TICC" "$T"
: >"$T/empty.tic"
refuses "an empty file" 'has no `model` block' "$TICC" "$T/empty.tic"
printf 'fn f(x) = x\n' >"$T/secret.tic" && chmod 000 "$T/secret.tic"
if [ -r "$T/secret.tic" ]; then skip "a file that may not be read" "this user may read every file"
else refuses "a file that may not be read" "Permission denied" "$TICC" "$T/secret.tic"; fi
head -c 3000 /dev/urandom >"$T/noise.tic"
says "noise" 1 "error:" "$TICC" "$T/noise.tic"

printf 'use module\nfn g(x) = f(x)\n' >"$T/uses.tic"
printf 'fn f(x) = x\n\0fn lost(x) = y\n' >"$T/module.tic"
refuses "a module with a zero byte" "$T/module.tic\` holds the byte 0x00" "$TICC" "$T/uses.tic" --check
rm "$T/module.tic" && mkdir "$T/module.tic"
refuses "a module that is a folder" "it is a folder" "$TICC" "$T/uses.tic" --check
rmdir "$T/module.tic"

refuses "a program that would replace its source" "-o $P: names a source file" "$TICC" "$P" -o "$P"
ln "$P" "$T/other_name"
refuses "the same under another name" "is the source file itself" "$TICC" "$P" -o "$T/other_name"
refuses "a program that is a folder" "-o $T: is a folder" "$TICC" "$P" -o "$T"
refuses "a folder that is not there" "-o $T/none/p: cannot be written: No such file" "$TICC" "$P" -o "$T/none/p"
refuses "no linker" 'cannot run `nocompiler` to link' env CC=nocompiler "$TICC" "$P" -o "$T/p"
refuses "a linker that fails" '`false` could not link' env CC=false "$TICC" "$P" -o "$T/p"
check "nothing is left of a program that was not linked" test "$(ls "$T" | grep -c '^p\(\.\|$\)')" = 1    # p.tic alone

check "a program is made" "$TICC" "$P" -o "$T/p"
cp "$T/p" "$T/before"
( ulimit -f 4; refuses "no room for the object" "cannot be written: File too large" "$TICC" "$P" -o "$T/p"; echo $n >"$T/n" ); n=$(cat "$T/n")
( ulimit -f 400; says "no room for the program" 1 "could not link" "$TICC" "$P" -o "$T/p"; echo $n >"$T/n" ); n=$(cat "$T/n")
check "the program that was there survives" cmp "$T/p" "$T/before"
check "nothing half-written is left" test "$(ls "$T" | grep -c '^p\(\.\|$\)')" = 2
if [ -w /dev/full ]; then
    refuses "a full standard output" "cannot be written: No space left" sh -c "'$TICC' '$P' --emit=graph >/dev/full"
    refuses "a full file of assembler" "cannot be written: No space left" "$TICC" "$P" --emit=asm -o /dev/full
fi

# stages
for stage in ast graph grad fused plan params schedule llvm asm; do
    check "--emit=$stage of models/vit_tiny.tic" sh -c "'$TICC' models/vit_tiny.tic --emit=$stage | grep -q ."
done
# the loop of four terms of every product: a cache line more of it costs a few percent
"$TICC" models/vit_tiny.tic --target cpu:x86-64-v4 --emit=asm >"$T/s"
check "the products' loops begin on a cache line" awk '/^micro_[a-z0-9_]*:$/ { micro = 1; n++ } /^\.Lfunc_end/ { micro = 0 }
    micro && /p2align[ \t]*6/ { aligned++ } END { exit !(n > 0 && aligned == n) }' "$T/s"
says "timings" 0 "parse and check" "$TICC" "$P" -o "$T/p" --timings
cp "$T/says.out" "$T/times"
says "timings have a sum" 0 "total" cat "$T/times"
says "-D reaches the program" 0 "batch 4" "$TICC" "$P" --emit=plan -D train.batch=4

# fmt
printf 'fn f(x[ d ])=x[d]*2   # twice\n' >"$T/f.tic"
check "fmt" "$TICC" fmt "$T/f.tic"
says "what fmt writes" 0 'fn f(x[d]) = x[d] * 2  # twice' cat "$T/f.tic"
printf 'fn f(x[ d ])=x[d]*3\n' >"$T/shared.tic"
chmod 664 "$T/shared.tic"
ln -s shared.tic "$T/link.tic"
check "fmt through a link" "$TICC" fmt "$T/link.tic"
check "the link stays, and so do permissions" [ -L "$T/link.tic" -a "$(stat -c %a "$T/shared.tic")" = 664 ]
says "and the file is written" 0 'fn f(x[d]) = x[d] * 3' cat "$T/shared.tic"
printf 'fn f(x[d] = 2\n' >"$T/broken.tic"
cp "$T/broken.tic" "$T/copy"
says "fmt of a broken file" 1 "error:" "$TICC" fmt "$T/broken.tic" "$T/f.tic"
check "it is not touched" cmp "$T/broken.tic" "$T/copy"
refuses "fmt of nothing" "fmt: no file given" "$TICC" fmt
refuses "a flag of fmt" "--check: no such flag" "$TICC" fmt --check "$T/f.tic"
refuses "fmt of a file that is not there" "No such file" "$TICC" fmt "$T/none.tic"
refuses "fmt of a folder" "it is a folder" "$TICC" fmt "$T"
finish
