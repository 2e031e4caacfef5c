#!/usr/bin/env bash
# Writes what the package takes from the Rust crate: the Swift file, the C header, the module map, and on Linux the
# library itself. Run it again after the crate has changed.
#
#   ./generate.sh            builds thimble-ffi for this machine with cargo and takes that
#   ./generate.sh LIBRARY [UNIFFI-BINDGEN]
#                            takes a library and the command that reads it (beside it unless given)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

case "$(uname -s)" in
Darwin) suffix=dylib ;;
*) suffix=so ;;
esac

if [ $# -eq 0 ]; then
    (cd "$here/../.." && cargo build --release -p thimble-ffi --features bindgen --bin uniffi-bindgen --lib)
    target="${CARGO_TARGET_DIR:-$here/../../target}/release"
    library="$target/libthimble_ffi.$suffix"
    bindgen="$target/uniffi-bindgen"
else
    library=$(realpath "$1")
    bindgen=$(realpath "${2:-$(dirname "$library")/uniffi-bindgen}")
fi
for file in "$library" "$bindgen"; do
    [ -e "$file" ] || { echo "generate.sh: there is no $file: build thimble-ffi with its feature bindgen" >&2; exit 1; }
done

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
# Where there is no cargo the command cannot ask it for the crate's settings, and needs none.
(cd "$here/../.." && "$bindgen" generate --library "$library" --language swift --no-format --out-dir "$fresh") ||
    { echo "generate.sh: $bindgen cannot read $library" >&2; exit 1; }

mkdir -p "$here/build/ffi" "$here/Sources/ThimbleFFI"
# A file that did not change keeps its time, so that nothing is compiled again.
put() { cmp -s "$1" "$2" || cp "$1" "$2"; }
put "$fresh/thimble_ffi.swift" "$here/Sources/ThimbleFFI/thimble_ffi.swift"
put "$fresh/thimble_ffiFFI.h" "$here/build/ffi/thimble_ffiFFI.h"
put "$fresh/thimble_ffiFFI.modulemap" "$here/build/ffi/module.modulemap"
if [ "$suffix" = so ]; then
    mkdir -p "$here/build/lib"
    put "$library" "$here/build/lib/libthimble_ffi.so"
fi
echo "wrote Sources/ThimbleFFI/thimble_ffi.swift and build/ffi from $library"
