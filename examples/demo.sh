#!/usr/bin/env bash
# demo.sh -- `make demo`: a small CLIP learns the drawn sample data in about three minutes on two cores, then says how
# often it finds the right picture among the held-out ones.
set -eu
cd "$(dirname "$0")/.."
B=build/${MODE:-release} OUT=${OUT:-results}
[ -d build/sample ] || { rm -rf build/sample.part; "$B/ticdata" synth --out build/sample.part; mv build/sample.part build/sample; }
"$B/ticc" models/vit_tiny.tic -o build/train_tiny
rm -rf "$OUT/demo"
build/train_tiny --data build/sample --out "$OUT" --name demo "$@"
build/train_tiny eval --ckpt "$OUT/demo/checkpoints/epoch_latest.pt" --data build/sample
