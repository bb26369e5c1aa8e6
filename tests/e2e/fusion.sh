#!/usr/bin/env bash
# fusion.sh -- how many kernels one transformer block becomes, forward and backward, by class. The numbers stand in
# fusion.txt; `tests/run --bless fusion` writes them anew when fusion changes: fewer is better, more wants a reason.
. tests/e2e/lib.sh
cat >"$T/block.tic" <<'TIC'
use nn
use clip
use optim
model one_block {
    fn encode_image(pixels[n, ch: 3, y: 32, x: 32]) =
        l2_normalize(vision_transformer(pixels, width = 64, layers = 1, heads = 2, patch = 8, out = 16) as visual)
    fn encode_text(tokens[n, t: 77]) =
        l2_normalize(text_transformer(tokens, vocab = 512, width = 64, layers = 1, heads = 2, out = 16))
    param logit_scale = ln(1 / 0.07)
    fn loss(pixels, tokens) = clip_loss(encode_image(pixels), encode_text(tokens), exp(logit_scale))
}
data d { shards = "{data}/{year}/*.tar"; image = center_crop(32) }
train { batch = 8; samples = 8; optimizer = adamw(lr = 1e-3) }
TIC

counts() {         # LABEL NAME: the kernels whose first member belongs to LABEL
    "$TICC" "$T/block.tic" --emit=plan --narrow=off 2>&1 | awk -v label="$1" -v name="$2" '
        $1 ~ /^[0-9]+$/ && index($0, label) { n[(index($0, "\047") ? "backward " : "forward  ") $2]++ }
        END { for (k in n) printf "%s %s %d\n", name, k, n[k] }' | sort
}
counts " visual.transformer.resblocks.0" "image block" >"$T/got"
counts " transformer.resblocks.0" "text block " >>"$T/got"
"$TICC" "$T/block.tic" --emit=plan --narrow=off | sed -n 's/ distinct.*/ distinct/p' >>"$T/got"
[ -n "${BLESS:-}" ] && cp "$T/got" tests/e2e/fusion.txt
check "something is counted" grep -q "image block backward contract" "$T/got"
check "kernels of a transformer block" diff tests/e2e/fusion.txt "$T/got"
finish
