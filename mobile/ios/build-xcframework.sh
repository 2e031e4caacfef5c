#!/usr/bin/env bash
# Builds build/ThimbleFFI.xcframework for iPhones and the simulator, and what generate.sh writes. Needs a Mac with Xcode
# and rustup.
#
#   ./build-xcframework.sh [--macos] [--no-x86] [--debug] [--dry-run]
#
#   --macos    also for macOS on Apple silicon, so that `swift test` runs on the Mac itself
#   --no-x86   no simulator for Intel Macs
#   --debug    without optimization (slow answers)
#   --dry-run  prints the commands instead of running them
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# The oldest systems that the app runs on, as in Package.swift.
export IPHONEOS_DEPLOYMENT_TARGET=17.0 MACOSX_DEPLOYMENT_TARGET=14.0

macos='' x86=yes profile=mobile dry=''
for option in "$@"; do
    case "$option" in
    --macos) macos=yes ;;
    --no-x86) x86='' ;;
    --debug) profile=debug ;;
    --dry-run) dry=yes ;;
    *)
        sed -n '2,10s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done

do_it() {
    if [ -n "$dry" ]; then
        # Paths as a reader of the script knows them.
        local line=$*
        line=${line//"$target"/TARGET}
        printf '%s\n' "${line//"$here"/IOS}"
    else
        "$@"
    fi
}

target=${CARGO_TARGET_DIR:-$here/../../target}
framework="$here/build/ThimbleFFI.xcframework"
headers="$here/build/headers"
cargo_options=(--lib -p thimble-ffi --manifest-path "$here/../../Cargo.toml")
# The workspace's profile for apps: small, and fast where it multiplies.
[ "$profile" = debug ] || cargo_options+=(--profile "$profile")
if [ -z "$dry" ]; then
    for tool in cargo rustup lipo xcodebuild; do
        command -v "$tool" >/dev/null || { echo "build-xcframework.sh: $tool is missing: it takes a Mac with Xcode and rustup" >&2; exit 1; }
    done
fi

# A static library of one platform.
library() { echo "$target/$1/$profile/libthimble_ffi.a"; }
compile() {
    do_it rustup target add "$1"
    # A static library alone: the shared one of an app would have to be signed and embedded.
    do_it cargo rustc "${cargo_options[@]}" --target "$1" --crate-type staticlib
}

compile aarch64-apple-ios
compile aarch64-apple-ios-sim
simulator=$(library aarch64-apple-ios-sim)
if [ -n "$x86" ]; then
    compile x86_64-apple-ios
    # One file for both kinds of Mac: an XCFramework has one library per platform.
    simulator="$here/build/simulator/libthimble_ffi.a"
    do_it mkdir -p "$here/build/simulator"
    do_it lipo -create "$(library aarch64-apple-ios-sim)" "$(library x86_64-apple-ios)" -output "$simulator"
fi
[ -z "$macos" ] || compile aarch64-apple-darwin

do_it "$here/generate.sh"
# In a folder with the module's name, so that it does not collide with another framework's module map.
do_it rm -rf "$headers" "$framework"
do_it mkdir -p "$headers/thimble_ffiFFI"
do_it cp "$here/build/ffi/thimble_ffiFFI.h" "$here/build/ffi/module.modulemap" "$headers/thimble_ffiFFI/"
parts=(-library "$(library aarch64-apple-ios)" -headers "$headers" -library "$simulator" -headers "$headers")
[ -z "$macos" ] || parts+=(-library "$(library aarch64-apple-darwin)" -headers "$headers")
do_it xcodebuild -create-xcframework "${parts[@]}" -output "$framework"
[ -n "$dry" ] || echo "built $framework"
