#!/usr/bin/env bash
# Checks the Swift side: scripts, generated files, syntax, and, where a Swift compiler is at hand, the package, its tests
# and the app's screens. From anywhere, on Linux.
#
#   check.sh [--threads]   --threads: the tests once more under ThreadSanitizer (of the Swift side)
#
#   THIMBLE_FFI          libthimble_ffi.so; otherwise that of cargo's debug build (cargo build -p thimble-ffi)
#   UNIFFI_BINDGEN       the command that reads it; otherwise beside the library
#   THIMBLE_MODEL        a .thimble file of SmolLM2-135M-Instruct; tests of the library skip without
#   THIMBLE              the thimble command, whose texts are compared; that comparison skips without
#   THIMBLE_SWIFT_ROOT   what `debian-swift.sh install` made; otherwise `swift` as the shell finds it
#   PYTHON               a Python with tree-sitter and tree-sitter-swift; otherwise a fresh one in build/venv
set -euo pipefail
threads=''
case "${1:-}" in
'') ;;
--threads) threads=yes ;;
*) sed -n '2,15s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
ios=$(cd "$(dirname "$0")" && pwd)
debug="${CARGO_TARGET_DIR:-$ios/../../target}/debug"
library=$(realpath -m "${THIMBLE_FFI:-$debug/libthimble_ffi.so}")
bindgen=$(realpath -m "${UNIFFI_BINDGEN:-$(dirname "$library")/uniffi-bindgen}")
[ -z "${THIMBLE_MODEL:-}" ] || THIMBLE_MODEL=$(realpath "$THIMBLE_MODEL")
[ -z "${THIMBLE_SWIFT_ROOT:-}" ] || THIMBLE_SWIFT_ROOT=$(realpath "$THIMBLE_SWIFT_ROOT")
cd "$ios"
mkdir -p build .build
skipped=()

scripts() {
    if command -v shellcheck >/dev/null; then
        shellcheck ./*.sh checks/*.sh
    else
        skipped+=("shellcheck is missing: the scripts were not checked")
    fi
    diff checks/expected/xcframework.txt <(./build-xcframework.sh --dry-run)
    diff checks/expected/xcframework-macos.txt <(./build-xcframework.sh --dry-run --macos --no-x86 --debug)
    if ./build-xcframework.sh --dry-run --nonsense 2>/dev/null; then
        echo "build-xcframework.sh takes an option that it does not know" >&2
        return 1
    fi
    echo "scripts: build-xcframework.sh plans what it is expected to"
}

ffi() { # the C side
    python3 checks/check.py modulemap build/ffi
    # Words of clang that other compilers do not know.
    echo "#include <thimble_ffiFFI.h>" | cc -fsyntax-only -Wall -Wextra -Werror -D_Nonnull= -D_Nullable= -I build/ffi -x c -
    local clang
    for clang in clang "${THIMBLE_SWIFT_ROOT:+in_swift clang}"; do
        command -v "${clang%% *}" >/dev/null || continue
        # A module as Swift's importer reads it: through the map.
        # shellcheck disable=SC2086 # the command may have a prefix
        echo '@import thimble_ffiFFI; uint32_t version(void) { return ffi_thimble_ffi_uniffi_contract_version(); }' |
            $clang -fsyntax-only -Wall -Werror -x objective-c -fmodules -fmodules-cache-path=.build/clang \
                -I build/ffi -
        echo "header: cc and $clang accept it, also as a module"
        break
    done
    python3 checks/check.py exports build/ffi/thimble_ffiFFI.h "$library"
}

syntax() {
    local python=${PYTHON:-build/venv/bin/python}
    if ! "$python" -c 'import tree_sitter, tree_sitter_swift' 2>/dev/null; then
        [ -z "${PYTHON:-}" ] || { echo "$PYTHON has no tree-sitter-swift" >&2; return 1; }
        python3 -m venv build/venv
        build/venv/bin/python -m pip install --quiet tree-sitter==0.26.0 tree-sitter-swift==0.7.4
    fi
    local files
    mapfile -t files < <(find Package.swift Sources Tests App checks -name '*.swift')
    "$python" checks/check.py syntax "${files[@]}"
}

in_swift() {
    if [ -n "${THIMBLE_SWIFT_ROOT:-}" ]; then
        THIMBLE_SWIFT_SHARES=${THIMBLE_MODEL:-} ./debian-swift.sh run "$THIMBLE_SWIFT_ROOT" "$@"
    else
        "$@"
    fi
}

quietly() { # a command whose output matters only if it fails
    "$@" >build/log 2>&1 || { cat build/log >&2; return 1; }
}

package() { # compiles everything, and runs the tests
    in_swift swift --version 2>&1 | head -n 1
    in_swift swift format lint --strict --recursive Package.swift Sources/Thimble Sources/ThimbleDownloads Sources/ThimbleChat \
        Tests App/Sources
    quietly in_swift swift build --build-tests -Xswiftc -warnings-as-errors
    echo "package: built without a warning, also about data races"
    in_swift bash checks/stubs.sh
    if [ -n "${THIMBLE_MODEL:-}" ] && [ -n "${THIMBLE:-}" ]; then
        THIMBLE_RUN_CHAT=$("$THIMBLE" run "$THIMBLE_MODEL" --chat --temperature 0 --repetition-penalty 1 --max-tokens 60 -p "Why is the sky blue?" 2>/dev/null)
        THIMBLE_RUN_TEXT=$("$THIMBLE" run "$THIMBLE_MODEL" --temperature 0 --max-tokens 40 -p "Once upon a time" 2>/dev/null)
        export THIMBLE_RUN_CHAT THIMBLE_RUN_TEXT
    else
        skipped+=("THIMBLE_MODEL or THIMBLE is missing: texts were not compared with the command's")
    fi
    quietly in_swift swift test --skip-build -Xswiftc -warnings-as-errors
    grep -E "skipped -|Executed" build/log | tail -n 1
    [ -n "${THIMBLE_MODEL:-}" ] || skipped+=("THIMBLE_MODEL names no model: tests of the library were skipped")
    # The language mode of Swift 6, in which a data race is an error: for apps that are written in it.
    quietly in_swift swift build --scratch-path .build/six -Xswiftc -swift-version -Xswiftc 6
    echo "package: also built in Swift 6 mode"
    if [ -n "$threads" ]; then
        TSAN_OPTIONS=halt_on_error=1 quietly in_swift swift test --sanitize=thread --scratch-path .build/threads
        grep Executed build/log | tail -n 1
        echo "package: no data race seen by ThreadSanitizer"
    fi
}

scripts
python3 checks/check.py project App/ThimbleApp.xcodeproj/project.pbxproj
python3 -c 'import plistlib, sys; plistlib.load(open(sys.argv[1], "rb"))' App/Resources/PrivacyInfo.xcprivacy
python3 checks/check.py readme README.md Tests/ThimbleTests/ReadmeTests.swift Tests/ThimbleDownloadsTests/ReadmeTests.swift
find App/Resources -name '*.json' -exec python3 -m json.tool {} /dev/null \;
if [ -e "$library" ] && [ -e "$bindgen" ]; then
    ./generate.sh "$library" "$bindgen"
    ffi
else
    skipped+=("$library or $bindgen is missing: nothing was generated, and no Swift compiled")
fi
syntax
if [ ! -e "$library" ]; then
    :
elif [ -n "${THIMBLE_SWIFT_ROOT:-}" ] || command -v swift >/dev/null; then
    package
else
    skipped+=("no Swift compiler: the package was not built (debian-swift.sh install FOLDER brings one)")
fi
for line in "${skipped[@]}"; do
    echo "skipped: $line"
    [ -z "${THIMBLE_SKIPPED:-}" ] || echo "swift: check.sh ($line)" >>"$THIMBLE_SKIPPED"
done
case ",${THIMBLE_REQUIRE:-}," in
    *,swift,* | *,all,*) [ ${#skipped[@]} -eq 0 ] || { echo "THIMBLE_REQUIRE names swift: nothing may be skipped" >&2; exit 1; } ;;
esac
echo "the Swift side is checked"
