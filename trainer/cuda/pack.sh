#!/bin/sh
# Makes the folder that check.sh runs in on a machine with a GPU: the binary, the script, its inputs.
#
#     trainer/cuda/pack.sh FOLDER [BINARY]
#
# BINARY is target/release/thimble-train unless given, as trainer/cuda/build.sh makes it. The folder must be new or one that
# this script made. Copy it there and run ./check.sh in it.
set -eu
most_mb=60
fail() { echo "pack.sh: $*" >&2; exit 1; }

case $# in
  1 | 2) ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "$0" >&2; exit 2 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
folder=$1
binary=${2:-}
if [ -z "$binary" ]; then
  target=$(cd "$root" && cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  binary=${target:-$root/target}/release/thimble-train
fi
[ -x "$binary" ] || fail "expected the program $binary, found none: build it with trainer/cuda/build.sh"
if [ -e "$folder" ] && [ ! -e "$folder/check.sh" ] && [ -n "$(ls -A "$folder")" ]; then
  fail "$folder is there and is not this script's: name another folder or remove it"
fi

mkdir -p "$folder/golden/bf16"
cp "$binary" "$folder/thimble-train"
# Symbols are a third of the file and say nothing on another machine.
if command -v strip >/dev/null 2>&1; then strip "$folder/thimble-train"; fi
cp "$here/check.sh" "$root/benches/train_pytorch.py" "$folder/"
for file in config.json model.safetensors gradients.safetensors steps.json after10.safetensors \
  bf16/config.json bf16/model.safetensors bf16/steps.json bf16/update-f32.safetensors bf16/update-bf16.safetensors; do
  cp "$root/tests/golden/train/$file" "$folder/golden/$file"
done

size=$(du -sk "$folder" | cut -f 1)
[ "$size" -le $((most_mb * 1000)) ] || fail "expected at most $most_mb MB in $folder, found $((size / 1000)) MB"
echo "$folder: $((size / 1000)) MB; copy it to the machine with the GPU and run ./check.sh there"
