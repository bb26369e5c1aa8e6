#!/usr/bin/env bash
# views.sh -- years as lists of uids over one pool train as folders of years do; several roots; a pattern of one's own; shards whose
# captions stand in their json alone.
. tests/e2e/lib.sh
sample_data
micro || { not_ok "the micro model compiles"; finish; exit; }
P=$T/micro
losses() { sed -n 's/.*"loss": \([0-9.e-]*\).*/\1/p' "$T/r/$1/metrics.jsonl" | tr '\n' ' '; }
train() { local name=$1; shift; "$P" --out "$T/r" --name "$name" --steps 3 --log-every 1 --start 2018 "$@"; }
check "folders of years" train folders --data "$DATA"
mkdir -p "$T/pool/shards"
for y in 2014 2015 2016 2017 2018; do cp -r "$DATA/train/$y" "$T/pool/shards/"; done
says "one pool without years is no pool of years" 1 "no training shards of 2018" train none --data "$T/pool"
says "an index of uids, and lists by the samples' own time" 0 "pool/train/2018.npy: 60 uids" "$TICDATA" index "$T/pool/shards" --uids --years "$T/pool/train"
check "the lists are those of the folders" cmp "$T/pool/train/2016.npy" "$DATA/train/2016/sample_ids.npy"
says "views of the pool" 0 "a view of 60 uids; 0 not in the pool, 0 listed again" train views --data "$T/pool"
check "train as the folders do" test "$(losses views)" = "$(losses folders)"
mkdir -p "$T/both/a/train" "$T/both/b/train"
for y in 2014 2015 2016; do ln -s "$DATA/train/$y" "$T/both/a/train/$y"; done
for y in 2017 2018; do mkdir "$T/both/b/train/$y"; cp -r "$DATA/train/$y" "$T/both/b/train/$y/0"; done
check "several roots, one folder more" train roots --data "$T/both/a::$T/both/b"
check "train as one does" test "$(losses roots)" = "$(losses folders)"
says "which years there are is said" 1 "$T/both/a/2017; there are 2014, 2015, 2016" train none --data "$T/both/a" --start 2017
says "a year that none of them has" 1 "no training shards of 2017" train none --data "$T/both/a::$T/both/a" --start 2017
mv "$T/pool/shards/2018/00000000.tar" "$T/moved"; head -c 20480 "$T/moved" >"$T/pool/shards/2018/00000000.tar"
says "a shard that is not the one that was indexed" 1 "not the shard that was indexed" train changed --data "$T/pool"
rm "$T/pool/shards/uids.index"
says "a list without an index" 1 "index --uids" train bare --data "$T/pool"
"$TICC" tests/e2e/micro.tic -o "$T/own" -D 'data.shards="{data}/shards/{year}/*.tar"' && P=$T/own
mv "$T/moved" "$T/pool/shards/2018/00000000.tar"
check "a pattern of one's own" train own --data "$T/pool"
check "trains as the usual one does" test "$(losses own)" = "$(losses folders)"
# TiC-YFCC's and TiC-RedCaps' shards: IDX.jpg and IDX.json with the caption, no .txt
P=$T/micro
for y in 2014 2015 2016 2017 2018; do
    mkdir -p "$T/x/$y" "$T/json/$y" && (cd "$T/x/$y" && for t in "$DATA/train/$y"/*.tar; do tar xf "$t"; done; rm -f ./*.txt
        tar --sort=name -cf "$T/json/$y/part__00000000.tar" ./*)
done
says "captions in json alone" 0 "checkpoint:" train json --data "$T/json"
check "none is skipped" sh -c "! grep -q skipped '$T/r/json/out.log'"
finish
