#!/usr/bin/env bash
# demo.sh -- `make demo`: a small CLIP learns the drawn sample data in about three minutes on two cores, then says how
# often it finds the right picture among the held-out ones.
set -eu
cd "$(dirname "$0")/.."
B=build/${MODE:-release} OUT=${OUT:-results}
[ -d build/sample/train ] || "$B/ticdata" synth --out build/sample
"$B/ticc" models/vit_tiny.tic -o build/train_tiny
vocab=()
for v in "${TIC_VOCAB:-}" ../shared/data/bpe_simple_vocab_16e6.txt.gz; do [ -f "$v" ] && vocab=(--vocab "$v") && break; done
rm -rf "$OUT/demo"
build/train_tiny --data build/sample --out "$OUT" --name demo ${vocab[@]+"${vocab[@]}"} "$@"
build/train_tiny eval --ckpt "$OUT/demo/checkpoints/epoch_latest.pt" --data build/sample ${vocab[@]+"${vocab[@]}"}
