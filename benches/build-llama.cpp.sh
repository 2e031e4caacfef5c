#!/usr/bin/env bash
# Builds llama-bench with native instructions from the PyPI source package llama-cpp-python into DIR.
set -euo pipefail
dir=$(realpath -m "${1:?usage: build-llama.cpp.sh DIR}")
mkdir -p "$dir" && cd "$dir"
python3 -m venv venv
venv/bin/pip install -q cmake ninja scikit-build-core flit-core
venv/bin/pip download -q --no-deps --no-binary :all: --no-build-isolation -d source llama-cpp-python==0.3.36
tar -xf source/llama_cpp_python-*.tar.gz -C source
cd source/llama_cpp_python-*/vendor/llama.cpp
PATH="$dir/venv/bin:$PATH" cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
  -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF -DBUILD_SHARED_LIBS=OFF
PATH="$dir/venv/bin:$PATH" ninja -C build llama-bench
cp build/bin/llama-bench "$dir/"
echo "built $dir/llama-bench"
