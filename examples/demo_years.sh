#!/usr/bin/env bash
# demo_years.sh -- `make demo-years`: four strategies through the years 2014 to 2019, each model evaluated on every year, and the
# report that sets them side by side. About ten minutes on two cores; stopped and started again it goes on where it was.
set -eu
cd "$(dirname "$0")/.."
B=build/${MODE:-release} OUT=${OUT:-results/years} DATA=build/years
[ -d "$DATA/eval" ] || "$B/ticdata" synth --out "$DATA" --years 2014..2019 --samples-per-year 400 --eval-samples 60
mkdir -p "$OUT"
for year in 2014 2015 2016 2017 2018 2019; do
    printf 'tic/datacomp/retrieval/yearly/%d:\n  name: TiC-DataComp-Retrieval-Yearly-%d\n  main_metric: mean_recall@1\n' $year $year
done >"$OUT/tasklist.yml"
runs=()
for strategy in sequential cumulative_all cumulative_equal oracle; do
    "$B/ticc" models/vit_tiny.tic -o "build/train_$strategy" -D continual.strategy=$strategy \
        -D 'continual.steps=[2014..2016, 2017, 2018, 2019]' -D train.batch=32 -D 'train.samples=32 * 120'
    "build/train_$strategy" continual --data "$DATA" --out "$OUT" --name $strategy --tasks "$OUT/tasklist.yml" --log-every 10 "$@"
    runs+=("$OUT/$strategy")
done
build/train_oracle report "${runs[@]}" --out "$OUT"
build/train_oracle report "${runs[@]}" --text
