#!/usr/bin/env bash
# tune.sh -- choice of templates by measurement, on the emulated GPU, whose clock counts bytes: what --tune writes, that a table
# steers the compiler, that whatever it chooses computes the same, and what is refused. Prints TAP.
. tests/e2e/lib.sh
emulated() { env TIC_LIBCUDA="$B/libemu_cuda.so" TIC_LIBNVRTC="$B/libemu_nvrtc.so" XDG_CACHE_HOME="$B/emulated" TIC_EMU_QUIET= TIC_EMU_CLOCK=bytes "$@"; }
model=tests/gpu/tuned.tic
text() { "$TICC" $model --emit=cuda "$@"; }

says "no driver: one line" 1 "ticc: --tune: no NVIDIA driver" env TIC_LIBCUDA=/nowhere/libcuda.so.1 "$TICC" --tune $model --table "$T/none"
check "and no table" eval '[ ! -e "$T/none" ] && [ "$(wc -l <"$T/says.out")" = 1 ]'
says "it makes nothing else" 1 "--tune: measures and makes nothing else" "$TICC" --tune $model -o "$T/x"
says "--rounds is --tune's" 1 "--rounds: goes with --tune" "$TICC" $model --rounds 3
says "a batch that is none" 1 "--batch: wants a number from 1 to 1048576" "$TICC" --tune $model --batch 0
says "a table is for GPUs" 1 "it goes with --target cuda" "$TICC" $model --table "$T/none"
says "a table that is not there" 1 "ticc: --table: $T/none" text --table "$T/none"
printf '# one\nsm_90a contract bf16 bf16 kk ~64 24 16 1 f32 columns -> gemm_wgmma 96x96\n' >"$T/bad"
says "a line that is none has its place" 1 "ticc: $T/bad:2: found \`gemm_wgmma\`, wanted a template for these operands on sm_90a:" text --table "$T/bad"

# what other templates a kernel can have, and how that shows in its text
cat >"$T/other" <<'END'
sm_90a contract bf16 bf16 kk ~1024 48 16 1 bf16 columns -> gemm_wgmma 128x256
sm_90a contract bf16 bf16 mm 48 16 ~1024 1 f32 plain -> gemm_mma 64x64 splits 2
sm_90a contract bf16 bf16 km ~1024 16 48 1 f32 plain -> gemm_mma 128x128
sm_90a attention 16 16 8 8 0 -> 2 warps 2 blocks
sm_90a attention_bwd 16 16 8 8 0 -> 3 warps 1 blocks
sm_80 contract bf16 bf16 kk ~1024 48 16 1 bf16 columns -> gemm_mma 128x128
END
text >"$T/rules" && text --table "$T/other" >"$T/steered"
tiles() { awk '/^#define (KERNEL|SPLITS|TILE_M|TILE_N|WARPS|AT_BLOCKS) |^#if TC_HOPPER/ { print }' "$T/$1"; }
tiles rules >"$T/from"
shows() { tiles steered | diff "$T/from" - | grep -c "^$1\$"; }        # lines that come (>) or go (<)
check "a table steers what sm_90a is given" eval '[ "$(shows "> #define TILE_N 256")" = 1 ] && [ "$(shows "> #define SPLITS 2")" = 1 ] && [ "$(shows "< #define SPLITS 64")" = 1 ]'
check "and what all others are" eval '[ "$(shows "> #define TILE_M 128")" = 2 ]'
check "and attention" eval '[ "$(shows "> #define WARPS 2")" = 2 ] && [ "$(shows "> #define AT_BLOCKS 1")" = 1 ]'
sed -i 's/2 warps 2 blocks/4 warps 2 blocks wgmma/; s/3 warps 1 blocks/4 warps 1 blocks wgmma/' "$T/other"
check "and attention by wgmma, on sm_90a alone" eval 'text --table "$T/other" >"$T/wgmma" && [ "$(grep -c "^#define AW_SCORES tc_wgmma_16_rk" "$T/wgmma")" = 2 ] && grep -q "^#define AW_SCORES tc_wgmma_64_kk" "$T/wgmma" && ! grep -q AW_SCORES "$T/rules"'
grep contract "$T/other" >"$T/contract"
batch() { text -D train.batch=$1 >"$T/rules" && text -D train.batch=$1 --table "$T/contract" >"$T/steered" && ! cmp -s "$T/rules" "$T/steered"; }
check "as far as a factor of 16 of the batch" eval 'batch 1024 && ! batch 1025 && batch 4 && ! batch 3'
text >"$T/rules"

[ -e "$B/libemu_cuda.so" ] && [ -e "$B/libemu_nvrtc.so" ] || { skip "an emulated GPU" "\`make emu\` builds it"; finish; exit; }
says "tables are of the card that is here" 1 "--tune: the GPU here is sm_90a (emulated GPU" emulated "$TICC" --tune $model --target cuda:sm_80 --table "$T/none"
says "nor is a broken table written over" 1 "ticc: $T/bad:2: found" emulated "$TICC" --tune $model --table "$T/bad"
says "measures" 0 "kernels measured on emulated GPU" emulated "$TICC" --tune $model --rounds 1 --target cuda:sm_90a --table "$T/tuned"
check "every kernel's fastest, marked, is the table's" eval '[ "$(grep -c "^sm_90a" "$T/tuned")" -ge 9 ] && [ "$(grep -c "^  \*" "$T/says.out")" = "$(grep -c "^sm_90a" "$T/says.out")" ]'
check "what the rules split for large batches is not split for this one" grep -q "mm      48      16   ~1024 1 f32  plain   -> gemm_.* splits 1$" "$T/tuned"
check "attention by wgmma is tried" grep -q "^  . 4 warps 1 blocks wgmma " "$T/says.out"
check "attention too" grep -qE "^sm_90a attention_bwd 16 16 8 8 0 -> . warps . blocks( wgmma)?$" "$T/tuned"
cp "$T/tuned" "$T/before"
{ echo "# by hand"; echo; echo "sm_80  attention 99 99 8 8 0 -> 2 warps 2 blocks"; grep -v attention_bwd "$T/before" | sed 's/splits 1$/splits 1 # once/' | tac; } >"$T/tuned"
says "measures into a table that is there" 0 "kernels measured" emulated "$TICC" --tune $model --rounds 1 --table "$T/tuned"
check "lines it measures are replaced, others and comments kept, all sorted: the same bytes" eval '{ echo "# by hand"; echo; echo "sm_80  attention 99 99 8 8 0 -> 2 warps 2 blocks"; cat "$T/before"; } | diff - "$T/tuned"'
check "the table steers the compiler" eval 'text --table "$T/tuned" >"$T/steered" && ! cmp -s "$T/rules" "$T/steered" && [ "$(shows "< #define SPLITS 64")" = 1 ]'

if "$TICC" $model --target cpu,cuda --table "$T/other" -o "$T/program"; then
    says "with the other templates every kernel, and whole steps, are the CPU's" 0 "is equal bit by bit" emulated "$T/program" check --batch 5 --steps 1
else
    not_ok "a program with a table compiles"
fi
# products of each sample by itself, which only templates without the copy engine make
sed 's/let h = attention(.*$/let h = embed(tokens, 200, 16) as attn/
     s/z\[b, d\] = mean\[t\](h\[b, t, d\])/pairs[b, d, e: 16] = mean[t](h[b, t, d] * h[b, t, e])\n        z[b, d] = mean[e](tanh(pairs[b, d, e]))/' $model >"$T/pairs.tic"
says "all templates compute every sample of a batch" 0 "kernels measured" emulated "$TICC" --tune "$T/pairs.tic" --rounds 1 --batch 5 --table "$T/pairs"
check "of products of each sample too" grep -q "^sm_90a contract bf16 bf16 mm *16 *16 *16 ~5 " "$T/pairs"
finish
