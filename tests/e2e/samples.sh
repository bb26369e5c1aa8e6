#!/usr/bin/env bash
# samples.sh -- shards as the world leaves them: torn, empty, with broken pictures and odd captions. Skipped and counted.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro
D=$T/pool; mkdir -p "$D/train/2016"
shard=$(find "$DATA/train/2016" -name '*.tar' | sort | head -n 1)
run() { local name=$1; shift; "$P" --data "$D" --out "$T/out" --name "$name" --steps 2 --batch 4 --start 2016 "$@"; }

says "a year without a folder" 1 "2014" run a
mkdir -p "$D/train/2014" "$D/train/2015"
says "folders without a tar" 1 "2014" run b
cp "$shard" "$D/train/2014/00000000.tar"; cp "$shard" "$D/train/2015/00000000.tar"
head -c 20000 "$shard" >"$D/train/2016/00000000.tar"
says "a torn shard is used as far as it goes" 0 "checkpoint:" run c
: >"$D/train/2016/00000001.tar"
says "an empty shard" 0 "checkpoint:" run d
mkdir "$T/s"; cd "$T/s" || exit 1
tar xf "$shard"
first=$(ls ./*.jpg | head -n 1); key=${first%.jpg}
pack() { rm -rf "$D/train"; mkdir -p "$D/train/2014" "$D/train/2015" "$D/train/2016"; for y in 2014 2015 2016; do tar --format=ustar -cf "$D/train/$y/00000000.tar" "$@"; done; cd "$TICC_ROOT" || exit 1; }
good=$(ls ./*.jpg | tail -n 1); good=${good%.jpg}
head -c 700 "$first" >bad1.jpg; cp "$key.txt" bad1.txt
head -c 300 /dev/urandom >bad2.jpg; cp "$key.txt" bad2.txt
cp "$first" noword.jpg
cp "$key.txt" nopicture.txt
cp "$first" long.jpg; head -c 10000 /dev/zero | tr '\0' 'w' >long.txt
cp "$first" bytes.jpg; printf '\377\376caption\200' >bytes.txt
cp "$first" empty.jpg; : >empty.txt
cp "$TICC_ROOT/tests/fuzz/seeds/cmyk.jpg" cmyk.jpg; cp "$key.txt" cmyk.txt
cp "$first" bomb.jpg; cp "$key.txt" bomb.txt           # a header that says 20000 x 20000: 5 bytes behind its marker
at=$(LC_ALL=C grep -obUaP '\xff\xc0' bomb.jpg | head -n 1 | cut -d: -f1)
printf '\x4e\x20\x4e\x20' | dd of=bomb.jpg bs=1 seek=$((at + 5)) conv=notrunc status=none
pack bomb.jpg bomb.txt
says "a picture of 20,000 pixels a side is refused by its size" 1 "20000 x 20000 pixels, at most 67108864" run e0
cd "$T/s" || exit 1
pack cmyk.jpg cmyk.txt
says "CMYK, and a pool of one sample" 0 "checkpoint:" run e1
cd "$T/s" || exit 1
pack bomb.jpg bomb.txt cmyk.jpg cmyk.txt bad1.jpg bad1.txt bad2.jpg bad2.txt noword.jpg nopicture.txt long.jpg long.txt bytes.jpg bytes.txt empty.jpg empty.txt "$good.jpg" "$good.txt"
says "broken pictures and missing parts are skipped and counted" 0 "skipped and replaced" run e --batch 16
for reason in "broken image" "no image" "no caption"; do check "counted: $reason" grep -Eq "skipped and replaced .*[1-9][0-9]* $reason" "$T/out/e/out.log"; done
cd "$T/s" || exit 1
pack bad2.jpg bad2.txt noword.jpg
says "nothing usable: said, not searched for ever" 1 "usable" run f
cd "$T/s" || exit 1

# pictures in formats that are not read are counted by their format, by bytes or by extension
printf 'GIF89a\1\0\1\0\200\0\0' >gif.jpg; printf 'BM\72\0\0\0' >bmp.bmp; printf 'II*\0\10\0\0\0' >tiff.jpg; printf '\0\0\0\30ftypheic\0\0\0\0' >heic.png
printf '\0\0\0\40ftypavif\0\0\0\0' >avif.avif; printf '\377\012\1\2' >jxl.webp; printf '<svg xmlns="http://www.w3.org/2000/svg"/>' >svg.svg
for k in gif bmp tiff heic avif jxl svg; do cp "$key.txt" $k.txt; done
cp "$good.jpg" both.jpg; cp gif.jpg both.gif; cp "$key.txt" both.txt
pack gif.* bmp.* tiff.* heic.* avif.* jxl.* svg.* both.* "$good.jpg" "$good.txt"
says "pictures in formats that are not read" 0 "skipped and replaced" run g --batch 64
for k in GIF BMP TIFF HEIC AVIF "JPEG XL" SVG; do check "counted: $k" grep -Eq "skipped and replaced .*[1-9][0-9]* $k" "$T/out/g/out.log"; done
check "a sample that has a JPEG too is used" eval '! grep -Eq "broken image|no image" "$T/out/g/out.log"'
says "and stay counted through a resume" 0 "skipped and replaced" run g --batch 64 --steps 3 --resume
check "each of them" eval 'for k in GIF BMP SVG; do [ "$(grep -Eo "[0-9]+ $k" "$T/out/g/out.log" | sort -nr | head -n 1 | cut -d" " -f1)" -gt 8 ] || exit 1; done'

# compressed tars are no shards, and are not passed over in silence
gzip -c "$D/train/2016/00000000.tar" >"$D/train/2016/00000001.tar.gz"
says "a compressed tar beside plain ones" 0 "1 compressed tar left out" run h
rm "$D/train/2016/00000000.tar"
says "nothing but compressed ones" 1 "2016: found 1 compressed tar, wanted plain ones" run i
finish
