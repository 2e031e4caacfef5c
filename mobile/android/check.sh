#!/bin/sh
# Compiles the Android library and app against the real framework and tests them on a JVM: no SDK, NDK or phone needed.
#
#     mobile/android/check.sh [maven arguments, such as -Dtest=LibraryTest]
#
# Needs a JDK 17, Maven, and Debian's `aapt` and `android-framework-res`, which are installed where they are missing and
# this is root. THIMBLE_FFI_LIB (libthimble_ffi.so), THIMBLE_BINDGEN (uniffi-bindgen), THIMBLE (thimble) and
# THIMBLE_MODEL (a model that answers messages) are built where they are not given.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
workspace=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$workspace/target}

for tool in aapt2:aapt mvn:maven javac:openjdk-17-jdk-headless; do
    if ! command -v "${tool%%:*}" >/dev/null; then missing="${missing:-} ${tool##*:}"; fi
done
framework=${ANDROID_FRAMEWORK:-/usr/share/android-framework-res/framework-res.apk}
if [ ! -e "$framework" ]; then missing="${missing:-} android-framework-res"; fi
if [ -n "${missing:-}" ]; then
    if [ "$(id -u)" != 0 ]; then
        echo "missing packages:$missing (Debian's names): install them" >&2
        exit 1
    fi
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y --no-install-recommends $missing
fi

cd "$workspace"
if [ -z "${THIMBLE_FFI_LIB:-}" ] || [ -z "${THIMBLE_BINDGEN:-}" ]; then
    cargo build --locked -p thimble-ffi --features bindgen
    THIMBLE_FFI_LIB=$target/debug/libthimble_ffi.so
    THIMBLE_BINDGEN=$target/debug/uniffi-bindgen
fi
if [ -z "${THIMBLE:-}" ]; then
    cargo build --locked -p thimble-cli
    THIMBLE=$target/debug/thimble
fi
if [ -z "${THIMBLE_MODEL:-}" ]; then
    # A model with random weights: what it says makes no sense, and is the same each time.
    THIMBLE_MODEL=$target/android-check.thimble
    cargo run --locked -p conformance --example tiny_model -- "$THIMBLE_MODEL"
fi
export THIMBLE_FFI_LIB THIMBLE_BINDGEN THIMBLE THIMBLE_MODEL ANDROID_FRAMEWORK="$framework"

mvn --batch-mode --quiet --file "$here/jvm-tests/pom.xml" test "$@"
echo "screenshots and view trees: $here/jvm-tests/target/screenshots"
