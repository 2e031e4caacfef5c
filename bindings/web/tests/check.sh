#!/usr/bin/env bash
# Builds the package and drives it in Chromium: check.sh MODEL.thimble [THIMBLE]. With the command `thimble`, its answers have
# to be the same. Installs what is missing: rustup's targets, wasm-bindgen at the crate's version, Debian's Chromium, npm's
# playwright-core, which is kept in WEB_TOOLS.
set -euo pipefail
cd "$(dirname "$0")/.."
model=$(realpath "$1")
tools="${WEB_TOOLS:-$PWD/target/tools}"
mkdir -p "$tools"
tools=$(realpath "$tools")
version=$(sed -n 's/^wasm-bindgen = "=\(.*\)"/\1/p' Cargo.toml)

rustup target add wasm32-unknown-unknown
packages=()
command -v "${CHROMIUM:-chromium}" >/dev/null || packages+=(chromium)
command -v npm >/dev/null || packages+=(nodejs npm)
if [ ${#packages[@]} -gt 0 ]; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
fi
export PATH="$tools/bin:$PATH"
if [ "$(wasm-bindgen --version 2>/dev/null)" != "wasm-bindgen $version" ]; then
    # Not optimized: it is built for longer than it runs.
    CARGO_PROFILE_RELEASE_OPT_LEVEL=0 CARGO_TARGET_DIR="$tools/target" \
        cargo install wasm-bindgen-cli --version "$version" --root "$tools"
fi
[ -d "$tools/node_modules/playwright-core" ] || npm install --silent --ignore-scripts --prefix "$tools" playwright-core
ln -sfn "$tools/node_modules" node_modules

cargo fmt --check
./build.sh
THIMBLE="${2:+$(realpath "$2")}" node tests/chat.mjs "$model"
