#!/usr/bin/env bash
# tower.sh -- the program of examples/tower.md, as it stands there: compiled, trained for a moment, used.
. tests/e2e/lib.sh
sample_data
awk '/^```tic/ { on = 1; next } /^```/ { on = 0 } on' examples/tower.md >"$T/tower.tic"
check "it compiles" "$TICC" "$T/tower.tic" -o "$T/tower"
says "its parameters" 0 "visual.transformer.resblocks.2.mlp.c_fc.weight" "$TICC" --emit=params "$T/tower.tic"
check "it has no class token" test "$("$TICC" --emit=params "$T/tower.tic" | grep -c class_embedding)" = 0
says "it trains" 0 "checkpoint:" "$T/tower" --data "$DATA" --out "$T" --name run --start 2014 --steps 8 --batch 16 --log-every 1
check "the loss is a number, eight times" test "$(grep -cE '"loss": [0-9]' "$T/run/metrics.jsonl")" = 8
printf 'a dog\n' >"$T/captions.txt"
says "and can be used" 0 "features of 1 caption" "$T/tower" embed --ckpt "$T/run/checkpoints/epoch_latest.pt" --captions "$T/captions.txt" --out "$T/f.npy"
finish
