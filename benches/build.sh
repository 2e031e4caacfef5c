#!/usr/bin/env bash
# Claim: the first chat from a clean clone takes at most 300 s of processor time, the registry's downloads not counted.
#
#     benches/build.sh [CHECKOUT]      # run it on two checkouts to compare them
#
# Builds from nothing, in a temporary folder, and prints the processor time (user and system): of the README's first command up
# to its first answer, with the hub out of reach; of `cargo build --workspace`; and of `cargo test --workspace --no-run`. Run it
# on an otherwise idle machine: processor time grows with what shares the cores.
set -euo pipefail
cd "${1:-$(dirname "$0")/..}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export CARGO_TARGET_DIR=$folder/target CARGO_INCREMENTAL=0 THIMBLE_HOME=$folder/home HF_ENDPOINT=http://127.0.0.1:9
TIMEFORMAT='%U %S %R'

measure() { # NAME COMMAND...
    local user system real
    { time "${@:2}" >"$folder/out" 2>"$folder/log"; } 2>"$folder/time" || { cat "$folder/log"; exit 1; }
    read -r user system real <"$folder/time"
    awk -v name="$1" -v user="$user" -v system="$system" -v real="$real" \
        'BEGIN { printf "%-44s %4.0f s of processor time, %4.0f s\n", name, user + system, real }'
}
first_chat() { cargo run --release -- chat --temperature 0 <<<"What is the capital of France?"; }

cargo fetch --quiet
measure "first chat" first_chat
cat "$folder/out"
ls -l "$CARGO_TARGET_DIR/release/thimble" | awk '{ printf "%-44s %.1f MB\n", "the command", $5 / 1e6 }'
rm -rf "$CARGO_TARGET_DIR"
measure "cargo build --workspace" cargo build --workspace
rm -rf "$CARGO_TARGET_DIR"
measure "cargo test --workspace --no-run" cargo test --workspace --no-run
