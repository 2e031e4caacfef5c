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

# The hand-over between callers and the engine's thread, with a scripted voice, under many schedules: data races, and calls
# that wait for each other for ever.
hand_over() {
    MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-many-seeds=0..${THIMBLE_SEEDS:-16}" \
        cargo +nightly miri test -p thimble-ffi --lib engine
}

# The wheel in an environment of its own, its types, its tests with the real model.
from_python() {
    local venv="$work/python" model="$work/model.thimble"
    python3 -m venv "$venv" 2>/dev/null || {
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv
        python3 -m venv "$venv"
    }
    "$venv/bin/pip" install --quiet --upgrade pip
    "$venv/bin/pip" install --quiet pytest mypy maturin
    # With the workspace's own profile for tests; without the switch it is a release.
    "$venv/bin/pip" install --quiet --force-reinstall --no-build-isolation -C build-args=--profile=dev ./bindings/python
    cargo build --workspace
    [ "$model" -nt "$THIMBLE_GGUF" ] || "$CARGO_TARGET_DIR/debug/thimble" convert "$THIMBLE_GGUF" -o "$model" --force
    # Outside of the checkout, so that the installed package is what is imported and checked.
    (
        cd "$venv"
        bin/mypy --config-file "$OLDPWD/bindings/python/pyproject.toml" -p thimble
        THIMBLE=$CARGO_TARGET_DIR/debug/thimble THIMBLE_MODEL=$model \
            bin/python -m pytest -q -p no:cacheprovider "$OLDPWD/bindings/python/tests"
    )
}
