#!/usr/bin/env bash
# run.sh -- `make run`: draws sample shards, compiles ViT-B/16, trains it a few steps.
set -eu
cd "$(dirname "$0")/.."
B=build/${MODE:-release} BATCH=${BATCH:-8} STEPS=${STEPS:-3}
[ -d build/sample ] || { rm -rf build/sample.part; "$B/ticdata" synth --out build/sample.part; mv build/sample.part build/sample; }
echo "ticc models/vit_b16.tic -o train_2016"
"$B/ticc" models/vit_b16.tic -o train_2016
rm -rf results/first
echo "./train_2016 --data build/sample --out results --name first --batch $BATCH --steps $STEPS"
./train_2016 --data build/sample --out results --name first --batch "$BATCH" --steps "$STEPS"
