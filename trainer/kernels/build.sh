#!/bin/sh
# Compiles the CUDA kernels:
#
#     trainer/kernels/build.sh [--update]      ptx/: PTX, tables of resources and parameters, hashes of the sources
#     trainer/kernels/build.sh --binary FILE   the fat binary that is embedded, from the committed PTX
#
# The toolkit is found or fetched by trainer/cuda/toolkit.sh; the first form needs python3 too. All machine code is made of one
# PTX, ptx/kernels.ptx, the one that the interpreter's tests run. Registers, shared memory and occupancy are a golden table: where
# it would change, the script shows how and fails, unless it is called with --update.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
architectures='sm_80 sm_89 sm_90a'

fail() { echo "build.sh: $*" >&2; exit 1; }

update='' binary=''
case "${1:-}" in
  '') ;;
  --update) update=--update ;;
  --binary) binary=${2:?"expected a file after --binary"} ;;
  *) fail "expected --update or --binary FILE, found '$1'" ;;
esac

environment=$("$here/../cuda/toolkit.sh")
eval "$environment"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

if [ -z "$binary" ]; then
  nvcc -std=c++17 -O3 -arch=compute_80 -ptx -o "$work/kernels.ptx" "$here/kernels.cu"
  # The numbers of a compilation mean nothing to a reader.
  sed -i '/^\/\/ Compiler Build ID:/d' "$work/kernels.ptx"
  ptx=$work/kernels.ptx
else
  ptx=$here/ptx/kernels.ptx
fi

images=
for architecture in $architectures; do
  ptxas -arch="$architecture" -v -o "$work/$architecture.cubin" "$ptx" 2> "$work/$architecture.log" ||
    { cat "$work/$architecture.log" >&2; fail "ptxas refused the PTX for $architecture"; }
  images="$images --image3=kind=elf,sm=${architecture#sm_},file=$work/$architecture.cubin"
done

if [ -n "$binary" ]; then
  # PTX for GPUs that are newer than these architectures.
  # shellcheck disable=SC2086 # a list of words
  fatbinary -64 --create="$binary" $images --image3=kind=ptx,sm=80,file="$ptx"
  echo "$binary: $(wc -c < "$binary") bytes"
  exit 0
fi

# shellcheck disable=SC2086 # a list of words
python3 "$here/tables.py" $update "$work" "$here/ptx" $architectures
cp "$work/kernels.ptx" "$here/ptx/kernels.ptx"
cd "$here"
# What the committed files are made of, and they: `sha256sum -c ptx/sources.sha256` says whether they are fresh.
# shellcheck disable=SC2035 # no name begins with a dash
LC_ALL=C sha256sum *.cu *.cuh build.sh tables.py ptx/kernels.ptx ptx/parameters.json ptx/resources.json > "$work/sources.sha256"
mv "$work/sources.sha256" ptx/sources.sha256
echo "ptx/: $(grep -c '\.entry' ptx/kernels.ptx) kernels, $(wc -c < ptx/kernels.ptx) bytes of PTX"
