#!/usr/bin/env bash
# Rebuilds native/demo: prepares the shop, trains, evaluates on users the model never saw, and puts
# the bundle where the next build embeds it. About three minutes of training on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
tributary() { cargo run --quiet --release -p tributary --features gpu,train -- "$@"; }

tributary prepare shop --out target/demo/shop
tributary prepare shop --out target/demo/fresh --users-seed 2
tributary train benchmarks/demo.toml --out target/demo/bundle
for users in shop fresh; do
  tributary evaluate --bundle target/demo/bundle --data "target/demo/$users" \
    --target-behaviour buy --candidates 11 --baselines
done
for file in bundle.json config.json model.safetensors catalogue.jsonl; do
  cp "target/demo/bundle/$file" native/demo/
done
du -ch native/demo/* | tail -n 1
