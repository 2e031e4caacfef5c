#!/usr/bin/env bash
# Builds the npm package's modules into wasm/: one for 128-bit vectors, one for browsers without. Needs the target
# wasm32-unknown-unknown, and the command wasm-bindgen at the version that Cargo.toml names. With a variant's name, only that.
# `build.sh site` puts the demo and the package, built before, into site/, to be copied to any web server.
set -euo pipefail
cd "$(dirname "$0")"
target="${CARGO_TARGET_DIR:-$PWD/target}"
variant() { # NAME RUSTFLAGS
    RUSTFLAGS="$2" cargo build --release --locked --target wasm32-unknown-unknown
    wasm-bindgen --target web --no-typescript --remove-name-section --remove-producers-section --out-dir "wasm/$1" "$target/wasm32-unknown-unknown/release/thimble_web.wasm"
}
case "${1:-all}" in
    all) variant simd128 "-C target-feature=+simd128" && variant plain "" ;;
    simd128) variant simd128 "-C target-feature=+simd128" ;;
    plain) variant plain "" ;;
    site)
        rm -rf site && cp -r demo site && mkdir site/package && cp -r js wasm site/package
        ;;
    *) echo "no variant is called '$1': expected simd128, plain or site" >&2 && exit 2 ;;
esac
