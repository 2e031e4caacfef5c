#!/usr/bin/env bash
# Builds llama-bench, llama-quantize, llama-simple and llama-server with native instructions from the PyPI source package
# llama-cpp-python into DIR, and the Python module itself (DIR/venv/bin/python) on the same libraries.
# VULKAN=ON adds its Vulkan backend: it takes glslc, Vulkan's and SPIR-V's headers (glslc, libvulkan-dev, spirv-headers).
# AMX stays off: with it this version stops with an illegal instruction on quantized models.
set -euo pipefail
dir=$(realpath -m "${1:?usage: build-llama.cpp.sh DIR}")
mkdir -p "$dir" && cd "$dir"
python3 -m venv venv
export PATH="$dir/venv/bin:$PATH"
pip install -q cmake ninja scikit-build-core flit-core numpy typing-extensions jinja2 diskcache
pip download -q --no-deps --no-binary :all: --no-build-isolation -d source llama-cpp-python==0.3.36
tar -xf source/llama_cpp_python-*.tar.gz -C source
cd source/llama_cpp_python-*/vendor/llama.cpp
no_amx=()
if [ "$(uname -m)" = x86_64 ]; then
  off='-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'
  no_amx=("-DCMAKE_C_FLAGS=$off" "-DCMAKE_CXX_FLAGS=$off")
fi
cmake -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DCMAKE_INSTALL_RPATH='$ORIGIN' \
  -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON -DLLAMA_CURL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=ON -DLLAMA_BUILD_SERVER=ON \
  -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF \
  -DBUILD_SHARED_LIBS=ON -DGGML_VULKAN="${VULKAN:-OFF}" "${no_amx[@]}"
ninja -C build llama-bench llama-quantize llama-simple llama-server mtmd
rm -rf "$dir/bin" && cp -a build/bin "$dir/bin"
ln -sf bin/llama-bench bin/llama-quantize bin/llama-simple bin/llama-server "$dir/"
# The module without a second build: it loads the libraries above (LLAMA_CPP_LIB_PATH).
CMAKE_ARGS=-DLLAMA_BUILD=OFF pip install -q --no-deps --no-build-isolation "$dir"/source/llama_cpp_python-*.tar.gz
echo "built $dir/llama-bench, $dir/llama-quantize, $dir/llama-simple, $dir/llama-server and $dir/venv/bin/python (LLAMA_CPP_LIB_PATH=$dir/bin)"
