#!/usr/bin/env bash
# What each part of TMF is worth on the shop: the levels of the paper's Table 3 over three seeds, then
# the whole without one modality, and with attention to later items too (`bidirectional`). Needs the folders
# of the stages before `language model and fusion` in tmf_stages.toml, and
# `prepare shop --users-seed 2 --out target/shop2`, the same for 15.
#
#   benchmarks/tmf_ablation.sh [1 2 3 modalities bidirectional]     what to run; all where silent
#
# What is there already is not trained again: target/ablation/NAME is a folder that serves, NAME.DATA.json
# what `evaluate` said of it. Two may run side by side, each with parts of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
tributary=${TRIBUTARY:-target/release/tributary}
out=target/ablation
mkdir -p "$out"

# run NAME [SETTING...]
run() {
    local name=$1 setting settings=() data
    shift
    for setting in data.users=2000 training.eval_every=1000000 "$@"; do settings+=(--set "$setting"); done
    if [ ! -e "$out/$name/bundle.json" ]; then
        "$tributary" train benchmarks/tmf.toml "${settings[@]}" --out "$out/$name" 2> "$out/$name.log"
    fi
    for data in shop shop2 shop15; do
        if [ ! -s "$out/$name.$data.json" ]; then
            "$tributary" evaluate --bundle "$out/$name" --data "target/$data" --target-behaviour buy \
                --candidates 11 --json > "$out/$name.$data.json"
        fi
        echo "$name $data $(grep -o '"hit_rate@1": *[0-9.]*' "$out/$name.$data.json" | head -1)"
    done
}

for part in ${@:-1 2 3 modalities bidirectional}; do
    if [ "$part" = bidirectional ]; then
        # Without the history's pointers: whoever attends to later items has seen what they ask for.
        run bidirectional-1 fusion.causal=false loss.history=0.0
        run causal-1 loss.history=0.0
        continue
    fi
    if [ "$part" = modalities ]; then
        for seed in 1 2 3; do
            for modality in image text graph; do
                run "without-$modality-$seed" "training.seed=$seed" "tables.$modality="
            done
        done
        continue
    fi
    run "text-$part" "training.seed=$part" model.level=text
    run "behaviour-$part" "training.seed=$part" model.level=behaviour
    run "amsa-$part" "training.seed=$part" fusion.cma=false
    run "cma-$part" "training.seed=$part"
done
