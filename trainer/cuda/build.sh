#!/bin/sh
# Builds thimble-train with CUDA, on a machine with or without a GPU:
#
#     trainer/cuda/build.sh [arguments of cargo build]
#
# It takes the CUDA toolkit that is there or fetches one (toolkit.sh), and about 11 minutes of processor time the first
# time. The binary starts with and without a GPU: it opens the driver and cuBLAS when it needs them, and says what it found.
# CUDA_COMPUTE_CAP (80 unless set) is the oldest GPU it is for: 75 for Turing, 80 for Ampere and newer.
set -eu
here=$(cd "$(dirname "$0")" && pwd)

environment=$("$here/toolkit.sh")
eval "$environment"

cd "$here/../.."
cargo build --release -p thimble-trainer --features cuda "$@"

target=$(cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
binary=$target/release/thimble-train
[ -x "$binary" ] || exit 0 # the arguments asked for another profile, target or product

# The point of the lazy archives: nothing of CUDA is asked for at start.
if command -v readelf >/dev/null 2>&1; then
  if wanted=$(readelf -d "$binary" | grep -oE 'lib(cu|nvrtc)[A-Za-z]*\.so[.0-9]*'); then
    echo "build.sh: expected a binary that starts without CUDA's libraries, and it needs" $wanted >&2
    exit 1
  fi
fi
echo "$binary: $(($(wc -c < "$binary") / 1000000)) MB"
"$binary" device
