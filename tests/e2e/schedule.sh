#!/usr/bin/env bash
# schedule.sh -- what each strategy plans, in the notation of the paper: T = 4 steps whose data are equal, D = 1200 pairs of each
# year in a step of 2400; and what is refused before anything is compiled.
. tests/e2e/lib.sh
plan() { "$TICC" tests/e2e/micro.tic --emit=schedule -D 'continual.steps=[2014, 2015, 2016, 2017]' -D train.samples=2400 "$@" >"$T/plan" 2>&1; }
# last STRATEGY WEIGHTS TEXT: the fourth step's row
last() {
    plan -D "continual.strategy=$1" || { not_ok "$1" "$(cat "$T/plan")"; return; }
    local row; row=$(grep '^2017 ' "$T/plan" | tr -s ' ')
    case $row in "2017 $2"*" $3") ok "$1: $3" ;; *) not_ok "$1: $3" "$row" ;; esac
}
total() {          # STRATEGY SHARE-OF-ORACLE
    plan -D "continual.strategy=$1"
    grep -q "^all .* $2 of an oracle's" "$T/plan" && ok "$1: $2 of the oracle's compute" || not_ok "$1: $2 of the oracle's compute" "$(tail -n 1 "$T/plan")"
}
# shares of 2400 draws: 100 % = 2 D; Exp replays D/4, D/4, D/2 = 300, 300, 600; Equal 400 each
last sequential "2400 300 " "2016 0.0002 > 0.001 @4..5 > 2.84e-08 2017 100 %"
last cumulative_all "2400 300 " "2014 25 %, 2015 25 %, 2016 25 %, 2017 25 %"
last cumulative_exp "2400 300 " "2014 12.5 %, 2015 12.5 %, 2016 25 %, 2017 50 %"
last cumulative_equal "2400 300 " "2014 16.7 %, 2015 16.7 %, 2016 16.7 %, 2017 50 %"
last restart "2400 300 " "random 0.0002 > 0.001 @4..5 > 2.84e-08 2014 25 %, 2015 25 %, 2016 25 %, 2017 25 %"
last oracle "9600 1200 " "2014 25 %, 2015 25 %, 2016 25 %, 2017 25 %"
last "patching(alpha = 0.5)" "2400 300 " "2017 100 %"
last "lwf(lambda = 1)" "2400 300 " "2017 100 %"
last "rewind(peak = 1e-3)" "2400 300 " "2016 0.001 @0..240 > 1.67e-05 2014 25 %, 2015 25 %, 2016 25 %, 2017 25 %"
plan -D continual.strategy=cumulative_exp
check "cumulative_exp, third step: D/2 of each earlier" grep -q '^2016 .*2014 25 %, 2015 25 %, 2016 50 %$' "$T/plan"
check "a first step draws from itself" grep -q '^2014 .* random .*2014 100 %$' "$T/plan"
plan -D continual.strategy=oracle
check "the oracle's budgets are 1, 2, 3, 4 C" sh -c "awk '/^201/ { print \$2 }' '$T/plan' | tr '\n' ' ' | grep -qx '2400 4800 7200 9600 '"
for s in sequential cumulative_all cumulative_exp cumulative_equal restart "patching(alpha = 0.5)" "rewind(peak = 1e-3)"; do total "$s" 0.4; done
total oracle 1
total "lwf(lambda = 1)" 0.48
"$TICC" models/vit_b16.tic --emit=schedule >"$T/plan"
check "ViT-B/16: 20,543,223,808 forward MACs a pair, 3.787e17 a step" sh -c "grep -q ' 20543223808 forward MACs' '$T/plan' && grep -q '^2022 .* 4500 *3.787e+17' '$T/plan'"

# learning rates: warm-up in the first step alone, constant, cooled down
edit() { sed "s/lr = cosine(peak = 1e-3, warmup = 5)/lr = $1/" tests/e2e/micro.tic >"$T/e.tic"; "$TICC" "$T/e.tic" --emit=schedule >"$T/plan" 2>&1; }
rows() { awk '/^201/ { $1 = $2 = $3 = $4 = $5 = $6 = ""; print }' "$T/plan" | sed 's/^ *//; s/ 2014.*//; s/ 2018.*//' | tr '\n' ';'; }
same() { [ "$(rows)" = "$2" ] && ok "$1" || not_ok "$1" "$(rows)" "$(cat "$T/plan")"; }
edit 'cosine(peak = 1e-3, warmup = if t == 0 then 5 else 0)'; same "cosine, warm-up in the first step alone" "0.0002 > 0.001 @4..5 > 3.94e-06;0.001 > 2.74e-06;0.001 > 2.74e-06;"
edit 'constant(peak = 1e-3, warmup = 0)'; same "constant" "0.001;0.001;0.001;"
edit 'constant_cooldown(peak = 1e-3, warmup = 0, cooldown = 10)'; same "constant, cooled down in each step" "0.001 @0..20 > 0.0001;0.001 @0..20 > 0.0001;0.001 @0..20 > 0.0001;"

# wrong strategies: a message at the place, nothing is made
wrong() {          # NAME TEXT STRATEGY-BODY
    { cat tests/e2e/micro.tic; printf 'strategy own(a = 1) {\n%b\n}\n' "$3"; } >"$T/w.tic"
    says "$1" 1 "$2" "$TICC" "$T/w.tic" --check -D continual.strategy=own
}
now='mix(y, t) = if y == t then 1 else 0'
wrong "a negative share" '`mix` is -1 for y = 0, t = 1; a share is finite and 0 or more' 'mix(y, t) = if y == t then 1 else -1'
wrong "shares that are all 0" 'all shares of `mix` are 0 for t = 1' 'mix(y, t) = if t == 0 then 1 else 0'
wrong "no mix" 'does not say what a step draws' 'init = previous'
wrong "a budget of nothing" '`budget` is 0 for t = 0' "$now\nbudget(t) = t * base"
wrong "an unknown entry" 'a strategy has no entry `mixture`' 'mixture(y, t) = 1'
wrong "init that is none" '`init` is `previous`, `random` or `rewind`, and this is `fresh`' "$now\ninit = fresh"
wrong "rewinding to nothing" 'rewinds, and does not say what a step keeps' "$now\ninit = rewind"
wrong "keeping without rewinding" '`keep` is for `init = rewind`' "$now\nkeep = 0.5"
wrong "keeping more than there is" '`keep` is a share of a step, between 0 and 1, and this is 1.5' "$now\ninit = rewind\nkeep = 1.5"
wrong "rewinding with an update of weights" 'this strategy rewinds to others' "$now\ninit = rewind\nkeep = 0.5\nafter(w, v) = w"
wrong "a pair that costs less" '`cost` is the compute of a pair against a plain one, from 1 to less than 1000' "$now\ncost = 0.5"
wrong "a learning rate of other arguments" 'this entry of a strategy is written `lr(step, total, t) = ...`' "$now\nlr(step) = 1"
says "carrying something else" 1 '`carry` is `weights` or `weights_and_moments`, and this is `all`' "$TICC" tests/e2e/micro.tic --check -D continual.carry=all
finish
