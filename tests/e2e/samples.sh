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
finish
