#!/bin/sh
# Lists the functions that cudarc binds, for the lazy archives: writes trainer/cuda/symbols/*.txt anew.
# Run it after candle moved to another cudarc; a function that is missing from a list is a link error.
# A line is a function's name and what it returns: status, text (a C string), number or nothing.
set -eu
cd "$(dirname "$0")"

manifest=$(cargo metadata --format-version 1 --manifest-path ../Cargo.toml --features cuda |
  grep -oE '"manifest_path":"[^"]*/cudarc-[0-9][^"/]*/Cargo.toml"' | head -n 1 | cut -d'"' -f4)
[ -n "$manifest" ] || { echo "symbols.sh: expected cudarc among the dependencies, found none" >&2; exit 1; }
source=$(dirname "$manifest")/src

list() { # module of cudarc, library, type that is a status
  grep -ohE '^ +(pub )?fn [A-Za-z0-9_]+\(.*;$' "$source/$1/sys/mod.rs" |
    sed -E -e 's/^ +(pub )?fn ([A-Za-z0-9_]+)\(.*\) -> ([^)]*);$/\2 \3/' -e 's/^ +(pub )?fn ([A-Za-z0-9_]+)\(.*\);$/\2 nothing/' \
      -e "s/ $3\$/ status/" -e 's/ \*const ::core::ffi::c_char$/ text/' -e 's/ usize$/ number/' |
    LC_ALL=C sort -u > "symbols/$2.txt.new"
  if odd=$(grep -vE '^[A-Za-z0-9_]+ (status|text|number|nothing)$' "symbols/$2.txt.new") || [ ! -s "symbols/$2.txt.new" ]; then
    echo "symbols.sh: expected functions that return a status, text, number or nothing in $1, found: $odd" >&2
    exit 1
  fi
  mv "symbols/$2.txt.new" "symbols/$2.txt"
  echo "$2: $(wc -l < "symbols/$2.txt") functions of $(basename "$(dirname "$manifest")")"
}
mkdir -p symbols
list driver cuda CUresult
list cublas cublas cublasStatus_t
list cublaslt cublasLt cublasStatus_t
list curand curand curandStatus_t
list nvrtc nvrtc nvrtcResult
