# The gate's steps for apps, for .ci/run to source: `step`, CARGO_TARGET_DIR, THIMBLE_GGUF and the tools are its.

# Apps are compiled for these; a linker and a C library for them there is not.
mobile_targets=(aarch64-linux-android x86_64-linux-android aarch64-apple-ios aarch64-apple-ios-sim)

for_phones() {
    local target
    for target in "${mobile_targets[@]}"; do
        if rustup target add "$target" 2>/dev/null; then
            cargo check -p thimble-ffi --target "$target"
        else
            # No ready-made standard library is to be had: nightly makes one.
            echo "$target: with a standard library of nightly's own"
            cargo +nightly check -Zbuild-std -p thimble-ffi --target "$target"
        fi
    done
}

# The hand-over between callers and the worker's thread, with a scripted model, under many schedules: finds data races and
# deadlocks.
hand_over() {
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..${THIMBLE_SEEDS:-6}" \
        cargo +nightly miri test -p thimble-ffi --lib worker
}

# What the tests of apps in other languages take: the library, the command that writes their files, and the real model.
for_apps() {
    # The command that writes other languages' files is built here alone: it takes some 200 s of processor time.
    cargo build --workspace --features thimble-ffi/bindgen
    export THIMBLE=$CARGO_TARGET_DIR/debug/thimble THIMBLE_MODEL=$work/model.thimble
    export THIMBLE_FFI_LIB=$CARGO_TARGET_DIR/debug/libthimble_ffi.so THIMBLE_BINDGEN=$CARGO_TARGET_DIR/debug/uniffi-bindgen
    rm -f "$THIMBLE_MODEL"
    "$THIMBLE" convert "$THIMBLE_GGUF" -o "$THIMBLE_MODEL"
}

# The wheel in an environment of its own, its types, its tests with the real model.
from_python() {
    local venv="$work/python"
    python3 -m venv "$venv" 2>/dev/null || {
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet pytest mypy pydantic
    # With the workspace's own profile for tests; without the switch it is a release.
    "$venv/bin/pip" install --quiet --force-reinstall -C build-args=--profile=dev ./bindings/python
    # Outside of the checkout, so that the installed package is what is imported and checked.
    (
        cd "$venv"
        bin/mypy --config-file "$OLDPWD/bindings/python/pyproject.toml" -p thimble
        bin/python -m pytest -q -p no:cacheprovider "$OLDPWD/bindings/python/tests"
    )
}

# Swift's compiler comes with Debian 13; where that cannot be had, what can be checked without one is.
from_swift() {
    local root="$work/swift"
    mobile/ios/debian-swift.sh install "$root" || echo "no Swift compiler: neither package nor tests are compiled"
    if [ -x "$root/usr/libexec/swift/bin/swiftc" ]; then export THIMBLE_SWIFT_ROOT=$root; fi
    THIMBLE_FFI=$THIMBLE_FFI_LIB UNIFFI_BINDGEN=$THIMBLE_BINDGEN mobile/ios/check.sh
}
