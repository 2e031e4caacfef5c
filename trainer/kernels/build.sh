#!/bin/sh
# Compiles the CUDA kernels:
#
#     trainer/kernels/build.sh [--update]
#
# and writes ptx/: the PTX, tables of resources and parameters, hashes of the sources. The toolkit is found or fetched by
# trainer/cuda/toolkit.sh; python3 is needed too. All machine code is made of this one PTX (trainer/build/machine_code.rs), the one
# that the interpreter's tests run. Registers, shared memory and occupancy are a golden table: where it would change, the script
# shows how and fails, unless it is called with --update.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
architectures='sm_80 sm_89 sm_90a'

fail() { echo "build.sh: $*" >&2; exit 1; }

update=${1:-}
[ -z "$update" ] || [ "$update" = --update ] || fail "expected --update or nothing, found '$update'"

environment=$("$here/../cuda/toolkit.sh")
eval "$environment"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

nvcc -std=c++17 -O3 -arch=compute_80 -ptx -o "$work/all.ptx" "$here/kernels.cu"
# Comments say nothing that the code does not, but for the compiler's version.
sed -E '/^\/\/ Cuda compilation tools/b; s,[[:space:]]*//.*,,; /^[[:space:]]*$/d' "$work/all.ptx" > "$work/kernels.ptx"

for architecture in $architectures; do
  ptxas -arch="$architecture" -v -o "$work/$architecture.cubin" "$work/kernels.ptx" 2> "$work/$architecture.log" ||
    { cat "$work/$architecture.log" >&2; fail "ptxas refused the PTX for $architecture"; }
done

# shellcheck disable=SC2086 # a list of words
python3 "$here/tables.py" $update "$work" "$here/ptx" $architectures
set --
for architecture in $architectures; do set -- "$@" "$architecture=$work/$architecture.cubin"; done
# For the prediction (trainer/src/prediction).
python3 "$here/count_instructions.py" "$here/ptx/instructions.json" "$@"
cp "$work/kernels.ptx" "$here/ptx/kernels.ptx"
cd "$here"
# What the committed files are made of, and they: `sha256sum -c ptx/sources.sha256` says whether they are fresh.
# shellcheck disable=SC2035 # no name begins with a dash
LC_ALL=C sha256sum *.cu *.cuh build.sh tables.py count_instructions.py ptx/kernels.ptx ptx/*.json > "$work/sources.sha256"
mv "$work/sources.sha256" ptx/sources.sha256
echo "ptx/: $(grep -c '\.entry' ptx/kernels.ptx) kernels, $(wc -c < ptx/kernels.ptx) bytes of PTX"
