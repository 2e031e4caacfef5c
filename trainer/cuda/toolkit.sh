#!/bin/sh
# Finds or fetches the CUDA toolkit, and prints the variables of a shell that builds with it:
#
#     eval "$(trainer/cuda/toolkit.sh)"
#
# A toolkit that is there is taken: CUDA_HOME, else nvcc on PATH, else /usr/local/cuda. Where there is none, NVIDIA's
# wheels are unpacked by pip into FOLDER (first argument; cuda/ in cargo's target folder, 1.2 GB), no root rights and no
# GPU needed. They come under NVIDIA's CUDA licence. Running it again checks what is there and does nothing.
set -eu

# nvcc 13.0 is what driver 580 takes: PTX of a newer one is refused there.
wheels='nvidia-cuda-nvcc==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-nvvm==13.0.88 nvidia-cuda-runtime==13.0.96
nvidia-cuda-cccl==13.0.85 nvidia-cuda-nvrtc==13.0.88 nvidia-curand==10.4.0.35 nvidia-cublas==13.0.2.14
nvidia-cuda-nvdisasm==13.5.37'
# What links and compiles need of them, below nvidia/cu13.
needed='bin/nvcc bin/ptxas bin/cudafe++ bin/fatbinary nvvm/bin/cicc include/cuda_runtime.h include/cuda_fp16.h
include/crt/host_runtime.h lib/libcudart_static.a lib64/libcublas.so lib64/libcublasLt.so lib64/libcurand.so lib64/libnvrtc.so'
room_kb=3000000

say() { echo "toolkit.sh: $*" >&2; }
fail() { say "$*"; exit 1; }

# Single quotes around $1, for the shell that evaluates what is printed.
quote() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/'\\\\''/g")"; }

print_environment() { # toolkit's folder
  "$1/bin/nvcc" --version >/dev/null 2>&1 || fail "expected $1/bin/nvcc to run on this machine, and it does not"
  printf 'export CUDA_HOME=%s\n' "$(quote "$1")"
  printf 'export PATH=%s:"$PATH"\n' "$(quote "$1/bin")"
  # Machine code of candle's kernels is half of the program: half of that, compressed.
  printf 'export NVCC_APPEND_FLAGS=%s\n' "$(quote "${NVCC_APPEND_FLAGS:---compress-mode=size}")"
  # Candle's kernels become PTX for 8.0, which the driver compiles for Ampere, Ada and Hopper alike.
  printf 'export CUDA_COMPUTE_CAP=%s\n' "$(quote "${CUDA_COMPUTE_CAP:-80}")"
}

# The committed PTX is of CUDA 13, and an older ptxas refuses it.
check_version() { # path of nvcc
  release=$("$1" --version | sed -n 's/.*release \([0-9]*\)\..*/\1/p')
  [ "${release:-0}" -ge 13 ] ||
    fail "expected a toolkit of CUDA 13 or later, found ${release:-none} at $1: install one, set CUDA_HOME to it, or take $1 off PATH to have one downloaded"
}

is_complete() { # toolkit's folder
  for file in $needed; do [ -e "$1/$file" ] || return 1; done
}

command -v g++ >/dev/null 2>&1 || fail "expected g++, which nvcc calls, and found none: install a C++ compiler"

if [ -n "${CUDA_HOME:-}" ]; then
  [ -x "$CUDA_HOME/bin/nvcc" ] || fail "CUDA_HOME is $CUDA_HOME, where there is no bin/nvcc: correct it or unset it"
  check_version "$CUDA_HOME/bin/nvcc"
  say "taking the toolkit of CUDA_HOME, $CUDA_HOME"
  print_environment "$CUDA_HOME"
  exit 0
fi
if compiler=$(command -v nvcc) || { compiler=/usr/local/cuda/bin/nvcc && [ -x "$compiler" ]; }; then
  home=$(dirname "$(dirname "$(readlink -f "$compiler")")")
  check_version "$compiler"
  say "taking the toolkit that is installed, $home"
  print_environment "$home"
  exit 0
fi

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] ||
  fail "the wheels are for Linux on x86-64 and this is $(uname -sm): install NVIDIA's CUDA toolkit and set CUDA_HOME"

root=$(cd "$(dirname "$0")/../.." && pwd)
folder=${1:-}
if [ -z "$folder" ]; then
  target=$(cd "$root" && cargo metadata --no-deps --format-version 1 | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
  folder=${target:-$root/target}/cuda
fi
mkdir -p "$(dirname "$folder")"
folder=$(cd "$(dirname "$folder")" && pwd)/$(basename "$folder")
home=$folder/nvidia/cu13

if [ "$(cat "$folder/wheels.txt" 2>/dev/null)" = "$wheels" ] && is_complete "$home"; then
  say "the toolkit is there, $home"
  print_environment "$home"
  exit 0
fi
if [ -e "$folder" ] && [ ! -e "$folder/wheels.txt" ] && [ -n "$(ls -A "$folder")" ]; then
  fail "$folder is there and is not this script's: name another folder or remove it"
fi

if python3 -m pip --version >/dev/null 2>&1; then pip='python3 -m pip'
elif pip3 --version >/dev/null 2>&1; then pip=pip3
else fail "expected a CUDA toolkit (CUDA_HOME, or nvcc on PATH) or pip to fetch one with, and found neither: install python3-pip"
fi
free_kb=$(df -Pk "$(dirname "$folder")" | awk 'NR == 2 { print $4 }')
[ "$free_kb" -ge "$room_kb" ] ||
  fail "expected $((room_kb / 1000000)) GB free for the toolkit in $(dirname "$folder"), found $((free_kb / 1000)) MB: free some or name another folder"

# Beside its place and then renamed, so that an interrupted run leaves no half toolkit.
partial=$(mktemp -d "$folder.partial.XXXXXX")
trap 'rm -rf "$partial"' EXIT
trap 'exit 130' INT TERM
say "fetching the CUDA 13.0 toolkit with pip into $folder (1.2 GB)"
# shellcheck disable=SC2086 # both are lists of words
PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1 $pip install --quiet --no-deps --only-binary=:all: \
  --target "$partial" $wheels >&2 || fail "pip could not install the wheels (its reason is above); run this again"

# The wheels have versioned names only; the linker and candle look for plain ones, in lib64.
ln -s lib "$partial/nvidia/cu13/lib64"
for pair in cudart:13 cublas:13 cublasLt:13 curand:10 nvrtc:13; do
  ln -sf "lib${pair%%:*}.so.${pair##*:}" "$partial/nvidia/cu13/lib/lib${pair%%:*}.so"
done
is_complete "$partial/nvidia/cu13" || fail "expected $needed in the wheels, and some are missing in $partial"
printf '%s\n' "$wheels" > "$partial/wheels.txt"
chmod 755 "$partial"
rm -rf "$folder"
mv -T "$partial" "$folder"
print_environment "$home"
