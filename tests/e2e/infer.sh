#!/usr/bin/env bash
# infer.sh -- a trained model in use: classify, embed, export and back, the shared library from several threads.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro IMAGE=$T/a.jpg
"$P" --data "$DATA" --out "$T" --name run --steps 2 --batch 8 >/dev/null 2>&1
C=$T/run/checkpoints/epoch_latest.pt
tar -xOf "$(ls "$DATA"/train/2014*/*.tar | head -n 1)" --wildcards '*.jpg' --occurrence=1 2>/dev/null >"$IMAGE" || true
[ -s "$IMAGE" ] || tar -xOf "$(ls "$DATA"/train/2014*/*.tar | head -n 1)" "$(tar -tf "$(ls "$DATA"/train/2014*/*.tar | head -n 1)" | grep -m 1 jpg)" >"$IMAGE"

# classify
says "probabilities" 0 "  a dog" "$P" classify --ckpt "$C" "$IMAGE" "a dog" "a cat"
"$P" classify --ckpt "$C" "$IMAGE" "a dog" "a cat" "a bird" 2>/dev/null |
    awk 'NR > 1 { s += $1 } END { exit !(NR == 4 && s > 0.99999 && s < 1.00001) }' && ok "they sum to 1" || not_ok "they sum to 1"
says "one label is certain" 0 "  1.000000  a dog" "$P" classify --ckpt "$C" "$IMAGE" "a dog"
says "two images, as JSON" 0 "}," "$P" classify --json --ckpt "$C" "$IMAGE" "$IMAGE" "a dog" "a cat"
says "no image" 1 "an image comes first" "$P" classify --ckpt "$C" "a dog" "a cat"
says "no label" 1 "at least one label" "$P" classify --ckpt "$C" "$IMAGE"
says "a run's folder for a checkpoint" 1 "it holds $T/run/checkpoints/epoch_latest.pt" "$P" classify --ckpt "$T/run" "$IMAGE" "a dog"
says "another folder" 1 "found a folder, wanted a checkpoint" "$P" classify --ckpt "$T" "$IMAGE" "a dog"
says "no checkpoint" 1 "--ckpt" "$P" classify "$IMAGE" "a dog"
says "an image that is none" 1 "neither JPEG nor PNG nor WebP" "$P" classify --ckpt "$C" tests/e2e/infer.sh "a dog"

# the vocabulary: named, found, or absent
V=../shared/data/bpe_simple_vocab_16e6.txt.gz
[ -f "$V" ] || V=build/vocab/open_clip/bpe_simple_vocab_16e6.txt.gz
says "without a vocabulary it says so" 0 "make vocab" "$P" classify --ckpt "$C" "$IMAGE" "a dog" "a cat"
if [ -f "$V" ]; then
    mkdir -p "$T/cache/ticc" && cp "$V" "$T/cache/ticc/"
    found() { env -u TICC_VOCAB XDG_CACHE_HOME="$T/cache" "$P" classify --ckpt "$C" "$IMAGE" "a dog" "a cat" 2>&1; }
    check "one that make vocab left is found" test "$(found)" = "$("$P" classify --vocab "$V" --ckpt "$C" "$IMAGE" "a dog" "a cat" 2>&1)"
    check "and makes another spelling" test "$(found)" != "$("$P" classify --ckpt "$C" "$IMAGE" "a dog" "a cat" 2>/dev/null)"
else
    skip "one that make vocab left is found" "no vocabulary; \`make vocab\` gets it"
fi

# embed
rows() { od -An -c -N 128 "$1" | tr -d ' \n' | grep -o "([0-9]*,[0-9]*)"; }
printf 'a dog\r\na cat\n\na bird' >"$T/captions.txt"
says "features of captions" 0 "features of 4 captions" "$P" embed --ckpt "$C" --out "$T/c.npy" --captions "$T/captions.txt"
check "their shape" test "$(rows "$T/c.npy")" = "(4,16)"
says "features of images" 0 "features of 2 images" "$P" embed --ckpt "$C" --out "$T/i.npy" "$IMAGE" "$IMAGE"
check "their shape too" test "$(rows "$T/i.npy")" = "(2,16)"
check "equal images, equal rows" cmp <(tail -c +129 "$T/i.npy" | head -c 64) <(tail -c +193 "$T/i.npy")
S=$(ls "$DATA"/train/2014*/*.tar | head -n 1)
says "features of a shard" 0 "their keys" "$P" embed --ckpt "$C" --batch 7 --out "$T/s" "$S"
"$P" embed --ckpt "$C" --batch 50 --threads 1 --out "$T/s2" "$S" >/dev/null 2>&1
check "the batch size changes nothing" cmp "$T/s.images.npy" "$T/s2.images.npy"
check "nor for captions" cmp "$T/s.texts.npy" "$T/s2.texts.npy"
check "a key a row" test "($(grep -c . "$T/s.keys.txt"),16)" = "$(rows "$T/s.texts.npy")"
# what cannot be used: a row of NaN and a line, or, when asked for, an error
head -c 700 "$IMAGE" >"$T/cut.jpg"; printf 'GIF89a\1\0\1\0\200\0\0' >"$T/a.gif"
says "pictures that cannot be used" 0 "3 could not be used: 1 broken image, 1 missing, 1 GIF; listed in $T/n.npy.skipped.txt" \
    "$P" embed --ckpt "$C" --batch 2 --out "$T/n.npy" "$IMAGE" "$T/cut.jpg" "$T/none.jpg" "$IMAGE" "$T/a.gif"
check "keep their rows" test "$(rows "$T/n.npy")" = "(5,16)"
row() { tail -c +$((129 + 64 * $2)) "$1" | head -c 64; }
check "the good ones are what they were" test "$(row "$T/n.npy" 0 | cksum) $(row "$T/n.npy" 3 | cksum)" = "$(row "$T/i.npy" 0 | cksum) $(row "$T/i.npy" 0 | cksum)"
nan_row() { [ "$(row "$1" "$2" | od -An -v -tf4 | tr -s " \n" " " | grep -o nan | wc -l)" = 16 ]; }
for r in 1 2 4; do check "row $r is NaN" nan_row "$T/n.npy" $r; done
check "the list names row, file and reason" grep -qP "^4\t$T/a.gif: image: .*GIF" "$T/n.npy.skipped.txt"
printf '%s\n' "$IMAGE" "$T/cut.jpg" "$T/none.jpg" "$IMAGE" "$T/a.gif" >"$T/names"
says "the names in a file" 0 "features of 5 images" "$P" embed --ckpt "$C" --out "$T/n2.npy" --files "$T/names"
check "give the same" cmp "$T/n.npy" "$T/n2.npy"
"$P" embed --ckpt "$C" --batch 3 --threads 1 --out "$T/n4.npy" --files "$T/names" >/dev/null 2>&1
check "nor do the batch and the number of threads change rows" cmp "$T/n.npy" "$T/n4.npy"
check "or the list" cmp "$T/n.npy.skipped.txt" "$T/n4.npy.skipped.txt"
# two pipes, of which the second is filled first: who opens one after the other waits for ever
mkfifo "$T/first" "$T/second"
{ cat "$IMAGE" >"$T/second"; cat "$T/cut.jpg" >"$T/first"; } &
feeder=$!
says "pictures are decoded on several threads" 0 "features of 2 images" timeout 60 "$P" embed --ckpt "$C" --threads 2 --out "$T/p.npy" "$T/first" "$T/second"
kill $feeder 2>/dev/null; wait $feeder 2>/dev/null
check "each into its row" eval '[ "$(row "$T/p.npy" 1 | cksum)" = "$(row "$T/n.npy" 0 | cksum)" ] && grep -q "^0	$T/first" "$T/p.npy.skipped.txt"'
says "all of them good" 0 "features of 1 image" "$P" embed --ckpt "$C" --out "$T/n.npy" "$IMAGE"
check "the list is gone" test ! -e "$T/n.npy.skipped.txt"
says "none of them good" 1 "none of 2 pictures could be used; the first: $T/cut.jpg: " "$P" embed --ckpt "$C" --out "$T/n3.npy" "$T/cut.jpg" "$T/a.gif"
says "strict" 1 "cut.jpg" "$P" embed --ckpt "$C" --strict --out "$T/n3.npy" "$IMAGE" "$T/cut.jpg"
check "leaves nothing" test ! -e "$T/n3.npy" -a ! -e "$T/n3.npy.tmp" -a ! -e "$T/n3.npy.skipped.txt"
mkdir "$T/w" && cp "$IMAGE" "$T/w/a.jpg" && cp "$T/cut.jpg" "$T/w/b.jpg" && cp "$T/a.gif" "$T/w/c.gif" && for k in a b c; do echo "$k" >"$T/w/$k.txt"; done
tar -C "$T/w" -cf "$T/w.tar" a.jpg a.txt b.jpg b.txt c.gif c.txt
says "a shard with some of each" 0 "2 could not be used: 1 broken image, 1 GIF" "$P" embed --ckpt "$C" --out "$T/w" "$T/w.tar"
check "a row a usable sample" test "$(rows "$T/w.images.npy")" = "(1,16)"
check "the others are listed" grep -q "w.tar: b: " "$T/w.skipped.txt"
cp "$IMAGE" "$T/w/d.jpg" && tar -C "$T/w" -cf "$T/v.tar" a.jpg a.txt d.jpg
says "a sample without a caption" 0 "1 without a caption: rows of NaN in $T/v.texts.npy" "$P" embed --ckpt "$C" --out "$T/v" "$T/v.tar"
check "its text is NaN" nan_row "$T/v.texts.npy" 1
check "its image is not, nor the other's text" eval '! nan_row "$T/v.images.npy" 1 && ! nan_row "$T/v.texts.npy" 0'
says "strict, of a shard" 1 "w.tar: b: " "$P" embed --ckpt "$C" --strict --out "$T/w2" "$T/w.tar"
says "two kinds at once" 1 "more than one of them" "$P" embed --ckpt "$C" --out "$T/x.npy" --files "$T/names" "$IMAGE"
says "nothing to embed" 1 "nothing to embed" "$P" embed --ckpt "$C" --out "$T/x.npy"
says "no place to write" 1 "cannot write" "$P" embed --ckpt "$C" --out "$T/none/x.npy" "$IMAGE"

# export: every form gives the same features, and goes back to the same bytes
for form in safetensors pt hf; do
    says "export to $form" 0 "config.json" "$P" export --ckpt "$C" --to $form --out "$T/$form"
    F=$(ls "$T/$form"/*.safetensors "$T/$form"/*.bin 2>/dev/null)
    "$P" embed --ckpt "$F" --out "$T/back.npy" --captions "$T/captions.txt" >/dev/null 2>&1
    check "the same features from $form" cmp "$T/c.npy" "$T/back.npy"
    "$P" export --ckpt "$F" --to safetensors --out "$T/$form.back" >/dev/null 2>&1
    check "the same bytes back from $form" cmp "$T/safetensors/open_clip_model.safetensors" "$T/$form.back/open_clip_model.safetensors"
done
says "the configuration knows the heads" 0 '"heads": 2' cat "$T/pt/open_clip_config.json"
says "another form" 1 "wanted safetensors, pt or hf" "$P" export --ckpt "$C" --to onnx --out "$T/x"

# the library
if "$TICC" tests/e2e/micro.tic -o "$T/libmicro.so" >"$T/log" 2>&1 &&
   ${CC:-cc} -Iruntime tests/e2e/library.c -L"$T" -lmicro -Wl,-rpath,"$T" $TICC_LDFLAGS -pthread -o "$T/library" >>"$T/log" 2>&1; then
    ok "a library, and a program that uses it"
    says "four threads, two models" 0 "0x" "$T/library" "$C" "$IMAGE" "a dog"
    "$T/library" "$C" "$IMAGE" "a dog" >"$T/features"
    bits() { od -An -v -tx4 -w4 -j 128 "$1" | head -n 16 | sed 's/^ */0x/'; }
    { bits "$T/i.npy"; bits "$T/c.npy"; } >"$T/want"
    check "the features of embed" cmp "$T/want" "$T/features"
    check "only its own functions show" test "$(nm -D --defined-only "$T/libmicro.so" | grep -c ' T tic_')" = 0
else
    not_ok "a library, and a program that uses it" "$(cat "$T/log")"
fi
finish
