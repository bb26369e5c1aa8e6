#!/usr/bin/env bash
# run.sh -- `make run`: draws sample shards, compiles ViT-B/16, trains it a few steps.
set -eu
cd "$(dirname "$0")/.."
B=build/${MODE:-release} BATCH=${BATCH:-8} STEPS=${STEPS:-3}
[ -d build/sample/train ] || "$B/ticdata" synth --out build/sample
echo "ticc models/vit_b16.tic -o train_2016"
"$B/ticc" models/vit_b16.tic -o train_2016
vocab=()
for v in "${TIC_VOCAB:-}" ../shared/data/bpe_simple_vocab_16e6.txt.gz; do [ -f "$v" ] && vocab=(--vocab "$v") && break; done
rm -rf results/first
echo "./train_2016 --data build/sample --out results --name first --batch $BATCH --steps $STEPS"
./train_2016 --data build/sample --out results --name first --batch "$BATCH" --steps "$STEPS" ${vocab[@]+"${vocab[@]}"}
