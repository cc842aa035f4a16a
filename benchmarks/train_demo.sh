#!/usr/bin/env bash
# Rebuilds native/demo, TMF in q8: the stages of tmf_stages.toml, quality on users no training has seen,
# and the bundle where the next build embeds it. 15 to 45 minutes on two cores.
set -euo pipefail
cd "$(dirname "$0")/.."
tributary() { cargo run --quiet --release -p tributary --features gpu,train -- "$@"; }

tributary pipeline benchmarks/tmf_stages.toml
tributary prepare shop --out target/shop2 --users-seed 2
for users in shop shop2; do
  tributary evaluate --bundle target/tmf_q8 --data "target/$users" \
    --target-behaviour buy --candidates 11 --baselines
done
cp target/tmf_q8/* native/demo/
cp target/tmf/run/curve.svg benchmarks/tmf_curve.svg
du -ch native/demo/* | tail -n 1
